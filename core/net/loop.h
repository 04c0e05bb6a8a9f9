/* loop.h: one thread's event loop (libevent underneath), with a thread-safe door to it.
 *
 * Threading: everything but tg_loop_post and tg_loop_stop belongs to the loop's thread.
 */
#ifndef TG_NET_LOOP_H
#define TG_NET_LOOP_H

#include <stdint.h>

#include "core/base/err.h"

struct event_base;
struct tg_loop;
struct tg_timer;

struct tg_loop *tg_loop_new(void);    /* NULL when out of memory or descriptors */
void tg_loop_free(struct tg_loop *l); /* runs no more callbacks; NULL accepted */
struct event_base *tg_loop_base(struct tg_loop *l);

void tg_loop_run(struct tg_loop *l);  /* until tg_loop_stop */
void tg_loop_stop(struct tg_loop *l); /* any thread; run returns after the current callbacks */
/* For tests and short tools: handles what is ready, waiting up to timeout_ms for something. */
void tg_loop_once(struct tg_loop *l, int timeout_ms);

/* Runs fn(arg) on the loop's thread, in post order. Any thread. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_loop_post(struct tg_loop *l, void (*fn)(void *arg), void *arg);
/* As post, but with caller-owned storage, so it cannot fail; item must stay valid and not be posted
 * again until fn runs. */
struct tg_loop_item {
    struct tg_loop_item *next;
    void (*fn)(void *arg);
    void *arg;
};
void tg_loop_post_item(struct tg_loop *l, struct tg_loop_item *item);

/* One-shot timer; re-arm with tg_timer_start. */
struct tg_timer *tg_timer_new(struct tg_loop *l, void (*fn)(void *arg), void *arg);
void tg_timer_free(struct tg_timer *t);                     /* cancels; NULL accepted */
void tg_timer_start(struct tg_timer *t, uint64_t after_ms); /* replaces an earlier start */
void tg_timer_stop(struct tg_timer *t);

#endif
