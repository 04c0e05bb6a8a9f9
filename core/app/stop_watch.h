/* stop_watch.h: sees to it that a stop ends: when it is not over by its deadline and a grace, says
 * what hangs and ends the process. The log stands that at any instant, and what it has not made
 * safe by then is acknowledged to nobody.
 *
 * Threading: start and end from the main thread; the watch has a thread of its own, so that it
 * works whatever hangs.
 */
#ifndef TG_APP_STOP_WATCH_H
#define TG_APP_STOP_WATCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/pipe/gateway.h"

enum { TG_STOP_GRACE_MS = 1700 }; /* after drain_timeout; 2 s are promised */

struct tg_stop_watch { /* zero is one that was not started */
    struct tg_stop_progress progress;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; /* with the two below */
    pthread_cond_t wake;
    bool is_over;
    uint64_t deadline_ms; /* monotonic */
};

/* Without a thread to be had the stop goes unwatched, which is said. */
void tg_stop_watch_start(struct tg_stop_watch *w, uint32_t drain_ms);
/* The stop is over. One that was not started is accepted. */
void tg_stop_watch_end(struct tg_stop_watch *w);

#endif
