/* series.h: what a series is: metric name + sorted tags + kind + unit, in three forms.
 *
 *   tg_series_desc   borrowed strings, as a decoder or a rule hands them over
 *   canonical bytes  the one encoding of a desc: hashed for identity, stored in log segments
 *   tg_series        the live object in the table: symbol ids instead of strings, 64 + 4/tag bytes
 *
 * Canonical bytes (all lengths are varints):
 *   u8 version=1 | u8 kind | u8 temporality | name | unit | field_len
 *     | n_tags | n_tags x ( u8 origin | key | value )
 * with tags strictly ascending by key (bytewise). `field_len` > 0 marks an Influx series: the name
 * is measurement + "_" + field, and the field is its last field_len bytes.
 *
 * Canonicalisation: sorted by key; of equal keys the one of the narrowest origin stays (point, then
 * scope, then resource; later beats earlier within one origin); tags with an empty value are
 * removed (in Prometheus an empty label equals an absent one).
 *
 * Threading: a tg_series is created once and then read by all; the atomic fields say who writes
 * them.
 */
#ifndef TG_MODEL_SERIES_H
#define TG_MODEL_SERIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/hash.h"

enum tg_kind {
    TG_KIND_UNKNOWN = 0, /* remote write 1.0 and Influx lines do not say */
    TG_KIND_GAUGE = 1,
    TG_KIND_COUNTER = 2, /* monotonic sum */
    TG_KIND_HISTOGRAM = 3,
    TG_KIND_EXP_HISTOGRAM = 4,
    TG_KIND_SUMMARY = 5,
    TG_KINDS = 6
};
/* "unknown", "gauge", "counter", "histogram", "exponential_histogram", "summary" */
const char *tg_kind_name(enum tg_kind k);

/* OTLP AggregationTemporality. A gauge with a temporality is a non-monotonic sum (OTLP Sum,
 * is_monotonic false). */
enum tg_temporality {
    TG_TEMPORALITY_NONE = 0,
    TG_TEMPORALITY_DELTA = 1,
    TG_TEMPORALITY_CUMULATIVE = 2
};

enum tg_origin { TG_ORIGIN_POINT = 0, TG_ORIGIN_SCOPE = 1, TG_ORIGIN_RESOURCE = 2 };

struct tg_tag {
    const char *key, *value; /* borrowed, not NUL-terminated */
    uint32_t key_len, value_len;
    uint8_t origin; /* enum tg_origin */
};

struct tg_series_desc {
    const char *name, *unit; /* borrowed */
    uint32_t name_len, unit_len;
    uint32_t field_len; /* > 0: Influx: name is measurement + "_" + field */
    uint8_t kind;       /* enum tg_kind */
    uint8_t temporality;
    uint32_t n_tags;
    struct tg_tag *tags;
    /* What the metric is for (help.h); borrowed, no part of what the series is; len 0 = not known.
     */
    const char *help;
    uint32_t help_len;
    /* Of a series of remote write: what was said of its family (help.h), whose text is `help`. */
    bool has_family;
    uint8_t family_type, family_cut;
    uint32_t family_unit_len;
    const char *family_unit;
};

/* Limits on one series; over them the series' points are refused with TG_ERR_TOO_LARGE. */
struct tg_series_limits {
    uint32_t max_tags;        /* 128 */
    uint32_t max_name_bytes;  /* 1024 */
    uint32_t max_key_bytes;   /* 1024 */
    uint32_t max_value_bytes; /* 4096 */
};
extern const struct tg_series_limits tg_series_limits_default;

/* Canonicalises in place: sorts d->tags and drops the losers (n_tags shrinks); checks limits, that
 * the name is not empty, that keys are not empty and that all strings are valid UTF-8 without NUL.
 * TG_ERR_INVALID / TG_ERR_TOO_LARGE naming the offending part. */
TG_MUST_CHECK enum tg_code tg_series_desc_canonicalise(struct tg_series_desc *d,
                                                       const struct tg_series_limits *limits,
                                                       struct tg_err *err);
/* Appends the canonical bytes of a canonical desc. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_series_desc_encode(const struct tg_series_desc *d,
                                                 struct tg_buf *out);
/* Parses canonical bytes; strings borrow from `bytes`, the tag array is in `arena`. The whole of
 * `len` must be used. TG_ERR_CORRUPT for anything not canonical. */
TG_MUST_CHECK enum tg_code tg_series_desc_parse(const uint8_t *bytes, size_t len,
                                                struct tg_series_desc *d, struct tg_arena *arena,
                                                struct tg_err *err);
/* A copy of a canonical desc that borrows from nothing but `arena`: all that the series is, without
 * what is said of its metric. TG_ERR_NOMEM, TG_ERR_TOO_LARGE (over 16 MiB). */
TG_MUST_CHECK enum tg_code tg_series_desc_copy(const struct tg_series_desc *d,
                                               struct tg_arena *arena, struct tg_series_desc *out);
/* The value of the tag `key`, or NULL; d must be canonical. */
const struct tg_tag *tg_series_desc_tag(const struct tg_series_desc *d, const char *key,
                                        size_t key_len);
/* Appends `name{key="value",...}` for people (explain, status, messages). */
TG_MUST_CHECK enum tg_code tg_series_desc_print(const struct tg_series_desc *d, struct tg_buf *out);
/* The same as a string that is cut to fit `cap` (at least 8) between characters; "" without memory.
 * Returns out. */
char *tg_series_desc_text(const struct tg_series_desc *d, char *out, size_t cap);

struct tg_plan;
struct tg_series {
    _Atomic(struct tg_plan *) plan; /* NULL until decided; replaced through tg_table_set_plan */
    struct tg_hash128 hash;         /* of the canonical bytes */
    _Atomic uint32_t last_used_s;   /* tg_clock_coarse_s of the last batch that named it */
    _Atomic uint32_t refs; /* long-lived holders (log readers' dictionaries); not per point */
    uint64_t log_segment;  /* the log writer's alone: segment in which it has log_ref; 0 = none */
    uint32_t log_ref;
    uint32_t name, unit; /* symbol ids */
    uint32_t field_len;
    uint16_t n_tags;
    uint8_t kind, temporality;
    _Atomic bool dead; /* evicted from the table: look it up again */
    bool held;         /* the table's: idle, but a holder keeps it; does not count for the limit */
    uint32_t tags[];   /* symbol ids, one for each (origin, key, value): see table.c */
};

#endif
