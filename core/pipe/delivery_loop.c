/* delivery_loop.c: one backend's delivery: spans are read and attempted, what came of each attempt is
 * settled, and the cursor moves. */
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/pipe/gateway_impl.h"

enum {
    RETENTION_EVERY_MS = 60 * 1000,
    TICK_MS = 1000,
    PAUSE_MS = 1,
    WAITED_LINGER_PART = 10,    /* while a sender waits: a tenth of it, at most ... */
    WAITED_LINGER_MAX_MS = 500, /* ... this long */
};

static void pump(struct tg_delivery_loop *d);

static void set_state(struct tg_delivery_loop *d, enum tg_delivery_state s)
{
    atomic_store_explicit(&d->state, (int)s, memory_order_relaxed);
}

enum tg_delivery_state tg_delivery_loop_state(const struct tg_delivery_loop *d)
{
    return (enum tg_delivery_state)atomic_load_explicit(&d->state, memory_order_relaxed);
}

/* The stop that was asked for is over, whether or not the loop has heard of it. */
static bool is_overdue(void *delivery_loop)
{
    struct tg_delivery_loop *d = delivery_loop;
    const uint64_t deadline_ms = atomic_load_explicit(&d->stop_deadline_ms, memory_order_relaxed);
    return deadline_ms != UINT64_MAX && tg_clock_mono_ms() >= deadline_ms;
}

/* --- the cursor --- */

static uint64_t lost_from(const struct tg_span *s)
{
    return s->n_losses ? s->losses[0].from_pos : s->from_pos;
}

static uint64_t lost_to(const struct tg_span *s)
{
    return s->n_losses ? s->losses[s->n_losses - 1].to_pos : s->to_pos;
}

/* For the metrics and the messages; the cursor has its own counts. */
static void count(struct tg_delivery_loop *d, const struct tg_span_counts *done)
{
    tg_metric_add(d->delivered, done->delivered);
    tg_metric_add(d->dead, done->dead);
    tg_metric_add(&d->lost, done->lost);
    tg_trouble_lost(&d->trouble, done->lost, lost_from(&d->span), lost_to(&d->span));
    for (unsigned k = 0; k < TG_INEXPRESSIBLE_KINDS; k++)
        if (done->inexpressible.n[k])
            tg_metric_add(&d->inexpressible_metrics[k], done->inexpressible.n[k]);
    for (unsigned k = 0; k < TG_LEFT_OUT_PARTS; k++)
        tg_metric_add(&d->left_out_metrics[k], done->left_out.n[k]);
}

/* What was under way is not any more. */
static void forget_attempt(struct tg_delivery_loop *d)
{
    tg_write_attempt_forget(&d->attempt);
    tg_letters_set_full(&d->letters, false);
}

/* Moves the cursor behind the span and wakes the requests that wait for it. On failure the counts
 * are in the cursor already and only its file is behind: call it again. */
static enum tg_code move_cursor(struct tg_delivery_loop *d, struct tg_err *err)
{
    struct tg_span *span = &d->span;
    struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    const struct tg_backend_settled settled = {span->from_pos, span->to_pos, span->sure_pos,
                                               span->losses, span->n_losses};
    if (d->config->ops->settled) TG_TRY(d->config->ops->settled(d->backend, &settled, err));
    const struct tg_span_counts done = tg_span_take_counts(span);
    s.pos = span->to_pos;
    s.point_no = span->to_point_no;
    s.n_delivered += done.delivered;
    s.n_elsewhere += done.elsewhere;
    s.n_dead += done.dead;
    s.n_lost += done.lost;
    s.n_inexpressible += tg_inexpressible_sum(&done.inexpressible);
    count(d, &done);
    TG_TRY(tg_log_cursor_set(d->cursor, &s, false, err));
    tg_trouble_stall_ended(&d->trouble);
    tg_ack_board_confirm(d->gateway->acks, d->index, s.pos);
    tg_span_pass(span);
    forget_attempt(d);
    return TG_OK;
}

