/* Restarts of a gateway: with other rules, with other backends, without some of its log. */
#include "tests/unit/pipe/gateway_fixture.h"
#include "tests/support/rng.h"

/* What is waiting at a restart goes where it was routed when it was accepted, in the form that the
 * rules in force then give it; a rule that drops it by then drops it; a rewind goes by the rules in
 * force alone. */
static void test_restart_with_other_rules(void **state)
{
    struct fixture *f = *state;
    start(f);
    atomic_store(&sinks[0].down, true);
    post_range(f, 1, 300, "");
    post_range(f, 301, 310, ",later=dropped");
    wait_empty(f, 1); /* b passed them all while they were for a and b */
    stop(f);
    assert_seen(0, 1, 310, 0);
    write_file(
        f->routing,
        "return function(s) if s.tags.later then return drop('late') end\nreturn to('b') end");
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_seen(0, 1, 300, 1);
    assert_seen(0, 301, 310, 0);
    assert_int_equal(ledger(f, 0).elsewhere, 10);
    post_range(f, 311, 320, "");
    wait_empty(f, 0);
    wait_empty(f, 1);
    assert_seen(0, 311, 320, 0);
    assert_seen(1, 1, 320, 1);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    wait_empty(f, 0);
    assert_seen(0, 1, 300, 1);
}

/* Backends are numbered by name: another configuration, other numbers, the same routing. */
static void test_restart_with_other_backends(void **state)
{
    struct fixture *f = *state;
    start(f);
    atomic_store(&sinks[0].down, true);
    atomic_store(&sinks[1].down, true);
    post_range(f, 1, 50, ",only=b");
    post_range(f, 51, 80, ",only=a");
    stop(f);
    atomic_store(&sinks[1].down, false);
    f->backends[0] = f->backends[1]; /* b alone, now number 0 */
    f->names[0] = "b";
    f->backends[0].name = "b";
    f->config.n_backends = f->config.rules.n_backends = 1;
    start(f);
    wait_empty(f, 0);
    assert_seen(1, 1, 50, 1);
    assert_seen(1, 51, 80, 0);
    assert_seen(0, 1, 80, 0);
}

/* What came while a backend was not configured was not routed to it. A rewind brings it, also when
 * the backend has not passed it yet, and what waits for it comes wherever the rules route by then.
 */
static void test_rewind_brings_what_came_while_it_was_out(void **state)
{
    struct fixture *f = *state;
    start(f);
    post_range(f, 1, 10, "");
    wait_empty(f, 1);
    atomic_store(&sinks[1].down, true);
    post_range(f, 11, 20, ",only=b"); /* waits for b alone */
    stop(f);
    f->config.n_backends = f->config.rules.n_backends = 1;
    write_file(f->routing, "return function(s) end");
    start(f);
    post_range(f, 21, 40, "");
    wait_empty(f, 0);
    stop(f);
    f->config.n_backends = f->config.rules.n_backends = 2;
    write_file(f->routing,
               "return function(s) if s.tags.only then return to('a') end return to('b') end");
    start(f);
    assert_int_equal(rewind_backend(f, 1, TG_REWIND_TIME, 5), TG_OK);
    stop(f); /* and it is remembered */
    start(f);
    atomic_store(&sinks[1].down, false);
    wait_empty(f, 1);
    assert_seen(1, 1, 10, 2);
    assert_seen(1, 11, 20, 1);
    assert_seen(1, 21, 40, 1);
    assert_int_equal(ledger(f, 1).elsewhere, 0);
    /* passed, so that all goes by the rules in force now */
    assert_int_equal(rewind_backend(f, 1, TG_REWIND_START, 0), TG_OK);
    wait_empty(f, 1);
    assert_seen(1, 11, 20, 1);
    assert_seen(1, 21, 40, 2);
}

/* What is missing behind a cursor is counted, not forgotten. */
static void test_missing_segment_is_counted_as_lost(void **state)
{
    struct fixture *f = *state;
    f->config.log.segment_bytes = 4096;
    start(f);
    post_range(f, 1, 100, "");
    wait_empty(f, 0);
    atomic_store(&sinks[0].down, true);
    stop(f); /* the next start begins a segment */
    remove_oldest_segment(f);
    start(f);
    for (int i = 0; i < 20; i++) post_range(f, 101 + i * 100, 200 + i * 100, "");
    stop(f);
    remove_oldest_segment(f);
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    const struct tg_ledger l = ledger(f, 0);
    assert_true(l.lost > 0);
    assert_int_equal(l.lost + l.delivered, 2100);
    /* nor may a backend clear away what the log cannot bring back */
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    assert_true(sinks[0].opened_at >= s->log.start_pos);
    free(s);
}

/* Many series that a backend was to have when their points came, but by the rules not any more. */
static void test_many_series_routed_elsewhere_since(void **state)
{
    enum { N = 9000, NAME = 1000 };
    struct fixture *f = *state;
    static char text[(NAME + 40) * 500];
    f->backends[0].batch_points = 100000;
    atomic_store(&sinks[0].down, true);
    start(f);
    for (int i = 1; i <= N;) {
        size_t n = 0;
        for (int k = 0; k < 500 && i <= N; k++, i++) {
            const int at = snprintf(text + n, sizeof(text) - n, "wide%d_", i);
            n += (size_t)at;
            memset(text + n, 'x', (size_t)(NAME - at));
            n += (size_t)(NAME - at);
            n += (size_t)snprintf(text + n, sizeof(text) - n, " v=1i %d\n", i);
        }
        assert_int_equal(post(f, text), 204);
    }
    stop(f);
    write_file(f->routing, "return function(s) return to('b') end");
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_seen(0, 1, N, 1);
}

/* A backend that was taken out of the configuration does not fill the log for the others. */
static void test_removed_backend_does_not_fill_the_log(void **state)
{
    struct fixture *f = *state;
    f->config.log.segment_bytes = 4096;
    f->config.log.max_bytes = 32768;
    atomic_store(&sinks[1].down, true);
    start(f);
    post_range(f, 1, 100, "");
    stop(f);
    f->config.n_backends = 1;
    f->config.rules.n_backends = 1;
    start(f);
    uint64_t rng = 1;
    for (int i = 101; i <= 180; i++) {
        char line[3000];
        int n = snprintf(line, sizeof(line), "m s=\"");
        while (n < 2000)
            n += snprintf(line + n, sizeof(line) - (size_t)n, "%lx", (unsigned long)rng_next(&rng));
        (void)snprintf(line + n, sizeof(line) - (size_t)n, "\" %d\n", i);
        const uint64_t deadline_ms = tg_clock_mono_ms() + 10000;
        while (post(f, line) != 204) { /* full until the cursor's file says what went */
            assert_true(tg_clock_mono_ms() < deadline_ms);
            (void)usleep(20 * 1000);
        }
        wait_empty(f, 0);
    }
    wait_empty(f, 0);
    stop(f);
    /* put back, it goes on with what is left, and knows what is not */
    f->config.n_backends = 2;
    f->config.rules.n_backends = 2;
    atomic_store(&sinks[1].down, false);
    start(f);
    wait_empty(f, 1);
    const struct tg_ledger l = ledger(f, 1);
    assert_true(l.lost > 0);
    assert_int_equal(l.lost + l.delivered + l.elsewhere, 180);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_restart_with_other_rules, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart_with_other_backends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rewind_brings_what_came_while_it_was_out, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_missing_segment_is_counted_as_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_series_routed_elsewhere_since, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed_backend_does_not_fill_the_log, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
