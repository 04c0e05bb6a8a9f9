#include "core/pipe/deadletter.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/time_text.h"
#include "core/parquet/parquet_json.h"

enum { MAX_PENDING_BYTES = 256 << 20, LINE_MEMBERS = 7, SERIES_MEMBERS = 7 };

struct tg_dead_letters {
    const struct tg_fs *fs;
    char *path;
    char *dir;
    uint64_t max_bytes;
    bool is_named; /* the file's name is known to be durable */
    bool has_size;
    uint64_t size; /* of the file, with has_size: looked at once per commit */
    /* A failed commit that could not be cut back: nothing more is written before that is done. */
    int cut_fd; /* -1 = none */
    uint64_t cut_to;
    struct tg_buf pending;
    struct tg_arena arena;
};

enum tg_code tg_dead_letters_new(const struct tg_fs *fs, const char *dir, const char *backend,
                                 uint64_t max_bytes, struct tg_dead_letters **out,
                                 struct tg_err *err)
{
    *out = NULL;
    if (!fs) fs = tg_fs_real();
    TG_TRY(tg_fs_mkdirs(fs, dir, err));
    struct tg_dead_letters *d = tg_calloc(1, sizeof(*d));
    if (!d) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    d->fs = fs;
    d->cut_fd = -1;
    d->max_bytes = max_bytes;
    tg_buf_init(&d->pending, MAX_PENDING_BYTES);
    tg_arena_init(&d->arena, 0);
    const size_t n = strlen(dir) + strlen(backend) + sizeof("/.jsonl");
    d->path = tg_malloc(n);
    d->dir = tg_strndup(dir, strlen(dir));
    if (!d->path || !d->dir) {
        tg_dead_letters_free(d);
        return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    }
    (void)snprintf(d->path, n, "%s/%s.jsonl", dir, backend);
    *out = d;
    return TG_OK;
}

void tg_dead_letters_free(struct tg_dead_letters *d)
{
    if (!d) return;
    if (d->cut_fd >= 0) (void)d->fs->close(d->fs->self, d->cut_fd);
    tg_buf_deinit(&d->pending);
    tg_arena_deinit(&d->arena);
    tg_free(d->path);
    tg_free(d->dir);
    tg_free(d);
}

static json_t *number(double v)
{
    if (isnan(v)) return json_string("NaN");
    if (isinf(v)) return json_string(v > 0 ? "+Inf" : "-Inf");
    return json_real(v);
}

static json_t *numbers(const double *v, uint32_t n)
{
    json_t *a = json_array();
    for (uint32_t i = 0; i < n; i++) (void)json_array_append_new(a, number(v[i]));
    return a;
}

/* JSON integers are signed 64 bit in jansson; a larger one is written as text. */
static json_t *unsigned_json(uint64_t v)
{
    if (v <= INT64_MAX) return json_integer((json_int_t)v);
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
    return json_string(text);
}

static json_t *counts(const uint64_t *v, uint32_t n)
{
    json_t *a = json_array();
    for (uint32_t i = 0; i < n; i++) (void)json_array_append_new(a, unsigned_json(v[i]));
    return a;
}

static void set_optional(json_t *o, const char *key, bool has, double v)
{
    if (has) (void)json_object_set_new(o, key, number(v));
}

static json_t *histogram_json(const struct tg_histogram *h)
{
    json_t *o = json_object();
    (void)json_object_set_new(o, "count", unsigned_json(h->count));
    set_optional(o, "sum", h->has_sum, h->sum);
    set_optional(o, "min", h->has_min, h->min);
    set_optional(o, "max", h->has_max, h->max);
    (void)json_object_set_new(o, "bounds", numbers(h->bounds, h->n_bounds));
    (void)json_object_set_new(o, "bucket_counts", counts(h->buckets, h->n_buckets));
    return o;
}

static json_t *exp_histogram_json(const struct tg_exp_histogram *h)
{
    json_t *o = json_object();
    (void)json_object_set_new(o, "count", unsigned_json(h->count));
    set_optional(o, "sum", h->has_sum, h->sum);
    set_optional(o, "min", h->has_min, h->min);
    set_optional(o, "max", h->has_max, h->max);
    (void)json_object_set_new(o, "scale", json_integer(h->scale));
    (void)json_object_set_new(o, "zero_count", unsigned_json(h->zero_count));
    (void)json_object_set_new(o, "zero_threshold", number(h->zero_threshold));
    (void)json_object_set_new(o, "positive_offset", json_integer(h->pos_offset));
    (void)json_object_set_new(o, "positive_counts", counts(h->pos, h->n_pos));
    (void)json_object_set_new(o, "negative_offset", json_integer(h->neg_offset));
    (void)json_object_set_new(o, "negative_counts", counts(h->neg, h->n_neg));
    return o;
}

