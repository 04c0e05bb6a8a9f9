/* delta.h: delta and delta-of-delta compression of int64, exact for every value (arithmetic wraps
 * modulo 2^64).
 *
 * After section 4.1.1 of the Gorilla paper, with buckets widened for nanosecond times. Of d (a
 * delta, or the difference of two deltas), zigzagged:
 *
 *   '0'                d = 0
 *   '10'    +  7 bits
 *   '110'   + 14 bits
 *   '1110'  + 24 bits
 *   '11110' + 36 bits
 *   '11111' + 64 bits
 *
 * Threading: one thread at a time per state.
 */
#ifndef TG_CODEC_DELTA_H
#define TG_CODEC_DELTA_H

#include "core/codec/bits.h"

#define TG_DELTA_MAX_BITS (5 + 64)

static inline void tg_varbits_put(struct tg_bitw *w, uint64_t z)
{
    if (z == 0)
        tg_bitw_put(w, 0, 1);
    else if (z < UINT64_C(1) << 7)
        tg_bitw_put(w, UINT64_C(2) << 7 | z, 9);
    else if (z < UINT64_C(1) << 14)
        tg_bitw_put(w, UINT64_C(6) << 14 | z, 17);
    else if (z < UINT64_C(1) << 24)
        tg_bitw_put(w, UINT64_C(14) << 24 | z, 28);
    else if (z < UINT64_C(1) << 36)
        tg_bitw_put(w, UINT64_C(30) << 36 | z, 41);
    else {
        tg_bitw_put(w, 31, 5);
        tg_bitw_put(w, z, 64);
    }
}

/* Bit by bit: counting the leading ones at once was measured slower (the branches predict well). */
static inline uint64_t tg_varbits_get(struct tg_bitr *r)
{
    if (tg_bitr_get_small(r, 1) == 0) return 0;
    if (tg_bitr_get_small(r, 1) == 0) return tg_bitr_get_small(r, 7);
    if (tg_bitr_get_small(r, 1) == 0) return tg_bitr_get_small(r, 14);
    if (tg_bitr_get_small(r, 1) == 0) return tg_bitr_get_small(r, 24);
    if (tg_bitr_get_small(r, 1) == 0) return tg_bitr_get_small(r, 36);
    return tg_bitr_get(r, 64);
}

static inline void tg_delta_put(struct tg_bitw *w, int64_t *prev, int64_t v)
{
    tg_varbits_put(w, tg_zigzag((int64_t)((uint64_t)v - (uint64_t)*prev)));
    *prev = v;
}
static inline int64_t tg_delta_get(struct tg_bitr *r, int64_t *prev)
{
    *prev = (int64_t)((uint64_t)*prev + (uint64_t)tg_unzigzag(tg_varbits_get(r)));
    return *prev;
}

struct tg_dod { /* zero + prev = the first value, known to both sides, to start a chain */
    int64_t prev, delta;
};

static inline void tg_dod_put(struct tg_bitw *w, struct tg_dod *s, int64_t v)
{
    const uint64_t delta = (uint64_t)v - (uint64_t)s->prev;
    tg_varbits_put(w, tg_zigzag((int64_t)(delta - (uint64_t)s->delta)));
    s->prev = v;
    s->delta = (int64_t)delta;
}
static inline int64_t tg_dod_get(struct tg_bitr *r, struct tg_dod *s)
{
    const uint64_t delta = (uint64_t)s->delta + (uint64_t)tg_unzigzag(tg_varbits_get(r));
    s->delta = (int64_t)delta;
    s->prev = (int64_t)((uint64_t)s->prev + delta);
    return s->prev;
}

#endif
