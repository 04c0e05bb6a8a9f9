/* http_conn.c: one connection of the HTTP server: reads, writes, deadlines, its end. */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/net/http_internal.h"

/* --- sockets --- */

static ssize_t plain_read(struct tg_http_conn *c, struct iovec *iov, int n)
{
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    return recvmsg(c->fd, &m, 0);
}

static ssize_t plain_write(struct tg_http_conn *c, struct iovec *iov, int n)
{
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    return sendmsg(c->fd, &m, MSG_NOSIGNAL);
}

const struct tg_http_io tg_http_io_plain = {plain_read, plain_write};

/* --- deadlines: one timer per connection, moved only when it would fire too late --- */

static void start_timer(struct tg_http_conn *c, uint64_t now_ms)
{
    const uint64_t wait_ms = c->deadline_ms > now_ms ? c->deadline_ms - now_ms : 1;
    const struct timeval tv = {.tv_sec = (time_t)(wait_ms / 1000),
                               .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
    if (event_add(&c->timer_event, &tv) == 0) c->timer_ms = now_ms + wait_ms;
}

static void set_deadline(struct tg_http_conn *c, uint32_t after_ms)
{
    const uint64_t now_ms = tg_clock_mono_ms();
    c->deadline_ms = now_ms + after_ms;
    if (c->timer_ms == 0 || c->timer_ms > c->deadline_ms) start_timer(c, now_ms);
}

static void clear_deadline(struct tg_http_conn *c)
{
    c->deadline_ms = 0;
}

static void want_read(struct tg_http_conn *c, bool on)
{
    if (c->reading == on || c->state == TG_HTTP_DEAD) return;
    c->reading = on;
    if (!on)
        (void)event_del(&c->read_event);
    else if (event_add(&c->read_event, NULL) != 0)
        tg_http_conn_close(c); /* no memory to watch it: better closed than stuck */
}

static void want_write(struct tg_http_conn *c, bool on)
{
    if (c->writing == on || c->state == TG_HTTP_DEAD) return;
    c->writing = on;
    if (!on)
        (void)event_del(&c->write_event);
    else if (event_add(&c->write_event, NULL) != 0)
        tg_http_conn_close(c);
}

/* --- end of a connection --- */

void tg_http_conn_close(struct tg_http_conn *c)
{
    struct tg_http_server *s = c->server;
    if (c->state == TG_HTTP_DEAD) return;
    const bool handling = c->state == TG_HTTP_HANDLING;
    c->state = TG_HTTP_DEAD;
    (void)event_del(&c->read_event);
    (void)event_del(&c->write_event);
    (void)event_del(&c->timer_event);
    (void)close(c->fd);
    c->fd = -1;
    if (c->req) {
        c->req->conn = NULL;
        if (!handling) tg_http_request_release(c->req); /* the handler never saw it */
        c->req = NULL;
    }
    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next) c->next->prev = c->prev;
    c->prev = NULL;
    c->next = s->dead;
    s->dead = c;
    if (c->counted) {
        s->n_conns--;
        atomic_store_explicit(&s->stats.connections, s->n_conns, memory_order_relaxed);
    } else {
        s->n_extra--;
    }
    tg_http_server_want_turn(s);
}

void tg_http_conn_free(struct tg_http_conn *c)
{
    tg_buf_deinit(&c->carry);
    tg_buf_deinit(&c->out);
    tg_free(c);
}

/* The reply is out and the connection is not to be kept: say so with a FIN, then take what the peer
 * still sends for a moment, because closing with unread bytes makes the kernel send a reset that
 * can destroy the reply on its way. */
static void linger(struct tg_http_conn *c)
{
    c->state = TG_HTTP_LINGER;
    tg_buf_reset(&c->carry); /* kept allocated: the parse loop may be inside it */
    c->carry_pos = 0;
    (void)shutdown(c->fd, SHUT_WR);
    set_deadline(c, TG_HTTP_LINGER_MS);
    want_read(c, true);
}

/* --- replies --- */

