/* The parts of the Parquet codec: Thrift compact protocol, RLE hybrid, delta packing, dictionaries,
 * statistics, exemplars as JSON. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/parquet/parquet_delta.h"
#include "core/parquet/parquet_dict.h"
#include "core/parquet/parquet_json.h"
#include "core/parquet/parquet_meta.h"
#include "core/parquet/parquet_rle.h"
#include "core/parquet/parquet_stats.h"
#include "core/parquet/thrift.h"
#include "tests/support/rng.h"

/* Rows of tables leave out what is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

static uint64_t rng_state = 88172645463325252ull;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

/* ---- thrift ---- */

static void test_thrift_bytes(void **state)
{
    (void)state;
    struct tg_buf b;
    struct tg_thriftw w;
    tg_buf_init(&b, 0);
    tg_thriftw_init(&w, &b);
    tg_thriftw_begin(&w);
    tg_thriftw_i32(&w, 1, 1);
    tg_thriftw_bool(&w, 3, true);
    tg_thriftw_bool(&w, 4, false);
    tg_thriftw_i8(&w, 20, -1); /* delta 16: the long form */
    tg_thriftw_str(&w, 21, "ab");
    tg_thriftw_list(&w, 22, TG_THRIFT_I32, 2);
    tg_thriftw_item_int(&w, 0);
    tg_thriftw_item_int(&w, -1);
    tg_thriftw_struct(&w, 23);
    tg_thriftw_i64(&w, 1, INT64_MIN);
    tg_thriftw_end(&w);
    tg_thriftw_i16(&w, 24, 300);
    tg_thriftw_end(&w);
    assert_int_equal(w.code, TG_OK);
    static const uint8_t want[] = {0x15, 0x02,             /* 1: i32 1 */
                                   0x21, 0x12,             /* 3: true, 4: false */
                                   0x03, 0x28, 0xff,       /* 20: i8 -1 */
                                   0x18, 0x02, 'a',  'b',  /* 21: "ab" */
                                   0x19, 0x25, 0x00, 0x01, /* 22: list of 2 i32 */
                                   0x1c,                   /* 23: struct */
                                   0x16, 0xff, 0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0x01, 0x00, /* INT64_MIN */
                                   0x14, 0xd8, 0x04,                   /* 24: i16 300 */
                                   0x00};
    assert_int_equal(b.len, sizeof(want));
    assert_memory_equal(b.data, want, sizeof(want));

    struct tg_thriftr r;
    int id;
    enum tg_thrift_type t;
    tg_thriftr_init(&r, b.data, b.len);
    tg_thriftr_begin(&r);
    for (int seen = 0; tg_thriftr_field(&r, &id, &t); seen++) {
        static const int ids[] = {1, 3, 4, 20, 21, 22, 23, 24};
        size_t len;
        assert_int_equal(id, ids[seen]);
        switch (id) {
        case 1: assert_int_equal(tg_thriftr_i32(&r, t), 1); break;
        case 3: assert_true(tg_thriftr_bool(&r, t)); break;
        case 4: assert_false(tg_thriftr_bool(&r, t)); break;
        case 20: assert_int_equal(tg_thriftr_i8(&r, t), -1); break;
        case 21: assert_memory_equal(tg_thriftr_binary(&r, t, &len), "ab", 2); break;
        case 22:
            assert_int_equal(tg_thriftr_list(&r, t, TG_THRIFT_I32, 9), 2);
            assert_int_equal(tg_thriftr_int(&r, TG_THRIFT_I32), 0);
            assert_int_equal(tg_thriftr_int(&r, TG_THRIFT_I32), -1);
            break;
        case 23:
            tg_thriftr_begin(&r);
            assert_true(tg_thriftr_field(&r, &id, &t));
            assert_true(tg_thriftr_int(&r, t) == INT64_MIN);
            assert_false(tg_thriftr_field(&r, &id, &t));
            break;
        default: assert_int_equal(tg_thriftr_int(&r, t), 300); break;
        }
    }
    assert_false(r.failed);
    assert_ptr_equal(r.p, r.end);
    /* cut anywhere it fails, also when all is skipped; whole it does not */
    for (size_t len = 0; len <= b.len; len++) {
        uint8_t *cut = malloc(len ? len : 1);
        memcpy(cut, b.data, len);
        tg_thriftr_init(&r, cut, len);
        tg_thriftr_begin(&r);
        while (tg_thriftr_field(&r, &id, &t)) tg_thriftr_skip(&r, t);
        assert_int_equal(r.failed, len < b.len);
        free(cut);
    }
    tg_buf_deinit(&b);
}

