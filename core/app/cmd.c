#include "core/app/cmd.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/option.h"
#include "core/config/config.h"

const struct tg_cmd *const tg_cmds[] = {
    &tg_cmd_run,    &tg_cmd_check,  &tg_cmd_test, &tg_cmd_explain, &tg_cmd_send, &tg_cmd_query,
    &tg_cmd_rewind, &tg_cmd_status, NULL,
};

static void say(const struct tg_cmd *cmd, const char *fmt, va_list ap)
{
    (void)fprintf(stderr, "tidegate %s: ", cmd->name);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
}

int tg_usage_error(const struct tg_cmd *cmd, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(cmd, fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "usage: tidegate %s %s\n(tidegate %s --help says more)\n", cmd->name,
                  cmd->synopsis, cmd->name);
    return TG_EXIT_USAGE;
}

int tg_command_failed(const struct tg_cmd *cmd, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(cmd, fmt, ap);
    va_end(ap);
    return TG_EXIT_FAILED;
}

/* --- help -------------------------------------------------------------------------------------*/

static void print_help(FILE *out)
{
    (void)fprintf(out,
                  "Tidegate " TG_VERSION ": receives metrics; your Lua rules decide what "
                  "happens to each series;\na durable log keeps everything until every backend "
                  "has it.\n\nusage: tidegate COMMAND [ARGUMENTS]\n\n");
    for (size_t i = 0; tg_cmds[i]; i++)
        (void)fprintf(out, "  %-8s %s\n", tg_cmds[i]->name, tg_cmds[i]->summary);
    (void)fprintf(out,
                  "\ntidegate COMMAND --help says more, with examples; tidegate --version says "
                  "which.\nExit codes: 0 ok, 1 the request failed, 2 usage.\n");
}

static void print_command_help(const struct tg_cmd *cmd, FILE *out)
{
    (void)fprintf(out, "tidegate %s: %s\n\nusage: tidegate %s %s\n", cmd->name, cmd->summary,
                  cmd->name, cmd->synopsis);
    if (cmd->details) (void)fprintf(out, "\n%s\n", cmd->details);
    bool any = false;
    for (const struct tg_flag *f = cmd->flags; f && f->name; f++) {
        if (!f->help) continue;
        if (!any) (void)fprintf(out, "\noptions:\n");
        any = true;
        char left[64];
        (void)snprintf(left, sizeof(left), "--%s%s%s", f->name, f->arg ? " " : "",
                       f->arg ? f->arg : "");
        char letter[8] = "    ";
        if (f->letter) (void)snprintf(letter, sizeof(letter), "-%c, ", f->letter);
        (void)fprintf(out, "  %s%-24s %s\n", letter, left, f->help);
    }
    if (cmd->examples) (void)fprintf(out, "\nexamples:\n%s", cmd->examples);
}

/* --- arguments --------------------------------------------------------------------------------*/

static int flag_index(const struct tg_cmd *cmd, const char *name, size_t len)
{
    for (int i = 0; cmd->flags && cmd->flags[i].name; i++)
        if (strlen(cmd->flags[i].name) == len && strncmp(cmd->flags[i].name, name, len) == 0)
            return i;
    return -1;
}

static int unknown_flag(const struct tg_cmd *cmd, const char *word)
{
    const char *known[TG_MAX_FLAGS + 1];
    size_t n = 0;
    for (int i = 0; cmd->flags && cmd->flags[i].name; i++) known[n++] = cmd->flags[i].name;
    known[n++] = "help";
    char name[64];
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
    const char *bare = name;
    while (*bare == '-') bare++;
    const char *near = tg_nearest_name(bare, known, n);
    if (near) return tg_usage_error(cmd, "unknown option %s; did you mean --%s?", name, near);
    return tg_usage_error(cmd, "unknown option %s", name);
}

