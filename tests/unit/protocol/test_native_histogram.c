/* Native histograms as remote write sends them: what they become and that they go out as they came;
 * what Prometheus refuses is refused here, alone. */
#include "core/protocol/native_histogram.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/remote_write.h"
#include "tests/support/decode_fixture.h"
#include "tests/support/wire_bytes.h"

static struct bytes label(const char *name, const char *value)
{
    return field(1, JOIN(text(1, name), text(2, value)));
}

static struct bytes number(uint32_t n, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return fixed(n, bits);
}

static struct bytes doubles(uint32_t n, const double *v, size_t count)
{
    return field(n, raw(v, count * sizeof(*v)));
}
#define DOUBLES(n, ...)                       \
    doubles(n, (const double[]){__VA_ARGS__}, \
            sizeof((const double[]){__VA_ARGS__}) / sizeof(double))

static struct bytes schema(int32_t v)
{
    return varint(4, (uint32_t)tg_zigzag(v));
}

static struct bytes span(uint32_t number, int32_t offset, uint32_t len)
{
    return field(number, JOIN(varint(1, (uint32_t)tg_zigzag(offset)), varint(2, len)));
}
static struct bytes pos(int32_t offset, uint32_t len)
{
    return span(11, offset, len);
}
static struct bytes neg(int32_t offset, uint32_t len)
{
    return span(8, offset, len);
}

static struct bytes delta(uint32_t number, int64_t v)
{
    return varint(number, tg_zigzag(v));
}

static struct bytes sum_is(double v)
{
    return number(3, v);
}

/* A request with one histogram of series m. */
static struct bytes request(struct bytes histogram)
{
    return field(1, JOIN(label("__name__", "m"), field(4, JOIN(histogram, varint(15, 7)))));
}

#define M "m exponential_histogram []"

