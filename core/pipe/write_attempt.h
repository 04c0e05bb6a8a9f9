/* write_attempt.h: one try at one range of a span: the points of it that are this backend's, with
 * their prepared bytes, and those that it cannot take.
 *
 *   span:      |lo                                                      hi|
 *              | p  | p  | elsewhere | p | settled | formless | unprepared |
 *                |    |                |
 *   points:    [ 0  | 1              | 2 ]     origin: the index in the span of each
 *
 * Invariants (tg_write_attempt_validate):
 *   - origin and unprepared ascend, lie within the range, and have no index in common
 *   - each point of the range is one of: settled, elsewhere's, formless, unprepared, in the delivery
 *
 * Routing: a point goes where it was routed when it was accepted, whatever the rules say by then:
 * cursors pass it at different times, so with the rules of each moment an edit could make all of
 * them skip it. Its form (tags) follows the rules in force, and a rule that now drops the series
 * drops it. Points that the cursor has passed and that come again go by the rules in force alone.
 * Points that it has not passed, from before it was made or before a rewind, go both ways: they may
 * have come while the backend was not configured, and where they were routed they were promised.
 *
 * Threading: the delivery's own thread.
 */
#ifndef TG_PIPE_WRITE_ATTEMPT_H
#define TG_PIPE_WRITE_ATTEMPT_H

#include "core/pipe/config.h"
#include "core/pipe/inexpressible.h"
#include "core/pipe/planner.h"
#include "core/pipe/span.h"
#include "core/pipe/stray_forms.h"

struct tg_write_attempt {
    const struct tg_backend_config *config; /* borrowed, as all up to `span` */
    unsigned index;                         /* backend number */
    struct tg_backend *backend;
    struct tg_planner *planner; /* with its rules and merges */
    const struct tg_span *span;

    struct tg_range range;
    struct tg_delivery delivery; /* plans and bytes of its points: only inside the guard */
    struct tg_delivery_point *points;
    uint32_t *origin;     /* index in the span of each point of the delivery */
    uint32_t *unprepared; /* indexes in the span of points whose series the backend cannot take */
    uint32_t n_unprepared;
    uint32_t cap_points;
    uint32_t n_elsewhere;
    struct tg_inexpressible formless; /* points whose series the backend has no form for */
    struct tg_stray_forms stray_forms;
    uint64_t stray_forms_generation;
    bool is_paused; /* picking goes on where it was, when the same range is picked again */
    struct tg_buf scratch;
};

/* What came of a delivery, with what goes to the dead letters: points whose series the backend
 * cannot take, then those of the delivery that it refused. */
struct tg_undelivered {
    struct tg_inexpressible inexpressible; /* of the delivery */
    struct tg_left_out left_out;
    const uint8_t *refused; /* bitmap over the delivery's points; NULL = none */
    uint32_t n_refused;
    const char *const *reasons; /* n_refused, or NULL */
    uint32_t n_in_file;         /* so many are dead letters */
    char newest[256];           /* reason */
};

/* Of zeroed storage, whose borrowed fields are set. */
void tg_write_attempt_init(struct tg_write_attempt *a);
void tg_write_attempt_deinit(struct tg_write_attempt *a);

/* Picks this backend's points of the range, for a delivery of this epoch. Inside the guard.
 * TG_ERR_FULL: deciding their series has taken its share of the loop's time; TG_ERR_CANCELED:
 * nothing is decided any more; the attempt is paused by both. TG_ERR_UNAVAILABLE: the rules are not
 * run now, and the form of a series needs them. TG_ERR_TOO_LARGE: more bytes than one attempt may
 * need; TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_write_attempt_pick(struct tg_write_attempt *a, struct tg_range range,
                                                 uint64_t epoch);
/* What was decided before a pause is not for another range. */
void tg_write_attempt_forget(struct tg_write_attempt *a);

/* Why the backend cannot take a series, to *err, which is as it was when that is not known now.
 * Inside the guard. */
void tg_write_attempt_explain(struct tg_write_attempt *a, const struct tg_series *s,
                              struct tg_err *err);

static inline bool tg_write_attempt_is_marked(const uint8_t *bits, uint32_t i)
{
    return bits && (bits[i / 8] >> (i % 8) & 1);
}

/* Of the delivery, once it was written: points that the backend has. */
uint64_t tg_write_attempt_n_delivered(const struct tg_write_attempt *a,
                                      const struct tg_undelivered *u);

/* Whether the invariants hold. For tests. */
bool tg_write_attempt_validate(const struct tg_write_attempt *a);

#endif
