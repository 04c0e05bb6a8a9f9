#include "core/rules/breaker.h"

bool tg_breaker_may_run(struct tg_breaker *b, uint64_t now_ns)
{
    uint64_t at_ns = atomic_load(&b->retry_at_ns);
    if (at_ns == 0) return true;
    /* One thread gets to try; the next turn begins now, so that a try without end is the only one.
     */
    return at_ns <= now_ns &&
           atomic_compare_exchange_strong(&b->retry_at_ns, &at_ns, now_ns + TG_BREAKER_RETRY_NS);
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

enum tg_breaker_change tg_breaker_note(struct tg_breaker *b, bool has_overrun, uint64_t now_ns)
{
    if (has_overrun) return note_overrun(b, now_ns);
    if (atomic_load(&b->retry_at_ns) != 0) {
        atomic_store(&b->score, 0);
        return atomic_exchange(&b->retry_at_ns, 0) != 0 ? TG_BREAKER_CLOSES : TG_BREAKER_STAYS;
    }
    uint32_t score = atomic_load_explicit(&b->score, memory_order_relaxed);
    while (score > 0 && !atomic_compare_exchange_weak(&b->score, &score, score - 1)) continue;
    return TG_BREAKER_STAYS;
}
