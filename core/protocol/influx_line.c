/* Decoding of line protocol; writing it is in influx_encode.c.
 *
 * Hot path per line: find the end of the series part (SSE2), hash it once, combine with the hash of
 * each field key, read the values straight into the batch. The series are looked up later, STAGE
 * fields at a time, so that the table's cache misses overlap (prefetch at hashing).
 */
#include "core/protocol/influx_line.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "core/base/number.h"

enum { STAGE = 64 };

struct staged { /* a point whose series is still to be found; its index is base + position */
    struct tg_hash128 raw;
    const char *series; /* the line's series part */
    const char *field;  /* undecoded key */
    uint32_t series_len;
    uint32_t field_len;
    uint64_t line_no;
};

struct decoder {
    struct tg_intake *d;
    const char *start, *end;
    int64_t precision_ns;
    int64_t now_ns; /* cut to the precision */
    uint64_t line_no;
    uint32_t line_first;    /* index in the batch of the current line's first point */
    uint32_t line_fields;   /* fields of the current line seen so far */
    uint32_t line_gone;     /* of these, rejected on their own already */
    uint64_t line_newlines; /* inside its strings; lines are counted as an editor counts them */
    enum tg_code room_code; /* why `take` last refused */
    /* the series part decoded last, so that the fields of one new line decode it once */
    const char *parsed;
    enum tg_code parsed_code;
    struct tg_series_desc desc; /* name = the measurement */
    struct tg_err desc_err;
    struct tg_err *err; /* the caller's */
    uint32_t base;      /* index in the batch of stage[0]'s point */
    uint32_t n_staged;
    struct staged stage[STAGE];
};

enum tg_code tg_influx_precision(const char *text, size_t len, int64_t *precision_ns,
                                 struct tg_err *err)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {
        {"", 1},
        {"ns", 1},
        {"n", 1},
        {"nanosecond", 1},
        {"us", 1000},
        {"u", 1000},
        {"\xc2\xb5", 1000},
        {"microsecond", 1000},
        {"ms", 1000000},
        {"millisecond", 1000000},
        {"s", 1000000000},
        {"second", 1000000000},
        {"m", INT64_C(60000000000)},
        {"h", INT64_C(3600000000000)},
        {"auto", TG_INFLUX_PRECISION_AUTO},
    };
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strlen(units[i].name) == len && memcmp(units[i].name, text, len) == 0) {
            *precision_ns = units[i].ns;
            return TG_OK;
        }
    }
    char quoted[40];
    return tg_fail(err, TG_ERR_INVALID, "precision %s is unknown; use ns, us, ms, s, m, h or auto",
                   tg_quote(quoted, sizeof(quoted), text, len));
}

/* ---- text ---- */

/* First of a, b or c in [p, end), or end. */
static inline const char *find3(const char *p, const char *end, char a, char b, char c)
{
#ifdef __SSE2__
    const __m128i va = _mm_set1_epi8(a);
    const __m128i vb = _mm_set1_epi8(b);
    const __m128i vc = _mm_set1_epi8(c);
    for (; end - p >= 16; p += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        const __m128i hit = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, va), _mm_cmpeq_epi8(v, vb)),
                                         _mm_cmpeq_epi8(v, vc));
        const int mask = _mm_movemask_epi8(hit);
        if (mask) return p + __builtin_ctz((unsigned)mask);
    }
#endif
    while (p < end && *p != a && *p != b && *p != c) p++;
    return p;
}

static inline bool is_escapable(char c) /* in names, keys and tag values */
{
    return c == ',' || c == ' ' || c == '=';
}

/* Arena memory; on NULL s->room_code tells the bound (TOO_LARGE) from the heap (NOMEM). */
static void *take(struct decoder *s, struct tg_arena *arena, size_t size)
{
    void *p = tg_arena_alloc(arena, size);
    if (!p)
        s->room_code = arena->max_bytes && size + 16 > arena->max_bytes - arena->used_bytes
                           ? TG_ERR_TOO_LARGE
                           : TG_ERR_NOMEM;
    return p;
}

static enum tg_code no_room(struct decoder *s, const char *what)
{
    return tg_fail(s->err, s->room_code, "line %llu: %s for %s", (unsigned long long)s->line_no,
                   s->room_code == TG_ERR_NOMEM ? "out of memory"
                                                : "the request's memory limit leaves no room",
                   what);
}

