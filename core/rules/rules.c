#include "core/rules/rules.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/rules/names.h"
#include "core/rules/source.h"
#include "core/rules/vm.h"
#include "core/vm/breaker.h"

/* For all scripts and all VMs of one load together. */
static const uint64_t LOAD_NS = UINT64_C(20) * 1000000000;
enum {
    READ_MS = 5000, /* for the files of one load */
    MEMORY_RETRY_MS = 100,
};

/* The texts of one loaded set, shared by the VMs made from it. */
struct generation {
    _Atomic uint32_t refs;
    uint64_t number;
    struct tg_rule_text texts[TG_RULES];
    struct tg_breaker breaker;
    _Atomic bool has_strayed;
};

/* A VM on its way to, or in the hands of, the thread of a slot. */
struct slot_vm {
    struct generation *generation; /* one reference */
    struct tg_vm *vm;              /* NULL after it broke and could not be replaced yet */
    uint64_t retry_ms; /* monotonic: the rules are not run before, for the process had no memory */
    bool is_refused;   /* the process refused memory to the decision before */
};

struct slot {
    _Atomic(struct slot_vm *) next; /* published by reload, taken by the thread */
    struct slot_vm *current;        /* the slot's thread alone */
    char pad[48];                   /* a cache line per thread */
};

struct tg_rules {
    struct tg_rules_config config; /* limits resolved; paths owned */
    char *paths[TG_RULES];
    struct tg_sources sources;
    _Atomic uint64_t generation;
    _Atomic uint64_t load_until_ns; /* monotonic: of the load under way; 0 = canceled */
    _Atomic bool is_canceled;       /* no load begins any more */
    _Atomic uint64_t decide_until_ns;
    struct slot *slots;

    _Atomic uint64_t n_decisions, n_errors, n_budget_overruns, n_reloads, n_reload_failures;
    _Atomic uint64_t n_not_run;
    _Atomic uint64_t broken_generation; /* whose breaker opened last; 0 = it has closed again */
    _Atomic uint64_t broken_at_ns;      /* monotonic */
    pthread_mutex_t error_lock;
    char last_error[256]; /* under error_lock, as the next */
    char stray[192];      /* of the generation in force */
};

static void generation_unref(struct generation *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1) return;
    for (unsigned i = 0; i < TG_RULES; i++) {
        tg_free(g->texts[i].text);
        tg_free(g->texts[i].code);
    }
    tg_free(g);
}

static void slot_vm_free(struct slot_vm *s)
{
    if (!s) return;
    tg_vm_free(s->vm);
    generation_unref(s->generation);
    tg_free(s);
}

static enum tg_code generation_load(struct tg_rules *r, uint64_t number, struct generation **out,
                                    struct tg_err *err)
{
    struct generation *g = tg_calloc(1, sizeof(*g));
    *out = NULL;
    if (!g) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    atomic_init(&g->refs, 1);
    g->number = number;
    tg_breaker_init(&g->breaker);
    for (unsigned i = 0; i < TG_RULES; i++) {
        const char *path = r->paths[i];
        const char *slash = path ? strrchr(path, '/') : NULL;
        if (path)
            (void)snprintf(g->texts[i].name, sizeof(g->texts[i].name), "%s",
                           slash ? slash + 1 : path);
        else
            (void)snprintf(g->texts[i].name, sizeof(g->texts[i].name), "(no %s.lua)",
                           tg_rule_names[i]);
    }
    const enum tg_code code = tg_sources_read(&r->sources, g->texts, err);
    if (code != TG_OK) {
        generation_unref(g);
        return code;
    }
    *out = g;
    return TG_OK;
}

void tg_rules_report_add(struct tg_rules_report *report, enum tg_rules_finding kind,
                         const char *text)
{
    if (kind == TG_RULES_ERROR)
        report->n_errors++;
    else
        report->n_warnings++;
    if (kind == TG_RULES_NOTE) report->n_notes++;
    if (report->n_items == TG_RULES_MAX_FINDINGS) return;
    report->items[report->n_items].kind = kind;
    (void)snprintf(report->items[report->n_items].text, sizeof(report->items[0].text), "%s", text);
    report->n_items++;
}

