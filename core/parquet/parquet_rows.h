/* parquet_rows.h: the points of one file, sorted by series and time, with each series' strings
 * looked up once.
 *
 *   add: (series bytes, point) in log order
 *   sort: groups (one per series form, by name, then by canonical bytes)
 *         [ ts | start | value bits | type ] x n, group after group, ascending time within a group
 *
 * Points of equal series and time stay in log order. A series is known by the address of its bytes
 * first, so a million points of one series cost one parse; equal bytes at different addresses
 * become one group.
 *
 * Series bytes and points are borrowed until the next reset.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_PARQUET_ROWS_H
#define TG_PARQUET_PARQUET_ROWS_H

#include "core/base/arena.h"
#include "core/model/point.h"
#include "core/parquet/parquet_dict.h"
#include "core/parquet/parquet_schema.h"

#define TG_PARQUET_NULL UINT32_MAX /* instead of a dictionary index */

/* Dictionaries: the first six have one string per series. */
enum tg_parquet_dict_id {
    TG_PARQUET_DICT_NAME,
    TG_PARQUET_DICT_FIELD,
    TG_PARQUET_DICT_KIND,
    TG_PARQUET_DICT_UNIT,
    TG_PARQUET_DICT_TEMPORALITY,
    TG_PARQUET_DICT_TAG_ORIGINS,
    TG_PARQUET_SERIES_DICTS,
    TG_PARQUET_DICT_TAG_KEY = TG_PARQUET_SERIES_DICTS,
    TG_PARQUET_DICT_TAG_VALUE,
    TG_PARQUET_DICT_VALUE_STRING,
    TG_PARQUET_DICTS
};

struct tg_parquet_group {
    const uint8_t *bytes; /* canonical */
    uint32_t len;
    const char *name;
    uint32_t name_len;
    uint64_t name_prefix; /* first 8 bytes, big-endian: sorts as the name */
    uint32_t ordinal;     /* in order of arrival */
    uint32_t first_row, n_rows;
    uint32_t strings[TG_PARQUET_SERIES_DICTS]; /* index or TG_PARQUET_NULL */
    uint32_t first_tag, n_tags;                /* in tag_keys, tag_values */
};

struct tg_parquet_rows {
    uint32_t n, cap;
    const struct tg_point **points; /* as added, then sorted */
    uint32_t *ordinals;
    /* address of series bytes -> ordinal */
    struct {
        const uint8_t *bytes;
        uint32_t ordinal;
    } * slots;
    uint32_t n_slots;
    struct tg_parquet_group *groups;
    uint32_t n_groups, groups_cap;

    /* after sort */
    uint32_t sorted_cap;
    const struct tg_point **sorted;
    int64_t *ts, *start;
    uint64_t *value; /* bits of the scalar, or index of a string */
    uint8_t *type;
    uint32_t *tag_keys, *tag_values;
    uint32_t n_tags, tags_cap;
    struct tg_parquet_dict dicts[TG_PARQUET_DICTS];
    uint64_t plain_bytes[TG_PARQUET_DICTS]; /* of the column without a dictionary */
    uint32_t types;                         /* bit per enum tg_value_type that occurs */
    bool has_start, has_flags, has_exemplars;
    int64_t time_min, time_max;
    uint64_t n_texts_changed; /* values with bytes that are not UTF-8 */
    struct tg_arena scratch, strings;
    enum tg_code (*expand)(void *arg, const uint8_t *bytes, uint32_t len, struct tg_buf *out);
    void *expand_arg;
    struct tg_buf expanded;
};

void tg_parquet_rows_init(struct tg_parquet_rows *r);
void tg_parquet_rows_deinit(struct tg_parquet_rows *r);
void tg_parquet_rows_reset(struct tg_parquet_rows *r); /* keeps capacity */

/* TG_ERR_NOMEM; TG_ERR_TOO_LARGE over 2^31 points. */
TG_MUST_CHECK enum tg_code tg_parquet_rows_add(struct tg_parquet_rows *r, const uint8_t *series,
                                               uint32_t len, const struct tg_point *p);
/* Once, after the last add. TG_ERR_CORRUPT for series bytes that are not canonical, TG_ERR_NOMEM.
 */
TG_MUST_CHECK enum tg_code tg_parquet_rows_sort(struct tg_parquet_rows *r, struct tg_err *err);
/* The group of a row. */
uint32_t tg_parquet_rows_group(const struct tg_parquet_rows *r, uint32_t row);

#endif
