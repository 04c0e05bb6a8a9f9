/* cmd.h: what all commands share: their description, argument parsing, help, and small output
 * helpers.
 *
 * A command is one file `cmd_<name>.c` with one `struct tg_cmd`: the same table parses the
 * arguments, prints the help and finds the nearest name for a typing mistake.
 *
 * Exit codes: 0 ok, 1 the request failed, 2 usage.
 *
 * Threading: main thread.
 */
#ifndef TG_APP_CMD_H
#define TG_APP_CMD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/pipe/config.h"

enum { TG_EXIT_OK = 0, TG_EXIT_FAILED = 1, TG_EXIT_USAGE = 2 };
enum { TG_MAX_FLAGS = 32 };

struct tg_flag { /* a table of these ends with name == NULL */
    const char *name;
    char letter;      /* short form, 0 = none */
    const char *arg;  /* what follows it, for the help; NULL = a switch */
    const char *help; /* NULL = not shown */
};

struct tg_cmd;
struct tg_args {
    const struct tg_cmd *cmd;
    const char *values[TG_MAX_FLAGS]; /* by flag; "" for a switch that was given; the last wins */
    const char *const *words;         /* what is not a flag, in order */
    unsigned n_words;
    const char *tags[32]; /* every value of the flag named "tag" */
    unsigned n_tags;
};

struct tg_cmd {
    const char *name;
    const char *summary;  /* one line, for the list of commands */
    const char *synopsis; /* after "tidegate <name> " */
    const char *details;  /* paragraphs, or NULL */
    const char *examples; /* lines */
    const struct tg_flag *flags;
    unsigned min_words, max_words;
    int (*run)(const struct tg_args *args);
    int (*run_raw)(int argc, char **argv); /* instead of run: parses its own arguments */
};

extern const struct tg_cmd tg_cmd_run, tg_cmd_check, tg_cmd_test, tg_cmd_explain, tg_cmd_send,
    tg_cmd_query, tg_cmd_rewind, tg_cmd_status;
extern const struct tg_cmd *const tg_cmds[]; /* ends with NULL */

/* Runs the command line; the exit code. argv is that of main. */
int tg_cmd_main(int argc, char **argv);

/* Value of a flag, NULL when not given. A name that the table lacks is our own bug (assert). */
const char *tg_args_value(const struct tg_args *args, const char *flag);
bool tg_args_has(const struct tg_args *args, const char *flag);

/* "tidegate send: message" and a hint at --help, on stderr. Returns TG_EXIT_USAGE. */
int tg_usage_error(const struct tg_cmd *cmd, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* "tidegate send: message" on stderr. Returns TG_EXIT_FAILED. */
int tg_command_failed(const struct tg_cmd *cmd, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Whole-number flag within limits; `*out` keeps its value when the flag is absent. false = said so
 * on stderr. */
bool tg_args_number(const struct tg_args *args, const char *flag, int64_t min, int64_t max,
                    int64_t *out);
/* Likewise for a duration in ms. */
bool tg_args_duration(const struct tg_args *args, const char *flag, int64_t min_ms, int64_t max_ms,
                      int64_t *out_ms);

/* Loads the file named by --config (default scripts/gateway.lua) and says every mistake on stderr.
 * Everything lives in `arena`. */
TG_MUST_CHECK enum tg_code tg_cmd_load_config(const struct tg_args *args, struct tg_arena *arena,
                                              struct tg_config *out);

/* The admin address that a client command talks to: --admin, else listen.admin of --config, else
 * $TIDEGATE_ADMIN, else 127.0.0.1:4320; as "http://host:port" in out. false = said so on stderr. */
bool tg_cmd_admin_url(const struct tg_args *args, char *out, size_t cap);
/* "http://host:port" of an address such as ":4320". false = said so on stderr. */
bool tg_cmd_url(const struct tg_cmd *cmd, const char *address, char *out, size_t cap);

/* "1.2 M", "340", "12.5 k". Returns out. */
char *tg_format_count(char *out, size_t cap, double n);
/* "1.2 GiB". Returns out. */
char *tg_format_bytes(char *out, size_t cap, uint64_t n);
/* Appends text for a terminal. Senders choose names, tags and texts, and messages quote them: what
 * would move a terminal's cursor, or start a command of it, becomes an escape. `in_quotes`: quotes
 * and backslashes too. NULL text = nothing. */
TG_MUST_CHECK enum tg_code tg_cmd_put_text(struct tg_buf *out, const char *text, bool in_quotes);

#endif
