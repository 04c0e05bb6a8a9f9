#include "core/codec/series_codec.h"

#include "core/codec/delta.h"
#include "core/codec/gorilla.h"

enum {
    /* values per reserve: bounds the room asked for ahead without a check per value */
    CHUNK = 256,
    HEADER_MAX_BYTES = 1 + TG_VARINT_MAX + 8,
};

static const char *codec_name(enum tg_series_codec codec)
{
    switch (codec) {
    case TG_SERIES_GORILLA: return "gorilla";
    case TG_SERIES_DELTA: return "delta";
    case TG_SERIES_DELTA_OF_DELTA: break;
    }
    return "delta-of-delta";
}

/* ---- encode ---- */

static enum tg_code no_room(struct tg_buf *out, size_t before, enum tg_code code,
                            enum tg_series_codec codec, struct tg_err *err)
{
    out->len = before;
    return tg_fail(err, code,
                   code == TG_ERR_NOMEM ? "out of memory for %s values"
                                        : "the %s values do not fit the buffer's maximum",
                   codec_name(codec));
}

/* Codec byte, count and first value. */
static enum tg_code put_header(struct tg_buf *out, enum tg_series_codec codec, size_t n,
                               const void *values)
{
    TG_TRY(tg_buf_reserve(out, HEADER_MAX_BYTES));
    tg_buf_put_u8(out, (uint8_t)codec);
    tg_buf_put_varint(out, n);
    if (n) tg_buf_put(out, values, 8);
    return TG_OK;
}

/* Room for the next values' bits, with what the writer still holds. */
static enum tg_code reserve_bits(struct tg_buf *out, size_t n, unsigned bits_each)
{
    return tg_buf_reserve(out, n * bits_each / 8 + 8 + TG_BITS_SLACK);
}

static size_t chunk_end(size_t i, size_t n)
{
    return n - i < CHUNK ? n : i + CHUNK;
}

enum tg_code tg_gorilla_encode(const double *values, size_t n, struct tg_buf *out,
                               struct tg_err *err)
{
    const size_t before = out->len;
    enum tg_code code = put_header(out, TG_SERIES_GORILLA, n, values);
    if (code == TG_OK && n > 1) {
        struct tg_bitw w;
        struct tg_gorilla g;
        uint64_t bits;
        tg_bitw_init(&w, out);
        memcpy(&bits, values, 8);
        tg_gorilla_start(&g, bits);
        for (size_t i = 1; i < n && code == TG_OK;) {
            const size_t end = chunk_end(i, n);
            code = reserve_bits(out, end - i, TG_GORILLA_MAX_BITS);
            if (code != TG_OK) break;
            for (; i < end; i++) {
                memcpy(&bits, &values[i], 8);
                tg_gorilla_put(&w, &g, bits);
            }
        }
        if (code == TG_OK) tg_bitw_flush(&w);
    }
    return code == TG_OK ? TG_OK : no_room(out, before, code, TG_SERIES_GORILLA, err);
}

enum tg_code tg_delta_encode(const int64_t *values, size_t n, struct tg_buf *out,
                             struct tg_err *err)
{
    const size_t before = out->len;
    enum tg_code code = put_header(out, TG_SERIES_DELTA, n, values);
    if (code == TG_OK && n > 1) {
        struct tg_bitw w;
        int64_t prev = values[0];
        tg_bitw_init(&w, out);
        for (size_t i = 1; i < n && code == TG_OK;) {
            const size_t end = chunk_end(i, n);
            code = reserve_bits(out, end - i, TG_DELTA_MAX_BITS);
            if (code != TG_OK) break;
            for (; i < end; i++) tg_delta_put(&w, &prev, values[i]);
        }
        if (code == TG_OK) tg_bitw_flush(&w);
    }
    return code == TG_OK ? TG_OK : no_room(out, before, code, TG_SERIES_DELTA, err);
}

enum tg_code tg_dod_encode(const int64_t *values, size_t n, struct tg_buf *out, struct tg_err *err)
{
    const size_t before = out->len;
    enum tg_code code = put_header(out, TG_SERIES_DELTA_OF_DELTA, n, values);
    if (code == TG_OK && n > 1) {
        struct tg_bitw w;
        struct tg_dod s = {.prev = values[0]};
        tg_bitw_init(&w, out);
        for (size_t i = 1; i < n && code == TG_OK;) {
            const size_t end = chunk_end(i, n);
            code = reserve_bits(out, end - i, TG_DELTA_MAX_BITS);
            if (code != TG_OK) break;
            for (; i < end; i++) tg_dod_put(&w, &s, values[i]);
        }
        if (code == TG_OK) tg_bitw_flush(&w);
    }
    return code == TG_OK ? TG_OK : no_room(out, before, code, TG_SERIES_DELTA_OF_DELTA, err);
}

/* ---- decode ---- */

