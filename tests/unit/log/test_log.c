/* The log on one thread, on the simulated file system: what goes in comes out, over rotation,
 * restarts, cursors, rewinds, limits. Power loss is in tests/crash. */
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

static struct rig *rig_new(uint32_t n_series, uint64_t segment_bytes, uint64_t max_bytes)
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

static void rig_reopen(struct rig *r)
{
    struct tg_err err = {0};
    tg_log_close(r->log);
    r->log = NULL;
    if (tg_log_open(&r->config, &r->log, &err) != TG_OK) fail_msg("%s", err.msg);
}

static void rig_free(struct rig *r)
{
    tg_log_close(r->log);
    tg_batch_deinit(&r->sent);
    sim_fs_free(r->sim);
    lf_deinit(&r->f);
    tg_free(r);
}

static enum tg_code commit(struct rig *r, uint32_t n, bool mixed, uint64_t *end_pos)
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
static uint64_t read_on(struct rig *r, struct tg_log_reader *reader, uint32_t max_points,
                        uint64_t *points, uint64_t *pos)
{
    uint64_t lost = 0;
    for (;;) {
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_log_dict *dict;
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
        tg_log_dict_unref(dict);
        tg_batch_deinit(&b);
        if (done) return lost;
    }
}

static void read_all(struct rig *r, uint32_t max_points)
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

static void test_round_trip(void **state)
{
    (void)state;
    struct rig *r = rig_new(300, 0, 0);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t pos;
        assert_int_equal(commit(r, 1 + i * 7 % 400, i % 2, &pos), TG_OK);
        assert_true(pos <= tg_log_stats(r->log).end_pos);
    }
    read_all(r, 1000);
    read_all(r, 1);
    read_all(r, UINT32_MAX);
    rig_free(r);
}

static void test_group(void **state)
{
    (void)state;
    struct rig *r = rig_new(300, 0, 0);
    struct tg_batch b[5], *list[5];
    uint64_t pos[5];
    for (unsigned i = 0; i < 5; i++) {
        tg_batch_init(&b[i], NULL, 0, 0);
        if (i != 3) lf_mixed(&r->f, &b[i], 100, i * SECOND); /* the fourth is empty */
        lf_append(&r->sent, &b[i]);
        list[i] = &b[i];
    }
    assert_int_equal(tg_log_commit(r->log, list, 5, pos, NULL), TG_OK);
    for (unsigned i = 1; i < 5; i++) assert_true(i == 3 ? pos[i] == pos[2] : pos[i] > pos[i - 1]);
    assert_int_equal(tg_log_stats(r->log).n_commits, 1);
    read_all(r, 50);
    /* each batch's position is one to read from */
    struct tg_log_reader *reader;
    uint64_t points = 0;
    assert_int_equal(tg_log_reader_open(r->log, pos[1], &reader, NULL), TG_OK);
    assert_int_equal(read_on(r, reader, 10, &points, NULL), 0);
    assert_int_equal(points, 200);
    tg_log_reader_close(reader);
    for (unsigned i = 0; i < 5; i++) tg_batch_deinit(&b[i]);
    rig_free(r);
}

static void test_rotation_and_restart(void **state)
{
    (void)state;
    struct rig *r = rig_new(300, 8192, 0);
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < 25; i++) assert_int_equal(commit(r, 200, i % 5 == 0, NULL), TG_OK);
        read_all(r, 300);
        rig_reopen(r);
        read_all(r, 300);
    }
    const struct tg_log_stats s = tg_log_stats(r->log);
    assert_true(s.n_segments > 6);
    assert_int_equal(s.n_damaged_records, 0);
    assert_int_equal(s.n_damaged_bytes, 0);
    rig_free(r);
}

static void test_reader_follows(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 4096, 0);
    struct tg_log_reader *reader;
    uint64_t points = 0;
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(read_on(r, reader, 64, &points, NULL), 0);
        assert_int_equal(points, r->sent.n_points);
        assert_int_equal(commit(r, 1 + i % 150, i % 3 == 0, NULL), TG_OK);
    }
    tg_log_reader_close(reader);
    rig_free(r);
}

