/* wire_bytes.h: Protobuf messages written by hand, field by field, for tests of decoders.
 *
 * Values, not pointers: messages are put together in one expression,
 * field(1, JOIN(text(1, "name"), varint(2, 7))). A message that does not fit fails the test.
 */
#ifndef TG_TESTS_SUPPORT_WIRE_BYTES_H
#define TG_TESTS_SUPPORT_WIRE_BYTES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/protocol/protobuf_wire.h"
#include "tests/support/decode_fixture.h"

struct bytes {
    uint8_t d[1024];
    size_t n;
};

static inline struct bytes none(void)
{
    return (struct bytes){.n = 0};
}

static inline struct bytes raw(const void *p, size_t n)
{
    struct bytes b = {.n = n};
    assert_true(n <= sizeof(b.d));
    if (n) memcpy(b.d, p, n);
    return b;
}

static inline struct bytes hex(const char *text)
{
    struct bytes b = {.n = 0};
    b.n = tg_unhex(text, b.d);
    return b;
}

static inline struct bytes join(unsigned n, const struct bytes *parts)
{
    struct bytes b = {.n = 0};
    for (unsigned i = 0; i < n; i++) {
        assert_true(b.n + parts[i].n <= sizeof(b.d));
        memcpy(b.d + b.n, parts[i].d, parts[i].n);
        b.n += parts[i].n;
    }
    return b;
}
#define JOIN(...)                                                      \
    join(sizeof((struct bytes[]){__VA_ARGS__}) / sizeof(struct bytes), \
         (const struct bytes[]){__VA_ARGS__})

static inline struct tg_buf bytes_writer(struct bytes *b)
{
    return (struct tg_buf){.data = b->d, .cap = sizeof(b->d), .max_bytes = sizeof(b->d)};
}

static inline struct bytes field(uint32_t number, struct bytes body)
{
    struct bytes b = {.n = 0};
    struct tg_buf out = bytes_writer(&b);
    assert_true(body.n + 16 < sizeof(b.d));
    tg_protobuf_wire_put_bytes(&out, number, body.d, body.n);
    b.n = out.len;
    return b;
}

static inline struct bytes text(uint32_t number, const char *s)
{
    return field(number, raw(s, strlen(s)));
}

static inline struct bytes fixed(uint32_t number, uint64_t v)
{
    struct bytes b = {.n = 0};
    struct tg_buf out = bytes_writer(&b);
    tg_protobuf_wire_put_fixed64(&out, number, v);
    b.n = out.len;
    return b;
}

static inline struct bytes real(uint32_t number, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return fixed(number, bits);
}

static inline struct bytes varint(uint32_t number, uint64_t v)
{
    struct bytes b = {.n = 0};
    struct tg_buf out = bytes_writer(&b);
    tg_protobuf_wire_put_varint(&out, number, v);
    b.n = out.len;
    return b;
}

#endif
