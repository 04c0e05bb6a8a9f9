#include "tests/support/parquet_sample.h"

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/parquet/parquet_json.h"

void tg_sample_init(struct tg_sample *s)
{
    memset(s, 0, sizeof(*s));
    tg_arena_init(&s->arena, 0);
}

void tg_sample_deinit(struct tg_sample *s)
{
    tg_arena_deinit(&s->arena);
    tg_free(s->points);
}

static void *alloc(struct tg_sample *s, size_t n)
{
    void *p = tg_arena_calloc(&s->arena, 1, n ? n : 1);
    if (!p) abort();
    return p;
}

const uint8_t *tg_sample_series(struct tg_sample *s, const char *name, uint32_t field_len,
                                enum tg_kind kind, enum tg_temporality temporality,
                                const char *unit, const char *const *tags, unsigned n_tags,
                                const uint8_t *origins, uint32_t *len)
{
    struct tg_tag t[128];
    struct tg_series_desc d = {.name = name,
                               .unit = unit,
                               .name_len = (uint32_t)strlen(name),
                               .unit_len = (uint32_t)strlen(unit),
                               .field_len = field_len,
                               .kind = (uint8_t)kind,
                               .temporality = (uint8_t)temporality,
                               .n_tags = n_tags,
                               .tags = t};
    for (unsigned i = 0; i < n_tags; i++) {
        const char *eq = strchr(tags[i], '=');
        t[i] = (struct tg_tag){tags[i], eq + 1, (uint32_t)(eq - tags[i]), (uint32_t)strlen(eq + 1),
                               origins ? origins[i] : TG_ORIGIN_POINT};
    }
    struct tg_buf b;
    struct tg_err err;
    tg_buf_init(&b, 0);
    if (tg_series_desc_canonicalise(&d, &tg_series_limits_default, &err) != TG_OK ||
        tg_series_desc_encode(&d, &b) != TG_OK)
        abort();
    uint8_t *copy = alloc(s, b.len);
    memcpy(copy, b.data, b.len);
    *len = (uint32_t)b.len;
    tg_buf_deinit(&b);
    return copy;
}

struct tg_sample_point *tg_sample_add(struct tg_sample *s, const uint8_t *series, uint32_t len,
                                      int64_t ts_ns, enum tg_value_type type)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->points = tg_reallocarray(s->points, s->cap, sizeof(*s->points));
        if (!s->points) abort();
    }
    struct tg_sample_point *p = &s->points[s->n++];
    memset(p, 0, sizeof(*p));
    p->series = series;
    p->series_len = len;
    p->point.ts_ns = ts_ns;
    p->point.type = (uint8_t)type;
    return p;
}

