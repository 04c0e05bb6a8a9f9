/* A process that is killed has written down how far its log went: segments that are removed before
 * the next start are missed, up to the last acknowledged point. */
#include "tests/unit/log/reopen.h"

#define MARK "/data/log/end_mark"
#define BOOT "/proc/sys/kernel/random/boot_id"

static void boot(struct rig *r, char digit)
{
    char text[38] = "11111111-2222-4333-8444-555555555555\n";
    struct tg_err err;
    text[0] = digit;
    assert_int_equal(tg_fs_mkdirs(&r->sim->fs, "/proc/sys/kernel/random", &err), TG_OK);
    assert_true(sim_fs_put(r->sim, BOOT, text, 37));
}

/* The process is gone as of now, without a word; what it wrote is there. */
static void kill_log(struct rig *r)
{
    struct sim_fs *as_it_is = sim_fs_clone(r->sim);
    close_log(r);
    sim_fs_free(r->sim);
    r->sim = as_it_is;
    r->config.fs = &r->sim->fs;
}

struct kill_case {
    const char *name;
    enum tg_log_sync sync;
    uint64_t segment_bytes;
    bool all_segments; /* or the newest */
    bool power;        /* goes, too: another boot, and what was not fsynced is lost */
    bool is_said;
};

static void test_killed_and_removed(void **state)
{
    static const struct kill_case cases[] = {
        {"the only segment", TG_SYNC_ALWAYS, 0, true, false, true},
        {"the newest of many", TG_SYNC_ALWAYS, 2000, false, false, true},
        {"all of many", TG_SYNC_ALWAYS, 2000, true, false, true},
        {"interval", TG_SYNC_INTERVAL, 0, true, false, true},
        {"never", TG_SYNC_NEVER, 0, true, false, true},
        {"never, the newest of many", TG_SYNC_NEVER, 2000, false, false, true},
        {"never, and the power went", TG_SYNC_NEVER, 0, true, true, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct kill_case *k = &cases[i];
        struct rig *r = rig_new(100, k->segment_bytes, 0);
        close_log(r);
        boot(r, '1');
        r->config.sync = k->sync;
        open_log(r);
        struct tg_log_cursor *c = cursor(r, "x");
        uint64_t points, lost;
        for (unsigned n = 0; n < 10; n++) assert_int_equal(commit(r, 90, true, NULL), TG_OK);
        tg_log_cursor_close(c);
        kill_log(r);
        if (k->power) boot(r, '2');
        char path[256];
        unsigned n_files = 0;
        while (sim_fs_nth(r->sim, ".seg", n_files, path)) n_files++;
        assert_true(n_files > (k->segment_bytes ? 3 : 0));
        while (n_files--) {
            assert_true(sim_fs_nth(r->sim, ".seg", n_files, path));
            assert_true(sim_fs_remove(r->sim, path));
            if (!k->all_segments) break;
        }
        open_log(r);
        c = cursor(r, "x");
        if (!k->is_said) {
            if (strstr(said, "missing")) fail_msg("%s: %s", k->name, said);
            tg_log_cursor_close(c);
            rig_free(r);
            continue;
        }
        if (!strstr(said, "points at the end of the log are missing"))
            fail_msg("%s: \"%s\"", k->name, said);
        assert_int_equal(tg_log_stats(r->log).end_point_no, 900);
        deliver(r, c, &points, &lost);
        if (points + lost != 900 || lost == 0 || (lost == 900) != k->all_segments)
            fail_msg("%s: %d lost, %d there", k->name, (int)lost, (int)points);
        tg_log_cursor_close(c);
        rig_free(r);
    }
}

/* What the mark says is not believed when it is not the log's, or not whole; what cannot be read is
 * not taken for what is not there. */
static void test_end_mark_damaged(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0), *other = rig_new(10, 0, 0);
    assert_int_equal(commit(r, 100, false, NULL), TG_OK);
    for (unsigned n = 0; n < 50; n++) assert_int_equal(commit(other, 10, false, NULL), TG_OK);
    close_log(r);
    close_log(other);
    size_t len, other_len;
    uint8_t *bytes = sim_fs_bytes(r->sim, MARK, &len);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i += 9) {
        bytes = sim_fs_bytes(r->sim, MARK, &len);
        bytes[i] ^= 1;
        open_log(r);
        must_say("end_mark is damaged");
        assert_int_equal(tg_log_stats(r->log).end_point_no, (i / 9 + 1) * 100);
        assert_int_equal(commit(r, 100, false, NULL), TG_OK); /* it is written again */
        close_log(r);
    }
    const uint64_t end_no = (len + 8) / 9 * 100 + 100;
    const uint8_t *foreign = sim_fs_bytes(other->sim, MARK, &other_len);
    assert_true(sim_fs_put(r->sim, MARK, foreign, other_len));
    open_log(r);
    must_say("end_mark is of another log");
    assert_int_equal(tg_log_stats(r->log).end_point_no, end_no);
    close_log(r);
    assert_true(sim_fs_put(r->sim, MARK, "", 0)); /* the power went before it was written */
    open_log(r);
    assert_null(strstr(said, "end_mark"));
    close_log(r);
    struct tg_err err;
    r->sim->eio_reads = true;
    assert_int_equal(tg_log_open(&r->config, &r->log, &err), TG_ERR_IO);
    r->sim->eio_reads = false;
    open_log(r);
    open_log(other);
    rig_free(other);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_killed_and_removed, capture_give_back),
        cmocka_unit_test_teardown(test_end_mark_damaged, capture_give_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
