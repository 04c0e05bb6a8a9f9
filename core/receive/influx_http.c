/* Influx line protocol over HTTP: InfluxDB 1 `/write`, 2 `/api/v2/write` and 3 `/api/v3/write_lp`
 * (docs.influxdata.com, "API"). What their clients ask beside that: influx_probe.c. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/protocol/influx_line.h"
#include "core/receive/receive.h"

static unsigned api_version(const struct tg_http_request *req)
{
    const char *path = tg_http_path(req);
    if (strcmp(path, "/api/v2/write") == 0) return 2;
    return strcmp(path, "/api/v3/write_lp") == 0 ? 3 : 1;
}

/* InfluxDB 3 takes a request whole or not at all when asked so. TG_ERR_INVALID: asked neither way.
 */
static enum tg_code read_accept_partial(const struct tg_http_request *req, bool *is_all_or_nothing,
                                        struct tg_err *err)
{
    char q[40];
    const char *accept = api_version(req) == 3 ? tg_http_query(req, "accept_partial", 0) : NULL;
    *is_all_or_nothing = accept && strcmp(accept, "false") == 0;
    if (!accept || *is_all_or_nothing || strcmp(accept, "true") == 0) return TG_OK;
    return tg_fail(err, TG_ERR_INVALID, "accept_partial %s is neither true nor false",
                   tg_quote(q, sizeof(q), accept, strlen(accept)));
}

/* The start of the line at `offset`, for the answer. */
static void note_line(struct tg_ingest *in, const uint8_t *body, size_t len, uint64_t offset)
{
    if (offset > len) return;
    size_t begin = (size_t)offset;
    while (begin > 0 && body[begin - 1] != '\n') begin--;
    size_t n = 0;
    while (begin + n < len && body[begin + n] != '\n' && n < sizeof(in->first_line) - 1) n++;
    if (begin + n < len) /* do not cut a character in two */
        while (n > 0 && (body[begin + n] & 0xc0) == 0x80) n--;
    memcpy(in->first_line, body + begin, n);
    in->first_line[n] = '\0';
}

static enum tg_code decode(struct tg_ingest *in, const uint8_t *body, size_t len,
                           struct tg_err *err)
{
    struct tg_intake *d = &in->intake;
    int64_t precision_ns = api_version(in->req) == 3 ? TG_INFLUX_PRECISION_AUTO : 1;
    const char *precision = tg_http_query(in->req, "precision", 0);
    bool is_all_or_nothing;
    TG_TRY(read_accept_partial(in->req, &is_all_or_nothing, err));
    if (precision && *precision)
        TG_TRY(tg_influx_precision(precision, strlen(precision), &precision_ns, err));
    TG_TRY(tg_influx_decode(body, len, precision_ns, d, err));
    if (d->n_rejected == 0) return TG_OK;
    note_line(in, body, len, d->first_reject.offset);
    if (!is_all_or_nothing) return TG_OK;
    *err = d->first_reject;
    return err->code;
}

static const char *v2_code(int status)
{
    switch (status) {
    case 400: return "invalid";
    case 401: return "unauthorized";
    case 403: return "forbidden";
    case 404: return "not found";
    case 405: return "method not allowed";
    case 413:
    case 431: return "request too large";
    case 415: return "unsupported media type";
    case 408:
    case 503: return "unavailable";
    default: return status < 500 ? "invalid" : "internal error";
    }
}

static const char *put_json(json_t *j, struct tg_buf *out)
{
    char *body = j ? json_dumps(j, JSON_COMPACT) : NULL;
    const bool ok = body && tg_buf_append(out, body, strlen(body)) == TG_OK;
    free(body);
    json_decref(j);
    return ok ? "application/json" : NULL;
}

static const char *error_body(const struct tg_http_request *req, int status, const char *text,
                              struct tg_buf *out)
{
    return put_json(api_version(req) == 2
                        ? json_pack("{s:s, s:s}", "code", v2_code(status), "message", text)
                        : json_pack("{s:s}", "error", text),
                    out);
}

/* InfluxDB 3 names the lines that it refused: a list when the others were stored, else one. The
 * decoder keeps the first. */
static const char *v3_body(const struct tg_ingest *in, bool stored_rest, struct tg_buf *out)
{
    const char *text = in->intake.first_reject.msg;
    unsigned long long line = 0;
    int prefix = 0;
    if (sscanf(text, "line %llu: %n", &line, &prefix) == 1 && prefix > 0) text += prefix;
    json_t *original = json_string(in->first_line);
    if (!original) original = json_string(""); /* not UTF-8 */
    json_t *data = json_pack("{s:o, s:I, s:s}", "original_line", original, "line_number",
                             (json_int_t)line, "error_message", text);
    json_t *j = stored_rest ? json_pack("{s:s, s:[o]}", "error",
                                        "partial write of line protocol occurred", "data", data)
                            : json_pack("{s:s, s:o}", "error",
                                        "parsing failed for write_lp endpoint", "data", data);
    return put_json(j, out);
}

/* As InfluxDB: good lines are stored, and a request with bad ones answers 400 "partial write". */
static int reply(struct tg_ingest *in, enum tg_code code, const struct tg_err *err)
{
    const struct tg_intake *d = &in->intake;
    char text[sizeof(err->msg) + 96];
    if (code == TG_OK && d->n_rejected == 0) {
        tg_http_reply(in->req, 204, NULL, NULL, 0, NULL, 0);
        return 204;
    }
    struct tg_buf out;
    tg_buf_init(&out, 16384);
    const char *type;
    const int status = code == TG_OK ? 400 : tg_code_http_status(code);
    if (api_version(in->req) == 3 && d->n_rejected > 0 && status == 400) {
        type = v3_body(in, code == TG_OK, &out);
    } else if (code == TG_OK) {
        (void)snprintf(text, sizeof(text), "partial write: %s dropped=%llu", d->first_reject.msg,
                       (unsigned long long)d->n_rejected);
        type = error_body(in->req, status, text, &out);
    } else {
        tg_receive_error_text(text, sizeof(text), err);
        type = error_body(in->req, status, text, &out);
    }
    const char *retry_after = tg_receive_retry_after(in, code);
    const struct tg_http_header_pair header = {"Retry-After", retry_after};
    tg_http_reply(in->req, status, type, out.data, type ? out.len : 0, &header,
                  retry_after ? 1 : 0);
    tg_buf_deinit(&out);
    return status;
}

static const char *const paths[] = {"/write", "/api/v2/write", "/api/v3/write_lp", NULL};

const struct tg_protocol tg_protocol_influx = {
    .name = "influx",
    .paths = paths,
    .decode = decode,
    .reply = reply,
    .error_body = error_body,
};
