/* Times as RFC 3339 has them, at the ends of what int64 ns can say and around 1970. */
#include "core/base/time_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void times_have_their_text(void **state)
{
    (void)state;
    static const struct {
        int64_t ts_ns;
        unsigned digits;
        const char *want;
    } rows[] = {
        {0, 0, "1970-01-01T00:00:00Z"},
        {0, 3, "1970-01-01T00:00:00.000Z"},
        {INT64_C(1700000000123456789), 0, "2023-11-14T22:13:20Z"},
        {INT64_C(1700000000123456789), 3, "2023-11-14T22:13:20.123Z"},
        {INT64_C(1700000000123456789), 9, "2023-11-14T22:13:20.123456789Z"},
        {INT64_C(1700000000000000009), 9, "2023-11-14T22:13:20.000000009Z"},
        {INT64_C(1700000000999999999), 3, "2023-11-14T22:13:20.999Z"}, /* cut, not rounded */
        {INT64_C(1709164800000000000), 0, "2024-02-29T00:00:00Z"},
        {-1, 9, "1969-12-31T23:59:59.999999999Z"},
        {-1, 3, "1969-12-31T23:59:59.999Z"},
        {-1, 0, "1969-12-31T23:59:59Z"},
        {-1000000000, 3, "1969-12-31T23:59:59.000Z"},
        {INT64_MAX, 9, "2262-04-11T23:47:16.854775807Z"},
        {INT64_MIN, 9, "1677-09-21T00:12:43.145224192Z"},
        {INT64_MIN, 42, "1677-09-21T00:12:43.145224192Z"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char out[TG_TIME_TEXT_MAX];
        const size_t n = tg_time_text(out, rows[i].ts_ns, rows[i].digits);
        assert_string_equal(out, rows[i].want);
        assert_int_equal(n, strlen(rows[i].want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(times_have_their_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
