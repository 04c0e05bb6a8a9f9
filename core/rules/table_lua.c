/* The table functions and unpack of rules, and type: they know stand-ins (outside.h). */
#include <lauxlib.h>

#include "core/rules/outside.h"
#include "core/rules/vm.h"

/* LuaJIT's own function, upvalue 1, with the table behind its first argument; upvalue 2: it writes.
 */
static int tgl_table_call(lua_State *L)
{
    luaL_checkany(L, 1);
    tgl_see_through(L, 1, lua_toboolean(L, lua_upvalueindex(2)));
    const int n = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L);
}

/* table.insert(list, [pos,] value). LuaJIT's own takes any position and shifts from there, which
 * for a very low one is a loop of 2^31 steps inside one call. */
static int tgl_table_insert(lua_State *L)
{
    tgl_see_through(L, 1, true);
    luaL_checktype(L, 1, LUA_TTABLE);
    const size_t n = lua_objlen(L, 1);
    if (lua_gettop(L) == 2) {
        lua_rawseti(L, 1, (int)n + 1);
        return 0;
    }
    if (lua_gettop(L) != 3) return tgl_error(L, "table.insert takes two or three arguments");
    const lua_Number pos = luaL_checknumber(L, 2);
    if (!(pos >= 1 && pos <= (lua_Number)n + 1))
        return tgl_error(L, "table.insert: position %g is outside 1 to %zu", pos, n + 1);
    tgl_charge(L, tgl_vm(L), (n - (size_t)pos + 1) / 8);
    for (size_t i = n; i >= (size_t)pos; i--) {
        lua_rawgeti(L, 1, (int)i);
        lua_rawseti(L, 1, (int)i + 1);
    }
    lua_settop(L, 3);
    lua_rawseti(L, 1, (int)pos);
    return 0;
}

/* table.sort(list [, less]): LuaJIT's own, for lists of a bounded length. */
static int tgl_table_sort(lua_State *L)
{
    enum { MAX = 10000 };
    struct tg_vm *vm = tgl_vm(L);
    tgl_see_through(L, 1, true);
    luaL_checktype(L, 1, LUA_TTABLE);
    const size_t n = lua_objlen(L, 1);
    if (n > MAX) return tgl_error(L, "table.sort takes at most %d items, not %zu", (int)MAX, n);
    uint64_t cost = 1;
    for (size_t k = n; k > 0; k >>= 1) cost += n;
    tgl_charge(L, vm, cost);
    lua_settop(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    if (tgl_call_back(L, vm, 2, 0) != 0) lua_error(L);
    return 0;
}

static int tgl_type(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushstring(L, tgl_type_name(L, 1));
    return 1;
}

/* Field `name` of the table at `from`, wrapped, into the table at `to`. */
static void wrap(lua_State *L, int from, int to, const char *name, bool to_write)
{
    lua_getfield(L, from, name);
    lua_pushboolean(L, to_write);
    lua_pushcclosure(L, tgl_table_call, 2);
    lua_setfield(L, to, name);
}

void tgl_table_register(lua_State *L, int theirs)
{
    const int ours = lua_gettop(L);
    wrap(L, theirs, ours, "concat", false);
    wrap(L, theirs, ours, "maxn", false);
    wrap(L, theirs, ours, "remove", true);
    lua_pushcfunction(L, tgl_table_insert);
    lua_setfield(L, ours, "insert");
    lua_getfield(L, theirs, "sort");
    lua_pushcclosure(L, tgl_table_sort, 1);
    lua_setfield(L, ours, "sort");
}

void tgl_table_register_globals(lua_State *L, int theirs)
{
    const int ours = lua_gettop(L);
    wrap(L, theirs, ours, "unpack", false);
    lua_pushcfunction(L, tgl_type);
    lua_setfield(L, ours, "type");
}
