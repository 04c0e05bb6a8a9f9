#include "core/rules/vm.h"

#include <ctype.h>
#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/rules/compile.h"
#include "core/rules/outside.h"

const char *const tg_rule_names[TG_RULES] = {"tags", "routing", "strategy", "retention"};

struct tg_vm *tgl_vm(lua_State *L)
{
    return (struct tg_vm *)(void *)tg_lua_heap_of(L); /* its first field */
}

void tgl_reg_get(lua_State *L, const char *key)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)key);
    lua_rawget(L, LUA_REGISTRYINDEX);
}

void tgl_reg_set(lua_State *L, const char *key)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)key);
    lua_insert(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

void tg_vm_set_error(struct tg_vm *vm, int line, const char *fmt, ...)
{
    int n = 0;
    const char *name = vm->names[vm->rule];
    if (line > 0)
        n = snprintf(vm->error, sizeof(vm->error), "%s:%d: ", name, line);
    else
        n = snprintf(vm->error, sizeof(vm->error), "%s: ", name);
    vm->has_position = line > 0;
    if (n < 0 || (size_t)n >= sizeof(vm->error)) return;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(vm->error + n, sizeof(vm->error) - (size_t)n, fmt, ap);
    va_end(ap);
}

int tgl_error(lua_State *L, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return luaL_error(L, "%s", text);
}

/* The line of the innermost rule function on the stack. A tail call has left its line behind; then
 * only the line hook knows. */
static int current_line(lua_State *L, const struct tg_vm *vm)
{
    lua_Debug ar;
    for (int level = 0; level < 12 && lua_getstack(L, level, &ar); level++)
        if (lua_getinfo(L, "l", &ar) && ar.currentline > 0) return ar.currentline;
    return vm->tracing ? vm->line : 0;
}

int tgl_mistake(lua_State *L, const char *fmt, ...)
{
    struct tg_vm *vm = tgl_vm(L);
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (vm->in_call && !vm->mistake[0]) {
        char where[24] = "";
        const int line = current_line(L, vm);
        if (line > 0) (void)snprintf(where, sizeof(where), ":%d", line);
        (void)snprintf(vm->mistake, sizeof(vm->mistake), "%.60s%s: %.160s", vm->names[vm->rule],
                       where, text);
        vm->mistake_has_position = line > 0;
    }
    return luaL_error(L, "%s", text);
}

static void hook(lua_State *L, lua_Debug *ar);

static void arm(lua_State *L, struct tg_vm *vm, int every)
{
    lua_sethook(L, hook, LUA_MASKCOUNT | (vm->tracing ? LUA_MASKLINE : 0), every);
}

void tg_vm_arm(struct tg_vm *vm)
{
    arm(vm->L, vm, TG_VM_HOOK_EVERY);
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) return 0;
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Half of what a call may take, in ns. */
static uint64_t half_time_ns(const struct tg_vm *vm)
{
    return (uint64_t)vm->max_ms * vm->budget_factor * 500000;
}

/* Asked when deadline_ns has passed. The first half of the time goes by the clock, the second by
 * what the thread ran, which costs a system call to know: most calls end long before. */
static bool is_time_used_up(struct tg_vm *vm, uint64_t now_ns)
{
    const uint64_t cpu_ns = thread_cpu_ns();
    const uint64_t half_ns = half_time_ns(vm);
    if (vm->cpu_start_ns == 0) {
        vm->cpu_start_ns = cpu_ns;
        vm->deadline_ns = now_ns + half_ns;
        return false;
    }
    const uint64_t used_ns = cpu_ns - vm->cpu_start_ns;
    if (used_ns >= half_ns) return true;
    vm->deadline_ns = now_ns + (half_ns - used_ns);
    return false;
}

/* Raises when a budget is used up, again and again until the call has been left. */
static void check_budget(lua_State *L, struct tg_vm *vm)
{
    if (vm->overrun == TG_OVERRUN_NONE) {
        const struct tg_rules_config *c = vm->config;
        const unsigned long long factor = vm->budget_factor;
        if (vm->steps_left < 0) {
            vm->overrun = TG_OVERRUN_INSTRUCTIONS;
            tg_vm_set_error(vm, current_line(L, vm),
                            "stopped after %llu instructions, its budget: look for a loop that "
                            "does not end or a pattern that backtracks",
                            c->max_instructions * factor);
        } else if (vm->heap.refused) {
            vm->overrun = TG_OVERRUN_BYTES;
            tg_vm_set_error(
                vm, current_line(L, vm),
                "out of memory: rules may use %llu bytes (rules.max_memory), one value %d bytes",
                (unsigned long long)c->max_bytes, (int)TG_VM_MAX_OBJECT_BYTES);
        } else {
            const uint64_t now_ns = tg_clock_mono_ns();
            if (now_ns > atomic_load_explicit(vm->until_ns, memory_order_relaxed)) {
                vm->overrun = TG_OVERRUN_CUT;
                tg_vm_set_error(vm, current_line(L, vm), "stopped here: there is no time left");
            } else if (now_ns > vm->deadline_ns && is_time_used_up(vm, now_ns)) {
                vm->overrun = TG_OVERRUN_TIME;
                tg_vm_set_error(vm, current_line(L, vm), "stopped after %llu ms, its budget",
                                vm->max_ms * factor);
            } else {
                return;
            }
        }
        arm(L, vm, 1);
    }
    lua_pushliteral(L, "over budget");
    lua_error(L);
}

static void hook(lua_State *L, lua_Debug *ar)
{
    struct tg_vm *vm = tgl_vm(L);
    if (!vm->in_call) return;
    if (ar->event == LUA_HOOKLINE) {
        vm->line = ar->currentline;
        if (vm->overrun == TG_OVERRUN_NONE) return;
    }
    vm->steps_left -= TG_VM_HOOK_EVERY;
    check_budget(L, vm);
}

void tgl_charge(lua_State *L, struct tg_vm *vm, uint64_t steps)
{
    vm->steps_left -= steps > INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)steps;
    check_budget(L, vm);
}

