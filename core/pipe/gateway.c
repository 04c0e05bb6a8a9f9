#include "core/pipe/gateway.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/pipe/gateway_impl.h"

enum { NOT_READY_MS = 15000 }; /* after a commit that failed */

/* --- metrics --- */

static uint64_t read_series(void *g)
{
    return tg_table_stats(((struct tg_gateway *)g)->table).n_series;
}
static uint64_t read_held(void *g)
{
    return tg_table_stats(((struct tg_gateway *)g)->table).n_held;
}
static uint64_t read_raw_keys(void *g)
{
    return tg_table_stats(((struct tg_gateway *)g)->table).n_raw_keys;
}
static uint64_t read_created(void *g)
{
    return tg_table_stats(((struct tg_gateway *)g)->table).n_created;
}
static uint64_t read_evicted(void *g)
{
    return tg_table_stats(((struct tg_gateway *)g)->table).n_evicted;
}
static uint64_t read_refused(void *g)
{
    return tg_table_stats(((struct tg_gateway *)g)->table).n_refused;
}
static uint64_t read_log_bytes(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).bytes;
}
static uint64_t read_log_points(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).end_point_no;
}
static uint64_t read_log_segments(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).n_segments;
}
static uint64_t read_log_queued(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).n_queued_points;
}
static uint64_t read_log_commits(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).n_commits;
}
static uint64_t read_log_syncs(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).n_syncs;
}
static uint64_t read_log_sync_failures(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).n_sync_failures;
}
static uint64_t read_log_refused(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).n_refused;
}
static uint64_t read_log_full(void *g)
{
    const struct tg_log_stats s = tg_log_stats(((struct tg_gateway *)g)->log);
    return s.full || s.failed_ms;
}
static uint64_t read_log_damaged(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).n_damaged_records;
}
static uint64_t read_log_replaced(void *g)
{
    return tg_log_stats(((struct tg_gateway *)g)->log).n_replaced;
}
static uint64_t read_generation(void *g)
{
    return tg_rules_generation(((struct tg_gateway *)g)->rules);
}
static uint64_t read_decisions(void *g)
{
    return tg_rules_stats(((struct tg_gateway *)g)->rules).n_decisions;
}
static uint64_t read_failed(void *g)
{
    return tg_table_stats(((struct tg_gateway *)g)->table).n_failed;
}
static uint64_t read_rule_errors(void *g)
{
    return tg_rules_stats(((struct tg_gateway *)g)->rules).n_errors;
}
static uint64_t read_breaker(void *g)
{
    return tg_rules_stats(((struct tg_gateway *)g)->rules).is_breaker_open;
}
static uint64_t read_not_run(void *g)
{
    return tg_rules_stats(((struct tg_gateway *)g)->rules).n_not_run;
}
/* Of the rules in force: what an older generation merged may be merged no more. */
static uint64_t n_merged(const struct tg_gateway *g, unsigned space)
{
    return tg_forms_n_others(tg_table_forms(g->table), space, tg_rules_generation(g->rules));
}
static uint64_t read_merged(void *g)
{
    return n_merged(g, TG_FORMS_MAPPED);
}
static uint64_t read_overruns(void *g)
{
    return tg_rules_stats(((struct tg_gateway *)g)->rules).n_budget_overruns;
}
static uint64_t read_reloads(void *g)
{
    return tg_rules_stats(((struct tg_gateway *)g)->rules).n_reloads;
}
static uint64_t read_reload_failures(void *g)
{
    return tg_rules_stats(((struct tg_gateway *)g)->rules).n_reload_failures;
}
/* Metrics are there before the desk is, and after it. */
static struct tg_query_desk_stats desk_stats(const struct tg_gateway *g)
{
    return g->queries ? tg_query_desk_stats(g->queries) : (struct tg_query_desk_stats){0};
}
static uint64_t read_queries_running(void *g)
{
    return desk_stats(g).n_running;
}
static uint64_t read_queries_waiting(void *g)
{
    return desk_stats(g).n_waiting;
}
static uint64_t read_queries_refused(void *g)
{
    return desk_stats(g).n_refused;
}
static uint64_t read_memory(void *g)
{
    (void)g;
    return tg_mem_used();
}
static uint64_t read_waiting(void *delivery)
{
    struct tg_delivery_loop *d = delivery;
    const struct tg_cursor_state s = tg_log_cursor_get(d->cursor);
    return tg_log_stats(d->gateway->log).end_point_no - s.point_no;
}
static uint64_t read_lag_ms(void *delivery)
{
    return (uint64_t)tg_delivery_loop_lag_ms(delivery);
}
static uint64_t read_healthy(void *delivery)
{
    return tg_trouble_is_healthy(&((struct tg_delivery_loop *)delivery)->trouble);
}

