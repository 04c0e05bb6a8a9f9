/* write_attempt.c: one try at one range of a batch: pick the backend's points, write them, and
 * settle what came of each: delivered, inexpressible, dead-lettered, elsewhere, or to be tried
 * again.
 *
 * Routing: a point goes where it was routed when it was accepted, whatever the rules say by then:
 * cursors pass it at different times, so with the rules of each moment an edit could make all of
 * them skip it. Its form (tags) follows the rules in force, and a rule that now drops the series
 * drops it. Points that the cursor has passed and that come again go by the rules in force alone.
 * Points that it has not passed, from before it was made or before a rewind, go both ways: they may
 * have come while the backend was not configured, and where they were routed they were promised.
 */
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/pipe/gateway_impl.h"

enum {
    MAX_DEAD_LETTER_COMMIT_BYTES = 8 << 20,
    WARN_EVERY_MS = 60000,
    DECIDE_SLICE_MS = 100, /* the loop looks at stop, queries and rewinds so often */
    REASONS_MS = 1000,     /* for asking again why a series has no form; then without its reason */
};

static bool is_marked(const uint8_t *bits, uint32_t i)
{
    return bits && (bits[i / 8] >> (i % 8) & 1);
}

static enum tg_code reserve_points(struct tg_delivery_loop *d, uint32_t n)
{
    if (n <= d->cap_points) return TG_OK;
    struct tg_delivery_point *points = tg_reallocarray(d->points, n, sizeof(*points));
    if (points) d->points = points;
    uint32_t *origin = tg_reallocarray(d->origin, n, sizeof(*origin));
    if (origin) d->origin = origin;
    uint32_t *unprepared = tg_reallocarray(d->unprepared, n, sizeof(*unprepared));
    if (unprepared) d->unprepared = unprepared;
    if (!points || !origin || !unprepared) return TG_ERR_NOMEM;
    d->cap_points = n;
    return TG_OK;
}

/* Runs rules and prepare for a series whose plan holds no bytes for this backend. *decided is what
 * tg_planner_run gave, or TG_ERR_UNAVAILABLE when the rules are not run now and its tags are not
 * known for that; when it went wrong, *err is as it was. */
static enum tg_code prepare_now(struct tg_delivery_loop *d, const struct tg_series *s,
                                enum tg_code *decided, struct tg_err *err)
{
    struct tg_series_desc desc;
    struct tg_decision decision;
    tg_buf_reset(&d->stray_forms_scratch);
    *decided = tg_planner_run(&d->planner, s, &desc, &decision);
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
            code =
                d->config->ops->prepare(d->backend, &decision.mapped, &d->stray_forms_scratch, err);
        if (code == TG_OK)
            code =
                tg_merges_check(&d->gateway->merges, &d->planner, d->index, &desc, &decision, err);
    }
    tg_arena_reset(&d->planner.arena);
    return code;
}

/* The bytes of a series that was routed here when its point was accepted, but is not any more.
 * As tg_planner_run; TG_ERR_UNAVAILABLE: see prepare_now; TG_ERR_TOO_LARGE: too many such series in
 * one attempt; *bytes NULL when the backend cannot take it, and *inexpressible says whether it has
 * no form for such series. */
static enum tg_code prepare_stray_form(struct tg_delivery_loop *d, const struct tg_series *s,
                                       const uint8_t **bytes, uint32_t *len, bool *inexpressible)
{
    struct tg_stray_forms_slot *slot = tg_stray_forms_find(&d->stray_forms, s);
    if (!slot) return TG_ERR_NOMEM;
    if (!slot->series) {
        struct tg_err err;
        enum tg_code decided;
        const enum tg_code code = prepare_now(d, s, &decided, &err);
        TG_TRY(decided);
        if (code == TG_ERR_NOMEM) return code;
        TG_TRY(tg_stray_forms_put(&d->stray_forms, slot, s,
                                  code == TG_OK ? &d->stray_forms_scratch : NULL));
        slot->inexpressible = code == TG_ERR_UNSUPPORTED;
    }
    *inexpressible = slot->inexpressible;
    *bytes = slot->bytes;
    *len = slot->len;
    return TG_OK;
}

