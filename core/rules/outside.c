#include "core/rules/outside.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "core/rules/iterate.h"

/* A stand-in's userdata; its environment is the table. */
struct stand_in {
    bool is_own; /* the environment is the run's copy */
};

/* Registry, by address. */
static const char meta_key = 0;    /* of all stand-ins */
static const char vars_key = 0;    /* { function, index of its upvalue, ... } */
static const char values_key = 0;  /* the value of the i-th of them; nil is absent */
static const char touched_key = 0; /* { stand-in, its table as loaded, ... } */

/* --- stand-ins --- */

bool tgl_is_stand_in(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return false;
    tgl_reg_get(L, &meta_key);
    const bool is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is;
}

const char *tgl_type_name(lua_State *L, int index)
{
    return tgl_is_stand_in(L, index) ? "table" : luaL_typename(L, index);
}

static void note_stray(lua_State *L, struct tg_vm *vm)
{
    if (vm->stray[0]) return;
    lua_Debug ar;
    int line = 0;
    for (int level = 1; level < 12 && line <= 0 && lua_getstack(L, level, &ar); level++)
        if (lua_getinfo(L, "l", &ar)) line = ar.currentline;
    int n = snprintf(vm->stray, sizeof(vm->stray), "%s", vm->names[vm->rule]);
    if (line > 0) n += snprintf(vm->stray + n, sizeof(vm->stray) - (size_t)n, ":%d", line);
    (void)snprintf(vm->stray + n, sizeof(vm->stray) - (size_t)n,
                   ": writes to a table that was made outside of the function");
}

/* Gives the stand-in at `index`, which is positive, a copy of its table to write into. */
static void make_own(lua_State *L, int index)
{
    struct tg_vm *vm = tgl_vm(L);
    struct stand_in *s = lua_touserdata(L, index);
    if (s->is_own) return;
    luaL_checkstack(L, 8, "a table that was made outside of the function");
    note_stray(L, vm);
    lua_getfenv(L, index);
    const int from = lua_gettop(L);
    lua_newtable(L);
    uint64_t n = 0;
    for (lua_pushnil(L); lua_next(L, from); n++) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, from + 1);
    }
    tgl_charge(L, vm, n);
    tgl_reg_get(L, &touched_key);
    lua_pushvalue(L, index);
    lua_rawseti(L, -2, vm->n_touched * 2 + 1);
    lua_pushvalue(L, from);
    lua_rawseti(L, -2, vm->n_touched * 2 + 2);
    vm->n_touched++;
    lua_pop(L, 1);
    lua_setfenv(L, index);
    s->is_own = true;
    lua_settop(L, from - 1);
}

void tgl_see_through(lua_State *L, int index, bool to_write)
{
    if (!tgl_is_stand_in(L, index)) return;
    if (to_write) make_own(L, index);
    lua_getfenv(L, index);
    lua_replace(L, index);
}

static int tgl_stand_in_index(lua_State *L)
{
    lua_settop(L, 2);
    lua_getfenv(L, 1);
    lua_insert(L, 2);
    lua_rawget(L, 2);
    return 1;
}

static int tgl_stand_in_newindex(lua_State *L)
{
    lua_settop(L, 3);
    make_own(L, 1);
    lua_getfenv(L, 1);
    lua_insert(L, 2);
    lua_rawset(L, 2);
    return 0;
}

static int tgl_stand_in_len(lua_State *L)
{
    lua_getfenv(L, 1);
    lua_pushinteger(L, (lua_Integer)lua_objlen(L, -1));
    return 1;
}

void tgl_outside_register(lua_State *L)
{
    lua_createtable(L, 0, 4);
    lua_pushcfunction(L, tgl_stand_in_index);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, tgl_stand_in_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, tgl_stand_in_len);
    lua_setfield(L, -2, "__len");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    tgl_reg_set(L, &meta_key);
    lua_newtable(L);
    tgl_reg_set(L, &touched_key);
}

/* --- sealing --- */