static uint64_t read_backend_merged(void *delivery)
{
    const struct tg_delivery_loop *d = delivery;
    return n_merged(d->gateway, d->index);
}

static uint64_t read_dead_letters_full(void *delivery)
{
    return tg_letters_is_full(&((struct tg_delivery_loop *)delivery)->letters);
}

static void register_metrics(struct tg_gateway *g)
{
    static const struct {
        const char *name, *help;
        uint64_t (*read)(void *);
        enum tg_metric_type type;
    } all[] = {
        {"tidegate_series", "Live series.", read_series, TG_METRIC_GAUGE},
        {"tidegate_series_idle_held",
         "Series without points for limits.idle_series that a backend which is behind still needs.",
         read_held, TG_METRIC_GAUGE},
        {"tidegate_raw_keys", "Raw keys remembered.", read_raw_keys, TG_METRIC_GAUGE},
        {"tidegate_series_created_total", "Series first seen.", read_created, TG_METRIC_COUNTER},
        {"tidegate_series_evicted_total", "Idle series that left.", read_evicted,
         TG_METRIC_COUNTER},
        {"tidegate_series_refused_total", "New series refused at limits.series.", read_refused,
         TG_METRIC_COUNTER},
        {"tidegate_log_bytes", "Bytes of all segments.", read_log_bytes, TG_METRIC_GAUGE},
        {"tidegate_log_segments", "Segments kept.", read_log_segments, TG_METRIC_GAUGE},
        {"tidegate_log_points_total", "Points appended since the log began.", read_log_points,
         TG_METRIC_COUNTER},
        {"tidegate_log_queued_points", "Points waiting for the log thread.", read_log_queued,
         TG_METRIC_GAUGE},
        {"tidegate_log_commits_total", "Group commits.", read_log_commits, TG_METRIC_COUNTER},
        {"tidegate_log_syncs_total", "fdatasync calls on segments.", read_log_syncs,
         TG_METRIC_COUNTER},
        {"tidegate_log_sync_failures_total", "fdatasync calls that failed.", read_log_sync_failures,
         TG_METRIC_COUNTER},
        {"tidegate_log_refused_total", "Batches refused because queue or log were full.",
         read_log_refused, TG_METRIC_COUNTER},
        {"tidegate_log_full", "1 while the log refuses new data.", read_log_full, TG_METRIC_GAUGE},
        {"tidegate_log_damaged_records_total", "Damaged records met in the log's files.",
         read_log_damaged, TG_METRIC_COUNTER},
        {"tidegate_log_replaced_segments_total",
         "Segments in use that were removed, replaced or cut short by somebody else.",
         read_log_replaced, TG_METRIC_COUNTER},
        {"tidegate_rules_generation", "Rule generation in force.", read_generation,
         TG_METRIC_GAUGE},
        {"tidegate_rules_decisions_total", "Series decided.", read_decisions, TG_METRIC_COUNTER},
        {"tidegate_rules_errors_total", "Decisions in which a rule failed.", read_rule_errors,
         TG_METRIC_COUNTER},
        {"tidegate_series_failed", "Live series whose rules failed at their last decision.",
         read_failed, TG_METRIC_GAUGE},
        {"tidegate_rules_breaker_open",
         "1 while the rules are not run because they overran their budgets too often.",
         read_breaker, TG_METRIC_GAUGE},
        {"tidegate_rules_not_run_total", "Decisions made without the rules, by an open breaker.",
         read_not_run, TG_METRIC_COUNTER},
        {"tidegate_rules_budget_overruns_total", "Decisions in which a rule overran its budget.",
         read_overruns, TG_METRIC_COUNTER},
        {"tidegate_rules_reloads_total", "Reloads that put new rules in force.", read_reloads,
         TG_METRIC_COUNTER},
        {"tidegate_rules_reload_failures_total", "Reloads that left the old rules in force.",
         read_reload_failures, TG_METRIC_COUNTER},
        {"tidegate_queries_running", "Queries and explanations that run now.", read_queries_running,
         TG_METRIC_GAUGE},
        {"tidegate_queries_waiting", "Queries and explanations that wait for a thread.",
         read_queries_waiting, TG_METRIC_GAUGE},
        {"tidegate_queries_refused_total",
         "Queries and explanations refused because too many waited.", read_queries_refused,
         TG_METRIC_COUNTER},
        {"tidegate_series_merged",
         "Live series that the rules make one with another that came first.", read_merged,
         TG_METRIC_GAUGE},
        {"tidegate_memory_bytes", "Heap held by the gateway.", read_memory, TG_METRIC_GAUGE},
    };
    tg_metric_register(&g->dropped, TG_METRIC_COUNTER, "tidegate_points_dropped_total",
                       "Points dropped by rule at ingest.", NULL);
    tg_metric_register(
        &g->ack_timeouts, TG_METRIC_COUNTER, "tidegate_ack_timeouts_total",
        "Requests told to come back because a cursor they wait for did not confirm them in time, "
        "or was moved forward.",
        NULL);
    tg_metric_register(&g->undecided, TG_METRIC_COUNTER, "tidegate_undecided_requests_total",
                       "Requests told to come back because the rules took too long for their new "
                       "series.",
                       NULL);
    _Static_assert(sizeof(all) / sizeof(*all) <= sizeof(g->gauges) / sizeof(*g->gauges),
                   "room for every gauge");
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        tg_metric_register_fn(&g->gauges[g->n_gauges++], all[i].type, all[i].name, all[i].help,
                              all[i].read, g, NULL);
    for (unsigned i = 0; i < g->n_deliveries; i++) {
        struct tg_delivery_loop *d = &g->deliveries[i];
        tg_metric_register_fn(&d->metrics[3], TG_METRIC_GAUGE, "tidegate_backend_points_waiting",
                              "Points in the log behind the backend's cursor.", read_waiting, d,
                              "backend=\"%s\"", d->config->name);
        tg_metric_register_seconds(
            &d->metrics[6], TG_METRIC_GAUGE, "tidegate_backend_lag_seconds",
            "Age of the oldest point behind the backend's cursor, by when it was accepted; 0 when "
            "none waits.",
            read_lag_ms, d, "backend=\"%s\"", d->config->name);
        tg_metric_register_fn(&d->metrics[4], TG_METRIC_GAUGE, "tidegate_backend_healthy",
                              "1 when the last write or health check went well.", read_healthy, d,
                              "backend=\"%s\"", d->config->name);
        tg_metric_register_fn(
            &d->metrics[5], TG_METRIC_GAUGE, "tidegate_backend_dead_letters_full",
            "1 while the backend stands still because its dead letters are at their limit.",
            read_dead_letters_full, d, "backend=\"%s\"", d->config->name);
        tg_metric_register_fn(
            &d->merged, TG_METRIC_GAUGE, "tidegate_backend_series_merged",
            "Live series that the backend's naming would make one with another that came first.",
            read_backend_merged, d, "backend=\"%s\"", d->config->name);
    }
    tg_receive_metrics_register();
}

