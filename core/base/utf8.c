#include "core/base/utf8.h"

#include <string.h>

/* Eight bytes at a time while it is ASCII, which nearly all names are. */
bool tg_utf8_valid(const char *str, size_t len)
{
    static const uint64_t high = UINT64_C(0x8080808080808080);
    static const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint8_t *s = (const uint8_t *)str;
    size_t i = 0;
    while (i < len) {
        if (len - i >= 8) {
            uint64_t w;
            memcpy(&w, s + i, 8);
            /* (w - ones) borrows into the top bit of a zero byte; w has no top bit set itself. */
            if (((w | (w - ones)) & high) == 0) {
                i += 8;
                continue;
            }
        }
        const unsigned n = s[i] ? tg_utf8_len(s + i, len - i) : 0;
        if (n == 0) return false;
        i += n;
    }
    return true;
}
