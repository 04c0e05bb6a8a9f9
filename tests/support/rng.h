/* rng.h: the one source of random numbers in tests: xorshift64 (Marsaglia, "Xorshift RNGs", 2003),
 * with a seed that stands in the test, so that what failed fails again.
 *
 * Threading: one thread per state.
 */
#ifndef TG_TESTS_RNG_H
#define TG_TESTS_RNG_H

#include <stdint.h>

/* The next of 2^64 - 1 numbers; *state is not 0, and is never 0 afterwards. */
static inline uint64_t rng_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A state from any number, also from small ones that differ in a bit only. */
static inline uint64_t rng_seed(uint64_t seed)
{
    return seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
}

#endif
