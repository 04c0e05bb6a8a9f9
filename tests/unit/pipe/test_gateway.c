/* The gateway in process, over real sockets, with a backend whose answers the test scripts. Also
 * what the tsan preset runs: senders, delivery, reload, rewind and status all at once. */
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
#include "core/pipe/gateway.h"

/* --- a scripted backend
 * --------------------------------------------------------------------------------------------- */

enum { MAX_TS = 1 << 16 };

/* Points are known by their time: 1..MAX_TS ns. A value below zero is refused for good;
 * `fail_every` makes every n-th write fail; `down` makes all fail. */
struct sink {
    pthread_mutex_t lock;
    uint16_t seen[MAX_TS];
    unsigned n_points, n_writes;
    uint64_t opened_at; /* what open was told */
    _Atomic bool down;
    _Atomic unsigned fail_every;
    unsigned max_points_per_write; /* more are too large; 0 = no bound */
};
static struct sink sinks[2];

struct tg_backend {
    struct sink *sink;
    struct tg_loop *loop;
    struct tg_loop_item item;
    tg_on_write on_write;
    void *arg;
    struct tg_write_result result;
};

static enum tg_code fake_open(const struct tg_backend_open *how, struct tg_backend **out,
                              struct tg_err *err)
{
    struct tg_backend *b = tg_calloc(1, sizeof(*b));
    if (!b) return tg_fail(err, TG_ERR_NOMEM, "no memory");
    b->sink = &sinks[how->name[0] == 'b'];
    b->sink->opened_at = how->cursor_pos;
    b->loop = how->loop;
    *out = b;
    return TG_OK;
}

static enum tg_code fake_prepare(void *backend, const struct tg_series_desc *mapped,
                                 struct tg_buf *out, struct tg_err *err)
{
    (void)backend;
    if (tg_series_desc_tag(mapped, "unprepared", 10))
        return tg_fail(err, TG_ERR_INVALID, "no form for this one");
    if (mapped->name_len > 4 && memcmp(mapped->name, "wide", 4) == 0)
        for (int i = 0; i < 8; i++) TG_TRY(tg_buf_append(out, mapped->name, mapped->name_len));
    return tg_buf_append(out, mapped->name, mapped->name_len);
}

static void answer(void *arg)
{
    struct tg_backend *b = arg;
    b->on_write(b->arg, &b->result);
}

static void fake_write(struct tg_backend *b, const struct tg_delivery *d, tg_on_write on_write,
                       void *arg)
{
    struct sink *s = b->sink;
    b->on_write = on_write;
    b->arg = arg;
    b->result = (struct tg_write_result){.outcome = TG_WRITE_OK, .retry_after_ms = -1};
    (void)pthread_mutex_lock(&s->lock);
    s->n_writes++;
    const unsigned fail_every = s->fail_every;
    bool refused = false;
    for (uint32_t i = 0; i < d->n_points; i++)
        refused |= d->points[i].point->type == TG_VALUE_INT64 && d->points[i].point->value.i64 < 0;
    if (s->down || (fail_every && s->n_writes % fail_every == 0)) {
        b->result.outcome = TG_WRITE_RETRY;
        (void)snprintf(b->result.message, sizeof(b->result.message), "down for now");
    } else if (s->max_points_per_write && d->n_points > s->max_points_per_write) {
        b->result.outcome = TG_WRITE_TOO_LARGE;
    } else if (refused) {
        b->result.outcome = TG_WRITE_REFUSED;
        (void)snprintf(b->result.message, sizeof(b->result.message), "negative values are refused");
    } else {
        for (uint32_t i = 0; i < d->n_points; i++) {
            const int64_t ts = d->points[i].point->ts_ns;
            if (ts <= 0 || ts >= MAX_TS) abort(); /* not on the thread of the test */
            s->seen[ts]++;
        }
        s->n_points += d->n_points;
    }
    (void)pthread_mutex_unlock(&s->lock);
    b->item = (struct tg_loop_item){.fn = answer, .arg = b};
    tg_loop_post_item(b->loop, &b->item);
}

static void fake_health(struct tg_backend *b, tg_on_health on_health, void *arg)
{
    on_health(arg, b->sink->down ? TG_ERR_UNAVAILABLE : TG_OK, "scripted");
}

