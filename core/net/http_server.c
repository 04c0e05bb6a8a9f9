#include "core/net/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/net/http_internal.h"

static const struct timeval now_tv = {0, 0};

/* --- address --- */

struct address {
    struct sockaddr_storage addr;
    socklen_t len;
    bool any; /* all interfaces: IPv6 taking IPv4 along, or IPv4 where there is no IPv6 */
};

static enum tg_code parse_address(const char *text, struct address *out, struct tg_err *err)
{
    static const char forms[] = "use host:port, [ipv6]:port or :port";
    const char *colon = text ? strrchr(text, ':') : NULL;
    if (!colon)
        return tg_fail(err, TG_ERR_INVALID, "listen address \"%s\" has no port; %s",
                       text ? text : "", forms);
    const char *port = colon + 1;
    unsigned long number = 0;
    size_t digits = 0;
    while (port[digits] >= '0' && port[digits] <= '9' && digits < 6)
        number = number * 10 + (unsigned long)(port[digits++] - '0');
    if (digits == 0 || port[digits] || number > 65535)
        return tg_fail(err, TG_ERR_INVALID, "listen address \"%s\": bad port \"%s\"; %s", text,
                       port, forms);
    char host[256];
    size_t host_len = (size_t)(colon - text);
    if (host_len >= 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        host_len -= 2;
    } else if (memchr(text, ':', host_len)) {
        return tg_fail(err, TG_ERR_INVALID, "listen address \"%s\": write IPv6 as [address]:port",
                       text);
    }
    if (host_len >= sizeof(host))
        return tg_fail(err, TG_ERR_INVALID, "listen address has a host name of %zu bytes; %s",
                       host_len, forms);
    memcpy(host, text, host_len);
    host[host_len] = 0;
    *out = (struct address){.any = host_len == 0};
    const struct addrinfo hints = {
        .ai_family = out->any ? AF_INET6 : AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    struct addrinfo *found = NULL;
    const int rc = getaddrinfo(out->any ? "::" : host, port, &hints, &found);
    if (rc != 0)
        return tg_fail(err, TG_ERR_INVALID, "listen address \"%s:%s\": %s", host, port,
                       gai_strerror(rc));
    memcpy(&out->addr, found->ai_addr, found->ai_addrlen);
    out->len = found->ai_addrlen;
    freeaddrinfo(found);
    return TG_OK;
}

static int try_listen(const struct address *a, bool reuse_port)
{
    const int one = 1;
    const int zero = 0;
    const int fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (a->any && a->addr.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if ((reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0) ||
        bind(fd, (const struct sockaddr *)&a->addr, a->len) != 0 || listen(fd, SOMAXCONN) != 0) {
        const int e = errno;
        (void)close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static enum tg_code open_listener(struct tg_http_server *s, struct tg_err *err)
{
    struct address a = {0};
    TG_TRY(parse_address(s->config.address, &a, err));
    s->fd = try_listen(&a, s->config.reuse_port);
    if (s->fd < 0 && a.any && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
        const in_port_t port = ((struct sockaddr_in6 *)&a.addr)->sin6_port;
        struct sockaddr_in *v4 = (struct sockaddr_in *)&a.addr;
        memset(&a.addr, 0, sizeof(a.addr));
        v4->sin_family = AF_INET;
        v4->sin_port = port;
        a.len = sizeof(*v4);
        s->fd = try_listen(&a, s->config.reuse_port);
    }
    if (s->fd < 0) {
        const int e = errno;
        return tg_fail_errno(err, e, "cannot listen on %s%s", s->config.address,
                             e == EADDRINUSE ? " (another process has it: stop that, or choose "
                                               "another port)"
                                             : "");
    }
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);
    if (getsockname(s->fd, (struct sockaddr *)&bound, &len) == 0)
        /* clang-analyzer does not see what getsockname wrote: NOLINTNEXTLINE */
        s->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                    : ((struct sockaddr_in *)&bound)->sin_port);
    return TG_OK;
}

static void format_peer(char *out, size_t cap, const struct sockaddr_storage *addr)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (addr->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)addr;
        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        (void)snprintf(out, cap, "%s:%u", host, ntohs(v4->sin_port));
    } else if (addr->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)addr;
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
            (void)inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host, sizeof(host));
            (void)snprintf(out, cap, "%s:%u", host, ntohs(v6->sin6_port));
        } else {
            (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
            (void)snprintf(out, cap, "[%s]:%u", host, ntohs(v6->sin6_port));
        }
    } else {
        (void)snprintf(out, cap, "?");
    }
}

/* --- accepting --- */

uint32_t tg_http_server_n_refusals(uint32_t max_connections)
{
    const uint32_t n = max_connections / 8 + 1;
    return n < TG_HTTP_EXTRA_CONNECTIONS ? n : TG_HTTP_EXTRA_CONNECTIONS;
}