/* Undoes the escapes of [p, end) into scratch unless there are none. `equals`: whether \= is one
 * (not in measurements). NULL without memory. */
static const char *unescape(struct decoder *s, const char *p, const char *end, bool equals,
                            uint32_t *len)
{
    if (!memchr(p, '\\', (size_t)(end - p))) {
        *len = (uint32_t)(end - p);
        return p;
    }
    char *out = take(s, s->d->arena, (size_t)(end - p));
    if (!out) return NULL;
    uint32_t n = 0;
    while (p < end) {
        if (*p == '\\' && end - p >= 2 && is_escapable(p[1]) && (p[1] != '=' || equals)) p++;
        out[n++] = *p++;
    }
    *len = n;
    return out;
}

/* First unescaped `a` or `b` in [p, end), or end. */
static const char *find_unescaped(const char *p, const char *end, char a, char b)
{
    for (; p < end && *p != a && *p != b; p++)
        if (*p == '\\' && end - p >= 2 && is_escapable(p[1])) p++;
    return p;
}

/* ---- failures ---- */

static enum tg_code bad(struct decoder *s, struct tg_err *err, const char *at, const char *what)
{
    const uint64_t offset = (uint64_t)(at - s->start);
    const char *stop = s->end - at > 24 ? at + 24 : s->end;
    const char *newline = memchr(at, '\n', (size_t)(stop - at));
    if (newline) stop = newline;
    char quoted[56];
    if (stop == at)
        return tg_fail_at(err, TG_ERR_MALFORMED, offset, "line %llu: %s at the end of the line",
                          (unsigned long long)s->line_no, what);
    return tg_fail_at(err, TG_ERR_MALFORMED, offset, "line %llu: %s at %s",
                      (unsigned long long)s->line_no, what,
                      tg_quote(quoted, sizeof(quoted), at, (size_t)(stop - at)));
}

/* ---- new series ---- */

/* Decodes measurement and tags of `part` into s->desc (strings in the arena or the input). */
static enum tg_code parse_series(struct decoder *s, const char *part, uint32_t len,
                                 struct tg_err *err)
{
    const uint32_t max_tags = tg_table_limits(s->d->table)->max_tags;
    const char *const end = part + len;
    struct tg_series_desc *desc = &s->desc;
    *desc = (struct tg_series_desc){.unit = "", .kind = TG_KIND_UNKNOWN};
    const char *p = find_unescaped(part, end, ',', ',');
    if (p == part) return bad(s, err, part, "missing measurement");
    desc->name = unescape(s, part, p, false, &desc->name_len);
    if (!desc->name) return TG_ERR_NOMEM;
    uint32_t n_tags = 0;
    for (const char *q = p; q < end; q++) n_tags += *q == ',';
    if (n_tags > max_tags) n_tags = max_tags;
    desc->tags = take(s, s->d->arena, sizeof(desc->tags[0]) * (n_tags + 1));
    if (!desc->tags) return TG_ERR_NOMEM;
    while (p < end) {
        const char *const key = p + 1;
        const char *const equals = find_unescaped(key, end, '=', ',');
        if (equals == key) return bad(s, err, key, "missing tag key");
        if (equals == end || *equals == ',') return bad(s, err, key, "missing '=' in tag");
        const char *const value = equals + 1;
        p = find_unescaped(value, end, ',', '=');
        if (p == value) return bad(s, err, key, "missing tag value");
        if (p < end && *p == '=') return bad(s, err, key, "unescaped '=' in tag value");
        if (desc->n_tags == max_tags)
            return tg_fail_at(err, TG_ERR_TOO_LARGE, (uint64_t)(key - s->start),
                              "line %llu: more than the limit of %u tags (limits.tags_per_series)",
                              (unsigned long long)s->line_no, max_tags);
        struct tg_tag *tag = &desc->tags[desc->n_tags];
        tag->origin = TG_ORIGIN_POINT;
        tag->key = unescape(s, key, equals, true, &tag->key_len);
        tag->value = unescape(s, value, p, true, &tag->value_len);
        if (!tag->key || !tag->value) return TG_ERR_NOMEM;
        for (uint32_t i = 0; i < desc->n_tags; i++)
            if (desc->tags[i].key_len == tag->key_len &&
                memcmp(desc->tags[i].key, tag->key, tag->key_len) == 0)
                return bad(s, err, key, "tag key given twice");
        desc->n_tags++;
    }
    return TG_OK;
}

