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
            if ((report.items[i].kind == TG_RULES_ERROR) == is_warning ||
                !strstr(report.items[i].text, says))
                fail_msg("%s\nwant %s\ngot %s%s", text, want[i],
                         report.items[i].kind == TG_RULES_ERROR ? "" : "warning: ",
                         report.items[i].text);
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

#define FN "return function(series)\n"

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
        {FX_ROUTING, "local function to(x) return drop(x) end\n" RARE("to('noise')"), {NULL}},
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

/* One finding, certain or not. */
static void expect_found(const char *text, const char *says)
{
    static struct tg_rules_report report;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, text, NULL, NULL});
    const enum tg_code code = tg_rules_check(&f.config, &report);
    assert_int_equal(code, report.n_errors ? TG_ERR_INVALID : TG_OK);
    if (report.n_items != 1 || !strstr(report.items[0].text, says))
        fail_msg("%s\n%u findings: %s", text, report.n_items,
                 report.n_items ? report.items[0].text : "none");
    fx_deinit(&f);
}

#define WARNS "warning: routing.lua:2: to(): no backend is called \"nowhere\""

/* A name that reaches to() on a way of its own: through variables, tables, functions, aliases. */
static void test_on_whatever_way(void **state)
{
    (void)state;
    static const char *const warned[] = {
        "local b = 'archive'\nif #b > 99 then b = 'nowhere' end\n" RARE("to(b)"),
        "local b\nb = 'nowhere'\nb = b or 'archive'\n" RARE("to(b)"),
        "local function send(_, n) return to(n) end\nlocal s = send('nowhere', 'nowhere')\n" RARE(
            "s"),
        "local function send(...) return to(...) end\nlocal s = send('archive', 'nowhere')\n" RARE(
            "s"),
        "local function send(...) local t = { ... } return to(t) end\nlocal s = "
        "send('nowhere')\n" RARE("s"),
        "local t = {}\nt.x = 'nowhere'\n" RARE("to(t.x)"),
        "local t = {}\nt[1] = 'nowhere'\n" RARE("to(t)"),
        "local t = {}\ntable.insert(t, 'nowhere')\n" RARE("to(unpack(t))"),
        "local t = {}\nt[#t + 1] = 'nowhere'\n" RARE("to(table.remove(t))"),
        "local t = { eu = { web = 'archive',\n db = 'nowhere' } }\n" RARE("to(t[series.name].db)"),
        "local web = {\n'nowhere' }\nlocal t = { web = web }\n" RARE("to(t.web[1])"),
        "local web = {\nx = 'nowhere' }\nlocal t = { web = web }\nlocal y = t.web\n" RARE(
            "to(y.x)"),
        "local t = {\n{ 'nowhere' } }\nlocal function f() for _, x in ipairs(t) do "
        "for _, y in pairs(x) do return to(y) end end end\n" RARE("f()"),
        "local t = to\nlocal s = pcall(t, 'nowhere')\n" RARE("to(s and 'archive')"),
        "local h = { send = function(n) return to(n) end, log = function(n) return n end }\n"
        "local s = h.send('nowhere') or h.log('elsewhere')\n" RARE("s"),
        "local h = {} function h.send(n) return to(n) end function h.log(n) return n end\n"
        "local s = h.send('nowhere') or h.log('elsewhere')\n" RARE("s"),
        "local h = {} function h:send(n) return to(n) end\nlocal s = h:send('nowhere')\n" RARE("s"),
        "local function pick(x) if x then return 'archive' end\nreturn 'nowhere' end\n" RARE(
            "to(pick(series.name))"),
        "local function two() return 'archive',\n'nowhere' end local a, b = two()\n" RARE(
            "to(a, b)"),
        "local function make(n) return function() return to(n) end end\n"
        "local s = make('nowhere')\n" RARE("s()"),
        "local function each(f) return f(\n'nowhere') end\n" RARE("each(to)"),
        "local function each(f) return f(\n'nowhere') end\n" RARE(
            "each(function(n) return to(n) end)"),
        "local x = 'archive' do local x = 'other'; x = x:upper() end\nx = 'nowhere'\n" RARE(
            "to(x)"),
        "local r = 'archive' repeat local q =\n'nowhere' r = q until q\n" RARE("to(r)"),
        "local r = 'archive' for i = 1, 9 do if i > 2 then r =\n'nowhere' else r = i end "
        "end\n" RARE("to(r)"),
        "local r = 'archive' while not r do r =\n'nowhere' goto out end ::out::\n" RARE("to(r)"),
        "local a, b, c = 'x' == 'y', (select(2,\n'nowhere'))\n" RARE("to(b, c and a)"),
    };
    for (size_t i = 0; i < sizeof(warned) / sizeof(warned[0]); i++) {
        expect_found(warned[i], WARNS + 9);
    }
    /* Whenever it runs. */
    static const char *const refused[] = {
        "local function send(n) return to(n) end\nlocal s = send 'nowhere'\n" RARE("s"),
        "local function send(n) return to(n) end\nlocal s = send('nowhere')\n" RARE("s"),
        "local t = to\nlocal s = pcall(t, 'nowhere')\n" RARE("to(s and 'archive')"),
        "local function each(f) return f(\n'nowhere') end\n" RARE("each(to)"),
        "local b\nb = 'nowhere'\n" RARE("to(b)"),
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        expect(FX_ROUTING, refused[i], (const char *const[]){WARNS + 9, NULL});
    /* In the rule itself. */
    expect(FX_ROUTING,
           FN "local function send(n) return to(n) end\nif series.tags.x then return send('inflx') "
              "end end",
           (const char *const[]){"routing.lua:3: to(): no backend", NULL});
    expect(FX_ROUTING, FN "return (pcall(to,\n 'inflx')) end",
           (const char *const[]){"routing.lua:3: to(): no backend", NULL});
    expect(FX_STRATEGY, "local p = primary_only\n" FN "return p('inflx') end",
           (const char *const[]){"strategy.lua:3: primary_only(): no backend", NULL});
    expect(FX_RETENTION,
           FN "local d = '90x'\nif series.tags.x then d = '1d' end return keep(d) end",
           (const char *const[]){"warning: retention.lua:2: keep(): the duration", NULL});
}

/* More than there is time to follow is said. */
static void test_entangled(void **state)
{
    (void)state;
    enum { N = 2500, CAP = 1 << 18 };
    static char text[CAP];
    size_t n = (size_t)snprintf(text, CAP, "local x = 'archive'\nreturn function(series)\n");
    for (int i = 0; i < N; i++)
        n += (size_t)snprintf(text + n, CAP - n,
                              "if series.name == '%d' then x = 'influx' return to(x) end\n", i);
    (void)snprintf(text + n, CAP - n, "end");
    expect_found(text, "routing.lua:1: too much of the script");
}

/* A call whose verdict nobody gets: what it says has no effect. */
static void test_forgotten_return(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want[3];
    } cases[] = {
        {FN "to('archive')\nend",
         {"routing.lua:2: what to() gives is not returned, and has no effect; write \"return "
          "to(...)\""}},
        {FN "if series.tags.x then to 'archive' end\n return to('influx') end",
         {"routing.lua:2: what to() gives"}},
        {FN "if series.tags.x then\n drop('x') end\n return to('influx') end",
         {"routing.lua:3: what drop() gives"}},
        {FN "local x = series.name to{'archive'}\n return to('influx') end",
         {"routing.lua:2: what to() gives"}},
        {FN "local send = to\n send('archive')\nend", {"routing.lua:3: what send() gives"}},
        {"local function send(n) return to(n) end\n" FN "send('archive')\n return nil end",
         {"routing.lua:3: what send() gives"}},
        {"local h = {} function h.send(n) return to(n) end\n" FN
         "h.send('archive')\n return nil end",
         {"warning: routing.lua:3: what send() gives"}},
        {FN "pcall(to, 'archive')\n return nil end", {"routing.lua:2: what pcall() gives"}},
        {FN "for _, n in ipairs({ 'archive' }) do to(n) end\n return nil end",
         {"routing.lua:2: what to() gives"}},
        {"local function note(x) x.y = 1 end\n" FN "local t = {} note(t)\n table.insert(t, "
         "to('archive')) return t[1] end",
         {NULL}},
        {FN "local r = to('archive') if series.tags.x then r = to('influx') end return r end",
         {NULL}},
        {"local function drop(x) return #x end\n" FN "drop('x')\n return nil end", {NULL}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect(FX_ROUTING, cases[i].text, cases[i].want);
}

/* A text that is nearly a backend's name, wherever it is kept or given. */
static void test_nearly_a_name(void **state)
{
    (void)state;
    static const char says[] =
        "warning: routing.lua:2: \"inflx\" is not the name of a backend; did you mean \"influx\"?";
    static const char *const doubted[] = {
        FN "local main = 'inflx' return to(main:lower()) end",
        FN "local main = {'inflx'} return to(table.concat(main)) end",
        FN "local function f(x) return to(x .. '') end return f('inflx') end",
        FN "local main = 'inflx'\n -- not a backend\n return to(main:lower()) end",
    };
    static const char *const fine[] = {
        FN "if series.tags.db == 'inflx' then return drop('inflx') end end",
        FN "if series.name:find('inflx') then return to(series.tags['inflx']) end end",
        FN "local main = 'inflx' -- not a backend\n return to(main:lower()) end",
        FN "local main = 'unlike' return to(main:lower()) end",
        FN "local main = [[influx]] return to(main:lower()) end",
        FN "local main = 'influx' return to(main:lower()) end",
    };
    for (size_t i = 0; i < sizeof(doubted) / sizeof(doubted[0]); i++)
        expect(FX_ROUTING, doubted[i], (const char *const[]){says, NULL});
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
        expect(FX_ROUTING, fine[i], (const char *const[]){NULL});
    static const char *const near[] = {"Influx",  "inflxu",  "influx2", "nflu",
                                       "ARCHIVE", "timscal", "niflxu",  "NIFLXU"};
    static const char *const far[] = {"inf", "influence", "flux_db", "arch"};
    char text[200];
    for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
        (void)snprintf(text, sizeof(text), FN "local m = '%s' return to(m:lower()) end", near[i]);
        expect(FX_ROUTING, text, (const char *const[]){"warning: routing.lua:2: ", NULL});
    }
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(text, sizeof(text), FN "local m = '%s' return to(m:lower()) end", far[i]);
        expect(FX_ROUTING, text, (const char *const[]){NULL});
    }
    expect(FX_RETENTION, FN "local m = 'inflx' return m == 'x' and keep('1d') or nil end",
           (const char *const[]){NULL});
    expect(FX_STRATEGY, FN "local m = 'inflx' return primary_only(m:lower()) end",
           (const char *const[]){"warning: strategy.lua:2: \"inflx\" is not the name", NULL});
}

