/* block_decode.c: a block's payload back to points. */
#include "core/log/block_impl.h"

#include "core/base/mem.h"
#include "core/log/segment.h"

enum tg_code tg_block_decoder_init(struct tg_block_decoder *d)
{
    memset(d, 0, sizeof(*d));
    tg_buf_init(&d->complex, TG_BLOCK_COMPLEX_BYTES + TG_BLOCK_POINT_BYTES);
    tg_compress_init(&d->compress);
    d->scratch = tg_malloc(sizeof(*d->scratch));
    return d->scratch ? TG_OK : TG_ERR_NOMEM;
}

void tg_block_decoder_deinit(struct tg_block_decoder *d)
{
    tg_free(d->scratch);
    tg_buf_deinit(&d->complex);
    tg_compress_deinit(&d->compress);
    memset(d, 0, sizeof(*d));
}

void tg_block_decoder_reset(struct tg_block_decoder *d)
{
    d->floor = 0;
    d->next_min = 0;
    d->all_broken = false;
}

struct header {
    struct tg_block_info info;
    int64_t base_start;
    unsigned flags;
    unsigned version;
};

static bool get_header(const uint8_t **pos, const uint8_t *end, struct header *h)
{
    uint64_t block, first, n, ts, arena, start;
    if (*pos == end) return false;
    h->version = *(*pos)++;
    if (h->version == 0 || h->version > TG_BLOCK_VERSION) return false;
    if (!tg_varint_get(pos, end, &block) || !tg_varint_get(pos, end, &first) ||
        !tg_varint_get(pos, end, &n) || !tg_varint_get(pos, end, &ts) ||
        !tg_varint_get(pos, end, &arena) || *pos == end)
        return false;
    h->flags = *(*pos)++;
    if (h->version == 1) h->flags &= ~(unsigned)TG_COL_START_RESTARTS;
    if (!tg_varint_get(pos, end, &start)) return false;
    if (n == 0 || n > TG_BLOCK_MAX_POINTS || block >= TG_CHAIN_NO_BLOCK - 1 ||
        first >= TG_POINT_NO_MAX - n)
        return false;
    h->info = (struct tg_block_info){
        .first_point_no = first,
        .arena_bytes = arena,
        .max_ts_ns = tg_unzigzag(ts),
        .block = (uint32_t)block,
        .n_points = (uint32_t)n,
    };
    h->base_start = tg_unzigzag(start);
    return true;
}

enum tg_code tg_block_peek(const uint8_t *payload, size_t len, struct tg_block_info *info)
{
    struct header h;
    if (!get_header(&payload, payload + len, &h)) return TG_ERR_CORRUPT;
    *info = h.info;
    return TG_OK;
}

/* The position after the bits that were read: whole bytes from where the section began. */
static const uint8_t *bits_end(const struct tg_bitr *r)
{
    return r->p - r->avail / 8;
}

static bool get_diffs(const uint8_t **pos, const uint8_t *end, uint32_t *diff, uint32_t n)
{
    if (*pos == end) return false;
    const unsigned mode = *(*pos)++;
    if (mode == TG_DIFF_ZERO) {
        memset(diff, 0, n * sizeof(*diff));
        return true;
    }
    if (mode == TG_DIFF_SPARSE) {
        uint64_t n_set, gap, v;
        memset(diff, 0, n * sizeof(*diff));
        if (!tg_varint_get(pos, end, &n_set) || n_set > n) return false;
        uint64_t at = 0;
        while (n_set--) {
            if (!tg_varint_get(pos, end, &gap) || !tg_varint_get(pos, end, &v)) return false;
            if (gap >= n - at || v > UINT32_MAX) return false;
            at += gap;
            diff[at++] = (uint32_t)v;
            if (at == n && n_set) return false;
        }
        return true;
    }
    if (mode != TG_DIFF_BITS) return false;
    struct tg_bitr r;
    tg_bitr_init(&r, *pos, end);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t v = tg_varbits_get(&r);
        if (v > UINT32_MAX) return false;
        diff[i] = (uint32_t)v;
    }
    if (r.overrun) return false;
    *pos = bits_end(&r);
    return true;
}

static uint32_t unzigzag32(uint32_t z)
{
    return z >> 1 ^ (~(z & 1) + 1);
}

