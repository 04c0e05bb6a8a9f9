#include "core/protocol/otlp_encode.h"

#include "core/protocol/otlp_attr.h"
#include "core/protocol/protobuf_wire.h"

enum { /* fields of Metric */
       GAUGE = 5,
       SUM = 7,
       HISTOGRAM = 9,
       EXP_HISTOGRAM = 10,
       SUMMARY = 11,
};

enum { NUMBER_MAX = 10 + 9 + 9 + 9 + 2 }; /* a number point without attributes and exemplars */

static bool is_key(const struct tg_tag *t, const char *key, size_t len)
{
    return t->key_len == len && memcmp(t->key, key, len) == 0;
}

/* --- attributes --- */

enum { PREFIX_LEN = sizeof(TG_OTLP_SCOPE_PREFIX) - 1 };

static bool has_prefix(const struct tg_tag *t)
{
    return t->key_len > PREFIX_LEN && memcmp(t->key, TG_OTLP_SCOPE_PREFIX, PREFIX_LEN) == 0;
}

/* What is no attribute of the scope: 1 its name, 2 its version, 3 the schema URL beside it; else 0.
 */
static uint32_t own_field(const struct tg_tag *t)
{
    if (is_key(t, TG_OTLP_SCOPE_NAME, sizeof(TG_OTLP_SCOPE_NAME) - 1)) return 1;
    if (is_key(t, TG_OTLP_SCOPE_VERSION, sizeof(TG_OTLP_SCOPE_VERSION) - 1)) return 2;
    return is_key(t, TG_OTLP_SCOPE_SCHEMA_URL, sizeof(TG_OTLP_SCOPE_SCHEMA_URL) - 1) ? 3 : 0;
}

static enum tg_code put_key_value(struct tg_buf *b, uint32_t number, const char *key,
                                  size_t key_len, const char *value, size_t value_len)
{
    const size_t any_len = 1 + tg_varint_len(value_len) + value_len;
    const size_t kv_len =
        1 + tg_varint_len(key_len) + key_len + 1 + tg_varint_len(any_len) + any_len;
    TG_TRY(tg_buf_reserve(b, kv_len + 16));
    tg_buf_put_varint(b, TG_PROTOBUF_WIRE_TAG(number, TG_PROTOBUF_WIRE_BYTES));
    tg_buf_put_varint(b, kv_len);
    tg_protobuf_wire_put_bytes(b, 1, key, key_len);
    tg_buf_put_varint(b, TG_PROTOBUF_WIRE_TAG(2, TG_PROTOBUF_WIRE_BYTES));
    tg_buf_put_varint(b, any_len);
    tg_protobuf_wire_put_bytes(b, 1, value, value_len);
    return TG_OK;
}

static enum tg_code put_tags(struct tg_buf *b, uint32_t number, const struct tg_series_desc *d,
                             uint8_t origin)
{
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        if (t->origin != origin) continue;
        if (origin == TG_ORIGIN_SCOPE && own_field(t)) continue;
        const size_t cut = origin == TG_ORIGIN_SCOPE && has_prefix(t) ? PREFIX_LEN : 0;
        TG_TRY(put_key_value(b, number, t->key + cut, t->key_len - cut, t->value, t->value_len));
    }
    return TG_OK;
}

static enum tg_code put_resource(struct tg_buf *b, const struct tg_series_desc *d)
{
    size_t body;
    TG_TRY(tg_protobuf_wire_open(b, 1, &body));
    TG_TRY(put_tags(b, 1, d, TG_ORIGIN_RESOURCE));
    return tg_protobuf_wire_close(b, body);
}

static enum tg_code put_scope(struct tg_buf *b, const struct tg_series_desc *d)
{
    size_t body;
    TG_TRY(tg_protobuf_wire_open(b, 1, &body));
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        if (t->origin != TG_ORIGIN_SCOPE) continue;
        const uint32_t number = own_field(t);
        if (number != 1 && number != 2) continue;
        TG_TRY(tg_buf_reserve(b, (size_t)t->value_len + 16));
        tg_protobuf_wire_put_bytes(b, number, t->value, t->value_len);
    }
    TG_TRY(put_tags(b, 3, d, TG_ORIGIN_SCOPE));
    return tg_protobuf_wire_close(b, body);
}

