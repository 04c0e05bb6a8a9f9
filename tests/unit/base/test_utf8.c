/* UTF-8, held against a decoder that works another way: by the code point and its shortest form. */
#include "core/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Length of the shortest form of the code point that the bytes at p stand for, or 0. */
static unsigned by_code_point(const uint8_t *p, size_t room)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned n = p[0] < 0x80       ? 1
                 : p[0] >> 5 == 6  ? 2
                 : p[0] >> 4 == 14 ? 3
                 : p[0] >> 3 == 30 ? 4
                                   : 0;
    if (n == 0 || n > room) return 0;
    uint32_t v = n == 1 ? p[0] : p[0] & (0x7fU >> n);
    for (unsigned i = 1; i < n; i++) {
        if (p[i] >> 6 != 2) return 0;
        v = v << 6 | (p[i] & 0x3fU);
    }
    return v < least[n] || v > 0x10ffff || v >> 11 == 0xd800 >> 11 ? 0 : n;
}

static void characters_are_those_of_the_code_points(void **state)
{
    (void)state;
    /* Two bytes in full; a third and a fourth where the edges are. */
    static const uint8_t more[] = {0x00, 0x41, 0x7f, 0x80, 0xbf, 0xc0, 0xff};
    for (unsigned first = 0; first < 0x10000; first++) {
        for (unsigned k = 0; k < sizeof(more) * sizeof(more); k++) {
            const uint8_t p[4] = {(uint8_t)(first >> 8), (uint8_t)first, more[k / sizeof(more)],
                                  more[k % sizeof(more)]};
            for (size_t room = 1; room <= 4; room++) {
                const unsigned want = by_code_point(p, room);
                if (tg_utf8_len(p, room) != want)
                    fail_msg("%02x %02x %02x %02x of %zu: %u, want %u", p[0], p[1], p[2], p[3],
                             room, tg_utf8_len(p, room), want);
            }
        }
    }
}

static void texts_are_valid_as_their_characters_are(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        bool want;
    } rows[] = {
        {"", 0, true},
        {"a", 1, true},
        {"12345678", 8, true},
        {"1234567\0", 8, false},
        {"\0", 1, false},
        {"12345678\xc3\xa4", 10, true},
        {"1234567\xc3\xa4", 9, true}, /* across the eight bytes */
        {"1234567\xc3", 8, false},
        {"\xef\xbf\xbf", 3, true},
        {"\xed\x9f\xbf\xee\x80\x80", 6, true},
        {"\xed\xa0\x80", 3, false},
        {"\xf4\x8f\xbf\xbf", 4, true},
        {"\xf4\x90\x80\x80", 4, false},
        {"\xc0\x80", 2, false},
        {"\xe0\x9f\xbf", 3, false},
        {"abcdefgh\xff", 9, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (tg_utf8_valid(rows[i].text, rows[i].len) != rows[i].want) fail_msg("row %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_are_those_of_the_code_points),
        cmocka_unit_test(texts_are_valid_as_their_characters_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
