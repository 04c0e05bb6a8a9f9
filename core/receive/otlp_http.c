/* OTLP/HTTP, protobuf encoding: opentelemetry-proto docs/specification.md, "OTLP/HTTP". */
#include <stdio.h>
#include <string.h>

#include "core/codec/otlp.h"
#include "core/codec/otlp_encode.h"
#include "core/receive/receive.h"

static enum tg_code decode(const struct tg_http_request *req, const uint8_t *body, size_t len,
                           struct tg_decode *d, struct tg_err *err)
{
    (void)req;
    return tg_otlp_decode_metrics(body, len, d, err);
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
        made = tg_otlp_encode_response(d->n_rejected, d->n_rejected ? d->first_reject.msg : NULL,
                                       &body);
    } else {
        tg_receive_error_text(msg, sizeof(msg), err);
        made = tg_otlp_encode_status(tg_code_grpc_status(code), msg, -1, &body);
    }
    const char *retry_after = tg_receive_retry_after(in, code);
    const struct tg_http_header_pair header = {"Retry-After", retry_after};
    tg_http_reply(in->req, tg_code_http_status(code), "application/x-protobuf", body.data,
                  made == TG_OK ? body.len : 0, &header, retry_after ? 1 : 0);
    tg_buf_deinit(&body);
}

static const char *const paths[] = {"/v1/metrics", NULL};

const struct tg_protocol tg_protocol_otlp = {
    .name = "otlp",
    .paths = paths,
    .content_type = "application/x-protobuf",
    .decode = decode,
    .reply = reply,
};
