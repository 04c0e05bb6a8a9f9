#include "core/codec/shared_parts.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#include "core/base/hash.h"
#include "core/base/mem.h"

enum {
    SIGHTINGS = 4,      /* until bytes become a part */
    RUN_SIGHTINGS = 16, /* until two parts become one */
    FILTER = 1 << 14,   /* candidates remembered; a power of two */
    RUN_FILTER = 1 << 12,
    /* There are more runs than parts they are made of: those keep their room. */
    MAX_RUNS = TG_SHARED_PARTS_MAX / 4,
    MAX_RUN_BYTES = TG_SHARED_PARTS_MAX_BYTES / 4,
    CHUNK = 256, /* parts allocated together */
    COPY = 32,   /* unpack copies parts up to this length without a loop */
};

struct candidate {
    uint32_t
        print; /* a colliding candidate replaces it, so a label seen once is never counted twice */
    uint32_t n;
};

struct tg_shared_parts {
    _Atomic(struct tg_shared_part *) chunks[TG_SHARED_PARTS_MAX / CHUNK];
    pthread_mutex_t lock; /* guards all below */
    uint32_t n;
    size_t n_bytes;
    uint32_t *slots; /* part number + 1, by hash; open addressing */
    uint32_t n_slots;
    uint32_t n_runs;
    size_t n_run_bytes;
    struct candidate filter[FILTER], run_filter[RUN_FILTER];
};

struct tg_shared_parts *tg_shared_parts_new(void)
{
    struct tg_shared_parts *p = tg_calloc(1, sizeof(*p));
    if (p) (void)pthread_mutex_init(&p->lock, NULL);
    return p;
}

void tg_shared_parts_free(struct tg_shared_parts *p)
{
    if (!p) return;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct tg_shared_part *chunk = atomic_load(&p->chunks[i / CHUNK]);
        tg_free((void *)(uintptr_t)chunk[i % CHUNK].bytes);
    }
    for (uint32_t i = 0; i < TG_SHARED_PARTS_MAX / CHUNK; i++) tg_free(atomic_load(&p->chunks[i]));
    tg_free(p->slots);
    (void)pthread_mutex_destroy(&p->lock);
    tg_free(p);
}

/* COPY bytes may be read of each, whatever its length is. */
static inline const struct tg_shared_part *get(const struct tg_shared_parts *p, uint32_t id)
{
    return &atomic_load_explicit(&p->chunks[id / CHUNK], memory_order_acquire)[id % CHUNK];
}

const struct tg_shared_part *tg_shared_parts_at(const struct tg_shared_parts *p, uint32_t id)
{
    return get(p, id);
}

/* The slot of these bytes, or the free one where they belong. */
static uint32_t find_slot(const struct tg_shared_parts *p, const uint8_t *bytes, size_t len,
                          uint32_t hash)
{
    uint32_t i = hash & (p->n_slots - 1);
    for (; p->slots[i]; i = (i + 1) & (p->n_slots - 1)) {
        const struct tg_shared_part *have = get(p, p->slots[i] - 1);
        if (have->hash == hash && have->len == len && memcmp(have->bytes, bytes, len) == 0) break;
    }
    return i;
}

static bool grow_slots(struct tg_shared_parts *p)
{
    if (p->n_slots > p->n * 2) return true;
    const uint32_t n_slots = p->n_slots ? p->n_slots * 2 : 1024;
    uint32_t *slots = tg_calloc(n_slots, sizeof(*slots));
    if (!slots) return false;
    for (uint32_t k = 0; k < p->n; k++) {
        uint32_t i = get(p, k)->hash & (n_slots - 1);
        while (slots[i]) i = (i + 1) & (n_slots - 1);
        slots[i] = k + 1;
    }
    tg_free(p->slots);
    p->slots = slots;
    p->n_slots = n_slots;
    return true;
}

static bool is_frequent(struct candidate *c, uint64_t hash, uint32_t sightings)
{
    const uint32_t print = (uint32_t)hash;
    if (c->print != print) *c = (struct candidate){.print = print};
    return ++c->n >= sightings;
}

/* A new part in the slot where it belongs; its number, or -1: no room, no memory. */
static int64_t add_part(struct tg_shared_parts *p, uint32_t slot, const uint8_t *bytes,
                        struct tg_shared_part part)
{
    if (p->n == TG_SHARED_PARTS_MAX || p->n_bytes + part.len > TG_SHARED_PARTS_MAX_BYTES) return -1;
    struct tg_shared_part *chunk = atomic_load(&p->chunks[p->n / CHUNK]);
    if (!chunk) {
        chunk = tg_calloc(CHUNK, sizeof(*chunk));
        if (!chunk) return -1;
    }
    uint8_t *copy = tg_calloc(1, part.len > COPY ? part.len : COPY);
    if (copy) {
        memcpy(copy, bytes, part.len);
        part.bytes = copy;
        chunk[p->n % CHUNK] = part;
    }
    /* published with the chunk, and the number by whoever reads the packed bytes */
    atomic_store_explicit(&p->chunks[p->n / CHUNK], chunk, memory_order_release);
    if (!copy) return -1;
    p->n_bytes += part.len;
    p->slots[slot] = p->n + 1;
    return p->n++;
}

