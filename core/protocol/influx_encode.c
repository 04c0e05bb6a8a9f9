/* Writing of line protocol; decoding is in influx_line.c. */
#include <math.h>
#include <stdlib.h>

#include "core/base/mem.h"
#include "core/base/number.h"
#include "core/model/forms.h"
#include "core/protocol/influx_line.h"

enum {
    HEADER_BYTES = 4,
    /* `,` key `=` value of a numeric field whose key is a word or a number */
    FIELD_MAX_BYTES = 1 + 16 + TG_DOUBLE_MAX_LEN + 1 + TG_DOUBLE_MAX_LEN,
    TAIL_MAX_BYTES = 1 + TG_U64_MAX_LEN + 1, /* " timestamp\n" */
};

/* ---- the series' form ---- */

/* Appends `len` bytes escaped; reserved for 2 x len. Newlines become \n, backslashes at the end are
 * cut: before a delimiter they would escape it. Returns the bytes written. */
static size_t put_escaped(struct tg_buf *out, const char *p, size_t len, bool equals)
{
    const size_t before = out->len;
    while (len && p[len - 1] == '\\') len--;
    for (size_t i = 0; i < len; i++) {
        const char c = p[i];
        if (c == '\n') {
            tg_buf_put(out, "\\n", 2);
            continue;
        }
        if (c == ',' || c == ' ' || (c == '=' && equals)) tg_buf_put_u8(out, '\\');
        tg_buf_put_u8(out, (uint8_t)c);
    }
    return out->len - before;
}

enum tg_code tg_influx_prepare(const struct tg_series_desc *mapped, struct tg_buf *out,
                               struct tg_err *err)
{
    const size_t before = out->len;
    uint32_t name_len = mapped->name_len;
    const char *field = "value";
    uint32_t field_len = 5;
    /* a rule may have renamed the series: then its end no longer is "_" + field, and it is a name
     * like any other */
    if (mapped->field_len > 0 && mapped->field_len + 1 < name_len &&
        mapped->name[name_len - mapped->field_len - 1] == '_') {
        field = mapped->name + name_len - mapped->field_len;
        field_len = mapped->field_len;
        name_len -= field_len + 1;
    }
    size_t need = HEADER_BYTES + 2 * ((size_t)name_len + field_len) + 2;
    for (uint32_t i = 0; i < mapped->n_tags; i++)
        need += 2 * ((size_t)mapped->tags[i].key_len + mapped->tags[i].value_len) + 2;
    TG_TRY(tg_buf_reserve(out, need));
    tg_buf_put_u32(out, 0);
    const size_t start = out->len;
    enum tg_code code = TG_OK;
    char quoted[64];
    if (put_escaped(out, mapped->name, name_len, false) == 0) {
        code = tg_fail(err, TG_ERR_INVALID, "line protocol cannot name a measurement %s",
                       tg_quote(quoted, sizeof(quoted), mapped->name, mapped->name_len));
        goto out;
    }
    if (mapped->name[0] == '#' || mapped->name[0] == '\t') {
        code = tg_fail(err, TG_ERR_INVALID,
                       "measurement %s begins with a character that line protocol skips; rename it "
                       "in tags.lua",
                       tg_quote(quoted, sizeof(quoted), mapped->name, mapped->name_len));
        goto out;
    }
    for (uint32_t i = 0; i < mapped->n_tags; i++) {
        const struct tg_tag *tag = &mapped->tags[i];
        const size_t tag_start = out->len;
        tg_buf_put_u8(out, ',');
        const size_t key = put_escaped(out, tag->key, tag->key_len, true);
        tg_buf_put_u8(out, '=');
        const size_t value = put_escaped(out, tag->value, tag->value_len, true);
        if (key == 0 || value == 0) out->len = tag_start;
    }
    if (out->len - start > TG_INFLUX_MAX_KEY_BYTES) {
        code =
            tg_fail(err, TG_ERR_TOO_LARGE,
                    "measurement and tags take %zu bytes in line protocol, over InfluxDB's limit "
                    "of %d; drop tags in tags.lua",
                    out->len - start, TG_INFLUX_MAX_KEY_BYTES);
        goto out;
    }
    tg_buf_put_u8(out, ' ');
    const uint32_t series_len = (uint32_t)(out->len - start);
    memcpy(out->data + start - HEADER_BYTES, &series_len, HEADER_BYTES);
    if (put_escaped(out, field, field_len, true) == 0) {
        code = tg_fail(err, TG_ERR_INVALID, "line protocol cannot name a field %s",
                       tg_quote(quoted, sizeof(quoted), field, field_len));
        goto out;
    }
    tg_buf_put_u8(out, '=');
out:
    if (code != TG_OK) out->len = before;
    return code;
}

