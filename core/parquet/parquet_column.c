#include "core/parquet/parquet_column.h"

#include <libdeflate.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/parquet/parquet_delta.h"
#include "core/parquet/parquet_json.h"
#include "core/parquet/parquet_levels.h"

/* What is open while a chunk is written. */
struct chunk_state {
    struct tg_parquet_column_writer *w;
    const struct tg_parquet_column *col;
    struct tg_parquet_chunk *chunk;
    enum tg_parquet_encoding encoding;
    uint32_t first_row; /* of the row group */
    uint32_t page_row;  /* first row of the open page */
    uint64_t n_entries; /* in the open page */
    struct tg_parquet_stats stats;
};

enum tg_code tg_parquet_column_writer_init(struct tg_parquet_column_writer *w,
                                           const struct tg_parquet_options *options)
{
    memset(w, 0, sizeof(*w));
    w->options = options;
    struct tg_buf *bufs[] = {&w->body, &w->rep, &w->def, &w->values, &w->packed};
    for (unsigned i = 0; i < 5; i++) tg_buf_init(bufs[i], INT32_MAX); /* a page's bound */
    tg_compress_init(&w->compress);
    w->compress.zstd_level = options->zstd_level;
    w->numbers = tg_reallocarray(NULL, options->page_rows, sizeof(*w->numbers));
    return w->numbers ? TG_OK : TG_ERR_NOMEM;
}

void tg_parquet_column_writer_deinit(struct tg_parquet_column_writer *w)
{
    struct tg_buf *bufs[] = {&w->body, &w->rep, &w->def, &w->values, &w->packed};
    for (unsigned i = 0; i < 5; i++) tg_buf_deinit(bufs[i]);
    tg_compress_deinit(&w->compress);
    tg_free(w->numbers);
    tg_free(w->pages);
}

/* ---- pages ---- */

/* Compresses w->body, writes header and bytes. */
static enum tg_code put_page(struct tg_parquet_column_writer *w, struct tg_parquet_chunk *chunk,
                             struct tg_parquet_page_header *h)
{
    const struct tg_buf *bytes = &w->body;
    if (chunk->codec != TG_PARQUET_UNCOMPRESSED) {
        const enum tg_encoding e =
            chunk->codec == TG_PARQUET_ZSTD ? TG_ENCODING_ZSTD : TG_ENCODING_SNAPPY;
        tg_buf_reset(&w->packed);
        TG_TRY(tg_compress_encode(&w->compress, e, w->body.data, w->body.len, &w->packed, w->err));
        bytes = &w->packed;
    }
    h->uncompressed_bytes = (uint32_t)w->body.len;
    h->compressed_bytes = (uint32_t)bytes->len;
    h->has_crc = true;
    h->crc = libdeflate_crc32(0, bytes->data, bytes->len);
    struct tg_thriftw t;
    const size_t before = w->out->len;
    tg_thriftw_init(&t, w->out);
    tg_parquet_page_header_write(&t, h);
    TG_TRY(t.code);
    const size_t header_bytes = w->out->len - before;
    TG_TRY(tg_buf_append(w->out, bytes->data, bytes->len));
    chunk->uncompressed_bytes += header_bytes + w->body.len;
    chunk->compressed_bytes += header_bytes + bytes->len;
    return TG_OK;
}

static enum tg_code put_dict_page(struct chunk_state *s, const struct tg_parquet_dict *d)
{
    struct tg_parquet_column_writer *w = s->w;
    tg_buf_reset(&w->body);
    TG_TRY(tg_parquet_dict_encode(d, &w->body));
    s->chunk->dict_offset = w->base + w->out->len;
    s->chunk->encodings |= 1u << TG_PARQUET_PLAIN;
    struct tg_parquet_page_header h = {
        .type = TG_PARQUET_DICTIONARY_PAGE, .n_values = d->n, .encoding = TG_PARQUET_PLAIN};
    return put_page(w, s->chunk, &h);
}

/* The body is complete: writes the page of rows [s->page_row, next_row), opens the next. */
static enum tg_code put_data_page(struct chunk_state *s, uint32_t next_row)
{
    struct tg_parquet_column_writer *w = s->w;
    if (w->n_pages == w->pages_cap) {
        const uint32_t cap = w->pages_cap ? w->pages_cap * 2 : 256;
        struct tg_parquet_page *pages = tg_reallocarray(w->pages, cap, sizeof(*pages));
        if (!pages) return TG_ERR_NOMEM;
        w->pages = pages;
        w->pages_cap = cap;
    }
    struct tg_parquet_page *p = &w->pages[w->n_pages];
    p->offset = w->base + w->out->len;
    p->first_row = s->page_row - s->first_row;
    p->n_values = s->n_entries;
    p->stats = s->stats;
    if (!s->chunk->data_offset) s->chunk->data_offset = p->offset;
    struct tg_parquet_page_header h = {
        .type = TG_PARQUET_DATA_PAGE, .n_values = (uint32_t)s->n_entries, .encoding = s->encoding};
    TG_TRY(put_page(w, s->chunk, &h));
    p->bytes = (uint32_t)(w->base + w->out->len - p->offset);
    s->chunk->encodings |= 1u << s->encoding;
    s->chunk->n_values += s->n_entries;
    tg_parquet_stats_merge(&s->chunk->stats, &s->stats, (enum tg_parquet_order)s->col->order);
    s->chunk->n_pages++;
    w->n_pages++;
    s->page_row = next_row;
    s->n_entries = 0;
    tg_parquet_stats_init(&s->stats);
    return TG_OK;
}

