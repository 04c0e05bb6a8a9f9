/* Codecs by themselves: ns per value or line, best of several rounds.
 *
 *   bench_codec [rounds]        (default 7)
 *
 * Workload: arrays of 100,000 values (gauges with one decimal that move slowly, counters, random
 * doubles; times 15 s apart with and without 1 ms jitter); 10,000 Influx series of one field with
 * three tags, 1,000 lines a request; numbers of one to seventeen digits. A probe runs beside the
 * Influx figure: find each newline, hash the series part, look the key up, nothing else.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/number.h"
#include "core/codec/series_codec.h"
#include "core/protocol/influx_line.h"
#include "tests/support/rng.h"

enum { N_VALUES = 100000, N_SERIES = 10000, LINES_PER_REQUEST = 1000 };

static unsigned rounds = 7;
static uint64_t rng_state = 11;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

static void must(enum tg_code code)
{
    if (code == TG_OK) return;
    (void)fprintf(stderr, "bench_codec: unexpected code %d\n", (int)code);
    exit(1);
}

struct best {
    double ns;
    uint64_t began;
};
static void start(struct best *b)
{
    b->began = tg_clock_mono_ns();
}
static void stop(struct best *b, size_t n)
{
    const double ns = (double)(tg_clock_mono_ns() - b->began) / (double)n;
    if (b->ns == 0 || ns < b->ns) b->ns = ns;
}

static void bench_doubles(const char *what, const double *v)
{
    struct best encode = {0};
    struct best decode = {0};
    struct tg_buf out;
    double *back = malloc(N_VALUES * sizeof(*back));
    size_t n;
    tg_buf_init(&out, 0);
    for (unsigned r = 0; r < rounds; r++) {
        out.len = 0;
        start(&encode);
        must(tg_gorilla_encode(v, N_VALUES, &out, NULL));
        stop(&encode, N_VALUES);
        start(&decode);
        must(tg_gorilla_decode(out.data, out.len, back, N_VALUES, &n, NULL));
        stop(&decode, N_VALUES);
    }
    (void)printf("gorilla         %-28s encode %6.2f ns  decode %6.2f ns  %5.2f bytes/value\n",
                 what, encode.ns, decode.ns, (double)out.len / N_VALUES);
    tg_buf_deinit(&out);
    free(back);
}

static void bench_ints(const char *what, const int64_t *v, bool dod)
{
    struct best encode = {0};
    struct best decode = {0};
    struct tg_buf out;
    int64_t *back = malloc(N_VALUES * sizeof(*back));
    size_t n;
    tg_buf_init(&out, 0);
    for (unsigned r = 0; r < rounds; r++) {
        out.len = 0;
        start(&encode);
        must(dod ? tg_dod_encode(v, N_VALUES, &out, NULL)
                 : tg_delta_encode(v, N_VALUES, &out, NULL));
        stop(&encode, N_VALUES);
        start(&decode);
        must(dod ? tg_dod_decode(out.data, out.len, back, N_VALUES, &n, NULL)
                 : tg_delta_decode(out.data, out.len, back, N_VALUES, &n, NULL));
        stop(&decode, N_VALUES);
    }
    (void)printf("%-15s %-28s encode %6.2f ns  decode %6.2f ns  %5.2f bytes/value\n",
                 dod ? "delta-of-delta" : "delta", what, encode.ns, decode.ns,
                 (double)out.len / N_VALUES);
    tg_buf_deinit(&out);
    free(back);
}

static void bench_arrays(void)
{
    double *f = malloc(N_VALUES * sizeof(*f));
    int64_t *i64 = malloc(N_VALUES * sizeof(*i64));
    double level = 500;
    for (int i = 0; i < N_VALUES; i++) {
        level += (double)(int64_t)(rng() % 5) - 2;
        f[i] = level / 10;
    }
    bench_doubles("gauge, one decimal", f);
    level = 1e6;
    for (int i = 0; i < N_VALUES; i++) f[i] = level += (double)(rng() % 1000);
    bench_doubles("counter", f);
    for (int i = 0; i < N_VALUES; i++) f[i] = 42;
    bench_doubles("constant", f);
    for (int i = 0; i < N_VALUES; i++) f[i] = sin((double)i) * 1e3;
    bench_doubles("noise", f);
    for (int i = 0; i < N_VALUES; i++)
        i64[i] = INT64_C(1700000000000000000) + i * INT64_C(15000000000);
    bench_ints("times, even", i64, true);
    for (int i = 0; i < N_VALUES; i++) i64[i] += (int64_t)(rng() % 2000000);
    bench_ints("times, 1 ms jitter in ns", i64, true);
    for (int i = 0; i < N_VALUES; i++) i64[i] = i64[i] / 1000000 * 1000000;
    bench_ints("times, jitter in whole ms", i64, true);
    bench_ints("times, jitter in whole ms", i64, false);
    free(f);
    free(i64);
}

/* ---- Influx ---- */

