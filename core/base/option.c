#include "core/base/option.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    int64_t factor;
};

static enum tg_code parse_unit(const char *text, const struct unit *units, const char *accepted,
                               int64_t *out, struct tg_err *err)
{
    char q[64];
    char *end;
    errno = 0;
    const double v = strtod(text, &end);
    /* strtod also takes signs, "inf" and hexadecimal, which nobody means here. */
    if (text[0] < '0' || text[0] > '9' || text[1] == 'x' || text[1] == 'X') goto bad;
    if (errno != 0 || !(v >= 0)) goto bad;
    while (*end == ' ') end++;
    for (; units->name; units++) {
        if (strcasecmp(end, units->name) != 0) continue;
        const double scaled = v * (double)units->factor;
        if (scaled >= 9.2e18) goto bad;
        *out = (int64_t)scaled;
        return TG_OK;
    }
bad:
    return tg_fail(err, TG_ERR_INVALID, "%s is not %s", tg_quote(q, sizeof(q), text, strlen(text)),
                   accepted);
}

enum tg_code tg_bytes_parse(const char *text, int64_t *bytes, struct tg_err *err)
{
    static const struct unit units[] = {
        {"", 1},
        {"b", 1},
        {"kb", 1000},
        {"mb", 1000000},
        {"gb", 1000000000},
        {"kib", 1 << 10},
        {"mib", 1 << 20},
        {"gib", 1 << 30},
        {"tib", (int64_t)1 << 40},
        {"tb", (int64_t)1000000000000},
        {NULL, 0},
    };
    return parse_unit(text, units, "a size such as 64MiB, 4GiB, 10MB or a number of bytes", bytes,
                      err);
}

enum tg_code tg_duration_parse(const char *text, int64_t *ms, struct tg_err *err)
{
    static const struct unit units[] = {
        {"", 1000},     {"ms", 1},       {"s", 1000},      {"m", 60000},
        {"h", 3600000}, {"d", 86400000}, {"w", 604800000}, {"y", (int64_t)31536000000},
        {NULL, 0},
    };
    return parse_unit(text, units, "a duration such as 250ms, 30s, 5m, 12h, 90d, 2w or 1y", ms,
                      err);
}

static size_t edit_distance(const char *a, const char *b)
{
    enum { MAX = 48 };
    const size_t la = strlen(a);
    const size_t lb = strlen(b);
    if (la > MAX || lb > MAX) return MAX;
    size_t row[MAX + 1];
    for (size_t j = 0; j <= lb; j++) row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diag = row[0];
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            const size_t up = row[j];
            size_t best = diag + (a[i - 1] != b[j - 1]);
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diag = up;
            row[j] = best;
        }
    }
    return row[lb];
}

const char *tg_nearest_name(const char *name, const char *const *known, size_t n_known)
{
    const char *best = NULL;
    size_t best_d = 4;
    for (size_t i = 0; i < n_known; i++) {
        const size_t d = edit_distance(name, known[i]);
        if (d < best_d && d * 2 <= strlen(known[i]) + 1) {
            best = known[i];
            best_d = d;
        }
    }
    return best;
}

