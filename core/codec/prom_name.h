/* prom_name.h: names that Prometheus takes, from OpenTelemetry names.
 *
 * After the OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility", section "OTLP
 * Metric points to Prometheus", as Prometheus itself applies it to OTLP:
 *
 *   metric   letters, digits and ":" stay; everything else separates words, joined by "_"
 *            + unit ("By" bytes, "s" seconds, "By/s" bytes_per_second, "{...}" nothing) unless
 *              the name has the word already
 *            + "total" last for counters, + "ratio" for gauges of unit "1"
 *            + "_" in front of a digit
 *   label    letters, digits and "_" stay, everything else becomes "_"; "key_" before a digit
 *
 * A series of unknown kind came from Prometheus or as an Influx line and is named already: what
 * cannot stand in a name becomes "_", nothing else changes.
 *
 * Threading: no shared state.
 */
#ifndef TG_CODEC_PROM_NAME_H
#define TG_CODEC_PROM_NAME_H

#include "core/base/buf.h"
#include "core/model/series.h"

/* Appends the metric name of a series, without the suffixes _bucket, _sum, _count. TG_ERR_INVALID
 * when nothing but "_" would be left; TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_prom_metric_name(const struct tg_series_desc *d, struct tg_buf *out,
                                               struct tg_err *err);

/* Appends a label name; the key is not empty. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_prom_label_name(const char *key, uint32_t key_len,
                                              struct tg_buf *out);

#endif
