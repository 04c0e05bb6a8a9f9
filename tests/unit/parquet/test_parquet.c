/* Points through the Parquet writer and back through the reader, and what damage does. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/parquet/parquet_reader.h"
#include "tests/support/parquet_sample.h"

#define DAY INT64_C(1700000000000000000)

struct lines {
    char **items;
    size_t n, cap;
    struct tg_buf one;
};

static void lines_init(struct lines *l)
{
    memset(l, 0, sizeof(*l));
    tg_buf_init(&l->one, 0);
}

static void lines_deinit(struct lines *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->items[i]);
    free(l->items);
    tg_buf_deinit(&l->one);
}

static void lines_add(struct lines *l, const struct tg_series_desc *d, const struct tg_point *p)
{
    tg_buf_reset(&l->one);
    assert_int_equal(tg_sample_print(d, p, &l->one), TG_OK);
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->items = realloc(l->items, l->cap * sizeof(*l->items));
    }
    l->items[l->n++] = strndup((const char *)l->one.data, l->one.len);
}

static int line_cmp(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void lines_equal(struct lines *a, struct lines *b)
{
    assert_int_equal(a->n, b->n);
    if (a->n == 0) return;
    qsort(a->items, a->n, sizeof(*a->items), line_cmp);
    qsort(b->items, b->n, sizeof(*b->items), line_cmp);
    for (size_t i = 0; i < a->n; i++) assert_string_equal(a->items[i], b->items[i]);
}

static bool collect(void *arg, const struct tg_series_desc *d, const struct tg_point *p)
{
    lines_add(arg, d, p);
    return true;
}

static bool matches(const struct tg_series_desc *d, const struct tg_point *p,
                    const struct tg_parquet_filter *f)
{
    if (p->ts_ns < f->start_ns || p->ts_ns >= f->end_ns) return false;
    if (f->name && (strlen(f->name) != d->name_len || memcmp(f->name, d->name, d->name_len) != 0))
        return false;
    for (uint32_t i = 0; i < f->n_tags; i++) {
        const struct tg_tag *t = tg_series_desc_tag(d, f->tags[i].key, f->tags[i].key_len);
        if (!t || t->value_len != f->tags[i].value_len ||
            memcmp(t->value, f->tags[i].value, t->value_len) != 0)
            return false;
    }
    return true;
}

/* The sample's lines that pass the filter. */
static void expect(const struct tg_sample *s, const struct tg_parquet_filter *f, struct lines *out)
{
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    for (uint32_t i = 0; i < s->n; i++) {
        struct tg_series_desc d;
        tg_arena_reset(&arena);
        assert_int_equal(
            tg_series_desc_parse(s->points[i].series, s->points[i].series_len, &d, &arena, NULL),
            TG_OK);
        if (matches(&d, &s->points[i].point, f)) lines_add(out, &d, &s->points[i].point);
    }
    tg_arena_deinit(&arena);
}

static const struct tg_parquet_filter everything = {.start_ns = INT64_MIN, .end_ns = INT64_MAX};

static enum tg_code scan(struct tg_parquet_reader *r, const uint8_t *file, size_t len,
                         const struct tg_parquet_filter *f, tg_parquet_on_row on_row, void *arg,
                         uint64_t *n, struct tg_err *err)
{
    uint64_t footer;
    *n = 0;
    if (len < TG_PARQUET_TAIL) return tg_fail(err, TG_ERR_CORRUPT, "short");
    TG_TRY(tg_parquet_footer_len(file + len - TG_PARQUET_TAIL, len, &footer, err));
    /* copies of exactly their sizes, so that a read past the end is seen */
    uint8_t *copy = tg_malloc(footer);
    if (!copy) return TG_ERR_NOMEM;
    memcpy(copy, file + len - footer, footer);
    enum tg_code code = tg_parquet_reader_footer(r, copy, footer, len, err);
    if (code == TG_OK && tg_parquet_reader_may_match(r, f))
        code = tg_parquet_reader_scan(r, file, f, on_row, arg, n, err);
    tg_free(copy);
    return code;
}