/* --- waiting --- */

/* The state until the timer fires, with a longer wait after each failure in a row. */
static void wait_then_retry(struct tg_delivery_loop *d, enum tg_delivery_state state,
                            int64_t retry_after_ms)
{
    const uint64_t wait_ms = tg_backoff_next(&d->backoff, retry_after_ms);
    atomic_fetch_add_explicit(&d->n_retries, 1, memory_order_relaxed);
    tg_metric_add(d->retries, 1);
    tg_trouble_set_unhealthy(&d->trouble);
    set_state(d, state);
    tg_timer_start(d->timer, wait_ms);
}

/* What is due is due now. */
static void end_wait(struct tg_delivery_loop *d)
{
    tg_timer_stop(d->timer);
    set_state(d, TG_DELIVERY_IDLE);
}

static void stall(struct tg_delivery_loop *d, const struct tg_err *err)
{
    tg_trouble_stalled(&d->trouble, err);
    wait_then_retry(d, TG_DELIVERY_STALLED, -1);
}

/* --- the end of an attempt --- */

/* Not all of the range came to its end: notes which points did, so that none of them is delivered
 * or dead-lettered again by the next attempt. After tg_span_reserve_settled. */
static void keep_progress(struct tg_delivery_loop *d, const struct tg_undelivered *u)
{
    const struct tg_write_attempt *a = &d->attempt;
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->n_unprepared && n < u->n_in_file; i++, n++)
        tg_span_settle(&d->span, a->unprepared[i]);
    for (uint32_t i = 0; i < a->delivery.n_points; i++) {
        if (tg_write_attempt_is_marked(u->refused, i) && n++ >= u->n_in_file) continue;
        tg_span_settle(&d->span, a->origin[i]);
    }
    tg_span_count(&d->span, &(struct tg_span_counts){
                                .delivered = tg_write_attempt_n_delivered(a, u),
                                .dead = u->n_in_file,
                                .inexpressible = u->inexpressible,
                                .left_out = u->left_out,
                            });
    if (a->delivery.n_points > 0) tg_span_next_part(&d->span);
}

static void push_again(struct tg_delivery_loop *d)
{
    tg_span_push_range(&d->span, d->attempt.range.lo, d->attempt.range.hi);
}

/* The range's points all reached their end: those in `u` were refused permanently or have no form,
 * the others of the delivery are safe with the backend. It stalls when not all dead letters could
 * be written. */
static void complete_range(struct tg_delivery_loop *d, struct tg_undelivered *u)
{
    struct tg_write_attempt *a = &d->attempt;
    struct tg_err err;
    const uint32_t n_dead = a->n_unprepared + u->n_refused;
    enum tg_code code = n_dead ? tg_span_reserve_settled(&d->span, &err) : TG_OK;
    const bool can_note = code == TG_OK; /* else this attempt is made again as a whole */
    if (n_dead && can_note) code = tg_letters_write(&d->letters, a, u, &err);
    if (code != TG_OK) {
        const bool has_progress = u->n_in_file > 0 || a->delivery.n_points > u->n_refused;
        if (can_note) tg_letters_note_inexpressible(&d->letters, &u->inexpressible);
        if (u->n_in_file) /* before the stall is noted */
            tg_letters_note_dead(&d->letters, u->n_in_file, u->newest);
        if (can_note && has_progress) keep_progress(d, u);
        tg_letters_set_full(&d->letters, code == TG_ERR_FULL);
        push_again(d);
        stall(d, &err);
        return;
    }
    if (n_dead) {
        tg_letters_set_full(&d->letters, false);
        tg_letters_note_dead(&d->letters, n_dead, u->newest);
    }
    const uint64_t n_delivered = tg_write_attempt_n_delivered(a, u);
    tg_inexpressible_add(&u->inexpressible, &a->formless);
    tg_span_count(&d->span, &(struct tg_span_counts){
                                .delivered = n_delivered,
                                .elsewhere = a->n_elsewhere,
                                .dead = n_dead,
                                .inexpressible = u->inexpressible,
                                .left_out = u->left_out,
                            });
    tg_letters_note_inexpressible(&d->letters, &u->inexpressible);
    /* part 0 is the first that the backend sees */
    if (a->delivery.n_points > 0) tg_span_next_part(&d->span);
    tg_backoff_reset(&d->backoff);
    set_state(d, TG_DELIVERY_IDLE);
}

