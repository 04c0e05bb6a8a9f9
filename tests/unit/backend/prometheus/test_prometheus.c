/* The prometheus backend against a scripted server. */
#include "core/backend/prometheus/prometheus_query.h"
#include "core/protocol/remote_write_body.h"
#include "tests/unit/backend/fake_server.h"

static const struct tg_backend_ops *const ops = &tg_backend_prometheus;
static const char write_path[] = "/api/v1/write";

static void test_options(void **state)
{
    (void)state;
    static struct fake f;
    static const struct {
        const char *settings[4];
        enum tg_code code;
        const char *has;
    } cases[] = {
        {{"timeout=5s"}, TG_OK, NULL},
        {{"url=http://h:1/api/v1/push"}, TG_OK, NULL},
        {{"url=http://h:1/api/v1/push", "query_url=http://h:2/prometheus/"}, TG_OK, NULL},
        {{"token=t"}, TG_OK, NULL},
        {{"url=http://h:9090"}, TG_ERR_INVALID, "usually at http://h:9090/api/v1/write"},
        {{"url=http://h:9090/"}, TG_ERR_INVALID, "has no path"},
        {{"url=h:9090/api/v1/write"}, TG_ERR_INVALID, "is not like http://host:port"},
        {{"query_url=h:2"}, TG_ERR_INVALID, "query_url is not like"},
        {{"names=escaped", "translation_strategy=NoTranslation"}, TG_ERR_INVALID, "contradicts"},
        {{"names=escaped", "translation_strategy=UnderscoreEscapingWithoutSuffixes"}, TG_OK, NULL},
        {{"names=utf8", "translation_strategy=NoUTF8EscapingWithSuffixes"}, TG_OK, NULL},
        {{"token=t", "username=u"}, TG_ERR_INVALID, "either token, or username"},
        {{"tokn=t"}, TG_ERR_NOT_FOUND, "token"},
    };
    fake_start(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tg_err err = {0};
        const enum tg_code code = fake_open(&f, ops, write_path, cases[i].settings, &err);
        if (code != cases[i].code) fail_msg("%zu: %d %s", i, (int)code, err.msg);
        if (cases[i].has && !strstr(err.msg, cases[i].has)) fail_msg("%zu: %s", i, err.msg);
        if (code == TG_OK) ops->close(f.backend);
    }
    ops->close(NULL);
    fake_end(&f);
}