/* Stack slots of tgl_outside_seal. */
enum { QUEUE = 1, SEEN, VARS, VALUES, SEAL_SLOTS = VALUES };

struct seal {
    int n_queued, n_done, n_vars;
    bool keeps_iterator;
};

/* What the value on top is to be replaced by, in its place: tables by their stand-ins. Tables and
 * functions met for the first time are put into the queue. */
static void meet(lua_State *L, struct seal *s)
{
    const int type = lua_type(L, -1);
    if (type == LUA_TFUNCTION && tgl_is_iterator(L, -1)) s->keeps_iterator = true;
    if (type != LUA_TTABLE && (type != LUA_TFUNCTION || lua_iscfunction(L, -1))) return;
    lua_pushvalue(L, -1);
    lua_rawget(L, SEEN);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_rawseti(L, QUEUE, ++s->n_queued);
        if (type == LUA_TTABLE) {
            struct stand_in *in = lua_newuserdata(L, sizeof(*in));
            in->is_own = false;
            lua_pushvalue(L, -2);
            lua_setfenv(L, -2);
            tgl_reg_get(L, &meta_key);
            lua_setmetatable(L, -2);
        } else {
            lua_pushvalue(L, -1);
        }
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, SEEN);
    }
    lua_remove(L, -2);
}

/* The function on top: what its variables hold, and which they are. A variable that two functions
 * share is noted once. */
static void seal_function(lua_State *L, struct seal *s)
{
    const int function = lua_gettop(L);
    for (int i = 1; lua_getupvalue(L, function, i); i++) {
        meet(L, s);
        lua_pushvalue(L, -1);
        (void)lua_setupvalue(L, function, i);
        lua_pushlightuserdata(L, lua_upvalueid(L, function, i));
        lua_rawget(L, SEEN);
        const bool is_known = !lua_isnil(L, -1);
        lua_pop(L, 1);
        if (!is_known) {
            lua_pushlightuserdata(L, lua_upvalueid(L, function, i));
            lua_pushboolean(L, 1);
            lua_rawset(L, SEEN);
            lua_pushvalue(L, -1);
            lua_rawseti(L, VALUES, s->n_vars + 1);
            lua_pushvalue(L, function);
            lua_rawseti(L, VARS, s->n_vars * 2 + 1);
            lua_pushinteger(L, i);
            lua_rawseti(L, VARS, s->n_vars * 2 + 2);
            s->n_vars++;
        }
        lua_pop(L, 1);
    }
}

/* The table on top: its values in place; keys that are tables afterwards, for a table must not get
 * new keys while it is walked. */
static void seal_table(lua_State *L, struct seal *s)
{
    const int table = lua_gettop(L);
    bool has_table_keys = false;
    for (lua_pushnil(L); lua_next(L, table);) {
        if (lua_type(L, -1) == LUA_TTABLE || lua_type(L, -1) == LUA_TFUNCTION) {
            meet(L, s);
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, table);
        } else {
            lua_pop(L, 1);
        }
        has_table_keys |= lua_type(L, -1) == LUA_TTABLE;
        if (lua_type(L, -1) == LUA_TFUNCTION) {
            lua_pushvalue(L, -1);
            meet(L, s);
            lua_pop(L, 1);
        }
    }
    if (!has_table_keys) return;
    lua_newtable(L); /* the new keys with their values */
    for (lua_pushnil(L); lua_next(L, table);) {
        if (lua_type(L, -2) != LUA_TTABLE) {
            lua_pop(L, 1);
            continue;
        }
        lua_pushvalue(L, -2);
        meet(L, s);
        lua_insert(L, -2);
        lua_rawset(L, table + 1);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, table); /* an existing key may be cleared */
    }
    for (lua_pushnil(L); lua_next(L, table + 1);) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, table);
    }
    lua_pop(L, 1);
}

