/* remote_write_prepared.h: the prepared bytes of a series for a Prometheus, as remote_write.h lays
 * them out, to the files that write and read them. Not for other layers.
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_REMOTE_WRITE_PREPARED_H
#define TG_PROTOCOL_REMOTE_WRITE_PREPARED_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/protocol/protobuf_wire.h"

enum {
    TG_REMOTE_WRITE_PLAIN = 0,
    TG_REMOTE_WRITE_COMPOSITE = 1,
    TG_REMOTE_WRITE_NATIVE = 2,
    TG_REMOTE_WRITE_SUMMARY = 3, /* laid out as a composite */
    TG_REMOTE_WRITE_FORM_MASK = 0x7f,
    TG_REMOTE_WRITE_KEEPS_NAMES = 0x80, /* label names of exemplars, too, stay as they are */
};

/* Sections of the tokens, in this order. */
enum tg_remote_write_section {
    TG_REMOTE_WRITE_LABELS = 0, /* of numbers and native histograms: all */
    TG_REMOTE_WRITE_BEFORE = 0, /* of a composite: labels < __name__ */
    TG_REMOTE_WRITE_NAME,
    TG_REMOTE_WRITE_BETWEEN, /* labels < le (quantile) */
    TG_REMOTE_WRITE_AFTER,   /* labels > le */
    TG_REMOTE_WRITE_SECTIONS,
};

struct tg_remote_write_prepared {
    uint8_t form;
    bool is_composite, keeps_names;
    uint32_t len[TG_REMOTE_WRITE_SECTIONS]; /* plain bytes of each section */
    const uint8_t *tokens, *end;
};

/* False when the bytes are none. */
static inline bool tg_remote_write_read_prepared(const uint8_t *prepared, uint32_t len,
                                                 struct tg_remote_write_prepared *s)
{
    const uint8_t *p = prepared;
    if (len == 0 || (*p & TG_REMOTE_WRITE_FORM_MASK) > TG_REMOTE_WRITE_SUMMARY) return false;
    s->form = *p & TG_REMOTE_WRITE_FORM_MASK;
    s->keeps_names = *p & TG_REMOTE_WRITE_KEEPS_NAMES;
    s->is_composite = s->form == TG_REMOTE_WRITE_COMPOSITE || s->form == TG_REMOTE_WRITE_SUMMARY;
    s->end = prepared + len;
    p++;
    const unsigned n = s->is_composite ? TG_REMOTE_WRITE_SECTIONS : 1;
    for (unsigned i = 0; i < n; i++) {
        uint64_t v;
        if (!tg_varint_get(&p, s->end, &v) || v > UINT32_MAX) return false;
        s->len[i] = (uint32_t)v;
    }
    s->tokens = p;
    return true;
}

/* Appends one label as field 1 of a TimeSeries or an exemplar. TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK static inline enum tg_code tg_remote_write_put_label(
    struct tg_buf *b, const void *name, size_t name_len, const void *value, size_t value_len)
{
    const size_t len =
        1 + tg_varint_len(name_len) + name_len + 1 + tg_varint_len(value_len) + value_len;
    TG_TRY(tg_buf_reserve(b, len + 1 + TG_VARINT_MAX));
    tg_buf_put_u8(b, TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES));
    tg_buf_put_varint(b, len);
    tg_protobuf_wire_put_bytes(b, 1, name, name_len);
    tg_protobuf_wire_put_bytes(b, 2, value, value_len);
    return TG_OK;
}

#endif
