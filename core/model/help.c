#include "core/model/help.h"

#include <pthread.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/hash.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/base/utf8.h"
#include "core/model/series.h"

enum { MIN_CAP = 64, MAGIC_LEN = 8, RECORD_HEAD = 1 + 1 + 1 + 4 + 4, CRC_LEN = 4 };

static const char magic[] = "tghelp01";

struct slot {
    uint64_t hash; /* 0 = free */
    char *text;    /* name, help, unit */
    uint32_t name_len, help_len;
    uint8_t unit_len, type;
    bool is_family;
    uint32_t heard_s; /* a family: when this text was last said; 0 = before the start */
    uint64_t change;
};

struct tg_help {
    pthread_mutex_t lock; /* guards all below */
    struct slot *slots;
    uint32_t cap, n; /* cap is a power of two */
    uint64_t change, family_change;
    bool has_said_full;
};

/* What is to be noted, within the limits. */
struct said {
    const char *name, *help, *unit;
    size_t name_len, help_len, unit_len;
    uint8_t type;
    bool is_family;
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

static uint64_t hash_of(const char *name, size_t len, bool is_family)
{
    const uint64_t salt = is_family ? UINT64_C(0x9E3779B185EBCA87) : 0;
    return (tg_hash64(name, len) ^ salt) | 1;
}

static struct slot *slot_of(struct slot *slots, uint32_t cap, uint64_t hash)
{
    uint32_t i = (uint32_t)(hash >> 1) & (cap - 1);
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

static bool is_same(const struct slot *s, const struct said *t)
{
    if (s->type != t->type || s->help_len != t->help_len || s->unit_len != t->unit_len)
        return false;
    const char *help = s->text + s->name_len;
    return (t->help_len == 0 || memcmp(help, t->help, t->help_len) == 0) &&
           (t->unit_len == 0 || memcmp(help + s->help_len, t->unit, t->unit_len) == 0);
}

/* heard_s is 0 for what is no family, or was loaded. */
static enum tg_help_noted put(struct tg_help *h, const struct said *t, uint32_t heard_s)
{
    const uint64_t hash = hash_of(t->name, t->name_len, t->is_family);
    struct slot *s = slot_for(h, hash);
    if (!s) return TG_HELP_FULL;
    if (s->hash && is_same(s, t)) {
        s->heard_s = heard_s;
        return TG_HELP_NOTED;
    }
    if (s->hash && s->heard_s && heard_s - s->heard_s < TG_HELP_STANDS_S) return TG_HELP_OTHER;
    char *text = tg_malloc(t->name_len + t->help_len + t->unit_len);
    if (!text) return TG_HELP_FULL;
    memcpy(text, t->name, t->name_len);
    if (t->help_len) memcpy(text + t->name_len, t->help, t->help_len);
    if (t->unit_len) memcpy(text + t->name_len + t->help_len, t->unit, t->unit_len);
    if (!s->hash) h->n++;
    tg_free(s->text);
    *s = (struct slot){
        .hash = hash,
        .text = text,
        .name_len = (uint32_t)t->name_len,
        .help_len = (uint32_t)t->help_len,
        .unit_len = (uint8_t)t->unit_len,
        .type = t->type,
        .is_family = t->is_family,
        .heard_s = heard_s,
        .change = ++h->change,
    };
    if (t->is_family) h->family_change = h->change;
    return TG_HELP_NOTED;
}

static size_t cut_text(const char *text, size_t len)
{
    if (len <= TG_HELP_MAX_BYTES) return len;
    len = TG_HELP_MAX_BYTES;
    while (len && ((uint8_t)text[len] & 0xc0) == 0x80) len--;
    return len;
}

static enum tg_help_noted note(struct tg_help *h, struct said *t, uint32_t heard_s)
{
    t->help_len = cut_text(t->help, t->help_len);
    if (t->unit_len > TG_HELP_MAX_UNIT) t->unit_len = 0;
    if (t->name_len == 0 || t->name_len > UINT32_MAX / 2 || !tg_utf8_valid(t->name, t->name_len) ||
        !tg_utf8_valid(t->help, t->help_len) || !tg_utf8_valid(t->unit, t->unit_len))
        return TG_HELP_INVALID;
    (void)pthread_mutex_lock(&h->lock);
    const enum tg_help_noted noted = put(h, t, heard_s);
    (void)pthread_mutex_unlock(&h->lock);
    return noted;
}

enum tg_help_noted tg_help_note(struct tg_help *h, const char *name, size_t name_len,
                                const char *text, size_t text_len)
{
    struct said t = {.name = name, .name_len = name_len, .help = text, .help_len = text_len};
    t.unit = "";
    return text_len ? note(h, &t, 0) : TG_HELP_NOTED;
}

enum tg_help_noted tg_help_note_family(struct tg_help *h, const char *name, size_t name_len,
                                       const struct tg_help_family *what, uint32_t now_s)
{
    struct said t = {
        .name = name,
        .help = what->help,
        .unit = what->unit,
        .name_len = name_len,
        .help_len = what->help_len,
        .unit_len = what->unit_len,
        .type = what->type > TG_HELP_MAX_TYPE ? 0 : what->type,
        .is_family = true,
    };
    return note(h, &t, now_s ? now_s : 1);
}

/* --- looking up; the lock is held --- */

static const struct slot *find(const struct tg_help *h, const char *name, size_t len,
                               bool is_family)
{
    if (h->n == 0) return NULL;
    const struct slot *s = slot_of(h->slots, h->cap, hash_of(name, len, is_family));
    return s->hash ? s : NULL;
}

static const char *const suffixes[] = {"_bucket", "_sum", "_count", "_total", "_created", "_info"};

static size_t suffix_len(const char *name, size_t name_len)
{
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        const size_t n = strlen(suffixes[i]);
        if (name_len > n && memcmp(name + name_len - n, suffixes[i], n) == 0) return n;
    }
    return 0;
}

bool tg_help_has_suffix(const char *name, size_t name_len, size_t cut)
{
    return cut > 0 && suffix_len(name, name_len) == cut;
}

static const struct slot *find_family(const struct tg_help *h, const char *name, size_t name_len,
                                      size_t *cut)
{
    *cut = 0;
    if (h->family_change == 0) return NULL;
    const struct slot *s = find(h, name, name_len, true);
    if (s) return s;
    *cut = suffix_len(name, name_len);
    return *cut ? find(h, name, name_len - *cut, true) : NULL;
}

const char *tg_help_find(struct tg_help *h, const char *name, size_t name_len,
                         struct tg_arena *arena, uint32_t *len)
{
    const char *text = NULL;
    *len = 0;
    (void)pthread_mutex_lock(&h->lock);
    const struct slot *s = find(h, name, name_len, false);
    if (s) text = tg_arena_strndup(arena, s->text + s->name_len, s->help_len);
    if (text) *len = s->help_len;
    (void)pthread_mutex_unlock(&h->lock);
    return text ? text : "";
}

bool tg_help_find_family(struct tg_help *h, const char *name, size_t name_len,
                         struct tg_arena *arena, struct tg_help_family *out)
{
    const char *text = NULL;
    size_t cut;
    (void)pthread_mutex_lock(&h->lock);
    const struct slot *s = find_family(h, name, name_len, &cut);
    if (s) text = tg_arena_strndup(arena, s->text + s->name_len, (size_t)s->help_len + s->unit_len);
    if (text)
        *out = (struct tg_help_family){
            .help = text,
            .unit = text + s->help_len,
            .help_len = s->help_len,
            .unit_len = s->unit_len,
            .type = s->type,
            .cut = (uint8_t)cut,
        };
    (void)pthread_mutex_unlock(&h->lock);
    return text != NULL;
}

uint64_t tg_help_family_change(struct tg_help *h, const char *name, size_t name_len)
{
    size_t cut;
    (void)pthread_mutex_lock(&h->lock);
    const struct slot *s = find_family(h, name, name_len, &cut);
    const uint64_t change = s ? s->change : 0;
    (void)pthread_mutex_unlock(&h->lock);
    return change;
}

void tg_help_changes(struct tg_help *h, uint64_t *any, uint64_t *family)
{
    (void)pthread_mutex_lock(&h->lock);
    *any = h->change;
    *family = h->family_change;
    (void)pthread_mutex_unlock(&h->lock);
}

/* --- as bytes --- */

static enum tg_code save_slot(const struct slot *s, struct tg_buf *out)
{
    const size_t len = (size_t)s->name_len + s->help_len + s->unit_len;
    TG_TRY(tg_buf_reserve(out, RECORD_HEAD + len));
    tg_buf_put_u8(out, s->is_family);
    tg_buf_put_u8(out, s->type);
    tg_buf_put_u8(out, s->unit_len);
    tg_buf_put_u32(out, s->name_len);
    tg_buf_put_u32(out, s->help_len);
    tg_buf_put(out, s->text, len);
    return TG_OK;
}

static enum tg_code save_all(const struct tg_help *h, struct tg_buf *out)
{
    TG_TRY(tg_buf_append(out, magic, MAGIC_LEN));
    for (uint32_t i = 0; i < h->cap; i++)
        if (h->slots[i].hash) TG_TRY(save_slot(&h->slots[i], out));
    return TG_OK;
}

enum tg_code tg_help_save(struct tg_help *h, struct tg_buf *out)
{
    const size_t start = out->len;
    (void)pthread_mutex_lock(&h->lock);
    enum tg_code code = save_all(h, out);
    (void)pthread_mutex_unlock(&h->lock);
    if (code == TG_OK) code = tg_buf_reserve(out, CRC_LEN);
    if (code == TG_OK)
        tg_buf_put_u32(out, tg_crc32c(0, out->data + start, out->len - start));
    else
        out->len = start;
    return code;
}

/* Takes one record off *at; false: it does not end in time. */
static bool next_record(const uint8_t **at, const uint8_t *end, struct said *t)
{
    const uint8_t *p = *at;
    uint32_t name_len, help_len;
    if ((size_t)(end - p) < RECORD_HEAD) return false;
    memcpy(&name_len, p + 3, 4);
    memcpy(&help_len, p + 7, 4);
    *t = (struct said){
        .is_family = p[0] != 0,
        .type = p[1] > TG_HELP_MAX_TYPE ? 0 : p[1],
        .unit_len = p[2],
        .name_len = name_len,
        .help_len = help_len,
    };
    p += RECORD_HEAD;
    if (t->name_len + t->help_len + t->unit_len > (size_t)(end - p)) return false;
    t->name = (const char *)p;
    t->help = t->name + t->name_len;
    t->unit = t->help + t->help_len;
    *at = p + t->name_len + t->help_len + t->unit_len;
    return true;
}

enum tg_code tg_help_load(struct tg_help *h, const uint8_t *bytes, size_t len)
{
    uint32_t crc;
    struct said t;
    if (len < MAGIC_LEN + CRC_LEN || memcmp(bytes, magic, MAGIC_LEN) != 0) return TG_ERR_CORRUPT;
    const uint8_t *const end = bytes + len - CRC_LEN;
    memcpy(&crc, end, CRC_LEN);
    if (crc != tg_crc32c(0, bytes, len - CRC_LEN)) return TG_ERR_CORRUPT;
    const uint8_t *p = bytes + MAGIC_LEN;
    while (p < end)
        if (!next_record(&p, end, &t)) return TG_ERR_CORRUPT;
    for (p = bytes + MAGIC_LEN; p < end && next_record(&p, end, &t);)
        if (note(h, &t, 0) == TG_HELP_FULL) break;
    return TG_OK;
}