static double from_bits(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

static const struct tg_string *string(struct tg_sample *s, const char *text, uint32_t len)
{
    struct tg_string *p = alloc(s, sizeof(*p));
    char *copy = alloc(s, len);
    memcpy(copy, text, len);
    p->ptr = copy;
    p->len = len;
    return p;
}

static const double odd_doubles[] = {0.0, -0.0, 1.5, -1e308, DBL_MAX, DBL_MIN, 4.9e-324, 0.1, 1e-7};
static const uint64_t odd_bits[] = {UINT64_C(0x7ff0000000000000), UINT64_C(0xfff0000000000000),
                                    UINT64_C(0x7ff8000000000000), UINT64_C(0x7ff0000000000002),
                                    UINT64_C(0xfff8000000000001), UINT64_C(0x7fffffffffffffff)};

static void add_scalars(struct tg_sample *s, int64_t t)
{
    static const char *const tags[] = {"host=a", "zone=\xe2\x82\xac uro", "service.name=x y"};
    static const uint8_t origins[] = {TG_ORIGIN_POINT, TG_ORIGIN_SCOPE, TG_ORIGIN_RESOURCE};
    static const int64_t ints[] = {0, -1, 1, INT64_MIN, INT64_MAX, 42};
    static const uint64_t uints[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63};
    uint32_t len;
    const uint8_t *gauge = tg_sample_series(s, "cpu.load", 0, TG_KIND_GAUGE, TG_TEMPORALITY_NONE,
                                            "1", tags, 3, origins, &len);
    for (unsigned i = 0; i < 9; i++)
        tg_sample_add(s, gauge, len, t + (int64_t)i * 10, TG_VALUE_DOUBLE)->point.value.f64 =
            odd_doubles[i];
    for (unsigned i = 0; i < 6; i++)
        tg_sample_add(s, gauge, len, t + 100 + i, TG_VALUE_DOUBLE)->point.value.f64 =
            from_bits(odd_bits[i]);
    /* out of order, and twice at one time */
    tg_sample_add(s, gauge, len, t + 5, TG_VALUE_DOUBLE)->point.value.f64 = 5;
    tg_sample_add(s, gauge, len, t + 5, TG_VALUE_DOUBLE)->point.value.f64 = 6;

    const uint8_t *counter = tg_sample_series(s, "requests", 0, TG_KIND_COUNTER,
                                              TG_TEMPORALITY_CUMULATIVE, "", tags, 1, NULL, &len);
    for (unsigned i = 0; i < 6; i++) {
        struct tg_point *p = &tg_sample_add(s, counter, len, t + i, TG_VALUE_INT64)->point;
        p->start_ns = i == 3 ? 0 : t - 1000 - (int64_t)i;
        p->value.i64 = ints[i];
    }
    struct tg_point *none = &tg_sample_add(s, counter, len, t + 50, TG_VALUE_NONE)->point;
    none->flags = TG_POINT_NO_VALUE;

    /* the same form from two addresses, without tags */
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *u = tg_sample_series(s, "mem_used", 4, TG_KIND_UNKNOWN, TG_TEMPORALITY_NONE,
                                            "", NULL, 0, NULL, &len);
        tg_sample_add(s, u, len, t + 7 - (int64_t)i, TG_VALUE_UINT64)->point.value.u64 = uints[i];
    }
    const uint8_t *b = tg_sample_series(s, "mem_ok", 2, TG_KIND_UNKNOWN, TG_TEMPORALITY_NONE, "",
                                        tags, 2, NULL, &len);
    for (unsigned i = 0; i < 11; i++)
        tg_sample_add(s, b, len, t + i, TG_VALUE_BOOL)->point.value.i64 = i % 3 == 0;
}

static void add_strings(struct tg_sample *s, int64_t t)
{
    uint32_t len;
    const uint8_t *series = tg_sample_series(s, "log_line", 4, TG_KIND_UNKNOWN, TG_TEMPORALITY_NONE,
                                             "", NULL, 0, NULL, &len);
    char longest[300];
    memset(longest, 'x', sizeof(longest));
    const struct tg_string *texts[] = {string(s, "", 0), string(s, "plain", 5),
                                       string(s, "quote\" \\ \n\t \xf0\x9f\x8c\x8a", 17),
                                       string(s, longest, sizeof(longest)), string(s, "plain", 5)};
    for (unsigned i = 0; i < 5; i++)
        tg_sample_add(s, series, len, t + i, TG_VALUE_STRING)->point.value.string = texts[i];
}

static const struct tg_exemplars *exemplars(struct tg_sample *s, int64_t t)
{
    struct tg_exemplar *x = alloc(s, 4 * sizeof(*x));
    struct tg_string *l = alloc(s, 4 * sizeof(*l));
    l[0] = *string(s, "user", 4);
    l[1] = *string(s, "a\"b\\c\n", 6);
    l[2] = *string(s, "k}\":", 4);
    l[3] = *string(s, "", 0);
    x[0] = (struct tg_exemplar){
        .ts_ns = t, .value = 0.1, .has_trace = true, .n_labels = 2, .labels = l};
    for (unsigned i = 0; i < 16; i++) x[0].trace_id[i] = (uint8_t)(i * 17);
    for (unsigned i = 0; i < 8; i++) x[0].span_id[i] = (uint8_t)(255 - i);
    x[1] = (struct tg_exemplar){.ts_ns = INT64_MIN, .value = 7, .is_int = true};
    x[2] = (struct tg_exemplar){.ts_ns = 0, .value = from_bits(odd_bits[3])};
    x[3] = (struct tg_exemplar){.ts_ns = INT64_MAX, .value = -INFINITY};
    struct tg_exemplars *e = alloc(s, sizeof(*e));
    e->n = 4;
    e->items = x;
    return e;
}

