/* What a script names by constants: found when it loads, whatever branch it stands in. */
#include "core/rules/tokens.h"
#include "core/rules/vm.h"
#include "tests/unit/rules/rules_fixture.h"

static void expect(int script, const char *text, const char *const *want)
{
    static struct tg_rules_report report;
    struct fixture f;
    const char *texts[FX_SCRIPTS] = {NULL};
    texts[script] = text;
    fx_init(&f, texts);
    bool has_error = false;
    uint32_t n = 0;
    for (; want[n]; n++) has_error |= strncmp(want[n], "warning: ", 9) != 0;
    for (int twice = 0; twice < 2; twice++) {
        const enum tg_code code = tg_rules_check(&f.config, &report);
        for (uint32_t i = 0; i < report.n_items && i < n; i++) {
            const bool is_warning = strncmp(want[i], "warning: ", 9) == 0;
            const char *says = want[i] + (is_warning ? 9 : 0);
            if (report.items[i].is_error == is_warning || !strstr(report.items[i].text, says))
                fail_msg("%s\nwant %s\ngot %s%s", text, want[i],
                         report.items[i].is_error ? "" : "warning: ", report.items[i].text);
        }
        if (report.n_items != n)
            fail_msg("%s\nwant %u findings, got %u; the last: %s", text, n, report.n_items,
                     report.n_items ? report.items[report.n_items - 1].text : "none");
        assert_int_equal(code, has_error ? TG_ERR_INVALID : TG_OK);
        /* The same look is taken when the rules are loaded. */
        assert_int_equal(tg_rules_new(&f.config, &f.rules, &f.err), code);
        tg_rules_free(f.rules);
        f.rules = NULL;
    }
    fx_deinit(&f);
}

#define RARE(call) \
    "return function(series)\n  if series.tags.rare then\n    return " call "\n  end\nend"

