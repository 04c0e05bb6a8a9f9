/* The log with its thread: submitters, readers and cursors at once. Meant for TSan as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log.h"
#include "core/log/log_impl.h"
#include "tests/support/log_fixture.h"
#include "tests/support/sim_fs.h"
#include "tests/support/wait.h"

enum { N_SUBMITTERS = 4, N_READERS = 3, N_BATCHES = 150, N_SERIES = 200, PER_BATCH = 50 };

struct gate { /* counts down */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    int64_t n;
};

static void gate_init(struct gate *g, int64_t n)
{
    (void)pthread_mutex_init(&g->mu, NULL);
    (void)pthread_cond_init(&g->changed, NULL);
    g->n = n;
}
static void gate_add(struct gate *g, int64_t n)
{
    pthread_mutex_lock(&g->mu);
    g->n += n;
    (void)pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mu);
}
static void gate_wait_zero(struct gate *g)
{
    pthread_mutex_lock(&g->mu);
    while (g->n > 0) (void)pthread_cond_wait(&g->changed, &g->mu);
    pthread_mutex_unlock(&g->mu);
}

struct stage {
    struct lf f;
    struct sim_fs *sim;
    struct tg_log *log;
    struct gate committing;
    _Atomic uint64_t n_committed; /* points */
    _Atomic bool done;
    bool is_vandalised; /* some commits fail, and reads have to wait */
};

struct submission {
    struct stage *s;
    struct tg_batch batch;
};

static void on_commit(void *arg, enum tg_code code, uint64_t end_pos, const struct tg_err *err)
{
    struct submission *sub = arg;
    (void)err;
    if (code == TG_OK) {
        atomic_fetch_add(&sub->s->n_committed, sub->batch.n_points);
        if (end_pos > tg_log_stats(sub->s->log).end_pos) abort();
    }
    struct stage *s = sub->s;
    tg_batch_deinit(&sub->batch);
    free(sub);
    gate_add(&s->committing, -1);
}

/* Each point's value says which it is, so that readers can check it: series index * 1000000 + n. */
static struct submission *submission_new(struct stage *s, unsigned who, unsigned n)
{
    struct submission *sub = calloc(1, sizeof(*sub));
    if (!sub) abort();
    sub->s = s;
    tg_batch_init(&sub->batch, tg_table_guard(s->f.table), 0, 0);
    if (tg_batch_reserve(&sub->batch, PER_BATCH) != TG_OK) abort();
    for (unsigned i = 0; i < PER_BATCH; i++) {
        struct tg_point *p = tg_batch_push(&sub->batch);
        const unsigned k = who * PER_BATCH + i;
        memset(p, 0, sizeof(*p));
        p->series = s->f.series[k];
        p->type = TG_VALUE_INT64;
        p->ts_ns = n;
        p->value.i64 = (int64_t)k * 1000000 + n;
    }
    return sub;
}

struct submitter {
    struct stage *s;
    unsigned who;
};

static void *submit_all(void *arg)
{
    struct submitter *me = arg;
    for (unsigned n = 0; n < N_BATCHES; n++) {
        struct submission *sub = submission_new(me->s, me->who, n);
        gate_add(&me->s->committing, 1);
        while (tg_log_submit(me->s->log, &sub->batch, on_commit, sub, NULL) != TG_OK) usleep(100);
    }
    return NULL;
}

static void on_append(void *arg)
{
    gate_add(arg, -1);
}

struct follower {
    struct stage *s;
    unsigned who;
    struct gate news; /* n <= 0: there are some */
    uint64_t n_points;
};

