/* forms.h: which live series has which form, so that no two of them become one unnoticed.
 *
 * A form is what a series is told apart by once it has been given out: its mapped name and tags, or
 * what a backend makes of them (a measurement, a set of labels). The first series to claim a form has
 * it until it leaves or is decided again; a later one is another's ("other") as long as it lives.
 *
 *   space        made of                                 two series meet there when
 *   backend i    what backend i names the series by      its naming makes them one
 *   TG_FORMS_MAPPED  mapped name, field and tags         the rules make them one
 *
 *   key = hash of (space, generation, form) --> { who has it, how many claims of theirs, of others }
 *
 * Forms of different rule generations never meet: those of an old one leave one by one, as series are
 * decided again. `who` is not the series itself but what it is meant to be: at a backend its mapped
 * name and tags, in the mapped space its name and tags as received. Series of one `who` are one to
 * their sender, too (a metric whose unit or kind was corrected goes on as the same series), and share
 * a form without being others.
 *
 * Keys are 64 bits of the seeded hash: of ten million series two are taken for one with a chance of
 * 1 in 400,000. Of `who` 24 bits are kept: of 17 million series that come to a form of another, one
 * is taken for that other and not noticed. A claim takes 24 bytes here (about 31 with free slots) and
 * 12 in the series' plan.
 *
 * A form counts up to TG_FORMS_MAX_COUNT claims of its first series, and as many of others. A count
 * that is full stays so: the form is never free again (until other rules are loaded), so that none of
 * those beyond it becomes one with another series unnoticed. That is said in a message.
 *
 * It is asked when a series is decided, never for a point.
 *
 * Threading: all functions from any thread. There is one lock per shard and one for the counts; no
 * two of them are held at once. Under a shard's lock the message is said, and the function of
 * tg_forms_is_taken called, which may describe a series: that takes the lock of the table's help,
 * which takes no other.
 */
#ifndef TG_MODEL_FORMS_H
#define TG_MODEL_FORMS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/model/plan.h"
#include "core/model/series.h"

struct tg_forms;

enum { TG_FORMS_COUNT_BITS = 20, TG_FORMS_MAX_COUNT = (1 << TG_FORMS_COUNT_BITS) - 1 };

struct tg_forms *tg_forms_new(void); /* NULL when out of memory */
void tg_forms_free(struct tg_forms *f);

/* Who a series is meant to be: a hash of name, field and tags, without kind, unit and origins. Tags
 * whose key is in `without` (NULL-terminated; NULL = none) do not count. */
uint64_t tg_forms_who(const struct tg_series_desc *d, const char *const *without);

uint64_t tg_forms_key(unsigned space, uint64_t generation, uint64_t form);

/* Claims `key` for a series. *claim is to be released; *claim with `is_other` set: another has the
 * form. TG_ERR_NOMEM: nothing was claimed. */
TG_MUST_CHECK enum tg_code tg_forms_claim(struct tg_forms *f, uint64_t key, uint64_t who,
                                          unsigned space, uint64_t generation,
                                          const struct tg_series *s, struct tg_claim *claim);
/* Claims once more what `plan` has claimed, which was copied from another (tg_plan_keep) and is not
 * published yet. What is free by now is not claimed: the plan says so. */
void tg_forms_retain(struct tg_forms *f, struct tg_plan *plan, const struct tg_series *s);
/* Gives n claims of one series and generation back. */
void tg_forms_release(struct tg_forms *f, const struct tg_claim *claims, unsigned n,
                      uint64_t generation, const struct tg_series *s);
/* The claims of a plan that is no longer the series'. NULL plan accepted. */
void tg_forms_release_plan(struct tg_forms *f, const struct tg_plan *plan,
                           const struct tg_series *s);

/* Whether somebody else than `who` has the form. If so and `fn` is not NULL, it is called with the
 * series under the shard's lock (it may describe it, and no more), unless that has left. */
bool tg_forms_is_taken(struct tg_forms *f, uint64_t key, uint64_t who,
                       void (*fn)(const struct tg_series *first, void *arg), void *arg);
/* Whether a form that was another's is nobody's now. */
bool tg_forms_is_free(struct tg_forms *f, const struct tg_claim *claim);
/* How many claims a form has, of its first series and of others; a count that is full stays. */
uint64_t tg_forms_count(struct tg_forms *f, uint64_t key);

/* Series decided in `generation` (the one in force) whose form in that space is another's. What is
 * still of an older generation is not counted: by the new rules it may be merged no more. */
uint64_t tg_forms_n_others(struct tg_forms *f, unsigned space, uint64_t generation);

/* Test hook: every invariant; false with a message on stderr when one is broken. Quiescent only.
 * *n_claims of a form whose count is full is what is counted. */
bool tg_forms_validate(struct tg_forms *f, uint64_t *n_claims);

#endif
