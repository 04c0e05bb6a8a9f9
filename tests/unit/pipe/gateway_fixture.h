/* gateway_fixture.h: a gateway in process, over real sockets, with two backends whose answers the
 * test scripts.
 *
 * Threading: the functions from the test's thread; a sink is the test's and its backend's, under
 * its lock.
 */
#ifndef TG_TESTS_GATEWAY_FIXTURE_H
#define TG_TESTS_GATEWAY_FIXTURE_H

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/pipe/delivery_loop.h"
#include "core/pipe/gateway.h"
#include "tests/support/wait.h"

/* --- a scripted backend --- */

enum { MAX_TS = 1 << 16 };

/* Points are known by their time: 1..MAX_TS ns. A value below zero is refused for good, text that
 * begins with ? has no form here, nor have series with the tag `formless`; one with the tag
 * `unprepared` is at fault.
 * `fail_every` makes every n-th write fail; `down` makes all fail. */
struct sink {
    pthread_mutex_t lock;
    uint16_t seen[MAX_TS];
    unsigned n_points;
    _Atomic unsigned n_writes;
    uint64_t opened_at; /* what open was told */
    char log_id[40];
    uint64_t opened_epoch;
    struct wrote { /* the writes that went well */
        uint64_t epoch, from_no, to_no;
        int64_t first_ts, last_ts;
    } wrote[1024];
    unsigned n_wrote;
    _Atomic bool down;
    _Atomic bool blocks;             /* writes do not return until it is no longer so */
    _Atomic bool is_silent;          /* answers to writes wait until it is no longer so */
    _Atomic unsigned n_silent_turns; /* of the loop, while it is so */
    /* `n_answers` writes are answered, the others wait for more of it. */
    _Atomic bool is_limited;
    _Atomic unsigned n_answers;
    _Atomic unsigned fail_every;
    _Atomic bool has_no_rows, fails_queries;
    unsigned max_points_per_write; /* more are too large; 0 = no bound */
    _Atomic unsigned n_too_large;  /* writes that were */
    bool skips_negative;           /* instead of refusing them */
    /* Of the last rewind; as the Parquet backend, it refuses to go forward while data comes again.
     */
    bool replaces_files;
    struct tg_backend_rewind rewind;
};
static struct sink sinks[2];

struct tg_backend {
    struct sink *sink;
    struct tg_loop *loop;
    struct tg_loop_item item;
    tg_on_write on_write;
    void *arg;
    bool is_canceled; /* the write in flight */
    struct tg_write_result result;
    uint8_t skipped[1 << 10], inexpressible[1 << 10];
};

static inline enum tg_code fake_open(const struct tg_backend_open *how, struct tg_backend **out,
                                     struct tg_err *err)
{
    struct tg_backend *b = tg_calloc(1, sizeof(*b));
    if (!b) return tg_fail(err, TG_ERR_NOMEM, "no memory");
    b->sink = &sinks[how->name[0] == 'b'];
    b->sink->opened_at = how->cursor_pos;
    (void)snprintf(b->sink->log_id, sizeof(b->sink->log_id), "%s", how->log_id);
    b->sink->opened_epoch = how->epoch;
    b->loop = how->loop;
    *out = b;
    return TG_OK;
}

static inline enum tg_code fake_prepare(void *backend, const struct tg_series_desc *mapped,
                                        struct tg_buf *out, struct tg_err *err)
{
    (void)backend;
    if (tg_series_desc_tag(mapped, "formless", 8))
        return tg_fail(err, TG_ERR_UNSUPPORTED, "no form for this one");
    if (tg_series_desc_tag(mapped, "unprepared", 10))
        return tg_fail(err, TG_ERR_INVALID, "no form for this one");
    if (mapped->name_len > 4 && memcmp(mapped->name, "wide", 4) == 0)
        for (int i = 0; i < 8; i++) TG_TRY(tg_buf_append(out, mapped->name, mapped->name_len));
    return tg_buf_append(out, mapped->name, mapped->name_len);
}

