/* Cursors that are moved, and cursors that cannot be. */
#include "tests/unit/pipe/gateway_fixture.h"

static struct tg_backend_status status_of(const struct fixture *f, unsigned backend,
                                          uint64_t *log_end_pos)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const struct tg_backend_status b = s->backends[backend];
    *log_end_pos = s->log.end_pos;
    free(s);
    return b;
}

static uint64_t position_of(const struct fixture *f, unsigned backend)
{
    uint64_t end;
    return status_of(f, backend, &end).cursor_pos;
}

static uint64_t epoch_of(const struct fixture *f, unsigned backend)
{
    uint64_t end;
    return status_of(f, backend, &end).epoch;
}

static uint64_t log_end(const struct fixture *f)
{
    uint64_t end;
    (void)status_of(f, 0, &end);
    return end;
}

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

/* Nor must it wait until the write in flight is tried again. */
static void test_rewind_while_a_write_fails(void **state)
{
    struct fixture *f = *state;
    f->backends[0].retry_max_ms = f->backends[0].retry_min_ms = 60000;
    atomic_store(&sinks[0].down, true);
    atomic_store(&sinks[0].is_silent, true);
    start(f);
    post_range(f, 1, 10, "");
    const uint64_t began_ms = tg_clock_mono_ms();
    while (state_of(f, 0) != TG_DELIVERY_WRITING) {
        assert_true(tg_clock_mono_ms() - began_ms < 20000);
        (void)usleep(1000);
    }
    struct rewound r = {.code = TG_OK};
    struct tg_err err;
    const struct tg_rewind end = {.to = TG_REWIND_END};
    assert_int_equal(tg_gateway_rewind(f->g, 0, &end, on_rewind, &r, &err), TG_OK);
    /* asked of a loop that has turned again and again since then, it waits for the answer */
    const unsigned n_turns = atomic_load(&sinks[0].n_silent_turns);
    WAIT_UNTIL(atomic_load(&sinks[0].n_silent_turns) >= n_turns + 10);
    assert_false(atomic_load(&r.done));
    atomic_store(&sinks[0].is_silent, false);
    while (!atomic_load(&r.done)) {
        assert_true(tg_clock_mono_ms() - began_ms < 20000);
        (void)usleep(1000);
    }
    assert_int_equal(r.code, TG_OK);
    assert_int_equal(ledger(f, 0).skipped, 10);
    atomic_store(&sinks[0].down, false);
    post_range(f, 11, 20, "");
    wait_empty(f, 0); /* what comes after does not wait for the old failure either */
    assert_seen(0, 1, 10, 0);
    assert_seen(0, 11, 20, 1);
}

struct late_post {
    pthread_t thread;
    const struct fixture *f;
    const char *lines;
    int status;
};

static void *post_late(void *arg)
{
    struct late_post *p = arg;
    p->status = post(p->f, p->lines);
    return NULL;
}

static void wait_for_waiting_requests(const struct fixture *f, unsigned n)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    for (s->n_waiting_acks = 0; s->n_waiting_acks < n;) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        tg_gateway_status(f->g, s);
        (void)usleep(1000);
    }
    free(s);
}

/* Points over which the cursor is moved are not delivered: nobody is told that they are, and the
 * ledger says where they went. */
static void test_forward_rewind_skips_and_says_so(void **state)
{
    struct fixture *f = *state;
    f->config.limits.ack_timeout_ms = 15000;
    start(f);
    post_range(f, 1, 10, "");
    wait_empty(f, 1);
    atomic_store(&sinks[1].down, true);
    post_range(f, 11, 30, "");
    struct late_post waits = {.f = f, .lines = "m,wait=1 v=1i 31\n"};
    assert_int_equal(pthread_create(&waits.thread, NULL, post_late, &waits), 0);
    wait_for_waiting_requests(f, 1);
    const uint64_t began_ms = tg_clock_mono_ms();
    assert_int_equal(rewind_backend(f, 1, TG_REWIND_END, 0), TG_OK);
    (void)pthread_join(waits.thread, NULL);
    assert_int_equal(waits.status, 503);
    assert_true(tg_clock_mono_ms() - began_ms < 10000); /* now, not at the deadline */
    atomic_store(&sinks[1].down, false);
    assert_int_equal(post(f, waits.lines), 204); /* it came back */
    assert_seen(1, 1, 10, 1);
    assert_seen(1, 11, 30, 0);
    assert_seen(1, 31, 31, 1);
    struct tg_ledger l = ledger(f, 1);
    assert_int_equal(l.skipped, 21);
    assert_int_equal(l.delivered, 11);
    assert_int_equal(l.before, 0);
    /* what was skipped can be had again */
    assert_int_equal(rewind_backend(f, 1, TG_REWIND_START, 0), TG_OK);
    wait_empty(f, 1);
    assert_seen(1, 11, 30, 1);
    stop(f);
    start(f);
    l = ledger(f, 1);
    assert_int_equal(l.skipped, 21);
    assert_int_equal(l.rewound, 32);
    assert_int_equal(l.delivered, 43);
}