static void unregister_metrics(struct tg_gateway *g)
{
    for (unsigned i = 0; i < g->n_gauges; i++) tg_metric_unregister(&g->gauges[i]);
    tg_metric_unregister(&g->dropped);
    tg_metric_unregister(&g->ack_timeouts);
    tg_metric_unregister(&g->undecided);
    for (unsigned i = 0; i < g->n_deliveries; i++)
        for (size_t m = 0; m < sizeof(g->deliveries[i].metrics) / sizeof(*g->deliveries[i].metrics);
             m++)
            tg_metric_unregister(&g->deliveries[i].metrics[m]);
    for (unsigned i = 0; i < g->n_deliveries; i++) tg_metric_unregister(&g->deliveries[i].merged);
    tg_receive_metrics_unregister();
}

/* --- sweeping --- */

/* Series that are idle, but that readers at the log's end hold, because their points are in the
 * segment in use: too many, and it is closed early. They come into its dictionary again with their
 * next point. Those that a backend holds which is behind are not helped by it, so it happens at
 * most once in idle_series. */
static void let_go_of_idle(struct tg_gateway *g)
{
    enum { PART = 8 };
    const struct tg_limits_config *l = &g->config->limits;
    const bool many = tg_table_stats(g->table).n_held > l->max_series / PART;
    const uint64_t age_ms = (uint64_t)l->series_idle_s * 1000;
    tg_log_let_go(g->log, !many ? 0 : age_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)age_ms);
}

