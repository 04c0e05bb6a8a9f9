/* outside.h: what a script made before its rule is asked, as new for each decision.
 *
 * A script's top level runs once a VM; a series may be decided by any VM. What a rule could leave
 * behind for the next series would make decisions depend on which thread had which series before.
 * There are two places for that, and both are put back after each run of a rule:
 *
 *   variables   the upvalues that the rule's function, and the functions and tables it reaches,
 *               have from the top level; compared after a run with what they were after loading
 *   tables      those reached the same way are replaced, once after loading, by stand-ins: userdata
 *               that read as the table does; the first write makes a copy, and the run's end drops
 *               it
 *
 *   upvalue --> stand-in { env --> the table as loaded, or the run's own copy }
 *                              its tables are stand-ins, too
 *
 * Tables that a rule makes while it runs are plain tables. That something was put back is noted in
 * vm->stray once, with the line: who writes such a rule expects to find it again.
 *
 * Threading: the VM's thread.
 */
#ifndef TG_RULES_OUTSIDE_H
#define TG_RULES_OUTSIDE_H

#include "core/rules/vm.h"

/* Makes the metatable of stand-ins; once per VM, before scripts load. */
void tgl_outside_register(lua_State *L);
/* After all scripts have loaded: puts stand-ins in and notes the variables. TG_ERR_INVALID with
 * vm->error when a script keeps an iterator, which goes on from series to series and cannot be put
 * back. May raise out of memory. */
enum tg_code tgl_outside_seal(lua_State *L, struct tg_vm *vm);
/* Puts back what a run changed. Raises nothing, allocates nothing. */
void tgl_outside_restore(lua_State *L, struct tg_vm *vm);

bool tgl_is_stand_in(lua_State *L, int index);
/* Replaces a stand-in at `index` by the table it stands for, which must not get into the hands of
 * the rule; for library functions. With `to_write`, by the run's own copy. Others stay. */
void tgl_see_through(lua_State *L, int index, bool to_write);
/* luaL_typename, but "table" for a stand-in. */
const char *tgl_type_name(lua_State *L, int index);

#endif
