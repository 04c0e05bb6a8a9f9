/* delivery.c: one backend's loop: read from the log, attempt (write_attempt.c), retry, move the
 * cursor.
 *
 * Order: one write at a time, ranges of a batch in log order, so points of a series arrive in
 * order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/pipe/gateway_impl.h"

enum {
    MAX_BATCH_ARENA_BYTES = 256 << 20,
    MAX_RETRY_AFTER_MS = 10 * 60 * 1000,
    RETENTION_EVERY_MS = 60 * 1000,
    LOST_SAY_EVERY_MS = 60 * 1000,
    TICK_MS = 1000,
    PAUSE_MS = 1,
    STALL_SAID_EVERY_MS = 60 * 1000,
    MAX_STRAY_FORMS_SCRATCH_BYTES = 16 << 20, /* of one series, as a planner's */
    WAITED_LINGER_PART = 10,                  /* while a sender waits: a tenth of it, at most ... */
    WAITED_LINGER_MAX_MS = 500,               /* ... this long */
};

void tg_delivery_note_error(struct tg_delivery_loop *d, const char *message)
{
    (void)pthread_mutex_lock(&d->error_lock);
    (void)snprintf(d->last_error, sizeof(d->last_error), "%s", message);
    d->last_error_ns = tg_clock_wall_ns();
    d->well_ns = 0;
    (void)pthread_mutex_unlock(&d->error_lock);
}

void tg_delivery_note_well(struct tg_delivery_loop *d)
{
    atomic_store(&d->healthy, true);
    (void)pthread_mutex_lock(&d->error_lock);
    if (d->last_error[0] && !d->well_ns) d->well_ns = tg_clock_wall_ns();
    (void)pthread_mutex_unlock(&d->error_lock);
}

/* The stop that was asked for is over, whether or not the loop has heard of it. */
static bool is_overdue(void *delivery_loop)
{
    struct tg_delivery_loop *d = delivery_loop;
    const uint64_t deadline_ms = atomic_load_explicit(&d->stop_deadline_ms, memory_order_relaxed);
    return deadline_ms != UINT64_MAX && tg_clock_mono_ms() >= deadline_ms;
}

/* --- the batch --- */

static void drop_batch(struct tg_delivery_loop *d)
{
    for (uint32_t i = 0; i < d->n_dicts; i++) tg_segment_dict_unref(d->dicts[i]);
    d->n_dicts = 0;
    d->n_numbers = 0;
    tg_batch_reset(&d->batch);
    d->n_ranges = 0;
    d->done = (struct tg_delivery_counts){0};
    d->n_losses = 0;
    d->part = 0;
    d->first_read_ms = 0;
    d->has_batch = false;
    d->has_settled = false;
    d->is_paused = false; /* what it decided aside is not for another batch */
    atomic_store_explicit(&d->dead_letters_full, false, memory_order_relaxed);
    d->end_reached = false;
}

/* When the seek fails the next read tries it again. */
void tg_delivery_restart_batch(struct tg_delivery_loop *d)
{
    struct tg_err err;
    drop_batch(d);
    d->span.to_pos = d->span.from_pos;
    d->span.to_point_no = d->span.from_point_no;
    if (d->sure_pos > d->span.from_pos) d->sure_pos = d->span.from_pos;
    if (tg_log_reader_seek(d->reader, d->span.from_pos, &err) != TG_OK)
        tg_warn("delivery", "%s: %s", d->config->name, err.msg);
    /* what is missing from here on is counted as lost */
    tg_log_reader_expect(d->reader, d->span.from_point_no);
}

static enum tg_code keep_dict(struct tg_delivery_loop *d, struct tg_segment_dict *dict)
{
    if (!dict) return TG_OK;
    if (d->n_dicts && d->dicts[d->n_dicts - 1] == dict) {
        tg_segment_dict_unref(dict);
        return TG_OK;
    }
    if (d->n_dicts == d->cap_dicts) {
        const uint32_t cap = d->cap_dicts ? d->cap_dicts * 2 : 4;
        struct tg_segment_dict **p = tg_reallocarray(d->dicts, cap, sizeof(*p));
        if (!p) {
            tg_segment_dict_unref(dict);
            return TG_ERR_NOMEM;
        }
        d->dicts = p;
        d->cap_dicts = cap;
    }
    d->dicts[d->n_dicts++] = dict;
    return TG_OK;
}

