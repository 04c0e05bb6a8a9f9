#include "core/pipe/decide.h"

#include "core/base/mem.h"

enum { MAX_ARENA_BYTES = 16 << 20, MAX_SCRATCH_BYTES = 16 << 20 };

void tg_decider_init(struct tg_decider *d, struct tg_rules *rules, struct tg_table *table,
                     const struct tg_preparer *preparers, unsigned n_backends, unsigned slot)
{
    *d = (struct tg_decider){
        .rules = rules,
        .table = table,
        .preparers = preparers,
        .n_backends = n_backends,
        .slot = slot,
    };
    tg_arena_init(&d->arena, MAX_ARENA_BYTES);
    tg_buf_init(&d->scratch, MAX_SCRATCH_BYTES);
}

void tg_decider_deinit(struct tg_decider *d)
{
    tg_arena_deinit(&d->arena);
    tg_buf_deinit(&d->scratch);
}

const struct tg_plan *tg_decider_decide(struct tg_decider *d, struct tg_series *s,
                                        struct tg_plan *old)
{
    struct tg_series_desc desc;
    struct tg_decision decision;
    struct tg_plan *plan = NULL;
    if (tg_table_describe(d->table, s, &desc, &d->arena) == TG_OK &&
        tg_rules_decide(d->rules, d->slot, &desc, &d->arena, &decision, NULL) == TG_OK)
        plan = decision.failed && tg_plan_is_good(old)
                   ? tg_plan_keep(old, decision.generation)
                   : tg_plan_new(&decision, d->preparers, d->n_backends, &d->scratch);
    tg_arena_reset(&d->arena);
    return plan ? tg_table_set_plan(d->table, s, old, plan) : NULL;
}
