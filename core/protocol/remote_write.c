#include "core/protocol/remote_write.h"

#include <stdio.h>

#include "core/base/double_bits.h"
#include "core/base/utf8.h"
#include "core/protocol/identity_run.h"
#include "core/protocol/otlp_attr.h"
#include "core/protocol/protobuf_wire.h"

#define VARINT(n)  TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_VARINT)
#define FIXED64(n) TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_FIXED64)
#define BYTES(n)   TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_BYTES)

#define UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { LABELS = 1, SAMPLES = 2, EXEMPLARS = 3, HISTOGRAMS = 4 };
enum { METADATA = 3 }; /* of WriteRequest, whose timeseries are 1 */

enum {
    LOOKAHEAD = 12, /* series between a raw key's prefetch and its look-up */
    TOUCH_LAG = 8,  /* points between a look-up and the first access to the series */
    RING = 16,      /* power of two > LOOKAHEAD */
    SCRATCH_MAX = 8 << 20,
    NS_PER_MS = 1000000,
};

/* Mixed into the keys: the same bytes may be an Influx line; and a TimeSeries may name two series.
 */
static const struct tg_hash128 samples_salt = {UINT64_C(0x70726f6d77726974), 1};
static const struct tg_hash128 histograms_salt = {UINT64_C(0x70726f6d68697374), 2};

/* Which series the labels of a TimeSeries name. */
enum names {
    OF_SAMPLES,
    OF_HISTOGRAMS,
    OF_EXEMPLARS, /* that of the histograms if there is one, else that of the samples */
};

struct pending { /* points at..at+n in the batch whose series is still to be looked up */
    struct tg_hash128 key;
    const uint8_t *msg; /* the TimeSeries */
    uint32_t len;
    uint32_t at, n;
    enum names names;
};

struct walk {
    struct tg_intake *d;
    struct tg_batch *batch;
    const uint8_t *base;
    size_t len;
    struct pending ring[RING];
    uint32_t n_walked, n_resolved;
    uint32_t touch_at;
    uint32_t n_refused;
    struct tg_arena scratch;
};

/* --- messages --- */

static enum tg_code malformed_at(const struct walk *w, const uint8_t *at, const char *why,
                                 struct tg_err *err)
{
    /* Labels are looked at some series later, so count: which TimeSeries holds `at`? */
    struct tg_protobuf_wire in = tg_protobuf_wire_of(w->base, w->len);
    struct tg_protobuf_wire_field f;
    unsigned index = 0;
    while (in.p < in.end && in.p < at && tg_protobuf_wire_next(&in, &f) && in.p <= at)
        index += f.tag == BYTES(1);
    return tg_fail_at(err, TG_ERR_MALFORMED, (uint64_t)(at - w->base),
                      "not a remote write request: timeseries[%u]: %s", index, why);
}

static enum tg_code malformed_metadata(const struct walk *w, const uint8_t *at, const char *why,
                                       struct tg_err *err)
{
    return tg_fail_at(err, TG_ERR_MALFORMED, (uint64_t)(at - w->base),
                      "not a remote write request: metadata: %s", why);
}

static enum tg_code malformed(const struct walk *w, const struct tg_protobuf_wire *at,
                              struct tg_err *err)
{
    return malformed_at(w, at->p, tg_protobuf_wire_why(at), err);
}

/* A field of ours with another wire type is an error; unknown ones pass. */
static enum tg_code other_field(const struct walk *w, const struct tg_protobuf_wire_field *f,
                                uint32_t known, const char *what, struct tg_err *err)
{
    const uint32_t number = TG_PROTOBUF_WIRE_NUMBER(f->tag);
    if (number > 31 || !(known >> number & 1)) return TG_OK;
    char why[80];
    (void)snprintf(why, sizeof(why), "%s: field %u has wire type %u", what, number, f->tag & 7);
    return malformed_at(w, f->start, why, err);
}

