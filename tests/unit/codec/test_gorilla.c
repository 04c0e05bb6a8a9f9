/* Gorilla: bit-exact for every kind of double, damage detected, size as the paper promises. */
#include "core/codec/gorilla.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/codec/series_codec.h"
#include "tests/support/rng.h"

static uint64_t rng_state = 99;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

/* Encodes, decodes from an exact copy, compares by bits; every cut and a byte more must be refused.
 * Returns the encoded size. */
static size_t round_trip(const void *values, size_t n, bool cuts)
{
    struct tg_buf out;
    struct tg_err err;
    tg_buf_init(&out, 0);
    assert_int_equal(tg_buf_append(&out, "ab", 2), TG_OK); /* appends */
    assert_int_equal(tg_gorilla_encode(values, n, &out, &err), TG_OK);
    const size_t len = out.len - 2;
    uint8_t *exact = malloc(len + 1);
    memcpy(exact, out.data + 2, len);
    enum tg_series_codec codec;
    size_t n_peek;
    assert_int_equal(tg_series_codec_peek(exact, len, &codec, &n_peek, &err), TG_OK);
    assert_int_equal(codec, TG_SERIES_GORILLA);
    assert_int_equal(n_peek, n);
    double *back = malloc(n * 8 + 1);
    size_t n_back = 12345;
    assert_int_equal(tg_gorilla_decode(exact, len, back, n, &n_back, &err), TG_OK);
    assert_int_equal(n_back, n);
    if (n) assert_memory_equal(back, values, n * 8);
    for (size_t cut = cuts ? 0 : len - 1; cut < len; cut++) {
        uint8_t *part = malloc(cut + !cut);
        memcpy(part, exact, cut);
        for (int twice = 0; twice < 2; twice++)
            assert_int_equal(tg_gorilla_decode(part, cut, back, n, &n_back, &err), TG_ERR_CORRUPT);
        free(part);
    }
    exact[len] = 0;
    assert_int_equal(tg_gorilla_decode(exact, len + 1, back, n, &n_back, &err), TG_ERR_CORRUPT);
    if (n)
        assert_int_equal(tg_gorilla_decode(exact, len, back, n - 1, &n_back, &err),
                         TG_ERR_TOO_LARGE);
    free(back);
    free(exact);
    tg_buf_deinit(&out);
    return len;
}

static void test_special(void **state)
{
    (void)state;
    static const uint64_t patterns[] = {
        0,                            /* 0 */
        UINT64_C(0x8000000000000000), /* -0 */
        UINT64_C(1),                  /* least denormal */
        UINT64_C(0x000fffffffffffff), /* greatest denormal */
        UINT64_C(0x7fefffffffffffff), /* DBL_MAX */
        UINT64_C(0x7ff0000000000000), /* inf */
        UINT64_C(0xfff0000000000000), /* -inf */
        UINT64_C(0x7ff0000000000002), /* signalling NaN: Prometheus' stale marker */
        UINT64_C(0x7ff8000000000000), /* quiet NaN */
        UINT64_C(0xfff8000000000001), /* with payload and sign */
        UINT64_C(0x7ff4dead0000beef),
        UINT64_C(0x3ff0000000000000), /* 1 */
        UINT64_C(0x3ff0000000000001),
        UINT64_MAX,
        UINT64_C(0x5555555555555555),
        UINT64_C(0xaaaaaaaaaaaaaaaa),
    };
    enum { N = sizeof(patterns) / sizeof(patterns[0]) };
    (void)round_trip(NULL, 0, true);
    for (int i = 0; i < N; i++) {
        (void)round_trip(&patterns[i], 1, true);
        for (int k = 0; k < N; k++) { /* every step between two of them, twice */
            const uint64_t steps[] = {patterns[i], patterns[k], patterns[i], patterns[k]};
            (void)round_trip(steps, 4, true);
        }
    }
    (void)round_trip(patterns, N, true);
}

