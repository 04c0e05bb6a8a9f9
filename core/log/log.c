#include "core/log/log.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

static enum tg_code prepare_folders(struct tg_log *log, struct tg_err *err)
{
    TG_TRY(tg_fs_mkdirs(log->fs, log->dir, err));
    TG_TRY(tg_folder_lock_take(&log->lock, log->fs, log->dir, "lock",
                               "stop it, or set another log.dir", err));
    TG_TRY(tg_fs_join(log->cursor_dir, log->dir, "cursors", err));
    TG_TRY(tg_fs_join(log->damaged_dir, log->dir, "damaged", err));
    TG_TRY(tg_fs_mkdirs(log->fs, log->cursor_dir, err));
    return tg_fs_mkdirs(log->fs, log->damaged_dir, err);
}

enum tg_code tg_log_check_folder(const struct tg_log *log, struct tg_err *err)
{
    return tg_folder_lock_check(&log->lock, log->dir, err);
}

static void destroy(struct tg_log *log)
{
    tg_log_writer_deinit(log);
    tg_log_cursors_free(log);
    while (log->first) {
        tg_log_orphan_drop(log, log->first);
        tg_log_segment_unlink(log, log->first);
    }
    tg_folder_lock_release(&log->lock);
    tg_free(log->queue);
    (void)pthread_cond_destroy(&log->wake);
    (void)pthread_mutex_destroy(&log->mu);
    (void)pthread_mutex_destroy(&log->queue_mu);
    (void)pthread_mutex_destroy(&log->commit_mu);
    tg_free(log);
}

enum tg_code tg_log_open(const struct tg_log_config *config, struct tg_log **out,
                         struct tg_err *err)
{
    *out = NULL;
    const size_t dir_len = strlen(config->dir);
    if (dir_len == 0 || dir_len >= TG_PATH_MAX)
        return tg_fail(err, TG_ERR_INVALID, "log.dir: bad folder name \"%.80s\"", config->dir);
    struct tg_log *log = tg_calloc(1, sizeof(*log));
    if (!log) return tg_fail(err, TG_ERR_NOMEM, "no memory to open the log");
    memcpy(log->dir, config->dir, dir_len + 1);
    log->fs = config->fs ? config->fs : tg_fs_real();
    log->table = config->table;
    log->sync = config->sync;
    log->sync_interval_ms = config->sync_interval_ms ? config->sync_interval_ms : 1000;
    log->max_bytes = config->max_bytes ? config->max_bytes : UINT64_C(4) << 30;
    log->segment_bytes = config->segment_bytes ? config->segment_bytes : UINT64_C(64) << 20;
    if (log->segment_bytes > log->max_bytes / 8) log->segment_bytes = log->max_bytes / 8;
    log->segment_ms = config->segment_ms ? config->segment_ms : 3600000;
    log->targets = config->targets;
    log->n_targets = config->n_targets;
    log->keep_ms = config->keep_ms ? config->keep_ms : 86400000;
    log->queue_cap = config->queue_batches ? config->queue_batches : 1024;
    log->gather_us = config->gather_us ? config->gather_us : TG_LOG_GATHER_US;
    log->max_queue_points = config->queue_points ? config->queue_points : UINT64_C(4) << 20;
    (void)pthread_mutex_init(&log->commit_mu, NULL);
    (void)pthread_mutex_init(&log->queue_mu, NULL);
    (void)pthread_mutex_init(&log->mu, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&log->wake, &attr);
    (void)pthread_condattr_destroy(&attr);

    enum tg_code code = tg_log_writer_init(log);
    if (code != TG_OK) code = tg_fail(err, code, "no memory to open the log");
    if (code == TG_OK) {
        log->queue = tg_calloc(log->queue_cap, sizeof(*log->queue));
        if (!log->queue) code = tg_fail(err, TG_ERR_NOMEM, "no memory to open the log");
    }
    if (code == TG_OK) code = prepare_folders(log, err);
    if (code == TG_OK) code = tg_log_cursors_load(log, err);
    if (code == TG_OK) code = tg_log_learn_id(log, err);
    if (code == TG_OK) code = tg_log_cursors_settle(log, err);
    if (code == TG_OK) code = tg_log_extent_read(log, err);
    if (code == TG_OK) code = tg_log_end_mark_read(log, err);
    if (code == TG_OK) code = tg_log_recover(log, err);
    if (code != TG_OK) {
        destroy(log);
        return code;
    }
    tg_log_reserve_make(log);
    tg_log_end_mark_open(log);
    *out = log;
    return TG_OK;
}

