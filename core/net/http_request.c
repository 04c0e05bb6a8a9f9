/* http_request.c: one request: its body, its answer. */
#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/mem.h"
#include "core/net/http_internal.h"

/* --- pools --- */

static void trim_later(struct tg_http_server *s)
{
    if (event_pending(&s->trim_event, EV_TIMEOUT, NULL)) return;
    const struct timeval tv = {.tv_sec = TG_HTTP_POOL_TRIM_MS / 1000};
    s->body_pool_low = s->n_body_pool;
    (void)event_add(&s->trim_event, &tv);
}

struct tg_http_request *tg_http_request_take(struct tg_http_server *s)
{
    struct tg_http_request *r = s->request_pool;
    if (r) {
        s->request_pool = r->next;
        s->n_request_pool--;
    } else {
        r = tg_calloc(1, sizeof(*r));
        if (!r) return NULL;
        /* target, headers and once more the target decoded, with NULs */
        tg_buf_init(&r->text, 2 * (size_t)s->config.max_header_bytes + 4 * TG_HTTP_MAX_HEADERS);
    }
    r->server = s;
    r->prev = NULL;
    r->next = s->requests;
    if (r->next) r->next->prev = r;
    s->requests = r;
    return r;
}

static void release_body(struct tg_http_server *s, struct tg_http_request *r)
{
    struct tg_http_body *b = &r->body;
    if (!b->data) return;
    assert(s->inflight_bytes >= b->cap);
    s->inflight_bytes -= b->cap;
    if (b->cap <= TG_HTTP_POOL_BUFFER_BYTES && s->n_body_pool < TG_HTTP_POOL_BUFFERS) {
        s->body_pool[s->n_body_pool++] = *b;
        trim_later(s);
    } else {
        tg_free(b->data);
    }
    *b = (struct tg_http_body){0};
}

static void request_free(struct tg_http_request *r)
{
    tg_free(r->body.data);
    tg_buf_deinit(&r->text);
    tg_free(r);
}

void tg_http_request_release(struct tg_http_request *r)
{
    struct tg_http_server *s = r->server;
    if (!s) {
        request_free(r);
        return;
    }
    release_body(s, r);
    if (r->prev)
        r->prev->next = r->next;
    else
        s->requests = r->next;
    if (r->next) r->next->prev = r->prev;
    if (s->n_request_pool >= TG_HTTP_POOL_REQUESTS) {
        request_free(r);
        return;
    }
    tg_buf_reset(&r->text);
    r->conn = NULL;
    r->user = NULL;
    r->on_peer_close = NULL;
    r->method = NULL;
    r->n_headers = 0;
    r->path_off = r->query_off = r->query_end = 0;
    r->is_head = r->keep_alive = r->is_http_1_0 = r->has_target = false;
    r->n_reply_headers = 0;
    r->prev = NULL;
    r->next = s->request_pool;
    s->request_pool = r;
    s->n_request_pool++;
}

enum tg_code tg_http_request_reserve_body(struct tg_http_request *r, size_t want, uint64_t total)
{
    struct tg_http_server *s = r->server;
    struct tg_http_body *b = &r->body;
    if (b->cap > b->len) return TG_OK;
    if (!b->data && s->n_body_pool > 0) {
        *b = s->body_pool[--s->n_body_pool];
        if (s->n_body_pool < s->body_pool_low) s->body_pool_low = s->n_body_pool;
        b->len = 0;
        s->inflight_bytes += b->cap;
        if (s->inflight_bytes <= s->config.max_inflight_body_bytes) return TG_OK;
        release_body(s, r);
        return TG_ERR_FULL;
    }
    /* Doubling, from a first size that a lie in Content-Length cannot raise. */
    uint64_t cap = b->cap ? 2 * (uint64_t)b->cap : TG_HTTP_BODY_FIRST_BYTES;
    if (cap < b->len + want && want <= TG_HTTP_SCRATCH_BYTES) cap = b->len + want;
    if (total && cap > total) cap = total;
    if (cap > s->config.max_body_bytes) cap = s->config.max_body_bytes;
    if (cap <= b->len) return TG_ERR_TOO_LARGE;
    if (s->inflight_bytes + (cap - b->cap) > s->config.max_inflight_body_bytes) return TG_ERR_FULL;
    uint8_t *data = tg_realloc(b->data, (size_t)cap + 1);
    if (!data) return TG_ERR_NOMEM;
    s->inflight_bytes += cap - b->cap;
    b->data = data;
    b->cap = (size_t)cap;
    return TG_OK;
}

