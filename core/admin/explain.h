/* explain.h: a series as people write it, and what the rules decided for it, as JSON.
 *
 * Threading: no shared state.
 */
#ifndef TG_ADMIN_EXPLAIN_H
#define TG_ADMIN_EXPLAIN_H

#include "core/admin/selector.h"
#include "core/base/buf.h"
#include "core/pipe/explain.h"

/* What people give of a series, as texts; NULL = not given. */
struct tg_explain_words {
    const char *series; /* metric{tag="value"}; or: */
    const char *line;   /* one line of the Influx line protocol with one field */
    const char *measurement,
        *field; /* instead of the name in `series`, which is then {tag="value"} */
    const char *kind, *unit;
    const char *resource, *scope; /* tags of these origins: "service.name,host.name" */
};
/* Reads them into a canonical desc, ready for a decision. Strings and tags live in `arena`.
 * TG_ERR_INVALID says what to write instead; TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_explain_read(const struct tg_explain_words *words,
                                           struct tg_arena *arena, struct tg_series_desc *out,
                                           struct tg_err *err);
/* Appends one JSON object:
 * {"series":{"name","kind","unit","temporality","measurement","field","tags":{..},"origins":{..}},
 *  "live":..,"matches":..,"others":[..],"idle_s":..,
 *  "generation":..,"mapped":{..},"targets":[..],"wait":[..],"dropped":..,"strategy":..,
 *  "failed":..,"retention":{..},"steps":[{"what":..,"file":..,"line":..,"note":..}],
 *  "in_force":{"generation":..,"targets":[..],"wait":[..],"strategy":..,"failed":..,"kept":..},
 *  "backends":[{"name":..,"state":..,"waiting":..,"lag_ms":..,"last_error":..}]}
 * `in_force` for a live series that has a plan; `backends` are those of that plan, when `status` is
 * given. `more` (NULL accepted) is JSON that becomes the member "gateway". */
TG_MUST_CHECK enum tg_code tg_explain_json(struct tg_buf *out, const struct tg_explained *e,
                                           const struct tg_config *config,
                                           const struct tg_gateway_status *status,
                                           const struct tg_buf *more);
/* "90d", "12h", "250ms"; "for ever" for 0. Returns out. */
char *tg_explain_duration(char *out, size_t cap, int64_t ms);

#endif
