/* snappy_block.h: a snappy block written by one who knows what it repeats.
 *
 *   block:   plain length (varint) | elements
 *   element: literal: len - 1 in the tag (below 60) or in the 1 to 4 bytes after it | bytes
 *            copy:    length and how far back, in 2, 3 or 5 bytes
 *
 * tg_compress_encode (libsnappy) searches the bytes for what came before. Here the caller says so,
 * by the place it has in the plain bytes: no plain bytes are made, nothing is hashed or compared.
 * Neighbouring literals become one, and so do copies of what lies side by side.
 *
 * Copies reach as far back as the block goes (libsnappy looks 64 KiB back; decoders take any
 * offset: libsnappy, golang/snappy and klauspost/compress were tried). A copy may overlap what it
 * writes, as the format allows.
 *
 * Source: format_description.txt of google/snappy.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_CODEC_SNAPPY_BLOCK_H
#define TG_CODEC_SNAPPY_BLOCK_H

#include <stdbool.h>

#include "core/base/buf.h"

enum {
    TG_SNAPPY_PREAMBLE = 5, /* bytes of the longest plain length */
    TG_SNAPPY_MIN_COPY =
        6, /* what is shorter is better written again: a copy takes up to 5 bytes */
};

struct tg_snappy_block {
    struct tg_buf *out;        /* its len is behind: see `end` */
    uint8_t *end;              /* of what is written to out */
    size_t n_plain;            /* bytes written so far, open elements included */
    size_t literal_len;        /* of the open literal, which ends at `end`; 0: none is open */
    size_t copy_from, copy_at; /* of the open copy, in the plain bytes */
    size_t copy_len;           /* 0: none is open; never both */
};

/* Starts a block at the beginning of `out`, which is emptied. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK static inline enum tg_code tg_snappy_begin(struct tg_snappy_block *b,
                                                         struct tg_buf *out)
{
    tg_buf_reset(out);
    *b = (struct tg_snappy_block){.out = out};
    TG_TRY(tg_buf_reserve(out, TG_SNAPPY_PREAMBLE));
    b->end = out->data + TG_SNAPPY_PREAMBLE;
    return TG_OK;
}

/* Room for n plain bytes in at most `n_elements` calls of literal and copy, and for what is open.
 * The other functions, but for `end`, rely on it. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK static inline enum tg_code tg_snappy_reserve(struct tg_snappy_block *b, size_t n,
                                                           size_t n_elements)
{
    struct tg_buf *out = b->out;
    out->len = (size_t)(b->end - out->data);
    /* A literal takes up to 5 bytes more than it stands for, a copy 5 for each 64 bytes begun. */
    TG_TRY(tg_buf_reserve(out, n + 5 * (n_elements + 2)));
    b->end = out->data + out->len;
    return TG_OK;
}

void tg_snappy_close_literal(struct tg_snappy_block *b);
void tg_snappy_close_copy(struct tg_snappy_block *b);

/* Begins or goes on with a literal: *returns* where its next n bytes go, which the caller fills in.
 */
static inline uint8_t *tg_snappy_literal_of(struct tg_snappy_block *b, size_t n)
{
    if (b->copy_len) tg_snappy_close_copy(b);
    uint8_t *at = b->end;
    if (b->literal_len == 0) at++; /* the tag */
    b->end = at + n;
    b->literal_len += n;
    b->n_plain += n;
    return at;
}

static inline void tg_snappy_literal(struct tg_snappy_block *b, const void *bytes, size_t n)
{
    uint8_t *to = tg_snappy_literal_of(b, n);
    const uint8_t *from = (const uint8_t *)bytes;
    if (n >= 8 && n <= 16) { /* most are short: no call */
        memcpy(to, from, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else {
        memcpy(to, from, n);
    }
}

/* The n bytes that stand at `from` in the plain bytes, once more; from < n_plain. *Returns* whether
 * they only make the open copy longer. */
static inline bool tg_snappy_copy(struct tg_snappy_block *b, size_t from, size_t n)
{
    const bool goes_on = b->copy_len && b->copy_from + b->copy_len == from;
    if (!goes_on) {
        if (b->copy_len)
            tg_snappy_close_copy(b);
        else if (b->literal_len)
            tg_snappy_close_literal(b);
        b->copy_from = from;
        b->copy_at = b->n_plain;
    }
    b->copy_len += n;
    b->n_plain += n;
    return goes_on;
}

/* The next n of what the open copy takes its bytes from; there must be one. */
static inline void tg_snappy_copy_on(struct tg_snappy_block *b, size_t n)
{
    b->copy_len += n;
    b->n_plain += n;
}

/* Takes what is in the open copy from before `until` instead: the same bytes end there, too. */
static inline void tg_snappy_copy_from_before(struct tg_snappy_block *b, size_t until)
{
    b->copy_from = until - b->copy_len;
}

/* Writes what is open and the plain length. *Returns* how many bytes at the beginning of out are
 * not the block's. At most UINT32_MAX plain bytes: the caller's to see to. */
size_t tg_snappy_end(struct tg_snappy_block *b);

#endif