struct requests {
    struct tg_buf text[N_SERIES / LINES_PER_REQUEST];
};

static void make_requests(struct requests *r, const char *value_format, bool many_fields)
{
    for (int q = 0; q < N_SERIES / LINES_PER_REQUEST; q++) {
        tg_buf_init(&r->text[q], 0);
        for (int i = 0; i < LINES_PER_REQUEST; i++) {
            const int s = q * LINES_PER_REQUEST + i;
            char value[128];
            const int whole = (int)(rng() % 100);
            (void)snprintf(value, sizeof(value), "%.*g", value_format[0] - '0' + 10,
                           (double)whole + (double)(rng() % 10000) / 9999);
            if (value_format[0] == '-') (void)snprintf(value, sizeof(value), "%di", whole);
            if (value_format[0] == '.')
                (void)snprintf(value, sizeof(value), "%d.%d", whole, (int)(rng() % 100));
            must(tg_buf_printf(&r->text[q], "cpu,host=host-%05d,region=eu-west-1,cpu=cpu%d ", s,
                               s % 8));
            for (int k = 0; k < (many_fields ? 10 : 1); k++)
                must(tg_buf_printf(&r->text[q], "%susage_%d=%s", k ? "," : "", k, value));
            must(tg_buf_printf(&r->text[q], " %lld\n",
                               1700000000000000000 + (long long)rng() % 1000));
        }
    }
}

/* The least that any decoder of this design does per line. */
static size_t probe(const struct tg_table *table, const struct tg_buf *text)
{
    const char *p = (const char *)text->data;
    const char *const end = p + text->len;
    size_t found = 0;
    while (p < end) {
        const char *space = memchr(p, ' ', (size_t)(end - p));
        const char *equals = memchr(space, '=', (size_t)(end - space));
        const char *newline = memchr(equals, '\n', (size_t)(end - equals));
        const struct tg_hash128 raw =
            tg_hash128_combine(tg_hash128(p, (size_t)(space - p)),
                               tg_hash128(space + 1, (size_t)(equals - space - 1)));
        found += tg_table_find_raw(table, raw) != NULL;
        p = newline + 1;
    }
    return found;
}

