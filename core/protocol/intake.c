#include "core/protocol/intake.h"

void tg_intake_reject(struct tg_intake *d, uint64_t n, const struct tg_err *err)
{
    if (d->n_rejected == 0) {
        d->first_reject = *err;
        d->first_code = err->code;
    }
    d->n_rejected += n;
}

void tg_intake_finish(struct tg_intake *d, uint32_t from, uint32_t touch_at, bool any_refused)
{
    struct tg_batch *b = d->batch;
    for (; touch_at < b->n_points; touch_at++) {
        struct tg_series *s = b->points[touch_at].series;
        if (s) tg_series_touch(s, d->now_s);
    }
    if (any_refused) {
        uint32_t to = from;
        for (uint32_t i = from; i < b->n_points; i++)
            if (b->points[i].series) b->points[to++] = b->points[i];
        b->n_points = to;
    }
    d->n_accepted += b->n_points - from;
}