static json_t *float_histogram_json(const struct tg_float_histogram *h)
{
    json_t *o = json_object();
    (void)json_object_set_new(o, "count", number(h->count));
    (void)json_object_set_new(o, "sum", number(h->sum));
    (void)json_object_set_new(o, "scale", json_integer(h->scale));
    (void)json_object_set_new(o, "zero_count", number(h->zero_count));
    (void)json_object_set_new(o, "zero_threshold", number(h->zero_threshold));
    (void)json_object_set_new(o, "positive_offset", json_integer(h->pos_offset));
    (void)json_object_set_new(o, "positive_counts", numbers(h->pos, h->n_pos));
    (void)json_object_set_new(o, "negative_offset", json_integer(h->neg_offset));
    (void)json_object_set_new(o, "negative_counts", numbers(h->neg, h->n_neg));
    if (h->scale == TG_SCALE_CUSTOM)
        (void)json_object_set_new(o, "bounds", numbers(h->bounds, h->n_bounds));
    return o;
}

static json_t *summary_json(const struct tg_summary *s)
{
    json_t *o = json_object();
    (void)json_object_set_new(o, "count", unsigned_json(s->count));
    (void)json_object_set_new(o, "sum", number(s->sum));
    json_t *q = json_array();
    for (uint32_t i = 0; i < s->n_quantiles; i++) {
        json_t *pair = json_array();
        (void)json_array_append_new(pair, number(s->quantiles[i].quantile));
        (void)json_array_append_new(pair, number(s->quantiles[i].value));
        (void)json_array_append_new(q, pair);
    }
    (void)json_object_set_new(o, "quantiles", q);
    return o;
}

/* JSON takes UTF-8 only, and senders do not care: other bytes are an object that says them in hex.
 */
static json_t *string_json(const struct tg_string *s)
{
    json_t *j = json_stringn(s->ptr, s->len);
    if (j) return j;
    char *hex = tg_malloc(2 * (size_t)s->len + 1);
    if (!hex) return NULL;
    for (uint32_t i = 0; i < s->len; i++)
        (void)snprintf(hex + 2 * (size_t)i, 3, "%02x", (unsigned char)s->ptr[i]);
    j = json_pack("{s:s}", "hex", hex);
    tg_free(hex);
    return j;
}

static void set_value(json_t *line, const struct tg_point *p)
{
    static const char *const types[TG_VALUE_TYPES] = {
        "double", "int64",     "uint64",          "bool",
        "none",   "histogram", "exp_histogram",   "summary",
        "string", "exemplars", "float_histogram",
    };
    json_t *v = NULL;
    const uint8_t type = tg_point_value_type(p);
    switch ((enum tg_value_type)type) {
    case TG_VALUE_DOUBLE: v = number(p->value.f64); break;
    case TG_VALUE_INT64: v = json_integer(p->value.i64); break;
    case TG_VALUE_UINT64: v = unsigned_json(p->value.u64); break;
    case TG_VALUE_BOOL: v = json_boolean(p->value.i64 != 0); break;
    case TG_VALUE_NONE:
    case TG_VALUE_EXEMPLARS: v = json_null(); break;
    case TG_VALUE_HISTOGRAM: v = histogram_json(p->value.histogram); break;
    case TG_VALUE_EXP_HISTOGRAM: v = exp_histogram_json(p->value.exp_histogram); break;
    case TG_VALUE_FLOAT_HISTOGRAM: v = float_histogram_json(p->value.float_histogram); break;
    case TG_VALUE_SUMMARY: v = summary_json(p->value.summary); break;
    case TG_VALUE_STRING: v = string_json(p->value.string); break;
    case TG_VALUE_TYPES: break;
    }
    (void)json_object_set_new(line, "type",
                              json_string(types[type < TG_VALUE_TYPES ? type : TG_VALUE_NONE]));
    (void)json_object_set_new(line, "value", v);
}

/* NULL: no memory; a series that lacks a tag would be another one. */
static json_t *series_json(const struct tg_series_desc *desc, struct tg_arena *arena)
{
    static const char *const origins[] = {"point", "scope", "resource"};
    json_t *series = json_object();
    json_t *tags = json_object();
    json_t *from = json_object();
    bool ok = true;
    for (uint32_t i = 0; i < desc->n_tags && ok; i++) {
        const struct tg_tag *t = &desc->tags[i];
        const char *key = tg_arena_strndup(arena, t->key, t->key_len); /* ends with NUL */
        ok = key && json_object_set_new(tags, key, json_stringn(t->value, t->value_len)) == 0;
        if (ok && t->origin != TG_ORIGIN_POINT)
            ok = json_object_set_new(from, key, json_string(origins[t->origin])) == 0;
    }
    (void)json_object_set_new(series, "name", json_stringn(desc->name, desc->name_len));
    (void)json_object_set_new(series, "kind", json_string(tg_kind_name((enum tg_kind)desc->kind)));
    (void)json_object_set_new(series, "unit", json_stringn(desc->unit, desc->unit_len));
    (void)json_object_set_new(series, "temporality", json_integer(desc->temporality));
    (void)json_object_set_new(series, "field_len", json_integer(desc->field_len));
    (void)json_object_set_new(series, "tags", tags);
    (void)json_object_set_new(series, "origins", from);
    if (ok && json_object_size(series) == SERIES_MEMBERS) return series;
    json_decref(series);
    return NULL;
}

