/* Delta and delta-of-delta: exact for every int64, damage detected, small where it should be. */
#include "core/codec/delta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/codec/series_codec.h"
#include "tests/support/rng.h"

static const struct codec {
    enum tg_series_codec id;
    enum tg_code (*encode)(const int64_t *values, size_t n, struct tg_buf *out, struct tg_err *err);
    enum tg_code (*decode)(const void *bytes, size_t len, int64_t *values, size_t cap, size_t *n,
                           struct tg_err *err);
} codecs[] = {
    {TG_SERIES_DELTA, tg_delta_encode, tg_delta_decode},
    {TG_SERIES_DELTA_OF_DELTA, tg_dod_encode, tg_dod_decode},
};

static uint64_t rng_state = 5;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

static size_t round_trip(const struct codec *c, const int64_t *values, size_t n, bool cuts)
{
    struct tg_buf out;
    struct tg_err err;
    tg_buf_init(&out, 0);
    assert_int_equal(tg_buf_append(&out, "ab", 2), TG_OK); /* appends */
    assert_int_equal(c->encode(values, n, &out, &err), TG_OK);
    const size_t len = out.len - 2;
    uint8_t *exact = malloc(len + 1);
    memcpy(exact, out.data + 2, len);
    enum tg_series_codec id;
    size_t n_peek;
    assert_int_equal(tg_series_codec_peek(exact, len, &id, &n_peek, &err), TG_OK);
    assert_int_equal(id, c->id);
    assert_int_equal(n_peek, n);
    int64_t *back = malloc(n * 8 + 1);
    size_t n_back = 12345;
    assert_int_equal(c->decode(exact, len, back, n, &n_back, &err), TG_OK);
    assert_int_equal(n_back, n);
    if (n) assert_memory_equal(back, values, n * 8);
    for (size_t cut = cuts ? 0 : len - 1; cut < len; cut++) {
        uint8_t *part = malloc(cut + !cut);
        memcpy(part, exact, cut);
        for (int twice = 0; twice < 2; twice++)
            assert_int_equal(c->decode(part, cut, back, n, &n_back, &err), TG_ERR_CORRUPT);
        free(part);
    }
    exact[len] = 0;
    assert_int_equal(c->decode(exact, len + 1, back, n, &n_back, &err), TG_ERR_CORRUPT);
    if (n) assert_int_equal(c->decode(exact, len, back, n - 1, &n_back, &err), TG_ERR_TOO_LARGE);
    free(back);
    free(exact);
    tg_buf_deinit(&out);
    return len;
}

static void test_special(void **state)
{
    (void)state;
    /* both sides of every bucket's edge (zigzagged: half of it), and the extremes */
    int64_t v[160];
    size_t n = 0;
    v[n++] = INT64_MIN;
    v[n++] = INT64_MAX;
    v[n++] = INT64_MIN + 1;
    v[n++] = INT64_MAX - 1;
    v[n++] = 0;
    for (unsigned shift = 0; shift < 63; shift += shift < 40 ? 1 : 4) {
        v[n++] = INT64_C(1) << shift;
        v[n++] = -(INT64_C(1) << shift) - 1;
    }
    for (int c = 0; c < 2; c++) {
        (void)round_trip(&codecs[c], NULL, 0, true);
        for (size_t i = 0; i < n; i++) {
            (void)round_trip(&codecs[c], &v[i], 1, true);
            for (size_t k = 0; k < n; k++) {
                const int64_t steps[] = {v[i], v[k], v[i]};
                (void)round_trip(&codecs[c], steps, 3, i % 8 == 0);
            }
        }
        (void)round_trip(&codecs[c], v, n, true);
    }
}

static void test_random(void **state)
{
    (void)state;
    enum { N = 3000 };
    int64_t *v = malloc(N * sizeof(*v));
    for (int round = 0; round < 60; round++) {
        const unsigned shift = (unsigned)(rng() % 64);
        const int64_t step = (int64_t)(rng() >> rng() % 64);
        for (int i = 0; i < N; i++)
            v[i] = round % 3 == 0   ? (int64_t)(rng() >> rng() % 64)
                   : round % 3 == 1 ? (int64_t)(rng() >> shift)
                                    : (int64_t)((uint64_t)i * (uint64_t)step + (rng() >> shift));
        (void)round_trip(&codecs[round % 2], v, N, false);
        (void)round_trip(&codecs[round % 2], v, (size_t)(rng() % N), false);
    }
    free(v);
}

