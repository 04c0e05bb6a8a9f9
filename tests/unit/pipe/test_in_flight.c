/* A write in flight: however long the backend takes, it holds up no freeing, and what its points
 * need when the answer comes is still there. */
#include "tests/unit/pipe/gateway_fixture.h"

#include "core/pipe/gateway_impl.h"

static _Atomic bool is_freed;

static void on_free(void *p)
{
    (void)p;
    atomic_store(&is_freed, true);
}

static void wait_state(const struct fixture *f, enum tg_delivery_state want)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (state_of(f, 0) != want) {
        if (tg_clock_mono_ms() > deadline_ms) fail_msg("is not %s", tg_delivery_state_name(want));
        (void)usleep(1000);
    }
}

/* What is retired now is freed, though the write has not ended. */
static void assert_frees(const struct fixture *f)
{
    struct tg_deferred_free *guard = tg_table_guard(f->g->table);
    const uint64_t deadline_ms = tg_clock_mono_ms() + 10000;
    atomic_store(&is_freed, false);
    tg_deferred_free_retire(guard, f->g, on_free);
    while (!atomic_load(&is_freed)) {
        (void)tg_deferred_free_poll(guard);
        if (tg_clock_mono_ms() > deadline_ms) fail_msg("a write in flight holds up freeing");
        (void)usleep(1000);
    }
    assert_int_equal(state_of(f, 0), TG_DELIVERY_WRITING);
}

static void test_it_holds_up_no_freeing(void **state)
{
    struct fixture *f = *state;
    atomic_store(&sinks[0].is_silent, true);
    start(f);
    post_range(f, 1, 100, ",only=a");
    wait_state(f, TG_DELIVERY_WRITING);
    assert_frees(f);
    atomic_store(&sinks[0].is_silent, false);
    wait_empty(f, 0);
    assert_seen(0, 1, 100, 1);
}

/* The plans that the write was made with are replaced and freed while it is in flight; then its
 * points are delivered, dead letters of the backend, and dead letters as their series cannot be
 * prepared, each with its reason. */
static void test_plans_are_freed_under_it(void **state)
{
    struct fixture *f = *state;
    char path[128], line[1024];
    unsigned n_refused = 0, n_unprepared = 0;
    sinks[0].skips_negative = true;
    atomic_store(&sinks[0].is_silent, true);
    f->backends[0].linger_ms = 50; /* all of them in one write */
    start(f);
    static const char text[] = "m,k=1,only=a v=1i 1\n"
                               "m,k=2,only=a v=-1i 2\n"
                               "m,k=3,only=a,unprepared=x v=1i 3\n"
                               "m,k=4,only=a v=1i 4\n";
    assert_int_equal(post(f, text), 204);
    wait_state(f, TG_DELIVERY_WRITING);
    reload(f);
    assert_int_equal(post(f, text), 204); /* plans of the new generation */
    for (int i = 0; i < 3; i++) {
        (void)tg_table_sweep(f->g->table, tg_clock_coarse_s());
        assert_frees(f);
    }
    atomic_store(&sinks[0].is_silent, false);
    wait_empty(f, 0);
    assert_seen(0, 1, 1, 2);
    assert_seen(0, 4, 4, 2);
    assert_int_equal(ledger(f, 0).delivered, 4);
    assert_int_equal(ledger(f, 0).dead_lettered, 4);
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    FILE *dead = fopen(path, "r");
    assert_non_null(dead);
    while (fgets(line, sizeof(line), dead)) {
        n_refused += strstr(line, "the backend cannot take this point") != NULL;
        n_unprepared += strstr(line, "no form for this one") != NULL;
    }
    assert_int_equal(fclose(dead), 0);
    assert_int_equal(n_refused, 2);
    assert_int_equal(n_unprepared, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_holds_up_no_freeing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plans_are_freed_under_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
