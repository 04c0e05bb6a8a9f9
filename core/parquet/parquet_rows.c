#include "core/parquet/parquet_rows.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/model/series.h"
#include "core/parquet/parquet_json.h"
#include "core/parquet/parquet_stats.h"

void tg_parquet_rows_init(struct tg_parquet_rows *r)
{
    memset(r, 0, sizeof(*r));
    tg_arena_init(&r->scratch, 0);
    tg_arena_init(&r->strings, 0);
    tg_buf_init(&r->expanded, 0);
}

void tg_parquet_rows_deinit(struct tg_parquet_rows *r)
{
    tg_free(r->points);
    tg_free(r->ordinals);
    tg_free(r->slots);
    tg_free(r->groups);
    tg_free(r->sorted);
    tg_free(r->ts);
    tg_free(r->start);
    tg_free(r->value);
    tg_free(r->type);
    tg_free(r->tag_keys);
    tg_free(r->tag_values);
    for (unsigned i = 0; i < TG_PARQUET_DICTS; i++) tg_parquet_dict_deinit(&r->dicts[i]);
    tg_arena_deinit(&r->scratch);
    tg_arena_deinit(&r->strings);
    tg_buf_deinit(&r->expanded);
}

void tg_parquet_rows_reset(struct tg_parquet_rows *r)
{
    if (r->slots) memset(r->slots, 0, r->n_slots * sizeof(*r->slots));
    for (unsigned i = 0; i < TG_PARQUET_DICTS; i++) {
        tg_parquet_dict_reset(&r->dicts[i]);
        r->plain_bytes[i] = 0;
    }
    r->n_texts_changed = 0;
    tg_arena_reset(&r->scratch);
    tg_arena_reset(&r->strings);
    r->n = r->n_groups = r->n_tags = r->types = 0;
    r->has_start = r->has_flags = r->has_exemplars = false;
}

/* Makes *array hold `cap` elements. */
static bool resize(void *array, uint32_t cap, size_t size)
{
    void **p = array;
    void *bigger = tg_reallocarray(*p, cap, size);
    if (bigger) *p = bigger;
    return bigger != NULL;
}

static uint32_t slot_of(const struct tg_parquet_rows *r, const uint8_t *series)
{
    const uint64_t h = (uint64_t)(uintptr_t)series * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(h >> 32) & (r->n_slots - 1);
}

static enum tg_code grow_slots(struct tg_parquet_rows *r)
{
    const uint32_t n_slots = r->n_slots ? r->n_slots * 2 : 256;
    void *slots = tg_calloc(n_slots, sizeof(*r->slots));
    if (!slots) return TG_ERR_NOMEM;
    tg_free(r->slots);
    r->slots = slots;
    r->n_slots = n_slots;
    for (uint32_t i = 0; i < r->n_groups; i++) {
        uint32_t at = slot_of(r, r->groups[i].bytes);
        while (r->slots[at].bytes) at = (at + 1) & (n_slots - 1);
        r->slots[at].bytes = r->groups[i].bytes;
        r->slots[at].ordinal = i;
    }
    return TG_OK;
}

static enum tg_code new_group(struct tg_parquet_rows *r, const uint8_t *series, uint32_t len,
                              uint32_t *ordinal)
{
    if (r->n_groups >= r->n_slots / 2) TG_TRY(grow_slots(r));
    if (r->n_groups == r->groups_cap) {
        const uint32_t cap = r->groups_cap ? r->groups_cap * 2 : 128;
        if (!resize(&r->groups, cap, sizeof(*r->groups))) return TG_ERR_NOMEM;
        r->groups_cap = cap;
    }
    struct tg_parquet_group *g = &r->groups[r->n_groups];
    memset(g, 0, sizeof(*g));
    g->bytes = series;
    g->len = len;
    g->ordinal = r->n_groups;
    uint32_t at = slot_of(r, series);
    while (r->slots[at].bytes) at = (at + 1) & (r->n_slots - 1);
    r->slots[at].bytes = series;
    r->slots[at].ordinal = r->n_groups;
    *ordinal = r->n_groups++;
    return TG_OK;
}

