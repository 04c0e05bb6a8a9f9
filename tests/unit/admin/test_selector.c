/* Selectors and times as people write them. */
#include "core/admin/selector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"

static const struct {
    const char *input;
    const char *want;    /* "name|key=value|..." ; NULL = fails */
    const char *message; /* part of it */
} selectors[] = {
    {"up", "up", NULL},
    {"", "", NULL},
    {"  up  ", "up", NULL},
    {"http.server.duration", "http.server.duration", NULL},
    {"up{}", "up", NULL},
    {"up{a=\"b\"}", "up|a=b", NULL},
    {"up { a = 'b' , c.d=\"e f\" , }", "up|a=b|c.d=e f", NULL},
    {"{job=\"x\"}", "|job=x", NULL},
    {"up{a=plain/word}", "up|a=plain/word", NULL},
    {"up{\"quoted key\"=\"\"}", "up|quoted key=", NULL},
    {"\"name with space\"{a=\"1\"}", "name with space|a=1", NULL},
    {"up{a=\"q\\\"u\\\\o\\n\"}", "up|a=q\"u\\o\n", NULL},
    {"gr\xC3\xB6\xC3\x9F"
     "e{ort=\"k\xC3\xB6ln\"}",
     "gr\xC3\xB6\xC3\x9F"
     "e|ort=k\xC3\xB6ln",
     NULL},
    {"up{a=\"b\"", NULL, "ends too early: expected , or }"},
    {"up{a=\"b", NULL, "closing quote"},
    {"up{a}", NULL, "expected ="},
    {"up{a=~\"b\"}", NULL, "only exact matches"},
    {"up{a!=\"b\"}", NULL, "only exact matches"},
    {"up{a=}", NULL, "a tag's value in quotes"},
    {"up{,}", NULL, "a tag's name or }"},
    {"up{a=\"b\" c=\"d\"}", NULL, ", or }"},
    {"up}", NULL, "{ or the end"},
    {"cpu load", NULL, "(other names go in quotes)"},
    {"up{a=\"b\"} x", NULL, "expected the end"},
    {"up{=\"b\"}", NULL, "a tag's name"},
};

static void print(const struct tg_selector *s, char *out, size_t cap)
{
    size_t n = (size_t)snprintf(out, cap, "%s", s->name ? s->name : "");
    for (uint32_t i = 0; i < s->n_tags; i++) {
        assert_int_equal(strlen(s->tags[i].key), s->tags[i].key_len);
        assert_int_equal(strlen(s->tags[i].value), s->tags[i].value_len);
        n += (size_t)snprintf(out + n, cap - n, "|%s=%s", s->tags[i].key, s->tags[i].value);
    }
}

static void test_selectors(void **state)
{
    (void)state;
    struct tg_arena arena;
    tg_arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < sizeof(selectors) / sizeof(selectors[0]); i++) {
        for (int twice = 0; twice < 2; twice++) {
            struct tg_selector s;
            struct tg_err err = {.msg = ""};
            char got[256] = "";
            const enum tg_code code = tg_selector_parse(selectors[i].input, &arena, &s, &err);
            if (selectors[i].want) {
                if (code != TG_OK) fail_msg("%s: %s", selectors[i].input, err.msg);
                print(&s, got, sizeof(got));
                assert_string_equal(got, selectors[i].want);
            } else {
                assert_int_equal(code, TG_ERR_INVALID);
                if (!strstr(err.msg, selectors[i].message))
                    fail_msg("%s: \"%s\" lacks \"%s\"", selectors[i].input, err.msg,
                             selectors[i].message);
            }
        }
    }
    tg_arena_deinit(&arena);
}

static void test_tag_limit(void **state)
{
    (void)state;
    struct tg_arena arena;
    tg_arena_init(&arena, 1 << 20);
    struct tg_selector s;
    struct tg_err err = {.msg = ""};
    assert_int_equal(tg_selector_parse("m", &arena, &s, &err), TG_OK);
    for (int i = 0; i < TG_SELECTOR_MAX_TAGS; i++)
        assert_int_equal(tg_selector_add_tag(&s, "a=b=c", &arena, &err), TG_OK);
    assert_string_equal(s.tags[0].value, "b=c");
    assert_int_equal(tg_selector_add_tag(&s, "a=b", &arena, &err), TG_ERR_TOO_LARGE);
    assert_int_equal(tg_selector_parse("m", &arena, &s, &err), TG_OK);
    assert_int_equal(tg_selector_add_tag(&s, "nothing", &arena, &err), TG_ERR_INVALID);
    assert_int_equal(tg_selector_add_tag(&s, "=v", &arena, &err), TG_ERR_INVALID);
    tg_arena_deinit(&arena);
}

#define NOW_NS INT64_C(1767225600000000000) /* 2026-01-01T00:00:00Z */

static const struct {
    const char *input;
    int64_t want; /* 0 = fails */
} times[] = {
    {"now", NOW_NS},
    {"5m", NOW_NS - INT64_C(300000000000)},
    {"-5m", NOW_NS - INT64_C(300000000000)},
    {"1.5s", NOW_NS - INT64_C(1500000000)},
    {"250ms", NOW_NS - INT64_C(250000000)},
    {"2026-01-01T00:00:00Z", NOW_NS},
    {"2026-01-01t00:00:00z", NOW_NS},
    {"2026-01-01 00:00", NOW_NS},
    {"2026-01-01", NOW_NS},
    {"2026-01-01T01:00:00+01:00", NOW_NS},
    {"2025-12-31T19:30:00-04:30", NOW_NS},
    {"2026-01-01T00:00:00.000000001Z", NOW_NS + 1},
    {"2026-01-01T00:00:00.1234567899Z", NOW_NS + 123456789},
    {"2024-02-29", INT64_C(1709164800000000000)},
    {"1767225600", NOW_NS},
    {"1767225600.5", NOW_NS + 500000000},
    {"1767225600000", NOW_NS},
    {"1767225600000000", NOW_NS},
    {"1767225600000000001", NOW_NS + 1},
    {"", 0},
    {"yesterday", 0},
    {"2023-02-29", 0},
    {"2026-13-01", 0},
    {"2026-01-01T24:00:00Z", 0},
    {"2026-01-01T00:00:00.Z", 0},
    {"2026-01-01T00:00:00Zx", 0},
    {"2026-01-01T00:00:00+1:00", 0},
    {"99999-01-01", 0},
    {"0001-01-01", 0},
    {"5 minutes", 0},
    {"-", 0},
    {"1e300", 0},
    {"0x10", 0},
};

static void test_times(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        int64_t got = 0;
        struct tg_err err = {.msg = ""};
        const enum tg_code code = tg_time_parse(times[i].input, NOW_NS, &got, &err);
        if (times[i].want && (code != TG_OK || got != times[i].want))
            fail_msg("%s: got %lld (%s), want %lld", times[i].input, (long long)got, err.msg,
                     (long long)times[i].want);
        if (!times[i].want && (code != TG_ERR_INVALID || !strstr(err.msg, "is not a time")))
            fail_msg("%s: code %d, %s", times[i].input, (int)code, err.msg);
    }
}

static void test_failing_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct tg_arena arena;
        struct tg_selector s;
        struct tg_err err = {.msg = ""};
        tg_arena_init(&arena, 1 << 20);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_selector_parse("up{a=\"b\",c='d'}", &arena, &s, &err);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        tg_arena_deinit(&arena);
        if (!fired) {
            assert_int_equal(code, TG_OK);
            assert_true(n > 1);
            break;
        }
        assert_int_equal(code, TG_ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_selectors),
        cmocka_unit_test(test_tag_limit),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
