/* A backend's lag: the age of the oldest point that waits for it, by when it was accepted. */
#include "tests/unit/pipe/gateway_fixture.h"

static int64_t lag_ms(const struct fixture *f, unsigned backend)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const int64_t lag = s->backends[backend].lag_ms;
    free(s);
    return lag;
}

static void wait_until(uint64_t at_ms)
{
    while (tg_clock_mono_ms() < at_ms) (void)usleep(1000);
}

static void wait_for_writes(unsigned sink, unsigned n)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    for (unsigned seen = 0; seen < n; (void)usleep(1000)) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)pthread_mutex_lock(&sinks[sink].lock);
        seen = sinks[sink].n_writes;
        (void)pthread_mutex_unlock(&sinks[sink].lock);
    }
}

/* The cursor is at the log's end a moment before the loop has looked for more and found nothing. */
static void wait_no_lag(const struct fixture *f, unsigned backend)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (lag_ms(f, backend) > 0) assert_true(tg_clock_mono_ms() < deadline_ms);
}

/* Something waits at every instant, but nothing waits long: no lag. */
static void test_under_steady_load(void **state)
{
    struct fixture *f = *state;
    enum { EACH_MS = 400 };
    f->backends[0].batch_points = 1; /* each request is a delivery */
    atomic_store(&sinks[0].is_limited, true);
    start(f);
    assert_int_equal(post(f, "m v=1i 1\n"), 204);
    wait_for_writes(0, 1);
    for (int i = 2; i <= 6; i++) {
        const uint64_t began_ms = tg_clock_mono_ms();
        assert_int_equal(post(f, i % 2 ? "m v=1i 1\n" : "m v=1i 2\n"), 204);
        wait_until(began_ms + EACH_MS);
        assert_true(lag_ms(f, 0) >= EACH_MS); /* of the one in flight */
        atomic_fetch_add(&sinks[0].n_answers, 1);
        wait_for_writes(0, (unsigned)i); /* the other is in flight now */
        const uint64_t most_ms = tg_clock_mono_ms() - began_ms;
        const int64_t lag = lag_ms(f, 0);
        if (lag < EACH_MS - 300 || lag > (int64_t)most_ms + 300)
            fail_msg("round %d: the oldest point is %llu ms old, the lag is %lld", i,
                     (unsigned long long)most_ms, (long long)lag);
    }
    atomic_store(&sinks[0].is_limited, false);
    wait_empty(f, 0);
    wait_no_lag(f, 0);
}

/* What comes again is as old as it is, and so is what waits over a restart. */
static void test_after_a_rewind_and_a_restart(void **state)
{
    struct fixture *f = *state;
    enum { AGE_MS = 1000 };
    start(f);
    const uint64_t began_ms = tg_clock_mono_ms();
    post_range(f, 1, 10, "");
    wait_empty(f, 0);
    wait_no_lag(f, 0);
    wait_until(began_ms + AGE_MS);
    atomic_store(&sinks[0].down, true);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    wait_for_writes(0, 2);
    assert_true(lag_ms(f, 0) >= AGE_MS - 300);
    assert_true(lag_ms(f, 0) < (int64_t)(tg_clock_mono_ms() - began_ms) + 300);
    stop(f);
    start(f);
    wait_for_writes(0, 3);
    assert_true(lag_ms(f, 0) >= AGE_MS - 300);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_END, 0), TG_OK);
    wait_no_lag(f, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_under_steady_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_after_a_rewind_and_a_restart, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
