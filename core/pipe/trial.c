#include "core/pipe/trial.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/model/merge_census.h"
#include "core/pipe/merge.h"

enum { MAX_GROUPS = 16 };

/* Series that fail with the same message. */
struct group {
    char why[256];
    char example[128];
    uint64_t n;
};

struct trial {
    struct tg_planner *in_force;
    bool has_tags_rule;
    struct tg_rules_candidate *candidate;
    struct tg_arena arena;
    struct tg_buf text;
    uint64_t n_decided;
    struct tg_merge_census merges;
    bool is_merges_off; /* no memory to count them */
    struct group groups[MAX_GROUPS];
    uint32_t n_groups;
    uint64_t n_other; /* fail with messages for which there is no group left */
};

static void note_failure(struct trial *t, const struct tg_series_desc *d, const char *why)
{
    uint32_t i = 0;
    while (i < t->n_groups && strcmp(t->groups[i].why, why) != 0) i++;
    if (i == MAX_GROUPS) {
        t->n_other++;
        return;
    }
    struct group *g = &t->groups[i];
    if (i == t->n_groups) {
        t->n_groups++;
        (void)snprintf(g->why, sizeof(g->why), "%s", why);
        tg_buf_reset(&t->text);
        if (tg_series_desc_print(d, &t->text) == TG_OK)
            tg_quote(g->example, sizeof(g->example), t->text.data, t->text.len);
    }
    g->n++;
}

/* What the rules in force decided, or would at the series' next point. */
struct now {
    bool is_fine;
    uint64_t form; /* which it has with tags.lua in force (merge_census.h); 0 = not known */
};

/* Has the series decided by the rules in force where it is not yet. */
static struct now decide_by_those_in_force(struct trial *t, struct tg_series *s)
{
    struct tg_deferred_free *guard = tg_table_guard(t->in_force->table);
    const uint64_t generation = tg_rules_generation(t->in_force->rules);
    struct now now = {.form = 0};
    const int ticket = tg_deferred_free_enter(guard);
    const struct tg_plan *plan = tg_planner_plan(t->in_force, s, generation);
    if (!plan) plan = atomic_load_explicit(&s->plan, memory_order_acquire);
    now.is_fine = plan && !plan->failed;
    for (unsigned i = 0; plan && i < plan->n_claims; i++) {
        const struct tg_claim *c = &tg_plan_claims(plan)[i];
        if (c->space == TG_FORMS_MAPPED) now.form = (uint64_t)c->key_hi << 32 | c->key_lo;
    }
    tg_deferred_free_exit(guard, ticket);
    return now;
}

/* TG_ERR_TIMEOUT: no more time. */
static enum tg_code try_series(struct trial *t, struct tg_series *s)
{
    struct tg_series_desc desc;
    struct tg_decision decision;
    char why[256];
    enum tg_code code = tg_table_describe(t->in_force->table, s, &desc, &t->arena);
    if (code == TG_OK)
        code =
            tg_rules_candidate_decide(t->candidate, &desc, &t->arena, &decision, why, sizeof(why));
    if (code == TG_OK) {
        t->n_decided++;
        const bool may_merge = !decision.failed && decision.targets && !t->is_merges_off;
        struct now now = {.form = 0};
        if (decision.failed || (may_merge && t->has_tags_rule))
            now = decide_by_those_in_force(t, s);
        if (decision.failed && now.is_fine) note_failure(t, &desc, why);
        if (may_merge)
            t->is_merges_off =
                tg_merge_census_add(&t->merges, &desc, &decision.mapped, now.form) != TG_OK;
    }
    tg_arena_reset(&t->arena);
    return code;
}