static bool get_codes(const uint8_t **pos, const uint8_t *end, struct tg_block_scratch *s,
                      uint32_t n)
{
    uint64_t n_palette, v;
    if (!tg_varint_get(pos, end, &n_palette) || n_palette == 0 || n_palette > n) return false;
    for (uint32_t i = 0; i < n_palette; i++) {
        if (!tg_varint_get(pos, end, &v) || v > TG_CODE_MAX ||
            (v & TG_CODE_TYPE_MASK) >= TG_VALUE_TYPES)
            return false;
        s->palette[i] = (uint16_t)v;
        v = 0;
        if ((s->palette[i] & TG_CODE_ROUTED) && (!tg_varint_get(pos, end, &v) || v > UINT32_MAX))
            return false;
        s->palette_targets[i] = (uint32_t)v;
    }
    if (n_palette == 1) {
        for (uint32_t i = 0; i < n; i++) {
            s->codes[i] = s->palette[0];
            s->targets[i] = s->palette_targets[0];
        }
        return true;
    }
    struct tg_bitr r;
    tg_bitr_init(&r, *pos, end);
    const unsigned bits = 32U - (unsigned)__builtin_clz((uint32_t)n_palette - 1);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t k = tg_bitr_get_small(&r, bits);
        if (k >= n_palette) return false;
        s->codes[i] = s->palette[k];
        s->targets[i] = s->palette_targets[k];
    }
    if (r.overrun) return false;
    *pos = bits_end(&r);
    return true;
}

/* Finds the complex values section and unpacks it. */
static enum tg_code get_complex(struct tg_block_decoder *d, unsigned flags, const uint8_t **pos,
                                const uint8_t *end, const uint8_t **complex,
                                const uint8_t **complex_end)
{
    *complex = *complex_end = *pos;
    if (!(flags & TG_COL_COMPLEX)) return TG_OK;
    uint64_t raw_len = 0, len;
    if ((flags & TG_COL_COMPLEX_ZSTD) && !tg_varint_get(pos, end, &raw_len)) return TG_ERR_CORRUPT;
    if (!tg_varint_get(pos, end, &len) || len > (uint64_t)(end - *pos)) return TG_ERR_CORRUPT;
    const uint8_t *const stored = *pos;
    *pos += len;
    if (!(flags & TG_COL_COMPLEX_ZSTD)) {
        *complex = stored;
        *complex_end = stored + len;
        return TG_OK;
    }
    if (raw_len > d->complex.max_bytes) return TG_ERR_CORRUPT;
    tg_buf_reset(&d->complex);
    const enum tg_code code = tg_compress_decode(&d->compress, TG_ENCODING_ZSTD, stored,
                                                 (size_t)len, (size_t)raw_len, &d->complex, NULL);
    if (code != TG_OK) return code == TG_ERR_NOMEM ? code : TG_ERR_CORRUPT;
    if (d->complex.len != raw_len) return TG_ERR_CORRUPT;
    *complex = d->complex.data;
    *complex_end = d->complex.data + d->complex.len;
    return TG_OK;
}

static bool get_times(struct tg_bitr *r, unsigned flags, int64_t max_ts, int64_t *times, uint32_t n)
{
    struct tg_dod s = {.prev = max_ts};
    if (flags & TG_COL_TIME_DOD)
        for (uint32_t i = 0; i < n; i++) times[i] = tg_dod_get(r, &s);
    else
        for (uint32_t i = 0; i < n; i++) times[i] = tg_delta_get(r, &s.prev);
    return !r->overrun;
}

