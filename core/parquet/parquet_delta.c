#include "core/parquet/parquet_delta.h"

#include <string.h>

enum { BLOCK = 128, N_MINI = 4, MINI = BLOCK / N_MINI };

/* 32 values of `width` bits (1..64) into width * 4 bytes. */
static void pack_mini(uint8_t *to, const uint64_t *v, unsigned width)
{
    uint64_t acc = 0;
    unsigned used = 0;
    for (unsigned i = 0; i < MINI; i++) {
        acc |= v[i] << used;
        used += width;
        if (used >= 64) {
            memcpy(to, &acc, 8);
            to += 8;
            used -= 64;
            /* the bits of v[i] that did not fit */
            acc = used ? v[i] >> (width - used) : 0;
        }
    }
    memcpy(to, &acc, used / 8);
}

enum tg_code tg_parquet_delta_encode(const int64_t *values, size_t n, struct tg_buf *out)
{
    TG_TRY(tg_buf_reserve(out, 4 * (size_t)TG_VARINT_MAX));
    tg_buf_put_varint(out, BLOCK);
    tg_buf_put_varint(out, N_MINI);
    tg_buf_put_varint(out, n);
    tg_buf_put_varint(out, tg_zigzag(n ? values[0] : 0));
    for (size_t i = 1; i < n; i += BLOCK) {
        const size_t in_block = n - i < BLOCK ? n - i : BLOCK;
        uint64_t d[BLOCK];
        int64_t min = INT64_MAX;
        for (size_t k = 0; k < in_block; k++) {
            d[k] = (uint64_t)values[i + k] - (uint64_t)values[i + k - 1];
            if ((int64_t)d[k] < min) min = (int64_t)d[k];
        }
        /* the padding of a miniblock is the minimum, so that it packs as 0 */
        for (size_t k = in_block; k < BLOCK; k++) d[k] = (uint64_t)min;
        TG_TRY(tg_buf_reserve(out, TG_VARINT_MAX + N_MINI + BLOCK * sizeof(uint64_t)));
        tg_buf_put_varint(out, tg_zigzag(min));
        unsigned width[N_MINI];
        for (unsigned m = 0; m < N_MINI; m++) {
            uint64_t all = 0;
            for (unsigned k = m * MINI; k < (m + 1) * MINI; k++) {
                d[k] -= (uint64_t)min;
                all |= d[k];
            }
            width[m] = all ? 64 - (unsigned)__builtin_clzll(all) : 0;
            tg_buf_put_u8(out, (uint8_t)width[m]);
        }
        for (unsigned m = 0; m < N_MINI && m * MINI < in_block; m++) {
            if (width[m] == 0) continue;
            pack_mini(out->data + out->len, d + (size_t)m * MINI, width[m]);
            out->len += (size_t)width[m] * (MINI / 8);
        }
    }
    return TG_OK;
}

/* Reads `width` bits (1..64) at bit `bit` of p; the bytes were checked to be there up to `end`. */
static uint64_t unpack_one(const uint8_t *p, const uint8_t *end, uint64_t bit, unsigned width)
{
    const uint8_t *from = p + (bit >> 3);
    const unsigned shift = bit & 7;
    const size_t room = (size_t)(end - from);
    uint64_t word = 0;
    memcpy(&word, from, room < 8 ? room : 8);
    word >>= shift;
    if (shift + width > 64) word |= (uint64_t)from[8] << (64 - shift);
    return width == 64 ? word : word & ((UINT64_C(1) << width) - 1);
}

bool tg_parquet_delta_decode(const uint8_t *p, size_t len, int64_t *out, size_t n)
{
    const uint8_t *end = len ? p + len : p; /* nothing may be NULL */
    uint64_t block, n_mini, count, first;
    if (!tg_varint_get(&p, end, &block) || block != BLOCK) return false;
    if (!tg_varint_get(&p, end, &n_mini) || n_mini != N_MINI) return false;
    if (!tg_varint_get(&p, end, &count) || count != n) return false;
    if (!tg_varint_get(&p, end, &first)) return false;
    if (n == 0) return p == end;
    uint64_t last = (uint64_t)tg_unzigzag(first);
    out[0] = (int64_t)last;
    for (size_t i = 1; i < n; i += BLOCK) {
        const size_t in_block = n - i < BLOCK ? n - i : BLOCK;
        uint64_t zmin;
        if (!tg_varint_get(&p, end, &zmin) || end - p < N_MINI) return false;
        const uint64_t min = (uint64_t)tg_unzigzag(zmin);
        const uint8_t *widths = p;
        p += N_MINI;
        for (unsigned m = 0; m < N_MINI && m * MINI < in_block; m++) {
            const unsigned width = widths[m];
            const size_t bytes = (size_t)width * (MINI / 8);
            if (width > 64 || bytes > (size_t)(end - p)) return false;
            const size_t left = in_block - (size_t)m * MINI;
            const size_t here = left < MINI ? left : MINI;
            int64_t *to = out + i + (size_t)m * MINI;
            for (size_t k = 0; k < here; k++) {
                last += min + (width ? unpack_one(p, end, k * width, width) : 0);
                to[k] = (int64_t)last;
            }
            p += bytes;
        }
    }
    return p == end;
}
