#include "core/model/forms.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/logger.h"
#include "core/base/mem.h"

enum {
    SHARDS = 64,
    SHARD_SHIFT = 58,
    CAP_MIN = 16,
    WHO_BITS = 24,
    SPACES = TG_MAX_BACKENDS + 1,
};

struct entry {
    uint64_t key;
    const struct tg_series *first; /* to name it; NULL when that one has left */
    uint64_t who : WHO_BITS;
    uint64_t n_first : TG_FORMS_COUNT_BITS;  /* claims of `who`; 0: free for the next that comes */
    uint64_t n_others : TG_FORMS_COUNT_BITS; /* an empty slot has neither */
};
_Static_assert(sizeof(struct entry) == 24, "as forms.h says");

struct shard {
    pthread_mutex_t lock; /* guards all below */
    struct entry *slots;
    size_t cap, n;
} __attribute__((aligned(64)));

struct tg_forms {
    struct shard shards[SHARDS];
    void *allocation; /* what to free: the registry is aligned to a line */
    pthread_mutex_t count_lock;
    struct {
        uint64_t generation, n_others;
    } counts[SPACES];
};

/* --- keys --- */

uint64_t tg_forms_who(const struct tg_series_desc *d, const char *const *without)
{
    uint64_t h =
        tg_mul_fold(tg_hash64(d->name, d->name_len) ^ d->field_len, UINT64_C(0x9E3779B185EBCA87));
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        bool counts = true;
        for (const char *const *w = without; w && *w; w++)
            if (strlen(*w) == t->key_len && memcmp(*w, t->key, t->key_len) == 0) counts = false;
        if (!counts) continue;
        h = tg_mul_fold(h ^ tg_hash64(t->key, t->key_len), UINT64_C(0xC2B2AE3D27D4EB4F)) +
            tg_hash64(t->value, t->value_len);
    }
    return h;
}

uint64_t tg_forms_key(unsigned space, uint64_t generation, uint64_t form)
{
    const uint64_t parts[3] = {space, generation, form};
    return tg_hash64(parts, sizeof(parts));
}

static uint32_t short_who(uint64_t who)
{
    return (uint32_t)(who >> (64 - WHO_BITS)) & ((1U << WHO_BITS) - 1);
}

/* --- one shard --- */

static struct shard *shard_of(struct tg_forms *f, uint64_t key)
{
    return &f->shards[key >> SHARD_SHIFT];
}

static bool is_empty(const struct entry *e)
{
    return e->n_first == 0 && e->n_others == 0;
}

static size_t home(size_t cap, uint64_t key)
{
    return (size_t)(((unsigned __int128)(key << (64 - SHARD_SHIFT)) * cap) >> 64);
}

static size_t next_slot(size_t cap, size_t i)
{
    return i + 1 == cap ? 0 : i + 1;
}

/* The form's entry, or the empty one where it belongs. There is always room for one. */
static struct entry *find(const struct shard *sh, uint64_t key)
{
    size_t i = home(sh->cap, key);
    while (!is_empty(&sh->slots[i]) && sh->slots[i].key != key) i = next_slot(sh->cap, i);
    return &sh->slots[i];
}

static bool resize(struct shard *sh, size_t cap)
{
    struct shard to = {.cap = cap};
    to.slots = tg_calloc(cap, sizeof(*to.slots));
    if (!to.slots) return false;
    for (size_t i = 0; i < sh->cap; i++)
        if (!is_empty(&sh->slots[i])) *find(&to, sh->slots[i].key) = sh->slots[i];
    tg_free(sh->slots);
    sh->slots = to.slots;
    sh->cap = cap;
    return true;
}

static bool make_room(struct shard *sh)
{
    if (sh->n < sh->cap / 8 * 7) return true;
    return resize(sh, sh->cap ? sh->cap + sh->cap / 4 : CAP_MIN);
}

static void remove_entry(struct shard *sh, struct entry *e)
{
    size_t hole = (size_t)(e - sh->slots);
    for (size_t i = next_slot(sh->cap, hole); !is_empty(&sh->slots[i]); i = next_slot(sh->cap, i)) {
        const size_t at_home = home(sh->cap, sh->slots[i].key);
        const size_t from_home = i >= at_home ? i - at_home : i + sh->cap - at_home;
        const size_t from_hole = i >= hole ? i - hole : i + sh->cap - hole;
        if (from_home < from_hole) continue;
        sh->slots[hole] = sh->slots[i];
        hole = i;
    }
    sh->slots[hole] = (struct entry){.key = 0};
    sh->n--;
    if (sh->cap > CAP_MIN && sh->n < sh->cap / 8)
        (void)resize(sh, sh->n * 2 > CAP_MIN ? sh->n * 2 : CAP_MIN);
}

