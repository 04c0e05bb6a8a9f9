/* rules.h: the operator's four scripts as generations of sandboxed Lua VMs.
 *
 *   generation 7: [ validation VM (thrown away) ]  [ VM slot 0 ] [ VM slot 1 ] ...
 *                                                  one per deciding thread
 *
 * Loading makes every VM of the new generation beside the old one; only when all of them loaded
 * does it become the one in force. A thread adopts it at its next decision. A broken script leaves
 * the old generation in force.
 *
 * A decision never fails as far as the pipeline is concerned: a rule that errors or overruns its
 * budget is counted and logged, and the series takes the on_error route.
 *
 * Threading: one load or reload at a time, from any thread; tg_rules_decide from the thread that
 * owns `slot`.
 */
#ifndef TG_RULES_RULES_H
#define TG_RULES_RULES_H

#include "core/base/err.h"
#include "core/model/plan.h"
#include "core/model/series.h"

struct tg_rules;
struct tg_fs;
struct lua_State;

struct tg_rules_config {
    const char *tags_path, *routing_path, *strategy_path,
        *retention_path; /* absolute; NULL = no such rule: tags as received, every backend,
                            logged, kept for ever */
    const char *const
        *backends; /* names, index = backend number; borrowed for the life of the rules */
    unsigned n_backends;
    unsigned n_slots;          /* deciding threads */
    uint32_t on_error_targets; /* bit mask; 0 = every backend */
    uint64_t max_instructions; /* per call; 0 = 1000000 */
    uint32_t max_ms;           /* per call; 0 = 50 */
    uint64_t max_bytes;        /* per VM; 0 = 32 MiB */
    uint32_t trial_ms;         /* for the trial of a reload; 0 = none */
    uint32_t read_ms;          /* for reading the files of one load; 0 = 5000 */
    const struct tg_fs *fs;    /* NULL = the real one; borrowed for the life of the process */
};

/* What a look at the scripts found. */
enum tg_rules_finding {
    TG_RULES_ERROR,   /* refuses the rules */
    TG_RULES_WARNING, /* refuses them where warnings do */
    TG_RULES_NOTE,    /* a warning that refuses nothing, for it is so by the rules in force, too */
};
enum { TG_RULES_MAX_FINDINGS = 32 };
struct tg_rules_report {
    uint32_t n_errors, n_warnings; /* all of them */
    uint32_t n_items;              /* those kept: the first TG_RULES_MAX_FINDINGS */
    uint32_t n_notes;              /* among the warnings: they hold for the rules in force, too */
    struct {
        enum tg_rules_finding kind;
        char text[480]; /* "routing.lua:12: to(): no backend is called ..." */
    } items[TG_RULES_MAX_FINDINGS];
    uint64_t n_live, n_decided; /* by a trial: live series, and those of them that it decided */
};
/* Counts a finding and keeps its text while there is room. */
void tg_rules_report_add(struct tg_rules_report *report, enum tg_rules_finding kind,
                         const char *text);
/* Whether all that is wrong was found by a trial: then the new rules can be forced. */
bool tg_rules_may_force(const struct tg_rules_report *report, enum tg_code code);
/* Loads each script by itself, so that all that are broken are named, and looks at the names in it
 * (see names.h). Nothing of it is put in force. TG_ERR_INVALID when there is an error in `report`;
 * TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_rules_check(const struct tg_rules_config *config,
                                          struct tg_rules_report *report);

/* Loads the first generation. TG_ERR_INVALID with "file:line: why" when a script does not load. */
TG_MUST_CHECK enum tg_code tg_rules_new(const struct tg_rules_config *config, struct tg_rules **out,
                                        struct tg_err *err);
void tg_rules_free(struct tg_rules *r); /* NULL accepted; no decider running */
/* Loads the scripts again; on success the new generation is in force. On failure the old one stays.
 */
TG_MUST_CHECK enum tg_code tg_rules_reload(struct tg_rules *r, struct tg_err *err);
/* A new generation, loaded but not in force yet, in the hands of the thread that loads it. */
struct tg_rules_candidate;
/* Decides as tg_rules_decide would if it were in force; counts and says nothing. `why` gets "" or
 * the error of the rule that failed. TG_ERR_NOMEM; TG_ERR_TIMEOUT when the trial's time is up, or
 * it is canceled. */
