#include "core/parquet/parquet_writer.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/parquet/parquet_column.h"
#include "core/parquet/parquet_rows.h"

/* A dictionary this large is not used however well it pays: readers hold it in memory. */
#define DICT_MAX_BYTES (UINT64_C(64) << 20)
#define SINK_BYTES     (1u << 20) /* hand out pieces of about this size */

struct tg_parquet_writer {
    struct tg_parquet_options options;
    struct tg_parquet_rows rows;
    struct tg_parquet_column_writer columns;
    struct tg_buf out;
    struct tg_parquet_row_group *row_groups;
};

struct tg_parquet_writer *tg_parquet_writer_new(const struct tg_parquet_options *options)
{
    struct tg_parquet_writer *w = tg_calloc(1, sizeof(*w));
    if (!w) return NULL;
    w->options = *options;
    struct tg_parquet_options *o = &w->options;
    if (!o->zstd_level) o->zstd_level = 1;
    if (!o->page_rows) o->page_rows = 16384;
    if (!o->page_bytes) o->page_bytes = 1u << 20;
    if (!o->row_group_rows) o->row_group_rows = 1u << 20;
    if (o->row_group_rows > TG_PARQUET_MAX_ROWS) o->row_group_rows = TG_PARQUET_MAX_ROWS;
    if (!o->dict_bytes) o->dict_bytes = 1u << 20;
    tg_parquet_rows_init(&w->rows);
    w->rows.expand = o->expand;
    w->rows.expand_arg = o->expand_arg;
    tg_buf_init(&w->out, 0);
    if (tg_parquet_column_writer_init(&w->columns, o) != TG_OK) {
        tg_parquet_writer_free(w);
        return NULL;
    }
    return w;
}

void tg_parquet_writer_free(struct tg_parquet_writer *w)
{
    if (!w) return;
    tg_parquet_column_writer_deinit(&w->columns);
    tg_parquet_rows_deinit(&w->rows);
    tg_buf_deinit(&w->out);
    tg_free(w->row_groups);
    tg_free(w);
}

void tg_parquet_writer_reset(struct tg_parquet_writer *w)
{
    tg_parquet_rows_reset(&w->rows);
    tg_buf_reset(&w->out);
    tg_free(w->row_groups);
    w->row_groups = NULL;
    w->columns.n_pages = 0;
}

enum tg_code tg_parquet_writer_add(struct tg_parquet_writer *w, const uint8_t *series, uint32_t len,
                                   const struct tg_point *p)
{
    return tg_parquet_rows_add(&w->rows, series, len, p);
}

static bool dict_pays(const struct tg_parquet_writer *w, unsigned id)
{
    const uint64_t dict = w->rows.dicts[id].plain_bytes;
    if (w->options.no_dicts || w->rows.dicts[id].n == 0 || dict > DICT_MAX_BYTES) return false;
    return dict <= w->options.dict_bytes || dict <= w->rows.plain_bytes[id] / 4;
}

static enum tg_code drain(struct tg_parquet_writer *w, tg_parquet_sink sink, void *arg,
                          struct tg_err *err)
{
    TG_TRY(sink(arg, w->out.data, w->out.len, err));
    w->columns.base += w->out.len;
    tg_buf_reset(&w->out);
    return TG_OK;
}

static uint64_t offset(const struct tg_parquet_writer *w)
{
    return w->columns.base + w->out.len;
}

/* The page index of all chunks: column indexes, then offset indexes, as PageIndex.md draws them. */
static enum tg_code put_page_index(struct tg_parquet_writer *w, uint32_t n_row_groups)
{
    struct tg_thriftw t;
    for (int is_offset = 0; is_offset < 2; is_offset++) {
        for (uint32_t i = 0; i < n_row_groups * TG_PARQUET_COLUMNS; i++) {
            struct tg_parquet_chunk *c =
                &w->row_groups[i / TG_PARQUET_COLUMNS].chunks[i % TG_PARQUET_COLUMNS];
            const struct tg_parquet_page *pages = w->columns.pages + c->first_page;
            const uint64_t at = offset(w);
            tg_thriftw_init(&t, &w->out);
            if (is_offset) {
                tg_parquet_offset_index_write(&t, pages, c->n_pages);
                c->offset_index_offset = at;
                c->offset_index_bytes = (uint32_t)(offset(w) - at);
            } else if (tg_parquet_column_index_write(
                           &t, &tg_parquet_columns[i % TG_PARQUET_COLUMNS], pages, c->n_pages)) {
                c->column_index_offset = at;
                c->column_index_bytes = (uint32_t)(offset(w) - at);
            }
            TG_TRY(t.code);
        }
    }
    return TG_OK;
}

