#include "core/codec/snappy_block.h"

enum { LITERAL = 0, COPY_1 = 1, COPY_2 = 2, COPY_4 = 3 }; /* what the low bits of a tag say */

void tg_snappy_close_literal(struct tg_snappy_block *b)
{
    const size_t n = b->literal_len;
    uint8_t *tag = b->end - n - 1;
    b->literal_len = 0;
    if (n <= 60) {
        *tag = (uint8_t)((n - 1) << 2 | LITERAL);
        return;
    }
    const unsigned more = n <= 1 << 8 ? 1 : n <= 1 << 16 ? 2 : n <= 1 << 24 ? 3 : 4;
    memmove(tag + 1 + more, tag + 1, n);
    *tag = (uint8_t)((59 + more) << 2 | LITERAL);
    for (unsigned i = 0; i < more; i++) tag[1 + i] = (uint8_t)((n - 1) >> (8 * i));
    b->end += more;
}

static inline void put_far_copy(uint8_t *p, size_t offset, size_t n)
{
    p[0] = (uint8_t)((n - 1) << 2 | COPY_4);
    for (unsigned i = 0; i < 4; i++) p[1 + i] = (uint8_t)(offset >> (8 * i));
}

/* Of two or three bytes; writes four. */
static inline size_t put_near_copy(uint8_t *p, size_t offset, size_t n)
{
    const bool is_short = (n - 4 < 8) & (offset < 1 << 11);
    const uint32_t two = (uint32_t)((offset >> 8) << 5 | (n - 4) << 2 | COPY_1 | offset << 8);
    const uint32_t three = (uint32_t)((n - 1) << 2 | COPY_2 | offset << 8);
    const uint32_t element = is_short ? two : three; /* no branch: which it is cannot be guessed */
    for (unsigned i = 0; i < 4; i++) p[i] = (uint8_t)(element >> (8 * i));
    return 3 - (size_t)is_short;
}

void tg_snappy_close_copy(struct tg_snappy_block *b)
{
    const size_t offset = b->copy_at - b->copy_from;
    size_t n = b->copy_len;
    uint8_t *p = b->end;
    b->copy_len = 0;
    if (__builtin_expect(offset >= 1 << 16, 0)) {
        for (;; n -= 64, p += 5) {
            put_far_copy(p, offset, n < 64 ? n : 64);
            if (n <= 64) break;
        }
        b->end = p + 5;
        return;
    }
    for (; n > 64; n -= 64) p += put_near_copy(p, offset, 64);
    b->end = p + put_near_copy(p, offset, n);
}

size_t tg_snappy_end(struct tg_snappy_block *b)
{
    if (b->literal_len) tg_snappy_close_literal(b);
    if (b->copy_len) tg_snappy_close_copy(b);
    b->out->len = (size_t)(b->end - b->out->data);
    const size_t skip = TG_SNAPPY_PREAMBLE - tg_varint_len(b->n_plain);
    struct tg_buf preamble = {.data = b->out->data + skip, .cap = TG_SNAPPY_PREAMBLE};
    tg_buf_put_varint(&preamble, b->n_plain);
    return skip;
}