static void test_thrift_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t bytes[40];
        size_t len;
    } cases[] = {
        {"unknown type", {0x1d, 0}, 2},
        {"type 0 with an id", {0x10, 0}, 2},
        {"id too large", {0x05, 0x80, 0x80, 0x80, 0x01, 0, 0}, 7},
        {"varint of 11 bytes", {0x15, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0}, 13},
        {"binary past the end", {0x18, 5, 'a', 0}, 4},
        {"list past the end", {0x19, 0xf5, 0xff, 0xff, 0x7f, 0}, 6},
        {"map past the end", {0x1b, 0xff, 0x7f, 0x55, 0}, 5},
        {"structs too deep",
         {0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c,
          0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c},
         39},
        {"lists too deep",
         {0x19, 0x19, 0x19, 0x19, 0x19, 0x19, 0x19, 0x19, 0x19, 0x19,
          0x19, 0x19, 0x19, 0x19, 0x19, 0x19, 0x19, 0x19, 0x19, 0x19},
         39},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        for (int twice = 0; twice < 2; twice++) {
            struct tg_thriftr r;
            int id;
            enum tg_thrift_type t;
            tg_thriftr_init(&r, cases[i].bytes, cases[i].len);
            tg_thriftr_begin(&r);
            while (tg_thriftr_field(&r, &id, &t)) tg_thriftr_skip(&r, t);
            if (!r.failed) fail_msg("%s", cases[i].name);
        }
    }
    struct tg_buf b;
    struct tg_thriftw w;
    tg_buf_init(&b, 0);
    tg_thriftw_init(&w, &b);
    tg_thriftw_begin(&w);
    for (int i = 0; i < TG_THRIFT_MAX_DEPTH; i++) tg_thriftw_struct(&w, 1);
    assert_int_equal(w.code, TG_ERR_TOO_LARGE);
    tg_buf_deinit(&b);
    tg_buf_init(&b, 4);
    tg_thriftw_init(&w, &b);
    tg_thriftw_begin(&w);
    for (int i = 1; i < 9; i++) tg_thriftw_str(&w, i, "too much");
    tg_thriftw_end(&w);
    assert_int_equal(w.code, TG_ERR_TOO_LARGE);
    tg_buf_deinit(&b);
}

/* ---- RLE ---- */

static void test_rle_bytes(void **state)
{
    (void)state;
    struct tg_buf b;
    struct tg_parquet_rle e;
    tg_buf_init(&b, 0);
    tg_parquet_rle_init(&e, &b, 3); /* the example of Encodings.md */
    for (uint32_t i = 0; i < 8; i++) tg_parquet_rle_run(&e, i, 1);
    assert_int_equal(tg_parquet_rle_finish(&e), TG_OK);
    static const uint8_t packed[] = {0x03, 0x88, 0xc6, 0xfa};
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, packed, 4);

    tg_buf_reset(&b);
    tg_parquet_rle_init(&e, &b, 9); /* a run of 100, value in two bytes */
    tg_parquet_rle_run(&e, 300, 100);
    assert_int_equal(tg_parquet_rle_finish(&e), TG_OK);
    static const uint8_t run[] = {0xc8, 0x01, 0x2c, 0x01};
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, run, 4);
    tg_buf_deinit(&b);
}