/* From every position that was handed out, reading gives exactly what follows it. */
static void test_seek(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 4096, 0);
    uint64_t pos[80], no[80];
    for (unsigned i = 0; i < 80; i++) {
        assert_int_equal(commit(r, 1 + i % 90, i % 3 == 0, &pos[i]), TG_OK);
        no[i] = r->sent.n_points;
    }
    struct tg_log_reader *reader;
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    for (unsigned i = 0; i < 240; i++) {
        const unsigned k = (unsigned)(lf_rnd(&r->f) % 80);
        const bool inside = i % 3 == 2; /* of the record before: moves to its start */
        uint64_t points = 0;
        assert_int_equal(tg_log_reader_seek(reader, pos[k] - inside, NULL), TG_OK);
        assert_int_equal(read_on(r, reader, 100, &points, NULL), 0);
        if (inside)
            assert_true(points > r->sent.n_points - no[k]);
        else
            assert_int_equal(points, r->sent.n_points - no[k]);
    }
    tg_log_reader_close(reader);
    rig_free(r);
}

/* A file of a gateway of before has its place still. */
static void test_cursor_file_of_version_1(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    struct tg_log_cursor *c;
    char text[512];
    for (unsigned i = 0; i < 5; i++) assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    const uint64_t end_pos = tg_log_stats(r->log).end_pos;
    int n = snprintf(text, sizeof(text),
                     "tidegate cursor 1\npos %llu\npoint_no 450\nfirst_point_no 0\n"
                     "replay_until_no 470\ndelivered 440\nelsewhere 4\ndead 3\nlost 3\n",
                     (unsigned long long)end_pos);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "crc32c %08x\n",
                  tg_crc32c(0, text, (size_t)n));
    assert_true(sim_fs_put(r->sim, "/data/log/cursors/old.cur", text, (size_t)n));
    for (unsigned twice = 0; twice < 2; twice++) { /* as it was, and as it is written now */
        rig_reopen(r);
        assert_int_equal(tg_log_stats(r->log).n_damaged_records, 0);
        assert_int_equal(tg_log_cursor_open(r->log, "old", true, &c, NULL), TG_OK);
        const struct tg_cursor_state s = tg_log_cursor_get(c);
        assert_int_equal(s.pos, end_pos);
        assert_int_equal(s.n_delivered, 440);
        assert_int_equal(s.n_skipped, 0);
        assert_int_equal(s.again_until_no, 470); /* it may be a rewind that is not done yet */
        assert_int_equal(tg_log_cursor_set(c, &s, true, NULL), TG_OK);
        tg_log_cursor_close(c);
    }
    rig_free(r);
}

