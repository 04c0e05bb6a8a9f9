/* parquet_sample.h: points of every kind with edge values, as series bytes and points, for the
 * tests of the Parquet codec and backend and for the independent readers.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_TESTS_PARQUET_SAMPLE_H
#define TG_TESTS_PARQUET_SAMPLE_H

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/model/point.h"
#include "core/model/series.h"
#include "core/parquet/parquet_writer.h"

struct tg_sample_point {
    const uint8_t *series; /* canonical bytes */
    uint32_t series_len;
    struct tg_point point;
};

struct tg_sample {
    struct tg_arena arena;
    struct tg_sample_point *points;
    uint32_t n, cap;
};

void tg_sample_init(struct tg_sample *s);
void tg_sample_deinit(struct tg_sample *s);

/* Canonical bytes of a series; tags as "key=value" strings, of the given origins (NULL = all
 * point). In the sample's arena. */
const uint8_t *tg_sample_series(struct tg_sample *s, const char *name, uint32_t field_len,
                                enum tg_kind kind, enum tg_temporality temporality,
                                const char *unit, const char *const *tags, unsigned n_tags,
                                const uint8_t *origins, uint32_t *len);
struct tg_sample_point *tg_sample_add(struct tg_sample *s, const uint8_t *series, uint32_t len,
                                      int64_t ts_ns, enum tg_value_type type);

/* One of everything: all types, extreme numbers, NaN payloads, -0, empty and long lists, exemplars,
 * odd strings; all within the UTC day of `day_ns`, except for a few at the ends of time when
 * `extreme_times`. */
void tg_sample_edges(struct tg_sample *s, int64_t day_ns, bool extreme_times);
/* n_series x n_points doubles and integers with n_tags tags, interleaved as scrapes are. */
void tg_sample_scrapes(struct tg_sample *s, uint32_t n_series, uint32_t n_points, unsigned n_tags,
                       int64_t first_ns, int64_t every_ns);

/* All of it through a writer, into *out. */
enum tg_code tg_sample_write(const struct tg_sample *s, const struct tg_parquet_options *o,
                             struct tg_parquet_info *info, struct tg_buf *out, struct tg_err *err);

/* One line of JSON per point, all numbers exact (doubles as 16 hex digits of their bits, integers
 * as decimal strings, strings as hex of their bytes): the form that the readers' scripts print. */
enum tg_code tg_sample_print(const struct tg_series_desc *d, const struct tg_point *p,
                             struct tg_buf *out);

#endif
