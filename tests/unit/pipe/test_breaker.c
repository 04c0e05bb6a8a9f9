/* Scripts that overrun their budgets again and again are not run any more; and how they come back.
 */
#include <unistd.h>

#include "core/pipe/planner.h"
#include "core/vm/breaker.h"
#include "tests/unit/rules/rules_fixture.h"

#define S UINT64_C(1000000000)

static const char loops_for_bad[] = "return function(series)\n"
                                    "  if series.name == 'bad' then while true do end end\n"
                                    "  return to('influx')\n"
                                    "end";

static void begin(struct fixture *f)
{
    tg_clock_set_test(1, S);
    fx_init(f, (const char *const[]){NULL, loops_for_bad, NULL, NULL});
    f->config.max_instructions = 10000;
    f->config.on_error_targets = 1;
    fx_load(f);
}

static void end(struct fixture *f)
{
    fx_deinit(f);
    tg_clock_set_test(-1, 0);
}

static void at(uint64_t s)
{
    tg_clock_set_test(1, s * S);
}

static bool runs(struct fixture *f, const char *name)
{
    const uint64_t before = tg_rules_stats(f->rules).n_not_run;
    const struct tg_decision d = fx_decide(f, fx_series(name, NULL), NULL);
    const bool ran = tg_rules_stats(f->rules).n_not_run == before;
    assert_int_equal(d.generation, ran ? tg_rules_generation(f->rules) : 0);
    assert_int_equal(d.failed, !ran || strcmp(name, "bad") == 0);
    assert_int_equal(d.targets, d.failed ? 1 : 4);
    return ran;
}

static bool is_open(const struct fixture *f)
{
    return tg_rules_stats(f->rules).is_breaker_open;
}

static void test_it_opens_and_closes(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (int i = 0; i < 5; i++) {
        assert_false(is_open(&f));
        assert_true(runs(&f, "bad"));
    }
    assert_true(is_open(&f));
    const struct tg_rules_stats s = tg_rules_stats(f.rules);
    assert_non_null(strstr(s.last_error, "routing.lua:2: stopped after 10000 instructions"));
    assert_non_null(strstr(s.last_error, "overruns too often: rules are off"));
    assert_int_equal(s.breaker_open_ms, 0);
    for (int i = 0; i < 3; i++) {
        assert_false(runs(&f, "good"));
        assert_false(runs(&f, "bad"));
    }
    assert_int_equal(tg_rules_stats(f.rules).n_budget_overruns, 5);
    assert_true(tg_rules_is_broken(f.rules, 0));

    /* One is tried every ten seconds: first one that loops, then one that does not. */
    at(11);
    assert_false(tg_rules_is_broken(f.rules, 0));
    assert_true(runs(&f, "bad"));
    assert_true(is_open(&f));
    assert_false(runs(&f, "good"));
    at(20);
    assert_false(runs(&f, "good"));
    assert_int_equal(tg_rules_stats(f.rules).breaker_open_ms, 19000); /* since it opened */
    at(21);
    assert_true(runs(&f, "good"));
    assert_false(is_open(&f));
    assert_int_equal(tg_rules_stats(f.rules).breaker_open_ms, 0);
    assert_true(runs(&f, "bad"));
    assert_true(runs(&f, "good"));
    end(&f);
}

