/* Influx lines: arbitrary text never crashes and keeps its limits; the second reading (all hits)
 * equals the first; what was read, written and read again is equal. */
#include <stdlib.h>

#include "core/protocol/influx_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_ARENA_BYTES = 1 << 20, MAX_POINTS = 1000, MAX_SERIES = 2000 };

struct reader {
    struct tg_batch batch;
    struct tg_intake d;
};

static void read_lines(struct reader *r, struct tg_table *table, struct tg_arena *scratch,
                       const uint8_t *data, size_t size, int64_t precision_ns)
{
    tg_batch_init(&r->batch, tg_table_guard(table), MAX_POINTS, MAX_ARENA_BYTES);
    r->d = (struct tg_intake){
        .table = table, .batch = &r->batch, .arena = scratch, .now_ns = 1234567, .now_s = 1};
    struct tg_err err = {.msg = ""};
    const enum tg_code code = tg_influx_decode(data, size, precision_ns, &r->d, &err);
    if (code != TG_OK && code != TG_ERR_TOO_LARGE && code != TG_ERR_NOMEM) abort();
    if (code != TG_OK && !err.msg[0]) abort();
    if (r->batch.n_points > MAX_POINTS || r->d.n_accepted != r->batch.n_points) abort();
    if ((r->d.n_rejected > 0) != (r->d.first_reject.msg[0] != '\0')) abort();
    for (uint32_t i = 0; i < r->batch.n_points; i++)
        if (!r->batch.points[i].series) abort();
}

static void must_equal(const struct reader *a, const struct reader *b)
{
    if (a->batch.n_points != b->batch.n_points) abort();
    for (uint32_t i = 0; i < a->batch.n_points; i++)
        if (a->batch.points[i].series != b->batch.points[i].series ||
            !tg_point_equal(&a->batch.points[i], &b->batch.points[i]))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t units[] = {1, 1000, 1000000000, INT64_C(3600000000000)};
    if (size == 0) return 0;
    const int64_t unit = units[data[0] & 3];
    data++;
    size--;
    const struct tg_table_config config = {.max_series = MAX_SERIES};
    struct tg_table *table = tg_table_new(&config);
    if (!table) abort();
    struct tg_arena scratch;
    tg_arena_init(&scratch, MAX_ARENA_BYTES);
    struct reader first;
    struct reader second;
    read_lines(&first, table, &scratch, data, size, unit);
    read_lines(&second, table, &scratch, data, size, unit);
    must_equal(&first, &second);
    if (first.d.n_rejected != second.d.n_rejected) abort();
    tg_batch_deinit(&second.batch);

    struct tg_buf text;
    struct tg_buf prepared;
    tg_buf_init(&text, 0);
    tg_buf_init(&prepared, 0);
    tg_arena_reset(&scratch);
    for (uint32_t i = 0; i < first.batch.n_points; i++) {
        struct tg_series_desc desc;
        struct tg_err err;
        prepared.len = 0;
        if (tg_table_describe(table, first.batch.points[i].series, &desc, &scratch) != TG_OK ||
            tg_influx_prepare(&desc, &prepared, &err) != TG_OK ||
            tg_influx_append_point(prepared.data, prepared.len, &first.batch.points[i], 0, &text,
                                   &err) != TG_OK)
            abort();
    }
    tg_arena_reset(&scratch);
    read_lines(&second, table, &scratch, text.data, text.len, 1);
    must_equal(&first, &second);
    if (second.d.n_rejected) abort();
    if (!tg_table_validate(table)) abort();
    tg_buf_deinit(&text);
    tg_buf_deinit(&prepared);
    tg_batch_deinit(&first.batch);
    tg_batch_deinit(&second.batch);
    tg_arena_deinit(&scratch);
    tg_table_free(table);
    return 0;
}
