#include "core/protocol/otlp_point.h"

#include <math.h>

#include "core/base/double_bits.h"
#include "core/base/utf8.h"

#define VARINT(n)  TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_VARINT)
#define FIXED64(n) TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_FIXED64)
#define BYTES(n)   TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_BYTES)

static enum tg_code malformed(struct tg_otlp_reader *r, const struct tg_protobuf_wire *w,
                              const char *what, struct tg_err *err)
{
    r->bad = w->p;
    return tg_fail(err, TG_ERR_MALFORMED, "%s: %s", what, tg_protobuf_wire_why(w));
}

/* A field of the schema with a type that it does not have: the bytes are something else. Reserved
 * and unknown numbers pass. */
static enum tg_code other_field(struct tg_otlp_reader *r, const struct tg_protobuf_wire_field *f,
                                uint32_t known, const char *what, struct tg_err *err)
{
    const uint32_t number = TG_PROTOBUF_WIRE_NUMBER(f->tag);
    if (number > 31 || !(known >> number & 1)) return TG_OK;
    r->bad = f->start;
    return tg_fail(err, TG_ERR_MALFORMED, "%s: field %u has wire type %u", what, number,
                   f->tag & 7);
}

static enum tg_code no_memory(struct tg_err *err)
{
    return tg_fail(err, TG_ERR_NOMEM,
                   "out of memory: the batch's arena or the memory limit is used up");
}

/* Repeated 64-bit fields, packed or not. */
static enum tg_code count_fixed64(struct tg_otlp_reader *r, const struct tg_protobuf_wire_field *f,
                                  uint64_t *n, const char *what, struct tg_err *err)
{
    if ((f->tag & 7) == TG_PROTOBUF_WIRE_FIXED64) {
        *n += 1;
        return TG_OK;
    }
    if (f->len % 8 != 0) {
        r->bad = f->start;
        return tg_fail(err, TG_ERR_MALFORMED, "%s: %zu bytes of packed 64-bit numbers", what,
                       f->len);
    }
    *n += f->len / 8;
    return TG_OK;
}

static void copy_fixed64(const struct tg_protobuf_wire_field *f, void *to, uint64_t *n)
{
    uint8_t *const p = (uint8_t *)to + *n * 8;
    if ((f->tag & 7) == TG_PROTOBUF_WIRE_FIXED64) {
        memcpy(p, &f->num, 8);
        *n += 1;
    } else if (f->len) {
        memcpy(p, f->data, f->len);
        *n += f->len / 8;
    }
}

/* --- explicit buckets --- */

static enum tg_code check_histogram(const struct tg_histogram *h, struct tg_err *err)
{
    if (h->n_buckets != 0 ? h->n_buckets != h->n_bounds + UINT64_C(1) : h->n_bounds != 0)
        return tg_fail(err, TG_ERR_INVALID,
                       "a histogram has %u bucket_counts for %u explicit_bounds: there must be one "
                       "more, or none of both",
                       h->n_buckets, h->n_bounds);
    for (uint32_t i = 0; i < h->n_bounds; i++)
        if (isnan(h->bounds[i]) || (i > 0 && !(h->bounds[i - 1] < h->bounds[i])))
            return tg_fail(err, TG_ERR_INVALID,
                           "a histogram's explicit_bounds do not ascend at index %u (%g)", i,
                           h->bounds[i]);
    return TG_OK;
}

