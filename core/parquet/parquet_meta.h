/* parquet_meta.h: the metadata of a Parquet file: page headers, column chunks, page index, footer.
 *
 *   "PAR1" | row group: column chunk, column chunk ... | row group ... | column indexes
 *          | offset indexes | FileMetaData | u32 its length | "PAR1"
 *   column chunk := [dictionary page] data page ...     page := PageHeader body
 *
 * Source: apache/parquet-format, README.md, PageIndex.md and parquet.thrift.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_PARQUET_META_H
#define TG_PARQUET_PARQUET_META_H

#include "core/base/arena.h"
#include "core/parquet/parquet_stats.h"

#define TG_PARQUET_MAGIC "PAR1"
enum {
    TG_PARQUET_TAIL = 8,                      /* footer length and magic */
    TG_PARQUET_MAX_ROW_GROUPS = 1 << 16,      /* in one file, when reading */
    TG_PARQUET_MAX_PAGES = 1 << 20,           /* in one chunk, when reading */
    TG_PARQUET_MAX_ROWS = 1 << 24,            /* in one row group; also entries of one page */
    TG_PARQUET_MAX_FOOTER = 64 * 1024 * 1024, /* bytes */
};

struct tg_parquet_page { /* what the page index says of a data page */
    uint64_t offset;
    uint32_t bytes; /* header and compressed body */
    uint64_t first_row;
    uint64_t n_values; /* entries; writer only */
    struct tg_parquet_stats stats;
};

struct tg_parquet_chunk {
    enum tg_parquet_codec codec;
    uint32_t encodings; /* bit per enum tg_parquet_encoding */
    uint64_t n_values;  /* entries, nulls included */
    uint64_t uncompressed_bytes, compressed_bytes;
    uint64_t data_offset, dict_offset; /* dict_offset 0 = no dictionary */
    struct tg_parquet_stats stats;
    uint32_t first_page, n_pages;                      /* writer: in its list of pages */
    uint64_t column_index_offset, offset_index_offset; /* 0 = none */
    uint32_t column_index_bytes, offset_index_bytes;
};

struct tg_parquet_row_group {
    uint64_t n_rows;
    struct tg_parquet_chunk chunks[TG_PARQUET_COLUMNS];
};

/* What the key-value metadata says of the file as a whole. */
struct tg_parquet_info {
    uint64_t from_pos, to_pos; /* log positions of the delivery */
    uint32_t part;
    int64_t keep_ms; /* longest retention of the series inside; 0 = for ever */
    int64_t time_min_ns, time_max_ns;
    uint64_t n_rows;
    uint64_t n_texts_changed; /* written only: values with bytes that are not UTF-8 */
};

struct tg_parquet_file_meta {
    struct tg_parquet_info info;
    uint32_t n_row_groups;
    struct tg_parquet_row_group *row_groups;
};

/* Page header of a data page (v1), or of a dictionary page. */
struct tg_parquet_page_header {
    enum tg_parquet_page_type type;
    uint32_t uncompressed_bytes, compressed_bytes;
    bool has_crc;
    uint32_t crc;
    uint32_t n_values;
    enum tg_parquet_encoding encoding;
};
void tg_parquet_page_header_write(struct tg_thriftw *w, const struct tg_parquet_page_header *h);
/* TG_ERR_CORRUPT; TG_ERR_UNSUPPORTED for other page types. */
TG_MUST_CHECK enum tg_code tg_parquet_page_header_read(struct tg_thriftr *r,
                                                       struct tg_parquet_page_header *h);

/* Column index of n pages; false (and nothing written) when a page's bounds cannot be stored. */
bool tg_parquet_column_index_write(struct tg_thriftw *w, const struct tg_parquet_column *c,
                                   const struct tg_parquet_page *pages, uint32_t n);
void tg_parquet_offset_index_write(struct tg_thriftw *w, const struct tg_parquet_page *pages,
                                   uint32_t n);
/* Fill the pages' offsets and rows, or their bounds. *pages is in `arena`. TG_ERR_CORRUPT,
 * TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_parquet_offset_index_read(const uint8_t *p, size_t len,
                                                        struct tg_arena *arena,
                                                        struct tg_parquet_page **pages,
                                                        uint32_t *n);
TG_MUST_CHECK enum tg_code tg_parquet_column_index_read(const uint8_t *p, size_t len,
                                                        const struct tg_parquet_column *c,
                                                        struct tg_parquet_page *pages, uint32_t n);

/* FileMetaData, without what follows it. */
void tg_parquet_file_meta_write(struct tg_thriftw *w, const struct tg_parquet_file_meta *m);
/* Reads it; arrays are in `arena`, statistics' strings borrow from the bytes. Every offset is
 * checked to lie within the first `data_bytes` of the file. TG_ERR_CORRUPT; TG_ERR_UNSUPPORTED for
 * a good Parquet file of another schema; TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_parquet_file_meta_read(const uint8_t *p, size_t len,
                                                     uint64_t data_bytes, struct tg_arena *arena,
                                                     struct tg_parquet_file_meta *m,
                                                     struct tg_err *err);

#endif
