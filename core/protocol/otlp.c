#include "core/protocol/otlp.h"

#include <stdio.h>

#include "core/protocol/otlp_attr.h"
#include "core/protocol/otlp_point.h"
#include "core/protocol/protobuf_wire.h"

#define VARINT(n)  TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_VARINT)
#define FIXED64(n) TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_FIXED64)
#define BYTES(n)   TG_PROTOBUF_WIRE_TAG(n, TG_PROTOBUF_WIRE_BYTES)

#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Field numbers of the levels above the points. */
enum {
    REQUEST_RESOURCE_METRICS = 1,
    RESOURCE_METRICS_RESOURCE = 1,
    RESOURCE_METRICS_SCOPE_METRICS = 2,
    SCOPE_METRICS_SCOPE = 1,
    SCOPE_METRICS_METRICS = 2,
    SCOPE_METRICS_SCHEMA_URL = 3,
    METRIC_NAME = 1,
    METRIC_DESCRIPTION = 2,
    METRIC_UNIT = 3,
    METRIC_GAUGE = 5,
    METRIC_SUM = 7,
    METRIC_HISTOGRAM = 9,
    METRIC_EXP_HISTOGRAM = 10,
    METRIC_SUMMARY = 11,
    METRIC_METADATA = 12,
    DATA_POINTS = 1,
    DATA_TEMPORALITY = 2,
    SUM_IS_MONOTONIC = 3,
};

enum {
    LOOKAHEAD = 12, /* points between a raw key's prefetch and its look-up */
    TOUCH_LAG = 8,  /* points between a look-up and the first access to the series */
    RING = 16,      /* power of two > LOOKAHEAD */
    SCRATCH_MAX = 8 << 20,
};

struct head { /* a resource or a scope: its bytes, and once a point missed, its tags */
    const uint8_t *msg;
    size_t len;
    const uint8_t *schema_url; /* of a scope; borrows */
    size_t schema_url_len;
    bool is_decoded;
    enum tg_code code; /* of decoding */
    struct tg_err err;
    struct tg_tags tags;
};

struct metric {
    const uint8_t *name, *unit, *description;
    size_t name_len, unit_len, description_len;
    uint32_t data_number;   /* METRIC_GAUGE ...; 0 = no data */
    uint32_t other_number;  /* a message that is none of ours: data of another kind? 0 = none */
    uint64_t temporality;   /* as sent */
    uint8_t kind;           /* enum tg_kind */
    uint8_t type;           /* enum tg_value_type of its points, TG_VALUE_DOUBLE for numbers */
    uint8_t attributes;     /* field number in its points */
    uint8_t exemplars;      /* likewise; 0 = none */
    struct tg_hash128 hash; /* resource, scope and header */
};

struct pending { /* a point in the batch whose series is still to be looked up */
    struct tg_hash128 key;
    const uint8_t *msg;
    uint32_t len;
    uint32_t at;     /* index in the batch */
    uint32_t metric; /* slot in walk.metrics */
};

struct walk {
    struct tg_intake *d;
    struct tg_batch *batch;
    const uint8_t *base;
    size_t len;
    struct head resource, scope;
    struct tg_hash128 resource_hash, scope_hash; /* the second includes the first */
    struct pending ring[RING];
    uint32_t n_walked, n_resolved; /* ring positions */
    uint32_t touch_at;             /* batch index: series before it are touched */
    uint32_t n_refused;            /* points in the batch left without a series */
    /* A slot lives as long as a point of it is pending: at most LOOKAHEAD, and the current one. */
    struct metric metrics[RING];
    uint32_t metric_slot;
    bool slot_used;
    struct tg_arena scratch; /* one miss */
};

/* --- messages --- */

/* The messages that hold the byte `at`, found by walking down once more: "resource_metrics[0]
 * .scope_metrics[0].metrics[3].data_points[7]". */
