/* segment.h: segment files: header, framing of records, walking them past damage.
 *
 *   file:   [header copy][header copy][frame][payload][frame][payload]...
 *   frame:  magic u16 | check u16 | type u8 | length u24 | crc u32    (12 bytes, little-endian)
 *
 * `crc` is the CRC-32C of the record's position (u64), type and length, and the payload; `check`
 * the low half of the same without the payload, so that a false start costs nothing while
 * searching. Because the position is part of it, a copy of a record elsewhere (in a string value
 * that a sender chose, in a reused disk block) is not taken for one.
 *
 * Header (48 bytes, twice): magic "TGSEGv1\n", start position, first point number, end position of
 * the segment before (bytes of that one past it never counted: they are of a failed commit),
 * creation time (ns), u32 zero, CRC-32C. A segment whose headers are both lost is still read.
 *
 * Threading: a walk belongs to one thread.
 */
#ifndef TG_LOG_SEGMENT_H
#define TG_LOG_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/fs.h"

enum {
    TG_SEGMENT_HEADER_BYTES = 96,
    TG_FRAME_BYTES = 12,
    TG_RECORD_MAX_BYTES = (1 << 24) - 1, /* payload */
    TG_SEGMENT_NAME_BYTES = 32,
    TG_LOG_ID_BYTES = 16
};

enum tg_record_type {
    TG_RECORD_SERIES =
        1,               /* u8 flags (1 = zstd), first reference, n, raw length, n x (len, bytes) */
    TG_RECORD_BLOCK = 2, /* core/log/block.h */
    TG_RECORD_COMMIT = 3, /* point number after the commit: the loss of its last block is seen */
    TG_RECORD_TARGETS =
        4, /* n, n x (len, name): what the bits of points' targets mean from here on */
    TG_RECORD_ACCEPTED = 5, /* ms since 1970: when the points from here on were taken in, until the
                              next such record; before the first, the segment's creation time */
    /* The log's id, 16 bytes: the first record of a segment, and once more after its first commit.
     * Segments of former versions have none. */
    TG_RECORD_LOG = 6
};

struct tg_segment_header {
    uint64_t start_pos;
    uint64_t first_point_no;
    uint64_t prev_end_pos;
    int64_t created_ns;
};
void tg_segment_header_put(const struct tg_segment_header *h, uint8_t out[TG_SEGMENT_HEADER_BYTES]);
/* From the first `len` bytes of a file. false: neither copy is whole. */
bool tg_segment_header_get(const uint8_t *bytes, size_t len, struct tg_segment_header *h);

/* The log's id from the first `len` bytes of a file whose name says start_pos. false: it has none,
 * or the bytes are damaged. */
bool tg_segment_log_get(const uint8_t *bytes, size_t len, uint64_t start_pos,
                        uint8_t id[TG_LOG_ID_BYTES]);

/* Point numbers stay below this: a larger one was not written by a log. */
#define TG_POINT_NO_MAX (UINT64_C(1) << 62)
/* And so do positions. */
#define TG_LOG_POS_MAX (UINT64_C(1) << 62)
/* The number in a commit record. false: it has none. */
bool tg_commit_record_get(const uint8_t *payload, size_t len, uint64_t *point_no);

/* The time in an accepted record, ns. false: it has none. */
bool tg_accepted_record_get(const uint8_t *payload, size_t len, int64_t *wall_ns);

/* "00000000000000000000.seg" */
void tg_segment_name(uint64_t start_pos, char out[TG_SEGMENT_NAME_BYTES]);
bool tg_segment_name_parse(const char *name, uint64_t *start_pos);

/* Appends a frame with room for its payload to come; finish it with tg_frame_end. The caller
 * reserved TG_FRAME_BYTES. */
size_t tg_frame_begin(struct tg_buf *out);
/* `mark` from tg_frame_begin; `pos` is the position of the frame in the log. */
void tg_frame_end(struct tg_buf *out, size_t mark, uint64_t pos, enum tg_record_type type);

struct tg_record {
    uint64_t pos, end_pos;  /* of frame and payload */
    const uint8_t *payload; /* borrows from the walk until its next call */
    uint32_t len;
    uint8_t type;           /* unknown ones are given too: ignore them */
    uint64_t damaged_bytes; /* bytes before `pos` that are no record */
};

/* Walks the records of one file, in order, over damage. */
struct tg_segment_walk {
    const struct tg_fs *fs;
    int fd;
    uint64_t start_pos; /* of the file */
    uint64_t pos;       /* of the next frame */
    uint8_t *buf;
    size_t cap;
    uint64_t buf_pos; /* position of buf[0] */
    size_t buf_len;
    int errnum; /* of the newest failed read */
};
void tg_segment_walk_init(struct tg_segment_walk *w, const struct tg_fs *fs, int fd,
                          uint64_t start_pos, uint64_t from_pos);
void tg_segment_walk_deinit(struct tg_segment_walk *w); /* does not close fd */
/* The next record that lies before end_pos. *rec with len 0 and type 0, pos = end_pos: there is no
 * more, and damaged_bytes says how much of the end is no record. Damage is bytes that were read and
 * are not what was written: what cannot be read (EIO, whatever the reason) is none. TG_ERR_NOMEM,
 * TG_ERR_IO: nothing was consumed, and the next call tries again. */
TG_MUST_CHECK enum tg_code tg_segment_walk_next(struct tg_segment_walk *w, uint64_t end_pos,
                                                struct tg_record *rec, struct tg_err *err);

#endif