enum tg_code tg_otlp_parse_histogram(struct tg_otlp_reader *r, const uint8_t *msg, size_t len,
                                     struct tg_otlp_point *out, struct tg_err *err)
{
    static const char what[] = "histogram point";
    struct tg_histogram h = {.count = 0};
    struct tg_protobuf_wire w = tg_protobuf_wire_of(msg, len);
    struct tg_protobuf_wire_field f;
    uint64_t n_buckets = 0;
    uint64_t n_bounds = 0;
    while (w.p < w.end) {
        if (!tg_protobuf_wire_next(&w, &f)) return malformed(r, &w, what, err);
        switch (f.tag) {
        case FIXED64(2): out->start_ns = f.num; break;
        case FIXED64(3): out->ts_ns = f.num; break;
        case FIXED64(4): h.count = f.num; break;
        case FIXED64(5):
            h.sum = tg_bits_double(f.num);
            h.has_sum = true;
            break;
        case FIXED64(6):
        case BYTES(6): TG_TRY(count_fixed64(r, &f, &n_buckets, what, err)); break;
        case FIXED64(7):
        case BYTES(7): TG_TRY(count_fixed64(r, &f, &n_bounds, what, err)); break;
        case BYTES(TG_OTLP_HISTOGRAM_EXEMPLARS): out->n_exemplars++; break;
        case BYTES(TG_OTLP_HISTOGRAM_ATTRIBUTES):
            tg_identity_run_add(&out->attributes, f.start, w.p);
            break;
        case VARINT(10): out->flags = (uint32_t)f.num; break;
        case FIXED64(11):
            h.min = tg_bits_double(f.num);
            h.has_min = true;
            break;
        case FIXED64(12):
            h.max = tg_bits_double(f.num);
            h.has_max = true;
            break;
        default: TG_TRY(other_field(r, &f, 0x1ffc, what, err));
        }
    }
    const bool has_value = !(out->flags & TG_OTLP_FLAG_NO_RECORDED_VALUE);
    if (!has_value) {
        /* The bounds say which buckets end; without any it is a point without anything. */
        if (n_bounds == 0) return TG_OK;
        h = (struct tg_histogram){.count = 0};
        n_buckets = n_buckets ? n_buckets : n_bounds + 1;
    }
    struct tg_histogram *const keep = tg_arena_alloc(r->arena, sizeof(*keep));
    double *const bounds = tg_arena_alloc(r->arena, n_bounds * 8);
    uint64_t *const buckets = tg_arena_alloc(r->arena, n_buckets * 8);
    if (!keep || !bounds || !buckets) return no_memory(err);
    const uint64_t n_declared = n_buckets;
    n_bounds = n_buckets = 0;
    w = tg_protobuf_wire_of(msg, len);
    while (w.p < w.end && tg_protobuf_wire_next(&w, &f)) {
        if (TG_PROTOBUF_WIRE_NUMBER(f.tag) == 6 && has_value)
            copy_fixed64(&f, buckets, &n_buckets);
        else if (TG_PROTOBUF_WIRE_NUMBER(f.tag) == 7)
            copy_fixed64(&f, bounds, &n_bounds);
    }
    if (!has_value) memset(buckets, 0, n_declared * 8);
    h.n_bounds = (uint32_t)n_bounds; /* a request is shorter than 4 GiB */
    h.n_buckets = (uint32_t)(has_value ? n_buckets : n_declared);
    h.bounds = bounds;
    h.buckets = buckets;
    TG_TRY(check_histogram(&h, err));
    *keep = h;
    out->type = TG_VALUE_HISTOGRAM;
    out->value.histogram = keep;
    return TG_OK;
}

/* --- exponential buckets --- */

struct buckets {
    int32_t offset;
    uint64_t n;
    uint64_t *counts;
};

/* One Buckets message; with counts NULL only counts. */
static enum tg_code read_buckets(struct tg_otlp_reader *r, const struct tg_protobuf_wire_field *msg,
                                 struct buckets *b, struct tg_err *err)
{
    static const char what[] = "exponential histogram buckets";
    struct tg_protobuf_wire w = tg_protobuf_wire_of(msg->data, msg->len);
    while (w.p < w.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&w, &f)) return malformed(r, &w, what, err);
        switch (f.tag) {
        case VARINT(1): b->offset = (int32_t)tg_unzigzag((uint32_t)f.num); break;
        case VARINT(2):
            if (b->counts) b->counts[b->n] = f.num;
            b->n++;
            break;
        case BYTES(2): {
            size_t n;
            if (!tg_protobuf_wire_count_varints(f.data, f.len, &n)) {
                r->bad = f.start;
                return tg_fail(err, TG_ERR_MALFORMED, "%s: packed bucket_counts are cut short",
                               what);
            }
            if (b->counts) {
                const uint8_t *p = f.data;
                for (size_t i = 0; i < n; i++) {
                    if (!tg_varint_get(&p, f.data + f.len, &b->counts[b->n + i])) {
                        r->bad = p;
                        return tg_fail(err, TG_ERR_MALFORMED,
                                       "%s: a bucket count is longer than 10 bytes", what);
                    }
                }
            }
            b->n += n;
            break;
        }
        default: TG_TRY(other_field(r, &f, 0x6, what, err));
        }
    }
    return TG_OK;
}

static enum tg_code check_exp_histogram(const struct tg_exp_histogram *h, struct tg_err *err)
{
    if ((int64_t)h->pos_offset + h->n_pos > INT32_MAX ||
        (int64_t)h->neg_offset + h->n_neg > INT32_MAX)
        return tg_fail(err, TG_ERR_INVALID,
                       "an exponential histogram's bucket offset and count pass 2^31 - 1");
    if (!(h->zero_threshold >= 0))
        return tg_fail(err, TG_ERR_INVALID, "an exponential histogram's zero_threshold is %g",
                       h->zero_threshold);
    return TG_OK;
}