enum tg_code tg_influx_forms(const struct tg_series_desc *mapped, struct tg_buf *prepared,
                             struct tg_form *forms, unsigned *n)
{
    /* What every histogram and summary has; a field that is called as one of its bounds meets none
     * of a histogram that comes with the sum and the count, too. */
    static const char *const fields[] = {"count=", "sum="};
    const uint64_t who = tg_forms_who(mapped, NULL);
    uint32_t series_len;
    memcpy(&series_len, prepared->data, HEADER_BYTES);
    const bool has_fields = mapped->kind == TG_KIND_HISTOGRAM ||
                            mapped->kind == TG_KIND_EXP_HISTOGRAM ||
                            mapped->kind == TG_KIND_SUMMARY;
    *n = 0;
    for (unsigned i = 0; i < (has_fields ? 2 : 1); i++) {
        if (has_fields) {
            prepared->len = HEADER_BYTES + series_len;
            TG_TRY(tg_buf_append(prepared, fields[i], strlen(fields[i])));
        }
        forms[(*n)++] = (struct tg_form){
            tg_hash64(prepared->data + HEADER_BYTES, prepared->len - HEADER_BYTES), who};
    }
    return TG_OK;
}

/* ---- one point ---- */

/* The caller reserved for all of these. */
static void put_double(struct tg_buf *out, double v)
{
    out->len += tg_double_format((char *)out->data + out->len, v);
}
static void put_u64(struct tg_buf *out, uint64_t v)
{
    out->len += tg_u64_format((char *)out->data + out->len, v);
}
static void put_key(struct tg_buf *out, size_t first, const char *key)
{
    if (out->len != first) tg_buf_put_u8(out, ',');
    tg_buf_put(out, key, strlen(key));
    tg_buf_put_u8(out, '=');
}
/* `first` is where the field set begins: a comma goes before all fields but that one. */
static void put_count_field(struct tg_buf *out, size_t first, const char *key, uint64_t v)
{
    put_key(out, first, key);
    put_u64(out, v); /* without a suffix: a float */
}
static void put_double_field(struct tg_buf *out, size_t first, const char *key, double v)
{
    if (!isfinite(v)) return;
    put_key(out, first, key);
    put_double(out, v);
}
static void put_number_key(struct tg_buf *out, size_t first, double v)
{
    if (out->len != first) tg_buf_put_u8(out, ',');
    put_double(out, v);
    tg_buf_put_u8(out, '=');
}

/* Room for n fields and the line's end. */
static enum tg_code reserve_fields(struct tg_buf *out, uint64_t n)
{
    return tg_buf_reserve(out, (size_t)n * FIELD_MAX_BYTES + TAIL_MAX_BYTES);
}

/* The last bucket has none. One of +Inf may be given all the same: two buckets of one name, of
 * which the last holds the first, as they are cumulative. */
static double bound_of(const double *bounds, uint32_t n_bounds, uint32_t i)
{
    return i < n_bounds ? bounds[i] : (double)INFINITY;
}

static enum tg_code put_histogram(struct tg_buf *out, const struct tg_histogram *h)
{
    const size_t first = out->len;
    TG_TRY(reserve_fields(out, UINT64_C(4) + h->n_buckets));
    put_count_field(out, first, "count", h->count);
    if (h->has_sum) put_double_field(out, first, "sum", h->sum);
    if (h->has_min) put_double_field(out, first, "min", h->min);
    if (h->has_max) put_double_field(out, first, "max", h->max);
    uint64_t total = 0;
    for (uint32_t i = 0; i < h->n_buckets; i++) {
        total += h->buckets[i];
        const double bound = bound_of(h->bounds, h->n_bounds, i);
        if (i + 1 < h->n_buckets && bound == bound_of(h->bounds, h->n_bounds, i + 1)) continue;
        put_number_key(out, first, bound);
        put_u64(out, total);
    }
    return TG_OK;
}

static void put_exp_buckets(struct tg_buf *out, size_t first, const char *prefix, int64_t offset,
                            const uint64_t *counts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!counts[i]) continue;
        char key[8 + TG_U64_MAX_LEN + 1];
        const size_t len = strlen(prefix);
        memcpy(key, prefix, len);
        key[len + tg_i64_format(key + len, offset + i)] = '\0';
        put_count_field(out, first, key, counts[i]);
    }
}

