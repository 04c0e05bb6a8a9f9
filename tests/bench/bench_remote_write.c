/* bench_remote_write: what a remote-write body costs: built, then compressed by libsnappy, which
 * searches it (the probe: what any sender does); and written as a snappy block at once.
 *
 * Workloads: 10,000 series of 11 tags (tests/support/workload.h), and with 19 more; one sample of
 * each in a body, and 5. Prints ns and bytes a point, medians of 11.
 *
 * Run: build/release/tests/bench_remote_write
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/codec/compress.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/remote_write.h"
#include "core/protocol/remote_write_body.h"
#include "tests/support/workload.h"

enum { N_SERIES = 10000, MAX_SAMPLES = 5, ROUNDS = 11, MORE_TAGS = 19, MAX_BYTES = 1 << 30 };

static void must(int ok, const char *what)
{
    if (ok) return;
    (void)fprintf(stderr, "bench_remote_write: %s\n", what);
    exit(1);
}

static struct tg_shared_parts *shared_parts;
static struct tg_buf prepared;
static size_t prepared_at[N_SERIES + 1];
static struct tg_point points[MAX_SAMPLES][N_SERIES];

/* Some values are those of all, some of a few, and one in four is its own. */
static void add_tags(struct tg_series_desc *d, struct tg_tag *tags, char (*text)[2][32],
                     uint32_t series)
{
    memcpy(tags, d->tags, d->n_tags * sizeof(*tags));
    for (unsigned i = 0; i < MORE_TAGS; i++) {
        const unsigned value = i % 4 == 0   ? series
                               : i % 4 == 1 ? series / 100
                                            : series % 7 * (i % 2);
        const int key_len = snprintf(text[i][0], 32, "more.tag.%02u", i);
        const int value_len = snprintf(text[i][1], 32, "value-%u", value);
        tags[d->n_tags + i] = (struct tg_tag){.key = text[i][0],
                                              .value = text[i][1],
                                              .key_len = (uint32_t)key_len,
                                              .value_len = (uint32_t)value_len,
                                              .origin = TG_ORIGIN_POINT};
    }
    d->tags = tags;
    d->n_tags += MORE_TAGS;
}

/* Instead: tags each of which comes round in its own time, so that neighbours share little. */
static void set_tags(struct tg_series_desc *d, struct tg_tag *tags, char (*text)[2][32],
                     uint32_t series)
{
    static const struct {
        const char *key, *value;
        uint32_t every, n;
    } all[] = {
        {"deployment.environment", "env-1", 1, 1},
        {"instance", "instance-", 1, UINT32_MAX},
        {"method", "method-", 1, 5},
        {"route", "/api/v1/things/", 1, 50},
        {"service.name", "load-", 1000, 20},
        {"service.namespace", "bench-", 1, 1},
        {"status", "20", 1, 7},
        {"team", "team-", 1, 11},
        {"zone", "zone-", 1, 3},
    };
    enum { N = sizeof(all) / sizeof(all[0]) };
    for (unsigned i = 0; i < N; i++) {
        const int n =
            snprintf(text[i][1], 32, "%s%u", all[i].value, series / all[i].every % all[i].n);
        tags[i] = (struct tg_tag){.key = all[i].key,
                                  .value = text[i][1],
                                  .key_len = (uint32_t)strlen(all[i].key),
                                  .value_len = (uint32_t)n,
                                  .origin = TG_ORIGIN_POINT};
    }
    const int n = snprintf(text[N][0], 32, "load.level.%u", series / 2 % 10);
    d->name = text[N][0];
    d->name_len = (uint32_t)n;
    d->tags = tags;
    d->n_tags = N;
}

