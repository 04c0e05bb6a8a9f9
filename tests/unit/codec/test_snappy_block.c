/* Snappy blocks that are written by hand: what libsnappy makes of them. */
#include "core/codec/snappy_block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/codec/compress.h"
#include "tests/support/rng.h"

static uint64_t rng_state = 5;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

struct rig {
    struct tg_snappy_block block;
    struct tg_buf out, want, got;
    struct tg_compress compress;
};

static void setup(struct rig *r)
{
    tg_buf_init(&r->out, 0);
    tg_buf_init(&r->want, 0);
    tg_buf_init(&r->got, 0);
    tg_compress_init(&r->compress);
}

static void teardown(struct rig *r)
{
    tg_buf_deinit(&r->out);
    tg_buf_deinit(&r->want);
    tg_buf_deinit(&r->got);
    tg_compress_deinit(&r->compress);
}

static void begin(struct rig *r)
{
    tg_buf_reset(&r->want);
    assert_int_equal(tg_snappy_begin(&r->block, &r->out), TG_OK);
}

static void literal(struct rig *r, size_t n)
{
    assert_int_equal(tg_buf_reserve(&r->want, n), TG_OK);
    uint8_t *bytes = r->want.data + r->want.len;
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)rng();
    r->want.len += n;
    assert_int_equal(tg_snappy_reserve(&r->block, n, 1), TG_OK);
    tg_snappy_literal(&r->block, bytes, n);
    assert_int_equal(r->block.n_plain, r->want.len);
}

static void copy(struct rig *r, size_t from, size_t n)
{
    assert_int_equal(tg_buf_reserve(&r->want, n), TG_OK);
    for (size_t i = 0; i < n; i++) tg_buf_put_u8(&r->want, r->want.data[from + i]);
    assert_int_equal(tg_snappy_reserve(&r->block, n, 1), TG_OK);
    (void)tg_snappy_copy(&r->block, from, n);
    assert_int_equal(r->block.n_plain, r->want.len);
}

/* Length of the block. */
static size_t check(struct rig *r)
{
    struct tg_err err = {.msg = ""};
    const size_t skip = tg_snappy_end(&r->block);
    tg_buf_reset(&r->got);
    if (tg_compress_decode(&r->compress, TG_ENCODING_SNAPPY, r->out.data + skip, r->out.len - skip,
                           (size_t)1 << 30, &r->got, &err) != TG_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(r->got.len, r->want.len);
    if (r->want.len) assert_memory_equal(r->got.data, r->want.data, r->want.len);
    return r->out.len - skip;
}

static void literals_of_every_length_class(void **state)
{
    (void)state;
    static const struct {
        size_t n, head;
    } rows[] = {{1, 1},     {60, 1},    {61, 2},      {256, 2},          {257, 3},
                {65536, 3}, {65537, 4}, {1 << 24, 4}, {(1 << 24) + 1, 5}};
    struct rig r;
    setup(&r);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(&r);
        literal(&r, rows[i].n);
        assert_int_equal(check(&r), tg_varint_len(rows[i].n) + rows[i].head + rows[i].n);
        begin(&r); /* in two parts it is still one */
        literal(&r, rows[i].n - rows[i].n / 2);
        if (rows[i].n > 1) literal(&r, rows[i].n / 2);
        assert_int_equal(check(&r), tg_varint_len(rows[i].n) + rows[i].head + rows[i].n);
    }
    begin(&r);
    assert_int_equal(check(&r), 1); /* nothing at all */
    teardown(&r);
}

static void copies_of_every_class(void **state)
{
    (void)state;
    static const struct {
        size_t back, n, bytes;
    } rows[] = {
        {4, 4, 2},         {2047, 11, 2},      {2048, 11, 3},      {2047, 12, 3},
        {2047, 3, 3},      {100, 64, 3},       {100, 65, 3 + 3},   {100, 68, 3 + 2},
        {65535, 20, 3},    {65536, 20, 5},     {65536, 64, 5},     {65536, 65, 10},
        {1, 1000, 16 * 3}, {3000000, 640, 50}, {3000000, 641, 55}, {7, 7, 2},
    };
    struct rig r;
    setup(&r);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(&r);
        literal(&r, rows[i].back);
        const size_t before = rows[i].back + 5 + 4;
        copy(&r, 0, rows[i].n);
        const size_t n = check(&r);
        assert_true(n <= before + rows[i].bytes);
        begin(&r); /* what lies side by side is one copy */
        literal(&r, rows[i].back);
        for (size_t k = 0; k < rows[i].n; k++) copy(&r, k, 1);
        assert_int_equal(check(&r), n);
        begin(&r);
        literal(&r, rows[i].back);
        (void)tg_snappy_end(&r.block);
        const size_t alone = r.out.len;
        begin(&r);
        literal(&r, rows[i].back);
        copy(&r, 0, rows[i].n);
        (void)check(&r);
        assert_int_equal(r.out.len - alone, rows[i].bytes);
    }
    teardown(&r);
}

static void a_copy_may_be_taken_from_elsewhere(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    begin(&r);
    literal(&r, 40);  /* xy at 10 */
    copy(&r, 10, 20); /* again at 40 */
    literal(&r, 1);
    literal(&r, 8);
    copy(&r, 10, 20); /* and at 69, from 10: what is before 60 is the same */
    tg_snappy_copy_from_before(&r.block, 60);
    tg_snappy_copy_on(&r.block, 5);
    assert_int_equal(tg_buf_reserve(&r.want, 5), TG_OK);
    tg_buf_put(&r.want, r.want.data + 60, 5);
    (void)check(&r);
    teardown(&r);
}

static void any_mixture_is_read_back(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    for (unsigned round = 0; round < 300; round++) {
        begin(&r);
        const unsigned n = (unsigned)(rng() % 300);
        for (unsigned i = 0; i < n; i++) {
            const uint64_t what = rng();
            if (r.want.len == 0 || what % 3 == 0)
                literal(&r, 1 + (size_t)(rng() % (what % 30 == 0 ? 70000 : 90)));
            else
                copy(&r, (size_t)(rng() % r.want.len), 1 + (size_t)(rng() % (what % 5 ? 30 : 300)));
        }
        (void)check(&r);
    }
    teardown(&r);
}

static void room_is_asked_for(void **state)
{
    (void)state;
    struct rig r;
    setup(&r);
    r.out.max_bytes = 4;
    assert_int_equal(tg_snappy_begin(&r.block, &r.out), TG_ERR_TOO_LARGE);
    r.out.max_bytes = 1000;
    begin(&r);
    literal(&r, 500);
    assert_int_equal(tg_snappy_reserve(&r.block, 600, 1), TG_ERR_TOO_LARGE);
    (void)check(&r); /* as it was */
    tg_mem_fail_at(1);
    tg_buf_deinit(&r.out);
    tg_buf_init(&r.out, 0);
    assert_int_equal(tg_snappy_begin(&r.block, &r.out), TG_ERR_NOMEM);
    tg_mem_fail_at(0);
    teardown(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_of_every_length_class),
        cmocka_unit_test(copies_of_every_class),
        cmocka_unit_test(a_copy_may_be_taken_from_elsewhere),
        cmocka_unit_test(any_mixture_is_read_back),
        cmocka_unit_test(room_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