static void fake_close(struct tg_backend *b)
{
    tg_free(b);
}

static const struct tg_option_spec no_options[] = {{.name = NULL}};
static const struct tg_backend_ops fake_ops = {
    .type = "fake",
    .options = no_options,
    .open = fake_open,
    .prepare = fake_prepare,
    .write = fake_write,
    .health = fake_health,
    .close = fake_close,
};

/* --- a gateway
 * -----------------------------------------------------------------------------------------------------
 */

struct fixture {
    char dir[64];
    char routing[128], strategy[128], dead[96], log[96];
    struct tg_backend_config backends[2];
    struct tg_config config;
    const char *names[2];
    struct tg_gateway *g;
};

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void start(struct fixture *f)
{
    struct tg_err err = {.msg = ""};
    const enum tg_code code = tg_gateway_start(&f->config, &f->g, &err);
    if (code != TG_OK) fail_msg("%s", err.msg);
}

static void stop(struct fixture *f)
{
    tg_gateway_stop(f->g);
    f->g = NULL;
}

static int setup(void **state)
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

static int teardown(void **state)
{
    struct fixture *f = *state;
    tg_gateway_stop(f->g);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    const int rc = system(command);
    for (int i = 0; i < 2; i++) (void)pthread_mutex_destroy(&sinks[i].lock);
    free(f);
    return rc;
}

/* Posts lines; the HTTP status, or -1 without an answer. */
static int post(const struct fixture *f, const char *lines)
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

static struct tg_ledger ledger(const struct fixture *f, unsigned backend)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const struct tg_ledger l = s->backends[backend].ledger;
    free(s);
    assert_true(l.received + l.rewound == l.before + l.delivered + l.waiting + l.dead_lettered +
                                              l.dropped + l.elsewhere + l.lost);
    return l;
}

static void wait_empty(const struct fixture *f, unsigned backend)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (ledger(f, backend).waiting > 0) {
        if (tg_clock_mono_ms() > deadline_ms)
            fail_msg("backend %u does not catch up: %llu points wait", backend,
                     (unsigned long long)ledger(f, backend).waiting);
        (void)usleep(2000);
    }
}

static void post_range(const struct fixture *f, int first, int last, const char *tags)
{
    static char text[1 << 20];
    size_t n = 0;
    for (int i = first; i <= last; i++)
        n +=
            (size_t)snprintf(text + n, sizeof(text) - n, "m,k=%d%s v=%di %d\n", i % 17, tags, i, i);
    assert_int_equal(post(f, text), 204);
}

static void assert_seen(unsigned sink, int first, int last, unsigned times)
{
    (void)pthread_mutex_lock(&sinks[sink].lock);
    for (int i = first; i <= last; i++)
        if (sinks[sink].seen[i] != times)
            fail_msg("point %d was seen %u times, not %u", i, sinks[sink].seen[i], times);
    (void)pthread_mutex_unlock(&sinks[sink].lock);
}

/* --- tests
 * ------------------------------------------------------------------------------------------------------------
 */

static void test_delivers_to_all_in_spite_of_failures(void **state)
{
    struct fixture *f = *state;
    sinks[1].fail_every = 2;
    sinks[1].max_points_per_write = 60;
    start(f);
    post_range(f, 1, 2000, "");
    wait_empty(f, 0);
    wait_empty(f, 1);
    assert_seen(0, 1, 2000, 1);
    assert_seen(1, 1, 2000, 1);
    assert_int_equal(ledger(f, 1).delivered, 2000);
}

