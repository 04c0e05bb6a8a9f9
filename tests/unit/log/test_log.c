/* The log on one thread, on the simulated file system: what goes in comes out, over rotation,
 * restarts, cursors, rewinds, limits. Power loss is in tests/crash. */
#include "tests/unit/log/log_rig.h"

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

/* A reader says when the points it gives were accepted: from wherever it begins, and after a
 * restart. */
static void test_when_points_were_accepted(void **state)
{
    (void)state;
    enum { N = 40 };
    const int64_t begin_ns = 1700000000 * SECOND, step_ns = 300 * SECOND;
    for (int restart = 0; restart < 2; restart++) {
        struct rig *r = rig_new(100, 4096, 0);
        uint64_t pos[N + 1] = {0};
        for (int i = 0; i < N; i++) {
            /* a second commit at once shares the record, unless it begins a segment */
            tg_clock_set_test(begin_ns + i * step_ns, 1000);
            assert_int_equal(commit(r, 50, false, NULL), TG_OK);
            tg_clock_set_test(begin_ns + i * step_ns + SECOND / 10, 1000);
            assert_int_equal(commit(r, 50, false, &pos[i + 1]), TG_OK);
        }
        assert_true(tg_log_stats(r->log).n_segments > 3);
        if (restart) rig_reopen(r);
        struct tg_log_reader *reader;
        assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
        for (int i = 0; i < 2 * N; i++) {
            const int at = i < N ? i : 2 * N - 1 - i; /* forward, then each on its own */
            struct tg_batch b;
            struct tg_log_read rd;
            struct tg_segment_dict *dict;
            tg_batch_init(&b, NULL, 0, 0);
            if (i >= N) assert_int_equal(tg_log_reader_seek(reader, pos[at], NULL), TG_OK);
            assert_int_equal(tg_log_reader_read(reader, &b, 100, &rd, &dict, NULL), TG_OK);
            while (b.n_points < 100) {
                struct tg_log_read more;
                tg_segment_dict_unref(dict);
                assert_int_equal(
                    tg_log_reader_read(reader, &b, 100 - b.n_points, &more, &dict, NULL), TG_OK);
                assert_in_range(more.accepted_ns - rd.accepted_ns, 0, SECOND / 10);
            }
            assert_int_equal(b.n_points, 100);
            assert_in_range(rd.accepted_ns - begin_ns - at * step_ns, 0, SECOND / 10);
            tg_segment_dict_unref(dict);
            tg_batch_deinit(&b);
        }
        tg_log_reader_close(reader);
        rig_free(r);
        tg_clock_set_test(-1, 0);
    }
}

/* A search that a stop ends, or that comes after it, gives no place. */
static void test_searches_end(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 4096, 0);
    struct tg_cursor_state s;
    struct tg_err err;
    for (unsigned i = 0; i < 40; i++) assert_int_equal(commit(r, 50, false, NULL), TG_OK);
    assert_int_equal(tg_log_find_time(r->log, 30 * SECOND, &s, &err), TG_OK);
    assert_true(s.pos > 0);
    tg_log_end_searches(r->log);
    for (int twice = 0; twice < 2; twice++)
        assert_int_equal(tg_log_find_time(r->log, 30 * SECOND, &s, &err), TG_ERR_CANCELED);
    read_all(r, 1000);
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
static void test_cursor_file_of_version_2(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    struct tg_log_cursor *c;
    char text[512];
    for (unsigned i = 0; i < 5; i++) assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    const uint64_t end_pos = tg_log_stats(r->log).end_pos;
    int n = snprintf(text, sizeof(text),
                     "tidegate cursor 2\npos %llu\npoint_no 450\nfirst_point_no 0\n"
                     "replay_until_no 20\ndelivered 437\nelsewhere 4\ndead 3\nlost 3\n"
                     "again_until_no 10\nskipped 3\n",
                     (unsigned long long)end_pos);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "crc32c %08x\n",
                  tg_crc32c(0, text, (size_t)n));
    assert_true(sim_fs_put(r->sim, "/data/log/cursors/old.cur", text, (size_t)n));
    for (uint64_t more = 0; more < 2; more++) { /* as it was, and as it is written now */
        rig_reopen(r);
        assert_int_equal(tg_log_stats(r->log).n_damaged_records, 0);
        assert_int_equal(tg_log_cursor_open(r->log, "old", true, &c, NULL), TG_OK);
        struct tg_cursor_state s = tg_log_cursor_get(c);
        assert_int_equal(s.pos, end_pos);
        assert_int_equal(s.n_delivered, 437);
        assert_int_equal(s.n_skipped, 3);
        assert_int_equal(s.again_until_no, 10);
        assert_int_equal(s.n_inexpressible, more * 7);
        s.n_inexpressible += 7;
        assert_int_equal(tg_log_cursor_set(c, &s, true, NULL), TG_OK);
        tg_log_cursor_close(c);
    }
    rig_free(r);
}

