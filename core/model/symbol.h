/* symbol.h: interned, reference-counted strings with 32-bit ids.
 *
 *   id -> chunk[k][i] -> { refs, len, bytes }       chunk k holds 1024 << k entries
 *   bytes -> hash slots { hash, id }                open addressing, under the lock
 *
 * Chunks never move, so resolving an id takes no lock. An id is valid as long as a reference to it
 * is held; holders that readers can see (series) are freed through the table's guard and release
 * their references only then, so an id is never used again while a reader may still resolve it.
 * Id 0 is the empty string, always there and not counted.
 *
 * Threading: all functions from any thread; intern and release take one lock for all they are
 * given.
 */
#ifndef TG_MODEL_SYMBOL_H
#define TG_MODEL_SYMBOL_H

#include <stdbool.h>

#include "core/base/err.h"

struct tg_symbols;

struct tg_symbols *tg_symbols_new(void);     /* NULL when out of memory */
void tg_symbols_free(struct tg_symbols *st); /* NULL accepted; whatever is still referenced goes */

struct tg_symbol_text { /* borrows */
    const char *ptr;
    uint32_t len;
};
/* A symbol's bytes may be anything, also a prefix made of another symbol's id (a tag is: see
 * table.c); who does that holds references to both. */

/* Takes a reference to each of `n` strings and gives their ids. All or none: TG_ERR_NOMEM,
 * TG_ERR_FULL (2^30 - 1 distinct strings, or one with 2^32 - 1 references). */
TG_MUST_CHECK enum tg_code tg_symbols_intern(struct tg_symbols *st,
                                             const struct tg_symbol_text *texts, uint32_t n,
                                             uint32_t *ids);
/* Gives `n` references back. */
void tg_symbols_release(struct tg_symbols *st, const uint32_t *ids, uint32_t n);

/* The id of a string that is known at this moment, 0 = none (or the empty string). Takes no
 * reference: it may be another one's as soon as this has returned. */
uint32_t tg_symbols_find(struct tg_symbols *st, const char *text, uint32_t len);

/* The text of an id to which somebody holds a reference; borrowed as long as that is held. Not
 * NUL-terminated. */
struct tg_symbol_text tg_symbols_text(const struct tg_symbols *st, uint32_t id);

uint64_t tg_symbols_count(const struct tg_symbols *st); /* without the empty one */

/* Test hooks, quiescent only: references to `id` (0 = not in use), and all invariants. */
uint32_t tg_symbols_refs(const struct tg_symbols *st, uint32_t id);
uint32_t tg_symbols_max_id(const struct tg_symbols *st); /* ids in use are below it */
bool tg_symbols_validate(const struct tg_symbols *st);

#endif
