/* How long a wait is after failures in a row: doubled, capped, half of it random, and as long as the
 * server asks for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/pipe/backoff.h"

static void waits_grow_and_end(void **state)
{
    (void)state;
    static const struct {
        uint64_t whole_ms; /* the wait is between half of it and all of it */
    } rows[] = {{100}, {200}, {400}, {800}, {1000}, {1000}, {1000}};
    struct tg_backoff b = {.min_ms = 100, .max_ms = 1000};
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            const uint64_t wait_ms = tg_backoff_next(&b, -1);
            assert_in_range(wait_ms, rows[i].whole_ms / 2, rows[i].whole_ms);
        }
        tg_backoff_reset(&b);
    }
}

static void a_server_is_heard(void **state)
{
    (void)state;
    struct tg_backoff b = {.min_ms = 100, .max_ms = 1000};
    assert_int_equal(tg_backoff_next(&b, 5000), 5000); /* longer than any wait of ours */
    assert_int_equal(b.n_failures, 1);
    assert_int_equal(tg_backoff_next(&b, INT64_MAX), 10 * 60 * 1000);
    assert_in_range(tg_backoff_next(&b, 1), 200, 400); /* not shorter than ours */
    assert_in_range(tg_backoff_next(&b, 0), 400, 800);
    struct tg_backoff none = {.min_ms = 0, .max_ms = 0};
    assert_int_equal(tg_backoff_next(&none, -1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_grow_and_end),
        cmocka_unit_test(a_server_is_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