/* A single point refused permanently. The others of its range are elsewhere's or unprepared. */
static void dead_letter_point(struct tg_delivery_loop *d, const char *message)
{
    static const uint8_t the_first = 1;
    struct tg_undelivered u = {.refused = &the_first, .n_refused = 1, .reasons = &message};
    complete_range(d, &u);
}

static void complete_write(struct tg_delivery_loop *d, const struct tg_write_result *r)
{
    struct tg_undelivered u = {.n_refused = 0};
    if (r->n_skipped)
        u = (struct tg_undelivered){
            .refused = r->skipped, .n_refused = r->n_skipped, .reasons = r->skip_reasons};
    if (r->n_inexpressible)
        for (uint32_t i = 0; i < d->attempt.delivery.n_points; i++)
            if (tg_write_attempt_is_marked(r->inexpressible, i))
                u.inexpressible.n[tg_inexpressible_kind_of(d->attempt.points[i].point)]++;
    tg_left_out_add(&u.left_out, &r->left_out);
    complete_range(d, &u);
}

/* Of a whole span that was too large, so that not each of those to come is made in vain first. One
 * point that is too large by itself is met in a smaller range, which says nothing. */
static void fit_less(struct tg_delivery_loop *d)
{
    const uint32_t n = d->span.batch.n_points;
    if (d->attempt.range.lo == 0 && d->attempt.range.hi == n && n > 1) d->fit_points = n / 2;
}

static void fit_more(struct tg_delivery_loop *d)
{
    enum { STEP = 64 }; /* of which one in vain is the price */
    if (d->fit_points == 0) return;
    d->fit_points += d->fit_points / STEP + 1;
    if (d->fit_points >= d->config->batch_points) d->fit_points = 0;
}

/* In two at point `mid` of the span. */
static void push_halves(struct tg_delivery_loop *d, uint32_t mid)
{
    tg_span_push_range(&d->span, mid, d->attempt.range.hi);
    tg_span_push_range(&d->span, d->attempt.range.lo, mid);
}

static void on_write(void *arg, const struct tg_write_result *r)
{
    struct tg_delivery_loop *d = arg;
    const struct tg_write_attempt *a = &d->attempt;
    atomic_fetch_add_explicit(&d->n_writes, 1, memory_order_relaxed);
    set_state(d, TG_DELIVERY_IDLE);
    switch (r->outcome) {
    case TG_WRITE_OK:
        tg_trouble_write_went_well(&d->trouble);
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
            tg_trouble_write_failed(&d->trouble, r->message);
        push_again(d);
        wait_then_retry(d, TG_DELIVERY_BACKOFF, r->retry_after_ms);
        break;
    case TG_WRITE_REFUSED:
    case TG_WRITE_TOO_LARGE:
        if (r->outcome == TG_WRITE_TOO_LARGE) fit_less(d);
        tg_span_next_part(&d->span);
        if (a->delivery.n_points == 1)
            dead_letter_point(d, r->message);
        else
            push_halves(d, a->origin[a->delivery.n_points / 2]);
        break;
    }
    if (d->rewinds.first && !d->stopping) end_wait(d); /* they do not wait for the next try */
    if (tg_delivery_loop_state(d) == TG_DELIVERY_IDLE || d->stopping) pump(d);
}

/* --- an attempt --- */

