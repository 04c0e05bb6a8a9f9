/* ingest_worker.c: an ingest worker: decode, plan, submit to the log, wait for what the strategies
 * ask, answer. */
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/pipe/gateway_impl.h"

static void on_cursor_moved(void *worker);
static void on_deadline(void *worker);

/* --- plan --- */

/* Nothing of the request is logged, so that it can come again as a whole. */
static enum tg_code not_planned(struct tg_ingest_worker *w, struct tg_err *err)
{
    switch (w->planner.why) {
    case TG_ERR_FULL:
        tg_metric_add(&w->gateway->undecided, 1);
        return tg_fail(err, TG_ERR_FULL,
                       "the rules took more than %u ms for the new series of this request "
                       "(rules.max_request_time); send it again: what is decided is remembered",
                       w->gateway->config->limits.rules_per_request_ms);
    case TG_ERR_CANCELED: return tg_fail(err, TG_ERR_CANCELED, "the gateway is shutting down");
    default: return tg_fail(err, TG_ERR_NOMEM, "out of memory for a series' plan (limits.memory)");
    }
}

/* Plans every point, takes out the dropped ones, and gathers which cursors the answer waits for. */
static enum tg_code plan_points(struct tg_ingest_worker *w, struct tg_ingest *in,
                                struct tg_err *err)
{
    struct tg_batch *b = &in->batch;
    const uint64_t generation = tg_rules_generation(w->gateway->rules);
    uint32_t wait = 0;
    uint32_t kept = 0;
    tg_planner_begin(&w->planner, w->gateway->config->limits.rules_per_request_ms);
    for (uint32_t i = 0; i < b->n_points; i++) {
        const struct tg_plan *plan = tg_planner_plan(&w->planner, b->points[i].series, generation);
        if (!plan) return not_planned(w, err);
        if (plan->targets == 0) continue;
        wait |= plan->wait;
        if (kept != i) b->points[kept] = b->points[i];
        b->points[kept].routed = true;
        b->points[kept].targets = plan->targets;
        kept++;
    }
    tg_metric_add(&w->gateway->dropped, b->n_points - kept);
    b->n_points = kept;
    in->wait = wait;
    return TG_OK;
}

/* --- waiting for cursors --- */

static void finish(struct tg_ingest_worker *w, struct tg_ingest *in, enum tg_code code,
                   const struct tg_err *err)
{
    w->n_open--;
    tg_ingest_reply(in, code, err);
    if (w->stopping && w->n_open == 0) tg_loop_stop(w->loop);
}

static void unlink_waiting(struct tg_ingest_worker *w, struct tg_ingest *in)
{
    if (in->prev)
        in->prev->next = in->next;
    else
        w->wait_head = in->next;
    if (in->next)
        in->next->prev = in->prev;
    else
        w->wait_tail = in->prev;
    in->prev = in->next = NULL;
    tg_ack_board_end_wait(w->gateway->acks, w->index, in->waited);
}

static void arm_deadline(struct tg_ingest_worker *w)
{
    if (!w->wait_head) {
        tg_timer_stop(w->deadline_timer);
        return;
    }
    const uint64_t now_ms = tg_clock_mono_ms();
    const uint64_t at_ms = w->wait_head->deadline_ms;
    tg_timer_start(w->deadline_timer, at_ms > now_ms ? at_ms - now_ms : 0);
}

static void reply_retry_later(struct tg_ingest_worker *w, struct tg_ingest *in, uint32_t backends,
                              const char *why)
{
    char names[160] = "";
    size_t n = 0;
    for (uint32_t left = backends; left; left &= left - 1) {
        const unsigned b = (unsigned)__builtin_ctz(left);
        const int wrote = snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "",
                                   w->gateway->config->backends[b].name);
        if (wrote > 0 && (size_t)wrote < sizeof(names) - n) n += (size_t)wrote;
    }
    struct tg_err err;
    const enum tg_code code = tg_fail(
        &err, TG_ERR_TIMEOUT,
        "the points are in the log, but the strategy waits for %s, which %s; send again later",
        names, why);
    tg_metric_add(&w->gateway->ack_timeouts, 1);
    unlink_waiting(w, in);
    finish(w, in, code, &err);
}

/* Ends the wait when there is nothing more to wait for. */
static bool try_end_wait(struct tg_ingest_worker *w, struct tg_ingest *in)
{
    uint32_t skipped;
    in->wait = tg_ack_board_look(w->gateway->acks, in->wait, in->end_pos, &skipped);
    if (skipped) {
        reply_retry_later(w, in, skipped,
                          "was moved forward in the log (rewind) and may not get them");
        return true;
    }
    if (in->wait) return false;
    unlink_waiting(w, in);
    finish(w, in, TG_OK, NULL);
    return true;
}