static enum tg_code put_schema_url(struct tg_buf *b, const struct tg_series_desc *d)
{
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        if (t->origin != TG_ORIGIN_SCOPE || own_field(t) != 3) continue;
        TG_TRY(tg_buf_reserve(b, (size_t)t->value_len + 16));
        tg_protobuf_wire_put_bytes(b, 3, t->value, t->value_len);
    }
    return TG_OK;
}

static bool same_tag(const struct tg_tag *a, const struct tg_tag *b)
{
    return a->key_len == b->key_len && a->value_len == b->value_len &&
           memcmp(a->key, b->key, a->key_len) == 0 &&
           (a->value_len == 0 || memcmp(a->value, b->value, a->value_len) == 0);
}

/* Whether the tags of one origin are the same, in the same order. */
static bool same_tags(const struct tg_series_desc *a, const struct tg_series_desc *b,
                      uint8_t origin)
{
    if (a == b) return true;
    uint32_t i = 0;
    uint32_t k = 0;
    for (;;) {
        while (i < a->n_tags && a->tags[i].origin != origin) i++;
        while (k < b->n_tags && b->tags[k].origin != origin) k++;
        if (i == a->n_tags || k == b->n_tags) return i == a->n_tags && k == b->n_tags;
        if (!same_tag(&a->tags[i++], &b->tags[k++])) return false;
    }
}

/* --- points --- */

static enum tg_code put_exemplars(struct tg_buf *b, uint32_t number, const struct tg_exemplars *ex)
{
    for (uint32_t i = 0; ex && i < ex->n; i++) {
        const struct tg_exemplar *e = &ex->items[i];
        size_t body;
        TG_TRY(tg_protobuf_wire_open(b, number, &body));
        TG_TRY(tg_buf_reserve(b, 64));
        if (e->ts_ns) tg_protobuf_wire_put_fixed64(b, 2, (uint64_t)e->ts_ns);
        if (!e->is_int) tg_protobuf_wire_put_double(b, 3, e->value);
        if (e->has_trace) {
            uint64_t span;
            memcpy(&span, e->span_id, 8);
            if (span) tg_protobuf_wire_put_bytes(b, 4, e->span_id, sizeof(e->span_id));
            tg_protobuf_wire_put_bytes(b, 5, e->trace_id, sizeof(e->trace_id));
        }
        /* 2^63 itself is what INT64_MAX became when it was read as a double */
        if (e->is_int)
            tg_protobuf_wire_put_fixed64(
                b, 6, e->value < 0x1p63 ? (uint64_t)(int64_t)e->value : INT64_MAX);
        for (uint32_t k = 0; k < e->n_labels; k++)
            TG_TRY(put_key_value(b, 7, e->labels[2 * k].ptr, e->labels[2 * k].len,
                                 e->labels[2 * k + 1].ptr, e->labels[2 * k + 1].len));
        TG_TRY(tg_protobuf_wire_close(b, body));
    }
    return TG_OK;
}

static void put_times(struct tg_buf *b, const struct tg_point *p)
{
    if (p->start_ns) tg_protobuf_wire_put_fixed64(b, 2, (uint64_t)p->start_ns);
    tg_protobuf_wire_put_fixed64(b, 3, (uint64_t)p->ts_ns);
}

static void put_flags(struct tg_buf *b, uint32_t number, const struct tg_point *p)
{
    if (p->flags & TG_POINT_NO_VALUE) tg_protobuf_wire_put_varint(b, number, 1);
}

static enum tg_code put_number(struct tg_buf *b, const struct tg_series_desc *d,
                               const struct tg_point *p)
{
    TG_TRY(tg_buf_reserve(b, NUMBER_MAX));
    put_times(b, p);
    switch (p->type) {
    case TG_VALUE_DOUBLE: tg_protobuf_wire_put_double(b, 4, p->value.f64); break;
    case TG_VALUE_INT64:
    case TG_VALUE_BOOL: break;
    case TG_VALUE_UINT64:
        if (p->value.u64 > INT64_MAX) tg_protobuf_wire_put_double(b, 4, (double)p->value.u64);
        break;
    default: break;
    }
    TG_TRY(put_exemplars(b, 5, p->exemplars));
    TG_TRY(tg_buf_reserve(b, NUMBER_MAX));
    if (p->type == TG_VALUE_INT64 || p->type == TG_VALUE_BOOL ||
        (p->type == TG_VALUE_UINT64 && p->value.u64 <= INT64_MAX))
        tg_protobuf_wire_put_fixed64(b, 6, p->value.u64);
    TG_TRY(put_tags(b, 7, d, TG_ORIGIN_POINT));
    TG_TRY(tg_buf_reserve(b, NUMBER_MAX));
    put_flags(b, 8, p);
    return TG_OK;
}

