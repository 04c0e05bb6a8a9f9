#include <inttypes.h>
#include <string.h>

#include "core/admin/explain.h"
#include "core/admin/selector.h"
#include "core/app/cmd.h"
#include "core/base/logger.h"
#include "core/rules/rules.h"

static void print_targets(const struct tg_config *c, const struct tg_decision *d)
{
    if (!d->targets) {
        (void)printf("targets    none: dropped by rule\n");
        return;
    }
    (void)printf("targets    ");
    const char *sep = "";
    for (unsigned i = 0; i < c->n_backends; i++) {
        if (!(d->targets >> i & 1)) continue;
        (void)printf("%s%s%s", sep, c->backends[i].name,
                     d->wait >> i & 1 ? " (acknowledgement waits)" : "");
        sep = ", ";
    }
    (void)printf("\n");
}

static void print_retention(const struct tg_retention *r)
{
    char keep[32], every[32];
    (void)printf("retention  %s", tg_explain_duration(keep, sizeof(keep), r->keep_ms));
    for (uint32_t i = 0; i < r->n_rollups; i++)
        (void)printf("%s %s for %s", i ? "," : "; rolled up",
                     tg_explain_duration(every, sizeof(every), r->rollups[i].every_ms),
                     tg_explain_duration(keep, sizeof(keep), r->rollups[i].keep_ms));
    (void)printf("\n");
}

static void print_decision(const struct tg_config *c, const struct tg_decision *d,
                           const struct tg_rules_trace *trace)
{
    (void)printf("series     %.*s\n", (int)d->mapped.name_len, d->mapped.name);
    for (uint32_t i = 0; i < d->mapped.n_tags; i++) {
        const struct tg_tag *t = &d->mapped.tags[i];
        (void)printf("%-10s %.*s = %.*s\n", i ? "" : "tags", (int)t->key_len, t->key,
                     (int)t->value_len, t->value);
    }
    print_targets(c, d);
    if (d->targets) {
        (void)printf("strategy   %s\n", tg_strategy_name((enum tg_strategy)d->strategy));
        print_retention(&d->retention);
    }
    (void)printf("\ndecided by\n");
    for (size_t i = 0; i < sizeof(trace->steps) / sizeof(trace->steps[0]); i++) {
        char where[128];
        if (trace->steps[i].line)
            (void)snprintf(where, sizeof(where), "%s:%d", trace->steps[i].file,
                           trace->steps[i].line);
        else
            (void)snprintf(where, sizeof(where), "%s",
                           trace->steps[i].file[0] ? trace->steps[i].file : "(default)");
        (void)printf("  %-10s %-24s %s\n", trace->steps[i].what, where, trace->steps[i].note);
    }
    if (d->failed) (void)printf("\nA rule failed: the series takes the on_error route.\n");
}

static int explain(const struct tg_args *args, struct tg_arena *arena)
{
    struct tg_err err = {.msg = ""};
    struct tg_selector selector;
    struct tg_series_desc desc;
    if (tg_selector_parse(args->words[0], arena, &selector, &err) != TG_OK ||
        tg_explain_desc(&selector, tg_args_value(args, "kind"), tg_args_value(args, "unit"), &desc,
                        &err) != TG_OK)
        return tg_usage_error(args->cmd, "%s", err.msg);
    struct tg_config config;
    if (tg_cmd_load_config(args, arena, &config) != TG_OK) return TG_EXIT_FAILED;
    struct tg_rules *rules = NULL;
    tg_log_set_level(TG_LOG_ERROR); /* that a rule failed is part of the answer */
    if (tg_rules_new(&config.rules, &rules, &err) != TG_OK)
        return tg_command_failed(args->cmd, "%s", err.msg);
    struct tg_decision decision;
    struct tg_rules_trace trace;
    memset(&decision, 0, sizeof(decision));
    memset(&trace, 0, sizeof(trace));
    int code = TG_EXIT_OK;
    if (tg_rules_decide(rules, 0, &desc, arena, &decision, &trace) != TG_OK) {
        code = tg_command_failed(args->cmd, "out of memory");
    } else if (tg_args_has(args, "json")) {
        struct tg_buf out;
        tg_buf_init(&out, 1 << 20);
        if (tg_explain_json(&out, &desc, &decision, &trace, config.rules.backends,
                            config.n_backends) == TG_OK)
            (void)fwrite(out.data, 1, out.len, stdout);
        else
            code = tg_command_failed(args->cmd, "out of memory");
        tg_buf_deinit(&out);
    } else {
        print_decision(&config, &decision, &trace);
    }
    if (decision.failed && code == TG_EXIT_OK) code = TG_EXIT_FAILED;
    tg_rules_free(rules);
    return code;
}

static int run(const struct tg_args *args)
{
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    const int code = explain(args, &arena);
    tg_arena_deinit(&arena);
    return code;
}

static const struct tg_flag flags[] = {
    {"config", 'c', "FILE", "the configuration (scripts/gateway.lua)"},
    {"kind", 'k', "KIND", "gauge, counter, histogram, exponential_histogram or summary"},
    {"unit", 'u', "UNIT", "unit of the series, as the sender says it"},
    {"json", 'j', NULL, "print JSON"},
    {0},
};

const struct tg_cmd tg_cmd_explain = {
    .name = "explain",
    .summary = "what the rules decide for a series, and which line decided it",
    .synopsis = "'METRIC{TAG=\"VALUE\", ...}' [--config scripts/gateway.lua] [--kind gauge]",
    .details =
        "Loads the rules as they are on disk; no gateway needs to run. Exit code 1 when a rule "
        "fails.",
    .examples =
        "  tidegate explain 'http.server.duration{service.name=\"shop\", team=\"billing\"}'\n"
        "  tidegate explain debug.heap --kind gauge\n",
    .flags = flags,
    .min_words = 1,
    .max_words = 1,
    .run = run,
};
