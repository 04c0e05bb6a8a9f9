/* The series table under threads: workers find, intern, remember, describe, plan and hold series
 * while a sweeper evicts whatever is idle for one tick of a clock that runs far too fast. Worth the
 * most under ThreadSanitizer and AddressSanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/model/forms.h"
#include "core/model/table.h"

enum { N_WORKERS = 3, N_IDS = 400, BATCHES = 3000, BATCH_POINTS = 40, N_HELD = 8 };

struct shared {
    struct tg_table *table;
    _Atomic uint32_t now_s;
    _Atomic bool stop;
    _Atomic uint64_t n_hits, n_misses, n_refused_refs;
};

/* cmocka's asserts longjmp, which other threads must not. */
#define MUST(cond)                                                           \
    do {                                                                     \
        if (!(cond)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
            abort();                                                         \
        }                                                                    \
    } while (0)

static uint32_t next(uint32_t *rng)
{
    *rng = *rng * 1664525 + 1013904223;
    return *rng >> 8;
}

static struct tg_series *intern(struct tg_table *t, unsigned id)
{
    char value[24];
    (void)snprintf(value, sizeof(value), "v%u", id);
    struct tg_tag tags[] = {
        {.key = "id", .value = value, .key_len = 2, .value_len = (uint32_t)strlen(value)},
        {.key = "host", .value = "same", .key_len = 4, .value_len = 4},
    };
    struct tg_series_desc d = {.name = "m", .name_len = 1, .n_tags = 2, .tags = tags};
    struct tg_series *s = NULL;
    MUST(tg_table_intern(t, &d, &s, NULL) == TG_OK);
    return s;
}

static void check(struct tg_table *t, const struct tg_series *s, unsigned id,
                  struct tg_arena *arena)
{
    char value[24];
    struct tg_series_desc d;
    (void)snprintf(value, sizeof(value), "v%u", id);
    tg_arena_reset(arena);
    MUST(tg_table_describe(t, s, &d, arena) == TG_OK);
    const struct tg_tag *tag = tg_series_desc_tag(&d, "id", 2);
    MUST(d.n_tags == 2 && tag && tag->value_len == strlen(value) &&
         memcmp(tag->value, value, tag->value_len) == 0);
}

static struct tg_hash128 raw_key(unsigned id, unsigned form)
{
    const unsigned key[2] = {id, form};
    return tg_hash128(key, sizeof(key));
}

static enum tg_code prepare(void *backend, const struct tg_series_desc *mapped, struct tg_buf *out,
                            struct tg_err *err)
{
    (void)mapped;
    (void)err;
    return tg_buf_append(out, backend, sizeof(unsigned));
}

static void replan(struct tg_table *t, struct tg_series *s, unsigned id, struct tg_buf *scratch)
{
    struct tg_plan *plan = atomic_load_explicit(&s->plan, memory_order_acquire);
    if (plan) {
        uint32_t len;
        const uint8_t *bytes = tg_plan_prepared(plan, 0, &len);
        MUST(bytes && len == sizeof(id) && memcmp(bytes, &id, len) == 0);
    }
    const struct tg_preparer preparer = {.fn = prepare, .backend = &id};
    struct tg_claim claim; /* four series share a form */
    MUST(tg_forms_claim(tg_table_forms(t), tg_forms_key(0, 0, id / 4), (uint64_t)id << 44, 0, 0, s,
                        &claim) == TG_OK);
    const struct tg_decision decision = {.targets = 1, .claims = &claim, .n_claims = 1};
    struct tg_plan *fresh = tg_plan_new(&decision, &preparer, 1, scratch);
    MUST(fresh);
    plan = tg_table_set_plan(t, s, plan, fresh);
    MUST(plan && plan->targets == 1);
}

struct held {
    struct tg_series *s;
    unsigned id;
};