enum tg_code tgl_outside_seal(lua_State *L, struct tg_vm *vm)
{
    struct seal s = {.n_queued = 0};
    lua_settop(L, 0);
    for (int i = 0; i < SEAL_SLOTS; i++) lua_newtable(L);
    for (unsigned rule = 0; rule < TG_RULES; rule++) {
        vm->vars_end[rule] = s.n_vars;
        if (vm->ref_rules[rule] == LUA_NOREF) continue;
        vm->rule = (enum tg_rule_no)rule;
        lua_rawgeti(L, LUA_REGISTRYINDEX, vm->ref_rules[rule]);
        meet(L, &s);
        lua_pop(L, 1);
        while (s.n_done < s.n_queued) {
            lua_rawgeti(L, QUEUE, ++s.n_done);
            if (lua_type(L, -1) == LUA_TTABLE)
                seal_table(L, &s);
            else
                seal_function(L, &s);
            lua_pop(L, 1);
        }
        if (s.keeps_iterator) {
            tg_vm_set_error(vm, 0,
                            "keeps what gmatch() or pairs() gave outside of the function, which "
                            "would go on from series to series; call it inside");
            return TG_ERR_INVALID;
        }
        vm->vars_end[rule] = s.n_vars;
    }
    lua_settop(L, SEAL_SLOTS);
    tgl_reg_set(L, &values_key);
    tgl_reg_set(L, &vars_key);
    lua_settop(L, 0);
    return TG_OK;
}

/* --- restoring --- */

static void note_variable(lua_State *L, struct tg_vm *vm, int function, const char *name)
{
    if (vm->stray[0]) return;
    const int line = tgl_function_line(L, function);
    (void)snprintf(vm->stray, sizeof(vm->stray),
                   "%s: the function at line %d assigns %.60s, a variable from outside of it",
                   vm->names[vm->rule], line, name);
}

static bool is_nan(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TNUMBER) return false;
    const lua_Number v = lua_tonumber(L, index);
    return v != v;
}

/* Those of the script that ran: no other can reach them. */
static void restore_variables(lua_State *L, struct tg_vm *vm)
{
    const int first = vm->rule > 0 ? vm->vars_end[vm->rule - 1] : 0;
    if (first == vm->vars_end[vm->rule]) return;
    tgl_reg_get(L, &vars_key);
    tgl_reg_get(L, &values_key);
    const int vars = lua_gettop(L) - 1;
    const int values = vars + 1;
    for (int i = first; i < vm->vars_end[vm->rule]; i++) {
        lua_rawgeti(L, vars, i * 2 + 1);
        lua_rawgeti(L, vars, i * 2 + 2);
        const int index = (int)lua_tointeger(L, -1);
        lua_pop(L, 1);
        const char *name = lua_getupvalue(L, -1, index);
        lua_rawgeti(L, values, i + 1);
        const bool both_nan = is_nan(L, -1) && is_nan(L, -2);
        if (!lua_rawequal(L, -1, -2) && !both_nan) {
            note_variable(L, vm, values + 1, name ? name : "?");
            (void)lua_setupvalue(L, values + 1, index);
        }
        lua_settop(L, values);
    }
    lua_settop(L, vars - 1);
}

static void restore_tables(lua_State *L, struct tg_vm *vm)
{
    tgl_reg_get(L, &touched_key);
    const int touched = lua_gettop(L);
    for (; vm->n_touched > 0; vm->n_touched--) {
        const int at = vm->n_touched * 2 - 1;
        lua_rawgeti(L, touched, at);
        struct stand_in *s = lua_touserdata(L, -1);
        lua_rawgeti(L, touched, at + 1);
        (void)lua_setfenv(L, -2);
        if (s) s->is_own = false;
        lua_pop(L, 1);
        lua_pushnil(L);
        lua_rawseti(L, touched, at);
        lua_pushnil(L);
        lua_rawseti(L, touched, at + 1);
    }
    lua_settop(L, touched - 1);
}

void tgl_outside_restore(lua_State *L, struct tg_vm *vm)
{
    if (vm->n_touched > 0) restore_tables(L, vm);
    restore_variables(L, vm);
}