static uint32_t targets_of(const struct tg_delivery_loop *d, const struct tg_point *p,
                           const struct tg_plan *plan)
{
    if (!p->routed || d->routing == TG_ROUTED_BY_RULES) return plan->targets;
    return d->routing == TG_ROUTED_WHEN_ACCEPTED ? p->targets : p->targets | plan->targets;
}

/* Of the points some way on: the series, and of those not so far on the plan, with the prepared
 * bytes behind it. All are somewhere in memory, and of many series they are in no cache. */
static inline void look_ahead(const struct tg_delivery_loop *d, uint32_t i)
{
    enum { SERIES_AHEAD = 16, PLAN_AHEAD = 8, LINE = 64 };
    const struct tg_point *p = &d->batch.points[i];
    if (i + SERIES_AHEAD >= d->range.hi) return;
    __builtin_prefetch(&p[SERIES_AHEAD].series->plan);
    const struct tg_plan *plan =
        atomic_load_explicit(&p[PLAN_AHEAD].series->plan, memory_order_relaxed);
    __builtin_prefetch(plan);
    __builtin_prefetch((const char *)plan + LINE);
}

/* Picks this backend's points of d->range. Inside the guard. TG_ERR_FULL: deciding their series has
 * taken its share of the loop's time, TG_ERR_CANCELED: nothing is decided any more,
 * TG_ERR_UNAVAILABLE: the rules are not run now, and the form of a series needs them. */
static enum tg_code select_points(struct tg_delivery_loop *d)
{
    const uint32_t bit = UINT32_C(1) << d->index;
    const uint64_t generation = tg_rules_generation(d->gateway->rules);
    TG_TRY(reserve_points(d, d->range.hi - d->range.lo));
    /* Of another attempt, or of other rules. What a pause interrupted is kept: it would never end.
     */
    if (!d->is_paused || d->stray_forms_generation != generation)
        tg_stray_forms_forget(&d->stray_forms);
    d->stray_forms_generation = generation;
    d->is_paused = false;
    tg_planner_begin(&d->planner, DECIDE_SLICE_MS);
    const uint8_t *settled = d->has_settled ? d->settled : NULL;
    uint32_t n = 0;
    d->n_elsewhere = 0;
    d->n_unprepared = 0;
    d->formless = (struct tg_inexpressible){.n = {0}};
    for (uint32_t i = d->range.lo; i < d->range.hi; i++) {
        look_ahead(d, i);
        if (settled && is_marked(settled, i)) continue;
        const struct tg_point *p = &d->batch.points[i];
        const struct tg_plan *plan = tg_planner_plan(&d->planner, p->series, generation);
        if (!plan) return d->planner.why;
        const uint32_t targets = targets_of(d, p, plan);
        if (!(targets & bit) || plan->targets == 0) {
            d->n_elsewhere++;
            continue;
        }
        uint32_t len;
        const uint8_t *prepared = tg_plan_prepared(plan, d->index, &len);
        if (!prepared && tg_merges_is_free(&d->gateway->merges, plan)) { /* it has its turn */
            plan = tg_planner_decide(&d->planner, p->series, (struct tg_plan *)(uintptr_t)plan);
            if (!plan) return d->planner.why;
            prepared = tg_plan_prepared(plan, d->index, &len);
        }
        bool inexpressible = !prepared && (plan->inexpressible & bit);
        if (!prepared && !(plan->targets & bit))
            TG_TRY(prepare_stray_form(d, p->series, &prepared, &len, &inexpressible));
        /* As a dead letter it would be kept for a replay that can never deliver it. */
        if (!prepared && !inexpressible && d->config->ops->has_form)
            inexpressible = !d->config->ops->has_form(d->backend, p);
        if (inexpressible) {
            d->formless.n[tg_inexpressible_kind_of(p)]++;
            continue;
        }
        if (!prepared) {
            d->unprepared[d->n_unprepared++] = i;
            continue;
        }
        d->points[n] = (struct tg_delivery_point){p, plan, prepared, len};
        d->origin[n++] = i;
    }
    d->delivery = (struct tg_delivery){
        .points = d->points,
        .n_points = n,
        .from_pos = d->span.from_pos,
        .to_pos = d->span.to_pos,
        .part = d->part,
        .from_point_no = tg_delivery_point_no(d, d->range.lo),
        .to_point_no = tg_delivery_point_no(d, d->range.hi),
        .epoch = d->epoch,
    };
    return TG_OK;
}

