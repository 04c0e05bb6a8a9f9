/* cmd_query.c: `tidegate query`: rows out of the backends. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/app/cmd.h"
#include "core/base/mem.h"
#include "core/client/admin_call.h"

/* key="value", as a query takes it. */
static enum tg_code put_tag(struct tg_buf *out, const char *key, const json_t *value)
{
    TG_TRY(tg_cmd_put_text(out, key, false));
    TG_TRY(tg_buf_append(out, "=\"", 2));
    TG_TRY(tg_cmd_put_text(out, json_string_value(value), true));
    return tg_buf_append(out, "\"", 1);
}

/* --- the table --------------------------------------------------------------------------------*/

/* Tags that every row has with the same value are said once, above the table. */
static json_t *common_tags(const json_t *rows)
{
    json_t *common = json_deep_copy(json_object_get(json_array_get(rows, 0), "tags"));
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        const json_t *tags = json_object_get(row, "tags");
        const char *key;
        json_t *value;
        void *next;
        json_object_foreach_safe(common, next, key, value)
        {
            if (!json_equal(json_object_get(tags, key), value)) (void)json_object_del(common, key);
        }
    }
    return common;
}

/* name{key="value"} without the tags of `common`. */
static void series_text(struct tg_buf *out, const json_t *row, const json_t *common)
{
    const char *key;
    json_t *value;
    const char *sep = "{";
    tg_buf_reset(out);
    enum tg_code code =
        tg_cmd_put_text(out, json_string_value(json_object_get(row, "name")), false);
    json_object_foreach(json_object_get(row, "tags"), key, value)
    {
        if (code != TG_OK || json_object_get(common, key)) continue;
        code = tg_buf_append(out, sep, strlen(sep));
        if (code == TG_OK) code = put_tag(out, key, value);
        sep = ", ";
    }
    if (code == TG_OK && sep[0] == ',') code = tg_buf_append(out, "}", 1);
    if (code == TG_OK) code = tg_buf_append(out, "", 1);
    if (code != TG_OK && out->len) out->data[out->len - 1] = '\0';
}

static double number(const json_t *v)
{
    return json_number_value(v);
}

static void value_text(char *out, size_t cap, const json_t *row)
{
    const json_t *v = json_object_get(row, "value");
    const char *unit = json_string_value(json_object_get(row, "unit"));
    char bytes[64];
    /* UCUM: "1" and "{thread}" are no units but say what is counted; "By" is easier to read so. */
    if (!unit || strcmp(unit, "1") == 0 || unit[0] == '{') unit = "";
    if (strcmp(unit, "By") == 0 && json_is_number(v) && number(v) >= 1024) {
        char text[32];
        (void)snprintf(bytes, sizeof(bytes), "By (%s)",
                       tg_format_bytes(text, sizeof(text), (uint64_t)number(v)));
        unit = bytes;
    }
    if (json_is_integer(v))
        (void)snprintf(out, cap, "%" JSON_INTEGER_FORMAT " %s", json_integer_value(v), unit);
    else if (json_is_real(v))
        (void)snprintf(out, cap, "%.10g %s", number(v), unit);
    else if (json_is_boolean(v))
        (void)snprintf(out, cap, "%s", json_is_true(v) ? "true" : "false");
    else if (json_is_string(v))
        (void)snprintf(out, cap, "%s", json_string_value(v));
    else if (json_is_object(v)) {
        const double count = number(json_object_get(v, "count"));
        const double sum = number(json_object_get(v, "sum"));
        (void)snprintf(out, cap, "count %.10g, sum %.10g, mean %.5g %s", count, sum,
                       count > 0 ? sum / count : 0, unit);
    } else
        (void)snprintf(out, cap, "(no value)");
    size_t len = strlen(out);
    while (len && out[len - 1] == ' ') out[--len] = '\0';
}

/* "2026-01-31T12:00:00.123456789Z" to "2026-01-31 12:00:00.123". */
static void time_text(char out[32], const json_t *row)
{
    const char *t = json_string_value(json_object_get(row, "time"));
    (void)snprintf(out, 32, "%.23s", t ? t : "");
    if (strlen(out) > 10) out[10] = ' ';
}

