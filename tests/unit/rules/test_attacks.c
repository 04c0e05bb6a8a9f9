/* Rules that try to stall, crash, bloat or escape: each is held within a second, and the series
 * after it is decided as if nothing had been. */
#include "tests/unit/rules/rules_fixture.h"

#define R(body) "return function(series) " body " end"

struct attack {
    const char *name, *routing;
    const char *error; /* part of the message; NULL = must fail, whatever it says */
    bool over;         /* counts as an overrun of a budget */
    bool any;          /* may fail or not: only the time and the survival matter */
};

static const struct attack attacks[] = {
    /* time */
    {"endless loop", R("while true do end"), "routing.lua:1: stopped after ", true, false},
    {"endless repeat", "return function()\n repeat\n until false end", "routing.lua:3", true,
     false},
    {"catches its budget error", R("while true do pcall(function() while true do end end) end"),
     "stopped after", true, false},
    {"catches it and returns", R("pcall(function() while true do end end) return to('archive')"),
     "stopped after", true, false},
    {"xpcall", R("xpcall(error, function() while true do end end)"), "\"xpcall\" is not available",
     false, false},
    {"pcall of pcall",
     R("local function f() while true do end end while true do pcall(pcall, pcall, pcall, f) end"),
     "stopped after", true, false},
    {"recursion through pcall", R("local function f() while true do pcall(f) end end f()"), NULL,
     false, false},
    {"error loop", R("while true do pcall(error, {}) end"), "stopped after", true, false},
    {"backtracking", R("return ('a'):rep(4000):find('.-.-.-.-b')"), "stopped after", true, false},
    {"backtracking, greedy", R("return ('a'):rep(4000):match('.*.*.*.*b')"), "stopped after", true,
     false},
    {"backtracking in gsub", R("return ('a'):rep(4000):gsub('.-.-.-b', '')"), "stopped after", true,
     false},
    {"backtracking in gmatch", R("for _ in ('a'):rep(4000):gmatch('.-.-.-b') do end"),
     "stopped after", true, false},
    {"backtracking, caught", R("while true do pcall(string.find, ('a'):rep(4000), '.-.-.-b') end"),
     "stopped after", true, false},
    {"balanced over and over", R("return ('('):rep(100000):find('%b()')"), "stopped after", true,
     false},
    {"plain search for a long needle",
     R("return ('a'):rep(500000):find(('a'):rep(250000) .. 'b', 1, true)"), NULL, false, true},
    {"for ever in gsub's callback", R("('x'):gsub('x', function() while true do end end)"),
     "stopped after", true, false},
    {"for ever in sort's callback", R("table.sort({1, 2, 3}, function() while true do end end)"),
     "stopped after", true, false},
    {"sort without an order",
     R("local t = {} for i = 1, 999 do t[i] = i end "
       "table.sort(t, function() return true end)"),
     NULL, false, true},
    {"sorting again and again",
     R("local t = {} for i = 1, 10000 do t[i] = 10000 - i end "
       "while true do table.sort(t) end"),
     "stopped after", true, false},
    {"sorting too much", R("local t = {} for i = 1, 20000 do t[i] = i end table.sort(t)"),
     "at most 10000 items", false, false},
    {"insert far below", R("table.insert({}, -2147483648, 1)"), "outside 1 to 1", false, false},
    {"insert in front", R("local t = {} while true do table.insert(t, 1, 1) end"), "stopped", true,
     false},
    {"remove far below", R("table.remove({1}, -2147483648)"), NULL, false, true},
    {"unpack without end", R("return unpack({}, -2147483648, 2147483647)"), "too many results",
     false, false},
    {"concat without end", R("return table.concat({}, '', -2147483647, 2147483647)"), NULL, false,
     false},
    {"empty repetition", R("return ('x'):rep(1e9, ''), (''):rep(1e18)"), NULL, false, true},
    {"fresh megabytes", R("local s = ('x'):rep(1000000) for i = 1, 1e9 do local t = s .. i end"),
     "stopped", true, false},
    {"megabytes upside down",
     R("local s = ('x'):rep(1000000) for i = 1, 1e9 do s = s:reverse():upper():lower() end"),
     "stopped", true, false},
    {"hash over and over", R("local s = ('x'):rep(1000000) while true do hash(s) end"), "stopped",
     true, false},

    /* memory; where only the file is named, which budget ends it first depends on the machine */
    {"memory bomb", R("local s = 'x' while true do s = s .. s end"), "out of memory: rules may use",
     true, false},
    {"memory bomb, caught", R("local s = 'x' while true do pcall(function() s = s .. s end) end"),
     "routing.lua", true, false},
    {"memory bomb, caught, returns",
     R("local s = 'x' pcall(function() while true do s = s .. s end end) return to('archive')"),
     "routing.lua", true, false},
    {"table bomb", R("local t = {} for i = 1, 1e9 do t[i] = {i} end"), "routing.lua", true, false},
    {"string bomb", R("local t = {} for i = 1, 1e9 do t['k' .. i] = ('x'):rep(1000) .. i end"),
     "routing.lua", true, false},
    {"rep bomb", R("return ('x'):rep(1e9)"), "out of memory: rules may use", true, false},
    {"format bomb", R("return ('%99999d'):format(1)"), "invalid", false, false},
    {"format bomb of many", R("return ('%s'):rep(200):format(unpack({('x'):rep(1e6)}))"), NULL,
     false, false},
    {"gsub bomb", R("return ('x'):rep(100000):gsub('x', ('y'):rep(100000))"), "routing.lua", true,
     false},
    {"concat bomb",
     R("local t = {} for i = 1, 100 do t[i] = ('x'):rep(100000) end "
       "return table.concat(t)"),
     "routing.lua", true, false},
    {"closure bomb",
     R("local f = function() end while true do local g = f f = function() return "
       "g end end"),
     "stopped", true, false},

    /* stacks */
    {"deep recursion", R("local function f() return 1 + f() end f()"), "stack overflow", false,
     false},
    {"deep recursion, caught",
     R("local function f() return 1 + f() end for i = 1, 1e9 do pcall(f) end"), NULL, false, false},
    {"recursion through gsub", R("local function f() return ('x'):gsub('x', f) end f()"),
     "nested more than 16", false, false},
    {"recursion through sort",
     R("local function f() table.sort({1, 2, 3}, f) return false end f()"), "nested more than 16",
     false, false},
    {"recursion through gsub and pcall",
     R("local function f() pcall(string.gsub, 'xx', 'x', f) end f() f()"), NULL, false, true},
    {"nested pattern", R("return ('a'):rep(1000):find(('(a'):rep(32) .. (')'):rep(32))"), NULL,
     false, true},
    {"long pattern", R("return ('a'):rep(1000):find(('a?'):rep(1000))"), "more than 96 parts",
     false, false},
    {"many choices", R("return ('a'):rep(64):find(('a?'):rep(48) .. ('a'):rep(48))"), NULL, false,
     true},
    {"endless tail call", R("local function f() return f() end return f()"), "stopped after", true,
     false},

    /* garbage */
    {"error without a text", R("error(function() end)"), "error() was given a function", false,
     false},
    {"error with a boolean", R("error(false)"), "error() was given a boolean", false, false},
    {"error with the series", R("error(series)"), "error() was given a userdata", false, false},
    {"error with NULs and controls", R("error('a\\0b\\27[31m')"), NULL, false, false},
    {"very long error", R("error(('x'):rep(100000))"), "xxxx", false, false},
    {"gives a table", R("return {}"), "gave table; it must return", false, false},
    {"gives a function", R("return to"), "gave function; it must return", false, false},
    {"gives the series", R("return series"), "gave userdata; it must return", false, false},
    {"gives the tags", R("return series.tags"), "gave userdata; it must return", false, false},
    {"gives a library", R("return string"), "gave userdata; it must return", false, false},
    {"gives a cdata", R("return 1LL"), "gave cdata; it must return", false, false},
    {"gives true", R("return true"), "gave boolean; it must return", false, false},
    {"gives much", R("return nil, 1, 2, 3"), NULL, false, true},
    {"to a cdata", R("return to(1LL)"), "not a cdata", false, false},
    {"to a NUL", R("return to('archive' .. '\\0')"), "no backend is called", false, false},
    {"keep a huge time", "return function() return to('archive') end", NULL, false, true},
    {"arithmetic on a verdict", R("return to('archive') + 1"), "attempt to perform arithmetic",
     false, false},
    {"field of a verdict", R("return to('archive').x"), "attempt to index", false, false},

    /* escape */
    {"io", R("io.open('/etc/passwd')"), "\"io\" is not available in rules", false, false},
    {"os", R("os.execute('true')"), "\"os\" is not available", false, false},
    {"require", R("require('ffi')"), "\"require\" is not available", false, false},
    {"ffi", R("ffi.cdef('')"), "\"ffi\" is not available", false, false},
    {"ffi through a literal", R("local x = 1LL return ffi"), "\"ffi\" is not available", false,
     false},
    {"debug", R("debug.getregistry()"), "\"debug\" is not available", false, false},
    {"load", R("load('return 1')()"), "\"load\" is not available", false, false},
    {"loadstring", R("loadstring('\\27LJ')()"), "\"loadstring\" is not available", false, false},
    {"dofile", R("dofile('/etc/passwd')"), "\"dofile\" is not available", false, false},
    {"collectgarbage", R("collectgarbage('stop')"), "\"collectgarbage\" is not available", false,
     false},
    {"getmetatable", R("getmetatable('').__index = nil"), "\"getmetatable\" is not available",
     false, false},
    {"setmetatable", R("setmetatable(series.tags, {})"), "\"setmetatable\" is not available", false,
     false},
    {"getfenv", R("getfenv(0)"), "\"getfenv\" is not available", false, false},
    {"_G", R("_G.x = 1"), "\"_G\" is not available", false, false},
    {"coroutine", R("coroutine.wrap(function() while true do end end)()"),
     "\"coroutine\" is not available", false, false},
    {"print", R("print('x')"), "\"print\" is not available", false, false},
    {"string.dump", R("return string.dump(to)"), "\"dump\" is not in the string functions", false,
     false},
    {"string.dump by method", R("return ('x').dump"), "\"dump\" is not in the string", false,
     false},
    {"math.random", R("return math.random()"), "\"random\" is not in the math", false, false},
    {"string metatable", R("return ('x').__index"), "not in the string functions", false, false},
    {"write into string", R("string.find = function() end"), "the string functions are read-only",
     false, false},
    {"insert into string", R("table.insert(string, 1)"), "table expected", false, false},
    {"remove from string", R("table.remove(string, 1)"), "table expected", false, false},
    {"sort string", R("table.sort(string)"), "table expected", false, false},
    {"next of string", R("next(string)"), "table expected", false, false},
    {"replace to", R("to = drop"), "\"to\" would be a global", false, false},
    {"replace string", R("string = {}"), "\"string\" would be a global", false, false},
    {"new global", R("cache = {}"), "\"cache\" would be a global", false, false},
    {"write tags through pairs", R("local _, t = pairs(series.tags) t.x = 'x'"),
     "series.tags[\"x\"] is read-only", false, false},
    {"write tags through insert", R("table.insert(series.tags, 1, 'x')"), "table expected", false,
     false},
    {"next with a wrong key", R("next({}, 'x') next({}, to) next({}, 0 / 0)"), NULL, false, true},
    {"next over and over",
     R("local t = {} for i = 1, 9999 do t['k' .. i] = i end "
       "for k in next, t do end"),
     "stopped after", true, false},
    {"pairs of many",
     R("local t = {} for i = 1, 30000 do t['k' .. i] = i end "
       "while true do pairs(t) end"),
     "stopped after", true, false},
    {"copies of a large table from outside",
     "local t = {} for i = 1, 30000 do t['k' .. i] = i end\n" R(
         "while true do t.x = 1 t.y = {} end"),
     "stopped after", true, false},
    {"address of a table", R("if tostring({}) ~= 'table' then error('address') end"), NULL, false,
     true},
};