static void test_cursors(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 4096, 0);
    struct tg_log_cursor *a, *b, *c;
    struct tg_err err;
    for (unsigned i = 0; i < 20; i++) assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(r->log, "a-1", true, &a, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(r->log, "b_2", false, &b, NULL), TG_OK);
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_log_cursor_open(r->log, "a-1", true, &c, &err), TG_ERR_INVALID);
        assert_int_equal(tg_log_cursor_open(r->log, "../x", true, &c, &err), TG_ERR_INVALID);
        assert_int_equal(tg_log_cursor_open(r->log, "", true, &c, &err), TG_ERR_INVALID);
    }
    assert_int_equal(tg_log_cursor_get(a).pos, 0);
    assert_int_equal(tg_log_cursor_get(b).pos, tg_log_stats(r->log).end_pos);
    assert_int_equal(tg_log_cursor_get(b).point_no, r->sent.n_points);
    struct tg_cursor_state s = {.pos = 5000,
                                .point_no = 6,
                                .first_point_no = 1,
                                .n_delivered = 2,
                                .n_elsewhere = 1,
                                .again_until_no = 7,
                                .n_dead = 1,
                                .n_lost = 1,
                                .n_skipped = 9};
    assert_int_equal(tg_log_cursor_set(a, &s, false, NULL), TG_OK);
    tg_log_cursor_close(a);
    tg_log_cursor_close(b);
    rig_reopen(r);
    assert_int_equal(tg_log_cursor_open(r->log, "a-1", false, &a, NULL), TG_OK);
    const struct tg_cursor_state got = tg_log_cursor_get(a);
    assert_memory_equal(&got, &s, sizeof(s));
    assert_int_equal(tg_log_cursor_forget(r->log, "a-1", &err), TG_ERR_INVALID);
    assert_int_equal(tg_log_cursor_forget(r->log, "b_2", &err), TG_OK);
    assert_int_equal(tg_log_cursor_forget(r->log, "b_2", &err), TG_ERR_NOT_FOUND);
    tg_log_cursor_close(a);

    /* every damaged byte of the file is seen: set aside, from the oldest position, counted */
    size_t len;
    uint8_t *file = sim_fs_bytes(r->sim, "/data/log/cursors/a-1.cur", &len);
    assert_non_null(file);
    uint8_t copy[512];
    assert_true(len < sizeof(copy));
    memcpy(copy, file, len);
    for (size_t i = 0; i < len; i++) {
        copy[i] ^= 4;
        assert_true(sim_fs_put(r->sim, "/data/log/cursors/a-1.cur", copy, len));
        rig_reopen(r);
        assert_int_equal(tg_log_stats(r->log).n_damaged_records, 1);
        assert_int_equal(tg_log_cursor_open(r->log, "a-1", false, &a, NULL), TG_OK);
        assert_int_equal(tg_log_cursor_get(a).pos, 0);
        tg_log_cursor_close(a);
        copy[i] ^= 4;
    }
    rig_free(r);
}

static void advance(struct rig *r, struct tg_log_cursor *c, struct tg_log_reader *reader)
{
    struct tg_cursor_state s = tg_log_cursor_get(c);
    uint64_t points = 0;
    assert_int_equal(read_on(r, reader, 1000, &points, &s.pos), 0);
    s.point_no += points;
    s.n_delivered += points;
    assert_int_equal(s.point_no, r->sent.n_points);
    assert_int_equal(tg_log_cursor_set(c, &s, true, NULL), TG_OK);
}

static void test_full(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 64 << 10);
    struct tg_log_cursor *c;
    struct tg_log_reader *reader;
    struct tg_err err;
    assert_int_equal(tg_log_cursor_open(r->log, "slow", true, &c, &err), TG_OK);
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    for (unsigned round = 0; round < 4; round++) {
        unsigned n = 0;
        unsigned n_full = 0; /* three times in a row: a smaller batch may still have fitted */
        while (n_full < 3) {
            const enum tg_code code = commit(r, 90, true, NULL);
            assert_true(code == TG_OK || code == TG_ERR_FULL);
            assert_int_equal(tg_log_stats(r->log).full, code == TG_ERR_FULL);
            n_full = code == TG_OK ? 0 : n_full + 1;
            assert_true(++n < 1000);
        }
        assert_true(tg_log_stats(r->log).bytes <= 64 << 10);
        advance(r, c, reader);
        assert_int_equal(commit(r, 90, true, NULL), TG_OK); /* room again */
        assert_false(tg_log_stats(r->log).full);
    }
    assert_true(tg_log_stats(r->log).start_pos > 0);
    advance(r, c, reader);
    tg_log_reader_close(reader);
    tg_log_cursor_close(c);
    rig_reopen(r);
    /* what was refused left no trace */
    assert_int_equal(tg_log_stats(r->log).end_point_no, r->sent.n_points);
    assert_int_equal(tg_log_stats(r->log).n_damaged_bytes, 0);
    rig_free(r);
}

