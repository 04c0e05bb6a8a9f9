/* The heap of a Lua state: counts, caps, what is charged, and memory that runs out at any
 * allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <lauxlib.h>

#include "core/base/mem.h"
#include "core/vm/heap.h"

enum { CAP = 4 << 20 };

/* Runs a text; false when it failed. */
static bool run(lua_State *L, const char *text)
{
    const bool ok = luaL_loadstring(L, text) == 0 && lua_pcall(L, 0, 0, 0) == 0;
    lua_settop(L, 0);
    return ok;
}

static void test_all_of_it_is_counted_and_given_back(void **state)
{
    (void)state;
    const uint64_t before = tg_mem_used();
    for (int round = 0; round < 2; round++) {
        struct tg_lua_heap h = {.max_bytes = CAP};
        lua_State *L = tg_lua_heap_open(&h);
        assert_non_null(L);
        assert_ptr_equal(tg_lua_heap_of(L), &h);
        const uint64_t empty = h.used_bytes;
        assert_true(empty > 0 && empty < CAP / 16);
        assert_true(run(L, "t = {} for i = 1, 10000 do t[i] = i .. 'x' end"));
        assert_true(h.used_bytes > empty + 100000);
        assert_true(run(L, "t = nil"));
        (void)lua_gc(L, LUA_GCCOLLECT, 0);
        assert_true(h.used_bytes < empty + 100000);
        assert_false(h.refused || h.process_refused);
        tg_lua_heap_close(&h, L);
        assert_int_equal(h.used_bytes, 0);
    }
    assert_int_equal(tg_mem_used(), before);
}

static void test_the_cap_is_an_error_that_a_script_sees_and_no_fault_of_the_process(void **state)
{
    (void)state;
    struct tg_lua_heap h = {.max_bytes = CAP};
    lua_State *L = tg_lua_heap_open(&h);
    assert_non_null(L);
    for (int round = 0; round < 2; round++) {
        h.refused = false;
        assert_false(run(L, "local t = {} while true do t[#t + 1] = {} end"));
        assert_true(h.refused);
        assert_false(h.process_refused);
        assert_true(h.used_bytes <= CAP);
        h.max_bytes = CAP + (1 << 20); /* the collector itself may need a little */
        (void)lua_gc(L, LUA_GCCOLLECT, 0);
        h.max_bytes = CAP;
        assert_true(run(L, "local a = 1"));
    }
    tg_lua_heap_close(&h, L);
}

static void test_large_objects_are_refused_or_charged(void **state)
{
    (void)state;
    struct tg_lua_heap h = {.max_bytes = CAP};
    int64_t steps = 100000;
    lua_State *L = tg_lua_heap_open(&h);
    assert_non_null(L);
    assert_true(run(L, "s = '0123456789abcdef' for i = 1, 12 do s = s .. s end")); /* 64 KiB */
    h.steps_left = &steps;
    assert_true(run(L, "local a = 'x' .. 'y'"));
    assert_int_equal(steps, 100000); /* small ones are free */
    assert_true(run(L, "local a = s .. 'y'"));
    assert_true(steps <= 100000 - (64 << 10) / 64);
    h.steps_left = NULL;
    h.max_object_bytes = 32 << 10;
    assert_false(run(L, "local a = s .. 'z'"));
    assert_true(h.refused);
    assert_true(run(L, "local a = 'x' .. 'z'"));
    tg_lua_heap_close(&h, L);
}

/* LuaJIT crashes when memory runs out inside lua_newstate: it never does there. */
static void test_memory_may_run_out_at_any_allocation(void **state)
{
    (void)state;
    const uint64_t before = tg_mem_used();
    unsigned n_opened = 0;
    bool fired = true;
    for (uint64_t n = 1; fired; n++) {
        struct tg_lua_heap h = {.max_bytes = CAP};
        tg_mem_fail_at(n);
        lua_State *L = tg_lua_heap_open(&h);
        if (L) n_opened++;
        const bool ok = L && run(L, "t = {} for i = 1, 100 do t[i] = i .. 'x' end");
        fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (fired) assert_true(h.refused && h.process_refused);
        if (!fired) assert_true(ok && !h.refused);
        tg_lua_heap_close(&h, L);
        assert_int_equal(tg_mem_used(), before);
    }
    assert_true(n_opened > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_it_is_counted_and_given_back),
        cmocka_unit_test(test_the_cap_is_an_error_that_a_script_sees_and_no_fault_of_the_process),
        cmocka_unit_test(test_large_objects_are_refused_or_charged),
        cmocka_unit_test(test_memory_may_run_out_at_any_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
