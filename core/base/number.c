#include "core/base/number.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static const char digit_pairs[] = "00010203040506070809101112131415161718192021222324"
                                  "25262728293031323334353637383940414243444546474849"
                                  "50515253545556575859606162636465666768697071727374"
                                  "75767778798081828384858687888990919293949596979899";

static unsigned count_digits(uint64_t v)
{
    static const uint64_t powers[] = {
        UINT64_C(0),
        UINT64_C(10),
        UINT64_C(100),
        UINT64_C(1000),
        UINT64_C(10000),
        UINT64_C(100000),
        UINT64_C(1000000),
        UINT64_C(10000000),
        UINT64_C(100000000),
        UINT64_C(1000000000),
        UINT64_C(10000000000),
        UINT64_C(100000000000),
        UINT64_C(1000000000000),
        UINT64_C(10000000000000),
        UINT64_C(100000000000000),
        UINT64_C(1000000000000000),
        UINT64_C(10000000000000000),
        UINT64_C(100000000000000000),
        UINT64_C(1000000000000000000),
        UINT64_C(10000000000000000000),
    };
    const unsigned bits = 64 - (unsigned)__builtin_clzll(v | 1);
    const unsigned guess = bits * 1233 >> 12; /* floor(bits x log10 2) */
    return guess + (v >= powers[guess]);
}

