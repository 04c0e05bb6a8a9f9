/* clock.h: time, injectable. `tg_clock_*` read the process clock; tests replace it with a fixed
 * one.
 *
 * Threading: reads from any thread; `tg_clock_set_test` only while no other thread runs.
 */
#ifndef TG_BASE_CLOCK_H
#define TG_BASE_CLOCK_H

#include <stdint.h>

int64_t tg_clock_wall_ns(void);  /* CLOCK_REALTIME since the epoch */
uint64_t tg_clock_mono_ms(void); /* CLOCK_MONOTONIC */
uint64_t tg_clock_mono_ns(void);
uint32_t tg_clock_coarse_s(
    void); /* CLOCK_MONOTONIC_COARSE seconds: cheap enough for per-batch use */

/* Fixes all clocks at these values until called with wall_ns < 0. */
void tg_clock_set_test(int64_t wall_ns, uint64_t mono_ns);

#endif
