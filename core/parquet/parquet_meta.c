#include "core/parquet/parquet_meta.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- page header ---- */

void tg_parquet_page_header_write(struct tg_thriftw *w, const struct tg_parquet_page_header *h)
{
    tg_thriftw_begin(w);
    tg_thriftw_i32(w, 1, (int32_t)h->type);
    tg_thriftw_i32(w, 2, (int32_t)h->uncompressed_bytes);
    tg_thriftw_i32(w, 3, (int32_t)h->compressed_bytes);
    if (h->has_crc) tg_thriftw_i32(w, 4, (int32_t)h->crc);
    tg_thriftw_struct(w, h->type == TG_PARQUET_DATA_PAGE ? 5 : 7);
    tg_thriftw_i32(w, 1, (int32_t)h->n_values);
    tg_thriftw_i32(w, 2, (int32_t)h->encoding);
    if (h->type == TG_PARQUET_DATA_PAGE) {
        tg_thriftw_i32(w, 3, TG_PARQUET_RLE);
        tg_thriftw_i32(w, 4, TG_PARQUET_RLE);
    }
    tg_thriftw_end(w);
    tg_thriftw_end(w);
}

static void sub_header_read(struct tg_thriftr *r, struct tg_parquet_page_header *h, bool is_data,
                            unsigned *seen)
{
    int id;
    enum tg_thrift_type t;
    tg_thriftr_begin(r);
    while (tg_thriftr_field(r, &id, &t)) {
        int32_t v;
        if (id < 1 || id > (is_data ? 4 : 2)) {
            tg_thriftr_skip(r, t);
            continue;
        }
        v = tg_thriftr_i32(r, t);
        if (v < 0 || (id > 2 && v != TG_PARQUET_RLE)) r->failed = true;
        if (id == 1) h->n_values = (uint32_t)v;
        if (id == 2) h->encoding = (enum tg_parquet_encoding)v;
        if (id <= 2) *seen |= 8u << id;
    }
}

enum tg_code tg_parquet_page_header_read(struct tg_thriftr *r, struct tg_parquet_page_header *h)
{
    int id;
    enum tg_thrift_type t;
    unsigned seen = 0;
    memset(h, 0, sizeof(*h));
    tg_thriftr_begin(r);
    while (tg_thriftr_field(r, &id, &t)) {
        int32_t v;
        switch (id) {
        case 1:
            v = tg_thriftr_i32(r, t);
            if (!r->failed && v != TG_PARQUET_DATA_PAGE && v != TG_PARQUET_DICTIONARY_PAGE)
                return TG_ERR_UNSUPPORTED;
            h->type = (enum tg_parquet_page_type)v;
            seen |= 1;
            break;
        case 2:
        case 3:
            v = tg_thriftr_i32(r, t);
            if (v < 0) r->failed = true;
            if (id == 2)
                h->uncompressed_bytes = (uint32_t)v;
            else
                h->compressed_bytes = (uint32_t)v;
            seen |= 1u << (id - 1);
            break;
        case 4:
            h->crc = (uint32_t)tg_thriftr_i32(r, t);
            h->has_crc = true;
            break;
        case 5:
        case 7:
            if (t != TG_THRIFT_STRUCT || (h->type == TG_PARQUET_DATA_PAGE) != (id == 5))
                r->failed = true;
            sub_header_read(r, h, id == 5, &seen);
            break;
        default: tg_thriftr_skip(r, t); break;
        }
    }
    return r->failed || seen != (7 | 16 | 32) ? TG_ERR_CORRUPT : TG_OK;
}

/* ---- page index ---- */

