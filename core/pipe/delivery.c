/* delivery.c: one backend's loop: read from the log, plan, write, retry, bisect, move the cursor.
 *
 *   IDLE ──more in the log──► (gather, linger) ──► WRITING ──ok──► next range ... ──► cursor moves
 * ──► IDLE │ retry └────► BACKOFF (capped, jittered, Retry-After) ──► WRITING STALLED: as BACKOFF,
 * but what is in the way is on our side (dead letters full, log unreadable, no memory)
 *
 * Routing: a point goes where it was routed when it was accepted, whatever the rules say by then:
 * cursors pass it at different times, so with the rules of each moment an edit could make all of
 * them skip it. Its form (tags) follows the rules in force, and a rule that now drops the series
 * drops it. Points from before the cursor was made, or rewound, go by the rules in force alone.
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
#include "core/pipe/internal.h"

enum {
    MAX_BATCH_ARENA_BYTES = 256 << 20,
    MAX_RETRY_AFTER_MS = 10 * 60 * 1000,
    RETENTION_EVERY_MS = 60 * 1000,
    TICK_MS = 1000,
    MIN_ADHOC_SLOTS = 256, /* a power of two */
    MAX_ADHOC_BYTES = 64 << 20,
    MAX_ADHOC_SCRATCH_BYTES = 16 << 20, /* of one series, as a decider's */
    WAITED_LINGER_PART = 10,            /* while a sender waits: a tenth of it, at most ... */
    WAITED_LINGER_MAX_MS = 500,         /* ... this long */
    MAX_NORMALISE_POINTS = 1,
};

struct rewind_request {
    struct rewind_request *next;
    struct tg_delivery_loop *d;
    enum tg_rewind_to to;
    int64_t value;
    tg_on_rewind on_rewind;
    void *arg;
};

static void pump(struct tg_delivery_loop *d);
static void attempt(struct tg_delivery_loop *d);

static void set_state(struct tg_delivery_loop *d, enum tg_delivery_state s)
{
    atomic_store_explicit(&d->state, (int)s, memory_order_relaxed);
}

static enum tg_delivery_state get_state(const struct tg_delivery_loop *d)
{
    return (enum tg_delivery_state)atomic_load_explicit(&d->state, memory_order_relaxed);
}

static void note_error(struct tg_delivery_loop *d, const char *message)
{
    (void)pthread_mutex_lock(&d->error_lock);
    (void)snprintf(d->last_error, sizeof(d->last_error), "%s", message);
    (void)pthread_mutex_unlock(&d->error_lock);
}

/* --- the batch
 * -------------------------------------------------------------------------------------------------------
 */

static void drop_batch(struct tg_delivery_loop *d)
{
    for (uint32_t i = 0; i < d->n_dicts; i++) tg_log_dict_unref(d->dicts[i]);
    d->n_dicts = 0;
    tg_batch_reset(&d->batch);
    d->n_ranges = 0;
    d->done = (struct tg_delivery_counts){0};
    d->part = 0;
    d->first_read_ms = 0;
    d->has_batch = false;
    d->end_reached = false;
}

/* Back to where the span begins: what was read since is read again, under the rules then in force.
 * When the seek fails the next read tries it again. */
static void restart_batch(struct tg_delivery_loop *d)
{
    struct tg_err err;
    drop_batch(d);
    d->span.to_pos = d->span.from_pos;
    d->span.to_point_no = d->span.from_point_no;
    if (tg_log_reader_seek(d->reader, d->span.from_pos, &err) != TG_OK)
        tg_warn("delivery", "%s: %s", d->config->name, err.msg);
    /* what is missing from here on is counted as lost */
    tg_log_reader_expect(d->reader, d->span.from_point_no);
}

static enum tg_code keep_dict(struct tg_delivery_loop *d, struct tg_log_dict *dict)
{
    if (!dict) return TG_OK;
    if (d->n_dicts && d->dicts[d->n_dicts - 1] == dict) {
        tg_log_dict_unref(dict);
        return TG_OK;
    }
    if (d->n_dicts == d->cap_dicts) {
        const uint32_t cap = d->cap_dicts ? d->cap_dicts * 2 : 4;
        struct tg_log_dict **p = tg_reallocarray(d->dicts, cap, sizeof(*p));
        if (!p) {
            tg_log_dict_unref(dict);
            return TG_ERR_NOMEM;
        }
        d->dicts = p;
        d->cap_dicts = cap;
    }
    d->dicts[d->n_dicts++] = dict;
    return TG_OK;
}