/* --- counting --- */

static void count_other(struct tg_forms *f, unsigned space, uint64_t generation, bool comes)
{
    (void)pthread_mutex_lock(&f->count_lock);
    if (comes && generation > f->counts[space].generation) {
        f->counts[space].generation = generation;
        f->counts[space].n_others = 0;
    }
    if (generation == f->counts[space].generation) {
        if (comes)
            f->counts[space].n_others++;
        else
            f->counts[space].n_others--;
    }
    (void)pthread_mutex_unlock(&f->count_lock);
}

uint64_t tg_forms_n_others(struct tg_forms *f, unsigned space, uint64_t generation)
{
    (void)pthread_mutex_lock(&f->count_lock);
    const uint64_t n = f->counts[space].generation == generation ? f->counts[space].n_others : 0;
    (void)pthread_mutex_unlock(&f->count_lock);
    return n;
}

/* --- claims --- */

/* A full count is a count no more: it stays. */
static uint64_t one_more(uint64_t n)
{
    if (n + 1 == TG_FORMS_MAX_COUNT)
        tg_warn("rules",
                "%d live series have one name and the same tags in one place: no other series gets "
                "that name until the rules are loaded again",
                (int)TG_FORMS_MAX_COUNT);
    return n == TG_FORMS_MAX_COUNT ? n : n + 1;
}

static uint64_t one_less(uint64_t n)
{
    return n == TG_FORMS_MAX_COUNT ? n : n - 1;
}

static uint64_t key_of(const struct tg_claim *c)
{
    return (uint64_t)c->key_hi << 32 | c->key_lo;
}

enum tg_code tg_forms_claim(struct tg_forms *f, uint64_t key, uint64_t who, unsigned space,
                            uint64_t generation, const struct tg_series *s, struct tg_claim *claim)
{
    struct shard *sh = shard_of(f, key);
    *claim = (struct tg_claim){.key_lo = (uint32_t)key,
                               .key_hi = (uint32_t)(key >> 32),
                               .space = (uint8_t)space,
                               .is_held = true};
    (void)pthread_mutex_lock(&sh->lock);
    if (!make_room(sh)) {
        (void)pthread_mutex_unlock(&sh->lock);
        return TG_ERR_NOMEM;
    }
    struct entry *e = find(sh, key);
    if (is_empty(e)) {
        *e = (struct entry){.key = key};
        sh->n++;
    }
    const uint32_t me = short_who(who);
    if (e->n_first == 0) {
        e->who = me & ((UINT64_C(1) << WHO_BITS) - 1);
        e->first = NULL;
    }
    if (e->who != me) {
        claim->is_other = true;
        e->n_others = one_more(e->n_others) & TG_FORMS_MAX_COUNT;
    } else {
        e->n_first = one_more(e->n_first) & TG_FORMS_MAX_COUNT;
        if (!e->first) e->first = s;
    }
    (void)pthread_mutex_unlock(&sh->lock);
    if (claim->is_other) count_other(f, space, generation, true);
    return TG_OK;
}

void tg_forms_retain(struct tg_forms *f, struct tg_plan *plan, const struct tg_series *s)
{
    struct tg_claim *claims = (struct tg_claim *)(uintptr_t)tg_plan_claims(plan);
    for (unsigned i = 0; i < plan->n_claims; i++) {
        struct tg_claim *c = &claims[i];
        if (!c->is_held) continue;
        struct shard *sh = shard_of(f, key_of(c));
        (void)pthread_mutex_lock(&sh->lock);
        struct entry *e = sh->cap ? find(sh, key_of(c)) : NULL;
        if (!e || (c->is_other ? is_empty(e) : e->n_first == 0)) {
            c->is_held = false;
        } else if (c->is_other) {
            e->n_others = one_more(e->n_others) & TG_FORMS_MAX_COUNT;
        } else {
            e->n_first = one_more(e->n_first) & TG_FORMS_MAX_COUNT;
            if (!e->first) e->first = s;
        }
        (void)pthread_mutex_unlock(&sh->lock);
        if (c->is_held && c->is_other) count_other(f, c->space, plan->generation, true);
    }
}

