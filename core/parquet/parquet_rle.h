/* parquet_rle.h: Parquet's RLE / bit-packing hybrid, for levels and dictionary indices.
 *
 *   run := varint(n << 1) value in ceil(width / 8) bytes, little-endian
 *        | varint(n / 8 << 1 | 1) n values of `width` bits, least significant bit first
 *
 * The encoder is told of whole runs (`run`), so that a million equal values cost one call. Runs of
 * 8 and more are stored as runs, all else is packed in groups of 8.
 *
 * Source: apache/parquet-format, Encodings.md, "Run Length Encoding / Bit-Packing Hybrid".
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_PARQUET_RLE_H
#define TG_PARQUET_PARQUET_RLE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"

enum { TG_PARQUET_RLE_LITERALS = 504, TG_PARQUET_RLE_MAX_RUN = 0x7fffffff };

struct tg_parquet_rle {
    struct tg_buf *out; /* borrows */
    enum tg_code code;  /* first failure of the buffer */
    unsigned width;     /* bits, 1..32 */
    uint32_t value;     /* of the run that is open */
    uint64_t n_run;
    uint32_t n_literals; /* waiting to be packed */
    uint32_t literals[TG_PARQUET_RLE_LITERALS];
};

/* Bits that hold 0..max, at least 1 (a width of 0 is legal, but not every reader takes it). */
static inline unsigned tg_parquet_bit_width(uint32_t max)
{
    return max ? 32 - (unsigned)__builtin_clz(max) : 1;
}

void tg_parquet_rle_init(struct tg_parquet_rle *e, struct tg_buf *out, unsigned width);
void tg_parquet_rle_close_run(struct tg_parquet_rle *e);
/* `n` times `value` (which fits the width). */
static inline void tg_parquet_rle_run(struct tg_parquet_rle *e, uint32_t value, uint64_t n)
{
    if (value != e->value) {
        if (e->n_run) tg_parquet_rle_close_run(e);
        e->value = value;
    }
    e->n_run += n;
}
/* Writes out what waits. The number of values is not stored; the last group is padded with 0. */
TG_MUST_CHECK enum tg_code tg_parquet_rle_finish(struct tg_parquet_rle *e);

/* Packs n values (a multiple of 8) of `width` bits: n / 8 * width bytes at `to`, which has 8 bytes
 * of slack after them. */
void tg_parquet_pack(uint8_t *to, const uint32_t *values, size_t n, unsigned width);

struct tg_parquet_rle_reader {
    const uint8_t *p, *end;
    unsigned width;    /* 0..32 */
    uint64_t n_left;   /* of the current run */
    bool packed;       /* kind of the current run */
    uint32_t value;    /* of an RLE run */
    const uint8_t *at; /* start of the current packed run */
    uint64_t bit;      /* next bit in it */
};

void tg_parquet_rle_reader_init(struct tg_parquet_rle_reader *r, const uint8_t *p, size_t len,
                                unsigned width);
/* The next values: as many as belong to the current run, at most `max`. Returns how many (0 =
 * malformed or at the end). With *is_run all of them equal out[0], and only that is set. */
size_t tg_parquet_rle_reader_next(struct tg_parquet_rle_reader *r, uint32_t *out, size_t max,
                                  bool *is_run);
/* Exactly n values; false when there are not so many. */
bool tg_parquet_rle_reader_get(struct tg_parquet_rle_reader *r, uint32_t *out, size_t n);
/* The same for values that fit a byte (levels); a larger one is a failure. */
bool tg_parquet_rle_reader_get_u8(struct tg_parquet_rle_reader *r, uint8_t *out, size_t n);

#endif
