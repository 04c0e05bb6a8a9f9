/* text_code.h: bytes as text: base64 and percent-encoding.
 *
 * Threading: no state.
 */
#ifndef TG_BASE_TEXT_CODE_H
#define TG_BASE_TEXT_CODE_H

#include "core/base/buf.h"

/* Bytes that `n` bytes take in base64 (RFC 4648, section 4, with padding). */
static inline size_t tg_base64_len(size_t n)
{
    return n / 3 * 4 + (n % 3 ? 4 : 0);
}
/* Writes tg_base64_len(n) bytes, without a NUL; `in` may be NULL when n is 0. */
void tg_base64(char *out, const void *in, size_t n);

/* Appends `text` as part of a URL: all but letters, digits and - _ . ~ as %XX (RFC 3986, section
 * 2.3). TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_percent_encode(struct tg_buf *out, const char *text, size_t len);

#endif