/* Reads until the batch is full or the log's end is reached. */
static enum tg_code fill_batch(struct tg_delivery_loop *d, struct tg_err *err)
{
    uint32_t max = d->config->batch_points;
    struct tg_guard *guard = tg_table_guard(d->gateway->table);
    /* A batch is all replay or none of it: a replay ends where a record does. */
    const uint64_t until_no = tg_log_cursor_get(d->cursor).replay_until_no;
    d->replay = d->span.from_point_no < until_no;
    if (d->replay && until_no - d->span.from_point_no < max)
        max = (uint32_t)(until_no - d->span.from_point_no);
    d->end_reached = false;
    while (d->batch.n_points < max && !(d->replay && d->span.to_point_no >= until_no)) {
        struct tg_log_read read;
        struct tg_log_dict *dict = NULL;
        const int ticket = tg_guard_enter(guard);
        enum tg_code code =
            tg_log_reader_read(d->reader, &d->batch, max - d->batch.n_points, &read, &dict, err);
        tg_guard_exit(guard, ticket);
        if (code == TG_OK && keep_dict(d, dict) != TG_OK) {
            restart_batch(d); /* points whose series nothing holds */
            return tg_fail(err, TG_ERR_NOMEM, "out of memory (limits.memory)");
        }
        /* A batch whose arena is full, or the machine's memory: what there is goes first. */
        if (code == TG_ERR_NOMEM && d->batch.n_points > 0) return TG_OK;
        if (code != TG_OK) {
            restart_batch(d);
            return code;
        }
        if (d->first_read_ms == 0 && d->batch.n_points > 0) d->first_read_ms = tg_clock_mono_ms();
        d->span.to_pos = read.to_pos;
        d->span.to_point_no = read.to_point_no;
        d->done.lost += read.n_lost;
        if (read.to_pos == read.from_pos && read.n_lost == 0) {
            d->end_reached = true;
            break;
        }
    }
    return TG_OK;
}

/* The cursor moves behind the batch; who waits for it is told. On failure the counts are in the
 * cursor already, and only its file is behind: to be called again. */
static enum tg_code move_cursor(struct tg_delivery_loop *d, struct tg_err *err)
{
    struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    s.pos = d->span.to_pos;
    s.point_no = d->span.to_point_no;
    s.n_delivered += d->done.delivered;
    s.n_elsewhere += d->done.elsewhere;
    s.n_dead += d->done.dead;
    s.n_lost += d->done.lost;
    tg_metric_add(d->delivered, d->done.delivered);
    tg_metric_add(d->dead, d->done.dead);
    d->done = (struct tg_delivery_counts){0};
    TG_TRY(tg_log_cursor_set(d->cursor, &s, false, err));
    atomic_store(&d->confirmed_pos, s.pos);
    tg_gateway_cursor_moved(d->gateway);
    d->span.from_pos = d->span.to_pos;
    d->span.from_point_no = d->span.to_point_no;
    drop_batch(d);
    return TG_OK;
}

/* --- waiting
 * ----------------------------------------------------------------------------------------------------------
 */

static void wait_then_retry(struct tg_delivery_loop *d, enum tg_delivery_state state,
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
    set_state(d, state);
    tg_timer_start(d->timer, wait_ms);
}

static void stall(struct tg_delivery_loop *d, const struct tg_err *err)
{
    note_error(d, err->msg);
    tg_warn("delivery", "%s: stalled, will try again: %s", d->config->name, err->msg);
    wait_then_retry(d, TG_DELIVERY_STALLED, -1);
}

/* --- one attempt
 * ----------------------------------------------------------------------------------------------------
 */

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

struct adhoc {
    const struct tg_series *series;
    const uint8_t *bytes;
    uint32_t len;
};

/* Runs rules and prepare for a series whose plan holds no bytes for this backend. */
static enum tg_code prepare_now(struct tg_delivery_loop *d, const struct tg_series *s,
                                struct tg_err *err)
{
    struct tg_series_desc desc;
    struct tg_decision decision;
    struct tg_arena *arena = &d->decider.arena;
    tg_buf_reset(&d->adhoc_scratch);
    enum tg_code code = tg_table_describe(d->gateway->table, s, &desc, arena);
    if (code == TG_OK)
        code = tg_rules_decide(d->gateway->rules, d->decider.slot, &desc, arena, &decision, NULL);
    if (code != TG_OK)
        (void)tg_fail(err, code, "out of memory (limits.memory)");
    else
        code = d->config->ops->prepare(d->backend, &decision.mapped, &d->adhoc_scratch, err);
    tg_arena_reset(arena);
    return code;
}

