#include "core/parquet/parquet_reader.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/parquet/parquet_json.h"
#include "core/parquet/parquet_stats.h"

enum {
    MAX_TAGS = 4096, /* far over what the gateway takes in */
    LOOK_EVERY_ROWS = 4096,
};

/* Columns that tell series apart, beside the tags. */
static const uint8_t series_columns[] = {
    TG_PARQUET_COLUMN_NAME, TG_PARQUET_COLUMN_FIELD,       TG_PARQUET_COLUMN_KIND,
    TG_PARQUET_COLUMN_UNIT, TG_PARQUET_COLUMN_TEMPORALITY, TG_PARQUET_COLUMN_TAG_ORIGINS};
enum { N_SERIES_COLUMNS = sizeof(series_columns) };
#define NULL_INDEX UINT64_MAX

struct tg_parquet_reader {
    struct tg_parquet_limits limits;
    struct tg_arena meta_arena; /* of the footer */
    struct tg_parquet_file_meta meta;
    uint64_t data_bytes;

    struct tg_arena group_arena; /* of the row group */
    struct tg_arena row_arena;   /* of the row */
    struct tg_parquet_column_reader columns[TG_PARQUET_COLUMNS];

    /* the series of the last row, to be recognised again by its indices */
    bool has_series, matches;
    bool reusable; /* all its indices are of dictionaries, which outlive the page */
    uint64_t key[N_SERIES_COLUMNS];
    uint64_t tag_key[MAX_TAGS], tag_value[MAX_TAGS];
    struct tg_tag tags[MAX_TAGS];
    struct tg_series_desc desc;
};

struct tg_parquet_reader *tg_parquet_reader_new(const struct tg_parquet_limits *limits)
{
    struct tg_parquet_reader *r = tg_calloc(1, sizeof(*r));
    if (!r) return NULL;
    if (limits) r->limits = *limits;
    if (!r->limits.max_page_bytes) r->limits.max_page_bytes = UINT64_C(512) << 20;
    if (!r->limits.max_entries) r->limits.max_entries = TG_PARQUET_MAX_ROWS;
    tg_arena_init(&r->meta_arena, 0);
    tg_arena_init(&r->group_arena, 0);
    tg_arena_init(&r->row_arena, 0);
    for (unsigned i = 0; i < TG_PARQUET_COLUMNS; i++) tg_parquet_column_reader_init(&r->columns[i]);
    return r;
}

void tg_parquet_reader_free(struct tg_parquet_reader *r)
{
    if (!r) return;
    for (unsigned i = 0; i < TG_PARQUET_COLUMNS; i++)
        tg_parquet_column_reader_deinit(&r->columns[i]);
    tg_arena_deinit(&r->meta_arena);
    tg_arena_deinit(&r->group_arena);
    tg_arena_deinit(&r->row_arena);
    tg_free(r);
}

enum tg_code tg_parquet_footer_len(const uint8_t tail[TG_PARQUET_TAIL], uint64_t file_bytes,
                                   uint64_t *len, struct tg_err *err)
{
    uint32_t footer;
    memcpy(&footer, tail, 4);
    if (memcmp(tail + 4, TG_PARQUET_MAGIC, 4) != 0)
        return tg_fail(err, TG_ERR_CORRUPT,
                       "not a Parquet file, or cut short: no \"PAR1\" at its end");
    if (footer > TG_PARQUET_MAX_FOOTER || file_bytes < (uint64_t)footer + TG_PARQUET_TAIL + 4)
        return tg_fail(err, TG_ERR_CORRUPT, "damaged Parquet file: a footer of %u bytes in %llu",
                       footer, (unsigned long long)file_bytes);
    *len = (uint64_t)footer + TG_PARQUET_TAIL;
    return TG_OK;
}

enum tg_code tg_parquet_reader_footer(struct tg_parquet_reader *r, const uint8_t *bytes,
                                      uint64_t len, uint64_t file_bytes, struct tg_err *err)
{
    uint64_t want = 0;
    tg_arena_reset(&r->meta_arena);
    memset(&r->meta, 0, sizeof(r->meta));
    if (len < TG_PARQUET_TAIL) return tg_fail(err, TG_ERR_CORRUPT, "not a Parquet file: too short");
    TG_TRY(tg_parquet_footer_len(bytes + len - TG_PARQUET_TAIL, file_bytes, &want, err));
    if (want != len) return tg_fail(err, TG_ERR_CORRUPT, "damaged Parquet file: footer length");
    r->data_bytes = file_bytes - len;
    return tg_parquet_file_meta_read(bytes, (size_t)(len - TG_PARQUET_TAIL), r->data_bytes,
                                     &r->meta_arena, &r->meta, err);
}

