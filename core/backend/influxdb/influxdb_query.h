/* influxdb_query.h: query_range on InfluxDB 1.x, by InfluxQL and JSON.
 *
 * A gateway name does not say where its measurement ends and its field begins ("cpu_usage_idle"),
 * so one statement per way to cut it is sent in one request; a whole name is also looked for as the
 * measurement of a series that came from elsewhere (field "value", or the parts of a histogram,
 * which come back as name_count, name_sum, ...).
 *
 * Threading: the thread of the query's loop.
 */
#ifndef TG_BACKEND_INFLUXDB_INFLUXDB_QUERY_H
#define TG_BACKEND_INFLUXDB_INFLUXDB_QUERY_H

#include "core/backend/http/http_backend.h"

/* `retention_policy` NULL = the database's default. on_end is called exactly once, later. */
void tg_influxdb_query(struct tg_http_backend *h, const char *database,
                       const char *retention_policy, const struct tg_query *q, tg_on_row on_row,
                       tg_on_query_end on_end, void *arg);

/* Appends the statements for `q`; for tests. */
TG_MUST_CHECK enum tg_code tg_influxdb_query_text(const struct tg_query *q, struct tg_buf *out);

#endif
