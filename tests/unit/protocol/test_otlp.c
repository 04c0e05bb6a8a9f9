/* OTLP metrics: a request made by another encoder, every order of fields, what is refused and why,
 * cut and damaged bytes, failing memory, and the encoder against the decoder. */
#include "core/protocol/otlp.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/protocol/otlp_attr.h"
#include "tests/support/decode_fixture.h"
#include "tests/support/workload.h"
#include "tests/support/wire_bytes.h"

/* protoc --encode=opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest, from
 * opentelemetry-proto of August 2026: all kinds, all attribute types, exemplars, flags. */
static const char all_kinds[] =
    "0af8060ab1010a160a0c736572766963652e6e616d6512060a0473686f700a170a087265706c69636173120b"
    "18fdffffffffffffffff010a0c0a0663616e617279120210010a110a046c6f6164120921000000000000d03f"
    "0a0e0a04626c6f6212063a0400ff10800a220a046c697374121a2a180a050a036122620a0218070a09210000"
    "00000000f87f0a000a1d0a036d6170121632140a070a0178120210000a090a017912043a0268690a080a046e"
    "6f6e6512001002129f050a180a036c69621203312e321a0c0a0573686f727412030a0173128a010a08637075"
    "2e74656d701201641a0343656c2a760a5b1901002a36fe9c9717210000000000c044402a3b1100002a36fe9c"
    "9717190000000000000440220801020304050607082a10303132333435363738396162636465663a0b0a0377"
    "686f12040a026d653a0a0a04636f7265120218010a171902002a36fe9c97173a0a0a04636f72651202180240"
    "01123b0a0872657175657374731a01313a2c0a261105000000000000001906000000000000002a0931040000"
    "000000000031f7ffffffffffffff10021801121f0a0571756575653a160a1219070000000000000021000000"
    "0000000080100112ac010a076c6174656e63791a026d734a9c010a8301110100000000000000190900000000"
    "0000002106000000000000002900000000000029403218010000000000000002000000000000000300000000"
    "0000003a10000000000000f03f000000000000144042121108000000000000001900000000000008404a0b0a"
    "047061746812030a012f59000000000000e03f6100000000000022400a12190a000000000000002102000000"
    "00000000100212680a0473697a6552600a5c0a080a017012030a0171190b00000000000000210a0000000000"
    "000029000000000000344030033901000000000000004208080512040400ac024a0508041201056100000000"
    "0000f0bf69000000000000204071000000000000c03f100112550a036475725a4e0a4c110300000000000000"
    "190c00000000000000210400000000000000290000000000002040321209000000000000e03f110000000000"
    "00f83f321209000000000000f03f11000000000000084012090a076e6f7468696e671a1d68747470733a2f2f"
    "6578616d706c652e696e76616c69642f73636f70651a2068747470733a2f2f6578616d706c652e696e76616c"
    "69642f7265736f75726365";

#define R1 "blob=\"AP8QgA==\",canary=\"true\","
#define R2                                                                            \
    "list=\"[\\\"a\\\\\\\"b\\\",7,\\\"NaN\\\",null]\",load=\"0.25\","                 \
    "map=\"{\\\"x\\\":false,\\\"y\\\":\\\"aGk=\\\"}\",otel.scope.name=\"lib\","       \
    "otel.scope.schema_url=\"https://example.invalid/scope\",otel.scope.short=\"s\"," \
    "otel.scope.version=\"1.2\","
#define R3 "replicas=\"-3\",service.name=\"shop\"}"
static const char all_kinds_want[] =
    "cpu.temp{" R1 "core=\"1\"," R2 R3 " gauge [Cel] d:41.5 @1700000000000000001 "
    "ex{2.5 @1700000000000000000 30313233343536373839616263646566/0102030405060708 who=me}\n"
    "cpu.temp{" R1 "core=\"2\"," R2 R3 " gauge [Cel] none @1700000000000000002\n"
    "requests{" R1 R2 R3 " counter cumulative [1] i:-9 @6 start=5 ex{i4 @0}\n"
    "queue{" R1 R2 R3 " gauge delta [] d:-0 @7\n"
    "latency{" R1 R2 "path=\"/\"," R3 " histogram cumulative [ms] h:6 sum=12.5 min=0.5 max=9"
    " [1 2 3] <=1 <=5 @9 start=1 ex{3 @8}\n"
    "latency{" R1 R2 R3 " histogram cumulative [ms] h:2 [] @10\n"
    "size{" R1 R2 "p=\"q\"," R3 " exponential_histogram delta [] e:10 scale=-2 zero=1<0.125 sum=20"
    " min=-1 max=8 +-3 [4 0 300] -2 [5] @11\n"
    "dur{" R1 R2 R3 " summary [] s:4 sum=8 0.5:1.5 1:3 @12 start=3\n";

static size_t all_kinds_bytes(uint8_t *out)
{
    return tg_unhex(all_kinds, out);
}

static void decodes_what_protoc_encodes(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    uint8_t bytes[1024];
    const size_t len = all_kinds_bytes(bytes);
    struct tg_err err = {.msg = ""};
    tg_decode_fixture_init(&f, NULL);
    for (int run = 0; run < 2; run++) { /* first all misses, then all hits */
        assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, bytes, len, &err), TG_OK);
        assert_string_equal(tg_decode_text(&f), all_kinds_want);
        assert_int_equal(f.d.n_accepted, 8);
        assert_int_equal(f.d.n_rejected, 0);
        assert_int_equal(f.d.n_misses, run ? 0 : 8);
        tg_decode_fixture_reset(&f);
    }
    tg_decode_fixture_deinit(&f);
}

/* A description is no part of the series; its newest text goes along when that is described. */
static void descriptions_are_kept(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    uint8_t bytes[1024];
    struct tg_err err = {.msg = ""};
    struct tg_series_desc d;
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    tg_decode_fixture_init(&f, NULL);
    const size_t len = all_kinds_bytes(bytes);
    assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, bytes, len, &err), TG_OK);
    assert_int_equal(tg_table_describe(f.table, f.batch.points[0].series, &d, &arena), TG_OK);
    assert_int_equal(d.help_len, 1);
    assert_memory_equal(d.help, "d", 1);
    assert_int_equal(tg_table_describe(f.table, f.batch.points[2].series, &d, &arena), TG_OK);
    assert_int_equal(d.help_len, 0);
    tg_decode_fixture_deinit(&f);
    tg_arena_deinit(&arena);
}

/* --- messages by hand --- */

static struct bytes key_value(uint32_t number, const char *key, const char *value)
{
    return field(number, JOIN(text(1, key), field(2, text(1, value))));
}

