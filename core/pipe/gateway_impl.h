/* gateway_impl.h: a running gateway, as its parts know it. Not for other layers.
 *
 * Lock order: none is held while calling into another part. What crosses threads: the atomics
 * below, posts to loops, and the log's queue.
 */
#ifndef TG_PIPE_GATEWAY_IMPL_H
#define TG_PIPE_GATEWAY_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/folder_lock.h"
#include "core/pipe/ack_board.h"
#include "core/pipe/delivery_loop.h"
#include "core/pipe/gateway.h"
#include "core/pipe/ingest_worker.h"
#include "core/pipe/help_keeper.h"
#include "core/pipe/merge.h"
#include "core/pipe/query.h"
#include "core/pipe/reload.h"

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
    struct tg_ack_board *acks;
    struct tg_ingest_worker *workers;
    unsigned n_workers;
    struct tg_delivery_loop *deliveries;
    unsigned n_deliveries;
    struct tg_planner admin_planner, reload_decider;
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

#endif
