#include "core/parquet/parquet_page.h"

#include <libdeflate.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/parquet/parquet_delta.h"
#include "core/parquet/parquet_rle.h"

#define NO_PAGE UINT32_MAX

void tg_parquet_column_reader_init(struct tg_parquet_column_reader *r)
{
    memset(r, 0, sizeof(*r));
    tg_buf_init(&r->body, 0);
    tg_buf_init(&r->dict_body, 0);
    tg_compress_init(&r->compress);
}

void tg_parquet_column_reader_deinit(struct tg_parquet_column_reader *r)
{
    tg_free(r->def);
    tg_free(r->row_start);
    tg_free(r->values);
    tg_free(r->dict);
    tg_free(r->plain);
    tg_buf_deinit(&r->body);
    tg_buf_deinit(&r->dict_body);
    tg_compress_deinit(&r->compress);
}

/* ---- pages as bytes ---- */

/* Reads the header at `at` and leaves the decompressed body in `body`. At most `room` bytes belong
 * to the page; *used says how many do. */
static enum tg_code read_page(struct tg_parquet_column_reader *r, uint64_t at, uint64_t room,
                              struct tg_parquet_page_header *h, struct tg_buf *body, uint64_t *used)
{
    struct tg_thriftr t;
    tg_thriftr_init(&t, r->file + at, (size_t)room);
    TG_TRY(tg_parquet_page_header_read(&t, h));
    const uint64_t left = (uint64_t)(t.end - t.p);
    if (h->compressed_bytes > left || h->uncompressed_bytes > r->limits.max_page_bytes ||
        h->n_values > r->limits.max_entries)
        return TG_ERR_CORRUPT;
    if (h->has_crc && !r->limits.ignore_checksums &&
        libdeflate_crc32(0, t.p, h->compressed_bytes) != h->crc)
        return TG_ERR_CORRUPT;
    *used = (uint64_t)(t.p - t.start) + h->compressed_bytes;
    tg_buf_reset(body);
    TG_TRY(tg_buf_reserve(body, 1)); /* an empty page is still somewhere */
    if (r->chunk->codec == TG_PARQUET_UNCOMPRESSED) {
        if (h->compressed_bytes != h->uncompressed_bytes) return TG_ERR_CORRUPT;
        return tg_buf_append(body, t.p, h->compressed_bytes);
    }
    const enum tg_encoding e =
        r->chunk->codec == TG_PARQUET_ZSTD ? TG_ENCODING_ZSTD : TG_ENCODING_SNAPPY;
    const enum tg_code code = tg_compress_decode(&r->compress, e, t.p, h->compressed_bytes,
                                                 h->uncompressed_bytes, body, NULL);
    if (code == TG_ERR_NOMEM) return code;
    return code != TG_OK || body->len != h->uncompressed_bytes ? TG_ERR_CORRUPT : TG_OK;
}

/* Splits n PLAIN byte arrays that fill `len` bytes. */
static bool plain_strings(const uint8_t *p, size_t len, struct tg_parquet_string *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t size;
        if (len < 4) return false;
        memcpy(&size, p, 4);
        p += 4;
        len -= 4;
        if (size > len) return false;
        out[i] = (struct tg_parquet_string){(const char *)p, size, 0};
        p += size;
        len -= size;
    }
    return len == 0;
}

static enum tg_code load_dict(struct tg_parquet_column_reader *r)
{
    struct tg_parquet_page_header h;
    uint64_t used;
    const uint64_t at = r->chunk->dict_offset, room = r->chunk->data_offset - at;
    TG_TRY(read_page(r, at, room, &h, &r->dict_body, &used));
    if (h.type != TG_PARQUET_DICTIONARY_PAGE || h.encoding != TG_PARQUET_PLAIN || used != room ||
        h.n_values > r->dict_body.len / 4)
        return TG_ERR_CORRUPT;
    tg_free(r->dict);
    r->dict = tg_reallocarray(NULL, h.n_values + 1, sizeof(*r->dict));
    if (!r->dict) return TG_ERR_NOMEM;
    r->n_dict = h.n_values;
    r->has_dict = true;
    return plain_strings(r->dict_body.data, r->dict_body.len, r->dict, r->n_dict) ? TG_OK
                                                                                  : TG_ERR_CORRUPT;
}

/* ---- a chunk ---- */

/* A column that the file's older schema does not have. */
static bool is_absent(const struct tg_parquet_chunk *c)
{
    return c->data_offset == 0;
}

static bool is_all_null(const struct tg_parquet_chunk *c)
{
    return is_absent(c) || (c->stats.has_null && c->stats.n_null == c->n_values);
}