static enum tg_code set_value(const struct tg_option_spec *spec, struct tg_option_value *out,
                              const char *text, struct tg_arena *arena, struct tg_err *err)
{
    char q[64];
    struct tg_err detail = {.msg = ""};
    struct tg_option_value value = *out; /* a refused text changes nothing */
    struct tg_option_value *const v = &value;
    switch (spec->type) {
    case TG_OPT_BYTES:
        if (tg_bytes_parse(text, &v->num, &detail) != TG_OK)
            return tg_fail(err, TG_ERR_INVALID, "%s = %s", spec->name, detail.msg);
        break;
    case TG_OPT_DURATION:
        if (tg_duration_parse(text, &v->num, &detail) != TG_OK)
            return tg_fail(err, TG_ERR_INVALID, "%s = %s", spec->name, detail.msg);
        break;
    case TG_OPT_INT: {
        char *end;
        errno = 0;
        v->num = strtoll(text, &end, 10);
        if (end == text || *end || errno)
            return tg_fail(err, TG_ERR_INVALID, "%s = %s is not a whole number", spec->name,
                           tg_quote(q, sizeof(q), text, strlen(text)));
        break;
    }
    case TG_OPT_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return tg_fail(err, TG_ERR_INVALID, "%s = %s is neither true nor false", spec->name,
                           tg_quote(q, sizeof(q), text, strlen(text)));
        v->num = text[0] == 't';
        break;
    case TG_OPT_ENUM: {
        const size_t len = strlen(text);
        const char *c = spec->choices;
        while (c && *c) {
            const size_t n = strcspn(c, "|");
            if (n == len && strncmp(c, text, n) == 0) break;
            c += n;
            if (*c == '|') c++;
        }
        if (!c || !*c)
            return tg_fail(err, TG_ERR_INVALID, "%s = %s is not one of %s", spec->name,
                           tg_quote(q, sizeof(q), text, len), spec->choices);
        break;
    }
    case TG_OPT_STRING:
    case TG_OPT_PATH: break;
    }
    if ((spec->min || spec->max) && (v->num < spec->min || v->num > spec->max))
        return tg_fail(err, TG_ERR_INVALID, "%s = %s is outside %lld to %lld", spec->name, text,
                       (long long)spec->min, (long long)spec->max);
    v->str = tg_arena_strndup(arena, text, strlen(text));
    if (!v->str) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    v->is_set = true;
    *out = value;
    return TG_OK;
}

static size_t count_specs(const struct tg_option_spec *specs)
{
    size_t n = 0;
    while (specs[n].name) n++;
    return n;
}

enum tg_code tg_options_init(struct tg_options *o, const struct tg_option_spec *specs,
                             struct tg_arena *arena)
{
    const size_t n = count_specs(specs);
    o->specs = specs;
    o->values = tg_arena_calloc(arena, n ? n : 1, sizeof(*o->values));
    if (!o->values) return TG_ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        if (specs[i].def && !specs[i].required)
            TG_TRY(set_value(&specs[i], &o->values[i], specs[i].def, arena, NULL));
    return TG_OK;
}

enum tg_code tg_options_set(struct tg_options *o, const char *name, const char *text,
                            struct tg_arena *arena, struct tg_err *err)
{
    const size_t n = count_specs(o->specs);
    for (size_t i = 0; i < n; i++)
        if (strcmp(o->specs[i].name, name) == 0)
            return set_value(&o->specs[i], &o->values[i], text, arena, err);
    const char *known[64] = {0};
    const size_t k = n < 64 ? n : 64;
    for (size_t i = 0; i < k; i++) known[i] = o->specs[i].name;
    const char *near = tg_nearest_name(name, known, k);
    char q[64];
    return tg_fail(err, TG_ERR_NOT_FOUND, "unknown key %s%s%s%s",
                   tg_quote(q, sizeof(q), name, strlen(name)), near ? "; did you mean \"" : "",
                   near ? near : "", near ? "\"?" : "");
}

enum tg_code tg_options_complete(const struct tg_options *o, struct tg_err *err)
{
    for (size_t i = 0; o->specs[i].name; i++)
        if (o->specs[i].required && !o->values[i].is_set)
            return tg_fail(err, TG_ERR_INVALID, "missing key \"%s\" (%s)", o->specs[i].name,
                           o->specs[i].help);
    return TG_OK;
}

static const struct tg_option_value *find(const struct tg_options *o, const char *name)
{
    for (size_t i = 0; o->specs[i].name; i++)
        if (strcmp(o->specs[i].name, name) == 0) return &o->values[i];
    assert(!"option not in its spec");
    return NULL;
}

const char *tg_options_str(const struct tg_options *o, const char *name)
{
    const struct tg_option_value *v = find(o, name);
    return v ? v->str : NULL;
}

int64_t tg_options_num(const struct tg_options *o, const char *name)
{
    const struct tg_option_value *v = find(o, name);
    return v ? v->num : 0;
}

bool tg_options_is_set(const struct tg_options *o, const char *name)
{
    const struct tg_option_value *v = find(o, name);
    return v && v->is_set;
}