/* The range needs more memory than one attempt may use; a half needs less. */
static void split_range(struct tg_delivery_loop *d, enum tg_code why)
{
    const struct tg_range range = d->attempt.range;
    const uint32_t mid = range.lo + (range.hi - range.lo) / 2;
    push_halves(d, mid);
    if (why == TG_ERR_TOO_LARGE && mid > range.lo) return;
    struct tg_err err;
    (void)tg_fail(&err, TG_ERR_NOMEM, "out of memory (limits.memory)");
    stall(d, &err);
}

/* Not decided now is no reason for a dead letter: the rules come back. */
static void wait_for_rules(struct tg_delivery_loop *d)
{
    struct tg_err err;
    push_again(d);
    (void)tg_fail(&err, TG_ERR_UNAVAILABLE,
                  "points wait whose series is routed elsewhere now: tags.lua gives their tags and "
                  "is not run at the moment (it overruns its budget too often, or memory is "
                  "short); mend it and reload, or raise limits.memory");
    stall(d, &err);
}

/* Takes the next range; ends with a write under way, a wait, or the range complete or split. */
static void attempt(struct tg_delivery_loop *d)
{
    struct tg_deferred_free *guard = tg_table_guard(d->gateway->table);
    const int ticket = tg_deferred_free_enter(guard);
    const enum tg_code code =
        tg_write_attempt_pick(&d->attempt, tg_span_pop_range(&d->span), d->rewinds.epoch);
    const bool has_points = code == TG_OK && d->attempt.delivery.n_points > 0;
    if (has_points) {
        set_state(d, TG_DELIVERY_WRITING);
        d->config->ops->write(d->backend, &d->attempt.delivery, on_write, d);
    }
    /* What is in flight needs no plans: a backend that is slow holds up no freeing. */
    tg_deferred_free_exit(guard, ticket);
    if (has_points) return;
    if (d->attempt.is_paused) {
        push_again(d);
        tg_timer_start(d->timer, PAUSE_MS); /* the loop looks at other things first */
    } else if (code == TG_ERR_UNAVAILABLE) {
        wait_for_rules(d);
    } else if (code != TG_OK) {
        split_range(d, code);
    } else {
        complete_range(d, &(struct tg_undelivered){.n_refused = 0});
    }
}

/* --- the loop --- */

static void save_cursor(struct tg_delivery_loop *d)
{
    struct tg_err err;
    const struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    if (s.pos == d->saved_pos) return;
    if (tg_log_cursor_set(d->cursor, &s, true, &err) != TG_OK)
        tg_warn("delivery",
                "%s: cursor not saved; after a restart some points would be sent again: %s",
                d->config->name, err.msg);
    else
        d->saved_pos = s.pos;
}

static void end_loop(struct tg_delivery_loop *d)
{
    if (d->ended) return;
    d->ended = d->stopping = true;
    tg_timer_stop(d->timer);
    tg_timer_stop(d->tick);
    tg_timer_stop(d->stop_timer);
    save_cursor(d);
    tg_rewinds_cancel(&d->rewinds);
    tg_loop_stop(d->loop);
}

static bool must_linger(struct tg_delivery_loop *d)
{
    if (!d->span.end_reached || d->config->linger_ms == 0 || d->stopping ||
        d->span.batch.n_points == 0)
        return false;
    uint64_t linger_ms = d->config->linger_ms;
    if (tg_ack_board_is_waited_for(d->gateway->acks, d->index)) {
        linger_ms /= WAITED_LINGER_PART;
        if (linger_ms > WAITED_LINGER_MAX_MS) linger_ms = WAITED_LINGER_MAX_MS;
    }
    const uint64_t age_ms = tg_clock_mono_ms() - d->span.first_read_ms;
    if (age_ms >= linger_ms) return false;
    tg_timer_start(d->timer, linger_ms - age_ms);
    atomic_store(&d->lingering, true);
    return true;
}

