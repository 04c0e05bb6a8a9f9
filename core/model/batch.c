/* batch.c: batches of points (point.h), and copies of them into an arena. */
#include "core/model/point.h"

#include <string.h>

#include "core/base/deferred_free.h"
#include "core/base/mem.h"

enum { MAX_POINTS_DEFAULT = 1 << 24, CAP_MIN = 64 };

void tg_batch_init(struct tg_batch *b, struct tg_deferred_free *guard, uint32_t max_points,
                   size_t max_arena_bytes)
{
    *b = (struct tg_batch){
        .max_points = max_points ? max_points : MAX_POINTS_DEFAULT,
        .guard = guard,
        .ticket = guard ? tg_deferred_free_enter(guard) : 0,
    };
    tg_arena_init(&b->arena, max_arena_bytes);
}

void tg_batch_deinit(struct tg_batch *b)
{
    tg_free(b->points);
    b->points = NULL;
    b->n_points = b->cap = 0;
    tg_arena_deinit(&b->arena);
    if (b->guard) tg_deferred_free_exit(b->guard, b->ticket);
    b->guard = NULL;
}

void tg_batch_reset(struct tg_batch *b)
{
    b->n_points = 0;
    tg_arena_reset(&b->arena);
    if (b->guard) {
        tg_deferred_free_exit(b->guard, b->ticket);
        b->ticket = tg_deferred_free_enter(b->guard);
    }
}

enum tg_code tg_batch_reserve_slow(struct tg_batch *b, uint32_t n)
{
    if (n > b->max_points || b->n_points > b->max_points - n) return TG_ERR_TOO_LARGE;
    const uint32_t need = b->n_points + n;
    uint64_t cap = b->cap ? b->cap : CAP_MIN;
    while (cap < need) cap += cap / 2;
    if (cap > b->max_points) cap = b->max_points;
    struct tg_point *p = tg_reallocarray(b->points, cap, sizeof(*p));
    if (!p) return TG_ERR_NOMEM;
    b->points = p;
    b->cap = (uint32_t)cap;
    return TG_OK;
}

/* A deep copy in progress. The first refusal is kept in `code`; what is asked for afterwards is
 * refused, too, so that it is looked at once, at the end. */
struct copier {
    struct tg_arena *arena;
    enum tg_code code;
};

static void *take(struct copier *c, size_t n, size_t size)
{
    size_t total;
    if (c->code != TG_OK) return NULL;
    if (__builtin_mul_overflow(n, size, &total)) {
        c->code = TG_ERR_TOO_LARGE;
        return NULL;
    }
    void *p = tg_arena_alloc(c->arena, total);
    if (!p) { /* the arena's own bound, or the heap? It hands out multiples of 16. */
        const size_t left = c->arena->max_bytes - c->arena->used_bytes;
        c->code = c->arena->max_bytes && (total > left || ((total + 15) & ~(size_t)15) > left)
                      ? TG_ERR_TOO_LARGE
                      : TG_ERR_NOMEM;
    }
    return p;
}

/* Returns the copy of `n` items; NULL for an empty array or a refusal. */
static void *copy(struct copier *c, const void *items, size_t n, size_t size)
{
    if (n == 0) return NULL;
    void *p = take(c, n, size);
    if (p) memcpy(p, items, n * size);
    return p;
}

static const struct tg_histogram *copy_histogram(struct copier *c, const struct tg_histogram *from)
{
    struct tg_histogram *h = copy(c, from, 1, sizeof(*h));
    if (!h) return NULL;
    h->bounds = copy(c, from->bounds, from->n_bounds, sizeof(*h->bounds));
    h->buckets = copy(c, from->buckets, from->n_buckets, sizeof(*h->buckets));
    return h;
}

static const struct tg_exp_histogram *copy_exp_histogram(struct copier *c,
                                                         const struct tg_exp_histogram *from)
{
    struct tg_exp_histogram *h = copy(c, from, 1, sizeof(*h));
    if (!h) return NULL;
    h->pos = copy(c, from->pos, from->n_pos, sizeof(*h->pos));
    h->neg = copy(c, from->neg, from->n_neg, sizeof(*h->neg));
    return h;
}

