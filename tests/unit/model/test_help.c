/* Descriptions of metrics: the newest stands, within bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/model/help.h"

static void assert_help(struct tg_help *h, const char *name, const char *want)
{
    struct tg_arena arena;
    uint32_t len;
    tg_arena_init(&arena, 0);
    const char *got = tg_help_find(h, name, strlen(name), &arena, &len);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(got, want, len);
    tg_arena_deinit(&arena);
}

static void note(struct tg_help *h, const char *name, const char *text)
{
    tg_help_note(h, name, strlen(name), text, strlen(text));
}

static void newest_stands(void **state)
{
    (void)state;
    struct tg_help *h = tg_help_new();
    assert_non_null(h);
    assert_help(h, "m", "");
    note(h, "m", "first");
    note(h, "n", "other");
    note(h, "m", "first");
    assert_help(h, "m", "first");
    note(h, "m", "second, longer");
    note(h, "m", "");         /* says nothing */
    note(h, "m", "bad \xff"); /* is no text */
    assert_help(h, "m", "second, longer");
    assert_help(h, "n", "other");
    assert_help(h, "o", "");
    tg_help_free(h);
    tg_help_free(NULL);
}

static void texts_are_cut_at_a_character(void **state)
{
    (void)state;
    static char text[TG_HELP_MAX_BYTES + 10];
    struct tg_help *h = tg_help_new();
    memset(text, 'x', sizeof(text) - 1);
    memcpy(text + TG_HELP_MAX_BYTES - 2, "\xe6\xb8\xa9", 3);
    note(h, "m", text);
    text[TG_HELP_MAX_BYTES - 2] = '\0';
    assert_help(h, "m", text);
    tg_help_free(h);
}

static void number_is_bounded(void **state)
{
    (void)state;
    struct tg_help *h = tg_help_new();
    char name[16];
    for (int i = 0; i < TG_HELP_MAX + 10; i++) {
        (void)snprintf(name, sizeof(name), "m%d", i);
        note(h, name, name);
    }
    assert_help(h, "m0", "m0");
    (void)snprintf(name, sizeof(name), "m%d", TG_HELP_MAX - 1);
    assert_help(h, name, name);
    (void)snprintf(name, sizeof(name), "m%d", TG_HELP_MAX);
    assert_help(h, name, "");
    note(h, "m0", "known ones can change");
    assert_help(h, "m0", "known ones can change");
    tg_help_free(h);
}

static void note_family(struct tg_help *h, const char *name, uint8_t type, const char *text,
                        const char *unit, uint32_t now_s, enum tg_help_noted want)
{
    const struct tg_help_family f = {.help = text,
                                     .unit = unit,
                                     .help_len = (uint32_t)strlen(text),
                                     .unit_len = (uint32_t)strlen(unit),
                                     .type = type};
    assert_int_equal(tg_help_note_family(h, name, strlen(name), &f, now_s), want);
}

/* "type help [unit] -cut", or "" when nothing is known. */
static void assert_family(struct tg_help *h, const char *name, const char *want)
{
    struct tg_arena arena;
    struct tg_help_family f;
    char text[128] = "";
    tg_arena_init(&arena, 0);
    if (tg_help_find_family(h, name, strlen(name), &arena, &f))
        (void)snprintf(text, sizeof(text), "%d %.*s [%.*s] -%d", f.type, (int)f.help_len, f.help,
                       (int)f.unit_len, f.unit, f.cut);
    assert_string_equal(text, want);
    tg_arena_deinit(&arena);
}

