/* prometheus_query.h: query_range on Prometheus and VictoriaMetrics, raw samples.
 *
 * /api/v1/query with a range selector gives the samples as they are stored;
 * /api/v1/query_range would only give them at its own steps.
 *
 * Threading: the backend's own loop thread.
 */
#ifndef TG_BACKEND_PROMETHEUS_QUERY_H
#define TG_BACKEND_PROMETHEUS_QUERY_H

#include "core/backend/http_common.h"

/* `base`: what comes before /api/v1/query. on_end is called exactly once, later. */
void tg_prometheus_query(struct tg_backend_http *h, const char *base, const struct tg_query *q,
                         tg_on_row on_row, tg_on_query_end on_end, void *arg);

/* Appends the expression for `q` over [start_ms, end_ms]; for tests. A name is looked for as
 * Prometheus takes it, with and without the suffixes that prom_name.h or a histogram's parts put
 * behind it. */
TG_MUST_CHECK enum tg_code tg_prometheus_query_text(const struct tg_query *q, int64_t start_ms,
                                                    int64_t end_ms, struct tg_buf *out,
                                                    struct tg_err *err);

#endif
