/* Remote write 1.0: a request made by another encoder, labels, native histograms, refusals, damaged
 * bytes, failing memory; names and the encoder, read back by the decoder. */
#include "core/protocol/remote_write.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/protocol/prom_name.h"
#include "tests/support/decode_fixture.h"
#include "tests/support/workload.h"
#include "tests/support/wire_bytes.h"

/* protoc --encode=prometheus.WriteRequest */
static const char by_protoc[] =
    "0a4e0a0e0a085f5f6e616d655f5f120275700a0b0a036a6f6212046e6f64650a070a05656d70747912100900"
    "0000000000f03f10fbd095ffbc31121409000000000000e0bf10fbffffffffffffffff010abf010a0b0a036a"
    "6f6212046e6f64650a160a085f5f6e616d655f5f120a726571735f746f74616c1210090000000000001c4010"
    "80d095ffbc311a660a2c0a0874726163655f6964122033303331333233333334333533363337333833393631"
    "363236333634363536360a1b0a077370616e5f69641210303130323033303430353036303730380a090a0377"
    "686f12026d651100000000000008401881d095ffbc311a1e0a110a0874726163655f6964120573686f727411"
    "000000000000104018020a4e0a0f0a085f5f6e616d655f5f12036c6174223b08101966666666666632402006"
    "29fca9f1d24d62503f30024204080210014a010a5a04080310025a0408021001620306010470027881d095ff"
    "bc310a140a100a085f5f6e616d655f5f12047a65726f12001a0e08011204726571732201682a0175";
static const char by_protoc_want[] =
    "up{job=\"node\"} unknown [] d:1 @1700000000123000000\n"
    "up{job=\"node\"} unknown [] d:-0.5 @-5000000\n"
    "reqs_total{job=\"node\"} unknown [] d:7 @1700000000000000000"
    " ex{3 @1700000000001000000 30313233343536373839616263646566/0102030405060708 who=me}"
    " ex{4 @2000000 trace_id=short}\n"
    "lat exponential_histogram [] e:16 scale=3 zero=2<0.001 sum=18.399999999999999"
    " +-3 [3 2 0 4] -0 [5] reset=no @1700000000001000000\n"
    "zero unknown [] d:0 @0\n";

static void decodes_what_protoc_encodes(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    uint8_t bytes[512];
    const size_t len = tg_unhex(by_protoc, bytes);
    struct tg_err err = {.msg = ""};
    tg_decode_fixture_init(&f, NULL);
    for (int run = 0; run < 2; run++) {
        assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, bytes, len, &err), TG_OK);
        assert_string_equal(tg_decode_text(&f), by_protoc_want);
        assert_int_equal(f.d.n_accepted, 5);
        assert_int_equal(f.d.n_rejected, 0);
        assert_int_equal(f.d.n_misses, run ? 0 : 4);
        tg_decode_fixture_reset(&f);
    }
    tg_decode_fixture_deinit(&f);
}

/* --- messages by hand --- */

static struct bytes label(const char *name, const char *value)
{
    return field(1, JOIN(text(1, name), text(2, value)));
}

static struct bytes sample(double v, int64_t ms)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return field(2, JOIN(fixed(1, bits), varint(2, (uint64_t)ms)));
}

static void assert_text(struct tg_decode_fixture *f, struct bytes b, const char *want)
{
    struct tg_err err = {.msg = ""};
    for (int run = 0; run < 2; run++) {
        if (tg_decode_exact(f, tg_remote_write_decode, b.d, b.n, &err) != TG_OK)
            fail_msg("%s", err.msg);
        assert_string_equal(tg_decode_text(f), want);
        tg_decode_fixture_reset(f);
    }
}

static void parts_come_in_any_order(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    const struct bytes n = label("__name__", "m");
    const struct bytes a = label("a", "1");
    const struct bytes z = label("z", "2");
    const struct bytes s = sample(1.5, 100);
    static const char want[] = "m{a=\"1\",z=\"2\"} unknown [] d:1.5 @100000000\n";
    tg_decode_fixture_init(&f, NULL);
    assert_text(&f, field(1, JOIN(n, a, z, s)), want);
    assert_text(&f, field(1, JOIN(z, a, n, s)), want);
    assert_text(&f, field(1, JOIN(s, a, n, z)), want);
    assert_text(&f, field(1, JOIN(a, s, n, hex("aa0600"), z)), want); /* field 101 is skipped */
    assert_text(&f, field(1, JOIN(n, field(1, JOIN(text(2, "1"), text(1, "a"))), z, s)), want);
    assert_text(&f, JOIN(field(3, text(2, "meta")), field(1, JOIN(n, a, z, s))), want);
    assert_text(
        &f, field(1, JOIN(n, a, z, field(2, JOIN(varint(2, 100), fixed(1, 0x3ff8000000000000))))),
        want);
    assert_int_equal(tg_table_stats(f.table).n_series, 1);
    /* longer forms of tags and lengths */
    assert_text(&f, field(1, JOIN(n, a, z, hex("92008b0009000000000000f83f1064"))), want);
    tg_decode_fixture_deinit(&f);
}

/* MetricMetadata { type 1, metric_family_name 2, help 4, unit 5 }, field 3 of the request. */
static void metadata_is_noted_and_counted(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    struct tg_arena arena;
    struct tg_help_family got;
    struct tg_err err = {.msg = ""};
    tg_decode_fixture_init(&f, NULL);
    tg_arena_init(&arena, 0);
    const struct bytes ok =
        field(3, JOIN(varint(1, 3), text(2, "lat_seconds"), text(4, "How long."), text(5, "s")));
    const struct bytes other = field(3, JOIN(text(2, "lat_seconds"), text(4, "Other words.")));
    const struct bytes unnamed = field(3, JOIN(varint(1, 1), text(4, "Of what?")));
    const struct bytes all =
        JOIN(ok, other, unnamed, field(1, JOIN(label("__name__", "m"), sample(1, 1))), ok);
    assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, all.d, all.n, &err), TG_OK);
    assert_int_equal(f.d.n_accepted, 1);
    assert_int_equal(f.d.n_metadata[TG_HELP_NOTED], 2);
    assert_int_equal(f.d.n_metadata[TG_HELP_OTHER], 1);
    assert_int_equal(f.d.n_metadata[TG_HELP_INVALID], 1);
    assert_true(
        tg_help_find_family(tg_table_help(f.table), "lat_seconds_bucket", 18, &arena, &got));
    assert_int_equal(got.type, 3);
    assert_int_equal(got.help_len, 9);
    assert_memory_equal(got.help, "How long.", 9);
    assert_int_equal(got.unit_len, 1);
    const struct bytes bad = field(3, hex("12ff"));
    assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, bad.d, bad.n, &err),
                     TG_ERR_MALFORMED);
    assert_non_null(strstr(err.msg, "metadata"));
    const struct bytes no_message = varint(3, 7);
    assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, no_message.d, no_message.n, &err),
                     TG_ERR_MALFORMED);
    tg_arena_deinit(&arena);
    tg_decode_fixture_deinit(&f);
}

static void times_are_checked(void **state)
{
    (void)state;
    const struct {
        int64_t ms;
        bool ok;
    } rows[] = {{0, true},
                {1, true},
                {127, true},
                {INT64_C(1) << 35, true},
                {(INT64_C(1) << 35) - 1, true},
                {INT64_C(4398046511103), true},
                {INT64_C(4398046511104), true},
                {INT64_C(9223372036854), true},
                {INT64_C(9223372036855), false},
                {INT64_C(-9223372036854), true},
                {INT64_C(-9223372036855), false},
                {INT64_MIN, false},
                {INT64_MAX, false}};
    struct tg_decode_fixture f;
    tg_decode_fixture_init(&f, NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_err err;
        const struct bytes b = field(1, JOIN(label("__name__", "m"), sample(2, rows[i].ms)));
        for (int run = 0; run < 2; run++) {
            assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, b.d, b.n, &err), TG_OK);
            assert_int_equal(f.d.n_accepted, rows[i].ok);
            assert_int_equal(f.d.n_rejected, !rows[i].ok);
            if (rows[i].ok)
                assert_int_equal(f.batch.points[0].ts_ns, rows[i].ms * 1000000);
            else
                assert_non_null(strstr(f.d.first_reject.msg, "does not fit"));
            tg_decode_fixture_reset(&f);
        }
    }
    tg_decode_fixture_deinit(&f);
}

