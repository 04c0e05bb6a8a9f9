#include "core/backend/http/http_query.h"

#include "core/base/mem.h"

enum { LOOK_EVERY_MS = 50 };

struct fetch {
    struct tg_http_client *client;
    struct tg_timer *look; /* at the stop */
    struct tg_query_stop *stop;
    tg_http_on_result on_result;
    void *arg;
};

static void fetch_free(struct fetch *f)
{
    if (!f) return;
    tg_timer_free(f->look);
    tg_http_client_free(f->client);
    tg_free(f);
}

static void on_look(void *arg)
{
    struct fetch *f = arg;
    if (tg_query_must_stop(f->stop))
        tg_http_client_cancel(f->client, f);
    else
        tg_timer_start(f->look, LOOK_EVERY_MS);
}

static void on_result(void *arg, const struct tg_http_result *r)
{
    struct fetch *f = arg;
    f->on_result(f->arg, r);
    fetch_free(f); /* the client goes when this callback has returned */
}

struct tg_loop *tg_http_backend_query_loop(const struct tg_http_backend *h,
                                           const struct tg_query *q)
{
    return q->loop ? q->loop : h->loop;
}

enum tg_code tg_http_backend_query(const struct tg_http_backend *h, const struct tg_query *q,
                                   const char *url, tg_http_on_result on_answer, void *arg,
                                   struct tg_err *err)
{
    struct tg_loop *loop = tg_http_backend_query_loop(h, q);
    const struct tg_http_client_config config = {
        .max_connections = 1,
        .connect_timeout_ms = h->timeout_ms < 10000 ? h->timeout_ms : 10000,
        .max_response_bytes = TG_BACKEND_MAX_ANSWER_BYTES,
    };
    struct tg_http_client_header headers[TG_BACKEND_MAX_HEADERS];
    const struct tg_http_call call = {
        .method = "GET",
        .url = url,
        .headers = headers,
        .n_headers = tg_http_backend_headers(h, headers),
        .timeout_ms = h->timeout_ms,
    };
    struct fetch *f = tg_calloc(1, sizeof(*f));
    enum tg_code code = TG_ERR_NOMEM;
    if (f) {
        *f = (struct fetch){.stop = q->stop, .on_result = on_answer, .arg = arg};
        f->client = tg_http_client_new(loop, &config);
        f->look = tg_timer_new(loop, on_look, f);
    }
    if (!f || !f->client || !f->look)
        (void)tg_fail(err, code, "no memory for a query");
    else
        code = tg_http_client_send(f->client, &call, on_result, f, err);
    if (code != TG_OK) {
        fetch_free(f);
        return code;
    }
    tg_timer_start(f->look, 0);
    return TG_OK;
}
