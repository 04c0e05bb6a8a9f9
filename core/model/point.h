/* point.h: one observation of a series, and the batch of them that passes between stages.
 *
 * A scalar value lies in the point; anything larger (histograms, strings, exemplars) lies in the
 * batch's arena and the point holds a pointer. A batch is therefore one array plus one arena:
 *
 *   points: [ series* | ts_ns | start_ns | value | extra* | type flags ]  x n     (48 bytes each)
 *   arena:  histograms, exponential histograms, summaries, strings, exemplars of these points
 *
 * Units: times are ns since the Unix epoch; start_ns 0 = unknown.
 *
 * Lifetime: a batch enters the table's guard when it is made and exits it when it is freed or
 * reset, so the series (and their plans) that its points name cannot be freed under it.
 *
 * Threading: one owner at a time; ownership passes through queues.
 */
#ifndef TG_MODEL_POINT_H
#define TG_MODEL_POINT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/base/err.h"

struct tg_series;

enum tg_value_type {
    TG_VALUE_DOUBLE = 0,
    TG_VALUE_INT64 = 1,
    TG_VALUE_UINT64 = 2, /* Influx "u" fields */
    TG_VALUE_BOOL = 3,   /* Influx booleans; in i64 as 0/1 */
    TG_VALUE_NONE = 4,   /* no recorded value (OTLP flag) : a point without a number; staleness */
    TG_VALUE_HISTOGRAM = 5,
    TG_VALUE_EXP_HISTOGRAM = 6,
    TG_VALUE_SUMMARY = 7,
    TG_VALUE_STRING = 8,    /* Influx string fields */
    TG_VALUE_EXEMPLARS = 9, /* no value of its own, only exemplars (at least one): remote write
                               sends each exemplar in a TimeSeries without samples */
    TG_VALUE_FLOAT_HISTOGRAM = 10, /* a native histogram of Prometheus that counts in floats */
    TG_VALUE_TYPES = 11
};

/* Point flags. */
enum {
    /* OTLP FLAG_NO_RECORDED_VALUE / Prometheus stale marker. The type is TG_VALUE_NONE; or, where
     * the sender says which buckets or quantiles ended, TG_VALUE_HISTOGRAM or TG_VALUE_SUMMARY, of
     * which only the bounds and the quantiles mean anything. */
    TG_POINT_NO_VALUE = 1,

    /* What a native histogram says of counter resets, two bits (Prometheus' CounterResetHint):
     * nothing, there was one, there was none, or that it is a gauge, which has none. */
    TG_POINT_RESET_SHIFT = 1,
    TG_POINT_RESET_YES = 1 << TG_POINT_RESET_SHIFT,
    TG_POINT_RESET_NO = 2 << TG_POINT_RESET_SHIFT,
    TG_POINT_RESET_GAUGE = 3 << TG_POINT_RESET_SHIFT,
    TG_POINT_RESET_MASK = TG_POINT_RESET_GAUGE,
};

/* Explicit-bucket histogram (OTLP HistogramDataPoint). n_buckets is n_bounds + 1, or 0 when no
 * buckets were sent. */
struct tg_histogram {
    uint64_t count;
    double sum, min, max;
    bool has_sum, has_min, has_max;
    uint32_t n_bounds;
    uint32_t n_buckets;
    const double *bounds;
    const uint64_t *buckets; /* counts per bucket, not cumulative */
};

/* Base-2 exponential histogram (OTLP ExponentialHistogramDataPoint). */
struct tg_exp_histogram {
    uint64_t count, zero_count;
    double sum, min, max, zero_threshold;
    bool has_sum, has_min, has_max;
    int32_t scale;
    int32_t pos_offset, neg_offset;
    uint32_t n_pos, n_neg;
    const uint64_t *pos, *neg; /* counts per bucket */
};

/* Native histogram whose counts are floats (recording rules make them): exponential buckets as
 * above, or, with scale TG_SCALE_CUSTOM, n_bounds explicit ones and n_pos = n_bounds + 1. */
enum { TG_SCALE_CUSTOM = -53 };
struct tg_float_histogram {
    double count, zero_count, sum, zero_threshold;
    int32_t scale;
    int32_t pos_offset, neg_offset;
    uint32_t n_pos, n_neg, n_bounds;
    const double *pos, *neg; /* counts per bucket */
    const double *bounds;
};

