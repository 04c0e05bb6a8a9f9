#include "core/model/symbol.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"

enum {
    CHUNK0_BITS = 10, /* entries in the first chunk, as a power of two */
    N_CHUNKS = 21,    /* 1024 * (2^21 - 1) entries: over MAX_ID */
    SLOTS_MIN = 1024,
};
#define MAX_ID ((UINT32_C(1) << 30) - 1) /* two bits of a tag's key id hold its origin */

struct symbol {
    uint32_t refs; /* under the lock */
    uint32_t len;
    char bytes[];
};

/* What a chunk holds for an id: its symbol, or while the id is free the next free id. */
union entry {
    struct symbol *symbol;
    uintptr_t next_free; /* id << 1 | 1; symbols are aligned, so the low bit tells them apart */
};

struct slot {
    uint32_t hash;
    uint32_t id; /* 0 = empty */
};

struct tg_symbols {
    _Atomic(union entry *) chunks[N_CHUNKS];
    pthread_mutex_t lock; /* guards all below */
    struct slot *slots;
    size_t cap;
    uint32_t n_used;   /* symbols in slots */
    uint32_t n_ids;    /* ids handed out so far, with 0 */
    uint32_t free_ids; /* head of the list of free ids; 0 = none */
    _Atomic uint64_t count;
};

static union entry *entry_of(const struct tg_symbols *st, uint32_t id)
{
    /* Chunk k starts at id 1024 * (2^k - 1), so id + 1024 has its top bit at 10 + k. */
    const uint32_t v = id + (UINT32_C(1) << CHUNK0_BITS);
    const unsigned k = 31 - CHUNK0_BITS - (unsigned)__builtin_clz(v);
    union entry *chunk = atomic_load_explicit(&st->chunks[k], memory_order_acquire);
    return &chunk[v - (UINT32_C(1) << (CHUNK0_BITS + k))];
}

static uint32_t hash_text(const char *s, uint32_t len)
{
    return (uint32_t)tg_hash64(s, len);
}

static size_t home_of(const struct tg_symbols *st, uint32_t hash)
{
    return (size_t)(((uint64_t)hash * st->cap) >> 32);
}

struct tg_symbols *tg_symbols_new(void)
{
    struct tg_symbols *st = tg_calloc(1, sizeof(*st));
    if (!st) return NULL;
    st->slots = tg_calloc(SLOTS_MIN, sizeof(*st->slots));
    union entry *chunk = tg_calloc((size_t)1 << CHUNK0_BITS, sizeof(*chunk));
    if (!st->slots || !chunk) {
        tg_free(st->slots);
        tg_free(chunk);
        tg_free(st);
        return NULL;
    }
    st->cap = SLOTS_MIN;
    st->n_ids = 1;
    atomic_store(&st->chunks[0], chunk);
    (void)pthread_mutex_init(&st->lock, NULL);
    return st;
}

void tg_symbols_free(struct tg_symbols *st)
{
    if (!st) return;
    for (size_t i = 0; i < st->cap; i++)
        if (st->slots[i].id) tg_free(entry_of(st, st->slots[i].id)->symbol);
    for (unsigned k = 0; k < N_CHUNKS; k++) tg_free(atomic_load(&st->chunks[k]));
    tg_free(st->slots);
    (void)pthread_mutex_destroy(&st->lock);
    tg_free(st);
}

/* The slot of the text, or the empty one where it belongs. */
static size_t find_slot(const struct tg_symbols *st, uint32_t hash, const char *s, uint32_t len)
{
    size_t i = home_of(st, hash);
    for (;; i = i + 1 == st->cap ? 0 : i + 1) {
        const struct slot *slot = &st->slots[i];
        if (slot->id == 0) return i;
        if (slot->hash != hash) continue;
        const struct symbol *sym = entry_of(st, slot->id)->symbol;
        if (sym->len == len && memcmp(sym->bytes, s, len) == 0) return i;
    }
}

