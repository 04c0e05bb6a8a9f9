/* OTLP/HTTP, protobuf encoding: opentelemetry-proto docs/specification.md, "OTLP/HTTP". */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/codec/otlp.h"
#include "core/codec/otlp_encode.h"
#include "core/receive/receive.h"

#define PROTOBUF "application/x-protobuf"

static enum tg_code decode(const struct tg_http_request *req, const uint8_t *body, size_t len,
                           struct tg_decode *d, struct tg_err *err)
{
    (void)req;
    return tg_otlp_decode_metrics(body, len, d, err);
}

/* A sender of another encoding, or a person with curl, reads the Status in its JSON form. */
static void reply_unsupported(struct tg_ingest *in, enum tg_code code, const char *msg)
{
    json_t *j = json_pack("{s:i, s:s}", "code", tg_code_grpc_status(code), "message", msg);
    char *body = j ? json_dumps(j, JSON_COMPACT) : NULL;
    tg_http_reply(in->req, tg_code_http_status(code), "application/json", body,
                  body ? strlen(body) : 0, NULL, 0);
    free(body);
    json_decref(j);
}

/* "OTLP/HTTP Response": success is an ExportMetricsServiceResponse, with partial_success when
 * points were rejected; failure carries a google.rpc.Status. */
static void reply(struct tg_ingest *in, enum tg_code code, const struct tg_err *err)
{
    struct tg_buf body;
    tg_buf_init(&body, 4096);
    char msg[sizeof(err->msg) + 64];
    enum tg_code made;
    if (code == TG_OK) {
        const struct tg_decode *d = &in->decode;
        (void)snprintf(msg, sizeof(msg), d->n_rejected > 1 ? "%s (the first of %" PRIu64 ")" : "%s",
                       d->first_reject.msg, d->n_rejected);
        made = tg_otlp_encode_response(d->n_rejected, d->n_rejected ? msg : NULL, &body);
    } else {
        tg_receive_error_text(msg, sizeof(msg), err);
        const char *type = tg_http_header(in->req, "Content-Type");
        if (code == TG_ERR_UNSUPPORTED && type &&
            strncasecmp(type, PROTOBUF, sizeof(PROTOBUF) - 1) != 0) {
            tg_buf_deinit(&body);
            reply_unsupported(in, code, msg);
            return;
        }
        made = tg_otlp_encode_status(tg_code_grpc_status(code), msg, -1, &body);
    }
    const char *retry_after = tg_receive_retry_after(in, code);
    const struct tg_http_header_pair header = {"Retry-After", retry_after};
    tg_http_reply(in->req, tg_code_http_status(code), PROTOBUF, body.data,
                  made == TG_OK ? body.len : 0, &header, retry_after ? 1 : 0);
    tg_buf_deinit(&body);
}

static const char *const paths[] = {"/v1/metrics", NULL};

const struct tg_protocol tg_protocol_otlp = {
    .name = "otlp",
    .paths = paths,
    .content_type = PROTOBUF,
    .decode = decode,
    .reply = reply,
};
