#include "core/protocol/native_histogram.h"

#include <math.h>

#include "core/base/double_bits.h"
#include "core/protocol/protobuf_wire.h"

#define VARINT(n)  TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_VARINT)
#define FIXED64(n) TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_FIXED64)
#define BYTES(n)   TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_BYTES)

enum {
    MIN_SCHEMA = -4,
    MAX_SCHEMA = 8,
    /* fields; deltas and float counts of a sign follow its spans */
    NEGATIVE_SPANS = 8,
    POSITIVE_SPANS = 11,
    RESET_HINT = 14,
    TIMESTAMP = 15,
    CUSTOM_VALUES = 16,
};

/* --- decoding: what is there --- */

struct side { /* of one sign */
    const char *name;
    uint32_t spans;      /* its field */
    uint64_t n_spans;    /* seen */
    uint64_t n_deltas;   /* of integers */
    uint64_t n_counts;   /* of floats */
    uint64_t n_in_spans; /* buckets */
    int64_t first, end;  /* indexes covered, when n_in_spans > 0 */
    int64_t next;        /* while walking spans */
    uint64_t back_at;    /* number of a span that goes back, from 1; 0 = none */
    int32_t back_by;
    bool is_wide, is_outside; /* over the limit; indexes that are no int32: not walked further */
};

struct scan {
    struct side neg, pos;
    uint64_t count, zero_count; /* integers, or bits of doubles */
    uint64_t sum, zero_threshold;
    uint64_t n_custom;
    uint64_t hint;
    int32_t schema;
    bool is_float, is_zero_float;
};

struct reader {
    const uint8_t *msg;
    size_t len;
    struct tg_arena *arena;
    struct tg_native *out;
    struct tg_err *err;
};

static enum tg_code malformed_at(const struct reader *r, const uint8_t *at, const char *why)
{
    r->out->bad = at;
    return tg_fail(r->err, TG_ERR_MALFORMED, "%s", why);
}

static enum tg_code no_memory(const struct reader *r)
{
    return tg_fail(r->err, TG_ERR_NOMEM,
                   "out of memory: the batch's arena or the memory limit is used up");
}

/* A field of ours with another wire type is an error; unknown ones pass. */
static enum tg_code other_field(const struct reader *r, const struct tg_protobuf_wire_field *f,
                                uint32_t known, const char *what)
{
    const uint32_t number = TG_PROTOBUF_WIRE_NUMBER(f->tag);
    if (number > 31 || !(known >> number & 1)) return TG_OK;
    r->out->bad = f->start;
    return tg_fail(r->err, TG_ERR_MALFORMED, "%s: field %u has wire type %u", what, number,
                   f->tag & 7);
}

static enum tg_code read_span(const struct reader *r, const struct tg_protobuf_wire_field *msg,
                              int32_t *offset, uint32_t *len)
{
    struct tg_protobuf_wire in = tg_protobuf_wire_of(msg->data, msg->len);
    *offset = 0;
    *len = 0;
    while (in.p < in.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&in, &f))
            return malformed_at(r, in.p, tg_protobuf_wire_why(&in));
        if (f.tag == VARINT(1))
            *offset = (int32_t)tg_unzigzag((uint32_t)f.num);
        else if (f.tag == VARINT(2))
            *len = (uint32_t)f.num;
        else
            TG_TRY(other_field(r, &f, 0x6, "histogram span"));
    }
    return TG_OK;
}

static enum tg_code count_span(const struct reader *r, const struct tg_protobuf_wire_field *f,
                               struct side *s)
{
    int32_t offset;
    uint32_t len;
    TG_TRY(read_span(r, f, &offset, &len));
    s->n_spans++;
    if (s->n_spans > 1 && offset < 0 && !s->back_at) {
        s->back_at = s->n_spans;
        s->back_by = offset;
    }
    if (s->is_wide || s->is_outside || s->back_at) return TG_OK;
    s->next += offset; /* stays within a few int32: what follows ends it */
    if (len > 0) {
        if (s->n_in_spans == 0) s->first = s->next;
        s->next += len;
        s->n_in_spans += len;
        s->end = s->next;
    }
    /* (base^(i-1), base^i] there is (base^i, base^(i+1)] here: an index less */
    s->is_outside = s->next > (int64_t)INT32_MAX + 1 || (s->n_in_spans && s->first <= INT32_MIN);
    s->is_wide = s->n_in_spans && s->end - s->first > TG_NATIVE_MAX_BUCKETS;
    return TG_OK;
}

