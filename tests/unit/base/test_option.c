/* Typed options: units, limits, defaults, unknown names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/base/option.h"

struct number {
    const char *text;
    int64_t want; /* -1 = refused */
};

static void test_bytes(void **state)
{
    static const struct number cases[] = {
        {"0", 0},
        {"123", 123},
        {"64MiB", INT64_C(64) << 20},
        {"4GiB", INT64_C(4) << 30},
        {"10kB", 10000},
        {"1.5KiB", 1536},
        {"7 mb", 7000000},
        {"2TiB", INT64_C(2) << 40},
        {"", -1},
        {"MiB", -1},
        {"-1", -1},
        {"1x", -1},
        {"1e30", -1},
        {"nan", -1},
        {"inf", -1},
        {"1MiB x", -1},
        {"9999999TiB", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int round = 0; round < 2; round++) {
            int64_t v = -7;
            struct tg_err err = {.msg = ""};
            const enum tg_code code = tg_bytes_parse(cases[i].text, &v, &err);
            if (cases[i].want < 0) {
                if (code != TG_ERR_INVALID || !strstr(err.msg, "64MiB"))
                    fail_msg("\"%s\": %d %s", cases[i].text, (int)code, err.msg);
            } else if (code != TG_OK || v != cases[i].want) {
                fail_msg("\"%s\": %lld", cases[i].text, (long long)v);
            }
        }
    }
}

static void test_durations(void **state)
{
    static const struct number cases[] = {
        {"30s", 30000},
        {"250ms", 250},
        {"5m", 300000},
        {"12h", 43200000},
        {"90d", 7776000000},
        {"2w", 1209600000},
        {"1y", 31536000000},
        {"15", 15000},
        {"0.5s", 500},
        {"5 min", -1},
        {"", -1},
        {"-5s", -1},
        {"s", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t v = -7;
        struct tg_err err = {.msg = ""};
        const enum tg_code code = tg_duration_parse(cases[i].text, &v, &err);
        if (cases[i].want < 0 ? code != TG_ERR_INVALID || !strstr(err.msg, "250ms")
                              : code != TG_OK || v != cases[i].want)
            fail_msg("\"%s\": %d %lld", cases[i].text, (int)code, (long long)v);
    }
}

static const struct tg_option_spec specs[] = {
    {.name = "url", .type = TG_OPT_STRING, .required = true, .help = "where to"},
    {.name = "max_bytes", .type = TG_OPT_BYTES, .def = "1MiB", .min = 1024, .max = 1 << 30},
    {.name = "linger", .type = TG_OPT_DURATION, .def = "2s"},
    {.name = "batch_points", .type = TG_OPT_INT, .min = 1, .max = 100},
    {.name = "gzip", .type = TG_OPT_BOOL, .def = "true"},
    {.name = "sync", .type = TG_OPT_ENUM, .def = "always", .choices = "always|interval|never"},
    {.name = "dir", .type = TG_OPT_PATH},
    {.name = NULL},
};

static void test_set(void **state)
{
    static const struct {
        const char *name, *text;
        enum tg_code code;
        const char *in_message;
    } cases[] = {
        {"url", "http://x", TG_OK, ""},
        {"max_bytes", "1kB", TG_ERR_INVALID, "outside 1024"},
        {"max_bytes", "2KiB", TG_OK, ""},
        {"max_bytes", "much", TG_ERR_INVALID, "max_bytes = \"much\" is not"},
        {"linger", "1m", TG_OK, ""},
        {"linger", "soon", TG_ERR_INVALID, "linger"},
        {"batch_points", "0", TG_ERR_INVALID, "outside 1 to 100"},
        {"batch_points", "12.5", TG_ERR_INVALID, "whole number"},
        {"batch_points", "100", TG_OK, ""},
        {"batch_points", "101", TG_ERR_INVALID, "outside 1 to 100"},
        {"max_bytes", "1", TG_ERR_INVALID, "outside 1024"},
        {"gzip", "yes", TG_ERR_INVALID, "neither true nor false"},
        {"gzip", "false", TG_OK, ""},
        {"sync", "sometimes", TG_ERR_INVALID, "not one of always|interval|never"},
        {"sync", "alway", TG_ERR_INVALID, "not one of"},
        {"sync", "never", TG_OK, ""},
        {"max_byte", "1", TG_ERR_NOT_FOUND, "did you mean \"max_bytes\"?"},
        {"batchpoints", "1", TG_ERR_NOT_FOUND, "did you mean \"batch_points\"?"},
        {"zebra", "1", TG_ERR_NOT_FOUND, "unknown key \"zebra\""},
    };
    struct tg_arena arena;
    struct tg_options o;
    (void)state;
    tg_arena_init(&arena, 0);
    assert_int_equal(tg_options_init(&o, specs, &arena), TG_OK);
    assert_int_equal(tg_options_num(&o, "max_bytes"), 1 << 20);
    assert_int_equal(tg_options_num(&o, "linger"), 2000);
    assert_int_equal(tg_options_num(&o, "gzip"), 1);
    assert_string_equal(tg_options_str(&o, "sync"), "always");
    assert_null(tg_options_str(&o, "dir"));
    assert_false(tg_options_is_set(&o, "batch_points"));
    assert_int_equal(tg_options_num(&o, "batch_points"), 0);
    struct tg_err err = {.msg = ""};
    assert_int_equal(tg_options_complete(&o, &err), TG_ERR_INVALID);
    assert_non_null(strstr(err.msg, "\"url\" (where to)"));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int round = 0; round < 2; round++) {
            err = (struct tg_err){.msg = ""};
            const enum tg_code code =
                tg_options_set(&o, cases[i].name, cases[i].text, &arena, &err);
            if (code != cases[i].code || !strstr(err.msg, cases[i].in_message))
                fail_msg("%s = %s: %d %s", cases[i].name, cases[i].text, (int)code, err.msg);
        }
    }
    assert_int_equal(tg_options_complete(&o, NULL), TG_OK);
    assert_string_equal(tg_options_str(&o, "url"), "http://x");
    assert_int_equal(tg_options_num(&o, "max_bytes"), 2048); /* refused ones changed nothing */
    assert_int_equal(tg_options_num(&o, "linger"), 60000);
    assert_int_equal(tg_options_num(&o, "batch_points"), 100);
    assert_int_equal(tg_options_num(&o, "gzip"), 0);
    assert_string_equal(tg_options_str(&o, "sync"), "never");
    tg_arena_deinit(&arena);
}

static void test_no_memory(void **state)
{
    (void)state;
    uint64_t n = 1;
    for (;; n++) {
        struct tg_arena arena;
        struct tg_options o;
        tg_arena_init(&arena, 0);
        tg_mem_fail_at(n);
        enum tg_code code = tg_options_init(&o, specs, &arena);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        tg_arena_deinit(&arena);
        if (!fired) break;
    }
    assert_true(n > 1);
}

static void test_nearest(void **state)
{
    static const char *const known[] = {"listen", "log", "rules", "limits", "backends"};
    (void)state;
    assert_string_equal(tg_nearest_name("limit", known, 5), "limits");
    assert_string_equal(tg_nearest_name("backend", known, 5), "backends");
    assert_string_equal(tg_nearest_name("lisetn", known, 5), "listen");
    assert_null(tg_nearest_name("frontend", known, 5));
    assert_null(tg_nearest_name("", known, 5));
    assert_null(tg_nearest_name("a-name-that-is-much-longer-than-any-known-name-could-possibly-be",
                                known, 5));
    assert_null(tg_nearest_name("x", NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),   cmocka_unit_test(test_durations),
        cmocka_unit_test(test_set),     cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
