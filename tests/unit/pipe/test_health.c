/* What is said of a backend's health: trouble while it lasts, and that it is over. */
#include "tests/unit/pipe/gateway_fixture.h"

static void look(const struct fixture *f, unsigned backend, struct tg_backend_status *out)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    *out = s->backends[backend];
    free(s);
}

static void wait_for(const struct fixture *f, unsigned backend, bool is_healthy)
{
    struct tg_backend_status s;
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    for (look(f, backend, &s); s.healthy != is_healthy; look(f, backend, &s)) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)usleep(1000);
    }
}

static void test_trouble_that_is_over(void **state)
{
    struct fixture *f = *state;
    struct tg_backend_status s;
    char text[160];
    start(f);
    assert_string_equal(tg_gateway_stuck(f->g, text, sizeof(text)), "");
    for (unsigned twice = 0; twice < 2; twice++) {
        const int64_t began_ns = tg_clock_wall_ns();
        atomic_store(&sinks[0].down, true);
        assert_int_equal(post(f, "m v=1i 1\n"), 204);
        wait_for(f, 0, false);
        look(f, 0, &s);
        assert_string_equal(s.last_error, "down for now");
        assert_int_equal(s.well_ns, 0);
        assert_string_equal(tg_gateway_stuck(f->g, text, sizeof(text)),
                            ", but 1 of 2 backends takes nothing now: a");
        atomic_store(&sinks[0].down, false);
        wait_empty(f, 0);
        wait_for(f, 0, true);
        look(f, 0, &s);
        assert_string_equal(s.last_error, "down for now");
        assert_true(s.last_error_ns >= began_ns);
        assert_true(s.well_ns >= s.last_error_ns);
        const int64_t well_ns = s.well_ns;
        assert_int_equal(post(f, "m v=1i 2\n"), 204);
        wait_empty(f, 0);
        look(f, 0, &s);
        assert_int_equal(s.well_ns, well_ns); /* since then, not since just now */
        assert_string_equal(tg_gateway_stuck(f->g, text, sizeof(text)), "");
    }
    for (int i = 0; i < 2; i++) atomic_store(&sinks[i].down, true);
    assert_int_equal(post(f, "m v=1i 3\n"), 204);
    for (unsigned b = 0; b < 2; b++) wait_for(f, b, false);
    assert_string_equal(tg_gateway_stuck(f->g, text, sizeof(text)),
                        ", but 2 of 2 backends take nothing now: a, b");
    assert_null(tg_gateway_not_ready(f->g, text, sizeof(text))); /* the log takes it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_trouble_that_is_over, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