static void test_rle_round_trips(void **state)
{
    (void)state;
    enum { N = 6000 };
    static uint32_t in[N], out[N];
    for (unsigned width = 1; width <= 32; width++) {
        for (unsigned style = 0; style < 4; style++) {
            struct tg_buf b;
            struct tg_parquet_rle e;
            struct tg_parquet_rle_reader r;
            const uint32_t mask = width == 32 ? UINT32_MAX : (UINT32_C(1) << width) - 1;
            tg_buf_init(&b, 0);
            tg_parquet_rle_init(&e, &b, width);
            size_t n = 0;
            while (n < N - 200) {
                const uint32_t v = (uint32_t)rng() & mask;
                const uint32_t len = style == 0   ? 1
                                     : style == 1 ? (uint32_t)(rng() % 12) + 1
                                     : style == 2 ? 97
                                                  : (rng() & 1 ? 1 : 8);
                tg_parquet_rle_run(&e, v, len);
                for (uint32_t i = 0; i < len; i++) in[n++] = v;
            }
            assert_int_equal(tg_parquet_rle_finish(&e), TG_OK);
            uint8_t *exact = malloc(b.len);
            memcpy(exact, b.data, b.len);
            tg_parquet_rle_reader_init(&r, exact, b.len, width);
            for (size_t at = 0; at < n;) { /* in odd pieces */
                const size_t now = n - at < 13 ? n - at : 13;
                assert_true(tg_parquet_rle_reader_get(&r, out + at, now));
                at += now;
            }
            assert_memory_equal(in, out, n * sizeof(*in));
            /* cut short it gives fewer values, and says so */
            tg_parquet_rle_reader_init(&r, exact, b.len - 1, width);
            assert_false(tg_parquet_rle_reader_get(&r, out, n));
            free(exact);
            tg_buf_deinit(&b);
        }
    }
}

static void test_rle_refuses(void **state)
{
    (void)state;
    static const struct {
        unsigned width;
        uint8_t bytes[12];
        size_t len;
    } cases[] = {
        {3, {0}, 0},
        {3, {0x00, 0x01}, 2},                         /* a run of none */
        {3, {0x01}, 1},                               /* no groups */
        {3, {0x10}, 1},                               /* value missing */
        {3, {0x10, 0x08}, 2},                         /* value over the width */
        {3, {0x03, 1, 2}, 3},                         /* packed bytes missing */
        {33, {0x10, 1, 1, 1, 1, 1}, 6},               /* no such width */
        {8, {255, 255, 255, 255, 255, 1, 7}, 7},      /* a run over 2^31 */
        {1, {0x81, 0x80, 0x80, 0x80, 0x80, 0x01}, 6}, /* groups over 2^31 */
        {8, {0x80, 0x80}, 2},                         /* header cut */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        for (int twice = 0; twice < 2; twice++) {
            struct tg_parquet_rle_reader r;
            uint32_t v;
            uint8_t u;
            tg_parquet_rle_reader_init(&r, cases[i].bytes, cases[i].len, cases[i].width);
            assert_false(tg_parquet_rle_reader_get(&r, &v, 1));
            tg_parquet_rle_reader_init(&r, cases[i].bytes, cases[i].len, cases[i].width);
            assert_false(tg_parquet_rle_reader_get_u8(&r, &u, 1));
        }
    }
    struct tg_parquet_rle_reader r; /* width 0: only zeros, from no bytes */
    static const uint8_t zeros[] = {0x14};
    uint32_t v[10] = {1, 1};
    tg_parquet_rle_reader_init(&r, zeros, 1, 0);
    assert_true(tg_parquet_rle_reader_get(&r, v, 10));
    assert_int_equal(v[0] | v[9], 0);
}

/* ---- delta ---- */

static void test_delta_bytes(void **state)
{
    (void)state;
    static const int64_t in[] = {7, 5, 3, 1, 2, 3, 4, 5}; /* example 2 of Encodings.md */
    struct tg_buf b;
    tg_buf_init(&b, 0);
    assert_int_equal(tg_parquet_delta_encode(in, 8, &b), TG_OK);
    static const uint8_t want[] = {0x80, 0x01, 0x04, 0x08, 0x0e, /* 128, 4, 8 values, 7 */
                                   0x03, 2,    0,    0,    0,    /* -2, widths */
                                   0xc0, 0x3f, 0,    0,    0,    0, 0, 0};
    assert_int_equal(b.len, sizeof(want));
    assert_memory_equal(b.data, want, sizeof(want));
    tg_buf_deinit(&b);
}

