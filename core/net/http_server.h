/* http_server.h: HTTP/1.1 for receivers and admin: requests arrive whole, replies may come later.
 *
 * Limits, each with its own answer: header bytes (431), declared or actual body bytes (413, before
 * reading them when declared), time to send headers and to send the body (408), idle keep-alive
 * (close), connections (503 and close), body bytes in flight over all connections (503 +
 * Retry-After), pipelined requests (served in order, one at a time). Content-Length together with
 * Transfer-Encoding, or two lengths, is refused (400). Expect: 100-continue is honoured.
 *
 * Lifetime: a request lives until tg_http_reply was called, even when its connection dies first
 * (then the reply goes nowhere). Body and headers are valid until the reply.
 *
 * Threading: a server belongs to one loop; several servers may listen on one address
 * (SO_REUSEPORT).
 */
#ifndef TG_NET_HTTP_SERVER_H
#define TG_NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/net/loop.h"

struct tg_http_server;
struct tg_http_request;

struct tg_http_server_config {        /* zero = the default in parentheses */
    const char *address;              /* "127.0.0.1:4318", "[::1]:0", ":4318" (all interfaces) */
    uint32_t max_header_bytes;        /* 16 KiB */
    uint64_t max_body_bytes;          /* 64 MiB */
    uint64_t max_inflight_body_bytes; /* 256 MiB, for this server */
    uint32_t max_connections;         /* 1024, for this server */
    uint32_t header_timeout_ms;       /* 10 s from the first byte of a request */
    uint32_t body_timeout_ms;         /* 60 s for the whole body */
    uint32_t idle_timeout_ms;         /* 120 s between requests */
    uint32_t write_timeout_ms;        /* 60 s for the peer to take a reply */
    bool reuse_port;
    /* Puts the text of an answer that the server itself gives (too large, too slow, malformed, over
     * a limit) into the form that clients of this path read: appends the body to `out` and returns
     * its media type. Called when path and headers are known; NULL, or a NULL result, = plain text.
     */
    const char *(*refusal)(const struct tg_http_request *req, int status, const char *text,
                           struct tg_buf *out);
};

typedef void (*tg_http_handler)(struct tg_http_request *req, void *arg);

TG_MUST_CHECK enum tg_code tg_http_server_new(struct tg_loop *loop,
                                              const struct tg_http_server_config *config,
                                              tg_http_handler handler, void *arg,
                                              struct tg_http_server **out, struct tg_err *err);
/* How many connections are told 503 at a time beyond max_connections; more are closed without a
 * word. At most 64. */
uint32_t tg_http_server_n_refusals(uint32_t max_connections);
/* Stops accepting; open requests may still be answered; idle connections are closed. For draining.
 */
void tg_http_server_stop(struct tg_http_server *s);
size_t tg_http_server_n_open_requests(const struct tg_http_server *s);
void tg_http_server_free(
    struct tg_http_server *s); /* closes everything; requests still open get no reply */
uint16_t tg_http_server_port(const struct tg_http_server *s);

struct tg_http_server_stats {
    uint64_t n_connections, n_connections_total, n_requests_total, n_refused_connections,
        n_refused_requests, n_timeouts, bytes_in, bytes_out;
};
struct tg_http_server_stats tg_http_server_stats(const struct tg_http_server *s); /* any thread */

/* Request parts; borrowed until the reply. Strings are NUL-terminated. */
const char *tg_http_method(const struct tg_http_request *r);
const char *tg_http_path(const struct tg_http_request *r); /* percent-decoded, without the query */
const char *tg_http_header(const struct tg_http_request *r,
                           const char *name); /* case-insensitive; NULL = absent */
const uint8_t *tg_http_body(const struct tg_http_request *r, size_t *len);
const char *tg_http_peer(const struct tg_http_request *r); /* "127.0.0.1:53211" */
/* Value of a query parameter, percent-decoded; NULL = absent. The n-th (0-based) of that name. */
const char *tg_http_query(const struct tg_http_request *r, const char *name, unsigned nth);
/* Appends the value of a field of an application/x-www-form-urlencoded body, decoded, and a NUL.
 * TG_ERR_NOT_FOUND when there is none, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_http_form_value(const struct tg_http_request *r, const char *name,
                                              struct tg_buf *out);
/* Whether a Content-Type names this media type ("application/x-protobuf"), compared as RFC 9110,
 * 8.3.1 says: without case, parameters left aside. */
bool tg_http_media_type_is(const char *content_type, const char *media_type);
/* The value of a parameter of a media type ("proto" in `application/x-protobuf;proto=X`), copied
 * without its quotes. false: absent, or longer than `cap`. */
bool tg_http_media_type_param(const char *content_type, const char *name, char *out, size_t cap);

/* Caller data carried on the request (freed by nobody here). */
void tg_http_set_user(struct tg_http_request *r, void *user);
void *tg_http_user(const struct tg_http_request *r);

/* Calls fn(arg) once on the loop when the peer closes its side of the connection before the reply:
 * most likely nobody waits for it any more. It is still due, and goes out to a peer that only said
 * that it has no more to send. Not called while the peer has sent more requests ahead. */
void tg_http_on_peer_close(struct tg_http_request *r, void (*fn)(void *arg), void *arg);

struct tg_http_header_pair {
    const char *name, *value;
};
/* A header for the answer that is yet to come, from tg_http_reply or the server itself; at most
 * TG_HTTP_REPLY_HEADERS, further ones are left out. Borrowed until the reply: a string of the
 * request (tg_http_header) or a constant. */
enum { TG_HTTP_REPLY_HEADERS = 4 };
void tg_http_add_header(struct tg_http_request *r, const char *name, const char *value);
/* Answers and ends the request. Everything is copied. Every answer has a Date (RFC 9110, 6.6.1). On
 * the loop's thread. content_type NULL = none. */
void tg_http_reply(struct tg_http_request *r, int status, const char *content_type,
                   const void *body, size_t len, const struct tg_http_header_pair *headers,
                   size_t n_headers);
/* text/plain reply with a printf message and a final newline. */
void tg_http_reply_text(struct tg_http_request *r, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
