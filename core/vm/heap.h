/* heap.h: the memory of one Lua state: counted, capped, and with a first block that is there before
 * the state is.
 *
 *   boot: [ what lua_newstate took | unused ]     all else comes from tg_malloc
 *
 * LuaJIT crashes when memory runs out inside lua_newstate (it closes a state that is half made), so
 * that takes its blocks from `boot`.
 *
 * Threading: that of its state.
 */
#ifndef TG_VM_HEAP_H
#define TG_VM_HEAP_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tg_lua_heap {
    uint64_t used_bytes, max_bytes; /* beyond max_bytes an allocation is refused */
    size_t max_object_bytes;        /* a single object beyond it is refused; 0 = none is */
    int64_t *steps_left;  /* borrows: large objects are charged to it by the byte; NULL = free */
    bool refused;         /* an allocation was refused; the owner takes it back */
    bool process_refused; /* ... and not for the cap: by the process; the owner takes it back */
    char *boot;
    size_t boot_used;
    bool booting;
};

/* Makes the state. `*h` is zeroed storage with max_bytes set, which outlives the state. NULL when
 * out of memory. */
lua_State *tg_lua_heap_open(struct tg_lua_heap *h);
/* Closes the state (NULL accepted) and gives all of it back. */
void tg_lua_heap_close(struct tg_lua_heap *h, lua_State *L);
/* The heap of a state: no look-up. */
struct tg_lua_heap *tg_lua_heap_of(lua_State *L);

#endif
