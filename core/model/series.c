#include "core/model/series.h"

#include <stdbool.h>
#include <string.h>

#include "core/base/utf8.h"

enum { CANONICAL_VERSION = 1, TAG_MIN_BYTES = 5 /* origin, two lengths, one byte each */ };

const struct tg_series_limits tg_series_limits_default = {
    .max_tags = 128, .max_name_bytes = 1024, .max_key_bytes = 1024, .max_value_bytes = 4096};

const char *tg_kind_name(enum tg_kind k)
{
    switch (k) {
    case TG_KIND_GAUGE: return "gauge";
    case TG_KIND_COUNTER: return "counter";
    case TG_KIND_HISTOGRAM: return "histogram";
    case TG_KIND_EXP_HISTOGRAM: return "exponential_histogram";
    case TG_KIND_SUMMARY: return "summary";
    case TG_KIND_UNKNOWN:
    case TG_KINDS: break;
    }
    return "unknown";
}

static int key_cmp(const struct tg_tag *a, const struct tg_tag *b)
{
    const uint32_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
    const int c = n ? memcmp(a->key, b->key, n) : 0;
    return c ? c : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

/* Whether `a` goes before `b` when both were given in the order a, b: by key, then wider origins
 * first, so that of equal keys the last one in the sorted array is the one that stays. */
static bool tag_before(const struct tg_tag *a, const struct tg_tag *b)
{
    const int c = key_cmp(a, b);
    return c ? c < 0 : a->origin >= b->origin;
}

/* Stable binary insertion: tags come nearly sorted, or few; n is bounded by the caller. */
static void sort_tags(struct tg_tag *tags, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        if (tag_before(&tags[i - 1], &tags[i])) continue;
        const struct tg_tag t = tags[i];
        uint32_t lo = 0;
        uint32_t hi = i;
        while (lo < hi) {
            const uint32_t mid = lo + (hi - lo) / 2;
            if (tag_before(&tags[mid], &t))
                lo = mid + 1;
            else
                hi = mid;
        }
        memmove(&tags[lo + 1], &tags[lo], (i - lo) * sizeof(t));
        tags[lo] = t;
    }
}

static enum tg_code check_string(const char *what, const char *s, uint32_t len, uint32_t max,
                                 const char *setting, struct tg_err *err)
{
    char q[96];
    if (len > max)
        return tg_fail(err, TG_ERR_TOO_LARGE, "%s %s has %u bytes, over %s = %u", what,
                       tg_quote(q, sizeof(q), s, len), len, setting, max);
    if (!tg_utf8_valid(s, len))
        return tg_fail(err, TG_ERR_INVALID, "%s %s is not UTF-8 without NUL", what,
                       tg_quote(q, sizeof(q), s, len));
    return TG_OK;
}

static enum tg_code check_head(const struct tg_series_desc *d,
                               const struct tg_series_limits *limits, struct tg_err *err)
{
    if (d->name_len == 0) return tg_fail(err, TG_ERR_INVALID, "the metric name is empty");
    TG_TRY(check_string("metric name", d->name, d->name_len, limits->max_name_bytes,
                        "limits.name_bytes", err));
    TG_TRY(check_string("unit", d->unit, d->unit_len, limits->max_name_bytes, "limits.name_bytes",
                        err));
    if (d->kind >= TG_KINDS || d->temporality > TG_TEMPORALITY_CUMULATIVE)
        return tg_fail(err, TG_ERR_INVALID, "kind %u with temporality %u is not known", d->kind,
                       d->temporality);
    if (d->field_len > 0 && (d->field_len + UINT64_C(1) >= d->name_len ||
                             d->name[d->name_len - d->field_len - 1] != '_'))
        return tg_fail(err, TG_ERR_INVALID,
                       "a field of %u bytes does not fit the name: it must be measurement_field",
                       d->field_len);
    return TG_OK;
}

