#include "core/vm/heap.h"

#include <string.h>

#include "core/base/mem.h"

enum {
    BOOT_BYTES = 24 << 10, /* lua_newstate takes about half of it */
    FREE_OBJECT_BYTES = 4096,
    BYTES_PER_STEP = 64,
};

static bool in_boot_block(const struct tg_lua_heap *h, const void *p)
{
    return (uintptr_t)p - (uintptr_t)h->boot < BOOT_BYTES;
}

static void *boot_alloc(struct tg_lua_heap *h, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    if (!h->booting || size > BOOT_BYTES - h->boot_used) return NULL;
    void *p = h->boot + h->boot_used;
    h->boot_used += size;
    return p;
}

static void *resize(struct tg_lua_heap *h, void *p, size_t old_size, size_t new_size)
{
    if (p && !in_boot_block(h, p)) return tg_realloc(p, new_size);
    void *q = boot_alloc(h, new_size);
    if (!q) q = tg_malloc(new_size);
    if (p && q) memcpy(q, p, old_size < new_size ? old_size : new_size);
    return q;
}

/* A lua_Alloc. */
static void *allocate(void *heap, void *p, size_t old_size, size_t new_size)
{
    struct tg_lua_heap *h = heap;
    if (new_size == 0) {
        if (p && !in_boot_block(h, p)) tg_free(p);
        h->used_bytes -= old_size;
        return NULL;
    }
    if (!p) old_size = 0;
    if (new_size > old_size) {
        if (h->used_bytes + (new_size - old_size) > h->max_bytes ||
            (h->max_object_bytes && new_size > h->max_object_bytes)) {
            h->refused = true;
            return NULL;
        }
        /* Work on large values happens inside single instructions: charge it by the byte, or a
         * hundred of them would run before the hook looks. */
        if (h->steps_left && new_size > FREE_OBJECT_BYTES)
            *h->steps_left -= (int64_t)(new_size / BYTES_PER_STEP);
    }
    void *q = resize(h, p, old_size, new_size);
    if (!q) {
        if (!p || new_size > old_size) {
            h->refused = h->process_refused = true;
            return NULL;
        }
        q = p; /* Lua relies on shrinking: the larger block serves as well */
    }
    h->used_bytes += new_size;
    h->used_bytes -= old_size;
    return q;
}

lua_State *tg_lua_heap_open(struct tg_lua_heap *h)
{
    h->boot = tg_malloc(BOOT_BYTES);
    if (!h->boot) {
        h->refused = h->process_refused = true;
        return NULL;
    }
    h->booting = true;
    lua_State *L = lua_newstate(allocate, h);
    h->booting = false;
    return L;
}

void tg_lua_heap_close(struct tg_lua_heap *h, lua_State *L)
{
    if (L) lua_close(L);
    tg_free(h->boot);
    h->boot = NULL;
}

struct tg_lua_heap *tg_lua_heap_of(lua_State *L)
{
    void *heap;
    (void)lua_getallocf(L, &heap);
    return heap;
}
