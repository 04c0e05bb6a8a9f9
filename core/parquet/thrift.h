/* thrift.h: Thrift's compact protocol, as much of it as Parquet's metadata uses.
 *
 *   struct  := field* 0x00
 *   field   := (id delta << 4 | type) or (type, zigzag varint id), then the value
 *   list    := (n << 4 | type) or (0xf0 | type, varint n), then the values
 *   integer := zigzag varint; binary := varint length, bytes; a bool lies in its field's type
 *
 * After the Thrift project's "Thrift Compact protocol encoding" page.
 *
 * Both sides keep the first failure and do nothing after it, so that a structure is written or read
 * in one go and checked once. Nesting is bounded by TG_THRIFT_MAX_DEPTH in both.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_THRIFT_H
#define TG_PARQUET_THRIFT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"

enum { TG_THRIFT_MAX_DEPTH = 16 };

enum tg_thrift_type {
    TG_THRIFT_STOP = 0,
    TG_THRIFT_TRUE = 1, /* also the element type of a list of bool */
    TG_THRIFT_FALSE = 2,
    TG_THRIFT_I8 = 3,
    TG_THRIFT_I16 = 4,
    TG_THRIFT_I32 = 5,
    TG_THRIFT_I64 = 6,
    TG_THRIFT_DOUBLE = 7,
    TG_THRIFT_BINARY = 8,
    TG_THRIFT_LIST = 9,
    TG_THRIFT_SET = 10,
    TG_THRIFT_MAP = 11,
    TG_THRIFT_STRUCT = 12,
};

/* Writer. `code` is the first failure of the buffer (or TG_ERR_TOO_LARGE for too deep nesting). */
struct tg_thriftw {
    struct tg_buf *buf; /* borrows */
    enum tg_code code;
    unsigned depth;
    int last_id[TG_THRIFT_MAX_DEPTH];
};

void tg_thriftw_init(struct tg_thriftw *w, struct tg_buf *buf);
/* A struct at the top or as a list element. */
void tg_thriftw_begin(struct tg_thriftw *w);
void tg_thriftw_end(struct tg_thriftw *w);
/* Fields of the struct begun last; ids ascend. */
void tg_thriftw_struct(struct tg_thriftw *w, int id); /* ended by tg_thriftw_end */
void tg_thriftw_bool(struct tg_thriftw *w, int id, bool v);
void tg_thriftw_i8(struct tg_thriftw *w, int id, int8_t v);
void tg_thriftw_i16(struct tg_thriftw *w, int id, int16_t v);
void tg_thriftw_i32(struct tg_thriftw *w, int id, int32_t v);
void tg_thriftw_i64(struct tg_thriftw *w, int id, int64_t v);
void tg_thriftw_binary(struct tg_thriftw *w, int id, const void *p, size_t len);
void tg_thriftw_str(struct tg_thriftw *w, int id, const char *s);
/* A list of n elements, which follow through begin/end or the item functions. */
void tg_thriftw_list(struct tg_thriftw *w, int id, enum tg_thrift_type type, uint32_t n);
void tg_thriftw_item_bool(struct tg_thriftw *w, bool v);
void tg_thriftw_item_int(struct tg_thriftw *w, int64_t v); /* i16, i32 or i64 */
void tg_thriftw_item_binary(struct tg_thriftw *w, const void *p, size_t len);

/* Reader over borrowed bytes; never reads past `end`. */
struct tg_thriftr {
    const uint8_t *start, *p, *end;
    bool failed; /* malformed, too deep, or not of the expected type */
    unsigned depth;
    int last_id[TG_THRIFT_MAX_DEPTH];
    bool bool_value; /* of the field header read last */
};

void tg_thriftr_init(struct tg_thriftr *r, const void *p, size_t len);
/* Enters a struct (top, list element, or the value of the field just read). */
void tg_thriftr_begin(struct tg_thriftr *r);
/* The next field of the struct entered last. false at its end (which leaves it) and on failure. The
 * caller then reads the value or calls skip. */
bool tg_thriftr_field(struct tg_thriftr *r, int *id, enum tg_thrift_type *type);
void tg_thriftr_skip(struct tg_thriftr *r, enum tg_thrift_type type);
/* Values; `type` is what the header said, and another one than asked for is a failure. */
bool tg_thriftr_bool(struct tg_thriftr *r, enum tg_thrift_type type);
int64_t tg_thriftr_int(struct tg_thriftr *r, enum tg_thrift_type type); /* i16, i32, i64 */
int32_t tg_thriftr_i32(struct tg_thriftr *r, enum tg_thrift_type type); /* and in range */
int8_t tg_thriftr_i8(struct tg_thriftr *r, enum tg_thrift_type type);
const uint8_t *tg_thriftr_binary(struct tg_thriftr *r, enum tg_thrift_type type, size_t *len);
/* List header: returns n, at most `max` (more is a failure) and at most the bytes that are left. */
uint32_t tg_thriftr_list(struct tg_thriftr *r, enum tg_thrift_type type, enum tg_thrift_type elem,
                         uint32_t max);
bool tg_thriftr_item_bool(struct tg_thriftr *r);

#endif