/* Writes exactly n digits of v, ending before out + n. */
static void put_digits(char *out, uint64_t v, unsigned n)
{
    char *p = out + n;
    while (v >= 100) {
        p -= 2;
        memcpy(p, digit_pairs + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10) {
        p -= 2;
        memcpy(p, digit_pairs + v * 2, 2);
    } else {
        *--p = (char)('0' + v);
    }
}

unsigned tg_u64_format(char *out, uint64_t v)
{
    const unsigned n = count_digits(v);
    put_digits(out, v, n);
    return n;
}

unsigned tg_i64_format(char *out, int64_t v)
{
    if (v >= 0) return tg_u64_format(out, (uint64_t)v);
    *out = '-';
    return 1 + tg_u64_format(out + 1, 0 - (uint64_t)v);
}

/* ---- decimal to double ---- */

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;
static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* strtod as in the C locale; `text` is NUL-terminated. */
static double c_strtod(const char *text)
{
    (void)pthread_once(&c_locale_once, make_c_locale);
    /* newlocale("C") does not fail in practice; without it the process locale is the best left */
    return c_locale ? strtod_l(text, NULL, c_locale) : strtod(text, NULL);
}

static const double exact_double_powers[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

#if LDBL_MANT_DIG == 64
#define HAVE_LONG_MANTISSA 1
static const long double exact_long_powers[] = {
    1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,
    1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L,
    1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L,
};
#else
#define HAVE_LONG_MANTISSA 0
#endif

/* The double nearest to mantissa x 10^exp10, when that can be told without big integers. */
static bool scaled_to_double(uint64_t mantissa, int exp10, double *out)
{
    if (mantissa == 0) {
        *out = 0;
        return true;
    }
    if (mantissa <= UINT64_C(1) << 53 && exp10 >= -22 && exp10 <= 22) {
        const double m = (double)mantissa;
        *out = exp10 < 0 ? m / exact_double_powers[-exp10] : m * exact_double_powers[exp10];
        return true;
    }
#if HAVE_LONG_MANTISSA
    if (exp10 >= -27 && exp10 <= 27) {
        const long double m = (long double)mantissa;
        const long double v =
            exp10 < 0 ? m / exact_long_powers[-exp10] : m * exact_long_powers[exp10];
        uint64_t bits;
        memcpy(&bits, &v, sizeof(bits));           /* the 64-bit significand comes first */
        if ((bits & 0x7ff) == 0x400) return false; /* on a midpoint: which side is lost */
        *out = (double)v;
        return true;
    }
#endif
    return false;
}

double tg_number_to_double(const struct tg_number *n)
{
    double v;
    if (n->exact && scaled_to_double(n->mantissa, n->exp10, &v)) return n->negative ? -v : v;
    char text[TG_NUMBER_MAX_TEXT + 1];
    memcpy(text, n->text, n->len);
    text[n->len] = '\0';
    return c_strtod(text);
}

static inline unsigned digit_of(char c)
{
    return (unsigned)(unsigned char)c - '0';
}

/* Takes the digits at p into *n; once they no longer fit, only n->exact is kept. */
static const char *take_digits(const char *p, const char *end, struct tg_number *n)
{
    uint32_t eight;
    while (end - p >= 8 && n->mantissa < UINT64_C(100000000000) && tg_digits8(p, &eight)) {
        n->mantissa = n->mantissa * 100000000 + eight;
        p += 8;
    }
    for (; p < end && digit_of(*p) <= 9; p++) {
        uint64_t m;
        if (__builtin_mul_overflow(n->mantissa, UINT64_C(10), &m) ||
            __builtin_add_overflow(m, digit_of(*p), &m))
            n->exact = false;
        else
            n->mantissa = m;
    }
    return p;
}

const char *tg_number_scan(const char *p, const char *end, struct tg_number *n)
{
    if (end - p > TG_NUMBER_MAX_TEXT) end = p + TG_NUMBER_MAX_TEXT + 1;
    n->text = p;
    n->mantissa = 0;
    n->exp10 = 0;
    n->negative = false;
    n->has_sign = false;
    n->is_integer = true;
    n->exact = true;
    if (p < end && (*p == '-' || *p == '+')) {
        n->negative = *p == '-';
        n->has_sign = true;
        p++;
    }
    const char *const digits = p;
    p = take_digits(p, end, n);
    ptrdiff_t n_digits = p - digits;
    if (p < end && *p == '.') {
        const char *const fraction = p + 1;
        const char *const stop = take_digits(fraction, end, n);
        n_digits += stop - fraction;
        if (n_digits == 0) return NULL;
        n->exp10 = -(int32_t)(stop - fraction);
        n->is_integer = false;
        p = stop;
    }
    if (n_digits == 0) return NULL;
    if (end - p >= 2 && (*p == 'e' || *p == 'E')) {
        const char *q = p + 1;
        const bool down = *q == '-';
        if (down || *q == '+') q++;
        if (q < end && digit_of(*q) <= 9) {
            int32_t e = 0;
            for (; q < end && digit_of(*q) <= 9; q++)
                if (e < 100000) e = e * 10 + (int32_t)digit_of(*q);
            n->exp10 += down ? -e : e;
            n->is_integer = false;
            p = q;
        }
    }
    if (p - n->text > TG_NUMBER_MAX_TEXT) return NULL;
    n->len = (uint32_t)(p - n->text);
    return p;
}

/* ---- double to decimal ---- */

static void put_text(char *out, const char *text, size_t len)
{
    memcpy(out, text, len);
}

/* Writes digits x 10^exp10 (digits > 0, at most 17 of them). */
static unsigned put_decimal(char *out, uint64_t digits, int exp10)
{
    while (digits % 10 == 0) {
        digits /= 10;
        exp10++;
    }
    const int n = (int)count_digits(digits);
    const int e = exp10 + n - 1; /* exponent of the first digit */
    char *p = out;
    if (e >= 0 && e < 21) {
        put_digits(p, digits, (unsigned)n);
        if (e >= n - 1) {
            memset(p + n, '0', (size_t)e + 1 - (size_t)n);
            return (unsigned)(e + 1);
        }
        memmove(p + e + 2, p + e + 1, (size_t)n - (size_t)e - 1);
        p[e + 1] = '.';
        return (unsigned)(n + 1);
    }
    if (e < 0 && e >= -5) {
        put_text(p, "0.00000", 7);
        put_digits(p + 1 - e, digits, (unsigned)n);
        return (unsigned)(1 - e + n);
    }
    put_digits(p + 1, digits, (unsigned)n);
    p[0] = p[1];
    p[1] = '.';
    p += n > 1 ? n + 1 : 1;
    *p++ = 'e';
    p += tg_i64_format(p, e);
    return (unsigned)(p - out);
}

#if HAVE_LONG_MANTISSA
/* Fewest of 15, 16, 17 digits that give v back, through long double arithmetic whose result is
 * checked by parsing it. v > 0. False when that cannot tell. */
static bool shortest_fast(double v, uint64_t *digits, int *exp10)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    const int e2 = (int)(bits >> 52) - 1023;
    if (e2 < -35 || e2 > 139) return false; /* 10^(16 - e10) must stay within 10^+-27 */
    int e10 = e2 * 1233 >> 12;              /* floor(e2 x log10 2): that of v or one less */
    const int up = 14 - e10;
    long double scaled = (long double)v;
    scaled = up >= 0 ? scaled * exact_long_powers[up] : scaled / exact_long_powers[-up];
    if (scaled >= 1e15L) {
        e10++;
        scaled /= 10;
    }
    for (int n = 15; n <= 17; n++) {
        const int k = n - 1 - e10;
        if (k > 27 || k < -27) return false;
        if (n > 15)
            scaled = k >= 0 ? (long double)v * exact_long_powers[k]
                            : (long double)v / exact_long_powers[-k];
        const uint64_t d = (uint64_t)(scaled + 0.5L);
        double back;
        if (!scaled_to_double(d, -k, &back)) return false;
        if (back == v) {
            *digits = d;
            *exp10 = -k;
            return true;
        }
    }
    return false;
}
#endif

/* The same through the C library. Only the digits and the exponent are taken from its text, so
 * that a locale's decimal point does no harm. */
static void shortest_slow(double v, uint64_t *digits, int *exp10)
{
    for (int n = 15; n <= 17; n++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%.*e", n - 1, v);
        uint64_t d = 0;
        const char *p = text;
        for (; *p && *p != 'e'; p++)
            if (digit_of(*p) <= 9) d = d * 10 + digit_of(*p);
        const int e = (*p ? atoi(p + 1) : 0) - (n - 1);
        *digits = d;
        *exp10 = e;
        if (n == 17) return;
        char back[TG_DOUBLE_MAX_LEN + 1];
        const unsigned len = put_decimal(back, d, e);
        back[len] = '\0';
        if (c_strtod(back) == v) return;
    }
}

unsigned tg_double_format(char *out, double v)
{
    if (isnan(v)) {
        put_text(out, "NaN", 3);
        return 3;
    }
    char *p = out;
    if (signbit(v)) {
        *p++ = '-';
        v = -v;
    }
    if (isinf(v)) {
        if (p == out) *p++ = '+';
        put_text(p, "Inf", 3);
        return 4;
    }
    if (v < 9007199254740992.0) {
        const uint64_t whole = (uint64_t)v;
        if ((double)whole == v) return (unsigned)(p - out) + tg_u64_format(p, whole);
    }
    uint64_t digits;
    int exp10;
#if HAVE_LONG_MANTISSA
    if (!shortest_fast(v, &digits, &exp10))
#endif
        shortest_slow(v, &digits, &exp10);
    return (unsigned)(p - out) + put_decimal(p, digits, exp10);
}