const struct tg_parquet_info *tg_parquet_reader_info(const struct tg_parquet_reader *r)
{
    return &r->meta.info;
}

static bool must_stop(const struct tg_parquet_filter *f)
{
    return f->should_stop && f->should_stop(f->stop_arg);
}

/* ---- what statistics rule out ---- */

static bool time_may_match(const struct tg_parquet_stats *s, const struct tg_parquet_filter *f)
{
    return !s->has_min || !s->has_max || (s->min.i64 < f->end_ns && s->max.i64 >= f->start_ns);
}

static bool name_may_match(const struct tg_parquet_stats *s, const struct tg_parquet_filter *f)
{
    if (!f->name || !s->has_min || !s->has_max) return true;
    return tg_parquet_bytes_cmp(f->name, f->name_len, s->min.str.ptr, s->min.str.len) >= 0 &&
           tg_parquet_bytes_cmp(f->name, f->name_len, s->max.str.ptr, s->max.str.len) <= 0;
}

static bool group_may_match(const struct tg_parquet_row_group *g, const struct tg_parquet_filter *f)
{
    return time_may_match(&g->chunks[TG_PARQUET_COLUMN_TIME].stats, f) &&
           name_may_match(&g->chunks[TG_PARQUET_COLUMN_NAME].stats, f);
}

bool tg_parquet_reader_may_match(const struct tg_parquet_reader *r,
                                 const struct tg_parquet_filter *f)
{
    for (uint32_t i = 0; i < r->meta.n_row_groups; i++)
        if (group_may_match(&r->meta.row_groups[i], f)) return true;
    return false;
}

/* The row at or after `row` that pages do not rule out. */
static uint64_t skip_pages(const struct tg_parquet_reader *r, const struct tg_parquet_filter *f,
                           uint64_t row, uint64_t n_rows)
{
    const struct tg_parquet_column_reader *time = &r->columns[TG_PARQUET_COLUMN_TIME];
    const struct tg_parquet_column_reader *name = &r->columns[TG_PARQUET_COLUMN_NAME];
    while (row < n_rows) {
        if (time->has_bounds) {
            const uint32_t i = tg_parquet_column_page_of(time, row);
            if (!time_may_match(&time->pages[i].stats, f)) {
                row = tg_parquet_column_page_end(time, i);
                continue;
            }
        }
        if (name->has_bounds) {
            const uint32_t i = tg_parquet_column_page_of(name, row);
            if (!name_may_match(&name->pages[i].stats, f)) {
                row = tg_parquet_column_page_end(name, i);
                continue;
            }
        }
        break;
    }
    return row;
}

/* ---- the series of a row ---- */

/* The index of a plain (not repeated) column in a row, or NULL_INDEX. */
static enum tg_code index_at(struct tg_parquet_column_reader *c, uint64_t row, uint64_t *index)
{
    uint32_t first, n;
    TG_TRY(tg_parquet_column_row(c, row, &first, &n));
    *index = n == 0 || c->def[first] != c->column->max_def ? NULL_INDEX : c->values[first];
    return TG_OK;
}

static struct tg_parquet_string string_of(const struct tg_parquet_column_reader *c, uint64_t index)
{
    if (index == NULL_INDEX) return (struct tg_parquet_string){"", 0, 0};
    return c->strings[index];
}