static void print_common(const json_t *common)
{
    const char *key;
    json_t *value;
    if (json_object_size(common) == 0) return;
    struct tg_buf text;
    tg_buf_init(&text, 1 << 20);
    enum tg_code code = TG_OK;
    json_object_foreach((json_t *)(uintptr_t)common, key, value)
    {
        if (code == TG_OK && text.len) code = tg_buf_append(&text, ", ", 2);
        if (code == TG_OK) code = put_tag(&text, key, value);
    }
    (void)printf("all rows: %.*s\n\n", (int)text.len, text.len ? (const char *)text.data : "");
    tg_buf_deinit(&text);
}

/* "archive, influx" */
static const char *names_text(char *out, size_t cap, const json_t *names)
{
    size_t i, len = 0;
    json_t *name;
    out[0] = '\0';
    json_array_foreach(names, i, name)
    {
        const int n = snprintf(out + len, cap - len, "%s%s", i ? ", " : "",
                               json_string_value(name) ? json_string_value(name) : "?");
        if (n < 0 || (size_t)n >= cap - len) break;
        len += (size_t)n;
    }
    return out;
}

/* Words of rules and of servers: control bytes shown, not sent. */
static void print_words(const char *before, const char *words)
{
    struct tg_buf shown;
    tg_buf_init(&shown, 1 << 20);
    if (tg_cmd_put_text(&shown, words, false) != TG_OK) shown.len = 0;
    (void)printf("%s%.*s\n", before, (int)shown.len, shown.len ? (const char *)shown.data : "");
    tg_buf_deinit(&shown);
}

/* What was asked, too, and could not answer. */
static void print_failed(const json_t *answer)
{
    const char *failure = json_string_value(json_object_get(answer, "failure"));
    if (failure) print_words("not all could be asked: ", failure);
}

static void print_waiting(const json_t *answer)
{
    const double waiting = number(json_object_get(answer, "waiting"));
    if (waiting > 0)
        (void)printf("%.0f points are still waiting to be delivered there: try again in a moment\n",
                     waiting);
}

static void print_table(const struct tg_args *args, const json_t *answer)
{
    const json_t *rows = json_object_get(answer, "rows");
    const char *backend = json_string_value(json_object_get(answer, "backend"));
    const size_t n = json_array_size(rows);
    if (n == 0) {
        const bool asked = tg_args_has(args, "since") || tg_args_has(args, "start");
        char names[512];
        const char *note = json_string_value(json_object_get(answer, "note"));
        if (json_array_size(json_object_get(answer, "asked")) > 0)
            backend = names_text(names, sizeof(names), json_object_get(answer, "asked"));
        if (backend)
            (void)printf("no rows in %s%s\n", backend,
                         asked
                             ? " for that time"
                             : " in the last hour (--since 1d or --start TIME look further back)");
        else
            (void)printf("no backend was asked\n");
        if (note)
            print_words("", note);
        else
            print_waiting(answer);
        print_failed(answer);
        return;
    }
    json_t *common = common_tags(rows);
    struct tg_buf text;
    struct tg_buf shown;
    tg_buf_init(&text, 1 << 20);
    tg_buf_init(&shown, 1 << 20);
    enum { MAX_WIDTH = 100 };
    int width = 6;
    for (size_t i = 0; i < n; i++) {
        series_text(&text, json_array_get(rows, i), common);
        const int len = text.len ? (int)strlen((const char *)text.data) : 0;
        if (len > width) width = len;
    }
    if (width > MAX_WIDTH) width = MAX_WIDTH;
    print_common(common);
    (void)printf("%-23s  %-*s  %s\n", "TIME (UTC)", width, "SERIES", "VALUE");
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(rows, i);
        char when[32], value[256];
        time_text(when, row);
        value_text(value, sizeof(value), row);
        series_text(&text, row, common);
        tg_buf_reset(&shown);
        if (tg_cmd_put_text(&shown, value, false) != TG_OK) shown.len = 0;
        (void)printf("%-23s  %-*s  %.*s\n", when, width, text.len ? (const char *)text.data : "",
                     (int)shown.len, shown.len ? (const char *)shown.data : "");
    }
    const char *cut = json_string_value(json_object_get(answer, "cut"));
    (void)printf("\n%zu rows from %s%s%s%s\n", n, backend, cut ? "; there are more, cut by " : "",
                 cut ? cut : "", cut && strcmp(cut, "limit") == 0 ? " (see --limit)" : "");
    char names[512];
    if (json_array_size(json_object_get(answer, "also_in")) > 0)
        (void)printf("rows of this are in %s, too (--backend NAME shows them)\n",
                     names_text(names, sizeof(names), json_object_get(answer, "also_in")));
    print_waiting(answer);
    print_failed(answer);
    tg_buf_deinit(&shown);
    tg_buf_deinit(&text);
    json_decref(common);
}

