#include "tests/support/decode_fixture.h"

#include <stdio.h>
#include <stdlib.h>

static void must(bool ok, const char *what)
{
    if (ok) return;
    (void)fprintf(stderr, "decode fixture: %s\n", what);
    abort();
}

void tg_decode_fixture_init(struct tg_decode_fixture *f, const struct tg_table_config *config)
{
    static const struct tg_table_config defaults = {.max_series = 0};
    f->table = tg_table_new(config ? config : &defaults);
    must(f->table != NULL, "out of memory");
    tg_batch_init(&f->batch, tg_table_guard(f->table), 0, 1 << 24);
    tg_arena_init(&f->scratch, 1 << 24);
    tg_buf_init(&f->text, 0);
    f->d = (struct tg_intake){
        .table = f->table, .batch = &f->batch, .arena = &f->scratch, .now_ns = 777, .now_s = 1};
}

void tg_decode_fixture_deinit(struct tg_decode_fixture *f)
{
    tg_batch_deinit(&f->batch);
    tg_arena_deinit(&f->scratch);
    tg_buf_deinit(&f->text);
    must(tg_table_validate(f->table), "the table is broken");
    tg_table_free(f->table);
}

void tg_decode_fixture_reset(struct tg_decode_fixture *f)
{
    tg_batch_reset(&f->batch);
    tg_arena_reset(&f->scratch);
    f->d.n_accepted = f->d.n_rejected = f->d.n_misses = 0;
    f->d.n_exemplars_invalid = f->d.n_exemplars_memory = f->d.n_attributes_twice = 0;
    memset(f->d.n_metadata, 0, sizeof(f->d.n_metadata));
    f->d.first_code = TG_OK;
    f->d.first_reject = (struct tg_err){.code = TG_OK};
}

enum tg_code tg_decode_exact(struct tg_decode_fixture *f, tg_decoder decode, const void *bytes,
                             size_t len, struct tg_err *err)
{
    uint8_t *exact = malloc(len + !len);
    must(exact != NULL, "out of memory");
    if (len) memcpy(exact, bytes, len);
    const enum tg_code code = decode(exact, len, &f->d, err);
    free(exact);
    return code;
}

/* --- text --- */

static void put_bucket_list(struct tg_buf *b, const char *what, const uint64_t *v, uint32_t n)
{
    must(tg_buf_printf(b, " %s[", what) == TG_OK, "text");
    for (uint32_t i = 0; i < n; i++)
        must(tg_buf_printf(b, "%s%llu", i ? " " : "", (unsigned long long)v[i]) == TG_OK, "text");
    must(tg_buf_append(b, "]", 1) == TG_OK, "text");
}

static void put_optional(struct tg_buf *b, const char *what, bool has, double v)
{
    if (has) must(tg_buf_printf(b, " %s=%.17g", what, v) == TG_OK, "text");
}

static void put_value(struct tg_buf *b, const struct tg_point *p)
{
    enum tg_code code = TG_OK;
    if ((p->flags & TG_POINT_NO_VALUE) && p->type != TG_VALUE_NONE)
        must(tg_buf_append(b, " ended", 6) == TG_OK, "text");
    switch (p->type) {
    case TG_VALUE_DOUBLE: code = tg_buf_printf(b, " d:%.17g", p->value.f64); break;
    case TG_VALUE_INT64: code = tg_buf_printf(b, " i:%lld", (long long)p->value.i64); break;
    case TG_VALUE_UINT64:
        code = tg_buf_printf(b, " u:%llu", (unsigned long long)p->value.u64);
        break;
    case TG_VALUE_BOOL: code = tg_buf_printf(b, " b:%lld", (long long)p->value.i64); break;
    case TG_VALUE_NONE: code = tg_buf_printf(b, " none"); break;
    case TG_VALUE_EXEMPLARS: break;
    case TG_VALUE_HISTOGRAM: {
        const struct tg_histogram *h = p->value.histogram;
        code = tg_buf_printf(b, " h:%llu", (unsigned long long)h->count);
        put_optional(b, "sum", h->has_sum, h->sum);
        put_optional(b, "min", h->has_min, h->min);
        put_optional(b, "max", h->has_max, h->max);
        put_bucket_list(b, "", h->buckets, h->n_buckets);
        for (uint32_t i = 0; i < h->n_bounds; i++) put_optional(b, "<", true, h->bounds[i]);
        break;
    }
    case TG_VALUE_EXP_HISTOGRAM: {
        const struct tg_exp_histogram *h = p->value.exp_histogram;
        code = tg_buf_printf(b, " e:%llu scale=%d zero=%llu<%.17g", (unsigned long long)h->count,
                             h->scale, (unsigned long long)h->zero_count, h->zero_threshold);
        put_optional(b, "sum", h->has_sum, h->sum);
        put_optional(b, "min", h->has_min, h->min);
        put_optional(b, "max", h->has_max, h->max);
        must(tg_buf_printf(b, " +%d", h->pos_offset) == TG_OK, "text");
        put_bucket_list(b, "", h->pos, h->n_pos);
        must(tg_buf_printf(b, " -%d", h->neg_offset) == TG_OK, "text");
        put_bucket_list(b, "", h->neg, h->n_neg);
        break;
    }
    case TG_VALUE_FLOAT_HISTOGRAM: {
        const struct tg_float_histogram *h = p->value.float_histogram;
        code = tg_buf_printf(b, " f:%.17g scale=%d zero=%.17g<%.17g sum=%.17g +%d", h->count,
                             h->scale, h->zero_count, h->zero_threshold, h->sum, h->pos_offset);
        for (uint32_t i = 0; i < h->n_pos; i++) put_optional(b, "p", true, h->pos[i]);
        must(tg_buf_printf(b, " -%d", h->neg_offset) == TG_OK, "text");
        for (uint32_t i = 0; i < h->n_neg; i++) put_optional(b, "n", true, h->neg[i]);
        for (uint32_t i = 0; i < h->n_bounds; i++) put_optional(b, "<", true, h->bounds[i]);
        break;
    }
    case TG_VALUE_SUMMARY: {
        const struct tg_summary *s = p->value.summary;
        code = tg_buf_printf(b, " s:%llu sum=%.17g", (unsigned long long)s->count, s->sum);
        for (uint32_t i = 0; i < s->n_quantiles; i++)
            must(tg_buf_printf(b, " %.17g:%.17g", s->quantiles[i].quantile,
                               s->quantiles[i].value) == TG_OK,
                 "text");
        break;
    }
    case TG_VALUE_STRING:
        code = tg_buf_printf(b, " t:%.*s", (int)p->value.string->len, p->value.string->ptr);
        break;
    default: code = tg_buf_printf(b, " type %u?", p->type); break;
    }
    must(code == TG_OK, "text");
}

