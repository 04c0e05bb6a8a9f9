/* The gateway in process: delivery to several backends in spite of what goes wrong, routing,
 * acknowledgements. Also what the tsan preset runs: senders, delivery, reload and status all at
 * once. */
#include "tests/unit/pipe/gateway_fixture.h"

static void test_delivers_to_all_in_spite_of_failures(void **state)
{
    struct fixture *f = *state;
    sinks[1].fail_every = 2;
    sinks[1].max_points_per_write = 60;
    start(f);
    post_range(f, 1, 2000, "");
    wait_empty(f, 0);
    wait_empty(f, 1);
    assert_seen(0, 1, 2000, 1);
    assert_seen(1, 1, 2000, 1);
    assert_int_equal(ledger(f, 1).delivered, 2000);
}

static void test_bisects_down_to_the_points_at_fault(void **state)
{
    struct fixture *f = *state;
    start(f);
    atomic_store(&sinks[0].down, true); /* so that it all comes as one delivery */
    post_range(f, 1, 100, "");
    assert_int_equal(post(f, "m v=-1i 101\nm v=5i 102\nm v=-7i 103\n"), 204);
    assert_int_equal(post(f, "m,unprepared=1 v=5i 104\n"), 204);
    post_range(f, 105, 200, "");
    atomic_store(&sinks[0].down, false);
    wait_empty(f, 0);
    wait_empty(f, 1);
    for (unsigned b = 0; b < 2; b++) {
        const struct tg_ledger l = ledger(f, b);
        assert_int_equal(l.delivered, 197);
        assert_int_equal(l.dead_lettered, 3);
        assert_seen(b, 1, 100, 1);
        assert_seen(b, 101, 101, 0);
        assert_seen(b, 102, 102, 1);
        assert_seen(b, 103, 104, 0);
        assert_seen(b, 105, 200, 1);
    }
    char path[160], line[1024];
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    unsigned n = 0, with_reason = 0;
    while (fgets(line, sizeof(line), letters)) {
        n++;
        with_reason +=
            strstr(line, "negative values are refused") || strstr(line, "no form for this one");
    }
    (void)fclose(letters);
    assert_int_equal(n, 3);
    assert_int_equal(with_reason, 3);
}

static void test_routes_drops_and_counts(void **state)
{
    struct fixture *f = *state;
    start(f);
    post_range(f, 1, 10, ",drop=1");
    post_range(f, 11, 30, ",only=a");
    post_range(f, 31, 60, "");
    wait_empty(f, 0);
    wait_empty(f, 1);
    const struct tg_ledger a = ledger(f, 0), b = ledger(f, 1);
    assert_int_equal(a.received, 60);
    assert_int_equal(a.dropped, 10);
    assert_int_equal(a.delivered, 50);
    assert_int_equal(b.delivered, 30);
    assert_int_equal(b.elsewhere, 20);
    assert_seen(1, 1, 30, 0);
}

static void test_acknowledgement_waits_for_cursors_until_the_deadline(void **state)
{
    struct fixture *f = *state;
    start(f);
    assert_int_equal(post(f, "m,wait=1 v=1i 1\n"), 204);
    assert_seen(0, 1, 1, 1);
    assert_seen(1, 1, 1, 1);
    atomic_store(&sinks[1].down, true);
    const uint64_t began_ms = tg_clock_mono_ms();
    assert_int_equal(post(f, "m,wait=1 v=1i 2\n"), 503);
    assert_true(tg_clock_mono_ms() - began_ms >= 350);
    assert_int_equal(post(f, "m v=1i 3\n"), 204); /* logged: does not wait */
    atomic_store(&sinks[1].down, false);
    wait_empty(f, 1);
    assert_int_equal(post(f, "m,wait=1 v=1i 4\n"), 204);
    assert_seen(1, 1, 4, 1);
}

struct sender {
    pthread_t thread;
    struct fixture *f;
    int first, n;
    _Atomic unsigned n_failed;
};

static void *send_many(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < s->n; i += 10) {
        char text[1024];
        size_t n = 0;
        for (int j = i; j < i + 10; j++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "m,k=%d v=%di %d\n", j % 40, j,
                                  s->first + j);
        if (post(s->f, text) != 204) atomic_fetch_add(&s->n_failed, 1);
    }
    return NULL;
}