int tgl_call_back(lua_State *L, struct tg_vm *vm, int n_args, int n_results)
{
    if (vm->nesting >= TG_VM_MAX_NESTING)
        tgl_error(L, "callbacks and pcalls are nested more than %d deep", (int)TG_VM_MAX_NESTING);
    tgl_charge(L, vm, 1);
    vm->nesting++;
    const int rc = lua_pcall(L, n_args, n_results, 0);
    vm->nesting--;
    return rc;
}

int tgl_function_line(lua_State *L, int index)
{
    lua_Debug ar;
    lua_pushvalue(L, index);
    return lua_getinfo(L, ">S", &ar) && ar.linedefined > 0 ? ar.linedefined : 0;
}

/* Runs where the error was raised, so that the line is still known. Allocates nothing. */
static int on_error(lua_State *L)
{
    struct tg_vm *vm = tgl_vm(L);
    if (vm->overrun != TG_OVERRUN_NONE) return 1;
    if (lua_type(L, 1) == LUA_TSTRING) {
        const char *text = lua_tostring(L, 1);
        const size_t n = strlen(vm->names[vm->rule]);
        if (strncmp(text, vm->names[vm->rule], n) == 0 && text[n] == ':' &&
            isdigit((unsigned char)text[n + 1])) {
            (void)snprintf(vm->error, sizeof(vm->error), "%s", text);
            vm->has_position = true;
        } else {
            tg_vm_set_error(vm, current_line(L, vm), "%s", text);
        }
    } else {
        tg_vm_set_error(vm, current_line(L, vm),
                        "error() was given a %s; give it a text that says what is wrong",
                        tgl_type_name(L, 1));
    }
    return 1;
}

/* What holds during a call only. */
static void hold(struct tg_vm *vm, bool in_call)
{
    vm->in_call = in_call;
    vm->heap.max_object_bytes = in_call ? TG_VM_MAX_OBJECT_BYTES : 0;
    vm->heap.steps_left = in_call ? &vm->steps_left : NULL;
}

bool tg_vm_call(struct tg_vm *vm, int n_args, int n_results)
{
    lua_State *L = vm->L;
    const int base = lua_gettop(L) - n_args;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->ref_on_error);
    lua_insert(L, base);
    vm->steps_left = (int64_t)(vm->config->max_instructions * vm->budget_factor);
    vm->deadline_ns = tg_clock_mono_ns() + half_time_ns(vm);
    vm->cpu_start_ns = 0;
    vm->overrun = TG_OVERRUN_NONE;
    vm->heap.refused = false;
    vm->nesting = 0;
    vm->line = 0;
    vm->error[0] = '\0';
    vm->has_position = false;
    vm->mistake[0] = '\0';
    vm->made = NULL;
    vm->made_line = 0;
    if (vm->tracing) arm(L, vm, TG_VM_HOOK_EVERY);
    hold(vm, true);
    const int rc = lua_pcall(L, n_args, n_results, base);
    hold(vm, false);
    if (vm->overrun != TG_OVERRUN_NONE) arm(L, vm, TG_VM_HOOK_EVERY);
    if (rc == 0 && vm->overrun == TG_OVERRUN_NONE && !vm->heap.refused && !vm->mistake[0]) {
        lua_remove(L, base);
        return true;
    }
    if (vm->overrun == TG_OVERRUN_NONE && vm->heap.refused) {
        vm->overrun = TG_OVERRUN_BYTES;
        tg_vm_set_error(
            vm, vm->tracing ? vm->line : 0,
            "out of memory: rules may use %llu bytes (rules.max_memory), one value %d bytes",
            (unsigned long long)vm->config->max_bytes, (int)TG_VM_MAX_OBJECT_BYTES);
    } else if (vm->overrun == TG_OVERRUN_NONE && rc == 0) {
        memcpy(vm->error, vm->mistake, sizeof(vm->error));
        vm->has_position = vm->mistake_has_position;
    } else if (vm->error[0] == '\0') {
        tg_vm_set_error(vm, 0, "failed (%s)",
                        lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "no message");
    }
    lua_settop(L, base - 1);
    return false;
}

struct setup {
    struct tg_vm *vm;
    struct tg_rule_text *texts;
    enum tg_code code;
};

