/* The series table on one thread: identity, raw keys, limits, eviction, plans, memory. What several
 * threads do to each other is in test_table_threads.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/model/raw_key_map.h"
#include "core/model/table.h"

/* Series number `n`: name and one tag shared by all, a value shared by each ten, a unique one. */
static enum tg_code intern(struct tg_table *t, unsigned n, struct tg_series **out,
                           struct tg_err *err)
{
    char group[32];
    char unique[32];
    (void)snprintf(group, sizeof(group), "group-%u", n / 10);
    (void)snprintf(unique, sizeof(unique), "unique-%u", n);
    struct tg_tag tags[] = {
        {.key = "unique", .value = unique, .key_len = 6, .value_len = (uint32_t)strlen(unique)},
        {.key = "group",
         .value = group,
         .key_len = 5,
         .value_len = (uint32_t)strlen(group),
         .origin = TG_ORIGIN_SCOPE},
        {.key = "all", .value = "same", .key_len = 3, .value_len = 4, .origin = TG_ORIGIN_RESOURCE},
    };
    struct tg_series_desc d = {.name = "requests",
                               .name_len = 8,
                               .unit = "1",
                               .unit_len = 1,
                               .kind = TG_KIND_COUNTER,
                               .temporality = TG_TEMPORALITY_DELTA,
                               .n_tags = 3,
                               .tags = tags};
    return tg_table_intern(t, &d, out, err);
}

static struct tg_hash128 raw_key(uint64_t n)
{
    return tg_hash128(&n, sizeof(n));
}

static struct tg_table *table_new(uint64_t max_series, uint64_t max_raw_keys, uint32_t idle_s)
{
    struct tg_table *t = tg_table_new(&(struct tg_table_config){
        .max_series = max_series, .max_raw_keys = max_raw_keys, .idle_s = idle_s});
    assert_non_null(t);
    return t;
}

static void expect_text(struct tg_table *t, const struct tg_series *s, const char *want)
{
    struct tg_arena arena;
    struct tg_buf b;
    struct tg_series_desc d;
    tg_arena_init(&arena, 0);
    tg_buf_init(&b, 0);
    assert_int_equal(tg_table_describe(t, s, &d, &arena), TG_OK);
    assert_int_equal(tg_series_desc_print(&d, &b), TG_OK);
    assert_int_equal(b.len, strlen(want));
    assert_memory_equal(b.data, want, b.len);
    tg_buf_deinit(&b);
    tg_arena_deinit(&arena);
}

static void test_identity(void **state)
{
    struct tg_table *t = table_new(0, 0, 0);
    struct tg_series *a;
    struct tg_series *b;
    (void)state;
    for (unsigned n = 0; n < 3000; n++) {
        assert_int_equal(intern(t, n, &a, NULL), TG_OK);
        assert_int_equal(intern(t, n, &b, NULL), TG_OK);
        assert_ptr_equal(a, b);
    }
    assert_int_equal(tg_table_stats(t).n_series, 3000);
    assert_true(tg_table_validate(t));
    assert_int_equal(intern(t, 77, &a, NULL), TG_OK);
    expect_text(t, a, "requests{all=\"same\",group=\"group-7\",unique=\"unique-77\"}");
    struct tg_arena arena;
    struct tg_series_desc d;
    tg_arena_init(&arena, 0);
    assert_int_equal(tg_table_describe(t, a, &d, &arena), TG_OK);
    assert_int_equal(d.kind, TG_KIND_COUNTER);
    assert_int_equal(d.temporality, TG_TEMPORALITY_DELTA);
    assert_int_equal(d.unit_len, 1);
    assert_int_equal(d.tags[0].origin, TG_ORIGIN_RESOURCE);
    assert_int_equal(d.tags[1].origin, TG_ORIGIN_SCOPE);
    assert_int_equal(d.tags[2].origin, TG_ORIGIN_POINT);
    /* What is described interns to itself. */
    assert_int_equal(tg_table_intern(t, &d, &b, NULL), TG_OK);
    assert_ptr_equal(a, b);
    /* Each part makes a difference. */
    struct tg_series *known[8];
    unsigned n_known = 0;
    known[n_known++] = a;
    for (unsigned change = 0; change < 5; change++) {
        struct tg_series_desc e = d;
        struct tg_tag tags[3];
        memcpy(tags, d.tags, sizeof(tags));
        e.tags = tags;
        if (change == 0) e.kind = TG_KIND_GAUGE;
        if (change == 1) e.temporality = TG_TEMPORALITY_CUMULATIVE;
        if (change == 2) e.unit_len = 0;
        if (change == 3) e.n_tags = 2;
        if (change == 4) tags[0].origin = TG_ORIGIN_POINT;
        assert_int_equal(tg_table_intern(t, &e, &b, NULL), TG_OK);
        for (unsigned i = 0; i < n_known; i++) assert_ptr_not_equal(b, known[i]);
        known[n_known++] = b;
    }
    tg_arena_deinit(&arena);
    assert_true(tg_table_validate(t));
    tg_table_free(t);
}

