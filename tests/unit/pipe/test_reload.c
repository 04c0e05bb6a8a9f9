/* Rules that are loaded while the gateway works: aside, in order, and never longer than a stop. */
#include "tests/unit/pipe/gateway_fixture.h"

#include "core/pipe/reload.h"

static const char endless[] = "while true do end\n";
static const char fine[] = "return function(s) return to('a') end\n";

static void ask(const struct fixture *f, struct reloaded *r)
{
    struct tg_err err = {.msg = ""};
    const enum tg_code code = tg_gateway_reload(f->g, 0, on_reload, r, &err);
    if (code != TG_OK) fail_msg("%s", err.msg);
}

static void test_reloads_run_in_order(void **state)
{
    struct fixture *f = *state;
    f->config.rules.max_instructions = INT64_MAX;
    start(f);
    write_file(f->routing, endless);
    static struct reloaded r[TG_RELOAD_MAX_WAITING + 2];
    memset(r, 0, sizeof(r));
    ask(f, &r[0]);
    /* One may have been taken from the list already; of these, none ends in half a second each. */
    unsigned n = 1;
    struct tg_err err = {.msg = ""};
    enum tg_code code = TG_OK;
    while (code == TG_OK && n < TG_RELOAD_MAX_WAITING + 2) {
        code = tg_gateway_reload(f->g, 0, on_reload, &r[n], &err);
        n += code == TG_OK;
    }
    assert_int_equal(code, TG_ERR_FULL);
    assert_non_null(strstr(err.msg, "wait already"));
    assert_true(n >= TG_RELOAD_MAX_WAITING);
    /* The first reads what was there when it was asked for, those after it what is there then. */
    WAIT_UNTIL(atomic_load(&r[0].done));
    assert_int_equal(r[0].result.code, TG_ERR_INVALID);
    assert_int_equal(r[0].result.generation, 1);
    write_file(f->routing, fine);
    WAIT_UNTIL(atomic_load(&r[n - 1].done));
    assert_int_equal(r[n - 1].result.code, TG_OK);
    for (unsigned i = 1; i < n; i++) {
        assert_true(atomic_load(&r[i].done));
        assert_true(r[i].result.generation >= r[i - 1].result.generation);
    }
    assert_true(r[n - 1].result.generation > 1);
}

static void test_a_stop_cuts_a_reload_short(void **state)
{
    struct fixture *f = *state;
    f->config.rules.max_instructions = INT64_MAX;
    f->config.rules.max_ms = 60000;
    start(f);
    write_file(f->routing, endless);
    struct reloaded r[2] = {{.done = false}, {.done = false}};
    ask(f, &r[0]);
    ask(f, &r[1]);
    const uint64_t start_ms = tg_clock_mono_ms();
    stop(f);
    assert_true(tg_clock_mono_ms() - start_ms < 2000);
    for (int i = 0; i < 2; i++) {
        assert_true(atomic_load(&r[i].done));
        assert_int_equal(r[i].result.code, TG_ERR_CANCELED);
        assert_int_equal(r[i].result.generation, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reloads_run_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stop_cuts_a_reload_short, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
