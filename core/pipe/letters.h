/* letters.h: what becomes of points that a backend cannot take: dead letters, those that have no
 * form there are counted, and both are said, at once and then as a sum once a minute.
 *
 *   an attempt's  unprepared, refused --write--> file --note_dead--> message
 *                 formless, inexpressible -----note_inexpressible--> message
 *
 * Invariant (tg_letters_validate): what is not said yet waits for its minute, as the same was said
 *   before.
 *
 * Threading: the delivery's own thread, but for is_full.
 */
#ifndef TG_PIPE_LETTERS_H
#define TG_PIPE_LETTERS_H

#include <stdatomic.h>

#include "core/pipe/deadletter.h"
#include "core/pipe/trouble.h"
#include "core/pipe/write_attempt.h"

struct tg_letters {
    const struct tg_backend_config *config; /* borrowed, as all up to `trouble` */
    struct tg_table *table;
    struct tg_trouble *trouble;
    struct tg_dead_letters *file;
    struct tg_buf scratch;
    /* What was not said yet, and when it was last, monotonic; 0 = never. */
    uint64_t n_dead_unsaid, dead_said_ms;
    struct tg_inexpressible inexpressible_unsaid;
    uint64_t inexpressible_said_ms;
    _Atomic bool is_full; /* the delivery stands still for that */
};

/* Of zeroed storage, whose borrowed fields are set. Makes `dir`. TG_ERR_IO, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_letters_open(struct tg_letters *l, const struct tg_fs *fs,
                                           const char *dir, uint64_t max_bytes, struct tg_err *err);
void tg_letters_close(struct tg_letters *l);

/* Writes what the attempt left as dead letters, as many as fit: u->n_in_file of them are safe,
 * whatever is returned. TG_ERR_FULL: not all did fit; TG_ERR_IO,
 * TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_letters_write(struct tg_letters *l, struct tg_write_attempt *a,
                                            struct tg_undelivered *u, struct tg_err *err);

/* n more points are dead letters; the reason of the newest. */
void tg_letters_note_dead(struct tg_letters *l, uint32_t n, const char *reason);
/* Not an error of the backend: it is not noted as one. */
void tg_letters_note_inexpressible(struct tg_letters *l, const struct tg_inexpressible *c);
void tg_letters_set_full(struct tg_letters *l, bool is_full);
bool tg_letters_is_full(const struct tg_letters *l); /* any thread */

/* Whether the invariant holds. For tests. */
bool tg_letters_validate(const struct tg_letters *l);

#endif
