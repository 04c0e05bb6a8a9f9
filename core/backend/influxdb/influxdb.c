/* InfluxDB: line protocol to 1.x (`database`) and to 2.x and what speaks its API (`bucket`).
 *
 * Writing a point again is harmless: same series, field and time replace the value. So a partial
 * write (1.x keeps the good rows of a refused request) is bisected like any other refusal. */
#include <string.h>

#include "core/backend/http/http_backend.h"
#include "core/backend/influxdb/influxdb_query.h"
#include "core/base/mem.h"
#include "core/codec/compress.h"
#include "core/protocol/influx_line.h"

struct tg_backend {
    struct tg_http_backend http;
    struct tg_buf url; /* NUL-terminated */
    struct tg_buf lines, packed;
    struct tg_compress compress;
    const char *database, *retention_policy; /* borrows; database NULL = 2.x */
    bool is_gzip;
    unsigned flags; /* enum tg_influx_flags */
};

static const struct tg_option_spec options[] = {
    TG_HTTP_BACKEND_OPTIONS("the server, e.g. http://127.0.0.1:8086", "10000"),
    {.name = "bucket", .type = TG_OPT_STRING, .help = "InfluxDB 2: bucket to write to"},
    {.name = "org", .type = TG_OPT_STRING, .help = "InfluxDB 2: organisation of the bucket"},
    {.name = "database", .type = TG_OPT_STRING, .help = "InfluxDB 1: database to write to"},
    {.name = "retention_policy",
     .type = TG_OPT_STRING,
     .help = "InfluxDB 1: retention policy, instead of the database's default"},
    {.name = "numbers",
     .type = TG_OPT_ENUM,
     .def = "typed",
     .choices = "typed|float",
     .help = "typed: integers stay integers; float: they are written as floats, so that senders of "
             "integers and of floats can share a series (InfluxDB refuses a second field type)"},
    {.name = "gzip", .type = TG_OPT_BOOL, .def = "true", .help = "compress requests"},
    {.name = NULL},
};

static enum tg_code check_target(const struct tg_options *o, struct tg_err *err)
{
    const bool has_bucket = tg_options_is_set(o, "bucket");
    const bool has_database = tg_options_is_set(o, "database");
    if (has_bucket == has_database)
        return tg_fail(err, TG_ERR_INVALID,
                       "set either bucket and org (InfluxDB 2) or database (InfluxDB 1)%s",
                       has_bucket ? ", not both" : "");
    /* Without it InfluxDB 2 answers 400 to everything, which would make dead letters of it all. */
    if (has_bucket && !tg_options_is_set(o, "org"))
        return tg_fail(err, TG_ERR_INVALID,
                       "bucket needs org (any name where the server has none)");
    if (has_database && tg_options_is_set(o, "org"))
        return tg_fail(err, TG_ERR_INVALID, "org goes with bucket, not with database");
    if (has_bucket && tg_options_is_set(o, "retention_policy"))
        return tg_fail(err, TG_ERR_INVALID, "retention_policy goes with database, not with bucket");
    return TG_OK;
}

static enum tg_code make_url(struct tg_backend *b, const struct tg_options *o)
{
    TG_TRY(tg_buf_printf(&b->url, "%s%s", b->http.base, b->database ? "/write" : "/api/v2/write"));
    if (b->database) {
        TG_TRY(tg_backend_url_param(&b->url, "db", b->database));
        if (b->retention_policy) TG_TRY(tg_backend_url_param(&b->url, "rp", b->retention_policy));
    } else {
        TG_TRY(tg_backend_url_param(&b->url, "org", tg_options_str(o, "org")));
        TG_TRY(tg_backend_url_param(&b->url, "bucket", tg_options_str(o, "bucket")));
    }
    TG_TRY(tg_backend_url_param(&b->url, "precision", "ns"));
    return tg_buf_append(&b->url, "", 1);
}

static void close_it(struct tg_backend *b)
{
    if (!b) return;
    tg_http_backend_deinit(&b->http);
    tg_buf_deinit(&b->url);
    tg_buf_deinit(&b->lines);
    tg_buf_deinit(&b->packed);
    tg_compress_deinit(&b->compress);
    tg_free(b);
}

static enum tg_code open_it(const struct tg_backend_open *how, struct tg_backend **out,
                            struct tg_err *err)
{
    const struct tg_options *o = how->options;
    *out = NULL;
    TG_TRY(check_target(o, err));
    struct tg_backend *b = tg_calloc(1, sizeof(*b));
    if (!b) return tg_fail(err, TG_ERR_NOMEM, "no memory for backend %s", how->name);
    tg_compress_init(&b->compress);
    tg_buf_init(&b->url, 16 * 1024);
    b->database = tg_options_str(o, "database");
    b->retention_policy = tg_options_str(o, "retention_policy");
    b->is_gzip = tg_options_num(o, "gzip") != 0;
    b->flags = (b->database ? TG_INFLUX_NO_UNSIGNED : 0U) |
               (strcmp(tg_options_str(o, "numbers"), "float") == 0 ? TG_INFLUX_FLOATS : 0U);
    enum tg_code code = tg_http_backend_init(&b->http, how, "Token", err);
    if (code == TG_OK) {
        tg_buf_init(&b->lines, b->http.max_request_bytes);
        tg_buf_init(&b->packed, b->http.max_request_bytes + 65536);
        code = make_url(b, o);
        if (code != TG_OK) (void)tg_fail(err, code, "url and its parameters are too long");
    }
    if (code != TG_OK) {
        close_it(b);
        return code;
    }
    *out = b;
    return TG_OK;
}

