/* The HTTP server over real sockets: bytes in, statuses and closing out; limits, deadlines,
 * pipelining, late replies, draining. */
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/net/http_internal.h"

/* Rows of the tables below leave out what is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum { MAX_HELD = 64 };

struct fixture {
    struct tg_loop *loop;
    struct tg_http_server *server;
    struct tg_http_request *held[MAX_HELD]; /* requests for /hold */
    unsigned n_held;
    bool stop_in_handler, free_in_handler;
    char big[1 << 20];
};

static void handler(struct tg_http_request *r, void *arg)
{
    struct fixture *f = arg;
    size_t len;
    const uint8_t *body = tg_http_body(r, &len);
    assert_int_equal(body[len], 0); /* room for a NUL is promised */
    const char *path = tg_http_path(r);
    if (f->stop_in_handler) {
        tg_http_reply_text(r, 200, "stopping");
        tg_http_server_stop(f->server);
        return;
    }
    if (f->free_in_handler) {
        tg_http_server_free(f->server);
        tg_http_reply_text(r, 200, "bye");
        return;
    }
    if (strcmp(path, "/hold") == 0) {
        assert_true(f->n_held < MAX_HELD);
        f->held[f->n_held++] = r;
    } else if (strcmp(path, "/big") == 0) {
        tg_http_reply(r, 200, "application/octet-stream", f->big, sizeof(f->big), NULL, 0);
    } else if (strcmp(path, "/empty") == 0) {
        tg_http_reply(r, 204, NULL, NULL, 0, NULL, 0);
    } else if (strcmp(path, "/headers") == 0) {
        const struct tg_http_header_pair headers[] = {
            {"X-One", "1"},
            {"X-Bad", "a\r\nX-Injected: 1"},
            {"Content-Length", "999"},
            {"Connection", "close"},
        };
        tg_http_reply(r, 299, "text/plain", "x", 1, headers, 4);
    } else if (strcmp(path, "/query") == 0) {
        const char *a0 = tg_http_query(r, "a", 0);
        const char *a1 = tg_http_query(r, "a", 1);
        const char *b = tg_http_query(r, "b c", 0);
        tg_http_reply_text(r, 200, "a0=%s a1=%s b=%s", a0 ? a0 : "-", a1 ? a1 : "-", b ? b : "-");
    } else if (strcmp(path, "/echo") == 0) {
        tg_http_reply(r, 200, "text/plain", body, len, NULL, 0);
    } else {
        const char *x = tg_http_header(r, "x-test");
        tg_http_reply_text(r, 200, "%s %s %zu x=%s", tg_http_method(r), path, len, x ? x : "-");
    }
}

static void start(struct fixture *f, const struct tg_http_server_config *config)
{
    struct tg_http_server_config g = config ? *config : (struct tg_http_server_config){0};
    struct tg_err err = {0};
    memset(f, 0, sizeof(*f));
    memset(f->big, 'b', sizeof(f->big));
    if (!g.address) g.address = "127.0.0.1:0";
    f->loop = tg_loop_new();
    assert_non_null(f->loop);
    const enum tg_code code = tg_http_server_new(f->loop, &g, handler, f, &f->server, &err);
    if (code != TG_OK) fail_msg("%s", err.msg);
    assert_true(tg_http_server_port(f->server) > 0);
}

static void end(struct fixture *f)
{
    tg_http_server_free(f->server);
    for (unsigned i = 0; i < f->n_held; i++)
        if (f->held[i]) tg_http_reply_text(f->held[i], 200, "goes nowhere");
    tg_loop_free(f->loop);
}