/* Sweeping has a thread of its own, as a sweep over a million series takes tens of milliseconds and
 * would delay everything else on a loop. */
static void *sweeper_main(void *arg)
{
    struct tg_gateway *g = arg;
    (void)pthread_setname_np(pthread_self(), "sweeper");
    (void)pthread_mutex_lock(&g->sweep_lock);
    while (!g->sweep_stop) {
        struct timespec at;
        (void)clock_gettime(CLOCK_MONOTONIC, &at);
        at.tv_sec += 1;
        (void)pthread_cond_timedwait(&g->sweep_wake, &g->sweep_lock, &at);
        (void)pthread_mutex_unlock(&g->sweep_lock);
        (void)tg_table_sweep(g->table, tg_clock_coarse_s());
        let_go_of_idle(g);
        tg_help_keeper_tick(&g->help, tg_clock_mono_ms());
        (void)pthread_mutex_lock(&g->sweep_lock);
    }
    (void)pthread_mutex_unlock(&g->sweep_lock);
    return NULL;
}

static enum tg_code start_sweeper(struct tg_gateway *g, struct tg_err *err)
{
    const int rc = pthread_create(&g->sweeper, NULL, sweeper_main, g);
    if (rc != 0) return tg_fail_errno(err, rc, "cannot start the sweeper thread");
    g->has_sweeper = true;
    return TG_OK;
}

static void stop_sweeper(struct tg_gateway *g)
{
    if (!g->has_sweeper) return;
    (void)pthread_mutex_lock(&g->sweep_lock);
    g->sweep_stop = true;
    (void)pthread_cond_signal(&g->sweep_wake);
    (void)pthread_mutex_unlock(&g->sweep_lock);
    (void)pthread_join(g->sweeper, NULL);
    g->has_sweeper = false;
}

/* --- start and stop --- */

static enum tg_code open_rules(struct tg_gateway *g, struct tg_err *err)
{
    struct tg_rules_config rc = g->config->rules;
    rc.n_slots = g->n_workers + g->n_deliveries + 2; /* the last are the admin's, the reload's */
    TG_TRY(tg_rules_new(&rc, &g->rules, err));
    tg_merges_init(&g->merges, g->table, g->config->rules.backends,
                   g->config->rules.tags_path != NULL, g->config->merges_are_dead_letters);
    tg_planner_init(&g->admin_planner, g->rules, g->table, g->preparers, g->n_deliveries,
                    g->n_workers + g->n_deliveries);
    g->admin_planner.merges = &g->merges;
    tg_planner_init(&g->reload_decider, g->rules, g->table, g->preparers, g->n_deliveries,
                    g->n_workers + g->n_deliveries + 1);
    g->reload_decider.merges = &g->merges;
    return TG_OK;
}

static enum tg_code open_log(struct tg_gateway *g, struct tg_err *err)
{
    struct tg_log_config lc = g->config->log;
    lc.table = g->table;
    lc.targets = g->config->rules.backends;
    lc.n_targets = g->config->rules.n_backends;
    TG_TRY(tg_log_open(&lc, &g->log, err));
    for (unsigned i = 0; i < g->n_deliveries; i++)
        tg_log_on_append(g->log, tg_delivery_loop_wake, &g->deliveries[i]);
    return TG_OK;
}

