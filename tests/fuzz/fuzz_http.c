/* The HTTP server fed with any bytes over a socket pair, once whole and once in pieces.
 *
 * Checks: the handler sees the same requests however the bytes are cut; every answer is a row of
 * well-formed HTTP/1.1 responses; afterwards no connection, request or body byte is left over.
 *
 * The first byte of the input gives the size of the pieces. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/hash.h"
#include "core/net/http_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(what)                                                          \
    do {                                                                     \
        if (!(what)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                         \
        }                                                                    \
    } while (0)

static struct tg_loop *loop;
static struct tg_http_server *server;
static struct tg_http_request *held;
static char filler[65536]; /* replies of the body's length, but never like a status line */
static uint64_t seen;      /* hash over all requests that the handler saw */
static unsigned n_seen;

static void note(const void *p, size_t len)
{
    const uint64_t parts[2] = {seen, tg_hash64(p, len)};
    seen = tg_hash64(parts, sizeof(parts));
}

static void handler(struct tg_http_request *r, void *arg)
{
    (void)arg;
    size_t len;
    const uint8_t *body = tg_http_body(r, &len);
    const char *path = tg_http_path(r);
    n_seen++;
    note(tg_http_method(r), strlen(tg_http_method(r)));
    note(path, strlen(path));
    note(body, len);
    for (unsigned i = 0; i < 4; i++) {
        const char *v = tg_http_query(r, "a", i);
        if (v) note(v, strlen(v));
    }
    const char *h = tg_http_header(r, "host");
    if (h) note(h, strlen(h));
    switch (path[1]) {
    case 'h':
        CHECK(!held);
        held = r; /* replied to later */
        break;
    case 'e': tg_http_reply(r, 204, NULL, NULL, 0, NULL, 0); break;
    case 'c':
        tg_http_reply(r, 200, "text/plain", filler, len,
                      &(struct tg_http_header_pair){"Connection", "close"}, 1);
        break;
    default: tg_http_reply(r, 200, "text/plain", filler, len, NULL, 0); break;
    }
}

static void start(void)
{
    struct tg_err err;
    const struct tg_http_server_config config = {
        .address = "127.0.0.1:0",
        .max_header_bytes = 2048,
        .max_body_bytes = 8192,
        .max_inflight_body_bytes = 200000,
    };
    tg_hash_seed(1);
    memset(filler, 'x', sizeof(filler));
    loop = tg_loop_new();
    CHECK(loop);
    if (tg_http_server_new(loop, &config, handler, NULL, &server, &err) != TG_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        abort();
    }
}

/* Runs until nothing moves any more; collects what the server says. */
static size_t turn(int fd, char *out, size_t cap, size_t len, bool *closed)
{
    for (int quiet = 0; quiet < 2; quiet++) {
        tg_loop_once(loop, 0);
        if (held) {
            struct tg_http_request *r = held;
            held = NULL;
            quiet = 0;
            tg_http_reply_text(r, 200, "late");
        }
        for (ssize_t n; len < cap && (n = recv(fd, out + len, cap - len, 0)) >= 0; quiet = 0) {
            if (n == 0) {
                *closed = true;
                return len;
            }
            len += (size_t)n;
        }
    }
    return len;
}

static void check_answer(const char *p, const char *end)
{
    while (p < end) {
        int status;
        const char *head_end = memmem(p, (size_t)(end - p), "\r\n\r\n", 4);
        CHECK(head_end);
        CHECK(sscanf(p, "HTTP/1.1 %3d ", &status) == 1);
        CHECK(status == 100 || (status >= 200 && status < 600));
        const char *cl = memmem(p, (size_t)(head_end - p), "Content-Length: ", 16);
        CHECK(cl || status == 100 || status == 204);
        p = head_end + 4;
        /* the body of a reply to HEAD is left out: resume at the next status line instead */
        size_t len = cl ? strtoull(cl + 16, NULL, 10) : 0;
        if (len > 0 && ((size_t)(end - p) < len || memcmp(p, "HTTP/1.1 ", 9) == 0)) len = 0;
        p += len;
    }
}

static void feed(const uint8_t *data, size_t size, size_t piece)
{
    static char out[1 << 20];
    int fds[2];
    bool closed = false;
    size_t len = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) abort();
    tg_http_server_adopt(server, fds[1], "fuzz");
    for (size_t pos = 0; pos < size && !closed;) {
        const size_t n = size - pos < piece ? size - pos : piece;
        const ssize_t sent = send(fds[0], data + pos, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) break;
        if (sent > 0) pos += (size_t)sent;
        len = turn(fds[0], out, sizeof(out) - 1, len, &closed);
    }
    (void)shutdown(fds[0], SHUT_WR);
    for (int i = 0; i < 1000 && !closed; i++)
        len = turn(fds[0], out, sizeof(out) - 1, len, &closed);
    CHECK(closed); /* an ended peer is never waited for */
    out[len] = 0;
    check_answer(out, out + len);
    (void)close(fds[0]);
    for (int i = 0; i < 3; i++) tg_loop_once(loop, 0);
    CHECK(tg_http_server_stats(server).n_connections == 0);
    CHECK(tg_http_server_n_open_requests(server) == 0);
    CHECK(server->inflight_bytes == 0);
    CHECK(!server->requests && !server->dead && !server->resume_first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!server) start();
    if (size < 2 || size > 65536) return 0;
    seen = n_seen = 0;
    feed(data + 1, size - 1, size);
    const uint64_t whole = seen;
    const unsigned n_whole = n_seen;
    seen = n_seen = 0;
    feed(data + 1, size - 1, size > 4096 ? 97U + data[0] : 1U + data[0] % 32U);
    CHECK(n_whole == n_seen && whole == seen);
    return 0;
}
