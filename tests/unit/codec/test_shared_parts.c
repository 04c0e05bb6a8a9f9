#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/codec/shared_parts.h"
#include "core/base/mem.h"

/* A part ends after a comma. */
static size_t at_comma(const uint8_t *begin, const uint8_t *at, const uint8_t *end, size_t *head)
{
    (void)begin;
    (void)head;
    const uint8_t *comma = memchr(at, ',', (size_t)(end - at));
    return (size_t)((comma ? comma + 1 : end) - at);
}

static size_t round_trip(struct tg_shared_parts *p, const char *text)
{
    struct tg_buf packed, plain;
    tg_buf_init(&packed, 0);
    tg_buf_init(&plain, 0);
    const size_t len = strlen(text);
    assert_int_equal(tg_shared_parts_pack(p, (const uint8_t *)text, len, at_comma, &packed), TG_OK);
    assert_int_equal(tg_shared_parts_unpack(p, packed.data, packed.len, &plain), TG_OK);
    assert_int_equal(plain.len, len);
    if (len) assert_memory_equal(plain.data, text, len);
    const size_t n = packed.len;
    tg_buf_deinit(&packed);
    tg_buf_deinit(&plain);
    return n;
}

static void test_what_is_shared_shrinks(void **state)
{
    (void)state;
    struct tg_shared_parts *p = tg_shared_parts_new();
    char text[600];
    size_t first = 0, last = 0;
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(text, sizeof(text),
                       "measurement,host=a-host-with-a-name,region=eu-central-1,id=%d,%0300d,", i,
                       7);
        last = round_trip(p, text);
        if (i == 0) first = last;
    }
    assert_true(first > 300);
    assert_true(last < 15 + 300 + 6); /* over 255 bytes stay plain, and so does the id */
    assert_true(last > 300);
    assert_int_equal(round_trip(p, ""), 0);
    assert_true(round_trip(p, "x") == 2);
    tg_shared_parts_free(p);
    tg_shared_parts_free(NULL);
}

static void test_what_comes_once_takes_no_place(void **state)
{
    (void)state;
    struct tg_shared_parts *p = tg_shared_parts_new();
    char text[64];
    for (int i = 0; i < 200000; i++) {
        (void)snprintf(text, sizeof(text), "unique-value-%d,", i);
        (void)round_trip(p, text);
    }
    for (int i = 0; i < 4; i++) (void)round_trip(p, "now-a-shared-one,");
    assert_true(round_trip(p, "now-a-shared-one,") <= 2); /* a small number: few were taken */
    tg_shared_parts_free(p);
}

static void test_more_than_the_table_takes_stays_plain(void **state)
{
    (void)state;
    struct tg_shared_parts *p = tg_shared_parts_new();
    char text[300];
    for (int i = 0; i < TG_SHARED_PARTS_MAX + 1000; i++) {
        (void)snprintf(text, sizeof(text), "%0200d,", i);
        for (int k = 0; k < 5; k++) (void)round_trip(p, text);
    }
    (void)snprintf(text, sizeof(text), "%0200d,", 1);
    assert_true(round_trip(p, text) <= 3);
    (void)snprintf(text, sizeof(text), "%0200d,", TG_SHARED_PARTS_MAX + 999);
    assert_true(round_trip(p, text) > 200);
    tg_shared_parts_free(p);
}

/* As above, but that all up to "=" may be shared. */
static size_t with_key(const uint8_t *begin, const uint8_t *at, const uint8_t *end, size_t *head)
{
    const size_t len = at_comma(begin, at, end, head);
    const uint8_t *equals = memchr(at, '=', len);
    if (equals) *head = (size_t)(equals + 1 - at);
    return len;
}

static void test_the_key_of_a_value_that_comes_once_is_shared(void **state)
{
    (void)state;
    struct tg_shared_parts *p = tg_shared_parts_new();
    struct tg_buf packed, plain;
    char text[64];
    tg_buf_init(&packed, 0);
    tg_buf_init(&plain, 0);
    for (int i = 0; i < 10; i++) {
        const int n = snprintf(text, sizeof(text), "instance=number-%d,zone=a-zone,", i);
        tg_buf_reset(&packed);
        tg_buf_reset(&plain);
        assert_int_equal(
            tg_shared_parts_pack(p, (const uint8_t *)text, (size_t)n, with_key, &packed), TG_OK);
        assert_int_equal(tg_shared_parts_unpack(p, packed.data, packed.len, &plain), TG_OK);
        assert_int_equal(plain.len, n);
        assert_memory_equal(plain.data, text, (size_t)n);
    }
    assert_int_equal(packed.len, 1 + (1 + sizeof("number-9,") - 1) + 1);
    const struct tg_shared_part *key = tg_shared_parts_at(p, packed.data[0] >> 1);
    assert_int_equal(key->len, 9);
    assert_memory_equal(key->bytes, "instance=", 9);
    tg_buf_deinit(&packed);
    tg_buf_deinit(&plain);
    tg_shared_parts_free(p);
}

