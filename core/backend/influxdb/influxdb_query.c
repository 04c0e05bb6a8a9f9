#include "core/backend/influxdb/influxdb_query.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/http/http_query.h"
#include "core/backend/http/json_rows.h"
#include "core/base/mem.h"

enum { MAX_CUTS = 32, MAX_URL_BYTES = 64 * 1024 };

struct query {
    struct tg_json_rows rows;
    struct tg_loop_item later; /* an end known before anything was sent */
    struct tg_err err;
};

/* InfluxQL quotes identifiers with " and strings with '; both escape with a backslash. */
static enum tg_code quote(struct tg_buf *out, char mark, const char *text, size_t len)
{
    TG_TRY(tg_buf_reserve(out, 2 * len + 2));
    tg_buf_put_u8(out, (uint8_t)mark);
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (c == mark || c == '\\' || c == '\n') tg_buf_put_u8(out, '\\');
        tg_buf_put_u8(out, (uint8_t)(c == '\n' ? 'n' : c));
    }
    tg_buf_put_u8(out, (uint8_t)mark);
    return TG_OK;
}

static enum tg_code put_text(struct tg_buf *out, const char *text)
{
    return tg_buf_append(out, text, strlen(text));
}

/* field NULL = all; measurement NULL = all */
static enum tg_code put_statement(struct tg_buf *out, const struct tg_query *q,
                                  const char *measurement, size_t measurement_len,
                                  const char *field, size_t field_len)
{
    TG_TRY(put_text(out, out->len ? ";SELECT " : "SELECT "));
    TG_TRY(field ? quote(out, '"', field, field_len) : put_text(out, "*::field"));
    TG_TRY(put_text(out, " FROM "));
    TG_TRY(measurement ? quote(out, '"', measurement, measurement_len) : put_text(out, "/.*/"));
    TG_TRY(tg_buf_printf(out, " WHERE time >= %" PRId64 " AND time < %" PRId64, q->start_ns,
                         q->end_ns));
    for (uint32_t i = 0; i < q->n_tags; i++) {
        TG_TRY(put_text(out, " AND "));
        TG_TRY(quote(out, '"', q->tags[i].key, q->tags[i].key_len));
        TG_TRY(put_text(out, "::tag = "));
        TG_TRY(quote(out, '\'', q->tags[i].value, q->tags[i].value_len));
    }
    TG_TRY(put_text(out, " GROUP BY *"));
    return q->max_rows ? tg_buf_printf(out, " LIMIT %" PRIu32, q->max_rows) : TG_OK;
}

enum tg_code tg_influxdb_query_text(const struct tg_query *q, struct tg_buf *out)
{
    if (!q->name) return put_statement(out, q, NULL, 0, NULL, 0);
    const size_t len = strlen(q->name);
    TG_TRY(put_statement(out, q, q->name, len, NULL, 0));
    unsigned n = 0;
    for (const char *cut = strchr(q->name, '_'); cut && n < MAX_CUTS; cut = strchr(cut + 1, '_')) {
        const size_t at = (size_t)(cut - q->name);
        if (at == 0 || at + 1 == len) continue;
        TG_TRY(put_statement(out, q, q->name, at, cut + 1, len - at - 1));
        n++;
    }
    return TG_OK;
}

static void end_query(struct query *c, enum tg_code code)
{
    c->rows.on_end(c->rows.arg, code, &c->err);
    tg_json_rows_deinit(&c->rows);
    tg_free(c);
}

static bool read_value(const json_t *v, struct tg_point *p, struct tg_string *text)
{
    p->flags = 0;
    if (json_is_real(v)) {
        p->type = TG_VALUE_DOUBLE;
        p->value.f64 = json_real_value(v);
    } else if (json_is_integer(v)) {
        p->type = TG_VALUE_INT64;
        p->value.i64 = json_integer_value(v);
    } else if (json_is_boolean(v)) {
        p->type = TG_VALUE_BOOL;
        p->value.i64 = json_is_true(v);
    } else if (json_is_string(v)) {
        *text = (struct tg_string){json_string_value(v), (uint32_t)json_string_length(v)};
        p->type = TG_VALUE_STRING;
        p->value.string = text;
    } else {
        return false; /* null: no such field at this time */
    }
    return true;
}

static enum tg_code read_column(struct query *c, const json_t *series, size_t column,
                                const char *measurement, const char *field)
{
    struct tg_buf name;
    struct tg_series_desc desc;
    tg_buf_init(&name, 64 * 1024);
    enum tg_code code = tg_buf_append(&name, measurement, strlen(measurement));
    if (code == TG_OK && strcmp(field, "value") != 0) code = tg_buf_printf(&name, "_%s", field);
    if (code == TG_OK)
        code = tg_json_rows_series(json_object_get(series, "tags"), NULL, (const char *)name.data,
                                   name.len, &c->rows.arena, &desc, &c->err);
    size_t i;
    json_t *row;
    if (code == TG_OK) {
        json_array_foreach(json_object_get(series, "values"), i, row)
        {
            struct tg_point p = {0};
            struct tg_string text;
            p.ts_ns = json_integer_value(json_array_get(row, 0));
            if (read_value(json_array_get(row, column), &p, &text))
                tg_json_rows_push(&c->rows, &desc, &p);
            if (c->rows.is_enough) break;
        }
    }
    tg_buf_deinit(&name);
    return code;
}