static enum tg_code keep_numbers(struct tg_delivery_loop *d, uint32_t at, uint64_t no)
{
    if (at == d->batch.n_points) return TG_OK; /* nothing was added */
    if (d->n_numbers) {
        const struct tg_numbering *last = &d->numbers[d->n_numbers - 1];
        if (last->no + (at - last->at) == no) return TG_OK;
    }
    if (d->n_numbers == d->cap_numbers) {
        const uint32_t cap = d->cap_numbers ? d->cap_numbers * 2 : 16;
        struct tg_numbering *p = tg_reallocarray(d->numbers, cap, sizeof(*p));
        if (!p) return TG_ERR_NOMEM;
        d->numbers = p;
        d->cap_numbers = cap;
    }
    d->numbers[d->n_numbers++] = (struct tg_numbering){at, no};
    return TG_OK;
}

uint64_t tg_delivery_point_no(const struct tg_delivery_loop *d, uint32_t i)
{
    if (i == 0) return d->span.from_point_no; /* with what was lost before it */
    if (i >= d->batch.n_points) return d->span.to_point_no;
    uint32_t lo = 0, hi = d->n_numbers; /* the last that begins at i or before */
    while (hi - lo > 1) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (d->numbers[mid].at <= i)
            lo = mid;
        else
            hi = mid;
    }
    return d->numbers[lo].no + (i - d->numbers[lo].at);
}

static void note_loss(struct tg_delivery_loop *d, const struct tg_log_read *read,
                      const struct tg_log_loss *loss)
{
    struct tg_backend_loss add = {loss->from_pos, loss->to_pos, loss->all};
    /* of what was passed unsure, where a reader that was moved back since does not know of it */
    if (d->sure_pos < read->from_pos && add.from_pos <= read->from_pos &&
        d->sure_pos < add.from_pos)
        add.from_pos = d->sure_pos;
    struct tg_backend_loss *last = d->n_losses ? &d->losses[d->n_losses - 1] : NULL;
    const bool is_same = last && last->all == add.all && add.from_pos <= last->to_pos;
    if (!is_same && d->n_losses < sizeof(d->losses) / sizeof(d->losses[0])) {
        d->losses[d->n_losses++] = add;
        return;
    }
    if (add.to_pos > last->to_pos) last->to_pos = add.to_pos;
    if (!is_same) last->all = false;
}

/* Sets how the points from the span's start on are routed, and gives the number up to which. */
static uint64_t find_routing(struct tg_delivery_loop *d)
{
    const struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    const uint64_t at = d->span.from_point_no;
    if (at >= s.replay_until_no) {
        d->routing = TG_ROUTED_WHEN_ACCEPTED;
        return UINT64_MAX;
    }
    if (at >= s.again_until_no) { /* never passed: where it was routed it must come */
        d->routing = TG_ROUTED_BOTH_WAYS;
        return s.replay_until_no;
    }
    d->routing = TG_ROUTED_BY_RULES;
    return s.again_until_no < s.replay_until_no ? s.again_until_no : s.replay_until_no;
}

