/* http_internal.h: what the HTTP server's files share; not for other layers.
 *
 *   tg_http_server  listener, limits, pools, lists of connections          (http_server.c)
 *   tg_http_conn    one socket: bytes in, replies out, deadlines           (http_conn.c)
 *                   what a request may look like, and refusals             (http_parse.c)
 *   tg_http_request one request: header strings, body, caller data         (http_request.c)
 *
 * A request outlives its connection while a handler holds it, and outlives the server likewise; a
 * connection points to at most one request at a time. All bytes pass through `struct tg_http_io`,
 * under which TLS can be put without the state machine knowing.
 *
 *   IDLE --first byte--> HEAD --headers--> BODY --last byte--> HANDLING --reply--> WRITING
 *     ^                    |                 |  (refused: 4xx)                        |
 *     +--------------------|-----------------|----keep-alive-------------------------+
 *                          +-----------------+----> WRITING -> LINGER -> closed <--close
 *
 * Threading: the loop's thread only, but for the counters.
 */
#ifndef TG_NET_HTTP_INTERNAL_H
#define TG_NET_HTTP_INTERNAL_H

#include <event2/event_struct.h>
#include <http_parser.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "core/base/buf.h"
#include "core/net/http_server.h"

struct tg_http_conn;

enum {
    TG_HTTP_SCRATCH_BYTES = 256 * 1024, /* one read takes up to this much */
    TG_HTTP_MAX_HEADERS = 128,
    TG_HTTP_MAX_HEADER_LIMIT = 64 * 1024,    /* the parser library itself stops at 80 KiB */
    TG_HTTP_BODY_FIRST_BYTES = 64 * 1024,    /* a body buffer starts with at most this */
    TG_HTTP_POOL_BUFFER_BYTES = 1024 * 1024, /* larger body buffers are not kept */
    TG_HTTP_POOL_BUFFERS = 32,
    TG_HTTP_POOL_REQUESTS = 64,
    TG_HTTP_POOL_TRIM_MS = 5000,
    TG_HTTP_LINGER_MS = 2000,
    TG_HTTP_EXTRA_CONNECTIONS = 64, /* at most, being told 503 beyond max_connections */
    TG_HTTP_ACCEPT_PAUSE_MS = 100,
    TG_HTTP_REQUESTS_PER_TURN = 64, /* pipelined requests served before others get their turn */
    TG_HTTP_PEER_BYTES = 64,
};

/* The bytes' way in and out. As recvmsg/sendmsg: > 0 bytes, 0 = the peer ended (read only), -1 with
 * errno; EAGAIN means that the connection's events will tell. */
struct tg_http_io {
    ssize_t (*read)(struct tg_http_conn *c, struct iovec *iov, int n);
    ssize_t (*write)(struct tg_http_conn *c, struct iovec *iov, int n);
};
extern const struct tg_http_io tg_http_io_plain;

struct tg_http_body { /* capacity counted in the server's in-flight bytes while on a request */
    uint8_t *data;
    size_t len, cap; /* cap leaves room for a final NUL beyond it */
};

struct tg_http_request {
    struct tg_http_server *server;       /* NULL once the server is gone */
    struct tg_http_conn *conn;           /* NULL once the connection is gone */
    struct tg_http_request *prev, *next; /* server's list of requests, or pool (next only) */
    void *user;
    void (*on_peer_close)(void *arg); /* NULL = nobody asked, or it was said */
    void *on_peer_close_arg;
    struct tg_http_body body;
    /* target NUL, then name NUL value NUL per header, then path NUL and the decoded query: name NUL
     * value NUL per parameter */
    struct tg_buf text;
    uint32_t path_off, query_off, query_end;
    uint32_t n_headers;
    struct {
        uint32_t name, value; /* offsets in text */
    } headers[TG_HTTP_MAX_HEADERS];
    const char *method;
    bool is_head, keep_alive, is_http_1_0;
    bool has_target; /* path and query are known */
    struct tg_http_header_pair reply_headers[TG_HTTP_REPLY_HEADERS];
    unsigned n_reply_headers;
    char peer[TG_HTTP_PEER_BYTES];
};

enum tg_http_conn_state {
    TG_HTTP_IDLE,
    TG_HTTP_HEAD,
    TG_HTTP_BODY,
    TG_HTTP_HANDLING,
    TG_HTTP_WRITING,
    TG_HTTP_LINGER,
    TG_HTTP_DEAD,
};