/* The slow way to the series of one staged field. TG_ERR_NOMEM fails the call (s->room_code says
 * with what); other codes reject the point. */
static enum tg_code find_series(struct decoder *s, const struct staged *f, struct tg_series **out,
                                struct tg_err *err)
{
    if (s->parsed != f->series) {
        s->parsed = f->series;
        s->parsed_code = parse_series(s, f->series, f->series_len, &s->desc_err);
    }
    if (s->parsed_code != TG_OK) {
        *err = s->desc_err;
        return s->parsed_code;
    }
    uint32_t field_len = 0;
    const char *field = unescape(s, f->field, f->field + f->field_len, true, &field_len);
    struct tg_series_desc desc = s->desc;
    desc.field_len = field_len;
    if (!field) return TG_ERR_NOMEM;
    char *name = take(s, s->d->arena, (size_t)desc.name_len + 1 + field_len);
    if (!name) return TG_ERR_NOMEM;
    memcpy(name, desc.name, desc.name_len);
    name[desc.name_len] = '_';
    memcpy(name + desc.name_len + 1, field, field_len);
    desc.name = name;
    desc.name_len += 1 + field_len;
    struct tg_err cause = {.msg = ""};
    s->room_code = TG_ERR_NOMEM; /* should intern say so */
    const enum tg_code code = tg_table_intern(s->d->table, &desc, out, &cause);
    if (code == TG_OK) {
        tg_table_remember_raw(s->d->table, f->raw, *out);
        return TG_OK;
    }
    return tg_fail_at(err, code, (uint64_t)(f->series - s->start), "line %llu: %.200s",
                      (unsigned long long)f->line_no, cause.msg);
}

/* Finds the series of all staged points; removes the points that get none. */
static enum tg_code resolve(struct decoder *s)
{
    struct tg_intake *d = s->d;
    struct tg_point *points = d->batch->points;
    const uint32_t n = s->n_staged;
    const uint32_t base = s->base;
    const uint64_t line_no = s->line_no;
    uint32_t kept = base;
    uint32_t first = s->line_first;
    enum tg_code code = TG_OK;
    s->n_staged = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct staged *f = &s->stage[i];
        struct tg_series *series = tg_table_find_raw(d->table, f->raw);
        if (!series) {
            struct tg_err err = {.msg = ""};
            d->n_misses++;
            s->line_no = f->line_no;
            code = find_series(s, f, &series, &err);
            if (code == TG_ERR_NOMEM) {
                code = no_room(s, "a new series");
                break;
            }
            if (code != TG_OK) {
                code = TG_OK;
                tg_intake_reject(d, 1, &err);
                if (base + i < s->line_first)
                    first--;
                else
                    s->line_gone++;
                continue;
            }
        }
        tg_series_touch(series, d->now_s);
        if (kept != base + i) points[kept] = points[base + i];
        points[kept++].series = series;
    }
    s->line_no = line_no;
    s->line_first = first;
    s->base = d->batch->n_points = kept;
    return code;
}

/* Takes the current line's points back and counts it as rejected. */
static enum tg_code reject_line(struct decoder *s, const struct tg_err *err)
{
    struct tg_intake *d = s->d;
    const uint32_t n_points = d->batch->n_points - s->line_first;
    s->n_staged = n_points < s->n_staged ? s->n_staged - n_points : 0;
    d->batch->n_points = s->line_first;
    if (s->base > s->line_first) s->base = s->line_first;
    /* rejections are told in the order of the lines: those before this one first */
    TG_TRY(resolve(s));
    const uint32_t fields = s->line_fields ? s->line_fields : 1;
    if (fields > s->line_gone) tg_intake_reject(d, fields - s->line_gone, err);
    return TG_OK;
}

/* ---- fields ---- */

static const char *const true_words[] = {"true", "True", "TRUE", "t", "T"};
static const char *const false_words[] = {"false", "False", "FALSE", "f", "F"};

