/* gateway.lua: what is accepted, what every kind of mistake says, and that all mistakes are said.
 */
#include "core/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/logger.h"
#include "core/base/mem.h"

static char dir[64];
static char path[96];

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/tg-config-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    (void)snprintf(path, sizeof(path), "%s/gateway.lua", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir);
}

static void write_file(const char *text)
{
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

#define ARCHIVE "backends = { archive = { type = 'parquet', dir = 'p' } }"

/* `want` holds the messages' parts, in any order; every message must have one and every part must
 * be found. */
static const struct {
    const char *name, *text;
    const char *want[8];
} mistakes[] = {
    {"unknown section",
     "return { lisen = {}, " ARCHIVE " }",
     {"lisen: unknown key; did you mean \"listen\"?"}},
    {"unknown key",
     "return {\n log = {\n  sinc = 'always' }, " ARCHIVE " }",
     {"gateway.lua:3: log.sinc: unknown key; did you mean \"sync\"?"}},
    {"far from all",
     "return { limits = { zzzzzzzz = 1 }, " ARCHIVE " }",
     {"limits.zzzzzzzz: unknown key; known here: series, "}},
    {"unknown key of a backend",
     "return { backends = { archive = { type = 'parquet', dir = 'p', drr = 'x' } } }",
     {"backends.archive.drr: unknown key; did you mean \"dir\"?"}},
    {"unknown type",
     "return { backends = { archive = { type = 'parket', dir = 'p' } } }",
     {"backends.archive.type = \"parket\": unknown backend type; did you mean \"parquet\"?"}},
    {"no type",
     "return { backends = { archive = { dir = 'p' } } }",
     {"backends.archive.type: missing; say which of the types it is; known here: parquet"}},
    {"required key missing",
     "return { backends = { i = { type = 'influxdb' } } }",
     {"backends.i: missing key \"url\""}},
    {"bad enum",
     "return { log = { sync = 'sometimes' }, " ARCHIVE " }",
     {"log.sync = \"sometimes\" is not one of always|interval|never"}},
    {"bad size",
     "return { log = { max_bytes = '4 potatoes' }, " ARCHIVE " }",
     {"log.max_bytes = \"4 potatoes\" is not a size such as 64MiB"}},
    {"bad duration",
     "return { limits = { ack_timeout = '10 sec' }, " ARCHIVE " }",
     {"limits.ack_timeout = \"10 sec\" is not a duration such as 250ms"}},
    {"out of range",
     "return { log = { max_bytes = 10 }, " ARCHIVE " }",
     {"log.max_bytes = 10 is outside 1048576 to"}},
    {"not a whole number",
     "return { workers = 1.5, " ARCHIVE " }",
     {"workers = \"1.5\" is not a whole number"}},
    {"a function",
     "return { log = { dir = function() end }, " ARCHIVE " }",
     {"log.dir: dir is a function; write a path as text"}},
    {"a table",
     "return { log = { max_bytes = {} }, " ARCHIVE " }",
     {"log.max_bytes: max_bytes is a table; write a size such as \"64MiB\""}},
    {"a list",
     "return { log = { dir = { 'a', 'b' } }, " ARCHIVE " }",
     {"log.dir: a list is not accepted here"}},
    {"a section that is no table",
     "return { log = 'data', " ARCHIVE " }",
     {"log: is a string; write a table: log = { ... }"}},
    {"a backend that is no table",
     "return { backends = { archive = 'parquet' } }",
     {"backends.archive: is a string; write archive = { type"}},
    {"a backend's name",
     "return { backends = { ['my archive'] = { type = 'parquet', dir = 'p' } } }",
     {"backends.my archive: a backend's name is 1 to 64 letters"}},
    {"a list of backends",
     "return { backends = { { type = 'parquet', dir = 'p' } } }",
     {"backends.[1]: a backend's name"}},
    {"no backends", "return {}", {"backends: missing; name at least one"}},
    {"empty backends", "return { backends = {} }", {"backends: empty; name at least one"}},
    {"bad address",
     "return { listen = { http = 'localhost' }, " ARCHIVE " }",
     {"listen.http = \"localhost\": not an address"}},
    {"bad port",
     "return { listen = { admin = ':70000' }, " ARCHIVE " }",
     {"listen.admin = \":70000\": not an address"}},
    {"bare IPv6",
     "return { listen = { http = '::1:4318' }, " ARCHIVE " }",
     {"listen.http = \"::1:4318\": not an address"}},
    {"same addresses",
     "return { listen = { http = ':1', admin = ':1' }, " ARCHIVE " }",
     {"listen.admin is the same address as listen.http"}},
    {"same folders",
     "return { backends = { a = { type = 'parquet', dir = 'p' }, b = { type = 'parquet', dir = "
     "'./p' } } }",
     {"backends.a.dir and backends.b.dir are the same folder"}},
    {"a folder inside the log's",
     "return { log = { dir = 'l' }, backends = { a = { type = 'parquet', dir = 'l/p' } } }",
     {"is inside log.dir, which is the log's alone; give it a folder beside it"}},
    {"a folder inside a backend's",
     "return { backends = { a = { type = 'parquet', dir = 'p' }, b = { type = 'parquet', dir = "
     "'p/q' } } }",
     {"is inside backends.a.dir: whoever reads that folder as one data set would read it, too"}},
    {"dead letters inside a backend's folder",
     "return { dead_letters = { dir = 'p/dead' }, backends = { a = { type = 'parquet', dir = 'p' } "
     "} }",
     {"is inside backends.a.dir"}},
    {"the log inside a backend's folder",
     "return { log = { dir = 'p/log' }, backends = { a = { type = 'parquet', dir = 'p' } } }",
     {"is inside backends.a.dir"}},
    {"on_error names nobody",
     "return { rules = { on_error = { 'archiv' } }, " ARCHIVE " }",
     {"rules.on_error: there is no backend \"archiv\"; did you mean \"archive\"?"}},
    {"memory too small to work",
     "return { limits = { memory = '1MiB' }, " ARCHIVE " }",
     {"limits.memory (1048576 bytes) is less than 16 MiB"}},
    {"inflight below body",
     "return { limits = { body = '2GiB', inflight = '1GiB' }, " ARCHIVE " }",
     {"limits.inflight"}},
    {"retry_max below retry_min",
     "return { backends = { a = { type = 'parquet', dir = 'p', retry_min = '1m' } } }",
     {"backends.a.retry_max is less than retry_min"}},
    {"missing variable",
     "return { log = { dir = env('TG_NOT_SET_1') }, " ARCHIVE " }",
     {"gateway.lua:1: env(\"TG_NOT_SET_1\"): the environment variable TG_NOT_SET_1 is not set"}},
    {"syntax", "return {", {"gateway.lua:1: unexpected symbol near"}},
    {"runtime", "return { a = nil .. 'x' }", {"gateway.lua:1: attempt to concatenate"}},
    {"nothing returned", "local x = 1", {"the file returns nothing; it must return one table"}},
    {"endless loop", "while true do end", {"runs for too long"}},
    {"memory",
     "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end",
     {"uses more than 16 MiB"}},
    {"one value over the memory",
     "return { a = (\'x\'):rep(64 * 1024 * 1024) }",
     {"uses more than 16 MiB"}},
    {"no io", "return io.open('/etc/passwd')", {"attempt to index global 'io'"}},
    {"no os", "return os.getenv('HOME')", {"attempt to index global 'os'"}},
    {"no ffi", "return require('ffi')", {"attempt to call global 'require'"}},
    {"no load", "return loadstring('return {}')()", {"attempt to call global 'loadstring'"}},
    {"no pcall", "return pcall(error)", {"attempt to call global 'pcall'"}},
    {"no bytecode", "\x1bLJ\x02", {"gateway.lua"}},
    {"no dump", "return string.dump(env)", {"attempt to call field 'dump'"}},
    {"all at once",
     "return { lisen = {}, log = { sinc = 1, sync = 'x', dir = env('TG_NOT_SET_1') }, limits = { "
     "series = 0 }, backends = { a = { type = 'parket' }, b = { type = 'influxdb' } } }",
     {"lisen: unknown", "log.sinc", "log.sync", "TG_NOT_SET_1", "limits.series", "backends.a.type",
      "backends.b: missing key"}},
};

static void check_mistake(size_t i)
{
    struct tg_arena arena;
    struct tg_config c;
    struct tg_config_errors errors;
    tg_arena_init(&arena, 0);
    const enum tg_code code = tg_config_load(path, &arena, &c, &errors);
    size_t n_want = 0;
    while (n_want < 8 && mistakes[i].want[n_want]) n_want++;
    if (code != TG_ERR_INVALID) fail_msg("%s: code %d", mistakes[i].name, (int)code);
    for (size_t w = 0; w < n_want; w++) {
        bool found = false;
        for (unsigned e = 0; e < errors.n; e++)
            found |= strstr(errors.items[e], mistakes[i].want[w]) != NULL;
        if (!found)
            fail_msg("%s: nothing says \"%s\"; the first of %u is: %s", mistakes[i].name,
                     mistakes[i].want[w], errors.n, errors.n ? errors.items[0] : "");
    }
    if (errors.n != n_want)
        fail_msg("%s: %u messages, want %zu; the last is: %s", mistakes[i].name, errors.n, n_want,
                 errors.items[errors.n - 1]);
    tg_arena_deinit(&arena);
}

static void test_mistakes(void **state)
{
    (void)state;
    (void)unsetenv("TG_NOT_SET_1");
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        write_file(mistakes[i].text);
        for (int twice = 0; twice < 2; twice++) check_mistake(i);
    }
}

