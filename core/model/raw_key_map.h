/* raw_key_map.h: raw key -> series, read without locks.
 *
 *   shard[hi >> 58] -> array: [ cap | slot: key lo, key hi, series* | slot | ... ]
 *                                     24 bytes each
 *
 * Open addressing with linear probing. A slot goes through its life once: empty, then key and
 * pointer (in this order, the pointer with a release store), then perhaps a tombstone or, for the
 * same key, another series. It never takes another key: a reader that has seen a non-empty pointer
 * therefore sees the key that belongs to it. Tombstones are reclaimed when the whole array is
 * replaced; the old array is retired through the guard.
 *
 * Threading: find and prefetch from any thread inside the guard; the rest from any thread.
 */
#ifndef TG_MODEL_RAW_KEY_MAP_H
#define TG_MODEL_RAW_KEY_MAP_H

#include <pthread.h>
#include <stdbool.h>

#include "core/base/deferred_free.h"
#include "core/base/hash.h"
#include "core/model/series.h"

enum { TG_RAW_SHARDS = 64, TG_RAW_SHARD_SHIFT = 58 };

struct tg_raw_slot {
    _Atomic uint64_t lo, hi;
    _Atomic(struct tg_series *) series; /* NULL = never used; TG_RAW_TOMB = key was removed */
};
#define TG_RAW_TOMB ((struct tg_series *)1)

struct tg_raw_array {
    size_t cap;
    struct tg_deferred_free_note note;
    struct tg_raw_slot slots[];
};

struct tg_raw_shard {
    _Atomic(struct tg_raw_array *) array;
    pthread_mutex_t lock; /* guards changes and the counts below */
    uint32_t n_used;      /* slots not empty */
    uint32_t n_live;      /* without tombstones */
    /* lock plus counts fill a line, so that a reader of one shard does not wait for a writer of the
     * next */
} __attribute__((aligned(64)));

struct tg_raw_key_map {
    struct tg_raw_shard shards[TG_RAW_SHARDS];
    struct tg_deferred_free *guard; /* borrows */
    uint64_t max_keys;
    _Atomic uint64_t n_keys;
    _Atomic bool hit_max; /* a key was turned away since the last sweep */
    unsigned next_shed;   /* the sweeper's: shard to forget next when the map is full */
};

/* TG_ERR_NOMEM leaves nothing behind. */
TG_MUST_CHECK enum tg_code tg_raw_key_map_init(struct tg_raw_key_map *m,
                                               struct tg_deferred_free *guard, uint64_t max_keys);
void tg_raw_key_map_deinit(struct tg_raw_key_map *m);

static inline size_t tg_raw_key_map_home(const struct tg_raw_array *a, struct tg_hash128 raw)
{
    return (size_t)(((unsigned __int128)raw.lo * a->cap) >> 64);
}

static inline struct tg_raw_array *tg_raw_key_map_array(const struct tg_raw_key_map *m,
                                                        struct tg_hash128 raw)
{
    return atomic_load_explicit(&m->shards[raw.hi >> TG_RAW_SHARD_SHIFT].array,
                                memory_order_acquire);
}

static inline struct tg_series *tg_raw_key_map_find(const struct tg_raw_key_map *m,
                                                    struct tg_hash128 raw)
{
    const struct tg_raw_array *a = tg_raw_key_map_array(m, raw);
    const struct tg_raw_slot *slot = &a->slots[tg_raw_key_map_home(a, raw)];
    const struct tg_raw_slot *const end = &a->slots[a->cap];
    for (;;) { /* ends: a quarter of the slots is empty */
        struct tg_series *s = atomic_load_explicit(&slot->series, memory_order_acquire);
        if (!s) return NULL;
        if (atomic_load_explicit(&slot->lo, memory_order_relaxed) == raw.lo &&
            atomic_load_explicit(&slot->hi, memory_order_relaxed) == raw.hi && s != TG_RAW_TOMB)
            return s;
        if (++slot == end) slot = a->slots;
    }
}

static inline void tg_raw_key_map_prefetch(const struct tg_raw_key_map *m, struct tg_hash128 raw)
{
    const struct tg_raw_array *a = tg_raw_key_map_array(m, raw);
    __builtin_prefetch(&a->slots[tg_raw_key_map_home(a, raw)]);
}

/* Remembers raw -> s unless s is dead, the bound is reached or memory is short. */
void tg_raw_key_map_put(struct tg_raw_key_map *m, struct tg_hash128 raw, struct tg_series *s);

/* Removes every key whose series is in `dead` (n > 0; all marked dead already). Afterwards none
 * comes back: put refuses dead series. */
void tg_raw_key_map_remove_dead(struct tg_raw_key_map *m, struct tg_series *const *dead, size_t n);

/* When keys were turned away since the last call: forgets an eighth of the shards, in turn. What is
 * still sent is remembered again with its next point. */
void tg_raw_key_map_shed(struct tg_raw_key_map *m);

/* Test hook, quiescent only: counts, reachability, load. Calls ok(s, arg) for the series of each
 * key. */
bool tg_raw_key_map_validate(const struct tg_raw_key_map *m,
                             bool (*ok)(struct tg_series *s, void *arg), void *arg);

#endif