static enum tg_code count_deltas(const struct reader *r, const struct tg_protobuf_wire_field *f,
                                 uint64_t *n)
{
    size_t in_field = 1;
    if ((f->tag & 7) == TG_PROTOBUF_WIRE_BYTES &&
        !tg_protobuf_wire_count_varints(f->data, f->len, &in_field))
        return malformed_at(r, f->start, "histogram: packed deltas are cut short");
    *n += in_field;
    return TG_OK;
}

static enum tg_code count_doubles(const struct reader *r, const struct tg_protobuf_wire_field *f,
                                  uint64_t *n)
{
    if ((f->tag & 7) != TG_PROTOBUF_WIRE_BYTES) {
        ++*n;
        return TG_OK;
    }
    if (f->len % 8) return malformed_at(r, f->start, "histogram: packed doubles are cut short");
    *n += f->len / 8;
    return TG_OK;
}

static enum tg_code scan(const struct reader *r, struct scan *s)
{
    struct tg_protobuf_wire in = tg_protobuf_wire_of(r->msg, r->len);
    while (in.p < in.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&in, &f))
            return malformed_at(r, in.p, tg_protobuf_wire_why(&in));
        switch (f.tag) {
        case VARINT(1):
        case FIXED64(2): /* one of; the last one counts */
            s->count = f.num;
            s->is_float = f.tag == FIXED64(2);
            break;
        case FIXED64(3): s->sum = f.num; break;
        case VARINT(4): s->schema = (int32_t)tg_unzigzag((uint32_t)f.num); break;
        case FIXED64(5): s->zero_threshold = f.num; break;
        case VARINT(6):
        case FIXED64(7):
            s->zero_count = f.num;
            s->is_zero_float = f.tag == FIXED64(7);
            break;
        case BYTES(NEGATIVE_SPANS): TG_TRY(count_span(r, &f, &s->neg)); break;
        case VARINT(NEGATIVE_SPANS + 1):
        case BYTES(NEGATIVE_SPANS + 1): TG_TRY(count_deltas(r, &f, &s->neg.n_deltas)); break;
        case FIXED64(NEGATIVE_SPANS + 2):
        case BYTES(NEGATIVE_SPANS + 2): TG_TRY(count_doubles(r, &f, &s->neg.n_counts)); break;
        case BYTES(POSITIVE_SPANS): TG_TRY(count_span(r, &f, &s->pos)); break;
        case VARINT(POSITIVE_SPANS + 1):
        case BYTES(POSITIVE_SPANS + 1): TG_TRY(count_deltas(r, &f, &s->pos.n_deltas)); break;
        case FIXED64(POSITIVE_SPANS + 2):
        case BYTES(POSITIVE_SPANS + 2): TG_TRY(count_doubles(r, &f, &s->pos.n_counts)); break;
        case VARINT(RESET_HINT): s->hint = f.num; break;
        case VARINT(TIMESTAMP): r->out->ms = f.num; break;
        case FIXED64(CUSTOM_VALUES):
        case BYTES(CUSTOM_VALUES): TG_TRY(count_doubles(r, &f, &s->n_custom)); break;
        default: TG_TRY(other_field(r, &f, 0x1fffe, "histogram"));
        }
    }
    return TG_OK;
}

/* --- decoding: what is refused --- */

static bool is_custom(const struct scan *s)
{
    return s->schema == TG_SCALE_CUSTOM;
}