static void test_write(void **state)
{
    (void)state;
    static struct fake f;
    fake_start(&f);
    fake_must_open(&f, ops, write_path, (const char *[]){"token=secret", NULL});
    struct tg_buf prepared;
    fake_prepare(ops, "http.requests", 0, TG_KIND_COUNTER, &prepared);
    static const char *text = "text";
    const struct tg_string string = {text, 4};
    static const struct tg_string labels[] = {{"a.b", 3}, {"1", 1}, {"a.b", 3}, {"2", 1}};
    static const struct tg_exemplar twice = {.n_labels = 2, .labels = labels};
    static const struct tg_exemplars one = {1, &twice};
    const struct tg_point points[] = {
        {.ts_ns = 1700000000123456789,
         .value.f64 = 1.5,
         .type = TG_VALUE_DOUBLE,
         .exemplars = &one},
        {.ts_ns = 2000000, .value.string = &string, .type = TG_VALUE_STRING},
        {.ts_ns = 3000000, .value.i64 = 7, .type = TG_VALUE_INT64},
        {.ts_ns = 4000000, .value.f64 = NAN, .type = TG_VALUE_DOUBLE},
    };
    struct tg_delivery_point d[4];
    struct tg_buf want;
    tg_buf_init(&want, 0);
    /* One series, oldest first. */
    const struct tg_point *const sorted[] = {&points[2], &points[3], &points[0]};
    bool is_left_out[3];
    struct tg_remote_write_body body;
    tg_remote_write_body_init(&body, NULL);
    assert_int_equal(tg_remote_write_body_begin(&body, &want, SIZE_MAX, false), TG_OK);
    assert_int_equal(tg_remote_write_body_add(&body, prepared.data, (uint32_t)prepared.len, sorted,
                                              3, is_left_out),
                     TG_OK);
    tg_remote_write_body_deinit(&body);
    for (size_t i = 0; i < 4; i++)
        d[i] = (struct tg_delivery_point){&points[i], NULL, prepared.data, (uint32_t)prepared.len};
    for (uint8_t t = TG_TEMPORALITY_NONE; t <= TG_TEMPORALITY_CUMULATIVE; t++) {
        const struct tg_series series = {.kind = TG_KIND_COUNTER, .temporality = t};
        for (size_t i = 0; i < 4; i++) { /* of a series without prepared bytes it says the same */
            struct tg_point p = points[i];
            p.series = (struct tg_series *)(uintptr_t)&series;
            assert_int_equal(ops->has_form(f.backend, &p), i != 1 && t != TG_TEMPORALITY_DELTA);
        }
    }
    for (int i = 0; i < 2; i++) {
        fake_write(&f, ops, d, 4);
        assert_int_equal(f.write.outcome, TG_WRITE_OK);
        assert_int_equal(f.write.n_skipped, 0);
        assert_int_equal(f.write.n_inexpressible, 1);
        assert_int_equal(f.inexpressible[0], 1 << 1);
        assert_int_equal(f.write.left_out.n[TG_LEFT_OUT_EXEMPLAR_LABEL], 1);
        assert_string_equal(f.method, "POST");
        assert_string_equal(f.path, write_path);
        assert_string_equal(f.auth, "Bearer secret");
        assert_string_equal(f.encoding, "snappy");
        assert_string_equal(f.content_type, "application/x-protobuf");
        assert_string_equal(f.version, "0.1.0");
        assert_string_equal(f.agent, "tidegate/" TG_VERSION);
        assert_int_equal(f.body.len, want.len);
        assert_memory_equal(f.body.data, want.data, want.len);
        assert_non_null(memmem(f.body.data, f.body.len, "http_requests_total", 19));
    }
    const unsigned before = f.n_requests;
    fake_write(&f, ops, &d[1], 1); /* nothing to send */
    assert_int_equal(f.write.outcome, TG_WRITE_OK);
    assert_int_equal(f.write.n_inexpressible, 1);
    assert_int_equal(f.n_requests, before);
    ops->close(f.backend);
    tg_buf_deinit(&want);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

static void test_outcomes(void **state)
{
    (void)state;
    static struct fake f;
    static const struct fake_outcome cases[] = {
        {{204}, TG_WRITE_OK, -1},
        {{200}, TG_WRITE_OK, -1},
        {{202}, TG_WRITE_OK, -1},
        {{400, "out of order sample\n"}, TG_WRITE_REFUSED, -1, "HTTP 400: out of order sample"},
        {{500, "native histograms are disabled\n"},
         TG_WRITE_REFUSED,
         -1,
         "native histograms are disabled"},
        {{500, "too old sample\n"}, TG_WRITE_REFUSED, -1, "HTTP 500: too old sample"},
        {{500, "11.000000 observations found in buckets, but the Count field is 1.000000\n"},
         TG_WRITE_REFUSED,
         -1,
         "observations found"},
        {{500, "negative side: bucket number 1 has observation count of -1: histogram has a bucket "
               "whose observation count is negative\n"},
         TG_WRITE_REFUSED,
         -1,
         "negative side"},
        {{500, "histogram's observation count is negative\n"},
         TG_WRITE_REFUSED,
         -1,
         "observation count is negative"},
        {{500, "positive side: span number 2 with offset -1: histogram has a span whose offset is "
               "negative\n"},
         TG_WRITE_REFUSED,
         -1,
         "positive side"},
        {{500, "positive side: spans need 2 buckets, have 1 buckets: histogram spans specify "
               "different number of buckets than provided\n"},
         TG_WRITE_REFUSED,
         -1,
         "positive side"},
        {{500, "custom buckets: must have zero count of 0\n"}, TG_WRITE_REFUSED, -1, "custom"},
        {{500, "histogram custom bounds are too few\n"}, TG_WRITE_REFUSED, -1, "custom"},
        {{500, "histogram has an invalid schema, which must be between -4 and 8\n"},
         TG_WRITE_REFUSED,
         -1,
         "invalid schema"},
        /* words alone make no refusal of what may pass */
        {{500, "histogram: write log: no space left on device\n"}, TG_WRITE_RETRY, -1, "no space"},
        {{401}, TG_WRITE_RETRY, -1, "check the backend's token"},
        {{403}, TG_WRITE_RETRY, -1, "check the rights"},
        {{404, "404 page not found"}, TG_WRITE_RETRY, -1, "check the backend's url"},
        {{405}, TG_WRITE_RETRY, -1, "remote write receiver"},
        {{413}, TG_WRITE_TOO_LARGE, -1, "HTTP 413"},
        {{429, "", "7"}, TG_WRITE_RETRY, 7000, "HTTP 429"},
        {{500}, TG_WRITE_RETRY, -1, "HTTP 500"},
        {{503, "", "1"}, TG_WRITE_RETRY, 1000, "HTTP 503"},
        {{0}, TG_WRITE_RETRY, -1, "timed out"},
    };
    fake_start(&f);
    fake_must_open(&f, ops, write_path, (const char *[]){"timeout=250ms", NULL});
    struct tg_buf prepared;
    fake_prepare(ops, "m", 0, TG_KIND_GAUGE, &prepared);
    const struct tg_point p = {.ts_ns = 1, .value.f64 = 1, .type = TG_VALUE_DOUBLE};
    const struct tg_delivery_point d = {&p, NULL, prepared.data, (uint32_t)prepared.len};
    fake_check_outcomes(&f, ops, cases, sizeof(cases) / sizeof(cases[0]), &d);
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

static void test_too_large(void **state)
{
    (void)state;
    static struct fake f;
    fake_start(&f);
    fake_must_open(&f, ops, write_path, (const char *[]){"max_request_bytes=64KiB", NULL});
    struct tg_buf prepared;
    fake_prepare(ops, "m", 0, TG_KIND_GAUGE, &prepared);
    const struct tg_point p = {.ts_ns = 1, .value.f64 = 1, .type = TG_VALUE_DOUBLE};
    enum { N = 8000 };
    struct tg_delivery_point *d = tg_calloc(N, sizeof(*d));
    for (size_t i = 0; i < N; i++)
        d[i] = (struct tg_delivery_point){&p, NULL, prepared.data, (uint32_t)prepared.len};
    for (int i = 0; i < 2; i++) {
        fake_write(&f, ops, d, N);
        assert_int_equal(f.write.outcome, TG_WRITE_TOO_LARGE);
        fake_write(&f, ops, d, N / 8);
        assert_int_equal(f.write.outcome, TG_WRITE_OK);
    }
    tg_free(d);
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

static void test_health(void **state)
{
    (void)state;
    static struct fake f;
    static const struct {
        const char *path;
        struct fake_answer answer;
        enum tg_code code;
        const char *last_path;
    } cases[] = {
        {"/api/v1/write",
         {200, "Prometheus Server is Healthy.", NULL, "/-/healthy"},
         TG_OK,
         "/-/healthy"},
        {"/x/api/v1/write", {200, "OK", NULL, "/x/health"}, TG_OK, "/x/health"},
        {"/api/v1/write", {503, "starting"}, TG_ERR_UNAVAILABLE, "/-/healthy"},
        {"/api/v1/write", {200, "", NULL, "/other"}, TG_ERR_UNAVAILABLE, "/health"},
        /* an unknown receiver: anything but the write path */
        {"/api/v1/push", {405}, TG_OK, "/health"},
        {"/api/v1/push", {404}, TG_OK, "/health"},
        {"/tenant/push", {200, "OK", NULL, "/-/healthy"}, TG_OK, "/-/healthy"},
        {"/api/v1/push", {502}, TG_ERR_UNAVAILABLE, "/-/healthy"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_start(&f);
        fake_must_open(&f, ops, cases[i].path, NULL);
        f.answer = cases[i].answer;
        for (int k = 0; k < 2; k++) {
            fake_health(&f, ops);
            if (f.health_code != cases[i].code)
                fail_msg("%zu: %d %s", i, (int)f.health_code, f.health_message);
            assert_string_equal(f.path, cases[i].last_path);
            assert_string_equal(f.method, "GET");
        }
        ops->close(f.backend);
        fake_end(&f);
    }
}

static void test_query(void **state)
{
    (void)state;
    static struct fake f;
    fake_start(&f);
    fake_must_open(&f, ops, "/p/api/v1/write", (const char *[]){"names=escaped", NULL});
    f.answer = (struct fake_answer){
        200, "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":["
             "{\"metric\":{\"__name__\":\"http_duration_seconds_sum\",\"host\":\"a\",\"b\":\"c\"},"
             "\"values\":[[1699999999.999,\"9\"],[1700000000,\"1.5\"],[1700000000.123,\"+Inf\"],"
             "[1700000010,\"NaN\"],[1700000060,\"9\"]]},{\"metric\":{},\"values\":[[1,\"1\"]]}]}}"};
    struct tg_tag tag = {"my.host", "a\"b\\", 7, 4, TG_ORIGIN_POINT};
    struct tg_query q = {.name = "http.duration",
                         .tags = &tag,
                         .n_tags = 1,
                         .start_ns = 1700000000000000000,
                         .end_ns = 1700000060000000000};
    for (int i = 0; i < 2; i++) {
        fake_query_range(&f, ops, &q);
        assert_int_equal(f.end_code, TG_OK);
        assert_string_equal(f.path, "/p/api/v1/query");
        assert_string_equal(fake_query(&f, "time"), "1700000059.999");
        const char *text = fake_query(&f, "query");
        assert_memory_equal(text, "{__name__=~\"(http_duration)(_(seconds|", 38);
        assert_non_null(strstr(text, "(_bucket|_sum|_count)?\",my_host=\"a\\\"b\\\\\"}[60000ms]"));
        assert_string_equal(
            f.rows, "http_duration_seconds_sum{b=\"c\",host=\"a\"} 0 1.5 @1700000000000000000\n"
                    "http_duration_seconds_sum{b=\"c\",host=\"a\"} 0 inf @1700000000123000000\n"
                    "http_duration_seconds_sum{b=\"c\",host=\"a\"} 0 nan @1700000010000000000\n");
    }
    q.max_rows = 2;
    fake_query_range(&f, ops, &q);
    assert_int_equal(f.n_rows, 2);
    q = (struct tg_query){.start_ns = INT64_MIN, .end_ns = INT64_MAX};
    fake_query_range(&f, ops, &q);
    assert_int_equal(f.end_code, TG_OK);
    assert_memory_equal(fake_query(&f, "query"), "{__name__!=\"\"}[", 15);

    static const struct {
        struct fake_answer answer;
        enum tg_code code;
        const char *has;
    } failures[] = {
        {{400, "{\"status\":\"error\",\"error\":\"parse error\"}"}, TG_ERR_INVALID, "parse error"},
        {{422, "{\"error\":\"too many samples\"}"}, TG_ERR_INVALID, "too many samples"},
        {{200, "<html>"}, TG_ERR_MALFORMED, "not JSON"},
        {{200, "{\"data\":{\"result\":[1,{\"metric\":{\"__name__\":\"m\"},\"values\":[1,[2]]}]}}"},
         TG_OK,
         ""},
        {{503}, TG_ERR_UNAVAILABLE, "503"},
    };
    for (size_t i = 0; i < 2 * sizeof(failures) / sizeof(failures[0]); i++) {
        f.answer = failures[i / 2].answer;
        fake_query_range(&f, ops, &q);
        if (f.end_code != failures[i / 2].code || !strstr(f.end_message, failures[i / 2].has))
            fail_msg("%zu: %d %s", i / 2, (int)f.end_code, f.end_message);
        assert_int_equal(f.n_rows, 0);
    }
    /* a name of which nothing is left */
    q.name = "...";
    fake_query_range(&f, ops, &q);
    assert_int_equal(f.end_code, TG_ERR_INVALID);
    ops->close(f.backend);

    q.name = "m";
    fake_must_open(&f, ops, "/api/v1/push", NULL);
    fake_query_range(&f, ops, &q);
    assert_int_equal(f.end_code, TG_ERR_UNSUPPORTED);
    assert_non_null(strstr(f.end_message, "query_url"));
    ops->close(f.backend);
    char setting[100];
    (void)snprintf(setting, sizeof(setting), "query_url=%s/prometheus/", f.url);
    fake_must_open(&f, ops, "/api/v1/push", (const char *[]){setting, NULL});
    f.answer = (struct fake_answer){200, "{}"};
    fake_query_range(&f, ops, &q);
    assert_int_equal(f.end_code, TG_OK);
    assert_string_equal(f.path, "/prometheus/api/v1/query");
    ops->close(f.backend);
    fake_end(&f);
}

/* What is sent of one series under each setting. */
static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *settings[4];
        const char *sent, *otlp;
    } cases[] = {
        {{"metadata=false"}, "a.\xe6\xb8\xa9", "a_bytes_total"},
        {{"metadata=false", "names=escaped"}, "a__", "a_bytes_total"},
        {{"metadata=false", "translation_strategy=UnderscoreEscapingWithoutSuffixes"},
         "a.\xe6\xb8\xa9",
         "a"},
        {{"metadata=false", "translation_strategy=NoUTF8EscapingWithSuffixes"},
         "a.\xe6\xb8\xa9",
         "a.\xe6\xb8\xa9_bytes_total"},
        {{"metadata=false", "translation_strategy=NoTranslation"},
         "a.\xe6\xb8\xa9",
         "a.\xe6\xb8\xa9"},
    };
    static struct fake f;
    fake_start(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_must_open(&f, ops, write_path, cases[i].settings);
        for (int otlp = 0; otlp < 2; otlp++) {
            const struct tg_series_desc d = {.name = "a.\xe6\xb8\xa9",
                                             .name_len = 5,
                                             .unit = "By",
                                             .unit_len = 2,
                                             .kind = otlp ? TG_KIND_COUNTER : TG_KIND_UNKNOWN};
            const char *want = otlp ? cases[i].otlp : cases[i].sent;
            const struct tg_point p = {.ts_ns = 1, .value.f64 = 1, .type = TG_VALUE_DOUBLE};
            struct tg_buf b;
            struct tg_err err;
            tg_buf_init(&b, 0);
            assert_int_equal(ops->prepare(f.backend, &d, &b, &err), TG_OK);
            const struct tg_delivery_point dp = {&p, NULL, b.data, (uint32_t)b.len};
            fake_write(&f, ops, &dp, 1);
            assert_int_equal(f.write.outcome, TG_WRITE_OK);
            uint8_t label[64]; /* "__name__", length, name, and the sample's tag */
            const int n = snprintf((char *)label, sizeof(label), "__name__\x12%c%s\x12",
                                   (char)strlen(want), want);
            if (!memmem(f.body.data, f.body.len, label, (size_t)n))
                fail_msg("case %zu: no %s in the request", i, want);
            tg_buf_deinit(&b);
        }
        ops->close(f.backend);
    }
    fake_end(&f);
}

/* A process that starts again has another pid in its resource, and the same labels: the series goes
 * on. Another instance is another form. */
static void test_a_restart_makes_no_other_series(void **state)
{
    (void)state;
    static const char *const runs[][2] = {{"i1", "100"}, {"i1", "200"}, {"i2", "300"}};
    struct tg_form forms[3][TG_MAX_FORMS];
    struct tg_buf scratch;
    static struct fake f;
    fake_start(&f);
    fake_must_open(&f, ops, write_path, NULL);
    tg_buf_init(&scratch, 0);
    for (size_t i = 0; i < 3; i++) {
        struct tg_tag tags[] = {{"process.pid", runs[i][1], 11, 3, TG_ORIGIN_RESOURCE},
                                {"service.instance.id", runs[i][0], 19, 2, TG_ORIGIN_RESOURCE},
                                {"service.name", "shop", 12, 4, TG_ORIGIN_RESOURCE}};
        const struct tg_series_desc d = {.name = "m",
                                         .name_len = 1,
                                         .unit = "",
                                         .kind = TG_KIND_GAUGE,
                                         .n_tags = 3,
                                         .tags = tags};
        unsigned n = 0;
        assert_int_equal(ops->forms(f.backend, &d, &scratch, forms[i], &n), TG_OK);
        assert_int_equal(n, 1);
    }
    assert_true(forms[0][0].form == forms[1][0].form && forms[0][0].who == forms[1][0].who);
    assert_true(forms[0][0].form != forms[2][0].form);
    tg_buf_deinit(&scratch);
    ops->close(f.backend);
    fake_end(&f);
}

/* A name is looked for as it is and escaped; no server of today takes all label names in an
 * expression, so those that are not classic are looked at in the answer. */
static void test_query_of_kept_names(void **state)
{
    (void)state;
    static struct fake f;
    fake_start(&f);
    fake_must_open(&f, ops, "/api/v1/write", NULL);
    f.answer = (struct fake_answer){
        200, "{\"data\":{\"result\":["
             "{\"metric\":{\"__name__\":\"a.b\",\"my.host\":\"h\"},\"values\":[[1,\"1\"]]},"
             "{\"metric\":{\"__name__\":\"a_b\",\"my_host\":\"h\"},\"values\":[[1,\"2\"]]},"
             "{\"metric\":{\"__name__\":\"a_b\",\"my_host\":\"other\"},\"values\":[[1,\"3\"]]},"
             "{\"metric\":{\"__name__\":\"a_b\",\"host\":\"h\"},\"values\":[[1,\"4\"]]}]}}"};
    struct tg_tag tags[] = {{"my.host", "h", 7, 1, TG_ORIGIN_POINT},
                            {"zone", "z", 4, 1, TG_ORIGIN_POINT}};
    struct tg_query q = {.tags = tags, .n_tags = 2, .end_ns = INT64_MAX};
    static const char *const names[][2] = {
        {"a.b", "{__name__=~\"(a_b|a\\\\.b)(_(s"},
        {"a_b", "{__name__=~\"(a_b)(_(s"},
        {"a..b", "{__name__=~\"(a__b|a_b|a\\\\.\\\\.b)(_(s"},
        {"\xe6\xb8\xa9\\+\"\n", "{__name__=~\"(\xe6\xb8\xa9\\\\\\\\\\\\+\\\"\\n)(_(s"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        q.name = names[i][0];
        fake_query_range(&f, ops, &q);
        assert_int_equal(f.end_code, TG_OK);
        const char *text = fake_query(&f, "query");
        if (strncmp(text, names[i][1], strlen(names[i][1])) != 0)
            fail_msg("%s, want %s", text, names[i][1]);
        assert_non_null(strstr(text, "\",zone=\"z\"}["));
        assert_string_equal(f.rows, "a.b{my.host=\"h\"} 0 1 @1000000000\n"
                                    "a_b{my_host=\"h\"} 0 2 @1000000000\n");
    }
    ops->close(f.backend);
    fake_end(&f);
}

static void test_cancel(void **state)
{
    (void)state;
    fake_check_cancel(&tg_backend_prometheus, NULL, TG_KIND_GAUGE);
}

static void test_query_stop(void **state)
{
    (void)state;
    fake_check_query_stop(&tg_backend_prometheus, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_a_restart_makes_no_other_series),
        cmocka_unit_test(test_query_of_kept_names),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_query_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