static unsigned n_bad;
#define bad(...) (n_bad++, print_error(__VA_ARGS__), print_error("\n"))

static void attack_once(struct fixture *f, const struct attack *a)
{
    const struct tg_rules_stats before = tg_rules_stats(f->rules);
    const uint64_t start = tg_clock_mono_ms();
    const struct tg_decision d = fx_decide(f, fx_series("bad", NULL), NULL);
    const uint64_t took = tg_clock_mono_ms() - start;
    const struct tg_rules_stats s = tg_rules_stats(f->rules);
    if (took >= 1000) bad("%s: took %llu ms", a->name, (unsigned long long)took);
    if (!a->any) {
        if (!d.failed) bad("%s: succeeded", a->name);
        if (strncmp(s.last_error, "routing.lua:", 12) != 0)
            bad("%s: says \"%s\"", a->name, s.last_error);
        if (a->error && !strstr(s.last_error, a->error))
            bad("%s: says \"%s\"", a->name, s.last_error);
        if (a->over && s.n_budget_overruns != before.n_budget_overruns + 1)
            bad("%s: not counted as an overrun", a->name);
    }
    if (d.failed) {
        assert_int_equal(d.targets, 7);
        assert_int_equal(s.n_errors, before.n_errors + 1);
    }
}

static void test_attacks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
        if (getenv("V")) print_message("%s\n", attacks[i].name);
        const struct attack *a = &attacks[i];
        struct fixture f;
        char routing[1024];
        /* The bad rule and a good one behind one door, in the same VM. */
        (void)snprintf(routing, sizeof(routing),
                       "local bad = (function() %s end)()\n"
                       "return function(series) if series.name == 'bad' then return bad(series) "
                       "end return to('influx') end",
                       a->routing);
        fx_init(&f, (const char *const[]){NULL, a->routing, NULL, NULL});
        fx_load(&f);
        attack_once(&f, a);
        attack_once(&f, a);
        fx_write(&f, FX_ROUTING, routing, strlen(routing));
        assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_OK);
        for (int k = 0; k < 3; k++) {
            (void)fx_decide(&f, fx_series("bad", NULL), NULL);
            const struct tg_decision d = fx_decide(&f, fx_series("good", NULL), NULL);
            if (d.failed || d.targets != 4)
                bad("%s: the next series suffers: %s", a->name, tg_rules_stats(f.rules).last_error);
        }
        fx_deinit(&f);
    }
    assert_int_equal(n_bad, 0);
}

