/* Influx line protocol over HTTP: InfluxDB v1 `/write` and v2 `/api/v2/write` (docs.influxdata.com,
 * "API"). */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/codec/influx_line.h"
#include "core/receive/receive.h"

static bool is_v2(const struct tg_http_request *req)
{
    return strcmp(tg_http_path(req), "/api/v2/write") == 0;
}

static enum tg_code decode(const struct tg_http_request *req, const uint8_t *body, size_t len,
                           struct tg_decode *d, struct tg_err *err)
{
    int64_t precision_ns = 1;
    const char *precision = tg_http_query(req, "precision", 0);
    if (precision && *precision)
        TG_TRY(tg_influx_precision(precision, strlen(precision), &precision_ns, err));
    return tg_influx_decode(body, len, precision_ns, d, err);
}

static const char *v2_code(enum tg_code code)
{
    switch (tg_code_class(code)) {
    case TG_CLASS_INPUT: return "invalid";
    case TG_CLASS_TOO_LARGE: return "request too large";
    case TG_CLASS_FULL:
    case TG_CLASS_TRANSIENT: return "unavailable";
    default: return "internal error";
    }
}

static void reply_error(struct tg_ingest *in, enum tg_code code, const char *text)
{
    json_t *j = is_v2(in->req) ? json_pack("{s:s, s:s}", "code", v2_code(code), "message", text)
                               : json_pack("{s:s}", "error", text);
    char *body = j ? json_dumps(j, JSON_COMPACT) : NULL;
    const char *retry_after = tg_receive_retry_after(in, code);
    const struct tg_http_header_pair header = {"Retry-After", retry_after};
    tg_http_reply(in->req, tg_code_http_status(code), "application/json", body,
                  body ? strlen(body) : 0, &header, retry_after ? 1 : 0);
    free(body);
    json_decref(j);
}

/* As InfluxDB: good lines are stored, and a request with bad ones answers 400 "partial write". */
static void reply(struct tg_ingest *in, enum tg_code code, const struct tg_err *err)
{
    const struct tg_decode *d = &in->decode;
    char text[sizeof(err->msg) + 96];
    if (code == TG_OK && d->n_rejected == 0) {
        tg_http_reply(in->req, 204, NULL, NULL, 0, NULL, 0);
    } else if (code == TG_OK) {
        (void)snprintf(text, sizeof(text), "partial write: %s dropped=%llu", d->first_reject.msg,
                       (unsigned long long)d->n_rejected);
        reply_error(in, TG_ERR_INVALID, text);
    } else {
        tg_receive_error_text(text, sizeof(text), err);
        reply_error(in, code, text);
    }
}

bool tg_influx_answer_ping(struct tg_http_request *req)
{
    const char *path = tg_http_path(req);
    if (strcmp(path, "/ping") == 0) {
        static const struct tg_http_header_pair version = {"X-Influxdb-Version",
                                                           "tidegate-" TG_VERSION};
        tg_http_reply(req, 204, NULL, NULL, 0, &version, 1);
        return true;
    }
    if (strcmp(path, "/health") == 0) {
        static const char body[] =
            "{\"name\":\"tidegate\",\"status\":\"pass\",\"message\":\"ready for writes\"}\n";
        tg_http_reply(req, 200, "application/json", body, sizeof(body) - 1, NULL, 0);
        return true;
    }
    return false;
}

static const char *const paths[] = {"/write", "/api/v2/write", NULL};

const struct tg_protocol tg_protocol_influx = {
    .name = "influx",
    .paths = paths,
    .decode = decode,
    .reply = reply,
};
