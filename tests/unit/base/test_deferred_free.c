/* Deferred freeing: nothing goes while a reader that could see it is inside, all goes afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/deferred_free.h"
#include "core/base/mem.h"

static void count(void *p)
{
    ++*(unsigned *)p;
}

static void poll_all(struct tg_deferred_free *g)
{
    for (int i = 0; i < 4; i++) (void)tg_deferred_free_poll(g);
}

static void test_order(void **state)
{
    struct tg_deferred_free *g = tg_deferred_free_new();
    (void)state;
    assert_non_null(g);
    assert_int_equal(tg_deferred_free_poll(g), 0);
    for (int round = 0; round < 3; round++) {
        unsigned early = 0;
        unsigned late = 0;
        const int first = tg_deferred_free_enter(g);
        tg_deferred_free_retire(g, &early, count);
        poll_all(g);
        assert_int_equal(early, 0);
        const int second =
            tg_deferred_free_enter(g); /* after the retire: does not hold `early` up for ever */
        tg_deferred_free_retire(g, &late, count);
        poll_all(g);
        assert_int_equal(early + late, 0);
        tg_deferred_free_exit(g, first);
        poll_all(g);
        assert_int_equal(late, 0); /* second may see it */
        tg_deferred_free_exit(g, second);
        poll_all(g);
        assert_int_equal(early, 1);
        assert_int_equal(late, 1);
        assert_int_equal(tg_deferred_free_poll(g), 0);
    }
    tg_deferred_free_free(g);
    tg_deferred_free_free(NULL);
}

/* Readers that come and go without a gap do not keep what was retired. */
static void test_overlapping_readers(void **state)
{
    struct tg_deferred_free *g = tg_deferred_free_new();
    unsigned n = 0;
    (void)state;
    assert_non_null(g);
    int ticket = tg_deferred_free_enter(g);
    tg_deferred_free_retire(g, &n, count);
    for (int i = 0; i < 8; i++) {
        const int next = tg_deferred_free_enter(g);
        tg_deferred_free_exit(g, ticket);
        ticket = next;
        (void)tg_deferred_free_poll(g);
    }
    assert_int_equal(n, 1);
    tg_deferred_free_exit(g, ticket);
    tg_deferred_free_free(g);
}

struct chain {
    struct tg_deferred_free *guard;
    struct tg_deferred_free_note note;
    unsigned *n;
    unsigned left;
};

static void retire_next(void *p)
{
    struct chain *c = p;
    ++*c->n;
    if (c->left-- > 1)
        tg_deferred_free_retire_note(c->guard, &c->note, c, retire_next);
    else
        tg_free(c);
}

static void test_notes(void **state)
{
    unsigned n = 0;
    (void)state;
    for (int polled = 0; polled < 2; polled++) {
        struct tg_deferred_free *g = tg_deferred_free_new();
        struct chain *c = tg_malloc(sizeof(*c)); /* the note lies in what is freed */
        assert_true(g && c);
        *c = (struct chain){.guard = g, .n = &n, .left = 5};
        n = 0;
        tg_mem_fail_at(1);
        tg_deferred_free_retire_note(g, &c->note, c, retire_next);
        assert_false(tg_mem_fail_fired()); /* needs no memory */
        tg_mem_fail_at(0);
        if (polled) {
            for (int i = 0; i < 3; i++) poll_all(g);
            assert_int_equal(n, 5);
        }
        tg_deferred_free_free(g); /* runs what is left, and what that retires */
        assert_int_equal(n, 5);
    }
}

static void test_no_memory(void **state)
{
    unsigned n = 0;
    (void)state;
    tg_mem_fail_at(1);
    assert_null(tg_deferred_free_new());
    struct tg_deferred_free *g = tg_deferred_free_new();
    assert_non_null(g);
    unsigned noted = 0;
    tg_deferred_free_retire(g, &noted, count);
    tg_mem_fail_at(1);
    tg_deferred_free_retire(g, &n, count); /* no note: waits, with nobody inside not long */
    assert_true(tg_mem_fail_fired());
    assert_int_equal(n, 1);
    poll_all(g);
    assert_int_equal(noted, 1);
    assert_int_equal(tg_deferred_free_poll(g), 0);
    tg_deferred_free_free(g);
}

/* Readers follow a shared pointer that a writer keeps replacing. */
enum { N_READERS = 2, READS = 30000, MAGIC = 0x5eed };
struct stress {
    struct tg_deferred_free *guard;
    _Atomic(_Atomic unsigned *) shared;
    _Atomic unsigned n_running;
    _Atomic unsigned n_bad;
};

static void poison_free(void *p)
{
    *(_Atomic unsigned *)p = 0;
    tg_free(p);
}

static void *read_shared(void *arg)
{
    struct stress *st = arg;
    for (unsigned i = 0; i < READS; i++) {
        const int ticket = tg_deferred_free_enter(st->guard);
        _Atomic unsigned *p = atomic_load_explicit(&st->shared, memory_order_acquire);
        for (unsigned k = 0; k < 5; k++)
            if (atomic_load_explicit(p, memory_order_relaxed) != MAGIC)
                atomic_fetch_add(&st->n_bad, 1);
        tg_deferred_free_exit(st->guard, ticket);
    }
    atomic_fetch_sub(&st->n_running, 1);
    return NULL;
}

static _Atomic unsigned *value_new(void)
{
    _Atomic unsigned *p = tg_malloc(sizeof(*p));
    if (p) atomic_init(p, MAGIC);
    return p;
}

static void *write_shared(void *arg)
{
    struct stress *st = arg;
    while (atomic_load(&st->n_running) > 0) {
        _Atomic unsigned *fresh = value_new();
        if (!fresh) abort();
        _Atomic unsigned *old = atomic_exchange(&st->shared, fresh);
        tg_deferred_free_retire(st->guard, (void *)old, poison_free);
        (void)tg_deferred_free_poll(st->guard);
    }
    return NULL;
}

static void test_threads(void **state)
{
    const uint64_t before = tg_mem_used();
    struct stress st = {.guard = tg_deferred_free_new(), .n_running = N_READERS};
    pthread_t threads[N_READERS + 2];
    (void)state;
    assert_non_null(st.guard);
    atomic_store(&st.shared, value_new());
    for (unsigned i = 0; i < N_READERS + 2; i++) /* two writers poll at the same time */
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < N_READERS ? read_shared : write_shared, &st), 0);
    for (unsigned i = 0; i < N_READERS + 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&st.n_bad), 0);
    poll_all(st.guard);
    assert_int_equal(tg_deferred_free_poll(st.guard), 0);
    tg_free((void *)atomic_load(&st.shared));
    tg_deferred_free_free(st.guard);
    assert_int_equal(tg_mem_used(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),   cmocka_unit_test(test_overlapping_readers),
        cmocka_unit_test(test_notes),   cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
