/* decide.h: the plan of a series under the rules in force, made at its first use in a generation.
 *
 * Each deciding thread (ingest worker, delivery loop, admin) has one decider, which owns a slot of
 * the rules.
 *
 * Threading: one thread per decider; two deciders may decide one series at once (one result wins).
 */
#ifndef TG_PIPE_DECIDE_H
#define TG_PIPE_DECIDE_H

#include "core/model/table.h"
#include "core/rules/rules.h"

struct tg_decider {
    struct tg_rules *rules; /* borrowed, as all below */
    struct tg_table *table;
    const struct tg_preparer *preparers;
    unsigned n_backends;
    unsigned slot;
    struct tg_arena arena;
    struct tg_buf scratch;
};

void tg_decider_init(struct tg_decider *d, struct tg_rules *rules, struct tg_table *table,
                     const struct tg_preparer *preparers, unsigned n_backends, unsigned slot);
void tg_decider_deinit(struct tg_decider *d);

/* Runs the rules and publishes the plan. A series whose rules fail keeps the decision of `old`,
 * and takes the on_error route only when there is no good one: an edit of a rule must not send
 * everywhere what went to one place before. NULL when out of memory. Inside the table's guard. */
const struct tg_plan *tg_decider_decide(struct tg_decider *d, struct tg_series *s,
                                        struct tg_plan *old);

/* The plan of `s` in `generation` (tg_rules_generation, read once per batch). Inside the guard;
 * NULL: no memory. */
static inline const struct tg_plan *tg_decider_plan(struct tg_decider *d, struct tg_series *s,
                                                    uint64_t generation)
{
    struct tg_plan *p = atomic_load_explicit(&s->plan, memory_order_acquire);
    /* A plan of a newer generation than the caller read is as good: the caller is merely late. */
    if (__builtin_expect(p != NULL && p->generation >= generation, 1)) return p;
    return tg_decider_decide(d, s, p);
}

#endif
