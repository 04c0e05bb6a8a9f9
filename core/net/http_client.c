#include "core/net/http_client.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/mem.h"

/* Longest wait that a Retry-After can ask for; longer ones are an answer gone wrong, and the
 * arithmetic must hold. The caller has caps of its own. */
enum { MAX_RETRY_AFTER_S = 7 * 86400 };

/* While calls are open, a slow tick stands behind curl's own events: where memory ran out for one
 * of those, it drives the transfers, and it ends calls that curl forgot. A lost callback would
 * stop a backend for ever. */
enum { TICK_MS = 200, GRACE_MS = 1000, DEFAULT_TIMEOUT_MS = 30000 };

struct client_socket { /* what curl waits for on one socket */
    struct tg_http_client *client;
    struct client_socket *prev, *next;
    struct event event;
};

struct request {
    struct tg_http_client *client;
    struct request *prev, *next; /* client's list of open ones, or of spare ones (next only) */
    CURL *easy;
    struct curl_slist *headers;
    struct tg_buf body;
    enum tg_code body_code; /* why the answer's body was not taken */
    uint64_t deadline_ms;   /* when the tick ends it */
    bool is_canceled;       /* the tick ends it */
    tg_http_on_result on_result;
    void *arg;
    char method[16];
    char origin[128]; /* scheme://host:port for messages: paths and queries may hold secrets */
    char error[CURL_ERROR_SIZE];
};

struct tg_http_client {
    struct tg_loop *loop;
    struct tg_http_client_config config;
    CURLM *multi;
    struct event timer, tick;
    bool degraded; /* some socket is not watched */
    struct client_socket *sockets;
    struct request *open, *spare;
    unsigned n_spare;
    unsigned busy; /* callbacks on the stack: a free asked for within waits for their end */
    bool free_asked;
    char *no_proxy;
};

/* curl's memory is counted but never refused: it crashes on failed allocations. What it uses is
 * bounded by the connections and open calls of each client. */
static char *curl_strdup(const char *s)
{
    if (!s) return NULL;
    const size_t len = strlen(s) + 1;
    char *out = tg_malloc_always(len);
    if (out) memcpy(out, s, len);
    return out;
}

static bool init_curl(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool done;
    (void)pthread_mutex_lock(&lock);
    if (!done)
        done = curl_global_init_mem(CURL_GLOBAL_DEFAULT, tg_malloc_always, tg_free,
                                    tg_realloc_always, curl_strdup, tg_calloc_always) == CURLE_OK;
    const bool ok = done;
    (void)pthread_mutex_unlock(&lock);
    return ok;
}

/* --- results --- */

static int64_t retry_after_ms(CURL *easy)
{
    struct curl_header *h = NULL;
    if (curl_easy_header(easy, "Retry-After", 0, CURLH_HEADER, -1, &h) != CURLHE_OK) return -1;
    int64_t seconds = 0;
    size_t i = 0;
    for (; h->value[i] >= '0' && h->value[i] <= '9'; i++)
        if (seconds <= MAX_RETRY_AFTER_S) seconds = seconds * 10 + (h->value[i] - '0');
    if (i == 0 || h->value[i]) { /* not delay-seconds: an HTTP-date (RFC 9110, 10.2.3) */
        const time_t when = curl_getdate(h->value, NULL);
        if (when == (time_t)-1) return -1;
        seconds = (int64_t)when - tg_clock_wall_ns() / 1000000000;
        if (seconds < 0) seconds = 0;
    }
    if (seconds > MAX_RETRY_AFTER_S) seconds = MAX_RETRY_AFTER_S;
    return seconds * 1000;
}

static void unlink_open(struct request *r)
{
    struct tg_http_client *c = r->client;
    if (r->prev)
        r->prev->next = r->next;
    else
        c->open = r->next;
    if (r->next) r->next->prev = r->prev;
    r->prev = r->next = NULL;
}

static void request_free(struct request *r)
{
    if (!r) return;
    curl_slist_free_all(r->headers);
    if (r->easy) curl_easy_cleanup(r->easy);
    tg_buf_deinit(&r->body);
    tg_free(r);
}