static uint32_t page_end(const struct chunk_state *s, uint32_t row, uint32_t end)
{
    const uint32_t max = s->w->options->page_rows;
    return end - row < max ? end : row + max;
}

/* ---- columns without a value ---- */

static enum tg_code write_nulls(struct chunk_state *s, uint32_t end)
{
    struct tg_parquet_column_writer *w = s->w;
    tg_buf_reset(&w->body);
    s->chunk->codec = TG_PARQUET_UNCOMPRESSED; /* some ten bytes */
    s->encoding = TG_PARQUET_PLAIN;
    s->n_entries = s->stats.n_null = end - s->page_row;
    if (s->col->max_rep) TG_TRY(tg_parquet_levels_run(&w->body, 1, 0, s->n_entries));
    TG_TRY(tg_parquet_levels_run(&w->body, s->col->max_def, 0, s->n_entries));
    return put_data_page(s, end);
}

/* ---- times ---- */

static enum tg_code write_times(struct chunk_state *s, const int64_t *ts, bool zero_is_null,
                                uint32_t end)
{
    struct tg_parquet_column_writer *w = s->w;
    s->encoding = TG_PARQUET_DELTA_BINARY_PACKED;
    while (s->page_row < end) {
        const uint32_t next = page_end(s, s->page_row, end);
        const int64_t *from = ts + s->page_row;
        uint32_t n = next - s->page_row;
        s->n_entries = n;
        tg_buf_reset(&w->body);
        if (zero_is_null) {
            struct tg_parquet_rle def;
            size_t at;
            int64_t *to = (int64_t *)w->numbers;
            uint32_t n_set = 0;
            TG_TRY(tg_parquet_levels_begin(&w->body, &def, 1, &at));
            for (uint32_t i = 0; i < n; i++) {
                tg_parquet_rle_run(&def, from[i] != 0, 1);
                to[n_set] = from[i];
                n_set += from[i] != 0;
            }
            TG_TRY(tg_parquet_levels_end(&w->body, &def, at));
            s->stats.n_null = n - n_set;
            from = to;
            n = n_set;
        }
        tg_parquet_stats_i64(&s->stats, from, n);
        TG_TRY(tg_parquet_delta_encode(from, n, &w->body));
        TG_TRY(put_data_page(s, next));
    }
    return TG_OK;
}

/* ---- strings of the series ---- */

static enum tg_code series_page(struct chunk_state *s, enum tg_parquet_dict_id id, uint32_t next)
{
    struct tg_parquet_column_writer *w = s->w;
    const struct tg_parquet_rows *r = w->rows;
    const struct tg_parquet_dict *d = &r->dicts[id];
    const bool dict = w->use_dict[id], nullable = s->col->max_def > 0;
    struct tg_parquet_rle def, index;
    size_t at = 0;
    tg_buf_reset(&w->body);
    tg_buf_reset(&w->values);
    if (nullable) TG_TRY(tg_parquet_levels_begin(&w->body, &def, 1, &at));
    const unsigned width = tg_parquet_bit_width(d->n ? d->n - 1 : 0);
    tg_parquet_rle_init(&index, &w->values, width);
    uint32_t last = TG_PARQUET_NULL;
    const struct tg_parquet_group *g = &r->groups[tg_parquet_rows_group(r, s->page_row)];
    for (uint32_t row = s->page_row; row < next; g++) {
        const uint32_t stop = g->first_row + g->n_rows < next ? g->first_row + g->n_rows : next;
        const uint32_t n = stop - row, v = g->strings[id];
        row = stop;
        if (nullable) tg_parquet_rle_run(&def, v != TG_PARQUET_NULL, n);
        if (v == TG_PARQUET_NULL) {
            s->stats.n_null += n;
            continue;
        }
        const struct tg_parquet_string *str = &d->items[v];
        if (v != last) tg_parquet_stats_bytes(&s->stats, str->ptr, str->len);
        last = v;
        if (dict) {
            tg_parquet_rle_run(&index, v, n);
            continue;
        }
        TG_TRY(tg_buf_reserve(&w->values, (4 + (size_t)str->len) * n));
        for (uint32_t i = 0; i < n; i++) {
            tg_buf_put_u32(&w->values, str->len);
            tg_buf_put(&w->values, str->ptr, str->len);
        }
    }
    s->n_entries = next - s->page_row;
    if (nullable) TG_TRY(tg_parquet_levels_end(&w->body, &def, at));
    if (dict) {
        TG_TRY(tg_parquet_rle_finish(&index));
        const uint8_t w8 = (uint8_t)width;
        TG_TRY(tg_buf_append(&w->body, &w8, 1));
    }
    TG_TRY(tg_buf_append(&w->body, w->values.data, w->values.len));
    return put_data_page(s, next);
}

