/* What somebody else does to the log's files: segments removed, replaced, cut short while the
 * gateway runs; files in the folder that only have the name of a segment; cursors that say what the
 * log does not have. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/capture.h"
#include "tests/support/fault_fs.h"
#include "tests/unit/log/log_rig.h"

static char said[64 << 10];
static uint64_t now_s = 1750000000;

/* Time goes on, by a step when something is to be said: messages of one place are held to so many a
 * second. */
static void pass_time(void)
{
    now_s += 5;
    tg_clock_set_test((int64_t)now_s * SECOND, now_s * (uint64_t)SECOND);
}

static void listen(void)
{
    pass_time();
    capture_begin();
}

static void listen_end(void)
{
    capture_end(said, sizeof(said));
}

static void assert_said(const char *words)
{
    if (!strstr(said, words)) fail_msg("not said: \"%s\", but: %s", words, said);
}

static struct rig *faulty_rig(uint64_t segment_bytes, struct fault_fs **ff)
{
    struct rig *r = rig_new(60, segment_bytes, 0);
    tg_log_close(r->log);
    *ff = fault_fs_new(&r->sim->fs);
    r->config.fs = &(*ff)->fs;
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    return r;
}

static void faulty_free(struct rig *r, struct fault_fs *ff)
{
    rig_free(r);
    fault_fs_free(ff);
}

static void commits(struct rig *r, unsigned n)
{
    for (unsigned i = 0; i < n; i++) assert_int_equal(commit(r, 50, true, NULL), TG_OK);
}

static uint64_t lost_of(struct rig *r)
{
    struct tg_log_reader *reader;
    uint64_t points = 0;
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    tg_log_reader_expect(reader, 0);
    const uint64_t lost = read_on(r, reader, 70, &points, NULL);
    assert_int_equal(points + lost, r->sent.n_points);
    assert_int_equal(tg_log_stats(r->log).end_point_no, r->sent.n_points);
    tg_log_reader_close(reader);
    return lost;
}

/* --- the segment in use --- */

enum way { REMOVED, COPIED, OLD_COPY, OTHER, FOLDER, WAYS };
static const char *const way_names[] = {"removed", "copied", "old copy", "another file", "folder"};

struct copy {
    uint8_t bytes[1 << 16];
    size_t len;
};

static void keep_copy(struct rig *r, const char *path, struct copy *c)
{
    const uint8_t *bytes = sim_fs_bytes(r->sim, path, &c->len);
    assert_true(bytes && c->len <= sizeof(c->bytes));
    memcpy(c->bytes, bytes, c->len);
}

/* Another file stands under this name, as after `cp S x; mv x S`. */
static void replace(struct rig *r, const char *path, enum way way, const struct copy *old)
{
    static struct copy now;
    keep_copy(r, path, &now);
    assert_true(sim_fs_remove(r->sim, path));
    switch (way) {
    case COPIED: assert_true(sim_fs_put(r->sim, path, now.bytes, now.len)); break;
    case OLD_COPY: assert_true(sim_fs_put(r->sim, path, old->bytes, old->len)); break;
    case OTHER: assert_true(sim_fs_put(r->sim, path, "something else", 14)); break;
    case FOLDER: assert_int_equal(r->sim->fs.mkdir(r->sim, path), 0); break;
    default: break;
    }
}

static void last_segment(struct rig *r, char path[256])
{
    unsigned n = 0;
    while (sim_fs_nth(r->sim, ".seg", n, path)) n++;
    assert_true(n > 0 && sim_fs_nth(r->sim, ".seg", n - 1, path));
}

