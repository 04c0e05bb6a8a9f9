/* What the four rules decide, what they are told when they are wrong, and where it happened. */
#include "tests/unit/rules/rules_fixture.h"

#define ALL  7U
#define FN   "return function(series, targets) "
#define KEEP "return function(series) return "

struct want {
    const char *name;
    const char *scripts[FX_SCRIPTS];
    const char *const *tags;
    const char *mapped; /* NULL = not compared */
    uint32_t targets, wait;
    uint8_t strategy;
    int64_t keep_ms;
    const char *error; /* part of the error; NULL = must not fail */
};

static const char *const two_tags[] = {"service.name", "api", "user.id", "u1", NULL};
static const char *const billing[] = {"team", "billing", NULL};

static const struct want wants[] = {
    {"no rules", {0}, two_tags, "m{service.name=\"api\",user.id=\"u1\"}", ALL, 0, 0, 0, 0},
    {"design example: tags",
     {"return function(series)\n  local t = series.tags\n  t[\"env\"] = "
      "t[\"deployment.environment\"] or \"dev\"\n  t[\"user.id\"] = hash(t[\"user.id\"], 8)\nend"},
     two_tags,
     "m{env=\"dev\",service.name=\"api\",user.id=\"bb82030d\"}",
     ALL,
     0,
     0,
     0,
     0},
    {"numbers, booleans and nil",
     {FN "local t = series.tags t.n = 5 t.f = 1.5 t.b = true t['user.id'] = nil end"},
     two_tags,
     "m{b=\"true\",f=\"1.5\",n=\"5\",service.name=\"api\"}",
     ALL,
     0,
     0,
     0,
     0},
    {"empty value is an absent tag",
     {FN "series.tags['user.id'] = '' end"},
     two_tags,
     "m{service.name=\"api\"}",
     ALL,
     0,
     0,
     0,
     0},
    {"tags: pairs while removing",
     {FN "for k in pairs(series.tags) do series.tags[k] = nil end end"},
     two_tags,
     "m",
     ALL,
     0,
     0,
     0,
     0},
    {"to one", {0, KEEP "to('timescale') end"}, NULL, NULL, 2, 0, 0, 0, 0},
    {"to a list", {0, KEEP "to({'timescale', 'influx'}) end"}, NULL, NULL, 6, 0, 0, 0, 0},
    {"drop", {0, KEEP "drop('x') end", FN "error('not asked') end"}, NULL, NULL, 0, 0, 0, 0, 0},
    {"all waits for the targets",
     {0, KEEP "to('influx', 'archive') end", FN "return all() end"},
     NULL,
     NULL,
     5,
     5,
     TG_STRATEGY_ALL,
     0,
     0},
    {"primary async waits for the first",
     {0, 0, FN "return primary_with_async_replication(targets[2]) end"},
     NULL,
     NULL,
     ALL,
     2,
     TG_STRATEGY_PRIMARY_ASYNC,
     0,
     0},
    {"targets in the order of to()",
     {0, KEEP "to('influx', 'archive', 'influx') end",
      FN "assert(#targets == 2 and targets[2] == 'archive') return primary_only(targets[1]) end"},
     NULL,
     NULL,
     4,
     4,
     TG_STRATEGY_PRIMARY_ONLY,
     0,
     0},
    {"primary only narrows",
     {0, 0, FN "return primary_only('influx') end"},
     NULL,
     NULL,
     4,
     4,
     TG_STRATEGY_PRIMARY_ONLY,
     0,
     0},
    {"strategy nil", {0, 0, FN "end"}, NULL, NULL, ALL, 0, 0, 0, 0},
    {"routing sees mapped tags",
     {FN "series.tags.squad = series.tags.team series.tags.team = nil end",
      KEEP "series.tags.squad == 'billing' and not series.tags.team and to('influx') end"},
     billing,
     "m{squad=\"billing\"}",
     4,
     0,
     0,
     0,
     0},
    {"keep", {0, 0, 0, KEEP "keep('90d') end"}, NULL, NULL, ALL, 0, 0, INT64_C(7776000000), 0},
    {"keep seconds", {0, 0, 0, KEEP "keep(60) end"}, NULL, NULL, ALL, 0, 0, 60000, 0},
    {"fields",
     {0, FN "assert(series.name == 'm' and series.unit == 'ms' and series.kind == 'gauge' and "
            "series.field == nil and series.measurement == nil and series.origin('team') == "
            "'resource' and series:origin('x') == nil) end"},
     billing,
     NULL,
     ALL,
     0,
     0,
     0,
     0},
    {"pairs and next over read-only tags",
     {0, FN "local n = 0 for k, v in pairs(series.tags) do n = n + 1 assert(k == 'team' and v == "
            "'billing') end assert(n == 1 and next(series.tags) == 'team') end"},
     billing,
     NULL,
     ALL,
     0,
     0,
     0,
     0},
    {"string functions",
     {0, FN "local s = 'node.cpu.user' "
            "assert(s:find('^node%.') == 1 and s:match('%.(%a+)$') == 'user') "
            "assert(s:gsub('%.', '_') == 'node_cpu_user') local t = {} "
            "for w in s:gmatch('%a+') do t[#t + 1] = w end assert(#t == 3 and t[2] == 'cpu') "
            "assert(('x'):rep(3) == 'xxx' and ('%03d'):format(7) == '007') "
            "assert(('abc'):gsub('%w', {a = '1'}) == '1bc') "
            "assert(('abc'):gsub('%w', function(c) return c:upper() end) == 'ABC') "
            "table.sort(t, function(a, b) return a > b end) assert(t[1] == 'user') "
            "table.insert(t, 1, 'first') assert(t[1] == 'first' and #t == 4) "
            "assert(table.concat(t, ',') == 'first,user,node,cpu' and math.floor(2.5) == 2) "
            "assert(bit.band(6, 3) == 2 and hash(nil) == nil and #hash('x') == 16) end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     0},

    {"unknown backend",
     {0, "return function(series)\n\n  return to('timescal' .. '')\nend"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "routing.lua:3: to(): no backend is called \"timescal\"; did you mean \"timescale\"? (there "
     "are: archive, timescale, influx)"},
    {"to nothing", {0, KEEP "to() end"}, 0, 0, ALL, 0, 0, 0, "routing.lua:1: to() needs at least"},
    {"a text instead of to()",
     {0, KEEP "'archive' end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "routing.lua:1: the rule gave string \"archive\"; it must return to("},
    {"tags given back instead of changed",
     {FN "return { env = 'dev' } end"},
     two_tags,
     "m{service.name=\"api\",user.id=\"u1\"}",
     ALL,
     0,
     0,
     0,
     "tags.lua:1: the rule gave table; it must return nothing: change series.tags in place"},
    {"drop from the tags",
     {FN "return drop('x') end"},
     two_tags,
     "m{service.name=\"api\",user.id=\"u1\"}",
     ALL,
     0,
     0,
     0,
     "tags.lua:1: the rule gave a drop(); it must return nothing"},
    {"a verdict of another rule",
     {0, KEEP "keep('1d') end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "the rule gave a keep(); it must return to("},
    {"primary not among the targets",
     {0, KEEP "to('influx') end", FN "return primary_only('archive') end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "strategy.lua:1: primary_only(\"archive\"): routing.lua does not send this series there"},
    {"bad duration",
     {0, 0, 0, KEEP "keep('90' .. ' days') end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "retention.lua:1: keep(): the duration \"90 days\" is not a duration such as"},
    {"rollup kept too short",
     {0, 0, 0, KEEP "keep('1' .. 'd', {['1h'] = '5m'}) end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "kept for less than its own interval"},
    {"tag value of a wrong type",
     {"\nreturn function(series)\n  series.tags.x = {}\nend"},
     two_tags,
     "m{service.name=\"api\",user.id=\"u1\"}",
     ALL,
     0,
     0,
     0,
     "tags.lua:2: series.tags[\"x\"] is a table; tag values are texts"},
    {"tag key of a wrong type",
     {FN "series.tags[1] = 'x' end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "tags.lua:1: series.tags has a number as key"},
    {"tag that is not UTF-8", {FN "series.tags.x = '\\255' end"}, 0, 0, ALL, 0, 0, 0, "tags.lua:1"},
    {"too many tags",
     {FN "for i = 1, 200 do series.tags['k' .. i] = 'v' end end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "series.tags has 200 tags; at most 128"},
    {"series is read-only",
     {0, FN "series.name = 'x' end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "routing.lua:1: series[\"name\"] is read-only here"},
    {"tags are read-only",
     {0, FN "series.tags.x = 'x' end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "routing.lua:1: series.tags[\"x\"] is read-only here; tags.lua is where"},
    {"series.tags replaced",
     {FN "series.tags = {} end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "series[\"tags\"] is read-only; tags.lua changes the name (series.name = value) and single "
     "tags"},
    {"unknown field",
     {0, FN "return series.nmae end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "a series has no \"nmae\"; did you mean series.name?"},
    {"global",
     {0, FN "\n count = 1 end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "routing.lua:2: \"count\" would be a global; write \"local\" before it"},
    {"mistyped name",
     {0, FN "return dorp('x') end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "there is no \"dorp\"; did you mean \"drop\"?"},
    {"nil index",
     {0, "return function(series)\n  local x = series.tags.team:find('a')\nend"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "routing.lua:2: attempt to index field 'team' (a nil value)"},
    {"error with a table",
     {0, "return function(series)\n  error({})\nend"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "routing.lua:2: error() was given a table"},
    {"error with nil", {0, FN "error() end"}, 0, 0, ALL, 0, 0, 0, "error() was given a nil"},
    {"malformed pattern",
     {0, FN "return series.name:find('[a') end"},
     NULL,
     NULL,
     ALL,
     0,
     0,
     0,
     "routing.lua:1: \"[a\": malformed pattern (missing ']')"},
};

static unsigned n_bad;
#define bad(...) (n_bad++, print_error(__VA_ARGS__), print_error("\n"))

static void check(struct fixture *f, const struct want *w, uint64_t n_errors)
{
    const struct tg_series_desc *d = fx_series("m", w->tags);
    const struct tg_decision got = fx_decide(f, d, NULL);
    const struct tg_rules_stats s = tg_rules_stats(f->rules);
    if (got.failed != (w->error != NULL) || (w->error && !strstr(s.last_error, w->error)))
        bad("%s: error \"%s\"", w->name, s.last_error);
    if (w->mapped && strcmp(fx_print(&got.mapped), w->mapped) != 0)
        bad("%s: mapped %s", w->name, fx_print(&got.mapped));
    if (got.targets != w->targets || got.wait != w->wait || got.strategy != w->strategy ||
        got.retention.keep_ms != w->keep_ms)
        bad("%s: targets %x wait %x strategy %d keep %lld", w->name, got.targets, got.wait,
            got.strategy, (long long)got.retention.keep_ms);
    assert_int_equal(got.generation, 1);
    assert_int_equal(s.n_errors, n_errors);
}

static void test_decisions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wants) / sizeof(wants[0]); i++) {
        struct fixture f;
        fx_init(&f, wants[i].scripts);
        fx_load(&f);
        /* Twice: the first must leave nothing behind. */
        check(&f, &wants[i], wants[i].error ? 1 : 0);
        check(&f, &wants[i], wants[i].error ? 2 : 0);
        fx_deinit(&f);
    }
    assert_int_equal(n_bad, 0);
}

static void test_on_error_route(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, KEEP "to('influx') end", FN "error('x') end", NULL});
    f.config.on_error_targets = 2;
    fx_load(&f);
    const struct tg_decision d = fx_decide(&f, fx_series("m", NULL), NULL);
    assert_true(d.failed);
    assert_int_equal(d.targets, 2);
    assert_int_equal(d.wait, 0);
    fx_deinit(&f);
}

static void test_origins_and_rollups(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){FN "series.tags.new = 'x' series.tags.team = 'other' end",
                                      NULL, NULL,
                                      KEEP "keep('30d', { ['1h'] = '5y', ['5m'] = '180d' }) end"});
    fx_load(&f);
    const struct tg_decision d = fx_decide(&f, fx_series("m", billing), NULL);
    assert_false(d.failed);
    assert_int_equal(tg_series_desc_tag(&d.mapped, "team", 4)->origin, TG_ORIGIN_RESOURCE);
    assert_int_equal(tg_series_desc_tag(&d.mapped, "new", 3)->origin, TG_ORIGIN_POINT);
    assert_int_equal(d.mapped.kind, TG_KIND_GAUGE);
    assert_int_equal(d.mapped.unit_len, 2);
    assert_int_equal(d.retention.n_rollups, 2);
    assert_int_equal(d.retention.rollups[0].every_ms, 300000);
    assert_int_equal(d.retention.rollups[1].every_ms, 3600000);
    assert_int_equal(d.retention.rollups[1].keep_ms, INT64_C(157680000000));
    fx_deinit(&f);
}

static void test_influx_fields(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){FN "series.tags.m = series.measurement series.tags.f = "
                                         "series.field end",
                                      NULL, NULL, NULL});
    fx_load(&f);
    struct tg_series_desc *s = fx_series("cpu_load_user", NULL);
    s->field_len = 4;
    const struct tg_decision d = fx_decide(&f, s, NULL);
    assert_string_equal(fx_print(&d.mapped), "cpu_load_user{f=\"user\",m=\"cpu_load\"}");
    assert_int_equal(d.mapped.field_len, 4);
    fx_deinit(&f);
}

static void test_trace(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){
                    "return function(series)\n  local t = series.tags\n  t.env = 'dev'\n"
                    "  t.team = nil\nend",
                    "return function(series)\n  if series.name == 'no' then\n    return "
                    "drop('debug')\n  end\n  return to('archive', 'influx')\nend",
                    NULL,
                    "return function(series)\n  return keep('30d', {\n    ['5m'] = '180d' })\n"
                    "end"});
    fx_load(&f);
    for (int i = 0; i < 2; i++) {
        struct tg_rules_trace t;
        (void)fx_decide(&f, fx_series("m", billing), &t);
        assert_string_equal(t.steps[0].what, "tags");
        assert_string_equal(t.steps[0].file, "tags.lua");
        assert_int_equal(t.steps[0].line, 4);
        assert_string_equal(t.steps[0].note, "env added (line 3), team removed (line 4)");
        assert_string_equal(t.steps[1].note, "to(\"archive\", \"influx\")");
        assert_int_equal(t.steps[1].line, 5);
        assert_int_equal(t.steps[2].line, 0);
        assert_string_equal(t.steps[2].note, "logged()");
        assert_string_equal(t.steps[3].note, "keep(\"30d\", 1 rollup)");
        assert_in_range(t.steps[3].line, 2, 3);

        (void)fx_decide(&f, fx_series("no", NULL), &t);
        assert_string_equal(t.steps[1].note, "drop(\"debug\")");
        assert_int_equal(t.steps[1].line, 3);
        assert_string_equal(t.steps[3].note, "not asked: the series is dropped");
    }
    fx_deinit(&f);
}

static void test_trace_of_an_error(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, "return function(series)\n  return to('x' .. '')\nend",
                                      NULL, NULL});
    fx_load(&f);
    struct tg_rules_trace t;
    const struct tg_decision d = fx_decide(&f, fx_series("m", NULL), &t);
    assert_true(d.failed);
    assert_string_equal(t.steps[1].file, "routing.lua");
    assert_int_equal(t.steps[1].line, 2);
    assert_non_null(strstr(t.steps[1].note, "no backend is called \"x\""));
    assert_string_equal(t.steps[2].note, "not asked: a rule before it failed");
    fx_deinit(&f);
}

static void test_arena_refuses(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){FN "series.tags.x = ('y'):rep(4000) end", NULL, NULL, NULL});
    fx_load(&f);
    struct tg_arena small;
    struct tg_decision d;
    tg_arena_init(&small, 1024);
    for (int i = 0; i < 2; i++)
        assert_int_equal(tg_rules_decide(f.rules, 0, fx_series("m", NULL), &small, &d, NULL),
                         TG_ERR_NOMEM);
    tg_arena_deinit(&small);
    assert_false(fx_decide(&f, fx_series("m", NULL), NULL).failed);
    fx_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_on_error_route),
        cmocka_unit_test(test_origins_and_rollups),
        cmocka_unit_test(test_influx_fields),
        cmocka_unit_test(test_trace),
        cmocka_unit_test(test_trace_of_an_error),
        cmocka_unit_test(test_arena_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
