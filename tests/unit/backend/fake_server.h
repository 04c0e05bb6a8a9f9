/* fake_server.h: a backend's other side for tests: our own HTTP server with scripted answers, and
 * what came in; options, deliveries and results beside it.
 *
 * Threading: one.
 */
#ifndef TG_TESTS_FAKE_SERVER_H
#define TG_TESTS_FAKE_SERVER_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "core/backend/backend.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/codec/compress.h"
#include "core/net/http_server.h"

/* Rows of tables leave out what is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
/* Each test uses its part of this. */
#pragma GCC diagnostic ignored "-Wunused-function"

struct fake_answer {
    int status; /* 0 = never answered */
    const char *body, *retry_after;
    const char *path; /* only for this path; others get 404 */
    const char *when; /* a body with this in it gets then_status; or NULL */
    int then_status;  /* 0 = never answered */
};

struct fake {
    struct tg_loop *loop;
    struct tg_http_server *server;
    struct tg_arena arena;
    char url[64];
    struct fake_answer answer; /* to all requests from now on */
    struct tg_http_request *held;
    /* the last request */
    unsigned n_requests;
    char method[16], path[256], auth[256], encoding[32], content_type[64], version[32], agent[64];
    char query[8][2][2048];
    struct tg_buf body;     /* decompressed */
    struct tg_buf previous; /* of the request before */
    struct tg_compress compress;

    struct tg_options options;
    struct tg_backend *backend;
    /* the last results */
    unsigned n_writes, n_healths, n_rows, n_ends;
    struct tg_write_result write;
    uint8_t skipped[16], inexpressible[16];
    char skip_reasons[16][160];
    enum tg_code health_code, end_code;
    char health_message[256], end_message[256];
    char rows[4096]; /* name{tags} type value @time, a line each */
    unsigned stop_after_rows;
};

static const char *const fake_parameters[] = {"org",       "bucket", "db",    "rp",
                                              "precision", "q",      "query", "time"};

static void fake_handle(struct tg_http_request *r, void *arg)
{
    struct fake *f = arg;
    size_t len;
    const uint8_t *body = tg_http_body(r, &len);
#define KEEP(to, from)                                                  \
    do {                                                                \
        const char *v_ = (from);                                        \
        (void)snprintf(f->to, sizeof(f->to), "%s", v_ ? v_ : "(none)"); \
    } while (0)
    f->n_requests++;
    KEEP(method, tg_http_method(r));
    KEEP(path, tg_http_path(r));
    KEEP(auth, tg_http_header(r, "authorization"));
    KEEP(encoding, tg_http_header(r, "content-encoding"));
    KEEP(content_type, tg_http_header(r, "content-type"));
    KEEP(version, tg_http_header(r, "x-prometheus-remote-write-version"));
    KEEP(agent, tg_http_header(r, "user-agent"));
    for (size_t i = 0; i < 8; i++) {
        KEEP(query[i][0], fake_parameters[i]);
        KEEP(query[i][1], tg_http_query(r, fake_parameters[i], 0));
    }
    const struct tg_buf swap = f->previous;
    f->previous = f->body;
    f->body = swap;
    tg_buf_reset(&f->body);
    struct tg_err err = {0};
    enum tg_encoding e = TG_ENCODING_IDENTITY;
    const char *name = tg_http_header(r, "content-encoding");
    if (name) assert_int_equal(tg_encoding_parse(name, strlen(name), &e, &err), TG_OK);
    if (len > 0 &&
        tg_compress_decode(&f->compress, e, body, len, 64 << 20, &f->body, &err) != TG_OK) {
        tg_http_reply_text(r, 500, "fake: %s", err.msg); /* no memory in a test of that */
        return;
    }
    if (tg_buf_append(&f->body, "", 1) == TG_OK) f->body.len--;
    if (f->answer.path && strcmp(f->answer.path, f->path) != 0) {
        tg_http_reply_text(r, 404, "not here");
        return;
    }
    if (f->answer.when && f->answer.then_status &&
        memmem(f->body.data, f->body.len, f->answer.when, strlen(f->answer.when))) {
        tg_http_reply_text(r, f->answer.then_status, "no");
        return;
    }
    if (f->answer.status == 0 ||
        (f->answer.when &&
         memmem(f->body.data, f->body.len, f->answer.when, strlen(f->answer.when)))) {
        if (f->held) tg_http_reply_text(f->held, 200, "late");
        f->held = r;
        return;
    }
    const struct tg_http_header_pair retry = {"Retry-After", f->answer.retry_after};
    tg_http_reply(r, f->answer.status, "application/json", f->answer.body,
                  f->answer.body ? strlen(f->answer.body) : 0, &retry,
                  f->answer.retry_after != NULL);
}