static json_t *now_json(void)
{
    char text[TG_TIME_TEXT_MAX];
    (void)tg_time_text(text, tg_clock_wall_ns(), 3);
    return json_string(text);
}

/* The backend's words may hold anything; JSON takes UTF-8 only. */
static json_t *text_json(const char *text)
{
    json_t *j = json_string(text);
    if (j) return j;
    char quoted[300];
    return json_string(tg_quote(quoted, sizeof(quoted), text, strlen(text)));
}

/* What a failed commit left is not there any more, so that the next one does not make it twice. */
static enum tg_code cut_back(struct tg_dead_letters *d, struct tg_err *err)
{
    if (d->cut_fd < 0) return TG_OK;
    const int rc = d->fs->truncate(d->fs->self, d->cut_fd, d->cut_to);
    if (rc < 0)
        return tg_fail_errno(err, -rc, "cannot take back unconfirmed dead letters in %s", d->path);
    (void)d->fs->close(d->fs->self, d->cut_fd);
    d->cut_fd = -1;
    return TG_OK;
}

/* The size of the file that bears the name now: the operator may have moved it or made it shorter.
 * Without what is to be cut back, which would count for the limit. */
static enum tg_code look_at_size(struct tg_dead_letters *d, struct tg_err *err)
{
    struct tg_fs_stat st;
    if (d->has_size) return TG_OK;
    TG_TRY(cut_back(d, err));
    const int rc = d->fs->stat(d->fs->self, d->path, &st);
    if (rc < 0 && rc != -ENOENT)
        return tg_fail_errno(err, -rc, "cannot read the size of %s", d->path);
    d->size = rc < 0 ? 0 : st.size;
    d->has_size = true;
    return TG_OK;
}

static enum tg_code make_room(const struct tg_dead_letters *d, size_t len, struct tg_err *err)
{
    if (d->max_bytes == 0) return TG_OK;
    if (len > d->max_bytes)
        return tg_fail(err, TG_ERR_FULL,
                       "one dead letter needs %zu bytes, more than the whole limit of %llu bytes "
                       "(dead_letters.max_bytes); raise it",
                       len, (unsigned long long)d->max_bytes);
    if (d->size + d->pending.len + len > d->max_bytes)
        return tg_fail(
            err, TG_ERR_FULL,
            "%s is at its limit of %llu bytes (dead_letters.max_bytes); look at what was refused, "
            "then move the file away or raise the limit",
            d->path, (unsigned long long)d->max_bytes);
    return TG_OK;
}

/* The line that jansson made, and what not every point has. Exemplars are in the form they have in
 * Parquet files: jansson takes no NUL in the name of a label. */
static enum tg_code put_line(struct tg_buf *out, const char *text, const struct tg_point *p)
{
    const char *hint = tg_reset_hint_name(p->flags);
    TG_TRY(tg_buf_append(out, text, strlen(text) - 1)); /* without the closing brace */
    if (hint) TG_TRY(tg_buf_printf(out, ",\"reset_hint\":\"%s\"", hint));
    if (p->exemplars && p->exemplars->n) {
        TG_TRY(tg_buf_printf(out, ",\"exemplars\":"));
        TG_TRY(tg_parquet_exemplars_encode(p->exemplars, out));
    }
    return tg_buf_append(out, "}\n", 2);
}