static bool grow(struct tg_symbols *st)
{
    const size_t old_cap = st->cap;
    struct slot *old = st->slots;
    const size_t cap = old_cap + old_cap / 2;
    struct slot *slots = tg_calloc(cap, sizeof(*slots));
    if (!slots) return false;
    st->slots = slots;
    st->cap = cap;
    for (size_t k = 0; k < old_cap; k++) {
        if (old[k].id == 0) continue;
        size_t i = home_of(st, old[k].hash);
        while (slots[i].id) i = i + 1 == cap ? 0 : i + 1;
        slots[i] = old[k];
    }
    tg_free(old);
    return true;
}

/* An id whose entry exists; 0 with *code set when there is none. */
static uint32_t take_id(struct tg_symbols *st, enum tg_code *code)
{
    if (st->free_ids) {
        const uint32_t id = st->free_ids;
        st->free_ids = (uint32_t)(entry_of(st, id)->next_free >> 1);
        return id;
    }
    if (st->n_ids > MAX_ID) {
        *code = TG_ERR_FULL;
        return 0;
    }
    const uint32_t id = st->n_ids;
    const uint32_t v = id + (UINT32_C(1) << CHUNK0_BITS);
    if ((v & (v - 1)) == 0) { /* the first id of the next chunk */
        const unsigned k = 31 - CHUNK0_BITS - (unsigned)__builtin_clz(v);
        if (!atomic_load_explicit(&st->chunks[k], memory_order_relaxed)) {
            union entry *chunk = tg_calloc((size_t)1 << (CHUNK0_BITS + k), sizeof(*chunk));
            if (!chunk) {
                *code = TG_ERR_NOMEM;
                return 0;
            }
            atomic_store_explicit(&st->chunks[k], chunk, memory_order_release);
        }
    }
    st->n_ids++;
    return id;
}

static void give_id(struct tg_symbols *st, uint32_t id)
{
    entry_of(st, id)->next_free = (uintptr_t)st->free_ids << 1 | 1;
    st->free_ids = id;
}

/* Under the lock. 0 with *code set on failure, or for the empty string. */
static uint32_t intern_one(struct tg_symbols *st, const char *s, uint32_t len, enum tg_code *code)
{
    if (len == 0) return 0;
    const uint32_t hash = hash_text(s, len);
    size_t at = find_slot(st, hash, s, len);
    if (st->slots[at].id) {
        struct symbol *known = entry_of(st, st->slots[at].id)->symbol;
        if (known->refs == UINT32_MAX) {
            *code = TG_ERR_FULL;
            return 0;
        }
        known->refs++;
        return st->slots[at].id;
    }
    *code = TG_ERR_NOMEM;
    if (st->n_used + 1 > st->cap / 4 * 3) {
        if (!grow(st)) return 0;
        at = find_slot(st, hash, s, len);
    }
    struct symbol *sym = tg_malloc(sizeof(*sym) + len);
    if (!sym) return 0;
    const uint32_t id = take_id(st, code);
    if (id == 0) {
        tg_free(sym);
        return 0;
    }
    sym->refs = 1;
    sym->len = len;
    memcpy(sym->bytes, s, len);
    entry_of(st, id)->symbol = sym;
    st->slots[at] = (struct slot){.hash = hash, .id = id};
    st->n_used++;
    atomic_fetch_add_explicit(&st->count, 1, memory_order_relaxed);
    *code = TG_OK;
    return id;
}

uint32_t tg_symbols_find(struct tg_symbols *st, const char *text, uint32_t len)
{
    if (len == 0) return 0;
    (void)pthread_mutex_lock(&st->lock);
    const uint32_t id = st->slots[find_slot(st, hash_text(text, len), text, len)].id;
    (void)pthread_mutex_unlock(&st->lock);
    return id;
}