static void request_put_back(struct request *r)
{
    struct tg_http_client *c = r->client;
    curl_slist_free_all(r->headers);
    r->headers = NULL;
    tg_buf_reset(&r->body);
    if (r->body.cap > 64 * 1024) tg_buf_deinit(&r->body);
    if (c->n_spare >= c->config.max_connections) {
        request_free(r);
        return;
    }
    curl_easy_reset(r->easy); /* keeps the connections, which are the multi handle's */
    r->next = c->spare;
    c->spare = r;
    c->n_spare++;
}

static void fill_failure(const struct request *r, CURLcode rc, struct tg_http_result *out)
{
    const char *why = r->error[0] ? r->error : curl_easy_strerror(rc);
    if (r->is_canceled) why = "canceled";
    out->code = r->is_canceled ? TG_ERR_CANCELED : TG_ERR_UNAVAILABLE;
    if (rc == CURLE_OPERATION_TIMEDOUT && !r->is_canceled) out->code = TG_ERR_TIMEOUT;
    if (rc == CURLE_WRITE_ERROR && r->body_code == TG_ERR_TOO_LARGE) {
        out->code = TG_ERR_TOO_LARGE;
        (void)snprintf(out->message, sizeof(out->message),
                       "%s %s: the answer (HTTP %d) is over the limit of %llu bytes", r->method,
                       r->origin, out->status,
                       (unsigned long long)r->client->config.max_response_bytes);
        return;
    }
    if (rc == CURLE_WRITE_ERROR && r->body_code == TG_ERR_NOMEM) why = "no memory for the answer";
    (void)snprintf(out->message, sizeof(out->message), "%s %s: %.100s", r->method, r->origin, why);
}

static void finish(struct request *r, CURLcode rc)
{
    struct tg_http_client *c = r->client;
    struct tg_http_result result = {.code = TG_OK, .retry_after_ms = -1};
    long status = 0;
    (void)curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    result.status = (int)status;
    if (rc == CURLE_OK) {
        result.retry_after_ms = retry_after_ms(r->easy);
        result.len = r->body.len;
    } else {
        fill_failure(r, rc, &result);
    }
    static const uint8_t empty[1];
    result.body = empty;
    if (result.len > 0) {
        result.body = r->body.data;
        r->body.data[r->body.len] = 0; /* on_data keeps room for it */
    }
    unlink_open(r);
    (void)curl_multi_remove_handle(c->multi, r->easy);
    r->on_result(r->arg, &result);
    request_put_back(r);
}

static void cancel_all(struct tg_http_client *c)
{
    while (c->open) {
        struct request *r = c->open;
        struct tg_http_result result = {
            .code = TG_ERR_CANCELED, .body = (const uint8_t *)"", .retry_after_ms = -1};
        (void)snprintf(result.message, sizeof(result.message), "%s %s: canceled", r->method,
                       r->origin);
        unlink_open(r);
        (void)curl_multi_remove_handle(c->multi, r->easy);
        r->on_result(r->arg, &result);
        request_free(r);
    }
}

static void client_free_now(struct tg_http_client *c)
{
    c->free_asked = true; /* callbacks cannot start new calls */
    cancel_all(c);
    while (c->spare) {
        struct request *r = c->spare;
        c->spare = r->next;
        request_free(r);
    }
    if (c->multi) (void)curl_multi_cleanup(c->multi);
    while (c->sockets) { /* curl asks for their removal; what it forgot must not stay */
        struct client_socket *s = c->sockets;
        c->sockets = s->next;
        (void)event_del(&s->event);
        tg_free(s);
    }
    (void)event_del(&c->timer);
    (void)event_del(&c->tick);
    tg_free(c->no_proxy);
    tg_free(c);
}

/* --- the loop's events to curl and back --- */