static void test_whole(void **state)
{
    (void)state;
    (void)setenv("TG_TEST_TOKEN", "s3cret", 1);
    write_file("local gib = 1024 ^ 3\n"
               "return {\n"
               "  workers = 3, log_level = 'warn',\n"
               "  listen = { http = '[::1]:0', admin = ':4320' },\n"
               "  log = { dir = '/abs/log', sync = 'interval', sync_interval = '250ms',\n"
               "          max_bytes = 2 * gib, segment_bytes = '1GiB', keep = 3600 },\n"
               "  rules = { tags = 'tags.lua', routing = './sub/routing.lua',\n"
               "            strategy = '../../x.lua',\n"
               "            on_error = { 'prom', 'archive' } },\n"
               "  limits = { series = 5, idle_series = '90s', tags_per_series = 7 },\n"
               "  dead_letters = { dir = 'dead', max_bytes = '1MiB' },\n"
               "  backends = {\n"
               "    prom = { type = 'prometheus', url = 'http://x/api/v1/write' },\n"
               "    archive = { type = 'parquet', dir = 'p', from = 'now', retry_max = '1m' },\n"
               "    influx = { type = 'influxdb', url = 'http://y', org = 'o', bucket = 'b',\n"
               "               token = env('TG_TEST_TOKEN') },\n"
               "  },\n"
               "}\n");
    struct tg_arena arena;
    struct tg_config c;
    struct tg_config_errors errors;
    tg_arena_init(&arena, 0);
    const enum tg_code code = tg_config_load(path, &arena, &c, &errors);
    if (code != TG_OK) fail_msg("code %d: %s", (int)code, errors.n ? errors.items[0] : "");
    char want[128];
    assert_int_equal(c.n_workers, 3);
    assert_int_equal(c.log_level, TG_LOG_WARN);
    assert_string_equal(c.dir, dir);
    assert_string_equal(c.http_address, "[::1]:0");
    assert_string_equal(c.log.dir, "/abs/log");
    assert_int_equal(c.log.sync, TG_SYNC_INTERVAL);
    assert_int_equal(c.log.sync_interval_ms, 250);
    assert_int_equal(c.log.max_bytes, UINT64_C(2) << 30);
    assert_int_equal(c.log.segment_bytes, UINT64_C(1) << 28); /* an eighth of max_bytes */
    assert_int_equal(c.log.keep_ms, 3600000);
    (void)snprintf(want, sizeof(want), "%s/tags.lua", dir);
    assert_string_equal(c.rules.tags_path, want);
    (void)snprintf(want, sizeof(want), "%s/sub/routing.lua", dir);
    assert_string_equal(c.rules.routing_path, want);
    assert_string_equal(c.rules.strategy_path, "/x.lua");
    assert_null(c.rules.retention_path);
    assert_int_equal(c.limits.max_series, 5);
    assert_int_equal(c.limits.series_idle_s, 90);
    assert_int_equal(c.limits.series_limits.max_tags, 7);
    assert_int_equal(c.limits.ack_timeout_ms, 10000);
    assert_true(c.limits.max_memory_bytes > 0);
    (void)snprintf(want, sizeof(want), "%s/dead", dir);
    assert_string_equal(c.dead_letter_dir, want);
    /* Numbered by name, whatever the order of the file. */
    assert_int_equal(c.n_backends, 3);
    static const char *const names[] = {"archive", "influx", "prom"};
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(c.backends[i].name, names[i]);
        assert_string_equal(c.rules.backends[i], names[i]);
    }
    assert_int_equal(c.rules.on_error_targets, 5);
    assert_false(c.backends[0].from_start);
    assert_true(c.backends[1].from_start);
    assert_int_equal(c.backends[0].retry_max_ms, 60000);
    assert_true(c.backends[0].batch_points > 0);
    (void)snprintf(want, sizeof(want), "%s/p", dir);
    assert_string_equal(tg_options_str(&c.backends[0].options, "dir"), want);
    assert_string_equal(tg_options_str(&c.backends[1].options, "token"), "s3cret");
    tg_arena_deinit(&arena);
}