static struct bytes good_point(void)
{
    return JOIN(fixed(3, 100), real(4, 1.5), key_value(7, "k", "v"));
}

/* A request of one metric "m". */
static struct bytes request(uint32_t data_number, struct bytes data)
{
    return field(1, field(2, field(2, JOIN(text(1, "m"), field(data_number, data)))));
}

static void assert_decodes(struct tg_decode_fixture *f, struct bytes b, const char *want)
{
    struct tg_err err = {.msg = ""};
    for (int run = 0; run < 2; run++) {
        const enum tg_code code = tg_decode_exact(f, tg_otlp_decode_metrics, b.d, b.n, &err);
        if (code != TG_OK) fail_msg("%s", err.msg);
        assert_int_equal(f->d.n_rejected, 0);
        assert_string_equal(tg_decode_text(f), want);
        tg_decode_fixture_reset(f);
    }
}

/* --- order of fields --- */

static bool next_permutation(unsigned *p, unsigned n)
{
    unsigned i = n - 1;
    while (i > 0 && p[i - 1] >= p[i]) i--;
    if (i == 0) return false;
    unsigned k = n - 1;
    while (p[k] <= p[i - 1]) k--;
    unsigned t = p[i - 1];
    p[i - 1] = p[k];
    p[k] = t;
    for (unsigned a = i, b = n - 1; a < b; a++, b--) {
        t = p[a];
        p[a] = p[b];
        p[b] = t;
    }
    return true;
}

typedef struct bytes (*wrapper)(struct bytes);

static struct bytes wrap_point(struct bytes b)
{
    return request(5, field(1, b));
}
static struct bytes wrap_sum(struct bytes b)
{
    return request(7, b);
}
static struct bytes wrap_metric(struct bytes b)
{
    return field(1, field(2, field(2, b)));
}
static struct bytes wrap_scope(struct bytes b)
{
    return field(1, field(2, b));
}
static struct bytes wrap_resource(struct bytes b)
{
    return field(1, b);
}

/* Every order of the parts of one level means the same. */
static void assert_any_order(const char *level, wrapper wrap, const struct bytes *parts, unsigned n,
                             const char *want)
{
    struct tg_decode_fixture f;
    unsigned order[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    (void)level;
    tg_decode_fixture_init(&f, NULL);
    do {
        struct bytes b = none();
        for (unsigned i = 0; i < n; i++) b = JOIN(b, parts[order[i]]);
        assert_decodes(&f, wrap(b), want);
    } while (next_permutation(order, n));
    assert_int_equal(tg_table_stats(f.table).n_series, 1); /* and not one per order */
    tg_decode_fixture_deinit(&f);
}

static void fields_come_in_any_order(void **state)
{
    (void)state;
    const struct bytes point[] = {fixed(2, 90),           fixed(3, 100),          real(4, 1.5),
                                  key_value(7, "a", "1"), key_value(7, "b", "2"), varint(8, 0)};
    assert_any_order("point", wrap_point, point, 6,
                     "m{a=\"1\",b=\"2\"} gauge [] d:1.5 @100 start=90\n");
    const struct bytes sum[] = {field(1, good_point()), varint(2, 2), varint(3, 1),
                                hex("fa0701ff") /* unknown field 127 */};
    assert_any_order("sum", wrap_sum, sum, 4, "m{k=\"v\"} counter cumulative [] d:1.5 @100\n");
    const struct bytes metric[] = {text(1, "m"), text(2, "description"), text(3, "s"),
                                   field(5, field(1, good_point())), field(12, none())};
    assert_any_order("metric", wrap_metric, metric, 5, "m{k=\"v\"} gauge [s] d:1.5 @100\n");
    const struct bytes scope[] = {field(1, JOIN(text(1, "lib"), key_value(3, "sk", "sv"))),
                                  field(2, JOIN(text(1, "m"), field(5, field(1, good_point())))),
                                  text(3, "url")};
    assert_any_order("scope", wrap_scope, scope, 3,
                     "m{k=\"v\",otel.scope.name=\"lib\",otel.scope.schema_url=\"url\","
                     "otel.scope.sk=\"sv\"} gauge [] d:1.5 @100\n");
    const struct bytes resource[] = {
        field(1, key_value(1, "rk", "rv")),
        field(2, field(2, JOIN(text(1, "m"), field(5, field(1, good_point()))))), text(3, "url")};
    assert_any_order("resource", wrap_resource, resource, 3,
                     "m{k=\"v\",rk=\"rv\"} gauge [] d:1.5 @100\n");
}

/* Singular messages given in pieces are merged; of several kinds of data the last stands. */
static void pieces_are_merged(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    tg_decode_fixture_init(&f, NULL);
    const struct bytes metric =
        field(2, field(2, JOIN(text(1, "x"), text(1, "m"), field(5, field(1, good_point())))));
    assert_decodes(&f,
                   field(1, JOIN(field(1, key_value(1, "a", "1")), metric,
                                 field(1, key_value(1, "b", "2")), field(1, none()))),
                   "m{a=\"1\",b=\"2\",k=\"v\"} gauge [] d:1.5 @100\n");
    assert_decodes(&f,
                   wrap_scope(JOIN(field(1, text(1, "old")),
                                   field(2, JOIN(text(1, "m"), field(5, field(1, good_point())))),
                                   field(1, JOIN(text(2, "2"), text(1, "new"))))),
                   "m{k=\"v\",otel.scope.name=\"new\",otel.scope.version=\"2\"}"
                   " gauge [] d:1.5 @100\n");
    const struct bytes p = field(1, good_point());
    const struct bytes q = field(1, JOIN(fixed(3, 200), fixed(6, 7)));
    assert_decodes(&f,
                   wrap_metric(JOIN(text(1, "m"), field(7, JOIN(p, varint(3, 1))), field(5, p),
                                    field(7, varint(2, 2)), field(7, q))),
                   "m gauge cumulative [] i:7 @200\n");
    /* numbers: the last value stands, in its type */
    assert_decodes(&f, wrap_point(JOIN(fixed(6, 7), fixed(3, 1), fixed(3, 100), real(4, 2))),
                   "m gauge [] d:2 @100\n");
    /* tags and lengths in longer forms than needed */
    assert_decodes(&f,
                   wrap_point(JOIN(hex("9980000200000000000000"), real(4, 2), hex("ba80009300"),
                                   raw("\x0a\x01k\x12\x0e\x0a\x8a\x80\x00vvvvvvvvvv", 19))),
                   "m{k=\"vvvvvvvvvv\"} gauge [] d:2 @2\n");
    tg_decode_fixture_deinit(&f);
}

/* Attributes in three runs: each counts. */
static void split_attributes_all_count(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    struct tg_err err;
    struct bytes points = none();
    tg_decode_fixture_init(&f, NULL);
    for (unsigned i = 0; i < 8; i++)
        points = JOIN(points, field(1, JOIN(key_value(7, "a", i & 1 ? "1" : "0"), fixed(3, 100),
                                            key_value(7, "b", i & 2 ? "1" : "0"), real(4, 1.5),
                                            key_value(7, "c", i & 4 ? "1" : "0"))));
    const struct bytes b = request(5, points);
    assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err), TG_OK);
    assert_int_equal(f.batch.n_points, 8);
    assert_int_equal(tg_table_stats(f.table).n_series, 8);
    tg_decode_fixture_deinit(&f);
}

