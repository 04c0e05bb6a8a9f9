#include "core/app/stop_watch.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/app/cmd.h"
#include "core/base/clock.h"
#include "core/base/logger.h"

static void leave(struct tg_stop_watch *w)
{
    /* Should stderr hang, too: this ends the process without it. */
    (void)alarm(1);
    if (atomic_load(&w->progress.is_closed)) _exit(TG_EXIT_OK); /* only memory was left to free */
    const char *what = atomic_load(&w->progress.what);
    const char *name = atomic_load(&w->progress.name);
    tg_error("run",
             "still waiting for %s%s%s after limits.drain_timeout: leaving without it; what was "
             "not delivered waits in the log",
             what ? what : "the admin port", name ? " " : "", name ? name : "");
    _exit(TG_EXIT_FAILED);
}

static void *watch_main(void *arg)
{
    struct tg_stop_watch *w = arg;
    (void)pthread_setname_np(pthread_self(), "stop-watch");
    struct timespec at = {.tv_sec = (time_t)(w->deadline_ms / 1000),
                          .tv_nsec = (long)(w->deadline_ms % 1000) * 1000000};
    (void)pthread_mutex_lock(&w->lock);
    int rc = 0;
    while (!w->is_over && rc == 0) rc = pthread_cond_timedwait(&w->wake, &w->lock, &at);
    const bool is_over = w->is_over;
    (void)pthread_mutex_unlock(&w->lock);
    if (!is_over) leave(w);
    return NULL;
}

void tg_stop_watch_start(struct tg_stop_watch *w, uint32_t drain_ms)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&w->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&w->lock, NULL);
    w->deadline_ms = tg_clock_mono_ms() + drain_ms + TG_STOP_GRACE_MS;
    const int rc = pthread_create(&w->thread, NULL, watch_main, w);
    w->has_thread = rc == 0;
    if (rc != 0)
        tg_warn("run", "no thread to watch the stop (%s): it may take longer than it should",
                strerror(rc));
}

void tg_stop_watch_end(struct tg_stop_watch *w)
{
    if (!w->has_thread) return;
    (void)pthread_mutex_lock(&w->lock);
    w->is_over = true;
    (void)pthread_cond_signal(&w->wake);
    (void)pthread_mutex_unlock(&w->lock);
    (void)pthread_join(w->thread, NULL);
    w->has_thread = false;
    (void)pthread_cond_destroy(&w->wake);
    (void)pthread_mutex_destroy(&w->lock);
}
