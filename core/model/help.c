#include "core/model/help.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/model/series.h"

enum { MIN_CAP = 64 };

struct slot {
    uint64_t hash; /* 0 = free */
    char *text;
    uint32_t len;
};

struct tg_help {
    pthread_mutex_t lock; /* guards all below */
    struct slot *slots;
    uint32_t cap, n; /* cap is a power of two */
    bool has_said_full;
};

struct tg_help *tg_help_new(void)
{
    struct tg_help *h = tg_calloc(1, sizeof(*h));
    if (h) (void)pthread_mutex_init(&h->lock, NULL);
    return h;
}

void tg_help_free(struct tg_help *h)
{
    if (!h) return;
    for (uint32_t i = 0; i < h->cap; i++) tg_free(h->slots[i].text);
    tg_free(h->slots);
    (void)pthread_mutex_destroy(&h->lock);
    tg_free(h);
}

static struct slot *slot_of(struct slot *slots, uint32_t cap, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (cap - 1);
    while (slots[i].hash && slots[i].hash != hash) i = (i + 1) & (cap - 1);
    return &slots[i];
}

static bool grow(struct tg_help *h)
{
    const uint32_t cap = h->cap ? h->cap * 2 : MIN_CAP;
    struct slot *more = tg_calloc(cap, sizeof(*more));
    if (!more) return false;
    for (uint32_t i = 0; i < h->cap; i++)
        if (h->slots[i].hash) *slot_of(more, cap, h->slots[i].hash) = h->slots[i];
    tg_free(h->slots);
    h->slots = more;
    h->cap = cap;
    return true;
}

/* The slot for a name, free or its own; NULL: no room. */
static struct slot *slot_for(struct tg_help *h, uint64_t hash)
{
    if (h->n >= h->cap / 2 && h->n < TG_HELP_MAX && !grow(h)) return NULL;
    if (!h->slots) return NULL;
    struct slot *s = slot_of(h->slots, h->cap, hash);
    if (s->hash || h->n < TG_HELP_MAX) return s;
    if (!h->has_said_full)
        tg_warn("series",
                "descriptions of more than %d metrics: those of further ones are left out",
                TG_HELP_MAX);
    h->has_said_full = true;
    return NULL;
}

static void put(struct tg_help *h, uint64_t hash, const char *text, uint32_t len)
{
    struct slot *s = slot_for(h, hash);
    if (!s || (s->hash && s->len == len && memcmp(s->text, text, len) == 0)) return;
    char *copy = tg_strndup(text, len);
    if (!copy) return;
    if (!s->hash) h->n++;
    tg_free(s->text);
    *s = (struct slot){hash, copy, len};
}

static uint64_t hash_of(const char *name, size_t len)
{
    return tg_hash64(name, len) | 1;
}

void tg_help_note(struct tg_help *h, const char *name, size_t name_len, const char *text,
                  size_t text_len)
{
    if (text_len > TG_HELP_MAX_BYTES) {
        text_len = TG_HELP_MAX_BYTES;
        while (text_len && ((uint8_t)text[text_len] & 0xc0) == 0x80) text_len--;
    }
    if (text_len == 0 || !tg_utf8_valid(text, text_len)) return;
    (void)pthread_mutex_lock(&h->lock);
    put(h, hash_of(name, name_len), text, (uint32_t)text_len);
    (void)pthread_mutex_unlock(&h->lock);
}

const char *tg_help_find(struct tg_help *h, const char *name, size_t name_len,
                         struct tg_arena *arena, uint32_t *len)
{
    const char *text = NULL;
    *len = 0;
    (void)pthread_mutex_lock(&h->lock);
    if (h->n) {
        const struct slot *s = slot_of(h->slots, h->cap, hash_of(name, name_len));
        if (s->hash) text = tg_arena_strndup(arena, s->text, s->len);
        if (text) *len = s->len;
    }
    (void)pthread_mutex_unlock(&h->lock);
    return text ? text : "";
}
