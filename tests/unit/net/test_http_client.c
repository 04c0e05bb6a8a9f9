/* The HTTP client against our own server and against servers that misbehave. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/net/http_client.h"
#include "core/net/http_server.h"

enum { BIG = 3 << 20 };

struct got {
    unsigned n; /* callbacks */
    enum tg_code code;
    int status;
    int64_t retry_after_ms;
    size_t len;
    char body[256];
    char message[256];
    struct tg_http_client *free_this; /* from within the callback */
    unsigned send_more;
    const char *url;
};

struct fixture {
    struct tg_loop *loop;
    struct tg_http_server *server;
    struct tg_http_client *client;
    struct tg_http_request *held[16];
    unsigned n_held;
    char *big;
    int64_t now_s;
    char urls[8][64];
    unsigned n_urls;
};

static void handler(struct tg_http_request *r, void *arg)
{
    struct fixture *f = arg;
    size_t len;
    const uint8_t *body = tg_http_body(r, &len);
    const char *path = tg_http_path(r);
    struct tg_http_header_pair retry = {"Retry-After", "7"};
    char date[64];
    if (strcmp(path, "/retry-after/date") == 0) {
        const time_t t = (time_t)(f->now_s + 30);
        struct tm tm;
        (void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&t, &tm));
        retry.value = date;
    } else if (strcmp(path, "/retry-after/past") == 0) {
        retry.value = "Sun, 06 Nov 1994 08:49:37 GMT";
    } else if (strcmp(path, "/retry-after/bad") == 0) {
        retry.value = "soonish";
    } else if (strcmp(path, "/retry-after/huge") == 0) {
        retry.value = "99999999999999999999999";
    } else if (strcmp(path, "/retry-after/zero") == 0) {
        retry.value = "0";
    } else if (strcmp(path, "/retry-after/seconds") == 0) {
        retry.value = "7";
    } else if (strcmp(path, "/hold") == 0) {
        f->held[f->n_held++] = r;
        return;
    } else if (strcmp(path, "/big") == 0) {
        tg_http_reply(r, 200, "text/plain", f->big, BIG, NULL, 0);
        return;
    } else if (strcmp(path, "/status") == 0) {
        int status = 0;
        (void)sscanf(tg_http_query(r, "s", 0), "%d", &status);
        tg_http_reply_text(r, status, "status %d", status);
        return;
    } else if (strcmp(path, "/echo") == 0) {
        tg_http_reply(r, 200, "text/plain", body, len, NULL, 0);
        return;
    } else {
        const char *x = tg_http_header(r, "X-Test");
        const char *empty = tg_http_header(r, "X-Empty");
        tg_http_reply_text(r, 200, "%s %zu x=%s empty=%s expect=%s", tg_http_method(r), len,
                           x ? x : "-", empty ? empty : "-",
                           tg_http_header(r, "Expect") ? "yes" : "no");
        return;
    }
    tg_http_reply(r, 503, "text/plain", "later", 5, &retry, 1);
}

static void start(struct fixture *f, const struct tg_http_client_config *config)
{
    struct tg_err err;
    memset(f, 0, sizeof(*f));
    f->loop = tg_loop_new();
    f->big = tg_malloc(BIG);
    memset(f->big, 'b', BIG);
    f->now_s = tg_clock_wall_ns() / 1000000000;
    assert_int_equal(tg_http_server_new(f->loop,
                                        &(struct tg_http_server_config){.address = "127.0.0.1:0"},
                                        handler, f, &f->server, &err),
                     TG_OK);
    f->client = tg_http_client_new(f->loop, config);
    assert_non_null(f->client);
}

static void end(struct fixture *f)
{
    tg_http_client_free(f->client);
    for (unsigned i = 0; i < f->n_held; i++) tg_http_reply_text(f->held[i], 200, "late");
    tg_http_server_free(f->server);
    tg_loop_free(f->loop);
    tg_free(f->big);
}

