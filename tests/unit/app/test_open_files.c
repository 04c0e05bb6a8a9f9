/* How many connections of senders a limit on open files leaves room for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "core/app/open_files.h"
#include "core/net/http_server.h"

static struct tg_config config_of(uint32_t n_workers, uint32_t n_backends, uint32_t n_connections)
{
    return (struct tg_config){
        .n_workers = n_workers, .n_backends = n_backends, .limits.max_connections = n_connections};
}

static void test_enough_is_left_alone(void **state)
{
    (void)state;
    const struct tg_config c = config_of(3, 2, 4097);
    uint64_t reserve;
    assert_int_equal(tg_open_files_connections(&c, UINT64_MAX, &reserve), 4097);
    assert_int_equal(reserve, 64 + 3 * 6 + 2 * 16);
    const uint64_t all = reserve + UINT64_C(3) * (1366 + 64);
    assert_int_equal(tg_open_files_connections(&c, all, &reserve), 4097);
    assert_true(tg_open_files_connections(&c, all - 1, &reserve) < 4097);
}

/* Whatever the limit: those that are told 503 count, too, and as many as fit get in. */
static void test_all_fit(void **state)
{
    (void)state;
    for (uint32_t n_workers = 1; n_workers <= 5; n_workers++) {
        const struct tg_config c = config_of(n_workers, 4, 4096);
        for (uint64_t n_files = 0; n_files < 5000; n_files++) {
            uint64_t reserve;
            const uint32_t got = tg_open_files_connections(&c, n_files, &reserve);
            const uint32_t each = (got + n_workers - 1) / n_workers;
            const uint64_t open =
                reserve + (each + tg_http_server_n_refusals(each)) * (uint64_t)n_workers;
            const uint64_t one_more =
                reserve + (each + 1 + tg_http_server_n_refusals(each + 1)) * (uint64_t)n_workers;
            assert_true(got >= n_workers);
            if (got > n_workers) assert_true(open <= n_files);
            if (got < 4096) assert_true(one_more > n_files);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enough_is_left_alone),
        cmocka_unit_test(test_all_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
