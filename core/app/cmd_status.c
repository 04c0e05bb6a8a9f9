/* cmd_status.c: `tidegate status`: a live table of what goes in, waits and comes out. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/app/cmd.h"
#include "core/base/clock.h"
#include "core/client/admin_call.h"

enum { MAX_NAME_WIDTH = 20 };

/* What the previous look saw, for rates. */
struct last {
    bool is_set;
    uint64_t at_ms;
    double accepted;
    double delivered[TG_MAX_BACKENDS];
};

static double field(const json_t *o, const char *name)
{
    return json_number_value(json_object_get(o, name));
}

static const char *word(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

static void print_message(const char *text)
{
    struct tg_buf shown;
    tg_buf_init(&shown, 1 << 20);
    if (tg_cmd_put_text(&shown, text, false) != TG_OK) shown.len = 0;
    (void)printf("%.*s\n", (int)shown.len, shown.len ? (const char *)shown.data : "");
    tg_buf_deinit(&shown);
}

static void print_duration(char *out, size_t cap, double s)
{
    if (s < 100)
        (void)snprintf(out, cap, "%.1fs", s);
    else if (s < 6000)
        (void)snprintf(out, cap, "%.0fm", s / 60);
    else
        (void)snprintf(out, cap, "%.0fh", s / 3600);
}

/* What is rarely other than zero stands below its backend when it is. */
static void print_rest(const json_t *ledger)
{
    static const struct {
        const char *name, *label;
    } rest[] = {
        {"elsewhere", "elsewhere"}, {"inexpressible", "inexpressible"},
        {"lost", "lost"},           {"skipped", "skipped"},
        {"before", "before"},       {"rewound", "rewound"},
    };
    bool any = false;
    for (size_t i = 0; i < sizeof(rest) / sizeof(*rest); i++) {
        const double n = field(ledger, rest[i].name);
        if (n <= 0) continue;
        (void)printf("%s%.0f %s", any ? ", " : "  and ", n, rest[i].label);
        any = true;
    }
    if (any) (void)printf("\n");
}

/* At most 80 columns, while numbers are. */
static void print_backends(const json_t *status, struct last *last, double elapsed_s)
{
    int width = 7;
    size_t i;
    json_t *b;
    json_array_foreach(json_object_get(status, "backends"), i, b)
    {
        const int len = (int)strlen(word(b, "name"));
        if (len > width) width = len < MAX_NAME_WIDTH ? len : MAX_NAME_WIDTH;
    }
    (void)printf("\n%-*s %-7s %11s %7s %8s %6s %6s %s\n", width, "BACKEND", "STATE", "DELIVERED",
                 "PER S", "WAITING", "LAG", "DEAD", "LEDGER");
    json_array_foreach(json_object_get(status, "backends"), i, b)
    {
        const json_t *l = json_object_get(b, "ledger");
        const double delivered = field(l, "delivered");
        char rate[32] = "-", lag[32];
        if (elapsed_s > 0 && i < TG_MAX_BACKENDS)
            (void)tg_format_count(rate, sizeof(rate), (delivered - last->delivered[i]) / elapsed_s);
        if (i < TG_MAX_BACKENDS) last->delivered[i] = delivered;
        print_duration(lag, sizeof(lag), field(b, "lag_ms") / 1000);
        (void)printf("%-*.*s %-7s %11.0f %7s %8.0f %6s %6.0f %s\n", width, width, word(b, "name"),
                     word(b, "state"), delivered, rate, field(l, "waiting"), lag,
                     field(l, "dead_lettered"),
                     json_is_true(json_object_get(l, "balanced")) ? "balanced" : "NOT BALANCED");
        print_rest(l);
    }
    json_array_foreach(json_object_get(status, "backends"), i, b)
    {
        if (!word(b, "last_error")[0]) continue;
        char age[32], well[32];
        const json_t *well_age = json_object_get(b, "well_age_ms");
        print_duration(age, sizeof(age), field(b, "last_error_age_ms") / 1000);
        print_duration(well, sizeof(well), json_number_value(well_age) / 1000);
        if (json_is_number(well_age))
            (void)printf("\n%s, %s ago, well again for %s: ", word(b, "name"), age, well);
        else
            (void)printf("\n%s, %s ago: ", word(b, "name"), age);
        print_message(word(b, "last_error"));
    }
}

/* What the rules or a backend's naming make one. */
static void print_merges(const json_t *merged)
{
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(merged, "examples"), i, e)
    {
        const char *backend = word(e, "backend");
        struct tg_buf line;
        tg_buf_init(&line, 8192);
        const enum tg_code code =
            backend[0] ? tg_buf_printf(&line, "%s would make one of %.0f series: %s, %s", backend,
                                       field(e, "series"), word(e, "first"), word(e, "later"))
                       : tg_buf_printf(&line, "rules make one of %.0f series: %s, %s become %s",
                                       field(e, "series"), word(e, "first"), word(e, "later"),
                                       word(e, "mapped"));
        if (code == TG_OK && tg_buf_append(&line, "", 1) == TG_OK) {
            (void)printf("%s", i ? "          " : "merges    ");
            print_message((const char *)line.data);
        }
        tg_buf_deinit(&line);
    }
}