/* --- the request ------------------------------------------------------------------------------*/

static enum tg_code build_url(const struct tg_args *args, const char *base, struct tg_buf *url)
{
    static const char *const passed[] = {"name", "start", "end", "since", "limit", "backend"};
    TG_TRY(tg_buf_printf(url, "%s/api/query", base));
    TG_TRY(tg_buf_append(url, "", 1)); /* a NUL beyond len, also without parameters */
    url->len--;
    if (args->n_words) TG_TRY(tg_url_param(url, "series", args->words[0]));
    for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
        TG_TRY(tg_url_param(url, passed[i], tg_args_value(args, passed[i])));
    if (!tg_args_has(args, "start") && !tg_args_has(args, "since"))
        TG_TRY(tg_url_param(url, "since", "1h"));
    for (unsigned i = 0; i < args->n_tags; i++) TG_TRY(tg_url_param(url, "tag", args->tags[i]));
    return TG_OK;
}

static int print_answer(const struct tg_args *args, const struct tg_admin_answer *answer)
{
    if (tg_args_has(args, "json")) {
        (void)fwrite(answer->body.data, 1, answer->body.len, stdout);
        return TG_EXIT_OK;
    }
    json_error_t why;
    json_t *o = json_loadb((const char *)answer->body.data, answer->body.len, 0, &why);
    /* An integer over 2^63 (an unsigned field) is beyond jansson; a rounded one is fine to look at.
     */
    if (!o)
        o = json_loadb((const char *)answer->body.data, answer->body.len, JSON_DECODE_INT_AS_REAL,
                       &why);
    if (!o) return tg_command_failed(args->cmd, "the answer is not JSON: %s", why.text);
    print_table(args, o);
    json_decref(o);
    return TG_EXIT_OK;
}

static int run(const struct tg_args *args)
{
    char base[512];
    if (!tg_cmd_admin_url(args, base, sizeof(base))) return TG_EXIT_USAGE;
    struct tg_buf url;
    tg_buf_init(&url, 64 << 10);
    struct tg_admin_answer answer = {0};
    struct tg_err err = {.msg = ""};
    char reason[512];
    int code;
    if (build_url(args, base, &url) != TG_OK)
        code = tg_command_failed(args->cmd, "the arguments are too long");
    else if (tg_admin_call("GET", (const char *)url.data, 120000, &answer, &err) != TG_OK)
        code = tg_command_failed(args->cmd, "%s", err.msg);
    else if (answer.status != 200)
        code = tg_command_failed(args->cmd, "%s",
                                 tg_admin_answer_error(&answer, reason, sizeof(reason)));
    else
        code = print_answer(args, &answer);
    tg_admin_answer_deinit(&answer);
    tg_buf_deinit(&url);
    return code;
}

static const struct tg_flag flags[] = {
    {"name", 'n', "NAME", "exact metric name (or name it in the series)"},
    {"tag", 't', "KEY=VALUE", "exact tag; may be repeated"},
    {"since", 's', "5m", "from so long ago until now (1h)"},
    {"start", 0, "TIME", "from this time on (2026-01-31T12:00:00Z, 2026-01-31, or 5m ago)"},
    {"end", 0, "TIME", "until before this time"},
    {"limit", 'l', "N", "most rows (1000)"},
    {"backend", 'b', "NAME", "backend to ask; else those that live series of it go to"},
    {"json", 'j', NULL, "print the gateway's JSON"},
    {"admin", 'a', "ADDR", "admin address of the gateway (127.0.0.1:4320, or $TIDEGATE_ADMIN)"},
    {"config", 'c', "FILE", "take the admin address from this configuration"},
    {0},
};

const struct tg_cmd tg_cmd_query = {
    .name = "query",
    .summary = "read points back from a backend",
    .synopsis = "['METRIC{TAG=\"VALUE\"}'] [--since 5m]",
    .details = "Series are matched in the form that the rules gave them.",
    .examples = "  tidegate query system.cpu.utilization --since 5m\n"
                "  tidegate query 'system.network.io{direction=\"receive\"}' --limit 20\n"
                "  tidegate query --tag service_name=shop --since 1h --json\n",
    .flags = flags,
    .max_words = 1,
    .run = run,
};
