/* Prometheus remote write 1.0: prometheus.io/docs/specs/prw/remote_write_spec (protocol, retries
 * and backoff). */
#include <string.h>

#include "core/protocol/remote_write.h"
#include "core/receive/receive.h"

static enum tg_code decode(struct tg_ingest *in, const uint8_t *body, size_t len,
                           struct tg_err *err)
{
    return tg_remote_write_decode(body, len, &in->intake, err);
}

static const char *error_body(const struct tg_http_request *req, int status, const char *text,
                              struct tg_buf *out)
{
    (void)req, (void)status, (void)text, (void)out;
    return NULL; /* plain text: senders log it as it is */
}

/* 2xx: all taken. 4xx: not retried by the sender, so also the answer to a partly bad request whose
 * good part was kept. 5xx: retried. */
static int reply(struct tg_ingest *in, enum tg_code code, const struct tg_err *err)
{
    const struct tg_intake *d = &in->intake;
    if (code == TG_OK && d->n_rejected == 0) {
        tg_http_reply(in->req, 204, NULL, NULL, 0, NULL, 0);
        return 204;
    }
    if (code == TG_OK) {
        tg_http_reply_text(
            in->req, 400,
            "%llu of %llu samples were refused, the others were stored; the first: %s",
            (unsigned long long)d->n_rejected, (unsigned long long)(d->n_rejected + d->n_accepted),
            d->first_reject.msg);
        return 400;
    }
    const char *retry_after = tg_receive_retry_after(in, code);
    const struct tg_http_header_pair header = {"Retry-After", retry_after};
    char text[sizeof(err->msg) + 64];
    tg_receive_error_text(text, sizeof(text), err);
    const int status = tg_code_http_status(code);
    tg_http_reply(in->req, status, "text/plain; charset=utf-8", text, strlen(text), &header,
                  retry_after ? 1 : 0);
    return status;
}

static const char *const paths[] = {"/api/v1/write", NULL};

const struct tg_protocol tg_protocol_remote_write = {
    .name = "remote_write",
    .paths = paths,
    .content_type = "application/x-protobuf",
    .message = "prometheus.WriteRequest",
    .needs_snappy = true,
    .decode = decode,
    .reply = reply,
    .error_body = error_body,
};