/* An attribute of a scope takes the place of none of a point, a resource or the scope itself. */
static void scope_attributes_keep_to_themselves(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    tg_decode_fixture_init(&f, NULL);
    const struct bytes metric = field(2, JOIN(text(1, "m"), field(5, field(1, good_point()))));
    const struct bytes scope = JOIN(text(1, "lib"), key_value(3, "k", "s"), key_value(3, "r", "s"),
                                    key_value(3, "name", "other"), key_value(3, "version", "9"));
    assert_decodes(&f,
                   field(1, JOIN(field(1, key_value(1, "r", "rv")),
                                 field(2, JOIN(field(1, scope), metric, text(3, "http://s/1"))))),
                   "m{k=\"v\",otel.scope.k=\"s\",otel.scope.name=\"lib\",otel.scope.r=\"s\","
                   "otel.scope.schema_url=\"http://s/1\",otel.scope.version=\"9\",r=\"rv\"}"
                   " gauge [] d:1.5 @100\n");
    assert_decodes(&f, wrap_scope(JOIN(metric, text(3, "http://s/1"))),
                   "m{k=\"v\",otel.scope.schema_url=\"http://s/1\"} gauge [] d:1.5 @100\n");
    assert_decodes(&f, wrap_scope(JOIN(text(3, "http://s/1"), metric, text(3, "http://s/2"))),
                   "m{k=\"v\",otel.scope.schema_url=\"http://s/2\"} gauge [] d:1.5 @100\n");
    tg_decode_fixture_deinit(&f);
}

/* Of equal keys the narrowest has the name; what it hides is kept under another one. */
static void hidden_attributes_are_kept(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    tg_decode_fixture_init(&f, NULL);
    const struct bytes value = JOIN(fixed(3, 100), real(4, 1.5));
    const struct bytes resource =
        JOIN(key_value(1, "service.name", "s"), key_value(1, "zone", "z"), key_value(1, "e", "1"),
             key_value(1, "otel.scope.name", "r"), key_value(1, "x", "1"));
    const struct bytes scope =
        JOIN(text(1, "lib"), text(2, "9"), key_value(3, "k", "s"), key_value(3, "free", "1"));
    const struct bytes point =
        JOIN(value, key_value(7, "service.name", "p"), key_value(7, "otel.scope.version", "pv"),
             key_value(7, "otel.scope.k", "pk"), key_value(7, "e", ""), key_value(7, "x", "1"),
             key_value(7, "otel.resource.x", "2"));
    assert_decodes(
        &f,
        field(1, JOIN(field(1, resource),
                      field(2, JOIN(field(1, scope),
                                    field(2, JOIN(text(1, "m"), field(5, field(1, point)))))))),
        "m{otel.resource.e=\"1\",otel.resource.otel.resource.x=\"1\","
        "otel.resource.otel.scope.name=\"r\",otel.resource.service.name=\"s\","
        "otel.resource.x=\"2\",otel.scope.free=\"1\",otel.scope.k=\"pk\","
        "otel.scope.name=\"lib\",otel.scope.otel.scope.k=\"s\","
        "otel.scope.otel.scope.version=\"9\",otel.scope.version=\"pv\",service.name=\"p\","
        "x=\"1\",zone=\"z\"} gauge [] d:1.5 @100\n");
    tg_decode_fixture_deinit(&f);
}

/* A key without room for the prefix gives way, and the point is taken. */
static void hidden_attribute_of_a_long_key_gives_way(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    struct tg_table_config config = {.limits = tg_series_limits_default};
    config.limits.max_key_bytes = sizeof("otel.resource.abc") - 1;
    tg_decode_fixture_init(&f, &config);
    const struct bytes point =
        JOIN(fixed(3, 100), real(4, 1.5), key_value(7, "abc", "p"), key_value(7, "abcd", "p"));
    const struct bytes metric = field(2, JOIN(text(1, "m"), field(5, field(1, point))));
    assert_decodes(
        &f,
        field(1, JOIN(field(1, JOIN(key_value(1, "abc", "r"), key_value(1, "abcd", "r"))),
                      field(2, metric))),
        "m{abc=\"p\",abcd=\"p\",otel.resource.abc=\"r\"} gauge [] d:1.5 @100\n");
    tg_decode_fixture_deinit(&f);
}

static void same_tags_of_other_levels_are_other_series(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    struct tg_err err;
    tg_decode_fixture_init(&f, NULL);
    const struct bytes bare = JOIN(fixed(3, 100), real(4, 1.5));
    const struct bytes metric = field(2, JOIN(text(1, "m"), field(5, field(1, bare))));
    const struct bytes b =
        JOIN(request(5, field(1, good_point())),
             field(1, JOIN(field(1, key_value(1, "k", "v")), field(2, metric))),
             field(1, field(2, JOIN(field(1, key_value(3, "k", "v")), metric))),
             field(1, field(2, metric)), wrap_sum(JOIN(field(1, good_point()), varint(2, 1))),
             wrap_sum(JOIN(field(1, good_point()), varint(2, 2))),
             wrap_sum(JOIN(field(1, good_point()), varint(2, 2), varint(3, 1))),
             wrap_metric(JOIN(text(1, "m"), text(3, "u"), field(5, field(1, good_point())))),
             field(1, field(2, JOIN(metric, text(3, "k")))));
    assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err), TG_OK);
    assert_int_equal(f.batch.n_points, 9);
    for (uint32_t i = 0; i < 9; i++)
        for (uint32_t k = i + 1; k < 9; k++)
            assert_true(f.batch.points[i].series != f.batch.points[k].series);
    tg_decode_fixture_deinit(&f);
}

/* --- points refused alone --- */