enum tg_code tg_parquet_column_reader_open(struct tg_parquet_column_reader *r, const uint8_t *file,
                                           enum tg_parquet_column_id column,
                                           const struct tg_parquet_row_group *group,
                                           const struct tg_parquet_limits *limits,
                                           struct tg_arena *arena)
{
    const struct tg_parquet_chunk *c = &group->chunks[column];
    r->file = file;
    r->column = &tg_parquet_columns[column];
    r->chunk = c;
    r->limits = *limits;
    r->n_rows = group->n_rows;
    r->has_dict = r->has_bounds = false;
    r->page = NO_PAGE;
    r->first_row = r->end_row = 0;
    r->pages = NULL;
    r->n_pages = 0;
    r->all_null = is_all_null(c);
    if (r->all_null && r->column->max_def == 0) return TG_ERR_CORRUPT;
    /* for a list, an empty one counts as null too: without any count there are no lists */
    if (r->all_null && r->column->max_def == 2 && !is_absent(c))
        r->all_null = is_all_null(&group->chunks[TG_PARQUET_COLUMN_COUNT]) &&
                      is_all_null(&group->chunks[TG_PARQUET_COLUMN_COUNT_FLOAT]);
    if (r->all_null) return TG_OK;
    TG_TRY(tg_parquet_offset_index_read(file + c->offset_index_offset, c->offset_index_bytes, arena,
                                        &r->pages, &r->n_pages));
    const uint64_t start = c->data_offset;
    const uint64_t end = (c->dict_offset ? c->dict_offset : start) + c->compressed_bytes;
    for (uint32_t i = 0; i < r->n_pages; i++) {
        const struct tg_parquet_page *p = &r->pages[i];
        if (p->offset < start || p->offset > end || p->bytes > end - p->offset ||
            p->first_row >= r->n_rows || (i == 0) != (p->first_row == 0) ||
            (i && p->first_row <= p[-1].first_row))
            return TG_ERR_CORRUPT;
    }
    if (c->column_index_offset) {
        TG_TRY(tg_parquet_column_index_read(file + c->column_index_offset, c->column_index_bytes,
                                            r->column, r->pages, r->n_pages));
        r->has_bounds = true;
    }
    return c->dict_offset ? load_dict(r) : TG_OK;
}

uint32_t tg_parquet_column_page_of(const struct tg_parquet_column_reader *r, uint64_t row)
{
    uint32_t lo = 0, hi = r->n_pages - 1;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo + 1) / 2;
        if (r->pages[mid].first_row <= row)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

uint64_t tg_parquet_column_page_end(const struct tg_parquet_column_reader *r, uint32_t page)
{
    return page + 1 < r->n_pages ? r->pages[page + 1].first_row : r->n_rows;
}

/* ---- decoding a page ---- */

static bool resize(void *array, size_t n, size_t size)
{
    void **p = array;
    void *bigger = tg_reallocarray(*p, n, size);
    if (bigger) *p = bigger;
    return bigger != NULL;
}

static enum tg_code reserve(struct tg_parquet_column_reader *r, uint32_t n)
{
    if (n <= r->entries_cap) return TG_OK;
    if (!resize(&r->def, n, 1) || !resize(&r->values, n, sizeof(*r->values)) ||
        !resize(&r->row_start, (size_t)n + 1, sizeof(*r->row_start)))
        return TG_ERR_NOMEM;
    r->entries_cap = n;
    return TG_OK;
}

