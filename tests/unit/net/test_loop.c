/* The loop: posts from threads in order, none lost; stop; timers. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/net/loop.h"

enum { THREADS = 4, POSTS = 20000 };

struct counts {
    struct tg_loop *loop;
    unsigned next[THREADS]; /* what is expected next of each thread */
    unsigned total;
    bool out_of_order;
};
struct message {
    struct counts *counts;
    unsigned thread, n;
};
struct sender {
    struct counts *counts;
    struct message *messages;
    unsigned thread;
};

static void on_message(void *arg)
{
    const struct message *m = arg;
    struct counts *c = m->counts;
    if (c->next[m->thread] != m->n) c->out_of_order = true;
    c->next[m->thread] = m->n + 1;
    if (++c->total == THREADS * POSTS) tg_loop_stop(c->loop);
}

static void *send_all(void *arg)
{
    const struct sender *s = arg;
    for (unsigned i = 0; i < POSTS; i++) {
        s->messages[i] = (struct message){s->counts, s->thread, i};
        while (tg_loop_post(s->counts->loop, on_message, &s->messages[i]) != TG_OK) {
        }
    }
    return NULL;
}

static void test_posts_from_threads(void **state)
{
    (void)state;
    struct counts c = {.loop = tg_loop_new()};
    pthread_t threads[THREADS];
    struct sender senders[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){&c, tg_calloc(POSTS, sizeof(struct message)), i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    tg_loop_run(c.loop);
    for (unsigned i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
        tg_free(senders[i].messages);
        assert_int_equal(c.next[i], POSTS);
    }
    assert_int_equal(c.total, THREADS * POSTS);
    assert_false(c.out_of_order);
    tg_loop_free(c.loop);
}

/* The same with caller-owned items: each is posted again only from its own callback. */
struct ball {
    struct tg_loop_item item;
    struct tg_loop *here, *there;
    _Atomic unsigned *bounces;
};

static void bounce(void *arg)
{
    struct ball *b = arg;
    if (atomic_fetch_add(b->bounces, 1) + 1 >= 10000) {
        tg_loop_stop(b->here);
        tg_loop_stop(b->there);
        return;
    }
    struct tg_loop *to = b->there;
    b->there = b->here;
    b->here = to;
    tg_loop_post_item(to, &b->item);
}

static void *run_loop(void *arg)
{
    tg_loop_run(arg);
    return NULL;
}

static void test_items_bounce_between_loops(void **state)
{
    (void)state;
    struct tg_loop *a = tg_loop_new();
    struct tg_loop *b = tg_loop_new();
    _Atomic unsigned bounces = 0;
    struct ball balls[3];
    for (int i = 0; i < 3; i++) {
        balls[i] = (struct ball){.here = a, .there = b, .bounces = &bounces};
        balls[i].item = (struct tg_loop_item){.fn = bounce, .arg = &balls[i]};
        tg_loop_post_item(a, &balls[i].item);
    }
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, run_loop, b), 0);
    tg_loop_run(a);
    (void)pthread_join(t, NULL);
    assert_true(bounces >= 10000);
    tg_loop_free(a); /* balls may still be posted: caller-owned, not freed */
    tg_loop_free(b);
}

static void count(void *arg)
{
    ++*(unsigned *)arg;
}

static void test_stop_before_run_and_again(void **state)
{
    (void)state;
    struct tg_loop *l = tg_loop_new();
    unsigned n = 0;
    tg_loop_stop(l);
    tg_loop_run(l); /* returns at once */
    assert_int_equal(tg_loop_post(l, count, &n), TG_OK);
    tg_loop_once(l, 1000);
    assert_int_equal(n, 1);
    tg_loop_stop(l);
    tg_loop_run(l);
    tg_loop_once(l, 0);
    assert_int_equal(n, 1);
    assert_int_equal(tg_loop_post(l, count, &n), TG_OK); /* freed unrun */
    tg_loop_free(l);
    assert_int_equal(n, 1);
    tg_loop_free(NULL);
}

static void test_once_waits_and_returns(void **state)
{
    (void)state;
    struct tg_loop *l = tg_loop_new();
    const uint64_t start = tg_clock_mono_ms();
    tg_loop_once(l, 50);
    const uint64_t took = tg_clock_mono_ms() - start;
    assert_true(took >= 40 && took < 5000);
    tg_loop_once(l, 0);
    tg_loop_free(l);
}

struct timers {
    struct tg_timer *first, *second, *stopped;
    unsigned n_first, n_second, n_stopped;
};

static void on_second(void *arg)
{
    struct timers *t = arg;
    t->n_second++;
    tg_timer_free(t->second); /* a timer may free itself */
    t->second = NULL;
}

static void on_first(void *arg)
{
    struct timers *t = arg;
    if (++t->n_first < 3)
        tg_timer_start(t->first, 1);
    else
        tg_timer_start(t->second, 5);
    tg_timer_stop(t->stopped);
}

static void on_stopped(void *arg)
{
    ((struct timers *)arg)->n_stopped++;
}

static void test_timers(void **state)
{
    (void)state;
    struct tg_loop *l = tg_loop_new();
    struct timers t = {0};
    t.first = tg_timer_new(l, on_first, &t);
    t.second = tg_timer_new(l, on_second, &t);
    t.stopped = tg_timer_new(l, on_stopped, &t);
    tg_timer_start(t.first, 3600 * 1000);
    tg_timer_start(t.first, 10); /* replaces */
    tg_timer_start(t.stopped, 60);
    const uint64_t start = tg_clock_mono_ms();
    while (t.n_second == 0 && tg_clock_mono_ms() < start + 5000) tg_loop_once(l, 1000);
    const uint64_t took = tg_clock_mono_ms() - start;
    assert_int_equal(t.n_first, 3);
    assert_int_equal(t.n_second, 1);
    assert_true(took >= 10);
    tg_loop_once(l, 100);
    assert_int_equal(t.n_stopped, 0);
    tg_timer_start(t.first, UINT64_MAX); /* no overflow */
    tg_timer_free(t.first);
    tg_timer_free(t.stopped);
    tg_timer_free(NULL);
    tg_loop_free(l);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        tg_mem_fail_at(n);
        struct tg_loop *l = tg_loop_new();
        if (l) {
            unsigned ran = 0;
            const bool posted = tg_loop_post(l, count, &ran) == TG_OK;
            struct tg_timer *t = tg_timer_new(l, count, &ran);
            tg_loop_once(l, posted ? 1000 : 0);
            assert_int_equal(ran, posted);
            tg_timer_free(t);
            tg_loop_free(l);
        }
        if (!tg_mem_fail_fired()) break;
    }
    tg_mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_posts_from_threads),
        cmocka_unit_test(test_items_bounce_between_loops),
        cmocka_unit_test(test_stop_before_run_and_again),
        cmocka_unit_test(test_once_waits_and_returns),
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
