/* backoff.h: how long to wait after a try that failed: longer after each in a row, capped and
 * jittered, and never less than the server asks for.
 *
 * Threading: one thread.
 */
#ifndef TG_PIPE_BACKOFF_H
#define TG_PIPE_BACKOFF_H

#include <stdint.h>

struct tg_backoff {
    uint32_t min_ms, max_ms;
    unsigned n_failures; /* in a row */
};

/* One more try has failed: how long to wait, at least half of what its place in the row asks for.
 * retry_after_ms is what the server asked for, capped at ten minutes; -1 = nothing. */
uint64_t tg_backoff_next(struct tg_backoff *b, int64_t retry_after_ms);
void tg_backoff_reset(struct tg_backoff *b); /* a try went well */

#endif