/* Gets the next span ready. false: nothing to do now (at the end, lingering, stalled or ended). */
static bool next_span(struct tg_delivery_loop *d)
{
    struct tg_err err = {.msg = ""};
    const struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    const uint32_t max_points = d->fit_points ? d->fit_points : d->config->batch_points;
    if (tg_span_fill(&d->span, max_points, &s, is_overdue, d, &err) != TG_OK) {
        stall(d, &err);
        return false;
    }
    if (tg_span_is_empty(&d->span)) {
        atomic_store(&d->oldest_ns, 0);
        if (d->stopping) end_loop(d);
        return false;
    }
    if (d->span.batch.n_points > 0) atomic_store(&d->oldest_ns, d->span.first_accepted_ns);
    if (must_linger(d)) return false;
    tg_span_close(&d->span);
    return true;
}

/* Goes on with what is due, until there is a wait or nothing more. */
static void pump(struct tg_delivery_loop *d)
{
    struct tg_err err = {.msg = ""};
    atomic_store(&d->lingering, false);
    while (tg_delivery_loop_state(d) == TG_DELIVERY_IDLE && !d->ended) {
        /* not at a stop: to find a time may mean to read the whole log */
        if (d->rewinds.first && !d->stopping && tg_rewinds_run(&d->rewinds)) forget_attempt(d);
        if (is_overdue(d)) {
            end_loop(d);
        } else if (d->span.n_ranges > 0) {
            attempt(d);
            if (d->attempt.is_paused && !d->stopping) return;
        } else if (!d->span.is_closed) {
            if (!next_span(d)) return;
        } else if (move_cursor(d, &err) != TG_OK) {
            stall(d, &err);
        }
    }
    /* A backend that is down now will not be up in a moment: the log keeps the data. */
    if (d->stopping && tg_delivery_loop_state(d) != TG_DELIVERY_WRITING) end_loop(d);
}

/* A rewind was asked for. */
static void on_rewind_asked(void *arg)
{
    struct tg_delivery_loop *d = arg;
    if (tg_delivery_loop_state(d) == TG_DELIVERY_WRITING) return; /* on_write lets them run */
    end_wait(d);
    pump(d);
}

static void on_timer(void *arg)
{
    struct tg_delivery_loop *d = arg;
    if (tg_delivery_loop_state(d) == TG_DELIVERY_WRITING) return;
    set_state(d, TG_DELIVERY_IDLE);
    pump(d);
}

static void on_wake(void *arg)
{
    struct tg_delivery_loop *d = arg;
    atomic_store(&d->wake_posted, false);
    if (tg_delivery_loop_state(d) == TG_DELIVERY_IDLE) pump(d);
}

void tg_delivery_loop_wake(void *delivery_loop)
{
    struct tg_delivery_loop *d = delivery_loop;
    /* While it lingers it need not hear of every commit: it reads on when its timer fires. */
    if (atomic_load(&d->lingering) && !tg_ack_board_is_waited_for(d->gateway->acks, d->index))
        return;
    if (!atomic_exchange(&d->wake_posted, true)) tg_loop_post_item(d->loop, &d->wake_item);
}

static void on_health(void *arg, enum tg_code code, const char *message)
{
    struct tg_delivery_loop *d = arg;
    d->health_pending = false;
    const bool ok = code == TG_OK;
    if (!ok && message && *message) tg_trouble_note(&d->trouble, message);
    /* A backend that takes nothing is unhealthy whatever its health page says. */
    const enum tg_delivery_state state = tg_delivery_loop_state(d);
    if (state == TG_DELIVERY_BACKOFF || state == TG_DELIVERY_STALLED) return;
    if (ok)
        tg_trouble_note_well(&d->trouble);
    else
        tg_trouble_set_unhealthy(&d->trouble);
}