static const struct tg_float_histogram *copy_float_histogram(struct copier *c,
                                                             const struct tg_float_histogram *from)
{
    struct tg_float_histogram *h = copy(c, from, 1, sizeof(*h));
    if (!h) return NULL;
    h->pos = copy(c, from->pos, from->n_pos, sizeof(*h->pos));
    h->neg = copy(c, from->neg, from->n_neg, sizeof(*h->neg));
    h->bounds = copy(c, from->bounds, from->n_bounds, sizeof(*h->bounds));
    return h;
}

static const struct tg_summary *copy_summary(struct copier *c, const struct tg_summary *from)
{
    struct tg_summary *s = copy(c, from, 1, sizeof(*s));
    if (s) s->quantiles = copy(c, from->quantiles, from->n_quantiles, sizeof(*s->quantiles));
    return s;
}

static const struct tg_string *copy_string(struct copier *c, const struct tg_string *from)
{
    struct tg_string *s = copy(c, from, 1, sizeof(*s));
    if (s) s->ptr = copy(c, from->ptr, from->len, 1);
    return s;
}

static const struct tg_exemplars *copy_exemplars(struct copier *c, const struct tg_exemplars *from)
{
    struct tg_exemplars *e = copy(c, from, 1, sizeof(*e));
    struct tg_exemplar *items = copy(c, from->items, from->n, sizeof(*items));
    if (!e) return NULL;
    e->items = items;
    for (uint32_t i = 0; items && i < from->n; i++) {
        const size_t n_strings = 2 * (size_t)items[i].n_labels;
        struct tg_string *labels = copy(c, items[i].labels, n_strings, sizeof(*labels));
        for (size_t k = 0; labels && k < n_strings; k++)
            labels[k].ptr = copy(c, labels[k].ptr, labels[k].len, 1);
        items[i].labels = labels;
    }
    return e;
}

enum tg_code tg_batch_copy_point(struct tg_batch *to, const struct tg_point *p)
{
    TG_TRY(tg_batch_reserve(to, 1));
    struct copier c = {.arena = &to->arena, .code = TG_OK};
    struct tg_point q = *p;
    switch (p->type) {
    case TG_VALUE_HISTOGRAM: q.value.histogram = copy_histogram(&c, p->value.histogram); break;
    case TG_VALUE_EXP_HISTOGRAM:
        q.value.exp_histogram = copy_exp_histogram(&c, p->value.exp_histogram);
        break;
    case TG_VALUE_FLOAT_HISTOGRAM:
        q.value.float_histogram = copy_float_histogram(&c, p->value.float_histogram);
        break;
    case TG_VALUE_SUMMARY: q.value.summary = copy_summary(&c, p->value.summary); break;
    case TG_VALUE_STRING: q.value.string = copy_string(&c, p->value.string); break;
    default: break;
    }
    if (p->exemplars) q.exemplars = copy_exemplars(&c, p->exemplars);
    if (c.code != TG_OK) return c.code; /* what was copied leaves with the batch */
    *tg_batch_push(to) = q;
    return TG_OK;
}

const char *tg_reset_hint_name(uint8_t flags)
{
    static const char *const names[] = {NULL, "yes", "no", "gauge"};
    return names[(flags & TG_POINT_RESET_MASK) >> TG_POINT_RESET_SHIFT];
}

/* --- comparison ------------------------------------------------------------------------------ */

static bool same_bits(double a, double b)
{
    uint64_t x;
    uint64_t y;
    memcpy(&x, &a, 8);
    memcpy(&y, &b, 8);
    return x == y;
}

static bool same_bytes(const void *a, const void *b, size_t n)
{
    return n == 0 || memcmp(a, b, n) == 0;
}

/* Optional values count only when they are there. */
static bool same_optional(bool has_a, double a, bool has_b, double b)
{
    return has_a == has_b && (!has_a || same_bits(a, b));
}

static bool same_string(const struct tg_string *a, const struct tg_string *b)
{
    return a->len == b->len && same_bytes(a->ptr, b->ptr, a->len);
}

static bool same_histogram(const struct tg_histogram *a, const struct tg_histogram *b)
{
    return a->count == b->count && same_optional(a->has_sum, a->sum, b->has_sum, b->sum) &&
           same_optional(a->has_min, a->min, b->has_min, b->min) &&
           same_optional(a->has_max, a->max, b->has_max, b->max) && a->n_bounds == b->n_bounds &&
           a->n_buckets == b->n_buckets &&
           same_bytes(a->bounds, b->bounds, a->n_bounds * sizeof(*a->bounds)) &&
           same_bytes(a->buckets, b->buckets, a->n_buckets * sizeof(*a->buckets));
}

