/* parquet_page.h: reads one column chunk of our own files, page by page, by row number.
 *
 *   open (page index) -> row(n): the page of row n is decoded when it is not the one at hand
 *
 *   entry:      0   1   2   3   4   5         of the page at hand
 *   def:        2   2   1   2   2   2
 *   row_start:  0       2   3           6     (repeated columns; otherwise an entry is a row)
 *   values:     7   9   -   4   4   1         bits of a number, or an index into `strings`
 *
 * Nothing is believed: every length, offset, level and index is checked, checksums are compared.
 * What does not fit is TG_ERR_CORRUPT.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_PARQUET_PAGE_H
#define TG_PARQUET_PARQUET_PAGE_H

#include "core/codec/compress.h"
#include "core/parquet/parquet_dict.h"
#include "core/parquet/parquet_meta.h"

struct tg_parquet_limits {   /* of the reader; zero = the default */
    uint64_t max_page_bytes; /* decompressed; 512 MiB */
    uint32_t max_entries;    /* in one page; 16 Mi */
    bool ignore_checksums;   /* for fuzzing: reach what lies behind them */
};

struct tg_parquet_column_reader {
    const uint8_t *file; /* borrows */
    const struct tg_parquet_column *column;
    const struct tg_parquet_chunk *chunk;
    struct tg_parquet_limits limits;
    uint64_t n_rows;
    bool all_null; /* known from the statistics: no page is read */
    struct tg_parquet_page *pages;
    uint32_t n_pages;
    bool has_bounds; /* pages[].stats hold the column index */
    bool has_dict;

    uint32_t page; /* at hand; UINT32_MAX = none */
    uint64_t first_row, end_row;
    uint32_t n_entries;
    uint8_t *def;
    uint32_t *row_start;
    uint64_t *values;
    uint32_t entries_cap;
    const struct tg_parquet_string *strings; /* the dictionary or the page's own */
    uint32_t n_strings;
    bool in_dict; /* `values` are indices of the dictionary: equal index, equal string */

    struct tg_parquet_string *dict, *plain;
    uint32_t n_dict, n_plain, plain_cap;
    struct tg_buf body, dict_body;
    struct tg_compress compress;
};

void tg_parquet_column_reader_init(struct tg_parquet_column_reader *r);
void tg_parquet_column_reader_deinit(struct tg_parquet_column_reader *r);

/* Starts on a chunk; the page list is in `arena`, all is borrowed. TG_ERR_CORRUPT, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_parquet_column_reader_open(struct tg_parquet_column_reader *r,
                                                         const uint8_t *file,
                                                         enum tg_parquet_column_id column,
                                                         const struct tg_parquet_row_group *group,
                                                         const struct tg_parquet_limits *limits,
                                                         struct tg_arena *arena);
/* The number of the page that holds the row; no page is read. */
uint32_t tg_parquet_column_page_of(const struct tg_parquet_column_reader *r, uint64_t row);
uint64_t tg_parquet_column_page_end(const struct tg_parquet_column_reader *r, uint32_t page);

/* The entries of a row: [*first, *first + *n) of def and values. With all_null: none.
 * TG_ERR_CORRUPT, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_parquet_column_load(struct tg_parquet_column_reader *r, uint64_t row);
TG_MUST_CHECK static inline enum tg_code tg_parquet_column_row(struct tg_parquet_column_reader *r,
                                                               uint64_t row, uint32_t *first,
                                                               uint32_t *n)
{
    *first = *n = 0;
    if (r->all_null) return TG_OK;
    if (row < r->first_row || row >= r->end_row) TG_TRY(tg_parquet_column_load(r, row));
    const uint32_t at = (uint32_t)(row - r->first_row);
    *first = r->column->max_rep ? r->row_start[at] : at;
    *n = r->column->max_rep ? r->row_start[at + 1] - *first : 1;
    return TG_OK;
}

#endif