/* Valid until seven more were made. */
static const char *url(struct fixture *f, const char *path)
{
    char *out = f->urls[f->n_urls++ % 8];
    (void)snprintf(out, sizeof(f->urls[0]), "http://127.0.0.1:%u%s", tg_http_server_port(f->server),
                   path);
    return out;
}

static void on_result(void *arg, const struct tg_http_result *r)
{
    struct got *g = arg;
    g->n++;
    g->code = r->code;
    g->status = r->status;
    g->retry_after_ms = r->retry_after_ms;
    g->len = r->len;
    assert_int_equal(r->body[r->len], 0);
    (void)snprintf(g->body, sizeof(g->body), "%.255s", (const char *)r->body);
    (void)snprintf(g->message, sizeof(g->message), "%s", r->message);
    struct tg_http_client *c = g->free_this;
    g->free_this = NULL;
    tg_http_client_free(c);
}

static void wait_for(struct fixture *f, const struct got *g, unsigned n)
{
    const uint64_t until = tg_clock_mono_ms() + 20000;
    while (g->n < n && tg_clock_mono_ms() < until) tg_loop_once(f->loop, 50);
    assert_int_equal(g->n, n);
}

static struct got call(struct fixture *f, const struct tg_http_call *c)
{
    struct got g = {0};
    struct tg_err err = {0};
    if (tg_http_client_send(f->client, c, on_result, &g, &err) != TG_OK) fail_msg("%s", err.msg);
    assert_int_equal(g.n, 0); /* never before send returned */
    wait_for(f, &g, 1);
    return g;
}

static void test_calls(void **state)
{
    (void)state;
    static struct fixture f;
    static const struct {
        const char *name, *method, *path, *body, *want;
        int status;
    } cases[] = {
        {"get", "GET", "/x", NULL, "GET 0 x=a b empty= expect=no\n", 200},
        {"post", "POST", "/x", "hello", "POST 5 x=a b empty= expect=no\n", 200},
        {"post of nothing", "POST", "/x", NULL, "POST 0 x=a b empty= expect=no\n", 200},
        {"put", "PUT", "/x", "hi", "PUT 2 x=a b empty= expect=no\n", 200},
        {"delete", "DELETE", "/x", NULL, "DELETE 0 x=a b empty= expect=no\n", 200},
        {"head", "HEAD", "/x", NULL, "", 200},
        {"echo", "POST", "/echo", "abc", "abc", 200},
        {"404", "GET", "/status?s=404", NULL, "status 404\n", 404},
        {"500", "POST", "/status?s=500", "x", "status 500\n", 500},
        {"301 is not followed", "GET", "/status?s=301", NULL, "status 301\n", 301},
        {"204", "POST", "/status?s=204", "x", "", 204},
    };
    start(&f, NULL);
    const struct tg_http_client_header headers[] = {{"X-Test", "a b"}, {"X-Empty", ""}};
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        const size_t k = i / 2;
        const struct got g = call(&f, &(struct tg_http_call){
                                          .method = cases[k].method,
                                          .url = url(&f, cases[k].path),
                                          .headers = headers,
                                          .n_headers = 2,
                                          .body = cases[k].body,
                                          .len = cases[k].body ? strlen(cases[k].body) : 0,
                                      });
        if (g.code != TG_OK) fail_msg("%s: %s", cases[k].name, g.message);
        assert_int_equal(g.status, cases[k].status);
        assert_string_equal(g.body, cases[k].want);
        assert_int_equal(g.retry_after_ms, -1);
    }
    /* all over one kept connection */
    assert_int_equal(tg_http_server_stats(f.server).n_connections_total, 1);
    end(&f);
}

