/* A decision depends on its series and on nothing else: not on the series before it, not on the VM
 * that makes it, not on where something lies in memory. */
#include "tests/unit/rules/rules_fixture.h"

#define R(body) "return function(series) " body " end"

/* --- nothing stays --- */

static void init(struct fixture *f, const char *routing)
{
    fx_init(f, (const char *const[]){NULL, routing, NULL, NULL});
    f->config.n_slots = 2;
    fx_load(f);
}

static const char *const kept[] = {
    /* a variable */
    "local n = 0\n"
    "return function(series) n = n + 1 if n > 1 then return drop('again') end end",
    "local n\n"
    "local function count() n = (n or 0) + 1 return n end\n"
    "return function(series) if count() > 1 then return drop('again') end end",
    "local nan = 0 / 0\n"
    "return function(series) if nan == nan then return drop('again') end nan = 1 end",
    "local f = function() return 1 end\n"
    "return function(series) if f() == 2 then return drop('again') end f = function() return 2 end "
    "end",
    "local a, b = {}, {}\n"
    "return function(series) if a == b then return drop('again') end a = b end",
    /* a table */
    "local seen = {}\n"
    "return function(series) if seen[series.name] then return drop('again') end\n"
    "  seen[series.name] = true if not seen[series.name] then return to('archive') end end",
    "local seen = { n = 0 }\n"
    "return function(series) seen.n = seen.n + 1 if seen.n > 1 then return drop('again') end end",
    "local list = {}\n"
    "return function(series) table.insert(list, series.name)\n"
    "  if #list ~= 1 or list[1] ~= series.name then return drop('again') end end",
    "local list = { 'a', 'b' }\n"
    "return function(series) if table.remove(list) ~= 'b' or #list ~= 1 then return drop('again') "
    "end end",
    "local list = { 3, 1, 2 }\n"
    "return function(series) if list[1] ~= 3 then return drop('again') end\n"
    "  table.sort(list) if list[1] ~= 1 then return to('archive') end end",
    /* a table in a table, as a key, of a function in a table */
    "local deep = { a = { b = {} } }\n"
    "return function(series) if deep.a.b.c then return drop('again') end deep.a.b.c = 1 end",
    "local key = {}\n"
    "local by = { [key] = 'x' }\n"
    "return function(series) if by[key] ~= 'x' or key.n then return drop('again') end\n"
    "  by[key] = 'y' for k in pairs(by) do k.n = 1 end\n"
    "  if by[key] ~= 'y' or not key.n then return to('archive') end end",
    "local n = 0\n"
    "local api = { next = function() n = n + 1 return n end }\n"
    "return function(series) if api.next() > 1 then return drop('again') end end",
    "local function counter() local n = 0 return function() n = n + 1 return n end end\n"
    "local a, b = counter(), counter()\n"
    "return function(series) a() if a() ~= 2 or b() ~= 1 then return drop('again') end end",
    /* after a failure */
    "local n = 0\n"
    "local t = {}\n"
    "return function(series) if n > 0 or t.x then return drop('again') end\n"
    "  n = 1 t.x = 1 if series.name == 'bad' then error('x') end end",
    "local n = 0\n"
    "return function(series) if n > 0 then return drop('again') end\n"
    "  n = 1 if series.name == 'bad' then while true do end end end",
};

static void test_nothing_stays(void **state)
{
    (void)state;
    static const char *const names[] = {"m", "m", "bad", "m", "other", "m"};
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        struct fixture f;
        init(&f, kept[i]);
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
            struct tg_rules_trace trace;
            const struct tg_decision d =
                fx_decide(&f, fx_series(names[k], NULL), k % 2 ? &trace : NULL);
            if (d.failed && strcmp(names[k], "bad") == 0) continue;
            if (d.failed || d.targets != 7)
                fail_msg("%zu: series %zu: targets %u: %s\n%s", i, k, d.targets,
                         tg_rules_stats(f.rules).last_error, kept[i]);
        }
        const struct tg_rules_stats s = tg_rules_stats(f.rules);
        if (strncmp(s.stray, "routing.lua:", 12) != 0) fail_msg("%zu: \"%s\"", i, s.stray);
        fx_deinit(&f);
    }
}

