/* deferred_free.h: deferred freeing for structures that are read without locks (series table,
 * plans).
 *
 * A reader enters a guard before it loads shared pointers and exits when it holds none of them any
 * more; it may enter on one thread and exit on another (a batch carries its guard through queues).
 * A writer unlinks an object, then retires it: the free runs after every guard that was entered
 * before the retire has been exited.
 *
 *   readers:  enter ---- load, use ---- exit
 *   writer:          unlink  retire ..................free
 *
 * Two counters, used in turn (as in sleepable RCU): `poll` flips the side in use when the other
 * side is empty, and an object is freed two flips after its retire. Holding a guard for long delays
 * freeing, nothing else: things that wait without bound (a backend that is down) must not hold one.
 *
 * Threading: enter/exit/retire from any thread; `poll` from any thread (one at a time inside).
 */
#ifndef TG_BASE_DEFERRED_FREE_H
#define TG_BASE_DEFERRED_FREE_H

#include <stddef.h>
#include <stdint.h>

struct tg_deferred_free;

struct tg_deferred_free *tg_deferred_free_new(void);    /* NULL when out of memory */
void tg_deferred_free_free(struct tg_deferred_free *g); /* frees everything retired; no reader may
                                                           be inside. NULL accepted. */

int tg_deferred_free_enter(struct tg_deferred_free *g); /* returns the ticket for exit */
void tg_deferred_free_exit(struct tg_deferred_free *g, int ticket);

/* Runs `fn(p)` when no reader can still see p. Never fails: with no memory for the note it waits
 * for the readers (do not call inside a guard entered by this thread in that case: so never call it
 * inside one). */
void tg_deferred_free_retire(struct tg_deferred_free *g, void *p, void (*fn)(void *p));

/* As above with a note that lies in the caller's storage, usually in the retired object itself: for
 * those who are inside the guard or must not fail. `fn` runs once and may free the note. */
struct tg_deferred_free_note {
    struct tg_deferred_free_note *next;
    void *p;
    void (*fn)(void *p);
};
void tg_deferred_free_retire_note(struct tg_deferred_free *g, struct tg_deferred_free_note *note,
                                  void *p, void (*fn)(void *p));

/* Frees what has become free. Cheap when nothing is retired. Call now and then. Returns how many
 * are still waiting. */
size_t tg_deferred_free_poll(struct tg_deferred_free *g);

#endif