static void test_retry_after(void **state)
{
    (void)state;
    static struct fixture f;
    static const struct {
        const char *path;
        int64_t min_ms, max_ms;
    } cases[] = {
        {"/retry-after/seconds", 7000, 7000}, {"/retry-after/zero", 0, 0},
        {"/retry-after/date", 20000, 30000},  {"/retry-after/past", 0, 0},
        {"/retry-after/bad", -1, -1},         {"/retry-after/huge", 86400000, INT32_MAX},
    };
    start(&f, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct got g =
            call(&f, &(struct tg_http_call){.method = "GET", .url = url(&f, cases[i].path)});
        assert_int_equal(g.code, TG_OK);
        assert_int_equal(g.status, 503);
        if (g.retry_after_ms < cases[i].min_ms || g.retry_after_ms > cases[i].max_ms)
            fail_msg("%s: %lld", cases[i].path, (long long)g.retry_after_ms);
    }
    end(&f);
}

static void test_large(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    const struct tg_http_call get = {.method = "GET", .url = url(&f, "/big")};
    for (int i = 0; i < 2; i++) {
        const struct got g = call(&f, &get);
        assert_int_equal(g.code, TG_ERR_TOO_LARGE);
        assert_int_equal(g.status, 200);
        assert_int_equal(g.len, 0);
        assert_non_null(strstr(g.message, "over the limit of 1048576 bytes"));
    }
    tg_http_client_free(f.client);
    f.client =
        tg_http_client_new(f.loop, &(struct tg_http_client_config){.max_response_bytes = BIG});
    struct got g = call(&f, &get);
    assert_int_equal(g.code, TG_OK);
    assert_int_equal(g.len, BIG);
    g = call(&f, &(struct tg_http_call){
                     .method = "POST", .url = url(&f, "/echo"), .body = f.big, .len = BIG});
    assert_int_equal(g.code, TG_OK);
    assert_int_equal(g.len, BIG);
    end(&f);
}

static int raw_listener(uint16_t *port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

/* A server that says `text`, slowly, then closes or stays silent. */
static void test_bad_servers(void **state)
{
    (void)state;
    static struct fixture f;
    static const struct {
        const char *name, *text;
        bool trickle, close;
        enum tg_code code;
        const char *has;
    } cases[] = {
        {"silence", "", false, false, TG_ERR_TIMEOUT, "Operation timed out"},
        {"slow trickle", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", true, false,
         TG_ERR_TIMEOUT, "Operation timed out"},
        {"closes at once", "", false, true, TG_ERR_UNAVAILABLE, NULL},
        {"closes within the header", "HTTP/1.1 200 OK\r\nX", false, true, TG_OK, NULL},
        {"closes within the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", false, true,
         TG_ERR_UNAVAILABLE, "transfer closed"},
        {"no HTTP", "hello, this is not HTTP\r\n", false, true, TG_ERR_UNAVAILABLE, NULL},
    };
    start(&f, NULL);
    uint16_t port;
    const int listener = raw_listener(&port);
    char target[64];
    (void)snprintf(target, sizeof(target), "http://127.0.0.1:%u/p?token=secret", port);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct got g = {0};
        struct tg_err err;
        const struct tg_http_call c = {
            .method = "POST", .url = target, .body = "x", .len = 1, .timeout_ms = 200};
        const uint64_t began = tg_clock_mono_ms();
        assert_int_equal(tg_http_client_send(f.client, &c, on_result, &g, &err), TG_OK);
        int fds[8]; /* curl may try again */
        unsigned n_fds = 0;
        while (g.n == 0 && tg_clock_mono_ms() < began + 10000) {
            tg_loop_once(f.loop, 5);
            const int fd = accept(listener, NULL, NULL);
            if (fd >= 0 && n_fds < 8) {
                fds[n_fds++] = fd;
                (void)send(fd, cases[i].text, strlen(cases[i].text), MSG_NOSIGNAL);
                if (cases[i].close) (void)shutdown(fd, SHUT_RDWR);
            }
            if (cases[i].trickle && n_fds) (void)send(fds[n_fds - 1], "x", 1, MSG_NOSIGNAL);
        }
        const uint64_t took = tg_clock_mono_ms() - began;
        assert_int_equal(g.n, 1);
        if (g.code != cases[i].code && cases[i].code != TG_OK)
            fail_msg("%s: code %d, %s", cases[i].name, (int)g.code, g.message);
        if (cases[i].has && !strstr(g.message, cases[i].has))
            fail_msg("%s: %s", cases[i].name, g.message);
        if (strstr(g.message, "secret")) fail_msg("%s: %s", cases[i].name, g.message);
        if (g.code == TG_ERR_TIMEOUT) assert_true(took >= 150 && took < 5000);
        for (unsigned k = 0; k < n_fds; k++) (void)close(fds[k]);
    }
    (void)close(listener);
    /* nobody listens there now */
    for (int i = 0; i < 2; i++) {
        const struct got g = call(&f, &(struct tg_http_call){.method = "GET", .url = target});
        assert_int_equal(g.code, TG_ERR_UNAVAILABLE);
        assert_int_equal(g.status, 0);
        assert_non_null(strstr(g.message, "GET http://127.0.0.1:"));
        assert_null(strstr(g.message, "secret"));
    }
    end(&f);
}

