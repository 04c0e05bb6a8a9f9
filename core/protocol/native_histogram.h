/* native_histogram.h: one native histogram of Prometheus, both ways.
 *
 *   Histogram { count_int 1 or count_float 2, sum 3, schema 4, zero_threshold 5,
 *               zero_count_int 6 or zero_count_float 7,
 *               negative_spans 8, negative_deltas 9 or negative_counts 10,
 *               positive_spans 11, positive_deltas 12 or positive_counts 13,
 *               reset_hint 14, timestamp 15, custom_values 16 },  BucketSpan { offset 1, length 2 }
 *
 * What it becomes:
 *
 *   schema -4..8, integers    TG_VALUE_EXP_HISTOGRAM    scale = schema, index - 1
 *   schema -53, integers      TG_VALUE_HISTOGRAM        custom_values are the bounds
 *   either, floats            TG_VALUE_FLOAT_HISTOGRAM
 *   sum is the stale NaN      TG_VALUE_NONE
 *
 * The reset hint is in the point's flags. Spans become dense buckets, empty ones between them, so
 * how far they reach is bounded (TG_NATIVE_MAX_BUCKETS): 256 powers of two at the finest schema.
 *
 * Source: prometheus/prometheus, prompb/types.proto and model/histogram (what Validate refuses is
 * refused here).
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_NATIVE_HISTOGRAM_H
#define TG_PROTOCOL_NATIVE_HISTOGRAM_H

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/model/point.h"

/* The NaN by which Prometheus says that a series ended. */
#define TG_REMOTE_WRITE_STALE_NAN UINT64_C(0x7ff0000000000002)

enum { TG_NATIVE_MAX_BUCKETS = 1 << 16 }; /* of one sign, from the first to the last */

struct tg_native {
    uint64_t ms; /* int64 */
    union tg_value value;
    uint8_t type;       /* enum tg_value_type */
    uint8_t flags;      /* TG_POINT_* */
    const uint8_t *bad; /* out, TG_ERR_MALFORMED: where */
};

/* Decodes one message; what the value holds lies in `arena`.
 *
 * TG_ERR_MALFORMED: the bytes are no such message; out->bad says where and err->msg why. All else
 * is about this histogram alone: TG_ERR_INVALID (overlapping spans, a count that is not the sum of
 * its buckets, ...), TG_ERR_TOO_LARGE, TG_ERR_NOMEM; out->ms is set. */
TG_MUST_CHECK enum tg_code tg_native_decode(const uint8_t *msg, size_t len, struct tg_arena *arena,
                                            struct tg_native *out, struct tg_err *err);

/* Appends the fields of the message for a point of the types above (TG_VALUE_NONE: a stale marker),
 * time included, cut to `ms`. Exponential histograms finer than schema 8 are merged down to it.
 *
 * TG_ERR_UNSUPPORTED: another type, a scale under -4, or a count that is not the sum of its
 * buckets: Prometheus 2.42 answers 500 to that, and a 500 is retried for ever. */
TG_MUST_CHECK enum tg_code tg_native_encode(struct tg_buf *out, const struct tg_point *p,
                                            int64_t ms);

#endif