static void report_merges(struct trial *t, struct tg_rules_report *report)
{
    char text[480];
    tg_merge_census_end(&t->merges);
    for (unsigned i = 0; i < t->merges.n_examples; i++) {
        const struct tg_merge_census_example *e = &t->merges.examples[i];
        (void)snprintf(text, sizeof(text), "%" PRIu64 " live series %s: %s (one of them %s)",
                       e->n_series, e->is_new ? "become one" : "are one, as they were before",
                       e->mapped, e->later);
        tg_rules_report_add(report, e->is_new ? TG_RULES_WARNING : TG_RULES_NOTE, text);
    }
    if (t->merges.n_forms > t->merges.n_examples) {
        (void)snprintf(text, sizeof(text),
                       "%" PRIu64 " live series in all become %" PRIu64
                       ", each with others; of these %" PRIu64
                       " are not so by the rules in force (rules.on_merge)",
                       t->merges.n_series, t->merges.n_forms, t->merges.n_new);
        tg_rules_report_add(report, t->merges.n_new ? TG_RULES_WARNING : TG_RULES_NOTE, text);
    }
    if (t->is_merges_off)
        tg_rules_report_add(report, TG_RULES_WARNING,
                            "out of memory while counting series that become one (limits.memory)");
}

static void report_groups(const struct trial *t, struct tg_rules_report *report)
{
    char text[480];
    for (uint32_t i = 0; i < t->n_groups; i++) {
        const struct group *g = &t->groups[i];
        (void)snprintf(text, sizeof(text),
                       "%s (%" PRIu64 " live series that the rules in force decide%s: %s)", g->why,
                       g->n, g->n == 1 ? "" : ", such as", g->example);
        tg_rules_report_add(report, TG_RULES_ERROR, text);
    }
    if (t->n_other) {
        (void)snprintf(text, sizeof(text), "%" PRIu64 " more live series fail for other reasons",
                       t->n_other);
        tg_rules_report_add(report, TG_RULES_ERROR, text);
    }
    if (report->n_decided >= report->n_live) return;
    (void)snprintf(
        text, sizeof(text),
        "decided %" PRIu64 " of %" PRIu64
        " live series in rules.trial_time; whether the others fail is not known, and one "
        "that does keeps the decision that it had last, which may be of rules before "
        "those in force (more time: rules.trial_time)",
        report->n_decided, report->n_live);
    tg_rules_report_add(report, TG_RULES_WARNING, text);
}

enum tg_code tg_trial_run(struct tg_planner *in_force, struct tg_rules_candidate *c,
                          struct tg_rules_report *report)
{
    struct trial *t = tg_calloc(1, sizeof(*t));
    if (!t) return TG_ERR_NOMEM;
    struct tg_table *const table = in_force->table;
    t->in_force = in_force;
    t->has_tags_rule = in_force->merges && in_force->merges->has_tags_rule;
    t->candidate = c;
    tg_arena_init(&t->arena, 16 << 20);
    tg_buf_init(&t->text, 1 << 20);
    tg_merge_census_init(&t->merges);
    enum tg_code code = TG_OK;
    uint64_t n_seen = 0;
    for (unsigned part = 0; part < TG_TABLE_PARTS && code == TG_OK; part++) {
        struct tg_series **list;
        size_t n;
        code = tg_table_hold_part(table, part, &list, &n);
        n_seen += n;
        for (size_t i = 0; i < n; i++) {
            if (code == TG_OK) code = try_series(t, list[i]);
            tg_series_unref(list[i]);
        }
        tg_free(list);
    }
    if (code == TG_ERR_TIMEOUT) {
        const uint64_t n_live = tg_table_stats(table).n_series;
        if (n_live > n_seen) n_seen = n_live;
        code = TG_OK;
    }
    report->n_live = n_seen;
    report->n_decided = t->n_decided;
    if (code == TG_OK) {
        report_groups(t, report);
        report_merges(t, report);
    }
    tg_merge_census_deinit(&t->merges);
    tg_buf_deinit(&t->text);
    tg_arena_deinit(&t->arena);
    tg_free(t);
    return code;
}