/* Found at the next commit, at the end, or by the log's thread when there are no commits. */
static void test_active_replaced(void **state)
{
    (void)state;
    enum { AT_COMMIT, AT_CLOSE, IN_THREAD, FINDERS };
    for (unsigned way = 0; way < WAYS; way++) {
        for (unsigned finder = 0; finder < FINDERS; finder++) {
            struct rig *r = rig_new(60, 0, 0);
            struct tg_log_reader *inside;
            static struct copy old;
            char path[256];
            uint64_t points = 0;
            commits(r, 3);
            last_segment(r, path);
            keep_copy(r, path, &old);
            assert_int_equal(tg_log_reader_open(r->log, 0, &inside, NULL), TG_OK);
            tg_log_reader_expect(inside, 0);
            assert_int_equal(read_on(r, inside, 70, &points, NULL), 0);
            commits(r, 3);
            listen();
            replace(r, path, (enum way)way, &old);
            if (finder == AT_COMMIT) {
                commits(r, 5); /* acknowledged, not refused: they are safe in a new segment */
                assert_int_equal(tg_log_stats(r->log).n_replaced, 1);
            } else if (finder == IN_THREAD) {
                const time_t deadline = time(NULL) + 60;
                tg_clock_set_test(-1, 0); /* the real one */
                assert_int_equal(tg_log_start(r->log, NULL), TG_OK);
                while (tg_log_stats(r->log).n_replaced == 0) {
                    assert_true(time(NULL) < deadline);
                    (void)usleep(1000);
                }
            }
            if (finder != AT_CLOSE) {
                assert_int_equal(read_on(r, inside, 70, &points, NULL), 0);
                assert_int_equal(points, r->sent.n_points);
                read_all(r, 100);
            }
            tg_log_reader_close(inside);
            tg_log_close(r->log);
            listen_end();
            assert_said("leave its folder alone");
            assert_said("no point is lost");
            sim_fs_power_loss(r->sim, SIM_LOSE_ALL); /* and it is durable */
            assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
            if (lost_of(r)) fail_msg("%s, %u: points are lost", way_names[way], finder);
            assert_int_equal(tg_log_stats(r->log).n_damaged_records, 0);
            commits(r, 2);
            read_all(r, 100);
            char aside[256];
            if (way != REMOVED && way != FOLDER)
                assert_true(sim_fs_nth(r->sim, ".bin", 0, aside)); /* it may be somebody's */
            rig_free(r);
        }
    }
}

/* The bytes are gone: counted, said, and nothing more goes into that file. */
static void test_active_cut_short(void **state)
{
    (void)state;
    for (unsigned part = 0; part < 3; part++) {
        struct rig *r = rig_new(60, 0, 0);
        char path[256];
        size_t len;
        commits(r, 6);
        last_segment(r, path);
        (void)sim_fs_bytes(r->sim, path, &len);
        const int fd = r->sim->fs.open(r->sim, path, TG_FS_WRITE);
        assert_int_equal(r->sim->fs.truncate(r->sim, fd, len * part / 3), 0);
        (void)r->sim->fs.close(r->sim, fd);
        listen();
        commits(r, 5);
        listen_end();
        assert_said("bytes are lost");
        assert_int_equal(tg_log_stats(r->log).n_replaced, 1);
        listen();
        const uint64_t lost = lost_of(r);
        assert_true(lost >= 50 && lost <= 300);
        rig_reopen(r);
        assert_int_equal(lost_of(r), lost);
        listen_end();
        rig_free(r);
    }
}

static void replace_now(void *arg)
{
    struct rig *r = arg;
    char path[256];
    last_segment(r, path);
    replace(r, path, COPIED, NULL);
}

/* Between the write and the acknowledgement: these points are refused, those before are kept. */
static void test_active_replaced_while_written(void **state)
{
    (void)state;
    struct fault_fs *ff;
    for (unsigned n_before = 0; n_before < 4; n_before += 3) {
        struct rig *r = faulty_rig(0, &ff);
        commits(r, n_before);
        ff->on_sync_arg = r;
        ff->on_sync = replace_now;
        listen();
        assert_int_equal(commit(r, 50, true, NULL), TG_ERR_IO);
        listen_end();
        assert_said("was replaced while the gateway runs");
        commits(r, 3);
        read_all(r, 100);
        rig_reopen(r);
        read_all(r, 100);
        faulty_free(r, ff);
    }
}

