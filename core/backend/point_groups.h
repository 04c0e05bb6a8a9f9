/* point_groups.h: the points of a delivery, series by series.
 *
 *   groups: | first, last, n | ...   in the order in which the series come up first
 *   next:   | next of point 0 | ...  of the same series, in log order
 *
 * A series is told by its prepared bytes: where they are, not what they are. When a plan was
 * replaced within the delivery, a series has two groups, one after the other.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_BACKEND_POINT_GROUPS_H
#define TG_BACKEND_POINT_GROUPS_H

#include "core/backend/backend.h"

struct tg_point_group {
    const uint8_t *prepared;
    uint32_t prepared_len;
    uint32_t first, last; /* points of the delivery */
    uint32_t n;
    bool is_sorted; /* by time */
};

struct tg_point_groups {
    struct tg_point_group *groups;
    uint32_t n_groups;
    uint32_t *next;  /* by point */
    uint32_t *slots; /* hash of the prepared bytes' place to group + 1; 0 = free */
    uint32_t cap;    /* points, groups */
    unsigned slot_bits;
    /* Of the group that tg_point_groups_take was called for last. */
    const struct tg_point **points;
    uint32_t *numbers;
    uint32_t cap_taken;
};

void tg_point_groups_init(struct tg_point_groups *g);
void tg_point_groups_deinit(struct tg_point_groups *g);

/* Groups the points of `d`; those without prepared bytes are in none. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_point_groups_make(struct tg_point_groups *g,
                                                const struct tg_delivery *d);
/* Fills g->points and g->numbers (in the delivery) with the n points of group i, oldest first;
 * those of one time in log order. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_point_groups_take(struct tg_point_groups *g,
                                                const struct tg_delivery *d, uint32_t i);

#endif
