/* ack_board.h: where requests that wait for cursors and cursors that move meet; workers and
 * deliveries know of the board, and not of each other.
 *
 *   worker                     board                                  delivery
 *   begin_wait --------------> n_waiting (a worker)
 *   look       <-------------- confirmed_pos, skipped_to (a backend) <------- confirm, skip
 *   ask        --------------> n_waiters (a backend) -----------------------> is_waited_for
 *              ------------------------- on_ask ----------------------------> may linger no more
 *   looks again <------------------------ on_move --------------------------- confirm, skip
 *   end_wait   --------------> n_waiting, n_waiters
 *
 * Invariants: n_waiters of a backend is the sum of what was asked of it and has not ended; skipped_to
 *   only grows; confirmed_pos shrinks by a rewind alone.
 *
 * Threading: all functions from any thread, but those for before the threads start. A backend's
 *   positions have one mover, its delivery; a wait belongs to its worker. No wake-up gets lost: a
 *   worker is counted first and looks second, a delivery moves first and looks at the count second,
 *   all of it sequentially consistent, so one of the two sees the other.
 */
#ifndef TG_PIPE_ACK_BOARD_H
#define TG_PIPE_ACK_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

struct tg_ack_board;

/* Wakes its owner; from any thread, must not block. */
typedef void (*tg_ack_wake)(void *arg);

/* At most 32 backends: sets of them are bits. NULL when out of memory. */
struct tg_ack_board *tg_ack_board_new(unsigned n_workers, unsigned n_backends);
void tg_ack_board_free(struct tg_ack_board *b); /* NULL accepted */

/* --- before the threads start --- */

/* Whom to wake when a cursor moved and the worker has waiting requests. */
void tg_ack_board_on_move(struct tg_ack_board *b, unsigned worker, tg_ack_wake wake, void *arg);
/* Whom to wake when a request begins to wait for the backend: it may be lingering. */
void tg_ack_board_on_ask(struct tg_ack_board *b, unsigned backend, tg_ack_wake wake, void *arg);
/* Where the backend's cursor stands. */
void tg_ack_board_place(struct tg_ack_board *b, unsigned backend, uint64_t pos);

/* --- a worker's; `backends` is a set, bit i is backend i --- */

/* One more request of the worker waits; before it looks. */
void tg_ack_board_begin_wait(struct tg_ack_board *b, unsigned worker);
/* Which of the cursors have not confirmed what ends at end_pos, and in *skipped which never will:
 * they were moved forward when it was in the log already. That it had been delivered before that is
 * possible, but not known. */
uint32_t tg_ack_board_look(const struct tg_ack_board *b, uint32_t backends, uint64_t end_pos,
                           uint32_t *skipped);
/* Tells the backends that a request waits for them. */
void tg_ack_board_ask(struct tg_ack_board *b, uint32_t backends);
/* Ends a wait that has begun; `asked` are those that were asked, 0 = none yet. */
void tg_ack_board_end_wait(struct tg_ack_board *b, unsigned worker, uint32_t asked);
/* Of all workers. */
unsigned tg_ack_board_n_waiting(const struct tg_ack_board *b);

/* --- a delivery's --- */

/* All up to pos has come to its end: wakes workers with waiting requests. */
void tg_ack_board_confirm(struct tg_ack_board *b, unsigned backend, uint64_t pos);
/* The cursor was moved forward to pos over what it had not got; skipped_to is where the log ends:
 * what is up to there may never have been delivered. Wakes as confirm. */
void tg_ack_board_skip(struct tg_ack_board *b, unsigned backend, uint64_t pos, uint64_t skipped_to);
/* The cursor was moved back to pos: nobody's wait ends by that. */
void tg_ack_board_move_back(struct tg_ack_board *b, unsigned backend, uint64_t pos);
/* Requests wait for this backend's cursor. */
bool tg_ack_board_is_waited_for(const struct tg_ack_board *b, unsigned backend);

#endif
