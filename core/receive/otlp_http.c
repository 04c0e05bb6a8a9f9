/* OTLP/HTTP, protobuf encoding: opentelemetry-proto docs/specification.md, "OTLP/HTTP". */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/protocol/otlp.h"
#include "core/protocol/otlp_encode.h"
#include "core/receive/receive.h"

#define PROTOBUF "application/x-protobuf"

enum { GRPC_UNIMPLEMENTED = 12 };

static const char *const paths[] = {"/v1/metrics", NULL};

static enum tg_code decode(struct tg_ingest *in, const uint8_t *body, size_t len,
                           struct tg_err *err)
{
    return tg_otlp_decode_metrics(body, len, &in->intake, err);
}

/* google.rpc.Code of an HTTP status; the other direction is tg_code_http_status. */
static int grpc_status(int http_status)
{
    switch (http_status) {
    case 401: return 16; /* UNAUTHENTICATED */
    case 403: return 7;  /* PERMISSION_DENIED */
    case 404: return 5;  /* NOT_FOUND */
    case 405:
    case 501:
    case 505: return GRPC_UNIMPLEMENTED;
    case 408: return 4; /* DEADLINE_EXCEEDED */
    case 413:
    case 431: return 8;  /* RESOURCE_EXHAUSTED */
    case 500: return 13; /* INTERNAL */
    case 503: return 14; /* UNAVAILABLE */
    default: return 3;   /* INVALID_ARGUMENT */
    }
}

/* A google.rpc.Status in the encoding of the request ("OTLP/HTTP Response"): protobuf, or JSON for
 * a sender of another media type, and for a person with curl. */
static const char *status_body(const struct tg_http_request *req, int grpc, const char *text,
                               struct tg_buf *out)
{
    const char *type = tg_http_header(req, "Content-Type");
    if (type && tg_http_media_type_is(type, PROTOBUF))
        return tg_otlp_encode_status(grpc, text, -1, out) == TG_OK ? PROTOBUF : NULL;
    json_t *j = json_pack("{s:i, s:s}", "code", grpc, "message", text);
    char *body = j ? json_dumps(j, JSON_COMPACT) : NULL;
    const bool ok = body && tg_buf_append(out, body, strlen(body)) == TG_OK;
    free(body);
    json_decref(j);
    return ok ? "application/json" : NULL;
}

static const char *error_body(const struct tg_http_request *req, int status, const char *text,
                              struct tg_buf *out)
{
    return status_body(req, grpc_status(status), text, out);
}

/* Whether `path` is `of`, with slashes at its end or without. */
static bool is_path(const char *path, const char *of)
{
    const size_t n = strlen(of);
    return strncmp(path, of, n) == 0 && path[n + strspn(path + n, "/")] == '\0';
}

bool tg_otlp_answer_unserved(struct tg_http_request *req)
{
    static const char *const others[] = {"/v1/traces", "/v1/logs", "/v1development/profiles"};
    const char *path = tg_http_path(req);
    bool is_other = false;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        is_other |= is_path(path, others[i]);
    if (!is_other && !is_path(path, paths[0])) return false;
    char text[256];
    (void)snprintf(text, sizeof(text),
                   is_other
                       ? "no receiver at %s: Tidegate takes metrics only, at /v1/metrics; turn "
                         "this exporter off (OTEL_TRACES_EXPORTER=none, "
                         "OTEL_LOGS_EXPORTER=none), or give it an endpoint of its own"
                       : "no receiver at %s: OTLP metrics go to /v1/metrics, without a slash at "
                         "the end",
                   path);
    struct tg_buf body;
    tg_buf_init(&body, 4096);
    const char *type = status_body(req, GRPC_UNIMPLEMENTED, text, &body);
    if (type)
        tg_http_reply(req, 404, type, body.data, body.len, NULL, 0);
    else
        tg_http_reply_text(req, 404, "%s", text);
    tg_buf_deinit(&body);
    return true;
}

/* "OTLP/HTTP Response": success is an ExportMetricsServiceResponse, with partial_success when
 * points were rejected; failure carries a google.rpc.Status. */
static int reply(struct tg_ingest *in, enum tg_code code, const struct tg_err *err)
{
    struct tg_buf body;
    tg_buf_init(&body, 4096);
    char msg[sizeof(err->msg) + 64];
    const char *type = PROTOBUF;
    if (code == TG_OK) {
        const struct tg_intake *d = &in->intake;
        (void)snprintf(msg, sizeof(msg), d->n_rejected > 1 ? "%s (the first of %" PRIu64 ")" : "%s",
                       d->first_reject.msg, d->n_rejected);
        if (tg_otlp_encode_response(d->n_rejected, d->n_rejected ? msg : NULL, &body) != TG_OK)
            tg_buf_reset(&body);
    } else {
        tg_receive_error_text(msg, sizeof(msg), err);
        type = status_body(in->req, tg_code_grpc_status(code), msg, &body);
        if (!type) tg_buf_reset(&body);
    }
    const char *retry_after = tg_receive_retry_after(in, code);
    const struct tg_http_header_pair header = {"Retry-After", retry_after};
    const int status = tg_code_http_status(code);
    tg_http_reply(in->req, status, type, body.data, body.len, &header, retry_after ? 1 : 0);
    tg_buf_deinit(&body);
    return status;
}

const struct tg_protocol tg_protocol_otlp = {
    .name = "otlp",
    .paths = paths,
    .content_type = PROTOBUF,
    .decode = decode,
    .reply = reply,
    .error_body = error_body,
};