static struct adhoc *find_adhoc(const struct tg_delivery_loop *d, const struct tg_series *s)
{
    uint32_t i = (uint32_t)s->hash.lo & (d->adhoc_cap - 1);
    while (d->adhoc[i].series && d->adhoc[i].series != s) i = (i + 1) & (d->adhoc_cap - 1);
    return &d->adhoc[i];
}

static enum tg_code grow_adhoc(struct tg_delivery_loop *d)
{
    if (d->n_adhoc < d->adhoc_cap / 4 * 3) return TG_OK;
    struct adhoc *const old = d->adhoc;
    const uint32_t old_cap = d->adhoc_cap;
    const uint32_t cap = old_cap ? old_cap * 2 : MIN_ADHOC_SLOTS;
    struct adhoc *slots = tg_calloc(cap, sizeof(*slots));
    if (!slots) return TG_ERR_NOMEM;
    d->adhoc = slots;
    d->adhoc_cap = cap;
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i].series) *find_adhoc(d, old[i].series) = old[i];
    tg_free(old);
    return TG_OK;
}

/* The bytes of a series that was routed here when its point was accepted, but is not any more.
 * TG_ERR_NOMEM; TG_ERR_TOO_LARGE: too many such series in one attempt; *bytes NULL when the backend
 * cannot take it. */
static enum tg_code prepare_adhoc(struct tg_delivery_loop *d, const struct tg_series *s,
                                  const uint8_t **bytes, uint32_t *len)
{
    TG_TRY(grow_adhoc(d));
    struct adhoc *slot = find_adhoc(d, s);
    if (!slot->series) {
        struct tg_err err;
        const enum tg_code code = prepare_now(d, s, &err);
        if (code == TG_ERR_NOMEM) return code;
        uint8_t *copy = NULL;
        const size_t n = d->adhoc_scratch.len;
        if (code == TG_OK) {
            if (n > MAX_ADHOC_BYTES - d->adhoc_bytes) return TG_ERR_TOO_LARGE;
            copy = tg_arena_alloc(&d->adhoc_arena, n ? n : 1);
            if (!copy) return TG_ERR_NOMEM;
            if (n) memcpy(copy, d->adhoc_scratch.data, n);
            d->adhoc_bytes += n;
        }
        *slot = (struct adhoc){s, copy, (uint32_t)n};
        d->n_adhoc++;
    }
    *bytes = slot->bytes;
    *len = slot->len;
    return TG_OK;
}

static void forget_adhoc(struct tg_delivery_loop *d)
{
    if (!d->adhoc) return;
    tg_arena_deinit(&d->adhoc_arena);
    tg_free(d->adhoc);
    d->adhoc = NULL;
    d->adhoc_cap = d->n_adhoc = 0;
    d->adhoc_bytes = 0;
}

/* Picks this backend's points of d->range. Inside the guard. */
static enum tg_code select_points(struct tg_delivery_loop *d)
{
    const uint32_t bit = UINT32_C(1) << d->index;
    const uint64_t generation = tg_rules_generation(d->gateway->rules);
    TG_TRY(reserve_points(d, d->range.hi - d->range.lo));
    forget_adhoc(d); /* of the attempt before: the rules may have changed */
    uint32_t n = 0;
    d->n_elsewhere = 0;
    d->n_unprepared = 0;
    for (uint32_t i = d->range.lo; i < d->range.hi; i++) {
        const struct tg_point *p = &d->batch.points[i];
        const struct tg_plan *plan = tg_decider_plan(&d->decider, p->series, generation);
        if (!plan) return TG_ERR_NOMEM;
        const uint32_t targets = p->routed && !d->replay ? p->targets : plan->targets;
        if (!(targets & bit) || plan->targets == 0) {
            d->n_elsewhere++;
            continue;
        }
        uint32_t len;
        const uint8_t *prepared = tg_plan_prepared(plan, d->index, &len);
        if (!prepared && !(plan->targets & bit))
            TG_TRY(prepare_adhoc(d, p->series, &prepared, &len));
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
    };
    return TG_OK;
}

