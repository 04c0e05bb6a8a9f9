/* http_backend.h: what backends that speak HTTP share: one client, authentication, what an answer
 * means for the points, health, and answers that must wait for the next loop turn.
 *
 *   url "http://host:8086/prefix/" --> base "http://host:8086/prefix" + "/write?db=..."
 *
 * Request buffers belong to the backend, are reused, and hold at most `max_request_bytes`.
 *
 * Threading: the backend's own loop thread.
 */
#ifndef TG_BACKEND_HTTP_HTTP_BACKEND_H
#define TG_BACKEND_HTTP_HTTP_BACKEND_H

#include "core/backend/backend.h"
#include "core/codec/shared_parts.h"
#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/net/http_client.h"

/* Options that every HTTP backend has; put first in its table. */
#define TG_HTTP_BACKEND_OPTIONS(url_help, batch_points_def)                                        \
    {.name = "url", .type = TG_OPT_STRING, .required = true, .help = (url_help)},                  \
        {.name = "username", .type = TG_OPT_STRING, .help = "user for HTTP basic authentication"}, \
        {.name = "password",                                                                       \
         .type = TG_OPT_STRING,                                                                    \
         .help = "password for HTTP basic authentication"},                                        \
        {.name = "token",                                                                          \
         .type = TG_OPT_STRING,                                                                    \
         .help = "token, instead of username and password"},                                       \
        {.name = "timeout",                                                                        \
         .type = TG_OPT_DURATION,                                                                  \
         .def = "30s",                                                                             \
         .min = 1,                                                                                 \
         .max = 3600000,                                                                           \
         .help = "longest wait for the answer to one request"},                                    \
        {.name = "batch_points",                                                                   \
         .type = TG_OPT_INT,                                                                       \
         .def = (batch_points_def),                                                                \
         .min = 1,                                                                                 \
         .max = 1000000,                                                                           \
         .help = "most points in one request"},                                                    \
        {.name = "linger",                                                                         \
         .type = TG_OPT_DURATION,                                                                  \
         .def = "50ms",                                                                            \
         .max = 3600000,                                                                           \
         .help = "wait this long for a fuller request"},                                           \
    {                                                                                              \
        .name = "max_request_bytes", .type = TG_OPT_BYTES, .def = "32MiB", .min = 65536,           \
        .max = INT64_C(1) << 30,                                                                   \
        .help = "largest request before compression; beyond it a delivery is split"                \
    }

enum {
    TG_BACKEND_MAX_ANSWER_BYTES = 64 << 20, /* of queries; answers to writes are short */
    TG_BACKEND_MAX_HEADERS = 8,
};

struct tg_http_backend_check;

struct tg_http_backend {
    const char *name;       /* borrows: the backend's configured name */
    const char *token_word; /* "Token" (InfluxDB) or "Bearer" */
    struct tg_loop *loop;
    struct tg_http_client *client;
    char *base; /* url without a final slash */
    char *auth; /* value of the Authorization header, or NULL */
    uint32_t timeout_ms;
    size_t max_request_bytes;
    /* An answer that is known before the call returned (nothing to send, no memory) goes through
     * the loop, as those of the network do. */
    struct tg_loop_item later;
    struct tg_write_result later_result;
    bool is_later_pending;
    struct tg_http_backend_check *checks; /* of health, under way */
    /* An answer of any status with one of these in it refuses the points; ends with NULL; or NULL.
     */
    const char *const *refused_words;
    /* The write in progress. */
    tg_on_write on_write;
    void *arg;
    struct tg_shared_parts *shared_parts; /* of the prepared bytes of all series */
    struct tg_buf plain;                  /* one series' bytes, unpacked */
    struct tg_buf inexpressible;          /* bitmap of points without a form */
    struct tg_buf skipped;                /* bitmap of points at fault */
    uint32_t n_inexpressible, n_skipped;
    struct tg_left_out left_out; /* of the points that were appended */
    struct tg_buf reasons;       /* const char *, one for each skipped point */
    struct tg_arena reason_text; /* of this write */
    const char *known_reasons[8];
    unsigned n_known_reasons;
};

/* Reads the options above, checks url and authentication. `*h` is zero before; after a failure
 * deinit is still due. TG_ERR_INVALID naming option and backend; TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_http_backend_init(struct tg_http_backend *h,
                                                const struct tg_backend_open *how,
                                                const char *token_word, struct tg_err *err);
/* Health checks under way end now, with TG_ERR_CANCELED. */
void tg_http_backend_deinit(struct tg_http_backend *h);