bool tg_rules_may_force(const struct tg_rules_report *report, enum tg_code code)
{
    return code == TG_ERR_INVALID && report->n_live > 0 && report->n_errors > 0;
}

static void add_finding(void *arg, bool is_error, const char *text)
{
    tg_rules_report_add(arg, is_error ? TG_RULES_ERROR : TG_RULES_WARNING, text);
}

/* TG_ERR_INVALID with the first finding of a kind. */
static enum tg_code refuse(const struct tg_rules_report *report, enum tg_rules_finding kind,
                           struct tg_err *err)
{
    for (uint32_t i = 0; i < report->n_items; i++)
        if (report->items[i].kind == kind)
            return tg_fail(err, TG_ERR_INVALID, "%s", report->items[i].text);
    return tg_fail(err, TG_ERR_INVALID, "too many mistakes to name this one");
}

/* The names in the scripts that `vm` has loaded. TG_ERR_INVALID: *err says the first that is wrong.
 */
static enum tg_code check_names(struct tg_vm *vm, const struct generation *g,
                                struct tg_rules_report *report, struct tg_err *err)
{
    const uint32_t n_before = report->n_errors;
    for (unsigned i = 0; i < TG_RULES; i++)
        if (tg_names_check(vm, (enum tg_rule_no)i, &g->texts[i], add_finding, report) != TG_OK)
            return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    return report->n_errors == n_before ? TG_OK : refuse(report, TG_RULES_ERROR, err);
}

struct tg_rules_candidate {
    struct tg_rules *rules;
    struct generation *generation;
    struct tg_vm *vm;
};

enum tg_code tg_rules_candidate_decide(struct tg_rules_candidate *c,
                                       const struct tg_series_desc *series, struct tg_arena *arena,
                                       struct tg_decision *out, char *why, size_t why_cap)
{
    struct tg_rules *r = c->rules;
    struct tg_vm *vm = c->vm;
    enum tg_rule_no failed;
    why[0] = '\0';
    if (tg_clock_mono_ns() >= atomic_load_explicit(&r->load_until_ns, memory_order_relaxed))
        return TG_ERR_TIMEOUT;
    out->generation = c->generation->number;
    const bool ok = tg_vm_decide(vm, series, arena, out, NULL, &failed);
    if (vm->overrun == TG_OVERRUN_CUT) return TG_ERR_TIMEOUT;
    if (ok && failed != TG_RULES) (void)snprintf(why, why_cap, "%s", vm->error);
    const bool refused = vm->heap.refused || vm->overrun == TG_OVERRUN_BYTES;
    if ((refused ||
         vm->heap.used_bytes > vm->base_bytes + (vm->heap.max_bytes - vm->base_bytes) / 2) &&
        !tg_vm_recover(vm)) {
        tg_vm_free(vm);
        c->vm = NULL;
        TG_TRY(tg_vm_new(&r->config, c->generation->number, c->generation->texts, &r->load_until_ns,
                         &c->vm, NULL));
    }
    return ok ? TG_OK : TG_ERR_NOMEM;
}

/* Gives what is under way so many ns more. TG_ERR_CANCELED: none. */
static enum tg_code allow(struct tg_rules *r, uint64_t ns, struct tg_err *err)
{
    /* In this order: tg_rules_cancel_load does it in the other, so one of the two sees it. */
    atomic_store(&r->load_until_ns, tg_clock_mono_ns() + ns);
    if (!atomic_load(&r->is_canceled)) return TG_OK;
    atomic_store(&r->load_until_ns, 0);
    return tg_fail(err, TG_ERR_CANCELED, "the rules are not loaded any more: shutting down");
}

static enum tg_code try_candidate(struct tg_rules *r, struct tg_rules_candidate *c,
                                  const struct tg_rules_reload_how *how,
                                  struct tg_rules_report *report, struct tg_err *err)
{
    if (how->trial && r->config.trial_ms) {
        TG_TRY(allow(r, (uint64_t)r->config.trial_ms * 1000000, err));
        if (how->trial(how->arg, c, report) != TG_OK)
            return tg_fail(err, TG_ERR_NOMEM, "out of memory while the new rules were tried");
        TG_TRY(allow(r, LOAD_NS, err));
    }
    if (c->vm && c->vm->stray[0]) tg_rules_report_add(report, TG_RULES_WARNING, c->vm->stray);
    if (how->is_forced) return TG_OK;
    if (report->n_errors) return refuse(report, TG_RULES_ERROR, err);
    const bool has_warnings = report->n_warnings > report->n_notes;
    return how->is_strict && has_warnings ? refuse(report, TG_RULES_WARNING, err) : TG_OK;
}

