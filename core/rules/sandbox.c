/* The global names of a rule: an allow-list.
 *
 * A script's environment is an empty table whose metatable looks names up in the table of allowed
 * ones, so every assignment to a global reaches __newindex. The libraries are userdata (not
 * tables), so no table function can write into them; their functions live in tables that a rule
 * cannot get hold of. Left out, and why: everything that reaches outside (io, os, require, load),
 * sees inside (debug, getfenv, string.dump), attaches behaviour (setmetatable, newproxy), keeps
 * threads (coroutine: a decision is one call), runs inside a hook (an xpcall handler runs where the
 * error was raised; for a budget error that is inside the hook, where no further hook fires), or
 * makes decisions unstable (math.random, os.time, addresses from tostring).
 */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "core/base/option.h"
#include "core/rules/iterate.h"
#include "core/rules/outside.h"
#include "core/rules/sha256.h"
#include "core/rules/vm.h"

static const char *const global_names[] = {"assert",
                                           "error",
                                           "ipairs",
                                           "next",
                                           "pairs",
                                           "pcall",
                                           "select",
                                           "string",
                                           "table",
                                           "math",
                                           "bit",
                                           "tonumber",
                                           "type",
                                           "unpack",
                                           "hash",
                                           "tostring",
                                           "to",
                                           "drop",
                                           "keep",
                                           "logged",
                                           "all",
                                           "primary_only",
                                           "primary_with_async_replication"};

static const char *const refused_names[] = {
    "_G",     "collectgarbage", "coroutine",  "debug",        "dofile",
    "ffi",    "getfenv",        "io",         "getmetatable", "jit",
    "load",   "loadfile",       "loadstring", "module",       "newproxy",
    "os",     "package",        "print",      "rawequal",     "rawget",
    "rawset", "xpcall",         "require",    "setfenv",      "setmetatable",
    "rawlen",
};

static const char *key_text(lua_State *L, int index, char *buf, size_t cap)
{
    if (lua_type(L, index) == LUA_TSTRING) {
        size_t len;
        const char *s = lua_tolstring(L, index, &len);
        return tg_quote(buf, cap, s, len);
    }
    (void)snprintf(buf, cap, "(a %s)", luaL_typename(L, index));
    return buf;
}

static int tgl_global_unknown(lua_State *L)
{
    char q[64];
    key_text(L, 2, q, sizeof(q));
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    for (size_t i = 0; i < sizeof(refused_names) / sizeof(refused_names[0]); i++)
        if (strcmp(name, refused_names[i]) == 0)
            return tgl_error(L,
                             "%s is not available in rules: a rule is a function of its series "
                             "and of nothing else",
                             q);
    const char *near =
        tg_nearest_name(name, global_names, sizeof(global_names) / sizeof(global_names[0]));
    if (near) return tgl_error(L, "there is no %s; did you mean \"%s\"?", q, near);
    return tgl_error(L, "there is no %s; a name of your own needs \"local\" before its first use",
                     q);
}

static int tgl_global_assign(lua_State *L)
{
    char q[64];
    key_text(L, 2, q, sizeof(q));
    return tgl_error(L,
                     "%s would be a global; write \"local\" before it (rules keep nothing "
                     "between series)",
                     q);
}

static int tgl_library_unknown(lua_State *L)
{
    char q[64];
    return tgl_error(L, "%s is not in the %s functions that rules have",
                     key_text(L, 2, q, sizeof(q)), lua_tostring(L, lua_upvalueindex(1)));
}

static int tgl_library_assign(lua_State *L)
{
    return tgl_error(L, "the %s functions are read-only", lua_tostring(L, lua_upvalueindex(1)));
}

/* Text of a value without addresses, which would differ from VM to VM. */
static int tgl_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    switch (lua_type(L, 1)) {
    case LUA_TNUMBER:
    case LUA_TSTRING:
        lua_settop(L, 1);
        (void)lua_tostring(L, 1);
        return 1;
    case LUA_TBOOLEAN: lua_pushstring(L, lua_toboolean(L, 1) ? "true" : "false"); return 1;
    default: lua_pushstring(L, tgl_type_name(L, 1)); return 1;
    }
}

/* hash(value, n): the first n hex digits of SHA-256; nil stays nil. */
static int tgl_hash(lua_State *L)
{
    static const char hex[] = "0123456789abcdef";
    if (lua_isnoneornil(L, 1)) {
        lua_pushnil(L);
        return 1;
    }
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    const lua_Integer n = luaL_optinteger(L, 2, 16);
    if (n < 1 || n > 64) return tgl_error(L, "hash() gives 1 to 64 hex digits, not %ld", (long)n);
    tgl_charge(L, tgl_vm(L), len / 16);
    uint8_t digest[32];
    tg_sha256(s, len, digest);
    char text[64];
    for (size_t i = 0; i < 32; i++) {
        text[i * 2] = hex[digest[i] >> 4];
        text[i * 2 + 1] = hex[digest[i] & 15];
    }
    lua_pushlstring(L, text, (size_t)n);
    return 1;
}

