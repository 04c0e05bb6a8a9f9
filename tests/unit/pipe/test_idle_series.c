/* A cardinality explosion: what is idle makes place, whoever still holds it, long before the
 * segment of the log is closed that has it. */
#include "tests/unit/pipe/gateway_fixture.h"

enum { LIMIT = 100 };

static struct tg_table_stats series_of(const struct fixture *f)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const struct tg_table_stats t = s->table;
    free(s);
    return t;
}

static void post_series(const struct fixture *f, unsigned first, unsigned n)
{
    static char text[64 << 10];
    size_t len = 0;
    for (unsigned i = first; i < first + n; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "m,k=%u v=1i %u\n", i, i + 1);
    assert_int_equal(post(f, text), 204);
}

/* Sends a new series until it is taken; it must be within the time that idle ones have. */
static void post_until_taken(const struct fixture *f, unsigned i)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 30000;
    char line[64];
    (void)snprintf(line, sizeof(line), "m,k=%u v=1i %u\n", i, i + 1);
    assert_int_not_equal(post(f, line), 204); /* full */
    while (post(f, line) != 204) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)usleep(20000);
    }
}

/* A few may stay until the segment is closed: it is not worth closing it for them. */
static void wait_forgotten(const struct fixture *f)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 30000;
    for (struct tg_table_stats t = series_of(f); t.n_series || t.n_held > LIMIT / 8;
         t = series_of(f)) {
        if (tg_clock_mono_ms() > deadline_ms)
            fail_msg("%llu series and %llu held", (unsigned long long)t.n_series,
                     (unsigned long long)t.n_held);
        (void)usleep(20000);
    }
}

static void test_all_is_delivered(void **state)
{
    struct fixture *f = *state;
    f->config.limits.max_series = LIMIT;
    f->config.limits.series_idle_s = 1;
    start(f); /* its segments are closed after an hour */
    post_series(f, 0, LIMIT);
    post_until_taken(f, LIMIT);
    wait_empty(f, 0);
    wait_empty(f, 1);
    wait_forgotten(f); /* and their memory is free */
    /* one that comes again is a series as any other */
    post_series(f, 0, 10);
    wait_empty(f, 0);
    assert_seen(0, 1, 10, 2);
    assert_seen(0, 11, LIMIT + 1, 1);
}

static void test_a_backend_is_down(void **state)
{
    struct fixture *f = *state;
    f->config.limits.max_series = LIMIT;
    f->config.limits.series_idle_s = 1;
    atomic_store(&sinks[0].down, true);
    start(f);
    post_series(f, 0, LIMIT);
    post_until_taken(f, LIMIT);
    assert_true(series_of(f).n_held > LIMIT / 2); /* they wait for it */
    atomic_store(&sinks[0].down, false);
    wait_empty(f, 0);
    assert_seen(0, 1, LIMIT + 1, 1);
    wait_forgotten(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_is_delivered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_backend_is_down, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
