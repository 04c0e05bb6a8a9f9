/* identity_run.h: the hash of the fields by which a series is named, as they lie in a message.
 *
 *   | time | value | attribute | attribute | attribute | flags |
 *                   start ──────── one run ────────► end
 *
 * Every encoder we know writes repeated fields one after the other, so there is one run, hashed in
 * place. Further runs are folded in.
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_IDENTITY_RUN_H
#define TG_PROTOCOL_IDENTITY_RUN_H

#include "core/base/hash.h"

struct tg_identity_run { /* starts zeroed */
    const uint8_t *start, *end;
    struct tg_hash128 before; /* of earlier runs */
    bool is_split;
};

/* One more field, tag and length included. */
static inline void tg_identity_run_add(struct tg_identity_run *r, const uint8_t *start,
                                       const uint8_t *end)
{
    if (__builtin_expect(r->end != start, 0)) {
        if (r->end) {
            const struct tg_hash128 h = tg_hash128(r->start, (size_t)(r->end - r->start));
            r->before = r->is_split ? tg_hash128_combine(r->before, h) : h;
            r->is_split = true;
        }
        r->start = start;
    }
    r->end = end;
}

static inline struct tg_hash128 tg_identity_run_hash(const struct tg_identity_run *r)
{
    const struct tg_hash128 h = tg_hash128(r->start, (size_t)(r->end - r->start));
    return __builtin_expect(r->is_split, 0) ? tg_hash128_combine(r->before, h) : h;
}

#endif