static void test_bisects_down_to_the_points_at_fault(void **state)
{
    struct fixture *f = *state;
    start(f);
    atomic_store(&sinks[0].down, true); /* so that it all comes as one delivery */
    post_range(f, 1, 100, "");
    assert_int_equal(post(f, "m v=-1i 101\nm v=5i 102\nm v=-7i 103\n"), 204);
    assert_int_equal(post(f, "m,unprepared=1 v=5i 104\n"), 204);
    post_range(f, 105, 200, "");
    atomic_store(&sinks[0].down, false);
    wait_empty(f, 0);
    wait_empty(f, 1);
    for (unsigned b = 0; b < 2; b++) {
        const struct tg_ledger l = ledger(f, b);
        assert_int_equal(l.delivered, 197);
        assert_int_equal(l.dead_lettered, 3);
        assert_seen(b, 1, 100, 1);
        assert_seen(b, 101, 101, 0);
        assert_seen(b, 102, 102, 1);
        assert_seen(b, 103, 104, 0);
        assert_seen(b, 105, 200, 1);
    }
    char path[160], line[1024];
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    unsigned n = 0, with_reason = 0;
    while (fgets(line, sizeof(line), letters)) {
        n++;
        with_reason +=
            strstr(line, "negative values are refused") || strstr(line, "no form for this one");
    }
    (void)fclose(letters);
    assert_int_equal(n, 3);
    assert_int_equal(with_reason, 3);
}

static void test_routes_drops_and_counts(void **state)
{
    struct fixture *f = *state;
    start(f);
    post_range(f, 1, 10, ",drop=1");
    post_range(f, 11, 30, ",only=a");
    post_range(f, 31, 60, "");
    wait_empty(f, 0);
    wait_empty(f, 1);
    const struct tg_ledger a = ledger(f, 0), b = ledger(f, 1);
    assert_int_equal(a.received, 60);
    assert_int_equal(a.dropped, 10);
    assert_int_equal(a.delivered, 50);
    assert_int_equal(b.delivered, 30);
    assert_int_equal(b.elsewhere, 20);
    assert_seen(1, 1, 30, 0);
}

static void test_acknowledgement_waits_for_cursors_until_the_deadline(void **state)
{
    struct fixture *f = *state;
    start(f);
    assert_int_equal(post(f, "m,wait=1 v=1i 1\n"), 204);
    assert_seen(0, 1, 1, 1);
    assert_seen(1, 1, 1, 1);
    atomic_store(&sinks[1].down, true);
    const uint64_t began_ms = tg_clock_mono_ms();
    assert_int_equal(post(f, "m,wait=1 v=1i 2\n"), 503);
    assert_true(tg_clock_mono_ms() - began_ms >= 350);
    assert_int_equal(post(f, "m v=1i 3\n"), 204); /* logged: does not wait */
    atomic_store(&sinks[1].down, false);
    wait_empty(f, 1);
    assert_int_equal(post(f, "m,wait=1 v=1i 4\n"), 204);
    assert_seen(1, 1, 4, 1);
}

struct rewound {
    _Atomic bool done;
    enum tg_code code;
};

static void on_rewind(void *arg, enum tg_code code, const struct tg_cursor_state *now,
                      const struct tg_err *err)
{
    (void)now;
    (void)err;
    struct rewound *r = arg;
    r->code = code;
    atomic_store(&r->done, true);
}

static enum tg_code rewind_backend(struct fixture *f, unsigned backend, enum tg_rewind_to to,
                                   int64_t value)
{
    struct rewound r = {.code = TG_OK};
    struct tg_err err;
    assert_int_equal(tg_gateway_rewind(f->g, backend, to, value, on_rewind, &r, &err), TG_OK);
    while (!atomic_load(&r.done)) (void)usleep(1000);
    return r.code;
}

/* What is waiting at a restart goes where it was routed when it was accepted, in the form that the
 * rules in force then give it; a rule that drops it by then drops it; a rewind goes by the rules in
 * force alone. */
static void test_restart_with_other_rules(void **state)
{
    struct fixture *f = *state;
    start(f);
    atomic_store(&sinks[0].down, true);
    post_range(f, 1, 300, "");
    post_range(f, 301, 310, ",later=dropped");
    wait_empty(f, 1); /* b passed them all while they were for a and b */
    stop(f);
    assert_seen(0, 1, 310, 0);
    write_file(
        f->routing,
        "return function(s) if s.tags.later then return drop('late') end\nreturn to('b') end");
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_seen(0, 1, 300, 1);
    assert_seen(0, 301, 310, 0);
    assert_int_equal(ledger(f, 0).elsewhere, 10);
    post_range(f, 311, 320, "");
    wait_empty(f, 0);
    wait_empty(f, 1);
    assert_seen(0, 311, 320, 0);
    assert_seen(1, 1, 320, 1);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    wait_empty(f, 0);
    assert_seen(0, 1, 300, 1);
}

