#include "core/parquet/parquet_stats.h"

#include <math.h>
#include <string.h>

void tg_parquet_stats_init(struct tg_parquet_stats *s)
{
    memset(s, 0, sizeof(*s));
    s->has_null = true;
}

void tg_parquet_stats_i64(struct tg_parquet_stats *s, const int64_t *v, size_t n)
{
    if (n == 0) return;
    int64_t lo = s->has_min ? s->min.i64 : v[0], hi = s->has_max ? s->max.i64 : v[0];
    for (size_t i = 0; i < n; i++) {
        lo = v[i] < lo ? v[i] : lo;
        hi = v[i] > hi ? v[i] : hi;
    }
    s->min.i64 = lo;
    s->max.i64 = hi;
    s->has_min = s->has_max = true;
}

void tg_parquet_stats_u64(struct tg_parquet_stats *s, const uint64_t *v, size_t n)
{
    if (n == 0) return;
    uint64_t lo = s->has_min ? s->min.u64 : v[0], hi = s->has_max ? s->max.u64 : v[0];
    for (size_t i = 0; i < n; i++) {
        lo = v[i] < lo ? v[i] : lo;
        hi = v[i] > hi ? v[i] : hi;
    }
    s->min.u64 = lo;
    s->max.u64 = hi;
    s->has_min = s->has_max = true;
}

void tg_parquet_stats_f64(struct tg_parquet_stats *s, const double *v, size_t n)
{
    double lo = s->has_min ? s->min.f64 : INFINITY, hi = s->has_max ? s->max.f64 : -INFINITY;
    uint64_t n_nan = 0;
    for (size_t i = 0; i < n; i++) { /* comparisons with NaN are false */
        lo = v[i] < lo ? v[i] : lo;
        hi = v[i] > hi ? v[i] : hi;
        n_nan += v[i] != v[i];
    }
    s->n_nan += n_nan;
    if (n_nan == n) return;
    s->min.f64 = lo;
    s->max.f64 = hi;
    s->has_min = s->has_max = true;
}

int tg_parquet_bytes_cmp(const char *a, size_t a_len, const char *b, size_t b_len)
{
    const size_t n = a_len < b_len ? a_len : b_len;
    const int c = n ? memcmp(a, b, n) : 0;
    if (c) return c;
    return a_len < b_len ? -1 : a_len > b_len;
}

void tg_parquet_stats_bytes(struct tg_parquet_stats *s, const char *p, uint32_t len)
{
    if (!s->has_min || tg_parquet_bytes_cmp(p, len, s->min.str.ptr, s->min.str.len) < 0) {
        s->min.str.ptr = p;
        s->min.str.len = len;
        s->has_min = true;
    }
    if (!s->has_max || tg_parquet_bytes_cmp(p, len, s->max.str.ptr, s->max.str.len) > 0) {
        s->max.str.ptr = p;
        s->max.str.len = len;
        s->has_max = true;
    }
}

void tg_parquet_stats_merge(struct tg_parquet_stats *s, const struct tg_parquet_stats *more,
                            enum tg_parquet_order o)
{
    s->n_null += more->n_null;
    s->n_nan += more->n_nan;
    if (!more->has_min) return;
    switch (o) {
    case TG_PARQUET_SIGNED: {
        const int64_t v[2] = {more->min.i64, more->max.i64};
        tg_parquet_stats_i64(s, v, 2);
        break;
    }
    case TG_PARQUET_UNSIGNED: {
        const uint64_t v[2] = {more->min.u64, more->max.u64};
        tg_parquet_stats_u64(s, v, 2);
        break;
    }
    case TG_PARQUET_FLOAT: {
        const double v[2] = {more->min.f64, more->max.f64};
        tg_parquet_stats_f64(s, v, 2);
        break;
    }
    case TG_PARQUET_BYTES:
        tg_parquet_stats_bytes(s, more->min.str.ptr, more->min.str.len);
        tg_parquet_stats_bytes(s, more->max.str.ptr, more->max.str.len);
        break;
    case TG_PARQUET_ORDER_NONE: break;
    }
}

static int bytes_bound(const char *p, uint32_t len, bool is_max, uint8_t *out, bool *exact)
{
    *exact = len <= TG_PARQUET_BOUND_MAX;
    uint32_t n = *exact ? len : TG_PARQUET_BOUND_MAX;
    if (!*exact) /* cut between characters: p[n] is not the middle of one */
        while (n && ((uint8_t)p[n] & 0xc0) == 0x80) n--;
    if (n) memcpy(out, p, n);
    if (!*exact && is_max) {
        /* the last character that can be raised and stay one byte; what follows it goes */
        while (n && out[n - 1] >= 0x7e) n--;
        if (n == 0) return -1;
        out[n - 1]++;
    }
    return (int)n;
}