static const char *fake_query(const struct fake *f, const char *name)
{
    for (size_t i = 0; i < 8; i++)
        if (strcmp(fake_parameters[i], name) == 0) return f->query[i][1];
    return NULL;
}

static void fake_start(struct fake *f)
{
    struct tg_err err;
    memset(f, 0, sizeof(*f));
    f->loop = tg_loop_new();
    tg_arena_init(&f->arena, 0);
    tg_buf_init(&f->body, 0);
    tg_buf_init(&f->previous, 0);
    tg_compress_init(&f->compress);
    f->answer.status = 204;
    assert_int_equal(tg_http_server_new(f->loop,
                                        &(struct tg_http_server_config){.address = "127.0.0.1:0"},
                                        fake_handle, f, &f->server, &err),
                     TG_OK);
    (void)snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u", tg_http_server_port(f->server));
}

static void fake_end(struct fake *f)
{
    if (f->held) tg_http_reply_text(f->held, 200, "late");
    tg_http_server_free(f->server);
    tg_loop_free(f->loop);
    tg_arena_deinit(&f->arena);
    tg_buf_deinit(&f->body);
    tg_buf_deinit(&f->previous);
    tg_compress_deinit(&f->compress);
}

/* Opens with "name=value" options (url is added when none begins with "url="); NULL ends. */
static enum tg_code fake_open(struct fake *f, const struct tg_backend_ops *ops,
                              const char *url_path, const char *const *settings, struct tg_err *err)
{
    char url[2048];
    assert_int_equal(tg_options_init(&f->options, ops->options, &f->arena), TG_OK);
    (void)snprintf(url, sizeof(url), "%s%s", f->url, url_path);
    enum tg_code code = tg_options_set(&f->options, "url", url, &f->arena, err);
    for (; code == TG_OK && settings && *settings; settings++) {
        char name[64];
        const char *equals = strchr(*settings, '=');
        (void)snprintf(name, sizeof(name), "%.*s", (int)(equals - *settings), *settings);
        code = tg_options_set(&f->options, name, equals + 1, &f->arena, err);
    }
    if (code == TG_OK) code = tg_options_complete(&f->options, err);
    if (code != TG_OK) return code;
    const struct tg_backend_open how = {
        .name = "test", .options = &f->options, .loop = f->loop, .cursor_pos = 0};
    return ops->open(&how, &f->backend, err);
}

static void fake_must_open(struct fake *f, const struct tg_backend_ops *ops, const char *url_path,
                           const char *const *settings)
{
    struct tg_err err = {0};
    if (fake_open(f, ops, url_path, settings, &err) != TG_OK) fail_msg("%s", err.msg);
}

static void fake_on_write(void *arg, const struct tg_write_result *w)
{
    struct fake *f = arg;
    f->n_writes++;
    f->write = *w;
    memset(f->inexpressible, 0, sizeof(f->inexpressible));
    if (w->n_inexpressible) memcpy(f->inexpressible, w->inexpressible, 2);
    memset(f->skipped, 0, sizeof(f->skipped));
    if (w->n_skipped) {
        memcpy(f->skipped, w->skipped, 2);
        assert_non_null(w->skip_reasons);
        for (uint32_t i = 0; i < w->n_skipped && i < 16; i++)
            (void)snprintf(f->skip_reasons[i], sizeof(f->skip_reasons[i]), "%s",
                           w->skip_reasons[i]);
    }
}

static void fake_on_health(void *arg, enum tg_code code, const char *message)
{
    struct fake *f = arg;
    f->n_healths++;
    f->health_code = code;
    (void)snprintf(f->health_message, sizeof(f->health_message), "%s", message);
}