static void on_tick(void *arg)
{
    struct tg_delivery_loop *d = arg;
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_timer_start(d->tick, TICK_MS);
    if (d->stopping) return;
    save_cursor(d);
    tg_trouble_tick(&d->trouble);
    if (now_ms >= d->next_health_ms && !d->health_pending &&
        tg_delivery_loop_state(d) != TG_DELIVERY_WRITING) {
        d->next_health_ms = now_ms + d->config->health_every_ms;
        d->health_pending = true;
        d->config->ops->health(d->backend, on_health, d);
    }
    if (d->config->ops->apply_retention && now_ms >= d->next_retention_ms &&
        tg_delivery_loop_state(d) == TG_DELIVERY_IDLE) {
        struct tg_err err = {.msg = ""};
        d->next_retention_ms = now_ms + RETENTION_EVERY_MS;
        if (d->config->ops->apply_retention(d->backend, tg_clock_wall_ns(), &err) != TG_OK)
            tg_warn("delivery", "%s: retention could not be applied: %s", d->config->name, err.msg);
    }
}

/* The backend has not answered by the deadline: its own timeout does not matter any more. What was
 * in flight counts as not delivered and waits in the log. */
static void on_stop_deadline(void *arg)
{
    struct tg_delivery_loop *d = arg;
    if (d->ended) return;
    if (tg_delivery_loop_state(d) != TG_DELIVERY_WRITING) {
        pump(d);
        return;
    }
    d->gave_up = true;
    if (d->config->ops->cancel) d->config->ops->cancel(d->backend);
}

/* --- life --- */

static void register_metrics(struct tg_delivery_loop *d)
{
    const char *name = d->config->name;
    d->delivered = &d->metrics[0];
    d->dead = &d->metrics[1];
    d->retries = &d->metrics[2];
    tg_metric_register(d->delivered, TG_METRIC_COUNTER, "tidegate_backend_points_delivered_total",
                       "Points the backend confirmed, since start.", "backend=\"%s\"", name);
    tg_metric_register(d->dead, TG_METRIC_COUNTER, "tidegate_backend_points_dead_lettered_total",
                       "Points the backend refused permanently, since start.", "backend=\"%s\"",
                       name);
    tg_metric_register(d->retries, TG_METRIC_COUNTER, "tidegate_backend_retries_total",
                       "Writes that failed and were retried.", "backend=\"%s\"", name);
    tg_metric_register(&d->lost, TG_METRIC_COUNTER, "tidegate_backend_points_lost_total",
                       "Points the log lost before the backend got them, since start.",
                       "backend=\"%s\"", name);
    for (unsigned k = 0; k < TG_INEXPRESSIBLE_KINDS; k++)
        tg_metric_register(&d->inexpressible_metrics[k], TG_METRIC_COUNTER,
                           "tidegate_backend_points_inexpressible_total",
                           "Points the backend has no form for, since start: left out, not kept.",
                           "backend=\"%s\",kind=\"%s\"", name,
                           tg_inexpressible_name((enum tg_inexpressible_kind)k));
    static const char *const parts[] = {"exemplar", "exemplar_label", "field", "bytes"};
    _Static_assert(sizeof(parts) / sizeof(parts[0]) == TG_LEFT_OUT_PARTS, "a word each");
    for (unsigned k = 0; k < TG_LEFT_OUT_PARTS; k++)
        tg_metric_register(&d->left_out_metrics[k], TG_METRIC_COUNTER,
                           "tidegate_backend_parts_left_out_total",
                           "Parts of delivered points that the backend has no form for.",
                           "backend=\"%s\",part=\"%s\"", name, parts[k]);
}

static void init_attempt(struct tg_delivery_loop *d)
{
    d->attempt.config = d->config;
    d->attempt.index = d->index;
    d->attempt.planner = &d->planner;
    d->attempt.span = &d->span;
    tg_write_attempt_init(&d->attempt);
    d->letters.config = d->config;
    d->letters.table = d->gateway->table;
    d->letters.trouble = &d->trouble;
}

static void init_rewinds(struct tg_delivery_loop *d, uint64_t epoch)
{
    d->rewinds = (struct tg_rewinds){
        .config = d->config,
        .index = d->index,
        .log = d->gateway->log,
        .acks = d->gateway->acks,
        .span = &d->span,
        .backend = d->backend,
        .cursor = d->cursor,
        .loop = d->loop,
        .on_asked = on_rewind_asked,
        .arg = d,
        .epoch = epoch,
    };
}