static void path_of(const struct walk *w, const uint8_t *at, char *out, size_t cap)
{
    static const struct {
        uint32_t numbers; /* bit set of the fields to go down */
        const char *name; /* NULL = the data of a metric, which is one with it */
    } levels[] = {
        {1U << REQUEST_RESOURCE_METRICS, "resource_metrics"},
        {1U << RESOURCE_METRICS_SCOPE_METRICS, ".scope_metrics"},
        {1U << SCOPE_METRICS_METRICS, ".metrics"},
        {1U << METRIC_GAUGE | 1U << METRIC_SUM | 1U << METRIC_HISTOGRAM |
             1U << METRIC_EXP_HISTOGRAM | 1U << METRIC_SUMMARY,
         NULL},
        {1U << DATA_POINTS, ".data_points"},
    };
    struct tg_protobuf_wire in = tg_protobuf_wire_of(w->base, w->len);
    size_t n = (size_t)snprintf(out, cap, "request");
    for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        struct tg_protobuf_wire_field f = {.tag = 0};
        unsigned index = 0;
        bool is_found = false;
        while (!is_found && in.p < in.end && tg_protobuf_wire_next(&in, &f)) {
            const uint32_t number = TG_PROTOBUF_WIRE_NUMBER(f.tag);
            if ((f.tag & 7) != TG_PROTOBUF_WIRE_BYTES || number > 31 ||
                !(levels[i].numbers >> number & 1))
                continue;
            is_found = at >= f.data && at < f.data + f.len;
            index += !is_found;
        }
        if (!is_found) return;
        if (i == 0) n = 0;
        if (levels[i].name && n < cap)
            n += (size_t)snprintf(out + n, cap - n, "%s[%u]", levels[i].name, index);
        in = tg_protobuf_wire_of(f.data, f.len);
    }
}

static enum tg_code malformed_at(const struct walk *w, const uint8_t *at, const char *why,
                                 struct tg_err *err)
{
    char path[112];
    path_of(w, at, path, sizeof(path));
    /* Merged messages lie in an arena: no offset then. */
    const bool is_inside = at >= w->base && at <= w->base + w->len;
    return tg_fail_at(err, TG_ERR_MALFORMED, is_inside ? (uint64_t)(at - w->base) : TG_NO_OFFSET,
                      "not OTLP metrics: %s: %s", path, why);
}

static enum tg_code malformed(const struct walk *w, const struct tg_protobuf_wire *at,
                              struct tg_err *err)
{
    return malformed_at(w, at->p, tg_protobuf_wire_why(at), err);
}

static enum tg_code wrong_type(const struct walk *w, const struct tg_protobuf_wire_field *f,
                               struct tg_err *err)
{
    char why[64];
    (void)snprintf(why, sizeof(why), "field %u has wire type %u", TG_PROTOBUF_WIRE_NUMBER(f->tag),
                   f->tag & 7);
    return malformed_at(w, f->start, why, err);
}

/* Rejects one point, naming its metric. */
static void reject(struct walk *w, const struct metric *m, enum tg_code code, const char *why)
{
    struct tg_err e;
    char q[80];
    (void)tg_fail(&e, code, "metric %s: %s", tg_quote(q, sizeof(q), m->name, m->name_len), why);
    tg_intake_reject(w->d, 1, &e);
}

/* --- misses: labels are decoded --- */

static enum tg_code head_tags(struct walk *w, struct head *h, bool is_scope, struct tg_err *err)
{
    if (!h->is_decoded) {
        struct tg_otlp_attr a = {.limits = tg_table_limits(w->d->table), .arena = w->d->arena};
        h->is_decoded = true;
        h->tags = (struct tg_tags){.n = 0};
        h->code = is_scope ? tg_otlp_scope_tags(&a, h->msg, h->len, (const char *)h->schema_url,
                                                h->schema_url_len, &h->tags, &h->err)
                           : tg_otlp_resource_tags(&a, h->msg, h->len, &h->tags, &h->err);
        if (h->code == TG_ERR_MALFORMED) {
            char why[sizeof(h->err.msg)];
            memcpy(why, h->err.msg, sizeof(why));
            (void)malformed_at(w, a.bad, why, &h->err);
        }
    }
    if (h->code != TG_OK && err) *err = h->err;
    return h->code;
}

