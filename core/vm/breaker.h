/* breaker.h: stops running the scripts of a generation that overrun their budgets again and again.
 *
 *   closed --- five overruns in a row, or more than one in five decisions ---> open
 *   open   --- every TG_BREAKER_RETRY_NS one decision is tried --> it ends in time --> closed
 *
 * Each overrun adds TG_BREAKER_OVERRUN, each decision that ends in time takes one away; at
 * TG_BREAKER_LIMIT it opens. A script that loops for a few series only stays in force: the others
 * are decided as they should be. While the breaker is open no time goes into the scripts but for
 * the decision that is tried, so they may take all of their budget then.
 *
 * Threading: any thread. A decision that goes well while nothing is wrong only reads.
 */
#ifndef TG_VM_BREAKER_H
#define TG_VM_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { TG_BREAKER_OVERRUN = 4, TG_BREAKER_LIMIT = 20 };
#define TG_BREAKER_RETRY_NS (UINT64_C(10) * 1000000000)

struct tg_breaker {
    _Atomic uint32_t score;
    _Atomic uint64_t retry_at_ns; /* monotonic; 0 = closed */
};

static inline void tg_breaker_init(struct tg_breaker *b)
{
    atomic_init(&b->score, 0);
    atomic_init(&b->retry_at_ns, 0);
}

static inline bool tg_breaker_is_open(const struct tg_breaker *b)
{
    return atomic_load_explicit(&b->retry_at_ns, memory_order_relaxed) != 0;
}

/* Open, and no decision is due to be tried: tg_breaker_ask would say so. */
static inline bool tg_breaker_refuses(const struct tg_breaker *b, uint64_t now_ns)
{
    return atomic_load_explicit(&b->retry_at_ns, memory_order_relaxed) > now_ns;
}

enum tg_breaker_turn {
    TG_BREAKER_REFUSES, /* open: the scripts are not run */
    TG_BREAKER_RUNS,    /* closed */
    TG_BREAKER_TRIES,   /* open: this decision is the one that is tried; at most once a while */
};
/* Whether a decision may run the scripts. */
enum tg_breaker_turn tg_breaker_ask(struct tg_breaker *b, uint64_t now_ns);

enum tg_breaker_change { TG_BREAKER_STAYS, TG_BREAKER_OPENS, TG_BREAKER_CLOSES };
/* What came of a decision that ran by `turn`. Only one that was tried closes the breaker: one that
 * began before it opened says nothing of it. Each change is told to one caller. */
enum tg_breaker_change tg_breaker_note(struct tg_breaker *b, enum tg_breaker_turn turn,
                                       bool has_overrun, uint64_t now_ns);

#endif
