/* otlp_encode.h: points to OTLP bytes, and the bodies of OTLP answers.
 *
 * Used by `tidegate send`, tests and benchmarks (requests) and by the OTLP receivers (answers).
 * Source: opentelemetry-proto, collector/metrics/v1; google/rpc/status.proto for error bodies
 * (OTLP specification, "OTLP/HTTP Response").
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_OTLP_ENCODE_H
#define TG_PROTOCOL_OTLP_ENCODE_H

#include "core/base/buf.h"
#include "core/model/point.h"
#include "core/model/series.h"

struct tg_otlp_item { /* both borrowed; the point's series pointer is not looked at */
    const struct tg_series_desc *desc;
    const struct tg_point *point;
};

/* Appends one ExportMetricsServiceRequest. Neighbours with the same resource tags share a
 * ResourceMetrics, with the same scope tags a ScopeMetrics, with the same name, unit, kind and
 * temporality a Metric: sort by these for a small request.
 *
 * Tags of origin scope become what they came from (otlp.h), without the prefix otel.scope.;
 * all values are written as strings. An unknown kind is written as a gauge, or as what its points
 * are (a histogram of a series of unknown kind); a counter without temporality as cumulative.
 *
 * TG_ERR_UNSUPPORTED: OTLP has no such point (strings); err names the series, nothing is appended.
 * TG_ERR_NOMEM, TG_ERR_TOO_LARGE from the buffer. */
TG_MUST_CHECK enum tg_code tg_otlp_encode_metrics(const struct tg_otlp_item *items, uint32_t n,
                                                  struct tg_buf *out, struct tg_err *err);

/* Appends an ExportMetricsServiceResponse: empty bytes when nothing was rejected and there is
 * nothing to say. `message` may be NULL. */
TG_MUST_CHECK enum tg_code tg_otlp_encode_response(uint64_t n_rejected, const char *message,
                                                   struct tg_buf *out);
/* Reads one: *message borrows from `buf` ("" when there is none). TG_ERR_MALFORMED. */
TG_MUST_CHECK enum tg_code tg_otlp_decode_response(const uint8_t *buf, size_t len,
                                                   int64_t *n_rejected, struct tg_string *message,
                                                   struct tg_err *err);

/* Appends a google.rpc.Status; `grpc_code` as from tg_code_grpc_status. With retry_after_ms >= 0
 * its details hold a RetryInfo, which tells gRPC senders that they may come back. */
TG_MUST_CHECK enum tg_code tg_otlp_encode_status(int grpc_code, const char *message,
                                                 int64_t retry_after_ms, struct tg_buf *out);
/* Reads code and message of one. TG_ERR_MALFORMED. */
TG_MUST_CHECK enum tg_code tg_otlp_decode_status(const uint8_t *buf, size_t len, int32_t *grpc_code,
                                                 struct tg_string *message, struct tg_err *err);

#endif
