/* explain.h: what the rules decided for a series, and which line did, as JSON.
 *
 * Threading: no shared state.
 */
#ifndef TG_ADMIN_EXPLAIN_H
#define TG_ADMIN_EXPLAIN_H

#include "core/admin/selector.h"
#include "core/base/buf.h"
#include "core/rules/rules.h"

/* A canonical desc of a selector, ready for a decision. `kind` and `unit` may be NULL. Strings are
 * borrowed. TG_ERR_INVALID without a name, for an unknown kind, or for a bad tag. */
TG_MUST_CHECK enum tg_code tg_explain_desc(const struct tg_selector *s, const char *kind,
                                           const char *unit, struct tg_series_desc *out,
                                           struct tg_err *err);
/* {"series":..,"generation":..,"mapped":..,"targets":[..],"wait":[..],"strategy":..,
 *  "retention":{..},"failed":..,"steps":[{"what":..,"file":..,"line":..,"note":..}]} */
TG_MUST_CHECK enum tg_code tg_explain_json(struct tg_buf *out, const struct tg_series_desc *series,
                                           const struct tg_decision *d,
                                           const struct tg_rules_trace *trace,
                                           const char *const *backends, unsigned n_backends);
/* "90d", "12h", "250ms"; "for ever" for 0. Returns out. */
char *tg_explain_duration(char *out, size_t cap, int64_t ms);

#endif
