/* The log when something is missing, damaged or not to be had: segments, headers, series records,
 * the end, room on the disk, memory. Power loss is in tests/crash. */
#include "tests/unit/log/log_rig.h"

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
        struct tg_segment_dict *dict;
        tg_batch_init(&b, NULL, 0, 0);
        assert_int_equal(tg_log_reader_read(reader, &b, 1, &rd, &dict, NULL), TG_OK);
        in_gap = rd.to_pos;
        gap_no = rd.to_point_no;
        tg_segment_dict_unref(dict);
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

/* One damaged series record: written twice, it costs the points before the second copy alone. */
static void test_damaged_series_record(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    r->config.n_targets = 0; /* then the record after the log's id is one of series */
    r->f.routed = false;
    rig_reopen(r);
    for (unsigned i = 0; i < 200; i++) assert_int_equal(commit(r, 100, false, NULL), TG_OK);
    char path[256];
    size_t len;
    assert_true(sim_fs_nth(r->sim, ".seg", 0, path));
    sim_fs_bytes(r->sim, path, &len)[96 + 28 + 20] ^= 1;
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
            struct tg_segment_dict *dict;
            tg_batch_init(&b, NULL, 0, 0);
            code = tg_log_reader_read(reader, &b, 64, &rd, &dict, NULL);
            assert_int_equal(rd.n_lost, 0);
            if (code != TG_OK) assert_int_equal(b.n_points, 0);
            for (uint32_t k = 0; k < b.n_points; k++)
                assert_true(lf_equal(&b.points[k], &r->sent.points[rd.from_point_no + k]));
            points += b.n_points;
            tg_segment_dict_unref(dict);
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

int main(void)
{
    tg_log_set_level(TG_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_segment),
        cmocka_unit_test(test_lost_headers),
        cmocka_unit_test(test_failed_commit_that_comes_back),
        cmocka_unit_test(test_damaged_series_record),
        cmocka_unit_test(test_cursor_beyond_the_end),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_open_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
