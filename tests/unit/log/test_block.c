/* Point blocks: encode and decode are inverse for every value; chains restart; damage breaks
 * exactly the chains it should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/log/block.h"
#include "tests/support/log_fixture.h"

enum { N_SERIES = 200 };

struct codec {
    struct lf f;
    struct tg_block_encoder enc;
    struct tg_block_decoder dec;
    struct tg_block_entry entries[N_SERIES];
    struct tg_batch in, out;
    struct tg_buf buf;
    uint32_t refs[1 << 16];
};

static void forget(struct codec *c)
{
    memset(c->entries, 0, sizeof(c->entries));
    for (uint32_t i = 0; i < N_SERIES; i++) {
        c->entries[i].series = c->f.series[i];
        c->entries[i].chain.last_block = TG_CHAIN_NO_BLOCK;
    }
    tg_block_decoder_reset(&c->dec);
}

static struct codec *codec_new(uint64_t seed)
{
    struct codec *c = tg_calloc(1, sizeof(*c));
    assert_non_null(c);
    lf_init(&c->f, N_SERIES, seed);
    c->f.routed = seed % 2;
    assert_int_equal(tg_block_encoder_init(&c->enc), TG_OK);
    assert_int_equal(tg_block_decoder_init(&c->dec), TG_OK);
    uint32_t ref;
    for (uint32_t i = 0; i < N_SERIES; i++) {
        assert_int_equal(tg_block_encoder_add(&c->enc, &ref), TG_OK);
        assert_int_equal(ref, i);
    }
    forget(c);
    tg_batch_init(&c->in, NULL, 0, 0);
    tg_batch_init(&c->out, NULL, 0, 0);
    tg_buf_init(&c->buf, 0);
    return c;
}

static void codec_free(struct codec *c)
{
    tg_block_encoder_deinit(&c->enc);
    tg_block_decoder_deinit(&c->dec);
    tg_batch_deinit(&c->in);
    tg_batch_deinit(&c->out);
    tg_buf_deinit(&c->buf);
    lf_deinit(&c->f);
    tg_free(c);
}

static void set_refs(struct codec *c)
{
    for (uint32_t i = 0; i < c->in.n_points; i++) {
        uint32_t k = 0;
        while (c->f.series[k] != c->in.points[i].series) k++;
        c->refs[i] = k;
    }
}

/* Encodes c->in from `at` into c->buf; gives the points used. */
static uint32_t encode(struct codec *c, uint32_t at)
{
    uint32_t used = 0;
    struct tg_err err;
    tg_buf_reset(&c->buf);
    assert_int_equal(tg_block_encode(&c->enc, c->in.points + at, c->refs + at, c->in.n_points - at,
                                     1000 + at, &c->buf, &used, &err),
                     TG_OK);
    assert_true(used >= 1);
    return used;
}

static uint32_t decode(struct codec *c, uint32_t *n_lost)
{
    struct tg_block_info info;
    struct tg_err err;
    tg_batch_reset(&c->out);
    /* exactly the bytes, so that ASan sees a read past the end */
    uint8_t *copy = tg_malloc(c->buf.len);
    memcpy(copy, c->buf.data, c->buf.len);
    assert_int_equal(tg_block_decode(&c->dec, c->entries, N_SERIES, copy, c->buf.len, &c->out,
                                     &info, n_lost, &err),
                     TG_OK);
    tg_free(copy);
    assert_int_equal(info.n_points, c->out.n_points + *n_lost);
    return info.n_points;
}

static void round_trip(struct codec *c)
{
    uint32_t n_lost;
    set_refs(c);
    for (uint32_t at = 0; at < c->in.n_points;) {
        const uint32_t used = encode(c, at);
        assert_int_equal(decode(c, &n_lost), used);
        assert_int_equal(n_lost, 0);
        for (uint32_t i = 0; i < used; i++)
            assert_true(lf_equal(&c->in.points[at + i], &c->out.points[i]));
        at += used;
    }
}