enum tg_code tg_parquet_rows_add(struct tg_parquet_rows *r, const uint8_t *series, uint32_t len,
                                 const struct tg_point *p)
{
    if (r->n == r->cap) {
        if (r->n >= UINT32_C(1) << 31) return TG_ERR_TOO_LARGE;
        const uint32_t cap = r->cap ? r->cap * 2 : 1024;
        if (!resize(&r->points, cap, sizeof(*r->points)) ||
            !resize(&r->ordinals, cap, sizeof(*r->ordinals)))
            return TG_ERR_NOMEM;
        r->cap = cap;
    }
    uint32_t ordinal = TG_PARQUET_NULL;
    if (r->n_slots) {
        uint32_t at = slot_of(r, series);
        for (; r->slots[at].bytes; at = (at + 1) & (r->n_slots - 1)) {
            if (r->slots[at].bytes == series) {
                ordinal = r->slots[at].ordinal;
                break;
            }
        }
    }
    if (ordinal == TG_PARQUET_NULL) TG_TRY(new_group(r, series, len, &ordinal));
    r->groups[ordinal].n_rows++;
    r->points[r->n] = p;
    r->ordinals[r->n++] = ordinal;
    return TG_OK;
}

/* ---- the strings of the series ---- */

static enum tg_code add_string(struct tg_parquet_rows *r, struct tg_parquet_group *g,
                               enum tg_parquet_dict_id id, const char *p, uint32_t len)
{
    r->plain_bytes[id] += (4 + (uint64_t)len) * g->n_rows;
    return tg_parquet_dict_add(&r->dicts[id], p, len, &g->strings[id]);
}

/* As tg_parquet_dict_add, but first looks whether it is string `guess`: neighbouring series share
 * most of their tags. */
static enum tg_code add_tag(struct tg_parquet_dict *d, const char *p, uint32_t len, uint32_t guess,
                            uint32_t *index)
{
    if (guess < d->n && d->items[guess].len == len && memcmp(d->items[guess].ptr, p, len) == 0) {
        *index = guess;
        return TG_OK;
    }
    return tg_parquet_dict_add(d, p, len, index);
}

static enum tg_code add_tags(struct tg_parquet_rows *r, struct tg_parquet_group *g,
                             const struct tg_series_desc *d, uint32_t before)
{
    static const char letters[] = "psr"; /* by enum tg_origin */
    if (r->tags_cap - r->n_tags < d->n_tags) {
        uint32_t cap = r->tags_cap ? r->tags_cap : 512;
        while (cap - r->n_tags < d->n_tags) cap *= 2;
        if (!resize(&r->tag_keys, cap, sizeof(*r->tag_keys)) ||
            !resize(&r->tag_values, cap, sizeof(*r->tag_values)))
            return TG_ERR_NOMEM;
        r->tags_cap = cap;
    }
    g->first_tag = r->n_tags;
    g->n_tags = d->n_tags;
    char *origins = NULL;
    uint64_t plain[2] = {0, 0};
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        const uint32_t at = r->n_tags + i;
        const bool has_guess = before + i < r->n_tags;
        TG_TRY(add_tag(&r->dicts[TG_PARQUET_DICT_TAG_KEY], t->key, t->key_len,
                       has_guess ? r->tag_keys[before + i] : TG_PARQUET_NULL, &r->tag_keys[at]));
        TG_TRY(add_tag(&r->dicts[TG_PARQUET_DICT_TAG_VALUE], t->value, t->value_len,
                       has_guess ? r->tag_values[before + i] : TG_PARQUET_NULL,
                       &r->tag_values[at]));
        plain[0] += 4 + (uint64_t)t->key_len;
        plain[1] += 4 + (uint64_t)t->value_len;
        if (t->origin != TG_ORIGIN_POINT && !origins) {
            origins = tg_arena_alloc(&r->strings, d->n_tags);
            if (!origins) return TG_ERR_NOMEM;
            memset(origins, letters[0], d->n_tags);
        }
        if (origins && t->origin <= TG_ORIGIN_RESOURCE) origins[i] = letters[t->origin];
    }
    r->n_tags += d->n_tags;
    r->plain_bytes[TG_PARQUET_DICT_TAG_KEY] += plain[0] * g->n_rows;
    r->plain_bytes[TG_PARQUET_DICT_TAG_VALUE] += plain[1] * g->n_rows;
    if (!origins) return TG_OK;
    return add_string(r, g, TG_PARQUET_DICT_TAG_ORIGINS, origins, d->n_tags);
}