static enum tg_code describe(struct walk *w, const struct pending *p, struct tg_series_desc *desc,
                             struct tg_err *err)
{
    const struct metric *m = &w->metrics[p->metric];
    if (m->temporality > TG_TEMPORALITY_CUMULATIVE)
        return tg_fail(err, TG_ERR_INVALID, "aggregation_temporality %llu is not known",
                       (unsigned long long)m->temporality);
    /* Taken for cumulative, a delta would be wrong for ever; the data model forbids it. */
    if (m->temporality == TG_TEMPORALITY_NONE &&
        (m->data_number == METRIC_SUM || m->data_number == METRIC_HISTOGRAM ||
         m->data_number == METRIC_EXP_HISTOGRAM))
        return tg_fail(err, TG_ERR_INVALID,
                       "aggregation_temporality is unspecified (0); sums and histograms need delta "
                       "(1) or cumulative (2): set it at the sender");
    TG_TRY(head_tags(w, &w->resource, false, err));
    TG_TRY(head_tags(w, &w->scope, true, err));
    struct tg_tags tags = {.n = 0};
    if (tg_tags_append(&tags, &w->scratch, w->resource.tags.items, w->resource.tags.n) != TG_OK ||
        tg_tags_append(&tags, &w->scratch, w->scope.tags.items, w->scope.tags.n) != TG_OK)
        return tg_fail(err, TG_ERR_NOMEM, "out of memory while decoding attributes");
    struct tg_otlp_attr a = {.limits = tg_table_limits(w->d->table), .arena = &w->scratch};
    struct tg_err e = {.code = TG_OK};
    enum tg_code code =
        tg_otlp_key_values(&a, p->msg, p->len, m->attributes, TG_ORIGIN_POINT, &tags, &e);
    if (code == TG_OK) code = tg_otlp_keep_hidden(&a, &tags, &e);
    if (code == TG_ERR_MALFORMED) return malformed_at(w, a.bad, e.msg, err);
    if (code != TG_OK) {
        if (err) *err = e;
        return code;
    }
    *desc = (struct tg_series_desc){
        .name = (const char *)m->name,
        .unit = (const char *)m->unit,
        .name_len = (uint32_t)m->name_len,
        .unit_len = (uint32_t)m->unit_len,
        .kind = m->kind,
        .temporality = (uint8_t)m->temporality,
        .n_tags = tags.n,
        .tags = tags.items,
    };
    return TG_OK;
}

/* Of one key the last attribute stands, and an empty one is none. */
static uint32_t n_with_value(const struct tg_series_desc *d)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_tags; i++) n += d->tags[i].value_len != 0;
    return n;
}

/* *out stays NULL when the point is rejected alone. Fails only for malformed bytes. */
__attribute__((noinline)) static enum tg_code miss(struct walk *w, const struct pending *p,
                                                   struct tg_series **out, struct tg_err *err)
{
    struct tg_series_desc desc;
    struct tg_err e = {.code = TG_OK, .offset = TG_NO_OFFSET};
    w->d->n_misses++;
    enum tg_code code = describe(w, p, &desc, &e);
    const uint32_t n_given = code == TG_OK ? n_with_value(&desc) : 0;
    if (code == TG_ERR_MALFORMED) {
        if (err) *err = e;
        tg_arena_reset(&w->scratch);
        return code;
    }
    if (code == TG_OK) code = tg_table_intern(w->d->table, &desc, out, &e);
    tg_arena_reset(&w->scratch);
    if (code == TG_OK) {
        const struct metric *m = &w->metrics[p->metric];
        w->d->n_attributes_twice += n_given - desc.n_tags;
        if (m->description_len)
            w->d->n_metadata[tg_help_note(tg_table_help(w->d->table), (const char *)m->name,
                                          m->name_len, (const char *)m->description,
                                          m->description_len)]++;
        tg_table_remember_raw(w->d->table, p->key, *out);
        return TG_OK;
    }
    *out = NULL;
    e.code = code;
    char why[sizeof(e.msg)];
    memcpy(why, e.msg, sizeof(why));
    reject(w, &w->metrics[p->metric], code, why);
    return TG_OK;
}

/* --- the pipeline: walked, then looked up, then touched --- */

static inline enum tg_code resolve_one(struct walk *w, struct tg_err *err)
{
    const struct pending *p = &w->ring[w->n_resolved++ & (RING - 1)];
    struct tg_series *s = tg_table_find_raw(w->d->table, p->key);
    if (UNLIKELY(!s)) {
        TG_TRY(miss(w, p, &s, err));
        w->n_refused += !s;
    }
    __builtin_prefetch(s);
    w->batch->points[p->at].series = s;
    if (p->at >= w->touch_at + TOUCH_LAG) {
        s = w->batch->points[w->touch_at++].series;
        if (s) tg_series_touch(s, w->d->now_s);
    }
    return TG_OK;
}