static enum tg_code check_side(const struct reader *r, const struct scan *s, const struct side *b)
{
    if (b->back_at)
        return tg_fail(r->err, TG_ERR_INVALID,
                       "a native histogram's %s spans overlap: span %llu has offset %d, and only "
                       "the first may be negative",
                       b->name, (unsigned long long)b->back_at, b->back_by);
    if (b->is_outside)
        return tg_fail(r->err, TG_ERR_INVALID,
                       "a native histogram's %s spans name buckets outside -2^31 + 1 to 2^31 - 1",
                       b->name);
    if (b->is_wide)
        return tg_fail(r->err, TG_ERR_TOO_LARGE,
                       "a native histogram's %s spans reach over more than %d buckets; a lower "
                       "resolution (schema) has fewer",
                       b->name, TG_NATIVE_MAX_BUCKETS);
    const uint64_t n = s->is_float ? b->n_counts : b->n_deltas;
    const uint64_t n_others = s->is_float ? b->n_deltas : b->n_counts;
    if (n != b->n_in_spans)
        return tg_fail(r->err, TG_ERR_INVALID,
                       "a native histogram has %llu %s bucket %s for spans of %llu buckets",
                       (unsigned long long)n, b->name, s->is_float ? "counts" : "deltas",
                       (unsigned long long)b->n_in_spans);
    if (n_others)
        return tg_fail(r->err, TG_ERR_INVALID, "a native histogram with %s count has %s bucket %s",
                       s->is_float ? "a float" : "an integer", b->name,
                       s->is_float ? "deltas" : "counts");
    return TG_OK;
}

static enum tg_code check_custom(const struct reader *r, const struct scan *s)
{
    const bool is_zero = s->is_zero_float ? tg_bits_double(s->zero_count) == 0 : s->zero_count == 0;
    if (!is_zero || tg_bits_double(s->zero_threshold) != 0 || s->neg.n_spans || s->neg.n_in_spans)
        return tg_fail(r->err, TG_ERR_INVALID,
                       "a native histogram with custom buckets has a zero bucket or negative "
                       "buckets");
    if (s->n_custom >= TG_NATIVE_MAX_BUCKETS)
        return tg_fail(r->err, TG_ERR_TOO_LARGE, "a native histogram with over %d custom buckets",
                       TG_NATIVE_MAX_BUCKETS);
    if (s->pos.n_in_spans && (s->pos.first < 0 || (uint64_t)s->pos.end > s->n_custom + 1))
        return tg_fail(r->err, TG_ERR_INVALID,
                       "a native histogram with %llu custom bounds has spans over buckets %lld to "
                       "%lld",
                       (unsigned long long)s->n_custom, (long long)s->pos.first,
                       (long long)s->pos.end - 1);
    return TG_OK;
}

static enum tg_code check(const struct reader *r, const struct scan *s)
{
    const double threshold = tg_bits_double(s->zero_threshold);
    const bool has_zero =
        s->is_zero_float ? tg_bits_double(s->zero_count) != 0 : s->zero_count != 0;
    if (has_zero && s->is_float != s->is_zero_float)
        return tg_fail(
            r->err, TG_ERR_INVALID, "a native histogram's count is %s, but its zero_count is %s",
            s->is_float ? "a float" : "an integer", s->is_zero_float ? "a float" : "an integer");
    if (!is_custom(s) && (s->schema < MIN_SCHEMA || s->schema > MAX_SCHEMA))
        return tg_fail(r->err, TG_ERR_INVALID,
                       "a native histogram with schema %d, known are -4..8 and -53 (custom "
                       "buckets)",
                       s->schema);
    TG_TRY(check_side(r, s, &s->neg));
    TG_TRY(check_side(r, s, &s->pos));
    if (is_custom(s)) return check_custom(r, s);
    if (s->n_custom)
        return tg_fail(r->err, TG_ERR_INVALID,
                       "a native histogram with schema %d has custom bounds (schema -53)",
                       s->schema);
    if (!(threshold >= 0))
        return tg_fail(r->err, TG_ERR_INVALID, "a native histogram's zero_threshold is %g",
                       threshold);
    return TG_OK;
}

