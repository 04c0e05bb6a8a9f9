/* merge_census.h: how many series a set of rules would make one, counted before it is in force.
 *
 * Handed every live series with what the rules on trial make of it, it counts forms (mapped name,
 * field and tags) that more than one series has. Series that are one as received, too (of another
 * kind or unit), are none. A form is new when some of those that have it are not one by the rules
 * in force. Takes 32 bytes a form, 53 with free slots, until deinit.
 *
 * Threading: one thread.
 */
#ifndef TG_MODEL_MERGE_CENSUS_H
#define TG_MODEL_MERGE_CENSUS_H

#include "core/base/buf.h"
#include "core/model/series.h"

enum { TG_MERGE_CENSUS_EXAMPLES = 5, TG_MERGE_CENSUS_TEXT = 200 };

struct tg_merge_census_example {
    uint64_t form;
    bool is_new;
    uint64_t n_series;                 /* that have it; filled in by tg_merge_census_end */
    char mapped[TG_MERGE_CENSUS_TEXT]; /* name{tag="value"}, cut to fit */
    char later[TG_MERGE_CENSUS_TEXT];  /* one of them, as received */
};

struct tg_merge_census {
    struct tg_merge_census_slot *slots;
    size_t cap, n;
    uint64_t n_forms;  /* that several series have */
    uint64_t n_series; /* that have them */
    uint64_t n_new;    /* of the forms */
    unsigned n_examples;
    struct tg_merge_census_example examples[TG_MERGE_CENSUS_EXAMPLES];
};

void tg_merge_census_init(struct tg_merge_census *c);
void tg_merge_census_deinit(struct tg_merge_census *c);
/* One live series: as received, and as mapped (dropped ones are left out by the caller). `now`
 * stands for its form by the rules in force, the same for those that are one; 0 = it is one with no
 * other. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_merge_census_add(struct tg_merge_census *c,
                                               const struct tg_series_desc *series,
                                               const struct tg_series_desc *mapped, uint64_t now);
/* After the last: fills in n_series of the examples, new ones and those with the most series first.
 */
void tg_merge_census_end(struct tg_merge_census *c);
/* Appends one line a form, at most the examples: `5 series become one: requests{app="x"} (one of
 * them requests{app="x",pod="4"})`, without a newline at the end. Nothing when n_forms is 0. */
TG_MUST_CHECK enum tg_code tg_merge_census_print(const struct tg_merge_census *c,
                                                 struct tg_buf *out);

#endif