static void *follow(void *arg)
{
    struct follower *me = arg;
    struct stage *s = me->s;
    struct tg_log_reader *reader;
    struct tg_log_cursor *cursor;
    char name[16];
    (void)snprintf(name, sizeof(name), "reader%u", me->who);
    while (tg_log_cursor_open(s->log, name, true, &cursor, NULL) != TG_OK)
        if (!s->is_vandalised) abort();
    if (tg_log_reader_open(s->log, 0, &reader, NULL) != TG_OK) abort();
    unsigned next[N_SERIES] = {0}; /* in order per series */
    for (;;) {
        const bool last = atomic_load(&s->done);
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        tg_batch_init(&b, tg_table_guard(s->f.table), 0, 0);
        if (tg_log_reader_read(reader, &b, 500, &rd, &dict, NULL) != TG_OK) {
            if (!s->is_vandalised) abort();
            tg_batch_deinit(&b);
            (void)usleep(100);
            continue;
        }
        if (rd.n_lost) abort();
        for (uint32_t i = 0; i < b.n_points; i++) {
            const unsigned k = (unsigned)(b.points[i].value.i64 / 1000000);
            const unsigned n = (unsigned)(b.points[i].value.i64 % 1000000);
            if (b.points[i].series != s->f.series[k] || b.points[i].ts_ns != n) abort();
            if (s->is_vandalised ? n < next[k] : n != next[k]) abort();
            next[k] = n + 1;
        }
        me->n_points += b.n_points;
        struct tg_cursor_state st = tg_log_cursor_get(cursor);
        st.pos = rd.to_pos;
        st.point_no = rd.to_point_no;
        st.n_delivered += b.n_points;
        if (tg_log_cursor_set(cursor, &st, rd.to_point_no % 3 == 0, NULL) != TG_OK) abort();
        const bool idle = rd.from_pos == rd.to_pos;
        tg_segment_dict_unref(dict);
        tg_batch_deinit(&b);
        if (idle && last) break;
        if (idle) {
            pthread_mutex_lock(&me->news.mu);
            struct timespec ts;
            (void)clock_gettime(CLOCK_REALTIME, &ts);
            ts.tv_nsec += 5000000;
            if (ts.tv_nsec >= 1000000000) {
                ts.tv_nsec -= 1000000000;
                ts.tv_sec++;
            }
            if (me->news.n > 0) (void)pthread_cond_timedwait(&me->news.changed, &me->news.mu, &ts);
            me->news.n = 1;
            pthread_mutex_unlock(&me->news.mu);
        }
    }
    tg_log_reader_close(reader);
    tg_log_cursor_close(cursor);
    return NULL;
}

static void find_last(void *arg, const char *name, const struct tg_fs_stat *st)
{
    char *last = arg;
    (void)st;
    if (strstr(name, ".seg") && strcmp(name, last) > 0) (void)snprintf(last, 64, "%s", name);
}

/* `cp S x; mv x S`, or `rm S`, with each segment once it is there. */
static void *vandalise(void *arg)
{
    struct stage *s = arg;
    const struct tg_fs *fs = &s->sim->fs;
    char done[64] = "";
    for (unsigned n = 0; !atomic_load(&s->done);) {
        char last[64] = "", path[80];
        uint8_t buf[8192];
        (void)usleep(500);
        if (fs->list(fs->self, "/log", find_last, last) < 0 || strcmp(last, done) <= 0) continue;
        (void)snprintf(done, sizeof(done), "%s", last);
        (void)snprintf(path, sizeof(path), "/log/%s", last);
        const int from = fs->open(fs->self, path, TG_FS_READ);
        const int to = fs->open(fs->self, "/log/x", TG_FS_WRITE | TG_FS_CREATE | TG_FS_TRUNCATE);
        if (to < 0) abort();
        const int64_t len = from < 0 ? 0 : fs->pread(fs->self, from, buf, sizeof(buf), 0);
        if (len > 0) (void)fs->pwrite(fs->self, to, buf, (size_t)len, 0);
        if (from >= 0) (void)fs->close(fs->self, from);
        (void)fs->close(fs->self, to);
        if (n++ % 4)
            (void)fs->rename(fs->self, "/log/x", path);
        else
            (void)fs->unlink(fs->self, path);
    }
    return NULL;
}