struct tg_quantile {
    double quantile; /* 0..1 */
    double value;
};
struct tg_summary {
    uint64_t count;
    double sum;
    uint32_t n_quantiles;
    const struct tg_quantile *quantiles;
};

struct tg_string {
    const char *ptr; /* not NUL-terminated */
    uint32_t len;
};

struct tg_exemplar {
    int64_t ts_ns;
    double value; /* as_int is converted; is_int says so */
    bool is_int;
    bool has_trace; /* trace_id/span_id are set */
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint32_t n_labels; /* filtered attributes: key, value, key, value ... (2 * n_labels strings) */
    const struct tg_string *labels;
};
struct tg_exemplars {
    uint32_t n;
    const struct tg_exemplar *items;
};

union tg_value {
    double f64;
    int64_t i64;
    uint64_t u64;
    const struct tg_histogram *histogram;
    const struct tg_exp_histogram *exp_histogram;
    const struct tg_float_histogram *float_histogram;
    const struct tg_summary *summary;
    const struct tg_string *string;
};

struct tg_point {
    struct tg_series *series; /* borrows, kept alive by the batch's guard */
    int64_t ts_ns;
    int64_t start_ns;
    union tg_value value;
    const struct tg_exemplars *exemplars; /* NULL = none */
    uint8_t type;                         /* enum tg_value_type */
    uint8_t flags;                        /* TG_POINT_* */
    bool routed;      /* `targets` is set: decoders leave both alone, the pipe sets them */
    uint32_t targets; /* backends (bit = number) it was routed to when it was accepted */
};

struct tg_deferred_free;
struct tg_batch {
    struct tg_point *points;
    uint32_t n_points;
    uint32_t cap;
    uint32_t max_points;
    struct tg_arena arena;
    struct tg_deferred_free *guard; /* NULL in tests without a table */
    int ticket;
};

/* `guard` may be NULL. Enters it. max_points 0 = 1<<24. Storage is the caller's. */
void tg_batch_init(struct tg_batch *b, struct tg_deferred_free *guard, uint32_t max_points,
                   size_t max_arena_bytes);
void tg_batch_deinit(struct tg_batch *b); /* exits the guard */
/* Empties and re-enters the guard (so that a reused batch does not hold old objects); keeps
 * capacity. */
void tg_batch_reset(struct tg_batch *b);

enum tg_code tg_batch_reserve_slow(struct tg_batch *b, uint32_t n);
/* Room for n more points. TG_ERR_TOO_LARGE over max_points, TG_ERR_NOMEM. */
TG_MUST_CHECK static inline enum tg_code tg_batch_reserve(struct tg_batch *b, uint32_t n)
{
    return b->cap - b->n_points >= n ? TG_OK : tg_batch_reserve_slow(b, n);
}
/* The caller reserved. Fields not set by the caller are NOT zeroed: set all. */
static inline struct tg_point *tg_batch_push(struct tg_batch *b)
{
    return &b->points[b->n_points++];
}
/* Deep copy of one point into `to` (scalar, complex value and exemplars). TG_ERR_NOMEM,
 * TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_batch_copy_point(struct tg_batch *to, const struct tg_point *p);

/* Bit-exact comparison of two points' times, types, flags and values (doubles by bits); series are
 * not compared. */
bool tg_point_equal(const struct tg_point *a, const struct tg_point *b);

/* TG_VALUE_NONE for a point without a value, whatever it carries of what ended; else its type. */
static inline uint8_t tg_point_value_type(const struct tg_point *p)
{
    return p->flags & TG_POINT_NO_VALUE ? (uint8_t)TG_VALUE_NONE : p->type;
}

/* The reset hint in a point's flags: "yes", "no", "gauge"; NULL = nothing is said. */
const char *tg_reset_hint_name(uint8_t flags);

/* The value as double for backends that know only that; false for types without one (histograms,
 * strings). */
static inline bool tg_point_as_double(const struct tg_point *p, double *out)
{
    switch (p->type) {
    case TG_VALUE_DOUBLE: *out = p->value.f64; return true;
    case TG_VALUE_INT64:
    case TG_VALUE_BOOL: *out = (double)p->value.i64; return true;
    case TG_VALUE_UINT64: *out = (double)p->value.u64; return true;
    default: return false;
    }
}

#endif