static void open_library(lua_State *L, lua_CFunction open, const char *name)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

/* Loads one script with the environment on top; leaves the stack as it was. */
static enum tg_code load_rule(lua_State *L, struct tg_vm *vm, struct tg_rule_text *t)
{
    const enum tg_code code = tgl_compile(L, vm, t);
    if (code != TG_OK) return code;
    lua_pushvalue(L, -2);
    lua_setfenv(L, -2);
    if (!tg_vm_call(vm, 0, 1)) {
        if (vm->overrun == TG_OVERRUN_CUT) return TG_ERR_TIMEOUT;
        return vm->heap.process_refused ? TG_ERR_NOMEM : TG_ERR_INVALID;
    }
    if (lua_type(L, -1) != LUA_TFUNCTION) {
        tg_vm_set_error(vm, 0,
                        "gives %s; the script must end with \"return function(series) ... end\"",
                        lua_isnil(L, -1) ? "nothing" : luaL_typename(L, -1));
        lua_pop(L, 1);
        return TG_ERR_INVALID;
    }
    vm->ref_rules[vm->rule] = luaL_ref(L, LUA_REGISTRYINDEX);
    return TG_OK;
}

static int setup(lua_State *L)
{
    struct setup *s = lua_touserdata(L, 1);
    struct tg_vm *vm = s->vm;
    open_library(L, luaopen_base, "");
    open_library(L, luaopen_string, LUA_STRLIBNAME);
    open_library(L, luaopen_table, LUA_TABLIBNAME);
    open_library(L, luaopen_math, LUA_MATHLIBNAME);
    open_library(L, luaopen_bit, LUA_BITLIBNAME);
    (void)luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_pushcfunction(L, on_error);
    vm->ref_on_error = luaL_ref(L, LUA_REGISTRYINDEX);
    tgl_series_register(L);
    tgl_outside_register(L);
    tgl_sandbox_push_env(L);
    arm(L, vm, TG_VM_HOOK_EVERY);
    vm->budget_factor = TG_RULE_LOAD_FACTOR;
    vm->tracing = true; /* so that every error has its line */
    for (unsigned i = 0; i < TG_RULES && s->code == TG_OK; i++) {
        vm->rule = (enum tg_rule_no)i;
        if (s->texts[i].text) s->code = load_rule(L, vm, &s->texts[i]);
    }
    if (s->code == TG_OK) s->code = tgl_outside_seal(L, vm);
    vm->budget_factor = 1;
    vm->tracing = false;
    arm(L, vm, TG_VM_HOOK_EVERY);
    lua_settop(L, 0);
    (void)lua_gc(L, LUA_GCCOLLECT, 0);
    vm->base_bytes = vm->heap.used_bytes;
    return 0;
}

enum tg_code tg_vm_new(const struct tg_rules_config *config, uint64_t generation,
                       struct tg_rule_text texts[TG_RULES], const _Atomic uint64_t *until_ns,
                       struct tg_vm **out, struct tg_err *err)
{
    static const char no_memory[] = "out of memory while loading the rules (a VM may hold %llu "
                                    "bytes)";
    *out = NULL;
    struct tg_vm *vm = tg_calloc(1, sizeof(*vm));
    if (!vm) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    vm->config = config;
    vm->generation = generation;
    vm->until_ns = until_ns;
    vm->heap.max_bytes = config->max_bytes;
    vm->max_ms = config->max_ms;
    for (unsigned i = 0; i < TG_RULES; i++) {
        vm->ref_rules[i] = LUA_NOREF;
        memcpy(vm->names[i], texts[i].name, sizeof(vm->names[i]));
    }
    vm->L = tg_lua_heap_open(&vm->heap);
    struct setup s = {.vm = vm, .texts = texts, .code = TG_OK};
    if (!vm->L || lua_cpcall(vm->L, setup, &s) != 0) s.code = TG_ERR_NOMEM;
    if (s.code == TG_ERR_NOMEM)
        (void)tg_fail(err, s.code, no_memory, (unsigned long long)config->max_bytes);
    else if (s.code != TG_OK)
        (void)tg_fail(err, s.code, "%s", vm->error);
    if (s.code != TG_OK) {
        tg_vm_free(vm);
        return s.code;
    }
    *out = vm;
    return TG_OK;
}

void tg_vm_free(struct tg_vm *vm)
{
    if (!vm) return;
    tg_lua_heap_close(&vm->heap, vm->L);
    tg_free(vm);
}

static int collect(lua_State *L)
{
    lua_settop(L, 0);
    (void)lua_gc(L, LUA_GCCOLLECT, 0);
    return 0;
}

bool tg_vm_recover(struct tg_vm *vm)
{
    vm->heap.max_bytes =
        vm->config->max_bytes + (1 << 20); /* the collector itself may need a little */
    const int rc = lua_cpcall(vm->L, collect, NULL);
    vm->heap.max_bytes = vm->config->max_bytes;
    return rc == 0 &&
           vm->heap.used_bytes <= vm->base_bytes + (vm->heap.max_bytes - vm->base_bytes) / 4;
}