static enum tg_code resolve_all(struct walk *w, struct tg_err *err)
{
    while (w->n_resolved != w->n_walked) TG_TRY(resolve_one(w, err));
    return TG_OK;
}

/* The point that was just put at the batch's end. */
static inline enum tg_code push_pending(struct walk *w, struct tg_hash128 key, const uint8_t *msg,
                                        size_t len, struct tg_err *err)
{
    tg_table_prefetch_raw(w->d->table, key);
    struct pending *p = &w->ring[w->n_walked++ & (RING - 1)];
    p->key = key;
    p->msg = msg;
    p->len = (uint32_t)len;
    p->at = w->batch->n_points - 1;
    p->metric = w->metric_slot;
    w->slot_used = true;
    return w->n_walked - w->n_resolved > LOOKAHEAD ? resolve_one(w, err) : TG_OK;
}

/* 0 and times beyond int64 nanoseconds (the year 2262). */
static inline bool is_bad_time(uint64_t ts_ns)
{
    return ts_ns - 1 >= INT64_MAX;
}

static void reject_time(struct walk *w, const struct metric *m, uint64_t ts_ns)
{
    reject(w, m, TG_ERR_INVALID,
           ts_ns == 0           ? "time_unix_nano is 0: every point needs its time"
           : ts_ns <= INT64_MAX ? "start_time_unix_nano is beyond 2^63 - 1 ns (the year 2262)"
                                : "time_unix_nano is beyond 2^63 - 1 ns (the year 2262)");
}

/* --- number points --- */

/* One field that the fast loop has no case for: rare ones, and tags in a longer form than needed.
 */
__attribute__((noinline)) static enum tg_code number_field(struct walk *w,
                                                           struct tg_protobuf_wire *at,
                                                           struct tg_otlp_point *n,
                                                           struct tg_err *err)
{
    struct tg_protobuf_wire_field f;
    if (!tg_protobuf_wire_next(at, &f)) return malformed(w, at, err);
    switch (f.tag) {
    case FIXED64(2): n->start_ns = f.num; return TG_OK;
    case FIXED64(3): n->ts_ns = f.num; return TG_OK;
    case FIXED64(4):
        n->value.u64 = f.num;
        n->type = TG_VALUE_DOUBLE;
        return TG_OK;
    case BYTES(TG_OTLP_NUMBER_EXEMPLARS): n->n_exemplars++; return TG_OK;
    case FIXED64(6):
        n->value.u64 = f.num;
        n->type = TG_VALUE_INT64;
        return TG_OK;
    case BYTES(TG_OTLP_NUMBER_ATTRIBUTES):
        tg_identity_run_add(&n->attributes, f.start, at->p);
        return TG_OK;
    case VARINT(8): n->flags = (uint32_t)f.num; return TG_OK;
    default: break;
    }
    const uint32_t number = TG_PROTOBUF_WIRE_NUMBER(f.tag);
    return number >= 2 && number <= 8 ? wrong_type(w, &f, err) : TG_OK;
}

static inline enum tg_code walk_number(struct walk *w, const uint8_t *msg, size_t len,
                                       struct tg_otlp_point *n, struct tg_err *err)
{
    const uint8_t *p = msg;
    const uint8_t *const end = msg + len;
    while (p < end) {
        const size_t rest = (size_t)(end - p);
        switch (*p) {
        case BYTES(TG_OTLP_NUMBER_ATTRIBUTES):
            if (UNLIKELY(rest < 2 || p[1] >= 0x80 || p[1] > rest - 2)) break;
            tg_identity_run_add(&n->attributes, p, p + 2 + p[1]);
            p += 2 + p[1];
            continue;
        case FIXED64(2):
            if (UNLIKELY(rest < 9)) break;
            memcpy(&n->start_ns, p + 1, 8);
            p += 9;
            continue;
        case FIXED64(3):
            if (UNLIKELY(rest < 9)) break;
            memcpy(&n->ts_ns, p + 1, 8);
            p += 9;
            continue;
        case FIXED64(4):
            if (UNLIKELY(rest < 9)) break;
            memcpy(&n->value.u64, p + 1, 8);
            n->type = TG_VALUE_DOUBLE;
            p += 9;
            continue;
        case FIXED64(6):
            if (UNLIKELY(rest < 9)) break;
            memcpy(&n->value.u64, p + 1, 8);
            n->type = TG_VALUE_INT64;
            p += 9;
            continue;
        default: break;
        }
        struct tg_protobuf_wire at = {p, end};
        TG_TRY(number_field(w, &at, n, err));
        p = at.p;
    }
    return TG_OK;
}