static inline void answer(void *arg)
{
    struct tg_backend *b = arg;
    struct sink *s = b->sink;
    if (!tg_delivery_loop_validate(b->arg)) abort(); /* not on the thread of the test */
    const bool may_answer = !atomic_load(&s->is_limited) || atomic_load(&s->n_answers) > 0;
    if (b->is_canceled) {
        b->result = (struct tg_write_result){.outcome = TG_WRITE_RETRY, .retry_after_ms = -1};
        b->on_write(b->arg, &b->result);
        return;
    }
    if (atomic_load(&s->is_silent) || !may_answer) {
        atomic_fetch_add(&s->n_silent_turns, 1);
        (void)usleep(1000);
        tg_loop_post_item(b->loop, &b->item);
        return;
    }
    if (atomic_load(&s->is_limited)) atomic_fetch_sub(&s->n_answers, 1);
    b->on_write(b->arg, &b->result);
}

static inline bool is_negative(const struct tg_delivery *d, uint32_t i)
{
    return d->points[i].point->type == TG_VALUE_INT64 && d->points[i].point->value.i64 < 0;
}

static inline bool is_formless(const struct tg_delivery *d, uint32_t i)
{
    const struct tg_point *p = d->points[i].point;
    return p->type == TG_VALUE_STRING && p->value.string->len && p->value.string->ptr[0] == '?';
}

static inline bool fake_has_form(struct tg_backend *b, const struct tg_point *p)
{
    (void)b;
    const struct tg_delivery_point point = {.point = p};
    return !is_formless(&(struct tg_delivery){.points = &point, .n_points = 1}, 0);
}

/* Text that begins with ~ is taken, but for a part of it. */
static inline bool is_changed(const struct tg_delivery *d, uint32_t i)
{
    const struct tg_point *p = d->points[i].point;
    return p->type == TG_VALUE_STRING && p->value.string->len && p->value.string->ptr[0] == '~';
}

static inline void fake_write(struct tg_backend *b, const struct tg_delivery *d,
                              tg_on_write on_write, void *arg)
{
    struct sink *s = b->sink;
    while (atomic_load(&s->blocks)) (void)usleep(1000);
    b->on_write = on_write;
    b->arg = arg;
    b->is_canceled = false;
    b->result = (struct tg_write_result){.outcome = TG_WRITE_OK, .retry_after_ms = -1};
    (void)pthread_mutex_lock(&s->lock);
    s->n_writes++;
    const unsigned fail_every = s->fail_every;
    bool refused = false;
    memset(b->inexpressible, 0, sizeof(b->inexpressible));
    b->result.inexpressible = b->inexpressible;
    for (uint32_t i = 0; i < d->n_points; i++) {
        if (is_formless(d, i) && i / 8 < sizeof(b->inexpressible)) {
            b->inexpressible[i / 8] = (uint8_t)(b->inexpressible[i / 8] | 1U << i % 8);
            b->result.n_inexpressible++;
        }
        b->result.left_out.n[TG_LEFT_OUT_BYTES] += is_changed(d, i);
        if (!is_negative(d, i)) continue;
        refused = true;
        if (!s->skips_negative || i / 8 >= sizeof(b->skipped)) continue;
        if (b->result.n_skipped++ == 0) memset(b->skipped, 0, sizeof(b->skipped));
        b->skipped[i / 8] = (uint8_t)(b->skipped[i / 8] | 1U << i % 8);
    }
    b->result.skipped = b->skipped;
    if (s->down || (fail_every && s->n_writes % fail_every == 0)) {
        b->result.outcome = TG_WRITE_RETRY;
        (void)snprintf(b->result.message, sizeof(b->result.message), "down for now");
    } else if (s->max_points_per_write && d->n_points > s->max_points_per_write) {
        b->result.outcome = TG_WRITE_TOO_LARGE;
        s->n_too_large++;
    } else if (refused && !s->skips_negative) {
        b->result.outcome = TG_WRITE_REFUSED;
        (void)snprintf(b->result.message, sizeof(b->result.message), "negative values are refused");
    } else {
        for (uint32_t i = 0; i < d->n_points; i++) {
            if (is_negative(d, i) || is_formless(d, i)) continue;
            const int64_t ts = d->points[i].point->ts_ns;
            if (ts <= 0 || ts >= MAX_TS) abort(); /* not on the thread of the test */
            s->seen[ts]++;
        }
        s->n_points += d->n_points;
        if (s->n_wrote < sizeof(s->wrote) / sizeof(s->wrote[0]))
            s->wrote[s->n_wrote++] =
                (struct wrote){d->epoch, d->from_point_no, d->to_point_no,
                               d->points[0].point->ts_ns, d->points[d->n_points - 1].point->ts_ns};
    }
    (void)pthread_mutex_unlock(&s->lock);
    b->item = (struct tg_loop_item){.fn = answer, .arg = b};
    tg_loop_post_item(b->loop, &b->item);
}

