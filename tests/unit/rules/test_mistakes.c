/* What a rule says of where a series goes is never half heard: a name that is wrong and caught, or
 * a verdict that is made and not returned, fails the decision. */
#include "tests/unit/rules/rules_fixture.h"

#define FN "return function(series, targets)\n  "

static void test_nothing_is_swallowed(void **state)
{
    (void)state;
    static const struct {
        int script;
        const char *text, *error; /* error NULL: fine */
    } cases[] = {
        /* a mistake that pcall() catches */
        {FX_ROUTING, FN "local _ = pcall(to, 'inf' .. 'lx')\nend",
         "routing.lua:2: to(): no backend is called \"inflx\"; did you mean \"influx\"?"},
        {FX_ROUTING, FN "local _, v = pcall(to, series.name)\n return v end", "no backend"},
        {FX_ROUTING,
         FN "local _ = pcall(function() return to('inf' .. 'lx') end)\n return to('archive') end",
         "routing.lua:2: to(): no backend is called \"inflx\""},
        {FX_ROUTING, FN "local _ = pcall(to)\n return to('archive') end",
         "to() needs at least one backend"},
        {FX_ROUTING, FN "local _ = pcall(drop, {})\n return to('archive') end",
         "drop() takes a text"},
        {FX_STRATEGY, FN "local _ = pcall(primary_only, 'inf' .. 'lx')\nend",
         "strategy.lua:2: primary_only()"},
        {FX_RETENTION, FN "local _ = pcall(keep, '9' .. 'x')\nend",
         "retention.lua:2: keep(): the duration"},
        {FX_ROUTING, FN "local ok, v = pcall(to, 'influx')\n return ok and v or nil end", NULL},
        {FX_ROUTING, FN "local _ = pcall(error, 'x')\n return to('influx') end", NULL},
        /* a verdict that is made and not returned */
        {FX_ROUTING, FN "local _ = to('inf' .. 'lux')\nend",
         "routing.lua:2: the rule called to(), but did not return what it gave; write \"return "
         "to(...)\""},
        {FX_ROUTING, FN "local send = series.name and to or drop\n  local _ = send('influx')\n end",
         "routing.lua:3: the rule called to()"},
        {FX_ROUTING, FN "local v = drop('x')\n return nil end", "the rule called drop()"},
        {FX_STRATEGY, FN "local v = all()\nend", "strategy.lua:2: the rule called all()"},
        {FX_STRATEGY, FN "local v = primary_only('influx')\nend", "called primary_only()"},
        {FX_RETENTION, FN "local v = keep('7d')\nend", "retention.lua:2: the rule called keep()"},
        {FX_TAGS, FN "local v = drop('x')\nend",
         "tags.lua:2: the rule called drop(), which says nothing here; write \"return drop(...)\" "
         "in "
         "routing.lua"},
        {FX_RETENTION, FN "local v = to('influx')\nend", "write \"return to(...)\" in routing.lua"},
        /* chosen among several, or made once for all series */
        {FX_ROUTING,
         FN "local a, b = to('influx'), drop('x') return series.name == 'm' and a or b end", NULL},
        {FX_ROUTING, "local v = to('influx') " FN "if series.name == 'x' then return v end end",
         NULL},
        {FX_ROUTING, FN "return nil end", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        const char *texts[FX_SCRIPTS] = {NULL};
        texts[cases[i].script] = cases[i].text;
        fx_init(&f, texts);
        f.config.on_error_targets = 2;
        fx_load(&f);
        for (int twice = 0; twice < 2; twice++) {
            const struct tg_decision d = fx_decide(&f, fx_series("m", NULL), NULL);
            const struct tg_rules_stats s = tg_rules_stats(f.rules);
            if (d.failed != (cases[i].error != NULL))
                fail_msg("%s\n%s", cases[i].text, d.failed ? s.last_error : "did not fail");
            if (!d.failed) continue;
            if (!strstr(s.last_error, cases[i].error))
                fail_msg("%s\nwant %s\ngot %s", cases[i].text, cases[i].error, s.last_error);
            assert_int_equal(d.targets, 2);
        }
        fx_deinit(&f);
    }
}

/* Nor at the top of a script, which runs once for all series. */
static void test_not_when_it_loads(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){
                    NULL, "local ok, v = pcall(to, 'inf' .. 'lx')\n" FN "return v or nil end", NULL,
                    NULL});
    assert_int_equal(tg_rules_new(&f.config, &f.rules, &f.err), TG_ERR_INVALID);
    assert_non_null(strstr(f.err.msg, "routing.lua:1: to(): no backend is called \"inflx\""));
    fx_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_swallowed),
        cmocka_unit_test(test_not_when_it_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
