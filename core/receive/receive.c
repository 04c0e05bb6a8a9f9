#include "core/receive/receive.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/codec/compress.h"
#include "core/net/http_site.h"

enum {
    MAX_SCRATCH_BYTES = 64 << 20, /* miss decoding of one request */
    MAX_BATCH_ARENA_BYTES = 256 << 20,
    KEEP_BODY_BYTES =
        4 << 20, /* a decompression buffer larger than this is given back after the request */
    MAX_FREE_INGESTS = 64,
};

struct tg_receiver {
    struct tg_receiver_config config;
    struct tg_arena arena; /* request lifetime */
    struct tg_buf plain;   /* decompressed body; request lifetime */
    struct tg_compress codec;
    struct tg_ingest *free_list;
    unsigned n_free;
    char retry_after[12];
    int64_t start_ns; /* wall clock */
};

static const struct tg_protocol *const protocols[TG_PROTOCOLS] = {
    &tg_protocol_otlp,
    &tg_protocol_remote_write,
    &tg_protocol_influx,
};

struct tg_receive_metrics tg_receive_metrics;

static void register_metadata(struct tg_metric *m, const char *protocol)
{
    static const char *const reasons[] = {NULL, "invalid", "other_text", "full"};
    _Static_assert(sizeof(reasons) / sizeof(reasons[0]) == TG_HELP_FULL + 1, "a word each");
    tg_metric_register(&m[TG_HELP_NOTED], TG_METRIC_COUNTER, "tidegate_receive_metadata_total",
                       "Descriptions of metrics that were taken.", "protocol=\"%s\"", protocol);
    for (int k = TG_HELP_NOTED + 1; k <= TG_HELP_FULL; k++)
        tg_metric_register(&m[k], TG_METRIC_COUNTER, "tidegate_receive_metadata_dropped_total",
                           "Descriptions of metrics that were not.",
                           "protocol=\"%s\",reason=\"%s\"", protocol, reasons[k]);
}

void tg_receive_metrics_register(void)
{
    struct tg_receive_metrics *m = &tg_receive_metrics;
    for (int i = 0; i < TG_PROTOCOLS; i++) {
        const char *name = protocols[i]->name;
        tg_metric_register(&m->requests[i], TG_METRIC_COUNTER, "tidegate_receive_requests_total",
                           "Requests that arrived whole.", "protocol=\"%s\"", name);
        tg_metric_register(&m->points[i], TG_METRIC_COUNTER, "tidegate_receive_points_total",
                           "Points decoded and accepted.", "protocol=\"%s\"", name);
        tg_metric_register(&m->rejected[i], TG_METRIC_COUNTER,
                           "tidegate_receive_points_rejected_total",
                           "Points refused as bad input or over a limit.", "protocol=\"%s\"", name);
        tg_metric_register(&m->bytes[i], TG_METRIC_COUNTER, "tidegate_receive_body_bytes_total",
                           "Body bytes as sent.", "protocol=\"%s\"", name);
        static const char dropped[] = "tidegate_receive_exemplars_dropped_total";
        static const char dropped_help[] = "Exemplars left out of points that were accepted.";
        tg_metric_register(&m->exemplars_invalid[i], TG_METRIC_COUNTER, dropped, dropped_help,
                           "protocol=\"%s\",reason=\"invalid\"", name);
        tg_metric_register(&m->exemplars_memory[i], TG_METRIC_COUNTER, dropped, dropped_help,
                           "protocol=\"%s\",reason=\"memory\"", name);
        register_metadata(m->metadata[i], name);
        for (int c = TG_CLASS_INPUT; c <= TG_CLASS_FATAL; c++)
            tg_metric_register(
                &m->refused[i][c - 1], TG_METRIC_COUNTER, "tidegate_receive_requests_refused_total",
                "Requests answered with an error (4xx or 5xx), by class.",
                "protocol=\"%s\",class=\"%s\"", name, tg_class_name((enum tg_class)c));
    }
    tg_metric_register(&m->misses, TG_METRIC_COUNTER, "tidegate_receive_raw_key_misses_total",
                       "Points whose raw key was not known: labels had to be decoded.", NULL);
    tg_metric_register(
        &m->attributes_twice, TG_METRIC_COUNTER, "tidegate_receive_attributes_dropped_total",
        "Attributes that gave way to another of their key, with new series.", "protocol=\"otlp\"");
}

