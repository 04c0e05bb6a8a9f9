/* gorilla.h: XOR compression of 64-bit patterns (doubles) against the previous one of the same
 * chain.
 *
 * After "Gorilla: A Fast, Scalable, In-Memory Time Series Database" (VLDB 2015), section 4.1.3.
 * Bit-exact for every pattern, NaN payloads included. Per value:
 *
 *   '0'                        same bits as before
 *   '10' + meaningful bits     the XOR fits the previous window of meaningful bits
 *   '11' + 6 bits leading zeros + 6 bits (length - 1) + meaningful bits
 *
 * (The paper has 5 bits for the leading zeros; 6 cost one bit and spare the clamp.)
 *
 * Threading: one thread at a time per state.
 */
#ifndef TG_CODEC_GORILLA_H
#define TG_CODEC_GORILLA_H

#include "core/codec/bits.h"

#define TG_GORILLA_MAX_BITS (2 + 6 + 6 + 64)

struct tg_gorilla { /* zero + prev = the first value, known to both sides, to start a chain */
    uint64_t prev;
    uint8_t lead; /* leading zeros of the window */
    uint8_t len;  /* meaningful bits of the window; 0 = no window yet */
};

static inline void tg_gorilla_start(struct tg_gorilla *g, uint64_t first)
{
    g->prev = first;
    g->lead = 0;
    g->len = 0;
}

/* Writes at most TG_GORILLA_MAX_BITS bits. */
static inline void tg_gorilla_put(struct tg_bitw *w, struct tg_gorilla *g, uint64_t bits)
{
    const uint64_t x = bits ^ g->prev;
    g->prev = bits;
    if (x == 0) {
        tg_bitw_put(w, 0, 1);
        return;
    }
    const unsigned lead = (unsigned)__builtin_clzll(x);
    const unsigned trail = (unsigned)__builtin_ctzll(x);
    const unsigned len = 64 - lead - trail;
    const unsigned window_trail = 64U - g->lead - g->len;
    /* Reuse the window while it wastes less than a new header costs. */
    if (g->len && lead >= g->lead && trail >= window_trail && g->len < len + 13U) {
        tg_bitw_put(w, 2, 2);
        tg_bitw_put(w, x >> window_trail, g->len);
        return;
    }
    tg_bitw_put(w, UINT64_C(3) << 12 | (uint64_t)lead << 6 | (len - 1), 14);
    tg_bitw_put(w, x >> trail, len);
    g->lead = (uint8_t)lead;
    g->len = (uint8_t)len;
}

/* false when the stream is not a valid one (also check r->overrun at the end). */
static inline bool tg_gorilla_get(struct tg_bitr *r, struct tg_gorilla *g, uint64_t *bits)
{
    if (tg_bitr_get_small(r, 1) == 0) {
        *bits = g->prev;
        return true;
    }
    if (tg_bitr_get_small(r, 1) == 0) {
        if (g->len == 0) return false;
        g->prev ^= tg_bitr_get(r, g->len) << (64U - g->lead - g->len);
        *bits = g->prev;
        return true;
    }
    const unsigned lead = (unsigned)tg_bitr_get_small(r, 6);
    const unsigned len = (unsigned)tg_bitr_get_small(r, 6) + 1;
    if (lead + len > 64) return false;
    g->prev ^= tg_bitr_get(r, len) << ((64 - lead - len) & 63);
    g->lead = (uint8_t)lead;
    g->len = (uint8_t)len;
    *bits = g->prev;
    return true;
}

#endif
