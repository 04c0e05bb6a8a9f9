/* remote_write_encode.c: points to remote write 1.0, by the prepared bytes of their series. */
#include "core/protocol/remote_write_body.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/double_bits.h"
#include "core/base/number.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/remote_write.h"
#include "core/protocol/remote_write_body_impl.h"
#include "core/protocol/remote_write_prepared.h"

/* Field numbers of prompb. */
enum { LABELS = 1, SAMPLES = 2, EXEMPLARS = 3, HISTOGRAMS = 4 };

enum {
    NS_PER_MS = 1000000,
    EXEMPLAR_LABEL_CHARS = 128, /* OpenMetrics' limit, which Prometheus keeps to */
};

static const char name_label[] = "__name__";

/* --- points --- */

static int64_t floor_ms(int64_t ns)
{
    const int64_t ms = ns / NS_PER_MS;
    return ms - (ns % NS_PER_MS < 0);
}

/* --- exemplars --- */

static size_t count_chars(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) n += ((uint8_t)s[i] & 0xc0) != 0x80;
    return n;
}

static void hex_of(char *out, const uint8_t *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = hex[p[i] >> 4];
        out[2 * i + 1] = hex[p[i] & 15];
    }
}

/* Whether one of the labels in [from, to) has this name. */
static bool has_label(const uint8_t *from, const uint8_t *to, const void *name, size_t name_len)
{
    struct tg_protobuf_wire w = tg_protobuf_wire_of(from, (size_t)(to - from));
    struct tg_protobuf_wire_field f;
    while (w.p < w.end && tg_protobuf_wire_next(&w, &f)) {
        struct tg_protobuf_wire label = tg_protobuf_wire_of(f.data, f.len);
        struct tg_protobuf_wire_field n;
        if (tg_protobuf_wire_next(&label, &n) &&
            n.tag == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES) && n.len == name_len &&
            memcmp(n.data, name, name_len) == 0)
            return true;
    }
    return false;
}

/* No label is there twice, which a receiver would refuse: the exemplar's own trace_id and span_id
 * stand, then the first attribute of a name. */
static enum tg_code put_exemplar(struct tg_buf *out, const struct tg_exemplar *e, bool keep)
{
    size_t body;
    size_t chars = 0;
    TG_TRY(tg_protobuf_wire_open(out, EXEMPLARS, &body));
    const size_t labels_at = out->len;
    if (e->has_trace) {
        char text[32];
        uint64_t span;
        memcpy(&span, e->span_id, 8);
        if (span) {
            hex_of(text, e->span_id, sizeof(e->span_id));
            TG_TRY(tg_remote_write_put_label(out, "span_id", 7, text, 16));
            chars += 7 + 16;
        }
        hex_of(text, e->trace_id, sizeof(e->trace_id));
        TG_TRY(tg_remote_write_put_label(out, "trace_id", 8, text, 32));
        chars += 8 + 32;
    }
    for (uint32_t i = 0; i < e->n_labels; i++) {
        const struct tg_string *key = &e->labels[2 * i];
        const struct tg_string *value = &e->labels[2 * i + 1];
        if (key->len == 0) continue;
        /* Over the limit Prometheus refuses the exemplar: rather leave labels out. */
        const size_t more =
            count_chars(key->ptr, key->len) + 4 + count_chars(value->ptr, value->len);
        if (chars + more > EXEMPLAR_LABEL_CHARS) break;
        const size_t before = out->len;
        size_t label;
        size_t name;
        TG_TRY(tg_protobuf_wire_open(out, LABELS, &label));
        TG_TRY(tg_protobuf_wire_open(out, 1, &name));
        const size_t name_at = out->len;
        TG_TRY(tg_prom_label_name(key->ptr, key->len, keep, out));
        if (has_label(out->data + labels_at, out->data + before, out->data + name_at,
                      out->len - name_at)) {
            out->len = before;
            continue;
        }
        chars += more;
        TG_TRY(tg_protobuf_wire_close(out, name));
        TG_TRY(tg_buf_reserve(out, (size_t)value->len + 16));
        tg_protobuf_wire_put_bytes(out, 2, value->ptr, value->len);
        TG_TRY(tg_protobuf_wire_close(out, label));
    }
    TG_TRY(tg_buf_reserve(out, 32));
    tg_protobuf_wire_put_double(out, 2, e->value);
    tg_protobuf_wire_put_varint(out, 3, (uint64_t)floor_ms(e->ts_ns));
    return tg_protobuf_wire_close(out, body);
}

