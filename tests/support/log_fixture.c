#include "tests/support/log_fixture.h"
#include "tests/support/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const lf_targets[LF_TARGETS] = {"archive", "influx", "prom"};

static void *must(void *p)
{
    if (!p) abort();
    return p;
}

uint64_t lf_rnd(struct lf *f)
{
    return rng_next(&f->rng);
}

void lf_init(struct lf *f, uint32_t n_series, uint64_t seed)
{
    memset(f, 0, sizeof(*f));
    f->rng = rng_seed(seed);
    f->table = must(tg_table_new(&(struct tg_table_config){.max_series = LF_MAX_SERIES}));
    f->series = must(calloc(n_series, sizeof(struct tg_series *)));
    f->state = must(calloc(n_series, sizeof(uint64_t)));
    f->n_series = n_series;
    for (uint32_t i = 0; i < n_series; i++) {
        char name[64], host[64];
        (void)snprintf(name, sizeof(name), "system.metric.number_%u", i % 50);
        (void)snprintf(host, sizeof(host), "host-%u.example.com", i / 50);
        struct tg_tag tags[] = {
            {.key = "host.name",
             .key_len = 9,
             .value = host,
             .value_len = (uint32_t)strlen(host),
             .origin = TG_ORIGIN_RESOURCE},
            {.key = "service.name",
             .key_len = 12,
             .value = "shop",
             .value_len = 4,
             .origin = TG_ORIGIN_RESOURCE},
            {.key = "state", .key_len = 5, .value = "idle", .value_len = 4},
        };
        struct tg_series_desc d = {.name = name,
                                   .name_len = (uint32_t)strlen(name),
                                   .unit = "By",
                                   .unit_len = 2,
                                   .kind = i % 2 ? TG_KIND_COUNTER : TG_KIND_GAUGE,
                                   .n_tags = 3,
                                   .tags = tags};
        const int ticket = tg_deferred_free_enter(tg_table_guard(f->table));
        if (tg_table_intern(f->table, &d, &f->series[i], NULL) != TG_OK ||
            !tg_series_try_ref(f->series[i]))
            abort();
        tg_deferred_free_exit(tg_table_guard(f->table), ticket);
        f->state[i] = lf_rnd(f) % 10000;
    }
}

void lf_deinit(struct lf *f)
{
    for (uint32_t i = 0; i < f->n_series; i++) tg_series_unref(f->series[i]);
    free(f->series);
    free(f->state);
    tg_table_free(f->table);
    memset(f, 0, sizeof(*f));
}

static struct tg_point *push(struct lf *f, struct tg_batch *b, uint32_t series)
{
    if (tg_batch_reserve(b, 1) != TG_OK) abort();
    struct tg_point *p = tg_batch_push(b);
    memset(p, 0, sizeof(*p));
    p->series = f->series[series];
    p->routed = f->routed;
    if (f->routed) p->targets = (uint32_t)(series % 8);
    return p;
}

void lf_scrape(struct lf *f, struct tg_batch *b, uint32_t first, uint32_t n, int64_t ts_ns)
{
    for (uint32_t i = first; i < first + n; i++) {
        const uint32_t k = i % f->n_series;
        struct tg_point *p = push(f, b, k);
        p->ts_ns = ts_ns;
        p->start_ns = INT64_C(1750000000000000000);
        if (k % 4 == 1) { /* integer counter */
            p->type = TG_VALUE_INT64;
            f->state[k] += 100 + lf_rnd(f) % 20;
            p->value.i64 = (int64_t)f->state[k];
        } else if (k % 4 == 3) { /* counter in a double */
            p->type = TG_VALUE_DOUBLE;
            f->state[k] += lf_rnd(f) % 1000;
            p->value.f64 = (double)f->state[k];
        } else { /* gauge with two decimals, drifting */
            p->type = TG_VALUE_DOUBLE;
            f->state[k] += lf_rnd(f) % 101 - 50;
            p->value.f64 = (double)(int64_t)f->state[k] / 100.0;
        }
    }
}

static const double odd_doubles[] = {0.0,        -0.0,      1e308, -1e-320,
                                     INFINITY,   -INFINITY, 0.1,   1.0 / 3,
                                     1e15,       1e16,      -12.5, 9007199254740993.0,
                                     123456.789, -0.00001,  1e-12, 4503599627370496.5};

