#include "core/client/sender.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/net/http_client.h"
#include "core/net/loop.h"
#include "core/protocol/otlp_encode.h"

enum { MAX_CONNECTIONS = 256, TICK_MS = 200, BACKOFF_MIN_MS = 250, BACKOFF_MAX_MS = 10000 };

struct slot { /* one body on its way */
    struct tg_sender *sender;
    struct tg_buf body;
    uint64_t n_points;
    uint64_t first_ms; /* monotonic, of the first try */
    unsigned n_tries;
    bool last_try; /* the time for retries ends with it */
    struct tg_timer *timer;
    bool busy;
    bool sleeping; /* until the next try */
};

struct tg_sender {
    struct tg_sender_config config;
    struct tg_loop *loop;
    struct tg_http_client *client;
    struct tg_timer *tick;
    char url[1024];
    unsigned n_busy;
    struct tg_sender_stats stats;
    struct slot slots[MAX_CONNECTIONS];
};

static const struct {
    const char *name, *path, *content_type, *encoding, *extra;
} protocols[] = {
    [TG_SEND_OTLP] = {"otlp", "/v1/metrics", "application/x-protobuf", NULL, NULL},
    [TG_SEND_REMOTE_WRITE] = {"remote-write", "/api/v1/write", "application/x-protobuf", "snappy",
                              "0.1.0"},
    [TG_SEND_INFLUX] = {"influx", "/api/v2/write", "text/plain; charset=utf-8", NULL, NULL},
};

int tg_send_protocol_find(const char *name)
{
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
        if (strcmp(protocols[i].name, name) == 0) return (int)i;
    return -1;
}

static void try_send(struct slot *slot);

static void end_slot(struct slot *slot)
{
    slot->busy = false;
    slot->sender->n_busy--;
}

/* --- answers ----------------------------------------------------------------------------------*/

/* The reason in an answer, for people: JSON's "message" or "error", a google.rpc.Status's message
 * (field 2), or plain text. */
static void answer_text(char *out, size_t cap, enum tg_send_protocol protocol,
                        const struct tg_http_result *r)
{
    if (r->len && r->body[0] == '{') {
        json_t *o = json_loadb((const char *)r->body, r->len, 0, NULL);
        const char *text = json_string_value(json_object_get(o, "message"));
        if (!text) text = json_string_value(json_object_get(o, "error"));
        if (text) (void)snprintf(out, cap, "%s", text);
        json_decref(o);
        if (text) return;
    }
    int32_t grpc_code = 0;
    struct tg_string message = {0};
    if (protocol == TG_SEND_OTLP &&
        tg_otlp_decode_status(r->body, r->len, &grpc_code, &message, NULL) == TG_OK &&
        message.len) {
        (void)snprintf(out, cap, "%.*s", (int)(message.len < 400 ? message.len : 400), message.ptr);
        return;
    }
    (void)snprintf(out, cap, "%.*s", (int)(r->len < 400 ? r->len : 400), (const char *)r->body);
    out[strcspn(out, "\r\n")] = '\0';
    if (!out[0]) (void)snprintf(out, cap, "HTTP status %d", r->status);
}

static void refuse(struct slot *slot, uint64_t n, const char *message)
{
    struct tg_sender_stats *stats = &slot->sender->stats;
    if (stats->n_refused == 0)
        (void)snprintf(stats->message, sizeof(stats->message), "%s", message);
    if (n > slot->n_points) n = slot->n_points;
    stats->n_refused += n;
    stats->n_taken += slot->n_points - n;
}

/* How many of the points a partly taken request lost, by the words of the answer. */
static uint64_t partial_count(const struct slot *slot, const char *text)
{
    const char *dropped = strstr(text, "dropped=");
    uint64_t n = slot->n_points;
    if (dropped)
        n = strtoull(dropped + 8, NULL, 10);
    else if (strstr(text, "samples were refused, the others were stored"))
        n = strtoull(text, NULL, 10);
    return n;
}

static bool is_stopped(const struct tg_sender *s)
{
    return s->config.stop && *s->config.stop;
}