static void test_no_tags_and_many(void **state)
{
    enum { MANY = 100 };
    static char values[MANY][400]; /* over the scratch buffer, and over a tag's stack buffer */
    char keys[MANY][8];
    struct tg_tag tags[MANY];
    struct tg_table *t = table_new(0, 0, 5);
    struct tg_series *s;
    struct tg_series *again;
    struct tg_arena arena;
    struct tg_series_desc back;
    (void)state;
    tg_arena_init(&arena, 0);
    struct tg_series_desc d = {.name = "m", .name_len = 1};
    assert_int_equal(tg_table_intern(t, &d, &s, NULL), TG_OK);
    expect_text(t, s, "m");
    for (unsigned i = 0; i < MANY; i++) {
        (void)snprintf(keys[i], sizeof(keys[i]), "k%02u", i);
        memset(values[i], 'a' + (int)(i % 26), sizeof(values[i]));
        tags[i] = (struct tg_tag){
            .key = keys[i], .value = values[i], .key_len = 3, .value_len = sizeof(values[i])};
    }
    d.tags = tags;
    d.n_tags = MANY;
    assert_int_equal(tg_table_intern(t, &d, &s, NULL), TG_OK);
    assert_int_equal(tg_table_intern(t, &d, &again, NULL), TG_OK);
    assert_ptr_equal(s, again);
    assert_int_equal(tg_table_describe(t, s, &back, &arena), TG_OK);
    assert_int_equal(back.n_tags, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_memory_equal(back.tags[i].key, keys[i], 3);
        assert_int_equal(back.tags[i].value_len, sizeof(values[i]));
        assert_memory_equal(back.tags[i].value, values[i], sizeof(values[i]));
    }
    assert_true(tg_table_validate(t));
    assert_int_equal(tg_table_sweep(t, tg_clock_coarse_s() + 100), 2);
    assert_int_equal(tg_table_stats(t).n_symbols, 0);
    assert_true(tg_table_validate(t));
    tg_arena_deinit(&arena);
    tg_table_free(t);
}

static void test_refused(void **state)
{
    struct tg_table *t = table_new(0, 0, 0);
    struct tg_series *s = NULL;
    struct tg_err err = {.msg = ""};
    (void)state;
    for (int round = 0; round < 2; round++) {
        struct tg_series_desc d = {.name = "", .name_len = 0};
        assert_int_equal(tg_table_intern(t, &d, &s, &err), TG_ERR_INVALID);
        char name[2000];
        memset(name, 'x', sizeof(name));
        d = (struct tg_series_desc){.name = name, .name_len = sizeof(name)};
        assert_int_equal(tg_table_intern(t, &d, &s, &err), TG_ERR_TOO_LARGE);
        assert_int_equal(tg_table_stats(t).n_series, 0);
        assert_true(tg_table_validate(t));
    }
    assert_int_equal(tg_table_limits(t)->max_tags, 128);
    tg_table_free(t);
}

