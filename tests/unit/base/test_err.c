/* Error codes, their mapping for the outside, and messages that always fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "core/base/err.h"

static void test_mapping(void **state)
{
    static const struct {
        enum tg_code code;
        enum tg_class cls;
        int http, grpc;
        const char *name;
    } cases[] = {
        {TG_OK, TG_CLASS_OK, 200, 0, "ok"},
        {TG_ERR_MALFORMED, TG_CLASS_INPUT, 400, 3, "input"},
        {TG_ERR_INVALID, TG_CLASS_INPUT, 400, 3, "input"},
        {TG_ERR_UNSUPPORTED, TG_CLASS_INPUT, 415, 12, "input"},
        {TG_ERR_NOT_FOUND, TG_CLASS_INPUT, 404, 5, "input"},
        {TG_ERR_UNAUTHORIZED, TG_CLASS_INPUT, 401, 16, "input"},
        {TG_ERR_TOO_LARGE, TG_CLASS_TOO_LARGE, 413, 8, "too_large"},
        {TG_ERR_FULL, TG_CLASS_FULL, 503, 14, "full"},
        {TG_ERR_NOMEM, TG_CLASS_FULL, 503, 14, "full"},
        {TG_ERR_TIMEOUT, TG_CLASS_FULL, 503, 14, "full"},
        {TG_ERR_UNAVAILABLE, TG_CLASS_TRANSIENT, 503, 14, "transient"},
        {TG_ERR_IO, TG_CLASS_TRANSIENT, 503, 14, "transient"},
        {TG_ERR_CANCELED, TG_CLASS_TRANSIENT, 503, 14, "transient"},
        {TG_ERR_REFUSED, TG_CLASS_PERMANENT, 500, 13, "permanent"},
        {TG_ERR_CORRUPT, TG_CLASS_PERMANENT, 500, 13, "permanent"},
        {TG_ERR_FATAL, TG_CLASS_FATAL, 500, 13, "fatal"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(tg_code_class(cases[i].code), cases[i].cls);
        assert_int_equal(tg_code_http_status(cases[i].code), cases[i].http);
        assert_int_equal(tg_code_grpc_status(cases[i].code), cases[i].grpc);
        assert_string_equal(tg_class_name(cases[i].cls), cases[i].name);
    }
}

static void test_fail(void **state)
{
    struct tg_err err;
    char longer[600];
    (void)state;
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    for (int round = 0; round < 2; round++) {
        memset(&err, 0xaa, sizeof(err));
        assert_int_equal(tg_fail(&err, TG_ERR_INVALID, "%d of %s", 3, "it"), TG_ERR_INVALID);
        assert_int_equal(err.code, TG_ERR_INVALID);
        assert_true(err.offset == TG_NO_OFFSET);
        assert_string_equal(err.msg, "3 of it");
        assert_int_equal(tg_fail_at(&err, TG_ERR_CORRUPT, 17, "%s", longer), TG_ERR_CORRUPT);
        assert_int_equal(err.offset, 17);
        assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
        assert_int_equal(tg_fail_errno(&err, ENOENT, "open %s", "f"), TG_ERR_IO);
        assert_non_null(strstr(err.msg, "open f: No such file"));
        assert_int_equal(tg_fail_errno(&err, ENOSPC, "write"), TG_ERR_FULL);
        assert_int_equal(tg_fail_errno(&err, EDQUOT, "write"), TG_ERR_FULL);
        assert_int_equal(tg_fail_errno(&err, EFBIG, "write"), TG_ERR_FILE_LIMIT);
        assert_non_null(strstr(err.msg, "write: File too large (ulimit -f"));
        assert_int_equal(tg_fail_errno(&err, ENOMEM, "write"), TG_ERR_NOMEM);
        assert_int_equal(tg_fail_errno(&err, EIO, "%s", longer), TG_ERR_IO);
        assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
    }
    assert_int_equal(tg_fail(NULL, TG_ERR_FULL, "x"), TG_ERR_FULL);
    assert_int_equal(tg_fail_at(NULL, TG_ERR_FULL, 1, "x"), TG_ERR_FULL);
    assert_int_equal(tg_fail_errno(NULL, EIO, "x"), TG_ERR_IO);
}

static void test_quote(void **state)
{
    static const struct {
        const char *in;
        size_t len, cap;
        const char *want;
    } cases[] = {
        {"plain", 5, 64, "\"plain\""},
        {"", 0, 64, "\"\""},
        {"a\"b\\c", 5, 64, "\"a\\\"b\\\\c\""},
        {"a\nb", 3, 64, "\"a\\nb\""},
        {"\x01\xff\0", 3, 64, "\"\\x01\\xff\\x00\""},
        {"gr\xc3\xb6\xc3\x9f"
         "e \xf0\x9f\x90\x8c",
         12, 64,
         "\"gr\xc3\xb6\xc3\x9f"
         "e \xf0\x9f\x90\x8c\""},
        {"\xc3", 1, 64, "\"\\xc3\""},
        {"\xc3(\xed\xa0\x80", 5, 64, "\"\\xc3(\\xed\\xa0\\x80\""},
        {"\xc2\x85\xe2\x80\xae", 5, 64, "\"\\xc2\\x85\\xe2\\x80\\xae\""},
        {"0123456789", 10, 16, "\"0123456...\""},
        {"0123456789", 10, 8, "\"...\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[64];
        assert_ptr_equal(tg_quote(out, cases[i].cap, cases[i].in, cases[i].len), out);
        assert_string_equal(out, cases[i].want);
    }
    /* Whatever the input and the room: ends inside, quoted, printable. */
    uint8_t in[300];
    for (size_t i = 0; i < sizeof(in); i++) in[i] = (uint8_t)(i * 7);
    for (size_t cap = 8; cap < 100; cap++) {
        for (size_t len = 0; len < sizeof(in); len += 13) {
            char out[100];
            memset(out, 0x7f, sizeof(out));
            (void)tg_quote(out, cap, in, len);
            const size_t n = strnlen(out, cap);
            assert_true(n >= 2 && n < cap && out[0] == '"' && out[n - 1] == '"');
            for (size_t i = cap; i < sizeof(out); i++) assert_int_equal(out[i], 0x7f);
            for (size_t i = 0; i < n; i++) assert_in_range(out[i], 0x20, 0x7e);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapping),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
