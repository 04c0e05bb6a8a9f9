/* remote_write_body_impl.h: what a TimeSeries in a body (remote_write_body.h) is made of, to the
 * file that knows the points. Not for other layers.
 *
 * Threading: as the body.
 */
#ifndef TG_PROTOCOL_REMOTE_WRITE_BODY_IMPL_H
#define TG_PROTOCOL_REMOTE_WRITE_BODY_IMPL_H

#include "core/protocol/remote_write_body.h"

enum {
    TG_REMOTE_WRITE_SAMPLE_BYTES = 2 + 9 + 1, /* but for the time */
    TG_REMOTE_WRITE_SAMPLE_ELEMENTS = 3,
};
#define TG_REMOTE_WRITE_BODY_MAX ((size_t)1 << 31)

/* Begins a TimeSeries of `total` bytes, which are written below in at most n_elements calls: a
 * section counts as many as it has tokens, a sample TG_REMOTE_WRITE_SAMPLE_ELEMENTS. The others
 * rely on it. TG_ERR_TOO_LARGE, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_remote_write_open_series(struct tg_remote_write_body *b, size_t total,
                                                       size_t n_elements);
/* Bytes that were not written before, as far as is known. */
void tg_remote_write_put(struct tg_remote_write_body *b, const void *bytes, size_t n);
/* The n bytes that stand at `from` of the plain body. */
void tg_remote_write_put_again(struct tg_remote_write_body *b, size_t from, size_t n);
/* A section of `len` plain bytes, of which the tokens end at `end` or before; *returns* where the
 * next begins. */
const uint8_t *tg_remote_write_put_section(struct tg_remote_write_body *b, const uint8_t *tokens,
                                           const uint8_t *end, size_t len);
/* The j-th sample of the TimeSeries. */
void tg_remote_write_put_sample(struct tg_remote_write_body *b, uint32_t j, uint64_t bits,
                                uint64_t ms);

#endif