enum tg_code tg_otlp_parse_exp_histogram(struct tg_otlp_reader *r, const uint8_t *msg, size_t len,
                                         struct tg_otlp_point *out, struct tg_err *err)
{
    static const char what[] = "exponential histogram point";
    struct tg_exp_histogram h = {.count = 0};
    struct buckets pos = {.offset = 0};
    struct buckets neg = {.offset = 0};
    struct tg_protobuf_wire w = tg_protobuf_wire_of(msg, len);
    struct tg_protobuf_wire_field f;
    while (w.p < w.end) {
        if (!tg_protobuf_wire_next(&w, &f)) return malformed(r, &w, what, err);
        switch (f.tag) {
        case BYTES(TG_OTLP_EXP_HISTOGRAM_ATTRIBUTES):
            tg_identity_run_add(&out->attributes, f.start, w.p);
            break;
        case FIXED64(2): out->start_ns = f.num; break;
        case FIXED64(3): out->ts_ns = f.num; break;
        case FIXED64(4): h.count = f.num; break;
        case FIXED64(5):
            h.sum = tg_bits_double(f.num);
            h.has_sum = true;
            break;
        case VARINT(6): h.scale = (int32_t)tg_unzigzag((uint32_t)f.num); break;
        case FIXED64(7): h.zero_count = f.num; break;
        case BYTES(8): TG_TRY(read_buckets(r, &f, &pos, err)); break;
        case BYTES(9): TG_TRY(read_buckets(r, &f, &neg, err)); break;
        case VARINT(10): out->flags = (uint32_t)f.num; break;
        case BYTES(TG_OTLP_EXP_HISTOGRAM_EXEMPLARS): out->n_exemplars++; break;
        case FIXED64(12):
            h.min = tg_bits_double(f.num);
            h.has_min = true;
            break;
        case FIXED64(13):
            h.max = tg_bits_double(f.num);
            h.has_max = true;
            break;
        case FIXED64(14): h.zero_threshold = tg_bits_double(f.num); break;
        default: TG_TRY(other_field(r, &f, 0x7ffe, what, err));
        }
    }
    if (out->flags & TG_OTLP_FLAG_NO_RECORDED_VALUE) return TG_OK;
    struct tg_exp_histogram *const keep = tg_arena_alloc(r->arena, sizeof(*keep));
    pos.counts = tg_arena_alloc(r->arena, pos.n * 8);
    neg.counts = tg_arena_alloc(r->arena, neg.n * 8);
    if (!keep || !pos.counts || !neg.counts) return no_memory(err);
    pos.n = neg.n = 0;
    w = tg_protobuf_wire_of(msg, len);
    while (w.p < w.end && tg_protobuf_wire_next(&w, &f)) {
        if (f.tag == BYTES(8)) TG_TRY(read_buckets(r, &f, &pos, err));
        if (f.tag == BYTES(9)) TG_TRY(read_buckets(r, &f, &neg, err));
    }
    h.pos_offset = pos.offset;
    h.n_pos = (uint32_t)pos.n;
    h.pos = pos.counts;
    h.neg_offset = neg.offset;
    h.n_neg = (uint32_t)neg.n;
    h.neg = neg.counts;
    TG_TRY(check_exp_histogram(&h, err));
    *keep = h;
    out->type = TG_VALUE_EXP_HISTOGRAM;
    out->value.exp_histogram = keep;
    return TG_OK;
}

/* --- summaries --- */

static enum tg_code read_quantile(struct tg_otlp_reader *r,
                                  const struct tg_protobuf_wire_field *msg, struct tg_quantile *q,
                                  struct tg_err *err)
{
    static const char what[] = "summary quantile";
    struct tg_protobuf_wire w = tg_protobuf_wire_of(msg->data, msg->len);
    *q = (struct tg_quantile){.quantile = 0};
    while (w.p < w.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&w, &f)) return malformed(r, &w, what, err);
        switch (f.tag) {
        case FIXED64(1): q->quantile = tg_bits_double(f.num); break;
        case FIXED64(2): q->value = tg_bits_double(f.num); break;
        default: TG_TRY(other_field(r, &f, 0x6, what, err));
        }
    }
    return TG_OK;
}

