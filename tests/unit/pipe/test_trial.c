/* New rules are tried on the live series before they are in force. */
#include <pthread.h>
#include <stdatomic.h>

#include "core/pipe/trial.h"
#include "core/pipe/merge.h"
#include "tests/unit/rules/rules_fixture.h"

#define R(body) "return function(series) " body " end"

static struct tg_rules_report report;

struct rig {
    struct fixture f;
    struct tg_table *table;
    struct tg_merges merges;
    struct tg_planner planner, reload; /* of the threads that take points, and that reloads */
};

static void rig_init_with(struct rig *r, const char *const texts[FX_SCRIPTS], uint32_t trial_ms)
{
    fx_init(&r->f, texts);
    r->f.config.trial_ms = trial_ms;
    r->f.config.n_slots = 2;
    fx_load(&r->f);
    r->table = tg_table_new(&(struct tg_table_config){.idle_s = 10});
    assert_non_null(r->table);
    tg_planner_init(&r->planner, r->f.rules, r->table, NULL, 0, 0);
    tg_planner_init(&r->reload, r->f.rules, r->table, NULL, 0, 1);
    tg_merges_init(&r->merges, r->table, fx_backends, texts[FX_TAGS] != NULL, false);
    r->planner.merges = r->reload.merges = &r->merges;
}

static void rig_init(struct rig *r, const char *routing, uint32_t trial_ms)
{
    rig_init_with(r, (const char *const[]){NULL, routing, NULL, NULL}, trial_ms);
}

static void rig_deinit(struct rig *r)
{
    tg_planner_deinit(&r->planner);
    tg_planner_deinit(&r->reload);
    assert_true(tg_table_validate(r->table));
    /* No reference is left behind: all of them can leave. */
    for (int i = 0; i < 4; i++) (void)tg_table_sweep(r->table, tg_clock_coarse_s() + 100);
    assert_int_equal(tg_table_stats(r->table).n_series, 0);
    tg_merges_deinit(&r->merges);
    tg_table_free(r->table);
    fx_deinit(&r->f);
}

/* Makes series and decides them by the rules in force. */
static void make_series(struct rig *r, const char *prefix, int n)
{
    const int ticket = tg_deferred_free_enter(tg_table_guard(r->table));
    for (int i = 0; i < n; i++) {
        char name[64];
        const int len = snprintf(name, sizeof(name), "%s%d", prefix, i);
        struct tg_series_desc d = {.name = name, .name_len = (uint32_t)len, .unit = ""};
        struct tg_series *s;
        assert_int_equal(tg_table_intern(r->table, &d, &s, NULL), TG_OK);
        assert_non_null(tg_planner_plan(&r->planner, s, tg_rules_generation(r->f.rules)));
    }
    tg_deferred_free_exit(tg_table_guard(r->table), ticket);
}

static enum tg_code run_trial(void *in_force, struct tg_rules_candidate *c,
                              struct tg_rules_report *to)
{
    return tg_trial_run(in_force, c, to);
}

static enum tg_code reload(struct rig *r, const char *routing, bool is_forced, bool is_strict)
{
    const struct tg_rules_reload_how how = {
        .is_forced = is_forced, .is_strict = is_strict, .trial = run_trial, .arg = &r->reload};
    fx_write(&r->f, FX_ROUTING, routing, strlen(routing));
    return tg_rules_reload_tried(r->f.rules, &how, &report, &r->f.err);
}

static void test_what_newly_fails_refuses_the_reload(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, R("if series.name:find('^bad') then error('no') end return to('influx')"), 60000);
    make_series(&r, "bad", 5);
    make_series(&r, "a.", 300);
    make_series(&r, "b.", 1);
    /* The same and one more fail: only what did not fail before counts. */
    static const char worse[] =
        R("if series.name:find('^bad') then error('no') end\n"
          "return to(series.name:sub(1, 2) == 'a.' and 'inf' .. 'lx' or series.name)");
    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(reload(&r, worse, false, false), TG_ERR_INVALID);
        assert_non_null(strstr(r.f.err.msg, "routing.lua:2: to(): no backend is called \"inflx\""));
        assert_int_equal(report.n_errors, 2);
        assert_int_equal(report.n_live, 306);
        assert_int_equal(report.n_decided, 306);
        bool has_many = false;
        bool has_one = false;
        for (uint32_t i = 0; i < report.n_items; i++) {
            has_many |= strstr(report.items[i].text, "(300 live series that the rules in force "
                                                     "decide, such as: \"a.") != NULL;
            has_one |= strstr(report.items[i].text, "(1 live series that the rules in force "
                                                    "decide: \"b.0\")") != NULL;
        }
        assert_true(has_many);
        assert_true(has_one);
        assert_int_equal(tg_rules_generation(r.f.rules), 1);
    }
    const struct tg_rules_stats before = tg_rules_stats(r.f.rules);
    assert_int_equal(before.n_errors, 5); /* of the decisions above: a trial counts nothing */
    assert_int_equal(reload(&r, worse, true, true), TG_OK);
    assert_int_equal(report.n_errors, 2);
    assert_int_equal(tg_rules_generation(r.f.rules), 2);
    rig_deinit(&r);
}