static void test_delta_round_trips(void **state)
{
    (void)state;
    enum { N = 700 };
    static int64_t in[N], out[N];
    for (unsigned style = 0; style < 70; style++) {
        static const size_t lens[] = {0, 1, 2, 32, 33, 34, 128, 129, 130, 257, 513, N};
        for (size_t i = 0; i < N; i++) {
            const uint64_t r = rng();
            if (style < 64) /* deltas of up to `style` bits */
                in[i] = (int64_t)((i ? (uint64_t)in[i - 1] : r) + (style ? r >> (64 - style) : 0));
            else if (style == 64)
                in[i] = i % 2 ? INT64_MAX : INT64_MIN;
            else if (style == 65)
                in[i] = (int64_t)r;
            else
                in[i] = (int64_t)(i / 50 * 1000000 + i % 50 * style);
        }
        for (size_t k = 0; k < sizeof(lens) / sizeof(*lens); k++) {
            struct tg_buf b;
            tg_buf_init(&b, 0);
            assert_int_equal(tg_parquet_delta_encode(in, lens[k], &b), TG_OK);
            uint8_t *exact = malloc(b.len);
            memcpy(exact, b.data, b.len);
            assert_true(tg_parquet_delta_decode(exact, b.len, out, lens[k]));
            if (lens[k]) assert_memory_equal(in, out, lens[k] * sizeof(*in));
            assert_false(tg_parquet_delta_decode(exact, b.len, out, lens[k] + 1));
            assert_false(tg_parquet_delta_decode(exact, b.len - 1, out, lens[k]));
            free(exact);
            tg_buf_deinit(&b);
        }
    }
}

static void test_delta_refuses(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[16];
        size_t len;
    } cases[] = {
        {{0}, 0},
        {{0x80, 0x02, 4, 2, 0, 0, 0, 0, 0, 0}, 10},    /* blocks of 256 */
        {{0x80, 0x01, 2, 2, 0, 0, 0, 0, 0, 0}, 10},    /* 2 miniblocks */
        {{0x80, 0x01, 4, 3, 0, 0, 0, 0, 0, 0}, 10},    /* another count */
        {{0x80, 0x01, 4, 2, 0, 0, 65, 0, 0, 0}, 10},   /* width 65 */
        {{0x80, 0x01, 4, 2, 0, 0, 1, 0, 0, 0}, 10},    /* packed bytes missing */
        {{0x80, 0x01, 4, 2, 0, 0, 0, 0, 0}, 9},        /* widths missing */
        {{0x80, 0x01, 4, 2, 0, 0, 0, 0, 0, 0, 0}, 11}, /* a byte too many */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int64_t out[2];
        for (int twice = 0; twice < 2; twice++)
            if (tg_parquet_delta_decode(cases[i].bytes, cases[i].len, out, 2)) fail_msg("%zu", i);
    }
    static const uint8_t good[] = {0x80, 0x01, 4, 2, 0, 0, 0, 0, 0, 0};
    int64_t out[2];
    assert_true(tg_parquet_delta_decode(good, sizeof(good), out, 2));
}

/* ---- dictionaries ---- */

static void test_dictionary(void **state)
{
    (void)state;
    struct tg_parquet_dict d;
    char text[2000][8];
    tg_parquet_dict_init(&d);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 4000; i++) {
            uint32_t index;
            const int len = snprintf(text[i % 2000], 8, "%u", i % 2000);
            assert_int_equal(tg_parquet_dict_add(&d, text[i % 2000], (uint32_t)len, &index), TG_OK);
            assert_int_equal(index, i % 2000);
        }
        assert_int_equal(d.n, 2000);
        struct tg_buf b;
        tg_buf_init(&b, 0);
        assert_int_equal(tg_parquet_dict_encode(&d, &b), TG_OK);
        assert_int_equal(b.len, d.plain_bytes);
        assert_memory_equal(b.data,
                            "\1\0\0\0"
                            "0"
                            "\1\0\0\0"
                            "1",
                            10);
        tg_buf_deinit(&b);
        tg_parquet_dict_reset(&d);
        assert_int_equal(d.n, 0);
    }
    tg_parquet_dict_deinit(&d);
    for (uint64_t nth = 1;; nth++) {
        enum tg_code code = TG_OK;
        tg_parquet_dict_init(&d);
        tg_mem_fail_at(nth);
        for (unsigned i = 0; i < 2000 && code == TG_OK; i++) {
            uint32_t index;
            code = tg_parquet_dict_add(&d, text[i], (uint32_t)strlen(text[i]), &index);
        }
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        tg_parquet_dict_deinit(&d);
        if (!fired) break;
    }
}

/* ---- statistics ---- */

