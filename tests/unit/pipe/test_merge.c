/* Series that become one: by the naming of a backend, and by the rules. */
#include "core/base/hash.h"
#include "core/base/metric.h"
#include "core/model/forms.h"
#include "tests/unit/pipe/gateway_fixture.h"

/* Backend a names a series by the first letter of its name and by its tags. */
static enum tg_code letter_forms(void *backend, const struct tg_series_desc *mapped,
                                 struct tg_buf *scratch, struct tg_form *forms, unsigned *n)
{
    struct tg_series_desc d = *mapped;
    (void)backend;
    (void)scratch;
    d.name_len = 1;
    forms[0] = (struct tg_form){tg_forms_who(&d, NULL), tg_forms_who(mapped, NULL)};
    *n = 1;
    return TG_OK;
}

/* Backend a names a series by the first and by the last letter of its name, each on its own. */
static enum tg_code two_forms(void *backend, const struct tg_series_desc *mapped,
                              struct tg_buf *scratch, struct tg_form *forms, unsigned *n)
{
    struct tg_series_desc d = *mapped;
    TG_TRY(letter_forms(backend, mapped, scratch, forms, n));
    d.name = mapped->name + mapped->name_len - 1;
    d.name_len = 1;
    d.field_len = 1; /* another form than that of the first letter */
    forms[1] = (struct tg_form){tg_forms_who(&d, NULL), tg_forms_who(mapped, NULL)};
    *n = 2;
    return TG_OK;
}

static struct tg_backend_ops letter_ops;
static char tags_path[128];

static void name_by_letter(struct fixture *f)
{
    letter_ops = fake_ops;
    letter_ops.forms = letter_forms;
    f->backends[0].ops = &letter_ops;
}

static void use_tags(struct fixture *f, const char *text)
{
    (void)snprintf(tags_path, sizeof(tags_path), "%s/tags.lua", f->dir);
    write_file(tags_path, text);
    f->config.rules.tags_path = tags_path;
}

static struct tg_gateway_status *status_of(const struct fixture *f)
{
    static struct tg_gateway_status s;
    tg_gateway_status(f->g, &s);
    return &s;
}

static bool has_metric(const char *line)
{
    struct tg_buf b;
    tg_buf_init(&b, 0);
    assert_int_equal(tg_metric_render(&b), TG_OK);
    const bool has = memmem(b.data, b.len, line, strlen(line)) != NULL;
    tg_buf_deinit(&b);
    return has;
}

/* The n-th dead letter of a backend. */
static const char *letter(const struct fixture *f, const char *backend, unsigned n)
{
    static char line[4096];
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/%s.jsonl", f->dead, backend);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    for (unsigned i = 0; i <= n; i++) assert_non_null(fgets(line, sizeof(line), letters));
    (void)fclose(letters);
    return line;
}

static void a_backend_s_naming_merges_nothing(void **state)
{
    struct fixture *f = *state;
    name_by_letter(f);
    start(f);
    assert_int_equal(post(f, "one,k=1 v=1i 1\n"), 204);
    assert_int_equal(post(f, "other,k=1 v=1i 2\nother,k=1 v=1i 3\n"), 204);
    assert_int_equal(post(f, "other,k=2 v=1i 4\nnext,k=1 v=1i 5\n"), 204);
    for (unsigned i = 0; i < 2; i++) wait_empty(f, i);
    assert_int_equal(ledger(f, 0).delivered, 3);
    assert_int_equal(ledger(f, 0).dead_lettered, 2);
    assert_int_equal(ledger(f, 1).delivered, 5); /* b keeps them apart */
    assert_seen(0, 1, 1, 1);
    assert_seen(0, 2, 3, 0);
    assert_seen(0, 4, 5, 1);
    const char *text = letter(f, "a", 1);
    if (!strstr(text, "other_v{k=\\\"1\\\"} would be one series there with one_v{k=\\\"1\\\"}"))
        fail_msg("%s", text);
    const struct tg_gateway_status *s = status_of(f);
    assert_int_equal(s->backends[0].n_merged, 1);
    assert_int_equal(s->backends[1].n_merged, 0);
    assert_int_equal(s->n_merged, 0);
    assert_int_equal(s->n_merge_examples, 1);
    assert_int_equal(s->merges[0].space, 0);
    assert_string_equal(s->merges[0].first, "one_v{k=\"1\"}");
    assert_string_equal(s->merges[0].later, "other_v{k=\"1\"}");
    assert_true(has_metric("tidegate_backend_series_merged{backend=\"a\"} 1\n"));
    assert_true(has_metric("tidegate_backend_series_merged{backend=\"b\"} 0\n"));
}

/* A series that does not get all of its forms keeps none from others. */
static void a_later_series_takes_no_form(void **state)
{
    struct fixture *f = *state;
    name_by_letter(f);
    letter_ops.forms = two_forms;
    start(f);
    assert_int_equal(post(f, "a x=1i 1\n"), 204); /* has a and x */
    assert_int_equal(post(f, "b x=1i 2\n"), 204); /* x is taken: b stays free */
    assert_int_equal(post(f, "b y=1i 3\n"), 204);
    wait_empty(f, 0);
    assert_seen(0, 1, 1, 1);
    assert_seen(0, 2, 2, 0);
    assert_seen(0, 3, 3, 1);
    assert_int_equal(ledger(f, 0).dead_lettered, 1);
}

