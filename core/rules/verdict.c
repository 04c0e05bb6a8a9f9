/* to, drop, logged, all, primary_only, primary_with_async_replication, keep: what rules return.
 *
 * A verdict is a userdata without methods that holds its C form, so that reading it back is one
 * type check. Names are resolved to backend numbers when the verdict is made, where the line is
 * known.
 */
#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/option.h"
#include "core/rules/outside.h"
#include "core/rules/vm.h"

static const char meta_key = 0;

/* `function` makes it; a static text. */
static struct tg_verdict *push_verdict(lua_State *L, enum tg_verdict_kind kind,
                                       const char *function)
{
    struct tg_vm *vm = tgl_vm(L);
    struct tg_verdict *v = lua_newuserdata(L, sizeof(*v));
    v->kind = (uint8_t)kind;
    v->strategy = TG_STRATEGY_LOGGED;
    v->targets = 0;
    v->n_order = 0;
    v->line = vm->tracing ? vm->line : 0;
    v->retention = (struct tg_retention){0};
    v->note[0] = '\0';
    vm->made = function;
    vm->made_line = v->line;
    tgl_reg_get(L, &meta_key);
    lua_setmetatable(L, -2);
    return v;
}

static void note(lua_State *L, struct tg_verdict *v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void note(lua_State *L, struct tg_verdict *v, const char *fmt, ...)
{
    if (!tgl_vm(L)->tracing) return;
    const size_t n = strlen(v->note);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(v->note + n, sizeof(v->note) - n, fmt, ap);
    va_end(ap);
}

/* Number of the backend named at `index`; raises when there is none. */
static unsigned backend_at(lua_State *L, int index, const char *function)
{
    const struct tg_rules_config *c = tgl_vm(L)->config;
    if (lua_type(L, index) != LUA_TSTRING)
        tgl_mistake(L, "%s() takes names of backends, not a %s", function, tgl_type_name(L, index));
    size_t len;
    const char *name = lua_tolstring(L, index, &len);
    for (unsigned i = 0; i < c->n_backends; i++)
        if (strcmp(c->backends[i], name) == 0 && strlen(name) == len) return i;
    char q[64];
    char known[128] = "";
    size_t n = 0;
    for (unsigned i = 0; i < c->n_backends && n < sizeof(known); i++) {
        const int w = snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", c->backends[i]);
        n += w > 0 ? (size_t)w : 0;
    }
    const char *near = tg_nearest_name(name, c->backends, c->n_backends);
    if (near)
        tgl_mistake(L, "%s(): no backend is called %s; did you mean \"%s\"? (there are: %s)",
                    function, tg_quote(q, sizeof(q), name, len), near, known);
    tgl_mistake(L, "%s(): no backend is called %s (there are: %s)", function,
                tg_quote(q, sizeof(q), name, len), known);
    return 0;
}

/* to("a", "b") or to({"a", "b"}) */
static int tgl_to(lua_State *L)
{
    int n = lua_gettop(L);
    if (n == 1) tgl_see_through(L, 1, false);
    if (n == 1 && lua_istable(L, 1)) {
        const size_t len = lua_objlen(L, 1);
        if (len > TG_MAX_BACKENDS)
            return tgl_mistake(L, "to() takes at most %d backends", (int)TG_MAX_BACKENDS);
        for (size_t i = 1; i <= len; i++) lua_rawgeti(L, 1, (int)i);
        lua_remove(L, 1);
        n = (int)len;
    }
    if (n == 0)
        return tgl_mistake(L, "to() needs at least one backend; drop(\"reason\") drops a series");
    struct tg_verdict *v = push_verdict(L, TG_VERDICT_TO, "to");
    for (int i = 1; i <= n; i++) {
        const unsigned b = backend_at(L, i, "to");
        if (!(v->targets >> b & 1)) v->order[v->n_order++] = (uint8_t)b;
        v->targets |= UINT32_C(1) << b;
    }
    note(L, v, "to(");
    for (int i = 1; i <= n; i++) note(L, v, "%s\"%s\"", i > 1 ? ", " : "", lua_tostring(L, i));
    note(L, v, ")");
    return 1;
}

static int tgl_drop(lua_State *L)
{
    size_t len = 0;
    if (!lua_isnoneornil(L, 1) && !lua_isstring(L, 1))
        return tgl_mistake(L, "drop() takes a text that says why, not a %s", tgl_type_name(L, 1));
    const char *reason = lua_tolstring(L, 1, &len);
    struct tg_verdict *v = push_verdict(L, TG_VERDICT_DROP, "drop");
    char q[128];
    note(L, v, "drop(%s)", reason ? tg_quote(q, sizeof(q), reason, len) : "");
    return 1;
}

static int strategy(lua_State *L, enum tg_strategy s)
{
    const bool primary = s == TG_STRATEGY_PRIMARY_ASYNC || s == TG_STRATEGY_PRIMARY_ONLY;
    const char *name = tg_strategy_name(s);
    if (!primary && lua_gettop(L) > 0) return tgl_mistake(L, "%s() takes nothing", name);
    if (primary && lua_gettop(L) != 1)
        return tgl_mistake(L, "%s() takes the name of the primary backend", name);
    uint32_t mask = 0;
    if (primary) {
        mask = UINT32_C(1) << backend_at(L, 1, name);
        if (!(mask & tgl_vm(L)->targets)) {
            char q[64];
            size_t len;
            const char *primary_name = lua_tolstring(L, 1, &len);
            return tgl_mistake(L, "%s(%s): routing.lua does not send this series there", name,
                               tg_quote(q, sizeof(q), primary_name, len));
        }
    }
    struct tg_verdict *v = push_verdict(L, TG_VERDICT_STRATEGY, name);
    v->strategy = (uint8_t)s;
    v->targets = mask;
    if (primary)
        note(L, v, "%s(\"%s\")", name, lua_tostring(L, 1));
    else
        note(L, v, "%s()", name);
    return 1;
}

static int tgl_logged(lua_State *L)
{
    return strategy(L, TG_STRATEGY_LOGGED);
}
static int tgl_all(lua_State *L)
{
    return strategy(L, TG_STRATEGY_ALL);
}
static int tgl_primary_only(lua_State *L)
{
    return strategy(L, TG_STRATEGY_PRIMARY_ONLY);
}
static int tgl_primary_async(lua_State *L)
{
    return strategy(L, TG_STRATEGY_PRIMARY_ASYNC);
}

/* A duration at `index`, at least 1 ms; raises. */
static int64_t duration_at(lua_State *L, int index, const char *what)
{
    const int type = lua_type(L, index);
    if (type != LUA_TSTRING && type != LUA_TNUMBER)
        tgl_mistake(L, "keep(): %s is a %s; write a duration such as \"90d\"", what,
                    luaL_typename(L, index));
    char text[32];
    size_t len;
    lua_pushvalue(L, index); /* a key must not be converted in place */
    const char *s = lua_tolstring(L, -1, &len);
    struct tg_err err = {.msg = ""};
    int64_t ms = 0;
    if (len >= sizeof(text) || strlen(s) != len) {
        char q[64];
        tgl_mistake(L, "keep(): %s %s is not a duration such as \"90d\"", what,
                    tg_quote(q, sizeof(q), s, len));
    }
    if (tg_duration_parse(s, &ms, &err) != TG_OK) tgl_mistake(L, "keep(): %s %s", what, err.msg);
    lua_pop(L, 1);
    if (ms < 1)
        tgl_mistake(L, "keep(): %s is zero; drop(\"reason\") in routing.lua drops a series", what);
    return ms;
}

static void add_rollup(lua_State *L, struct tg_retention *r, int64_t every_ms, int64_t keep_ms)
{
    uint32_t at = 0;
    while (at < r->n_rollups && r->rollups[at].every_ms < every_ms) at++;
    if (at < r->n_rollups && r->rollups[at].every_ms == every_ms)
        tgl_mistake(L, "keep(): two rollups have the same interval");
    if (r->n_rollups == TG_MAX_ROLLUPS)
        tgl_mistake(L, "keep() takes at most %d rollups", (int)TG_MAX_ROLLUPS);
    if (keep_ms < every_ms)
        tgl_mistake(L, "keep(): a rollup is kept for less than its own interval");
    memmove(&r->rollups[at + 1], &r->rollups[at], (r->n_rollups - at) * sizeof(r->rollups[0]));
    r->rollups[at].every_ms = every_ms;
    r->rollups[at].keep_ms = keep_ms;
    r->n_rollups++;
}

/* keep("30d") or keep("30d", { ["5m"] = "180d" }) */
static int tgl_keep(lua_State *L)
{
    struct tg_retention r = {0};
    if (lua_gettop(L) < 1)
        return tgl_mistake(L, "keep() takes a duration such as \"90d\"; nil keeps for ever");
    r.keep_ms = duration_at(L, 1, "the duration");
    if (!lua_isnoneornil(L, 2)) {
        tgl_see_through(L, 2, false);
        if (!lua_istable(L, 2))
            return tgl_mistake(L, "keep(): rollups are a table such as { [\"5m\"] = \"180d\" }");
        for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
            const int top = lua_gettop(L);
            const int64_t every_ms = duration_at(L, top - 1, "a rollup's interval");
            add_rollup(L, &r, every_ms, duration_at(L, top, "a rollup's duration"));
        }
    }
    struct tg_verdict *v = push_verdict(L, TG_VERDICT_KEEP, "keep");
    v->retention = r;
    lua_pushvalue(L, 1);
    note(L, v, "keep(\"%s\"", lua_tostring(L, -1));
    lua_pop(L, 1);
    if (r.n_rollups) note(L, v, ", %u rollup%s", r.n_rollups, r.n_rollups > 1 ? "s" : "");
    note(L, v, ")");
    return 1;
}