/* Reads until the batch is full or the log's end is reached. */
static enum tg_code fill_batch(struct tg_delivery_loop *d, struct tg_err *err)
{
    uint32_t max = d->fit_points ? d->fit_points : d->config->batch_points;
    struct tg_deferred_free *guard = tg_table_guard(d->gateway->table);
    /* All points of a batch are routed one way: where another begins, so does a record. */
    const uint64_t until_no = find_routing(d);
    if (until_no - d->span.from_point_no < max) max = (uint32_t)(until_no - d->span.from_point_no);
    d->end_reached = false;
    while (d->batch.n_points < max && !is_overdue(d) && d->span.to_point_no < until_no) {
        struct tg_log_read read;
        struct tg_segment_dict *dict = NULL;
        const uint32_t at = d->batch.n_points;
        const int ticket = tg_deferred_free_enter(guard);
        enum tg_code code =
            tg_log_reader_read(d->reader, &d->batch, max - d->batch.n_points, &read, &dict, err);
        tg_deferred_free_exit(guard, ticket);
        if (code == TG_OK &&
            (keep_dict(d, dict) != TG_OK || keep_numbers(d, at, read.first_point_no) != TG_OK)) {
            tg_delivery_restart_batch(d); /* points whose series nothing holds */
            return tg_fail(err, TG_ERR_NOMEM, "out of memory (limits.memory)");
        }
        /* The arena or the memory is full, or a segment cannot be read now: what was read so far is
         * delivered first. */
        if ((code == TG_ERR_NOMEM || code == TG_ERR_IO) && d->batch.n_points > 0) return TG_OK;
        if (code != TG_OK) {
            tg_delivery_restart_batch(d);
            return code;
        }
        if (d->first_read_ms == 0 && d->batch.n_points > 0) {
            d->first_read_ms = tg_clock_mono_ms();
            d->first_accepted_ns = read.accepted_ns ? read.accepted_ns : tg_clock_wall_ns();
        }
        d->span.to_pos = read.to_pos;
        d->span.to_point_no = read.to_point_no;
        d->done.lost += read.n_lost;
        for (unsigned i = 0; i < read.n_losses; i++) note_loss(d, &read, &read.losses[i]);
        if (read.is_sure)
            d->sure_pos = read.to_pos;
        else if ((d->batch.n_points > at || read.n_lost) && read.sure_pos > d->sure_pos)
            d->sure_pos = read.sure_pos;
        if (read.to_pos == read.from_pos && read.n_lost == 0) {
            d->end_reached = true;
            break;
        }
    }
    return TG_OK;
}

/* The first loss is said at once, then a sum once a minute. */
static void warn_lost(struct tg_delivery_loop *d, uint64_t n)
{
    char text[256];
    if (n == 0 && d->n_lost_unsaid == 0) return;
    const uint64_t now_ms = tg_clock_mono_ms();
    const uint64_t from = d->n_losses ? d->losses[0].from_pos : d->span.from_pos;
    const uint64_t to = d->n_losses ? d->losses[d->n_losses - 1].to_pos : d->span.to_pos;
    if (n && (d->n_lost_unsaid == 0 || from < d->lost_unsaid_from)) d->lost_unsaid_from = from;
    if (n && (d->n_lost_unsaid == 0 || to > d->lost_unsaid_to)) d->lost_unsaid_to = to;
    d->n_lost_unsaid += n;
    if (d->lost_said_ms && now_ms - d->lost_said_ms < LOST_SAY_EVERY_MS) return;
    (void)snprintf(text, sizeof(text),
                   "%llu points are lost, between the positions %llu and %llu: files of the log "
                   "are damaged or gone",
                   (unsigned long long)d->n_lost_unsaid, (unsigned long long)d->lost_unsaid_from,
                   (unsigned long long)d->lost_unsaid_to);
    tg_delivery_note_error(d, text);
    tg_error("delivery",
             "%s: %s; earlier messages and log.dir/damaged tell more. To have them: put the "
             "segments back (stop first) and rewind to position %llu, or have them sent again",
             d->config->name, text, (unsigned long long)d->lost_unsaid_from);
    d->n_lost_unsaid = 0;
    d->lost_said_ms = now_ms;
}

/* Moves the cursor behind the batch and wakes the requests that wait for it. On failure the counts
 * are in the cursor already and only its file is behind: call it again. */
static enum tg_code move_cursor(struct tg_delivery_loop *d, struct tg_err *err)
{
    struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    const struct tg_backend_settled settled = {d->span.from_pos, d->span.to_pos, d->sure_pos,
                                               d->losses, d->n_losses};
    if (d->config->ops->settled) TG_TRY(d->config->ops->settled(d->backend, &settled, err));
    s.pos = d->span.to_pos;
    s.point_no = d->span.to_point_no;
    s.n_delivered += d->done.delivered;
    s.n_elsewhere += d->done.elsewhere;
    s.n_dead += d->done.dead;
    s.n_lost += d->done.lost;
    s.n_inexpressible += tg_inexpressible_sum(&d->done.inexpressible);
    tg_metric_add(d->delivered, d->done.delivered);
    tg_metric_add(d->dead, d->done.dead);
    tg_metric_add(&d->lost, d->done.lost);
    warn_lost(d, d->done.lost);
    for (unsigned k = 0; k < TG_INEXPRESSIBLE_KINDS; k++)
        if (d->done.inexpressible.n[k])
            tg_metric_add(&d->inexpressible_metrics[k], d->done.inexpressible.n[k]);
    for (unsigned k = 0; k < TG_LEFT_OUT_PARTS; k++)
        tg_metric_add(&d->left_out_metrics[k], d->done.left_out.n[k]);
    d->done = (struct tg_delivery_counts){0};
    TG_TRY(tg_log_cursor_set(d->cursor, &s, false, err));
    d->stall_said_ms = 0;
    tg_ack_board_confirm(d->gateway->acks, d->index, s.pos);
    d->span.from_pos = d->span.to_pos;
    d->span.from_point_no = d->span.to_point_no;
    drop_batch(d);
    return TG_OK;
}

