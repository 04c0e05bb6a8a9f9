#include "core/lua/modules.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char buf_meta[] = "tidegate.buf";

static int tgl_buf_gc(lua_State *L)
{
    tg_buf_deinit(luaL_checkudata(L, 1, buf_meta));
    return 0;
}

struct tg_buf *tgl_buf_push(lua_State *L, size_t max_bytes)
{
    struct tg_buf *b = lua_newuserdata(L, sizeof(*b));
    tg_buf_init(b, max_bytes);
    if (luaL_newmetatable(L, buf_meta)) {
        lua_pushcfunction(L, tgl_buf_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return b;
}

int tgl_fail(lua_State *L, const struct tg_err *err)
{
    lua_pushnil(L);
    lua_pushstring(L, err->msg);
    return 2;
}

/* The folder that holds "tidegate/testing.lua"; NULL when there is none. */
static const char *find_library(char *out, size_t cap)
{
    char program[1024] = "";
    const ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (n > 0) program[n] = '\0';
    char *slash = strrchr(program, '/');
    if (slash) *slash = '\0';
    char installed[1100];
    (void)snprintf(installed, sizeof(installed), "%s/../share/tidegate/lua", program);
    const char *const folders[] = {getenv("TIDEGATE_LUA_PATH"), TG_SOURCE_DIR "/lua", installed};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        if (!folders[i] || !folders[i][0]) continue;
        char probe[1200];
        const int len = snprintf(probe, sizeof(probe), "%s/tidegate/testing.lua", folders[i]);
        if (len < 0 || (size_t)len >= sizeof(probe) || access(probe, R_OK) != 0) continue;
        (void)snprintf(out, cap, "%s", folders[i]);
        return out;
    }
    return NULL;
}

void tgl_modules_register(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, tgl_codec_open);
    lua_setfield(L, -2, "tidegate.codec_core");
    lua_pushcfunction(L, tgl_rules_open);
    lua_setfield(L, -2, "tidegate.rules_core");
    lua_pop(L, 1);
    char folder[1100];
    if (find_library(folder, sizeof(folder))) {
        lua_getfield(L, -1, "path");
        lua_pushfstring(L, "%s/?.lua;%s", folder, lua_tostring(L, -1));
        lua_setfield(L, -3, "path");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}
