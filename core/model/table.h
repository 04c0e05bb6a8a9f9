/* table.h: the series table: raw key -> series without decoding, canonical hash -> series, symbols,
 * eviction.
 *
 *   raw key (128 bit over undecoded bytes) ──► raw shard ───┐
 *                                                           ├──► struct tg_series ─┬─► symbols
 *   canonical hash (128 bit) ────────────────► canon shard ─┘                      │   (refcounted
 *                                                                                  │   strings)
 *                                                                                  └─► tg_plan
 *
 * Look-up takes no lock: shards are open-addressing arrays whose slots are published with a release
 * store and replaced whole (retired through the guard) when they grow. Inserts and eviction take
 * the shard's mutex. Callers must be inside the table's guard from look-up to last use (a tg_batch
 * is).
 *
 * A series leaves in three steps: sweep marks it dead and unlinks it from the canonical map, then
 * from the raw map, and retires it through the guard, which frees it (its plan, its symbols) when
 * nobody who could have seen it is left. What that means for those who meet it on the way:
 *
 *   worker   found it through its raw key just before it was unlinked: it is inside the guard, so
 *            the series, its plan and its strings stay valid, and the batch is logged under it. The
 *            sender's next request misses and makes a new series object of the same canonical
 *            bytes; the log writer gives that one a reference of its own, readers resolve both to
 *            the same live series.
 *   worker   remembers a raw key for it: tg_table_remember_raw refuses dead series under the lock
 *            that sweep takes to remove its keys, so no key can stay behind.
 *   holder   (a log reader's dictionary) keeps it beyond the guard: tg_series_try_ref raises refs
 *            and then looks at `dead`; sweep sets `dead` and then looks at refs. All four are
 *            sequentially consistent, so at least one of the two sees the other: either the holder
 *            is refused and interns again, or sweep finds refs > 0 and takes `dead` back. (Both may
 *            happen; then the intern gives the same object again.) A `dead` that is seen is
 *            therefore a reason to look the series up again, never proof that it left.
 *
 * Limits: at `max_series` new series are refused with TG_ERR_FULL (their points become a partial
 * failure). At `max_raw_keys` a new raw key is not remembered; the next sweeps then forget a part
 * of all raw keys (they return with their next point), so that keys nobody sends any more do not
 * keep the place for ever. A series that no batch named for `idle_s` leaves at the next sweep. One
 * that a log reader's dictionary still holds (that of a backend which is down, say) stays in memory
 * but gives its place under `max_series` up, for at most as many as that; it has it back with the
 * sweep after its next point. So what is idle keeps no new series out, whoever holds it.
 *
 * Threading: all functions from any thread.
 */
#ifndef TG_MODEL_TABLE_H
#define TG_MODEL_TABLE_H

#include "core/base/deferred_free.h"
#include "core/model/help.h"
#include "core/model/plan.h"
#include "core/model/point.h"
#include "core/model/series.h"

struct tg_table;
struct tg_forms;

struct tg_table_config {
    uint64_t max_series;   /* 0 = 1000000 */
    uint64_t max_raw_keys; /* 0 = 4 x max_series; over it a raw key is not remembered (its points
                              take the slow way) */
    uint32_t idle_s;       /* 0 = never evict */
    struct tg_series_limits limits; /* zeroed = default */
};

struct tg_table *tg_table_new(const struct tg_table_config *config); /* NULL when out of memory */
void tg_table_free(struct tg_table *t); /* NULL accepted; no reader inside */
struct tg_deferred_free *tg_table_guard(struct tg_table *t);
/* The forms of its series. Claims of a plan are released when it is replaced, or its series freed.
 */
struct tg_forms *tg_table_forms(const struct tg_table *t);
const struct tg_series_limits *tg_table_limits(const struct tg_table *t);

/* Hot path: the series remembered for this raw key, or NULL. No lock, no allocation. Inside the
 * guard. */
struct tg_series *tg_table_find_raw(const struct tg_table *t, struct tg_hash128 raw);
/* Hint that find_raw(raw) comes soon. */
void tg_table_prefetch_raw(const struct tg_table *t, struct tg_hash128 raw);

/* Miss path: canonicalises *d in place, finds or creates the series. TG_ERR_FULL at the limit,
 * TG_ERR_INVALID / TG_ERR_TOO_LARGE for a bad desc, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_table_intern(struct tg_table *t, struct tg_series_desc *d,
                                           struct tg_series **out, struct tg_err *err);
/* As above for a series that was accepted once: its points are in the log and must be delivered,
 * also when the table is full by now, or the limits on a series have been lowered since. What is
 * over the maximum keeps new series out and leaves like any other when it is idle. */
