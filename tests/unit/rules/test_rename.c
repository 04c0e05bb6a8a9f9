/* Renaming a series in tags.lua: what it is called then, what is refused, and what explain says. */
#include "tests/unit/rules/rules_fixture.h"

#define FN "return function(series) local tags = series.tags "

static const char *const team[] = {"team", "a", NULL};
static const char *const name_tag[] = {"__name__", "sent", NULL};

static const struct {
    const char *name;
    uint32_t field_len;
    const char *const *tags;
    const char *script;
    const char *want; /* as mapped */
    uint32_t want_field_len;
    const char *note;  /* of the step in explain; NULL = not compared */
    const char *error; /* part of it; NULL = must not fail */
} rows[] = {
    {"m", 0, team, FN "series.name = 'n' end", "n{team=\"a\"}", 0, "name = \"n\" (line 1)", NULL},
    {"m", 0, team, FN "series.name = 'm' end", "m{team=\"a\"}", 0, "no change", NULL},
    {"m", 0, NULL, FN "series.name = series.name .. '.\xe6\xb8\xa9' end", "m.\xe6\xb8\xa9", 0, NULL,
     NULL},
    {"m", 0, NULL, FN "tags.__name__ = 'n' end", "n", 0, "name = \"n\" (line 1)", NULL},
    {"m", 0, NULL, FN "tags['__name__'] = tags.__name__ .. '_total' end", "m_total", 0, NULL, NULL},
    {"m", 0, NULL, FN "tags.__name__ = 'n' tags.was = series.name end", "n{was=\"n\"}", 0, NULL,
     NULL},
    {"m", 0, NULL, FN "series.name = 'n' tags.was = tags.__name__ end", "n{was=\"n\"}", 0,
     "name = \"n\" (line 1), was added (line 1)", NULL},
    {"m", 0, team,
     FN "for k, v in pairs(tags) do if k == '__name__' then error('seen') end end end",
     "m{team=\"a\"}", 0, "no change", NULL},
    {"m", 0, NULL, FN "series.name = 'a'\nseries.name = 'b'\nend", "b", 0, "name = \"b\" (line 2)",
     NULL},
    /* a sender's own tag of that name stays a tag */
    {"m", 0, name_tag, FN "tags.__name__ = tags.__name__ .. '!' end", "m{__name__=\"sent!\"}", 0,
     NULL, NULL},
    {"m", 0, name_tag, FN "series.name = 'n' end", "n{__name__=\"sent\"}", 0, NULL, NULL},
    /* Influx: measurement and field */
    {"cpu_idle", 4, NULL, FN "series.measurement = 'host' end", "host_idle", 4,
     "name = \"host_idle\" (line 1)", NULL},
    {"cpu_idle", 4, NULL, FN "series.field = 'free time' end", "cpu_free time", 9, NULL, NULL},
    {"cpu_idle", 4, NULL, FN "series.field = 'b' series.measurement = 'a' tags.n = series.name end",
     "a_b{n=\"a_b\"}", 1, NULL, NULL},
    {"cpu_idle", 4, NULL, FN "series.name = 'host_idle' tags.m = series.measurement end",
     "host_idle{m=\"host\"}", 4, NULL, NULL},
    {"cpu_idle", 4, NULL, FN "series.name = 'idle' tags.m = tostring(series.measurement) end",
     "idle{m=\"nil\"}", 0, NULL, NULL},
    {"cpu_idle", 4, NULL, FN "series.name = '_idle' end", "_idle", 0, NULL, NULL},
    {"cpu_idle", 4, NULL, FN "series.name = 'cpuidle' end", "cpuidle", 0, NULL, NULL},
    {"cpu_idle", 4, NULL, FN "series.name = 'cpu_busy' end", "cpu_busy", 0, NULL, NULL},
    {"cpu_idle", 4, NULL, FN "tags.__name__ = 'x' end", "x", 0, NULL, NULL},
    /* refused, with the line */
    {"m", 0, NULL, FN "\nseries.name = '' end", NULL, 0, NULL,
     "tags.lua:2: series.name is set to \"\"; it must have a character"},
    {"m", 0, NULL, FN "series.name = nil end", NULL, 0, NULL,
     "tags.lua:1: series.name cannot be nil; to drop a series, routing.lua returns drop()"},
    {"m", 0, NULL, FN "tags.__name__ = nil end", NULL, 0, NULL, "series.name cannot be nil"},
    {"m", 0, NULL, FN "series.name = 5 end", NULL, 0, NULL,
     "series.name is set to a number; it is a text"},
    {"m", 0, NULL, FN "\nseries.name = '\\255' end", NULL, 0, NULL, "tags.lua:2: metric name"},
    {"m", 0, NULL, FN "series.name = ('x'):rep(1025) end", NULL, 0, NULL,
     "series.name is set to 1025 bytes; a metric name has at most 1024"},
    {"cpu_idle", 4, NULL, FN "series.measurement = ('x'):rep(1020) end", NULL, 0, NULL,
     "over limits.name_bytes"},
    {"m", 0, NULL, FN "series.measurement = 'x' end", NULL, 0, NULL,
     "this series has no measurement: only those of Influx lines do; set series.name instead"},
    {"m", 0, NULL, FN "series.unit = 's' end", NULL, 0, NULL,
     "series[\"unit\"] is read-only; tags.lua changes the name (series.name = value)"},
};

