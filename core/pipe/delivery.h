/* delivery.h: one backend's delivery loop, as the parts of the pipeline know it.
 *
 *   IDLE --> read --> (linger) --> attempt a range --> ... --> cursor moves --> IDLE
 *                                    |        ^
 *                                    v        |  ok: the next range; refused: the same in halves
 *                                    WRITING -+
 *                                    |        ^
 *                              retry v        |  time is up (capped, jittered, Retry-After)
 *                                    BACKOFF -+
 *
 * STALLED is as BACKOFF, but what is in the way is on our side: dead letters full, log unreadable,
 *   no memory.
 *
 * Files: delivery.c is the loop, write_attempt.c one try at one range, rewind.c moves the cursor.
 *
 * Threading: all of it on the loop's own thread, but for the functions said to be for any thread
 * and the fields at the end of the struct.
 */
#ifndef TG_PIPE_DELIVERY_H
#define TG_PIPE_DELIVERY_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/metric.h"
#include "core/pipe/deadletter.h"
#include "core/pipe/gateway.h"
#include "core/pipe/inexpressible.h"
#include "core/pipe/planner.h"
#include "core/pipe/stray_forms.h"

struct tg_gateway;

struct tg_range {
    uint32_t lo, hi; /* points [lo, hi) of the batch */
};

enum tg_routing { /* where a point goes: see write_attempt.c, Routing */
                  TG_ROUTED_WHEN_ACCEPTED,
                  TG_ROUTED_BOTH_WAYS, /* there, and where the rules in force say */
                  TG_ROUTED_BY_RULES,  /* in force, alone */
};

struct tg_delivery_counts {
    uint64_t delivered, elsewhere, dead, lost;
    struct tg_inexpressible inexpressible;
    struct tg_left_out left_out; /* of those that were delivered */
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
    struct tg_planner planner;

    /* The batch under way: points read from the log since the cursor. `dicts` keep their series
     * alive; the table's guard is entered only while plans are in use: while points are picked and
     * encoded, not while they are in flight, so that a slow backend holds up no freeing. */
    struct tg_batch batch;
    struct tg_segment_dict **dicts;
    uint32_t n_dicts, cap_dicts;
    struct tg_log_read span;           /* what the batch covers */
    uint64_t sure_pos;                 /* what the log lost before it is known */
    struct tg_backend_loss losses[64]; /* what the batch's span lost lies in these */
    unsigned n_losses;
    /* Which numbers its points have: from index `at` on they count up from `no`. */
    struct tg_numbering {
        uint32_t at;
        uint64_t no;
    } * numbers;
    uint32_t n_numbers, cap_numbers;
    uint64_t epoch; /* of the cursor */
    struct tg_delivery_counts done;
    enum tg_routing routing; /* of the points of `span` */
    bool has_batch;          /* `span` is under way: not to be read again */
    uint64_t
        first_read_ms; /* when the batch got its first point: linger counts from here; 0 = none */
    int64_t first_accepted_ns; /* when that point was taken in, wall clock */
    bool end_reached;          /* the last read found nothing more */
    /* Most points of a batch since one was too large for a write: half of that one, and a little
     * more with each write that goes well; 0 = as many as configured. */
    uint32_t fit_points;

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
    struct tg_inexpressible formless; /* points whose series the backend has no form for */
    uint32_t part;
    /* Points of the batch that came to their end while others of their range did not: a bitmap. */
    uint8_t *settled;
    bool has_settled;
    struct tg_stray_forms stray_forms; /* one attempt's */
    uint64_t stray_forms_generation;
    bool is_paused; /* deciding goes on when the loop has looked at what else is due */
    struct tg_buf stray_forms_scratch;
    unsigned n_failures;      /* tries in a row that ended no range: the next wait is longer */
    unsigned n_failed_writes; /* since the last that went well */
    /* when messages told of them last, monotonic */
    uint64_t failure_said_ms, dead_said_ms, inexpressible_said_ms;
    uint64_t stall_said_ms; /* 0: not since the cursor moved */
    enum tg_code stall_said_code;
    uint64_t n_dead_unsaid, n_lost_unsaid;
    uint64_t lost_said_ms, lost_unsaid_from, lost_unsaid_to; /* from, to: positions */
    struct tg_inexpressible inexpressible_unsaid;

    struct tg_timer *timer; /* backoff and linger; which one, `state` says */
    struct tg_timer *tick;  /* health and retention */
    uint64_t next_health_ms, next_retention_ms;
    bool health_pending;