static void test_cursor_file_of_version_3(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    struct tg_log_cursor *c;
    char text[512];
    for (unsigned i = 0; i < 5; i++) assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    const uint64_t end_pos = tg_log_stats(r->log).end_pos;
    int n = snprintf(text, sizeof(text),
                     "tidegate cursor 3\npos %llu\npoint_no 450\nfirst_point_no 0\n"
                     "replay_until_no 20\ndelivered 437\nelsewhere 4\ndead 3\nlost 3\n"
                     "again_until_no 10\nskipped 3\ninexpressible 8\n",
                     (unsigned long long)end_pos);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "crc32c %08x\n",
                  tg_crc32c(0, text, (size_t)n));
    assert_true(sim_fs_put(r->sim, "/data/log/cursors/old.cur", text, (size_t)n));
    for (uint64_t more = 0; more < 2; more++) { /* as it was, and as it is written now */
        rig_reopen(r);
        assert_int_equal(tg_log_stats(r->log).n_damaged_records, 0);
        assert_int_equal(tg_log_cursor_open(r->log, "old", true, &c, NULL), TG_OK);
        struct tg_cursor_state s = tg_log_cursor_get(c);
        assert_int_equal(s.pos, end_pos);
        assert_int_equal(s.n_delivered, 437);
        assert_int_equal(s.n_inexpressible, 8);
        assert_int_equal(s.epoch, more * 7);
        s.epoch += 7;
        assert_int_equal(tg_log_cursor_set(c, &s, true, NULL), TG_OK);
        tg_log_cursor_close(c);
    }
    rig_free(r);
}

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
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(tg_log_open(&r->config, &other, &err), TG_ERR_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "/data/log is in use by another process: stop it, or set "
                                        "another log.dir"));
        assert_null(other);
        if (i) (void)sim_fs_remove(r->sim, "/data/log/lock"); /* the folder itself is locked */
        struct tg_log_config bad = r->config;
        assert_true(sim_fs_put(r->sim, "/data/file", "x", 1));
        bad.dir = "/data/file/below";
        assert_int_equal(tg_log_open(&bad, &other, &err), TG_ERR_IO);
    }
    rig_free(r);
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
        struct tg_segment_dict *dict;
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
        tg_segment_dict_unref(dict);
        tg_batch_deinit(&b);
        tg_log_reader_close(reader);
        /* with the (only) record of the names damaged, no point claims to know where it goes */
        char path[256];
        size_t len;
        assert_true(sim_fs_nth(r->sim, ".seg", 0, path));
        sim_fs_bytes(r->sim, path, &len)[96 + 28 + 14] ^= 1; /* after the log's id */
        rig_reopen(r);
    }
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
    struct tg_segment_dict *dict;
    struct tg_err err = {0};
    tg_batch_init(&b, tg_table_guard(small), 0, 0);
    assert_int_equal(tg_log_reader_open(log, 0, &reader, NULL), TG_OK);
    assert_int_equal(tg_log_reader_read(reader, &b, 1000, &rd, &dict, &err), TG_OK);
    assert_int_equal(b.n_points, 3 * 100);
    assert_int_equal(rd.n_lost, 0);
    assert_true(tg_table_validate(small));
    tg_segment_dict_unref(dict);
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
        cmocka_unit_test(test_when_points_were_accepted),
        cmocka_unit_test(test_searches_end),
        cmocka_unit_test(test_rotation_and_restart),
        cmocka_unit_test(test_reader_follows),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_cursors),
        cmocka_unit_test(test_cursor_file_of_version_1),
        cmocka_unit_test(test_cursor_file_of_version_2),
        cmocka_unit_test(test_cursor_file_of_version_3),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_delivered_segments_stay_for_keep_ms),
        cmocka_unit_test(test_segment_closed_by_age),
        cmocka_unit_test(test_find_time),
        cmocka_unit_test(test_lock_and_bad_folders),
        cmocka_unit_test(test_targets_follow_names),
        cmocka_unit_test(test_too_large_batch_does_not_hurt_the_others),
        cmocka_unit_test(test_series_over_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
