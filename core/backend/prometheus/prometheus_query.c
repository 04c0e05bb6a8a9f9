#include "core/backend/prometheus/prometheus_query.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/http/http_query.h"
#include "core/backend/http/json_rows.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/protocol/remote_write.h"

enum { MAX_URL_BYTES = 64 * 1024 };

struct query {
    struct tg_json_rows rows;
    struct tg_loop_item later; /* an end known before anything was sent */
    struct tg_err err;
    /* Of the query: tags whose key may be stored as it is or escaped; copies in rows.arena. */
    struct tg_tag *tags;
    uint32_t n_tags;
};

/* Whether a label of this key is called so whatever the settings are. */
static bool is_classic_key(const struct tg_tag *t)
{
    for (uint32_t i = 0; i < t->key_len; i++) {
        const char c = t->key[i];
        if (!(c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (i > 0 && c >= '0' && c <= '9')))
            return false;
    }
    return t->key_len > 0;
}

/* A PromQL string, as Go quotes one. */
static enum tg_code put_string(struct tg_buf *out, const char *text, size_t len)
{
    TG_TRY(tg_buf_reserve(out, 2 * len + 2));
    tg_buf_put_u8(out, '"');
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (c == '"' || c == '\\' || c == '\n') tg_buf_put_u8(out, '\\');
        tg_buf_put_u8(out, (uint8_t)(c == '\n' ? 'n' : c));
    }
    tg_buf_put_u8(out, '"');
    return TG_OK;
}

/* Appends `text`, quoted for a regular expression (RE2) inside a PromQL string. */
static enum tg_code put_pattern(struct tg_buf *out, const char *text, size_t len)
{
    TG_TRY(tg_buf_reserve(out, 4 * len));
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (c == '\n') {
            tg_buf_put(out, "\\n", 2);
            continue;
        }
        if (c == '\\') {
            tg_buf_put(out, "\\\\\\", 3);
        } else if (c == '"') {
            tg_buf_put_u8(out, '\\');
        } else if (strchr(".+*?()|[]{}^$", c)) {
            tg_buf_put(out, "\\\\", 2);
        }
        tg_buf_put_u8(out, (uint8_t)c);
    }
    return TG_OK;
}

/* Appends "|" + the name as `d` has it escaped, unless it stands there already. What is escaped
 * holds letters, digits, "_" and ":" only: nothing to quote. */
static enum tg_code put_escaped_name(struct tg_buf *out, const struct tg_series_desc *d,
                                     size_t first, struct tg_err *err)
{
    static const struct tg_prom_names escaped = {.has_otlp_suffixes = true};
    const size_t start = out->len;
    if (start > first) TG_TRY(tg_buf_append(out, "|", 1));
    const size_t from = out->len;
    const enum tg_code code = tg_prom_metric_name(d, &escaped, out, err);
    const size_t len = out->len - from;
    if (code != TG_OK || (start > first && start - first == len &&
                          memcmp(out->data + first, out->data + from, len) == 0))
        out->len = start;
    return code;
}

/* The pattern of the base name: escaped as sent names and as OTLP names are, and as it is. */
static enum tg_code put_name(struct tg_buf *out, const char *name, bool keeps, struct tg_err *err)
{
    const struct tg_series_desc sent = {.name = name, .name_len = (uint32_t)strlen(name)};
    struct tg_series_desc otlp = sent;
    otlp.kind = TG_KIND_SUMMARY; /* of no suffix */
    otlp.unit = "";
    TG_TRY(tg_buf_append(out, "(", 1));
    const size_t first = out->len;
    enum tg_code code = put_escaped_name(out, &sent, first, err);
    if (code == TG_OK) code = put_escaped_name(out, &otlp, first, err);
    if (code != TG_OK && (code != TG_ERR_INVALID || !keeps)) return code;
    const bool is_there =
        out->len - first == sent.name_len && memcmp(out->data + first, name, sent.name_len) == 0;
    if (keeps && !is_there) {
        if (out->len > first) TG_TRY(tg_buf_append(out, "|", 1));
        TG_TRY(put_pattern(out, name, sent.name_len));
    }
    return tg_buf_append(out, ")", 1);
}

