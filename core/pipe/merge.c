#include "core/pipe/merge.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"

enum { WARN_EVERY_MS = 60000 };

void tg_merges_init(struct tg_merges *m, struct tg_table *table, const char *const *backends,
                    bool has_tags_rule, bool is_dead_letter)
{
    memset(m, 0, sizeof(*m));
    m->table = table;
    m->backends = backends;
    m->has_tags_rule = has_tags_rule;
    m->is_dead_letter = is_dead_letter;
    (void)pthread_mutex_init(&m->lock, NULL);
}

void tg_merges_deinit(struct tg_merges *m)
{
    if (m->table) (void)pthread_mutex_destroy(&m->lock);
}

/* --- texts --- */

struct naming {
    const struct tg_table *table;
    char *out;
    size_t cap;
};

/* Under a lock of the forms, and so without a lock but that of help (forms.h). */
static void name_first(const struct tg_series *first, void *arg)
{
    const struct naming *n = arg;
    struct tg_arena arena;
    struct tg_series_desc desc;
    tg_arena_init(&arena, 0);
    if (tg_table_describe(n->table, first, &desc, &arena) == TG_OK)
        (void)tg_series_desc_text(&desc, n->out, n->cap);
    tg_arena_deinit(&arena);
}

/* Whether another has the form; who that is. */
static bool is_taken(const struct tg_merges *m, uint64_t key, uint64_t who, char *first, size_t cap)
{
    const struct naming n = {m->table, first, cap};
    (void)snprintf(first, cap, "another series");
    return tg_forms_is_taken(tg_table_forms(m->table), key, who, name_first, (void *)(uintptr_t)&n);
}

/* --- noting --- */

static struct tg_merge_example *example_of(struct tg_merges *m, uint64_t key)
{
    for (unsigned i = 0; i < m->n_examples; i++)
        if (m->examples[i].key == key) return &m->examples[i];
    struct tg_merge_example *e = &m->examples[m->next_example];
    m->next_example = (m->next_example + 1) % TG_MERGE_EXAMPLES;
    if (m->n_examples < TG_MERGE_EXAMPLES) m->n_examples++;
    return e;
}

static void say(const struct tg_merges *m, const struct tg_merge_example *e, uint64_t n_new)
{
    if (e->space != TG_FORMS_MAPPED)
        tg_warn(
            "delivery",
            "%s: %s would be one series with %s there, which came first and has the name: points "
            "of the later one become dead letters (%" PRIu64 " such series). Name them apart in "
            "tags.lua (series.name, series.tags)",
            m->backends[e->space], e->later, e->first, n_new);
    else if (m->is_dead_letter)
        tg_warn("rules",
                "tags.lua makes one series of %s and %s: %s. Points of the later one become dead "
                "letters (rules.on_merge = \"dead_letter\"; %" PRIu64 " such series)",
                e->first, e->later, e->form, n_new);
    else
        tg_warn(
            "rules",
            "tags.lua makes one series of %s and %s: %s. Backends get the points of both for it "
            "(%" PRIu64 " such series; rules.on_merge = \"dead_letter\" keeps the later ones "
            "apart)",
            e->first, e->later, e->form, n_new);
}

/* A series found that its form is another's. */
static void note(struct tg_merges *m, unsigned space, uint64_t key, uint64_t who,
                 const struct tg_series_desc *series, const struct tg_decision *decision)
{
    struct tg_merge_example e = {.space = space, .key = key, .generation = decision->generation};
    (void)tg_series_desc_text(series, e.later, sizeof(e.later));
    (void)tg_series_desc_text(&decision->mapped, e.form, sizeof(e.form));
    (void)is_taken(m, key, who, e.first, sizeof(e.first));
    const uint64_t now_ms = tg_clock_mono_ms();
    (void)pthread_mutex_lock(&m->lock);
    *example_of(m, key) = e;
    const bool is_new = m->spaces[space].generation != decision->generation;
    const uint64_t n_new = ++m->spaces[space].n_unsaid;
    const bool is_due = is_new || now_ms - m->spaces[space].said_ms >= WARN_EVERY_MS;
    if (is_due) {
        m->spaces[space].generation = decision->generation;
        m->spaces[space].said_ms = now_ms;
        m->spaces[space].n_unsaid = 0;
    }
    (void)pthread_mutex_unlock(&m->lock);
    if (is_due) say(m, &e, n_new);
}

/* --- claiming --- */

/* What the decision's n_claims counts is released with the plan. */
static enum tg_code claim(struct tg_merges *m, uint64_t form, uint64_t who, unsigned space,
                          const struct tg_series *s, const struct tg_series_desc *series,
                          struct tg_decision *decision, struct tg_claim *claims)
{
    struct tg_claim *c = &claims[decision->n_claims];
    const uint64_t key = tg_forms_key(space, decision->generation, form);
    TG_TRY(tg_forms_claim(tg_table_forms(m->table), key, who, space, decision->generation, s, c));
    decision->n_claims++;
    if (c->is_other) note(m, space, key, who, series, decision);
    return TG_OK;
}

/* Claims what backend i makes of the series. A series that does not get all of its forms there gets
 * none: it must not keep others from those that it does not use. */
