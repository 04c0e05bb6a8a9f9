/* The sender before a server that answers by a script: retries, Retry-After, partial successes,
 * refusals, nobody there. */
#include "core/client/sender.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/net/http_server.h"
#include "core/protocol/otlp_encode.h"

struct answer {
    int status;
    const char *retry_after;
    const char *text;
    uint64_t n_rejected; /* OTLP partial success */
};

struct server {
    pthread_t thread;
    struct tg_loop *loop;
    struct tg_http_server *server;
    const struct answer *script;
    unsigned n_script, n_asked;
    char url[64];
    char path[64], content_type[64], encoding[16], query[16];
};

static void on_request(struct tg_http_request *req, void *arg)
{
    struct server *s = arg;
    const struct answer *a = &s->script[s->n_asked < s->n_script ? s->n_asked : s->n_script - 1];
    s->n_asked++;
    const char *type = tg_http_header(req, "Content-Type");
    const char *encoding = tg_http_header(req, "Content-Encoding");
    const char *precision = tg_http_query(req, "precision", 0);
    (void)snprintf(s->path, sizeof(s->path), "%s", tg_http_path(req));
    (void)snprintf(s->content_type, sizeof(s->content_type), "%s", type ? type : "");
    (void)snprintf(s->encoding, sizeof(s->encoding), "%s", encoding ? encoding : "");
    (void)snprintf(s->query, sizeof(s->query), "%s", precision ? precision : "");
    struct tg_buf body;
    tg_buf_init(&body, 4096);
    enum tg_code code = TG_OK;
    if (a->n_rejected)
        code = tg_otlp_encode_response(a->n_rejected, a->text, &body);
    else if (a->text)
        code = tg_buf_append(&body, a->text, strlen(a->text));
    const struct tg_http_header_pair header = {"Retry-After", a->retry_after};
    tg_http_reply(req, code == TG_OK ? a->status : 500, NULL, body.data, body.len, &header,
                  a->retry_after ? 1 : 0);
    tg_buf_deinit(&body);
}

static void *serve(void *arg)
{
    struct server *s = arg;
    tg_loop_run(s->loop);
    return NULL;
}

static void start(struct server *s, const struct answer *script, unsigned n)
{
    memset(s, 0, sizeof(*s));
    s->script = script;
    s->n_script = n;
    s->loop = tg_loop_new();
    const struct tg_http_server_config config = {.address = "127.0.0.1:0"};
    struct tg_err err = {.msg = ""};
    if (tg_http_server_new(s->loop, &config, on_request, s, &s->server, &err) != TG_OK)
        fail_msg("%s", err.msg);
    (void)snprintf(s->url, sizeof(s->url), "127.0.0.1:%u/", tg_http_server_port(s->server));
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct server *s)
{
    tg_loop_stop(s->loop);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    tg_http_server_free(s->server);
    tg_loop_free(s->loop);
}

static struct tg_sender_stats send_bodies(const char *url, enum tg_send_protocol protocol,
                                          unsigned n, int64_t retry_for_ms)
{
    struct tg_sender *sender;
    struct tg_err err = {.msg = ""};
    const struct tg_sender_config config = {.base_url = url,
                                            .protocol = protocol,
                                            .query =
                                                protocol == TG_SEND_INFLUX ? "precision=s" : NULL,
                                            .connections = 2,
                                            .retry_for_ms = retry_for_ms};
    if (tg_sender_new(&config, &sender, &err) != TG_OK) fail_msg("%s", err.msg);
    struct tg_buf body;
    tg_buf_init(&body, 4096);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(tg_buf_append(&body, "body", 4), TG_OK);
        assert_int_equal(tg_sender_submit(sender, &body, 10, &err), TG_OK);
        assert_int_equal(body.len, 0);
    }
    tg_sender_finish(sender);
    const struct tg_sender_stats stats = *tg_sender_stats(sender);
    tg_sender_free(sender);
    tg_buf_deinit(&body);
    return stats;
}

