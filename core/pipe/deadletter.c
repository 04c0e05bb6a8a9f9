#include "core/pipe/deadletter.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/mem.h"

enum { MAX_PENDING_BYTES = 256 << 20, LINE_MEMBERS = 7 };

struct tg_dead_letters {
    char *path;
    char *dir;
    uint64_t max_bytes;
    int fd; /* -1 until the first commit */
    struct tg_buf pending;
    struct tg_arena arena;
};

static enum tg_code make_dirs(const char *dir, struct tg_err *err)
{
    char path[4096];
    const size_t len = strlen(dir);
    if (len >= sizeof(path))
        return tg_fail(err, TG_ERR_INVALID, "dead letter folder: path too long");
    memcpy(path, dir, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        const char keep = path[i];
        path[i] = '\0';
        if (mkdir(path, 0750) != 0 && errno != EEXIST)
            return tg_fail_errno(err, errno, "cannot make the dead letter folder %s", path);
        path[i] = keep;
    }
    return TG_OK;
}

enum tg_code tg_dead_letters_new(const char *dir, const char *backend, uint64_t max_bytes,
                                 struct tg_dead_letters **out, struct tg_err *err)
{
    *out = NULL;
    TG_TRY(make_dirs(dir, err));
    struct tg_dead_letters *d = tg_calloc(1, sizeof(*d));
    if (!d) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    d->fd = -1;
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
    if (d->fd >= 0) (void)close(d->fd);
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
    static const char *const types[TG_VALUE_TYPES] = {"double",        "int64",   "uint64",
                                                      "bool",          "none",    "histogram",
                                                      "exp_histogram", "summary", "string"};
    json_t *v = NULL;
    switch ((enum tg_value_type)p->type) {
    case TG_VALUE_DOUBLE: v = number(p->value.f64); break;
    case TG_VALUE_INT64: v = json_integer(p->value.i64); break;
    case TG_VALUE_UINT64: v = unsigned_json(p->value.u64); break;
    case TG_VALUE_BOOL: v = json_boolean(p->value.i64 != 0); break;
    case TG_VALUE_NONE: v = json_null(); break;
    case TG_VALUE_HISTOGRAM: v = histogram_json(p->value.histogram); break;
    case TG_VALUE_EXP_HISTOGRAM: v = exp_histogram_json(p->value.exp_histogram); break;
    case TG_VALUE_SUMMARY: v = summary_json(p->value.summary); break;
    case TG_VALUE_STRING: v = string_json(p->value.string); break;
    case TG_VALUE_TYPES: break;
    }
    (void)json_object_set_new(
        line, "type", json_string(types[p->type < TG_VALUE_TYPES ? p->type : TG_VALUE_NONE]));
    (void)json_object_set_new(line, "value", v);
}

static json_t *series_json(const struct tg_series_desc *desc)
{
    static const char *const origins[] = {"point", "scope", "resource"};
    json_t *series = json_object();
    json_t *tags = json_object();
    json_t *from = json_object();
    for (uint32_t i = 0; i < desc->n_tags; i++) {
        const struct tg_tag *t = &desc->tags[i];
        char key[1100];
        (void)snprintf(key, sizeof(key), "%.*s", (int)t->key_len, t->key);
        (void)json_object_set_new(tags, key, json_stringn(t->value, t->value_len));
        if (t->origin != TG_ORIGIN_POINT)
            (void)json_object_set_new(from, key, json_string(origins[t->origin]));
    }
    (void)json_object_set_new(series, "name", json_stringn(desc->name, desc->name_len));
    (void)json_object_set_new(series, "kind", json_string(tg_kind_name((enum tg_kind)desc->kind)));
    (void)json_object_set_new(series, "unit", json_stringn(desc->unit, desc->unit_len));
    (void)json_object_set_new(series, "temporality", json_integer(desc->temporality));
    (void)json_object_set_new(series, "field_len", json_integer(desc->field_len));
    (void)json_object_set_new(series, "tags", tags);
    (void)json_object_set_new(series, "origins", from);
    return series;
}

