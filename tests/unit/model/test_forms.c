/* Which series has a form: first and later ones, leaving, generations, copies of plans, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/model/forms.h"
#include "core/model/merge_census.h"

/* Short texts as `who`: the registry looks at the upper bits. */
static uint64_t who(unsigned n)
{
    return (uint64_t)n << 44;
}

static struct tg_claim claim(struct tg_forms *f, uint64_t key, unsigned w, uint64_t generation,
                             const struct tg_series *s)
{
    struct tg_claim c;
    assert_int_equal(tg_forms_claim(f, key, who(w), 3, generation, s, &c), TG_OK);
    return c;
}

static void check_claims(struct tg_forms *f, uint64_t want)
{
    uint64_t n;
    assert_true(tg_forms_validate(f, &n));
    assert_int_equal(n, want);
}

static void note_series(const struct tg_series *first, void *arg)
{
    *(const struct tg_series **)arg = first;
}

static void the_first_has_the_form_until_it_leaves(void **state)
{
    (void)state;
    struct tg_forms *f = tg_forms_new();
    const struct tg_series a = {.n_tags = 0};
    const struct tg_series b = a;
    const struct tg_series c = a;
    for (int run = 0; run < 2; run++) {
        const uint64_t key = tg_forms_key(3, 1, 77);
        const struct tg_claim ca = claim(f, key, 1, 1, &a);
        const struct tg_claim again = claim(f, key, 1, 1, &a);
        const struct tg_claim cb = claim(f, key, 2, 1, &b);
        assert_false(ca.is_other);
        assert_false(again.is_other);
        assert_true(cb.is_other);
        assert_int_equal(tg_forms_n_others(f, 3, 1), 1);
        assert_int_equal(tg_forms_n_others(f, 2, 1), 0);
        assert_int_equal(tg_forms_count(f, key), 3);
        check_claims(f, 3);
        const struct tg_series *first = NULL;
        assert_true(tg_forms_is_taken(f, key, who(2), note_series, &first));
        assert_ptr_equal(first, &a);
        assert_false(tg_forms_is_taken(f, key, who(1), NULL, NULL));
        assert_false(tg_forms_is_free(f, &cb));
        tg_forms_release(f, &again, 1, 1, &a);
        assert_false(tg_forms_is_free(f, &cb));
        tg_forms_release(f, &ca, 1, 1, &a);
        assert_true(tg_forms_is_free(f, &cb)); /* b has its turn */
        assert_false(tg_forms_is_taken(f, key, who(3), NULL, NULL));
        const struct tg_claim mine = claim(f, key, 2, 1, &b);
        assert_false(mine.is_other);
        tg_forms_release(f, &cb, 1, 1, &b);
        assert_int_equal(tg_forms_n_others(f, 3, 1), 0);
        const struct tg_claim cc = claim(f, key, 3, 1, &c);
        assert_true(cc.is_other);
        assert_true(tg_forms_is_taken(f, key, who(3), note_series, &first));
        assert_ptr_equal(first, &b);
        tg_forms_release(f, &cc, 1, 1, &c);
        tg_forms_release(f, &mine, 1, 1, &b);
        check_claims(f, 0);
        assert_int_equal(tg_forms_count(f, key), 0);
    }
    tg_forms_free(f);
}

/* One that has left is not named, although others of its kind still hold the form. */
static void a_series_that_left_is_not_named(void **state)
{
    (void)state;
    struct tg_forms *f = tg_forms_new();
    const struct tg_series a = {.n_tags = 0};
    const struct tg_series b = a;
    const uint64_t key = tg_forms_key(3, 1, 5);
    const struct tg_claim ca = claim(f, key, 1, 1, &a);
    const struct tg_claim cb = claim(f, key, 1, 1, &b); /* the same to its sender: another unit */
    const struct tg_series *first = NULL;
    tg_forms_release(f, &ca, 1, 1, &a);
    assert_true(tg_forms_is_taken(f, key, who(9), note_series, &first));
    assert_null(first);
    tg_forms_release(f, &cb, 1, 1, &b);
    check_claims(f, 0);
    tg_forms_free(f);
}