/* Packed 64-bit numbers. */
static enum tg_code put_packed64(struct tg_buf *b, uint32_t number, const void *p, uint32_t n)
{
    if (n == 0) return TG_OK;
    TG_TRY(tg_buf_reserve(b, (size_t)n * 8 + 16));
    tg_protobuf_wire_put_bytes(b, number, p, (size_t)n * 8);
    return TG_OK;
}

static enum tg_code put_histogram(struct tg_buf *b, const struct tg_series_desc *d,
                                  const struct tg_point *p)
{
    static const struct tg_histogram none = {.count = 0};
    const struct tg_histogram *h = p->type == TG_VALUE_HISTOGRAM ? p->value.histogram : &none;
    TG_TRY(tg_buf_reserve(b, 64));
    put_times(b, p);
    if (h->count) tg_protobuf_wire_put_fixed64(b, 4, h->count);
    if (h->has_sum) tg_protobuf_wire_put_double(b, 5, h->sum);
    TG_TRY(put_packed64(b, 6, h->buckets, h->n_buckets));
    TG_TRY(put_packed64(b, 7, h->bounds, h->n_bounds));
    TG_TRY(put_exemplars(b, 8, p->exemplars));
    TG_TRY(put_tags(b, 9, d, TG_ORIGIN_POINT));
    TG_TRY(tg_buf_reserve(b, 32));
    put_flags(b, 10, p);
    if (h->has_min) tg_protobuf_wire_put_double(b, 11, h->min);
    if (h->has_max) tg_protobuf_wire_put_double(b, 12, h->max);
    return TG_OK;
}

static enum tg_code put_buckets(struct tg_buf *b, uint32_t number, int32_t offset,
                                const uint64_t *counts, uint32_t n)
{
    size_t body;
    size_t packed;
    if (n == 0 && offset == 0) return TG_OK;
    TG_TRY(tg_protobuf_wire_open(b, number, &body));
    TG_TRY(tg_buf_reserve(b, 16));
    if (offset) tg_protobuf_wire_put_varint(b, 1, (uint32_t)tg_zigzag(offset));
    if (n) {
        TG_TRY(tg_protobuf_wire_open(b, 2, &packed));
        TG_TRY(tg_buf_reserve(b, (size_t)n * TG_VARINT_MAX));
        for (uint32_t i = 0; i < n; i++) tg_buf_put_varint(b, counts[i]);
        TG_TRY(tg_protobuf_wire_close(b, packed));
    }
    return tg_protobuf_wire_close(b, body);
}

static enum tg_code put_exp_histogram(struct tg_buf *b, const struct tg_series_desc *d,
                                      const struct tg_point *p)
{
    static const struct tg_exp_histogram none = {.count = 0};
    const struct tg_exp_histogram *h =
        p->type == TG_VALUE_EXP_HISTOGRAM ? p->value.exp_histogram : &none;
    TG_TRY(put_tags(b, 1, d, TG_ORIGIN_POINT));
    TG_TRY(tg_buf_reserve(b, 96));
    put_times(b, p);
    if (h->count) tg_protobuf_wire_put_fixed64(b, 4, h->count);
    if (h->has_sum) tg_protobuf_wire_put_double(b, 5, h->sum);
    if (h->scale) tg_protobuf_wire_put_varint(b, 6, (uint32_t)tg_zigzag(h->scale));
    if (h->zero_count) tg_protobuf_wire_put_fixed64(b, 7, h->zero_count);
    TG_TRY(put_buckets(b, 8, h->pos_offset, h->pos, h->n_pos));
    TG_TRY(put_buckets(b, 9, h->neg_offset, h->neg, h->n_neg));
    TG_TRY(tg_buf_reserve(b, 16));
    put_flags(b, 10, p);
    TG_TRY(put_exemplars(b, 11, p->exemplars));
    TG_TRY(tg_buf_reserve(b, 32));
    if (h->has_min) tg_protobuf_wire_put_double(b, 12, h->min);
    if (h->has_max) tg_protobuf_wire_put_double(b, 13, h->max);
    uint64_t threshold;
    memcpy(&threshold, &h->zero_threshold, 8);
    if (threshold) tg_protobuf_wire_put_fixed64(b, 14, threshold);
    return TG_OK;
}