void tg_receive_metrics_unregister(void)
{
    struct tg_receive_metrics *m = &tg_receive_metrics;
    for (int i = 0; i < TG_PROTOCOLS; i++) {
        tg_metric_unregister(&m->requests[i]);
        tg_metric_unregister(&m->points[i]);
        tg_metric_unregister(&m->rejected[i]);
        tg_metric_unregister(&m->bytes[i]);
        tg_metric_unregister(&m->exemplars_invalid[i]);
        tg_metric_unregister(&m->exemplars_memory[i]);
        for (int k = 0; k <= TG_HELP_FULL; k++) tg_metric_unregister(&m->metadata[i][k]);
        for (int c = 0; c < 6; c++) tg_metric_unregister(&m->refused[i][c]);
    }
    tg_metric_unregister(&m->misses);
    tg_metric_unregister(&m->attributes_twice);
}

static size_t protocol_index(const struct tg_protocol *p)
{
    size_t i = 0;
    while (i + 1 < TG_PROTOCOLS && protocols[i] != p) i++;
    return i;
}

static void count_refused(const struct tg_protocol *p, enum tg_class cls)
{
    tg_metric_add(&tg_receive_metrics.refused[protocol_index(p)][cls - 1], 1);
}

/* Of an answer that no code of ours stands behind. */
static enum tg_class class_of_status(int status)
{
    return status >= 500 || status == 429 ? TG_CLASS_FULL
           : status == 413                ? TG_CLASS_TOO_LARGE
                                          : TG_CLASS_INPUT;
}

struct tg_receiver *tg_receiver_new(const struct tg_receiver_config *config)
{
    struct tg_receiver *r = tg_calloc(1, sizeof(*r));
    if (!r) return NULL;
    r->config = *config;
    r->start_ns = tg_clock_wall_ns();
    (void)snprintf(r->retry_after, sizeof(r->retry_after), "%u",
                   config->retry_after_s ? config->retry_after_s : 5U);
    tg_arena_init(&r->arena, MAX_SCRATCH_BYTES);
    tg_buf_init(&r->plain, config->max_decompressed_bytes);
    tg_compress_init(&r->codec);
    return r;
}

void tg_receiver_free(struct tg_receiver *r)
{
    if (!r) return;
    while (r->free_list) {
        struct tg_ingest *in = r->free_list;
        r->free_list = in->next_free;
        tg_batch_deinit(&in->batch);
        tg_free(in);
    }
    tg_compress_deinit(&r->codec);
    tg_buf_deinit(&r->plain);
    tg_arena_deinit(&r->arena);
    tg_free(r);
}

/* A recycled ingest keeps its batch's capacity; a batch enters the guard only while it is in use.
 */
static struct tg_ingest *take_ingest(struct tg_receiver *r)
{
    struct tg_ingest *in = r->free_list;
    struct tg_deferred_free *guard = tg_table_guard(r->config.table);
    if (in) {
        r->free_list = in->next_free;
        r->n_free--;
        in->batch.guard = guard;
        in->batch.ticket = tg_deferred_free_enter(guard);
        return in;
    }
    in = tg_calloc(1, sizeof(*in));
    if (!in) return NULL;
    in->receiver = r;
    tg_batch_init(&in->batch, guard, 0, MAX_BATCH_ARENA_BYTES);
    return in;
}

static void give_back_ingest(struct tg_receiver *r, struct tg_ingest *in)
{
    tg_batch_reset(&in->batch);
    if (r->n_free >= MAX_FREE_INGESTS) {
        tg_batch_deinit(&in->batch);
        tg_free(in);
        return;
    }
    if (in->batch.guard) tg_deferred_free_exit(in->batch.guard, in->batch.ticket);
    in->batch.guard = NULL;
    in->req = NULL;
    in->next_free = r->free_list;
    r->free_list = in;
    r->n_free++;
}

static const struct tg_protocol *find_protocol(const char *path)
{
    for (size_t i = 0; i < TG_PROTOCOLS; i++)
        for (const char *const *p = protocols[i]->paths; *p; p++)
            if (strcmp(path, *p) == 0) return protocols[i];
    return NULL;
}

