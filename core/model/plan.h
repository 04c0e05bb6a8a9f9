/* plan.h: what the rules decided for one series, with the bytes that each target backend prepared
 * for it.
 *
 * One allocation, immutable once published:
 *
 *   [ struct tg_plan | n_prepared x { backend, offset, len } | n_rollups x { every, keep } | bytes
 * ]
 *
 * There is one per live series, so it holds only what the series uses: rollups are packed, not an
 * array of the greatest size.
 *
 * A plan belongs to one rule generation. A series whose plan is of another generation than the one
 * in force is decided again at its next use (ingest or delivery); the old plan is retired through
 * the table's guard.
 *
 * Threading: read by all; see tg_series_set_plan for replacement.
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

struct tg_plan {
    uint64_t generation;          /* 0: as of no generation, for now only */
    struct tg_plan *retired_next; /* the table's alone, once the plan has been replaced */
    int64_t keep_ms;              /* as in struct tg_retention */
    uint32_t targets;             /* bit i: delivered to backend i. 0 = dropped */
    uint32_t wait;                /* subset of targets that an acknowledgement waits for */
    uint32_t inexpressible;       /* subset of targets that have no form for such a series */
    uint8_t strategy;             /* enum tg_strategy */
    bool failed : 1;              /* a rule failed: on_error route taken, or kept */
    bool kept : 1;                /* failed, but all else is the last decision that did not */
    uint8_t n_prepared;
    uint8_t n_rollups; /* tg_plan_rollups; with keep_ms: tg_plan_retention */
    struct tg_prepared prepared[];
};

/* The plan's n_rollups rollups, ascending by every_ms; borrowed from the plan. */
const struct tg_rollup *tg_plan_rollups(const struct tg_plan *p);
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
    uint64_t generation; /* 0: for now only, to be decided anew at the series' next use */
    uint32_t targets, wait;
    uint8_t strategy;
    bool failed;
    bool tags_failed; /* tags.lua did, or was not asked: `mapped` has the tags as received */
    struct tg_retention retention;
    struct tg_series_desc
        mapped; /* name, unit, kind as received; tags as mapped by tags.lua, canonical */
};

/* Appends the form in which a backend names a series. Pure and thread-safe; called once per series,
 * generation and target. TG_ERR_UNSUPPORTED: the backend has no form for such a series (its points
 * are inexpressible there: counted, not kept). TG_ERR_INVALID: the series is at fault (its points
 * are dead-lettered with err->msg). */
typedef enum tg_code (*tg_prepare_fn)(void *backend, const struct tg_series_desc *mapped,
                                      struct tg_buf *out, struct tg_err *err);
struct tg_preparer { /* one per configured backend, index = backend number */
    tg_prepare_fn fn;
    void *backend;
};

/* Builds a plan: returns owned (tg_free), NULL when out of memory (also when a preparer is).
 * `scratch` is reset and used. A backend that cannot take the series, or whose bytes pass
 * TG_PREPARED_MAX_BYTES or the maximum of `scratch`, keeps its target bit, with prepared bytes
 * absent (tg_plan_prepared gives NULL). A preparer without `fn` prepares nothing (length 0). */
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

#endif
