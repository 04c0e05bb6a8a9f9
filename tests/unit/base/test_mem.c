/* The counted heap, arenas and buffers: counts, caps, injected failures, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/base/mem.h"

static void test_counts(void **state)
{
    const uint64_t before = tg_mem_used();
    (void)state;
    char *a = tg_malloc(100);
    char *b = tg_calloc(10, 10);
    char *c = tg_strndup("abcdef", 3);
    char *zero = tg_malloc(0);
    char *zero2 = tg_malloc(0);
    assert_true(a && b && c && zero && zero2 && zero != zero2);
    assert_string_equal(c, "abc");
    for (int i = 0; i < 100; i++) assert_int_equal(b[i], 0);
    assert_true(tg_mem_used() >= before + 204);
    memset(a, 7, 100);
    a = tg_realloc(a, 100000);
    assert_non_null(a);
    assert_int_equal(a[99], 7);
    assert_true(tg_mem_used() >= before + 100000);
    a = tg_reallocarray(a, 10, 2);
    assert_non_null(a);
    assert_true(tg_mem_used() < before + 2000);
    tg_free(a);
    tg_free(b);
    tg_free(c);
    tg_free(zero);
    tg_free(zero2);
    tg_free(NULL);
    assert_int_equal(tg_mem_used(), before);
    /* Through a variable: the compiler would see these to be too large. */
    volatile size_t huge = SIZE_MAX / 2;
    assert_null(tg_calloc(huge, 3));
    assert_null(tg_reallocarray(NULL, huge, 3));
    assert_int_equal(tg_mem_used(), before);
}

static void test_limit(void **state)
{
    const uint64_t before = tg_mem_used();
    (void)state;
    tg_mem_set_limit(before + 1000);
    assert_int_equal(tg_mem_limit(), before + 1000);
    for (int round = 0; round < 2; round++) {
        assert_null(tg_malloc(2000));
        assert_null(tg_calloc(2000, 1));
        char *p = tg_malloc(500);
        assert_non_null(p);
        assert_null(tg_realloc(p, 2000)); /* p stays as it was */
        memset(p, 1, 500);
        tg_free(p);
    }
    tg_mem_set_limit(0);
    char *p = tg_malloc(2000);
    assert_non_null(p);
    tg_free(p);
    assert_int_equal(tg_mem_used(), before);
}

static void test_fail_at(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        tg_mem_fail_at(3);
        void *a = tg_malloc(1);
        void *b = tg_calloc(1, 1);
        assert_false(tg_mem_fail_fired());
        assert_null(tg_realloc(a, 1000));
        assert_true(tg_mem_fail_fired());
        void *c = tg_malloc(1); /* once only */
        assert_true(a && b && c);
        tg_free(a);
        tg_free(b);
        tg_free(c);
    }
    tg_mem_fail_at(1);
    tg_mem_fail_at(0);
    void *p = tg_malloc(1);
    assert_non_null(p);
    tg_free(p);
}

static void test_arena(void **state)
{
    const uint64_t before = tg_mem_used();
    struct tg_arena a;
    (void)state;
    tg_arena_init(&a, 0);
    for (int round = 0; round < 3; round++) {
        for (size_t size = 0; size < 3000; size += 7) {
            unsigned char *p = tg_arena_alloc(&a, size);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 16, 0);
            memset(p, (int)size, size);
        }
        unsigned char *big = tg_arena_calloc(&a, 3, 1 << 20);
        assert_non_null(big);
        assert_int_equal(big[3 * (1 << 20) - 1], 0);
        char *s = tg_arena_strndup(&a, "hello", 4);
        assert_string_equal(s, "hell");
        assert_string_equal(tg_arena_strndup(&a, NULL, 0), "");
        tg_arena_reset(&a);
        assert_int_equal(a.used_bytes, 0);
        assert_true(tg_mem_used() - before < 2 * (1 << 20) + 4096); /* the largest is not kept */
    }
    volatile size_t huge = SIZE_MAX - 8;
    assert_null(tg_arena_alloc(&a, huge));
    assert_null(tg_arena_calloc(&a, huge / 2, 3));
    assert_null(tg_arena_strndup(&a, "", SIZE_MAX));
    tg_arena_deinit(&a);
    assert_int_equal(tg_mem_used(), before);
}

static void test_arena_warm(void **state)
{
    struct tg_arena a;
    (void)state;
    tg_arena_init(&a, 0);
    for (int i = 0; i < 1000; i++) assert_non_null(tg_arena_alloc(&a, 100));
    tg_arena_reset(&a);
    for (int i = 0; i < 300; i++) assert_non_null(tg_arena_alloc(&a, 100)); /* settles */
    tg_arena_reset(&a);
    tg_mem_fail_at(1);
    for (int i = 0; i < 300; i++) assert_non_null(tg_arena_alloc(&a, 100));
    assert_false(tg_mem_fail_fired()); /* a warm arena does not allocate */
    tg_mem_fail_at(0);
    tg_arena_deinit(&a);
}

