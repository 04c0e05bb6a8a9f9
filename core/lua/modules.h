/* modules.h: what Lua programs outside the sandbox can require of the gateway.
 *
 *   require "tidegate.testing"  lua/tidegate/testing.lua  over  tidegate.rules_core (bind_rules.c)
 *   require "tidegate.codec"    lua/tidegate/codec.lua    over  tidegate.codec_core (bind_codec.c)
 *
 * C modules go into package.preload; the Lua files are found in a folder "tidegate" of, in this
 * order: TIDEGATE_LUA_PATH, the source tree that the binary was built from, share/tidegate/lua
 * beside the folder of the binary.
 *
 * Threading: one thread per state.
 */
#ifndef TG_LUA_MODULES_H
#define TG_LUA_MODULES_H

#include <lua.h>

#include "core/base/buf.h"

/* Registers the modules and extends package.path. May raise; the state has its libraries open. */
void tgl_modules_register(lua_State *L);

int tgl_codec_open(lua_State *L); /* loaders, for package.preload */
int tgl_rules_open(lua_State *L);

/* Pushes a userdata that holds a buffer and frees it when collected, so that an error raised
 * between does not leak. */
struct tg_buf *tgl_buf_push(lua_State *L, size_t max_bytes);
/* Pushes nil and the message; gives 2. */
int tgl_fail(lua_State *L, const struct tg_err *err);

#endif
