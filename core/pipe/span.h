/* span.h: a stretch of the log under way to a backend: its points, what it covers, what of it is to
 * be attempted yet, and what came of the rest.
 *
 *          from_pos                                                to_pos
 *   log ... | point 0 | point 1 | (lost) | point 2 | ... | point n-1 | ... reader
 *          from_point_no                                           to_point_no
 *
 *   fill -> fill -> close -> pop_range, push_range (halves, or again) ... -> none left -> pass
 *
 * Invariants (tg_span_validate):
 *   - the series of all points are kept alive, by `dicts`
 *   - `numbers` begins at point 0, and ascends
 *   - `ranges` lie within the points, apart, in log order, the first on top
 *   - a point that is settled came to its end though others of its range did not: it is counted in
 *     `done`, and no attempt takes it again
 *
 * All points of a span are routed one way.
 *
 * Threading: the delivery's own thread.
 */
#ifndef TG_PIPE_SPAN_H
#define TG_PIPE_SPAN_H

#include "core/backend/backend.h"
#include "core/log/log.h"
#include "core/model/table.h"
#include "core/pipe/inexpressible.h"

struct tg_range {
    uint32_t lo, hi; /* points [lo, hi) of the span */
};

enum tg_routing { /* where a point goes: see write_attempt.h, Routing */
                  TG_ROUTED_WHEN_ACCEPTED,
                  TG_ROUTED_BOTH_WAYS, /* there, and where the rules in force say */
                  TG_ROUTED_BY_RULES,  /* in force, alone */
};

struct tg_span_counts { /* of points that came to their end */
    uint64_t delivered, elsewhere, dead, lost;
    struct tg_inexpressible inexpressible;
    struct tg_left_out left_out; /* of those that were delivered */
};

struct tg_span {
    const char *name;             /* of the backend, borrowed */
    struct tg_table *table;       /* borrowed */
    struct tg_log_reader *reader; /* at to_pos, unless a seek failed */

    uint64_t from_pos, to_pos, from_point_no, to_point_no;
    struct tg_batch batch;
    struct tg_segment_dict **dicts;
    uint32_t n_dicts, cap_dicts;
    /* Which numbers its points have: from index `at` on they count up from `no`. */
    struct tg_numbering {
        uint32_t at;
        uint64_t no;
    } * numbers;
    uint32_t n_numbers, cap_numbers;
    uint64_t sure_pos;                 /* what the log lost before it is known */
    struct tg_backend_loss losses[64]; /* what is lost of it lies in these */
    unsigned n_losses;
    enum tg_routing routing;
    uint64_t first_read_ms;    /* when it got its first point: linger counts from here; 0 = none */
    int64_t first_accepted_ns; /* when that point was taken in, wall clock */
    bool end_reached;          /* the last fill found nothing more */
    bool is_closed;            /* under way: not to be filled any more */

    struct tg_range ranges[64]; /* a stack; halving never needs more than one entry a bit */
    unsigned n_ranges;
    uint32_t part; /* of the next write: they are named by it */
    struct tg_span_counts done;
    uint8_t *settled; /* a bitmap, when has_settled */
    bool has_settled;
};

void tg_span_init(struct tg_span *s, const char *name, struct tg_table *table);
/* Opens the log where the cursor is. TG_ERR_NOMEM, TG_ERR_IO. */
TG_MUST_CHECK enum tg_code tg_span_open(struct tg_span *s, struct tg_log *log,
                                        const struct tg_cursor_state *cursor, struct tg_err *err);
void tg_span_deinit(struct tg_span *s);

/* Reads until there are max_points or the log's end is reached, or must_end says so (NULL = never);
 * `cursor` says how the points are routed. What it has stays when no more can be read now. On
 * failure (TG_ERR_NOMEM, TG_ERR_IO) the span is empty. */
TG_MUST_CHECK enum tg_code tg_span_fill(struct tg_span *s, uint32_t max_points,
                                        const struct tg_cursor_state *cursor,
                                        bool (*must_end)(void *arg), void *arg, struct tg_err *err);
/* No points and no losses: the cursor has nothing to pass. */
bool tg_span_is_empty(const struct tg_span *s);
/* All of it is to be attempted. */
void tg_span_close(struct tg_span *s);
/* The number of point i; of the span's end for i = n_points. */
uint64_t tg_span_point_no(const struct tg_span *s, uint32_t i);

/* What is to be attempted next; only when n_ranges > 0. */
struct tg_range tg_span_pop_range(struct tg_span *s);
void tg_span_push_range(struct tg_span *s, uint32_t lo, uint32_t hi);

/* Room to note settled points: before anything is done with them that must not be done twice.
 * TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_span_reserve_settled(struct tg_span *s, struct tg_err *err);
void tg_span_settle(struct tg_span *s, uint32_t i); /* after reserve_settled */
static inline bool tg_span_is_settled(const struct tg_span *s, uint32_t i)
{
    return s->has_settled && (s->settled[i / 8] >> (i % 8) & 1);
}

/* The writes that follow are named otherwise than those before. */
void tg_span_next_part(struct tg_span *s);
/* Points that came to their end. */
void tg_span_count(struct tg_span *s, const struct tg_span_counts *ended);
/* What came to its end since it was asked last. */
struct tg_span_counts tg_span_take_counts(struct tg_span *s);

/* The cursor is behind it: the next begins where it ends, empty. */
void tg_span_pass(struct tg_span *s);
/* Back to where it begins: what was read since is read again, under the rules then in force. */
void tg_span_restart(struct tg_span *s);
/* The cursor was moved: the next begins there, empty. */
void tg_span_move(struct tg_span *s, uint64_t pos, uint64_t point_no);

/* Whether the invariants hold. For tests. */
bool tg_span_validate(const struct tg_span *s);

#endif
