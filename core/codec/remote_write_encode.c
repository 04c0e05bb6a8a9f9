#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/codec/number.h"
#include "core/codec/prom_name.h"
#include "core/codec/remote_write.h"
#include "core/codec/rw_prepared.h"
#include "core/codec/wire.h"

/* Field numbers of prompb. */
enum { LABELS = 1, SAMPLES = 2, EXEMPLARS = 3, HISTOGRAMS = 4 };

enum {
    NS_PER_MS = 1000000,
    SAMPLE_MAX = 1 + 1 + 9 + 1 + TG_VARINT_MAX,
    EXEMPLAR_LABEL_CHARS = 128, /* OpenMetrics' limit, which Prometheus keeps to */
};

static const char name_label[] = "__name__";

/* --- preparing --- */

struct label {
    const uint8_t *name; /* in the scratch buffer */
    const struct tg_tag *tag;
    uint32_t name_len;
};

static int cmp_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
    const size_t n = a_len < b_len ? a_len : b_len;
    const int c = n ? memcmp(a, b, n) : 0;
    return c ? c : (a_len > b_len) - (a_len < b_len);
}

/* By name; of equal names by original key. */
static int cmp_labels(const void *x, const void *y)
{
    const struct label *a = x;
    const struct label *b = y;
    const int c = cmp_bytes(a->name, a->name_len, b->name, b->name_len);
    return c ? c : cmp_bytes(a->tag->key, a->tag->key_len, b->tag->key, b->tag->key_len);
}

static enum tg_code put_label(struct tg_buf *b, const void *name, size_t name_len,
                              const void *value, size_t value_len)
{
    const size_t len =
        1 + tg_varint_len(name_len) + name_len + 1 + tg_varint_len(value_len) + value_len;
    TG_TRY(tg_buf_reserve(b, len + 1 + TG_VARINT_MAX));
    tg_buf_put_u8(b, TG_WIRE_TAG(LABELS, TG_WIRE_BYTES));
    tg_buf_put_varint(b, len);
    tg_wire_put_bytes(b, 1, name, name_len);
    tg_wire_put_bytes(b, 2, value, value_len);
    return TG_OK;
}

/* One label from the n tags that share its name. */
static enum tg_code put_joined(struct tg_buf *b, const struct label *l, uint32_t n,
                               struct tg_buf *scratch)
{
    if (n == 1) return put_label(b, l->name, l->name_len, l->tag->value, l->tag->value_len);
    tg_buf_reset(scratch);
    for (uint32_t i = 0; i < n; i++) {
        if (i) TG_TRY(tg_buf_append(scratch, ";", 1));
        TG_TRY(tg_buf_append(scratch, l[i].tag->value, l[i].tag->value_len));
    }
    return put_label(b, l->name, l->name_len, scratch->data, scratch->len);
}

/* Appends the name of tag t as a label, out of the way of the labels that are ours. */
static enum tg_code label_name(const struct tg_tag *t, const char *extra, bool keep,
                               struct tg_buf *out)
{
    static const char exported[] = "exported_";
    const size_t start = out->len;
    TG_TRY(tg_prom_label_name(t->key, t->key_len, keep, out));
    const size_t len = out->len - start;
    const bool clashes =
        cmp_bytes(out->data + start, len, name_label, sizeof(name_label) - 1) == 0 ||
        (extra && cmp_bytes(out->data + start, len, extra, strlen(extra)) == 0);
    if (!clashes) return TG_OK;
    TG_TRY(tg_buf_reserve(out, sizeof(exported)));
    memmove(out->data + start + sizeof(exported) - 1, out->data + start, len);
    memcpy(out->data + start, exported, sizeof(exported) - 1);
    out->len += sizeof(exported) - 1;
    return TG_OK;
}

struct preparing {
    struct label *labels;
    uint32_t n;
    struct tg_buf names; /* all label names */
    struct tg_buf joined;
    struct tg_buf metric;
    bool keeps_names;
};