/* What can be saved later is saved later: points are taken meanwhile, and readers wait. */
static void test_saved_when_it_can_be(void **state)
{
    (void)state;
    static const struct {
        unsigned ops;
        const char *in_path;
        int errnum;
    } faults[] = {
        {FAULT_RENAME, "/00000000000000000000.seg", EACCES},
        {FAULT_OPEN, "/00000000000000000000.seg", EMFILE},
        {FAULT_WRITE, "/00000000000000000000.seg", ENOSPC},
        {FAULT_READ, "/00000000000000000000.seg", EIO},
    };
    for (unsigned i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        for (unsigned at_close = 0; at_close < 2; at_close++) {
            struct fault_fs *ff;
            struct rig *r = faulty_rig(0, &ff);
            char path[256];
            commits(r, 6);
            last_segment(r, path);
            replace(r, path, OTHER, NULL);
            fault_fs_set(ff, faults[i].ops, faults[i].in_path, faults[i].errnum, UINT_MAX);
            listen();
            commits(r, 4);
            struct tg_log_reader *reader;
            struct tg_batch b;
            struct tg_log_read rd;
            struct tg_segment_dict *dict;
            struct tg_err err = {.msg = ""};
            tg_batch_init(&b, NULL, 0, 0);
            assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
            tg_log_reader_expect(reader, 0);
            assert_int_equal(tg_log_reader_read(reader, &b, 10, &rd, &dict, &err), TG_ERR_IO);
            assert_int_equal(b.n_points, 0);
            assert_true(err.msg[0]);
            assert_true(fault_fs_repair(ff) > 0);
            pass_time();
            if (!at_close) {
                commits(r, 1);
                uint64_t points = 0;
                assert_int_equal(read_on(r, reader, 100, &points, NULL), 0);
                assert_int_equal(points, r->sent.n_points);
            }
            tg_batch_deinit(&b);
            tg_log_reader_close(reader);
            rig_reopen(r);
            listen_end();
            assert_said("a restart would lose it");
            assert_int_equal(lost_of(r), 0);
            faulty_free(r, ff);
        }
    }
}

/* Points that come all the time do not put off the next attempt: it comes a second after the last.
 */
static void test_saved_while_points_come(void **state)
{
    (void)state;
    struct fault_fs *ff;
    struct rig *r = faulty_rig(0, &ff);
    static struct copy before;
    char path[256];
    size_t len;
    commits(r, 6);
    last_segment(r, path);
    keep_copy(r, path, &before);
    assert_true(sim_fs_remove(r->sim, path));
    fault_fs_set(ff, FAULT_OPEN, path, ENOSPC, UINT_MAX);
    listen();
    uint64_t ns = now_s * (uint64_t)SECOND;
    for (unsigned i = 0; i < 20; i++) { /* every 100 ms; after half a second it could be saved */
        if (i == 5) assert_true(fault_fs_repair(ff) > 0);
        if (i == 9) assert_null(sim_fs_bytes(r->sim, path, &len)); /* not at each of them */
        commits(r, 1);
        ns += SECOND / 10;
        tg_clock_set_test((int64_t)ns, ns);
    }
    listen_end();
    const uint8_t *after = sim_fs_bytes(r->sim, path, &len);
    if (!after) fail_msg("it is not saved while points come: %s", said);
    assert_int_equal(len, before.len);
    assert_memory_equal(after, before.bytes, len);
    read_all(r, 100);
    pass_time();
    faulty_free(r, ff);
}

/* --- the folder --- */

static void test_folder_moved(void **state)
{
    (void)state;
    for (unsigned other = 0; other < 2; other++) { /* nothing there, or another folder */
        char folder[] = "/tmp/tidegate-test-log-XXXXXX", dir[64], away[64], cmd[200];
        assert_non_null(mkdtemp(folder));
        (void)snprintf(dir, sizeof(dir), "%s/log", folder);
        (void)snprintf(away, sizeof(away), "%s/away", folder);
        struct rig *r = rig_new(60, 4096, 0);
        tg_log_close(r->log);
        r->config.fs = NULL;
        r->config.dir = dir;
        assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
        commits(r, 20);
        assert_true(tg_log_stats(r->log).n_segments > 3);
        assert_int_equal(rename(dir, away), 0);
        if (other) assert_int_equal(tg_fs_mkdirs(tg_fs_real(), dir, NULL), TG_OK);
        listen();
        for (unsigned i = 0; i < 3; i++) assert_int_equal(commit(r, 50, true, NULL), TG_ERR_IO);
        struct tg_log_reader *reader;
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        struct tg_err err = {.msg = ""};
        tg_batch_init(&b, NULL, 0, 0);
        assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
        tg_log_reader_expect(reader, 0);
        assert_int_equal(tg_log_reader_read(reader, &b, 10, &rd, &dict, &err), TG_ERR_IO);
        assert_non_null(strstr(err.msg, "put the former one back"));
        tg_batch_deinit(&b);
        if (other) assert_int_equal(rmdir(dir), 0);
        assert_int_equal(rename(away, dir), 0);
        commits(r, 20);
        uint64_t points = 0;
        assert_int_equal(read_on(r, reader, 100, &points, NULL), 0);
        assert_int_equal(points, r->sent.n_points);
        tg_log_reader_close(reader);
        rig_reopen(r);
        listen_end();
        assert_said(other ? "was replaced while the gateway runs"
                          : "was removed while the gateway");
        assert_int_equal(lost_of(r), 0);
        rig_free(r);
        (void)snprintf(cmd, sizeof(cmd), "rm -rf '%s'", folder);
        assert_int_equal(system(cmd), 0);
    }
}