struct tg_http_conn {
    struct tg_http_server *server;
    const struct tg_http_io *io;
    struct tg_http_conn *prev, *next; /* server's list of live or of dead ones */
    struct tg_http_conn
        *resume_next; /* server's list of those with pipelined bytes to go on with */
    int fd;
    uint8_t state;         /* enum tg_http_conn_state */
    bool reading, writing; /* events added */
    bool processing;       /* inside tg_http_conn's own parse loop: replies only note themselves */
    bool resume_queued;
    bool close_after; /* no further request is taken */
    bool counted;     /* in n_connections (not one of the extra ones that are told 503) */
    bool in_trailer, is_chunked, is_complete;
    uint8_t last_part;     /* which parser callback came last: enum in http_parse.c */
    uint32_t header_bytes; /* of this request, consumed so far; then trailer bytes */
    uint64_t body_left;    /* of a body with Content-Length */
    uint64_t deadline_ms;  /* monotonic; 0 = none */
    uint64_t timer_ms;     /* when the timer event will fire; 0 = not pending */
    int refuse_status;     /* set by a parser callback that refuses */
    uint32_t refuse_retry_after_s;
    char refuse_text[320];
    struct tg_http_request *req;
    http_parser parser;
    struct tg_buf carry; /* bytes read beyond the request in progress */
    size_t carry_pos;
    struct tg_buf out; /* reply bytes that the socket did not take yet */
    size_t out_pos;
    struct event read_event, write_event, timer_event;
    char peer[TG_HTTP_PEER_BYTES];
};

struct tg_http_server {
    struct tg_loop *loop;
    struct tg_http_server_config config;
    tg_http_handler handler;
    void *arg;
    int fd; /* -1 once stopped */
    uint16_t port;
    bool stopping;
    bool accept_paused_logged;
    unsigned busy; /* callbacks on the stack: a free asked for within waits for their end */
    bool free_asked;
    struct event accept_event;
    struct event turn_event; /* next loop turn: resume and free */
    bool turn_pending;
    struct event trim_event;
    struct tg_http_conn *conns, *dead, *resume_first, *resume_last;
    struct tg_http_request *requests; /* all that are not pooled */
    struct tg_http_request *request_pool;
    unsigned n_request_pool;
    struct tg_http_body body_pool[TG_HTTP_POOL_BUFFERS]; /* used last in, first out */
    unsigned n_body_pool, body_pool_low;                 /* low: fewest since the last trim */
    uint64_t inflight_bytes;
    size_t n_conns, n_extra;
    size_t n_handling;  /* requests with the handler */
    uint8_t *scratch;   /* TG_HTTP_SCRATCH_BYTES; one reader at a time */
    struct tg_buf head; /* reply header being built */
    int64_t date_s;     /* wall clock, of `date` */
    char date[32];      /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    struct {
        _Atomic uint64_t connections, connections_total, requests_total, refused_connections,
            refused_requests, timeouts, bytes_in, bytes_out;
    } stats;
};

/* Counters have one writer, so a plain add is enough; readers on other threads see whole values. */
static inline void tg_http_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Takes a connected non-blocking stream socket into the server, also on failure. `refuse`: only to
 * be told 503. */
void tg_http_conn_open(struct tg_http_server *s, int fd, const char *peer, bool refuse);
/* Takes `fd` as if it had been accepted: for tests, fuzzing, and sockets handed over. */
void tg_http_server_adopt(struct tg_http_server *s, int fd, const char *peer);
void tg_http_conn_close(struct tg_http_conn *c); /* now; memory goes at the next turn */
void tg_http_conn_free(struct tg_http_conn *c);  /* frees a closed one */
void tg_http_conn_resume(struct tg_http_conn *c);
void tg_http_conn_send_continue(struct tg_http_conn *c); /* may close c */

/* Notes a refusal; the first one counts. Returns -1, for the parser's callbacks. */
int tg_http_conn_refuse(struct tg_http_conn *c, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Feeds header or chunked body to the parser. Returns how many bytes it took; notes a refusal. */
size_t tg_http_conn_parse(struct tg_http_conn *c, const char *p, size_t n);
/* Appends to the request's body. false: refused, and noted. */
bool tg_http_conn_append_body(struct tg_http_conn *c, const char *at, size_t len);

void tg_http_server_want_turn(struct tg_http_server *s);
void tg_http_server_enter(struct tg_http_server *s);
void tg_http_server_leave(struct tg_http_server *s); /* may free s */

/* NULL when out of memory. */
struct tg_http_request *tg_http_request_take(struct tg_http_server *s);
/* Back to the pool (or freed), with its body buffer. */
void tg_http_request_release(struct tg_http_request *r);
/* Splits the target into decoded path and query. TG_ERR_MALFORMED, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_http_request_split_target(struct tg_http_request *r,
                                                        struct tg_err *err);
/* Room for at least one and at best `want` more body bytes, growing as data comes: `total` is the
 * declared size or 0. TG_ERR_FULL over the in-flight limit, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_http_request_reserve_body(struct tg_http_request *r, size_t want,
                                                        uint64_t total);

#endif
