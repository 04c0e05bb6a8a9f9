/* http_parse.c: the head of a request from http_parser's callbacks, and what is refused. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/net/http_internal.h"

/* What the parser library calls while it reads a request, and everything a request can be refused
 * for. A refusal is only noted here; the connection sends it when the library has returned. */

enum part { PART_NONE = 0, PART_TARGET, PART_NAME, PART_VALUE };

int tg_http_conn_refuse(struct tg_http_conn *c, int status, const char *fmt, ...)
{
    if (c->refuse_status) return -1;
    c->refuse_status = status;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(c->refuse_text, sizeof(c->refuse_text), fmt, ap);
    va_end(ap);
    return -1;
}

static int refuse_body_code(struct tg_http_conn *c, enum tg_code code)
{
    const struct tg_http_server_config *g = &c->server->config;
    c->refuse_retry_after_s = 1;
    if (code == TG_ERR_FULL)
        return tg_http_conn_refuse(
            c, 503,
            "request bodies in flight reach the limit of %llu bytes (limits.inflight);"
            " try again shortly",
            (unsigned long long)g->max_inflight_body_bytes);
    return tg_http_conn_refuse(c, 503, "no memory for the request body; try again shortly");
}

static int refuse_too_large(struct tg_http_conn *c, uint64_t declared)
{
    const unsigned long long max = c->server->config.max_body_bytes;
    if (declared)
        return tg_http_conn_refuse(
            c, 413,
            "request body of %llu bytes is over the limit of %llu (limits.body); "
            "send smaller batches",
            (unsigned long long)declared, max);
    return tg_http_conn_refuse(
        c, 413,
        "request body is over the limit of %llu bytes (limits.body); send smaller "
        "batches",
        max);
}

static int refuse_header_size(struct tg_http_conn *c)
{
    return tg_http_conn_refuse(c, 431,
                               "request header is over the limit of %u bytes (limits.headers)",
                               c->server->config.max_header_bytes);
}

/* --- parser callbacks --- */

static int append_text(struct tg_http_conn *c, const char *at, size_t len)
{
    struct tg_buf *t = &c->req->text;
    if (tg_buf_reserve(t, len + 1) != TG_OK) {
        c->refuse_retry_after_s = 1;
        return tg_http_conn_refuse(c, 503, "no memory for the request header; try again shortly");
    }
    if (len) tg_buf_put(t, at, len);
    return 0;
}

/* Ends the string that the last callbacks appended to. append_text left room for the NUL. */
static void end_part(struct tg_http_conn *c)
{
    struct tg_http_request *r = c->req;
    struct tg_buf *t = &r->text;
    if (c->last_part == PART_VALUE) {
        const uint32_t start = r->headers[r->n_headers - 1].value;
        while (t->len > start && (t->data[t->len - 1] == ' ' || t->data[t->len - 1] == '\t'))
            t->len--;
    }
    if (c->last_part != PART_NONE) tg_buf_put_u8(t, 0);
    c->last_part = PART_NONE;
}

static int on_url(http_parser *p, const char *at, size_t len)
{
    struct tg_http_conn *c = p->data;
    c->last_part = PART_TARGET;
    return append_text(c, at, len);
}

static int on_trailer(struct tg_http_conn *c, size_t len)
{
    c->header_bytes += (uint32_t)len;
    return c->header_bytes > c->server->config.max_header_bytes ? refuse_header_size(c) : 0;
}

static int on_header_field(http_parser *p, const char *at, size_t len)
{
    struct tg_http_conn *c = p->data;
    if (c->in_trailer) return on_trailer(c, len);
    struct tg_http_request *r = c->req;
    /* The library takes "Content-Length : 5" unless built strict; RFC 9112, 5.1 has it refused,
     * because others read such a line in other ways. */
    if (memchr(at, ' ', len))
        return tg_http_conn_refuse(c, 400, "space in the name of a header field");
    if (c->last_part != PART_NAME) {
        end_part(c);
        if (r->n_headers == TG_HTTP_MAX_HEADERS)
            return tg_http_conn_refuse(c, 431, "request has more than %d header fields",
                                       TG_HTTP_MAX_HEADERS);
        r->headers[r->n_headers].name = (uint32_t)r->text.len;
        r->headers[r->n_headers].value = 0;
        r->n_headers++;
        c->last_part = PART_NAME;
    }
    return append_text(c, at, len);
}