/* name, message, what it is; all of them go out and come back the same */
static void are_what_they_say_and_go_out_as_they_came(void **state)
{
    (void)state;
    const struct {
        const char *name;
        struct bytes h;
        const char *want;
    } rows[] = {
        {"empty", none(), M " e:0 scale=0 zero=0<0 sum=0 +0 [] -0 []"},
        {"gauge", JOIN(varint(1, 3), pos(0, 2), delta(12, 1), delta(12, 1), varint(14, 3)),
         M " e:3 scale=0 zero=0<0 sum=0 +-1 [1 2] -0 [] reset=gauge"},
        {"reset", JOIN(varint(1, 0), varint(14, 1)),
         M " e:0 scale=0 zero=0<0 sum=0 +0 [] -0 [] reset=yes"},
        {"no reset", JOIN(varint(1, 0), varint(14, 2)),
         M " e:0 scale=0 zero=0<0 sum=0 +0 [] -0 [] reset=no"},
        {"hint of the future", JOIN(varint(1, 0), varint(14, 4)),
         M " e:0 scale=0 zero=0<0 sum=0 +0 [] -0 []"},
        {"all parts",
         JOIN(varint(1, 12), sum_is(2.5), schema(-4), number(5, 0.001), varint(6, 2), neg(3, 1),
              delta(9, 4), pos(-5, 1), pos(2, 2), delta(12, 1), delta(12, 1), delta(12, 1)),
         M " e:12 scale=-4 zero=2<0.001 sum=2.5 +-6 [1 0 0 2 3] -2 [4]"},
        {"spans without buckets",
         JOIN(varint(1, 3), pos(2, 0), pos(3, 1), pos(0, 0), pos(0, 1), delta(12, 1), delta(12, 1)),
         M " e:3 scale=0 zero=0<0 sum=0 +4 [1 2] -0 []"},
        {"NaN observed", JOIN(varint(1, 5), sum_is(NAN), pos(0, 1), delta(12, 3)),
         M " e:5 scale=0 zero=0<0 sum=nan +-1 [3] -0 []"},
        {"the first index there is", JOIN(varint(1, 3), pos(INT32_MIN + 1, 1), delta(12, 3)),
         M " e:3 scale=0 zero=0<0 sum=0 +-2147483648 [3] -0 []"},
        {"the last one", JOIN(varint(1, 3), neg(INT32_MAX, 1), delta(9, 3)),
         M " e:3 scale=0 zero=0<0 sum=0 +0 [] -2147483646 [3]"},
        {"floats",
         JOIN(number(2, 2.5), sum_is(-1), schema(8), number(5, 0.5), number(7, 0.25), neg(0, 1),
              number(10, 0.75), pos(-2, 1), pos(1, 1), DOUBLES(13, 1.25, 0.25)),
         M " f:2.5 scale=8 zero=0.25<0.5 sum=-1 +-3 p=1.25 p=0 p=0.25 --1"
           " n=0.75"},
        {"a gauge of floats", JOIN(number(2, 0), sum_is(0), number(7, 0), varint(14, 3)),
         M " f:0 scale=0 zero=0<0 sum=0 +0 -0 reset=gauge"},
        {"floats need not add up", JOIN(number(2, 1), pos(1, 1), number(13, 3)),
         M " f:1 scale=0 zero=0<0 sum=0 +0 p=3 -0"},
        {"custom buckets",
         JOIN(varint(1, 6), sum_is(9), schema(-53), pos(0, 1), pos(1, 2), delta(12, 1),
              delta(12, 1), delta(12, 1), DOUBLES(16, -INFINITY, 0.5, 10)),
         M " h:6 sum=9 [1 0 2 3] <=-inf <=0.5 <=10"},
        {"custom buckets, none filled", JOIN(varint(1, 0), schema(-53), DOUBLES(16, 1, 2)),
         M " h:0 sum=0 [0 0 0] <=1 <=2"},
        {"custom buckets without bounds", JOIN(varint(1, 4), schema(-53), pos(0, 1), delta(12, 4)),
         M " h:4 sum=0 [4]"},
        {"custom buckets of floats",
         JOIN(number(2, 1.5), sum_is(9), schema(-53), pos(1, 1), number(13, 1.5), number(16, 1),
              number(16, 2), varint(14, 3)),
         M " f:1.5 scale=-53 zero=0<0 sum=9 +0 p=0 p=1.5 p=0 -0 <=1 <=2 reset=gauge"},
        {"ended", JOIN(varint(1, 0), fixed(3, TG_REMOTE_WRITE_STALE_NAN)), M " none"},
        {"ended, of floats", JOIN(number(2, 0), fixed(3, TG_REMOTE_WRITE_STALE_NAN), schema(99)),
         M " none"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err = {.msg = ""};
        char want[256];
        struct tg_buf prepared;
        struct tg_buf out;
        const struct bytes b = request(rows[i].h);
        (void)snprintf(want, sizeof(want), "%s @7000000\n", rows[i].want);
        tg_decode_fixture_init(&f, NULL);
        tg_buf_init(&prepared, 0);
        tg_buf_init(&out, 0);
        for (int run = 0; run < 2; run++) {
            if (tg_decode_exact(&f, tg_remote_write_decode, b.d, b.n, &err) != TG_OK)
                fail_msg("%s: %s", rows[i].name, err.msg);
            if (f.d.n_rejected) fail_msg("%s: %s", rows[i].name, f.d.first_reject.msg);
            assert_string_equal(tg_decode_text(&f), want);
            if (run == 0) tg_decode_fixture_reset(&f);
        }
        const struct tg_otlp_item *item = tg_decode_items(&f);
        assert_int_equal(
            tg_remote_write_prepare(item->desc, &tg_prom_names_default, NULL, &prepared, &err),
            TG_OK);
        for (uint64_t n = 1, fired = true; fired; n++) { /* a failure leaves nothing behind */
            tg_buf_deinit(&out);
            tg_mem_fail_at(n);
            const enum tg_code code = tg_remote_write_append_point(
                &out, prepared.data, (uint32_t)prepared.len, item->point);
            fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
            if (fired) assert_int_equal(out.len, 0);
        }
        struct tg_decode_fixture g;
        tg_decode_fixture_init(&g, NULL);
        assert_int_equal(tg_decode_exact(&g, tg_remote_write_decode, out.data, out.len, &err),
                         TG_OK);
        assert_string_equal(tg_decode_text(&g), want);
        tg_decode_fixture_deinit(&g);
        tg_buf_deinit(&prepared);
        tg_buf_deinit(&out);
        tg_decode_fixture_deinit(&f);
    }
}

static void bad_ones_are_refused_alone(void **state)
{
    (void)state;
    const struct bytes one = varint(1, 1);
    const struct {
        const char *name;
        struct bytes h;
        enum tg_code code;
        const char *why;
    } rows[] = {
        {"count over its buckets", JOIN(varint(1, 99), pos(0, 2), delta(12, 1), delta(12, 0)),
         TG_ERR_INVALID, "count is 99, but its buckets hold 2 observations"},
        {"count under its buckets", JOIN(one, varint(6, 1), pos(0, 1), delta(12, 1)),
         TG_ERR_INVALID, "count is 1, but its buckets hold 2"},
        {"count under its buckets, NaN observed", JOIN(one, sum_is(NAN), varint(6, 2)),
         TG_ERR_INVALID, "count is 1, but its buckets hold 2"},
        {"buckets over 2^64", JOIN(varint(1, 2), varint(6, UINT64_MAX), pos(0, 1), delta(12, 3)),
         TG_ERR_INVALID, "more than 2^64 - 1"},
        {"spans that go back",
         JOIN(varint(1, 6), pos(0, 2), pos(-1, 1), delta(12, 1), delta(12, 1), delta(12, 1)),
         TG_ERR_INVALID, "positive spans overlap: span 2 has offset -1"},
        {"far back",
         JOIN(varint(1, 2), neg(5, 1), neg(1, 1), neg(INT32_MIN, 1), delta(9, 1), delta(9, 0)),
         TG_ERR_INVALID, "negative spans overlap: span 3 has offset -2147483648"},
        {"below the first index", JOIN(varint(1, 3), pos(INT32_MIN, 1), delta(12, 3)),
         TG_ERR_INVALID, "positive spans name buckets outside -2^31 + 1 to 2^31 - 1"},
        {"above the last", JOIN(varint(1, 3), pos(INT32_MAX, 2), delta(12, 3), delta(12, -3)),
         TG_ERR_INVALID, "buckets outside"},
        {"gaps above the last",
         JOIN(varint(1, 3), neg(INT32_MAX, 0), neg(INT32_MAX, 0), neg(INT32_MAX, 1), delta(9, 3)),
         TG_ERR_INVALID, "negative spans name buckets outside"},
        {"wide span", JOIN(one, pos(0, 65537)), TG_ERR_TOO_LARGE, "more than 65536 buckets"},
        {"wide gap", JOIN(varint(1, 2), pos(-5, 1), pos(65535, 1), delta(12, 1), delta(12, 0)),
         TG_ERR_TOO_LARGE, "more than 65536 buckets"},
        {"schema 9", JOIN(one, schema(9)), TG_ERR_INVALID, "schema 9"},
        {"schema -5", JOIN(one, schema(-5)), TG_ERR_INVALID, "schema -5"},
        {"too few deltas", JOIN(one, pos(0, 2), delta(12, 1)), TG_ERR_INVALID,
         "1 positive bucket deltas for spans of 2"},
        {"too many deltas", JOIN(one, delta(9, 1)), TG_ERR_INVALID,
         "1 negative bucket deltas for spans of 0"},
        {"below zero", JOIN(one, pos(0, 2), delta(12, 1), delta(12, -2)), TG_ERR_INVALID,
         "positive bucket 1 has a count below zero"},
        {"over 2^63", JOIN(one, neg(0, 2), delta(9, INT64_MAX), delta(9, 1)), TG_ERR_INVALID,
         "negative bucket 1 has a count below zero or over"},
        {"threshold", JOIN(one, fixed(5, 0x7ff8000000000000)), TG_ERR_INVALID, "zero_threshold"},
        {"floats with deltas", JOIN(number(2, 1), pos(0, 1), delta(12, 1)), TG_ERR_INVALID,
         "0 positive bucket counts for spans of 1"},
        {"floats with both", JOIN(number(2, 1), pos(0, 1), number(13, 1), delta(12, 1)),
         TG_ERR_INVALID, "a float count has positive bucket deltas"},
        {"integers with floats", JOIN(one, pos(0, 1), delta(12, 1), number(13, 1)), TG_ERR_INVALID,
         "an integer count has positive bucket counts"},
        {"float count below zero", number(2, -1), TG_ERR_INVALID, "count is -1"},
        {"float zero count below zero", JOIN(number(2, 1), number(7, -2)), TG_ERR_INVALID,
         "zero_count is -2"},
        {"floats with an integer zero count", JOIN(number(2, 1), varint(6, 1)), TG_ERR_INVALID,
         "count is a float, but its zero_count is an integer"},
        {"integers with a float zero count", JOIN(varint(1, 1), number(7, 1)), TG_ERR_INVALID,
         "count is an integer, but its zero_count is a float"},
        {"float bucket below zero", JOIN(number(2, 1), pos(3, 2), DOUBLES(13, 1, -1)),
         TG_ERR_INVALID, "positive bucket 4 has a count below zero"},
        {"bounds of exponential buckets", JOIN(varint(1, 0), number(16, 1)), TG_ERR_INVALID,
         "schema 0 has custom bounds"},
        {"bounds that do not ascend", JOIN(varint(1, 0), schema(-53), DOUBLES(16, 2, 2)),
         TG_ERR_INVALID, "custom bound 2 is 2"},
        {"a bound of NaN", JOIN(varint(1, 0), schema(-53), DOUBLES(16, NAN)), TG_ERR_INVALID,
         "custom bound 1 is"},
        {"a bound of +Inf", JOIN(number(2, 0), schema(-53), DOUBLES(16, 1, INFINITY)),
         TG_ERR_INVALID, "custom bound 2 is inf"},
        {"more buckets than bounds",
         JOIN(varint(1, 2), schema(-53), pos(1, 2), delta(12, 1), delta(12, 0), number(16, 1)),
         TG_ERR_INVALID, "1 custom bounds has spans over buckets 1 to 2"},
        {"custom buckets from below", JOIN(one, schema(-53), pos(-1, 1), delta(12, 1)),
         TG_ERR_INVALID, "spans over buckets -1 to -1"},
        {"custom buckets with a zero bucket", JOIN(one, schema(-53), varint(6, 1)), TG_ERR_INVALID,
         "custom buckets has a zero bucket"},
        {"custom buckets with negative ones", JOIN(one, schema(-53), neg(0, 1), delta(9, 1)),
         TG_ERR_INVALID, "or negative buckets"},
        {"custom buckets that do not add up",
         JOIN(varint(1, 3), schema(-53), pos(0, 1), delta(12, 1)), TG_ERR_INVALID,
         "count is 3, but its buckets hold 1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err;
        tg_decode_fixture_init(&f, NULL);
        const struct bytes good = request(JOIN(one, varint(6, 1)));
        const struct bytes b = JOIN(good, request(rows[i].h), good);
        for (int run = 0; run < 2; run++) {
            assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, b.d, b.n, &err), TG_OK);
            if (f.d.n_rejected != 1 || f.d.first_code != rows[i].code ||
                !strstr(f.d.first_reject.msg, rows[i].why) ||
                strncmp(f.d.first_reject.msg, "series \"m\": ", 12) != 0)
                fail_msg("%s: %llu rejected, code %d: %s", rows[i].name,
                         (unsigned long long)f.d.n_rejected, (int)f.d.first_code,
                         f.d.first_reject.msg);
            assert_int_equal(f.d.n_accepted, 2);
            assert_string_equal(tg_decode_text(&f),
                                M " e:1 scale=0 zero=1<0 sum=0 +0 [] -0 [] @7000000\n" M
                                  " e:1 scale=0 zero=1<0 sum=0 +0 [] -0 [] @7000000\n");
            tg_decode_fixture_reset(&f);
        }
        tg_decode_fixture_deinit(&f);
    }
}

