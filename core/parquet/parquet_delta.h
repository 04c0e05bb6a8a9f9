/* parquet_delta.h: Parquet's DELTA_BINARY_PACKED for int64.
 *
 *   header := varint block size (128), varint miniblocks (4), varint n, zigzag first value
 *   block  := zigzag min delta, 4 widths (u8), 4 x 32 (delta - min) packed LSB first
 *
 * Arithmetic wraps modulo 2^64, so every int64 sequence survives. Source: apache/parquet-format,
 * Encodings.md, "Delta Encoding".
 *
 * Threading: no shared state.
 */
#ifndef TG_PARQUET_PARQUET_DELTA_H
#define TG_PARQUET_PARQUET_DELTA_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"

/* Appends the encoding of n values. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_parquet_delta_encode(const int64_t *values, size_t n,
                                                   struct tg_buf *out);

/* Decodes exactly n values from bytes of our own block shape; false when they are anything else
 * (also when bytes are left over). */
bool tg_parquet_delta_decode(const uint8_t *p, size_t len, int64_t *out, size_t n);

#endif
