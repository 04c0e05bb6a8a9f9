/* Numbers to text and back against the C library, over special values, nice decimals and random
 * bit patterns. */
#include "core/base/number.h"
#include "tests/support/rng.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t rng_state = 88172645463325252ULL;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

static uint64_t bits_of(double v)
{
    uint64_t b;
    memcpy(&b, &v, 8);
    return b;
}
static double of_bits(uint64_t b)
{
    double v;
    memcpy(&v, &b, 8);
    return v;
}

/* Parses all of `text`, which must agree with strtod. */
static void check_parse(const char *text)
{
    double v = 0;
    const char *end = text + strlen(text);
    const char *stop = tg_double_parse(text, end, &v);
    if (stop != end || bits_of(v) != bits_of(strtod(text, NULL)))
        fail_msg("%s: got %.17g, strtod %.17g", text, v, strtod(text, NULL));
}

static unsigned significant(const char *s, unsigned len)
{
    unsigned n = 0;
    unsigned zeros = 0;
    for (unsigned i = 0; i < len && s[i] != 'e'; i++) {
        if (s[i] < '0' || s[i] > '9') continue;
        if (s[i] == '0') {
            if (n) zeros++;
        } else {
            n += zeros + 1;
            zeros = 0;
        }
    }
    return n;
}

/* Formats v, which must parse back to the same bits, with no more digits than the shortest of
 * printf. Returns the digits over that minimum. */
static unsigned check_format(double v)
{
    char text[TG_DOUBLE_MAX_LEN + 1];
    memset(text, 'x', sizeof(text));
    const unsigned len = tg_double_format(text, v);
    assert_true(len <= TG_DOUBLE_MAX_LEN);
    text[len] = '\0';
    if (bits_of(strtod(text, NULL)) != bits_of(v)) fail_msg("%.17g became %s", v, text);
    check_parse(text);
    char shortest[40];
    for (int n = 1; n <= 17; n++) {
        (void)snprintf(shortest, sizeof(shortest), "%.*e", n - 1, v);
        if (strtod(shortest, NULL) == v) break;
    }
    const unsigned want = significant(shortest, (unsigned)strlen(shortest));
    const unsigned got = significant(text, len);
    return got > want ? got - want : 0;
}

static void test_integers(void **state)
{
    (void)state;
    char got[TG_U64_MAX_LEN + 1];
    char want[32];
    for (int i = 0; i < 2000000; i++) {
        const uint64_t v = rng() >> (rng() & 63);
        got[tg_u64_format(got, v)] = '\0';
        (void)snprintf(want, sizeof(want), "%llu", (unsigned long long)v);
        if (i < 100000) assert_string_equal(got, want);
        got[tg_i64_format(got, (int64_t)v)] = '\0';
        (void)snprintf(want, sizeof(want), "%lld", (long long)v);
        if (strcmp(got, want) != 0) fail_msg("%s != %s", got, want);
    }
    uint64_t p = 1;
    for (int i = 0; i < 20; i++, p *= 10) {
        for (int64_t around = -1; around <= 1; around++) {
            got[tg_u64_format(got, p + (uint64_t)around)] = '\0';
            (void)snprintf(want, sizeof(want), "%llu", (unsigned long long)(p + (uint64_t)around));
            assert_string_equal(got, want);
        }
    }
    got[tg_u64_format(got, UINT64_MAX)] = '\0';
    assert_string_equal(got, "18446744073709551615");
    got[tg_i64_format(got, INT64_MIN)] = '\0';
    assert_string_equal(got, "-9223372036854775808");
}

static void test_digits8(void **state)
{
    (void)state;
    char text[9];
    uint32_t v;
    for (int i = 0; i < 100000; i++) {
        const uint32_t want = (uint32_t)(rng() % 100000000);
        (void)snprintf(text, sizeof(text), "%08u", want);
        assert_true(tg_digits8(text, &v));
        assert_int_equal(v, want);
    }
    for (int pos = 0; pos < 8; pos++) {
        for (int c = 0; c < 256; c++) {
            memcpy(text, "12345678", 8);
            text[pos] = (char)c;
            assert_int_equal(tg_digits8(text, &v), c >= '0' && c <= '9');
        }
    }
}

static void test_format_table(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *want;
    } cases[] = {
        {0.0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-1, "-1"},
        {0.1, "0.1"},
        {-0.25, "-0.25"},
        {0.30000000000000004, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"},
        {123456789.125, "123456789.125"},
        {9007199254740991.0, "9007199254740991"},
        {9007199254740992.0, "9007199254740992"},
        {1e15, "1000000000000000"},
        {1e20, "100000000000000000000"},
        {1e21, "1e21"},
        {1.5e300, "1.5e300"},
        {1e-5, "0.00001"},
        {1.5e-6, "1.5e-6"},
        {5e-324, "4.94065645841247e-324"}, /* 15 digits are the fewest that we try */
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1.7976931348623157e308, "1.7976931348623157e308"},
        {INFINITY, "+Inf"},
        {-INFINITY, "-Inf"},
        {NAN, "NaN"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char got[TG_DOUBLE_MAX_LEN + 1];
        got[tg_double_format(got, cases[i].v)] = '\0';
        assert_string_equal(got, cases[i].want);
    }
}

