/* Canonical series: rules of canonicalisation, bytes, parsing of damaged bytes, printing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/model/series.h"

enum { MAX_TAGS = 8 };
struct tag_text {
    const char *key, *value;
    uint8_t origin;
};

static uint32_t len_of(const char *s)
{
    return (uint32_t)strlen(s);
}

static struct tg_series_desc make(const char *name, const struct tag_text *texts,
                                  struct tg_tag *tags)
{
    struct tg_series_desc d = {.name = name, .name_len = len_of(name), .unit = "s", .unit_len = 1};
    d.kind = TG_KIND_COUNTER;
    d.temporality = TG_TEMPORALITY_DELTA;
    d.tags = tags;
    for (; texts[d.n_tags].key; d.n_tags++) {
        const struct tag_text *t = &texts[d.n_tags];
        tags[d.n_tags] = (struct tg_tag){.key = t->key,
                                         .value = t->value,
                                         .key_len = len_of(t->key),
                                         .value_len = len_of(t->value),
                                         .origin = t->origin};
    }
    return d;
}

static char *print(const struct tg_series_desc *d, char *out, size_t cap)
{
    struct tg_buf b;
    tg_buf_init(&b, 0);
    assert_int_equal(tg_series_desc_print(d, &b), TG_OK);
    assert_true(b.len < cap);
    memcpy(out, b.data, b.len);
    out[b.len] = '\0';
    tg_buf_deinit(&b);
    return out;
}

/* Encode, parse, encode: the same bytes; each shorter prefix and each added byte is refused. */
static void check_bytes(const struct tg_series_desc *d)
{
    struct tg_buf a;
    struct tg_buf b;
    struct tg_arena arena;
    struct tg_series_desc back;
    tg_buf_init(&a, 0);
    tg_buf_init(&b, 0);
    tg_arena_init(&arena, 0);
    assert_int_equal(tg_series_desc_encode(d, &a), TG_OK);
    assert_int_equal(tg_series_desc_parse(a.data, a.len, &back, &arena, NULL), TG_OK);
    assert_int_equal(tg_series_desc_encode(&back, &b), TG_OK);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    for (size_t n = 0; n < a.len; n++) {
        uint8_t *cut = tg_malloc(n); /* exact size: reading over it is seen by ASan */
        assert_non_null(cut);
        memcpy(cut, a.data, n);
        struct tg_err err = {0};
        assert_int_equal(tg_series_desc_parse(cut, n, &back, &arena, &err), TG_ERR_CORRUPT);
        assert_true(err.offset <= n);
        tg_free(cut);
    }
    assert_int_equal(tg_buf_append(&a, "", 1), TG_OK);
    assert_int_equal(tg_series_desc_parse(a.data, a.len, &back, &arena, NULL), TG_ERR_CORRUPT);
    tg_arena_deinit(&arena);
    tg_buf_deinit(&a);
    tg_buf_deinit(&b);
}