static void write_ok(const struct tg_sample *s, struct tg_parquet_options o, struct tg_buf *out)
{
    struct tg_parquet_info info = {.from_pos = 3, .to_pos = UINT64_MAX, .part = 2, .keep_ms = -5};
    struct tg_err err = {.msg = ""};
    tg_buf_init(out, 0);
    const enum tg_code code = tg_sample_write(s, &o, &info, out, &err);
    if (code != TG_OK) print_error("%s\n", err.msg);
    assert_int_equal(code, TG_OK);
    assert_int_equal(info.n_rows, s->n);
}

static const struct tg_parquet_options shapes[] = {
    {.codec = TG_PARQUET_ZSTD},
    {.codec = TG_PARQUET_SNAPPY},
    {.codec = TG_PARQUET_UNCOMPRESSED},
    {.codec = TG_PARQUET_ZSTD, .page_rows = 1},
    {.codec = TG_PARQUET_ZSTD, .page_rows = 7, .row_group_rows = 20},
    {.codec = TG_PARQUET_SNAPPY, .page_bytes = 40},
    {.codec = TG_PARQUET_ZSTD, .dict_bytes = 1, .page_rows = 9},
    {.codec = TG_PARQUET_ZSTD, .dict_bytes = 1, .page_bytes = 100, .row_group_rows = 33},
    {.codec = TG_PARQUET_ZSTD, .no_dicts = true},
    {.codec = TG_PARQUET_SNAPPY, .no_dicts = true, .page_bytes = 100},
    {.codec = TG_PARQUET_UNCOMPRESSED, .no_dicts = true, .page_rows = 5, .row_group_rows = 33},
};

/* Writes, then reads with several filters; every time the same lines as the sample gives. */
static void round_trip(const struct tg_sample *s, struct tg_parquet_options o)
{
    static const struct tg_tag host = {"host", "a", 4, 1, 0};
    static const struct tg_tag other = {"attribute.1", "value-2", 11, 7, 0};
    const struct tg_parquet_filter filters[] = {
        {.start_ns = INT64_MIN, .end_ns = INT64_MAX},
        {.name = "cpu.load", .name_len = 8, .start_ns = INT64_MIN, .end_ns = INT64_MAX},
        {.name = "latency", .name_len = 7, .start_ns = DAY, .end_ns = DAY + 2},
        {.name = "app.metric.007", .name_len = 14, .start_ns = DAY, .end_ns = INT64_MAX},
        {.name = "nothing", .name_len = 7, .start_ns = INT64_MIN, .end_ns = INT64_MAX},
        {.start_ns = DAY + 5, .end_ns = DAY + 6},
        {.start_ns = 7, .end_ns = 7},
        {.tags = &host, .n_tags = 1, .start_ns = INT64_MIN, .end_ns = INT64_MAX},
        {.tags = &other, .n_tags = 1, .start_ns = DAY + 1000000, .end_ns = INT64_MAX},
    };
    struct tg_buf file;
    write_ok(s, o, &file);
    struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
    for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++) {
        struct lines want, got;
        struct tg_err err = {.msg = ""};
        uint64_t n;
        lines_init(&want);
        lines_init(&got);
        expect(s, &filters[i], &want);
        const enum tg_code code =
            scan(r, file.data, file.len, &filters[i], collect, &got, &n, &err);
        if (code != TG_OK) print_error("filter %zu: %s\n", i, err.msg);
        assert_int_equal(code, TG_OK);
        assert_int_equal(n, got.n);
        /* the filter's end is exclusive, so one point of the sample may be out of reach */
        lines_equal(&got, &want);
        lines_deinit(&want);
        lines_deinit(&got);
    }
    const struct tg_parquet_info *info = tg_parquet_reader_info(r);
    assert_int_equal(info->from_pos, 3);
    assert_true(info->to_pos == UINT64_MAX);
    assert_int_equal(info->part, 2);
    assert_int_equal(info->keep_ms, -5);
    assert_int_equal(info->n_rows, s->n);
    tg_parquet_reader_free(r);
    tg_buf_deinit(&file);
}