static void reply_done(struct tg_http_conn *c)
{
    struct tg_http_server *s = c->server;
    tg_buf_reset(&c->out);
    c->out_pos = 0;
    if (c->out.cap > TG_HTTP_BODY_FIRST_BYTES) tg_buf_deinit(&c->out);
    if (c->close_after || s->stopping) {
        linger(c);
        return;
    }
    c->state = TG_HTTP_IDLE;
    set_deadline(c, s->config.idle_timeout_ms);
    if (c->processing) return; /* the loop that we are called from goes on by itself */
    if (c->carry.len > c->carry_pos) {
        if (!c->resume_queued) {
            c->resume_queued = true;
            c->resume_next = NULL;
            if (s->resume_last)
                s->resume_last->resume_next = c;
            else
                s->resume_first = c;
            s->resume_last = c;
        }
        tg_http_server_want_turn(s);
    } else {
        want_read(c, true);
    }
}

/* Writes what it can at once. false: the connection is gone. What is left waits in c->out. */
static bool send_or_keep(struct tg_http_conn *c, struct iovec *iov, int n)
{
    struct tg_http_server *s = c->server;
    while (n > 0) {
        const ssize_t sent = c->io->write(c, iov, n);
        if (sent < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK) break;
            tg_http_conn_close(c);
            return false;
        }
        tg_http_count(&s->stats.bytes_out, (uint64_t)sent);
        size_t left = (size_t)sent;
        while (n > 0 && left >= iov->iov_len) {
            left -= iov->iov_len;
            iov++;
            n--;
        }
        if (n > 0) {
            iov->iov_base = (char *)iov->iov_base + left;
            iov->iov_len -= left;
        }
    }
    for (; n > 0; iov++, n--) {
        if (tg_buf_append(&c->out, iov->iov_base, iov->iov_len) != TG_OK) {
            tg_warn("http", "%s: connection closed, no memory to hold %zu bytes of a reply",
                    c->peer, iov->iov_len);
            tg_http_conn_close(c);
            return false;
        }
    }
    return true;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct tg_http_conn *c = arg;
    struct tg_http_server *s = c->server;
    tg_http_server_enter(s);
    while (c->out_pos < c->out.len) {
        struct iovec iov = {c->out.data + c->out_pos, c->out.len - c->out_pos};
        const ssize_t sent = c->io->write(c, &iov, 1);
        if (sent < 0) {
            if (errno == EINTR) continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK) tg_http_conn_close(c);
            break;
        }
        tg_http_count(&s->stats.bytes_out, (uint64_t)sent);
        c->out_pos += (size_t)sent;
    }
    if (c->state != TG_HTTP_DEAD && c->out_pos == c->out.len) {
        want_write(c, false);
        if (c->state == TG_HTTP_WRITING)
            reply_done(c);
        else { /* an interim 100 went out */
            tg_buf_reset(&c->out);
            c->out_pos = 0;
        }
    }
    tg_http_server_leave(s);
}

static bool is_one_line(const char *s)
{
    return s && !strpbrk(s, "\r\n");
}

static const char *status_text(int status)
{
    const char *text = http_status_str((enum http_status)status);
    return strcmp(text, "<unknown>") == 0 ? "Status" : text;
}