static int on_header_value(http_parser *p, const char *at, size_t len)
{
    struct tg_http_conn *c = p->data;
    if (c->in_trailer) return on_trailer(c, len);
    struct tg_http_request *r = c->req;
    if (c->last_part != PART_VALUE) {
        end_part(c);
        r->headers[r->n_headers - 1].value = (uint32_t)r->text.len;
        c->last_part = PART_VALUE;
    }
    return append_text(c, at, len);
}

static unsigned count_header(const struct tg_http_request *r, const char *name)
{
    const char *text = (const char *)r->text.data;
    unsigned n = 0;
    for (uint32_t i = 0; i < r->n_headers; i++)
        if (strcasecmp(text + r->headers[i].name, name) == 0) n++;
    return n;
}

/* A name without a value callback (the parser skips empty ones) points at its own NUL. */
static void close_strings(struct tg_http_conn *c)
{
    end_part(c);
    struct tg_http_request *r = c->req;
    for (uint32_t i = 0; i < r->n_headers; i++) {
        const uint32_t name = r->headers[i].name;
        if (r->headers[i].value == 0)
            r->headers[i].value = name + (uint32_t)strlen((const char *)r->text.data + name);
    }
}

/* All header checks, before a byte of the body is kept. */
static int on_headers_complete(http_parser *p)
{
    struct tg_http_conn *c = p->data;
    struct tg_http_request *r = c->req;
    const struct tg_http_server_config *g = &c->server->config;
    close_strings(c);
    p->upgrade = 0; /* we switch to nothing: the request is served as HTTP/1.1 */
    r->method = http_method_str((enum http_method)p->method);
    r->is_head = p->method == HTTP_HEAD;
    r->is_http_1_0 = p->http_major == 1 && p->http_minor == 0;
    r->keep_alive = http_should_keep_alive(p) != 0;

    /* First, so that a refusal can be put into the words of the path's clients. */
    struct tg_err err;
    const enum tg_code code = tg_http_request_split_target(r, &err);

    if (p->http_major != 1 || p->http_minor > 1)
        return tg_http_conn_refuse(c, 505, "HTTP/%u.%u is not served here; use HTTP/1.1",
                                   p->http_major, p->http_minor);
    if (p->method == HTTP_CONNECT)
        return tg_http_conn_refuse(c, 405, "CONNECT is not served: this is not a proxy");
    const unsigned n_hosts = count_header(r, "host");
    if (n_hosts > 1 || (n_hosts == 0 && !r->is_http_1_0))
        return tg_http_conn_refuse(
            c, 400, "an HTTP/1.1 request needs exactly one Host header, this has %u", n_hosts);

    /* What follows decides where this request ends and the next one starts. Whatever could be read
     * in two ways is refused, or a proxy before us may see other requests than we do. */
    c->is_chunked = (p->flags & F_CHUNKED) != 0;
    const unsigned n_encodings = count_header(r, "transfer-encoding");
    if (n_encodings > 0) {
        const char *coding = tg_http_header(r, "transfer-encoding");
        if (r->is_http_1_0)
            return tg_http_conn_refuse(c, 400, "Transfer-Encoding does not exist in HTTP/1.0");
        if (n_encodings > 1 || strcasecmp(coding, "chunked") != 0 || !c->is_chunked) {
            char quoted[64];
            return tg_http_conn_refuse(c, 501,
                                       "Transfer-Encoding %s is not served; send \"chunked\" alone",
                                       tg_quote(quoted, sizeof(quoted), coding, strlen(coding)));
        }
        if (count_header(r, "content-length") > 0)
            return tg_http_conn_refuse(c, 400,
                                       "Content-Length and Transfer-Encoding exclude each other");
    } else if (c->is_chunked) {
        return tg_http_conn_refuse(c, 400, "malformed Transfer-Encoding");
    }
    c->body_left = 0;
    if (!c->is_chunked && p->content_length != UINT64_MAX) c->body_left = p->content_length;
    if (c->body_left > g->max_body_bytes) return refuse_too_large(c, c->body_left);

    if (code != TG_OK)
        return tg_http_conn_refuse(c, code == TG_ERR_MALFORMED ? 400 : 431, "%s", err.msg);

    const char *expect = tg_http_header(r, "expect");
    if (expect && !r->is_http_1_0) {
        if (strcasecmp(expect, "100-continue") != 0) {
            char quoted[64];
            return tg_http_conn_refuse(c, 417, "Expect: %s is not served; only 100-continue is",
                                       tg_quote(quoted, sizeof(quoted), expect, strlen(expect)));
        }
        if (c->is_chunked || c->body_left > 0) {
            tg_http_conn_send_continue(c);
            if (c->state == TG_HTTP_DEAD) return -1;
        }
    }
    c->in_trailer = true; /* header callbacks from now on are those of a chunked body's trailer */
    c->header_bytes = 0;
    c->state = TG_HTTP_BODY;
    /* A body of known length does not need the parser: reading it ourselves lets the kernel put the
     * bytes where they stay. */
    return c->is_chunked ? 0 : 1;
}

