/* Counters and their text form; also the clock that tests set and the hash's combination. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/metric.h"

static uint64_t read_42(void *arg)
{
    return 42 + *(uint64_t *)arg;
}

static void expect_render(const char *want)
{
    struct tg_buf b;
    tg_buf_init(&b, 0);
    assert_int_equal(tg_metric_render(&b), TG_OK);
    assert_int_equal(b.len, strlen(want));
    if (b.len) assert_memory_equal(b.data, want, b.len);
    tg_buf_deinit(&b);
}

static void test_render(void **state)
{
    struct tg_metric a = {0};
    struct tg_metric b = {0};
    struct tg_metric c = {0};
    struct tg_metric d = {0};
    uint64_t extra = 1;
    (void)state;
    for (int round = 0; round < 2; round++) {
        expect_render("");
        tg_metric_register(&a, TG_METRIC_COUNTER, "points_total", "Points.", "backend=\"%s\"", "x");
        tg_metric_register(&b, TG_METRIC_GAUGE, "waiting", "Waiting.", NULL);
        tg_metric_register(&c, TG_METRIC_COUNTER, "points_total", "Points.", "backend=\"%s\"", "y");
        tg_metric_register_fn(&d, TG_METRIC_GAUGE, "bytes", "Bytes.", read_42, &extra, NULL);
        tg_metric_add(&a, 3);
        tg_metric_add(&a, 4);
        tg_metric_set(&b, UINT64_MAX);
        assert_int_equal(tg_metric_get(&a), 7);
        /* Of one name together, in the order in which the names came. */
        expect_render("# HELP points_total Points.\n# TYPE points_total counter\n"
                      "points_total{backend=\"x\"} 7\npoints_total{backend=\"y\"} 0\n"
                      "# HELP waiting Waiting.\n# TYPE waiting gauge\n"
                      "waiting 18446744073709551615\n"
                      "# HELP bytes Bytes.\n# TYPE bytes gauge\nbytes 43\n");
        tg_metric_unregister(&b); /* middle, then both ends */
        tg_metric_unregister(&a);
        expect_render("# HELP points_total Points.\n# TYPE points_total counter\n"
                      "points_total{backend=\"y\"} 0\n"
                      "# HELP bytes Bytes.\n# TYPE bytes gauge\nbytes 43\n");
        tg_metric_unregister(&d);
        tg_metric_unregister(&c);
        tg_metric_unregister(&c); /* twice, or never registered: accepted */
    }
}

/* What is measured in milliseconds is shown in seconds, the unit that Prometheus expects. */
static void test_seconds(void **state)
{
    struct tg_metric m = {0};
    uint64_t extra = 1965;
    (void)state;
    for (int round = 0; round < 2; round++) {
        tg_metric_register_seconds(&m, TG_METRIC_COUNTER, "cpu_seconds_total", "C.", read_42,
                                   &extra, NULL);
        expect_render("# HELP cpu_seconds_total C.\n# TYPE cpu_seconds_total counter\n"
                      "cpu_seconds_total 2.007\n");
        tg_metric_unregister(&m);
        tg_metric_register_seconds(&m, TG_METRIC_GAUGE, "lag_seconds", "L.", read_42, &extra,
                                   "backend=\"%s\"", "a");
        expect_render("# HELP lag_seconds L.\n# TYPE lag_seconds gauge\n"
                      "lag_seconds{backend=\"a\"} 2.007\n");
        tg_metric_unregister(&m);
        /* a name that is used again for something else */
        tg_metric_register_fn(&m, TG_METRIC_GAUGE, "n", "N.", read_42, &extra, NULL);
        expect_render("# HELP n N.\n# TYPE n gauge\nn 2007\n");
        tg_metric_unregister(&m);
    }
}

static void test_refused(void **state)
{
    struct tg_metric m = {0};
    struct tg_buf b;
    (void)state;
    tg_metric_register(&m, TG_METRIC_COUNTER, "n", "N.", NULL);
    tg_buf_init(&b, 10);
    assert_int_equal(tg_metric_render(&b), TG_ERR_TOO_LARGE);
    tg_buf_deinit(&b);
    tg_buf_init(&b, 0);
    tg_mem_fail_at(1);
    assert_int_equal(tg_metric_render(&b), TG_ERR_NOMEM);
    assert_int_equal(tg_metric_render(&b), TG_OK);
    tg_buf_deinit(&b);
    tg_metric_unregister(&m);
}

static void test_escape(void **state)
{
    char out[16];
    (void)state;
    assert_string_equal(tg_metric_escape(out, sizeof(out), "a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    assert_string_equal(tg_metric_escape(out, 8, "\"\"\"\"\"\"\"\""), "\\\"\\\"\\\"");
    assert_string_equal(tg_metric_escape(out, sizeof(out), ""), "");
}

enum { N_ADDS = 20000 };
static struct tg_metric counted;

static void *add_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < N_ADDS; i++) tg_metric_add(&counted, 1);
    for (int i = 0; i < 200; i++) { /* others come and go meanwhile */
        struct tg_metric own = {0};
        tg_metric_register(&own, TG_METRIC_GAUGE, "own", "Own.", NULL);
        struct tg_buf b;
        tg_buf_init(&b, 0);
        (void)!tg_metric_render(&b);
        tg_buf_deinit(&b);
        tg_metric_unregister(&own);
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[3];
    (void)state;
    tg_metric_register(&counted, TG_METRIC_COUNTER, "counted", "Counted.", NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, NULL), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(tg_metric_get(&counted), 3 * N_ADDS);
    tg_metric_unregister(&counted);
    expect_render("");
}

static void test_clock(void **state)
{
    (void)state;
    const uint64_t t0 = tg_clock_mono_ns();
    assert_true(tg_clock_mono_ns() >= t0);
    assert_true(tg_clock_wall_ns() > INT64_C(1600000000000000000));
    tg_clock_set_test(5, 7000000000);
    assert_int_equal(tg_clock_wall_ns(), 5);
    assert_int_equal(tg_clock_mono_ns(), 7000000000);
    assert_int_equal(tg_clock_mono_ms(), 7000);
    assert_int_equal(tg_clock_coarse_s(), 7);
    tg_clock_set_test(-1, 0);
    assert_true(tg_clock_mono_ns() >= t0);
}

static void test_hash(void **state)
{
    (void)state;
    tg_hash_seed(1);
    const struct tg_hash128 a = tg_hash128("a", 1);
    const struct tg_hash128 b = tg_hash128("b", 1);
    assert_true(tg_hash128_eq(a, tg_hash128("a", 1)));
    assert_false(tg_hash128_eq(a, b));
    assert_false(tg_hash128_eq(tg_hash128_combine(a, b), tg_hash128_combine(b, a)));
    assert_true(tg_hash128_eq(tg_hash128_combine(a, b), tg_hash128_combine(a, b)));
    tg_hash_seed(2);
    assert_false(tg_hash128_eq(a, tg_hash128("a", 1)));
    tg_hash_seed(0);
    const uint64_t drawn = tg_hash_seed_value;
    tg_hash_seed(0);
    assert_true(drawn != tg_hash_seed_value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render),  cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_escape),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_clock),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