static void bad_points_are_rejected_alone(void **state)
{
    (void)state;
    const uint64_t late = UINT64_C(1) << 63;
    const struct bytes t = fixed(3, 100);
    struct bytes deep[2] = {text(1, "x"), text(1, "x")};
    for (int i = 0; i < TG_OTLP_MAX_DEPTH + 1; i++) {
        if (i < TG_OTLP_MAX_DEPTH) deep[0] = field(5, field(1, deep[0]));
        deep[1] = field(i % 2 ? 5 : 6, i % 2 ? field(1, deep[1])
                                             : field(1, JOIN(text(1, "k"), field(2, deep[1]))));
    }
    const double down[] = {5, 1};
    const uint64_t three[] = {1, 1, 1};
    const struct bytes bounds_down = JOIN(t, field(6, raw(three, 24)), field(7, raw(down, 16)));
    const struct {
        const char *name;
        uint32_t data_number;
        struct bytes point;
        enum tg_code code;
        const char *why;
    } rows[] = {
        {"no time", 5, real(4, 1), TG_ERR_INVALID, "time_unix_nano is 0"},
        {"time past int64", 5, JOIN(fixed(3, late), real(4, 1)), TG_ERR_INVALID, "2262"},
        {"start past int64", 5, JOIN(fixed(2, late), t, real(4, 1)), TG_ERR_INVALID,
         "start_time_unix_nano"},
        {"no value", 5, t, TG_ERR_INVALID, "neither as_double nor as_int"},
        {"no time, no value flag", 5, varint(8, 1), TG_ERR_INVALID, "time_unix_nano is 0"},
        {"empty key", 5, JOIN(t, real(4, 1), key_value(7, "", "v")), TG_ERR_INVALID, "empty key"},
        {"NUL in a value", 5,
         JOIN(t, real(4, 1), field(7, JOIN(text(1, "k"), field(2, field(1, raw("a\0b", 3)))))),
         TG_ERR_INVALID, "NUL"},
        {"not UTF-8", 5, JOIN(t, real(4, 1), key_value(7, "k", "\xff")), TG_ERR_INVALID, "UTF-8"},
        {"nested too deep", 5, JOIN(t, real(4, 1), field(7, JOIN(text(1, "k"), field(2, deep[1])))),
         TG_ERR_TOO_LARGE, "deeper than 16"},
        {"buckets without bounds", 9, JOIN(t, field(6, raw(three, 24))), TG_ERR_INVALID,
         "3 bucket_counts for 0 explicit_bounds"},
        {"bounds without buckets", 9, JOIN(t, field(7, raw(down, 8))), TG_ERR_INVALID,
         "0 bucket_counts for 1"},
        {"bounds descend", 9, bounds_down, TG_ERR_INVALID, "do not ascend at index 1"},
        {"bound is NaN", 9, JOIN(t, fixed(6, 1), fixed(6, 1), real(7, NAN)), TG_ERR_INVALID,
         "ascend at index 0"},
        {"histogram without time", 9, fixed(4, 1), TG_ERR_INVALID, "time_unix_nano is 0"},
        {"offset over int32", 10, JOIN(t, field(8, JOIN(varint(1, 0xfffffffe), varint(2, 1)))),
         TG_ERR_INVALID, "2^31"},
        {"negative threshold", 10, JOIN(t, real(14, -1)), TG_ERR_INVALID, "zero_threshold"},
        {"quantile over 1", 11, JOIN(t, field(6, real(1, 1.5))), TG_ERR_INVALID, "quantile 1.5"},
        {"quantile NaN", 11, JOIN(t, field(6, real(1, NAN))), TG_ERR_INVALID, "outside 0..1"},
        {"exemplar label too deep", 5,
         JOIN(t, real(4, 1), field(5, JOIN(real(3, 1), field(7, field(2, deep[1]))))),
         TG_ERR_TOO_LARGE, "deeper than 16"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err;
        tg_decode_fixture_init(&f, NULL);
        const uint32_t number = rows[i].data_number;
        /* between two good points of the same kind of metric */
        const struct bytes good =
            field(1, number == 5 ? good_point() : JOIN(fixed(3, 100), fixed(4, 0)));
        const struct bytes temporality = number == 9 || number == 10 ? varint(2, 2) : none();
        const struct bytes b =
            request(number, JOIN(good, field(1, rows[i].point), good, temporality));
        for (int run = 0; run < 2; run++) {
            assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err), TG_OK);
            if (f.d.n_rejected != 1) fail_msg("%s: not rejected", rows[i].name);
            assert_int_equal(f.d.n_accepted, 2);
            assert_int_equal(f.batch.n_points, 2);
            assert_ptr_equal(f.batch.points[0].series, f.batch.points[1].series);
            assert_int_equal(f.d.first_code, rows[i].code);
            if (!strstr(f.d.first_reject.msg, rows[i].why) ||
                !strstr(f.d.first_reject.msg, "metric \"m\""))
                fail_msg("%s: %s", rows[i].name, f.d.first_reject.msg);
            tg_decode_fixture_reset(&f);
        }
        tg_decode_fixture_deinit(&f);
    }
    /* and what is just allowed */
    struct tg_decode_fixture f;
    tg_decode_fixture_init(&f, NULL);
    assert_decodes(&f,
                   wrap_point(JOIN(t, real(4, 1), field(7, JOIN(text(1, "k"), field(2, deep[0]))))),
                   "m{k=\"[[[[[[[[[[[[[[[[\\\"x\\\"]]]]]]]]]]]]]]]]\"} gauge [] d:1 @100\n");
    assert_decodes(
        &f, /* empty key and empty text in a list */
        wrap_point(JOIN(
            t, real(4, 1),
            field(7, JOIN(text(1, "k"), field(2, field(6, field(1, field(2, text(1, ""))))))))),
        "m{k=\"{\\\"\\\":\\\"\\\"}\"} gauge [] d:1 @100\n");
    assert_decodes(&f, wrap_point(JOIN(fixed(3, INT64_MAX), real(4, 1))),
                   "m gauge [] d:1 @9223372036854775807\n");
    assert_decodes(&f,
                   request(9, JOIN(field(1, JOIN(t, fixed(6, 3), varint(10, 0))), varint(2, 2))),
                   "m histogram cumulative [] h:0 [3] @100\n");
    assert_decodes(
        &f,
        request(9, JOIN(field(1, JOIN(t, fixed(6, 3), fixed(6, 4), varint(10, 1))), varint(2, 2))),
        "m histogram cumulative [] none @100\n");
    tg_decode_fixture_deinit(&f);
}

/* What a point without a value says of what ended is kept: its bounds, its quantiles. The rest of
 * it means nothing. */
