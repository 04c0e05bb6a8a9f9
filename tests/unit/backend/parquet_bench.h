/* parquet_bench.h: a Parquet backend on a file system in memory, with points that are known by
 * their position.
 *
 * Failures end the test. One thread.
 */
#ifndef TG_TESTS_PARQUET_BENCH_H
#define TG_TESTS_PARQUET_BENCH_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/backend/backend.h"
#include "core/backend/parquet/parquet.h"
#include "core/backend/parquet/parquet_dir.h"
#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "tests/support/parquet_sample.h"
#include "tests/support/sim_fs.h"

/* Rows of tables leave out what is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define DAY_NS TG_PARQUET_DAY_NS
#define T0     (INT64_C(19675) * DAY_NS) /* 2023-11-14 */

static const struct tg_backend_ops *const ops = &tg_backend_parquet;

struct bench { /* what a test works with */
    struct sim_fs *sim;
    struct tg_loop *loop;
    struct tg_arena arena;
    struct tg_options options;
    struct tg_backend *b;
    bool is_overdue;
    struct tg_write_result result;
    const char *log_id;
    uint64_t epoch;
    unsigned n_results, n_rows, n_ends, stop_after;
    enum tg_code end_code, health_code;
    char end_message[256];
    int64_t times[4096];
    double values[4096];
    char names[256];
};

static inline bool is_overdue(void *bench)
{
    return ((struct bench *)bench)->is_overdue;
}

static inline enum tg_code open_at(struct bench *t, uint64_t cursor, uint64_t log_end,
                                   struct tg_err *err)
{
    const struct tg_backend_open how = {.name = "archive",
                                        .is_overdue = is_overdue,
                                        .overdue_arg = t,
                                        .options = &t->options,
                                        .loop = t->loop,
                                        .cursor_pos = cursor,
                                        .log_end_pos = log_end,
                                        .log_id = t->log_id,
                                        .epoch = t->epoch};
    t->b = NULL;
    return ops->open(&how, &t->b, err);
}

static inline void must_open(struct bench *t, uint64_t cursor, uint64_t log_end)
{
    struct tg_err err = {.msg = ""};
    if (open_at(t, cursor, log_end, &err) != TG_OK) fail_msg("%s", err.msg);
}

static inline void start(struct bench *t, const char *compression)
{
    struct tg_err err = {.msg = ""};
    memset(t, 0, sizeof(*t));
    t->sim = sim_fs_new(7);
    tg_backend_parquet_set_fs(&t->sim->fs);
    t->loop = tg_loop_new();
    tg_arena_init(&t->arena, 0);
    assert_int_equal(tg_options_init(&t->options, ops->options, &t->arena), TG_OK);
    assert_int_equal(tg_options_set(&t->options, "dir", "/data/pq", &t->arena, &err), TG_OK);
    if (compression)
        assert_int_equal(tg_options_set(&t->options, "compression", compression, &t->arena, &err),
                         TG_OK);
    assert_int_equal(tg_options_complete(&t->options, &err), TG_OK);
    assert_int_equal(t->sim->fs.mkdir(t->sim->fs.self, "/data"), 0);
}

static inline void end(struct bench *t)
{
    ops->close(t->b);
    tg_loop_free(t->loop);
    tg_arena_deinit(&t->arena);
    sim_fs_free(t->sim);
    tg_backend_parquet_set_fs(NULL);
}

static inline void on_write(void *arg, const struct tg_write_result *r)
{
    struct bench *t = arg;
    t->result = *r;
    t->n_results++;
}

/* One series "m" with tag host=a; n values, one per step. */
struct points {
    struct tg_sample sample;
    struct tg_delivery_point d[4096];
    struct tg_arena packed;
    uint32_t n;
};

static inline void points_init(struct points *p)
{
    memset(p, 0, sizeof(*p));
    tg_sample_init(&p->sample);
    tg_arena_init(&p->packed, 0);
}

static inline void points_deinit(struct points *p)
{
    tg_sample_deinit(&p->sample);
    tg_arena_deinit(&p->packed);
}

static inline void points_add(struct points *p, const char *name, int64_t ts, double value)
{
    static const char *const tags[] = {"host=a"};
    uint32_t len;
    const uint8_t *series = tg_sample_series(&p->sample, name, 0, TG_KIND_GAUGE,
                                             TG_TEMPORALITY_NONE, "", tags, 1, NULL, &len);
    tg_sample_add(&p->sample, series, len, ts, TG_VALUE_DOUBLE)->point.value.f64 = value;
}

/* As prepare gives it for a series whose parts nobody shares: one token of plain bytes. */
static inline struct tg_delivery_point packed(struct points *p, const struct tg_point *point,
                                              const struct tg_plan *plan, const uint8_t *plain,
                                              uint32_t len)
{
    struct tg_buf b;
    tg_buf_init(&b, 0);
    assert_int_equal(tg_buf_reserve(&b, TG_VARINT_MAX + len), TG_OK);
    tg_buf_put_varint(&b, (uint64_t)len << 1);
    tg_buf_put(&b, plain, len);
    const char *copy = tg_arena_strndup(&p->packed, (const char *)b.data, b.len);
    const struct tg_delivery_point d = {point, plan, (const uint8_t *)copy, (uint32_t)b.len};
    tg_buf_deinit(&b);
    return d;
}