static void prepare(const struct tg_workload *w, int tags_of)
{
    for (int round = 0; round < 5; round++) { /* until what is shared is known */
        tg_buf_reset(&prepared);
        for (uint32_t i = 0; i < N_SERIES; i++) {
            struct tg_err err = {.msg = ""};
            struct tg_series_desc d = w->descs[i];
            struct tg_tag tags[64];
            char text[MORE_TAGS][2][32];
            if (tags_of) {
                (tags_of == 1 ? add_tags : set_tags)(&d, tags, text, i);
                must(tg_series_desc_canonicalise(&d, &tg_series_limits_default, &err) == TG_OK,
                     err.msg);
            }
            prepared_at[i] = prepared.len;
            must(tg_remote_write_prepare(&d, &tg_prom_names_default, shared_parts, &prepared,
                                         &err) == TG_OK,
                 err.msg);
        }
        prepared_at[N_SERIES] = prepared.len;
    }
}

static void add_points(struct tg_remote_write_body *b, unsigned n_samples)
{
    for (uint32_t i = 0; i < N_SERIES; i++) {
        const struct tg_point *of[MAX_SAMPLES];
        bool is_left_out[MAX_SAMPLES];
        for (unsigned k = 0; k < n_samples; k++) of[k] = &points[k][i];
        must(tg_remote_write_body_add(b, prepared.data + prepared_at[i],
                                      (uint32_t)(prepared_at[i + 1] - prepared_at[i]), of,
                                      n_samples, is_left_out) == TG_OK,
             "no memory");
    }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const char *what, unsigned n_samples, bool is_block)
{
    struct tg_remote_write_body body;
    struct tg_buf out;
    struct tg_buf packed;
    struct tg_compress compress;
    struct tg_err err = {.msg = ""};
    double ns[ROUNDS];
    size_t bytes = 0;
    tg_remote_write_body_init(&body, shared_parts);
    tg_buf_init(&out, 0);
    tg_buf_init(&packed, 0);
    tg_compress_init(&compress);
    for (unsigned r = 0; r < ROUNDS; r++) {
        tg_buf_reset(&out);
        tg_buf_reset(&packed);
        const uint64_t began = tg_clock_mono_ns();
        must(tg_remote_write_body_begin(&body, &out, MAX_BYTES, is_block) == TG_OK, "no memory");
        add_points(&body, n_samples);
        bytes = out.len - tg_remote_write_body_end(&body);
        if (!is_block) {
            must(tg_compress_encode(&compress, TG_ENCODING_SNAPPY, out.data, out.len, &packed,
                                    &err) == TG_OK,
                 err.msg);
            bytes = packed.len;
        }
        ns[r] = (double)(tg_clock_mono_ns() - began) / (N_SERIES * n_samples);
    }
    qsort(ns, ROUNDS, sizeof(*ns), by_value);
    (void)printf("%-44s %6.1f ns/point  %6.1f bytes/point\n", what, ns[ROUNDS / 2],
                 (double)bytes / (N_SERIES * n_samples));
    tg_remote_write_body_deinit(&body);
    tg_buf_deinit(&out);
    tg_buf_deinit(&packed);
    tg_compress_deinit(&compress);
}

int main(void)
{
    struct tg_workload w;
    tg_workload_init(&w, N_SERIES, INT64_C(1700000000000000000));
    tg_buf_init(&prepared, 0);
    for (unsigned k = 0; k < MAX_SAMPLES; k++) {
        memcpy(points[k], w.points, sizeof(points[k]));
        tg_workload_step(&w, INT64_C(15000000000));
    }
    for (int tags_of = 0; tags_of < 3; tags_of++) {
        shared_parts = tg_shared_parts_new();
        must(shared_parts != NULL, "no memory");
        prepare(&w, tags_of);
        (void)printf("%s: %.0f bytes a series prepared\n",
                     tags_of ? tags_of == 1 ? "30 tags" : "9 tags, out of step" : "11 tags",
                     (double)prepared.len / N_SERIES);
        measure("  1 sample a series, built and compressed", 1, false);
        measure("  1 sample a series, written as a block", 1, true);
        measure("  5 samples a series, built and compressed", 5, false);
        measure("  5 samples a series, written as a block", 5, true);
        tg_shared_parts_free(shared_parts);
    }
    tg_buf_deinit(&prepared);
    tg_workload_deinit(&w);
    return 0;
}
