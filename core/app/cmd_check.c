/* cmd_check.c: `tidegate check`: is the configuration accepted, are the rules? */
#include "core/admin/explain.h"
#include "core/app/cmd.h"
#include "core/backend/backend.h"
#include "core/base/logger.h"
#include "core/config/config.h"
#include "core/rules/rules.h"

static const char *rule_name(const char *path)
{
    return path ? path : "(built in)";
}

static void print_summary(const struct tg_config *c)
{
    char bytes[32];
    static const char *const syncs[] = {"always", "interval", "never"};
    (void)printf("%s is fine\n", c->path);
    (void)printf("  listen    http %s, admin %s\n", c->http_address, c->admin_address);
    (void)printf("  log       %s, sync %s, up to %s\n", c->log.dir, syncs[c->log.sync],
                 tg_format_bytes(bytes, sizeof(bytes), c->log.max_bytes));
    (void)printf("  rules     tags %s\n            routing %s\n            strategy %s\n"
                 "            retention %s\n",
                 rule_name(c->rules.tags_path), rule_name(c->rules.routing_path),
                 rule_name(c->rules.strategy_path), rule_name(c->rules.retention_path));
    for (unsigned i = 0; i < c->n_backends; i++)
        (void)printf("  backend   %s (%s)\n", c->backends[i].name, c->backends[i].ops->type);
}

/* Says what is wrong with the scripts, and what looks wrong; counts the latter. */
static bool check_rules(const struct tg_rules_config *config, unsigned *n_warnings)
{
    struct tg_rules_report report;
    const enum tg_code code = tg_rules_check(config, &report);
    for (uint32_t i = 0; i < report.n_items; i++)
        (void)fprintf(stderr, "%s%s\n", report.items[i].kind == TG_RULES_ERROR ? "" : "warning: ",
                      report.items[i].text);
    if (report.n_errors + report.n_warnings > report.n_items)
        (void)fprintf(stderr, "... and %u more\n",
                      report.n_errors + report.n_warnings - report.n_items);
    *n_warnings += report.n_warnings;
    if (code == TG_ERR_NOMEM && !report.n_errors)
        (void)fprintf(stderr, "out of memory while checking the rules\n");
    return code == TG_OK;
}

/* A mistake that shows only when a rule runs, such as the name of no backend, is met with a series
 * of no tags; said, but no failure: a rule may rest on what its senders send. */
static void try_rules(const struct tg_config *config, struct tg_arena *arena, unsigned *n_warnings)
{
    struct tg_err err = {.msg = ""};
    struct tg_rules *rules = NULL;
    struct tg_series_desc desc;
    struct tg_decision d = {.targets = 0};
    struct tg_rules_trace trace = {.error = ""};
    tg_log_set_level(TG_LOG_ERROR); /* what is found is told here */
    const struct tg_explain_words words = {.series = "example"};
    if (tg_explain_read(&words, arena, &desc, &err) != TG_OK ||
        tg_rules_new(&config->rules, &rules, &err) != TG_OK ||
        tg_rules_decide(rules, 0, &desc, arena, &d, &trace) != TG_OK)
        (void)fprintf(stderr, "the rules could not be tried: %s\n",
                      err.msg[0] ? err.msg : "out of memory");
    if (d.failed) {
        (*n_warnings)++;
        (void)fprintf(stderr,
                      "warning: %s\n  tried with a series \"example\" that has no tags; it takes "
                      "the rules.on_error route. Try one of yours: tidegate explain "
                      "'NAME{TAG=\"VALUE\"}'\n",
                      trace.error);
    }
    const struct tg_rules_stats stats = rules ? tg_rules_stats(rules) : (struct tg_rules_stats){0};
    if (stats.stray[0]) {
        (*n_warnings)++;
        (void)fprintf(stderr,
                      "warning: %s\n  it is put back after each series: a rule keeps nothing "
                      "between series\n",
                      stats.stray);
    }
    tg_rules_free(rules);
}

/* What only the backend itself knows of its keys, such as which exclude each other. One with a
 * folder would make it, so it is left to the start. */
static bool check_backends(const struct tg_config *config)
{
    bool ok = true;
    struct tg_loop *loop = tg_loop_new();
    for (unsigned i = 0; loop && i < config->n_backends; i++) {
        const struct tg_backend_config *c = &config->backends[i];
        bool has_folder = false;
        for (const struct tg_option_spec *o = c->ops->options; o->name; o++)
            has_folder |= o->type == TG_OPT_PATH;
        if (has_folder) continue;
        const struct tg_backend_open how = {
            .name = c->name, .options = &c->options, .loop = loop, .log_end_pos = UINT64_MAX};
        struct tg_err err = {.msg = ""};
        struct tg_backend *backend = NULL;
        if (c->ops->open(&how, &backend, &err) != TG_OK) {
            (void)fprintf(stderr, "%s: backends.%s: %s\n", config->path, c->name, err.msg);
            ok = false;
        }
        c->ops->close(backend);
    }
    if (!loop) (void)fprintf(stderr, "no memory to check the backends\n");
    tg_loop_free(loop);
    return ok && loop;
}

static int run(const struct tg_args *args)
{
    if (tg_args_has(args, "print-options")) {
        tg_config_print_options(stdout);
        return TG_EXIT_OK;
    }
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    struct tg_config config;
    int code = TG_EXIT_FAILED;
    if (tg_cmd_load_config(args, &arena, &config) == TG_OK) {
        unsigned n_warnings = 0;
        const bool rules_ok = check_rules(&config.rules, &n_warnings);
        if (check_backends(&config) && rules_ok) {
            print_summary(&config);
            (void)fflush(stdout);
            try_rules(&config, &arena, &n_warnings);
            code = TG_EXIT_OK;
        }
        if (code == TG_EXIT_OK && n_warnings && tg_args_has(args, "strict"))
            code = tg_command_failed(args->cmd, "%u warning%s, and --strict takes them for errors",
                                     n_warnings, n_warnings > 1 ? "s" : "");
    }
    tg_arena_deinit(&arena);
    return code;
}

static const struct tg_flag flags[] = {
    {"config", 'c', "FILE", "the configuration (scripts/gateway.lua)"},
    {"strict", 0, NULL, "a warning fails the check"},
    {"print-options", 0, NULL, NULL},
    {0},
};

const struct tg_cmd tg_cmd_check = {
    .name = "check",
    .summary = "load the configuration and all rules, and say what is wrong",
    .synopsis = "[--config scripts/gateway.lua] [--strict]",
    .details =
        "Reports every mistake of the configuration, loads the rule scripts, looks up the backends "
        "and names\nthat they use, also in branches that are rarely taken, and tries them with a "
        "series without tags.\nNothing is started and no folder is touched. Exit code 1 when "
        "anything is wrong; a rule that fails in\nthe try is a warning, which --strict takes for "
        "an error.",
    .examples =
        "  tidegate check --strict\n"
        "  tidegate check --config /etc/tidegate/gateway.lua && systemctl reload tidegate\n",
    .flags = flags,
    .run = run,
};