static inline bool get_double(struct tg_bitr *r, struct tg_gorilla *window, struct tg_chain *c,
                              bool restart, bool good, uint64_t *bits)
{
    if (tg_bitr_get_small(r, 1) == 0) {
        if (!restart) {
            const int64_t residual = tg_unzigzag(tg_varbits_get(r));
            if (c->scale == TG_SCALE_XOR) return !good;
            *bits = tg_double_bits(tg_unscale(tg_chain_next(c, residual), c->scale));
            return true;
        }
        const bool dod = tg_bitr_get_small(r, 1);
        const unsigned scale = (unsigned)tg_bitr_get_small(r, 4);
        if (scale > TG_SCALE_MAX) return false;
        tg_chain_restart(c, (uint64_t)tg_unzigzag(tg_varbits_get(r)), dod);
        c->scale = (uint8_t)scale;
        *bits = tg_double_bits(tg_unscale(c->prev, scale));
        return true;
    }
    if (restart) {
        *bits = tg_bitr_get(r, 64);
        tg_chain_restart(c, *bits, false);
        c->scale = TG_SCALE_XOR;
        return true;
    }
    if (tg_bitr_get_small(r, 1) == 0) {
        const unsigned scale = (unsigned)tg_bitr_get_small(r, 4);
        if (scale > TG_SCALE_MAX) return false;
        c->prev = (uint64_t)tg_unzigzag(tg_varbits_get(r));
        c->delta = 0;
        c->scale = (uint8_t)scale;
        *bits = tg_double_bits(tg_unscale(c->prev, scale));
        return true;
    }
    window->prev = tg_chain_bits(c);
    if (!tg_gorilla_get(r, window, bits)) return false;
    c->prev = *bits;
    c->delta = 0;
    c->scale = TG_SCALE_XOR;
    return true;
}

static inline uint64_t get_integer(struct tg_bitr *r, struct tg_chain *c, bool restart)
{
    if (!restart) return tg_chain_next(c, tg_unzigzag(tg_varbits_get(r)));
    const bool dod = tg_bitr_get_small(r, 1);
    tg_chain_restart(c, (uint64_t)tg_unzigzag(tg_varbits_get(r)), dod);
    return c->prev;
}

static int64_t get_start(struct tg_bitr *r, unsigned version, struct tg_block_starts *s)
{
    const int64_t last = s->last;
    if (version == 1 || tg_bitr_get_small(r, 1))
        (void)tg_delta_get(r, &s->last);
    else
        s->last = s->before;
    s->before = last;
    return s->last;
}

static enum tg_code decode_points(struct tg_block_decoder *d, struct tg_block_entry *entries,
                                  uint32_t n_entries, const struct header *h, struct tg_bitr *r,
                                  const uint8_t *complex, const uint8_t *complex_end,
                                  struct tg_batch *batch, uint32_t *n_lost)
{
    const struct tg_block_scratch *const s = d->scratch;
    const uint32_t block = h->info.block;
    struct tg_gorilla window = {0};
    struct tg_block_complex_state complex_state = {0};
    struct tg_chain unknown = {0}; /* parses the values of points that are given up */
    struct tg_block_starts starts = {h->base_start, h->base_start};
    uint32_t lost = 0;
    for (uint32_t i = 0; i < h->info.n_points; i++) {
        struct tg_block_entry *const entry = s->refs[i] < n_entries ? &entries[s->refs[i]] : NULL;
        const unsigned code = s->codes[i];
        const unsigned type = code & TG_CODE_TYPE_MASK;
        const uint32_t dist = s->dists[i];
        const bool restart = dist == 0;
        if (dist > block + 1) return TG_ERR_CORRUPT;
        /* the chain of a series whose record was lost is followed: a second copy may still come */
        bool good = entry != NULL;
        if (good && !restart)
            good = entry->chain.last_block == block - (dist - 1) &&
                   entry->chain.last_block >= d->floor && entry->chain.type == type;
        struct tg_chain *const c = good ? &entry->chain : &unknown;
        if (!good) unknown.scale = 0;

        struct tg_point p;
        p.ts_ns = s->times[i];
        p.start_ns = restart ? starts.last : c->start_ns;
        if (!(h->flags & TG_COL_START_SAME) && (restart || !(h->flags & TG_COL_START_RESTARTS)) &&
            tg_bitr_get_small(r, 1))
            p.start_ns = get_start(r, h->version, &starts);
        p.value.u64 = 0;
        p.exemplars = NULL;
        p.type = (uint8_t)type;
        p.flags = (uint8_t)(code >> TG_CODE_FLAGS_SHIFT & TG_CODE_FLAGS_MASK);
        p.routed = code & TG_CODE_ROUTED;
        p.targets = s->targets[i];
        switch (type) {
        case TG_VALUE_DOUBLE:
            if (!get_double(r, &window, c, restart, good, &p.value.u64)) return TG_ERR_CORRUPT;
            break;
        case TG_VALUE_INT64:
        case TG_VALUE_UINT64: p.value.u64 = get_integer(r, c, restart); break;
        case TG_VALUE_BOOL: p.value.i64 = (int64_t)tg_bitr_get_small(r, 1); break;
        default: break;
        }
        if (tg_value_is_complex(type) || (code & TG_CODE_EXEMPLARS))
            TG_TRY(tg_block_complex_decode(&complex_state, &p, code & TG_CODE_EXEMPLARS, &complex,
                                           complex_end,
                                           good && entry->series && batch ? &batch->arena : NULL));
        if (r->overrun) return TG_ERR_CORRUPT;
        if (good) {
            c->start_ns = p.start_ns;
            c->last_block = block;
            c->type = (uint8_t)type;
        }
        if (!good || !entry->series) {
            lost++;
        } else if (batch) {
            p.series = entry->series;
            *tg_batch_push(batch) = p;
        }
    }
    *n_lost = lost;
    return complex == complex_end ? TG_OK : TG_ERR_CORRUPT;
}