/* Reads the header at *p (advanced to what follows the count). */
static enum tg_code get_header(const uint8_t **p, const uint8_t *end, enum tg_series_codec *codec,
                               size_t *n, struct tg_err *err)
{
    const size_t len = (size_t)(end - *p);
    uint64_t count;
    if (len == 0) return tg_fail_at(err, TG_ERR_CORRUPT, 0, "encoded values: no bytes");
    const uint8_t c = *(*p)++;
    if (c != TG_SERIES_GORILLA && c != TG_SERIES_DELTA && c != TG_SERIES_DELTA_OF_DELTA)
        return tg_fail_at(err, TG_ERR_CORRUPT, 0, "encoded values: unknown codec byte 0x%02x", c);
    if (!tg_varint_get(p, end, &count))
        return tg_fail_at(err, TG_ERR_CORRUPT, 1, "encoded values: no count");
    const size_t left = (size_t)(end - *p);
    /* the first value takes 8 bytes, every other at least a bit */
    if (count > 0 && (left < 8 || (count - 1) / 8 + ((count - 1) % 8 != 0) > left - 8))
        return tg_fail_at(err, TG_ERR_CORRUPT, 1,
                          "encoded values: %llu values do not fit %zu bytes",
                          (unsigned long long)count, left);
    *codec = (enum tg_series_codec)c;
    *n = (size_t)count;
    return TG_OK;
}

enum tg_code tg_series_codec_peek(const void *bytes, size_t len, enum tg_series_codec *codec,
                                  size_t *n, struct tg_err *err)
{
    const uint8_t *p = bytes;
    return get_header(&p, p + len, codec, n, err);
}

/* Header, codec and room checked; *p at the first value (n > 0) or at the end. */
static enum tg_code begin_decode(enum tg_series_codec want, const uint8_t **p, const uint8_t *end,
                                 size_t cap, size_t *n, struct tg_err *err)
{
    enum tg_series_codec codec = want;
    TG_TRY(get_header(p, end, &codec, n, err));
    if (codec != want)
        return tg_fail_at(err, TG_ERR_CORRUPT, 0, "encoded values: these are %s, not %s",
                          codec_name(codec), codec_name(want));
    if (*n > cap)
        return tg_fail(err, TG_ERR_TOO_LARGE, "encoded values: %zu, room for %zu", *n, cap);
    return TG_OK;
}

/* All bits used, none but zero padding left. */
static enum tg_code end_decode(struct tg_bitr *r, enum tg_series_codec codec, size_t len,
                               struct tg_err *err)
{
    if (r->overrun)
        return tg_fail_at(err, TG_ERR_CORRUPT, len, "%s values: cut short", codec_name(codec));
    const size_t left_bits = (size_t)(r->end - r->p) * 8 + r->avail;
    if (left_bits >= 8)
        return tg_fail_at(err, TG_ERR_CORRUPT, len - left_bits / 8,
                          "%s values: bytes behind the last value", codec_name(codec));
    if (tg_bitr_get_small(r, (unsigned)left_bits) != 0)
        return tg_fail_at(err, TG_ERR_CORRUPT, len - 1, "%s values: padding is not zero",
                          codec_name(codec));
    return TG_OK;
}

enum tg_code tg_gorilla_decode(const void *bytes, size_t len, double *values, size_t cap, size_t *n,
                               struct tg_err *err)
{
    const uint8_t *p = bytes;
    const uint8_t *const end = p + len;
    TG_TRY(begin_decode(TG_SERIES_GORILLA, &p, end, cap, n, err));
    struct tg_bitr r;
    if (*n > 0) {
        struct tg_gorilla g;
        uint64_t bits;
        memcpy(&bits, p, 8);
        memcpy(&values[0], &bits, 8);
        tg_gorilla_start(&g, bits);
        tg_bitr_init(&r, p + 8, end);
        for (size_t i = 1; i < *n; i++) {
            if (!tg_gorilla_get(&r, &g, &bits))
                return tg_fail(err, TG_ERR_CORRUPT, "gorilla values: bad window at value %zu", i);
            memcpy(&values[i], &bits, 8);
        }
    } else {
        tg_bitr_init(&r, p, end);
    }
    return end_decode(&r, TG_SERIES_GORILLA, len, err);
}

enum tg_code tg_delta_decode(const void *bytes, size_t len, int64_t *values, size_t cap, size_t *n,
                             struct tg_err *err)
{
    const uint8_t *p = bytes;
    const uint8_t *const end = p + len;
    TG_TRY(begin_decode(TG_SERIES_DELTA, &p, end, cap, n, err));
    struct tg_bitr r;
    if (*n > 0) {
        int64_t prev;
        memcpy(&prev, p, 8);
        values[0] = prev;
        tg_bitr_init(&r, p + 8, end);
        for (size_t i = 1; i < *n; i++) values[i] = tg_delta_get(&r, &prev);
    } else {
        tg_bitr_init(&r, p, end);
    }
    return end_decode(&r, TG_SERIES_DELTA, len, err);
}

enum tg_code tg_dod_decode(const void *bytes, size_t len, int64_t *values, size_t cap, size_t *n,
                           struct tg_err *err)
{
    const uint8_t *p = bytes;
    const uint8_t *const end = p + len;
    TG_TRY(begin_decode(TG_SERIES_DELTA_OF_DELTA, &p, end, cap, n, err));
    struct tg_bitr r;
    if (*n > 0) {
        struct tg_dod s = {.delta = 0};
        memcpy(&s.prev, p, 8);
        values[0] = s.prev;
        tg_bitr_init(&r, p + 8, end);
        for (size_t i = 1; i < *n; i++) values[i] = tg_dod_get(&r, &s);
    } else {
        tg_bitr_init(&r, p, end);
    }
    return end_decode(&r, TG_SERIES_DELTA_OF_DELTA, len, err);
}
