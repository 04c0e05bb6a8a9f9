/* option.h: typed options with limits, defaults and help, as backends and the configuration declare
 * them.
 *
 * A component publishes a table of `struct tg_option_spec`; the loader (core/config) fills a
 * `struct tg_options` from the operator's Lua file, refuses unknown keys naming the nearest known
 * one, and the component reads typed values. The same table prints the reference documentation.
 *
 * Units: bytes take "64MiB", "4GiB", "10kB" or a number of bytes; durations take "30s", "250ms",
 * "5m", "12h", "90d", "1y" (365 d) or a number of seconds, and are kept in milliseconds.
 *
 * Threading: read-only after loading.
 */
#ifndef TG_BASE_OPTION_H
#define TG_BASE_OPTION_H

#include <stdbool.h>

#include "core/base/arena.h"
#include "core/base/err.h"

enum tg_option_type {
    TG_OPT_STRING,
    TG_OPT_BYTES,    /* int64 bytes */
    TG_OPT_DURATION, /* int64 ms */
    TG_OPT_INT,
    TG_OPT_BOOL,
    TG_OPT_ENUM, /* one of `choices`, kept as string */
    TG_OPT_PATH, /* string; relative ones are made absolute against the configuration file's folder
                  */
};

struct tg_option_spec { /* a table of these ends with name == NULL */
    const char *name;
    enum tg_option_type type;
    const char *def; /* default as text; NULL = unset; ignored when required */
    bool required;
    int64_t min, max;    /* for numbers, in the kept unit; both 0 = unchecked */
    const char *choices; /* for TG_OPT_ENUM: "always|interval|never" */
    const char *help;    /* one line */
};

struct tg_option_value {
    const char *str; /* NULL when unset or not text */
    int64_t num;     /* bytes, ms, int, bool */
    bool is_set;     /* by the operator or by a default */
};

struct tg_options {
    const struct tg_option_spec *specs; /* borrows */
    struct tg_option_value *values;     /* one per spec, in arena */
};

/* Starts from the defaults. Strings and values live in `arena`. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_options_init(struct tg_options *o, const struct tg_option_spec *specs,
                                           struct tg_arena *arena);
/* Sets one from text (copied into arena). TG_ERR_NOT_FOUND for an unknown name, naming the nearest
 * known one; TG_ERR_INVALID for a bad value, saying what is accepted. */
TG_MUST_CHECK enum tg_code tg_options_set(struct tg_options *o, const char *name, const char *text,
                                          struct tg_arena *arena, struct tg_err *err);
/* After all were set: TG_ERR_INVALID naming the first required one that is missing. */
TG_MUST_CHECK enum tg_code tg_options_complete(const struct tg_options *o, struct tg_err *err);

/* Typed reads; a name that the spec lacks is our own bug (assert). str gives NULL, num gives `0`
 * when unset. */
const char *tg_options_str(const struct tg_options *o, const char *name);
int64_t tg_options_num(const struct tg_options *o, const char *name);
bool tg_options_is_set(const struct tg_options *o, const char *name);

/* Text to value, whole string. TG_ERR_INVALID with the accepted forms in the message. */
TG_MUST_CHECK enum tg_code tg_bytes_parse(const char *text, int64_t *bytes, struct tg_err *err);
TG_MUST_CHECK enum tg_code tg_duration_parse(const char *text, int64_t *ms, struct tg_err *err);

/* The known name nearest to `name` by edit distance, or NULL when none is close (distance > 3 or >
 * half its length). */
const char *tg_nearest_name(const char *name, const char *const *known, size_t n_known);

#endif
