/* JSON of rows: read back by jansson, an independent reader. */
#include "core/admin/json.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"

static const char *text_of(struct tg_buf *b)
{
    assert_int_equal(tg_buf_append(b, "", 1), TG_OK);
    b->len--;
    return (const char *)b->data;
}

static void test_strings(void **state)
{
    (void)state;
    static const struct {
        const char *input;
        const char *want;
    } cases[] = {
        {"plain", "\"plain\""},
        {"", "\"\""},
        {"q\"b\\s", "\"q\\\"b\\\\s\""},
        {"\x01\n\x1f", "\"\\u0001\\u000a\\u001f\""},
        {"\x7f", "\"\x7f\""},
        {"k\xC3\xB6ln \xE2\x82\xAC \xF0\x9F\x98\x80",
         "\"k\xC3\xB6ln \xE2\x82\xAC \xF0\x9F\x98\x80\""},
        {"a\xFF"
         "b",
         "\"a\xEF\xBF\xBD"
         "b\""},
        {"\xC0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},                 /* overlong */
        {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""}, /* surrogate */
        {"cut\xE2\x82", "\"cut\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    struct tg_buf b;
    tg_buf_init(&b, 1 << 16);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tg_buf_reset(&b);
        assert_int_equal(tg_json_string(&b, cases[i].input, strlen(cases[i].input)), TG_OK);
        assert_string_equal(text_of(&b), cases[i].want);
    }
    tg_buf_deinit(&b);
}

static void test_numbers_and_times(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *want;
    } doubles[] = {{0.1, "0.1"},     {-0.0, "-0"},           {1e300, "1e300"},
                   {NAN, "\"NaN\""}, {INFINITY, "\"+Inf\""}, {-INFINITY, "\"-Inf\""},
                   {5, "5"}};
    static const struct {
        int64_t ns;
        const char *want;
    } times[] = {{0, "\"1970-01-01T00:00:00.000000000Z\""},
                 {-1, "\"1969-12-31T23:59:59.999999999Z\""},
                 {INT64_C(1767225600000000001), "\"2026-01-01T00:00:00.000000001Z\""},
                 {INT64_MIN, "\"1677-09-21T00:12:43.145224192Z\""},
                 {INT64_MAX, "\"2262-04-11T23:47:16.854775807Z\""}};
    struct tg_buf b;
    tg_buf_init(&b, 1 << 16);
    for (size_t i = 0; i < sizeof(doubles) / sizeof(doubles[0]); i++) {
        tg_buf_reset(&b);
        assert_int_equal(tg_json_double(&b, doubles[i].v), TG_OK);
        assert_string_equal(text_of(&b), doubles[i].want);
    }
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        tg_buf_reset(&b);
        assert_int_equal(tg_json_time(&b, times[i].ns), TG_OK);
        assert_string_equal(text_of(&b), times[i].want);
    }
    tg_buf_deinit(&b);
}

static const double bounds[] = {0.5, 1};
static const uint64_t buckets[] = {1, 2, 3};
static const struct tg_histogram histogram = {.count = 6,
                                              .sum = 4.5,
                                              .has_sum = true,
                                              .min = 0.25,
                                              .has_min = true,
                                              .n_bounds = 2,
                                              .n_buckets = 3,
                                              .bounds = bounds,
                                              .buckets = buckets};
static const struct tg_exp_histogram exp_histogram = {
    .count = 7, .scale = -2, .zero_count = 1, .pos_offset = -3, .n_pos = 3, .pos = buckets};
static const double floats[] = {0.5, NAN};
static const struct tg_float_histogram float_histogram = {.count = 2.5,
                                                          .sum = 1,
                                                          .scale = 3,
                                                          .zero_count = 0.25,
                                                          .pos_offset = -3,
                                                          .n_pos = 2,
                                                          .pos = floats};
static const struct tg_float_histogram custom_histogram = {.count = 2.5,
                                                           .sum = 1,
                                                           .scale = TG_SCALE_CUSTOM,
                                                           .n_pos = 2,
                                                           .n_bounds = 1,
                                                           .pos = floats,
                                                           .bounds = bounds};
static const struct tg_quantile quantiles[] = {{0.5, 1.5}, {0.99, NAN}};
static const struct tg_summary summary = {
    .count = 3, .sum = 9, .n_quantiles = 2, .quantiles = quantiles};
static const struct tg_string labels[] = {{"k", 1}, {"v", 1}};
static const struct tg_exemplar exemplar = {
    .ts_ns = 5, .value = 1.5, .n_labels = 1, .labels = labels};
static const struct tg_exemplars exemplars = {1, &exemplar};
static const struct tg_string string = {"hi \"there\"", 10};

static struct tg_tag tags[] = {{.key = "a\"b", .key_len = 3, .value = "v", .value_len = 1},
                               {.key = "host.name", .key_len = 9, .value = "h", .value_len = 1}};
static const struct tg_series_desc desc = {.name = "m.x",
                                           .name_len = 3,
                                           .unit = "By",
                                           .unit_len = 2,
                                           .kind = TG_KIND_GAUGE,
                                           .n_tags = 2,
                                           .tags = tags};