static void stale_markers_are_points_without_value(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    const struct bytes n = label("__name__", "m");
    tg_decode_fixture_init(&f, NULL);
    assert_text(&f,
                field(1, JOIN(n, field(2, JOIN(fixed(1, TG_REMOTE_WRITE_STALE_NAN), varint(2, 1))),
                              field(4, JOIN(fixed(3, TG_REMOTE_WRITE_STALE_NAN), varint(15, 2))),
                              field(2, JOIN(fixed(1, 0x7ff8000000000001), varint(2, 3))))),
                "m unknown [] none @1000000\n"
                "m unknown [] d:nan @3000000\n"
                "m exponential_histogram [] none @2000000\n");
    tg_decode_fixture_deinit(&f);
}

static void bad_series_are_rejected_alone(void **state)
{
    (void)state;
    const struct bytes n = label("__name__", "m");
    const struct bytes s = sample(1, 1);
    struct bytes many = n;
    for (int i = 0; i < 129; i++) many = JOIN(many, hex("0a00"));
    const struct {
        const char *name;
        struct bytes series;
        unsigned n_points;
        enum tg_code code;
        const char *why;
    } rows[] = {
        {"no name", JOIN(label("a", "b"), s, s), 2, TG_ERR_INVALID, "without the label __name__"},
        {"empty name", JOIN(label("__name__", ""), s), 1, TG_ERR_INVALID, "without the label"},
        {"no labels", s, 1, TG_ERR_INVALID, "(0 labels)"},
        {"twice", JOIN(n, label("a", "1"), label("b", "1"), label("a", "2"), s), 1, TG_ERR_INVALID,
         "label \"a\" is there twice"},
        {"name twice", JOIN(n, n, s), 1, TG_ERR_INVALID, "\"__name__\" is there twice"},
        {"empty label", JOIN(n, label("", "x"), s), 1, TG_ERR_INVALID, "empty name (value \"x\")"},
        {"not UTF-8", JOIN(n, label("a", "\xc0"), s), 1, TG_ERR_INVALID, "UTF-8"},
        {"many", JOIN(many, s), 1, TG_ERR_TOO_LARGE, "more than limits.tags_per_series = 128"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err;
        tg_decode_fixture_init(&f, NULL);
        const struct bytes good = field(1, JOIN(n, label("good", "yes"), s));
        const struct bytes b = JOIN(good, field(1, rows[i].series), good);
        for (int run = 0; run < 2; run++) {
            assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, b.d, b.n, &err), TG_OK);
            if (f.d.n_rejected != rows[i].n_points || f.d.first_code != rows[i].code ||
                !strstr(f.d.first_reject.msg, rows[i].why))
                fail_msg("%s: %llu rejected, code %d: %s", rows[i].name,
                         (unsigned long long)f.d.n_rejected, (int)f.d.first_code,
                         f.d.first_reject.msg);
            assert_int_equal(f.d.n_accepted, 2);
            assert_string_equal(tg_decode_text(&f), "m{good=\"yes\"} unknown [] d:1 @1000000\n"
                                                    "m{good=\"yes\"} unknown [] d:1 @1000000\n");
            tg_decode_fixture_reset(&f);
        }
        tg_decode_fixture_deinit(&f);
    }
}

/* --- exemplars --- */

static struct bytes exemplar(const char *trace, double v, int64_t ms)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return field(3, JOIN(label("trace_id", trace), fixed(2, bits), varint(3, (uint64_t)ms)));
}

/* Prometheus sends each exemplar in a TimeSeries of its own, after that of its sample or in a later
 * request. */
static void exemplars_in_a_series_of_their_own_are_points(void **state)
{
    (void)state;
    const struct bytes n = label("__name__", "m");
    const struct bytes s = field(1, JOIN(n, sample(1, 10)));
    const struct bytes e = field(1, JOIN(n, exemplar("abc", 7, 9)));
    const struct bytes h = field(1, JOIN(n, field(4, JOIN(varint(1, 0), varint(15, 10)))));
    static const char of_sample[] = "m unknown [] d:1 @10000000\n";
    static const char own[] = "m unknown [] @9000000 ex{7 @9000000 trace_id=abc}\n";
    struct tg_decode_fixture f;
    tg_decode_fixture_init(&f, NULL);
    assert_text(&f, e, own); /* its sample may come in the next request */
    assert_text(&f, JOIN(s, e),
                "m unknown [] d:1 @10000000\n"
                "m unknown [] @9000000 ex{7 @9000000 trace_id=abc}\n");
    assert_text(&f, JOIN(e, s),
                "m unknown [] @9000000 ex{7 @9000000 trace_id=abc}\n"
                "m unknown [] d:1 @10000000\n");
    assert_text(&f, s, of_sample);
    /* several: one point, at the time of the newest */
    assert_text(&f,
                field(1, JOIN(n, exemplar("a", 1, 5), exemplar("b", 2, 8), exemplar("c", 3, 6))),
                "m unknown [] @8000000 ex{1 @5000000 trace_id=a} ex{2 @8000000 trace_id=b}"
                " ex{3 @6000000 trace_id=c}\n");
    assert_int_equal(tg_table_stats(f.table).n_series, 1);
    /* with points they stay theirs */
    assert_text(&f, field(1, JOIN(n, sample(1, 10), exemplar("abc", 7, 9))),
                "m unknown [] d:1 @10000000 ex{7 @9000000 trace_id=abc}\n");
    /* of a native histogram: its series, once it is known */
    assert_text(&f, JOIN(h, e),
                "m exponential_histogram [] e:0 scale=0 zero=0<0 sum=0 +0 [] -0 [] "
                "@10000000\n"
                "m exponential_histogram [] @9000000 ex{7 @9000000 trace_id=abc}\n");
    tg_decode_fixture_deinit(&f);
}

/* Under names of their sender, whatever there is for those of OTLP: so that they do not meet
 * others, and exemplars that come before the histogram are of its series. */
static void what_is_native_goes_out_under_its_names(void **state)
{
    (void)state;
    const struct bytes n = JOIN(label("__name__", "rpc__dur.x"), label("http.route", "/"));
    const struct bytes h = field(1, JOIN(n, field(4, JOIN(varint(1, 0), varint(15, 10)))));
    const struct bytes in = JOIN(field(1, JOIN(n, exemplar("abc", 7, 9))), h);
    static const struct {
        const struct tg_prom_names names;
        const char *want;
    } runs[] = {
        {{.is_utf8 = true, .has_otlp_suffixes = true},
         "rpc__dur.x{http.route=\"/\"} unknown [] @9000000 ex{7 @9000000 trace_id=abc}\n"
         "rpc__dur.x{http.route=\"/\"} exponential_histogram [] e:0 scale=0 zero=0<0 sum=0 "
         "+0 [] -0 [] @10000000\n"},
        {{.has_otlp_suffixes = true},
         "rpc__dur_x{http_route=\"/\"} unknown [] @9000000 ex{7 @9000000 trace_id=abc}\n"
         "rpc__dur_x{http_route=\"/\"} exponential_histogram [] e:0 scale=0 zero=0<0 sum=0 "
         "+0 [] -0 [] @10000000\n"},
    };
    for (size_t i = 0; i < 2; i++) {
        struct tg_decode_fixture f;
        struct tg_decode_fixture back;
        struct tg_err err = {.msg = ""};
        struct tg_buf prepared, out;
        struct tg_arena arena;
        tg_decode_fixture_init(&f, NULL);
        tg_decode_fixture_init(&back, NULL);
        tg_arena_init(&arena, 0);
        tg_buf_init(&prepared, 0);
        tg_buf_init(&out, 0);
        assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, in.d, in.n, &err), TG_OK);
        assert_int_equal(f.batch.n_points, 2);
        for (uint32_t k = 0; k < 2; k++) {
            struct tg_series_desc d;
            tg_buf_reset(&prepared);
            assert_int_equal(tg_table_describe(f.table, f.batch.points[k].series, &d, &arena),
                             TG_OK);
            assert_int_equal(tg_remote_write_prepare(&d, &runs[i].names, NULL, &prepared, &err),
                             TG_OK);
            assert_int_equal(tg_remote_write_append_point(
                                 &out, prepared.data, (uint32_t)prepared.len, &f.batch.points[k]),
                             TG_OK);
        }
        assert_int_equal(tg_decode_exact(&back, tg_remote_write_decode, out.data, out.len, &err),
                         TG_OK);
        assert_string_equal(tg_decode_text(&back), runs[i].want);
        tg_buf_deinit(&prepared);
        tg_buf_deinit(&out);
        tg_arena_deinit(&arena);
        tg_decode_fixture_deinit(&f);
        tg_decode_fixture_deinit(&back);
    }
}

