/* deadletter.h: points that a backend refused permanently, kept with the reason.
 *
 * One file per backend, one JSON object per line, so that it can be read with any tool:
 *   {"at":"2026-01-01T00:00:00.000Z","reason":"...",
 *    "series":{"name":..,"kind":..,"unit":..,"temporality":..,"field_len":..,
 *              "tags":{key:value},"origins":{key:"resource"}},
 *    "time_ns":..,"start_ns":..,"type":"double","value":..}
 * `series` is the series as received (before tags.lua), so that a replay goes through the rules in
 * force then. Doubles have 17 digits; NaN and infinities are strings; a text value that is not
 * UTF-8 is {"hex":"ff00"}.
 *
 * Limit: max_bytes of the file; what does not fit is refused with TG_ERR_FULL and the backend stalls
 * until the file is moved away: its data waits in the log, nothing is dropped. The file may be moved
 * at any time: each commit opens it by its name.
 *
 * Threading: one thread.
 */
#ifndef TG_PIPE_DEADLETTER_H
#define TG_PIPE_DEADLETTER_H

#include "core/base/fs.h"
#include "core/model/table.h"

struct tg_dead_letters;

/* Makes `dir`; <dir>/<backend>.jsonl is made by the first commit. `fs` NULL = the real one;
 * borrowed. max_bytes 0 = no limit. TG_ERR_IO, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_dead_letters_new(const struct tg_fs *fs, const char *dir,
                                               const char *backend, uint64_t max_bytes,
                                               struct tg_dead_letters **out, struct tg_err *err);
void tg_dead_letters_free(struct tg_dead_letters *d); /* NULL accepted */

/* Adds one point to what the next commit writes. TG_ERR_FULL: it does not fit; what was added
 * before stays, and can be committed. TG_ERR_NOMEM, TG_ERR_IO. */
TG_MUST_CHECK enum tg_code tg_dead_letters_add(struct tg_dead_letters *d,
                                               const struct tg_table *table,
                                               const struct tg_point *p, const char *reason,
                                               struct tg_err *err);
size_t tg_dead_letters_pending(const struct tg_dead_letters *d); /* bytes for the next commit */
/* Writes and syncs what was added; it is a dead letter only when this says so. On failure
 * (TG_ERR_IO; TG_ERR_FULL: the file may not grow any more) none of it is: it is forgotten, and the
 * file is cut back to where it ended before, now or, when that fails too, before anything else is
 * added. So lines are there twice only when the process ends in between (what was not confirmed may
 * have stayed), or before the cursor is behind their points. */
TG_MUST_CHECK enum tg_code tg_dead_letters_commit(struct tg_dead_letters *d, struct tg_err *err);
void tg_dead_letters_abort(struct tg_dead_letters *d); /* forgets what was added */

#endif