/* Where a plain page that starts at `row` ends, by its bytes. */
static uint32_t plain_end(const struct chunk_state *s, enum tg_parquet_dict_id id, uint32_t row,
                          uint32_t end)
{
    const struct tg_parquet_rows *r = s->w->rows;
    uint64_t room = s->w->options->page_bytes;
    const struct tg_parquet_group *g = &r->groups[tg_parquet_rows_group(r, row)];
    for (uint32_t at = row; at < end; g++) {
        const uint32_t stop = g->first_row + g->n_rows < end ? g->first_row + g->n_rows : end;
        const uint32_t v = g->strings[id];
        const uint64_t each = v == TG_PARQUET_NULL ? 0 : 4 + (uint64_t)r->dicts[id].items[v].len;
        const uint64_t fit = each ? room / each : stop - at;
        if (fit < stop - at) {
            const uint32_t cut = at + (uint32_t)fit;
            return cut > row ? cut : row + 1;
        }
        room -= each * (stop - at);
        at = stop;
    }
    return end;
}

static enum tg_code write_series_strings(struct chunk_state *s, enum tg_parquet_dict_id id,
                                         uint32_t end)
{
    const struct tg_parquet_column_writer *w = s->w;
    s->encoding = w->use_dict[id] ? TG_PARQUET_RLE_DICTIONARY : TG_PARQUET_PLAIN;
    if (w->use_dict[id]) TG_TRY(put_dict_page(s, &w->rows->dicts[id]));
    while (s->page_row < end) {
        uint32_t next = page_end(s, s->page_row, end);
        if (!w->use_dict[id]) next = plain_end(s, id, s->page_row, next);
        TG_TRY(series_page(s, id, next));
    }
    return TG_OK;
}

/* ---- tags: a map column ---- */

/* The values of one row of the group: indices of `width` bytes, or plain strings. */
static enum tg_code tag_pattern(struct tg_parquet_column_writer *w,
                                const struct tg_parquet_group *g, enum tg_parquet_dict_id id,
                                unsigned width, struct tg_buf *to)
{
    const struct tg_parquet_rows *r = w->rows;
    const uint32_t *index =
        (id == TG_PARQUET_DICT_TAG_KEY ? r->tag_keys : r->tag_values) + g->first_tag;
    tg_buf_reset(to);
    for (uint32_t i = 0; i < g->n_tags; i++) {
        if (width) {
            TG_TRY(tg_buf_reserve(to, 4));
            memcpy(to->data + to->len, &index[i], 4);
            to->len += width;
        } else {
            const struct tg_parquet_string *str = &r->dicts[id].items[index[i]];
            TG_TRY(tg_buf_reserve(to, 4 + (size_t)str->len));
            tg_buf_put_u32(to, str->len);
            if (str->len) tg_buf_put(to, str->ptr, str->len);
        }
    }
    return TG_OK;
}

/* `n` copies of the pattern, by doubling. */
static enum tg_code repeat(struct tg_buf *to, const struct tg_buf *pattern, uint32_t n)
{
    const size_t all = pattern->len * n;
    if (all == 0) return TG_OK;
    TG_TRY(tg_buf_reserve(to, all));
    uint8_t *start = to->data + to->len;
    memcpy(start, pattern->data, pattern->len);
    for (size_t have = pattern->len; have < all;) {
        const size_t more = have < all - have ? have : all - have;
        memcpy(start + have, start, more);
        have += more;
    }
    to->len += all;
    return TG_OK;
}

/* Repetition levels of one width: bits, least significant first. */
struct bit_run {
    struct tg_buf *to;
    uint64_t acc;
    unsigned used; /* 0..63 */
};

static void bits_put(struct bit_run *b, uint64_t bits, unsigned n) /* n 1..64; reserved */
{
    b->acc |= bits << b->used;
    if (b->used + n < 64) {
        b->used += n;
        return;
    }
    tg_buf_put_u64(b->to, b->acc);
    const unsigned taken = 64 - b->used;
    b->acc = taken < 64 ? bits >> taken : 0;
    b->used = n - taken;
}

