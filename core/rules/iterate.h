/* iterate.h: next, pairs and ipairs of rules: the same order in every VM.
 *
 * LuaJIT walks a table by where its keys happen to lie, which depends on what the VM has done
 * before: a rule that takes "the first tag" would decide by that. Here, numbers come first in
 * ascending order, then texts bytewise, then false and true. Keys of other types (tables,
 * functions) have no order but that; they come last, as they lie.
 *
 * All three know tables, the tags of a series, and stand-ins (outside.h).
 */
#ifndef TG_RULES_ITERATE_H
#define TG_RULES_ITERATE_H

#include <lua.h>
#include <stdbool.h>

int tgl_next(lua_State *L);
int tgl_pairs(lua_State *L);
int tgl_ipairs(lua_State *L);
/* Whether the function at `index` holds a place in a walk: of pairs() or gmatch(). */
bool tgl_is_iterator(lua_State *L, int index);

#endif