static int dial(const struct fixture *f)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons(tg_http_server_port(f->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void turns(struct fixture *f, int n)
{
    for (int i = 0; i < n; i++) tg_loop_once(f->loop, 0);
}

static void put(struct fixture *f, int fd, const char *bytes, size_t len)
{
    const uint64_t until = tg_clock_mono_ms() + 10000;
    while (len > 0 && tg_clock_mono_ms() < until) {
        const ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        } else if (n < 0 && errno != EAGAIN) {
            return; /* the server closed: the reply tells */
        }
        tg_loop_once(f->loop, 0);
    }
}

struct answer {
    struct tg_buf text; /* all that came */
    bool closed, reset;
    int status[64]; /* of the final responses, in order */
    char *body[64];
    size_t body_len[64];
    unsigned n, n_continue;
};

static void parse_answer(struct answer *a, unsigned n_heads)
{
    char *p = (char *)a->text.data;
    char *limit = p + a->text.len;
    a->n = a->n_continue = 0;
    while (p < limit && a->n < 64) {
        char *head_end = strstr(p, "\r\n\r\n");
        if (!head_end) return;
        int status = 0;
        assert_int_equal(sscanf(p, "HTTP/1.1 %3d ", &status), 1);
        size_t len = 0;
        const char *cl = strstr(p, "Content-Length: ");
        if (cl && cl < head_end) assert_int_equal(sscanf(cl + 16, "%zu", &len), 1);
        if (a->n < n_heads) len = 0; /* replies to HEAD */
        p = head_end + 4;
        if (status == 100) {
            a->n_continue++;
            continue;
        }
        if ((size_t)(limit - p) < len) return;
        a->body[a->n] = p;
        a->body_len[a->n] = len;
        a->status[a->n++] = status;
        p += len;
    }
}

/* Runs the loop until `n` responses came, or the server closed, or time is up. */
static void get(struct fixture *f, int fd, struct answer *a, unsigned n, bool until_close,
                unsigned n_heads)
{
    const uint64_t until = tg_clock_mono_ms() + 10000;
    while (tg_clock_mono_ms() < until) {
        assert_int_equal(tg_buf_reserve(&a->text, 65537), TG_OK);
        const ssize_t got = recv(fd, a->text.data + a->text.len, 65536, 0);
        if (got > 0) {
            a->text.len += (size_t)got;
            a->text.data[a->text.len] = 0;
        } else if (got == 0) {
            a->closed = true;
        } else if (errno != EAGAIN) {
            a->reset = true;
        }
        a->text.data[a->text.len] = 0;
        parse_answer(a, n_heads);
        if (a->closed || a->reset || (a->n >= n && !until_close)) break;
        tg_loop_once(f->loop, got > 0 ? 0 : 2);
    }
}

static void answer_init(struct answer *a)
{
    memset(a, 0, sizeof(*a));
    tg_buf_init(&a->text, 0);
}

static bool is_closed(struct fixture *f, int fd)
{
    char c;
    for (int i = 0; i < 20; i++) {
        tg_loop_once(f->loop, 0);
        const ssize_t n = recv(fd, &c, 1, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return true;
        assert_true(n < 0);
    }
    return false;
}

#define HOST "Host: h\r\n"

struct exchange {
    const char *name, *bytes, *want; /* statuses, in order */
    bool closes;
    const char *has; /* in the whole answer */
    size_t len;      /* of bytes, when they hold a NUL */
    unsigned n_heads;
    bool half_close; /* shut down our side after sending */
};

static const struct exchange exchanges[] = {
    {"get", "GET / HTTP/1.1\r\n" HOST "\r\n", "200", false, "GET / 0 x=-"},
    {"connection close", "GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", "200", true,
     "Connection: close\r\n"},
    {"bare line feeds", "GET / HTTP/1.1\nHost: h\n\n", "200"},
    {"empty lines before", "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "200"},
    {"1.0 closes", "GET / HTTP/1.0\r\n\r\n", "200", true},
    {"1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200", false,
     "Connection: keep-alive\r\n"},
    {"head", "HEAD /echo HTTP/1.1\r\n" HOST "\r\nGET / HTTP/1.1\r\n" HOST "\r\n", "200 200", false,
     "Content-Length: 0\r\n", 0, 1},
    {"head has the length of get", "HEAD /a HTTP/1.1\r\n" HOST "\r\n", "200", false,
     "Content-Length: 14\r\n", 0, 1},
    {"no content", "GET /empty HTTP/1.1\r\n" HOST "\r\n", "204", false, " GMT\r\n\r\n"},
    {"unknown status, headers cleaned", "GET /headers HTTP/1.1\r\n" HOST "\r\n", "299", true,
     "X-One: 1\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"},
    {"header trimmed", "GET / HTTP/1.1\r\n" HOST "X-Test: \t a b \t \r\n\r\n", "200", false,
     "x=a b\n"},
    {"header empty", "GET / HTTP/1.1\r\n" HOST "X-Test:\r\n\r\n", "200", false, "x=\n"},
    {"header folded", "GET / HTTP/1.1\r\n" HOST "X-Test: a\r\n b\r\n\r\n", "200"},
    {"first of two", "GET / HTTP/1.1\r\n" HOST "x-test: 1\r\nX-TEST: 2\r\n\r\n", "200", false,
     "x=1\n"},
    {"path decoded", "GET /a%20%41%2fb HTTP/1.1\r\n" HOST "\r\n", "200", false, "GET /a A/b 0"},
    {"absolute form", "GET http://h:1/p?a=1 HTTP/1.1\r\n" HOST "\r\n", "200", false, "GET /p 0"},
    {"absolute form, no path", "GET http://h HTTP/1.1\r\n" HOST "\r\n", "200", false, "GET / 0"},
    {"asterisk", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "200", false, "OPTIONS * 0"},
    {"query", "GET /query?a=1%202&&b%20c=x+y&a=%zz&=q#frag HTTP/1.1\r\n" HOST "\r\n", "200", false,
     "a0=1 2 a1=%zz b=x y\n"},
    {"query without", "GET /query HTTP/1.1\r\n" HOST "\r\n", "200", false, "a0=- a1=- b=-\n"},
    {"query flag", "GET /query?a HTTP/1.1\r\n" HOST "\r\n", "200", false, "a0= a1=- b=-\n"},
    {"bad escape", "GET /a%2 HTTP/1.1\r\n" HOST "\r\n", "400", true, "bad percent escape \"%2\""},
    {"escaped NUL", "GET /a%00 HTTP/1.1\r\n" HOST "\r\n", "400", true, "bad percent escape"},
    {"body", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", "200", false,
     "hello"},
    {"body of nothing", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", "200"},
    {"post without length", "POST /p HTTP/1.1\r\n" HOST "\r\n", "200", false, "POST /p 0"},
    {"get with body", "GET /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi", "200", false,
     "hi"},
    {"chunked",
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
     "5\r\nhello\r\n6;ext=\"1\"\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n",
     "200", false, "hello world"},
    {"chunked, empty", "POST /p HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
     "200", false, "POST /p 0"},
    {"bad chunk size",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "400",
     true, "malformed HTTP chunked body"},
    {"chunk longer than said",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", "400",
     true},
    {"chunk size overflow",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "400",
     true},
    {"chunk over the limit",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nffffff\r\n", "413", true,
     "limits.body"},
    {"length and chunked",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "400", true, "not both"},
    {"chunked and length",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
     "400", true},
    {"two lengths",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400", true},
    {"two lengths in one", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello", "400",
     true},
    {"negative length", "POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", "400", true},
    {"length with sign", "POST / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\nx", "400", true},
    {"length of hex", "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\nx", "400", true},
    {"length overflows",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999999\r\n\r\n", "400", true},
    {"length is the most",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551614\r\n\r\n", NULL, true},
    {"length over the limit", "POST / HTTP/1.1\r\n" HOST "Content-Length: 1048577\r\n\r\n", "413",
     true, "over the limit of 1048576 (limits.body)"},
    {"expect of too large",
     "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 1048577\r\n\r\n", "413",
     true},
    {"two codings", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
     "501", true},
    {"two coding headers",
     "POST / HTTP/1.1\r\n" HOST
     "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "501", true},
    {"coding not chunked", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\nx", "501",
     true},
    {"coding misspelt", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
     "501", true},
    {"coding in 1.0", "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "400", true},
    {"space before colon", "POST / HTTP/1.1\r\n" HOST "Content-Length : 5\r\n\r\nhello", "400",
     true},
    {"no colon", "GET / HTTP/1.1\r\n" HOST "nonsense\r\n\r\n", "400", true},
    {"NUL in header", "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n", "400", true, NULL,
     sizeof("GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n") - 1},
    {"control in path", "GET /\x01 HTTP/1.1\r\n" HOST "\r\n", "400", true},
    {"no host", "GET / HTTP/1.1\r\n\r\n", "400", true, "exactly one Host header"},
    {"two hosts", "GET / HTTP/1.1\r\n" HOST HOST "\r\n", "400", true},
    {"no method", "\x16\x03\x01\x02\x01\x01\xfc", "400", true, "no TLS"},
    {"http/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", true, "no HTTP/2"},
    {"version 2", "GET / HTTP/2.0\r\n" HOST "\r\n", "505", true},
    {"version 0.9", "GET /\r\n\r\n", "505", true},
    {"version 1.2", "GET / HTTP/1.2\r\n" HOST "\r\n", "505", true},
    {"no version", "GET / HTTQ/1.1\r\n\r\n", "400", true},
    {"lower-case method", "get / HTTP/1.1\r\n" HOST "\r\n", "400", true},
    {"connect", "CONNECT h:1 HTTP/1.1\r\n" HOST "\r\n", "405", true},
    {"upgrade is ignored",
     "GET /u HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
     "GET /v HTTP/1.1\r\n" HOST "\r\n",
     "200 200", false, "GET /v 0"},
    {"upgrade with a body",
     "POST /echo HTTP/1.1\r\n" HOST
     "Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhiGET /v HTTP/1.1\r\n" HOST
     "\r\n",
     "200 200", false, "GET /v 0"},
    {"expect",
     "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello", "200",
     false, "HTTP/1.1 100 Continue\r\n\r\n"},
    {"expect something",
     "POST / HTTP/1.1\r\n" HOST "Expect: cake\r\nContent-Length: 5\r\n\r\nhello", "417", true},
    {"pipelined",
     "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na"
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n"
     "GET /c HTTP/1.1\r\n" HOST "\r\n",
     "200 200 200", false, "GET /c 0"},
    {"pipelined after close",
     "GET /a HTTP/1.1\r\n" HOST "Connection: close\r\n\r\nGET /b HTTP/1.1\r\n" HOST "\r\n", "200",
     true},
    {"pipelined after bad", "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n" HOST "\r\n", "400", true},
    {"half-closed after a request", "GET / HTTP/1.1\r\n" HOST "\r\n", "200", true, NULL, 0, 0,
     true},
    {"half-closed within the header", "GET / HTTP/1.1\r\nHo", "400", true,
     "within the request header", 0, 0, true},
    {"half-closed within the body", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhel",
     "400", true, "after 3 of 5 bytes", 0, 0, true},
    {"half-closed within a chunk",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "400", true,
     "after 3 bytes", 0, 0, true},
};

static void run_exchange(struct fixture *f, const struct exchange *e, bool bytewise)
{
    const size_t len = e->len ? e->len : strlen(e->bytes);
    const int fd = dial(f);
    struct answer a;
    answer_init(&a);
    if (bytewise) {
        for (size_t i = 0; i < len; i++) {
            put(f, fd, e->bytes + i, 1);
            tg_loop_once(f->loop, 0);
        }
    } else {
        put(f, fd, e->bytes, len);
    }
    if (e->half_close) (void)shutdown(fd, SHUT_WR);
    unsigned n = 0;
    for (const char *p = e->want; p && *p; p++)
        if (*p == ' ') n++;
    n++;
    get(f, fd, &a, n, e->closes, e->n_heads);
    char got[64] = "";
    for (unsigned i = 0; i < a.n; i++)
        (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%d", i ? " " : "",
                       a.status[i]);
    if (e->want && strcmp(got, e->want) != 0)
        fail_msg("%s (%s): got \"%s\", want \"%s\":\n%s", e->name, bytewise ? "bytewise" : "whole",
                 got, e->want, (const char *)a.text.data);
    if (e->has && !strstr((const char *)a.text.data, e->has))
        fail_msg("%s: no \"%s\" in:\n%s", e->name, e->has, (const char *)a.text.data);
    if (a.reset) fail_msg("%s: reset", e->name);
    if (e->closes != (a.closed || is_closed(f, fd)))
        fail_msg("%s: %s", e->name, e->closes ? "stayed open" : "was closed");
    tg_buf_deinit(&a.text);
    (void)close(fd);
    turns(f, 4);
}

static void test_exchanges(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, &(struct tg_http_server_config){.max_body_bytes = 1 << 20});
    for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
        run_exchange(&f, &exchanges[i], false);
        run_exchange(&f, &exchanges[i], true);
        run_exchange(&f, &exchanges[i], false); /* nothing stays behind in pooled requests */
    }
    turns(&f, 10);
    assert_int_equal(tg_http_server_stats(f.server).n_connections, 0);
    assert_int_equal(tg_http_server_n_open_requests(f.server), 0);
    assert_int_equal(f.server->inflight_bytes, 0);
    end(&f);
}

/* Two requests cut at every pair of neighbouring places. */
static void test_every_split(void **state)
{
    (void)state;
    static struct fixture f;
    static const char bytes[] =
        "POST /echo?x=1 HTTP/1.1\r\n" HOST "Content-Length: 7\r\n\r\nabcdefg"
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nhij\r\n0\r\n\r\n";
    start(&f, NULL);
    for (size_t cut = 1; cut < sizeof(bytes) - 1; cut++) {
        const int fd = dial(&f);
        struct answer a;
        answer_init(&a);
        put(&f, fd, bytes, cut);
        turns(&f, 2);
        put(&f, fd, bytes + cut, sizeof(bytes) - 1 - cut);
        get(&f, fd, &a, 2, false, 0);
        assert_int_equal(a.n, 2);
        assert_memory_equal(a.body[0], "abcdefg", 7);
        assert_int_equal(a.body_len[0], 7);
        assert_memory_equal(a.body[1], "hij", 3);
        tg_buf_deinit(&a.text);
        (void)close(fd);
    }
    turns(&f, 4);
    end(&f);
}

static void test_header_limits(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, &(struct tg_http_server_config){.max_header_bytes = 1024});
    static char bytes[8192];
    /* exactly at the limit, and one byte over */
    for (int over = 0; over < 2; over++) {
        size_t n = (size_t)snprintf(bytes, sizeof(bytes), "GET / HTTP/1.1\r\n" HOST "X: ");
        while (n < 1024 + (size_t)over - 4) bytes[n++] = 'x';
        memcpy(bytes + n, "\r\n\r\n", 5);
        const struct exchange e = {"header size", bytes, over ? "431" : "200", over,
                                   over ? "over the limit of 1024 bytes (limits.headers)" : NULL};
        run_exchange(&f, &e, false);
        run_exchange(&f, &e, true);
    }
    /* without an end, much longer than the limit, and in the target */
    memset(bytes, 'x', sizeof(bytes) - 1);
    memcpy(bytes, "GET /", 5);
    run_exchange(&f, &(struct exchange){"endless", bytes, "431", true}, false);
    /* trailers count too */
    size_t n = (size_t)snprintf(
        bytes, sizeof(bytes), "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n");
    for (int i = 0; i < 30; i++)
        n += (size_t)snprintf(bytes + n, sizeof(bytes) - n, "X-Trailer: %040d\r\n", i);
    run_exchange(&f, &(struct exchange){"trailers", bytes, "431", true}, false);
    end(&f);

    start(&f, NULL);
    n = (size_t)snprintf(bytes, sizeof(bytes), "GET / HTTP/1.1\r\n" HOST);
    for (int i = 0; i < TG_HTTP_MAX_HEADERS - 1; i++)
        n += (size_t)snprintf(bytes + n, sizeof(bytes) - n, "X: %d\r\n", i);
    memcpy(bytes + n, "\r\n", 3);
    run_exchange(&f, &(struct exchange){"128 headers", bytes, "200"}, false);
    memcpy(bytes + n, "X: 1\r\n\r\n", 9);
    run_exchange(&f, &(struct exchange){"129 headers", bytes, "431", true}, false);
    n = (size_t)snprintf(bytes, sizeof(bytes), "GET /query?");
    for (int i = 0; i < 2000; i++) n += (size_t)snprintf(bytes + n, sizeof(bytes) - n, "a&");
    (void)snprintf(bytes + n, sizeof(bytes) - n, " HTTP/1.1\r\n" HOST "\r\n");
    run_exchange(&f, &(struct exchange){"many parameters", bytes, "200", false, "a0= a1= b=-"},
                 false);
    end(&f);

    struct tg_http_server *s;
    struct tg_err err;
    struct tg_loop *loop = tg_loop_new();
    assert_int_equal(tg_http_server_new(loop,
                                        &(struct tg_http_server_config){
                                            .address = "127.0.0.1:0", .max_header_bytes = 1 << 20},
                                        handler, NULL, &s, &err),
                     TG_ERR_INVALID);
    tg_loop_free(loop);
}

/* Megabytes in and out, with the body's growth, and the in-flight limit. */
static void test_large_bodies(void **state)
{
    (void)state;
    static struct fixture f;
    enum { SIZE = 3 << 20 };
    start(&f, &(struct tg_http_server_config){.max_body_bytes = SIZE,
                                              .max_inflight_body_bytes = SIZE + 70000});
    char *body = tg_malloc(SIZE + 4096);
    for (int chunked = 0; chunked < 2; chunked++) {
        const int fd = dial(&f);
        struct answer a;
        answer_init(&a);
        for (int round = 0; round < 2; round++) {
            char head[256];
            put(&f, fd, head,
                (size_t)snprintf(head, sizeof(head),
                                 "POST /echo HTTP/1.1\r\n" HOST "%s: %s\r\n\r\n",
                                 chunked ? "Transfer-Encoding" : "Content-Length",
                                 chunked ? "chunked" : "3145728"));
            for (size_t i = 0; i < SIZE; i++) body[i] = (char)('a' + i % 23);
            for (size_t i = 0; i < SIZE; i += SIZE / 16) {
                if (chunked)
                    put(&f, fd, head,
                        (size_t)snprintf(head, sizeof(head), "%x\r\n", (unsigned)SIZE / 16));
                put(&f, fd, body + i, SIZE / 16);
                if (chunked) put(&f, fd, "\r\n", 2);
            }
            if (chunked) put(&f, fd, "0\r\n\r\n", 5);
            get(&f, fd, &a, 1, false, 0);
            assert_int_equal(a.n, 1);
            assert_int_equal(a.status[0], 200);
            assert_int_equal(a.body_len[0], SIZE);
            assert_memory_equal(a.body[0], body, SIZE);
            tg_buf_reset(&a.text);
        }
        assert_int_equal(f.server->inflight_bytes, 0);
        tg_buf_deinit(&a.text);
        (void)close(fd);
    }
    /* two at once do not fit in flight: the second is told to come back */
    static const char half[] = "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 3145728\r\n\r\n";
    const int one = dial(&f);
    put(&f, one, half, sizeof(half) - 1);
    put(&f, one, body, SIZE);
    while (f.n_held < 1) tg_loop_once(f.loop, 1);
    const int two = dial(&f);
    struct answer a;
    answer_init(&a);
    put(&f, two, half, sizeof(half) - 1);
    put(&f, two, body, SIZE);
    get(&f, two, &a, 1, true, 0);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.status[0], 503);
    assert_non_null(strstr((char *)a.text.data, "Retry-After: 1\r\n"));
    assert_non_null(strstr((char *)a.text.data, "limits.inflight"));
    tg_buf_deinit(&a.text);
    (void)close(two);
    tg_http_reply_text(f.held[0], 200, "ok");
    f.held[0] = NULL;
    answer_init(&a);
    get(&f, one, &a, 1, false, 0);
    assert_int_equal(a.status[0], 200);
    assert_int_equal(f.server->inflight_bytes, 0);
    tg_buf_deinit(&a.text);
    (void)close(one);
    tg_free(body);
    end(&f);
}

/* A Content-Length that lies reserves little. */
static void test_lying_length(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    static const char head[] = "POST / HTTP/1.1\r\n" HOST "Content-Length: 67108864\r\n\r\nx";
    const int fd = dial(&f);
    put(&f, fd, head, sizeof(head) - 1);
    turns(&f, 5);
    assert_int_equal(tg_http_server_n_open_requests(f.server), 1);
    assert_true(f.server->inflight_bytes <= TG_HTTP_BODY_FIRST_BYTES);
    (void)close(fd);
    turns(&f, 5);
    end(&f);
}

struct slow {
    const char *name, *first, *trickle;
    const char *want; /* "" = closed without a reply */
    const char *has;
    struct tg_http_server_config config; /* only the deadline in question is short */
};

static void test_deadlines(void **state)
{
    (void)state;
    static const struct slow cases[] = {
        {"nothing at all", "", "", "", NULL, {.idle_timeout_ms = 60}},
        {"empty lines", "", "\r\n", "", NULL, {.idle_timeout_ms = 60}},
        {"header trickle",
         "GET / HTTP/1.1\r\nX: ",
         "x",
         "408",
         "limits.header_timeout",
         {.header_timeout_ms = 60}},
        {"body trickle",
         "POST / HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n",
         "x",
         "408",
         "limits.request_timeout",
         {.body_timeout_ms = 60}},
        {"chunk trickle",
         "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
         "1\r\nx\r\n",
         "408",
         "limits.request_timeout",
         {.body_timeout_ms = 60}},
        {"idle after a request",
         "GET / HTTP/1.1\r\n" HOST "\r\n",
         "",
         "200",
         NULL,
         {.idle_timeout_ms = 60}},
    };
    static struct fixture f;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start(&f, &cases[i].config);
        const int fd = dial(&f);
        struct answer a;
        answer_init(&a);
        const uint64_t began = tg_clock_mono_ms();
        put(&f, fd, cases[i].first, strlen(cases[i].first));
        while (!a.closed && !a.reset && tg_clock_mono_ms() < began + 5000) {
            if (a.n == 0) put(&f, fd, cases[i].trickle, strlen(cases[i].trickle));
            tg_loop_once(f.loop, 3);
            assert_int_equal(tg_buf_reserve(&a.text, 4097), TG_OK);
            const ssize_t got = recv(fd, a.text.data + a.text.len, 4096, 0);
            if (got > 0) a.text.len += (size_t)got;
            if (got == 0) a.closed = true;
            if (got < 0 && errno != EAGAIN) a.reset = true;
            a.text.data[a.text.len] = 0;
            parse_answer(&a, 0);
        }
        const uint64_t took = tg_clock_mono_ms() - began;
        if (!a.closed && !a.reset) fail_msg("%s: still open", cases[i].name);
        if (took < 50 || took > 2500)
            fail_msg("%s: took %llu ms", cases[i].name, (unsigned long long)took);
        char got[16] = "";
        if (a.n) (void)snprintf(got, sizeof(got), "%d", a.status[0]);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("%s: got \"%s\", want \"%s\"", cases[i].name, got, cases[i].want);
        if (cases[i].has && !strstr((char *)a.text.data, cases[i].has))
            fail_msg("%s: %s", cases[i].name, (char *)a.text.data);
        tg_buf_deinit(&a.text);
        (void)close(fd);
        assert_int_equal(tg_http_server_stats(f.server).n_timeouts,
                         strcmp(cases[i].want, "408") == 0);
        end(&f);
    }
}

/* A peer that does not read its reply is cut off after write_timeout. */
static void test_write_deadline(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, &(struct tg_http_server_config){.write_timeout_ms = 60});
    const int fd = dial(&f);
    static const char get_big[] = "GET /big HTTP/1.1\r\n" HOST "\r\n";
    const uint64_t began = tg_clock_mono_ms();
    while (tg_http_server_stats(f.server).n_connections < 1) tg_loop_once(f.loop, 1);
    /* more replies than the socket buffers hold */
    for (int i = 0; i < 40; i++) put(&f, fd, get_big, sizeof(get_big) - 1);
    while (tg_http_server_stats(f.server).n_connections > 0 && tg_clock_mono_ms() < began + 5000)
        tg_loop_once(f.loop, 5);
    assert_int_equal(tg_http_server_stats(f.server).n_connections, 0);
    assert_int_equal(tg_http_server_stats(f.server).n_timeouts, 1);
    (void)close(fd);
    end(&f);
}

static void test_late_replies(void **state)
{
    (void)state;
    static struct fixture f;
    static const char two[] = "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
                              "GET /second HTTP/1.1\r\n" HOST "\r\n";
    start(&f, NULL);
    const int fd = dial(&f);
    struct answer a;
    answer_init(&a);
    put(&f, fd, two, sizeof(two) - 1);
    while (f.n_held < 1) tg_loop_once(f.loop, 1);
    put(&f, fd, two, sizeof(two) - 1); /* waits in the kernel */
    turns(&f, 10);
    assert_int_equal(f.n_held, 1); /* the second waits its turn */
    assert_int_equal(tg_http_server_n_open_requests(f.server), 2);
    size_t len;
    assert_memory_equal(tg_http_body(f.held[0], &len), "abc", 3);
    assert_string_equal(tg_http_method(f.held[0]), "POST");
    assert_memory_equal(tg_http_peer(f.held[0]), "127.0.0.1:", 10);
    tg_http_set_user(f.held[0], &f);
    assert_ptr_equal(tg_http_user(f.held[0]), &f);
    tg_http_reply_text(f.held[0], 202, "late");
    f.held[0] = NULL;
    while (f.n_held < 2) tg_loop_once(f.loop, 1);
    assert_null(tg_http_user(f.held[1]));
    tg_http_reply_text(f.held[1], 203, "later");
    f.held[1] = NULL;
    get(&f, fd, &a, 4, false, 0);
    assert_int_equal(a.n, 4);
    assert_int_equal(a.status[0], 202);
    assert_int_equal(a.status[1], 200);
    assert_int_equal(a.status[2], 203);
    assert_int_equal(a.status[3], 200);
    tg_buf_deinit(&a.text);
    (void)close(fd);
    turns(&f, 3);
    end(&f);
}

/* The peer dies (with a reset) while its request is with the handler. */
static void test_reply_after_peer_died(void **state)
{
    (void)state;
    static struct fixture f;
    static const char bytes[] = "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc";
    start(&f, NULL);
    for (int round = 0; round < 3; round++) {
        const int fd = dial(&f);
        put(&f, fd, bytes, sizeof(bytes) - 1);
        while (f.n_held < 1) tg_loop_once(f.loop, 1);
        if (round == 2) (void)shutdown(fd, SHUT_WR); /* half-closed: still to be answered */
        if (round == 1) {
            const struct linger abort_it = {1, 0};
            (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it));
        }
        if (round < 2) (void)close(fd);
        turns(&f, 5);
        size_t len;
        assert_memory_equal(tg_http_body(f.held[0], &len), "abc", 3);
        tg_http_reply(f.held[0], 200, "text/plain", f.big, sizeof(f.big), NULL, 0);
        f.n_held = 0;
        if (round == 2) {
            struct answer a;
            answer_init(&a);
            get(&f, fd, &a, 1, true, 0);
            assert_int_equal(a.n, 1);
            assert_int_equal(a.body_len[0], sizeof(f.big));
            tg_buf_deinit(&a.text);
            (void)close(fd);
        }
        for (int i = 0; i < 100 && tg_http_server_stats(f.server).n_connections; i++)
            tg_loop_once(f.loop, 20);
        assert_int_equal(tg_http_server_stats(f.server).n_connections, 0);
        assert_int_equal(tg_http_server_n_open_requests(f.server), 0);
    }
    end(&f);
}

static void count_close(void *arg)
{
    ++*(unsigned *)arg;
}

/* Whoever works on a request may ask to be told when its peer goes: once, by a FIN or a reset, and
 * neither after the reply nor for a peer that is there. */
static void test_peer_that_goes_is_noticed(void **state)
{
    (void)state;
    static struct fixture f;
    static const char bytes[] = "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc";
    start(&f, NULL);
    for (int round = 0; round < 4; round++) {
        unsigned n = 0;
        const int fd = dial(&f);
        put(&f, fd, bytes, sizeof(bytes) - 1);
        while (f.n_held < 1) tg_loop_once(f.loop, 1);
        tg_http_on_peer_close(f.held[0], count_close, &n);
        turns(&f, 5);
        assert_int_equal(n, 0);
        if (round == 1) {
            const struct linger abort_it = {1, 0};
            (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it));
        }
        if (round == 2) (void)shutdown(fd, SHUT_WR); /* still to be answered */
        if (round < 2) (void)close(fd);
        for (int i = 0; i < 200 && n == 0 && round < 3; i++) tg_loop_once(f.loop, 10);
        turns(&f, 5);
        assert_int_equal(n, round < 3);
        tg_http_reply_text(f.held[0], 200, "still here");
        f.n_held = 0;
        if (round >= 2) {
            struct answer a;
            answer_init(&a);
            get(&f, fd, &a, 1, round == 2, 0);
            assert_int_equal(a.n, 1);
            assert_int_equal(a.status[0], 200);
            tg_buf_deinit(&a.text);
            (void)close(fd);
        }
        for (int i = 0; i < 100 && tg_http_server_stats(f.server).n_connections; i++)
            tg_loop_once(f.loop, 20);
        assert_int_equal(tg_http_server_stats(f.server).n_connections, 0);
        assert_int_equal(n, round < 3);
    }
    end(&f);
}

/* An error is answered before the body is in; the client keeps sending and still sees the answer.
 */
static void test_error_while_sending(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, &(struct tg_http_server_config){.max_body_bytes = 1000});
    const int fd = dial(&f);
    struct answer a;
    answer_init(&a);
    static const char head[] = "POST / HTTP/1.1\r\n" HOST "Content-Length: 4000000\r\n\r\n";
    put(&f, fd, head, sizeof(head) - 1);
    for (int i = 0; i < 4; i++) put(&f, fd, f.big, 1000000);
    get(&f, fd, &a, 1, true, 0);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.status[0], 413);
    assert_true(a.closed && !a.reset);
    tg_buf_deinit(&a.text);
    (void)close(fd);
    end(&f);
}