/* Dead-letters what the range's attempt leaves behind. */
static enum tg_code bury(struct tg_delivery_loop *d, const struct tg_write_result *r,
                         struct tg_err *err)
{
    const struct tg_table *table = d->gateway->table;
    const uint32_t n_skipped = r ? r->n_skipped : 0;
    enum tg_code code = TG_OK;
    for (uint32_t i = 0; i < d->n_unprepared && code == TG_OK; i++) {
        const struct tg_point *p = &d->batch.points[d->unprepared[i]];
        /* asked again for its reason, as that is not worth keeping with every plan */
        struct tg_err why = {.msg = "the backend has no form for this series"};
        (void)prepare_now(d, p->series, &why);
        code = tg_dead_letters_add(d->dead_letters, table, p, why.msg, err);
    }
    for (uint32_t i = 0; n_skipped && i < d->delivery.n_points && code == TG_OK; i++)
        if (r->skipped[i / 8] >> (i % 8) & 1)
            code = tg_dead_letters_add(
                d->dead_letters, table, d->points[i].point,
                r->skip_reason ? r->skip_reason : "the backend has no form for it", err);
    if (code == TG_OK) code = tg_dead_letters_commit(d->dead_letters, err);
    if (code != TG_OK) tg_dead_letters_abort(d->dead_letters);
    return code;
}

static void push_range(struct tg_delivery_loop *d, uint32_t lo, uint32_t hi)
{
    if (lo < hi) d->ranges[d->n_ranges++] = (struct tg_range){lo, hi};
}

/* The range's points all reached their end. */
static void complete_range(struct tg_delivery_loop *d, const struct tg_write_result *r)
{
    struct tg_err err;
    if ((d->n_unprepared || (r && r->n_skipped)) && bury(d, r, &err) != TG_OK) {
        push_range(d, d->range.lo, d->range.hi);
        stall(d, &err);
        return;
    }
    const uint32_t n_skipped = r ? r->n_skipped : 0;
    d->done.delivered += d->delivery.n_points - n_skipped;
    d->done.dead += n_skipped + d->n_unprepared;
    d->done.elsewhere += d->n_elsewhere;
    if (d->delivery.n_points > 0) d->part++; /* part 0 is the first that the backend sees */
    set_state(d, TG_DELIVERY_IDLE);
}

/* A single point refused for good. The others of its range are elsewhere's or unprepared. */
static void bury_point(struct tg_delivery_loop *d, const char *message)
{
    struct tg_err err;
    enum tg_code code =
        tg_dead_letters_add(d->dead_letters, d->gateway->table, d->points[0].point, message, &err);
    if (code == TG_OK) code = bury(d, NULL, &err);
    if (code != TG_OK) {
        tg_dead_letters_abort(d->dead_letters);
        push_range(d, d->range.lo, d->range.hi);
        stall(d, &err);
        return;
    }
    tg_warn("delivery", "%s refused a point for good (kept as dead letter): %s", d->config->name,
            message);
    d->done.dead += 1 + d->n_unprepared;
    d->done.elsewhere += d->n_elsewhere;
    d->part++;
    set_state(d, TG_DELIVERY_IDLE);
}

static void on_write(void *arg, const struct tg_write_result *r)
{
    struct tg_delivery_loop *d = arg;
    atomic_fetch_add_explicit(&d->n_writes, 1, memory_order_relaxed);
    set_state(d, TG_DELIVERY_IDLE);
    switch (r->outcome) {
    case TG_WRITE_OK:
        d->n_failures = 0;
        atomic_store(&d->healthy, true);
        complete_range(d, r);
        break;
    case TG_WRITE_RETRY:
        note_error(d, r->message);
        if (d->n_failures == 0)
            tg_warn("delivery", "%s: a write failed and will be retried: %s", d->config->name,
                    r->message);
        push_range(d, d->range.lo, d->range.hi);
        wait_then_retry(d, TG_DELIVERY_BACKOFF, r->retry_after_ms);
        break;
    case TG_WRITE_REFUSED:
    case TG_WRITE_TOO_LARGE:
        note_error(d, r->message);
        d->part++;
        if (d->delivery.n_points == 1) {
            bury_point(d, r->message);
        } else {
            const uint32_t mid = d->origin[d->delivery.n_points / 2];
            push_range(d, mid, d->range.hi);
            push_range(d, d->range.lo, mid);
        }
        break;
    }
    tg_guard_exit(tg_table_guard(d->gateway->table), d->ticket);
    if (get_state(d) == TG_DELIVERY_IDLE || d->stopping) pump(d);
}

