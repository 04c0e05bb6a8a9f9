/* shared_parts.h: prepared bytes with what many series share kept once.
 *
 * The bytes with which a backend names a series are mostly tags, and most tags are shared by
 * thousands of series. Packed, a series holds two or three bytes for each shared part:
 *
 *   packed: tokens; a token is a varint v:   v even: v / 2 plain bytes follow
 *                                            v odd:  part number v / 2
 *
 * A part is taken into the table once it was seen a few times; values that never come again never
 * get there. Neighbours that were often seen together become one, a run, and so do a run and its
 * neighbour. Parts stay for the table's life, so their number and bytes are bounded
 * (TG_SHARED_PARTS_MAX, TG_SHARED_PARTS_MAX_BYTES); beyond that bytes stay plain.
 *
 * Threading: pack from any thread (one lock, cold path); unpack from any thread without a lock.
 */
#ifndef TG_CODEC_SHARED_PARTS_H
#define TG_CODEC_SHARED_PARTS_H

#include <stdbool.h>

#include "core/base/buf.h"

enum {
    TG_SHARED_PARTS_MAX = 1 << 16,
    TG_SHARED_PARTS_MAX_BYTES = 8 << 20,
    TG_SHARED_PARTS_MAX_LEN = 255, /* bytes of one part */
    TG_SHARED_PARTS_MIN_LEN = 6,   /* a shorter one saves too little */
};

struct tg_shared_parts;
struct tg_shared_parts *tg_shared_parts_new(void);    /* NULL when out of memory */
void tg_shared_parts_free(struct tg_shared_parts *p); /* NULL accepted */

struct tg_shared_part {
    const uint8_t *bytes;
    uint16_t len;
    bool is_run; /* two others, one after the other */
    uint32_t hash;
    uint32_t parts[2]; /* of a run */
};
/* Part `id` of a token. Any thread that was given the packed bytes; lives as long as the table. */
const struct tg_shared_part *tg_shared_parts_at(const struct tg_shared_parts *p, uint32_t id);

/* Length of the part that begins at `at` (1 <= length <= end - at): where the bytes may be cut.
 * `begin` is where all of them begin. *head is 0 before; a callback may set it to a part of the
 * part, from `at` on, that many share although the rest of it differs (a tag's key). */
typedef size_t (*tg_shared_part_len)(const uint8_t *begin, const uint8_t *at, const uint8_t *end,
                                     size_t *head);

/* Appends the packed form of `len` bytes; `p` NULL: all of them plain. TG_ERR_NOMEM,
 * TG_ERR_TOO_LARGE from `out`, which is then as it was. */
TG_MUST_CHECK enum tg_code tg_shared_parts_pack(struct tg_shared_parts *p, const uint8_t *bytes,
                                                size_t len, tg_shared_part_len next,
                                                struct tg_buf *out);
/* Appends the plain form; `packed` must come from tg_shared_parts_pack of the same table.
 * TG_ERR_NOMEM, TG_ERR_TOO_LARGE from `out`. */
TG_MUST_CHECK enum tg_code tg_shared_parts_unpack(const struct tg_shared_parts *p,
                                                  const uint8_t *packed, size_t len,
                                                  struct tg_buf *out);

#endif