static void test_fine_rules_are_not_held_up(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, R("return to('influx')"), 60000);
    make_series(&r, "a.", 100);
    assert_int_equal(reload(&r, R("return to('archive')"), false, true), TG_OK);
    assert_int_equal(report.n_items, 0);
    assert_int_equal(report.n_decided, 100);
    /* Series that never had a decision that did not fail do not count. */
    assert_int_equal(reload(&r, R("error('x')"), true, false), TG_OK);
    make_series(&r, "a.", 100);
    assert_int_equal(reload(&r, R("error('y')"), false, false), TG_OK);
    rig_deinit(&r);
}

static void test_strict_takes_warnings_for_errors(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, R("return to('influx')"), 60000);
    static const char warns[] = R("if series.tags.x then return dorp('x') end");
    assert_int_equal(reload(&r, warns, false, true), TG_ERR_INVALID);
    assert_non_null(strstr(r.f.err.msg, "did you mean \"drop\""));
    assert_int_equal(reload(&r, warns, false, false), TG_OK);
    assert_int_equal(report.n_warnings, 1);
    rig_deinit(&r);
}

static void test_a_trial_has_its_time(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, R("return to('influx')"), 1);
    make_series(&r, "a.", 5000);
    static const char slow[] = R("for i = 1, 50000 do local _ = i end return to('archive')");
    assert_int_equal(reload(&r, slow, false, false), TG_OK);
    assert_int_equal(report.n_live, 5000);
    assert_true(report.n_decided < 5000);
    assert_int_equal(report.n_warnings, 1);
    assert_non_null(strstr(report.items[0].text, "of 5000 live series in rules.trial_time"));
    assert_non_null(strstr(report.items[0].text, "keeps the decision that it had last"));
    assert_int_equal(reload(&r, slow, false, true), TG_ERR_INVALID);
    rig_deinit(&r);
    rig_init(&r, R("return to('influx')"), 0); /* none at all */
    make_series(&r, "a.", 5);
    assert_int_equal(reload(&r, R("error('x')"), false, true), TG_OK);
    assert_int_equal(report.n_decided, 0);
    rig_deinit(&r);
}

static void test_a_trial_that_grows_goes_on_in_a_fresh_vm(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, R("return to('influx')"), 60000);
    r.f.config.max_bytes = 1 << 20;
    make_series(&r, "a.", 2000);
    /* Garbage beyond the VM's memory, and a bomb for some. */
    assert_int_equal(
        reload(&r,
               R("local s = ('x'):rep(100000) if series.name:find('7$') then while true "
                 "do s = s .. s end end return to('archive')"),
               false, false),
        TG_ERR_INVALID);
    assert_int_equal(report.n_decided, 2000);
    rig_deinit(&r);
}

static enum tg_code cancel(void *rules, struct tg_rules_candidate *c, struct tg_rules_report *to)
{
    (void)to;
    struct tg_arena arena;
    struct tg_decision d;
    char why[64];
    const struct tg_series_desc series = {.name = "m", .name_len = 1, .unit = ""};
    tg_arena_init(&arena, 0);
    assert_int_equal(tg_rules_candidate_decide(c, &series, &arena, &d, why, sizeof(why)), TG_OK);
    tg_rules_cancel_load(rules);
    assert_int_equal(tg_rules_candidate_decide(c, &series, &arena, &d, why, sizeof(why)),
                     TG_ERR_TIMEOUT);
    tg_arena_deinit(&arena);
    return TG_OK;
}

static void test_a_stop_ends_a_trial(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, R("return to('influx')"), 60000);
    const struct tg_rules_reload_how how = {.trial = cancel, .arg = r.f.rules};
    assert_int_equal(tg_rules_reload_tried(r.f.rules, &how, &report, &r.f.err), TG_ERR_CANCELED);
    assert_int_equal(tg_rules_generation(r.f.rules), 1);
    rig_deinit(&r);
}

