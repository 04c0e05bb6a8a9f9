#include "core/net/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/mem.h"

struct tg_loop {
    struct event_base *base;
    int wake_fd;
    struct event wake;
    struct event once; /* bounds tg_loop_once */
    _Atomic bool stopping;
    /* Newest first; the loop takes all of it at once and reverses it, so that it runs in the order
     * of the posts. */
    _Atomic(struct tg_loop_item *) posted;
    /* Taken from `posted` but not yet run: kept here so that a nested tg_loop_once or a free during
     * a callback neither loses nor repeats any. */
    struct tg_loop_item *ready;
};

struct posted {
    struct tg_loop_item item;
    void (*fn)(void *arg);
    void *arg;
};

struct tg_timer {
    struct event event;
    void (*fn)(void *arg);
    void *arg;
};

static void use_our_allocator(void)
{
    event_set_mem_functions(tg_malloc, tg_realloc, tg_free);
}

/* The counter saturates far away from any number of writes we make (one per empty-to-full change of
 * the list), so the only failure left is an interrupted call. */
static void wake_up(struct tg_loop *l)
{
    const uint64_t one = 1;
    while (write(l->wake_fd, &one, sizeof(one)) < 0) {
    }
}

static void run_posted(void *arg)
{
    struct posted *p = arg;
    void (*const fn)(void *) = p->fn;
    void *const fn_arg = p->arg;
    tg_free(p);
    fn(fn_arg);
}

static void take_posted(struct tg_loop *l)
{
    struct tg_loop_item *item = atomic_exchange_explicit(&l->posted, NULL, memory_order_acquire);
    struct tg_loop_item *in_order = NULL;
    while (item) {
        struct tg_loop_item *next = item->next;
        item->next = in_order;
        in_order = item;
        item = next;
    }
    struct tg_loop_item **tail = &l->ready;
    while (*tail) tail = &(*tail)->next;
    *tail = in_order;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct tg_loop *l = arg;
    uint64_t n;
    /* Reset before taking the list: a post that comes in between finds either the list not taken
     * yet, or an empty list and writes again. */
    while (read(fd, &n, sizeof(n)) < 0 && errno == EINTR) {
    }
    take_posted(l);
    while (l->ready) {
        struct tg_loop_item *item = l->ready;
        l->ready = item->next; /* before the call: the item may be posted again from within */
        item->fn(item->arg);
    }
    if (atomic_load_explicit(&l->stopping, memory_order_acquire)) event_base_loopbreak(l->base);
}

static void on_once(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

struct tg_loop *tg_loop_new(void)
{
    static pthread_once_t allocator = PTHREAD_ONCE_INIT;
    (void)pthread_once(&allocator, use_our_allocator);

    struct tg_loop *l = tg_calloc(1, sizeof(*l));
    if (!l) return NULL;
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->wake_fd < 0) goto fail;
    /* No locks: other threads come in through the eventfd only. No cached time: a timer started
     * after a long callback must count from then, not from the start of the turn. */
    struct event_config *config = event_config_new();
    if (!config) goto fail;
    if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_NO_CACHE_TIME |
                                          EVENT_BASE_FLAG_IGNORE_ENV) == 0)
        l->base = event_base_new_with_config(config);
    event_config_free(config);
    if (!l->base) goto fail;
    if (event_assign(&l->wake, l->base, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l) != 0 ||
        event_assign(&l->once, l->base, -1, 0, on_once, l) != 0 || event_add(&l->wake, NULL) != 0)
        goto fail;
    return l;
fail:
    if (l->base) event_base_free(l->base);
    if (l->wake_fd >= 0) (void)close(l->wake_fd);
    tg_free(l);
    return NULL;
}

void tg_loop_free(struct tg_loop *l)
{
    if (!l) return;
    take_posted(l);
    while (l->ready) {
        struct tg_loop_item *item = l->ready;
        l->ready = item->next;
        if (item->fn == run_posted) tg_free(item->arg);
    }
    (void)event_del(&l->wake);
    (void)event_del(&l->once);
    event_base_free(l->base);
    (void)close(l->wake_fd);
    tg_free(l);
}

struct event_base *tg_loop_base(struct tg_loop *l)
{
    return l->base;
}

void tg_loop_run(struct tg_loop *l)
{
    /* A stop that came before run counts: run then returns without waiting. */
    while (!atomic_load_explicit(&l->stopping, memory_order_acquire))
        if (event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY) < 0) break;
    atomic_store_explicit(&l->stopping, false, memory_order_release);
}

void tg_loop_stop(struct tg_loop *l)
{
    atomic_store_explicit(&l->stopping, true, memory_order_release);
    wake_up(l);
}

void tg_loop_once(struct tg_loop *l, int timeout_ms)
{
    if (timeout_ms == 0) {
        (void)event_base_loop(l->base, EVLOOP_NONBLOCK);
        return;
    }
    if (timeout_ms > 0) {
        const struct timeval tv = {.tv_sec = timeout_ms / 1000,
                                   .tv_usec = timeout_ms % 1000 * 1000};
        (void)event_add(&l->once, &tv);
    }
    (void)event_base_loop(l->base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
    if (timeout_ms > 0) (void)event_del(&l->once);
}

void tg_loop_post_item(struct tg_loop *l, struct tg_loop_item *item)
{
    struct tg_loop_item *head = atomic_load_explicit(&l->posted, memory_order_relaxed);
    do {
        item->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&l->posted, &head, item, memory_order_release,
                                                    memory_order_relaxed));
    /* Whoever makes the list non-empty wakes the loop; the others are taken along. */
    if (!head) wake_up(l);
}

enum tg_code tg_loop_post(struct tg_loop *l, void (*fn)(void *arg), void *arg)
{
    struct posted *p = tg_malloc(sizeof(*p));
    if (!p) return TG_ERR_NOMEM;
    p->item = (struct tg_loop_item){.fn = run_posted, .arg = p};
    p->fn = fn;
    p->arg = arg;
    tg_loop_post_item(l, &p->item);
    return TG_OK;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    const struct tg_timer *t = arg;
    t->fn(t->arg); /* may free t */
}

struct tg_timer *tg_timer_new(struct tg_loop *l, void (*fn)(void *arg), void *arg)
{
    struct tg_timer *t = tg_calloc(1, sizeof(*t));
    if (!t) return NULL;
    t->fn = fn;
    t->arg = arg;
    if (event_assign(&t->event, l->base, -1, 0, on_timer, t) != 0) {
        tg_free(t);
        return NULL;
    }
    return t;
}

void tg_timer_free(struct tg_timer *t)
{
    if (!t) return;
    (void)event_del(&t->event);
    tg_free(t);
}

void tg_timer_start(struct tg_timer *t, uint64_t after_ms)
{
    const uint64_t max_ms = UINT64_C(1000) * 86400 * 365; /* keeps timeval arithmetic in range */
    if (after_ms > max_ms) after_ms = max_ms;
    const struct timeval tv = {.tv_sec = (time_t)(after_ms / 1000),
                               .tv_usec = (suseconds_t)(after_ms % 1000 * 1000)};
    (void)event_add(&t->event, &tv);
}

void tg_timer_stop(struct tg_timer *t)
{
    (void)event_del(&t->event);
}
