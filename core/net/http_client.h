/* http_client.h: outgoing HTTP on a loop (libcurl multi underneath), keep-alive, bounded.
 *
 * Threading: a client belongs to one loop's thread.
 */
#ifndef TG_NET_HTTP_CLIENT_H
#define TG_NET_HTTP_CLIENT_H

#include "core/base/err.h"
#include "core/net/loop.h"

struct tg_http_client;

struct tg_http_client_config {   /* zero = default */
    uint32_t max_connections;    /* 8 */
    uint32_t connect_timeout_ms; /* 5 s */
    uint64_t max_response_bytes; /* 1 MiB; larger answers fail with TG_ERR_TOO_LARGE */
};

struct tg_http_result {  /* valid during the callback */
    enum tg_code code;   /* TG_OK: an HTTP answer came (any status); TG_ERR_UNAVAILABLE,
                            TG_ERR_TIMEOUT, TG_ERR_TOO_LARGE, TG_ERR_CANCELED */
    int status;          /* HTTP status, 0 without an answer */
    const uint8_t *body; /* NUL-terminated beyond len */
    size_t len;
    int64_t retry_after_ms; /* from Retry-After (seconds or HTTP date), -1 when absent */
    char message[256];      /* why there was no answer */
};
typedef void (*tg_http_on_result)(void *arg, const struct tg_http_result *result);

struct tg_http_call {
    const char *method; /* "POST" */
    const char *url;
    const struct tg_http_client_header {
        const char *name, *value;
    } * headers;
    size_t n_headers;
    const void *body; /* borrowed until the callback */
    size_t len;
    uint32_t timeout_ms; /* whole call; 0 = 30 s */
};

struct tg_http_client *tg_http_client_new(struct tg_loop *loop,
                                          const struct tg_http_client_config *config);
/* Open calls end with TG_ERR_CANCELED before this returns. NULL accepted. */
void tg_http_client_free(struct tg_http_client *c);
/* Starts a call; the callback runs later on the loop, exactly once, unless this returns a failure
 * (bad URL, no memory). */
TG_MUST_CHECK enum tg_code tg_http_client_send(struct tg_http_client *c,
                                               const struct tg_http_call *call,
                                               tg_http_on_result on_result, void *arg,
                                               struct tg_err *err);
/* Ends the open calls that were sent with this `arg`: their callbacks run on the loop with
 * TG_ERR_CANCELED, after this has returned. An answer that is complete by then may win. */
void tg_http_client_cancel(struct tg_http_client *c, const void *arg);

#endif
