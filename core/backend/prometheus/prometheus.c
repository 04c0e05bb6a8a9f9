/* Prometheus remote write 1.0 with snappy: Prometheus, VictoriaMetrics and whatever takes it.
 *
 * Source: "Prometheus Remote-Write 1.0 specification", section "Protocol".
 *
 * A request holds its points series by series, oldest first, as the specification wants them, and
 * is written as snappy at once (remote_write_body.h). One that is refused is bisected in log order.
 *
 * Writing again (a retry after an answer that got lost): VictoriaMetrics keeps duplicates unless
 * told to drop them (-dedup.minScrapeInterval). Prometheus accepts the newest sample of a series a
 * second time, but older ones only with `storage.tsdb.out_of_order_time_window` set, and then
 * stores them once; without it they are refused as out of order and become dead letters although
 * they are stored (seen with 2.42, which also stores nothing of a request it refuses). */
#include <stdio.h>
#include <string.h>

#include "core/backend/http/http_backend.h"
#include "core/backend/point_groups.h"
#include "core/backend/prometheus/prometheus_about.h"
#include "core/backend/prometheus/prometheus_query.h"
#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/net/http_url.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/prom_resource.h"
#include "core/protocol/remote_write.h"

struct tg_backend {
    struct tg_http_backend http;
    char *query_base;  /* NULL: not known */
    char *health_base; /* that, or what comes before the path of the url */
    struct tg_prom_names names;
    struct tg_prom_resource resource;
    bool has_metadata;
    struct tg_prom_about about;
    bool has_said_refused, has_said_too_large; /* of what is told beside the points */
    /* The write in progress, and its result while the rest is told. */
    tg_on_write on_write;
    void *arg;
    struct tg_write_result result;
    bool is_canceled;
    struct tg_point_groups groups;
    struct tg_remote_write_body body;
    struct tg_buf packed;      /* the body */
    struct tg_buf is_left_out; /* bool: points of a group */
    struct tg_buf scratch;
};

static const char write_path[] = "/api/v1/write";
enum { TOLD_TIMEOUT_MS = 5000 };