static struct bytes exemplar_of(const char *key, const char *value, const char *key2,
                                const char *value2)
{
    return field(3, JOIN(field(1, JOIN(text(1, key), text(2, value))),
                         field(1, JOIN(text(1, key2), text(2, value2))),
                         fixed(2, UINT64_C(0x3ff0000000000000)), varint(3, 5)));
}

/* What is no id is a label like others; one label twice makes an exemplar that nobody takes. */
static void odd_labels_of_exemplars_are_kept_or_counted(void **state)
{
    (void)state;
    static const char zeros[] = "00000000000000000000000000000000";
    static const char trace[] = "0102030405060708090a0b0c0d0e0f10";
    static const struct {
        const char *key, *value, *key2, *value2, *want; /* NULL: counted */
    } rows[] = {
        {"trace_id", trace, "span_id", "0102030405060708",
         " 0102030405060708090a0b0c0d0e0f10/"
         "0102030405060708"},
        {"trace_id", zeros, "span_id", "0102030405060708",
         " trace_id=00000000000000000000000000000000 span_id=0102030405060708"},
        {"trace_id", trace, "span_id", "0000000000000000",
         " 0102030405060708090a0b0c0d0e0f10/0000000000000000 span_id=0000000000000000"},
        {"trace_id", trace, "trace_id", "x", NULL},
        {"a", "x", "a", "x", NULL},
        {"a", "x\xff", "b", "x", NULL}, /* not UTF-8 */
        {"a", "x", "b\xc0\x80", "x", NULL},
    };
    const struct bytes n = label("__name__", "m");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_err err;
        char want[256];
        tg_decode_fixture_init(&f, NULL);
        const struct bytes b =
            field(1, JOIN(n, sample(1, 10),
                          exemplar_of(rows[i].key, rows[i].value, rows[i].key2, rows[i].value2)));
        assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, b.d, b.n, &err), TG_OK);
        if (rows[i].want)
            (void)snprintf(want, sizeof(want), "m unknown [] d:1 @10000000 ex{1 @5000000%s}\n",
                           rows[i].want);
        else
            (void)snprintf(want, sizeof(want), "m unknown [] d:1 @10000000\n");
        assert_string_equal(tg_decode_text(&f), want);
        assert_int_equal(f.d.n_rejected, 0);
        assert_int_equal(f.d.n_exemplars_invalid, rows[i].want ? 0 : 1);
        tg_decode_fixture_deinit(&f);
    }
}

static void unusable_exemplars_are_counted(void **state)
{
    (void)state;
    const struct bytes n = label("__name__", "m");
    const struct bytes late = exemplar("a", 1, INT64_MAX);
    struct bytes many = hex("");
    for (int i = 0; i < 130; i++) many = JOIN(many, hex("0a00"));
    const struct bytes wide = field(3, JOIN(many, fixed(2, 0)));
    struct tg_decode_fixture f;
    struct tg_err err;
    tg_decode_fixture_init(&f, NULL);
    const struct bytes b =
        JOIN(field(1, JOIN(n, late, wide)), field(1, JOIN(n, sample(1, 1), late)),
             field(1, JOIN(n, late, exemplar("b", 2, 2))));
    for (int run = 0; run < 2; run++) {
        assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, b.d, b.n, &err), TG_OK);
        assert_string_equal(tg_decode_text(&f),
                            "m unknown [] d:1 @1000000\n"
                            "m unknown [] @2000000 ex{2 @2000000 trace_id=b}\n");
        assert_int_equal(f.d.n_rejected, 0);
        assert_int_equal(f.d.n_exemplars_invalid, 4);
        assert_int_equal(f.d.n_exemplars_memory, 0);
        tg_decode_fixture_reset(&f);
    }
    tg_decode_fixture_deinit(&f);
    /* no memory for them: neither silent nor a reason to lose the sample */
    const struct bytes with = field(1, JOIN(n, sample(1, 1), exemplar("b", 2, 2)));
    bool seen = false;
    for (uint64_t at = 1, fired = true; fired; at++) {
        tg_decode_fixture_init(&f, NULL);
        tg_mem_fail_at(at);
        const enum tg_code code = tg_decode_exact(&f, tg_remote_write_decode, with.d, with.n, &err);
        fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (code == TG_OK && f.batch.n_points == 1 && !f.batch.points[0].exemplars) {
            assert_int_equal(f.d.n_exemplars_memory, 1);
            seen = true;
        }
        tg_decode_fixture_deinit(&f);
    }
    assert_true(seen);
}

/* --- damaged bytes --- */

static void malformed_bytes_say_where(void **state)
{
    (void)state;
    const struct bytes n = label("__name__", "m");
    const struct bytes good = field(1, JOIN(n, sample(1, 1)));
    const struct {
        struct bytes request;
        const char *why;
    } rows[] = {
        {hex("0a"), "timeseries[0]: a length is cut short"},
        {hex("0a05"), "timeseries[0]: a length runs past"},
        {hex("0801"), "WriteRequest: field 1 has wire type 0"},
        {JOIN(good, hex("0a0308")), "timeseries[1]: a length runs past"},
        {JOIN(good, field(1, hex("0801")), good), "timeseries[1]: TimeSeries: field 1"},
        {JOIN(good, field(1, JOIN(n, hex("12020801")))), "timeseries[1]: sample: field 1"},
        {JOIN(good, field(1, JOIN(hex("0a020a05"), sample(1, 1))), good, good, good, good, good,
              good, good, good, good, good, good, good, good, good),
         "timeseries[1]: a length runs past"},
        {JOIN(good, field(1, JOIN(hex("0a020801"), sample(1, 1)))),
         "timeseries[1]: label: field 1"},
        {field(1, JOIN(n, hex("1a020801"))), "exemplar"},
        {field(1, JOIN(n, hex("1a03110102"))), "fixed-size"},
        {field(1, JOIN(n, hex("1a020a05"))), "a length runs past"},
        {field(1, JOIN(n, field(4, hex("4a0180")))), "packed deltas are cut short"},
        {field(1, JOIN(n, field(4, hex("42020900")))), "cut short"},
        {field(1, JOIN(n, field(4, hex("0d00000000")))), "histogram: field 1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        tg_decode_fixture_init(&f, NULL);
        for (int run = 0; run < 2; run++) {
            struct tg_err err = {.msg = ""};
            const enum tg_code code = tg_decode_exact(&f, tg_remote_write_decode, rows[i].request.d,
                                                      rows[i].request.n, &err);
            if (code != TG_ERR_MALFORMED || !strstr(err.msg, rows[i].why))
                fail_msg("row %zu: code %d: %s", i, (int)code, err.msg);
            assert_true(err.offset <= rows[i].request.n);
            assert_int_equal(f.batch.n_points, 0);
        }
        tg_decode_fixture_deinit(&f);
    }
    assert_int_equal(tg_remote_write_decode(NULL, 0, &(struct tg_intake){.batch = NULL}, NULL),
                     TG_OK);
}

static void damage_does_no_harm(void **state)
{
    (void)state;
    struct tg_decode_fixture f;
    uint8_t bytes[512];
    const size_t len = tg_unhex(by_protoc, bytes);
    tg_decode_fixture_init(&f, NULL);
    size_t n_whole = 0; /* a prefix is accepted between two TimeSeries only */
    for (size_t n = 1; n < len; n++) {
        struct tg_err err;
        if (tg_decode_exact(&f, tg_remote_write_decode, bytes, n, &err) == TG_OK)
            n_whole++;
        else
            assert_int_equal(f.batch.n_points, 0);
        tg_decode_fixture_reset(&f);
    }
    assert_int_equal(n_whole, 4);
    for (size_t bit = 0; bit < len * 8; bit++) {
        struct tg_err err;
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        if (tg_decode_exact(&f, tg_remote_write_decode, bytes, len, &err) == TG_OK)
            assert_int_equal(f.d.n_accepted, f.batch.n_points);
        else
            assert_int_equal(f.batch.n_points, 0);
        (void)tg_decode_text(&f);
        tg_decode_fixture_reset(&f);
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    tg_decode_fixture_deinit(&f);
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    uint8_t bytes[512];
    const size_t len = tg_unhex(by_protoc, bytes);
    uint64_t n = 1;
    for (bool fired = true; fired; n++) {
        struct tg_decode_fixture f;
        struct tg_err err = {.msg = ""};
        tg_decode_fixture_init(&f, NULL);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_decode_exact(&f, tg_remote_write_decode, bytes, len, &err);
        fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        if (code == TG_OK) {
            assert_int_equal(f.d.n_accepted + f.d.n_rejected, 5);
            if (f.d.n_rejected) assert_int_equal(f.d.first_code, TG_ERR_NOMEM);
        } else {
            assert_int_equal(code, TG_ERR_NOMEM);
            assert_int_equal(f.batch.n_points, 0);
        }
        (void)tg_decode_text(&f);
        tg_decode_fixture_reset(&f);
        assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, bytes, len, &err), TG_OK);
        assert_string_equal(tg_decode_text(&f), by_protoc_want);
        tg_decode_fixture_deinit(&f);
    }
    assert_true(n > 10);
}

