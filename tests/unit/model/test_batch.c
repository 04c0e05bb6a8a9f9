/* Batches: growth and bounds, deep copies that share nothing, bit-exact comparison, the guard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/deferred_free.h"
#include "core/base/mem.h"
#include "core/model/point.h"

enum { N_FULL = TG_VALUE_TYPES };

/* One point of each type with everything set. The storage is static but not const, so that a test
 * can change a single field behind a point's back. */
static double bounds[2] = {1.0, -0.0};
static uint64_t buckets[3] = {1, 2, UINT64_MAX};
static struct tg_histogram histogram = {.count = 6,
                                        .sum = 2.5,
                                        .min = -1,
                                        .max = 9,
                                        .has_sum = true,
                                        .has_min = true,
                                        .has_max = true,
                                        .n_bounds = 2,
                                        .n_buckets = 3,
                                        .bounds = bounds,
                                        .buckets = buckets};
static uint64_t positive[2] = {4, 5};
static uint64_t negative[1] = {6};
static struct tg_exp_histogram exp_histogram = {.count = 15,
                                                .zero_count = 1,
                                                .sum = 3,
                                                .zero_threshold = 1e-9,
                                                .has_sum = true,
                                                .scale = -3,
                                                .pos_offset = -5,
                                                .neg_offset = 8,
                                                .n_pos = 2,
                                                .n_neg = 1,
                                                .pos = positive,
                                                .neg = negative};
static double float_positive[2] = {0.5, 2.25};
static double float_negative[1] = {1e9};
static double float_bounds[1] = {-0.0};
static struct tg_float_histogram float_histogram = {.count = 2.75,
                                                    .zero_count = 0.5,
                                                    .sum = -3,
                                                    .zero_threshold = 1e-9,
                                                    .scale = TG_SCALE_CUSTOM,
                                                    .pos_offset = -5,
                                                    .neg_offset = 8,
                                                    .n_pos = 2,
                                                    .n_neg = 1,
                                                    .n_bounds = 1,
                                                    .pos = float_positive,
                                                    .neg = float_negative,
                                                    .bounds = float_bounds};
static struct tg_quantile quantiles[2] = {{0.5, 1}, {0.9, 2}};
static struct tg_summary summary = {.count = 3, .sum = 4, .n_quantiles = 2, .quantiles = quantiles};
static char chars[] = "text";
static struct tg_string string = {.ptr = chars, .len = 4};
static struct tg_string labels[2] = {{chars, 4}, {chars, 2}};
static struct tg_exemplar exemplar_items[2] = {
    {.ts_ns = 1,
     .value = 2,
     .has_trace = true,
     .trace_id = {1},
     .span_id = {2},
     .n_labels = 1,
     .labels = labels},
    {.ts_ns = 3, .value = 4, .is_int = true},
};
static struct tg_exemplars exemplars = {.n = 2, .items = exemplar_items};

static struct tg_point point_make(unsigned type)
{
    struct tg_point p = {.series = (struct tg_series *)&exemplars, /* only the address counts */
                         .ts_ns = 1700000000000000000,
                         .start_ns = -5,
                         .type = (uint8_t)type,
                         .exemplars = &exemplars};
    switch (type) {
    case TG_VALUE_DOUBLE: p.value.f64 = -0.0; break;
    case TG_VALUE_NONE: p.flags = TG_POINT_NO_VALUE; break;
    case TG_VALUE_HISTOGRAM: p.value.histogram = &histogram; break;
    case TG_VALUE_EXP_HISTOGRAM: p.value.exp_histogram = &exp_histogram; break;
    case TG_VALUE_FLOAT_HISTOGRAM: p.value.float_histogram = &float_histogram; break;
    case TG_VALUE_SUMMARY: p.value.summary = &summary; break;
    case TG_VALUE_STRING: p.value.string = &string; break;
    default: p.value.u64 = UINT64_MAX; break;
    }
    return p;
}

static void test_copy(void **state)
{
    struct tg_batch a;
    struct tg_batch b;
    (void)state;
    tg_batch_init(&a, NULL, 0, 0);
    tg_batch_init(&b, NULL, 0, 0);
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < N_FULL; i++) {
            const struct tg_point p = point_make(i);
            assert_int_equal(tg_batch_copy_point(&a, &p), TG_OK);
            assert_true(tg_point_equal(&a.points[i], &p));
            assert_ptr_equal(a.points[i].series, p.series);
        }
        /* A copy of the copy still holds when the first is gone: nothing is shared. */
        for (unsigned i = 0; i < N_FULL; i++)
            assert_int_equal(tg_batch_copy_point(&b, &a.points[i]), TG_OK);
        tg_batch_deinit(&a);
        for (unsigned i = 0; i < N_FULL; i++) {
            const struct tg_point p = point_make(i);
            assert_true(tg_point_equal(&b.points[i], &p));
        }
        tg_batch_init(&a, NULL, 0, 0);
        tg_batch_reset(&b);
        assert_int_equal(b.n_points, 0);
    }
    tg_batch_deinit(&a);
    tg_batch_deinit(&b);
}