void tg_http_server_adopt(struct tg_http_server *s, int fd, const char *peer)
{
    if (s->n_conns < s->config.max_connections) {
        tg_http_conn_open(s, fd, peer, false);
    } else if (s->n_extra < tg_http_server_n_refusals(s->config.max_connections)) {
        tg_http_conn_open(s, fd, peer, true);
    } else {
        tg_http_count(&s->stats.refused_connections, 1);
        (void)close(fd);
    }
}

static void on_accept(evutil_socket_t listener, short what, void *arg)
{
    struct tg_http_server *s = arg;
    const int one = 1;
    if (what & EV_TIMEOUT) { /* the pause is over */
        (void)event_del(&s->accept_event);
        (void)event_assign(&s->accept_event, tg_loop_base(s->loop), s->fd, EV_READ | EV_PERSIST,
                           on_accept, s);
        (void)event_add(&s->accept_event, NULL);
        return;
    }
    tg_http_server_enter(s);
    while (!s->stopping && !s->free_asked) {
        struct sockaddr_storage addr = {0};
        socklen_t len = sizeof(addr);
        const int fd =
            accept4(listener, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            const int e = errno;
            if (e == EINTR || e == ECONNABORTED) continue;
            if (e == EAGAIN || e == EWOULDBLOCK) break;
            /* Out of descriptors or memory: the waiting connection stays readable, so without a
             * pause this would spin. Errors of one connection (Linux passes pending network errors
             * through accept) take the same way; the pause is short. */
            if (!s->accept_paused_logged) {
                s->accept_paused_logged = true;
                tg_warn("http",
                        "port %u: accept: %s; pausing for %d ms at a time (raise the limit on open "
                        "files, or lower limits.connections)",
                        s->port, strerror(e), TG_HTTP_ACCEPT_PAUSE_MS);
            }
            const struct timeval pause = {.tv_usec = TG_HTTP_ACCEPT_PAUSE_MS * 1000};
            (void)event_del(&s->accept_event);
            (void)event_assign(&s->accept_event, tg_loop_base(s->loop), -1, 0, on_accept, s);
            (void)event_add(&s->accept_event, &pause);
            break;
        }
        s->accept_paused_logged = false;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        char peer[TG_HTTP_PEER_BYTES];
        format_peer(peer, sizeof(peer), &addr);
        tg_http_server_adopt(s, fd, peer);
    }
    tg_http_server_leave(s);
}

/* --- turns --- */

void tg_http_server_want_turn(struct tg_http_server *s)
{
    if (s->turn_pending) return;
    /* A timer of zero runs after the next poll, so others' sockets are served in between. */
    if (event_add(&s->turn_event, &now_tv) == 0) s->turn_pending = true;
}

static void free_dead(struct tg_http_server *s)
{
    while (s->dead) {
        struct tg_http_conn *c = s->dead;
        s->dead = c->next;
        tg_http_conn_free(c);
    }
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct tg_http_server *s = arg;
    s->turn_pending = false;
    tg_http_server_enter(s);
    struct tg_http_conn *c = s->resume_first;
    s->resume_first = s->resume_last = NULL;
    while (c) {
        struct tg_http_conn *next = c->resume_next;
        c->resume_next = NULL;
        c->resume_queued = false;
        tg_http_conn_resume(c);
        c = next;
    }
    /* Those that died just now may still be in the new resume list: they never are, since only a
     * live connection queues itself, but one may have queued itself and died before its turn. */
    struct tg_http_conn **link = &s->resume_first;
    s->resume_last = NULL;
    while (*link) {
        if ((*link)->state == TG_HTTP_DEAD) {
            *link = (*link)->resume_next;
        } else {
            s->resume_last = *link;
            link = &(*link)->resume_next;
        }
    }
    free_dead(s);
    tg_http_server_leave(s);
}

static void on_trim(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct tg_http_server *s = arg;
    /* Buffers that nobody took since the last time are at the bottom. */
    const unsigned n = s->body_pool_low;
    for (unsigned i = 0; i < n; i++) tg_free(s->body_pool[i].data);
    memmove(s->body_pool, s->body_pool + n, (s->n_body_pool - n) * sizeof(s->body_pool[0]));
    s->n_body_pool -= n;
    s->body_pool_low = s->n_body_pool;
    const struct timeval tv = {.tv_sec = TG_HTTP_POOL_TRIM_MS / 1000};
    if (s->n_body_pool > 0) (void)event_add(&s->trim_event, &tv);
}

static void free_now(struct tg_http_server *s)
{
    if (s->fd >= 0) {
        (void)event_del(&s->accept_event);
        (void)close(s->fd);
    }
    while (s->conns) tg_http_conn_close(s->conns);
    free_dead(s);
    (void)event_del(&s->turn_event);
    (void)event_del(&s->trim_event);
    for (struct tg_http_request *r = s->requests; r;) { /* with their handlers still */
        struct tg_http_request *next = r->next;
        r->server = NULL;
        r->prev = r->next = NULL;
        r = next;
    }
    while (s->request_pool) {
        struct tg_http_request *r = s->request_pool;
        s->request_pool = r->next;
        r->server = NULL;
        tg_http_request_release(r);
    }
    for (unsigned i = 0; i < s->n_body_pool; i++) tg_free(s->body_pool[i].data);
    tg_buf_deinit(&s->head);
    tg_free(s->scratch);
    tg_free(s);
}

