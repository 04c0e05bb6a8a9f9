/* Histograms, exponential and float histograms, summaries, strings and exemplars inside a block. */
#include "core/log/block_impl.h"

enum {
    HAS_SUM = 1,
    HAS_MIN = 2,
    HAS_MAX = 4,
    SAME_BOUNDS = 8,

    EXEMPLAR_INT = 1,
    EXEMPLAR_TRACE = 2
};

static uint64_t arena_size(uint64_t n, uint64_t size)
{
    return (n * size + 15) & ~UINT64_C(15);
}

static void put_f64(struct tg_buf *b, double v)
{
    tg_buf_put_u64(b, tg_double_bits(v));
}

static unsigned has_bits(bool sum, bool min, bool max)
{
    return (sum ? HAS_SUM : 0U) | (min ? HAS_MIN : 0U) | (max ? HAS_MAX : 0U);
}

static enum tg_code put_counts(struct tg_buf *out, const uint64_t *counts, uint32_t n)
{
    TG_TRY(tg_buf_reserve(out, TG_VARINT_MAX * ((size_t)n + 1)));
    tg_buf_put_varint(out, n);
    for (uint32_t i = 0; i < n; i++) tg_buf_put_varint(out, counts[i]);
    return TG_OK;
}

static enum tg_code put_histogram(struct tg_block_complex_state *s, const struct tg_histogram *h,
                                  struct tg_buf *out, uint64_t *arena_bytes)
{
    const bool same =
        s->have && s->n_bounds == h->n_bounds &&
        (h->n_bounds == 0 || memcmp(s->bounds, h->bounds, h->n_bounds * sizeof(double)) == 0);
    TG_TRY(tg_buf_reserve(out, 2 * TG_VARINT_MAX + 25 + (same ? 0 : 8 * (size_t)h->n_bounds)));
    tg_buf_put_u8(
        out, (uint8_t)(has_bits(h->has_sum, h->has_min, h->has_max) | (same ? SAME_BOUNDS : 0U)));
    tg_buf_put_varint(out, h->count);
    if (h->has_sum) put_f64(out, h->sum);
    if (h->has_min) put_f64(out, h->min);
    if (h->has_max) put_f64(out, h->max);
    if (!same) {
        tg_buf_put_varint(out, h->n_bounds);
        if (h->n_bounds) tg_buf_put(out, h->bounds, 8 * (size_t)h->n_bounds);
        s->bounds = h->bounds;
        s->n_bounds = h->n_bounds;
        s->have = true;
    }
    /* a reader that has not seen the earlier ones copies the bounds, so they always count */
    *arena_bytes +=
        arena_size(1, sizeof(*h)) + arena_size(h->n_bounds, 8) + arena_size(h->n_buckets, 8);
    return put_counts(out, h->buckets, h->n_buckets);
}

static enum tg_code put_exp_histogram(const struct tg_exp_histogram *h, struct tg_buf *out,
                                      uint64_t *arena_bytes)
{
    TG_TRY(tg_buf_reserve(out, 5 * TG_VARINT_MAX + 33));
    tg_buf_put_u8(out, (uint8_t)has_bits(h->has_sum, h->has_min, h->has_max));
    tg_buf_put_varint(out, h->count);
    tg_buf_put_varint(out, h->zero_count);
    if (h->has_sum) put_f64(out, h->sum);
    if (h->has_min) put_f64(out, h->min);
    if (h->has_max) put_f64(out, h->max);
    put_f64(out, h->zero_threshold);
    tg_buf_put_varint(out, tg_zigzag(h->scale));
    tg_buf_put_varint(out, tg_zigzag(h->pos_offset));
    tg_buf_put_varint(out, tg_zigzag(h->neg_offset));
    *arena_bytes += arena_size(1, sizeof(*h)) + arena_size(h->n_pos, 8) + arena_size(h->n_neg, 8);
    TG_TRY(put_counts(out, h->pos, h->n_pos));
    return put_counts(out, h->neg, h->n_neg);
}

static enum tg_code put_doubles(struct tg_buf *out, const double *v, uint32_t n)
{
    TG_TRY(tg_buf_reserve(out, TG_VARINT_MAX + 8 * (size_t)n));
    tg_buf_put_varint(out, n);
    if (n) tg_buf_put(out, v, 8 * (size_t)n);
    return TG_OK;
}