static void test_what_is_put_back_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *script, *stray;
    } cases[] = {
        {"local n = 0\nreturn function(series)\n n = n + 1\nend",
         "routing.lua: the function at line 2 assigns n, a variable from outside of it"},
        {"local seen = {}\nreturn function(series)\n\n seen[series.name] = 1\nend",
         "routing.lua:4: writes to a table that was made outside of the function"},
        {"local seen = {}\nreturn function(series)\n local here, n = {}, 0\n here[1] = 1 n = 2\n"
         " return (function() n = n + 1 return to('influx') end)()\nend",
         ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        init(&f, cases[i].script);
        for (int k = 0; k < 3; k++) assert_false(fx_decide(&f, fx_series("m", NULL), NULL).failed);
        assert_string_equal(tg_rules_stats(f.rules).stray, cases[i].stray);
        fx_write(&f, FX_ROUTING, R(""), strlen(R("")));
        assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_OK);
        assert_string_equal(tg_rules_stats(f.rules).stray, "");
        fx_deinit(&f);
    }
}

static void test_iterators_are_refused(void **state)
{
    (void)state;
    static const char *const scripts[] = {
        "local it = ('a,b'):gmatch('%a')\nreturn function(series) return drop(it()) end",
        "local t = { it = pairs({ a = 1 }) }\nreturn function(series) return drop(t.it()) end",
    };
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct fixture f;
        fx_init(&f, (const char *const[]){NULL, scripts[i], NULL, NULL});
        assert_int_equal(tg_rules_new(&f.config, &f.rules, &f.err), TG_ERR_INVALID);
        assert_non_null(strstr(f.err.msg, "routing.lua: keeps what gmatch() or pairs() gave"));
        fx_deinit(&f);
    }
}

/* What a script makes outside of its function reads as tables do. */
static void test_tables_from_outside(void **state)
{
    (void)state;
    static const char script[] =
        "local list = { 'archive', 'influx' }\n"
        "local map = { b = 2, a = 1, [3] = 'z', deep = { x = { 'y' } }, [false] = 0 }\n"
        "local rollups = { ['5m'] = '90d' }\n"
        "local words = { prod = 'production' }\n"
        "local none = {}\n"
        "local self = {} self.self = self\n"
        "local function keys(t)\n"
        "  local out = {} for k in pairs(t) do out[#out + 1] = tostring(k) end\n"
        "  return table.concat(out, ' ')\n"
        "end\n"
        "local function check()\n"
        "  assert(type(list) == 'table' and type(map.deep) == 'table' and tostring(map) == "
        "'table')\n"
        "  assert(#list == 2 and list[1] == 'archive' and list[3] == nil and map.deep.x[1] == "
        "'y')\n"
        "  assert(map.deep == map.deep and map.deep ~= map and self.self == self)\n"
        "  assert(table.concat(list, ',') == 'archive,influx' and select('#', unpack(list)) == 2)\n"
        "  assert(table.maxn(map) == 3)\n"
        "  assert(keys(map) == '3 a b deep false' and keys(list) == '1 2' and keys(none) == '')\n"
        "  assert(next(none) == nil and next(map) == 3 and next(map, 'a') == 'b' and "
        "next(map, 'deep') == false)\n"
        "  assert(next(map, false) == nil)\n"
        "  local n = 0 for i, v in ipairs(list) do n = n + i assert(v == list[i]) end\n"
        "  assert(n == 3)\n"
        "  for k, v in next, words do assert(k == 'prod' and v == 'production') end\n"
        "  assert(('prod-dev'):gsub('%a+', words) == 'production-dev')\n"
        "  assert(('%s'):format(list) == 'table')\n"
        "  for k, v in pairs(map) do map[k] = v end\n"
        "  for k in pairs(list) do list[k] = nil end assert(#list == 0 and next(list) == nil)\n"
        "  local copy = {} for k, v in pairs(words) do copy[k] = v end\n"
        "  table.sort(copy) copy.x = 1 copy[1] = words assert(copy[1].prod == 'production')\n"
        "end\n"
        "check()\n"
        "return function(series)\n"
        "  if series.name ~= 'list' then check() end\n"
        "  return to(list)\n"
        "end";
    struct fixture f;
    init(&f, "return function(series) end");
    /* The top level's own check has emptied its list: that is what the rule finds. */
    fx_write(&f, FX_ROUTING, script, strlen(script));
    assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_OK);
    (void)fx_decide(&f, fx_series("list", NULL), NULL);
    assert_non_null(strstr(tg_rules_stats(f.rules).last_error, "to() needs at least one backend"));
    char *without = strstr(script, "check()\nreturn");
    assert_non_null(without);
    char text[sizeof(script)];
    (void)snprintf(text, sizeof(text), "%.*s%s", (int)(without - script), script,
                   without + strlen("check()\n"));
    fx_write(&f, FX_ROUTING, text, strlen(text));
    assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_OK);
    for (int i = 0; i < 3; i++) {
        const struct tg_decision d = fx_decide(&f, fx_series(i ? "list" : "m", NULL), NULL);
        if (i == 0 && !strstr(tg_rules_stats(f.rules).last_error, "to() needs at least one"))
            fail_msg("%s", tg_rules_stats(f.rules).last_error);
        if (i > 0) assert_int_equal(d.targets, 5);
    }
    fx_deinit(&f);

    fx_init(&f, (const char *const[]){NULL, NULL, NULL,
                                      "local r = { ['5m'] = '90d' }\n" R("return keep('1d', r)")});
    fx_load(&f);
    assert_int_equal(fx_decide(&f, fx_series("m", NULL), NULL).retention.n_rollups, 1);
    fx_deinit(&f);
}