static void malformed_ones_say_where(void **state)
{
    (void)state;
    const struct {
        struct bytes h;
        const char *why;
    } rows[] = {
        {hex("4a0180"), "timeseries[1]: histogram: packed deltas are cut short"},
        {hex("6a0400000000"), "timeseries[1]: histogram: packed doubles are cut short"},
        {hex("82010400000000"), "timeseries[1]: histogram: packed doubles are cut short"},
        {hex("42020900"), "cut short"},
        {hex("5a020d00"), "cut short"},
        {hex("0d00000000"), "timeseries[1]: histogram: field 1 has wire type 5"},
        {hex("5a0309"
             "0000"),
         "cut short"},
    };
    const struct bytes good = request(none());
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err = {.msg = ""};
        tg_decode_fixture_init(&f, NULL);
        const struct bytes b =
            JOIN(good, field(1, JOIN(label("__name__", "m"), field(4, rows[i].h))));
        const enum tg_code code = tg_decode_exact(&f, tg_remote_write_decode, b.d, b.n, &err);
        if (code != TG_ERR_MALFORMED || !strstr(err.msg, rows[i].why))
            fail_msg("row %zu: code %d: %s", i, (int)code, err.msg);
        assert_true(err.offset > good.n && err.offset <= b.n);
        assert_int_equal(f.batch.n_points, 0);
        tg_decode_fixture_deinit(&f);
    }
}