static bool retry(struct slot *slot, int64_t retry_after_ms, const char *why)
{
    struct tg_sender *s = slot->sender;
    const uint64_t now_ms = tg_clock_mono_ms();
    int64_t wait_ms = BACKOFF_MIN_MS;
    for (unsigned i = 1; i < slot->n_tries && wait_ms < BACKOFF_MAX_MS; i++) wait_ms *= 2;
    if (wait_ms > BACKOFF_MAX_MS) wait_ms = BACKOFF_MAX_MS;
    wait_ms = wait_ms / 2 + random() % (wait_ms / 2 + 1);
    if (retry_after_ms > wait_ms) wait_ms = retry_after_ms;
    if (s->stats.n_refused == 0)
        (void)snprintf(s->stats.message, sizeof(s->stats.message), "%s", why);
    const uint64_t until_ms = slot->first_ms + (uint64_t)s->config.retry_for_ms;
    if (is_stopped(s) || slot->last_try || now_ms >= until_ms) return false;
    slot->last_try = (uint64_t)wait_ms >= until_ms - now_ms;
    if (slot->last_try) wait_ms = (int64_t)(until_ms - now_ms);
    s->stats.n_retries++;
    slot->sleeping = true;
    tg_timer_start(slot->timer, (uint64_t)wait_ms);
    return true;
}

static void on_result(void *arg, const struct tg_http_result *r)
{
    struct slot *slot = arg;
    struct tg_sender *s = slot->sender;
    char text[512];
    if (r->code != TG_OK) {
        (void)snprintf(text, sizeof(text), "no answer: %.400s", r->message);
        if (r->code != TG_ERR_CANCELED && retry(slot, -1, text)) return;
        s->stats.n_given_up += slot->n_points;
    } else if (r->status / 100 == 2) {
        int64_t n_rejected = 0;
        struct tg_string message = {0};
        if (s->config.protocol == TG_SEND_OTLP &&
            tg_otlp_decode_response(r->body, r->len, &n_rejected, &message, NULL) != TG_OK)
            n_rejected = 0;
        if (n_rejected > 0) {
            (void)snprintf(text, sizeof(text), "%.*s", (int)(message.len < 400 ? message.len : 400),
                           message.len ? message.ptr : "");
            refuse(slot, (uint64_t)n_rejected, text);
        } else {
            s->stats.n_taken += slot->n_points;
        }
    } else if (r->status == 429 || (r->status >= 500 && r->status != 501)) {
        answer_text(text, sizeof(text), s->config.protocol, r);
        if (retry(slot, r->retry_after_ms, text)) return;
        s->stats.n_given_up += slot->n_points;
    } else {
        answer_text(text, sizeof(text), s->config.protocol, r);
        refuse(slot, partial_count(slot, text), text);
    }
    if (r->status) s->stats.bytes += slot->body.len;
    end_slot(slot);
}

/* --- sending ----------------------------------------------------------------------------------*/

static void try_send(struct slot *slot)
{
    struct tg_sender *s = slot->sender;
    struct tg_http_client_header headers[4];
    size_t n = 0;
    headers[n++] =
        (struct tg_http_client_header){"Content-Type", protocols[s->config.protocol].content_type};
    if (protocols[s->config.protocol].encoding)
        headers[n++] = (struct tg_http_client_header){"Content-Encoding",
                                                      protocols[s->config.protocol].encoding};
    if (protocols[s->config.protocol].extra)
        headers[n++] = (struct tg_http_client_header){"X-Prometheus-Remote-Write-Version",
                                                      protocols[s->config.protocol].extra};
    headers[n++] = (struct tg_http_client_header){"User-Agent", "tidegate-send/" TG_VERSION};
    const struct tg_http_call call = {.method = "POST",
                                      .url = s->url,
                                      .headers = headers,
                                      .n_headers = n,
                                      .body = slot->body.data,
                                      .len = slot->body.len,
                                      .timeout_ms = 30000};
    struct tg_err err = {.msg = ""};
    slot->n_tries++;
    s->stats.n_requests++;
    if (tg_http_client_send(s->client, &call, on_result, slot, &err) != TG_OK) {
        refuse(slot, slot->n_points, err.msg);
        end_slot(slot);
    }
}

static void on_retry(void *arg)
{
    struct slot *slot = arg;
    struct tg_sender *s = slot->sender;
    slot->sleeping = false;
    if (is_stopped(s)) {
        s->stats.n_given_up += slot->n_points;
        end_slot(slot);
        return;
    }
    try_send(slot);
}

static void on_tick(void *arg)
{
    struct tg_sender *s = arg;
    if (s->config.on_tick) s->config.on_tick(s->config.arg);
    tg_timer_start(s->tick, TICK_MS);
}

static void turn(struct tg_sender *s)
{
    tg_loop_once(s->loop, TICK_MS);
}

