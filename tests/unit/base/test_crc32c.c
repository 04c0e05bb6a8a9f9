/* CRC-32C: the vectors of RFC 3720 B.4, and both forms alike at every length and alignment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/crc32c.h"

static void test_vectors(void **state)
{
    (void)state;
    uint8_t b[32];
    memset(b, 0, sizeof(b));
    assert_int_equal(tg_crc32c(0, b, 32), 0x8a9136aa);
    memset(b, 0xff, sizeof(b));
    assert_int_equal(tg_crc32c(0, b, 32), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++) b[i] = (uint8_t)i;
    assert_int_equal(tg_crc32c(0, b, 32), 0x46dd794e);
    for (unsigned i = 0; i < 32; i++) b[i] = (uint8_t)(31 - i);
    assert_int_equal(tg_crc32c(0, b, 32), 0x113fdb5c);
    assert_int_equal(tg_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(tg_crc32c(0, b, 0), 0);
    assert_int_equal(tg_crc32c_table(0, "123456789", 9), 0xe3069283);
}

/* The instruction is used where the processor that runs this has it, not where the compiler might. */
static void test_instruction(void **state)
{
    (void)state;
    bool has = false;
#ifdef __x86_64__
    static char line[1 << 16]; /* the flags are one line */
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof(line), f)) has |= strstr(line, " sse4_2 ") != NULL;
    if (f) (void)fclose(f);
#endif
    assert_int_equal(tg_crc32c_has_instruction(), has);
}

static void test_forms_agree(void **state)
{
    (void)state;
    uint8_t b[300];
    for (unsigned i = 0; i < sizeof(b); i++) b[i] = (uint8_t)(i * 37 + (i >> 3));
    for (size_t from = 0; from < 9; from++) {
        for (size_t len = 0; len + from <= sizeof(b); len++) {
            const uint32_t whole = tg_crc32c(0, b + from, len);
            assert_int_equal(tg_crc32c_table(0, b + from, len), whole);
            const size_t cut = len / 3;
            assert_int_equal(tg_crc32c(tg_crc32c(0, b + from, cut), b + from + cut, len - cut),
                             whole);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_instruction),
        cmocka_unit_test(test_forms_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
