/* json.h: JSON text written straight into a buffer, for answers of many rows.
 *
 * Doubles are written with the fewest digits that read back to the same bits; NaN and infinities,
 * for which JSON has no numbers, as the strings "NaN", "+Inf", "-Inf". Bytes that are not UTF-8 are
 * replaced by U+FFFD, so that the text is always valid.
 *
 * Threading: no shared state.
 */
#ifndef TG_ADMIN_JSON_H
#define TG_ADMIN_JSON_H

#include "core/backend/backend.h"
#include "core/base/buf.h"

/* Each appends; TG_ERR_TOO_LARGE over the buffer's maximum, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_json_string(struct tg_buf *out, const char *s, size_t len);
TG_MUST_CHECK enum tg_code tg_json_double(struct tg_buf *out, double v);
/* "2026-01-31T12:00:00.000000001Z" with quotes. */
TG_MUST_CHECK enum tg_code tg_json_time(struct tg_buf *out, int64_t ts_ns);
/* The value alone: number, true/false, null (no value), string, or an object for the rest. */
TG_MUST_CHECK enum tg_code tg_json_value(struct tg_buf *out, const struct tg_point *p);
/* {"name":..,"kind":..,"unit":..,"tags":{..},"time":..,"time_ns":..,"type":..,"value":..} */
TG_MUST_CHECK enum tg_code tg_json_row(struct tg_buf *out, const struct tg_query_row *row);

/* "double", "int64", "uint64", "bool", "none", "histogram", "exponential_histogram", "summary",
 * "string" */
const char *tg_value_type_name(uint8_t type);

#endif