bool tg_parquet_column_index_write(struct tg_thriftw *w, const struct tg_parquet_column *c,
                                   const struct tg_parquet_page *pages, uint32_t n)
{
    uint8_t b[TG_PARQUET_BOUND_MAX];
    bool exact, ascending = true;
    if (c->order == TG_PARQUET_ORDER_NONE) return false;
    for (uint32_t i = 0; i < n; i++) {
        const struct tg_parquet_page *p = &pages[i];
        if (p->stats.n_null == p->n_values) continue;
        if (tg_parquet_stats_bound(&p->stats, c, false, b, &exact) < 0 ||
            tg_parquet_stats_bound(&p->stats, c, true, b, &exact) < 0)
            return false;
        /* claimed only where it is known: names are sorted */
        if (i && c->order != TG_PARQUET_BYTES) ascending = false;
        if (i && c->order == TG_PARQUET_BYTES) {
            const struct tg_parquet_stats *a = &p[-1].stats;
            if (!a->has_min ||
                tg_parquet_bytes_cmp(a->min.str.ptr, a->min.str.len, p->stats.min.str.ptr,
                                     p->stats.min.str.len) > 0 ||
                tg_parquet_bytes_cmp(a->max.str.ptr, a->max.str.len, p->stats.max.str.ptr,
                                     p->stats.max.str.len) > 0)
                ascending = false;
        }
    }
    tg_thriftw_begin(w);
    tg_thriftw_list(w, 1, TG_THRIFT_TRUE, n);
    for (uint32_t i = 0; i < n; i++)
        tg_thriftw_item_bool(w, pages[i].stats.n_null == pages[i].n_values);
    for (int is_max = 0; is_max < 2; is_max++) {
        tg_thriftw_list(w, 2 + is_max, TG_THRIFT_BINARY, n);
        for (uint32_t i = 0; i < n; i++) {
            const int len = pages[i].stats.n_null == pages[i].n_values
                                ? 0
                                : tg_parquet_stats_bound(&pages[i].stats, c, is_max, b, &exact);
            tg_thriftw_item_binary(w, b, (size_t)len);
        }
    }
    tg_thriftw_i32(w, 4, ascending ? 1 : 0);
    tg_thriftw_list(w, 5, TG_THRIFT_I64, n);
    for (uint32_t i = 0; i < n; i++) tg_thriftw_item_int(w, (int64_t)pages[i].stats.n_null);
    tg_thriftw_end(w);
    return true;
}

void tg_parquet_offset_index_write(struct tg_thriftw *w, const struct tg_parquet_page *pages,
                                   uint32_t n)
{
    tg_thriftw_begin(w);
    tg_thriftw_list(w, 1, TG_THRIFT_STRUCT, n);
    for (uint32_t i = 0; i < n; i++) {
        tg_thriftw_begin(w);
        tg_thriftw_i64(w, 1, (int64_t)pages[i].offset);
        tg_thriftw_i32(w, 2, (int32_t)pages[i].bytes);
        tg_thriftw_i64(w, 3, (int64_t)pages[i].first_row);
        tg_thriftw_end(w);
    }
    tg_thriftw_end(w);
}

static void location_read(struct tg_thriftr *r, struct tg_parquet_page *p)
{
    int id;
    enum tg_thrift_type t;
    tg_thriftr_begin(r);
    while (tg_thriftr_field(r, &id, &t)) {
        if (id < 1 || id > 3) {
            tg_thriftr_skip(r, t);
            continue;
        }
        const int64_t v = tg_thriftr_int(r, t);
        if (v < 0 || (id == 2 && v > INT32_MAX)) r->failed = true;
        if (id == 1) p->offset = (uint64_t)v;
        if (id == 2) p->bytes = (uint32_t)v;
        if (id == 3) p->first_row = (uint64_t)v;
    }
}

enum tg_code tg_parquet_offset_index_read(const uint8_t *bytes, size_t len, struct tg_arena *arena,
                                          struct tg_parquet_page **pages, uint32_t *n)
{
    struct tg_thriftr r;
    int id;
    enum tg_thrift_type t;
    *n = 0;
    *pages = NULL;
    tg_thriftr_init(&r, bytes, len);
    tg_thriftr_begin(&r);
    while (tg_thriftr_field(&r, &id, &t)) {
        if (id != 1 || *pages) {
            tg_thriftr_skip(&r, t);
            continue;
        }
        *n = tg_thriftr_list(&r, t, TG_THRIFT_STRUCT, TG_PARQUET_MAX_PAGES);
        *pages = tg_arena_calloc(arena, *n + 1, sizeof(**pages));
        if (!*pages) return TG_ERR_NOMEM;
        for (uint32_t i = 0; i < *n && !r.failed; i++) location_read(&r, &(*pages)[i]);
    }
    return r.failed || *n == 0 ? TG_ERR_CORRUPT : TG_OK;
}

