/* rewind.h: moving a backend's cursor to another place in the log, between two deliveries.
 *
 *   ask (any thread) --> on_asked (the delivery's loop) --> run: find the place, ask the backend,
 *   raise the epoch, put the cursor, move the span, tell the board --> on_rewind
 *
 * Invariant: an epoch is on disk before a backend hears of it, and none is handed out twice.
 *
 * Threading: the delivery's own thread, but for `ask`.
 */
#ifndef TG_PIPE_REWIND_H
#define TG_PIPE_REWIND_H

#include "core/pipe/ack_board.h"
#include "core/pipe/config.h"
#include "core/pipe/gateway.h"
#include "core/pipe/span.h"

struct tg_rewinds {
    const struct tg_backend_config *config; /* borrowed, as all up to `arg` */
    unsigned index;                         /* backend number */
    struct tg_log *log;
    struct tg_ack_board *acks;
    struct tg_span *span;
    struct tg_backend *backend;
    struct tg_log_cursor *cursor;
    struct tg_loop *loop;
    void (*on_asked)(void *arg); /* there is one more; on the loop */
    void *arg;

    struct tg_rewind_request *first; /* the oldest; waits until nothing is being written */
    uint64_t epoch;                  /* of the cursor */
};

/* on_rewind runs once, on the loop, unless this fails. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_rewinds_ask(struct tg_rewinds *r, const struct tg_rewind *where,
                                          tg_on_rewind on_rewind, void *arg, struct tg_err *err);
/* Runs all that were asked for; nothing is being written. Whether the span was moved. */
bool tg_rewinds_run(struct tg_rewinds *r);
void tg_rewinds_cancel(struct tg_rewinds *r); /* at the end */

#endif