/* 0 = parsed, else an exit code + 1 (help gives 0 + 1). */
static int parse_args(const struct tg_cmd *cmd, int argc, char **argv, struct tg_args *args,
                      const char **words)
{
    args->cmd = cmd;
    args->words = words;
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (only_words || word[0] != '-' || word[1] == '\0') {
            words[args->n_words++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_command_help(cmd, stdout);
            return 1 + TG_EXIT_OK;
        }
        int f = -1;
        const char *value = NULL;
        if (word[1] == '-') {
            const size_t len = strcspn(word + 2, "=");
            f = flag_index(cmd, word + 2, len);
            if (word[2 + len] == '=') value = word + 2 + len + 1;
        } else if (word[2] == '\0') {
            for (int k = 0; cmd->flags && cmd->flags[k].name; k++)
                if (cmd->flags[k].letter == word[1]) f = k;
        }
        if (f < 0) return 1 + unknown_flag(cmd, word);
        const struct tg_flag *flag = &cmd->flags[f];
        if (!flag->arg && value) return 1 + tg_usage_error(cmd, "--%s takes no value", flag->name);
        if (flag->arg && !value) {
            if (i + 1 >= argc)
                return 1 + tg_usage_error(cmd, "--%s needs %s after it", flag->name, flag->arg);
            value = argv[++i];
        }
        args->values[f] = value ? value : "";
        if (strcmp(flag->name, "tag") == 0) {
            if (args->n_tags == sizeof(args->tags) / sizeof(args->tags[0]))
                return 1 + tg_usage_error(cmd, "too many --tag");
            args->tags[args->n_tags++] = value;
        }
    }
    if (args->n_words < cmd->min_words) return 1 + tg_usage_error(cmd, "too few arguments");
    if (args->n_words > cmd->max_words)
        return 1 + tg_usage_error(cmd, "unexpected argument \"%s\"", words[cmd->max_words]);
    return 0;
}

const char *tg_args_value(const struct tg_args *args, const char *flag)
{
    const int i = flag_index(args->cmd, flag, strlen(flag));
    assert(i >= 0);
    return i >= 0 ? args->values[i] : NULL;
}

bool tg_args_has(const struct tg_args *args, const char *flag)
{
    return tg_args_value(args, flag) != NULL;
}

bool tg_args_number(const struct tg_args *args, const char *flag, int64_t min, int64_t max,
                    int64_t *out)
{
    const char *text = tg_args_value(args, flag);
    if (!text) return true;
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || v < min || v > max) {
        (void)tg_usage_error(args->cmd,
                             "--%s %s: expected a whole number from %" PRId64 " to %" PRId64, flag,
                             text, min, max);
        return false;
    }
    *out = v;
    return true;
}

bool tg_args_duration(const struct tg_args *args, const char *flag, int64_t min_ms, int64_t max_ms,
                      int64_t *out_ms)
{
    const char *text = tg_args_value(args, flag);
    if (!text) return true;
    struct tg_err err = {.msg = ""};
    int64_t v;
    if (tg_duration_parse(text, &v, &err) != TG_OK) {
        (void)tg_usage_error(args->cmd, "--%s: %s", flag, err.msg);
        return false;
    }
    if (v < min_ms || v > max_ms) {
        (void)tg_usage_error(args->cmd, "--%s %s is outside %" PRId64 " ms to %" PRId64 " s", flag,
                             text, min_ms, max_ms / 1000);
        return false;
    }
    *out_ms = v;
    return true;
}

int tg_cmd_main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return TG_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        (void)printf("tidegate " TG_VERSION "\n");
        return TG_EXIT_OK;
    }
    const bool is_help = strcmp(name, "help") == 0;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || (is_help && argc < 3)) {
        print_help(stdout);
        return TG_EXIT_OK;
    }
    if (is_help) name = argv[2];
    const char *known[32];
    size_t n = 0;
    const struct tg_cmd *cmd = NULL;
    for (size_t i = 0; tg_cmds[i]; i++) {
        known[n++] = tg_cmds[i]->name;
        if (strcmp(tg_cmds[i]->name, name) == 0) cmd = tg_cmds[i];
    }
    if (!cmd) {
        const char *near = tg_nearest_name(name, known, n);
        (void)fprintf(stderr, "tidegate: unknown command \"%.60s\"", name);
        if (near)
            (void)fprintf(stderr, "; did you mean \"%s\"?\n", near);
        else
            (void)fprintf(stderr, "; tidegate --help lists them\n");
        return TG_EXIT_USAGE;
    }
    if (is_help) {
        print_command_help(cmd, stdout);
        return TG_EXIT_OK;
    }
    if (cmd->run_raw) {
        for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
            if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
            print_command_help(cmd, stdout);
            return TG_EXIT_OK;
        }
        return cmd->run_raw(argc - 1, argv + 1);
    }
    const char **words = tg_calloc((size_t)argc, sizeof(*words));
    if (!words) return tg_command_failed(cmd, "out of memory");
    struct tg_args args = {0};
    const int rc = parse_args(cmd, argc - 2, argv + 2, &args, words);
    const int code = rc ? rc - 1 : cmd->run(&args);
    tg_free(words);
    if (fflush(stdout) != 0 && code == TG_EXIT_OK && errno != EPIPE)
        return tg_command_failed(cmd, "cannot write the output: %s", strerror(errno));
    return code;
}

