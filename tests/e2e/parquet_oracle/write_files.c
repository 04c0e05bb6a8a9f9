/* Writes Parquet files with all kinds of points and edge values into a folder, and beside each the
 * points that were put in, as lines that the readers' scripts must reproduce.
 *
 *   parquet_oracle_write DIR   ->  DIR/<case>.parquet, DIR/<case>.jsonl
 */
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "tests/support/parquet_sample.h"

static int write_file(const char *dir, const char *name, const char *ext, const struct tg_buf *b)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s.%s", dir, name, ext);
    FILE *f = fopen(path, "wb");
    if (!f) {
        perror(path);
        return 1;
    }
    const size_t n = fwrite(b->data, 1, b->len, f);
    return fclose(f) != 0 || n != b->len;
}

static int one(const char *dir, const char *name, const struct tg_sample *s,
               struct tg_parquet_options o)
{
    struct tg_parquet_info info = {.from_pos = 7, .to_pos = 99, .keep_ms = 86400000};
    struct tg_buf file, lines;
    struct tg_arena arena;
    struct tg_err err = {.code = TG_OK};
    tg_buf_init(&file, 0);
    tg_buf_init(&lines, 0);
    tg_arena_init(&arena, 0);
    enum tg_code code = tg_sample_write(s, &o, &info, &file, &err);
    for (uint32_t i = 0; i < s->n && code == TG_OK; i++) {
        struct tg_series_desc d;
        tg_arena_reset(&arena);
        code = tg_series_desc_parse(s->points[i].series, s->points[i].series_len, &d, &arena, &err);
        if (code == TG_OK) code = tg_sample_print(&d, &s->points[i].point, &lines);
    }
    if (code != TG_OK) (void)fprintf(stderr, "%s: %s\n", name, err.msg);
    const int failed = code != TG_OK || write_file(dir, name, "parquet", &file) ||
                       write_file(dir, name, "jsonl", &lines);
    tg_buf_deinit(&file);
    tg_buf_deinit(&lines);
    tg_arena_deinit(&arena);
    return failed;
}

int main(int argc, char **argv)
{
    static const int64_t day = INT64_C(1700000000000000000);
    if (argc != 2) {
        (void)fprintf(stderr, "usage: parquet_oracle_write DIR\n");
        return 2;
    }
    tg_hash_seed(1);
    struct tg_sample edges, times, scrapes, mixed;
    int failed = 0;
    tg_sample_init(&edges);
    tg_sample_init(&times);
    tg_sample_init(&scrapes);
    tg_sample_init(&mixed);
    tg_sample_edges(&edges, day, false);
    tg_sample_edges(&times, day, true);
    tg_sample_scrapes(&scrapes, 300, 40, 9, day, 15000000000);
    tg_sample_scrapes(&mixed, 40, 30, 3, day, 1000000);
    tg_sample_edges(&mixed, day, false);
    failed |=
        one(argv[1], "edges_zstd", &edges, (struct tg_parquet_options){.codec = TG_PARQUET_ZSTD});
    failed |= one(argv[1], "edges_snappy", &edges,
                  (struct tg_parquet_options){.codec = TG_PARQUET_SNAPPY});
    failed |= one(argv[1], "edges_none", &edges, (struct tg_parquet_options){0});
    failed |= one(argv[1], "times", &times, (struct tg_parquet_options){.codec = TG_PARQUET_ZSTD});
    failed |=
        one(argv[1], "scrapes", &scrapes, (struct tg_parquet_options){.codec = TG_PARQUET_ZSTD});
    failed |= one(
        argv[1], "small_pages", &mixed,
        (struct tg_parquet_options){
            .codec = TG_PARQUET_ZSTD, .page_rows = 7, .page_bytes = 300, .row_group_rows = 500});
    failed |= one(
        argv[1], "no_dictionaries", &mixed,
        (struct tg_parquet_options){
            .codec = TG_PARQUET_SNAPPY, .page_rows = 100, .page_bytes = 2000, .no_dicts = true});
    tg_sample_deinit(&edges);
    tg_sample_deinit(&times);
    tg_sample_deinit(&scrapes);
    tg_sample_deinit(&mixed);
    return failed;
}
