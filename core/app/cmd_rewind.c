/* cmd_rewind.c: `tidegate rewind`: a backend's cursor to another place in the log. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "core/admin/selector.h"
#include "core/app/cmd.h"
#include "core/base/clock.h"
#include "core/client/admin_call.h"

static bool is_number(const char *s)
{
    return *s && strspn(s, "0123456789") == strlen(s);
}

static int run(const struct tg_args *args)
{
    char base[512];
    const char *to = tg_args_value(args, "to");
    if (!to)
        return tg_usage_error(args->cmd,
                              "say where to with --to start, --to end, --to TIME or --to POSITION");
    /* A bare number is a position here: that is what `status` shows. */
    char position[64];
    if (is_number(to)) {
        (void)snprintf(position, sizeof(position), "pos:%.40s", to);
        to = position;
    }
    int64_t ignored;
    struct tg_err err = {.msg = ""};
    if (strcmp(to, "start") != 0 && strcmp(to, "end") != 0 && strncmp(to, "pos:", 4) != 0 &&
        tg_time_parse(to, tg_clock_wall_ns(), &ignored, &err) != TG_OK)
        return tg_usage_error(args->cmd,
                              "--to %.60s: write start, end, a time (2026-01-31T12:00:00Z, or 10m "
                              "for ten minutes ago), or a position such as 123456",
                              to);
    if (!tg_cmd_admin_url(args, base, sizeof(base))) return TG_EXIT_USAGE;

    struct tg_buf url;
    tg_buf_init(&url, 64 << 10);
    struct tg_admin_answer answer = {0};
    char reason[512];
    int code = TG_EXIT_FAILED;
    if (tg_buf_printf(&url, "%s/-/rewind", base) != TG_OK ||
        tg_url_param(&url, "backend", args->words[0]) != TG_OK ||
        tg_url_param(&url, "to", to) != TG_OK ||
        (tg_args_has(args, "skip") && tg_url_param(&url, "skip", "1") != TG_OK))
        code = tg_command_failed(args->cmd, "out of memory");
    else if (tg_admin_call("POST", (const char *)url.data, 60000, &answer, &err) != TG_OK)
        code = tg_command_failed(args->cmd, "%s", err.msg);
    else if (answer.status != 200)
        code = tg_command_failed(args->cmd, "%s",
                                 tg_admin_answer_error(&answer, reason, sizeof(reason)));
    else {
        json_t *o = json_loadb((const char *)answer.body.data, answer.body.len, 0, NULL);
        (void)printf("%s delivers from position %" JSON_INTEGER_FORMAT
                     " (point %" JSON_INTEGER_FORMAT " of the log) on\n",
                     args->words[0], json_integer_value(json_object_get(o, "position")),
                     json_integer_value(json_object_get(o, "point_no")));
        json_decref(o);
        code = TG_EXIT_OK;
    }
    tg_admin_answer_deinit(&answer);
    tg_buf_deinit(&url);
    return code;
}

static const struct tg_flag flags[] = {
    {"to", 't', "WHERE", "start (oldest data kept), end, a time, or a position of the log"},
    {"skip", 0, NULL, "go forward, too, over points that the backend has not got"},
    {"admin", 'a', "ADDR", "admin address of the gateway (127.0.0.1:4320, or $TIDEGATE_ADMIN)"},
    {"config", 'c', "FILE", "take the admin address from this configuration"},
    {0},
};

const struct tg_cmd tg_cmd_rewind = {
    .name = "rewind",
    .summary = "move a backend's cursor, to fill it again from the log",
    .synopsis = "BACKEND --to start|end|TIME|POSITION [--skip]",
    .details =
        "The backend gets everything from there on again, decided by the rules now in force. "
        "How far back\nit goes is up to log.keep. A backend that keeps duplicates will have "
        "some.\nForward (only with --to end or --skip), the points between are not delivered "
        "(skipped), and\nrequests that wait for them are told to come back.",
    .examples = "  tidegate rewind archive --to start\n"
                "  tidegate rewind influx --to 10m\n"
                "  tidegate rewind influx --to 2026-01-31T12:00:00Z\n"
                "  tidegate rewind influx --to end\n",
    .flags = flags,
    .min_words = 1,
    .max_words = 1,
    .run = run,
};
