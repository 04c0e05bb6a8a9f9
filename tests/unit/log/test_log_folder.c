/* The log's folder: one gateway at a time, nothing overwritten that is not the log's own. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/log/log_rig.h"

static void test_segments_overwrite_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *what, *bytes;
        size_t len;
    } cases[] = {{"something", "not a segment", 13}, {"nothing", "", 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig *r = rig_new(100, 0, 0);
        char name[64];
        size_t len;
        assert_int_equal(commit(r, 50, false, NULL), TG_OK);
        rig_reopen(r);
        (void)snprintf(name, sizeof(name), "/data/log/%020llu.seg",
                       (unsigned long long)tg_log_stats(r->log).end_pos);
        assert_true(sim_fs_put(r->sim, name, cases[i].bytes, cases[i].len));
        if (cases[i].len) {
            /* these points are not acknowledged; the next find another place */
            assert_int_equal(commit(r, 50, false, NULL), TG_ERR_IO);
            assert_int_equal(commit(r, 50, false, NULL), TG_OK);
            const uint8_t *kept = sim_fs_bytes(r->sim, name, &len);
            assert_int_equal(len, cases[i].len);
            assert_memory_equal(kept, cases[i].bytes, len);
        } else {
            assert_int_equal(commit(r, 50, false, NULL), TG_OK);
        }
        read_all(r, 1000);
        rig_free(r);
    }
}

/* In a folder that took the place of the locked one there may be another gateway. */
static void test_replaced_while_it_runs(void **state)
{
    (void)state;
    char top[] = "/tmp/tidegate-test-log-folder-XXXXXX", dir[80], aside[80], name[128], command[96];
    assert_non_null(mkdtemp(top));
    (void)snprintf(dir, sizeof(dir), "%s/log", top);
    (void)snprintf(aside, sizeof(aside), "%s/aside", top);
    (void)snprintf(name, sizeof(name), "%s/%020d.seg", dir, 0);
    struct rig *r = rig_new(100, 0, 0);
    tg_log_close(r->log);
    r->config.fs = NULL;
    r->config.dir = dir;
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    struct tg_log_cursor *c;
    struct tg_err err;
    assert_int_equal(tg_log_cursor_open(r->log, "a", true, &c, NULL), TG_OK);
    const struct tg_cursor_state s = tg_log_cursor_get(c);
    assert_int_equal(commit(r, 50, false, NULL), TG_OK);
    assert_int_equal(rename(dir, aside), 0);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(commit(r, 50, false, NULL), TG_ERR_IO);
    assert_int_equal(commit(r, 50, false, NULL), TG_ERR_IO);
    assert_int_equal(tg_log_cursor_set(c, &s, true, &err), TG_ERR_IO);
    assert_non_null(strstr(err.msg, "was replaced while the gateway runs"));
    assert_int_equal(rmdir(dir), 0); /* nothing was written there */
    assert_int_equal(rename(aside, dir), 0);
    assert_int_equal(commit(r, 50, false, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_set(c, &s, true, &err), TG_OK);
    tg_log_cursor_close(c);
    read_all(r, 1000);
    rig_reopen(r);
    read_all(r, 1000);
    rig_free(r);
    (void)snprintf(command, sizeof(command), "rm -rf %s", top);
    assert_int_equal(system(command), 0);
}

/* A file that may not grow (ulimit -f) is one more failing write: the log goes on in a new one, and
 * senders do not notice. */
static void test_file_size_limit(void **state)
{
    (void)state;
    enum { MANY = 40 };
    struct rig *r = rig_new(100, 0, 0);
    r->sim->max_file = 20000;
    for (unsigned i = 0; i < 200; i++) assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    const uint64_t n_segments = tg_log_stats(r->log).n_segments;
    assert_true(n_segments > 5);
    /* a commit of many batches that would fit one by one */
    struct tg_batch b[MANY], *list[MANY];
    uint64_t pos[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        tg_batch_init(&b[i], NULL, 0, 0);
        list[i] = &b[i];
        r->t += SECOND;
        lf_mixed(&r->f, &b[i], 90, r->t);
    }
    assert_int_equal(tg_log_commit(r->log, list, MANY, pos, NULL), TG_OK);
    for (unsigned i = 0; i < MANY; i++) lf_append(&r->sent, &b[i]);
    assert_true(tg_log_stats(r->log).n_segments > n_segments + 2);
    /* one that does not fit alone is refused, and leaves no trace */
    struct tg_err err;
    r->sim->max_file = 1000;
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_log_commit(r->log, list, 1, pos, &err), TG_ERR_FILE_LIMIT);
        assert_non_null(strstr(err.msg, "File too large (ulimit -f"));
    }
    for (unsigned i = 0; i < MANY; i++) tg_batch_deinit(&b[i]);
    r->sim->max_file = 0;
    assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    read_all(r, 1000);
    rig_reopen(r);
    read_all(r, 1000);
    assert_int_equal(tg_log_stats(r->log).n_damaged_bytes, 0);
    rig_free(r);
}

/* What is no file is never waited for: a FIFO has no other end. */
static void test_fifos(void **state)
{
    (void)state;
    char top[] = "/tmp/tidegate-test-log-fifo-XXXXXX", dir[80], path[160], fifo[160], command[96];
    static const char *const names[] = {"cursors/a.cur", "id", "%020d.seg", "lock"};
    assert_non_null(mkdtemp(top));
    (void)snprintf(dir, sizeof(dir), "%s/log", top);
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", top);
    struct rig *r = rig_new(100, 0, 0);
    tg_log_close(r->log);
    r->config.fs = NULL;
    r->config.dir = dir;
    (void)alarm(60);
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    struct tg_log_cursor *c;
    struct tg_err err;
    assert_int_equal(tg_log_cursor_open(r->log, "a", true, &c, NULL), TG_OK);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    /* while it runs: it is replaced by the next write of the cursor */
    (void)snprintf(path, sizeof(path), "%s/cursors/a.cur", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(rename(fifo, path), 0);
    struct tg_cursor_state s = tg_log_cursor_get(c);
    assert_int_equal(tg_log_cursor_set(c, &s, true, &err), TG_OK);
    tg_log_cursor_close(c);
    rig_reopen(r);
    read_all(r, 1000);
    tg_log_close(r->log);
    r->log = NULL;
    /* at start: each of them stops it with its name, and is left alone */
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char name[64], aside[160];
        struct stat st;
        (void)snprintf(name, sizeof(name), names[i][0] == '%' ? "%020d.seg" : "%.0d%s", 0,
                       names[i]);
        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        (void)snprintf(aside, sizeof(aside), "%s/aside", top);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        for (unsigned twice = 0; twice < 2; twice++) {
            assert_int_equal(tg_log_open(&r->config, &r->log, &err), TG_ERR_IO);
            assert_null(r->log);
            if (!strstr(err.msg, "it is a FIFO, not a regular file") || !strstr(err.msg, name))
                fail_msg("%s", err.msg);
        }
        assert_int_equal(stat(path, &st), 0);
        assert_true(S_ISFIFO(st.st_mode));
        assert_int_equal(rename(aside, path), 0);
    }
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    read_all(r, 1000);
    (void)alarm(0);
    rig_free(r);
    (void)snprintf(command, sizeof(command), "rm -rf %s", top);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_overwrite_nothing),
        cmocka_unit_test(test_replaced_while_it_runs),
        cmocka_unit_test(test_file_size_limit),
        cmocka_unit_test(test_fifos),
    };
    tg_log_set_level(TG_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
