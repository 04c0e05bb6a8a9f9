/* query_note.h: what live series say of a query: which backends to ask, and why nothing was found,
 * as far as the rules tell: the series is dropped, goes elsewhere, or still waits.
 *
 * Threading: the main thread, but for tg_admin_query_explain, which may take as long as the rules.
 */
#ifndef TG_ADMIN_QUERY_NOTE_H
#define TG_ADMIN_QUERY_NOTE_H

#include "core/admin/selector.h"
#include "core/pipe/explain.h"

/* The series that a selector with a name means, explained: within a look. TG_ERR_NOT_FOUND: no
 * series can be so. Sorts the selector's tags. */
TG_MUST_CHECK enum tg_code tg_admin_query_explain(struct tg_gateway *g,
                                                  const struct tg_selector *selector,
                                                  struct tg_query_stop *stop,
                                                  struct tg_arena *arena, struct tg_explained *out,
                                                  struct tg_err *err);
/* One line into out; "" when there is nothing to say (a rule that fails). `asked` has a bit for
 * every backend that was asked, `spared` for those that could be but were not, for the series does
 * not go there. The series is the live one that has the name and tags as a sender gave them
 * (core/pipe/explain.h); without one, the rules in force decide about such a series. */
void tg_admin_query_note(const struct tg_explained *e, const struct tg_config *config,
                         const struct tg_gateway_status *status, uint32_t asked, uint32_t spared,
                         char *out, size_t cap);
/* Takes out of *backends those that no live series with this name and these tags goes to: their
 * servers need not hear of it. Without such a series, or without a name, *backends stays. Sorts the
 * selector's tags. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_admin_query_spare(struct tg_gateway *g,
                                                const struct tg_selector *selector,
                                                uint32_t *backends);

#endif