void tg_log_stop(struct tg_log *log)
{
    if (!log) return;
    pthread_mutex_lock(&log->queue_mu);
    const bool must_join = log->started && !log->stopping;
    log->stopping = true;
    (void)pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->queue_mu);
    if (must_join) (void)pthread_join(log->thread, NULL);
}

void tg_log_close(struct tg_log *log)
{
    if (!log) return;
    tg_log_stop(log);
    struct tg_err err;
    pthread_mutex_lock(&log->commit_mu);
    log->w.saved_ms = 0; /* the last chance for what could not be saved */
    if (tg_log_look_after(log, &err) != TG_OK) tg_error("log", "%s", err.msg);
    tg_log_seal(log);
    tg_log_extent_write(log); /* there may have been nothing to close */
    pthread_mutex_unlock(&log->commit_mu);
    destroy(log);
}

/* --- committing --- */

enum tg_code tg_log_commit(struct tg_log *log, struct tg_batch *const *batches, size_t n,
                           uint64_t *end_pos, struct tg_err *err)
{
    if (n == 0) return TG_OK;
    struct tg_log_item *items = tg_calloc(n, sizeof(*items));
    if (!items) return tg_fail(err, TG_ERR_NOMEM, "no memory to commit to the log");
    for (size_t i = 0; i < n; i++) items[i].batch = batches[i];
    enum tg_code code = TG_OK;
    pthread_mutex_lock(&log->commit_mu);
    for (size_t at = 0; at < n;) at += tg_log_write(log, items + at, n - at);
    if (log->w.unsynced && log->sync == TG_SYNC_INTERVAL &&
        tg_clock_mono_ms() - log->w.unsynced_since_ms >= log->sync_interval_ms)
        tg_log_sync_now(log);
    pthread_mutex_unlock(&log->commit_mu);
    for (size_t i = 0; i < n; i++) {
        end_pos[i] = items[i].end_pos;
        if (items[i].code != TG_OK && code == TG_OK) {
            code = items[i].code;
            if (err) *err = items[i].err;
        }
    }
    tg_free(items);
    return code;
}

/* Whether the log thread sleeps until the batch that was just queued. */
static bool is_awaited(const struct tg_log *log)
{
    const uint32_t wanted = log->gather.wanted;
    return wanted ? log->queue_n == wanted || log->queue_points >= TG_LOG_GATHER_POINTS
                  : log->queue_n == 1;
}

enum tg_code tg_log_submit(struct tg_log *log, struct tg_batch *batch, tg_log_on_commit on_commit,
                           void *arg, struct tg_err *err)
{
    enum tg_code code = TG_OK;
    pthread_mutex_lock(&log->queue_mu);
    if (log->stopping || !log->started) {
        code = tg_fail(err, TG_ERR_CANCELED, "the log is %s",
                       log->stopping ? "closing" : "not started");
    } else if (atomic_load(&log->full)) {
        code = tg_fail(err, TG_ERR_FULL,
                       "the log is full (log.max_bytes): a backend has not taken the oldest data "
                       "yet");
        log->reclaim_wanted = true; /* perhaps something was delivered meanwhile */
        (void)pthread_cond_signal(&log->wake);
    } else if (log->queue_n == log->queue_cap ||
               (log->queue_n + log->taken_n &&
                log->queue_points + log->taken_points + batch->n_points > log->max_queue_points)) {
        code = tg_fail(err, TG_ERR_FULL, "%u batches with %llu points wait for the log's disk",
                       log->queue_n, (unsigned long long)log->queue_points);
    } else {
        log->queue[(log->queue_head + log->queue_n++) % log->queue_cap] =
            (struct tg_log_item){.batch = batch, .on_commit = on_commit, .arg = arg};
        log->queue_points += batch->n_points;
        if (is_awaited(log)) (void)pthread_cond_signal(&log->wake);
    }
    pthread_mutex_unlock(&log->queue_mu);
    if (code == TG_ERR_FULL) atomic_fetch_add_explicit(&log->n_refused, 1, memory_order_relaxed);
    return code;
}

