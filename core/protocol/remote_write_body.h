/* remote_write_body.h: the WriteRequest that a Prometheus is sent, series by series, plain or as a
 * snappy block.
 *
 * As a block (snappy_block.h) nothing is built that would then be searched for what it repeats.
 * What it is made of has names: the parts of the labels (shared_parts.h) have numbers, lengths and
 * times are what they are. For each name the place is known where it was written last, and the
 * names of the last few thousand places are kept in their order:
 *
 *   log    ... | name w | name x | name y | value | name t | name u | name x | name y | ...
 *                                  ^ src                                       ^ now
 *
 * A name is a copy from where it stood last; or, when it is the one after what is copied at the
 * moment (`src`), that copy is longer; or, when what is copied at the moment stood before it there,
 * too, then the copy is from there. New bytes are literals.
 *
 * Points of one series that are added together are one TimeSeries (a histogram's: one for each of
 * its series), as long as they have one form: numbers, native histograms, or the same buckets.
 *
 * Threading: one thread at a time; the parts may be those of other threads, too.
 */
#ifndef TG_PROTOCOL_REMOTE_WRITE_BODY_H
#define TG_PROTOCOL_REMOTE_WRITE_BODY_H

#include "core/codec/shared_parts.h"
#include "core/codec/snappy_block.h"
#include "core/model/point.h"

enum {
    TG_REMOTE_WRITE_LOG = 1 << 14, /* a power of two */
    TG_REMOTE_WRITE_HEADS = 64,    /* a power of two */
    TG_REMOTE_WRITE_TIMES = 8,     /* a power of two */
};

struct tg_remote_write_seen { /* of a name */
    uint32_t at;              /* where it was written last, counted on from `base`; 0 = never */
    uint32_t in_log;
    uint32_t len;
    uint32_t name;
};

struct tg_remote_write_body {
    const struct tg_shared_parts *shared_parts;
    size_t max_bytes; /* plain */
    bool is_snappy;
    struct tg_snappy_block block;      /* plain: its buffer and n_plain alone are used */
    uint32_t base;                     /* what is at or below it is of bodies before */
    struct tg_remote_write_seen *seen; /* by number of the part */
    uint32_t n_seen;
    struct tg_remote_write_seen heads[TG_REMOTE_WRITE_HEADS]; /* of TimeSeries, by length */
    struct tg_remote_write_seen sample_head;
    struct tg_remote_write_seen times[TG_REMOTE_WRITE_TIMES]; /* by place in the TimeSeries: */
    uint64_t times_ms[TG_REMOTE_WRITE_TIMES];                 /* those of the series before */
    uint32_t n_times;                                         /* names given to them */
    uint32_t *log;       /* TG_REMOTE_WRITE_LOG names, 0 = none: a ring; NULL: plain so far */
    uint32_t now, src;   /* in the log */
    uint32_t n_copied;   /* names in the open copy */
    struct tg_buf tail;  /* exemplars and native histograms, whose length comes before the labels */
    struct tg_buf label; /* le or quantile */
    struct tg_buf sums;  /* of a histogram's buckets, and the values of one series */
};

/* `parts`: of the prepared bytes; NULL when they were prepared without. Borrowed. */
void tg_remote_write_body_init(struct tg_remote_write_body *b,
                               const struct tg_shared_parts *shared_parts);
void tg_remote_write_body_deinit(struct tg_remote_write_body *b);

/* Starts a body of at most max_bytes (at most 2 GiB) before compression: plain, appended to `out`;
 * or a snappy block, in `out` alone. `out` is borrowed until `end`. TG_ERR_NOMEM, TG_ERR_TOO_LARGE.
 */
TG_MUST_CHECK enum tg_code tg_remote_write_body_begin(struct tg_remote_write_body *b,
                                                      struct tg_buf *out, size_t max_bytes,
                                                      bool is_snappy);
/* Adds points of one series, oldest first: what becomes of each is said with
 * tg_remote_write_append_point. is_left_out[i]: point i has no form there (TG_ERR_UNSUPPORTED would
 * be said of it), the others are written. TG_ERR_TOO_LARGE, TG_ERR_NOMEM: the body cannot be used;
 * begin another. */
TG_MUST_CHECK enum tg_code tg_remote_write_body_add(struct tg_remote_write_body *b,
                                                    const uint8_t *prepared, uint32_t len,
                                                    const struct tg_point *const *points,
                                                    uint32_t n, bool *is_left_out);
/* Adds a field of WriteRequest. As tg_remote_write_body_add. */
TG_MUST_CHECK enum tg_code tg_remote_write_body_add_field(struct tg_remote_write_body *b,
                                                          uint32_t number, const void *bytes,
                                                          size_t len);
/* *Returns* how many bytes at the beginning of `out` are not the body's (plain: 0). */
size_t tg_remote_write_body_end(struct tg_remote_write_body *b);
static inline bool tg_remote_write_body_is_empty(const struct tg_remote_write_body *b)
{
    return b->block.n_plain == 0;
}

#endif