/* The range needs more than one attempt may have: half of it needs less. */
static void split_range(struct tg_delivery_loop *d, enum tg_code why)
{
    const uint32_t mid = d->range.lo + (d->range.hi - d->range.lo) / 2;
    push_range(d, mid, d->range.hi);
    push_range(d, d->range.lo, mid);
    if (why == TG_ERR_TOO_LARGE && mid > d->range.lo) return;
    struct tg_err err;
    (void)tg_fail(&err, TG_ERR_NOMEM, "out of memory (limits.memory)");
    stall(d, &err);
}

/* Takes the next range; ends with a write under way, a wait, or the range complete or split. */
static void attempt(struct tg_delivery_loop *d)
{
    d->range = d->ranges[--d->n_ranges];
    struct tg_guard *guard = tg_table_guard(d->gateway->table);
    d->ticket = tg_guard_enter(guard);
    const enum tg_code code = select_points(d);
    if (code != TG_OK) {
        split_range(d, code);
    } else if (d->delivery.n_points == 0) {
        complete_range(d, NULL);
    } else {
        set_state(d, TG_DELIVERY_WRITING);
        d->config->ops->write(d->backend, &d->delivery, on_write, d);
        return; /* the guard is left in on_write */
    }
    tg_guard_exit(guard, d->ticket);
}

/* --- rewind
 * -----------------------------------------------------------------------------------------------------------
 */

/* A position that may lie anywhere, as the state of a cursor at the start of the record it is in.
 */
static enum tg_code find_position(struct tg_delivery_loop *d, uint64_t pos,
                                  struct tg_cursor_state *to, struct tg_err *err)
{
    struct tg_log *log = d->gateway->log;
    const struct tg_log_stats stats = tg_log_stats(log);
    *to = (struct tg_cursor_state){.pos = stats.end_pos, .point_no = stats.end_point_no};
    if (pos == stats.end_pos || pos == UINT64_MAX) return TG_OK;
    if (pos > stats.end_pos)
        return tg_fail(err, TG_ERR_INVALID, "position %llu is beyond the log's end %llu",
                       (unsigned long long)pos, (unsigned long long)stats.end_pos);
    struct tg_log_reader *reader;
    TG_TRY(tg_log_reader_open(log, pos, &reader, err));
    struct tg_guard *guard = tg_table_guard(d->gateway->table);
    struct tg_batch probe;
    struct tg_log_read read = {0};
    struct tg_log_dict *dict = NULL;
    tg_batch_init(&probe, guard, 0, MAX_BATCH_ARENA_BYTES);
    const enum tg_code code =
        tg_log_reader_read(reader, &probe, MAX_NORMALISE_POINTS, &read, &dict, err);
    if (code == TG_OK && read.to_pos != read.from_pos) {
        to->pos = read.from_pos;
        to->point_no = read.from_point_no;
    }
    tg_batch_deinit(&probe);
    tg_log_dict_unref(dict);
    tg_log_reader_close(reader);
    return code;
}

static enum tg_code find_rewind(struct tg_delivery_loop *d, const struct rewind_request *q,
                                struct tg_cursor_state *to, struct tg_err *err)
{
    switch (q->to) {
    case TG_REWIND_START: return tg_log_find_time(d->gateway->log, 0, to, err);
    case TG_REWIND_TIME: return tg_log_find_time(d->gateway->log, q->value, to, err);
    case TG_REWIND_POSITION: return find_position(d, (uint64_t)q->value, to, err);
    case TG_REWIND_END: return find_position(d, UINT64_MAX, to, err);
    }
    return tg_fail(err, TG_ERR_INVALID, "unknown kind of rewind");
}

/* Moves the cursor, in memory and in its file; on failure it stays where it was. */
static enum tg_code put_cursor(struct tg_delivery_loop *d, const struct tg_cursor_state *before,
                               const struct tg_cursor_state *to, struct tg_err *err)
{
    struct tg_cursor_state s = *before;
    /* Keeps point_no - first = delivered + elsewhere + dead + lost; modulo 2^64, see
     * tg_gateway_status. */
    s.first_point_no -= s.point_no - to->point_no;
    if (s.point_no > s.replay_until_no) s.replay_until_no = s.point_no;
    s.pos = to->pos;
    s.point_no = to->point_no;
    const enum tg_code code = tg_log_cursor_set(d->cursor, &s, true, err);
    struct tg_err ignored;
    if (code != TG_OK) (void)!tg_log_cursor_set(d->cursor, before, false, &ignored);
    return code;
}

