#include "core/model/table.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/model/canon.h"
#include "core/model/forms.h"
#include "core/model/raw_key_map.h"
#include "core/model/symbol.h"

enum {
    MAX_SERIES_DEFAULT = 1000000,
    SCRATCH_BYTES = 2048, /* canonical bytes of nearly all series */
    SYMBOL_BLOCK = 64,    /* symbols given back under one lock */
    LINE = 64,
    WARN_EVERY_S = 60, /* that series are refused */
};

struct tg_table {
    struct tg_raw_key_map raw;
    struct tg_canon_shard canon[TG_CANON_SHARDS];
    void *allocation; /* what to free: the table itself is aligned to a line */
    struct tg_deferred_free *guard;
    struct tg_symbols *symbols;
    struct tg_help *help;
    struct tg_forms *forms;
    struct tg_table_config config; /* defaults filled in */
    _Atomic uint64_t n_series, n_held, n_created, n_evicted, n_refused;
    _Atomic uint64_t n_failed;       /* plans in force that failed */
    _Atomic uint32_t refusal_said_s; /* 0 = never */

    /* Replaced plans on their way out: pushed by tg_table_set_plan, taken as a whole by sweep. */
    _Atomic(struct tg_plan *) plans_replaced;
    struct tg_plan *plans_aging; /* handed to the guard; sweep's while !plans_are_aging */
    struct tg_deferred_free_note plans_note;
    _Atomic bool plans_are_aging;

    pthread_mutex_t sweep_lock; /* one sweep at a time; guards all below */
    bool swept_before;
    uint32_t last_sweep_s;
    unsigned next_shard;
};

static const struct tg_series_limits no_limits = {UINT16_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};

/* --- series objects --------------------------------------------------------------------------- */

/* A tag is one symbol whose bytes are [ u32 key id | origin << 30 ][ value ], so that the tags
 * which thousands of series share cost each of them four bytes. A series holds a reference to the
 * tag's symbol and one to its key's: the id inside the bytes is valid as long as the tag is. */
enum { TAG_HEAD = 4, TAG_ORIGIN_SHIFT = 30 };
#define TAG_KEY_MASK ((UINT32_C(1) << TAG_ORIGIN_SHIFT) - 1)

static uint32_t tag_head(struct tg_symbol_text tag)
{
    uint32_t head;
    memcpy(&head, tag.ptr, TAG_HEAD);
    return head;
}

static void release_symbols(struct tg_table *t, const struct tg_series *s)
{
    uint32_t ids[SYMBOL_BLOCK];
    uint32_t n = 0;
    ids[n++] = s->name;
    ids[n++] = s->unit;
    for (uint32_t i = 0; i < s->n_tags; i++) {
        ids[n++] = tag_head(tg_symbols_text(t->symbols, s->tags[i])) & TAG_KEY_MASK;
        ids[n++] = s->tags[i];
        if (n < SYMBOL_BLOCK) continue;
        tg_symbols_release(t->symbols, ids, n);
        n = 0;
    }
    tg_symbols_release(t->symbols, ids, n);
}

static enum tg_code intern_tag(struct tg_table *t, const struct tg_tag *tag, uint32_t key,
                               uint32_t *id)
{
    uint8_t stack[256];
    const uint32_t head = key | (uint32_t)tag->origin << TAG_ORIGIN_SHIFT;
    const size_t len = TAG_HEAD + (size_t)tag->value_len;
    uint8_t *bytes = len <= sizeof(stack) ? stack : tg_malloc(len);
    if (!bytes) return TG_ERR_NOMEM;
    memcpy(bytes, &head, TAG_HEAD);
    memcpy(bytes + TAG_HEAD, tag->value, tag->value_len);
    const struct tg_symbol_text text = {.ptr = (const char *)bytes, .len = (uint32_t)len};
    const enum tg_code code = tg_symbols_intern(t->symbols, &text, 1, id);
    if (bytes != stack) tg_free(bytes);
    return code;
}

