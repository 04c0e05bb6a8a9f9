#include "core/base/hash.h"

#include <sys/random.h>

#include "core/base/clock.h"

uint64_t tg_hash_seed_value = UINT64_C(0x6a09e667f3bcc908);

void tg_hash_seed(uint64_t fixed)
{
    uint64_t seed = fixed;
    if (!seed && getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed = tg_clock_mono_ns() *
               UINT64_C(0x9E3779B97F4A7C15); /* a kernel without getrandom: best left */
    tg_hash_seed_value = seed;
}