static inline void fake_cancel(struct tg_backend *b)
{
    b->is_canceled = true;
}

static inline void fake_health(struct tg_backend *b, tg_on_health on_health, void *arg)
{
    on_health(arg, b->sink->down ? TG_ERR_UNAVAILABLE : TG_OK, "scripted");
}

/* "endless" matches nothing and ends when it is told to; others have one row. */
static inline void fake_query_range(struct tg_backend *b, const struct tg_query *q,
                                    tg_on_row on_row, tg_on_query_end on_end, void *arg)
{
    struct tg_err err;
    if (atomic_load(&b->sink->fails_queries)) {
        on_end(arg, tg_fail(&err, TG_ERR_UNAVAILABLE, "scripted failure"), &err);
        return;
    }
    if (atomic_load(&b->sink->has_no_rows)) {
        on_end(arg, TG_OK, NULL);
        return;
    }
    if (q->name && strcmp(q->name, "endless") == 0) {
        while (!tg_query_must_stop(q->stop)) (void)usleep(1000);
        on_end(arg, tg_fail(&err, TG_ERR_CANCELED, "given up"), &err);
        return;
    }
    static const struct tg_series_desc series = {.name = "one", .name_len = 3};
    const struct tg_point p = {.type = TG_VALUE_DOUBLE, .value.f64 = 1, .ts_ns = 1};
    (void)on_row(arg, &(struct tg_query_row){&series, &p});
    on_end(arg, TG_OK, NULL);
}

static inline enum tg_code fake_rewound(struct tg_backend *b, const struct tg_backend_rewind *how,
                                        uint64_t *pos, struct tg_err *err)
{
    struct sink *s = b->sink;
    (void)pthread_mutex_lock(&s->lock);
    s->rewind = *how;
    const bool refuses = s->replaces_files && how->comes_again && *pos > how->from_pos;
    (void)pthread_mutex_unlock(&s->lock);
    return refuses ? tg_fail(err, TG_ERR_INVALID, "not now") : TG_OK;
}

static inline void fake_close(struct tg_backend *b)
{
    tg_free(b);
}

static const struct tg_option_spec no_options[] = {{.name = NULL}};
static const struct tg_backend_ops fake_ops = {
    .type = "fake",
    .options = no_options,
    .open = fake_open,
    .prepare = fake_prepare,
    .has_form = fake_has_form,
    .write = fake_write,
    .cancel = fake_cancel,
    .health = fake_health,
    .query_range = fake_query_range,
    .rewound = fake_rewound,
    .close = fake_close,
};

/* --- a gateway --- */

struct fixture {
    char dir[64];
    char routing[128], strategy[128], dead[96], log[96];
    struct tg_backend_config backends[2];
    struct tg_config config;
    const char *names[2];
    struct tg_gateway *g;
};