/* Reads exemplars into the batch. A point whose exemplars do not fit is refused with them. */
__attribute__((noinline)) static enum tg_code read_exemplars(struct walk *w, const struct metric *m,
                                                             const uint8_t *msg, size_t len,
                                                             const struct tg_exemplars **out,
                                                             bool *refused, struct tg_err *err)
{
    struct tg_otlp_reader r = {
        .arena = &w->batch->arena, .scratch = &w->scratch, .limits = tg_table_limits(w->d->table)};
    struct tg_err e = {.code = TG_OK};
    const enum tg_code code = tg_otlp_parse_exemplars(&r, msg, len, m->exemplars, out, &e);
    if (code == TG_ERR_MALFORMED) return malformed_at(w, r.bad, e.msg, err);
    if (code != TG_OK) {
        reject(w, m, code, e.msg);
        *refused = true;
    }
    return TG_OK;
}

static inline enum tg_code put_point(struct walk *w, const struct metric *m, const uint8_t *msg,
                                     size_t len, const struct tg_otlp_point *n, struct tg_err *err)
{
    uint8_t type = n->type;
    uint8_t flags = 0;
    if (UNLIKELY(n->flags & TG_OTLP_FLAG_NO_RECORDED_VALUE)) {
        /* numbers are none; of the others the parser leaves what it says of what ended */
        if (m->type == TG_VALUE_DOUBLE) type = TG_VALUE_NONE;
        flags = TG_POINT_NO_VALUE;
    } else if (UNLIKELY(type == TG_VALUE_NONE)) {
        reject(w, m, TG_ERR_INVALID, "a point has neither as_double nor as_int");
        return TG_OK;
    }
    if (UNLIKELY(is_bad_time(n->ts_ns) || n->start_ns > INT64_MAX)) {
        reject_time(w, m, n->ts_ns);
        return TG_OK;
    }
    const struct tg_exemplars *exemplars = NULL;
    if (UNLIKELY(n->n_exemplars)) {
        bool refused = false;
        TG_TRY(read_exemplars(w, m, msg, len, &exemplars, &refused, err));
        if (refused) return TG_OK;
        w->d->n_exemplars_invalid += n->n_exemplars - (exemplars ? exemplars->n : 0);
    }
    const enum tg_code code = tg_batch_reserve(w->batch, 1);
    if (UNLIKELY(code != TG_OK))
        return tg_fail(err, code, "the request does not fit one batch (%u points%s)",
                       w->batch->n_points, code == TG_ERR_NOMEM ? "; out of memory" : "");
    struct tg_point *p = tg_batch_push(w->batch);
    p->series = NULL;
    p->ts_ns = (int64_t)n->ts_ns;
    p->start_ns = (int64_t)n->start_ns;
    p->value = n->value;
    p->exemplars = exemplars;
    p->type = type;
    p->flags = flags;
    return push_pending(w, tg_hash128_combine(m->hash, tg_identity_run_hash(&n->attributes)), msg,
                        len, err);
}

static enum tg_code walk_point(struct walk *w, const struct metric *m, const uint8_t *msg,
                               size_t len, struct tg_err *err)
{
    struct tg_otlp_point n = {.type = TG_VALUE_NONE};
    if (m->type == TG_VALUE_DOUBLE) {
        TG_TRY(walk_number(w, msg, len, &n, err));
        return put_point(w, m, msg, len, &n, err);
    }
    struct tg_otlp_reader r = {
        .arena = &w->batch->arena, .scratch = &w->scratch, .limits = tg_table_limits(w->d->table)};
    struct tg_err e = {.code = TG_OK};
    enum tg_code code;
    switch (m->type) {
    case TG_VALUE_HISTOGRAM: code = tg_otlp_parse_histogram(&r, msg, len, &n, &e); break;
    case TG_VALUE_EXP_HISTOGRAM: code = tg_otlp_parse_exp_histogram(&r, msg, len, &n, &e); break;
    default: code = tg_otlp_parse_summary(&r, msg, len, &n, &e); break;
    }
    if (code == TG_ERR_MALFORMED) return malformed_at(w, r.bad, e.msg, err);
    if (code != TG_OK) {
        reject(w, m, code, e.msg);
        return TG_OK;
    }
    return put_point(w, m, msg, len, &n, err);
}