/* The time of an answer in the one format of RFC 9110, 5.6.7; made once a second. */
static const char *date_now(struct tg_http_server *s)
{
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const int64_t now_s = tg_clock_wall_ns() / 1000000000;
    if (now_s == s->date_s) return s->date;
    const time_t t = (time_t)now_s;
    struct tm tm;
    if (!gmtime_r(&t, &tm)) return s->date;
    (void)snprintf(s->date, sizeof(s->date), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                   days[tm.tm_wday], tm.tm_mday % 100, months[tm.tm_mon],
                   (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
    s->date_s = now_s;
    return s->date;
}

/* A line break in a value would let its author write headers of their own. */
static bool is_reply_header(const struct tg_http_header_pair *h)
{
    return is_one_line(h->name) && is_one_line(h->value) &&
           strcasecmp(h->name, "content-length") != 0 &&
           strcasecmp(h->name, "transfer-encoding") != 0;
}

/* Builds the head in the server's scratch buffer. */
static enum tg_code build_head(struct tg_http_conn *c, const struct tg_http_request *r, int status,
                               const char *content_type, size_t len,
                               const struct tg_http_header_pair *headers, size_t n_headers)
{
    struct tg_buf *h = &c->server->head;
    tg_buf_reset(h);
    TG_TRY(tg_buf_printf(h, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, status_text(status),
                         date_now(c->server)));
    for (unsigned i = 0; r && i < r->n_reply_headers; i++)
        if (is_reply_header(&r->reply_headers[i]))
            TG_TRY(tg_buf_printf(h, "%s: %s\r\n", r->reply_headers[i].name,
                                 r->reply_headers[i].value));
    if (is_one_line(content_type)) TG_TRY(tg_buf_printf(h, "Content-Type: %s\r\n", content_type));
    for (size_t i = 0; i < n_headers; i++) {
        const char *name = headers[i].name;
        const char *value = headers[i].value;
        if (!is_reply_header(&headers[i])) continue;
        if (strcasecmp(name, "connection") == 0) {
            if (strcasecmp(value, "close") == 0) c->close_after = true;
            continue;
        }
        TG_TRY(tg_buf_printf(h, "%s: %s\r\n", name, value));
    }
    if (status != 204 && status >= 200) TG_TRY(tg_buf_printf(h, "Content-Length: %zu\r\n", len));
    const char *connection = "";
    if (c->close_after || c->server->stopping)
        connection = "Connection: close\r\n";
    else if (r && r->is_http_1_0)
        connection = "Connection: keep-alive\r\n";
    return tg_buf_printf(h, "%s\r\n", connection);
}

/* Sends and goes on to WRITING or, when all is out, further. c->req is not touched. */
static void send_reply(struct tg_http_conn *c, const struct tg_http_request *r, int status,
                       const char *content_type, const void *body, size_t len,
                       const struct tg_http_header_pair *headers, size_t n_headers)
{
    static const char no_memory[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                                    "Content-Length: 0\r\nConnection: close\r\n\r\n";
    struct tg_buf *h = &c->server->head;
    struct iovec iov[2];
    int n = 1;
    if (build_head(c, r, status, content_type, len, headers, n_headers) == TG_OK) {
        iov[0] = (struct iovec){h->data, h->len};
        const bool has_body = len > 0 && status != 204 && status != 304 && !(r && r->is_head);
        if (has_body) iov[n++] = (struct iovec){(void *)(uintptr_t)body, len};
    } else {
        c->close_after = true;
        iov[0] = (struct iovec){(void *)(uintptr_t)no_memory, sizeof(no_memory) - 1};
    }
    c->state = TG_HTTP_WRITING;
    if (c->out_pos < c->out.len) { /* an interim 100 is still waiting: keep the order */
        for (int i = 0; i < n; i++) {
            if (tg_buf_append(&c->out, iov[i].iov_base, iov[i].iov_len) != TG_OK) {
                tg_http_conn_close(c);
                return;
            }
        }
    } else if (!send_or_keep(c, iov, n)) {
        return;
    }
    if (c->out_pos < c->out.len) {
        set_deadline(c, c->server->config.write_timeout_ms);
        want_write(c, true);
    } else {
        reply_done(c);
    }
}

void tg_http_reply(struct tg_http_request *r, int status, const char *content_type,
                   const void *body, size_t len, const struct tg_http_header_pair *headers,
                   size_t n_headers)
{
    struct tg_http_conn *c = r->conn;
    struct tg_http_server *s = r->server;
    if (s) {
        assert(s->n_handling > 0);
        s->n_handling--;
    }
    if (!c) { /* the peer went away: the reply goes nowhere */
        tg_http_request_release(r);
        return;
    }
    assert(c->req == r && c->state == TG_HTTP_HANDLING);
    tg_http_server_enter(s);
    c->req = NULL;
    r->conn = NULL;
    if (!r->keep_alive) c->close_after = true;
    send_reply(c, r, status, content_type, body, len, headers, n_headers);
    tg_http_request_release(r); /* after: body may point into it */
    tg_http_server_leave(s);
}

void tg_http_reply_text(struct tg_http_request *r, int status, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text) - 1, fmt, ap);
    va_end(ap);
    if (n < 0) n = 0;
    if (n > (int)sizeof(text) - 2) n = (int)sizeof(text) - 2;
    text[n++] = '\n';
    tg_http_reply(r, status, "text/plain; charset=utf-8", text, (size_t)n, NULL, 0);
}

/* --- refusals: answered here, the handler never sees the request --- */

static void send_refusal(struct tg_http_conn *c)
{
    struct tg_http_server *s = c->server;
    char text[sizeof(c->refuse_text) + 1];
    const int n = snprintf(text, sizeof(text), "%s\n", c->refuse_text);
    char seconds[16];
    (void)snprintf(seconds, sizeof(seconds), "%u", c->refuse_retry_after_s);
    const struct tg_http_header_pair retry = {"Retry-After", seconds};
    const int status = c->refuse_status;
    c->refuse_status = 0;
    c->close_after = true; /* where the next request would start is not known any more */
    tg_http_count(&s->stats.refused_requests, 1);
    struct tg_http_request *r = c->req;
    c->req = NULL;
    struct tg_buf formed;
    tg_buf_init(&formed, 4096);
    const char *type = NULL;
    if (r && r->has_target && s->config.refusal)
        type = s->config.refusal(r, status, c->refuse_text, &formed);
    if (type)
        send_reply(c, r, status, type, formed.data, formed.len, &retry,
                   c->refuse_retry_after_s ? 1 : 0);
    else
        send_reply(c, r, status, "text/plain; charset=utf-8", text, (size_t)n, &retry,
                   c->refuse_retry_after_s ? 1 : 0);
    tg_buf_deinit(&formed);
    if (r) tg_http_request_release(r);
}

void tg_http_conn_send_continue(struct tg_http_conn *c)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec iov = {(void *)(uintptr_t)interim, sizeof(interim) - 1};
    if (send_or_keep(c, &iov, 1) && c->out.len > 0) want_write(c, true);
}