TG_MUST_CHECK enum tg_code tg_rules_candidate_decide(struct tg_rules_candidate *c,
                                                     const struct tg_series_desc *series,
                                                     struct tg_arena *arena,
                                                     struct tg_decision *out, char *why,
                                                     size_t why_cap);
struct tg_rules_reload_how {
    bool is_forced; /* what the trial finds does not refuse the new rules */
    bool is_strict; /* warnings refuse them, too */
    /* Tries the candidate and adds what it finds to the report; NULL = no trial. TG_ERR_NOMEM ends
     * the reload. */
    enum tg_code (*trial)(void *arg, struct tg_rules_candidate *c, struct tg_rules_report *report);
    void *arg;
};
/* As tg_rules_reload, with a trial before the new generation is in force: an error that it finds
 * refuses the generation. *report says what was found, also when the rules are in force. */
TG_MUST_CHECK enum tg_code tg_rules_reload_tried(struct tg_rules *r,
                                                 const struct tg_rules_reload_how *how,
                                                 struct tg_rules_report *report,
                                                 struct tg_err *err);
/* Cuts a reload under way short, and all later ones: TG_ERR_CANCELED, the old rules stay. For a
 * stop. Any thread. */
void tg_rules_cancel_load(struct tg_rules *r);
uint64_t tg_rules_generation(const struct tg_rules *r); /* in force; any thread; starts at 1 */

struct tg_rules_trace { /* for explain: which line decided; file is relative to the script's folder
                         */
    char error[256];    /* why a rule failed: "routing.lua:12: ..."; "" = none did */
    struct {
        char what[16]; /* "tags", "routing", "strategy", "retention" */
        char file[96];
        int line;       /* 0 = the rule's default */
        char note[160]; /* "to(\"archive\")", "drop(\"debug\")", "keep(\"90d\")", error text */
    } steps[4];
};

/* Runs the four rules for a canonical desc. Fills *out (its mapped desc's strings and tags live in
 * `arena`) with a usable decision; out->failed tells that a rule failed. While the breaker of the
 * generation is open (breaker.h) the rules are not run: the on_error route, and out->generation is
 * 0: to be decided again once they are. So it is when the process has no memory for them; after two
 * such decisions the slot's rules rest for 100 ms. `trace` may be NULL; with it this is a look: the
 * rules always run, the breaker takes no notice, and nothing is counted, said, or kept as the last
 * error. TG_ERR_NOMEM when `arena` refuses, TG_ERR_CANCELED when the time of tg_rules_stop_at has
 * come: then the caller refuses the points. */
TG_MUST_CHECK enum tg_code tg_rules_decide(struct tg_rules *r, unsigned slot,
                                           const struct tg_series_desc *series,
                                           struct tg_arena *arena, struct tg_decision *out,
                                           struct tg_rules_trace *trace);

/* Whether tg_rules_decide would give `slot` a decision without running the rules. A look without
 * locks. */
bool tg_rules_is_broken(const struct tg_rules *r, unsigned slot);
/* From this time on (monotonic) nothing is decided any more, and rules that run are cut short: for
 * a stop. Any thread. */
void tg_rules_stop_at(struct tg_rules *r, uint64_t mono_ns);

struct tg_rules_stats {
    uint64_t n_decisions, n_errors, n_budget_overruns, n_reloads, n_reload_failures;
    uint64_t n_not_run;       /* decisions without the rules, for the breaker was open */
    bool is_breaker_open;     /* of the generation in force */
    uint64_t breaker_open_ms; /* for so long; 0 = it is not */
    char stray[192]; /* what a rule in force changed outside of its function, "" = nothing: it is
                        put back after each series */
    char last_error[256]; /* "routing.lua:12: ..."; "" since a reload that went well */
};
struct tg_rules_stats tg_rules_stats(const struct tg_rules *r); /* any thread */

#endif