static void run_all(enum tg_log_sync sync, uint64_t max_bytes, bool is_vandalised)
{
    struct stage s = {.is_vandalised = is_vandalised};
    lf_init(&s.f, N_SERIES, 1);
    s.sim = sim_fs_new(1);
    gate_init(&s.committing, 0);
    const struct tg_log_config config = {.dir = "/log",
                                         /* vandalised, each is given up soon enough */
                                         .segment_bytes = is_vandalised ? 0 : 3000,
                                         .max_bytes = max_bytes,
                                         .sync = sync,
                                         .sync_interval_ms = 5,
                                         .queue_batches = 8,
                                         .fs = &s.sim->fs,
                                         .table = s.f.table};
    assert_int_equal(tg_log_open(&config, &s.log, NULL), TG_OK);
    struct follower followers[N_READERS];
    struct submitter submitters[N_SUBMITTERS];
    pthread_t threads[N_READERS + N_SUBMITTERS];
    for (unsigned i = 0; i < N_READERS; i++) {
        followers[i] = (struct follower){.s = &s, .who = i};
        gate_init(&followers[i].news, 1);
        tg_log_on_append(s.log, on_append, &followers[i].news);
    }
    assert_int_equal(tg_log_start(s.log, NULL), TG_OK);
    for (unsigned i = 0; i < N_READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, follow, &followers[i]), 0);
    for (unsigned i = 0; i < N_SUBMITTERS; i++) {
        submitters[i] = (struct submitter){.s = &s, .who = i};
        assert_int_equal(pthread_create(&threads[N_READERS + i], NULL, submit_all, &submitters[i]),
                         0);
    }
    pthread_t vandal;
    if (is_vandalised) assert_int_equal(pthread_create(&vandal, NULL, vandalise, &s), 0);
    for (unsigned i = 0; i < N_SUBMITTERS; i++) (void)pthread_join(threads[N_READERS + i], NULL);
    gate_wait_zero(&s.committing);
    atomic_store(&s.done, true);
    if (is_vandalised) (void)pthread_join(vandal, NULL);
    for (unsigned i = 0; i < N_READERS; i++) (void)pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < N_READERS; i++)
        assert_int_equal(followers[i].n_points, atomic_load(&s.n_committed));
    const struct tg_log_stats st = tg_log_stats(s.log);
    assert_int_equal(st.end_point_no, atomic_load(&s.n_committed));
    assert_int_equal(st.n_queued_batches, 0);
    assert_int_equal(st.n_queued_points, 0);
    if (is_vandalised)
        assert_true(st.n_replaced > 0);
    else
        assert_true(atomic_load(&s.n_committed) ==
                    (uint64_t)N_SUBMITTERS * N_BATCHES * PER_BATCH); /* full ones were sent again */
    tg_log_close(s.log);
    sim_fs_free(s.sim);
    lf_deinit(&s.f);
}

static void test_always(void **state)
{
    (void)state;
    run_all(TG_SYNC_ALWAYS, 0, false);
}
static void test_interval(void **state)
{
    (void)state;
    run_all(TG_SYNC_INTERVAL, 0, false);
}

static void test_segments_replaced_meanwhile(void **state)
{
    (void)state;
    tg_log_set_level((enum tg_log_level)(TG_LOG_ERROR + 1));
    run_all(TG_SYNC_ALWAYS, 0, true);
    run_all(TG_SYNC_INTERVAL, 0, true);
    tg_log_set_level(TG_LOG_ERROR);
}

static void test_submit_limits(void **state)
{
    (void)state;
    struct stage s = {0};
    struct tg_err err;
    lf_init(&s.f, N_SERIES, 1);
    s.sim = sim_fs_new(1);
    gate_init(&s.committing, 0);
    const struct tg_log_config config = {.dir = "/log", .fs = &s.sim->fs, .table = s.f.table};
    assert_int_equal(tg_log_open(&config, &s.log, NULL), TG_OK);
    struct submission *sub = submission_new(&s, 0, 0);
    for (unsigned twice = 0; twice < 2; twice++)
        assert_int_equal(tg_log_submit(s.log, &sub->batch, on_commit, sub, &err), TG_ERR_CANCELED);
    /* what was submitted is committed by close */
    assert_int_equal(tg_log_start(s.log, NULL), TG_OK);
    gate_add(&s.committing, 1);
    assert_int_equal(tg_log_submit(s.log, &sub->batch, on_commit, sub, &err), TG_OK);
    tg_log_close(s.log);
    gate_wait_zero(&s.committing);
    assert_int_equal(atomic_load(&s.n_committed), PER_BATCH);
    sim_fs_free(s.sim);
    lf_deinit(&s.f);
}