static void test_raw(void **state)
{
    enum { N = 20000 };
    struct tg_table *t = table_new(0, 0, 0);
    struct tg_series *s[10];
    (void)state;
    for (unsigned i = 0; i < 10; i++) assert_int_equal(intern(t, i, &s[i], NULL), TG_OK);
    for (unsigned i = 0; i < N; i++) {
        assert_null(tg_table_find_raw(t, raw_key(i)));
        tg_table_prefetch_raw(t, raw_key(i));
        tg_table_remember_raw(t, raw_key(i), s[i % 10]);
        assert_ptr_equal(tg_table_find_raw(t, raw_key(i)), s[i % 10]);
    }
    for (unsigned i = 0; i < N; i++) {
        tg_table_remember_raw(t, raw_key(i), s[i % 10]); /* again changes nothing */
        assert_ptr_equal(tg_table_find_raw(t, raw_key(i)), s[i % 10]);
    }
    assert_int_equal(tg_table_stats(t).n_raw_keys, N);
    assert_true(tg_table_validate(t));
    /* Keys that differ in one half only, and that share their home slot, are kept apart. */
    for (uint64_t i = 0; i < 40; i++) {
        tg_table_remember_raw(t, (struct tg_hash128){.lo = i, .hi = 5}, s[i % 10]);
        tg_table_remember_raw(t, (struct tg_hash128){.lo = 5, .hi = 100 + i}, s[i % 10]);
    }
    for (uint64_t i = 0; i < 40; i++) {
        assert_ptr_equal(tg_table_find_raw(t, (struct tg_hash128){.lo = i, .hi = 5}), s[i % 10]);
        assert_ptr_equal(tg_table_find_raw(t, (struct tg_hash128){.lo = 5, .hi = 100 + i}),
                         s[i % 10]);
    }
    /* A key that names another series from now on. */
    tg_table_remember_raw(t, raw_key(1), s[5]);
    assert_ptr_equal(tg_table_find_raw(t, raw_key(1)), s[5]);
    assert_true(tg_table_validate(t));
    tg_table_free(t);
}

/* A reader that loaded an array before it was replaced goes on reading it. */
static void test_raw_array_outlives_readers(void **state)
{
    struct tg_deferred_free *g = tg_deferred_free_new();
    struct tg_raw_key_map *m;
    void *allocation = tg_calloc(1, sizeof(*m) + 64);
    struct tg_series *s = tg_calloc(1, sizeof(*s));
    (void)state;
    assert_true(g && allocation && s);
    m = (struct tg_raw_key_map *)(((uintptr_t)allocation + 63) & ~(uintptr_t)63);
    assert_int_equal(tg_raw_key_map_init(m, g, 100000), TG_OK);
    const int ticket = tg_deferred_free_enter(g);
    const struct tg_raw_array *old = tg_raw_key_map_array(m, raw_key(0));
    tg_raw_key_map_put(m, raw_key(0), s);
    for (unsigned i = 1; i < 10000; i++) tg_raw_key_map_put(m, raw_key(i), s);
    assert_ptr_not_equal(tg_raw_key_map_array(m, raw_key(0)), old);
    for (int i = 0; i < 4; i++) (void)tg_deferred_free_poll(g);
    assert_ptr_equal(atomic_load(&old->slots[tg_raw_key_map_home(old, raw_key(0))].series), s);
    const uint64_t held = tg_mem_used();
    tg_deferred_free_exit(g, ticket);
    for (int i = 0; i < 2; i++) (void)tg_deferred_free_poll(g);
    assert_true(tg_mem_used() < held);
    tg_raw_key_map_deinit(m);
    tg_deferred_free_free(g);
    tg_free(s);
    tg_free(allocation);
}