static void test_format_random(void **state)
{
    (void)state;
    unsigned longer = 0;
    unsigned n = 0;
    for (int i = 0; i < 200000; i++, n++) { /* any pattern: mostly extreme exponents */
        const double v = of_bits(rng());
        if (isfinite(v)) (void)check_format(v);
    }
    for (int i = 0; i < 300000; i++) { /* the range of measurements */
        const int e = (int)(rng() % 120) - 40;
        const double v = ldexp((double)(rng() >> 11), e - 53);
        longer += check_format(rng() & 1 ? v : -v) > 0;
    }
    for (int i = 0; i < 300000; i++) { /* decimals with few digits must stay that short */
        static const double scale[] = {1, 10, 100, 1e3, 1e4, 1e6, 1e9, 1e12, 1e15};
        const double v = (double)(rng() >> (14 + rng() % 50)) / scale[rng() % 9];
        assert_int_equal(check_format(v), 0);
    }
    /* and arithmetic on them */
    for (int i = 0; i < 200000; i++)
        longer += check_format((double)(rng() % 100000) / 100 * ((double)(rng() % 1000) / 7)) > 0;
    assert_true(longer < 100); /* of half a million: near-ties only */
}

static void test_parse_table(void **state)
{
    (void)state;
    static const char *const whole[] = {
        "0",
        "-0",
        "+0",
        "1",
        "-1",
        "00012",
        "1.",
        ".5",
        "-.5",
        "1.e3",
        "1e0",
        "1E+5",
        "1e-5",
        "0.1",
        "0.30000000000000004",
        "1e22",
        "1e23",
        "9007199254740993",
        "9007199254740992.5",
        "9007199254740993.0000000000000000000000001",
        "18446744073709551615",
        "18446744073709551616",
        "184467440737095516150000",
        "1e308",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "1e309",
        "-1e400",
        "1e99999999999999999999",
        "0e99999999999",
        "5e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "1e-400",
        "2.2250738585072011e-308",
        "2.2250738585072012e-308",
        "1e-99999999999",
        "0.000000000000000000000000000000000000000000000000001",
        "123456789012345678901234567890",
        "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203124",
        "1.00000000000000011102230246251565404236316680908203126",
        "4503599627370496.5",
        "4503599627370497.5",
        "9999999999999999",
        "99999999999999999999e-20",
    };
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) check_parse(whole[i]);

    static const struct {
        const char *text;
        int used; /* -1: no number */
    } partial[] = {
        {"", -1},    {"-", -1}, {"+", -1},   {".", -1},  {"-.", -1},  {"e5", -1},  {"nan", -1},
        {"inf", -1}, {"x", -1}, {"1e", 1},   {"1e+", 1}, {"1ex", 1},  {"1.5.", 3}, {"1i", 1},
        {"12 3", 2}, {"1-", 1}, {"0x10", 1}, {"1_0", 1}, {"--1", -1}, {"1,5", 1},  {"1e5e5", 3},
    };
    for (size_t i = 0; i < sizeof(partial) / sizeof(partial[0]); i++) {
        for (int twice = 0; twice < 2; twice++) {
            double v;
            const char *p = partial[i].text;
            const char *stop = tg_double_parse(p, p + strlen(p), &v);
            assert_int_equal(stop ? stop - p : -1, partial[i].used);
        }
    }
    /* a long but allowed one, and one byte more */
    char text[TG_NUMBER_MAX_TEXT + 3];
    memset(text, '7', sizeof(text));
    text[1] = '.';
    text[TG_NUMBER_MAX_TEXT] = '\0';
    check_parse(text);
    double v;
    text[TG_NUMBER_MAX_TEXT] = '7';
    assert_null(tg_double_parse(text, text + TG_NUMBER_MAX_TEXT + 1, &v));
    /* never reads at or past the end: the bytes there would change the value */
    const char *digits = "12345";
    assert_null(tg_double_parse(digits, digits, &v));
    assert_ptr_equal(tg_double_parse(digits, digits + 3, &v), digits + 3);
    assert_true(v == 123);
}

static void test_parse_random(void **state)
{
    (void)state;
    char text[64];
    for (int i = 0; i < 400000; i++) { /* 17 digits of any pattern */
        const double v = of_bits(rng());
        if (!isfinite(v)) continue;
        (void)snprintf(text, sizeof(text), "%.*g", (int)(15 + rng() % 5), v);
        check_parse(text);
    }
    for (int i = 0; i < 1000000; i++) { /* any mantissa x small exponents: all fast paths */
        (void)snprintf(text, sizeof(text), "%s%llue%d", rng() & 1 ? "-" : "",
                       (unsigned long long)(rng() >> (rng() & 63)), (int)(rng() % 70) - 35);
        check_parse(text);
    }
    for (int i = 0; i < 300000; i++) { /* exactly between two doubles, and just beside */
        const uint64_t m = (UINT64_C(1) << 53 | rng() >> 11) * 2 + 1;
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)m);
        check_parse(text);
        const int k = (int)(rng() % 20);
        (void)snprintf(text, sizeof(text), "%llu.%0*d1", (unsigned long long)m, k, 0);
        check_parse(text);
    }
    for (int i = 0; i < 300000; i++) {
        (void)snprintf(text, sizeof(text), "%llu.%llu", (unsigned long long)(rng() >> (rng() & 63)),
                       (unsigned long long)(rng() >> (rng() & 63)));
        check_parse(text);
    }
}

static void test_locale(void **state)
{
    (void)state;
    /* With a locale whose decimal point is a comma nothing may change. Skipped where none is
     * installed (the C library's text is then the same anyway). */
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8")) skip();
    char got[TG_DOUBLE_MAX_LEN + 1];
    got[tg_double_format(got, 1.5e-200)] = '\0';
    double v = 0;
    const char *text = "1.5e-200";
    (void)tg_double_parse(text, text + 8, &v);
    (void)setlocale(LC_NUMERIC, "C");
    assert_string_equal(got, "1.5e-200");
    assert_true(v == 1.5e-200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),     cmocka_unit_test(test_digits8),
        cmocka_unit_test(test_format_table), cmocka_unit_test(test_format_random),
        cmocka_unit_test(test_parse_table),  cmocka_unit_test(test_parse_random),
        cmocka_unit_test(test_locale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