/* The same at the top level of a script, and scripts that are not scripts. */
static void test_bad_scripts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len; /* 0 = strlen */
        const char *error;
    } scripts[] = {
        {"while true do end", 0, "routing.lua:1: stopped after"},
        {"pcall(function() while true do end end) return to", 0, "routing.lua:1: stopped after"},
        {"local s = 'x' while true do s = s .. s end", 0,
         "routing.lua:1: out of memory: rules may"},
        {"\n\nreturn function(series\nend", 0, "routing.lua:4: "},
        {"x = 1", 0, "routing.lua:1: \"x\" would be a global"},
        {"local x = os.time()", 0, "routing.lua:1: \"os\" is not available"},
        {"", 0, "routing.lua: gives nothing; the script must end with"},
        {"return 5", 0, "routing.lua: gives number; the script must end with"},
        {"\x1bLJ\x02\x02", 0, "routing.lua: holds compiled Lua, which is refused"},
        {"\x1bLua", 0, "holds compiled Lua"},
        {"return \0 function() end", 24, "routing.lua:1"},
        {"error({})", 0, "routing.lua:1: error() was given a table"},
    };
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        struct fixture f;
        fx_init(&f, (const char *const[]){NULL, "", NULL, NULL});
        fx_write(&f, FX_ROUTING, scripts[i].text,
                 scripts[i].len ? scripts[i].len : strlen(scripts[i].text));
        for (int k = 0; k < 2; k++) {
            const uint64_t start = tg_clock_mono_ms();
            assert_int_equal(tg_rules_new(&f.config, &f.rules, &f.err), TG_ERR_INVALID);
            assert_null(f.rules);
            assert_true(tg_clock_mono_ms() - start < 10000); /* it ends, also on a busy machine */
            if (!strstr(f.err.msg, scripts[i].error)) fail_msg("%zu: %s", i, f.err.msg);
        }
        fx_deinit(&f);
    }
}