static void wait_for_cursors(struct tg_ingest_worker *w, struct tg_ingest *in)
{
    in->prev = w->wait_tail;
    in->next = NULL;
    if (w->wait_tail)
        w->wait_tail->next = in;
    else
        w->wait_head = in;
    w->wait_tail = in;
    tg_ack_board_begin_wait(w->gateway->acks, w->index); /* before the first look */
    in->waited = 0;
    if (try_end_wait(w, in)) return;
    in->waited = in->wait;
    tg_ack_board_ask(w->gateway->acks, in->waited);
    if (w->wait_head == in) arm_deadline(w);
}

static void on_cursor_moved(void *worker)
{
    struct tg_ingest_worker *w = worker;
    atomic_store(&w->wake_posted, false);
    struct tg_ingest *next;
    for (struct tg_ingest *in = w->wait_head; in; in = next) {
        next = in->next;
        (void)try_end_wait(w, in);
    }
    arm_deadline(w);
}

/* A cursor moved: look at the waiting requests. Any thread. */
static void wake(void *worker)
{
    struct tg_ingest_worker *w = worker;
    if (!atomic_exchange(&w->wake_posted, true)) tg_loop_post_item(w->loop, &w->wake_item);
}

/* The wait is over: confirmed after all, or not in time. */
static void end_wait(struct tg_ingest_worker *w, struct tg_ingest *in)
{
    if (!try_end_wait(w, in))
        reply_retry_later(w, in, in->wait, "did not confirm within limits.ack_timeout");
}

static void on_deadline(void *worker)
{
    struct tg_ingest_worker *w = worker;
    const uint64_t now_ms = tg_clock_mono_ms();
    while (w->wait_head && w->wait_head->deadline_ms <= now_ms) end_wait(w, w->wait_head);
    arm_deadline(w);
}

/* --- the journey of a request --- */

/* On the worker's thread again, after the log thread's verdict. */
static void on_logged(void *arg)
{
    struct tg_ingest *in = arg;
    struct tg_ingest_worker *w = tg_ingest_sink_arg(in);
    /* The points are in the log: let go of the series now, however long the answer waits. */
    tg_deferred_free_exit(in->batch.guard, in->batch.ticket);
    in->batch.guard = NULL;
    in->batch.n_points = 0;
    if (in->code != TG_OK)
        finish(w, in, in->code, &in->err);
    else if (in->wait == 0)
        finish(w, in, TG_OK, NULL);
    else
        wait_for_cursors(w, in);
}

/* On the log thread. */
static void on_commit(void *arg, enum tg_code code, uint64_t end_pos, const struct tg_err *err)
{
    struct tg_ingest *in = arg;
    in->code = code;
    in->end_pos = end_pos;
    if (code != TG_OK) {
        if (err)
            in->err = *err;
        else
            (void)tg_fail(&in->err, code, "the log could not commit");
    }
    const struct tg_ingest_worker *w = tg_ingest_sink_arg(in);
    tg_loop_post_item(w->loop, &in->item);
}

static void on_ingest(void *worker, struct tg_ingest *in)
{
    struct tg_ingest_worker *w = worker;
    struct tg_err err = {.offset = TG_NO_OFFSET, .msg = ""};
    w->n_open++;
    enum tg_code code = plan_points(w, in, &err);
    if (code == TG_OK && in->batch.n_points == 0) {
        finish(w, in, TG_OK, NULL); /* all dropped by rule */
        return;
    }
    if (code == TG_OK) {
        in->item = (struct tg_loop_item){.fn = on_logged, .arg = in};
        in->deadline_ms = tg_clock_mono_ms() + w->gateway->config->limits.ack_timeout_ms;
        code = tg_log_submit(w->gateway->log, &in->batch, on_commit, in, &err);
    }
    if (code != TG_OK) finish(w, in, code, &err);
}

static const char *admission(void *worker)
{
    const struct tg_ingest_worker *w = worker;
    const struct tg_gateway *g = w->gateway;
    if (atomic_load_explicit(&g->draining, memory_order_relaxed))
        return "the gateway is shutting down";
    const uint64_t limit = g->config->limits.max_memory_bytes;
    /* An eighth stays for what is under way, so that it can end well. */
    if (limit && tg_mem_used() > limit - limit / 8)
        return "memory is near its limit (limits.memory)";
    return NULL;
}

/* --- life --- */

