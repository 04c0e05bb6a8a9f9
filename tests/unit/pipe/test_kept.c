/* A series whose rules fail keeps its last good decision; only one without takes on_error. */
#include "core/pipe/planner.h"
#include "tests/unit/rules/rules_fixture.h"

#define R(body) "return function(series) " body " end"

static enum tg_code prepare(void *backend, const struct tg_series_desc *mapped, struct tg_buf *out,
                            struct tg_err *err)
{
    (void)backend;
    (void)err;
    return tg_series_desc_print(mapped, out);
}

struct rig {
    struct fixture f;
    struct tg_table *table;
    struct tg_planner planner;
    struct tg_preparer preparers[3];
    int ticket;
};

static void rig_init(struct rig *r, const char *const texts[FX_SCRIPTS])
{
    static const struct tg_table_config config = {.idle_s = 10};
    fx_init(&r->f, texts);
    r->f.config.on_error_targets = 1;
    fx_load(&r->f);
    r->table = tg_table_new(&config);
    assert_non_null(r->table);
    for (int i = 0; i < 3; i++) r->preparers[i] = (struct tg_preparer){.fn = prepare};
    tg_planner_init(&r->planner, r->f.rules, r->table, r->preparers, 3, 0);
    r->ticket = tg_deferred_free_enter(tg_table_guard(r->table));
}

static void rig_deinit(struct rig *r)
{
    tg_deferred_free_exit(tg_table_guard(r->table), r->ticket);
    tg_planner_deinit(&r->planner);
    tg_table_free(r->table);
    fx_deinit(&r->f);
}

static void rewrite(struct rig *r, int script, const char *text)
{
    fx_write(&r->f, script, text, strlen(text));
    if (tg_rules_reload(r->f.rules, &r->f.err) != TG_OK) fail_msg("%s", r->f.err.msg);
}

static struct tg_series *series(struct rig *r, const char *name)
{
    struct tg_series *s = NULL;
    struct tg_series_desc d = {.name = name, .name_len = (uint32_t)strlen(name), .unit = ""};
    assert_int_equal(tg_table_intern(r->table, &d, &s, NULL), TG_OK);
    return s;
}

static const struct tg_plan *decide(struct rig *r, struct tg_series *s)
{
    const struct tg_plan *p = tg_planner_plan(&r->planner, s, tg_rules_generation(r->f.rules));
    assert_non_null(p);
    assert_int_equal(p->generation, tg_rules_generation(r->f.rules));
    return p;
}

static void expect_form(const struct tg_plan *p, unsigned backend, const char *want)
{
    uint32_t len;
    const char *got = (const char *)tg_plan_prepared(p, backend, &len);
    if (!want) {
        assert_null(got);
        return;
    }
    assert_non_null(got);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(got, want, len);
}

static void test_keeps_all_of_the_last_good_decision(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, (const char *const[]){R("series.tags.user = nil series.tags.v = 1"),
                                       R("return to('influx', 'timescale')"),
                                       R("return primary_with_async_replication('influx')"),
                                       R("return keep('1d', { ['5m'] = '30d', ['1h'] = '1y' })")});
    struct tg_series *old = series(&r, "old");
    assert_false(decide(&r, old)->failed);
    /* Twice: what was kept is good to be kept again. */
    for (int twice = 0; twice < 2; twice++) {
        rewrite(&r, FX_TAGS, R("series.tags.v = series.tags.none .. ''"));
        const struct tg_plan *p = decide(&r, old);
        assert_true(p->failed);
        assert_true(p->kept);
        assert_int_equal(p->targets, 6);
        assert_int_equal(p->wait, 4);
        assert_int_equal(p->strategy, TG_STRATEGY_PRIMARY_ASYNC);
        assert_int_equal(p->keep_ms, 86400000);
        assert_int_equal(p->n_rollups, 2);
        assert_int_equal(tg_plan_rollups(p)[1].keep_ms, INT64_C(31536000000));
        expect_form(p, 0, NULL);
        expect_form(p, 1, "old{v=\"1\"}");
        expect_form(p, 2, "old{v=\"1\"}");
        /* One that never had a decision takes the on_error route. */
        p = decide(&r, series(&r, twice ? "newer" : "new"));
        assert_true(p->failed);
        assert_false(p->kept);
        assert_int_equal(p->targets, 1);
        assert_int_equal(tg_table_stats(r.table).n_failed, 2 + twice);
    }
    /* on_error's is no good decision: made again by the rules there are. */
    rewrite(&r, FX_TAGS, R("series.tags.v = 2"));
    rewrite(&r, FX_ROUTING, R("error(series.name)"));
    const struct tg_plan *p = decide(&r, series(&r, "new"));
    assert_false(p->kept);
    assert_int_equal(p->targets, 1);
    expect_form(p, 0, "new{v=\"2\"}");
    assert_true(decide(&r, old)->kept);
    /* Mended. */
    rewrite(&r, FX_ROUTING, R("return to('archive', 'influx')"));
    p = decide(&r, old);
    assert_false(p->failed);
    assert_false(p->kept);
    expect_form(p, 0, "old{v=\"2\"}");
    (void)decide(&r, series(&r, "new"));
    (void)decide(&r, series(&r, "newer"));
    assert_int_equal(tg_table_stats(r.table).n_failed, 0);
    rig_deinit(&r);
}

static void test_what_was_dropped_stays_dropped(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, (const char *const[]){NULL, R("return drop('secret')"), NULL, NULL});
    struct tg_series *s = series(&r, "m");
    assert_int_equal(decide(&r, s)->targets, 0);
    rewrite(&r, FX_ROUTING, R("return to(series.name)"));
    const struct tg_plan *p = decide(&r, s);
    assert_true(p->kept);
    assert_int_equal(p->targets, 0);
    rig_deinit(&r);
}

static void test_failed_series_that_leave_are_not_counted(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, (const char *const[]){NULL, R("return to(series.name)"), NULL, NULL});
    (void)decide(&r, series(&r, "m"));
    (void)decide(&r, series(&r, "influx"));
    assert_int_equal(tg_table_stats(r.table).n_failed, 1);
    tg_deferred_free_exit(tg_table_guard(r.table), r.ticket);
    const uint32_t later_s = tg_clock_coarse_s() + 100;
    for (int i = 0; i < 4; i++) (void)tg_table_sweep(r.table, later_s);
    assert_int_equal(tg_table_stats(r.table).n_series, 0);
    assert_int_equal(tg_table_stats(r.table).n_failed, 0);
    r.ticket = tg_deferred_free_enter(tg_table_guard(r.table));
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_all_of_the_last_good_decision),
        cmocka_unit_test(test_what_was_dropped_stays_dropped),
        cmocka_unit_test(test_failed_series_that_leave_are_not_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