enum tg_code tg_series_desc_canonicalise(struct tg_series_desc *d,
                                         const struct tg_series_limits *limits, struct tg_err *err)
{
    char q[96];
    TG_TRY(check_head(d, limits, err));
    /* Tags that lose against a narrower one do not count against the limit, but bound the sort. */
    const uint32_t max_tags = limits->max_tags < UINT16_MAX ? limits->max_tags : UINT16_MAX;
    if (d->n_tags > 2 * max_tags)
        return tg_fail(err, TG_ERR_TOO_LARGE, "%s has %u tags, over limits.tags_per_series = %u",
                       tg_quote(q, sizeof(q), d->name, d->name_len), d->n_tags, max_tags);
    bool ordered = true;
    bool has_empty = false;
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        if (t->key_len == 0)
            return tg_fail(err, TG_ERR_INVALID, "a tag of %s has an empty key (value %.*s)",
                           tg_quote(q, sizeof(q), d->name, d->name_len),
                           (int)(t->value_len < 60 ? t->value_len : 60),
                           t->value_len ? t->value : "");
        if (t->origin > TG_ORIGIN_RESOURCE)
            return tg_fail(err, TG_ERR_INVALID, "tag origin %u is not known", t->origin);
        TG_TRY(check_string("tag key", t->key, t->key_len, limits->max_key_bytes,
                            "limits.tag_key_bytes", err));
        TG_TRY(check_string("tag value", t->value, t->value_len, limits->max_value_bytes,
                            "limits.tag_value_bytes", err));
        if (i > 0 && ordered) ordered = key_cmp(&d->tags[i - 1], t) < 0;
        if (t->value_len == 0) has_empty = true;
    }
    if (!ordered) sort_tags(d->tags, d->n_tags);
    if (!ordered || has_empty) {
        /* The winner of a key is chosen first and dropped if empty: a point can so take away a tag
         * of its resource. */
        uint32_t n = 0;
        for (uint32_t i = 0; i < d->n_tags; i++) {
            if (i + 1 < d->n_tags && key_cmp(&d->tags[i], &d->tags[i + 1]) == 0) continue;
            if (d->tags[i].value_len == 0) continue;
            if (n != i) d->tags[n] = d->tags[i];
            n++;
        }
        d->n_tags = n;
    }
    if (d->n_tags > max_tags)
        return tg_fail(err, TG_ERR_TOO_LARGE, "%s has %u tags, over limits.tags_per_series = %u",
                       tg_quote(q, sizeof(q), d->name, d->name_len), d->n_tags, max_tags);
    return TG_OK;
}

static void put_string(struct tg_buf *out, const char *s, uint32_t len)
{
    tg_buf_put_varint(out, len);
    if (len) tg_buf_put(out, s, len);
}

enum tg_code tg_series_desc_encode(const struct tg_series_desc *d, struct tg_buf *out)
{
    size_t need = 3 + tg_varint_len(d->name_len) + d->name_len + tg_varint_len(d->unit_len) +
                  d->unit_len + tg_varint_len(d->field_len) + tg_varint_len(d->n_tags);
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        need +=
            1 + tg_varint_len(t->key_len) + t->key_len + tg_varint_len(t->value_len) + t->value_len;
    }
    TG_TRY(tg_buf_reserve(out, need));
    tg_buf_put_u8(out, CANONICAL_VERSION);
    tg_buf_put_u8(out, d->kind);
    tg_buf_put_u8(out, d->temporality);
    put_string(out, d->name, d->name_len);
    put_string(out, d->unit, d->unit_len);
    tg_buf_put_varint(out, d->field_len);
    tg_buf_put_varint(out, d->n_tags);
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        tg_buf_put_u8(out, t->origin);
        put_string(out, t->key, t->key_len);
        put_string(out, t->value, t->value_len);
    }
    return TG_OK;
}

/* A cursor over canonical bytes; once something is wrong, `what` says so and reads give nothing. */
struct reader {
    const uint8_t *pos, *end;
    const char *what;
};

static uint32_t get_u32(struct reader *r, const char *what)
{
    const uint8_t *start = r->pos;
    uint64_t v;
    if (r->what) return 0;
    if (!tg_varint_get(&r->pos, r->end, &v) || v > UINT32_MAX ||
        (size_t)(r->pos - start) != tg_varint_len(v)) { /* one encoding per number */
        r->pos = start;
        r->what = what;
        return 0;
    }
    return (uint32_t)v;
}

static const char *get_string(struct reader *r, uint32_t *len, const char *what)
{
    *len = get_u32(r, what);
    if (r->what || *len > (size_t)(r->end - r->pos) || !tg_utf8_valid((const char *)r->pos, *len)) {
        if (!r->what) r->what = what;
        *len = 0;
        return "";
    }
    const char *s = (const char *)r->pos;
    r->pos += *len;
    return s;
}

static uint8_t get_u8(struct reader *r, unsigned max, const char *what)
{
    if (r->what) return 0;
    if (r->pos == r->end || *r->pos > max) {
        r->what = what;
        return 0;
    }
    return *r->pos++;
}