enum tg_code tg_parquet_column_index_read(const uint8_t *bytes, size_t len,
                                          const struct tg_parquet_column *c,
                                          struct tg_parquet_page *pages, uint32_t n)
{
    struct tg_thriftr r;
    int id;
    enum tg_thrift_type t;
    unsigned seen = 0;
    tg_thriftr_init(&r, bytes, len);
    tg_thriftr_begin(&r);
    while (tg_thriftr_field(&r, &id, &t)) {
        if (id < 1 || id > 3 || (seen & 1u << id)) {
            tg_thriftr_skip(&r, t);
            continue;
        }
        seen |= 1u << id;
        if (id != 1 && !(seen & 2)) return TG_ERR_CORRUPT;
        if (tg_thriftr_list(&r, t, id == 1 ? TG_THRIFT_TRUE : TG_THRIFT_BINARY, n) != n)
            return TG_ERR_CORRUPT;
        for (uint32_t i = 0; i < n && !r.failed; i++) {
            struct tg_parquet_stats *s = &pages[i].stats;
            if (id == 1) {
                s->has_null = tg_thriftr_item_bool(&r); /* here: only nulls */
                continue;
            }
            uint64_t size;
            if (!tg_varint_get(&r.p, r.end, &size) || size > (uint64_t)(r.end - r.p))
                return TG_ERR_CORRUPT;
            if (!s->has_null) {
                if (!tg_parquet_bound_read(r.p, (size_t)size, c, id == 2 ? &s->min : &s->max))
                    return TG_ERR_CORRUPT;
                if (id == 2)
                    s->has_min = true;
                else
                    s->has_max = true;
            }
            r.p += size;
        }
    }
    return r.failed || (seen & 14) != 14 ? TG_ERR_CORRUPT : TG_OK;
}

/* ---- footer ---- */

static void chunk_write(struct tg_thriftw *w, unsigned id, const struct tg_parquet_chunk *c)
{
    const struct tg_parquet_column *col = &tg_parquet_columns[id];
    tg_thriftw_begin(w);
    tg_thriftw_i64(w, 2, 0); /* file_offset: deprecated, 0 as the format asks */
    tg_thriftw_struct(w, 3); /* ColumnMetaData */
    tg_thriftw_i32(w, 1, col->type);
    tg_thriftw_list(w, 2, TG_THRIFT_I32, (uint32_t)__builtin_popcount(c->encodings));
    for (int e = 0; e < 32; e++)
        if (c->encodings >> e & 1) tg_thriftw_item_int(w, e);
    tg_thriftw_list(w, 3, TG_THRIFT_BINARY, col->n_path);
    for (unsigned i = 0; i < col->n_path; i++)
        tg_thriftw_item_binary(w, col->path[i], strlen(col->path[i]));
    tg_thriftw_i32(w, 4, (int32_t)c->codec);
    tg_thriftw_i64(w, 5, (int64_t)c->n_values);
    tg_thriftw_i64(w, 6, (int64_t)c->uncompressed_bytes);
    tg_thriftw_i64(w, 7, (int64_t)c->compressed_bytes);
    tg_thriftw_i64(w, 9, (int64_t)c->data_offset);
    if (c->dict_offset) tg_thriftw_i64(w, 11, (int64_t)c->dict_offset);
    tg_parquet_stats_write(w, 12, &c->stats, col);
    tg_thriftw_end(w);
    if (c->offset_index_offset) {
        tg_thriftw_i64(w, 4, (int64_t)c->offset_index_offset);
        tg_thriftw_i32(w, 5, (int32_t)c->offset_index_bytes);
    }
    if (c->column_index_offset) {
        tg_thriftw_i64(w, 6, (int64_t)c->column_index_offset);
        tg_thriftw_i32(w, 7, (int32_t)c->column_index_bytes);
    }
    tg_thriftw_end(w);
}