static void test_raw_bound(void **state)
{
    enum { MAX = 1000 };
    struct tg_table *t = table_new(0, MAX, 0);
    struct tg_series *s;
    (void)state;
    assert_int_equal(intern(t, 0, &s, NULL), TG_OK);
    for (unsigned i = 0; i < MAX + 500; i++) {
        tg_table_remember_raw(t, raw_key(i), s);
        assert_ptr_equal(tg_table_find_raw(t, raw_key(i)), i < MAX ? s : NULL);
    }
    assert_int_equal(tg_table_stats(t).n_raw_keys, MAX);
    assert_true(tg_table_validate(t));
    /* A sweep makes room, so that keys nobody sends any more cannot keep others out for ever. */
    (void)tg_table_sweep(t, tg_clock_coarse_s());
    const uint64_t left = tg_table_stats(t).n_raw_keys;
    assert_in_range(left, MAX / 2, MAX - 1);
    assert_true(tg_table_validate(t));
    tg_table_remember_raw(t, raw_key(MAX + 7), s);
    assert_ptr_equal(tg_table_find_raw(t, raw_key(MAX + 7)), s);
    (void)tg_table_sweep(t, tg_clock_coarse_s()); /* none was turned away: nothing is forgotten */
    assert_int_equal(tg_table_stats(t).n_raw_keys, left + 1);
    /* It takes turns: after a whole round of them nothing of before is left. */
    for (unsigned round = 1; round <= 8; round++) {
        for (unsigned i = 0; i < 500; i++) tg_table_remember_raw(t, raw_key(round * 10000 + i), s);
        assert_int_equal(tg_table_stats(t).n_raw_keys, MAX);
        (void)tg_table_sweep(t, tg_clock_coarse_s());
    }
    for (unsigned i = 0; i < MAX + 8; i++) assert_null(tg_table_find_raw(t, raw_key(i)));
    assert_true(tg_table_validate(t));
    tg_table_free(t);
}

static void test_limit(void **state)
{
    struct tg_table *t = table_new(100, 0, 10);
    struct tg_series *s;
    (void)state;
    for (unsigned i = 0; i < 100; i++) assert_int_equal(intern(t, i, &s, NULL), TG_OK);
    for (int round = 0; round < 2; round++) {
        struct tg_err err = {.msg = ""};
        assert_int_equal(intern(t, 100, &s, &err), TG_ERR_FULL);
        assert_non_null(strstr(err.msg, "limits.series"));
        assert_non_null(strstr(err.msg, "100"));
        assert_int_equal(intern(t, 50, &s, &err), TG_OK); /* known ones go on */
        assert_true(tg_table_validate(t));
    }
    assert_int_equal(tg_table_stats(t).n_refused, 2);
    assert_int_equal(tg_table_sweep(t, tg_clock_coarse_s() + 10), 100);
    assert_int_equal(intern(t, 100, &s, NULL), TG_OK);
    assert_true(tg_table_validate(t));
    tg_table_free(t);
}