static void test_scrapes(void **state)
{
    (void)state;
    struct codec *c = codec_new(1);
    for (int64_t t = 0; t < 200; t++) {
        tg_batch_reset(&c->in);
        lf_scrape(&c->f, &c->in, 0, N_SERIES, t * 10000000000);
        round_trip(c);
    }
    codec_free(c);
}

/* Bytes of scrapes in which every second series has another start time than its neighbours. */
static size_t bytes_of_scrapes(int64_t even_start_ns, int64_t odd_start_ns)
{
    size_t bytes = 0;
    struct codec *c = codec_new(2);
    for (int64_t t = 0; t < 3 * TG_LOG_CHAIN_MAX; t++) {
        tg_batch_reset(&c->in);
        lf_scrape(&c->f, &c->in, 0, N_SERIES, t * 10000000000);
        for (uint32_t i = 0; i < N_SERIES; i++)
            c->in.points[i].start_ns = i % 2 ? odd_start_ns : even_start_ns;
        round_trip(c);
        if (t >= TG_LOG_CHAIN_MAX) bytes += c->buf.len;
    }
    codec_free(c);
    return bytes;
}

/* A start time is written when it is a new one: not once for each chain that restarts beside one of
 * another start, and no bit of it where a chain goes on. */
static void test_bytes_of_start_times(void **state)
{
    (void)state;
    const int64_t start_ns = INT64_C(1750000000123456789);
    const size_t same = bytes_of_scrapes(start_ns, start_ns);
    const size_t in_turns = bytes_of_scrapes(start_ns, 0);
    const size_t n = (size_t)2 * TG_LOG_CHAIN_MAX * N_SERIES;
    /* two bits for a point that restarts, and the two times once a block */
    if (in_turns > same + n / TG_LOG_CHAIN_MAX / 2 + (size_t)2 * TG_LOG_CHAIN_MAX * 22)
        fail_msg("%.3f bytes a point for start times", (double)(in_turns - same) / (double)n);
}

static void test_every_type(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct codec *c = codec_new(seed);
        for (int64_t t = 0; t < 40; t++) {
            tg_batch_reset(&c->in);
            lf_mixed(&c->f, &c->in, (uint32_t)(1 + lf_rnd(&c->f) % 500), t * 1000000000);
            round_trip(c);
        }
        codec_free(c);
    }
}

static void test_more_than_one_block(void **state)
{
    (void)state;
    struct codec *c = codec_new(3);
    lf_mixed(&c->f, &c->in, 3 * TG_BLOCK_MAX_POINTS + 5, 77);
    round_trip(c);
    codec_free(c);
}

static const struct {
    const char *name;
    double v[6];
} double_runs[] = {
    {"constant", {1.5, 1.5, 1.5, 1.5, 1.5, 1.5}},
    {"more decimals on the way", {1, 1.5, 1.25, 1.125, 1.0625, 1.03125}},
    {"zeros of both signs", {0.0, -0.0, 0.0, -0.0, -0.0, 0.0}},
    {"out of the decimal range and back", {1.5, 1e300, 1.5, 2.5, -1e300, 3}},
    {"at the edge of exact integers",
     {2251799813685247.0, 2251799813685248.0, 2251799813685249.0, 4503599627370496.0,
      9007199254740992.0, -9007199254740994.0}},
    {"thirds", {1.0 / 3, 2.0 / 3, 1.0 / 7, 1.0 / 9, 1e-7 / 3, 3.0}},
    {"nearly decimal", {0.1, 0.1 + 1e-17, 0.30000000000000004, 0.3, 0.1 + 0.7, 0.8}},
};

