/* The admin port before a real gateway: every endpoint, its mistakes, and draining. */
#include "core/admin/admin.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/hash.h"
#include "core/net/http_client.h"

struct fixture {
    char dir[64], log_dir[96], dead_dir[96], tags[96];
    struct tg_arena arena;
    struct tg_config config;
    struct tg_backend_config backends[1];
    const char *names[1];
    struct tg_loop *loop;
    struct tg_gateway *gateway;
    struct tg_admin *admin;
    struct tg_http_client *client;
    /* the last answer */
    bool done;
    int status;
    char body[65536];
};

static void write_tags(const struct fixture *f, const char *text)
{
    FILE *out = fopen(f->tags, "we");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/* InfluxDB, but the metric "five" has five rows, and a query for "endless" ends when it is told to.
 */
static struct tg_backend_ops scripted;

static void query_range(struct tg_backend *b, const struct tg_query *q, tg_on_row on_row,
                        tg_on_query_end on_end, void *arg)
{
    static const struct tg_series_desc series = {.name = "five", .name_len = 4};
    if (q->name && strcmp(q->name, "endless") == 0) {
        struct tg_err err;
        while (!tg_query_must_stop(q->stop)) (void)usleep(1000);
        on_end(arg, tg_fail(&err, TG_ERR_CANCELED, "given up"), &err);
        return;
    }
    if (q->name && strcmp(q->name, "slow") == 0) {
        on_end(arg, TG_OK, NULL);
        return;
    }
    if (!q->name || strcmp(q->name, "five") != 0) {
        tg_backend_influxdb.query_range(b, q, on_row, on_end, arg);
        return;
    }
    for (uint32_t i = 0; i < 5 && i < q->max_rows; i++) {
        const struct tg_point p = {.type = TG_VALUE_DOUBLE, .value.f64 = 1, .ts_ns = i};
        if (!on_row(arg, &(struct tg_query_row){&series, &p})) break;
    }
    on_end(arg, TG_OK, NULL);
}

static int start(void **state)
{
    scripted = tg_backend_influxdb;
    scripted.query_range = query_range;
    static struct fixture f;
    memset(&f, 0, sizeof(f));
    struct tg_err err = {.msg = ""};
    tg_hash_seed(0);
    (void)snprintf(f.dir, sizeof(f.dir), "/tmp/tg-admin-XXXXXX");
    if (!mkdtemp(f.dir)) return -1;
    (void)snprintf(f.log_dir, sizeof(f.log_dir), "%s/log", f.dir);
    (void)snprintf(f.dead_dir, sizeof(f.dead_dir), "%s/dead", f.dir);
    (void)snprintf(f.tags, sizeof(f.tags), "%s/tags.lua", f.dir);
    write_tags(&f, "return function(series) series.tags.seen = 'yes' end\n");
    tg_arena_init(&f.arena, 0);
    f.names[0] = "sink";
    struct tg_backend_config *b = &f.backends[0];
    *b = (struct tg_backend_config){.name = "sink",
                                    .ops = &scripted,
                                    .from_start = true,
                                    .batch_points = 1000,
                                    .retry_min_ms = 50,
                                    .retry_max_ms = 1000,
                                    .health_every_ms = 60000};
    if (tg_options_init(&b->options, b->ops->options, &f.arena) != TG_OK ||
        tg_options_set(&b->options, "url", "http://127.0.0.1:1", &f.arena, &err) != TG_OK ||
        tg_options_set(&b->options, "database", "db", &f.arena, &err) != TG_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    f.config = (struct tg_config){
        .dir = f.dir,
        .admin_hosts = "gw.example",
        .http_address = "127.0.0.1:0",
        .admin_address = "127.0.0.1:0",
        .log = {.dir = f.log_dir,
                .sync = TG_SYNC_NEVER,
                .max_bytes = 16 << 20,
                .segment_bytes = 1 << 20},
        .rules = {.tags_path = f.tags,
                  .backends = f.names,
                  .n_backends = 1,
                  .n_slots = 1,
                  .max_instructions = INT64_MAX}, /* the time alone bounds a script */
        .limits = {.max_series = 1000,
                   .series_limits = tg_series_limits_default,
                   .max_body_bytes = 1 << 20,
                   .max_decompressed_bytes = 4 << 20,
                   .max_inflight_body_bytes = 16 << 20,
                   .max_header_bytes = 16384,
                   .max_connections = 64,
                   .header_timeout_ms = 10000,
                   .request_timeout_ms = 10000,
                   .idle_timeout_ms = 10000,
                   .ack_timeout_ms = 5000,
                   .drain_timeout_ms = 100},
        .n_workers = 1,
        .backends = f.backends,
        .n_backends = 1,
        .dead_letter_dir = f.dead_dir,
        .max_dead_letter_bytes = 1 << 20,
    };
    f.loop = tg_loop_new();
    f.client = tg_http_client_new(f.loop, NULL);
    if (tg_gateway_start(&f.config, &f.gateway, &err) != TG_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    const struct tg_admin_config admin = {
        .loop = f.loop, .address = "127.0.0.1:0", .gateway = f.gateway, .config = &f.config};
    if (tg_admin_new(&admin, &f.admin, &err) != TG_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return -1;
    }
    *state = &f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;
    tg_admin_detach(f->admin);
    tg_gateway_stop(f->gateway);
    while (tg_admin_n_pending(f->admin)) tg_loop_once(f->loop, 100);
    tg_http_client_free(f->client);
    tg_admin_free(f->admin);
    tg_loop_free(f->loop);
    tg_arena_deinit(&f->arena);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    return system(command);
}

static void on_result(void *arg, const struct tg_http_result *r)
{
    struct fixture *f = arg;
    f->done = true;
    f->status = r->status;
    if (r->code != TG_OK) fail_msg("no answer: %s", r->message);
    (void)snprintf(f->body, sizeof(f->body), "%.*s", (int)r->len, (const char *)r->body);
}

static int ask(struct fixture *f, const char *method, const char *path, const char *origin)
{
    char url[512];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", tg_admin_port(f->admin), path);
    const struct tg_http_client_header header = {"Origin", origin};
    const struct tg_http_call call = {.method = method,
                                      .url = url,
                                      .headers = &header,
                                      .n_headers = origin ? 1 : 0,
                                      .body = "",
                                      .timeout_ms = 10000};
    struct tg_err err = {.msg = ""};
    f->done = false;
    if (tg_http_client_send(f->client, &call, on_result, f, &err) != TG_OK) fail_msg("%s", err.msg);
    while (!f->done) tg_loop_once(f->loop, 100);
    return f->status;
}

/* Two points, one of them with a new series, through the front door. */
static void send_points(struct fixture *f)
{
    char url[128];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/write", tg_gateway_http_port(f->gateway));
    static const char lines[] = "room,floor=1 t=1.5\nroom,floor=2 t=2.5\n";
    const struct tg_http_call call = {
        .method = "POST", .url = url, .body = lines, .len = sizeof(lines) - 1};
    struct tg_err err = {.msg = ""};
    f->done = false;
    if (tg_http_client_send(f->client, &call, on_result, f, &err) != TG_OK) fail_msg("%s", err.msg);
    while (!f->done) tg_loop_once(f->loop, 100);
    assert_int_equal(f->status, 204);
}

static const struct {
    const char *method, *path, *origin;
    int status;
    const char *body; /* part of it */
} requests[] = {
    {"GET", "/healthz", NULL, 200, "ok"},
    {"GET", "/readyz", NULL, 200, "ready"},
    {"GET", "/metrics", NULL, 200, "tidegate_build_info{version=\""},
    {"GET", "/metrics", NULL, 200, "\nprocess_resident_memory_bytes "},
    {"GET", "/metrics", NULL, 200, "\nprocess_cpu_seconds_total "},
    {"GET", "/metrics", NULL, 200, "\ntidegate_queries_running 0\n"},
    {"GET", "/metrics", NULL, 200, "\ntidegate_rules_reload_failures_total 0\n"},
    {"GET", "/metrics", NULL, 200, "\ntidegate_rules_budget_overruns_total 0\n"},
    {"GET", "/api/status", NULL, 200, "\"queries\": {"},
    {"GET", "/", NULL, 200, "<td>sink<td>influxdb"},
    {"GET", "/", NULL, 200, ">balanced<"},
    {"POST", "/healthz", NULL, 405, "takes GET only"},
    {"HEAD", "/healthz", NULL, 200, ""},
    {"HEAD", "/readyz", NULL, 200, ""},
    {"HEAD", "/", NULL, 200, ""},
    {"HEAD", "/metrics", NULL, 200, ""},
    {"HEAD", "/-/reload", NULL, 405, ""},
    {"GET", "/-/reload", NULL, 405, "takes POST only"},
    {"GET", "/-/rewind", NULL, 405, "takes POST only"},
    {"POST", "/api/query", NULL, 405, "takes GET only"},
    {"DELETE", "/api/status", NULL, 405, "takes GET only"},
    {"GET", "/nowhere", NULL, 404, "/api/status"},
    {"GET", "/healthz/", NULL, 404, "no such page"},
    {"GET", "/api/explain?series=up%7Ba%3D%22b%22%7D", NULL, 200, "\"seen\":\"yes\""},
    {"GET", "/api/explain?series=up&kind=gauge", NULL, 200, "\"targets\":[\"sink\"]"},
    {"GET", "/api/explain", NULL, 400, "say which series"},
    {"GET", "/api/explain?series=up%7Ba", NULL, 400, "expected ="},
    {"GET", "/api/explain?series=up&kind=gouge", NULL, 400, "did you mean \\\"gauge\\\"?"},
    {"GET", "/api/explain?series=%7Ba%3Db%7D", NULL, 400, "has no name"},
    /* the live one, with what its sender said of it */
    {"GET", "/api/explain?series=room_t%7Bfloor%3D1%7D", NULL, 200,
     "\"measurement\":\"room\",\"field\":\"t\",\"tags\":{\"floor\":\"1\"}"},
    {"GET", "/api/explain?series=room_t%7Bfloor%3D1%7D", NULL, 200,
     "\"live\":true,\"matches\":1,\"others\":[],"},
    {"GET", "/api/explain?series=room_t%7Bfloor%3D1%7D", NULL, 200,
     "\"in_force\":{\"generation\":1,\"kept\":false,\"targets\":[\"sink\"]"},
    {"GET", "/api/explain?series=room_t%7Bfloor%3D1%7D", NULL, 200,
     "\"backends\":[{\"name\":\"sink\",\"state\":"},
    {"GET", "/api/explain?series=room_t", NULL, 200, "\"matches\":2,\"others\":[\"room_t{floor="},
    {"GET", "/api/explain?series=room_t&kind=gauge", NULL, 200, "\"live\":false,\"matches\":0"},
    {"GET", "/api/explain?series=room_t%7Bfloor%3D3%7D", NULL, 200, "\"live\":false"},
    /* what is given, when there is no such series */
    {"GET", "/api/explain?line=cpu%2Chost%3Da%20v%3D1", NULL, 200,
     "\"name\":\"cpu_v\",\"kind\":\"unknown\",\"unit\":\"\",\"temporality\":\"none\","
     "\"measurement\":\"cpu\",\"field\":\"v\",\"tags\":{\"host\":\"a\"}"},
    {"GET", "/api/explain?line=cpu%20a%3D1%2Cb%3D2", NULL, 400, "the line has 2 fields"},
    {"GET", "/api/explain?line=cpu", NULL, 400, "line 1: "},
    {"GET", "/api/explain?line=cpu%20a%3D1&series=up", NULL, 400, "give nothing beside it"},
    {"GET", "/api/explain?measurement=cpu&field=v&series=%7Bhost%3Da%7D", NULL, 200,
     "\"name\":\"cpu_v\""},
    {"GET", "/api/explain?measurement=cpu&field=v&series=cpu", NULL, 400, "without a name"},
    {"GET", "/api/explain?measurement=cpu", NULL, 400, "go together"},
    {"GET", "/api/explain?series=up%7Ba%3Db,c%3Dd,e%3Df%7D&resource=a,c&scope=e", NULL, 200,
     "\"origins\":{\"a\":\"resource\",\"c\":\"resource\",\"e\":\"scope\"}"},
    {"GET", "/api/explain?series=up%7Ba%3Db%7D&resource=b", NULL, 400, "has no tag \\\"b\\\""},
    {"GET", "/api/query?backend=sinc", NULL, 404, "did you mean \\\"sink\\\"?"},
    {"GET", "/api/query?since=yesterday", NULL, 400, "since: \\\"yesterday\\\" is not a time"},
    {"GET", "/api/query?start=2m&end=5m", NULL, 400, "end is not after start"},
    {"GET", "/api/query?limit=0", NULL, 400, "limit: expected a number"},
    {"GET", "/api/query?limit=10x", NULL, 400, "limit: expected a number"},
    {"GET", "/api/query?series=up%7B", NULL, 400, "ends too early"},
    {"GET", "/api/query?series=up&name=up", NULL, 400, "keep one"},
    {"GET", "/api/query?tag=novalue", NULL, 400, "write name=value"},
    {"GET", "/api/query?name=room_t", NULL, 503, "sink: "}, /* its server is away */
    {"POST", "/-/rewind", NULL, 400, "say what and where to"},
    {"POST", "/-/rewind?backend=sink", NULL, 400, "say what and where to"},
    {"POST", "/-/rewind?backend=sinc&to=start", NULL, 404, "did you mean \\\"sink\\\"?"},
    {"POST", "/-/rewind?backend=sink&to=yesterday", NULL, 400, "write start, end, a time"},
    {"POST", "/-/rewind?backend=sink&to=start&skip=yes", NULL, 400, "write 1 or 0"},
    {"POST", "/-/rewind?backend=sink&to=pos:x", NULL, 400, "is not a position"},
    {"POST", "/-/rewind?backend=sink&to=start", NULL, 200, "\"backend\":\"sink\",\"position\":"},
    {"POST", "/-/rewind?backend=sink&to=5m", NULL, 200, "\"backend\":\"sink\""},
    {"POST", "/-/reload?force=yes", NULL, 400, "force: write 1 or 0"},
    {"POST", "/-/reload?strict=true", NULL, 400, "strict: write 1 or 0"},
    {"POST", "/-/reload", "http://evil.example", 403, "other sites"},
    {"POST", "/-/reload", "null", 403, "other sites"},
    {"GET", "/api/status", "http://evil.example", 403, "other sites"},
};

static void test_requests(void **state)
{
    struct fixture *f = *state;
    send_points(f);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        for (int twice = 0; twice < 2; twice++) {
            const int status = ask(f, requests[i].method, requests[i].path, requests[i].origin);
            if (status != requests[i].status || !strstr(f->body, requests[i].body))
                fail_msg("%s %s: %d, want %d with %s; got: %s", requests[i].method,
                         requests[i].path, status, requests[i].status, requests[i].body, f->body);
        }
    }
}

static json_int_t integer(const json_t *o, const char *a, const char *b)
{
    const json_t *v = json_object_get(json_object_get(o, a), b);
    if (!json_is_integer(v)) fail_msg("%s.%s is no number", a, b);
    return json_integer_value(v);
}

/* Where a rewind says that the cursor is. */
static json_int_t rewound_to(struct fixture *f, const char *path)
{
    if (ask(f, "POST", path, NULL) != 200) fail_msg("%s: %s", path, f->body);
    json_t *o = json_loads(f->body, 0, NULL);
    const json_int_t pos = json_integer_value(json_object_get(o, "position"));
    json_decref(o);
    return pos;
}

/* The cursor goes where the words say; forward over what waits only when asked to skip it. */
static void test_rewind(void **state)
{
    struct fixture *f = *state;
    char path[128];
    send_points(f);
    const json_int_t start = rewound_to(f, "/-/rewind?backend=sink&to=start");
    const json_int_t end = rewound_to(f, "/-/rewind?backend=sink&to=end");
    assert_true(start < end);
    (void)snprintf(path, sizeof(path), "/-/rewind?backend=sink&to=pos:%lld", (long long)start);
    assert_int_equal(rewound_to(f, path), start);
    (void)snprintf(path, sizeof(path), "/-/rewind?backend=sink&to=pos:%lld", (long long)end);
    for (int twice = 0; twice < 2; twice++) { /* its server is away: the points wait */
        assert_int_equal(ask(f, "POST", path, NULL), 400);
        assert_non_null(strstr(f->body, "sink: "));
        assert_non_null(strstr(f->body, "points that it has not got"));
        (void)snprintf(path, sizeof(path), "/-/rewind?backend=sink&to=pos:%lld&skip=0",
                       (long long)end);
    }
    (void)snprintf(path, sizeof(path), "/-/rewind?backend=sink&to=pos:%lld&skip=1", (long long)end);
    assert_int_equal(rewound_to(f, path), end);
    assert_int_equal(rewound_to(f, "/-/rewind?backend=sink&to=5m"), start);
}

/* A name that resolves to this machine by an attacker's will ("DNS rebinding") is not ours. */
static void test_foreign_names(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *path, *method, *host;
        int status;
    } rows[] = {
        {"/api/status", "GET", "evil.example", 403},
        {"/api/status", "GET", "evil.example:4320", 403},
        {"/metrics", "GET", "evil.example", 403},
        {"/", "GET", "evil.example", 403},
        {"/api/query?name=x", "GET", "evil.example", 403},
        {"/-/reload", "POST", "evil.example", 403},
        {"/-/rewind?backend=sink&to=start", "POST", "evil.example", 403},
        {"/healthz", "GET", "lb.example", 200}, /* probes tell nothing */
        {"/readyz", "GET", "lb.example", 200},
        {"/api/status", "GET", "localhost", 200},
        {"/api/status", "GET", "[::1]:1", 200},
        {"/api/status", "GET", "gw.example:4320", 200}, /* listen.hosts */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char url[256];
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", tg_admin_port(f->admin),
                       rows[i].path);
        const struct tg_http_client_header header = {"Host", rows[i].host};
        const struct tg_http_call call = {.method = rows[i].method,
                                          .url = url,
                                          .headers = &header,
                                          .n_headers = 1,
                                          .body = "",
                                          .timeout_ms = 10000};
        struct tg_err err = {.msg = ""};
        f->done = false;
        if (tg_http_client_send(f->client, &call, on_result, f, &err) != TG_OK)
            fail_msg("%s", err.msg);
        while (!f->done) tg_loop_once(f->loop, 100);
        if (f->status != rows[i].status)
            fail_msg("%s as %s: %d, want %d", rows[i].path, rows[i].host, f->status,
                     rows[i].status);
        if (rows[i].status == 403) assert_non_null(strstr(f->body, "listen.hosts"));
    }
}

