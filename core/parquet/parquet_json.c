#include "core/parquet/parquet_json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/utf8.h"

/* ---- UTF-8 ---- */

enum tg_code tg_parquet_utf8_fix(const char **p, uint32_t *len, struct tg_arena *arena)
{
    const uint8_t *s = (const uint8_t *)*p;
    size_t i = 0, n_bad = 0;
    while (i < *len) {
        const unsigned n = tg_utf8_len(s + i, *len - i);
        if (!n) n_bad++;
        i += n ? n : 1;
    }
    if (n_bad == 0) return TG_OK;
    char *copy = tg_arena_alloc(arena, *len + 2 * n_bad);
    if (!copy) return TG_ERR_NOMEM;
    size_t at = 0;
    for (i = 0; i < *len;) {
        const unsigned n = tg_utf8_len(s + i, *len - i);
        if (n) {
            memcpy(copy + at, s + i, n);
            at += n;
            i += n;
        } else {
            memcpy(copy + at, "\xef\xbf\xbd", 3);
            at += 3;
            i++;
        }
    }
    *p = copy;
    *len = (uint32_t)at;
    return TG_OK;
}

/* ---- encode ---- */

static enum tg_code put_string(struct tg_buf *out, const char *p, size_t len)
{
    const uint8_t *s = (const uint8_t *)p;
    if (len > SIZE_MAX / 8) return TG_ERR_TOO_LARGE;
    TG_TRY(tg_buf_reserve(out, 6 * len + 2)); /* the longest form of a byte: \u00xx */
    tg_buf_put_u8(out, '"');
    for (size_t i = 0; i < len;) {
        const unsigned n = tg_utf8_len(s + i, len - i);
        if (n == 0) {
            tg_buf_put(out, "\xef\xbf\xbd", 3);
            i++;
            continue;
        }
        if (s[i] < 0x20 || s[i] == '"' || s[i] == '\\') {
            static const char hex[] = "0123456789abcdef";
            const char esc[6] = {'\\', 'u', '0', '0', hex[s[i] >> 4], hex[s[i] & 15]};
            tg_buf_put(out, esc, 6);
        } else {
            tg_buf_put(out, s + i, n);
        }
        i += n;
    }
    tg_buf_put_u8(out, '"');
    return TG_OK;
}

static enum tg_code put_hex(struct tg_buf *out, const char *key, const uint8_t *p, size_t n)
{
    TG_TRY(tg_buf_printf(out, ",\"%s\":\"", key));
    for (size_t i = 0; i < n; i++) TG_TRY(tg_buf_printf(out, "%02x", p[i]));
    return tg_buf_append(out, "\"", 1);
}

static enum tg_code put_double(struct tg_buf *out, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    if (isnan(v)) return tg_buf_printf(out, "\"NaN:%016" PRIx64 "\"", bits);
    if (isinf(v)) return tg_buf_printf(out, v > 0 ? "\"+Inf\"" : "\"-Inf\"");
    return tg_buf_printf(out, "%.17g", v);
}

enum tg_code tg_parquet_exemplars_encode(const struct tg_exemplars *e, struct tg_buf *out)
{
    TG_TRY(tg_buf_append(out, "[", 1));
    for (uint32_t i = 0; i < e->n; i++) {
        const struct tg_exemplar *x = &e->items[i];
        TG_TRY(tg_buf_printf(out, "%s{\"time\":%" PRId64 ",\"value\":", i ? "," : "", x->ts_ns));
        TG_TRY(put_double(out, x->value));
        if (x->is_int) TG_TRY(tg_buf_printf(out, ",\"int\":true"));
        if (x->has_trace) {
            TG_TRY(put_hex(out, "trace_id", x->trace_id, sizeof(x->trace_id)));
            TG_TRY(put_hex(out, "span_id", x->span_id, sizeof(x->span_id)));
        }
        for (uint32_t k = 0; k < x->n_labels; k++) {
            TG_TRY(tg_buf_printf(out, "%s", k ? "," : ",\"labels\":{"));
            const struct tg_string *l = &x->labels[2 * (size_t)k];
            TG_TRY(put_string(out, l[0].ptr, l[0].len));
            TG_TRY(tg_buf_append(out, ":", 1));
            TG_TRY(put_string(out, l[1].ptr, l[1].len));
        }
        TG_TRY(tg_buf_append(out, "}}", x->n_labels ? 2 : 1));
    }
    return tg_buf_append(out, "]", 1);
}

/* ---- parse ---- */

struct in {
    const char *p, *end;
    struct tg_arena *arena;
    bool no_memory;
};

