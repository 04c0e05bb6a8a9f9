/* A stop ends in time, whatever backends do, and what they had not confirmed waits in the log. */
#include "tests/unit/pipe/gateway_fixture.h"

enum { DRAIN_MS = 300, SLACK_MS = 2000 };

static void wait_for_state(const struct fixture *f, unsigned backend, enum tg_delivery_state state)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (state_of(f, backend) != state) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)usleep(1000);
    }
}

/* Stops, in time. */
static void stop_in_time(struct fixture *f)
{
    const uint64_t began_ms = tg_clock_mono_ms();
    stop(f);
    const uint64_t took_ms = tg_clock_mono_ms() - began_ms;
    if (took_ms > DRAIN_MS + SLACK_MS)
        fail_msg("the stop took %llu ms", (unsigned long long)took_ms);
}

/* The write in flight is given up at the deadline: not delivered, whatever became of it. */
static void test_backend_that_never_answers(void **state)
{
    struct fixture *f = *state;
    f->config.limits.drain_timeout_ms = DRAIN_MS;
    for (int i = 0; i < 2; i++) atomic_store(&sinks[i].is_silent, true);
    for (unsigned twice = 0; twice < 2; twice++) {
        start(f);
        if (twice == 0) post_range(f, 1, 10, "");
        for (unsigned b = 0; b < 2; b++) wait_for_state(f, b, TG_DELIVERY_WRITING);
        stop_in_time(f);
    }
    for (int i = 0; i < 2; i++) atomic_store(&sinks[i].is_silent, false);
    start(f);
    for (unsigned b = 0; b < 2; b++) {
        wait_empty(f, b);
        assert_int_equal(ledger(f, b).delivered, 10);
        assert_seen(b, 1, 10, 3); /* twice in vain */
    }
}

/* Nor does a request that waits for such a backend hold it up, nor is it told that all is well. */
struct waiting_post {
    pthread_t thread;
    const struct fixture *f;
    int status;
};

static void *post_waiting(void *arg)
{
    struct waiting_post *p = arg;
    p->status = post(p->f, "m,wait=1 v=1i 1\n");
    return NULL;
}

static void test_request_that_waits_for_it(void **state)
{
    struct fixture *f = *state;
    f->config.limits.drain_timeout_ms = DRAIN_MS;
    f->config.limits.ack_timeout_ms = 60000;
    atomic_store(&sinks[1].is_silent, true);
    start(f);
    struct waiting_post p = {.f = f};
    assert_int_equal(pthread_create(&p.thread, NULL, post_waiting, &p), 0);
    wait_for_state(f, 1, TG_DELIVERY_WRITING);
    stop_in_time(f);
    (void)pthread_join(p.thread, NULL);
    assert_int_equal(p.status, 503);
}

/* A rewind that waits for the write in flight is told. */
static void test_rewind_under_way(void **state)
{
    struct fixture *f = *state;
    f->config.limits.drain_timeout_ms = DRAIN_MS;
    atomic_store(&sinks[0].is_silent, true);
    start(f);
    post_range(f, 1, 10, "");
    wait_for_state(f, 0, TG_DELIVERY_WRITING);
    struct rewound r = {.code = TG_OK};
    struct tg_err err;
    const struct tg_rewind start_of_log = {.to = TG_REWIND_START};
    assert_int_equal(tg_gateway_rewind(f->g, 0, &start_of_log, on_rewind, &r, &err), TG_OK);
    stop_in_time(f);
    assert_true(atomic_load(&r.done));
    assert_int_equal(r.code, TG_ERR_CANCELED);
}

/* Without time to drain nothing is even tried, and nothing is lost. */
static void test_stop_at_once(void **state)
{
    struct fixture *f = *state;
    atomic_store(&sinks[0].down, true);
    start(f);
    post_range(f, 1, 100, "");
    const uint64_t began_ms = tg_clock_mono_ms();
    tg_gateway_stop_within(f->g, 0, NULL);
    f->g = NULL;
    assert_true(tg_clock_mono_ms() - began_ms < SLACK_MS);
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_seen(0, 1, 100, 1);
}

/* A start that fails ends at once, however much waits for backends that are slow. */
static void test_start_that_fails(void **state)
{
    struct fixture *f = *state;
    struct tg_err err;
    start(f);
    atomic_store(&sinks[0].is_silent, true);
    post_range(f, 1, 100, "");
    f->config.limits.drain_timeout_ms = 0;
    stop(f);
    f->config.limits.drain_timeout_ms = 20000;
    f->config.http_address = "127.0.0.1:1:1";
    const uint64_t began_ms = tg_clock_mono_ms();
    assert_int_not_equal(tg_gateway_start(&f->config, &f->g, &err), TG_OK);
    assert_true(tg_clock_mono_ms() - began_ms < 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_backend_that_never_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_request_that_waits_for_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rewind_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_start_that_fails, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