static void test_many_connections(void **state)
{
    (void)state;
    enum { N = 200, MAX = 100, REFUSALS = 13 };
    static struct fixture f;
    assert_int_equal(tg_http_server_n_refusals(MAX), REFUSALS);
    assert_int_equal(tg_http_server_n_refusals(1), 1);
    assert_int_equal(tg_http_server_n_refusals(1000000), TG_HTTP_EXTRA_CONNECTIONS);
    start(&f, &(struct tg_http_server_config){.max_connections = MAX});
    int fds[N];
    for (int i = 0; i < N; i++) {
        fds[i] = dial(&f);
        tg_loop_once(f.loop, 0);
    }
    turns(&f, 20);
    assert_int_equal(tg_http_server_stats(f.server).n_connections, MAX);
    static const char bytes[] = "GET / HTTP/1.1\r\n" HOST "\r\n";
    unsigned n_ok = 0;
    unsigned n_busy = 0;
    unsigned n_cut = 0;
    for (int i = 0; i < N; i++) {
        struct answer a;
        answer_init(&a);
        put(&f, fds[i], bytes, sizeof(bytes) - 1);
        get(&f, fds[i], &a, 1, false, 0);
        if (a.n && a.status[0] == 200) n_ok++;
        if (a.n && a.status[0] == 503) {
            n_busy++;
            assert_non_null(strstr((char *)a.text.data, "limits.connections"));
            assert_non_null(strstr((char *)a.text.data, "Retry-After: 1"));
        }
        if (!a.n) n_cut++;
        tg_buf_deinit(&a.text);
    }
    assert_int_equal(n_ok, MAX);
    assert_int_equal(n_busy, REFUSALS);
    assert_int_equal(n_cut, N - MAX - REFUSALS);
    assert_int_equal(tg_http_server_stats(f.server).n_refused_connections, N - MAX);
    for (int i = 0; i < N; i++) (void)close(fds[i]);
    for (int i = 0; i < 100 && tg_http_server_stats(f.server).n_connections; i++)
        tg_loop_once(f.loop, 10);
    /* room again */
    run_exchange(&f, &(struct exchange){"after", bytes, "200"}, false);
    end(&f);
}

