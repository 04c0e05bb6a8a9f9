#include "core/model/plan.h"

#include <stddef.h>
#include <string.h>

#include "core/base/mem.h"

const char *tg_strategy_name(enum tg_strategy s)
{
    switch (s) {
    case TG_STRATEGY_LOGGED: return "logged";
    case TG_STRATEGY_ALL: return "all";
    case TG_STRATEGY_PRIMARY_ASYNC: return "primary_with_async_replication";
    case TG_STRATEGY_PRIMARY_ONLY: return "primary_only";
    }
    return "unknown";
}

/* Where the rollups begin: after the table of prepared bytes, aligned for their int64. */
static size_t rollups_offset(unsigned n_prepared)
{
    const size_t end = offsetof(struct tg_plan, prepared) + n_prepared * sizeof(struct tg_prepared);
    const size_t align = _Alignof(struct tg_rollup);
    return (end + align - 1) & ~(align - 1);
}

const struct tg_rollup *tg_plan_rollups(const struct tg_plan *p)
{
    return (const struct tg_rollup *)((const uint8_t *)p + rollups_offset(p->n_prepared));
}

static size_t claims_offset(unsigned n_prepared, unsigned n_rollups)
{
    return rollups_offset(n_prepared) + n_rollups * sizeof(struct tg_rollup);
}

const struct tg_claim *tg_plan_claims(const struct tg_plan *p)
{
    return (const struct tg_claim *)((const uint8_t *)p +
                                     claims_offset(p->n_prepared, p->n_rollups));
}

struct tg_retention tg_plan_retention(const struct tg_plan *p)
{
    struct tg_retention r = {.keep_ms = p->keep_ms, .n_rollups = p->n_rollups};
    if (r.n_rollups) memcpy(r.rollups, tg_plan_rollups(p), r.n_rollups * sizeof(r.rollups[0]));
    return r;
}

static size_t plan_bytes(const struct tg_plan *p)
{
    size_t n = claims_offset(p->n_prepared, p->n_rollups) + p->n_claims * sizeof(struct tg_claim);
    for (unsigned i = 0; i < p->n_prepared; i++) n += p->prepared[i].len;
    return n;
}

static struct tg_plan *copy(const struct tg_plan *from, uint64_t generation)
{
    const size_t n = plan_bytes(from);
    struct tg_plan *p = tg_malloc(n);
    if (!p) return NULL;
    /* Around retired_next, which another thread may write that replaces `from` meanwhile. */
    const size_t rest = offsetof(struct tg_plan, retired_next) + sizeof(from->retired_next);
    memcpy((uint8_t *)p + rest, (const uint8_t *)from + rest, n - rest);
    p->generation = generation;
    p->retired_next = NULL;
    return p;
}

struct tg_plan *tg_plan_keep(const struct tg_plan *good, uint64_t generation)
{
    struct tg_plan *p = copy(good, generation);
    if (p) p->failed = p->kept = true;
    return p;
}

struct tg_plan *tg_plan_expire(const struct tg_plan *p)
{
    return copy(p, 0);
}

struct tg_plan *tg_plan_new(const struct tg_decision *d, const struct tg_preparer *preparers,
                            unsigned n_backends, struct tg_buf *scratch)
{
    struct tg_prepared prepared[TG_MAX_BACKENDS];
    unsigned n_prepared = 0;
    uint32_t inexpressible = 0;
    tg_buf_reset(scratch);
    if (n_backends > TG_MAX_BACKENDS) n_backends = TG_MAX_BACKENDS;
    for (unsigned i = 0; i < n_backends; i++) {
        if (!(d->targets >> i & 1)) continue;
        const size_t start = scratch->len;
        if (preparers[i].fn) {
            const enum tg_code code =
                preparers[i].fn(preparers[i].backend, &d->mapped, scratch, NULL);
            if (code == TG_ERR_NOMEM) return NULL;
            if (code != TG_OK) { /* it cannot take this series: absent */
                if (code == TG_ERR_UNSUPPORTED) inexpressible |= UINT32_C(1) << i;
                scratch->len = start;
                continue;
            }
        }
        if ((d->taken >> i & 1) || scratch->len - start > TG_PREPARED_MAX_BYTES) {
            scratch->len = start;
            continue;
        }
        prepared[n_prepared++] = (struct tg_prepared){
            .offset = (uint32_t)start, /* at most 32 backends of 16 MiB */
            .backend = i & 0xff,
            .len = (uint32_t)(scratch->len - start) & TG_PREPARED_MAX_BYTES,
        };
    }
    const uint32_t n_rollups =
        d->retention.n_rollups < TG_MAX_ROLLUPS ? d->retention.n_rollups : TG_MAX_ROLLUPS;
    const size_t rollups_at = rollups_offset(n_prepared);
    const size_t claims_at = claims_offset(n_prepared, n_rollups);
    const size_t bytes_at = claims_at + d->n_claims * sizeof(struct tg_claim);
    struct tg_plan *p = tg_malloc(bytes_at + scratch->len);
    if (!p) return NULL;
    *p = (struct tg_plan){
        .generation = d->generation,
        .targets = d->targets,
        .wait = d->wait & d->targets,
        .inexpressible = inexpressible,
        .strategy = d->strategy & 15U,
        .failed = d->failed,
        .n_prepared = (uint8_t)n_prepared,
        .n_rollups = (uint8_t)n_rollups,
        .n_claims = d->n_claims,
        .keep_ms = d->retention.keep_ms,
    };
    for (unsigned i = 0; i < n_prepared; i++) {
        prepared[i].offset += (uint32_t)bytes_at;
        p->prepared[i] = prepared[i];
    }
    if (n_rollups)
        memcpy((uint8_t *)p + rollups_at, d->retention.rollups,
               n_rollups * sizeof(struct tg_rollup));
    if (d->n_claims)
        memcpy((uint8_t *)p + claims_at, d->claims, d->n_claims * sizeof(struct tg_claim));
    if (scratch->len) memcpy((uint8_t *)p + bytes_at, scratch->data, scratch->len);
    return p;
}