static void full_table_refuses_new_series(void **state)
{
    (void)state;
    static const struct tg_table_config config = {.max_series = 1};
    struct tg_decode_fixture f;
    struct tg_err err;
    struct bytes b = {.n = 0};
    tg_decode_fixture_init(&f, &config);
    for (int i = 0; i < 18; i++)
        b = JOIN(b, field(1, JOIN(label("__name__", i % 2 ? "b" : "a"), sample(i, i),
                                  sample(i, i + 1))));
    for (int run = 0; run < 2; run++) {
        assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, b.d, b.n, &err), TG_OK);
        assert_int_equal(f.d.n_accepted, 18);
        assert_int_equal(f.d.n_rejected, 18);
        assert_int_equal(f.d.first_code, TG_ERR_FULL);
        for (uint32_t i = 0; i < 18; i++) {
            assert_int_equal((int64_t)f.batch.points[i].value.f64, i / 2 * 2);
            assert_int_equal(f.batch.points[i].ts_ns, (i / 2 * 2 + i % 2) * 1000000);
        }
        tg_decode_fixture_reset(&f);
    }
    tg_decode_fixture_deinit(&f);
}

/* --- names --- */

/* What Prometheus 2 takes. */
static const struct tg_prom_names escaped = {.has_otlp_suffixes = true};

static void names_follow_the_specification(void **state)
{
    (void)state;
    const struct {
        const char *name, *unit;
        enum tg_kind kind;
        const char *want; /* NULL = refused */
    } rows[] = {
        {"http.server.duration", "s", TG_KIND_HISTOGRAM, "http_server_duration_seconds"},
        {"system.memory.usage", "By", TG_KIND_GAUGE, "system_memory_usage_bytes"},
        {"memory_bytes", "By", TG_KIND_GAUGE, "memory_bytes"},
        {"memory.bytes.used", "By", TG_KIND_GAUGE, "memory_bytes_used"},
        {"requests", "1", TG_KIND_COUNTER, "requests_total"},
        {"requests.total", "", TG_KIND_COUNTER, "requests_total"},
        {"total.requests", "", TG_KIND_COUNTER, "requests_total"},
        {"net.io", "By/s", TG_KIND_GAUGE, "net_io_bytes_per_second"},
        {"net.io", "By", TG_KIND_COUNTER, "net_io_bytes_total"},
        {"cpu.utilization", "1", TG_KIND_GAUGE, "cpu_utilization_ratio"},
        {"cpu.ratio", "1", TG_KIND_GAUGE, "cpu_ratio"},
        {"queue", "{messages}", TG_KIND_GAUGE, "queue"},
        {"queue", "{messages}/s", TG_KIND_GAUGE, "queue_per_second"},
        {"speed", "km/h", TG_KIND_GAUGE, "speed_km_per_hour"},
        {"speed", "m/{x}", TG_KIND_GAUGE, "speed_meters"},
        {"temp", "Cel", TG_KIND_SUMMARY, "temp_celsius"},
        {"odd", "a b%c", TG_KIND_GAUGE, "odd_a_b_c"},
        {"..a...b..", "", TG_KIND_GAUGE, "a_b"},
        {"2xx.count", "", TG_KIND_GAUGE, "_2xx_count"},
        {"caf\xc3\xa9.open", "", TG_KIND_GAUGE, "caf_open"},
        {"a:b", "", TG_KIND_GAUGE, "a:b"},
        {"...", "", TG_KIND_GAUGE, NULL},
        {"...", "", TG_KIND_UNKNOWN, NULL},
        {"__x__total", "", TG_KIND_UNKNOWN, "__x__total"}, /* from Prometheus: stays */
        {"___", "", TG_KIND_UNKNOWN, "___"},
        {"cpu_usage idle", "", TG_KIND_UNKNOWN, "cpu_usage_idle"},
        {"9p", "", TG_KIND_UNKNOWN, "_9p"},
        {"a\xe6\xb8\xa9.b", "", TG_KIND_UNKNOWN, "a__b"}, /* one "_" a character, not a byte */
        {"\xe6\xb8\xa9\xe5\xba\xa6", "", TG_KIND_UNKNOWN, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_buf b;
        struct tg_err err;
        const struct tg_series_desc d = {.name = rows[i].name,
                                         .unit = rows[i].unit,
                                         .name_len = (uint32_t)strlen(rows[i].name),
                                         .unit_len = (uint32_t)strlen(rows[i].unit),
                                         .kind = (uint8_t)rows[i].kind};
        tg_buf_init(&b, 0);
        assert_int_equal(tg_buf_append(&b, "pre", 3), TG_OK);
        for (int run = 0; run < 2; run++) {
            b.len = 3;
            assert_int_equal(tg_prom_metric_name(&d, &escaped, &b, &err),
                             rows[i].want ? TG_OK : TG_ERR_INVALID);
            if (!rows[i].want) {
                assert_int_equal(b.len, 3);
                continue;
            }
            if (b.len - 3 != strlen(rows[i].want) ||
                memcmp(b.data + 3, rows[i].want, b.len - 3) != 0)
                fail_msg("%s [%s]: got %.*s, want %s", rows[i].name, rows[i].unit, (int)b.len - 3,
                         (const char *)b.data + 3, rows[i].want);
        }
        tg_buf_deinit(&b);
    }
    static const char *const labels[][2] = {{"service.name", "service_name"},
                                            {"_x", "_x"},
                                            {"__y__", "__y__"},
                                            {"9z", "key_9z"},
                                            {"a:b", "a_b"},
                                            {"\xc3\xa9", "_"},
                                            {"gr\xc3\xb6\xc3\x9f\x65", "gr__e"},
                                            {"a..b", "a__b"}};
    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        struct tg_buf b;
        tg_buf_init(&b, 0);
        assert_int_equal(
            tg_prom_label_name(labels[i][0], (uint32_t)strlen(labels[i][0]), false, &b), TG_OK);
        assert_int_equal(b.len, strlen(labels[i][1]));
        assert_memory_equal(b.data, labels[i][1], b.len);
        tg_buf_deinit(&b);
    }
}