/* A browser that leaves Origin out (a GET for an image or a script) still says which site asks. */
static void test_foreign_fetches(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *path, *method, *site, *mode, *dest; /* NULL: not said */
        int status;
    } rows[] = {
        {"/api/status", "GET", "cross-site", "no-cors", NULL, 403},
        {"/api/status", "GET", "same-site", "cors", NULL, 403}, /* another port of this host */
        {"/api/status", "GET", "cross-site", "navigate", NULL, 403},
        {"/api/status", "GET", "Cross-Site", NULL, NULL, 403},
        {"/api/query?name=x", "GET", "cross-site", "no-cors", NULL, 403},
        {"/metrics", "GET", "cross-site", "no-cors", NULL, 403},
        {"/", "GET", "cross-site", "no-cors", NULL, 403},
        {"/", "GET", "cross-site", NULL, NULL, 403},
        {"/-/reload", "POST", "cross-site", "navigate", NULL, 403},
        {"/", "GET", "cross-site", "navigate", NULL, 200}, /* a link that was followed */
        {"/", "GET", "same-site", "navigate", "document", 200},
        {"/", "GET", "cross-site", "navigate", "iframe", 403},
        {"/api/status", "GET", "same-origin", "cors", NULL, 200},
        {"/api/status", "GET", "none", "navigate", NULL, 200}, /* typed in */
        {"/healthz", "GET", "cross-site", "no-cors", NULL, 200},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char url[256];
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", tg_admin_port(f->admin),
                       rows[i].path);
        const struct tg_http_client_header headers[] = {{"Sec-Fetch-Site", rows[i].site},
                                                        {"Sec-Fetch-Mode", rows[i].mode},
                                                        {"Sec-Fetch-Dest", rows[i].dest}};
        const struct tg_http_call call = {.method = rows[i].method,
                                          .url = url,
                                          .headers = headers,
                                          .n_headers = rows[i].dest   ? 3
                                                       : rows[i].mode ? 2
                                                                      : 1,
                                          .body = "",
                                          .timeout_ms = 10000};
        struct tg_err err = {.msg = ""};
        f->done = false;
        if (tg_http_client_send(f->client, &call, on_result, f, &err) != TG_OK)
            fail_msg("%s", err.msg);
        while (!f->done) tg_loop_once(f->loop, 100);
        if (f->status != rows[i].status)
            fail_msg("%s, %s, %s: %d, want %d", rows[i].path, rows[i].site,
                     rows[i].mode ? rows[i].mode : "(none)", f->status, rows[i].status);
        if (rows[i].status == 403) assert_non_null(strstr(f->body, "other sites"));
    }
}

