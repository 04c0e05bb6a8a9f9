/* planner.h: the plan of a series under the rules in force, made at its first use in a generation.
 *
 * Each deciding thread (ingest worker, delivery loop, admin) has one planner, which owns a slot of
 * the rules.
 *
 * Rules take time, and a request or a batch may bring thousands of series: so each piece of work
 * has a budget for all its decisions together. What was decided is remembered, so that the same
 * work, done again, comes further.
 *
 * Threading: one thread per planner; two planners may decide one series at once (one result wins).
 */
#ifndef TG_PIPE_PLANNER_H
#define TG_PIPE_PLANNER_H

#include "core/model/table.h"
#include "core/rules/rules.h"

struct tg_merges;

struct tg_planner {
    struct tg_rules *rules; /* borrowed, as all below */
    struct tg_table *table;
    const struct tg_preparer *preparers;
    unsigned n_backends;
    unsigned slot;
    struct tg_merges *merges; /* NULL: series that become one are not looked for */
    struct tg_arena arena;
    struct tg_buf scratch;
    uint64_t budget_ns, used_ns; /* of the work under way; budget 0 = none */
    enum tg_code why;            /* tg_planner_decide gave NULL */
};

void tg_planner_init(struct tg_planner *d, struct tg_rules *rules, struct tg_table *table,
                     const struct tg_preparer *preparers, unsigned n_backends, unsigned slot);
void tg_planner_deinit(struct tg_planner *d);

/* Begins a piece of work: its decisions may take `budget_ms` together, 0 = without a bound. The
 * first is always made. */
void tg_planner_begin(struct tg_planner *d, uint32_t budget_ms);

/* Runs the rules for `s`; *desc is the series as received. Their strings and those of *out live in
 * d->arena until it is reset.
 * TG_ERR_NOMEM; TG_ERR_FULL: the budget is used up; TG_ERR_CANCELED: nothing is decided any more.
 */
TG_MUST_CHECK enum tg_code tg_planner_run(struct tg_planner *d, const struct tg_series *s,
                                          struct tg_series_desc *desc, struct tg_decision *out);

/* Runs the rules and publishes the plan. A series whose rules fail keeps the decision of `old`,
 * and takes the on_error route only when there is no good one: an edit of a rule must not send
 * everywhere what went to one place before. While the breaker of the rules is open a series that
 * has a plan stays with it. NULL with d->why as from tg_planner_run. Inside the table's guard. */
const struct tg_plan *tg_planner_decide(struct tg_planner *d, struct tg_series *s,
                                        struct tg_plan *old);

/* The plan of `s` in `generation` (tg_rules_generation, read once per batch). Inside the guard;
 * NULL: see tg_planner_decide. */
static inline const struct tg_plan *tg_planner_plan(struct tg_planner *d, struct tg_series *s,
                                                    uint64_t generation)
{
    struct tg_plan *p = atomic_load_explicit(&s->plan, memory_order_acquire);
    /* A plan of a newer generation than the caller read is as good: the caller is merely late. */
    if (__builtin_expect(p != NULL && p->generation >= generation, 1)) return p;
    return tg_planner_decide(d, s, p);
}

#endif