/* Makes the VM of every slot. `made` has room for them; on failure those made are still the
 * caller's. */
static enum tg_code make_vms(struct tg_rules *r, struct generation *g, struct slot_vm **made,
                             struct tg_err *err)
{
    for (unsigned i = 0; i < r->config.n_slots; i++) {
        made[i] = tg_calloc(1, sizeof(*made[i]));
        if (!made[i]) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
        atomic_fetch_add(&g->refs, 1);
        made[i]->generation = g;
        TG_TRY(tg_vm_new(&r->config, g->number, g->texts, &r->load_until_ns, &made[i]->vm, err));
        made[i]->vm->until_ns = &r->decide_until_ns;
    }
    return TG_OK;
}

static enum tg_code make_generation(struct tg_rules *r, struct generation *g,
                                    const struct tg_rules_reload_how *how,
                                    struct tg_rules_report *report, struct tg_err *err)
{
    struct tg_rules_candidate c = {.rules = r, .generation = g};
    /* First in a VM that is thrown away: a script that fails costs no more than that one. */
    enum tg_code code = tg_vm_new(&r->config, g->number, g->texts, &r->load_until_ns, &c.vm, err);
    if (code == TG_OK) code = check_names(c.vm, g, report, err);
    if (code == TG_OK) code = try_candidate(r, &c, how, report, err);
    tg_vm_free(c.vm);
    if (code != TG_OK) return code;
    struct slot_vm **made = tg_calloc(r->config.n_slots, sizeof(struct slot_vm *));
    if (!made) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    code = make_vms(r, g, made, err);
    if (code == TG_OK) {
        /* VMs first, then the number: whoever has read it decides by it or a later one. */
        for (unsigned i = 0; i < r->config.n_slots; i++)
            slot_vm_free(atomic_exchange(&r->slots[i].next, made[i])); /* one never adopted */
        atomic_store(&r->generation, g->number);
        pthread_mutex_lock(&r->error_lock);
        r->stray[0] = '\0';
        pthread_mutex_unlock(&r->error_lock);
    } else {
        for (unsigned i = 0; i < r->config.n_slots; i++) slot_vm_free(made[i]);
    }
    tg_free(made);
    return code;
}

static enum tg_code fail_slow_load(const struct tg_rules *r, struct tg_err *err)
{
    struct tg_err where = {.msg = ""};
    if (err) where = *err;
    return tg_fail(err, TG_ERR_INVALID,
                   "%s: the scripts took more than %d s to load, for %u threads; let them do less "
                   "outside their functions",
                   where.msg, (int)(LOAD_NS / 1000000000), r->config.n_slots);
}

/* Loads the scripts and makes every VM of the new generation; all or none. */
static enum tg_code load(struct tg_rules *r, const struct tg_rules_reload_how *how,
                         struct tg_rules_report *report, struct tg_err *err)
{
    struct generation *g = NULL;
    TG_TRY(allow(r, LOAD_NS, err));
    enum tg_code code = generation_load(r, atomic_load(&r->generation) + 1, &g, err);
    if (code == TG_ERR_TIMEOUT && !atomic_load(&r->is_canceled)) return TG_ERR_IO;
    if (code == TG_OK) code = make_generation(r, g, how, report, err);
    if (code == TG_ERR_TIMEOUT && atomic_load(&r->is_canceled))
        code =
            tg_fail(err, TG_ERR_CANCELED, "the loading of the rules was cut short: shutting down");
    else if (code == TG_ERR_TIMEOUT)
        code = fail_slow_load(r, err);
    generation_unref(g);
    return code;
}

