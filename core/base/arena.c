#include "core/base/arena.h"

#include <stdint.h>
#include <string.h>

#include "core/base/mem.h"

enum { ALIGN = 16, BLOCK_MIN = 4096, BLOCK_MAX = 1 << 20 };

struct tg_arena_block {
    struct tg_arena_block *next;
    size_t cap;
    size_t used;
    size_t pad; /* keeps data 16-byte aligned */
    unsigned char data[];
};

void tg_arena_init(struct tg_arena *a, size_t max_bytes)
{
    *a = (struct tg_arena){.max_bytes = max_bytes};
}

void tg_arena_deinit(struct tg_arena *a)
{
    for (struct tg_arena_block *b = a->head; b;) {
        struct tg_arena_block *next = b->next;
        tg_free(b);
        b = next;
    }
    a->head = NULL;
    a->used_bytes = 0;
}

void tg_arena_reset(struct tg_arena *a)
{
    /* The head is always the newest and, by doubling, the largest ordinary block. */
    if (a->head) {
        for (struct tg_arena_block *b = a->head->next; b;) {
            struct tg_arena_block *next = b->next;
            tg_free(b);
            b = next;
        }
        a->head->next = NULL;
        a->head->used = 0;
        if (a->head->cap > BLOCK_MAX) {
            tg_free(a->head);
            a->head = NULL;
        }
    }
    a->used_bytes = 0;
}

void *tg_arena_alloc(struct tg_arena *a, size_t size)
{
    if (size > SIZE_MAX - BLOCK_MAX - ALIGN) return NULL;
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (size == 0) size = ALIGN;
    if (a->max_bytes && (size > a->max_bytes || a->used_bytes > a->max_bytes - size)) return NULL;
    struct tg_arena_block *b = a->head;
    if (!b || b->cap - b->used < size) {
        size_t cap = b ? b->cap * 2 : BLOCK_MIN;
        if (cap > BLOCK_MAX) cap = BLOCK_MAX;
        if (cap < size) cap = size;
        struct tg_arena_block *nb = tg_malloc(sizeof(*nb) + cap);
        if (!nb) return NULL;
        nb->next = b;
        nb->cap = cap;
        nb->used = 0;
        a->head = b = nb;
    }
    void *p = b->data + b->used;
    b->used += size;
    a->used_bytes += size;
    return p;
}

void *tg_arena_calloc(struct tg_arena *a, size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) return NULL;
    void *p = tg_arena_alloc(a, total);
    if (p) memset(p, 0, total);
    return p;
}

char *tg_arena_strndup(struct tg_arena *a, const char *s, size_t len)
{
    if (len == SIZE_MAX) return NULL;
    char *p = tg_arena_alloc(a, len + 1);
    if (!p) return NULL;
    if (len) memcpy(p, s, len);
    p[len] = '\0';
    return p;
}