static void test_double_statistics(void **state)
{
    (void)state;
    static const struct {
        double v[4];
        size_t n;
        bool has;
        double min, max;
        uint64_t n_nan;
    } cases[] = {
        {{1, 2, 3}, 3, true, 1, 3, 0},
        {{NAN, 2, NAN, 1}, 4, true, 1, 2, 2},
        {{NAN, NAN}, 2, false, 0, 0, 2},
        {{0}, 0, false, 0, 0, 0},
        {{-0.0, 0.0}, 2, true, -0.0, 0.0, 0},
        {{0.0, 0.0}, 2, true, -0.0, 0.0, 0},   /* a zero min is written as -0 */
        {{-0.0, -0.0}, 2, true, -0.0, 0.0, 0}, /* and a zero max as +0 */
        {{-1, -0.0}, 2, true, -1, 0.0, 0},
        {{INFINITY, NAN, -INFINITY}, 3, true, -INFINITY, INFINITY, 1},
        {{INFINITY, INFINITY}, 2, true, INFINITY, INFINITY, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct tg_parquet_stats one, halves, part;
        uint8_t b[TG_PARQUET_BOUND_MAX];
        bool exact;
        tg_parquet_stats_init(&one);
        tg_parquet_stats_f64(&one, cases[i].v, cases[i].n);
        tg_parquet_stats_init(&halves);
        for (size_t k = 0; k < cases[i].n; k++) {
            tg_parquet_stats_init(&part);
            tg_parquet_stats_f64(&part, &cases[i].v[k], 1);
            tg_parquet_stats_merge(&halves, &part, TG_PARQUET_FLOAT);
        }
        for (int h = 0; h < 2; h++) {
            const struct tg_parquet_stats *s = h ? &halves : &one;
            assert_int_equal(s->n_nan, cases[i].n_nan);
            for (int is_max = 0; is_max < 2; is_max++) {
                const int len = tg_parquet_stats_bound(
                    s, &tg_parquet_columns[TG_PARQUET_COLUMN_VALUE], is_max, b, &exact);
                assert_int_equal(len, cases[i].has ? 8 : -1);
                if (cases[i].has) assert_memory_equal(b, is_max ? &cases[i].max : &cases[i].min, 8);
            }
        }
    }
}

static void test_string_statistics(void **state)
{
    (void)state;
#define X32 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    static const struct {
        const char *in, *min, *max; /* NULL = none */
    } cases[] = {
        {"", "", ""},
        {"abc", "abc", "abc"},
        {X32 X32, X32 X32, X32 X32},
        {X32 X32 "a", X32 X32, X32 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxy"},
        /* cut between characters, raised before them */
        {X32 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\xc3\xa9 ", X32 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
         X32 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxy"},
        {"a~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~",
         "a~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~", "b"},
        {"~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~",
         "~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct tg_parquet_stats s;
        uint8_t b[TG_PARQUET_BOUND_MAX];
        bool exact;
        tg_parquet_stats_init(&s);
        tg_parquet_stats_bytes(&s, cases[i].in, (uint32_t)strlen(cases[i].in));
        for (int is_max = 0; is_max < 2; is_max++) {
            const char *want = is_max ? cases[i].max : cases[i].min;
            const int len = tg_parquet_stats_bound(&s, &tg_parquet_columns[TG_PARQUET_COLUMN_NAME],
                                                   is_max, b, &exact);
            assert_int_equal(len, want ? (int)strlen(want) : -1);
            if (want) assert_memory_equal(b, want, strlen(want));
            if (want) assert_int_equal(exact, strlen(cases[i].in) <= TG_PARQUET_BOUND_MAX);
            if (want && is_max) assert_true(strcmp(want, cases[i].in) >= 0);
        }
    }
    struct tg_parquet_stats s;
    tg_parquet_stats_init(&s);
    static const char *const words[] = {"b", "a\xff", "ab", "a", "ba"};
    for (size_t i = 0; i < 5; i++) tg_parquet_stats_bytes(&s, words[i], (uint32_t)strlen(words[i]));
    assert_memory_equal(s.min.str.ptr, "a", 2);
    assert_memory_equal(s.max.str.ptr, "ba", 3);
}

static void test_statistics_round_trip(void **state)
{
    (void)state;
    const int64_t ints[] = {-5, 7};
    const uint64_t uints[] = {3, UINT64_MAX};
    const double doubles[] = {-1.5, 2};
    for (unsigned c = 0; c < TG_PARQUET_COLUMNS; c++) {
        const struct tg_parquet_column *col = &tg_parquet_columns[c];
        struct tg_parquet_stats s, got;
        struct tg_buf b;
        struct tg_thriftw w;
        struct tg_thriftr r;
        int id;
        enum tg_thrift_type t;
        tg_parquet_stats_init(&s);
        s.n_null = 11;
        if (col->order == TG_PARQUET_SIGNED) {
            const int64_t bools[] = {0, 1};
            tg_parquet_stats_i64(&s, col->type == TG_PARQUET_BOOLEAN ? bools : ints, 2);
        }
        if (col->order == TG_PARQUET_UNSIGNED) tg_parquet_stats_u64(&s, uints, 2);
        if (col->order == TG_PARQUET_FLOAT) tg_parquet_stats_f64(&s, doubles, 2);
        if (col->order == TG_PARQUET_BYTES) tg_parquet_stats_bytes(&s, "name", 4);
        tg_buf_init(&b, 0);
        tg_thriftw_init(&w, &b);
        tg_thriftw_begin(&w);
        tg_parquet_stats_write(&w, 12, &s, col);
        tg_thriftw_end(&w);
        tg_thriftr_init(&r, b.data, b.len);
        tg_thriftr_begin(&r);
        assert_true(tg_thriftr_field(&r, &id, &t));
        tg_parquet_stats_read(&r, t, &got, col);
        assert_false(r.failed);
        assert_int_equal(got.n_null, 11);
        assert_int_equal(got.has_min, s.has_min);
        assert_int_equal(got.has_max, s.has_max);
        if (col->order == TG_PARQUET_BYTES)
            assert_memory_equal(got.min.str.ptr, "name", 4);
        else if (s.has_min)
            assert_true(got.min.u64 == s.min.u64 && got.max.u64 == s.max.u64);
        tg_buf_deinit(&b);
    }
}

/* ---- exemplars ---- */

static void test_exemplars(void **state)
{
    (void)state;
    static const uint64_t bits[] = {0,
                                    UINT64_C(0x8000000000000000),
                                    UINT64_C(0x3ff8000000000000),
                                    UINT64_C(0x7ff0000000000000),
                                    UINT64_C(0xfff0000000000000),
                                    UINT64_C(0x7ff0000000000001),
                                    UINT64_C(0xffffffffffffffff),
                                    1,
                                    UINT64_C(0x7fefffffffffffff)};
    for (size_t i = 0; i < sizeof(bits) / sizeof(*bits) + 200; i++) {
        const uint64_t v = i < sizeof(bits) / sizeof(*bits) ? bits[i] : rng();
        const struct tg_string labels[] = {{"k", 1}, {"v\x01\"\\}\xc3\xa9", 7}};
        struct tg_exemplar x = {.ts_ns = (int64_t)rng(), .is_int = i & 1, .has_trace = i & 2};
        memcpy(&x.value, &v, 8);
        if (x.has_trace) memset(x.trace_id, (int)i, 16);
        if (i & 4) {
            x.n_labels = 1;
            x.labels = labels;
        }
        const struct tg_exemplar two[] = {x, x};
        const struct tg_exemplars e = {2, two};
        const struct tg_exemplars *got;
        struct tg_arena arena;
        struct tg_buf b;
        tg_arena_init(&arena, 0);
        tg_buf_init(&b, 0);
        assert_int_equal(tg_parquet_exemplars_encode(&e, &b), TG_OK);
        assert_int_equal(tg_parquet_exemplars_parse((const char *)b.data, b.len, &arena, &got),
                         TG_OK);
        const struct tg_point p = {.type = TG_VALUE_NONE, .exemplars = &e};
        const struct tg_point q = {.type = TG_VALUE_NONE, .exemplars = got};
        assert_true(tg_point_equal(&p, &q));
        /* cut anywhere: refused */
        for (size_t len = 0; len < b.len; len++) {
            tg_arena_reset(&arena);
            char *cut = malloc(len ? len : 1);
            memcpy(cut, b.data, len);
            assert_int_equal(tg_parquet_exemplars_parse(cut, len, &arena, &got), TG_ERR_CORRUPT);
            free(cut);
        }
        for (uint64_t nth = 1;; nth++) {
            tg_arena_deinit(&arena);
            tg_arena_init(&arena, 0);
            tg_mem_fail_at(nth);
            const enum tg_code code =
                tg_parquet_exemplars_parse((const char *)b.data, b.len, &arena, &got);
            const bool fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
            if (!fired) break;
        }
        tg_arena_deinit(&arena);
        tg_buf_deinit(&b);
    }
}

static void test_exemplars_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[",
        "{}",
        "[{}]",
        "[] ",
        "[{\"time\":1,\"value\":x}]",
        "[{\"time\":1,\"value\":1e999}]",
        "[{\"time\":1,\"value\":\"NaN:3ff0000000000000\"}]",
        "[{\"time\":1.5,\"value\":1}]",
        "[{\"time\":1,\"value\":1,\"trace_id\":\"00\"}]",
        "[{\"time\":1,\"value\":1,\"labels\":{\"a\":1}}]",
        "[{\"time\":1,\"value\":1,\"labels\":{\"a\":\"\\n\"}}]",
        "[{\"time\":1,\"value\":1,\"labels\":{\"a\":\"\\u00ff\"}}]",
        "[{\"time\":1,\"value\":1},]",
        "[{\"time\":11111111111111111111111111111111111111111,\"value\":1}]",
    };
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        const struct tg_exemplars *got;
        for (int twice = 0; twice < 2; twice++)
            if (tg_parquet_exemplars_parse(bad[i], strlen(bad[i]), &arena, &got) != TG_ERR_CORRUPT)
                fail_msg("%s", bad[i]);
    }
    tg_arena_deinit(&arena);
}

/* ---- page headers ---- */

static void test_page_headers(void **state)
{
    (void)state;
    const struct tg_parquet_page_header cases[] = {
        {TG_PARQUET_DATA_PAGE, 100, 50, true, 0xdeadbeef, 7, TG_PARQUET_RLE_DICTIONARY},
        {TG_PARQUET_DATA_PAGE, 0, 0, false, 0, 0, TG_PARQUET_PLAIN},
        {TG_PARQUET_DICTIONARY_PAGE, INT32_MAX, INT32_MAX, true, 1, INT32_MAX, TG_PARQUET_PLAIN},
    };
    for (size_t i = 0; i < 3; i++) {
        struct tg_buf b;
        struct tg_thriftw w;
        struct tg_thriftr r;
        struct tg_parquet_page_header h;
        tg_buf_init(&b, 0);
        tg_thriftw_init(&w, &b);
        tg_parquet_page_header_write(&w, &cases[i]);
        tg_thriftr_init(&r, b.data, b.len);
        assert_int_equal(tg_parquet_page_header_read(&r, &h), TG_OK);
        assert_int_equal(h.type, cases[i].type);
        assert_int_equal(h.uncompressed_bytes, cases[i].uncompressed_bytes);
        assert_int_equal(h.compressed_bytes, cases[i].compressed_bytes);
        assert_int_equal(h.has_crc, cases[i].has_crc);
        assert_int_equal(h.crc, cases[i].crc);
        assert_int_equal(h.n_values, cases[i].n_values);
        assert_int_equal(h.encoding, cases[i].encoding);
        for (size_t len = 0; len < b.len; len++) {
            tg_thriftr_init(&r, b.data, len);
            assert_int_equal(tg_parquet_page_header_read(&r, &h), TG_ERR_CORRUPT);
        }
        tg_buf_deinit(&b);
    }
}

int main(void)
{
    tg_hash_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thrift_bytes),      cmocka_unit_test(test_thrift_refuses),
        cmocka_unit_test(test_rle_bytes),         cmocka_unit_test(test_rle_round_trips),
        cmocka_unit_test(test_rle_refuses),       cmocka_unit_test(test_delta_bytes),
        cmocka_unit_test(test_delta_round_trips), cmocka_unit_test(test_delta_refuses),
        cmocka_unit_test(test_dictionary),        cmocka_unit_test(test_double_statistics),
        cmocka_unit_test(test_string_statistics), cmocka_unit_test(test_statistics_round_trip),
        cmocka_unit_test(test_exemplars),         cmocka_unit_test(test_exemplars_refused),
        cmocka_unit_test(test_page_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