static bool fake_on_row(void *arg, const struct tg_query_row *row)
{
    struct fake *f = arg;
    struct tg_buf series;
    tg_buf_init(&series, 0);
    if (tg_series_desc_print(row->series, &series) != TG_OK) { /* a test of that */
        tg_buf_deinit(&series);
        return true;
    }
    const size_t at = strlen(f->rows);
    double v = NAN;
    (void)tg_point_as_double(row->point, &v);
    (void)snprintf(f->rows + at, sizeof(f->rows) - at, "%.*s %d ", (int)series.len,
                   (const char *)series.data, row->point->type);
    const size_t then = strlen(f->rows);
    if (row->point->type == TG_VALUE_STRING)
        (void)snprintf(f->rows + then, sizeof(f->rows) - then, "%.*s @%lld\n",
                       (int)row->point->value.string->len, row->point->value.string->ptr,
                       (long long)row->point->ts_ns);
    else
        (void)snprintf(f->rows + then, sizeof(f->rows) - then, "%g @%lld\n", v,
                       (long long)row->point->ts_ns);
    tg_buf_deinit(&series);
    return ++f->n_rows != f->stop_after_rows;
}

static void fake_on_end(void *arg, enum tg_code code, const struct tg_err *err)
{
    struct fake *f = arg;
    f->n_ends++;
    f->end_code = code;
    (void)snprintf(f->end_message, sizeof(f->end_message), "%s", err ? err->msg : "");
}

/* Runs the loop until *counter is `n`. */
static void fake_wait(struct fake *f, const unsigned *counter, unsigned n)
{
    const uint64_t until = tg_clock_mono_ms() + 20000;
    while (*counter < n && tg_clock_mono_ms() < until) tg_loop_once(f->loop, 20);
    assert_int_equal(*counter, n);
}

static void fake_write(struct fake *f, const struct tg_backend_ops *ops,
                       const struct tg_delivery_point *points, uint32_t n)
{
    const struct tg_delivery d = {.points = points, .n_points = n, .from_pos = 1, .to_pos = 2};
    const unsigned before = f->n_writes;
    ops->write(f->backend, &d, fake_on_write, f);
    assert_int_equal(f->n_writes, before); /* never before write returned */
    fake_wait(f, &f->n_writes, before + 1);
    for (int i = 0; i < 3; i++) tg_loop_once(f->loop, 0);
    assert_int_equal(f->n_writes, before + 1); /* exactly once */
}

/* A write that is never answered, given up: at once, as one to be made again, and the next is as
 * ever. */
static void fake_check_cancel(const struct tg_backend_ops *ops, const char *const *settings,
                              enum tg_kind kind)
{
    static struct fake f;
    struct tg_buf prepared;
    fake_start(&f);
    fake_must_open(&f, ops, "/api/v1/write", settings);
    tg_buf_init(&prepared, 0);
    {
        const struct tg_series_desc d = {
            .name = "m", .name_len = 1, .unit = "", .kind = (uint8_t)kind};
        struct tg_err err;
        assert_int_equal(ops->prepare(f.backend, &d, &prepared, &err), TG_OK);
    }
    const struct tg_point p = {.ts_ns = 1, .type = TG_VALUE_DOUBLE, .value.f64 = 1};
    const struct tg_delivery_point point = {
        .point = &p, .prepared = prepared.data, .prepared_len = (uint32_t)prepared.len};
    const struct tg_delivery d = {.points = &point, .n_points = 1, .from_pos = 1, .to_pos = 2};
    for (unsigned twice = 0; twice < 2; twice++) {
        f.answer.status = 0;
        const unsigned before = f.n_requests;
        f.n_writes = 0;
        ops->write(f.backend, &d, fake_on_write, &f);
        fake_wait(&f, &f.n_requests, before + 1);
        const uint64_t began_ms = tg_clock_mono_ms();
        ops->cancel(f.backend);
        assert_int_equal(f.n_writes, 0);
        fake_wait(&f, &f.n_writes, 1);
        assert_true(tg_clock_mono_ms() - began_ms < 5000);
        assert_int_equal(f.write.outcome, TG_WRITE_RETRY);
        f.answer.status = 204;
        ops->cancel(f.backend); /* nothing in flight */
        fake_write(&f, ops, &point, 1);
        assert_int_equal(f.write.outcome, TG_WRITE_OK);
    }
    ops->close(f.backend);
    tg_buf_deinit(&prepared);
    fake_end(&f);
}

static void fake_query_range(struct fake *f, const struct tg_backend_ops *ops,
                             const struct tg_query *q)
{
    f->rows[0] = 0;
    f->n_rows = f->n_ends = 0;
    ops->query_range(f->backend, q, fake_on_row, fake_on_end, f);
    fake_wait(f, &f->n_ends, 1);
}

/* A query that is never answered ends when it is told to, on a loop that need not be the backend's.
 */