static void release_one(struct tg_symbols *st, uint32_t id)
{
    if (id == 0) return;
    struct symbol *sym = entry_of(st, id)->symbol;
    if (--sym->refs > 0) return;
    size_t hole = home_of(st, hash_text(sym->bytes, sym->len));
    while (st->slots[hole].id != id) hole = hole + 1 == st->cap ? 0 : hole + 1;
    /* Close the gap: what follows moves back unless that would put it before its home. */
    for (size_t i = hole + 1 == st->cap ? 0 : hole + 1; st->slots[i].id;
         i = i + 1 == st->cap ? 0 : i + 1) {
        const size_t home = home_of(st, st->slots[i].hash);
        const size_t from_home = i >= home ? i - home : i + st->cap - home;
        const size_t from_hole = i >= hole ? i - hole : i + st->cap - hole;
        if (from_home < from_hole) continue;
        st->slots[hole] = st->slots[i];
        hole = i;
    }
    st->slots[hole].id = 0;
    st->n_used--;
    atomic_fetch_sub_explicit(&st->count, 1, memory_order_relaxed);
    give_id(st, id);
    tg_free(sym);
}

enum tg_code tg_symbols_intern(struct tg_symbols *st, const struct tg_symbol_text *texts,
                               uint32_t n, uint32_t *ids)
{
    enum tg_code code = TG_OK;
    (void)pthread_mutex_lock(&st->lock);
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = intern_one(st, texts[i].ptr, texts[i].len, &code);
        if (code == TG_OK) continue;
        while (i > 0) release_one(st, ids[--i]);
        break;
    }
    (void)pthread_mutex_unlock(&st->lock);
    return code;
}

void tg_symbols_release(struct tg_symbols *st, const uint32_t *ids, uint32_t n)
{
    (void)pthread_mutex_lock(&st->lock);
    for (uint32_t i = 0; i < n; i++) release_one(st, ids[i]);
    (void)pthread_mutex_unlock(&st->lock);
}

struct tg_symbol_text tg_symbols_text(const struct tg_symbols *st, uint32_t id)
{
    if (id == 0) return (struct tg_symbol_text){.ptr = "", .len = 0};
    const struct symbol *sym = entry_of(st, id)->symbol;
    return (struct tg_symbol_text){.ptr = sym->bytes, .len = sym->len};
}

uint64_t tg_symbols_count(const struct tg_symbols *st)
{
    return atomic_load_explicit(&st->count, memory_order_relaxed);
}

uint32_t tg_symbols_refs(const struct tg_symbols *st, uint32_t id)
{
    if (id == 0 || id >= st->n_ids) return 0;
    const union entry *e = entry_of(st, id);
    return e->next_free & 1 ? 0 : e->symbol->refs;
}

uint32_t tg_symbols_max_id(const struct tg_symbols *st)
{
    return st->n_ids;
}

static bool broken(const char *what, uint32_t id)
{
    (void)fprintf(stderr, "symbols: %s (id %u)\n", what, id);
    return false;
}

bool tg_symbols_validate(const struct tg_symbols *st)
{
    uint32_t n_used = 0;
    for (size_t i = 0; i < st->cap; i++) {
        const uint32_t id = st->slots[i].id;
        if (id == 0) continue;
        n_used++;
        if (id >= st->n_ids) return broken("an id that was never handed out", id);
        const union entry *e = entry_of(st, id);
        if (e->next_free & 1) return broken("a free id in the slots", id);
        if (e->symbol->refs == 0) return broken("a symbol without references", id);
        if (find_slot(st, st->slots[i].hash, e->symbol->bytes, e->symbol->len) != i)
            return broken("a symbol that cannot be found", id);
    }
    uint32_t n_free = 0;
    for (uint32_t id = st->free_ids; id; id = (uint32_t)(entry_of(st, id)->next_free >> 1)) {
        if (!(entry_of(st, id)->next_free & 1)) return broken("a used id in the free list", id);
        if (++n_free > st->n_ids) return broken("a loop in the free list", id);
    }
    if (n_used != st->n_used || n_used != atomic_load(&st->count))
        return broken("a wrong count", n_used);
    if (n_used + n_free + 1 != st->n_ids) return broken("lost ids", n_used + n_free);
    return n_used <= st->cap / 4 * 3 ? true : broken("overfull slots", n_used);
}
