#include "core/backend/http/http_backend.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/mem.h"
#include "core/base/text_code.h"
#include "core/net/http_url.h"

enum { MAX_REASON_BYTES = 1 << 20, MAX_REASONS_BYTES = 16 << 20 };

/* --- URLs and authentication --- */

enum tg_code tg_backend_url_param(struct tg_buf *out, const char *name, const char *value)
{
    const char mark = memchr(out->data, '?', out->len) ? '&' : '?';
    TG_TRY(tg_buf_printf(out, "%c%s=", mark, name));
    return tg_percent_encode(out, value, strlen(value));
}

/* "Basic ", and so on, before the credentials. */
static char *base64(const char *text, size_t len, const char *prefix)
{
    const size_t prefix_len = strlen(prefix);
    char *out = tg_malloc(prefix_len + tg_base64_len(len) + 1);
    if (!out) return NULL;
    memcpy(out, prefix, prefix_len);
    tg_base64(out + prefix_len, text, len);
    out[prefix_len + tg_base64_len(len)] = '\0';
    return out;
}

static enum tg_code make_auth(struct tg_http_backend *h, const struct tg_options *o,
                              struct tg_err *err)
{
    const char *token = tg_options_str(o, "token");
    const char *user = tg_options_str(o, "username");
    const char *password = tg_options_str(o, "password");
    if (token && !*token) token = NULL; /* env("X") of an empty variable */
    if (token && (user || password))
        return tg_fail(err, TG_ERR_INVALID, "set either token, or username and password, not both");
    if (password && !user) return tg_fail(err, TG_ERR_INVALID, "password without username");
    if (token && strpbrk(token, "\r\n"))
        return tg_fail(err, TG_ERR_INVALID,
                       "token holds a line break (a trailing newline of a file?)");
    if (user && strchr(user, ':'))
        return tg_fail(err, TG_ERR_INVALID,
                       "username holds a colon, which basic "
                       "authentication cannot carry");
    if (!token && !user) return TG_OK;
    char text[1024];
    const int n = token ? snprintf(text, sizeof(text), "%s %s", h->token_word, token)
                        : snprintf(text, sizeof(text), "%s:%s", user, password ? password : "");
    if (n < 0 || (size_t)n >= sizeof(text))
        return tg_fail(err, TG_ERR_INVALID, "credentials of more than %zu bytes", sizeof(text) - 1);
    h->auth = token ? tg_strndup(text, (size_t)n) : base64(text, (size_t)n, "Basic ");
    return h->auth ? TG_OK : tg_fail(err, TG_ERR_NOMEM, "no memory for backend %s", h->name);
}

static void on_later(void *arg)
{
    struct tg_http_backend *h = arg;
    h->is_later_pending = false;
    h->on_write(h->arg, &h->later_result);
}

enum tg_code tg_http_backend_init(struct tg_http_backend *h, const struct tg_backend_open *how,
                                  const char *token_word, struct tg_err *err)
{
    const struct tg_options *o = how->options;
    const char *url = tg_options_str(o, "url");
    h->name = how->name;
    h->loop = how->loop;
    h->token_word = token_word;
    h->timeout_ms = (uint32_t)tg_options_num(o, "timeout");
    h->max_request_bytes = (size_t)tg_options_num(o, "max_request_bytes");
    h->later = (struct tg_loop_item){.fn = on_later, .arg = h};
    tg_buf_init(&h->inexpressible, 1 << 20);
    tg_buf_init(&h->skipped, 1 << 20);
    tg_buf_init(&h->reasons, MAX_REASONS_BYTES);
    tg_arena_init(&h->reason_text, MAX_REASON_BYTES);
    tg_buf_init(&h->plain, 0);
    TG_TRY(tg_http_url_check(url, "url", err));
    size_t len = strlen(url);
    while (url[len - 1] == '/') len--;
    h->base = tg_strndup(url, len);
    if (!h->base) return tg_fail(err, TG_ERR_NOMEM, "no memory for backend %s", h->name);
    TG_TRY(make_auth(h, o, err));
    const struct tg_http_client_config config = {
        .max_connections = 4,
        .connect_timeout_ms = h->timeout_ms < 10000 ? h->timeout_ms : 10000,
        .max_response_bytes = TG_BACKEND_MAX_ANSWER_BYTES,
    };
    h->client = tg_http_client_new(how->loop, &config);
    h->shared_parts = tg_shared_parts_new();
    return h->client && h->shared_parts
               ? TG_OK
               : tg_fail(err, TG_ERR_NOMEM, "no memory for backend %s", h->name);
}