static void test_bad_calls(void **state)
{
    (void)state;
    static struct fixture f;
    static const char *const urls[] = {
        "",        "nonsense",          "ftp://127.0.0.1/x", "file:///etc/passwd",
        "http://", "http://h:99999999", "/api/v1/write",     "http://a b/",
    };
    start(&f, NULL);
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct got g = {0};
        struct tg_err err = {0};
        const struct tg_http_call c = {.method = "GET", .url = urls[i]};
        if (tg_http_client_send(f.client, &c, on_result, &g, &err) != TG_ERR_INVALID)
            fail_msg("%s is accepted", urls[i]);
        assert_non_null(strstr(err.msg, "is not a URL like"));
    }
    struct got g = {0};
    struct tg_err err = {0};
    const struct tg_http_client_header bad = {"X", "a\r\nY: b"};
    const struct tg_http_call c = {
        .method = "GET", .url = url(&f, "/"), .headers = &bad, .n_headers = 1};
    assert_int_equal(tg_http_client_send(f.client, &c, on_result, &g, &err), TG_ERR_INVALID);
    tg_loop_once(f.loop, 10);
    assert_int_equal(g.n, 0);
    end(&f);
}

static void test_many_and_cancel(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, &(struct tg_http_client_config){.max_connections = 3});
    struct got g = {0};
    struct tg_err err;
    const struct tg_http_call c = {
        .method = "POST", .url = url(&f, "/echo"), .body = "hello", .len = 5};
    for (int i = 0; i < 50; i++)
        assert_int_equal(tg_http_client_send(f.client, &c, on_result, &g, &err), TG_OK);
    wait_for(&f, &g, 50);
    assert_true(tg_http_server_stats(f.server).n_connections_total <= 3);

    /* open calls end when the client does */
    struct got held = {0};
    const struct tg_http_call hold = {.method = "GET", .url = url(&f, "/hold")};
    for (int i = 0; i < 5; i++)
        assert_int_equal(tg_http_client_send(f.client, &hold, on_result, &held, &err), TG_OK);
    for (int i = 0; i < 200 && f.n_held < 3; i++) tg_loop_once(f.loop, 10);
    assert_int_equal(f.n_held, 3);
    tg_http_client_free(f.client);
    assert_int_equal(held.n, 5);
    assert_int_equal(held.code, TG_ERR_CANCELED);

    /* also from within a callback, where a new call is refused */
    f.client = tg_http_client_new(f.loop, NULL);
    held = (struct got){0};
    g = (struct got){.free_this = f.client};
    for (int i = 0; i < 2; i++)
        assert_int_equal(tg_http_client_send(f.client, &hold, on_result, &held, &err), TG_OK);
    assert_int_equal(tg_http_client_send(f.client, &c, on_result, &g, &err), TG_OK);
    wait_for(&f, &g, 1);
    assert_int_equal(held.n, 2);
    assert_int_equal(held.code, TG_ERR_CANCELED);
    f.client = NULL;
    end(&f);
}

