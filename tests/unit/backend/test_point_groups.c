/* The points of a delivery, series by series. */
#include "core/backend/point_groups.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "tests/support/rng.h"

static uint64_t rng_state = 3;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

enum { MAX = 3000, MAX_SERIES = 400 };

struct rig {
    uint8_t prepared[MAX_SERIES];
    struct tg_point points[MAX];
    struct tg_delivery_point of[MAX];
    struct tg_delivery d;
};

static void fill(struct rig *r, uint32_t n, uint32_t n_series, bool is_sorted)
{
    for (uint32_t i = 0; i < n; i++) {
        r->points[i] = (struct tg_point){.ts_ns = is_sorted ? i / 3 : (int64_t)(rng() % 50)};
        const uint32_t series = (uint32_t)(rng() % (n_series + 1));
        r->of[i] = (struct tg_delivery_point){
            .point = &r->points[i],
            .prepared = series == n_series ? NULL : &r->prepared[series],
            .prepared_len = 1,
        };
    }
    r->d = (struct tg_delivery){.points = r->of, .n_points = n};
}

/* Each point is in the group of its series, once, and in order. */
static void check(struct rig *r, struct tg_point_groups *g)
{
    static bool is_there[MAX];
    static bool is_known[MAX_SERIES];
    memset(is_there, 0, sizeof(is_there));
    memset(is_known, 0, sizeof(is_known));
    uint32_t n = 0;
    uint32_t last_first = 0;
    for (uint32_t i = 0; i < g->n_groups; i++) {
        const struct tg_point_group *group = &g->groups[i];
        assert_int_equal(group->prepared_len, 1);
        const size_t series = (size_t)(group->prepared - r->prepared);
        assert_false(is_known[series]);
        is_known[series] = true;
        assert_true(i == 0 || group->first > last_first); /* as they come up first */
        last_first = group->first;
        assert_int_equal(tg_point_groups_take(g, &r->d, i), TG_OK);
        for (uint32_t k = 0; k < group->n; k++, n++) {
            const uint32_t at = g->numbers[k];
            assert_false(is_there[at]);
            is_there[at] = true;
            assert_ptr_equal(r->of[at].prepared, group->prepared);
            assert_ptr_equal(g->points[k], &r->points[at]);
            if (k == 0) continue;
            const int64_t before_ns = g->points[k - 1]->ts_ns;
            assert_true(before_ns < g->points[k]->ts_ns ||
                        (before_ns == g->points[k]->ts_ns && g->numbers[k - 1] < at));
        }
    }
    for (uint32_t i = 0; i < r->d.n_points; i++) {
        assert_int_equal(is_there[i], r->of[i].prepared != NULL);
        n += !is_there[i];
    }
    assert_int_equal(n, r->d.n_points);
}

static void all_points_are_in_their_group(void **state)
{
    (void)state;
    static struct rig r;
    struct tg_point_groups g;
    tg_point_groups_init(&g);
    for (unsigned round = 0; round < 300; round++) {
        const uint32_t n = (uint32_t)(rng() % (round % 4 ? 40 : MAX));
        fill(&r, n, 1 + (uint32_t)(rng() % (round % 3 ? 5 : MAX_SERIES)), round % 2);
        for (int turn = 0; turn < 2; turn++) {
            assert_int_equal(tg_point_groups_make(&g, &r.d), TG_OK);
            check(&r, &g);
        }
    }
    tg_point_groups_deinit(&g);
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    static struct rig r;
    fill(&r, 500, 7, false);
    for (uint64_t n = 1;; n++) {
        struct tg_point_groups g;
        tg_point_groups_init(&g);
        tg_mem_fail_at(n);
        enum tg_code code = tg_point_groups_make(&g, &r.d);
        for (uint32_t i = 0; code == TG_OK && i < g.n_groups; i++)
            code = tg_point_groups_take(&g, &r.d, i);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        assert_int_equal(tg_point_groups_make(&g, &r.d), TG_OK);
        check(&r, &g);
        tg_point_groups_deinit(&g);
        if (!fired) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_points_are_in_their_group),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
