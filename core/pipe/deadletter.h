/* deadletter.h: points that a backend refused for good, kept with the reason.
 *
 * One file per backend, one JSON object per line, so that it can be read with any tool:
 *   {"at":"2026-01-01T00:00:00.000Z","reason":"...","series":{"name":..,"kind":..,"unit":..,"temporality":..,
 *    "field_len":..,"tags":{key:value},"origins":{key:"resource"}},"time_ns":..,"start_ns":..,"type":"double","value":..}
 * `series` is the series as received (before tags.lua), so that a replay goes through the rules in
 * force then. Doubles have 17 digits; NaN and infinities are strings; a text value that is not
 * UTF-8 is {"hex":"ff00"}.
 *
 * Limit: max_bytes; at it appending fails with TG_ERR_FULL and the backend stalls until the file is
 * moved away: its data waits in the log, nothing is dropped.
 *
 * Threading: one thread.
 */
#ifndef TG_PIPE_DEADLETTER_H
#define TG_PIPE_DEADLETTER_H

#include "core/model/table.h"

struct tg_dead_letters;

/* Makes `dir`; opens <dir>/<backend>.jsonl lazily. TG_ERR_IO, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_dead_letters_new(const char *dir, const char *backend,
                                               uint64_t max_bytes, struct tg_dead_letters **out,
                                               struct tg_err *err);
void tg_dead_letters_free(struct tg_dead_letters *d); /* NULL accepted */

/* Adds one point to what the next commit writes. */
TG_MUST_CHECK enum tg_code tg_dead_letters_add(struct tg_dead_letters *d,
                                               const struct tg_table *table,
                                               const struct tg_point *p, const char *reason,
                                               struct tg_err *err);
/* Writes and syncs what was added; on failure none of it counts (the file is cut back) and it is
 * forgotten. */
TG_MUST_CHECK enum tg_code tg_dead_letters_commit(struct tg_dead_letters *d, struct tg_err *err);
void tg_dead_letters_abort(struct tg_dead_letters *d); /* forgets what was added */

#endif