static void add_histograms(struct tg_sample *s, int64_t t)
{
    static const char *const tags[] = {"path=/x"};
    uint32_t len;
    const uint8_t *series = tg_sample_series(s, "latency", 0, TG_KIND_HISTOGRAM,
                                             TG_TEMPORALITY_DELTA, "ms", tags, 1, NULL, &len);
    static const uint32_t n_bounds[] = {3, 0, 0, 40, 1};
    for (unsigned i = 0; i < 5; i++) {
        struct tg_histogram *h = alloc(s, sizeof(*h));
        double *bounds = alloc(s, n_bounds[i] * sizeof(*bounds));
        uint64_t *buckets = alloc(s, (n_bounds[i] + 1) * sizeof(*buckets));
        for (uint32_t k = 0; k < n_bounds[i]; k++) bounds[k] = k * 0.5 - 1;
        for (uint32_t k = 0; k <= n_bounds[i]; k++) buckets[k] = k == 1 ? UINT64_MAX : k * i;
        h->count = i == 2 ? UINT64_MAX : i;
        h->n_bounds = n_bounds[i];
        h->n_buckets = i == 1 ? 0 : n_bounds[i] + 1; /* i == 2: one bucket, no bounds */
        h->bounds = bounds;
        h->buckets = buckets;
        h->has_sum = i != 1;
        h->sum = i == 0 ? -0.0 : i * 1.25;
        h->has_min = i & 1;
        h->min = -1.5;
        h->has_max = i == 3;
        h->max = from_bits(odd_bits[2]);
        if (!h->has_sum) h->sum = 0;
        if (!h->has_min) h->min = 0;
        if (!h->has_max) h->max = 0;
        struct tg_point *p = &tg_sample_add(s, series, len, t + i, TG_VALUE_HISTOGRAM)->point;
        p->start_ns = t - 5;
        p->value.histogram = h;
        if (i == 0 || i == 3) p->exemplars = exemplars(s, t);
    }
    tg_sample_add(s, series, len, t + 5, TG_VALUE_EXEMPLARS)->point.exemplars = exemplars(s, t);
    /* it ended: the file says so, and no value */
    static const struct tg_histogram ended;
    struct tg_point *p = &tg_sample_add(s, series, len, t + 90, TG_VALUE_HISTOGRAM)->point;
    p->flags = TG_POINT_NO_VALUE;
    p->value.histogram = &ended;
}

static void add_exp_histograms(struct tg_sample *s, int64_t t)
{
    uint32_t len;
    const uint8_t *series = tg_sample_series(s, "latency.exp", 0, TG_KIND_EXP_HISTOGRAM,
                                             TG_TEMPORALITY_CUMULATIVE, "s", NULL, 0, NULL, &len);
    for (unsigned i = 0; i < 3; i++) {
        struct tg_exp_histogram *h = alloc(s, sizeof(*h));
        uint64_t *counts = alloc(s, 8 * sizeof(*counts));
        for (unsigned k = 0; k < 8; k++) counts[k] = k * 1000;
        *h = (struct tg_exp_histogram){.count = 9 + i,
                                       .zero_count = i ? UINT64_MAX : 0,
                                       .sum = i * 2.5,
                                       .min = -1,
                                       .max = 3,
                                       .zero_threshold = i * 1e-9,
                                       .has_sum = true,
                                       .has_min = i == 1,
                                       .has_max = i == 2,
                                       .scale = i == 0 ? -10 : 20,
                                       .pos_offset = i == 1 ? INT32_MIN : 3,
                                       .neg_offset = i == 1 ? INT32_MAX : -3,
                                       .n_pos = i == 2 ? 0 : 8,
                                       .n_neg = i * 2,
                                       .pos = counts,
                                       .neg = counts};
        if (!h->has_min) h->min = 0;
        if (!h->has_max) h->max = 0;
        struct tg_point *p = &tg_sample_add(s, series, len, t + i, TG_VALUE_EXP_HISTOGRAM)->point;
        p->value.exp_histogram = h;
    }
    /* native histograms of Prometheus: the same series, floats and custom buckets, reset hints */
    for (unsigned i = 0; i < 5; i++) {
        struct tg_float_histogram *h = alloc(s, sizeof(*h));
        double *counts = alloc(s, 8 * sizeof(*counts));
        for (unsigned k = 0; k < 8; k++) counts[k] = k == 3 ? from_bits(odd_bits[i]) : k * 0.25;
        *h = (struct tg_float_histogram){.count = from_bits(odd_bits[4 - i]),
                                         .zero_count = i * 0.5,
                                         .sum = i ? -1.5 : from_bits(odd_bits[1]),
                                         .zero_threshold = i * 1e-9,
                                         .scale = i > 2 ? TG_SCALE_CUSTOM : (int32_t)i - 4,
                                         .pos_offset = i == 1 ? INT32_MIN : 0,
                                         .neg_offset = (int32_t)i,
                                         .n_pos = i == 4 ? 1 : 8,
                                         .n_neg = i < 2 ? i * 3 : 0,
                                         .n_bounds = i == 3 ? 7 : 0,
                                         .pos = counts,
                                         .neg = counts,
                                         .bounds = counts};
        struct tg_point *p =
            &tg_sample_add(s, series, len, t + 3 + i, TG_VALUE_FLOAT_HISTOGRAM)->point;
        p->flags = (uint8_t)(i % 4 << TG_POINT_RESET_SHIFT);
        p->value.float_histogram = h;
    }
}