static enum tg_code put_footer(struct tg_parquet_writer *w, const struct tg_parquet_file_meta *meta)
{
    struct tg_thriftw t;
    const size_t at = w->out.len;
    tg_thriftw_init(&t, &w->out);
    tg_parquet_file_meta_write(&t, meta);
    TG_TRY(t.code);
    const size_t len = w->out.len - at;
    if (len > TG_PARQUET_MAX_FOOTER) return TG_ERR_TOO_LARGE;
    TG_TRY(tg_buf_reserve(&w->out, TG_PARQUET_TAIL));
    tg_buf_put_u32(&w->out, (uint32_t)len);
    tg_buf_put(&w->out, TG_PARQUET_MAGIC, 4);
    return TG_OK;
}

static enum tg_code finish(struct tg_parquet_writer *w, struct tg_parquet_info *info,
                           tg_parquet_sink sink, void *arg, struct tg_err *err)
{
    struct tg_parquet_column_writer *c = &w->columns;
    TG_TRY(tg_parquet_rows_sort(&w->rows, err));
    const uint32_t n = w->rows.n, per_group = w->options.row_group_rows;
    const uint32_t n_row_groups = (n - 1) / per_group + 1;
    w->row_groups = tg_calloc(n_row_groups, sizeof(*w->row_groups));
    if (!w->row_groups) return TG_ERR_NOMEM;
    for (unsigned i = 0; i < TG_PARQUET_DICTS; i++) c->use_dict[i] = dict_pays(w, i);
    c->rows = &w->rows;
    c->out = &w->out;
    c->base = 0;
    c->err = err;
    TG_TRY(tg_buf_append(&w->out, TG_PARQUET_MAGIC, 4));
    for (uint32_t g = 0; g < n_row_groups; g++) {
        const uint32_t first = g * per_group;
        const uint32_t rows = n - first < per_group ? n - first : per_group;
        w->row_groups[g].n_rows = rows;
        for (unsigned i = 0; i < TG_PARQUET_COLUMNS; i++) {
            TG_TRY(tg_parquet_column_write(c, (enum tg_parquet_column_id)i, first, rows,
                                           &w->row_groups[g].chunks[i]));
            if (w->out.len >= SINK_BYTES) TG_TRY(drain(w, sink, arg, err));
        }
    }
    info->n_rows = n;
    info->n_texts_changed = w->rows.n_texts_changed;
    info->time_min_ns = w->rows.time_min;
    info->time_max_ns = w->rows.time_max;
    TG_TRY(put_page_index(w, n_row_groups));
    const struct tg_parquet_file_meta meta = {*info, n_row_groups, w->row_groups};
    TG_TRY(put_footer(w, &meta));
    return drain(w, sink, arg, err);
}

enum tg_code tg_parquet_writer_finish(struct tg_parquet_writer *w, struct tg_parquet_info *info,
                                      tg_parquet_sink sink, void *arg, struct tg_err *err)
{
    struct tg_err detail = {.code = TG_OK};
    if (w->rows.n == 0)
        return tg_fail(err, TG_ERR_INVALID, "a Parquet file needs at least one point");
    const enum tg_code code = finish(w, info, sink, arg, &detail);
    if (code != TG_OK && detail.code != code) /* a failure that said nothing: the buffers */
        return tg_fail(err, code, "cannot build a Parquet file of %u points: %s", w->rows.n,
                       code == TG_ERR_NOMEM ? "out of memory" : "a page would be over its limit");
    if (code != TG_OK && err) *err = detail;
    return code;
}
