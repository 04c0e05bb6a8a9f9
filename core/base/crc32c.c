#include "core/base/crc32c.h"

#include <string.h>
#ifdef __x86_64__
#include <nmmintrin.h>
#endif

/* Four bits at a time: 64 bytes of table; this path only serves machines without the instruction.
 */
static const uint32_t nibble[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t tg_crc32c_table(uint32_t crc, const void *p, size_t len)
{
    const uint8_t *b = p;
    crc = ~crc;
    while (len--) {
        crc ^= *b++;
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *p,
                                                               size_t len)
{
    const uint8_t *b = p;
    uint64_t c = ~crc;
    while (len >= 8) {
        uint64_t w;
        memcpy(&w, b, 8);
        c = _mm_crc32_u64(c, w);
        b += 8;
        len -= 8;
    }
    while (len--) c = _mm_crc32_u8((uint32_t)c, *b++);
    return ~(uint32_t)c;
}

bool tg_crc32c_has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}

uint32_t tg_crc32c(uint32_t crc, const void *p, size_t len)
{
    return tg_crc32c_has_instruction() ? crc32c_sse42(crc, p, len) : tg_crc32c_table(crc, p, len);
}
#else
bool tg_crc32c_has_instruction(void)
{
    return false;
}

uint32_t tg_crc32c(uint32_t crc, const void *p, size_t len)
{
    return tg_crc32c_table(crc, p, len);
}
#endif
