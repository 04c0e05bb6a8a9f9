/* internal.h: the parts of a running gateway, as they know each other. Not for other layers.
 *
 * Lock order: none is held while calling into another part. What crosses threads: the atomics
 * below, posts to loops, and the log's queue.
 */
#ifndef TG_PIPE_INTERNAL_H
#define TG_PIPE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/folder_lock.h"
#include "core/pipe/decide.h"
#include "core/pipe/delivery.h"
#include "core/pipe/gateway.h"
#include "core/pipe/help_keeper.h"
#include "core/pipe/merge.h"
#include "core/pipe/query.h"
#include "core/pipe/reload.h"
#include "core/receive/receive.h"

/* --- worker --- */

struct tg_worker {
    struct tg_gateway *gateway;
    unsigned index;
    pthread_t thread;
    bool has_thread;
    struct tg_loop *loop;
    struct tg_http_server *server;
    struct tg_receiver *receiver;
    struct tg_decider decider;

    /* Requests that wait for cursors, oldest (and so nearest deadline) first. */
    struct tg_ingest *wait_head, *wait_tail;
    _Atomic unsigned n_waiting;
    struct tg_timer *deadline_timer;
    struct tg_loop_item wake_item; /* posted by a delivery whose cursor moved */
    _Atomic bool wake_posted;

    unsigned n_open; /* ingests between sink and reply */
    bool stopping;
    struct tg_loop_item stop_item;
    uint64_t stop_deadline_ms;
    struct tg_timer *stop_timer;
};

TG_MUST_CHECK enum tg_code tg_worker_init(struct tg_worker *w, struct tg_gateway *g, unsigned index,
                                          const char *address, struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_worker_start(struct tg_worker *w, struct tg_err *err);
/* Asks the thread to stop listening, answer what is open and end; any thread. */
void tg_worker_ask_stop(struct tg_worker *w, uint64_t deadline_ms);
void tg_worker_join(struct tg_worker *w);
void tg_worker_deinit(struct tg_worker *w); /* zeroed accepted */
/* A cursor moved: look at the waiting requests. Any thread. */
void tg_worker_wake(struct tg_worker *w);

/* --- gateway --- */

struct tg_gateway {
    const struct tg_config *config;
    int64_t start_ns;
    struct tg_table *table;
    struct tg_rules *rules;
    struct tg_reloader *reloader;
    struct tg_query_desk *queries;
    struct tg_log *log;
    struct tg_folder_lock dead_letters_lock;
    struct tg_preparer preparers[TG_MAX_BACKENDS];
    struct tg_merges merges;
    struct tg_worker *workers;
    unsigned n_workers;
    struct tg_delivery_loop *deliveries;
    unsigned n_deliveries;
    struct tg_decider admin_decider, reload_decider;
    struct tg_help_keeper help; /* the sweeper's, once that runs */
    pthread_t sweeper;
    bool has_sweeper;
    pthread_mutex_t sweep_lock; /* with sweep_stop */
    pthread_cond_t sweep_wake;
    bool sweep_stop;
    _Atomic bool draining;
    struct tg_metric dropped;
    struct tg_metric ack_timeouts;
    struct tg_metric undecided;
    struct tg_metric gauges[48];
    unsigned n_gauges;
};

/* Tells all workers with waiting requests that a cursor moved. Any thread. */
void tg_gateway_cursor_moved(struct tg_gateway *g);

#endif
