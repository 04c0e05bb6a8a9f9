/* block_encode.c: points to the payload of one block. */
#include "core/log/block_impl.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "core/base/mem.h"

const double tg_block_pow10[TG_SCALE_MAX + 1] = {1e0, 1e1, 1e2, 1e3,  1e4,  1e5, 1e6,
                                                 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};

enum tg_code tg_block_encoder_init(struct tg_block_encoder *e)
{
    memset(e, 0, sizeof(*e));
    tg_buf_init(&e->complex, TG_BLOCK_COMPLEX_BYTES + 2 * TG_BLOCK_POINT_BYTES);
    tg_buf_init(&e->packed, 0);
    tg_compress_init(&e->compress);
    e->scratch = tg_malloc(sizeof(*e->scratch));
    return e->scratch ? TG_OK : TG_ERR_NOMEM;
}

void tg_block_encoder_deinit(struct tg_block_encoder *e)
{
    tg_free(e->chains);
    tg_free(e->scratch);
    tg_buf_deinit(&e->complex);
    tg_buf_deinit(&e->packed);
    tg_compress_deinit(&e->compress);
    memset(e, 0, sizeof(*e));
}

void tg_block_encoder_reset(struct tg_block_encoder *e)
{
    tg_free(e->chains);
    e->chains = NULL;
    e->n_chains = e->cap_chains = 0;
    e->next_block = e->floor = 0;
}

enum tg_code tg_block_encoder_add(struct tg_block_encoder *e, uint32_t *ref)
{
    if (e->n_chains == TG_BLOCK_MAX_REFS) return TG_ERR_FULL;
    if (e->n_chains == e->cap_chains) {
        const uint32_t cap = e->cap_chains + e->cap_chains / 4 + 256;
        struct tg_chain *c = tg_reallocarray(e->chains, cap, sizeof(*c));
        if (!c) return TG_ERR_NOMEM;
        e->chains = c;
        e->cap_chains = cap;
    }
    *ref = e->n_chains++;
    struct tg_chain *c = &e->chains[*ref];
    memset(c, 0, sizeof(*c));
    c->last_block = TG_CHAIN_NO_BLOCK;
    return TG_OK;
}

void tg_block_encoder_undo(struct tg_block_encoder *e, uint32_t n_chains)
{
    if (n_chains < e->n_chains) e->n_chains = n_chains;
    e->next_block++; /* the number of a block that was begun is never used again */
    e->floor = e->next_block;
}

/* --- columns --- */

/* Most bytes put_diffs writes for n differences. */
static size_t diffs_bound(uint32_t n)
{
    return 1 + TG_VARINT_MAX + (size_t)n * (TG_DELTA_MAX_BITS / 8 + 1) + TG_BITS_SLACK;
}

static void put_diffs(struct tg_buf *out, const uint32_t *diff, uint32_t n)
{
    uint32_t n_set = 0;
    for (uint32_t i = 0; i < n; i++) n_set += diff[i] != 0;
    if (n_set == 0) {
        tg_buf_put_u8(out, TG_DIFF_ZERO);
        return;
    }
    if (n_set < 4 || n_set < n / 16) {
        tg_buf_put_u8(out, TG_DIFF_SPARSE);
        tg_buf_put_varint(out, n_set);
        uint32_t from = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (diff[i] == 0) continue;
            tg_buf_put_varint(out, i - from);
            tg_buf_put_varint(out, diff[i]);
            from = i + 1;
        }
        return;
    }
    tg_buf_put_u8(out, TG_DIFF_BITS);
    struct tg_bitw w;
    tg_bitw_init(&w, out);
    for (uint32_t i = 0; i < n; i++) tg_varbits_put(&w, diff[i]);
    tg_bitw_flush(&w);
}

static uint32_t zigzag32(uint32_t to, uint32_t from)
{
    const int32_t d = (int32_t)(to - from);
    return (uint32_t)d << 1 ^ (uint32_t)(d >> 31);
}

static unsigned bits_for(uint32_t n) /* to tell n things apart */
{
    return n <= 1 ? 0 : 32U - (unsigned)__builtin_clz(n - 1);
}

static inline bool is_palette(const struct tg_block_scratch *s, uint32_t k, uint32_t i)
{
    return s->palette[k] == s->codes[i] && s->palette_targets[k] == s->targets[i];
}