/* More pipelined requests than one turn serves. */
static void test_deep_pipeline(void **state)
{
    (void)state;
    enum { N = 1000 };
    static struct fixture f;
    start(&f, NULL);
    static const char one[] = "GET /empty HTTP/1.1\r\n" HOST "\r\n";
    struct tg_buf all;
    tg_buf_init(&all, 0);
    for (int i = 0; i < N; i++) assert_int_equal(tg_buf_append(&all, one, sizeof(one) - 1), TG_OK);
    const int fd = dial(&f);
    struct answer a;
    answer_init(&a);
    put(&f, fd, (char *)all.data, all.len);
    size_t n = 0;
    const uint64_t until = tg_clock_mono_ms() + 10000;
    while (n < N && tg_clock_mono_ms() < until) {
        tg_loop_once(f.loop, 1);
        tg_buf_reset(&a.text);
        assert_int_equal(tg_buf_reserve(&a.text, 1 << 20), TG_OK);
        const ssize_t got = recv(fd, a.text.data, (1 << 20) - 1, 0);
        for (ssize_t i = 0; i < got; i++)
            if (a.text.data[i] == 'H') n++; /* of "HTTP/1.1" */
    }
    assert_int_equal(n, N);
    assert_int_equal(tg_http_server_stats(f.server).n_requests_total, N);
    tg_buf_deinit(&a.text);
    tg_buf_deinit(&all);
    (void)close(fd);
    end(&f);
}