/* --- a closed segment --- */

static void test_sealed_replaced(void **state)
{
    (void)state;
    for (unsigned way = 0; way < WAYS; way++) {
        struct rig *r = rig_new(60, 4096, 0);
        static struct copy old;
        char path[256];
        commits(r, 20);
        assert_true(sim_fs_nth(r->sim, ".seg", 1, path));
        keep_copy(r, path, &old);
        struct copy *part = tg_malloc(sizeof(*part));
        *part = old;
        part->len /= 2;
        listen();
        replace(r, path, (enum way)way, part);
        tg_free(part);
        struct tg_log_reader *reader;
        uint64_t points = 0;
        struct tg_batch b;
        tg_batch_init(&b, NULL, 0, 0);
        assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
        tg_log_reader_expect(reader, 0);
        const bool waits = way == OLD_COPY || way == OTHER || way == FOLDER;
        if (waits) { /* it is not what was there, but neither is it gone */
            struct tg_log_read rd;
            struct tg_segment_dict *dict;
            struct tg_err err = {.msg = ""};
            enum tg_code code;
            while ((code = tg_log_reader_read(reader, &b, 100, &rd, &dict, &err)) == TG_OK) {
                assert_int_equal(rd.n_lost, 0);
                assert_true(rd.to_pos > rd.from_pos);
                tg_segment_dict_unref(dict);
            }
            assert_int_equal(code, TG_ERR_IO);
            assert_non_null(strstr(err.msg, ".seg"));
            if (way == FOLDER) assert_int_equal(r->sim->fs.rmdir(r->sim, path), 0);
            assert_true(sim_fs_put(r->sim, path, old.bytes, old.len));
        }
        const uint64_t before = b.n_points;
        const uint64_t lost = read_on(r, reader, 100, &points, NULL);
        assert_int_equal(before + points + lost, r->sent.n_points);
        if ((lost > 0) != (way == REMOVED)) fail_msg("%s: %lu lost", way_names[way], lost);
        listen_end();
        if (way == REMOVED) assert_said("is gone");
        tg_batch_deinit(&b);
        tg_log_reader_close(reader);
        rig_free(r);
    }
}

/* The same name and as long, but of another log: it is not delivered as if it were ours. Not even
 * when the file system gave it the number (inode) of the one that it replaced. */
static void test_sealed_replaced_by_another_logs(void **state)
{
    (void)state;
    for (unsigned same_inode = 0; same_inode < 2; same_inode++) {
        struct rig *r = rig_new(60, 4096, 0), *other = rig_new(60, 4096, 0);
        static struct copy own, theirs;
        char path[256], others_path[256];
        commits(r, 20);
        commits(other, 20);
        assert_true(sim_fs_nth(r->sim, ".seg", 0, path));
        assert_true(sim_fs_nth(other->sim, ".seg", 0, others_path));
        assert_string_equal(path, others_path);
        keep_copy(r, path, &own);
        keep_copy(other, path, &theirs);
        if (theirs.len < own.len) { /* at least as long */
            memset(theirs.bytes + theirs.len, 0, own.len - theirs.len);
            theirs.len = own.len;
        }
        if (same_inode) {
            const int fd = r->sim->fs.open(r->sim, path, TG_FS_WRITE);
            assert_true(fd >= 0);
            assert_int_equal(
                tg_fs_write_all(&r->sim->fs, fd, theirs.bytes, theirs.len, 0, path, NULL), TG_OK);
            (void)r->sim->fs.close(r->sim, fd);
        } else {
            assert_true(sim_fs_remove(r->sim, path));
            assert_true(sim_fs_put(r->sim, path, theirs.bytes, theirs.len));
        }
        listen();
        struct tg_log_reader *reader;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        struct tg_err err = {.msg = ""};
        struct tg_batch b;
        uint64_t points = 0;
        tg_batch_init(&b, NULL, 0, 0);
        assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
        tg_log_reader_expect(reader, 0);
        for (unsigned i = 0; i < 2; i++) /* it waits, however often it looks */
            assert_int_equal(tg_log_reader_read(reader, &b, 100, &rd, &dict, &err), TG_ERR_IO);
        listen_end();
        assert_int_equal(b.n_points, 0);
        if (!strstr(err.msg, tg_log_id(other->log))) fail_msg("%s", err.msg);
        assert_non_null(strstr(err.msg, path));
        assert_true(sim_fs_remove(r->sim, path)); /* as the message says */
        assert_true(sim_fs_put(r->sim, path, own.bytes, own.len));
        assert_int_equal(read_on(r, reader, 100, &points, NULL), 0);
        assert_int_equal(points, r->sent.n_points);
        tg_batch_deinit(&b);
        tg_log_reader_close(reader);
        rig_free(r);
        rig_free(other);
    }
}