/* Every field counts: one byte changed anywhere makes the points differ. */
static void test_equal_sees_all(void **state)
{
    const struct {
        const char *label;
        unsigned type;
        void *byte;
    } cases[] = {
        {"histogram count", TG_VALUE_HISTOGRAM, &histogram.count},
        {"histogram sum", TG_VALUE_HISTOGRAM, &histogram.sum},
        {"histogram min", TG_VALUE_HISTOGRAM, &histogram.min},
        {"histogram max", TG_VALUE_HISTOGRAM, &histogram.max},
        {"has sum", TG_VALUE_HISTOGRAM, &histogram.has_sum},
        {"has min", TG_VALUE_HISTOGRAM, &histogram.has_min},
        {"has max", TG_VALUE_HISTOGRAM, &histogram.has_max},
        {"bound -0", TG_VALUE_HISTOGRAM, (char *)&bounds[1] + 7},
        {"bucket", TG_VALUE_HISTOGRAM, &buckets[2]},
        {"exp count", TG_VALUE_EXP_HISTOGRAM, &exp_histogram.count},
        {"exp zero count", TG_VALUE_EXP_HISTOGRAM, &exp_histogram.zero_count},
        {"exp sum", TG_VALUE_EXP_HISTOGRAM, &exp_histogram.sum},
        {"exp threshold", TG_VALUE_EXP_HISTOGRAM, &exp_histogram.zero_threshold},
        {"exp scale", TG_VALUE_EXP_HISTOGRAM, &exp_histogram.scale},
        {"exp positive offset", TG_VALUE_EXP_HISTOGRAM, &exp_histogram.pos_offset},
        {"exp negative offset", TG_VALUE_EXP_HISTOGRAM, &exp_histogram.neg_offset},
        {"exp has min", TG_VALUE_EXP_HISTOGRAM, &exp_histogram.has_min},
        {"exp positive", TG_VALUE_EXP_HISTOGRAM, &positive[1]},
        {"exp negative", TG_VALUE_EXP_HISTOGRAM, &negative[0]},
        {"float count", TG_VALUE_FLOAT_HISTOGRAM, &float_histogram.count},
        {"float zero count", TG_VALUE_FLOAT_HISTOGRAM, &float_histogram.zero_count},
        {"float sum", TG_VALUE_FLOAT_HISTOGRAM, &float_histogram.sum},
        {"float threshold", TG_VALUE_FLOAT_HISTOGRAM, &float_histogram.zero_threshold},
        {"float scale", TG_VALUE_FLOAT_HISTOGRAM, &float_histogram.scale},
        {"float positive offset", TG_VALUE_FLOAT_HISTOGRAM, &float_histogram.pos_offset},
        {"float negative offset", TG_VALUE_FLOAT_HISTOGRAM, &float_histogram.neg_offset},
        {"float positive", TG_VALUE_FLOAT_HISTOGRAM, &float_positive[1]},
        {"float negative", TG_VALUE_FLOAT_HISTOGRAM, &float_negative[0]},
        {"float bound -0", TG_VALUE_FLOAT_HISTOGRAM, (char *)&float_bounds[0] + 7},
        {"summary count", TG_VALUE_SUMMARY, &summary.count},
        {"summary sum", TG_VALUE_SUMMARY, &summary.sum},
        {"quantile", TG_VALUE_SUMMARY, &quantiles[1].quantile},
        {"quantile's value", TG_VALUE_SUMMARY, &quantiles[0].value},
        {"string", TG_VALUE_STRING, &chars[3]},
        {"exemplar time", TG_VALUE_NONE, &exemplar_items[1].ts_ns},
        {"exemplar value", TG_VALUE_NONE, &exemplar_items[1].value},
        {"exemplar is int", TG_VALUE_NONE, &exemplar_items[1].is_int},
        {"exemplar trace", TG_VALUE_NONE, &exemplar_items[0].trace_id[15]},
        {"exemplar span", TG_VALUE_NONE, &exemplar_items[0].span_id[7]},
        {"exemplar has trace", TG_VALUE_NONE, &exemplar_items[0].has_trace},
        {"exemplar label", TG_VALUE_NONE, &chars[0]},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tg_batch b;
        tg_batch_init(&b, NULL, 0, 0);
        const struct tg_point p = point_make(cases[i].type);
        assert_int_equal(tg_batch_copy_point(&b, &p), TG_OK);
        unsigned char *byte = cases[i].byte;
        const bool was_flag = *byte <= 1; /* a bool must stay one */
        const unsigned char flip = was_flag ? 1 : 0x80;
        *byte ^= flip;
        if (tg_point_equal(&b.points[0], &p)) fail_msg("%s is not compared", cases[i].label);
        *byte ^= flip;
        assert_true(tg_point_equal(&b.points[0], &p));
        tg_batch_deinit(&b);
    }
    struct tg_point p = point_make(TG_VALUE_DOUBLE);
    struct tg_point q = p;
    q.value.f64 = 0.0; /* equal as numbers */
    assert_false(tg_point_equal(&p, &q));
    q = p;
    p.value.u64 = q.value.u64 = UINT64_C(0x7ff4000000000001); /* a NaN equals itself ... */
    assert_true(tg_point_equal(&p, &q));
    q.value.u64++; /* ... but not another one */
    assert_false(tg_point_equal(&p, &q));
    q = p;
    q.ts_ns++;
    assert_false(tg_point_equal(&p, &q));
    q = p;
    q.start_ns++;
    assert_false(tg_point_equal(&p, &q));
    q = p;
    q.flags ^= TG_POINT_NO_VALUE;
    assert_false(tg_point_equal(&p, &q));
    q = p;
    q.type = TG_VALUE_UINT64;
    assert_false(tg_point_equal(&p, &q));
    q = p;
    q.exemplars = NULL;
    assert_false(tg_point_equal(&p, &q));
    p.exemplars = NULL;
    assert_true(tg_point_equal(&p, &q));
    q.series = NULL; /* not compared */
    assert_true(tg_point_equal(&p, &q));
}

