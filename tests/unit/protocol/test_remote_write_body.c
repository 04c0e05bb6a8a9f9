/* Bodies of remote write: the same message plain and as a snappy block, grouped or not. */
#include "core/protocol/remote_write_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/codec/compress.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/protobuf_wire.h"
#include "core/protocol/remote_write.h"
#include "tests/support/body_script.h"
#include "tests/support/decode_fixture.h"
#include "tests/support/rng.h"

static uint64_t rng_state = 11;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

static void any_points_make_the_same_message(void **state)
{
    (void)state;
    static uint8_t script[20000];
    struct tg_body_counts counts = {0};
    for (unsigned round = 0; round < 40; round++) {
        const size_t n = round < 20 ? 1 + (size_t)(rng() % 300) : sizeof(script);
        /* In every fourth round one body, of more than is remembered, and than 64 KiB. */
        for (size_t i = 0; i < n; i++)
            script[i] = (uint8_t)(round % 4 == 3 ? 1 + rng() % 255 : rng() % 256);
        tg_body_script(script, n, &counts);
    }
    assert_true(counts.n_bodies > 100 && counts.n_points > 10000);
    assert_true(counts.n_left_out > 1000 && counts.n_grouped > 1000);
    assert_true(counts.block_bytes < counts.plain_bytes / 2);
}

/* --- by hand --- */

struct rig {
    struct tg_shared_parts *shared_parts;
    struct tg_remote_write_body body;
    struct tg_buf out;
    struct tg_decode_fixture f;
};

static void setup(struct rig *r)
{
    r->shared_parts = tg_shared_parts_new();
    assert_non_null(r->shared_parts);
    tg_remote_write_body_init(&r->body, r->shared_parts);
    tg_buf_init(&r->out, 0);
    tg_decode_fixture_init(&r->f, NULL);
}

static void teardown(struct rig *r)
{
    tg_remote_write_body_deinit(&r->body);
    tg_buf_deinit(&r->out);
    tg_decode_fixture_deinit(&r->f);
    tg_shared_parts_free(r->shared_parts);
}

static void prepare_named(struct rig *r, enum tg_kind kind, const char *host, const char *zone,
                          struct tg_buf *out)
{
    struct tg_tag tags[] = {{"host", host, 4, (uint32_t)strlen(host), TG_ORIGIN_POINT},
                            {"zone", zone, 4, (uint32_t)strlen(zone), TG_ORIGIN_POINT}};
    const struct tg_series_desc d = {.name = "m",
                                     .name_len = 1,
                                     .unit = "",
                                     .kind = (uint8_t)kind,
                                     .temporality = TG_TEMPORALITY_CUMULATIVE,
                                     .n_tags = 2,
                                     .tags = tags};
    struct tg_err err = {.msg = ""};
    tg_buf_init(out, 0);
    for (int i = 0; i < 6; i++) {
        tg_buf_reset(out);
        if (tg_remote_write_prepare(&d, &tg_prom_names_default, r->shared_parts, out, &err) !=
            TG_OK)
            fail_msg("%s", err.msg);
    }
}

static void prepare(struct rig *r, enum tg_kind kind, struct tg_buf *out)
{
    prepare_named(r, kind, "a-host", "a-zone", out);
}

/* How many fields (TimeSeries) are in a plain body. */
static unsigned count_series(const struct tg_buf *b)
{
    struct tg_protobuf_wire w = tg_protobuf_wire_of(b->data, b->len);
    struct tg_protobuf_wire_field f = {.tag = 0};
    unsigned n = 0;
    while (w.p < w.end) {
        assert_true(tg_protobuf_wire_next(&w, &f));
        assert_int_equal(f.tag, TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES));
        n++;
    }
    return n;
}

static const double bounds[] = {1, 2};
static const uint64_t counts[] = {1, 2, 3};
static const struct tg_histogram two = {.count = 6,
                                        .has_sum = true,
                                        .n_bounds = 2,
                                        .n_buckets = 3,
                                        .bounds = bounds,
                                        .buckets = counts};
static const struct tg_histogram one = {.count = 3,
                                        .has_sum = true,
                                        .n_bounds = 1,
                                        .n_buckets = 2,
                                        .bounds = bounds,
                                        .buckets = counts};
static const struct tg_exp_histogram native = {.count = 6, .n_pos = 3, .pos = counts};
static const struct tg_string text = {"x", 1};
static const struct tg_exemplar exemplar = {.ts_ns = 7000000, .value = 1};
static const struct tg_exemplars with_exemplar = {1, &exemplar};

#define D(ms)                                                             \
    {                                                                     \
        .ts_ns = (ms)*1000000, .value.f64 = (ms), .type = TG_VALUE_DOUBLE \
    }