static bool is_text(struct tg_parquet_string s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

static bool matches(const struct tg_series_desc *d, const struct tg_parquet_filter *f)
{
    if (f->name && (f->name_len != d->name_len || memcmp(f->name, d->name, d->name_len) != 0))
        return false;
    for (uint32_t i = 0; i < f->n_tags; i++) {
        const struct tg_tag *want = &f->tags[i];
        const struct tg_tag *got = tg_series_desc_tag(d, want->key, want->key_len);
        if (!got || got->value_len != want->value_len ||
            memcmp(got->value, want->value, want->value_len) != 0)
            return false;
    }
    return true;
}

/* Fills r->desc from the indices in r->key and the tag entries. */
static enum tg_code describe(struct tg_parquet_reader *r, uint32_t n_tags)
{
    struct tg_parquet_string s[N_SERIES_COLUMNS];
    struct tg_series_desc *d = &r->desc;
    for (unsigned i = 0; i < N_SERIES_COLUMNS; i++)
        s[i] = string_of(&r->columns[series_columns[i]], r->key[i]);
    const struct tg_parquet_string name = s[0], field = s[1], origins = s[5];
    memset(d, 0, sizeof(*d));
    d->name = name.ptr;
    d->name_len = name.len;
    d->field_len = field.len;
    d->unit = s[3].ptr;
    d->unit_len = s[3].len;
    d->tags = r->tags;
    d->n_tags = n_tags;
    if (name.len == 0 || field.len > name.len ||
        memcmp(name.ptr + (name.len - field.len), field.ptr, field.len) != 0)
        return TG_ERR_CORRUPT;
    while (d->kind < TG_KINDS && !is_text(s[2], tg_kind_name((enum tg_kind)d->kind))) d->kind++;
    if (d->kind == TG_KINDS) return TG_ERR_CORRUPT;
    if (is_text(s[4], "delta"))
        d->temporality = TG_TEMPORALITY_DELTA;
    else if (is_text(s[4], "cumulative"))
        d->temporality = TG_TEMPORALITY_CUMULATIVE;
    else if (r->key[4] != NULL_INDEX)
        return TG_ERR_CORRUPT;
    if (r->key[5] != NULL_INDEX && origins.len != n_tags) return TG_ERR_CORRUPT;
    for (uint32_t i = 0; i < n_tags; i++) {
        const struct tg_parquet_string k =
            r->columns[TG_PARQUET_COLUMN_TAG_KEY].strings[r->tag_key[i]];
        const struct tg_parquet_string v =
            r->columns[TG_PARQUET_COLUMN_TAG_VALUE].strings[r->tag_value[i]];
        struct tg_tag *t = &r->tags[i];
        *t = (struct tg_tag){k.ptr, v.ptr, k.len, v.len, TG_ORIGIN_POINT};
        if (r->key[5] != NULL_INDEX) {
            const char o = origins.ptr[i];
            if (o != 'p' && o != 's' && o != 'r') return TG_ERR_CORRUPT;
            t->origin = o == 'p'   ? TG_ORIGIN_POINT
                        : o == 's' ? TG_ORIGIN_SCOPE
                                   : TG_ORIGIN_RESOURCE;
        }
        if (i && tg_parquet_bytes_cmp(t[-1].key, t[-1].key_len, k.ptr, k.len) >= 0)
            return TG_ERR_CORRUPT; /* a desc's tags ascend */
    }
    return TG_OK;
}

/* Makes r->desc and r->matches those of the row. */
static enum tg_code series_at(struct tg_parquet_reader *r, const struct tg_parquet_filter *f,
                              uint64_t row)
{
    struct tg_parquet_column_reader *keys = &r->columns[TG_PARQUET_COLUMN_TAG_KEY];
    struct tg_parquet_column_reader *values = &r->columns[TG_PARQUET_COLUMN_TAG_VALUE];
    uint32_t first, n, value_first, value_n;
    bool same = r->has_series && r->reusable, reusable = true;
    for (unsigned i = 0; i < N_SERIES_COLUMNS; i++) {
        uint64_t index;
        struct tg_parquet_column_reader *c = &r->columns[series_columns[i]];
        TG_TRY(index_at(c, row, &index));
        same = same && index == r->key[i];
        reusable = reusable && (index == NULL_INDEX || c->in_dict);
        r->key[i] = index;
    }
    TG_TRY(tg_parquet_column_row(keys, row, &first, &n));
    TG_TRY(tg_parquet_column_row(values, row, &value_first, &value_n));
    if (n != value_n || n > MAX_TAGS) return TG_ERR_CORRUPT;
    if (n) { /* both columns have the same levels; a row without tags has one entry of def 0 */
        for (uint32_t i = 0; i < n; i++) {
            if (keys->def[first + i] != values->def[value_first + i] ||
                (keys->def[first + i] == 0 && n > 1))
                return TG_ERR_CORRUPT;
        }
        if (keys->def[first] == 0) n = 0;
    }
    same =
        same && n == r->desc.n_tags && (n == 0 || (keys->in_dict && values->in_dict)) &&
        (n == 0 || (memcmp(r->tag_key, keys->values + first, n * sizeof(uint64_t)) == 0 &&
                    memcmp(r->tag_value, values->values + value_first, n * sizeof(uint64_t)) == 0));
    if (same) return TG_OK;
    r->has_series = false;
    if (n) memcpy(r->tag_key, keys->values + first, n * sizeof(uint64_t));
    if (n) memcpy(r->tag_value, values->values + value_first, n * sizeof(uint64_t));
    TG_TRY(describe(r, n));
    r->matches = matches(&r->desc, f);
    r->has_series = true;
    r->reusable = reusable;
    return TG_OK;
}

/* ---- the point of a row ---- */

struct cell {
    bool has;
    uint64_t bits;
};

static enum tg_code cell_at(struct tg_parquet_reader *r, enum tg_parquet_column_id id, uint64_t row,
                            struct cell *out)
{
    struct tg_parquet_column_reader *c = &r->columns[id];
    uint32_t first, n;
    out->has = false;
    out->bits = 0;
    if (c->all_null) return TG_OK;
    TG_TRY(tg_parquet_column_row(c, row, &first, &n));
    out->has = c->def[first] == c->column->max_def;
    out->bits = c->values[first];
    return TG_OK;
}

static enum tg_code f64_at(struct tg_parquet_reader *r, enum tg_parquet_column_id id, uint64_t row,
                           double *v, bool *has)
{
    struct cell c;
    TG_TRY(cell_at(r, id, row, &c));
    memcpy(v, &c.bits, 8);
    *has = c.has;
    return TG_OK;
}

static enum tg_code u64_at(struct tg_parquet_reader *r, enum tg_parquet_column_id id, uint64_t row,
                           uint64_t *v)
{
    struct cell c;
    TG_TRY(cell_at(r, id, row, &c));
    *v = c.bits;
    return c.has ? TG_OK : TG_ERR_CORRUPT;
}

static enum tg_code i32_at(struct tg_parquet_reader *r, enum tg_parquet_column_id id, uint64_t row,
                           int32_t *v)
{
    uint64_t bits;
    TG_TRY(u64_at(r, id, row, &bits));
    *v = (int32_t)(int64_t)bits;
    return TG_OK;
}

/* A list's elements, borrowed from the page at hand; *has = not null. */
static enum tg_code list_at(struct tg_parquet_reader *r, enum tg_parquet_column_id id, uint64_t row,
                            const uint64_t **v, uint32_t *n, bool *has)
{
    struct tg_parquet_column_reader *c = &r->columns[id];
    uint32_t first;
    TG_TRY(tg_parquet_column_row(c, row, &first, n));
    *v = NULL;
    *has = false;
    if (*n == 0) return TG_OK; /* a column of nulls */
    *has = c->def[first] > 0;
    if (c->def[first] < 2) { /* null or empty: one entry */
        const bool one = *n == 1;
        *n = 0;
        return one ? TG_OK : TG_ERR_CORRUPT;
    }
    for (uint32_t i = 1; i < *n; i++)
        if (c->def[first + i] != 2) return TG_ERR_CORRUPT;
    *v = c->values + first;
    return TG_OK;
}

/* The list must be there. */
static enum tg_code need_list(struct tg_parquet_reader *r, enum tg_parquet_column_id id,
                              uint64_t row, const uint64_t **v, uint32_t *n)
{
    bool has;
    TG_TRY(list_at(r, id, row, v, n, &has));
    return has ? TG_OK : TG_ERR_CORRUPT;
}

static enum tg_code doubles(struct tg_parquet_reader *r, const uint64_t *bits, uint32_t n,
                            const double **out)
{
    double *v = tg_arena_alloc(&r->row_arena, (size_t)n * 8 + 8);
    if (!v) return TG_ERR_NOMEM;
    if (n) memcpy(v, bits, (size_t)n * 8);
    *out = v;
    return TG_OK;
}

static enum tg_code histogram_at(struct tg_parquet_reader *r, uint64_t row, const uint64_t *bounds,
                                 uint32_t n_bounds, struct tg_point *p)
{
    struct tg_histogram *h = tg_arena_calloc(&r->row_arena, 1, sizeof(*h));
    if (!h) return TG_ERR_NOMEM;
    p->type = TG_VALUE_HISTOGRAM;
    p->value.histogram = h;
    h->n_bounds = n_bounds;
    TG_TRY(doubles(r, bounds, n_bounds, &h->bounds));
    TG_TRY(need_list(r, TG_PARQUET_COLUMN_BUCKETS, row, &h->buckets, &h->n_buckets));
    if (h->n_buckets && h->n_buckets != n_bounds + 1) return TG_ERR_CORRUPT;
    TG_TRY(u64_at(r, TG_PARQUET_COLUMN_COUNT, row, &h->count));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_SUM, row, &h->sum, &h->has_sum));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_MIN, row, &h->min, &h->has_min));
    return f64_at(r, TG_PARQUET_COLUMN_MAX, row, &h->max, &h->has_max);
}