/* --- shared by commands
 * -------------------------------------------------------------------------*/

enum tg_code tg_cmd_load_config(const struct tg_args *args, struct tg_arena *arena,
                                struct tg_config *out)
{
    const char *path = tg_args_value(args, "config");
    struct tg_config_errors *errors = tg_arena_calloc(arena, 1, sizeof(*errors));
    if (!errors) return TG_ERR_NOMEM;
    const enum tg_code code =
        tg_config_load(path ? path : "scripts/gateway.lua", arena, out, errors);
    for (unsigned i = 0; i < errors->n; i++) (void)fprintf(stderr, "%s\n", errors->items[i]);
    if (errors->n_more) (void)fprintf(stderr, "... and %u more\n", errors->n_more);
    if (code == TG_ERR_NOMEM)
        (void)tg_command_failed(args->cmd, "out of memory while reading the configuration");
    return code;
}

bool tg_cmd_url(const struct tg_cmd *cmd, const char *address, char *out, size_t cap)
{
    const bool is_url = strncmp(address, "http://", 7) == 0 || strncmp(address, "https://", 8) == 0;
    const int len = snprintf(out, cap, "%s%s%s", is_url ? "" : "http://",
                             !is_url && address[0] == ':' ? "127.0.0.1" : "", address);
    if (len < 0 || (size_t)len >= cap) {
        (void)tg_usage_error(cmd, "the admin address is too long");
        return false;
    }
    for (size_t n = (size_t)len; n > 0 && out[n - 1] == '/';) out[--n] = '\0';
    return true;
}

bool tg_cmd_admin_url(const struct tg_args *args, char *out, size_t cap)
{
    const char *address = tg_args_value(args, "admin");
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    struct tg_config config;
    bool ok = true;
    if (!address && tg_args_value(args, "config")) {
        ok = tg_cmd_load_config(args, &arena, &config) == TG_OK;
        if (ok) address = config.admin_address;
    }
    if (!address) address = getenv("TIDEGATE_ADMIN");
    if (!address || !*address) address = "127.0.0.1:4320";
    ok = ok && tg_cmd_url(args->cmd, address, out, cap);
    tg_arena_deinit(&arena);
    return ok;
}

enum tg_code tg_cmd_put_text(struct tg_buf *out, const char *text, bool in_quotes)
{
    for (const unsigned char *p = (const unsigned char *)(text ? text : ""); *p; p++) {
        if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) /* U+0080 to U+009F, in UTF-8 */
            TG_TRY(tg_buf_printf(out, "\\u%04x", *++p));
        else if (*p == '\n' || *p == '\r' || *p == '\t')
            TG_TRY(tg_buf_printf(out, "\\%c", *p == '\n' ? 'n' : *p == '\r' ? 'r' : 't'));
        else if (*p < 0x20 || *p == 0x7f)
            TG_TRY(tg_buf_printf(out, "\\u%04x", *p));
        else if (in_quotes && (*p == '"' || *p == '\\'))
            TG_TRY(tg_buf_printf(out, "\\%c", *p));
        else
            TG_TRY(tg_buf_append(out, p, 1));
    }
    return TG_OK;
}

char *tg_format_count(char *out, size_t cap, double n)
{
    static const char *const units[] = {"", " k", " M", " G", " T"};
    size_t u = 0;
    while (n >= 10000 && u < 4) {
        n /= 1000;
        u++;
    }
    (void)snprintf(out, cap, u ? "%.1f%s" : "%.0f%s", n, units[u]);
    return out;
}

char *tg_format_bytes(char *out, size_t cap, uint64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    size_t u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    (void)snprintf(out, cap, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return out;
}
