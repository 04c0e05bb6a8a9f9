/* merge.h: series that become one: by the rules (a tag dropped, a name changed), or by a backend's
 * naming.
 *
 * Looked for once per series, when it is decided, by claiming its forms (core/model/forms.h):
 *
 *   - By the rules: noted, said and counted. With rules.on_merge = "dead_letter" the points of the
 *     later series are dead letters at every backend.
 *   - By a backend's naming: the points of the later series are always dead letters there, as
 * nobody asked for the merge and one of two values would be lost.
 *
 * "Later" is the one that is decided after the other, since the rules were loaded. It gets its turn
 * when the other has left (idle for limits.idle_series) or has another form.
 *
 * Left out: a series whose rules fail keeps the claims of its last good decision, but does not meet
 * series decided since; a series at a backend that it is no longer routed to is looked up, and
 * claims nothing.
 *
 * Threading: all functions from any thread; the lock guards what is kept for people, and is not
 * held while another is taken.
 */
#ifndef TG_PIPE_MERGE_H
#define TG_PIPE_MERGE_H

#include <pthread.h>

#include "core/model/forms.h"
#include "core/pipe/planner.h"

enum { TG_MERGE_EXAMPLES = 8, TG_MERGE_SPACES = TG_MAX_BACKENDS + 1, TG_MERGE_TEXT = 160 };

struct tg_merge_example {
    unsigned space; /* backend number, or TG_FORMS_MAPPED */
    uint64_t key, generation;
    char form[TG_MERGE_TEXT]; /* as mapped */
    char first[TG_MERGE_TEXT], later[TG_MERGE_TEXT];
};

struct tg_merges {
    struct tg_table *table;      /* borrows, as all up to `lock` */
    const char *const *backends; /* names */
    bool has_tags_rule;          /* without one the rules merge nothing */
    bool is_dead_letter;         /* rules.on_merge */
    pthread_mutex_t lock;        /* guards all below */
    struct {
        uint64_t generation, said_ms; /* of the last message; 0 = none */
        uint64_t n_unsaid;
    } spaces[TG_MERGE_SPACES];
    struct tg_merge_example examples[TG_MERGE_EXAMPLES]; /* the newest */
    unsigned n_examples, next_example;
};

void tg_merges_init(struct tg_merges *m, struct tg_table *table, const char *const *backends,
                    bool has_tags_rule, bool is_dead_letter);
void tg_merges_deinit(struct tg_merges *m);

/* Claims the forms of a decided series: fills claims (TG_MAX_CLAIMS), decision->n_claims and
 * ->taken. Says what is new. Uses the planner's scratch. TG_ERR_NOMEM: nothing stays claimed. */
TG_MUST_CHECK enum tg_code tg_merges_claim(struct tg_merges *m, struct tg_planner *d,
                                           const struct tg_series *s,
                                           const struct tg_series_desc *series,
                                           struct tg_decision *decision, struct tg_claim *claims);

/* Why points of this series may not go to the backend under the form that it has now:
 * TG_ERR_INVALID, with both series in the message. Claims nothing. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_merges_check(struct tg_merges *m, struct tg_planner *d,
                                           unsigned backend, const struct tg_series_desc *series,
                                           const struct tg_decision *decision, struct tg_err *err);

/* Whether a form that a plan found taken is free by now: then it is to be decided again. */
bool tg_merges_is_free(const struct tg_merges *m, const struct tg_plan *plan);

/* How many live series share the form that the rules give this one (1 = it alone, 0 = it is not
 * live), and the one that came first, as text (NULL accepted, "" when that is itself or unknown).
 */
uint64_t tg_merges_count(struct tg_merges *m, const struct tg_series_desc *series,
                         const struct tg_decision *decision, char first[TG_MERGE_TEXT]);

/* Merges of `generation` that still are, newest last: fills at most TG_MERGE_EXAMPLES and how many
 * series have that form. Returns how many there are. */
unsigned tg_merges_examples(struct tg_merges *m, uint64_t generation,
                            struct tg_merge_example out[TG_MERGE_EXAMPLES],
                            uint64_t n_series[TG_MERGE_EXAMPLES]);

#endif
