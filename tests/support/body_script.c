#include "tests/support/body_script.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/codec/compress.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/remote_write.h"
#include "core/protocol/remote_write_body.h"
#include "tests/support/decode_fixture.h"

enum { N_SERIES = 24, N_TAGS = 6, MAX_GROUP = 12, MAX_BYTES = 1 << 24, TURNS = 20 };

struct script {
    const uint8_t *at, *end;
};

static void must(bool ok, const char *what)
{
    if (ok) return;
    (void)fprintf(stderr, "body_script: %s\n", what);
    abort();
}

static unsigned next(struct script *s)
{
    return s->at < s->end ? *s->at++ : 0;
}

/* --- series: some labels are those of all, some of a few, some their own --- */

struct series {
    struct tg_buf shared, alone; /* prepared with parts and without */
};

struct world {
    struct tg_shared_parts *shared_parts;
    struct series series[N_SERIES];
    struct tg_remote_write_body blocks, plain;
    struct tg_buf packed, unpacked, whole, single;
    struct tg_compress compress;
    bool has_exemplars; /* in this body */
    struct tg_body_counts *counts;
};

static void make_series(struct world *w, unsigned i)
{
    static const uint8_t kinds[] = {TG_KIND_GAUGE,         TG_KIND_COUNTER, TG_KIND_HISTOGRAM,
                                    TG_KIND_EXP_HISTOGRAM, TG_KIND_SUMMARY, TG_KIND_UNKNOWN};
    static const char *const keys[N_TAGS] = {"cluster", "instance", "job",
                                             "k",       "path",     "zone.name"};
    char text[N_TAGS][400];
    struct tg_tag tags[N_TAGS];
    struct tg_err err = {.msg = ""};
    char name[32];
    for (unsigned k = 0; k < N_TAGS; k++) {
        const unsigned value = k == 0 ? 0 : k == 1 ? i : k == 2 ? i / 8 : i % k;
        int n = snprintf(text[k], sizeof(text[k]), "%s-%u", keys[k], value);
        if (k == 4 && i % 5 == 0) /* longer than a part, and than a short literal */
            n = snprintf(text[k], sizeof(text[k]), "/%0*u", (int)(60 + 80 * (i % 4)), i);
        tags[k] = (struct tg_tag){.key = keys[k],
                                  .value = text[k],
                                  .key_len = (uint32_t)strlen(keys[k]),
                                  .value_len = (uint32_t)n,
                                  .origin = TG_ORIGIN_POINT};
    }
    (void)snprintf(name, sizeof(name), "metric.%u", i / 6);
    struct tg_series_desc d = {
        .name = name,
        .name_len = (uint32_t)strlen(name),
        .unit = "",
        .kind = kinds[i % 6],
        .temporality = i % 6 == 0 || i % 6 > 3 ? TG_TEMPORALITY_NONE : TG_TEMPORALITY_CUMULATIVE,
        .n_tags = i % 7 == 6 ? 1 : N_TAGS,
        .tags = tags,
    };
    must(tg_series_desc_canonicalise(&d, &tg_series_limits_default, &err) == TG_OK, err.msg);
    struct series *s = &w->series[i];
    tg_buf_reset(&s->shared);
    tg_buf_reset(&s->alone);
    must(tg_remote_write_prepare(&d, &tg_prom_names_default, w->shared_parts, &s->shared, &err) ==
             TG_OK,
         err.msg);
    must(tg_remote_write_prepare(&d, &tg_prom_names_default, NULL, &s->alone, &err) == TG_OK,
         err.msg);
}

/* Once, for all scripts: again and again, until labels have become parts, and these runs. */
static void make_all_series(struct world *w)
{
    w->shared_parts = tg_shared_parts_new();
    must(w->shared_parts != NULL, "no memory");
    for (unsigned i = 0; i < N_SERIES; i++) {
        tg_buf_init(&w->series[i].shared, 0);
        tg_buf_init(&w->series[i].alone, 0);
    }
    for (unsigned turn = 0; turn < TURNS; turn++)
        for (unsigned i = 0; i < N_SERIES; i++) make_series(w, i);
}

/* --- points --- */

