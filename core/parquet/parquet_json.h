/* parquet_json.h: exemplars as JSON text, and back; and text made fit for a STRING column.
 *
 *   [{"time":1700000000000000000,"value":1.5,"trace_id":"<32 hex>","span_id":"<16 hex>",
 *     "labels":{"k":"v"}}, ...]
 *
 * `trace_id` and `span_id` are there together or not at all, `labels` when there are any, and
 * `"int":true` when the value came as an integer. A value that is not finite is a string: "+Inf",
 * "-Inf", or "NaN:" and the 16 hex digits of its bits. Finite ones have 17 digits, so all doubles
 * survive. Bytes that are not UTF-8 become U+FFFD, for readers refuse a whole file over one.
 *
 * Threading: no shared state.
 */
#ifndef TG_PARQUET_PARQUET_JSON_H
#define TG_PARQUET_PARQUET_JSON_H

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/model/point.h"

/* Appends the text. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_parquet_exemplars_encode(const struct tg_exemplars *e,
                                                       struct tg_buf *out);
/* Parses text of the above form only; everything is copied into `arena`. TG_ERR_CORRUPT,
 * TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_parquet_exemplars_parse(const char *text, size_t len,
                                                      struct tg_arena *arena,
                                                      const struct tg_exemplars **out);

/* Makes *p, *len valid UTF-8: untouched when they are, else a copy in `arena`. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_parquet_utf8_fix(const char **p, uint32_t *len,
                                               struct tg_arena *arena);

#endif