static void test_status(void **state)
{
    struct fixture *f = *state;
    send_points(f);
    assert_int_equal(ask(f, "GET", "/api/status", NULL), 200);
    json_t *o = json_loads(f->body, 0, NULL);
    assert_non_null(o);
    const json_int_t received = integer(o, "points", "received");
    assert_true(received >= 2);
    const json_t *ledger =
        json_object_get(json_array_get(json_object_get(o, "backends"), 0), "ledger");
    assert_true(json_is_true(json_object_get(ledger, "balanced")));
    assert_int_equal(json_integer_value(json_object_get(ledger, "received")), received);
    assert_int_equal(json_integer_value(json_object_get(ledger, "waiting")), received);
    assert_int_equal(integer(o, "series", "live"), 2);
    assert_int_equal(integer(o, "log", "max_bytes"), 16 << 20);
    const char *id = json_string_value(json_object_get(json_object_get(o, "log"), "id"));
    assert_non_null(id);
    assert_int_equal(strlen(id), 36);
    assert_true(json_integer_value(json_object_get(
                    json_array_get(json_object_get(o, "backends"), 0), "epoch")) > 0);
    json_decref(o);
}

/* An answer says whether rows are missing, and is whole when there are just as many as asked for.
 */
static void test_query_says_what_is_cut(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, "GET", "/api/query?name=five&limit=5", NULL), 200);
    assert_non_null(strstr(f->body, "\"n_rows\":5,\"cut\":null"));
    assert_int_equal(ask(f, "GET", "/api/query?name=five&limit=4", NULL), 200);
    assert_non_null(strstr(f->body, "\"n_rows\":4,\"cut\":\"limit\""));
}

