/* flow.h: which texts of a script reach a verdict function, on whatever way.
 *
 *   "inflx" -> local b -> parameter n of send() -> to(n)
 *
 * The script is parsed (Lua 5.1 manual, section 8, with LuaJIT's goto), its variables are resolved
 * by scope, and what is assigned, given, stored in a table or returned becomes an edge of a graph:
 * without regard to order and branches, so whatever may happen in some run is in it. Calls are
 * linked with the functions that may get them: local ones, those in tables, aliases, pcall(). From
 * the arguments of to(), primary_only(), primary_with_async_replication() and keep() the graph is
 * then walked back to texts. Texts that are made at run time (.., string functions) are not found.
 *
 * Fields of tables are told apart by the last name of a path; an index that is no constant is any
 * of them.
 *
 * Threading: no shared state.
 */
#ifndef TG_RULES_FLOW_H
#define TG_RULES_FLOW_H

#include "core/rules/tokens.h"

struct tg_flow_found {
    void *arg;
    /* The text at token `text` may be given to `function`. is_sure: it is whenever that call runs.
     * May be said more than once. */
    void (*on_name)(void *arg, const char *function, uint32_t text, bool is_sure);
    /* Nobody gets the verdict of the call of the function that is named at token `name`. */
    void (*on_discarded)(void *arg, uint32_t name, bool is_sure);
    /* A text that is kept or given somewhere, and reaches no such function. */
    void (*on_other)(void *arg, uint32_t text);
};

/* Looks at a script that compiles. TG_ERR_NOMEM; TG_ERR_FULL: a script of great size in which all
 * depends on all was not followed to the end. */
TG_MUST_CHECK enum tg_code tg_flow_find(const struct tg_tokens *tokens,
                                        const struct tg_flow_found *found);

#endif