static enum tg_code check_float(const struct reader *r, const struct scan *s)
{
    const double count = tg_bits_double(s->count);
    const double zero = s->is_zero_float ? tg_bits_double(s->zero_count) : 0;
    if (count < 0 || zero < 0)
        return tg_fail(r->err, TG_ERR_INVALID, "a native histogram's %s is %g",
                       count < 0 ? "count" : "zero_count", count < 0 ? count : zero);
    return TG_OK;
}

/* Observations of NaN are in no bucket; they show in the sum. */
static bool adds_up(uint64_t count, uint64_t in_buckets, double sum)
{
    return isnan(sum) ? count >= in_buckets : count == in_buckets;
}

static enum tg_code check_count(const struct reader *r, const struct scan *s, uint64_t in_buckets,
                                bool over)
{
    if (!over && adds_up(s->count, in_buckets, tg_bits_double(s->sum))) return TG_OK;
    if (over)
        return tg_fail(r->err, TG_ERR_INVALID,
                       "a native histogram's buckets hold more than 2^64 - 1 observations");
    return tg_fail(r->err, TG_ERR_INVALID,
                   "a native histogram's count is %llu, but its buckets hold %llu observations",
                   (unsigned long long)s->count, (unsigned long long)in_buckets);
}

/* --- decoding: the buckets --- */

/* The elements of a repeated field in order, packed or not. The scan has checked the bytes; a
 * varint over 10 bytes is the one thing it lets through. */
struct elements {
    struct tg_protobuf_wire fields;
    const uint8_t *p, *end; /* in a packed field */
    uint32_t number;
    uint32_t wire_type; /* of one element */
};

static bool next_element(struct elements *e, uint64_t *out)
{
    while (e->p == e->end) {
        struct tg_protobuf_wire_field f;
        if (e->fields.p == e->fields.end || !tg_protobuf_wire_next(&e->fields, &f)) return false;
        if (TG_PROTOBUF_WIRE_NUMBER(f.tag) != e->number) continue;
        if ((f.tag & 7) == e->wire_type) {
            *out = f.num;
            return true;
        }
        e->p = f.data;
        e->end = f.data + f.len;
    }
    if (e->wire_type == TG_PROTOBUF_WIRE_VARINT) return tg_varint_get(&e->p, e->end, out) != 0;
    memcpy(out, e->p, 8);
    e->p += 8;
    return true;
}

static struct elements elements_of(const struct reader *r, uint32_t number, uint32_t wire_type)
{
    return (struct elements){
        .fields = tg_protobuf_wire_of(r->msg, r->len), .number = number, .wire_type = wire_type};
}

struct dense {
    void *counts; /* uint64_t or double */
    uint32_t n;
    uint64_t sum; /* of integers */
    bool over;    /* it passed 2^64 - 1 */
};

/* Spreads the counts of one sign over an array that begins at index `from`. All bits zero is the
 * number 0 as an integer and as a double. */
static enum tg_code spread(const struct reader *r, const struct side *b, bool is_float,
                           int64_t from, uint32_t width, struct dense *out)
{
    *out = (struct dense){.n = width};
    if (width == 0) return TG_OK;
    uint64_t *const dense = tg_arena_calloc(r->arena, width, sizeof(*dense));
    if (!dense) return no_memory(r);
    out->counts = dense;
    struct elements e = elements_of(r, b->spans + (is_float ? 2 : 1),
                                    is_float ? TG_PROTOBUF_WIRE_FIXED64 : TG_PROTOBUF_WIRE_VARINT);
    struct tg_protobuf_wire in = tg_protobuf_wire_of(r->msg, r->len);
    int64_t index = 0;
    int64_t count = 0;
    while (in.p < in.end) {
        struct tg_protobuf_wire_field f;
        int32_t gap;
        uint32_t span;
        if (!tg_protobuf_wire_next(&in, &f)) break;
        if (f.tag != BYTES(b->spans)) continue;
        TG_TRY(read_span(r, &f, &gap, &span));
        for (index += gap; span > 0; span--, index++) {
            uint64_t v;
            bool ok = next_element(&e, &v);
            if (ok && is_float) {
                ok = !(tg_bits_double(v) < 0);
            } else if (ok) {
                ok = !__builtin_add_overflow(count, tg_unzigzag(v), &count) && count >= 0;
                v = (uint64_t)count;
                out->over |= __builtin_add_overflow(out->sum, v, &out->sum);
            }
            if (!ok)
                return tg_fail(r->err, TG_ERR_INVALID,
                               "a native histogram's %s bucket %lld has a count below zero or over "
                               "2^63 - 1",
                               b->name, (long long)index);
            dense[index - from] = v;
        }
    }
    return TG_OK;
}

