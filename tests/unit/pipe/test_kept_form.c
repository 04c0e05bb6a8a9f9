/* Points that wait for a backend when their series' rules begin to fail do not go out with the tags
 * that they came with. */
#include "tests/unit/pipe/gateway_fixture.h"

static void force_reload(struct fixture *f)
{
    static struct reloaded r;
    struct tg_err err = {.msg = ""};
    atomic_store(&r.done, false);
    if (tg_gateway_reload(f->g, TG_RELOAD_FORCE, on_reload, &r, &err) != TG_OK)
        fail_msg("%s", err.msg);
    WAIT_UNTIL(atomic_load(&r.done));
    if (r.result.code != TG_OK) fail_msg("%s", r.result.err.msg);
}

static void read_text(const char *path, char *out, size_t cap)
{
    FILE *in = fopen(path, "r");
    out[0] = '\0';
    if (!in) return;
    out[fread(out, 1, cap - 1, in)] = '\0';
    assert_int_equal(fclose(in), 0);
}

static void test_what_tags_lua_took_out_stays_in(void **state)
{
    struct fixture *f = *state;
    char tags[128], dead[128], text[4096];
    (void)snprintf(tags, sizeof(tags), "%s/tags.lua", f->dir);
    (void)snprintf(dead, sizeof(dead), "%s/a.jsonl", f->dead);
    write_file(tags, "return function(s) s.tags.user = nil end");
    write_file(f->routing, "return function(s) return to('a') end");
    f->config.rules.tags_path = tags;
    start(f);
    atomic_store(&sinks[0].down, true);
    assert_int_equal(post(f, "m,user=jo v=1 1\n"), 204);
    /* Routed elsewhere meanwhile, so that the plan has no form for the first backend. */
    write_file(f->routing, "return function(s) return to('b') end");
    force_reload(f);
    assert_int_equal(post(f, "m,user=jo v=1 2\n"), 204);
    wait_empty(f, 1);
    assert_seen(1, 2, 2, 1);
    write_file(tags, "return function(s) s.tags.user = s.tags.none .. '' end");
    force_reload(f);
    atomic_store(&sinks[0].down, false);
    wait_empty(f, 0);
    read_text(dead, text, sizeof(text));
    if (!strstr(text, "tags.lua fails for this series")) fail_msg("no such dead letter: %s", text);
    assert_int_equal(sinks[0].n_points, 0);
    assert_int_equal(ledger(f, 0).dead_lettered, 1);
}

/* The same while the rules are not run: that ends, so the points wait for it. */
static void test_points_wait_for_rules_that_are_not_run(void **state)
{
    struct fixture *f = *state;
    char tags[128], dead[128], text[4096];
    static const char takes_out[] = "return function(s) s.tags.user = nil end";
    (void)snprintf(tags, sizeof(tags), "%s/tags.lua", f->dir);
    (void)snprintf(dead, sizeof(dead), "%s/a.jsonl", f->dead);
    write_file(tags, takes_out);
    write_file(f->routing, "return function(s) return to('a') end");
    f->config.rules.tags_path = tags;
    start(f);
    /* a write whose answer, "not now", comes when the rules are off */
    atomic_store(&sinks[0].down, true);
    atomic_store(&sinks[0].is_silent, true);
    assert_int_equal(post(f, "m,user=jo v=1 1\n"), 204);
    WAIT_UNTIL(atomic_load(&sinks[0].n_writes) > 0);
    write_file(f->routing, "return function(s) return to('b') end");
    force_reload(f);
    assert_int_equal(post(f, "m,user=jo v=1 2\n"), 204);
    wait_empty(f, 1);
    write_file(tags, "return function(s) while true do end end");
    force_reload(f);
    assert_int_equal(post(f, "a v=1 3\nb v=1 3\nc v=1 3\nd v=1 3\ne v=1 3\n"), 204);
    assert_true(tg_gateway_rules_are_broken(f->g));
    atomic_store(&sinks[0].down, false);
    atomic_store(&sinks[0].is_silent, false);
    struct tg_gateway_status *s = malloc(sizeof(*s));
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    do {
        (void)usleep(2000);
        tg_gateway_status(f->g, s);
        read_text(dead, text, sizeof(text));
        if (text[0]) fail_msg("dead letter: %s", text);
        if (tg_clock_mono_ms() > deadline_ms)
            fail_msg("does not wait: %s", s->backends[0].last_error);
    } while (!strstr(s->backends[0].last_error, "tags.lua gives their tags and is not run"));
    free(s);
    assert_int_equal(sinks[0].n_points, 0);
    write_file(tags, takes_out);
    force_reload(f);
    wait_empty(f, 0);
    assert_seen(0, 1, 1, 1);
    assert_int_equal(ledger(f, 0).dead_lettered, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_points_wait_for_rules_that_are_not_run, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_tags_lua_took_out_stays_in, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
