/* One decision: tags, routing, strategy, retention, in that order. */
#include <ctype.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rules/outside.h"
#include "core/rules/vm.h"

enum { GC_EVERY = 16 }; /* decisions between two steps of the collector */

struct decide {
    struct tg_vm *vm;
    const struct tg_series_desc *series;
    struct tg_arena *arena;
    struct tg_decision *out;
    struct tg_rules_trace *trace;
    enum tg_rule_no failed; /* TG_RULES = none */
    bool nomem;             /* the arena refused */
};

static uint32_t all_backends(const struct tg_rules_config *c)
{
    return c->n_backends >= 32 ? UINT32_MAX : (UINT32_C(1) << c->n_backends) - 1;
}

/* Deep copy of the series as it came. */
static bool copy_desc(const struct tg_series_desc *d, struct tg_arena *arena,
                      struct tg_series_desc *out, bool with_tags)
{
    *out = *d;
    out->name = tg_arena_strndup(arena, d->name, d->name_len);
    out->unit = tg_arena_strndup(arena, d->unit ? d->unit : "", d->unit_len);
    if (!out->name || !out->unit) return false;
    out->tags = NULL;
    out->n_tags = 0;
    if (!with_tags) return true;
    out->tags = tg_arena_alloc(arena, (d->n_tags ? d->n_tags : 1) * sizeof(*out->tags));
    if (!out->tags) return false;
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        char *copy = tg_arena_alloc(arena, (size_t)t->key_len + t->value_len + 1);
        if (!copy) return false;
        memcpy(copy, t->key, t->key_len);
        memcpy(copy + t->key_len, t->value, t->value_len);
        out->tags[i] = *t;
        out->tags[i].key = copy;
        out->tags[i].value = copy + t->key_len;
    }
    out->n_tags = d->n_tags;
    return true;
}

static void trace_step(struct decide *d, enum tg_rule_no rule, int line, const char *text)
{
    if (!d->trace) return;
    (void)snprintf(d->trace->steps[rule].note, sizeof(d->trace->steps[rule].note), "%.159s", text);
    d->trace->steps[rule].line = line;
}

/* The error of a failed rule without its "file:line: ", which have their own fields. */
static void trace_error(struct decide *d, enum tg_rule_no rule)
{
    const char *text = d->vm->error;
    const size_t n = strlen(d->vm->names[rule]);
    int line = 0;
    if (strncmp(text, d->vm->names[rule], n) == 0 && text[n] == ':') {
        text += n + 1;
        char *end;
        const long v = strtol(text, &end, 10);
        if (end != text && *end == ':' && isdigit((unsigned char)*text)) {
            line = (int)v;
            text = end + 1;
        }
        while (*text == ' ') text++;
    }
    trace_step(d, rule, line, text);
}

static void push_targets(lua_State *L, const struct tg_vm *vm)
{
    lua_createtable(L, vm->n_order, 0);
    for (int i = 0; i < vm->n_order; i++) {
        lua_pushstring(L, vm->config->backends[vm->order[i]]);
        lua_rawseti(L, -2, i + 1);
    }
}

static bool call_once(lua_State *L, struct decide *d, enum tg_rule_no rule)
{
    struct tg_vm *vm = d->vm;
    vm->rule = rule;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->ref_rules[rule]);
    tgl_series_push(L, vm, rule == TG_RULE_TAGS);
    if (rule == TG_RULE_STRATEGY) push_targets(L, vm);
    const bool ok = tg_vm_call(vm, rule == TG_RULE_STRATEGY ? 2 : 1, 1);
    tgl_outside_restore(L, vm);
    return ok;
}

/* Runs one rule; fills *verdict (not for tags). false: it failed and vm->error says why. */
static bool run_rule(lua_State *L, struct decide *d, enum tg_rule_no rule,
                     struct tg_verdict *verdict)
{
    struct tg_vm *vm = d->vm;
    /* The second round is for an error whose line a tail call has hidden ("return to(...)"): rules
     * are pure, so running it again under a line hook finds the line. */
    for (int round = 0; round < 2; round++) {
        vm->tracing = d->trace || round > 0;
        const int base = lua_gettop(L);
        bool ok = call_once(L, d, rule);
        if (ok && rule == TG_RULE_TAGS) {
            struct tg_verdict none;
            ok = tgl_verdict_get(L, vm, -1, rule, &none) &&
                 tgl_series_read_tags(L, vm, d->arena, &d->out->mapped, &d->nomem);
            if (ok && d->trace) {
                char text[sizeof(d->trace->steps[0].note)];
                const int line = tgl_series_note(vm, &d->out->mapped, text, sizeof(text));
                trace_step(d, rule, line, text);
            }
        } else if (ok) {
            struct tg_verdict none;
            const struct tg_verdict *v = tgl_verdict_get(L, vm, -1, rule, &none);
            ok = v != NULL;
            if (ok) {
                *verdict = *v;
                if (v->kind != TG_VERDICT_NONE) trace_step(d, rule, v->line, v->note);
            }
        }
        lua_settop(L, base);
        const bool again =
            !ok && !d->nomem && !vm->has_position && !vm->tracing && vm->overrun == TG_OVERRUN_NONE;
        const bool was_tracing = vm->tracing;
        vm->tracing = false;
        if (was_tracing) tg_vm_arm(vm);
        if (!again) return ok;
        if (vm->heap.refused) (void)lua_gc(L, LUA_GCCOLLECT, 0);
    }
    return false;
}

