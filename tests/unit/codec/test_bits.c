/* Bit streams against a plain array of bits. */
#include "core/codec/bits.h"
#include "tests/support/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t rng_state = 7;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

static uint64_t low_bits(uint64_t v, unsigned n)
{
    return n == 64 ? v : v & ((UINT64_C(1) << n) - 1);
}

enum { MAX_ITEMS = 400 };

/* Writes random items, checks every byte against the bits one by one, and reads them back, through
 * get and, where it may, get_small. */
static void one_round(unsigned widest)
{
    uint64_t values[MAX_ITEMS];
    unsigned widths[MAX_ITEMS];
    uint8_t *bits = calloc(MAX_ITEMS, 64);
    const unsigned n = (unsigned)(rng() % MAX_ITEMS);
    size_t total = 0;
    struct tg_buf out;
    struct tg_bitw w;
    tg_buf_init(&out, 0);
    assert_int_equal(tg_buf_append(&out, "ab", 2), TG_OK);
    assert_int_equal(tg_buf_reserve(&out, n * 8 + TG_BITS_SLACK), TG_OK);
    tg_bitw_init(&w, &out);
    for (unsigned i = 0; i < n; i++) {
        widths[i] = (unsigned)(rng() % (widest + 1));
        values[i] = low_bits(rng(), widths[i]);
        tg_bitw_put(&w, values[i], widths[i]);
        for (unsigned b = widths[i]; b > 0; b--) bits[total++] = values[i] >> (b - 1) & 1;
    }
    tg_bitw_flush(&w);
    const size_t n_bytes = (total + 7) / 8;
    assert_int_equal(out.len, 2 + n_bytes);
    assert_memory_equal(out.data, "ab", 2);
    for (size_t i = 0; i < n_bytes * 8; i++)
        assert_int_equal(out.data[2 + i / 8] >> (7 - i % 8) & 1, i < total ? bits[i] : 0);

    uint8_t *exact = malloc(n_bytes + !n_bytes); /* a read past the end is seen */
    memcpy(exact, out.data + 2, n_bytes);
    struct tg_bitr r;
    tg_bitr_init(&r, exact, exact + n_bytes);
    for (unsigned i = 0; i < n; i++) {
        const uint64_t got = widths[i] <= 56 && rng() % 2 ? tg_bitr_get_small(&r, widths[i])
                                                          : tg_bitr_get(&r, widths[i]);
        assert_true(got == values[i]);
        assert_false(r.overrun);
    }
    /* what is left is the padding; one bit more is an overrun, which stays */
    const unsigned pad = (unsigned)(n_bytes * 8 - total);
    assert_int_equal(tg_bitr_get_small(&r, pad), 0);
    assert_false(r.overrun);
    assert_int_equal(tg_bitr_get(&r, 0), 0);
    assert_false(r.overrun);
    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_bitr_get(&r, 1 + (unsigned)(rng() % 64)), 0);
        assert_true(r.overrun);
    }
    free(exact);
    free(bits);
    tg_buf_deinit(&out);
}

static void test_random(void **state)
{
    (void)state;
    for (int i = 0; i < 400; i++) {
        one_round(64);
        one_round(8);
        one_round(1);
    }
}

/* Every width at every bit position of the writer. */
static void test_every_alignment(void **state)
{
    (void)state;
    struct tg_buf out;
    tg_buf_init(&out, 0);
    assert_int_equal(tg_buf_reserve(&out, 64), TG_OK);
    for (unsigned lead = 0; lead < 64; lead++) {
        for (unsigned n = 0; n <= 64; n++) {
            struct tg_bitw w;
            struct tg_bitr r;
            const uint64_t v = low_bits(UINT64_C(0xA5A5F00FDEADBEEF), n);
            out.len = 0;
            tg_bitw_init(&w, &out);
            tg_bitw_put(&w, low_bits(~UINT64_C(0), lead), lead);
            tg_bitw_put(&w, v, n);
            tg_bitw_put(&w, 1, 1);
            tg_bitw_flush(&w);
            assert_int_equal(out.len, (lead + n + 1 + 7) / 8);
            tg_bitr_init(&r, out.data, out.data + out.len);
            assert_true(tg_bitr_get(&r, lead) == low_bits(~UINT64_C(0), lead));
            assert_true(tg_bitr_get(&r, n) == v);
            assert_int_equal(tg_bitr_get(&r, 1), 1);
            assert_false(r.overrun);
        }
    }
    tg_buf_deinit(&out);
}

static void test_empty(void **state)
{
    (void)state;
    struct tg_buf out;
    struct tg_bitw w;
    struct tg_bitr r;
    tg_buf_init(&out, 0);
    assert_int_equal(tg_buf_reserve(&out, TG_BITS_SLACK), TG_OK);
    tg_bitw_init(&w, &out);
    tg_bitw_flush(&w);
    assert_int_equal(out.len, 0);
    tg_bitr_init(&r, NULL, NULL);
    assert_int_equal(tg_bitr_get(&r, 0), 0);
    assert_false(r.overrun);
    assert_int_equal(tg_bitr_get(&r, 1), 0);
    assert_true(r.overrun);
    tg_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_every_alignment),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