/* --- waiting --- */

void tg_delivery_wait_then_retry(struct tg_delivery_loop *d, enum tg_delivery_state state,
                                 int64_t retry_after_ms)
{
    const struct tg_backend_config *c = d->config;
    uint64_t wait_ms = c->retry_min_ms;
    for (unsigned i = 0; i < d->n_failures && wait_ms < c->retry_max_ms; i++) wait_ms *= 2;
    if (wait_ms > c->retry_max_ms) wait_ms = c->retry_max_ms;
    /* Half fixed, half random: gateways that failed together do not come back together. */
    wait_ms = wait_ms / 2 + (uint64_t)random() % (wait_ms / 2 + 1);
    if (retry_after_ms > (int64_t)wait_ms)
        wait_ms =
            retry_after_ms > MAX_RETRY_AFTER_MS ? MAX_RETRY_AFTER_MS : (uint64_t)retry_after_ms;
    d->n_failures++;
    atomic_fetch_add_explicit(&d->n_retries, 1, memory_order_relaxed);
    tg_metric_add(d->retries, 1);
    atomic_store(&d->healthy, false);
    tg_delivery_set_state(d, state);
    tg_timer_start(d->timer, wait_ms);
}

void tg_delivery_pause(struct tg_delivery_loop *d)
{
    d->is_paused = true;
    tg_timer_start(d->timer, PAUSE_MS);
}

void tg_delivery_end_wait(struct tg_delivery_loop *d)
{
    tg_timer_stop(d->timer);
    tg_delivery_set_state(d, TG_DELIVERY_IDLE);
}

void tg_delivery_stall(struct tg_delivery_loop *d, const struct tg_err *err)
{
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_delivery_note_error(d, err->msg);
    if (d->stall_said_ms == 0 || err->code != d->stall_said_code ||
        now_ms - d->stall_said_ms >= STALL_SAID_EVERY_MS) {
        tg_warn("delivery", "%s: stalled, will try again: %s", d->config->name, err->msg);
        d->stall_said_ms = now_ms;
        d->stall_said_code = err->code;
    }
    tg_delivery_wait_then_retry(d, TG_DELIVERY_STALLED, -1);
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
    tg_delivery_cancel_rewinds(d);
    tg_loop_stop(d->loop);
}

static bool must_linger(struct tg_delivery_loop *d)
{
    if (!d->end_reached || d->config->linger_ms == 0 || d->stopping || d->batch.n_points == 0)
        return false;
    uint64_t linger_ms = d->config->linger_ms;
    if (tg_ack_board_is_waited_for(d->gateway->acks, d->index)) {
        linger_ms /= WAITED_LINGER_PART;
        if (linger_ms > WAITED_LINGER_MAX_MS) linger_ms = WAITED_LINGER_MAX_MS;
    }
    const uint64_t age_ms = tg_clock_mono_ms() - d->first_read_ms;
    if (age_ms >= linger_ms) return false;
    tg_timer_start(d->timer, linger_ms - age_ms);
    atomic_store(&d->lingering, true);
    return true;
}

/* Gets the next batch ready. false: nothing to do now (at the end, lingering, stalled or ended). */
static bool next_batch(struct tg_delivery_loop *d)
{
    struct tg_err err = {.msg = ""};
    if (fill_batch(d, &err) != TG_OK) {
        tg_delivery_stall(d, &err);
        return false;
    }
    if (d->span.to_pos == d->span.from_pos && d->done.lost == 0) {
        atomic_store(&d->oldest_ns, 0);
        if (d->stopping) end_loop(d);
        return false;
    }
    if (d->batch.n_points > 0) atomic_store(&d->oldest_ns, d->first_accepted_ns);
    if (must_linger(d)) return false;
    d->has_batch = true;
    tg_delivery_push_range(
        d, 0, d->batch.n_points); /* none when there was only damage: the cursor just moves on */
    return true;
}

