/* config_vm.c: runs gateway.lua in a VM of its own, bounded in memory and instructions. */
#include "core/config/config_loader.h"

#include <lauxlib.h>
#include <limits.h>
#include <luajit.h>
#include <lualib.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_LUA_BYTES = 16 << 20,
    MAX_INSTRUCTIONS = 20000000,
    HOOK_STEP = 1000,
};

static struct tg_config_loader *loader_of(lua_State *lua)
{
    char *heap = (char *)tg_lua_heap_of(lua);
    return (struct tg_config_loader *)(void *)(heap - offsetof(struct tg_config_loader, heap));
}

static void on_count(lua_State *lua, lua_Debug *ar)
{
    (void)ar;
    struct tg_config_loader *l = loader_of(lua);
    l->n_instructions += HOOK_STEP;
    if (l->n_instructions < MAX_INSTRUCTIONS) return;
    (void)luaL_error(lua,
                     "the configuration runs for too long (over %d instructions); is there an "
                     "endless loop?",
                     MAX_INSTRUCTIONS);
}

/* env(name [, default]): a missing variable is noted and reading goes on, so that all mistakes of a
 * file are said at once. */
static int tgl_config_env(lua_State *lua)
{
    struct tg_config_loader *l = loader_of(lua);
    const char *name = luaL_checkstring(lua, 1);
    const char *value = getenv(name);
    if (value) {
        lua_pushstring(lua, value);
        return 1;
    }
    if (lua_gettop(lua) >= 2) {
        lua_settop(lua, 2);
        return 1;
    }
    luaL_where(lua, 1);
    char msg[512];
    (void)snprintf(msg, sizeof(msg),
                   "%senv(\"%.100s\"): the environment variable %.100s is not set; set it, or give "
                   "a default: env(\"%.100s\", \"...\")",
                   lua_tostring(lua, -1), name, name, name);
    tg_config_add_text(l, msg);
    lua_pushliteral(lua, "");
    return 1;
}

static void open_sandbox(lua_State *lua)
{
    static const struct {
        const char *name;
        lua_CFunction open;
    } libs[] = {{"", luaopen_base},
                {LUA_STRLIBNAME, luaopen_string},
                {LUA_TABLIBNAME, luaopen_table},
                {LUA_MATHLIBNAME, luaopen_math}};
    for (size_t i = 0; i < sizeof(libs) / sizeof(libs[0]); i++) {
        lua_pushcfunction(lua, libs[i].open);
        lua_pushstring(lua, libs[i].name);
        lua_call(lua, 1, 0);
    }
    /* Allow-list: everything not named here goes. pcall is not needed by a table of settings, and
     * without it nothing can swallow the budget's error. */
    static const char *const allowed[] = {"assert", "error",    "ipairs", "next",   "pairs",
                                          "select", "tonumber", "type",   "unpack", "tostring",
                                          "string", "table",    "math",   NULL};
    lua_newtable(lua); /* the sandbox's globals */
    for (size_t i = 0; allowed[i]; i++) {
        lua_getglobal(lua, allowed[i]);
        lua_setfield(lua, -2, allowed[i]);
    }
    lua_getglobal(lua, "string");
    lua_pushnil(lua);
    lua_setfield(lua, -2, "dump");
    lua_pop(lua, 1);
    lua_pushcfunction(lua, tgl_config_env);
    lua_setfield(lua, -2, "env");
    (void)luaJIT_setmode(lua, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF); /* hooks need it off */
    lua_sethook(lua, on_count, LUA_MASKCOUNT, HOOK_STEP);
}

struct protected_call {
    struct tg_config_loader *l;
    struct tg_config *out;
    const char *chunk_name;
    size_t len;
};

/* Runs under lua_cpcall, so that memory refusals anywhere come back as an error. */
static int tgl_config_read(lua_State *lua)
{
    struct protected_call *call = lua_touserdata(lua, 1);
    struct tg_config_loader *l = call->l;
    open_sandbox(lua); /* pushes the globals */
    if (luaL_loadbufferx(lua, l->text, call->len, call->chunk_name, "t") != 0)
        return lua_error(lua);
    lua_insert(lua, -2);
    (void)lua_setfenv(lua, -2);
    lua_call(lua, 0, 1);
    lua_sethook(lua, NULL, 0, 0);
    if (lua_type(lua, -1) != LUA_TTABLE) {
        tg_config_add_error(
            l, NULL,
            "the file returns %s; it must return one table: return { listen = { ... }, "
            "backends = { ... } }",
            lua_type(lua, -1) == LUA_TNIL ? "nothing" : luaL_typename(lua, -1));
        return 0;
    }
    tg_config_read_root(l, lua, call->out);
    return 0;
}

/* Lua's messages name file and line, mostly. */
static void add_lua_error(struct tg_config_loader *l, const char *text)
{
    if (strncmp(text, l->path, strlen(l->path)) == 0)
        tg_config_add_text(l, text);
    else
        tg_config_add_error(l, NULL, "%s", text);
}

enum tg_code tg_config_run(struct tg_config_loader *l, size_t len, struct tg_config *out)
{
    char chunk_name[PATH_MAX + 1];
    (void)snprintf(chunk_name, sizeof(chunk_name), "@%s", l->path);
    struct protected_call call = {.l = l, .out = out, .chunk_name = chunk_name, .len = len};
    l->heap = (struct tg_lua_heap){.max_bytes = MAX_LUA_BYTES};
    lua_State *lua = tg_lua_heap_open(&l->heap);
    if (!lua) {
        tg_lua_heap_close(&l->heap, NULL);
        return TG_ERR_NOMEM;
    }
    const int rc = lua_cpcall(lua, tgl_config_read, &call);
    const char *why = rc != 0 && lua_isstring(lua, -1) ? lua_tostring(lua, -1) : "unknown error";
    /* A refusal while the text is compiled comes back as an ordinary error with this text. */
    const bool is_refused = rc == LUA_ERRMEM || strcmp(why, "not enough memory") == 0;
    if (rc != 0 && l->heap.process_refused)
        l->is_nomem = true;
    else if (is_refused)
        tg_config_add_error(l, NULL, "the configuration uses more than %d MiB of memory",
                            MAX_LUA_BYTES >> 20);
    else if (rc != 0)
        add_lua_error(l, why);
    tg_lua_heap_close(&l->heap, lua);
    return l->is_nomem ? TG_ERR_NOMEM : TG_OK;
}