static bool lit(struct in *in, const char *s)
{
    const size_t n = strlen(s);
    if ((size_t)(in->end - in->p) < n || memcmp(in->p, s, n) != 0) return false;
    in->p += n;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

static bool hex(struct in *in, uint8_t *out, size_t n)
{
    if ((size_t)(in->end - in->p) < 2 * n) return false;
    for (size_t i = 0; i < n; i++) {
        const int hi = hex_digit(in->p[2 * i]), lo = hex_digit(in->p[2 * i + 1]);
        if (hi < 0 || lo < 0) return false;
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    in->p += 2 * n;
    return true;
}

/* The characters of a number, copied so that strtod finds an end. */
static bool number_text(struct in *in, char text[40])
{
    size_t n = 0;
    while (in->p + n < in->end && n < 39 && strchr("+-.0123456789e", in->p[n]) && in->p[n]) n++;
    if (n == 0) return false;
    memcpy(text, in->p, n);
    text[n] = 0;
    in->p += n;
    return true;
}

static bool get_double(struct in *in, double *v)
{
    char text[40], *end;
    if (lit(in, "\"+Inf\"")) {
        *v = INFINITY;
        return true;
    }
    if (lit(in, "\"-Inf\"")) {
        *v = -INFINITY;
        return true;
    }
    if (lit(in, "\"NaN:")) {
        uint8_t b[8];
        if (!hex(in, b, 8) || !lit(in, "\"")) return false;
        uint64_t bits;
        memcpy(&bits, b, 8);
        bits = __builtin_bswap64(bits);
        memcpy(v, &bits, 8);
        return isnan(*v);
    }
    if (!number_text(in, text)) return false;
    *v = strtod(text, &end);
    return *end == 0 && isfinite(*v);
}

static bool get_string(struct in *in, struct tg_string *out)
{
    if (!lit(in, "\"")) return false;
    const char *q = in->p;
    while (q < in->end && *q != '"') q++;
    if (q == in->end || q - in->p > UINT32_MAX) return false;
    char *copy = tg_arena_alloc(in->arena, (size_t)(q - in->p) + 1);
    if (!copy) {
        in->no_memory = true;
        return false;
    }
    uint32_t n = 0;
    while (in->p < q) {
        if (*in->p != '\\') {
            copy[n++] = *in->p++;
            continue;
        }
        uint8_t c;
        if (!lit(in, "\\u00") || in->p + 2 > q || !hex(in, &c, 1) || c >= 0x80) return false;
        copy[n++] = (char)c;
    }
    in->p = q + 1;
    out->ptr = copy;
    out->len = n;
    return true;
}

static bool labels(struct in *in, struct tg_exemplar *x)
{
    /* counted first: each has one "\":\"", which cannot stand inside a string */
    uint32_t n = 0;
    for (const char *q = in->p; q + 3 <= in->end && *q != '}'; q++)
        if (memcmp(q, "\":\"", 3) == 0) n++;
    /* a '}' inside a string only makes the count too small, which the loop below bounds */
    uint32_t cap = n + 1;
    struct tg_string *l = tg_arena_calloc(in->arena, 2 * (size_t)cap, sizeof(*l));
    if (!l) {
        in->no_memory = true;
        return false;
    }
    do {
        if (x->n_labels == cap) {
            struct tg_string *more = tg_arena_calloc(in->arena, 4 * (size_t)cap, sizeof(*more));
            if (!more) {
                in->no_memory = true;
                return false;
            }
            memcpy(more, l, 2 * (size_t)cap * sizeof(*l));
            l = more;
            cap *= 2;
        }
        struct tg_string *pair = &l[2 * (size_t)x->n_labels];
        if (!get_string(in, &pair[0]) || !lit(in, ":") || !get_string(in, &pair[1])) return false;
        x->n_labels++;
    } while (lit(in, ","));
    x->labels = l;
    return lit(in, "}");
}

static bool exemplar(struct in *in, struct tg_exemplar *x)
{
    char text[40], *end;
    if (!x || !lit(in, "{\"time\":") || !number_text(in, text)) return false;
    x->ts_ns = strtoll(text, &end, 10);
    if (*end || !lit(in, ",\"value\":") || !get_double(in, &x->value)) return false;
    x->is_int = lit(in, ",\"int\":true");
    if (lit(in, ",\"trace_id\":\"")) {
        x->has_trace = true;
        if (!hex(in, x->trace_id, 16) || !lit(in, "\",\"span_id\":\"") || !hex(in, x->span_id, 8) ||
            !lit(in, "\""))
            return false;
    }
    if (lit(in, ",\"labels\":{") && !labels(in, x)) return false;
    return lit(in, "}");
}

enum tg_code tg_parquet_exemplars_parse(const char *text, size_t len, struct tg_arena *arena,
                                        const struct tg_exemplars **out)
{
    struct in in = {text, text + len, arena, false};
    struct tg_exemplars *e = tg_arena_calloc(arena, 1, sizeof(*e));
    struct tg_exemplar *items = NULL;
    uint32_t cap = 0;
    if (!e) return TG_ERR_NOMEM;
    if (!lit(&in, "[")) return TG_ERR_CORRUPT;
    if (!lit(&in, "]")) {
        do {
            if (e->n == cap) {
                const uint32_t more_cap = cap ? cap * 2 : 2;
                struct tg_exemplar *more = tg_arena_calloc(arena, more_cap, sizeof(*more));
                if (!more) return TG_ERR_NOMEM;
                if (cap) memcpy(more, items, cap * sizeof(*items));
                items = more;
                cap = more_cap;
            }
            if (!exemplar(&in, &items[e->n])) return in.no_memory ? TG_ERR_NOMEM : TG_ERR_CORRUPT;
            e->n++;
        } while (lit(&in, ","));
        if (!lit(&in, "]")) return TG_ERR_CORRUPT;
    }
    e->items = items;
    *out = e;
    return in.p == in.end ? TG_OK : TG_ERR_CORRUPT;
}