static void add_summaries(struct tg_sample *s, int64_t t)
{
    uint32_t len;
    const uint8_t *series = tg_sample_series(s, "gc.pause", 0, TG_KIND_SUMMARY, TG_TEMPORALITY_NONE,
                                             "s", NULL, 0, NULL, &len);
    for (unsigned i = 0; i < 3; i++) {
        struct tg_summary *m = alloc(s, sizeof(*m));
        struct tg_quantile *q = alloc(s, 3 * sizeof(*q));
        for (unsigned k = 0; k < 3; k++) q[k] = (struct tg_quantile){k * 0.5, k ? k * 1.1 : NAN};
        *m = (struct tg_summary){
            .count = i, .sum = i * 0.5, .n_quantiles = i == 1 ? 0 : 3, .quantiles = q};
        tg_sample_add(s, series, len, t + i, TG_VALUE_SUMMARY)->point.value.summary = m;
    }
}

void tg_sample_edges(struct tg_sample *s, int64_t day_ns, bool extreme_times)
{
    add_scalars(s, day_ns);
    add_strings(s, day_ns);
    add_histograms(s, day_ns);
    add_exp_histograms(s, day_ns);
    add_summaries(s, day_ns);
    if (!extreme_times) return;
    static const int64_t times[] = {INT64_MIN, INT64_MAX, 0, -1, 1};
    uint32_t len;
    const uint8_t *series = tg_sample_series(s, "times", 0, TG_KIND_GAUGE, TG_TEMPORALITY_NONE, "",
                                             NULL, 0, NULL, &len);
    for (unsigned i = 0; i < 5; i++) {
        struct tg_point *p = &tg_sample_add(s, series, len, times[i], TG_VALUE_INT64)->point;
        p->value.i64 = i;
        p->start_ns = times[4 - i];
    }
}

void tg_sample_scrapes(struct tg_sample *s, uint32_t n_series, uint32_t n_points, unsigned n_tags,
                       int64_t first_ns, int64_t every_ns)
{
    const uint8_t **series = alloc(s, n_series * sizeof(*series));
    uint32_t *lens = alloc(s, n_series * sizeof(*lens));
    char text[128][64];
    const char *tags[128];
    for (uint32_t i = 0; i < n_series; i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "app.metric.%03" PRIu32, i % 100);
        for (unsigned k = 0; k < n_tags; k++) {
            /* the first tells the series apart, the others have few values */
            const uint32_t v = k == 0 ? i : i / 100 % (k * 3 + 1);
            (void)snprintf(text[k], sizeof(text[k]), "attribute.%u=value-%" PRIu32, k, v);
            tags[k] = text[k];
        }
        series[i] = tg_sample_series(s, name, 0, i % 2 ? TG_KIND_COUNTER : TG_KIND_GAUGE,
                                     i % 2 ? TG_TEMPORALITY_CUMULATIVE : TG_TEMPORALITY_NONE, "By",
                                     tags, n_tags, NULL, &lens[i]);
    }
    for (uint32_t t = 0; t < n_points; t++) {
        for (uint32_t i = 0; i < n_series; i++) {
            struct tg_point *p = &tg_sample_add(s, series[i], lens[i],
                                                first_ns + t * every_ns + i % 7, TG_VALUE_DOUBLE)
                                      ->point;
            p->value.f64 = i % 2 ? (double)t * (i % 50) : 20 + sin(t * 0.1 + i);
            if (i % 2) p->start_ns = first_ns - 1000000000;
            if (i % 10 == 1) {
                p->type = TG_VALUE_INT64;
                p->value.i64 = (int64_t)t * i;
            }
        }
    }
}

static enum tg_code to_buf(void *arg, const void *bytes, size_t len, struct tg_err *err)
{
    (void)err;
    return tg_buf_append(arg, bytes, len);
}