/* Backends are numbered by name: another configuration, other numbers, the same routing. */
static void test_restart_with_other_backends(void **state)
{
    struct fixture *f = *state;
    start(f);
    atomic_store(&sinks[0].down, true);
    atomic_store(&sinks[1].down, true);
    post_range(f, 1, 50, ",only=b");
    post_range(f, 51, 80, ",only=a");
    stop(f);
    atomic_store(&sinks[1].down, false);
    f->backends[0] = f->backends[1]; /* b alone, now number 0 */
    f->names[0] = "b";
    f->backends[0].name = "b";
    f->config.n_backends = f->config.rules.n_backends = 1;
    start(f);
    wait_empty(f, 0);
    assert_seen(1, 1, 50, 1);
    assert_seen(1, 51, 80, 0);
    assert_seen(0, 1, 80, 0);
}

static void test_rewind(void **state)
{
    struct fixture *f = *state;
    start(f);
    post_range(f, 1, 50, "");
    post_range(f, 51, 100, "");
    wait_empty(f, 0);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    wait_empty(f, 0);
    assert_seen(0, 1, 100, 2);
    assert_int_equal(ledger(f, 0).rewound, 100);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_TIME, 60), TG_OK);
    wait_empty(f, 0);
    assert_seen(0, 1, 50, 2);
    assert_seen(0, 51, 100, 3);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_POSITION, INT64_MAX / 2), TG_ERR_INVALID);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_END, 0), TG_OK);
    wait_empty(f, 0);
    /* while a backend is down, a rewind must not wait for it */
    atomic_store(&sinks[0].down, true);
    post_range(f, 101, 110, "");
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    atomic_store(&sinks[0].down, false);
    wait_empty(f, 0);
    assert_seen(0, 1, 50, 3);
    assert_seen(0, 101, 110, 1);
}

struct sender {
    pthread_t thread;
    struct fixture *f;
    int first, n;
    _Atomic unsigned n_failed;
};

static void *send_many(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < s->n; i += 10) {
        char text[1024];
        size_t n = 0;
        for (int j = i; j < i + 10; j++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "m,k=%d v=%di %d\n", j % 40, j,
                                  s->first + j);
        if (post(s->f, text) != 204) atomic_fetch_add(&s->n_failed, 1);
    }
    return NULL;
}

static void test_everything_at_once(void **state)
{
    struct fixture *f = *state;
    enum { SENDERS = 4, EACH = 1000 };
    sinks[0].fail_every = 7;
    start(f);
    struct sender senders[SENDERS] = {0};
    for (int i = 0; i < SENDERS; i++) {
        senders[i].f = f;
        senders[i].first = 1 + i * EACH;
        senders[i].n = EACH;
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_many, &senders[i]), 0);
    }
    for (int i = 0; i < 25; i++) {
        struct tg_err err;
        write_file(f->routing, i % 2 ? "return function(s) s.tags.x = nil return nil end"
                                     : "return function(s) return to('a', 'b') end");
        const enum tg_code code = tg_gateway_reload(f->g, &err);
        if (code != TG_OK) fail_msg("%s", err.msg);
        (void)ledger(f, (unsigned)i % 2);
        (void)usleep(5000);
    }
    for (int i = 0; i < SENDERS; i++) {
        (void)pthread_join(senders[i].thread, NULL);
        assert_int_equal(senders[i].n_failed, 0);
    }
    wait_empty(f, 0);
    wait_empty(f, 1);
    assert_seen(0, 1, SENDERS * EACH, 1);
    assert_seen(1, 1, SENDERS * EACH, 1);
}

static void test_start_fails_with_a_message_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct tg_err err = {.msg = ""};
    write_file(f->routing, "return function(s) return to( end");
    assert_int_equal(tg_gateway_start(&f->config, &f->g, &err), TG_ERR_INVALID);
    assert_non_null(strstr(err.msg, "routing.lua:1"));
    write_file(f->routing, "return function(s) end");
    start(f);
    struct tg_gateway *second = NULL;
    assert_int_not_equal(tg_gateway_start(&f->config, &second, &err),
                         TG_OK); /* the log is locked */
    assert_null(second);
}

