/* compile.h: a script's text to a function, once for all VMs of a generation.
 *
 * LuaJIT compiles some texts in quadratic time (a chain of 200,000 "or" takes a minute), and no
 * hook fires meanwhile. So it gets the text in small pieces, with a look at the clock before each.
 * What came out is kept as bytecode, from which the other VMs of the generation have the function
 * in less than a tenth of the time. Bytecode that comes from outside is refused: a VM believes it.
 *
 * Threading: no shared state.
 */
#ifndef TG_RULES_COMPILE_H
#define TG_RULES_COMPILE_H

#include "core/rules/vm.h"

/* For one script. Ordinary ones of the greatest size take some 20 ms. */
enum { TG_RULE_COMPILE_MS = 1000 };

/* Pushes the script's function; fills t->code when it is not there. On failure nothing is pushed
 * and vm->error says why with file and, where known, line: TG_ERR_INVALID; TG_ERR_TIMEOUT when
 * *vm->until_ns has passed, TG_ERR_NOMEM. May raise out of memory. */
enum tg_code tgl_compile(lua_State *L, struct tg_vm *vm, struct tg_rule_text *t);

#endif