/* --- what an answer means --- */

char *tg_http_backend_words(char *out, size_t cap, const struct tg_http_result *r)
{
    const char *text = (const char *)r->body;
    size_t len = r->len;
    json_t *json = NULL;
    if (len > 0 && text[0] == '{' && len < 65536) json = json_loadb(text, len, 0, NULL);
    if (json) {
        const json_t *words = json_object_get(json, "error");
        if (!json_is_string(words)) words = json_object_get(json, "message");
        if (json_is_string(words)) {
            text = json_string_value(words);
            len = json_string_length(words);
        }
    }
    size_t o = 0;
    for (size_t i = 0; i < len && o + 1 < cap; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '\n' || c == '\r') {
            if (o > 0) break;
            continue;
        }
        out[o++] = (char)(c < 0x20 || c >= 0x7f ? '?' : c);
    }
    out[o] = 0;
    json_decref(json);
    return out;
}

static const char *hint(int status)
{
    switch (status) {
    case 401: return "not authenticated: check the backend's token, or username and password";
    case 403: return "not allowed: check the rights of the backend's token or user";
    case 404: return "not found: check the backend's url and that its database or bucket exists";
    case 405:
        return "method not allowed: check the backend's url; on Prometheus, is the remote "
               "write receiver switched on?";
    default: break;
    }
    if (status >= 300 && status < 400) return "redirect: set the backend's url to where it leads";
    return NULL;
}

static void describe(char *out, size_t cap, const struct tg_http_result *r)
{
    if (r->status == 0) {
        (void)snprintf(out, cap, "%s", r->message);
        return;
    }
    char words[200];
    const char *advice = hint(r->status);
    (void)tg_http_backend_words(words, sizeof(words), r);
    const int n = snprintf(out, cap, "HTTP %d%s%s", r->status, words[0] ? ": " : "", words);
    if (advice && n >= 0 && (size_t)n < cap)
        (void)snprintf(out + n, cap - (size_t)n, " (%s)", advice);
}

static enum tg_write_outcome outcome_of(int status)
{
    if (status >= 200 && status < 300) return TG_WRITE_OK;
    switch (status) {
    case 400:
    case 422: return TG_WRITE_REFUSED;
    case 413: return TG_WRITE_TOO_LARGE;
    default: return TG_WRITE_RETRY; /* also of what we do not know: nothing is lost by waiting */
    }
}

enum tg_code tg_http_backend_failure(const struct tg_http_result *r, struct tg_err *err)
{
    char text[256];
    describe(text, sizeof(text), r);
    const enum tg_code code = r->status == 0 || r->code != TG_OK     ? r->code
                              : r->status == 401 || r->status == 403 ? TG_ERR_UNAUTHORIZED
                              : r->status == 404                     ? TG_ERR_NOT_FOUND
                              : r->status == 400 || r->status == 422 ? TG_ERR_INVALID
                                                                     : TG_ERR_UNAVAILABLE;
    return tg_fail(err, code, "%s", r->code == TG_OK ? text : r->message);
}

/* --- writing --- */

enum tg_code tg_http_backend_begin(struct tg_http_backend *h, uint32_t n_points,
                                   tg_on_write on_write, void *arg)
{
    h->on_write = on_write;
    h->arg = arg;
    h->n_skipped = h->n_inexpressible = 0;
    h->left_out = (struct tg_left_out){.n = {0}};
    h->n_known_reasons = 0;
    tg_arena_reset(&h->reason_text);
    tg_buf_reset(&h->reasons);
    struct tg_buf *const bitmaps[] = {&h->inexpressible, &h->skipped};
    const size_t n = ((size_t)n_points + 7) / 8;
    for (unsigned i = 0; i < 2; i++) {
        tg_buf_reset(bitmaps[i]);
        TG_TRY(tg_buf_reserve(bitmaps[i], n));
        memset(bitmaps[i]->data, 0, n);
        bitmaps[i]->len = n;
    }
    return TG_OK;
}

