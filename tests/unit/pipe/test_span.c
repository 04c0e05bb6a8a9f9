/* A span of the log: filled, cut into ranges, settled in part, passed, read again, moved. */
#include "tests/unit/log/log_rig.h"

#include "core/pipe/span.h"

enum { SERIES = 40, COMMITS = 6, PER_COMMIT = 40, ALL = COMMITS * PER_COMMIT };

struct fixture {
    struct rig *r;
    struct tg_log_cursor *cursor;
    struct tg_span span;
};

static int setup(void **state)
{
    struct fixture *f = tg_calloc(1, sizeof(*f));
    f->r = rig_new(SERIES, 1 << 20, 0);
    for (int i = 0; i < COMMITS; i++)
        assert_int_equal(commit(f->r, PER_COMMIT, false, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(f->r->log, "a", true, &f->cursor, NULL), TG_OK);
    const struct tg_cursor_state s = tg_log_cursor_get(f->cursor);
    tg_span_init(&f->span, "a", f->r->f.table);
    assert_int_equal(tg_span_open(&f->span, f->r->log, &s, NULL), TG_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    tg_span_deinit(&f->span);
    tg_log_cursor_close(f->cursor);
    rig_free(f->r);
    tg_free(f);
    return 0;
}

static enum tg_code fill(struct fixture *f, uint32_t max)
{
    const struct tg_cursor_state s = tg_log_cursor_get(f->cursor);
    struct tg_err err;
    const enum tg_code code = tg_span_fill(&f->span, max, &s, NULL, NULL, &err);
    assert_true(tg_span_validate(&f->span));
    return code;
}

/* What it has is what was sent, from its first number on. */
static void assert_points(const struct fixture *f, uint32_t n, uint64_t from_no)
{
    assert_int_equal(f->span.batch.n_points, n);
    assert_int_equal(f->span.from_point_no, from_no);
    assert_int_equal(f->span.to_point_no, from_no + n);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(tg_span_point_no(&f->span, i), from_no + i);
        assert_true(lf_equal(&f->span.batch.points[i], &f->r->sent.points[from_no + i]));
    }
}

static void it_is_filled_and_passed(void **state)
{
    struct fixture *f = *state;
    struct tg_span *s = &f->span;
    assert_true(tg_span_is_empty(s));
    assert_int_equal(fill(f, 80), TG_OK);
    assert_false(s->end_reached);
    assert_false(tg_span_is_empty(s));
    assert_points(f, 80, 0);
    assert_int_equal(fill(f, 81), TG_OK); /* more of the same, whole records */
    assert_points(f, 120, 0);
    tg_span_pass(s);
    assert_true(tg_span_validate(s));
    assert_true(tg_span_is_empty(s));
    assert_int_equal(fill(f, 1000), TG_OK);
    assert_points(f, ALL - 120, 120);
    tg_span_pass(s);
    assert_int_equal(fill(f, 1000), TG_OK);
    assert_true(s->end_reached);
    assert_true(tg_span_is_empty(s));
}

static void ranges_are_halved_and_settled(void **state)
{
    struct fixture *f = *state;
    struct tg_span *s = &f->span;
    struct tg_err err;
    assert_int_equal(fill(f, 80), TG_OK);
    tg_span_close(s);
    struct tg_range r = tg_span_pop_range(s);
    assert_int_equal(r.lo, 0);
    assert_int_equal(r.hi, 80);
    tg_span_push_range(s, 50, 80);
    tg_span_push_range(s, 0, 50);
    tg_span_push_range(s, 0, 0); /* nothing to attempt */
    assert_int_equal(s->n_ranges, 2);
    assert_true(tg_span_validate(s));
    r = tg_span_pop_range(s);
    assert_int_equal(r.hi, 50);
    assert_int_equal(tg_span_reserve_settled(s, &err), TG_OK);
    assert_false(tg_span_is_settled(s, 7));
    tg_span_settle(s, 7);
    tg_span_settle(s, 49);
    assert_int_equal(tg_span_reserve_settled(s, &err), TG_OK); /* keeps what is noted */
    for (uint32_t i = 0; i < 80; i++) assert_int_equal(tg_span_is_settled(s, i), i == 7 || i == 49);
    const struct tg_span_counts two = {.delivered = 1, .dead = 1};
    tg_span_count(s, &two);
    tg_span_count(s, &two);
    assert_int_equal(s->done.dead, 2);
    assert_int_equal(tg_span_take_counts(s).delivered, 2);
    assert_int_equal(tg_span_take_counts(s).delivered, 0);
    assert_true(tg_span_validate(s));
    /* nothing of it is left for what comes next, nor when it is read again */
    tg_span_restart(s);
    assert_true(tg_span_validate(s));
    assert_int_equal(s->n_ranges, 0);
    assert_int_equal(fill(f, 40), TG_OK);
    assert_points(f, 40, 0);
    assert_false(tg_span_is_settled(s, 7));
}

static void it_is_moved(void **state)
{
    struct fixture *f = *state;
    struct tg_span *s = &f->span;
    assert_int_equal(fill(f, PER_COMMIT), TG_OK);
    const uint64_t pos = s->to_pos;
    tg_span_pass(s);
    assert_int_equal(fill(f, 100), TG_OK);
    tg_span_close(s);
    tg_span_move(s, 0, 0);
    assert_true(tg_span_validate(s));
    assert_true(tg_span_is_empty(s));
    assert_int_equal(fill(f, 30), TG_OK);
    assert_points(f, PER_COMMIT, 0);
    tg_span_move(s, pos, PER_COMMIT);
    assert_int_equal(fill(f, 30), TG_OK);
    assert_points(f, PER_COMMIT, PER_COMMIT);
}

/* All points of a span are routed one way: it ends where another begins. */
static void it_ends_where_routing_changes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint32_t n;
        enum tg_routing routing;
    } rows[] = {
        {40, TG_ROUTED_BY_RULES}, {80, TG_ROUTED_BOTH_WAYS}, {ALL - 120, TG_ROUTED_WHEN_ACCEPTED}};
    struct tg_cursor_state c = tg_log_cursor_get(f->cursor);
    c.again_until_no = 40;
    c.replay_until_no = 120;
    uint64_t no = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_err err;
        assert_int_equal(tg_span_fill(&f->span, 1000, &c, NULL, NULL, &err), TG_OK);
        assert_true(tg_span_validate(&f->span));
        assert_points(f, rows[i].n, no);
        assert_int_equal(f->span.routing, rows[i].routing);
        no += rows[i].n;
        tg_span_pass(&f->span);
    }
}

static void memory_may_fail_at_any_time(void **state)
{
    struct fixture *f = *state;
    struct tg_span *s = &f->span;
    bool has_failed = false;
    for (uint64_t n = 1;; n++) {
        tg_mem_fail_at(n);
        const enum tg_code code = fill(f, ALL);
        const bool has_fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_true(code == TG_OK || code == TG_ERR_NOMEM);
        if (code != TG_OK) assert_true(tg_span_is_empty(s));
        has_failed |= code != TG_OK;
        if (!has_fired) break;
        tg_span_restart(s);
    }
    assert_true(has_failed);
    assert_points(f, ALL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_filled_and_passed, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_are_halved_and_settled, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_moved, setup, teardown),
        cmocka_unit_test_setup_teardown(it_ends_where_routing_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_may_fail_at_any_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