static void put_exemplars(struct tg_buf *b, const struct tg_exemplars *ex)
{
    for (uint32_t i = 0; ex && i < ex->n; i++) {
        const struct tg_exemplar *e = &ex->items[i];
        must(tg_buf_printf(b, " ex{%s%.17g @%lld", e->is_int ? "i" : "", e->value,
                           (long long)e->ts_ns) == TG_OK,
             "text");
        if (e->has_trace) {
            must(tg_buf_append(b, " ", 1) == TG_OK, "text");
            for (unsigned k = 0; k < 16; k++)
                must(tg_buf_printf(b, "%02x", e->trace_id[k]) == TG_OK, "text");
            must(tg_buf_append(b, "/", 1) == TG_OK, "text");
            for (unsigned k = 0; k < 8; k++)
                must(tg_buf_printf(b, "%02x", e->span_id[k]) == TG_OK, "text");
        }
        for (uint32_t k = 0; k < e->n_labels; k++)
            must(tg_buf_printf(b, " %.*s=%.*s", (int)e->labels[2 * k].len, e->labels[2 * k].ptr,
                               (int)e->labels[2 * k + 1].len, e->labels[2 * k + 1].ptr) == TG_OK,
                 "text");
        must(tg_buf_append(b, "}", 1) == TG_OK, "text");
    }
}

const char *tg_decode_text(struct tg_decode_fixture *f)
{
    static const char *const temporalities[] = {"", " delta", " cumulative"};
    struct tg_buf *b = &f->text;
    tg_buf_reset(b);
    for (uint32_t i = 0; i < f->batch.n_points; i++) {
        const struct tg_point *p = &f->batch.points[i];
        struct tg_series_desc d;
        must(tg_table_describe(f->table, p->series, &d, &f->scratch) == TG_OK, "describe");
        must(tg_series_desc_print(&d, b) == TG_OK, "text");
        must(tg_buf_printf(b, " %s%s [%.*s]", tg_kind_name((enum tg_kind)d.kind),
                           temporalities[d.temporality], (int)d.unit_len, d.unit) == TG_OK,
             "text");
        put_value(b, p);
        const char *hint = tg_reset_hint_name(p->flags);
        if (hint) must(tg_buf_printf(b, " reset=%s", hint) == TG_OK, "text");
        must(tg_buf_printf(b, " @%lld", (long long)p->ts_ns) == TG_OK, "text");
        if (p->start_ns)
            must(tg_buf_printf(b, " start=%lld", (long long)p->start_ns) == TG_OK, "text");
        put_exemplars(b, p->exemplars);
        must(tg_buf_append(b, "\n", 1) == TG_OK, "text");
    }
    must(tg_buf_append(b, "", 1) == TG_OK, "text");
    return (const char *)b->data;
}

struct tg_otlp_item *tg_decode_items(struct tg_decode_fixture *f)
{
    const uint32_t n = f->batch.n_points;
    struct tg_otlp_item *items = tg_arena_calloc(&f->scratch, n, sizeof(*items));
    struct tg_series_desc *descs = tg_arena_calloc(&f->scratch, n, sizeof(*descs));
    if (!items || !descs) return NULL;
    for (uint32_t i = 0; i < n; i++) {
        const struct tg_point *p = &f->batch.points[i];
        if (tg_table_describe(f->table, p->series, &descs[i], &f->scratch) != TG_OK) return NULL;
        items[i] = (struct tg_otlp_item){&descs[i], p};
    }
    return items;
}

size_t tg_unhex(const char *hex, uint8_t *out)
{
    size_t n = 0;
    for (; hex[0] && hex[1]; hex += 2) {
        unsigned v = 0;
        must(sscanf(hex, "%2x", &v) == 1, "bad hex");
        out[n++] = (uint8_t)v;
    }
    return n;
}