static void finish_done(struct tg_http_client *c)
{
    int n_left = 0;
    for (CURLMsg *m; !c->free_asked && (m = curl_multi_info_read(c->multi, &n_left)) != NULL;) {
        if (m->msg != CURLMSG_DONE) continue;
        struct request *r = NULL;
        const CURLcode rc = m->data.result;
        (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
        finish(r, rc);
    }
}

static void leave(struct tg_http_client *c)
{
    if (!c->open) {
        c->degraded = false; /* curl asks again for every socket of the next call */
        (void)event_del(&c->tick);
    }
    if (--c->busy == 0 && c->free_asked) client_free_now(c);
}

static void run_curl(struct tg_http_client *c, curl_socket_t fd, int what)
{
    int n_running = 0;
    c->busy++;
    (void)curl_multi_socket_action(c->multi, fd, what, &n_running);
    finish_done(c);
    leave(c);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct tg_http_client *c = arg;
    int n_running = 0;
    c->busy++;
    if (c->degraded)
        (void)curl_multi_perform(c->multi, &n_running);
    else
        (void)curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &n_running);
    finish_done(c);
    const uint64_t now_ms = tg_clock_mono_ms();
    for (struct request *r = c->open; r && !c->free_asked;) {
        struct request *next = r->next;
        if (r->is_canceled || now_ms > r->deadline_ms) {
            finish(r, CURLE_OPERATION_TIMEDOUT);
            next = c->open; /* the callback may have changed the list: from the start again */
        }
        r = next;
    }
    leave(c);
}