/* Types: the distinct codes with their targets, then per point which one. */
static void put_codes(struct tg_buf *out, struct tg_block_scratch *s, uint32_t n)
{
    uint32_t n_palette = 0, last = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (n_palette == 0 || !is_palette(s, last, i)) {
            last = 0;
            while (last < n_palette && !is_palette(s, last, i)) last++;
            if (last == n_palette) {
                s->palette[n_palette] = s->codes[i];
                s->palette_targets[n_palette++] = s->targets[i];
            }
        }
        s->diff[i] = last;
    }
    tg_buf_put_varint(out, n_palette);
    for (uint32_t i = 0; i < n_palette; i++) {
        tg_buf_put_varint(out, s->palette[i]);
        if (s->palette[i] & TG_CODE_ROUTED) tg_buf_put_varint(out, s->palette_targets[i]);
    }
    if (n_palette == 1) return;
    struct tg_bitw w;
    tg_bitw_init(&w, out);
    const unsigned bits = bits_for(n_palette);
    for (uint32_t i = 0; i < n; i++) tg_bitw_put(&w, s->diff[i], bits);
    tg_bitw_flush(&w);
}

/* Whether v is the integer *m at this scale, bit-exactly. */
static inline bool to_scaled(double v, unsigned scale, int64_t *m)
{
    const double x = scale ? v * tg_block_pow10[scale] : v;
    if (!(fabs(x) < 0x1p51)) return false; /* also NaN */
#ifdef __SSE2__
    *m = _mm_cvtsd_si64(_mm_set_sd(x));
#else
    *m = llrint(x);
#endif
    return tg_double_bits(tg_unscale((uint64_t)*m, scale)) == tg_double_bits(v);
}

static bool find_scale(double v, unsigned from, unsigned *scale, int64_t *m)
{
    for (unsigned k = from; k <= TG_SCALE_MAX; k++) {
        if (to_scaled(v, k, m)) {
            *scale = k;
            return true;
        }
    }
    return false;
}

static void put_double(struct tg_bitw *w, struct tg_gorilla *window, struct tg_chain *c, double v,
                       bool restart)
{
    int64_t m;
    unsigned scale;
    if (restart) {
        /* the scale it had is the best guess: tried first */
        const bool decimal = c->scale != TG_SCALE_XOR && to_scaled(v, c->scale, &m)
                                 ? (scale = c->scale, true)
                                 : find_scale(v, 0, &scale, &m);
        if (!decimal) {
            tg_bitw_put(w, 1, 1);
            tg_bitw_put(w, tg_double_bits(v), 64);
            tg_chain_restart(c, tg_double_bits(v), false);
            c->scale = TG_SCALE_XOR;
            return;
        }
        const bool dod = c->predict > 0;
        tg_bitw_put(w, (dod ? 16U : 0U) | scale, 6); /* 0, predict, scale */
        tg_varbits_put(w, tg_zigzag(m));
        tg_chain_restart(c, (uint64_t)m, dod);
        c->scale = (uint8_t)scale;
        return;
    }
    if (c->scale != TG_SCALE_XOR) {
        if (to_scaled(v, c->scale, &m)) {
            tg_bitw_put(w, 0, 1);
            tg_varbits_put(w, tg_zigzag(tg_chain_residual(c, (uint64_t)m)));
            return;
        }
        if (find_scale(v, c->scale + 1U, &scale, &m)) {
            tg_bitw_put(w, 2U << 4 | scale, 6);
            tg_varbits_put(w, tg_zigzag(m));
            c->prev = (uint64_t)m;
            c->delta = 0;
            c->scale = (uint8_t)scale;
            return;
        }
    }
    tg_bitw_put(w, 3, 2);
    window->prev = tg_chain_bits(c);
    tg_gorilla_put(w, window, tg_double_bits(v));
    c->prev = tg_double_bits(v);
    c->delta = 0;
    c->scale = TG_SCALE_XOR;
}

static void put_integer(struct tg_bitw *w, struct tg_chain *c, uint64_t v, bool restart)
{
    if (restart) {
        const bool dod = c->predict > 0;
        tg_bitw_put(w, dod, 1);
        tg_varbits_put(w, tg_zigzag((int64_t)v));
        tg_chain_restart(c, v, dod);
        return;
    }
    tg_varbits_put(w, tg_zigzag(tg_chain_residual(c, v)));
}

