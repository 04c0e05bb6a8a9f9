/* trial.h: new rules tried on every live series before they are in force.
 *
 * What fails under the new rules and does not under those in force is a mistake of the edit, such
 * as a backend's name that is put together at run time: an error, which refuses the reload unless
 * it is forced. Failures with the same message are one finding, with a count and an example. A
 * trial has rules.trial_time; what it does not come to is said, as a warning. So is what the new
 * rules make one series of several, and those in force do not.
 *
 *   part of the table -> [ series held by reference ] -> decide with the candidate -> groups
 *                                                                |
 *                  fails, or may be merged: first decide with the rules in force, keep that plan
 *
 * The latter because a series whose rules fail keeps the decision of the rules that were in force
 * until then, and one without points since an earlier reload has not got it yet.
 *
 * Threading: the reload thread.
 */
#ifndef TG_PIPE_TRIAL_H
#define TG_PIPE_TRIAL_H

#include "core/pipe/planner.h"

/* Decides the live series with the candidate. `in_force` is the caller's planner, of the rules that
 * the candidate is to replace. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_trial_run(struct tg_planner *in_force, struct tg_rules_candidate *c,
                                        struct tg_rules_report *report);

#endif
