#include "core/base/deferred_free.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "core/base/mem.h"

enum { CACHE_LINE = 64 };

struct note { /* of tg_deferred_free_retire: frees itself */
    struct tg_deferred_free_note base;
    void *p;
    void (*fn)(void *p);
};

struct tg_deferred_free {
    struct {
        _Atomic uint64_t readers;
        char pad[CACHE_LINE - sizeof(uint64_t)]; /* two workers on two sides do not share a line */
    } side[2];
    _Atomic unsigned active;             /* side that enter uses */
    pthread_mutex_t lock;                /* guards all below */
    struct tg_deferred_free_note *fresh; /* retired since the last flip */
    struct tg_deferred_free_note *aging; /* one flip old: free at the next */
    size_t n_waiting;
    _Atomic size_t n_waiting_hint;
};

struct tg_deferred_free *tg_deferred_free_new(void)
{
    struct tg_deferred_free *g = tg_calloc(1, sizeof(*g));
    if (!g) return NULL;
    (void)pthread_mutex_init(&g->lock, NULL);
    return g;
}

static size_t run_notes(struct tg_deferred_free_note *n)
{
    size_t count = 0;
    while (n) {
        struct tg_deferred_free_note *next = n->next; /* fn may free the note */
        n->fn(n->p);
        n = next;
        count++;
    }
    return count;
}

void tg_deferred_free_free(struct tg_deferred_free *g)
{
    if (!g) return;
    while (g->aging || g->fresh) { /* what is run may retire more */
        struct tg_deferred_free_note *n = g->aging;
        g->aging = g->fresh;
        g->fresh = NULL;
        (void)run_notes(n);
    }
    (void)pthread_mutex_destroy(&g->lock);
    tg_free(g);
}

int tg_deferred_free_enter(struct tg_deferred_free *g)
{
    /* Between reading `active` and counting ourselves, a flip may happen; then we are counted on
     * the old side, which the writer re-reads as busy before its next flip. If two flips happen in
     * between, the check below sees it. */
    for (;;) {
        const unsigned s = atomic_load(&g->active);
        atomic_fetch_add(&g->side[s].readers, 1);
        if (atomic_load(&g->active) == s) return (int)s;
        atomic_fetch_sub(&g->side[s].readers, 1);
    }
}

void tg_deferred_free_exit(struct tg_deferred_free *g, int ticket)
{
    atomic_fetch_sub(&g->side[ticket].readers, 1);
}

/* Under the lock: if the inactive side is empty, everyone who entered before the last flip has
 * left. What was retired before that flip (aging) is unreachable; what is fresh starts aging with a
 * new flip. */
static struct tg_deferred_free_note *try_flip(struct tg_deferred_free *g)
{
    const unsigned s = atomic_load(&g->active);
    if (atomic_load(&g->side[1 - s].readers) != 0) return NULL;
    struct tg_deferred_free_note *done = g->aging;
    g->aging = g->fresh;
    g->fresh = NULL;
    atomic_store(&g->active, 1 - s);
    return done;
}

size_t tg_deferred_free_poll(struct tg_deferred_free *g)
{
    if (atomic_load_explicit(&g->n_waiting_hint, memory_order_relaxed) == 0) return 0;
    (void)pthread_mutex_lock(&g->lock);
    struct tg_deferred_free_note *done = try_flip(g);
    (void)pthread_mutex_unlock(&g->lock);
    const size_t n = run_notes(done);
    (void)pthread_mutex_lock(&g->lock);
    g->n_waiting -= n;
    const size_t waiting = g->n_waiting;
    atomic_store(&g->n_waiting_hint, waiting);
    (void)pthread_mutex_unlock(&g->lock);
    return waiting;
}

void tg_deferred_free_retire_note(struct tg_deferred_free *g, struct tg_deferred_free_note *note,
                                  void *p, void (*fn)(void *p))
{
    note->p = p;
    note->fn = fn;
    (void)pthread_mutex_lock(&g->lock);
    note->next = g->fresh;
    g->fresh = note;
    g->n_waiting++;
    atomic_store(&g->n_waiting_hint, g->n_waiting);
    (void)pthread_mutex_unlock(&g->lock);
}

static void run_own_note(void *p)
{
    struct note *n = p;
    n->fn(n->p);
    tg_free(n);
}

void tg_deferred_free_retire(struct tg_deferred_free *g, void *p, void (*fn)(void *p))
{
    struct note *n = tg_malloc(sizeof(*n));
    if (!n) {
        /* No memory for the note: wait until both sides have drained once. */
        for (int flips = 0; flips < 2;) {
            (void)pthread_mutex_lock(&g->lock);
            const unsigned before = atomic_load(&g->active);
            struct tg_deferred_free_note *done = try_flip(g);
            flips += atomic_load(&g->active) != before;
            (void)pthread_mutex_unlock(&g->lock);
            const size_t freed = run_notes(done);
            (void)pthread_mutex_lock(&g->lock);
            g->n_waiting -= freed;
            (void)pthread_mutex_unlock(&g->lock);
            (void)sched_yield();
        }
        fn(p);
        return;
    }
    n->p = p;
    n->fn = fn;
    tg_deferred_free_retire_note(g, &n->base, n, run_own_note);
}
