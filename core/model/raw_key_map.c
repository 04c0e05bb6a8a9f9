#include "core/model/raw_key_map.h"

#include <stdio.h>

#include "core/base/mem.h"

enum { CAP_MIN = 16 };

static struct tg_raw_array *array_new(size_t cap)
{
    size_t bytes;
    if (__builtin_mul_overflow(cap, sizeof(struct tg_raw_slot), &bytes) ||
        __builtin_add_overflow(bytes, sizeof(struct tg_raw_array), &bytes))
        return NULL;
    struct tg_raw_array *a = tg_calloc(1, bytes);
    if (a) a->cap = cap;
    return a;
}

enum tg_code tg_raw_key_map_init(struct tg_raw_key_map *m, struct tg_deferred_free *guard,
                                 uint64_t max_keys)
{
    m->guard = guard;
    m->max_keys = max_keys;
    atomic_init(&m->n_keys, 0);
    atomic_init(&m->hit_max, false);
    m->next_shed = 0;
    for (unsigned i = 0; i < TG_RAW_SHARDS; i++) {
        struct tg_raw_shard *sh = &m->shards[i];
        struct tg_raw_array *a = array_new(CAP_MIN);
        atomic_init(&sh->array, a);
        sh->n_used = sh->n_live = 0;
        (void)pthread_mutex_init(&sh->lock, NULL);
        if (!a) {
            (void)pthread_mutex_destroy(&sh->lock);
            while (i-- > 0) {
                tg_free(atomic_load(&m->shards[i].array));
                (void)pthread_mutex_destroy(&m->shards[i].lock);
            }
            return TG_ERR_NOMEM;
        }
    }
    return TG_OK;
}

void tg_raw_key_map_deinit(struct tg_raw_key_map *m)
{
    for (unsigned i = 0; i < TG_RAW_SHARDS; i++) {
        tg_free(atomic_load(&m->shards[i].array));
        (void)pthread_mutex_destroy(&m->shards[i].lock);
    }
}

static struct tg_series *series_of(const struct tg_raw_slot *slot)
{
    return atomic_load_explicit(&slot->series, memory_order_relaxed);
}

static struct tg_hash128 key_of(const struct tg_raw_slot *slot)
{
    return (struct tg_hash128){
        .lo = atomic_load_explicit(&slot->lo, memory_order_relaxed),
        .hi = atomic_load_explicit(&slot->hi, memory_order_relaxed),
    };
}

/* Fills the first empty slot from the key's home on. The caller knows that there is one. */
static void fill_slot(struct tg_raw_array *a, struct tg_hash128 raw, struct tg_series *s)
{
    size_t i = tg_raw_key_map_home(a, raw);
    while (series_of(&a->slots[i])) i = i + 1 == a->cap ? 0 : i + 1;
    atomic_store_explicit(&a->slots[i].lo, raw.lo, memory_order_relaxed);
    atomic_store_explicit(&a->slots[i].hi, raw.hi, memory_order_relaxed);
    atomic_store_explicit(&a->slots[i].series, s, memory_order_release);
}

/* Under the shard's lock: a new array, half full with what lives, takes the place of the old. */
static bool rebuild(struct tg_raw_key_map *m, struct tg_raw_shard *sh)
{
    struct tg_raw_array *old = atomic_load_explicit(&sh->array, memory_order_relaxed);
    const size_t cap = sh->n_live * (size_t)2 > CAP_MIN ? sh->n_live * (size_t)2 : CAP_MIN;
    struct tg_raw_array *a = array_new(cap);
    if (!a) return false;
    for (size_t i = 0; i < old->cap; i++) {
        struct tg_series *s = series_of(&old->slots[i]);
        if (s && s != TG_RAW_TOMB) fill_slot(a, key_of(&old->slots[i]), s);
    }
    sh->n_used = sh->n_live;
    atomic_store_explicit(&sh->array, a, memory_order_release);
    tg_deferred_free_retire_note(m->guard, &old->note, old, tg_free);
    return true;
}

static bool has_room(const struct tg_raw_shard *sh)
{
    const struct tg_raw_array *a = atomic_load_explicit(&sh->array, memory_order_relaxed);
    return sh->n_used < a->cap / 4 * 3;
}

static bool count_one_more(struct tg_raw_key_map *m)
{
    if (atomic_fetch_add_explicit(&m->n_keys, 1, memory_order_relaxed) < m->max_keys) return true;
    atomic_fetch_sub_explicit(&m->n_keys, 1, memory_order_relaxed);
    atomic_store_explicit(&m->hit_max, true, memory_order_relaxed);
    return false;
}

void tg_raw_key_map_put(struct tg_raw_key_map *m, struct tg_hash128 raw, struct tg_series *s)
{
    struct tg_raw_shard *sh = &m->shards[raw.hi >> TG_RAW_SHARD_SHIFT];
    (void)pthread_mutex_lock(&sh->lock);
    /* Sweep marks first and then takes this lock to remove: whoever gets the lock after it sees the
     * mark here; what was put before is removed by it. */
    if (atomic_load_explicit(&s->dead, memory_order_relaxed)) goto done;
    struct tg_raw_array *a = atomic_load_explicit(&sh->array, memory_order_relaxed);
    for (size_t i = tg_raw_key_map_home(a, raw);; i = i + 1 == a->cap ? 0 : i + 1) {
        struct tg_series *known = series_of(&a->slots[i]);
        if (!known) break;
        if (known == TG_RAW_TOMB || !tg_hash128_eq(key_of(&a->slots[i]), raw)) continue;
        /* Another worker was faster, or sweep is about to remove the one that was there. */
        if (known != s) atomic_store_explicit(&a->slots[i].series, s, memory_order_release);
        goto done;
    }
    if (!count_one_more(m)) goto done;
    if (!has_room(sh) && !rebuild(m, sh)) {
        atomic_fetch_sub_explicit(&m->n_keys, 1, memory_order_relaxed);
        goto done;
    }
    fill_slot(atomic_load_explicit(&sh->array, memory_order_relaxed), raw, s);
    sh->n_used++;
    sh->n_live++;
done:
    (void)pthread_mutex_unlock(&sh->lock);
}