/* --- dead letters --- */

/* What an attempt leaves for the dead letters, in this order: points whose series the backend
 * cannot take, then those of the delivery that it refused. With them what it could not express. */
struct dead {
    struct tg_inexpressible inexpressible; /* of the delivery */
    struct tg_left_out left_out;
    const uint8_t *refused; /* bitmap over the delivery's points; NULL = none */
    uint32_t n_refused;
    const char *const *reasons; /* n_refused, or NULL */
    uint32_t n_in_file;         /* so many are in the file */
    char newest[256];           /* reason */
};

/* Why the backend cannot take a series: asked again, as that is not worth keeping with every plan,
 * but once for all its points in `reasons`. Written to dead->newest. */
static void find_reason(struct tg_delivery_loop *d, const struct tg_series *s,
                        struct tg_stray_forms *reasons, struct dead *dead)
{
    struct tg_stray_forms_slot *slot = tg_stray_forms_find(reasons, s);
    if (slot && slot->series && slot->bytes) {
        (void)snprintf(dead->newest, sizeof(dead->newest), "%s", (const char *)slot->bytes);
        return;
    }
    struct tg_err why = {.msg = "the backend cannot take this series"};
    enum tg_code decided;
    (void)prepare_now(d, s, &decided, &why);
    (void)snprintf(dead->newest, sizeof(dead->newest), "%s", why.msg);
    if (!slot || slot->series) return;
    tg_buf_reset(&d->stray_forms_scratch);
    if (tg_buf_append(&d->stray_forms_scratch, dead->newest, strlen(dead->newest) + 1) == TG_OK &&
        tg_stray_forms_put(reasons, slot, s, &d->stray_forms_scratch) != TG_OK)
        return; /* no room: asked once more */
}

static enum tg_code add_unprepared(struct tg_delivery_loop *d, uint32_t i,
                                   struct tg_stray_forms *reasons, struct dead *dead,
                                   struct tg_err *err)
{
    const struct tg_point *p = &d->batch.points[d->unprepared[i]];
    find_reason(d, p->series, reasons, dead);
    return tg_dead_letters_add(d->dead_letters, d->gateway->table, p, dead->newest, err);
}

/* After each that was added: not too many at once in memory. */
static enum tg_code commit_many(struct tg_delivery_loop *d, struct dead *dead, uint32_t n_added,
                                struct tg_err *err)
{
    if (tg_dead_letters_pending(d->dead_letters) < MAX_DEAD_LETTER_COMMIT_BYTES) return TG_OK;
    TG_TRY(tg_dead_letters_commit(d->dead_letters, err));
    dead->n_in_file = n_added;
    return TG_OK;
}

/* As many as fit. TG_ERR_FULL: not all did; any failure: the first n_in_file are safe. */
static enum tg_code write_dead_letters(struct tg_delivery_loop *d, struct dead *dead,
                                       struct tg_err *err)
{
    enum tg_code code = TG_OK;
    uint32_t n_added = 0;
    struct tg_deferred_free *guard = tg_table_guard(d->gateway->table);
    const int ticket = tg_deferred_free_enter(guard); /* for the plans of find_reason */
    struct tg_stray_forms reasons;
    tg_stray_forms_init(&reasons);
    tg_planner_begin(&d->planner, REASONS_MS);
    for (uint32_t i = 0; i < d->n_unprepared && code == TG_OK; i++) {
        code = add_unprepared(d, i, &reasons, dead, err);
        if (code == TG_OK) code = commit_many(d, dead, ++n_added, err);
    }
    tg_stray_forms_forget(&reasons);
    tg_deferred_free_exit(guard, ticket);
    uint32_t k = 0;
    for (uint32_t i = 0; k < dead->n_refused && i < d->delivery.n_points && code == TG_OK; i++) {
        if (!is_marked(dead->refused, i)) continue;
        const char *reason =
            dead->reasons ? dead->reasons[k] : "the backend cannot take this point";
        k++;
        (void)snprintf(dead->newest, sizeof(dead->newest), "%s", reason);
        code = tg_dead_letters_add(d->dead_letters, d->gateway->table, d->points[i].point, reason,
                                   err);
        if (code == TG_OK) code = commit_many(d, dead, ++n_added, err);
    }
    if (code != TG_OK && code != TG_ERR_FULL) {
        tg_dead_letters_abort(d->dead_letters);
        return code;
    }
    struct tg_err commit_err;
    const enum tg_code committed = tg_dead_letters_commit(d->dead_letters, &commit_err);
    if (committed == TG_OK)
        dead->n_in_file = n_added;
    else
        *err = commit_err;
    return committed == TG_OK ? code : committed;
}