/* Whoever holds a series that is idle keeps it in memory, but keeps no new one out. */
static void test_idle_series_that_are_held(void **state)
{
    (void)state;
    enum { N = 100 };
    const uint64_t before = tg_mem_used();
    struct tg_table *t = table_new(N, 0, 10);
    struct tg_series *s[N], *more[2 * N], *again;
    struct tg_err err;
    const uint32_t now_s = tg_clock_coarse_s();
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(intern(t, i, &s[i], NULL), TG_OK);
        assert_true(tg_series_try_ref(s[i]));
    }
    assert_int_equal(tg_table_sweep(t, now_s + 9), 0);
    assert_int_equal(intern(t, N, &again, &err), TG_ERR_FULL);
    assert_int_equal(tg_table_sweep(t, now_s + 12), 0);
    assert_int_equal(tg_table_stats(t).n_series, 0);
    assert_int_equal(tg_table_stats(t).n_held, N);
    assert_true(tg_table_validate(t));
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(intern(t, N + i, &more[i], NULL), TG_OK);
        tg_series_touch(more[i], now_s + 12);
        assert_true(tg_series_try_ref(more[i]));
    }
    assert_int_equal(intern(t, 3 * N, &again, &err), TG_ERR_FULL); /* those are not idle */
    /* a held one comes back: it is the same, and counts again */
    assert_int_equal(intern(t, 7, &again, NULL), TG_OK);
    assert_ptr_equal(again, s[7]);
    tg_series_touch(s[7], now_s + 14);
    assert_int_equal(tg_table_sweep(t, now_s + 14), 0);
    assert_int_equal(tg_table_stats(t).n_series, N + 1);
    assert_int_equal(tg_table_stats(t).n_held, N - 1);
    assert_true(tg_table_validate(t));
    /* at most as many as the limit give their place up: memory has a bound */
    assert_int_equal(tg_table_sweep(t, now_s + 40), 0);
    assert_int_equal(tg_table_stats(t).n_held, N);
    assert_int_equal(tg_table_stats(t).n_series, N);
    assert_int_equal(intern(t, 3 * N, &again, &err), TG_ERR_FULL);
    assert_true(tg_table_validate(t));
    /* and all leave when nobody holds them */
    for (unsigned i = 0; i < N; i++) {
        tg_series_unref(s[i]);
        tg_series_unref(more[i]);
    }
    assert_int_equal(tg_table_sweep(t, now_s + 41), 2 * N);
    assert_int_equal(tg_table_stats(t).n_series, 0);
    assert_int_equal(tg_table_stats(t).n_held, 0);
    assert_true(tg_table_validate(t));
    tg_table_free(t);
    assert_int_equal(tg_mem_used(), before);
}

static void test_eviction(void **state)
{
    enum { N = 500 };
    const uint64_t before = tg_mem_used();
    struct tg_table *t = table_new(0, 0, 10);
    struct tg_series *s[N];
    (void)state;
    const uint32_t now_s = tg_clock_coarse_s() + 5;
    const uint64_t empty = tg_mem_used();
    for (unsigned round = 0; round < 3; round++) {
        const uint32_t at_s = now_s + round * 100;
        const int ticket = tg_deferred_free_enter(tg_table_guard(t));
        for (unsigned i = 0; i < N; i++) {
            assert_int_equal(intern(t, i, &s[i], NULL), TG_OK);
            tg_series_touch(s[i], at_s);
            tg_table_remember_raw(t, raw_key(i), s[i]);
            tg_table_remember_raw(t, raw_key(i + N), s[i]);
        }
        assert_int_equal(tg_table_sweep(t, at_s + 9), 0);
        for (unsigned i = 0; i < N; i += 2) tg_series_touch(s[i], at_s + 5);
        assert_true(tg_series_try_ref(s[1]));
        assert_int_equal(tg_table_sweep(t, at_s + 12), N / 2 - 1);
        assert_int_equal(tg_table_stats(t).n_series, N / 2);
        assert_int_equal(tg_table_stats(t).n_held, 1);
        assert_int_equal(tg_table_stats(t).n_raw_keys, N + 2);
        for (unsigned i = 0; i < N; i++) {
            const bool stays = i % 2 == 0 || i == 1;
            assert_ptr_equal(tg_table_find_raw(t, raw_key(i)), stays ? s[i] : NULL);
            assert_ptr_equal(tg_table_find_raw(t, raw_key(i + N)), stays ? s[i] : NULL);
        }
        /* Inside the guard the evicted one is intact, but cannot be held or remembered. */
        expect_text(t, s[3], "requests{all=\"same\",group=\"group-0\",unique=\"unique-3\"}");
        assert_true(atomic_load(&s[3]->dead));
        assert_false(tg_series_try_ref(s[3]));
        assert_int_equal(atomic_load(&s[3]->refs), 0);
        tg_table_remember_raw(t, raw_key(3), s[3]);
        assert_null(tg_table_find_raw(t, raw_key(3)));
        struct tg_series *again;
        assert_int_equal(intern(t, 3, &again, NULL), TG_OK);
        assert_ptr_not_equal(again, s[3]);
        assert_true(tg_table_validate(t));
        tg_deferred_free_exit(tg_table_guard(t), ticket);
        tg_series_unref(s[1]);
        assert_int_equal(tg_table_sweep(t, at_s + 50), N / 2 + 2);
        assert_int_equal(tg_table_stats(t).n_series, 0);
        assert_int_equal(tg_table_stats(t).n_symbols, 0);
        assert_int_equal(tg_table_stats(t).n_raw_keys, 0);
        assert_true(tg_table_validate(t));
    }
    /* Nothing stays but hash slots. */
    assert_true(tg_mem_used() - empty < 64 * 1024);
    assert_int_equal(tg_table_stats(t).n_evicted, tg_table_stats(t).n_created);
    tg_table_free(t);
    assert_int_equal(tg_mem_used(), before);
}