static void test_constants(void **state)
{
    (void)state;
    static const struct {
        int script;
        const char *text;
        const char *want[4];
    } cases[] = {
        {FX_ROUTING,
         RARE("to(\"inflx\")"),
         {"routing.lua:3: to(): no backend is called \"inflx\"; did you mean \"influx\"?"}},
        {FX_ROUTING, RARE("to('archive', 'inflx')"), {"routing.lua:3: to(): no backend"}},
        {FX_ROUTING, RARE("to 'inflx'"), {"routing.lua:3: to(): no backend"}},
        {FX_ROUTING, RARE("to [[inflx]]"), {"routing.lua:3: to(): no backend"}},
        {FX_ROUTING, RARE("to [==[\ninflx]==]"), {"routing.lua:3: to(): no backend"}},
        {FX_ROUTING, RARE("to{'archive',\n 'inflx'}"), {"routing.lua:4: to(): no backend"}},
        {FX_ROUTING, RARE("to({'archive', 'inflx'})"), {"routing.lua:3: to(): no backend"}},
        {FX_ROUTING, RARE("to(series.name and 'inflx' or 'archive')"), {"no backend"}},
        {FX_ROUTING, RARE("to(series.name and 'archive' or 'inflx')"), {"no backend"}},
        {FX_ROUTING, RARE("to('a', 'b')"), {"called \"a\"", "called \"b\""}},
        {FX_ROUTING, RARE("to(--[[ here ]] 'inflx' -- there\n)"), {"routing.lua:3: to()"}},
        {FX_ROUTING, RARE("to('infl\\120x')"), {"called \"inflxx\""}},
        {FX_ROUTING, RARE("to('infl\\117x')"), {NULL}}, /* an escape is read as Lua reads it */
        {FX_ROUTING, "local main = 'inflx'\n" RARE("to(main, 'archive')"), {"routing.lua:1: to()"}},
        {FX_ROUTING,
         "local by_team = { billing = 'timescale',\n ops = 'inflx' }\n" RARE(
             "to(by_team[series.tags.team])"),
         {"warning: routing.lua:2: to(): no backend is called \"inflx\""}},
        {FX_ROUTING,
         "local by_team = { billing = { 'archive', 'timescal' } }\n" RARE(
             "to(unpack(by_team[series.tags.team]))"),
         {"warning: routing.lua:1: to(): no backend is called \"timescal\""}},
        {FX_ROUTING,
         "local function to(x) return drop(x) end\n" RARE("to('noise')"),
         {"warning: routing.lua:4: to(): no backend is called \"noise\""}},
        {FX_STRATEGY,
         RARE("primary_only('inflx')"),
         {"strategy.lua:3: primary_only(): no backend"}},
        {FX_STRATEGY,
         RARE("primary_with_async_replication \"inflx\""),
         {"strategy.lua:3: primary_with_async_replication(): no backend"}},
        {FX_STRATEGY, RARE("primary_only('influx')"), {NULL}},
        {FX_RETENTION, RARE("keep('90x')"), {"retention.lua:3: keep(): the duration"}},
        {FX_RETENTION,
         RARE("keep('90d', { ['5m'] = '2yy' })"),
         {"retention.lua:3: keep(): a rollup's duration"}},
        {FX_RETENTION, RARE("keep(series.tags.x and '90x' or '1d')"), {"keep(): the duration"}},
        {FX_RETENTION, RARE("keep('90d', { ['5m'] = '2y', ['1h'] = '10y' })"), {NULL}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect(cases[i].script, cases[i].text, cases[i].want);
}

/* Names that are none of the rules' business, or that only a run can tell. */
static void test_left_alone(void **state)
{
    (void)state;
    static const char *const nothing[] = {NULL};
    static const char *const texts[] = {
        RARE("to(series.tags.backend)"),
        RARE("to('inf' .. 'lx' == 'x' and 'influx' or 'archive')"),
        RARE("to('inf' .. series.tags.x)"),
        RARE("to(series.tags['inflx'])"),
        RARE("to(({ x = 'inflx', y = 'influx' }).y)"),
        RARE("to(tostring('inflx'))"),
        "-- to('inflx')\n--[[ to('inflx') ]]\nlocal s = \"to('inflx')\" local t = "
        "[[to('inflx')]]\n" RARE("to(#s > #t and 'influx' or 'archive')"),
        "local m = { to = function(x) return drop(x) end }\n" RARE("m.to('inflx')"),
        "local m = { to = function(_, x) return drop(x) end }\n" RARE("m:to('inflx')"),
        "local main = 'inflx'\nmain = 'influx'\n" RARE("to(main)"),
        "local main = 'inflx' .. ''\n" RARE("to(main)"),
        "local names = { to = 'inflx', keep = '90x' }\n" RARE("drop(names.to)"),
        "local self = {}\nfunction self:to(x) self.x = x return drop(x) end\n" RARE(
            "self:to('inflx')"),
        "return function(series, ...)\n  goto done\n  ::done::\n  for i, v in ipairs({ ... }) do "
        "local x, y = i, v\n if x == y then return to('influx') end end\n  local function f(a) "
        "return a end\n  return f(nil)\nend",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        expect(FX_ROUTING, texts[i], nothing);
}

static void test_globals_are_warnings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want[3];
    } cases[] = {
        {RARE("dorp('noise')"), {"warning: routing.lua:3: there is no \"dorp\"; did you mean"}},
        {RARE("os.time() and drop('x') or drop('y')"),
         {"warning: routing.lua:3: \"os\" is not available in rules"}},
        {RARE("string.fnd(series.name, 'x') and drop('x') or nil"),
         {"warning: routing.lua:3: \"fnd\" is not in the string functions"}},
        {RARE("team and drop(team) or team"), {"warning: routing.lua:3: there is no \"team\""}},
        {RARE("string.find(series.name, 'x', 1, true) and drop('x') or nil"), {NULL}},
        {RARE("series.nmae == 'x' and drop('x') or nil"),
         {"warning: routing.lua:3: a series has no \"nmae\"; did you mean series.name?"}},
        {RARE("(series.measurement or series.field or series.kind .. series.unit) and drop('x') or "
              "series.origin('x') and drop('y') or nil"),
         {NULL}},
        {"local function f(series) return series.nmae end\n"
         "local function g(a, series) return a, series.nmae end\n" RARE(
             "f(g) and drop('x') or nil"),
         {NULL}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect(FX_ROUTING, cases[i].text, cases[i].want);
}

static void test_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want; /* the tokens, each followed by its line */
    } cases[] = {
        {"", ""},
        {"#!/x\ny", "y2 "},
        {"\xEF\xBB\xBFy", "y1 "},
        {"a..b...c", "a1 ..1 b1 ...1 c1 "},
        {"x=0x1p-4+1e+5 .5", "x1 =1 0x1p-41 +1 1e+51 .51 "},
        {"a[b[ [[c]] ]]", "a1 [1 b1 [1 [[c]]1 ]1 ]1 "},
        {"'a\\'b' \"c\\\"d\" 'e\\\nf' g", "'a\\'b'1 \"c\\\"d\"1 'e\\\nf'1 g2 "},
        {"'a\\z \n b' c", "'a\\z \n b'1 c2 "},
        {"--x\n--[[\n]]y--[=[ ]] ]=]z", "y3 z3 "},
        {"[=[\n]]]=]x", "[=[\n]]]=]1 x2 "},
        {"'open", "'open1 "},
        {"[[open", "[[open1 "},
        {"::l:: goto l", "::1 l1 ::1 goto1 l1 "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tg_tokens t;
        char got[256] = "";
        size_t n = 0;
        assert_int_equal(tg_tokens_read(&t, cases[i].text, strlen(cases[i].text)), TG_OK);
        for (uint32_t k = 0; k < t.n; k++)
            n += (size_t)snprintf(got + n, sizeof(got) - n, "%.*s%u ", (int)t.items[k].len,
                                  t.text + t.items[k].start, t.items[k].line);
        assert_string_equal(got, cases[i].want);
        tg_tokens_deinit(&t);
    }
}

static void test_reload_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, RARE("to('influx')"), NULL, NULL});
    fx_load(&f);
    fx_write(&f, FX_ROUTING, RARE("to('inflx')"), strlen(RARE("to('inflx')")));
    assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_ERR_INVALID);
    assert_non_null(strstr(f.err.msg, "routing.lua:3: to(): no backend is called \"inflx\""));
    assert_int_equal(tg_rules_generation(f.rules), 1);
    fx_deinit(&f);
}

