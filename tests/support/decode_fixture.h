/* decode_fixture.h: a table, a batch and a decoder's arguments, and points as text to compare.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_TEST_DECODE_FIXTURE_H
#define TG_TEST_DECODE_FIXTURE_H

#include "core/protocol/intake.h"
#include "core/protocol/otlp_encode.h"

struct tg_decode_fixture {
    struct tg_table *table;
    struct tg_batch batch;
    struct tg_arena scratch;
    struct tg_intake d;
    struct tg_buf text;
};

typedef enum tg_code (*tg_decoder)(const uint8_t *buf, size_t len, struct tg_intake *d,
                                   struct tg_err *err);

/* config NULL = defaults. Aborts without memory. */
void tg_decode_fixture_init(struct tg_decode_fixture *f, const struct tg_table_config *config);
/* Also validates the table (aborts when it is broken). */
void tg_decode_fixture_deinit(struct tg_decode_fixture *f);
/* Empties the batch and zeroes the counters; the table keeps its series. */
void tg_decode_fixture_reset(struct tg_decode_fixture *f);

/* Decodes from a heap copy of exactly `len` bytes, so that ASan sees a read past the end. */
enum tg_code tg_decode_exact(struct tg_decode_fixture *f, tg_decoder decode, const void *bytes,
                             size_t len, struct tg_err *err);

/* All points of the batch as text, one a line, borrowed until the next call:
 *   name{key="value"} kind temporality [unit] value @time start=time {exemplars} */
const char *tg_decode_text(struct tg_decode_fixture *f);

/* Descs and items (in the fixture's scratch arena) for encoding what was decoded; NULL without
 * memory. */
struct tg_otlp_item *tg_decode_items(struct tg_decode_fixture *f);

/* "0a0b" to bytes; returns the number written. */
size_t tg_unhex(const char *hex, uint8_t *out);

#endif
