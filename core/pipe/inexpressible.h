/* inexpressible.h: points that a backend has no form for, by what they are.
 *
 * They are neither delivered nor refused: InfluxDB has no NaN, Prometheus no text and no delta
 * temporality, and nothing that a sender or an operator of the gateway did is wrong. So they are
 * counted, said now and then, and not kept; a dead letter each would fill the file, and a full file
 * stalls the backend for points that no replay could ever deliver.
 *
 * Threading: no shared state; a struct belongs to one thread.
 */
#ifndef TG_PIPE_INEXPRESSIBLE_H
#define TG_PIPE_INEXPRESSIBLE_H

#include <stddef.h>

#include "core/model/point.h"

enum tg_inexpressible_kind {
    TG_INEXPRESSIBLE_STALE,      /* no value: a stale marker, OTLP "no recorded value" */
    TG_INEXPRESSIBLE_NOT_FINITE, /* NaN, infinity */
    TG_INEXPRESSIBLE_TEXT,
    TG_INEXPRESSIBLE_DELTA, /* a series of delta temporality */
    TG_INEXPRESSIBLE_HISTOGRAM,
    TG_INEXPRESSIBLE_EXEMPLAR, /* TG_VALUE_EXEMPLARS */
    TG_INEXPRESSIBLE_OTHER,
    TG_INEXPRESSIBLE_KINDS
};

/* As label value of the metric: "stale", "not_finite", "text", "delta", "histogram", "exemplar",
 * "other". */
const char *tg_inexpressible_name(enum tg_inexpressible_kind k);
/* What a point is that its backend has no form for; its series is read. */
enum tg_inexpressible_kind tg_inexpressible_kind_of(const struct tg_point *p);

struct tg_inexpressible {
    uint64_t n[TG_INEXPRESSIBLE_KINDS];
};

void tg_inexpressible_add(struct tg_inexpressible *to, const struct tg_inexpressible *from);
uint64_t tg_inexpressible_sum(const struct tg_inexpressible *c);
/* "3 stale, 1 text", cut to fit. Returns out. */
const char *tg_inexpressible_print(const struct tg_inexpressible *c, char *out, size_t cap);

#endif