/* Part number, or -1: stays plain (rare so far, too short, no room, no memory). */
static int64_t find_or_add(struct tg_shared_parts *p, const uint8_t *bytes, size_t len)
{
    if (len < TG_SHARED_PARTS_MIN_LEN || len > TG_SHARED_PARTS_MAX_LEN) return -1;
    const uint64_t hash = tg_hash64(bytes, len);
    if (!grow_slots(p)) return -1;
    const uint32_t slot = find_slot(p, bytes, len, (uint32_t)hash);
    if (p->slots[slot]) return p->slots[slot] - 1;
    struct candidate *c = &p->filter[(hash >> 32) & (FILTER - 1)];
    if (!is_frequent(c, hash, SIGHTINGS)) return -1;
    return add_part(p, slot, bytes,
                    (struct tg_shared_part){.len = (uint16_t)len, .hash = (uint32_t)hash});
}

/* As find_or_add, of two parts side by side that are `len` bytes together. */
static int64_t find_or_add_run(struct tg_shared_parts *p, const uint8_t *bytes, size_t len,
                               int64_t left, int64_t right)
{
    if (len > TG_SHARED_PARTS_MAX_LEN) return -1;
    const uint64_t hash = tg_hash64(bytes, len);
    if (!grow_slots(p)) return -1;
    const uint32_t slot = find_slot(p, bytes, len, (uint32_t)hash);
    if (p->slots[slot]) return p->slots[slot] - 1;
    struct candidate *c = &p->run_filter[(hash >> 32) & (RUN_FILTER - 1)];
    if (!is_frequent(c, hash, RUN_SIGHTINGS)) return -1;
    if (p->n_runs == MAX_RUNS || p->n_run_bytes + len > MAX_RUN_BYTES) return -1;
    const int64_t id =
        add_part(p, slot, bytes,
                 (struct tg_shared_part){.len = (uint16_t)len,
                                         .is_run = true,
                                         .hash = (uint32_t)hash,
                                         .parts = {(uint32_t)left, (uint32_t)right}});
    p->n_runs += id >= 0;
    p->n_run_bytes += id >= 0 ? len : 0;
    return id;
}

static enum tg_code put_plain(struct tg_buf *out, const uint8_t *bytes, size_t len)
{
    if (len == 0) return TG_OK;
    TG_TRY(tg_buf_reserve(out, TG_VARINT_MAX + len));
    tg_buf_put_varint(out, (uint64_t)len << 1);
    tg_buf_put(out, bytes, len);
    return TG_OK;
}

static enum tg_code put_token(struct tg_buf *out, int64_t id)
{
    if (id < 0) return TG_OK;
    TG_TRY(tg_buf_reserve(out, TG_VARINT_MAX));
    tg_buf_put_varint(out, (uint64_t)id << 1 | 1);
    return TG_OK;
}

static enum tg_code pack(struct tg_shared_parts *p, const uint8_t *at, const uint8_t *end,
                         tg_shared_part_len next, struct tg_buf *out)
{
    const uint8_t *const begin = at;
    /* Not written yet: the part `last` that begins at `last_at` (-1: none), then plain bytes. */
    const uint8_t *last_at = at;
    const uint8_t *plain = at;
    int64_t last = -1;
    while (at < end) {
        size_t head = 0;
        const size_t len = next(begin, at, end, &head);
        assert(len > 0 && len <= (size_t)(end - at) && head <= len);
        size_t shared = len;
        int64_t id = find_or_add(p, at, len);
        if (id < 0 && head > 0) id = find_or_add(p, at, shared = head);
        if (id >= 0) {
            const int64_t run =
                last >= 0 && plain == at
                    ? find_or_add_run(p, last_at, (size_t)(at - last_at) + shared, last, id)
                    : -1;
            if (run < 0) {
                TG_TRY(put_token(out, last));
                TG_TRY(put_plain(out, plain, (size_t)(at - plain)));
                last_at = at;
            }
            last = run < 0 ? id : run;
            plain = at + shared;
        }
        at += len;
    }
    TG_TRY(put_token(out, last));
    return put_plain(out, plain, (size_t)(end - plain));
}

enum tg_code tg_shared_parts_pack(struct tg_shared_parts *p, const uint8_t *bytes, size_t len,
                                  tg_shared_part_len next, struct tg_buf *out)
{
    const size_t mark = out->len;
    if (!p) return put_plain(out, bytes, len);
    (void)pthread_mutex_lock(&p->lock);
    const enum tg_code code = pack(p, bytes, bytes + len, next, out);
    (void)pthread_mutex_unlock(&p->lock);
    if (code != TG_OK) out->len = mark;
    return code;
}

enum tg_code tg_shared_parts_unpack(const struct tg_shared_parts *p, const uint8_t *packed,
                                    size_t len, struct tg_buf *out)
{
    const uint8_t *const end = packed + len;
    while (packed < end) {
        uint64_t v = *packed++; /* most tokens are of one or two bytes */
        if (v >= 0x80) {
            packed--;
            if (!tg_varint_get(&packed, end, &v)) return TG_ERR_CORRUPT;
        }
        if (v & 1) {
            const struct tg_shared_part *part = get(p, (uint32_t)(v >> 1));
            TG_TRY(tg_buf_reserve(out, TG_SHARED_PARTS_MAX_LEN + COPY));
            memcpy(out->data + out->len, part->bytes, COPY);
            if (part->len > COPY)
                memcpy(out->data + out->len + COPY, part->bytes + COPY, part->len - COPY);
            out->len += part->len;
        } else {
            TG_TRY(tg_buf_append(out, packed, (size_t)(v >> 1)));
            packed += v >> 1;
        }
    }
    return TG_OK;
}
