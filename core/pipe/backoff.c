/* backoff.c: how long to wait after a try that failed. */
#include "core/pipe/backoff.h"

#include <stdlib.h>

enum { MAX_RETRY_AFTER_MS = 10 * 60 * 1000 };

uint64_t tg_backoff_next(struct tg_backoff *b, int64_t retry_after_ms)
{
    uint64_t wait_ms = b->min_ms;
    for (unsigned i = 0; i < b->n_failures && wait_ms < b->max_ms; i++) wait_ms *= 2;
    if (wait_ms > b->max_ms) wait_ms = b->max_ms;
    /* Half fixed, half random: gateways that failed together do not come back together. */
    wait_ms = wait_ms / 2 + (uint64_t)random() % (wait_ms / 2 + 1);
    if (retry_after_ms > (int64_t)wait_ms)
        wait_ms =
            retry_after_ms > MAX_RETRY_AFTER_MS ? MAX_RETRY_AFTER_MS : (uint64_t)retry_after_ms;
    b->n_failures++;
    return wait_ms;
}

void tg_backoff_reset(struct tg_backoff *b)
{
    b->n_failures = 0;
}