/* --- target --- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Two hex digits after a '%' at p, or -1. */
static int percent(const char *p, const char *end)
{
    if (end - p < 3) return -1;
    const int hi = hex_digit(p[1]);
    const int lo = hex_digit(p[2]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

/* A query part; what is not a valid escape (or would be a NUL) stays as it is. */
static void put_query_part(struct tg_buf *out, const char *p, const char *end)
{
    while (p < end) {
        int c = (unsigned char)*p;
        size_t used = 1;
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            const int v = percent(p, end);
            if (v > 0) {
                c = v;
                used = 3;
            }
        }
        tg_buf_put_u8(out, (uint8_t)c);
        p += used;
    }
    tg_buf_put_u8(out, 0);
}

enum tg_code tg_http_request_split_target(struct tg_http_request *r, struct tg_err *err)
{
    struct tg_buf *t = &r->text;
    const size_t target_len = strlen((const char *)t->data);
    /* path + NUL, and per parameter ("a" or "a=b", with a separator) at most two more NULs than
     * separators: 3 bytes for each byte is always enough, and len + 4 for the usual case of few */
    size_t n_params = 1;
    for (size_t i = 0; i < target_len; i++)
        if (t->data[i] == '&') n_params++;
    if (tg_buf_reserve(t, target_len + 2 * n_params + 2) != TG_OK)
        return tg_fail(err, TG_ERR_TOO_LARGE,
                       "request target with %zu query parameters is too long", n_params);

    const char *target = (const char *)t->data;
    const char *end = target + target_len;
    const char *hash = memchr(target, '#', target_len);
    if (hash) end = hash;
    const char *path = target;
    if (*path != '/' && *path != '*') { /* absolute form: scheme://authority/path */
        const char *authority = strstr(target, "://");
        if (!authority) return tg_fail(err, TG_ERR_MALFORMED, "request target must start with '/'");
        path = authority + 3;
        while (path < end && *path != '/' && *path != '?') path++;
    }
    const char *query = memchr(path, '?', (size_t)(end - path));
    const char *path_end = query ? query : end;

    r->path_off = (uint32_t)t->len;
    if (path == path_end) tg_buf_put_u8(t, '/');
    for (const char *p = path; p < path_end; p++) {
        int c = (unsigned char)*p;
        if (c == '%') {
            c = percent(p, path_end);
            if (c <= 0) {
                char quoted[32];
                const size_t left = (size_t)(path_end - p);
                return tg_fail_at(err, TG_ERR_MALFORMED, (uint64_t)(p - target),
                                  "bad percent escape %s in the path",
                                  tg_quote(quoted, sizeof(quoted), p, left < 3 ? left : 3));
            }
            p += 2;
        }
        tg_buf_put_u8(t, (uint8_t)c);
    }
    tg_buf_put_u8(t, 0);

    r->query_off = (uint32_t)t->len;
    for (const char *p = query ? query + 1 : end; p < end;) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp ? amp : end;
        const char *equals = memchr(p, '=', (size_t)(stop - p));
        if (stop > p) {
            put_query_part(t, p, equals ? equals : stop);
            put_query_part(t, equals ? equals + 1 : stop, stop);
        }
        p = stop + 1;
    }
    r->query_end = (uint32_t)t->len;
    r->has_target = true;
    return TG_OK;
}

/* --- what a handler sees --- */

const char *tg_http_method(const struct tg_http_request *r)
{
    return r->method;
}

const char *tg_http_path(const struct tg_http_request *r)
{
    return (const char *)r->text.data + r->path_off;
}

const char *tg_http_header(const struct tg_http_request *r, const char *name)
{
    const char *text = (const char *)r->text.data;
    for (uint32_t i = 0; i < r->n_headers; i++)
        if (strcasecmp(text + r->headers[i].name, name) == 0) return text + r->headers[i].value;
    return NULL;
}

const uint8_t *tg_http_body(const struct tg_http_request *r, size_t *len)
{
    static const uint8_t empty[1];
    *len = r->body.len;
    return r->body.data ? r->body.data : empty;
}

const char *tg_http_peer(const struct tg_http_request *r)
{
    return r->peer;
}

const char *tg_http_query(const struct tg_http_request *r, const char *name, unsigned nth)
{
    const char *p = (const char *)r->text.data + r->query_off;
    const char *end = (const char *)r->text.data + r->query_end;
    while (p < end) {
        const char *value = p + strlen(p) + 1;
        if (strcmp(p, name) == 0 && nth-- == 0) return value;
        p = value + strlen(value) + 1;
    }
    return NULL;
}

enum tg_code tg_http_form_value(const struct tg_http_request *r, const char *name,
                                struct tg_buf *out)
{
    const char *p = (const char *)r->body.data;
    const char *end = p ? p + r->body.len : p;
    const size_t name_len = strlen(name);
    while (p < end) {
        const char *amp = memchr(p, '&', (size_t)(end - p));
        const char *stop = amp ? amp : end;
        if ((size_t)(stop - p) > name_len && p[name_len] == '=' && memcmp(p, name, name_len) == 0) {
            TG_TRY(tg_buf_reserve(out, (size_t)(stop - p) + 1));
            put_query_part(out, p + name_len + 1, stop);
            return TG_OK;
        }
        p = stop + 1;
    }
    return TG_ERR_NOT_FOUND;
}

/* The media type ends where a parameter or white space begins. */
static size_t media_type_len(const char *content_type)
{
    return strcspn(content_type, "; \t");
}

bool tg_http_media_type_is(const char *content_type, const char *media_type)
{
    const size_t n = media_type_len(content_type);
    return n == strlen(media_type) && strncasecmp(content_type, media_type, n) == 0;
}

bool tg_http_media_type_param(const char *content_type, const char *name, char *out, size_t cap)
{
    const size_t name_len = strlen(name);
    const char *p = content_type + media_type_len(content_type);
    while (*(p += strspn(p, "; \t"))) {
        const size_t n = strcspn(p, "=;");
        const bool is_it = n == name_len && strncasecmp(p, name, n) == 0 && p[n] == '=';
        p += n;
        if (*p != '=') continue;
        const bool quoted = *++p == '"';
        if (quoted) p++;
        const size_t len = strcspn(p, quoted ? "\"" : "; \t");
        if (is_it) {
            if (len >= cap) return false;
            memcpy(out, p, len);
            out[len] = '\0';
            return true;
        }
        p += len;
        if (quoted && *p) p++;
    }
    return false;
}

void tg_http_add_header(struct tg_http_request *r, const char *name, const char *value)
{
    if (r->n_reply_headers == TG_HTTP_REPLY_HEADERS) return;
    r->reply_headers[r->n_reply_headers++] = (struct tg_http_header_pair){name, value};
}

void tg_http_set_user(struct tg_http_request *r, void *user)
{
    r->user = user;
}

void *tg_http_user(const struct tg_http_request *r)
{
    return r->user;
}
