/* influx_line.h: InfluxDB line protocol, both directions.
 *
 *   measurement[,tag=value...] field=value[,field=value...] [timestamp]
 *   \______ series part _____/ \_______ field set ________/
 *
 * Source: "Line protocol" in the InfluxDB v2 reference (docs.influxdata.com/influxdb/v2/reference/
 * syntax/line-protocol), and where that is silent the behaviour of InfluxDB 1.x's parser:
 *   - In names, keys and tag values a backslash escapes a comma, a space and (not in measurements)
 *     an equals sign; before anything else it is itself. In string values it escapes a double quote
 *     and a backslash. So a name cannot end in a backslash.
 *   - A newline inside a quoted string belongs to the string; anywhere else it ends the line.
 *   - Lines that are blank or start with # are skipped; spaces (and tabs) before a line and after
 *     the timestamp, more than one space between sections, and CR before LF are accepted.
 *   - NaN and infinity are no values; numbers out of their type's range are refused.
 * Duplicate tag keys and empty tag values are refused. Strings are at most 64 KiB.
 *
 * Each field is a series of its own: name = measurement "_" field, desc.field_len = its length.
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_INFLUX_LINE_H
#define TG_PROTOCOL_INFLUX_LINE_H

#include "core/base/buf.h"
#include "core/model/left_out.h"
#include "core/model/plan.h"
#include "core/protocol/intake.h"

enum {
    TG_INFLUX_MAX_STRING_BYTES = 65536, /* "Length limit 64KB" */
    TG_INFLUX_MAX_KEY_BYTES = 65535,    /* measurement and tags, as InfluxDB limits its keys */
};

/* As a precision: each timestamp's unit is told by its size, as InfluxDB 3 does: below 5e9 seconds,
 * below 5e12 milliseconds, below 5e15 microseconds, else nanoseconds. */
#define TG_INFLUX_PRECISION_AUTO INT64_C(0)

/* The `precision` parameter of a write as ns per unit: "" ns n nanosecond (1), us u microsecond, ms
 * millisecond, s second, m, h; auto. TG_ERR_INVALID lists these. Sources: /write of InfluxDB 1,
 * /api/v2/write of 2 and /api/v3/write_lp of 3 (docs.influxdata.com). */
TG_MUST_CHECK enum tg_code tg_influx_precision(const char *text, size_t len, int64_t *precision_ns,
                                               struct tg_err *err);

/* Decodes all lines. A line that is bad is rejected whole (tg_intake_reject with `line N: what`,
 * its fields up to the bad one counted) and the others go on; a field whose series the table
 * refuses is rejected alone. Points without a timestamp get d->now_ns, cut to the precision as
 * InfluxDB cuts its own time. d->n_accepted, n_rejected and n_misses count up. Fails only for want
 * of room: TG_ERR_NOMEM, TG_ERR_TOO_LARGE (batch or arena full); the batch then holds points from
 * before. `buf` need not outlive the call. */
TG_MUST_CHECK enum tg_code tg_influx_decode(const uint8_t *buf, size_t len, int64_t precision_ns,
                                            struct tg_intake *d, struct tg_err *err);

/* The form of a series that tg_influx_append_point copies from:
 *
 *   u32 (little-endian) n | n bytes `measurement,tag=value,... ` | `field=`
 *
 * An Influx series (field_len > 0) gets its measurement and field back, any other its name as the
 * measurement and the field `value`. All tags are written whatever their origin. What line protocol
 * cannot say is changed, so that the points still arrive: a newline in a name, key or value becomes
 * the two characters \n, backslashes at its end are cut, and a tag left without value is left out.
 * TG_ERR_INVALID: an empty measurement or one that begins with # or a tab. TG_ERR_TOO_LARGE: over
 * TG_INFLUX_MAX_KEY_BYTES. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_influx_prepare(const struct tg_series_desc *mapped,
                                             struct tg_buf *out, struct tg_err *err);

/* The forms of a series from its prepared bytes, which are used up: series part and field; of
 * histograms and summaries those of the fields `count` and `sum`. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_influx_forms(const struct tg_series_desc *mapped,
                                           struct tg_buf *prepared, struct tg_form *forms,
                                           unsigned *n);

enum tg_influx_flags {
    /* For servers without unsigned integers (InfluxDB 1.x as shipped): `i` up to 2^63 - 1, beyond
     * that unsupported. */
    TG_INFLUX_NO_UNSIGNED = 1,
    /* Integers as floats, so that a series has one field type whoever sends it (beyond 2^53 they
     * are rounded). */
    TG_INFLUX_FLOATS = 2,
};

/* Appends one line with an ns timestamp and a newline.
 *   double, int64, uint64, bool, string: the one field of `prepared`.
 *   histogram: count, sum, min, max (the last three when known), and per bound the cumulative count
 *     as a field named by the bound ("0.5", "+Inf"), all floats: the naming of OpenTelemetry's
 *     Influx convention (telegraf-prometheus-v1).
 *   exponential histogram: count, sum, min, max, zero_count, zero_threshold, scale, and per
 *     non-empty bucket its own (not cumulative) count as pos_<index> or neg_<index>, where bucket
 *     <index> covers (2^(index / 2^scale), 2^((index + 1) / 2^scale)]; all floats.
 *   summary: count, sum, and per quantile a field named by it ("0.99"); all floats.
 * Fields that are not finite are left out; of two of one name (a bound of +Inf that is given, a
 * quantile given twice) the last is written. TG_ERR_UNSUPPORTED: the point has no form in line
 * protocol (NaN, infinity, no value). TG_ERR_TOO_LARGE and TG_ERR_NOMEM from `out`. TG_ERR_CORRUPT:
 * `prepared` is none. On failure `out` is as before. */
TG_MUST_CHECK enum tg_code tg_influx_append_point(const uint8_t *prepared, size_t prepared_len,
                                                  const struct tg_point *p, unsigned flags,
                                                  struct tg_buf *out, struct tg_err *err);
/* Adds what tg_influx_append_point left out of a point that it took: exemplars; fields that are NaN
 * or infinite, and quantiles that are there twice. Pure. */
void tg_influx_left_out(const struct tg_point *p, struct tg_left_out *left_out);

#endif