enum tg_code tg_dead_letters_add(struct tg_dead_letters *d, const struct tg_table *table,
                                 const struct tg_point *p, const char *reason, struct tg_err *err)
{
    struct tg_series_desc desc;
    TG_TRY(look_at_size(d, err));
    tg_arena_reset(&d->arena);
    const enum tg_code described = tg_table_describe(table, p->series, &desc, &d->arena);
    if (described != TG_OK) return tg_fail(err, described, "out of memory for a dead letter");
    json_t *line = json_object();
    (void)json_object_set_new(line, "at", now_json());
    (void)json_object_set_new(line, "reason", text_json(reason));
    (void)json_object_set_new(line, "series", series_json(&desc, &d->arena));
    (void)json_object_set_new(line, "time_ns", json_integer(p->ts_ns));
    (void)json_object_set_new(line, "start_ns", json_integer(p->start_ns));
    set_value(line, p);
    /* A member that could not be made is not there: such a line is no dead letter. */
    const bool whole = json_object_size(line) == LINE_MEMBERS;
    char *text = whole ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(line);
    if (!text) return tg_fail(err, TG_ERR_NOMEM, "out of memory for a dead letter");
    struct tg_buf whole_text;
    tg_buf_init(&whole_text, MAX_PENDING_BYTES);
    enum tg_code code = put_line(&whole_text, text, p);
    free(text);
    if (code == TG_OK)
        code = make_room(d, whole_text.len, err);
    else
        code = tg_fail(err, TG_ERR_NOMEM, "out of memory for a dead letter");
    if (code == TG_OK && tg_buf_append(&d->pending, whole_text.data, whole_text.len) != TG_OK)
        code = tg_fail(err, TG_ERR_NOMEM, "out of memory for a dead letter");
    tg_buf_deinit(&whole_text);
    return code;
}

size_t tg_dead_letters_pending(const struct tg_dead_letters *d)
{
    return d->pending.len;
}

/* --- writing --- */

/* Opens the file by its name, so that it may be moved away at any time, and says where it ends. */
static enum tg_code open_file(struct tg_dead_letters *d, int *fd, uint64_t *end, struct tg_err *err)
{
    const struct tg_fs *fs = d->fs;
    struct tg_fs_stat st;
    int f = fs->open(fs->self, d->path, TG_FS_READ | TG_FS_WRITE);
    if (f == -ENOENT) {
        d->is_named = false;
        f = fs->open(fs->self, d->path, TG_FS_READ | TG_FS_WRITE | TG_FS_CREATE);
    }
    if (f < 0) return tg_fail_errno(err, -f, "cannot open %s", d->path);
    int rc = fs->fstat(fs->self, f, &st);
    if (rc == 0 && !d->is_named) rc = fs->sync_dir(fs->self, d->dir);
    if (rc < 0) {
        (void)fs->close(fs->self, f);
        return tg_fail_errno(err, -rc, "cannot open %s", d->path);
    }
    d->is_named = true;
    *fd = f;
    *end = st.size;
    return TG_OK;
}

/* A line that was torn when the power went gets its end, so that the next is a line of its own. */
static enum tg_code end_torn_line(const struct tg_dead_letters *d, int fd, uint64_t *end,
                                  struct tg_err *err)
{
    char last = '\n';
    size_t n = 1;
    if (*end > 0) TG_TRY(tg_fs_read_all(d->fs, fd, &last, 1, *end - 1, &n, d->path, err));
    if (last == '\n' || n == 0) return TG_OK;
    TG_TRY(tg_fs_write_all(d->fs, fd, "\n", 1, *end, d->path, err));
    ++*end;
    return TG_OK;
}

static enum tg_code write_pending(struct tg_dead_letters *d, struct tg_err *err)
{
    int fd = -1;
    uint64_t end = 0;
    TG_TRY(open_file(d, &fd, &end, err));
    const uint64_t before = end;
    enum tg_code code = end_torn_line(d, fd, &end, err);
    if (code == TG_OK)
        code = tg_fs_write_all(d->fs, fd, d->pending.data, d->pending.len, end, d->path, err);
    if (code == TG_OK) {
        const int rc = d->fs->datasync(d->fs->self, fd);
        if (rc < 0) code = tg_fail_errno(err, -rc, "cannot sync %s", d->path);
    }
    if (code == TG_OK) {
        (void)d->fs->close(d->fs->self, fd);
        return TG_OK;
    }
    d->cut_fd = fd;
    d->cut_to = before;
    struct tg_err ignored; /* it is tried again before anything else is added */
    (void)!cut_back(d, &ignored);
    return code;
}

enum tg_code tg_dead_letters_commit(struct tg_dead_letters *d, struct tg_err *err)
{
    const enum tg_code code = d->pending.len ? write_pending(d, err) : TG_OK;
    tg_dead_letters_abort(d);
    if (code == TG_ERR_FILE_LIMIT) /* as dead_letters.max_bytes, but not ours */
        return tg_fail(err, TG_ERR_FULL,
                       "%s cannot grow any more (ulimit -f, or the most that the file system can "
                       "hold); move it away",
                       d->path);
    if (code == TG_ERR_FULL) /* the disk, not the file: nothing for the operator to move away */
        return tg_fail(err, TG_ERR_IO, "no space left on the disk for %s", d->path);
    return code;
}

void tg_dead_letters_abort(struct tg_dead_letters *d)
{
    d->has_size = false;
    if (d->pending.cap > 1 << 20)
        tg_buf_deinit(&d->pending);
    else
        tg_buf_reset(&d->pending);
}
