#include "core/admin/selector.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/option.h"

#define NS_PER_S INT64_C(1000000000)

struct cursor {
    const char *start, *p;
    struct tg_arena *arena;
    struct tg_err *err;
};

static bool is_bare(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("_.:/-%@", c)) || (unsigned char)c >= 0x80;
}

static void skip_space(struct cursor *c)
{
    while (*c->p == ' ' || *c->p == '\t' || *c->p == '\n') c->p++;
}

static enum tg_code fail(struct cursor *c, const char *expected)
{
    char q[48];
    const uint64_t at = (uint64_t)(c->p - c->start);
    if (!*c->p)
        return tg_fail_at(c->err, TG_ERR_INVALID, at,
                          "the series ends too early: expected %s; write metric{tag=\"value\"}",
                          expected);
    return tg_fail_at(c->err, TG_ERR_INVALID, at,
                      "at %s (character %llu): expected %s; write metric{tag=\"value\"}",
                      tg_quote(q, sizeof(q), c->p, strlen(c->p)), (unsigned long long)at + 1,
                      expected);
}

/* A bare word or a quoted text; *out is NULL when there is none. */
static enum tg_code word(struct cursor *c, const char **out, uint32_t *len)
{
    *out = NULL;
    if (*c->p != '"' && *c->p != '\'') {
        const char *from = c->p;
        while (is_bare(*c->p)) c->p++;
        if (c->p == from) return TG_OK;
        *len = (uint32_t)(c->p - from);
        *out = tg_arena_strndup(c->arena, from, *len);
        return *out ? TG_OK : tg_fail(c->err, TG_ERR_NOMEM, "out of memory");
    }
    const char quote = *c->p;
    const char *open = c->p++;
    char *text = tg_arena_alloc(c->arena, strlen(c->p) + 1);
    if (!text) return tg_fail(c->err, TG_ERR_NOMEM, "out of memory");
    size_t n = 0;
    while (*c->p != quote) {
        if (!*c->p) {
            c->p = open;
            return fail(c, "a closing quote for this one");
        }
        if (*c->p == '\\' && c->p[1]) {
            c->p++;
            text[n++] = *c->p == 'n' ? '\n' : *c->p;
        } else {
            text[n++] = *c->p;
        }
        c->p++;
    }
    c->p++;
    text[n] = '\0';
    *out = text;
    *len = (uint32_t)n;
    return TG_OK;
}

static enum tg_code add_tag(struct tg_selector *s, const char *key, uint32_t key_len,
                            const char *value, uint32_t value_len, struct tg_err *err)
{
    if (s->n_tags == TG_SELECTOR_MAX_TAGS)
        return tg_fail(err, TG_ERR_TOO_LARGE, "more than %d tags", TG_SELECTOR_MAX_TAGS);
    s->tags[s->n_tags++] = (struct tg_tag){.key = key,
                                           .value = value,
                                           .key_len = key_len,
                                           .value_len = value_len,
                                           .origin = TG_ORIGIN_POINT};
    return TG_OK;
}

enum tg_code tg_selector_parse(const char *text, struct tg_arena *arena, struct tg_selector *out,
                               struct tg_err *err)
{
    struct cursor c = {.start = text, .p = text, .arena = arena, .err = err};
    memset(out, 0, sizeof(*out));
    out->tags = tg_arena_calloc(arena, TG_SELECTOR_MAX_TAGS, sizeof(*out->tags));
    if (!out->tags) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    skip_space(&c);
    uint32_t len;
    TG_TRY(word(&c, &out->name, &len));
    if (out->name && len == 0) out->name = NULL;
    skip_space(&c);
    if (*c.p == '{') {
        c.p++;
        skip_space(&c);
        while (*c.p != '}') {
            const char *key, *value;
            uint32_t key_len, value_len;
            TG_TRY(word(&c, &key, &key_len));
            if (!key || key_len == 0) return fail(&c, "a tag's name or }");
            skip_space(&c);
            if (*c.p != '=' || c.p[1] == '~') return fail(&c, "= (only exact matches are known)");
            c.p++;
            skip_space(&c);
            TG_TRY(word(&c, &value, &value_len));
            if (!value) return fail(&c, "a tag's value in quotes");
            TG_TRY(add_tag(out, key, key_len, value, value_len, err));
            skip_space(&c);
            if (*c.p != ',' && *c.p != '}') return fail(&c, ", or }");
            if (*c.p == ',') c.p++;
            skip_space(&c);
        }
        c.p++;
        skip_space(&c);
    }
    if (*c.p) return fail(&c, out->n_tags ? "the end" : "{ or the end (other names go in quotes)");
    return TG_OK;
}