static void print_status(const json_t *s, struct last *last)
{
    const json_t *points = json_object_get(s, "points");
    const json_t *log = json_object_get(s, "log");
    const json_t *series = json_object_get(s, "series");
    const json_t *rules = json_object_get(s, "rules");
    const uint64_t now_ms = tg_clock_mono_ms();
    const double elapsed_s = last->is_set ? (double)(now_ms - last->at_ms) / 1000 : 0;
    char up[32], rate[32] = "", used[32], max[32], mem[32];
    print_duration(up, sizeof(up), (field(s, "now_ns") - field(s, "start_ns")) / 1e9);
    if (elapsed_s > 0) {
        char n[32];
        (void)snprintf(rate, sizeof(rate), " (%s/s)",
                       tg_format_count(n, sizeof(n),
                                       (field(points, "accepted") - last->accepted) / elapsed_s));
    }
    last->accepted = field(points, "accepted");
    const char *not_ready = word(s, "not_ready");
    (void)printf("tidegate %s, up %s, %s%s\n", word(s, "version"), up,
                 not_ready[0] ? "NOT READY: " : "ready", not_ready);
    if (word(s, "stuck")[0]) (void)printf("          %s\n", word(s, "stuck"));
    (void)printf("points    since start: %.0f accepted%s, %.0f of them dropped by rule,\n"
                 "          %.0f rejected, in %.0f requests; %.0f wait for an acknowledgement\n",
                 field(points, "accepted"), rate, field(points, "dropped"),
                 field(points, "rejected"), field(points, "requests"),
                 field(points, "waiting_acks"));
    (void)printf("log       %s of %s in %.0f segments, %.0f points since it began%s\n",
                 tg_format_bytes(used, sizeof(used), (uint64_t)field(log, "bytes")),
                 tg_format_bytes(max, sizeof(max), (uint64_t)field(log, "max_bytes")),
                 field(log, "segments"), field(points, "logged"),
                 json_is_true(json_object_get(log, "full")) ? ", FULL: new data is refused" : "");
    (void)printf("series    %.0f live of %.0f", field(series, "live"), field(series, "max"));
    if (field(series, "refused") > 0)
        (void)printf("%s: %.0f points of new ones refused",
                     field(series, "live") >= field(series, "max") ? ", FULL" : "",
                     field(series, "refused"));
    (void)printf("; memory %s\n",
                 tg_format_bytes(mem, sizeof(mem), (uint64_t)field(s, "memory_bytes")));
    (void)printf("rules     generation %.0f, %.0f decisions, %.0f errors", field(s, "generation"),
                 field(rules, "decisions"), field(rules, "errors"));
    if (field(rules, "failed_series") > 0)
        (void)printf(", %.0f series whose rules fail", field(rules, "failed_series"));
    if (json_is_true(json_object_get(rules, "breaker_open")))
        (void)printf(", NOT RUN for %.0f s: they overran their budgets too often",
                     field(rules, "breaker_open_ms") / 1000);
    (void)printf("%s", word(rules, "last_error")[0] ? ", last: " : "");
    print_message(word(rules, "last_error"));
    const json_t *queries = json_object_get(s, "queries");
    if (field(queries, "running") + field(queries, "waiting") + field(queries, "refused") > 0)
        (void)printf("queries   %.0f run, %.0f wait, %.0f refused since start\n",
                     field(queries, "running"), field(queries, "waiting"),
                     field(queries, "refused"));
    print_merges(json_object_get(s, "merged"));
    print_backends(s, last, elapsed_s);
    last->is_set = true;
    last->at_ms = now_ms;
}