/* At once: a reload may be reading it. */
static inline void write_file(const char *path, const char *text)
{
    char aside[160];
    assert_true((size_t)snprintf(aside, sizeof(aside), "%s.new", path) < sizeof(aside));
    FILE *f = fopen(aside, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(aside, path), 0);
}

static inline void start(struct fixture *f)
{
    struct tg_err err = {.msg = ""};
    const enum tg_code code = tg_gateway_start(&f->config, &f->g, &err);
    if (code != TG_OK) fail_msg("%s", err.msg);
}

static inline void stop(struct fixture *f)
{
    tg_gateway_stop(f->g);
    f->g = NULL;
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/tidegate-test-XXXXXX");
    if (!mkdtemp(f->dir)) return -1;
    (void)snprintf(f->routing, sizeof(f->routing), "%s/routing.lua", f->dir);
    (void)snprintf(f->strategy, sizeof(f->strategy), "%s/strategy.lua", f->dir);
    (void)snprintf(f->dead, sizeof(f->dead), "%s/dead", f->dir);
    (void)snprintf(f->log, sizeof(f->log), "%s/log", f->dir);
    write_file(f->routing, "return function(s) if s.tags.drop then return drop('x') end\n"
                           "if s.tags.only then return to(s.tags.only) end end");
    write_file(f->strategy, "return function(s) if s.tags.wait then return all() end end");
    for (int i = 0; i < 2; i++) {
        memset(&sinks[i], 0, sizeof(sinks[i]));
        (void)pthread_mutex_init(&sinks[i].lock, NULL);
        f->names[i] = i ? "b" : "a";
        f->backends[i] = (struct tg_backend_config){.name = f->names[i],
                                                    .ops = &fake_ops,
                                                    .options = {.specs = no_options},
                                                    .from_start = true,
                                                    .batch_points = 500,
                                                    .retry_min_ms = 2,
                                                    .retry_max_ms = 20,
                                                    .health_every_ms = 1000};
    }
    f->config = (struct tg_config){
        .dir = f->dir,
        .http_address = "127.0.0.1:0",
        .log = {.dir = f->log,
                .sync = TG_SYNC_NEVER,
                .segment_bytes = 64 << 10,
                .max_bytes = 16 << 20},
        .rules = {.routing_path = f->routing,
                  .strategy_path = f->strategy,
                  .backends = f->names,
                  .n_backends = 2},
        .limits = {.max_series = 10000,
                   .series_idle_s = 3600,
                   .max_body_bytes = 1 << 20,
                   .max_decompressed_bytes = 4 << 20,
                   .max_inflight_body_bytes = 16 << 20,
                   .max_connections = 100,
                   .ack_timeout_ms = 400,
                   .drain_timeout_ms = 3000},
        .n_workers = 2,
        .backends = f->backends,
        .n_backends = 2,
        .dead_letter_dir = f->dead,
        .max_dead_letter_bytes = 1 << 20,
    };
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) { /* also after a test that failed on its way */
        atomic_store(&sinks[i].blocks, false);
        atomic_store(&sinks[i].is_silent, false);
        atomic_store(&sinks[i].is_limited, false);
    }
    tg_gateway_stop(f->g);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    const int rc = system(command);
    for (int i = 0; i < 2; i++) (void)pthread_mutex_destroy(&sinks[i].lock);
    free(f);
    return rc;
}

/* Posts lines; the HTTP status, or -1 without an answer. */
static inline int post(const struct fixture *f, const char *lines)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons(tg_gateway_http_port(f->g)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval wait = {.tv_sec = 20};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    int status = -1;
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0) {
        const size_t len = strlen(lines);
        char head[128];
        const int n = snprintf(
            head, sizeof(head),
            "POST /write HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
            len);
        char answer_text[512];
        if (send(fd, head, (size_t)n, MSG_NOSIGNAL) == n &&
            send(fd, lines, len, MSG_NOSIGNAL) == (ssize_t)len) {
            const ssize_t got = recv(fd, answer_text, sizeof(answer_text) - 1, 0);
            if (got > 12) {
                answer_text[got] = '\0';
                status = atoi(answer_text + 9);
            }
        }
    }
    (void)close(fd);
    return status;
}

