/* reload.h: loads the rules again on a thread of its own, so that reading, compiling and running
 * the scripts delays neither signals nor the admin port, however slow or wrong they are.
 *
 *   submit (main thread) -> [ requests, oldest first ] -> reload thread -> on_reload
 *
 * Each request is a load of its own, in the order in which they came: whoever edits a script and
 * asks while another load runs gets what is on disk after asking.
 *
 * Threading: submit and stop from any thread but the reload thread.
 */
#ifndef TG_PIPE_RELOAD_H
#define TG_PIPE_RELOAD_H

#include "core/pipe/gateway.h"
#include "core/pipe/planner.h"

enum { TG_RELOAD_MAX_WAITING = 16 };

struct tg_reloader;

/* Starts the thread, whose `planner` is: borrowed until tg_reloader_stop has returned. Reloads its
 * rules. */
TG_MUST_CHECK enum tg_code tg_reloader_new(struct tg_planner *planner, struct tg_reloader **out,
                                           struct tg_err *err);
/* The callback (may be NULL) runs once on the reload thread, which may be before this has returned;
 * not at all when this fails: TG_ERR_FULL when TG_RELOAD_MAX_WAITING wait already, TG_ERR_CANCELED
 * when stopping, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_reloader_submit(struct tg_reloader *r, unsigned flags,
                                              tg_on_reload on_reload, void *arg,
                                              struct tg_err *err);
/* Cuts a load under way short, answers those that wait with TG_ERR_CANCELED, ends the thread and
 * frees. The rules are then as they were. NULL accepted. */
void tg_reloader_stop(struct tg_reloader *r);

#endif