static void test_deeply_nested_source(void **state)
{
    (void)state;
    static const char *const parts[] = {"(", "{", "function() ", "a[", "-", "not ", "do "};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct tg_buf b;
        tg_buf_init(&b, 0);
        assert_int_equal(tg_buf_printf(&b, "return "), TG_OK);
        for (int k = 0; k < 50000; k++)
            assert_int_equal(tg_buf_append(&b, parts[i], strlen(parts[i])), TG_OK);
        struct fixture f;
        fx_init(&f, (const char *const[]){NULL, "", NULL, NULL});
        fx_write(&f, FX_ROUTING, (const char *)b.data, b.len);
        assert_int_equal(tg_rules_new(&f.config, &f.rules, &f.err), TG_ERR_INVALID);
        fx_deinit(&f);
        tg_buf_deinit(&b);
    }
}

static void test_time_budget(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, R("while true do end"), NULL, NULL});
    f.config.max_instructions = INT64_MAX;
    f.config.max_ms = 30;
    fx_load(&f);
    for (int i = 0; i < 2; i++) {
        const uint64_t start = tg_clock_mono_ms();
        assert_true(fx_decide(&f, fx_series("m", NULL), NULL).failed);
        assert_in_range(tg_clock_mono_ms() - start, 29, 500);
        assert_non_null(strstr(tg_rules_stats(f.rules).last_error,
                               "routing.lua:1: stopped after 30 ms, its budget"));
    }
    assert_int_equal(tg_rules_stats(f.rules).n_budget_overruns, 2);
    fx_deinit(&f);
}