struct seen {
    unsigned n;
    int status;
    int64_t retry_after_ms;
};

static void on_seen(void *arg, const struct tg_http_result *r)
{
    struct seen *s = arg;
    s->n++;
    s->status = r->status;
    s->retry_after_ms = r->retry_after_ms;
}

/* Queries have a limit, beyond which one is told when to come back; those whose client goes end,
 * and the admin port answers all the while. */
static void test_endless_queries(void **state)
{
    struct fixture *f = *state;
    enum { ALL = 20 };
    char url[128];
    struct tg_err err = {.msg = ""};
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/api/query?name=endless",
                   tg_admin_port(f->admin));
    const struct tg_http_call call = {.method = "GET", .url = url, .timeout_ms = 60000};
    for (int twice = 0; twice < 2; twice++) {
        struct seen seen = {0};
        struct tg_http_client *many =
            tg_http_client_new(f->loop, &(struct tg_http_client_config){.max_connections = 50});
        const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
        for (unsigned n = 1; n <= ALL + 1; n++) {
            assert_int_equal(tg_http_client_send(many, &call, on_seen, &seen, &err), TG_OK);
            while (tg_admin_n_pending(f->admin) < n && seen.n == 0) {
                assert_true(tg_clock_mono_ms() < deadline_ms);
                tg_loop_once(f->loop, 10);
            }
            if (n <= ALL &&
                seen.n) { /* one that has yet to be taken by its thread counts as waiting */
                seen.n = 0;
                n--;
            }
        }
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.status, 503);
        assert_int_equal(seen.retry_after_ms, 5000);
        assert_int_equal(tg_admin_n_pending(f->admin), ALL);
        assert_int_equal(ask(f, "GET", "/healthz", NULL), 200);
        assert_int_equal(ask(f, "GET", "/api/status", NULL), 200);
        const uint64_t began_ms = tg_clock_mono_ms();
        tg_http_client_free(many); /* its connections close */
        while (tg_admin_n_pending(f->admin)) {
            assert_true(tg_clock_mono_ms() - began_ms < 10000);
            tg_loop_once(f->loop, 10);
        }
    }
}