/* --- files that are none of the log's --- */

static void test_strays(void **state)
{
    (void)state;
    enum { GARBAGE, ZEROS, COPY, EMPTY, STRAYS };
    for (unsigned kind = 0; kind < STRAYS; kind++) {
        for (unsigned where = 0; where < 6; where++) {
            struct rig *r = rig_new(60, 4096, 0);
            static struct copy c;
            char path[256];
            commits(r, 20);
            const struct tg_log_stats before = tg_log_stats(r->log);
            assert_true(sim_fs_nth(r->sim, ".seg", 1, path));
            keep_copy(r, path, &c);
            if (kind == GARBAGE) memset(c.bytes, 0x5a, c.len);
            if (kind == ZEROS) memset(c.bytes, 0, c.len);
            if (kind == EMPTY) c.len = 0;
            const uint64_t at[] = {
                10,         before.end_pos - 100, before.end_pos, before.end_pos + 12345,
                UINT64_MAX, UINT64_C(1) << 63};
            (void)snprintf(path, sizeof(path), "/data/log/%020lu.seg", at[where]);
            tg_log_close(r->log);
            assert_true(sim_fs_put(r->sim, path, c.bytes, c.len));
            listen();
            struct tg_err err = {.msg = ""};
            if (tg_log_open(&r->config, &r->log, &err) != TG_OK) fail_msg("%s", err.msg);
            if (lost_of(r)) fail_msg("%s hides points", path);
            assert_int_equal(tg_log_stats(r->log).end_pos, before.end_pos);
            commits(r, 20);
            read_all(r, 100);
            rig_reopen(r);
            read_all(r, 100);
            assert_true(tg_log_stats(r->log).end_pos < 2 * before.end_pos + 100000);
            listen_end();
            char aside[256];
            if (kind != EMPTY) {
                assert_said("is no segment of this log");
                assert_true(sim_fs_nth(r->sim, ".bin", 0, aside));
            }
            rig_free(r);
        }
    }
}

/* A folder with the name of a segment may be a mount that is not there. */
static void test_folder_named_like_a_segment(void **state)
{
    (void)state;
    struct rig *r = rig_new(60, 4096, 0);
    char path[256];
    struct tg_err err = {.msg = ""};
    static struct copy c;
    commits(r, 20);
    assert_true(sim_fs_nth(r->sim, ".seg", 1, path));
    keep_copy(r, path, &c);
    tg_log_close(r->log);
    assert_true(sim_fs_remove(r->sim, path));
    assert_int_equal(r->sim->fs.mkdir(r->sim, path), 0);
    assert_int_equal(tg_log_open(&r->config, &r->log, &err), TG_ERR_IO);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(r->sim->fs.rmdir(r->sim, path), 0);
    assert_true(sim_fs_put(r->sim, path, c.bytes, c.len));
    assert_int_equal(tg_log_open(&r->config, &r->log, &err), TG_OK);
    read_all(r, 100);
    rig_free(r);
}

/* --- cursors --- */

static void put_cursor(struct rig *r, uint64_t pos, uint64_t no)
{
    char text[512];
    int n = snprintf(text, sizeof(text),
                     "tidegate cursor 2\npos %lu\npoint_no %lu\nfirst_point_no 0\n"
                     "replay_until_no 0\ndelivered %lu\nelsewhere 0\ndead 0\nlost 0\n"
                     "again_until_no 0\nskipped 0\n",
                     pos, no, no);
    n += snprintf(text + n, sizeof(text) - (size_t)n, "crc32c %08x\n",
                  tg_crc32c(0, text, (size_t)n));
    assert_true(sim_fs_put(r->sim, "/data/log/cursors/c.cur", text, (size_t)n));
}

