/* ack_board.c: where requests that wait for cursors and cursors that move meet. */
#include "core/pipe/ack_board.h"

#include <stdatomic.h>

#include "core/base/mem.h"

struct waker {
    tg_ack_wake wake; /* NULL = nobody */
    void *arg;
};

struct worker {
    struct waker on_move;
    _Atomic unsigned n_waiting; /* requests */
};

struct backend {
    struct waker on_ask;
    _Atomic uint64_t confirmed_pos;
    /* Where the log ended when the cursor was last moved forward: what is up to there may never
     * have been delivered, though `confirmed_pos` is behind it. */
    _Atomic uint64_t skipped_to;
    _Atomic unsigned n_waiters; /* requests whose answer waits for this cursor */
};

struct tg_ack_board {
    unsigned n_workers, n_backends;
    struct worker *workers;
    struct backend *backends;
};

struct tg_ack_board *tg_ack_board_new(unsigned n_workers, unsigned n_backends)
{
    struct tg_ack_board *b = tg_calloc(1, sizeof(*b));
    if (!b) return NULL;
    b->n_workers = n_workers;
    b->n_backends = n_backends;
    b->workers = tg_calloc(n_workers ? n_workers : 1, sizeof(*b->workers));
    b->backends = tg_calloc(n_backends ? n_backends : 1, sizeof(*b->backends));
    if (b->workers && b->backends) return b;
    tg_ack_board_free(b);
    return NULL;
}

void tg_ack_board_free(struct tg_ack_board *b)
{
    if (!b) return;
    tg_free(b->workers);
    tg_free(b->backends);
    tg_free(b);
}

void tg_ack_board_on_move(struct tg_ack_board *b, unsigned worker, tg_ack_wake wake, void *arg)
{
    b->workers[worker].on_move = (struct waker){wake, arg};
}

void tg_ack_board_on_ask(struct tg_ack_board *b, unsigned backend, tg_ack_wake wake, void *arg)
{
    b->backends[backend].on_ask = (struct waker){wake, arg};
}

void tg_ack_board_place(struct tg_ack_board *b, unsigned backend, uint64_t pos)
{
    atomic_store(&b->backends[backend].confirmed_pos, pos);
}

/* --- a worker's --- */

void tg_ack_board_begin_wait(struct tg_ack_board *b, unsigned worker)
{
    atomic_fetch_add(&b->workers[worker].n_waiting, 1);
}

uint32_t tg_ack_board_look(const struct tg_ack_board *b, uint32_t backends, uint64_t end_pos,
                           uint32_t *skipped)
{
    uint32_t behind = 0;
    *skipped = 0;
    for (uint32_t left = backends; left; left &= left - 1) {
        const unsigned i = (unsigned)__builtin_ctz(left);
        const struct backend *d = &b->backends[i];
        /* in this order: skip sets them in the other */
        if (atomic_load(&d->confirmed_pos) < end_pos) behind |= UINT32_C(1) << i;
        if (atomic_load(&d->skipped_to) >= end_pos) *skipped |= UINT32_C(1) << i;
    }
    return behind;
}

void tg_ack_board_ask(struct tg_ack_board *b, uint32_t backends)
{
    for (uint32_t left = backends; left; left &= left - 1) {
        struct backend *d = &b->backends[__builtin_ctz(left)];
        atomic_fetch_add(&d->n_waiters, 1);
        if (d->on_ask.wake) d->on_ask.wake(d->on_ask.arg);
    }
}

void tg_ack_board_end_wait(struct tg_ack_board *b, unsigned worker, uint32_t asked)
{
    atomic_fetch_sub(&b->workers[worker].n_waiting, 1);
    for (uint32_t left = asked; left; left &= left - 1)
        atomic_fetch_sub(&b->backends[__builtin_ctz(left)].n_waiters, 1);
}

unsigned tg_ack_board_n_waiting(const struct tg_ack_board *b)
{
    unsigned n = 0;
    for (unsigned i = 0; i < b->n_workers; i++) n += atomic_load(&b->workers[i].n_waiting);
    return n;
}

/* --- a delivery's --- */

/* After the positions were set, not before: see begin_wait. */
static void wake_workers(struct tg_ack_board *b)
{
    for (unsigned i = 0; i < b->n_workers; i++) {
        struct worker *w = &b->workers[i];
        if (atomic_load(&w->n_waiting) && w->on_move.wake) w->on_move.wake(w->on_move.arg);
    }
}

void tg_ack_board_confirm(struct tg_ack_board *b, unsigned backend, uint64_t pos)
{
    atomic_store(&b->backends[backend].confirmed_pos, pos);
    wake_workers(b);
}

void tg_ack_board_skip(struct tg_ack_board *b, unsigned backend, uint64_t pos, uint64_t skipped_to)
{
    struct backend *d = &b->backends[backend];
    /* Before the position that would confirm the skipped ones. */
    atomic_store(&d->skipped_to, skipped_to);
    atomic_store(&d->confirmed_pos, pos);
    wake_workers(b);
}

void tg_ack_board_move_back(struct tg_ack_board *b, unsigned backend, uint64_t pos)
{
    atomic_store(&b->backends[backend].confirmed_pos, pos);
}

bool tg_ack_board_is_waited_for(const struct tg_ack_board *b, unsigned backend)
{
    return atomic_load(&b->backends[backend].n_waiters) > 0;
}
