/* prometheus_about.h: what a Prometheus is told beside the points: target_info of resources, and
 * TYPE, HELP and UNIT of metrics.
 *
 * Prepared bytes may begin with notes; those of a series that has none (remote write, Influx) are
 * as without them:
 *
 *   { u8 mark | len (varint) | tokens (shared_parts.h) of: u32 len | u64 hash | bytes } ...
 *   then what tg_remote_write_body_add takes
 *     0x40 target_info   bytes: a series as tg_remote_write_prepare gives it
 *     0x41 metadata      bytes: a MetricMetadata message
 *
 * The first length is that of the tokens, the other that of the bytes.
 *
 * While points are encoded, notes that are due are gathered, each once:
 *   never sent so far
 *   target_info   the point is a minute newer than any that it was sent with; or a minute older,
 *                 and it was not sent for a minute (monotonic clock)
 *   metadata      not sent for ten minutes (monotonic clock)
 * They go in a request of their own after the points were taken, so that nothing that the receiver
 * finds wrong with them (an older time than it has, when data is sent again) is blamed on points.
 * They are no points: nothing counts them, and one that gets lost goes out again later. When such a
 * request fails (not: when it is refused), nothing is gathered for a minute, so that a receiver
 * that hangs on them does not slow every write.
 *
 * Limits: MAX_KNOWN notes are remembered (beyond that further ones are left out, until all are
 * forgotten and due again, at most once a minute). One request holds at most max_request_bytes and
 * MAX_BYTES; what does not fit is due next time, and what does not fit alone is never sent.
 *
 * Threading: the backend's own thread, but for the functions said to be pure.
 */
#ifndef TG_BACKEND_PROMETHEUS_PROMETHEUS_ABOUT_H
#define TG_BACKEND_PROMETHEUS_PROMETHEUS_ABOUT_H

#include <stdbool.h>
#include <string.h>

#include "core/model/series.h"
#include "core/protocol/remote_write_body.h"

enum { TG_PROM_NOTE_TARGET = 0x40, TG_PROM_NOTE_METADATA = 0x41, TG_PROM_NOTE_HEAD = 4 + 8 };

struct tg_prom_note {
    uint8_t mark;
    uint32_t len;
    uint64_t hash;
    const uint8_t *tokens; /* borrowed from the prepared bytes; of the head, too */
    uint32_t tokens_len;
};

/* Appends a note, with what many share in `parts` (NULL: all in the bytes); pure but for that.
 * TG_ERR_NOMEM, TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_prom_note_put(struct tg_buf *out,
                                            struct tg_shared_parts *shared_parts, uint8_t mark,
                                            const void *bytes, size_t len);
/* Takes the note at *at off and moves *at behind it; false when there is none. `parts`: those it
 * was put with. Pure. */
bool tg_prom_note_next_slow(const struct tg_shared_parts *shared_parts, const uint8_t **at,
                            const uint8_t *end, struct tg_prom_note *note);
static inline bool tg_prom_note_next(const struct tg_shared_parts *shared_parts, const uint8_t **at,
                                     const uint8_t *end, struct tg_prom_note *note)
{
    if (*at >= end || (**at & 0xfe) != TG_PROM_NOTE_TARGET) return false;
    return tg_prom_note_next_slow(shared_parts, at, end, note);
}

struct tg_prom_names;
/* Appends the MetricMetadata message of a series of known kind. TG_ERR_INVALID: its name cannot be
 * given; TG_ERR_NOMEM, TG_ERR_TOO_LARGE. Pure. */
TG_MUST_CHECK enum tg_code tg_prom_metadata_put(struct tg_buf *out, const struct tg_series_desc *d,
                                                const struct tg_prom_names *names,
                                                struct tg_err *err);

struct tg_prom_about {
    struct tg_prom_known *known; /* by hash; a power of two */
    uint32_t cap, n_known;
    struct tg_prom_due *due; /* gathered for the next request */
    uint32_t n_due, cap_due;
    struct tg_shared_parts *shared_parts; /* borrowed: of the notes */
    struct tg_buf text;                   /* the bytes of those due */
    size_t n_bytes, max_bytes;            /* of the request: at most, now; limit */
    uint32_t too_large;   /* len of a note that does not fit alone; 0 = none so far */
    uint32_t now_s;       /* of `begin` */
    uint32_t forgotten_s; /* when all was, or the first was remembered */
    bool is_paused;
    uint64_t paused_until_ms;
    uint64_t last_hash[2];
    uint32_t last_due[2]; /* of the note seen last of each kind; UINT32_MAX = not due */
};

void tg_prom_about_init(struct tg_prom_about *a, struct tg_shared_parts *shared_parts,
                        size_t max_request_bytes);
void tg_prom_about_deinit(struct tg_prom_about *a);
/* Forgets what was gathered: the points come again, or are others. now_ms: monotonic clock. */
void tg_prom_about_begin(struct tg_prom_about *a, uint64_t now_ms);
/* A point whose series has this note was encoded. Without memory the note is left out. */
void tg_prom_about_see(struct tg_prom_about *a, const struct tg_prom_note *note, int64_t ts_ns);
/* Adds what was gathered to a body whose parts are those of the notes. TG_ERR_NOMEM,
 * TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_prom_about_encode(const struct tg_prom_about *a,
                                                struct tg_remote_write_body *body);
/* The receiver has it, or will not have it. */
void tg_prom_about_sent(struct tg_prom_about *a);
/* It was not taken, for no fault of its own: a minute's pause from now_ms (monotonic clock) on. */
void tg_prom_about_failed(struct tg_prom_about *a, uint64_t now_ms);

#endif
