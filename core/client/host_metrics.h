/* host_metrics.h: this machine's metrics from /proc and statvfs, named by OpenTelemetry's semantic
 * conventions (opentelemetry.io/docs/specs/semconv/system/system-metrics).
 *
 * Threading: one thread.
 */
#ifndef TG_CLIENT_HOST_METRICS_H
#define TG_CLIENT_HOST_METRICS_H

#include "core/base/err.h"
#include "core/protocol/otlp_encode.h"

struct tg_host_metrics;

/* `proc` is the folder to read, "/proc" but for tests; copied. NULL when out of memory. */
struct tg_host_metrics *tg_host_metrics_new(const char *proc);
void tg_host_metrics_free(struct tg_host_metrics *h); /* NULL accepted */

/* Reads everything once. The items are valid until the next call; sorted for a small request.
 * Files that are missing are left out. Utilization needs two calls. TG_ERR_UNAVAILABLE when
 * nothing could be read, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_host_metrics_collect(struct tg_host_metrics *h, int64_t now_ns,
                                                   const struct tg_otlp_item **items, uint32_t *n,
                                                   struct tg_err *err);

#endif