enum tg_code tg_sample_write(const struct tg_sample *s, const struct tg_parquet_options *o,
                             struct tg_parquet_info *info, struct tg_buf *out, struct tg_err *err)
{
    struct tg_parquet_writer *w = tg_parquet_writer_new(o);
    enum tg_code code = w ? TG_OK : TG_ERR_NOMEM;
    for (uint32_t i = 0; i < s->n && code == TG_OK; i++)
        code = tg_parquet_writer_add(w, s->points[i].series, s->points[i].series_len,
                                     &s->points[i].point);
    if (code == TG_OK) code = tg_parquet_writer_finish(w, info, to_buf, out, err);
    tg_parquet_writer_free(w);
    return code;
}

/* ---- printing ---- */

static enum tg_code hex_digits(struct tg_buf *out, const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) TG_TRY(tg_buf_printf(out, "%02x", (uint8_t)p[i]));
    return TG_OK;
}

static enum tg_code hex(struct tg_buf *out, const char *key, const char *p, size_t len,
                        bool is_null)
{
    if (is_null) return tg_buf_printf(out, ",\"%s\":null", key);
    TG_TRY(tg_buf_printf(out, ",\"%s\":\"", key));
    TG_TRY(hex_digits(out, p, len));
    return tg_buf_append(out, "\"", 1);
}

static enum tg_code f64(struct tg_buf *out, const char *key, double v, bool has)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    if (!has) return tg_buf_printf(out, ",\"%s\":null", key);
    return tg_buf_printf(out, ",\"%s\":\"%016" PRIx64 "\"", key, bits);
}

static enum tg_code i64(struct tg_buf *out, const char *key, int64_t v, bool has)
{
    if (!has) return tg_buf_printf(out, ",\"%s\":null", key);
    return tg_buf_printf(out, ",\"%s\":\"%" PRId64 "\"", key, v);
}

static enum tg_code u64(struct tg_buf *out, const char *key, uint64_t v, bool has)
{
    if (!has) return tg_buf_printf(out, ",\"%s\":null", key);
    return tg_buf_printf(out, ",\"%s\":\"%" PRIu64 "\"", key, v);
}

static enum tg_code list(struct tg_buf *out, const char *key, const uint64_t *v, uint32_t n,
                         size_t stride, bool as_hex, bool has)
{
    if (!has) return tg_buf_printf(out, ",\"%s\":null", key);
    TG_TRY(tg_buf_printf(out, ",\"%s\":[", key));
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t x = v[i * stride];
        TG_TRY(tg_buf_printf(out, as_hex ? "%s\"%016" PRIx64 "\"" : "%s\"%" PRIu64 "\"",
                             i ? "," : "", x));
    }
    return tg_buf_append(out, "]", 1);
}

static const uint64_t *bits_of(const void *p)
{
    return p; /* doubles are printed by their bits */
}

enum tg_code tg_sample_print(const struct tg_series_desc *d, const struct tg_point *p,
                             struct tg_buf *out)
{
    static const struct tg_histogram no_h;
    static const struct tg_exp_histogram no_e;
    static const struct tg_summary no_m;
    const uint8_t type = tg_point_value_type(p);
    const bool is_h = type == TG_VALUE_HISTOGRAM, is_e = type == TG_VALUE_EXP_HISTOGRAM;
    const bool is_m = type == TG_VALUE_SUMMARY, is_s = type == TG_VALUE_STRING;
    const struct tg_histogram *h = is_h ? p->value.histogram : &no_h;
    const struct tg_exp_histogram *e = is_e ? p->value.exp_histogram : &no_e;
    const struct tg_summary *m = is_m ? p->value.summary : &no_m;
    static const struct tg_float_histogram no_f;
    const bool is_f = p->type == TG_VALUE_FLOAT_HISTOGRAM;
    const struct tg_float_histogram *x = is_f ? p->value.float_histogram : &no_f;
    const bool is_custom = is_f && x->scale == TG_SCALE_CUSTOM;
    const char *kind = tg_kind_name((enum tg_kind)d->kind);
    const char *temporality = d->temporality == TG_TEMPORALITY_DELTA ? "delta" : "cumulative";
    char origins[128];
    bool has_origins = false;