static enum tg_code rewind_to(struct tg_delivery_loop *d, const struct rewind_request *q,
                              struct tg_cursor_state *now, struct tg_err *err)
{
    struct tg_log *log = d->gateway->log;
    const struct tg_cursor_state before = tg_log_cursor_get(d->cursor);
    struct tg_cursor_state to;
    /* Until the cursor stands there, nothing keeps the log from deleting what was just found; once
     * it does, nothing more goes, so that this ends. */
    do {
        TG_TRY(find_rewind(d, q, &to, err));
        if (d->config->ops->rewound) {
            uint64_t pos = to.pos;
            TG_TRY(d->config->ops->rewound(d->backend, &pos, tg_log_stats(log).start_pos, err));
            if (pos != to.pos) TG_TRY(find_position(d, pos, &to, err));
        }
        TG_TRY(put_cursor(d, &before, &to, err));
    } while (to.pos < tg_log_stats(log).start_pos);
    d->span = (struct tg_log_read){to.pos, to.pos, to.point_no, to.point_no, 0};
    restart_batch(d);
    atomic_store(&d->confirmed_pos, to.pos);
    atomic_store(&d->behind_since_ms, tg_clock_mono_ms());
    *now = tg_log_cursor_get(d->cursor);
    return TG_OK;
}

static void run_rewinds(struct tg_delivery_loop *d)
{
    while (d->rewinds) {
        struct rewind_request *q = d->rewinds;
        d->rewinds = q->next;
        struct tg_cursor_state now = {0};
        struct tg_err err = {.msg = ""};
        const enum tg_code code = rewind_to(d, q, &now, &err);
        if (code == TG_OK)
            tg_info("delivery", "%s: cursor moved to position %llu", d->config->name,
                    (unsigned long long)now.pos);
        q->on_rewind(q->arg, code, &now, &err);
        tg_free(q);
    }
}

static void on_rewind_request(void *arg)
{
    struct rewind_request *q = arg;
    struct tg_delivery_loop *d = q->d;
    struct rewind_request **tail = &d->rewinds; /* the last that is asked for has the last word */
    while (*tail) tail = &(*tail)->next;
    *tail = q;
    if (get_state(d) == TG_DELIVERY_WRITING) return; /* pump comes by when the write has ended */
    tg_timer_stop(d->timer);
    set_state(d, TG_DELIVERY_IDLE);
    pump(d);
}

enum tg_code tg_delivery_rewind(struct tg_delivery_loop *d, enum tg_rewind_to to, int64_t value,
                                tg_on_rewind on_rewind, void *arg, struct tg_err *err)
{
    struct rewind_request *q = tg_calloc(1, sizeof(*q));
    if (!q) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    *q = (struct rewind_request){NULL, d, to, value, on_rewind, arg};
    const enum tg_code code = tg_loop_post(d->loop, on_rewind_request, q);
    if (code != TG_OK) tg_free(q);
    return code;
}

/* --- query
 * -------------------------------------------------------------------------------------------------------------
 */

struct query_request {
    struct tg_delivery_loop *d;
    const struct tg_query *q;
    tg_on_row on_row;
    tg_on_query_end on_end;
    void *arg;
};

static void on_query_request(void *arg)
{
    struct query_request *r = arg;
    r->d->config->ops->query_range(r->d->backend, r->q, r->on_row, r->on_end, r->arg);
    tg_free(r);
}

enum tg_code tg_delivery_query(struct tg_delivery_loop *d, const struct tg_query *q,
                               tg_on_row on_row, tg_on_query_end on_end, void *arg,
                               struct tg_err *err)
{
    if (!d->config->ops->query_range)
        return tg_fail(err, TG_ERR_UNSUPPORTED,
                       "backend %s (%s) cannot be queried through the gateway", d->config->name,
                       d->config->ops->type);
    struct query_request *r = tg_malloc(sizeof(*r));
    if (!r) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    *r = (struct query_request){d, q, on_row, on_end, arg};
    const enum tg_code code = tg_loop_post(d->loop, on_query_request, r);
    if (code != TG_OK) tg_free(r);
    return code;
}

/* --- the loop
 * ------------------------------------------------------------------------------------------------------------
 */

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
    d->ended = true;
    tg_timer_stop(d->timer);
    tg_timer_stop(d->tick);
    save_cursor(d);
    while (d->rewinds) {
        struct rewind_request *q = d->rewinds;
        const struct tg_cursor_state now = tg_log_cursor_get(d->cursor);
        struct tg_err err;
        d->rewinds = q->next;
        q->on_rewind(q->arg, tg_fail(&err, TG_ERR_CANCELED, "the gateway is shutting down"), &now,
                     &err);
        tg_free(q);
    }
    tg_loop_stop(d->loop);
}

