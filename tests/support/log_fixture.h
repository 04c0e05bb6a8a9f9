/* log_fixture.h: series, points and an expected copy of them, for tests of the log.
 *
 * Threading: one thread.
 */
#ifndef TG_TESTS_LOG_FIXTURE_H
#define TG_TESTS_LOG_FIXTURE_H

#include "core/log/log.h"

enum { LF_MAX_SERIES = 20000, LF_TARGETS = 3 };
extern const char *const lf_targets[LF_TARGETS]; /* for tg_log_config */

struct lf { /* lives through crashes: the table and what was sent */
    struct tg_table *table;
    struct tg_series **series;
    uint32_t n_series;
    uint64_t rng;
    bool routed;     /* points get targets: bits below LF_TARGETS */
    uint64_t *state; /* per series: what its generator drifts from */
};

void lf_init(struct lf *f, uint32_t n_series, uint64_t seed);
void lf_deinit(struct lf *f);
uint64_t lf_rnd(struct lf *f);

/* Fills `b` with n points. Plain: gauges and counters as a scrape gives them; mixed: every type,
 * odd bit patterns, times and orders. */
void lf_scrape(struct lf *f, struct tg_batch *b, uint32_t first_series, uint32_t n, int64_t ts_ns);
void lf_mixed(struct lf *f, struct tg_batch *b, uint32_t n, int64_t ts_ns);

/* Deep copy of all points of `from`. Aborts when out of memory. */
void lf_append(struct tg_batch *to, const struct tg_batch *from);
/* Same series, times, types, flags, targets and values, bit by bit. */
bool lf_equal(const struct tg_point *a, const struct tg_point *b);

#endif
