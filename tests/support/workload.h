/* workload.h: the points that benchmarks and load tests share: a fleet that is scraped steadily.
 *
 * One resource (3 attributes), one scope, metrics in alternation a gauge (double, random walk) and
 * a counter (int64, steadily rising); per metric 100 series with 6 attributes each. About 200 bytes
 * a point in OTLP. The same points can be had as remote write and as Influx lines.
 *
 * Series i belongs to metric i / 100: a request over [first, first + n) is n / 100 metrics.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_TEST_WORKLOAD_H
#define TG_TEST_WORKLOAD_H

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/model/point.h"
#include "core/model/series.h"

struct tg_workload {
    uint32_t n_series;
    struct tg_series_desc *descs; /* canonical */
    struct tg_point *points;      /* the current scrape, one per series; series pointers NULL */
    struct tg_buf prepared[2];    /* remote write and Influx forms, one after the other */
    uint32_t *prepared_at[2];     /* n_series + 1 offsets each */
    struct tg_arena arena;
    uint64_t rng;
};

/* Aborts when out of memory: a test program can do nothing else. */
void tg_workload_init(struct tg_workload *w, uint32_t n_series, int64_t ts_ns);
void tg_workload_deinit(struct tg_workload *w);
/* The next scrape: time goes on by step_ns, values change a little. */
void tg_workload_step(struct tg_workload *w, int64_t step_ns);

/* Append one request body with the points of series first..first + n. */
void tg_workload_otlp(const struct tg_workload *w, uint32_t first, uint32_t n, struct tg_buf *out);
void tg_workload_remote_write(const struct tg_workload *w, uint32_t first, uint32_t n,
                              struct tg_buf *out);
void tg_workload_influx(const struct tg_workload *w, uint32_t first, uint32_t n,
                        struct tg_buf *out);

#endif
