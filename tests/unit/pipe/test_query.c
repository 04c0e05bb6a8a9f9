/* Queries run beside deliveries, few at once, and end when they are told to. */
#include "tests/unit/pipe/gateway_fixture.h"

#include "core/pipe/query.h"

struct asked {
    struct tg_query query;
    struct tg_query_stop stop;
    _Atomic unsigned n_rows, n_ends;
    _Atomic int code;
    char message[256];
};

static bool on_row(void *arg, const struct tg_query_row *row)
{
    (void)row;
    struct asked *q = arg;
    atomic_fetch_add(&q->n_rows, 1);
    return true;
}

static void on_end(void *arg, enum tg_code code, const struct tg_err *err)
{
    struct asked *q = arg;
    (void)snprintf(q->message, sizeof(q->message), "%s", err ? err->msg : "");
    atomic_store(&q->code, (int)code);
    atomic_fetch_add(&q->n_ends, 1);
}

static enum tg_code ask(const struct fixture *f, struct asked *q, const char *name)
{
    struct tg_err err;
    *q = (struct asked){.code = -1};
    q->query = (struct tg_query){.name = name, .end_ns = 1, .max_rows = 10, .stop = &q->stop};
    return tg_gateway_query(f->g, 0, &q->query, on_row, on_end, q, &err);
}

static void wait_end(struct asked *q, enum tg_code code)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (atomic_load(&q->n_ends) == 0) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)usleep(1000);
    }
    assert_int_equal(atomic_load(&q->n_ends), 1);
    assert_int_equal(atomic_load(&q->code), code);
}

/* While a write stands still (a disk that hangs), and while others run. */
static void test_beside_delivery(void **state)
{
    struct fixture *f = *state;
    static struct asked q, endless[TG_QUERIES_RUNNING - 1];
    atomic_store(&sinks[0].blocks, true);
    start(f);
    post_range(f, 1, 10, "");
    for (unsigned i = 0; i < TG_QUERIES_RUNNING - 1; i++)
        assert_int_equal(ask(f, &endless[i], "endless"), TG_OK);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(ask(f, &q, NULL), TG_OK);
        wait_end(&q, TG_OK);
        assert_int_equal(atomic_load(&q.n_rows), 1);
    }
    assert_int_equal(ledger(f, 0).delivered, 0);
    /* nor do queries hold up the delivery */
    atomic_store(&sinks[0].blocks, false);
    wait_empty(f, 0);
    for (unsigned i = 0; i < TG_QUERIES_RUNNING - 1; i++)
        assert_int_equal(atomic_load(&endless[i].n_ends), 0);
    tg_gateway_query_cancel(f->g, &endless[0].stop, TG_QUERY_CLIENT_GONE);
    wait_end(&endless[0], TG_ERR_CANCELED);
    assert_int_equal(atomic_load(&endless[1].n_ends), 0);
    stop(f); /* tells the others */
    wait_end(&endless[1], TG_ERR_CANCELED);
    wait_end(&endless[2], TG_ERR_CANCELED);
    assert_non_null(strstr(endless[1].message, "shutting down"));
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    enum { ALL = TG_QUERIES_RUNNING + TG_QUERIES_WAITING };
    static struct asked q[ALL], more;
    start(f);
    for (unsigned twice = 0; twice < 2; twice++) {
        unsigned n = 0;
        const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
        while (n < ALL) { /* those of the threads have to be taken first */
            if (ask(f, &q[n], "endless") == TG_OK)
                n++;
            else
                assert_true(tg_clock_mono_ms() < deadline_ms);
        }
        struct tg_gateway_status *s = malloc(sizeof(*s));
        tg_gateway_status(f->g, s);
        const uint64_t n_refused = s->n_queries_refused;
        assert_int_equal(s->n_queries_running, TG_QUERIES_RUNNING);
        assert_int_equal(s->n_queries_waiting, TG_QUERIES_WAITING);
        assert_int_equal(ask(f, &more, "endless"), TG_ERR_FULL);
        assert_int_equal(atomic_load(&more.n_ends), 0);
        tg_gateway_status(f->g, s);
        assert_int_equal(s->n_queries_refused, n_refused + 1);
        free(s);
        /* one that waits ends at once, and makes room */
        tg_gateway_query_cancel(f->g, &q[ALL - 1].stop, TG_QUERY_CLIENT_GONE);
        assert_int_equal(atomic_load(&q[ALL - 1].n_ends), 1);
        assert_int_equal(ask(f, &q[ALL - 1], NULL), TG_OK);
        /* one that waited until its deadline has to be tried again, whatever the others do */
        q[ALL - 2].stop.deadline_ms = 1;
        assert_int_equal(ask(f, &more, NULL), TG_OK);
        wait_end(&q[ALL - 2], TG_ERR_FULL);
        for (unsigned i = 0; i < ALL - 2; i++) /* oldest first: so they begin one after the other */
            tg_gateway_query_cancel(f->g, &q[i].stop, TG_QUERY_CLIENT_GONE);
        for (unsigned i = 0; i < ALL - 2; i++) wait_end(&q[i], TG_ERR_CANCELED);
        wait_end(&q[ALL - 1], TG_OK);
        wait_end(&more, TG_OK);
    }
}