static void families_are_found_by_their_series(void **state)
{
    (void)state;
    struct tg_help *h = tg_help_new();
    assert_family(h, "rpc_seconds_sum", "");
    note_family(h, "rpc_seconds", 3, "How long.", "seconds", 1, TG_HELP_NOTED);
    note_family(h, "jobs", 1, "Jobs.", "", 1, TG_HELP_NOTED);
    note_family(h, "pages_total", 1, "Named so in the text format.", "", 1, TG_HELP_NOTED);
    note_family(h, "odd", 99, "", "", 1, TG_HELP_NOTED);
    note(h, "jobs", "of OTLP");
    const struct {
        const char *name, *want;
    } rows[] = {
        {"rpc_seconds", "3 How long. [seconds] -0"},
        {"rpc_seconds_bucket", "3 How long. [seconds] -7"},
        {"rpc_seconds_sum", "3 How long. [seconds] -4"},
        {"rpc_seconds_count", "3 How long. [seconds] -6"},
        {"rpc_seconds_created", "3 How long. [seconds] -8"},
        {"rpc_seconds_other", ""},
        {"rpc_seconds_bucket_sum", ""},
        {"jobs_total", "1 Jobs. [] -6"},
        {"jobs_info", "1 Jobs. [] -5"},
        {"pages_total", "1 Named so in the text format. [] -0"},
        {"odd", "0  [] -0"}, /* a type that we do not know */
        {"_total", ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_family(h, rows[i].name, rows[i].want);
    assert_help(h, "jobs", "of OTLP"); /* the two kinds do not meet */
    assert_help(h, "rpc_seconds", "");
    assert_true(tg_help_has_suffix("a_sum", 5, 4));
    assert_false(tg_help_has_suffix("a_sum", 5, 0));
    assert_false(tg_help_has_suffix("a_sum", 5, 6));
    assert_false(tg_help_has_suffix("_sum", 4, 4));
    tg_help_free(h);
}

static void text_of_a_family_stands_while_it_is_said(void **state)
{
    (void)state;
    struct tg_help *h = tg_help_new();
    note_family(h, "m", 1, "one", "", 1000, TG_HELP_NOTED);
    const uint64_t first = tg_help_family_change(h, "m_total", 7);
    note_family(h, "m", 1, "two", "", 1030, TG_HELP_OTHER);
    note_family(h, "m", 1, "one", "", 1060, TG_HELP_NOTED);
    note_family(h, "m", 2, "one", "", 1059 + TG_HELP_STANDS_S, TG_HELP_OTHER);
    assert_family(h, "m", "1 one [] -0");
    assert_true(first > 0 && tg_help_family_change(h, "m", 1) == first);
    note_family(h, "m", 1, "two", "", 1060 + TG_HELP_STANDS_S, TG_HELP_NOTED);
    assert_family(h, "m", "1 two [] -0");
    assert_true(tg_help_family_change(h, "m", 1) > first);
    note_family(h, "", 1, "no name", "", 1, TG_HELP_INVALID);
    note_family(h, "x", 1, "bad \xff", "", 1, TG_HELP_INVALID);
    note_family(h, "x\xff", 1, "", "", 1, TG_HELP_INVALID);
    note_family(h, "x", 1, "", "\xff", 1, TG_HELP_INVALID);
    static const char long_unit[] =
        "a_unit_of_more_than_sixty_three_bytes_which_is_left_out_as_no_unit_is_so_long";
    note_family(h, "x", 1, "h", long_unit, 1, TG_HELP_NOTED);
    assert_family(h, "x", "1 h [] -0");
    tg_help_free(h);
}

static void comes_back_from_bytes(void **state)
{
    (void)state;
    struct tg_help *h = tg_help_new();
    struct tg_help *again = tg_help_new();
    struct tg_buf bytes;
    tg_buf_init(&bytes, 0);
    note(h, "of.otlp", "text \xe6\xb8\xa9");
    note_family(h, "rpc", 3, "How long.", "seconds", 1000, TG_HELP_NOTED);
    note_family(h, "bare", 0, "", "", 1000, TG_HELP_NOTED);
    assert_int_equal(tg_help_save(h, &bytes), TG_OK);
    for (size_t i = 0; i < bytes.len; i++) { /* whatever bit is wrong, whatever end is missing */
        bytes.data[i] ^= (uint8_t)(1U << (i & 7));
        assert_int_equal(tg_help_load(again, bytes.data, bytes.len), TG_ERR_CORRUPT);
        bytes.data[i] ^= (uint8_t)(1U << (i & 7));
        assert_int_equal(tg_help_load(again, bytes.data, i), TG_ERR_CORRUPT);
    }
    assert_help(again, "of.otlp", "");
    assert_int_equal(tg_help_load(again, bytes.data, bytes.len), TG_OK);
    assert_help(again, "of.otlp", "text \xe6\xb8\xa9");
    assert_family(again, "rpc_sum", "3 How long. [seconds] -4");
    assert_family(again, "bare", "0  [] -0");
    note_family(again, "rpc", 3, "Said now.", "", 5, TG_HELP_NOTED); /* nobody says the old one */
    assert_family(again, "rpc", "3 Said now. [] -0");
    tg_buf_deinit(&bytes);
    tg_help_free(h);
    tg_help_free(again);
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        tg_mem_fail_at(n);
        struct tg_help *h = tg_help_new();
        for (int i = 0; h && i < 100; i++) {
            char name[16];
            (void)snprintf(name, sizeof(name), "m%d", i);
            note(h, name, "text");
        }
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (h) {
            note(h, "m99", "text");
            assert_help(h, "m99", "text");
        }
        tg_help_free(h);
        if (!fired) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newest_stands),
        cmocka_unit_test(texts_are_cut_at_a_character),
        cmocka_unit_test(number_is_bounded),
        cmocka_unit_test(families_are_found_by_their_series),
        cmocka_unit_test(text_of_a_family_stands_while_it_is_said),
        cmocka_unit_test(comes_back_from_bytes),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