static void test_cursor_that_says_too_much(void **state)
{
    (void)state;
    struct rig *r = rig_new(60, 4096, 0);
    commits(r, 20);
    tg_log_close(r->log);
    size_t len;
    char path[256];
    last_segment(r, path);
    (void)sim_fs_bytes(r->sim, path, &len);
    unsigned long start;
    assert_int_equal(sscanf(path, "/data/log/%lu.seg", &start), 1);
    const uint64_t end = start + len;
    const uint64_t cases[][2] = {{end + 1, 1000},
                                 {end + 100000, 1000},
                                 {UINT64_C(1) << 40, 1000},
                                 {UINT64_MAX, 1000},
                                 {UINT64_MAX - 5, UINT64_MAX - 5},
                                 {end, UINT64_MAX},
                                 {UINT64_C(1) << 61, 7}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct sim_fs *sim = sim_fs_clone(r->sim), *const original = r->sim;
        const uint32_t n_before = r->sent.n_points;
        struct tg_log_cursor *c;
        struct tg_log_reader *reader;
        uint64_t points = 0;
        r->sim = sim;
        r->config.fs = &sim->fs;
        put_cursor(r, cases[i][0], cases[i][1]);
        listen();
        assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
        listen_end();
        assert_said("file of cursor c");
        assert_said("was set aside");
        assert_true(sim_fs_nth(sim, ".bin", 0, path));
        commits(r, 10);
        assert_int_equal(tg_log_cursor_open(r->log, "c", false, &c, NULL), TG_OK);
        const struct tg_cursor_state s = tg_log_cursor_get(c);
        assert_int_equal(s.pos, 0);
        assert_int_equal(s.point_no, 0);
        assert_int_equal(tg_log_reader_open(r->log, s.pos, &reader, NULL), TG_OK);
        tg_log_reader_expect(reader, s.point_no);
        assert_int_equal(read_on(r, reader, 100, &points, NULL), 0);
        assert_int_equal(points, r->sent.n_points);
        tg_log_reader_close(reader);
        tg_log_cursor_close(c);
        tg_log_close(r->log);
        sim_fs_free(sim);
        r->sim = original;
        r->config.fs = &original->fs;
        r->sent.n_points = n_before;
    }
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    rig_free(r);
}

/* Without fsync the power takes the log's end, but not the cursor's file: what was delivered does
 * not come again, and no number is given twice. */
static void test_end_lost_with_the_power(void **state)
{
    (void)state;
    struct rig *r = rig_new(60, 64 << 10, 0);
    struct tg_log_cursor *c;
    struct tg_log_reader *reader;
    tg_log_close(r->log);
    r->config.sync = TG_SYNC_INTERVAL;
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(r->log, "c", true, &c, NULL), TG_OK);
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    commits(r, 5);
    advance(r, c, reader);
    /* the power goes before anything of it is fsynced, but for the cursor's file */
    sim_fs_power_loss(r->sim, SIM_LOSE_ALL);
    tg_log_reader_close(reader);
    tg_log_cursor_close(c);
    tg_log_close(r->log);
    listen();
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    listen_end();
    assert_int_equal(tg_log_cursor_open(r->log, "c", true, &c, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_get(c).point_no, r->sent.n_points);
    assert_int_equal(tg_log_stats(r->log).end_point_no, r->sent.n_points);
    tg_log_cursor_close(c);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_active_replaced, capture_give_back),
        cmocka_unit_test_teardown(test_active_cut_short, capture_give_back),
        cmocka_unit_test_teardown(test_active_replaced_while_written, capture_give_back),
        cmocka_unit_test_teardown(test_saved_when_it_can_be, capture_give_back),
        cmocka_unit_test_teardown(test_saved_while_points_come, capture_give_back),
        cmocka_unit_test_teardown(test_folder_moved, capture_give_back),
        cmocka_unit_test_teardown(test_sealed_replaced, capture_give_back),
        cmocka_unit_test_teardown(test_sealed_replaced_by_another_logs, capture_give_back),
        cmocka_unit_test_teardown(test_strays, capture_give_back),
        cmocka_unit_test_teardown(test_folder_named_like_a_segment, capture_give_back),
        cmocka_unit_test_teardown(test_cursor_that_says_too_much, capture_give_back),
        cmocka_unit_test_teardown(test_end_lost_with_the_power, capture_give_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