/* With a long idle time the sweep goes round in steps; all are gone after one round. */
static void test_eviction_in_rounds(void **state)
{
    enum { N = 5000, IDLE_S = 3600 };
    struct tg_table *t = table_new(0, 0, IDLE_S);
    static struct tg_series *s[N];
    (void)state;
    for (unsigned i = 0; i < N; i++) assert_int_equal(intern(t, i, &s[i], NULL), TG_OK);
    const uint32_t at_s = tg_clock_coarse_s(); /* one age for all, however long that took */
    for (unsigned i = 0; i < N; i++) tg_series_touch(s[i], at_s);
    uint32_t now_s = at_s + IDLE_S - 60;
    assert_int_equal(tg_table_sweep(t, now_s), 0);
    for (unsigned step = 0; step < 59; step++) assert_int_equal(tg_table_sweep(t, ++now_s), 0);
    now_s += 2;
    size_t n = 0;
    size_t most = 0;
    for (unsigned step = 0; step < 64; step++) {
        const size_t left = tg_table_sweep(t, now_s++);
        n += left;
        if (left > most) most = left;
    }
    assert_int_equal(n, N);
    assert_true(most < N / 4);
    assert_true(tg_table_validate(t));
    tg_table_free(t);
}

static struct tg_plan *plan_make(uint64_t generation)
{
    const struct tg_decision d = {.generation = generation, .mapped = {.name = "m", .name_len = 1}};
    struct tg_buf scratch;
    tg_buf_init(&scratch, 0);
    struct tg_plan *p = tg_plan_new(&d, NULL, 0, &scratch);
    tg_buf_deinit(&scratch);
    assert_non_null(p);
    return p;
}

static void test_plans(void **state)
{
    const uint64_t before = tg_mem_used();
    struct tg_table *t = table_new(0, 0, 0);
    struct tg_series *s;
    (void)state;
    assert_int_equal(intern(t, 1, &s, NULL), TG_OK);
    for (int round = 0; round < 2; round++) {
        int ticket = tg_deferred_free_enter(tg_table_guard(t));
        struct tg_plan *expected = atomic_load(&s->plan);
        struct tg_plan *a = plan_make(1);
        assert_ptr_equal(tg_table_set_plan(t, s, expected, a), a);
        assert_ptr_equal(tg_table_set_plan(t, s, NULL, plan_make(2)), a); /* lost: freed */
        struct tg_plan *b = plan_make(3);
        assert_ptr_equal(tg_table_set_plan(t, s, a, b), b);
        (void)tg_table_sweep(t, 1);
        assert_int_equal(a->generation, 1); /* still readable inside the guard */
        struct tg_plan *c = plan_make(4);
        assert_ptr_equal(tg_table_set_plan(t, s, b, c), c); /* while others are aging */
        (void)tg_table_sweep(t, 1);
        assert_int_equal(b->generation, 3);
        tg_deferred_free_exit(tg_table_guard(t), ticket);
        const uint64_t held = tg_mem_used();
        (void)tg_table_sweep(t, 1);
        (void)tg_table_sweep(t, 1);
        assert_true(tg_mem_used() < held);
        assert_ptr_equal(atomic_load(&s->plan), c);
    }
    struct tg_plan *last = plan_make(9);
    (void)tg_table_set_plan(t, s, atomic_load(&s->plan), last); /* never swept: freed with table */
    tg_table_free(t);
    assert_int_equal(tg_mem_used(), before);
}