static void test_many(void **state)
{
    (void)state;
    static struct tg_rules_report report;
    struct fixture f;
    char *text = malloc(1 << 16);
    size_t n = (size_t)sprintf(text, "return function(series)\n");
    for (int i = 0; i < 100; i++)
        n += (size_t)sprintf(text + n, "if series.name == '%d' then return to('x%d') end\n", i, i);
    (void)strcpy(text + n, "end");
    fx_init(&f, (const char *const[]){NULL, text, NULL, NULL});
    assert_int_equal(tg_rules_check(&f.config, &report), TG_ERR_INVALID);
    assert_int_equal(report.n_errors, 100);
    assert_int_equal(report.n_items, TG_RULES_MAX_FINDINGS);
    fx_deinit(&f);
    free(text);
}

static void test_no_memory(void **state)
{
    (void)state;
    static struct tg_rules_report report;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, RARE("to('inflx')"), NULL, NULL});
    for (uint64_t n = 1;; n++) {
        tg_mem_fail_at(n);
        const enum tg_code code = tg_rules_check(&f.config, &report);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        /* Found, or said that memory ran out; never found nothing, and nothing made up. */
        assert_int_not_equal(code, TG_OK);
        for (uint32_t i = 0; i < report.n_items; i++)
            if (!strstr(report.items[i].text, "no backend") &&
                !strstr(report.items[i].text, "out of memory"))
                fail_msg("allocation %llu: %s", (unsigned long long)n, report.items[i].text);
        if (!fired) break;
    }
    fx_deinit(&f);
}

/* `name` or `name(...` in the page. */
static void expect_named(const char *page, const char *name)
{
    char quoted[80];
    (void)snprintf(quoted, sizeof(quoted), "`%s`", name);
    if (strstr(page, quoted)) return;
    (void)snprintf(quoted, sizeof(quoted), "`%s(", name);
    if (!strstr(page, quoted)) fail_msg("docs/rules.md does not name %s, which rules have", name);
}

/* The names in the table on top, and in the libraries among them. Pops it. */
static unsigned expect_all_named(const char *page, lua_State *L)
{
    unsigned n = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        expect_named(page, lua_tostring(L, -2));
        n++;
        if (lua_type(L, -1) != LUA_TUSERDATA || !lua_getmetatable(L, -1)) continue;
        lua_getfield(L, -1, "__index");
        n += expect_all_named(page, L);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return n;
}

static void test_the_page_names_all_that_rules_have(void **state)
{
    (void)state;
    static const _Atomic uint64_t never = UINT64_MAX;
    static char text[] = "return function() end";
    static char page[256 << 10];
    const struct tg_rules_config config = {.backends = fx_backends,
                                           .n_backends = 3,
                                           .max_instructions = 1000000,
                                           .max_ms = 60000,
                                           .max_bytes = 32 << 20};
    struct tg_rule_text texts[TG_RULES] = {
        [TG_RULE_ROUTING] = {.name = "routing.lua", .text = text, .len = sizeof(text) - 1}};
    struct tg_vm *vm = NULL;
    struct tg_err err;
    FILE *in = fopen(TG_SOURCE_DIR "/docs/rules.md", "r");
    assert_non_null(in);
    page[fread(page, 1, sizeof(page) - 1, in)] = '\0';
    assert_int_equal(fclose(in), 0);
    assert_int_equal(tg_vm_new(&config, 1, texts, &never, &vm, &err), TG_OK);
    lua_State *L = vm->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->ref_rules[TG_RULE_ROUTING]);
    lua_getfenv(L, -1);
    assert_true(lua_getmetatable(L, -1));
    lua_getfield(L, -1, "__index");
    assert_true(expect_all_named(page, L) > 80);
    tg_vm_free(vm);
    tg_free(texts[TG_RULE_ROUTING].code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_left_alone),
        cmocka_unit_test(test_globals_are_warnings),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_reload_is_refused),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_the_page_names_all_that_rules_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
