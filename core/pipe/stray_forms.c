#include "core/pipe/stray_forms.h"

#include <string.h>

#include "core/base/mem.h"

enum {
    MIN_SLOTS = 256, /* a power of two */
    MAX_STRAY_FORMS_BYTES = 64 << 20,
};

void tg_stray_forms_init(struct tg_stray_forms *a)
{
    *a = (struct tg_stray_forms){.slots = NULL};
    tg_arena_init(&a->arena, 0);
}

void tg_stray_forms_forget(struct tg_stray_forms *a)
{
    if (!a->slots) return;
    tg_arena_deinit(&a->arena);
    tg_free(a->slots);
    a->slots = NULL;
    a->cap = a->n = 0;
    a->bytes = 0;
}

static struct tg_stray_forms_slot *slot_of(const struct tg_stray_forms *a,
                                           const struct tg_series *s)
{
    uint32_t i = (uint32_t)s->hash.lo & (a->cap - 1);
    while (a->slots[i].series && a->slots[i].series != s) i = (i + 1) & (a->cap - 1);
    return &a->slots[i];
}

static enum tg_code grow(struct tg_stray_forms *a)
{
    if (a->n < a->cap / 4 * 3) return TG_OK;
    struct tg_stray_forms_slot *const old = a->slots;
    const uint32_t old_cap = a->cap;
    const uint32_t cap = old_cap ? old_cap * 2 : MIN_SLOTS;
    struct tg_stray_forms_slot *slots = tg_calloc(cap, sizeof(*slots));
    if (!slots) return TG_ERR_NOMEM;
    a->slots = slots;
    a->cap = cap;
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i].series) *slot_of(a, old[i].series) = old[i];
    tg_free(old);
    return TG_OK;
}

struct tg_stray_forms_slot *tg_stray_forms_find(struct tg_stray_forms *a, const struct tg_series *s)
{
    return grow(a) == TG_OK ? slot_of(a, s) : NULL;
}

enum tg_code tg_stray_forms_put(struct tg_stray_forms *a, struct tg_stray_forms_slot *slot,
                                const struct tg_series *s, const struct tg_buf *bytes)
{
    uint8_t *copy = NULL;
    const size_t n = bytes ? bytes->len : 0;
    if (bytes) {
        if (n > MAX_STRAY_FORMS_BYTES - a->bytes) return TG_ERR_TOO_LARGE;
        copy = tg_arena_alloc(&a->arena, n ? n : 1);
        if (!copy) return TG_ERR_NOMEM;
        if (n) memcpy(copy, bytes->data, n);
        a->bytes += n;
    }
    *slot = (struct tg_stray_forms_slot){s, copy, (uint32_t)n, false};
    a->n++;
    return TG_OK;
}
