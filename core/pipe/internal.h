/* internal.h: the parts of a running gateway, as they know each other. Not for other layers.
 *
 * Lock order: none is held while calling into another part. What crosses threads: the atomics
 * below, posts to loops, and the log's queue.
 */
#ifndef TG_PIPE_INTERNAL_H
#define TG_PIPE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/pipe/deadletter.h"
#include "core/pipe/decide.h"
#include "core/pipe/gateway.h"
#include "core/receive/receive.h"

/* --- worker
 * -----------------------------------------------------------------------------------------------------
 */

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

/* --- delivery
 * ---------------------------------------------------------------------------------------------------
 */

struct tg_range {
    uint32_t lo, hi; /* points [lo, hi) of the batch */
};

struct tg_delivery_counts {
    uint64_t delivered, elsewhere, dead, lost;
};

struct tg_delivery_loop {
    struct tg_gateway *gateway;
    unsigned index; /* backend number */
    const struct tg_backend_config *config;
    pthread_t thread;
    bool has_thread;
    struct tg_loop *loop;
    struct tg_backend *backend;
    struct tg_log_cursor *cursor;
    struct tg_log_reader *reader;
    struct tg_dead_letters *dead_letters;
    struct tg_decider decider;

    /* The batch under way: points read from the log since the cursor. `dicts` keep their series
     * alive; the table's guard is entered only while plans are in use, so that a backend that is
     * down holds up no freeing. */
    struct tg_batch batch;
    struct tg_log_dict **dicts;
    uint32_t n_dicts, cap_dicts;
    struct tg_log_read span; /* what the batch covers */
    struct tg_delivery_counts done;
    bool replay;    /* `span` goes by the rules in force: see delivery.c, Routing */
    bool has_batch; /* `span` is under way: not to be read again */
    uint64_t
        first_read_ms; /* when the batch got its first point: linger counts from here; 0 = none */
    bool end_reached;  /* the last read found nothing more */

    /* One attempt: the points of one range that are this backend's. */
    struct tg_range ranges[64]; /* a stack; halving never needs more than one entry a bit */
    unsigned n_ranges;
    struct tg_range range;
    struct tg_delivery delivery;
    struct tg_delivery_point *points;
    uint32_t *origin;     /* index in the batch of each delivery point */
    uint32_t *unprepared; /* indexes in the batch of points whose series the backend cannot take */
    uint32_t n_unprepared;
    uint32_t cap_points;
    uint32_t n_elsewhere;
    uint32_t part;
    struct tg_arena adhoc_arena; /* one attempt's: bytes for series not routed here any more */
    struct tg_buf adhoc_scratch;
    struct adhoc *adhoc; /* by series, a power of two of slots; NULL until needed */
    uint32_t n_adhoc, adhoc_cap;
    size_t adhoc_bytes;
    int ticket;          /* of the guard during a write */
    unsigned n_failures; /* in a row */

    struct tg_timer *timer; /* backoff and linger; which one, `state` says */
    struct tg_timer *tick;  /* health and retention */
    uint64_t next_health_ms, next_retention_ms;
    bool health_pending;

    struct tg_loop_item wake_item;
    _Atomic bool wake_posted;
    struct rewind_request *rewinds; /* asked for while a write was in flight, oldest first */
    bool stopping;
    bool ended;
    uint64_t saved_pos; /* of the cursor's file, as far as this loop asked */
    uint64_t stop_deadline_ms;
    struct tg_loop_item stop_item;

    /* Read by other threads. */
    _Atomic uint64_t confirmed_pos;
    _Atomic unsigned n_waiters; /* requests whose answer waits for this cursor */
    _Atomic bool lingering;     /* waits for a fuller batch: wakes of the log are not needed */
    _Atomic int state;          /* enum tg_delivery_state */
    _Atomic bool healthy;
    _Atomic uint64_t n_writes, n_retries;
    _Atomic uint64_t behind_since_ms; /* monotonic; 0 = at the log's end */
    pthread_mutex_t error_lock;
    char last_error[256];
    struct tg_metric metrics[8];
    struct tg_metric *delivered, *dead, *retries;
};

TG_MUST_CHECK enum tg_code tg_delivery_init(struct tg_delivery_loop *d, struct tg_gateway *g,
                                            unsigned index, struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_delivery_start(struct tg_delivery_loop *d, struct tg_err *err);
void tg_delivery_wake(void *delivery_loop); /* there is more in the log; any thread */
void tg_delivery_ask_stop(struct tg_delivery_loop *d, uint64_t deadline_ms);
void tg_delivery_join(struct tg_delivery_loop *d);
void tg_delivery_deinit(struct tg_delivery_loop *d);
void tg_delivery_status(struct tg_delivery_loop *d,
                        struct tg_backend_status *out); /* without the ledger */
TG_MUST_CHECK enum tg_code tg_delivery_rewind(struct tg_delivery_loop *d, enum tg_rewind_to to,
                                              int64_t value, tg_on_rewind on_rewind, void *arg,
                                              struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_delivery_query(struct tg_delivery_loop *d, const struct tg_query *q,
                                             tg_on_row on_row, tg_on_query_end on_end, void *arg,
                                             struct tg_err *err);

/* --- gateway
 * ----------------------------------------------------------------------------------------------------
 */

struct tg_gateway {
    const struct tg_config *config;
    int64_t start_ns;
    struct tg_table *table;
    struct tg_rules *rules;
    struct tg_log *log;
    struct tg_preparer preparers[TG_MAX_BACKENDS];
    struct tg_worker *workers;
    unsigned n_workers;
    struct tg_delivery_loop *deliveries;
    unsigned n_deliveries;
    struct tg_decider admin_decider;
    pthread_t sweeper;
    bool has_sweeper;
    pthread_mutex_t sweep_lock; /* with sweep_stop */
    pthread_cond_t sweep_wake;
    bool sweep_stop;
    _Atomic bool draining;
    struct tg_metric dropped;
    struct tg_metric ack_timeouts;
    struct tg_metric gauges[24];
    unsigned n_gauges;
};

/* Tells all workers with waiting requests that a cursor moved. Any thread. */
void tg_gateway_cursor_moved(struct tg_gateway *g);

#endif