/* A rule that gave nothing although it made a verdict has forgotten a "return". */
static bool is_forgotten(struct tg_vm *vm, enum tg_rule_no rule)
{
    if (!vm->made) return false;
    const bool is_routing = strcmp(vm->made, "to") == 0 || strcmp(vm->made, "drop") == 0;
    const bool is_keep = strcmp(vm->made, "keep") == 0;
    const enum tg_rule_no its = is_routing ? TG_RULE_ROUTING
                                : is_keep  ? TG_RULE_RETENTION
                                           : TG_RULE_STRATEGY;
    if (its == rule)
        tg_vm_set_error(vm, vm->made_line,
                        "the rule called %s(), but did not return what it gave; write \"return "
                        "%s(...)\"",
                        vm->made, vm->made);
    else
        tg_vm_set_error(vm, vm->made_line,
                        "the rule called %s(), which says nothing here; write \"return %s(...)\" "
                        "in %s.lua",
                        vm->made, vm->made, tg_rule_names[its]);
    return true;
}

const struct tg_verdict *tgl_verdict_get(lua_State *L, struct tg_vm *vm, int index,
                                         enum tg_rule_no rule, struct tg_verdict *none)
{
    static const char *const wanted[TG_RULES] = {
        "nothing: change series.tags in place",
        "to(\"backend\"), drop(\"reason\") or nil",
        "logged(), all(), primary_only(name), primary_with_async_replication(name) or nil",
        "keep(\"90d\") or nil",
    };
    const struct tg_verdict *v = NULL;
    lua_pushvalue(L, index);
    if (lua_isnil(L, -1)) {
        *none = (struct tg_verdict){.kind = TG_VERDICT_NONE};
        lua_pop(L, 1);
        return is_forgotten(vm, rule) ? NULL : none;
    }
    if (lua_type(L, -1) == LUA_TUSERDATA && lua_getmetatable(L, -1)) {
        tgl_reg_get(L, &meta_key);
        if (lua_rawequal(L, -1, -2)) v = lua_touserdata(L, -3);
        lua_pop(L, 2);
    }
    static const char *const kinds[] = {"", "a to()", "a drop()", "a strategy", "a keep()"};
    const char *got = v ? kinds[v->kind] : tgl_type_name(L, -1);
    const bool fits =
        v &&
        ((rule == TG_RULE_ROUTING && (v->kind == TG_VERDICT_TO || v->kind == TG_VERDICT_DROP)) ||
         (rule == TG_RULE_STRATEGY && v->kind == TG_VERDICT_STRATEGY) ||
         (rule == TG_RULE_RETENTION && v->kind == TG_VERDICT_KEEP));
    if (!fits) {
        char q[64] = "";
        if (lua_type(L, -1) == LUA_TSTRING) {
            size_t len;
            const char *s = lua_tolstring(L, -1, &len);
            q[0] = ' ';
            tg_quote(q + 1, sizeof(q) - 1, s, len);
        }
        lua_rawgeti(L, LUA_REGISTRYINDEX, vm->ref_rules[rule]);
        const int line = tgl_function_line(L, -1);
        lua_pop(L, 2);
        tg_vm_set_error(vm, vm->tracing && vm->line ? vm->line : line,
                        "the rule gave %s%s; it must return %s", got, q, wanted[rule]);
        return NULL;
    }
    lua_pop(L, 1);
    return v; /* the caller still has it on its stack */
}

void tgl_verdict_register(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"to", tgl_to},
        {"drop", tgl_drop},
        {"logged", tgl_logged},
        {"all", tgl_all},
        {"primary_only", tgl_primary_only},
        {"primary_with_async_replication", tgl_primary_async},
        {"keep", tgl_keep},
        {NULL, NULL},
    };
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    lua_createtable(L, 0, 1);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    tgl_reg_set(L, &meta_key);
}