static enum tg_code add_series(struct tg_parquet_rows *r, struct tg_parquet_group *g,
                               uint32_t before, struct tg_err *err)
{
    struct tg_series_desc d;
    tg_arena_reset(&r->scratch);
    TG_TRY(tg_series_desc_parse(g->bytes, g->len, &d, &r->scratch, err));
    g->name = d.name;
    g->name_len = d.name_len;
    uint8_t prefix[8] = {0};
    memcpy(prefix, d.name, d.name_len < 8 ? d.name_len : 8);
    memcpy(&g->name_prefix, prefix, 8);
    g->name_prefix = __builtin_bswap64(g->name_prefix);
    for (unsigned i = 0; i < TG_PARQUET_SERIES_DICTS; i++) g->strings[i] = TG_PARQUET_NULL;
    const char *kind = tg_kind_name((enum tg_kind)d.kind);
    TG_TRY(add_string(r, g, TG_PARQUET_DICT_NAME, d.name, d.name_len));
    TG_TRY(add_string(r, g, TG_PARQUET_DICT_KIND, kind, (uint32_t)strlen(kind)));
    if (d.field_len)
        TG_TRY(add_string(r, g, TG_PARQUET_DICT_FIELD, d.name + (d.name_len - d.field_len),
                          d.field_len));
    if (d.unit_len) TG_TRY(add_string(r, g, TG_PARQUET_DICT_UNIT, d.unit, d.unit_len));
    if (d.temporality == TG_TEMPORALITY_DELTA)
        TG_TRY(add_string(r, g, TG_PARQUET_DICT_TEMPORALITY, "delta", 5));
    if (d.temporality == TG_TEMPORALITY_CUMULATIVE)
        TG_TRY(add_string(r, g, TG_PARQUET_DICT_TEMPORALITY, "cumulative", 10));
    return add_tags(r, g, &d, before);
}

/* ---- sorting ---- */

static int group_cmp(const void *a, const void *b)
{
    const struct tg_parquet_group *x = a, *y = b;
    if (x->name_prefix != y->name_prefix) return x->name_prefix < y->name_prefix ? -1 : 1;
    int c = tg_parquet_bytes_cmp(x->name, x->name_len, y->name, y->name_len);
    if (c) return c;
    c = tg_parquet_bytes_cmp((const char *)x->bytes, x->len, (const char *)y->bytes, y->len);
    if (c) return c;
    return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

struct timed {
    int64_t ts;
    uint32_t seq;
    const struct tg_point *point;
};
static int timed_cmp(const void *a, const void *b)
{
    const struct timed *x = a, *y = b;
    if (x->ts != y->ts) return x->ts < y->ts ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* A group whose points came out of order; rare. */
static enum tg_code sort_group(struct tg_parquet_rows *r, const struct tg_parquet_group *g)
{
    struct timed *t = tg_reallocarray(NULL, g->n_rows, sizeof(*t));
    if (!t) return TG_ERR_NOMEM;
    for (uint32_t i = 0; i < g->n_rows; i++) {
        const struct tg_point *p = r->sorted[g->first_row + i];
        t[i] = (struct timed){p->ts_ns, i, p};
    }
    qsort(t, g->n_rows, sizeof(*t), timed_cmp);
    for (uint32_t i = 0; i < g->n_rows; i++) r->sorted[g->first_row + i] = t[i].point;
    tg_free(t);
    return TG_OK;
}

static bool gather(struct tg_parquet_rows *r, const struct tg_parquet_group *g)
{
    const uint32_t end = g->first_row + g->n_rows;
    int64_t last = INT64_MIN;
    bool ascending = true;
    for (uint32_t i = g->first_row; i < end; i++) {
        if (i + 12 < r->n) __builtin_prefetch(r->sorted[i + 12]);
        const struct tg_point *p = r->sorted[i];
        if (p->ts_ns < last) ascending = false;
        last = p->ts_ns;
        r->ts[i] = p->ts_ns;
        r->start[i] = p->start_ns;
        r->value[i] = p->value.u64;
        r->type[i] = tg_point_value_type(p);
        r->types |= 1u << (r->type[i] & 31);
        r->has_start |= p->start_ns != 0;
        r->has_flags |= p->flags != 0;
        r->has_exemplars |= p->exemplars != NULL && p->exemplars->n != 0;
    }
    return ascending;
}

static enum tg_code add_value_strings(struct tg_parquet_rows *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->type[i] != TG_VALUE_STRING) continue;
        const struct tg_string *s = r->sorted[i]->value.string;
        const char *p = s->ptr;
        uint32_t len = s->len, index;
        TG_TRY(tg_parquet_utf8_fix(&p, &len, &r->strings));
        r->n_texts_changed += p != s->ptr;
        TG_TRY(tg_parquet_dict_add(&r->dicts[TG_PARQUET_DICT_VALUE_STRING], p, len, &index));
        r->plain_bytes[TG_PARQUET_DICT_VALUE_STRING] += 4 + (uint64_t)len;
        r->value[i] = index;
    }
    return TG_OK;
}

