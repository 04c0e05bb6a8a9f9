/* write_attempt.c: one try at one range of a span: its points are picked. */
#include "core/pipe/write_attempt.h"

#include "core/base/mem.h"
#include "core/pipe/merge.h"

enum {
    DECIDE_SLICE_MS = 100, /* the loop looks at stop, queries and rewinds so often */
    MAX_STRAY_FORMS_SCRATCH_BYTES = 16 << 20, /* of one series, as a planner's */
};

void tg_write_attempt_init(struct tg_write_attempt *a)
{
    tg_stray_forms_init(&a->stray_forms);
    tg_buf_init(&a->scratch, MAX_STRAY_FORMS_SCRATCH_BYTES);
}

void tg_write_attempt_deinit(struct tg_write_attempt *a)
{
    tg_free(a->points);
    tg_free(a->origin);
    tg_free(a->unprepared);
    tg_stray_forms_forget(&a->stray_forms);
    tg_buf_deinit(&a->scratch);
}

void tg_write_attempt_forget(struct tg_write_attempt *a)
{
    a->is_paused = false;
}

static enum tg_code reserve_points(struct tg_write_attempt *a, uint32_t n)
{
    if (n <= a->cap_points) return TG_OK;
    struct tg_delivery_point *points = tg_reallocarray(a->points, n, sizeof(*points));
    if (points) a->points = points;
    uint32_t *origin = tg_reallocarray(a->origin, n, sizeof(*origin));
    if (origin) a->origin = origin;
    uint32_t *unprepared = tg_reallocarray(a->unprepared, n, sizeof(*unprepared));
    if (unprepared) a->unprepared = unprepared;
    if (!points || !origin || !unprepared) return TG_ERR_NOMEM;
    a->cap_points = n;
    return TG_OK;
}

/* Runs rules and prepare for a series whose plan holds no bytes for this backend. *decided is what
 * tg_planner_run gave, or TG_ERR_UNAVAILABLE when the rules are not run now and its tags are not
 * known for that; when it went wrong, *err is as it was. */
static enum tg_code prepare_now(struct tg_write_attempt *a, const struct tg_series *s,
                                enum tg_code *decided, struct tg_err *err)
{
    struct tg_series_desc desc;
    struct tg_decision decision;
    tg_buf_reset(&a->scratch);
    *decided = tg_planner_run(a->planner, s, &desc, &decision);
    const struct tg_plan *plan = atomic_load_explicit(&s->plan, memory_order_acquire);
    /* Its plan keeps what tags.lua made of it, for other backends only: as received, it might tell
     * what tags.lua takes out. */
    const bool has_lost_tags = *decided == TG_OK && decision.tags_failed && tg_plan_is_good(plan);
    if (has_lost_tags && decision.generation == 0) *decided = TG_ERR_UNAVAILABLE;
    enum tg_code code = *decided;
    if (code == TG_OK) {
        if (has_lost_tags)
            code = tg_fail(err, TG_ERR_INVALID,
                           "tags.lua fails for this series since it was routed elsewhere, so its "
                           "tags for this backend are not known; mend tags.lua");
        else
            code = a->config->ops->prepare(a->backend, &decision.mapped, &a->scratch, err);
        if (code == TG_OK)
            code = tg_merges_check(a->planner->merges, a->planner, a->index, &desc, &decision, err);
    }
    tg_arena_reset(&a->planner->arena);
    return code;
}

/* The bytes of a series that was routed here when its point was accepted, but is not any more.
 * As tg_planner_run; TG_ERR_UNAVAILABLE: see prepare_now; TG_ERR_TOO_LARGE: too many such series in
 * one attempt; *bytes NULL when the backend cannot take it, and *inexpressible says whether it has
 * no form for such series. */
static enum tg_code prepare_stray_form(struct tg_write_attempt *a, const struct tg_series *s,
                                       const uint8_t **bytes, uint32_t *len, bool *inexpressible)
{
    struct tg_stray_forms_slot *slot = tg_stray_forms_find(&a->stray_forms, s);
    if (!slot) return TG_ERR_NOMEM;
    if (!slot->series) {
        struct tg_err err;
        enum tg_code decided;
        const enum tg_code code = prepare_now(a, s, &decided, &err);
        TG_TRY(decided);
        if (code == TG_ERR_NOMEM) return code;
        TG_TRY(tg_stray_forms_put(&a->stray_forms, slot, s, code == TG_OK ? &a->scratch : NULL));
        slot->inexpressible = code == TG_ERR_UNSUPPORTED;
    }
    *inexpressible = slot->inexpressible;
    *bytes = slot->bytes;
    *len = slot->len;
    return TG_OK;
}

static uint32_t targets_of(const struct tg_write_attempt *a, const struct tg_point *p,
                           const struct tg_plan *plan)
{
    if (!p->routed || a->span->routing == TG_ROUTED_BY_RULES) return plan->targets;
    return a->span->routing == TG_ROUTED_WHEN_ACCEPTED ? p->targets : p->targets | plan->targets;
}

/* Of the points some way on: the series, and of those not so far on the plan, with the prepared
 * bytes behind it. All are somewhere in memory, and of many series they are in no cache. */
