#include "core/base/text_code.h"

#include <stdbool.h>

void tg_base64(char *out, const void *in, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *const p = in;
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0U) |
                           (left > 2 ? p[i + 2] : 0U);
        *out++ = digits[v >> 18];
        *out++ = digits[v >> 12 & 63];
        *out++ = left > 1 ? digits[v >> 6 & 63] : '=';
        *out++ = left > 2 ? digits[v & 63] : '=';
    }
}

static bool is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~';
}

enum tg_code tg_percent_encode(struct tg_buf *out, const char *text, size_t len)
{
    static const char hex[] = "0123456789ABCDEF";
    if (len > SIZE_MAX / 4) return TG_ERR_TOO_LARGE;
    TG_TRY(tg_buf_reserve(out, 3 * len));
    for (size_t i = 0; i < len; i++) {
        const uint8_t c = (uint8_t)text[i];
        if (is_plain(c)) {
            tg_buf_put_u8(out, c);
        } else {
            tg_buf_put_u8(out, '%');
            tg_buf_put_u8(out, (uint8_t)hex[c >> 4]);
            tg_buf_put_u8(out, (uint8_t)hex[c & 15]);
        }
    }
    return TG_OK;
}