static const struct tg_option_spec options[] = {
    TG_HTTP_BACKEND_OPTIONS("the write endpoint, e.g. http://127.0.0.1:9090/api/v1/write", "50000"),
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
    {.name = "resource_attributes",
     .type = TG_OPT_ENUM,
     .def = "target_info",
     .choices = "target_info|labels",
     .help =
         "attributes of OTLP resources: job, instance and a series target_info, as the "
         "OpenTelemetry specification says (where there is a service.instance.id, else labels); "
         "or labels of every series, beside job and instance"},
    {.name = "promote_resource_attributes",
     .type = TG_OPT_STRING,
     .help = "attributes that are labels of every series, too, e.g. \"k8s.namespace.name, "
             "host.name\""},
    {.name = "scope_labels",
     .type = TG_OPT_BOOL,
     .def = "true",
     .help = "name, version, schema URL and attributes of OTLP scopes as labels otel_scope_..."},
    {.name = "metadata",
     .type = TG_OPT_BOOL,
     .def = "true",
     .help = "send TYPE, HELP and UNIT of the metrics of OTLP and remote write senders"},
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
    tg_http_backend_deinit(&b->http);
    tg_buf_deinit(&b->packed);
    tg_buf_deinit(&b->is_left_out);
    tg_remote_write_body_deinit(&b->body);
    tg_point_groups_deinit(&b->groups);
    tg_buf_deinit(&b->scratch);
    tg_prom_about_deinit(&b->about);
    tg_free(b->query_base);
    tg_free(b->health_base);
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

/* Never the write path: receivers count and log what comes there. */
static enum tg_code make_health_base(struct tg_backend *b, struct tg_err *err)
{
    const char *from = b->query_base ? b->query_base : b->http.base;
    const char *host = strstr(from, "://") + 3;
    const size_t len = b->query_base ? strlen(from) : (size_t)(host - from) + strcspn(host, "/");
    b->health_base = tg_strndup(from, len);
    return b->health_base ? TG_OK
                          : tg_fail(err, TG_ERR_NOMEM, "no memory for backend %s", b->http.name);
}

/* What Prometheus says with status 500, again at every retry: one such point would hold up all that
 * come after it. Newer versions say it with 400. */
static const char *const refused_words[] = {
    "native histograms are disabled",
    "too old sample", /* older than storage.tsdb.out_of_order_time_window */
    /* what is wrong with a native histogram itself (model/histogram) */
    "observations found in buckets, but the Count field is",
    "histogram's observation count ",
    "histogram has a bucket whose observation count is negative",
    "histogram has a span whose offset is negative",
    "histogram spans specify different number of buckets than provided",
    "histogram custom bounds ",
    "histogram with exponential schema must not have custom bounds",
    "custom buckets: must ",
    "histogram has an invalid schema",
    "histogram has an unknown schema",
    NULL,
};

static enum tg_code open_it(const struct tg_backend_open *how, struct tg_backend **out,
                            struct tg_err *err)
{
    *out = NULL;
    struct tg_backend *b = tg_calloc(1, sizeof(*b));
    if (!b) return tg_fail(err, TG_ERR_NOMEM, "no memory for backend %s", how->name);
    tg_point_groups_init(&b->groups);
    tg_remote_write_body_init(&b->body, NULL); /* its parts come with http */
    tg_buf_init(&b->packed, 0); /* bounded by what it stands for, max_request_bytes */
    tg_buf_init(&b->is_left_out, 0);
    b->resource = (struct tg_prom_resource){
        .as_labels = strcmp(tg_options_str(how->options, "resource_attributes"), "labels") == 0,
        .no_scope = tg_options_num(how->options, "scope_labels") == 0,
        .promoted = tg_options_str(how->options, "promote_resource_attributes"),
    };
    b->has_metadata = tg_options_num(how->options, "metadata") != 0;
    enum tg_code code = tg_http_backend_init(&b->http, how, "Bearer", err);
    b->http.refused_words = refused_words;
    if (code == TG_OK) {
        tg_buf_init(&b->scratch, b->http.max_request_bytes);
        b->body.shared_parts = b->http.shared_parts;
        tg_prom_about_init(&b->about, b->http.shared_parts, b->http.max_request_bytes);
        code = make_query_base(b, tg_options_str(how->options, "query_url"), err);
    }
    if (code == TG_OK) code = read_names(b, how->options, err);
    if (code == TG_OK) code = make_health_base(b, err);
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

static enum tg_code put_notes(const struct tg_backend *b, const struct tg_prom_split *split,
                              struct tg_buf *scratch, struct tg_buf *out, struct tg_err *err)
{
    if (split->has_target) {
        tg_buf_reset(scratch);
        TG_TRY(tg_remote_write_prepare(&split->target, &b->names, NULL, scratch, err));
        TG_TRY(tg_prom_note_put(out, b->http.shared_parts, TG_PROM_NOTE_TARGET, scratch->data,
                                scratch->len));
    }
    if (!b->has_metadata || !(tg_prom_is_otlp(&split->points) || split->points.has_family))
        return TG_OK;
    tg_buf_reset(scratch);
    TG_TRY(tg_prom_metadata_put(scratch, &split->points, &b->names, err));
    return tg_prom_note_put(out, b->http.shared_parts, TG_PROM_NOTE_METADATA, scratch->data,
                            scratch->len);
}

static enum tg_code prepare(void *backend, const struct tg_series_desc *mapped, struct tg_buf *out,
                            struct tg_err *err)
{
    struct tg_backend *b = backend;
    struct tg_buf scratch;
    struct tg_arena arena;
    struct tg_prom_split split;
    const size_t start = out->len;
    tg_buf_init(&scratch, out->max_bytes);
    tg_arena_init(&arena, 0);
    enum tg_code code = tg_prom_resource_split(mapped, &b->resource, &arena, &split);
    if (code == TG_OK) code = put_notes(b, &split, &scratch, out, err);
    if (code == TG_OK)
        code = tg_remote_write_prepare(&split.points, &b->names, b->http.shared_parts, out, err);
    if (code == TG_ERR_NOMEM || code == TG_ERR_TOO_LARGE)
        (void)tg_fail(err, code, "no room for the labels of a series");
    if (code != TG_OK) out->len = start;
    tg_arena_deinit(&arena);
    tg_buf_deinit(&scratch);
    return code;
}

static enum tg_code forms(void *backend, const struct tg_series_desc *mapped,
                          struct tg_buf *scratch, struct tg_form *out, unsigned *n)
{
    struct tg_backend *b = backend;
    struct tg_arena arena;
    struct tg_prom_split split;
    *n = 0;
    tg_buf_reset(scratch);
    tg_arena_init(&arena, 0);
    enum tg_code code = tg_prom_resource_split(mapped, &b->resource, &arena, &split);
    if (code == TG_OK)
        code = tg_remote_write_prepare(&split.points, &b->names, NULL, scratch, NULL);
    /* Who it is goes by the labels, too: what a restart changes in its resource and target_info
     * holds makes no other series of it. */
    if (code == TG_OK)
        code = tg_remote_write_forms(&split.points, scratch->data, (uint32_t)scratch->len, out, n);
    tg_arena_deinit(&arena);
    return code;
}

/* The points of one series. */
static enum tg_code add_group(struct tg_backend *b, const struct tg_delivery *d, uint32_t i)
{
    struct tg_point_groups *g = &b->groups;
    const struct tg_point_group *group = &g->groups[i];
    const uint8_t *at = group->prepared;
    const uint8_t *const end = at + group->prepared_len;
    TG_TRY(tg_point_groups_take(g, d, i));
    struct tg_prom_note note;
    while (tg_prom_note_next(b->http.shared_parts, &at, end, &note))
        for (uint32_t k = 0; k < group->n; k++)
            if (g->points[k]->type != TG_VALUE_NONE)
                tg_prom_about_see(&b->about, &note, g->points[k]->ts_ns);
    tg_buf_reset(&b->is_left_out);
    TG_TRY(tg_buf_reserve(&b->is_left_out, group->n * sizeof(bool)));
    bool *is_left_out = (bool *)b->is_left_out.data;
    const uint32_t len = (uint32_t)(end - at);
    TG_TRY(tg_remote_write_body_add(&b->body, at, len, g->points, group->n, is_left_out));
    for (uint32_t k = 0; k < group->n; k++) {
        if (is_left_out[k])
            tg_http_backend_leave_out(&b->http, g->numbers[k]);
        else if (g->points[k]->exemplars)
            TG_TRY(tg_remote_write_left_out(at, len, g->points[k], &b->scratch, &b->http.left_out));
    }
    return TG_OK;
}

static enum tg_code encode(struct tg_backend *b, const struct tg_delivery *d)
{
    enum { AHEAD = 4, LINE = 64 };
    struct tg_point_groups *g = &b->groups;
    for (uint32_t i = 0; i < d->n_points; i++)
        if (!d->points[i].prepared)
            tg_http_backend_skip(&b->http, i, "the series was not prepared");
    TG_TRY(tg_point_groups_make(g, d));
    TG_TRY(tg_remote_write_body_begin(&b->body, &b->packed, b->http.max_request_bytes, true));
    for (uint32_t i = 0; i < g->n_groups; i++) {
        if (i + AHEAD < g->n_groups) {
            __builtin_prefetch(g->groups[i + AHEAD].prepared);
            __builtin_prefetch(g->groups[i + AHEAD].prepared + LINE);
        }
        TG_TRY(add_group(b, d, i));
    }
    return TG_OK;
}

static bool has_form(struct tg_backend *b, const struct tg_point *p)
{
    const struct tg_series_desc like = {.name = "x",
                                        .name_len = 1,
                                        .unit = "",
                                        .kind = p->series->kind,
                                        .temporality = p->series->temporality};
    struct tg_buf prepared, message;
    tg_buf_init(&prepared, 0);
    tg_buf_init(&message, b->http.max_request_bytes);
    enum tg_code code = tg_remote_write_prepare(&like, &b->names, NULL, &prepared, NULL);
    if (code == TG_OK)
        code = tg_remote_write_append_point(&message, prepared.data, (uint32_t)prepared.len, p);
    tg_buf_deinit(&message);
    tg_buf_deinit(&prepared);
    return code != TG_ERR_UNSUPPORTED;
}

static const struct tg_http_client_header headers[] = {
    {"Content-Type", "application/x-protobuf"},
    {"Content-Encoding", "snappy"},
    {"X-Prometheus-Remote-Write-Version", "0.1.0"},
};
enum { N_HEADERS = sizeof(headers) / sizeof(headers[0]) };

/* At most once a minute, as there is no attempt before that. */
static void pause_telling(struct tg_backend *b, const char *why)
{
    tg_warn("delivery",
            "%s: target_info and metadata are not delivered: %s; they wait for a minute, points "
            "are delivered",
            b->http.name, why);
    tg_prom_about_failed(&b->about, tg_clock_mono_ms());
}

static void warn_too_large(struct tg_backend *b)
{
    if (!b->about.too_large || b->has_said_too_large) return;
    tg_warn("delivery",
            "%s: a target_info or metadata of %u bytes is left out, as it does not fit a request "
            "(max_request_bytes = %zu); points are delivered",
            b->http.name, b->about.too_large, b->http.max_request_bytes);
    b->has_said_too_large = true;
}

/* Some refusals of Prometheus come with status 500 (see refused_words). */
static bool is_refusal(const struct tg_http_result *r)
{
    if (r->status == 408 || r->status == 429) return false;
    if (r->status >= 400 && r->status < 500) return true;
    if (r->status < 500 || !r->body) return false;
    for (const char *const *words = refused_words; *words; words++)
        if (strstr((const char *)r->body, *words)) return true;
    return false;
}

/* Whatever came of it: the points are there. */
static void on_told(void *backend, const struct tg_http_result *r)
{
    struct tg_backend *b = backend;
    const bool has_status = r->code == TG_OK || r->code == TG_ERR_TOO_LARGE;
    const bool is_refused = has_status && is_refusal(r);
    if (is_refused && !b->has_said_refused) {
        char words[200];
        tg_info("delivery",
                "%s: target_info or metadata refused, points are not concerned: HTTP %d: %s",
                b->http.name, r->status, tg_http_backend_words(words, sizeof(words), r));
        b->has_said_refused = true;
    }
    /* What is refused now (older than what is there) would be so again. */
    if (is_refused || (has_status && r->status >= 200 && r->status < 300)) {
        tg_prom_about_sent(&b->about);
    } else if (!b->is_canceled) {
        struct tg_err err = {0};
        (void)tg_http_backend_failure(r, &err);
        pause_telling(b, err.msg);
    }
    b->on_write(b->arg, &b->result);
}

/* What is sent of the body; borrows b->packed. */
static struct tg_buf end_body(struct tg_backend *b)
{
    const size_t skip = tg_remote_write_body_end(&b->body);
    return (struct tg_buf){.data = b->packed.data + skip, .len = b->packed.len - skip};
}

/* Sends what is due beside the points. false: nothing was sent. */
static bool tell_the_rest(struct tg_backend *b)
{
    struct tg_err err = {.msg = "no memory for the request"};
    warn_too_large(b);
    if (b->about.n_due == 0 || b->is_canceled) return false;
    const uint32_t timeout_ms =
        b->http.timeout_ms < TOLD_TIMEOUT_MS ? b->http.timeout_ms : TOLD_TIMEOUT_MS;
    if (tg_remote_write_body_begin(&b->body, &b->packed, b->http.max_request_bytes, true) ==
            TG_OK &&
        tg_prom_about_encode(&b->about, &b->body) == TG_OK) {
        const struct tg_buf body = end_body(b);
        if (tg_http_backend_send(&b->http, b->http.base, headers, N_HEADERS, &body, timeout_ms,
                                 on_told, b, &err) == TG_OK)
            return true;
    }
    pause_telling(b, err.msg);
    return false;
}

static void on_points(void *backend, const struct tg_write_result *r)
{
    struct tg_backend *b = backend;
    b->result = *r;
    if (r->outcome == TG_WRITE_OK && tell_the_rest(b)) return;
    b->on_write(b->arg, &b->result);
}

static void write_points(struct tg_backend *b, const struct tg_delivery *d, tg_on_write on_write,
                         void *arg)
{
    struct tg_http_backend *h = &b->http;
    b->on_write = on_write;
    b->arg = arg;
    b->is_canceled = false;
    tg_prom_about_begin(&b->about, tg_clock_mono_ms());
    if (tg_http_backend_begin(h, d->n_points, on_points, b) != TG_OK) {
        tg_http_backend_end_later(h, TG_WRITE_RETRY, "no memory for the request");
        return;
    }
    const enum tg_code code = encode(b, d);
    if (code != TG_OK) {
        tg_http_backend_end_unencoded(h, d->n_points, code);
    } else if (tg_remote_write_body_is_empty(&b->body)) {
        tg_http_backend_end_later(h, TG_WRITE_OK, "");
    } else {
        const struct tg_buf body = end_body(b);
        tg_http_backend_post(h, h->base, headers, N_HEADERS, &body);
    }
}

static void cancel(struct tg_backend *b)
{
    b->is_canceled = true; /* points that were taken all the same are not followed by the rest */
    tg_http_backend_cancel(&b->http);
    tg_http_client_cancel(b->http.client, b);
}

static void health(struct tg_backend *b, tg_on_health on_health, void *arg)
{
    /* Of a receiver that we know nothing of, any answer is one. */
    tg_http_backend_health(&b->http, b->health_base, "/-/healthy", "/health", !b->query_base,
                           on_health, arg);
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
    .max_points = 50000,
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
