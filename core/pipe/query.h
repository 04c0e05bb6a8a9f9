/* query.h: the query desk: queries run here, on threads of their own, beside all deliveries; and
 * looks, in which rules run to explain what they decide.
 *
 *   submit --> [ waiting, oldest first ] --> one of a few threads, each with a loop --> on_end
 *                 |                                  |
 *                 +-- cancel, deadline, stop --------+-- each told by its tg_query_stop
 *
 * Few run at once and few wait, so that what queries take of the machine has a bound; the next one
 * is refused. A query ends when its deadline, its caller or a stop says so, whatever its backend
 * does by then. Looks run one at a time, as the rules have one VM for them all; one that waits for
 * another lets queries pass.
 *
 * Threading: all functions from any thread but those of the desk; callbacks run on one of those, or
 * within cancel, submit or stop for a query that still waited.
 */
#ifndef TG_PIPE_QUERY_H
#define TG_PIPE_QUERY_H

#include "core/backend/backend.h"

enum {
    TG_QUERIES_RUNNING = 4,
    TG_QUERIES_WAITING = 16,
};

struct tg_query_desk;

struct tg_query_request {
    const struct tg_backend_ops *ops; /* with query_range */
    struct tg_backend *backend;       /* open until the end */
    const struct tg_query *query;     /* borrowed until the end; its `loop` is the desk's to say */
    tg_on_row on_row;
    tg_on_query_end on_end;
    void *arg;
};

/* A look: runs once on a thread of the desk, when no other look does. What is asked of the rules
 * ends with their budgets, so it looks at the stop in between, and no more. */
struct tg_query_look {
    enum tg_code (*look)(void *arg, struct tg_err *err);
    tg_on_query_end on_end; /* with what `look` gave */
    struct tg_query_stop *stop;
    void *arg;
};

/* Starts the threads. TG_ERR_NOMEM, TG_ERR_IO. */
TG_MUST_CHECK enum tg_code tg_query_desk_new(struct tg_query_desk **out, struct tg_err *err);
/* on_end runs once when this returned TG_OK, perhaps before. TG_ERR_FULL when too many wait,
 * TG_ERR_CANCELED when stopping, TG_ERR_NOMEM. A query that waited until its deadline ends with
 * TG_ERR_FULL; one that was stopped while it ran with TG_ERR_CANCELED. */
TG_MUST_CHECK enum tg_code tg_query_desk_submit(struct tg_query_desk *d,
                                                const struct tg_query_request *request,
                                                struct tg_err *err);
/* As submit. */
TG_MUST_CHECK enum tg_code tg_query_desk_look(struct tg_query_desk *d,
                                              const struct tg_query_look *look, struct tg_err *err);
struct tg_query_desk_stats {
    unsigned n_running, n_waiting; /* queries and looks, now */
    uint64_t n_refused;            /* since start: too many waited */
};
struct tg_query_desk_stats tg_query_desk_stats(struct tg_query_desk *d);
/* Tells the query with this stop to end; one that still waits ends within this. */
void tg_query_desk_cancel(struct tg_query_desk *d, struct tg_query_stop *stop,
                          enum tg_query_stop_reason why);
/* Tells all to end and refuses new ones. Does not wait for those that run. NULL accepted. */
void tg_query_desk_stop(struct tg_query_desk *d);
/* After stop: waits for those that run, frees. NULL accepted. */
void tg_query_desk_free(struct tg_query_desk *d);

#endif