static const char *default_note(enum tg_rule_no rule)
{
    static const char *const notes[TG_RULES] = {"no change", "every backend", "logged()",
                                                "kept for ever"};
    return notes[rule];
}

static void decide_rest(lua_State *L, struct decide *d)
{
    struct tg_vm *vm = d->vm;
    struct tg_decision *out = d->out;
    vm->n_order = (uint8_t)vm->config->n_backends;
    for (uint8_t i = 0; i < vm->n_order; i++) vm->order[i] = i;
    for (unsigned r = TG_RULE_ROUTING; r < TG_RULES; r++) {
        const enum tg_rule_no rule = (enum tg_rule_no)r;
        if (out->targets == 0) {
            trace_step(d, rule, 0, "not asked: the series is dropped");
            continue;
        }
        trace_step(d, rule, 0, default_note(rule));
        if (vm->ref_rules[rule] == LUA_NOREF) continue;
        vm->targets = out->targets;
        struct tg_verdict v;
        if (!run_rule(L, d, rule, &v)) {
            d->failed = rule;
            return;
        }
        switch ((enum tg_verdict_kind)v.kind) {
        case TG_VERDICT_NONE: break;
        case TG_VERDICT_TO:
            out->targets = v.targets;
            vm->n_order = v.n_order;
            memcpy(vm->order, v.order, sizeof(vm->order));
            break;
        case TG_VERDICT_DROP: out->targets = 0; break;
        case TG_VERDICT_KEEP: out->retention = v.retention; break;
        case TG_VERDICT_STRATEGY:
            out->strategy = v.strategy;
            if (v.strategy == TG_STRATEGY_ALL) out->wait = out->targets;
            if (v.strategy == TG_STRATEGY_PRIMARY_ASYNC) out->wait = v.targets;
            if (v.strategy == TG_STRATEGY_PRIMARY_ONLY) out->targets = out->wait = v.targets;
            break;
        }
    }
}

static int decide_protected(lua_State *L)
{
    struct decide *d = lua_touserdata(L, 1);
    struct tg_vm *vm = d->vm;
    if (vm->ref_rules[TG_RULE_TAGS] != LUA_NOREF) {
        vm->desc = d->series;
        struct tg_verdict unused;
        if (!run_rule(L, d, TG_RULE_TAGS, &unused)) {
            d->failed = TG_RULE_TAGS;
            return 0;
        }
    } else {
        trace_step(d, TG_RULE_TAGS, 0, default_note(TG_RULE_TAGS));
    }
    vm->desc = &d->out->mapped;
    vm->series_filled = false;
    decide_rest(L, d);
    if (++vm->n_calls % GC_EVERY == 0) (void)lua_gc(L, LUA_GCSTEP, 1);
    return 0;
}

static void on_error_route(const struct tg_rules_config *config, struct tg_decision *out)
{
    const uint32_t on_error = config->on_error_targets & all_backends(config);
    out->targets = on_error ? on_error : all_backends(config);
    out->wait = 0;
    out->strategy = TG_STRATEGY_LOGGED;
    out->retention = (struct tg_retention){0};
    out->failed = true;
}

bool tg_vm_decide(struct tg_vm *vm, const struct tg_series_desc *series, struct tg_arena *arena,
                  struct tg_decision *out, struct tg_rules_trace *trace,
                  enum tg_rule_no *error_rule)
{
    struct decide d = {
        .vm = vm, .series = series, .arena = arena, .out = out, .trace = trace, .failed = TG_RULES};
    const bool has_tags_rule = vm->ref_rules[TG_RULE_TAGS] != LUA_NOREF;
    if (!copy_desc(series, arena, &out->mapped, !has_tags_rule)) return false;
    out->targets = all_backends(vm->config);
    out->wait = 0;
    out->strategy = TG_STRATEGY_LOGGED;
    out->failed = out->tags_failed = false;
    out->retention = (struct tg_retention){0};
    vm->max_ms =
        trace && vm->config->max_ms > TG_RULE_EXPLAIN_MS ? TG_RULE_EXPLAIN_MS : vm->config->max_ms;
    vm->heap.refused = vm->heap.process_refused = false;
    vm->overrun = TG_OVERRUN_NONE;
    vm->rule = TG_RULE_TAGS;

    lua_settop(vm->L, 0);
    if (lua_cpcall(vm->L, decide_protected, &d) != 0) {
        tg_vm_set_error(vm, 0, "out of memory around the rule");
        vm->overrun = TG_OVERRUN_BYTES;
        vm->heap.refused = true;
        d.failed = vm->rule;
    }
    vm->desc = NULL;
    *error_rule = d.failed;
    if (d.nomem) return false;
    if (d.failed == TG_RULES) return true;

    trace_error(&d, d.failed);
    for (unsigned r = (unsigned)d.failed + 1; r < TG_RULES; r++)
        trace_step(&d, (enum tg_rule_no)r, 0, "not asked: a rule before it failed");
    on_error_route(vm->config, out);
    out->tags_failed = d.failed == TG_RULE_TAGS;
    return d.failed != TG_RULE_TAGS || copy_desc(series, arena, &out->mapped, true);
}

bool tg_decide_on_error(const struct tg_rules_config *config, const struct tg_series_desc *series,
                        struct tg_arena *arena, struct tg_decision *out)
{
    on_error_route(config, out);
    out->tags_failed = true;
    return copy_desc(series, arena, &out->mapped, true);
}