/* --- removal --------------------------------------------------------------------------------- */

/* Which series to look at: a bit per hashed address. Without it every slot's series would be
 * fetched from memory each time a single one leaves. */
enum { FILTER_BITS = 15 };
struct filter {
    uint64_t words[(1 << FILTER_BITS) / 64];
};

static uint32_t filter_bit(const struct tg_series *s)
{
    return (uint32_t)(((uintptr_t)s >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - FILTER_BITS));
}

void tg_raw_key_map_remove_dead(struct tg_raw_key_map *m, struct tg_series *const *dead, size_t n)
{
    struct filter f = {{0}};
    for (size_t i = 0; i < n; i++) {
        const uint32_t bit = filter_bit(dead[i]);
        f.words[bit / 64] |= UINT64_C(1) << (bit % 64);
    }
    for (unsigned k = 0; k < TG_RAW_SHARDS; k++) {
        struct tg_raw_shard *sh = &m->shards[k];
        (void)pthread_mutex_lock(&sh->lock);
        struct tg_raw_array *a = atomic_load_explicit(&sh->array, memory_order_relaxed);
        uint32_t removed = 0;
        for (size_t i = 0; i < a->cap; i++) {
            struct tg_series *s = series_of(&a->slots[i]);
            if (!s || s == TG_RAW_TOMB) continue;
            const uint32_t bit = filter_bit(s);
            if (!(f.words[bit / 64] >> (bit % 64) & 1)) continue;
            if (!atomic_load_explicit(&s->dead, memory_order_relaxed)) continue;
            atomic_store_explicit(&a->slots[i].series, TG_RAW_TOMB, memory_order_release);
            removed++;
        }
        sh->n_live -= removed;
        atomic_fetch_sub_explicit(&m->n_keys, removed, memory_order_relaxed);
        /* Tombstones lengthen every probe, and an emptied table should give its memory back. */
        if (a->cap > CAP_MIN && (sh->n_used - sh->n_live > a->cap / 4 || sh->n_live < a->cap / 8))
            (void)rebuild(m, sh);
        (void)pthread_mutex_unlock(&sh->lock);
    }
}

void tg_raw_key_map_shed(struct tg_raw_key_map *m)
{
    if (!atomic_exchange_explicit(&m->hit_max, false, memory_order_relaxed)) return;
    for (unsigned k = 0; k < TG_RAW_SHARDS / 8; k++) {
        struct tg_raw_shard *sh = &m->shards[m->next_shed];
        m->next_shed = (m->next_shed + 1) % TG_RAW_SHARDS;
        (void)pthread_mutex_lock(&sh->lock);
        struct tg_raw_array *a = array_new(CAP_MIN);
        if (a) {
            struct tg_raw_array *old = atomic_load_explicit(&sh->array, memory_order_relaxed);
            atomic_store_explicit(&sh->array, a, memory_order_release);
            atomic_fetch_sub_explicit(&m->n_keys, sh->n_live, memory_order_relaxed);
            sh->n_used = sh->n_live = 0;
            tg_deferred_free_retire_note(m->guard, &old->note, old, tg_free);
        }
        (void)pthread_mutex_unlock(&sh->lock);
    }
}

bool tg_raw_key_map_validate(const struct tg_raw_key_map *m,
                             bool (*ok)(struct tg_series *s, void *arg), void *arg)
{
    uint64_t n_keys = 0;
    for (unsigned k = 0; k < TG_RAW_SHARDS; k++) {
        const struct tg_raw_shard *sh = &m->shards[k];
        const struct tg_raw_array *a = atomic_load(&sh->array);
        uint32_t n_used = 0;
        uint32_t n_live = 0;
        for (size_t i = 0; i < a->cap; i++) {
            struct tg_series *s = series_of(&a->slots[i]);
            if (!s) continue;
            n_used++;
            if (s == TG_RAW_TOMB) continue;
            n_live++;
            const struct tg_hash128 key = key_of(&a->slots[i]);
            if (key.hi >> TG_RAW_SHARD_SHIFT != k || tg_raw_key_map_find(m, key) != s ||
                !ok(s, arg)) {
                (void)fprintf(stderr, "raw map: shard %u slot %zu is wrong\n", k, i);
                return false;
            }
        }
        if (n_used != sh->n_used || n_live != sh->n_live || n_used > a->cap / 4 * 3) {
            (void)fprintf(stderr, "raw map: shard %u counts %u/%u, has %u/%u of %zu\n", k,
                          sh->n_used, sh->n_live, n_used, n_live, a->cap);
            return false;
        }
        n_keys += n_live;
    }
    if (n_keys == atomic_load(&m->n_keys) && n_keys <= m->max_keys) return true;
    (void)fprintf(stderr, "raw map: %llu keys, counted %llu, bound %llu\n",
                  (unsigned long long)n_keys, (unsigned long long)atomic_load(&m->n_keys),
                  (unsigned long long)m->max_keys);
    return false;
}
