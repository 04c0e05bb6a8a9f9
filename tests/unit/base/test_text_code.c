/* Base64 by the vectors of RFC 4648, section 10, and bytes of all values; percent-encoding. */
#include "core/base/text_code.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void base64_is_that_of_the_rfc(void **state)
{
    (void)state;
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xff\xef\xbe\xfb", "/++++w=="},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char out[16];
        const size_t n = strlen(rows[i].in);
        memset(out, '#', sizeof(out));
        tg_base64(out, rows[i].in, n);
        assert_int_equal(tg_base64_len(n), strlen(rows[i].want));
        assert_memory_equal(out, rows[i].want, tg_base64_len(n));
        assert_int_equal(out[tg_base64_len(n)], '#'); /* and no more */
    }
    tg_base64(NULL, NULL, 0);
}

static void percent_encoding_leaves_the_unreserved(void **state)
{
    (void)state;
    static const char unreserved[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    for (unsigned c = 0; c < 256; c++) {
        struct tg_buf out;
        char want[8];
        const char text = (char)c;
        tg_buf_init(&out, 0);
        assert_int_equal(tg_percent_encode(&out, &text, 1), TG_OK);
        assert_int_equal(tg_buf_append(&out, "", 1), TG_OK);
        if (c && strchr(unreserved, (int)c))
            (void)snprintf(want, sizeof(want), "%c", (int)c);
        else
            (void)snprintf(want, sizeof(want), "%%%02X", c);
        assert_string_equal((char *)out.data, want);
        tg_buf_deinit(&out);
    }
    struct tg_buf small;
    tg_buf_init(&small, 5);
    assert_int_equal(tg_percent_encode(&small, "a b", 3), TG_ERR_TOO_LARGE);
    assert_int_equal(small.len, 0);
    tg_buf_deinit(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_is_that_of_the_rfc),
        cmocka_unit_test(percent_encoding_leaves_the_unreserved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