static bool is_word(const char *p, size_t len, const char *const words[5])
{
    for (int i = 0; i < 5; i++)
        if (strlen(words[i]) == len && memcmp(words[i], p, len) == 0) return true;
    return false;
}

/* What may follow a field value. */
static inline bool is_value_end(const char *p, const char *end)
{
    return p == end || *p == ' ' || *p == ',' || *p == '\n' || *p == '\t' ||
           (*p == '\r' && (p + 1 == end || p[1] == '\n'));
}

static uint64_t count_newlines(const char *p, const char *end)
{
    uint64_t n = 0;
    for (; (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++) n++;
    return n;
}

/* Each parse_* reads a value at p into *point and returns the place after it; NULL when it is bad
 * (err says why) or memory is out (err->code says so). */
static const char *parse_string(struct decoder *s, const char *p, struct tg_point *point,
                                struct tg_err *err)
{
    const char *const open = p++;
    bool escapes = false;
    for (;;) {
        p = find3(p, s->end, '"', '\\', '"');
        if (p == s->end) {
            (void)bad(s, err, open, "string without closing quote");
            return NULL;
        }
        if (*p == '"') break;
        p++;
        if (p < s->end && (*p == '"' || *p == '\\')) {
            escapes = true;
            p++;
        }
    }
    const size_t raw_len = (size_t)(p - open - 1);
    s->line_newlines += count_newlines(open, p);
    /* What is wrong here is told at its end: no line of the string is one of the request. */
    if (raw_len > TG_INFLUX_MAX_STRING_BYTES) {
        (void)tg_fail_at(err, TG_ERR_TOO_LARGE, (uint64_t)(p - s->start),
                         "line %llu: string of %zu bytes is over the limit of %d",
                         (unsigned long long)s->line_no, raw_len, TG_INFLUX_MAX_STRING_BYTES);
        return NULL;
    }
    struct tg_string *str = take(s, &s->d->batch->arena, sizeof(*str) + raw_len);
    if (!str) {
        err->code = TG_ERR_NOMEM;
        return NULL;
    }
    char *to = (char *)(str + 1);
    str->ptr = to;
    str->len = (uint32_t)raw_len;
    if (!escapes) {
        memcpy(to, open + 1, raw_len);
    } else {
        uint32_t n = 0;
        for (const char *q = open + 1; q < p; q++) {
            if (*q == '\\' && (q[1] == '"' || q[1] == '\\')) q++;
            to[n++] = *q;
        }
        str->len = n;
    }
    point->type = TG_VALUE_STRING;
    point->value.string = str;
    return p + 1;
}

static const char *parse_integer(struct decoder *s, const char *p, const char *stop,
                                 const struct tg_number *n, struct tg_point *point,
                                 struct tg_err *err)
{
    if (!n->is_integer) {
        (void)bad(s, err, p, "integer with a fraction or exponent");
        return NULL;
    }
    if (*stop == 'u') {
        if (n->has_sign) {
            (void)bad(s, err, p, "unsigned integer with a sign");
            return NULL;
        }
        if (!n->exact) goto range;
        point->type = TG_VALUE_UINT64;
        point->value.u64 = n->mantissa;
        return stop + 1;
    }
    if (!n->exact || n->mantissa > (uint64_t)INT64_MAX + n->negative) goto range;
    point->type = TG_VALUE_INT64;
    point->value.i64 = n->negative ? (int64_t)(0 - n->mantissa) : (int64_t)n->mantissa;
    return stop + 1;
range:
    (void)bad(s, err, p, "integer out of the range of 64 bits");
    return NULL;
}

static const char *parse_value(struct decoder *s, const char *p, struct tg_point *point,
                               struct tg_err *err)
{
    if (p == s->end || is_value_end(p, s->end)) {
        (void)bad(s, err, p, "missing field value");
        return NULL;
    }
    if (*p == '"') return parse_string(s, p, point, err);
    struct tg_number n;
    const char *stop = tg_number_scan(p, s->end, &n);
    if (stop) {
        if (stop < s->end && (*stop == 'i' || *stop == 'u'))
            return parse_integer(s, p, stop, &n, point, err);
        point->type = TG_VALUE_DOUBLE;
        point->value.f64 = tg_number_to_double(&n);
        if (__builtin_isinf(point->value.f64)) {
            (void)bad(s, err, p, "number out of the range of a double");
            return NULL;
        }
        return stop;
    }
    stop = p;
    while (stop < s->end && stop - p < 6 && ((unsigned char)*stop | 0x20) >= 'a' &&
           ((unsigned char)*stop | 0x20) <= 'z')
        stop++;
    const bool yes = is_word(p, (size_t)(stop - p), true_words);
    if (!yes && !is_word(p, (size_t)(stop - p), false_words)) {
        (void)bad(s, err, p, "field value is no number, boolean or quoted string");
        return NULL;
    }
    point->type = TG_VALUE_BOOL;
    point->value.i64 = yes;
    return stop;
}

static inline const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    return p;
}

