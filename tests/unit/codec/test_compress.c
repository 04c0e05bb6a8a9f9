/* Compressions: round trips, bounds, damage of every byte, failing memory. */
#include "core/codec/compress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "tests/support/rng.h"

static const enum tg_encoding all[] = {
    TG_ENCODING_IDENTITY, TG_ENCODING_GZIP,   TG_ENCODING_ZLIB,
    TG_ENCODING_DEFLATE,  TG_ENCODING_SNAPPY, TG_ENCODING_ZSTD,
};
enum { N_ALL = sizeof(all) / sizeof(all[0]) };

static uint64_t rng_state = 42;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

/* n bytes: zeros, text-like or random by `how`; returns owned (free) */
static uint8_t *make_input(size_t n, int how)
{
    uint8_t *p = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = how == 0   ? 0
               : how == 1 ? (uint8_t) "cpu,host=a usage=1.5\n"[(i + rng() % 2) % 21]
                          : (uint8_t)rng();
    return p;
}

static void test_round_trip(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 17, 1000, 65536, 1 << 20};
    struct tg_compress c;
    tg_compress_init(&c);
    for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (int how = 0; how < 3; how++) {
            uint8_t *in = make_input(sizes[s], how);
            for (unsigned e = 0; e < N_ALL; e++) {
                struct tg_buf packed;
                struct tg_buf back;
                tg_buf_init(&packed, 0);
                tg_buf_init(&back, 0);
                assert_int_equal(tg_buf_append(&packed, "abc", 3), TG_OK); /* appends */
                assert_int_equal(tg_buf_append(&back, "xy", 2), TG_OK);
                struct tg_err err = {0};
                assert_int_equal(tg_compress_encode(&c, all[e], in, sizes[s], &packed, &err),
                                 TG_OK);
                assert_memory_equal(packed.data, "abc", 3);
                /* exactly at the limit */
                assert_int_equal(tg_compress_decode(&c, all[e], packed.data + 3, packed.len - 3,
                                                    sizes[s], &back, &err),
                                 TG_OK);
                assert_int_equal(back.len, sizes[s] + 2);
                assert_memory_equal(back.data, "xy", 2);
                if (sizes[s]) assert_memory_equal(back.data + 2, in, sizes[s]);
                /* one byte under it: twice, and the output is as it was */
                for (int twice = 0; twice < 2 && sizes[s]; twice++) {
                    back.len = 2;
                    assert_int_equal(tg_compress_decode(&c, all[e], packed.data + 3, packed.len - 3,
                                                        sizes[s] - 1, &back, &err),
                                     TG_ERR_TOO_LARGE);
                    char number[64];
                    (void)snprintf(number, sizeof(number), "limit of %zu bytes", sizes[s] - 1);
                    assert_non_null(strstr(err.msg, number));
                    assert_int_equal(back.len, 2);
                }
                tg_buf_deinit(&packed);
                tg_buf_deinit(&back);
            }
            free(in);
        }
    }
    tg_compress_deinit(&c);
}

static void test_output_maximum(void **state)
{
    (void)state;
    struct tg_compress c;
    tg_compress_init(&c);
    uint8_t *in = make_input(100000, 1);
    for (unsigned e = 0; e < N_ALL; e++) {
        struct tg_buf packed;
        struct tg_buf back;
        struct tg_err err;
        tg_buf_init(&packed, 0);
        assert_int_equal(tg_compress_encode(&c, all[e], in, 100000, &packed, &err), TG_OK);
        tg_buf_init(&back, 99999);
        assert_int_equal(
            tg_compress_decode(&c, all[e], packed.data, packed.len, 1 << 20, &back, &err),
            TG_ERR_TOO_LARGE);
        assert_non_null(strstr(err.msg, "99999"));
        assert_true(back.cap <= 99999);
        tg_buf_deinit(&back);
        tg_buf_init(&back, 100000);
        assert_int_equal(
            tg_compress_decode(&c, all[e], packed.data, packed.len, 1 << 20, &back, &err), TG_OK);
        tg_buf_deinit(&back);
        tg_buf_init(&back, 10);
        assert_int_equal(tg_compress_encode(&c, all[e], in, 100000, &back, &err), TG_ERR_TOO_LARGE);
        assert_int_equal(back.len, 0);
        tg_buf_deinit(&back);
        tg_buf_deinit(&packed);
    }
    free(in);
    tg_compress_deinit(&c);
}

/* 64 MiB of zeros behind a limit of 1 MiB: refused, and no more than the limit is ever held. */
static void test_bomb(void **state)
{
    (void)state;
    const size_t huge = (size_t)64 << 20;
    const size_t limit = (size_t)1 << 20;
    struct tg_compress c;
    tg_compress_init(&c);
    uint8_t *in = calloc(1, huge);
    for (unsigned e = 1; e < N_ALL; e++) {
        struct tg_buf packed;
        struct tg_buf back;
        struct tg_err err;
        tg_buf_init(&packed, 0);
        tg_buf_init(&back, 0);
        assert_int_equal(tg_compress_encode(&c, all[e], in, huge, &packed, &err), TG_OK);
        assert_int_equal(
            tg_compress_decode(&c, all[e], packed.data, packed.len, limit, &back, &err),
            TG_ERR_TOO_LARGE);
        assert_true(back.cap <= limit);
        tg_buf_deinit(&packed);
        tg_buf_deinit(&back);
    }
    free(in);
    tg_compress_deinit(&c);
}

