#include "core/model/merge_census.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/model/forms.h"

struct tg_merge_census_slot {
    uint64_t form;
    uint64_t now;      /* of the first, by the rules in force */
    uint32_t who;      /* of the first; shortened */
    uint32_t n_series; /* 0 = empty; UINT32_MAX is kept */
    bool is_merged, is_new;
};

void tg_merge_census_init(struct tg_merge_census *c)
{
    memset(c, 0, sizeof(*c));
}

void tg_merge_census_deinit(struct tg_merge_census *c)
{
    tg_free(c->slots);
    c->slots = NULL;
}

static struct tg_merge_census_slot *find(struct tg_merge_census_slot *slots, size_t cap,
                                         uint64_t form)
{
    size_t i = (size_t)(((unsigned __int128)form * cap) >> 64);
    while (slots[i].n_series && slots[i].form != form) i = i + 1 == cap ? 0 : i + 1;
    return &slots[i];
}

static enum tg_code make_room(struct tg_merge_census *c)
{
    if (c->n < c->cap / 4 * 3) return TG_OK;
    const size_t cap = c->cap ? c->cap * 2 : 64;
    struct tg_merge_census_slot *slots = tg_calloc(cap, sizeof(*slots));
    if (!slots) return TG_ERR_NOMEM;
    for (size_t i = 0; i < c->cap; i++)
        if (c->slots[i].n_series) *find(slots, cap, c->slots[i].form) = c->slots[i];
    tg_free(c->slots);
    c->slots = slots;
    c->cap = cap;
    return TG_OK;
}

/* New ones take the place of others. */
static void note(struct tg_merge_census *c, const struct tg_merge_census_slot *s,
                 const struct tg_series_desc *series, const struct tg_series_desc *mapped)
{
    unsigned i = 0;
    while (i < c->n_examples && c->examples[i].form != s->form) i++;
    if (i == TG_MERGE_CENSUS_EXAMPLES && s->is_new)
        for (i = 0; i < TG_MERGE_CENSUS_EXAMPLES && c->examples[i].is_new;) i++;
    if (i == TG_MERGE_CENSUS_EXAMPLES) return;
    if (i == c->n_examples) c->n_examples++;
    struct tg_merge_census_example *e = &c->examples[i];
    e->form = s->form;
    e->is_new = s->is_new;
    (void)tg_series_desc_text(mapped, e->mapped, sizeof(e->mapped));
    (void)tg_series_desc_text(series, e->later, sizeof(e->later));
}

enum tg_code tg_merge_census_add(struct tg_merge_census *c, const struct tg_series_desc *series,
                                 const struct tg_series_desc *mapped, uint64_t now)
{
    TG_TRY(make_room(c));
    const uint64_t form = tg_forms_who(mapped, NULL);
    const uint32_t who = (uint32_t)(tg_forms_who(series, NULL) >> 32);
    struct tg_merge_census_slot *s = find(c->slots, c->cap, form);
    if (!s->n_series) {
        *s = (struct tg_merge_census_slot){.form = form, .now = now, .who = who, .n_series = 1};
        c->n++;
        return TG_OK;
    }
    if (s->n_series < UINT32_MAX) s->n_series++;
    const bool was_merged = s->is_merged;
    if (s->is_merged) {
        c->n_series++;
    } else if (s->who != who) {
        s->is_merged = true;
        c->n_forms++;
        c->n_series += s->n_series;
    }
    const bool is_new = s->who != who && !s->is_new && (!now || now != s->now);
    if (is_new) {
        s->is_new = true;
        c->n_new++;
    }
    if (is_new || was_merged != s->is_merged) note(c, s, series, mapped);
    return TG_OK;
}

static int by_series(const void *a, const void *b)
{
    const struct tg_merge_census_example *x = a;
    const struct tg_merge_census_example *y = b;
    if (x->is_new != y->is_new) return x->is_new ? -1 : 1;
    return (x->n_series < y->n_series) - (x->n_series > y->n_series);
}

void tg_merge_census_end(struct tg_merge_census *c)
{
    for (unsigned i = 0; i < c->n_examples; i++)
        c->examples[i].n_series = find(c->slots, c->cap, c->examples[i].form)->n_series;
    qsort(c->examples, c->n_examples, sizeof(c->examples[0]), by_series);
}

enum tg_code tg_merge_census_print(const struct tg_merge_census *c, struct tg_buf *out)
{
    for (unsigned i = 0; i < c->n_examples; i++) {
        const struct tg_merge_census_example *e = &c->examples[i];
        TG_TRY(tg_buf_printf(out, "%s%" PRIu64 " series become one: %s (one of them %s)",
                             i ? "\n" : "", e->n_series, e->mapped, e->later));
    }
    if (c->n_forms > c->n_examples)
        TG_TRY(tg_buf_printf(out, "\n... and %" PRIu64 " more, %" PRIu64 " series in all",
                             c->n_forms - c->n_examples, c->n_series));
    return TG_OK;
}