static enum tg_code read_bounds(const struct reader *r, const struct scan *s, const double **out)
{
    double *const bounds = tg_arena_alloc(r->arena, (size_t)s->n_custom * sizeof(*bounds));
    if (!bounds) return no_memory(r);
    struct elements e = elements_of(r, CUSTOM_VALUES, TG_PROTOBUF_WIRE_FIXED64);
    uint64_t bits;
    for (uint64_t i = 0; i < s->n_custom && next_element(&e, &bits); i++) {
        bounds[i] = tg_bits_double(bits);
        if (isnan(bounds[i]) || (i > 0 && bounds[i] <= bounds[i - 1]) ||
            (isinf(bounds[i]) && bounds[i] > 0))
            return tg_fail(r->err, TG_ERR_INVALID,
                           "a native histogram's custom bound %llu is %g: bounds are numbers that "
                           "ascend, +Inf is not among them",
                           (unsigned long long)i + 1, bounds[i]);
    }
    *out = bounds;
    return TG_OK;
}

static uint32_t width_of(const struct side *b)
{
    return b->n_in_spans ? (uint32_t)(b->end - b->first) : 0;
}

static int32_t offset_of(const struct side *b)
{
    return b->n_in_spans ? (int32_t)(b->first - 1) : 0;
}

static enum tg_code make_exponential(const struct reader *r, const struct scan *s)
{
    struct dense pos;
    struct dense neg;
    TG_TRY(spread(r, &s->pos, false, s->pos.first, width_of(&s->pos), &pos));
    TG_TRY(spread(r, &s->neg, false, s->neg.first, width_of(&s->neg), &neg));
    uint64_t sum = s->is_zero_float ? 0 : s->zero_count;
    const uint64_t zero_count = sum;
    bool over = pos.over || neg.over;
    over |= __builtin_add_overflow(sum, pos.sum, &sum);
    over |= __builtin_add_overflow(sum, neg.sum, &sum);
    TG_TRY(check_count(r, s, sum, over));
    struct tg_exp_histogram *h = tg_arena_alloc(r->arena, sizeof(*h));
    if (!h) return no_memory(r);
    *h = (struct tg_exp_histogram){
        .count = s->count,
        .zero_count = zero_count,
        .sum = tg_bits_double(s->sum),
        .zero_threshold = tg_bits_double(s->zero_threshold),
        .has_sum = true,
        .scale = s->schema,
        .pos_offset = offset_of(&s->pos),
        .neg_offset = offset_of(&s->neg),
        .n_pos = pos.n,
        .n_neg = neg.n,
        .pos = pos.counts,
        .neg = neg.counts,
    };
    r->out->type = TG_VALUE_EXP_HISTOGRAM;
    r->out->value.exp_histogram = h;
    return TG_OK;
}

static enum tg_code make_explicit(const struct reader *r, const struct scan *s)
{
    struct dense pos;
    const double *bounds;
    TG_TRY(read_bounds(r, s, &bounds));
    TG_TRY(spread(r, &s->pos, false, 0, (uint32_t)s->n_custom + 1, &pos));
    TG_TRY(check_count(r, s, pos.sum, pos.over));
    struct tg_histogram *h = tg_arena_alloc(r->arena, sizeof(*h));
    if (!h) return no_memory(r);
    *h = (struct tg_histogram){
        .count = s->count,
        .sum = tg_bits_double(s->sum),
        .has_sum = true,
        .n_bounds = (uint32_t)s->n_custom,
        .n_buckets = pos.n,
        .bounds = bounds,
        .buckets = pos.counts,
    };
    r->out->type = TG_VALUE_HISTOGRAM;
    r->out->value.histogram = h;
    return TG_OK;
}