void tg_log_wake(struct tg_log *log, bool reclaim, bool cursors)
{
    pthread_mutex_lock(&log->queue_mu);
    log->reclaim_wanted |= reclaim;
    log->cursors_dirty |= cursors;
    if (log->started) (void)pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->queue_mu);
}

void tg_log_wake_look(struct tg_log *log)
{
    pthread_mutex_lock(&log->queue_mu);
    log->look_wanted = true;
    if (log->started) (void)pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->queue_mu);
}

void tg_log_let_go(struct tg_log *log, uint32_t age_ms)
{
    if (atomic_exchange(&log->let_go_ms, age_ms) != age_ms && age_ms)
        tg_log_wake(log, false, false); /* it looks at the clock again */
}

static void tell_readers(struct tg_log *log)
{
    for (unsigned i = 0; i < log->n_on_append; i++) log->on_append[i].fn(log->on_append[i].arg);
}

static void wait_until_ms(struct tg_log *log, uint64_t due_ms)
{
    if (due_ms == UINT64_MAX) {
        (void)pthread_cond_wait(&log->wake, &log->queue_mu);
        return;
    }
    const uint64_t now = tg_clock_mono_ms();
    const uint64_t wait_ms = due_ms > now ? due_ms - now : 0;
    struct timespec ts; /* the clock of the wait is the real one, also when a test has set ours */
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += (time_t)(wait_ms / 1000);
    ts.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (ts.tv_nsec >= 1000000000) {
        ts.tv_nsec -= 1000000000;
        ts.tv_sec++;
    }
    (void)pthread_cond_timedwait(&log->wake, &log->queue_mu, &ts);
}

static uint64_t real_us(void) /* the clock of the wait, also when a test has set ours */
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* A commit of n batches is done, and nobody was told yet: as many senders have something under way
 * now as there are batches in it and in the queue. */
static void gather_expect(struct tg_log *log, uint32_t n)
{
    pthread_mutex_lock(&log->queue_mu);
    log->gather.in_flight = n + log->queue_n;
    log->gather.until_us = real_us() + log->gather_us;
    pthread_mutex_unlock(&log->queue_mu);
}

/* Senders that wait for their answers before they send on would be committed in turns, those that
 * came during an fsync by the next one: two fsyncs for what one can do. Waits for those that were
 * just answered, until all are there or the time is over. Where they do not come it waits ever more
 * rarely. Under queue_mu. */
static void gather(struct tg_log *log)
{
    struct tg_log_gather *g = &log->gather;
    const uint32_t n_before = log->queue_n;
    if (log->sync != TG_SYNC_ALWAYS || g->in_flight < 2 || n_before >= g->in_flight ||
        log->queue_points >= TG_LOG_GATHER_POINTS)
        return;
    uint64_t now_us = real_us();
    if (now_us >= g->until_us) return;
    if (g->n_skips) {
        g->n_skips--;
        return;
    }
    const struct timespec until = {.tv_sec = (time_t)(g->until_us / 1000000),
                                   .tv_nsec = (long)(g->until_us % 1000000) * 1000};
    g->wanted = g->in_flight < log->queue_cap ? g->in_flight : log->queue_cap;
    while (log->queue_n < g->wanted && log->queue_points < TG_LOG_GATHER_POINTS && !log->stopping &&
           now_us < g->until_us) {
        (void)pthread_cond_timedwait(&log->wake, &log->queue_mu, &until);
        now_us = real_us();
    }
    g->wanted = 0;
    if (log->queue_n > n_before) {
        g->n_misses = 0;
    } else {
        g->n_skips = 1U << (g->n_misses < 6 ? g->n_misses++ : 6);
    }
}

