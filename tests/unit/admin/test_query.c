/* A query that names no backend: which are asked, whose rows are given, and what is said when there
 * are none. */
#include "tests/unit/pipe/gateway_fixture.h"

#include <jansson.h>

#include "core/admin/admin.h"
#include "core/net/http_client.h"

struct asking {
    struct tg_loop *loop;
    struct tg_admin *admin;
    struct tg_http_client *client;
    bool done;
    int status;
    char body[8192];
};

static void on_answer(void *arg, const struct tg_http_result *r)
{
    struct asking *a = arg;
    a->done = true;
    a->status = r->status;
    (void)snprintf(a->body, sizeof(a->body), "%.*s", (int)r->len, (const char *)r->body);
}

static void begin(struct asking *a, struct fixture *f)
{
    struct tg_err err = {.msg = ""};
    f->config.admin_address = "127.0.0.1:0";
    start(f);
    a->loop = tg_loop_new();
    a->client = tg_http_client_new(a->loop, NULL);
    const struct tg_admin_config config = {
        .loop = a->loop, .address = "127.0.0.1:0", .gateway = f->g, .config = &f->config};
    if (tg_admin_new(&config, &a->admin, &err) != TG_OK) fail_msg("%s", err.msg);
}

static void finish(struct asking *a, struct fixture *f)
{
    tg_admin_detach(a->admin);
    stop(f);
    while (tg_admin_n_pending(a->admin)) tg_loop_once(a->loop, 100);
    tg_http_client_free(a->client);
    tg_admin_free(a->admin);
    tg_loop_free(a->loop);
}

static int ask(struct asking *a, const char *query)
{
    char url[256];
    struct tg_err err = {.msg = ""};
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/api/query?%s", tg_admin_port(a->admin),
                   query);
    const struct tg_http_call call = {.method = "GET", .url = url, .timeout_ms = 20000};
    a->done = false;
    if (tg_http_client_send(a->client, &call, on_answer, a, &err) != TG_OK) fail_msg("%s", err.msg);
    while (!a->done) tg_loop_once(a->loop, 100);
    return a->status;
}

/* What the two backends do, what is asked, and parts of the answer. */
static const struct {
    bool has_no_rows[2], fails[2];
    const char *query;
    int status;
    const char *parts[4];
} cases[] = {
    {{0}, {0}, "name=m", 200, {"\"backend\":\"a\"", "\"n_rows\":1", "\"also_in\":[\"b\"]"}},
    {{1, 0}, {0}, "name=m", 200, {"\"backend\":\"b\"", "\"n_rows\":1", "\"asked\":[\"a\",\"b\"]"}},
    {{0},
     {1, 0},
     "name=m",
     200,
     {"\"backend\":\"b\"", "\"failed\":[\"a\"]", "a: scripted failure"}},
    {{0}, {1, 1}, "name=m", 503, {"a: scripted failure"}},
    {{1, 0}, {0, 1}, "name=m", 200, {"\"n_rows\":0", "\"failed\":[\"b\"]"}},
    {{1, 0}, {0}, "name=m&backend=a", 200, {"\"n_rows\":0", "\"asked\":[\"a\"]"}},
    {{1, 0}, {0}, "series=m%7Bonly%3D%22b%22%7D&backend=a", 200, {"would go to b, not to a"}},
    {{1, 1},
     {0},
     "series=m%7Bdrop%3D%221%22%7D",
     200,
     {"rules drop this series: drop(", "routing.lua:1"}},
    {{1, 1}, {0}, "series=m%7Bonly%3D%22b%22%7D", 200, {"would go to b"}},
    {{1, 1}, {0}, "name=m", 200, {"would go to a, b"}},
    {{1, 1}, {0}, "tag=k%3D1", 200, {"\"note\":null"}},
    {{0}, {0}, "name=m", 200, {"\"note\":null"}},
};

