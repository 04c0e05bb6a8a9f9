/* What a point costs in the Parquet writer and reader: 10,000 series x 50 points, 9 tags each, the
 * series interleaved as scrapes bring them.
 *
 *   bench_parquet [ROUNDS]   prints ns and bytes per point, CPU time of this thread, best of ROUNDS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/hash.h"
#include "core/parquet/parquet_reader.h"
#include "tests/support/parquet_sample.h"

enum { N_SERIES = 10000, N_POINTS = 50, N_TAGS = 9 };

static double cpu_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static enum tg_code keep(void *arg, const void *bytes, size_t len, struct tg_err *err)
{
    (void)err;
    return tg_buf_append(arg, bytes, len);
}

static bool count(void *arg, const struct tg_series_desc *d, const struct tg_point *p)
{
    (void)d;
    (void)p;
    ++*(uint64_t *)arg;
    return true;
}

static int fail(const char *what, const struct tg_err *err)
{
    (void)fprintf(stderr, "%s: %s\n", what, err->msg);
    return 1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        enum tg_parquet_codec codec;
    } codecs[] = {{"zstd", TG_PARQUET_ZSTD},
                  {"snappy", TG_PARQUET_SNAPPY},
                  {"none", TG_PARQUET_UNCOMPRESSED}};
    const int rounds = argc > 1 ? atoi(argv[1]) : 5;
    struct tg_sample s;
    struct tg_err err = {.msg = ""};
    tg_hash_seed(0);
    tg_sample_init(&s);
    tg_sample_scrapes(&s, N_SERIES, N_POINTS, N_TAGS, INT64_C(1700000000000000000), 15000000000);
    (void)printf("parquet: %d series x %d points, %d tags\n", N_SERIES, N_POINTS, N_TAGS);
    for (unsigned c = 0; c < 3; c++) {
        const struct tg_parquet_options o = {.codec = codecs[c].codec};
        struct tg_parquet_writer *w = tg_parquet_writer_new(&o);
        struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
        struct tg_buf file;
        double write_s = 1e9, read_s = 1e9, one_s = 1e9;
        tg_buf_init(&file, 0);
        if (!w || !r) return 1;
        for (int i = 0; i < rounds; i++) {
            struct tg_parquet_info info = {0};
            tg_buf_reset(&file);
            const double t0 = cpu_s();
            for (uint32_t k = 0; k < s.n; k++)
                if (tg_parquet_writer_add(w, s.points[k].series, s.points[k].series_len,
                                          &s.points[k].point) != TG_OK)
                    return fail("add", &err);
            if (tg_parquet_writer_finish(w, &info, keep, &file, &err) != TG_OK)
                return fail("finish", &err);
            tg_parquet_writer_reset(w);
            const double t1 = cpu_s();
            uint64_t footer, n = 0, n_one = 0;
            struct tg_parquet_filter f = {.start_ns = INT64_MIN, .end_ns = INT64_MAX};
            if (tg_parquet_footer_len(file.data + file.len - TG_PARQUET_TAIL, file.len, &footer,
                                      &err) ||
                tg_parquet_reader_footer(r, file.data + file.len - footer, footer, file.len,
                                         &err) ||
                tg_parquet_reader_scan(r, file.data, &f, count, &n, NULL, &err))
                return fail("read", &err);
            const double t2 = cpu_s();
            f.name = "app.metric.042";
            f.name_len = 14;
            if (tg_parquet_reader_scan(r, file.data, &f, count, &n_one, NULL, &err))
                return fail("read", &err);
            const double t3 = cpu_s();
            if (n != s.n || n_one != s.n / 100) return fail("rows missing", &err);
            if (t1 - t0 < write_s) write_s = t1 - t0;
            if (t2 - t1 < read_s) read_s = t2 - t1;
            if (t3 - t2 < one_s) one_s = t3 - t2;
        }
        (void)printf("%-7s write %6.1f ns/point, %5.2f bytes/point; read all %6.1f ns/point; "
                     "one name of 100 in %5.2f ms\n",
                     codecs[c].name, write_s / s.n * 1e9, (double)file.len / s.n,
                     read_s / s.n * 1e9, one_s * 1e3);
        tg_buf_deinit(&file);
        tg_parquet_writer_free(w);
        tg_parquet_reader_free(r);
    }
    tg_sample_deinit(&s);
    return 0;
}