static enum tg_code exp_histogram_at(struct tg_parquet_reader *r, uint64_t row, struct tg_point *p)
{
    struct tg_exp_histogram *h = tg_arena_calloc(&r->row_arena, 1, sizeof(*h));
    bool has;
    if (!h) return TG_ERR_NOMEM;
    p->type = TG_VALUE_EXP_HISTOGRAM;
    p->value.exp_histogram = h;
    TG_TRY(i32_at(r, TG_PARQUET_COLUMN_SCALE, row, &h->scale));
    TG_TRY(i32_at(r, TG_PARQUET_COLUMN_POS_OFFSET, row, &h->pos_offset));
    TG_TRY(i32_at(r, TG_PARQUET_COLUMN_NEG_OFFSET, row, &h->neg_offset));
    TG_TRY(u64_at(r, TG_PARQUET_COLUMN_COUNT, row, &h->count));
    TG_TRY(u64_at(r, TG_PARQUET_COLUMN_ZERO_COUNT, row, &h->zero_count));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_ZERO_THRESHOLD, row, &h->zero_threshold, &has));
    if (!has) return TG_ERR_CORRUPT;
    TG_TRY(need_list(r, TG_PARQUET_COLUMN_POS_COUNTS, row, &h->pos, &h->n_pos));
    TG_TRY(need_list(r, TG_PARQUET_COLUMN_NEG_COUNTS, row, &h->neg, &h->n_neg));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_SUM, row, &h->sum, &h->has_sum));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_MIN, row, &h->min, &h->has_min));
    return f64_at(r, TG_PARQUET_COLUMN_MAX, row, &h->max, &h->has_max);
}