/* A row of n entries: 0, then n - 1 times 1. */
static void bits_row(struct bit_run *b, uint32_t n)
{
    uint64_t first = 0;
    while (n) {
        const unsigned now = n < 64 ? n : 64;
        const uint64_t ones = now == 64 ? ~UINT64_C(0) : (UINT64_C(1) << now) - 1;
        bits_put(b, first ? ones : ones - 1, now);
        first = 1;
        n -= now;
    }
}

/* Appends a bit-packed run of n values whose bytes are in `packed`, padded to whole groups. */
static enum tg_code put_packed_run(struct tg_buf *body, const struct tg_buf *packed, uint64_t n,
                                   unsigned width_bits)
{
    const uint64_t n_groups = (n + 7) / 8;
    const size_t bytes = (size_t)(n_groups * width_bits);
    TG_TRY(tg_buf_reserve(body, TG_VARINT_MAX + bytes));
    if (n == 0) return TG_OK;
    tg_buf_put_varint(body, n_groups << 1 | 1);
    tg_buf_put(body, packed->data, packed->len < bytes ? packed->len : bytes);
    for (size_t have = packed->len; have < bytes; have++) tg_buf_put_u8(body, 0);
    return TG_OK;
}

static enum tg_code tags_page_flush(struct chunk_state *s, struct bit_run *rep,
                                    struct tg_parquet_rle *def, unsigned width, uint64_t n_values,
                                    uint32_t next)
{
    struct tg_parquet_column_writer *w = s->w;
    TG_TRY(tg_buf_reserve(rep->to, 8));
    tg_buf_put_u64(rep->to, rep->acc);
    tg_buf_reset(&w->body);
    TG_TRY(tg_buf_reserve(&w->body, 4));
    tg_buf_put_u32(&w->body, 0);
    TG_TRY(put_packed_run(&w->body, rep->to, s->n_entries, 1));
    const uint32_t rep_len = (uint32_t)(w->body.len - 4);
    memcpy(w->body.data, &rep_len, 4);
    TG_TRY(tg_parquet_rle_finish(def));
    TG_TRY(tg_parquet_levels_append(&w->body, &w->def));
    if (width) {
        const uint8_t bits = (uint8_t)(width * 8);
        TG_TRY(tg_buf_append(&w->body, &bits, 1));
        TG_TRY(put_packed_run(&w->body, &w->values, n_values, bits));
    } else {
        TG_TRY(tg_buf_append(&w->body, w->values.data, w->values.len));
    }
    s->stats.n_null = s->n_entries - n_values;
    return put_data_page(s, next);
}

static enum tg_code write_tags(struct chunk_state *s, enum tg_parquet_dict_id id, uint32_t end)
{
    struct tg_parquet_column_writer *w = s->w;
    const struct tg_parquet_rows *r = w->rows;
    const struct tg_parquet_dict *d = &r->dicts[id];
    /* whole bytes per index: a row repeats the one before it at the same byte, so that the
     * compressor sees the repetition (with 14 bits it would every fourth row only) */
    const unsigned width = w->use_dict[id] ? (tg_parquet_bit_width(d->n - 1) + 7) / 8 : 0;
    const uint32_t max_rows = w->options->page_rows, max_bytes = w->options->page_bytes;
    s->encoding = width ? TG_PARQUET_RLE_DICTIONARY : TG_PARQUET_PLAIN;
    if (width) TG_TRY(put_dict_page(s, d));
    const struct tg_parquet_group *g = &r->groups[tg_parquet_rows_group(r, s->page_row)];
    uint32_t row = s->page_row;
    while (row < end) {
        struct bit_run rep = {&w->rep, 0, 0};
        struct tg_parquet_rle def;
        uint64_t n_values = 0;
        bool full = false;
        tg_buf_reset(&w->rep);
        tg_buf_reset(&w->def);
        tg_buf_reset(&w->values);
        tg_parquet_rle_init(&def, &w->def, 1);
        while (row < end && !full) {
            const uint32_t stop = g->first_row + g->n_rows < end ? g->first_row + g->n_rows : end;
            uint32_t n = stop - row;
            TG_TRY(tag_pattern(w, g, id, width, &w->packed));
            const size_t each = w->packed.len;
            if (n >= max_rows - (row - s->page_row)) {
                n = max_rows - (row - s->page_row);
                full = true;
            }
            const size_t room = w->values.len < max_bytes ? max_bytes - w->values.len : 0;
            if (each && n > room / each) {
                n = (uint32_t)(room / each);
                if (row == s->page_row && n == 0) n = 1; /* one row, however large */
                full = true;
            }
            TG_TRY(repeat(&w->values, &w->packed, n));
            const uint32_t k = g->n_tags;
            tg_parquet_rle_run(&def, k != 0, (uint64_t)n * (k ? k : 1));
            TG_TRY(tg_buf_reserve(&w->rep, ((size_t)n * (k ? k : 1) / 64 + 2) * 8));
            for (uint32_t i = 0; i < n; i++) bits_row(&rep, k ? k : 1);
            s->n_entries += (uint64_t)n * (k ? k : 1);
            n_values += (uint64_t)n * k;
            row += n;
            if (row == g->first_row + g->n_rows) g++;
        }
        TG_TRY(tags_page_flush(s, &rep, &def, width, n_values, row));
    }
    return TG_OK;
}