/* Prometheus does not hold the count of floats to the sum of the buckets, as that is not exact. */
static enum tg_code make_float(const struct reader *r, const struct scan *s)
{
    struct dense pos;
    struct dense neg;
    const double *bounds = NULL;
    const bool custom = is_custom(s);
    TG_TRY(check_float(r, s));
    if (custom) TG_TRY(read_bounds(r, s, &bounds));
    TG_TRY(spread(r, &s->pos, true, custom ? 0 : s->pos.first,
                  custom ? (uint32_t)s->n_custom + 1 : width_of(&s->pos), &pos));
    TG_TRY(spread(r, &s->neg, true, s->neg.first, width_of(&s->neg), &neg));
    struct tg_float_histogram *h = tg_arena_alloc(r->arena, sizeof(*h));
    if (!h) return no_memory(r);
    *h = (struct tg_float_histogram){
        .count = tg_bits_double(s->count),
        .zero_count = s->is_zero_float ? tg_bits_double(s->zero_count) : 0,
        .sum = tg_bits_double(s->sum),
        .zero_threshold = tg_bits_double(s->zero_threshold),
        .scale = s->schema,
        .pos_offset = custom ? 0 : offset_of(&s->pos),
        .neg_offset = offset_of(&s->neg),
        .n_pos = pos.n,
        .n_neg = neg.n,
        .n_bounds = custom ? (uint32_t)s->n_custom : 0,
        .pos = pos.counts,
        .neg = neg.counts,
        .bounds = bounds,
    };
    r->out->type = TG_VALUE_FLOAT_HISTOGRAM;
    r->out->value.float_histogram = h;
    return TG_OK;
}

enum tg_code tg_native_decode(const uint8_t *msg, size_t len, struct tg_arena *arena,
                              struct tg_native *out, struct tg_err *err)
{
    const struct reader r = {.msg = msg, .len = len, .arena = arena, .out = out, .err = err};
    struct scan s = {
        .neg = {.name = "negative", .spans = NEGATIVE_SPANS},
        .pos = {.name = "positive", .spans = POSITIVE_SPANS},
    };
    *out = (struct tg_native){.type = TG_VALUE_NONE};
    TG_TRY(scan(&r, &s));
    if (s.sum == TG_REMOTE_WRITE_STALE_NAN) {
        out->flags = TG_POINT_NO_VALUE;
        return TG_OK;
    }
    TG_TRY(check(&r, &s));
    if (s.hint <= TG_POINT_RESET_MASK >> TG_POINT_RESET_SHIFT)
        out->flags = (uint8_t)(s.hint << TG_POINT_RESET_SHIFT);
    if (s.is_float) return make_float(&r, &s);
    return is_custom(&s) ? make_explicit(&r, &s) : make_exponential(&r, &s);
}

/* --- encoding --- */

/* Walks the buckets of one sign, merged down by 2^shift, as Prometheus indexes. */
struct buckets {
    const uint64_t *counts; /* or */
    const double *floats;
    uint32_t n, at;
    int64_t offset;
    unsigned shift;
    int add; /* from our index to theirs */
};

/* The next bucket that is not empty; *count is an integer or the bits of a double. Counts that sum
 * past 2^64 - 1 stay there. */
static bool next_bucket(struct buckets *b, int64_t *index, uint64_t *count)
{
    while (b->at < b->n && (b->floats || b->counts)) {
        const int64_t merged = (b->offset + b->at) >> b->shift; /* floor, as >> is on GCC/Clang */
        uint64_t sum = 0;
        if (b->floats) {
            const double v = b->floats[b->at++];
            if (v == 0) continue;
            sum = tg_double_bits(v);
        } else {
            while (b->at < b->n && (b->offset + b->at) >> b->shift == merged)
                if (__builtin_add_overflow(sum, b->counts[b->at++], &sum)) sum = UINT64_MAX;
            if (sum == 0) continue;
        }
        *index = merged + b->add;
        *count = sum;
        return true;
    }
    return false;
}