static void test_delivered_segments_stay_for_keep_ms(void **state)
{
    (void)state;
    tg_clock_set_test(1000 * SECOND, 1000000000);
    struct rig *r = rig_new(100, 4096, 0);
    r->config.keep_ms = 60000;
    rig_reopen(r);
    struct tg_log_cursor *c;
    struct tg_log_reader *reader;
    assert_int_equal(tg_log_cursor_open(r->log, "c", true, &c, NULL), TG_OK);
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    for (unsigned i = 0; i < 60; i++) assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    advance(r, c, reader);
    const uint64_t n = tg_log_stats(r->log).n_segments;
    assert_true(n > 3);
    tg_clock_set_test(1059 * SECOND, 2000000000);
    assert_int_equal(commit(r, 10, true, NULL), TG_OK);
    assert_true(tg_log_stats(r->log).n_segments >= n);
    assert_int_equal(tg_log_stats(r->log).start_pos, 0);
    tg_clock_set_test(1061 * SECOND, 3000000000);
    for (unsigned i = 0; i < 6; i++) assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    assert_true(tg_log_stats(r->log).n_segments < n);
    assert_true(tg_log_stats(r->log).start_pos > 0);
    tg_log_reader_close(reader);
    tg_log_cursor_close(c);
    rig_free(r);
    tg_clock_set_test(-1, 0);
}

static void test_segment_closed_by_age(void **state)
{
    (void)state;
    tg_clock_set_test(1000 * SECOND, 0);
    struct rig *r = rig_new(100, 0, 0);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(commit(r, 90, true, NULL), TG_OK);
        tg_clock_set_test(1000 * SECOND, (uint64_t)(i + 1) * 3600 * (uint64_t)SECOND);
    }
    assert_int_equal(tg_log_stats(r->log).n_segments, 5);
    read_all(r, 100);
    rig_free(r);
    tg_clock_set_test(-1, 0);
}

static void test_find_time(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 4096, 0);
    struct tg_cursor_state s;
    assert_int_equal(tg_log_find_time(r->log, 0, &s, NULL), TG_OK);
    assert_int_equal(s.pos, 0);
    for (unsigned i = 0; i < 100; i++) assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    struct tg_log_reader *reader;
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    for (int64_t t = 0; t <= 102; t++) {
        assert_int_equal(tg_log_find_time(r->log, t * SECOND, &s, NULL), TG_OK);
        const uint64_t want = t == 0 ? 0 : t > 100 ? 9000 : (uint64_t)(t - 1) * 90;
        assert_int_equal(s.point_no, want);
        assert_int_equal(s.first_point_no, want);
        assert_int_equal(s.n_delivered + s.n_dead + s.n_elsewhere + s.n_lost, 0);
        uint64_t points = 0;
        assert_int_equal(tg_log_reader_seek(reader, s.pos, NULL), TG_OK);
        assert_int_equal(read_on(r, reader, 1000, &points, NULL), 0);
        assert_int_equal(points, 9000 - want);
    }
    tg_log_reader_close(reader);
    rig_free(r);
}

static void test_lock_and_bad_folders(void **state)
{
    (void)state;
    struct rig *r = rig_new(10, 0, 0);
    struct tg_log *other;
    struct tg_err err;
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_log_open(&r->config, &other, &err), TG_ERR_UNAVAILABLE);
        assert_null(other);
        struct tg_log_config bad = r->config;
        bad.dir = "/data/log/lock/below";
        assert_int_equal(tg_log_open(&bad, &other, &err), TG_ERR_IO);
    }
    rig_free(r);
}

