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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_overwrite_nothing),
        cmocka_unit_test(test_replaced_while_it_runs),
    };
    tg_log_set_level(TG_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