/* Fills in the symbols of *s; on failure none is held. */
static enum tg_code intern_symbols(struct tg_table *t, const struct tg_series_desc *d,
                                   struct tg_series *s)
{
    const struct tg_symbol_text head[2] = {{.ptr = d->name, .len = d->name_len},
                                           {.ptr = d->unit, .len = d->unit_len}};
    uint32_t ids[2];
    TG_TRY(tg_symbols_intern(t->symbols, head, 2, ids));
    s->name = ids[0];
    s->unit = ids[1];
    for (s->n_tags = 0; s->n_tags < d->n_tags; s->n_tags++) {
        const struct tg_tag *tag = &d->tags[s->n_tags];
        const struct tg_symbol_text key = {.ptr = tag->key, .len = tag->key_len};
        uint32_t key_id;
        enum tg_code code = tg_symbols_intern(t->symbols, &key, 1, &key_id);
        if (code == TG_OK) {
            code = intern_tag(t, tag, key_id, &s->tags[s->n_tags]);
            if (code != TG_OK) tg_symbols_release(t->symbols, &key_id, 1);
        }
        if (code != TG_OK) {
            release_symbols(t, s);
            return code;
        }
    }
    return TG_OK;
}

static struct tg_series *series_new(struct tg_table *t, const struct tg_series_desc *d,
                                    struct tg_hash128 hash, enum tg_code *code)
{
    struct tg_series *s =
        tg_calloc(1, sizeof(*s) + d->n_tags * sizeof(s->tags[0])); /* n_tags is limited */
    *code = TG_ERR_NOMEM;
    if (!s) return NULL;
    s->hash = hash;
    s->field_len = d->field_len;
    s->kind = d->kind;
    s->temporality = d->temporality;
    atomic_store_explicit(&s->last_used_s, tg_clock_coarse_s(), memory_order_relaxed);
    *code = intern_symbols(t, d, s);
    if (*code == TG_OK) return s;
    tg_free(s);
    return NULL;
}

/* A plan comes into force (1) or leaves it (-1). */
static void count_failed(struct tg_table *t, const struct tg_plan *p, int change)
{
    if (!p || !p->failed) return;
    atomic_fetch_add_explicit(&t->n_failed, (uint64_t)(int64_t)change, memory_order_relaxed);
}

static void series_free(struct tg_table *t, struct tg_series *s)
{
    struct tg_plan *plan = atomic_load_explicit(&s->plan, memory_order_relaxed);
    tg_forms_release_plan(t->forms, plan, s); /* first: others name it by its symbols until then */
    release_symbols(t, s);
    count_failed(t, plan, -1);
    tg_free(plan);
    tg_free(s);
}

static void free_plans(struct tg_plan *p)
{
    while (p) {
        struct tg_plan *next = p->retired_next;
        tg_free(p);
        p = next;
    }
}

/* --- life of a table -------------------------------------------------------------------------- */

static void fill_defaults(struct tg_table_config *c)
{
    const struct tg_series_limits *def = &tg_series_limits_default;
    if (!c->max_series) c->max_series = MAX_SERIES_DEFAULT;
    if (!c->max_raw_keys)
        c->max_raw_keys = c->max_series < UINT64_MAX / 4 ? c->max_series * 4 : UINT64_MAX;
    if (!c->limits.max_tags) c->limits.max_tags = def->max_tags;
    if (!c->limits.max_name_bytes) c->limits.max_name_bytes = def->max_name_bytes;
    if (!c->limits.max_key_bytes) c->limits.max_key_bytes = def->max_key_bytes;
    if (!c->limits.max_value_bytes) c->limits.max_value_bytes = def->max_value_bytes;
}

struct tg_table *tg_table_new(const struct tg_table_config *config)
{
    char *allocation = tg_calloc(1, sizeof(struct tg_table) + LINE);
    if (!allocation) return NULL;
    struct tg_table *t =
        (struct tg_table *)(allocation + (LINE - (uintptr_t)allocation % LINE) % LINE);
    t->allocation = allocation;
    t->config = *config;
    fill_defaults(&t->config);
    t->guard = tg_deferred_free_new();
    t->symbols = tg_symbols_new();
    t->help = tg_help_new();
    t->forms = tg_forms_new();
    if (!t->guard || !t->symbols || !t->help || !t->forms ||
        tg_raw_key_map_init(&t->raw, t->guard, t->config.max_raw_keys) != TG_OK) {
        tg_deferred_free_free(t->guard);
        tg_symbols_free(t->symbols);
        tg_help_free(t->help);
        tg_forms_free(t->forms);
        tg_free(allocation);
        return NULL;
    }
    for (unsigned i = 0; i < TG_CANON_SHARDS; i++)
        (void)pthread_mutex_init(&t->canon[i].lock, NULL);
    (void)pthread_mutex_init(&t->sweep_lock, NULL);
    return t;
}