enum tg_code tg_delivery_loop_init(struct tg_delivery_loop *d, struct tg_gateway *g, unsigned index,
                                   struct tg_err *err)
{
    const struct tg_backend_config *c = &g->config->backends[index];
    d->gateway = g;
    d->index = index;
    d->config = c;
    tg_trouble_init(&d->trouble, c->name);
    atomic_store(&d->stop_deadline_ms, UINT64_MAX);
    d->backoff = (struct tg_backoff){.min_ms = c->retry_min_ms, .max_ms = c->retry_max_ms};
    tg_span_init(&d->span, c->name, g->table);
    init_attempt(d);
    tg_planner_init(&d->planner, g->rules, g->table, g->preparers, g->n_deliveries,
                    g->n_workers + index);
    d->wake_item = (struct tg_loop_item){.fn = on_wake, .arg = d};
    register_metrics(d);
    d->loop = tg_loop_new();
    if (d->loop) {
        d->timer = tg_timer_new(d->loop, on_timer, d);
        d->tick = tg_timer_new(d->loop, on_tick, d);
        d->stop_timer = tg_timer_new(d->loop, on_stop_deadline, d);
    }
    if (!d->loop || !d->timer || !d->tick || !d->stop_timer)
        return tg_fail(err, TG_ERR_NOMEM, "cannot make a backend's event loop");
    TG_TRY(tg_letters_open(&d->letters, g->config->log.fs, g->config->dead_letter_dir,
                           g->config->max_dead_letter_bytes, err));
    TG_TRY(tg_log_cursor_open(g->log, c->name, c->from_start, &d->cursor, err));
    const struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    const struct tg_log_stats log = tg_log_stats(g->log);
    /* What the log does not have any more will not come again, wherever the cursor stands. */
    const struct tg_backend_open how = {
        .name = c->name,
        .options = &c->options,
        .loop = d->loop,
        .cursor_pos = s.pos > log.start_pos ? s.pos : log.start_pos,
        .log_end_pos = log.end_pos,
        .log_id = tg_log_id(g->log),
        .epoch = s.epoch,
        .is_overdue = is_overdue,
        .overdue_arg = d,
    };
    struct tg_err detail = {.msg = ""};
    const enum tg_code code = c->ops->open(&how, &d->backend, &detail);
    if (code != TG_OK) return tg_fail(err, code, "backends.%s: %s", c->name, detail.msg);
    d->planner.merges = &g->merges;
    g->preparers[index] = (struct tg_preparer){c->ops->prepare, d->backend, c->ops->forms};
    d->attempt.backend = d->backend;
    init_rewinds(d, s.epoch);
    TG_TRY(tg_span_open(&d->span, g->log, &s, err));
    d->saved_pos = s.pos;
    tg_ack_board_place(g->acks, index, s.pos);
    tg_ack_board_on_ask(g->acks, index, tg_delivery_loop_wake, d);
    return TG_OK;
}

static void *delivery_main(void *arg)
{
    struct tg_delivery_loop *d = arg;
    char name[16];
    (void)snprintf(name, sizeof(name), "to-%.12s", d->config->name);
    (void)pthread_setname_np(pthread_self(), name);
    d->next_retention_ms = tg_clock_mono_ms() + RETENTION_EVERY_MS;
    tg_timer_start(d->tick, TICK_MS);
    tg_delivery_loop_wake(d);
    tg_loop_run(d->loop);
    return NULL;
}

enum tg_code tg_delivery_loop_start(struct tg_delivery_loop *d, struct tg_err *err)
{
    const int rc = pthread_create(&d->thread, NULL, delivery_main, d);
    if (rc != 0) return tg_fail_errno(err, rc, "cannot start a delivery thread");
    d->has_thread = true;
    return TG_OK;
}