static void put_times(struct tg_bitw *w, const struct tg_point *points, uint32_t n, int64_t base,
                      bool dod)
{
    struct tg_dod s = {.prev = base};
    if (dod)
        for (uint32_t i = 0; i < n; i++) tg_dod_put(w, &s, points[i].ts_ns);
    else
        for (uint32_t i = 0; i < n; i++) tg_delta_put(w, &s.prev, points[i].ts_ns);
}

static void put_start(struct tg_bitw *w, struct tg_block_starts *s, int64_t start_ns)
{
    const int64_t last = s->last;
    const bool is_new = start_ns != s->before;
    tg_bitw_put(w, is_new, 1);
    if (is_new)
        tg_delta_put(w, &s->last, start_ns);
    else
        s->last = start_ns;
    s->before = last;
}

/* Large values of the leading points, until the section is full: may lower *n. */
static enum tg_code encode_complex(struct tg_block_encoder *e, const struct tg_point *points,
                                   uint32_t *n, uint64_t *arena_bytes, struct tg_err *err)
{
    struct tg_block_complex_state state = {0};
    tg_buf_reset(&e->complex);
    for (uint32_t i = 0; i < *n; i++) {
        if (!tg_value_is_complex(points[i].type) && !points[i].exemplars) continue;
        TG_TRY(tg_block_complex_encode(&state, &points[i], &e->complex, arena_bytes, err));
        if (e->complex.len >= TG_BLOCK_COMPLEX_BYTES) *n = i + 1;
    }
    return TG_OK;
}

enum tg_code tg_block_encode(struct tg_block_encoder *e, const struct tg_point *points,
                             const uint32_t *refs, uint32_t n, uint64_t first_point_no,
                             struct tg_buf *out, uint32_t *n_used, struct tg_err *err)
{
    struct tg_block_scratch *const s = e->scratch;
    if (n > TG_BLOCK_MAX_POINTS) n = TG_BLOCK_MAX_POINTS;
    uint64_t arena_bytes = 0;
    TG_TRY(encode_complex(e, points, &n, &arena_bytes, err));

    const struct tg_buf *complex = &e->complex;
    unsigned flags = 0;
    if (e->complex.len) {
        flags |= TG_COL_COMPLEX;
        if (e->complex.len >= 256) {
            tg_buf_reset(&e->packed);
            /* compression is a saving, not a need: without memory for it the plain form goes */
            if (tg_compress_encode(&e->compress, TG_ENCODING_ZSTD, e->complex.data, e->complex.len,
                                   &e->packed, NULL) == TG_OK &&
                e->packed.len < e->complex.len - e->complex.len / 8) {
                flags |= TG_COL_COMPLEX_ZSTD;
                complex = &e->packed;
            }
        }
    }
    /* header | 2 columns | codes | complex | bits */
    const size_t bits_bytes =
        (size_t)n * (2 * TG_DELTA_MAX_BITS + 2 + 2 + TG_GORILLA_MAX_BITS + 8) / 8;
    const enum tg_code room =
        tg_buf_reserve(out, 128 + 2 * diffs_bound(n) + (size_t)n * 10 + complex->len + bits_bytes +
                                4 * TG_BITS_SLACK);
    if (room != TG_OK) return tg_fail(err, room, "no memory to encode a block of the log");

    /* times */
    int64_t max_ts = points[0].ts_ns;
    const uint64_t step = n > 1 ? (uint64_t)points[1].ts_ns - (uint64_t)points[0].ts_ns : 0;
    bool stepped = true;
    uint32_t n_same_delta = 0, n_same_dod = 0;
    {
        uint64_t prev = (uint64_t)points[0].ts_ns, prev_delta = 0;
        for (uint32_t i = 1; i < n; i++) {
            const uint64_t ts = (uint64_t)points[i].ts_ns, delta = ts - prev;
            if (points[i].ts_ns > max_ts) max_ts = points[i].ts_ns;
            stepped &= delta == step;
            n_same_delta += delta == 0;
            n_same_dod += delta == prev_delta;
            prev = ts;
            prev_delta = delta;
        }
    }
    if (stepped)
        flags |= TG_COL_TIME_STEP;
    else if (n_same_dod > n_same_delta)
        flags |= TG_COL_TIME_DOD;

