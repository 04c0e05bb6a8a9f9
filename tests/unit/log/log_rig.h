/* log_rig.h: a log on the simulated file system, with all that was acknowledged beside it to
 * compare.
 *
 * Failures end the test. One thread.
 */
#ifndef TG_TESTS_UNIT_LOG_LOG_RIG_H
#define TG_TESTS_UNIT_LOG_LOG_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log.h"
#include "tests/support/log_fixture.h"
#include "tests/support/sim_fs.h"

#define SECOND INT64_C(1000000000)

struct rig {
    struct lf f;
    struct sim_fs *sim;
    struct tg_log_config config;
    struct tg_log *log;
    struct tg_batch sent; /* all that was acknowledged, by point number */
    int64_t t;
};

static inline struct rig *rig_new(uint32_t n_series, uint64_t segment_bytes, uint64_t max_bytes)
{
    struct rig *r = tg_calloc(1, sizeof(*r));
    assert_non_null(r);
    lf_init(&r->f, n_series, 11);
    r->sim = sim_fs_new(1);
    r->config = (struct tg_log_config){.dir = "/data/log",
                                       .segment_bytes = segment_bytes,
                                       .max_bytes = max_bytes,
                                       .fs = &r->sim->fs,
                                       .table = r->f.table,
                                       .targets = lf_targets,
                                       .n_targets = LF_TARGETS};
    r->f.routed = true;
    tg_batch_init(&r->sent, NULL, 0, 0);
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    return r;
}

static inline void rig_reopen(struct rig *r)
{
    struct tg_err err = {0};
    tg_log_close(r->log);
    r->log = NULL;
    if (tg_log_open(&r->config, &r->log, &err) != TG_OK) fail_msg("%s", err.msg);
}

static inline void rig_free(struct rig *r)
{
    tg_log_close(r->log);
    tg_batch_deinit(&r->sent);
    sim_fs_free(r->sim);
    lf_deinit(&r->f);
    tg_free(r);
}

static inline enum tg_code commit(struct rig *r, uint32_t n, bool mixed, uint64_t *end_pos)
{
    struct tg_batch b, *list = &b;
    uint64_t pos;
    tg_batch_init(&b, NULL, 0, 0);
    r->t += SECOND;
    if (mixed)
        lf_mixed(&r->f, &b, n, r->t);
    else
        lf_scrape(&r->f, &b, 0, n, r->t);
    struct tg_err err;
    const enum tg_code code = tg_log_commit(r->log, &list, 1, &pos, &err);
    if (code == TG_OK) lf_append(&r->sent, &b);
    if (end_pos) *end_pos = pos;
    tg_batch_deinit(&b);
    return code;
}

/* Reads on until nothing comes and compares by number; gives how many points were lost. */
static inline uint64_t read_on(struct rig *r, struct tg_log_reader *reader, uint32_t max_points,
                               uint64_t *points, uint64_t *pos)
{
    uint64_t lost = 0;
    for (;;) {
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        struct tg_err err = {0};
        tg_batch_init(&b, NULL, 0, 0);
        if (tg_log_reader_read(reader, &b, max_points, &rd, &dict, &err) != TG_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(rd.to_point_no - rd.from_point_no, b.n_points + rd.n_lost);
        assert_true(rd.to_pos >= rd.from_pos);
        assert_true((dict != NULL) == (b.n_points > 0));
        if (rd.n_lost == 0) {
            assert_true(rd.to_point_no <= r->sent.n_points);
            for (uint32_t i = 0; i < b.n_points; i++)
                assert_true(lf_equal(&b.points[i], &r->sent.points[rd.from_point_no + i]));
        }
        lost += rd.n_lost;
        if (points) *points += b.n_points;
        if (pos) *pos = rd.to_pos;
        const bool done = rd.to_pos == rd.from_pos;
        tg_segment_dict_unref(dict);
        tg_batch_deinit(&b);
        if (done) return lost;
    }
}

static inline void read_all(struct rig *r, uint32_t max_points)
{
    struct tg_log_reader *reader;
    uint64_t points = 0, pos = 0;
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    assert_int_equal(read_on(r, reader, max_points, &points, &pos), 0);
    assert_int_equal(points, r->sent.n_points);
    const struct tg_log_stats s = tg_log_stats(r->log);
    assert_int_equal(s.end_point_no, r->sent.n_points);
    assert_int_equal(pos, s.end_pos);
    tg_log_reader_close(reader);
}

static inline void advance(struct rig *r, struct tg_log_cursor *c, struct tg_log_reader *reader)
{
    struct tg_cursor_state s = tg_log_cursor_get(c);
    uint64_t points = 0;
    assert_int_equal(read_on(r, reader, 1000, &points, &s.pos), 0);
    s.point_no += points;
    s.n_delivered += points;
    assert_int_equal(s.point_no, r->sent.n_points);
    assert_int_equal(tg_log_cursor_set(c, &s, true, NULL), TG_OK);
}

#endif
