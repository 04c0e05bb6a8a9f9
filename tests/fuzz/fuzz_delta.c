/* Delta and delta-of-delta over whole arrays: as fuzz_gorilla. */
#include <stdlib.h>

#include "core/codec/series_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef enum tg_code (*encode_fn)(const int64_t *values, size_t n, struct tg_buf *out,
                                  struct tg_err *err);
typedef enum tg_code (*decode_fn)(const void *bytes, size_t len, int64_t *values, size_t cap,
                                  size_t *n, struct tg_err *err);

static void round_trip(encode_fn encode, decode_fn decode, const int64_t *values, size_t n)
{
    struct tg_buf out;
    tg_buf_init(&out, 0);
    if (encode(values, n, &out, NULL) != TG_OK) abort();
    int64_t *back = malloc(n * 8 + 1);
    size_t n_back;
    if (!back || decode(out.data, out.len, back, n, &n_back, NULL) != TG_OK) abort();
    if (n_back != n || (n && memcmp(back, values, n * 8) != 0)) abort();
    uint8_t *exact = malloc(out.len);
    if (!exact) abort();
    memcpy(exact, out.data, out.len);
    if (decode(exact, out.len - 1, back, n, &n_back, NULL) == TG_OK) abort();
    if (tg_buf_append(&out, "", 1) != TG_OK) abort();
    if (decode(out.data, out.len, back, n, &n_back, NULL) == TG_OK) abort();
    free(exact);
    free(back);
    tg_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const encode_fn encoders[] = {tg_delta_encode, tg_dod_encode};
    static const decode_fn decoders[] = {tg_delta_decode, tg_dod_decode};
    enum tg_series_codec codec;
    size_t n;
    for (int i = 0; i < 2; i++) {
        if (tg_series_codec_peek(data, size, &codec, &n, NULL) == TG_OK) {
            if (n > 8 * size) abort();
            int64_t *values = malloc(n * 8 + 1);
            size_t n_values;
            if (!values) abort();
            if (decoders[i](data, size, values, n, &n_values, NULL) == TG_OK) {
                if (n_values != n) abort();
                round_trip(encoders[0], decoders[0], values, n);
                round_trip(encoders[1], decoders[1], values, n);
            }
            free(values);
        }
        int64_t *values = malloc(size + 1);
        if (!values) abort();
        memcpy(values, data, size / 8 * 8);
        round_trip(encoders[i], decoders[i], values, size / 8);
        free(values);
    }
    return 0;
}
