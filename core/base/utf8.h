/* utf8.h: what a character of UTF-8 is: Unicode 15, table 3-7 (RFC 3629): no overlong forms, no
 * surrogates, nothing over U+10FFFF.
 *
 * Threading: no state.
 */
#ifndef TG_BASE_UTF8_H
#define TG_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of the character at p (1 to 4), or 0 when its bytes are none; at most `room` (at least 1)
 * of them are read. NUL is a character. */
static inline unsigned tg_utf8_len(const uint8_t *p, size_t room)
{
    const uint8_t c = p[0];
    unsigned lo = 0x80; /* range of the second byte */
    unsigned hi = 0xbf;
    unsigned n;
    if (c < 0x80) return 1;
    if (c >= 0xc2 && c <= 0xdf) {
        n = 2;
    } else if (c >= 0xe0 && c <= 0xef) {
        n = 3;
        if (c == 0xe0) lo = 0xa0; /* overlong */
        if (c == 0xed) hi = 0x9f; /* surrogates */
    } else if (c >= 0xf0 && c <= 0xf4) {
        n = 4;
        if (c == 0xf0) lo = 0x90; /* overlong */
        if (c == 0xf4) hi = 0x8f; /* over U+10FFFF */
    } else {
        return 0;
    }
    if (room < n || p[1] < lo || p[1] > hi) return 0;
    for (unsigned k = 2; k < n; k++)
        if ((p[k] & 0xc0) != 0x80) return 0;
    return n;
}

/* Well-formed UTF-8 without NUL. */
bool tg_utf8_valid(const char *str, size_t len);

#endif