void tg_http_server_enter(struct tg_http_server *s)
{
    s->busy++;
}

void tg_http_server_leave(struct tg_http_server *s)
{
    if (--s->busy == 0 && s->free_asked) free_now(s);
}

/* --- the public part --- */

static void fill_defaults(struct tg_http_server_config *g)
{
    if (!g->max_header_bytes) g->max_header_bytes = 16 * 1024;
    if (!g->max_body_bytes) g->max_body_bytes = UINT64_C(64) << 20;
    if (!g->max_inflight_body_bytes) g->max_inflight_body_bytes = UINT64_C(256) << 20;
    if (!g->max_connections) g->max_connections = 1024;
    if (!g->header_timeout_ms) g->header_timeout_ms = 10 * 1000;
    if (!g->body_timeout_ms) g->body_timeout_ms = 60 * 1000;
    if (!g->idle_timeout_ms) g->idle_timeout_ms = 120 * 1000;
    if (!g->write_timeout_ms) g->write_timeout_ms = 60 * 1000;
}

enum tg_code tg_http_server_new(struct tg_loop *loop, const struct tg_http_server_config *config,
                                tg_http_handler handler, void *arg, struct tg_http_server **out,
                                struct tg_err *err)
{
    *out = NULL;
    if (config->max_header_bytes > TG_HTTP_MAX_HEADER_LIMIT)
        return tg_fail(err, TG_ERR_INVALID,
                       "limits.headers of %u bytes is over the most possible, %d",
                       config->max_header_bytes, TG_HTTP_MAX_HEADER_LIMIT);
    if (config->max_body_bytes > SIZE_MAX / 4)
        return tg_fail(err, TG_ERR_INVALID,
                       "limits.body of %llu bytes is more than can be addressed",
                       (unsigned long long)config->max_body_bytes);
    struct tg_http_server *s = tg_calloc(1, sizeof(*s));
    if (!s) return tg_fail(err, TG_ERR_NOMEM, "no memory for an HTTP server");
    s->loop = loop;
    s->config = *config;
    fill_defaults(&s->config);
    s->handler = handler;
    s->arg = arg;
    s->fd = -1;
    tg_buf_init(&s->head, 256 * 1024);
    struct event_base *base = tg_loop_base(loop);
    (void)event_assign(&s->turn_event, base, -1, 0, on_turn, s);
    (void)event_assign(&s->trim_event, base, -1, 0, on_trim, s);
    s->scratch = tg_malloc(TG_HTTP_SCRATCH_BYTES);
    if (!s->scratch) {
        free_now(s);
        return tg_fail(err, TG_ERR_NOMEM, "no memory for an HTTP server's read buffer");
    }
    const enum tg_code code = open_listener(s, err);
    s->config.address = NULL; /* borrowed only until here */
    if (code != TG_OK) {
        free_now(s);
        return code;
    }
    (void)event_assign(&s->accept_event, base, s->fd, EV_READ | EV_PERSIST, on_accept, s);
    if (event_add(&s->accept_event, NULL) != 0) {
        free_now(s);
        return tg_fail(err, TG_ERR_NOMEM, "no memory to watch the listening socket");
    }
    *out = s;
    return TG_OK;
}

void tg_http_server_stop(struct tg_http_server *s)
{
    if (s->stopping) return;
    s->stopping = true;
    (void)event_del(&s->accept_event);
    (void)close(s->fd);
    s->fd = -1;
    for (struct tg_http_conn *c = s->conns; c;) {
        struct tg_http_conn *next = c->next;
        if (c->state == TG_HTTP_IDLE && !c->processing && c->carry.len == c->carry_pos)
            tg_http_conn_close(c);
        c = next;
    }
}

size_t tg_http_server_n_open_requests(const struct tg_http_server *s)
{
    size_t n = s->n_handling;
    for (const struct tg_http_conn *c = s->conns; c; c = c->next)
        if (c->state == TG_HTTP_HEAD || c->state == TG_HTTP_BODY || c->state == TG_HTTP_WRITING ||
            c->carry.len > c->carry_pos)
            n++;
    return n;
}

void tg_http_server_free(struct tg_http_server *s)
{
    if (!s) return;
    if (s->busy) {
        s->free_asked = true;
        return;
    }
    free_now(s);
}

uint16_t tg_http_server_port(const struct tg_http_server *s)
{
    return s->port;
}

struct tg_http_server_stats tg_http_server_stats(const struct tg_http_server *s)
{
#define READ(field) atomic_load_explicit(&s->stats.field, memory_order_relaxed)
    return (struct tg_http_server_stats){
        .n_connections = READ(connections),
        .n_connections_total = READ(connections_total),
        .n_requests_total = READ(requests_total),
        .n_refused_connections = READ(refused_connections),
        .n_refused_requests = READ(refused_requests),
        .n_timeouts = READ(timeouts),
        .bytes_in = READ(bytes_in),
        .bytes_out = READ(bytes_out),
    };
#undef READ
}