/* Empty buckets that are written out rather than starting a span: a span takes 4 bytes or so, an
 * empty bucket one, of floats eight. */
enum { GAP_MAX = 2 };

static enum tg_code put_count(struct tg_buf *out, bool is_float, uint64_t count, uint64_t *before)
{
    TG_TRY(tg_buf_reserve(out, TG_VARINT_MAX));
    if (is_float) {
        tg_buf_put_u64(out, count);
        return TG_OK;
    }
    tg_buf_put_varint(out, tg_zigzag((int64_t)(count - *before)));
    *before = count;
    return TG_OK;
}

/* Spans into field `number`, deltas or floats into one of the next two. Two passes over the
 * buckets. */
static enum tg_code put_buckets(struct tg_buf *out, uint32_t number, const struct buckets *all)
{
    struct buckets b = *all;
    const bool is_float = b.floats != NULL;
    const int64_t gap_max = is_float ? 0 : GAP_MAX;
    int64_t index;
    uint64_t count;
    if (!next_bucket(&b, &index, &count)) return TG_OK;
    int64_t span_end = 0; /* of the span before; the first offset counts from 0 */
    for (bool more = true; more;) {
        const int64_t from = index;
        int64_t end = index + 1;
        while ((more = next_bucket(&b, &index, &count)) && index - end <= gap_max) end = index + 1;
        size_t span;
        TG_TRY(tg_protobuf_wire_open(out, number, &span));
        TG_TRY(tg_buf_reserve(out, 32));
        if (from != span_end)
            tg_protobuf_wire_put_varint(out, 1, (uint32_t)tg_zigzag(from - span_end));
        tg_protobuf_wire_put_varint(out, 2, (uint64_t)(end - from));
        TG_TRY(tg_protobuf_wire_close(out, span));
        span_end = end;
    }
    size_t packed;
    uint64_t before = 0;
    int64_t end = INT64_MIN; /* after the bucket before */
    b = *all;
    TG_TRY(tg_protobuf_wire_open(out, number + (is_float ? 2 : 1), &packed));
    while (next_bucket(&b, &index, &count)) {
        const bool is_near = end != INT64_MIN && index - end <= gap_max;
        for (; is_near && end < index; end++) TG_TRY(put_count(out, is_float, 0, &before));
        TG_TRY(put_count(out, is_float, count, &before));
        end = index + 1;
    }
    return tg_protobuf_wire_close(out, packed);
}

static bool sum_of(const uint64_t *counts, uint32_t n, uint64_t *sum)
{
    bool over = false;
    for (uint32_t i = 0; i < n; i++) over |= __builtin_add_overflow(*sum, counts[i], sum);
    return !over;
}

static bool is_consistent(const struct tg_exp_histogram *h)
{
    uint64_t sum = h->zero_count;
    return sum_of(h->pos, h->n_pos, &sum) && sum_of(h->neg, h->n_neg, &sum) &&
           adds_up(h->count, sum, h->has_sum ? h->sum : 0);
}

static void put_sum(struct tg_buf *out, bool has, double sum)
{
    tg_protobuf_wire_put_fixed64(out, 3, tg_double_bits(has ? sum : (double)NAN));
}

static void put_scale(struct tg_buf *out, int32_t schema, double zero_threshold)
{
    if (schema) tg_protobuf_wire_put_varint(out, 4, (uint32_t)tg_zigzag(schema));
    if (tg_double_bits(zero_threshold)) tg_protobuf_wire_put_double(out, 5, zero_threshold);
}

static enum tg_code put_bounds(struct tg_buf *out, const double *bounds, uint32_t n)
{
    if (n == 0) return TG_OK;
    TG_TRY(tg_buf_reserve(out, (size_t)n * 8 + 16));
    tg_protobuf_wire_put_bytes(out, CUSTOM_VALUES, bounds, (size_t)n * 8);
    return TG_OK;
}