struct looking {
    _Atomic bool begins, may_end, ended;
    struct tg_query_stop stop;
    _Atomic unsigned n_ends;
    _Atomic int code;
};

static enum tg_code look(void *arg, struct tg_err *err)
{
    struct looking *l = arg;
    (void)err;
    atomic_store(&l->begins, true);
    while (!atomic_load(&l->may_end)) (void)usleep(1000);
    return TG_ERR_NOT_FOUND; /* what it gave is handed on */
}

static void on_look_end(void *arg, enum tg_code code, const struct tg_err *err)
{
    struct looking *l = arg;
    (void)err;
    atomic_store(&l->code, (int)code);
    atomic_fetch_add(&l->n_ends, 1);
    atomic_store(&l->ended, true);
}

static void wait_for(_Atomic bool *flag)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (!atomic_load(flag)) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)usleep(1000);
    }
}

/* Looks run one after the other, and leave the other threads to queries. */
static void test_looks(void **state)
{
    struct fixture *f = *state;
    static struct looking l[4];
    static struct asked q;
    struct tg_err err;
    start(f);
    for (int twice = 0; twice < 2; twice++) {
        memset(l, 0, sizeof(l));
        for (int i = 0; i < 4; i++) {
            const struct tg_query_look how = {look, on_look_end, &l[i].stop, &l[i]};
            assert_int_equal(tg_gateway_look(f->g, &how, &err), TG_OK);
        }
        wait_for(&l[0].begins);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(ask(f, &q, NULL), TG_OK);
            wait_end(&q, TG_OK);
        }
        for (int i = 1; i < 4; i++) assert_false(atomic_load(&l[i].begins));
        tg_gateway_query_cancel(f->g, &l[1].stop, TG_QUERY_CLIENT_GONE);
        assert_int_equal(atomic_load(&l[1].n_ends), 1); /* it waited: at once */
        assert_int_equal(atomic_load(&l[1].code), TG_ERR_CANCELED);
        atomic_store(&l[0].may_end, true);
        wait_for(&l[2].begins);
        assert_int_equal(atomic_load(&l[0].n_ends), 1);
        assert_int_equal(atomic_load(&l[0].code), TG_ERR_NOT_FOUND);
        assert_false(atomic_load(&l[1].begins));
        assert_false(atomic_load(&l[3].begins));
        atomic_store(&l[2].may_end, true);
        wait_for(&l[3].begins);
        atomic_store(&l[3].may_end, true);
        wait_for(&l[3].ended);
        for (int i = 0; i < 4; i++) assert_int_equal(atomic_load(&l[i].n_ends), 1);
    }
}

/* A query that matches nothing and is never told ends at its deadline by itself. */
static void test_deadline(void **state)
{
    struct fixture *f = *state;
    static struct asked q;
    struct tg_err err;
    start(f);
    q = (struct asked){.stop = {.deadline_ms = tg_clock_mono_ms() + 100}};
    q.query = (struct tg_query){.name = "endless", .max_rows = 10, .stop = &q.stop};
    const uint64_t began_ms = tg_clock_mono_ms();
    assert_int_equal(tg_gateway_query(f->g, 0, &q.query, on_row, on_end, &q, &err), TG_OK);
    wait_end(&q, TG_ERR_CANCELED);
    assert_int_equal(atomic_load(&q.stop.reason), TG_QUERY_OUT_OF_TIME);
    assert_true(tg_clock_mono_ms() - began_ms >= 95);
}

/* However many there are, and whatever they do, they hold up no stop; none is forgotten. */
static void test_stop(void **state)
{
    struct fixture *f = *state;
    enum { ALL = TG_QUERIES_RUNNING + 8 };
    static struct asked q[ALL];
    f->config.limits.drain_timeout_ms = 20000;
    start(f);
    for (unsigned i = 0; i < ALL; i++) assert_int_equal(ask(f, &q[i], "endless"), TG_OK);
    const uint64_t began_ms = tg_clock_mono_ms();
    stop(f);
    assert_true(tg_clock_mono_ms() - began_ms < 2000); /* there is nothing to drain */
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(atomic_load(&q[i].n_ends), 1);
        assert_int_equal(atomic_load(&q[i].code), TG_ERR_CANCELED);
        assert_non_null(strstr(q[i].message, "shutting down"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_beside_delivery, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_looks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
