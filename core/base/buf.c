#include "core/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/base/mem.h"

void tg_buf_init(struct tg_buf *b, size_t max_bytes)
{
    *b = (struct tg_buf){.max_bytes = max_bytes ? max_bytes : SIZE_MAX / 2};
}

void tg_buf_deinit(struct tg_buf *b)
{
    tg_free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

enum tg_code tg_buf_reserve_slow(struct tg_buf *b, size_t n)
{
    if (n > b->max_bytes || b->len > b->max_bytes - n) return TG_ERR_TOO_LARGE;
    const size_t need = b->len + n;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap += cap / 2 + 64;
    if (cap > b->max_bytes) cap = b->max_bytes;
    uint8_t *p = tg_realloc(b->data, cap);
    if (!p) return TG_ERR_NOMEM;
    b->data = p;
    b->cap = cap;
    return TG_OK;
}

enum tg_code tg_buf_append(struct tg_buf *b, const void *p, size_t n)
{
    TG_TRY(tg_buf_reserve(b, n));
    if (n) tg_buf_put(b, p, n);
    return TG_OK;
}

enum tg_code tg_buf_printf(struct tg_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) return TG_ERR_INVALID;
    TG_TRY(tg_buf_reserve(b, (size_t)n + 1));
    va_start(ap, fmt);
    (void)vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return TG_OK;
}
