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
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
