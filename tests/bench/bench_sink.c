/* An HTTP sink that takes everything and keeps nothing: the far side of whole-gateway measurements.
 *
 *   bench_sink [PORT]     prints {"port": N}; on SIGTERM prints requests and bytes
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/net/http_server.h"

static struct tg_loop *loop;
static unsigned long long n_requests, n_bytes;

static void on_request(struct tg_http_request *req, void *arg)
{
    (void)arg;
    size_t len;
    (void)tg_http_body(req, &len);
    n_requests++;
    n_bytes += len;
    tg_http_reply(req, 204, NULL, NULL, 0, NULL, 0);
}

static void on_signal(int sig)
{
    (void)sig;
    tg_loop_stop(loop); /* writes to an eventfd: safe in a handler */
}

int main(int argc, char **argv)
{
    char address[32];
    (void)snprintf(address, sizeof(address), "127.0.0.1:%s", argc > 1 ? argv[1] : "0");
    loop = tg_loop_new();
    struct tg_http_server *server = NULL;
    struct tg_err err;
    const struct tg_http_server_config config = {.address = address};
    if (!loop || tg_http_server_new(loop, &config, on_request, NULL, &server, &err) != TG_OK) {
        (void)fprintf(stderr, "bench_sink: %s\n", loop ? err.msg : "out of memory");
        return 1;
    }
    (void)signal(SIGTERM, on_signal);
    (void)printf("{\"port\": %u}\n", tg_http_server_port(server));
    (void)fflush(stdout);
    tg_loop_run(loop);
    (void)printf("{\"requests\": %llu, \"bytes\": %llu}\n", n_requests, n_bytes);
    tg_http_server_free(server);
    tg_loop_free(loop);
    return 0;
}