#define H(ms, h)                                                                   \
    {                                                                              \
        .ts_ns = (ms)*1000000, .value.histogram = &(h), .type = TG_VALUE_HISTOGRAM \
    }
#define N(ms)                                                                                 \
    {                                                                                         \
        .ts_ns = (ms)*1000000, .value.exp_histogram = &native, .type = TG_VALUE_EXP_HISTOGRAM \
    }
#define STALE(ms)                                                                \
    {                                                                            \
        .ts_ns = (ms)*1000000, .type = TG_VALUE_NONE, .flags = TG_POINT_NO_VALUE \
    }
#define TEXT(ms)                                                              \
    {                                                                         \
        .ts_ns = (ms)*1000000, .value.string = &text, .type = TG_VALUE_STRING \
    }
#define E(ms)                                                                          \
    {                                                                                  \
        .ts_ns = (ms)*1000000, .exemplars = &with_exemplar, .type = TG_VALUE_EXEMPLARS \
    }

static void points_of_a_series_are_one_time_series(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum tg_kind kind;
        struct tg_point points[5];
        uint32_t n;
        unsigned n_series;
        unsigned left_out; /* bits */
    } rows[] = {
        {"numbers", TG_KIND_GAUGE, {D(1), D(2), STALE(3), D(4)}, 4, 1, 0},
        {"a text between", TG_KIND_GAUGE, {D(1), TEXT(2), D(3)}, 3, 2, 1 << 1},
        {"texts alone", TG_KIND_GAUGE, {TEXT(1), TEXT(2)}, 2, 0, 3},
        {"exemplars go along", TG_KIND_GAUGE, {E(1), D(1), E(2), D(2), E(3)}, 5, 1, 0},
        {"exemplars alone", TG_KIND_GAUGE, {E(1), E(2)}, 2, 1, 0},
        /* a receiver takes all samples of a TimeSeries before its histograms: the order stands */
        {"numbers and histograms", TG_KIND_GAUGE, {D(1), N(2), D(3), N(4)}, 4, 4, 0},
        {"native", TG_KIND_EXP_HISTOGRAM, {N(1), N(2), STALE(3), E(3)}, 4, 1, 0},
        {"two buckets, +Inf, sum and count", TG_KIND_HISTOGRAM, {H(1, two), H(2, two)}, 2, 5, 0},
        {"other buckets", TG_KIND_HISTOGRAM, {H(1, two), H(2, one), H(3, one)}, 3, 5 + 4, 0},
        {"no buckets", TG_KIND_HISTOGRAM, {STALE(1), STALE(2)}, 2, 3, 0},
        {"no histogram", TG_KIND_HISTOGRAM, {D(1), H(2, one)}, 2, 4, 1},
    };
    struct rig r;
    setup(&r);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_buf prepared;
        const struct tg_point *points[5];
        bool is_left_out[5];
        prepare(&r, rows[i].kind, &prepared);
        for (uint32_t k = 0; k < rows[i].n; k++) points[k] = &rows[i].points[k];
        for (int turn = 0; turn < 2; turn++) {
            tg_buf_reset(&r.out);
            assert_int_equal(tg_remote_write_body_begin(&r.body, &r.out, SIZE_MAX, false), TG_OK);
            assert_int_equal(tg_remote_write_body_add(&r.body, prepared.data,
                                                      (uint32_t)prepared.len, points, rows[i].n,
                                                      is_left_out),
                             TG_OK);
            assert_int_equal(tg_remote_write_body_end(&r.body), 0);
            assert_int_equal(tg_remote_write_body_is_empty(&r.body), rows[i].n_series == 0);
            if (count_series(&r.out) != rows[i].n_series)
                fail_msg("%s: %u series", rows[i].name, count_series(&r.out));
            for (uint32_t k = 0; k < rows[i].n; k++)
                if (is_left_out[k] != (rows[i].left_out >> k & 1))
                    fail_msg("%s: point %u left out: %d", rows[i].name, k, is_left_out[k]);
        }
        tg_buf_deinit(&prepared);
    }
    teardown(&r);
}

