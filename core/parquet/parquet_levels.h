/* parquet_levels.h: repetition and definition levels as they stand in the body of a data page (v1):
 * [u32 len, little-endian][RLE hybrid].
 *
 * Source: Parquet's "Encodings.md", "Run Length Encoding / Bit-Packing Hybrid".
 *
 * Threading: no shared state.
 */
#ifndef TG_PARQUET_PARQUET_LEVELS_H
#define TG_PARQUET_PARQUET_LEVELS_H

#include "core/base/buf.h"
#include "core/parquet/parquet_rle.h"

/* Levels go straight into the body: begin leaves room for their length, end fills it in. `*at` is
 * where that is. TG_ERR_NOMEM, TG_ERR_TOO_LARGE from the buffer, as all below. */
TG_MUST_CHECK enum tg_code tg_parquet_levels_begin(struct tg_buf *body, struct tg_parquet_rle *e,
                                                   unsigned max, size_t *at);
TG_MUST_CHECK enum tg_code tg_parquet_levels_end(struct tg_buf *body, struct tg_parquet_rle *e,
                                                 size_t at);
/* n levels of one value, of 0 to `max`. */
TG_MUST_CHECK enum tg_code tg_parquet_levels_run(struct tg_buf *body, unsigned max, uint32_t value,
                                                 uint64_t n);
/* Levels that were encoded apart from the body, behind their length. */
TG_MUST_CHECK enum tg_code tg_parquet_levels_append(struct tg_buf *body,
                                                    const struct tg_buf *levels);

#endif