/* Two gateways that append to one file would write over each other's lines. */
static enum tg_code lock_dead_letters(struct tg_gateway *g, struct tg_err *err)
{
    const struct tg_fs *fs = g->config->log.fs ? g->config->log.fs : tg_fs_real();
    TG_TRY(tg_fs_mkdirs(fs, g->config->dead_letter_dir, err));
    return tg_folder_lock_take(&g->dead_letters_lock, fs, g->config->dead_letter_dir, NULL,
                               "stop it, or set another dead_letters.dir", err);
}

/* With SO_REUSEPORT a second gateway on the same port would silently get half of the requests: so
 * the first bind is made without it, as a test, and tells the port to share. */
static enum tg_code settle_address(const struct tg_gateway *g, char *address, size_t cap,
                                   struct tg_err *err)
{
    const char *wanted = g->config->http_address;
    struct tg_loop *loop = tg_loop_new();
    if (!loop) return tg_fail(err, TG_ERR_NOMEM, "cannot make an event loop");
    const struct tg_http_server_config sc = {.address = wanted};
    struct tg_http_server *probe = NULL;
    const enum tg_code code =
        tg_http_server_new(loop, &sc, tg_receiver_on_request, NULL, &probe, err);
    if (code == TG_OK) {
        const char *colon = strrchr(wanted, ':');
        (void)snprintf(address, cap, "%.*s:%u", (int)(colon ? colon - wanted : 0), wanted,
                       tg_http_server_port(probe));
        tg_http_server_free(probe);
    }
    tg_loop_free(loop);
    return code;
}

static enum tg_code start_workers(struct tg_gateway *g, struct tg_err *err)
{
    char address[256];
    TG_TRY(settle_address(g, address, sizeof(address), err));
    for (unsigned i = 0; i < g->n_workers; i++)
        TG_TRY(tg_ingest_worker_init(&g->workers[i], g, i, address, err));
    for (unsigned i = 0; i < g->n_workers; i++) TG_TRY(tg_ingest_worker_start(&g->workers[i], err));
    return TG_OK;
}

static enum tg_code start_all(struct tg_gateway *g, struct tg_err *err)
{
    const struct tg_limits_config *l = &g->config->limits;
    const struct tg_table_config tc = {
        .max_series = l->max_series,
        .max_raw_keys = l->max_raw_keys,
        .idle_s = l->series_idle_s,
        .limits = l->series_limits,
    };
    g->table = tg_table_new(&tc);
    if (!g->table) return tg_fail(err, TG_ERR_NOMEM, "out of memory for the series table");
    TG_TRY(open_rules(g, err));
    TG_TRY(open_log(g, err));
    tg_help_keeper_open(&g->help, g->table, g->config->log.fs, g->config->log.dir);
    TG_TRY(lock_dead_letters(g, err));
    for (unsigned i = 0; i < g->n_deliveries; i++)
        TG_TRY(tg_delivery_loop_init(&g->deliveries[i], g, i, err));
    tg_log_cursors_release(g->log); /* of backends that are configured no more */
    register_metrics(g);
    TG_TRY(tg_log_start(g->log, err));
    TG_TRY(start_sweeper(g, err));
    TG_TRY(tg_reloader_new(&g->reload_decider, &g->reloader, err));
    TG_TRY(tg_query_desk_new(&g->queries, err));
    for (unsigned i = 0; i < g->n_deliveries; i++)
        TG_TRY(tg_delivery_loop_start(&g->deliveries[i], err));
    return start_workers(g, err);
}