void tg_forms_release(struct tg_forms *f, const struct tg_claim *claims, unsigned n,
                      uint64_t generation, const struct tg_series *s)
{
    for (unsigned i = 0; i < n; i++) {
        const struct tg_claim *c = &claims[i];
        if (!c->is_held) continue;
        struct shard *sh = shard_of(f, key_of(c));
        (void)pthread_mutex_lock(&sh->lock);
        struct entry *e = find(sh, key_of(c));
        if (c->is_other) {
            e->n_others = one_less(e->n_others) & TG_FORMS_MAX_COUNT;
        } else {
            e->n_first = one_less(e->n_first) & TG_FORMS_MAX_COUNT;
            if (e->first == s || e->n_first == 0) e->first = NULL;
        }
        if (is_empty(e)) {
            e->n_others = 1; /* so that it counts as there until it is taken out */
            remove_entry(sh, e);
        }
        (void)pthread_mutex_unlock(&sh->lock);
        if (c->is_other) count_other(f, c->space, generation, false);
    }
}

void tg_forms_release_plan(struct tg_forms *f, const struct tg_plan *plan,
                           const struct tg_series *s)
{
    if (plan) tg_forms_release(f, tg_plan_claims(plan), plan->n_claims, plan->generation, s);
}

/* --- questions --- */

bool tg_forms_is_taken(struct tg_forms *f, uint64_t key, uint64_t who,
                       void (*fn)(const struct tg_series *first, void *arg), void *arg)
{
    struct shard *sh = shard_of(f, key);
    (void)pthread_mutex_lock(&sh->lock);
    const struct entry *e = sh->cap ? find(sh, key) : NULL;
    const bool is_taken = e && e->n_first > 0 && e->who != short_who(who);
    if (is_taken && fn && e->first) fn(e->first, arg);
    (void)pthread_mutex_unlock(&sh->lock);
    return is_taken;
}

bool tg_forms_is_free(struct tg_forms *f, const struct tg_claim *claim)
{
    struct shard *sh = shard_of(f, key_of(claim));
    (void)pthread_mutex_lock(&sh->lock);
    const struct entry *e = sh->cap ? find(sh, key_of(claim)) : NULL;
    const bool is_free = !e || e->n_first == 0;
    (void)pthread_mutex_unlock(&sh->lock);
    return is_free;
}

uint64_t tg_forms_count(struct tg_forms *f, uint64_t key)
{
    struct shard *sh = shard_of(f, key);
    (void)pthread_mutex_lock(&sh->lock);
    const struct entry *e = sh->cap ? find(sh, key) : NULL;
    const uint64_t n = e ? (uint64_t)e->n_first + e->n_others : 0;
    (void)pthread_mutex_unlock(&sh->lock);
    return n;
}

/* --- life --- */

struct tg_forms *tg_forms_new(void)
{
    enum { LINE = 64 };
    char *allocation = tg_calloc(1, sizeof(struct tg_forms) + LINE);
    if (!allocation) return NULL;
    struct tg_forms *f =
        (struct tg_forms *)(allocation + (LINE - (uintptr_t)allocation % LINE) % LINE);
    f->allocation = allocation;
    for (unsigned i = 0; i < SHARDS; i++) (void)pthread_mutex_init(&f->shards[i].lock, NULL);
    (void)pthread_mutex_init(&f->count_lock, NULL);
    return f;
}

void tg_forms_free(struct tg_forms *f)
{
    if (!f) return;
    for (unsigned i = 0; i < SHARDS; i++) {
        tg_free(f->shards[i].slots);
        (void)pthread_mutex_destroy(&f->shards[i].lock);
    }
    (void)pthread_mutex_destroy(&f->count_lock);
    tg_free(f->allocation);
}

bool tg_forms_validate(struct tg_forms *f, uint64_t *n_claims)
{
    *n_claims = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        const struct shard *sh = &f->shards[i];
        size_t n = 0;
        for (size_t k = 0; k < sh->cap; k++) {
            const struct entry *e = &sh->slots[k];
            if (is_empty(e)) continue;
            n++;
            *n_claims += (uint64_t)e->n_first + e->n_others;
            if (shard_of(f, e->key) != sh || find(sh, e->key) != e ||
                (e->n_first == 0 && e->first)) {
                (void)fprintf(stderr, "forms: entry %zu of shard %u is misplaced\n", k, i);
                return false;
            }
        }
        if (n != sh->n) {
            (void)fprintf(stderr, "forms: shard %u counts %zu, holds %zu\n", i, sh->n, n);
            return false;
        }
    }
    return true;
}