enum tg_code tg_prometheus_query_text(const struct tg_query *q, const struct tg_prom_names *names,
                                      int64_t start_ms, int64_t end_ms, struct tg_buf *out,
                                      struct tg_err *err)
{
    /* Units and suffixes as prom_name.h adds them; the query does not know the series' unit. */
    static const char suffixes[] =
        "(_(seconds|milliseconds|microseconds|nanoseconds|minutes|hours|days|weeks|months|years|"
        "bytes|kibibytes|mebibytes|gibibytes|tibibytes|kilobytes|megabytes|gigabytes|terabytes|"
        "meters|volts|amperes|joules|watts|grams|celsius|hertz|percent|ratio)"
        "(_per_[a-z]+)?)?(_total)?(_ratio)?(_bucket|_sum|_count)?";
    const bool keeps = names->is_utf8 || names->is_otlp_utf8;
    TG_TRY(tg_buf_append(out, "{", 1));
    if (q->name) {
        TG_TRY(tg_buf_printf(out, "__name__=~\"")); /* anchored at both ends */
        TG_TRY(put_name(out, q->name, keeps, err));
        TG_TRY(tg_buf_printf(out, "%s\"", suffixes));
    } else {
        TG_TRY(tg_buf_printf(out, "__name__!=\"\""));
    }
    for (uint32_t i = 0; i < q->n_tags; i++) {
        if (!is_classic_key(&q->tags[i]) && keeps) continue;
        TG_TRY(tg_buf_append(out, ",", 1));
        TG_TRY(tg_prom_label_name(q->tags[i].key, q->tags[i].key_len, false, out));
        TG_TRY(tg_buf_append(out, "=", 1));
        TG_TRY(put_string(out, q->tags[i].value, q->tags[i].value_len));
    }
    /* Older servers take both ends of the range in, newer ones leave the start out: one more
     * millisecond, and the rows are filtered by time anyway. */
    return tg_buf_printf(out, "}[%" PRId64 "ms]", end_ms - start_ms + 1);
}

static void end_query(struct query *c, enum tg_code code)
{
    c->rows.on_end(c->rows.arg, code, &c->err);
    tg_json_rows_deinit(&c->rows);
    tg_free(c);
}

/* [seconds, "value"]; seconds are printed with at most three decimals. */
static bool read_sample(const json_t *pair, struct tg_point *p)
{
    const char *text = json_string_value(json_array_get(pair, 1));
    if (!text) return false;
    const double seconds = json_number_value(json_array_get(pair, 0));
    if (!(fabs(seconds) < 9e9)) return false;
    *p = (struct tg_point){.ts_ns = llround(seconds * 1000) * 1000000};
    p->type = TG_VALUE_DOUBLE;
    p->value.f64 = strtod(text, NULL); /* "NaN", "+Inf" and "-Inf" included */
    return true;
}

static bool has_label(const json_t *metric, const char *key, size_t key_len, const struct tg_tag *t)
{
    const json_t *value = json_object_getn(metric, key, key_len);
    return json_is_string(value) && json_string_length(value) == t->value_len &&
           memcmp(json_string_value(value), t->value, t->value_len) == 0;
}

/* Whether the tags that the expression left out are there, as they are or escaped. */
static enum tg_code has_tags(const struct query *c, const json_t *metric, bool *has)
{
    struct tg_buf escaped;
    enum tg_code code = TG_OK;
    tg_buf_init(&escaped, 0);
    *has = true;
    for (uint32_t i = 0; i < c->n_tags && *has && code == TG_OK; i++) {
        const struct tg_tag *t = &c->tags[i];
        tg_buf_reset(&escaped);
        code = tg_prom_label_name(t->key, t->key_len, false, &escaped);
        if (code == TG_OK)
            *has = has_label(metric, t->key, t->key_len, t) ||
                   has_label(metric, (const char *)escaped.data, escaped.len, t);
    }
    tg_buf_deinit(&escaped);
    return code;
}

static enum tg_code read_series(struct query *c, const json_t *series)
{
    const json_t *metric = json_object_get(series, "metric");
    const char *name = json_string_value(json_object_get(metric, "__name__"));
    struct tg_series_desc desc;
    size_t i;
    json_t *pair;
    bool is_wanted;
    if (!name) return TG_OK;
    TG_TRY(has_tags(c, metric, &is_wanted));
    if (!is_wanted) return TG_OK;
    TG_TRY(tg_json_rows_series(metric, "__name__", name, strlen(name), &c->rows.arena, &desc,
                               &c->err));
    json_array_foreach(json_object_get(series, "values"), i, pair)
    {
        struct tg_point p;
        if (read_sample(pair, &p)) tg_json_rows_push(&c->rows, &desc, &p);
        if (c->rows.is_enough) break;
    }
    return TG_OK;
}

