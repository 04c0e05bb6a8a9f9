/* parquet_stats.h: the statistics of a page or a column chunk: nulls, NaNs, least and greatest.
 *
 * Doubles follow the rules of TYPE_ORDER: NaN never becomes a bound and is counted, a bound of zero
 * is stored as -0 (min) or +0 (max). Strings are compared bytewise; bounds longer than
 * TG_PARQUET_BOUND_MAX bytes are cut at a character (min) or cut and raised (max), and marked
 * inexact. Source: apache/parquet-format, parquet.thrift, Statistics and ColumnOrder.
 *
 * Strings are borrowed: they outlive the statistics.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_PARQUET_STATS_H
#define TG_PARQUET_PARQUET_STATS_H

#include "core/parquet/parquet_schema.h"

enum { TG_PARQUET_BOUND_MAX = 64 };

union tg_parquet_bound {
    int64_t i64;
    uint64_t u64;
    double f64;
    struct {
        const char *ptr;
        uint32_t len;
    } str;
};

struct tg_parquet_stats {
    uint64_t n_null, n_nan;
    bool has_null, has_min, has_max;
    union tg_parquet_bound min, max;
};

void tg_parquet_stats_init(struct tg_parquet_stats *s); /* nothing seen; null count known */
void tg_parquet_stats_i64(struct tg_parquet_stats *s, const int64_t *v, size_t n);
void tg_parquet_stats_u64(struct tg_parquet_stats *s, const uint64_t *v, size_t n);
void tg_parquet_stats_f64(struct tg_parquet_stats *s, const double *v, size_t n);
void tg_parquet_stats_bytes(struct tg_parquet_stats *s, const char *p, uint32_t len);
/* `more` was taken over the same column. */
void tg_parquet_stats_merge(struct tg_parquet_stats *s, const struct tg_parquet_stats *more,
                            enum tg_parquet_order o);

/* One bound as stored (PLAIN without a length), up to TG_PARQUET_BOUND_MAX bytes. Returns its
 * length, or
 * -1 when there is none that could be stored; *exact says whether it is the value itself. */
int tg_parquet_stats_bound(const struct tg_parquet_stats *s, const struct tg_parquet_column *c,
                           bool is_max, uint8_t out[TG_PARQUET_BOUND_MAX], bool *exact);
/* Writes field `id`: struct Statistics. */
void tg_parquet_stats_write(struct tg_thriftw *w, int id, const struct tg_parquet_stats *s,
                            const struct tg_parquet_column *c);
/* Reads the value of a Statistics field; strings borrow from the reader's bytes. A bound of the
 * wrong size is a failure. */
void tg_parquet_stats_read(struct tg_thriftr *r, enum tg_thrift_type type,
                           struct tg_parquet_stats *s, const struct tg_parquet_column *c);
/* Reads one stored bound. false when its size is wrong for the column. */
bool tg_parquet_bound_read(const uint8_t *p, size_t len, const struct tg_parquet_column *c,
                           union tg_parquet_bound *out);

/* Bytewise comparison, as memcmp over strings of different lengths. */
int tg_parquet_bytes_cmp(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