struct busy {
    struct rig *r;
    _Atomic bool *stop;
};

/* Series come and are decided, as an ingest worker has them do. */
static void *make_and_decide(void *arg)
{
    struct busy *b = arg;
    for (int n = 0; !atomic_load(b->stop); n++) {
        char prefix[32];
        (void)snprintf(prefix, sizeof(prefix), "n%d.", n % 50);
        make_series(b->r, prefix, 20);
    }
    return NULL;
}

/* And leave. */
static void *sweep_all(void *arg)
{
    struct busy *b = arg;
    while (!atomic_load(b->stop)) (void)tg_table_sweep(b->r->table, tg_clock_coarse_s() + 100);
    return NULL;
}

static void test_series_come_and_go_meanwhile(void **state)
{
    (void)state;
    enum { RELOADS = 20 };
    struct rig r;
    rig_init(&r, R("return to('influx')"), 60000);
    make_series(&r, "a.", 500);
    _Atomic bool stop = false;
    struct busy busy = {.r = &r, .stop = &stop};
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, make_and_decide, &busy), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, sweep_all, &busy), 0);
    for (int i = 0; i < RELOADS; i++) {
        const enum tg_code code = reload(&r,
                                         i % 2 ? R("return to('archive')")
                                               : R("return to(series.name:sub(1, 1) == 'n' and "
                                                   "'none' .. '' or 'influx')"),
                                         i % 4 == 0, false);
        /* Refused only by what fails: the series that come, while they are there. */
        assert_true(code == TG_OK || (i % 4 == 2 && strstr(r.f.err.msg, "\"none\"")));
        assert_true(report.n_decided == report.n_live);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    rig_deinit(&r);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, R("return to('influx')"), 60000);
    make_series(&r, "a.", 3);
    for (uint64_t n = 1;; n += 7) {
        const uint64_t generation = tg_rules_generation(r.f.rules);
        tg_mem_fail_at(n);
        const enum tg_code code = reload(&r, R("return to('archive')"), false, false);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_true(code == TG_OK || code == TG_ERR_NOMEM || code == TG_ERR_INVALID);
        assert_int_equal(tg_rules_generation(r.f.rules), generation + (code == TG_OK));
        if (!fired) break;
    }
    rig_deinit(&r);
}

/* Rules that make one of several series: a warning with how many, and which. */
static void test_what_becomes_one_is_a_warning(void **state)
{
    (void)state;
    static const char rename[] = R("if series.name:find('^a') then series.name = 'all' end");
    struct rig r;
    rig_init_with(&r, (const char *const[]){R(""), R(""), NULL, NULL}, 60000);
    make_series(&r, "a.", 5);
    make_series(&r, "b.", 3);
    fx_write(&r.f, FX_TAGS, rename, strlen(rename));
    assert_int_equal(reload(&r, R(""), false, true), TG_ERR_INVALID); /* strict */
    assert_int_equal(reload(&r, R(""), false, false), TG_OK);
    assert_int_equal(report.n_errors, 0);
    assert_int_equal(report.n_warnings, 1);
    assert_memory_equal(report.items[0].text, "5 live series become one: all (one of them a.", 45);
    /* dropped ones are none */
    assert_int_equal(reload(&r, R("return drop()"), false, false), TG_OK);
    assert_int_equal(report.n_warnings, 0);
    rig_deinit(&r);
}

/* What is one by the rules in force is said, and refuses nothing. */
static void test_what_is_one_already(void **state)
{
    (void)state;
    static const char same[] =
        R("if series.name:find('^a') then series.name = 'all' end local _ = 1");
    static const char more[] = R("if series.name:find('^[ac]') then series.name = 'all' end");
    static const char other[] = R("if series.name:find('^[ab]') then series.name = 'both' end");
    struct rig r;
    rig_init_with(&r,
                  (const char *const[]){R("if series.name:find('^a') then series.name = 'all' end"),
                                        R(""), NULL, NULL},
                  60000);
    make_series(&r, "a.", 5);
    make_series(&r, "b.", 3);
    for (int i = 0; i < 3; i++) { /* the second time no series has been decided since */
        fx_write(&r.f, FX_TAGS, same, strlen(same));
        assert_int_equal(reload(&r, R(""), false, true), TG_OK);
        assert_int_equal(report.n_warnings, 1);
        assert_int_equal(report.n_notes, 1);
        assert_memory_equal(report.items[0].text,
                            "5 live series are one, as they were before: all ", 48);
    }
    make_series(&r, "c.", 1);
    fx_write(&r.f, FX_TAGS, more, strlen(more)); /* one more joins them */
    assert_int_equal(reload(&r, R(""), false, true), TG_ERR_INVALID);
    assert_non_null(strstr(r.f.err.msg, "6 live series become one: all"));
    fx_write(&r.f, FX_TAGS, other,
             strlen(other)); /* another form, of some that were one and others */
    assert_int_equal(reload(&r, R(""), false, true), TG_ERR_INVALID);
    assert_non_null(strstr(r.f.err.msg, "8 live series become one: both"));
    rig_deinit(&r);
}

