/* Remote write: decode; the same again from memory of raw keys; write the points as the prometheus
 * backend does and read them back; and everything under tight limits. */
#include <stdlib.h>

#include "core/protocol/prom_name.h"
#include "core/protocol/remote_write.h"
#include "tests/support/decode_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) abort();
}

static bool is_name(const char *s, uint32_t len, bool colon)
{
    for (uint32_t i = 0; i < len; i++) {
        const char c = s[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && !(colon && c == ':') && !(i > 0 && c >= '0' && c <= '9')) return false;
    }
    return len > 0;
}

/* Names that Prometheus takes as they are. For histograms words are joined anew. */
static bool keeps_names(const struct tg_series_desc *d)
{
    if (d->kind != TG_KIND_UNKNOWN || !is_name(d->name, d->name_len, true)) return false;
    for (uint32_t i = 0; i < d->n_tags; i++)
        if (!is_name(d->tags[i].key, d->tags[i].key_len, false)) return false;
    return true;
}

struct side { /* buckets without the empty ones around them */
    int64_t first;
    uint32_t n;
    const uint64_t *counts;
};

static struct side trim(int32_t offset, const uint64_t *counts, uint32_t n)
{
    uint32_t from = 0;
    while (n > from && counts[n - 1] == 0) n--;
    while (from < n && counts[from] == 0) from++;
    if (from == n) return (struct side){.first = 0};
    return (struct side){(int64_t)offset + from, n - from, counts + from};
}

static bool same_side(struct side a, struct side b)
{
    return a.first == b.first && a.n == b.n &&
           (a.n == 0 || memcmp(a.counts, b.counts, a.n * 8) == 0);
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits;
}

/* As same_side; an empty bucket may be -0. */
static bool same_floats(int32_t a_offset, const double *a, uint32_t n_a, int32_t b_offset,
                        const double *b, uint32_t n_b)
{
    int64_t first = a_offset < b_offset ? a_offset : b_offset;
    const int64_t a_end = (int64_t)a_offset + n_a;
    const int64_t b_end = (int64_t)b_offset + n_b;
    if (n_a == 0) first = b_offset;
    if (n_b == 0) first = a_offset;
    if (n_b && (b_offset < a_offset || b_end > a_end)) return false; /* what is sent is trimmed */
    for (int64_t i = first; i < a_end; i++) {
        const double x = i >= a_offset ? a[i - a_offset] : 0;
        const double y = i >= b_offset && i < b_end ? b[i - b_offset] : 0;
        if (bits_of(x) != bits_of(y) && !(x == 0 && y == 0)) return false;
    }
    return true;
}

static bool same_float_histogram(const struct tg_float_histogram *x,
                                 const struct tg_float_histogram *y)
{
    return bits_of(x->count) == bits_of(y->count) &&
           bits_of(x->zero_count) == bits_of(y->zero_count) && bits_of(x->sum) == bits_of(y->sum) &&
           x->scale == y->scale && bits_of(x->zero_threshold) == bits_of(y->zero_threshold) &&
           x->n_bounds == y->n_bounds &&
           (x->n_bounds == 0 || memcmp(x->bounds, y->bounds, 8 * (size_t)x->n_bounds) == 0) &&
           same_floats(x->pos_offset, x->pos, x->n_pos, y->pos_offset, y->pos, y->n_pos) &&
           same_floats(x->neg_offset, x->neg, x->n_neg, y->neg_offset, y->neg, y->n_neg);
}

static bool same_value(const struct tg_point *a, const struct tg_point *b)
{
    if (a->type == TG_VALUE_FLOAT_HISTOGRAM && b->type == a->type)
        return a->ts_ns == b->ts_ns && a->flags == b->flags &&
               same_float_histogram(a->value.float_histogram, b->value.float_histogram);
    if (a->type != TG_VALUE_EXP_HISTOGRAM || b->type != a->type) {
        /* labels of exemplars are renamed and cut */
        struct tg_point p = *a;
        struct tg_point q = *b;
        p.exemplars = q.exemplars = NULL;
        return tg_point_equal(&p, &q);
    }
    const struct tg_exp_histogram *x = a->value.exp_histogram;
    const struct tg_exp_histogram *y = b->value.exp_histogram;
    return a->ts_ns == b->ts_ns && a->flags == b->flags && x->count == y->count &&
           x->zero_count == y->zero_count && bits_of(x->sum) == bits_of(y->sum) &&
           x->scale == y->scale && bits_of(x->zero_threshold) == bits_of(y->zero_threshold) &&
           same_side(trim(x->pos_offset, x->pos, x->n_pos),
                     trim(y->pos_offset, y->pos, y->n_pos)) &&
           same_side(trim(x->neg_offset, x->neg, x->n_neg), trim(y->neg_offset, y->neg, y->n_neg));
}