static inline bool is_line_end(const char *p, const char *end)
{
    return p == end || *p == '\n' || (*p == '\r' && (p + 1 == end || p[1] == '\n'));
}

static int64_t unit_of(uint64_t magnitude)
{
    if (magnitude < UINT64_C(5000000000)) return 1000000000;
    if (magnitude < UINT64_C(5000000000000)) return 1000000;
    if (magnitude < UINT64_C(5000000000000000)) return 1000;
    return 1;
}

static const char *parse_timestamp(struct decoder *s, const char *p, int64_t *ts_ns,
                                   struct tg_err *err)
{
    struct tg_number n;
    const char *stop = tg_number_scan(p, s->end, &n);
    if (!stop || !n.is_integer) {
        (void)bad(s, err, p, "timestamp is no integer");
        return NULL;
    }
    int64_t t = 0;
    const int64_t unit_ns =
        s->precision_ns == TG_INFLUX_PRECISION_AUTO ? unit_of(n.mantissa) : s->precision_ns;
    if (!n.exact || n.mantissa > (uint64_t)INT64_MAX + n.negative ||
        __builtin_mul_overflow(n.negative ? (int64_t)(0 - n.mantissa) : (int64_t)n.mantissa,
                               unit_ns, &t)) {
        (void)bad(s, err, p,
                  "timestamp out of the range of 64-bit nanoseconds (is the precision "
                  "right?)");
        return NULL;
    }
    *ts_ns = t;
    return stop;
}

/* Reads the line at p. Returns the place of its end (newline or end of input), or NULL: bad (err),
 * out of room (*fatal). */
static const char *parse_line(struct decoder *s, const char *p, struct tg_err *err,
                              enum tg_code *fatal)
{
    struct tg_intake *d = s->d;
    struct tg_batch *batch = d->batch;
    const char *const series = p;
    const char *const end = s->end;
    for (;;) {
        p = find3(p, end, ' ', '\\', '\n');
        if (p == end || *p != '\\') break;
        p += end - p >= 2 && is_escapable(p[1]) ? 2 : 1;
    }
    if (p == series) {
        (void)bad(s, err, p, "missing measurement");
        return NULL;
    }
    const char *const series_end = p;
    const size_t series_len = (size_t)(series_end - series);
    /* spaces only: a tab may begin a field key (and would be lost when the line is written again)
     */
    while (p < end && *p == ' ') p++;
    if (is_line_end(p, end)) {
        (void)bad(s, err, series_end, "missing fields (measurement[,tags] fields [timestamp])");
        return NULL;
    }
    if (series_len > UINT32_MAX / 2) {
        (void)tg_fail_at(err, TG_ERR_TOO_LARGE, (uint64_t)(series - s->start),
                         "line %llu: measurement and tags of %zu bytes",
                         (unsigned long long)s->line_no, series_len);
        return NULL;
    }
    const struct tg_hash128 series_hash = tg_hash128(series, series_len);
    for (;;) {
        const char *const key = p;
        for (; p < end && *p != '=' && *p != ',' && *p != ' ' && *p != '\n'; p++)
            if (*p == '\\' && end - p >= 2 && is_escapable(p[1])) p++;
        s->line_fields++;
        if (p == key) {
            (void)bad(s, err, p, "missing field key");
            return NULL;
        }
        if (p == end || *p != '=') {
            (void)bad(s, err, key, "missing '=' in field");
            return NULL;
        }
        if (s->n_staged == STAGE && (*fatal = resolve(s)) != TG_OK) return NULL;
        if ((*fatal = tg_batch_reserve(batch, 1)) != TG_OK) {
            (void)tg_fail(s->err, *fatal, "line %llu: no room for more than %u points",
                          (unsigned long long)s->line_no, batch->n_points);
            return NULL;
        }
        struct staged *f = &s->stage[s->n_staged];
        f->raw = tg_hash128_combine(series_hash, tg_hash128(key, (size_t)(p - key)));
        tg_table_prefetch_raw(d->table, f->raw);
        f->series = series;
        f->series_len = (uint32_t)series_len;
        f->field = key;
        f->field_len = (uint32_t)(p - key);
        f->line_no = s->line_no;
        struct tg_point *point = &batch->points[batch->n_points];
        const char *const value = p + 1;
        p = parse_value(s, value, point, err);
        if (!p) {
            if (err->code == TG_ERR_NOMEM) *fatal = no_room(s, "a string value");
            return NULL;
        }
        if (!is_value_end(p, end)) {
            /* at p, not at the value: a string's newlines are behind us when the next line begins
             */
            (void)bad(s, err, p, "unexpected characters after field value");
            return NULL;
        }
        point->series = NULL;
        point->start_ns = 0;
        point->exemplars = NULL;
        point->flags = 0;
        batch->n_points++;
        s->n_staged++;
        if (p == end || *p != ',') break;
        p++;
    }
    int64_t ts_ns = s->now_ns;
    p = skip_blanks(p, end);
    if (!is_line_end(p, end)) {
        p = parse_timestamp(s, p, &ts_ns, err);
        if (!p) return NULL;
        const char *const after = p;
        p = skip_blanks(p, end);
        if (!is_line_end(p, end)) {
            (void)bad(s, err, after, "unexpected characters after timestamp");
            return NULL;
        }
    }
    for (uint32_t i = s->line_first; i < batch->n_points; i++) batch->points[i].ts_ns = ts_ns;
    return p < end && *p == '\r' ? p + 1 : p;
}

