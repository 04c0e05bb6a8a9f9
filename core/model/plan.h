/* plan.h: what the rules decided for one series, with the bytes that each target backend prepared
 * for it.
 *
 * One allocation, immutable once published:
 *
 *   [ struct tg_plan | n_prepared x { backend, offset, len } | n_rollups x { every, keep }
 *     | n_claims x struct tg_claim | bytes ]
 *
 * There is one per live series, so it holds only what the series uses: rollups are packed, not an
 * array of the greatest size.
 *
 * A plan belongs to one rule generation. A series whose plan is of another generation than the one
 * in force is decided again at its next use (ingest or delivery); the old plan is retired through
 * the table's guard.
 *
 * Threading: read by all; see tg_table_set_plan for replacement.
 */
#ifndef TG_MODEL_PLAN_H
#define TG_MODEL_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/model/series.h"

enum { TG_MAX_BACKENDS = 32 };

enum tg_strategy {
    TG_STRATEGY_LOGGED = 0,
    TG_STRATEGY_ALL = 1,
    TG_STRATEGY_PRIMARY_ASYNC = 2, /* PrimaryWithAsyncReplication */
    TG_STRATEGY_PRIMARY_ONLY = 3,
};
const char *tg_strategy_name(
    enum tg_strategy s); /* "logged", "all", "primary_with_async_replication", "primary_only" */

/* How long data of a series is kept: raw, and rolled up by interval. `keep_ms` 0 = for ever / not
 * said. */
enum { TG_MAX_ROLLUPS = 8 };
struct tg_rollup {
    int64_t every_ms, keep_ms;
};
struct tg_retention {
    int64_t keep_ms;
    uint32_t n_rollups;
    struct tg_rollup rollups[TG_MAX_ROLLUPS]; /* ascending by every_ms */
};

struct tg_prepared {
    uint32_t offset;      /* from the start of the plan */
    uint32_t backend : 8; /* index in the configuration's backend list */
    uint32_t len : 24;
};
#define TG_PREPARED_MAX_BYTES ((1U << 24) - 1)

/* One form that the series has claimed (forms.h). */
struct tg_claim {
    uint32_t key_lo, key_hi;
    uint8_t space;
    bool is_held;  /* is to be released; false: nothing was noted */
    bool is_other; /* another series has it */
};
enum { TG_FORMS_MAPPED = TG_MAX_BACKENDS /* a space beside the backends' */, TG_MAX_FORMS = 4 };
enum { TG_MAX_CLAIMS = 1 + TG_MAX_FORMS * TG_MAX_BACKENDS };

struct tg_plan {
    uint64_t generation;          /* 0: as of no generation, for now only */
    struct tg_plan *retired_next; /* the table's alone, once the plan has been replaced */
    int64_t keep_ms;              /* as in struct tg_retention */
    uint32_t targets;             /* bit i: delivered to backend i. 0 = dropped */
    uint32_t wait;                /* subset of targets that an acknowledgement waits for */
    uint32_t inexpressible;       /* subset of targets that have no form for such a series */
    uint8_t strategy : 4;         /* enum tg_strategy */
    bool failed : 1;              /* a rule failed: on_error route taken, or kept */
    bool kept : 1;                /* failed, but all else is the last decision that did not */
    uint8_t n_prepared;
    uint8_t n_rollups; /* tg_plan_rollups; with keep_ms: tg_plan_retention */
    uint8_t n_claims;  /* tg_plan_claims */
    struct tg_prepared prepared[];
};

/* The plan's n_rollups rollups, ascending by every_ms; borrowed from the plan. */
const struct tg_rollup *tg_plan_rollups(const struct tg_plan *p);
/* The plan's n_claims claims, borrowed from it. */
const struct tg_claim *tg_plan_claims(const struct tg_plan *p);
/* The retention as the rules gave it; unused rollups are zero. */
struct tg_retention tg_plan_retention(const struct tg_plan *p);

/* The bytes backend `i` prepared, or NULL when it is not a target (or prepared nothing: *len = 0,
 * non-NULL). */
static inline const uint8_t *tg_plan_prepared(const struct tg_plan *p, unsigned backend,
                                              uint32_t *len)
{
    for (unsigned i = 0; i < p->n_prepared; i++) {
        if (p->prepared[i].backend == backend) {
            *len = p->prepared[i].len;
            return (const uint8_t *)p + p->prepared[i].offset;
        }
    }
    *len = 0;
    return NULL;
}

/* What the rules layer hands over to have a plan built. */
struct tg_decision {
    uint64_t generation; /* 0: for now only, to be decided again at the series' next use */
    uint32_t targets, wait;
    uint8_t strategy;
    bool failed;
    bool tags_failed; /* tags.lua did, or was not asked: `mapped` has the tags as received */
    struct tg_retention retention;
    struct tg_series_desc
        mapped; /* unit, kind as received; name and tags as mapped by tags.lua, canonical */
    /* Filled in by the pipeline: what the series has claimed, and the targets where another has its
     * form, for which nothing is prepared. */
    const struct tg_claim *claims;
    uint8_t n_claims;
    uint32_t taken;
};

/* Appends the form in which a backend names a series. Pure and thread-safe; called once per series,
 * generation and target. TG_ERR_UNSUPPORTED: the backend has no form for such a series (its points
 * are inexpressible there: counted, not kept). TG_ERR_INVALID: the series is at fault (its points
 * are dead-lettered with err->msg). */
typedef enum tg_code (*tg_prepare_fn)(void *backend, const struct tg_series_desc *mapped,
                                      struct tg_buf *out, struct tg_err *err);
/* One name under which a backend keeps points of a series: a hash of it, and of who the series is
 * (tg_forms_who). Series of one form and different `who` would be one there. */
struct tg_form {
    uint64_t form, who;
};
/* Fills in the forms of a series, at most TG_MAX_FORMS. Pure and thread-safe; `scratch` is reset
 * and used. As tg_prepare_fn, a failure says that the series has none. */
typedef enum tg_code (*tg_forms_fn)(void *backend, const struct tg_series_desc *mapped,
                                    struct tg_buf *scratch, struct tg_form *forms, unsigned *n);
struct tg_preparer { /* one per configured backend, index = backend number */
    tg_prepare_fn fn;
    void *backend;
    tg_forms_fn forms; /* NULL: different series never have one form there */
};

/* Builds a plan: returns owned (tg_free), NULL when out of memory (also when a preparer is).
 * `scratch` is reset and used. A backend that cannot take the series, or whose bytes pass
 * TG_PREPARED_MAX_BYTES or the maximum of `scratch`, or where another series has its form
 * (d->taken), keeps its target bit, with prepared bytes absent (tg_plan_prepared gives NULL). A
 * preparer without `fn` prepares nothing (length 0). */
struct tg_plan *tg_plan_new(const struct tg_decision *d, const struct tg_preparer *preparers,
                            unsigned n_backends, struct tg_buf *scratch);
/* Whether `p` (NULL accepted) holds a decision that no rule failed in, of its generation or of one
 * before. */
static inline bool tg_plan_is_good(const struct tg_plan *p)
{
    return p && (!p->failed || p->kept);
}
/* What `good` decided, for a generation whose rules fail: a copy, failed and kept. Returns owned;
 * NULL when out of memory. */
struct tg_plan *tg_plan_keep(const struct tg_plan *good, uint64_t generation);
/* A copy of no generation: the series is decided again at its next use, as what backends prepare of
 * it would be other bytes now. Returns owned; NULL when out of memory. */
struct tg_plan *tg_plan_expire(const struct tg_plan *p);

#endif
