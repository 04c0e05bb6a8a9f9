/* delivery_loop.h: one backend's delivery: it reads a span from the log, attempts its ranges one by
 * one, settles what came of each, and moves the cursor.
 *
 *   IDLE --> span filled --> (linger) --> attempt a range --> ... --> cursor moves --> IDLE
 *                                           |        ^
 *                                           v        |  ok: the next range; refused: the same in halves
 *                                           WRITING -+
 *                                           |        ^
 *                                     retry v        |  time is up (capped, jittered, Retry-After)
 *                                           BACKOFF -+
 *
 * STALLED is as BACKOFF, but what is in the way is on our side: dead letters full, log unreadable,
 *   no memory.
 *
 *   span.h           what is under way of the log        trouble.h   what is wrong, and how it is said
 *   write_attempt.h  one range, picked for the backend   letters.h   points that it cannot take
 *   backoff.h        how long a wait is                  rewind.h    the cursor is moved otherwise
 *
 * Invariants (tg_delivery_loop_validate):
 *   - one write at a time, ranges in log order: points of a series arrive in order
 *   - only set_state in delivery_loop.c changes the state; WRITING while a callback is owed
 *   - the cursor stands where the span begins, or ends: when its file could not be written
 *
 * Threading: all of it on the loop's own thread, but for the functions said to be for any thread
 *   and the fields at the end of the struct.
 */
#ifndef TG_PIPE_DELIVERY_LOOP_H
#define TG_PIPE_DELIVERY_LOOP_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/metric.h"
#include "core/pipe/backoff.h"
#include "core/pipe/gateway.h"
#include "core/pipe/letters.h"
#include "core/pipe/planner.h"
#include "core/pipe/rewind.h"
#include "core/pipe/span.h"
#include "core/pipe/trouble.h"
#include "core/pipe/write_attempt.h"

struct tg_gateway;

struct tg_delivery_loop {
    struct tg_gateway *gateway;
    unsigned index; /* backend number */
    const struct tg_backend_config *config;
    pthread_t thread;
    bool has_thread;
    struct tg_loop *loop;
    struct tg_backend *backend;
    struct tg_log_cursor *cursor;
    struct tg_planner planner;

    struct tg_span span;
    struct tg_write_attempt attempt;
    struct tg_backoff backoff;
    struct tg_letters letters;
    struct tg_rewinds rewinds;
    struct tg_trouble trouble;
    /* Most points of a span since one was too large for a write: half of that one, and a little
     * more with each write that goes well; 0 = as many as configured. */
    uint32_t fit_points;

    struct tg_timer *timer; /* backoff and linger; which one, `state` says */
    struct tg_timer *tick;  /* health and retention */
    uint64_t next_health_ms, next_retention_ms;
    bool health_pending;

    struct tg_loop_item wake_item;
    _Atomic bool wake_posted;
    bool stopping;
    bool ended;
    bool gave_up;       /* the write in flight was cancelled: the deadline of the stop is over */
    uint64_t saved_pos; /* of the cursor's file, as far as this loop asked */
    struct tg_timer *stop_timer; /* at the deadline */
    struct tg_loop_item stop_item;

    /* Shared with other threads. */
    _Atomic uint64_t stop_deadline_ms; /* monotonic; UINT64_MAX = no stop was asked for */
    _Atomic bool lingering; /* waits for a fuller span: wakes of the log are not needed */
    _Atomic int state;      /* enum tg_delivery_state */
    _Atomic uint64_t n_writes, n_retries;
    _Atomic int64_t oldest_ns; /* when the oldest waiting point was accepted, wall clock; 0 = none
                                  waits */
    struct tg_metric metrics[8];
    struct tg_metric merged;
    struct tg_metric *delivered, *dead, *retries;
    struct tg_metric lost;
    struct tg_metric inexpressible_metrics[TG_INEXPRESSIBLE_KINDS];
    struct tg_metric left_out_metrics[TG_LEFT_OUT_PARTS];
};

TG_MUST_CHECK enum tg_code tg_delivery_loop_init(struct tg_delivery_loop *d, struct tg_gateway *g,
                                                 unsigned index, struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_delivery_loop_start(struct tg_delivery_loop *d, struct tg_err *err);
void tg_delivery_loop_wake(void *delivery_loop); /* there is more in the log; any thread */
/* The thread ends when all is delivered, or at the deadline (monotonic). Any thread. */
void tg_delivery_loop_ask_stop(struct tg_delivery_loop *d, uint64_t deadline_ms);
void tg_delivery_loop_join(struct tg_delivery_loop *d);
void tg_delivery_loop_deinit(struct tg_delivery_loop *d); /* zeroed accepted */

/* Any thread. */
enum tg_delivery_state tg_delivery_loop_state(const struct tg_delivery_loop *d);
/* Age of the oldest waiting point, by when it was accepted; 0 = none waits. Any thread. */
int64_t tg_delivery_loop_lag_ms(const struct tg_delivery_loop *d);
/* Without the ledger; any thread. */
void tg_delivery_loop_status(struct tg_delivery_loop *d, struct tg_backend_status *out);

/* Whether the invariants hold. On the loop's thread, between two of its callbacks; for tests. */
bool tg_delivery_loop_validate(struct tg_delivery_loop *d);

#endif