/* Those whose value lies in (above, to]; above NaN = no bound. One of NaN goes with the last
 * bucket: it is in none, and counted there. */
static enum tg_code put_exemplars(struct tg_buf *out, const struct tg_exemplars *ex, bool keep,
                                  double above, double to)
{
    for (uint32_t i = 0; ex && i < ex->n; i++)
        if ((ex->items[i].value <= to && !(ex->items[i].value <= above)) ||
            (isnan(ex->items[i].value) && isinf(to) && to > 0))
            TG_TRY(put_exemplar(out, &ex->items[i], keep));
    return TG_OK;
}

static enum tg_code put_all_exemplars(struct tg_buf *out, const struct tg_exemplars *ex, bool keep)
{
    for (uint32_t i = 0; ex && i < ex->n; i++) TG_TRY(put_exemplar(out, &ex->items[i], keep));
    return TG_OK;
}

/* --- numbers and native histograms --- */

/* At most so many elements are its labels: a token has a byte at least; a part may be written as
 * the parts it is made of. */
static inline size_t n_elements_of(const struct tg_remote_write_prepared *s)
{
    size_t len = s->len[TG_REMOTE_WRITE_LABELS];
    for (unsigned i = 1; s->is_composite && i < TG_REMOTE_WRITE_SECTIONS; i++) len += s->len[i];
    return (size_t)(s->end - s->tokens) + len / TG_SHARED_PARTS_MIN_LEN;
}

/* The value of a number; false: it is none. A point without a value is a stale marker. */
static inline bool number_of(const struct tg_point *p, uint64_t *bits)
{
    double v;
    if (p->type == TG_VALUE_NONE) {
        *bits = TG_REMOTE_WRITE_STALE_NAN;
        return true;
    }
    if (!tg_point_as_double(p, &v)) return false;
    *bits = tg_double_bits(v);
    return true;
}

static inline enum tg_code add_number(struct tg_remote_write_body *b,
                                      const struct tg_remote_write_prepared *s,
                                      const struct tg_point *p, uint64_t bits)
{
    const uint64_t ms = (uint64_t)floor_ms(p->ts_ns);
    const size_t len = s->len[TG_REMOTE_WRITE_LABELS];
    TG_TRY(tg_remote_write_open_series(b, len + TG_REMOTE_WRITE_SAMPLE_BYTES + tg_varint_len(ms),
                                       n_elements_of(s) + TG_REMOTE_WRITE_SAMPLE_ELEMENTS));
    (void)tg_remote_write_put_section(b, s->tokens, s->end, len);
    tg_remote_write_put_sample(b, 0, bits, ms);
    return TG_OK;
}

/* Numbers, and exemplars that came alone. */
static enum tg_code add_numbers(struct tg_remote_write_body *b,
                                const struct tg_remote_write_prepared *s,
                                const struct tg_point *const *points, uint32_t n)
{
    size_t total = s->len[TG_REMOTE_WRITE_LABELS];
    uint32_t n_samples = 0;
    tg_buf_reset(&b->tail);
    tg_buf_reset(&b->sums);
    TG_TRY(tg_buf_reserve(&b->sums, 2 * (size_t)n * sizeof(uint64_t)));
    uint64_t *bits = (uint64_t *)(void *)b->sums.data;
    uint64_t *ms = bits + n;
    for (uint32_t i = 0; i < n; i++) {
        if (number_of(points[i], &bits[n_samples])) {
            ms[n_samples] = (uint64_t)floor_ms(points[i]->ts_ns);
            total += TG_REMOTE_WRITE_SAMPLE_BYTES + tg_varint_len(ms[n_samples++]);
        }
        if (points[i]->exemplars)
            TG_TRY(put_all_exemplars(&b->tail, points[i]->exemplars, s->keeps_names));
    }
    TG_TRY(tg_remote_write_open_series(
        b, total + b->tail.len,
        n_elements_of(s) + (size_t)n_samples * TG_REMOTE_WRITE_SAMPLE_ELEMENTS + 1));
    (void)tg_remote_write_put_section(b, s->tokens, s->end, s->len[TG_REMOTE_WRITE_LABELS]);
    for (uint32_t j = 0; j < n_samples; j++) tg_remote_write_put_sample(b, j, bits[j], ms[j]);
    tg_remote_write_put(b, b->tail.data, b->tail.len);
    return TG_OK;
}