static inline struct tg_delivery delivery(struct points *p, uint64_t from, uint64_t to,
                                          uint32_t part, const struct tg_plan *plan)
{
    for (uint32_t i = 0; i < p->sample.n; i++) {
        const struct tg_sample_point *s = &p->sample.points[i];
        p->d[i] = packed(p, &s->point, plan, s->series, s->series_len);
        if (i > 0 && s->series == s[-1].series) p->d[i].prepared = p->d[i - 1].prepared;
    }
    return (struct tg_delivery){p->d, p->sample.n, from, to, part};
}

static inline void write_delivery(struct bench *t, const struct tg_delivery *d)
{
    const unsigned before = t->n_results;
    ops->write(t->b, d, on_write, t);
    assert_int_equal(t->n_results, before); /* never before write returned */
    while (t->n_results == before) tg_loop_once(t->loop, 100);
    assert_int_equal(t->n_results, before + 1);
}

/* Writes one point "m" of the day + the position in ns: the point is known by its time. Those of
 * [lost_from, lost_to) the log does not have. */
static inline enum tg_write_outcome write_holed(struct bench *t, uint64_t from, uint64_t to,
                                                uint64_t lost_from, uint64_t lost_to)
{
    static struct points p;
    points_init(&p);
    for (uint64_t at = from; at < to; at++)
        if (at < lost_from || at >= lost_to) points_add(&p, "m", T0 + (int64_t)at, (double)at);
    const struct tg_delivery d = delivery(&p, from, to, 0, NULL);
    write_delivery(t, &d);
    points_deinit(&p);
    return t->result.outcome;
}

static inline void write_range(struct bench *t, uint64_t from, uint64_t to,
                               enum tg_write_outcome want)
{
    if (write_holed(t, from, to, 0, 0) != want)
        fail_msg("outcome %d: %s", t->result.outcome, t->result.message);
}

static inline bool on_row(void *arg, const struct tg_query_row *row)
{
    struct bench *t = arg;
    assert_true(t->n_rows < 4096);
    assert_null(row->point->series);
    t->times[t->n_rows] = row->point->ts_ns;
    t->values[t->n_rows] = row->point->value.f64;
    (void)snprintf(t->names, sizeof(t->names), "%.*s", (int)row->series->name_len,
                   row->series->name);
    t->n_rows++;
    return t->stop_after == 0 || t->n_rows < t->stop_after;
}

static inline void on_end(void *arg, enum tg_code code, const struct tg_err *err)
{
    struct bench *t = arg;
    t->n_ends++;
    t->end_code = code;
    (void)snprintf(t->end_message, sizeof(t->end_message), "%s", err ? err->msg : "");
}

static inline void query(struct bench *t, struct tg_query q)
{
    if (q.end_ns == 0) q.end_ns = INT64_MAX;
    if (q.max_rows == 0) q.max_rows = 4096;
    t->n_rows = t->n_ends = 0;
    ops->query_range(t->b, &q, on_row, on_end, t);
    assert_int_equal(t->n_ends, 1);
}

static inline int time_cmp(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Exactly the points of positions [from, to), each once. */
static inline void expect_range(struct bench *t, uint64_t from, uint64_t to)
{
    query(t, (struct tg_query){.start_ns = INT64_MIN});
    if (t->end_code != TG_OK) fail_msg("%s", t->end_message);
    qsort(t->times, t->n_rows, sizeof(*t->times), time_cmp);
    assert_int_equal(t->n_rows, to - from);
    for (uint32_t i = 0; i < t->n_rows; i++)
        assert_int_equal(t->times[i], T0 + (int64_t)from + (int64_t)i);
}

static inline unsigned n_files(struct bench *t, const char *suffix)
{
    char name[256];
    unsigned n = 0;
    while (sim_fs_nth(t->sim, suffix, n, name)) n++;
    return n;
}

static inline void reopen(struct bench *t, uint64_t cursor, uint64_t log_end)
{
    ops->close(t->b);
    must_open(t, cursor, log_end);
}

/* [lost_from, lost_to): the log has no point of it; the same: it has all. */
static inline enum tg_code try_settle(struct bench *t, uint64_t from, uint64_t to,
                                      uint64_t lost_from, uint64_t lost_to, struct tg_err *err)
{
    const struct tg_backend_loss loss = {lost_from, lost_to, true};
    const struct tg_backend_settled s = {from, to, to, &loss, lost_from < lost_to};
    return ops->settled(t->b, &s, err);
}

static inline void settle(struct bench *t, uint64_t from, uint64_t to, uint64_t lost_from,
                          uint64_t lost_to)
{
    struct tg_err err = {.msg = ""};
    if (try_settle(t, from, to, lost_from, lost_to, &err) != TG_OK) fail_msg("%s", err.msg);
}

#endif