static void bench_influx(const char *what, const char *value_format, bool many_fields)
{
    struct requests r;
    make_requests(&r, value_format, many_fields);
    const struct tg_table_config config = {.max_series = 200000};
    struct tg_table *table = tg_table_new(&config);
    struct tg_batch batch;
    struct tg_arena arena;
    tg_batch_init(&batch, tg_table_guard(table), 0, 0);
    tg_arena_init(&arena, 0);
    struct best decode = {0};
    struct best limit = {0};
    struct best write = {0};
    size_t bytes = 0;
    size_t points = 0;
    struct tg_buf out;
    struct tg_buf prepared;
    tg_buf_init(&out, 0);
    tg_buf_init(&prepared, 0);
    for (unsigned round = 0; round < rounds + 1; round++) {
        struct tg_intake d = {.table = table, .batch = &batch, .arena = &arena, .now_s = round};
        bytes = points = 0;
        start(&decode);
        for (int q = 0; q < N_SERIES / LINES_PER_REQUEST; q++) {
            tg_batch_reset(&batch);
            tg_arena_reset(&arena);
            must(tg_influx_decode(r.text[q].data, r.text[q].len, 1, &d, NULL));
            bytes += r.text[q].len;
            points += batch.n_points;
        }
        if (round) {
            stop(&decode, points);
            if (d.n_misses || d.n_rejected) must(TG_ERR_INVALID);
        }
        start(&limit);
        size_t found = 0;
        for (int q = 0; q < N_SERIES / LINES_PER_REQUEST; q++) found += probe(table, &r.text[q]);
        stop(&limit, found);
        if (found != N_SERIES) must(TG_ERR_INVALID);
        struct tg_series_desc desc;
        prepared.len = 0;
        must(tg_table_describe(table, batch.points[0].series, &desc, &arena));
        must(tg_influx_prepare(&desc, &prepared, NULL));
        out.len = 0;
        start(&write);
        for (uint32_t i = 0; i < batch.n_points; i++)
            must(tg_influx_append_point(prepared.data, prepared.len, &batch.points[i], 0, &out,
                                        NULL));
        stop(&write, batch.n_points);
    }
    (void)printf("influx          %-28s decode %6.1f ns/point (%.0f bytes)  probe %6.1f ns/line  "
                 "write %6.1f ns/point\n",
                 what, decode.ns, (double)bytes / (double)points, limit.ns, write.ns);
    tg_buf_deinit(&out);
    tg_buf_deinit(&prepared);
    tg_batch_deinit(&batch);
    tg_arena_deinit(&arena);
    tg_table_free(table);
    for (int q = 0; q < N_SERIES / LINES_PER_REQUEST; q++) tg_buf_deinit(&r.text[q]);
}

/* ---- numbers ---- */

static void bench_numbers(const char *what, int digits)
{
    struct best parse = {0};
    struct best c_parse = {0};
    struct best format = {0};
    struct best c_format = {0};
    char *text = calloc(N_VALUES, 32);
    double *v = malloc(N_VALUES * sizeof(*v));
    double sum = 0;
    for (int i = 0; i < N_VALUES; i++) {
        (void)snprintf(text + 32 * i, 32, "%.*g", digits, (double)(rng() >> 11) * 0x1p-53 * 100);
        v[i] = strtod(text + 32 * i, NULL);
    }
    for (unsigned r = 0; r < rounds; r++) {
        start(&parse);
        for (int i = 0; i < N_VALUES; i++) {
            double one = 0;
            if (!tg_double_parse(text + 32 * i, text + 32 * i + 32, &one)) must(TG_ERR_INVALID);
            sum += one;
        }
        stop(&parse, N_VALUES);
        start(&c_parse);
        for (int i = 0; i < N_VALUES; i++) sum -= strtod(text + 32 * i, NULL);
        stop(&c_parse, N_VALUES);
        char out[64];
        start(&format);
        for (int i = 0; i < N_VALUES; i++) sum += (double)(tg_double_format(out, v[i]) & 1U);
        stop(&format, N_VALUES);
        start(&c_format);
        for (int i = 0; i < N_VALUES; i++)
            sum += (double)(snprintf(out, sizeof(out), "%.17g", v[i]) & 1);
        stop(&c_format, N_VALUES);
    }
    (void)printf(
        "number          %-28s parse %6.1f ns (strtod %.1f)  format %6.1f ns (printf %.1f)%s\n",
        what, parse.ns, c_parse.ns, format.ns, c_format.ns, isnan(sum) ? " " : "");
    free(text);
    free(v);
}

int main(int argc, char **argv)
{
    if (argc > 1) rounds = (unsigned)atoi(argv[1]);
    if (rounds == 0) rounds = 1;
    bench_arrays();
    bench_influx("1 field, 15+ digit float", "7", false);
    bench_influx("1 field, 2 decimals", ".", false);
    bench_influx("1 field, integer", "-", false);
    bench_influx("10 fields, 2 decimals", ".", true);
    bench_numbers("4 digits", 4);
    bench_numbers("15 digits", 15);
    bench_numbers("17 digits", 17);
    return 0;
}