enum tg_code tg_selector_add_tag(struct tg_selector *s, const char *text, struct tg_arena *arena,
                                 struct tg_err *err)
{
    char q[64];
    const char *eq = strchr(text, '=');
    if (!eq || eq == text)
        return tg_fail(err, TG_ERR_INVALID, "tag %s: write name=value",
                       tg_quote(q, sizeof(q), text, strlen(text)));
    const size_t key_len = (size_t)(eq - text);
    const size_t value_len = strlen(eq + 1);
    const char *key = tg_arena_strndup(arena, text, key_len);
    const char *value = tg_arena_strndup(arena, eq + 1, value_len);
    if (!key || !value) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    return add_tag(s, key, (uint32_t)key_len, value, (uint32_t)value_len, err);
}

/* --- times ------------------------------------------------------------------------------------*/

/* Exactly `n` digits at *p. */
static bool digits(const char **p, int n, int *out)
{
    *out = 0;
    for (int i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9') return false;
        *out = *out * 10 + (**p - '0');
    }
    return true;
}

static bool take(const char **p, char c)
{
    if (**p != c) return false;
    (*p)++;
    return true;
}

/* RFC 3339, and a plain date. */
static bool parse_rfc3339(const char *p, int64_t *ts_ns)
{
    struct tm tm = {0};
    int64_t frac = 0;
    int64_t shift_s = 0;
    if (!digits(&p, 4, &tm.tm_year) || !take(&p, '-') || !digits(&p, 2, &tm.tm_mon) ||
        !take(&p, '-') || !digits(&p, 2, &tm.tm_mday))
        return false;
    if (*p) {
        if (!take(&p, 'T') && !take(&p, 't') && !take(&p, ' ')) return false;
        if (!digits(&p, 2, &tm.tm_hour) || !take(&p, ':') || !digits(&p, 2, &tm.tm_min))
            return false;
        if (take(&p, ':') && !digits(&p, 2, &tm.tm_sec)) return false;
        if (take(&p, '.')) {
            int64_t unit = NS_PER_S / 10;
            if (*p < '0' || *p > '9') return false;
            for (; *p >= '0' && *p <= '9'; p++, unit /= 10) frac += (*p - '0') * unit;
        }
        if (*p == '+' || *p == '-') {
            const int sign = *p++ == '-' ? -1 : 1;
            int h, m;
            if (!digits(&p, 2, &h) || !take(&p, ':') || !digits(&p, 2, &m) || h > 23 || m > 59)
                return false;
            shift_s = sign * (h * 3600 + m * 60);
        } else if (!take(&p, 'Z') && !take(&p, 'z') && *p) {
            return false;
        }
        if (*p) return false;
    }
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (tm.tm_mon < 1 || tm.tm_mon > 12) return false;
    const int y = tm.tm_year;
    const bool is_leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    const int last = month_days[tm.tm_mon - 1] + (tm.tm_mon == 2 && is_leap);
    if (tm.tm_mday < 1 || tm.tm_mday > last || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
        return false;
    if (y < 1678 || y > 2261) return false; /* what int64 ns can hold */
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *ts_ns = ((int64_t)timegm(&tm) - shift_s) * NS_PER_S + frac;
    return true;
}

enum tg_code tg_time_parse(const char *text, int64_t now_ns, int64_t *ts_ns, struct tg_err *err)
{
    char q[64];
    if (strcmp(text, "now") == 0) {
        *ts_ns = now_ns;
        return TG_OK;
    }
    if (parse_rfc3339(text, ts_ns)) return TG_OK;
    char *end;
    errno = 0;
    const double v = strtod(text, &end);
    if (end != text && *end == '\0' && errno == 0 && v >= 0 && v < 9.2e18 &&
        strspn(text, "0123456789.") == strlen(text)) {
        const int64_t unit = v < 1e11 ? NS_PER_S : v < 1e14 ? 1000000 : v < 1e17 ? 1000 : 1;
        /* Whole numbers go without a double, which has no room for ns since the epoch. */
        const int64_t whole = strtoll(text, NULL, 10);
        if (strchr(text, '.'))
            *ts_ns = whole * unit + (int64_t)((v - (double)whole) * (double)unit);
        else
            *ts_ns = whole * unit;
        return TG_OK;
    }
    int64_t ago_ms;
    const char *ago = text[0] == '-' ? text + 1 : text;
    if (*ago >= '0' && *ago <= '9' && strspn(ago, "0123456789.") < strlen(ago) &&
        tg_duration_parse(ago, &ago_ms, NULL) == TG_OK && ago_ms < INT64_MAX / 1000000) {
        *ts_ns = now_ns - ago_ms * 1000000;
        return TG_OK;
    }
    return tg_fail(err, TG_ERR_INVALID,
                   "%s is not a time: write 5m (ago), 2026-01-31T12:00:00Z, 2026-01-31, now, or "
                   "seconds since 1970",
                   tg_quote(q, sizeof(q), text, strlen(text)));
}
