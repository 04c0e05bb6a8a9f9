/* Our pattern matcher against LuaJIT's: every pattern on every subject must give the same matches,
 * captures and replacements. And SHA-256 against the vectors of FIPS 180-4. */
#include <lauxlib.h>
#include <lualib.h>

#include "core/rules/sha256.h"
#include "core/vm/pattern.h"
#include "tests/unit/rules/rules_fixture.h"

static const char *const subjects[] = {"",
                                       "a",
                                       "ab",
                                       "aab",
                                       "hello world",
                                       "  trim me  ",
                                       "key = value",
                                       "node.cpu.user",
                                       "THE (quick) fox",
                                       "f(a(b)c)d)",
                                       "x=1,y=22,z=333",
                                       "aaaaaaaab",
                                       "%d%%",
                                       "a.b-c_d",
                                       "2026-11-23T08:10:00Z",
                                       "[[x]]",
                                       "^a$",
                                       "abcabcabc",
                                       "\t\n x",
                                       "a]b",
                                       "0x1F",
                                       "caf\xc3\xa9"};

static const char *const patterns[] = {"",
                                       "a",
                                       "a*",
                                       "a+",
                                       "a-",
                                       "a?",
                                       "a-b",
                                       "^a",
                                       "^a*$",
                                       "b$",
                                       ".",
                                       ".*",
                                       ".-",
                                       ".+",
                                       ".-$",
                                       "%a+",
                                       "%d+",
                                       "%s*$",
                                       "^%s*(.-)%s*$",
                                       "(%w+)%s*=%s*(%w+)",
                                       "(%w+)=(%w+)",
                                       "%w*",
                                       "%W",
                                       "%S+",
                                       "%u",
                                       "%l+",
                                       "%p",
                                       "%x+",
                                       "%c",
                                       "[abc]+",
                                       "[^abc]+",
                                       "[a-c]",
                                       "[a-]",
                                       "[]]",
                                       "[^]]",
                                       "[%a_]+",
                                       "[%d%.]+",
                                       "%b()",
                                       "%f[%w]%w+",
                                       "%f[%a]",
                                       "(a)(b)",
                                       "((a)b)",
                                       "()",
                                       "()a()",
                                       "(a*)(b?)",
                                       "(.)%1",
                                       "(a+)b%1",
                                       "%.",
                                       "%%",
                                       "^(%d+)-(%d+)-(%d+)T",
                                       "[%w]+%.",
                                       "[^%s]+",
                                       "a.-c",
                                       "%-",
                                       "(%()",
                                       "%]",
                                       "x$y",
                                       "$",
                                       "^",
                                       "a^b",
                                       "[.]",
                                       "(.-)%.(.*)",
                                       "[a-z][A-Z]?",
                                       "%f[%d]%d*",
                                       "\xc3."};

static const char *const replacements[] = {"", "x", "<%0>", "[%1]", "%%"};

/* Lua program that applies find, match, gmatch and gsub and gives one text of it all. */
static const char program[] =
    "return function(s, p, r)\n"
    "  local out = {}\n"
    "  local function add(...)\n"
    "    for i = 1, select('#', ...) do out[#out + 1] = tostring((select(i, ...))) end\n"
    "    out[#out + 1] = ';'\n"
    "  end\n"
    "  add(s:find(p)) add(s:find(p, 2)) add(s:find(p, -2)) add(s:find(p, 100))\n"
    "  add(s:match(p)) add(s:match(p, 3)) add(s:find(p, 1, true))\n"
    "  local n = 0 for a, b in s:gmatch(p) do add(a, b) n = n + 1 if n > 50 then break end end\n"
    "  local ok, x, k = pcall(s.gsub, s, p, r) add(ok, ok and x or '', k)\n"
    "  add(s:gsub(p, '.', 2)) add(s:gsub(p, { a = 'A' }))\n"
    "  add(s:gsub(p, function(a, b) return b and tostring(a) .. 'b' end))\n"
    "  return table.concat(out, '|')\n"
    "end";

