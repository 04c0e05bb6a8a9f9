/* remote_write.h: Prometheus remote write 1.0, both ways (before and after snappy).
 *
 *   WriteRequest { timeseries 1, metadata 3 }
 *   TimeSeries   { labels 1, samples 2, exemplars 3, histograms 4 }
 *
 * Source: prometheus.io "Remote-Write 1.0 specification" and its messages (prompb). Native
 * histograms are not in the specification's text, but Prometheus sends and takes them in field 4.
 *
 * Threading: no shared state; decoding as intake.h.
 */
#ifndef TG_PROTOCOL_REMOTE_WRITE_H
#define TG_PROTOCOL_REMOTE_WRITE_H

#include "core/base/buf.h"
#include "core/protocol/intake.h"
#include "core/protocol/native_histogram.h" /* TG_REMOTE_WRITE_STALE_NAN */
#include "core/model/left_out.h"
#include "core/model/plan.h"
#include "core/model/series.h"

/* Appends the samples and native histograms of one WriteRequest (already decompressed) to d->batch.
 * Borrows `buf` until return.
 *
 * The series is its labels: name from __name__, the other labels as tags of origin point, kind
 * unknown; native histograms of the same labels are a series of kind exponential histogram
 * (cumulative). Labels may come in any order; a label twice, an empty label name or a missing
 * __name__ rejects the points of that TimeSeries.
 *
 * Metadata is noted as what is known of its family (help.h), in order of the request, also of one
 * that is malformed further on; d->n_metadata counts it.
 *
 * Exemplars go with the last point of their TimeSeries. In one without points (Prometheus sends
 * each exemplar so) they are a point of type TG_VALUE_EXEMPLARS, at the time of the newest, of the
 * histogram series of these labels if there is one, else of the series of the samples. Those that
 * cannot be used are counted in d->n_exemplars_*.
 *
 * Native histograms (native_histogram.h) are one series, whatever their schema and counts; bad ones
 * are rejected alone.
 *
 * TG_ERR_MALFORMED with offset and TimeSeries index, TG_ERR_TOO_LARGE, TG_ERR_NOMEM: nothing is
 * added to the batch. */
TG_MUST_CHECK enum tg_code tg_remote_write_decode(const uint8_t *buf, size_t len,
                                                  struct tg_intake *d, struct tg_err *err);

/* --- encoding: what the prometheus backend keeps of a series, and one message per point ---
 *
 * Names are kept or escaped, as `names` says (see prom_name.h). Labels are sorted; labels whose
 * names become the same are joined with ";" in the order of their keys; a tag that would take the
 * place of a label of ours (__name__, `le` of a histogram, `quantile` of a summary) becomes
 * exported___name__, exported_le, exported_quantile.
 *
 * Prepared bytes: tokens (shared_parts.h) of sections, before them how many plain bytes each
 * section is.
 *
 *   plain (numbers), native histograms:  u8 0 or 2 | len | labels
 *   composite (histograms, summaries):   u8 1 or 3 | len, len, len, len
 *                                        | labels < __name__ | name | labels < le | labels > le
 *
 * The first byte has bit 7 set when label names are kept: those of exemplars are, too. Lengths are
 * varints.
 */

struct tg_shared_parts;
struct tg_prom_names;
/* Appends the prepared form of a canonical desc, with what many share in `parts` (NULL: all in the
 * bytes). Pure but for that. TG_ERR_INVALID: no name is left; TG_ERR_UNSUPPORTED: delta
 * temporality, which Prometheus has no form for; TG_ERR_NOMEM, TG_ERR_TOO_LARGE from the buffer.
 * After a failure `out` is as before. */
TG_MUST_CHECK enum tg_code tg_remote_write_prepare(const struct tg_series_desc *mapped,
                                                   const struct tg_prom_names *names,
                                                   struct tg_shared_parts *shared_parts,
                                                   struct tg_buf *out, struct tg_err *err);

/* The forms of a series from its bytes as prepared without parts: its labels; of a histogram those
 * of x_bucket (without le), x_sum and x_count, of a summary x (without quantile), x_sum and
 * x_count. Who it is does not count le and quantile, so that the buckets of a histogram sent one by
 * one do not stand in each other's way. TG_ERR_CORRUPT, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_remote_write_forms(const struct tg_series_desc *mapped,
                                                 const uint8_t *prepared, uint32_t len,
                                                 struct tg_form *forms, unsigned *n);

/* Appends the TimeSeries fields for one point to a WriteRequest in `out`; `prepared` without parts
 * (with them, or for many points: remote_write_body.h):
 *   numbers                  one sample (the label bytes are copied, time and value written)
 *   exemplars alone          no sample: the exemplars
 *   no value                 the stale marker (histograms: of le="+Inf", _count, _sum, and the
 *                            bounds that the point names; summaries likewise, for their quantiles)
 *   histogram                _bucket per bound and le="+Inf", _sum if known, _count; in a series of
 *                            native histograms one with custom buckets
 *   summary                  one per quantile, _sum, _count
 *   exponential, float       a native histogram (native_histogram.h)
 * Times are cut to milliseconds. Exemplars go along (a histogram's with the bucket they fall in).
 *
 * TG_ERR_UNSUPPORTED: text, a value that does not fit the series' kind, a native
 * histogram that Prometheus does not take. After a failure `out` is as before. */
TG_MUST_CHECK enum tg_code tg_remote_write_append_point(struct tg_buf *out, const uint8_t *prepared,
                                                        uint32_t len, const struct tg_point *p);
/* Adds what tg_remote_write_append_point left out of a point that it took: labels of its exemplars,
 * over 128 characters in all or with the name of another. `scratch` is reset and used.
 * TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_remote_write_left_out(const uint8_t *prepared, uint32_t len,
                                                    const struct tg_point *p,
                                                    struct tg_buf *scratch,
                                                    struct tg_left_out *left_out);

#endif