static void a_point_in_the_middle_stands_in_its_place(void **state)
{
    (void)state;
    struct rig r;
    struct tg_buf prepared;
    struct tg_err err;
    static const struct tg_point points[] = {D(1), D(2), STALE(3), D(4)};
    const struct tg_point *of[] = {&points[0], &points[1], &points[2], &points[3]};
    bool is_left_out[4];
    setup(&r);
    prepare(&r, TG_KIND_GAUGE, &prepared);
    assert_int_equal(tg_remote_write_body_begin(&r.body, &r.out, SIZE_MAX, false), TG_OK);
    assert_int_equal(tg_remote_write_body_add(&r.body, prepared.data, (uint32_t)prepared.len, of, 4,
                                              is_left_out),
                     TG_OK);
    (void)tg_remote_write_body_end(&r.body);
    assert_int_equal(tg_decode_exact(&r.f, tg_remote_write_decode, r.out.data, r.out.len, &err),
                     TG_OK);
    static const char series[] = "m{host=\"a-host\",zone=\"a-zone\"} unknown []";
    char want[400];
    (void)snprintf(want, sizeof(want),
                   "%s d:1 @1000000\n%s d:2 @2000000\n%s none @3000000\n%s d:4 @4000000\n", series,
                   series, series, series);
    assert_string_equal(tg_decode_text(&r.f), want);
    tg_buf_deinit(&prepared);
    teardown(&r);
}

static void a_body_has_a_limit(void **state)
{
    (void)state;
    struct rig r;
    struct tg_buf prepared;
    static const struct tg_point point = D(1);
    const struct tg_point *of[] = {&point};
    bool is_left_out;
    setup(&r);
    prepare(&r, TG_KIND_GAUGE, &prepared);
    const uint32_t len = (uint32_t)prepared.len;
    assert_int_equal(tg_remote_write_body_begin(&r.body, &r.out, SIZE_MAX, false), TG_OK);
    assert_int_equal(tg_remote_write_body_add(&r.body, prepared.data, len, of, 1, &is_left_out),
                     TG_OK);
    const size_t n = r.out.len;
    for (int is_snappy = 0; is_snappy < 2; is_snappy++) {
        for (size_t max = 0; max < 3 * n; max += 1 + n / 7) {
            tg_buf_reset(&r.out);
            assert_int_equal(tg_remote_write_body_begin(&r.body, &r.out, max, is_snappy), TG_OK);
            for (size_t k = 1; k <= max / n; k++)
                assert_int_equal(
                    tg_remote_write_body_add(&r.body, prepared.data, len, of, 1, &is_left_out),
                    TG_OK);
            assert_int_equal(
                tg_remote_write_body_add(&r.body, prepared.data, len, of, 1, &is_left_out),
                TG_ERR_TOO_LARGE);
        }
    }
    tg_buf_reset(&r.out);
    assert_int_equal(tg_remote_write_body_begin(&r.body, &r.out, 10, false), TG_OK);
    assert_int_equal(tg_remote_write_body_add_field(&r.body, 3, "123456789", 9), TG_ERR_TOO_LARGE);
    assert_int_equal(tg_remote_write_body_add_field(&r.body, 3, "12345678", 8), TG_OK);
    assert_int_equal(tg_remote_write_body_end(&r.body), 0);
    assert_int_equal(r.out.len, 10);
    assert_memory_equal(r.out.data,
                        "\x1a\x08"
                        "12345678",
                        10);
    tg_buf_deinit(&prepared);
    teardown(&r);
}

/* Positions are counted on from body to body, and begin again before they are too large. */
static void bodies_are_written_for_ever(void **state)
{
    (void)state;
    struct rig r;
    struct tg_buf prepared, got;
    struct tg_compress compress;
    struct tg_err err;
    static const struct tg_point points[] = {D(1), N(2),
                                             D(3)}; /* three series, with one's labels */
    const struct tg_point *of[] = {&points[0], &points[1], &points[2]};
    bool is_left_out[3];
    setup(&r);
    prepare(&r, TG_KIND_GAUGE, &prepared);
    tg_buf_init(&got, 0);
    tg_compress_init(&compress);
    for (unsigned i = 0; i < 60; i++) {
        if (i == 10) r.body.base = UINT32_MAX - ((uint32_t)1 << 31) - 2000;
        assert_int_equal(tg_remote_write_body_begin(&r.body, &r.out, SIZE_MAX, true), TG_OK);
        assert_true(r.body.base <= UINT32_MAX - ((uint32_t)1 << 31));
        assert_int_equal(tg_remote_write_body_add(&r.body, prepared.data, (uint32_t)prepared.len,
                                                  of, 3, is_left_out),
                         TG_OK);
        const size_t skip = tg_remote_write_body_end(&r.body);
        tg_buf_reset(&got);
        assert_int_equal(tg_compress_decode(&compress, TG_ENCODING_SNAPPY, r.out.data + skip,
                                            r.out.len - skip, 1 << 20, &got, &err),
                         TG_OK);
        assert_int_equal(count_series(&got), 3);
        assert_true(r.out.len < got.len);
    }
    tg_compress_deinit(&compress);
    tg_buf_deinit(&got);
    tg_buf_deinit(&prepared);
    teardown(&r);
}