static void names_are_kept_where_utf8_is_taken(void **state)
{
    (void)state;
    static const struct tg_prom_names bare = {.is_utf8 = true};
    static const struct tg_prom_names suffixed = {
        .is_utf8 = true, .is_otlp_utf8 = true, .has_otlp_suffixes = true};
    static const struct tg_prom_names untouched = {.is_utf8 = true, .is_otlp_utf8 = true};
    static const struct {
        const char *name, *unit;
        enum tg_kind kind;
        const char *by_default, *bare, *suffixed, *untouched;
    } rows[] = {
        {"http.server.duration", "", TG_KIND_UNKNOWN, "http.server.duration",
         "http.server.duration", "http.server.duration", "http.server.duration"},
        {"\xe6\xb8\xa9\xe5\xba\xa6", "", TG_KIND_UNKNOWN, "\xe6\xb8\xa9\xe5\xba\xa6",
         "\xe6\xb8\xa9\xe5\xba\xa6", "\xe6\xb8\xa9\xe5\xba\xa6", "\xe6\xb8\xa9\xe5\xba\xa6"},
        {"9 p", "", TG_KIND_UNKNOWN, "9 p", "9 p", "9 p", "9 p"},
        {"http.server.duration", "s", TG_KIND_HISTOGRAM, "http_server_duration_seconds",
         "http_server_duration", "http.server.duration_seconds", "http.server.duration"},
        {"requests.total", "1", TG_KIND_COUNTER, "requests_total", "requests_total",
         "requests_total", "requests.total"},
        {"net.io", "By/s", TG_KIND_GAUGE, "net_io_bytes_per_second", "net_io",
         "net.io_bytes_per_second", "net.io"},
        {"cpu.ratio", "1", TG_KIND_GAUGE, "cpu_ratio", "cpu_ratio", "cpu_ratio", "cpu.ratio"},
        {"mem.bytes", "By", TG_KIND_COUNTER, "mem_bytes_total", "mem_bytes", "mem.bytes_total",
         "mem.bytes"},
        {"..a_.b", "", TG_KIND_GAUGE, "a_b", "a__b", "..a_.b", "..a_.b"},
        {"2xx", "", TG_KIND_GAUGE, "_2xx", "_2xx", "2xx", "2xx"},
        {"total", "", TG_KIND_COUNTER, "total", "total", "total_total", "total"},
    };
    struct tg_buf b;
    struct tg_err err;
    tg_buf_init(&b, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct tg_series_desc d = {.name = rows[i].name,
                                         .unit = rows[i].unit,
                                         .name_len = (uint32_t)strlen(rows[i].name),
                                         .unit_len = (uint32_t)strlen(rows[i].unit),
                                         .kind = (uint8_t)rows[i].kind};
        const struct {
            const struct tg_prom_names *names;
            const char *want;
        } runs[] = {{&tg_prom_names_default, rows[i].by_default},
                    {&bare, rows[i].bare},
                    {&suffixed, rows[i].suffixed},
                    {&untouched, rows[i].untouched}};
        for (size_t k = 0; k < 4; k++) {
            tg_buf_reset(&b);
            assert_int_equal(tg_prom_metric_name(&d, runs[k].names, &b, &err), TG_OK);
            if (b.len != strlen(runs[k].want) || memcmp(b.data, runs[k].want, b.len) != 0)
                fail_msg("%s, %zu: got %.*s, want %s", rows[i].name, k, (int)b.len,
                         (const char *)b.data, runs[k].want);
        }
    }
    tg_buf_deinit(&b);
}

/* --- encoding, read back --- */

#define TAG(k, v)                                           \
    {                                                       \
        k, v, sizeof(k) - 1, sizeof(v) - 1, TG_ORIGIN_POINT \
    }

/* Labels and those of exemplars stay, too; __name__ is ours in any case. */
static void kept_names_reach_the_message(void **state)
{
    (void)state;
    struct tg_tag tags[] = {TAG("__name__", "x"), TAG("http.route", "/"),
                            TAG("\xe5\x9c\xb0\xe7\x82\xb9", "a")};
    const struct tg_string labels[] = {{"k.1", 3}, {"v", 1}};
    const struct tg_exemplar e = {.value = 1, .n_labels = 1, .labels = labels};
    const struct tg_exemplars ex = {1, &e};
    const struct tg_point p = {.type = TG_VALUE_DOUBLE, .value.f64 = 1, .exemplars = &ex};
    const struct tg_series_desc d = {
        .name = "\xe6\xb8\xa9\xe5\xba\xa6", .unit = "", .name_len = 6, .n_tags = 3, .tags = tags};
    static const struct {
        const struct tg_prom_names *names;
        enum tg_code code;
        const char *want;
    } runs[] = {
        {&tg_prom_names_default, TG_OK,
         "\xe6\xb8\xa9\xe5\xba\xa6{exported___name__=\"x\",http.route=\"/\","
         "\xe5\x9c\xb0\xe7\x82\xb9=\"a\"} unknown [] d:1 @0 ex{1 @0 k.1=v}\n"},
        {&escaped, TG_ERR_INVALID, NULL},
    };
    for (size_t i = 0; i < 2; i++) {
        struct tg_decode_fixture f;
        struct tg_buf prepared;
        struct tg_buf out;
        struct tg_err err;
        tg_decode_fixture_init(&f, NULL);
        tg_buf_init(&prepared, 0);
        tg_buf_init(&out, 0);
        assert_int_equal(tg_remote_write_prepare(&d, runs[i].names, NULL, &prepared, &err),
                         runs[i].code);
        if (runs[i].want) {
            assert_int_equal(
                tg_remote_write_append_point(&out, prepared.data, (uint32_t)prepared.len, &p),
                TG_OK);
            assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, out.data, out.len, &err),
                             TG_OK);
            assert_string_equal(tg_decode_text(&f), runs[i].want);
        }
        tg_buf_deinit(&prepared);
        tg_buf_deinit(&out);
        tg_decode_fixture_deinit(&f);
    }
}

static struct tg_tag plain_tags[] = {TAG("A", "upper"), TAG("host.name", "h"), TAG("zone", "z")};
static struct tg_tag clash_tags[] = {TAG("__name__", "other"), TAG("a.b", "1"),
                                     TAG("a_b", "2"),          TAG("a_c", "3"),
                                     TAG("le", "4"),           TAG("quantile", "5")};

static const double bounds[] = {0.005, 1, 1000000};
static const double inf_bounds[] = {1, INFINITY};
static const double odd_bounds[] = {-2.5e-9, 1e22};
static const uint64_t counts[] = {1, 2, 3, 4};
static const struct tg_histogram histogram = {.count = 10,
                                              .sum = 5.5,
                                              .has_sum = true,
                                              .n_bounds = 3,
                                              .n_buckets = 4,
                                              .bounds = bounds,
                                              .buckets = counts};
static const struct tg_histogram inf_histogram = {
    .count = 6, .n_bounds = 2, .n_buckets = 3, .bounds = inf_bounds, .buckets = counts};
static const struct tg_histogram odd_histogram = {
    .count = 6, .n_bounds = 2, .n_buckets = 3, .bounds = odd_bounds, .buckets = counts};
static const struct tg_histogram bare_histogram = {.count = 3};
static const struct tg_quantile quantiles[] = {{0, 1}, {0.99, 2.5}};
static const struct tg_summary summary = {
    .count = 4, .sum = 8, .n_quantiles = 2, .quantiles = quantiles};
static const uint64_t sparse[] = {1, 0, 0, 2, 0, 0, 0, 3};
static const struct tg_exp_histogram native = {.count = 11,
                                               .zero_count = 2,
                                               .sum = 1,
                                               .zero_threshold = 0.5,
                                               .has_sum = true,
                                               .scale = 8,
                                               .pos_offset = -2,
                                               .neg_offset = 3,
                                               .n_pos = 8,
                                               .n_neg = 2,
                                               .pos = sparse,
                                               .neg = counts};
static const struct tg_exp_histogram fine = {.count = 20,
                                             .sum = 1,
                                             .has_sum = true,
                                             .scale = 10,
                                             .pos_offset = -3,
                                             .n_pos = 4,
                                             .pos = counts,
                                             .neg_offset = 2,
                                             .n_neg = 4,
                                             .neg = counts};
static const struct tg_exp_histogram finest = {.count = 10,
                                               .sum = 1,
                                               .has_sum = true,
                                               .scale = INT32_MAX,
                                               .pos_offset = -2,
                                               .n_pos = 4,
                                               .pos = counts};
static const struct tg_exp_histogram wrong = {.count = 9, .n_pos = 4, .pos = counts};
static const struct tg_exp_histogram with_nan = {
    .count = 12, .sum = NAN, .has_sum = true, .n_pos = 4, .pos = counts};
static const struct tg_exp_histogram coarse = {.scale = -5};
static const struct tg_string who[] = {{"w.ho", 4}, {"me", 2}};
static const struct tg_exemplar exemplar_items[] = {
    {.ts_ns = 7000000,
     .value = 0.5,
     .has_trace = true,
     .trace_id = "0123456789abcdef",
     .span_id = "01234567",
     .n_labels = 1,
     .labels = who},
    {.ts_ns = 8000000, .value = 1e9},
};
static const struct tg_exemplars exemplars = {2, exemplar_items};
static const struct tg_exemplar odd_items[] = {{.value = -INFINITY}, {.value = NAN}};
static const struct tg_exemplars odd = {2, odd_items};
/* attributes that are called like an id, and like each other once they are labels */
static const struct tg_string id_labels[] = {{"trace_id", 8}, {"y", 1}, {"span_id", 7}, {"x", 1},
                                             {"a.b", 3},      {"1", 1}, {"a_b", 3},     {"2", 1},
                                             {"trace.id", 8}, {"z", 1}};
