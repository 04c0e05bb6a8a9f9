/* otlp_point.h: the data points of OTLP that are more than one number, and exemplars.
 *
 * Field numbers: opentelemetry-proto, opentelemetry/proto/metrics/v1/metrics.proto. The messages:
 *
 *   number point  { start 2, time 3, as_double 4, exemplars 5, as_int 6, attributes 7, flags 8 }
 *   histogram     { start 2, time 3, count 4, sum 5, bucket_counts 6, explicit_bounds 7,
 *                   exemplars 8, attributes 9, flags 10, min 11, max 12 }
 *   exponential   { attributes 1, start 2, time 3, count 4, sum 5, scale 6, zero_count 7,
 *                   positive 8, negative 9, flags 10, exemplars 11, min 12, max 13,
 *                   zero_threshold 14 }, buckets { offset 1, bucket_counts 2 }
 *   summary       { start 2, time 3, count 4, sum 5, quantile_values 6, attributes 7, flags 8 },
 *                 value at quantile { quantile 1, value 2 }
 *   exemplar      { time 2, as_double 3, span_id 4, trace_id 5, as_int 6, attributes 7 }
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_OTLP_POINT_H
#define TG_PROTOCOL_OTLP_POINT_H

#include "core/model/point.h"
#include "core/protocol/identity_run.h"
#include "core/protocol/otlp_attr.h"
#include "core/protocol/protobuf_wire.h"

enum {
    TG_OTLP_NUMBER_EXEMPLARS = 5,
    TG_OTLP_NUMBER_ATTRIBUTES = 7,
    TG_OTLP_HISTOGRAM_EXEMPLARS = 8,
    TG_OTLP_HISTOGRAM_ATTRIBUTES = 9,
    TG_OTLP_EXP_HISTOGRAM_ATTRIBUTES = 1,
    TG_OTLP_EXP_HISTOGRAM_EXEMPLARS = 11,
    TG_OTLP_SUMMARY_ATTRIBUTES = 7,
    TG_OTLP_EXEMPLAR_ATTRIBUTES = 7,
    TG_OTLP_FLAG_NO_RECORDED_VALUE = 1,
};

struct tg_otlp_point { /* starts zeroed */
    uint64_t ts_ns, start_ns;
    uint32_t flags; /* OTLP's */
    uint32_t n_exemplars;
    uint8_t type; /* enum tg_value_type, TG_VALUE_NONE = none seen */
    union tg_value value;
    struct tg_identity_run attributes; /* fields */
};

struct tg_otlp_reader {
    struct tg_arena *arena;   /* what points keep: the batch's */
    struct tg_arena *scratch; /* while decoding one exemplar; the caller resets it */
    const struct tg_series_limits *limits;
    const uint8_t *bad; /* out: where the bytes went wrong, TG_ERR_MALFORMED */
};

/* Parse one data point into *out (zeroed by the caller). TG_ERR_MALFORMED (r->bad is set): the
 * bytes are no such message; anything else is about this point alone: TG_ERR_INVALID, TG_ERR_NOMEM.
 */
TG_MUST_CHECK enum tg_code tg_otlp_parse_histogram(struct tg_otlp_reader *r, const uint8_t *msg,
                                                   size_t len, struct tg_otlp_point *out,
                                                   struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_otlp_parse_exp_histogram(struct tg_otlp_reader *r, const uint8_t *msg,
                                                       size_t len, struct tg_otlp_point *out,
                                                       struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_otlp_parse_summary(struct tg_otlp_reader *r, const uint8_t *msg,
                                                 size_t len, struct tg_otlp_point *out,
                                                 struct tg_err *err);

/* The exemplars of a point, its fields `number`. An exemplar without a value, or with a time beyond
 * int64, is left out; *out is NULL when none remain. */
TG_MUST_CHECK enum tg_code tg_otlp_parse_exemplars(struct tg_otlp_reader *r, const uint8_t *msg,
                                                   size_t len, uint32_t number,
                                                   const struct tg_exemplars **out,
                                                   struct tg_err *err);

#endif