static void test_small_instruction_budget(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, R("for i = 1, 1000 do end"), NULL, NULL});
    f.config.max_instructions = 500;
    fx_load(&f);
    assert_true(fx_decide(&f, fx_series("m", NULL), NULL).failed);
    fx_deinit(&f);
}

/* A rule that would collect: what it leaves behind is dropped after each series. */
static void test_growing_state(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL,
                                      "local seen, n = {}, 0\nreturn function(series)\n n = n + 1\n"
                                      " seen['series number ' .. n] = { n, ('x'):rep(3000) .. n }\n"
                                      " return to('influx')\nend",
                                      NULL, NULL});
    f.config.max_bytes = 4 << 20;
    fx_load(&f);
    const uint64_t before = tg_mem_used();
    for (int i = 0; i < 20000; i++) {
        const struct tg_decision d = fx_decide(&f, fx_series("m", NULL), NULL);
        assert_false(d.failed);
        assert_int_equal(d.targets, 4);
        assert_true(tg_mem_used() < before + (1 << 20));
    }
    assert_non_null(strstr(tg_rules_stats(f.rules).stray, "made outside of the function"));
    fx_deinit(&f);
}

static void test_memory_is_flat(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){R("series.tags.x = series.name .. 'x'"),
                                      R("return to('archive', 'influx')"), R("return all()"),
                                      R("return keep('1d', {['1h'] = '30d'})")});
    fx_load(&f);
    char name[32];
    uint64_t high = 0;
    for (int i = 0; i < 50000; i++) {
        (void)snprintf(name, sizeof(name), "series_%d", i);
        assert_false(fx_decide(&f, fx_series(name, NULL), NULL).failed);
        if (i == 5000) high = tg_mem_used();
    }
    assert_true(tg_mem_used() < high + (256 << 10));
    fx_deinit(&f);
}

/* With the process out of memory, decisions still come out, and loading recovers afterwards. */
static void test_fail_every_allocation(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f,
            (const char *const[]){R("series.tags.x = series.name .. 'x'"), R("return to('influx')"),
                                  R("return all()"), R("return keep('1d', {['1h'] = '30d'})")});
    uint64_t n = 1;
    for (;; n += n < 400 ? 1 : 7) { /* opening the libraries takes some thousands */
        tg_mem_fail_at(n);
        const enum tg_code code = tg_rules_new(&f.config, &f.rules, &f.err);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (code == TG_OK) {
            tg_rules_free(f.rules);
            f.rules = NULL;
            if (!fired) break;
        } else {
            assert_true(fired);
            assert_null(f.rules);
        }
    }
    assert_true(n > 100);
    fx_load(&f);
    for (n = 1;; n++) {
        tg_mem_fail_at(n);
        const enum tg_code code = tg_rules_reload(f.rules, &f.err);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(fx_decide(&f, fx_series("m", NULL), NULL).targets, 4);
        if (code == TG_OK && !fired) break;
        n += n < 400 ? 0 : 12;
    }
    for (n = 1; n < 200; n++) {
        struct tg_decision d;
        tg_arena_reset(&f.arena);
        tg_mem_fail_at(n);
        const enum tg_code code =
            tg_rules_decide(f.rules, 0, fx_series("m", NULL), &f.arena, &d, NULL);
        tg_mem_fail_at(0);
        assert_true(code == TG_OK || code == TG_ERR_NOMEM);
        if (code == TG_OK) assert_true(d.failed ? d.targets == 7 : d.targets == 4);
        const struct tg_decision good = fx_decide(&f, fx_series("m", NULL), NULL);
        assert_false(good.failed);
        assert_int_equal(good.targets, 4);
    }
    fx_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attacks),
        cmocka_unit_test(test_bad_scripts),
        cmocka_unit_test(test_deeply_nested_source),
        cmocka_unit_test(test_time_budget),
        cmocka_unit_test(test_small_instruction_budget),
        cmocka_unit_test(test_growing_state),
        cmocka_unit_test(test_memory_is_flat),
        cmocka_unit_test(test_fail_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