/* --- metrics --- */

/* Several occurrences of one embedded message mean their concatenation (protobuf.dev, "Last One
 * Wins"). Nobody sends that, so it may cost a copy: of the fields `number` from `at` on, `total`
 * bytes in all. */
static enum tg_code join(struct walk *w, struct tg_protobuf_wire at, uint32_t number, size_t total,
                         const uint8_t **msg, struct tg_err *err)
{
    uint8_t *joined = tg_arena_alloc(w->d->arena, total);
    if (!joined) return tg_fail(err, TG_ERR_NOMEM, "out of memory: the request's arena is used up");
    *msg = joined;
    struct tg_protobuf_wire_field f;
    while (at.p < at.end && tg_protobuf_wire_next(&at, &f)) {
        if (TG_PROTOBUF_WIRE_NUMBER(f.tag) != number || f.len == 0) continue;
        memcpy(joined, f.data, f.len);
        joined += f.len;
    }
    return TG_OK;
}

/* Name, unit, and the message of its data: of several kinds the last one stands. */
static enum tg_code find_header(struct walk *w, const uint8_t *msg, size_t len, struct metric *m,
                                const uint8_t **data, size_t *data_len, struct tg_err *err)
{
    struct tg_protobuf_wire at = tg_protobuf_wire_of(msg, len);
    const uint8_t *first = msg; /* of the occurrences of the data */
    unsigned n_data = 0;
    *m = (struct metric){.name = msg, .unit = msg};
    *data = msg;
    *data_len = 0;
    while (at.p < at.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&at, &f)) return malformed(w, &at, err);
        const uint32_t number = TG_PROTOBUF_WIRE_NUMBER(f.tag);
        switch (number) {
        case METRIC_NAME:
        case METRIC_DESCRIPTION:
        case METRIC_UNIT:
        case METRIC_GAUGE:
        case METRIC_SUM:
        case METRIC_HISTOGRAM:
        case METRIC_EXP_HISTOGRAM:
        case METRIC_SUMMARY: break;
        default:
            if ((f.tag & 7) == TG_PROTOBUF_WIRE_BYTES && number != METRIC_METADATA)
                m->other_number = number;
            continue;
        }
        if ((f.tag & 7) != TG_PROTOBUF_WIRE_BYTES) return wrong_type(w, &f, err);
        if (number == METRIC_NAME) {
            m->name = f.data;
            m->name_len = f.len;
        } else if (number == METRIC_UNIT) {
            m->unit = f.data;
            m->unit_len = f.len;
        } else if (number == METRIC_DESCRIPTION) {
            m->description = f.data;
            m->description_len = f.len;
        } else {
            if (m->data_number != number) {
                m->data_number = number;
                first = f.start;
                n_data = 0;
                *data_len = 0;
            }
            n_data++;
            *data = f.data;
            *data_len += f.len;
        }
    }
    if (n_data > 1)
        return join(w, (struct tg_protobuf_wire){first, msg + len}, m->data_number, *data_len, data,
                    err);
    return TG_OK;
}

/* Temporality and is_monotonic come after the points that they describe. */
static enum tg_code find_sum_header(struct walk *w, const uint8_t *data, size_t len,
                                    struct metric *m, bool *is_monotonic, struct tg_err *err)
{
    struct tg_protobuf_wire at = tg_protobuf_wire_of(data, len);
    while (at.p < at.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&at, &f)) return malformed(w, &at, err);
        if (f.tag == BYTES(DATA_POINTS)) continue;
        switch (TG_PROTOBUF_WIRE_NUMBER(f.tag)) {
        case DATA_POINTS: return wrong_type(w, &f, err);
        case DATA_TEMPORALITY:
            if (f.tag != VARINT(DATA_TEMPORALITY)) return wrong_type(w, &f, err);
            m->temporality = f.num;
            break;
        case SUM_IS_MONOTONIC:
            if (m->data_number != METRIC_SUM) break;
            if (f.tag != VARINT(SUM_IS_MONOTONIC)) return wrong_type(w, &f, err);
            *is_monotonic = f.num != 0;
            break;
        default: break;
        }
    }
    return TG_OK;
}