/* --- labels --- */

static bool is_key(const struct tg_tag *t, const char *key)
{
    return t->key_len == strlen(key) && memcmp(t->key, key, t->key_len) == 0;
}

static enum tg_code read_label(const struct walk *w, const struct tg_protobuf_wire_field *msg,
                               struct tg_tag *t, struct tg_err *err)
{
    *t = (struct tg_tag){.key = "", .value = "", .origin = TG_ORIGIN_POINT};
    struct tg_protobuf_wire in = tg_protobuf_wire_of(msg->data, msg->len);
    while (in.p < in.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&in, &f)) return malformed(w, &in, err);
        if (f.tag == BYTES(1)) {
            t->key = (const char *)f.data;
            t->key_len = (uint32_t)f.len;
        } else if (f.tag == BYTES(2)) {
            t->value = (const char *)f.data;
            t->value_len = (uint32_t)f.len;
        } else {
            TG_TRY(other_field(w, &f, 0x6, "label", err));
        }
    }
    return TG_OK;
}

/* All fields `number` of msg. TG_ERR_TOO_LARGE, TG_ERR_NOMEM, TG_ERR_MALFORMED. */
static enum tg_code read_labels(struct walk *w, const uint8_t *msg, size_t len, uint32_t number,
                                struct tg_tags *out, struct tg_err *err)
{
    const uint32_t max_tags = tg_table_limits(w->d->table)->max_tags;
    struct tg_protobuf_wire at = tg_protobuf_wire_of(msg, len);
    while (at.p < at.end) {
        struct tg_protobuf_wire_field f;
        struct tg_tag t;
        if (!tg_protobuf_wire_next(&at, &f)) return malformed(w, &at, err);
        if (f.tag != BYTES(number)) continue;
        TG_TRY(read_label(w, &f, &t, err));
        if (out->n > max_tags) /* one more than tags: __name__ */
            return tg_fail(err, TG_ERR_TOO_LARGE,
                           "a series with more than limits.tags_per_series = %u labels", max_tags);
        if (tg_tags_append(out, &w->scratch, &t, 1) != TG_OK)
            return tg_fail(err, TG_ERR_NOMEM, "out of memory while decoding labels");
    }
    return TG_OK;
}