/* One native histogram, or the stale marker of one, with its exemplars. */
static enum tg_code put_native(struct tg_buf *out, const struct tg_point *p, bool keep)
{
    size_t histogram;
    TG_TRY(put_all_exemplars(out, p->exemplars, keep));
    if (p->type == TG_VALUE_EXEMPLARS) return TG_OK;
    TG_TRY(tg_protobuf_wire_open(out, HISTOGRAMS, &histogram));
    TG_TRY(tg_native_encode(out, p, floor_ms(p->ts_ns)));
    return tg_protobuf_wire_close(out, histogram);
}

static enum tg_code add_natives(struct tg_remote_write_body *b,
                                const struct tg_remote_write_prepared *s,
                                const struct tg_point *const *points, uint32_t n, bool *is_left_out)
{
    tg_buf_reset(&b->tail);
    for (uint32_t i = 0; i < n; i++) {
        const size_t before = b->tail.len;
        const enum tg_code code = put_native(&b->tail, points[i], s->keeps_names);
        if (code == TG_OK) continue;
        if (code != TG_ERR_UNSUPPORTED) return code;
        b->tail.len = before;
        is_left_out[i] = true;
    }
    if (b->tail.len == 0) return TG_OK;
    TG_TRY(tg_remote_write_open_series(b, s->len[TG_REMOTE_WRITE_LABELS] + b->tail.len,
                                       n_elements_of(s) + 1));
    (void)tg_remote_write_put_section(b, s->tokens, s->end, s->len[TG_REMOTE_WRITE_LABELS]);
    tg_remote_write_put(b, b->tail.data, b->tail.len);
    return TG_OK;
}

/* --- composites: histograms and summaries, of which one point makes several series --- */

struct parts {
    const struct tg_remote_write_prepared *s;
    const struct tg_point *const *points; /* of the same bounds or quantiles */
    uint32_t n;
    uint64_t *sums;    /* n: counts of the buckets so far */
    uint64_t *values;  /* n: the bits of one part */
    const char *extra; /* "le", "quantile" */
    /* Where the sections stand in the body, once the first part is written; and that from BEFORE
     * to BETWEEN, with the suffix. */
    bool is_written;
    size_t at[TG_REMOTE_WRITE_SECTIONS];
    const char *suffix;
    size_t prefix_at, prefix_len;
    const uint8_t *tokens; /* of the next section of the first part */
};

static void put_part_section(struct tg_remote_write_body *b, struct parts *p,
                             enum tg_remote_write_section i)
{
    const size_t at = b->block.n_plain;
    if (p->is_written)
        tg_remote_write_put_again(b, p->at[i], p->s->len[i]);
    else
        p->tokens = tg_remote_write_put_section(b, p->tokens, p->s->end, p->s->len[i]);
    p->at[i] = at;
}