/* As a log reader's dictionary does it. */
static void hold(struct shared *sh, struct held *h, unsigned id)
{
    struct tg_series *s = tg_table_find_raw(sh->table, raw_key(id, 0));
    if (!s) s = intern(sh->table, id);
    while (!tg_series_try_ref(s)) {
        atomic_fetch_add_explicit(&sh->n_refused_refs, 1, memory_order_relaxed);
        s = intern(sh->table, id);
    }
    *h = (struct held){.s = s, .id = id};
}

static void *worker(void *arg)
{
    struct shared *sh = arg;
    static _Atomic uint32_t n_workers;
    uint32_t rng = 77 + atomic_fetch_add(&n_workers, 1);
    struct tg_batch batch;
    struct tg_arena arena;
    struct tg_buf scratch;
    struct held held[N_HELD] = {{0}};
    uint64_t n_hits = 0;
    tg_arena_init(&arena, 0);
    tg_buf_init(&scratch, 0);
    tg_batch_init(&batch, tg_table_guard(sh->table), 0, 0);
    for (unsigned b = 0; b < BATCHES; b++) {
        const uint32_t now_s = atomic_load_explicit(&sh->now_s, memory_order_relaxed);
        for (unsigned i = 0; i < BATCH_POINTS; i++) {
            const unsigned id = next(&rng) % N_IDS;
            const struct tg_hash128 raw = raw_key(id, next(&rng) % 2);
            struct tg_series *s = tg_table_find_raw(sh->table, raw);
            n_hits += s != NULL;
            if (!s) {
                s = intern(sh->table, id);
                tg_table_remember_raw(sh->table, raw, s);
            }
            check(sh->table, s, id, &arena);
            if (next(&rng) % 4) tg_series_touch(s, now_s);
            if (next(&rng) % 8 == 0) replan(sh->table, s, id, &scratch);
        }
        struct held *h = &held[next(&rng) % N_HELD];
        if (h->s) tg_series_unref(h->s);
        hold(sh, h, next(&rng) % N_IDS);
        tg_batch_reset(&batch);
        /* Held ones are looked at here: the batch's guard has let go of what it knew. */
        for (unsigned i = 0; i < N_HELD; i++)
            if (held[i].s) check(sh->table, held[i].s, held[i].id, &arena);
    }
    for (unsigned i = 0; i < N_HELD; i++)
        if (held[i].s) tg_series_unref(held[i].s);
    tg_batch_deinit(&batch);
    tg_buf_deinit(&scratch);
    tg_arena_deinit(&arena);
    atomic_fetch_add(&sh->n_hits, n_hits);
    return NULL;
}

static void *sweeper(void *arg)
{
    struct shared *sh = arg;
    while (!atomic_load(&sh->stop)) {
        const uint32_t now_s = atomic_fetch_add(&sh->now_s, 1) + 1;
        (void)tg_table_sweep(sh->table, now_s);
    }
    return NULL;
}

static void test_stress(void **state)
{
    const uint64_t before = tg_mem_used();
    struct shared sh = {.table = NULL};
    pthread_t threads[N_WORKERS + 1];
    (void)state;
    tg_clock_set_test(1, 0); /* a new series counts as idle at once */
    sh.table = tg_table_new(&(struct tg_table_config){
        .max_series = N_IDS, .max_raw_keys = N_IDS, .idle_s = 2}); /* raw keys overflow, too */
    assert_non_null(sh.table);
    assert_int_equal(pthread_create(&threads[N_WORKERS], NULL, sweeper, &sh), 0);
    for (unsigned i = 0; i < N_WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, worker, &sh), 0);
    for (unsigned i = 0; i < N_WORKERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    atomic_store(&sh.stop, true);
    assert_int_equal(pthread_join(threads[N_WORKERS], NULL), 0);
    tg_clock_set_test(-1, 0);
    assert_true(tg_table_validate(sh.table));
    const struct tg_table_stats st = tg_table_stats(sh.table);
    print_message("%llu hits, %llu created, %llu evicted, %llu references refused\n",
                  (unsigned long long)atomic_load(&sh.n_hits), (unsigned long long)st.n_created,
                  (unsigned long long)st.n_evicted,
                  (unsigned long long)atomic_load(&sh.n_refused_refs));
    assert_true(st.n_evicted > 100);
    (void)tg_table_sweep(sh.table, UINT32_MAX / 2);
    assert_int_equal(tg_table_stats(sh.table).n_series, 0);
    assert_int_equal(tg_table_stats(sh.table).n_symbols, 0);
    assert_true(tg_table_validate(sh.table));
    tg_table_free(sh.table);
    assert_int_equal(tg_mem_used(), before);
}

