#include "core/protocol/prom_name.h"

#include <stdbool.h>
#include <string.h>

enum { UNIT_MAX = 256 }; /* bytes of a unit that are looked at */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == ':';
}

/* --- units --- */

struct unit_name {
    const char *unit, *name;
};

/* UCUM codes, and the base units' names as Prometheus writes them. */
static const struct unit_name units[] = {
    {"d", "days"},          {"h", "hours"},
    {"min", "minutes"},     {"s", "seconds"},
    {"ms", "milliseconds"}, {"us", "microseconds"},
    {"ns", "nanoseconds"},  {"By", "bytes"},
    {"KiBy", "kibibytes"},  {"MiBy", "mebibytes"},
    {"GiBy", "gibibytes"},  {"TiBy", "tebibytes"},
    {"KBy", "kilobytes"},   {"kBy", "kilobytes"},
    {"MBy", "megabytes"},   {"GBy", "gigabytes"},
    {"TBy", "terabytes"},   {"m", "meters"},
    {"V", "volts"},         {"A", "amperes"},
    {"J", "joules"},        {"W", "watts"},
    {"g", "grams"},         {"Cel", "celsius"},
    {"Hz", "hertz"},        {"1", ""},
    {"%", "percent"},
};
static const struct unit_name per_units[] = {
    {"s", "second"}, {"m", "minute"}, {"h", "hour"}, {"d", "day"},
    {"w", "week"},   {"mo", "month"}, {"y", "year"},
};

struct text {
    char data[UNIT_MAX + 8];
    size_t len;
};

/* The words of `s` joined by "_", or its name in the table; nothing for annotations in braces. */
static void unit_words(const char *s, size_t len, const struct unit_name *table, size_t n_table,
                       struct text *out)
{
    while (len && *s == ' ') {
        s++;
        len--;
    }
    while (len && s[len - 1] == ' ') len--;
    out->len = 0;
    if (len == 0 || len > UNIT_MAX || memchr(s, '{', len) || memchr(s, '}', len)) return;
    for (size_t i = 0; i < n_table; i++) {
        if (strlen(table[i].unit) == len && memcmp(table[i].unit, s, len) == 0) {
            out->len = strlen(table[i].name);
            memcpy(out->data, table[i].name, out->len);
            return;
        }
    }
    bool gap = false;
    for (size_t i = 0; i < len; i++) {
        if (!is_word(s[i])) {
            gap = true;
            continue;
        }
        if (gap && out->len) out->data[out->len++] = '_';
        gap = false;
        out->data[out->len++] = s[i];
    }
}

static void split_unit(const struct tg_series_desc *d, struct text *unit, struct text *per)
{
    const char *slash = d->unit_len ? memchr(d->unit, '/', d->unit_len) : NULL;
    const size_t head = slash ? (size_t)(slash - d->unit) : d->unit_len;
    unit_words(d->unit, head, units, sizeof(units) / sizeof(units[0]), unit);
    per->len = 0;
    if (!slash) return;
    struct text t;
    unit_words(slash + 1, d->unit_len - head - 1, per_units,
               sizeof(per_units) / sizeof(per_units[0]), &t);
    if (t.len == 0) return;
    memcpy(per->data, "per_", 4);
    memcpy(per->data + 4, t.data, t.len);
    per->len = t.len + 4;
}

/* --- metric names --- */

/* The next word at *at, or false. */
static bool next_word(const struct tg_series_desc *d, size_t *at, const char **word, size_t *len)
{
    size_t i = *at;
    while (i < d->name_len && !is_word(d->name[i])) i++;
    const size_t from = i;
    while (i < d->name_len && is_word(d->name[i])) i++;
    *at = i;
    *word = d->name + from;
    *len = i - from;
    return i > from;
}

static bool has_word(const struct tg_series_desc *d, const char *want, size_t want_len)
{
    const char *word;
    size_t len;
    for (size_t at = 0; next_word(d, &at, &word, &len);)
        if (len == want_len && memcmp(word, want, len) == 0) return true;
    return false;
}

