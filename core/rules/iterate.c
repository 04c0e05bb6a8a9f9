#include "core/rules/iterate.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "core/rules/vm.h"

/* --- order --- */

/* A key as it is compared: small, for a walk holds one of each, and no value of a rule may pass
 * TG_VM_MAX_OBJECT_BYTES. */
struct key {
    union {
        lua_Number number; /* of a boolean, too */
        const char *text;
    };
    uint32_t len;
    uint32_t rank : 2; /* of its type; RANK_OTHER has no order */
    uint32_t at : 30;  /* in the list of keys, for pairs */
};
enum { RANK_NUMBER, RANK_TEXT, RANK_BOOLEAN, RANK_OTHER };

static struct key key_at(lua_State *L, int index)
{
    struct key k = {.number = 0, .rank = RANK_OTHER};
    size_t len = 0;
    switch (lua_type(L, index)) {
    case LUA_TNUMBER:
        k.rank = RANK_NUMBER;
        k.number = lua_tonumber(L, index);
        break;
    case LUA_TSTRING:
        k.rank = RANK_TEXT;
        k.text = lua_tolstring(L, index, &len);
        k.len = (uint32_t)len;
        break;
    case LUA_TBOOLEAN:
        k.rank = RANK_BOOLEAN;
        k.number = lua_toboolean(L, index);
        break;
    default: break;
    }
    return k;
}

/* Keys of one table are never equal, but for those without an order. */
static int compare(const void *a, const void *b)
{
    const struct key *x = a;
    const struct key *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->rank == RANK_TEXT) {
        const uint32_t n = x->len < y->len ? x->len : y->len;
        const int c = memcmp(x->text, y->text, n);
        return c ? c : (x->len > y->len) - (x->len < y->len);
    }
    if (x->rank == RANK_OTHER) return (x->at > y->at) - (x->at < y->at);
    return (x->number > y->number) - (x->number < y->number);
}

/* --- next --- */

/* The first key of the table at 3 that has no order, behind the one at 2 when that is such a key.
 */
static int next_other(lua_State *L, bool from_start)
{
    if (from_start)
        lua_pushnil(L);
    else
        lua_pushvalue(L, 2);
    while (lua_next(L, 3)) {
        if (key_at(L, -2).rank == RANK_OTHER) return 2;
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    return 1;
}

/* next(t [, key]): of all keys behind `key`, the first. It looks at all of them: pairs() does not.
 */
int tgl_next(lua_State *L)
{
    lua_settop(L, 2);
    tgl_push_table_behind(L, 1);
    const bool is_first = lua_isnil(L, 2);
    const struct key after = key_at(L, 2);
    if (!is_first && after.rank == RANK_OTHER) return next_other(L, false);
    struct key best = {.rank = RANK_OTHER};
    uint64_t n = 0;
    lua_pushnil(L); /* the best key so far, at 4 */
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1), n++) {
        const struct key k = key_at(L, -2);
        if (k.rank == RANK_OTHER || (!is_first && compare(&k, &after) <= 0)) continue;
        if (best.rank != RANK_OTHER && compare(&k, &best) >= 0) continue;
        best = k;
        lua_pushvalue(L, -2);
        lua_replace(L, 4);
    }
    tgl_charge(L, tgl_vm(L), n);
    if (best.rank == RANK_OTHER) return next_other(L, true);
    lua_pushvalue(L, 4);
    lua_rawget(L, 3);
    return 2;
}

/* --- pairs --- */

/* Upvalues: what is walked, its length when the walk began, the list of all other keys, their
 * order, and how many steps are done. */
enum { WALKED = 1, LENGTH, KEYS, ORDER, STEP };

/* Pushes key and value of step `i`; false: the key is gone. The table is on top. */
static bool push_pair(lua_State *L, int table, size_t length, size_t i)
{
    if (i < length) {
        lua_pushinteger(L, (lua_Integer)i + 1);
    } else {
        const struct key *order = lua_touserdata(L, lua_upvalueindex(ORDER));
        lua_rawgeti(L, lua_upvalueindex(KEYS), (int)order[i - length].at);
    }
    lua_pushvalue(L, -1);
    lua_rawget(L, table);
    if (!lua_isnil(L, -1)) return true;
    lua_pop(L, 2);
    return false;
}

static int tgl_pairs_step(lua_State *L)
{
    const size_t length = (size_t)lua_tointeger(L, lua_upvalueindex(LENGTH));
    const size_t n = length + lua_objlen(L, lua_upvalueindex(ORDER)) / sizeof(struct key);
    size_t i = (size_t)lua_tointeger(L, lua_upvalueindex(STEP));
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(WALKED));
    tgl_push_table_behind(L, 1);
    bool found = false;
    while (i < n && !found) found = push_pair(L, 2, length, i++);
    lua_pushinteger(L, (lua_Integer)i);
    lua_replace(L, lua_upvalueindex(STEP));
    return found ? 2 : 0;
}

/* Whether the key at `index` is one of 1 to length. */
static bool is_in_list(lua_State *L, int index, size_t length)
{
    if (lua_type(L, index) != LUA_TNUMBER) return false;
    const lua_Number v = lua_tonumber(L, index);
    return v >= 1 && v <= (lua_Number)length && v == (lua_Number)(size_t)v;
}

int tgl_pairs(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    tgl_push_table_behind(L, 1);
    const size_t length = lua_objlen(L, 2);
    size_t n = 0;
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) n += !is_in_list(L, -2, length);
    lua_createtable(L, (int)n, 0); /* 3 */
    struct key *order = lua_newuserdata(L, n * sizeof(*order));
    uint32_t at = 0;
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        if (is_in_list(L, -2, length)) continue;
        order[at] = key_at(L, -2);
        order[at].at = (at + 1) & UINT32_C(0x3fffffff);
        at++;
        lua_pushvalue(L, -2);
        lua_rawseti(L, 3, (int)at);
    }
    uint64_t cost = n;
    for (size_t k = n; k > 1; k >>= 1) cost += n / 4;
    tgl_charge(L, tgl_vm(L), cost);
    if (n > 1) qsort(order, n, sizeof(*order), compare);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, (lua_Integer)length);
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 4);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, tgl_pairs_step, 5);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

bool tgl_is_iterator(lua_State *L, int index)
{
    const lua_CFunction f = lua_tocfunction(L, index);
    return f == tgl_pairs_step || f == tgl_string_gmatch_next;
}

/* --- ipairs --- */

static int tgl_ipairs_step(lua_State *L)
{
    const int i = (int)luaL_checkinteger(L, 2) + 1;
    lua_settop(L, 1);
    tgl_push_table_behind(L, 1);
    lua_pushinteger(L, i);
    lua_rawgeti(L, 2, i);
    return lua_isnil(L, -1) ? 0 : 2;
}

int tgl_ipairs(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    tgl_push_table_behind(L, 1); /* raises for what is no table */
    lua_pushcfunction(L, tgl_ipairs_step);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    return 3;
}