/* Whoever got a reference holds a series that stays: the sweep, which wants it gone at every
 * moment, must not have taken it. */
static void *hold_one(void *arg)
{
    struct shared *sh = arg;
    struct tg_deferred_free *g = tg_table_guard(sh->table);
    /* Until the two have met often enough, whatever the scheduler does. */
    for (unsigned i = 0; i < 60000 || (tg_table_stats(sh->table).n_evicted < 2000 && i < 5000000);
         i++) {
        const int ticket = tg_deferred_free_enter(g);
        struct tg_series *s = intern(sh->table, 1);
        if (tg_series_try_ref(s)) {
            MUST(intern(sh->table, 1) == s);
            tg_series_unref(s);
        } else {
            atomic_fetch_add_explicit(&sh->n_refused_refs, 1, memory_order_relaxed);
        }
        tg_deferred_free_exit(g, ticket);
        if (i % 64 == 0) (void)sched_yield();
    }
    return NULL;
}

static void test_reference_or_eviction(void **state)
{
    struct shared sh = {.table = NULL};
    pthread_t threads[2];
    (void)state;
    tg_clock_set_test(1, 0);
    sh.table = tg_table_new(&(struct tg_table_config){.idle_s = 1});
    assert_non_null(sh.table);
    assert_int_equal(pthread_create(&threads[0], NULL, sweeper, &sh), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, hold_one, &sh), 0);
    assert_int_equal(pthread_join(threads[1], NULL), 0);
    atomic_store(&sh.stop, true);
    assert_int_equal(pthread_join(threads[0], NULL), 0);
    tg_clock_set_test(-1, 0);
    assert_true(tg_table_validate(sh.table));
    print_message("%llu evicted, %llu references refused\n",
                  (unsigned long long)tg_table_stats(sh.table).n_evicted,
                  (unsigned long long)atomic_load(&sh.n_refused_refs));
    tg_table_free(sh.table);
}

/* All threads intern the same new series at the same moment: one object comes out. */
enum { SAME = 3000 };
struct same {
    struct tg_table *table;
    pthread_barrier_t barrier;
    struct tg_series *got[N_WORKERS][SAME];
    _Atomic unsigned n_started;
};

static void *intern_same(void *arg)
{
    struct same *sm = arg;
    struct tg_series **got = sm->got[atomic_fetch_add(&sm->n_started, 1)];
    (void)pthread_barrier_wait(&sm->barrier);
    for (unsigned i = 0; i < SAME; i++) {
        got[i] = intern(sm->table, i);
        tg_table_remember_raw(sm->table, raw_key(i, 0), got[i]);
    }
    return NULL;
}

static void test_same(void **state)
{
    static struct same sm;
    pthread_t threads[N_WORKERS];
    (void)state;
    sm.table = tg_table_new(&(struct tg_table_config){0});
    assert_non_null(sm.table);
    (void)pthread_barrier_init(&sm.barrier, NULL, N_WORKERS);
    for (unsigned i = 0; i < N_WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, intern_same, &sm), 0);
    for (unsigned i = 0; i < N_WORKERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < SAME; i++)
        for (unsigned k = 1; k < N_WORKERS; k++) assert_ptr_equal(sm.got[k][i], sm.got[0][i]);
    assert_int_equal(tg_table_stats(sm.table).n_series, SAME);
    assert_int_equal(tg_table_stats(sm.table).n_raw_keys, SAME);
    assert_true(tg_table_validate(sm.table));
    (void)pthread_barrier_destroy(&sm.barrier);
    tg_table_free(sm.table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stress),
        cmocka_unit_test(test_reference_or_eviction),
        cmocka_unit_test(test_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
