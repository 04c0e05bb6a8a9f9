/* buf.h: a growable byte buffer with a maximum.
 *
 *   data: [ written bytes (len) | room (cap - len) ]
 *
 * Writers call `reserve` once for the most they may write and then use the unchecked
 * `tg_buf_put_*`; that keeps the bound check out of per-byte code. A refused reserve leaves the
 * buffer as it was.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_BASE_BUF_H
#define TG_BASE_BUF_H

#include <stdint.h>
#include <string.h>

#include "core/base/err.h"

struct tg_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max_bytes; /* reserve beyond this fails with TG_ERR_TOO_LARGE */
};

void tg_buf_init(struct tg_buf *b, size_t max_bytes); /* max_bytes 0 = SIZE_MAX / 2 */
void tg_buf_deinit(struct tg_buf *b);

static inline void tg_buf_reset(struct tg_buf *b) /* keeps capacity */
{
    b->len = 0;
}

/* Makes room for `n` more bytes. TG_ERR_TOO_LARGE over the maximum, TG_ERR_NOMEM. */
enum tg_code tg_buf_reserve_slow(struct tg_buf *b, size_t n);
TG_MUST_CHECK static inline enum tg_code tg_buf_reserve(struct tg_buf *b, size_t n)
{
    return b->cap - b->len >= n ? TG_OK : tg_buf_reserve_slow(b, n);
}

/* Checked append. */
TG_MUST_CHECK enum tg_code tg_buf_append(struct tg_buf *b, const void *p, size_t n);
TG_MUST_CHECK enum tg_code tg_buf_printf(struct tg_buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Unchecked; the caller reserved. Integers are little-endian. */
static inline void tg_buf_put(struct tg_buf *b, const void *p, size_t n)
{
    memcpy(b->data + b->len, p, n);
    b->len += n;
}
static inline void tg_buf_put_u8(struct tg_buf *b, uint8_t v)
{
    b->data[b->len++] = v;
}
static inline void tg_buf_put_u32(struct tg_buf *b, uint32_t v)
{
    memcpy(b->data + b->len, &v, 4);
    b->len += 4;
}
static inline void tg_buf_put_u64(struct tg_buf *b, uint64_t v)
{
    memcpy(b->data + b->len, &v, 8);
    b->len += 8;
}
#define TG_VARINT_MAX 10 /* bytes of the longest LEB128 (protobuf) varint of a uint64 */
static inline void tg_buf_put_varint(struct tg_buf *b, uint64_t v)
{
    while (v >= 0x80) {
        b->data[b->len++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    b->data[b->len++] = (uint8_t)v;
}

/* Reads a varint at *pos (advanced). false when it runs past `end` or over 10 bytes. */
static inline int tg_varint_get(const uint8_t **pos, const uint8_t *end, uint64_t *out)
{
    const uint8_t *p = *pos;
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70 && p < end; shift += 7) {
        const uint8_t c = *p++;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            *pos = p;
            *out = v;
            return 1;
        }
    }
    return 0;
}
static inline uint64_t tg_zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}
static inline int64_t tg_unzigzag(uint64_t v)
{
    return (int64_t)((v >> 1) ^ (~(v & 1) + 1));
}
static inline unsigned tg_varint_len(uint64_t v)
{
    return (unsigned)((63 - (unsigned)__builtin_clzll(v | 1)) / 7 + 1);
}

#endif