/* A decision that began before it opened, and ends well after, does not close it. */
static void test_only_the_one_that_is_tried_closes_it(void **state)
{
    (void)state;
    struct tg_breaker b;
    tg_breaker_init(&b);
    const enum tg_breaker_turn early = tg_breaker_ask(&b, S);
    assert_int_equal(early, TG_BREAKER_RUNS);
    for (int i = 0; i < 4; i++)
        assert_int_equal(tg_breaker_note(&b, early, true, S), TG_BREAKER_STAYS);
    assert_int_equal(tg_breaker_note(&b, early, true, S), TG_BREAKER_OPENS);
    assert_int_equal(tg_breaker_ask(&b, S), TG_BREAKER_REFUSES);
    assert_int_equal(tg_breaker_note(&b, early, false, S), TG_BREAKER_STAYS);
    assert_true(tg_breaker_is_open(&b));
    assert_int_equal(tg_breaker_ask(&b, 11 * S), TG_BREAKER_TRIES);
    assert_int_equal(tg_breaker_ask(&b, 11 * S), TG_BREAKER_REFUSES);
    assert_int_equal(tg_breaker_note(&b, early, false, 11 * S), TG_BREAKER_STAYS);
    assert_true(tg_breaker_is_open(&b));
    assert_int_equal(tg_breaker_note(&b, TG_BREAKER_TRIES, false, 11 * S), TG_BREAKER_CLOSES);
    assert_false(tg_breaker_is_open(&b));
}

/* Without memory nothing is decided for good: neither a series without a plan nor one with. */
static void test_no_memory_decides_nothing_for_good(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL,
                                      "return function(series)\n"
                                      "  local t = {} for i = 1, 50 do t[i] = {i} end\n"
                                      "  return to('influx')\n"
                                      "end",
                                      NULL, NULL});
    f.config.on_error_targets = 1;
    fx_load(&f);
    unsigned n_refused = 0;
    for (uint64_t n = 1; n < 100; n++) {
        struct tg_decision d;
        tg_arena_reset(&f.arena);
        const struct tg_series_desc *series = fx_series("m", NULL);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_rules_decide(f.rules, 0, series, &f.arena, &d, NULL);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (code != TG_OK || !fired) continue;
        if (d.failed) n_refused++;
        assert_int_equal(d.generation, d.failed ? 0 : tg_rules_generation(f.rules));
        assert_int_equal(fx_decide(&f, fx_series("m", NULL), NULL).generation, 1);
    }
    assert_true(n_refused > 5);
    tg_mem_set_limit(1); /* not even one VM */
    struct tg_rules_stats before = tg_rules_stats(f.rules);
    for (int i = 0; i < 100; i++) {
        struct tg_decision d;
        tg_arena_reset(&f.arena);
        if (tg_rules_decide(f.rules, 0, fx_series("m", NULL), &f.arena, &d, NULL) == TG_OK)
            assert_int_equal(d.generation, 0);
    }
    assert_true(tg_rules_is_broken(f.rules, 0));
    assert_true(tg_rules_stats(f.rules).n_errors > before.n_errors);
    tg_mem_set_limit(0);
    const uint64_t deadline_ms = tg_clock_mono_ms() + 10000;
    while (tg_rules_is_broken(f.rules, 0) && tg_clock_mono_ms() < deadline_ms) (void)usleep(1000);
    assert_int_equal(fx_decide(&f, fx_series("m", NULL), NULL).targets, 4);
    fx_deinit(&f);
}

static void test_a_reload_closes_it(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (int i = 0; i < 5; i++) assert_true(runs(&f, "bad"));
    assert_false(runs(&f, "good"));
    fx_write(&f, FX_ROUTING, "oops", 4);
    assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_ERR_INVALID);
    assert_true(is_open(&f)); /* the old rules are still the ones in force */
    assert_false(runs(&f, "good"));
    fx_write(&f, FX_ROUTING, loops_for_bad, strlen(loops_for_bad));
    assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_OK);
    assert_false(is_open(&f));
    assert_false(tg_rules_is_broken(f.rules, 0));
    assert_true(runs(&f, "good"));
    end(&f);
}

/* A few series that loop do not take the rules from the others. */
static void test_few_overruns_do_not_open_it(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (int i = 0; i < 300; i++) assert_true(runs(&f, i % 6 == 0 ? "bad" : "good"));
    assert_false(is_open(&f));
    for (int i = 0; i < 300 && !is_open(&f); i++) (void)runs(&f, i % 3 == 0 ? "bad" : "good");
    assert_true(is_open(&f));
    end(&f);
}

