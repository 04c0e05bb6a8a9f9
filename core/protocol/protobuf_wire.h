/* protobuf_wire.h: walks the fields of one protobuf message without knowing its schema.
 *
 *   p ──► | tag varint | value | tag varint | value | ... ◄── end
 *
 * No recursion, no allocation, never reads past `end`. Unknown fields are the caller's to ignore;
 * groups (wire types 3 and 4, deprecated) and the unassigned types 6 and 7 are refused. After a
 * refusal `p` still points at the first byte of the field, so that a message can say where.
 * Source: protobuf.dev, "Encoding".
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_PROTOBUF_WIRE_H
#define TG_PROTOCOL_PROTOBUF_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/base/buf.h"

enum {
    TG_PROTOBUF_WIRE_VARINT = 0,
    TG_PROTOBUF_WIRE_FIXED64 = 1,
    TG_PROTOBUF_WIRE_BYTES = 2,
    TG_PROTOBUF_WIRE_FIXED32 = 5
};

/* A field's number and wire type as one constant, as it stands in the tag: what `switch` wants. */
#define TG_PROTOBUF_WIRE_TAG(number, type) ((uint32_t)(number) << 3 | (uint32_t)(type))
#define TG_PROTOBUF_WIRE_NUMBER(tag)       ((tag) >> 3)

struct tg_protobuf_wire {
    const uint8_t *p, *end;
};

struct tg_protobuf_wire_field {
    uint32_t tag;         /* TG_PROTOBUF_WIRE_TAG(number, type) */
    uint64_t num;         /* varint, fixed64, fixed32; else 0 */
    const uint8_t *data;  /* length-delimited: borrows from the input; else NULL */
    size_t len;           /* of data */
    const uint8_t *start; /* first byte of the tag */
};

static inline bool tg_protobuf_wire_varint(struct tg_protobuf_wire *w, uint64_t *out)
{
    if (w->p < w->end && *w->p < 0x80) {
        *out = *w->p++;
        return true;
    }
    return tg_varint_get(&w->p, w->end, out) != 0;
}

/* The next field; the caller checked p < end. false when the bytes are not a field. */
static inline bool tg_protobuf_wire_next(struct tg_protobuf_wire *w,
                                         struct tg_protobuf_wire_field *f)
{
    const uint8_t *const start = w->p;
    uint64_t tag = 0;
    f->start = start;
    /* The wire type decides which of these is filled. All are set, so that the compiler sees no
     * uninitialised one; inlined, those that the caller does not read cost nothing. */
    f->num = 0;
    f->data = NULL;
    f->len = 0;
    if (!tg_protobuf_wire_varint(w, &tag) || tag < 8 || tag > UINT32_MAX) goto refuse;
    f->tag = (uint32_t)tag;
    switch (tag & 7) {
    case TG_PROTOBUF_WIRE_VARINT:
        if (!tg_protobuf_wire_varint(w, &f->num)) goto refuse;
        return true;
    case TG_PROTOBUF_WIRE_FIXED64:
        if (w->end - w->p < 8) goto refuse;
        memcpy(&f->num, w->p, 8);
        w->p += 8;
        return true;
    case TG_PROTOBUF_WIRE_BYTES: {
        uint64_t len;
        if (!tg_protobuf_wire_varint(w, &len) || len > (uint64_t)(w->end - w->p)) goto refuse;
        f->data = w->p;
        f->len = (size_t)len;
        w->p += len;
        return true;
    }
    case TG_PROTOBUF_WIRE_FIXED32: {
        uint32_t v;
        if (w->end - w->p < 4) goto refuse;
        memcpy(&v, w->p, 4);
        w->p += 4;
        f->num = v;
        return true;
    }
    default: break;
    }
refuse:
    w->p = start;
    return false;
}

static inline struct tg_protobuf_wire tg_protobuf_wire_of(const uint8_t *data, size_t len)
{
    return (struct tg_protobuf_wire){data, data + len};
}

/* Why tg_protobuf_wire_next refused the field at w->p: a static string. */
static inline const char *tg_protobuf_wire_why(const struct tg_protobuf_wire *at)
{
    struct tg_protobuf_wire w = *at;
    uint64_t v;
    if (!tg_protobuf_wire_varint(&w, &v)) return "a tag is cut short or longer than 10 bytes";
    if (v > UINT32_MAX || v < 8) return "a field number is outside 1..536870911";
    switch (v & 7) {
    case TG_PROTOBUF_WIRE_VARINT: return "a varint is cut short or longer than 10 bytes";
    case TG_PROTOBUF_WIRE_FIXED64:
    case TG_PROTOBUF_WIRE_FIXED32: return "a fixed-size number is cut short";
    case TG_PROTOBUF_WIRE_BYTES:
        return tg_protobuf_wire_varint(&w, &v) ? "a length runs past the end of its message"
                                               : "a length is cut short or longer than 10 bytes";
    case 3:
    case 4: return "groups (wire types 3 and 4) are not supported";
    default: return "wire types 6 and 7 do not exist";
    }
}

/* Counts the varints in `len` bytes; false when the last one is cut short. */
static inline bool tg_protobuf_wire_count_varints(const uint8_t *data, size_t len, size_t *n)
{
    size_t count = 0;
    for (size_t i = 0; i < len; i++) count += data[i] < 0x80;
    *n = count;
    return len == 0 || data[len - 1] < 0x80;
}

/* Writers; the caller reserved. A tag takes at most 5 bytes, a length at most TG_VARINT_MAX. */
static inline void tg_protobuf_wire_put_bytes(struct tg_buf *b, uint32_t number, const void *data,
                                              size_t len)
{
    tg_buf_put_varint(b, TG_PROTOBUF_WIRE_TAG(number, TG_PROTOBUF_WIRE_BYTES));
    tg_buf_put_varint(b, len);
    if (len) tg_buf_put(b, data, len);
}
static inline void tg_protobuf_wire_put_varint(struct tg_buf *b, uint32_t number, uint64_t v)
{
    tg_buf_put_varint(b, TG_PROTOBUF_WIRE_TAG(number, TG_PROTOBUF_WIRE_VARINT));
    tg_buf_put_varint(b, v);
}
static inline void tg_protobuf_wire_put_fixed64(struct tg_buf *b, uint32_t number, uint64_t v)
{
    tg_buf_put_varint(b, TG_PROTOBUF_WIRE_TAG(number, TG_PROTOBUF_WIRE_FIXED64));
    tg_buf_put_u64(b, v);
}
static inline void tg_protobuf_wire_put_double(struct tg_buf *b, uint32_t number, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    tg_protobuf_wire_put_fixed64(b, number, bits);
}

/* A nested message whose length is not known beforehand: `open` writes the tag and returns the
 * offset of the body; `close` puts the length before it (moving the body). Both check their room.
 */
TG_MUST_CHECK static inline enum tg_code tg_protobuf_wire_open(struct tg_buf *b, uint32_t number,
                                                               size_t *body)
{
    TG_TRY(tg_buf_reserve(b, 5));
    tg_buf_put_varint(b, TG_PROTOBUF_WIRE_TAG(number, TG_PROTOBUF_WIRE_BYTES));
    *body = b->len;
    return TG_OK;
}
TG_MUST_CHECK static inline enum tg_code tg_protobuf_wire_close(struct tg_buf *b, size_t body)
{
    const size_t len = b->len - body;
    const unsigned n = tg_varint_len(len);
    TG_TRY(tg_buf_reserve(b, n));
    memmove(b->data + body + n, b->data + body, len);
    b->len = body;
    tg_buf_put_varint(b, len);
    b->len += len;
    return TG_OK;
}

#endif