/* 0 = printed, else an exit code; the reason is then in `reason`. */
static int look(const char *url, bool as_json, bool clear, struct last *last, char reason[512])
{
    struct tg_admin_answer answer;
    struct tg_err err = {.msg = ""};
    int code = TG_EXIT_FAILED;
    json_t *o = NULL;
    if (tg_admin_call("GET", url, 10000, &answer, &err) != TG_OK) {
        (void)snprintf(reason, 512, "%s", err.msg);
    } else if (answer.status != 200) {
        (void)tg_admin_answer_error(&answer, reason, 512);
    } else if (as_json) {
        (void)fwrite(answer.body.data, 1, answer.body.len, stdout);
        (void)fputc('\n', stdout);
        code = TG_EXIT_OK;
    } else if (!(o = json_loadb((const char *)answer.body.data, answer.body.len, 0, NULL))) {
        (void)snprintf(reason, 512, "the answer is not JSON");
    } else {
        if (clear) (void)fputs("\033[H\033[2J", stdout);
        print_status(o, last);
        code = TG_EXIT_OK;
    }
    json_decref(o);
    tg_admin_answer_deinit(&answer);
    return code;
}

static int run(const struct tg_args *args)
{
    char base[512], url[600], reason[512] = "";
    if (!tg_cmd_admin_url(args, base, sizeof(base))) return TG_EXIT_USAGE;
    (void)snprintf(url, sizeof(url), "%s/api/status", base);
    const bool as_json = tg_args_has(args, "json");
    const bool live = isatty(STDOUT_FILENO) && !as_json && !tg_args_has(args, "once");
    struct last last = {0};
    for (;;) {
        const int code = look(url, as_json, live, &last, reason);
        if (code != TG_EXIT_OK) return tg_command_failed(args->cmd, "%s", reason);
        if (!live) return TG_EXIT_OK;
        (void)printf("\n(each second; Ctrl-C ends)\n");
        (void)fflush(stdout);
        const struct timespec second = {.tv_sec = 1};
        (void)nanosleep(&second, NULL);
    }
}

static const struct tg_flag flags[] = {
    {"once", '1', NULL, "print once and end (always so when the output is not a terminal)"},
    {"json", 'j', NULL, "print the gateway's JSON, once"},
    {"admin", 'a', "ADDR", "admin address of the gateway (127.0.0.1:4320, or $TIDEGATE_ADMIN)"},
    {"config", 'c', "FILE", "take the admin address from this configuration"},
    {0},
};

const struct tg_cmd tg_cmd_status = {
    .name = "status",
    .summary = "live table of what goes in, waits, and comes out",
    .synopsis = "[--once] [--json]",
    .details =
        "For every backend: received + rewound = before + delivered + waiting + inexpressible + "
        "dead + dropped + elsewhere + lost + skipped\n(the table has the columns that matter most, "
        "--json all; \"inexpressible\" are points that a backend has no form for).",
    .examples = "  tidegate status\n"
                "  tidegate status --once\n"
                "  tidegate status --json | jq '.backends[].ledger'\n",
    .flags = flags,
    .run = run,
};