/* Commits what was taken from the queue and says so. */
static void commit_taken(struct tg_log *log, struct tg_log_item *items, size_t n)
{
    for (size_t at = 0; at < n;) {
        pthread_mutex_lock(&log->commit_mu);
        const size_t done = tg_log_write(log, items + at, n - at);
        pthread_mutex_unlock(&log->commit_mu);
        gather_expect(log, (uint32_t)(n - at));
        uint64_t points = 0;
        bool any = false;
        for (size_t i = at; i < at + done; i++) {
            struct tg_log_item *it = &items[i];
            const bool ok = it->code == TG_OK;
            points += it->batch->n_points; /* before the callback: the batch may go */
            any |= ok;
            if (!ok) atomic_fetch_add_explicit(&log->n_refused, 1, memory_order_relaxed);
            it->on_commit(it->arg, it->code, it->end_pos, ok ? NULL : &it->err);
        }
        pthread_mutex_lock(&log->queue_mu);
        log->taken_n -= (uint32_t)done;
        log->taken_points -= points;
        pthread_mutex_unlock(&log->queue_mu);
        if (any) tell_readers(log);
        at += done;
    }
}

/* In how many ms tg_log_look_after is due; UINT64_MAX: there is nothing to look after. */
static uint64_t look_due_in_ms(const struct tg_log_writer *w, uint64_t now_ms)
{
    const uint64_t looked = now_ms - w->looked_ms, tried = now_ms - w->saved_ms;
    const uint64_t age = w->n_orphans && (!w->active || tried > looked) ? tried : looked;
    if (!w->active && !w->n_orphans) return UINT64_MAX;
    return age < TG_LOG_LOOK_MS ? TG_LOG_LOOK_MS - age : 0;
}

/* Does what is due by the clock; gives when something is due next. */
static uint64_t housekeep(struct tg_log *log, bool look, uint64_t cursors_due_ms)
{
    uint64_t due = cursors_due_ms;
    bool sealed = false;
    pthread_mutex_lock(&log->commit_mu);
    struct tg_log_writer *w = &log->w;
    const uint64_t now = tg_clock_mono_ms();
    if (look || look_due_in_ms(w, now) == 0) {
        struct tg_err err; /* what cannot be seen now is said when points come or a reader waits */
        if (tg_log_look_after(log, &err) != TG_OK) tg_debug("log", "%s", err.msg);
    }
    const uint64_t after = tg_clock_mono_ms();
    const uint64_t look_in = look_due_in_ms(w, after);
    if (look_in != UINT64_MAX && after + look_in < due) due = after + look_in;
    if (log->sync == TG_SYNC_INTERVAL && w->unsynced) {
        if (now - w->unsynced_since_ms >= log->sync_interval_ms) tg_log_sync_now(log);
        if (w->unsynced) {
            const uint64_t at = w->unsynced_since_ms + log->sync_interval_ms;
            if (at < due) due = at;
        }
    }
    if (now >= tg_log_seal_due_ms(log)) {
        tg_log_seal(log);
        sealed = true;
    }
    const uint64_t seal = tg_log_seal_due_ms(log);
    if (seal < due) due = seal;
    if (now >= tg_log_extent_due_ms(log)) tg_log_extent_write(log);
    const uint64_t extent = tg_log_extent_due_ms(log);
    if (extent < due) due = extent;
    pthread_mutex_unlock(&log->commit_mu);
    if (sealed) tell_readers(log); /* they let go of its series */
    return due;
}