/* One caller's calls end, at once and not within the request to do so; the others go on. */
static void test_cancel_of_one_caller(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, &(struct tg_http_client_config){.max_connections = 4});
    struct tg_err err;
    const struct tg_http_call hold = {.method = "GET", .url = url(&f, "/hold")};
    for (unsigned twice = 1; twice <= 2; twice++) {
        struct got mine = {0}, other = {0};
        const unsigned n_held = f.n_held;
        assert_int_equal(tg_http_client_send(f.client, &hold, on_result, &mine, &err), TG_OK);
        assert_int_equal(tg_http_client_send(f.client, &hold, on_result, &mine, &err), TG_OK);
        assert_int_equal(tg_http_client_send(f.client, &hold, on_result, &other, &err), TG_OK);
        for (int i = 0; i < 1000 && f.n_held < n_held + 3; i++) tg_loop_once(f.loop, 10);
        assert_int_equal(f.n_held, n_held + 3);
        const uint64_t began_ms = tg_clock_mono_ms();
        tg_http_client_cancel(f.client, &mine);
        tg_http_client_cancel(f.client, &mine);
        assert_int_equal(mine.n, 0);
        wait_for(&f, &mine, 2);
        assert_true(tg_clock_mono_ms() - began_ms < 5000); /* not the 30 s of the call */
        assert_int_equal(mine.code, TG_ERR_CANCELED);
        assert_non_null(strstr(mine.message, "canceled"));
        assert_int_equal(other.n, 0);
        for (unsigned i = 0; i < f.n_held; i++) tg_http_reply_text(f.held[i], 200, "late");
        f.n_held = 0;
        wait_for(&f, &other, 1);
        assert_int_equal(other.code, TG_OK);
        tg_http_client_cancel(f.client, &mine); /* nothing is open */
        struct got after =
            call(&f, &(struct tg_http_call){
                         .method = "POST", .url = url(&f, "/echo"), .body = "a", .len = 1});
        assert_int_equal(after.code, TG_OK);
    }
    end(&f);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    tg_http_client_free(f.client);
    f.client = NULL;
    unsigned n_ok = 0;
    unsigned n_steps = 0;
    for (uint64_t n = 1; n < 2000; n++) {
        struct got g = {0};
        struct tg_err err = {0};
        const struct tg_http_client_header header = {"X-Test", "1"};
        const struct tg_http_call c = {.method = "POST",
                                       .url = url(&f, "/echo"),
                                       .headers = &header,
                                       .n_headers = 1,
                                       .body = "hello",
                                       .len = 5,
                                       .timeout_ms = 300};
        tg_mem_fail_at(n);
        struct tg_http_client *client = tg_http_client_new(f.loop, NULL);
        if (client && tg_http_client_send(client, &c, on_result, &g, &err) == TG_OK) {
            const uint64_t until = tg_clock_mono_ms() + 2000;
            while (!g.n && tg_clock_mono_ms() < until) tg_loop_once(f.loop, 20);
            if (!g.n) fail_msg("allocation %llu: no callback", (unsigned long long)n);
        }
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        tg_http_client_free(client);
        for (int i = 0; i < 3; i++) tg_loop_once(f.loop, 0);
        n_steps++;
        if (g.n && g.code == TG_OK) n_ok++;
        if (!fired) break;
    }
    if (n_ok < 1 || n_steps < 6) fail_msg("%u of %u calls were answered", n_ok, n_steps);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_bad_servers),
        cmocka_unit_test(test_bad_calls),
        cmocka_unit_test(test_many_and_cancel),
        cmocka_unit_test(test_cancel_of_one_caller),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