enum tg_code tg_gateway_start(const struct tg_config *config, struct tg_gateway **out,
                              struct tg_err *err)
{
    *out = NULL;
    tg_mem_set_limit(config->limits.max_memory_bytes);
    struct tg_gateway *g = tg_calloc(1, sizeof(*g));
    if (!g) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&g->sweep_wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&g->sweep_lock, NULL);
    g->config = config;
    g->start_ns = tg_clock_wall_ns();
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    g->n_workers = config->n_workers ? config->n_workers : cores > 0 ? (unsigned)cores : 1;
    g->n_deliveries = config->n_backends;
    g->workers = tg_calloc(g->n_workers, sizeof(*g->workers));
    g->deliveries = tg_calloc(g->n_deliveries, sizeof(*g->deliveries));
    g->acks = tg_ack_board_new(g->n_workers, g->n_deliveries);
    enum tg_code code = g->workers && g->deliveries && g->acks
                            ? TG_OK
                            : tg_fail(err, TG_ERR_NOMEM, "out of memory");
    if (code == TG_OK) code = start_all(g, err);
    if (code != TG_OK) {
        tg_gateway_stop_within(g, 0, NULL); /* whoever waits for the message need not wait more */
        return code;
    }
    *out = g;
    return TG_OK;
}

static void note_waiting(const struct tg_delivery_loop *d)
{
    if (!d->cursor) return;
    const uint64_t waiting =
        tg_log_stats(d->gateway->log).end_point_no - tg_log_cursor_get(d->cursor).point_no;
    if (waiting)
        tg_info("delivery", "%s: %" PRIu64 " points wait in the log for the next start",
                d->config->name, waiting);
}

static void set_stage(struct tg_stop_progress *p, const char *what, const char *name)
{
    if (!p) return;
    atomic_store(&p->name, name);
    atomic_store(&p->what, what);
}

/* Ends all threads but the log's. */
static void stop_loops(struct tg_gateway *g, uint64_t deadline_ms, struct tg_stop_progress *p)
{
    for (unsigned i = 0; g->workers && i < g->n_workers; i++)
        if (g->workers[i].has_thread) tg_ingest_worker_ask_stop(&g->workers[i], deadline_ms);
    for (unsigned i = 0; g->workers && i < g->n_workers; i++) {
        set_stage(p, "an ingest worker (a request in a rule, or in the log)", NULL);
        tg_ingest_worker_join(&g->workers[i]);
    }
    for (unsigned i = 0; g->deliveries && i < g->n_deliveries; i++)
        if (g->deliveries[i].has_thread) tg_delivery_loop_ask_stop(&g->deliveries[i], deadline_ms);
    for (unsigned i = 0; g->deliveries && i < g->n_deliveries; i++) {
        set_stage(p, "the delivery to backend", g->config->backends[i].name);
        tg_delivery_loop_join(&g->deliveries[i]);
    }
}

void tg_gateway_stop_within(struct tg_gateway *g, uint32_t drain_ms, struct tg_stop_progress *p)
{
    if (!g) return;
    const uint64_t deadline_ms = tg_clock_mono_ms() + drain_ms;
    atomic_store(&g->draining, true);
    tg_query_desk_stop(g->queries);
    if (g->log) tg_log_end_searches(g->log); /* of rewinds */
    set_stage(p, "a reload of the rules", NULL);
    tg_reloader_stop(g->reloader);
    if (g->rules) tg_rules_stop_at(g->rules, deadline_ms * 1000000);
    stop_loops(g, deadline_ms, p);
    set_stage(p, "a query", NULL);
    tg_query_desk_free(g->queries);
    g->queries = NULL;
    set_stage(p, "the log (its disk)", NULL);
    tg_log_stop(g->log); /* it posts to the loops that go now */
    for (unsigned i = 0; g->deliveries && i < g->n_deliveries; i++) note_waiting(&g->deliveries[i]);
    stop_sweeper(g);
    tg_help_keeper_close(&g->help);
    unregister_metrics(g);
    for (unsigned i = 0; g->workers && i < g->n_workers; i++)
        tg_ingest_worker_deinit(&g->workers[i]);
    for (unsigned i = 0; g->deliveries && i < g->n_deliveries; i++) {
        set_stage(p, "the closing of backend", g->config->backends[i].name);
        tg_delivery_loop_deinit(&g->deliveries[i]);
    }
    set_stage(p, "the log (its disk)", NULL);
    tg_log_close(g->log);
    tg_folder_lock_release(&g->dead_letters_lock);
    if (p) atomic_store(&p->is_closed, true);
    tg_rules_free(g->rules);
    tg_planner_deinit(&g->admin_planner);
    tg_planner_deinit(&g->reload_decider);
    tg_merges_deinit(&g->merges);
    tg_table_free(g->table);
    (void)pthread_cond_destroy(&g->sweep_wake);
    (void)pthread_mutex_destroy(&g->sweep_lock);
    tg_ack_board_free(g->acks);
    tg_free(g->workers);
    tg_free(g->deliveries);
    tg_free(g);
}

