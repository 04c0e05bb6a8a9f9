/* canon.h: the series table's map from the hash of a series' canonical bytes to the series, in
 * shards of open addressing.
 *
 * 128 seeded bits are identity: at a billion series two of them meet with a chance of 1 in 10^21.
 *
 * Threading: under the shard's lock, all of them; shard_of takes none.
 */
#ifndef TG_MODEL_CANON_H
#define TG_MODEL_CANON_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/base/hash.h"
#include "core/model/series.h"

enum { TG_CANON_SHARDS = 64, TG_CANON_SHARD_SHIFT = 58 };

struct tg_canon_shard {
    pthread_mutex_t lock; /* guards all below */
    struct tg_series **slots;
    size_t cap;
    size_t n;
} __attribute__((aligned(64)));

static inline struct tg_canon_shard *tg_canon_shard_of(struct tg_canon_shard *shards,
                                                       struct tg_hash128 h)
{
    return &shards[h.hi >> TG_CANON_SHARD_SHIFT];
}

/* The slot of the series with this hash, or the empty one where it belongs; cap > 0. */
size_t tg_canon_find(const struct tg_canon_shard *sh, struct tg_hash128 h);
/* Room for one more; false when out of memory. */
bool tg_canon_make_room(struct tg_canon_shard *sh);
/* Takes the series in slot `hole` out: another one may be there then. */
void tg_canon_remove(struct tg_canon_shard *sh, size_t hole);
/* Gives memory back when few are left of many. */
void tg_canon_give_back(struct tg_canon_shard *sh);

#endif