static void on_answer(void *arg, const struct tg_http_result *r)
{
    struct query *c = arg;
    if (r->code == TG_ERR_CANCELED) {
        end_query(c, tg_fail(&c->err, TG_ERR_CANCELED, "the query was given up"));
        return;
    }
    if (r->code != TG_OK || r->status != 200) {
        end_query(c, tg_http_backend_failure(r, &c->err));
        return;
    }
    json_error_t bad;
    json_t *root = json_loadb((const char *)r->body, r->len, 0, &bad);
    enum tg_code code = TG_OK;
    if (!root) {
        code = tg_fail_at(&c->err, TG_ERR_MALFORMED, (uint64_t)bad.position,
                          "the answer is not JSON: %.100s", bad.text);
    } else {
        size_t i;
        json_t *series;
        json_array_foreach(json_object_get(json_object_get(root, "data"), "result"), i, series)
        {
            code = read_series(c, series);
            if (code != TG_OK || c->rows.is_enough) break;
        }
    }
    json_decref(root);
    if (code == TG_OK && c->rows.is_stopped)
        code = tg_fail(&c->err, TG_ERR_CANCELED, "the query was given up");
    end_query(c, code);
}

static void on_later(void *arg)
{
    struct query *c = arg;
    end_query(c, c->err.code);
}

/* Times are stored in ms, rounded down: every ms that a point of [start, end) may have. Open ends
 * are cut to what the servers' durations and dates can say. */
static void range_ms(const struct tg_query *q, int64_t *start_ms, int64_t *end_ms)
{
    const int64_t now_ms = tg_clock_wall_ns() / 1000000;
    const int64_t year_ms = INT64_C(365) * 86400 * 1000;
    *start_ms = q->start_ns <= 0 ? 0 : q->start_ns / 1000000;
    *end_ms = q->end_ns <= 0 ? 0 : (q->end_ns - 1) / 1000000;
    if (*end_ms > now_ms + year_ms) *end_ms = now_ms + year_ms;
    if (*start_ms > *end_ms) *start_ms = *end_ms;
}

/* Notes the tags that the expression leaves out. */
static enum tg_code keep_tags(struct query *c, const struct tg_prom_names *names,
                              const struct tg_query *q)
{
    c->n_tags = 0;
    if (!names->is_utf8 && !names->is_otlp_utf8) return TG_OK;
    c->tags = tg_arena_calloc(&c->rows.arena, q->n_tags + 1, sizeof(*c->tags));
    if (!c->tags) return TG_ERR_NOMEM;
    for (uint32_t i = 0; i < q->n_tags; i++) {
        struct tg_tag t = q->tags[i];
        if (is_classic_key(&t)) continue;
        t.key = tg_arena_strndup(&c->rows.arena, t.key, t.key_len);
        t.value = tg_arena_strndup(&c->rows.arena, t.value, t.value_len);
        if (!t.key || !t.value) return TG_ERR_NOMEM;
        c->tags[c->n_tags++] = t;
    }
    return TG_OK;
}

static enum tg_code make_url(const char *base, const struct tg_query *q,
                             const struct tg_prom_names *names, struct tg_buf *url,
                             struct tg_buf *text, struct tg_err *err)
{
    char time[32];
    int64_t start_ms;
    int64_t end_ms;
    range_ms(q, &start_ms, &end_ms);
    (void)snprintf(time, sizeof(time), "%" PRId64 ".%03d", end_ms / 1000, (int)(end_ms % 1000));
    TG_TRY(tg_prometheus_query_text(q, names, start_ms, end_ms, text, err));
    TG_TRY(tg_buf_append(text, "", 1));
    TG_TRY(tg_buf_printf(url, "%s/api/v1/query", base));
    TG_TRY(tg_backend_url_param(url, "time", time));
    TG_TRY(tg_backend_url_param(url, "query", (const char *)text->data));
    return tg_buf_append(url, "", 1);
}

void tg_prometheus_query(struct tg_http_backend *h, const char *base,
                         const struct tg_prom_names *names, const struct tg_query *q,
                         tg_on_row on_row, tg_on_query_end on_end, void *arg)
{
    struct query *c = tg_calloc(1, sizeof(*c));
    if (!c) {
        const struct tg_err err = {TG_ERR_NOMEM, TG_NO_OFFSET, "no memory for a query"};
        on_end(arg, err.code, &err);
        return;
    }
    c->later = (struct tg_loop_item){.fn = on_later, .arg = c};
    struct tg_buf text;
    struct tg_buf url;
    tg_buf_init(&text, MAX_URL_BYTES);
    tg_buf_init(&url, MAX_URL_BYTES);
    enum tg_code code = tg_json_rows_init(&c->rows, q, on_row, on_end, arg);
    if (code == TG_OK) code = keep_tags(c, names, q);
    if (code == TG_OK) code = make_url(base, q, names, &url, &text, &c->err);
    if (code != TG_OK && c->err.code == TG_OK)
        (void)tg_fail(&c->err, code, "the query is too long, or there is no memory");
    if (code == TG_OK)
        code = tg_http_backend_query(h, q, (const char *)url.data, on_answer, c, &c->err);
    if (code != TG_OK) tg_loop_post_item(tg_http_backend_query_loop(h, q), &c->later);
    tg_buf_deinit(&text);
    tg_buf_deinit(&url);
}