/* Of a short name one letter may be wrong, not two. */
static void test_nearly_a_short_name(void **state)
{
    (void)state;
    static const char *const backends[] = {"push"};
    static struct tg_rules_report report;
    static const struct {
        const char *text;
        bool is_near;
    } cases[] = {{"pusj", true}, {"pus", true}, {"pull", false}, {"us", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        char text[200];
        (void)snprintf(text, sizeof(text), FN "local m = '%s' return to(m:lower()) end",
                       cases[i].text);
        fx_init(&f, (const char *const[]){NULL, text, NULL, NULL});
        f.config.backends = backends;
        f.config.n_backends = 1;
        assert_int_equal(tg_rules_check(&f.config, &report), TG_OK);
        if (report.n_items != (cases[i].is_near ? 1 : 0)) fail_msg("%s", text);
        if (cases[i].is_near)
            assert_non_null(strstr(report.items[0].text, "did you mean \"push\""));
        fx_deinit(&f);
    }
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
        RARE("to(tostring('nowhere'))"),
        "-- to('inflx')\n--[[ to('inflx') ]]\nlocal s = \"to('inflx')\" local t = "
        "[[to('inflx')]]\n" RARE("to(#s > #t and 'influx' or 'archive')"),
        "local m = { to = function(x) return drop(x) end }\n" RARE("m.to('nowhere')"),
        "local m = { to = function(_, x) return drop(x) end }\n" RARE("m:to('nowhere')"),
        "local main = 'inflx' .. ''\n" RARE("to(main)"),
        "local names = { to = 'nowhere', keep = '90x' }\n" RARE("drop(names.to)"),
        "local self = {}\nfunction self:to(x) self.x = x return drop(x) end\n" RARE(
            "self:to('nowhere')"),
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
        cmocka_unit_test(test_on_whatever_way),
        cmocka_unit_test(test_entangled),
        cmocka_unit_test(test_forgotten_return),
        cmocka_unit_test(test_nearly_a_name),
        cmocka_unit_test(test_nearly_a_short_name),
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