/* --- bad days
 * -----------------------------------------------------------------------------------------------------
 */

static struct tg_fs flaky_fs; /* the real one, but cursors cannot be saved while this is set: */
static _Atomic bool cursors_fail;

static int flaky_rename(void *self, const char *from, const char *to)
{
    if (atomic_load(&cursors_fail) && strstr(to, "/cursors/")) return -EIO;
    return tg_fs_real()->rename(self, from, to);
}

static enum tg_delivery_state state_of(const struct fixture *f, unsigned backend)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const enum tg_delivery_state state = s->backends[backend].state;
    free(s);
    return state;
}

static void test_cursor_that_cannot_be_saved(void **state)
{
    struct fixture *f = *state;
    flaky_fs = *tg_fs_real();
    flaky_fs.rename = flaky_rename;
    f->config.log.fs = &flaky_fs;
    f->backends[0].retry_max_ms = f->backends[0].retry_min_ms = 250; /* each try is a save */
    start(f);
    post_range(f, 1, 10, "");
    wait_empty(f, 0);
    (void)usleep(600 * 1000); /* a save is due with the next move */
    atomic_store(&cursors_fail, true);
    post_range(f, 11, 20, "");
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (state_of(f, 0) != TG_DELIVERY_STALLED && tg_clock_mono_ms() < deadline_ms)
        (void)usleep(2000);
    assert_int_equal(state_of(f, 0), TG_DELIVERY_STALLED);
    /* neither does a rewind that cannot be saved move anything */
    assert_int_not_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    (void)ledger(f, 0);
    (void)usleep(600 * 1000);
    (void)ledger(f, 0);
    atomic_store(&cursors_fail, false);
    post_range(f, 21, 30, "");
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).delivered, 30);
    assert_seen(0, 1, 30, 1);
}

static void remove_oldest_segment(const struct fixture *f)
{
    char command[300];
    (void)snprintf(command, sizeof(command), "rm \"$(ls %s/*.seg | head -n 1)\"", f->log);
    assert_int_equal(system(command), 0);
}

/* What is missing behind a cursor is counted, not forgotten. */
static void test_missing_segment_is_counted_as_lost(void **state)
{
    struct fixture *f = *state;
    f->config.log.segment_bytes = 4096;
    start(f);
    post_range(f, 1, 100, "");
    wait_empty(f, 0);
    atomic_store(&sinks[0].down, true);
    stop(f); /* the next start begins a segment */
    remove_oldest_segment(f);
    start(f);
    for (int i = 0; i < 20; i++) post_range(f, 101 + i * 100, 200 + i * 100, "");
    stop(f);
    remove_oldest_segment(f);
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    const struct tg_ledger l = ledger(f, 0);
    assert_true(l.lost > 0);
    assert_int_equal(l.lost + l.delivered, 2100);
    /* nor may a backend clear away what the log cannot bring back */
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    assert_true(sinks[0].opened_at >= s->log.start_pos);
    free(s);
}

/* Values that need more memory than a batch may have: it goes out with fewer points. */
static void test_large_values_make_small_batches(void **state)
{
    enum { N = 4600, LEN = 60000 };
    struct fixture *f = *state;
    static char line[LEN + 100];
    f->backends[0].batch_points = f->backends[1].batch_points = 100000;
    f->config.n_backends = 1;
    f->config.rules.n_backends = 1;
    atomic_store(&sinks[0].down, true);
    start(f);
    for (int i = 1; i <= N; i++) {
        const int n = snprintf(line, sizeof(line), "m s=\"%d", i);
        memset(line + n, 'x', LEN);
        (void)snprintf(line + n + LEN, sizeof(line) - (size_t)n - LEN, "\" %d\n", i);
        assert_int_equal(post(f, line), 204);
    }
    stop(f); /* so that it all is read at once */
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_seen(0, 1, N, 1);
}