    struct tg_loop_item wake_item;
    _Atomic bool wake_posted;
    struct rewind_request *rewinds; /* asked for while a write was in flight, oldest first */
    bool stopping;
    bool ended;
    bool gave_up;       /* the write in flight was cancelled: the deadline of the stop is over */
    uint64_t saved_pos; /* of the cursor's file, as far as this loop asked */
    struct tg_timer *stop_timer; /* at the deadline */
    struct tg_loop_item stop_item;

    /* Shared with other threads. */
    _Atomic uint64_t stop_deadline_ms; /* monotonic; UINT64_MAX = no stop was asked for */
    _Atomic bool lingering; /* waits for a fuller batch: wakes of the log are not needed */
    _Atomic int state;      /* enum tg_delivery_state */
    _Atomic bool healthy;
    _Atomic bool dead_letters_full; /* the loop stands still for that */
    _Atomic uint64_t n_writes, n_retries;
    _Atomic int64_t oldest_ns; /* when the oldest waiting point was accepted, wall clock; 0 = none
                                  waits */
    pthread_mutex_t error_lock;
    char last_error[256];
    int64_t last_error_ns; /* wall clock */
    int64_t well_ns;       /* since when all went well after it; 0 = not yet */
    struct tg_metric metrics[8];
    struct tg_metric merged;
    struct tg_metric *delivered, *dead, *retries;
    struct tg_metric lost;
    struct tg_metric inexpressible_metrics[TG_INEXPRESSIBLE_KINDS];
    struct tg_metric left_out_metrics[TG_LEFT_OUT_PARTS];
};

/* --- for the other parts --- */

TG_MUST_CHECK enum tg_code tg_delivery_init(struct tg_delivery_loop *d, struct tg_gateway *g,
                                            unsigned index, struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_delivery_start(struct tg_delivery_loop *d, struct tg_err *err);
void tg_delivery_wake(void *delivery_loop); /* there is more in the log; any thread */
void tg_delivery_ask_stop(struct tg_delivery_loop *d, uint64_t deadline_ms);
void tg_delivery_join(struct tg_delivery_loop *d);
void tg_delivery_deinit(struct tg_delivery_loop *d);
/* Age of the oldest waiting point, by when it was accepted; 0 = none waits. Any thread. */
int64_t tg_delivery_lag_ms(const struct tg_delivery_loop *d);
void tg_delivery_status(struct tg_delivery_loop *d,
                        struct tg_backend_status *out); /* without the ledger */
TG_MUST_CHECK enum tg_code tg_delivery_rewind(struct tg_delivery_loop *d,
                                              const struct tg_rewind *where, tg_on_rewind on_rewind,
                                              void *arg, struct tg_err *err);

/* --- between delivery.c, write_attempt.c and rewind.c --- */

static inline void tg_delivery_set_state(struct tg_delivery_loop *d, enum tg_delivery_state s)
{
    atomic_store_explicit(&d->state, (int)s, memory_order_relaxed);
}

static inline enum tg_delivery_state tg_delivery_get_state(const struct tg_delivery_loop *d)
{
    return (enum tg_delivery_state)atomic_load_explicit(&d->state, memory_order_relaxed);
}

static inline void tg_delivery_push_range(struct tg_delivery_loop *d, uint32_t lo, uint32_t hi)
{
    if (lo < hi) d->ranges[d->n_ranges++] = (struct tg_range){lo, hi};
}

/* For the status: what went wrong, and that it is over. */
void tg_delivery_note_error(struct tg_delivery_loop *d, const char *message);
void tg_delivery_note_well(struct tg_delivery_loop *d);
/* Goes on with what is due, until there is a wait or nothing more. */
void tg_delivery_pump(struct tg_delivery_loop *d);
/* Takes the next range; ends with a write under way, a wait, or the range complete or split. */
void tg_delivery_attempt(struct tg_delivery_loop *d);
/* The number of the batch's point i; of its end for i = n_points. */
uint64_t tg_delivery_point_no(const struct tg_delivery_loop *d, uint32_t i);
/* Back to where the span begins: what was read since is read again, under the rules then in force.
 */
void tg_delivery_restart_batch(struct tg_delivery_loop *d);
/* The state until the timer fires, with a longer wait after each failure in a row. */
void tg_delivery_wait_then_retry(struct tg_delivery_loop *d, enum tg_delivery_state state,
                                 int64_t retry_after_ms);
void tg_delivery_end_wait(struct tg_delivery_loop *d); /* what is due is due now */
/* Lets the loop look at other things before pump goes on. */
void tg_delivery_pause(struct tg_delivery_loop *d);
void tg_delivery_stall(struct tg_delivery_loop *d, const struct tg_err *err);
void tg_delivery_run_rewinds(struct tg_delivery_loop *d);    /* nothing is being written */
void tg_delivery_cancel_rewinds(struct tg_delivery_loop *d); /* at the end */

#endif