static void test_missing_segment(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 4096, 0);
    for (unsigned i = 0; i < 100; i++) assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    struct tg_log_reader *reader;
    uint64_t in_gap = 0, gap_no = 0;
    char path[256];
    assert_true(tg_log_stats(r->log).n_segments > 5);
    assert_true(sim_fs_nth(r->sim, ".seg", 2, path));
    /* a position within the segment that will be missing */
    assert_int_equal(sscanf(path, "/data/log/%lu.seg", &in_gap), 1);
    in_gap += 96;
    assert_int_equal(tg_log_reader_open(r->log, in_gap, &reader, NULL), TG_OK);
    {
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_log_dict *dict;
        tg_batch_init(&b, NULL, 0, 0);
        assert_int_equal(tg_log_reader_read(reader, &b, 1, &rd, &dict, NULL), TG_OK);
        in_gap = rd.to_pos;
        gap_no = rd.to_point_no;
        tg_log_dict_unref(dict);
        tg_batch_deinit(&b);
    }
    tg_log_reader_close(reader);
    tg_log_close(r->log);
    assert_true(sim_fs_remove(r->sim, path));
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    uint64_t points = 0;
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    const uint64_t lost = read_on(r, reader, 200, &points, NULL);
    assert_true(lost > 0);
    assert_int_equal(points + lost, r->sent.n_points);
    /* a cursor that stood in it: told its number, the rest of the segment is counted */
    points = 0;
    assert_int_equal(tg_log_reader_seek(reader, in_gap, NULL), TG_OK);
    tg_log_reader_expect(reader, gap_no);
    const uint64_t rest = read_on(r, reader, 200, &points, NULL);
    assert_true(rest > 0 && rest < lost);
    assert_int_equal(gap_no + points + rest, r->sent.n_points);
    tg_log_reader_close(reader);
    rig_free(r);
}

static void test_lost_headers(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 4096, 0);
    for (unsigned i = 0; i < 60; i++) assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    for (unsigned k = 0; k < tg_log_stats(r->log).n_segments; k += 2) {
        char path[256];
        size_t len;
        assert_true(sim_fs_nth(r->sim, ".seg", k, path));
        memset(sim_fs_bytes(r->sim, path, &len), 0xff, 96);
        sim_fs_settle(r->sim, path);
    }
    rig_reopen(r);
    assert_true(tg_log_stats(r->log).n_damaged_records > 0);
    read_all(r, 100);
    assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    read_all(r, 100);
    rig_free(r);
}

/* A fsync fails, and what it should have written comes back after all: the next segment says that
 * it does not count, by its header or, without one, by its numbers. */
static void test_failed_commit_that_comes_back(void **state)
{
    (void)state;
    for (unsigned way = 0; way < 4; way++) {
        struct rig *r = rig_new(100, 0, 0);
        char path[256];
        size_t good, len;
        assert_int_equal(commit(r, 90, true, NULL), TG_OK);
        assert_int_equal(commit(r, 90, true, NULL), TG_OK);
        assert_true(sim_fs_nth(r->sim, ".seg", 0, path));
        (void)sim_fs_bytes(r->sim, path, &good);
        r->sim->eio_sync_at = r->sim->n_syncs + 1;
        r->sim->eio_keeps_pages = true;
        r->sim->no_truncate = way < 3;
        assert_int_equal(commit(r, 90, true, NULL), TG_ERR_IO);
        r->sim->no_truncate = false;
        (void)sim_fs_bytes(r->sim, path, &len);
        assert_true(way < 3 ? len > good : len == good); /* its bytes, whole; or cut off */
        assert_int_equal(tg_log_stats(r->log).n_sync_failures, 1);
        read_all(r, 100);
        if (way != 2) {
            unsigned long start;
            assert_int_equal(commit(r, 90, true, NULL), TG_OK);
            assert_int_equal(tg_log_stats(r->log).n_segments, 2);
            assert_true(sim_fs_nth(r->sim, ".seg", 1, path));
            assert_int_equal(sscanf(path, "/data/log/%lu.seg", &start), 1);
            assert_true(start >= len && start > good); /* no position is given twice */
            read_all(r, 100);
        }
        tg_log_close(r->log);
        sim_fs_power_loss(r->sim, SIM_KEEP_ALL);
        if (way == 1) {
            assert_true(sim_fs_nth(r->sim, ".seg", 1, path));
            memset(sim_fs_bytes(r->sim, path, &len), 0, 96);
            sim_fs_settle(r->sim, path);
        }
        assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
        if (way != 2) {
            read_all(r, 100);
        } else {
            /* nothing came after it: it may count, whole, and then goes on counting */
            assert_int_equal(tg_log_stats(r->log).end_point_no, r->sent.n_points + 90);
        }
        rig_free(r);
    }
}