/* The file's pages hold the bits; with scale TG_SCALE_CUSTOM there are bounds. */
static enum tg_code float_histogram_at(struct tg_parquet_reader *r, uint64_t row,
                                       struct tg_point *p)
{
    struct tg_float_histogram *h = tg_arena_calloc(&r->row_arena, 1, sizeof(*h));
    const uint64_t *list;
    bool has_count;
    bool has_zero;
    bool has_threshold;
    bool has_sum;
    bool has_bounds;
    if (!h) return TG_ERR_NOMEM;
    p->type = TG_VALUE_FLOAT_HISTOGRAM;
    p->value.float_histogram = h;
    TG_TRY(i32_at(r, TG_PARQUET_COLUMN_SCALE, row, &h->scale));
    TG_TRY(i32_at(r, TG_PARQUET_COLUMN_POS_OFFSET, row, &h->pos_offset));
    TG_TRY(i32_at(r, TG_PARQUET_COLUMN_NEG_OFFSET, row, &h->neg_offset));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_COUNT_FLOAT, row, &h->count, &has_count));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_ZERO_COUNT_FLOAT, row, &h->zero_count, &has_zero));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_ZERO_THRESHOLD, row, &h->zero_threshold, &has_threshold));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_SUM, row, &h->sum, &has_sum));
    if (!has_count || !has_zero || !has_threshold || !has_sum) return TG_ERR_CORRUPT;
    TG_TRY(need_list(r, TG_PARQUET_COLUMN_POS_COUNTS_FLOAT, row, &list, &h->n_pos));
    TG_TRY(doubles(r, list, h->n_pos, &h->pos));
    TG_TRY(need_list(r, TG_PARQUET_COLUMN_NEG_COUNTS_FLOAT, row, &list, &h->n_neg));
    TG_TRY(doubles(r, list, h->n_neg, &h->neg));
    TG_TRY(list_at(r, TG_PARQUET_COLUMN_BOUNDS, row, &list, &h->n_bounds, &has_bounds));
    if (has_bounds != (h->scale == TG_SCALE_CUSTOM) || (has_bounds && h->n_pos != h->n_bounds + 1))
        return TG_ERR_CORRUPT;
    return doubles(r, list, h->n_bounds, &h->bounds);
}