static uint32_t n_not_empty(const uint64_t *counts, uint32_t n)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) k += counts[i] != 0;
    return k;
}

static enum tg_code put_exp_histogram(struct tg_buf *out, const struct tg_exp_histogram *h)
{
    const size_t first = out->len;
    TG_TRY(reserve_fields(out, UINT64_C(7) + n_not_empty(h->pos, h->n_pos) +
                                   n_not_empty(h->neg, h->n_neg)));
    put_count_field(out, first, "count", h->count);
    if (h->has_sum) put_double_field(out, first, "sum", h->sum);
    if (h->has_min) put_double_field(out, first, "min", h->min);
    if (h->has_max) put_double_field(out, first, "max", h->max);
    put_count_field(out, first, "zero_count", h->zero_count);
    put_double_field(out, first, "zero_threshold", h->zero_threshold);
    put_double_field(out, first, "scale", h->scale);
    put_exp_buckets(out, first, "pos_", h->pos_offset, h->pos, h->n_pos);
    put_exp_buckets(out, first, "neg_", h->neg_offset, h->neg, h->n_neg);
    return TG_OK;
}

static uint32_t n_not_zero(const double *counts, uint32_t n)
{
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) k += counts[i] != 0;
    return k;
}

static void put_float_buckets(struct tg_buf *out, size_t first, const char *prefix, int64_t offset,
                              const double *counts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (counts[i] == 0) continue;
        char key[8 + TG_U64_MAX_LEN + 1];
        const size_t len = strlen(prefix);
        memcpy(key, prefix, len);
        key[len + tg_i64_format(key + len, offset + i)] = '\0';
        put_double_field(out, first, key, counts[i]);
    }
}

/* As the histogram of integers with the same buckets. TG_ERR_UNSUPPORTED: nothing that was counted
 * is finite; a threshold and a scale alone say nothing. */
static enum tg_code put_float_histogram(struct tg_buf *out, const struct tg_float_histogram *h,
                                        struct tg_err *err)
{
    const size_t first = out->len;
    const bool custom = h->scale == TG_SCALE_CUSTOM;
    TG_TRY(reserve_fields(
        out, UINT64_C(5) + (custom ? h->n_pos
                                   : n_not_zero(h->pos, h->n_pos) + n_not_zero(h->neg, h->n_neg))));
    put_double_field(out, first, "count", h->count);
    put_double_field(out, first, "sum", h->sum);
    if (custom) {
        double total = 0;
        for (uint32_t i = 0; i < h->n_pos; i++) {
            total += h->pos[i];
            if (!isfinite(total)) break;
            const double bound = bound_of(h->bounds, h->n_bounds, i);
            if (i + 1 < h->n_pos && bound == bound_of(h->bounds, h->n_bounds, i + 1)) continue;
            put_number_key(out, first, bound);
            put_double(out, total);
        }
    } else {
        put_double_field(out, first, "zero_count", h->zero_count);
        put_float_buckets(out, first, "pos_", h->pos_offset, h->pos, h->n_pos);
        put_float_buckets(out, first, "neg_", h->neg_offset, h->neg, h->n_neg);
    }
    if (out->len == first)
        return tg_fail(err, TG_ERR_UNSUPPORTED, "line protocol has no form for NaN and infinity");
    if (custom) return TG_OK;
    put_double_field(out, first, "zero_threshold", h->zero_threshold);
    put_double_field(out, first, "scale", h->scale);
    return TG_OK;
}

/* By quantile; of equal ones as they were sent. */
static int cmp_quantiles(const void *a, const void *b)
{
    const struct tg_quantile *const *x = a;
    const struct tg_quantile *const *y = b;
    if ((*x)->quantile != (*y)->quantile) return (*x)->quantile < (*y)->quantile ? -1 : 1;
    return (*x > *y) - (*x < *y);
}

/* The room is reserved. Of a quantile that is given twice the last stands: a line that has a field
 * twice would leave the choice to the server. Those that ascend, as nearly all do, are not sorted.
 */