static void note_error(struct tg_rules *r, const char *text)
{
    pthread_mutex_lock(&r->error_lock);
    (void)snprintf(r->last_error, sizeof(r->last_error), "%s", text);
    pthread_mutex_unlock(&r->error_lock);
}

/* Everything but the scripts. */
static enum tg_code make(const struct tg_rules_config *config, struct tg_rules **out,
                         struct tg_err *err)
{
    *out = NULL;
    if (config->n_backends > TG_MAX_BACKENDS)
        return tg_fail(err, TG_ERR_INVALID, "%u backends are configured; at most %d are possible",
                       config->n_backends, (int)TG_MAX_BACKENDS);
    struct tg_rules *r = tg_calloc(1, sizeof(*r));
    if (!r) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    if (pthread_mutex_init(&r->error_lock, NULL) != 0) {
        tg_free(r);
        return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    }
    r->config = *config;
    atomic_store(&r->load_until_ns, tg_clock_mono_ns() + LOAD_NS);
    atomic_store(&r->decide_until_ns, UINT64_MAX);
    if (r->config.n_slots == 0) r->config.n_slots = 1;
    if (r->config.max_instructions == 0) r->config.max_instructions = 1000000;
    if (r->config.max_instructions > INT64_MAX / 64) r->config.max_instructions = INT64_MAX / 64;
    if (r->config.max_ms == 0) r->config.max_ms = 50;
    if (r->config.max_bytes == 0) r->config.max_bytes = (uint64_t)32 << 20;
    r->sources = (struct tg_sources){.fs = config->fs ? config->fs : tg_fs_real(),
                                     .paths = (const char *const *)r->paths,
                                     .until_ns = &r->load_until_ns,
                                     .max_ms = config->read_ms ? config->read_ms : READ_MS};
    const char *const paths[TG_RULES] = {config->tags_path, config->routing_path,
                                         config->strategy_path, config->retention_path};
    for (unsigned i = 0; i < TG_RULES; i++) {
        if (!paths[i]) continue;
        r->paths[i] = tg_strndup(paths[i], strlen(paths[i]));
        if (!r->paths[i]) goto failed;
    }
    r->slots = tg_calloc(r->config.n_slots, sizeof(*r->slots));
    if (!r->slots) goto failed;
    *out = r;
    return TG_OK;
failed:
    tg_rules_free(r);
    return tg_fail(err, TG_ERR_NOMEM, "out of memory");
}

enum tg_code tg_rules_new(const struct tg_rules_config *config, struct tg_rules **out,
                          struct tg_err *err)
{
    static const struct tg_rules_reload_how plain = {.trial = NULL};
    struct tg_rules_report report = {.n_items = 0};
    TG_TRY(make(config, out, err));
    const enum tg_code code = load(*out, &plain, &report, err);
    if (code != TG_OK) {
        tg_rules_free(*out);
        *out = NULL;
    }
    return code;
}

static enum tg_code check_script(const struct tg_rules_config *config,
                                 struct tg_rules_report *report)
{
    struct tg_rules *r = NULL;
    struct generation *g = NULL;
    struct tg_vm *vm = NULL;
    struct tg_err err = {.msg = ""};
    enum tg_code code = make(config, &r, &err);
    if (code == TG_OK) code = generation_load(r, 1, &g, &err);
    if (code == TG_OK) code = tg_vm_new(&r->config, 1, g->texts, &r->load_until_ns, &vm, &err);
    if (code == TG_OK)
        code = check_names(vm, g, report, &err);
    else
        add_finding(report, true, err.msg);
    tg_vm_free(vm);
    generation_unref(g);
    tg_rules_free(r);
    return code == TG_ERR_NOMEM ? code : TG_OK; /* what is wrong is in the report */
}

enum tg_code tg_rules_check(const struct tg_rules_config *config, struct tg_rules_report *report)
{
    memset(report, 0, sizeof(*report));
    for (unsigned i = 0; i < TG_RULES; i++) {
        struct tg_rules_config one = *config;
        if (i != TG_RULE_TAGS) one.tags_path = NULL;
        if (i != TG_RULE_ROUTING) one.routing_path = NULL;
        if (i != TG_RULE_STRATEGY) one.strategy_path = NULL;
        if (i != TG_RULE_RETENTION) one.retention_path = NULL;
        TG_TRY(check_script(&one, report));
    }
    return report->n_errors ? TG_ERR_INVALID : TG_OK;
}