static const struct tg_exemplar own_id_items[] = {
    {.ts_ns = 7000000,
     .value = 0.5,
     .has_trace = true,
     .trace_id = "0123456789abcdef",
     .span_id = "01234567",
     .n_labels = 5,
     .labels = id_labels},
    {.ts_ns = 8000000, .value = 2, .n_labels = 2, .labels = id_labels},
};
static const struct tg_exemplars own_ids = {2, own_id_items};
#define EX1 " ex{0.5 @7000000 30313233343536373839616263646566/3031323334353637 w_ho=me}"
#define EX2 " ex{1000000000 @8000000}"

static void points_are_written(void **state)
{
    (void)state;
    const struct tg_string str = {"s", 1};
    const struct {
        const char *name;
        struct tg_tag *tags;
        uint32_t n_tags;
        enum tg_kind kind;
        struct tg_point p;
        enum tg_code code;
        const char *want;
    } rows[] = {
        {"up",
         plain_tags,
         3,
         TG_KIND_GAUGE,
         {.ts_ns = 1999999, .type = TG_VALUE_DOUBLE, .value.f64 = 1.5},
         TG_OK,
         "up{A=\"upper\",host_name=\"h\",zone=\"z\"} unknown [] d:1.5 @1000000\n"},
        {"n",
         NULL,
         0,
         TG_KIND_COUNTER,
         {.ts_ns = -1, .type = TG_VALUE_INT64, .value.i64 = -7},
         TG_OK,
         "n_total unknown [] d:-7 @-1000000\n"},
        {"n",
         NULL,
         0,
         TG_KIND_UNKNOWN,
         {.type = TG_VALUE_UINT64, .value.u64 = UINT64_MAX},
         TG_OK,
         "n unknown [] d:1.8446744073709552e+19 @0\n"},
        {"n",
         NULL,
         0,
         TG_KIND_UNKNOWN,
         {.type = TG_VALUE_BOOL, .value.i64 = 1},
         TG_OK,
         "n unknown [] d:1 @0\n"},
        {"n",
         NULL,
         0,
         TG_KIND_UNKNOWN,
         {.type = TG_VALUE_DOUBLE, .value.f64 = 2, .exemplars = &exemplars},
         TG_OK,
         "n unknown [] d:2 @0" EX1 EX2 "\n"},
        {"n",
         NULL,
         0,
         TG_KIND_UNKNOWN,
         {.ts_ns = 8000000, .type = TG_VALUE_EXEMPLARS, .exemplars = &exemplars},
         TG_OK,
         "n unknown [] @8000000" EX1 EX2 "\n"},
        {"n",
         NULL,
         0,
         TG_KIND_GAUGE,
         {.type = TG_VALUE_NONE, .flags = TG_POINT_NO_VALUE},
         TG_OK,
         "n unknown [] none @0\n"},
        {"n",
         NULL,
         0,
         TG_KIND_UNKNOWN,
         {.type = TG_VALUE_STRING, .value.string = &str},
         TG_ERR_UNSUPPORTED,
         ""},
        {"g",
         clash_tags,
         6,
         TG_KIND_GAUGE,
         {.type = TG_VALUE_DOUBLE, .value.f64 = 1},
         TG_OK,
         "g{a_b=\"1;2\",a_c=\"3\",exported___name__=\"other\",le=\"4\",quantile=\"5\"}"
         " unknown [] d:1 @0\n"},
        {"h",
         plain_tags,
         3,
         TG_KIND_HISTOGRAM,
         {.type = TG_VALUE_HISTOGRAM, .value.histogram = &histogram, .exemplars = &exemplars},
         TG_OK,
         "h_bucket{A=\"upper\",host_name=\"h\",le=\"0.005\",zone=\"z\"} unknown [] d:1 @0\n"
         "h_bucket{A=\"upper\",host_name=\"h\",le=\"1\",zone=\"z\"} unknown [] d:3 @0" EX1 "\n"
         "h_bucket{A=\"upper\",host_name=\"h\",le=\"1000000\",zone=\"z\"} unknown [] d:6 @0\n"
         "h_bucket{A=\"upper\",host_name=\"h\",le=\"+Inf\",zone=\"z\"} unknown [] d:10 @0" EX2 "\n"
         "h_sum{A=\"upper\",host_name=\"h\",zone=\"z\"} unknown [] d:5.5 @0\n"
         "h_count{A=\"upper\",host_name=\"h\",zone=\"z\"} unknown [] d:10 @0\n"},
        {"h",
         NULL,
         0,
         TG_KIND_HISTOGRAM,
         {.type = TG_VALUE_HISTOGRAM, .value.histogram = &odd_histogram, .exemplars = &odd},
         TG_OK,
         "h_bucket{le=\"-0.0000000025\"} unknown [] d:1 @0 ex{-inf @0}\n"
         "h_bucket{le=\"10000000000000000000000\"} unknown [] d:3 @0\n"
         "h_bucket{le=\"+Inf\"} unknown [] d:6 @0 ex{nan @0}\n"
         "h_count unknown [] d:6 @0\n"},
        {"h",
         clash_tags,
         6,
         TG_KIND_HISTOGRAM,
         {.type = TG_VALUE_HISTOGRAM, .value.histogram = &inf_histogram},
         TG_OK,
         "h_bucket{a_b=\"1;2\",a_c=\"3\",exported___name__=\"other\",exported_le=\"4\",le=\"1\","
         "quantile=\"5\"} unknown [] d:1 @0\n"
         "h_bucket{a_b=\"1;2\",a_c=\"3\",exported___name__=\"other\",exported_le=\"4\",le=\"+Inf\","
         "quantile=\"5\"} unknown [] d:6 @0\n"
         "h_count{a_b=\"1;2\",a_c=\"3\",exported___name__=\"other\",exported_le=\"4\","
         "quantile=\"5\"} unknown [] d:6 @0\n"},
        {"h",
         NULL,
         0,
         TG_KIND_HISTOGRAM,
         {.type = TG_VALUE_HISTOGRAM, .value.histogram = &odd_histogram},
         TG_OK,
         "h_bucket{le=\"-0.0000000025\"} unknown [] d:1 @0\n"
         "h_bucket{le=\"10000000000000000000000\"} unknown [] d:3 @0\n"
         "h_bucket{le=\"+Inf\"} unknown [] d:6 @0\n"
         "h_count unknown [] d:6 @0\n"},
        {"h",
         NULL,
         0,
         TG_KIND_HISTOGRAM,
         {.type = TG_VALUE_HISTOGRAM, .value.histogram = &bare_histogram},
         TG_OK,
         "h_bucket{le=\"+Inf\"} unknown [] d:3 @0\nh_count unknown [] d:3 @0\n"},
        {"h",
         NULL,
         0,
         TG_KIND_HISTOGRAM,
         {.type = TG_VALUE_NONE, .flags = TG_POINT_NO_VALUE},
         TG_OK,
         "h_bucket{le=\"+Inf\"} unknown [] none @0\n"
         "h_sum unknown [] none @0\nh_count unknown [] none @0\n"},
        {"h",
         NULL,
         0,
         TG_KIND_HISTOGRAM,
         {.type = TG_VALUE_HISTOGRAM,
          .flags = TG_POINT_NO_VALUE,
          .value.histogram = &inf_histogram},
         TG_OK,
         "h_bucket{le=\"1\"} unknown [] none @0\nh_bucket{le=\"+Inf\"} unknown [] none @0\n"
         "h_sum unknown [] none @0\nh_count unknown [] none @0\n"},
        {"s",
         NULL,
         0,
         TG_KIND_SUMMARY,
         {.type = TG_VALUE_NONE, .flags = TG_POINT_NO_VALUE},
         TG_OK,
         "s_sum unknown [] none @0\ns_count unknown [] none @0\n"},
        {"s",
         NULL,
         0,
         TG_KIND_SUMMARY,
         {.type = TG_VALUE_SUMMARY, .flags = TG_POINT_NO_VALUE, .value.summary = &summary},
         TG_OK,
         "s{quantile=\"0\"} unknown [] none @0\ns{quantile=\"0.99\"} unknown [] none @0\n"
         "s_sum unknown [] none @0\ns_count unknown [] none @0\n"},
        {"s",
         NULL,
         0,
         TG_KIND_SUMMARY,
         {.type = TG_VALUE_HISTOGRAM, .value.histogram = &bare_histogram},
         TG_ERR_UNSUPPORTED,
         ""},
        {"n",
         NULL,
         0,
         TG_KIND_COUNTER,
         {.type = TG_VALUE_DOUBLE, .value.f64 = 2, .exemplars = &own_ids},
         TG_OK,
         "n_total unknown [] d:2 @0"
         " ex{0.5 @7000000 30313233343536373839616263646566/3031323334353637 a_b=1}"
         " ex{2 @8000000 trace_id=y span_id=x}\n"},
        {"h", NULL, 0, TG_KIND_HISTOGRAM, {.type = TG_VALUE_DOUBLE}, TG_ERR_UNSUPPORTED, ""},
        {"s",
         clash_tags + 4,
         2,
         TG_KIND_SUMMARY,
         {.type = TG_VALUE_SUMMARY, .value.summary = &summary},
         TG_OK,
         "s{exported_quantile=\"5\",le=\"4\",quantile=\"0\"} unknown [] d:1 @0\n"
         "s{exported_quantile=\"5\",le=\"4\",quantile=\"0.99\"} unknown [] d:2.5 @0\n"
         "s_sum{exported_quantile=\"5\",le=\"4\"} unknown [] d:8 @0\n"
         "s_count{exported_quantile=\"5\",le=\"4\"} unknown [] d:4 @0\n"},
        {"e",
         plain_tags,
         1,
         TG_KIND_EXP_HISTOGRAM,
         {.ts_ns = 3000000,
          .type = TG_VALUE_EXP_HISTOGRAM,
          .value.exp_histogram = &native,
          .exemplars = &exemplars},
         TG_OK,
         "e{A=\"upper\"} exponential_histogram [] e:11 scale=8 zero=2<0.5 sum=1"
         " +-2 [1 0 0 2 0 0 0 3] -3 [1 2] @3000000" EX1 EX2 "\n"},
        /* -3 -2 -1 0 by fours: -1 -1 -1 0; 2 3 4 5: 0 0 1 1 */
        {"e",
         NULL,
         0,
         TG_KIND_EXP_HISTOGRAM,
         {.type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &fine},
         TG_OK,
         "e exponential_histogram [] e:20 scale=8 zero=0<0 sum=1 +-1 [6 4] -0 [3 7] "
         "@0\n"},
        {"e",
         NULL,
         0,
         TG_KIND_EXP_HISTOGRAM,
         {.type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &finest},
         TG_OK,
         "e exponential_histogram [] e:10 scale=8 zero=0<0 sum=1 +-1 [3 7] -0 [] @0\n"},
        {"e",
         NULL,
         0,
         TG_KIND_EXP_HISTOGRAM,
         {.type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &coarse},
         TG_ERR_UNSUPPORTED,
         ""},
        {"e",
         NULL,
         0,
         TG_KIND_EXP_HISTOGRAM,
         {.type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &wrong},
         TG_ERR_UNSUPPORTED,
         ""},
        {"e",
         NULL,
         0,
         TG_KIND_EXP_HISTOGRAM,
         {.type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &with_nan},
         TG_OK,
         "e exponential_histogram [] e:12 scale=0 zero=0<0 sum=nan +0 [1 2 3 4] -0 []"
         " @0\n"},
        {"e",
         NULL,
         0,
         TG_KIND_EXP_HISTOGRAM,
         {.type = TG_VALUE_NONE, .flags = TG_POINT_NO_VALUE},
         TG_OK,
         "e exponential_histogram [] none @0\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_decode_fixture f;
        struct tg_buf prepared;
        struct tg_buf out;
        struct tg_err err = {.msg = ""};
        const struct tg_series_desc d = {.name = rows[i].name,
                                         .unit = "",
                                         .name_len = (uint32_t)strlen(rows[i].name),
                                         .kind = (uint8_t)rows[i].kind,
                                         .n_tags = rows[i].n_tags,
                                         .tags = rows[i].tags};
        tg_decode_fixture_init(&f, NULL);
        tg_buf_init(&prepared, 0);
        tg_buf_init(&out, 0);
        assert_int_equal(tg_remote_write_prepare(&d, &escaped, NULL, &prepared, &err), TG_OK);
        for (int run = 0; run < 2; run++) {
            tg_buf_reset(&out);
            assert_int_equal(tg_remote_write_append_point(&out, prepared.data,
                                                          (uint32_t)prepared.len, &rows[i].p),
                             rows[i].code);
            if (tg_decode_exact(&f, tg_remote_write_decode, out.data, out.len, &err) != TG_OK)
                fail_msg("row %zu: %s", i, err.msg);
            assert_int_equal(f.d.n_rejected, 0);
            assert_string_equal(tg_decode_text(&f), rows[i].want);
            tg_decode_fixture_reset(&f);
        }
        for (uint64_t n = 1;; n++) { /* a failure leaves the buffers as they were */
            tg_buf_deinit(&out);
            tg_buf_init(&out, 0);
            tg_mem_fail_at(n);
            const enum tg_code code = tg_remote_write_append_point(
                &out, prepared.data, (uint32_t)prepared.len, &rows[i].p);
            const bool fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            assert_int_equal(code, fired ? TG_ERR_NOMEM : rows[i].code);
            if (fired) assert_int_equal(out.len, 0);
            if (!fired) break;
        }
        const size_t whole = prepared.len;
        for (uint64_t n = 1;; n++) {
            tg_buf_deinit(&prepared);
            tg_buf_init(&prepared, 0);
            tg_mem_fail_at(n);
            const enum tg_code code = tg_remote_write_prepare(&d, &escaped, NULL, &prepared, &err);
            const bool fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
            assert_int_equal(prepared.len, fired ? 0 : whole);
            if (!fired) break;
        }
        tg_buf_deinit(&prepared);
        tg_buf_deinit(&out);
        tg_decode_fixture_deinit(&f);
    }
}

/* Labels sorted, one sample: byte for byte. */
static void the_scalar_form_is_exact(void **state)
{
    (void)state;
    struct tg_buf prepared;
    struct tg_buf out;
    struct tg_err err;
    uint8_t want[128];
    /* by key host.name sorts first, as a label last */
    struct tg_tag tags[] = {TAG("A", "upper"), TAG("host.name", "h"), TAG("host0", "x"),
                            TAG("zone", "z")};
    const struct tg_series_desc d = {
        .name = "up", .unit = "", .name_len = 2, .n_tags = 4, .tags = tags};
    const struct tg_point p = {
        .ts_ns = INT64_C(1700000000123000000), .type = TG_VALUE_DOUBLE, .value.f64 = 1};
    tg_buf_init(&prepared, 0);
    tg_buf_init(&out, 0);
    assert_int_equal(tg_remote_write_prepare(&d, &escaped, NULL, &prepared, &err), TG_OK);
    assert_int_equal(tg_remote_write_append_point(&out, prepared.data, (uint32_t)prepared.len, &p),
                     TG_OK);
    const size_t len = tg_unhex("0a55"
                                "0a0a0a0141120575707065"
                                "72"
                                "0a0e0a085f5f6e616d655f5f12027570"
                                "0a0a0a05686f737430120178"
                                "0a0e0a09686f73745f6e616d65120168"
                                "0a090a047a6f6e6512017a"
                                "121009000000000000f03f10fbd095ffbc31",
                                want);
    assert_int_equal(out.len, len);
    assert_memory_equal(out.data, want, len);
    tg_buf_deinit(&prepared);
    tg_buf_deinit(&out);
}

static void what_prometheus_cannot_take_is_refused(void **state)
{
    (void)state;
    struct tg_buf b;
    struct tg_err err;
    struct tg_series_desc d = {.name = "n",
                               .unit = "",
                               .name_len = 1,
                               .kind = TG_KIND_COUNTER,
                               .temporality = TG_TEMPORALITY_DELTA};
    tg_buf_init(&b, 0);
    assert_int_equal(tg_remote_write_prepare(&d, &escaped, NULL, &b, &err), TG_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "cumulative"));
    d = (struct tg_series_desc){.name = "??", .unit = "", .name_len = 2};
    assert_int_equal(tg_remote_write_prepare(&d, &escaped, NULL, &b, &err), TG_ERR_INVALID);
    assert_int_equal(b.len, 0);
    const struct tg_point p = {.type = TG_VALUE_DOUBLE};
    assert_int_equal(tg_remote_write_append_point(&b, NULL, 0, &p), TG_ERR_UNSUPPORTED);
    assert_int_equal(
        tg_remote_write_append_point(&b, (const uint8_t *)"\x01\xff\xff\xff\xff", 5, &p),
        TG_ERR_UNSUPPORTED);
    tg_buf_deinit(&b);
}