static json_t *now_json(void)
{
    const int64_t now_ns = tg_clock_wall_ns();
    const time_t sec = (time_t)(now_ns / 1000000000);
    struct tm tm;
    (void)gmtime_r(&sec, &tm);
    char text[48];
    const size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(text + n, sizeof(text) - n, ".%03dZ", (int)(now_ns / 1000000 % 1000));
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

enum tg_code tg_dead_letters_add(struct tg_dead_letters *d, const struct tg_table *table,
                                 const struct tg_point *p, const char *reason, struct tg_err *err)
{
    struct tg_series_desc desc;
    tg_arena_reset(&d->arena);
    const enum tg_code described = tg_table_describe(table, p->series, &desc, &d->arena);
    if (described != TG_OK) return tg_fail(err, described, "out of memory for a dead letter");
    json_t *line = json_object();
    (void)json_object_set_new(line, "at", now_json());
    (void)json_object_set_new(line, "reason", text_json(reason));
    (void)json_object_set_new(line, "series", series_json(&desc));
    (void)json_object_set_new(line, "time_ns", json_integer(p->ts_ns));
    (void)json_object_set_new(line, "start_ns", json_integer(p->start_ns));
    set_value(line, p);
    /* A member that could not be made is not there: such a line is no dead letter. */
    const bool whole = json_object_size(line) == LINE_MEMBERS;
    char *text = whole ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(line);
    enum tg_code code = TG_ERR_NOMEM;
    if (text) {
        const size_t len = strlen(text);
        code = tg_buf_reserve(&d->pending, len + 1);
        if (code == TG_OK) {
            tg_buf_put(&d->pending, text, len);
            tg_buf_put_u8(&d->pending, '\n');
        }
    }
    free(text);
    return code == TG_OK ? TG_OK : tg_fail(err, TG_ERR_NOMEM, "out of memory for a dead letter");
}

static enum tg_code sync_folder(const struct tg_dead_letters *d, struct tg_err *err)
{
    const int dir = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return tg_fail_errno(err, errno, "cannot open %s", d->dir);
    const int rc = fsync(dir);
    const int why = errno;
    (void)close(dir);
    return rc == 0 ? TG_OK : tg_fail_errno(err, why, "cannot sync %s", d->dir);
}

/* A line that was torn when the power went gets its end, so that the next is a line of its own. */
static enum tg_code end_torn_line(const struct tg_dead_letters *d, struct tg_err *err)
{
    struct stat st;
    char last = '\n';
    if (fstat(d->fd, &st) != 0 || (st.st_size > 0 && pread(d->fd, &last, 1, st.st_size - 1) != 1))
        return tg_fail_errno(err, errno, "cannot read %s", d->path);
    if (last == '\n' || write(d->fd, "\n", 1) == 1) return TG_OK;
    return tg_fail_errno(err, errno, "cannot write %s", d->path);
}

static enum tg_code open_file(struct tg_dead_letters *d, struct tg_err *err)
{
    d->fd = open(d->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (d->fd < 0) return tg_fail_errno(err, errno, "cannot open %s", d->path);
    enum tg_code code = end_torn_line(d, err);
    if (code == TG_OK) code = sync_folder(d, err);
    if (code == TG_OK) return TG_OK;
    (void)close(d->fd);
    d->fd = -1;
    return code;
}

static enum tg_code write_pending(struct tg_dead_letters *d, struct tg_err *err)
{
    struct stat st;
    if (d->fd >= 0 && (fstat(d->fd, &st) != 0 || st.st_nlink == 0)) {
        (void)close(d->fd); /* the operator moved or removed it */
        d->fd = -1;
    }
    struct stat named;
    if (d->fd >= 0 && (stat(d->path, &named) != 0 || named.st_ino != st.st_ino)) {
        (void)close(d->fd);
        d->fd = -1;
    }
    if (d->fd < 0) {
        TG_TRY(open_file(d, err));
        if (fstat(d->fd, &st) != 0)
            return tg_fail_errno(err, errno, "cannot read the size of %s", d->path);
    }
    if (d->max_bytes && (uint64_t)st.st_size + d->pending.len > d->max_bytes)
        return tg_fail(
            err, TG_ERR_FULL,
            "%s is at its limit of %llu bytes (dead_letters.max_bytes); deal with it and "
            "move it away",
            d->path, (unsigned long long)d->max_bytes);
    for (size_t done = 0; done < d->pending.len;) {
        const ssize_t n = write(d->fd, d->pending.data + done, d->pending.len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const int why = errno;
            if (ftruncate(d->fd, st.st_size) != 0) { /* opened anew it gets its end */
                (void)close(d->fd);
                d->fd = -1;
            }
            return tg_fail_errno(err, why, "cannot write %s", d->path);
        }
        done += (size_t)n;
    }
    if (fdatasync(d->fd) != 0) {
        const int why = errno;
        (void)close(d->fd);
        d->fd = -1;
        return tg_fail_errno(err, why, "cannot sync %s", d->path);
    }
    return TG_OK;
}

enum tg_code tg_dead_letters_commit(struct tg_dead_letters *d, struct tg_err *err)
{
    if (d->pending.len == 0) return TG_OK;
    const enum tg_code code = write_pending(d, err);
    tg_dead_letters_abort(d);
    return code;
}

void tg_dead_letters_abort(struct tg_dead_letters *d)
{
    if (d->pending.cap > 1 << 20)
        tg_buf_deinit(&d->pending);
    else
        tg_buf_reset(&d->pending);
}