/* Every allocation of an intern, remember and sweep fails once; the table stays whole. */
static void test_no_memory(void **state)
{
    const uint64_t before = tg_mem_used();
    (void)state;
    for (uint64_t n = 1;; n++) {
        tg_mem_fail_at(n);
        struct tg_table *t = tg_table_new(&(struct tg_table_config){.idle_s = 10});
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_true((t == NULL) == fired);
        tg_table_free(t);
        assert_int_equal(tg_mem_used(), before);
        if (!fired) break;
    }
    struct tg_table *t = table_new(0, 0, 10);
    uint64_t n_failures = 0;
    for (unsigned i = 0; i < 3000; i++) { /* across the growth of all arrays */
        for (uint64_t n = 1;; n++) {
            struct tg_series *s = NULL;
            struct tg_err err = {.msg = ""};
            const uint64_t n_series = tg_table_stats(t).n_series;
            tg_mem_fail_at(n);
            const enum tg_code code = intern(t, i, &s, &err);
            const bool fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
            n_failures += fired;
            if (fired) {
                assert_int_equal(tg_table_stats(t).n_series, n_series);
                assert_true(err.msg[0] != '\0');
                if (i < 50 || i % 500 == 0) assert_true(tg_table_validate(t));
                continue;
            }
            tg_mem_fail_at(1);
            tg_table_remember_raw(t, raw_key(i), s); /* fails where an array must grow */
            tg_mem_fail_at(0);
            tg_table_remember_raw(t, raw_key(i), s);
            assert_ptr_equal(tg_table_find_raw(t, raw_key(i)), s);
            break;
        }
    }
    assert_true(n_failures > 6000);
    assert_int_equal(tg_table_stats(t).n_raw_keys, 3000);
    assert_true(tg_table_validate(t));
    const uint32_t late_s = tg_clock_coarse_s() + 100;
    size_t n_left = 0;
    for (uint64_t n = 1; n < 200 && tg_table_stats(t).n_series > 0; n++) {
        tg_mem_fail_at(n);
        n_left += tg_table_sweep(t, late_s);
        tg_mem_fail_at(0);
        assert_true(tg_table_validate(t));
    }
    assert_int_equal(n_left, 3000);
    assert_int_equal(tg_table_stats(t).n_symbols, 0);
    tg_table_free(t);
    assert_int_equal(tg_mem_used(), before);
}

static bool count_three(struct tg_series *s, void *arg)
{
    assert_false(atomic_load(&s->dead));
    return ++*(unsigned *)arg < 3;
}

static bool count_all(struct tg_series *s, void *arg)
{
    (void)s;
    ++*(unsigned *)arg;
    return true;
}

static void test_each(void **state)
{
    struct tg_table *t = table_new(0, 0, 0);
    struct tg_series *s;
    unsigned n = 0;
    (void)state;
    tg_table_each(t, count_all, &n);
    assert_int_equal(n, 0);
    for (unsigned i = 0; i < 200; i++) assert_int_equal(intern(t, i, &s, NULL), TG_OK);
    tg_table_each(t, count_all, &n);
    assert_int_equal(n, 200);
    n = 0;
    tg_table_each(t, count_three, &n);
    assert_int_equal(n, 3);
    tg_table_free(t);
    tg_table_free(NULL);
}