static void test_same_as_luajit(void **state)
{
    (void)state;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    assert_int_equal(luaL_dostring(L, program), 0);
    /* The same program as a rule: subject, pattern and replacement come in as tags, the result
     * leaves as one. */
    char rule[2048];
    (void)snprintf(rule, sizeof(rule),
                   "local run = (function() %s end)()\nreturn function(series) local t = "
                   "series.tags t.out = hash(run(t.s or '', t.p or '', t.r or ''), 32) end",
                   program);
    struct fixture f;
    fx_init(&f, (const char *const[]){rule, NULL, NULL, NULL});
    fx_load(&f);
    const size_t n_replacements = sizeof(replacements) / sizeof(replacements[0]);
    size_t n = 0;
    for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
        for (size_t j = 0; j < sizeof(patterns) / sizeof(patterns[0]); j++, n++) {
            const char *r = replacements[n % n_replacements];
            /* A pattern that is not valid UTF-8 cannot be a tag; those go without this check. */
            if (strcmp(patterns[j], "\xc3.") == 0) continue;
            lua_pushvalue(L, -1);
            lua_pushstring(L, subjects[i]);
            lua_pushstring(L, patterns[j]);
            lua_pushstring(L, r);
            assert_int_equal(lua_pcall(L, 3, 1, 0), 0);
            size_t len;
            const char *want = lua_tolstring(L, -1, &len);
            uint8_t digest[32];
            char hex[65];
            tg_sha256(want, len, digest);
            for (int k = 0; k < 32; k++) (void)snprintf(hex + k * 2, 3, "%02x", digest[k]);

            const char *const tags[] = {"p", patterns[j], "r", r, "s", subjects[i], NULL};
            const struct tg_decision d = fx_decide(&f, fx_series("m", tags), NULL);
            if (d.failed)
                fail_msg("find(\"%s\", \"%s\") %s", subjects[i], patterns[j],
                         tg_rules_stats(f.rules).last_error);
            const struct tg_tag *out = tg_series_desc_tag(&d.mapped, "out", 3);
            if (!out || memcmp(out->value, hex, 32) != 0)
                fail_msg("(\"%s\"):find(\"%s\") with \"%s\" differs; LuaJIT: %s", subjects[i],
                         patterns[j], r, want);
            lua_pop(L, 1);
        }
    }
    fx_deinit(&f);
    lua_close(L);
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {"%",   "a%",  "[",  "[a",   "[^", "[%",  "[a%",
                                      "(",   "(a",  ")",  "a)",   "%b", "%bx", "%f",
                                      "%fa", "%f[", "%1", "(%1)", "%0"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct tg_pattern p;
        for (int k = 0; k < 2; k++)
            if (!tg_pattern_compile(&p, bad[i], strlen(bad[i]), true))
                fail_msg("\"%s\" compiled", bad[i]);
        assert_null(tg_pattern_compile(&p, "a", 1, true));
    }
}

static void test_steps_are_bounded(void **state)
{
    (void)state;
    static char subject[4000];
    memset(subject, 'a', sizeof(subject));
    struct tg_pattern p;
    static const char *const slow[] = {".-.-.-.-b", ".*.*.*b", "a*a*a*b", "(.-)(.-)(.-)%1b"};
    for (size_t i = 0; i < sizeof(slow) / sizeof(slow[0]); i++) {
        assert_null(tg_pattern_compile(&p, slow[i], strlen(slow[i]), true));
        struct tg_pattern_match m = {
            .subject = subject, .subject_len = sizeof(subject), .max_steps = 100000};
        assert_int_equal(tg_pattern_search(&p, &m, 0), TG_PATTERN_OVER);
        assert_in_range(m.steps, 100000, 110000);
    }
}

static void test_sha256(void **state)
{
    (void)state;
    static const struct {
        const char *text, *hex;
    } vectors[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrl"
         "mnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint8_t digest[32];
        char hex[65];
        tg_sha256(vectors[i].text, strlen(vectors[i].text), digest);
        for (int k = 0; k < 32; k++) (void)snprintf(hex + k * 2, 3, "%02x", digest[k]);
        assert_string_equal(hex, vectors[i].hex);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_luajit),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_steps_are_bounded),
        cmocka_unit_test(test_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