static void test_doubles(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof(double_runs) / sizeof(double_runs[0]); k++) {
        struct codec *c = codec_new(k + 1);
        for (unsigned twice = 0; twice < 2; twice++) {
            tg_batch_reset(&c->in);
            for (unsigned i = 0; i < 6; i++) {
                assert_int_equal(tg_batch_reserve(&c->in, 1), TG_OK);
                struct tg_point *p = tg_batch_push(&c->in);
                memset(p, 0, sizeof(*p));
                p->series = c->f.series[0];
                p->value.f64 = double_runs[k].v[i];
            }
            round_trip(c);
        }
        codec_free(c);
    }
}

/* A block that never arrives breaks the chains of its series, until each one's restart. */
static void test_lost_block(void **state)
{
    (void)state;
    struct codec *c = codec_new(5);
    uint32_t n_lost, lost_in_all = 0, whole = 0;
    for (int64_t t = 0; t < 3 * TG_LOG_CHAIN_MAX; t++) {
        tg_batch_reset(&c->in);
        lf_scrape(&c->f, &c->in, 0, N_SERIES, t * 1000);
        set_refs(c);
        assert_int_equal(encode(c, 0), N_SERIES);
        if (t == TG_LOG_CHAIN_MAX) continue; /* lost */
        assert_int_equal(decode(c, &n_lost), N_SERIES);
        if (t < TG_LOG_CHAIN_MAX) assert_int_equal(n_lost, 0);
        lost_in_all += n_lost;
        if (t > TG_LOG_CHAIN_MAX && n_lost == 0) whole++;
        /* those that are there are right, and in order */
        uint32_t i = 0;
        for (uint32_t k = 0; k < c->out.n_points; k++, i++) {
            while (i < N_SERIES && !lf_equal(&c->in.points[i], &c->out.points[k])) i++;
            assert_true(i < N_SERIES);
        }
        if (t > 2 * TG_LOG_CHAIN_MAX) assert_int_equal(n_lost, 0);
    }
    assert_true(lost_in_all > 0 && lost_in_all < N_SERIES * TG_LOG_CHAIN_MAX);
    assert_true(whole >= TG_LOG_CHAIN_MAX - 1);
    codec_free(c);
}

/* A block that was encoded but not committed: the next ones do not need it. */
static void test_undone_block(void **state)
{
    (void)state;
    struct codec *c = codec_new(6);
    uint32_t n_lost;
    for (int64_t t = 0; t < 20; t++) {
        tg_batch_reset(&c->in);
        lf_mixed(&c->f, &c->in, 300, t * 1000);
        set_refs(c);
        (void)encode(c, 0);
        if (t % 3 == 1) {
            tg_block_encoder_undo(&c->enc, c->enc.n_chains);
            continue;
        }
        (void)decode(c, &n_lost);
        assert_int_equal(n_lost, 0);
    }
    codec_free(c);
}

static void test_unknown_series(void **state)
{
    (void)state;
    struct codec *c = codec_new(7);
    uint32_t n_lost;
    c->entries[3].series = NULL;
    for (int64_t t = 0; t < 5; t++) {
        tg_batch_reset(&c->in);
        lf_scrape(&c->f, &c->in, 0, N_SERIES, t);
        set_refs(c);
        (void)encode(c, 0);
        (void)decode(c, &n_lost);
        assert_int_equal(n_lost, 1);
        for (uint32_t i = 0; i < c->out.n_points; i++)
            assert_true(lf_equal(&c->out.points[i], &c->in.points[i + (i >= 3)]));
    }
    codec_free(c);
}