static void check_round_trip(struct tg_decode_fixture *f)
{
    struct tg_buf prepared;
    struct tg_buf out;
    struct tg_err err;
    const uint32_t n = f->batch.n_points;
    struct tg_otlp_item *items = tg_decode_items(f);
    if (!items) return; /* more than the scratch arena holds */
    tg_buf_init(&prepared, 0);
    tg_buf_init(&out, 0);
    for (uint32_t i = 0; i < n; i++) {
        tg_buf_reset(&prepared);
        tg_buf_reset(&out);
        const enum tg_code code =
            tg_remote_write_prepare(items[i].desc, &tg_prom_names_default, NULL, &prepared, &err);
        check(code == TG_OK || (code == TG_ERR_INVALID && prepared.len == 0));
        if (code != TG_OK) continue;
        const enum tg_code written = tg_remote_write_append_point(
            &out, prepared.data, (uint32_t)prepared.len, items[i].point);
        check(written == TG_OK);
        struct tg_decode_fixture g;
        tg_decode_fixture_init(&g, NULL);
        check(tg_remote_write_decode(out.data, out.len, &g.d, &err) == TG_OK);
        check(g.batch.n_points == 1 || g.d.n_rejected == 1);
        if (g.batch.n_points) check(same_value(items[i].point, &g.batch.points[0]));
        if (keeps_names(items[i].desc)) {
            struct tg_series_desc d;
            check(g.batch.n_points == 1);
            check(tg_table_describe(g.table, g.batch.points[0].series, &d, &g.scratch) == TG_OK);
            struct tg_buf x;
            struct tg_buf y;
            tg_buf_init(&x, 0);
            tg_buf_init(&y, 0);
            check(tg_series_desc_encode(items[i].desc, &x) == TG_OK);
            check(tg_series_desc_encode(&d, &y) == TG_OK);
            check(x.len == y.len && memcmp(x.data, y.data, x.len) == 0);
            tg_buf_deinit(&x);
            tg_buf_deinit(&y);
        }
        tg_decode_fixture_deinit(&g);
    }
    tg_buf_deinit(&prepared);
    tg_buf_deinit(&out);
}

static void check_limits(const uint8_t *data, size_t size)
{
    static const struct tg_table_config config = {
        .max_series = 2,
        .max_raw_keys = 3,
        .limits = {.max_tags = 3, .max_name_bytes = 8, .max_key_bytes = 8, .max_value_bytes = 8}};
    struct tg_decode_fixture f;
    struct tg_err err;
    tg_decode_fixture_init(&f, &config);
    tg_batch_deinit(&f.batch);
    tg_batch_init(&f.batch, tg_table_guard(f.table), 5, 2048);
    const enum tg_code code = tg_remote_write_decode(data, size, &f.d, &err);
    check(code == TG_OK || f.batch.n_points == 0);
    check(f.batch.n_points <= 5 && tg_table_stats(f.table).n_series <= 2);
    check(f.batch.arena.used_bytes <= 2048);
    tg_decode_fixture_deinit(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tg_decode_fixture f;
    struct tg_err err = {.msg = ""};
    tg_decode_fixture_init(&f, NULL);
    const enum tg_code code = tg_remote_write_decode(data, size, &f.d, &err);
    check(f.d.n_accepted == f.batch.n_points);
    if (code == TG_OK) {
        const uint64_t n_rejected = f.d.n_rejected;
        const uint32_t n = f.batch.n_points;
        check(tg_remote_write_decode(data, size, &f.d, &err) == TG_OK);
        check(f.batch.n_points == 2 * n && f.d.n_rejected == 2 * n_rejected);
        for (uint32_t i = 0; i < n; i++) {
            check(f.batch.points[i].series == f.batch.points[n + i].series);
            check(tg_point_equal(&f.batch.points[i], &f.batch.points[n + i]));
        }
        f.batch.n_points = n < 8 ? n : 8; /* each is a table of its own */
        check_round_trip(&f);
    } else {
        check(f.batch.n_points == 0 && err.msg[0] != '\0' && err.code == code);
        check(err.offset == TG_NO_OFFSET || err.offset <= size);
    }
    tg_decode_fixture_deinit(&f);
    check_limits(data, size);
    return 0;
}
