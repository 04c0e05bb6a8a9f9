/* The influxdb backend against a scripted server. */
#include "core/backend/influxdb/influxdb_query.h"
#include "tests/unit/backend/fake_server.h"

static const struct tg_backend_ops *const ops = &tg_backend_influxdb;

static void test_options(void **state)
{
    (void)state;
    static struct fake f;
    static const struct {
        const char *settings[5];
        enum tg_code code;
        const char *has;
    } cases[] = {
        {{"bucket=b", "org=o"}, TG_OK, NULL},
        {{"database=d"}, TG_OK, NULL},
        {{"database=d", "retention_policy=r", "username=u", "password=p"}, TG_OK, NULL},
        {{NULL}, TG_ERR_INVALID, "set either bucket and org"},
        {{"bucket=b", "org=o", "database=d"}, TG_ERR_INVALID, "not both"},
        {{"bucket=b"}, TG_ERR_INVALID, "bucket needs org"},
        {{"database=d", "org=o"}, TG_ERR_INVALID, "org goes with bucket"},
        {{"bucket=b", "org=o", "retention_policy=r"}, TG_ERR_INVALID, "retention_policy goes with"},
        {{"database=d", "token=t", "username=u"}, TG_ERR_INVALID, "either token, or username"},
        {{"database=d", "password=p"}, TG_ERR_INVALID, "password without username"},
        {{"database=d", "username=a:b"}, TG_ERR_INVALID, "colon"},
        {{"database=d", "token=t\n"}, TG_ERR_INVALID, "line break"},
        {{"database=d", "url=127.0.0.1:8086"}, TG_ERR_INVALID, "is not like http://host:port"},
        {{"database=d", "url=http://"}, TG_ERR_INVALID, "is not like http://host:port"},
        {{"database=d", "url=ftp://h"}, TG_ERR_INVALID, "is not like http://host:port"},
        {{"database=d", "gzip=maybe"}, TG_ERR_INVALID, NULL},
        {{"database=d", "max_request_bytes=1"}, TG_ERR_INVALID, NULL},
    };
    fake_start(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tg_err err = {0};
        const enum tg_code code = fake_open(&f, ops, "", cases[i].settings, &err);
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
    struct tg_buf plain;
    struct tg_buf field;
    fake_prepare(ops, "http.duration", 0, TG_KIND_GAUGE, &plain);
    fake_prepare(ops, "cpu_usage_idle", 10, TG_KIND_UNKNOWN, &field);
    const struct tg_point points[] = {
        {.ts_ns = 1700000000123456789, .value.f64 = 1.5, .type = TG_VALUE_DOUBLE},
        {.ts_ns = 2, .value.i64 = -7, .type = TG_VALUE_INT64},
        {.ts_ns = 3, .value.u64 = 7, .type = TG_VALUE_UINT64},
    };
    const struct tg_delivery_point d[] = {
        {&points[0], NULL, plain.data, (uint32_t)plain.len},
        {&points[1], NULL, field.data, (uint32_t)field.len},
        {&points[2], NULL, field.data, (uint32_t)field.len},
    };
    static const char lines[] = "http.duration,a=x,b=y\\ z value=1.5 1700000000123456789\n"
                                "cpu,a=x,b=y\\ z usage_idle=-7i 2\n"
                                "cpu,a=x,b=y\\ z usage_idle=7%c 3\n";
    char want[256];

    fake_must_open(&f, ops, "/", (const char *[]){"bucket=my b", "org=o&p", "token=secret", NULL});
    fake_write(&f, ops, d, 3);
    assert_int_equal(f.write.outcome, TG_WRITE_OK);
    assert_int_equal(f.write.n_skipped, 0);
    assert_string_equal(f.method, "POST");
    assert_string_equal(f.path, "/api/v2/write");
    assert_string_equal(fake_query(&f, "org"), "o&p");
    assert_string_equal(fake_query(&f, "bucket"), "my b");
    assert_string_equal(fake_query(&f, "precision"), "ns");
    assert_string_equal(fake_query(&f, "db"), "(none)");
    assert_string_equal(f.auth, "Token secret");
    assert_string_equal(f.encoding, "gzip");
    assert_string_equal(f.agent, "tidegate/" TG_VERSION);
    (void)snprintf(want, sizeof(want), lines, 'u');
    assert_string_equal(f.body.data, want);
    ops->close(f.backend);

    fake_must_open(&f, ops, "/prefix",
                   (const char *[]){"database=d", "retention_policy=r", "gzip=false",
                                    "username=Aladdin", "password=open sesame", NULL});
    for (int i = 0; i < 2; i++) {
        fake_write(&f, ops, d, 3);
        assert_int_equal(f.write.outcome, TG_WRITE_OK);
        assert_string_equal(f.path, "/prefix/write");
        assert_string_equal(fake_query(&f, "db"), "d");
        assert_string_equal(fake_query(&f, "rp"), "r");
        assert_string_equal(f.auth, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="); /* RFC 7617's example */
        assert_string_equal(f.encoding, "(none)");
        (void)snprintf(want, sizeof(want), lines, 'i');
        assert_string_equal(f.body.data, want);
    }
    ops->close(f.backend);
    tg_buf_deinit(&plain);
    tg_buf_deinit(&field);
    fake_end(&f);
}

static void test_outcomes(void **state)
{
    (void)state;
    static struct fake f;
    static const struct fake_outcome cases[] = {
        {{204}, TG_WRITE_OK, -1},
        {{200}, TG_WRITE_OK, -1},
        {{400, "{\"error\":\"partial write: field type conflict dropped=1\"}"},
         TG_WRITE_REFUSED,
         -1,
         "HTTP 400: partial write: field type conflict dropped=1"},
        {{400, "{\"code\":\"invalid\",\"message\":\"unable to parse\"}"},
         TG_WRITE_REFUSED,
         -1,
         "HTTP 400: unable to parse"},
        {{422, "{\"message\":\"outside retention\"}"}, TG_WRITE_REFUSED, -1, "outside retention"},
        {{401, "{\"error\":\"unauthorized\"}"}, TG_WRITE_RETRY, -1, "check the backend's token"},
        {{403}, TG_WRITE_RETRY, -1, "check the rights"},
        {{404, "{\"error\":\"database not found: \\\"d\\\"\"}"},
         TG_WRITE_RETRY,
         -1,
         "database not found: \"d\" (not found: check the backend's url"},
        {{405}, TG_WRITE_RETRY, -1, "method not allowed"},
        {{413, "{\"error\":\"Request Entity Too Large\"}"}, TG_WRITE_TOO_LARGE, -1, "HTTP 413"},
        {{429, "slow\ndown", "3"}, TG_WRITE_RETRY, 3000, "HTTP 429: slow"},
        {{503, "", "120"}, TG_WRITE_RETRY, 120000, "HTTP 503"},
        {{503}, TG_WRITE_RETRY, -1, "HTTP 503"},
        {{500, "{\"error\":\"timeout\"}"}, TG_WRITE_RETRY, -1, "HTTP 500: timeout"},
        {{502, "<html>\x01\xff"}, TG_WRITE_RETRY, -1, "HTTP 502: <html>??"},
        {{301}, TG_WRITE_RETRY, -1, "set the backend's url to where it leads"},
        {{418, "{broken"}, TG_WRITE_RETRY, -1, "HTTP 418: {broken"},
        {{0}, TG_WRITE_RETRY, -1, "timed out"},
    };
    fake_start(&f);
    fake_must_open(&f, ops, "", (const char *[]){"database=d", "timeout=250ms", NULL});
    struct tg_buf prepared;
    fake_prepare(ops, "m", 0, TG_KIND_GAUGE, &prepared);
    const struct tg_point p = {.ts_ns = 1, .value.f64 = 1, .type = TG_VALUE_DOUBLE};
    const struct tg_delivery_point d = {&p, NULL, prepared.data, (uint32_t)prepared.len};
    fake_check_outcomes(&f, ops, cases, sizeof(cases) / sizeof(cases[0]), &d);
    /* nobody there */
    if (f.held) tg_http_reply_text(f.held, 200, "late");
    f.held = NULL;
    tg_http_server_stop(f.server);
    for (int i = 0; i < 5; i++) tg_loop_once(f.loop, 10);
    for (int i = 0; i < 2; i++) {
        fake_write(&f, ops, &d, 1);
        assert_int_equal(f.write.outcome, TG_WRITE_RETRY);
        assert_non_null(strstr(f.write.message, "POST http://127.0.0.1:"));
    }
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

static void test_points_without_form(void **state)
{
    (void)state;
    static struct fake f;
    fake_start(&f);
    fake_must_open(&f, ops, "", (const char *[]){"database=d", NULL});
    struct tg_buf prepared;
    fake_prepare(ops, "m", 0, TG_KIND_GAUGE, &prepared);
    static const struct tg_exemplar items[2];
    static const struct tg_exemplars two = {2, items};
    const struct tg_point points[] = {
        {.ts_ns = 1, .value.f64 = NAN, .type = TG_VALUE_DOUBLE, .exemplars = &two},
        {.ts_ns = 2, .value.f64 = 2, .type = TG_VALUE_DOUBLE, .exemplars = &two},
        {.ts_ns = 3, .value.f64 = -INFINITY, .type = TG_VALUE_DOUBLE},
        {.ts_ns = 4, .type = TG_VALUE_NONE, .flags = TG_POINT_NO_VALUE},
        {.ts_ns = 5, .value.u64 = UINT64_MAX, .type = TG_VALUE_UINT64},
        {.ts_ns = 6, .value.i64 = 6, .type = TG_VALUE_INT64},
    };
    struct tg_delivery_point d[10];
    for (size_t i = 0; i < 10; i++)
        d[i] = (struct tg_delivery_point){&points[i < 6 ? i : 1], NULL, prepared.data,
                                          (uint32_t)prepared.len};
    d[9].prepared = NULL;
    const struct tg_series series = {.kind = TG_KIND_GAUGE};
    for (size_t i = 0; i < 6; i++) { /* of a series without prepared bytes it says the same */
        struct tg_point p = points[i];
        p.series = (struct tg_series *)(uintptr_t)&series;
        assert_int_equal(ops->has_form(f.backend, &p), i == 1 || i == 5);
    }
    for (int i = 0; i < 2; i++) {
        fake_write(&f, ops, d, 10);
        assert_int_equal(f.write.outcome, TG_WRITE_OK);
        assert_int_equal(f.write.n_inexpressible, 4);
        assert_int_equal(f.inexpressible[0], 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4);
        assert_int_equal(f.inexpressible[1], 0);
        assert_int_equal(f.write.n_skipped, 1);
        assert_int_equal(f.skipped[0], 0);
        assert_int_equal(f.skipped[1], 1 << 1);
        assert_non_null(strstr(f.skip_reasons[0], "not prepared"));
        assert_int_equal(f.write.left_out.n[TG_LEFT_OUT_EXEMPLAR], 8); /* of 4 that were written */
        assert_non_null(strstr((char *)f.body.data, "m,a=x,b=y\\ z value=6i 6\n"));
    }
    /* refused: not reported as skipped, the points come again */
    f.answer.status = 400;
    fake_write(&f, ops, d, 10);
    assert_int_equal(f.write.outcome, TG_WRITE_REFUSED);
    assert_int_equal(f.write.n_skipped, 0);
    assert_int_equal(f.write.n_inexpressible, 0);
    assert_int_equal(f.write.left_out.n[TG_LEFT_OUT_EXEMPLAR], 0);
    /* nothing left to send: no request */
    const unsigned before = f.n_requests;
    fake_write(&f, ops, d, 1);
    assert_int_equal(f.write.outcome, TG_WRITE_OK);
    assert_int_equal(f.write.n_inexpressible, 1);
    assert_int_equal(f.write.n_skipped, 0);
    assert_int_equal(f.n_requests, before);
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

/* One field type, whether a sender has integers or floats. */
static void test_numbers_as_floats(void **state)
{
    (void)state;
    static struct fake f;
    fake_start(&f);
    struct tg_buf prepared;
    fake_prepare(ops, "m", 0, TG_KIND_GAUGE, &prepared);
    const struct tg_point points[] = {
        {.ts_ns = 1, .value.f64 = 1.5, .type = TG_VALUE_DOUBLE},
        {.ts_ns = 2, .value.i64 = -7, .type = TG_VALUE_INT64},
        {.ts_ns = 3, .value.u64 = UINT64_MAX, .type = TG_VALUE_UINT64},
        {.ts_ns = 4, .value.i64 = 1, .type = TG_VALUE_BOOL},
    };
    struct tg_delivery_point d[4];
    for (size_t i = 0; i < 4; i++)
        d[i] = (struct tg_delivery_point){&points[i], NULL, prepared.data, (uint32_t)prepared.len};
    fake_must_open(&f, ops, "",
                   (const char *[]){"database=d", "numbers=float", "gzip=false", NULL});
    fake_write(&f, ops, d, 4);
    assert_int_equal(f.write.outcome, TG_WRITE_OK);
    assert_int_equal(f.write.n_inexpressible, 0);
    assert_int_equal(tg_buf_append(&f.body, "", 1), TG_OK);
    assert_string_equal((const char *)f.body.data, "m,a=x,b=y\\ z value=1.5 1\n"
                                                   "m,a=x,b=y\\ z value=-7 2\n"
                                                   "m,a=x,b=y\\ z value=18446744073709551615 3\n"
                                                   "m,a=x,b=y\\ z value=true 4\n");
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

static void test_too_large(void **state)
{
    (void)state;
    static struct fake f;
    fake_start(&f);
    fake_must_open(&f, ops, "", (const char *[]){"database=d", "max_request_bytes=64KiB", NULL});
    struct tg_buf prepared;
    fake_prepare(ops, "m", 0, TG_KIND_GAUGE, &prepared);
    const struct tg_point p = {.ts_ns = 1, .value.f64 = 1, .type = TG_VALUE_DOUBLE};
    enum { N = 5000 };
    struct tg_delivery_point *d = tg_calloc(N, sizeof(*d));
    for (size_t i = 0; i < N; i++)
        d[i] = (struct tg_delivery_point){&p, NULL, prepared.data, (uint32_t)prepared.len};
    for (int i = 0; i < 2; i++) {
        fake_write(&f, ops, d, N);
        assert_int_equal(f.write.outcome, TG_WRITE_TOO_LARGE);
        assert_non_null(strstr(f.write.message, "max_request_bytes"));
        assert_int_equal(f.n_requests, (unsigned)i);
        fake_write(&f, ops, d, N / 4); /* and the parts go */
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
        const char *settings[3];
        struct fake_answer answer;
        enum tg_code code;
        const char *has;
        const char *last_path;
    } cases[] = {
        {{"database=d"}, {204, NULL, NULL, "/ping"}, TG_OK, "", "/ping"},
        {{"database=d"}, {200, "OK", NULL, "/health"}, TG_OK, "", "/health"},
        {{"bucket=b", "org=o"}, {200, "{}", NULL, "/health"}, TG_OK, "", "/health"},
        {{"bucket=b", "org=o"}, {204, NULL, NULL, "/ping"}, TG_OK, "", "/ping"},
        {{"bucket=b", "org=o"},
         {503, "{\"message\":\"starting\"}"},
         TG_ERR_UNAVAILABLE,
         "HTTP 503: starting",
         "/health"},
        {{"database=d"}, {204, NULL, NULL, "/other"}, TG_ERR_UNAVAILABLE, "HTTP 404", "/health"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_start(&f);
        fake_must_open(&f, ops, "", cases[i].settings);
        f.answer = cases[i].answer;
        for (int k = 0; k < 2; k++) {
            fake_health(&f, ops);
            if (f.health_code != cases[i].code || !strstr(f.health_message, cases[i].has))
                fail_msg("%zu: %d %s", i, (int)f.health_code, f.health_message);
            assert_string_equal(f.path, cases[i].last_path);
        }
        /* closing ends one that is under way */
        f.answer = (struct fake_answer){0};
        f.n_healths = 0;
        ops->health(f.backend, fake_on_health, &f);
        for (int k = 0; k < 10; k++) tg_loop_once(f.loop, 5);
        ops->close(f.backend);
        assert_int_equal(f.n_healths, 1);
        assert_int_equal(f.health_code, TG_ERR_CANCELED);
        fake_end(&f);
    }
}

/* A check that could not be sent (its URL is too long) ends at the next loop turn, or when the
 * backend is closed before that; and leaves nothing behind. */
static void test_health_that_cannot_be_sent(void **state)
{
    (void)state;
    static struct fake f;
    static char path[1500];
    path[0] = '/';
    memset(path + 1, 'x', sizeof(path) - 2);
    for (int is_closed = 0; is_closed < 2; is_closed++) {
        fake_start(&f);
        fake_must_open(&f, ops, path, (const char *[]){"database=d", NULL});
        f.n_healths = 0;
        for (unsigned twice = 0; twice < 2; twice++) {
            ops->health(f.backend, fake_on_health, &f);
            ops->health(f.backend, fake_on_health, &f);
            assert_int_equal(f.n_healths, 2 * twice); /* not before it returned */
            if (is_closed) break;
            fake_wait(&f, &f.n_healths, 2 * twice + 2);
            assert_int_equal(f.health_code, TG_ERR_UNAVAILABLE);
            assert_non_null(strstr(f.health_message, "could not be sent"));
        }
        ops->close(f.backend);
        if (is_closed) {
            assert_int_equal(f.n_healths, 2);
            assert_int_equal(f.health_code, TG_ERR_CANCELED);
        }
        for (int k = 0; k < 5; k++) tg_loop_once(f.loop, 0);
        assert_int_equal(f.n_healths, is_closed ? 2 : 4);
        fake_end(&f);
    }
}

static void test_query(void **state)
{
    (void)state;
    static struct fake f;
    fake_start(&f);
    fake_must_open(&f, ops, "", (const char *[]){"database=d", "retention_policy=r", NULL});
    f.answer = (struct fake_answer){
        200, "{\"results\":[{\"statement_id\":0,\"series\":["
             "{\"name\":\"cpu_usage\",\"tags\":{\"host\":\"a\",\"dc\":\"\"},"
             "\"columns\":[\"time\",\"count\",\"value\"],"
             "\"values\":[[100,null,1.5],[150,3,9007199254740993],[200,null,2]]}]},"
             "{\"statement_id\":1,\"series\":[{\"name\":\"cpu\",\"columns\":[\"time\",\"usage\"],"
             "\"values\":[[120,\"text\"],[130,true]]}]}]}"};
    struct tg_tag tag = {"host", "it's \"a\"\\", 4, 9, TG_ORIGIN_POINT};
    struct tg_query q = {
        .name = "cpu_usage", .tags = &tag, .n_tags = 1, .start_ns = 100, .end_ns = 200};
    for (int i = 0; i < 2; i++) {
        fake_query_range(&f, ops, &q);
        assert_int_equal(f.end_code, TG_OK);
        assert_string_equal(f.method, "GET");
        assert_string_equal(f.path, "/query");
        assert_string_equal(fake_query(&f, "db"), "d");
        assert_string_equal(fake_query(&f, "rp"), "r");
        assert_string_equal(
            fake_query(&f, "q"),
            "SELECT *::field FROM \"cpu_usage\" WHERE time >= 100 AND time < 200 AND "
            "\"host\"::tag = 'it\\'s \"a\"\\\\' GROUP BY *;"
            "SELECT \"usage\" FROM \"cpu\" WHERE time >= 100 AND time < 200 AND "
            "\"host\"::tag = 'it\\'s \"a\"\\\\' GROUP BY *");
        assert_string_equal(f.rows, "cpu_usage_count{host=\"a\"} 1 3 @150\n"
                                    "cpu_usage{host=\"a\"} 0 1.5 @100\n"
                                    "cpu_usage{host=\"a\"} 1 9.0072e+15 @150\n"
                                    "cpu_usage 8 text @120\n"
                                    "cpu_usage 3 1 @130\n");
    }
    q.max_rows = 2;
    fake_query_range(&f, ops, &q);
    assert_int_equal(f.n_rows, 2);
    assert_non_null(strstr(fake_query(&f, "q"), " GROUP BY * LIMIT 2"));
    q.max_rows = 0;
    f.stop_after_rows = 1;
    fake_query_range(&f, ops, &q);
    assert_int_equal(f.n_rows, 1);
    assert_int_equal(f.end_code, TG_OK);
    f.stop_after_rows = 0;

    /* doubles that InfluxDB prints as whole numbers, among integers and text that look alike */
    f.answer = (struct fake_answer){
        200, "{\"results\":[{\"series\":[{\"name\":\"m\",\"columns\":[\"time\",\"v\"],\"values\":["
             "[1795426389000000001,9223372036854776000],[2,-9223372036854776000],"
             "[3,9223372036854775807],[4,\"\\\"9223372036854776000\"],[5,1.00000000000000000001],"
             "[6,1e21],[7,-9223372036854775808]]}]}]}"};
    q = (struct tg_query){.name = "m_v", .start_ns = INT64_MIN, .end_ns = INT64_MAX};
    for (int i = 0; i < 2; i++) {
        fake_query_range(&f, ops, &q);
        assert_int_equal(f.end_code, TG_OK);
        assert_string_equal(f.rows, "m_v 0 9.22337e+18 @1795426389000000001\n"
                                    "m_v 0 -9.22337e+18 @2\n"
                                    "m_v 1 9.22337e+18 @3\n"
                                    "m_v 8 \"9223372036854776000 @4\n"
                                    "m_v 0 1 @5\n"
                                    "m_v 0 1e+21 @6\n"
                                    "m_v 1 -9.22337e+18 @7\n");
    }

    static const struct {
        struct fake_answer answer;
        enum tg_code code;
        const char *has;
    } failures[] = {
        {{200, "{\"results\":[{\"error\":\"database not found: d\"}]}"},
         TG_ERR_INVALID,
         "database not found: d"},
        {{200, "{\"results\":[{\"error\":\"not executed\"},{\"error\":\"database not found: e\"},"
               "{\"error\":\"not executed\"}]}"},
         TG_ERR_INVALID,
         "database not found: e"},
        {{400, "{\"error\":\"error parsing query\"}"}, TG_ERR_INVALID, "error parsing query"},
        {{401, "{\"error\":\"no\"}"}, TG_ERR_UNAUTHORIZED, "no"},
        {{404}, TG_ERR_NOT_FOUND, "404"},
        {{200, "{\"results\":["}, TG_ERR_MALFORMED, "not JSON"},
        {{200, ""}, TG_ERR_MALFORMED, "not JSON"},
        {{503}, TG_ERR_UNAVAILABLE, "503"},
        {{200, "[]"}, TG_OK, ""},
        {{200, "{\"results\":[{\"series\":[{\"name\":1},{\"name\":\"m\",\"columns\":[\"time\",2,"
               "\"v\"],\"values\":[1,[],[1]]}]}]}"},
         TG_OK,
         ""},
    };
    for (size_t i = 0; i < 2 * sizeof(failures) / sizeof(failures[0]); i++) {
        f.answer = failures[i / 2].answer;
        fake_query_range(&f, ops, &q);
        if (f.end_code != failures[i / 2].code || !strstr(f.end_message, failures[i / 2].has))
            fail_msg("%zu: %d %s", i / 2, (int)f.end_code, f.end_message);
        assert_int_equal(f.n_rows, 0);
    }
    ops->close(f.backend);

    fake_must_open(&f, ops, "", (const char *[]){"bucket=b", "org=o", NULL});
    fake_query_range(&f, ops, &q);
    assert_int_equal(f.end_code, TG_ERR_UNSUPPORTED);
    assert_non_null(strstr(f.end_message, "Flux"));
    ops->close(f.backend);
    fake_end(&f);
}

static void test_query_text(void **state)
{
    (void)state;
    static const struct {
        const char *name, *want;
    } cases[] = {
        {NULL, "SELECT *::field FROM /.*/ WHERE time >= 1 AND time < 2 GROUP BY *"},
        {"m", "SELECT *::field FROM \"m\" WHERE time >= 1 AND time < 2 GROUP BY *"},
        {"_a_", "SELECT *::field FROM \"_a_\" WHERE time >= 1 AND time < 2 GROUP BY *"},
        {"a\"\\\n;DROP_b",
         "SELECT *::field FROM \"a\\\"\\\\\\n;DROP_b\" WHERE time >= 1 AND time < 2 GROUP BY *;"
         "SELECT \"b\" FROM \"a\\\"\\\\\\n;DROP\" WHERE time >= 1 AND time < 2 GROUP BY *"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tg_buf out;
        tg_buf_init(&out, 0);
        const struct tg_query q = {.name = cases[i].name, .start_ns = 1, .end_ns = 2};
        assert_int_equal(tg_influxdb_query_text(&q, &out), TG_OK);
        assert_int_equal(tg_buf_append(&out, "", 1), TG_OK);
        assert_string_equal(out.data, cases[i].want);
        tg_buf_deinit(&out);
    }
}

/* Every allocation fails once: the write ends, exactly once, as OK or as RETRY. */
static void test_failing_allocations(void **state)
{
    (void)state;
    static struct fake f;
    struct tg_buf prepared;
    fake_prepare(ops, "m", 0, TG_KIND_GAUGE, &prepared);
    const struct tg_point p = {.ts_ns = 1, .value.f64 = 1, .type = TG_VALUE_DOUBLE};
    const struct tg_delivery_point d = {&p, NULL, prepared.data, (uint32_t)prepared.len};
    unsigned n_ok = 0;
    for (uint64_t n = 1; n < 500; n++) {
        fake_start(&f);
        assert_int_equal(tg_options_init(&f.options, ops->options, &f.arena), TG_OK);
        assert_int_equal(tg_options_set(&f.options, "url", f.url, &f.arena, NULL), TG_OK);
        assert_int_equal(tg_options_set(&f.options, "database", "d", &f.arena, NULL), TG_OK);
        assert_int_equal(tg_options_set(&f.options, "timeout", "300ms", &f.arena, NULL), TG_OK);
        const struct tg_backend_open how = {.name = "t", .options = &f.options, .loop = f.loop};
        struct tg_err err = {0};
        tg_mem_fail_at(n);
        if (ops->open(&how, &f.backend, &err) == TG_OK) {
            fake_write(&f, ops, &d, 1);
            if (f.write.outcome == TG_WRITE_OK) n_ok++;
            assert_true(f.write.outcome == TG_WRITE_OK || f.write.outcome == TG_WRITE_RETRY);
            const struct tg_query q = {.name = "m", .start_ns = 0, .end_ns = 10};
            f.answer = (struct fake_answer){200, "{\"results\":[{\"series\":[{\"name\":\"m\","
                                                 "\"columns\":[\"time\",\"value\"],"
                                                 "\"values\":[[1,1]]}]}]}"};
            fake_query_range(&f, ops, &q);
            fake_health(&f, ops);
        } else {
            assert_int_equal(err.code, TG_ERR_NOMEM);
            f.backend = NULL;
        }
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        ops->close(f.backend);
        fake_end(&f);
        if (!fired) break;
    }
    assert_true(n_ok > 1);
    tg_buf_deinit(&prepared);
}

static void test_cancel(void **state)
{
    (void)state;
    fake_check_cancel(&tg_backend_influxdb, (const char *[]){"database=d", NULL}, TG_KIND_GAUGE);
}

static void test_query_stop(void **state)
{
    (void)state;
    fake_check_query_stop(&tg_backend_influxdb, (const char *[]){"database=d", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_points_without_form),
        cmocka_unit_test(test_numbers_as_floats),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_health_that_cannot_be_sent),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_query_text),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_query_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
