/* pieces.h: prepared bytes with what many series share kept once.
 *
 * The bytes with which a backend names a series are mostly tags, and most tags are shared by
 * thousands of series. Packed, a series holds two or three bytes for each shared piece:
 *
 *   packed: tokens; a token is a varint v:   v even: v / 2 plain bytes follow
 *                                            v odd:  piece number v / 2
 *
 * A piece is taken into the table once it was seen a few times; values that never come again never
 * get there. Neighbours that were often seen together become one, a run, and so do a run and its
 * neighbour. Pieces stay for the table's life, so their number and bytes are bounded
 * (TG_PIECES_MAX, TG_PIECES_MAX_BYTES); beyond that bytes stay plain.
 *
 * Threading: pack from any thread (one lock, cold path); unpack from any thread without a lock.
 */
#ifndef TG_CODEC_PIECES_H
#define TG_CODEC_PIECES_H

#include <stdbool.h>

#include "core/base/buf.h"

enum {
    TG_PIECES_MAX = 1 << 16,
    TG_PIECES_MAX_BYTES = 8 << 20,
    TG_PIECES_MAX_LEN = 255, /* bytes of one piece */
    TG_PIECES_MIN_LEN = 6,   /* a shorter one saves too little */
};

struct tg_pieces;
struct tg_pieces *tg_pieces_new(void);    /* NULL when out of memory */
void tg_pieces_free(struct tg_pieces *p); /* NULL accepted */

struct tg_piece {
    const uint8_t *bytes;
    uint16_t len;
    bool is_run; /* two others, one after the other */
    uint32_t hash;
    uint32_t parts[2]; /* of a run */
};
/* Piece `id` of a token. Any thread that was given the packed bytes; lives as long as the table. */
const struct tg_piece *tg_pieces_at(const struct tg_pieces *p, uint32_t id);

/* Length of the piece that begins at `at` (1 <= length <= end - at): where the bytes may be cut.
 * `begin` is where all of them begin. *head is 0 before; a callback may set it to a part of the
 * piece, from `at` on, that many share although the rest of it differs (a tag's key). */
typedef size_t (*tg_piece_len)(const uint8_t *begin, const uint8_t *at, const uint8_t *end,
                               size_t *head);

/* Appends the packed form of `len` bytes; `p` NULL: all of them plain. TG_ERR_NOMEM,
 * TG_ERR_TOO_LARGE from `out`, which is then as it was. */
TG_MUST_CHECK enum tg_code tg_pieces_pack(struct tg_pieces *p, const uint8_t *bytes, size_t len,
                                          tg_piece_len next, struct tg_buf *out);
/* Appends the plain form; `packed` must come from tg_pieces_pack of the same table. TG_ERR_NOMEM,
 * TG_ERR_TOO_LARGE from `out`. */
TG_MUST_CHECK enum tg_code tg_pieces_unpack(const struct tg_pieces *p, const uint8_t *packed,
                                            size_t len, struct tg_buf *out);

#endif