static void row_group_write(struct tg_thriftw *w, const struct tg_parquet_row_group *g,
                            uint32_t ordinal)
{
    uint64_t total = 0, compressed = 0;
    for (unsigned i = 0; i < TG_PARQUET_COLUMNS; i++) {
        total += g->chunks[i].uncompressed_bytes;
        compressed += g->chunks[i].compressed_bytes;
    }
    const struct tg_parquet_chunk *first = &g->chunks[0];
    tg_thriftw_begin(w);
    tg_thriftw_list(w, 1, TG_THRIFT_STRUCT, TG_PARQUET_COLUMNS);
    for (unsigned i = 0; i < TG_PARQUET_COLUMNS; i++) chunk_write(w, i, &g->chunks[i]);
    tg_thriftw_i64(w, 2, (int64_t)total);
    tg_thriftw_i64(w, 3, (int64_t)g->n_rows);
    tg_thriftw_i64(w, 5, (int64_t)(first->dict_offset ? first->dict_offset : first->data_offset));
    tg_thriftw_i64(w, 6, (int64_t)compressed);
    if (ordinal <= INT16_MAX) tg_thriftw_i16(w, 7, (int16_t)ordinal);
    tg_thriftw_end(w);
}

static void key_value(struct tg_thriftw *w, const char *key, const char *value)
{
    tg_thriftw_begin(w);
    tg_thriftw_str(w, 1, key);
    tg_thriftw_str(w, 2, value);
    tg_thriftw_end(w);
}

static void key_number(struct tg_thriftw *w, const char *key, const char *fmt_sign, uint64_t v)
{
    char text[32];
    if (fmt_sign[0] == 'd')
        (void)snprintf(text, sizeof(text), "%" PRId64, (int64_t)v);
    else
        (void)snprintf(text, sizeof(text), "%" PRIu64, v);
    key_value(w, key, text);
}

void tg_parquet_file_meta_write(struct tg_thriftw *w, const struct tg_parquet_file_meta *m)
{
    tg_thriftw_begin(w);
    tg_thriftw_i32(w, 1, 1); /* version: page format v1 */
    tg_parquet_schema_write(w, 2);
    tg_thriftw_i64(w, 3, (int64_t)m->info.n_rows);
    tg_thriftw_list(w, 4, TG_THRIFT_STRUCT, m->n_row_groups);
    for (uint32_t i = 0; i < m->n_row_groups; i++) row_group_write(w, &m->row_groups[i], i);
    tg_thriftw_list(w, 5, TG_THRIFT_STRUCT, 8);
    key_value(w, "tidegate.version", TG_VERSION);
    key_value(w, "tidegate.schema", "2");
    key_number(w, "tidegate.from_pos", "u", m->info.from_pos);
    key_number(w, "tidegate.to_pos", "u", m->info.to_pos);
    key_number(w, "tidegate.part", "u", m->info.part);
    key_number(w, "tidegate.keep_ms", "d", (uint64_t)m->info.keep_ms);
    key_number(w, "tidegate.time_min_ns", "d", (uint64_t)m->info.time_min_ns);
    key_number(w, "tidegate.time_max_ns", "d", (uint64_t)m->info.time_max_ns);
    tg_thriftw_str(w, 6, "tidegate version " TG_VERSION);
    tg_thriftw_list(w, 7, TG_THRIFT_STRUCT, TG_PARQUET_COLUMNS); /* ColumnOrder: TYPE_ORDER */
    for (unsigned i = 0; i < TG_PARQUET_COLUMNS; i++) {
        tg_thriftw_begin(w);
        tg_thriftw_struct(w, 1);
        tg_thriftw_end(w);
        tg_thriftw_end(w);
    }
    tg_thriftw_end(w);
}