void tg_delivery_pump(struct tg_delivery_loop *d)
{
    struct tg_err err = {.msg = ""};
    atomic_store(&d->lingering, false);
    while (tg_delivery_get_state(d) == TG_DELIVERY_IDLE && !d->ended) {
        /* not at a stop: to find a time may mean to read the whole log */
        if (d->rewinds && !d->stopping) tg_delivery_run_rewinds(d);
        if (is_overdue(d)) {
            end_loop(d);
        } else if (d->n_ranges > 0) {
            tg_delivery_attempt(d);
            if (d->is_paused && !d->stopping) return;
        } else if (!d->has_batch) {
            if (!next_batch(d)) return;
        } else if (move_cursor(d, &err) != TG_OK) {
            tg_delivery_stall(d, &err);
        }
    }
    /* A backend that is down now will not be up in a moment: the log keeps the data. */
    if (d->stopping && tg_delivery_get_state(d) != TG_DELIVERY_WRITING) end_loop(d);
}

static void on_timer(void *arg)
{
    struct tg_delivery_loop *d = arg;
    if (tg_delivery_get_state(d) == TG_DELIVERY_WRITING) return;
    tg_delivery_set_state(d, TG_DELIVERY_IDLE);
    tg_delivery_pump(d);
}

static void on_wake(void *arg)
{
    struct tg_delivery_loop *d = arg;
    atomic_store(&d->wake_posted, false);
    if (tg_delivery_get_state(d) == TG_DELIVERY_IDLE) tg_delivery_pump(d);
}

void tg_delivery_wake(void *delivery_loop)
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
    if (!ok && message && *message) tg_delivery_note_error(d, message);
    /* A backend that takes nothing is unhealthy whatever its health page says. */
    const enum tg_delivery_state state = tg_delivery_get_state(d);
    if (state == TG_DELIVERY_BACKOFF || state == TG_DELIVERY_STALLED) return;
    if (ok)
        tg_delivery_note_well(d);
    else
        atomic_store(&d->healthy, false);
}

