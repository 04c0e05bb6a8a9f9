#include "core/parquet/parquet_levels.h"

#include <string.h>

enum tg_code tg_parquet_levels_begin(struct tg_buf *body, struct tg_parquet_rle *e, unsigned max,
                                     size_t *at)
{
    *at = body->len;
    TG_TRY(tg_buf_reserve(body, 4));
    tg_buf_put_u32(body, 0);
    tg_parquet_rle_init(e, body, tg_parquet_bit_width(max));
    return TG_OK;
}

enum tg_code tg_parquet_levels_end(struct tg_buf *body, struct tg_parquet_rle *e, size_t at)
{
    TG_TRY(tg_parquet_rle_finish(e));
    const uint32_t len = (uint32_t)(body->len - at - 4);
    memcpy(body->data + at, &len, 4);
    return TG_OK;
}

enum tg_code tg_parquet_levels_run(struct tg_buf *body, unsigned max, uint32_t value, uint64_t n)
{
    struct tg_parquet_rle e;
    size_t at;
    TG_TRY(tg_parquet_levels_begin(body, &e, max, &at));
    tg_parquet_rle_run(&e, value, n);
    return tg_parquet_levels_end(body, &e, at);
}

enum tg_code tg_parquet_levels_append(struct tg_buf *body, const struct tg_buf *levels)
{
    TG_TRY(tg_buf_reserve(body, 4 + levels->len));
    tg_buf_put_u32(body, (uint32_t)levels->len);
    if (levels->len) tg_buf_put(body, levels->data, levels->len);
    return TG_OK;
}