static void test_stop_drains(void **state)
{
    (void)state;
    static struct fixture f;
    static const char hold[] = "GET /hold HTTP/1.1\r\n" HOST "\r\n";
    start(&f, NULL);
    const int idle = dial(&f);
    const int busy = dial(&f);
    struct answer a;
    answer_init(&a);
    put(&f, busy, hold, sizeof(hold) - 1);
    while (f.n_held < 1) tg_loop_once(f.loop, 1);
    assert_int_equal(tg_http_server_stats(f.server).n_connections, 2);
    tg_http_server_stop(f.server);
    tg_http_server_stop(f.server);
    assert_true(is_closed(&f, idle));
    assert_int_equal(tg_http_server_n_open_requests(f.server), 1);
    tg_http_reply_text(f.held[0], 200, "done");
    f.n_held = 0;
    get(&f, busy, &a, 1, true, 0);
    assert_int_equal(a.status[0], 200);
    assert_non_null(strstr((char *)a.text.data, "Connection: close"));
    assert_int_equal(tg_http_server_n_open_requests(f.server), 0);
    tg_buf_deinit(&a.text);
    (void)close(idle);
    (void)close(busy);
    end(&f);
}

static void test_stop_and_free_in_handler(void **state)
{
    (void)state;
    static struct fixture f;
    static const char bytes[] = "GET / HTTP/1.1\r\n" HOST "\r\n";
    start(&f, NULL);
    f.stop_in_handler = true;
    run_exchange(&f, &(struct exchange){"stop in handler", bytes, "200", true}, false);
    end(&f);

    start(&f, NULL);
    f.free_in_handler = true;
    const int fd = dial(&f);
    put(&f, fd, bytes, sizeof(bytes) - 1);
    turns(&f, 5);
    f.server = NULL;
    end(&f);
    (void)close(fd);

    /* freed with a request held: the request stays valid and its reply goes nowhere */
    start(&f, NULL);
    static const char hold[] = "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx";
    const int other = dial(&f);
    put(&f, other, hold, sizeof(hold) - 1);
    while (f.n_held < 1) tg_loop_once(f.loop, 1);
    tg_http_server_free(f.server);
    f.server = NULL;
    size_t len;
    assert_memory_equal(tg_http_body(f.held[0], &len), "x", 1);
    assert_string_equal(tg_http_path(f.held[0]), "/hold");
    end(&f);
    (void)close(other);
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        enum tg_code code;
        const char *has;
    } cases[] = {
        {"127.0.0.1:0", TG_OK, NULL},
        {"localhost:0", TG_OK, NULL},
        {":0", TG_OK, NULL},
        {"127.0.0.1", TG_ERR_INVALID, "has no port"},
        {"", TG_ERR_INVALID, "has no port"},
        {"127.0.0.1:", TG_ERR_INVALID, "bad port"},
        {"127.0.0.1:x", TG_ERR_INVALID, "bad port"},
        {"127.0.0.1:70000", TG_ERR_INVALID, "bad port"},
        {"::1:80", TG_ERR_INVALID, "[address]:port"},
        {"no.such.host.invalid:80", TG_ERR_INVALID, "no.such.host.invalid"},
        {"192.0.2.1:0", TG_ERR_IO, "cannot listen on 192.0.2.1:0"},
    };
    struct tg_loop *loop = tg_loop_new();
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        const size_t k = i / 2;
        struct tg_err err = {0};
        struct tg_http_server *s;
        const struct tg_http_server_config g = {.address = cases[k].address};
        const enum tg_code code = tg_http_server_new(loop, &g, handler, NULL, &s, &err);
        if (code != cases[k].code)
            fail_msg("%s: code %d: %s", cases[k].address, (int)code, err.msg);
        if (cases[k].has && !strstr(err.msg, cases[k].has))
            fail_msg("%s: %s", cases[k].address, err.msg);
        tg_http_server_free(s);
    }
    /* one address, several servers: only with reuse_port */
    struct tg_http_server *a;
    struct tg_http_server *b;
    struct tg_err err;
    char address[32];
    struct tg_http_server_config g = {.address = "127.0.0.1:0", .reuse_port = true};
    assert_int_equal(tg_http_server_new(loop, &g, handler, NULL, &a, &err), TG_OK);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", tg_http_server_port(a));
    g.address = address;
    assert_int_equal(tg_http_server_new(loop, &g, handler, NULL, &b, &err), TG_OK);
    tg_http_server_free(b);
    g.reuse_port = false;
    assert_int_equal(tg_http_server_new(loop, &g, handler, NULL, &b, &err), TG_ERR_IO);
    assert_non_null(strstr(err.msg, "another process"));
    tg_http_server_free(a);
    tg_loop_free(loop);
}