/* The length in front, the measurement, then tag by tag. A comma in a value only cuts once more. */
static size_t tag_len(const uint8_t *begin, const uint8_t *at, const uint8_t *end, size_t *head)
{
    (void)head;
    enum { HEAD = 4 };
    const size_t left = (size_t)(end - at);
    if (at == begin) return left < HEAD ? left : HEAD;
    const uint8_t *comma = left > 1 ? memchr(at + 1, ',', left - 1) : NULL;
    return comma ? (size_t)(comma - at) : left;
}

static enum tg_code prepare(void *backend, const struct tg_series_desc *mapped, struct tg_buf *out,
                            struct tg_err *err)
{
    struct tg_backend *b = backend;
    struct tg_buf plain;
    tg_buf_init(&plain, out->max_bytes);
    enum tg_code code = tg_influx_prepare(mapped, &plain, err);
    if (code == TG_OK) code = tg_http_backend_pack(&b->http, &plain, tag_len, out, err);
    tg_buf_deinit(&plain);
    return code;
}

static enum tg_code forms(void *backend, const struct tg_series_desc *mapped,
                          struct tg_buf *scratch, struct tg_form *out, unsigned *n)
{
    (void)backend;
    *n = 0;
    tg_buf_reset(scratch);
    TG_TRY(tg_influx_prepare(mapped, scratch, NULL));
    return tg_influx_forms(mapped, scratch, out, n);
}

static enum tg_code append(void *backend, const struct tg_delivery_point *p, struct tg_buf *out,
                           struct tg_err *err)
{
    struct tg_backend *b = backend;
    const enum tg_code code =
        tg_influx_append_point(p->prepared, p->prepared_len, p->point, b->flags, out, err);
    if (code == TG_OK && (p->point->exemplars || p->point->type >= TG_VALUE_HISTOGRAM))
        tg_influx_left_out(p->point, &b->http.left_out);
    return code;
}

static bool has_form(struct tg_backend *b, const struct tg_point *p)
{
    const struct tg_series_desc like = {.name = "x",
                                        .name_len = 1,
                                        .unit = "",
                                        .kind = p->series->kind,
                                        .temporality = p->series->temporality};
    struct tg_buf prepared, line;
    tg_buf_init(&prepared, 0);
    tg_buf_init(&line, b->http.max_request_bytes);
    enum tg_code code = tg_influx_prepare(&like, &prepared, NULL);
    if (code == TG_OK)
        code = tg_influx_append_point(prepared.data, prepared.len, p, b->flags, &line, NULL);
    tg_buf_deinit(&line);
    tg_buf_deinit(&prepared);
    return code != TG_ERR_UNSUPPORTED;
}

static void write_points(struct tg_backend *b, const struct tg_delivery *d, tg_on_write on_write,
                         void *arg)
{
    struct tg_http_backend *h = &b->http;
    struct tg_err err = {0};
    if (tg_http_backend_begin(h, d->n_points, on_write, arg) != TG_OK) {
        tg_http_backend_end_later(h, TG_WRITE_RETRY, "no memory for the request");
        return;
    }
    if (!tg_http_backend_encode(h, d, append, b, &b->lines)) return;
    struct tg_http_client_header headers[2] = {{"Content-Type", "text/plain; charset=utf-8"}};
    size_t n_headers = 1;
    const struct tg_buf *body = &b->lines;
    if (b->is_gzip) {
        tg_buf_reset(&b->packed);
        if (tg_compress_encode(&b->compress, TG_ENCODING_GZIP, b->lines.data, b->lines.len,
                               &b->packed, &err) != TG_OK) {
            tg_http_backend_end_later(h, TG_WRITE_RETRY, err.msg);
            return;
        }
        headers[n_headers++] = (struct tg_http_client_header){"Content-Encoding", "gzip"};
        body = &b->packed;
    }
    tg_http_backend_post(h, (const char *)b->url.data, headers, n_headers, body);
}

static void cancel(struct tg_backend *b)
{
    tg_http_backend_cancel(&b->http);
}

static void health(struct tg_backend *b, tg_on_health on_health, void *arg)
{
    tg_http_backend_health(&b->http, b->http.base, b->database ? "/ping" : "/health",
                           b->database ? "/health" : "/ping", false, on_health, arg);
}

static void query_range(struct tg_backend *b, const struct tg_query *q, tg_on_row on_row,
                        tg_on_query_end on_end, void *arg)
{
    if (b->database) {
        tg_influxdb_query(&b->http, b->database, b->retention_policy, q, on_row, on_end, arg);
        return;
    }
    struct tg_err err = {0};
    (void)tg_fail(&err, TG_ERR_UNSUPPORTED,
                  "queries go to InfluxDB 1 only (database); ask InfluxDB 2 with Flux, "
                  "or another backend");
    on_end(arg, err.code, &err);
}

const struct tg_backend_ops tg_backend_influxdb = {
    .type = "influxdb",
    .options = options,
    .max_points = 10000,
    .open = open_it,
    .prepare = prepare,
    .forms = forms,
    .has_form = has_form,
    .write = write_points,
    .cancel = cancel,
    .health = health,
    .query_range = query_range,
    .close = close_it,
};