static void settle(struct tg_delivery_loop *d, uint32_t i)
{
    d->settled[i / 8] = (uint8_t)(d->settled[i / 8] | 1U << (i % 8));
}

/* Before any dead letter is written: what is in the file must be noted. */
static enum tg_code reserve_settled(struct tg_delivery_loop *d, struct tg_err *err)
{
    if (d->has_settled) return TG_OK;
    uint8_t *bits = tg_realloc(d->settled, ((size_t)d->batch.n_points + 7) / 8);
    if (!bits) return tg_fail(err, TG_ERR_NOMEM, "out of memory (limits.memory)");
    d->settled = bits;
    return TG_OK;
}

/* Of the delivery, once it was written. */
static uint64_t n_delivered(const struct tg_delivery_loop *d, const struct dead *dead)
{
    return d->delivery.n_points - dead->n_refused - tg_inexpressible_sum(&dead->inexpressible);
}

/* Not all of the range came to its end: notes which points did, so that none of them is delivered
 * or dead-lettered again by the next attempt. After reserve_settled. */
static void keep_progress(struct tg_delivery_loop *d, const struct dead *dead)
{
    if (!d->has_settled) memset(d->settled, 0, ((size_t)d->batch.n_points + 7) / 8);
    d->has_settled = true;
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_unprepared && n < dead->n_in_file; i++, n++)
        settle(d, d->unprepared[i]);
    for (uint32_t i = 0; i < d->delivery.n_points; i++) {
        if (is_marked(dead->refused, i) && n++ >= dead->n_in_file) continue;
        settle(d, d->origin[i]);
    }
    d->done.delivered += n_delivered(d, dead);
    tg_inexpressible_add(&d->done.inexpressible, &dead->inexpressible);
    tg_left_out_add(&d->done.left_out, &dead->left_out);
    d->done.dead += dead->n_in_file;
    if (d->delivery.n_points > 0) d->part++;
}

/* --- the end of an attempt --- */

/* The first is said at once, then a sum once a minute: the file has each with its reason. */
static void warn_dead(struct tg_delivery_loop *d, uint32_t n, const char *reason)
{
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_delivery_note_error(d, reason);
    d->n_dead_unsaid += n;
    if (d->dead_said_ms && now_ms - d->dead_said_ms < WARN_EVERY_MS) return;
    tg_warn("delivery",
            "%s: points refused permanently, kept as dead letters: %llu; the newest: %s",
            d->config->name, (unsigned long long)d->n_dead_unsaid, reason);
    d->n_dead_unsaid = 0;
    d->dead_said_ms = now_ms;
}

/* As warn_dead. Not an error of the backend: it is not noted as one. */
static void note_inexpressible(struct tg_delivery_loop *d, const struct tg_inexpressible *c)
{
    char text[160];
    if (tg_inexpressible_sum(c) == 0) return;
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_inexpressible_add(&d->inexpressible_unsaid, c);
    if (d->inexpressible_said_ms && now_ms - d->inexpressible_said_ms < WARN_EVERY_MS) return;
    tg_info("delivery", "%s: points that a backend of type %s has no form for are left out: %s",
            d->config->name, d->config->ops->type,
            tg_inexpressible_print(&d->inexpressible_unsaid, text, sizeof(text)));
    d->inexpressible_unsaid = (struct tg_inexpressible){.n = {0}};
    d->inexpressible_said_ms = now_ms;
}

