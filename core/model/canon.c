#include "core/model/canon.h"

#include "core/base/mem.h"

enum { CAP_MIN = 16 };

static size_t home_of(size_t cap, struct tg_hash128 h)
{
    return (size_t)(((unsigned __int128)h.lo * cap) >> 64);
}

static size_t next_slot(size_t cap, size_t i)
{
    return i + 1 == cap ? 0 : i + 1;
}

size_t tg_canon_find(const struct tg_canon_shard *sh, struct tg_hash128 h)
{
    size_t i = home_of(sh->cap, h);
    while (sh->slots[i] && !tg_hash128_eq(sh->slots[i]->hash, h)) i = next_slot(sh->cap, i);
    return i;
}

bool tg_canon_make_room(struct tg_canon_shard *sh)
{
    if (sh->n < sh->cap / 4 * 3) return true;
    const size_t cap = sh->cap ? sh->cap + sh->cap / 2 : CAP_MIN;
    struct tg_series **slots = tg_calloc(cap, sizeof(struct tg_series *));
    if (!slots) return false;
    for (size_t k = 0; k < sh->cap; k++) {
        if (!sh->slots[k]) continue;
        size_t i = home_of(cap, sh->slots[k]->hash);
        while (slots[i]) i = next_slot(cap, i);
        slots[i] = sh->slots[k];
    }
    tg_free(sh->slots);
    sh->slots = slots;
    sh->cap = cap;
    return true;
}

void tg_canon_remove(struct tg_canon_shard *sh, size_t hole)
{
    /* What follows moves back, unless that would put it before its home. */
    for (size_t i = next_slot(sh->cap, hole); sh->slots[i]; i = next_slot(sh->cap, i)) {
        const size_t home = home_of(sh->cap, sh->slots[i]->hash);
        const size_t from_home = i >= home ? i - home : i + sh->cap - home;
        const size_t from_hole = i >= hole ? i - hole : i + sh->cap - hole;
        if (from_home < from_hole) continue;
        sh->slots[hole] = sh->slots[i];
        hole = i;
    }
    sh->slots[hole] = NULL;
    sh->n--;
}

void tg_canon_give_back(struct tg_canon_shard *sh)
{
    if (sh->cap <= CAP_MIN || sh->n >= sh->cap / 8) return;
    struct tg_canon_shard smaller = {.cap = sh->n * 2 > CAP_MIN ? sh->n * 2 : CAP_MIN};
    smaller.slots = tg_calloc(smaller.cap, sizeof(struct tg_series *));
    if (!smaller.slots) return;
    for (size_t k = 0; k < sh->cap; k++)
        if (sh->slots[k]) smaller.slots[tg_canon_find(&smaller, sh->slots[k]->hash)] = sh->slots[k];
    tg_free(sh->slots);
    sh->slots = smaller.slots;
    sh->cap = smaller.cap;
}