int tg_parquet_stats_bound(const struct tg_parquet_stats *s, const struct tg_parquet_column *c,
                           bool is_max, uint8_t out[TG_PARQUET_BOUND_MAX], bool *exact)
{
    union tg_parquet_bound b = is_max ? s->max : s->min;
    *exact = true;
    if (!(is_max ? s->has_max : s->has_min) || c->order == TG_PARQUET_ORDER_NONE) return -1;
    if (c->order == TG_PARQUET_BYTES) return bytes_bound(b.str.ptr, b.str.len, is_max, out, exact);
    if (c->order == TG_PARQUET_FLOAT && b.f64 == 0) b.f64 = is_max ? 0.0 : -0.0;
    const int size = c->type == TG_PARQUET_BOOLEAN ? 1 : c->type == TG_PARQUET_INT32 ? 4 : 8;
    memcpy(out, &b, (size_t)size); /* little-endian */
    return size;
}

void tg_parquet_stats_write(struct tg_thriftw *w, int id, const struct tg_parquet_stats *s,
                            const struct tg_parquet_column *c)
{
    uint8_t min[TG_PARQUET_BOUND_MAX], max[TG_PARQUET_BOUND_MAX];
    bool min_exact, max_exact;
    const int min_len = tg_parquet_stats_bound(s, c, false, min, &min_exact);
    const int max_len = tg_parquet_stats_bound(s, c, true, max, &max_exact);
    const bool both = min_len >= 0 && max_len >= 0;
    tg_thriftw_struct(w, id);
    tg_thriftw_i64(w, 3, (int64_t)s->n_null);
    if (both) {
        tg_thriftw_binary(w, 5, max, (size_t)max_len);
        tg_thriftw_binary(w, 6, min, (size_t)min_len);
        tg_thriftw_bool(w, 7, max_exact);
        tg_thriftw_bool(w, 8, min_exact);
    }
    if (c->order == TG_PARQUET_FLOAT) tg_thriftw_i64(w, 9, (int64_t)s->n_nan);
    tg_thriftw_end(w);
}

bool tg_parquet_bound_read(const uint8_t *p, size_t len, const struct tg_parquet_column *c,
                           union tg_parquet_bound *out)
{
    memset(out, 0, sizeof(*out));
    if (c->type == TG_PARQUET_BYTE_ARRAY) {
        out->str.ptr = (const char *)p;
        out->str.len = (uint32_t)len;
        return len <= UINT32_MAX;
    }
    const size_t size = c->type == TG_PARQUET_BOOLEAN ? 1 : c->type == TG_PARQUET_INT32 ? 4 : 8;
    if (len != size) return false;
    int32_t i32;
    if (size == 4) {
        memcpy(&i32, p, 4);
        out->i64 = i32;
    } else {
        memcpy(out, p, size);
    }
    return true;
}

void tg_parquet_stats_read(struct tg_thriftr *r, enum tg_thrift_type type,
                           struct tg_parquet_stats *s, const struct tg_parquet_column *c)
{
    int id;
    memset(s, 0, sizeof(*s));
    if (type != TG_THRIFT_STRUCT) {
        r->failed = true;
        return;
    }
    tg_thriftr_begin(r);
    while (tg_thriftr_field(r, &id, &type)) {
        size_t len;
        const uint8_t *p;
        int64_t n;
        switch (id) {
        case 3:
            n = tg_thriftr_int(r, type);
            s->n_null = (uint64_t)n;
            s->has_null = n >= 0;
            break;
        case 5:
            p = tg_thriftr_binary(r, type, &len);
            s->has_max = tg_parquet_bound_read(p, len, c, &s->max);
            if (!s->has_max) r->failed = true;
            break;
        case 6:
            p = tg_thriftr_binary(r, type, &len);
            s->has_min = tg_parquet_bound_read(p, len, c, &s->min);
            if (!s->has_min) r->failed = true;
            break;
        case 9:
            n = tg_thriftr_int(r, type);
            s->n_nan = n < 0 ? 0 : (uint64_t)n;
            break;
        default: tg_thriftr_skip(r, type); break;
        }
    }
}