/* Series that go nowhere are not made one. */
static void dropped_series_do_not_merge(void **state)
{
    struct fixture *f = *state;
    use_tags(f, "return function(s) s.tags.pod = nil end");
    write_file(f->routing, "return function(s) return drop('noise') end");
    start(f);
    assert_int_equal(post(f, "r,pod=0 v=1i 1\nr,pod=1 v=1i 2\n"), 204);
    for (unsigned i = 0; i < 2; i++) wait_empty(f, i);
    assert_int_equal(ledger(f, 0).delivered, 0);
    assert_int_equal(status_of(f)->n_merged, 0);
    assert_int_equal(status_of(f)->n_merge_examples, 0);
}

/* New rules that name the first apart: the later one has the form, from its next point on. */
static void a_reload_decides_anew_who_has_a_form(void **state)
{
    struct fixture *f = *state;
    name_by_letter(f);
    start(f);
    assert_int_equal(post(f, "one v=1i 1\nother v=1i 2\n"), 204);
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).dead_lettered, 1);
    write_file(f->routing, "return function(s) if s.name == 'one_v' then return to('b') end end");
    assert_int_equal(status_of(f)->backends[0].n_merged, 1);
    reload(f);
    assert_int_equal(status_of(f)->backends[0].n_merged, 0);
    assert_true(has_metric("tidegate_backend_series_merged{backend=\"a\"} 0\n"));
    assert_int_equal(post(f, "other v=1i 4\none v=1i 3\n"), 204); /* whoever comes first */
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).dead_lettered, 1);
    assert_seen(0, 4, 4, 1);
    assert_int_equal(status_of(f)->backends[0].n_merged, 0);
}

/* The first is idle and leaves: the later one has its turn, without a reload. */
static void a_form_is_free_when_its_series_leaves(void **state)
{
    struct fixture *f = *state;
    name_by_letter(f);
    f->config.limits.series_idle_s = 1;
    f->config.log.segment_ms = 20; /* or the log keeps the series */
    start(f);
    assert_int_equal(post(f, "one v=1i 1\n"), 204);
    assert_int_equal(post(f, "other v=1i 2\n"), 204);
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).dead_lettered, 1);
    const uint64_t deadline_ms = tg_clock_mono_ms() + 30000;
    for (int i = 3; ledger(f, 0).delivered < 2; i++) {
        char line[64];
        (void)snprintf(line, sizeof(line), "other v=1i %d\n", i);
        assert_int_equal(post(f, line), 204);
        wait_empty(f, 0);
        (void)usleep(20000);
        if (tg_clock_mono_ms() > deadline_ms) fail_msg("the form is never free");
    }
    assert_int_equal(status_of(f)->backends[0].n_merged, 0);
    assert_int_equal(status_of(f)->n_merge_examples, 0); /* they are one no more */
}

/* A later series whose rules begin to fail keeps its plan, with a form that is free in its old
 * generation: neither that nor its dead letters run the rules for every point. */
static void a_kept_plan_does_not_run_the_rules_for_each_point(void **state)
{
    enum { N = 1000 };
    static char lines[N * 32];
    struct fixture *f = *state;
    name_by_letter(f);
    start(f);
    assert_int_equal(post(f, "one v=1i 1\nother v=1i 2\n"), 204);
    wait_empty(f, 0);
    write_file(f->routing, "return function(s) if s.name == 'other_v' then error('no') end end");
    reload(f);
    assert_int_equal(post(f, "other v=1i 3\n"), 204);
    assert_int_equal(post(f, "one v=1i 4\n"), 204);
    for (unsigned i = 0; i < 2; i++) wait_empty(f, i);
    const uint64_t before = status_of(f)->rules.n_decisions;
    size_t n = 0;
    for (int i = 0; i < N; i++)
        n += (size_t)snprintf(lines + n, sizeof(lines) - n, "other v=1i %d\n", 10 + i);
    assert_int_equal(post(f, lines), 204);
    for (unsigned i = 0; i < 2; i++) wait_empty(f, i);
    assert_int_equal(ledger(f, 0).dead_lettered, 2 + N);
    assert_seen(1, 10, 10 + N - 1, 1);
    const uint64_t n_decisions = status_of(f)->rules.n_decisions - before;
    if (n_decisions > 20) fail_msg("%llu decisions", (unsigned long long)n_decisions);
}

/* Nor does one that is dead while the form is another's: the letters ask once a delivery. */
static void a_later_series_is_not_decided_for_each_point(void **state)
{
    enum { N = 1000 };
    static char lines[N * 32];
    struct fixture *f = *state;
    name_by_letter(f);
    start(f);
    assert_int_equal(post(f, "one v=1i 1\nother v=1i 2\n"), 204);
    wait_empty(f, 0);
    const uint64_t before = status_of(f)->rules.n_decisions;
    size_t n = 0;
    for (int i = 0; i < N; i++)
        n += (size_t)snprintf(lines + n, sizeof(lines) - n, "other v=1i %d\n", 10 + i);
    assert_int_equal(post(f, lines), 204);
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).dead_lettered, 1 + N);
    const uint64_t n_decisions = status_of(f)->rules.n_decisions - before;
    if (n_decisions > 20) fail_msg("%llu decisions", (unsigned long long)n_decisions);
}

