/* trouble.h: what is wrong with a delivery: for the status, and as messages, each at once when it
 * begins and then at most once a minute.
 *
 *               set_unhealthy                       note, write_failed, stalled, lost
 *   healthy --------------------> not healthy       ------------------------------------> last_error
 *           <--------------------                                                          + well_ns
 *        note_well, write_went_well                 ------------------------------------>
 *
 * Invariants (tg_trouble_validate):
 *   - well_ns is of a last_error that is there
 *   - what is not said yet waits for its minute: the same was said before
 *
 * Threading: the delivery's own thread, but for the functions said to be for any thread.
 */
#ifndef TG_PIPE_TROUBLE_H
#define TG_PIPE_TROUBLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

struct tg_backend_status;

struct tg_trouble {
    const char *name;         /* of the backend, borrowed */
    unsigned n_failed_writes; /* since the last that went well */
    uint64_t failure_said_ms; /* monotonic, as all here */
    uint64_t stall_said_ms;   /* 0: not since it ended */
    enum tg_code stall_said_code;
    uint64_t n_lost_unsaid, lost_said_ms, lost_unsaid_from,
        lost_unsaid_to; /* from, to: positions */

    _Atomic bool is_healthy;
    pthread_mutex_t lock; /* guards all below */
    char last_error[256];
    int64_t last_error_ns; /* wall clock */
    int64_t well_ns;       /* since when all went well after it; 0 = not yet */
};

void tg_trouble_init(struct tg_trouble *t, const char *name);
void tg_trouble_deinit(struct tg_trouble *t);

/* For the status: what went wrong, and that it is over. */
void tg_trouble_note(struct tg_trouble *t, const char *message);
void tg_trouble_note_well(struct tg_trouble *t);
void tg_trouble_set_unhealthy(struct tg_trouble *t);
bool tg_trouble_is_healthy(const struct tg_trouble *t); /* any thread */
/* Fills what the status shows of it; any thread. */
void tg_trouble_status(struct tg_trouble *t, struct tg_backend_status *out);

/* The same, and says it. */
void tg_trouble_write_failed(struct tg_trouble *t, const char *message);
void tg_trouble_write_went_well(struct tg_trouble *t);
void tg_trouble_stalled(struct tg_trouble *t, const struct tg_err *err);
void tg_trouble_stall_ended(struct tg_trouble *t);
/* n points that the log lost, between two positions. The first are said at once. */
void tg_trouble_lost(struct tg_trouble *t, uint64_t n, uint64_t from_pos, uint64_t to_pos);
void tg_trouble_tick(struct tg_trouble *t); /* says what was held back, when it is time */

/* Whether the invariants hold. For tests. */
bool tg_trouble_validate(struct tg_trouble *t);

#endif
