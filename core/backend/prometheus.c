/* Prometheus remote write 1.0 with snappy: Prometheus, VictoriaMetrics and whatever takes it.
 *
 * Source: "Prometheus Remote-Write 1.0 specification", section "Protocol".
 *
 * Writing again (a retry after an answer that got lost): VictoriaMetrics keeps duplicates unless
 * told to drop them (-dedup.minScrapeInterval). Prometheus accepts the newest sample of a series a
 * second time, but older ones only with `storage.tsdb.out_of_order_time_window` set, and then
 * stores them once; without it they are refused as out of order and become dead letters although
 * they are stored (seen with 2.42, which also stores nothing of a request it refuses). */
#include <string.h>

#include "core/backend/http_common.h"
#include "core/backend/prometheus_query.h"
#include "core/base/mem.h"
#include "core/codec/compress.h"
#include "core/codec/prom_name.h"
#include "core/codec/remote_write.h"
#include "core/net/http_url.h"

struct tg_backend {
    struct tg_backend_http http;
    char *query_base; /* NULL: not known */
    struct tg_prom_names names;
    struct tg_buf message, packed;
    struct tg_compress compress;
};

static const char write_path[] = "/api/v1/write";

static const struct tg_option_spec options[] = {
    TG_BACKEND_HTTP_OPTIONS("the write endpoint, e.g. http://127.0.0.1:9090/api/v1/write"),
    {.name = "query_url",
     .type = TG_OPT_STRING,
     .help = "what comes before /api/v1/query; default: url without /api/v1/write"},
    {.name = "names",
     .type = TG_OPT_ENUM,
     .def = "utf8",
     .choices = "utf8|escaped",
     .help =
         "metric and label names of remote write and Influx senders: kept as they are (Prometheus "
         "3, VictoriaMetrics), or escaped for Prometheus 2: one `_` for each character but "
         "letters, digits, `_` and `:`"},
    {.name = "translation_strategy",
     .type = TG_OPT_ENUM,
     .def = "UnderscoreEscapingWithSuffixes",
     .choices = "UnderscoreEscapingWithSuffixes|UnderscoreEscapingWithoutSuffixes|"
                "NoUTF8EscapingWithSuffixes|NoTranslation",
     .help = "names of OTLP senders, as Prometheus' own setting of that name"},
    {.name = NULL},
};

/* The strategies' names are made of what they do. */
static enum tg_code read_names(struct tg_backend *b, const struct tg_options *o, struct tg_err *err)
{
    const char *strategy = tg_options_str(o, "translation_strategy");
    b->names = (struct tg_prom_names){
        .is_utf8 = strcmp(tg_options_str(o, "names"), "utf8") == 0,
        .is_otlp_utf8 = strncmp(strategy, "No", 2) == 0,
        .has_otlp_suffixes = strstr(strategy, "WithSuffixes") != NULL,
    };
    if (b->names.is_otlp_utf8 && !b->names.is_utf8)
        return tg_fail(err, TG_ERR_INVALID,
                       "names = \"escaped\" contradicts translation_strategy = \"%s\", which keeps "
                       "UTF-8; write names = \"utf8\", or a strategy with UnderscoreEscaping",
                       strategy);
    return TG_OK;
}

static void close_it(struct tg_backend *b)
{
    if (!b) return;
    tg_backend_http_deinit(&b->http);
    tg_buf_deinit(&b->message);
    tg_buf_deinit(&b->packed);
    tg_compress_deinit(&b->compress);
    tg_free(b->query_base);
    tg_free(b);
}

static enum tg_code make_query_base(struct tg_backend *b, const char *query_url, struct tg_err *err)
{
    const char *from = query_url ? query_url : b->http.base;
    size_t len = strlen(from);
    while (len > 0 && from[len - 1] == '/') len--;
    if (!query_url) {
        const size_t cut = sizeof(write_path) - 1;
        if (len <= cut || memcmp(from + len - cut, write_path, cut) != 0) return TG_OK;
        len -= cut;
    } else {
        TG_TRY(tg_http_url_check(query_url, "query_url", err));
    }
    b->query_base = tg_strndup(from, len);
    return b->query_base ? TG_OK
                         : tg_fail(err, TG_ERR_NOMEM, "no memory for backend %s", b->http.name);
}

/* What Prometheus says with status 500, again at every retry: one such point would hold up all that
 * come after it. Newer versions say it with 400. */
static const char *const refused_words[] = {
    "native histograms are disabled",
    "too old sample", /* older than storage.tsdb.out_of_order_time_window */
    NULL,
};

