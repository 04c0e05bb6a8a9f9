#include "core/parquet/thrift.h"

#include <string.h>

/* ---- writer ---- */

void tg_thriftw_init(struct tg_thriftw *w, struct tg_buf *buf)
{
    w->buf = buf;
    w->code = TG_OK;
    w->depth = 0;
}

static bool room(struct tg_thriftw *w, size_t n)
{
    if (w->code == TG_OK) w->code = tg_buf_reserve(w->buf, n);
    return w->code == TG_OK;
}

void tg_thriftw_begin(struct tg_thriftw *w)
{
    if (w->code != TG_OK) return;
    if (w->depth == TG_THRIFT_MAX_DEPTH) {
        w->code = TG_ERR_TOO_LARGE;
        return;
    }
    w->last_id[w->depth++] = 0;
}

void tg_thriftw_end(struct tg_thriftw *w)
{
    if (!room(w, 1)) return;
    tg_buf_put_u8(w->buf, TG_THRIFT_STOP);
    w->depth--;
}

/* Writes the header and leaves room for a value of `value_bytes`. */
static bool header(struct tg_thriftw *w, int id, enum tg_thrift_type type, size_t value_bytes)
{
    if (!room(w, 4 + value_bytes)) return false;
    int *last = &w->last_id[w->depth - 1];
    const int delta = id - *last;
    if (delta >= 1 && delta <= 15) {
        tg_buf_put_u8(w->buf, (uint8_t)((unsigned)delta << 4 | (unsigned)type));
    } else {
        tg_buf_put_u8(w->buf, (uint8_t)type);
        tg_buf_put_varint(w->buf, tg_zigzag(id));
    }
    *last = id;
    return true;
}

void tg_thriftw_struct(struct tg_thriftw *w, int id)
{
    if (header(w, id, TG_THRIFT_STRUCT, 0)) tg_thriftw_begin(w);
}

void tg_thriftw_bool(struct tg_thriftw *w, int id, bool v)
{
    (void)header(w, id, v ? TG_THRIFT_TRUE : TG_THRIFT_FALSE, 0);
}

void tg_thriftw_i8(struct tg_thriftw *w, int id, int8_t v)
{
    if (header(w, id, TG_THRIFT_I8, 1)) tg_buf_put_u8(w->buf, (uint8_t)v);
}

static void field_int(struct tg_thriftw *w, int id, enum tg_thrift_type type, int64_t v)
{
    if (header(w, id, type, TG_VARINT_MAX)) tg_buf_put_varint(w->buf, tg_zigzag(v));
}

void tg_thriftw_i16(struct tg_thriftw *w, int id, int16_t v)
{
    field_int(w, id, TG_THRIFT_I16, v);
}

void tg_thriftw_i32(struct tg_thriftw *w, int id, int32_t v)
{
    field_int(w, id, TG_THRIFT_I32, v);
}

void tg_thriftw_i64(struct tg_thriftw *w, int id, int64_t v)
{
    field_int(w, id, TG_THRIFT_I64, v);
}

void tg_thriftw_binary(struct tg_thriftw *w, int id, const void *p, size_t len)
{
    if (header(w, id, TG_THRIFT_BINARY, 0)) tg_thriftw_item_binary(w, p, len);
}

void tg_thriftw_str(struct tg_thriftw *w, int id, const char *s)
{
    tg_thriftw_binary(w, id, s, strlen(s));
}

void tg_thriftw_list(struct tg_thriftw *w, int id, enum tg_thrift_type type, uint32_t n)
{
    if (!header(w, id, TG_THRIFT_LIST, 1 + TG_VARINT_MAX)) return;
    if (n < 15) {
        tg_buf_put_u8(w->buf, (uint8_t)(n << 4 | (unsigned)type));
    } else {
        tg_buf_put_u8(w->buf, (uint8_t)(0xf0 | (unsigned)type));
        tg_buf_put_varint(w->buf, n);
    }
}

void tg_thriftw_item_bool(struct tg_thriftw *w, bool v)
{
    if (room(w, 1)) tg_buf_put_u8(w->buf, v ? TG_THRIFT_TRUE : TG_THRIFT_FALSE);
}

void tg_thriftw_item_int(struct tg_thriftw *w, int64_t v)
{
    if (room(w, TG_VARINT_MAX)) tg_buf_put_varint(w->buf, tg_zigzag(v));
}

void tg_thriftw_item_binary(struct tg_thriftw *w, const void *p, size_t len)
{
    if (!room(w, TG_VARINT_MAX + len)) return;
    tg_buf_put_varint(w->buf, len);
    if (len) tg_buf_put(w->buf, p, len);
}

/* ---- reader ---- */

void tg_thriftr_init(struct tg_thriftr *r, const void *p, size_t len)
{
    memset(r, 0, sizeof(*r));
    r->start = r->p = p;
    r->end = len ? r->start + len : r->start; /* nothing may be NULL */
}

static uint64_t fail(struct tg_thriftr *r)
{
    r->failed = true;
    r->p = r->end;
    return 0;
}

static uint8_t byte(struct tg_thriftr *r)
{
    if (r->p == r->end) return (uint8_t)fail(r);
    return *r->p++;
}

static uint64_t varint(struct tg_thriftr *r)
{
    uint64_t v = 0;
    if (!tg_varint_get(&r->p, r->end, &v)) return fail(r);
    return v;
}

void tg_thriftr_begin(struct tg_thriftr *r)
{
    if (r->failed) return;
    if (r->depth == TG_THRIFT_MAX_DEPTH)
        (void)fail(r);
    else
        r->last_id[r->depth++] = 0;
}