static enum tg_code put_quantiles(struct tg_buf *out, size_t first, const struct tg_summary *s)
{
    bool ascend = true;
    for (uint32_t i = 1; i < s->n_quantiles; i++)
        ascend &= s->quantiles[i - 1].quantile < s->quantiles[i].quantile;
    const struct tg_quantile **order = NULL;
    if (!ascend && !(order = tg_calloc(s->n_quantiles, sizeof(*order)))) return TG_ERR_NOMEM;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_quantiles; i++) {
        const struct tg_quantile *q = &s->quantiles[i];
        if (!isfinite(q->value)) continue;
        if (order) {
            order[n++] = q;
            continue;
        }
        put_number_key(out, first, q->quantile);
        put_double(out, q->value);
    }
    if (n > 1) qsort(order, n, sizeof(const struct tg_quantile *), cmp_quantiles);
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 < n && order[i]->quantile == order[i + 1]->quantile) continue;
        put_number_key(out, first, order[i]->quantile);
        put_double(out, order[i]->value);
    }
    tg_free(order);
    return TG_OK;
}

static enum tg_code put_summary(struct tg_buf *out, const struct tg_summary *s)
{
    const size_t first = out->len;
    TG_TRY(reserve_fields(out, UINT64_C(2) + s->n_quantiles));
    put_count_field(out, first, "count", s->count);
    put_double_field(out, first, "sum", s->sum);
    return put_quantiles(out, first, s);
}

static enum tg_code put_string(struct tg_buf *out, const struct tg_string *s)
{
    TG_TRY(tg_buf_reserve(out, 2 * (size_t)s->len + 2 + TAIL_MAX_BYTES));
    tg_buf_put_u8(out, '"');
    for (uint32_t i = 0; i < s->len; i++) {
        if (s->ptr[i] == '"' || s->ptr[i] == '\\') tg_buf_put_u8(out, '\\');
        tg_buf_put_u8(out, (uint8_t)s->ptr[i]);
    }
    tg_buf_put_u8(out, '"');
    return TG_OK;
}

/* The value of a series' single field. The caller reserved for a number. */
static enum tg_code put_scalar(struct tg_buf *out, const struct tg_point *p, unsigned flags,
                               struct tg_err *err)
{
    switch (tg_point_value_type(p)) {
    case TG_VALUE_DOUBLE:
        if (!isfinite(p->value.f64))
            return tg_fail(err, TG_ERR_UNSUPPORTED,
                           "line protocol has no form for NaN and infinity");
        put_double(out, p->value.f64);
        return TG_OK;
    case TG_VALUE_INT64:
        out->len += tg_i64_format((char *)out->data + out->len, p->value.i64);
        if (!(flags & TG_INFLUX_FLOATS)) tg_buf_put_u8(out, 'i'); /* digits alone are a float */
        return TG_OK;
    case TG_VALUE_UINT64:
        if (flags & TG_INFLUX_FLOATS) {
            put_u64(out, p->value.u64);
            return TG_OK;
        }
        if ((flags & TG_INFLUX_NO_UNSIGNED) && p->value.u64 > INT64_MAX)
            return tg_fail(err, TG_ERR_UNSUPPORTED,
                           "%llu is over the largest integer of a server without unsigned integers",
                           (unsigned long long)p->value.u64);
        put_u64(out, p->value.u64);
        tg_buf_put_u8(out, flags & TG_INFLUX_NO_UNSIGNED ? 'i' : 'u');
        return TG_OK;
    case TG_VALUE_BOOL:
        if (p->value.i64)
            tg_buf_put(out, "true", 4);
        else
            tg_buf_put(out, "false", 5);
        return TG_OK;
    case TG_VALUE_STRING: return put_string(out, p->value.string);
    case TG_VALUE_EXEMPLARS:
        return tg_fail(err, TG_ERR_UNSUPPORTED, "line protocol has no form for exemplars");
    default:
        return tg_fail(err, TG_ERR_UNSUPPORTED,
                       "line protocol has no form for a point without "
                       "a value");
    }
}