static int key_cmp(const struct tg_tag *a, const struct tg_tag *b)
{
    const uint32_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
    const int c = n ? memcmp(a->key, b->key, n) : 0;
    return c ? c : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

/* Senders must sort; one that does not is forgiven. n is bounded by max_tags. */
static void sort_labels(struct tg_tags *t)
{
    for (uint32_t i = 1; i < t->n; i++) {
        const struct tg_tag x = t->items[i];
        uint32_t k = i;
        for (; k > 0 && key_cmp(&t->items[k - 1], &x) > 0; k--) t->items[k] = t->items[k - 1];
        t->items[k] = x;
    }
}

static enum tg_code describe(struct walk *w, const struct pending *p, struct tg_series_desc *desc,
                             struct tg_err *err)
{
    static const char name_key[] = "__name__";
    char q[96];
    struct tg_tags tags = {.n = 0};
    TG_TRY(read_labels(w, p->msg, p->len, LABELS, &tags, err));
    sort_labels(&tags);
    /* No temporality, which OTLP's histograms have: that tells the two apart (prom_name.h). */
    *desc = (struct tg_series_desc){
        .unit = "",
        .kind = p->names == OF_HISTOGRAMS ? TG_KIND_EXP_HISTOGRAM : TG_KIND_UNKNOWN,
        .temporality = TG_TEMPORALITY_NONE,
    };
    uint32_t n = 0;
    for (uint32_t i = 0; i < tags.n; i++) {
        const struct tg_tag *t = &tags.items[i];
        if (i > 0 && t->key_len == tags.items[i - 1].key_len &&
            memcmp(t->key, tags.items[i - 1].key, t->key_len) == 0)
            return tg_fail(err, TG_ERR_INVALID, "label %s is there twice",
                           tg_quote(q, sizeof(q), t->key, t->key_len));
        if (t->key_len == 0)
            return tg_fail(err, TG_ERR_INVALID, "a label with an empty name (value %s)",
                           tg_quote(q, sizeof(q), t->value, t->value_len));
        if (t->key_len == sizeof(name_key) - 1 && memcmp(t->key, name_key, t->key_len) == 0) {
            desc->name = t->value;
            desc->name_len = t->value_len;
        }
    }
    if (desc->name_len == 0)
        return tg_fail(err, TG_ERR_INVALID, "a series without the label __name__ (%u labels)",
                       tags.n);
    for (uint32_t i = 0; i < tags.n; i++)
        if (tags.items[i].value != desc->name) tags.items[n++] = tags.items[i];
    desc->n_tags = n;
    desc->tags = tags.items;
    return TG_OK;
}

__attribute__((noinline)) static enum tg_code miss(struct walk *w, const struct pending *p,
                                                   struct tg_series **out, struct tg_err *err)
{
    struct tg_series_desc desc;
    struct tg_err e = {.code = TG_OK, .offset = TG_NO_OFFSET};
    w->d->n_misses++;
    enum tg_code code = describe(w, p, &desc, &e);
    if (code == TG_OK) code = tg_table_intern(w->d->table, &desc, out, &e);
    tg_arena_reset(&w->scratch);
    if (code == TG_OK) {
        tg_table_remember_raw(w->d->table, p->key, *out);
        return TG_OK;
    }
    *out = NULL;
    if (code == TG_ERR_MALFORMED) {
        if (err) *err = e;
        return code;
    }
    e.code = code;
    tg_intake_reject(w->d, p->n, &e);
    return TG_OK;
}

/* --- the pipeline: walked, then looked up, then touched --- */

/* The key of a TimeSeries' samples or histograms, from the hash of its labels. */
static inline struct tg_hash128 key_of(struct tg_hash128 labels, struct tg_hash128 salt)
{
    return (struct tg_hash128){labels.lo ^ salt.lo, labels.hi ^ salt.hi};
}

static inline enum tg_code resolve_one(struct walk *w, struct tg_err *err)
{
    const struct pending *p = &w->ring[w->n_resolved++ & (RING - 1)];
    struct tg_series *s = NULL;
    if (UNLIKELY(p->names == OF_EXEMPLARS))
        s = tg_table_find_raw(w->d->table, key_of(key_of(p->key, samples_salt), histograms_salt));
    if (!s) s = tg_table_find_raw(w->d->table, p->key);
    if (UNLIKELY(!s)) {
        TG_TRY(miss(w, p, &s, err));
        if (!s) w->n_refused += p->n;
    }
    __builtin_prefetch(s);
    struct tg_point *points = w->batch->points;
    for (uint32_t i = 0; i < p->n; i++) points[p->at + i].series = s;
    while (p->at + p->n > w->touch_at + TOUCH_LAG) {
        s = points[w->touch_at++].series;
        if (s) tg_series_touch(s, w->d->now_s);
    }
    return TG_OK;
}

static inline enum tg_code push_pending(struct walk *w, struct tg_hash128 key, const uint8_t *msg,
                                        size_t len, uint32_t at, enum names names,
                                        struct tg_err *err)
{
    tg_table_prefetch_raw(w->d->table, key);
    struct pending *p = &w->ring[w->n_walked++ & (RING - 1)];
    p->key = key;
    p->msg = msg;
    p->len = (uint32_t)len;
    p->at = at;
    p->n = w->batch->n_points - at;
    p->names = names;
    return w->n_walked - w->n_resolved > LOOKAHEAD ? resolve_one(w, err) : TG_OK;
}

/* Room for one more point, or the call fails. */
static inline enum tg_code reserve_point(struct walk *w, struct tg_err *err)
{
    const enum tg_code code = tg_batch_reserve(w->batch, 1);
    if (UNLIKELY(code != TG_OK))
        return tg_fail(err, code, "the request does not fit one batch (%u points%s)",
                       w->batch->n_points, code == TG_ERR_NOMEM ? "; out of memory" : "");
    return TG_OK;
}

/* Room is reserved; the caller sets time, value and type. */
static inline struct tg_point *push_point(struct walk *w)
{
    struct tg_point *p = tg_batch_push(w->batch);
    p->series = NULL;
    p->start_ns = 0;
    p->exemplars = NULL;
    p->flags = 0;
    return p;
}

static bool time_of(struct walk *w, uint64_t ms, int64_t *ts_ns)
{
    if (!__builtin_mul_overflow((int64_t)ms, (int64_t)NS_PER_MS, ts_ns)) return true;
    struct tg_err e;
    (void)tg_fail(&e, TG_ERR_INVALID,
                  "timestamp %lld ms does not fit int64 nanoseconds (years 1677 to 2262)",
                  (long long)ms);
    tg_intake_reject(w->d, 1, &e);
    return false;
}

/* --- samples --- */

__attribute__((noinline)) static enum tg_code read_sample(const struct walk *w, const uint8_t *msg,
                                                          size_t len, uint64_t *bits, uint64_t *ms,
                                                          struct tg_err *err)
{
    struct tg_protobuf_wire in = tg_protobuf_wire_of(msg, len);
    *bits = 0;
    *ms = 0;
    while (in.p < in.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&in, &f)) return malformed(w, &in, err);
        if (f.tag == FIXED64(1))
            *bits = f.num;
        else if (f.tag == VARINT(2))
            *ms = f.num;
        else
            TG_TRY(other_field(w, &f, 0x6, "sample", err));
    }
    return TG_OK;
}