/* Many series that a backend was to have when their points came, but by the rules not any more. */
static void test_many_series_routed_elsewhere_since(void **state)
{
    enum { N = 9000, NAME = 1000 };
    struct fixture *f = *state;
    static char text[(NAME + 40) * 500];
    f->backends[0].batch_points = 100000;
    atomic_store(&sinks[0].down, true);
    start(f);
    for (int i = 1; i <= N;) {
        size_t n = 0;
        for (int k = 0; k < 500 && i <= N; k++, i++) {
            const int at = snprintf(text + n, sizeof(text) - n, "wide%d_", i);
            n += (size_t)at;
            memset(text + n, 'x', (size_t)(NAME - at));
            n += (size_t)(NAME - at);
            n += (size_t)snprintf(text + n, sizeof(text) - n, " v=1i %d\n", i);
        }
        assert_int_equal(post(f, text), 204);
    }
    stop(f);
    write_file(f->routing, "return function(s) return to('b') end");
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_seen(0, 1, N, 1);
}

/* A backend that was taken out of the configuration does not fill the log for the others. */
static void test_removed_backend_does_not_fill_the_log(void **state)
{
    struct fixture *f = *state;
    f->config.log.segment_bytes = 4096;
    f->config.log.max_bytes = 32768;
    atomic_store(&sinks[1].down, true);
    start(f);
    post_range(f, 1, 100, "");
    stop(f);
    f->config.n_backends = 1;
    f->config.rules.n_backends = 1;
    start(f);
    for (int i = 101; i <= 180; i++) {
        char line[3000];
        int n = snprintf(line, sizeof(line), "m s=\"");
        while (n < 2000) n += snprintf(line + n, sizeof(line) - (size_t)n, "%lx", random());
        (void)snprintf(line + n, sizeof(line) - (size_t)n, "\" %d\n", i);
        const uint64_t deadline_ms = tg_clock_mono_ms() + 10000;
        while (post(f, line) != 204) { /* full until the cursor's file says what went */
            assert_true(tg_clock_mono_ms() < deadline_ms);
            (void)usleep(20 * 1000);
        }
        wait_empty(f, 0);
    }
    wait_empty(f, 0);
    stop(f);
    /* put back, it goes on with what is left, and knows what is not */
    f->config.n_backends = 2;
    f->config.rules.n_backends = 2;
    atomic_store(&sinks[1].down, false);
    start(f);
    wait_empty(f, 1);
    const struct tg_ledger l = ledger(f, 1);
    assert_true(l.lost > 0);
    assert_int_equal(l.lost + l.delivered + l.elsewhere, 180);
}

/* Power went in the middle of a line: what comes next has a line of its own. */
static void test_dead_letters_after_a_torn_line(void **state)
{
    struct fixture *f = *state;
    char path[160], line[1024];
    assert_int_equal(mkdir(f->dead, 0750), 0);
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    write_file(path, "{\"at\":\"2026-01-0");
    start(f);
    assert_int_equal(post(f, "m v=-1i 1\n"), 204);
    wait_empty(f, 0);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_string_equal(line, "{\"at\":\"2026-01-0\n");
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_non_null(strstr(line, "negative values are refused"));
    (void)fclose(letters);
}

/* A dead letter holds the value, whatever bytes it has. */
static void test_dead_letter_of_a_text_that_is_not_utf8(void **state)
{
    struct fixture *f = *state;
    char path[160], line[1024];
    start(f);
    assert_int_equal(post(f, "m,unprepared=1 s=\"a\xff\" 1\n"), 204);
    wait_empty(f, 0);
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_non_null(strstr(line, "\"type\":\"string\",\"value\":{\"hex\":\"61ff\"}"));
    (void)fclose(letters);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_delivers_to_all_in_spite_of_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bisects_down_to_the_points_at_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_routes_drops_and_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_acknowledgement_waits_for_cursors_until_the_deadline,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart_with_other_rules, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart_with_other_backends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rewind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_everything_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cursor_that_cannot_be_saved, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing_segment_is_counted_as_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_values_make_small_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_series_routed_elsewhere_since, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed_backend_does_not_fill_the_log, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_dead_letters_after_a_torn_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letter_of_a_text_that_is_not_utf8, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_start_fails_with_a_message_and_leaves_nothing, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
