/* http_query.h: the one GET of a query to an HTTP backend, beside the backend's writes: on the
 * query's own loop, over a client of its own, and given up when the query is to stop.
 *
 * Threading: the query's loop; of the backend only what never changes is read.
 */
#ifndef TG_BACKEND_HTTP_HTTP_QUERY_H
#define TG_BACKEND_HTTP_HTTP_QUERY_H

#include "core/backend/http/http_backend.h"

/* The loop that a query runs on. */
struct tg_loop *tg_http_backend_query_loop(const struct tg_http_backend *h,
                                           const struct tg_query *q);
/* GETs `url` (copied) with authentication. The callback runs once, later, on the query's loop;
 * TG_ERR_CANCELED in its result when q->stop said so. Not at all when this fails. */
TG_MUST_CHECK enum tg_code tg_http_backend_query(const struct tg_http_backend *h,
                                                 const struct tg_query *q, const char *url,
                                                 tg_http_on_result on_result, void *arg,
                                                 struct tg_err *err);

#endif