enum tg_code tg_sender_new(const struct tg_sender_config *config, struct tg_sender **out,
                           struct tg_err *err)
{
    struct tg_sender *s = tg_calloc(1, sizeof(*s));
    if (!s) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    s->config = *config;
    if (s->config.connections == 0) s->config.connections = 1;
    if (s->config.connections > MAX_CONNECTIONS) s->config.connections = MAX_CONNECTIONS;
    const char *base = config->base_url;
    size_t base_len = strlen(base);
    while (base_len && base[base_len - 1] == '/') base_len--;
    const int n =
        snprintf(s->url, sizeof(s->url), "%s%.*s%s%s%s", strstr(base, "://") ? "" : "http://",
                 (int)base_len, base, protocols[config->protocol].path, config->query ? "?" : "",
                 config->query ? config->query : "");
    enum tg_code code = TG_OK;
    if (n < 0 || (size_t)n >= sizeof(s->url))
        code = tg_fail(err, TG_ERR_INVALID, "the address is too long");
    const struct tg_http_client_config client = {.max_connections = s->config.connections};
    if (code == TG_OK) {
        s->loop = tg_loop_new();
        s->client = s->loop ? tg_http_client_new(s->loop, &client) : NULL;
        s->tick = s->loop ? tg_timer_new(s->loop, on_tick, s) : NULL;
        if (!s->client || !s->tick) code = tg_fail(err, TG_ERR_NOMEM, "out of memory");
    }
    for (unsigned i = 0; code == TG_OK && i < s->config.connections; i++) {
        s->slots[i].sender = s;
        tg_buf_init(&s->slots[i].body, 0);
        s->slots[i].timer = tg_timer_new(s->loop, on_retry, &s->slots[i]);
        if (!s->slots[i].timer) code = tg_fail(err, TG_ERR_NOMEM, "out of memory");
    }
    if (code != TG_OK) {
        tg_sender_free(s);
        return code;
    }
    tg_timer_start(s->tick, TICK_MS);
    *out = s;
    return TG_OK;
}

enum tg_code tg_sender_submit(struct tg_sender *s, struct tg_buf *body, uint64_t n_points,
                              struct tg_err *err)
{
    while (s->n_busy == s->config.connections && !is_stopped(s)) turn(s);
    if (s->n_busy == s->config.connections) return tg_fail(err, TG_ERR_CANCELED, "stopped");
    if (s->config.ends_at_give_up && s->stats.n_given_up)
        return tg_fail(err, TG_ERR_UNAVAILABLE, "%s", s->stats.message);
    struct slot *slot = s->slots;
    while (slot->busy) slot++;
    const struct tg_buf empty = slot->body;
    slot->body = *body;
    *body = empty;
    tg_buf_reset(body);
    slot->busy = true;
    slot->n_points = n_points;
    slot->n_tries = 0;
    slot->first_ms = tg_clock_mono_ms();
    slot->last_try = false;
    s->n_busy++;
    try_send(slot);
    return TG_OK;
}

void tg_sender_finish(struct tg_sender *s)
{
    bool woken = false;
    while (s->n_busy) {
        turn(s);
        if (!is_stopped(s) || woken) continue;
        woken = true; /* what sleeps until its next try is given up at once; the rest is answered */
        for (unsigned i = 0; i < s->config.connections; i++)
            if (s->slots[i].sleeping) tg_timer_start(s->slots[i].timer, 0);
    }
}

void tg_sender_sleep(struct tg_sender *s, uint64_t ms)
{
    const uint64_t until_ms = tg_clock_mono_ms() + ms;
    for (;;) {
        const uint64_t now_ms = tg_clock_mono_ms();
        if (now_ms >= until_ms || is_stopped(s)) return;
        const uint64_t left_ms = until_ms - now_ms;
        tg_loop_once(s->loop, (int)(left_ms < TICK_MS ? left_ms : TICK_MS));
    }
}

const struct tg_sender_stats *tg_sender_stats(const struct tg_sender *s)
{
    return &s->stats;
}

void tg_sender_free(struct tg_sender *s)
{
    if (!s) return;
    for (unsigned i = 0; i < MAX_CONNECTIONS; i++) tg_timer_free(s->slots[i].timer);
    tg_timer_free(s->tick);
    tg_http_client_free(s->client);
    tg_loop_free(s->loop);
    for (unsigned i = 0; i < MAX_CONNECTIONS; i++) tg_buf_deinit(&s->slots[i].body);
    tg_free(s);
}
