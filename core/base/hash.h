/* hash.h: the seeded 128-bit hash under every key that a sender can influence (XXH3, secret drawn
 * at start).
 *
 * The secret makes collisions unpredictable from outside; hashes are therefore never stored on disk
 * or sent.
 *
 * Threading: `tg_hash_seed` once before any other thread; the rest from anywhere.
 */
#ifndef TG_BASE_HASH_H
#define TG_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct tg_hash128 {
    uint64_t lo, hi;
};

extern uint64_t tg_hash_seed_value; /* set by tg_hash_seed; read-only to all others */

/* Draws the secret from getrandom(2) (fixed = 0), or sets it for a reproducible test. */
void tg_hash_seed(uint64_t fixed);

static inline struct tg_hash128 tg_hash128(const void *p, size_t len)
{
    const XXH128_hash_t h = XXH3_128bits_withSeed(p, len, tg_hash_seed_value);
    return (struct tg_hash128){h.low64, h.high64};
}
static inline uint64_t tg_hash64(const void *p, size_t len)
{
    return XXH3_64bits_withSeed(p, len, tg_hash_seed_value);
}
/* Order-sensitive combination, for keys made of parts that are each hashed once (resource, scope,
 * metric, point). Two rounds of multiply-fold per half; both inputs are already seeded. */
static inline uint64_t tg_mul_fold(uint64_t a, uint64_t b)
{
    const unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}
static inline struct tg_hash128 tg_hash128_combine(struct tg_hash128 a, struct tg_hash128 b)
{
    return (struct tg_hash128){
        tg_mul_fold(a.lo ^ UINT64_C(0x9E3779B185EBCA87), b.hi ^ UINT64_C(0xC2B2AE3D27D4EB4F)) +
            a.hi,
        tg_mul_fold(a.hi ^ UINT64_C(0x165667B19E3779F9), b.lo ^ UINT64_C(0x85EBCA77C2B2AE63)) +
            b.lo,
    };
}
static inline bool tg_hash128_eq(struct tg_hash128 a, struct tg_hash128 b)
{
    return ((a.lo ^ b.lo) | (a.hi ^ b.hi)) == 0;
}

#endif