static void test_everything_at_once(void **state)
{
    struct fixture *f = *state;
    enum { SENDERS = 4, EACH = 1000 };
    sinks[0].fail_every = 7;
    start(f);
    struct sender senders[SENDERS] = {0};
    for (int i = 0; i < SENDERS; i++) {
        senders[i].f = f;
        senders[i].first = 1 + i * EACH;
        senders[i].n = EACH;
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_many, &senders[i]), 0);
    }
    for (int i = 0; i < 25; i++) {
        write_file(f->routing, i % 2 ? "return function(s) s.tags.x = nil return nil end"
                                     : "return function(s) return to('a', 'b') end");
        reload(f);
        const uint64_t received = ledger(f, (unsigned)i % 2).received;
        WAIT_UNTIL(ledger(f, 0).received > received || received == SENDERS * EACH);
    }
    for (int i = 0; i < SENDERS; i++) {
        (void)pthread_join(senders[i].thread, NULL);
        assert_int_equal(senders[i].n_failed, 0);
    }
    wait_empty(f, 0);
    wait_empty(f, 1);
    assert_seen(0, 1, SENDERS * EACH, 1);
    assert_seen(1, 1, SENDERS * EACH, 1);
}

/* Values that need more memory than a batch may have: it goes out with fewer points. */
static void test_large_values_make_small_batches(void **state)
{
    enum { N = 4600, LEN = 60000 };
    struct fixture *f = *state;
    static char line[LEN + 100];
    f->backends[0].batch_points = f->backends[1].batch_points = 100000;
    f->config.n_backends = 1;
    f->config.rules.n_backends = 1;
    atomic_store(&sinks[0].down, true);
    start(f);
    for (int i = 1; i <= N; i++) {
        const int n = snprintf(line, sizeof(line), "m s=\"%d", i);
        memset(line + n, 'x', LEN);
        (void)snprintf(line + n + LEN, sizeof(line) - (size_t)n - LEN, "\" %d\n", i);
        assert_int_equal(post(f, line), 204);
    }
    stop(f); /* so that it all is read at once */
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_seen(0, 1, N, 1);
}

/* What is too large for the backend is not tried again and again: the batches get smaller, and grow
 * with care. */
static void test_batches_fit_what_the_backend_takes(void **state)
{
    enum { N = 2400, BATCH = 64, TAKES = 20 };
    struct fixture *f = *state;
    f->config.n_backends = 1;
    f->config.rules.n_backends = 1;
    f->backends[0].batch_points = BATCH;
    sinks[0].max_points_per_write = TAKES;
    atomic_store(&sinks[0].down, true);
    start(f);
    for (int i = 0; i < N; i += 5) post_range(f, i + 1, i + 5, ""); /* one record each */
    stop(f); /* so that it all is read at once */
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_seen(0, 1, N, 1);
    /* Three for each batch, if each were as large as configured. */
    assert_true(atomic_load(&sinks[0].n_too_large) < N / BATCH);
}

static void test_start_fails_with_a_message_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct tg_err err = {.msg = ""};
    write_file(f->routing, "return function(s) return to( end");
    assert_int_equal(tg_gateway_start(&f->config, &f->g, &err), TG_ERR_INVALID);
    assert_non_null(strstr(err.msg, "routing.lua:1"));
    write_file(f->routing, "return function(s) end");
    start(f);
    struct tg_gateway *second = NULL;
    char path[128], other[128];
    (void)snprintf(path, sizeof(path), "%s/lock", f->log);
    (void)snprintf(other, sizeof(other), "%s/log2", f->dir);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(tg_gateway_start(&f->config, &second, &err), TG_ERR_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "stop it, or set another log.dir"));
        assert_null(second);
        (void)unlink(path); /* what is locked is the folder */
    }
    /* with a log of its own: not into the same dead letters either */
    struct tg_config config = f->config;
    config.log.dir = other;
    assert_int_equal(tg_gateway_start(&config, &second, &err), TG_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.msg, "stop it, or set another dead_letters.dir"));
    assert_null(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_delivers_to_all_in_spite_of_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bisects_down_to_the_points_at_fault, setup, teardown),
        cmocka_unit_test_setup_teardown(test_routes_drops_and_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_acknowledgement_waits_for_cursors_until_the_deadline,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_everything_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_values_make_small_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batches_fit_what_the_backend_takes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_start_fails_with_a_message_and_leaves_nothing, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