static void test_canonicalise(void **state)
{
    static const struct {
        const char *label;
        struct tag_text tags[MAX_TAGS + 1];
        const char *want;
    } cases[] = {
        {"no tags", {{NULL, NULL, 0}}, "m"},
        {"sorted", {{"a", "1", 0}, {"b", "2", 0}}, "m{a=\"1\",b=\"2\"}"},
        {"unsorted", {{"b", "2", 0}, {"a", "1", 0}}, "m{a=\"1\",b=\"2\"}"},
        {"shorter first", {{"ab", "2", 0}, {"a", "1", 0}}, "m{a=\"1\",ab=\"2\"}"},
        {"bytes, not letters", {{"\xc3\xa4", "2", 0}, {"z", "1", 0}}, "m{z=\"1\",\xc3\xa4=\"2\"}"},
        {"point beats resource after it", {{"a", "p", 0}, {"a", "r", 2}}, "m{a=\"p\"}"},
        {"point beats resource before it", {{"a", "r", 2}, {"a", "p", 0}}, "m{a=\"p\"}"},
        {"scope beats resource", {{"a", "r", 2}, {"a", "s", 1}}, "m{a=\"s\"}"},
        {"later beats earlier", {{"a", "1", 1}, {"a", "2", 1}}, "m{a=\"2\"}"},
        {"later beats earlier among others",
         {{"b", "1", 0}, {"a", "x", 0}, {"b", "2", 0}, {"c", "y", 0}, {"b", "3", 2}},
         "m{a=\"x\",b=\"2\",c=\"y\"}"},
        {"empty goes", {{"a", "", 0}, {"b", "2", 0}}, "m{b=\"2\"}"},
        {"all empty", {{"a", "", 0}, {"b", "", 0}}, "m"},
        {"an empty winner takes the loser along", {{"a", "r", 2}, {"a", "", 0}}, "m"},
        {"an empty loser is only a loser", {{"a", "", 2}, {"a", "p", 0}}, "m{a=\"p\"}"},
        {"escapes", {{"a", "q\"b\\n\n\x1b", 0}}, "m{a=\"q\\\"b\\\\n\\n\\x1b\"}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tg_tag tags[MAX_TAGS];
        char text[256];
        struct tg_series_desc d = make("m", cases[i].tags, tags);
        for (int round = 0; round < 2; round++) { /* canonical stays canonical */
            assert_int_equal(tg_series_desc_canonicalise(&d, &tg_series_limits_default, NULL),
                             TG_OK);
            if (strcmp(print(&d, text, sizeof(text)), cases[i].want) != 0)
                fail_msg("%s: %s", cases[i].label, text);
        }
        check_bytes(&d);
    }
}

/* Against the plain rule, done the slow way, on generated tags. */
static void test_canonicalise_random(void **state)
{
    enum { N = 40 };
    uint32_t rng = 12345;
    (void)state;
    for (int round = 0; round < 2000; round++) {
        char keys[N][4];
        char values[N][4];
        struct tg_tag tags[N];
        struct tg_tag want[N];
        uint32_t n_want = 0;
        rng = rng * 1664525 + 1013904223;
        const uint32_t n = rng >> 16 & 31;
        for (uint32_t i = 0; i < n; i++) {
            rng = rng * 1664525 + 1013904223;
            (void)snprintf(keys[i], sizeof(keys[i]), "k%u", rng >> 20 & 15);
            (void)snprintf(values[i], sizeof(values[i]), "%.*s", (rng >> 8 & 7) ? 2 : 0, "vw");
            if (values[i][0]) values[i][1] = (char)('a' + i % 26);
            tags[i] = (struct tg_tag){.key = keys[i],
                                      .value = values[i],
                                      .key_len = len_of(keys[i]),
                                      .value_len = len_of(values[i]),
                                      .origin = (uint8_t)((rng >> 28) % 3)};
        }
        for (unsigned k = 0; k < 16; k++) {
            static const char *const sorted[16] = {"k0",  "k1",  "k10", "k11", "k12", "k13",
                                                   "k14", "k15", "k2",  "k3",  "k4",  "k5",
                                                   "k6",  "k7",  "k8",  "k9"};
            const struct tg_tag *best = NULL;
            for (uint32_t i = 0; i < n; i++)
                if (strcmp(tags[i].key, sorted[k]) == 0 &&
                    (!best || tags[i].origin <= best->origin))
                    best = &tags[i];
            if (best && best->value_len) want[n_want++] = *best;
        }
        struct tg_series_desc d = {.name = "m", .name_len = 1, .n_tags = n, .tags = tags};
        assert_int_equal(tg_series_desc_canonicalise(&d, &tg_series_limits_default, NULL), TG_OK);
        assert_int_equal(d.n_tags, n_want);
        for (uint32_t i = 0; i < n_want; i++) {
            assert_ptr_equal(d.tags[i].key, want[i].key);
            const struct tg_tag *found = tg_series_desc_tag(&d, want[i].key, want[i].key_len);
            assert_ptr_equal(found, &d.tags[i]);
        }
        assert_null(tg_series_desc_tag(&d, "k", 1));
        assert_null(tg_series_desc_tag(&d, "zz", 2));
    }
}

static void test_refused(void **state)
{
    static const struct tg_series_limits tight = {
        .max_tags = 2, .max_name_bytes = 8, .max_key_bytes = 4, .max_value_bytes = 6};
    static const struct {
        const char *label, *name;
        uint32_t name_len, field_len;
        uint8_t kind, temporality;
        struct tag_text tags[MAX_TAGS + 1];
        enum tg_code code;
        const char *in_message;
    } cases[] = {
        {"no name", "", 0, 0, 1, 0, {{0}}, TG_ERR_INVALID, "name"},
        {"long name", "123456789", 9, 0, 1, 0, {{0}}, TG_ERR_TOO_LARGE, "limits.name_bytes"},
        {"NUL in name", "a\0b", 3, 0, 1, 0, {{0}}, TG_ERR_INVALID, "UTF-8"},
        {"kind", "m", 1, 0, 6, 0, {{0}}, TG_ERR_INVALID, "kind"},
        {"temporality", "m", 1, 0, 1, 3, {{0}}, TG_ERR_INVALID, "temporality"},
        {"field too long", "a_b", 3, 3, 0, 0, {{0}}, TG_ERR_INVALID, "field"},
        {"field is all", "_ab", 3, 2, 0, 0, {{0}}, TG_ERR_INVALID, "field"},
        {"field misfits", "a_bc", 4, 1, 0, 0, {{0}}, TG_ERR_INVALID, "field"},
        {"empty key", "m", 1, 0, 1, 0, {{"", "v", 0}}, TG_ERR_INVALID, "empty key"},
        {"long key",
         "m",
         1,
         0,
         1,
         0,
         {{"abcde", "v", 0}},
         TG_ERR_TOO_LARGE,
         "limits.tag_key_bytes"},
        {"long value",
         "m",
         1,
         0,
         1,
         0,
         {{"k", "1234567", 0}},
         TG_ERR_TOO_LARGE,
         "limits.tag_value_bytes"},
        {"bad value", "m", 1, 0, 1, 0, {{"k", "\xff", 0}}, TG_ERR_INVALID, "\\xff"},
        {"bad key", "m", 1, 0, 1, 0, {{"\xc3", "v", 0}}, TG_ERR_INVALID, "tag key"},
        {"origin", "m", 1, 0, 1, 0, {{"k", "v", 3}}, TG_ERR_INVALID, "origin"},
        {"many tags",
         "m",
         1,
         0,
         1,
         0,
         {{"a", "1", 0}, {"b", "1", 0}, {"c", "1", 0}},
         TG_ERR_TOO_LARGE,
         "limits.tags_per_series"},
        {"too many to sort",
         "m",
         1,
         0,
         1,
         0,
         {{"a", "1", 0}, {"a", "1", 0}, {"a", "1", 0}, {"a", "1", 0}, {"a", "1", 0}},
         TG_ERR_TOO_LARGE,
         "limits.tags_per_series"},
        {"losers do not count",
         "m",
         1,
         0,
         1,
         0,
         {{"a", "1", 0}, {"a", "1", 0}, {"b", "1", 0}, {"c", "", 0}},
         TG_OK,
         ""},
        {"a field", "a_bc", 4, 2, 0, 0, {{0}}, TG_OK, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int round = 0; round < 2; round++) {
            struct tg_tag tags[MAX_TAGS];
            struct tg_err err = {.msg = ""};
            struct tg_series_desc d = make(cases[i].name, cases[i].tags, tags);
            d.name_len = cases[i].name_len;
            d.field_len = cases[i].field_len;
            d.kind = cases[i].kind;
            d.temporality = cases[i].temporality;
            const enum tg_code code = tg_series_desc_canonicalise(&d, &tight, &err);
            if (code != cases[i].code || !strstr(err.msg, cases[i].in_message))
                fail_msg("%s: %d %s", cases[i].label, (int)code, err.msg);
            if (code == TG_OK) check_bytes(&d);
        }
    }
}

static void test_utf8(void **state)
{
    static const struct {
        const char *text;
        uint32_t len;
        bool ok;
    } cases[] = {
        {"plain ascii of more than eight bytes", 36, true},
        {"\x7f", 1, true},
        {"\xc2\x80", 2, true},
        {"\xdf\xbf", 2, true},
        {"\xe0\xa0\x80", 3, true},
        {"\xed\x9f\xbf", 3, true},
        {"\xee\x80\x80", 3, true},
        {"\xef\xbf\xbf", 3, true},
        {"\xf0\x90\x80\x80", 4, true},
        {"\xf4\x8f\xbf\xbf", 4, true},
        {"12345678\xc3\xa4"
         "12345678",
         18, true},
        {"\x80", 1, false},
        {"\xc0\x80", 2, false},
        {"\xc1\xbf", 2, false},
        {"\xc2", 1, false},
        {"\xc2\x41", 2, false},
        {"\xe0\x9f\xbf", 3, false},
        {"\xed\xa0\x80", 3, false},
        {"\xe1\x80", 2, false},
        {"\xe1\x80\x41", 3, false},
        {"\xf0\x8f\xbf\xbf", 4, false},
        {"\xf4\x90\x80\x80", 4, false},
        {"\xf5\x80\x80\x80", 4, false},
        {"\xf1\x80\x80", 3, false},
        {"1234567\0", 8, false},
        {"\0"
         "1234567",
         8, false},
        {"1234567\x80", 8, false},
        {"12345678\0", 9, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *exact = tg_malloc(cases[i].len);
        assert_non_null(exact);
        memcpy(exact, cases[i].text, cases[i].len);
        struct tg_series_desc d = {.name = exact, .name_len = cases[i].len};
        const enum tg_code code = tg_series_desc_canonicalise(&d, &tg_series_limits_default, NULL);
        if ((code == TG_OK) != cases[i].ok) fail_msg("case %zu: %d", i, (int)code);
        tg_free(exact);
    }
}

static void test_corrupt(void **state)
{
#define BYTES(s) s, sizeof(s) - 1
    static const struct {
        const char *label, *bytes;
        size_t len;
        enum tg_code code;
    } cases[] = {
        {"good",
         BYTES("\1\1\2"
               "\1m"
               "\1s"
               "\0"
               "\1"
               "\2\1k\1v"),
         TG_OK},
        {"version",
         BYTES("\2\1\2"
               "\1m"
               "\1s"
               "\0"
               "\1"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"version 0",
         BYTES("\0\1\2"
               "\1m"
               "\1s"
               "\0"
               "\1"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"kind",
         BYTES("\1\6\2"
               "\1m"
               "\1s"
               "\0"
               "\1"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"temporality",
         BYTES("\1\1\3"
               "\1m"
               "\1s"
               "\0"
               "\1"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"empty name",
         BYTES("\1\1\2"
               "\0"
               "\1s"
               "\0"
               "\1"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"name too long",
         BYTES("\1\1\2"
               "\x7fm"
               "\1s"
               "\0"
               "\1"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"name over 4 GiB",
         BYTES("\1\1\2"
               "\xff\xff\xff\xff\x7fm"
               "\1s"),
         TG_ERR_CORRUPT},
        {"name not UTF-8",
         BYTES("\1\1\2"
               "\1\xff"
               "\1s"
               "\0"
               "\1"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"long varint",
         BYTES("\1\1\2"
               "\x81\0m"
               "\1s"
               "\0"
               "\1"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"field",
         BYTES("\1\1\2"
               "\1m"
               "\1s"
               "\1"
               "\1"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"tag count",
         BYTES("\1\1\2"
               "\1m"
               "\1s"
               "\0"
               "\2"
               "\2\1k\1v"),
         TG_ERR_CORRUPT},
        {"huge count",
         BYTES("\1\1\2"
               "\1m"
               "\1s"
               "\0"
               "\xff\xff\xff\x7f"),
         TG_ERR_CORRUPT},
        {"origin",
         BYTES("\1\1\2"
               "\1m"
               "\1s"
               "\0"
               "\1"
               "\3\1k\1v"),
         TG_ERR_CORRUPT},
        {"empty key",
         BYTES("\1\1\2"
               "\1m"
               "\1s"
               "\0"
               "\1"
               "\2\0\2vv"),
         TG_ERR_CORRUPT},
        {"empty value",
         BYTES("\1\1\2"
               "\1m"
               "\1s"
               "\0"
               "\1"
               "\2\2kk\0"),
         TG_ERR_CORRUPT},
        {"order",
         BYTES("\1\1\2"
               "\1m"
               "\0"
               "\0"
               "\2"
               "\0\1b\1v"
               "\0\1a\1v"),
         TG_ERR_CORRUPT},
        {"same key twice",
         BYTES("\1\1\2"
               "\1m"
               "\0"
               "\0"
               "\2"
               "\0\1a\1v"
               "\2\1a\1v"),
         TG_ERR_CORRUPT},
    };
#undef BYTES
    (void)state;
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int round = 0; round < 2; round++) {
            struct tg_series_desc d;
            struct tg_err err = {0};
            const enum tg_code code = tg_series_desc_parse((const uint8_t *)cases[i].bytes,
                                                           cases[i].len, &d, &arena, &err);
            if (code != cases[i].code) fail_msg("%s: %d %s", cases[i].label, (int)code, err.msg);
        }
    }
    tg_arena_deinit(&arena);
}

static void test_no_memory(void **state)
{
    static const struct tag_text texts[] = {{"a", "1", 0}, {NULL, NULL, 0}};
    struct tg_tag tags[MAX_TAGS];
    const struct tg_series_desc d = make("m", texts, tags);
    struct tg_series_desc back;
    struct tg_buf b;
    struct tg_arena arena;
    (void)state;
    tg_buf_init(&b, 0);
    tg_mem_fail_at(1);
    assert_int_equal(tg_series_desc_encode(&d, &b), TG_ERR_NOMEM);
    tg_mem_fail_at(1);
    assert_int_equal(tg_series_desc_print(&d, &b), TG_ERR_NOMEM);
    assert_int_equal(tg_series_desc_encode(&d, &b), TG_OK);
    tg_arena_init(&arena, 0);
    tg_mem_fail_at(1);
    assert_int_equal(tg_series_desc_parse(b.data, b.len, &back, &arena, NULL), TG_ERR_NOMEM);
    assert_int_equal(tg_series_desc_parse(b.data, b.len, &back, &arena, NULL), TG_OK);
    tg_arena_deinit(&arena);
    tg_buf_deinit(&b);
    tg_buf_init(&b, 4);
    assert_int_equal(tg_series_desc_encode(&d, &b), TG_ERR_TOO_LARGE);
    tg_buf_deinit(&b);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(tg_kind_name(TG_KIND_UNKNOWN), "unknown");
    assert_string_equal(tg_kind_name(TG_KIND_EXP_HISTOGRAM), "exponential_histogram");
    assert_string_equal(tg_kind_name((enum tg_kind)77), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonicalise), cmocka_unit_test(test_canonicalise_random),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_corrupt),      cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