bool tg_thriftr_field(struct tg_thriftr *r, int *id, enum tg_thrift_type *type)
{
    if (r->failed || r->depth == 0) return false;
    const uint8_t head = byte(r);
    if (r->failed) return false;
    if (head == TG_THRIFT_STOP) {
        r->depth--;
        return false;
    }
    const unsigned t = head & 15u;
    const int delta = head >> 4;
    int64_t next = r->last_id[r->depth - 1] + delta;
    if (delta == 0) next = tg_unzigzag(varint(r));
    if (t == TG_THRIFT_STOP || t > TG_THRIFT_STRUCT || next < INT16_MIN || next > INT16_MAX)
        (void)fail(r);
    if (r->failed) return false;
    r->last_id[r->depth - 1] = (int)next;
    r->bool_value = t == TG_THRIFT_TRUE;
    *id = (int)next;
    *type = (enum tg_thrift_type)t;
    return true;
}

static void skip_value(struct tg_thriftr *r, unsigned type, bool in_list);

static void skip_list(struct tg_thriftr *r)
{
    const uint8_t head = byte(r);
    uint64_t n = head >> 4;
    if (n == 15) n = varint(r);
    /* every element takes a byte or more, so n cannot exceed what is left */
    if (n > (uint64_t)(r->end - r->p)) (void)fail(r);
    if (r->depth == TG_THRIFT_MAX_DEPTH) (void)fail(r);
    if (r->failed) return;
    r->depth++;
    for (uint64_t i = 0; i < n && !r->failed; i++) skip_value(r, head & 15u, true);
    r->depth--;
}

static void skip_map(struct tg_thriftr *r)
{
    const uint64_t n = varint(r);
    if (n == 0) return;
    const uint8_t types = byte(r);
    if (n > (uint64_t)(r->end - r->p)) (void)fail(r);
    if (r->depth == TG_THRIFT_MAX_DEPTH) (void)fail(r);
    if (r->failed) return;
    r->depth++;
    for (uint64_t i = 0; i < n && !r->failed; i++) {
        skip_value(r, types >> 4, true);
        skip_value(r, types & 15u, true);
    }
    r->depth--;
}

static void skip_value(struct tg_thriftr *r, unsigned type, bool in_list)
{
    uint64_t n = 0;
    if (r->failed) return;
    switch (type) {
    case TG_THRIFT_TRUE:
    case TG_THRIFT_FALSE:
        if (in_list) (void)byte(r);
        break;
    case TG_THRIFT_I8: (void)byte(r); break;
    case TG_THRIFT_I16:
    case TG_THRIFT_I32:
    case TG_THRIFT_I64: (void)varint(r); break;
    case TG_THRIFT_DOUBLE:
    case TG_THRIFT_BINARY:
        n = type == TG_THRIFT_DOUBLE ? 8 : varint(r);
        if (n > (uint64_t)(r->end - r->p))
            (void)fail(r);
        else
            r->p += n;
        break;
    case TG_THRIFT_LIST:
    case TG_THRIFT_SET: skip_list(r); break;
    case TG_THRIFT_MAP: skip_map(r); break;
    case TG_THRIFT_STRUCT: {
        int id;
        enum tg_thrift_type t;
        tg_thriftr_begin(r);
        while (tg_thriftr_field(r, &id, &t)) skip_value(r, t, false);
        break;
    }
    default: (void)fail(r); break;
    }
}

void tg_thriftr_skip(struct tg_thriftr *r, enum tg_thrift_type type)
{
    skip_value(r, type, false);
}

bool tg_thriftr_bool(struct tg_thriftr *r, enum tg_thrift_type type)
{
    if (type != TG_THRIFT_TRUE && type != TG_THRIFT_FALSE) (void)fail(r);
    return !r->failed && r->bool_value;
}

int64_t tg_thriftr_int(struct tg_thriftr *r, enum tg_thrift_type type)
{
    if (type != TG_THRIFT_I16 && type != TG_THRIFT_I32 && type != TG_THRIFT_I64) (void)fail(r);
    return tg_unzigzag(varint(r));
}

int32_t tg_thriftr_i32(struct tg_thriftr *r, enum tg_thrift_type type)
{
    const int64_t v = tg_thriftr_int(r, type);
    if (v < INT32_MIN || v > INT32_MAX) return (int32_t)fail(r);
    return (int32_t)v;
}

int8_t tg_thriftr_i8(struct tg_thriftr *r, enum tg_thrift_type type)
{
    if (type != TG_THRIFT_I8) (void)fail(r);
    return (int8_t)byte(r);
}

const uint8_t *tg_thriftr_binary(struct tg_thriftr *r, enum tg_thrift_type type, size_t *len)
{
    *len = 0;
    if (type != TG_THRIFT_BINARY) (void)fail(r);
    const uint64_t n = varint(r);
    if (n > (uint64_t)(r->end - r->p)) (void)fail(r);
    if (r->failed) return r->end;
    const uint8_t *p = r->p;
    r->p += n;
    *len = (size_t)n;
    return p;
}

uint32_t tg_thriftr_list(struct tg_thriftr *r, enum tg_thrift_type type, enum tg_thrift_type elem,
                         uint32_t max)
{
    if (type != TG_THRIFT_LIST) (void)fail(r);
    const uint8_t head = byte(r);
    uint64_t n = head >> 4;
    if (n == 15) n = varint(r);
    /* writers may use either number for bool elements; an empty list may name any type */
    const unsigned got = (head & 15u) == TG_THRIFT_FALSE ? TG_THRIFT_TRUE : (head & 15u);
    if (n && got != (unsigned)elem) (void)fail(r);
    if (n > max || n > (uint64_t)(r->end - r->p)) (void)fail(r);
    return r->failed ? 0 : (uint32_t)n;
}

bool tg_thriftr_item_bool(struct tg_thriftr *r)
{
    return byte(r) == TG_THRIFT_TRUE;
}
