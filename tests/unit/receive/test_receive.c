/* The receivers behind a real HTTP server: what senders, browsers and Influx clients are answered,
 * byte by byte, and what of a request reaches the pipe. */
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
#include "core/receive/receive.h"
#include "tests/support/wire_bytes.h"

/* Rows of the tables below leave out what is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum { MAX_BODY = 4096, MAX_TIMES = 8 };

struct fixture {
    struct tg_loop *loop;
    struct tg_table *table;
    struct tg_receiver *receiver;
    struct tg_http_server *server;
    const char *not_ready;
    uint32_t n_points;
    int64_t ts_ns[MAX_TIMES];
    char answer[16384];
};

static void sink(void *arg, struct tg_ingest *in)
{
    struct fixture *f = arg;
    if (in->batch.n_points == 0) fail_msg("a request without points came to the sink");
    for (uint32_t i = 0; i < in->batch.n_points; i++) {
        if (f->n_points < MAX_TIMES) f->ts_ns[f->n_points] = in->batch.points[i].ts_ns;
        f->n_points++;
    }
    tg_ingest_reply(in, TG_OK, NULL);
}

static const char *admission(void *arg)
{
    return ((struct fixture *)arg)->not_ready;
}

static void start(struct fixture *f, const char *origins)
{
    memset(f, 0, sizeof(*f));
    const struct tg_table_config tc = {.max_series = 1000, .limits = tg_series_limits_default};
    f->table = tg_table_new(&tc);
    f->loop = tg_loop_new();
    const struct tg_receiver_config rc = {.table = f->table,
                                          .max_decompressed_bytes = 1 << 20,
                                          .origins = origins,
                                          .sink = sink,
                                          .admission = admission,
                                          .arg = f};
    f->receiver = tg_receiver_new(&rc);
    const struct tg_http_server_config sc = {.address = "127.0.0.1:0",
                                             .max_body_bytes = MAX_BODY,
                                             .body_timeout_ms = 200,
                                             .refusal = tg_receiver_refusal};
    struct tg_err err;
    if (tg_http_server_new(f->loop, &sc, tg_receiver_on_request, f->receiver, &f->server, &err) !=
        TG_OK)
        fail_msg("%s", err.msg);
}

static void end(struct fixture *f)
{
    tg_http_server_free(f->server);
    tg_receiver_free(f->receiver);
    tg_table_free(f->table);
    tg_loop_free(f->loop);
}

/* Sends the bytes and gives back all that comes until the server closes. */
static const char *exchange(struct fixture *f, const void *bytes, size_t len)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons(tg_http_server_port(f->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    const uint64_t until_ms = tg_clock_mono_ms() + 10000;
    size_t got = 0;
    for (;;) {
        const ssize_t n = recv(fd, f->answer + got, sizeof(f->answer) - 1 - got, 0);
        if (n == 0) break;
        if (n > 0) got += (size_t)n;
        if (n < 0 && errno != EAGAIN) break;
        if (tg_clock_mono_ms() > until_ms) fail_msg("no end after: %.*s", (int)got, f->answer);
        tg_loop_once(f->loop, 2);
    }
    (void)close(fd);
    f->answer[got] = '\0';
    for (size_t i = 0; i < got; i++) /* protobuf answers hold NULs; their texts are to be found */
        if (f->answer[i] == '\0') f->answer[i] = '.';
    return f->answer;
}

/* tidegate_receive_requests_refused_total over all protocols and classes. */
static uint64_t n_refused(void)
{
    uint64_t n = 0;
    for (int i = 0; i < TG_PROTOCOLS; i++)
        for (int c = 0; c < 6; c++) n += tg_metric_get(&tg_receive_metrics.refused[i][c]);
    return n;
}

/* Every answer that tells a sender of an error counts, once, and no other does. */
static void assert_counted(const char *name, const char *target, int status, uint64_t before)
{
    static const char *const paths[] = {"/v1/metrics", "/api/v1/write", "/write", "/api/v2/write",
                                        "/api/v3/write_lp"};
    bool is_ours = false;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
        is_ours |= strncmp(target, paths[i], strlen(paths[i])) == 0 &&
                   (target[strlen(paths[i])] == '\0' || target[strlen(paths[i])] == '?');
    const uint64_t want = before + (is_ours && status >= 400);
    if (n_refused() != want)
        fail_msg("%s: %llu refused, want %llu", name, (unsigned long long)n_refused(),
                 (unsigned long long)want);
}

struct row {
    const char *name, *method, *target, *headers, *body;
    int status;
    const char *has;   /* in the answer, each of them; separated by '~' */
    const char *lacks; /* not in it */
    uint32_t n_points; /* that reached the sink */
};

static void run(struct fixture *f, const struct row *r)
{
    char bytes[8192];
    const int n =
        snprintf(bytes, sizeof(bytes),
                 "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%s%s%zu\r\n\r\n%s",
                 r->method, r->target, r->headers ? r->headers : "",
                 "Content-Length: ", r->body ? strlen(r->body) : 0, r->body ? r->body : "");
    f->n_points = 0;
    const uint64_t refused = n_refused();
    const char *answer = exchange(f, bytes, (size_t)n);
    int status = 0;
    if (sscanf(answer, "HTTP/1.1 %3d", &status) != 1 || status != r->status)
        fail_msg("%s: status %d, want %d:\n%s", r->name, status, r->status, answer);
    assert_counted(r->name, r->target, status, refused);
    if (!strstr(answer, "\r\nDate: ")) fail_msg("%s: no Date:\n%s", r->name, answer);
    for (const char *p = r->has; p && *p;) {
        char want[256];
        const size_t len = strcspn(p, "~");
        (void)snprintf(want, sizeof(want), "%.*s", (int)len, p);
        if (!strstr(answer, want)) fail_msg("%s: no \"%s\" in:\n%s", r->name, want, answer);
        p += len + (p[len] == '~');
    }
    if (r->lacks && strstr(answer, r->lacks))
        fail_msg("%s: \"%s\" is in:\n%s", r->name, r->lacks, answer);
    if (f->n_points != r->n_points)
        fail_msg("%s: %u points, want %u:\n%s", r->name, f->n_points, r->n_points, answer);
}

static void run_all(struct fixture *f, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (int twice = 0; twice < 2; twice++) run(f, &rows[i]);
}

#define RUN_ALL(f, rows) run_all(f, rows, sizeof(rows) / sizeof((rows)[0]))
#define PROTOBUF         "Content-Type: application/x-protobuf\r\n"
#define FORM             "Content-Type: application/x-www-form-urlencoded\r\n"

/* --- errors in each protocol's own form, whoever finds them --- */

static const struct row errors[] = {
    {"otlp: media type that only begins alike", "POST", "/v1/metrics",
     "Content-Type: application/x-protobuf-foo\r\n", "", 415,
     "application/json~\"code\":12~is not supported here"},
    {"otlp: parameters are left aside", "POST", "/v1/metrics",
     "Content-Type: Application/X-Protobuf ; charset=x\r\n", "", 200},
    {"otlp: method", "GET", "/v1/metrics", NULL, NULL, 405,
     "Allow: POST~application/json~\"code\":12~this path takes POST"},
    {"otlp: method, protobuf", "GET", "/v1/metrics", PROTOBUF, NULL, 405,
     "Content-Type: application/x-protobuf~\x08\x0c\x12\x14this path takes POST"},
    {"otlp: malformed", "POST", "/v1/metrics", PROTOBUF, "\xff", 400,
     "Content-Type: application/x-protobuf~\x08\x03\x12"},
    {"otlp: Expect is refused by the server", "POST", "/v1/metrics", PROTOBUF "Expect: x\r\n", "",
     417, "Content-Type: application/x-protobuf~\x08\x03\x12"},
    {"remote write: media type that only begins alike", "POST", "/api/v1/write",
     "Content-Type: application/x-protobuf2\r\n", "", 415, "text/plain"},
    {"remote write: 2.0", "POST", "/api/v1/write",
     "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\n", "\x00", 415,
     "proto=\"io.prometheus.write.v2.Request\" is not supported here; send"},
    {"remote write: an unknown message", "POST", "/api/v1/write",
     "Content-Type: application/x-protobuf; proto=\"a.B\"\r\n", "\x00", 415, "not supported"},
    {"remote write: not snappy", "POST", "/api/v1/write", PROTOBUF "Content-Encoding: gzip\r\n", "",
     415, "text/plain~Content-Encoding \"gzip\": remote write 1.0 bodies are snappy"},
    {"influx 2: another encoding", "POST", "/api/v2/write", "Content-Encoding: br\r\n", "m f=1\n",
     415, "\"code\":\"unsupported media type\""},
    {"influx 1: method", "GET", "/write", NULL, NULL, 405, "{\"error\":\"this path takes POST\"}"},
    {"influx 2: method", "PUT", "/api/v2/write", NULL, NULL, 405,
     "\"code\":\"method not allowed\"~\"message\":\"this path takes POST\""},
    {"influx 2: Expect", "POST", "/api/v2/write", "Expect: x\r\n", "", 417,
     "application/json~\"code\":\"invalid\"~Expect: \\\"x\\\" is not served"},
    {"otlp: traces", "POST", "/v1/traces", PROTOBUF, "", 404,
     "Content-Type: application/x-protobuf~\x08\x0c\x12~Tidegate takes metrics only~/v1/metrics"},
    {"otlp: logs, JSON", "POST", "/v1/logs", "Content-Type: application/json\r\n", "{}", 404,
     "application/json~\"code\":12,\"message\":\"no receiver at /v1/logs: Tidegate takes metrics "
     "only"},
    {"otlp: profiles", "POST", "/v1development/profiles", PROTOBUF, "", 404,
     "Content-Type: application/x-protobuf~\x08\x0c\x12~Tidegate takes metrics only"},
    {"otlp: a slash too many", "POST", "/v1/metrics/", PROTOBUF, "", 404,
     "Content-Type: application/x-protobuf~\x08\x0c\x12~no receiver at /v1/metrics/"},
    {"no receiver", "POST", "/v2/metrics", NULL, "", 404, "text/plain~no receiver at /v2/metrics"},
};

static void test_errors(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    RUN_ALL(&f, errors);
    end(&f);
}

/* Too large, and too slow: said by the server before a receiver sees the request. */
static void test_refusals_of_the_server(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    static const struct {
        const char *target, *headers;
        int length; /* declared; the body never comes */
        const char *status, *has;
    } rows[] = {
        {"/v1/metrics", PROTOBUF, MAX_BODY + 1, " 413 ",
         "Content-Type: application/x-protobuf\r\n~\x08\x08\x12"},
        {"/v1/metrics", "Content-Type: application/json\r\n", MAX_BODY + 1, " 413 ",
         "Content-Type: application/json\r\n~{\"code\":8,\"message\":\"request body of 4097 bytes"},
        {"/v1/metrics", PROTOBUF, 5, " 408 ",
         "Content-Type: application/x-protobuf\r\n~\x08\x04\x12~limits.request_timeout"},
        {"/api/v2/write", "", MAX_BODY + 1, " 413 ",
         "{\"code\":\"request too large\",\"message\":"},
        {"/write", "", MAX_BODY + 1, " 413 ", "{\"error\":\"request body of 4097 bytes"},
        {"/api/v1/write", PROTOBUF, MAX_BODY + 1, " 413 ", "text/plain"},
        {"/nowhere", "", MAX_BODY + 1, " 413 ", "text/plain"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char bytes[512];
        const int n = snprintf(bytes, sizeof(bytes),
                               "POST %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n",
                               rows[i].target, rows[i].headers, rows[i].length);
        const uint64_t refused = n_refused();
        const char *answer = exchange(&f, bytes, (size_t)n);
        if (!strstr(answer, rows[i].status)) fail_msg("%s: %s", rows[i].target, answer);
        assert_counted(rows[i].target, rows[i].target, 400, refused);
        for (const char *p = rows[i].has; *p;) {
            char want[128];
            const size_t len = strcspn(p, "~");
            (void)snprintf(want, sizeof(want), "%.*s", (int)len, p);
            if (!strstr(answer, want))
                fail_msg("%s: no \"%s\" in %s", rows[i].target, want, answer);
            p += len + (p[len] == '~');
        }
    }
    end(&f);
}

static void test_date(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    const struct row ping = {"ping", "GET", "/ping", NULL, NULL, 204};
    run(&f, &ping);
    struct tm tm = {0};
    const char *date = strstr(f.answer, "\r\nDate: ") + 8;
    const char *rest = strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    assert_non_null(rest);
    assert_memory_equal(rest, "\r\n", 2);
    const long long off = (long long)timegm(&tm) - (long long)time(NULL);
    assert_in_range(off + 3, 0, 4); /* up to 3 s late, 1 s early */
    end(&f);
}

/* --- web pages --- */

#define PAGE "Origin: https://app.example.com\r\n"

static const struct row strangers[] = {
    {"a page posts lines", "POST", "/write", "Origin: http://evil.example\r\n", "m f=1\n", 403,
     "{\"error\":\"web pages of ~listen.origins", "Access-Control"},
    {"a page posts OTLP", "POST", "/v1/metrics", PROTOBUF "Origin: http://evil.example\r\n", "",
     403, "application/x-protobuf~\x08\x07\x12", "Access-Control"},
    {"a sandboxed page", "POST", "/api/v2/write", "Origin: null\r\n", "m f=1\n", 403,
     "\"code\":\"forbidden\"", "Access-Control"},
    {"a rebound name is its own origin", "POST", "/write", "Origin: http://127.0.0.1\r\n",
     "m f=1\n", 403, "listen.origins", "Access-Control"},
    {"preflight of a page", "OPTIONS", "/v1/metrics",
     PAGE "Access-Control-Request-Method: POST\r\n", NULL, 403, "listen.origins", "Access-Control"},
    {"a page makes a database", "POST", "/query?q=CREATE%20DATABASE%20x", PAGE, NULL, 403,
     "listen.origins", "Access-Control"},
    {"a program", "POST", "/write", NULL, "m f=1\n", 204, NULL, "Access-Control", 1},
};
static const struct row guests[] = {
    {"an allowed page", "POST", "/write", PAGE, "m f=1\n", 204,
     "Access-Control-Allow-Origin: https://app.example.com\r\n~Vary: Origin\r\n", NULL, 1},
    {"its bad lines", "POST", "/write", PAGE, "m\n", 400,
     "Access-Control-Allow-Origin: https://app.example.com\r\n", NULL, 0},
    {"its preflight", "OPTIONS", "/v1/metrics",
     PAGE "Access-Control-Request-Method: POST\r\n"
          "Access-Control-Request-Headers: content-type,x-tenant\r\n",
     NULL, 204,
     "Access-Control-Allow-Origin: https://app.example.com\r\n~Access-Control-Allow-Methods: "
     "POST\r\n~Access-Control-Allow-Headers: content-type,x-tenant\r\n~Vary: Origin\r\n~"
     "Access-Control-Max-Age: 86400\r\n~Allow: POST\r\n"},
    {"its preflight without headers", "OPTIONS", "/write",
     PAGE "Access-Control-Request-Method: POST\r\n", NULL, 204, "Access-Control-Max-Age: 86400\r\n",
     "Access-Control-Allow-Headers"},
    {"a program beside it", "POST", "/write", NULL, "m f=1\n", 204, NULL, "Access-Control", 1},
    {"the second of the list", "POST", "/write", "Origin: http://localhost:3000\r\n", "m f=1\n",
     204, "Access-Control-Allow-Origin: http://localhost:3000\r\n", NULL, 1},
    {"another port", "POST", "/write", "Origin: http://localhost:3001\r\n", "m f=1\n", 403},
    {"a prefix", "POST", "/write", "Origin: https://app.example.com.evil\r\n", "m f=1\n", 403},
};
static const struct row anyone[] = {
    {"any page", "POST", "/write", "Origin: http://evil.example\r\n", "m f=1\n", 204,
     "Access-Control-Allow-Origin: http://evil.example\r\n", NULL, 1},
    {"a sandboxed page", "POST", "/write", "Origin: null\r\n", "m f=1\n", 204,
     "Access-Control-Allow-Origin: null\r\n", NULL, 1},
};

static void test_web_pages(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    RUN_ALL(&f, strangers);
    end(&f);
    start(&f, "https://app.example.com, http://localhost:3000");
    RUN_ALL(&f, guests);
    end(&f);
    start(&f, "*");
    RUN_ALL(&f, anyone);
    end(&f);
}

/* --- Influx clients --- */

#define TEN "abcdefghij"

static const struct row influx[] = {
    {"1: partial", "POST", "/write", NULL, "m f=1\nbad\nm f=2\n", 400,
     "{\"error\":\"partial write: line 2: ~dropped=1\"}", NULL, 2},
    {"2: partial", "POST", "/api/v2/write", NULL, "bad\nm f=2\n", 400,
     "\"code\":\"invalid\"~partial write: line 1", NULL, 1},
    {"3: good", "POST", "/api/v3/write_lp?db=x", NULL, "m f=1\n", 204, NULL, NULL, 1},
    {"3: partial", "POST", "/api/v3/write_lp?db=x&accept_partial=true", NULL,
     "m f=1\nm,a=b f=\nm f=2\n", 400,
     "{\"error\":\"partial write of line protocol occurred\",\"data\":[{\"original_line\":\"m,a=b "
     "f=\",\"line_number\":2,\"error_message\":\"",
     NULL, 2},
    {"3: whole or nothing", "POST", "/api/v3/write_lp?db=x&accept_partial=false", NULL,
     "m f=1\nm,a=b f=\nm f=2\n", 400,
     "{\"error\":\"parsing failed for write_lp endpoint\",\"data\":{\"original_line\":\"m,a=b "
     "f=\",\"line_number\":2,",
     NULL, 0},
    {"3: neither true nor false", "POST", "/api/v3/write_lp?accept_partial=maybe", NULL, "m f=1\n",
     400, "{\"error\":\"accept_partial \\\"maybe\\\" is neither true nor false", NULL, 0},
    {"3: nothing said", "POST", "/api/v3/write_lp?accept_partial=", NULL, "m f=1\n", 400,
     "neither true nor false", NULL, 0},
    {"2: knows no accept_partial", "POST", "/api/v2/write?accept_partial=maybe", NULL, "m f=1\n",
     204, NULL, NULL, 1},
    {"3: whole", "POST", "/api/v3/write_lp?db=x&accept_partial=false", NULL, "m f=1\nm f=2\n", 204,
     NULL, NULL, 2},
    {"3: the last line has no end", "POST", "/api/v3/write_lp", NULL, "m f=1\nlast", 400,
     "\"original_line\":\"last\",\"line_number\":2", NULL, 1},
    {"3: a long line is cut between characters", "POST", "/api/v3/write_lp", NULL,
     TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "123456\xc3\xa4\n", 400,
     "\"original_line\":\"" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "123456\""},
    {"1: an empty precision is none", "POST", "/write?precision=", NULL, "m f=1\n", 204, NULL, NULL,
     1},
    {"3: a line that is no UTF-8", "POST", "/api/v3/write_lp", NULL, "m\xff\n", 400,
     "\"original_line\":\"\",\"line_number\":1"},
    {"3: precision", "POST", "/api/v3/write_lp?precision=fortnight", NULL, "m f=1\n", 400,
     "{\"error\":\"precision "},
    {"query: create", "POST", "/query?q=CREATE%20DATABASE%20%22telegraf%22", NULL, NULL, 200,
     "{\"results\":[{\"statement_id\":0}]}"},
    {"query: create as a form", "POST", "/query", FORM, "db=&q=create+database+%22a%3Bb%22%3B", 200,
     "{\"results\":[{\"statement_id\":0}]}"},
    {"query: show", "GET", "/query?q=SHOW+DATABASES", NULL, NULL, 200,
     "\"series\":[{\"name\":\"databases\",\"columns\":[\"name\"],\"values\":[[\"tidegate\"]]}]"},
    {"query: two", "GET", "/query?q=show+databases;create+database+x", NULL, NULL, 200,
     "\"statement_id\":0~\"statement_id\":1"},
    {"query: select", "GET", "/query?q=SELECT+*+FROM+m", NULL, NULL, 200,
     "{\"results\":[{\"statement_id\":0,\"error\":\"not executed: this is Tidegate"},
    {"query: drop", "POST", "/query?q=DROP+DATABASE+x", NULL, NULL, 200,
     "\"error\":\"not executed"},
    {"query: nonsense", "GET", "/query?q=FROB+x", NULL, NULL, 400,
     "{\"error\":\"error parsing query: found \\\"FROB\\\", expected SELECT, DELETE"},
    {"query: nothing", "GET", "/query", NULL, NULL, 400,
     "{\"error\":\"missing required parameter \\\"q\\\"\"}"},
    {"ping", "GET", "/ping", NULL, NULL, 204, "X-Influxdb-Version: tidegate-"},
    {"ping: head", "HEAD", "/ping", NULL, NULL, 204, "X-Influxdb-Version: tidegate-"},
    {"health", "GET", "/health", NULL, NULL, 200, "\"name\":\"tidegate\",\"status\":\"pass\""},
    {"ready", "GET", "/ready", NULL, NULL, 200,
     "{\"status\":\"ready\",\"started\":\"20~\"up\":\"0h0m"},
};
static const struct row influx_not_ready[] = {
    {"health", "GET", "/health", NULL, NULL, 503, "\"status\":\"fail\",\"message\":\"closed\""},
    {"ready", "GET", "/ready", NULL, NULL, 503, "\"code\":\"unavailable\",\"message\":\"closed\""},
    {"write", "POST", "/api/v3/write_lp", NULL, "m f=1\n", 503,
     "Retry-After: 5~{\"error\":\"closed"},
    {"write to 2", "POST", "/api/v2/write", NULL, "m f=1\n", 503,
     "Retry-After: 5~\"code\":\"unavailable\",\"message\":\"closed\""},
    {"remote write", "POST", "/api/v1/write", PROTOBUF, "", 503, "Retry-After: 5~closed"},
    {"otlp", "POST", "/v1/metrics", PROTOBUF, "", 503,
     "Retry-After: 5~Content-Type: application/x-protobuf~\x08\x0e\x12"},
};

static void test_influx_clients(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    RUN_ALL(&f, influx);
    f.not_ready = "closed";
    RUN_ALL(&f, influx_not_ready);
    end(&f);
}

/* --- what is counted --- */

/* Posts these bytes; the answer. */
static const char *post(struct fixture *f, const char *target, const char *headers,
                        const struct bytes *body)
{
    char bytes[2048];
    const int n = snprintf(bytes, sizeof(bytes),
                           "POST %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%sContent-Length: "
                           "%zu\r\n\r\n",
                           target, headers, body->n);
    assert_true((size_t)n + body->n <= sizeof(bytes));
    memcpy(bytes + n, body->d, body->n);
    return exchange(f, bytes, (size_t)n + body->n);
}

/* As a block of snappy: one literal of up to 256 bytes. */
static struct bytes snappy(struct bytes b)
{
    struct bytes out = {.n = 0};
    assert_true(b.n > 60 && b.n <= 256);
    if (b.n >= 0x80) out.d[out.n++] = (uint8_t)(b.n | 0x80);
    out.d[out.n++] = (uint8_t)(b.n >= 0x80 ? b.n >> 7 : b.n);
    out.d[out.n++] = 60 << 2;
    out.d[out.n++] = (uint8_t)(b.n - 1);
    memcpy(out.d + out.n, b.d, b.n);
    out.n += b.n;
    return out;
}

struct counts {
    uint64_t requests, points, rejected, bytes, exemplars, taken, not_taken, attributes;
};

static struct counts counts_of(int protocol)
{
    const struct tg_receive_metrics *m = &tg_receive_metrics;
    return (struct counts){
        .requests = tg_metric_get(&m->requests[protocol]),
        .points = tg_metric_get(&m->points[protocol]),
        .rejected = tg_metric_get(&m->rejected[protocol]),
        .bytes = tg_metric_get(&m->bytes[protocol]),
        .exemplars = tg_metric_get(&m->exemplars_invalid[protocol]),
        .taken = tg_metric_get(&m->metadata[protocol][TG_HELP_NOTED]),
        .not_taken = tg_metric_get(&m->metadata[protocol][TG_HELP_INVALID]),
        .attributes = tg_metric_get(&m->attributes_twice),
    };
}

static void assert_counts(int protocol, struct counts before, struct counts want)
{
    const struct counts now = counts_of(protocol);
    assert_int_equal(now.requests - before.requests, want.requests);
    assert_int_equal(now.points - before.points, want.points);
    assert_int_equal(now.rejected - before.rejected, want.rejected);
    assert_int_equal(now.bytes - before.bytes, want.bytes);
    assert_int_equal(now.exemplars - before.exemplars, want.exemplars);
    assert_int_equal(now.taken - before.taken, want.taken);
    assert_int_equal(now.not_taken - before.not_taken, want.not_taken);
    assert_int_equal(now.attributes - before.attributes, want.attributes);
}

static struct bytes label(const char *name, const char *value)
{
    return field(1, JOIN(text(1, name), text(2, value)));
}

static void test_counts_of_remote_write(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    const struct bytes sample = field(2, varint(2, 5));
    const struct bytes exemplar = field(3, JOIN(label("a", "1"), label("a", "2")));
    const struct bytes body =
        snappy(JOIN(field(1, JOIN(label("__name__", "m"), sample, sample, exemplar)),
                    field(1, JOIN(label("no", "name"), sample)),
                    field(3, JOIN(text(2, "m"), text(4, "H"))), field(3, text(4, "Of what?"))));
    const struct counts before = counts_of(1);
    const char *answer = post(&f, "/api/v1/write", PROTOBUF, &body);
    if (!strstr(answer, " 400 ") || !strstr(answer, "1 of 3 samples were refused"))
        fail_msg("%s", answer);
    assert_int_equal(f.n_points, 2);
    assert_counts(1, before,
                  (struct counts){.requests = 1,
                                  .points = 2,
                                  .rejected = 1,
                                  .bytes = body.n,
                                  .exemplars = 1,
                                  .taken = 1,
                                  .not_taken = 1});
    end(&f);
}

static void test_counts_of_otlp(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    const struct bytes attribute = field(7, JOIN(text(1, "a"), field(2, text(1, "v"))));
    const struct bytes good = field(1, JOIN(fixed(3, 9), fixed(4, 0), attribute, attribute));
    const struct bytes bad = field(1, fixed(3, 9)); /* no value */
    for (uint64_t n_bad = 1; n_bad <= 2; n_bad++) {
        const struct bytes data = n_bad == 1 ? JOIN(good, bad) : JOIN(good, bad, bad);
        const struct bytes body =
            field(1, field(2, field(2, JOIN(text(1, "m"), text(2, "H"), field(5, data)))));
        const struct counts before = counts_of(0);
        const char *answer = post(&f, "/v1/metrics", PROTOBUF, &body);
        if (!strstr(answer, " 200 ") || !strstr(answer, "neither as_double nor as_int"))
            fail_msg("%s", answer);
        /* partial_success { rejected_data_points } */
        if (!strstr(answer, n_bad == 1 ? "\x08\x01\x12" : "\x08\x02\x12") ||
            !strstr(answer, "(the first of ") != (n_bad == 1))
            fail_msg("%s", answer);
        assert_counts(0, before,
                      (struct counts){.requests = 1,
                                      .points = 1,
                                      .rejected = n_bad,
                                      .bytes = body.n,
                                      .taken = n_bad == 1, /* the series is new */
                                      .attributes = n_bad == 1});
    }
    end(&f);
}

/* A point without a time gets the server's, cut to the precision; InfluxDB 3 tells the unit of a
 * timestamp by its size. */
static void test_times(void **state)
{
    (void)state;
    static struct fixture f;
    start(&f, NULL);
    static const struct {
        const char *target, *body;
        int64_t ts_ns; /* 0: now, a multiple of `unit_ns` */
        int64_t unit_ns;
    } rows[] = {
        {"/write?precision=s", "m f=1\n", 0, 1000000000},
        {"/write?precision=m", "m f=1\n", 0, 60000000000},
        {"/api/v2/write?precision=ms", "m f=1\n", 0, 1000000},
        {"/api/v3/write_lp?precision=second", "m f=1\n", 0, 1000000000},
        {"/api/v3/write_lp?precision=millisecond", "m f=1 1700000000000\n", 1700000000000000000, 1},
        {"/api/v3/write_lp", "m f=1 4999999999\n", 4999999999000000000, 1},
        {"/api/v3/write_lp?precision=auto", "m f=1 1700000000000\n", 1700000000000000000, 1},
        {"/api/v3/write_lp", "m f=1 1700000000000000\n", 1700000000000000000, 1},
        {"/api/v3/write_lp", "m f=1 1700000000000000000\n", 1700000000000000000, 1},
        {"/api/v3/write_lp", "m f=1 -5\n", -5000000000, 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row r = {rows[i].target, "POST", rows[i].target, NULL, rows[i].body, 204, NULL,
                              NULL,           1};
        run(&f, &r);
        const int64_t now_ns = tg_clock_wall_ns();
        if (rows[i].ts_ns) {
            assert_int_equal(f.ts_ns[0], rows[i].ts_ns);
        } else {
            assert_int_equal(f.ts_ns[0] % rows[i].unit_ns, 0);
            assert_true(f.ts_ns[0] <= now_ns &&
                        now_ns - f.ts_ns[0] < rows[i].unit_ns + 20000000000);
        }
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),         cmocka_unit_test(test_refusals_of_the_server),
        cmocka_unit_test(test_date),           cmocka_unit_test(test_web_pages),
        cmocka_unit_test(test_influx_clients), cmocka_unit_test(test_counts_of_remote_write),
        cmocka_unit_test(test_counts_of_otlp), cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