static void generations_do_not_meet(void **state)
{
    (void)state;
    struct tg_forms *f = tg_forms_new();
    const struct tg_series a = {.n_tags = 0};
    const struct tg_series b = a;
    const uint64_t old = tg_forms_key(3, 1, 5);
    const uint64_t new = tg_forms_key(3, 2, 5);
    assert_int_not_equal(old, new);
    assert_int_not_equal(old, tg_forms_key(4, 1, 5));
    const struct tg_claim a1 = claim(f, old, 1, 1, &a);
    const struct tg_claim b1 = claim(f, old, 2, 1, &b);
    assert_int_equal(tg_forms_n_others(f, 3, 1), 1);
    const struct tg_claim b2 = claim(f, new, 2, 2, &b); /* decided anew before a is */
    assert_false(b2.is_other);
    const struct tg_claim a2 = claim(f, new, 1, 2, &a);
    assert_true(a2.is_other);
    assert_int_equal(tg_forms_n_others(f, 3, 2), 1); /* of the newer */
    assert_int_equal(tg_forms_n_others(f, 3, 1), 0);
    assert_int_equal(tg_forms_n_others(f, 3, 3), 0); /* none is decided yet */
    tg_forms_release(f, &b1, 1, 1, &b);
    tg_forms_release(f, &a1, 1, 1, &a);
    assert_int_equal(tg_forms_n_others(f, 3, 2), 1);
    tg_forms_release(f, &a2, 1, 2, &a);
    assert_int_equal(tg_forms_n_others(f, 3, 2), 0);
    tg_forms_release(f, &b2, 1, 2, &b);
    check_claims(f, 0);
    tg_forms_free(f);
}

/* Thousands of series that are one to their sender: while one of them lives, no other is taken for
 * the first. */
static void many_of_one_kind_are_all_counted(void **state)
{
    (void)state;
    enum { N = 5000 };
    struct tg_forms *f = tg_forms_new();
    const struct tg_series a = {.n_tags = 0};
    static struct tg_claim claims[N];
    const uint64_t key = tg_forms_key(3, 1, 5);
    for (unsigned i = 0; i < N; i++) {
        claims[i] = claim(f, key, 1, 1, &a);
        assert_false(claims[i].is_other);
    }
    tg_forms_release(f, claims, N - 1, 1, &a);
    const struct tg_claim other = claim(f, key, 2, 1, &a);
    assert_true(other.is_other);
    assert_false(tg_forms_is_free(f, &other));
    assert_int_equal(tg_forms_count(f, key), 2);
    tg_forms_release(f, &claims[N - 1], 1, 1, &a);
    assert_true(tg_forms_is_free(f, &other));
    tg_forms_release(f, &other, 1, 1, &a);
    check_claims(f, 0);
    tg_forms_free(f);
}

/* More than can be counted: the form stays theirs, whoever leaves. */
static void a_full_count_stays(void **state)
{
    (void)state;
    enum { N = TG_FORMS_MAX_COUNT + 10 };
    struct tg_forms *f = tg_forms_new();
    const struct tg_series a = {.n_tags = 0};
    const uint64_t key = tg_forms_key(3, 1, 5);
    struct tg_claim first;
    struct tg_claim other;
    tg_log_set_level(TG_LOG_ERROR);
    for (unsigned i = 0; i < N; i++) first = claim(f, key, 1, 1, &a);
    for (unsigned i = 0; i < N; i++) other = claim(f, key, 2, 1, &a);
    assert_true(first.is_held && other.is_held);
    assert_int_equal(tg_forms_n_others(f, 3, 1), N);
    for (unsigned i = 0; i < N; i++) tg_forms_release(f, &first, 1, 1, &a);
    for (unsigned i = 0; i < N; i++) tg_forms_release(f, &other, 1, 1, &a);
    assert_false(tg_forms_is_free(f, &other));
    assert_true(claim(f, key, 3, 1, &a).is_other);
    assert_int_equal(tg_forms_n_others(f, 3, 1), 1);
    check_claims(f, 2 * (uint64_t)TG_FORMS_MAX_COUNT);
    tg_log_set_level(TG_LOG_INFO);
    tg_forms_free(f);
}

static void it_grows_and_gives_back(void **state)
{
    (void)state;
    enum { N = 20000 };
    static struct tg_claim claims[N];
    struct tg_forms *f = tg_forms_new();
    const struct tg_series a = {.n_tags = 0};
    const uint64_t before = tg_mem_used();
    for (unsigned i = 0; i < N; i++) claims[i] = claim(f, tg_forms_key(1, 1, i), 1, 1, &a);
    check_claims(f, N);
    const uint64_t full = tg_mem_used() - before;
    assert_true(full < N * 60); /* 24 bytes an entry, a quarter to a half free */
    for (unsigned i = 0; i < N; i++) {
        tg_forms_release(f, &claims[(i * 7919) % N], 1, 1, &a);
        if (i % 1000 == 0) check_claims(f, N - i - 1);
    }
    check_claims(f, 0);
    assert_true(tg_mem_used() - before < full / 8);
    tg_forms_free(f);
}