static enum tg_code read_series(struct query *c, const json_t *series)
{
    const char *measurement = json_string_value(json_object_get(series, "name"));
    const json_t *columns = json_object_get(series, "columns");
    if (!measurement) return TG_OK;
    for (size_t k = 1; k < json_array_size(columns) && !c->rows.is_enough; k++) {
        const char *field = json_string_value(json_array_get(columns, k));
        if (field) TG_TRY(read_column(c, series, k, measurement, field));
    }
    return TG_OK;
}

static enum tg_code read_answer(struct query *c, const json_t *root)
{
    size_t i;
    size_t k;
    json_t *result;
    json_t *series;
    const char *words = json_string_value(json_object_get(root, "error"));
    json_array_foreach(json_object_get(root, "results"), i, result)
    {
        /* After a statement that failed, the others say "not executed": the reason is elsewhere. */
        const char *error = json_string_value(json_object_get(result, "error"));
        if (error && (!words || strcmp(words, "not executed") == 0)) words = error;
        json_array_foreach(json_object_get(result, "series"), k, series)
        {
            TG_TRY(read_series(c, series));
            if (c->rows.is_enough) return TG_OK;
        }
    }
    return words ? tg_fail(&c->err, TG_ERR_INVALID, "%s", words) : TG_OK;
}

/* InfluxDB prints doubles from 2^63 on as whole numbers, which jansson refuses as integers: copies
 * the text with ".0" after those. */
static enum tg_code mark_doubles(const char *text, size_t len, struct tg_buf *out)
{
    static const char digits[] = "0123456789";
    enum { MAX_DIGITS = 18 }; /* so many always fit */
    const char *const end = text + len;
    const char *from = text; /* what is not copied yet */
    bool quoted = false;
    for (const char *p = text; p < end;) {
        const size_t n = quoted ? 0 : strspn(p, digits); /* the text ends with a NUL */
        if (n == 0) {
            if (*p == '"') quoted = !quoted;
            p += quoted && *p == '\\' && p + 1 < end ? 2 : 1;
            continue;
        }
        const char *begin = p > text && p[-1] == '-' ? p - 1 : p;
        const bool is_part = begin > text && strchr(".eE+", begin[-1]); /* of 1.5 or 1e21 */
        p += n;
        if (n <= MAX_DIGITS || is_part || strchr(".eE", p < end ? *p : ' ')) continue;
        errno = 0;
        (void)strtoll(begin, NULL, 10);
        if (errno != ERANGE) continue;
        TG_TRY(tg_buf_append(out, from, (size_t)(p - from)));
        TG_TRY(tg_buf_append(out, ".0", 2));
        from = p;
    }
    return tg_buf_append(out, from, (size_t)(end - from));
}

static json_t *parse(const char *text, size_t len, json_error_t *bad)
{
    json_t *root = json_loadb(text, len, 0, bad);
    if (root || json_error_code(bad) != json_error_numeric_overflow) return root;
    struct tg_buf marked;
    tg_buf_init(&marked, 2 * len + 16);
    if (mark_doubles(text, len, &marked) == TG_OK)
        root = json_loadb((const char *)marked.data, marked.len, 0, bad);
    tg_buf_deinit(&marked);
    return root;
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
    json_t *root = parse((const char *)r->body, r->len, &bad);
    enum tg_code code;
    if (!root)
        code = tg_fail_at(&c->err, TG_ERR_MALFORMED, (uint64_t)bad.position,
                          "the answer is not JSON: %.100s", bad.text);
    else
        code = read_answer(c, root);
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

void tg_influxdb_query(struct tg_http_backend *h, const char *database,
                       const char *retention_policy, const struct tg_query *q, tg_on_row on_row,
                       tg_on_query_end on_end, void *arg)
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
    if (code == TG_OK) code = tg_influxdb_query_text(q, &text);
    if (code == TG_OK) code = tg_buf_append(&text, "", 1);
    if (code == TG_OK) code = tg_buf_printf(&url, "%s/query", h->base);
    if (code == TG_OK) code = tg_backend_url_param(&url, "db", database);
    if (code == TG_OK && retention_policy)
        code = tg_backend_url_param(&url, "rp", retention_policy);
    if (code == TG_OK) code = tg_backend_url_param(&url, "epoch", "ns");
    if (code == TG_OK) code = tg_backend_url_param(&url, "q", (const char *)text.data);
    if (code == TG_OK) code = tg_buf_append(&url, "", 1);
    if (code != TG_OK)
        (void)tg_fail(&c->err, code, "the query is too long, or there is no memory");
    else
        code = tg_http_backend_query(h, q, (const char *)url.data, on_answer, c, &c->err);
    if (code != TG_OK) tg_loop_post_item(tg_http_backend_query_loop(h, q), &c->later);
    tg_buf_deinit(&text);
    tg_buf_deinit(&url);
}