static void ended_points_say_what_ended(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    tg_decode_fixture_init(&f, NULL);
    const double two[] = {1, 2};
    const uint64_t three[] = {0, 7, 0};
    const struct bytes t = fixed(3, 100);
    const struct bytes bounds = field(7, raw(two, 16));
    const struct bytes ended = varint(10, 1);
    const char *want = "m histogram cumulative [] ended h:0 [0 0 0] <=1 <=2 @100\n";
    assert_decodes(
        &f,
        request(9, JOIN(field(1, JOIN(t, fixed(4, 7), real(5, 1), real(11, 1), real(12, 1),
                                      field(6, raw(three, 24)), bounds, ended)),
                        varint(2, 2))),
        want);
    assert_decodes(&f, request(9, JOIN(field(1, JOIN(t, bounds, ended)), varint(2, 2))), want);
    assert_decodes(
        &f,
        request(11, field(1, JOIN(t, fixed(4, 7), real(5, NAN),
                                  field(6, JOIN(real(1, 0.5), real(2, NAN))), varint(8, 1)))),
        "m summary [] ended s:0 sum=0 0.5:0 @100\n");
    assert_decodes(&f, request(11, field(1, JOIN(t, varint(8, 1)))), "m summary [] none @100\n");
    tg_decode_fixture_deinit(&f);
}

static void headers_may_be_bad_too(void **state)
{
    (void)state;
    const struct bytes p = field(1, good_point());
    struct bytes many = none();
    for (int i = 0; i < 257; i++) many = JOIN(many, hex("0a00"));
    const struct {
        struct bytes request;
        enum tg_code code;
        const char *why;
    } rows[] = {
        {wrap_metric(field(5, JOIN(p, p))), TG_ERR_INVALID, "name is empty"},
        {wrap_sum(JOIN(p, p, varint(2, 3))), TG_ERR_INVALID, "aggregation_temporality 3"},
        {wrap_sum(JOIN(p, p)), TG_ERR_INVALID, "is unspecified (0)"},
        {wrap_sum(JOIN(p, varint(2, 0), varint(3, 1), p)), TG_ERR_INVALID, "is unspecified (0)"},
        {request(9, JOIN(field(1, fixed(3, 9)), field(1, fixed(3, 10)))), TG_ERR_INVALID,
         "is unspecified (0)"},
        {request(10, JOIN(field(1, fixed(3, 9)), field(1, fixed(3, 10)))), TG_ERR_INVALID,
         "is unspecified (0)"},
        {field(1, JOIN(field(1, key_value(1, "", "v")),
                       field(2, field(2, JOIN(text(1, "m"), field(5, JOIN(p, p))))))),
         TG_ERR_INVALID, "empty key"},
        {field(1,
               JOIN(field(1, many), field(2, field(2, JOIN(text(1, "m"), field(5, JOIN(p, p))))))),
         TG_ERR_TOO_LARGE, "more than 256 attributes"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err;
        tg_decode_fixture_init(&f, NULL);
        for (int run = 0; run < 2; run++) {
            assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, rows[i].request.d,
                                             rows[i].request.n, &err),
                             TG_OK);
            assert_int_equal(f.d.n_rejected, 2);
            assert_int_equal(f.batch.n_points, 0);
            assert_int_equal(f.d.first_code, rows[i].code);
            if (!strstr(f.d.first_reject.msg, rows[i].why)) fail_msg("%s", f.d.first_reject.msg);
            tg_decode_fixture_reset(&f);
        }
        tg_decode_fixture_deinit(&f);
    }
}

/* At the table's limit the new series are refused, the known ones go on, the order stays. */
static void full_table_refuses_new_series(void **state)
{
    (void)state;
    static const struct tg_table_config config = {.max_series = 2};
    struct tg_decode_fixture f;
    struct tg_err err;
    struct bytes points = none();
    tg_decode_fixture_init(&f, &config);
    for (unsigned i = 0; i < 20; i++) {
        const char key[] = {(char)('a' + i % 4), 0};
        points =
            JOIN(points, field(1, JOIN(fixed(3, 100 + i), fixed(6, i), key_value(7, key, "v"))));
    }
    const struct bytes b = request(5, points);
    for (int run = 0; run < 2; run++) {
        assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err), TG_OK);
        assert_int_equal(f.d.n_accepted, 10);
        assert_int_equal(f.d.n_rejected, 10);
        assert_int_equal(f.d.first_code, TG_ERR_FULL);
        for (uint32_t i = 0; i < f.batch.n_points; i++)
            assert_int_equal(f.batch.points[i].value.i64, i / 2 * 4 + i % 2);
        tg_decode_fixture_reset(&f);
    }
    tg_decode_fixture_deinit(&f);
}

static void batch_limit_fails_the_call(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    struct tg_err err;
    tg_decode_fixture_init(&f, NULL);
    tg_batch_deinit(&f.batch);
    tg_batch_init(&f.batch, tg_table_guard(f.table), 2, 1 << 16);
    const struct bytes p = field(1, good_point());
    struct bytes b = request(5, JOIN(p, p));
    assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err), TG_OK);
    assert_int_equal(f.batch.n_points, 2);
    b = request(5, p);
    for (int run = 0; run < 2; run++) {
        assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err),
                         TG_ERR_TOO_LARGE);
        assert_int_equal(f.batch.n_points, 2); /* those from before */
    }
    tg_decode_fixture_deinit(&f);
}

/* --- damaged bytes --- */