/* Out of descriptors: accepting pauses and goes on when there are some again. */
static void test_out_of_descriptors(void **state)
{
    (void)state;
    static struct fixture f;
    static const char bytes[] = "GET / HTTP/1.1\r\n" HOST "\r\n";
    start(&f, NULL);
    const int fd = dial(&f);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const int lowest = dup(0);
    (void)close(lowest);
    const struct rlimit none = {(rlim_t)lowest, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const uint64_t began = tg_clock_mono_ms();
    unsigned n_turns = 0;
    while (tg_clock_mono_ms() < began + 150) {
        tg_loop_once(f.loop, 50);
        n_turns++;
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(n_turns < 50); /* paused, not spinning */
    assert_int_equal(tg_http_server_stats(f.server).n_connections, 0);
    struct answer a;
    answer_init(&a);
    put(&f, fd, bytes, sizeof(bytes) - 1);
    get(&f, fd, &a, 1, false, 0);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.status[0], 200);
    tg_buf_deinit(&a.text);
    (void)close(fd);
    end(&f);
}

/* Every allocation fails once: the server answers, refuses or closes, but neither leaks nor hangs,
 * and goes on. */
static void test_failing_allocations(void **state)
{
    (void)state;
    static struct fixture f;
    static const char bytes[] =
        "POST /echo?a=b HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n"
        "GET /big HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
    unsigned n_good = 0;
    for (uint64_t n = 1; n < 500; n++) {
        memset(&f, 0, sizeof(f));
        f.loop = tg_loop_new();
        struct tg_err err;
        const struct tg_http_server_config g = {.address = "127.0.0.1:0"};
        tg_mem_fail_at(n);
        if (tg_http_server_new(f.loop, &g, handler, &f, &f.server, &err) != TG_OK) {
            assert_true(tg_mem_fail_fired());
            tg_mem_fail_at(0);
            tg_loop_free(f.loop);
            continue;
        }
        const int fd = dial(&f);
        static char in[1 << 16];
        bool open = true;
        size_t total = 0;
        (void)send(fd, bytes, sizeof(bytes) - 1, MSG_NOSIGNAL);
        const uint64_t until = tg_clock_mono_ms() + 3000;
        while (open && tg_clock_mono_ms() < until) {
            tg_loop_once(f.loop, 1);
            const ssize_t got = recv(fd, in, sizeof(in), 0);
            if (got > 0) total += (size_t)got;
            if (got == 0 || (got < 0 && errno != EAGAIN)) open = false;
        }
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (open) fail_msg("allocation %llu: hangs", (unsigned long long)n);
        if (total > sizeof(f.big)) n_good++;
        (void)close(fd);
        end(&f);
        if (!fired) break;
    }
    assert_true(n_good >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchanges),
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_header_limits),
        cmocka_unit_test(test_large_bodies),
        cmocka_unit_test(test_lying_length),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_write_deadline),
        cmocka_unit_test(test_late_replies),
        cmocka_unit_test(test_reply_after_peer_died),
        cmocka_unit_test(test_peer_that_goes_is_noticed),
        cmocka_unit_test(test_error_while_sending),
        cmocka_unit_test(test_many_connections),
        cmocka_unit_test(test_deep_pipeline),
        cmocka_unit_test(test_stop_drains),
        cmocka_unit_test(test_stop_and_free_in_handler),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_out_of_descriptors),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