/* Sizes in the input that lie must not make us allocate them. */
static void test_lying_sizes(void **state)
{
    (void)state;
    struct tg_compress c;
    tg_compress_init(&c);
    struct tg_buf packed;
    struct tg_buf back;
    struct tg_err err;
    uint8_t *in = make_input(5000, 1);

    /* gzip: ISIZE is checked at the end, but must not be trusted before */
    tg_buf_init(&packed, 0);
    tg_buf_init(&back, 0);
    assert_int_equal(tg_compress_encode(&c, TG_ENCODING_GZIP, in, 5000, &packed, &err), TG_OK);
    memset(packed.data + packed.len - 4, 0xff, 4);
    assert_int_equal(tg_compress_decode(&c, TG_ENCODING_GZIP, packed.data, packed.len,
                                        (size_t)1 << 40, &back, &err),
                     TG_ERR_MALFORMED);
    assert_true(back.cap < 1 << 20);
    memset(packed.data + packed.len - 4, 0, 4); /* too small a hint is only a slower one */
    packed.data[packed.len - 4] = 1;
    assert_int_equal(tg_compress_decode(&c, TG_ENCODING_GZIP, packed.data, packed.len,
                                        (size_t)1 << 40, &back, &err),
                     TG_ERR_MALFORMED); /* wrong ISIZE is damage in the end */
    packed.len = 0;

    /* snappy: 4 GiB - 1 claimed by ten bytes */
    static const uint8_t liar[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 'x', 0, 0, 0};
    assert_int_equal(tg_compress_decode(&c, TG_ENCODING_SNAPPY, liar, sizeof(liar), (size_t)1 << 40,
                                        &back, &err),
                     TG_ERR_MALFORMED);
    assert_true(back.cap < 1 << 20);

    /* zstd: a frame header that claims 2^62 bytes */
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0,
                                    0,    0,    0,    0,    0x40, 1, 0, 0};
    assert_int_not_equal(tg_compress_decode(&c, TG_ENCODING_ZSTD, frame, sizeof(frame),
                                            (size_t)1 << 40, &back, &err),
                         TG_OK);
    assert_true(back.cap < 1 << 20);
    tg_buf_deinit(&packed);
    tg_buf_deinit(&back);
    free(in);
    tg_compress_deinit(&c);
}

static void test_members(void **state)
{
    (void)state;
    struct tg_compress c;
    tg_compress_init(&c);
    struct tg_buf packed;
    struct tg_buf back;
    struct tg_err err;
    tg_buf_init(&packed, 0);
    tg_buf_init(&back, 0);
    static const enum tg_encoding several[] = {TG_ENCODING_GZIP, TG_ENCODING_ZSTD};
    for (int i = 0; i < 2; i++) {
        packed.len = back.len = 0;
        assert_int_equal(tg_compress_encode(&c, several[i], "hello ", 6, &packed, &err), TG_OK);
        assert_int_equal(tg_compress_encode(&c, several[i], "", 0, &packed, &err), TG_OK);
        assert_int_equal(tg_compress_encode(&c, several[i], "world", 5, &packed, &err), TG_OK);
        assert_int_equal(
            tg_compress_decode(&c, several[i], packed.data, packed.len, 11, &back, &err), TG_OK);
        assert_int_equal(back.len, 11);
        assert_memory_equal(back.data, "hello world", 11);
        back.len = 0;
        assert_int_equal(
            tg_compress_decode(&c, several[i], packed.data, packed.len, 10, &back, &err),
            TG_ERR_TOO_LARGE);
        assert_int_equal(tg_buf_append(&packed, "junk behind the end", 19), TG_OK);
        assert_int_equal(
            tg_compress_decode(&c, several[i], packed.data, packed.len, 100, &back, &err),
            TG_ERR_MALFORMED);
        assert_int_equal(back.len, 0);
    }
    /* formats with one text: bytes behind it are refused */
    static const enum tg_encoding one[] = {TG_ENCODING_ZLIB, TG_ENCODING_DEFLATE,
                                           TG_ENCODING_SNAPPY};
    for (int i = 0; i < 3; i++) {
        packed.len = back.len = 0;
        assert_int_equal(tg_compress_encode(&c, one[i], "hello", 5, &packed, &err), TG_OK);
        assert_int_equal(tg_buf_append(&packed, "x", 1), TG_OK);
        for (int twice = 0; twice < 2; twice++)
            assert_int_equal(
                tg_compress_decode(&c, one[i], packed.data, packed.len, 100, &back, &err),
                TG_ERR_MALFORMED);
    }
    /* raw deflate under the name deflate: 01 = final stored block */
    static const uint8_t raw[] = {0x01, 2, 0, 0xfd, 0xff, 'h', 'i'};
    back.len = 0;
    assert_int_equal(
        tg_compress_decode(&c, TG_ENCODING_DEFLATE, raw, sizeof(raw), 100, &back, &err), TG_OK);
    assert_int_equal(back.len, 2);
    assert_memory_equal(back.data, "hi", 2);
    assert_int_equal(tg_compress_decode(&c, TG_ENCODING_ZLIB, raw, sizeof(raw), 100, &back, &err),
                     TG_ERR_MALFORMED);
    tg_buf_deinit(&packed);
    tg_buf_deinit(&back);
    tg_compress_deinit(&c);
}

