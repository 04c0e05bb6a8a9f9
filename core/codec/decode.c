#include "core/codec/decode.h"

void tg_decode_reject(struct tg_decode *d, uint64_t n, const struct tg_err *err)
{
    if (d->n_rejected == 0) {
        d->first_reject = *err;
        d->first_code = err->code;
    }
    d->n_rejected += n;
}