static bool must_linger(struct tg_delivery_loop *d)
{
    if (!d->end_reached || d->config->linger_ms == 0 || d->stopping || d->batch.n_points == 0)
        return false;
    uint64_t linger_ms = d->config->linger_ms;
    if (atomic_load(&d->n_waiters) > 0) {
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
        stall(d, &err);
        return false;
    }
    if (d->span.to_pos == d->span.from_pos && d->done.lost == 0) {
        atomic_store(&d->behind_since_ms, 0);
        if (d->stopping) end_loop(d);
        return false;
    }
    if (atomic_load(&d->behind_since_ms) == 0)
        atomic_store(&d->behind_since_ms, tg_clock_mono_ms());
    if (must_linger(d)) return false;
    d->has_batch = true;
    push_range(d, 0,
               d->batch.n_points); /* none when there was only damage: the cursor just moves on */
    return true;
}

static void pump(struct tg_delivery_loop *d)
{
    struct tg_err err = {.msg = ""};
    atomic_store(&d->lingering, false);
    while (get_state(d) == TG_DELIVERY_IDLE && !d->ended) {
        if (d->rewinds) run_rewinds(d);
        if (d->stopping && tg_clock_mono_ms() >= d->stop_deadline_ms) {
            end_loop(d);
        } else if (d->n_ranges > 0) {
            attempt(d);
        } else if (!d->has_batch) {
            if (!next_batch(d)) return;
        } else if (move_cursor(d, &err) != TG_OK) {
            stall(d, &err);
        }
    }
    /* A backend that is down now will not be up in a moment: the log keeps the data. */
    if (d->stopping && get_state(d) != TG_DELIVERY_WRITING) end_loop(d);
}

static void on_timer(void *arg)
{
    struct tg_delivery_loop *d = arg;
    if (get_state(d) == TG_DELIVERY_WRITING) return;
    set_state(d, TG_DELIVERY_IDLE);
    pump(d);
}

static void on_wake(void *arg)
{
    struct tg_delivery_loop *d = arg;
    atomic_store(&d->wake_posted, false);
    if (get_state(d) == TG_DELIVERY_IDLE) pump(d);
}

void tg_delivery_wake(void *delivery_loop)
{
    struct tg_delivery_loop *d = delivery_loop;
    /* While it lingers it need not hear of every commit: it reads on when its timer fires. */
    if (atomic_load(&d->lingering) && atomic_load(&d->n_waiters) == 0) return;
    if (!atomic_exchange(&d->wake_posted, true)) tg_loop_post_item(d->loop, &d->wake_item);
}

static void on_health(void *arg, enum tg_code code, const char *message)
{
    struct tg_delivery_loop *d = arg;
    d->health_pending = false;
    const bool ok = code == TG_OK;
    if (!ok && message && *message) note_error(d, message);
    /* A backend in backoff is unhealthy whatever its health page says. */
    if (get_state(d) != TG_DELIVERY_BACKOFF) atomic_store(&d->healthy, ok);
}

static void on_tick(void *arg)
{
    struct tg_delivery_loop *d = arg;
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_timer_start(d->tick, TICK_MS);
    if (d->stopping) return;
    save_cursor(d);
    if (now_ms >= d->next_health_ms && !d->health_pending && get_state(d) != TG_DELIVERY_WRITING) {
        d->next_health_ms = now_ms + d->config->health_every_ms;
        d->health_pending = true;
        d->config->ops->health(d->backend, on_health, d);
    }
    if (d->config->ops->apply_retention && now_ms >= d->next_retention_ms &&
        get_state(d) == TG_DELIVERY_IDLE) {
        struct tg_err err = {.msg = ""};
        d->next_retention_ms = now_ms + RETENTION_EVERY_MS;
        if (d->config->ops->apply_retention(d->backend, tg_clock_wall_ns(), &err) != TG_OK)
            tg_warn("delivery", "%s: retention could not be applied: %s", d->config->name, err.msg);
    }
}

/* --- life
 * ------------------------------------------------------------------------------------------------------------------
 */

