/* number.h: numbers to text and back, fast, exact and independent of the locale.
 *
 * Doubles: parsing gives the nearest double, bit for bit what strtod gives in the C locale.
 * Formatting gives a decimal that parses back to the same bits: with the fewest digits that do so
 * (of 15, 16 and 17, trailing zeros cut), save that in rare ties one more digit than the minimum
 * may be written.
 *
 * How: up to 2^53 with a power of ten up to 10^22 both operands are exact doubles, so one operation
 * rounds once. Up to 2^64 with 10^27 the same holds in x87's 64-bit significand; rounding that to
 * 53 bits is right unless the result lies exactly on a midpoint, and then (and on machines without
 * such a long double) the C library decides.
 *
 * Threading: no shared state but a locale object made once.
 */
#ifndef TG_BASE_NUMBER_H
#define TG_BASE_NUMBER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    TG_U64_MAX_LEN = 20,       /* longest output of tg_u64_format and tg_i64_format */
    TG_DOUBLE_MAX_LEN = 32,    /* room that tg_double_format needs */
    TG_NUMBER_MAX_TEXT = 1024, /* longest number text that tg_double_parse reads */
};

/* Write without a NUL and return the length. `out` has the room named above. */
unsigned tg_u64_format(char *out, uint64_t v);
unsigned tg_i64_format(char *out, int64_t v);
/* "NaN", "+Inf", "-Inf", "-0", "0.1", "1e-7", "123456", "1.5e300". Exponents from 21 up and below
 * -5 use the e form. */
unsigned tg_double_format(char *out, double v);

/* A number read but not yet converted: [+-] digits [. digits] [(e|E) [+-] digits], at least one
 * digit before or after the point. */
struct tg_number {
    uint64_t mantissa; /* its digits as an integer, when exact */
    int32_t exp10;     /* value = mantissa x 10^exp10, when exact */
    bool negative;
    bool has_sign;    /* + or - was written */
    bool is_integer;  /* neither point nor exponent */
    bool exact;       /* the digits fitted the mantissa */
    const char *text; /* borrows: where it begins */
    uint32_t len;
};

/* Reads the longest number at p, which ends before `end`. Returns the place after it, or NULL when
 * there is none or it is over TG_NUMBER_MAX_TEXT. */
const char *tg_number_scan(const char *p, const char *end, struct tg_number *n);
/* Nearest double; +-infinity when out of range. */
double tg_number_to_double(const struct tg_number *n);

/* Both in one: returns the place after the number, or NULL. */
static inline const char *tg_double_parse(const char *p, const char *end, double *out)
{
    struct tg_number n;
    const char *stop = tg_number_scan(p, end, &n);
    if (stop) *out = tg_number_to_double(&n);
    return stop;
}

/* Eight ASCII digits at once: true and the value when all eight bytes at p are digits. */
static inline bool tg_digits8(const char *p, uint32_t *value)
{
    uint64_t w;
    memcpy(&w, p, 8);
    /* each byte: high nibble 3, and still 3 after adding 6 (so <= '9') */
    const uint64_t high = w & UINT64_C(0xF0F0F0F0F0F0F0F0);
    const uint64_t plus6 = (w + UINT64_C(0x0606060606060606)) & UINT64_C(0xF0F0F0F0F0F0F0F0);
    if ((high | plus6) != UINT64_C(0x3030303030303030) || high != plus6) return false;
    w -= UINT64_C(0x3030303030303030);
    w = w * 10 + (w >> 8); /* pairs in bytes 0, 2, 4, 6 */
    const uint64_t lo = (w & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x000F424000000064);
    const uint64_t hi = ((w >> 16) & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x0000271000000001);
    *value = (uint32_t)((lo + hi) >> 32);
    return true;
}

#endif