static void malformed_bytes_say_where(void **state)
{
    (void)state;
    const struct bytes good = field(1, good_point());
    const struct {
        struct bytes request;
        uint64_t offset;
        const char *why;
    } rows[] = {
        {hex("0a"), 0, "request: a length is cut short"},
        {hex("0a05"), 0, "request: a length runs past the end"},
        {hex("08"), 0, "request: a varint is cut short"},
        {hex("ffffffffffffffffffff01"), 0, "request: a tag is cut short or longer"},
        {hex("00"), 0, "field number is outside"},
        {hex("0b0c"), 0, "groups"},
        {hex("0f"), 0, "wire types 6 and 7"},
        {hex("0801"), 0, "request: field 1 has wire type 0"},
        {hex("0a020801"), 2, "resource_metrics[0]: field 1 has wire type 0"},
        {JOIN(request(5, good), hex("0a021001")), 43,
         "resource_metrics[1]: field 2 has wire type 0"},
        {wrap_scope(hex("1001")), 4, "resource_metrics[0].scope_metrics[0]: field 2"},
        {wrap_metric(hex("2901")), 6, "resource_metrics[0].scope_metrics[0].metrics[0]: a fixed"},
        {wrap_metric(hex("0801")), 6, "metrics[0]: field 1 has wire type 0"},
        {request(5, JOIN(good, field(1, hex("1901")))), 43,
         "metrics[0].data_points[1]: a fixed-size number is cut short"},
        {request(5, field(1, hex("1a00"))), 13, "data_points[0]: field 3 has wire type 2"},
        {request(5, hex("0801")), 11, "metrics[0]: field 1 has wire type 0"},
        {request(7, hex("1200")), 11, "metrics[0]: field 2 has wire type 2"},
        {request(9, field(1, hex("3203010203"))), 13, "3 bytes of packed 64-bit numbers"},
        {request(10, field(1, hex("42021280"))), 15, "length"},
        {request(10, field(1, hex("4203120180"))), 15, "cut short"},
        {request(10, field(1, hex("320100"))), 13, "field 6 has wire type 2"},
        {request(11, field(1, hex("32020801"))), 15, "summary quantile: field 1"},
        {wrap_point(JOIN(fixed(3, 1), real(4, 1), hex("3a020a05"))), 33,
         "data_points[0]: attribute"},
        {wrap_point(JOIN(fixed(3, 1), real(4, 1), hex("3a03120108"))), 35, "attribute"},
        {wrap_point(JOIN(fixed(3, 1), real(4, 1), hex("2a021001"), key_value(7, "k", "v"))),
         15 + 18, "exemplar"},
        {field(1, JOIN(field(1, hex("0a020a05")),
                       field(2, field(2, JOIN(text(1, "m"), field(5, good)))))),
         6, "resource_metrics[0]: attribute"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        tg_decode_fixture_init(&f, NULL);
        for (int run = 0; run < 2; run++) {
            struct tg_err err = {.msg = ""};
            const enum tg_code code = tg_decode_exact(&f, tg_otlp_decode_metrics, rows[i].request.d,
                                                      rows[i].request.n, &err);
            if (code != TG_ERR_MALFORMED || !strstr(err.msg, rows[i].why) ||
                (rows[i].offset && err.offset != rows[i].offset))
                fail_msg("row %zu: code %d at %lld: %s, want \"%s\" at %lld", i, (int)code,
                         (long long)err.offset, err.msg, rows[i].why, (long long)rows[i].offset);
            assert_int_equal(f.batch.n_points, 0);
            assert_int_equal(f.d.n_accepted, 0);
        }
        tg_decode_fixture_deinit(&f);
    }
    assert_int_equal(tg_otlp_decode_metrics(NULL, 0, &(struct tg_intake){.batch = NULL}, NULL),
                     TG_OK);
}

static void no_prefix_is_accepted(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    uint8_t bytes[1024];
    const size_t len = all_kinds_bytes(bytes);
    tg_decode_fixture_init(&f, NULL);
    for (size_t n = 1; n < len; n++) {
        struct tg_err err;
        assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, bytes, n, &err),
                         TG_ERR_MALFORMED);
        assert_int_equal(f.batch.n_points, 0);
    }
    /* a point that is cut short inside an otherwise whole request */
    const struct bytes p = JOIN(fixed(2, 1), fixed(3, 100), real(4, 1.5), key_value(7, "k", "v"));
    for (size_t n = 0; n < p.n; n++) {
        struct tg_err err;
        const struct bytes b = wrap_point(raw(p.d, n));
        const enum tg_code code = tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err);
        if (n == 0 || n == 9 || n == 18 || n == 27) { /* between two fields */
            assert_int_equal(code, TG_OK);
            assert_int_equal(f.d.n_accepted, n == 27);
        } else {
            assert_int_equal(code, TG_ERR_MALFORMED);
        }
        tg_decode_fixture_reset(&f);
    }
    tg_decode_fixture_deinit(&f);
}

static void flipped_bits_do_no_harm(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    uint8_t bytes[1024];
    const size_t len = all_kinds_bytes(bytes);
    tg_decode_fixture_init(&f, NULL);
    for (size_t bit = 0; bit < len * 8; bit++) {
        struct tg_err err;
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        if (tg_decode_exact(&f, tg_otlp_decode_metrics, bytes, len, &err) == TG_OK)
            assert_int_equal(f.d.n_accepted, f.batch.n_points);
        else
            assert_int_equal(f.batch.n_points, 0);
        (void)tg_decode_text(&f);
        tg_decode_fixture_reset(&f);
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    tg_decode_fixture_deinit(&f);
}

/* --- failing memory --- */

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    const size_t len = all_kinds_bytes(bytes);
    uint64_t n = 1;
    for (bool fired = true; fired; n++) {
        struct tg_decode_fixture f;
        struct tg_err err = {.msg = ""};
        tg_decode_fixture_init(&f, NULL);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_decode_exact(&f, tg_otlp_decode_metrics, bytes, len, &err);
        fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (code == TG_OK) {
            assert_int_equal(f.d.n_accepted + f.d.n_rejected, 8);
            if (f.d.n_rejected) assert_int_equal(f.d.first_code, TG_ERR_NOMEM);
        } else {
            assert_int_equal(code, TG_ERR_NOMEM);
            assert_int_equal(f.batch.n_points, 0);
        }
        (void)tg_decode_text(&f); /* what was accepted is whole */
        tg_decode_fixture_reset(&f);
        assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, bytes, len, &err), TG_OK);
        assert_string_equal(tg_decode_text(&f), all_kinds_want);
        tg_decode_fixture_deinit(&f);
    }
    assert_true(n > 10);
}

static void hits_allocate_nothing(void **state)
{
    (void)state;
    struct tg_workload w;
    struct tg_decode_fixture f;
    struct tg_buf body;
    struct tg_err err;
    tg_workload_init(&w, 500, INT64_C(1700000000000000000));
    tg_decode_fixture_init(&f, NULL);
    tg_buf_init(&body, 0);
    for (int run = 0; run < 3; run++) {
        tg_buf_reset(&body);
        tg_workload_otlp(&w, 0, 500, &body);
        if (run) tg_mem_fail_at(1);
        assert_int_equal(tg_otlp_decode_metrics(body.data, body.len, &f.d, &err), TG_OK);
        assert_true(run == 0 || !tg_mem_fail_fired());
        tg_mem_fail_at(0);
        assert_int_equal(f.batch.n_points, 500);
        assert_int_equal(f.d.n_misses, run ? 0 : 500);
        for (uint32_t i = 0; i < 500; i++)
            assert_true(tg_point_equal(&f.batch.points[i], &w.points[i]));
        tg_decode_fixture_reset(&f);
        tg_workload_step(&w, 1000);
    }
    tg_buf_deinit(&body);
    tg_decode_fixture_deinit(&f);
    tg_workload_deinit(&w);
}

/* --- the encoder --- */