static void names_are_changed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture f;
        fx_init(&f, (const char *const[]){rows[i].script, 0, 0, 0});
        fx_load(&f);
        struct tg_series_desc *s = fx_series(rows[i].name, rows[i].tags);
        s->field_len = rows[i].field_len;
        for (int traced = 0; traced < 4; traced++) { /* each twice on one VM */
            struct tg_rules_trace t;
            const struct tg_decision d = fx_decide(&f, s, traced & 1 ? &t : NULL);
            if (rows[i].error) {
                const struct tg_rules_stats st = tg_rules_stats(f.rules);
                const char *error = traced & 1 ? t.error : st.last_error;
                if (!d.failed || !strstr(error, rows[i].error)) fail_msg("row %zu: %s", i, error);
                assert_string_equal(fx_print(&d.mapped), fx_print(s)); /* as received */
                assert_int_equal(d.mapped.field_len, s->field_len);
                continue;
            }
            if (d.failed) fail_msg("row %zu: %s", i, tg_rules_stats(f.rules).last_error);
            if (strcmp(fx_print(&d.mapped), rows[i].want) != 0)
                fail_msg("row %zu: %s", i, fx_print(&d.mapped));
            assert_int_equal(d.mapped.field_len, rows[i].want_field_len);
            if ((traced & 1) && rows[i].note && strcmp(t.steps[0].note, rows[i].note) != 0)
                fail_msg("row %zu: %s", i, t.steps[0].note);
        }
        fx_deinit(&f);
    }
}

/* The rules after tags.lua go by the new name, and change nothing. */
static void later_rules_see_the_new_name(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){FN "series.name = 'n' end",
                                      FN "if series.name == 'n' then return drop('seen') end end",
                                      0, 0});
    fx_load(&f);
    assert_int_equal(fx_decide(&f, fx_series("m", NULL), NULL).targets, 0);
    static const struct {
        const char *script, *error;
    } read_only[] = {
        {FN "tags.__name__ = 'x' end", "series.tags[\"__name__\"] is read-only here"},
        {FN "series.name = 'x' end", "series[\"name\"] is read-only here"},
        {FN "series.measurement = 'x' end", "series[\"measurement\"] is read-only here"},
    };
    for (size_t i = 0; i < sizeof(read_only) / sizeof(read_only[0]); i++) {
        fx_write(&f, 1, read_only[i].script, strlen(read_only[i].script));
        assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_OK);
        assert_true(fx_decide(&f, fx_series("m", NULL), NULL).failed);
        const struct tg_rules_stats st = tg_rules_stats(f.rules);
        if (!strstr(st.last_error, read_only[i].error)) fail_msg("%s", st.last_error);
    }
    fx_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_changed),
        cmocka_unit_test(later_rules_see_the_new_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
