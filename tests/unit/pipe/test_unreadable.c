/* The log cannot be read for a while: its backends stall and say so, nothing is counted as lost,
 * and they go on by themselves. */
#include <limits.h>

#include "tests/support/fault_fs.h"
#include "tests/unit/pipe/gateway_fixture.h"

enum { N = 4000 };

static bool is_stalled(const struct fixture *f, unsigned backend)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const bool stalled = s->backends[backend].state == TG_DELIVERY_STALLED &&
                         strstr(s->backends[backend].last_error, ".seg");
    free(s);
    return stalled;
}

static uint64_t n_segments(const struct fixture *f)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const uint64_t n = s->log.n_segments;
    free(s);
    return n;
}

static void wait_and_go_on(struct fixture *f, unsigned op, int errnum)
{
    struct fault_fs *ff = fault_fs_new(tg_fs_real());
    f->config.log.fs = &ff->fs;
    f->config.log.segment_bytes = 512;
    for (unsigned i = 0; i < 2; i++) atomic_store(&sinks[i].down, true);
    start(f);
    for (int i = 1; i <= N; i += 200) post_range(f, i, i + 199, "");
    assert_true(n_segments(f) > 5);
    fault_fs_set(ff, op, ".seg", errnum, UINT_MAX);
    for (unsigned i = 0; i < 2; i++) atomic_store(&sinks[i].down, false);
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (!is_stalled(f, 0) || !is_stalled(f, 1)) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)usleep(1000);
    }
    for (unsigned i = 0; i < 2; i++) {
        const struct tg_ledger l = ledger(f, i);
        assert_true(l.waiting > 0);
        assert_int_equal(l.lost, 0);
    }
    assert_true(fault_fs_repair(ff) > 0);
    for (unsigned i = 0; i < 2; i++) {
        wait_empty(f, i);
        assert_seen(i, 1, N, 1);
        assert_int_equal(ledger(f, i).lost, 0);
        assert_int_equal(ledger(f, i).delivered, N);
    }
    stop(f);
    fault_fs_free(ff);
}

static void test_not_opened(void **state)
{
    wait_and_go_on(*state, FAULT_OPEN, EACCES);
}

static void test_too_many_files(void **state)
{
    wait_and_go_on(*state, FAULT_OPEN, EMFILE);
}

static void test_not_read(void **state)
{
    wait_and_go_on(*state, FAULT_READ, EIO);
}

static void test_not_looked_at(void **state)
{
    wait_and_go_on(*state, FAULT_FSTAT, EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_not_opened, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_looked_at, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