void tg_table_free(struct tg_table *t)
{
    if (!t) return;
    tg_deferred_free_free(t->guard); /* first: what it still frees gives symbols back */
    free_plans(atomic_load(&t->plans_replaced));
    for (unsigned i = 0; i < TG_CANON_SHARDS; i++) {
        struct tg_canon_shard *sh = &t->canon[i];
        for (size_t k = 0; k < sh->cap; k++) {
            if (!sh->slots[k]) continue;
            tg_free(atomic_load(&sh->slots[k]->plan));
            tg_free(sh->slots[k]); /* its symbols go all at once */
        }
        tg_free(sh->slots);
        (void)pthread_mutex_destroy(&sh->lock);
    }
    tg_raw_key_map_deinit(&t->raw);
    tg_help_free(t->help);
    tg_symbols_free(t->symbols);
    tg_forms_free(t->forms);
    (void)pthread_mutex_destroy(&t->sweep_lock);
    tg_free(t->allocation);
}

struct tg_forms *tg_table_forms(const struct tg_table *t)
{
    return t->forms;
}

struct tg_deferred_free *tg_table_guard(struct tg_table *t)
{
    return t->guard;
}

const struct tg_series_limits *tg_table_limits(const struct tg_table *t)
{
    return &t->config.limits;
}

/* --- look-up ---------------------------------------------------------------------------------- */

struct tg_series *tg_table_find_raw(const struct tg_table *t, struct tg_hash128 raw)
{
    return tg_raw_key_map_find(&t->raw, raw);
}

void tg_table_prefetch_raw(const struct tg_table *t, struct tg_hash128 raw)
{
    tg_raw_key_map_prefetch(&t->raw, raw);
}

void tg_table_remember_raw(struct tg_table *t, struct tg_hash128 raw, struct tg_series *s)
{
    tg_raw_key_map_put(&t->raw, raw, s);
}

static enum tg_code hash_desc(const struct tg_series_desc *d, struct tg_hash128 *hash)
{
    uint8_t scratch[SCRATCH_BYTES];
    struct tg_buf buf = {.data = scratch, .cap = sizeof(scratch), .max_bytes = sizeof(scratch)};
    enum tg_code code = tg_series_desc_encode(d, &buf);
    if (code == TG_OK) {
        *hash = tg_hash128(buf.data, buf.len);
        return TG_OK;
    }
    tg_buf_init(&buf, 0);
    code = tg_series_desc_encode(d, &buf);
    if (code == TG_OK) *hash = tg_hash128(buf.data, buf.len);
    tg_buf_deinit(&buf);
    return code;
}

/* The sender is told by its answer; this is for whoever runs the gateway, once a minute. */
static void warn_refused(struct tg_table *t, const char *why)
{
    const uint32_t now_s = tg_clock_coarse_s() + 1; /* never 0 */
    uint32_t said_s = atomic_load_explicit(&t->refusal_said_s, memory_order_relaxed);
    if (said_s && now_s - said_s < WARN_EVERY_S) return;
    if (atomic_compare_exchange_strong(&t->refusal_said_s, &said_s, now_s))
        tg_warn("series", "%s", why);
}