static enum tg_code open_it(const struct tg_backend_open *how, struct tg_backend **out,
                            struct tg_err *err)
{
    *out = NULL;
    struct tg_backend *b = tg_calloc(1, sizeof(*b));
    if (!b) return tg_fail(err, TG_ERR_NOMEM, "no memory for backend %s", how->name);
    tg_compress_init(&b->compress);
    enum tg_code code = tg_backend_http_init(&b->http, how, "Bearer", err);
    b->http.refused_words = refused_words;
    if (code == TG_OK) {
        tg_buf_init(&b->message, b->http.max_request_bytes);
        /* snappy's worst case: 32 + len + len / 6 */
        tg_buf_init(&b->packed, b->http.max_request_bytes / 6 * 7 + 4096);
        code = make_query_base(b, tg_options_str(how->options, "query_url"), err);
    }
    if (code == TG_OK) code = read_names(b, how->options, err);
    if (code == TG_OK && !strchr(strstr(b->http.base, "://") + 3, '/'))
        code = tg_fail(err, TG_ERR_INVALID, "url has no path; remote write is usually at %s%s",
                       b->http.base, write_path);
    if (code != TG_OK) {
        close_it(b);
        return code;
    }
    *out = b;
    return TG_OK;
}

/* The form of the series, then label by label; what has histograms is not cut further. */
static size_t label_len(const uint8_t *begin, const uint8_t *at, const uint8_t *end)
{
    enum { COMPOSITE = 1, SUMMARY = 3 };
    const unsigned form = *begin & 0x7f;
    if (at == begin) return form == COMPOSITE || form == SUMMARY ? (size_t)(end - at) : 1;
    const uint8_t *p = at + 1; /* the field's tag */
    uint64_t len;
    if (!tg_varint_get(&p, end, &len) || len > (uint64_t)(end - p)) return (size_t)(end - at);
    return (size_t)(p - at) + (size_t)len;
}

static enum tg_code prepare(void *backend, const struct tg_series_desc *mapped, struct tg_buf *out,
                            struct tg_err *err)
{
    struct tg_backend *b = backend;
    struct tg_buf plain;
    tg_buf_init(&plain, out->max_bytes);
    enum tg_code code = tg_rw_prepare(mapped, &b->names, &plain, err);
    if (code == TG_OK) code = tg_backend_http_pack(&b->http, &plain, label_len, out, err);
    tg_buf_deinit(&plain);
    return code;
}

static enum tg_code append(const struct tg_delivery_point *p, unsigned flags, struct tg_buf *out,
                           struct tg_err *err)
{
    (void)flags;
    const enum tg_code code = tg_rw_append_point(out, p->prepared, p->prepared_len, p->point);
    if (code == TG_ERR_UNSUPPORTED)
        return tg_fail(err, code,
                       "remote write has no form for this value (text, or a value that does not "
                       "fit the series' kind)");
    return code;
}

static void write_points(struct tg_backend *b, const struct tg_delivery *d, tg_on_write on_write,
                         void *arg)
{
    static const struct tg_http_client_header headers[] = {
        {"Content-Type", "application/x-protobuf"},
        {"Content-Encoding", "snappy"},
        {"X-Prometheus-Remote-Write-Version", "0.1.0"},
    };
    struct tg_backend_http *h = &b->http;
    struct tg_err err = {0};
    if (tg_backend_http_begin(h, d->n_points, on_write, arg) != TG_OK) {
        tg_backend_http_end_later(h, TG_WRITE_RETRY, "no memory for the request");
        return;
    }
    if (!tg_backend_http_encode(h, d, append, 0, &b->message)) return;
    tg_buf_reset(&b->packed);
    if (tg_compress_encode(&b->compress, TG_ENCODING_SNAPPY, b->message.data, b->message.len,
                           &b->packed, &err) != TG_OK) {
        tg_backend_http_end_later(h, TG_WRITE_RETRY, err.msg);
        return;
    }
    tg_backend_http_post(h, h->base, headers, sizeof(headers) / sizeof(headers[0]), &b->packed);
}

static void cancel(struct tg_backend *b)
{
    tg_backend_http_cancel(&b->http);
}

static void health(struct tg_backend *b, tg_on_health on_health, void *arg)
{
    /* A receiver whose base we do not know is asked at the write path itself: a GET there is
     * refused, but by somebody. */
    if (b->query_base)
        tg_backend_http_health(&b->http, b->query_base, "/-/healthy", "/health", false, on_health,
                               arg);
    else
        tg_backend_http_health(&b->http, b->http.base, "", NULL, true, on_health, arg);
}

static void query_range(struct tg_backend *b, const struct tg_query *q, tg_on_row on_row,
                        tg_on_query_end on_end, void *arg)
{
    if (b->query_base) {
        tg_prometheus_query(&b->http, b->query_base, &b->names, q, on_row, on_end, arg);
        return;
    }
    struct tg_err err = {0};
    (void)tg_fail(&err, TG_ERR_UNSUPPORTED,
                  "url does not end in %s, so set query_url to what comes before "
                  "/api/v1/query",
                  write_path);
    on_end(arg, err.code, &err);
}

const struct tg_backend_ops tg_backend_prometheus = {
    .type = "prometheus",
    .options = options,
    .max_points = 10000,
    .open = open_it,
    .prepare = prepare,
    .write = write_points,
    .cancel = cancel,
    .health = health,
    .query_range = query_range,
    .close = close_it,
};
