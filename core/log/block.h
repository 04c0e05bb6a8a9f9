/* block.h: point blocks: the payload of one block record, columns of up to TG_BLOCK_MAX_POINTS
 * points.
 *
 *   [ header | references | predecessor distances | types | complex values
 *     | bits: times, starts, values ]
 *
 * Header (varints unless said): u8 version, block (index in the segment), first point number, n
 * points, newest time (zigzag), arena bytes a reader needs, u8 column flags, base start time
 * (zigzag).
 *
 * A point's type stands with its targets (point.h) in a palette of the block; the bits of targets
 * are named by the segment's targets record (segment.h).
 *
 * Columns of small integers hold the difference from what was expected (reference: the previous one
 * + 1; distance: the same as before), as nothing when all are zero, as (gap, value) pairs when few
 * are not, as bits otherwise: a steady scrape costs a few bytes per block.
 *
 * Values are chained to the same series' previous value. The predecessor distance says in which
 * block that is: 0 = none (chain restart), 1 = this one, d + 1 = d blocks back. A decoder whose
 * state is not of that block gives the point up. Every code is self-delimiting without the state
 * (the state only predicts), so such a point never takes its neighbours with it.
 *
 *   double   decimal: m = value * 10^scale when that converts back bit-exactly, else XOR
 *            restart: 0 predict(1) scale(4) m | 1 bits(64)
 *            chained: 0 residual of m | 10 scale(4) m | 11 gorilla XOR (window of the block)
 *   integers residual; restart: predict(1) value
 *   bool     1 bit            none     nothing
 *   others   varints in the complex values section (zstd when that pays); exemplars alone have no
 *            value there
 *
 * Start times are as expected (a chain's: the one before; a restart's: the last one written out in
 * the block, at first the base) or written out: same(1), then the-one-before-that(1) or a delta. A
 * flag says that only restarts have these bits. Blocks of version 1 have neither the flag nor the
 * second bit.
 *
 * Types are added at the end: a reader that does not know one takes the block for damaged.
 *
 * The residual is a delta or a delta of deltas, whichever was smaller of late for this series: both
 * sides keep the same count. It is written with tg_varbits_put (core/codec/delta.h).
 *
 * Threading: one thread at a time per encoder and decoder.
 */
#ifndef TG_LOG_BLOCK_H
#define TG_LOG_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/codec/compress.h"
#include "core/model/point.h"

enum {
    TG_BLOCK_MAX_POINTS = 4096,
    TG_BLOCK_COMPLEX_BYTES = 1 << 20, /* complex values end a block here ... */
    TG_BLOCK_POINT_BYTES = 8 << 20,   /* ... and one point may not pass this */
    TG_BLOCK_MAX_REFS = 1 << 22,      /* series per segment */
    TG_BLOCK_CHAIN_MAX = 32           /* points until a chain restarts */
};
#define TG_CHAIN_NO_BLOCK UINT32_MAX

/* What both sides remember of a series within one segment: 32 bytes. */
struct tg_chain {
    uint64_t prev;  /* bits of a double (XOR), scaled integer (decimal), or the integer */
    uint64_t delta; /* prev - the one before; 0 after a restart */
    int64_t start_ns;
    uint32_t last_block; /* index, or TG_CHAIN_NO_BLOCK */
    uint8_t type;        /* enum tg_value_type */
    uint8_t scale;       /* decimal exponent, or TG_SCALE_XOR */
    int8_t predict;      /* > 0: delta of deltas */
    uint8_t length;      /* encoder: points since the restart */
};

struct tg_block_info {
    uint64_t first_point_no;
    uint64_t arena_bytes;
    int64_t max_ts_ns;
    uint32_t block;
    uint32_t n_points;
};
/* Reads the header alone. TG_ERR_CORRUPT. */
TG_MUST_CHECK enum tg_code tg_block_peek(const uint8_t *payload, size_t len,
                                         struct tg_block_info *info);

/* --- encoding --- */

struct tg_block_scratch;
struct tg_block_encoder {
    struct tg_chain *chains; /* by reference */
    uint32_t n_chains, cap_chains;
    uint32_t next_block;
    uint32_t floor; /* chains whose last block is before it restart */
    struct tg_block_scratch *scratch;
    struct tg_buf complex;
    struct tg_buf packed;
    struct tg_compress compress;
};

TG_MUST_CHECK enum tg_code tg_block_encoder_init(struct tg_block_encoder *e);
void tg_block_encoder_deinit(struct tg_block_encoder *e);
/* Forgets all chains and references: a new segment begins. Gives their memory back. */
void tg_block_encoder_reset(struct tg_block_encoder *e);
/* The next reference. TG_ERR_NOMEM; TG_ERR_FULL at TG_BLOCK_MAX_REFS. */
TG_MUST_CHECK enum tg_code tg_block_encoder_add(struct tg_block_encoder *e, uint32_t *ref);
/* Blocks encoded since the last good one will never be read: every chain restarts, references from
 * n_chains on are free again. */
void tg_block_encoder_undo(struct tg_block_encoder *e, uint32_t n_chains);

/* Appends one block with the first *n_used (>= 1, <= n) points; refs[i] belongs to points[i].
 * TG_ERR_NOMEM, TG_ERR_TOO_LARGE (one point over TG_BLOCK_POINT_BYTES): out is as it was, and
 * tg_block_encoder_undo is needed. */
TG_MUST_CHECK enum tg_code tg_block_encode(struct tg_block_encoder *e,
                                           const struct tg_point *points, const uint32_t *refs,
                                           uint32_t n, uint64_t first_point_no, struct tg_buf *out,
                                           uint32_t *n_used, struct tg_err *err);

/* --- decoding --- */

struct tg_block_entry {       /* 40 bytes per series and reader */
    struct tg_series *series; /* NULL: not known (its record was lost) or refused */
    struct tg_chain chain;
};

struct tg_block_decoder {
    struct tg_block_scratch *scratch;
    struct tg_buf complex;
    struct tg_compress compress;
    uint32_t floor;    /* chains whose last block is before it are broken */
    uint32_t next_min; /* the next block has at least this index */
    bool all_broken;   /* a block was not decodable: no chain survives it */
};

TG_MUST_CHECK enum tg_code tg_block_decoder_init(struct tg_block_decoder *d);
void tg_block_decoder_deinit(struct tg_block_decoder *d);
void tg_block_decoder_reset(struct tg_block_decoder *d); /* a new segment begins */

/* Decodes one block against entries[n_entries] and appends its points to `batch` (NULL: only the
 * chains are followed). *n_lost counts the points given up. TG_ERR_CORRUPT: nothing was appended
 * and no chain survives; go on with the next block. TG_ERR_NOMEM / TG_ERR_TOO_LARGE (batch limits):
 * the chains are in an undefined state, rebuild them from the segment's start. */
TG_MUST_CHECK enum tg_code tg_block_decode(struct tg_block_decoder *d,
                                           struct tg_block_entry *entries, uint32_t n_entries,
                                           const uint8_t *payload, size_t len,
                                           struct tg_batch *batch, struct tg_block_info *info,
                                           uint32_t *n_lost, struct tg_err *err);

#endif