/* --- bytes in --- */

static void begin_request(struct tg_http_conn *c)
{
    struct tg_http_server *s = c->server;
    c->state = TG_HTTP_HEAD;
    c->header_bytes = 0;
    c->last_part = 0;
    c->in_trailer = c->is_chunked = c->is_complete = false;
    c->body_left = 0;
    c->refuse_status = 0;
    c->refuse_retry_after_s = 0;
    http_parser_init(&c->parser, HTTP_REQUEST);
    c->parser.data = c;
    set_deadline(c, s->config.header_timeout_ms);
    c->req = tg_http_request_take(s);
    if (c->req) {
        c->req->conn = c;
        memcpy(c->req->peer, c->peer, sizeof(c->peer));
    } else {
        c->refuse_retry_after_s = 1;
        (void)tg_http_conn_refuse(c, 503, "no memory for another request; try again shortly");
    }
}

static void dispatch(struct tg_http_conn *c)
{
    struct tg_http_server *s = c->server;
    struct tg_http_request *r = c->req;
    if (r->body.data) r->body.data[r->body.len] = 0; /* reserve keeps room for it */
    c->state = TG_HTTP_HANDLING;
    clear_deadline(c);
    s->n_handling++;
    tg_http_count(&s->stats.requests_total, 1);
    s->handler(r, s->arg); /* r may be gone, c may be dead */
}

/* Consumes bytes until they end, a request waits for its reply, or the connection ends. Returns how
 * many were consumed. */
static size_t process(struct tg_http_conn *c, const char *p, size_t n)
{
    size_t pos = 0;
    unsigned n_served = 0;
    c->processing = true;
    for (;;) {
        if (c->state == TG_HTTP_IDLE) {
            /* Empty lines between requests are allowed, but are no request yet: they do not move
             * the idle deadline. */
            while (pos < n && (p[pos] == '\r' || p[pos] == '\n')) pos++;
            if (pos == n || n_served == TG_HTTP_REQUESTS_PER_TURN || c->server->free_asked) break;
            begin_request(c);
        } else if (c->state == TG_HTTP_HEAD) {
            if (pos < n && !c->refuse_status) pos += tg_http_conn_parse(c, p + pos, n - pos);
            if (c->state == TG_HTTP_BODY && !c->is_complete)
                set_deadline(c, c->server->config.body_timeout_ms);
        } else if (c->state == TG_HTTP_BODY) {
            if (c->is_chunked) {
                pos += tg_http_conn_parse(c, p + pos, n - pos);
            } else {
                const size_t take = n - pos < c->body_left ? n - pos : (size_t)c->body_left;
                if (tg_http_conn_append_body(c, p + pos, take)) {
                    pos += take;
                    c->is_complete = c->body_left == 0;
                }
            }
        } else {
            break; /* HANDLING, WRITING, LINGER, DEAD */
        }
        if (c->state == TG_HTTP_DEAD) break;
        if (c->refuse_status) {
            send_refusal(c);
            pos = n; /* what the refused request still brings is of no use */
            break;
        }
        if (c->state == TG_HTTP_BODY && c->is_complete) {
            dispatch(c);
            n_served++;
        } else if (pos == n) {
            break;
        }
    }
    c->processing = false;
    /* The handler stopped the server after it had replied: this connection was not idle then. */
    if (c->state == TG_HTTP_IDLE && c->server->stopping) linger(c);
    return pos;
}