/* Points *body and *len at the plain bytes: the request's own, or r->plain. */
static enum tg_code decompress(struct tg_receiver *r, const struct tg_ingest *in,
                               const uint8_t **body, size_t *len, struct tg_err *err)
{
    char quoted[48];
    const char *encoding = tg_http_header(in->req, "Content-Encoding");
    enum tg_encoding how = TG_ENCODING_IDENTITY;
    if (in->protocol->needs_snappy) {
        if (encoding && strcasecmp(encoding, "snappy") != 0)
            return tg_fail(err, TG_ERR_UNSUPPORTED,
                           "Content-Encoding %s: remote write 1.0 bodies are snappy (block format)",
                           tg_quote(quoted, sizeof(quoted), encoding, strlen(encoding)));
        how = TG_ENCODING_SNAPPY;
    } else if (encoding) {
        TG_TRY(tg_encoding_parse(encoding, strlen(encoding), &how, err));
    }
    if (how == TG_ENCODING_IDENTITY) return TG_OK;
    tg_buf_reset(&r->plain);
    struct tg_err why;
    const enum tg_code code = tg_compress_decode(&r->codec, how, *body, *len,
                                                 r->config.max_decompressed_bytes, &r->plain, &why);
    if (code == TG_ERR_TOO_LARGE)
        return tg_fail(err, code, "%.200s (limits.decompressed)", why.msg);
    if (code != TG_OK) {
        *err = why;
        return code;
    }
    *body = r->plain.data;
    *len = r->plain.len;
    return TG_OK;
}

static enum tg_code read_request(struct tg_receiver *r, struct tg_ingest *in, struct tg_err *err)
{
    const struct tg_protocol *p = in->protocol;
    char quoted[64], proto[64];
    const char *why = r->config.admission ? r->config.admission(r->config.arg) : NULL;
    if (why) return tg_fail(err, TG_ERR_FULL, "%s", why);
    const char *type = tg_http_header(in->req, "Content-Type");
    if (p->content_type && type && !tg_http_media_type_is(type, p->content_type))
        return tg_fail(err, TG_ERR_UNSUPPORTED, "Content-Type %s is not supported here; send %s",
                       tg_quote(quoted, sizeof(quoted), type, strlen(type)), p->content_type);
    if (p->message && type && tg_http_media_type_param(type, "proto", proto, sizeof(proto)) &&
        strcmp(proto, p->message) != 0)
        return tg_fail(err, TG_ERR_UNSUPPORTED,
                       "Content-Type with proto=%s is not supported here; send %s with proto=%s",
                       tg_quote(quoted, sizeof(quoted), proto, strlen(proto)), p->content_type,
                       p->message);
    size_t len;
    const uint8_t *body = tg_http_body(in->req, &len);
    tg_metric_add(&tg_receive_metrics.bytes[protocol_index(p)], len);
    TG_TRY(decompress(r, in, &body, &len, err));
    return p->decode(in, body, len, err);
}

const char *tg_receiver_refusal(const struct tg_http_request *req, int status, const char *text,
                                struct tg_buf *out)
{
    const struct tg_protocol *p = find_protocol(tg_http_path(req));
    if (p) count_refused(p, class_of_status(status));
    return p ? p->error_body(req, status, text, out) : NULL;
}

void tg_receive_reply_error(const struct tg_protocol *p, struct tg_http_request *req, int status,
                            const char *text)
{
    struct tg_buf out;
    tg_buf_init(&out, 8192);
    if (p) count_refused(p, class_of_status(status));
    const char *type = p ? p->error_body(req, status, text, &out) : NULL;
    if (type)
        tg_http_reply(req, status, type, out.data, out.len, NULL, 0);
    else
        tg_http_reply_text(req, status, "%s", text);
    tg_buf_deinit(&out);
}

/* A page of any site, open in a browser that reaches this port, can make that browser post here.
 * It cannot hide which site it is of. False: refused, and answered. Otherwise the page is told that
 * it may read the answer (fetch.spec.whatwg.org, "CORS protocol"). */
static bool admit_origin(const struct tg_receiver *r, const struct tg_protocol *p,
                         struct tg_http_request *req)
{
    const char *origin = tg_http_header(req, "Origin");
    if (!origin) return true;
    if (!tg_http_origin_allowed(req, r->config.origins)) {
        char text[256], quoted[100];
        (void)snprintf(text, sizeof(text),
                       "web pages of %s may not send here; listen.origins names those that may",
                       tg_quote(quoted, sizeof(quoted), origin, strlen(origin)));
        tg_receive_reply_error(p, req, 403, text);
        return false;
    }
    tg_http_add_header(req, "Access-Control-Allow-Origin", origin);
    tg_http_add_header(req, "Vary", "Origin");
    return true;
}

/* OPTIONS, which a browser sends before a page's request: what may be sent. */
static void answer_preflight(struct tg_http_request *req)
{
    const char *wanted = tg_http_header(req, "Access-Control-Request-Headers");
    const struct tg_http_header_pair headers[] = {
        {"Allow", "POST"},
        {"Access-Control-Allow-Methods", "POST"},
        {"Access-Control-Max-Age", "86400"},
        {"Access-Control-Allow-Headers", wanted},
    };
    tg_http_reply(req, 204, NULL, NULL, 0, headers, wanted ? 4 : 3);
}