static enum tg_code put_float_histogram(const struct tg_float_histogram *h, struct tg_buf *out,
                                        uint64_t *arena_bytes)
{
    TG_TRY(tg_buf_reserve(out, 3 * TG_VARINT_MAX + 32));
    put_f64(out, h->count);
    put_f64(out, h->zero_count);
    put_f64(out, h->sum);
    put_f64(out, h->zero_threshold);
    tg_buf_put_varint(out, tg_zigzag(h->scale));
    tg_buf_put_varint(out, tg_zigzag(h->pos_offset));
    tg_buf_put_varint(out, tg_zigzag(h->neg_offset));
    *arena_bytes += arena_size(1, sizeof(*h)) + arena_size(h->n_pos, 8) + arena_size(h->n_neg, 8) +
                    arena_size(h->n_bounds, 8);
    TG_TRY(put_doubles(out, h->pos, h->n_pos));
    TG_TRY(put_doubles(out, h->neg, h->n_neg));
    return put_doubles(out, h->bounds, h->n_bounds);
}

static enum tg_code put_summary(const struct tg_summary *s, struct tg_buf *out,
                                uint64_t *arena_bytes)
{
    TG_TRY(tg_buf_reserve(out, 2 * TG_VARINT_MAX + 8 + 16 * (size_t)s->n_quantiles));
    tg_buf_put_varint(out, s->count);
    put_f64(out, s->sum);
    tg_buf_put_varint(out, s->n_quantiles);
    for (uint32_t i = 0; i < s->n_quantiles; i++) {
        put_f64(out, s->quantiles[i].quantile);
        put_f64(out, s->quantiles[i].value);
    }
    *arena_bytes += arena_size(1, sizeof(*s)) + arena_size(s->n_quantiles, 16);
    return TG_OK;
}

static enum tg_code put_string(const struct tg_string *s, struct tg_buf *out)
{
    TG_TRY(tg_buf_reserve(out, TG_VARINT_MAX + (size_t)s->len));
    tg_buf_put_varint(out, s->len);
    if (s->len) tg_buf_put(out, s->ptr, s->len);
    return TG_OK;
}

static enum tg_code put_exemplars(const struct tg_point *p, struct tg_buf *out,
                                  uint64_t *arena_bytes)
{
    const struct tg_exemplars *x = p->exemplars;
    TG_TRY(tg_buf_reserve(out, TG_VARINT_MAX));
    tg_buf_put_varint(out, x->n);
    *arena_bytes += arena_size(1, sizeof(*x)) + arena_size(x->n, sizeof(x->items[0]));
    for (uint32_t i = 0; i < x->n; i++) {
        const struct tg_exemplar *e = &x->items[i];
        TG_TRY(tg_buf_reserve(out, 2 * TG_VARINT_MAX + 33));
        tg_buf_put_varint(out, tg_zigzag((int64_t)((uint64_t)e->ts_ns - (uint64_t)p->ts_ns)));
        tg_buf_put_u8(
            out, (uint8_t)((e->is_int ? EXEMPLAR_INT : 0) | (e->has_trace ? EXEMPLAR_TRACE : 0)));
        put_f64(out, e->value);
        if (e->has_trace) {
            tg_buf_put(out, e->trace_id, 16);
            tg_buf_put(out, e->span_id, 8);
        }
        tg_buf_put_varint(out, e->n_labels);
        *arena_bytes += arena_size(2 * (uint64_t)e->n_labels, sizeof(struct tg_string));
        for (uint32_t k = 0; k < 2 * e->n_labels; k++) {
            TG_TRY(put_string(&e->labels[k], out));
            *arena_bytes += arena_size(1, e->labels[k].len + 1);
        }
    }
    return TG_OK;
}