/* A full log takes new batches again, by itself, once the cursor has passed the old ones. */
static void test_full_and_back(void **state)
{
    (void)state;
    struct stage s = {0};
    struct tg_err err;
    struct tg_log_cursor *cursor;
    lf_init(&s.f, N_SERIES, 1);
    s.sim = sim_fs_new(1);
    gate_init(&s.committing, 0);
    const struct tg_log_config config = {
        .dir = "/log", .max_bytes = 16000, .fs = &s.sim->fs, .table = s.f.table};
    assert_int_equal(tg_log_open(&config, &s.log, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(s.log, "slow", true, &cursor, NULL), TG_OK);
    assert_int_equal(tg_log_start(s.log, NULL), TG_OK);
    for (unsigned round = 0; round < 3; round++) {
        enum tg_code code = TG_OK;
        for (unsigned n = 0; n < 20000 && code == TG_OK; n++) {
            struct submission *sub = submission_new(&s, 0, n);
            gate_add(&s.committing, 1);
            code = tg_log_submit(s.log, &sub->batch, on_commit, sub, &err);
            if (code != TG_OK) {
                gate_add(&s.committing, -1);
                tg_batch_deinit(&sub->batch);
                free(sub);
            }
            gate_wait_zero(&s.committing);
        }
        assert_int_equal(code, TG_ERR_FULL);
        const struct tg_log_stats st = tg_log_stats(s.log);
        assert_true(st.full && st.n_refused > 0);
        struct tg_cursor_state c = tg_log_cursor_get(cursor);
        c.n_delivered += st.end_point_no - c.point_no;
        c.pos = st.end_pos;
        c.point_no = st.end_point_no;
        assert_int_equal(tg_log_cursor_set(cursor, &c, true, NULL), TG_OK);
        for (unsigned i = 0; tg_log_stats(s.log).full; i++) {
            assert_true(i < 5000);
            usleep(1000);
        }
    }
    tg_log_cursor_close(cursor);
    tg_log_close(s.log);
    sim_fs_free(s.sim);
    lf_deinit(&s.f);
}

/* --- a cursor that goes back while its file is being written for further on --- */

static struct {
    struct tg_log *log;
    struct tg_log_cursor *cursor;
    pthread_t rewinder;
    unsigned n_renames; /* from when the test looks */
    uint64_t held_pos;
    bool armed;
} late;

static void *go_back(void *arg)
{
    const struct tg_cursor_state start = {0};
    (void)arg;
    assert_int_equal(tg_log_cursor_set(late.cursor, &start, true, NULL), TG_OK);
    return NULL;
}

static int late_rename(void *self, const char *from, const char *to)
{
    const struct sim_fs *sim = self;
    if (late.armed && ++late.n_renames == 1) {
        assert_int_equal(pthread_create(&late.rewinder, NULL, go_back, NULL), 0);
        WAIT_UNTIL(tg_log_cursor_get(late.cursor).pos == 0);
    } else if (late.armed && late.n_renames == 2) { /* the file still says further on */
        pthread_mutex_lock(&late.log->mu);
        late.held_pos = tg_log_cursors_min_pos(late.log);
        pthread_mutex_unlock(&late.log->mu);
    }
    return sim->fs.rename(self, from, to);
}

static void test_going_back_while_saved(void **state)
{
    (void)state;
    struct lf f;
    lf_init(&f, N_SERIES, 1);
    struct sim_fs *sim = sim_fs_new(1);
    struct tg_fs fs = sim->fs;
    fs.rename = late_rename;
    const struct tg_log_config config = {.dir = "/log", .fs = &fs, .table = f.table};
    struct tg_batch b;
    uint64_t end;
    tg_batch_init(&b, tg_table_guard(f.table), 0, 0);
    lf_scrape(&f, &b, 0, N_SERIES, 1);
    memset(&late, 0, sizeof(late));
    assert_int_equal(tg_log_open(&config, &late.log, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(late.log, "c", true, &late.cursor, NULL), TG_OK);
    assert_int_equal(tg_log_commit(late.log, &(struct tg_batch *){&b}, 1, &end, NULL), TG_OK);
    const struct tg_cursor_state at_end = {
        .pos = end, .point_no = N_SERIES, .n_delivered = N_SERIES};
    late.held_pos = UINT64_MAX;
    late.armed = true;
    assert_int_equal(tg_log_cursor_set(late.cursor, &at_end, true, NULL), TG_OK);
    (void)pthread_join(late.rewinder, NULL);
    late.armed = false;
    assert_int_equal(late.held_pos, 0);
    tg_log_cursor_close(late.cursor);
    tg_log_close(late.log);
    tg_batch_deinit(&b);
    sim_fs_free(sim);
    lf_deinit(&f);
}

int main(void)
{
    tg_log_set_level(TG_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_always),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_segments_replaced_meanwhile),
        cmocka_unit_test(test_submit_limits),
        cmocka_unit_test(test_full_and_back),
        cmocka_unit_test(test_going_back_while_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