void tg_rules_free(struct tg_rules *r)
{
    if (!r) return;
    for (unsigned i = 0; r->slots && i < r->config.n_slots; i++) {
        slot_vm_free(atomic_load(&r->slots[i].next));
        slot_vm_free(r->slots[i].current);
    }
    tg_free(r->slots);
    tg_sources_deinit(&r->sources);
    for (unsigned i = 0; i < TG_RULES; i++) tg_free(r->paths[i]);
    pthread_mutex_destroy(&r->error_lock);
    tg_free(r);
}

/* All but the one that is said with the outcome: `said` is the beginning of its text, or NULL. */
static void warn_findings(const struct tg_rules_report *report, const char *said)
{
    for (uint32_t i = 0; i < report->n_items; i++) {
        const char *text = report->items[i].text;
        if (!said || strncmp(text, said, strlen(said)) != 0) tg_warn("rules", "%s", text);
    }
}

enum tg_code tg_rules_reload(struct tg_rules *r, struct tg_err *err)
{
    static const struct tg_rules_reload_how plain = {.trial = NULL};
    struct tg_rules_report report;
    return tg_rules_reload_tried(r, &plain, &report, err);
}

enum tg_code tg_rules_reload_tried(struct tg_rules *r, const struct tg_rules_reload_how *how,
                                   struct tg_rules_report *report, struct tg_err *err)
{
    struct tg_err own;
    struct tg_err *e = err ? err : &own;
    memset(report, 0, sizeof(*report));
    const enum tg_code code = load(r, how, report, e);
    /* What kept the scripts from being looked at is an error like those found in them. */
    if (code != TG_OK && !report->n_items) tg_rules_report_add(report, TG_RULES_ERROR, e->msg);
    warn_findings(report, code == TG_OK ? NULL : e->msg);
    if (code == TG_OK) {
        atomic_fetch_add(&r->n_reloads, 1);
        note_error(r, ""); /* what was wrong with the scripts before is no longer so */
        tg_info("rules", "generation %llu is in force",
                (unsigned long long)atomic_load(&r->generation));
        return TG_OK;
    }
    atomic_fetch_add(&r->n_reload_failures, 1);
    note_error(r, e->msg);
    tg_error("rules", "%s; generation %llu stays in force%s", e->msg,
             (unsigned long long)atomic_load(&r->generation),
             tg_rules_may_force(report, code)
                 ? " (POST /-/reload?force=1 puts the new rules in force all the same)"
                 : "");
    return code;
}

void tg_rules_cancel_load(struct tg_rules *r)
{
    atomic_store(&r->is_canceled, true);
    atomic_store(&r->load_until_ns, 0);
}

uint64_t tg_rules_generation(const struct tg_rules *r)
{
    return atomic_load(&r->generation);
}

static bool is_short_of_memory(const struct slot_vm *s)
{
    return s->retry_ms && s->retry_ms > tg_clock_mono_ms();
}

/* Gives the slot a fresh VM of its generation when the old one is beyond use. */
static void replace_vm(struct slot_vm *s, struct tg_rules *r)
{
    tg_vm_free(s->vm);
    s->vm = NULL;
    if (is_short_of_memory(s)) return;
    struct tg_err err;
    if (tg_vm_new(&r->config, s->generation->number, s->generation->texts, &r->decide_until_ns,
                  &s->vm, &err) != TG_OK) {
        s->vm = NULL;
        s->retry_ms = tg_clock_mono_ms() + MEMORY_RETRY_MS;
        tg_warn("rules",
                "%s; until there is memory series keep their last decision, new ones take the "
                "on_error route",
                err.msg);
    }
}

static void report(struct tg_rules *r, const struct tg_vm *vm, const struct tg_series_desc *series)
{
    char name[80];
    atomic_fetch_add_explicit(&r->n_errors, 1, memory_order_relaxed);
    if (vm->overrun != TG_OVERRUN_NONE)
        atomic_fetch_add_explicit(&r->n_budget_overruns, 1, memory_order_relaxed);
    note_error(r, vm->error);
    tg_warn("rules",
            "%s (series %s keeps the last decision that did not fail; without one it takes the "
            "on_error route)",
            vm->error, tg_quote(name, sizeof(name), series->name, series->name_len));
}