/* The caller reserved. */
static void put_word(struct tg_buf *out, size_t start, const char *word, size_t len)
{
    if (len == 0) return;
    if (out->len > start || is_digit(word[0])) tg_buf_put_u8(out, '_');
    tg_buf_put(out, word, len);
}

static enum tg_code check_name(const struct tg_series_desc *d, struct tg_buf *out, size_t start,
                               struct tg_err *err)
{
    for (size_t i = start; i < out->len; i++)
        if (out->data[i] != '_') return TG_OK;
    /* A name of underscores alone is a name when it was sent so. */
    if (out->len > start && out->len - start == d->name_len &&
        memcmp(out->data + start, d->name, d->name_len) == 0)
        return TG_OK;
    out->len = start;
    char q[96];
    return tg_fail(err, TG_ERR_INVALID,
                   "metric name %s has no character that a classic Prometheus name takes (a-z A-Z "
                   "0-9 : _); rename it in tags.lua (series.name), or set names = \"utf8\"",
                   tg_quote(q, sizeof(q), d->name, d->name_len));
}

/* Appends `s` with "_" for every character (not byte) that a classic name has no place for. */
static void put_escaped(struct tg_buf *out, const char *s, size_t len, bool with_colon)
{
    for (size_t i = 0; i < len; i++) {
        if (((uint8_t)s[i] & 0xc0) == 0x80) continue; /* the rest of a character */
        tg_buf_put_u8(out, is_word(s[i]) && (with_colon || s[i] != ':') ? (uint8_t)s[i] : '_');
    }
}

/* Of Prometheus and Influx senders: as it is, or escaped. */
static enum tg_code sent_name(const struct tg_series_desc *d, bool is_utf8, struct tg_buf *out,
                              struct tg_err *err)
{
    const size_t start = out->len;
    if (is_utf8) return tg_buf_append(out, d->name, d->name_len);
    TG_TRY(tg_buf_reserve(out, (size_t)d->name_len + 1));
    if (d->name_len && is_digit(d->name[0])) tg_buf_put_u8(out, '_');
    put_escaped(out, d->name, d->name_len, true);
    return check_name(d, out, start, err);
}

/* OTLP without suffixes: runs of what cannot stand in a name become one "_", "_" itself stays. */
static enum tg_code otlp_bare_name(const struct tg_series_desc *d, struct tg_buf *out,
                                   struct tg_err *err)
{
    const size_t start = out->len;
    bool gap = false;
    TG_TRY(tg_buf_reserve(out, (size_t)d->name_len + 1));
    for (uint32_t i = 0; i < d->name_len; i++) {
        const char c = d->name[i];
        if (!is_word(c) && c != '_') {
            gap = true;
            continue;
        }
        if (out->len == start && is_digit(c)) tg_buf_put_u8(out, '_');
        if (gap && out->len > start) tg_buf_put_u8(out, '_');
        gap = false;
        tg_buf_put_u8(out, (uint8_t)c);
    }
    return check_name(d, out, start, err);
}

struct parts {
    struct text unit, per;
    const char *last; /* the word that goes last, and is taken out elsewhere */
};

static void split_parts(const struct tg_series_desc *d, struct parts *p)
{
    const bool is_ratio = d->kind == TG_KIND_GAUGE && d->temporality == TG_TEMPORALITY_NONE &&
                          d->unit_len == 1 && d->unit[0] == '1';
    p->last = d->kind == TG_KIND_COUNTER ? "total" : is_ratio ? "ratio" : "";
    split_unit(d, &p->unit, &p->per);
}

/* OTLP with suffixes, escaped: words. */
static enum tg_code otlp_word_name(const struct tg_series_desc *d, struct tg_buf *out,
                                   struct tg_err *err)
{
    const size_t start = out->len;
    struct parts p;
    split_parts(d, &p);
    const size_t last_len = strlen(p.last);
    TG_TRY(tg_buf_reserve(out, (size_t)d->name_len + p.unit.len + p.per.len + last_len + 8));
    const char *word;
    size_t len;
    for (size_t at = 0; next_word(d, &at, &word, &len);)
        if (len != last_len || memcmp(word, p.last, len) != 0) put_word(out, start, word, len);
    if (!has_word(d, p.unit.data, p.unit.len)) put_word(out, start, p.unit.data, p.unit.len);
    if (!has_word(d, p.per.data, p.per.len)) put_word(out, start, p.per.data, p.per.len);
    put_word(out, start, p.last, last_len);
    return check_name(d, out, start, err);
}

