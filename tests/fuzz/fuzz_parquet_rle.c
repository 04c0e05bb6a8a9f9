/* Parquet's small codecs. The first byte chooses: arbitrary bytes to a decoder, or values made from
 * the bytes through encoder and decoder, which must come out equal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/parquet/parquet_delta.h"
#include "core/parquet/parquet_json.h"
#include "core/parquet/parquet_rle.h"
#include "core/parquet/thrift.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX = 20000 };
static uint32_t u32[MAX], again32[MAX];
static int64_t i64[MAX], again64[MAX];
static uint8_t bytes[MAX];

#define CHECK(x)           \
    do {                   \
        if (!(x)) abort(); \
    } while (0)

static void rle_round_trip(const uint8_t *p, size_t size, unsigned width)
{
    struct tg_buf b;
    struct tg_parquet_rle e;
    struct tg_parquet_rle_reader r;
    size_t n = 0;
    tg_buf_init(&b, 0);
    tg_parquet_rle_init(&e, &b, width);
    const uint32_t mask = width == 32 ? UINT32_MAX : (UINT32_C(1) << width) - 1;
    for (; size >= 3 && n + 600 < MAX; p += 3, size -= 3) {
        const uint32_t v = (p[0] * UINT32_C(0x01010101) ^ p[1]) & mask;
        const uint32_t run = p[2] < 128 ? 1 : p[2] < 250 ? p[2] - 127u : 100u * (p[2] - 249u);
        tg_parquet_rle_run(&e, v, run);
        for (uint32_t i = 0; i < run && n < MAX; i++) u32[n++] = v;
    }
    CHECK(tg_parquet_rle_finish(&e) == TG_OK);
    tg_parquet_rle_reader_init(&r, b.data, b.len, width);
    CHECK(tg_parquet_rle_reader_get(&r, again32, n));
    CHECK(n == 0 || memcmp(u32, again32, n * sizeof(*u32)) == 0);
    tg_parquet_rle_reader_init(&r, b.data, b.len, width);
    const bool fits = tg_parquet_rle_reader_get_u8(&r, bytes, n);
    bool small = true;
    for (size_t i = 0; i < n; i++) small = small && u32[i] <= UINT8_MAX;
    CHECK(fits == small);
    for (size_t i = 0; fits && i < n; i++) CHECK(bytes[i] == u32[i]);
    tg_buf_deinit(&b);
}

static void rle_decode(const uint8_t *p, size_t size, unsigned width)
{
    struct tg_parquet_rle_reader r;
    tg_parquet_rle_reader_init(&r, p, size, width);
    /* a few bytes may stand for 2^31 values: not all of them */
    for (unsigned k = 0; k < 300 && tg_parquet_rle_reader_get(&r, again32, 97); k++)
        for (unsigned i = 0; i < 97; i++)
            CHECK(width == 32 || width > 32 || again32[i] >> width == 0);
    tg_parquet_rle_reader_init(&r, p, size, width);
    (void)tg_parquet_rle_reader_get_u8(&r, bytes, MAX);
}

static void delta_round_trip(const uint8_t *p, size_t size)
{
    struct tg_buf b;
    size_t n = 0;
    uint64_t at = 0;
    tg_buf_init(&b, 0);
    while (size && n < MAX) { /* steps of 1 to 8 bytes */
        const size_t len = p[0] % 9u;
        uint64_t step = 0;
        if (len >= size) break;
        memcpy(&step, p + 1, len);
        at += p[0] & 0x80 ? ~step : step;
        i64[n++] = (int64_t)at;
        p += len + 1;
        size -= len + 1;
    }
    CHECK(tg_parquet_delta_encode(i64, n, &b) == TG_OK);
    CHECK(tg_parquet_delta_decode(b.data, b.len, again64, n));
    CHECK(n == 0 || memcmp(i64, again64, n * sizeof(*i64)) == 0);
    CHECK(!tg_parquet_delta_decode(b.data, b.len, again64, n + 1));
    tg_buf_deinit(&b);
}

static void thrift_decode(const uint8_t *p, size_t size)
{
    struct tg_thriftr r;
    int id;
    enum tg_thrift_type t;
    tg_thriftr_init(&r, p, size);
    tg_thriftr_begin(&r);
    while (tg_thriftr_field(&r, &id, &t)) tg_thriftr_skip(&r, t);
    CHECK(r.p <= r.end);
}

static void exemplars(const uint8_t *p, size_t size)
{
    struct tg_arena a;
    struct tg_buf b;
    const struct tg_exemplars *e, *f;
    tg_arena_init(&a, 0);
    tg_buf_init(&b, 0);
    if (tg_parquet_exemplars_parse((const char *)p, size, &a, &e) == TG_OK) {
        CHECK(tg_parquet_exemplars_encode(e, &b) == TG_OK);
        CHECK(tg_parquet_exemplars_parse((const char *)b.data, b.len, &a, &f) == TG_OK);
        CHECK(e->n == f->n);
        for (uint32_t i = 0; i < e->n; i++) {
            CHECK(memcmp(&e->items[i].value, &f->items[i].value, 8) == 0);
            CHECK(e->items[i].ts_ns == f->items[i].ts_ns);
            CHECK(e->items[i].n_labels == f->items[i].n_labels);
        }
    }
    tg_arena_deinit(&a);
    tg_buf_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    const unsigned width = data[1];
    switch (data[0] % 6) {
    case 0: rle_round_trip(data + 2, size - 2, width % 32 + 1); break;
    case 1: rle_decode(data + 2, size - 2, width); break;
    case 2: delta_round_trip(data + 1, size - 1); break;
    case 3: (void)tg_parquet_delta_decode(data + 2, size - 2, again64, width * UINT32_C(64)); break;
    case 4: thrift_decode(data + 1, size - 1); break;
    default: exemplars(data + 1, size - 1); break;
    }
    return 0;
}