static void encodes_what_it_decoded(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    struct tg_decode_fixture g;
    struct tg_buf body;
    struct tg_err err = {.msg = ""};
    uint8_t bytes[1024];
    const size_t len = all_kinds_bytes(bytes);
    tg_decode_fixture_init(&f, NULL);
    tg_decode_fixture_init(&g, NULL);
    tg_buf_init(&body, 0);
    assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, bytes, len, &err), TG_OK);
    struct tg_otlp_item *items = tg_decode_items(&f);
    assert_int_equal(tg_otlp_encode_metrics(items, f.batch.n_points, &body, &err), TG_OK);
    assert_int_equal(tg_decode_exact(&g, tg_otlp_decode_metrics, body.data, body.len, &err), TG_OK);
    assert_string_equal(tg_decode_text(&g), all_kinds_want);
    const size_t whole = body.len;
    for (uint64_t n = 1;; n++) { /* a failure leaves the buffer as it was */
        tg_buf_deinit(&body);
        tg_buf_init(&body, 0);
        assert_int_equal(tg_buf_append(&body, "xyz", 3), TG_OK);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_otlp_encode_metrics(items, f.batch.n_points, &body, &err);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        assert_int_equal(body.len, fired ? 3 : whole + 3);
        if (!fired) break;
    }
    tg_buf_deinit(&body);
    tg_decode_fixture_deinit(&f);
    tg_decode_fixture_deinit(&g);
}

static void other_value_types_are_encoded(void **state)
{
    (void)state;
    static struct tg_tag tags[] = {{"b", "2", 1, 1, TG_ORIGIN_POINT}};
    const struct tg_series_desc d = {
        .name = "x", .unit = "", .name_len = 1, .n_tags = 1, .tags = tags};
    const struct tg_string s = {"text", 4};
    const struct tg_exp_histogram e = {.count = 1, .scale = 20};
    const struct {
        struct tg_point point;
        enum tg_code code;
        const char *want;
    } rows[] = {
        {{.ts_ns = 1, .type = TG_VALUE_UINT64, .value.u64 = 5},
         TG_OK,
         "x{b=\"2\"} gauge [] i:5 @1\n"},
        {{.ts_ns = 1, .type = TG_VALUE_UINT64, .value.u64 = UINT64_MAX},
         TG_OK,
         "x{b=\"2\"} gauge [] d:1.8446744073709552e+19 @1\n"},
        {{.ts_ns = 1, .type = TG_VALUE_BOOL, .value.i64 = 1},
         TG_OK,
         "x{b=\"2\"} gauge [] i:1 @1\n"},
        {{.ts_ns = 1, .type = TG_VALUE_NONE, .flags = TG_POINT_NO_VALUE},
         TG_OK,
         "x{b=\"2\"} gauge [] none @1\n"},
        {{.ts_ns = 1, .type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &e},
         TG_OK,
         "x{b=\"2\"} exponential_histogram cumulative [] e:1 scale=20 zero=0<0 +0 [] -0 [] @1\n"},
        {{.ts_ns = 1, .type = TG_VALUE_STRING, .value.string = &s},
         TG_ERR_UNSUPPORTED,
         "no form for a text value"},
        {{.ts_ns = 1, .type = TG_VALUE_EXEMPLARS},
         TG_ERR_UNSUPPORTED,
         "no form for a point without a value"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_buf body;
        struct tg_err err = {.msg = ""};
        tg_decode_fixture_init(&f, NULL);
        tg_buf_init(&body, 0);
        const struct tg_otlp_item item = {&d, &rows[i].point};
        assert_int_equal(tg_otlp_encode_metrics(&item, 1, &body, &err), rows[i].code);
        if (rows[i].code == TG_OK) {
            assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, body.data, body.len, &err),
                             TG_OK);
            assert_string_equal(tg_decode_text(&f), rows[i].want);
        } else {
            assert_non_null(strstr(err.msg, rows[i].want));
            assert_int_equal(body.len, 0);
        }
        tg_buf_deinit(&body);
        tg_decode_fixture_deinit(&f);
    }
}

static void answers_go_both_ways(void **state)
{
    (void)state;
    const struct {
        uint64_t n;
        const char *message;
        const char *want; /* hex */
    } rows[] = {
        {0, NULL, ""},
        {0, "", ""},
        {3, NULL, "0a020803"},
        {0, "warn",
         "0a06120477"
         "61726e"},
        {300, "bad",
         "0a0808ac02"
         "1203626164"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_buf b;
        struct tg_string message;
        int64_t n;
        uint8_t want[64];
        tg_buf_init(&b, 0);
        assert_int_equal(tg_otlp_encode_response(rows[i].n, rows[i].message, &b), TG_OK);
        assert_int_equal(b.len, tg_unhex(rows[i].want, want));
        if (b.len) assert_memory_equal(b.data, want, b.len);
        assert_int_equal(tg_otlp_decode_response(b.data, b.len, &n, &message, NULL), TG_OK);
        assert_int_equal(n, rows[i].n);
        assert_int_equal(message.len, rows[i].message ? strlen(rows[i].message) : 0);
        tg_buf_deinit(&b);
    }
    struct tg_buf b;
    struct tg_string message;
    struct tg_err err;
    int32_t code;
    int64_t n;
    tg_buf_init(&b, 0);
    assert_int_equal(tg_otlp_encode_status(14, "later", 1500, &b), TG_OK);
    /* code 14, message, details { type_url, value { retry_delay { seconds 1, nanos 5e8 } } } */
    uint8_t want[128];
    const size_t want_len = tg_unhex(
        "080e12056c617465721a360a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e52"
        "65747279496e666f120a0a08080110"
        "80cab5ee01",
        want);
    assert_int_equal(b.len, want_len);
    assert_memory_equal(b.data, want, want_len);
    assert_int_equal(tg_otlp_decode_status(b.data, b.len, &code, &message, &err), TG_OK);
    assert_int_equal(code, 14);
    assert_memory_equal(message.ptr, "later", 5);
    assert_int_equal(tg_otlp_decode_status(b.data, b.len - 1, &code, &message, &err),
                     TG_ERR_MALFORMED);
    assert_int_equal(
        tg_otlp_decode_response((const uint8_t *)"\x0a\x02\x08", 3, &n, &message, &err),
        TG_ERR_MALFORMED);
    tg_buf_deinit(&b);
}

/* A metric whose points cannot be read is not taken for one that has none. */
static void kinds_that_are_not_known_are_rejected(void **state)
{
    (void)state;
    const struct bytes point = field(1, good_point());
    const struct {
        struct bytes metric;
        uint64_t n_rejected, n_accepted;
        const char *why;
    } rows[] = {
        {JOIN(text(1, "m"), field(4, point)), 1, 0, "field 4 of Metric): update the sender"},
        {JOIN(text(1, "m"), field(8, point)), 1, 0, "field 8 of Metric): update the sender"},
        {JOIN(text(1, "m"), field(13, point)), 1, 0, "field 13 of Metric): it is newer than"},
        {JOIN(field(13, point), text(1, "m"), field(5, point)), 0, 1, NULL},
        {text(1, "m"), 0, 0, NULL}, /* nothing is lost */
        {JOIN(text(1, "m"), key_value(12, "k", "v")), 0, 0, NULL},
        {JOIN(text(1, "m"), varint(13, 7)), 0, 0, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err;
        tg_decode_fixture_init(&f, NULL);
        const struct bytes b = field(1, field(2, field(2, rows[i].metric)));
        assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err), TG_OK);
        assert_int_equal(f.d.n_rejected, rows[i].n_rejected);
        assert_int_equal(f.d.n_accepted, rows[i].n_accepted);
        if (rows[i].why && !strstr(f.d.first_reject.msg, rows[i].why))
            fail_msg("%zu: %s", i, f.d.first_reject.msg);
        tg_decode_fixture_deinit(&f);
    }
}