/* Slots of the raw map take one key in their life, so tombstones add up; churn must not let the
 * arrays grow without end, nor probes run for ever. */
static void test_each_named(void **state)
{
    (void)state;
    struct tg_table *t = table_new(0, 0, 0);
    struct tg_series *s;
    unsigned n = 0;
    tg_table_each_named(t, "requests", 8, count_all, &n);
    assert_int_equal(n, 0);
    for (unsigned i = 0; i < 100; i++) assert_int_equal(intern(t, i, &s, NULL), TG_OK);
    /* A name that is known as another text only, and one that is another's beginning. */
    static const struct {
        const char *name;
        unsigned n;
    } cases[] = {{"requests", 100}, {"group", 0}, {"same", 0}, {"request", 0}, {"", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        n = 0;
        tg_table_each_named(t, cases[i].name, (uint32_t)strlen(cases[i].name), count_all, &n);
        assert_int_equal(n, cases[i].n);
    }
    n = 0;
    tg_table_each_named(t, "requests", 8, count_three, &n);
    assert_int_equal(n, 3);
    assert_true(tg_table_validate(t));
    tg_table_free(t);
}

static void test_held_parts(void **state)
{
    (void)state;
    struct tg_table *t = table_new(0, 0, 10);
    struct tg_series *s;
    struct tg_series **held[TG_TABLE_PARTS];
    size_t n[TG_TABLE_PARTS];
    size_t sum = 0;
    for (unsigned i = 0; i < 100; i++) assert_int_equal(intern(t, i, &s, NULL), TG_OK);
    for (unsigned i = 0; i < TG_TABLE_PARTS; i++) {
        assert_int_equal(tg_table_hold_part(t, i, &held[i], &n[i]), TG_OK);
        sum += n[i];
    }
    assert_int_equal(sum, 100);
    /* What is held stays, however idle it is. */
    const uint32_t later_s = tg_clock_coarse_s() + 100;
    for (int i = 0; i < 3; i++) (void)tg_table_sweep(t, later_s);
    assert_int_equal(tg_table_stats(t).n_held, 100);
    for (unsigned i = 0; i < TG_TABLE_PARTS; i++) {
        for (size_t k = 0; k < n[i]; k++) {
            assert_false(atomic_load(&held[i][k]->dead));
            tg_series_unref(held[i][k]);
        }
        tg_free(held[i]);
    }
    for (int i = 0; i < 3; i++) (void)tg_table_sweep(t, later_s);
    assert_int_equal(tg_table_stats(t).n_series, 0);
    assert_true(tg_table_validate(t));
    tg_table_free(t);
}

static void test_churn(void **state)
{
    struct tg_table *t = table_new(0, 0, 10);
    struct tg_series *s;
    uint64_t most = 0;
    (void)state;
    for (uint32_t round = 0; round < 200; round++) {
        const uint32_t now_s = tg_clock_coarse_s() + 1000 + round * 100;
        for (unsigned i = 0; i < 100; i++) {
            assert_int_equal(intern(t, round * 100 + i, &s, NULL), TG_OK);
            tg_series_touch(s, now_s);
            tg_table_remember_raw(t, raw_key(round * 100 + i), s);
        }
        (void)tg_table_sweep(t, now_s);
        if (round > 5 && most == 0) most = tg_mem_used();
        if (most) assert_true(tg_mem_used() < most + 32 * 1024);
    }
    assert_int_equal(tg_table_stats(t).n_series, 100);
    assert_true(tg_table_validate(t));
    tg_table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw_array_outlives_readers),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_no_tags_and_many),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_raw_bound),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_idle_series_that_are_held),
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_eviction_in_rounds),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_each_named),
        cmocka_unit_test(test_held_parts),
        cmocka_unit_test(test_churn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