/* What every sender writes: value, then a time of 6 bytes (1971 to 2109). */
static inline bool read_usual_sample(const uint8_t *p, size_t len, uint64_t *bits, uint64_t *ms)
{
    if (UNLIKELY(len != 16 || p[0] != FIXED64(1) || p[9] != VARINT(2))) return false;
    uint64_t v;
    memcpy(bits, p + 1, 8);
    memcpy(&v, p + 8, 8); /* the last value byte, the tag, the varint */
    v >>= 16;
    if (UNLIKELY((v & UINT64_C(0x808080808080)) != UINT64_C(0x008080808080))) return false;
    *ms = (v & 0x7f) | (v >> 1 & 0x3f80) | (v >> 2 & 0x1fc000) | (v >> 3 & 0xfe00000) |
          (v >> 4 & UINT64_C(0x7f0000000)) | (v >> 5 & UINT64_C(0x3f800000000));
    return true;
}

static inline enum tg_code put_sample(struct walk *w, const uint8_t *msg, size_t len,
                                      struct tg_err *err)
{
    uint64_t bits;
    uint64_t ms;
    int64_t ts_ns;
    if (UNLIKELY(!read_usual_sample(msg, len, &bits, &ms)))
        TG_TRY(read_sample(w, msg, len, &bits, &ms, err));
    if (UNLIKELY(!time_of(w, ms, &ts_ns))) return TG_OK;
    TG_TRY(reserve_point(w, err));
    struct tg_point *p = push_point(w);
    p->ts_ns = ts_ns;
    p->value.u64 = bits;
    p->type = TG_VALUE_DOUBLE;
    if (UNLIKELY(bits == TG_REMOTE_WRITE_STALE_NAN)) {
        p->type = TG_VALUE_NONE;
        p->flags = TG_POINT_NO_VALUE;
    }
    return TG_OK;
}

/* --- native histograms --- */