/* Goes on with pipelined bytes, then with the socket. */
void tg_http_conn_resume(struct tg_http_conn *c)
{
    if (c->state == TG_HTTP_DEAD || c->state == TG_HTTP_HANDLING || c->state == TG_HTTP_WRITING)
        return;
    if (c->carry.len > c->carry_pos) {
        c->carry_pos +=
            process(c, (const char *)c->carry.data + c->carry_pos, c->carry.len - c->carry_pos);
        if (c->state == TG_HTTP_DEAD || c->state == TG_HTTP_LINGER) return;
    }
    if (c->carry_pos >= c->carry.len) {
        tg_buf_reset(&c->carry);
        c->carry_pos = 0;
        if (c->carry.cap > TG_HTTP_BODY_FIRST_BYTES) tg_buf_deinit(&c->carry);
    }
    if (c->state == TG_HTTP_IDLE) reply_done(c); /* queues itself again, reads, or lingers */
    if (c->state == TG_HTTP_HEAD || c->state == TG_HTTP_BODY) want_read(c, true);
}

static void keep_rest(struct tg_http_conn *c, const char *p, size_t n)
{
    if (n == 0 || c->state == TG_HTTP_DEAD || c->state == TG_HTTP_LINGER) return;
    /* No memory for what was pipelined: this request is served, the rest is not. */
    if (tg_buf_append(&c->carry, p, n) != TG_OK) c->close_after = true;
    if (c->state == TG_HTTP_IDLE) reply_done(c); /* had its share of this turn */
}

static void on_eof(struct tg_http_conn *c)
{
    switch (c->state) {
    case TG_HTTP_HEAD:
        (void)tg_http_conn_refuse(c, 400, "the connection ended within the request header");
        send_refusal(c);
        break;
    case TG_HTTP_BODY:
        if (c->is_chunked)
            (void)tg_http_conn_refuse(
                c, 400, "the connection ended within the chunked body, after %zu bytes",
                c->req->body.len);
        else
            (void)tg_http_conn_refuse(
                c, 400, "the connection ended after %zu of %llu bytes of the body",
                c->req->body.len, (unsigned long long)(c->req->body.len + c->body_left));
        send_refusal(c);
        break;
    default: tg_http_conn_close(c); break;
    }
}

/* One read of at most the body's room and the scratch buffer. false: nothing more for now. */
static bool read_once(struct tg_http_conn *c)
{
    struct tg_http_server *s = c->server;
    struct iovec iov[2];
    int n_iov = 0;
    size_t room = 0;
    if (c->state == TG_HTTP_BODY && !c->is_chunked) {
        struct tg_http_body *b = &c->req->body;
        /* Without room the bytes go through scratch, where append_body says what is wrong. */
        if (tg_http_request_reserve_body(c->req, 1, b->len + c->body_left) == TG_OK) {
            room = b->cap - b->len;
            if (room > c->body_left) room = (size_t)c->body_left;
            iov[n_iov++] = (struct iovec){b->data + b->len, room};
        }
    }
    iov[n_iov++] = (struct iovec){s->scratch, TG_HTTP_SCRATCH_BYTES};
    const ssize_t got = c->io->read(c, iov, n_iov);
    if (got < 0) {
        if (errno == EINTR) return true;
        if (errno != EAGAIN && errno != EWOULDBLOCK) tg_http_conn_close(c);
        return false;
    }
    if (got == 0) {
        on_eof(c);
        return false;
    }
    tg_http_count(&s->stats.bytes_in, (uint64_t)got);
    if (c->state == TG_HTTP_LINGER) return true;
    size_t in_scratch = (size_t)got;
    if (room > 0) {
        const size_t direct = in_scratch < room ? in_scratch : room;
        c->req->body.len += direct;
        c->body_left -= direct;
        c->is_complete = c->body_left == 0;
        in_scratch -= direct;
    }
    /* Also with no bytes left over: the body may be complete now. */
    const char *rest = (const char *)s->scratch;
    const size_t used = process(c, rest, in_scratch);
    keep_rest(c, rest + used, in_scratch - used);
    return (size_t)got == room + TG_HTTP_SCRATCH_BYTES;
}