/* explain asks what is wrong: it sees the rule fail, and its runs count for nothing. */
static void test_explain_runs_all_the_same(void **state)
{
    (void)state;
    struct fixture f;
    struct tg_rules_trace trace;
    begin(&f);
    for (int i = 0; i < 10; i++) {
        assert_true(fx_decide(&f, fx_series("bad", NULL), &trace).failed);
        assert_int_equal(trace.steps[FX_ROUTING].line, 2);
    }
    assert_false(is_open(&f));
    for (int i = 0; i < 5; i++) assert_true(runs(&f, "bad"));
    assert_int_equal(fx_decide(&f, fx_series("good", NULL), &trace).targets, 4);
    assert_true(is_open(&f));
    end(&f);
}

static void assert_same(const struct tg_rules_stats *before, const struct fixture *f)
{
    const struct tg_rules_stats s = tg_rules_stats(f->rules);
    assert_int_equal(s.n_decisions, before->n_decisions);
    assert_int_equal(s.n_errors, before->n_errors);
    assert_int_equal(s.n_budget_overruns, before->n_budget_overruns);
    assert_int_equal(s.n_not_run, before->n_not_run);
    assert_string_equal(s.last_error, before->last_error);
}

/* Whoever looks, at a rule that fails, overruns or cannot run, changes no number and no message. */
static void test_a_look_counts_for_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct tg_rules_trace trace;
    fx_init(&f, (const char *const[]){NULL,
                                      "return function(series)\n"
                                      "  if series.name == 'bad' then error('no') end\n"
                                      "  if series.name == 'loops' then while true do end end\n"
                                      "end",
                                      NULL, NULL});
    f.config.max_instructions = 10000;
    fx_load(&f);
    assert_true(fx_decide(&f, fx_series("bad", NULL), NULL).failed);
    const struct tg_rules_stats before = tg_rules_stats(f.rules);
    assert_int_equal(before.n_errors, 1);
    assert_string_equal(before.last_error, "routing.lua:2: no");
    for (int twice = 0; twice < 2; twice++) {
        assert_true(fx_decide(&f, fx_series("bad", NULL), &trace).failed);
        assert_string_equal(trace.error, "routing.lua:2: no");
        assert_true(fx_decide(&f, fx_series("loops", NULL), &trace).failed);
        assert_non_null(strstr(trace.error, "routing.lua:3: stopped after 10000 instructions"));
        assert_false(fx_decide(&f, fx_series("good", NULL), &trace).failed);
        assert_string_equal(trace.error, "");
        assert_same(&before, &f);
    }
    tg_mem_set_limit(1); /* a VM that is beyond use cannot be replaced */
    for (int i = 0; i < 3; i++) {
        struct tg_decision d;
        tg_arena_reset(&f.arena);
        const struct tg_series_desc *series = fx_series("loops", NULL);
        const enum tg_code code = tg_rules_decide(f.rules, 0, series, &f.arena, &d, &trace);
        assert_true(code == TG_OK || code == TG_ERR_NOMEM);
    }
    tg_mem_set_limit(0);
    assert_same(&before, &f);
    fx_deinit(&f);
}

/* Looks wait for each other, for longer than which a large rules.max_time must not run one. */
static void test_explain_is_short(void **state)
{
    (void)state;
    struct fixture f;
    struct tg_rules_trace trace;
    fx_init(&f, (const char *const[]){NULL, loops_for_bad, NULL, NULL});
    f.config.max_instructions = INT64_MAX;
    f.config.max_ms = 60000;
    fx_load(&f);
    assert_true(fx_decide(&f, fx_series("bad", NULL), &trace).failed);
    assert_string_equal(trace.steps[FX_ROUTING].note, "stopped after 500 ms, its budget");
    fx_deinit(&f);
}

