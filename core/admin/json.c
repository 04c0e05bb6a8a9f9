#include "core/admin/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/base/number.h"
#include "core/base/time_text.h"
#include "core/base/utf8.h"
#include "core/parquet/parquet_json.h"

const char *tg_value_type_name(uint8_t type)
{
    static const char *const names[TG_VALUE_TYPES] = {
        [TG_VALUE_DOUBLE] = "double",
        [TG_VALUE_INT64] = "int64",
        [TG_VALUE_UINT64] = "uint64",
        [TG_VALUE_BOOL] = "bool",
        [TG_VALUE_NONE] = "none",
        [TG_VALUE_HISTOGRAM] = "histogram",
        [TG_VALUE_EXP_HISTOGRAM] = "exponential_histogram",
        [TG_VALUE_SUMMARY] = "summary",
        [TG_VALUE_STRING] = "string",
        [TG_VALUE_EXEMPLARS] = "exemplars",
        [TG_VALUE_FLOAT_HISTOGRAM] = "float_histogram",
    };
    return type < TG_VALUE_TYPES ? names[type] : "unknown";
}

enum tg_code tg_json_string(struct tg_buf *out, const char *s, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    if (len > SIZE_MAX / 8) return TG_ERR_TOO_LARGE;
    TG_TRY(tg_buf_reserve(out, len * 6 + 2));
    const uint8_t *p = (const uint8_t *)s;
    tg_buf_put_u8(out, '"');
    for (size_t i = 0; i < len;) {
        const uint8_t c = p[i];
        if (c == '"' || c == '\\') {
            tg_buf_put_u8(out, '\\');
            tg_buf_put_u8(out, c);
            i++;
        } else if (c < 0x20) {
            const char esc[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            tg_buf_put(out, esc, sizeof(esc));
            i++;
        } else {
            const size_t n = tg_utf8_len(p + i, len - i);
            if (n)
                tg_buf_put(out, p + i, n);
            else
                tg_buf_put(out, "\xEF\xBF\xBD", 3);
            i += n ? n : 1;
        }
    }
    tg_buf_put_u8(out, '"');
    return TG_OK;
}

static enum tg_code put_text(struct tg_buf *out, const char *s)
{
    return tg_buf_append(out, s, strlen(s));
}

static enum tg_code put_u64(struct tg_buf *out, uint64_t v)
{
    TG_TRY(tg_buf_reserve(out, TG_U64_MAX_LEN));
    out->len += tg_u64_format((char *)out->data + out->len, v);
    return TG_OK;
}

static enum tg_code put_i64(struct tg_buf *out, int64_t v)
{
    TG_TRY(tg_buf_reserve(out, TG_U64_MAX_LEN));
    out->len += tg_i64_format((char *)out->data + out->len, v);
    return TG_OK;
}

enum tg_code tg_json_double(struct tg_buf *out, double v)
{
    TG_TRY(tg_buf_reserve(out, TG_DOUBLE_MAX_LEN + 2));
    const bool quoted = !isfinite(v);
    if (quoted) tg_buf_put_u8(out, '"');
    out->len += tg_double_format((char *)out->data + out->len, v);
    if (quoted) tg_buf_put_u8(out, '"');
    return TG_OK;
}

enum tg_code tg_json_time(struct tg_buf *out, int64_t ts_ns)
{
    char text[TG_TIME_TEXT_MAX];
    (void)tg_time_text(text, ts_ns, 9);
    return tg_buf_printf(out, "\"%s\"", text);
}

static enum tg_code put_counts(struct tg_buf *out, const uint64_t *counts, uint32_t n)
{
    TG_TRY(put_text(out, "["));
    for (uint32_t i = 0; i < n; i++) {
        if (i) TG_TRY(put_text(out, ","));
        TG_TRY(put_u64(out, counts[i]));
    }
    return put_text(out, "]");
}

static enum tg_code put_named_double(struct tg_buf *out, const char *name, double v)
{
    TG_TRY(put_text(out, name));
    return tg_json_double(out, v);
}

static enum tg_code put_histogram(struct tg_buf *out, const struct tg_histogram *h)
{
    TG_TRY(put_text(out, "{\"count\":"));
    TG_TRY(put_u64(out, h->count));
    if (h->has_sum) TG_TRY(put_named_double(out, ",\"sum\":", h->sum));
    if (h->has_min) TG_TRY(put_named_double(out, ",\"min\":", h->min));
    if (h->has_max) TG_TRY(put_named_double(out, ",\"max\":", h->max));
    TG_TRY(put_text(out, ",\"bounds\":["));
    for (uint32_t i = 0; i < h->n_bounds; i++)
        TG_TRY(put_named_double(out, i ? "," : "", h->bounds[i]));
    TG_TRY(put_text(out, "],\"buckets\":"));
    TG_TRY(put_counts(out, h->buckets, h->n_buckets));
    return put_text(out, "}");
}

static enum tg_code put_exp_histogram(struct tg_buf *out, const struct tg_exp_histogram *h)
{
    TG_TRY(put_text(out, "{\"count\":"));
    TG_TRY(put_u64(out, h->count));
    if (h->has_sum) TG_TRY(put_named_double(out, ",\"sum\":", h->sum));
    if (h->has_min) TG_TRY(put_named_double(out, ",\"min\":", h->min));
    if (h->has_max) TG_TRY(put_named_double(out, ",\"max\":", h->max));
    TG_TRY(tg_buf_printf(out, ",\"scale\":%" PRId32 ",\"zero_count\":%" PRIu64, h->scale,
                         h->zero_count));
    TG_TRY(put_named_double(out, ",\"zero_threshold\":", h->zero_threshold));
    TG_TRY(tg_buf_printf(out, ",\"positive\":{\"offset\":%" PRId32 ",\"buckets\":", h->pos_offset));
    TG_TRY(put_counts(out, h->pos, h->n_pos));
    TG_TRY(
        tg_buf_printf(out, "},\"negative\":{\"offset\":%" PRId32 ",\"buckets\":", h->neg_offset));
    TG_TRY(put_counts(out, h->neg, h->n_neg));
    return put_text(out, "}}");
}

static enum tg_code put_doubles(struct tg_buf *out, const double *v, uint32_t n)
{
    TG_TRY(put_text(out, "["));
    for (uint32_t i = 0; i < n; i++) TG_TRY(put_named_double(out, i ? "," : "", v[i]));
    return put_text(out, "]");
}

/* With the names of the histogram of integers that has the same buckets. */
static enum tg_code put_float_histogram(struct tg_buf *out, const struct tg_float_histogram *h)
{
    TG_TRY(put_named_double(out, "{\"count\":", h->count));
    TG_TRY(put_named_double(out, ",\"sum\":", h->sum));
    if (h->scale == TG_SCALE_CUSTOM) {
        TG_TRY(put_text(out, ",\"bounds\":"));
        TG_TRY(put_doubles(out, h->bounds, h->n_bounds));
        TG_TRY(put_text(out, ",\"buckets\":"));
        TG_TRY(put_doubles(out, h->pos, h->n_pos));
        return put_text(out, "}");
    }
    TG_TRY(tg_buf_printf(out, ",\"scale\":%" PRId32, h->scale));
    TG_TRY(put_named_double(out, ",\"zero_count\":", h->zero_count));
    TG_TRY(put_named_double(out, ",\"zero_threshold\":", h->zero_threshold));
    TG_TRY(tg_buf_printf(out, ",\"positive\":{\"offset\":%" PRId32 ",\"buckets\":", h->pos_offset));
    TG_TRY(put_doubles(out, h->pos, h->n_pos));
    TG_TRY(
        tg_buf_printf(out, "},\"negative\":{\"offset\":%" PRId32 ",\"buckets\":", h->neg_offset));
    TG_TRY(put_doubles(out, h->neg, h->n_neg));
    return put_text(out, "}}");
}

static enum tg_code put_summary(struct tg_buf *out, const struct tg_summary *s)
{
    TG_TRY(put_text(out, "{\"count\":"));
    TG_TRY(put_u64(out, s->count));
    TG_TRY(put_named_double(out, ",\"sum\":", s->sum));
    TG_TRY(put_text(out, ",\"quantiles\":["));
    for (uint32_t i = 0; i < s->n_quantiles; i++) {
        TG_TRY(put_named_double(
            out, i ? ",{\"quantile\":" : "{\"quantile\":", s->quantiles[i].quantile));
        TG_TRY(put_named_double(out, ",\"value\":", s->quantiles[i].value));
        TG_TRY(put_text(out, "}"));
    }
    return put_text(out, "]}");
}

enum tg_code tg_json_value(struct tg_buf *out, const struct tg_point *p)
{
    switch (tg_point_value_type(p)) {
    case TG_VALUE_DOUBLE: return tg_json_double(out, p->value.f64);
    case TG_VALUE_INT64: return put_i64(out, p->value.i64);
    case TG_VALUE_UINT64: return put_u64(out, p->value.u64);
    case TG_VALUE_BOOL: return put_text(out, p->value.i64 ? "true" : "false");
    case TG_VALUE_STRING: return tg_json_string(out, p->value.string->ptr, p->value.string->len);
    case TG_VALUE_HISTOGRAM: return put_histogram(out, p->value.histogram);
    case TG_VALUE_EXP_HISTOGRAM: return put_exp_histogram(out, p->value.exp_histogram);
    case TG_VALUE_FLOAT_HISTOGRAM: return put_float_histogram(out, p->value.float_histogram);
    case TG_VALUE_SUMMARY: return put_summary(out, p->value.summary);
    default: return put_text(out, "null");
    }
}

enum tg_code tg_json_row(struct tg_buf *out, const struct tg_query_row *row)
{
    const struct tg_series_desc *d = row->series;
    TG_TRY(put_text(out, "{\"name\":"));
    TG_TRY(tg_json_string(out, d->name, d->name_len));
    TG_TRY(tg_buf_printf(out, ",\"kind\":\"%s\",\"unit\":", tg_kind_name((enum tg_kind)d->kind)));
    TG_TRY(tg_json_string(out, d->unit, d->unit_len));
    TG_TRY(put_text(out, ",\"tags\":{"));
    for (uint32_t i = 0; i < d->n_tags; i++) {
        if (i) TG_TRY(put_text(out, ","));
        TG_TRY(tg_json_string(out, d->tags[i].key, d->tags[i].key_len));
        TG_TRY(put_text(out, ":"));
        TG_TRY(tg_json_string(out, d->tags[i].value, d->tags[i].value_len));
    }
    TG_TRY(put_text(out, "},\"time\":"));
    TG_TRY(tg_json_time(out, row->point->ts_ns));
    TG_TRY(tg_buf_printf(out, ",\"time_ns\":%" PRId64, row->point->ts_ns));
    if (row->point->start_ns)
        TG_TRY(tg_buf_printf(out, ",\"start_ns\":%" PRId64, row->point->start_ns));
    TG_TRY(tg_buf_printf(
        out, ",\"type\":\"%s\",\"value\":", tg_value_type_name(tg_point_value_type(row->point))));
    TG_TRY(tg_json_value(out, row->point));
    const char *hint = tg_reset_hint_name(row->point->flags);
    if (hint) TG_TRY(tg_buf_printf(out, ",\"reset_hint\":\"%s\"", hint));
    if (row->point->exemplars && row->point->exemplars->n) {
        TG_TRY(put_text(out, ",\"exemplars\":"));
        TG_TRY(tg_parquet_exemplars_encode(row->point->exemplars, out));
    }
    return put_text(out, "}");
}