static void on_tick(void *arg)
{
    struct tg_delivery_loop *d = arg;
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_timer_start(d->tick, TICK_MS);
    if (d->stopping) return;
    save_cursor(d);
    warn_lost(d, 0); /* what was held back */
    if (now_ms >= d->next_health_ms && !d->health_pending &&
        tg_delivery_get_state(d) != TG_DELIVERY_WRITING) {
        d->next_health_ms = now_ms + d->config->health_every_ms;
        d->health_pending = true;
        d->config->ops->health(d->backend, on_health, d);
    }
    if (d->config->ops->apply_retention && now_ms >= d->next_retention_ms &&
        tg_delivery_get_state(d) == TG_DELIVERY_IDLE) {
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
    if (tg_delivery_get_state(d) != TG_DELIVERY_WRITING) {
        tg_delivery_pump(d);
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

enum tg_code tg_delivery_init(struct tg_delivery_loop *d, struct tg_gateway *g, unsigned index,
                              struct tg_err *err)
{
    const struct tg_backend_config *c = &g->config->backends[index];
    d->gateway = g;
    d->index = index;
    d->config = c;
    (void)pthread_mutex_init(&d->error_lock, NULL);
    atomic_store(&d->healthy, true);
    atomic_store(&d->stop_deadline_ms, UINT64_MAX);
    tg_batch_init(&d->batch, NULL, 0, MAX_BATCH_ARENA_BYTES);
    tg_stray_forms_init(&d->stray_forms);
    tg_buf_init(&d->stray_forms_scratch, MAX_STRAY_FORMS_SCRATCH_BYTES);
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
    TG_TRY(tg_dead_letters_new(g->config->log.fs, g->config->dead_letter_dir, c->name,
                               g->config->max_dead_letter_bytes, &d->dead_letters, err));
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
    d->epoch = s.epoch;
    struct tg_err detail = {.msg = ""};
    const enum tg_code code = c->ops->open(&how, &d->backend, &detail);
    if (code != TG_OK) return tg_fail(err, code, "backends.%s: %s", c->name, detail.msg);
    d->planner.merges = &g->merges;
    g->preparers[index] = (struct tg_preparer){c->ops->prepare, d->backend, c->ops->forms};
    TG_TRY(tg_log_reader_open(g->log, s.pos, &d->reader, err));
    tg_log_reader_expect(d->reader, s.point_no);
    d->span = (struct tg_log_read){
        .from_pos = s.pos, .to_pos = s.pos, .from_point_no = s.point_no, .to_point_no = s.point_no};
    d->saved_pos = d->sure_pos = s.pos;
    tg_ack_board_place(g->acks, index, s.pos);
    tg_ack_board_on_ask(g->acks, index, tg_delivery_wake, d);
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
    tg_delivery_wake(d);
    tg_loop_run(d->loop);
    return NULL;
}

enum tg_code tg_delivery_start(struct tg_delivery_loop *d, struct tg_err *err)
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
    if (tg_delivery_get_state(d) == TG_DELIVERY_WRITING)
        return; /* on_write pumps, which sees `stopping` */
    tg_timer_stop(d->timer);
    tg_delivery_pump(d);
}

void tg_delivery_ask_stop(struct tg_delivery_loop *d, uint64_t deadline_ms)
{
    atomic_store(&d->stop_deadline_ms, deadline_ms);
    d->stop_item = (struct tg_loop_item){.fn = on_stop, .arg = d};
    tg_loop_post_item(d->loop, &d->stop_item);
}

void tg_delivery_join(struct tg_delivery_loop *d)
{
    if (d->has_thread) (void)pthread_join(d->thread, NULL);
    d->has_thread = false;
}

void tg_delivery_deinit(struct tg_delivery_loop *d)
{
    if (!d->gateway) return;
    drop_batch(d);
    if (d->backend) d->config->ops->close(d->backend);
    tg_log_reader_close(d->reader);
    tg_log_cursor_close(d->cursor);
    tg_dead_letters_free(d->dead_letters);
    tg_timer_free(d->timer);
    tg_timer_free(d->tick);
    tg_timer_free(d->stop_timer);
    tg_loop_free(d->loop);
    tg_planner_deinit(&d->planner);
    tg_batch_deinit(&d->batch);
    tg_free(d->dicts);
    tg_free(d->numbers);
    tg_free(d->points);
    tg_free(d->origin);
    tg_free(d->unprepared);
    tg_free(d->settled);
    tg_stray_forms_forget(&d->stray_forms);
    tg_buf_deinit(&d->stray_forms_scratch);
    for (size_t i = 0; i < sizeof(d->metrics) / sizeof(*d->metrics); i++)
        tg_metric_unregister(&d->metrics[i]);
    for (unsigned k = 0; k < TG_INEXPRESSIBLE_KINDS; k++)
        tg_metric_unregister(&d->inexpressible_metrics[k]);
    for (unsigned k = 0; k < TG_LEFT_OUT_PARTS; k++) tg_metric_unregister(&d->left_out_metrics[k]);
    tg_metric_unregister(&d->lost);
    (void)pthread_mutex_destroy(&d->error_lock);
}

int64_t tg_delivery_lag_ms(const struct tg_delivery_loop *d)
{
    const int64_t oldest_ns = atomic_load(&d->oldest_ns);
    /* The cursor moves before the loop reads on and sees that nothing more is there. */
    if (tg_log_cursor_get(d->cursor).point_no >= tg_log_stats(d->gateway->log).end_point_no)
        return 0;
    const int64_t now_ns = tg_clock_wall_ns();
    /* Below zero: the clock was set back. */
    return oldest_ns && now_ns > oldest_ns ? (now_ns - oldest_ns) / 1000000 : 0;
}

void tg_delivery_status(struct tg_delivery_loop *d, struct tg_backend_status *out)
{
    out->name = d->config->name;
    out->type = d->config->ops->type;
    out->state = tg_delivery_get_state(d);
    out->healthy = atomic_load(&d->healthy);
    out->n_writes = atomic_load(&d->n_writes);
    out->n_retries = atomic_load(&d->n_retries);
    out->lag_ms = tg_delivery_lag_ms(d);
    (void)pthread_mutex_lock(&d->error_lock);
    (void)snprintf(out->last_error, sizeof(out->last_error), "%s", d->last_error);
    out->last_error_ns = d->last_error_ns;
    out->well_ns = d->well_ns;
    (void)pthread_mutex_unlock(&d->error_lock);
}