static double odd_double(struct lf *f)
{
    uint64_t bits;
    double v;
    switch (lf_rnd(f) % 4) {
    case 0: return odd_doubles[lf_rnd(f) % (sizeof(odd_doubles) / sizeof(odd_doubles[0]))];
    case 1: bits = lf_rnd(f); break;
    case 2: bits = UINT64_C(0x7ff0000000000000) | (lf_rnd(f) >> 12); break; /* NaN payloads */
    default: return (double)(int64_t)(lf_rnd(f) % 100000) / 1000.0;
    }
    memcpy(&v, &bits, 8);
    return v;
}

/* Of any magnitude. The two draws are in order, so that every compiler makes the same points. */
static uint64_t any_size(struct lf *f)
{
    const uint64_t v = lf_rnd(f);
    return v >> (lf_rnd(f) % 64);
}

static uint64_t *counts(struct lf *f, struct tg_batch *b, uint32_t n)
{
    uint64_t *c = must(tg_arena_alloc(&b->arena, n * sizeof(*c) + 1));
    for (uint32_t i = 0; i < n; i++) c[i] = any_size(f);
    return c;
}

static double *floats(struct lf *f, struct tg_batch *b, uint32_t n)
{
    double *v = must(tg_arena_alloc(&b->arena, n * sizeof(*v) + 1));
    for (uint32_t i = 0; i < n; i++) v[i] = odd_double(f);
    return v;
}

static void put_string(struct lf *f, struct tg_batch *b, struct tg_string *s)
{
    char text[64];
    s->len = (uint32_t)(lf_rnd(f) % sizeof(text));
    for (uint32_t i = 0; i < s->len; i++) text[i] = (char)lf_rnd(f);
    s->ptr = must(tg_arena_strndup(&b->arena, text, s->len));
}

static void put_large(struct lf *f, struct tg_batch *b, struct tg_point *p)
{
    static const double bounds[] = {0.005, 0.01, 0.1, 1, 10};
    switch (p->type) {
    case TG_VALUE_HISTOGRAM: {
        struct tg_histogram *h = must(tg_arena_calloc(&b->arena, 1, sizeof(*h)));
        const uint64_t has = lf_rnd(f);
        h->count = lf_rnd(f);
        h->has_sum = has & 1;
        h->has_min = has & 2;
        h->has_max = has & 4;
        if (h->has_sum) h->sum = odd_double(f);
        if (h->has_min) h->min = odd_double(f);
        if (h->has_max) h->max = odd_double(f);
        h->n_bounds = (uint32_t)(has >> 3) % 6;
        h->bounds = bounds;
        h->n_buckets = has & 64 ? h->n_bounds + 1 : 0;
        h->buckets = counts(f, b, h->n_buckets);
        p->value.histogram = h;
        break;
    }
    case TG_VALUE_EXP_HISTOGRAM: {
        struct tg_exp_histogram *h = must(tg_arena_calloc(&b->arena, 1, sizeof(*h)));
        const uint64_t has = lf_rnd(f);
        h->count = lf_rnd(f);
        h->zero_count = lf_rnd(f);
        h->has_sum = has & 1;
        h->has_min = has & 2;
        h->has_max = has & 4;
        if (h->has_sum) h->sum = odd_double(f);
        if (h->has_min) h->min = odd_double(f);
        if (h->has_max) h->max = odd_double(f);
        h->zero_threshold = odd_double(f);
        h->scale = (int32_t)lf_rnd(f);
        h->pos_offset = (int32_t)lf_rnd(f);
        h->neg_offset = (int32_t)lf_rnd(f);
        h->n_pos = (uint32_t)lf_rnd(f) % 20;
        h->n_neg = (uint32_t)lf_rnd(f) % 20;
        h->pos = counts(f, b, h->n_pos);
        h->neg = counts(f, b, h->n_neg);
        p->value.exp_histogram = h;
        break;
    }
    case TG_VALUE_FLOAT_HISTOGRAM: {
        struct tg_float_histogram *h = must(tg_arena_calloc(&b->arena, 1, sizeof(*h)));
        h->count = odd_double(f);
        h->zero_count = odd_double(f);
        h->sum = odd_double(f);
        h->zero_threshold = odd_double(f);
        h->scale = lf_rnd(f) % 3 ? (int32_t)(lf_rnd(f) % 13) - 4 : TG_SCALE_CUSTOM;
        h->pos_offset = (int32_t)lf_rnd(f);
        h->neg_offset = (int32_t)(lf_rnd(f) % 100);
        h->n_pos = (uint32_t)(lf_rnd(f) % 9);
        h->n_neg = (uint32_t)(lf_rnd(f) % 3);
        h->n_bounds = h->scale == TG_SCALE_CUSTOM ? 5 : 0;
        h->pos = floats(f, b, h->n_pos);
        h->neg = floats(f, b, h->n_neg);
        h->bounds = h->n_bounds ? bounds : NULL;
        p->flags = (uint8_t)(lf_rnd(f) % 4 << TG_POINT_RESET_SHIFT);
        p->value.float_histogram = h;
        break;
    }
    case TG_VALUE_SUMMARY: {
        struct tg_summary *s = must(tg_arena_calloc(&b->arena, 1, sizeof(*s)));
        s->count = lf_rnd(f);
        s->sum = odd_double(f);
        s->n_quantiles = (uint32_t)lf_rnd(f) % 5;
        struct tg_quantile *q = must(tg_arena_calloc(&b->arena, 5, sizeof(*q)));
        for (uint32_t i = 0; i < s->n_quantiles; i++) {
            q[i].quantile = i / 5.0;
            q[i].value = odd_double(f);
        }
        s->quantiles = q;
        p->value.summary = s;
        break;
    }
    default: {
        struct tg_string *s = must(tg_arena_calloc(&b->arena, 1, sizeof(*s)));
        put_string(f, b, s);
        p->value.string = s;
    }
    }
}