static void test_least(void **state)
{
    (void)state;
    write_file("return { " ARCHIVE " }");
    struct tg_arena arena;
    struct tg_config c;
    struct tg_config_errors errors;
    tg_arena_init(&arena, 0);
    assert_int_equal(tg_config_load(path, &arena, &c, &errors), TG_OK);
    assert_string_equal(c.http_address, "127.0.0.1:4318");
    assert_string_equal(c.admin_address, "127.0.0.1:4320");
    assert_int_equal(c.log.sync, TG_SYNC_ALWAYS);
    assert_int_equal(c.n_workers, 0);
    assert_int_equal(c.rules.on_error_targets, 0);
    tg_arena_deinit(&arena);
}

static void test_unreadable(void **state)
{
    (void)state;
    struct tg_arena arena;
    struct tg_config c;
    struct tg_config_errors errors;
    tg_arena_init(&arena, 0);
    assert_int_equal(tg_config_load("/nonexistent/gateway.lua", &arena, &c, &errors), TG_ERR_IO);
    assert_int_equal(errors.n, 1);
    assert_non_null(strstr(errors.items[0], "No such file"));
    assert_int_equal(tg_config_load("/tmp", &arena, &c, &errors), TG_ERR_IO);
    assert_int_equal(errors.n, 1);
    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes: it would wait for ever */
    assert_int_equal(tg_config_load(path, &arena, &c, &errors), TG_ERR_IO);
    assert_int_equal(errors.n, 1);
    assert_non_null(strstr(errors.items[0], "cannot be read: "));
    (void)unlink(path);
    tg_arena_deinit(&arena);
}

