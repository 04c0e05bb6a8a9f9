/* admin_impl.h: what the files of the admin layer share. Not for others. */
#ifndef TG_ADMIN_ADMIN_IMPL_H
#define TG_ADMIN_ADMIN_IMPL_H

#include "core/admin/admin.h"
#include "core/admin/selector.h"
#include "core/base/metric.h"
#include "core/net/http_server.h"

enum {
    TG_ADMIN_MAX_PENDING = 32,         /* queries, looks and rewinds at once; then 503 */
    TG_ADMIN_MAX_ANSWER = 64 << 20,    /* bytes of one query's answer; then it is cut */
    TG_ADMIN_MAX_QUERY_MS = 30 * 1000, /* one query's time; then it is cut */
    TG_ADMIN_N_METRICS = 5,
};

struct tg_admin {
    struct tg_admin_config config;
    struct tg_gateway *gateway; /* NULL once detached */
    struct tg_http_server *server;
    char own_name[256]; /* the host of `address`: empty, an IP address or a name */
    size_t n_pending;
    struct tg_gateway_status status; /* scratch: too large for the stack */
    struct tg_metric metrics[TG_ADMIN_N_METRICS];
};

/* {"error": message} */
void tg_admin_reply_error(struct tg_http_request *req, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Whether too much is under way already, which is the answer then. */
bool tg_admin_is_busy(const struct tg_admin *a, struct tg_http_request *req);

void tg_admin_query(struct tg_admin *a, struct tg_http_request *req);
void tg_admin_rewind(struct tg_admin *a, struct tg_http_request *req);
void tg_admin_reload(struct tg_admin *a, struct tg_http_request *req);
void tg_admin_explain(struct tg_admin *a, struct tg_http_request *req);
void tg_admin_status_json(struct tg_admin *a, struct tg_http_request *req);
void tg_admin_status_page(struct tg_admin *a, struct tg_http_request *req);

#endif