static uint64_t labels_left_out(const struct tg_buf *prepared, const struct tg_point *p)
{
    struct tg_left_out left = {.n = {0}};
    struct tg_buf scratch;
    tg_buf_init(&scratch, 0);
    for (int twice = 1; twice <= 2; twice++) {
        assert_int_equal(
            tg_remote_write_left_out(prepared->data, (uint32_t)prepared->len, p, &scratch, &left),
            TG_OK);
        assert_int_equal(left.n[TG_LEFT_OUT_EXEMPLAR_LABEL] % (unsigned)twice, 0); /* it adds */
    }
    tg_buf_deinit(&scratch);
    assert_int_equal(left.n[TG_LEFT_OUT_EXEMPLAR], 0);
    return left.n[TG_LEFT_OUT_EXEMPLAR_LABEL] / 2;
}

static void exemplar_labels_that_are_left_out_are_counted(void **state)
{
    (void)state;
    static const struct tg_string twice[] = {{"a.b", 3}, {"1", 1}, {"a_b", 3}, {"2", 1}};
    static const struct tg_string ids[] = {{"trace_id", 8}, {"x", 1}, {"span_id", 7}, {"x", 1}};
    static const struct tg_string unnamed[] = {{"", 0}, {"1", 1}, {"k", 1}, {"v", 1}};
    static const struct {
        struct tg_exemplar e;
        uint64_t want;
    } rows[] = {
        {{.value = 1}, 0},
        {{.n_labels = 2, .labels = twice}, 1},
        {{.n_labels = 2, .labels = ids}, 0},
        {{.has_trace = true, .trace_id = {1}, .n_labels = 2, .labels = ids}, 1},
        {{.has_trace = true, .trace_id = {1}, .span_id = {1}, .n_labels = 2, .labels = ids}, 2},
        {{.n_labels = 2, .labels = unnamed}, 1},
    };
    const struct tg_series_desc d = {.name = "m", .unit = "", .name_len = 1};
    struct tg_buf prepared;
    struct tg_err err;
    tg_buf_init(&prepared, 0);
    assert_int_equal(tg_remote_write_prepare(&d, &escaped, NULL, &prepared, &err), TG_OK);
    uint64_t sum = 0;
    struct tg_exemplar all[6];
    for (size_t i = 0; i < 6; i++) {
        const struct tg_exemplars one = {1, &rows[i].e};
        const struct tg_point p = {.type = TG_VALUE_EXEMPLARS, .exemplars = &one};
        assert_int_equal(labels_left_out(&prepared, &p), rows[i].want);
        sum += rows[i].want;
        all[i] = rows[i].e;
    }
    const struct tg_exemplars list = {6, all};
    const struct tg_point p = {.type = TG_VALUE_DOUBLE, .exemplars = &list};
    assert_int_equal(labels_left_out(&prepared, &p), sum);
    const struct tg_point without = {.type = TG_VALUE_DOUBLE};
    assert_int_equal(labels_left_out(&prepared, &without), 0);
    tg_buf_deinit(&prepared);
}

