#include "core/backend/point_groups.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

enum { MIN_CAP = 64 };

void tg_point_groups_init(struct tg_point_groups *g)
{
    *g = (struct tg_point_groups){.groups = NULL};
}

void tg_point_groups_deinit(struct tg_point_groups *g)
{
    tg_free(g->groups);
    tg_free(g->next);
    tg_free(g->slots);
    tg_free(g->points);
    tg_free(g->numbers);
    tg_point_groups_init(g);
}

static enum tg_code reserve(struct tg_point_groups *g, uint32_t n)
{
    if (n <= g->cap) return TG_OK;
    uint32_t cap = g->cap ? g->cap : MIN_CAP;
    unsigned bits = 0;
    while (cap < n) cap = cap > UINT32_MAX / 2 ? n : cap * 2;
    while ((UINT64_C(1) << bits) < 2 * (uint64_t)cap) bits++;
    struct tg_point_group *groups = tg_reallocarray(g->groups, cap, sizeof(*groups));
    if (groups) g->groups = groups;
    uint32_t *next = tg_reallocarray(g->next, cap, sizeof(*next));
    if (next) g->next = next;
    uint32_t *slots = tg_reallocarray(g->slots, (size_t)1 << bits, sizeof(*slots));
    if (slots) g->slots = slots;
    if (!groups || !next || !slots) return TG_ERR_NOMEM;
    g->cap = cap;
    g->slot_bits = bits;
    return TG_OK;
}

static inline uint32_t *slot_of(const struct tg_point_groups *g, const uint8_t *prepared)
{
    const uint32_t mask = (uint32_t)((UINT64_C(1) << g->slot_bits) - 1);
    uint32_t i = (uint32_t)((uint64_t)(uintptr_t)prepared * UINT64_C(0x9E3779B97F4A7C15) >>
                            (64 - g->slot_bits));
    while (g->slots[i] && g->groups[g->slots[i] - 1].prepared != prepared) i = (i + 1) & mask;
    return &g->slots[i];
}

static void add(struct tg_point_groups *g, const struct tg_delivery *d, uint32_t i)
{
    const struct tg_delivery_point *p = &d->points[i];
    struct tg_point_group *last = g->n_groups ? &g->groups[g->n_groups - 1] : NULL;
    if (!last || last->prepared != p->prepared) { /* else: the series of the point before */
        uint32_t *slot = slot_of(g, p->prepared);
        if (*slot == 0) {
            g->groups[g->n_groups++] = (struct tg_point_group){.prepared = p->prepared,
                                                               .prepared_len = p->prepared_len,
                                                               .first = i,
                                                               .last = i,
                                                               .n = 1,
                                                               .is_sorted = true};
            *slot = g->n_groups;
            return;
        }
        last = &g->groups[*slot - 1];
    }
    if (p->point->ts_ns < d->points[last->last].point->ts_ns) last->is_sorted = false;
    g->next[last->last] = i;
    last->last = i;
    last->n++;
}

enum tg_code tg_point_groups_make(struct tg_point_groups *g, const struct tg_delivery *d)
{
    g->n_groups = 0;
    if (d->n_points == 0) return TG_OK;
    TG_TRY(reserve(g, d->n_points));
    assert(g->groups && g->next && g->slots);
    memset(g->slots, 0, sizeof(*g->slots) << g->slot_bits);
    for (uint32_t i = 0; i < d->n_points; i++)
        if (d->points[i].prepared) add(g, d, i);
    return TG_OK;
}

static enum tg_code reserve_taken(struct tg_point_groups *g, uint32_t n)
{
    if (n <= g->cap_taken) return TG_OK;
    const struct tg_point **points = tg_reallocarray(g->points, n, sizeof(*points));
    if (points) g->points = points;
    uint32_t *numbers = tg_reallocarray(g->numbers, n, sizeof(*numbers));
    if (numbers) g->numbers = numbers;
    if (!points || !numbers) return TG_ERR_NOMEM;
    g->cap_taken = n;
    return TG_OK;
}

/* Points in the delivery, by time and place. */
static int cmp_points(const void *x, const void *y, void *delivery)
{
    const struct tg_delivery *d = delivery;
    const uint32_t a = *(const uint32_t *)x;
    const uint32_t b = *(const uint32_t *)y;
    const int64_t a_ns = d->points[a].point->ts_ns;
    const int64_t b_ns = d->points[b].point->ts_ns;
    if (a_ns != b_ns) return a_ns < b_ns ? -1 : 1;
    return (a > b) - (a < b);
}

enum tg_code tg_point_groups_take(struct tg_point_groups *g, const struct tg_delivery *d,
                                  uint32_t i)
{
    const struct tg_point_group *group = &g->groups[i];
    TG_TRY(reserve_taken(g, group->n));
    uint32_t at = group->first;
    for (uint32_t k = 0; k < group->n; k++) {
        g->numbers[k] = at;
        if (k + 1 < group->n) at = g->next[at];
    }
    if (!group->is_sorted)
        qsort_r(g->numbers, group->n, sizeof(*g->numbers), cmp_points, (void *)(uintptr_t)d);
    for (uint32_t k = 0; k < group->n; k++) g->points[k] = d->points[g->numbers[k]].point;
    return TG_OK;
}
