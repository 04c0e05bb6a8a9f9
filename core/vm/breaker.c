#include "core/vm/breaker.h"

enum tg_breaker_turn tg_breaker_ask(struct tg_breaker *b, uint64_t now_ns)
{
    uint64_t at_ns = atomic_load(&b->retry_at_ns);
    if (at_ns == 0) return TG_BREAKER_RUNS;
    if (at_ns > now_ns) return TG_BREAKER_REFUSES;
    /* One thread gets to try; the next turn begins now, so that a try without end is the only one.
     */
    return atomic_compare_exchange_strong(&b->retry_at_ns, &at_ns, now_ns + TG_BREAKER_RETRY_NS)
               ? TG_BREAKER_TRIES
               : TG_BREAKER_REFUSES;
}

static enum tg_breaker_change note_overrun(struct tg_breaker *b, uint64_t now_ns)
{
    const uint32_t score = atomic_fetch_add(&b->score, TG_BREAKER_OVERRUN) + TG_BREAKER_OVERRUN;
    uint64_t closed = 0;
    if (score < TG_BREAKER_LIMIT) return TG_BREAKER_STAYS;
    return atomic_compare_exchange_strong(&b->retry_at_ns, &closed, now_ns + TG_BREAKER_RETRY_NS)
               ? TG_BREAKER_OPENS
               : TG_BREAKER_STAYS;
}

enum tg_breaker_change tg_breaker_note(struct tg_breaker *b, enum tg_breaker_turn turn,
                                       bool has_overrun, uint64_t now_ns)
{
    if (has_overrun) return note_overrun(b, now_ns);
    if (turn == TG_BREAKER_TRIES) {
        atomic_store(&b->score, 0);
        return atomic_exchange(&b->retry_at_ns, 0) != 0 ? TG_BREAKER_CLOSES : TG_BREAKER_STAYS;
    }
    if (tg_breaker_is_open(b)) return TG_BREAKER_STAYS;
    uint32_t score = atomic_load_explicit(&b->score, memory_order_relaxed);
    while (score > 0 && !atomic_compare_exchange_weak(&b->score, &score, score - 1)) continue;
    return TG_BREAKER_STAYS;
}