static const struct {
    const char *name;
    enum tg_send_protocol protocol;
    struct answer script[3];
    unsigned n_script, n_bodies;
    uint64_t n_taken, n_refused, n_given_up, n_retries;
    const char *message;
} cases[] = {
    {"all well", TG_SEND_OTLP, {{200, NULL, NULL, 0}}, 1, 5, 50, 0, 0, 0, ""},
    {"come back later",
     TG_SEND_OTLP,
     {{503, NULL, "", 0}, {429, "0", "", 0}, {200, NULL, NULL, 0}},
     3,
     1,
     10,
     0,
     0,
     2,
     ""},
    {"partial success",
     TG_SEND_OTLP,
     {{200, NULL, "bad label", 3}},
     1,
     2,
     14,
     6,
     0,
     0,
     "bad label"},
    {"more rejected than sent", TG_SEND_OTLP, {{200, NULL, "what", 99}}, 1, 1, 0, 10, 0, 0, "what"},
    {"refused", TG_SEND_REMOTE_WRITE, {{400, NULL, "no name\n", 0}}, 1, 1, 0, 10, 0, 0, "no name"},
    {"partly refused",
     TG_SEND_REMOTE_WRITE,
     {{400, NULL, "4 of 10 samples were refused, the others were stored; the first: x", 0}},
     1,
     1,
     6,
     4,
     0,
     0,
     "4 of 10"},
    {"partial write",
     TG_SEND_INFLUX,
     {{400, NULL, "{\"error\":\"partial write: line 3 dropped=1\"}", 0}},
     1,
     1,
     9,
     1,
     0,
     0,
     "partial write: line 3"},
    {"too large", TG_SEND_INFLUX, {{413, NULL, NULL, 0}}, 1, 1, 0, 10, 0, 0, "HTTP status 413"},
    {"always full", TG_SEND_OTLP, {{503, "1", "log is full", 0}}, 1, 1, 0, 0, 10, 1, "log is full"},
};

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct server s;
        start(&s, cases[i].script, cases[i].n_script);
        const struct tg_sender_stats t =
            send_bodies(s.url, cases[i].protocol, cases[i].n_bodies, 900);
        stop(&s);
        if (t.n_taken != cases[i].n_taken || t.n_refused != cases[i].n_refused ||
            t.n_given_up != cases[i].n_given_up || t.n_retries != cases[i].n_retries)
            fail_msg("%s: taken %llu, refused %llu, given up %llu, retries %llu", cases[i].name,
                     (unsigned long long)t.n_taken, (unsigned long long)t.n_refused,
                     (unsigned long long)t.n_given_up, (unsigned long long)t.n_retries);
        if (!strstr(t.message, cases[i].message)) fail_msg("%s: \"%s\"", cases[i].name, t.message);
    }
}

static void test_requests(void **state)
{
    (void)state;
    static const struct answer ok = {204, NULL, NULL, 0};
    static const struct {
        enum tg_send_protocol protocol;
        const char *path, *content_type, *encoding, *query;
    } want[] = {
        {TG_SEND_OTLP, "/v1/metrics", "application/x-protobuf", "", ""},
        {TG_SEND_REMOTE_WRITE, "/api/v1/write", "application/x-protobuf", "snappy", ""},
        {TG_SEND_INFLUX, "/api/v2/write", "text/plain; charset=utf-8", "", "s"},
    };
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct server s;
        start(&s, &ok, 1);
        (void)send_bodies(s.url, want[i].protocol, 1, 0);
        stop(&s);
        assert_string_equal(s.path, want[i].path);
        assert_string_equal(s.content_type, want[i].content_type);
        assert_string_equal(s.encoding, want[i].encoding);
        assert_string_equal(s.query, want[i].query);
    }
}

static void test_nobody(void **state)
{
    (void)state;
    const struct tg_sender_stats t = send_bodies("http://127.0.0.1:1", TG_SEND_OTLP, 3, 300);
    assert_int_equal(t.n_given_up, 30);
    assert_int_equal(t.n_taken, 0);
    assert_true(t.n_retries > 0);
    assert_non_null(strstr(t.message, "no answer: "));
}

static void test_gives_up_once(void **state)
{
    (void)state;
    struct tg_sender *sender;
    struct tg_err err = {.msg = ""};
    const struct tg_sender_config config = {.base_url = "127.0.0.1:1",
                                            .protocol = TG_SEND_OTLP,
                                            .connections = 1,
                                            .retry_for_ms = 0,
                                            .ends_at_give_up = true};
    assert_int_equal(tg_sender_new(&config, &sender, &err), TG_OK);
    struct tg_buf body;
    tg_buf_init(&body, 4096);
    assert_int_equal(tg_sender_submit(sender, &body, 10, &err), TG_OK);
    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_sender_submit(sender, &body, 10, &err), TG_ERR_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "no answer"));
    }
    tg_sender_finish(sender);
    assert_int_equal(tg_sender_stats(sender)->n_given_up, 10);
    tg_sender_free(sender);
    tg_buf_deinit(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_nobody),
        cmocka_unit_test(test_gives_up_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