static enum tg_code claim_at(struct tg_merges *m, struct tg_planner *d, unsigned i,
                             const struct tg_series *s, const struct tg_series_desc *series,
                             struct tg_decision *decision, struct tg_claim *claims)
{
    struct tg_form forms[TG_MAX_FORMS];
    unsigned n = 0;
    const struct tg_preparer *p = &d->preparers[i];
    const enum tg_code code = p->forms(p->backend, &decision->mapped, &d->scratch, forms, &n);
    if (code != TG_OK) return code == TG_ERR_NOMEM ? code : TG_OK; /* prepare says why */
    const uint8_t from = decision->n_claims;
    bool is_other = false;
    for (unsigned k = 0; k < n && !is_other; k++) {
        TG_TRY(claim(m, forms[k].form, forms[k].who, i, s, series, decision, claims));
        is_other = claims[decision->n_claims - 1].is_other;
    }
    if (!is_other) return TG_OK;
    decision->taken |= UINT32_C(1) << i;
    const struct tg_claim other = claims[decision->n_claims - 1];
    tg_forms_release(tg_table_forms(m->table), &claims[from],
                     (unsigned)(decision->n_claims - 1 - from), decision->generation, s);
    claims[from] = other;
    decision->n_claims = (uint8_t)(from + 1);
    return TG_OK;
}

enum tg_code tg_merges_claim(struct tg_merges *m, struct tg_planner *d, const struct tg_series *s,
                             const struct tg_series_desc *series, struct tg_decision *decision,
                             struct tg_claim *claims)
{
    enum tg_code code = TG_OK;
    if (!decision->targets) return TG_OK;
    if (m->has_tags_rule)
        code = claim(m, tg_forms_who(&decision->mapped, NULL), tg_forms_who(series, NULL),
                     TG_FORMS_MAPPED, s, series, decision, claims);
    if (code == TG_OK && m->is_dead_letter && decision->n_claims && claims[0].is_other) {
        decision->taken = decision->targets;
        return TG_OK;
    }
    for (unsigned i = 0; i < d->n_backends && code == TG_OK; i++)
        if ((decision->targets >> i & 1) && d->preparers[i].forms)
            code = claim_at(m, d, i, s, series, decision, claims);
    if (code == TG_OK) return TG_OK;
    tg_forms_release(tg_table_forms(m->table), claims, decision->n_claims, decision->generation, s);
    decision->n_claims = 0;
    return TG_ERR_NOMEM;
}

/* --- questions --- */

enum tg_code tg_merges_check(struct tg_merges *m, struct tg_planner *d, unsigned backend,
                             const struct tg_series_desc *series,
                             const struct tg_decision *decision, struct tg_err *err)
{
    enum { NAME = 80 }; /* both fit a message */
    char first[NAME];
    char later[NAME];
    struct tg_form forms[TG_MAX_FORMS];
    unsigned n = 0;
    if (m->has_tags_rule && m->is_dead_letter) {
        const uint64_t key = tg_forms_key(TG_FORMS_MAPPED, decision->generation,
                                          tg_forms_who(&decision->mapped, NULL));
        if (is_taken(m, key, tg_forms_who(series, NULL), first, sizeof(first))) {
            (void)tg_series_desc_text(series, later, sizeof(later));
            return tg_fail(err, TG_ERR_INVALID,
                           "tags.lua makes one series of %s and %s, which came first "
                           "(rules.on_merge)",
                           later, first);
        }
    }
    const struct tg_preparer *p = &d->preparers[backend];
    if (!p->forms) return TG_OK;
    const enum tg_code code = p->forms(p->backend, &decision->mapped, &d->scratch, forms, &n);
    if (code != TG_OK) return code == TG_ERR_NOMEM ? code : TG_OK;
    for (unsigned k = 0; k < n; k++) {
        const uint64_t key = tg_forms_key(backend, decision->generation, forms[k].form);
        if (!is_taken(m, key, forms[k].who, first, sizeof(first))) continue;
        (void)tg_series_desc_text(series, later, sizeof(later));
        return tg_fail(err, TG_ERR_INVALID,
                       "%s would be one series there with %s, which came first; name them apart in "
                       "tags.lua",
                       later, first);
    }
    return TG_OK;
}

bool tg_merges_is_free(const struct tg_merges *m, const struct tg_plan *plan)
{
    const struct tg_claim *claims = tg_plan_claims(plan);
    /* Its claims are of an older generation, whose forms become free one by one, and it is kept
     * because its rules fail: deciding it again, for each of its points, would change nothing. */
    if (plan->kept) return false;
    for (unsigned i = 0; i < plan->n_claims; i++)
        if (claims[i].is_held && claims[i].is_other &&
            (claims[i].space != TG_FORMS_MAPPED || m->is_dead_letter) &&
            tg_forms_is_free(tg_table_forms(m->table), &claims[i]))
            return true;
    return false;
}

uint64_t tg_merges_count(struct tg_merges *m, const struct tg_series_desc *series,
                         const struct tg_decision *decision, char first[TG_MERGE_TEXT])
{
    const uint64_t key =
        tg_forms_key(TG_FORMS_MAPPED, decision->generation, tg_forms_who(&decision->mapped, NULL));
    char text[TG_MERGE_TEXT];
    if (!is_taken(m, key, tg_forms_who(series, NULL), text, sizeof(text))) text[0] = '\0';
    if (first) memcpy(first, text, sizeof(text));
    return tg_forms_count(tg_table_forms(m->table), key);
}

unsigned tg_merges_examples(struct tg_merges *m, uint64_t generation,
                            struct tg_merge_example out[TG_MERGE_EXAMPLES],
                            uint64_t n_series[TG_MERGE_EXAMPLES])
{
    unsigned n = 0;
    (void)pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->n_examples; i++) {
        const unsigned oldest = m->n_examples < TG_MERGE_EXAMPLES ? 0 : m->next_example;
        const struct tg_merge_example *e = &m->examples[(oldest + i) % TG_MERGE_EXAMPLES];
        if (e->generation == generation) out[n++] = *e;
    }
    (void)pthread_mutex_unlock(&m->lock);
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++) {
        n_series[kept] = tg_forms_count(tg_table_forms(m->table), out[i].key);
        if (n_series[kept] < 2) continue;
        if (kept != i) out[kept] = out[i];
        kept++;
    }
    return kept;
}
