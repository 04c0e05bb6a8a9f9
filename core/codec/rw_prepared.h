/* rw_prepared.h: the prepared bytes of a series for a Prometheus, as remote_write.h lays them out,
 * to the files that write and read them. Not for other layers.
 *
 * Threading: no shared state.
 */
#ifndef TG_CODEC_RW_PREPARED_H
#define TG_CODEC_RW_PREPARED_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    TG_RW_PLAIN = 0,
    TG_RW_COMPOSITE = 1,
    TG_RW_NATIVE = 2,
    TG_RW_SUMMARY = 3, /* laid out as a composite */
    TG_RW_FORM_MASK = 0x7f,
    TG_RW_KEEPS_NAMES = 0x80, /* label names of exemplars, too, stay as they are */
    TG_RW_COMPOSITE_HEAD = 1 + 4 * 4
};

struct tg_rw_parts { /* of a histogram or summary */
    const uint8_t *a, *name, *b, *c;
    uint32_t a_len, name_len, b_len, c_len;
};

/* False when the bytes are no composite. */
static inline bool tg_rw_read_parts(const uint8_t *prepared, uint32_t len, struct tg_rw_parts *s)
{
    uint32_t lens[4];
    const int form = len < TG_RW_COMPOSITE_HEAD ? -1 : prepared[0] & TG_RW_FORM_MASK;
    if (form != TG_RW_COMPOSITE && form != TG_RW_SUMMARY) return false;
    memcpy(lens, prepared + 1, sizeof(lens));
    if ((uint64_t)lens[0] + lens[1] + lens[2] + lens[3] != len - TG_RW_COMPOSITE_HEAD) return false;
    s->a = prepared + TG_RW_COMPOSITE_HEAD;
    s->a_len = lens[0];
    s->name = s->a + lens[0];
    s->name_len = lens[1];
    s->b = s->name + lens[1];
    s->b_len = lens[2];
    s->c = s->b + lens[2];
    s->c_len = lens[3];
    return true;
}

#endif
