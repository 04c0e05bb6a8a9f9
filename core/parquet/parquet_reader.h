/* parquet_reader.h: points back out of the gateway's own Parquet files. Pure: over bytes in memory.
 *
 *   new -> footer (the end of the file) -> may_match? -> scan (the whole file) -> free
 *
 * Row groups and pages whose statistics rule out the filter are not decoded. A damaged file gives
 * TG_ERR_CORRUPT, after the rows that came before the damage; never a crash.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_PARQUET_READER_H
#define TG_PARQUET_PARQUET_READER_H

#include "core/model/point.h"
#include "core/model/series.h"
#include "core/parquet/parquet_page.h"

struct tg_parquet_filter {
    const char *name; /* exact; NULL = any */
    uint32_t name_len;
    const struct tg_tag *tags; /* key and value, all must hold */
    uint32_t n_tags;
    int64_t start_ns, end_ns; /* start <= t < end */
    /* Asked every few thousand rows, matching or not, and between row groups; NULL = never. */
    bool (*should_stop)(void *arg);
    void *stop_arg;
};

/* Both are valid during the call; point->series is NULL. false = enough. */
typedef bool (*tg_parquet_on_row)(void *arg, const struct tg_series_desc *series,
                                  const struct tg_point *point);

struct tg_parquet_reader;
struct tg_parquet_reader *tg_parquet_reader_new(
    const struct tg_parquet_limits *limits);              /* NULL = defaults; NULL on no memory */
void tg_parquet_reader_free(struct tg_parquet_reader *r); /* NULL accepted */

/* The length of the footer with its tail, from the file's last TG_PARQUET_TAIL bytes.
 * TG_ERR_CORRUPT when it is no Parquet file. */
TG_MUST_CHECK enum tg_code tg_parquet_footer_len(const uint8_t tail[TG_PARQUET_TAIL],
                                                 uint64_t file_bytes, uint64_t *len,
                                                 struct tg_err *err);
/* Parses the last `len` bytes (as footer_len said) of a file. Borrows them until the next footer or
 * free. TG_ERR_CORRUPT, TG_ERR_UNSUPPORTED, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_parquet_reader_footer(struct tg_parquet_reader *r,
                                                    const uint8_t *bytes, uint64_t len,
                                                    uint64_t file_bytes, struct tg_err *err);
/* After footer. */
const struct tg_parquet_info *tg_parquet_reader_info(const struct tg_parquet_reader *r);
bool tg_parquet_reader_may_match(const struct tg_parquet_reader *r,
                                 const struct tg_parquet_filter *f);
/* Hands over the matching rows in file order: by series, then by time. `file` is the whole file of
 * which the footer was read. *n_rows (NULL accepted) counts those handed over. TG_ERR_CORRUPT,
 * TG_ERR_NOMEM, TG_ERR_CANCELED (should_stop). */
TG_MUST_CHECK enum tg_code tg_parquet_reader_scan(struct tg_parquet_reader *r, const uint8_t *file,
                                                  const struct tg_parquet_filter *f,
                                                  tg_parquet_on_row on_row, void *arg,
                                                  uint64_t *n_rows, struct tg_err *err);

#endif
