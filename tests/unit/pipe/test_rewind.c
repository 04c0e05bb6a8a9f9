/* Cursors that are moved, and cursors that cannot be. */
#include "tests/unit/pipe/gateway_fixture.h"

static void test_rewind(void **state)
{
    struct fixture *f = *state;
    start(f);
    post_range(f, 1, 50, "");
    post_range(f, 51, 100, "");
    wait_empty(f, 0);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    wait_empty(f, 0);
    assert_seen(0, 1, 100, 2);
    assert_int_equal(ledger(f, 0).rewound, 100);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_TIME, 60), TG_OK);
    wait_empty(f, 0);
    assert_seen(0, 1, 50, 2);
    assert_seen(0, 51, 100, 3);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_POSITION, INT64_MAX / 2), TG_ERR_INVALID);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_END, 0), TG_OK);
    wait_empty(f, 0);
    /* while a backend is down, a rewind must not wait for it */
    atomic_store(&sinks[0].down, true);
    post_range(f, 101, 110, "");
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    atomic_store(&sinks[0].down, false);
    wait_empty(f, 0);
    assert_seen(0, 1, 50, 3);
    assert_seen(0, 101, 110, 1);
}

static struct tg_fs flaky_fs; /* the real one, but cursors cannot be saved while this is set: */
static _Atomic bool cursors_fail;

static int flaky_rename(void *self, const char *from, const char *to)
{
    if (atomic_load(&cursors_fail) && strstr(to, "/cursors/")) return -EIO;
    return tg_fs_real()->rename(self, from, to);
}

static void test_cursor_that_cannot_be_saved(void **state)
{
    struct fixture *f = *state;
    flaky_fs = *tg_fs_real();
    flaky_fs.rename = flaky_rename;
    f->config.log.fs = &flaky_fs;
    f->backends[0].retry_max_ms = f->backends[0].retry_min_ms = 250; /* each try is a save */
    start(f);
    post_range(f, 1, 10, "");
    wait_empty(f, 0);
    (void)usleep(600 * 1000); /* a save is due with the next move */
    atomic_store(&cursors_fail, true);
    post_range(f, 11, 20, "");
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (state_of(f, 0) != TG_DELIVERY_STALLED && tg_clock_mono_ms() < deadline_ms)
        (void)usleep(2000);
    assert_int_equal(state_of(f, 0), TG_DELIVERY_STALLED);
    /* neither does a rewind that cannot be saved move anything */
    assert_int_not_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    (void)ledger(f, 0);
    (void)usleep(600 * 1000);
    (void)ledger(f, 0);
    atomic_store(&cursors_fail, false);
    post_range(f, 21, 30, "");
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).delivered, 30);
    assert_seen(0, 1, 30, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rewind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cursor_that_cannot_be_saved, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
