/* Gorilla over whole arrays: arbitrary bytes decode or are refused within bounds, and what decodes
 * encodes to an equal array; arbitrary doubles come back bit for bit. */
#include <stdlib.h>

#include "core/codec/series_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const double *values, size_t n)
{
    struct tg_buf out;
    tg_buf_init(&out, 0);
    if (tg_gorilla_encode(values, n, &out, NULL) != TG_OK) abort();
    double *back = malloc(n * 8 + 1);
    size_t n_back;
    if (!back || tg_gorilla_decode(out.data, out.len, back, n, &n_back, NULL) != TG_OK) abort();
    if (n_back != n || (n && memcmp(back, values, n * 8) != 0)) abort();
    /* one byte less or more is noticed */
    uint8_t *exact = malloc(out.len);
    if (!exact) abort();
    memcpy(exact, out.data, out.len);
    if (tg_gorilla_decode(exact, out.len - 1, back, n, &n_back, NULL) == TG_OK) abort();
    if (tg_buf_append(&out, "", 1) != TG_OK) abort();
    if (tg_gorilla_decode(out.data, out.len, back, n, &n_back, NULL) == TG_OK) abort();
    free(exact);
    free(back);
    tg_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum tg_series_codec codec;
    size_t n;
    if (tg_series_codec_peek(data, size, &codec, &n, NULL) == TG_OK) {
        if (n > 8 * size) abort();
        double *values = malloc(n * 8 + 1);
        size_t n_values;
        if (!values) abort();
        if (tg_gorilla_decode(data, size, values, n, &n_values, NULL) == TG_OK) {
            if (n_values != n) abort();
            round_trip(values, n);
        }
        if (n && tg_gorilla_decode(data, size, values, n - 1, &n_values, NULL) == TG_OK) abort();
        free(values);
    }
    double *values = malloc(size + 1);
    if (!values) abort();
    memcpy(values, data, size / 8 * 8);
    round_trip(values, size / 8);
    free(values);
    return 0;
}