static void test_too_many(void **state)
{
    (void)state;
    write_file("local b, l = {}, {}\n"
               "for i = 1, 33 do b['b' .. i] = { type = 'parquet', dir = 'p' .. i } end\n"
               "for i = 1, 200 do l['qqqq' .. i] = 1 end\n"
               "return { backends = b, limits = l }\n");
    struct tg_arena arena;
    struct tg_config c;
    struct tg_config_errors errors;
    tg_arena_init(&arena, 0);
    assert_int_equal(tg_config_load(path, &arena, &c, &errors), TG_ERR_INVALID);
    assert_int_equal(errors.n, TG_CONFIG_MAX_ERRORS);
    assert_int_equal(errors.n + errors.n_more, 201);
    tg_arena_deinit(&arena);
}

/* Every refused allocation comes back as no memory, and nothing is kept. */
static void test_failing_memory(void **state)
{
    (void)state;
    write_file("return { rules = { on_error = { 'archive' } }, " ARCHIVE " }");
    const uint64_t used = tg_mem_used();
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct tg_arena arena;
        struct tg_config c;
        struct tg_config_errors errors;
        tg_arena_init(&arena, 0);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_config_load(path, &arena, &c, &errors);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        /* LuaJIT collects and tries again, so a refusal may also pass unnoticed. */
        if (code != TG_ERR_NOMEM && code != TG_OK)
            fail_msg("n = %llu: code %d, %s", (unsigned long long)n, (int)code,
                     errors.n ? errors.items[0] : "");
        if (!fired) assert_int_equal(code, TG_OK);
        done = !fired;
        tg_arena_deinit(&arena);
    }
    assert_int_equal(tg_mem_used(), used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes), cmocka_unit_test(test_whole),
        cmocka_unit_test(test_least),    cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_too_many), cmocka_unit_test(test_failing_memory),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