/* Labels < __name__, __name__ and those up to the extra label. */
static void put_prefix(struct tg_remote_write_body *b, struct parts *p, const char *suffix,
                       size_t label_len, size_t name_len)
{
    const size_t at = b->block.n_plain;
    if (p->suffix && strcmp(suffix, p->suffix) == 0) {
        tg_remote_write_put_again(b, p->prefix_at, p->prefix_len);
    } else {
        uint8_t bytes[sizeof(name_label) + 4 * TG_VARINT_MAX];
        struct tg_buf head = {.data = bytes, .cap = sizeof(bytes)};
        put_part_section(b, p, TG_REMOTE_WRITE_BEFORE);
        tg_buf_put_u8(&head, TG_PROTOBUF_WIRE_TAG(LABELS, TG_PROTOBUF_WIRE_BYTES));
        tg_buf_put_varint(&head, label_len);
        tg_protobuf_wire_put_bytes(&head, 1, name_label, sizeof(name_label) - 1);
        tg_buf_put_u8(&head, TG_PROTOBUF_WIRE_TAG(2, TG_PROTOBUF_WIRE_BYTES));
        tg_buf_put_varint(&head, name_len);
        tg_remote_write_put(b, bytes, head.len);
        put_part_section(b, p, TG_REMOTE_WRITE_NAME);
        tg_remote_write_put(b, suffix, strlen(suffix));
        put_part_section(b, p, TG_REMOTE_WRITE_BETWEEN);
        p->suffix = suffix;
        p->prefix_len = b->block.n_plain - at;
    }
    p->prefix_at = at;
}

/* One series of the group: name + suffix, with the extra label unless `value` is NULL; with
 * p->values, and the exemplars in (above, to], or none with `to` below `above`. */
static enum tg_code put_part(struct tg_remote_write_body *b, struct parts *p, const char *suffix,
                             const char *value, size_t value_len, double above, double to)
{
    const uint32_t *const len = p->s->len;
    const size_t name_len = len[TG_REMOTE_WRITE_NAME] + strlen(suffix);
    const size_t label_len =
        1 + sizeof(name_label) + 1 + tg_varint_len(name_len) + name_len; /* NUL = length byte */
    size_t total = (size_t)len[TG_REMOTE_WRITE_BEFORE] + 1 + tg_varint_len(label_len) + label_len +
                   len[TG_REMOTE_WRITE_BETWEEN] + len[TG_REMOTE_WRITE_AFTER];
    tg_buf_reset(&b->label);
    if (value)
        TG_TRY(tg_remote_write_put_label(&b->label, p->extra, strlen(p->extra), value, value_len));
    tg_buf_reset(&b->tail);
    for (uint32_t i = 0; i < p->n; i++) {
        total +=
            TG_REMOTE_WRITE_SAMPLE_BYTES + tg_varint_len((uint64_t)floor_ms(p->points[i]->ts_ns));
        if (!(to < above))
            TG_TRY(put_exemplars(&b->tail, p->points[i]->exemplars, p->s->keeps_names, above, to));
    }
    TG_TRY(tg_remote_write_open_series(b, total + b->label.len + b->tail.len,
                                       n_elements_of(p->s) +
                                           (size_t)p->n * TG_REMOTE_WRITE_SAMPLE_ELEMENTS + 6));
    put_prefix(b, p, suffix, label_len, name_len);
    tg_remote_write_put(b, b->label.data, b->label.len);
    put_part_section(b, p, TG_REMOTE_WRITE_AFTER);
    p->is_written = true;
    for (uint32_t i = 0; i < p->n; i++)
        tg_remote_write_put_sample(b, i, p->values[i], (uint64_t)floor_ms(p->points[i]->ts_ns));
    tg_remote_write_put(b, b->tail.data, b->tail.len);
    return TG_OK;
}

/* A bound as label value: the digits of the shortest text, never with an exponent, as Prometheus
 * writes it for OTLP (1000000, not 1e+06). */
enum { BOUND_MAX = 352 };
static size_t bound_text(char *out, double v)
{
    char s[TG_DOUBLE_MAX_LEN];
    const unsigned n = tg_double_format(s, v);
    const char *e = memchr(s, 'e', n);
    if (!e) {
        memcpy(out, s, n);
        return n;
    }
    char digits[TG_DOUBLE_MAX_LEN];
    size_t n_digits = 0;
    long point = 0; /* digits before the decimal point */
    bool seen = false;
    for (const char *c = s; c < e; c++) {
        if (*c == '.') seen = true;
        if (*c < '0' || *c > '9') continue;
        digits[n_digits++] = *c;
        point += !seen;
    }
    char exponent[8] = {0};
    memcpy(exponent, e + 1, (size_t)(s + n - e - 1) < 7 ? (size_t)(s + n - e - 1) : 7);
    point += strtol(exponent, NULL, 10);
    size_t o = 0;
    if (s[0] == '-') out[o++] = '-';
    if (point <= 0) {
        out[o++] = '0';
        out[o++] = '.';
        for (long i = point; i < 0; i++) out[o++] = '0';
        memcpy(out + o, digits, n_digits);
        return o + n_digits;
    }
    for (long i = 0; i < point; i++) out[o++] = (size_t)i < n_digits ? digits[i] : '0';
    if ((size_t)point < n_digits) {
        out[o++] = '.';
        memcpy(out + o, digits + point, n_digits - (size_t)point);
        o += n_digits - (size_t)point;
    }
    return o;
}

