/* receive.h: from an HTTP request to a decoded batch, and from its outcome back to the protocol's
 * own answer.
 *
 *   request ─► protocol by path ─► decompress ─► decode into batch ─► sink (pipe) ─► ...
 *                                                                            ─► tg_ingest_reply
 *
 * A protocol is a table entry (one file each): which paths, how to decode, how to answer. What all
 * share lives in receive.c: content encodings, size limits, counters, the journey's object.
 *
 * Threading: a receiver and its ingests belong to one worker's thread. A sink may hand `in->batch`
 * to other threads as long as the reply is given on the worker's.
 */
#ifndef TG_RECEIVE_RECEIVE_H
#define TG_RECEIVE_RECEIVE_H

#include "core/base/metric.h"
#include "core/net/http_server.h"
#include "core/protocol/intake.h"

struct tg_receiver;
struct tg_ingest;

enum { TG_PROTOCOLS = 3 };

struct tg_protocol {
    const char *name;         /* label in /metrics: "otlp", "remote_write", "influx" */
    const char *const *paths; /* ends with NULL */
    const char *content_type; /* the media type it takes, when one is said; NULL = any */
    const char *message;      /* the media type's parameter `proto`, when it has one; NULL = any */
    bool needs_snappy;        /* remote write: snappy block format whatever the header says */
    /* Appends to in->batch through in->intake. A failure refuses the whole request. */
    enum tg_code (*decode)(struct tg_ingest *in, const uint8_t *body, size_t len,
                           struct tg_err *err);
    /* Answers; the HTTP status. code TG_OK: the accepted points are as safe as their strategies
     * ask; rejected ones are in in->intake. */
    int (*reply)(struct tg_ingest *in, enum tg_code code, const struct tg_err *err);
    /* Appends the body of an answer with this HTTP status, in the form that the path's clients
     * read, and returns its media type; NULL = plain text (also when out of memory). */
    const char *(*error_body)(const struct tg_http_request *req, int status, const char *text,
                              struct tg_buf *out);
};
extern const struct tg_protocol tg_protocol_otlp, tg_protocol_remote_write, tg_protocol_influx;

/* One request's journey. Made by the receiver, carried by the pipe, ended by tg_ingest_reply. */
struct tg_ingest {
    struct tg_receiver *receiver;
    const struct tg_protocol *protocol;
    struct tg_http_request *req;
    struct tg_batch batch;   /* the accepted points; the pipe may reset it once they are logged */
    struct tg_intake intake; /* n_accepted, n_rejected, first_reject */
    char first_line[128];    /* Influx: the start of the first line that was refused */
    struct tg_ingest *next_free;

    /* The pipe's alone: */
    struct tg_loop_item item;
    enum tg_code code;
    struct tg_err err;
    uint64_t end_pos;
    uint32_t wait;                 /* backends whose cursors the reply waits for */
    uint32_t waited;               /* those it has waited for at all */
    uint64_t deadline_ms;          /* monotonic */
    struct tg_ingest *prev, *next; /* list of waiting ones */
};

struct tg_receiver_config {
    struct tg_table *table;          /* borrowed */
    uint64_t max_decompressed_bytes; /* one request */
    uint32_t retry_after_s;          /* what "come back later" says; 0 = 5 */
    /* Sites whose web pages may send, with commas between ("https://app.example.com"; "*" = any);
     * NULL = none. Other senders name no site. */
    const char *origins;
    /* Takes over a decoded request: must end it with tg_ingest_reply, now or later. Never called
     * with 0 points. */
    void (*sink)(void *arg, struct tg_ingest *in);
    /* Asked before anything is decoded: NULL = go on, else why new data is refused for now. */
    const char *(*admission)(void *arg);
    void *arg;
};

/* NULL when out of memory. */
struct tg_receiver *tg_receiver_new(const struct tg_receiver_config *config);
void tg_receiver_free(struct tg_receiver *r); /* all ingests replied; NULL accepted */

/* The tg_http_handler of a worker's server; `receiver` is the arg. */
void tg_receiver_on_request(struct tg_http_request *req, void *receiver);

/* What the server itself refuses, in the words of the path's protocol: tg_http_server_config,
 * refusal. */
const char *tg_receiver_refusal(const struct tg_http_request *req, int status, const char *text,
                                struct tg_buf *out);

/* Ends a request that never became an ingest with an error in the words of `p`; NULL = plain text.
 */
void tg_receive_reply_error(const struct tg_protocol *p, struct tg_http_request *req, int status,
                            const char *text);

/* The `arg` that its receiver was made with. Any thread. */
void *tg_ingest_sink_arg(const struct tg_ingest *in);

/* Ends an ingest: answers in its protocol's words, counts, recycles. `err` may be NULL when code is
 * TG_OK. */
void tg_ingest_reply(struct tg_ingest *in, enum tg_code code, const struct tg_err *err);

/* The answer's value for Retry-After when `code` is of class full or transient, else NULL. */
const char *tg_receive_retry_after(const struct tg_ingest *in, enum tg_code code);

/* "message (at byte N of the body)\n", for protocols that answer in plain text. */
void tg_receive_error_text(char *out, size_t cap, const struct tg_err *err);

/* What OTLP senders ask beside /v1/metrics: signals that are not served (an SDK with one endpoint
 * for all of them asks for each), and /v1/metrics/. Answers 404 as a google.rpc.Status, in the
 * encoding of the request (otlp_http.c). True when answered. */
bool tg_otlp_answer_unserved(struct tg_http_request *req);

/* What Influx clients ask beside their writes: /ping, /health, /ready, /query (influx_probe.c).
 * True when answered. `not_ready` = why new data is refused for now, or NULL; `start_ns`, wall
 * clock = since when this runs. */
bool tg_influx_answer_probe(struct tg_http_request *req, const char *not_ready, int64_t start_ns);

/* Counters shared by all receivers of the process, by protocol. */
struct tg_receive_metrics {
    struct tg_metric requests[TG_PROTOCOLS], points[TG_PROTOCOLS], rejected[TG_PROTOCOLS],
        bytes[TG_PROTOCOLS];
    struct tg_metric refused[TG_PROTOCOLS][6]; /* requests, by error class (enum tg_class - 1) */
    struct tg_metric exemplars_invalid[TG_PROTOCOLS], exemplars_memory[TG_PROTOCOLS];
    struct tg_metric metadata[TG_PROTOCOLS][TG_HELP_FULL + 1]; /* by enum tg_help_noted */
    struct tg_metric misses, attributes_twice;
};
extern struct tg_receive_metrics tg_receive_metrics;
void tg_receive_metrics_register(void); /* once */
void tg_receive_metrics_unregister(void);

#endif