static enum tg_code collect_labels(struct preparing *p, const struct tg_series_desc *d,
                                   const char *extra)
{
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const size_t start = p->names.len;
        TG_TRY(label_name(&d->tags[i], extra, p->keeps_names, &p->names));
        p->labels[i].tag = &d->tags[i];
        p->labels[i].name_len = (uint32_t)(p->names.len - start);
    }
    p->n = d->n_tags;
    /* the buffer has moved while it grew; now it stays */
    const uint8_t *name = p->names.data;
    for (uint32_t i = 0; i < p->n; i++) {
        p->labels[i].name = name;
        name += p->labels[i].name_len;
    }
    if (p->n > 1) qsort(p->labels, p->n, sizeof(*p->labels), cmp_labels);
    return TG_OK;
}

/* Appends the labels from *at on that sort before `until` (NULL = all). */
static enum tg_code put_labels(struct preparing *p, uint32_t *at, const char *until,
                               struct tg_buf *out)
{
    while (*at < p->n) {
        const struct label *l = &p->labels[*at];
        if (until && cmp_bytes(l->name, l->name_len, until, strlen(until)) > 0) break;
        uint32_t n = 1;
        while (*at + n < p->n && cmp_bytes(l[n].name, l[n].name_len, l->name, l->name_len) == 0)
            n++;
        TG_TRY(put_joined(out, l, n, &p->joined));
        *at += n;
    }
    return TG_OK;
}

static enum tg_code put_plain(struct preparing *p, uint8_t form, struct tg_buf *out)
{
    uint32_t at = 0;
    TG_TRY(tg_buf_append(out, &form, 1));
    TG_TRY(put_labels(p, &at, name_label, out));
    TG_TRY(put_label(out, name_label, sizeof(name_label) - 1, p->metric.data, p->metric.len));
    return put_labels(p, &at, NULL, out);
}

static enum tg_code put_composite(struct preparing *p, const char *extra, struct tg_buf *out)
{
    const size_t head = out->len;
    uint32_t lens[4];
    uint32_t at = 0;
    TG_TRY(tg_buf_reserve(out, TG_RW_COMPOSITE_HEAD));
    tg_buf_put_u8(out, (uint8_t)((*extra == 'q' ? TG_RW_SUMMARY : TG_RW_COMPOSITE) |
                                 (p->keeps_names ? TG_RW_KEEPS_NAMES : 0)));
    out->len = head + TG_RW_COMPOSITE_HEAD;
    size_t from = out->len;
    TG_TRY(put_labels(p, &at, name_label, out));
    lens[0] = (uint32_t)(out->len - from);
    TG_TRY(tg_buf_append(out, p->metric.data, p->metric.len));
    lens[1] = (uint32_t)p->metric.len;
    from = out->len;
    TG_TRY(put_labels(p, &at, extra, out));
    lens[2] = (uint32_t)(out->len - from);
    from = out->len;
    TG_TRY(put_labels(p, &at, NULL, out));
    lens[3] = (uint32_t)(out->len - from);
    memcpy(out->data + head + 1, lens, sizeof(lens));
    return TG_OK;
}

