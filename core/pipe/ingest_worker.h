/* ingest_worker.h: one of the threads that take points in: a listener, a receiver, and the requests
 * that wait for cursors. Not for other layers.
 *
 * Threading: the worker's thread, but for the functions said to be for any.
 */
#ifndef TG_PIPE_INGEST_WORKER_H
#define TG_PIPE_INGEST_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/pipe/planner.h"
#include "core/receive/receive.h"

struct tg_gateway;

struct tg_ingest_worker {
    struct tg_gateway *gateway;
    unsigned index;
    pthread_t thread;
    bool has_thread;
    struct tg_loop *loop;
    struct tg_http_server *server;
    struct tg_receiver *receiver;
    struct tg_planner planner;

    /* Requests that wait for cursors, oldest (and so nearest deadline) first. */
    struct tg_ingest *wait_head, *wait_tail;
    struct tg_timer *deadline_timer;
    struct tg_loop_item wake_item; /* posted when a cursor moved */
    _Atomic bool wake_posted;

    unsigned n_open; /* ingests between sink and reply */
    bool stopping;
    struct tg_loop_item stop_item;
    uint64_t stop_deadline_ms;
    struct tg_timer *stop_timer;
};

TG_MUST_CHECK enum tg_code tg_ingest_worker_init(struct tg_ingest_worker *w, struct tg_gateway *g,
                                                 unsigned index, const char *address,
                                                 struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_ingest_worker_start(struct tg_ingest_worker *w, struct tg_err *err);
/* Asks the thread to stop listening, answer what is open and end; any thread. */
void tg_ingest_worker_ask_stop(struct tg_ingest_worker *w, uint64_t deadline_ms);
void tg_ingest_worker_join(struct tg_ingest_worker *w);
void tg_ingest_worker_deinit(struct tg_ingest_worker *w); /* zeroed accepted */

#endif