static const double bounds[] = {0.5, 1, 2.5, INFINITY};
static const uint64_t counts[] = {1, 0, 3, 4, 5};
static const struct tg_quantile quantiles[] = {{0.5, 1}, {0.99, 2}};
static const struct tg_quantile other_quantiles[] = {{0.5, 1}, {0.9, 2}};
static const struct tg_histogram histograms[] = {
    {.count = 8,
     .sum = 5.5,
     .has_sum = true,
     .n_bounds = 3,
     .n_buckets = 4,
     .bounds = bounds,
     .buckets = counts},
    {.count = 13,
     .sum = 1,
     .has_sum = true,
     .n_bounds = 4,
     .n_buckets = 5,
     .bounds = bounds,
     .buckets = counts},
    {.count = 8, .n_bounds = 3, .n_buckets = 4, .bounds = bounds, .buckets = counts},
    {.count = 3},
};
static const struct tg_exp_histogram natives[] = {
    {.count = 9,
     .zero_count = 1,
     .sum = 1,
     .has_sum = true,
     .scale = 3,
     .pos_offset = -2,
     .n_pos = 4,
     .pos = counts},
    {.count = 99, .n_pos = 4, .pos = counts}, /* not the sum of its buckets */
};
static const struct tg_summary summaries[] = {
    {.count = 4, .sum = 8, .n_quantiles = 2, .quantiles = quantiles},
    {.count = 5, .sum = 9, .n_quantiles = 2, .quantiles = other_quantiles},
    {.count = 6},
};
static const struct tg_string text = {"text", 4};
static const struct tg_string exemplar_labels[] = {{"who", 3}, {"me", 2}};
static const struct tg_exemplar exemplar_items[] = {
    {.ts_ns = 1000000, .value = 0.7, .has_trace = true, .trace_id = {1, 2}, .span_id = {3}},
    {.ts_ns = 2000000, .value = 2, .n_labels = 1, .labels = exemplar_labels},
};
static const struct tg_exemplars exemplars = {2, exemplar_items};

static struct tg_point make_point(struct script *s, int64_t *ts_ns)
{
    const unsigned what = next(s);
    const unsigned more = next(s);
    if (more & 1) *ts_ns += (int64_t)(more >> 4) * 700000; /* some within one millisecond */
    struct tg_point p = {.ts_ns = *ts_ns, .type = TG_VALUE_DOUBLE};
    switch (what % 16) {
    case 0:
        p.type = TG_VALUE_NONE;
        p.flags = TG_POINT_NO_VALUE;
        break;
    case 1:
        p.type = TG_VALUE_STRING;
        p.value.string = &text;
        break;
    case 2:
    case 3:
    case 4:
        p.type = TG_VALUE_HISTOGRAM;
        p.value.histogram = &histograms[what / 16 % 4];
        if (what % 16 == 4) p.flags = TG_POINT_NO_VALUE;
        break;
    case 5:
    case 6:
        p.type = TG_VALUE_EXP_HISTOGRAM;
        p.value.exp_histogram = &natives[what / 16 % 4 == 3];
        break;
    case 7:
    case 8:
        p.type = TG_VALUE_SUMMARY;
        p.value.summary = &summaries[what / 16 % 3];
        break;
    case 9:
        p.type = TG_VALUE_EXEMPLARS;
        p.exemplars = &exemplars;
        break;
    case 10:
        p.type = TG_VALUE_INT64;
        p.value.i64 = (int64_t)what - 100;
        break;
    case 11:
        p.type = TG_VALUE_UINT64;
        p.value.u64 = what;
        break;
    case 12:
        p.type = TG_VALUE_BOOL;
        p.value.i64 = what / 16 % 2;
        break;
    default: p.value.f64 = (double)what / 3; break;
    }
    if (more % 16 == 15) p.exemplars = &exemplars;
    return p;
}

/* --- one body --- */

static void begin(struct world *w)
{
    tg_buf_reset(&w->whole);
    tg_buf_reset(&w->single);
    w->has_exemplars = false;
    must(tg_remote_write_body_begin(&w->blocks, &w->packed, MAX_BYTES, true) == TG_OK, "no memory");
    must(tg_remote_write_body_begin(&w->plain, &w->whole, MAX_BYTES, false) == TG_OK, "no memory");
}