enum tg_code tg_otlp_parse_summary(struct tg_otlp_reader *r, const uint8_t *msg, size_t len,
                                   struct tg_otlp_point *out, struct tg_err *err)
{
    static const char what[] = "summary point";
    struct tg_summary s = {.count = 0};
    struct tg_protobuf_wire w = tg_protobuf_wire_of(msg, len);
    struct tg_protobuf_wire_field f = {.tag = 0};
    while (w.p < w.end) {
        if (!tg_protobuf_wire_next(&w, &f)) return malformed(r, &w, what, err);
        switch (f.tag) {
        case FIXED64(2): out->start_ns = f.num; break;
        case FIXED64(3): out->ts_ns = f.num; break;
        case FIXED64(4): s.count = f.num; break;
        case FIXED64(5): s.sum = tg_bits_double(f.num); break;
        case BYTES(6): s.n_quantiles++; break;
        case BYTES(TG_OTLP_SUMMARY_ATTRIBUTES):
            tg_identity_run_add(&out->attributes, f.start, w.p);
            break;
        case VARINT(8): out->flags = (uint32_t)f.num; break;
        default: TG_TRY(other_field(r, &f, 0x1fc, what, err));
        }
    }
    const bool has_value = !(out->flags & TG_OTLP_FLAG_NO_RECORDED_VALUE);
    if (!has_value && s.n_quantiles == 0) return TG_OK;
    struct tg_summary *const keep = tg_arena_alloc(r->arena, sizeof(*keep));
    struct tg_quantile *const q = tg_arena_alloc(r->arena, s.n_quantiles * sizeof(*q));
    if (!keep || !q) return no_memory(err);
    uint32_t n = 0;
    w = tg_protobuf_wire_of(msg, len);
    while (w.p < w.end && tg_protobuf_wire_next(&w, &f)) {
        if (f.tag != BYTES(6)) continue;
        TG_TRY(read_quantile(r, &f, &q[n], err));
        n++;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!(q[i].quantile >= 0 && q[i].quantile <= 1))
            return tg_fail(err, TG_ERR_INVALID, "a summary's quantile %g is outside 0..1",
                           q[i].quantile);
    if (!has_value) { /* which quantiles end is all that it says */
        s.count = 0;
        s.sum = 0;
        for (uint32_t i = 0; i < n; i++) q[i].value = 0;
    }
    s.quantiles = q;
    *keep = s;
    out->type = TG_VALUE_SUMMARY;
    out->value.summary = keep;
    return TG_OK;
}

/* --- exemplars --- */

enum { ODD_ID_MAX = 256 }; /* bytes */

/* An id of an exemplar as it was sent; len 0 = none, or all zero, which is none. */
struct sent_id {
    const char *key;
    const uint8_t *data;
    size_t len;
};

static void read_id(struct sent_id *id, const struct tg_protobuf_wire_field *f)
{
    id->data = f->data;
    id->len = 0;
    for (size_t i = 0; i < f->len; i++)
        if (f->data[i]) id->len = f->len;
}

/* Copies the strings of `tags` (which lie in the scratch arena) to where the point lives; the ids
 * go before them, in hexadecimal digits. */
static enum tg_code keep_labels(struct tg_otlp_reader *r, const struct tg_tags *tags,
                                const struct sent_id ids[2], struct tg_exemplar *e,
                                struct tg_err *err)
{
    static const char digits[] = "0123456789abcdef";
    size_t bytes = 0;
    for (uint32_t i = 0; i < tags->n; i++)
        bytes += (size_t)tags->items[i].key_len + tags->items[i].value_len;
    for (unsigned i = 0; i < 2; i++) bytes += 2 * ids[i].len;
    struct tg_string *const labels =
        tg_arena_alloc(r->arena, ((size_t)tags->n + 2) * 2 * sizeof(*labels));
    char *text = tg_arena_alloc(r->arena, bytes);
    if (!labels || !text) return no_memory(err);
    uint32_t n = 0;
    for (unsigned i = 0; i < 2; i++) {
        if (ids[i].len == 0) continue;
        labels[2 * n] = (struct tg_string){ids[i].key, (uint32_t)strlen(ids[i].key)};
        labels[2 * n + 1] = (struct tg_string){text, (uint32_t)(2 * ids[i].len)};
        for (size_t k = 0; k < ids[i].len; k++) {
            *text++ = digits[ids[i].data[k] >> 4];
            *text++ = digits[ids[i].data[k] & 15];
        }
        n++;
    }
    for (uint32_t i = 0; i < tags->n; i++, n++) {
        const struct tg_tag *t = &tags->items[i];
        labels[2 * n] = (struct tg_string){text, t->key_len};
        if (t->key_len) memcpy(text, t->key, t->key_len);
        text += t->key_len;
        labels[2 * n + 1] = (struct tg_string){text, t->value_len};
        if (t->value_len) memcpy(text, t->value, t->value_len);
        text += t->value_len;
    }
    e->labels = labels;
    e->n_labels = n;
    return TG_OK;
}