enum tg_code tg_rw_prepare(const struct tg_series_desc *mapped, const struct tg_prom_names *names,
                           struct tg_buf *out, struct tg_err *err)
{
    const struct tg_series_desc *d = mapped;
    if (d->temporality == TG_TEMPORALITY_DELTA)
        return tg_fail(err, TG_ERR_UNSUPPORTED,
                       "Prometheus has no form for delta temporality; set the sender's "
                       "temporality preference to cumulative, or route the series elsewhere");
    const char *extra = d->kind == TG_KIND_HISTOGRAM ? "le"
                        : d->kind == TG_KIND_SUMMARY ? "quantile"
                                                     : NULL;
    const size_t start = out->len;
    struct tg_arena arena;
    struct preparing p = {.keeps_names = tg_prom_keeps_names(names, d)};
    tg_arena_init(&arena, 0);
    tg_buf_init(&p.names, 0);
    tg_buf_init(&p.joined, 0);
    tg_buf_init(&p.metric, 0);
    p.labels = tg_arena_alloc(&arena, d->n_tags * sizeof(*p.labels));
    enum tg_code code = p.labels ? TG_OK : TG_ERR_NOMEM;
    if (code == TG_OK) code = tg_prom_metric_name(d, names, &p.metric, err);
    if (code == TG_OK) code = collect_labels(&p, d, extra);
    const uint8_t form = (uint8_t)((d->kind == TG_KIND_EXP_HISTOGRAM ? TG_RW_NATIVE : TG_RW_PLAIN) |
                                   (p.keeps_names ? TG_RW_KEEPS_NAMES : 0));
    if (code == TG_OK) code = extra ? put_composite(&p, extra, out) : put_plain(&p, form, out);
    if (code == TG_ERR_NOMEM || code == TG_ERR_TOO_LARGE)
        (void)tg_fail(err, code, "no room for the labels of a series");
    if (code != TG_OK) out->len = start;
    tg_buf_deinit(&p.names);
    tg_buf_deinit(&p.joined);
    tg_buf_deinit(&p.metric);
    tg_arena_deinit(&arena);
    return code;
}

/* --- points --- */

static int64_t floor_ms(int64_t ns)
{
    const int64_t ms = ns / NS_PER_MS;
    return ms - (ns % NS_PER_MS < 0);
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits;
}

