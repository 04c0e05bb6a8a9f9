/* arena.h: bump allocation freed all at once; named by lifetime where it is made (request,
 * connection, generation).
 *
 *   head -> [block | used ... free ] -> [block] -> [block]
 *
 * `reset` keeps the largest block so that a request arena stops allocating after warm-up.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_BASE_ARENA_H
#define TG_BASE_ARENA_H

#include <stddef.h>

struct tg_arena_block;
struct tg_arena {
    struct tg_arena_block *head;
    size_t used_bytes; /* handed out since the last reset */
    size_t max_bytes;  /* refuse beyond; 0 = no bound of its own */
};

void tg_arena_init(struct tg_arena *a, size_t max_bytes);
void tg_arena_deinit(struct tg_arena *a);
void tg_arena_reset(struct tg_arena *a);

/* 16-byte aligned, uninitialised. NULL when the bound or the heap refuses. */
void *tg_arena_alloc(struct tg_arena *a, size_t size);
void *tg_arena_calloc(struct tg_arena *a, size_t n, size_t size);
/* Copies `len` bytes and adds a NUL. */
char *tg_arena_strndup(struct tg_arena *a, const char *s, size_t len);

#endif