/* The text for the time of this write: backends say few different things of many points. */
static const char *keep_reason(struct tg_http_backend *h, const char *reason)
{
    for (unsigned i = 0; i < h->n_known_reasons; i++)
        if (strcmp(h->known_reasons[i], reason) == 0) return h->known_reasons[i];
    const char *copy = tg_arena_strndup(&h->reason_text, reason, strlen(reason));
    if (!copy) return "the backend has no form for it";
    const size_t max = sizeof(h->known_reasons) / sizeof(h->known_reasons[0]);
    if (h->n_known_reasons < max) h->known_reasons[h->n_known_reasons++] = copy;
    return copy;
}

static void mark(struct tg_buf *bitmap, uint32_t i)
{
    bitmap->data[i / 8] = (uint8_t)(bitmap->data[i / 8] | 1U << (i % 8));
}

void tg_http_backend_leave_out(struct tg_http_backend *h, uint32_t i)
{
    mark(&h->inexpressible, i);
    h->n_inexpressible++;
}

void tg_http_backend_skip(struct tg_http_backend *h, uint32_t i, const char *reason)
{
    mark(&h->skipped, i);
    h->n_skipped++;
    const char *kept = keep_reason(h, reason);
    if (tg_buf_append(&h->reasons, &kept, sizeof(kept)) != TG_OK) return; /* add_skipped sees it */
}

/* Said once the others are delivered; before that the caller comes again with the same points. */
static void add_skipped(const struct tg_http_backend *h, struct tg_write_result *w)
{
    if (w->outcome != TG_WRITE_OK) return;
    w->n_inexpressible = h->n_inexpressible;
    w->inexpressible = h->inexpressible.data;
    w->left_out = h->left_out;
    if (h->n_skipped == 0) return;
    w->n_skipped = h->n_skipped;
    w->skipped = h->skipped.data;
    w->skip_reasons = h->reasons.len == h->n_skipped * sizeof(const char *)
                          ? (const char *const *)(const void *)h->reasons.data
                          : NULL;
}

void tg_http_backend_end_later(struct tg_http_backend *h, enum tg_write_outcome outcome,
                               const char *message)
{
    h->later_result = (struct tg_write_result){.outcome = outcome, .retry_after_ms = -1};
    (void)snprintf(h->later_result.message, sizeof(h->later_result.message), "%s", message);
    add_skipped(h, &h->later_result);
    h->is_later_pending = true;
    tg_loop_post_item(h->loop, &h->later);
}

enum tg_code tg_http_backend_pack(struct tg_http_backend *h, const struct tg_buf *plain,
                                  tg_shared_part_len next, struct tg_buf *out, struct tg_err *err)
{
    const enum tg_code code =
        tg_shared_parts_pack(h->shared_parts, plain->data, plain->len, next, out);
    return code == TG_OK ? TG_OK : tg_fail(err, code, "no memory for a series");
}

void tg_http_backend_end_unencoded(struct tg_http_backend *h, uint32_t n_points, enum tg_code code)
{
    struct tg_err err = {.msg = "no memory for the request"};
    if (code == TG_ERR_TOO_LARGE)
        (void)tg_fail(&err, code,
                      "%u points need a request of more than %zu bytes (max_request_bytes)",
                      n_points, h->max_request_bytes);
    tg_http_backend_end_later(h, code == TG_ERR_TOO_LARGE ? TG_WRITE_TOO_LARGE : TG_WRITE_RETRY,
                              err.msg);
}

