/* Rules that take their time: what one request, one delivery and a stop may spend on them. */
#include "tests/unit/pipe/gateway_fixture.h"

/* Some milliseconds a series, and no budget of one series overrun. */
static const char slow[] = "return function(s)\n"
                           "  local n = 0 for i = 1, 100000 do n = n + i end\n"
                           "  return to('a')\n"
                           "end\n";
static const char endless[] = "return function(s) while true do end end\n";
enum { SLOW_INSTRUCTIONS = 10000000 };

/* n lines, each of a series of its own, with the times from `first` on. */
static char *lines_of_new_series(int first, int n)
{
    char *text = malloc((size_t)n * 48 + 1);
    size_t len = 0;
    assert_non_null(text);
    for (int i = 0; i < n; i++)
        len += (size_t)sprintf(text + len, "m,k=%d v=1i %d\n", first + i, first + i);
    return text;
}

/* A request whose new series take longer than it may have is refused as a whole, and each try comes
 * further: in the end all of its points are there once. */
static void test_a_request_has_a_budget(void **state)
{
    enum { N = 400 };
    struct fixture *f = *state;
    write_file(f->routing, slow);
    f->config.rules.max_instructions = SLOW_INSTRUCTIONS;
    f->config.rules.max_ms = 60000;
    f->config.limits.rules_per_request_ms = 20;
    start(f);
    char *lines = lines_of_new_series(1, N);
    int status;
    int n_tries = 0;
    do {
        status = post(f, lines);
        n_tries++;
        assert_true(status == 503 || status == 204);
        if (status == 503) assert_int_equal(ledger(f, 0).received, 0);
    } while (status == 503 && n_tries < N);
    free(lines);
    assert_int_equal(status, 204);
    assert_true(n_tries > 1);
    wait_empty(f, 0);
    assert_seen(0, 1, N, 1);
    assert_int_equal(ledger(f, 0).received, N);
}

struct poster {
    struct fixture *f;
    char *lines;
    _Atomic int status;
};

static void *post_lines(void *arg)
{
    struct poster *p = arg;
    atomic_store(&p->status, post(p->f, p->lines));
    return NULL;
}

static uint64_t n_decisions(const struct fixture *f)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const uint64_t n = s->rules.n_decisions;
    free(s);
    return n;
}

/* A rule without end and budgets that would last for hours. */
static void test_a_stop_cuts_rules_short(void **state)
{
    enum { N = 2000 };
    struct fixture *f = *state;
    write_file(f->routing, endless);
    f->config.rules.max_instructions = INT64_MAX;
    f->config.rules.max_ms = 60000;
    f->config.limits.drain_timeout_ms = 300;
    start(f);
    struct poster p = {.f = f, .lines = lines_of_new_series(1, N)};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, post_lines, &p), 0);
    WAIT_UNTIL(n_decisions(f) > 0);
    const uint64_t start_ms = tg_clock_mono_ms();
    stop(f);
    assert_true(tg_clock_mono_ms() - start_ms < 300 + 2000);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&p.status), 503);
    free(p.lines);
}

/* With the budgets as they are by default, 20,000 new series and an endless rule take no longer
 * than the few runs that open the breaker; then they are on the on_error route. */
static void test_an_endless_rule_is_given_up(void **state)
{
    enum { N = 5000 };
    struct fixture *f = *state;
    write_file(f->routing, endless);
    start(f);
    char *lines = lines_of_new_series(1, N);
    assert_int_equal(post(f, lines), 204);
    free(lines);
    assert_true(tg_gateway_rules_are_broken(f->g));
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    assert_true(s->rules.is_breaker_open);
    assert_true(s->rules.n_budget_overruns < 50);
    free(s);
    wait_empty(f, 0);
    wait_empty(f, 1);
    assert_seen(0, 1, N, 1);
    assert_seen(1, 1, N, 1);
    write_file(f->routing, "return function(s) return to('a') end\n");
    reload(f);
    assert_false(tg_gateway_rules_are_broken(f->g));
}

static unsigned n_writes(struct sink *s)
{
    (void)pthread_mutex_lock(&s->lock);
    const unsigned n = s->n_writes;
    (void)pthread_mutex_unlock(&s->lock);
    return n;
}

/* A reload leaves a batch of series to be decided again on the delivery thread: the loop looks at
 * other things meanwhile. */
static void test_a_delivery_lets_others_through(void **state)
{
    enum { N = 1000 };
    struct fixture *f = *state;
    f->config.rules.max_instructions = SLOW_INSTRUCTIONS;
    f->config.rules.max_ms = 60000;
    f->config.limits.drain_timeout_ms = 300;
    f->backends[0].batch_points = f->backends[1].batch_points = N;
    f->backends[0].retry_max_ms = f->backends[1].retry_max_ms = 60000;
    atomic_store(&sinks[0].down, true);
    atomic_store(&sinks[1].down, true);
    start(f);
    char *lines = lines_of_new_series(1, N);
    assert_int_equal(post(f, lines), 204);
    free(lines);
    WAIT_UNTIL(n_writes(&sinks[0]) > 0);
    write_file(f->routing, "return function(s)\n"
                           "  local n = 0 for i = 1, 1000000 do n = n + i end\n"
                           "end\n");
    reload(f);
    const uint64_t before = n_decisions(f);
    atomic_store(&sinks[0].down, false);
    /* The next try decides; it takes seconds, and a rewind is done long before. */
    WAIT_UNTIL(n_decisions(f) >= before + 5);
    const uint64_t asked_at = n_decisions(f);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    assert_true(n_decisions(f) < asked_at + N / 2);
    const uint64_t start_ms = tg_clock_mono_ms();
    stop(f);
    assert_true(tg_clock_mono_ms() - start_ms < 300 + 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_request_has_a_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stop_cuts_rules_short, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_endless_rule_is_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_delivery_lets_others_through, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