TG_MUST_CHECK enum tg_code tg_table_intern_logged(struct tg_table *t, struct tg_series_desc *d,
                                                  struct tg_series **out, struct tg_err *err);
/* Remembers raw -> s (best effort: without memory or over max_raw_keys it is only slower). */
void tg_table_remember_raw(struct tg_table *t, struct tg_hash128 raw, struct tg_series *s);

/* Strings of a series: fills *d with the strings (borrowed from symbols, which live as long as the
 * series) and a tag array in `arena`. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_table_describe(const struct tg_table *t, const struct tg_series *s,
                                             struct tg_series_desc *d, struct tg_arena *arena);

/* Descriptions of metrics, handed on by tg_table_describe. */
struct tg_help *tg_table_help(const struct tg_table *t);

/* Marks use, once per batch or so. */
static inline void tg_series_touch(struct tg_series *s, uint32_t now_s)
{
    if (atomic_load_explicit(&s->last_used_s, memory_order_relaxed) != now_s)
        atomic_store_explicit(&s->last_used_s, now_s, memory_order_relaxed);
}
/* Long-lived holders, inside the guard. False when the series has left the table: no reference was
 * taken, intern its desc again (in a loop: it may leave again). */
TG_MUST_CHECK static inline bool tg_series_try_ref(struct tg_series *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_seq_cst);
    if (!atomic_load_explicit(&s->dead, memory_order_seq_cst)) return true;
    atomic_fetch_sub_explicit(&s->refs, 1, memory_order_release);
    return false;
}
/* Without looking: for those who hold one already. */
static inline void tg_series_ref(struct tg_series *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_seq_cst);
}
static inline void tg_series_unref(struct tg_series *s)
{
    atomic_fetch_sub_explicit(&s->refs, 1, memory_order_release);
}

/* Publishes `plan` (takes it, and the claims in it) if the series' plan is still `expected`;
 * otherwise frees `plan`. Returns the plan now in force. The replaced one is retired (by the next
 * sweep). Inside the guard; never allocates, never waits. */
struct tg_plan *tg_table_set_plan(struct tg_table *t, struct tg_series *s, struct tg_plan *expected,
                                  struct tg_plan *plan);

/* Evicts idle series, retires replaced plans and polls the guard. Call about once a second, not
 * from inside the guard. Returns how many left. A round over all series is spread over up to 64
 * calls when idle_s is large (idle_s / 16 seconds); a call after a long pause does it all. A sweep
 * that cannot allocate its notes evicts less and goes on at the next call. */
size_t tg_table_sweep(struct tg_table *t, uint32_t now_s);

/* Calls fn for every live series until it returns false. Takes shard locks one by one; do not call
 * back into intern. */
void tg_table_each(struct tg_table *t, bool (*fn)(struct tg_series *s, void *arg), void *arg);

/* As above, for the series of one name. One look per series at its name, none at those of others.
 */
void tg_table_each_named(struct tg_table *t, const char *name, uint32_t len,
                         bool (*fn)(struct tg_series *s, void *arg), void *arg);

/* The table in TG_TABLE_PARTS parts, for those who look at every live series and take long. Lists
 * the series of one part, each with a reference (tg_series_unref it): outside the guard they stay,
 * and so do their strings, but their plans do not. *out is the caller's (tg_free; NULL when there
 * is none). TG_ERR_NOMEM. */
enum { TG_TABLE_PARTS = 64 };
TG_MUST_CHECK enum tg_code tg_table_hold_part(struct tg_table *t, unsigned part,
                                              struct tg_series ***out, size_t *n);

struct tg_table_stats {
    uint64_t n_series; /* that count for the limit */
    uint64_t n_held;   /* idle ones that a holder keeps: not among n_series */
    uint64_t n_raw_keys, n_symbols;
    uint64_t n_failed; /* live series whose plan says that a rule failed */
    uint64_t n_created, n_evicted,
        n_refused; /* since start; refused counts intern calls refused at the limit */
};
struct tg_table_stats tg_table_stats(const struct tg_table *t);

/* Test hook: checks every invariant of the table; false with a message on stderr when one is
 * broken. Quiescent only. */
bool tg_table_validate(struct tg_table *t);

#endif
