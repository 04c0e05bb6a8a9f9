/* vm.h: one sandboxed Lua VM with the four rules loaded, and what guards a call into it.
 *
 *   tg_vm_new -> [ allocator cap | hook: instructions, ms ] -> env (allow-list) -> 4 functions
 *
 * Private to core/rules. Three guards hold for every call into operator code:
 *   - instructions: a count hook every TG_VM_HOOK_EVERY of them. Library functions that work in
 *     proportion to their input (patterns, sort) and values over 4 KiB are charged to the same sum.
 *   - milliseconds of the thread's processor: looked at in the same hook. On a busy
 *     machine a thread may stand still for longer than that, which is not the rule's doing.
 *   - bytes: the allocator refuses beyond max_bytes, and during a call any single object over
 *     TG_VM_MAX_OBJECT_BYTES, which bounds the time one C function can take.
 *
 * Once a guard has tripped it stays tripped: the hook is re-armed at every instruction and raises
 * again until the call has been left, and the pcall that rules have passes such errors on, so that
 * a rule cannot swallow them.
 *
 * The JIT compiler is off for the whole VM: a count hook does not fire inside compiled loops, and
 * all library code that a rule can reach is C.
 *
 * Threading: one thread at a time; may be made on one thread and used on another.
 */
#ifndef TG_RULES_VM_H
#define TG_RULES_VM_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/model/plan.h"
#include "core/model/series.h"
#include "core/rules/rules.h"
#include "core/vm/heap.h"

enum {
    TG_VM_HOOK_EVERY = 100,
    TG_VM_MAX_OBJECT_BYTES = 1 << 20,
    TG_VM_MAX_NESTING = 16, /* callbacks within callbacks (gsub, sort) */
    TG_VM_MAX_TAG_LINES = 16,
    TG_RULE_MAX_TEXT_BYTES = 1 << 20,
    TG_RULE_EXPLAIN_MS = 500, /* most of a call that is explained: other looks wait for it */
    TG_RULE_LOAD_FACTOR = 10, /* budgets for running a script's top level, as a multiple */
};

enum tg_rule_no { TG_RULE_TAGS, TG_RULE_ROUTING, TG_RULE_STRATEGY, TG_RULE_RETENTION, TG_RULES };
extern const char *const tg_rule_names[TG_RULES]; /* "tags", ... */

/* The texts of one generation, shared by its VMs. Immutable once the first VM has loaded them. */
struct tg_rule_text {
    char name[96]; /* file name relative to its folder: "tags.lua" */
    char *text;    /* owned by the generation; NULL = no such rule */
    size_t len;
    char *code; /* what it was compiled to, owned by the generation; NULL = not yet */
    size_t code_len;
};

enum tg_overrun {
    TG_OVERRUN_NONE,
    TG_OVERRUN_INSTRUCTIONS,
    TG_OVERRUN_TIME,
    TG_OVERRUN_BYTES,
    TG_OVERRUN_CUT, /* no budget of the script's: loading took too long in all, or a stop */
};

struct tg_vm {
    struct tg_lua_heap heap; /* first: tgl_vm() */
    lua_State *L;
    uint64_t generation;
    const struct tg_rules_config *config; /* borrows; limits resolved */

    /* heap.refused: since the call began; heap.process_refused: since loading or the decision did
     */
    uint64_t base_bytes; /* after loading and a full collection */
    bool in_call;        /* TG_VM_MAX_OBJECT_BYTES holds, and large objects are charged */

    /* budget of the call in progress */
    const _Atomic uint64_t *until_ns; /* borrows: monotonic; beyond it every call is cut */
    int64_t steps_left;
    uint64_t deadline_ns;  /* monotonic: before it, max_ms cannot be used up */
    uint64_t cpu_start_ns; /* of the thread, when half of the time had passed; 0 = not yet */
    uint32_t budget_factor;
    uint32_t max_ms; /* of a call; less than configured for explain */
    enum tg_overrun overrun;
    unsigned nesting;

    /* position, kept by the line hook when `tracing` */
    bool tracing;
    int line;

    char error[256];   /* of the call that failed last */
    bool has_position; /* error begins with "file:line: " */
    /* What verdict functions did in the call: it fails for the first mistake, though pcall() caught
     * it, and for a verdict that was made and not returned. */
    char mistake[256]; /* "" = none */
    bool mistake_has_position;
    const char *made; /* the function that gave a verdict last; NULL = none did */
    int made_line;    /* 0 unless tracing */

    /* the decision in progress; borrows */
    const struct tg_series_desc *desc;
    bool series_filled; /* the read-only series stands for desc */
    uint32_t targets;
    uint8_t order[TG_MAX_BACKENDS]; /* of the targets, as strategy.lua gets them */
    uint8_t n_order;
    enum tg_rule_no rule;
    struct {
        char key[64];
        int line;
    } tag_lines[TG_VM_MAX_TAG_LINES]; /* who assigned what, while tracing tags.lua */
    uint32_t n_tag_lines;

    /* outside.h */
    int vars_end[TG_RULES]; /* of each script, in the list of variables */
    int n_touched;          /* tables to be put back */
    bool stray_said;
    char stray[192]; /* what a rule changed that was put back; "" = nothing yet */

    char names[TG_RULES][96]; /* file names, relative to their folders */
    int ref_rules[TG_RULES];  /* registry references; LUA_NOREF = no such rule */
    int ref_on_error;         /* the message handler */
    uint32_t n_calls;
};

/* Makes a VM with the scripts loaded. TG_ERR_INVALID with "file:line: why", TG_ERR_NOMEM;
 * Texts without code are compiled and get it. TG_ERR_TIMEOUT when *until_ns (monotonic, borrowed
 * for the VM's life or until it is set again) has passed. */