/* pcall(f, ...). It passes on what a rule may not catch: a used-up budget, running out of memory,
 * and a full Lua stack. The last because a hook needs room on the stack: with LuaJIT's pcall, a
 * rule that loops at the very end of the stack keeps the hook from ever running. */
static int tgl_pcall(lua_State *L)
{
    struct tg_vm *vm = tgl_vm(L);
    luaL_checkany(L, 1);
    const int rc = tgl_call_back(L, vm, lua_gettop(L) - 1, LUA_MULTRET);
    if (rc == 0) {
        lua_pushboolean(L, 1);
        lua_insert(L, 1);
        return lua_gettop(L);
    }
    const bool is_text = lua_type(L, -1) == LUA_TSTRING;
    if (rc != LUA_ERRRUN || vm->overrun != TG_OVERRUN_NONE || vm->heap.refused ||
        (is_text && strstr(lua_tostring(L, -1), "stack overflow")))
        return lua_error(L);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

static void copy_fields(lua_State *L, int from, int to, const char *const *names)
{
    for (; *names; names++) {
        lua_getfield(L, from, *names);
        lua_setfield(L, to, *names);
    }
}

static void push_with_name(lua_State *L, lua_CFunction f, const char *name)
{
    lua_pushstring(L, name);
    lua_pushcclosure(L, f, 1);
}

/* Turns the table of functions on top into a read-only library, set as `name` in the table below.
 * Leaves the stack without it. */
static void seal_library(lua_State *L, const char *name)
{
    lua_createtable(L, 0, 1);
    push_with_name(L, tgl_library_unknown, name);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);

    (void)lua_newuserdata(L, 1);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    push_with_name(L, tgl_library_assign, name);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_setfield(L, -3, name);
    lua_pop(L, 1);
}

static void clear_table(lua_State *L, int index)
{
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, index);
    }
}

void tgl_sandbox_push_env(lua_State *L)
{
    static const char *const base[] = {"assert", "error", "select", "tonumber", NULL};
    static const char *const string[] = {"byte",    "char", "len",   "lower", "rep",
                                         "reverse", "sub",  "upper", NULL};
    static const char *const table[] = {NULL};
    static const char *const math[] = {
        "abs",   "acos", "asin",  "atan", "atan2", "ceil", "cos",   "cosh", "deg", "exp",
        "floor", "fmod", "frexp", "huge", "ldexp", "log",  "log10", "max",  "min", "modf",
        "pi",    "pow",  "rad",   "sin",  "sinh",  "sqrt", "tan",   "tanh", NULL};
    static const char *const bits[] = {"arshift", "band",   "bnot", "bor", "bswap",
                                       "bxor",    "lshift", "rol",  "ror", "rshift",
                                       "tobit",   "tohex",  NULL};
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    const int globals = lua_gettop(L);
    lua_newtable(L); /* the allowed names */
    const int allowed = lua_gettop(L);
    copy_fields(L, globals, allowed, base);
    lua_pushcfunction(L, tgl_pcall);
    lua_setfield(L, allowed, "pcall");
    lua_pushcfunction(L, tgl_next);
    lua_setfield(L, allowed, "next");
    lua_pushcfunction(L, tgl_pairs);
    lua_setfield(L, allowed, "pairs");
    lua_pushcfunction(L, tgl_ipairs);
    lua_setfield(L, allowed, "ipairs");
    tgl_table_register_globals(L, globals);
    lua_pushcfunction(L, tgl_tostring);
    lua_setfield(L, allowed, "tostring");
    lua_pushcfunction(L, tgl_hash);
    lua_setfield(L, allowed, "hash");
    tgl_verdict_register(L);

    const struct {
        const char *name;
        const char *const *functions;
    } libraries[] = {{"string", string}, {"table", table}, {"math", math}, {"bit", bits}};
    for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
        lua_getfield(L, globals, libraries[i].name);
        lua_newtable(L);
        copy_fields(L, lua_gettop(L) - 1, lua_gettop(L), libraries[i].functions);
        if (i == 0) {
            tgl_string_register(L, lua_gettop(L) - 1);
            lua_pushliteral(L, ""); /* ("x"):find() looks here */
            (void)lua_getmetatable(L, -1);
            lua_pushvalue(L, -3);
            lua_setfield(L, -2, "__index");
            lua_pop(L, 2);
        } else if (i == 1) {
            tgl_table_register(L, lua_gettop(L) - 1);
        }
        lua_remove(L, -2); /* LuaJIT's own table of the library */
        seal_library(L, libraries[i].name);
    }

    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, tgl_global_unknown);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, allowed);

    lua_newtable(L); /* the environment */
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, allowed);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, tgl_global_assign);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);

    /* Nothing reaches these two any more; emptied so that nothing ever does. */
    clear_table(L, globals);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    if (lua_istable(L, -1)) clear_table(L, lua_gettop(L));
    lua_pop(L, 1);
    lua_replace(L, globals); /* leaves the environment alone */
    lua_settop(L, globals);
}
