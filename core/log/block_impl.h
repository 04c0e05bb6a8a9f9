/* block_impl.h: what block_encode.c, block_decode.c and block_complex.c share. Not for others.
 *
 * Threading: as block.h.
 */
#ifndef TG_LOG_BLOCK_IMPL_H
#define TG_LOG_BLOCK_IMPL_H

#include <math.h>
#include <string.h>

#include "core/base/double_bits.h"
#include "core/codec/delta.h"
#include "core/codec/gorilla.h"
#include "core/log/block.h"

enum {
    TG_BLOCK_VERSION = 2, /* version 1 is read: each point that is not as expected has its start */

    /* column flags of the header */
    TG_COL_TIME_STEP = 1,  /* all times are one step apart: step and first as varints */
    TG_COL_TIME_DOD = 2,   /* else: deltas of deltas instead of deltas */
    TG_COL_START_SAME = 4, /* every start time is the expected one */
    TG_COL_COMPLEX = 8,    /* there is a complex values section */
    TG_COL_COMPLEX_ZSTD = 16,
    TG_COL_START_RESTARTS = 32, /* else: only chain restarts say something of their starts */

    /* how a column of differences is stored */
    TG_DIFF_ZERO = 0,
    TG_DIFF_SPARSE = 1,
    TG_DIFF_BITS = 2,

    TG_SCALE_MAX = 12,
    TG_SCALE_XOR = 0xff,

    /* a point's code: type, whether exemplars follow, flags, whether its targets are known */
    TG_CODE_TYPE_MASK = 15,
    TG_CODE_EXEMPLARS = 16,
    TG_CODE_FLAGS_SHIFT = 5,
    TG_CODE_FLAGS_MASK = 255,
    TG_CODE_ROUTED = 1 << 13,
    TG_CODE_MAX = TG_CODE_ROUTED | TG_CODE_FLAGS_MASK << TG_CODE_FLAGS_SHIFT | 31
};

/* Scratch columns of one block. */
struct tg_block_scratch {
    uint32_t diff[TG_BLOCK_MAX_POINTS];
    uint32_t refs[TG_BLOCK_MAX_POINTS];
    uint32_t dists[TG_BLOCK_MAX_POINTS];
    uint16_t codes[TG_BLOCK_MAX_POINTS];
    uint32_t targets[TG_BLOCK_MAX_POINTS];
    int64_t times[TG_BLOCK_MAX_POINTS];
    uint8_t same[TG_BLOCK_MAX_POINTS];
    uint16_t palette[TG_BLOCK_MAX_POINTS];
    uint32_t palette_targets[TG_BLOCK_MAX_POINTS];
};

/* The start times written out last: counters have one, gauges another, and they stand in turns. */
struct tg_block_starts {
    int64_t last, before;
};

extern const double tg_block_pow10[TG_SCALE_MAX + 1];

/* The double that the scaled integer stands for. IEEE division rounds the same everywhere. */
static inline double tg_unscale(uint64_t m, unsigned scale)
{
    const double d = (double)(int64_t)m;
    return scale ? d / tg_block_pow10[scale] : d;
}
/* The bits that XOR compares with. */
static inline uint64_t tg_chain_bits(const struct tg_chain *c)
{
    return c->scale == TG_SCALE_XOR ? c->prev : tg_double_bits(tg_unscale(c->prev, c->scale));
}

static inline void tg_chain_restart(struct tg_chain *c, uint64_t value, bool dod)
{
    c->prev = value;
    c->delta = 0;
    c->predict = dod ? 2 : -1;
}
/* Takes the next integer and gives what is written for it (before zigzag). */
static inline int64_t tg_chain_residual(struct tg_chain *c, uint64_t value)
{
    const uint64_t delta = value - c->prev;
    const uint64_t dod = delta - c->delta;
    const int64_t residual = (int64_t)(c->predict > 0 ? dod : delta);
    const uint64_t a = tg_zigzag((int64_t)delta), b = tg_zigzag((int64_t)dod);
    if (b < a) {
        if (c->predict < 3) c->predict++;
    } else if (b > a) {
        if (c->predict > -4) c->predict--;
    }
    c->prev = value;
    c->delta = delta;
    return residual;
}
/* The inverse. */
static inline uint64_t tg_chain_next(struct tg_chain *c, int64_t residual)
{
    uint64_t value = c->prev + (uint64_t)residual;
    if (c->predict > 0) value += c->delta;
    (void)tg_chain_residual(c, value);
    return value;
}

static inline bool tg_value_is_complex(unsigned type)
{
    return type >= TG_VALUE_HISTOGRAM;
}

/* --- complex values (block_complex.c) --- */

/* Shared by the histograms of one block: equal bounds are written once. */
struct tg_block_complex_state {
    const double *bounds;  /* encoder: of the previous histogram */
    const uint8_t *raw;    /* decoder: the same, in the payload */
    const double *decoded; /* decoder: and in the batch's arena, once someone needed them */
    uint32_t n_bounds;
    bool have;
};

/* Appends value (when complex) and exemplars (when present). Adds to *arena_bytes what a reader's
 * arena needs. */
TG_MUST_CHECK enum tg_code tg_block_complex_encode(struct tg_block_complex_state *s,
                                                   const struct tg_point *p, struct tg_buf *out,
                                                   uint64_t *arena_bytes, struct tg_err *err);
/* Reads the same at *pos. With arena == NULL it is only passed over. TG_ERR_CORRUPT, TG_ERR_NOMEM.
 */
TG_MUST_CHECK enum tg_code tg_block_complex_decode(struct tg_block_complex_state *s,
                                                   struct tg_point *p, bool exemplars,
                                                   const uint8_t **pos, const uint8_t *end,
                                                   struct tg_arena *arena);

#endif
