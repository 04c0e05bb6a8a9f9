/* double_bits.h: a double's bits as an integer, and back.
 *
 * Threading: no state.
 */
#ifndef TG_BASE_DOUBLE_BITS_H
#define TG_BASE_DOUBLE_BITS_H

#include <stdint.h>
#include <string.h>

static inline uint64_t tg_double_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits;
}
static inline double tg_bits_double(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

#endif
