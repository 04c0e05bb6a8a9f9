#include "core/pipe/explain.h"

#include <string.h>

#include "core/base/clock.h"
#include "core/pipe/gateway_impl.h"

struct search {
    const struct tg_explain_ask *ask;
    struct tg_table *table;
    struct tg_arena *arena;
    struct tg_arena scratch;
    struct tg_explained *out;
    struct tg_series *best;
    bool best_is_exact;
    struct tg_series *others[TG_EXPLAIN_MAX_OTHERS + 1]; /* with the best one among them */
    uint32_t n_others;
    bool is_out_of_memory;
};

static bool same(const char *a, uint32_t a_len, const char *b, uint32_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static bool is_meant(const struct tg_explain_ask *ask, const struct tg_series_desc *d)
{
    const struct tg_series_desc *like = ask->like;
    if (ask->has_kind && like->kind != d->kind) return false;
    if (ask->has_unit && !same(like->unit, like->unit_len, d->unit, d->unit_len)) return false;
    if (like->field_len && like->field_len != d->field_len) return false;
    for (uint32_t i = 0; i < like->n_tags; i++) {
        const struct tg_tag *want = &like->tags[i];
        const struct tg_tag *t = tg_series_desc_tag(d, want->key, want->key_len);
        if (!t || !same(t->value, t->value_len, want->value, want->value_len)) return false;
        if (want->origin != TG_ORIGIN_POINT && want->origin != t->origin) return false;
    }
    return true;
}

static bool look_at(struct tg_series *s, void *arg)
{
    struct search *f = arg;
    struct tg_series_desc d;
    if (tg_query_must_stop(f->ask->stop)) return false;
    tg_arena_reset(&f->scratch);
    if (tg_table_describe(f->table, s, &d, &f->scratch) != TG_OK) {
        f->is_out_of_memory = true;
        return false;
    }
    if (!is_meant(f->ask, &d)) return true;
    const bool is_exact = d.n_tags == f->ask->like->n_tags;
    const bool is_newer =
        !f->best || atomic_load(&s->last_used_s) > atomic_load(&f->best->last_used_s);
    f->out->n_matches++;
    if (f->n_others < TG_EXPLAIN_MAX_OTHERS + 1) f->others[f->n_others++] = s;
    if (!f->best || (is_exact && !f->best_is_exact) || (is_exact == f->best_is_exact && is_newer)) {
        f->best = s;
        f->best_is_exact = is_exact;
    }
    return true;
}

static enum tg_code print_others(const struct search *f)
{
    struct tg_buf text;
    tg_buf_init(&text, 16 << 20);
    enum tg_code code = TG_OK;
    for (uint32_t i = 0; i < f->n_others && code == TG_OK; i++) {
        struct tg_series_desc d;
        struct tg_explained *out = f->out;
        if (f->others[i] == f->best || out->n_others == TG_EXPLAIN_MAX_OTHERS) continue;
        tg_buf_reset(&text);
        code = tg_table_describe(f->table, f->others[i], &d, f->arena);
        if (code == TG_OK) code = tg_series_desc_print(&d, &text);
        if (code != TG_OK) break;
        const char *copy = tg_arena_strndup(f->arena, (const char *)text.data, text.len);
        if (!copy) code = TG_ERR_NOMEM;
        out->others[out->n_others++] = copy;
    }
    tg_buf_deinit(&text);
    return code;
}

/* Inside the guard. */
static void look_at_plan(const struct tg_series *s, struct tg_explained *out)
{
    const uint32_t now_s = tg_clock_coarse_s();
    const uint32_t used_s = atomic_load(&s->last_used_s);
    const struct tg_plan *p = atomic_load_explicit(&s->plan, memory_order_acquire);
    out->is_live = true;
    out->idle_s = now_s > used_s ? now_s - used_s : 0;
    if (!p) return;
    out->has_plan = true;
    out->generation = p->generation;
    out->targets = p->targets;
    out->wait = p->wait;
    out->strategy = p->strategy;
    out->failed = p->failed;
    out->kept = p->kept;
}

static enum tg_code find_live(struct tg_gateway *g, const struct tg_explain_ask *ask,
                              struct tg_arena *arena, struct tg_explained *out)
{
    struct search f = {.ask = ask, .table = g->table, .arena = arena, .out = out};
    struct tg_deferred_free *guard = tg_table_guard(g->table);
    tg_arena_init(&f.scratch, 1 << 20);
    enum tg_code code = TG_OK;
    const int ticket = tg_deferred_free_enter(guard);
    tg_table_each_named(g->table, ask->like->name, ask->like->name_len, look_at, &f);
    if (f.is_out_of_memory) code = TG_ERR_NOMEM;
    if (code == TG_OK && f.best) {
        struct tg_series_desc borrowed;
        code = tg_table_describe(g->table, f.best, &borrowed, arena);
        if (code == TG_OK) code = tg_series_desc_copy(&borrowed, arena, &out->series);
        if (code == TG_OK) code = print_others(&f);
        look_at_plan(f.best, out);
    }
    tg_deferred_free_exit(guard, ticket);
    tg_arena_deinit(&f.scratch);
    return code;
}

/* What it shares a form with. */
static enum tg_code look_at_merges(struct tg_gateway *g, struct tg_explained *out)
{
    const struct tg_decision *d = &out->decision;
    out->n_merged = tg_merges_count(&g->merges, &out->series, d, out->first);
    for (unsigned i = 0; i < g->n_deliveries; i++) {
        struct tg_err err;
        if (!(d->targets >> i & 1)) continue;
        const enum tg_code code =
            tg_merges_check(&g->merges, &g->admin_planner, i, &out->series, d, &err);
        if (code == TG_ERR_NOMEM) return code;
        if (code == TG_OK) continue;
        out->taken[out->n_taken].backend = i;
        memcpy(out->taken[out->n_taken].why, err.msg, sizeof(err.msg));
        out->n_taken++;
    }
    return TG_OK;
}

static enum tg_code is_stopped(const struct tg_explain_ask *ask, struct tg_err *err)
{
    if (!tg_query_must_stop(ask->stop)) return TG_OK;
    if (atomic_load(&ask->stop->reason) == TG_QUERY_OUT_OF_TIME)
        return tg_fail(err, TG_ERR_TIMEOUT, "no time was left to explain the series");
    return tg_fail(err, TG_ERR_CANCELED, "canceled");
}

enum tg_code tg_gateway_explain(struct tg_gateway *g, const struct tg_explain_ask *ask,
                                struct tg_arena *arena, struct tg_explained *out,
                                struct tg_err *err)
{
    memset(out, 0, sizeof(*out));
    (void)tg_fail(err, TG_ERR_NOMEM, "out of memory");
    out->series = *ask->like;
    TG_TRY(is_stopped(ask, err));
    TG_TRY(find_live(g, ask, arena, out));
    TG_TRY(is_stopped(ask, err));
    const enum tg_code code = tg_rules_decide(g->rules, g->admin_planner.slot, &out->series, arena,
                                              &out->decision, &out->trace);
    if (code == TG_ERR_CANCELED) return tg_fail(err, code, "the gateway is shutting down");
    if (code != TG_OK) return code;
    return out->is_live ? look_at_merges(g, out) : TG_OK;
}

struct where {
    const struct tg_explain_ask *ask;
    struct tg_table *table;
    struct tg_arena scratch;
    uint64_t n;
    uint32_t targets;
    bool is_out_of_memory;
};

static bool add_targets(struct tg_series *s, void *arg)
{
    struct where *w = arg;
    struct tg_series_desc d;
    tg_arena_reset(&w->scratch);
    if (tg_table_describe(w->table, s, &d, &w->scratch) != TG_OK) {
        w->is_out_of_memory = true;
        return false;
    }
    const struct tg_plan *p = atomic_load_explicit(&s->plan, memory_order_acquire);
    if (!p || !is_meant(w->ask, &d)) return true;
    w->n++;
    w->targets |= p->targets;
    return true;
}

enum tg_code tg_gateway_live_targets(struct tg_gateway *g, const struct tg_explain_ask *ask,
                                     uint64_t *n, uint32_t *targets)
{
    struct where w = {.ask = ask, .table = g->table};
    struct tg_deferred_free *guard = tg_table_guard(g->table);
    tg_arena_init(&w.scratch, 1 << 20);
    const int ticket = tg_deferred_free_enter(guard);
    tg_table_each_named(g->table, ask->like->name, ask->like->name_len, add_targets, &w);
    tg_deferred_free_exit(guard, ticket);
    tg_arena_deinit(&w.scratch);
    *n = w.n;
    *targets = w.targets;
    return w.is_out_of_memory ? TG_ERR_NOMEM : TG_OK;
}
