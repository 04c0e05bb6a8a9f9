/* What the log says on stderr when it has to refuse points: once, and once more when that is over.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/log/log.h"
#include "tests/support/capture.h"
#include "tests/support/fault_fs.h"
#include "tests/support/log_fixture.h"
#include "tests/support/sim_fs.h"

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word)) n++;
    return n;
}

static enum tg_code commit(struct tg_log *log, struct lf *f, uint32_t n, int64_t *t)
{
    struct tg_batch b, *list = &b;
    uint64_t pos;
    struct tg_err err;
    tg_batch_init(&b, NULL, 0, 0);
    *t += 1000000000;
    f->rng = 11; /* alike, so that none fits after one did not */
    lf_mixed(f, &b, n, *t);
    const enum tg_code code = tg_log_commit(log, &list, 1, &pos, &err);
    tg_batch_deinit(&b);
    return code;
}

struct full_case {
    const char *name, *says;
    uint64_t max_bytes, capacity;
};

static void take_all(struct tg_log *log, struct tg_log_cursor *c)
{
    const struct tg_log_stats stats = tg_log_stats(log);
    struct tg_cursor_state s = tg_log_cursor_get(c);
    s.n_delivered += stats.end_point_no - s.point_no;
    s.pos = stats.end_pos;
    s.point_no = stats.end_point_no;
    assert_int_equal(tg_log_cursor_set(c, &s, true, NULL), TG_OK);
}

static void test_full_is_said_once(void **state)
{
    static const struct full_case cases[] = {
        {"max_bytes", "error log: the log is full: log.max_bytes is 65536", 64 << 10, 0},
        {"disk", "No space left on device; new points are refused", 0, 50000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct full_case *k = &cases[i];
        struct lf f;
        struct sim_fs *sim = sim_fs_new(1);
        struct tg_log *log;
        struct tg_log_cursor *c;
        int64_t t = 0;
        static char text[64 << 10];
        lf_init(&f, 100, 11);
        f.routed = true;
        const struct tg_log_config config = {.dir = "/data/log",
                                             .segment_bytes = 16 << 10,
                                             .max_bytes = k->max_bytes,
                                             .fs = &sim->fs,
                                             .table = f.table,
                                             .targets = lf_targets,
                                             .n_targets = LF_TARGETS};
        assert_int_equal(tg_log_open(&config, &log, NULL), TG_OK);
        assert_int_equal(tg_log_cursor_open(log, "slow", true, &c, NULL), TG_OK);
        if (k->capacity) sim->capacity = sim_fs_used(sim) + k->capacity;
        for (unsigned round = 0; round < 2; round++) {
            capture_begin();
            unsigned n = 0, n_full = 0;
            while (n_full < 30 && ++n < 1000)
                if (commit(log, &f, 90, &t) == TG_ERR_FULL) n_full++;
            capture_end(text, sizeof(text));
            if (count(text, k->says) != 1 || n_full != 30)
                fail_msg("%s: %u refused, said: %s", k->name, n_full, text);
            assert_int_equal(count(text, "taken again"), 0);
            /* a full log says so itself: once there is room nothing is wrong */
            const struct tg_log_stats stats = tg_log_stats(log);
            assert_int_equal(stats.full, k->max_bytes > 0);
            assert_int_equal(stats.failed_ms > 0, k->capacity > 0);

            capture_begin();
            take_all(log, c);
            for (unsigned j = 0; j < 3; j++) assert_int_equal(commit(log, &f, 90, &t), TG_OK);
            capture_end(text, sizeof(text));
            assert_int_equal(count(text, "info log: new points are taken again"), 1);
            assert_int_equal(count(text, "error"), 0);
            assert_int_equal(tg_log_stats(log).failed_ms, 0);
        }
        tg_log_cursor_close(c);
        tg_log_close(log);
        sim_fs_free(sim);
        lf_deinit(&f);
    }
}

/* Why something could not be done is said in words. */
static void test_reasons_are_words(void **state)
{
    (void)state;
    static const struct {
        unsigned ops;
        const char *in_path, *says;
    } cases[] = {
        {FAULT_LIST, "/damaged", "cannot list /data/log/damaged: Permission denied"},
        {FAULT_OPEN, "/reserve", "the room for cursors on a full disk: Permission denied"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char said[16 << 10];
        struct lf f;
        struct tg_log *log;
        struct sim_fs *sim = sim_fs_new(1);
        struct fault_fs *ff = fault_fs_new(&sim->fs);
        lf_init(&f, 10, 11);
        const struct tg_log_config config = {.dir = "/data/log", .fs = &ff->fs, .table = f.table};
        fault_fs_set(ff, cases[i].ops, cases[i].in_path, EACCES, UINT_MAX);
        capture_begin();
        assert_int_equal(tg_log_open(&config, &log, NULL), TG_OK);
        tg_log_close(log);
        capture_end(said, sizeof(said));
        if (count(said, cases[i].says) != 1) fail_msg("%s", said);
        lf_deinit(&f);
        fault_fs_free(ff);
        sim_fs_free(sim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_full_is_said_once, capture_give_back),
        cmocka_unit_test_teardown(test_reasons_are_words, capture_give_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
