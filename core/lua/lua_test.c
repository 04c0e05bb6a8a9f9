#include "core/lua/lua_test.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/lua/modules.h"

enum { MAX_LUA_BYTES = 64 << 20 }; /* of a spec or a configuration */

static const char default_dir[] = "scripts/spec";
static const char exit_key = 0;

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* os.exit in specs and in busted: leaves through the runner, so that everything is closed. */
static int tgl_exit(lua_State *L)
{
    int code = 0;
    if (lua_isboolean(L, 1))
        code = lua_toboolean(L, 1) ? 0 : 1;
    else
        code = (int)luaL_optinteger(L, 1, 0);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&exit_key);
    lua_pushinteger(L, code);
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&exit_key);
    return lua_error(L);
}

static int tgl_traceback(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING) return 1;
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

/* loadfile of regular files only: of a FIFO, LuaJIT's waits for ever. As there, nil and why on
 * failure. */
static int tgl_loadfile(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct tg_err err = {.msg = "out of memory"};
    uint8_t *text = NULL;
    size_t len = 0;
    char chunk[1100];
    (void)snprintf(chunk, sizeof(chunk), "@%s", path);
    if (tg_fs_read_file(tg_fs_real(), path, MAX_LUA_BYTES, &text, &len, &err) != TG_OK)
        return tgl_fail(L, &err);
    const int rc = luaL_loadbuffer(L, (const char *)text, len, chunk);
    tg_free(text);
    if (rc == 0) return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

struct run {
    int argc;
    char **argv;
};

/* Is the word after this option its value? busted's options that take one. */
static bool takes_value(const char *option)
{
    static const char *const options[] = {
        "-o",       "--output",  "-p",           "--pattern",
        "-e",       "-t",        "--tags",       "-C",
        "-f",       "-r",        "--run",        "--exclude-tags",
        "-m",       "--lpath",   "--filter",     "--exclude-pattern",
        "--cpath",  "--repeat",  "--seed",       "--filter-out",
        "--lang",   "--loaders", "--helper",     "--directory",
        "-Xoutput", "-Xhelper",  "--config-file"};
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (strcmp(option, options[i]) == 0) return true;
    return false;
}

/* Fills the global `arg` for busted: its options as given, folders resolved to those of specs. */
static void push_arguments(lua_State *L, const struct run *r)
{
    bool has_root = false;
    int n = 0;
    lua_newtable(L);
    lua_pushliteral(L, "tidegate test");
    lua_rawseti(L, -2, 0);
    for (int i = 1; i < r->argc; i++) {
        const char *word = r->argv[i];
        if (word[0] == '-') {
            lua_pushstring(L, word);
            lua_rawseti(L, -2, ++n);
            if (takes_value(word) && i + 1 < r->argc) {
                lua_pushstring(L, r->argv[++i]);
                lua_rawseti(L, -2, ++n);
            }
            continue;
        }
        has_root = true;
        char spec[1024];
        const int len = snprintf(spec, sizeof(spec), "%s/spec", word);
        const bool nested = len > 0 && (size_t)len < sizeof(spec) && is_folder(spec);
        lua_pushstring(L, nested ? spec : word);
        lua_rawseti(L, -2, ++n);
    }
    if (!has_root) {
        lua_pushstring(L, default_dir);
        lua_rawseti(L, -2, ++n);
    }
    lua_setglobal(L, "arg");
}

static int run_protected(lua_State *L)
{
    const struct run *r = lua_touserdata(L, 1);
    luaL_openlibs(L);
    tgl_modules_register(L);
    lua_getglobal(L, "os");
    lua_pushcfunction(L, tgl_exit);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
    lua_pushcfunction(L, tgl_loadfile);
    lua_setglobal(L, "loadfile");
    push_arguments(L, r);
    static const char program[] =
        "local ok, runner = pcall(require, 'busted.runner')\n"
        "if not ok then\n"
        "  io.stderr:write('tidegate test: busted cannot be loaded: apt-get install lua-busted\\n"
        "', tostring(runner):match('^[^\\n]*') or '', '\\n')\n"
        "  os.exit(1)\n"
        "end\n"
        "local ok, why = pcall(require, 'tidegate.testing')\n"
        "if not ok then\n"
        "  io.stderr:write('tidegate test: the Lua library cannot be loaded; set "
        "TIDEGATE_LUA_PATH to the folder that holds tidegate/testing.lua\\n', tostring(why), "
        "'\\n')\n"
        "  os.exit(1)\n"
        "end\n"
        "runner({ standalone = false })\n";
    if (luaL_loadbuffer(L, program, sizeof(program) - 1, "@tidegate test") != 0)
        return lua_error(L);
    lua_call(L, 0, 0);
    return 0;
}

/* Names the first root that does not exist: busted would say so too, but in its own words. */
static const char *missing_root(const struct run *r)
{
    bool has_root = false;
    for (int i = 1; i < r->argc; i++) {
        if (r->argv[i][0] == '-') {
            if (takes_value(r->argv[i])) i++;
            continue;
        }
        has_root = true;
        if (access(r->argv[i], R_OK) != 0) return r->argv[i];
    }
    return has_root || access(default_dir, R_OK) == 0 ? NULL : default_dir;
}

int tg_lua_test_main(int argc, char **argv)
{
    const struct run r = {argc, argv};
    const char *missing = missing_root(&r);
    if (missing) {
        (void)fprintf(stderr,
                      "tidegate test: there is no %s here; give the folder of your specs: "
                      "tidegate test my-rules\n",
                      missing);
        return 1;
    }
    lua_State *L = luaL_newstate();
    if (!L) {
        (void)fprintf(stderr, "tidegate test: out of memory\n");
        return 1;
    }
    /* What rules say comes back to the spec as plan.error or a message: nothing for the screen. */
    tg_log_set_level((enum tg_log_level)(TG_LOG_ERROR + 1));
    lua_pushcfunction(L, tgl_traceback);
    lua_pushcfunction(L, run_protected);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&r);
    int code = 0;
    if (lua_pcall(L, 1, 0, 1) != 0) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)&exit_key);
        lua_rawget(L, LUA_REGISTRYINDEX);
        if (lua_touserdata(L, -2) == (const void *)&exit_key) {
            code = lua_tointeger(L, -1) == 0 ? 0 : 1;
        } else if (lua_isnil(L, -2)) {
            code = 1; /* how busted leaves on Lua 5.1 when specs failed: it has said so */
        } else {
            const char *text = lua_tostring(L, -2);
            (void)fprintf(stderr, "tidegate test: %s\n", text ? text : "failed without a message");
            code = 1;
        }
    }
    lua_close(L);
    (void)fflush(stdout);
    return code;
}
