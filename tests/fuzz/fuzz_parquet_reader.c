/* Any bytes as a Parquet file: rows or an error, never more than the limits allow, and every row
 * that comes out is one that the rest of the gateway can take. Checksums are not compared, so that
 * what lies behind them is reached; the unit tests compare them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/model/series.h"
#include "core/parquet/parquet_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t n;
    uint64_t sum;
    struct tg_batch batch;
    struct tg_buf series;
};

static bool on_row(void *arg, const struct tg_series_desc *d, const struct tg_point *p)
{
    struct seen *s = arg;
    tg_buf_reset(&s->series);
    if (tg_series_desc_encode(d, &s->series) != TG_OK) abort();
    for (size_t i = 0; i < s->series.len; i++) s->sum += s->series.data[i];
    /* a deep copy touches everything that the point points at, and is equal to it */
    tg_batch_reset(&s->batch);
    if (tg_batch_copy_point(&s->batch, p) != TG_OK) abort();
    if (!tg_point_equal(p, &s->batch.points[0])) abort();
    return ++s->n < 5000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tg_parquet_limits limits = {
        .max_page_bytes = 1 << 20, .max_entries = 1 << 16, .ignore_checksums = true};
    struct seen s = {.n = 0};
    uint64_t footer;
    struct tg_parquet_reader *r = tg_parquet_reader_new(&limits);
    if (!r) return 0;
    tg_batch_init(&s.batch, NULL, 0, 0);
    tg_buf_init(&s.series, 0);
    if (size >= TG_PARQUET_TAIL &&
        tg_parquet_footer_len(data + size - TG_PARQUET_TAIL, size, &footer, NULL) == TG_OK &&
        tg_parquet_reader_footer(r, data + size - footer, footer, size, NULL) == TG_OK) {
        struct tg_parquet_filter f = {.start_ns = INT64_MIN, .end_ns = INT64_MAX};
        uint64_t n;
        enum tg_code code = tg_parquet_reader_scan(r, data, &f, on_row, &s, &n, NULL);
        if (n != s.n || (code != TG_OK && code != TG_ERR_CORRUPT)) abort();
        f.name = "cpu.load";
        f.name_len = 8;
        f.start_ns = INT64_C(1700000000000000000);
        s.n = 0;
        code = tg_parquet_reader_scan(r, data, &f, on_row, &s, &n, NULL);
        if (n != s.n || (code != TG_OK && code != TG_ERR_CORRUPT)) abort();
    }
    tg_batch_deinit(&s.batch);
    tg_buf_deinit(&s.series);
    tg_parquet_reader_free(r);
    return 0;
}