static void *run(void *arg)
{
    struct tg_log *log = arg;
    struct tg_log_item *items = tg_calloc(log->queue_cap, sizeof(*items));
    struct tg_log_item one; /* without memory for the list: one by one */
    const uint32_t cap = items ? log->queue_cap : 1;
    struct tg_log_item *const list = items ? items : &one;
    uint64_t cursors_due_ms = UINT64_MAX;
    pthread_mutex_lock(&log->queue_mu);
    for (;;) {
        if (log->queue_n == 0) {
            if (log->stopping) break;
            const bool reclaim = log->reclaim_wanted, cursors = log->cursors_dirty;
            const bool look = log->look_wanted;
            log->reclaim_wanted = log->cursors_dirty = log->look_wanted = false;
            pthread_mutex_unlock(&log->queue_mu);
            const uint64_t now = tg_clock_mono_ms();
            if (cursors && cursors_due_ms == UINT64_MAX) cursors_due_ms = now + TG_LOG_CURSOR_MS;
            if (now >= cursors_due_ms) {
                cursors_due_ms =
                    tg_log_cursors_flush(log) ? UINT64_MAX : now + TG_LOG_CURSOR_RETRY_MS;
            }
            if (reclaim) {
                pthread_mutex_lock(&log->commit_mu);
                if (tg_segment_reclaim(log, log->w.refused_bytes)) atomic_store(&log->full, false);
                pthread_mutex_unlock(&log->commit_mu);
            }
            const uint64_t due_ms = housekeep(log, look, cursors_due_ms);
            pthread_mutex_lock(&log->queue_mu);
            if (log->queue_n == 0 && !log->stopping && !log->reclaim_wanted &&
                !log->cursors_dirty && !log->look_wanted)
                wait_until_ms(log, due_ms);
            continue;
        }
        gather(log);
        uint32_t n = 0;
        while (log->queue_n && n < cap) {
            list[n++] = log->queue[log->queue_head];
            log->queue_head = (log->queue_head + 1) % log->queue_cap;
            log->queue_n--;
        }
        log->taken_n = n;
        log->taken_points = 0;
        for (uint32_t i = 0; i < n; i++) log->taken_points += list[i].batch->n_points;
        log->queue_points -= log->taken_points;
        pthread_mutex_unlock(&log->queue_mu);
        commit_taken(log, list, n);
        if (log->sync == TG_SYNC_INTERVAL) (void)housekeep(log, false, UINT64_MAX);
        pthread_mutex_lock(&log->queue_mu);
    }
    pthread_mutex_unlock(&log->queue_mu);
    tg_free(items);
    return NULL;
}

enum tg_code tg_log_start(struct tg_log *log, struct tg_err *err)
{
    log->started = true; /* before the thread, which reads it */
    const int e = pthread_create(&log->thread, NULL, run, log);
    if (e) {
        log->started = false;
        return tg_fail_errno(err, e, "cannot start the log's thread");
    }
    (void)pthread_setname_np(log->thread, "tg-log");
    return TG_OK;
}

void tg_log_on_append(struct tg_log *log, void (*fn)(void *arg), void *arg)
{
    if (log->n_on_append == TG_MAX_BACKENDS) return;
    log->on_append[log->n_on_append].fn = fn;
    log->on_append[log->n_on_append++].arg = arg;
}

struct tg_log_stats tg_log_stats(const struct tg_log *clog)
{
    struct tg_log *log = (struct tg_log *)(uintptr_t)clog; /* for the locks */
    struct tg_log_stats s = {0};
    pthread_mutex_lock(&log->queue_mu);
    s.n_queued_batches = log->queue_n + log->taken_n;
    s.n_queued_points = log->queue_points + log->taken_points;
    pthread_mutex_unlock(&log->queue_mu);
    pthread_mutex_lock(&log->mu);
    s.start_pos = log->first ? log->first->start_pos : log->end_pos;
    s.end_pos = log->end_pos;
    s.end_point_no = log->end_point_no;
    s.bytes = log->bytes;
    s.n_segments = log->n_segments;
    s.n_commits = log->n_commits;
    s.n_syncs = log->n_syncs;
    s.n_sync_failures = log->n_sync_failures;
    s.n_damaged_records = log->n_damaged_records;
    s.n_damaged_bytes = log->n_damaged_bytes;
    s.n_replaced = log->n_replaced;
    pthread_mutex_unlock(&log->mu);
    s.n_refused = atomic_load_explicit(&log->n_refused, memory_order_relaxed);
    s.full = atomic_load(&log->full);
    const uint64_t failed_at_ms = atomic_load(&log->failed_at_ms);
    if (failed_at_ms) s.failed_ms = tg_clock_mono_ms() - failed_at_ms + 1;
    return s;
}