static enum tg_code put_exponential(struct tg_buf *out, const struct tg_exp_histogram *h)
{
    if (h->scale < MIN_SCHEMA || !is_consistent(h)) return TG_ERR_UNSUPPORTED;
    const int32_t over = h->scale > MAX_SCHEMA ? h->scale - MAX_SCHEMA : 0;
    const unsigned shift = over > 40 ? 40 : (unsigned)over; /* int32 indexes are 0 or -1 by then */
    tg_protobuf_wire_put_varint(out, 1, h->count);
    put_sum(out, h->has_sum, h->sum);
    put_scale(out, h->scale - over, h->zero_threshold);
    tg_protobuf_wire_put_varint(out, 6, h->zero_count);
    struct buckets b = {
        .counts = h->neg, .n = h->n_neg, .offset = h->neg_offset, .shift = shift, .add = 1};
    TG_TRY(put_buckets(out, NEGATIVE_SPANS, &b));
    b.counts = h->pos;
    b.n = h->n_pos;
    b.offset = h->pos_offset;
    return put_buckets(out, POSITIVE_SPANS, &b);
}

static enum tg_code put_explicit(struct tg_buf *out, const struct tg_histogram *h)
{
    uint64_t sum = 0;
    if (h->n_buckets != h->n_bounds + 1 || !sum_of(h->buckets, h->n_buckets, &sum) ||
        !adds_up(h->count, sum, h->has_sum ? h->sum : 0))
        return TG_ERR_UNSUPPORTED;
    tg_protobuf_wire_put_varint(out, 1, h->count);
    put_sum(out, h->has_sum, h->sum);
    put_scale(out, TG_SCALE_CUSTOM, 0);
    const struct buckets b = {.counts = h->buckets, .n = h->n_buckets};
    TG_TRY(put_buckets(out, POSITIVE_SPANS, &b));
    return put_bounds(out, h->bounds, h->n_bounds);
}

static enum tg_code put_float(struct tg_buf *out, const struct tg_float_histogram *h)
{
    const bool custom = h->scale == TG_SCALE_CUSTOM;
    if (!custom && (h->scale < MIN_SCHEMA || h->scale > MAX_SCHEMA)) return TG_ERR_UNSUPPORTED;
    tg_protobuf_wire_put_double(out, 2, h->count);
    put_sum(out, true, h->sum);
    put_scale(out, h->scale, h->zero_threshold);
    tg_protobuf_wire_put_double(out, 7, h->zero_count);
    struct buckets b = {
        .floats = h->neg, .n = h->n_neg, .offset = h->neg_offset, .add = custom ? 0 : 1};
    TG_TRY(put_buckets(out, NEGATIVE_SPANS, &b));
    b.floats = h->pos;
    b.n = h->n_pos;
    b.offset = h->pos_offset;
    TG_TRY(put_buckets(out, POSITIVE_SPANS, &b));
    return put_bounds(out, h->bounds, h->n_bounds);
}

enum tg_code tg_native_encode(struct tg_buf *out, const struct tg_point *p, int64_t ms)
{
    const unsigned hint = (p->flags & TG_POINT_RESET_MASK) >> TG_POINT_RESET_SHIFT;
    TG_TRY(tg_buf_reserve(out, 96));
    switch (tg_point_value_type(p)) {
    case TG_VALUE_NONE: /* all but sum and time is unset */
        tg_protobuf_wire_put_varint(out, 1, 0);
        tg_protobuf_wire_put_fixed64(out, 3, TG_REMOTE_WRITE_STALE_NAN);
        tg_protobuf_wire_put_varint(out, 6, 0);
        break;
    case TG_VALUE_EXP_HISTOGRAM: TG_TRY(put_exponential(out, p->value.exp_histogram)); break;
    case TG_VALUE_HISTOGRAM: TG_TRY(put_explicit(out, p->value.histogram)); break;
    case TG_VALUE_FLOAT_HISTOGRAM: TG_TRY(put_float(out, p->value.float_histogram)); break;
    default: return TG_ERR_UNSUPPORTED;
    }
    TG_TRY(tg_buf_reserve(out, 16));
    if (hint) tg_protobuf_wire_put_varint(out, RESET_HINT, hint);
    tg_protobuf_wire_put_varint(out, TIMESTAMP, (uint64_t)ms);
    return TG_OK;
}