static void test_everything_comes_back(void **state)
{
    (void)state;
    struct tg_sample s;
    tg_sample_init(&s);
    tg_sample_edges(&s, DAY, true);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) round_trip(&s, shapes[i]);
    tg_sample_scrapes(&s, 60, 12, 9, DAY, 1000000);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) round_trip(&s, shapes[i]);
    tg_sample_deinit(&s);
}

static void test_one_point_of_each_type(void **state)
{
    (void)state;
    struct tg_sample all;
    tg_sample_init(&all);
    tg_sample_edges(&all, DAY, true);
    for (uint32_t i = 0; i < all.n; i++) {
        const struct tg_sample one = {.points = &all.points[i], .n = 1};
        round_trip(&one, shapes[i % 3]);
    }
    tg_sample_deinit(&all);
}

struct order {
    char name[64];
    int64_t ts;
    double value;
    unsigned n;
};

static bool in_order(void *arg, const struct tg_series_desc *d, const struct tg_point *p)
{
    struct order *o = arg;
    const int c = strncmp(o->name, d->name, d->name_len);
    assert_true(o->n == 0 || c <= 0);
    if (c == 0 && strlen(o->name) == d->name_len && d->n_tags == 0) {
        assert_true(p->ts_ns >= o->ts);
        if (p->ts_ns == o->ts) assert_true(p->value.f64 > o->value);
    }
    (void)snprintf(o->name, sizeof(o->name), "%.*s", (int)d->name_len, d->name);
    o->ts = p->ts_ns;
    o->value = p->value.f64;
    o->n++;
    return true;
}

/* Sorted by name and time; equal times in the order in which they came, also from two addresses. */
static void test_rows_are_sorted(void **state)
{
    (void)state;
    struct tg_sample s;
    uint32_t len;
    tg_sample_init(&s);
    static const char *const names[] = {"b", "aaaaaaaab", "aaaaaaaa", "z", "aaaaaaaaa"};
    for (unsigned i = 0; i < 400; i++) {
        const uint8_t *series = tg_sample_series(&s, names[i % 5], 0, TG_KIND_GAUGE,
                                                 TG_TEMPORALITY_NONE, "", NULL, 0, NULL, &len);
        tg_sample_add(&s, series, len, DAY - (int64_t)(i / 20), TG_VALUE_DOUBLE)->point.value.f64 =
            i;
    }
    struct tg_buf file;
    struct order o = {.n = 0};
    uint64_t n;
    write_ok(&s, (struct tg_parquet_options){.page_rows = 11}, &file);
    struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
    assert_int_equal(scan(r, file.data, file.len, &everything, in_order, &o, &n, NULL), TG_OK);
    assert_int_equal(o.n, 400);
    tg_parquet_reader_free(r);
    tg_buf_deinit(&file);
    tg_sample_deinit(&s);
}

static bool stop_at_three(void *arg, const struct tg_series_desc *d, const struct tg_point *p)
{
    (void)d;
    (void)p;
    return ++*(unsigned *)arg < 3;
}

struct old_rows {
    unsigned n_of[TG_VALUE_TYPES];
};

static bool on_old_row(void *arg, const struct tg_series_desc *d, const struct tg_point *p)
{
    struct old_rows *rows = arg;
    assert_int_equal(p->ts_ns, DAY);
    assert_true(p->type < TG_VALUE_TYPES);
    rows->n_of[p->type]++;
    if (p->type == TG_VALUE_DOUBLE) assert_true(p->value.f64 == 0.5);
    if (p->type == TG_VALUE_NONE) assert_int_equal(p->flags, TG_POINT_NO_VALUE);
    if (p->type == TG_VALUE_EXP_HISTOGRAM) {
        const struct tg_exp_histogram *h = p->value.exp_histogram;
        assert_int_equal(d->kind, TG_KIND_EXP_HISTOGRAM);
        assert_int_equal(h->count, 3);
        assert_int_equal(h->pos_offset, 1);
        assert_int_equal(h->n_pos, 2);
        assert_int_equal(h->pos[1], 2);
        assert_int_equal(h->n_neg, 0);
    }
    return true;
}