/* ---- numbers of the points ---- */

/* As scalar, of a float histogram: all it has is there. */
static bool float_scalar(const struct tg_float_histogram *h, enum tg_parquet_column_id column,
                         uint64_t *bits)
{
    double f;
    switch (column) {
    case TG_PARQUET_COLUMN_SCALE: *bits = (uint64_t)(int64_t)h->scale; return true;
    case TG_PARQUET_COLUMN_POS_OFFSET: *bits = (uint64_t)(int64_t)h->pos_offset; return true;
    case TG_PARQUET_COLUMN_NEG_OFFSET: *bits = (uint64_t)(int64_t)h->neg_offset; return true;
    case TG_PARQUET_COLUMN_COUNT_FLOAT: f = h->count; break;
    case TG_PARQUET_COLUMN_ZERO_COUNT_FLOAT: f = h->zero_count; break;
    case TG_PARQUET_COLUMN_ZERO_THRESHOLD: f = h->zero_threshold; break;
    default: f = h->sum; break;
    }
    memcpy(bits, &f, 8);
    return true;
}

/* The value of a scalar column in a row; false = null. */
static bool scalar(const struct tg_parquet_rows *r, enum tg_parquet_column_id column, uint32_t row,
                   uint64_t *bits)
{
    const struct tg_point *p = r->sorted[row];
    double f = 0;
    if (column == TG_PARQUET_COLUMN_FLAGS) {
        *bits = p->flags;
        return p->flags != 0;
    }
    if (!(tg_parquet_columns[column].value_types >> r->type[row] & 1)) return false;
    if (r->type[row] < TG_VALUE_HISTOGRAM) {
        *bits = column == TG_PARQUET_COLUMN_VALUE_BOOL ? r->value[row] != 0 : r->value[row];
        return true;
    }
    if (r->type[row] == TG_VALUE_FLOAT_HISTOGRAM)
        return float_scalar(p->value.float_histogram, column, bits);
    const struct tg_histogram *h = p->value.histogram;
    const struct tg_exp_histogram *e = p->value.exp_histogram;
    const struct tg_summary *m = p->value.summary;
    const bool is_h = r->type[row] == TG_VALUE_HISTOGRAM;
    const bool is_s = r->type[row] == TG_VALUE_SUMMARY;
    bool has = true;
    switch (column) {
    case TG_PARQUET_COLUMN_COUNT: *bits = is_h ? h->count : is_s ? m->count : e->count; return true;
    case TG_PARQUET_COLUMN_SCALE: *bits = (uint64_t)(int64_t)e->scale; return true;
    case TG_PARQUET_COLUMN_ZERO_COUNT: *bits = e->zero_count; return true;
    case TG_PARQUET_COLUMN_POS_OFFSET: *bits = (uint64_t)(int64_t)e->pos_offset; return true;
    case TG_PARQUET_COLUMN_NEG_OFFSET: *bits = (uint64_t)(int64_t)e->neg_offset; return true;
    case TG_PARQUET_COLUMN_ZERO_THRESHOLD: f = e->zero_threshold; break;
    case TG_PARQUET_COLUMN_SUM:
        f = is_h ? h->sum : is_s ? m->sum : e->sum;
        has = is_h ? h->has_sum : is_s || e->has_sum;
        break;
    case TG_PARQUET_COLUMN_MIN:
        f = is_h ? h->min : e->min;
        has = is_h ? h->has_min : e->has_min;
        break;
    case TG_PARQUET_COLUMN_MAX:
        f = is_h ? h->max : e->max;
        has = is_h ? h->has_max : e->has_max;
        break;
    default: return false;
    }
    memcpy(bits, &f, 8);
    return has;
}