/* Once a generation. */
static void note_stray(struct tg_rules *r, struct generation *g, struct tg_vm *vm)
{
    if (!vm->stray[0] || vm->stray_said) return;
    vm->stray_said = true; /* it stays in vm->stray, so that the VM notes no other */
    if (g->number != atomic_load(&r->generation) || atomic_exchange(&g->has_strayed, true)) return;
    pthread_mutex_lock(&r->error_lock);
    (void)snprintf(r->stray, sizeof(r->stray), "%s", vm->stray);
    pthread_mutex_unlock(&r->error_lock);
    tg_warn("rules",
            "%s; it is put back after each series, for a rule keeps nothing between series",
            vm->stray);
}

/* What a decision says of the scripts as a whole. */
static void note_run(struct tg_rules *r, struct generation *g, const struct tg_vm *vm,
                     enum tg_breaker_turn turn)
{
    const enum tg_breaker_change change =
        tg_breaker_note(&g->breaker, turn, vm->overrun != TG_OVERRUN_NONE, tg_clock_mono_ns());
    if (change == TG_BREAKER_STAYS) return;
    if (change == TG_BREAKER_CLOSES) {
        uint64_t number = g->number;
        (void)atomic_compare_exchange_strong(&r->broken_generation, &number, 0);
        tg_info("rules", "a series was decided in time: the rules of generation %llu are run again",
                (unsigned long long)g->number);
        return;
    }
    atomic_store(&r->broken_at_ns, tg_clock_mono_ns());
    atomic_store(&r->broken_generation, g->number);
    char text[sizeof(r->last_error)];
    (void)snprintf(text, sizeof(text),
                   "%.140s; overruns too often: rules are off, one series is tried every %d s; fix "
                   "the script and reload",
                   vm->error, (int)(TG_BREAKER_RETRY_NS / 1000000000));
    note_error(r, text);
    tg_error(
        "rules",
        "%s (generation %llu; series keep their last decision, new ones take the on_error route)",
        text, (unsigned long long)g->number);
}

/* The slot's VM, of the newest generation that was put in force. */
static struct slot_vm *adopt(struct slot *sl)
{
    if (atomic_load_explicit(&sl->next, memory_order_relaxed)) {
        struct slot_vm *next = atomic_exchange(&sl->next, NULL);
        slot_vm_free(sl->current);
        sl->current = next;
    }
    return sl->current;
}

static void begin_trace(struct tg_rules_trace *trace, const struct generation *g)
{
    memset(trace, 0, sizeof(*trace));
    for (unsigned i = 0; i < TG_RULES; i++) {
        (void)snprintf(trace->steps[i].what, sizeof(trace->steps[i].what), "%s", tg_rule_names[i]);
        memcpy(trace->steps[i].file, g->texts[i].name, sizeof(trace->steps[i].file));
    }
}

/* A VM that holds more than it should is collected, or else replaced. */
static void keep_fit(struct tg_rules *r, struct slot_vm *s)
{
    struct tg_vm *vm = s->vm;
    const bool refused = vm->heap.refused || vm->overrun == TG_OVERRUN_BYTES;
    if (!refused &&
        vm->heap.used_bytes <= vm->base_bytes + (vm->heap.max_bytes - vm->base_bytes) / 2)
        return;
    if (tg_vm_recover(vm)) return;
    if (!refused)
        tg_warn("rules", "the rules keep state that grows from series to series; it has been "
                         "discarded (a rule may depend on its series only)");
    replace_vm(s, r);
}