/* Counts a histogram that is bad on its own, and says of which series. */
static enum tg_code reject_histogram(struct walk *w, const uint8_t *series, size_t series_len,
                                     const struct tg_err *why, struct tg_err *err)
{
    struct tg_err e = *why;
    struct tg_tags tags = {.n = 0};
    char q[96];
    const enum tg_code code = read_labels(w, series, series_len, LABELS, &tags, err);
    for (uint32_t i = 0; code == TG_OK && i < tags.n; i++)
        if (is_key(&tags.items[i], "__name__"))
            (void)tg_fail(&e, why->code, "series %s: %s",
                          tg_quote(q, sizeof(q), tags.items[i].value, tags.items[i].value_len),
                          why->msg);
    tg_arena_reset(&w->scratch);
    if (code == TG_ERR_MALFORMED) return code;
    tg_intake_reject(w->d, 1, &e);
    return TG_OK;
}

static enum tg_code put_histogram(struct walk *w, const uint8_t *series, size_t series_len,
                                  const struct tg_protobuf_wire_field *f, struct tg_err *err)
{
    struct tg_native n;
    struct tg_err e = {.code = TG_OK, .offset = TG_NO_OFFSET};
    int64_t ts_ns;
    const enum tg_code code = tg_native_decode(f->data, f->len, &w->batch->arena, &n, &e);
    if (code == TG_ERR_MALFORMED) return malformed_at(w, n.bad, e.msg, err);
    if (code != TG_OK) return reject_histogram(w, series, series_len, &e, err);
    if (!time_of(w, n.ms, &ts_ns)) return TG_OK;
    TG_TRY(reserve_point(w, err));
    struct tg_point *p = push_point(w);
    p->ts_ns = ts_ns;
    p->type = n.type;
    p->flags = n.flags;
    p->value = n.value;
    return TG_OK;
}

/* --- exemplars --- */

static bool hex_bytes(const struct tg_tag *t, uint8_t *out, size_t n)
{
    if (t->value_len != 2 * n) return false;
    for (size_t i = 0; i < n; i++) {
        unsigned v = 0;
        for (unsigned k = 0; k < 2; k++) {
            const char c = t->value[2 * i + k];
            if (c >= '0' && c <= '9')
                v = v << 4 | (unsigned)(c - '0');
            else if (c >= 'a' && c <= 'f')
                v = v << 4 | (unsigned)(c - 'a' + 10);
            else
                return false;
        }
        out[i] = (uint8_t)v;
    }
    return true;
}

/* An id that is no id of OpenTelemetry (another length, capitals, all zero) stays a label. */
static bool read_id(const struct tg_tag *t, uint8_t *out, size_t n)
{
    static const uint8_t none[16];
    if (hex_bytes(t, out, n) && memcmp(out, none, n) != 0) return true;
    memset(out, 0, n);
    return false;
}