/* The range's points all reached their end: those in `dead` were refused permanently or have no
 * form, the others of the delivery are safe with the backend. It stalls when not all dead letters
 * could be written. */
static void complete_range(struct tg_delivery_loop *d, struct dead *dead)
{
    struct tg_err err;
    const uint32_t n_dead = d->n_unprepared + dead->n_refused;
    enum tg_code code = n_dead ? reserve_settled(d, &err) : TG_OK;
    const bool can_note = code == TG_OK; /* else this attempt is made again as a whole */
    if (n_dead && can_note) code = write_dead_letters(d, dead, &err);
    if (code != TG_OK) {
        const bool has_progress = dead->n_in_file > 0 || d->delivery.n_points > dead->n_refused;
        if (can_note) note_inexpressible(d, &dead->inexpressible);
        if (dead->n_in_file)
            warn_dead(d, dead->n_in_file, dead->newest); /* before the stall is noted */
        if (can_note && has_progress) keep_progress(d, dead);
        atomic_store(&d->dead_letters_full, code == TG_ERR_FULL);
        tg_delivery_push_range(d, d->range.lo, d->range.hi);
        tg_delivery_stall(d, &err);
        return;
    }
    if (n_dead) {
        atomic_store(&d->dead_letters_full, false);
        warn_dead(d, n_dead, dead->newest);
    }
    d->done.delivered += n_delivered(d, dead);
    tg_left_out_add(&d->done.left_out, &dead->left_out);
    d->done.dead += n_dead;
    tg_inexpressible_add(&dead->inexpressible, &d->formless);
    tg_inexpressible_add(&d->done.inexpressible, &dead->inexpressible);
    note_inexpressible(d, &dead->inexpressible);
    d->done.elsewhere += d->n_elsewhere;
    if (d->delivery.n_points > 0) d->part++; /* part 0 is the first that the backend sees */
    d->n_failures = 0;
    tg_delivery_set_state(d, TG_DELIVERY_IDLE);
}

/* A single point refused permanently. The others of its range are elsewhere's or unprepared. */
static void dead_letter_point(struct tg_delivery_loop *d, const char *message)
{
    static const uint8_t the_first = 1;
    struct dead dead = {.refused = &the_first, .n_refused = 1, .reasons = &message};
    complete_range(d, &dead);
}

static void complete_write(struct tg_delivery_loop *d, const struct tg_write_result *r)
{
    struct dead dead = {.n_refused = 0};
    if (r->n_skipped)
        dead = (struct dead){
            .refused = r->skipped, .n_refused = r->n_skipped, .reasons = r->skip_reasons};
    if (r->n_inexpressible)
        for (uint32_t i = 0; i < d->delivery.n_points; i++)
            if (is_marked(r->inexpressible, i))
                dead.inexpressible.n[tg_inexpressible_kind_of(d->points[i].point)]++;
    tg_left_out_add(&dead.left_out, &r->left_out);
    complete_range(d, &dead);
}

static void warn_failure(struct tg_delivery_loop *d, const char *message)
{
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_delivery_note_error(d, message);
    if (d->n_failed_writes++ == 0)
        tg_warn("delivery", "%s: a write failed and will be retried: %s", d->config->name, message);
    else if (now_ms - d->failure_said_ms >= WARN_EVERY_MS)
        tg_warn("delivery", "%s: still failing after %u tries: %s", d->config->name,
                d->n_failed_writes, message);
    else
        return;
    d->failure_said_ms = now_ms;
}

/* Of a whole batch that was too large, so that not each of those to come is made in vain first. One
 * point that is too large by itself is met in a smaller range, which says nothing. */
static void fit_less(struct tg_delivery_loop *d)
{
    if (d->range.lo == 0 && d->range.hi == d->batch.n_points && d->batch.n_points > 1)
        d->fit_points = d->batch.n_points / 2;
}

static void fit_more(struct tg_delivery_loop *d)
{
    enum { STEP = 64 }; /* of which one in vain is the price */
    if (d->fit_points == 0) return;
    d->fit_points += d->fit_points / STEP + 1;
    if (d->fit_points >= d->config->batch_points) d->fit_points = 0;
}