static enum tg_code put_summary(struct tg_buf *b, const struct tg_series_desc *d,
                                const struct tg_point *p)
{
    static const struct tg_summary none = {.count = 0};
    const struct tg_summary *s = p->type == TG_VALUE_SUMMARY ? p->value.summary : &none;
    TG_TRY(tg_buf_reserve(b, 64));
    put_times(b, p);
    if (s->count) tg_protobuf_wire_put_fixed64(b, 4, s->count);
    tg_protobuf_wire_put_double(b, 5, s->sum);
    for (uint32_t i = 0; i < s->n_quantiles; i++) {
        TG_TRY(tg_buf_reserve(b, 24));
        tg_buf_put_varint(b, TG_PROTOBUF_WIRE_TAG(6, TG_PROTOBUF_WIRE_BYTES));
        tg_buf_put_varint(b, 18);
        tg_protobuf_wire_put_double(b, 1, s->quantiles[i].quantile);
        tg_protobuf_wire_put_double(b, 2, s->quantiles[i].value);
    }
    TG_TRY(put_tags(b, 7, d, TG_ORIGIN_POINT));
    TG_TRY(tg_buf_reserve(b, 16));
    put_flags(b, 8, p);
    return TG_OK;
}

/* --- metrics --- */

/* The Metric field for this point, 0 = none. */
static uint32_t data_number(const struct tg_otlp_item *it)
{
    switch (it->point->type) {
    case TG_VALUE_HISTOGRAM: return HISTOGRAM;
    case TG_VALUE_EXP_HISTOGRAM: return EXP_HISTOGRAM;
    case TG_VALUE_SUMMARY: return SUMMARY;
    case TG_VALUE_STRING:
    case TG_VALUE_EXEMPLARS:
    case TG_VALUE_FLOAT_HISTOGRAM: return 0;
    case TG_VALUE_NONE:
        if (it->desc->kind == TG_KIND_HISTOGRAM) return HISTOGRAM;
        if (it->desc->kind == TG_KIND_EXP_HISTOGRAM) return EXP_HISTOGRAM;
        if (it->desc->kind == TG_KIND_SUMMARY) return SUMMARY;
        break;
    default: break;
    }
    if (it->desc->kind == TG_KIND_COUNTER) return SUM;
    return it->desc->kind == TG_KIND_GAUGE && it->desc->temporality ? SUM : GAUGE;
}

static bool same_metric(const struct tg_otlp_item *a, const struct tg_otlp_item *b)
{
    const struct tg_series_desc *x = a->desc;
    const struct tg_series_desc *y = b->desc;
    if (data_number(a) != data_number(b)) return false;
    if (x == y) return true;
    return x->kind == y->kind && x->temporality == y->temporality && x->name_len == y->name_len &&
           x->unit_len == y->unit_len && memcmp(x->name, y->name, x->name_len) == 0 &&
           (x->unit_len == 0 || memcmp(x->unit, y->unit, x->unit_len) == 0);
}

static enum tg_code put_point(struct tg_buf *b, uint32_t number, const struct tg_otlp_item *it)
{
    size_t body;
    TG_TRY(tg_protobuf_wire_open(b, 1, &body));
    switch (number) {
    case HISTOGRAM: TG_TRY(put_histogram(b, it->desc, it->point)); break;
    case EXP_HISTOGRAM: TG_TRY(put_exp_histogram(b, it->desc, it->point)); break;
    case SUMMARY: TG_TRY(put_summary(b, it->desc, it->point)); break;
    default: TG_TRY(put_number(b, it->desc, it->point)); break;
    }
    return tg_protobuf_wire_close(b, body);
}