enum tg_code tg_influx_append_point(const uint8_t *prepared, size_t prepared_len,
                                    const struct tg_point *p, unsigned flags, struct tg_buf *out,
                                    struct tg_err *err)
{
    const size_t before = out->len;
    uint32_t series_len = 0;
    if (prepared_len > HEADER_BYTES) memcpy(&series_len, prepared, HEADER_BYTES);
    if (series_len < 2 || series_len >= prepared_len - HEADER_BYTES)
        return tg_fail(err, TG_ERR_CORRUPT, "prepared bytes of %zu bytes are no Influx series",
                       prepared_len);
    prepared += HEADER_BYTES;
    prepared_len -= HEADER_BYTES;
    enum tg_code code = tg_buf_reserve(out, prepared_len + TG_DOUBLE_MAX_LEN + TAIL_MAX_BYTES);
    if (code != TG_OK) goto fail;
    switch (tg_point_value_type(p)) {
    case TG_VALUE_HISTOGRAM:
        tg_buf_put(out, prepared, series_len);
        code = put_histogram(out, p->value.histogram);
        break;
    case TG_VALUE_EXP_HISTOGRAM:
        tg_buf_put(out, prepared, series_len);
        code = put_exp_histogram(out, p->value.exp_histogram);
        break;
    case TG_VALUE_FLOAT_HISTOGRAM:
        tg_buf_put(out, prepared, series_len);
        code = put_float_histogram(out, p->value.float_histogram, err);
        break;
    case TG_VALUE_SUMMARY:
        tg_buf_put(out, prepared, series_len);
        code = put_summary(out, p->value.summary);
        break;
    default:
        tg_buf_put(out, prepared, prepared_len);
        code = put_scalar(out, p, flags, err);
        break;
    }
    if (code == TG_ERR_UNSUPPORTED) {
        out->len = before;
        return code;
    }
    if (code != TG_OK) goto fail;
    tg_buf_put_u8(out, ' ');
    out->len += tg_i64_format((char *)out->data + out->len, p->ts_ns);
    tg_buf_put_u8(out, '\n');
    return TG_OK;
fail:
    out->len = before;
    return code == TG_ERR_TOO_LARGE
               ? tg_fail(err, code, "the line does not fit the buffer's maximum of %zu bytes",
                         out->max_bytes)
               : tg_fail(err, code, "out of memory for a line");
}

/* ---- what is left out of a point that is written ---- */

static unsigned is_left_out(double v)
{
    return isfinite(v) ? 0U : 1U;
}

static unsigned of_floats(const double *v, uint32_t n)
{
    unsigned k = 0;
    for (uint32_t i = 0; i < n; i++) k += is_left_out(v[i]);
    return k;
}

/* Totals: from the first that is not finite on, none is. */
static unsigned of_totals(const double *v, uint32_t n)
{
    double total = 0;
    for (uint32_t i = 0; i < n; i++) {
        total += v[i];
        if (!isfinite(total)) return n - i;
    }
    return 0;
}

static unsigned of_float_histogram(const struct tg_float_histogram *h)
{
    const unsigned n = is_left_out(h->count) + is_left_out(h->sum);
    if (h->scale == TG_SCALE_CUSTOM) return n + of_totals(h->pos, h->n_pos);
    return n + is_left_out(h->zero_count) + is_left_out(h->zero_threshold) +
           of_floats(h->pos, h->n_pos) + of_floats(h->neg, h->n_neg);
}

/* Which of them stand is put_quantiles' to say: each that it writes has one "=". */
static unsigned of_summary(const struct tg_summary *s)
{
    struct tg_buf out;
    uint32_t n_written = 0;
    tg_buf_init(&out, 0);
    if (reserve_fields(&out, UINT64_C(2) + s->n_quantiles) == TG_OK &&
        put_quantiles(&out, 0, s) == TG_OK)
        for (size_t i = 0; i < out.len; i++) n_written += out.data[i] == '=';
    else
        n_written = s->n_quantiles; /* without memory: not known */
    tg_buf_deinit(&out);
    return is_left_out(s->sum) + s->n_quantiles - n_written;
}

static unsigned of_known(bool has_sum, double sum, bool has_min, double min, bool has_max,
                         double max)
{
    return (has_sum ? is_left_out(sum) : 0U) + (has_min ? is_left_out(min) : 0U) +
           (has_max ? is_left_out(max) : 0U);
}

void tg_influx_left_out(const struct tg_point *p, struct tg_left_out *left_out)
{
    uint64_t *const n = &left_out->n[TG_LEFT_OUT_FIELD];
    if (p->exemplars) left_out->n[TG_LEFT_OUT_EXEMPLAR] += p->exemplars->n;
    switch (tg_point_value_type(p)) {
    case TG_VALUE_HISTOGRAM: {
        const struct tg_histogram *h = p->value.histogram;
        *n += of_known(h->has_sum, h->sum, h->has_min, h->min, h->has_max, h->max);
        break;
    }
    case TG_VALUE_EXP_HISTOGRAM: {
        const struct tg_exp_histogram *h = p->value.exp_histogram;
        *n += of_known(h->has_sum, h->sum, h->has_min, h->min, h->has_max, h->max) +
              is_left_out(h->zero_threshold);
        break;
    }
    case TG_VALUE_FLOAT_HISTOGRAM: *n += of_float_histogram(p->value.float_histogram); break;
    case TG_VALUE_SUMMARY: *n += of_summary(p->value.summary); break;
    default: break;
    }
}
