/* bits.h: bit streams, most significant bit first, over caller-owned bytes.
 *
 * The writer writes into a tg_buf that the caller reserved; 64 bits are gathered before they are
 * stored, so up to 8 bytes past the bytes in use may be touched: reserve TG_BITS_SLACK more than
 * the bits need. The reader never reads past `end`; past it, it yields zeros and sets `overrun`,
 * which the caller checks once.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_CODEC_BITS_H
#define TG_CODEC_BITS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/base/buf.h"

#define TG_BITS_SLACK 16

struct tg_bitw {
    struct tg_buf *buf;
    uint64_t acc;  /* the next bits, left-aligned */
    unsigned used; /* bits in acc, 0..63 */
};

static inline void tg_bitw_init(struct tg_bitw *w, struct tg_buf *buf)
{
    w->buf = buf;
    w->acc = 0;
    w->used = 0;
}

/* Writes the low `n` bits of v, 0 <= n <= 64; bits above n must be zero. The caller reserved. */
static inline void tg_bitw_put(struct tg_bitw *w, uint64_t v, unsigned n)
{
    if (n == 0) return;
    const unsigned room = 64 - w->used;
    if (n < room) {
        w->acc |= v << (room - n);
        w->used += n;
        return;
    }
    const unsigned rest = n - room;
    const uint64_t word = __builtin_bswap64(w->acc | (v >> rest));
    memcpy(w->buf->data + w->buf->len, &word, 8);
    w->buf->len += 8;
    w->acc = rest ? v << (64 - rest) : 0;
    w->used = rest;
}

/* Stores what is gathered, padded with zero bits to a whole byte. The writer may be initialised
 * again afterwards. */
static inline void tg_bitw_flush(struct tg_bitw *w)
{
    const uint64_t word = __builtin_bswap64(w->acc);
    memcpy(w->buf->data + w->buf->len, &word, 8);
    w->buf->len += (w->used + 7) / 8;
    w->acc = 0;
    w->used = 0;
}

struct tg_bitr {
    const uint8_t *p, *end;
    uint64_t acc;   /* next bits, left-aligned */
    unsigned avail; /* valid bits in acc, 0..64 */
    bool overrun;
};

static inline void tg_bitr_init(struct tg_bitr *r, const uint8_t *p, const uint8_t *end)
{
    r->p = p;
    r->end = end;
    r->acc = 0;
    r->avail = 0;
    r->overrun = false;
}

static inline void tg_bitr_fill(struct tg_bitr *r)
{
    if (r->end - r->p >= 8) {
        uint64_t word;
        memcpy(&word, r->p, 8);
        r->acc |= __builtin_bswap64(word) >> r->avail;
        const unsigned bytes = (63 - r->avail) >> 3;
        r->p += bytes;
        r->avail += bytes * 8;
        /* drop bits beyond avail so that later ORs are clean */
        if (r->avail < 64) r->acc &= ~UINT64_C(0) << (64 - r->avail);
        return;
    }
    while (r->avail <= 56 && r->p < r->end) {
        r->acc |= (uint64_t)*r->p++ << (56 - r->avail);
        r->avail += 8;
    }
}

/* Reads n bits, 0 <= n <= 56. */
static inline uint64_t tg_bitr_get_small(struct tg_bitr *r, unsigned n)
{
    if (n == 0) return 0;
    if (r->avail < n) {
        tg_bitr_fill(r);
        if (r->avail < n) {
            r->overrun = true;
            r->avail = 0;
            r->acc = 0;
            return 0;
        }
    }
    const uint64_t v = r->acc >> (64 - n);
    r->acc <<= n;
    r->avail -= n;
    return v;
}

/* Reads n bits, 0 <= n <= 64. */
static inline uint64_t tg_bitr_get(struct tg_bitr *r, unsigned n)
{
    if (n <= 56) return tg_bitr_get_small(r, n);
    const uint64_t hi = tg_bitr_get_small(r, n - 32);
    return hi << 32 | tg_bitr_get_small(r, 32);
}

#endif