static void on_stop(void *arg)
{
    struct tg_delivery_loop *d = arg;
    if (d->ended) return;
    d->stopping = true;
    const uint64_t now_ms = tg_clock_mono_ms();
    const uint64_t deadline_ms = atomic_load(&d->stop_deadline_ms);
    tg_timer_start(d->stop_timer, deadline_ms > now_ms ? deadline_ms - now_ms : 0);
    if (tg_delivery_loop_state(d) == TG_DELIVERY_WRITING)
        return; /* on_write pumps, which sees `stopping` */
    tg_timer_stop(d->timer);
    pump(d);
}

void tg_delivery_loop_ask_stop(struct tg_delivery_loop *d, uint64_t deadline_ms)
{
    atomic_store(&d->stop_deadline_ms, deadline_ms);
    d->stop_item = (struct tg_loop_item){.fn = on_stop, .arg = d};
    tg_loop_post_item(d->loop, &d->stop_item);
}

void tg_delivery_loop_join(struct tg_delivery_loop *d)
{
    if (d->has_thread) (void)pthread_join(d->thread, NULL);
    d->has_thread = false;
}

void tg_delivery_loop_deinit(struct tg_delivery_loop *d)
{
    if (!d->gateway) return;
    tg_span_deinit(&d->span);
    if (d->backend) d->config->ops->close(d->backend);
    tg_log_cursor_close(d->cursor);
    tg_letters_close(&d->letters);
    tg_timer_free(d->timer);
    tg_timer_free(d->tick);
    tg_timer_free(d->stop_timer);
    tg_loop_free(d->loop);
    tg_planner_deinit(&d->planner);
    tg_write_attempt_deinit(&d->attempt);
    for (size_t i = 0; i < sizeof(d->metrics) / sizeof(*d->metrics); i++)
        tg_metric_unregister(&d->metrics[i]);
    for (unsigned k = 0; k < TG_INEXPRESSIBLE_KINDS; k++)
        tg_metric_unregister(&d->inexpressible_metrics[k]);
    for (unsigned k = 0; k < TG_LEFT_OUT_PARTS; k++) tg_metric_unregister(&d->left_out_metrics[k]);
    tg_metric_unregister(&d->lost);
    tg_trouble_deinit(&d->trouble);
}

int64_t tg_delivery_loop_lag_ms(const struct tg_delivery_loop *d)
{
    const int64_t oldest_ns = atomic_load(&d->oldest_ns);
    /* The cursor moves before the loop reads on and sees that nothing more is there. */
    if (tg_log_cursor_get(d->cursor).point_no >= tg_log_stats(d->gateway->log).end_point_no)
        return 0;
    const int64_t now_ns = tg_clock_wall_ns();
    /* Below zero: the clock was set back. */
    return oldest_ns && now_ns > oldest_ns ? (now_ns - oldest_ns) / 1000000 : 0;
}

void tg_delivery_loop_status(struct tg_delivery_loop *d, struct tg_backend_status *out)
{
    out->name = d->config->name;
    out->type = d->config->ops->type;
    out->state = tg_delivery_loop_state(d);
    out->n_writes = atomic_load(&d->n_writes);
    out->n_retries = atomic_load(&d->n_retries);
    out->lag_ms = tg_delivery_loop_lag_ms(d);
    tg_trouble_status(&d->trouble, out);
}

bool tg_delivery_loop_validate(struct tg_delivery_loop *d)
{
    const struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    const bool is_writing = tg_delivery_loop_state(d) == TG_DELIVERY_WRITING;
    /* ahead of the span: what could not be saved is, until it can */
    const bool is_there = s.pos == d->span.from_pos && s.point_no == d->span.from_point_no;
    const bool is_ahead = s.pos == d->span.to_pos && s.point_no == d->span.to_point_no;
    return tg_span_validate(&d->span) && tg_trouble_validate(&d->trouble) &&
           tg_letters_validate(&d->letters) && (is_there || is_ahead) &&
           s.epoch >= d->rewinds.epoch &&
           (!is_writing || (d->span.is_closed && tg_write_attempt_validate(&d->attempt)));
}