static enum tg_code put_metric(struct tg_buf *b, const struct tg_otlp_item *items, uint32_t n)
{
    const struct tg_series_desc *d = items[0].desc;
    const uint32_t number = data_number(&items[0]);
    size_t metric;
    size_t data;
    TG_TRY(tg_protobuf_wire_open(b, 2, &metric));
    TG_TRY(tg_buf_reserve(b, (size_t)d->name_len + d->unit_len + 32));
    tg_protobuf_wire_put_bytes(b, 1, d->name, d->name_len);
    if (d->unit_len) tg_protobuf_wire_put_bytes(b, 3, d->unit, d->unit_len);
    TG_TRY(tg_protobuf_wire_open(b, number, &data));
    for (uint32_t i = 0; i < n; i++) TG_TRY(put_point(b, number, &items[i]));
    if (number == SUM || number == HISTOGRAM || number == EXP_HISTOGRAM) {
        TG_TRY(tg_buf_reserve(b, 8));
        tg_protobuf_wire_put_varint(b, 2,
                                    d->temporality ? d->temporality : TG_TEMPORALITY_CUMULATIVE);
        if (number == SUM && d->kind == TG_KIND_COUNTER) tg_protobuf_wire_put_varint(b, 3, 1);
    }
    TG_TRY(tg_protobuf_wire_close(b, data));
    return tg_protobuf_wire_close(b, metric);
}

static enum tg_code put_scope_metrics(struct tg_buf *b, const struct tg_otlp_item *items,
                                      uint32_t n)
{
    size_t body;
    TG_TRY(tg_protobuf_wire_open(b, 2, &body));
    TG_TRY(put_scope(b, items[0].desc));
    for (uint32_t from = 0; from < n;) {
        uint32_t to = from + 1;
        while (to < n && same_metric(&items[from], &items[to])) to++;
        TG_TRY(put_metric(b, items + from, to - from));
        from = to;
    }
    TG_TRY(put_schema_url(b, items[0].desc));
    return tg_protobuf_wire_close(b, body);
}

static enum tg_code put_resource_metrics(struct tg_buf *b, const struct tg_otlp_item *items,
                                         uint32_t n)
{
    size_t body;
    TG_TRY(tg_protobuf_wire_open(b, 1, &body));
    TG_TRY(put_resource(b, items[0].desc));
    for (uint32_t from = 0; from < n;) {
        uint32_t to = from + 1;
        while (to < n && same_tags(items[from].desc, items[to].desc, TG_ORIGIN_SCOPE)) to++;
        TG_TRY(put_scope_metrics(b, items + from, to - from));
        from = to;
    }
    return tg_protobuf_wire_close(b, body);
}

enum tg_code tg_otlp_encode_metrics(const struct tg_otlp_item *items, uint32_t n,
                                    struct tg_buf *out, struct tg_err *err)
{
    char q[96];
    for (uint32_t i = 0; i < n; i++)
        if (data_number(&items[i]) == 0)
            return tg_fail(err, TG_ERR_UNSUPPORTED, "series %s: OTLP metrics have no form for a %s",
                           tg_quote(q, sizeof(q), items[i].desc->name, items[i].desc->name_len),
                           items[i].point->type == TG_VALUE_STRING      ? "text value"
                           : items[i].point->type == TG_VALUE_EXEMPLARS ? "point without a value"
                                                                        : "histogram of floats");
    const size_t before = out->len;
    for (uint32_t from = 0; from < n;) {
        uint32_t to = from + 1;
        while (to < n && same_tags(items[from].desc, items[to].desc, TG_ORIGIN_RESOURCE)) to++;
        const enum tg_code code = put_resource_metrics(out, items + from, to - from);
        if (code != TG_OK) {
            out->len = before;
            return tg_fail(err, code, "no room for a request of %u points", n);
        }
        from = to;
    }
    return TG_OK;
}

/* --- answers --- */

enum tg_code tg_otlp_encode_response(uint64_t n_rejected, const char *message, struct tg_buf *out)
{
    const size_t len = message ? strlen(message) : 0;
    if (n_rejected == 0 && len == 0) return TG_OK;
    size_t body;
    TG_TRY(tg_protobuf_wire_open(out, 1, &body));
    TG_TRY(tg_buf_reserve(out, len + 32));
    if (n_rejected) tg_protobuf_wire_put_varint(out, 1, n_rejected);
    if (len) tg_protobuf_wire_put_bytes(out, 2, message, len);
    return tg_protobuf_wire_close(out, body);
}