/* A point without a value ends every series of its group: of the buckets and quantiles those that
 * it names; the last bucket and the totals are always there. */
static uint64_t value_or_stale(const struct tg_point *p, double v)
{
    return p->flags & TG_POINT_NO_VALUE ? TG_REMOTE_WRITE_STALE_NAN : tg_double_bits(v);
}

/* The totals have no exemplars. */
static enum tg_code put_total(struct tg_remote_write_body *b, struct parts *p, const char *suffix)
{
    return put_part(b, p, suffix, NULL, 0, 1, 0);
}

static const struct tg_histogram *histogram_of(const struct tg_point *p)
{
    static const struct tg_histogram none = {.has_sum = true};
    return p->type == TG_VALUE_HISTOGRAM ? p->value.histogram : &none;
}

static bool has_sum(const struct tg_point *p)
{
    return histogram_of(p)->has_sum || (p->flags & TG_POINT_NO_VALUE);
}

static uint32_t n_bounds_of(const struct tg_histogram *h)
{
    return h->n_bounds < h->n_buckets ? h->n_bounds : h->n_buckets;
}

static enum tg_code add_histograms(struct tg_remote_write_body *b, struct parts *p)
{
    const struct tg_histogram *first = histogram_of(p->points[0]);
    const uint32_t n_bounds = n_bounds_of(first);
    double above = NAN;
    memset(p->sums, 0, p->n * sizeof(*p->sums));
    for (uint32_t k = 0; k < n_bounds; k++) {
        char text[BOUND_MAX];
        for (uint32_t i = 0; i < p->n; i++) {
            p->sums[i] += histogram_of(p->points[i])->buckets[k];
            p->values[i] = value_or_stale(p->points[i], (double)p->sums[i]);
        }
        if (isinf(first->bounds[k]) && first->bounds[k] > 0) break; /* le="+Inf" follows anyway */
        TG_TRY(put_part(b, p, "_bucket", text, bound_text(text, first->bounds[k]), above,
                        first->bounds[k]));
        above = first->bounds[k];
    }
    for (uint32_t i = 0; i < p->n; i++)
        p->sums[i] = value_or_stale(p->points[i], (double)histogram_of(p->points[i])->count);
    memcpy(p->values, p->sums, p->n * sizeof(*p->values));
    TG_TRY(put_part(b, p, "_bucket", "+Inf", 4, above, INFINITY));
    if (has_sum(p->points[0])) {
        for (uint32_t i = 0; i < p->n; i++)
            p->values[i] = value_or_stale(p->points[i], histogram_of(p->points[i])->sum);
        TG_TRY(put_total(b, p, "_sum"));
    }
    memcpy(p->values, p->sums, p->n * sizeof(*p->values));
    return put_total(b, p, "_count");
}

static const struct tg_summary *summary_of(const struct tg_point *p)
{
    static const struct tg_summary none = {.count = 0};
    return p->type == TG_VALUE_SUMMARY ? p->value.summary : &none;
}