static enum tg_code summary_at(struct tg_parquet_reader *r, uint64_t row, const uint64_t *quantiles,
                               uint32_t n, struct tg_point *p)
{
    struct tg_summary *m = tg_arena_calloc(&r->row_arena, 1, sizeof(*m));
    struct tg_quantile *q = tg_arena_calloc(&r->row_arena, (size_t)n + 1, sizeof(*q));
    const uint64_t *values;
    uint32_t n_values;
    bool has;
    if (!m || !q) return TG_ERR_NOMEM;
    p->type = TG_VALUE_SUMMARY;
    p->value.summary = m;
    m->n_quantiles = n;
    m->quantiles = q;
    TG_TRY(need_list(r, TG_PARQUET_COLUMN_QUANTILE_VALUES, row, &values, &n_values));
    if (n_values != n) return TG_ERR_CORRUPT;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(&q[i].quantile, &quantiles[i], 8);
        memcpy(&q[i].value, &values[i], 8);
    }
    TG_TRY(u64_at(r, TG_PARQUET_COLUMN_COUNT, row, &m->count));
    TG_TRY(f64_at(r, TG_PARQUET_COLUMN_SUM, row, &m->sum, &has));
    return has ? TG_OK : TG_ERR_CORRUPT;
}

static enum tg_code scalar_at(struct tg_parquet_reader *r, uint64_t row, struct tg_point *p)
{
    static const struct {
        uint8_t column, type;
    } scalars[] = {{TG_PARQUET_COLUMN_VALUE, TG_VALUE_DOUBLE},
                   {TG_PARQUET_COLUMN_VALUE_INT, TG_VALUE_INT64},
                   {TG_PARQUET_COLUMN_VALUE_UINT, TG_VALUE_UINT64},
                   {TG_PARQUET_COLUMN_VALUE_BOOL, TG_VALUE_BOOL},
                   {TG_PARQUET_COLUMN_VALUE_STRING, TG_VALUE_STRING}};
    p->type = TG_VALUE_NONE;
    for (unsigned i = 0; i < 5; i++) {
        struct cell c;
        TG_TRY(cell_at(r, (enum tg_parquet_column_id)scalars[i].column, row, &c));
        if (!c.has) continue;
        p->type = scalars[i].type;
        p->value.u64 = c.bits;
        break;
    }
    if (p->type == TG_VALUE_NONE && !(p->flags & TG_POINT_NO_VALUE) && p->exemplars)
        p->type = TG_VALUE_EXEMPLARS;
    if (p->type != TG_VALUE_STRING) return TG_OK;
    const struct tg_parquet_string s =
        r->columns[TG_PARQUET_COLUMN_VALUE_STRING].strings[p->value.u64];
    struct tg_string *copy = tg_arena_alloc(&r->row_arena, sizeof(*copy));
    if (!copy) return TG_ERR_NOMEM;
    copy->ptr = s.ptr;
    copy->len = s.len;
    p->value.string = copy;
    return TG_OK;
}

