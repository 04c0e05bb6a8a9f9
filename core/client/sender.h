/* sender.h: posts request bodies to a gateway as senders do: several connections, retries with
 * backoff for "come back later" and for a gateway that is away, partial successes counted.
 *
 * `submit` returns as soon as a connection is free, turning the loop meanwhile; so at most
 * `connections` bodies are in memory.
 *
 * Threading: one thread; owns its loop.
 */
#ifndef TG_CLIENT_SENDER_H
#define TG_CLIENT_SENDER_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/base/err.h"

enum tg_send_protocol { TG_SEND_OTLP, TG_SEND_REMOTE_WRITE, TG_SEND_INFLUX };
/* "otlp", "remote-write", "influx"; -1 = unknown. */
int tg_send_protocol_find(const char *name);

struct tg_sender_config {
    const char *base_url; /* "http://127.0.0.1:4318"; borrowed */
    enum tg_send_protocol protocol;
    const char *query;          /* appended to the URL ("precision=s"), or NULL */
    unsigned connections;       /* 1 to 256 */
    int64_t retry_for_ms;       /* a body is given up after this */
    bool ends_at_give_up;       /* after that, submit fails with TG_ERR_UNAVAILABLE */
    void (*on_tick)(void *arg); /* about every 200 ms while waiting, or NULL */
    void *arg;
    const volatile bool *stop; /* when it becomes true, waiting ends and no retry begins; or NULL */
};

struct tg_sender_stats {
    uint64_t n_requests, n_retries;
    uint64_t bytes;      /* of bodies answered */
    uint64_t n_taken;    /* points acknowledged */
    uint64_t n_refused;  /* points refused permanently */
    uint64_t n_given_up; /* points for which nobody had room, or nobody answered, until the end */
    char message[512]; /* the gateway's words about the first refusal, or why the last try failed */
};

struct tg_sender;
TG_MUST_CHECK enum tg_code tg_sender_new(const struct tg_sender_config *config,
                                         struct tg_sender **out, struct tg_err *err);
/* Sends what `body` holds (its storage is exchanged for an empty one). */
TG_MUST_CHECK enum tg_code tg_sender_submit(struct tg_sender *s, struct tg_buf *body,
                                            uint64_t n_points, struct tg_err *err);
/* Until everything submitted is answered or given up. */
void tg_sender_finish(struct tg_sender *s);
/* Waits, sending meanwhile; ends early when stopped. */
void tg_sender_sleep(struct tg_sender *s, uint64_t ms);
const struct tg_sender_stats *tg_sender_stats(const struct tg_sender *s);
void tg_sender_free(struct tg_sender *s); /* NULL accepted */

#endif