static void check_run(const struct tg_shared_parts *p, const struct tg_shared_part *run)
{
    assert_true(run->is_run);
    const struct tg_shared_part *left = tg_shared_parts_at(p, run->parts[0]);
    const struct tg_shared_part *right = tg_shared_parts_at(p, run->parts[1]);
    assert_int_equal(left->len + right->len, run->len);
    assert_memory_equal(run->bytes, left->bytes, left->len);
    assert_memory_equal(run->bytes + left->len, right->bytes, right->len);
    if (left->is_run) check_run(p, left);
    assert_false(right->is_run);
}

static void test_neighbours_become_one(void **state)
{
    (void)state;
    struct tg_shared_parts *p = tg_shared_parts_new();
    struct tg_buf packed;
    char text[100];
    tg_buf_init(&packed, 0);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(text, sizeof(text), "host=a-host,zone=a-zone,id=%d,rack=a-rack,row=a-row,",
                       i + 1000000);
        (void)round_trip(p, text);
    }
    tg_buf_reset(&packed);
    assert_int_equal(
        tg_shared_parts_pack(p, (const uint8_t *)text, strlen(text), at_comma, &packed), TG_OK);
    /* one before what is alone, and one after it */
    assert_int_equal(packed.len, 1 + (1 + sizeof("id=1000000,") - 1) + 1);
    check_run(p, tg_shared_parts_at(p, packed.data[0] >> 1));
    check_run(p, tg_shared_parts_at(p, packed.data[packed.len - 1] >> 1));
    assert_true(round_trip(p, "zone=a-zone,host=a-host,") == 2); /* not this way round */
    tg_buf_deinit(&packed);
    tg_shared_parts_free(p);
}

/* Pairs of everything with everything leave room for what is new. */
static void test_runs_do_not_fill_the_table(void **state)
{
    (void)state;
    struct tg_shared_parts *p = tg_shared_parts_new();
    char text[300];
    for (int i = 0; i < 270; i++)
        for (int k = 0; k < 270; k++)
            for (int turn = 0; turn < 17; turn++) {
                (void)snprintf(text, sizeof(text), "one-of-many-%d,another-of-many-%d,", i, k);
                (void)round_trip(p, text);
            }
    for (int turn = 0; turn < 5; turn++) (void)round_trip(p, "now-a-new-one,");
    assert_true(round_trip(p, "now-a-new-one,") <= 3);
    assert_true(round_trip(p, text) <= 6); /* as two, where there was no room for the pair */
    tg_shared_parts_free(p);
}

static void test_without_a_table_all_is_plain(void **state)
{
    (void)state;
    assert_int_equal(round_trip(NULL, "a,b,"), 5);
    assert_int_equal(round_trip(NULL, ""), 0);
}

static void test_without_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct tg_shared_parts *p = tg_shared_parts_new();
        struct tg_buf out;
        tg_buf_init(&out, 0);
        tg_mem_fail_at(n);
        enum tg_code code = TG_OK;
        for (int i = 0; i < 6 && code == TG_OK; i++)
            code = tg_shared_parts_pack(p, (const uint8_t *)"shared-piece,another-one,", 25,
                                        at_comma, &out);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_true(code == TG_OK || (fired && code == TG_ERR_NOMEM));
        (void)round_trip(p, "shared-piece,another-one,");
        tg_buf_deinit(&out);
        tg_shared_parts_free(p);
        if (!fired) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_shared_shrinks),
        cmocka_unit_test(test_what_comes_once_takes_no_place),
        cmocka_unit_test(test_more_than_the_table_takes_stays_plain),
        cmocka_unit_test(test_the_key_of_a_value_that_comes_once_is_shared),
        cmocka_unit_test(test_neighbours_become_one),
        cmocka_unit_test(test_runs_do_not_fill_the_table),
        cmocka_unit_test(test_without_a_table_all_is_plain),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