static void test_arena_bound(void **state)
{
    struct tg_arena a;
    (void)state;
    tg_arena_init(&a, 1000);
    for (int round = 0; round < 2; round++) {
        assert_null(tg_arena_alloc(&a, 1001));
        assert_non_null(tg_arena_alloc(&a, 992));
        assert_null(tg_arena_alloc(&a, 9));
        assert_null(tg_arena_alloc(&a, 0)); /* takes 16 */
        tg_arena_reset(&a);
    }
    tg_arena_deinit(&a);
    tg_arena_init(&a, 0);
    tg_mem_fail_at(1);
    assert_null(tg_arena_alloc(&a, 10));
    assert_non_null(tg_arena_alloc(&a, 10));
    tg_arena_deinit(&a);
}

static void test_buf(void **state)
{
    struct tg_buf b;
    (void)state;
    tg_buf_init(&b, 100);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 10; i++) assert_int_equal(tg_buf_append(&b, "0123456789", 10), TG_OK);
        assert_int_equal(tg_buf_append(&b, "x", 1), TG_ERR_TOO_LARGE);
        assert_int_equal(tg_buf_reserve(&b, SIZE_MAX), TG_ERR_TOO_LARGE);
        assert_int_equal(tg_buf_append(&b, NULL, 0), TG_OK);
        assert_int_equal(b.len, 100);
        assert_memory_equal(b.data + 90, "0123456789", 10);
        tg_buf_reset(&b);
        assert_int_equal(b.cap, 100);
    }
    assert_int_equal(tg_buf_printf(&b, "%d-%s", 42, "x"), TG_OK);
    assert_int_equal(tg_buf_printf(&b, "%s", ""), TG_OK);
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, "42-x", 4);
    assert_int_equal(tg_buf_printf(&b, "%0200d", 1), TG_ERR_TOO_LARGE);
    assert_int_equal(b.len, 4);
    tg_buf_deinit(&b);
    tg_buf_init(&b, 0);
    tg_mem_fail_at(1);
    assert_int_equal(tg_buf_append(&b, "x", 1), TG_ERR_NOMEM);
    assert_int_equal(tg_buf_append(&b, "x", 1), TG_OK);
    tg_buf_put_u32(&b, 0x04030201);
    tg_buf_put_u64(&b, UINT64_C(0x0807060504030201));
    assert_memory_equal(b.data, "x\1\2\3\4\1\2\3\4\5\6\7\10", 13);
    tg_buf_deinit(&b);
}

static void test_varint(void **state)
{
    static const struct {
        uint64_t v;
        unsigned len;
        const char *bytes;
    } cases[] = {
        {0, 1, "\0"},
        {127, 1, "\x7f"},
        {128, 2, "\x80\1"},
        {300, 2, "\xac\2"},
        {UINT32_MAX, 5, "\xff\xff\xff\xff\x0f"},
        {UINT64_C(1) << 63, 10, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\1"},
        {UINT64_MAX, 10, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tg_buf b;
        tg_buf_init(&b, 0);
        assert_int_equal(tg_buf_reserve(&b, TG_VARINT_MAX), TG_OK);
        tg_buf_put_varint(&b, cases[i].v);
        assert_int_equal(b.len, cases[i].len);
        assert_int_equal(tg_varint_len(cases[i].v), cases[i].len);
        assert_memory_equal(b.data, cases[i].bytes, b.len);
        uint64_t v = 99;
        const uint8_t *pos = b.data;
        assert_true(tg_varint_get(&pos, b.data + b.len, &v));
        assert_true(v == cases[i].v && pos == b.data + b.len);
        for (unsigned cut = 0; cut < b.len; cut++) {
            pos = b.data;
            assert_false(tg_varint_get(&pos, b.data + cut, &v));
            assert_ptr_equal(pos, b.data);
        }
        tg_buf_deinit(&b);
    }
    uint64_t v;
    static const uint8_t eleven[] = "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\1";
    const uint8_t *pos = eleven;
    assert_false(tg_varint_get(&pos, eleven + 11, &v));
    static const int64_t signs[] = {0, -1, 1, INT64_MAX, INT64_MIN, -123456789};
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
        assert_true(tg_unzigzag(tg_zigzag(signs[i])) == signs[i]);
    assert_int_equal(tg_zigzag(-1), 1);
    assert_int_equal(tg_zigzag(1), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),     cmocka_unit_test(test_limit),
        cmocka_unit_test(test_fail_at),    cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_warm), cmocka_unit_test(test_arena_bound),
        cmocka_unit_test(test_buf),        cmocka_unit_test(test_varint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