static inline void look_ahead(const struct tg_write_attempt *a, uint32_t i)
{
    enum { SERIES_AHEAD = 16, PLAN_AHEAD = 8, LINE = 64 };
    const struct tg_point *p = &a->span->batch.points[i];
    if (i + SERIES_AHEAD >= a->range.hi) return;
    __builtin_prefetch(&p[SERIES_AHEAD].series->plan);
    const struct tg_plan *plan =
        atomic_load_explicit(&p[PLAN_AHEAD].series->plan, memory_order_relaxed);
    __builtin_prefetch(plan);
    __builtin_prefetch((const char *)plan + LINE);
}

static enum tg_code select_points(struct tg_write_attempt *a, uint64_t epoch)
{
    const uint32_t bit = UINT32_C(1) << a->index;
    const uint64_t generation = tg_rules_generation(a->planner->rules);
    TG_TRY(reserve_points(a, a->range.hi - a->range.lo));
    /* Of another attempt, or of other rules. What a pause interrupted is kept: it would never end.
     */
    if (!a->is_paused || a->stray_forms_generation != generation)
        tg_stray_forms_forget(&a->stray_forms);
    a->stray_forms_generation = generation;
    a->is_paused = false;
    tg_planner_begin(a->planner, DECIDE_SLICE_MS);
    const uint8_t *settled = a->span->has_settled ? a->span->settled : NULL;
    uint32_t n = 0;
    a->n_elsewhere = 0;
    a->n_unprepared = 0;
    a->formless = (struct tg_inexpressible){.n = {0}};
    for (uint32_t i = a->range.lo; i < a->range.hi; i++) {
        look_ahead(a, i);
        if (settled && tg_write_attempt_is_marked(settled, i)) continue;
        const struct tg_point *p = &a->span->batch.points[i];
        const struct tg_plan *plan = tg_planner_plan(a->planner, p->series, generation);
        if (!plan) return a->planner->why;
        const uint32_t targets = targets_of(a, p, plan);
        if (!(targets & bit) || plan->targets == 0) {
            a->n_elsewhere++;
            continue;
        }
        uint32_t len;
        const uint8_t *prepared = tg_plan_prepared(plan, a->index, &len);
        if (!prepared && tg_merges_is_free(a->planner->merges, plan)) { /* it has its turn */
            plan = tg_planner_decide(a->planner, p->series, (struct tg_plan *)(uintptr_t)plan);
            if (!plan) return a->planner->why;
            prepared = tg_plan_prepared(plan, a->index, &len);
        }
        bool inexpressible = !prepared && (plan->inexpressible & bit);
        if (!prepared && !(plan->targets & bit))
            TG_TRY(prepare_stray_form(a, p->series, &prepared, &len, &inexpressible));
        /* As a dead letter it would be kept for a replay that can never deliver it. */
        if (!prepared && !inexpressible && a->config->ops->has_form)
            inexpressible = !a->config->ops->has_form(a->backend, p);
        if (inexpressible) {
            a->formless.n[tg_inexpressible_kind_of(p)]++;
            continue;
        }
        if (!prepared) {
            a->unprepared[a->n_unprepared++] = i;
            continue;
        }
        a->points[n] = (struct tg_delivery_point){p, plan, prepared, len};
        a->origin[n++] = i;
    }
    a->delivery = (struct tg_delivery){
        .points = a->points,
        .n_points = n,
        .from_pos = a->span->from_pos,
        .to_pos = a->span->to_pos,
        .part = a->span->part,
        .from_point_no = tg_span_point_no(a->span, a->range.lo),
        .to_point_no = tg_span_point_no(a->span, a->range.hi),
        .epoch = epoch,
    };
    return TG_OK;
}

enum tg_code tg_write_attempt_pick(struct tg_write_attempt *a, struct tg_range range,
                                   uint64_t epoch)
{
    a->range = range;
    const enum tg_code code = select_points(a, epoch);
    a->is_paused = code == TG_ERR_FULL || code == TG_ERR_CANCELED;
    return code;
}

void tg_write_attempt_explain(struct tg_write_attempt *a, const struct tg_series *s,
                              struct tg_err *err)
{
    enum tg_code decided;
    (void)prepare_now(a, s, &decided, err);
}

uint64_t tg_write_attempt_n_delivered(const struct tg_write_attempt *a,
                                      const struct tg_undelivered *u)
{
    return a->delivery.n_points - u->n_refused - tg_inexpressible_sum(&u->inexpressible);
}

static bool are_in_range(const struct tg_write_attempt *a, const uint32_t *indexes, uint32_t n)
{
    bool ok = true;
    for (uint32_t i = 0; i < n; i++)
        ok = ok && indexes[i] >= a->range.lo && indexes[i] < a->range.hi &&
             (i == 0 || indexes[i - 1] < indexes[i]);
    return ok;
}

bool tg_write_attempt_validate(const struct tg_write_attempt *a)
{
    const uint32_t n = a->delivery.n_points;
    bool ok = are_in_range(a, a->origin, n) && are_in_range(a, a->unprepared, a->n_unprepared);
    uint64_t n_all =
        (uint64_t)n + a->n_unprepared + a->n_elsewhere + tg_inexpressible_sum(&a->formless);
    for (uint32_t i = a->range.lo; i < a->range.hi; i++) n_all += tg_span_is_settled(a->span, i);
    for (uint32_t i = 0, k = 0; i < n && ok; i++) {
        ok = a->points[i].point == &a->span->batch.points[a->origin[i]];
        while (k < a->n_unprepared && a->unprepared[k] < a->origin[i]) k++;
        ok = ok && (k == a->n_unprepared || a->unprepared[k] != a->origin[i]);
    }
    return ok && n_all == a->range.hi - a->range.lo;
}