/* While a handler works nothing is read (backpressure), but a peer that goes is noticed. */
static void look_for_close(struct tg_http_conn *c)
{
    char byte;
    struct tg_http_request *r = c->req;
    want_read(c, false);
    if (c->state != TG_HTTP_HANDLING || !r || !r->on_peer_close) return;
    const ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0) return;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        want_read(c, true);
        return;
    }
    void (*const fn)(void *arg) = r->on_peer_close;
    r->on_peer_close = NULL;
    fn(r->on_peer_close_arg); /* may reply */
}

void tg_http_on_peer_close(struct tg_http_request *r, void (*fn)(void *arg), void *arg)
{
    r->on_peer_close = fn;
    r->on_peer_close_arg = arg;
    if (fn && r->conn) want_read(r->conn, true);
}

static void conn_read_more(struct tg_http_conn *c)
{
    /* A few full reads, then others get their turn (the event is level-triggered). */
    for (int i = 0; i < 4; i++) {
        if (c->state == TG_HTTP_DEAD) return;
        if (c->state == TG_HTTP_HANDLING || c->state == TG_HTTP_WRITING ||
            c->carry.len > c->carry_pos) {
            look_for_close(c); /* bytes stay in the kernel until the reply is out */
            return;
        }
        if (!read_once(c)) return;
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct tg_http_conn *c = arg;
    struct tg_http_server *s = c->server;
    tg_http_server_enter(s);
    conn_read_more(c);
    tg_http_server_leave(s);
}

static void on_deadline(struct tg_http_conn *c)
{
    struct tg_http_server *s = c->server;
    switch (c->state) {
    case TG_HTTP_HEAD:
        tg_http_count(&s->stats.timeouts, 1);
        (void)tg_http_conn_refuse(
            c, 408, "the request header took longer than %u ms (limits.header_timeout)",
            s->config.header_timeout_ms);
        send_refusal(c);
        break;
    case TG_HTTP_BODY:
        tg_http_count(&s->stats.timeouts, 1);
        (void)tg_http_conn_refuse(
            c, 408,
            "the request body took longer than %u ms (limits.request_timeout): %zu bytes came",
            s->config.body_timeout_ms, c->req->body.len);
        send_refusal(c);
        break;
    case TG_HTTP_WRITING:
        tg_http_count(&s->stats.timeouts, 1);
        tg_http_conn_close(c);
        break;
    default: tg_http_conn_close(c); break;
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct tg_http_conn *c = arg;
    struct tg_http_server *s = c->server;
    c->timer_ms = 0;
    if (c->deadline_ms == 0) return;
    const uint64_t now_ms = tg_clock_mono_ms();
    if (now_ms < c->deadline_ms) {
        start_timer(c, now_ms);
        return;
    }
    c->deadline_ms = 0;
    tg_http_server_enter(s);
    on_deadline(c);
    tg_http_server_leave(s);
}

void tg_http_conn_open(struct tg_http_server *s, int fd, const char *peer, bool refuse_it)
{
    struct tg_http_conn *c = tg_calloc(1, sizeof(*c));
    struct event_base *base = tg_loop_base(s->loop);
    if (!c) {
        (void)close(fd);
        return;
    }
    c->server = s;
    c->io = &tg_http_io_plain;
    c->fd = fd;
    c->state = TG_HTTP_IDLE;
    (void)snprintf(c->peer, sizeof(c->peer), "%s", peer);
    tg_buf_init(&c->carry, 0); /* bounded by what one read can leave over */
    tg_buf_init(&c->out, 0);   /* bounded by one reply */
    (void)event_assign(&c->read_event, base, fd, EV_READ | EV_PERSIST, on_readable, c);
    (void)event_assign(&c->write_event, base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
    (void)event_assign(&c->timer_event, base, -1, 0, on_timer, c);
    c->next = s->conns;
    if (c->next) c->next->prev = c;
    s->conns = c;
    if (refuse_it) {
        s->n_extra++;
        tg_http_count(&s->stats.refused_connections, 1);
        c->refuse_retry_after_s = 1;
        (void)tg_http_conn_refuse(
            c, 503,
            "the limit of %u connections (limits.connections) is reached; try again "
            "shortly",
            s->config.max_connections);
        send_refusal(c);
        return;
    }
    c->counted = true;
    s->n_conns++;
    atomic_store_explicit(&s->stats.connections, s->n_conns, memory_order_relaxed);
    tg_http_count(&s->stats.connections_total, 1);
    set_deadline(c, s->config.idle_timeout_ms);
    want_read(c, true);
}