void tg_gateway_stop(struct tg_gateway *g)
{
    if (g) tg_gateway_stop_within(g, g->config->limits.drain_timeout_ms, NULL);
}

/* --- asked from outside --- */

uint16_t tg_gateway_http_port(const struct tg_gateway *g)
{
    return tg_http_server_port(g->workers[0].server);
}

const char *tg_gateway_not_ready(const struct tg_gateway *g, char *buf, size_t cap)
{
    const char *why = NULL;
    const uint64_t limit = g->config->limits.max_memory_bytes;
    const struct tg_log_stats log = tg_log_stats(g->log);
    if (atomic_load(&g->draining))
        why = "shutting down";
    else if (log.full)
        why =
            "the log is full: a backend is behind (see /api/status) or log.max_bytes is too small";
    else if (log.failed_ms && log.failed_ms < NOT_READY_MS) /* then a request must try again */
        why = "the log could not be written: is the disk full? See the gateway's messages";
    else if (limit && tg_mem_used() > limit - limit / 8)
        why = "memory is near limits.memory";
    if (why) (void)snprintf(buf, cap, "%s", why);
    return why ? buf : NULL;
}

bool tg_gateway_rules_are_broken(const struct tg_gateway *g)
{
    return tg_rules_stats(g->rules).is_breaker_open;
}

const char *tg_gateway_stuck(const struct tg_gateway *g, char *buf, size_t cap)
{
    char names[96] = "";
    size_t len = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < g->n_deliveries; i++) {
        const struct tg_delivery_loop *d = &g->deliveries[i];
        if (tg_delivery_loop_state(d) != TG_DELIVERY_STALLED && tg_trouble_is_healthy(&d->trouble))
            continue;
        const int wrote =
            snprintf(names + len, sizeof(names) - len, "%s%s", n ? ", " : "", d->config->name);
        if (wrote > 0 && (size_t)wrote < sizeof(names) - len)
            len += (size_t)wrote;
        else
            names[len] = '\0'; /* those that fit */
        n++;
    }
    if (cap) buf[0] = '\0';
    if (n)
        (void)snprintf(buf, cap, ", but %u of %u backends %s nothing now: %s", n, g->n_deliveries,
                       n == 1 ? "takes" : "take", names);
    return buf;
}

enum tg_code tg_gateway_reload(struct tg_gateway *g, unsigned flags, tg_on_reload on_reload,
                               void *arg, struct tg_err *err)
{
    return tg_reloader_submit(g->reloader, flags, on_reload, arg, err);
}

const char *tg_delivery_state_name(enum tg_delivery_state s)
{
    switch (s) {
    case TG_DELIVERY_IDLE: return "idle";
    case TG_DELIVERY_WRITING: return "writing";
    case TG_DELIVERY_BACKOFF: return "backoff";
    case TG_DELIVERY_STALLED: break;
    }
    return "stalled";
}