enum tg_code tg_influx_decode(const uint8_t *buf, size_t len, int64_t precision_ns,
                              struct tg_intake *d, struct tg_err *err)
{
    if (len == 0) return TG_OK;
    struct decoder s;
    s.d = d;
    s.start = (const char *)buf;
    s.end = s.start + len;
    s.precision_ns = precision_ns;
    s.now_ns = precision_ns > 1 ? d->now_ns - d->now_ns % precision_ns : d->now_ns;
    s.line_no = 0;
    s.parsed = NULL;
    s.err = err;
    s.base = d->batch->n_points;
    s.n_staged = 0;
    s.line_first = s.base;
    const uint32_t before = s.base;
    enum tg_code code = TG_OK;
    const char *p = s.start;
    while (p < s.end) {
        s.line_no++;
        s.line_first = d->batch->n_points;
        s.line_fields = 0;
        s.line_gone = 0;
        s.line_newlines = 0;
        const char *const line = skip_blanks(p, s.end);
        const char *stop = line;
        if (line < s.end && *line == '#') {
            stop = memchr(line, '\n', (size_t)(s.end - line));
            if (!stop) break;
        } else if (!is_line_end(line, s.end)) {
            struct tg_err why = {.msg = ""};
            enum tg_code fatal = TG_OK;
            stop = parse_line(&s, line, &why, &fatal);
            if (!stop) {
                if (fatal == TG_OK) fatal = reject_line(&s, &why);
                if (fatal != TG_OK) {
                    code = fatal;
                    break;
                }
                /* Go on after the newline that follows the fault: strings read whole before it may
                 * have held newlines, a string that never closed must not take other lines along.
                 */
                stop = memchr(s.start + why.offset, '\n', len - (size_t)why.offset);
                if (!stop) break;
            }
        } else if (line < s.end && *line == '\r') {
            stop++;
        }
        s.line_no += s.line_newlines;
        p = stop + 1;
    }
    if (code == TG_OK) {
        s.line_first = d->batch->n_points;
        code = resolve(&s);
    }
    if (code != TG_OK) {
        /* Drop what has no series: the current line and all that was staged. */
        if (d->batch->n_points > s.base) d->batch->n_points = s.base;
        if (d->batch->n_points > s.line_first) d->batch->n_points = s.line_first;
    }
    d->n_accepted += d->batch->n_points - before;
    return code;
}
