#include "core/pipe/planner.h"

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/model/forms.h"
#include "core/pipe/merge.h"

enum { MAX_ARENA_BYTES = 16 << 20, MAX_SCRATCH_BYTES = 16 << 20 };

void tg_planner_init(struct tg_planner *d, struct tg_rules *rules, struct tg_table *table,
                     const struct tg_preparer *preparers, unsigned n_backends, unsigned slot)
{
    *d = (struct tg_planner){
        .rules = rules,
        .table = table,
        .preparers = preparers,
        .n_backends = n_backends,
        .slot = slot,
    };
    tg_arena_init(&d->arena, MAX_ARENA_BYTES);
    tg_buf_init(&d->scratch, MAX_SCRATCH_BYTES);
}

void tg_planner_deinit(struct tg_planner *d)
{
    tg_arena_deinit(&d->arena);
    tg_buf_deinit(&d->scratch);
}

void tg_planner_begin(struct tg_planner *d, uint32_t budget_ms)
{
    d->budget_ns = (uint64_t)budget_ms * 1000000;
    d->used_ns = 0;
}

enum tg_code tg_planner_run(struct tg_planner *d, const struct tg_series *s,
                            struct tg_series_desc *desc, struct tg_decision *out)
{
    if (d->budget_ns && d->used_ns >= d->budget_ns) return TG_ERR_FULL;
    const uint64_t start_ns = tg_clock_mono_ns();
    enum tg_code code = tg_table_describe(d->table, s, desc, &d->arena);
    if (code == TG_OK) code = tg_rules_decide(d->rules, d->slot, desc, &d->arena, out, NULL);
    d->used_ns += tg_clock_mono_ns() - start_ns;
    return code;
}

/* The plan of a decision, with its claims. NULL when out of memory. */
static struct tg_plan *make_plan(struct tg_planner *d, struct tg_series *s,
                                 const struct tg_series_desc *desc, struct tg_decision *decision,
                                 const struct tg_plan *old)
{
    struct tg_forms *forms = tg_table_forms(d->table);
    if (decision->failed && tg_plan_is_good(old)) {
        struct tg_plan *kept = tg_plan_keep(old, decision->generation);
        if (kept) tg_forms_retain(forms, kept, s);
        return kept;
    }
    struct tg_claim claims[TG_MAX_CLAIMS];
    decision->claims = claims;
    decision->n_claims = 0;
    decision->taken = 0;
    if (d->merges && tg_merges_claim(d->merges, d, s, desc, decision, claims) != TG_OK) return NULL;
    struct tg_plan *plan = tg_plan_new(decision, d->preparers, d->n_backends, &d->scratch);
    if (!plan) tg_forms_release(forms, claims, decision->n_claims, decision->generation, s);
    return plan;
}

const struct tg_plan *tg_planner_decide(struct tg_planner *d, struct tg_series *s,
                                        struct tg_plan *old)
{
    struct tg_series_desc desc;
    struct tg_decision decision;
    struct tg_plan *plan = NULL;
    if (old && tg_rules_is_broken(d->rules, d->slot)) return old;
    d->why = tg_planner_run(d, s, &desc, &decision);
    if (d->why == TG_OK) {
        plan = make_plan(d, s, &desc, &decision, old);
        if (!plan) d->why = TG_ERR_NOMEM;
    }
    tg_arena_reset(&d->arena);
    return plan ? tg_table_set_plan(d->table, s, old, plan) : NULL;
}