static void test_bounds(void **state)
{
    struct tg_batch b;
    const struct tg_point p = point_make(TG_VALUE_INT64);
    (void)state;
    tg_batch_init(&b, NULL, 100, 0);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 100; i++) assert_int_equal(tg_batch_copy_point(&b, &p), TG_OK);
        assert_int_equal(tg_batch_copy_point(&b, &p), TG_ERR_TOO_LARGE);
        assert_int_equal(tg_batch_reserve(&b, UINT32_MAX), TG_ERR_TOO_LARGE);
        assert_int_equal(b.n_points, 100);
        tg_batch_reset(&b);
    }
    tg_batch_deinit(&b);
    /* The arena's bound refuses a copy, not the batch. */
    tg_batch_init(&b, NULL, 0, 256);
    const struct tg_point h = point_make(TG_VALUE_HISTOGRAM);
    for (int round = 0; round < 2; round++) {
        const uint32_t n = b.n_points;
        assert_int_equal(tg_batch_copy_point(&b, &h), TG_ERR_TOO_LARGE);
        assert_int_equal(b.n_points, n);
    }
    tg_batch_deinit(&b);
}

static void test_no_memory(void **state)
{
    const uint64_t before = tg_mem_used();
    (void)state;
    for (unsigned type = 0; type < N_FULL; type++) {
        const struct tg_point p = point_make(type);
        for (uint64_t n = 1;; n++) {
            struct tg_batch b;
            tg_batch_init(&b, NULL, 0, 0);
            tg_mem_fail_at(n);
            enum tg_code code = tg_batch_copy_point(&b, &p);
            const bool fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
            assert_int_equal(b.n_points, fired ? 0 : 1);
            if (fired) assert_int_equal(tg_batch_copy_point(&b, &p), TG_OK);
            assert_true(tg_point_equal(&b.points[0], &p));
            tg_batch_deinit(&b);
            assert_int_equal(tg_mem_used(), before);
            if (!fired) break;
        }
    }
}

static unsigned n_freed;
static void count_free(void *p)
{
    (void)p;
    n_freed++;
}

static void test_holds_guard(void **state)
{
    struct tg_deferred_free *g = tg_deferred_free_new();
    struct tg_batch b;
    (void)state;
    assert_non_null(g);
    n_freed = 0;
    tg_batch_init(&b, g, 0, 0);
    tg_deferred_free_retire(g, NULL, count_free);
    for (int i = 0; i < 4; i++) (void)tg_deferred_free_poll(g);
    assert_int_equal(n_freed, 0);
    tg_batch_reset(&b); /* lets go of what it could see before */
    for (int i = 0; i < 4; i++) (void)tg_deferred_free_poll(g);
    assert_int_equal(n_freed, 1);
    tg_deferred_free_retire(g, NULL, count_free);
    for (int i = 0; i < 4; i++) (void)tg_deferred_free_poll(g);
    assert_int_equal(n_freed, 1);
    tg_batch_deinit(&b);
    for (int i = 0; i < 4; i++) (void)tg_deferred_free_poll(g);
    assert_int_equal(n_freed, 2);
    tg_deferred_free_free(g);
}

static void test_as_double(void **state)
{
    (void)state;
    struct tg_point p = {.type = TG_VALUE_INT64, .value.i64 = -3};
    double v = 0;
    assert_true(tg_point_as_double(&p, &v) && v == -3);
    p = (struct tg_point){.type = TG_VALUE_UINT64, .value.u64 = UINT64_MAX};
    assert_true(tg_point_as_double(&p, &v) && v == 18446744073709551616.0);
    p.type = TG_VALUE_STRING;
    assert_false(tg_point_as_double(&p, &v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),        cmocka_unit_test(test_equal_sees_all),
        cmocka_unit_test(test_bounds),      cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_holds_guard), cmocka_unit_test(test_as_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