static inline struct tg_ledger ledger(const struct fixture *f, unsigned backend)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const struct tg_ledger l = s->backends[backend].ledger;
    free(s);
    assert_true(l.received + l.rewound == l.before + l.delivered + l.waiting + l.inexpressible +
                                              l.dead_lettered + l.dropped + l.elsewhere + l.lost +
                                              l.skipped);
    return l;
}

static inline void wait_empty(const struct fixture *f, unsigned backend)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (ledger(f, backend).waiting > 0) {
        if (tg_clock_mono_ms() > deadline_ms)
            fail_msg("backend %u does not catch up: %llu points wait", backend,
                     (unsigned long long)ledger(f, backend).waiting);
        (void)usleep(2000);
    }
}

static inline void post_range(const struct fixture *f, int first, int last, const char *tags)
{
    static char text[1 << 20];
    size_t n = 0;
    for (int i = first; i <= last; i++)
        n +=
            (size_t)snprintf(text + n, sizeof(text) - n, "m,k=%d%s v=%di %d\n", i % 17, tags, i, i);
    assert_int_equal(post(f, text), 204);
}

static inline void assert_seen(unsigned sink, int first, int last, unsigned times)
{
    (void)pthread_mutex_lock(&sinks[sink].lock);
    for (int i = first; i <= last; i++)
        if (sinks[sink].seen[i] != times)
            fail_msg("point %d was seen %u times, not %u", i, sinks[sink].seen[i], times);
    (void)pthread_mutex_unlock(&sinks[sink].lock);
}

struct rewound {
    _Atomic bool done;
    enum tg_code code;
    char why[256];
};

static inline void on_rewind(void *arg, enum tg_code code, const struct tg_cursor_state *now,
                             const struct tg_err *err)
{
    (void)now;
    struct rewound *r = arg;
    r->code = code;
    if (code != TG_OK) (void)snprintf(r->why, sizeof(r->why), "%s", err->msg);
    atomic_store(&r->done, true);
}

static inline struct rewound rewind_where(struct fixture *f, unsigned backend,
                                          struct tg_rewind where)
{
    struct rewound r = {.code = TG_OK};
    struct tg_err err;
    assert_int_equal(tg_gateway_rewind(f->g, backend, &where, on_rewind, &r, &err), TG_OK);
    WAIT_UNTIL(atomic_load(&r.done));
    return r;
}

static inline enum tg_code rewind_backend(struct fixture *f, unsigned backend, enum tg_rewind_to to,
                                          int64_t value)
{
    return rewind_where(f, backend, (struct tg_rewind){.to = to, .value = value}).code;
}

struct reloaded {
    _Atomic bool done;
    struct tg_reload_result result;
};

static inline void on_reload(void *arg, const struct tg_reload_result *result)
{
    struct reloaded *r = arg;
    r->result = *result;
    atomic_store(&r->done, true);
}

static inline void reload(struct fixture *f)
{
    struct reloaded r = {.done = false};
    struct tg_err err;
    assert_int_equal(tg_gateway_reload(f->g, 0, on_reload, &r, &err), TG_OK);
    WAIT_UNTIL(atomic_load(&r.done));
    if (r.result.code != TG_OK) fail_msg("%s", r.result.err.msg);
}

static inline enum tg_delivery_state state_of(const struct fixture *f, unsigned backend)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const enum tg_delivery_state state = s->backends[backend].state;
    free(s);
    return state;
}

static inline void remove_oldest_segment(const struct fixture *f)
{
    char command[300];
    (void)snprintf(command, sizeof(command), "rm \"$(ls %s/*.seg | head -n 1)\"", f->log);
    assert_int_equal(system(command), 0);
}

#endif
