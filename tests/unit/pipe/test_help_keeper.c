/* Descriptions of metrics: kept over a restart, and whose series are decided again for them. */
#include "core/pipe/help_keeper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/mem.h"

static struct tg_table *table;
static char dir[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/tidegate-test-XXXXXX");
    table = tg_table_new(&(struct tg_table_config){.max_series = 0});
    return table && mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    tg_table_free(table);
    return system(command);
}

static void say(struct tg_table *t, const char *name, const char *text)
{
    const struct tg_help_family f = {.help = text, .unit = "", .help_len = (uint32_t)strlen(text)};
    assert_int_equal(tg_help_note_family(tg_table_help(t), name, strlen(name), &f, 1),
                     TG_HELP_NOTED);
}

static void assert_said(struct tg_table *t, const char *name, const char *want)
{
    struct tg_arena arena;
    struct tg_help_family f = {.help_len = 0};
    tg_arena_init(&arena, 0);
    (void)tg_help_find_family(tg_table_help(t), name, strlen(name), &arena, &f);
    assert_int_equal(f.help_len, strlen(want));
    if (f.help_len) assert_memory_equal(f.help, want, f.help_len);
    tg_arena_deinit(&arena);
}

/* A series that was decided in generation 7. */
static struct tg_series *decided(const char *name, enum tg_kind kind, uint32_t field_len)
{
    struct tg_series_desc d = {.name = name,
                               .unit = "",
                               .name_len = (uint32_t)strlen(name),
                               .field_len = field_len,
                               .kind = (uint8_t)kind};
    struct tg_series *s;
    struct tg_buf scratch;
    struct tg_err err;
    tg_buf_init(&scratch, 0);
    assert_int_equal(tg_table_intern(table, &d, &s, &err), TG_OK);
    const struct tg_decision decision = {.generation = 7, .targets = 1, .strategy = 2};
    const struct tg_preparer nothing = {.fn = NULL};
    struct tg_plan *plan = tg_plan_new(&decision, &nothing, 1, &scratch);
    assert_non_null(plan);
    assert_ptr_equal(tg_table_set_plan(table, s, NULL, plan), plan);
    tg_buf_deinit(&scratch);
    return s;
}

static uint64_t generation(const struct tg_series *s)
{
    return atomic_load(&s->plan)->generation;
}

/* One tick late, and those of the family alone. */
static void series_are_decided_again(void **state)
{
    (void)state;
    struct tg_help_keeper k;
    struct tg_series *const jobs = decided("jobs_total", TG_KIND_UNKNOWN, 0);
    struct tg_series *const other = decided("others_total", TG_KIND_UNKNOWN, 0);
    struct tg_series *const otlp = decided("jobs", TG_KIND_COUNTER, 0);
    struct tg_series *const influx = decided("a_total", TG_KIND_UNKNOWN, 5);
    tg_help_keeper_open(&k, table, NULL, dir);
    tg_help_keeper_tick(&k, 1000);
    say(table, "jobs", "Jobs.");
    say(table, "a", "Not of Influx.");
    tg_help_keeper_tick(&k, 2000);
    assert_int_equal(generation(jobs), 7);
    tg_help_keeper_tick(&k, 3000);
    assert_int_equal(generation(jobs), 0);
    assert_int_equal(atomic_load(&jobs->plan)->targets, 1);
    assert_int_equal(atomic_load(&jobs->plan)->strategy, 2);
    assert_int_equal(generation(other), 7);
    assert_int_equal(generation(otlp), 7);
    assert_int_equal(generation(influx), 7);
    /* What has not changed since is left alone. */
    struct tg_series *const late = decided("jobs_created", TG_KIND_UNKNOWN, 0);
    say(table, "others", "Others.");
    tg_help_keeper_tick(&k, 4000);
    tg_help_keeper_tick(&k, 5000);
    assert_int_equal(generation(other), 0);
    assert_int_equal(generation(late), 7);
    tg_help_keeper_close(&k);
}

static void texts_outlive_a_restart(void **state)
{
    (void)state;
    struct tg_help_keeper k;
    tg_help_keeper_open(&k, table, NULL, dir);
    say(table, "m", "one");
    tg_help_keeper_tick(&k, 1000);
    for (int i = 0; i < 2; i++) { /* as after a crash, then as after a stop */
        struct tg_help_keeper after;
        struct tg_table *t = tg_table_new(&(struct tg_table_config){.max_series = 0});
        tg_help_keeper_open(&after, t, NULL, dir);
        assert_said(t, "m", "one");
        assert_said(t, "n", i ? "two" : "");
        tg_help_keeper_close(&after);
        tg_table_free(t);
        if (i) break;
        say(table, "n", "two");
        tg_help_keeper_tick(&k, 2000); /* too soon */
        tg_help_keeper_close(&k);
    }
}

/* A folder that cannot be written, or a file that cannot be read, stops nothing. */
static void failures_are_survived(void **state)
{
    (void)state;
    struct tg_help_keeper k;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/help", dir);
    tg_help_keeper_open(&k, table, NULL, "/nowhere/at/all");
    say(table, "m", "one");
    tg_help_keeper_tick(&k, 1000);
    assert_true(k.has_failed);
    k.dir = dir;
    tg_help_keeper_tick(&k, 2000); /* not at once again */
    assert_int_not_equal(access(path, F_OK), 0);
    tg_help_keeper_tick(&k, 20000);
    assert_false(k.has_failed);
    assert_int_equal(access(path, F_OK), 0);
    for (uint64_t n = 1;; n++) {
        struct tg_table *t = tg_table_new(&(struct tg_table_config){.max_series = 0});
        tg_mem_fail_at(n);
        tg_help_keeper_open(&k, t, NULL, dir);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (!fired) assert_said(t, "m", "one");
        tg_help_keeper_close(&k);
        tg_table_free(t);
        if (!fired) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(series_are_decided_again, setup, teardown),
        cmocka_unit_test_setup_teardown(texts_outlive_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_survived, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
