#include "core/admin/explain.h"
#include "core/admin/selector.h"
#include "core/app/cmd.h"
#include "core/app/config.h"
#include "core/backend/backend.h"
#include "core/base/logger.h"
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

/* Each script on its own first, so that all that are broken are named. */
static bool check_rules(const struct tg_rules_config *config)
{
    bool ok = true;
    for (unsigned i = 0; i < 5; i++) {
        struct tg_rules_config one = *config;
        if (i < 4) {
            one.tags_path = i == 0 ? config->tags_path : NULL;
            one.routing_path = i == 1 ? config->routing_path : NULL;
            one.strategy_path = i == 2 ? config->strategy_path : NULL;
            one.retention_path = i == 3 ? config->retention_path : NULL;
        } else if (!ok) {
            break; /* all together would only repeat it */
        }
        struct tg_err err = {.msg = ""};
        struct tg_rules *rules = NULL;
        if (tg_rules_new(&one, &rules, &err) != TG_OK) {
            (void)fprintf(stderr, "%s\n", err.msg);
            ok = false;
        }
        tg_rules_free(rules);
    }
    return ok;
}

/* A mistake that shows only when a rule runs, such as the name of no backend, is met with a series
 * of no tags; said, but no failure: a rule may rest on what its senders send. */
static void try_rules(const struct tg_config *config, struct tg_arena *arena)
{
    struct tg_err err = {.msg = ""};
    struct tg_rules *rules = NULL;
    struct tg_selector selector;
    struct tg_series_desc desc;
    struct tg_decision d = {.targets = 0};
    struct tg_rules_trace trace = {.steps = {{.line = 0}}};
    tg_log_set_level(TG_LOG_ERROR); /* the failure is told here */
    if (tg_selector_parse("example", arena, &selector, &err) != TG_OK ||
        tg_explain_desc(&selector, NULL, NULL, &desc, &err) != TG_OK ||
        tg_rules_new(&config->rules, &rules, &err) != TG_OK ||
        tg_rules_decide(rules, 0, &desc, arena, &d, &trace) != TG_OK)
        (void)fprintf(stderr, "the rules could not be tried: %s\n",
                      err.msg[0] ? err.msg : "out of memory");
    if (d.failed)
        (void)fprintf(stderr,
                      "warning: %s\n  so goes a series \"example\" without tags, and takes the "
                      "rules.on_error route; try yours: tidegate explain 'NAME{TAG=\"VALUE\"}'\n",
                      tg_rules_stats(rules).last_error);
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
        const struct tg_backend_open how = {c->name, &c->options, loop, 0, UINT64_MAX};
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
        const bool rules_ok = check_rules(&config.rules);
        if (check_backends(&config) && rules_ok) {
            print_summary(&config);
            (void)fflush(stdout);
            try_rules(&config, &arena);
            code = TG_EXIT_OK;
        }
    }
    tg_arena_deinit(&arena);
    return code;
}

static const struct tg_flag flags[] = {
    {"config", 'c', "FILE", "the configuration (scripts/gateway.lua)"},
    {"print-options", 0, NULL, NULL},
    {0},
};

const struct tg_cmd tg_cmd_check = {
    .name = "check",
    .summary = "load the configuration and all rules, and say what is wrong",
    .synopsis = "[--config scripts/gateway.lua]",
    .details =
        "Reports every mistake of the configuration, loads the rule scripts, and tries them with "
        "a series\nwithout tags. Nothing is started and no folder is touched. Exit code 1 when "
        "anything is wrong; a\nrule that fails in the try is a warning.",
    .examples =
        "  tidegate check\n"
        "  tidegate check --config /etc/tidegate/gateway.lua && systemctl reload tidegate\n",
    .flags = flags,
    .run = run,
};
