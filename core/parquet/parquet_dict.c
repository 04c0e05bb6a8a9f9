#include "core/parquet/parquet_dict.h"

#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"

void tg_parquet_dict_init(struct tg_parquet_dict *d)
{
    memset(d, 0, sizeof(*d));
}

void tg_parquet_dict_deinit(struct tg_parquet_dict *d)
{
    tg_free(d->items);
    tg_free(d->slots);
    tg_parquet_dict_init(d);
}

void tg_parquet_dict_reset(struct tg_parquet_dict *d)
{
    d->n = 0;
    d->plain_bytes = 0;
    if (d->slots) memset(d->slots, 0, d->n_slots * sizeof(*d->slots));
}

static enum tg_code grow(struct tg_parquet_dict *d)
{
    if (d->n == d->cap) {
        const uint32_t cap = d->cap ? d->cap * 2 : 64;
        struct tg_parquet_string *items = tg_reallocarray(d->items, cap, sizeof(*items));
        if (!items) return TG_ERR_NOMEM;
        d->items = items;
        d->cap = cap;
    }
    if (d->n_slots == 0 || d->n >= d->n_slots / 2) {
        const uint32_t n_slots = d->n_slots ? d->n_slots * 2 : 128;
        uint32_t *slots = tg_calloc(n_slots, sizeof(*slots));
        if (!slots) return TG_ERR_NOMEM;
        for (uint32_t i = 0; i < d->n; i++) {
            uint32_t at = d->items[i].hash & (n_slots - 1);
            while (slots[at]) at = (at + 1) & (n_slots - 1);
            slots[at] = i + 1;
        }
        tg_free(d->slots);
        d->slots = slots;
        d->n_slots = n_slots;
    }
    return TG_OK;
}

enum tg_code tg_parquet_dict_add(struct tg_parquet_dict *d, const char *p, uint32_t len,
                                 uint32_t *index)
{
    const uint32_t hash = (uint32_t)tg_hash64(p, len);
    if (d->n == d->cap || d->n >= d->n_slots / 2) TG_TRY(grow(d));
    uint32_t at = hash & (d->n_slots - 1);
    for (; d->slots[at]; at = (at + 1) & (d->n_slots - 1)) {
        const struct tg_parquet_string *s = &d->items[d->slots[at] - 1];
        if (s->hash == hash && s->len == len && memcmp(s->ptr, p, len) == 0) {
            *index = d->slots[at] - 1;
            return TG_OK;
        }
    }
    d->items[d->n] = (struct tg_parquet_string){p, len, hash};
    d->plain_bytes += 4 + (uint64_t)len;
    *index = d->n++;
    d->slots[at] = d->n;
    return TG_OK;
}

enum tg_code tg_parquet_dict_encode(const struct tg_parquet_dict *d, struct tg_buf *out)
{
    TG_TRY(tg_buf_reserve(out, d->plain_bytes));
    for (uint32_t i = 0; i < d->n; i++) {
        tg_buf_put_u32(out, d->items[i].len);
        if (d->items[i].len) tg_buf_put(out, d->items[i].ptr, d->items[i].len);
    }
    return TG_OK;
}