/* Prometheus refuses an exemplar with more than 128 characters of labels. */
static void long_exemplar_labels_are_left_out(void **state)
{
    (void)state;
    char big[100];
    memset(big, 'x', sizeof(big));
    const struct tg_string labels[] = {{"a", 1},           {"b", 1}, {"big", 3},
                                       {big, sizeof(big)}, {"c", 1}, {"d", 1}};
    const struct tg_exemplar e = {
        .value = 1, .has_trace = true, .trace_id = {1}, .n_labels = 3, .labels = labels};
    const struct tg_exemplars ex = {1, &e};
    const struct tg_point p = {.type = TG_VALUE_DOUBLE, .value.f64 = 1, .exemplars = &ex};
    const struct tg_series_desc d = {.name = "m", .unit = "", .name_len = 1};
    struct tg_decode_fixture f;
    struct tg_buf prepared;
    struct tg_buf out;
    struct tg_err err;
    tg_decode_fixture_init(&f, NULL);
    tg_buf_init(&prepared, 0);
    tg_buf_init(&out, 0);
    assert_int_equal(tg_remote_write_prepare(&d, &escaped, NULL, &prepared, &err), TG_OK);
    assert_int_equal(tg_remote_write_append_point(&out, prepared.data, (uint32_t)prepared.len, &p),
                     TG_OK);
    assert_int_equal(tg_decode_exact(&f, tg_remote_write_decode, out.data, out.len, &err), TG_OK);
    assert_string_equal(tg_decode_text(&f),
                        "m unknown [] d:1 @0 ex{1 @0 01000000000000000000000000000000/"
                        "0000000000000000 a=b}\n");
    assert_int_equal(labels_left_out(&prepared, &p), 2);
    tg_buf_deinit(&prepared);
    tg_buf_deinit(&out);
    tg_decode_fixture_deinit(&f);
}

static void hits_allocate_nothing(void **state)
{
    (void)state;
    struct tg_workload w;
    struct tg_decode_fixture f;
    struct tg_buf body;
    struct tg_err err;
    tg_workload_init(&w, 300, INT64_C(1700000000000000000));
    tg_decode_fixture_init(&f, NULL);
    tg_buf_init(&body, 0);
    for (int run = 0; run < 3; run++) {
        tg_buf_reset(&body);
        tg_workload_remote_write(&w, 0, 300, &body);
        if (run) tg_mem_fail_at(1);
        assert_int_equal(tg_remote_write_decode(body.data, body.len, &f.d, &err), TG_OK);
        assert_true(run == 0 || !tg_mem_fail_fired());
        tg_mem_fail_at(0);
        assert_int_equal(f.d.n_misses, run ? 0 : 300);
        for (uint32_t i = 0; i < 300; i++) {
            double want = 0;
            assert_true(tg_point_as_double(&w.points[i], &want));
            assert_true(f.batch.points[i].value.f64 == want);
            assert_int_equal(f.batch.points[i].ts_ns, w.points[i].ts_ns);
        }
        tg_decode_fixture_reset(&f);
        tg_workload_step(&w, INT64_C(10000000000));
    }
    tg_buf_deinit(&body);
    tg_decode_fixture_deinit(&f);
    tg_workload_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_what_protoc_encodes),
        cmocka_unit_test(parts_come_in_any_order),
        cmocka_unit_test(metadata_is_noted_and_counted),
        cmocka_unit_test(times_are_checked),
        cmocka_unit_test(stale_markers_are_points_without_value),
        cmocka_unit_test(bad_series_are_rejected_alone),
        cmocka_unit_test(exemplars_in_a_series_of_their_own_are_points),
        cmocka_unit_test(what_is_native_goes_out_under_its_names),
        cmocka_unit_test(odd_labels_of_exemplars_are_kept_or_counted),
        cmocka_unit_test(unusable_exemplars_are_counted),
        cmocka_unit_test(malformed_bytes_say_where),
        cmocka_unit_test(damage_does_no_harm),
        cmocka_unit_test(survives_every_failed_allocation),
        cmocka_unit_test(full_table_refuses_new_series),
        cmocka_unit_test(names_follow_the_specification),
        cmocka_unit_test(names_are_kept_where_utf8_is_taken),
        cmocka_unit_test(kept_names_reach_the_message),
        cmocka_unit_test(points_are_written),
        cmocka_unit_test(the_scalar_form_is_exact),
        cmocka_unit_test(what_prometheus_cannot_take_is_refused),
        cmocka_unit_test(exemplar_labels_that_are_left_out_are_counted),
        cmocka_unit_test(long_exemplar_labels_are_left_out),
        cmocka_unit_test(hits_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