bool tg_http_backend_encode(struct tg_http_backend *h, const struct tg_delivery *d,
                            tg_backend_append_fn append, void *arg, struct tg_buf *out)
{
    const uint8_t *unpacked = NULL;
    tg_buf_reset(out);
    for (uint32_t i = 0; i < d->n_points; i++) {
        struct tg_err err = {0};
        struct tg_delivery_point p = d->points[i];
        enum tg_code code = TG_OK;
        if (!p.prepared) {
            code = tg_fail(&err, TG_ERR_CORRUPT, "the series was not prepared");
        } else if (p.prepared != unpacked) { /* else: the series of the point before */
            tg_buf_reset(&h->plain);
            code = tg_shared_parts_unpack(h->shared_parts, p.prepared, p.prepared_len, &h->plain);
            unpacked = code == TG_OK ? p.prepared : NULL;
        }
        p.prepared = h->plain.data;
        p.prepared_len = (uint32_t)h->plain.len;
        if (code == TG_OK) code = append(arg, &p, out, &err);
        if (code == TG_OK) continue;
        if (code == TG_ERR_UNSUPPORTED) {
            tg_http_backend_leave_out(h, i);
            continue;
        }
        if (code == TG_ERR_CORRUPT || code == TG_ERR_INVALID) {
            tg_http_backend_skip(h, i, err.msg);
            continue;
        }
        tg_http_backend_end_unencoded(h, d->n_points, code);
        return false;
    }
    if (out->len > 0) return true;
    tg_http_backend_end_later(h, TG_WRITE_OK, "");
    return false;
}

static void on_answer(void *arg, const struct tg_http_result *r)
{
    struct tg_http_backend *h = arg;
    /* The status decides also when the answer's body was too long to keep. */
    struct tg_write_result w = {
        .outcome = r->code == TG_OK || r->code == TG_ERR_TOO_LARGE ? outcome_of(r->status)
                                                                   : TG_WRITE_RETRY,
        .retry_after_ms = r->retry_after_ms,
    };
    if (w.outcome == TG_WRITE_RETRY && h->refused_words && r->body) {
        for (const char *const *words = h->refused_words; *words; words++)
            if (strstr((const char *)r->body, *words)) w.outcome = TG_WRITE_REFUSED;
    }
    if (w.outcome != TG_WRITE_OK) {
        if (r->code == TG_OK)
            describe(w.message, sizeof(w.message), r);
        else
            (void)snprintf(w.message, sizeof(w.message), "%s", r->message);
    }
    add_skipped(h, &w);
    h->on_write(h->arg, &w);
}

size_t tg_http_backend_headers(const struct tg_http_backend *h, struct tg_http_client_header *out)
{
    size_t n = 0;
    out[n++] = (struct tg_http_client_header){"User-Agent", "tidegate/" TG_VERSION};
    if (h->auth) out[n++] = (struct tg_http_client_header){"Authorization", h->auth};
    return n;
}

enum tg_code tg_http_backend_send(struct tg_http_backend *h, const char *url,
                                  const struct tg_http_client_header *headers, size_t n_headers,
                                  const struct tg_buf *body, uint32_t timeout_ms,
                                  tg_http_on_result on_result, void *arg, struct tg_err *err)
{
    struct tg_http_client_header all[TG_BACKEND_MAX_HEADERS];
    size_t n = tg_http_backend_headers(h, all);
    for (size_t i = 0; i < n_headers && n < TG_BACKEND_MAX_HEADERS; i++) all[n++] = headers[i];
    const struct tg_http_call call = {
        .method = "POST",
        .url = url,
        .headers = all,
        .n_headers = n,
        .body = body->data,
        .len = body->len,
        .timeout_ms = timeout_ms,
    };
    return tg_http_client_send(h->client, &call, on_result, arg, err);
}

void tg_http_backend_post(struct tg_http_backend *h, const char *url,
                          const struct tg_http_client_header *headers, size_t n_headers,
                          const struct tg_buf *body)
{
    struct tg_err err = {0};
    if (tg_http_backend_send(h, url, headers, n_headers, body, h->timeout_ms, on_answer, h, &err) !=
        TG_OK)
        tg_http_backend_end_later(h, TG_WRITE_RETRY, err.msg);
}

void tg_http_backend_cancel(struct tg_http_backend *h)
{
    tg_http_client_cancel(h->client, h); /* only writes are sent with it */
}

enum tg_code tg_http_backend_get(struct tg_http_backend *h, const char *url,
                                 tg_http_on_result on_result, void *arg, struct tg_err *err)
{
    struct tg_http_client_header headers[TG_BACKEND_MAX_HEADERS];
    const size_t n = tg_http_backend_headers(h, headers);
    const struct tg_http_call call = {
        .method = "GET",
        .url = url,
        .headers = headers,
        .n_headers = n,
        .timeout_ms = h->timeout_ms,
    };
    return tg_http_client_send(h->client, &call, on_result, arg, err);
}

