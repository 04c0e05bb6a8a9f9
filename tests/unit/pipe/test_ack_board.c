/* The board at which requests and cursors meet: what a look says after each move, who is woken, and
 * with threads, that no wake-up gets lost. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/pipe/ack_board.h"

static void count(void *arg)
{
    unsigned *n = arg;
    (*n)++;
}

static void a_look_says_who_is_behind(void **state)
{
    (void)state;
    enum { CONFIRM = 1, SKIP, BACK };
    static const struct {
        int move;
        unsigned backend;
        uint64_t pos, skipped_to;
        uint64_t end_pos; /* then this is looked for, at the backends 0, 1 and 31 */
        uint32_t behind, skipped;
    } rows[] = {
        {0, 0, 0, 0, 11, 0x80000003, 0},
        {CONFIRM, 0, 10, 0, 11, 0x80000003, 0},
        {CONFIRM, 0, 11, 0, 11, 0x80000002, 0},
        {CONFIRM, 5, 99, 0, 11, 0x80000002, 0}, /* not asked about */
        {CONFIRM, 31, 50, 0, 11, 0x00000002, 0},
        {BACK, 31, 3, 0, 11, 0x80000002, 0},
        {SKIP, 1, 20, 30, 11, 0x80000000, 0x00000002}, /* passed, but not delivered */
        {SKIP, 1, 20, 30, 30, 0x80000003, 0x00000002},
        {CONFIRM, 1, 40, 0, 31, 0x80000001, 0}, /* what came after the skip is not touched by it */
        {CONFIRM, 1, 40, 0, 41, 0x80000003, 0},
    };
    struct tg_ack_board *b = tg_ack_board_new(1, 32);
    assert_non_null(b);
    tg_ack_board_place(b, 31, 1);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t skipped = 77;
        switch (rows[i].move) {
        case CONFIRM: tg_ack_board_confirm(b, rows[i].backend, rows[i].pos); break;
        case SKIP: tg_ack_board_skip(b, rows[i].backend, rows[i].pos, rows[i].skipped_to); break;
        case BACK: tg_ack_board_move_back(b, rows[i].backend, rows[i].pos); break;
        default: break;
        }
        assert_int_equal(tg_ack_board_look(b, 0x80000003, rows[i].end_pos, &skipped),
                         rows[i].behind);
        assert_int_equal(skipped, rows[i].skipped);
    }
    tg_ack_board_free(b);
}

static void only_those_concerned_are_woken(void **state)
{
    (void)state;
    struct tg_ack_board *b = tg_ack_board_new(2, 2);
    unsigned moved[2] = {0}, asked[2] = {0};
    assert_non_null(b);
    for (unsigned i = 0; i < 2; i++) {
        tg_ack_board_on_move(b, i, count, &moved[i]);
        tg_ack_board_on_ask(b, i, count, &asked[i]);
    }
    tg_ack_board_confirm(b, 0, 1); /* nobody waits */
    assert_int_equal(moved[0] + moved[1], 0);
    tg_ack_board_begin_wait(b, 1);
    assert_int_equal(tg_ack_board_n_waiting(b), 1);
    assert_false(tg_ack_board_is_waited_for(b, 1)); /* it has not asked yet */
    tg_ack_board_ask(b, 1U << 1);
    assert_true(tg_ack_board_is_waited_for(b, 1));
    assert_false(tg_ack_board_is_waited_for(b, 0));
    assert_int_equal(asked[0], 0);
    assert_int_equal(asked[1], 1);
    tg_ack_board_confirm(b, 0, 2); /* whose request it is only its worker knows */
    tg_ack_board_skip(b, 1, 2, 3);
    tg_ack_board_move_back(b, 1, 1); /* ends nothing */
    assert_int_equal(moved[0], 0);
    assert_int_equal(moved[1], 2);
    tg_ack_board_end_wait(b, 1, 1U << 1);
    assert_false(tg_ack_board_is_waited_for(b, 1));
    assert_int_equal(tg_ack_board_n_waiting(b), 0);
    tg_ack_board_confirm(b, 1, 9);
    assert_int_equal(moved[1], 2);
    tg_ack_board_free(b);
}

/* --- threads: each position is waited for by every worker, and moved to only when asked for; a
 * lost wake-up of either side is a hang --- */

enum { WORKERS = 2, BACKENDS = 2, STEPS = 3000 };

struct bell {
    pthread_mutex_t lock;
    pthread_cond_t rang;
    bool has_rung;
};