/* A backend that is behind has not come as far as a time or position that looks like the past: only
 * who says so skips. */
static void test_forward_only_when_it_is_asked_for(void **state)
{
    struct fixture *f = *state;
    start(f);
    post_range(f, 1, 10, "");
    wait_empty(f, 0);
    atomic_store(&sinks[0].down, true);
    post_range(f, 11, 20, "");
    post_range(f, 21, 30, "");
    const struct tg_cursor_state before = {.pos = position_of(f, 0), .epoch = epoch_of(f, 0)};
    const struct tg_rewind forward[] = {
        {.to = TG_REWIND_TIME, .value = 25},
        {.to = TG_REWIND_TIME, .value = 1000}, /* nothing is that new: the end */
        {.to = TG_REWIND_POSITION, .value = (int64_t)log_end(f)},
    };
    for (size_t i = 0; i < sizeof(forward) / sizeof(*forward); i++) {
        const struct rewound r = rewind_where(f, 0, forward[i]);
        assert_int_equal(r.code, TG_ERR_INVALID);
        assert_non_null(strstr(r.why, i == 0 ? "would skip 10 points" : "would skip 20 points"));
        assert_non_null(strstr(r.why, "--skip"));
        assert_int_equal(position_of(f, 0), before.pos);
        assert_int_equal(epoch_of(f, 0), before.epoch);
        assert_int_equal(ledger(f, 0).skipped, 0);
    }
    /* where it stands is not forward */
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_TIME, 15), TG_OK);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_POSITION, (int64_t)before.pos), TG_OK);
    struct tg_rewind where = forward[0];
    where.may_skip = true;
    assert_int_equal(rewind_where(f, 0, where).code, TG_OK);
    assert_int_equal(ledger(f, 0).skipped, 10);
    atomic_store(&sinks[0].down, false);
    wait_empty(f, 0);
    assert_seen(0, 1, 10, 1);
    assert_seen(0, 11, 20, 0);
    assert_seen(0, 21, 30, 1);
}

/* A backend that replaces files is told whether what comes was delivered before, and may refuse. */
static void test_forward_rewind_while_data_comes_again(void **state)
{
    struct fixture *f = *state;
    sinks[0].replaces_files = true;
    start(f);
    post_range(f, 1, 50, "");
    wait_empty(f, 0);
    atomic_store(&sinks[0].down, true);
    post_range(f, 51, 60, "");
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_END, 0), TG_OK); /* never had them */
    assert_false(sinks[0].rewind.comes_again);
    assert_int_equal(ledger(f, 0).skipped, 10);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(rewind_backend(f, 0, TG_REWIND_END, 0), TG_ERR_INVALID);
        assert_true(sinks[0].rewind.comes_again);
        assert_true(sinks[0].rewind.from_pos < 1000); /* where the log begins */
        assert_int_equal(ledger(f, 0).waiting, 60);
        stop(f); /* it is remembered */
        start(f);
    }
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    atomic_store(&sinks[0].down, false);
    wait_empty(f, 0);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_END, 0), TG_OK);
    assert_false(sinks[0].rewind.comes_again);
    assert_seen(0, 1, 50, 2);
    assert_seen(0, 51, 60, 1);
}

static struct tg_fs flaky_fs; /* the real one, but cursors cannot be saved while this is set: */
static _Atomic bool cursors_fail;
static _Atomic unsigned n_failed_saves;

static int flaky_rename(void *self, const char *from, const char *to)
{
    if (atomic_load(&cursors_fail) && strstr(to, "/cursors/")) {
        atomic_fetch_add(&n_failed_saves, 1);
        return -EIO;
    }
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
    atomic_store(&cursors_fail, true);
    int n = 10;
    const uint64_t deadline_ms = tg_clock_mono_ms() + WAIT_MAX_MS;
    while (state_of(f, 0) != TG_DELIVERY_STALLED) { /* not each move is saved: until one is due */
        assert_true(tg_clock_mono_ms() < deadline_ms);
        n++;
        post_range(f, n, n, "");
        (void)usleep(2000);
    }
    /* neither does a rewind that cannot be saved move anything */
    assert_int_not_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    (void)ledger(f, 0);
    const unsigned n_failed = atomic_load(&n_failed_saves);
    WAIT_UNTIL(atomic_load(&n_failed_saves) >= n_failed + 3);
    (void)ledger(f, 0);
    atomic_store(&cursors_fail, false);
    post_range(f, n + 1, n + 10, "");
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).delivered, n + 10);
    assert_seen(0, 1, n + 10, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rewind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rewind_while_a_write_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forward_rewind_skips_and_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forward_only_when_it_is_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forward_rewind_while_data_comes_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_cursor_that_cannot_be_saved, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