static void column_meta_read(struct tg_thriftr *r, const struct tg_parquet_column *col,
                             struct tg_parquet_chunk *c)
{
    int id;
    enum tg_thrift_type t;
    unsigned seen = 0;
    tg_thriftr_begin(r);
    while (tg_thriftr_field(r, &id, &t)) {
        int64_t v = 0;
        uint32_t n;
        if (id >= 1 && id <= 12) seen |= 1u << id;
        switch (id) {
        case 1:
            if (tg_thriftr_i32(r, t) != col->type) r->failed = true;
            break;
        case 3:
            n = tg_thriftr_list(r, t, TG_THRIFT_BINARY, 16);
            if (n != col->n_path) r->failed = true;
            for (uint32_t i = 0; i < n && !r->failed; i++) {
                size_t len;
                const uint8_t *p = tg_thriftr_binary(r, TG_THRIFT_BINARY, &len);
                if (len != strlen(col->path[i]) || memcmp(p, col->path[i], len) != 0)
                    r->failed = true;
            }
            break;
        case 4: c->codec = (enum tg_parquet_codec)tg_thriftr_i32(r, t); break;
        case 5:
        case 6:
        case 7:
        case 9:
        case 11:
            v = tg_thriftr_int(r, t);
            if (v < 0) r->failed = true;
            if (id == 5) c->n_values = (uint64_t)v;
            if (id == 6) c->uncompressed_bytes = (uint64_t)v;
            if (id == 7) c->compressed_bytes = (uint64_t)v;
            if (id == 9) c->data_offset = (uint64_t)v;
            if (id == 11) c->dict_offset = (uint64_t)v;
            break;
        case 12: tg_parquet_stats_read(r, t, &c->stats, col); break;
        default: tg_thriftr_skip(r, t); break;
        }
    }
    const unsigned need = 1u << 1 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 7 | 1u << 9;
    if ((seen & need) != need) r->failed = true;
    if (c->codec != TG_PARQUET_UNCOMPRESSED && c->codec != TG_PARQUET_SNAPPY &&
        c->codec != TG_PARQUET_ZSTD)
        r->failed = true;
}

static bool within(uint64_t offset, uint64_t bytes, uint64_t all)
{
    return offset >= 4 && offset <= all && bytes <= all - offset;
}

static void chunk_read(struct tg_thriftr *r, unsigned column, uint64_t data_bytes,
                       struct tg_parquet_chunk *c)
{
    int id;
    enum tg_thrift_type t;
    bool has_meta = false;
    tg_thriftr_begin(r);
    while (tg_thriftr_field(r, &id, &t)) {
        int64_t v;
        switch (id) {
        case 3:
            if (t != TG_THRIFT_STRUCT) r->failed = true;
            column_meta_read(r, &tg_parquet_columns[column], c);
            has_meta = true;
            break;
        case 4:
        case 5:
        case 6:
        case 7:
            v = tg_thriftr_int(r, t);
            if (v < 0 || (id != 4 && id != 6 && v > INT32_MAX)) r->failed = true;
            if (id == 4) c->offset_index_offset = (uint64_t)v;
            if (id == 5) c->offset_index_bytes = (uint32_t)v;
            if (id == 6) c->column_index_offset = (uint64_t)v;
            if (id == 7) c->column_index_bytes = (uint32_t)v;
            break;
        default: tg_thriftr_skip(r, t); break;
        }
    }
    const uint64_t start = c->dict_offset ? c->dict_offset : c->data_offset;
    if (!has_meta || !within(start, c->compressed_bytes, data_bytes) || c->data_offset < start ||
        c->data_offset - start > c->compressed_bytes ||
        !within(c->offset_index_offset, c->offset_index_bytes, data_bytes) ||
        (c->column_index_offset &&
         !within(c->column_index_offset, c->column_index_bytes, data_bytes)))
        r->failed = true;
}

static void row_group_read(struct tg_thriftr *r, uint64_t data_bytes, unsigned n_columns,
                           struct tg_parquet_row_group *g)
{
    int id;
    enum tg_thrift_type t;
    bool has_columns = false;
    int64_t n_rows = -1;
    tg_thriftr_begin(r);
    while (tg_thriftr_field(r, &id, &t)) {
        if (id == 1 && !has_columns) {
            if (tg_thriftr_list(r, t, TG_THRIFT_STRUCT, n_columns) != n_columns) r->failed = true;
            for (unsigned i = 0; i < n_columns && !r->failed; i++)
                chunk_read(r, i, data_bytes, &g->chunks[i]);
            has_columns = true;
        } else if (id == 3) {
            n_rows = tg_thriftr_int(r, t);
        } else {
            tg_thriftr_skip(r, t);
        }
    }
    if (!has_columns || n_rows < 1 || n_rows > TG_PARQUET_MAX_ROWS) r->failed = true;
    g->n_rows = (uint64_t)n_rows;
}

static bool number(const uint8_t *p, size_t len, bool is_signed, uint64_t *out)
{
    char text[32];
    char *end;
    if (len == 0 || len >= sizeof(text) || (p[0] != '-' && (p[0] < '0' || p[0] > '9')))
        return false;
    memcpy(text, p, len);
    text[len] = 0;
    *out = is_signed ? (uint64_t)strtoll(text, &end, 10) : strtoull(text, &end, 10);
    return *end == 0;
}