/* A label that comes again after more than is remembered, and then another one than followed it
 * then: in place of that one there is something newer now, of any kind. */
static void what_is_forgotten_is_not_taken_for_something_else(void **state)
{
    (void)state;
    struct rig r;
    struct tg_buf before, many, after, got, want;
    struct tg_compress compress;
    struct tg_err err;
    static const struct tg_point number = D(1);
    static const struct tg_point both = {
        .ts_ns = 1000000, .type = TG_VALUE_DOUBLE, .exemplars = &with_exemplar};
    setup(&r);
    prepare_named(&r, TG_KIND_GAUGE, "a-rare-one", "zone-before", &before);
    prepare_named(&r, TG_KIND_GAUGE, "one-of-many", "zone-after", &many);
    prepare_named(&r, TG_KIND_GAUGE, "a-rare-one", "zone-after", &after);
    tg_buf_init(&got, 0);
    tg_buf_init(&want, 0);
    tg_compress_init(&compress);
    for (unsigned shift = 0; shift < 16; shift++) {
        tg_buf_reset(&want);
        for (int is_snappy = 0; is_snappy < 2; is_snappy++) {
            struct tg_buf *out = is_snappy ? &r.out : &want;
            assert_int_equal(tg_remote_write_body_begin(&r.body, out, SIZE_MAX, is_snappy), TG_OK);
            for (uint32_t i = 0; i < 2 + TG_REMOTE_WRITE_LOG / 6; i++) {
                const struct tg_buf *p = i == 0                         ? &before
                                         : i <= TG_REMOTE_WRITE_LOG / 6 ? &many
                                                                        : &after;
                const struct tg_point *of[] = {i > 0 && i <= shift ? &both : &number};
                bool is_left_out;
                assert_int_equal(tg_remote_write_body_add(&r.body, p->data, (uint32_t)p->len, of, 1,
                                                          &is_left_out),
                                 TG_OK);
            }
        }
        const size_t skip = tg_remote_write_body_end(&r.body);
        tg_buf_reset(&got);
        assert_int_equal(tg_compress_decode(&compress, TG_ENCODING_SNAPPY, r.out.data + skip,
                                            r.out.len - skip, 1 << 24, &got, &err),
                         TG_OK);
        assert_int_equal(got.len, want.len);
        assert_memory_equal(got.data, want.data, want.len);
    }
    tg_compress_deinit(&compress);
    tg_buf_deinit(&got);
    tg_buf_deinit(&want);
    tg_buf_deinit(&before);
    tg_buf_deinit(&many);
    tg_buf_deinit(&after);
    teardown(&r);
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    static const struct tg_point points[] = {H(1, two), H(2, one), H(3, one)};
    const struct tg_point *of[] = {&points[0], &points[1], &points[2]};
    bool is_left_out[3];
    for (uint64_t n = 1;; n++) {
        struct rig r;
        struct tg_buf prepared, got;
        struct tg_compress compress;
        struct tg_err err;
        size_t skip = 0;
        setup(&r);
        prepare(&r, TG_KIND_HISTOGRAM, &prepared);
        tg_buf_init(&got, 0);
        tg_compress_init(&compress);
        bool fired = false;
        for (int turn = 0; turn < 2; turn++) { /* once it fails, then on the same body it works */
            if (turn == 0) tg_mem_fail_at(n);
            enum tg_code code = tg_remote_write_body_begin(&r.body, &r.out, SIZE_MAX, true);
            if (code == TG_OK)
                code = tg_remote_write_body_add(&r.body, prepared.data, (uint32_t)prepared.len, of,
                                                3, is_left_out);
            if (turn == 0) fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            /* memory for what is remembered of parts is not needed */
            assert_true(code == TG_OK || (turn == 0 && fired && code == TG_ERR_NOMEM));
            if (code != TG_OK) continue;
            skip = tg_remote_write_body_end(&r.body);
            tg_buf_reset(&got);
            assert_int_equal(tg_compress_decode(&compress, TG_ENCODING_SNAPPY, r.out.data + skip,
                                                r.out.len - skip, 1 << 20, &got, &err),
                             TG_OK);
            assert_int_equal(count_series(&got), 5 + 4);
        }
        tg_compress_deinit(&compress);
        tg_buf_deinit(&prepared);
        tg_buf_deinit(&got);
        teardown(&r);
        if (!fired) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_points_make_the_same_message),
        cmocka_unit_test(points_of_a_series_are_one_time_series),
        cmocka_unit_test(a_point_in_the_middle_stands_in_its_place),
        cmocka_unit_test(a_body_has_a_limit),
        cmocka_unit_test(bodies_are_written_for_ever),
        cmocka_unit_test(what_is_forgotten_is_not_taken_for_something_else),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