void tg_receiver_on_request(struct tg_http_request *req, void *receiver)
{
    struct tg_receiver *r = receiver;
    const char *path = tg_http_path(req);
    const struct tg_protocol *p = find_protocol(path);
    const char *method = tg_http_method(req);
    if (!admit_origin(r, p, req)) return;
    if (!p) {
        const char *why = r->config.admission ? r->config.admission(r->config.arg) : NULL;
        if (tg_influx_answer_probe(req, why, r->start_ns)) return;
        if (tg_otlp_answer_unserved(req)) return;
        tg_http_reply_text(
            req, 404,
            "no receiver at %s. This port takes POST /v1/metrics (OTLP), /api/v1/write (Prometheus "
            "remote write), /write, /api/v2/write and /api/v3/write_lp (Influx line protocol)",
            path);
        return;
    }
    if (strcmp(method, "OPTIONS") == 0) {
        answer_preflight(req);
        return;
    }
    if (strcmp(method, "POST") != 0) {
        tg_http_add_header(req, "Allow", "POST");
        tg_receive_reply_error(p, req, 405, "this path takes POST");
        return;
    }
    struct tg_ingest *in = take_ingest(r);
    if (!in) {
        tg_http_add_header(req, "Retry-After", r->retry_after);
        tg_receive_reply_error(p, req, 503, "out of memory; try again later (limits.memory)");
        return;
    }
    const size_t pi = protocol_index(p);
    tg_metric_add(&tg_receive_metrics.requests[pi], 1);
    in->protocol = p;
    in->req = req;
    in->wait = 0;
    in->end_pos = 0;
    in->first_line[0] = '\0';
    in->intake = (struct tg_intake){
        .table = r->config.table,
        .batch = &in->batch,
        .arena = &r->arena,
        .now_ns = tg_clock_wall_ns(),
        .now_s = tg_clock_coarse_s(),
    };
    struct tg_err err = {.offset = TG_NO_OFFSET, .msg = ""};
    const enum tg_code code = read_request(r, in, &err);
    tg_arena_reset(&r->arena);
    if (r->plain.cap > KEEP_BODY_BYTES) tg_buf_deinit(&r->plain);

    tg_metric_add(&tg_receive_metrics.misses, in->intake.n_misses);
    tg_metric_add(&tg_receive_metrics.attributes_twice, in->intake.n_attributes_twice);
    if (code == TG_OK) {
        tg_metric_add(&tg_receive_metrics.exemplars_invalid[pi], in->intake.n_exemplars_invalid);
        tg_metric_add(&tg_receive_metrics.exemplars_memory[pi], in->intake.n_exemplars_memory);
    }
    for (int k = 0; k <= TG_HELP_FULL; k++)
        tg_metric_add(&tg_receive_metrics.metadata[pi][k], in->intake.n_metadata[k]);
    if (code != TG_OK) {
        tg_ingest_reply(in, code, &err);
        return;
    }
    tg_metric_add(&tg_receive_metrics.points[pi], in->batch.n_points);
    tg_metric_add(&tg_receive_metrics.rejected[pi], in->intake.n_rejected);
    if (in->batch.n_points == 0) {
        tg_ingest_reply(in, TG_OK, NULL);
        return;
    }
    r->config.sink(r->config.arg, in);
}

void *tg_ingest_sink_arg(const struct tg_ingest *in)
{
    return in->receiver->config.arg;
}

void tg_receive_error_text(char *out, size_t cap, const struct tg_err *err)
{
    if (err->offset == TG_NO_OFFSET)
        (void)snprintf(out, cap, "%s", err->msg);
    else
        (void)snprintf(out, cap, "%s (at byte %llu of the body)", err->msg,
                       (unsigned long long)err->offset);
}

const char *tg_receive_retry_after(const struct tg_ingest *in, enum tg_code code)
{
    const enum tg_class cls = tg_code_class(code);
    return cls == TG_CLASS_FULL || cls == TG_CLASS_TRANSIENT ? in->receiver->retry_after : NULL;
}

void tg_ingest_reply(struct tg_ingest *in, enum tg_code code, const struct tg_err *err)
{
    const enum tg_class cls = tg_code_class(code);
    static const struct tg_err none = {.offset = TG_NO_OFFSET, .msg = ""};
    const struct tg_protocol *p = in->protocol;
    const int status = p->reply(in, code, err ? err : &none);
    /* Also of a request whose good points were taken: its sender was told of an error. */
    if (status >= 400) count_refused(p, cls != TG_CLASS_OK ? cls : class_of_status(status));
    give_back_ingest(in->receiver, in);
}