static void key_value_read(struct tg_thriftr *r, struct tg_parquet_info *info, unsigned *seen)
{
    static const char *const keys[] = {"tidegate.from_pos",    "tidegate.to_pos",
                                       "tidegate.part",        "tidegate.keep_ms",
                                       "tidegate.time_min_ns", "tidegate.time_max_ns"};
    int id;
    enum tg_thrift_type t;
    const uint8_t *key = NULL, *value = NULL;
    size_t key_len = 0, value_len = 0;
    uint64_t v;
    tg_thriftr_begin(r);
    while (tg_thriftr_field(r, &id, &t)) {
        if (id == 1)
            key = tg_thriftr_binary(r, t, &key_len);
        else if (id == 2)
            value = tg_thriftr_binary(r, t, &value_len);
        else
            tg_thriftr_skip(r, t);
    }
    if (r->failed || !key || !value) return;
    for (unsigned i = 0; i < 6; i++) {
        if (key_len != strlen(keys[i]) || memcmp(key, keys[i], key_len) != 0) continue;
        if (!number(value, value_len, i >= 3, &v)) {
            r->failed = true;
            return;
        }
        *seen |= 1u << i;
        if (i == 0) info->from_pos = v;
        if (i == 1) info->to_pos = v;
        if (i == 2) info->part = (uint32_t)v;
        if (i == 3) info->keep_ms = (int64_t)v;
        if (i == 4) info->time_min_ns = (int64_t)v;
        if (i == 5) info->time_max_ns = (int64_t)v;
    }
}

enum tg_code tg_parquet_file_meta_read(const uint8_t *bytes, size_t len, uint64_t data_bytes,
                                       struct tg_arena *arena, struct tg_parquet_file_meta *m,
                                       struct tg_err *err)
{
    struct tg_thriftr r;
    int id;
    enum tg_thrift_type t;
    unsigned keys = 0;
    int64_t n_rows = -1;
    unsigned n_columns = 0;
    memset(m, 0, sizeof(*m));
    tg_thriftr_init(&r, bytes, len);
    tg_thriftr_begin(&r);
    while (tg_thriftr_field(&r, &id, &t)) {
        uint32_t n;
        switch (id) {
        case 2:
            n_columns = tg_parquet_schema_read(&r, t);
            if (!n_columns && !r.failed)
                return tg_fail(err, TG_ERR_UNSUPPORTED,
                               "not a Parquet file of this gateway: its columns are others");
            break;
        case 3: n_rows = tg_thriftr_int(&r, t); break;
        case 4:
            n = tg_thriftr_list(&r, t, TG_THRIFT_STRUCT, TG_PARQUET_MAX_ROW_GROUPS);
            if (!n_columns || m->row_groups) r.failed = true;
            if (r.failed) break;
            /* a row group takes hundreds of bytes: so many cannot be there */
            if ((uint64_t)n * n_columns > (uint64_t)(r.end - r.p)) {
                r.failed = true;
                break;
            }
            m->row_groups = tg_arena_calloc(arena, n + 1, sizeof(*m->row_groups));
            if (!m->row_groups) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
            for (uint32_t i = 0; i < n && !r.failed; i++)
                row_group_read(&r, data_bytes, n_columns, &m->row_groups[i]);
            m->n_row_groups = n;
            break;
        case 5:
            n = tg_thriftr_list(&r, t, TG_THRIFT_STRUCT, 1000);
            for (uint32_t i = 0; i < n && !r.failed; i++) key_value_read(&r, &m->info, &keys);
            break;
        default: tg_thriftr_skip(&r, t); break;
        }
    }
    if (!n_columns || keys != 63 || n_rows < 0) r.failed = true;
    uint64_t sum = 0;
    for (uint32_t i = 0; m->row_groups && i < m->n_row_groups; i++) sum += m->row_groups[i].n_rows;
    if (sum != (uint64_t)n_rows) r.failed = true;
    if (r.failed) return tg_fail(err, TG_ERR_CORRUPT, "damaged Parquet footer");
    m->info.n_rows = sum;
    return TG_OK;
}