static void put_exemplars(struct lf *f, struct tg_batch *b, struct tg_point *p)
{
    struct tg_exemplars *x = must(tg_arena_calloc(&b->arena, 1, sizeof(*x)));
    x->n = (uint32_t)lf_rnd(f) % 3;
    struct tg_exemplar *e = must(tg_arena_calloc(&b->arena, 3, sizeof(*e)));
    for (uint32_t i = 0; i < x->n; i++) {
        e[i].ts_ns = (int64_t)lf_rnd(f);
        e[i].value = odd_double(f);
        e[i].is_int = lf_rnd(f) & 1;
        e[i].has_trace = lf_rnd(f) & 1;
        if (e[i].has_trace) {
            memset(e[i].trace_id, (int)(i + 1), 16);
            memset(e[i].span_id, (int)(i + 2), 8);
        }
        e[i].n_labels = (uint32_t)lf_rnd(f) % 3;
        struct tg_string *l = must(tg_arena_calloc(&b->arena, 6, sizeof(*l)));
        for (uint32_t k = 0; k < 2 * e[i].n_labels; k++) put_string(f, b, &l[k]);
        e[i].labels = l;
    }
    x->items = e;
    p->exemplars = x;
}

void lf_mixed(struct lf *f, struct tg_batch *b, uint32_t n, int64_t ts_ns)
{
    for (uint32_t i = 0; i < n; i++) {
        struct tg_point *p = push(f, b, (uint32_t)(lf_rnd(f) % f->n_series));
        const uint64_t r = lf_rnd(f);
        p->ts_ns = r % 7 == 0 ? (int64_t)lf_rnd(f) : ts_ns + (int64_t)(r % 5) * 1000;
        p->start_ns = r % 3 == 0 ? ts_ns - 1000 : r % 11 == 0 ? (int64_t)lf_rnd(f) : 0;
        p->type = (uint8_t)(r >> 8) % TG_VALUE_TYPES;
        if ((r >> 16) % 3) p->type = (uint8_t)(r >> 20) % 3; /* mostly numbers */
        switch (p->type) {
        case TG_VALUE_DOUBLE: p->value.f64 = odd_double(f); break;
        case TG_VALUE_INT64:
        case TG_VALUE_UINT64: p->value.u64 = any_size(f); break;
        case TG_VALUE_BOOL: p->value.i64 = (int64_t)(lf_rnd(f) & 1); break;
        case TG_VALUE_NONE: p->flags = TG_POINT_NO_VALUE; break;
        case TG_VALUE_EXEMPLARS: put_exemplars(f, b, p); break;
        default: put_large(f, b, p);
        }
        if (r % 13 == 0 && !p->exemplars) put_exemplars(f, b, p);
    }
}

void lf_append(struct tg_batch *to, const struct tg_batch *from)
{
    for (uint32_t i = 0; i < from->n_points; i++)
        if (tg_batch_copy_point(to, &from->points[i]) != TG_OK) abort();
}

bool lf_equal(const struct tg_point *a, const struct tg_point *b)
{
    return a->series == b->series && a->routed == b->routed &&
           (!a->routed || a->targets == b->targets) && tg_point_equal(a, b);
}
