/* prometheus_query.h: query_range on Prometheus and VictoriaMetrics, raw samples.
 *
 * /api/v1/query with a range selector gives the samples as they are stored;
 * /api/v1/query_range would only give them at its own steps.
 *
 * Threading: the thread of the query's loop.
 */
#ifndef TG_BACKEND_PROMETHEUS_PROMETHEUS_QUERY_H
#define TG_BACKEND_PROMETHEUS_PROMETHEUS_QUERY_H

#include "core/backend/http/http_backend.h"
#include "core/protocol/prom_name.h"

/* `base`: what comes before /api/v1/query. on_end is called exactly once, later. */
void tg_prometheus_query(struct tg_http_backend *h, const char *base,
                         const struct tg_prom_names *names, const struct tg_query *q,
                         tg_on_row on_row, tg_on_query_end on_end, void *arg);

/* Appends the expression for `q` over [start_ms, end_ms]; for tests. A name is looked for as it
 * is (where `names` keeps any) and escaped, with and without the suffixes that prom_name.h or a
 * histogram's parts put behind it. Older servers know no way to write a label name that is not a
 * classic one: such tags are left out here, and looked at in the answer. */
TG_MUST_CHECK enum tg_code tg_prometheus_query_text(const struct tg_query *q,
                                                    const struct tg_prom_names *names,
                                                    int64_t start_ms, int64_t end_ms,
                                                    struct tg_buf *out, struct tg_err *err);

#endif