static const char drop_pod[] = "return function(s) s.tags.pod = nil end";

static void post_pods(struct fixture *f, int first_ts)
{
    for (int i = 0; i < 5; i++) {
        char line[64];
        (void)snprintf(line, sizeof(line), "r,app=x,pod=%d v=1i %d\n", i, first_ts + i);
        assert_int_equal(post(f, line), 204);
    }
    for (unsigned i = 0; i < 2; i++) wait_empty(f, i);
}

static void what_the_rules_merge_is_said(void **state)
{
    struct fixture *f = *state;
    name_by_letter(f); /* series that the rules make one do not stand in each other's way there */
    use_tags(f, drop_pod);
    start(f);
    post_pods(f, 1);
    for (unsigned i = 0; i < 2; i++) assert_int_equal(ledger(f, i).delivered, 5);
    const struct tg_gateway_status *s = status_of(f);
    assert_int_equal(s->n_merged, 4);
    assert_int_equal(s->backends[0].n_merged, 0);
    assert_int_equal(s->n_merge_examples, 1);
    assert_int_equal(s->n_merge_series[0], 5);
    assert_int_equal(s->merges[0].space, TG_FORMS_MAPPED);
    assert_string_equal(s->merges[0].form, "r_v{app=\"x\"}");
    assert_string_equal(s->merges[0].first, "r_v{app=\"x\",pod=\"0\"}");
    assert_true(has_metric("tidegate_series_merged 4\n"));
    write_file(tags_path, "return function(s) end");
    reload(f);
    assert_int_equal(status_of(f)->n_merged, 0); /* already, not with the next point */
    assert_int_equal(status_of(f)->n_merge_examples, 0);
    assert_true(has_metric("tidegate_series_merged 0\n"));
    post_pods(f, 11);
    assert_int_equal(status_of(f)->n_merged, 0);
    assert_int_equal(status_of(f)->n_merge_examples, 0);
}

static void what_the_rules_merge_is_dead_by_setting(void **state)
{
    struct fixture *f = *state;
    use_tags(f, drop_pod);
    f->config.merges_are_dead_letters = true;
    start(f);
    post_pods(f, 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(ledger(f, i).delivered, 1);
        assert_int_equal(ledger(f, i).dead_lettered, 4);
        assert_seen(i, 1, 1, 1);
        assert_seen(i, 2, 5, 0);
    }
    const char *text = letter(f, "b", 0);
    if (!strstr(text, "tags.lua makes one series of r_v{app=\\\"x\\\",pod=\\\"1\\\"} and "
                      "r_v{app=\\\"x\\\",pod=\\\"0\\\"}"))
        fail_msg("%s", text);
    assert_int_equal(status_of(f)->n_merged, 4);
}

/* What the backend has no form for is counted, not kept, whoever has the name of its series. */
static void formless_points_of_later_ones_are_no_dead_letters(void **state)
{
    struct fixture *f = *state;
    name_by_letter(f);
    start(f);
    assert_int_equal(post(f, "one v=1i 1\n"), 204);
    assert_int_equal(post(f, "other v=1i 2\nother v=\"?\" 3\nother v=\"?\" 4\n"), 204);
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).delivered, 1);
    assert_int_equal(ledger(f, 0).dead_lettered, 1);
    assert_int_equal(ledger(f, 0).inexpressible, 2);
}

static void formless_series_that_the_rules_merge_are_no_dead_letters(void **state)
{
    struct fixture *f = *state;
    use_tags(f, drop_pod);
    f->config.merges_are_dead_letters = true;
    start(f);
    assert_int_equal(post(f, "r,formless=1,pod=0 v=1i 1\n"), 204);
    assert_int_equal(post(f, "r,formless=1,pod=1 v=1i 2\nr,formless=1,pod=1 v=1i 3\n"), 204);
    for (unsigned i = 0; i < 2; i++) {
        wait_empty(f, i);
        assert_int_equal(ledger(f, i).dead_lettered, 0);
        assert_int_equal(ledger(f, i).inexpressible, 3);
    }
    assert_int_equal(status_of(f)->n_merged, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_backend_s_naming_merges_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_later_series_takes_no_form, setup, teardown),
        cmocka_unit_test_setup_teardown(dropped_series_do_not_merge, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reload_decides_anew_who_has_a_form, setup, teardown),
        cmocka_unit_test_setup_teardown(a_form_is_free_when_its_series_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kept_plan_does_not_run_the_rules_for_each_point, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_later_series_is_not_decided_for_each_point, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_the_rules_merge_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_rules_merge_is_dead_by_setting, setup, teardown),
        cmocka_unit_test_setup_teardown(formless_points_of_later_ones_are_no_dead_letters, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(formless_series_that_the_rules_merge_are_no_dead_letters,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