static enum tg_code keep_labels(struct walk *w, const struct tg_tags *tags, struct tg_exemplar *e,
                                struct tg_err *err)
{
    size_t bytes = 0;
    uint32_t n = 0;
    bool has_span = false;
    for (uint32_t i = 0; i < tags->n; i++)
        if (!tg_utf8_valid(tags->items[i].key, tags->items[i].key_len) ||
            !tg_utf8_valid(tags->items[i].value, tags->items[i].value_len))
            return tg_fail(err, TG_ERR_INVALID, "an exemplar's label is not UTF-8");
    for (uint32_t i = 1; i < tags->n; i++) /* n is bounded by max_tags */
        for (uint32_t k = 0; k < i; k++)
            if (tags->items[i].key_len == tags->items[k].key_len &&
                key_cmp(&tags->items[i], &tags->items[k]) == 0)
                return tg_fail(err, TG_ERR_INVALID, "an exemplar's label is there twice");
    for (uint32_t i = 0; i < tags->n; i++)
        if (is_key(&tags->items[i], "trace_id"))
            e->has_trace = read_id(&tags->items[i], e->trace_id, sizeof(e->trace_id));
    for (uint32_t i = 0; e->has_trace && i < tags->n; i++)
        if (is_key(&tags->items[i], "span_id"))
            has_span = read_id(&tags->items[i], e->span_id, sizeof(e->span_id));
    for (uint32_t i = 0; i < tags->n; i++)
        bytes += (size_t)tags->items[i].key_len + tags->items[i].value_len;
    struct tg_string *labels = tg_arena_alloc(&w->batch->arena, tags->n * 2 * sizeof(*labels));
    char *text = tg_arena_alloc(&w->batch->arena, bytes);
    if (!labels || !text)
        return tg_fail(err, TG_ERR_NOMEM,
                       "out of memory: the batch's arena or the memory limit is used up");
    for (uint32_t i = 0; i < tags->n; i++) {
        const struct tg_tag *t = &tags->items[i];
        if ((e->has_trace && is_key(t, "trace_id")) || (has_span && is_key(t, "span_id"))) continue;
        labels[2 * n] = (struct tg_string){text, t->key_len};
        if (t->key_len) memcpy(text, t->key, t->key_len);
        text += t->key_len;
        labels[2 * n + 1] = (struct tg_string){text, t->value_len};
        if (t->value_len) memcpy(text, t->value, t->value_len);
        text += t->value_len;
        n++;
    }
    e->n_labels = n;
    e->labels = labels;
    return TG_OK;
}

static enum tg_code read_exemplar(struct walk *w, const struct tg_protobuf_wire_field *msg,
                                  struct tg_exemplar *e, bool *usable, struct tg_err *err)
{
    struct tg_protobuf_wire in = tg_protobuf_wire_of(msg->data, msg->len);
    uint64_t ms = 0;
    *e = (struct tg_exemplar){.ts_ns = 0};
    while (in.p < in.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&in, &f)) return malformed(w, &in, err);
        if (f.tag == FIXED64(2))
            e->value = tg_bits_double(f.num);
        else if (f.tag == VARINT(3))
            ms = f.num;
        else if (f.tag != BYTES(1)) /* labels, below */
            TG_TRY(other_field(w, &f, 0xe, "exemplar", err));
    }
    *usable = !__builtin_mul_overflow((int64_t)ms, (int64_t)NS_PER_MS, &e->ts_ns);
    struct tg_tags tags = {.n = 0};
    enum tg_code code = read_labels(w, msg->data, msg->len, 1, &tags, err);
    if (code == TG_OK && tags.n) code = keep_labels(w, &tags, e, err);
    tg_arena_reset(&w->scratch);
    return code;
}

/* Reads all exemplars of a TimeSeries; what cannot be used is counted. *out is NULL when none is
 * left. TG_ERR_MALFORMED. */
static enum tg_code read_exemplars(struct walk *w, const uint8_t *msg, size_t len,
                                   const struct tg_exemplars **out, struct tg_err *err)
{
    struct tg_protobuf_wire in = tg_protobuf_wire_of(msg, len);
    struct tg_protobuf_wire_field f;
    uint32_t n = 0;
    *out = NULL;
    while (in.p < in.end && tg_protobuf_wire_next(&in, &f)) n += f.tag == BYTES(EXEMPLARS);
    struct tg_exemplars *list = tg_arena_alloc(&w->batch->arena, sizeof(*list));
    struct tg_exemplar *items = tg_arena_alloc(&w->batch->arena, n * sizeof(*items));
    if (!list || !items) {
        w->d->n_exemplars_memory += n;
        return TG_OK;
    }
    n = 0;
    in = tg_protobuf_wire_of(msg, len);
    while (in.p < in.end && tg_protobuf_wire_next(&in, &f)) {
        bool usable = false;
        if (f.tag != BYTES(EXEMPLARS)) continue;
        const enum tg_code code = read_exemplar(w, &f, &items[n], &usable, err);
        if (code == TG_ERR_MALFORMED) return code;
        if (code == TG_ERR_NOMEM)
            w->d->n_exemplars_memory++;
        else if (code != TG_OK || !usable)
            w->d->n_exemplars_invalid++;
        else
            n++;
    }
    *list = (struct tg_exemplars){.n = n, .items = items};
    if (n) *out = list;
    return TG_OK;
}