/* Under the shard's lock: the series is not there. */
static enum tg_code create(struct tg_table *t, struct tg_canon_shard *sh,
                           const struct tg_series_desc *d, struct tg_hash128 hash,
                           uint64_t max_series, struct tg_series **out, struct tg_err *err)
{
    enum tg_code code = TG_ERR_NOMEM;
    if (atomic_fetch_add_explicit(&t->n_series, 1, memory_order_relaxed) >= max_series) {
        atomic_fetch_sub_explicit(&t->n_series, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&t->n_refused, 1, memory_order_relaxed);
        char q[96];
        struct tg_err why;
        code =
            tg_fail(&why, TG_ERR_FULL,
                    "new series %s refused: the table holds its maximum of %llu; raise "
                    "limits.series, or look for a tag with ever new values",
                    tg_quote(q, sizeof(q), d->name, d->name_len), (unsigned long long)max_series);
        warn_refused(t, why.msg);
        if (err) *err = why;
        return code;
    }
    struct tg_series *s = tg_canon_make_room(sh) ? series_new(t, d, hash, &code) : NULL;
    if (!s) {
        atomic_fetch_sub_explicit(&t->n_series, 1, memory_order_relaxed);
        return tg_fail(err, code,
                       code == TG_ERR_FULL ? "no more room for distinct strings in tags"
                                           : "no memory for a new series");
    }
    sh->slots[tg_canon_find(sh, hash)] = s;
    sh->n++;
    atomic_fetch_add_explicit(&t->n_created, 1, memory_order_relaxed);
    *out = s;
    return TG_OK;
}

static enum tg_code intern(struct tg_table *t, struct tg_series_desc *d,
                           const struct tg_series_limits *limits, uint64_t max_series,
                           struct tg_series **out, struct tg_err *err)
{
    struct tg_hash128 hash;
    TG_TRY(tg_series_desc_canonicalise(d, limits, err));
    if (hash_desc(d, &hash) != TG_OK)
        return tg_fail(err, TG_ERR_NOMEM, "no memory to encode a series");
    struct tg_canon_shard *sh = tg_canon_shard_of(t->canon, hash);
    enum tg_code code = TG_OK;
    /* Held while the series is made: two threads with the same new series make one object. */
    (void)pthread_mutex_lock(&sh->lock);
    struct tg_series *known = sh->cap ? sh->slots[tg_canon_find(sh, hash)] : NULL;
    if (known)
        *out = known;
    else
        code = create(t, sh, d, hash, max_series, out, err);
    (void)pthread_mutex_unlock(&sh->lock);
    return code;
}

enum tg_code tg_table_intern(struct tg_table *t, struct tg_series_desc *d, struct tg_series **out,
                             struct tg_err *err)
{
    return intern(t, d, &t->config.limits, t->config.max_series, out, err);
}

enum tg_code tg_table_intern_logged(struct tg_table *t, struct tg_series_desc *d,
                                    struct tg_series **out, struct tg_err *err)
{
    return intern(t, d, &no_limits, UINT64_MAX, out, err);
}

struct tg_help *tg_table_help(const struct tg_table *t)
{
    return t->help;
}

static void describe_help(struct tg_help *help, struct tg_series_desc *d, struct tg_arena *arena)
{
    struct tg_help_family f;
    d->help = tg_help_find(help, d->name, d->name_len, arena, &d->help_len);
    const bool is_remote_write =
        d->field_len == 0 &&
        (d->kind == TG_KIND_UNKNOWN ||
         (d->kind == TG_KIND_EXP_HISTOGRAM && d->temporality == TG_TEMPORALITY_NONE));
    if (!is_remote_write) return;
    d->has_family = tg_help_find_family(help, d->name, d->name_len, arena, &f);
    if (!d->has_family) return;
    d->help = f.help;
    d->help_len = f.help_len;
    d->family_type = f.type;
    d->family_cut = f.cut;
    d->family_unit = f.unit;
    d->family_unit_len = f.unit_len;
}

