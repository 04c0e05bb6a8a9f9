#include "core/parquet/parquet_rle.h"

#include <string.h>

void tg_parquet_rle_init(struct tg_parquet_rle *e, struct tg_buf *out, unsigned width)
{
    e->out = out;
    e->code = TG_OK;
    e->width = width;
    e->value = 0;
    e->n_run = 0;
    e->n_literals = 0;
}

void tg_parquet_pack(uint8_t *to, const uint32_t *values, size_t n, unsigned width)
{
    uint64_t acc = 0;
    unsigned used = 0;
    for (size_t i = 0; i < n; i++) {
        acc |= (uint64_t)values[i] << used;
        used += width;
        if (used >= 32) {
            const uint32_t low = (uint32_t)acc;
            memcpy(to, &low, 4);
            to += 4;
            acc >>= 32;
            used -= 32;
        }
    }
    memcpy(to, &acc, 8); /* the slack */
}

static void flush_literals(struct tg_parquet_rle *e)
{
    if (e->n_literals == 0 || e->code != TG_OK) return;
    const uint32_t n_groups = (e->n_literals + 7) / 8;
    while (e->n_literals < n_groups * 8) e->literals[e->n_literals++] = 0;
    const size_t bytes = (size_t)n_groups * e->width;
    e->code = tg_buf_reserve(e->out, TG_VARINT_MAX + bytes + 8);
    if (e->code != TG_OK) return;
    tg_buf_put_varint(e->out, (uint64_t)n_groups << 1 | 1);
    tg_parquet_pack(e->out->data + e->out->len, e->literals, e->n_literals, e->width);
    e->out->len += bytes;
    e->n_literals = 0;
}

static void put_literals(struct tg_parquet_rle *e, uint64_t n)
{
    while (n--) {
        e->literals[e->n_literals++] = e->value;
        if (e->n_literals == TG_PARQUET_RLE_LITERALS) flush_literals(e);
        if (e->code != TG_OK) e->n_literals = 0;
    }
}

void tg_parquet_rle_close_run(struct tg_parquet_rle *e)
{
    uint64_t n = e->n_run;
    e->n_run = 0;
    /* a packed group is always whole: the run first fills the one that is open */
    const uint64_t gap = (8 - e->n_literals % 8) % 8;
    const uint64_t fill = n < gap ? n : gap;
    if (n - fill < 8) {
        put_literals(e, n);
        return;
    }
    put_literals(e, fill);
    n -= fill;
    flush_literals(e);
    while (n && e->code == TG_OK) {
        const uint64_t now = n < TG_PARQUET_RLE_MAX_RUN ? n : TG_PARQUET_RLE_MAX_RUN;
        e->code = tg_buf_reserve(e->out, TG_VARINT_MAX + 4);
        if (e->code != TG_OK) return;
        tg_buf_put_varint(e->out, now << 1);
        tg_buf_put(e->out, &e->value, (e->width + 7) / 8);
        n -= now;
    }
}

enum tg_code tg_parquet_rle_finish(struct tg_parquet_rle *e)
{
    if (e->n_run) tg_parquet_rle_close_run(e);
    flush_literals(e);
    return e->code;
}

void tg_parquet_rle_reader_init(struct tg_parquet_rle_reader *r, const uint8_t *p, size_t len,
                                unsigned width)
{
    memset(r, 0, sizeof(*r));
    r->p = p;
    r->end = len ? p + len : p; /* nothing may be NULL */
    r->width = width;
}

static bool next_run(struct tg_parquet_rle_reader *r)
{
    uint64_t head;
    if (r->width > 32 || !tg_varint_get(&r->p, r->end, &head)) return false;
    const uint64_t room = (uint64_t)(r->end - r->p);
    if (head >> 32) return false; /* runs are at most 2^31 - 1 */
    if (head & 1) {
        const uint64_t n_groups = head >> 1;
        if (n_groups * r->width > room || n_groups * 8 > TG_PARQUET_RLE_MAX_RUN) return false;
        r->packed = true;
        r->n_left = n_groups * 8;
        r->at = r->p;
        r->bit = 0;
        r->p += n_groups * r->width;
    } else {
        const unsigned bytes = (r->width + 7) / 8;
        if (bytes > room) return false;
        r->packed = false;
        r->n_left = head >> 1;
        r->value = 0;
        if (bytes) memcpy(&r->value, r->p, bytes);
        r->p += bytes;
        if (r->width < 32 && r->value >> r->width) return false;
    }
    return r->n_left > 0;
}

/* `width` bits from bit `at` of bytes that end at `end`. */
static uint32_t unpack_one(const uint8_t *p, const uint8_t *end, uint64_t bit, unsigned width)
{
    const uint8_t *from = p + (bit >> 3);
    uint64_t word = 0;
    const size_t room = (size_t)(end - from);
    memcpy(&word, from, room < 8 ? room : 8);
    return (uint32_t)(word >> (bit & 7)) & (uint32_t)((UINT64_C(1) << width) - 1);
}

size_t tg_parquet_rle_reader_next(struct tg_parquet_rle_reader *r, uint32_t *out, size_t max,
                                  bool *is_run)
{
    if (max == 0) return 0;
    if (r->n_left == 0 && !next_run(r)) return 0;
    const size_t n = r->n_left < max ? (size_t)r->n_left : max;
    *is_run = !r->packed;
    if (r->packed) {
        for (size_t i = 0; i < n; i++) {
            out[i] = r->width ? unpack_one(r->at, r->p, r->bit, r->width) : 0;
            r->bit += r->width;
        }
    } else {
        out[0] = r->value;
    }
    r->n_left -= n;
    return n;
}

bool tg_parquet_rle_reader_get(struct tg_parquet_rle_reader *r, uint32_t *out, size_t n)
{
    while (n) {
        bool is_run;
        const size_t got = tg_parquet_rle_reader_next(r, out, n, &is_run);
        if (got == 0) return false;
        if (is_run)
            for (size_t i = 1; i < got; i++) out[i] = out[0];
        out += got;
        n -= got;
    }
    return true;
}

bool tg_parquet_rle_reader_get_u8(struct tg_parquet_rle_reader *r, uint8_t *out, size_t n)
{
    uint32_t some[256];
    while (n) {
        bool is_run;
        /* a run may be long, a packed piece not longer than `some` */
        const bool in_run = r->n_left && !r->packed;
        const size_t got =
            tg_parquet_rle_reader_next(r, some, in_run || n < 256 ? n : 256, &is_run);
        if (got == 0) return false;
        if (is_run) {
            if (some[0] > UINT8_MAX) return false;
            memset(out, (int)some[0], got);
        } else {
            for (size_t i = 0; i < got; i++) {
                if (some[i] > UINT8_MAX) return false;
                out[i] = (uint8_t)some[i];
            }
        }
        out += got;
        n -= got;
    }
    return true;
}