static enum tg_code put_numbers(struct chunk_state *s, const uint64_t *v, uint32_t n)
{
    struct tg_buf *body = &s->w->body;
    if (s->col->order == TG_PARQUET_SIGNED) tg_parquet_stats_i64(&s->stats, (const int64_t *)v, n);
    if (s->col->order == TG_PARQUET_UNSIGNED) tg_parquet_stats_u64(&s->stats, v, n);
    if (s->col->order == TG_PARQUET_FLOAT)
        tg_parquet_stats_f64(&s->stats, (const double *)(const void *)v, n);
    TG_TRY(tg_buf_reserve(body, (size_t)n * 8 + 8));
    switch (s->col->type) {
    case TG_PARQUET_BOOLEAN:
        for (uint32_t i = 0; i < n; i += 8) {
            unsigned byte = 0;
            for (uint32_t k = 0; k < 8 && i + k < n; k++) byte |= (unsigned)(v[i + k] & 1) << k;
            tg_buf_put_u8(body, (uint8_t)byte);
        }
        break;
    case TG_PARQUET_INT32:
        for (uint32_t i = 0; i < n; i++) tg_buf_put_u32(body, (uint32_t)v[i]);
        break;
    default:
        if (n) tg_buf_put(body, v, (size_t)n * 8);
        break;
    }
    return TG_OK;
}

static enum tg_code write_scalars(struct chunk_state *s, enum tg_parquet_column_id column,
                                  uint32_t end)
{
    struct tg_parquet_column_writer *w = s->w;
    const struct tg_parquet_rows *r = w->rows;
    /* every row has it: the gathered values are the column */
    const bool all = s->col->value_types && (r->types & ~(uint32_t)s->col->value_types) == 0 &&
                     r->types < 1u << TG_VALUE_HISTOGRAM && column != TG_PARQUET_COLUMN_VALUE_BOOL;
    s->encoding = TG_PARQUET_PLAIN;
    while (s->page_row < end) {
        const uint32_t next = page_end(s, s->page_row, end);
        s->n_entries = next - s->page_row;
        tg_buf_reset(&w->body);
        if (all) {
            TG_TRY(tg_parquet_levels_run(&w->body, 1, 1, s->n_entries));
            TG_TRY(put_numbers(s, r->value + s->page_row, next - s->page_row));
        } else {
            struct tg_parquet_rle def;
            size_t at;
            uint32_t n = 0;
            TG_TRY(tg_parquet_levels_begin(&w->body, &def, 1, &at));
            for (uint32_t row = s->page_row; row < next; row++) {
                const bool has = scalar(r, column, row, &w->numbers[n]);
                tg_parquet_rle_run(&def, has, 1);
                n += has;
            }
            TG_TRY(tg_parquet_levels_end(&w->body, &def, at));
            s->stats.n_null = s->n_entries - n;
            TG_TRY(put_numbers(s, w->numbers, n));
        }
        TG_TRY(put_data_page(s, next));
    }
    return TG_OK;
}

/* ---- lists ---- */

/* The elements of a list column in a row: n of 8 bytes, `stride` apart; false = null. */
static bool list(const struct tg_parquet_rows *r, enum tg_parquet_column_id column, uint32_t row,
                 const uint8_t **at, uint32_t *n, size_t *stride)
{
    const struct tg_point *p = r->sorted[row];
    if (!(tg_parquet_columns[column].value_types >> r->type[row] & 1)) return false;
    *stride = 8;
    if (r->type[row] == TG_VALUE_FLOAT_HISTOGRAM) {
        const struct tg_float_histogram *h = p->value.float_histogram;
        const double *v = column == TG_PARQUET_COLUMN_BOUNDS             ? h->bounds
                          : column == TG_PARQUET_COLUMN_POS_COUNTS_FLOAT ? h->pos
                                                                         : h->neg;
        *at = (const uint8_t *)v;
        *n = column == TG_PARQUET_COLUMN_BOUNDS             ? h->n_bounds
             : column == TG_PARQUET_COLUMN_POS_COUNTS_FLOAT ? h->n_pos
                                                            : h->n_neg;
        return column != TG_PARQUET_COLUMN_BOUNDS || h->scale == TG_SCALE_CUSTOM;
    }
    switch (column) {
    case TG_PARQUET_COLUMN_BOUNDS:
        *at = (const uint8_t *)p->value.histogram->bounds;
        *n = p->value.histogram->n_bounds;
        break;
    case TG_PARQUET_COLUMN_BUCKETS:
        *at = (const uint8_t *)p->value.histogram->buckets;
        *n = p->value.histogram->n_buckets;
        break;
    case TG_PARQUET_COLUMN_POS_COUNTS:
        *at = (const uint8_t *)p->value.exp_histogram->pos;
        *n = p->value.exp_histogram->n_pos;
        break;
    case TG_PARQUET_COLUMN_NEG_COUNTS:
        *at = (const uint8_t *)p->value.exp_histogram->neg;
        *n = p->value.exp_histogram->n_neg;
        break;
    default: { /* quantiles: pairs */
        const struct tg_summary *m = p->value.summary;
        *at = (const uint8_t *)m->quantiles;
        if (m->n_quantiles && column == TG_PARQUET_COLUMN_QUANTILE_VALUES)
            *at += offsetof(struct tg_quantile, value);
        *n = m->n_quantiles;
        *stride = sizeof(struct tg_quantile);
        break;
    }
    }
    return true;
}