/* The sized levels at *p, decoded into out. */
static bool get_levels(const uint8_t **p, const uint8_t *end, unsigned max, uint8_t *out,
                       uint32_t n)
{
    struct tg_parquet_rle_reader e;
    uint32_t len;
    if (end - *p < 4) return false;
    memcpy(&len, *p, 4);
    *p += 4;
    if (len > (size_t)(end - *p)) return false;
    tg_parquet_rle_reader_init(&e, *p, len, tg_parquet_bit_width(max));
    *p += len;
    if (!tg_parquet_rle_reader_get_u8(&e, out, n)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (out[i] > max) return false;
    return true;
}

static enum tg_code get_indices(struct tg_parquet_column_reader *r, const uint8_t *p,
                                const uint8_t *end, uint32_t n)
{
    struct tg_parquet_rle_reader e;
    uint32_t some[256];
    if (p == end || !r->has_dict || p[0] > 32) return TG_ERR_CORRUPT;
    tg_parquet_rle_reader_init(&e, p + 1, (size_t)(end - p - 1), p[0]);
    for (uint32_t i = 0; i < n;) {
        const uint32_t now = n - i < 256 ? n - i : 256;
        if (!tg_parquet_rle_reader_get(&e, some, now)) return TG_ERR_CORRUPT;
        for (uint32_t k = 0; k < now; k++) {
            if (some[k] >= r->n_dict) return TG_ERR_CORRUPT;
            r->values[i + k] = some[k];
        }
        i += now;
    }
    r->strings = r->dict;
    r->n_strings = r->n_dict;
    r->in_dict = true;
    return TG_OK;
}

static enum tg_code get_plain_strings(struct tg_parquet_column_reader *r, const uint8_t *p,
                                      const uint8_t *end, uint32_t n)
{
    if (n > (size_t)(end - p) / 4) return TG_ERR_CORRUPT;
    if (n > r->plain_cap) {
        if (!resize(&r->plain, n, sizeof(*r->plain))) return TG_ERR_NOMEM;
        r->plain_cap = n;
    }
    if (!plain_strings(p, (size_t)(end - p), r->plain, n)) return TG_ERR_CORRUPT;
    for (uint32_t i = 0; i < n; i++) r->values[i] = i;
    r->strings = r->plain;
    r->n_strings = n;
    return TG_OK;
}

/* n values into r->values, without gaps. */
static enum tg_code get_values(struct tg_parquet_column_reader *r,
                               enum tg_parquet_encoding encoding, const uint8_t *p,
                               const uint8_t *end, uint32_t n)
{
    const size_t len = (size_t)(end - p);
    const unsigned type = r->column->type;
    r->in_dict = false;
    if (encoding == TG_PARQUET_RLE_DICTIONARY && type == TG_PARQUET_BYTE_ARRAY)
        return get_indices(r, p, end, n);
    if (encoding == TG_PARQUET_DELTA_BINARY_PACKED && type == TG_PARQUET_INT64)
        return tg_parquet_delta_decode(p, len, (int64_t *)r->values, n) ? TG_OK : TG_ERR_CORRUPT;
    if (encoding != TG_PARQUET_PLAIN) return TG_ERR_CORRUPT;
    switch (type) {
    case TG_PARQUET_BYTE_ARRAY: return get_plain_strings(r, p, end, n);
    case TG_PARQUET_BOOLEAN:
        if (len != ((size_t)n + 7) / 8) return TG_ERR_CORRUPT;
        for (uint32_t i = 0; i < n; i++) r->values[i] = ((unsigned)p[i / 8] >> (i % 8)) & 1u;
        return TG_OK;
    case TG_PARQUET_INT32:
        if (len != (size_t)n * 4) return TG_ERR_CORRUPT;
        for (uint32_t i = 0; i < n; i++) {
            int32_t v;
            memcpy(&v, p + (size_t)i * 4, 4);
            r->values[i] = (uint64_t)(int64_t)v;
        }
        return TG_OK;
    default:
        if (len != (size_t)n * 8) return TG_ERR_CORRUPT;
        if (n) memcpy(r->values, p, len);
        return TG_OK;
    }
}

static enum tg_code decode(struct tg_parquet_column_reader *r,
                           const struct tg_parquet_page_header *h, uint64_t n_rows)
{
    const struct tg_parquet_column *c = r->column;
    const uint8_t *p = r->body.data, *end = p + r->body.len;
    const uint32_t n = h->n_values;
    if (c->max_rep == 0 && n != n_rows) return TG_ERR_CORRUPT;
    TG_TRY(reserve(r, n));
    if (c->max_rep) {
        uint32_t row = 0;
        if (!get_levels(&p, end, c->max_rep, r->def, n)) return TG_ERR_CORRUPT;
        if (n == 0 || r->def[0] != 0) return TG_ERR_CORRUPT;
        for (uint32_t i = 0; i < n; i++)
            if (r->def[i] == 0) r->row_start[row++] = i;
        r->row_start[row] = n;
        if (row != n_rows) return TG_ERR_CORRUPT;
    }
    uint32_t n_set = n;
    if (c->max_def) {
        if (!get_levels(&p, end, c->max_def, r->def, n)) return TG_ERR_CORRUPT;
        n_set = 0;
        for (uint32_t i = 0; i < n; i++) n_set += r->def[i] == c->max_def;
    } else if (n) {
        memset(r->def, 0, n);
    }
    TG_TRY(get_values(r, h->encoding, p, end, n_set));
    if (n_set == n) return TG_OK;
    for (uint32_t i = n, k = n_set; i-- > 0;)
        r->values[i] = r->def[i] == c->max_def ? r->values[--k] : 0;
    return TG_OK;
}

enum tg_code tg_parquet_column_load(struct tg_parquet_column_reader *r, uint64_t row)
{
    struct tg_parquet_page_header h;
    uint64_t used;
    if (row >= r->n_rows) return TG_ERR_CORRUPT;
    const uint32_t i = tg_parquet_column_page_of(r, row);
    const struct tg_parquet_page *p = &r->pages[i];
    const uint64_t end_row = tg_parquet_column_page_end(r, i);
    r->page = NO_PAGE;
    r->first_row = r->end_row = 0;
    TG_TRY(read_page(r, p->offset, p->bytes, &h, &r->body, &used));
    if (h.type != TG_PARQUET_DATA_PAGE || used != p->bytes) return TG_ERR_CORRUPT;
    TG_TRY(decode(r, &h, end_row - p->first_row));
    r->page = i;
    r->n_entries = h.n_values;
    r->first_row = p->first_row;
    r->end_row = end_row;
    return TG_OK;
}