/* Cut and changed payloads are refused or decoded, never read past, and never give more points. */
static void test_garbage(void **state)
{
    (void)state;
    struct codec *c = codec_new(8);
    lf_mixed(&c->f, &c->in, 120, 5);
    set_refs(c);
    (void)encode(c, 0);
    struct tg_block_info info;
    uint32_t n_lost;
    for (size_t len = 0; len < c->buf.len; len++) {
        for (unsigned twice = 0; twice < 2; twice++) {
            uint8_t *copy = tg_malloc(len);
            memcpy(copy, c->buf.data, len);
            forget(c);
            tg_batch_reset(&c->out);
            assert_int_equal(tg_block_decode(&c->dec, c->entries, N_SERIES, copy, len, &c->out,
                                             &info, &n_lost, NULL),
                             TG_ERR_CORRUPT);
            assert_int_equal(c->out.n_points, 0);
            tg_free(copy);
        }
    }
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t *copy = tg_malloc(c->buf.len);
        memcpy(copy, c->buf.data, c->buf.len);
        for (unsigned k = 0; k <= i % 3; k++)
            copy[lf_rnd(&c->f) % c->buf.len] ^= (uint8_t)(1U << lf_rnd(&c->f) % 8);
        forget(c);
        tg_batch_reset(&c->out);
        const enum tg_code code = tg_block_decode(&c->dec, c->entries, N_SERIES, copy, c->buf.len,
                                                  &c->out, &info, &n_lost, NULL);
        if (code == TG_OK)
            assert_int_equal(info.n_points, c->out.n_points + n_lost);
        else
            assert_int_equal(c->out.n_points, 0);
        tg_free(copy);
    }
    codec_free(c);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct codec *c = codec_new(9);
    lf_mixed(&c->f, &c->in, 200, 5);
    set_refs(c);
    uint32_t used;
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct tg_buf out;
        tg_buf_init(&out, 0);
        tg_mem_fail_at(n);
        const enum tg_code code =
            tg_block_encode(&c->enc, c->in.points, c->refs, c->in.n_points, 0, &out, &used, NULL);
        done = !tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_true(code == TG_OK || code == TG_ERR_NOMEM);
        if (code != TG_OK) assert_int_equal(out.len, 0);
        tg_block_encoder_undo(&c->enc, c->enc.n_chains);
        tg_buf_deinit(&out);
    }
    used = encode(c, 0);
    done = false;
    for (uint64_t n = 1; !done; n++) {
        struct tg_batch out;
        struct tg_block_info info;
        uint32_t n_lost;
        tg_batch_init(&out, NULL, 0, 0);
        forget(c);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_block_decode(&c->dec, c->entries, N_SERIES, c->buf.data,
                                                  c->buf.len, &out, &info, &n_lost, NULL);
        done = !tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, done ? TG_OK : TG_ERR_NOMEM);
        assert_int_equal(out.n_points, done ? used : 0);
        tg_batch_deinit(&out);
    }
    codec_free(c);
}

static void test_too_large(void **state)
{
    (void)state;
    struct codec *c = codec_new(10);
    lf_scrape(&c->f, &c->in, 0, 1, 0);
    struct tg_string s = {.len = TG_BLOCK_POINT_BYTES + 1};
    char *text = tg_calloc(1, s.len);
    s.ptr = text;
    c->in.points[0].type = TG_VALUE_STRING;
    c->in.points[0].value.string = &s;
    set_refs(c);
    uint32_t used;
    struct tg_err err;
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(
            tg_block_encode(&c->enc, c->in.points, c->refs, 1, 0, &c->buf, &used, &err),
            TG_ERR_TOO_LARGE);
        assert_int_equal(c->buf.len, 0);
    }
    s.len = TG_BLOCK_POINT_BYTES - 16; /* the largest that goes */
    for (uint32_t i = 0; i < s.len; i++) text[i] = (char)lf_rnd(&c->f);
    round_trip(c);
    tg_free(text);
    codec_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scrapes),      cmocka_unit_test(test_bytes_of_start_times),
        cmocka_unit_test(test_every_type),   cmocka_unit_test(test_more_than_one_block),
        cmocka_unit_test(test_doubles),      cmocka_unit_test(test_lost_block),
        cmocka_unit_test(test_undone_block), cmocka_unit_test(test_unknown_series),
        cmocka_unit_test(test_garbage),      cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