/* --- the same in every VM --- */

/* Text of the value is the drop()'s reason in the trace. */
static void test_no_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *expr, *want;
    } cases[] = {
        {"string.format('%s', {})", "drop(\"table\")"},
        {"('%s %s'):format(to, series)", "drop(\"function userdata\")"},
        {"('%s|%5s|%-9s|'):format(nil, true, {})", "drop(\"nil| true|table    |\")"},
        {"('%s %d %s'):format({}, 1, 'x')", "drop(\"table 1 x\")"},
        {"('%% %s %%'):format({})", "drop(\"% table %\")"},
        {"tostring({}) .. tostring(to) .. tostring(series)", "drop(\"tablefunctionuserdata\")"},
        {"tostring(to('archive'))", "drop(\"userdata\")"},
        {"('%s %5.1f %q %x'):format('a', 1, 'b', 255)", NULL},
        {"select(2, pcall(error, {})) and 'x'", "drop(\"x\")"},
        {"string.format('%p', 'x')", "%p is not available"},
        {"string.format('%s|%-20p', 'x', {})", "%p is not available"},
        {"('%d'):format({})", "number expected, got table"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char script[256];
        (void)snprintf(script, sizeof(script), R("return drop((%s))"), cases[i].expr);
        struct fixture f;
        struct tg_rules_trace trace;
        init(&f, script);
        (void)fx_decide(&f, fx_series("m", NULL), &trace);
        const char *note = trace.steps[FX_ROUTING].note;
        if (strstr(note, "0x") || (cases[i].want && !strstr(note, cases[i].want)))
            fail_msg("%s: %s", cases[i].expr, note);
        fx_deinit(&f);
    }
}

/* Texts lie in a VM's tables by when it met them first: one that has met others before walks a
 * table in another order. */
static void test_order_of_tags(void **state)
{
    (void)state;
    static const char *const tags[] = {"zone", "a", "app",  "b", "env",  "c", "job", "d",
                                       "team", "e", "host", "f", "rack", "g", NULL};
    static const char script[] =
        R("local out = {} for k in pairs(series.tags) do out[#out + 1] = k end\n"
          "local k for i = 1, 3 do k = next(series.tags, k) out[#out + 1] = k end\n"
          "return drop(table.concat(out, ' '))");
    struct fixture f;
    init(&f, script);
    for (int round = 0; round < 40; round++) {
        /* the first slot meets the names in ever other company */
        char name[32];
        (void)snprintf(name, sizeof(name), "noise_%d", round);
        const char *const noise[] = {tags[round % 7 * 2], name, name, "x", NULL};
        (void)fx_decide(&f, fx_series(name, noise), NULL);
        for (unsigned slot = 0; slot < 2; slot++) {
            struct tg_rules_trace trace;
            struct tg_decision d;
            tg_arena_reset(&f.arena);
            assert_int_equal(
                tg_rules_decide(f.rules, slot, fx_series("m", tags), &f.arena, &d, &trace), TG_OK);
            assert_string_equal(trace.steps[FX_ROUTING].note,
                                "drop(\"app env host job rack team zone app env host\")");
        }
    }
    fx_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_stays),
        cmocka_unit_test(test_what_is_put_back_is_said),
        cmocka_unit_test(test_iterators_are_refused),
        cmocka_unit_test(test_tables_from_outside),
        cmocka_unit_test(test_no_addresses),
        cmocka_unit_test(test_order_of_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