static void test_reload(void **state)
{
    struct fixture *f = *state;
    static const char good[] = "return function(series) series.tags.seen = 'again' end\n";
    write_tags(f, "return function(series)\n  oops(\nend\n");
    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(ask(f, "POST", "/-/reload", NULL), 400);
        assert_non_null(strstr(f->body, "tags.lua:"));
        /* The old rules stay. */
        assert_int_equal(ask(f, "GET", "/api/explain?series=up", NULL), 200);
        assert_non_null(strstr(f->body, "\"seen\":\"yes\""));
    }
    /* What is quoted stays UTF-8, in `errors`, too. */
    write_tags(f, "to('gr\xc3\xb6\xc3\x9f"
                  "e')");
    assert_int_equal(ask(f, "POST", "/-/reload", NULL), 400);
    assert_non_null(strstr(f->body, "no backend is called \\\"gr\xc3\xb6\xc3\x9f"
                                    "e\\\""));
    /* A script that cannot be read is among the errors, with file and reason. */
    assert_int_equal(unlink(f->tags), 0);
    assert_int_equal(ask(f, "POST", "/-/reload", NULL), 400);
    assert_non_null(strstr(f->body, "\"errors\":[\""));
    assert_non_null(
        strstr(strstr(f->body, "\"errors\":"), "tags.lua: cannot be read: No such file"));
    assert_non_null(strstr(f->body, "],\"warnings\":[],"));
    write_tags(f, good);
    assert_int_equal(ask(f, "POST", "/-/reload", NULL), 200);
    assert_string_equal(f->body, "{\"generation\":2,\"errors\":[],\"warnings\":[],"
                                 "\"live_series\":0,\"decided\":0}\n");
    assert_int_equal(ask(f, "GET", "/api/explain?series=up", NULL), 200);
    assert_non_null(strstr(f->body, "\"seen\":\"again\""));
    /* A warning is no error, unless it is asked to refuse the rules. */
    write_tags(f, "return function(series)\n  if series.tags.x then dorp() end\nend\n");
    for (int strict = 1; strict >= 0; strict--) {
        assert_int_equal(ask(f, "POST", strict ? "/-/reload?strict=1" : "/-/reload", NULL),
                         strict ? 400 : 200);
        assert_non_null(strstr(f->body, "\"errors\":[],\"warnings\":[\"tags.lua:2: "));
        assert_int_equal(strstr(f->body, "\"error\":") != NULL, strict);
    }
}