/* Ids of OpenTelemetry's length are the exemplar's; others, and a span without a trace, are left in
 * `ids` to become labels. */
static void take_ids(struct sent_id ids[2], struct tg_exemplar *e)
{
    struct sent_id *const span = &ids[0];
    struct sent_id *const trace = &ids[1];
    if (trace->len != sizeof(e->trace_id)) return;
    memcpy(e->trace_id, trace->data, sizeof(e->trace_id));
    e->has_trace = true;
    trace->len = 0;
    if (span->len != sizeof(e->span_id)) return;
    memcpy(e->span_id, span->data, sizeof(e->span_id));
    span->len = 0;
}

static enum tg_code read_exemplar(struct tg_otlp_reader *r,
                                  const struct tg_protobuf_wire_field *msg, struct tg_exemplar *e,
                                  bool *usable, struct tg_err *err)
{
    static const char what[] = "exemplar";
    struct tg_protobuf_wire w = tg_protobuf_wire_of(msg->data, msg->len);
    bool has_value = false;
    bool has_labels = false;
    struct sent_id ids[2] = {{.key = "span_id"}, {.key = "trace_id"}};
    uint64_t ts = 0;
    *e = (struct tg_exemplar){.ts_ns = 0};
    while (w.p < w.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&w, &f)) return malformed(r, &w, what, err);
        switch (f.tag) {
        case FIXED64(2): ts = f.num; break;
        case FIXED64(3):
            e->value = tg_bits_double(f.num);
            e->is_int = false;
            has_value = true;
            break;
        case FIXED64(6):
            e->value = (double)(int64_t)f.num;
            e->is_int = true;
            has_value = true;
            break;
        case BYTES(4): read_id(&ids[0], &f); break;
        case BYTES(5): read_id(&ids[1], &f); break;
        case BYTES(TG_OTLP_EXEMPLAR_ATTRIBUTES): has_labels = true; break;
        default: TG_TRY(other_field(r, &f, 0xfc, what, err));
        }
    }
    e->ts_ns = (int64_t)ts;
    *usable = has_value && ts <= INT64_MAX && ids[0].len <= ODD_ID_MAX && ids[1].len <= ODD_ID_MAX;
    take_ids(ids, e);
    if (!*usable || (!has_labels && ids[0].len == 0 && ids[1].len == 0)) return TG_OK;
    struct tg_otlp_attr a = {.limits = r->limits, .arena = r->scratch};
    struct tg_tags tags = {.n = 0};
    enum tg_code code = TG_OK;
    if (has_labels)
        code = tg_otlp_key_values(&a, msg->data, msg->len, TG_OTLP_EXEMPLAR_ATTRIBUTES,
                                  TG_ORIGIN_POINT, &tags, err);
    for (uint32_t i = 0; code == TG_OK && i < tags.n; i++)
        *usable &= tg_utf8_valid(tags.items[i].key, tags.items[i].key_len) &&
                   tg_utf8_valid(tags.items[i].value, tags.items[i].value_len);
    if (code == TG_OK && *usable) code = keep_labels(r, &tags, ids, e, err);
    if (code == TG_ERR_MALFORMED) r->bad = a.bad;
    tg_arena_reset(r->scratch);
    return code;
}

enum tg_code tg_otlp_parse_exemplars(struct tg_otlp_reader *r, const uint8_t *msg, size_t len,
                                     uint32_t number, const struct tg_exemplars **out,
                                     struct tg_err *err)
{
    struct tg_protobuf_wire w = tg_protobuf_wire_of(msg, len);
    struct tg_protobuf_wire_field f = {.tag = 0};
    uint32_t n = 0;
    *out = NULL;
    while (w.p < w.end && tg_protobuf_wire_next(&w, &f)) n += f.tag == BYTES(number);
    if (n == 0) return TG_OK;
    struct tg_exemplars *const list = tg_arena_alloc(r->arena, sizeof(*list));
    struct tg_exemplar *const items = tg_arena_alloc(r->arena, n * sizeof(*items));
    if (!list || !items) return no_memory(err);
    n = 0;
    w = tg_protobuf_wire_of(msg, len);
    while (w.p < w.end && tg_protobuf_wire_next(&w, &f)) {
        if (f.tag != BYTES(number)) continue;
        bool usable = false;
        TG_TRY(read_exemplar(r, &f, &items[n], &usable, err));
        n += usable;
    }
    *list = (struct tg_exemplars){.n = n, .items = items};
    if (n) *out = list;
    return TG_OK;
}
