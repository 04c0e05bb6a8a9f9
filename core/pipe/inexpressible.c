#include "core/pipe/inexpressible.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "core/model/series.h"

const char *tg_inexpressible_name(enum tg_inexpressible_kind k)
{
    static const char *const names[] = {"stale",     "not_finite", "text", "delta",
                                        "histogram", "exemplar",   "other"};
    _Static_assert(sizeof(names) / sizeof(names[0]) == TG_INEXPRESSIBLE_KINDS, "a name each");
    return k < TG_INEXPRESSIBLE_KINDS ? names[k] : "other";
}

enum tg_inexpressible_kind tg_inexpressible_kind_of(const struct tg_point *p)
{
    if (p->series && p->series->temporality == TG_TEMPORALITY_DELTA) return TG_INEXPRESSIBLE_DELTA;
    switch (tg_point_value_type(p)) {
    case TG_VALUE_NONE: return TG_INEXPRESSIBLE_STALE;
    case TG_VALUE_EXEMPLARS: return TG_INEXPRESSIBLE_EXEMPLAR;
    case TG_VALUE_DOUBLE:
        return isfinite(p->value.f64) ? TG_INEXPRESSIBLE_OTHER : TG_INEXPRESSIBLE_NOT_FINITE;
    case TG_VALUE_STRING: return TG_INEXPRESSIBLE_TEXT;
    case TG_VALUE_FLOAT_HISTOGRAM:
        return isfinite(p->value.float_histogram->count) ? TG_INEXPRESSIBLE_HISTOGRAM
                                                         : TG_INEXPRESSIBLE_NOT_FINITE;
    case TG_VALUE_HISTOGRAM:
    case TG_VALUE_EXP_HISTOGRAM:
    case TG_VALUE_SUMMARY: return TG_INEXPRESSIBLE_HISTOGRAM;
    default: return TG_INEXPRESSIBLE_OTHER;
    }
}

void tg_inexpressible_add(struct tg_inexpressible *to, const struct tg_inexpressible *from)
{
    for (unsigned k = 0; k < TG_INEXPRESSIBLE_KINDS; k++) to->n[k] += from->n[k];
}

uint64_t tg_inexpressible_sum(const struct tg_inexpressible *c)
{
    uint64_t sum = 0;
    for (unsigned k = 0; k < TG_INEXPRESSIBLE_KINDS; k++) sum += c->n[k];
    return sum;
}

const char *tg_inexpressible_print(const struct tg_inexpressible *c, char *out, size_t cap)
{
    size_t len = 0;
    if (cap) out[0] = '\0';
    for (unsigned k = 0; k < TG_INEXPRESSIBLE_KINDS && len < cap; k++) {
        if (!c->n[k]) continue;
        const int n = snprintf(out + len, cap - len, "%s%" PRIu64 " %s", len ? ", " : "", c->n[k],
                               tg_inexpressible_name((enum tg_inexpressible_kind)k));
        len += n > 0 ? (size_t)n : 0;
    }
    return out;
}