static void fake_check_query_stop(const struct tg_backend_ops *ops, const char *const *settings)
{
    static struct fake f;
    fake_start(&f);
    fake_must_open(&f, ops, "/api/v1/write", settings);
    for (unsigned i = 0; i < 3; i++) {
        struct tg_query_stop stop = {.deadline_ms = i == 1 ? tg_clock_mono_ms() + 200 : 0};
        struct tg_loop *other = i == 2 ? tg_loop_new() : NULL;
        const struct tg_query q = {
            .name = "m", .end_ns = 1, .max_rows = 1, .loop = other, .stop = &stop};
        f.answer.status = 0;
        f.n_ends = 0;
        const unsigned before = f.n_requests;
        ops->query_range(f.backend, &q, fake_on_row, fake_on_end, &f);
        const uint64_t began_ms = tg_clock_mono_ms();
        while (f.n_requests == before && tg_clock_mono_ms() - began_ms < 20000) {
            tg_loop_once(f.loop, 1);
            if (other) tg_loop_once(other, 1);
        }
        assert_int_equal(f.n_requests, before + 1);
        assert_int_equal(f.n_ends, 0);
        if (i != 1) tg_query_stop_ask(&stop, TG_QUERY_SHUTDOWN);
        while (f.n_ends == 0 && tg_clock_mono_ms() - began_ms < 20000)
            tg_loop_once(other ? other : f.loop, 10);
        assert_int_equal(f.n_ends, 1);
        assert_int_equal(f.end_code, TG_ERR_CANCELED);
        assert_true(tg_clock_mono_ms() - began_ms < 5000); /* not the 30 s of the call */
        tg_loop_free(other);
    }
    ops->close(f.backend);
    fake_end(&f);
}

static void fake_health(struct fake *f, const struct tg_backend_ops *ops)
{
    f->n_healths = 0;
    ops->health(f->backend, fake_on_health, f);
    fake_wait(f, &f->n_healths, 1);
}

/* The series `name{a="x",b="y z"}`, with a field when field_len > 0. */
static void fake_prepare(const struct tg_backend_ops *ops, const char *name, uint32_t field_len,
                         enum tg_kind kind, struct tg_buf *out)
{
    struct tg_tag tags[] = {{"a", "x", 1, 1, TG_ORIGIN_POINT}, {"b", "y z", 1, 3, TG_ORIGIN_POINT}};
    const struct tg_series_desc d = {.name = name,
                                     .name_len = (uint32_t)strlen(name),
                                     .field_len = field_len,
                                     .unit = "",
                                     .kind = (uint8_t)kind,
                                     .n_tags = 2,
                                     .tags = tags};
    struct tg_err err;
    /* A backend of its own: what is prepared for the first time holds no parts of its table. */
    static struct fake other;
    const bool influx = strcmp(ops->type, "influxdb") == 0;
    fake_start(&other);
    fake_must_open(&other, ops, "/api/v1/write",
                   (const char *[]){influx ? "database=d" : "metadata=false", NULL});
    tg_buf_init(out, 0);
    if (ops->prepare(other.backend, &d, out, &err) != TG_OK) fail_msg("%s", err.msg);
    ops->close(other.backend);
    fake_end(&other);
}

/* What every HTTP backend must make of an answer. */
struct fake_outcome {
    struct fake_answer answer;
    enum tg_write_outcome outcome;
    int64_t retry_after_ms;
    const char *has; /* in the message */
};

static void fake_check_outcomes(struct fake *f, const struct tg_backend_ops *ops,
                                const struct fake_outcome *cases, size_t n,
                                const struct tg_delivery_point *point)
{
    for (size_t i = 0; i < 2 * n; i++) {
        const struct fake_outcome *c = &cases[i / 2]; /* each twice on one object */
        f->answer = c->answer;
        fake_write(f, ops, point, 1);
        if (f->write.outcome != c->outcome || f->write.retry_after_ms != c->retry_after_ms)
            fail_msg("%d %s: outcome %d, retry after %lld, %s", c->answer.status,
                     c->answer.body ? c->answer.body : "", (int)f->write.outcome,
                     (long long)f->write.retry_after_ms, f->write.message);
        if (c->has && !strstr(f->write.message, c->has))
            fail_msg("%d: \"%s\" lacks \"%s\"", c->answer.status, f->write.message, c->has);
        if (c->outcome == TG_WRITE_OK) assert_string_equal(f->write.message, "");
    }
}

#endif
