/* Decoders: the first byte picks the format and the limit. Arbitrary bytes never crash, never give
 * or hold more than the limit, and leave the output alone when refused; what was encoded decodes to
 * itself. */
#include <stdlib.h>

#include "core/codec/compress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tg_compress c; /* kept over inputs: also shows that a failure leaves it usable */
    static const size_t limits[] = {0, 100, 4096, 1 << 20};
    if (!c.zstd_level) tg_compress_init(&c);
    if (size == 0) return 0;
    const enum tg_encoding e = (enum tg_encoding)((data[0] & 15) % 6);
    const size_t limit = limits[data[0] >> 4 & 3];
    data++;
    size--;
    struct tg_buf out;
    struct tg_err err;
    tg_buf_init(&out, 0);
    if (tg_buf_append(&out, "head", 4) != TG_OK) abort();
    const enum tg_code code = tg_compress_decode(&c, e, data, size, limit, &out, &err);
    if (memcmp(out.data, "head", 4) != 0) abort();
    if (code == TG_OK ? out.len - 4 > limit : out.len != 4) abort();
    if (out.cap > limit + 64 && out.cap > 64) abort();
    if (code == TG_OK && tg_compress_decode(&c, e, data, size, limit, &out, NULL) != TG_OK) abort();
    out.len = 0;
    if (tg_compress_encode(&c, e, data, size, &out, NULL) != TG_OK) abort();
    struct tg_buf back;
    tg_buf_init(&back, 0);
    if (tg_compress_decode(&c, e, out.data, out.len, size, &back, NULL) != TG_OK) abort();
    if (back.len != size || (size && memcmp(back.data, data, size) != 0)) abort();
    tg_buf_deinit(&back);
    tg_buf_deinit(&out);
    return 0;
}
