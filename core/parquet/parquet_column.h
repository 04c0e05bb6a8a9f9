/* parquet_column.h: sorted rows to the pages of one column chunk.
 *
 *   body of a data page (v1) := [u32 len, repetition levels] [u32 len, definition levels] values
 *
 * Levels are RLE hybrids. What a series decides (strings, tags) is encoded once per series and page
 * and repeated by copying; a column without any value is one page of one run.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_PARQUET_COLUMN_H
#define TG_PARQUET_PARQUET_COLUMN_H

#include "core/codec/compress.h"
#include "core/parquet/parquet_meta.h"
#include "core/parquet/parquet_rle.h"
#include "core/parquet/parquet_rows.h"
#include "core/parquet/parquet_writer.h"

struct tg_parquet_column_writer {
    const struct tg_parquet_options *options; /* borrows; no zeros */
    const struct tg_parquet_rows *rows;       /* borrows */
    bool use_dict[TG_PARQUET_DICTS];
    struct tg_buf *out; /* the file's bytes; out->data[0] is at file offset `base` */
    uint64_t base;
    struct tg_parquet_page *pages; /* of all chunks so far */
    uint32_t n_pages, pages_cap;

    struct tg_buf body, rep, def, values, packed; /* of the page that is open */
    uint64_t *numbers;                            /* page_rows of them */
    struct tg_compress compress;
    struct tg_err *err;
};

/* Storage is the caller's; `options` without zeros. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_parquet_column_writer_init(struct tg_parquet_column_writer *w,
                                                         const struct tg_parquet_options *options);
void tg_parquet_column_writer_deinit(struct tg_parquet_column_writer *w);

/* Appends the chunk of rows [first, first + n) to w->out and fills *chunk. */
TG_MUST_CHECK enum tg_code tg_parquet_column_write(struct tg_parquet_column_writer *w,
                                                   enum tg_parquet_column_id column, uint32_t first,
                                                   uint32_t n, struct tg_parquet_chunk *chunk);

#endif