static enum tg_code point_at(struct tg_parquet_reader *r, uint64_t row, int64_t ts_ns,
                             struct tg_point *p)
{
    struct cell c;
    const uint64_t *list;
    uint32_t n;
    bool has;
    tg_arena_reset(&r->row_arena);
    memset(p, 0, sizeof(*p));
    p->ts_ns = ts_ns;
    TG_TRY(cell_at(r, TG_PARQUET_COLUMN_START, row, &c));
    p->start_ns = (int64_t)c.bits;
    TG_TRY(cell_at(r, TG_PARQUET_COLUMN_FLAGS, row, &c));
    if (c.bits > UINT8_MAX) return TG_ERR_CORRUPT;
    p->flags = (uint8_t)c.bits;
    TG_TRY(cell_at(r, TG_PARQUET_COLUMN_EXEMPLARS, row, &c));
    if (c.has) {
        const struct tg_parquet_string s = r->columns[TG_PARQUET_COLUMN_EXEMPLARS].strings[c.bits];
        TG_TRY(tg_parquet_exemplars_parse(s.ptr, s.len, &r->row_arena, &p->exemplars));
    }
    TG_TRY(cell_at(r, TG_PARQUET_COLUMN_COUNT_FLOAT, row, &c));
    if (c.has) return float_histogram_at(r, row, p);
    TG_TRY(list_at(r, TG_PARQUET_COLUMN_BOUNDS, row, &list, &n, &has));
    if (has) return histogram_at(r, row, list, n, p);
    TG_TRY(cell_at(r, TG_PARQUET_COLUMN_SCALE, row, &c));
    if (c.has) return exp_histogram_at(r, row, p);
    TG_TRY(list_at(r, TG_PARQUET_COLUMN_QUANTILES, row, &list, &n, &has));
    if (has) return summary_at(r, row, list, n, p);
    return scalar_at(r, row, p);
}

/* ---- scanning ---- */

static enum tg_code scan_group(struct tg_parquet_reader *r, const uint8_t *file,
                               const struct tg_parquet_row_group *g,
                               const struct tg_parquet_filter *f, tg_parquet_on_row on_row,
                               void *arg, uint64_t *n_rows, bool *enough)
{
    tg_arena_reset(&r->group_arena);
    r->has_series = false;
    for (unsigned i = 0; i < TG_PARQUET_COLUMNS; i++)
        TG_TRY(tg_parquet_column_reader_open(&r->columns[i], file, (enum tg_parquet_column_id)i, g,
                                             &r->limits, &r->group_arena));
    struct tg_parquet_column_reader *time = &r->columns[TG_PARQUET_COLUMN_TIME];
    uint64_t checked_until = 0; /* pages up to here may match */
    uint32_t n_looked_at = 0;
    for (uint64_t row = 0; row < g->n_rows && !*enough; row++) {
        uint32_t first, n;
        struct tg_point p;
        if (n_looked_at++ % LOOK_EVERY_ROWS == 0 && must_stop(f)) return TG_ERR_CANCELED;
        if (row >= checked_until) {
            row = skip_pages(r, f, row, g->n_rows);
            if (row == g->n_rows) break;
            const struct tg_parquet_column_reader *name = &r->columns[TG_PARQUET_COLUMN_NAME];
            const uint64_t a =
                tg_parquet_column_page_end(time, tg_parquet_column_page_of(time, row));
            const uint64_t b =
                tg_parquet_column_page_end(name, tg_parquet_column_page_of(name, row));
            checked_until = a < b ? a : b;
        }
        TG_TRY(tg_parquet_column_row(time, row, &first, &n));
        const int64_t ts_ns = (int64_t)time->values[first];
        if (ts_ns < f->start_ns || ts_ns >= f->end_ns) continue;
        TG_TRY(series_at(r, f, row));
        if (!r->matches) continue;
        TG_TRY(point_at(r, row, ts_ns, &p));
        ++*n_rows;
        if (!on_row(arg, &r->desc, &p)) *enough = true;
    }
    return TG_OK;
}

enum tg_code tg_parquet_reader_scan(struct tg_parquet_reader *r, const uint8_t *file,
                                    const struct tg_parquet_filter *f, tg_parquet_on_row on_row,
                                    void *arg, uint64_t *n_rows, struct tg_err *err)
{
    uint64_t n = 0;
    bool enough = false;
    enum tg_code code = TG_OK;
    for (uint32_t i = 0; i < r->meta.n_row_groups && code == TG_OK && !enough; i++) {
        const struct tg_parquet_row_group *g = &r->meta.row_groups[i];
        if (must_stop(f)) code = TG_ERR_CANCELED;
        if (code != TG_OK || !group_may_match(g, f)) continue;
        code = scan_group(r, file, g, f, on_row, arg, &n, &enough);
    }
    if (n_rows) *n_rows = n;
    if (code == TG_ERR_NOMEM) return tg_fail(err, code, "out of memory");
    if (code == TG_ERR_CANCELED) return tg_fail(err, code, "the query was given up");
    if (code != TG_OK)
        return tg_fail(err, TG_ERR_CORRUPT, "damaged Parquet file, after %llu good rows",
                       (unsigned long long)n);
    return TG_OK;
}