static enum tg_code bad_answer(const struct tg_protobuf_wire *w, const uint8_t *base,
                               const char *what, struct tg_err *err)
{
    return tg_fail_at(err, TG_ERR_MALFORMED, (uint64_t)(w->p - base), "not a %s: %s", what,
                      tg_protobuf_wire_why(w));
}

enum tg_code tg_otlp_decode_response(const uint8_t *buf, size_t len, int64_t *n_rejected,
                                     struct tg_string *message, struct tg_err *err)
{
    static const char what[] = "ExportMetricsServiceResponse";
    *n_rejected = 0;
    *message = (struct tg_string){"", 0};
    struct tg_protobuf_wire w = tg_protobuf_wire_of(buf, len);
    while (w.p < w.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&w, &f)) return bad_answer(&w, buf, what, err);
        if (f.tag != TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES)) continue;
        struct tg_protobuf_wire in = tg_protobuf_wire_of(f.data, f.len);
        while (in.p < in.end) {
            if (!tg_protobuf_wire_next(&in, &f)) return bad_answer(&in, buf, what, err);
            if (f.tag == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_VARINT))
                *n_rejected = (int64_t)f.num;
            if (f.tag == TG_PROTOBUF_WIRE_TAG(2, TG_PROTOBUF_WIRE_BYTES))
                *message = (struct tg_string){(const char *)f.data, (uint32_t)f.len};
        }
    }
    return TG_OK;
}

enum tg_code tg_otlp_encode_status(int grpc_code, const char *message, int64_t retry_after_ms,
                                   struct tg_buf *out)
{
    static const char type_url[] = "type.googleapis.com/google.rpc.RetryInfo";
    const size_t len = strlen(message);
    TG_TRY(tg_buf_reserve(out, len + 32));
    if (grpc_code) tg_protobuf_wire_put_varint(out, 1, (uint64_t)(int64_t)grpc_code);
    if (len) tg_protobuf_wire_put_bytes(out, 2, message, len);
    if (retry_after_ms < 0) return TG_OK;
    size_t any;
    size_t info;
    size_t delay;
    TG_TRY(tg_protobuf_wire_open(out, 3,
                                 &any)); /* details: google.protobuf.Any { type_url 1, value 2 } */
    TG_TRY(tg_buf_reserve(out, sizeof(type_url) + 16));
    tg_protobuf_wire_put_bytes(out, 1, type_url, sizeof(type_url) - 1);
    TG_TRY(tg_protobuf_wire_open(out, 2, &info));  /* RetryInfo { retry_delay 1 } */
    TG_TRY(tg_protobuf_wire_open(out, 1, &delay)); /* Duration { seconds 1, nanos 2 } */
    TG_TRY(tg_buf_reserve(out, 32));
    if (retry_after_ms >= 1000)
        tg_protobuf_wire_put_varint(out, 1, (uint64_t)retry_after_ms / 1000);
    if (retry_after_ms % 1000)
        tg_protobuf_wire_put_varint(out, 2, (uint64_t)(retry_after_ms % 1000) * 1000000);
    TG_TRY(tg_protobuf_wire_close(out, delay));
    TG_TRY(tg_protobuf_wire_close(out, info));
    return tg_protobuf_wire_close(out, any);
}

enum tg_code tg_otlp_decode_status(const uint8_t *buf, size_t len, int32_t *grpc_code,
                                   struct tg_string *message, struct tg_err *err)
{
    *grpc_code = 0;
    *message = (struct tg_string){"", 0};
    struct tg_protobuf_wire w = tg_protobuf_wire_of(buf, len);
    while (w.p < w.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&w, &f)) return bad_answer(&w, buf, "google.rpc.Status", err);
        if (f.tag == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_VARINT)) *grpc_code = (int32_t)f.num;
        if (f.tag == TG_PROTOBUF_WIRE_TAG(2, TG_PROTOBUF_WIRE_BYTES))
            *message = (struct tg_string){(const char *)f.data, (uint32_t)f.len};
    }
    return TG_OK;
}