/* Other backends after a restart: bits follow their names; those of backends that are gone, go. */
static void test_targets_follow_names(void **state)
{
    (void)state;
    static const char *const now[] = {"prom", "new", "archive"};
    struct rig *r = rig_new(100, 0, 0);
    assert_int_equal(commit(r, 100, false, NULL), TG_OK);
    r->config.targets = now;
    rig_reopen(r);
    for (unsigned way = 0; way < 2; way++) {
        struct tg_log_reader *reader;
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_log_dict *dict;
        tg_batch_init(&b, NULL, 0, 0);
        assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
        assert_int_equal(tg_log_reader_read(reader, &b, 1000, &rd, &dict, NULL), TG_OK);
        assert_int_equal(b.n_points, 100);
        for (uint32_t i = 0; i < 100; i++) {
            const uint32_t was = r->sent.points[i].targets;
            assert_int_equal(b.points[i].routed, way == 0);
            if (way == 0)
                assert_int_equal(b.points[i].targets, (was & 1 ? 4U : 0U) | (was & 4 ? 1U : 0U));
        }
        tg_log_dict_unref(dict);
        tg_batch_deinit(&b);
        tg_log_reader_close(reader);
        /* with the (only) record of the names damaged, no point claims to know where it goes */
        char path[256];
        size_t len;
        assert_true(sim_fs_nth(r->sim, ".seg", 0, path));
        sim_fs_bytes(r->sim, path, &len)[96 + 14] ^= 1;
        rig_reopen(r);
    }
    rig_free(r);
}

/* One damaged series record: written twice, it costs the points before the second copy alone. */
static void test_damaged_series_record(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    r->config.n_targets = 0; /* then the first record is one of series */
    r->f.routed = false;
    rig_reopen(r);
    for (unsigned i = 0; i < 200; i++) assert_int_equal(commit(r, 100, false, NULL), TG_OK);
    char path[256];
    size_t len;
    assert_true(sim_fs_nth(r->sim, ".seg", 0, path));
    sim_fs_bytes(r->sim, path, &len)[96 + 20] ^= 1;
    sim_fs_settle(r->sim, path);
    rig_reopen(r);
    struct tg_log_reader *reader;
    uint64_t points = 0;
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    /* 64 series in a record; the second copy follows the second commit */
    assert_int_equal(read_on(r, reader, 100, &points, NULL), 2 * 64);
    assert_int_equal(points, 200 * 100 - 2 * 64);
    tg_log_reader_close(reader);
    assert_int_equal(tg_log_stats(r->log).n_damaged_records, 1);
    rig_free(r);
}

/* The log's end is gone but a cursor was beyond it: neither positions nor numbers go back. */
static void test_cursor_beyond_the_end(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    struct tg_log_cursor *c;
    for (unsigned i = 0; i < 10; i++) assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(r->log, "c", false, &c, NULL), TG_OK);
    const struct tg_cursor_state before = tg_log_cursor_get(c);
    tg_log_cursor_close(c);
    tg_log_close(r->log);
    char path[256];
    assert_true(sim_fs_nth(r->sim, ".seg", 0, path));
    assert_true(sim_fs_remove(r->sim, path));
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    assert_true(tg_log_stats(r->log).end_pos >= before.pos);
    assert_int_equal(tg_log_stats(r->log).end_point_no, before.point_no);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    struct tg_log_reader *reader;
    uint64_t points = 0;
    assert_int_equal(tg_log_reader_open(r->log, before.pos, &reader, NULL), TG_OK);
    tg_log_reader_expect(reader, before.point_no);
    assert_int_equal(read_on(r, reader, 200, &points, NULL), 0);
    assert_int_equal(points, 90);
    tg_log_reader_close(reader);
    rig_free(r);
}