enum tg_code tg_block_decode(struct tg_block_decoder *d, struct tg_block_entry *entries,
                             uint32_t n_entries, const uint8_t *payload, size_t len,
                             struct tg_batch *batch, struct tg_block_info *info, uint32_t *n_lost,
                             struct tg_err *err)
{
    struct tg_block_scratch *const s = d->scratch;
    const uint8_t *pos = payload, *const end = payload + len, *complex, *complex_end;
    struct header h;
    enum tg_code code = TG_ERR_CORRUPT;
    *n_lost = 0;
    const uint32_t mark = batch ? batch->n_points : 0;
    if (!get_header(&pos, end, &h)) goto corrupt;
    *info = h.info;
    const uint32_t n = h.info.n_points;
    if (h.info.block < d->next_min) goto corrupt;
    d->next_min = h.info.block + 1;
    if (d->all_broken) {
        d->floor = h.info.block;
        d->all_broken = false;
    }
    if (batch) {
        code = tg_batch_reserve(batch, n);
        if (code != TG_OK) {
            d->all_broken = true;
            return tg_fail(err, code, "no room for a block of %u points", n);
        }
    }

    if (!get_diffs(&pos, end, s->diff, n)) goto corrupt;
    uint32_t expect = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->refs[i] = expect + unzigzag32(s->diff[i]);
        expect = s->refs[i] + 1;
    }
    if (!get_diffs(&pos, end, s->diff, n)) goto corrupt;
    expect = 0;
    for (uint32_t i = 0; i < n; i++) s->dists[i] = expect += unzigzag32(s->diff[i]);
    if (!get_codes(&pos, end, s, n)) goto corrupt;
    code = get_complex(d, h.flags, &pos, end, &complex, &complex_end);
    if (code == TG_ERR_CORRUPT) goto corrupt;
    if (code != TG_OK) goto failed;

    struct tg_bitr r;
    if (h.flags & TG_COL_TIME_STEP) {
        uint64_t step, back;
        if (!tg_varint_get(&pos, end, &step) || !tg_varint_get(&pos, end, &back)) goto corrupt;
        uint64_t ts = (uint64_t)h.info.max_ts_ns - back;
        for (uint32_t i = 0; i < n; i++) {
            s->times[i] = (int64_t)ts;
            ts += (uint64_t)tg_unzigzag(step);
        }
        tg_bitr_init(&r, pos, end);
    } else {
        tg_bitr_init(&r, pos, end);
        if (!get_times(&r, h.flags, h.info.max_ts_ns, s->times, n)) goto corrupt;
    }
    code = decode_points(d, entries, n_entries, &h, &r, complex, complex_end, batch, n_lost);
    if (code == TG_OK) return TG_OK;
    if (batch) batch->n_points = mark;
    if (code == TG_ERR_CORRUPT) goto corrupt;
failed:
    d->all_broken = true;
    return tg_fail(err, code, "no memory to decode a block of the log");
corrupt:
    d->all_broken = true;
    return tg_fail(err, TG_ERR_CORRUPT, "a block of the log is not decodable");
}