static void attributes_that_give_way_are_counted(void **state)
{
    (void)state;
    const struct {
        struct bytes attributes;
        const char *want;
        uint64_t n;
    } rows[] = {
        {key_value(7, "a", "1"), "m{a=\"1\"}", 0},
        {JOIN(key_value(7, "a", "1"), key_value(7, "b", "2"), key_value(7, "a", "3")),
         "m{a=\"3\",b=\"2\"}", 1},
        {JOIN(key_value(7, "a", "1"), key_value(7, "a", "1"), key_value(7, "a", "2")), "m{a=\"2\"}",
         2},
        {JOIN(key_value(7, "a", ""), key_value(7, "b", "2")), "m{b=\"2\"}",
         0}, /* as if not there */
        {JOIN(key_value(7, "a", ""), key_value(7, "a", "2")), "m{a=\"2\"}", 0},
        {JOIN(key_value(7, "a", "2"), key_value(7, "a", "")), "m ", 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err;
        tg_decode_fixture_init(&f, NULL);
        const struct bytes b =
            request(5, field(1, JOIN(fixed(3, 100), real(4, 1), rows[i].attributes)));
        for (int run = 0; run < 2; run++) {
            assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err), TG_OK);
            assert_int_equal(f.d.n_accepted, 1);
            assert_int_equal(f.d.n_attributes_twice, run ? 0 : rows[i].n); /* of a new series */
            const char *got = tg_decode_text(&f);
            if (strncmp(got, rows[i].want, strlen(rows[i].want)) != 0) fail_msg("%zu: %s", i, got);
            tg_decode_fixture_reset(&f);
        }
        tg_decode_fixture_deinit(&f);
    }
}

/* An id of zeros is none; one of another length, or a span without its trace, stays as a label. */
static void odd_ids_of_exemplars_are_kept(void **state)
{
    (void)state;
    uint8_t id[300];
    memset(id, 0xab, sizeof(id));
    static const uint8_t zeros[16];
    const struct bytes value = real(3, 1);
    const struct bytes attribute = key_value(7, "k", "v");
    const struct bytes trace = field(5, raw(id, 16));
    const struct bytes span = field(4, raw(id, 8));
#define TRACE "abababababababababababababababab"
    const struct {
        struct bytes exemplar;
        const char *want; /* NULL: counted as invalid */
    } rows[] = {
        {JOIN(value, trace, span), "ex{1 @0 " TRACE "/abababababababab}"},
        {JOIN(value, field(5, raw(zeros, 16)), field(4, raw(zeros, 8))), "ex{1 @0}"},
        {JOIN(value, field(5, raw(zeros, 16)), span), "ex{1 @0 span_id=abababababababab}"},
        {JOIN(value, field(5, raw(id, 8)), span, attribute),
         "ex{1 @0 span_id=abababababababab trace_id=abababababababab k=v}"},
        {JOIN(value, trace, field(4, raw(id, 3))),
         "ex{1 @0 " TRACE "/0000000000000000 span_id=ababab}"},
        {JOIN(value, field(5, raw(id, 257))), NULL},
        {JOIN(value, key_value(7, "k", "\xc3\xa4")), "ex{1 @0 k=\xc3\xa4}"},
        {JOIN(value, trace, key_value(7, "k", "\xc3")), NULL}, /* not UTF-8 */
        {JOIN(value, key_value(7, "\xff", "v")), NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err;
        tg_decode_fixture_init(&f, NULL);
        const struct bytes b =
            request(5, field(1, JOIN(fixed(3, 1), real(4, 2), field(5, rows[i].exemplar))));
        for (int run = 0; run < 2; run++) {
            assert_int_equal(tg_decode_exact(&f, tg_otlp_decode_metrics, b.d, b.n, &err), TG_OK);
            assert_int_equal(f.d.n_rejected, 0);
            assert_int_equal(f.d.n_accepted, 1);
            assert_int_equal(f.d.n_exemplars_invalid, rows[i].want ? 0 : 1);
            const char *got = strstr(tg_decode_text(&f), " ex{");
            if (!rows[i].want) assert_null(got);
            if (rows[i].want && (!got || strncmp(got + 1, rows[i].want, strlen(rows[i].want)) != 0))
                fail_msg("%zu: %s", i, tg_decode_text(&f));
            tg_decode_fixture_reset(&f);
        }
        tg_decode_fixture_deinit(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_ids_of_exemplars_are_kept),
        cmocka_unit_test(kinds_that_are_not_known_are_rejected),
        cmocka_unit_test(attributes_that_give_way_are_counted),
        cmocka_unit_test(decodes_what_protoc_encodes),
        cmocka_unit_test(descriptions_are_kept),
        cmocka_unit_test(fields_come_in_any_order),
        cmocka_unit_test(pieces_are_merged),
        cmocka_unit_test(split_attributes_all_count),
        cmocka_unit_test(scope_attributes_keep_to_themselves),
        cmocka_unit_test(hidden_attributes_are_kept),
        cmocka_unit_test(hidden_attribute_of_a_long_key_gives_way),
        cmocka_unit_test(same_tags_of_other_levels_are_other_series),
        cmocka_unit_test(bad_points_are_rejected_alone),
        cmocka_unit_test(ended_points_say_what_ended),
        cmocka_unit_test(headers_may_be_bad_too),
        cmocka_unit_test(full_table_refuses_new_series),
        cmocka_unit_test(batch_limit_fails_the_call),
        cmocka_unit_test(malformed_bytes_say_where),
        cmocka_unit_test(no_prefix_is_accepted),
        cmocka_unit_test(flipped_bits_do_no_harm),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(hits_allocate_nothing),
        cmocka_unit_test(encodes_what_it_decoded),
        cmocka_unit_test(other_value_types_are_encoded),
        cmocka_unit_test(answers_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