static void without_memory_nothing_is_claimed(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        tg_mem_fail_at(n);
        struct tg_forms *f = tg_forms_new();
        const struct tg_series a = {.n_tags = 0};
        unsigned held = 0;
        for (unsigned i = 0; f && i < 3000; i++) {
            struct tg_claim c;
            const enum tg_code code =
                tg_forms_claim(f, tg_forms_key(1, 1, i), who(1), 1, 1, &a, &c);
            if (code == TG_OK)
                held++;
            else
                assert_int_equal(code, TG_ERR_NOMEM);
        }
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (f) {
            check_claims(f, held);
            assert_int_equal(held, fired ? 2999 : 3000);
        }
        tg_forms_free(f);
        if (!fired) break;
    }
}

/* A plan that is kept for another generation claims again what the one before has. */
static void a_kept_plan_keeps_its_claims(void **state)
{
    (void)state;
    struct tg_forms *f = tg_forms_new();
    struct tg_buf scratch;
    const struct tg_series a = {.n_tags = 0};
    const struct tg_series b = a;
    tg_buf_init(&scratch, 0);
    const uint64_t key = tg_forms_key(3, 1, 5);
    const struct tg_claim ca = claim(f, key, 1, 1, &a);
    const struct tg_claim cb[2] = {claim(f, key, 2, 1, &b),
                                   claim(f, tg_forms_key(3, 1, 6), 2, 1, &b)};
    const struct tg_decision d = {.generation = 1, .targets = 1, .claims = cb, .n_claims = 2};
    struct tg_plan *old = tg_plan_new(&d, NULL, 0, &scratch);
    assert_non_null(old);
    assert_int_equal(old->n_claims, 2);
    assert_memory_equal(tg_plan_claims(old), cb, sizeof(cb));
    struct tg_plan *kept = tg_plan_keep(old, 2);
    assert_non_null(kept);
    tg_forms_retain(f, kept, &b);
    check_claims(f, 5);
    tg_forms_release_plan(f, old, &b);
    check_claims(f, 3);
    assert_int_equal(tg_forms_n_others(f, 3, 2), 1); /* of the newer generation */
    /* what has gone in between is not claimed, and not released */
    struct tg_plan *again = tg_plan_keep(kept, 3);
    tg_forms_release_plan(f, kept, &b);
    tg_forms_release(f, &ca, 1, 1, &a);
    check_claims(f, 0);
    tg_forms_retain(f, again, &b);
    check_claims(f, 0);
    tg_forms_release_plan(f, again, &b);
    check_claims(f, 0);
    tg_free(old);
    tg_free(kept);
    tg_free(again);
    tg_buf_deinit(&scratch);
    tg_forms_free(f);
}

/* --- the census --- */

static struct tg_series_desc desc_of(const char *name, struct tg_tag *tags, uint32_t n_tags)
{
    return (struct tg_series_desc){.name = name,
                                   .name_len = (uint32_t)strlen(name),
                                   .unit = "",
                                   .n_tags = n_tags,
                                   .tags = tags};
}

static void a_census_counts_what_would_be_one(void **state)
{
    (void)state;
    static char pods[8][2] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    struct tg_merge_census c;
    struct tg_buf out;
    tg_merge_census_init(&c);
    tg_buf_init(&out, 0);
    for (int i = 0; i < 8; i++) {
        struct tg_tag tags[] = {{"app", "x", 3, 1, 0}, {"pod", pods[i], 3, 1, 0}};
        struct tg_series_desc got = desc_of("requests", tags, 2);
        struct tg_series_desc mapped = got;
        if (i < 5) mapped.n_tags = 1; /* five lose their pod, three keep it */
        assert_int_equal(tg_merge_census_add(&c, &got, &mapped, 0), TG_OK);
        got.kind = mapped.kind = TG_KIND_GAUGE; /* the same to its sender */
        if (i > 5) assert_int_equal(tg_merge_census_add(&c, &got, &mapped, 0), TG_OK);
    }
    const struct tg_series_desc a = desc_of("a", NULL, 0);
    const struct tg_series_desc b = desc_of("b", NULL, 0);
    assert_int_equal(tg_merge_census_add(&c, &a, &b, 0), TG_OK);
    assert_int_equal(tg_merge_census_add(&c, &b, &b, 0), TG_OK);
    tg_merge_census_end(&c);
    assert_int_equal(c.n_forms, 2);
    assert_int_equal(c.n_series, 7);
    assert_int_equal(tg_merge_census_print(&c, &out), TG_OK);
    assert_int_equal(tg_buf_append(&out, "", 1), TG_OK);
    assert_string_equal((const char *)out.data,
                        "5 series become one: requests{app=\"x\"} (one of them "
                        "requests{app=\"x\",pod=\"1\"})\n2 series become one: b (one of them b)");
    tg_buf_deinit(&out);
    tg_merge_census_deinit(&c);
    for (uint64_t n = 1;; n++) { /* memory */
        bool refused = false;
        tg_merge_census_init(&c);
        tg_mem_fail_at(n);
        for (int i = 0; i < 200; i++) {
            char name[8] = "m";
            name[1] = (char)('0' + i % 64);
            name[2] = (char)('0' + i / 64);
            const struct tg_series_desc d = desc_of(name, NULL, 0);
            refused |= tg_merge_census_add(&c, &d, &d, 0) == TG_ERR_NOMEM;
        }
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(refused, fired);
        tg_merge_census_deinit(&c);
        if (!fired) break;
    }
}

