#include "core/base/time_text.h"

#include <stdio.h>
#include <time.h>

size_t tg_time_text(char out[TG_TIME_TEXT_MAX], int64_t ts_ns, unsigned digits)
{
    enum { MAX_DIGITS = 9 };
    int64_t s = ts_ns / 1000000000;
    int64_t frac = ts_ns % 1000000000;
    if (frac < 0) {
        frac += 1000000000;
        s--;
    }
    const time_t t = (time_t)s;
    struct tm tm = {0};
    (void)gmtime_r(&t, &tm); /* the years that int64 ns can say all have one */
    size_t n = strftime(out, TG_TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    if (digits > MAX_DIGITS) digits = MAX_DIGITS;
    for (unsigned i = digits; i < MAX_DIGITS; i++) frac /= 10;
    const int w =
        digits ? snprintf(out + n, TG_TIME_TEXT_MAX - n, ".%0*lldZ", (int)digits, (long long)frac)
               : snprintf(out + n, TG_TIME_TEXT_MAX - n, "Z");
    return n + (w > 0 ? (size_t)w : 0);
}