enum tg_code tg_ingest_worker_init(struct tg_ingest_worker *w, struct tg_gateway *g, unsigned index,
                                   const char *address, struct tg_err *err)
{
    const struct tg_limits_config *l = &g->config->limits;
    w->gateway = g;
    w->index = index;
    tg_planner_init(&w->planner, g->rules, g->table, g->preparers, g->n_deliveries, index);
    w->planner.merges = &g->merges;
    w->wake_item = (struct tg_loop_item){.fn = on_cursor_moved, .arg = w};
    w->loop = tg_loop_new();
    if (!w->loop) return tg_fail(err, TG_ERR_NOMEM, "cannot make a worker's event loop");
    tg_ack_board_on_move(g->acks, index, wake, w);
    w->deadline_timer = tg_timer_new(w->loop, on_deadline, w);
    const struct tg_receiver_config rc = {
        .table = g->table,
        .max_decompressed_bytes = l->max_decompressed_bytes,
        .origins = g->config->http_origins,
        .sink = on_ingest,
        .admission = admission,
        .arg = w,
    };
    w->receiver = tg_receiver_new(&rc);
    if (!w->receiver || !w->deadline_timer)
        return tg_fail(err, TG_ERR_NOMEM, "out of memory for a worker");
    const unsigned n = g->n_workers;
    const struct tg_http_server_config sc = {
        .address = address,
        .max_header_bytes = l->max_header_bytes,
        .max_body_bytes = l->max_body_bytes,
        .max_inflight_body_bytes = l->max_inflight_body_bytes / n > l->max_body_bytes
                                       ? l->max_inflight_body_bytes / n
                                       : l->max_body_bytes, /* one largest body must fit */
        .max_connections = (l->max_connections + n - 1) / n,
        .header_timeout_ms = l->header_timeout_ms,
        .body_timeout_ms = l->request_timeout_ms,
        .idle_timeout_ms = l->idle_timeout_ms,
        .reuse_port = n > 1,
        .refusal = tg_receiver_refusal,
    };
    return tg_http_server_new(w->loop, &sc, tg_receiver_on_request, w->receiver, &w->server, err);
}

static void *worker_main(void *arg)
{
    struct tg_ingest_worker *w = arg;
    char name[16];
    (void)snprintf(name, sizeof(name), "worker-%u", w->index);
    (void)pthread_setname_np(pthread_self(), name);
    tg_loop_run(w->loop);
    return NULL;
}

enum tg_code tg_ingest_worker_start(struct tg_ingest_worker *w, struct tg_err *err)
{
    const int rc = pthread_create(&w->thread, NULL, worker_main, w);
    if (rc != 0) return tg_fail_errno(err, rc, "cannot start a worker thread");
    w->has_thread = true;
    return TG_OK;
}

static void on_stop_deadline(void *worker)
{
    struct tg_ingest_worker *w = worker;
    /* What the log has accepted is answered by its thread before it ends, so only waits for cursors
     * are cut short. */
    while (w->wait_head) end_wait(w, w->wait_head);
    if (w->n_open > 0) tg_timer_start(w->stop_timer, 100);
}

static void on_stop(void *worker)
{
    struct tg_ingest_worker *w = worker;
    w->stopping = true;
    tg_http_server_stop(w->server);
    if (w->n_open == 0) {
        tg_loop_stop(w->loop);
        return;
    }
    w->stop_timer = tg_timer_new(w->loop, on_stop_deadline, w);
    const uint64_t now_ms = tg_clock_mono_ms();
    if (w->stop_timer)
        tg_timer_start(w->stop_timer,
                       w->stop_deadline_ms > now_ms ? w->stop_deadline_ms - now_ms : 0);
}

void tg_ingest_worker_ask_stop(struct tg_ingest_worker *w, uint64_t deadline_ms)
{
    w->stop_deadline_ms = deadline_ms;
    w->stop_item = (struct tg_loop_item){.fn = on_stop, .arg = w};
    tg_loop_post_item(w->loop, &w->stop_item);
}

void tg_ingest_worker_join(struct tg_ingest_worker *w)
{
    if (w->has_thread) (void)pthread_join(w->thread, NULL);
    w->has_thread = false;
}

void tg_ingest_worker_deinit(struct tg_ingest_worker *w)
{
    if (!w->gateway) return;
    if (w->server) tg_http_server_free(w->server);
    tg_receiver_free(w->receiver);
    tg_timer_free(w->deadline_timer);
    tg_timer_free(w->stop_timer);
    tg_loop_free(w->loop);
    tg_planner_deinit(&w->planner);
}