static void on_reload_result(void *arg, const struct tg_http_result *r)
{
    *(int *)arg = r->status;
}

/* While a script takes its time to load, the admin port answers others. */
static void test_reload_holds_up_nobody(void **state)
{
    struct fixture *f = *state;
    write_tags(f, "while true do end\n");
    int reload_status = 0;
    char url[128];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/-/reload", tg_admin_port(f->admin));
    const struct tg_http_call call = {
        .method = "POST", .url = url, .body = "", .timeout_ms = 20000};
    struct tg_err err = {.msg = ""};
    if (tg_http_client_send(f->client, &call, on_reload_result, &reload_status, &err) != TG_OK)
        fail_msg("%s", err.msg);
    /* the request is there once it counts as pending */
    while (!tg_admin_n_pending(f->admin) && !reload_status) tg_loop_once(f->loop, 100);
    assert_int_equal(ask(f, "GET", "/healthz", NULL), 200);
    assert_int_equal(reload_status, 0);
    while (!reload_status) tg_loop_once(f->loop, 100);
    assert_int_equal(reload_status, 400);
}

/* A rule that takes all of its time while it is explained, also for the note under a query without
 * rows, keeps nobody else waiting; one that nobody waits for any more ends. */
static void test_explain_holds_up_nobody(void **state)
{
    struct fixture *f = *state;
    static const char *const paths[] = {"/api/explain?series=slow", "/api/query?name=slow&limit=1"};
    write_tags(f, "return function(s) if s.name == 'slow' then while true do end end end\n");
    assert_int_equal(ask(f, "POST", "/-/reload?force=1", NULL), 200);
    for (size_t i = 0; i < 2; i++) {
        int status = 0;
        char url[128];
        struct tg_err err = {.msg = ""};
        (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", tg_admin_port(f->admin),
                       paths[i]);
        const struct tg_http_call call = {.method = "GET", .url = url, .timeout_ms = 20000};
        if (tg_http_client_send(f->client, &call, on_reload_result, &status, &err) != TG_OK)
            fail_msg("%s", err.msg);
        while (!tg_admin_n_pending(f->admin) && !status) tg_loop_once(f->loop, 100);
        assert_int_equal(status, 0); /* it is under way */
        assert_int_equal(ask(f, "GET", "/healthz", NULL), 200);
        while (!status) tg_loop_once(f->loop, 100);
        assert_int_equal(status, 200);
        assert_int_equal(tg_admin_n_pending(f->admin), 0);
    }
    assert_int_equal(ask(f, "GET", "/api/explain?series=slow", NULL), 200);
    assert_non_null(strstr(f->body, "\"error\":\"tags.lua:1: stopped after"));
    assert_non_null(strstr(f->body, "\"rules\":{\"generation\":"));
}

/* Last: after this the gateway is not asked any more. */
static void test_draining(void **state)
{
    struct fixture *f = *state;
    tg_admin_detach(f->admin);
    assert_int_equal(ask(f, "GET", "/healthz", NULL), 200);
    assert_int_equal(ask(f, "GET", "/readyz", NULL), 503);
    assert_string_equal(f->body, "not ready: draining\n");
    assert_int_equal(ask(f, "GET", "/metrics", NULL), 200);
    static const char *const paths[] = {"/", "/api/status", "/api/query", "/api/explain?series=up"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        assert_int_equal(ask(f, "GET", paths[i], NULL), 503);
    assert_int_equal(ask(f, "POST", "/-/reload", NULL), 503);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_foreign_names),
        cmocka_unit_test(test_foreign_fetches),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_query_says_what_is_cut),
        cmocka_unit_test(test_endless_queries),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_reload_holds_up_nobody),
        cmocka_unit_test(test_explain_holds_up_nobody),
        cmocka_unit_test(test_draining),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
