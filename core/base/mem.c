#include "core/base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t used;
static _Atomic uint64_t limit;
static _Atomic uint64_t fail_countdown;
static _Atomic bool fail_fired;

static bool refuse(size_t size)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) != 0 &&
        atomic_fetch_sub(&fail_countdown, 1) == 1) {
        atomic_store(&fail_fired, true);
        return true;
    }
    const uint64_t max = atomic_load_explicit(&limit, memory_order_relaxed);
    return max != 0 && atomic_load_explicit(&used, memory_order_relaxed) + size > max;
}

static void *counted(void *p)
{
    if (p) atomic_fetch_add_explicit(&used, malloc_usable_size(p), memory_order_relaxed);
    return p;
}

void *tg_malloc(size_t size)
{
    if (refuse(size)) return NULL;
    return counted(malloc(size ? size : 1));
}

void *tg_calloc(size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total) || refuse(total)) return NULL;
    return counted(calloc(1, total ? total : 1));
}

void *tg_malloc_always(size_t size)
{
    return counted(malloc(size ? size : 1));
}

void *tg_calloc_always(size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) return NULL;
    return counted(calloc(1, total ? total : 1));
}

void *tg_realloc(void *p, size_t size)
{
    return refuse(size) ? NULL : tg_realloc_always(p, size);
}

void *tg_realloc_always(void *p, size_t size)
{
    const size_t before = p ? malloc_usable_size(p) : 0;
    void *q = realloc(p, size ? size : 1);
    if (!q) return NULL;
    atomic_fetch_sub_explicit(&used, before, memory_order_relaxed);
    return counted(q);
}

void *tg_reallocarray(void *p, size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) return NULL;
    return tg_realloc(p, total);
}

char *tg_strndup(const char *s, size_t len)
{
    char *out = tg_malloc(len + 1);
    if (!out) return NULL;
    if (len) memcpy(out, s, len);
    out[len] = '\0';
    return out;
}

void tg_free(void *p)
{
    if (!p) return;
    atomic_fetch_sub_explicit(&used, malloc_usable_size(p), memory_order_relaxed);
    free(p);
}

uint64_t tg_mem_used(void)
{
    return atomic_load_explicit(&used, memory_order_relaxed);
}

void tg_mem_set_limit(uint64_t max_bytes)
{
    atomic_store(&limit, max_bytes);
}

uint64_t tg_mem_limit(void)
{
    return atomic_load(&limit);
}

void tg_mem_fail_at(uint64_t n)
{
    atomic_store(&fail_fired, false);
    atomic_store(&fail_countdown, n);
}

bool tg_mem_fail_fired(void)
{
    return atomic_load(&fail_fired);
}