enum tg_code tg_block_complex_encode(struct tg_block_complex_state *s, const struct tg_point *p,
                                     struct tg_buf *out, uint64_t *arena_bytes, struct tg_err *err)
{
    const size_t mark = out->len;
    enum tg_code code = TG_OK;
    switch (p->type) {
    case TG_VALUE_HISTOGRAM: code = put_histogram(s, p->value.histogram, out, arena_bytes); break;
    case TG_VALUE_EXP_HISTOGRAM:
        code = put_exp_histogram(p->value.exp_histogram, out, arena_bytes);
        break;
    case TG_VALUE_FLOAT_HISTOGRAM:
        code = put_float_histogram(p->value.float_histogram, out, arena_bytes);
        break;
    case TG_VALUE_SUMMARY: code = put_summary(p->value.summary, out, arena_bytes); break;
    case TG_VALUE_STRING:
        code = put_string(p->value.string, out);
        *arena_bytes += arena_size(1, sizeof(struct tg_string)) +
                        arena_size(1, (uint64_t)p->value.string->len + 1);
        break;
    default: break;
    }
    if (code == TG_OK && p->exemplars) code = put_exemplars(p, out, arena_bytes);
    if (code == TG_ERR_NOMEM) return tg_fail(err, code, "no memory to encode a value for the log");
    if (code != TG_OK || out->len - mark > TG_BLOCK_POINT_BYTES)
        return tg_fail(err, TG_ERR_TOO_LARGE,
                       "one point with over %d bytes of buckets, text or exemplars: send less with "
                       "each point",
                       TG_BLOCK_POINT_BYTES);
    return TG_OK;
}

/* --- decoding --- */

struct cut { /* a reader of untrusted bytes; `bad` is sticky */
    const uint8_t *p, *end;
    bool bad;
};

static uint64_t get_varint(struct cut *c)
{
    uint64_t v = 0;
    if (!tg_varint_get(&c->p, c->end, &v)) {
        c->bad = true;
        c->p = c->end;
        return 0;
    }
    return v;
}
static const uint8_t *get_bytes(struct cut *c, uint64_t n)
{
    if (n > (uint64_t)(c->end - c->p)) {
        c->bad = true;
        c->p = c->end;
        return NULL;
    }
    const uint8_t *at = c->p;
    c->p += n;
    return at;
}
static uint8_t get_u8(struct cut *c)
{
    const uint8_t *b = get_bytes(c, 1);
    return b ? *b : 0;
}
static double get_f64(struct cut *c)
{
    const uint8_t *b = get_bytes(c, 8);
    double v = 0;
    if (b) memcpy(&v, b, 8);
    return v;
}
/* A count of things that take at least min_bytes each: bounds what is allocated for them. */
static uint32_t get_count(struct cut *c, uint64_t min_bytes)
{
    const uint64_t n = get_varint(c);
    if (n > (uint64_t)(c->end - c->p) / min_bytes) {
        c->bad = true;
        c->p = c->end;
        return 0;
    }
    return (uint32_t)n;
}
static int32_t get_i32(struct cut *c)
{
    const int64_t v = tg_unzigzag(get_varint(c));
    if (v < INT32_MIN || v > INT32_MAX) {
        c->bad = true;
        return 0;
    }
    return (int32_t)v;
}

static enum tg_code get_counts(struct cut *c, struct tg_arena *arena, const uint64_t **out,
                               uint32_t *n_out)
{
    const uint32_t n = get_count(c, 1);
    uint64_t *v = NULL;
    if (arena && n) {
        v = tg_arena_alloc(arena, n * sizeof(uint64_t));
        if (!v) return TG_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t x = get_varint(c);
        if (v) v[i] = x;
    }
    *out = v;
    *n_out = n;
    return c->bad ? TG_ERR_CORRUPT : TG_OK;
}

static enum tg_code get_histogram(struct tg_block_complex_state *s, struct cut *c,
                                  struct tg_arena *arena, const struct tg_histogram **out)
{
    struct tg_histogram h = {0};
    const unsigned has = get_u8(c);
    h.has_sum = has & HAS_SUM;
    h.has_min = has & HAS_MIN;
    h.has_max = has & HAS_MAX;
    h.count = get_varint(c);
    if (h.has_sum) h.sum = get_f64(c);
    if (h.has_min) h.min = get_f64(c);
    if (h.has_max) h.max = get_f64(c);
    if (has & SAME_BOUNDS) {
        if (!s->have) return TG_ERR_CORRUPT;
    } else {
        s->n_bounds = get_count(c, 8);
        s->raw = get_bytes(c, 8 * (uint64_t)s->n_bounds);
        s->decoded = NULL;
        s->have = true;
    }
    if (c->bad) return TG_ERR_CORRUPT;
    h.n_bounds = s->n_bounds;
    if (arena && s->n_bounds) {
        if (!s->decoded) {
            double *b = tg_arena_alloc(arena, s->n_bounds * sizeof(double));
            if (!b) return TG_ERR_NOMEM;
            memcpy(b, s->raw, s->n_bounds * sizeof(double));
            s->decoded = b;
        }
        h.bounds = s->decoded;
    }
    TG_TRY(get_counts(c, arena, &h.buckets, &h.n_buckets));
    if (arena) {
        struct tg_histogram *copy = tg_arena_alloc(arena, sizeof(h));
        if (!copy) return TG_ERR_NOMEM;
        *copy = h;
        *out = copy;
    }
    return TG_OK;
}