    /* control: which chains go on, and whether start times are as expected */
    const uint32_t block = e->next_block++;
    int64_t base_start = 0;
    bool have_base = false, starts_same = true, chained_starts_same = true;
    for (uint32_t i = 0; i < n; i++) {
        const struct tg_point *p = &points[i];
        struct tg_chain *c = &e->chains[refs[i]];
        s->codes[i] =
            (uint16_t)(p->type | (p->exemplars ? TG_CODE_EXEMPLARS : 0) |
                       p->flags << TG_CODE_FLAGS_SHIFT | (p->routed ? TG_CODE_ROUTED : 0));
        s->targets[i] = p->routed ? p->targets : 0;
        const bool first = c->last_block == TG_CHAIN_NO_BLOCK;
        const bool restart = first || c->last_block < e->floor || c->type != p->type ||
                             c->length >= TG_BLOCK_CHAIN_MAX - 1;
        if (restart) {
            s->dists[i] = 0;
            /* the first chain of a series is cut short by its number, in groups, so that restarts
             * of a steady scrape are spread over the blocks and still come in runs */
            c->length = first ? (uint8_t)((refs[i] >> 5) % TG_BLOCK_CHAIN_MAX) : 0;
            if (!have_base) {
                have_base = true;
                base_start = p->start_ns;
            }
            s->same[i] = p->start_ns == base_start;
        } else {
            s->dists[i] = block - c->last_block + 1;
            c->length++;
            s->same[i] = p->start_ns == c->start_ns;
            chained_starts_same &= s->same[i] != 0;
        }
        starts_same &= s->same[i] != 0;
        c->last_block = block;
        c->type = p->type;
        c->start_ns = p->start_ns;
    }
    if (starts_same)
        flags |= TG_COL_START_SAME;
    else if (chained_starts_same)
        flags |= TG_COL_START_RESTARTS;

    /* header */
    tg_buf_put_u8(out, TG_BLOCK_VERSION);
    tg_buf_put_varint(out, block);
    tg_buf_put_varint(out, first_point_no);
    tg_buf_put_varint(out, n);
    tg_buf_put_varint(out, tg_zigzag(max_ts));
    tg_buf_put_varint(out, arena_bytes);
    tg_buf_put_u8(out, (uint8_t)flags);
    tg_buf_put_varint(out, tg_zigzag(base_start));

    uint32_t expect = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->diff[i] = zigzag32(refs[i], expect);
        expect = refs[i] + 1;
    }
    put_diffs(out, s->diff, n);
    expect = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->diff[i] = zigzag32(s->dists[i], expect);
        expect = s->dists[i];
    }
    put_diffs(out, s->diff, n);
    put_codes(out, s, n);
    if (flags & TG_COL_COMPLEX) {
        if (flags & TG_COL_COMPLEX_ZSTD) tg_buf_put_varint(out, e->complex.len);
        tg_buf_put_varint(out, complex->len);
        tg_buf_put(out, complex->data, complex->len);
    }

    struct tg_bitw w;
    if (stepped) {
        tg_buf_put_varint(out, tg_zigzag((int64_t)step));
        tg_buf_put_varint(out, (uint64_t)max_ts - (uint64_t)points[0].ts_ns);
    }
    tg_bitw_init(&w, out);
    if (!stepped) put_times(&w, points, n, max_ts, flags & TG_COL_TIME_DOD);

    struct tg_gorilla window = {0};
    struct tg_block_starts starts = {base_start, base_start};
    for (uint32_t i = 0; i < n; i++) {
        const struct tg_point *p = &points[i];
        struct tg_chain *c = &e->chains[refs[i]];
        const bool restart = s->dists[i] == 0;
        if (!starts_same && (restart || !chained_starts_same)) {
            /* a restart expects the last one written out; the pass above compared with base */
            const bool same = restart ? p->start_ns == starts.last : s->same[i] != 0;
            tg_bitw_put(&w, !same, 1);
            if (!same) put_start(&w, &starts, p->start_ns);
        }
        switch (p->type) {
        case TG_VALUE_DOUBLE: put_double(&w, &window, c, p->value.f64, restart); break;
        case TG_VALUE_INT64:
        case TG_VALUE_UINT64: put_integer(&w, c, p->value.u64, restart); break;
        case TG_VALUE_BOOL: tg_bitw_put(&w, p->value.i64 != 0, 1); break;
        default: break;
        }
    }
    tg_bitw_flush(&w);
    *n_used = n;
    return TG_OK;
}