static void add_group(struct world *w, struct script *s, int64_t *ts_ns)
{
    const struct series *series = &w->series[next(s) % N_SERIES];
    const uint32_t n = next(s) % 4 ? 1 : 1 + next(s) % MAX_GROUP;
    struct tg_point points[MAX_GROUP];
    const struct tg_point *of[MAX_GROUP];
    bool is_left_out[MAX_GROUP];
    bool is_left_out_plain[MAX_GROUP];
    for (uint32_t i = 0; i < n; i++) {
        points[i] = make_point(s, ts_ns);
        of[i] = &points[i];
        w->has_exemplars = w->has_exemplars || points[i].exemplars;
    }
    const uint32_t len = (uint32_t)series->shared.len;
    const size_t whole_at = w->whole.len;
    const size_t single_at = w->single.len;
    must(tg_remote_write_body_add(&w->blocks, series->shared.data, len, of, n, is_left_out) ==
             TG_OK,
         "cannot add to the block");
    must(tg_remote_write_body_add(&w->plain, series->shared.data, len, of, n, is_left_out_plain) ==
             TG_OK,
         "cannot add to the plain body");
    for (uint32_t i = 0; i < n; i++) {
        const enum tg_code code = tg_remote_write_append_point(
            &w->single, series->alone.data, (uint32_t)series->alone.len, &points[i]);
        must(code == TG_OK || code == TG_ERR_UNSUPPORTED, "cannot append a point");
        must(is_left_out[i] == is_left_out_plain[i], "a block leaves out what a plain body has");
        must(is_left_out[i] == (code == TG_ERR_UNSUPPORTED), "what is left out is not the same");
        w->counts->n_left_out += is_left_out[i];
    }
    if (n == 1 && w->single.len > single_at)
        must(w->whole.len - whole_at == w->single.len - single_at &&
                 memcmp(w->whole.data + whole_at, w->single.data + single_at,
                        w->single.len - single_at) == 0,
             "parts make another message");
    w->counts->n_points += n;
    w->counts->n_grouped += n > 1;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The lines of what is decoded, sorted. Owned. */
static char *decoded(const struct tg_buf *body)
{
    struct tg_decode_fixture f;
    struct tg_err err = {.msg = ""};
    tg_decode_fixture_init(&f, NULL);
    must(tg_decode_exact(&f, tg_remote_write_decode, body->data, body->len, &err) == TG_OK,
         err.msg);
    const char *lines_text = tg_decode_text(&f);
    char *copy = strdup(lines_text);
    char *out = calloc(1, strlen(lines_text) + 2);
    const char **lines = calloc(f.batch.n_points + 1U, sizeof(*lines));
    must(copy && out && lines, "no memory");
    size_t n = 0;
    for (char *save = NULL, *line = strtok_r(copy, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save))
        if (n < f.batch.n_points) lines[n++] = line;
    qsort(lines, n, sizeof(*lines), by_text);
    char *o = out;
    for (size_t i = 0; i < n; i++) o += sprintf(o, "%s\n", lines[i]);
    free(lines);
    free(copy);
    tg_decode_fixture_deinit(&f);
    return out;
}

static void end(struct world *w)
{
    struct tg_err err = {.msg = ""};
    const size_t skip = tg_remote_write_body_end(&w->blocks);
    must(tg_remote_write_body_end(&w->plain) == 0, "a plain body has a gap");
    must(tg_remote_write_body_is_empty(&w->blocks) == tg_remote_write_body_is_empty(&w->plain),
         "empty or not");
    tg_buf_reset(&w->unpacked);
    must(tg_compress_decode(&w->compress, TG_ENCODING_SNAPPY, w->packed.data + skip,
                            w->packed.len - skip, MAX_BYTES, &w->unpacked, &err) == TG_OK,
         err.msg);
    must(w->unpacked.len == w->whole.len &&
             (w->whole.len == 0 || memcmp(w->unpacked.data, w->whole.data, w->whole.len) == 0),
         "the block is not the plain body");
    w->counts->n_bodies++;
    w->counts->plain_bytes += w->whole.len;
    w->counts->block_bytes += w->packed.len - skip;
    if (w->has_exemplars || w->whole.len == 0) return; /* exemplars go with another point then */
    char *grouped = decoded(&w->whole);
    char *single = decoded(&w->single);
    must(strcmp(grouped, single) == 0, "grouped points are not those that came");
    free(grouped);
    free(single);
}

void tg_body_script(const uint8_t *bytes, size_t len, struct tg_body_counts *to)
{
    static const int64_t starts_ns[] = {INT64_C(1700000000000000000), 0, INT64_C(-3600000000000),
                                        INT64_C(100000000000)};
    struct script s = {bytes, bytes + len};
    static struct world w;
    int64_t ts_ns = starts_ns[next(&s) % 4];
    w.counts = to;
    if (!w.shared_parts) make_all_series(&w);
    tg_remote_write_body_init(&w.blocks, w.shared_parts);
    tg_remote_write_body_init(&w.plain, w.shared_parts);
    tg_compress_init(&w.compress);
    struct tg_buf *const bufs[] = {&w.packed, &w.unpacked, &w.whole, &w.single};
    for (unsigned i = 0; i < 4; i++) tg_buf_init(bufs[i], 0);
    while (s.at < s.end) {
        begin(&w);
        do add_group(&w, &s, &ts_ns);
        while (s.at < s.end && next(&s) != 0);
        end(&w);
    }
    for (unsigned i = 0; i < 4; i++) tg_buf_deinit(bufs[i]);
    tg_remote_write_body_deinit(&w.blocks);
    tg_remote_write_body_deinit(&w.plain);
    tg_compress_deinit(&w.compress);
}