/* As wide as may be, in few bytes: exact, and no more memory than said. */
static void the_widest_is_exact(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    struct tg_err err = {.msg = ""};
    tg_decode_fixture_init(&f, NULL);
    const struct bytes b = request(
        JOIN(varint(1, 3), schema(8), pos(-40000, 1), pos(65534, 1), delta(12, 1), delta(12, 1)));
    assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, b.d, b.n, &err), TG_OK);
    assert_int_equal(f.batch.n_points, 1);
    const struct tg_exp_histogram *h = f.batch.points[0].value.exp_histogram;
    assert_int_equal(h->n_pos, TG_NATIVE_MAX_BUCKETS);
    assert_int_equal(h->pos_offset, -40001);
    assert_int_equal(h->pos[0], 1);
    assert_int_equal(h->pos[TG_NATIVE_MAX_BUCKETS - 1], 2);
    assert_true(f.batch.arena.used_bytes < 8 * TG_NATIVE_MAX_BUCKETS + 4096);
    struct tg_buf out;
    tg_buf_init(&out, 1024); /* what is empty takes no room */
    assert_int_equal(tg_native_encode(&out, &f.batch.points[0], 7), TG_OK);
    assert_true(out.len < 64);
    tg_buf_deinit(&out);
    tg_decode_fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(are_what_they_say_and_go_out_as_they_came),
        cmocka_unit_test(bad_ones_are_refused_alone),
        cmocka_unit_test(malformed_ones_say_where),
        cmocka_unit_test(the_widest_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