    TG_TRY(tg_buf_printf(out, "{\"time\":\"%" PRId64 "\"", p->ts_ns));
    TG_TRY(i64(out, "start_time", p->start_ns, p->start_ns != 0));
    TG_TRY(hex(out, "name", d->name, d->name_len, false));
    TG_TRY(hex(out, "field", d->name + d->name_len - d->field_len, d->field_len, !d->field_len));
    TG_TRY(hex(out, "kind", kind, strlen(kind), false));
    TG_TRY(hex(out, "unit", d->unit, d->unit_len, !d->unit_len));
    TG_TRY(hex(out, "temporality", temporality, strlen(temporality), !d->temporality));
    TG_TRY(tg_buf_printf(out, ",\"tags\":["));
    for (uint32_t i = 0; i < d->n_tags; i++) {
        TG_TRY(tg_buf_printf(out, "%s{\"k\":\"", i ? "," : ""));
        TG_TRY(hex_digits(out, d->tags[i].key, d->tags[i].key_len));
        TG_TRY(tg_buf_append(out, "\"", 1));
        TG_TRY(hex(out, "v", d->tags[i].value, d->tags[i].value_len, false));
        TG_TRY(tg_buf_append(out, "}", 1));
        origins[i] = "psr"[d->tags[i].origin];
        if (d->tags[i].origin) has_origins = true;
    }
    TG_TRY(tg_buf_append(out, "]", 1));
    TG_TRY(hex(out, "tag_origins", origins, d->n_tags, !has_origins));
    TG_TRY(f64(out, "value", p->value.f64, p->type == TG_VALUE_DOUBLE));
    TG_TRY(i64(out, "value_int", p->value.i64, p->type == TG_VALUE_INT64));
    TG_TRY(u64(out, "value_uint", p->value.u64, p->type == TG_VALUE_UINT64));
    TG_TRY(i64(out, "value_bool", p->value.i64, p->type == TG_VALUE_BOOL));
    TG_TRY(hex(out, "value_string", is_s ? p->value.string->ptr : "",
               is_s ? p->value.string->len : 0, !is_s));
    TG_TRY(u64(out, "count", is_h ? h->count : is_m ? m->count : e->count, is_h || is_e || is_m));
    TG_TRY(f64(out, "sum",
               is_h   ? h->sum
               : is_m ? m->sum
               : is_f ? x->sum
                      : e->sum,
               is_m || is_f || h->has_sum || e->has_sum));
    TG_TRY(f64(out, "min", is_h ? h->min : e->min, h->has_min || e->has_min));
    TG_TRY(f64(out, "max", is_h ? h->max : e->max, h->has_max || e->has_max));
    TG_TRY(list(out, "bounds", bits_of(is_f ? x->bounds : h->bounds),
                is_f ? x->n_bounds : h->n_bounds, 1, true, is_h || is_custom));
    TG_TRY(list(out, "bucket_counts", h->buckets, h->n_buckets, 1, false, is_h));
    TG_TRY(i64(out, "scale", is_f ? x->scale : e->scale, is_e || is_f));
    TG_TRY(u64(out, "zero_count", e->zero_count, is_e));
    TG_TRY(f64(out, "zero_threshold", is_f ? x->zero_threshold : e->zero_threshold, is_e || is_f));
    TG_TRY(i64(out, "positive_offset", is_f ? x->pos_offset : e->pos_offset, is_e || is_f));
    TG_TRY(list(out, "positive_counts", e->pos, e->n_pos, 1, false, is_e));
    TG_TRY(i64(out, "negative_offset", is_f ? x->neg_offset : e->neg_offset, is_e || is_f));
    TG_TRY(list(out, "negative_counts", e->neg, e->n_neg, 1, false, is_e));
    const uint64_t *q = bits_of(m->quantiles);
    TG_TRY(list(out, "quantiles", q, m->n_quantiles, 2, true, is_m));
    TG_TRY(list(out, "quantile_values", m->n_quantiles ? q + 1 : q, m->n_quantiles, 2, true, is_m));
    TG_TRY(i64(out, "flags", p->flags, p->flags != 0));
    if (p->exemplars && p->exemplars->n) {
        struct tg_buf text;
        tg_buf_init(&text, 0);
        enum tg_code code = tg_parquet_exemplars_encode(p->exemplars, &text);
        if (code == TG_OK) code = hex(out, "exemplars", (const char *)text.data, text.len, false);
        tg_buf_deinit(&text);
        TG_TRY(code);
    } else {
        TG_TRY(hex(out, "exemplars", "", 0, true));
    }
    TG_TRY(f64(out, "count_float", x->count, is_f));
    TG_TRY(f64(out, "zero_count_float", x->zero_count, is_f));
    TG_TRY(list(out, "positive_counts_float", bits_of(x->pos), x->n_pos, 1, true, is_f));
    TG_TRY(list(out, "negative_counts_float", bits_of(x->neg), x->n_neg, 1, true, is_f));
    return tg_buf_append(out, "}\n", 2);
}