/* --- health --- */

/* One check; in the backend's list until it has ended. */
struct tg_http_backend_check {
    struct tg_http_backend_check *next;
    struct tg_http_backend *http;
    tg_on_health on_health;
    void *arg;
    bool any_answer;
    bool is_fallback;
    struct tg_timer
        *later;          /* ends a check that could not be sent, at the next loop turn; or NULL */
    char fallback[1024]; /* whole URL */
};

static void check_end(struct tg_http_backend_check *c, enum tg_code code, const char *message)
{
    struct tg_http_backend_check **link = &c->http->checks;
    while (*link != c) link = &(*link)->next;
    *link = c->next;
    tg_timer_free(c->later);
    c->on_health(c->arg, code, message);
    tg_free(c);
}

static void cancel_checks(struct tg_http_backend *h)
{
    while (h->checks) check_end(h->checks, TG_ERR_CANCELED, "canceled");
}

static void on_health_answer(void *arg, const struct tg_http_result *r)
{
    struct tg_http_backend_check *c = arg;
    struct tg_err err = {0};
    const bool is_missing = r->code == TG_OK && (r->status == 404 || r->status == 405);
    if (is_missing && !c->is_fallback && c->fallback[0]) {
        c->is_fallback = true;
        const enum tg_code code =
            tg_http_backend_get(c->http, c->fallback, on_health_answer, c, &err);
        if (code != TG_OK) check_end(c, code, err.msg);
        return;
    }
    if (r->code == TG_OK && ((r->status >= 200 && r->status < 300) ||
                             (c->any_answer && r->status > 0 && r->status < 500))) {
        check_end(c, TG_OK, "");
        return;
    }
    char text[256];
    describe(text, sizeof(text), r);
    check_end(c, r->code != TG_OK ? r->code : TG_ERR_UNAVAILABLE,
              r->code != TG_OK ? r->message : text);
}

static void on_check_later(void *arg)
{
    check_end(arg, TG_ERR_UNAVAILABLE, "the health check could not be sent");
}

void tg_http_backend_health(struct tg_http_backend *h, const char *base, const char *path,
                            const char *fallback, bool any_answer, tg_on_health on_health,
                            void *arg)
{
    struct tg_http_backend_check *c = tg_calloc(1, sizeof(*c));
    if (!c) { /* answered within the call: without memory there is nothing to defer it with */
        on_health(arg, TG_ERR_NOMEM, "no memory for a health check");
        return;
    }
    *c = (struct tg_http_backend_check){
        .next = h->checks, .http = h, .on_health = on_health, .arg = arg, .any_answer = any_answer};
    h->checks = c;
    char url[sizeof(c->fallback)];
    struct tg_err err;
    const int n = snprintf(url, sizeof(url), "%s%s", base, path);
    const int m = fallback ? snprintf(c->fallback, sizeof(c->fallback), "%s%s", base, fallback) : 0;
    if (n >= 0 && m >= 0 && (size_t)n < sizeof(url) && (size_t)m < sizeof(c->fallback) &&
        tg_http_backend_get(h, url, on_health_answer, c, &err) == TG_OK)
        return;
    /* A timer, as that can be taken back when the backend is closed before it fires. */
    c->later = tg_timer_new(h->loop, on_check_later, c);
    if (c->later)
        tg_timer_start(c->later, 0);
    else
        check_end(c, TG_ERR_NOMEM, "no memory for a health check");
}

void tg_http_backend_deinit(struct tg_http_backend *h)
{
    tg_http_client_free(h->client); /* ends the checks that were sent */
    cancel_checks(h);
    tg_buf_deinit(&h->inexpressible);
    tg_buf_deinit(&h->skipped);
    tg_buf_deinit(&h->reasons);
    tg_arena_deinit(&h->reason_text);
    tg_buf_deinit(&h->plain);
    tg_shared_parts_free(h->shared_parts);
    if (h->auth) explicit_bzero(h->auth, strlen(h->auth));
    tg_free(h->auth);
    tg_free(h->base);
}
