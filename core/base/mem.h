/* mem.h: the one door to the heap: counts, caps, and can fail the n-th call for tests.
 *
 * The same functions are handed to libraries that take an allocator (protobuf-c, libevent,
 * lua_newstate via its own wrapper), so "memory used" in /metrics means all of it. Sizes are what
 * malloc really reserved.
 *
 * Threading: all functions may be called from any thread. Counters are relaxed atomics.
 */
#ifndef TG_BASE_MEM_H
#define TG_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL on refusal (cap reached, system out of memory, injected failure). Zero sizes give a unique
 * pointer. */
void *tg_malloc(size_t size) __attribute__((malloc));
void *tg_calloc(size_t n, size_t size) __attribute__((malloc)); /* overflow-checked */
void *tg_realloc(void *p, size_t size);
void *tg_reallocarray(void *p, size_t n, size_t size); /* overflow-checked */
char *tg_strndup(const char *s, size_t len);           /* returns owned, NUL-terminated */
void tg_free(void *p);                                 /* NULL accepted */

/* As the above, counted, but refused neither by the cap nor by a test: for libraries that crash
 * when an allocation fails (libcurl divides by zero). What they use must be bounded some other way.
 */
void *tg_malloc_always(size_t size);
void *tg_calloc_always(size_t n, size_t size);
void *tg_realloc_always(void *p, size_t size);

uint64_t tg_mem_used(void); /* bytes now held through this module */
void tg_mem_set_limit(
    uint64_t max_bytes); /* 0 = none. Allocations that would pass it are refused. */
uint64_t tg_mem_limit(void);

/* Test hook: the n-th allocation from now (1 = the next) fails, once; 0 switches off. Process-wide.
 */
void tg_mem_fail_at(uint64_t n);
bool tg_mem_fail_fired(void); /* whether the failure set last has happened */

#endif