static enum tg_code write_lists(struct chunk_state *s, enum tg_parquet_column_id column,
                                uint32_t end)
{
    struct tg_parquet_column_writer *w = s->w;
    s->encoding = TG_PARQUET_PLAIN;
    while (s->page_row < end) {
        const uint32_t most = page_end(s, s->page_row, end);
        struct tg_parquet_rle rep, def;
        size_t rep_at;
        uint64_t n_values = 0;
        uint32_t row = s->page_row;
        tg_buf_reset(&w->body);
        tg_buf_reset(&w->def);
        tg_buf_reset(&w->values);
        TG_TRY(tg_parquet_levels_begin(&w->body, &rep, 1, &rep_at));
        tg_parquet_rle_init(&def, &w->def, 2);
        for (; row < most && w->values.len < w->options->page_bytes; row++) {
            const uint8_t *at = NULL;
            uint32_t n = 0;
            size_t stride = 8;
            const bool has = list(w->rows, column, row, &at, &n, &stride);
            tg_parquet_rle_run(&rep, 0, 1);
            if (n > 1) tg_parquet_rle_run(&rep, 1, n - 1);
            tg_parquet_rle_run(&def, n ? 2 : has, n ? n : 1);
            s->n_entries += n ? n : 1;
            n_values += n;
            if (n) TG_TRY(tg_buf_reserve(&w->values, (size_t)n * 8));
            if (n && stride == 8) {
                tg_buf_put(&w->values, at, (size_t)n * 8);
            } else {
                for (uint32_t i = 0; i < n; i++) tg_buf_put(&w->values, at + i * stride, 8);
            }
        }
        TG_TRY(tg_parquet_levels_end(&w->body, &rep, rep_at));
        TG_TRY(tg_parquet_rle_finish(&def));
        TG_TRY(tg_parquet_levels_append(&w->body, &w->def));
        TG_TRY(tg_buf_append(&w->body, w->values.data, w->values.len));
        s->stats.n_null = s->n_entries - n_values;
        TG_TRY(put_data_page(s, row));
    }
    return TG_OK;
}

/* ---- strings of the points ---- */

static enum tg_code put_exemplars(struct tg_buf *values, const struct tg_exemplars *e)
{
    const size_t at = values->len;
    TG_TRY(tg_buf_reserve(values, 4));
    tg_buf_put_u32(values, 0);
    TG_TRY(tg_parquet_exemplars_encode(e, values));
    const uint32_t len = (uint32_t)(values->len - at - 4);
    memcpy(values->data + at, &len, 4);
    return TG_OK;
}

static enum tg_code write_point_strings(struct chunk_state *s, enum tg_parquet_column_id column,
                                        uint32_t end)
{
    struct tg_parquet_column_writer *w = s->w;
    const struct tg_parquet_rows *r = w->rows;
    const bool is_value = column == TG_PARQUET_COLUMN_VALUE_STRING;
    const struct tg_parquet_dict *d = &r->dicts[TG_PARQUET_DICT_VALUE_STRING];
    const bool dict = is_value && w->use_dict[TG_PARQUET_DICT_VALUE_STRING];
    const unsigned width = tg_parquet_bit_width(d->n ? d->n - 1 : 0);
    s->encoding = dict ? TG_PARQUET_RLE_DICTIONARY : TG_PARQUET_PLAIN;
    if (dict) TG_TRY(put_dict_page(s, d));
    while (s->page_row < end) {
        const uint32_t most = page_end(s, s->page_row, end);
        struct tg_parquet_rle def, index;
        size_t at;
        uint32_t row = s->page_row;
        tg_buf_reset(&w->body);
        tg_buf_reset(&w->values);
        TG_TRY(tg_parquet_levels_begin(&w->body, &def, 1, &at));
        tg_parquet_rle_init(&index, &w->values, width);
        for (; row < most && w->values.len < w->options->page_bytes; row++) {
            const struct tg_exemplars *e = r->sorted[row]->exemplars;
            const bool has = is_value ? r->type[row] == TG_VALUE_STRING : e && e->n;
            tg_parquet_rle_run(&def, has, 1);
            s->stats.n_null += !has;
            if (!has) continue;
            if (!is_value) {
                TG_TRY(put_exemplars(&w->values, e));
                continue;
            }
            const struct tg_parquet_string *str = &d->items[r->value[row]];
            tg_parquet_stats_bytes(&s->stats, str->ptr, str->len);
            if (dict) {
                tg_parquet_rle_run(&index, (uint32_t)r->value[row], 1);
            } else {
                TG_TRY(tg_buf_reserve(&w->values, 4 + (size_t)str->len));
                tg_buf_put_u32(&w->values, str->len);
                if (str->len) tg_buf_put(&w->values, str->ptr, str->len);
            }
        }
        s->n_entries = row - s->page_row;
        TG_TRY(tg_parquet_levels_end(&w->body, &def, at));
        if (dict) {
            TG_TRY(tg_parquet_rle_finish(&index));
            const uint8_t w8 = (uint8_t)width;
            TG_TRY(tg_buf_append(&w->body, &w8, 1));
        }
        TG_TRY(tg_buf_append(&w->body, w->values.data, w->values.len));
        TG_TRY(put_data_page(s, row));
    }
    return TG_OK;
}