static void test_random(void **state)
{
    (void)state;
    enum { N = 3000 };
    uint64_t *v = malloc(N * 8);
    for (int round = 0; round < 40; round++) {
        const unsigned shift = (unsigned)(rng() % 64);
        for (int i = 0; i < N; i++)
            v[i] = round % 4 == 0   ? rng()
                   : round % 4 == 1 ? rng() >> shift
                   : round % 4 == 2 ? rng() << shift
                                    : (rng() % 3 ? (i ? v[i - 1] : 0) : rng() >> shift);
        (void)round_trip(v, (size_t)(rng() % N), false);
        (void)round_trip(v, N, false);
    }
    free(v);
}

/* XOR of every window: one changed bit run of every length at every position. */
static void test_windows(void **state)
{
    (void)state;
    uint64_t v[64 * 65];
    size_t n = 0;
    uint64_t prev = 0;
    for (unsigned len = 1; len <= 64; len++) {
        for (unsigned at = 0; at + len <= 64; at++) {
            const uint64_t run = len == 64 ? UINT64_MAX : ((UINT64_C(1) << len) - 1) << at;
            v[n++] = prev ^= run;
        }
    }
    (void)round_trip(v, n, false);
}

static void test_size(void **state)
{
    (void)state;
    enum { N = 1000 };
    double v[N];
    for (int i = 0; i < N; i++) v[i] = 21.5;
    assert_true(round_trip(v, N, false) <= 12 + N / 8); /* one bit each */
    for (int i = 0; i < N; i++) v[i] = i;
    assert_true(round_trip(v, N, false) < N * 3); /* a counter by ones */
    for (int i = 0; i < N; i++) v[i] = 20 + (double)(rng() % 8) / 4;
    assert_true(round_trip(v, N, false) < N * 2);
    for (int i = 0; i < N; i++) v[i] = sin(i) * 1e9; /* the worst: little over raw */
    assert_true(round_trip(v, N, false) <= 12 + N * TG_GORILLA_MAX_BITS / 8);
}

static void test_corrupt(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t bytes[24];
        size_t len;
    } cases[] = {
        {"unknown codec", {'X', 0}, 2},
        {"delta's bytes", {'D', 1}, 10},
        {"count over the length", {'G', 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 11},
        {"huge count", {'G', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 20},
        {"count of 11 bytes",
         {'G', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
         20},
        {"window before any", {'G', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}, 11},
        {"window over 64 bits", {'G', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfc}, 20},
        {"padding not zero", {'G', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x01}, 11},
        {"bytes behind none", {'G', 0, 0}, 3},
    };
    double v[200];
    size_t n;
    struct tg_err err;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (int twice = 0; twice < 2; twice++)
            if (tg_gorilla_decode(cases[i].bytes, cases[i].len, v, 200, &n, &err) != TG_ERR_CORRUPT)
                fail_msg("%s was taken", cases[i].name);
    /* any flipped bit: an error or an array of that length, never more */
    for (int i = 0; i < 50; i++) v[i] = (double)(rng() % 1000) / 10;
    struct tg_buf out;
    tg_buf_init(&out, 0);
    assert_int_equal(tg_gorilla_encode(v, 50, &out, &err), TG_OK);
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (tg_gorilla_decode(out.data, out.len, v, 200, &n, &err) == TG_OK) assert_true(n <= 200);
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    tg_buf_deinit(&out);
}

static void test_failing_memory(void **state)
{
    (void)state;
    enum { N = 2000 };
    double *v = malloc(N * sizeof(*v));
    for (int i = 0; i < N; i++) v[i] = sin(i);
    for (uint64_t n = 1;; n++) {
        struct tg_buf out;
        struct tg_err err;
        tg_buf_init(&out, 0);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_gorilla_encode(v, N, &out, &err);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        if (fired) assert_int_equal(out.len, 0);
        tg_buf_deinit(&out);
        if (!fired) break;
    }
    struct tg_buf small;
    struct tg_err err;
    tg_buf_init(&small, 1000);
    assert_int_equal(tg_gorilla_encode(v, N, &small, &err), TG_ERR_TOO_LARGE);
    assert_int_equal(small.len, 0);
    tg_buf_deinit(&small);
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special), cmocka_unit_test(test_random),
        cmocka_unit_test(test_windows), cmocka_unit_test(test_size),
        cmocka_unit_test(test_corrupt), cmocka_unit_test(test_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