void tg_gateway_status(const struct tg_gateway *g, struct tg_gateway_status *out)
{
    memset(out, 0, sizeof(*out));
    struct tg_cursor_state cursors[TG_MAX_BACKENDS] = {0};
    /* Cursors first, the log's end after: so no cursor can be ahead of the end. */
    for (unsigned i = 0; i < g->n_deliveries; i++)
        cursors[i] = tg_log_cursor_get(g->deliveries[i].cursor);
    out->start_ns = g->start_ns;
    out->generation = tg_rules_generation(g->rules);
    out->log = tg_log_stats(g->log);
    out->log_id = tg_log_id(g->log);
    out->table = tg_table_stats(g->table);
    out->rules = tg_rules_stats(g->rules);
    out->memory_bytes = tg_mem_used();
    out->n_merged = n_merged(g, TG_FORMS_MAPPED);
    out->n_merge_examples = tg_merges_examples((struct tg_merges *)(uintptr_t)&g->merges,
                                               out->generation, out->merges, out->n_merge_series);
    out->n_logged = out->log.end_point_no;
    out->n_dropped = tg_metric_get(&g->dropped);
    out->n_received = out->n_logged + out->n_dropped;
    for (int i = 0; i < TG_PROTOCOLS; i++) {
        out->n_accepted += tg_metric_get(&tg_receive_metrics.points[i]);
        out->n_rejected += tg_metric_get(&tg_receive_metrics.rejected[i]);
        out->n_requests += tg_metric_get(&tg_receive_metrics.requests[i]);
    }
    out->n_waiting_acks = tg_ack_board_n_waiting(g->acks);
    const struct tg_query_desk_stats queries = desk_stats(g);
    out->n_queries_running = queries.n_running;
    out->n_queries_waiting = queries.n_waiting;
    out->n_queries_refused = queries.n_refused;
    out->n_undecided = tg_metric_get(&g->undecided);
    out->n_backends = g->n_deliveries;
    for (unsigned i = 0; i < g->n_deliveries; i++) {
        const struct tg_cursor_state *c = &cursors[i];
        struct tg_backend_status *b = &out->backends[i];
        tg_delivery_loop_status(&g->deliveries[i], b);
        b->cursor_pos = c->pos;
        b->epoch = c->epoch;
        b->n_merged = n_merged(g, i);
        const int64_t first =
            (int64_t)c->first_point_no; /* below zero: rewound further than it ever was */
        b->ledger = (struct tg_ledger){
            .received = out->n_received,
            .rewound = first < 0 ? (uint64_t)-first : 0,
            .before = first > 0 ? (uint64_t)first : 0,
            .delivered = c->n_delivered,
            .waiting = out->n_logged - c->point_no,
            .inexpressible = c->n_inexpressible,
            .dead_lettered = c->n_dead,
            .dropped = out->n_dropped,
            .elsewhere = c->n_elsewhere,
            .lost = c->n_lost,
            .skipped = c->n_skipped,
        };
    }
}

enum tg_code tg_gateway_rewind(struct tg_gateway *g, unsigned backend,
                               const struct tg_rewind *where, tg_on_rewind on_rewind, void *arg,
                               struct tg_err *err)
{
    if (backend >= g->n_deliveries)
        return tg_fail(err, TG_ERR_NOT_FOUND, "no backend number %u", backend);
    return tg_rewinds_ask(&g->deliveries[backend].rewinds, where, on_rewind, arg, err);
}

enum tg_code tg_gateway_query(struct tg_gateway *g, unsigned backend, const struct tg_query *q,
                              tg_on_row on_row, tg_on_query_end on_end, void *arg,
                              struct tg_err *err)
{
    if (backend >= g->n_deliveries)
        return tg_fail(err, TG_ERR_NOT_FOUND, "no backend number %u", backend);
    const struct tg_delivery_loop *d = &g->deliveries[backend];
    if (!d->config->ops->query_range)
        return tg_fail(err, TG_ERR_UNSUPPORTED,
                       "backend %s (%s) cannot be queried through the gateway", d->config->name,
                       d->config->ops->type);
    const struct tg_query_request request = {d->config->ops, d->backend, q, on_row, on_end, arg};
    return tg_query_desk_submit(g->queries, &request, err);
}

enum tg_code tg_gateway_look(struct tg_gateway *g, const struct tg_query_look *look,
                             struct tg_err *err)
{
    return tg_query_desk_look(g->queries, look, err);
}

void tg_gateway_query_cancel(struct tg_gateway *g, struct tg_query_stop *stop,
                             enum tg_query_stop_reason why)
{
    tg_query_desk_cancel(g->queries, stop, why);
}