/* The caller reserved SAMPLE_MAX. */
static inline void put_sample(struct tg_buf *out, uint64_t bits, uint64_t ms)
{
    tg_buf_put_u8(out, TG_WIRE_TAG(SAMPLES, TG_WIRE_BYTES));
    tg_buf_put_u8(out, (uint8_t)(10 + tg_varint_len(ms)));
    tg_buf_put_u8(out, TG_WIRE_TAG(1, TG_WIRE_FIXED64));
    tg_buf_put_u64(out, bits);
    tg_buf_put_u8(out, TG_WIRE_TAG(2, TG_WIRE_VARINT));
    tg_buf_put_varint(out, ms);
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
    struct tg_wire w = tg_wire_of(from, (size_t)(to - from));
    struct tg_wire_field f;
    while (w.p < w.end && tg_wire_next(&w, &f)) {
        struct tg_wire label = tg_wire_of(f.data, f.len);
        struct tg_wire_field n;
        if (tg_wire_next(&label, &n) && n.tag == TG_WIRE_TAG(1, TG_WIRE_BYTES) &&
            cmp_bytes(n.data, n.len, name, name_len) == 0)
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
    TG_TRY(tg_wire_open(out, EXEMPLARS, &body));
    const size_t labels_at = out->len;
    if (e->has_trace) {
        char text[32];
        uint64_t span;
        memcpy(&span, e->span_id, 8);
        if (span) {
            hex_of(text, e->span_id, sizeof(e->span_id));
            TG_TRY(put_label(out, "span_id", 7, text, 16));
            chars += 7 + 16;
        }
        hex_of(text, e->trace_id, sizeof(e->trace_id));
        TG_TRY(put_label(out, "trace_id", 8, text, 32));
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
        TG_TRY(tg_wire_open(out, LABELS, &label));
        TG_TRY(tg_wire_open(out, 1, &name));
        const size_t name_at = out->len;
        TG_TRY(tg_prom_label_name(key->ptr, key->len, keep, out));
        if (has_label(out->data + labels_at, out->data + before, out->data + name_at,
                      out->len - name_at)) {
            out->len = before;
            continue;
        }
        chars += more;
        TG_TRY(tg_wire_close(out, name));
        TG_TRY(tg_buf_reserve(out, (size_t)value->len + 16));
        tg_wire_put_bytes(out, 2, value->ptr, value->len);
        TG_TRY(tg_wire_close(out, label));
    }
    TG_TRY(tg_buf_reserve(out, 32));
    tg_wire_put_double(out, 2, e->value);
    tg_wire_put_varint(out, 3, (uint64_t)floor_ms(e->ts_ns));
    return tg_wire_close(out, body);
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

/* --- plain: numbers and native histograms; `labels` come right after the form's byte --- */

static enum tg_code append_number(struct tg_buf *out, const uint8_t *labels, uint32_t len,
                                  const struct tg_point *p, uint64_t bits)
{
    const uint64_t ms = (uint64_t)floor_ms(p->ts_ns);
    if (__builtin_expect(p->exemplars == NULL, 1)) {
        const size_t total = (size_t)len + 12 + tg_varint_len(ms);
        TG_TRY(tg_buf_reserve(out, total + 1 + TG_VARINT_MAX + SAMPLE_MAX));
        tg_buf_put_u8(out, TG_WIRE_TAG(1, TG_WIRE_BYTES));
        tg_buf_put_varint(out, total);
        tg_buf_put(out, labels, len);
        put_sample(out, bits, ms);
        return TG_OK;
    }
    size_t body;
    TG_TRY(tg_wire_open(out, 1, &body));
    TG_TRY(tg_buf_reserve(out, (size_t)len + SAMPLE_MAX));
    tg_buf_put(out, labels, len);
    put_sample(out, bits, ms);
    TG_TRY(put_all_exemplars(out, p->exemplars, labels[-1] & TG_RW_KEEPS_NAMES));
    return tg_wire_close(out, body);
}

static enum tg_code append_exemplars(struct tg_buf *out, const uint8_t *labels, uint32_t len,
                                     const struct tg_point *p)
{
    size_t body;
    TG_TRY(tg_wire_open(out, 1, &body));
    TG_TRY(tg_buf_append(out, labels, len));
    TG_TRY(put_all_exemplars(out, p->exemplars, labels[-1] & TG_RW_KEEPS_NAMES));
    return tg_wire_close(out, body);
}

/* A native histogram, or the stale marker of one. */
static enum tg_code append_native(struct tg_buf *out, const uint8_t *labels, uint32_t len,
                                  const struct tg_point *p)
{
    size_t body;
    size_t histogram;
    TG_TRY(tg_wire_open(out, 1, &body));
    TG_TRY(tg_buf_append(out, labels, len));
    TG_TRY(put_all_exemplars(out, p->exemplars, labels[-1] & TG_RW_KEEPS_NAMES));
    TG_TRY(tg_wire_open(out, HISTOGRAMS, &histogram));
    TG_TRY(tg_native_encode(out, p, floor_ms(p->ts_ns)));
    TG_TRY(tg_wire_close(out, histogram));
    return tg_wire_close(out, body);
}

/* --- composite: histograms and summaries --- */

struct composite {
    struct tg_rw_parts parts;
    const char *extra; /* "le", "quantile" */
    bool keeps_names;
    uint64_t ms;
};

/* One series of the group: name + suffix, with the extra label unless value is NULL. */
static enum tg_code put_part(struct tg_buf *out, const struct composite *s, const char *suffix,
                             const char *value, size_t value_len, uint64_t bits,
                             const struct tg_exemplars *ex, double above, double to)
{
    const struct tg_rw_parts *const p = &s->parts;
    const size_t suffix_len = strlen(suffix);
    const size_t name_len = p->name_len + suffix_len;
    const size_t label_len =
        1 + sizeof(name_label) + 1 + tg_varint_len(name_len) + name_len; /* NUL = length byte */
    size_t body;
    TG_TRY(tg_wire_open(out, 1, &body));
    TG_TRY(
        tg_buf_reserve(out, (size_t)p->a_len + p->b_len + p->c_len + label_len + 32 + SAMPLE_MAX));
    tg_buf_put(out, p->a, p->a_len);
    tg_buf_put_u8(out, TG_WIRE_TAG(LABELS, TG_WIRE_BYTES));
    tg_buf_put_varint(out, label_len);
    tg_wire_put_bytes(out, 1, name_label, sizeof(name_label) - 1);
    tg_buf_put_u8(out, TG_WIRE_TAG(2, TG_WIRE_BYTES));
    tg_buf_put_varint(out, name_len);
    tg_buf_put(out, p->name, p->name_len);
    tg_buf_put(out, suffix, suffix_len);
    tg_buf_put(out, p->b, p->b_len);
    if (value) TG_TRY(put_label(out, s->extra, strlen(s->extra), value, value_len));
    TG_TRY(tg_buf_reserve(out, (size_t)p->c_len + SAMPLE_MAX));
    tg_buf_put(out, p->c, p->c_len);
    put_sample(out, bits, s->ms);
    TG_TRY(put_exemplars(out, ex, s->keeps_names, above, to));
    return tg_wire_close(out, body);
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

static enum tg_code put_value(struct tg_buf *out, const struct composite *s, const char *suffix,
                              uint64_t bits)
{
    return put_part(out, s, suffix, NULL, 0, bits, NULL, 0, 0);
}

/* A point without a value ends every series of its group: of the buckets and quantiles those that
 * it names; the last bucket and the totals are always there. */
static uint64_t value_or_stale(const struct tg_point *p, double v)
{
    return p->flags & TG_POINT_NO_VALUE ? TG_RW_STALE_NAN : bits_of(v);
}

static enum tg_code append_histogram(struct tg_buf *out, const struct composite *s,
                                     const struct tg_point *p)
{
    static const struct tg_histogram none = {.has_sum = true};
    const struct tg_histogram *h = p->type == TG_VALUE_HISTOGRAM ? p->value.histogram : &none;
    const bool has_sum = h->has_sum || (p->flags & TG_POINT_NO_VALUE);
    uint64_t cumulative = 0;
    double above = NAN;
    for (uint32_t i = 0; i < h->n_bounds && i < h->n_buckets; i++) {
        char text[BOUND_MAX];
        cumulative += h->buckets[i];
        if (isinf(h->bounds[i]) && h->bounds[i] > 0) break; /* le="+Inf" follows anyway */
        TG_TRY(put_part(out, s, "_bucket", text, bound_text(text, h->bounds[i]),
                        value_or_stale(p, (double)cumulative), p->exemplars, above, h->bounds[i]));
        above = h->bounds[i];
    }
    TG_TRY(put_part(out, s, "_bucket", "+Inf", 4, value_or_stale(p, (double)h->count), p->exemplars,
                    above, INFINITY));
    if (has_sum) TG_TRY(put_value(out, s, "_sum", value_or_stale(p, h->sum)));
    return put_value(out, s, "_count", value_or_stale(p, (double)h->count));
}

static enum tg_code append_summary(struct tg_buf *out, const struct composite *s,
                                   const struct tg_point *p)
{
    static const struct tg_summary none = {.count = 0};
    const struct tg_summary *m = p->type == TG_VALUE_SUMMARY ? p->value.summary : &none;
    for (uint32_t i = 0; i < m->n_quantiles; i++) {
        char text[BOUND_MAX];
        TG_TRY(put_part(out, s, "", text, bound_text(text, m->quantiles[i].quantile),
                        value_or_stale(p, m->quantiles[i].value), NULL, 0, 0));
    }
    TG_TRY(put_value(out, s, "_sum", value_or_stale(p, m->sum)));
    return put_value(out, s, "_count", value_or_stale(p, (double)m->count));
}

static enum tg_code append_composite(struct tg_buf *out, const uint8_t *prepared, uint32_t len,
                                     const struct tg_point *p)
{
    struct composite s;
    if (!tg_rw_read_parts(prepared, len, &s.parts)) return TG_ERR_UNSUPPORTED;
    const bool is_summary = (prepared[0] & TG_RW_FORM_MASK) == TG_RW_SUMMARY;
    s.keeps_names = prepared[0] & TG_RW_KEEPS_NAMES;
    s.extra = is_summary ? "quantile" : "le";
    s.ms = (uint64_t)floor_ms(p->ts_ns);
    if (p->type != TG_VALUE_NONE && p->type != (is_summary ? TG_VALUE_SUMMARY : TG_VALUE_HISTOGRAM))
        return TG_ERR_UNSUPPORTED;
    return is_summary ? append_summary(out, &s, p) : append_histogram(out, &s, p);
}

static enum tg_code append_plain(struct tg_buf *out, const uint8_t *labels, uint32_t len,
                                 const struct tg_point *p)
{
    double v;
    if (p->type == TG_VALUE_NONE) return append_number(out, labels, len, p, TG_RW_STALE_NAN);
    if (p->type == TG_VALUE_EXP_HISTOGRAM || p->type == TG_VALUE_FLOAT_HISTOGRAM)
        return append_native(out, labels, len, p);
    if (p->type == TG_VALUE_EXEMPLARS) return append_exemplars(out, labels, len, p);
    if (!tg_point_as_double(p, &v)) return TG_ERR_UNSUPPORTED;
    return append_number(out, labels, len, p, bits_of(v));
}

static enum tg_code append_any(struct tg_buf *out, const uint8_t *prepared, uint32_t len,
                               const struct tg_point *p)
{
    switch (len ? prepared[0] & TG_RW_FORM_MASK : 0xff) {
    case TG_RW_PLAIN: return append_plain(out, prepared + 1, len - 1, p);
    case TG_RW_NATIVE: /* explicit buckets are custom ones there */
        return p->type == TG_VALUE_NONE || p->type == TG_VALUE_HISTOGRAM
                   ? append_native(out, prepared + 1, len - 1, p)
                   : append_plain(out, prepared + 1, len - 1, p);
    case TG_RW_COMPOSITE:
    case TG_RW_SUMMARY: return append_composite(out, prepared, len, p);
    default: return TG_ERR_UNSUPPORTED;
    }
}

enum tg_code tg_rw_append_point(struct tg_buf *out, const uint8_t *prepared, uint32_t len,
                                const struct tg_point *p)
{
    const size_t start = out->len;
    const enum tg_code code = append_any(out, prepared, len, p);
    if (code != TG_OK) out->len = start;
    return code;
}

static uint32_t n_labels_sent(const struct tg_exemplar *e)
{
    uint64_t span;
    memcpy(&span, e->span_id, 8);
    return e->n_labels + (e->has_trace ? 1U : 0U) + (e->has_trace && span ? 1U : 0U);
}

enum tg_code tg_rw_left_out(const uint8_t *prepared, uint32_t len, const struct tg_point *p,
                            struct tg_buf *scratch, struct tg_left_out *left_out)
{
    for (uint32_t i = 0; p->exemplars && i < p->exemplars->n; i++) {
        const struct tg_exemplar *e = &p->exemplars->items[i];
        tg_buf_reset(scratch);
        TG_TRY(put_exemplar(scratch, e, len && (prepared[0] & TG_RW_KEEPS_NAMES)));
        struct tg_wire w = tg_wire_of(scratch->data, scratch->len);
        struct tg_wire_field f;
        uint32_t n = 0;
        if (!tg_wire_next(&w, &f)) continue;
        w = tg_wire_of(f.data, f.len);
        while (w.p < w.end && tg_wire_next(&w, &f)) n += f.tag == TG_WIRE_TAG(1, TG_WIRE_BYTES);
        left_out->n[TG_LEFT_OUT_EXEMPLAR_LABEL] += n_labels_sent(e) - n;
    }
    return TG_OK;
}