static bool ends_with(const char *s, size_t len, const char *end, size_t end_len)
{
    return len >= end_len && memcmp(s + len - end_len, end, end_len) == 0;
}

/* The length without `end` and the character before it, when something is left. */
static size_t without_end(const char *s, size_t len, const char *end, size_t end_len)
{
    return end_len && len > end_len + 1 && ends_with(s, len, end, end_len) ? len - end_len - 1
                                                                           : len;
}

static void put_suffix(struct tg_buf *out, const char *s, size_t len)
{
    if (len == 0) return;
    tg_buf_put_u8(out, '_');
    tg_buf_put(out, s, len);
}

/* OTLP with suffixes, the name itself as it is. */
static enum tg_code otlp_suffixed_name(const struct tg_series_desc *d, struct tg_buf *out)
{
    struct parts p;
    split_parts(d, &p);
    const size_t last_len = strlen(p.last);
    size_t len = without_end(d->name, d->name_len, p.last, last_len);
    len = without_end(d->name, len, p.per.data, p.per.len);
    TG_TRY(tg_buf_reserve(out, len + p.unit.len + p.per.len + last_len + 8));
    tg_buf_put(out, d->name, len);
    if (!ends_with(d->name, len, p.unit.data, p.unit.len)) put_suffix(out, p.unit.data, p.unit.len);
    put_suffix(out, p.per.data, p.per.len);
    put_suffix(out, p.last, last_len);
    return TG_OK;
}

const struct tg_prom_names tg_prom_names_default = {.is_utf8 = true, .has_otlp_suffixes = true};

bool tg_prom_is_otlp(const struct tg_series_desc *d)
{
    return d->kind != TG_KIND_UNKNOWN &&
           !(d->kind == TG_KIND_EXP_HISTOGRAM && d->temporality == TG_TEMPORALITY_NONE);
}

bool tg_prom_keeps_names(const struct tg_prom_names *names, const struct tg_series_desc *d)
{
    return tg_prom_is_otlp(d) ? names->is_otlp_utf8 : names->is_utf8;
}

enum tg_code tg_prom_metric_name(const struct tg_series_desc *d, const struct tg_prom_names *names,
                                 struct tg_buf *out, struct tg_err *err)
{
    if (!tg_prom_is_otlp(d)) return sent_name(d, names->is_utf8, out, err);
    if (names->is_otlp_utf8)
        return names->has_otlp_suffixes ? otlp_suffixed_name(d, out)
                                        : tg_buf_append(out, d->name, d->name_len);
    return names->has_otlp_suffixes ? otlp_word_name(d, out, err) : otlp_bare_name(d, out, err);
}

/* --- units --- */

enum tg_code tg_prom_unit(const struct tg_series_desc *d, struct tg_buf *out)
{
    struct text unit, per;
    const size_t start = out->len;
    split_unit(d, &unit, &per);
    TG_TRY(tg_buf_reserve(out, unit.len + per.len + 8));
    if (d->kind == TG_KIND_GAUGE && d->temporality == TG_TEMPORALITY_NONE && d->unit_len == 1 &&
        d->unit[0] == '1')
        tg_buf_put(out, "ratio", 5);
    put_word(out, start, unit.data, unit.len);
    put_word(out, start, per.data, per.len);
    return TG_OK;
}

/* --- labels --- */

enum tg_code tg_prom_label_name(const char *key, uint32_t key_len, bool keep, struct tg_buf *out)
{
    if (keep) return tg_buf_append(out, key, key_len);
    TG_TRY(tg_buf_reserve(out, (size_t)key_len + 4));
    if (key_len && is_digit(key[0])) tg_buf_put(out, "key_", 4);
    put_escaped(out, key, key_len, false);
    return TG_OK;
}