static void test_which_backends(void **state)
{
    struct fixture *f = *state;
    struct asking a = {0};
    begin(&a, f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        for (int b = 0; b < 2; b++) {
            atomic_store(&sinks[b].has_no_rows, cases[i].has_no_rows[b]);
            atomic_store(&sinks[b].fails_queries, cases[i].fails[b]);
        }
        for (int twice = 0; twice < 2; twice++) {
            assert_int_equal(ask(&a, cases[i].query), cases[i].status);
            json_t *o = json_loads(a.body, 0, NULL);
            assert_non_null(o);
            json_decref(o);
            for (size_t k = 0; k < 4 && cases[i].parts[k]; k++) {
                if (!strstr(a.body, cases[i].parts[k]))
                    fail_msg("%s: no %s in %s", cases[i].query, cases[i].parts[k], a.body);
            }
        }
    }
    finish(&a, f);
}

/* Where it goes but cannot be asked, or has not come yet. */
static void test_not_there_yet_or_not_to_be_asked(void **state)
{
    struct fixture *f = *state;
    struct asking a = {0};
    struct tg_backend_ops mute = fake_ops;
    mute.query_range = NULL;
    f->backends[1].ops = &mute;
    atomic_store(&sinks[0].has_no_rows, true);
    begin(&a, f);
    assert_int_equal(ask(&a, "series=m%7Bonly%3D%22b%22%7D"), 200);
    assert_non_null(strstr(a.body, "would go to b, which cannot be queried through the gateway"));
    assert_null(strstr(a.body, "to be delivered"));
    assert_int_equal(ask(&a, "name=m&backend=b"), 400);
    assert_int_equal(ask(&a, "name=m"), 200);
    assert_non_null(strstr(a.body, "would go to a, b; of these, b cannot be queried"));
    atomic_store(&sinks[0].down, true);
    post_range(f, 1, 3, ",only=a");
    assert_int_equal(ask(&a, "series=m_v%7Bonly%3D%22a%22%7D"), 200);
    assert_non_null(strstr(a.body, "this series goes to a; 3 points wait to be delivered to a"));
    finish(&a, f);
}

/* Of a live series, only the backends that it goes to hear; of a dropped one, none. */
static void test_only_where_the_series_goes(void **state)
{
    struct fixture *f = *state;
    struct asking a = {0};
    begin(&a, f);
    post_range(f, 1, 3, ",only=b");
    post_range(f, 4, 6, ",drop=1");
    atomic_store(&sinks[0].fails_queries, true);
    assert_int_equal(ask(&a, "series=m_v%7Bonly%3D%22b%22%7D"), 200);
    assert_non_null(strstr(a.body, "\"asked\":[\"b\"]"));
    assert_non_null(strstr(a.body, "\"failed\":[]"));
    assert_non_null(strstr(a.body, "\"n_rows\":1"));
    atomic_store(&sinks[1].has_no_rows, true);
    assert_int_equal(ask(&a, "series=m_v%7Bonly%3D%22b%22%7D"), 200);
    assert_non_null(strstr(a.body, "this series goes to b"));
    assert_non_null(
        strstr(a.body, "before a change of the rules may be in a, not asked: ask with --backend"));
    assert_int_equal(ask(&a, "series=m_v%7Bdrop%3D%221%22%7D"), 200);
    assert_non_null(strstr(a.body, "\"backend\":null"));
    assert_non_null(strstr(a.body, "\"asked\":[]"));
    assert_non_null(strstr(a.body, "rules drop this series: drop("));
    assert_non_null(strstr(a.body, "may be in a, b, not asked"));
    /* several live ones: all their backends */
    assert_int_equal(ask(&a, "name=m_v"), 200);
    assert_non_null(strstr(a.body, "\"asked\":[\"b\"]"));
    post_range(f, 7, 9, ",only=a");
    assert_int_equal(ask(&a, "name=m_v"), 200);
    assert_non_null(strstr(a.body, "\"asked\":[\"a\",\"b\"]"));
    /* one that is named is asked all the same, and so are all for what is not live */
    assert_int_equal(ask(&a, "series=m_v%7Bonly%3D%22b%22%7D&backend=a"), 503);
    assert_int_equal(ask(&a, "name=m_old"), 200);
    assert_non_null(strstr(a.body, "\"asked\":[\"a\",\"b\"]"));
    finish(&a, f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_which_backends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_where_the_series_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_there_yet_or_not_to_be_asked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