static void test_disk_full(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 16 << 10, 0);
    struct tg_log_cursor *c;
    struct tg_log_reader *reader;
    assert_int_equal(tg_log_cursor_open(r->log, "c", true, &c, NULL), TG_OK);
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    r->sim->capacity = sim_fs_used(r->sim) + 50000;
    unsigned n = 0, n_full = 0; /* three times in a row: a smaller batch may still have fitted */
    while (n_full < 3) {
        const enum tg_code code = commit(r, 90, true, NULL);
        assert_true(code == TG_OK || code == TG_ERR_FULL);
        n_full = code == TG_OK ? 0 : n_full + 1;
        assert_true(++n < 1000);
    }
    /* the cursor still finds room, and then the delivered segments make it */
    advance(r, c, reader);
    for (unsigned i = 0; i < 5; i++) assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    advance(r, c, reader);
    r->sim->capacity = 0;
    for (unsigned i = 0; i < 5; i++) assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    advance(r, c, reader);
    tg_log_reader_close(reader);
    tg_log_cursor_close(c);
    rig_reopen(r);
    assert_int_equal(tg_log_stats(r->log).n_damaged_bytes, 0);
    assert_int_equal(tg_log_stats(r->log).end_point_no, r->sent.n_points);
    rig_free(r);
}

static void test_too_large_batch_does_not_hurt_the_others(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    struct tg_batch b[3], *list[3];
    uint64_t pos[3];
    struct tg_err err;
    char *text = tg_calloc(1, 9 << 20);
    struct tg_string s = {.ptr = text, .len = 9 << 20};
    for (unsigned i = 0; i < 3; i++) {
        tg_batch_init(&b[i], NULL, 0, 0);
        lf_scrape(&r->f, &b[i], i * 20, 50, i * SECOND);
        list[i] = &b[i];
        if (i == 1) {
            b[i].points[20].type = TG_VALUE_STRING;
            b[i].points[20].value.string = &s;
        } else {
            lf_append(&r->sent, &b[i]);
        }
    }
    assert_int_equal(tg_log_commit(r->log, list, 3, pos, &err), TG_ERR_TOO_LARGE);
    assert_non_null(strstr(err.msg, "one point"));
    read_all(r, 10);
    assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    read_all(r, 1000);
    for (unsigned i = 0; i < 3; i++) tg_batch_deinit(&b[i]);
    tg_free(text);
    rig_free(r);
}

/* Every allocation of a commit and of a read fails once: either all is there or nothing is. */
static void test_no_memory(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 4096, 0);
    unsigned n_failed = 0;
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        tg_log_close(r->log); /* caches dropped, a new segment each time */
        assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
        struct tg_batch b, *list = &b;
        uint64_t pos;
        tg_batch_init(&b, NULL, 0, 0);
        lf_mixed(&r->f, &b, 100, (int64_t)n);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_log_commit(r->log, &list, 1, &pos, NULL);
        done = !tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_true(code == TG_OK || code == TG_ERR_NOMEM);
        n_failed += code != TG_OK;
        if (code == TG_OK) lf_append(&r->sent, &b);
        assert_int_equal(commit(r, 30, true, NULL), TG_OK);
        tg_batch_deinit(&b);
    }
    assert_true(n_failed > 10);
    read_all(r, 100);

    done = false;
    for (uint64_t n = 1; !done; n++) {
        struct tg_log_reader *reader;
        tg_mem_fail_at(n);
        enum tg_code code = tg_log_reader_open(r->log, 0, &reader, NULL);
        if (code != TG_OK) {
            assert_int_equal(code, TG_ERR_NOMEM);
            tg_mem_fail_at(0);
            continue;
        }
        uint64_t points = 0;
        for (unsigned i = 0; i < 10000; i++) {
            struct tg_batch b;
            struct tg_log_read rd;
            struct tg_log_dict *dict;
            tg_batch_init(&b, NULL, 0, 0);
            code = tg_log_reader_read(reader, &b, 64, &rd, &dict, NULL);
            assert_int_equal(rd.n_lost, 0);
            if (code != TG_OK) assert_int_equal(b.n_points, 0);
            for (uint32_t k = 0; k < b.n_points; k++)
                assert_true(lf_equal(&b.points[k], &r->sent.points[rd.from_point_no + k]));
            points += b.n_points;
            tg_log_dict_unref(dict);
            tg_batch_deinit(&b);
            if (code == TG_OK && rd.from_pos == rd.to_pos) break;
        }
        done = !tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(points, r->sent.n_points);
        tg_log_reader_close(reader);
        if (n > 60) n += 16; /* later ones differ little */
    }
    rig_free(r);
}