static void on_write(void *arg, const struct tg_write_result *r)
{
    struct tg_delivery_loop *d = arg;
    atomic_fetch_add_explicit(&d->n_writes, 1, memory_order_relaxed);
    tg_delivery_set_state(d, TG_DELIVERY_IDLE);
    switch (r->outcome) {
    case TG_WRITE_OK:
        if (d->n_failed_writes)
            tg_info("delivery", "%s: writes succeed again, after %u that failed", d->config->name,
                    d->n_failed_writes);
        d->n_failed_writes = 0;
        tg_delivery_note_well(d);
        fit_more(d);
        complete_write(d, r);
        break;
    case TG_WRITE_RETRY:
        if (d->gave_up)
            tg_warn("delivery",
                    "%s: did not answer a write within limits.drain_timeout; its points wait in "
                    "the log and are sent again",
                    d->config->name);
        else
            warn_failure(d, r->message);
        tg_delivery_push_range(d, d->range.lo, d->range.hi);
        tg_delivery_wait_then_retry(d, TG_DELIVERY_BACKOFF, r->retry_after_ms);
        break;
    case TG_WRITE_REFUSED:
    case TG_WRITE_TOO_LARGE:
        if (r->outcome == TG_WRITE_TOO_LARGE) fit_less(d);
        d->part++;
        if (d->delivery.n_points == 1) {
            dead_letter_point(d, r->message);
        } else {
            const uint32_t mid = d->origin[d->delivery.n_points / 2];
            tg_delivery_push_range(d, mid, d->range.hi);
            tg_delivery_push_range(d, d->range.lo, mid);
        }
        break;
    }
    if (d->rewinds && !d->stopping) tg_delivery_end_wait(d); /* they do not wait for the next try */
    if (tg_delivery_get_state(d) == TG_DELIVERY_IDLE || d->stopping) tg_delivery_pump(d);
}

/* The range needs more memory than one attempt may use; a half needs less. */
static void split_range(struct tg_delivery_loop *d, enum tg_code why)
{
    const uint32_t mid = d->range.lo + (d->range.hi - d->range.lo) / 2;
    tg_delivery_push_range(d, mid, d->range.hi);
    tg_delivery_push_range(d, d->range.lo, mid);
    if (why == TG_ERR_TOO_LARGE && mid > d->range.lo) return;
    struct tg_err err;
    (void)tg_fail(&err, TG_ERR_NOMEM, "out of memory (limits.memory)");
    tg_delivery_stall(d, &err);
}

/* Not decided now is no reason for a dead letter: the rules come back. */
static void wait_for_rules(struct tg_delivery_loop *d)
{
    struct tg_err err;
    tg_delivery_push_range(d, d->range.lo, d->range.hi);
    (void)tg_fail(&err, TG_ERR_UNAVAILABLE,
                  "points wait whose series is routed elsewhere now: tags.lua gives their tags and "
                  "is not run at the moment (it overruns its budget too often, or memory is "
                  "short); mend it and reload, or raise limits.memory");
    tg_delivery_stall(d, &err);
}

void tg_delivery_attempt(struct tg_delivery_loop *d)
{
    d->range = d->ranges[--d->n_ranges];
    struct tg_deferred_free *guard = tg_table_guard(d->gateway->table);
    const int ticket = tg_deferred_free_enter(guard);
    const enum tg_code code = select_points(d);
    if (code == TG_ERR_FULL || code == TG_ERR_CANCELED) {
        tg_delivery_push_range(d, d->range.lo, d->range.hi);
        tg_delivery_pause(d);
    } else if (code == TG_ERR_UNAVAILABLE) {
        wait_for_rules(d);
    } else if (code != TG_OK) {
        split_range(d, code);
    } else if (d->delivery.n_points == 0) {
        complete_range(d, &(struct dead){.n_refused = 0});
    } else {
        tg_delivery_set_state(d, TG_DELIVERY_WRITING);
        d->config->ops->write(d->backend, &d->delivery, on_write, d);
    }
    /* What is in flight needs no plans: a backend that is slow holds up no freeing. */
    tg_deferred_free_exit(guard, ticket);
}