static enum tg_code reserve_sorted(struct tg_parquet_rows *r)
{
    if (r->n <= r->sorted_cap) return TG_OK;
    if (!resize(&r->sorted, r->cap, sizeof(*r->sorted)) || !resize(&r->ts, r->cap, 8) ||
        !resize(&r->start, r->cap, 8) || !resize(&r->value, r->cap, 8) ||
        !resize(&r->type, r->cap, 1))
        return TG_ERR_NOMEM;
    r->sorted_cap = r->cap;
    return TG_OK;
}

/* The canonical bytes of all groups, when they were given in another form. */
static enum tg_code expand_groups(struct tg_parquet_rows *r)
{
    for (uint32_t i = 0; r->expand && i < r->n_groups; i++) {
        struct tg_parquet_group *g = &r->groups[i];
        tg_buf_reset(&r->expanded);
        TG_TRY(r->expand(r->expand_arg, g->bytes, g->len, &r->expanded));
        const char *copy =
            tg_arena_strndup(&r->strings, (const char *)r->expanded.data, r->expanded.len);
        if (!copy) return TG_ERR_NOMEM;
        g->bytes = (const uint8_t *)copy;
        g->len = (uint32_t)r->expanded.len;
    }
    return TG_OK;
}

enum tg_code tg_parquet_rows_sort(struct tg_parquet_rows *r, struct tg_err *err)
{
    TG_TRY(reserve_sorted(r));
    TG_TRY(expand_groups(r));
    uint32_t before = 0; /* where the previous series' tags are */
    for (uint32_t i = 0; i < r->n_groups; i++) {
        TG_TRY(add_series(r, &r->groups[i], before, err));
        before = r->groups[i].first_tag;
    }
    if (r->n_groups) qsort(r->groups, r->n_groups, sizeof(*r->groups), group_cmp);

    /* by ordinal: its group; by group: where its next point goes */
    uint32_t *group_of = tg_reallocarray(NULL, 2 * (size_t)r->n_groups + 1, sizeof(*group_of));
    if (!group_of) return TG_ERR_NOMEM;
    uint32_t *next = group_of + r->n_groups;
    uint32_t row = 0, n_groups = 0;
    for (uint32_t i = 0; i < r->n_groups; i++) {
        struct tg_parquet_group *g = &r->groups[i];
        const uint32_t own_rows = g->n_rows, ordinal = g->ordinal;
        struct tg_parquet_group *same = n_groups ? &r->groups[n_groups - 1] : NULL;
        if (same && same->len == g->len && memcmp(same->bytes, g->bytes, g->len) == 0) {
            same->n_rows += g->n_rows;
        } else {
            g->first_row = next[n_groups] = row;
            if (n_groups != i) r->groups[n_groups] = *g;
            n_groups++;
        }
        row += own_rows;
        group_of[ordinal] = n_groups - 1;
    }
    r->n_groups = n_groups;
    for (uint32_t i = 0; i < r->n; i++) r->sorted[next[group_of[r->ordinals[i]]]++] = r->points[i];
    tg_free(group_of);

    r->time_min = INT64_MAX;
    r->time_max = INT64_MIN;
    for (uint32_t i = 0; i < r->n_groups; i++) {
        const struct tg_parquet_group *g = &r->groups[i];
        if (!gather(r, g)) {
            TG_TRY(sort_group(r, g));
            (void)gather(r, g);
        }
        const int64_t lo = r->ts[g->first_row], hi = r->ts[g->first_row + g->n_rows - 1];
        if (lo < r->time_min) r->time_min = lo;
        if (hi > r->time_max) r->time_max = hi;
    }
    if (r->types >> TG_VALUE_STRING & 1) TG_TRY(add_value_strings(r));
    return TG_OK;
}

uint32_t tg_parquet_rows_group(const struct tg_parquet_rows *r, uint32_t row)
{
    uint32_t lo = 0, hi = r->n_groups - 1;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo + 1) / 2;
        if (r->groups[mid].first_row <= row)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}
