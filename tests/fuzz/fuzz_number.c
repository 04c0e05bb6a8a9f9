/* Number text: what tg_double_parse takes must be strtod's value bit for bit and strtod's extent.
 * Eight bytes as a double: format, parse, same bits. */
#include <math.h>
#include <stdlib.h>

#include "core/base/number.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t bits_of(double v)
{
    uint64_t b;
    memcpy(&b, &v, sizeof(b));
    return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *exact = malloc(size + !size); /* no NUL: a read past the end is seen */
    char *text = malloc(size + 1);
    if (!exact || !text) abort();
    memcpy(exact, data, size);
    memcpy(text, data, size);
    text[size] = '\0';
    double v = 0;
    const char *stop = tg_double_parse(exact, exact + size, &v);
    if (stop) {
        const size_t used = (size_t)(stop - exact);
        if (used == 0 || used > TG_NUMBER_MAX_TEXT) abort();
        text[used] = '\0';
        char *end;
        const double want = strtod(text, &end);
        /* strtod reads 0x.. further; then only the leading zero is ours */
        if (end != text + used || bits_of(v) != bits_of(want)) abort();
    }
    free(exact);
    free(text);
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t u;
        memcpy(&u, data, 8);
        double d;
        memcpy(&d, data, 8);
        char out[TG_DOUBLE_MAX_LEN];
        unsigned len = tg_double_format(out, d);
        if (len > sizeof(out)) abort();
        if (isfinite(d)) {
            if (tg_double_parse(out, out + len, &v) != out + len || bits_of(v) != u) abort();
        }
        struct tg_number n;
        len = tg_u64_format(out, u);
        if (tg_number_scan(out, out + len, &n) != out + len || !n.exact || n.mantissa != u) abort();
        len = tg_i64_format(out, (int64_t)u);
        if (tg_number_scan(out, out + len, &n) != out + len || !n.exact ||
            (n.negative ? 0 - n.mantissa : n.mantissa) != u)
            abort();
    }
    return 0;
}