static enum tg_code get_exp_histogram(struct cut *c, struct tg_arena *arena,
                                      const struct tg_exp_histogram **out)
{
    struct tg_exp_histogram h = {0};
    const unsigned has = get_u8(c);
    h.has_sum = has & HAS_SUM;
    h.has_min = has & HAS_MIN;
    h.has_max = has & HAS_MAX;
    h.count = get_varint(c);
    h.zero_count = get_varint(c);
    if (h.has_sum) h.sum = get_f64(c);
    if (h.has_min) h.min = get_f64(c);
    if (h.has_max) h.max = get_f64(c);
    h.zero_threshold = get_f64(c);
    h.scale = get_i32(c);
    h.pos_offset = get_i32(c);
    h.neg_offset = get_i32(c);
    TG_TRY(get_counts(c, arena, &h.pos, &h.n_pos));
    TG_TRY(get_counts(c, arena, &h.neg, &h.n_neg));
    if (arena) {
        struct tg_exp_histogram *copy = tg_arena_alloc(arena, sizeof(h));
        if (!copy) return TG_ERR_NOMEM;
        *copy = h;
        *out = copy;
    }
    return TG_OK;
}

static enum tg_code get_doubles(struct cut *c, struct tg_arena *arena, const double **out,
                                uint32_t *n_out)
{
    const uint32_t n = get_count(c, 8);
    const uint8_t *raw = get_bytes(c, 8 * (uint64_t)n);
    double *v = NULL;
    if (c->bad) return TG_ERR_CORRUPT;
    if (arena && n) {
        v = tg_arena_alloc(arena, n * sizeof(*v));
        if (!v) return TG_ERR_NOMEM;
        memcpy(v, raw, n * sizeof(*v));
    }
    *out = v;
    *n_out = n;
    return TG_OK;
}

static enum tg_code get_float_histogram(struct cut *c, struct tg_arena *arena,
                                        const struct tg_float_histogram **out)
{
    struct tg_float_histogram h = {0};
    h.count = get_f64(c);
    h.zero_count = get_f64(c);
    h.sum = get_f64(c);
    h.zero_threshold = get_f64(c);
    h.scale = get_i32(c);
    h.pos_offset = get_i32(c);
    h.neg_offset = get_i32(c);
    TG_TRY(get_doubles(c, arena, &h.pos, &h.n_pos));
    TG_TRY(get_doubles(c, arena, &h.neg, &h.n_neg));
    TG_TRY(get_doubles(c, arena, &h.bounds, &h.n_bounds));
    if (arena) {
        struct tg_float_histogram *copy = tg_arena_alloc(arena, sizeof(h));
        if (!copy) return TG_ERR_NOMEM;
        *copy = h;
        *out = copy;
    }
    return TG_OK;
}

static enum tg_code get_summary(struct cut *c, struct tg_arena *arena,
                                const struct tg_summary **out)
{
    struct tg_summary s = {0};
    s.count = get_varint(c);
    s.sum = get_f64(c);
    s.n_quantiles = get_count(c, 16);
    const uint8_t *raw = get_bytes(c, 16 * (uint64_t)s.n_quantiles);
    if (c->bad) return TG_ERR_CORRUPT;
    if (!arena) return TG_OK;
    if (s.n_quantiles) {
        struct tg_quantile *q = tg_arena_alloc(arena, s.n_quantiles * sizeof(*q));
        if (!q) return TG_ERR_NOMEM;
        memcpy(q, raw, s.n_quantiles * sizeof(*q)); /* two doubles each, as written */
        s.quantiles = q;
    }
    struct tg_summary *copy = tg_arena_alloc(arena, sizeof(s));
    if (!copy) return TG_ERR_NOMEM;
    *copy = s;
    *out = copy;
    return TG_OK;
}

