#include "core/base/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

static _Atomic bool fixed;
static _Atomic int64_t fixed_wall_ns;
static _Atomic uint64_t fixed_mono_ns;

static uint64_t read_ns(clockid_t id)
{
    struct timespec ts;
    (void)clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

int64_t tg_clock_wall_ns(void)
{
    if (atomic_load_explicit(&fixed, memory_order_relaxed)) return atomic_load(&fixed_wall_ns);
    return (int64_t)read_ns(CLOCK_REALTIME);
}

uint64_t tg_clock_mono_ns(void)
{
    if (atomic_load_explicit(&fixed, memory_order_relaxed)) return atomic_load(&fixed_mono_ns);
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t tg_clock_mono_ms(void)
{
    return tg_clock_mono_ns() / 1000000U;
}

uint32_t tg_clock_coarse_s(void)
{
    if (atomic_load_explicit(&fixed, memory_order_relaxed))
        return (uint32_t)(atomic_load(&fixed_mono_ns) / 1000000000U);
    return (uint32_t)(read_ns(CLOCK_MONOTONIC_COARSE) / 1000000000U);
}

void tg_clock_set_test(int64_t wall_ns, uint64_t mono_ns)
{
    atomic_store(&fixed_wall_ns, wall_ns);
    atomic_store(&fixed_mono_ns, mono_ns);
    atomic_store(&fixed, wall_ns >= 0);
}
