/* intake.h: what every ingest decoder is given and what it gives back.
 *
 * A decoder walks the bytes of one request, hashes the identity bytes of each point (raw key), asks
 * the table, and only on a miss decodes the identity into a desc and interns it. It appends to
 * `batch`. A point that is bad on its own is rejected (counted, first reason kept) and the rest go
 * on; only bytes that do not follow the format at all fail the call, and then `batch` holds the
 * points that came before (the caller decides whether to keep them: see each decoder).
 *
 * Threading: one request, one thread.
 */
#ifndef TG_PROTOCOL_INTAKE_H
#define TG_PROTOCOL_INTAKE_H

#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/model/point.h"
#include "core/model/table.h"

struct tg_intake {
    struct tg_table *table; /* borrows */
    struct tg_batch *batch; /* borrows; inside the table's guard */
    struct tg_arena *arena; /* scratch of this request; the caller resets it */
    int64_t now_ns;         /* for points without a time */
    uint32_t now_s;         /* tg_clock_coarse_s, for tg_series_touch */

    /* out; zero before the first use */
    uint64_t n_accepted;
    uint64_t n_rejected;
    uint64_t n_misses;            /* raw keys not known */
    uint64_t n_exemplars_invalid; /* left out of points that were taken: no time or value, labels
                                     over a limit */
    uint64_t n_exemplars_memory;  /* the same, as memory ran out */
    uint64_t n_attributes_twice;  /* of OTLP: gave way to another of their key in one list; counted
                                     with a raw key that is not known */
    /* Descriptions of metrics (help.h), by what became of them: remote write's metadata, each time
     * it is said; OTLP's, with a raw key that is not known. */
    uint64_t n_metadata[TG_HELP_FULL + 1];
    enum tg_code first_code; /* class of the first rejection */
    struct tg_err first_reject;
};

/* Counts `n` rejected points; keeps *err when it is the first. err->code tells the class. */
void tg_intake_reject(struct tg_intake *d, uint64_t n, const struct tg_err *err);

/* The end of a request whose points stand in the batch from `from` on: touches the series of those
 * from `touch_at` on, takes out the points left without a series (`any_refused` = there are some),
 * and counts the rest as accepted. */
void tg_intake_finish(struct tg_intake *d, uint32_t from, uint32_t touch_at, bool any_refused);

#endif
