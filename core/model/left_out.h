/* left_out.h: parts of points that a backend has no form for, or takes only changed, although it
 * has the points: counted by what they are, as nothing else tells of them.
 *
 * Threading: no shared state; a struct belongs to one thread.
 */
#ifndef TG_MODEL_LEFT_OUT_H
#define TG_MODEL_LEFT_OUT_H

#include <stdint.h>

enum tg_left_out_part {
    TG_LEFT_OUT_EXEMPLAR,       /* of a point that has a value (InfluxDB) */
    TG_LEFT_OUT_EXEMPLAR_LABEL, /* over 128 characters in all, or twice there (Prometheus) */
    TG_LEFT_OUT_FIELD,          /* of a histogram or summary: NaN or infinite; a quantile that is
                                   there twice (InfluxDB) */
    TG_LEFT_OUT_BYTES,          /* a text with bytes that are not UTF-8, now U+FFFD (Parquet) */
    TG_LEFT_OUT_PARTS
};

struct tg_left_out {
    uint64_t n[TG_LEFT_OUT_PARTS];
};

static inline void tg_left_out_add(struct tg_left_out *to, const struct tg_left_out *from)
{
    for (unsigned k = 0; k < TG_LEFT_OUT_PARTS; k++) to->n[k] += from->n[k];
}

#endif