bool tg_http_conn_append_body(struct tg_http_conn *c, const char *at, size_t len)
{
    struct tg_http_request *r = c->req;
    while (len > 0) {
        const enum tg_code code =
            tg_http_request_reserve_body(r, len, c->is_chunked ? 0 : r->body.len + c->body_left);
        if (code == TG_ERR_TOO_LARGE) {
            (void)refuse_too_large(c, 0);
            return false;
        }
        if (code != TG_OK) {
            (void)refuse_body_code(c, code);
            return false;
        }
        const size_t room = r->body.cap - r->body.len;
        const size_t n = len < room ? len : room;
        memcpy(r->body.data + r->body.len, at, n);
        r->body.len += n;
        if (!c->is_chunked) c->body_left -= n;
        at += n;
        len -= n;
    }
    return true;
}

static int on_body(http_parser *p, const char *at, size_t len)
{
    struct tg_http_conn *c = p->data;
    if (len > c->server->config.max_body_bytes - c->req->body.len) return refuse_too_large(c, 0);
    return tg_http_conn_append_body(c, at, len) ? 0 : -1;
}

/* A chunk whose size alone passes the limit is refused before it is read. */
static int on_chunk_header(http_parser *p)
{
    struct tg_http_conn *c = p->data;
    if (p->content_length > c->server->config.max_body_bytes - c->req->body.len)
        return refuse_too_large(c, 0);
    return 0;
}

static int on_message_complete(http_parser *p)
{
    struct tg_http_conn *c = p->data;
    c->is_complete = c->is_chunked || c->body_left == 0;
    http_parser_pause(p, 1); /* what follows belongs to the next request, or to us */
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
    .on_chunk_header = on_chunk_header,
};

static void refuse_malformed(struct tg_http_conn *c, enum http_errno e, uint64_t offset,
                             const char *near_by, size_t len)
{
    char quoted[48];
    if (c->state == TG_HTTP_HEAD && e == HPE_HEADER_OVERFLOW) {
        (void)refuse_header_size(c);
    } else if (c->state == TG_HTTP_HEAD && e == HPE_INVALID_METHOD) {
        (void)tg_http_conn_refuse(
            c, 400,
            "malformed HTTP request: it starts with %s, not with a method; this port "
            "speaks plain HTTP/1.1 (no TLS, no HTTP/2)",
            tg_quote(quoted, sizeof(quoted), near_by, len < 12 ? len : 12));
    } else if (e == HPE_UNEXPECTED_CONTENT_LENGTH) {
        (void)tg_http_conn_refuse(
            c, 400,
            "a request has one Content-Length or Transfer-Encoding: chunked, not both, "
            "and not two of them");
    } else if (e == HPE_INVALID_TRANSFER_ENCODING) {
        (void)tg_http_conn_refuse(c, 501,
                                  "this Transfer-Encoding is not served; send \"chunked\" alone");
    } else {
        (void)tg_http_conn_refuse(c, 400, "malformed HTTP %s near byte %llu: %s",
                                  c->state == TG_HTTP_HEAD ? "request" : "chunked body",
                                  (unsigned long long)offset, http_errno_description(e));
    }
}

size_t tg_http_conn_parse(struct tg_http_conn *c, const char *p, size_t n)
{
    const bool in_head = c->state == TG_HTTP_HEAD;
    const uint32_t max = c->server->config.max_header_bytes;
    if (in_head) {
        const size_t room = max - c->header_bytes;
        if (room == 0) {
            (void)refuse_header_size(c);
            return 0;
        }
        if (n > room) n = room;
    }
    const uint32_t before = c->header_bytes;
    const size_t used = http_parser_execute(&c->parser, &settings, p, n);
    if (c->state == TG_HTTP_DEAD || c->refuse_status) return used;
    if (c->state == TG_HTTP_HEAD) c->header_bytes = before + (uint32_t)used;
    const enum http_errno e = HTTP_PARSER_ERRNO(&c->parser);
    if (e == HPE_PAUSED)
        http_parser_pause(&c->parser, 0);
    else if (e != HPE_OK)
        refuse_malformed(c, e, in_head ? before + used : c->req->body.len, p, n);
    return used;
}