/* Exemplars go with the last point of their TimeSeries. In one without points, as Prometheus sends
 * them, they are a point of their own, at the time of the newest: so they are logged, routed,
 * counted and handed on like any other, and wait for nothing. */
__attribute__((noinline)) static enum tg_code put_exemplars(struct walk *w, const uint8_t *msg,
                                                            size_t len, bool has_points,
                                                            struct tg_err *err)
{
    const struct tg_exemplars *list;
    TG_TRY(read_exemplars(w, msg, len, &list, err));
    if (!list) return TG_OK;
    if (has_points) {
        w->batch->points[w->batch->n_points - 1].exemplars = list;
        return TG_OK;
    }
    TG_TRY(reserve_point(w, err));
    struct tg_point *p = push_point(w);
    p->type = TG_VALUE_EXEMPLARS;
    p->value.u64 = 0;
    p->exemplars = list;
    p->ts_ns = list->items[0].ts_ns;
    for (uint32_t i = 1; i < list->n; i++)
        if (list->items[i].ts_ns > p->ts_ns) p->ts_ns = list->items[i].ts_ns;
    return TG_OK;
}

/* --- the request --- */

static enum tg_code walk_series(struct walk *w, const uint8_t *msg, size_t len, struct tg_err *err)
{
    struct tg_identity_run labels = {.start = NULL};
    struct tg_batch *b = w->batch;
    const uint32_t samples_at = b->n_points;
    const uint8_t *p = msg;
    const uint8_t *const end = msg + len;
    bool has_histograms = false;
    bool has_exemplars = false;
    while (p < end) {
        struct tg_protobuf_wire at = {p, end};
        struct tg_protobuf_wire_field f;
        const size_t rest = (size_t)(end - p);
        /* one-byte tag, one-byte length: nearly always */
        if (rest >= 2 && p[1] < 0x80 && p[1] <= rest - 2 &&
            (p[0] == BYTES(LABELS) || p[0] == BYTES(SAMPLES))) {
            f.tag = p[0];
            f.start = p;
            f.data = p + 2;
            f.len = p[1];
            at.p = p + 2 + p[1];
        } else if (!tg_protobuf_wire_next(&at, &f)) {
            return malformed(w, &at, err);
        }
        p = at.p;
        switch (f.tag) {
        case BYTES(LABELS): tg_identity_run_add(&labels, f.start, p); break;
        case BYTES(SAMPLES): TG_TRY(put_sample(w, f.data, f.len, err)); break;
        case BYTES(EXEMPLARS): has_exemplars = true; break;
        case BYTES(HISTOGRAMS): has_histograms = true; break;
        default: TG_TRY(other_field(w, &f, 0x1e, "TimeSeries", err));
        }
    }
    const uint32_t histograms_at = b->n_points;
    if (UNLIKELY(has_histograms)) {
        struct tg_protobuf_wire at = tg_protobuf_wire_of(msg, len);
        struct tg_protobuf_wire_field f;
        while (at.p < at.end && tg_protobuf_wire_next(&at, &f))
            if (f.tag == BYTES(HISTOGRAMS)) TG_TRY(put_histogram(w, msg, len, &f, err));
    }
    const uint32_t n_points = b->n_points;
    if (UNLIKELY(has_exemplars)) TG_TRY(put_exemplars(w, msg, len, n_points > samples_at, err));
    if (b->n_points == samples_at) return TG_OK;
    const struct tg_hash128 h = tg_identity_run_hash(&labels);
    if (UNLIKELY(n_points == samples_at))
        return push_pending(w, key_of(h, samples_salt), msg, len, samples_at, OF_EXEMPLARS, err);
    if (histograms_at > samples_at) {
        b->n_points = histograms_at;
        const enum tg_code code =
            push_pending(w, key_of(h, samples_salt), msg, len, samples_at, OF_SAMPLES, err);
        b->n_points = n_points;
        if (UNLIKELY(code != TG_OK)) return code;
    }
    if (n_points > histograms_at)
        return push_pending(w, key_of(h, histograms_salt), msg, len, histograms_at, OF_HISTOGRAMS,
                            err);
    return TG_OK;
}

