/* Reload: all four scripts and all VMs, or none; and while threads are deciding. */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/rules/rules_fixture.h"

#define R(body) "return function(series) " body " end"

static void test_broken_script_keeps_the_old_rules(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){R("series.tags.v = 1"), R("return to('influx')"),
                                      R("return all()"), R("return keep('1d')")});
    fx_load(&f);
    assert_int_equal(tg_rules_generation(f.rules), 1);
    static const char *const broken[] = {"\nreturn functio(series) end",
                                         "return 5",
                                         "while true do end",
                                         "x = 1",
                                         "error('no')",
                                         ""};
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        /* Good scripts around it change too: none of them may take effect. */
        fx_write(&f, FX_TAGS, R("series.tags.v = 2"), strlen(R("series.tags.v = 2")));
        fx_write(&f, FX_RETENTION, broken[i], strlen(broken[i]));
        for (int k = 0; k < 2; k++) {
            assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_ERR_INVALID);
            assert_int_equal(strncmp(f.err.msg, "retention.lua:", 14), 0);
            const struct tg_decision d = fx_decide(&f, fx_series("m", NULL), NULL);
            assert_string_equal(fx_print(&d.mapped), "m{v=\"1\"}");
            assert_int_equal(d.generation, 1);
            assert_int_equal(d.retention.keep_ms, 86400000);
        }
    }
    assert_int_equal(unlink(f.paths[FX_RETENTION]), 0);
    assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_ERR_INVALID);
    assert_non_null(strstr(f.err.msg, "retention.lua: cannot be read: No such file"));
    const struct tg_rules_stats s = tg_rules_stats(f.rules);
    assert_int_equal(s.n_reloads, 0);
    assert_int_equal(s.n_reload_failures, 13);
    assert_non_null(strstr(s.last_error, "retention.lua"));

    fx_write(&f, FX_RETENTION, R("return keep('2d')"), strlen(R("return keep('2d')")));
    assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_OK);
    assert_int_equal(tg_rules_generation(f.rules), 2);
    assert_string_equal(tg_rules_stats(f.rules).last_error, ""); /* mended */
    const struct tg_decision d = fx_decide(&f, fx_series("m", NULL), NULL);
    assert_string_equal(fx_print(&d.mapped), "m{v=\"2\"}");
    assert_int_equal(d.generation, 2);
    assert_int_equal(d.retention.keep_ms, 2 * 86400000);
    fx_deinit(&f);
}

static void test_slots_that_never_decide(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, R("return to('influx')"), NULL, NULL});
    f.config.n_slots = 4;
    fx_load(&f);
    const uint64_t before = tg_mem_used();
    for (int i = 0; i < 20; i++) assert_int_equal(tg_rules_reload(f.rules, NULL), TG_OK);
    assert_true(tg_mem_used() < before + (64 << 10)); /* VMs not adopted are freed */
    assert_int_equal(tg_rules_generation(f.rules), 21);
    fx_deinit(&f);
}

static void test_configuration(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, NULL, NULL, NULL});
    f.config.n_backends = 33;
    assert_int_equal(tg_rules_new(&f.config, &f.rules, &f.err), TG_ERR_INVALID);
    f.config.n_backends = 3;
    f.config.tags_path = "/tmp";
    assert_int_equal(tg_rules_new(&f.config, &f.rules, &f.err), TG_ERR_INVALID);
    assert_non_null(strstr(f.err.msg, "is a folder"));
    f.config.tags_path = NULL;
    f.config.max_bytes = 20000; /* too little for a VM */
    assert_int_equal(tg_rules_new(&f.config, &f.rules, &f.err), TG_ERR_NOMEM);
    tg_rules_free(NULL);
    fx_deinit(&f);
}

struct decider {
    struct fixture *f;
    unsigned slot;
    _Atomic bool *stop;
    uint64_t n, n_bad;
};

static void *decide_until_stopped(void *arg)
{
    struct decider *me = arg;
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    static const struct tg_series_desc series = {.name = "m", .name_len = 1, .unit = ""};
    uint64_t last = 0;
    while (!atomic_load(me->stop)) {
        struct tg_decision d;
        tg_arena_reset(&arena);
        const uint64_t in_force = tg_rules_generation(me->f->rules);
        if (tg_rules_decide(me->f->rules, me->slot, &series, &arena, &d, NULL) != TG_OK) {
            me->n_bad++;
            continue;
        }
        /* Generation n tags with n and routes by n: the two never mix. */
        const struct tg_tag *t = tg_series_desc_tag(&d.mapped, "gen", 3);
        const bool odd = t && t->value[0] == '1';
        if (!t || d.targets != (odd ? 1U : 2U) || (d.generation % 2 == 1) != odd ||
            d.generation < in_force || d.generation < last || d.failed)
            me->n_bad++;
        last = d.generation;
        me->n++;
    }
    tg_arena_deinit(&arena);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 3, RELOADS = 50 };
    static const char *const tags[] = {R("series.tags.gen = 1"), R("series.tags.gen = 0")};
    static const char *const routing[] = {R("return to('archive')"), R("return to('timescale')")};
    struct fixture f;
    fx_init(&f, (const char *const[]){tags[0], routing[0], NULL, NULL});
    f.config.n_slots = THREADS;
    f.config.max_ms = 60000; /* sanitizers and a busy machine */
    fx_load(&f);
    _Atomic bool stop = false;
    pthread_t threads[THREADS];
    struct decider d[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        d[i] = (struct decider){.f = &f, .slot = i, .stop = &stop};
        assert_int_equal(pthread_create(&threads[i], NULL, decide_until_stopped, &d[i]), 0);
    }
    for (int i = 1; i <= RELOADS; i++) {
        fx_write(&f, FX_TAGS, tags[i % 2], strlen(tags[i % 2]));
        fx_write(&f, FX_ROUTING, routing[i % 2], strlen(routing[i % 2]));
        assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_OK);
        (void)tg_rules_stats(f.rules);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(d[i].n_bad, 0);
    }
    assert_true(d[0].n + d[1].n + d[2].n > 0);
    assert_int_equal(tg_rules_generation(f.rules), RELOADS + 1);
    fx_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_script_keeps_the_old_rules),
        cmocka_unit_test(test_slots_that_never_decide),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
