/* parquet_writer.h: points to one Parquet file, through a sink of bytes. Pure: no I/O of its own.
 *
 *   new -> ( add* -> finish -> reset )* -> free
 *
 * The bytes are handed to the sink in file order, a piece per column chunk or so; memory is bounded
 * by the points added (about 50 bytes each), the distinct series and one column chunk.
 *
 * Columns: parquet_schema.h. Strings of the series have dictionaries; a dictionary over
 * `dict_bytes` that is not at least four times smaller than the plain column is not used. Pages end
 * at row boundaries, at `page_rows` or `page_bytes`, whichever is first (a single row may be
 * larger).
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_PARQUET_WRITER_H
#define TG_PARQUET_PARQUET_WRITER_H

#include "core/model/point.h"
#include "core/parquet/parquet_meta.h"

struct tg_parquet_options {      /* zero = the default */
    enum tg_parquet_codec codec; /* TG_PARQUET_UNCOMPRESSED is zero: set it */
    int zstd_level;              /* 1 */
    uint32_t page_rows;          /* 16384 */
    uint32_t page_bytes;         /* 1 MiB, before compression */
    uint32_t row_group_rows;     /* 1 Mi */
    uint64_t dict_bytes;         /* 1 MiB */
    bool no_dicts;               /* strings always plain */
    /* When set, series bytes are given in another form, and this appends the canonical ones. */
    enum tg_code (*expand)(void *arg, const uint8_t *bytes, uint32_t len, struct tg_buf *out);
    void *expand_arg;
};

struct tg_parquet_writer;

/* Takes the bytes that follow; another code than TG_OK ends the file and is what finish returns. */
typedef enum tg_code (*tg_parquet_sink)(void *arg, const void *bytes, size_t len,
                                        struct tg_err *err);

/* NULL when out of memory. Copies the options. */
struct tg_parquet_writer *tg_parquet_writer_new(const struct tg_parquet_options *options);
void tg_parquet_writer_free(struct tg_parquet_writer *w);  /* NULL accepted */
void tg_parquet_writer_reset(struct tg_parquet_writer *w); /* forgets the points, keeps capacity */

/* Adds a point of the series with these canonical bytes (tg_series_desc_encode). Borrows both until
 * reset; bytes at one address are taken for one series. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_parquet_writer_add(struct tg_parquet_writer *w, const uint8_t *series,
                                                 uint32_t len, const struct tg_point *p);
/* Writes the file. Of *info, the positions, the part and keep_ms are used; the rest is filled in.
 * TG_ERR_INVALID without points, TG_ERR_CORRUPT for bad series bytes, TG_ERR_NOMEM, or the sink's.
 * Then only reset or free. */
TG_MUST_CHECK enum tg_code tg_parquet_writer_finish(struct tg_parquet_writer *w,
                                                    struct tg_parquet_info *info,
                                                    tg_parquet_sink sink, void *arg,
                                                    struct tg_err *err);

#endif