/* What is said of a family of metrics. Prometheus sends it in requests of its own, once a minute.
 */
__attribute__((noinline)) static enum tg_code note_metadata(
    const struct walk *w, const struct tg_protobuf_wire_field *msg, struct tg_err *err)
{
    enum { TYPE = 1, NAME = 2, HELP = 4, UNIT = 5 };
    struct tg_help_family what = {.help = "", .unit = ""};
    struct tg_protobuf_wire in = tg_protobuf_wire_of(msg->data, msg->len);
    const char *name = "";
    size_t name_len = 0;
    while (in.p < in.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&in, &f))
            return malformed_metadata(w, in.p, tg_protobuf_wire_why(&in), err);
        switch (f.tag) {
        case VARINT(TYPE): what.type = f.num > UINT8_MAX ? 0 : (uint8_t)f.num; break;
        case BYTES(NAME):
            name = (const char *)f.data;
            name_len = f.len;
            break;
        case BYTES(HELP):
            what.help = (const char *)f.data;
            what.help_len = (uint32_t)f.len;
            break;
        case BYTES(UNIT):
            what.unit = (const char *)f.data;
            what.unit_len = (uint32_t)f.len;
            break;
        default: break;
        }
    }
    w->d->n_metadata[tg_help_note_family(tg_table_help(w->d->table), name, name_len, &what,
                                         w->d->now_s)]++;
    return TG_OK;
}

static enum tg_code walk_request(struct walk *w, const uint8_t *buf, size_t len, struct tg_err *err)
{
    struct tg_protobuf_wire at = tg_protobuf_wire_of(buf, len);
    while (at.p < at.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&at, &f)) return malformed(w, &at, err);
        if (f.tag == BYTES(1))
            TG_TRY(walk_series(w, f.data, f.len, err));
        else if (f.tag == BYTES(METADATA))
            TG_TRY(note_metadata(w, &f, err));
        else
            TG_TRY(other_field(w, &f, 1U << 1 | 1U << METADATA, "WriteRequest", err));
    }
    while (w->n_resolved != w->n_walked) TG_TRY(resolve_one(w, err));
    return TG_OK;
}

enum tg_code tg_remote_write_decode(const uint8_t *buf, size_t len, struct tg_intake *d,
                                    struct tg_err *err)
{
    if (len > UINT32_MAX)
        return tg_fail(err, TG_ERR_TOO_LARGE, "a request of %zu bytes; the decoder takes 4 GiB",
                       len);
    if (len == 0) return TG_OK; /* buf may be NULL */
    struct walk w;              /* the ring is filled as it is used */
    w.d = d;
    w.batch = d->batch;
    w.base = buf;
    w.len = len;
    w.n_walked = w.n_resolved = 0;
    w.touch_at = d->batch->n_points;
    w.n_refused = 0;
    tg_arena_init(&w.scratch, SCRATCH_MAX);
    const uint32_t from = d->batch->n_points;
    const enum tg_code code = walk_request(&w, buf, len, err);
    if (code == TG_OK)
        tg_intake_finish(d, from, w.touch_at, w.n_refused > 0);
    else
        d->batch->n_points = from;
    tg_arena_deinit(&w.scratch);
    return code;
}
