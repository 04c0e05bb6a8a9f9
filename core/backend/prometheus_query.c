#include "core/backend/prometheus_query.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/json_series.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/codec/prom_name.h"
#include "core/codec/remote_write.h"

enum { MAX_URL_BYTES = 64 * 1024 };

struct query {
    struct tg_json_query rows;
    struct tg_backend_http *http;
    struct tg_loop_item later; /* an end known before anything was sent */
    struct tg_err err;
};

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

enum tg_code tg_prometheus_query_text(const struct tg_query *q, int64_t start_ms, int64_t end_ms,
                                      struct tg_buf *out, struct tg_err *err)
{
    /* Units and suffixes as prom_name.h adds them; the query does not know the series' unit. */
    static const char suffixes[] =
        "(_(seconds|milliseconds|microseconds|nanoseconds|minutes|hours|days|weeks|months|years|"
        "bytes|kibibytes|mebibytes|gibibytes|tibibytes|kilobytes|megabytes|gigabytes|terabytes|"
        "meters|volts|amperes|joules|watts|grams|celsius|hertz|percent|ratio)"
        "(_per_[a-z]+)?)?(_total)?(_ratio)?(_bucket|_sum|_count)?";
    TG_TRY(tg_buf_append(out, "{", 1));
    if (q->name) {
        /* The base name holds letters, digits, "_" and ":" only: nothing to escape in a regular
         * expression, which is anchored at both ends. */
        struct tg_series_desc desc = {.name = q->name, .name_len = (uint32_t)strlen(q->name)};
        TG_TRY(tg_buf_printf(out, "__name__=~\""));
        TG_TRY(tg_prom_metric_name(&desc, out, err));
        TG_TRY(tg_buf_printf(out, "%s\"", suffixes));
    } else {
        TG_TRY(tg_buf_printf(out, "__name__!=\"\""));
    }
    for (uint32_t i = 0; i < q->n_tags; i++) {
        TG_TRY(tg_buf_append(out, ",", 1));
        TG_TRY(tg_prom_label_name(q->tags[i].key, q->tags[i].key_len, out));
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
    tg_json_query_deinit(&c->rows);
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

static enum tg_code read_series(struct query *c, const json_t *series)
{
    const json_t *metric = json_object_get(series, "metric");
    const char *name = json_string_value(json_object_get(metric, "__name__"));
    struct tg_series_desc desc;
    size_t i;
    json_t *pair;
    if (!name) return TG_OK;
    TG_TRY(tg_json_series(metric, "__name__", name, strlen(name), &c->rows.arena, &desc, &c->err));
    json_array_foreach(json_object_get(series, "values"), i, pair)
    {
        struct tg_point p;
        if (read_sample(pair, &p)) tg_json_query_row(&c->rows, &desc, &p);
        if (c->rows.is_enough) break;
    }
    return TG_OK;
}

static void on_answer(void *arg, const struct tg_http_result *r)
{
    struct query *c = arg;
    if (r->code != TG_OK || r->status != 200) {
        end_query(c, tg_backend_http_failure(r, &c->err));
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

static enum tg_code make_url(const char *base, const struct tg_query *q, struct tg_buf *url,
                             struct tg_buf *text, struct tg_err *err)
{
    char time[32];
    int64_t start_ms;
    int64_t end_ms;
    range_ms(q, &start_ms, &end_ms);
    (void)snprintf(time, sizeof(time), "%" PRId64 ".%03d", end_ms / 1000, (int)(end_ms % 1000));
    TG_TRY(tg_prometheus_query_text(q, start_ms, end_ms, text, err));
    TG_TRY(tg_buf_append(text, "", 1));
    TG_TRY(tg_buf_printf(url, "%s/api/v1/query", base));
    TG_TRY(tg_backend_url_param(url, "time", time));
    TG_TRY(tg_backend_url_param(url, "query", (const char *)text->data));
    return tg_buf_append(url, "", 1);
}

void tg_prometheus_query(struct tg_backend_http *h, const char *base, const struct tg_query *q,
                         tg_on_row on_row, tg_on_query_end on_end, void *arg)
{
    struct query *c = tg_calloc(1, sizeof(*c));
    if (!c) {
        const struct tg_err err = {TG_ERR_NOMEM, TG_NO_OFFSET, "no memory for a query"};
        on_end(arg, err.code, &err);
        return;
    }
    c->http = h;
    c->later = (struct tg_loop_item){.fn = on_later, .arg = c};
    struct tg_buf text;
    struct tg_buf url;
    tg_buf_init(&text, MAX_URL_BYTES);
    tg_buf_init(&url, MAX_URL_BYTES);
    enum tg_code code = tg_json_query_init(&c->rows, q, on_row, on_end, arg);
    if (code == TG_OK) code = make_url(base, q, &url, &text, &c->err);
    if (code != TG_OK && c->err.code == TG_OK)
        (void)tg_fail(&c->err, code, "the query is too long, or there is no memory");
    if (code == TG_OK) code = tg_backend_http_get(h, (const char *)url.data, on_answer, c, &c->err);
    if (code != TG_OK) tg_loop_post_item(h->loop, &c->later);
    tg_buf_deinit(&text);
    tg_buf_deinit(&url);
}