static const struct {
    struct tg_point point;
    const char *type, *value;
} rows[] = {
    {{.ts_ns = 1, .type = TG_VALUE_DOUBLE, .value.f64 = 0.5}, "double", "0.5"},
    {{.ts_ns = 1, .type = TG_VALUE_INT64, .value.i64 = INT64_MIN}, "int64", "-9223372036854775808"},
    {{.ts_ns = 1, .type = TG_VALUE_UINT64, .value.u64 = 7}, "uint64", "7"},
    {{.ts_ns = 1, .type = TG_VALUE_BOOL, .value.i64 = 1}, "bool", "true"},
    {{.ts_ns = 1, .type = TG_VALUE_NONE}, "none", "null"},
    {{.ts_ns = 1, .type = TG_VALUE_STRING, .value.string = &string},
     "string",
     "\"hi \\\"there\\\"\""},
    {{.ts_ns = 1, .type = TG_VALUE_HISTOGRAM, .value.histogram = &histogram},
     "histogram",
     "{\"count\":6,\"sum\":4.5,\"min\":0.25,\"bounds\":[0.5,1],\"buckets\":[1,2,3]}"},
    {{.ts_ns = 1, .type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &exp_histogram},
     "exponential_histogram",
     "{\"count\":7,\"scale\":-2,\"zero_count\":1,\"zero_threshold\":0,\"positive\":{\"offset\":-3,"
     "\"buckets\":[1,2,3]},\"negative\":{\"offset\":0,\"buckets\":[]}}"},
    {{.ts_ns = 1, .type = TG_VALUE_SUMMARY, .value.summary = &summary},
     "summary",
     "{\"count\":3,\"sum\":9,\"quantiles\":[{\"quantile\":0.5,\"value\":1.5},{\"quantile\":0.99,"
     "\"value\":\"NaN\"}]}"},
    {{.ts_ns = 1, .type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &float_histogram},
     "float_histogram",
     "{\"count\":2.5,\"sum\":1,\"scale\":3,\"zero_count\":0.25,\"zero_threshold\":0,\"positive\":{"
     "\"offset\":-3,\"buckets\":[0.5,\"NaN\"]},\"negative\":{\"offset\":0,\"buckets\":[]}}"},
    {{.ts_ns = 1,
      .type = TG_VALUE_FLOAT_HISTOGRAM,
      .flags = TG_POINT_RESET_GAUGE,
      .value.float_histogram = &custom_histogram},
     "float_histogram",
     "{\"count\":2.5,\"sum\":1,\"bounds\":[0.5],\"buckets\":[0.5,\"NaN\"]}"},
    {{.ts_ns = 1, .type = TG_VALUE_EXEMPLARS, .exemplars = &exemplars}, "exemplars", "null"},
    {{.ts_ns = 1, .type = TG_VALUE_INT64, .value.i64 = 2, .exemplars = &exemplars}, "int64", "2"},
    {{.ts_ns = 1,
      .type = TG_VALUE_HISTOGRAM,
      .flags = TG_POINT_NO_VALUE,
      .value.histogram = &histogram},
     "none",
     "null"},
};

static void test_rows(void **state)
{
    (void)state;
    struct tg_buf b;
    tg_buf_init(&b, 1 << 16);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        tg_buf_reset(&b);
        const struct tg_query_row row = {.series = &desc, .point = &rows[i].point};
        assert_int_equal(tg_json_row(&b, &row), TG_OK);
        json_t *o = json_loadb((const char *)b.data, b.len, 0, NULL);
        if (!o) fail_msg("not JSON: %s", text_of(&b));
        assert_string_equal(json_string_value(json_object_get(o, "type")), rows[i].type);
        json_t *want = json_loads(rows[i].value, JSON_DECODE_ANY, NULL);
        assert_non_null(want);
        if (!json_equal(want, json_object_get(o, "value")))
            fail_msg("%s, want value %s", text_of(&b), rows[i].value);
        assert_string_equal(json_string_value(json_object_get(json_object_get(o, "tags"), "a\"b")),
                            "v");
        json_decref(want);
        const char *hint = json_string_value(json_object_get(o, "reset_hint"));
        if (rows[i].point.flags & TG_POINT_RESET_MASK)
            assert_string_equal(hint, "gauge");
        else
            assert_null(hint);
        want = rows[i].point.exemplars
                   ? json_loads("[{\"time\":5,\"value\":1.5,\"labels\":{\"k\":\"v\"}}]", 0, NULL)
                   : NULL;
        assert_true(json_equal(want, json_object_get(o, "exemplars")) ||
                    (!want && !json_object_get(o, "exemplars")));
        json_decref(want);
        json_decref(o);
    }
    tg_buf_deinit(&b);
}

/* Whatever the room, the answer is refused and never overruns. */
static void test_limits(void **state)
{
    (void)state;
    const struct tg_query_row row = {.series = &desc, .point = &rows[7].point};
    for (size_t room = 1; room < 300; room++) {
        struct tg_buf b;
        tg_buf_init(&b, room);
        assert_int_equal(tg_json_row(&b, &row), TG_ERR_TOO_LARGE);
        assert_true(b.len <= room);
        tg_buf_deinit(&b);
    }
    for (uint64_t n = 1;; n++) {
        struct tg_buf b;
        tg_buf_init(&b, 0);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_json_row(&b, &row);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        tg_buf_deinit(&b);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        if (!fired) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_numbers_and_times),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
