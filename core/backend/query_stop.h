/* query_stop.h: how a query that is under way is told to end, and why.
 *
 * Whoever asks the query owns the struct until the query's end; whoever runs it looks at it every
 * few thousand rows or 50 ms, whether or not a row matches.
 *
 * Threading: any.
 */
#ifndef TG_BACKEND_QUERY_STOP_H
#define TG_BACKEND_QUERY_STOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/clock.h"

enum tg_query_stop_reason {
    TG_QUERY_GOES_ON,
    TG_QUERY_CLIENT_GONE,
    TG_QUERY_OUT_OF_TIME,
    TG_QUERY_SHUTDOWN,
};

struct tg_query_stop {
    _Atomic int reason;   /* enum tg_query_stop_reason; the first one stays */
    uint64_t deadline_ms; /* monotonic; 0 = none */
};

static inline void tg_query_stop_ask(struct tg_query_stop *s, enum tg_query_stop_reason why)
{
    int none = TG_QUERY_GOES_ON;
    (void)atomic_compare_exchange_strong(&s->reason, &none, (int)why);
}

/* NULL accepted: a query without an end to it. */
static inline bool tg_query_must_stop(struct tg_query_stop *s)
{
    if (!s) return false;
    if (atomic_load_explicit(&s->reason, memory_order_relaxed) != TG_QUERY_GOES_ON) return true;
    if (!s->deadline_ms || tg_clock_mono_ms() < s->deadline_ms) return false;
    tg_query_stop_ask(s, TG_QUERY_OUT_OF_TIME);
    return true;
}

#endif