TG_MUST_CHECK enum tg_code tg_vm_new(const struct tg_rules_config *config, uint64_t generation,
                                     struct tg_rule_text texts[TG_RULES],
                                     const _Atomic uint64_t *until_ns, struct tg_vm **out,
                                     struct tg_err *err);
void tg_vm_free(struct tg_vm *vm); /* NULL accepted */

/* Calls the function below `n_args` arguments on the stack under budget; leaves `n_results`.
 * On failure nothing is left and vm->error says why ("file:line: message"). A call that overran is
 * a failure even when it returned. Must run inside a protected call (may raise out of memory). */
bool tg_vm_call(struct tg_vm *vm, int n_args, int n_results);

/* Sets the hook as vm->tracing asks. */
void tg_vm_arm(struct tg_vm *vm);

/* Writes "file:line: text" into vm->error; line 0 leaves it out. */
void tg_vm_set_error(struct tg_vm *vm, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Collects fully; false when the VM holds much more than after loading, or is beyond use: then it
 * is to be replaced. Not inside a protected call. */
bool tg_vm_recover(struct tg_vm *vm);

/* Takes `steps` from the running call's budget; raises when that or the time is used up. */
void tgl_charge(lua_State *L, struct tg_vm *vm, uint64_t steps);
/* As lua_pcall, for library functions that call back into a rule: bounds the nesting (and with it
 * the C stack) and charges the call. */
int tgl_call_back(lua_State *L, struct tg_vm *vm, int n_args, int n_results);
/* The VM of a state. */
struct tg_vm *tgl_vm(lua_State *L);
/* Pushes what the registry has at the address `key`; puts the value on top there. */
void tgl_reg_get(lua_State *L, const char *key);
void tgl_reg_set(lua_State *L, const char *key);
/* luaL_error with a printf-formatted text. */
int tgl_error(lua_State *L, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As tgl_error, and the call under way fails even when the rule catches it: what a rule says of
 * where a series goes is never half heard. */
int tgl_mistake(lua_State *L, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* sandbox.c: pushes the table in which global names of a rule are looked up. */
void tgl_sandbox_push_env(lua_State *L);
/* string_lua.c: sets find, match, gmatch, gsub, format in the table on top; LuaJIT's own functions
 * are in the table at `theirs`. */
void tgl_string_register(lua_State *L, int theirs);
int tgl_string_gmatch_next(lua_State *L);
/* table_lua.c: as above, for the table functions; and for unpack and type. */
void tgl_table_register(lua_State *L, int theirs);
void tgl_table_register_globals(lua_State *L, int theirs);
/* verdict.c: sets to, drop, all, ... in the table on top. */
void tgl_verdict_register(lua_State *L);
/* series_lua.c: makes the objects that stand for a series; once per VM. */
void tgl_series_register(lua_State *L);
/* Pushes the series for tags.lua (mutable: series.tags) or for the others (read-only), with
 * vm->desc. `mutable` leaves a fresh table of tags in the registry. */
void tgl_series_push(lua_State *L, struct tg_vm *vm, bool mutable);
/* Reads series.tags after tags.lua into `mapped`, strings copied to `arena`. false with vm->error
 * set. *nomem tells that the arena refused. */
bool tgl_series_read_tags(lua_State *L, struct tg_vm *vm, struct tg_arena *arena,
                          struct tg_series_desc *mapped, bool *nomem);
/* Writes what tags.lua did ("env added (line 3)") and gives the line of the last change, 0 = none.
 */
int tgl_series_note(const struct tg_vm *vm, const struct tg_series_desc *mapped, char *note,
                    size_t note_cap);
/* Pushes the table behind `index`: a table itself, or what tags or a stand-in stand for; raises for
 * anything else. Not for the hands of a rule. */
void tgl_push_table_behind(lua_State *L, int index);
/* Index of the function at `index` as defined in its file, for messages; 0 for C functions. */
int tgl_function_line(lua_State *L, int index);

/* What a rule returned: made by to(), drop(), all() ... */
enum tg_verdict_kind {
    TG_VERDICT_NONE, /* nil: the rule's default */
    TG_VERDICT_TO,
    TG_VERDICT_DROP,
    TG_VERDICT_STRATEGY,
    TG_VERDICT_KEEP,
};
struct tg_verdict {
    uint8_t kind;                   /* enum tg_verdict_kind */
    uint8_t strategy;               /* enum tg_strategy */
    uint32_t targets;               /* to: backends; strategy: the primary's bit */
    uint8_t order[TG_MAX_BACKENDS]; /* to: the backends in the order given, each once */
    uint8_t n_order;
    int line; /* 0 unless tracing */
    struct tg_retention retention;
    char note[160];
};
/* The verdict at `index`: NULL with vm->error set when it is neither nil nor one that `rule` may
 * return, or nil although the call made a verdict. nil gives a verdict of kind NONE in *none. */
const struct tg_verdict *tgl_verdict_get(lua_State *L, struct tg_vm *vm, int index,
                                         enum tg_rule_no rule, struct tg_verdict *none);

/* decision.c: runs the four rules. What the contract in rules.h says; false only when the arena
 * refused. *error_rule is TG_RULES when none failed. */
bool tg_vm_decide(struct tg_vm *vm, const struct tg_series_desc *series, struct tg_arena *arena,
                  struct tg_decision *out, struct tg_rules_trace *trace,
                  enum tg_rule_no *error_rule);
/* The decision of a series whose rules cannot run. false when the arena refused. */
bool tg_decide_on_error(const struct tg_rules_config *config, const struct tg_series_desc *series,
                        struct tg_arena *arena, struct tg_decision *out);

#endif