static enum tg_code get_string(struct cut *c, struct tg_arena *arena, struct tg_string *out)
{
    const uint32_t len = get_count(c, 1);
    const uint8_t *raw = get_bytes(c, len);
    if (c->bad) return TG_ERR_CORRUPT;
    out->len = len;
    out->ptr = NULL;
    if (arena) {
        out->ptr = tg_arena_strndup(arena, (const char *)raw, len);
        if (!out->ptr) return TG_ERR_NOMEM;
    }
    return TG_OK;
}

static enum tg_code get_exemplars(const struct tg_point *p, struct cut *c, struct tg_arena *arena,
                                  const struct tg_exemplars **out)
{
    const uint32_t n = get_count(c, 11);
    struct tg_exemplar *items = NULL;
    struct tg_exemplars *x = NULL;
    if (c->bad) return TG_ERR_CORRUPT;
    if (arena) {
        x = tg_arena_alloc(arena, sizeof(*x));
        items = n ? tg_arena_calloc(arena, n, sizeof(*items)) : NULL;
        if (!x || (n && !items)) return TG_ERR_NOMEM;
        x->n = n;
        x->items = items;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct tg_exemplar e = {0};
        e.ts_ns = (int64_t)((uint64_t)p->ts_ns + (uint64_t)tg_unzigzag(get_varint(c)));
        const unsigned flags = get_u8(c);
        e.is_int = flags & EXEMPLAR_INT;
        e.has_trace = flags & EXEMPLAR_TRACE;
        e.value = get_f64(c);
        if (e.has_trace) {
            const uint8_t *ids = get_bytes(c, 24);
            if (!ids) return TG_ERR_CORRUPT;
            memcpy(e.trace_id, ids, 16);
            memcpy(e.span_id, ids + 16, 8);
        }
        e.n_labels = get_count(c, 2);
        if (c->bad) return TG_ERR_CORRUPT;
        struct tg_string *labels = NULL;
        if (arena && e.n_labels) {
            labels = tg_arena_alloc(arena, 2 * (size_t)e.n_labels * sizeof(*labels));
            if (!labels) return TG_ERR_NOMEM;
        }
        for (uint32_t k = 0; k < 2 * e.n_labels; k++) {
            struct tg_string ignored;
            TG_TRY(get_string(c, arena, labels ? &labels[k] : &ignored));
        }
        e.labels = labels;
        if (items) items[i] = e;
    }
    if (arena) *out = x;
    return c->bad ? TG_ERR_CORRUPT : TG_OK;
}

enum tg_code tg_block_complex_decode(struct tg_block_complex_state *s, struct tg_point *p,
                                     bool exemplars, const uint8_t **pos, const uint8_t *end,
                                     struct tg_arena *arena)
{
    struct cut c = {.p = *pos, .end = end};
    enum tg_code code = TG_OK;
    struct tg_string str;
    switch (p->type) {
    case TG_VALUE_HISTOGRAM: code = get_histogram(s, &c, arena, &p->value.histogram); break;
    case TG_VALUE_EXP_HISTOGRAM:
        code = get_exp_histogram(&c, arena, &p->value.exp_histogram);
        break;
    case TG_VALUE_FLOAT_HISTOGRAM:
        code = get_float_histogram(&c, arena, &p->value.float_histogram);
        break;
    case TG_VALUE_SUMMARY: code = get_summary(&c, arena, &p->value.summary); break;
    case TG_VALUE_STRING:
        code = get_string(&c, arena, &str);
        if (code == TG_OK && arena) {
            struct tg_string *copy = tg_arena_alloc(arena, sizeof(*copy));
            if (!copy) return TG_ERR_NOMEM;
            *copy = str;
            p->value.string = copy;
        }
        break;
    default: break;
    }
    if (code == TG_OK && exemplars) code = get_exemplars(p, &c, arena, &p->exemplars);
    if (code == TG_OK && c.bad) code = TG_ERR_CORRUPT;
    *pos = c.p;
    return code;
}