/* A file of before float histograms, which has fewer columns. */
static void test_files_of_schema_1(void **state)
{
    static const char path[] = TG_SOURCE_DIR "/tests/fuzz/corpus/parquet_reader/schema_1";
    static uint8_t file[1 << 14];
    struct tg_err err = {.msg = ""};
    uint64_t n;
    (void)state;
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    const size_t len = fread(file, 1, sizeof(file), in);
    (void)fclose(in);
    struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
    assert_non_null(r);
    for (int run = 0; run < 2; run++) {
        struct old_rows rows = {.n_of = {0}};
        if (scan(r, file, len, &everything, on_old_row, &rows, &n, &err) != TG_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(n, 5);
        assert_int_equal(rows.n_of[TG_VALUE_DOUBLE], 1);
        assert_int_equal(rows.n_of[TG_VALUE_INT64], 1);
        assert_int_equal(rows.n_of[TG_VALUE_STRING], 1);
        assert_int_equal(rows.n_of[TG_VALUE_NONE], 1);
        assert_int_equal(rows.n_of[TG_VALUE_EXP_HISTOGRAM], 1);
    }
    tg_parquet_reader_free(r);
}

static void test_scan_stops_when_told(void **state)
{
    (void)state;
    struct tg_sample s;
    struct tg_buf file;
    unsigned n_seen = 0;
    uint64_t n;
    tg_sample_init(&s);
    tg_sample_scrapes(&s, 5, 5, 1, DAY, 1000);
    write_ok(&s, (struct tg_parquet_options){.row_group_rows = 2}, &file);
    struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
    assert_int_equal(scan(r, file.data, file.len, &everything, stop_at_three, &n_seen, &n, NULL),
                     TG_OK);
    assert_int_equal(n_seen, 3);
    assert_int_equal(n, 3);
    tg_parquet_reader_free(r);
    tg_buf_deinit(&file);
    tg_sample_deinit(&s);
}

static bool count(void *arg, const struct tg_series_desc *d, const struct tg_point *p)
{
    (void)d;
    (void)p;
    ++*(unsigned *)arg;
    return true;
}

/* A writer is used again after reset, and after a failure. */
static enum tg_code refuse(void *arg, const void *bytes, size_t len, struct tg_err *err)
{
    (void)arg;
    (void)bytes;
    (void)len;
    return tg_fail(err, TG_ERR_IO, "no room");
}
static enum tg_code keep(void *arg, const void *bytes, size_t len, struct tg_err *err)
{
    (void)err;
    return tg_buf_append(arg, bytes, len);
}

static void test_writer_is_reusable(void **state)
{
    (void)state;
    struct tg_sample s;
    struct tg_buf a, b;
    struct tg_parquet_info info = {.from_pos = 1};
    struct tg_err err;
    tg_sample_init(&s);
    tg_sample_edges(&s, DAY, true);
    tg_buf_init(&a, 0);
    tg_buf_init(&b, 0);
    const struct tg_parquet_options o = {.codec = TG_PARQUET_ZSTD};
    struct tg_parquet_writer *w = tg_parquet_writer_new(&o);
    for (unsigned round = 0; round < 4; round++) {
        struct tg_buf *to = round % 2 ? &b : &a;
        assert_int_equal(tg_parquet_writer_finish(w, &info, keep, to, &err), TG_ERR_INVALID);
        for (uint32_t i = 0; i < s.n; i++)
            assert_int_equal(tg_parquet_writer_add(w, s.points[i].series, s.points[i].series_len,
                                                   &s.points[i].point),
                             TG_OK);
        if (round == 1) {
            assert_int_equal(tg_parquet_writer_finish(w, &info, refuse, NULL, &err), TG_ERR_IO);
            assert_string_equal(err.msg, "no room");
        } else {
            tg_buf_reset(to);
            assert_int_equal(tg_parquet_writer_finish(w, &info, keep, to, &err), TG_OK);
        }
        tg_parquet_writer_reset(w);
    }
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    tg_parquet_writer_free(w);
    tg_parquet_writer_free(NULL);
    tg_buf_deinit(&a);
    tg_buf_deinit(&b);
    tg_sample_deinit(&s);
}

static void test_bad_series_bytes(void **state)
{
    (void)state;
    const struct tg_point p = {.type = TG_VALUE_DOUBLE};
    struct tg_parquet_info info = {0};
    struct tg_err err = {.msg = ""};
    struct tg_buf out;
    tg_buf_init(&out, 0);
    const struct tg_parquet_options o = {0};
    struct tg_parquet_writer *w = tg_parquet_writer_new(&o);
    for (unsigned round = 0; round < 2; round++) {
        assert_int_equal(tg_parquet_writer_add(w, (const uint8_t *)"junk", 4, &p), TG_OK);
        assert_int_equal(tg_parquet_writer_finish(w, &info, keep, &out, &err), TG_ERR_CORRUPT);
        assert_int_not_equal(err.msg[0], 0);
        tg_parquet_writer_reset(w);
    }
    tg_parquet_writer_free(w);
    tg_buf_deinit(&out);
}

/* Text that is not UTF-8 would make readers refuse the file: it is mended. */
struct text {
    char got[64];
    uint32_t len;
};
static bool keep_text(void *arg, const struct tg_series_desc *d, const struct tg_point *p)
{
    struct text *t = arg;
    (void)d;
    t->len = p->value.string->len;
    memcpy(t->got, p->value.string->ptr, t->len);
    return true;
}
static void test_bad_utf8_is_mended(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        uint32_t len;
        const char *want;
    } cases[] = {
        {"ok \xe2\x82\xac", 6, "ok \xe2\x82\xac"},
        {"\xff", 1, "\xef\xbf\xbd"},
        {"a\xc0\xafz", 4, "a\xef\xbf\xbd\xef\xbf\xbdz"},
        {"\xe2\x82", 2, "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf4\x90\x80\x80", 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xf0\x9f\x8c\x8a", 4, "\xf0\x9f\x8c\x8a"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct tg_sample s;
        struct tg_buf file;
        struct text got = {.len = 0};
        uint32_t len;
        uint64_t n;
        tg_sample_init(&s);
        const uint8_t *series = tg_sample_series(&s, "m", 0, TG_KIND_UNKNOWN, TG_TEMPORALITY_NONE,
                                                 "", NULL, 0, NULL, &len);
        const struct tg_string str = {cases[i].in, cases[i].len};
        tg_sample_add(&s, series, len, DAY, TG_VALUE_STRING)->point.value.string = &str;
        write_ok(&s, shapes[0], &file);
        struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
        assert_int_equal(scan(r, file.data, file.len, &everything, keep_text, &got, &n, NULL),
                         TG_OK);
        assert_int_equal(got.len, strlen(cases[i].want));
        assert_memory_equal(got.got, cases[i].want, got.len);
        tg_parquet_reader_free(r);
        tg_buf_deinit(&file);
        tg_sample_deinit(&s);
    }
}

/* ---- damage ---- */

static bool ignore(void *arg, const struct tg_series_desc *d, const struct tg_point *p)
{
    /* touch what was handed over */
    struct tg_buf *b = arg;
    tg_buf_reset(b);
    return tg_sample_print(d, p, b) == TG_OK;
}

static void small_file(struct tg_buf *file, enum tg_parquet_codec codec)
{
    struct tg_sample s;
    tg_sample_init(&s);
    tg_sample_edges(&s, DAY, false);
    write_ok(&s, (struct tg_parquet_options){.codec = codec, .page_rows = 16}, file);
    tg_sample_deinit(&s);
}

static void test_cut_at_every_byte(void **state)
{
    (void)state;
    struct tg_buf file, line;
    struct tg_err err;
    uint64_t n;
    small_file(&file, TG_PARQUET_ZSTD);
    tg_buf_init(&line, 0);
    struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
    for (size_t len = 0; len < file.len; len++) {
        uint8_t *cut = malloc(len ? len : 1);
        memcpy(cut, file.data, len);
        for (unsigned twice = 0; twice < 2; twice++)
            assert_int_equal(scan(r, cut, len, &everything, ignore, &line, &n, &err),
                             TG_ERR_CORRUPT);
        free(cut);
    }
    /* the same reader still reads a good file */
    assert_int_equal(scan(r, file.data, file.len, &everything, ignore, &line, &n, &err), TG_OK);
    tg_parquet_reader_free(r);
    tg_buf_deinit(&line);
    tg_buf_deinit(&file);
}

static void flip_bits(enum tg_parquet_codec codec, size_t step,
                      const struct tg_parquet_limits *limits)
{
    struct tg_buf file, line;
    struct tg_err err;
    uint64_t n;
    small_file(&file, codec);
    tg_buf_init(&line, 0);
    unsigned n_bad = 0, n_all = 0;
    struct tg_parquet_reader *r = tg_parquet_reader_new(limits);
    for (size_t bit = 0; bit < file.len * 8; bit += step) {
        file.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const enum tg_code code =
            scan(r, file.data, file.len, &everything, ignore, &line, &n, &err);
        assert_true(code == TG_OK || code == TG_ERR_CORRUPT || code == TG_ERR_UNSUPPORTED);
        n_bad += code != TG_OK;
        n_all++;
        file.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* pages have checksums; what is left are names and statistics in the footer and the index */
    if (!limits->ignore_checksums) assert_true(n_bad > n_all / 2);
    tg_parquet_reader_free(r);
    tg_buf_deinit(&line);
    tg_buf_deinit(&file);
}

static void test_flipped_bits(void **state)
{
    (void)state;
    const struct tg_parquet_limits small = {.max_page_bytes = 1 << 20, .max_entries = 1 << 16};
    flip_bits(TG_PARQUET_ZSTD, 61, &small);
    flip_bits(TG_PARQUET_SNAPPY, 127, &small);
    flip_bits(TG_PARQUET_UNCOMPRESSED, 127, &small);
    /* what lies behind the checksums must hold by itself */
    const struct tg_parquet_limits bare = {
        .max_page_bytes = 1 << 20, .max_entries = 1 << 16, .ignore_checksums = true};
    flip_bits(TG_PARQUET_UNCOMPRESSED, 19, &bare);
}

/* Whatever bit of the pages flips: the rows are refused, or they are the right ones (the bit was in
 * what no row needs). Nothing is compressed here, so only the checksums can tell. */
static void test_checksums(void **state)
{
    (void)state;
    struct tg_sample s;
    struct tg_buf file;
    struct lines want;
    uint64_t n, footer;
    unsigned n_bad = 0;
    tg_sample_init(&s);
    tg_sample_edges(&s, DAY, false);
    write_ok(&s, (struct tg_parquet_options){.page_rows = 16}, &file);
    lines_init(&want);
    expect(&s, &everything, &want);
    struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
    assert_int_equal(tg_parquet_footer_len(file.data + file.len - 8, file.len, &footer, NULL),
                     TG_OK);
    for (size_t at = 4; at < file.len - footer; at += 11) {
        struct lines got;
        lines_init(&got);
        file.data[at] ^= (uint8_t)(1u << at % 8);
        const enum tg_code code =
            scan(r, file.data, file.len, &everything, collect, &got, &n, NULL);
        if (code == TG_OK) lines_equal(&got, &want);
        n_bad += code != TG_OK;
        file.data[at] ^= (uint8_t)(1u << at % 8);
        lines_deinit(&got);
    }
    assert_true(n_bad > 100);
    tg_parquet_reader_free(r);
    lines_deinit(&want);
    tg_buf_deinit(&file);
    tg_sample_deinit(&s);
}

/* Offsets are held against the file's real size: a footer that is right for a longer file is not.
 */
static void test_offsets_are_checked(void **state)
{
    (void)state;
    struct tg_buf file;
    uint64_t footer;
    struct tg_err err;
    small_file(&file, TG_PARQUET_ZSTD);
    struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
    assert_int_equal(tg_parquet_footer_len(file.data + file.len - 8, file.len, &footer, NULL),
                     TG_OK);
    const uint8_t *at = file.data + file.len - footer;
    for (uint64_t missing = 0; missing < 200; missing++)
        assert_int_equal(tg_parquet_reader_footer(r, at, footer, file.len - missing, &err),
                         missing ? TG_ERR_CORRUPT : TG_OK);
    tg_parquet_reader_free(r);
    tg_buf_deinit(&file);
}

/* ---- memory ---- */

static void test_writer_without_memory(void **state)
{
    (void)state;
    struct tg_sample s;
    struct tg_buf out;
    struct tg_parquet_options o = {.codec = TG_PARQUET_ZSTD, .page_rows = 30};
    struct tg_err err;
    tg_sample_init(&s);
    tg_sample_edges(&s, DAY, true);
    tg_sample_scrapes(&s, 300, 8, 4, DAY, 1000);
    for (uint64_t nth = 1;; nth++) {
        struct tg_parquet_info info = {0};
        tg_buf_init(&out, 0);
        tg_mem_fail_at(nth);
        const enum tg_code code = tg_sample_write(&s, &o, &info, &out, &err);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        tg_buf_deinit(&out);
        if (!fired) break;
    }
    tg_sample_deinit(&s);
}

static void test_reader_without_memory(void **state)
{
    (void)state;
    struct tg_sample s;
    struct tg_buf file, line;
    struct tg_err err;
    tg_sample_init(&s);
    tg_sample_edges(&s, DAY, true);
    write_ok(&s, shapes[4], &file);
    for (uint64_t nth = 1;; nth++) {
        uint64_t n;
        enum tg_code code = TG_ERR_NOMEM;
        tg_buf_init(&line, 0);
        assert_int_equal(tg_buf_reserve(&line, 1 << 16), TG_OK);
        tg_mem_fail_at(nth);
        struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
        unsigned n_seen = 0;
        if (r) code = scan(r, file.data, file.len, &everything, count, &n_seen, &n, &err);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        tg_parquet_reader_free(r);
        tg_buf_deinit(&line);
        if (!fired) break;
    }
    tg_buf_deinit(&file);
    tg_sample_deinit(&s);
}

/* ---- statistics ---- */

static void test_pruning_skips_files(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t start, end;
        bool want;
    } cases[] = {
        {NULL, INT64_MIN, INT64_MAX, true},
        {NULL, DAY + 7, INT64_MAX, false},
        {NULL, INT64_MIN, DAY, false},
        {NULL, DAY + 6, DAY + 7, true},
        {"app.metric.000", DAY, DAY + 9, true},
        {"a", DAY, DAY + 9, false},
        {"b", DAY, DAY + 9, false},
    };
    struct tg_sample s;
    struct tg_buf file;
    uint64_t n, footer;
    unsigned n_seen = 0;
    tg_sample_init(&s);
    tg_sample_scrapes(&s, 20, 1, 2, DAY, 1000);
    write_ok(&s, shapes[0], &file);
    struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
    assert_int_equal(scan(r, file.data, file.len, &everything, count, &n_seen, &n, NULL), TG_OK);
    assert_int_equal(tg_parquet_footer_len(file.data + file.len - 8, file.len, &footer, NULL),
                     TG_OK);
    assert_int_equal(
        tg_parquet_reader_footer(r, file.data + file.len - footer, footer, file.len, NULL), TG_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct tg_parquet_filter f = {.name = cases[i].name,
                                            .name_len =
                                                cases[i].name ? (uint32_t)strlen(cases[i].name) : 0,
                                            .start_ns = cases[i].start,
                                            .end_ns = cases[i].end};
        assert_int_equal(tg_parquet_reader_may_match(r, &f), cases[i].want);
    }
    tg_parquet_reader_free(r);
    tg_buf_deinit(&file);
    tg_sample_deinit(&s);
}

struct looks {
    unsigned n, until;
};

static bool look(void *arg)
{
    struct looks *l = arg;
    return ++l->n > l->until;
}

/* A scan asks whether to go on while no row matches: in a large row group, over many that hold
 * nothing, and within pages that statistics do not rule out. */
static void test_scan_ends_without_a_match(void **state)
{
    (void)state;
    static const struct {
        uint32_t row_group_rows;
        const char *name;
        unsigned n_looks; /* at least */
    } cases[] = {{0, "m", 5}, {100, "m", 200}, {0, "mm", 1}, {100, "mm", 200}};
    struct tg_sample s;
    uint32_t len;
    static const char *const tags[] = {"host=a"};
    tg_sample_init(&s);
    for (uint32_t i = 0; i < 20000; i++) {
        static const uint8_t *series[2];
        if (i < 2)
            series[i] = tg_sample_series(&s, i ? "n" : "m", 0, TG_KIND_GAUGE, TG_TEMPORALITY_NONE,
                                         "", tags, 1, NULL, &len);
        tg_sample_add(&s, series[i == 19999], len, DAY + i, TG_VALUE_DOUBLE)->point.value.f64 = i;
    }
    const struct tg_tag none = {"host", "b", 4, 1, TG_ORIGIN_POINT};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct tg_buf file;
        uint64_t n;
        unsigned n_seen = 0;
        struct looks looks = {.until = UINT_MAX};
        write_ok(&s, (struct tg_parquet_options){.row_group_rows = cases[i].row_group_rows}, &file);
        struct tg_parquet_reader *r = tg_parquet_reader_new(NULL);
        const struct tg_parquet_filter f = {.name = cases[i].name,
                                            .name_len = (uint32_t)strlen(cases[i].name),
                                            .tags = &none,
                                            .n_tags = 1,
                                            .start_ns = INT64_MIN,
                                            .end_ns = INT64_MAX,
                                            .should_stop = look,
                                            .stop_arg = &looks};
        assert_int_equal(scan(r, file.data, file.len, &f, count, &n_seen, &n, NULL), TG_OK);
        assert_int_equal(n_seen, 0);
        assert_true(looks.n >= cases[i].n_looks);
        for (unsigned until = 0; until < looks.n && until < 10; until++) {
            struct looks few = {.until = until};
            struct tg_parquet_filter g = f;
            g.stop_arg = &few;
            assert_int_equal(scan(r, file.data, file.len, &g, count, &n_seen, &n, NULL),
                             TG_ERR_CANCELED);
            assert_int_equal(few.n, until + 1);
        }
        tg_parquet_reader_free(r);
        tg_buf_deinit(&file);
    }
    tg_sample_deinit(&s);
}

int main(void)
{
    tg_hash_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_comes_back),
        cmocka_unit_test(test_one_point_of_each_type),
        cmocka_unit_test(test_rows_are_sorted),
        cmocka_unit_test(test_files_of_schema_1),
        cmocka_unit_test(test_scan_stops_when_told),
        cmocka_unit_test(test_scan_ends_without_a_match),
        cmocka_unit_test(test_writer_is_reusable),
        cmocka_unit_test(test_bad_series_bytes),
        cmocka_unit_test(test_bad_utf8_is_mended),
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_offsets_are_checked),
        cmocka_unit_test(test_checksums),
        cmocka_unit_test(test_writer_without_memory),
        cmocka_unit_test(test_reader_without_memory),
        cmocka_unit_test(test_pruning_skips_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