enum tg_code tg_rules_decide(struct tg_rules *r, unsigned slot, const struct tg_series_desc *series,
                             struct tg_arena *arena, struct tg_decision *out,
                             struct tg_rules_trace *trace)
{
    assert(slot < r->config.n_slots);
    struct slot_vm *s = adopt(&r->slots[slot]);
    struct generation *g = s->generation;
    const uint64_t now_ns = tg_clock_mono_ns();
    if (now_ns >= atomic_load_explicit(&r->decide_until_ns, memory_order_relaxed))
        return TG_ERR_CANCELED;
    if (trace)
        begin_trace(trace, g);
    else
        atomic_fetch_add_explicit(&r->n_decisions, 1, memory_order_relaxed);
    const enum tg_breaker_turn turn = trace ? TG_BREAKER_RUNS : tg_breaker_ask(&g->breaker, now_ns);
    if (turn == TG_BREAKER_REFUSES) {
        atomic_fetch_add_explicit(&r->n_not_run, 1, memory_order_relaxed);
        out->generation = 0;
        return tg_decide_on_error(&r->config, series, arena, out) ? TG_OK : TG_ERR_NOMEM;
    }
    if (!s->vm) replace_vm(s, r);
    out->generation = g->number;
    if (!s->vm || (!trace && is_short_of_memory(s))) {
        if (tg_clock_mono_ns() >= atomic_load(&r->decide_until_ns)) return TG_ERR_CANCELED;
        if (trace)
            (void)snprintf(trace->error, sizeof(trace->error),
                           "the rules were not run: out of memory (limits.memory)");
        else
            atomic_fetch_add_explicit(&r->n_errors, 1, memory_order_relaxed);
        out->generation = 0;
        return tg_decide_on_error(&r->config, series, arena, out) ? TG_OK : TG_ERR_NOMEM;
    }

    struct tg_vm *vm = s->vm;
    enum tg_rule_no failed;
    const bool ok = tg_vm_decide(vm, series, arena, out, trace, &failed);
    if (vm->overrun == TG_OVERRUN_CUT) return TG_ERR_CANCELED;
    if (ok && failed != TG_RULES && trace)
        memcpy(trace->error, vm->error, sizeof(trace->error));
    else if (ok && failed != TG_RULES)
        report(r, vm, series);
    if (vm->heap.process_refused) { /* not the scripts' doing: says nothing of them */
        out->generation = 0;
        if (s->is_refused) s->retry_ms = tg_clock_mono_ms() + MEMORY_RETRY_MS;
    } else if (ok && !trace) {
        note_run(r, g, vm, turn);
    }
    s->is_refused = vm->heap.process_refused;
    note_stray(r, g, vm);
    keep_fit(r, s);
    return ok ? TG_OK : TG_ERR_NOMEM;
}

bool tg_rules_is_broken(const struct tg_rules *r, unsigned slot)
{
    const struct slot *sl = &r->slots[slot];
    if (atomic_load_explicit(&sl->next, memory_order_relaxed)) return false;
    if (is_short_of_memory(sl->current)) return true;
    return tg_breaker_is_open(&sl->current->generation->breaker) &&
           tg_breaker_refuses(&sl->current->generation->breaker, tg_clock_mono_ns());
}

void tg_rules_stop_at(struct tg_rules *r, uint64_t mono_ns)
{
    atomic_store(&r->decide_until_ns, mono_ns);
}

struct tg_rules_stats tg_rules_stats(const struct tg_rules *r)
{
    struct tg_rules *w = (struct tg_rules *)(uintptr_t)r; /* the lock is all that is written */
    struct tg_rules_stats s = {
        .n_decisions = atomic_load(&w->n_decisions),
        .n_errors = atomic_load(&w->n_errors),
        .n_budget_overruns = atomic_load(&w->n_budget_overruns),
        .n_reloads = atomic_load(&w->n_reloads),
        .n_reload_failures = atomic_load(&w->n_reload_failures),
        .n_not_run = atomic_load(&w->n_not_run),
        .is_breaker_open = atomic_load(&w->broken_generation) == atomic_load(&w->generation),
    };
    if (s.is_breaker_open)
        s.breaker_open_ms = (tg_clock_mono_ns() - atomic_load(&w->broken_at_ns)) / 1000000;
    pthread_mutex_lock(&w->error_lock);
    memcpy(s.last_error, w->last_error, sizeof(s.last_error));
    memcpy(s.stray, w->stray, sizeof(s.stray));
    pthread_mutex_unlock(&w->error_lock);
    return s;
}