static void test_nothing_is_decided_after_the_stop(void **state)
{
    (void)state;
    struct fixture f;
    struct tg_decision d;
    begin(&f);
    at(50);
    tg_rules_stop_at(f.rules, 60 * S);
    assert_true(runs(&f, "good"));
    at(60);
    const struct tg_series_desc *series = fx_series("good", NULL);
    assert_int_equal(tg_rules_decide(f.rules, 0, series, &f.arena, &d, NULL), TG_ERR_CANCELED);
    end(&f);
    /* and a rule that runs by then is cut, whatever its budget */
    fx_init(&f, (const char *const[]){NULL, loops_for_bad, NULL, NULL});
    f.config.max_instructions = INT64_MAX;
    f.config.max_ms = 60000;
    fx_load(&f);
    const uint64_t start_ms = tg_clock_mono_ms();
    tg_rules_stop_at(f.rules, tg_clock_mono_ns() + 50 * 1000000);
    series = fx_series("bad", NULL);
    assert_int_equal(tg_rules_decide(f.rules, 0, series, &f.arena, &d, NULL), TG_ERR_CANCELED);
    assert_true(tg_clock_mono_ms() - start_ms < 2000);
    assert_int_equal(tg_rules_stats(f.rules).n_budget_overruns, 0);
    fx_deinit(&f);
}

/* --- what becomes of plans --- */

static enum tg_code prepare(void *backend, const struct tg_series_desc *mapped, struct tg_buf *out,
                            struct tg_err *err)
{
    (void)backend;
    (void)err;
    return tg_series_desc_print(mapped, out);
}

static void test_plans_made_meanwhile_are_for_now_only(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    const struct tg_table_config config = {.idle_s = 10};
    struct tg_table *table = tg_table_new(&config);
    struct tg_preparer preparers[3] = {{.fn = prepare}, {.fn = prepare}, {.fn = prepare}};
    struct tg_planner planner;
    tg_planner_init(&planner, f.rules, table, preparers, 3, 0);
    const int ticket = tg_deferred_free_enter(tg_table_guard(table));
    struct tg_series *s = NULL;
    struct tg_series_desc desc = *fx_series("good", NULL);
    assert_int_equal(tg_table_intern(table, &desc, &s, NULL), TG_OK);

    for (int i = 0; i < 5; i++) assert_true(runs(&f, "bad"));
    const struct tg_plan *p = tg_planner_plan(&planner, s, tg_rules_generation(f.rules));
    assert_int_equal(p->targets, 1);
    /* no decision of its own for each of its points */
    assert_ptr_equal(tg_planner_plan(&planner, s, tg_rules_generation(f.rules)), p);
    assert_int_equal(tg_rules_stats(f.rules).n_not_run, 1);
    at(11);
    p = tg_planner_plan(&planner, s, tg_rules_generation(f.rules));
    assert_int_equal(p->targets, 4);
    assert_false(p->failed);
    assert_false(is_open(&f));
    assert_ptr_equal(tg_planner_plan(&planner, s, tg_rules_generation(f.rules)), p);

    tg_deferred_free_exit(tg_table_guard(table), ticket);
    tg_planner_deinit(&planner);
    tg_table_free(table);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_opens_and_closes),
        cmocka_unit_test(test_only_the_one_that_is_tried_closes_it),
        cmocka_unit_test(test_no_memory_decides_nothing_for_good),
        cmocka_unit_test(test_a_reload_closes_it),
        cmocka_unit_test(test_few_overruns_do_not_open_it),
        cmocka_unit_test(test_explain_runs_all_the_same),
        cmocka_unit_test(test_a_look_counts_for_nothing),
        cmocka_unit_test(test_explain_is_short),
        cmocka_unit_test(test_nothing_is_decided_after_the_stop),
        cmocka_unit_test(test_plans_made_meanwhile_are_for_now_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