/* Which plan a series has at its next point. */
static const struct tg_plan *plan_of(struct rig *r, const char *name)
{
    struct tg_series_desc d = {.name = name, .name_len = (uint32_t)strlen(name), .unit = ""};
    struct tg_series *s;
    const int ticket = tg_deferred_free_enter(tg_table_guard(r->table));
    assert_int_equal(tg_table_intern(r->table, &d, &s, NULL), TG_OK);
    const struct tg_plan *p = tg_planner_plan(&r->planner, s, tg_rules_generation(r->f.rules));
    assert_non_null(p);
    assert_int_equal(p->generation, tg_rules_generation(r->f.rules));
    tg_deferred_free_exit(tg_table_guard(r->table), ticket); /* nothing is swept here */
    return p;
}

/* A series without points for several reloads, whose rules then fail, keeps what the rules decide
 * that were in force until then, not what was computed last. */
static void test_keeps_the_decision_in_force(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, R("return to('archive', 'timescale', 'influx')"), 60000);
    make_series(&r, "secret.", 3);
    assert_int_equal(plan_of(&r, "secret.0")->targets, 7);
    /* No longer everywhere; no point comes. */
    assert_int_equal(reload(&r, R("return to('influx')"), false, false), TG_OK);
    static const char fails[] = R("error('no')");
    assert_int_equal(reload(&r, fails, false, false), TG_ERR_INVALID);
    assert_non_null(strstr(r.f.err.msg, "(3 live series that the rules in force decide"));
    assert_int_equal(reload(&r, fails, true, false), TG_OK);
    const struct tg_plan *p = plan_of(&r, "secret.0");
    assert_true(p->failed && p->kept);
    assert_int_equal(p->targets, 4);
    /* Again and again, and without a point between. */
    for (int i = 0; i < 3; i++) assert_int_equal(reload(&r, fails, false, false), TG_OK);
    assert_int_equal(plan_of(&r, "secret.1")->targets, 4);
    assert_int_equal(plan_of(&r, "secret.0")->targets, 4);
    /* Rules that decide it, and others that do, and none of them asked. */
    assert_int_equal(reload(&r, R("return to('archive')"), false, false), TG_OK);
    assert_int_equal(reload(&r, R("return to('timescale')"), false, false), TG_OK);
    assert_int_equal(reload(&r, fails, true, false), TG_OK);
    assert_int_equal(plan_of(&r, "secret.2")->targets, 2);
    rig_deinit(&r);
}

/* One that fails with the rules in force is no news, whatever older rules made of it. */
static void test_what_fails_now_is_no_news(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, R("return to('influx')"), 60000);
    make_series(&r, "a.", 2);
    assert_int_equal(reload(&r, R("error('x')"), true, false), TG_OK);
    assert_int_equal(reload(&r, R("error('y')"), false, false), TG_OK);
    assert_int_equal(report.n_errors, 0);
    assert_int_equal(reload(&r, R("return to('archive')"), false, false), TG_OK);
    assert_int_equal(reload(&r, R("error('z')"), false, false), TG_ERR_INVALID);
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_becomes_one_is_a_warning),
        cmocka_unit_test(test_what_is_one_already),
        cmocka_unit_test(test_keeps_the_decision_in_force),
        cmocka_unit_test(test_what_fails_now_is_no_news),
        cmocka_unit_test(test_what_newly_fails_refuses_the_reload),
        cmocka_unit_test(test_fine_rules_are_not_held_up),
        cmocka_unit_test(test_strict_takes_warnings_for_errors),
        cmocka_unit_test(test_a_trial_has_its_time),
        cmocka_unit_test(test_a_trial_that_grows_goes_on_in_a_fresh_vm),
        cmocka_unit_test(test_a_stop_ends_a_trial),
        cmocka_unit_test(test_series_come_and_go_meanwhile),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