enum tg_code tg_table_describe(const struct tg_table *t, const struct tg_series *s,
                               struct tg_series_desc *d, struct tg_arena *arena)
{
    const struct tg_symbol_text name = tg_symbols_text(t->symbols, s->name);
    const struct tg_symbol_text unit = tg_symbols_text(t->symbols, s->unit);
    *d = (struct tg_series_desc){
        .name = name.ptr,
        .name_len = name.len,
        .unit = unit.ptr,
        .unit_len = unit.len,
        .field_len = s->field_len,
        .kind = s->kind,
        .temporality = s->temporality,
    };
    describe_help(t->help, d, arena);
    if (s->n_tags == 0) return TG_OK;
    d->tags = tg_arena_alloc(arena, s->n_tags * sizeof(*d->tags));
    if (!d->tags) return TG_ERR_NOMEM;
    d->n_tags = s->n_tags;
    for (uint32_t i = 0; i < s->n_tags; i++) {
        const struct tg_symbol_text tag = tg_symbols_text(t->symbols, s->tags[i]);
        const uint32_t head = tag_head(tag);
        const struct tg_symbol_text key = tg_symbols_text(t->symbols, head & TAG_KEY_MASK);
        d->tags[i] = (struct tg_tag){
            .key = key.ptr,
            .value = tag.ptr + TAG_HEAD,
            .key_len = key.len,
            .value_len = tag.len - TAG_HEAD,
            .origin = (uint8_t)(head >> TAG_ORIGIN_SHIFT),
        };
    }
    return TG_OK;
}

