/* segment_dict.c: a reader's series of one segment, by their references. */
#include <string.h>

#include "core/base/mem.h"
#include "core/log/log_impl.h"

struct tg_segment_dict *tg_segment_dict_new(void)
{
    struct tg_segment_dict *d = tg_calloc(1, sizeof(*d));
    if (d) atomic_init(&d->refs, 1);
    return d;
}

void tg_segment_dict_ref(struct tg_segment_dict *d)
{
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
}

void tg_segment_dict_unref(struct tg_segment_dict *d)
{
    if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1) return;
    for (uint32_t i = 0; i < d->n; i++)
        if (d->entries[i].series) tg_series_unref(d->entries[i].series);
    tg_free(d->entries);
    tg_free(d);
}

static enum tg_code grow(struct tg_segment_dict *d, uint32_t n)
{
    if (n > d->cap) {
        uint32_t cap = d->cap + d->cap / 4 + 256;
        if (cap < n) cap = n;
        struct tg_block_entry *e = tg_reallocarray(d->entries, cap, sizeof(*e));
        if (!e) return TG_ERR_NOMEM;
        d->entries = e;
        d->cap = cap;
    }
    for (; d->n < n; d->n++) {
        memset(&d->entries[d->n], 0, sizeof(d->entries[0]));
        d->entries[d->n].chain.last_block = TG_CHAIN_NO_BLOCK;
    }
    return TG_OK;
}

/* Finds or makes the live series and takes a reference on it. */
static enum tg_code resolve(struct tg_table *table, const uint8_t *bytes, size_t len,
                            struct tg_arena *arena, struct tg_series **out, struct tg_err *err)
{
    const int ticket = tg_deferred_free_enter(tg_table_guard(table));
    enum tg_code code;
    struct tg_series *s;
    do {
        struct tg_series_desc desc;
        tg_arena_reset(arena);
        code = tg_series_desc_parse(bytes, len, &desc, arena, err);
        if (code == TG_OK) code = tg_table_intern_logged(table, &desc, &s, err);
    } while (code == TG_OK && !tg_series_try_ref(s));
    tg_deferred_free_exit(tg_table_guard(table), ticket);
    if (code == TG_OK) *out = s;
    return code;
}

enum tg_code tg_segment_dict_add(struct tg_segment_dict *d, struct tg_table *table,
                                 struct tg_compress *compress, struct tg_buf *scratch,
                                 struct tg_arena *arena, const uint8_t *payload, size_t len,
                                 struct tg_err *err)
{
    const uint8_t *p = payload, *end = payload + len;
    uint64_t first, n, raw_len;
    if (p == end) return TG_ERR_CORRUPT;
    const unsigned flags = *p++;
    if (flags > 1 || !tg_varint_get(&p, end, &first) || !tg_varint_get(&p, end, &n) ||
        !tg_varint_get(&p, end, &raw_len) || first >= TG_BLOCK_MAX_REFS ||
        n > TG_LOG_GROUP_SERIES || first + n > TG_BLOCK_MAX_REFS || raw_len > TG_RECORD_MAX_BYTES)
        return TG_ERR_CORRUPT;
    bool known = first + n <= d->n;
    for (uint64_t i = first; known && i < first + n; i++) known = d->entries[i].series != NULL;
    if (known) return TG_OK; /* every record is there twice */
    if (flags) {
        tg_buf_reset(scratch);
        const enum tg_code code = tg_compress_decode(
            compress, TG_ENCODING_ZSTD, p, (size_t)(end - p), (size_t)raw_len, scratch, NULL);
        if (code == TG_ERR_NOMEM) return tg_fail(err, code, "no memory to read a series record");
        if (code != TG_OK) return TG_ERR_CORRUPT;
        p = scratch->data;
        end = p + scratch->len;
    }
    if ((uint64_t)(end - p) != raw_len) return TG_ERR_CORRUPT;
    if (grow(d, (uint32_t)(first + n)) != TG_OK)
        return tg_fail(err, TG_ERR_NOMEM, "no memory for the series of a segment");
    for (uint64_t i = first; i < first + n; i++) {
        uint64_t series_len;
        if (!tg_varint_get(&p, end, &series_len) || series_len > (uint64_t)(end - p))
            return TG_ERR_CORRUPT;
        struct tg_block_entry *e = &d->entries[i];
        if (!e->series) {
            struct tg_err why;
            const enum tg_code code =
                resolve(table, p, (size_t)series_len, arena, &e->series, &why);
            if (code == TG_ERR_NOMEM) return tg_fail(err, code, "no memory for a series");
            if (code != TG_OK) { /* its points are given up, and the reader says why */
                d->n_refused++;
                d->refusal = why;
            }
        }
        p += series_len;
    }
    return p == end ? TG_OK : TG_ERR_CORRUPT;
}