/* ---- one chunk ---- */

/* Whether no row of the file has a value in the column. */
static bool is_null_column(const struct tg_parquet_rows *r, enum tg_parquet_column_id column)
{
    switch (column) {
    case TG_PARQUET_COLUMN_TIME: return false;
    case TG_PARQUET_COLUMN_START: return !r->has_start;
    case TG_PARQUET_COLUMN_NAME:
    case TG_PARQUET_COLUMN_KIND: return false;
    case TG_PARQUET_COLUMN_FIELD: return r->dicts[TG_PARQUET_DICT_FIELD].n == 0;
    case TG_PARQUET_COLUMN_UNIT: return r->dicts[TG_PARQUET_DICT_UNIT].n == 0;
    case TG_PARQUET_COLUMN_TEMPORALITY: return r->dicts[TG_PARQUET_DICT_TEMPORALITY].n == 0;
    case TG_PARQUET_COLUMN_TAG_ORIGINS: return r->dicts[TG_PARQUET_DICT_TAG_ORIGINS].n == 0;
    case TG_PARQUET_COLUMN_TAG_KEY:
    case TG_PARQUET_COLUMN_TAG_VALUE: return r->n_tags == 0;
    case TG_PARQUET_COLUMN_FLAGS: return !r->has_flags;
    case TG_PARQUET_COLUMN_EXEMPLARS: return !r->has_exemplars;
    default: return (tg_parquet_columns[column].value_types & r->types) == 0;
    }
}

enum tg_code tg_parquet_column_write(struct tg_parquet_column_writer *w,
                                     enum tg_parquet_column_id column, uint32_t first, uint32_t n,
                                     struct tg_parquet_chunk *chunk)
{
    const uint32_t end = first + n;
    struct chunk_state s = {.w = w,
                            .col = &tg_parquet_columns[column],
                            .chunk = chunk,
                            .first_row = first,
                            .page_row = first};
    memset(chunk, 0, sizeof(*chunk));
    chunk->codec = w->options->codec;
    chunk->encodings = 1u << TG_PARQUET_RLE; /* the levels */
    chunk->first_page = w->n_pages;
    tg_parquet_stats_init(&chunk->stats);
    tg_parquet_stats_init(&s.stats);
    if (is_null_column(w->rows, column)) return write_nulls(&s, end);
    switch (column) {
    case TG_PARQUET_COLUMN_TIME: return write_times(&s, w->rows->ts, false, end);
    case TG_PARQUET_COLUMN_START: return write_times(&s, w->rows->start, true, end);
    case TG_PARQUET_COLUMN_NAME: return write_series_strings(&s, TG_PARQUET_DICT_NAME, end);
    case TG_PARQUET_COLUMN_FIELD: return write_series_strings(&s, TG_PARQUET_DICT_FIELD, end);
    case TG_PARQUET_COLUMN_KIND: return write_series_strings(&s, TG_PARQUET_DICT_KIND, end);
    case TG_PARQUET_COLUMN_UNIT: return write_series_strings(&s, TG_PARQUET_DICT_UNIT, end);
    case TG_PARQUET_COLUMN_TEMPORALITY:
        return write_series_strings(&s, TG_PARQUET_DICT_TEMPORALITY, end);
    case TG_PARQUET_COLUMN_TAG_ORIGINS:
        return write_series_strings(&s, TG_PARQUET_DICT_TAG_ORIGINS, end);
    case TG_PARQUET_COLUMN_TAG_KEY: return write_tags(&s, TG_PARQUET_DICT_TAG_KEY, end);
    case TG_PARQUET_COLUMN_TAG_VALUE: return write_tags(&s, TG_PARQUET_DICT_TAG_VALUE, end);
    case TG_PARQUET_COLUMN_VALUE_STRING:
    case TG_PARQUET_COLUMN_EXEMPLARS: return write_point_strings(&s, column, end);
    default:
        if (s.col->max_rep) return write_lists(&s, column, end);
        return write_scalars(&s, column, end);
    }
}