static void register_metrics(struct tg_delivery_loop *d)
{
    const char *name = d->config->name;
    d->delivered = &d->metrics[0];
    d->dead = &d->metrics[1];
    d->retries = &d->metrics[2];
    tg_metric_register(d->delivered, TG_METRIC_COUNTER, "tidegate_backend_points_delivered_total",
                       "Points the backend confirmed, since start.", "backend=\"%s\"", name);
    tg_metric_register(d->dead, TG_METRIC_COUNTER, "tidegate_backend_points_dead_lettered_total",
                       "Points the backend refused for good, since start.", "backend=\"%s\"", name);
    tg_metric_register(d->retries, TG_METRIC_COUNTER, "tidegate_backend_retries_total",
                       "Writes that failed and were retried.", "backend=\"%s\"", name);
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
    tg_batch_init(&d->batch, NULL, 0, MAX_BATCH_ARENA_BYTES);
    tg_arena_init(&d->adhoc_arena, 0);
    tg_buf_init(&d->adhoc_scratch, MAX_ADHOC_SCRATCH_BYTES);
    tg_decider_init(&d->decider, g->rules, g->table, g->preparers, g->n_deliveries,
                    g->n_workers + index);
    d->wake_item = (struct tg_loop_item){.fn = on_wake, .arg = d};
    register_metrics(d);
    d->loop = tg_loop_new();
    if (d->loop) {
        d->timer = tg_timer_new(d->loop, on_timer, d);
        d->tick = tg_timer_new(d->loop, on_tick, d);
    }
    if (!d->loop || !d->timer || !d->tick)
        return tg_fail(err, TG_ERR_NOMEM, "cannot make a backend's event loop");
    TG_TRY(tg_dead_letters_new(g->config->dead_letter_dir, c->name,
                               g->config->max_dead_letter_bytes, &d->dead_letters, err));
    TG_TRY(tg_log_cursor_open(g->log, c->name, c->from_start, &d->cursor, err));
    const struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    const struct tg_log_stats log = tg_log_stats(g->log);
    /* What the log does not have any more will not come again, wherever the cursor stands. */
    const struct tg_backend_open how = {c->name, &c->options, d->loop,
                                        s.pos > log.start_pos ? s.pos : log.start_pos, log.end_pos};
    struct tg_err detail = {.msg = ""};
    const enum tg_code code = c->ops->open(&how, &d->backend, &detail);
    if (code != TG_OK) return tg_fail(err, code, "backends.%s: %s", c->name, detail.msg);
    g->preparers[index] = (struct tg_preparer){c->ops->prepare, d->backend};
    TG_TRY(tg_log_reader_open(g->log, s.pos, &d->reader, err));
    tg_log_reader_expect(d->reader, s.point_no);
    d->span = (struct tg_log_read){s.pos, s.pos, s.point_no, s.point_no, 0};
    d->saved_pos = s.pos;
    atomic_store(&d->confirmed_pos, s.pos);
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
    d->stopping = true;
    if (get_state(d) == TG_DELIVERY_WRITING) return; /* its end comes by pump */
    tg_timer_stop(d->timer);
    pump(d);
}

void tg_delivery_ask_stop(struct tg_delivery_loop *d, uint64_t deadline_ms)
{
    d->stop_deadline_ms = deadline_ms;
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
    tg_loop_free(d->loop);
    tg_decider_deinit(&d->decider);
    tg_batch_deinit(&d->batch);
    tg_free(d->dicts);
    tg_free(d->points);
    tg_free(d->origin);
    tg_free(d->unprepared);
    forget_adhoc(d);
    tg_buf_deinit(&d->adhoc_scratch);
    for (size_t i = 0; i < sizeof(d->metrics) / sizeof(*d->metrics); i++)
        tg_metric_unregister(&d->metrics[i]);
    (void)pthread_mutex_destroy(&d->error_lock);
}

void tg_delivery_status(struct tg_delivery_loop *d, struct tg_backend_status *out)
{
    out->name = d->config->name;
    out->type = d->config->ops->type;
    out->state = get_state(d);
    out->healthy = atomic_load(&d->healthy);
    out->n_writes = atomic_load(&d->n_writes);
    out->n_retries = atomic_load(&d->n_retries);
    const uint64_t since_ms = atomic_load(&d->behind_since_ms);
    out->lag_ms = since_ms ? (int64_t)(tg_clock_mono_ms() - since_ms) : 0;
    (void)pthread_mutex_lock(&d->error_lock);
    (void)snprintf(out->last_error, sizeof(out->last_error), "%s", d->last_error);
    (void)pthread_mutex_unlock(&d->error_lock);
}