static struct {
    struct tg_ack_board *board;
    struct bell workers[WORKERS], backends[BACKENDS];
    _Atomic uint64_t wanted[BACKENDS]; /* position */
    _Atomic unsigned n_done;
} race;

struct one {
    unsigned i;
};

static void ring(void *arg)
{
    struct bell *b = arg;
    (void)pthread_mutex_lock(&b->lock);
    b->has_rung = true;
    (void)pthread_cond_signal(&b->rang);
    (void)pthread_mutex_unlock(&b->lock);
}

static void await_ring(struct bell *b)
{
    (void)pthread_mutex_lock(&b->lock);
    while (!b->has_rung) (void)pthread_cond_wait(&b->rang, &b->lock);
    b->has_rung = false;
    (void)pthread_mutex_unlock(&b->lock);
}

static void raise_wanted(unsigned backend, uint64_t pos)
{
    uint64_t now = atomic_load(&race.wanted[backend]);
    while (now < pos && !atomic_compare_exchange_weak(&race.wanted[backend], &now, pos)) continue;
}

static void *work(void *arg)
{
    const struct one *me = arg;
    const uint32_t all = (1U << BACKENDS) - 1;
    for (uint64_t pos = 1; pos <= STEPS; pos++) {
        uint32_t skipped, behind, asked = 0;
        for (unsigned k = 0; k < BACKENDS; k++) raise_wanted(k, pos);
        tg_ack_board_begin_wait(race.board, me->i);
        behind = tg_ack_board_look(race.board, all, pos, &skipped);
        if (behind) tg_ack_board_ask(race.board, asked = behind);
        while (behind) {
            await_ring(&race.workers[me->i]);
            behind = tg_ack_board_look(race.board, behind, pos, &skipped);
        }
        tg_ack_board_end_wait(race.board, me->i, asked);
    }
    if (atomic_fetch_add(&race.n_done, 1) + 1 == WORKERS)
        for (unsigned k = 0; k < BACKENDS; k++) ring(&race.backends[k]);
    return NULL;
}

/* Lingers whenever nobody waits, as a delivery does. */
static void *deliver(void *arg)
{
    const struct one *me = arg;
    uint64_t at = 0;
    while (atomic_load(&race.n_done) < WORKERS) {
        const bool must_move = tg_ack_board_is_waited_for(race.board, me->i);
        const uint64_t wanted = atomic_load(&race.wanted[me->i]);
        if (must_move && wanted > at)
            tg_ack_board_confirm(race.board, me->i, at = wanted);
        else
            await_ring(&race.backends[me->i]);
    }
    return NULL;
}

static void init_bell(struct bell *b)
{
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_cond_init(&b->rang, NULL);
}

static void deinit_bell(struct bell *b)
{
    (void)pthread_mutex_destroy(&b->lock);
    (void)pthread_cond_destroy(&b->rang);
}

static void no_wake_up_is_lost(void **state)
{
    (void)state;
    pthread_t threads[WORKERS + BACKENDS];
    struct one ones[WORKERS + BACKENDS];
    race.board = tg_ack_board_new(WORKERS, BACKENDS);
    assert_non_null(race.board);
    for (unsigned i = 0; i < WORKERS; i++) {
        init_bell(&race.workers[i]);
        tg_ack_board_on_move(race.board, i, ring, &race.workers[i]);
    }
    for (unsigned i = 0; i < BACKENDS; i++) {
        init_bell(&race.backends[i]);
        tg_ack_board_on_ask(race.board, i, ring, &race.backends[i]);
    }
    for (unsigned i = 0; i < WORKERS + BACKENDS; i++) {
        ones[i].i = i < WORKERS ? i : i - WORKERS;
        assert_int_equal(pthread_create(&threads[i], NULL, i < WORKERS ? work : deliver, &ones[i]),
                         0);
    }
    for (unsigned i = 0; i < WORKERS + BACKENDS; i++) (void)pthread_join(threads[i], NULL);
    assert_int_equal(tg_ack_board_n_waiting(race.board), 0);
    for (unsigned i = 0; i < BACKENDS; i++) assert_false(tg_ack_board_is_waited_for(race.board, i));
    for (unsigned i = 0; i < WORKERS; i++) deinit_bell(&race.workers[i]);
    for (unsigned i = 0; i < BACKENDS; i++) deinit_bell(&race.backends[i]);
    tg_ack_board_free(race.board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_look_says_who_is_behind),
        cmocka_unit_test(only_those_concerned_are_woken),
        cmocka_unit_test(no_wake_up_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