static enum tg_code set_kind(struct walk *w, struct metric *m, const uint8_t *data, size_t len,
                             struct tg_err *err)
{
    bool is_monotonic = false;
    m->attributes = TG_OTLP_NUMBER_ATTRIBUTES;
    m->exemplars = TG_OTLP_NUMBER_EXEMPLARS;
    m->type = TG_VALUE_DOUBLE;
    switch (m->data_number) {
    case METRIC_GAUGE: m->kind = TG_KIND_GAUGE; return TG_OK;
    case METRIC_SUM:
        TG_TRY(find_sum_header(w, data, len, m, &is_monotonic, err));
        m->kind = is_monotonic ? TG_KIND_COUNTER : TG_KIND_GAUGE;
        return TG_OK;
    case METRIC_HISTOGRAM:
        m->kind = TG_KIND_HISTOGRAM;
        m->type = TG_VALUE_HISTOGRAM;
        m->attributes = TG_OTLP_HISTOGRAM_ATTRIBUTES;
        m->exemplars = TG_OTLP_HISTOGRAM_EXEMPLARS;
        return find_sum_header(w, data, len, m, &is_monotonic, err);
    case METRIC_EXP_HISTOGRAM:
        m->kind = TG_KIND_EXP_HISTOGRAM;
        m->type = TG_VALUE_EXP_HISTOGRAM;
        m->attributes = TG_OTLP_EXP_HISTOGRAM_ATTRIBUTES;
        m->exemplars = TG_OTLP_EXP_HISTOGRAM_EXEMPLARS;
        return find_sum_header(w, data, len, m, &is_monotonic, err);
    default:
        m->kind = TG_KIND_SUMMARY;
        m->type = TG_VALUE_SUMMARY;
        m->attributes = TG_OTLP_SUMMARY_ATTRIBUTES;
        m->exemplars = 0;
        return TG_OK;
    }
}

/* Points of a kind that was (until 2021: int_gauge 4, int_sum 6, int_histogram 8), or will be. How
 * many there are is not known. */
static void reject_kind(struct walk *w, const struct metric *m)
{
    char why[160];
    (void)snprintf(why, sizeof(why),
                   "all its points are of a kind that is not known (field %u of Metric): %s",
                   m->other_number,
                   m->other_number < METRIC_SUMMARY ? "update the sender to OTLP 1.0"
                                                    : "it is newer than this gateway");
    reject(w, m, TG_ERR_INVALID, why);
}

static enum tg_code walk_metric(struct walk *w, const uint8_t *msg, size_t len, struct tg_err *err)
{
    if (w->slot_used) {
        w->metric_slot = (w->metric_slot + 1) & (RING - 1);
        w->slot_used = false;
    }
    struct metric *m = &w->metrics[w->metric_slot];
    const uint8_t *data;
    size_t data_len;
    TG_TRY(find_header(w, msg, len, m, &data, &data_len, err));
    if (m->data_number == 0) {
        if (m->other_number) reject_kind(w, m);
        return TG_OK;
    }
    TG_TRY(set_kind(w, m, data, data_len, err));
    const struct tg_hash128 what = {m->data_number, (uint64_t)m->kind << 32 ^ m->temporality};
    m->hash =
        tg_hash128_combine(tg_hash128_combine(w->scope_hash, tg_hash128(m->name, m->name_len)),
                           tg_hash128_combine(tg_hash128(m->unit, m->unit_len), what));

    struct tg_protobuf_wire at = tg_protobuf_wire_of(data, data_len);
    while (at.p < at.end) {
        struct tg_protobuf_wire_field f;
        if (UNLIKELY(!tg_protobuf_wire_next(&at, &f))) return malformed(w, &at, err);
        if (UNLIKELY(f.tag != BYTES(DATA_POINTS))) {
            if (TG_PROTOBUF_WIRE_NUMBER(f.tag) == DATA_POINTS) return wrong_type(w, &f, err);
            continue;
        }
        TG_TRY(walk_point(w, m, f.data, f.len, err));
    }
    return TG_OK;
}

/* --- scopes, resources, the request --- */

/* Finds field `number` of a message, wherever it stands, and merges it if there are several, and
 * the text `schema_number` beside it (0 = none is looked for). */