/* Cut at every length and changed at every byte: an error or the right length, never a crash. */
static void test_damage(void **state)
{
    (void)state;
    struct tg_compress c;
    tg_compress_init(&c);
    uint8_t *in = make_input(600, 1);
    for (unsigned e = 1; e < N_ALL; e++) {
        struct tg_buf packed;
        struct tg_buf back;
        struct tg_err err;
        tg_buf_init(&packed, 0);
        tg_buf_init(&back, 0);
        assert_int_equal(tg_compress_encode(&c, all[e], in, 600, &packed, &err), TG_OK);
        for (size_t n = 0; n < packed.len; n++) {
            uint8_t *exact = malloc(n + !n); /* so that ASan sees a read past the end */
            memcpy(exact, packed.data, n);
            assert_int_not_equal(tg_compress_decode(&c, all[e], exact, n, 4096, &back, &err),
                                 TG_OK);
            assert_int_equal(back.len, 0);
            free(exact);
        }
        for (size_t i = 0; i < packed.len; i++) {
            for (int bit = 0; bit < 8; bit++) {
                packed.data[i] ^= (uint8_t)(1 << bit);
                const enum tg_code code =
                    tg_compress_decode(&c, all[e], packed.data, packed.len, 4096, &back, &err);
                if (code != TG_OK) assert_int_equal(back.len, 0);
                back.len = 0;
                packed.data[i] ^= (uint8_t)(1 << bit);
            }
        }
        assert_int_equal(tg_compress_decode(&c, all[e], packed.data, packed.len, 4096, &back, &err),
                         TG_OK);
        assert_int_equal(back.len, 600);
        tg_buf_deinit(&packed);
        tg_buf_deinit(&back);
    }
    free(in);
    tg_compress_deinit(&c);
}

static void test_failing_memory(void **state)
{
    (void)state;
    uint8_t *in = make_input(5000, 1);
    for (unsigned e = 0; e < N_ALL; e++) {
        for (uint64_t n = 1;; n++) {
            const uint64_t before = tg_mem_used();
            struct tg_compress c;
            struct tg_buf packed;
            struct tg_buf back;
            struct tg_err err;
            tg_compress_init(&c);
            tg_buf_init(&packed, 0);
            tg_buf_init(&back, 0);
            tg_mem_fail_at(n);
            enum tg_code code = tg_compress_encode(&c, all[e], in, 5000, &packed, &err);
            if (code == TG_OK)
                code = tg_compress_decode(&c, all[e], packed.data, packed.len, 5000, &back, &err);
            const bool fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
            if (fired) { /* the same context works again */
                packed.len = back.len = 0;
                assert_int_equal(tg_compress_encode(&c, all[e], in, 5000, &packed, &err), TG_OK);
                assert_int_equal(
                    tg_compress_decode(&c, all[e], packed.data, packed.len, 5000, &back, &err),
                    TG_OK);
                assert_int_equal(back.len, 5000);
            }
            tg_buf_deinit(&packed);
            tg_buf_deinit(&back);
            tg_compress_deinit(&c);
            assert_int_equal(tg_mem_used(), before);
            if (!fired) break;
        }
    }
    free(in);
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int want; /* -1: unsupported */
    } cases[] = {
        {"", TG_ENCODING_IDENTITY},
        {"identity", TG_ENCODING_IDENTITY},
        {"gzip", TG_ENCODING_GZIP},
        {"GZip", TG_ENCODING_GZIP},
        {"x-gzip", TG_ENCODING_GZIP},
        {"deflate", TG_ENCODING_DEFLATE},
        {"snappy", TG_ENCODING_SNAPPY},
        {"zstd", TG_ENCODING_ZSTD},
        {"br", -1},
        {"gzip, gzip", -1},
        {"gzi", -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum tg_encoding e = TG_ENCODING_IDENTITY;
        struct tg_err err;
        const enum tg_code code = tg_encoding_parse(cases[i].name, strlen(cases[i].name), &e, &err);
        if (cases[i].want < 0) {
            assert_int_equal(code, TG_ERR_UNSUPPORTED);
            assert_non_null(strstr(err.msg, "gzip"));
        } else {
            assert_int_equal(code, TG_OK);
            assert_int_equal(e, cases[i].want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_output_maximum),
        cmocka_unit_test(test_bomb),           cmocka_unit_test(test_lying_sizes),
        cmocka_unit_test(test_members),        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_failing_memory), cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