static enum tg_code add_summaries(struct tg_remote_write_body *b, struct parts *p)
{
    const struct tg_summary *first = summary_of(p->points[0]);
    for (uint32_t k = 0; k < first->n_quantiles; k++) {
        char text[BOUND_MAX];
        for (uint32_t i = 0; i < p->n; i++)
            p->values[i] =
                value_or_stale(p->points[i], summary_of(p->points[i])->quantiles[k].value);
        TG_TRY(put_part(b, p, "", text, bound_text(text, first->quantiles[k].quantile), 1, 0));
    }
    for (uint32_t i = 0; i < p->n; i++)
        p->values[i] = value_or_stale(p->points[i], summary_of(p->points[i])->sum);
    TG_TRY(put_total(b, p, "_sum"));
    for (uint32_t i = 0; i < p->n; i++)
        p->values[i] = value_or_stale(p->points[i], (double)summary_of(p->points[i])->count);
    return put_total(b, p, "_count");
}

/* Whether the two make the same series. */
static bool has_same_parts(const struct tg_point *x, const struct tg_point *y, bool is_summary)
{
    if (is_summary) {
        const struct tg_summary *m = summary_of(x);
        const struct tg_summary *n = summary_of(y);
        if (m->n_quantiles != n->n_quantiles) return false;
        for (uint32_t k = 0; k < m->n_quantiles; k++)
            if (tg_double_bits(m->quantiles[k].quantile) !=
                tg_double_bits(n->quantiles[k].quantile))
                return false;
        return true;
    }
    const struct tg_histogram *m = histogram_of(x);
    const struct tg_histogram *n = histogram_of(y);
    return has_sum(x) == has_sum(y) && n_bounds_of(m) == n_bounds_of(n) &&
           (n_bounds_of(m) == 0 || memcmp(m->bounds, n->bounds, 8 * (size_t)n_bounds_of(m)) == 0);
}

static enum tg_code add_composites(struct tg_remote_write_body *b,
                                   const struct tg_remote_write_prepared *s,
                                   const struct tg_point *const *points, uint32_t n)
{
    const bool is_summary = s->form == TG_REMOTE_WRITE_SUMMARY;
    tg_buf_reset(&b->sums);
    TG_TRY(tg_buf_reserve(&b->sums, 2 * (size_t)n * sizeof(uint64_t)));
    uint64_t *sums = (uint64_t *)(void *)b->sums.data;
    struct parts p = {
        .s = s,
        .points = points,
        .n = n,
        .sums = sums,
        .values = sums + n,
        .extra = is_summary ? "quantile" : "le",
        .tokens = s->tokens,
    };
    return is_summary ? add_summaries(b, &p) : add_histograms(b, &p);
}

/* --- any points of a series --- */

enum form { NO_FORM, NUMBER, NATIVE, EXEMPLARS_ALONE, COMPOSITE };

static enum form form_of(const struct tg_remote_write_prepared *s, const struct tg_point *p)
{
    double v;
    switch (s->form) {
    case TG_REMOTE_WRITE_COMPOSITE:
        return p->type == TG_VALUE_NONE || p->type == TG_VALUE_HISTOGRAM ? COMPOSITE : NO_FORM;
    case TG_REMOTE_WRITE_SUMMARY:
        return p->type == TG_VALUE_NONE || p->type == TG_VALUE_SUMMARY ? COMPOSITE : NO_FORM;
    case TG_REMOTE_WRITE_NATIVE: /* explicit buckets are custom ones there */
        if (p->type == TG_VALUE_NONE || p->type == TG_VALUE_HISTOGRAM) return NATIVE;
        break;
    default:
        if (p->type == TG_VALUE_NONE) return NUMBER;
        break;
    }
    if (p->type == TG_VALUE_EXP_HISTOGRAM || p->type == TG_VALUE_FLOAT_HISTOGRAM) return NATIVE;
    if (p->type == TG_VALUE_EXEMPLARS) return EXEMPLARS_ALONE;
    return tg_point_as_double(p, &v) ? NUMBER : NO_FORM;
}

/* How many of the points, from the first on, are one TimeSeries (or one group of them), and the
 * form of it. Exemplars go with whatever is there. */
static uint32_t run_of(const struct tg_remote_write_prepared *s,
                       const struct tg_point *const *points, uint32_t n, enum form *form)
{
    *form = form_of(s, points[0]);
    uint32_t i = 1;
    for (; i < n; i++) {
        const enum form next = form_of(s, points[i]);
        if (next != *form) {
            if (next == NO_FORM || *form == NO_FORM) break;
            if (*form == EXEMPLARS_ALONE)
                *form = next;
            else if (next != EXEMPLARS_ALONE)
                break;
        } else if (next == COMPOSITE &&
                   !has_same_parts(points[0], points[i], s->form == TG_REMOTE_WRITE_SUMMARY)) {
            break;
        }
    }
    return i;
}

