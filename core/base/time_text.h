/* time_text.h: times as text.
 *
 * Threading: no state.
 */
#ifndef TG_BASE_TIME_TEXT_H
#define TG_BASE_TIME_TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { TG_TIME_TEXT_MAX = 32 };

/* A time (ns since 1970, wall clock) as RFC 3339 has it, in UTC: "2026-01-31T12:00:00.123Z", with
 * `digits` (0 to 9) of the second's fraction, the others cut: towards the past, also before 1970.
 * Returns the length; a NUL follows. */
size_t tg_time_text(char out[TG_TIME_TEXT_MAX], int64_t ts_ns, unsigned digits);

#endif