static void test_size(void **state)
{
    (void)state;
    enum { N = 1000 };
    int64_t v[N];
    for (int i = 0; i < N; i++) v[i] = INT64_C(1700000000000000000) + i * INT64_C(15000000000);
    assert_true(round_trip(&codecs[1], v, N, false) <= 24 + N / 8); /* an even scrape: one bit */
    for (int i = 0; i < N; i++) v[i] += (int64_t)(rng() % 2000000) - 1000000; /* 1 ms jitter */
    assert_true(round_trip(&codecs[1], v, N, false) < N * 4);
    for (int i = 0; i < N; i++) v[i] = 5;
    assert_true(round_trip(&codecs[0], v, N, false) <= 12 + N / 8);
}

/* The bit forms, written down: a format on disk must not change by accident. */
static void test_format(void **state)
{
    (void)state;
    static const struct {
        int64_t delta;
        size_t bits;
    } cases[] = {
        {0, 1},
        {1, 9},
        {-1, 9},
        {63, 9},
        {-64, 9},
        {64, 17},
        {-65, 17},
        {8191, 17},
        {-8192, 17},
        {8192, 28},
        {(1 << 23) - 1, 28},
        {-(1 << 23), 28},
        {1 << 23, 41},
        {(INT64_C(1) << 35) - 1, 41},
        {INT64_C(1) << 35, 69},
        {INT64_MAX, 69},
        {INT64_MIN, 69},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tg_buf out;
        struct tg_bitw w;
        struct tg_bitr r;
        int64_t prev = 0;
        tg_buf_init(&out, 0);
        assert_int_equal(tg_buf_reserve(&out, 16 + TG_BITS_SLACK), TG_OK);
        tg_bitw_init(&w, &out);
        tg_delta_put(&w, &prev, cases[i].delta);
        assert_int_equal(out.len * 8 + w.used, cases[i].bits);
        tg_bitw_flush(&w);
        prev = 0;
        tg_bitr_init(&r, out.data, out.data + out.len);
        assert_true(tg_delta_get(&r, &prev) == cases[i].delta);
        tg_buf_deinit(&out);
    }
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
        {"gorilla's bytes", {'G', 1}, 10},
        {"count over the length", {'?', 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 11},
        {"huge count", {'?', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 20},
        {"64 bits cut", {'?', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 1, 2, 3}, 14},
        {"padding not zero", {'?', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x01}, 11},
        {"bytes behind none", {'?', 0, 0}, 3},
    };
    int64_t v[200];
    size_t n;
    struct tg_err err;
    for (int c = 0; c < 2; c++) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            uint8_t bytes[24];
            memcpy(bytes, cases[i].bytes, sizeof(bytes));
            if (bytes[0] == '?') bytes[0] = (uint8_t)codecs[c].id;
            for (int twice = 0; twice < 2; twice++)
                if (codecs[c].decode(bytes, cases[i].len, v, 200, &n, &err) != TG_ERR_CORRUPT)
                    fail_msg("%s was taken", cases[i].name);
        }
        /* one codec's bytes are not the other's */
        struct tg_buf out;
        tg_buf_init(&out, 0);
        for (int i = 0; i < 50; i++) v[i] = i * i;
        assert_int_equal(codecs[c].encode(v, 50, &out, &err), TG_OK);
        assert_int_equal(codecs[!c].decode(out.data, out.len, v, 200, &n, &err), TG_ERR_CORRUPT);
        assert_non_null(strstr(err.msg, "delta"));
        tg_buf_deinit(&out);
    }
}

static void test_failing_memory(void **state)
{
    (void)state;
    enum { N = 2000 };
    int64_t *v = malloc(N * sizeof(*v));
    for (int i = 0; i < N; i++) v[i] = (int64_t)rng();
    for (int c = 0; c < 2; c++) {
        for (uint64_t n = 1;; n++) {
            struct tg_buf out;
            struct tg_err err;
            tg_buf_init(&out, 0);
            tg_mem_fail_at(n);
            const enum tg_code code = codecs[c].encode(v, N, &out, &err);
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
        assert_int_equal(codecs[c].encode(v, N, &small, &err), TG_ERR_TOO_LARGE);
        assert_int_equal(small.len, 0);
        tg_buf_deinit(&small);
    }
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special), cmocka_unit_test(test_random),
        cmocka_unit_test(test_size),    cmocka_unit_test(test_format),
        cmocka_unit_test(test_corrupt), cmocka_unit_test(test_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
