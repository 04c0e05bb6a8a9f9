/* admin.h: the private HTTP port: metrics, health, status, query, explain, reload, rewind.
 *
 *   GET  /                status page          GET  /metrics      Prometheus text
 *   GET  /healthz         the process lives    GET  /readyz       traffic is welcome (503 + why)
 *   GET  /api/status      JSON, with ledgers   GET  /api/query ?series=|name=&tag=k=v&start=&end=
 *   GET  /api/explain     ?series=|line=&...                      &since=&limit=&backend=
 *   POST /-/reload        ?force=1&strict=1    POST /-/rewind ?backend=&to=start|end|
 *                                                      TIME|pos:N&skip=1
 *
 * Answers of the gateway's threads come back through tg_loop_post_item, so every reply is given on
 * the loop's thread. Whoever can reach this port can read all data and move cursors: it listens on
 * the loopback by default, and refuses requests that a browser sends from another site.
 *
 * Threading: everything on the loop's thread.
 */
#ifndef TG_ADMIN_ADMIN_H
#define TG_ADMIN_ADMIN_H

#include "core/net/loop.h"
#include "core/pipe/gateway.h"

struct tg_admin;

struct tg_admin_config {
    struct tg_loop *loop;
    const char *address;
    struct tg_gateway *gateway;     /* borrowed until tg_admin_detach */
    const struct tg_config *config; /* borrowed */
};

TG_MUST_CHECK enum tg_code tg_admin_new(const struct tg_admin_config *config, struct tg_admin **out,
                                        struct tg_err *err);
/* From now on the gateway is not touched: health answers, /readyz says "draining", the rest 503.
 * Queries, rewinds and reloads under way still end. Call before tg_gateway_stop. */
void tg_admin_detach(struct tg_admin *a);
/* Queries, rewinds and reloads whose answer is still to come. */
size_t tg_admin_n_pending(const struct tg_admin *a);
/* Detached and nothing pending. NULL accepted. */
void tg_admin_free(struct tg_admin *a);
uint16_t tg_admin_port(const struct tg_admin *a);

#endif