static enum tg_code add_run(struct tg_remote_write_body *b,
                            const struct tg_remote_write_prepared *s,
                            const struct tg_point *const *points, uint32_t n, enum form form,
                            bool *is_left_out)
{
    switch (form) {
    case NUMBER:
    case EXEMPLARS_ALONE: return add_numbers(b, s, points, n);
    case NATIVE: return add_natives(b, s, points, n, is_left_out);
    case COMPOSITE: return add_composites(b, s, points, n);
    case NO_FORM: break;
    }
    memset(is_left_out, true, n * sizeof(*is_left_out));
    return TG_OK;
}

enum tg_code tg_remote_write_body_add(struct tg_remote_write_body *b, const uint8_t *prepared,
                                      uint32_t len, const struct tg_point *const *points,
                                      uint32_t n, bool *is_left_out)
{
    struct tg_remote_write_prepared s;
    memset(is_left_out, false, n * sizeof(*is_left_out));
    if (!tg_remote_write_read_prepared(prepared, len, &s)) {
        memset(is_left_out, true, n * sizeof(*is_left_out));
        return TG_OK;
    }
    uint64_t bits;
    if (n == 1 && s.form == TG_REMOTE_WRITE_PLAIN && !points[0]->exemplars &&
        number_of(points[0], &bits))
        return add_number(b, &s, points[0], bits);
    while (n > 0) {
        enum form form;
        const uint32_t n_run = run_of(&s, points, n, &form);
        TG_TRY(add_run(b, &s, points, n_run, form, is_left_out));
        points += n_run;
        is_left_out += n_run;
        n -= n_run;
    }
    return TG_OK;
}

enum tg_code tg_remote_write_append_point(struct tg_buf *out, const uint8_t *prepared, uint32_t len,
                                          const struct tg_point *p)
{
    const size_t start = out->len;
    bool is_left_out;
    struct tg_remote_write_body b;
    tg_remote_write_body_init(&b, NULL);
    enum tg_code code = tg_remote_write_body_begin(&b, out, TG_REMOTE_WRITE_BODY_MAX, false);
    if (code == TG_OK) code = tg_remote_write_body_add(&b, prepared, len, &p, 1, &is_left_out);
    if (code == TG_OK && is_left_out) code = TG_ERR_UNSUPPORTED;
    if (code != TG_OK) out->len = start;
    tg_remote_write_body_deinit(&b);
    return code;
}

static uint32_t n_labels_sent(const struct tg_exemplar *e)
{
    uint64_t span;
    memcpy(&span, e->span_id, 8);
    return e->n_labels + (e->has_trace ? 1U : 0U) + (e->has_trace && span ? 1U : 0U);
}

enum tg_code tg_remote_write_left_out(const uint8_t *prepared, uint32_t len,
                                      const struct tg_point *p, struct tg_buf *scratch,
                                      struct tg_left_out *left_out)
{
    for (uint32_t i = 0; p->exemplars && i < p->exemplars->n; i++) {
        const struct tg_exemplar *e = &p->exemplars->items[i];
        tg_buf_reset(scratch);
        TG_TRY(put_exemplar(scratch, e, len && (prepared[0] & TG_REMOTE_WRITE_KEEPS_NAMES)));
        struct tg_protobuf_wire w = tg_protobuf_wire_of(scratch->data, scratch->len);
        struct tg_protobuf_wire_field f;
        uint32_t n = 0;
        if (!tg_protobuf_wire_next(&w, &f)) continue;
        w = tg_protobuf_wire_of(f.data, f.len);
        while (w.p < w.end && tg_protobuf_wire_next(&w, &f))
            n += f.tag == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES);
        left_out->n[TG_LEFT_OUT_EXEMPLAR_LABEL] += n_labels_sent(e) - n;
    }
    return TG_OK;
}
