/* names.h: what a script names by constants, looked at without running its rules.
 *
 * A branch that is rarely taken may hold a mistake for months: to("inflx") is met only when a
 * series comes that takes it. So every text that may be given to to(), primary_only(),
 * primary_with_async_replication() and keep() is tried when the script loads, and so is every
 * global name. What is found is tried in a VM that has loaded the script, so the answer is the one
 * that the rule would get. The same goes for the fields of the series.
 *
 * Which texts those are flow.h says: literals, and what comes by variables, tables, parameters,
 * aliases and pcall(). Names that are made at run time are not found: for those, live series are
 * decided before new rules are in force (core/pipe). A text that is nearly the name of a backend is
 * doubted wherever it is kept or given. A call whose verdict nobody gets is one without effect,
 * with which a series goes elsewhere than the script seems to say.
 *
 * A finding is certain when the code would fail, or have no effect, whenever it runs: then the
 * script is refused. Else it is a warning.
 *
 * Threading: no shared state; the VM's thread.
 */
#ifndef TG_RULES_NAMES_H
#define TG_RULES_NAMES_H

#include "core/rules/vm.h"

/* `text` begins with "file:line: ". */
typedef void (*tg_on_finding)(void *arg, bool is_certain, const char *text);

/* Looks at the script of `rule` in `vm`, which must have loaded it, and calls `on_finding` for each
 * mistake, in the order of the text. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_names_check(struct tg_vm *vm, enum tg_rule_no rule,
                                          const struct tg_rule_text *text, tg_on_finding on_finding,
                                          void *arg);

#endif