static void test_open_without_memory(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 4096, 0);
    struct tg_log_cursor *c;
    for (unsigned i = 0; i < 30; i++) assert_int_equal(commit(r, 60, true, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(r->log, "c", true, &c, NULL), TG_OK);
    tg_log_cursor_close(c);
    tg_log_close(r->log);
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        tg_mem_fail_at(n);
        const enum tg_code code = tg_log_open(&r->config, &r->log, NULL);
        done = !tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, done ? TG_OK : TG_ERR_NOMEM);
        if (code == TG_OK && !done) tg_log_close(r->log);
    }
    read_all(r, 100);
    rig_free(r);
}

/* They were accepted: what is in the log is delivered, however full the table is. */
static void test_series_over_the_limit(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    for (unsigned i = 0; i < 3; i++) assert_int_equal(commit(r, 100, false, NULL), TG_OK);
    tg_log_close(r->log);
    struct tg_table *small = tg_table_new(&(struct tg_table_config){.max_series = 40});
    struct tg_log_config config = r->config;
    config.table = small;
    struct tg_log *log;
    assert_int_equal(tg_log_open(&config, &log, NULL), TG_OK);
    struct tg_log_reader *reader;
    struct tg_batch b;
    struct tg_log_read rd;
    struct tg_log_dict *dict;
    struct tg_err err = {0};
    tg_batch_init(&b, tg_table_guard(small), 0, 0);
    assert_int_equal(tg_log_reader_open(log, 0, &reader, NULL), TG_OK);
    assert_int_equal(tg_log_reader_read(reader, &b, 1000, &rd, &dict, &err), TG_OK);
    assert_int_equal(b.n_points, 3 * 100);
    assert_int_equal(rd.n_lost, 0);
    assert_true(tg_table_validate(small));
    tg_log_dict_unref(dict);
    tg_batch_deinit(&b);
    tg_log_reader_close(reader);
    tg_log_close(log);
    tg_table_free(small);
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    rig_free(r);
}

int main(void)
{
    tg_log_set_level(TG_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_group),
        cmocka_unit_test(test_rotation_and_restart),
        cmocka_unit_test(test_reader_follows),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_cursors),
        cmocka_unit_test(test_cursor_file_of_version_1),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_delivered_segments_stay_for_keep_ms),
        cmocka_unit_test(test_segment_closed_by_age),
        cmocka_unit_test(test_find_time),
        cmocka_unit_test(test_lock_and_bad_folders),
        cmocka_unit_test(test_missing_segment),
        cmocka_unit_test(test_lost_headers),
        cmocka_unit_test(test_failed_commit_that_comes_back),
        cmocka_unit_test(test_damaged_series_record),
        cmocka_unit_test(test_targets_follow_names),
        cmocka_unit_test(test_cursor_beyond_the_end),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_too_large_batch_does_not_hurt_the_others),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_open_without_memory),
        cmocka_unit_test(test_series_over_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