static bool same_exp_histogram(const struct tg_exp_histogram *a, const struct tg_exp_histogram *b)
{
    return a->count == b->count && a->zero_count == b->zero_count &&
           same_bits(a->zero_threshold, b->zero_threshold) &&
           same_optional(a->has_sum, a->sum, b->has_sum, b->sum) &&
           same_optional(a->has_min, a->min, b->has_min, b->min) &&
           same_optional(a->has_max, a->max, b->has_max, b->max) && a->scale == b->scale &&
           a->pos_offset == b->pos_offset && a->neg_offset == b->neg_offset &&
           a->n_pos == b->n_pos && a->n_neg == b->n_neg &&
           same_bytes(a->pos, b->pos, a->n_pos * sizeof(*a->pos)) &&
           same_bytes(a->neg, b->neg, a->n_neg * sizeof(*a->neg));
}

static bool same_float_histogram(const struct tg_float_histogram *a,
                                 const struct tg_float_histogram *b)
{
    return same_bits(a->count, b->count) && same_bits(a->zero_count, b->zero_count) &&
           same_bits(a->sum, b->sum) && same_bits(a->zero_threshold, b->zero_threshold) &&
           a->scale == b->scale && a->pos_offset == b->pos_offset &&
           a->neg_offset == b->neg_offset && a->n_pos == b->n_pos && a->n_neg == b->n_neg &&
           a->n_bounds == b->n_bounds && same_bytes(a->pos, b->pos, a->n_pos * sizeof(*a->pos)) &&
           same_bytes(a->neg, b->neg, a->n_neg * sizeof(*a->neg)) &&
           same_bytes(a->bounds, b->bounds, a->n_bounds * sizeof(*a->bounds));
}

static bool same_summary(const struct tg_summary *a, const struct tg_summary *b)
{
    /* struct tg_quantile is two doubles without padding: bytes are bits. */
    return a->count == b->count && same_bits(a->sum, b->sum) && a->n_quantiles == b->n_quantiles &&
           same_bytes(a->quantiles, b->quantiles, a->n_quantiles * sizeof(*a->quantiles));
}

static bool same_exemplar(const struct tg_exemplar *a, const struct tg_exemplar *b)
{
    if (a->ts_ns != b->ts_ns || !same_bits(a->value, b->value) || a->is_int != b->is_int ||
        a->has_trace != b->has_trace || a->n_labels != b->n_labels)
        return false;
    if (a->has_trace && (memcmp(a->trace_id, b->trace_id, sizeof(a->trace_id)) != 0 ||
                         memcmp(a->span_id, b->span_id, sizeof(a->span_id)) != 0))
        return false;
    for (size_t i = 0; i < 2 * (size_t)a->n_labels; i++)
        if (!same_string(&a->labels[i], &b->labels[i])) return false;
    return true;
}

static bool same_exemplars(const struct tg_exemplars *a, const struct tg_exemplars *b)
{
    const uint32_t n = a ? a->n : 0; /* none and an empty list say the same */
    if (n != (b ? b->n : 0)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!same_exemplar(&a->items[i], &b->items[i])) return false;
    return true;
}

bool tg_point_equal(const struct tg_point *a, const struct tg_point *b)
{
    if (a->ts_ns != b->ts_ns || a->start_ns != b->start_ns || a->type != b->type ||
        a->flags != b->flags || !same_exemplars(a->exemplars, b->exemplars))
        return false;
    switch (a->type) {
    case TG_VALUE_NONE:
    case TG_VALUE_EXEMPLARS: return true;
    case TG_VALUE_HISTOGRAM: return same_histogram(a->value.histogram, b->value.histogram);
    case TG_VALUE_EXP_HISTOGRAM:
        return same_exp_histogram(a->value.exp_histogram, b->value.exp_histogram);
    case TG_VALUE_FLOAT_HISTOGRAM:
        return same_float_histogram(a->value.float_histogram, b->value.float_histogram);
    case TG_VALUE_SUMMARY: return same_summary(a->value.summary, b->value.summary);
    case TG_VALUE_STRING: return same_string(a->value.string, b->value.string);
    default: return a->value.u64 == b->value.u64; /* doubles by their bits, too */
    }
}
