/* otlp.h: decodes OTLP metrics (ExportMetricsServiceRequest, protobuf) into a batch.
 *
 *   request ─► resource_metrics ─► scope_metrics ─► metrics ─► data points
 *                resource            scope            header      attributes     } hashed as they
 *                   └───────combine────┴───────combine──┴───combine───┘           } lie: raw key
 *
 * Of each level the head is found first, wherever in its message it stands, and hashed once; a
 * point then costs a walk over its fields, one hash over its attribute bytes and a look-up. Labels
 * are decoded only when the raw key is unknown. Look-ups run some points behind the walk, so that
 * their cache misses overlap.
 *
 * What makes the series: resource attributes, the scope's name, version, schema URL and attributes
 * (tags otel.scope.name, otel.scope.version, otel.scope.schema_url and otel.scope.<key>: so none
 * of them takes the place of an attribute of a point), metric name, unit and kind, temporality,
 * point attributes. An attribute of a resource or scope that a narrower one of the same key hides
 * is kept under another key (tg_otlp_keep_hidden). Descriptions (kept in the table's tg_help), a
 * resource's schema URL and metric metadata do not.
 *
 * Source: opentelemetry-proto, opentelemetry/proto/collector/metrics/v1 and metrics/v1; field
 * numbers in otlp.c and otlp_point.h.
 *
 * Threading: as intake.h: one request, one thread.
 */
#ifndef TG_PROTOCOL_OTLP_H
#define TG_PROTOCOL_OTLP_H

#include "core/protocol/intake.h"

/* Appends the points of one request to d->batch. Borrows `buf` until return.
 *
 * TG_OK: all points are in the batch or counted in d->n_rejected (each bad point alone: no time,
 * no value, buckets that do not fit, a series that the table refuses).
 * TG_ERR_MALFORMED: not such a message; err says where (offset, and the path
 * resource_metrics[0].scope_metrics[0].metrics[3].data_points[7]); nothing is added to the batch.
 * TG_ERR_TOO_LARGE: over 4 GiB, or over the batch's points. TG_ERR_NOMEM. As for malformed, nothing
 * is added. */
TG_MUST_CHECK enum tg_code tg_otlp_decode_metrics(const uint8_t *buf, size_t len,
                                                  struct tg_intake *d, struct tg_err *err);

#endif