struct tg_plan *tg_table_set_plan(struct tg_table *t, struct tg_series *s, struct tg_plan *expected,
                                  struct tg_plan *plan)
{
    struct tg_plan *old = expected;
    /* Counted before it can be replaced, and with it taken back: the sum is never below zero. */
    count_failed(t, plan, 1);
    if (!atomic_compare_exchange_strong_explicit(&s->plan, &old, plan, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        count_failed(t, plan, -1);
        tg_forms_release_plan(t->forms, plan, s);
        tg_free(plan);
        return old;
    }
    if (old && old != plan) {
        count_failed(t, old, -1);
        tg_forms_release_plan(t->forms, old, s);
        /* Push only and take all: no ABA. Readers do not look at retired_next. */
        old->retired_next = atomic_load_explicit(&t->plans_replaced, memory_order_relaxed);
        while (!atomic_compare_exchange_weak_explicit(&t->plans_replaced, &old->retired_next, old,
                                                      memory_order_release, memory_order_relaxed))
            ;
    }
    return plan;
}

/* --- leaving ---------------------------------------------------------------------------------- */

/* The series that leave with one sweep: unlinked together, freed together. */
struct evicted {
    struct tg_deferred_free_note note;
    struct tg_table *table;
    size_t n, cap;
    struct tg_series *series[];
};

static bool evicted_reserve(struct tg_table *t, struct evicted **e)
{
    if (*e && (*e)->n < (*e)->cap) return true;
    const size_t cap = *e ? (*e)->cap * 2 : 64;
    struct evicted *grown = tg_realloc(*e, sizeof(**e) + cap * sizeof((*e)->series[0]));
    if (!grown) return false;
    if (!*e) {
        grown->table = t;
        grown->n = 0;
    }
    grown->cap = cap;
    *e = grown;
    return true;
}

static void evicted_free(void *p)
{
    struct evicted *e = p;
    for (size_t i = 0; i < e->n; i++) series_free(e->table, e->series[i]);
    tg_free(e);
}

static bool is_idle(const struct tg_table *t, const struct tg_series *s, uint32_t now_s)
{
    /* Signed: a worker's clock may be a tick ahead of the sweeper's. */
    const uint32_t used = atomic_load_explicit(&s->last_used_s, memory_order_relaxed);
    return (int64_t)now_s - (int64_t)used >= (int64_t)t->config.idle_s;
}

/* Whether the series counts for the limit; under its shard's lock. */
static void set_held(struct tg_table *t, struct tg_series *s, bool held)
{
    if (s->held == held) return;
    if (held && atomic_load_explicit(&t->n_held, memory_order_relaxed) >= t->config.max_series)
        return;
    s->held = held;
    if (held) {
        atomic_fetch_add_explicit(&t->n_held, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&t->n_series, 1, memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(&t->n_series, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&t->n_held, 1, memory_order_relaxed);
    }
}

/* Marks and unlinks the idle series of a shard; false when there was no memory to note one. */
static bool evict_shard(struct tg_table *t, struct tg_canon_shard *sh, uint32_t now_s,
                        struct evicted **e)
{
    bool ok = true;
    (void)pthread_mutex_lock(&sh->lock);
    const bool any_held = atomic_load_explicit(&t->n_held, memory_order_relaxed) > 0;
    for (size_t i = 0; i < sh->cap;) {
        struct tg_series *s = sh->slots[i];
        const bool idle = s && is_idle(t, s, now_s);
        if (!idle || atomic_load_explicit(&s->refs, memory_order_relaxed) != 0) {
            if (idle || (s && any_held)) set_held(t, s, idle);
            i++;
            continue;
        }
        ok = evicted_reserve(t, e);
        if (!ok) break;
        /* First dead, then refs: see table.h. The use is looked at again, too; a use after that is
         * the worker's case described there. */
        atomic_store_explicit(&s->dead, true, memory_order_seq_cst);
        if (atomic_load_explicit(&s->refs, memory_order_seq_cst) != 0 || !is_idle(t, s, now_s)) {
            atomic_store_explicit(&s->dead, false, memory_order_seq_cst);
            i++;
            continue;
        }
        set_held(t, s, false);
        tg_canon_remove(sh, i); /* slot i may hold another one now: look again */
        (*e)->series[(*e)->n++] = s;
        /* At once: a full table shall take a new one as soon as one has left. */
        atomic_fetch_sub_explicit(&t->n_series, 1, memory_order_relaxed);
    }
    tg_canon_give_back(sh);
    (void)pthread_mutex_unlock(&sh->lock);
    return ok;
}

/* Looking at every series each second would cost a cache miss per series and second. A round takes
 * idle_s / 16 seconds, so a series leaves at most that much late. */
static unsigned shards_due(struct tg_table *t, uint32_t now_s)
{
    uint32_t round_s = t->config.idle_s / 16;
    if (round_s > TG_CANON_SHARDS) round_s = TG_CANON_SHARDS;
    const uint32_t elapsed_s = now_s - t->last_sweep_s;
    const bool all = !t->swept_before || round_s <= 1 || elapsed_s >= round_s;
    t->swept_before = true;
    t->last_sweep_s = now_s;
    if (all) return TG_CANON_SHARDS;
    return elapsed_s * TG_CANON_SHARDS / round_s + 1;
}

static size_t evict_idle(struct tg_table *t, uint32_t now_s)
{
    struct evicted *e = NULL;
    for (unsigned n = shards_due(t, now_s); n > 0; n--) {
        struct tg_canon_shard *sh = &t->canon[t->next_shard];
        if (!evict_shard(t, sh, now_s, &e)) {
            t->swept_before = false; /* all that is left, next time */
            break;
        }
        t->next_shard = (t->next_shard + 1) % TG_CANON_SHARDS;
    }
    if (!e) return 0;
    const size_t n = e->n;
    atomic_fetch_add_explicit(&t->n_evicted, n, memory_order_relaxed);
    if (n) tg_raw_key_map_remove_dead(&t->raw, e->series, n);
    tg_deferred_free_retire_note(t->guard, &e->note, e, evicted_free);
    return n;
}

static void aging_plans_free(void *p)
{
    struct tg_table *t = p;
    free_plans(t->plans_aging);
    t->plans_aging = NULL;
    atomic_store_explicit(&t->plans_are_aging, false, memory_order_release);
}

size_t tg_table_sweep(struct tg_table *t, uint32_t now_s)
{
    (void)pthread_mutex_lock(&t->sweep_lock);
    const size_t n = t->config.idle_s ? evict_idle(t, now_s) : 0;
    tg_raw_key_map_shed(&t->raw);
    if (!atomic_load_explicit(&t->plans_are_aging, memory_order_acquire) &&
        atomic_load_explicit(&t->plans_replaced, memory_order_relaxed)) {
        t->plans_aging = atomic_exchange_explicit(&t->plans_replaced, NULL, memory_order_acquire);
        atomic_store_explicit(&t->plans_are_aging, true, memory_order_relaxed);
        tg_deferred_free_retire_note(t->guard, &t->plans_note, t, aging_plans_free);
    }
    (void)pthread_mutex_unlock(&t->sweep_lock);
    /* Two flips free what was retired just now, when no reader is inside. */
    (void)tg_deferred_free_poll(t->guard);
    (void)tg_deferred_free_poll(t->guard);
    return n;
}

/* --- looking at it ---------------------------------------------------------------------------- */

void tg_table_each(struct tg_table *t, bool (*fn)(struct tg_series *s, void *arg), void *arg)
{
    bool more = true;
    for (unsigned i = 0; i < TG_CANON_SHARDS && more; i++) {
        struct tg_canon_shard *sh = &t->canon[i];
        (void)pthread_mutex_lock(&sh->lock);
        for (size_t k = 0; k < sh->cap && more; k++)
            if (sh->slots[k]) more = fn(sh->slots[k], arg);
        (void)pthread_mutex_unlock(&sh->lock);
    }
}

struct named {
    const struct tg_table *t;
    const char *name;
    uint32_t len, id;
    bool (*fn)(struct tg_series *s, void *arg);
    void *arg;
};

static bool call_if_named(struct tg_series *s, void *arg)
{
    const struct named *n = arg;
    if (s->name != n->id) return true;
    /* The id may have become another text's since it was looked up. */
    const struct tg_symbol_text name = tg_symbols_text(n->t->symbols, s->name);
    const bool is_it = name.len == n->len && memcmp(name.ptr, n->name, n->len) == 0;
    return !is_it || n->fn(s, n->arg);
}

void tg_table_each_named(struct tg_table *t, const char *name, uint32_t len,
                         bool (*fn)(struct tg_series *s, void *arg), void *arg)
{
    struct named n = {.t = t, .name = name, .len = len, .fn = fn, .arg = arg};
    n.id = tg_symbols_find(t->symbols, name, len);
    if (n.id) tg_table_each(t, call_if_named, &n);
}

_Static_assert((int)TG_TABLE_PARTS == (int)TG_CANON_SHARDS, "a part is a shard");

enum tg_code tg_table_hold_part(struct tg_table *t, unsigned part, struct tg_series ***out,
                                size_t *n)
{
    struct tg_canon_shard *sh = &t->canon[part];
    *out = NULL;
    *n = 0;
    (void)pthread_mutex_lock(&sh->lock);
    struct tg_series **list =
        sh->n ? tg_reallocarray(NULL, sh->n, sizeof(struct tg_series *)) : NULL;
    const enum tg_code code = list || !sh->n ? TG_OK : TG_ERR_NOMEM;
    /* Under the lock that sweep takes to unlink: none of these is dead. */
    for (size_t k = 0; list && k < sh->cap; k++) {
        if (!sh->slots[k]) continue;
        tg_series_ref(sh->slots[k]);
        list[(*n)++] = sh->slots[k];
    }
    (void)pthread_mutex_unlock(&sh->lock);
    *out = list;
    return code;
}

struct tg_table_stats tg_table_stats(const struct tg_table *t)
{
    return (struct tg_table_stats){
        .n_series = atomic_load_explicit(&t->n_series, memory_order_relaxed),
        .n_held = atomic_load_explicit(&t->n_held, memory_order_relaxed),
        .n_raw_keys = atomic_load_explicit(&t->raw.n_keys, memory_order_relaxed),
        .n_symbols = tg_symbols_count(t->symbols),
        .n_failed = atomic_load_explicit(&t->n_failed, memory_order_relaxed),
        .n_created = atomic_load_explicit(&t->n_created, memory_order_relaxed),
        .n_evicted = atomic_load_explicit(&t->n_evicted, memory_order_relaxed),
        .n_refused = atomic_load_explicit(&t->n_refused, memory_order_relaxed),
    };
}

static bool broken(const char *what, unsigned long long n)
{
    (void)fprintf(stderr, "series table: %s (%llu)\n", what, n);
    return false;
}

/* Claims that the plan of a live series holds. */
static uint64_t held_claims(const struct tg_series *s)
{
    const struct tg_plan *p = atomic_load(&s->plan);
    uint64_t n = 0;
    for (unsigned i = 0; p && i < p->n_claims; i++) n += tg_plan_claims(p)[i].is_held;
    return n;
}

static bool raw_target_ok(struct tg_series *s, void *arg)
{
    struct tg_table *t = arg;
    const struct tg_canon_shard *sh = tg_canon_shard_of(t->canon, s->hash);
    return sh->cap && sh->slots[tg_canon_find(sh, s->hash)] == s;
}

/* One live series: it can be found, says what its hash says, and its symbols count it. */
static bool validate_series(struct tg_table *t, const struct tg_canon_shard *sh, size_t slot,
                            struct tg_arena *arena, uint32_t *refs)
{
    const struct tg_series *s = sh->slots[slot];
    struct tg_series_desc d;
    struct tg_hash128 hash;
    if (tg_canon_shard_of(t->canon, s->hash) != sh) return broken("series in a wrong shard", slot);
    if (tg_canon_find(sh, s->hash) != slot) return broken("series that cannot be found", slot);
    if (atomic_load(&s->dead)) return broken("dead series in the map", slot);
    if (tg_table_describe(t, s, &d, arena) != TG_OK || hash_desc(&d, &hash) != TG_OK)
        return broken("no memory to validate", slot);
    if (!tg_hash128_eq(hash, s->hash)) return broken("series that changed", slot);
    const struct tg_series_desc before = d;
    if (tg_series_desc_canonicalise(&d, &no_limits, NULL) != TG_OK || d.n_tags != before.n_tags)
        return broken("series that is not canonical", slot);
    refs[s->name]++;
    refs[s->unit]++;
    for (uint32_t i = 0; i < s->n_tags; i++) {
        refs[tag_head(tg_symbols_text(t->symbols, s->tags[i])) & TAG_KEY_MASK]++;
        refs[s->tags[i]]++;
    }
    tg_arena_reset(arena);
    return true;
}

bool tg_table_validate(struct tg_table *t)
{
    (void)tg_deferred_free_poll(t->guard); /* series on their way out still hold symbols */
    const size_t waiting = tg_deferred_free_poll(t->guard);
    const uint32_t max_id = tg_symbols_max_id(t->symbols);
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    uint32_t *refs = tg_calloc(max_id, sizeof(*refs));
    bool ok = refs || broken("no memory to validate", max_id);
    uint64_t n = 0, n_held = 0;
    uint64_t n_claimed = 0; /* by plans */
    uint64_t n_claims = 0;
    for (unsigned i = 0; i < TG_CANON_SHARDS && ok; i++) {
        const struct tg_canon_shard *sh = &t->canon[i];
        size_t here = 0;
        for (size_t k = 0; k < sh->cap && ok; k++) {
            if (!sh->slots[k]) continue;
            here++;
            n_held += sh->slots[k]->held;
            n_claimed += held_claims(sh->slots[k]);
            ok = validate_series(t, sh, k, &arena, refs);
        }
        if (ok && (here != sh->n || (here > 0 && here > sh->cap / 4 * 3)))
            ok = broken("wrong count in a shard", i);
        n += here;
    }
    const struct tg_table_stats st = tg_table_stats(t);
    if (ok && n_held != st.n_held) ok = broken("wrong count of those held", n_held);
    if (ok && n != st.n_series + st.n_held)
        ok = broken("wrong count", n); /* may be over: intern_logged */
    if (ok && st.n_created - st.n_evicted != n) ok = broken("wrong created or evicted", n);
    ok = ok && tg_forms_validate(t->forms, &n_claims);
    if (ok && (n_claims < n_claimed || (waiting == 0 && n_claims != n_claimed)))
        ok = broken("claims that no plan holds, or the other way round", n_claims);
    ok =
        ok && tg_raw_key_map_validate(&t->raw, raw_target_ok, t) && tg_symbols_validate(t->symbols);
    for (uint32_t id = 1; id < max_id && ok; id++) {
        const uint32_t held = tg_symbols_refs(t->symbols, id);
        if (held < refs[id] || (waiting == 0 && held != refs[id]))
            ok = broken("symbol with wrong references", id);
    }
    tg_free(refs);
    tg_arena_deinit(&arena);
    return ok;
}
