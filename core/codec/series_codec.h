/* series_codec.h: the codecs of gorilla.h and delta.h for whole arrays: each usable on its own.
 *
 *   u8 codec | varint n | first value, 8 bytes little-endian (n > 0) | bits of values 2..n,
 *   padded with zero bits to a whole byte
 *
 * Exact for every double (by bits: NaN payloads, -0, infinities, denormals) and every int64.
 * Decoding checks all of it: another codec's bytes, a count that the length cannot hold, missing
 * bytes, bytes or set bits behind the end.
 *
 * Threading: no shared state.
 */
#ifndef TG_CODEC_SERIES_CODEC_H
#define TG_CODEC_SERIES_CODEC_H

#include "core/base/buf.h"
#include "core/base/err.h"

enum tg_series_codec {
    TG_SERIES_GORILLA = 'G',        /* doubles, gorilla.h */
    TG_SERIES_DELTA = 'D',          /* int64, tg_delta_* */
    TG_SERIES_DELTA_OF_DELTA = 'E', /* int64, tg_dod_*: evenly spaced values */
};

/* Append the encoded form of n values; on failure `out` is as before. TG_ERR_NOMEM,
 * TG_ERR_TOO_LARGE. `values` may be NULL when n is 0. */
TG_MUST_CHECK enum tg_code tg_gorilla_encode(const double *values, size_t n, struct tg_buf *out,
                                             struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_delta_encode(const int64_t *values, size_t n, struct tg_buf *out,
                                           struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_dod_encode(const int64_t *values, size_t n, struct tg_buf *out,
                                         struct tg_err *err);

/* The codec and the number of values of encoded bytes. The count is at most 8 x len, so that the
 * caller may allocate for it. TG_ERR_CORRUPT. */
TG_MUST_CHECK enum tg_code tg_series_codec_peek(const void *bytes, size_t len,
                                                enum tg_series_codec *codec, size_t *n,
                                                struct tg_err *err);

/* Decode exactly `len` bytes into `values`, which has room for `cap`; *n is how many there are.
 * TG_ERR_CORRUPT (*values may then be partly written), TG_ERR_TOO_LARGE when cap is less than the
 * count. */
TG_MUST_CHECK enum tg_code tg_gorilla_decode(const void *bytes, size_t len, double *values,
                                             size_t cap, size_t *n, struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_delta_decode(const void *bytes, size_t len, int64_t *values,
                                           size_t cap, size_t *n, struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_dod_decode(const void *bytes, size_t len, int64_t *values, size_t cap,
                                         size_t *n, struct tg_err *err);

#endif