enum tg_code tg_series_desc_parse(const uint8_t *bytes, size_t len, struct tg_series_desc *d,
                                  struct tg_arena *arena, struct tg_err *err)
{
    struct reader r = {.pos = bytes, .end = bytes + len};
    *d = (struct tg_series_desc){0};
    if (get_u8(&r, CANONICAL_VERSION, "version") != CANONICAL_VERSION) r.what = "version";
    d->kind = get_u8(&r, TG_KINDS - 1, "kind");
    d->temporality = get_u8(&r, TG_TEMPORALITY_CUMULATIVE, "temporality");
    d->name = get_string(&r, &d->name_len, "name");
    if (!r.what && d->name_len == 0) r.what = "name";
    d->unit = get_string(&r, &d->unit_len, "unit");
    d->field_len = get_u32(&r, "field length");
    if (!r.what && d->field_len > 0 &&
        (d->field_len + UINT64_C(1) >= d->name_len ||
         d->name[d->name_len - d->field_len - 1] != '_'))
        r.what = "field length";
    const uint32_t n_tags = get_u32(&r, "tag count");
    /* Checked against what is left before anything is allocated for it. */
    if (!r.what && (n_tags > UINT16_MAX || n_tags > (size_t)(r.end - r.pos) / TAG_MIN_BYTES))
        r.what = "tag count";
    if (r.what) goto corrupt;
    if (n_tags > 0) {
        d->tags = tg_arena_alloc(arena, n_tags * sizeof(*d->tags));
        if (!d->tags) return tg_fail(err, TG_ERR_NOMEM, "no memory for the tags of a series");
    }
    for (uint32_t i = 0; i < n_tags; i++) {
        struct tg_tag *t = &d->tags[i];
        t->origin = get_u8(&r, TG_ORIGIN_RESOURCE, "tag origin");
        t->key = get_string(&r, &t->key_len, "tag key");
        t->value = get_string(&r, &t->value_len, "tag value");
        if (!r.what && (t->key_len == 0 || t->value_len == 0)) r.what = "empty tag";
        if (!r.what && i > 0 && key_cmp(t - 1, t) >= 0) r.what = "tag order";
        if (r.what) goto corrupt;
    }
    d->n_tags = n_tags;
    if (r.pos == r.end) return TG_OK;
    r.what = "bytes after the end";
corrupt:
    return tg_fail_at(err, TG_ERR_CORRUPT, (uint64_t)(r.pos - bytes),
                      "canonical series bytes are damaged: %s", r.what);
}

enum tg_code tg_series_desc_copy(const struct tg_series_desc *d, struct tg_arena *arena,
                                 struct tg_series_desc *out)
{
    struct tg_buf bytes;
    tg_buf_init(&bytes, 16 << 20);
    enum tg_code code = tg_series_desc_encode(d, &bytes);
    uint8_t *copy = code == TG_OK ? tg_arena_alloc(arena, bytes.len) : NULL;
    if (code == TG_OK && !copy) code = TG_ERR_NOMEM;
    if (code == TG_OK) {
        memcpy(copy, bytes.data, bytes.len);
        code = tg_series_desc_parse(copy, bytes.len, out, arena, NULL);
    }
    tg_buf_deinit(&bytes);
    return code;
}

const struct tg_tag *tg_series_desc_tag(const struct tg_series_desc *d, const char *key,
                                        size_t key_len)
{
    if (key_len > UINT32_MAX) return NULL;
    const struct tg_tag want = {.key = key, .key_len = (uint32_t)key_len};
    uint32_t lo = 0;
    uint32_t hi = d->n_tags;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const int c = key_cmp(&d->tags[mid], &want);
        if (c == 0) return &d->tags[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static void put_escaped(struct tg_buf *out, const char *s, uint32_t len)
{
    static const char hex[] = "0123456789abcdef";
    for (uint32_t i = 0; i < len; i++) {
        const uint8_t c = (uint8_t)s[i];
        if (c == '"' || c == '\\') {
            tg_buf_put_u8(out, '\\');
            tg_buf_put_u8(out, c);
        } else if (c == '\n') {
            tg_buf_put(out, "\\n", 2);
        } else if (c < 0x20 || c == 0x7f) { /* a terminal shall not obey a sender */
            tg_buf_put(out, "\\x", 2);
            tg_buf_put_u8(out, (uint8_t)hex[c >> 4]);
            tg_buf_put_u8(out, (uint8_t)hex[c & 15]);
        } else {
            tg_buf_put_u8(out, c);
        }
    }
}

enum tg_code tg_series_desc_print(const struct tg_series_desc *d, struct tg_buf *out)
{
    enum { ESCAPED_MAX = 4 };
    size_t need = ESCAPED_MAX * (size_t)d->name_len + 2;
    for (uint32_t i = 0; i < d->n_tags; i++)
        need += ESCAPED_MAX * ((size_t)d->tags[i].key_len + d->tags[i].value_len) + 4;
    TG_TRY(tg_buf_reserve(out, need));
    put_escaped(out, d->name, d->name_len);
    if (d->n_tags == 0) return TG_OK;
    for (uint32_t i = 0; i < d->n_tags; i++) {
        tg_buf_put_u8(out, i ? ',' : '{');
        put_escaped(out, d->tags[i].key, d->tags[i].key_len);
        tg_buf_put(out, "=\"", 2);
        put_escaped(out, d->tags[i].value, d->tags[i].value_len);
        tg_buf_put_u8(out, '"');
    }
    tg_buf_put_u8(out, '}');
    return TG_OK;
}

char *tg_series_desc_text(const struct tg_series_desc *d, char *out, size_t cap)
{
    struct tg_buf b;
    tg_buf_init(&b, 0);
    if (tg_series_desc_print(d, &b) != TG_OK) b.len = 0;
    size_t n = b.len;
    if (n >= cap) {
        n = cap - 4;
        while (n > 0 && (b.data[n] & 0xc0) == 0x80) n--;
        memcpy(out + n, "...", 4);
    } else {
        out[n] = '\0';
    }
    if (n) memcpy(out, b.data, n);
    tg_buf_deinit(&b);
    return out;
}