static void on_socket_event(evutil_socket_t fd, short what, void *arg)
{
    struct client_socket *s = arg;
    run_curl(s->client, fd,
             (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run_curl(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    (void)multi;
    struct tg_http_client *c = arg;
    if (timeout_ms < 0) {
        (void)event_del(&c->timer);
        return 0;
    }
    const struct timeval tv = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    (void)event_add(&c->timer, &tv); /* failing, the tick does it */
    return 0;
}

static void drop_socket(struct client_socket *s)
{
    (void)event_del(&s->event);
    if (s->prev)
        s->prev->next = s->next;
    else
        s->client->sockets = s->next;
    if (s->next) s->next->prev = s->prev;
    tg_free(s);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    (void)easy;
    struct tg_http_client *c = arg;
    struct client_socket *s = known;
    if (what == CURL_POLL_REMOVE) {
        if (s) drop_socket(s);
        return 0;
    }
    if (!s) {
        s = tg_calloc(1, sizeof(*s));
        if (!s) { /* -1 would end all calls of this client, now and later */
            c->degraded = true;
            return 0;
        }
        s->client = c;
        s->next = c->sockets;
        if (s->next) s->next->prev = s;
        c->sockets = s;
        (void)curl_multi_assign(c->multi, fd, s);
    } else {
        (void)event_del(&s->event);
    }
    const short events = (short)((what & CURL_POLL_IN ? EV_READ : 0) |
                                 (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST);
    (void)event_assign(&s->event, tg_loop_base(c->loop), fd, events, on_socket_event, s);
    if (event_add(&s->event, NULL) != 0) c->degraded = true;
    return 0;
}

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
    struct request *r = arg;
    const size_t len = size * n;
    if (len > r->client->config.max_response_bytes - r->body.len) {
        r->body_code = TG_ERR_TOO_LARGE;
        return 0;
    }
    r->body_code = tg_buf_reserve(&r->body, len + 1);
    if (r->body_code != TG_OK) return 0;
    tg_buf_put(&r->body, data, len);
    return len;
}

/* --- calls --- */

/* The parts of a URL that may be shown, and whether curl will understand it. */
static enum tg_code check_url(const char *url, char *origin, size_t cap, struct tg_err *err)
{
    char *scheme = NULL;
    char *host = NULL;
    char *port = NULL;
    enum tg_code code = TG_OK;
    CURLU *u = curl_url();
    if (!u) return tg_fail(err, TG_ERR_NOMEM, "no memory for a URL");
    const CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, 0);
    if (rc == CURLUE_OUT_OF_MEMORY) {
        code = tg_fail(err, TG_ERR_NOMEM, "no memory for a URL");
    } else if (rc != CURLUE_OK || curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
               curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
               (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
        char quoted[96];
        code = tg_fail(err, TG_ERR_INVALID, "%s is not a URL like http://host:port/path (%s)",
                       tg_quote(quoted, sizeof(quoted), url, strlen(url)),
                       rc != CURLUE_OK ? curl_url_strerror(rc) : "the scheme is not http or https");
    } else {
        (void)curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
        (void)snprintf(origin, cap, "%s://%s:%s", scheme, host, port ? port : "");
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return code;
}

static struct request *take_request(struct tg_http_client *c)
{
    struct request *r = c->spare;
    if (r) {
        c->spare = r->next;
        c->n_spare--;
        r->next = NULL;
        return r;
    }
    r = tg_calloc(1, sizeof(*r));
    if (!r) return NULL;
    r->client = c;
    tg_buf_init(&r->body, 0); /* bounded in on_data */
    r->easy = curl_easy_init();
    if (!r->easy) {
        request_free(r);
        return NULL;
    }
    return r;
}

static bool add_header(struct request *r, const char *line)
{
    struct curl_slist *list = curl_slist_append(r->headers, line);
    if (!list) return false;
    r->headers = list;
    return true;
}

static enum tg_code build_headers(struct request *r, const struct tg_http_call *call,
                                  struct tg_err *err)
{
    char line[4096];
    /* Without this, curl waits up to a second for "100 Continue" from servers that never send it.
     */
    if (!add_header(r, "Expect:")) return tg_fail(err, TG_ERR_NOMEM, "no memory for headers");
    for (size_t i = 0; i < call->n_headers; i++) {
        const char *name = call->headers[i].name;
        const char *value = call->headers[i].value;
        if (strpbrk(name, "\r\n") || strpbrk(value, "\r\n"))
            return tg_fail(err, TG_ERR_INVALID, "header %s holds a line break", name);
        /* curl's own form for a header with an empty value is "Name;" */
        const int n = snprintf(line, sizeof(line), *value ? "%s: %s" : "%s;", name, value);
        if (n < 0 || (size_t)n >= sizeof(line))
            return tg_fail(err, TG_ERR_INVALID, "header %s is over %zu bytes", name, sizeof(line));
        if (!add_header(r, line)) return tg_fail(err, TG_ERR_NOMEM, "no memory for headers");
    }
    return TG_OK;
}

static bool set_options(struct request *r, const struct tg_http_call *call)
{
    CURL *e = r->easy;
    const struct tg_http_client *c = r->client;
    const uint32_t timeout_ms = call->timeout_ms ? call->timeout_ms : DEFAULT_TIMEOUT_MS;
    bool ok = true;
#define SET(option, value) ok = ok && curl_easy_setopt(e, option, value) == CURLE_OK
    SET(CURLOPT_PRIVATE, r);
    SET(CURLOPT_URL, call->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_NOSIGNAL, 1L);
    /* A call that ends while its host name is being looked up must not wait for the resolver. */
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_NOPROXY, c->no_proxy);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)c->config.connect_timeout_ms);
    SET(CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    SET(CURLOPT_ERRORBUFFER, r->error);
    SET(CURLOPT_WRITEFUNCTION, on_data);
    SET(CURLOPT_WRITEDATA, r);
    SET(CURLOPT_HTTPHEADER, r->headers);
    if (strcmp(call->method, "GET") == 0) {
        SET(CURLOPT_HTTPGET, 1L);
    } else if (strcmp(call->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else {
        SET(CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->len);
        SET(CURLOPT_POSTFIELDS, call->len ? call->body : "");
        if (strcmp(call->method, "POST") != 0) SET(CURLOPT_CUSTOMREQUEST, r->method);
    }
#undef SET
    return ok;
}

enum tg_code tg_http_client_send(struct tg_http_client *c, const struct tg_http_call *call,
                                 tg_http_on_result on_result, void *arg, struct tg_err *err)
{
    if (c->free_asked) return tg_fail(err, TG_ERR_CANCELED, "the HTTP client is closing");
    char origin[sizeof(((struct request *)0)->origin)];
    TG_TRY(check_url(call->url, origin, sizeof(origin), err));
    struct request *r = take_request(c);
    if (!r) return tg_fail(err, TG_ERR_NOMEM, "no memory for an HTTP request");
    memcpy(r->origin, origin, sizeof(origin));
    (void)snprintf(r->method, sizeof(r->method), "%s", call->method);
    r->error[0] = 0;
    r->body_code = TG_OK;
    r->is_canceled = false;
    r->on_result = on_result;
    r->arg = arg;
    r->deadline_ms =
        tg_clock_mono_ms() + (call->timeout_ms ? call->timeout_ms : DEFAULT_TIMEOUT_MS) + GRACE_MS;
    enum tg_code code = build_headers(r, call, err);
    const struct timeval tick = {.tv_usec = TICK_MS * 1000};
    if (code == TG_OK && !event_pending(&c->tick, EV_TIMEOUT, NULL) &&
        event_add(&c->tick, &tick) != 0)
        code = tg_fail(err, TG_ERR_NOMEM, "no memory for an HTTP request");
    if (code == TG_OK && !set_options(r, call))
        code = tg_fail(err, TG_ERR_NOMEM, "no memory for an HTTP request");
    if (code == TG_OK && curl_multi_add_handle(c->multi, r->easy) != CURLM_OK)
        code = tg_fail(err, TG_ERR_NOMEM, "no memory for an HTTP request");
    if (code != TG_OK) {
        request_free(r); /* not put back: its state is in doubt */
        return code;
    }
    r->next = c->open;
    if (r->next) r->next->prev = r;
    c->open = r;
    return TG_OK;
}

void tg_http_client_cancel(struct tg_http_client *c, const void *arg)
{
    bool any = false;
    for (struct request *r = c->open; r; r = r->next) {
        if (r->arg == arg) any = r->is_canceled = true;
    }
    if (any) event_active(&c->tick, EV_TIMEOUT, 1);
}

/* Proxies come from the environment as curl reads it, but never for this machine: a gateway whose
 * backends are on loopback must not send them through a company proxy. */
static char *make_no_proxy(void)
{
    const char *env = getenv("no_proxy");
    if (!env) env = getenv("NO_PROXY");
    char text[4096];
    const int n = snprintf(text, sizeof(text), "%s%slocalhost,127.0.0.1,::1", env ? env : "",
                           env && *env ? "," : "");
    if (n < 0 || (size_t)n >= sizeof(text)) return curl_strdup(env);
    if (env && strcmp(env, "*") == 0) return curl_strdup("*");
    return curl_strdup(text);
}

struct tg_http_client *tg_http_client_new(struct tg_loop *loop,
                                          const struct tg_http_client_config *config)
{
    if (!init_curl()) return NULL;
    struct tg_http_client *c = tg_calloc(1, sizeof(*c));
    if (!c) return NULL;
    c->loop = loop;
    if (config) c->config = *config;
    if (!c->config.max_connections) c->config.max_connections = 8;
    if (!c->config.connect_timeout_ms) c->config.connect_timeout_ms = 5000;
    if (!c->config.max_response_bytes) c->config.max_response_bytes = 1 << 20;
    (void)event_assign(&c->timer, tg_loop_base(loop), -1, 0, on_timer, c);
    (void)event_assign(&c->tick, tg_loop_base(loop), -1, EV_PERSIST, on_tick, c);
    c->no_proxy = make_no_proxy();
    c->multi = c->no_proxy ? curl_multi_init() : NULL;
    const long max = (long)c->config.max_connections;
    if (!c->multi ||
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket) != CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) != CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer) != CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) != CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, max) != CURLM_OK ||
        curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, max) != CURLM_OK) {
        client_free_now(c);
        return NULL;
    }
    return c;
}

void tg_http_client_free(struct tg_http_client *c)
{
    if (!c) return;
    if (!c->busy) {
        client_free_now(c);
        return;
    }
    /* Within a callback: curl is on the stack, so the handles go when it has returned; the open
     * calls end now, as promised. */
    c->free_asked = true;
    cancel_all(c);
}