/* Starts a write of n points: notes the callback and clears the bitmaps. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_http_backend_begin(struct tg_http_backend *h, uint32_t n_points,
                                                 tg_on_write on_write, void *arg);
/* Marks point i as one that is left out and becomes a dead letter. */
void tg_http_backend_skip(struct tg_http_backend *h, uint32_t i, const char *reason);
/* Appends one point's form. TG_ERR_UNSUPPORTED: it has none here (inexpressible). TG_ERR_INVALID,
 * TG_ERR_CORRUPT: it is at fault itself, err says why (a dead letter). */
typedef enum tg_code (*tg_backend_append_fn)(void *arg, const struct tg_delivery_point *p,
                                             struct tg_buf *out, struct tg_err *err);
/* What `prepare` keeps of a series: its plain bytes, with shared parts kept once. Any thread. */
TG_MUST_CHECK enum tg_code tg_http_backend_pack(struct tg_http_backend *h,
                                                const struct tg_buf *plain, tg_shared_part_len next,
                                                struct tg_buf *out, struct tg_err *err);
/* Marks point i as one that the backend has no form for. */
void tg_http_backend_leave_out(struct tg_http_backend *h, uint32_t i);
/* Ends a write whose n points could not be encoded: TG_ERR_TOO_LARGE, or no memory. */
void tg_http_backend_end_unencoded(struct tg_http_backend *h, uint32_t n_points, enum tg_code code);
/* Encodes all points, one by one, into `out` (reset first; its maximum is the request's), leaving
 * out those without a form and those at fault. false: the write has ended already (too large, no
 * memory, nothing to send). */
bool tg_http_backend_encode(struct tg_http_backend *h, const struct tg_delivery *d,
                            tg_backend_append_fn append, void *arg, struct tg_buf *out);
/* Ends the write in progress at the next loop turn. */
void tg_http_backend_end_later(struct tg_http_backend *h, enum tg_write_outcome outcome,
                               const char *message);
/* POSTs to `url` (a whole one, borrowed until the answer) and ends the write by the answer:
 *   2xx OK; 400, 422 REFUSED; 413 TOO_LARGE; 401, 403, 404, 405 and other 3xx, 4xx RETRY with a
 *   hint (the operator has to change something, nothing is lost); 429, 5xx and no answer RETRY,
 *   with Retry-After. Authorization and User-Agent are added to `headers` (at most
 *   TG_BACKEND_MAX_HEADERS - 2). */
void tg_http_backend_post(struct tg_http_backend *h, const char *url,
                          const struct tg_http_client_header *headers, size_t n_headers,
                          const struct tg_buf *body);

/* Gives up a POST of tg_http_backend_post: as `cancel` of the table of operations. */
void tg_http_backend_cancel(struct tg_http_backend *h);

/* POSTs as above, with the answer to `on_result`: for what is no write of points. */
TG_MUST_CHECK enum tg_code tg_http_backend_send(struct tg_http_backend *h, const char *url,
                                                const struct tg_http_client_header *headers,
                                                size_t n_headers, const struct tg_buf *body,
                                                uint32_t timeout_ms, tg_http_on_result on_result,
                                                void *arg, struct tg_err *err);

/* GETs base + path; when that is 404 or 405, base + fallback. `any_answer`: any status under 500 of
 * the last one is health enough (the receiver has no health page that we know). */
void tg_http_backend_health(struct tg_http_backend *h, const char *base, const char *path,
                            const char *fallback, bool any_answer, tg_on_health on_health,
                            void *arg);

/* Fills what every request carries (User-Agent, Authorization); how many. Room for
 * TG_BACKEND_MAX_HEADERS. */
size_t tg_http_backend_headers(const struct tg_http_backend *h, struct tg_http_client_header *out);

/* GETs `url` (copied) with authentication. */
TG_MUST_CHECK enum tg_code tg_http_backend_get(struct tg_http_backend *h, const char *url,
                                               tg_http_on_result on_result, void *arg,
                                               struct tg_err *err);

/* The server's own words out of an answer's body: a JSON "error" or "message", or its first line;
 * printable, cut to fit, "" when there is nothing. Returns out. */
char *tg_http_backend_words(char *out, size_t cap, const struct tg_http_result *r);

/* What a result that is not 2xx means for a query: a code and a message with the server's words. */
enum tg_code tg_http_backend_failure(const struct tg_http_result *r, struct tg_err *err);

/* Appends "&name=value" ("?" the first time). */
TG_MUST_CHECK enum tg_code tg_backend_url_param(struct tg_buf *out, const char *name,
                                                const char *value);

#endif
