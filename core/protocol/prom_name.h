/* prom_name.h: names at a Prometheus: kept as UTF-8, or escaped to the classic alphabet.
 *
 * A series of unknown kind came from Prometheus or as an Influx line and is named already, and so
 * is a native histogram without a temporality, which came by remote write:
 *
 *   is_utf8   name and label names as they are
 *   else      every character (not byte) that a classic name has no place for becomes "_"; "_"
 *             before a digit at the front of a metric name, "key_" of a label name
 *
 * An OTLP series is named after the OpenTelemetry specification, "Prometheus and OpenMetrics
 * Compatibility", section "OTLP Metric points to Prometheus"; the two flags make the four
 * strategies that Prometheus has for it (`otlp.translation_strategy`):
 *
 *   is_otlp_utf8  has_otlp_suffixes
 *   no            yes   UnderscoreEscapingWithSuffixes: letters, digits and ":" stay, everything
 *                       else separates words, joined by "_"; + unit ("By" bytes, "s" seconds,
 *                       "By/s" bytes_per_second, "{...}" nothing) unless the name has the word
 *                       already; + "total" last for counters, + "ratio" for gauges of unit "1"
 *   no            no    UnderscoreEscapingWithoutSuffixes: runs of what has no place become one "_"
 *   yes           yes   NoUTF8EscapingWithSuffixes: the name as it is + the suffixes above unless
 *                       it ends in them
 *   yes           no    NoTranslation: the name as it is
 *
 * Its label names are kept or escaped as above: one "_" a character, runs are not joined (as
 * Prometheus does by default: label_name_preserve_multiple_underscores).
 *
 * Escaping makes one name of several: tg_remote_write_prepare's caller has to look out for it.
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_PROM_NAME_H
#define TG_PROTOCOL_PROM_NAME_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/model/series.h"

struct tg_prom_names {
    bool is_utf8;                         /* of Prometheus and Influx senders */
    bool is_otlp_utf8, has_otlp_suffixes; /* of OTLP senders; see above */
};
/* Sent names are kept; those of OTLP go by UnderscoreEscapingWithSuffixes. */
extern const struct tg_prom_names tg_prom_names_default;

/* Whether the series came by OTLP, or is one of the gateway's or the rules' own, which are named as
 * those. Histograms of OTLP have a temporality, native ones of remote write have none. */
bool tg_prom_is_otlp(const struct tg_series_desc *d);

/* Whether label names of the series stay as they are. */
bool tg_prom_keeps_names(const struct tg_prom_names *names, const struct tg_series_desc *d);

/* Appends the metric name of a series, without the suffixes _bucket, _sum, _count. TG_ERR_INVALID
 * when nothing but "_" would be left of it; TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_prom_metric_name(const struct tg_series_desc *d,
                                               const struct tg_prom_names *names,
                                               struct tg_buf *out, struct tg_err *err);

/* Appends a unit as UNIT metadata has it: "seconds", "bytes_per_second", "ratio" of a gauge;
 * nothing for a unit that is none. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_prom_unit(const struct tg_series_desc *d, struct tg_buf *out);

/* Appends a label name, kept or escaped; the key is not empty. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_prom_label_name(const char *key, uint32_t key_len, bool keep,
                                              struct tg_buf *out);

#endif