static enum tg_code find_head(struct walk *w, const uint8_t *msg, size_t len, uint32_t number,
                              uint32_t schema_number, struct head *h, struct tg_err *err)
{
    struct tg_protobuf_wire at = tg_protobuf_wire_of(msg, len);
    unsigned n = 0;
    *h = (struct head){.msg = msg};
    while (at.p < at.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&at, &f)) return malformed(w, &at, err);
        if (TG_PROTOBUF_WIRE_NUMBER(f.tag) == schema_number) {
            if (f.tag != BYTES(schema_number)) return wrong_type(w, &f, err);
            h->schema_url = f.data;
            h->schema_url_len = f.len;
            continue;
        }
        if (TG_PROTOBUF_WIRE_NUMBER(f.tag) != number) continue;
        if (f.tag != BYTES(number)) return wrong_type(w, &f, err);
        n++;
        h->msg = f.data;
        h->len += f.len;
    }
    if (n > 1) return join(w, tg_protobuf_wire_of(msg, len), number, h->len, &h->msg, err);
    return TG_OK;
}

static enum tg_code walk_scope(struct walk *w, const uint8_t *msg, size_t len, struct tg_err *err)
{
    TG_TRY(find_head(w, msg, len, SCOPE_METRICS_SCOPE, SCOPE_METRICS_SCHEMA_URL, &w->scope, err));
    w->scope_hash = tg_hash128_combine(w->resource_hash, tg_hash128(w->scope.msg, w->scope.len));
    if (w->scope.schema_url_len)
        w->scope_hash = tg_hash128_combine(
            w->scope_hash, tg_hash128(w->scope.schema_url, w->scope.schema_url_len));
    struct tg_protobuf_wire at = tg_protobuf_wire_of(msg, len);
    while (at.p < at.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&at, &f)) return malformed(w, &at, err);
        if (TG_PROTOBUF_WIRE_NUMBER(f.tag) != SCOPE_METRICS_METRICS) continue;
        if (f.tag != BYTES(SCOPE_METRICS_METRICS)) return wrong_type(w, &f, err);
        TG_TRY(walk_metric(w, f.data, f.len, err));
    }
    return resolve_all(w, err); /* pending points refer to this scope */
}

static enum tg_code walk_resource(struct walk *w, const uint8_t *msg, size_t len,
                                  struct tg_err *err)
{
    TG_TRY(find_head(w, msg, len, RESOURCE_METRICS_RESOURCE, 0, &w->resource, err));
    w->resource_hash = tg_hash128(w->resource.msg, w->resource.len);
    struct tg_protobuf_wire at = tg_protobuf_wire_of(msg, len);
    while (at.p < at.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&at, &f)) return malformed(w, &at, err);
        if (TG_PROTOBUF_WIRE_NUMBER(f.tag) != RESOURCE_METRICS_SCOPE_METRICS) continue;
        if (f.tag != BYTES(RESOURCE_METRICS_SCOPE_METRICS)) return wrong_type(w, &f, err);
        TG_TRY(walk_scope(w, f.data, f.len, err));
    }
    return TG_OK;
}

static enum tg_code walk_request(struct walk *w, const uint8_t *buf, size_t len, struct tg_err *err)
{
    struct tg_protobuf_wire at = tg_protobuf_wire_of(buf, len);
    while (at.p < at.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&at, &f)) return malformed(w, &at, err);
        if (TG_PROTOBUF_WIRE_NUMBER(f.tag) != REQUEST_RESOURCE_METRICS) continue;
        if (f.tag != BYTES(REQUEST_RESOURCE_METRICS)) return wrong_type(w, &f, err);
        TG_TRY(walk_resource(w, f.data, f.len, err));
    }
    return TG_OK;
}

enum tg_code tg_otlp_decode_metrics(const uint8_t *buf, size_t len, struct tg_intake *d,
                                    struct tg_err *err)
{
    if (len > UINT32_MAX)
        return tg_fail(err, TG_ERR_TOO_LARGE, "a request of %zu bytes; the decoder takes 4 GiB",
                       len);
    if (len == 0) return TG_OK; /* buf may be NULL */
    struct walk w;              /* the arrays are filled as they are used */
    w.d = d;
    w.batch = d->batch;
    w.base = buf;
    w.len = len;
    w.n_walked = w.n_resolved = 0;
    w.touch_at = d->batch->n_points;
    w.n_refused = 0;
    w.metric_slot = 0;
    w.slot_used = false;
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