/* Forms that series have by the rules in force, too, are not new; a new one is among the examples
 * however many others there are. */
static void a_census_tells_new_from_old(void **state)
{
    (void)state;
    static const struct {
        uint64_t now[4]; /* of series that get one form; 1 = none more */
        bool is_new;
    } cases[] = {{{7, 7, 7, 1}, false}, {{7, 7, 8, 1}, true},  {{0, 0, 1}, true},
                 {{0, 7, 1}, true},     {{7, 0, 1}, true},     {{7, 7, 7, 0}, true},
                 {{9, 9, 1}, false},    {{5, 5, 5, 5}, false}, {{4, 4, 1}, false},
                 {{3, 3, 1}, false},    {{2, 2, 1}, false},    {{2, 3, 1}, true}};
    enum { N = sizeof(cases) / sizeof(cases[0]) };
    struct tg_merge_census c;
    tg_merge_census_init(&c);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 4 && cases[i].now[k] != 1; k++) {
            char got[32], mapped[32];
            (void)snprintf(got, sizeof(got), "s%d.%d", i, k);
            (void)snprintf(mapped, sizeof(mapped), "form%d", i);
            const struct tg_series_desc g = desc_of(got, NULL, 0), m = desc_of(mapped, NULL, 0);
            assert_int_equal(tg_merge_census_add(&c, &g, &m, cases[i].now[k]), TG_OK);
        }
        /* one that is the same as received, of another kind, changes nothing */
        char got[32], mapped[32];
        (void)snprintf(got, sizeof(got), "s%d.0", i);
        (void)snprintf(mapped, sizeof(mapped), "form%d", i);
        const struct tg_series_desc g = desc_of(got, NULL, 0), m = desc_of(mapped, NULL, 0);
        const uint64_t now = cases[i].now[0];
        assert_int_equal(tg_merge_census_add(&c, &g, &m, now), TG_OK);
    }
    tg_merge_census_end(&c);
    assert_int_equal(c.n_forms, N);
    assert_int_equal(c.n_new, 6);
    assert_int_equal(c.n_examples, TG_MERGE_CENSUS_EXAMPLES);
    for (unsigned i = 0; i < c.n_examples; i++) {
        const int k = atoi(c.examples[i].mapped + 4);
        assert_true(c.examples[i].is_new);
        assert_true(cases[k].is_new);
    }
    tg_merge_census_deinit(&c);
}

/* What is new is told first, however few series that are. */
static void a_census_tells_what_is_new_first(void **state)
{
    (void)state;
    static const struct {
        const char *got, *mapped;
        uint64_t now;
    } rows[] = {{"a1", "old", 7}, {"a2", "old", 7},  {"a3", "old", 7},  {"b1", "new", 0},
                {"b2", "new", 0}, {"c1", "more", 0}, {"c2", "more", 0}, {"c3", "more", 0}};
    struct tg_merge_census c;
    tg_merge_census_init(&c);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct tg_series_desc g = desc_of(rows[i].got, NULL, 0);
        const struct tg_series_desc m = desc_of(rows[i].mapped, NULL, 0);
        assert_int_equal(tg_merge_census_add(&c, &g, &m, rows[i].now), TG_OK);
    }
    tg_merge_census_end(&c);
    assert_int_equal(c.n_examples, 3);
    assert_string_equal(c.examples[0].mapped, "more");
    assert_string_equal(c.examples[1].mapped, "new");
    assert_string_equal(c.examples[2].mapped, "old");
    tg_merge_census_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_has_the_form_until_it_leaves),
        cmocka_unit_test(a_series_that_left_is_not_named),
        cmocka_unit_test(generations_do_not_meet),
        cmocka_unit_test(many_of_one_kind_are_all_counted),
        cmocka_unit_test(a_full_count_stays),
        cmocka_unit_test(it_grows_and_gives_back),
        cmocka_unit_test(without_memory_nothing_is_claimed),
        cmocka_unit_test(a_kept_plan_keeps_its_claims),
        cmocka_unit_test(a_census_counts_what_would_be_one),
        cmocka_unit_test(a_census_tells_new_from_old),
        cmocka_unit_test(a_census_tells_what_is_new_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
