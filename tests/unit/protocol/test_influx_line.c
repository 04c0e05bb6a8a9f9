/* Influx line protocol: a table of lines with what they mean, rejections, writing, failing memory.
 */
#include "core/protocol/influx_line.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/mem.h"

struct fixture {
    struct tg_table *table;
    struct tg_batch batch;
    struct tg_arena scratch;
    struct tg_intake d;
};

static void open_fixture(struct fixture *f, const struct tg_table_config *config)
{
    static const struct tg_table_config defaults;
    f->table = tg_table_new(config ? config : &defaults);
    assert_non_null(f->table);
    tg_batch_init(&f->batch, tg_table_guard(f->table), 0, 1 << 20);
    tg_arena_init(&f->scratch, 1 << 20);
    f->d = (struct tg_intake){
        .table = f->table, .batch = &f->batch, .arena = &f->scratch, .now_ns = 777, .now_s = 1};
}

static void close_fixture(struct fixture *f)
{
    tg_batch_deinit(&f->batch);
    tg_arena_deinit(&f->scratch);
    assert_true(tg_table_validate(f->table));
    tg_table_free(f->table);
}

static void reset_fixture(struct fixture *f)
{
    tg_batch_reset(&f->batch);
    tg_arena_reset(&f->scratch);
    f->d.n_accepted = f->d.n_rejected = f->d.n_misses = 0;
    f->d.first_code = TG_OK;
    f->d.first_reject.msg[0] = '\0';
}

/* Decodes from a heap copy of exactly `len` bytes, so that ASan sees a read past the end. */
static enum tg_code decode_n(struct fixture *f, const char *text, size_t len, int64_t precision)
{
    uint8_t *exact = malloc(len + !len);
    memcpy(exact, text, len);
    struct tg_err err = {.msg = ""};
    const enum tg_code code = tg_influx_decode(exact, len, precision, &f->d, &err);
    free(exact);
    return code;
}
static enum tg_code decode(struct fixture *f, const char *text)
{
    return decode_n(f, text, strlen(text), 1);
}

/* One point as text: `name{k="v"} type:value @ts f=<field_len>` */
static void describe(struct fixture *f, const struct tg_point *p, struct tg_buf *out)
{
    struct tg_series_desc desc;
    assert_int_equal(tg_table_describe(f->table, p->series, &desc, &f->scratch), TG_OK);
    assert_int_equal(desc.kind, TG_KIND_UNKNOWN);
    assert_int_equal(tg_series_desc_print(&desc, out), TG_OK);
    enum tg_code code = TG_ERR_INVALID;
    switch (p->type) {
    case TG_VALUE_DOUBLE: code = tg_buf_printf(out, " d:%.17g", p->value.f64); break;
    case TG_VALUE_INT64: code = tg_buf_printf(out, " i:%lld", (long long)p->value.i64); break;
    case TG_VALUE_UINT64:
        code = tg_buf_printf(out, " u:%llu", (unsigned long long)p->value.u64);
        break;
    case TG_VALUE_BOOL: code = tg_buf_printf(out, " b:%lld", (long long)p->value.i64); break;
    case TG_VALUE_STRING:
        code = tg_buf_printf(out, " s:%.*s", (int)p->value.string->len, p->value.string->ptr);
        break;
    default: break;
    }
    assert_int_equal(code, TG_OK);
    assert_int_equal(tg_buf_printf(out, " @%lld f=%u\n", (long long)p->ts_ns, desc.field_len),
                     TG_OK);
    assert_int_equal(p->flags, 0);
    assert_int_equal(p->start_ns, 0);
    assert_null(p->exemplars);
}

/* All points of the batch as text; returns owned (free) */
static char *dump(struct fixture *f)
{
    struct tg_buf out;
    tg_buf_init(&out, 0);
    for (uint32_t i = 0; i < f->batch.n_points; i++) describe(f, &f->batch.points[i], &out);
    assert_int_equal(tg_buf_append(&out, "", 1), TG_OK);
    char *text = strdup((char *)out.data);
    tg_buf_deinit(&out);
    return text;
}

static const struct {
    const char *name, *lines, *want;
} good[] = {
    {"empty", "", ""},
    {"one float", "m f=1 5", "m_f d:1 @5 f=1\n"},
    {"no timestamp", "m f=1", "m_f d:1 @777 f=1\n"},
    {"negative timestamp", "m f=1 -5\n", "m_f d:1 @-5 f=1\n"},
    {"extreme timestamps", "m f=1 9223372036854775807\nm f=1 -9223372036854775808",
     "m_f d:1 @9223372036854775807 f=1\nm_f d:1 @-9223372036854775808 f=1\n"},
    {"tags", "cpu,host=a,zone=b usage=0.5,idle=2i 10",
     "cpu_usage{host=\"a\",zone=\"b\"} d:0.5 @10 f=5\ncpu_idle{host=\"a\",zone=\"b\"} i:2 @10 "
     "f=4\n"},
    {"tags in another order are the same series", "m,b=2,a=1 f=1 1",
     "m_f{a=\"1\",b=\"2\"} d:1 @1 f=1\n"},
    {"types", "m a=1.5,b=-2i,c=3u,d=t,e=F,f=\"s\",g=1e3,h=-0 1",
     "m_a d:1.5 @1 f=1\nm_b i:-2 @1 f=1\nm_c u:3 @1 f=1\nm_d b:1 @1 f=1\nm_e b:0 @1 f=1\n"
     "m_f s:s @1 f=1\nm_g d:1000 @1 f=1\nm_h d:-0 @1 f=1\n"},
    {"integer limits", "m a=9223372036854775807i,b=-9223372036854775808i,c=18446744073709551615u 1",
     "m_a i:9223372036854775807 @1 f=1\nm_b i:-9223372036854775808 @1 f=1\n"
     "m_c u:18446744073709551615 @1 f=1\n"},
    {"booleans", "m a=t,b=T,c=true,d=True,e=TRUE,f=f,g=F,h=false,i=False,j=FALSE 1",
     "m_a b:1 @1 f=1\nm_b b:1 @1 f=1\nm_c b:1 @1 f=1\nm_d b:1 @1 f=1\nm_e b:1 @1 f=1\n"
     "m_f b:0 @1 f=1\nm_g b:0 @1 f=1\nm_h b:0 @1 f=1\nm_i b:0 @1 f=1\nm_j b:0 @1 f=1\n"},
    {"escapes in names", "my\\ m\\,x,t\\ a\\=g=v\\,\\ \\=w f\\ \\,\\=d=1 1",
     "my m,x_f ,=d{t a=g=\"v, =w\"} d:1 @1 f=5\n"},
    {"equals in a measurement is plain", "a=b f=1 1\na\\=b f=1 1",
     "a=b_f d:1 @1 f=1\na\\\\=b_f d:1 @1 f=1\n"},
    {"backslash before other characters", "m\\n,t=C:\\x f=1 1",
     "m\\\\n_f{t=\"C:\\\\x\"} d:1 @1 f=1\n"},
    {"double backslash before a comma", "m,t=a\\\\,b f=1 1", "m_f{t=\"a\\\\,b\"} d:1 @1 f=1\n"},
    {"quotes in names are plain", "\"m\",\"t\"=\"v\" \"f\"=1 1",
     "\\\"m\\\"_\\\"f\\\"{\\\"t\\\"=\"\\\"v\\\"\"} d:1 @1 f=3\n"},
    {"string escapes", "m f=\"a\\\"b\\\\c\\d\" 1", "m_f s:a\"b\\c\\d @1 f=1\n"},
    {"string with delimiters", "m f=\"a b,c=d #\",g=1 1",
     "m_f s:a b,c=d # @1 f=1\nm_g d:1 @1 f=1\n"},
    {"empty string", "m f=\"\" 1", "m_f s: @1 f=1\n"},
    {"newline in a string", "m f=\"a\nb\" 1\nm f=2 2", "m_f s:a\nb @1 f=1\nm_f d:2 @2 f=1\n"},
    {"comments, blank lines, CRLF", "# c\r\n\r\nm f=1 1\r\n\n  \n\t# d\n  m f=2 2\r\nm f=3\r\n#end",
     "m_f d:1 @1 f=1\nm_f d:2 @2 f=1\nm_f d:3 @777 f=1\n"},
    {"CR at the very end", "m f=1 1\r", "m_f d:1 @1 f=1\n"},
    {"spaces between and after", "m   f=1   1   \nm f=1 \n", "m_f d:1 @1 f=1\nm_f d:1 @777 f=1\n"},
    {"a tab may begin a field key", "m f=1,\tg=2 1\nm \tg=3 2",
     "m_f d:1 @1 f=1\nm_\\x09g d:2 @1 f=2\nm_\\x09g d:3 @2 f=2\n"},
    {"hash later is plain", "m#,t=# f=1 1", "m#_f{t=\"#\"} d:1 @1 f=1\n"},
    {"underscores", "a_b c_d=1 1", "a_b_c_d d:1 @1 f=3\n"},
    {"same field twice", "m f=1,f=2 1", "m_f d:1 @1 f=1\nm_f d:2 @1 f=1\n"},
    {"utf-8", "m,t=\xc3\xa9 f=\"\xf0\x9f\x9a\x80\" 1",
     "m_f{t=\"\xc3\xa9\"} s:\xf0\x9f\x9a\x80 @1 f=1\n"},
};

static void test_good(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        for (int twice = 0; twice < 2; twice++) { /* the second time all are hits */
            reset_fixture(&f);
            assert_int_equal(decode(&f, good[i].lines), TG_OK);
            char *got = dump(&f);
            if (strcmp(got, good[i].want) != 0 || f.d.n_rejected)
                fail_msg("%s: got\n%swant\n%s%s", good[i].name, got, good[i].want,
                         f.d.first_reject.msg);
            assert_int_equal(f.d.n_accepted, f.batch.n_points);
            if (twice) assert_int_equal(f.d.n_misses, 0);
            free(got);
        }
    }
    close_fixture(&f);
}

static const struct {
    const char *name, *line;
    unsigned n_rejected;
    const char *message; /* part of it, after "line 2: " */
} refused[] = {
    {"only a measurement", "m", 1, "missing fields"},
    {"measurement and space", "m ", 1, "missing fields"},
    {"no measurement", ",t=v f=1 1", 1, "missing measurement"},
    {"field without value", "m f= 1", 1, "missing field value"},
    {"field without equals", "m f 1", 1, "missing '=' in field at \"f 1\""},
    {"no field key", "m =1 1", 1, "missing field key"},
    {"trailing comma", "m f=1, 1", 2, "missing field key"},
    {"second field bad", "m f=1,g=x 1", 2, "no number, boolean or quoted string at \"x 1\""},
    {"third field bad", "m f=1,g=2,h=3.4.5,i=1 1", 3, "unexpected characters"},
    {"empty tag value", "m,t= f=1 1", 1, "missing tag value"},
    {"empty tag key", "m,=v f=1 1", 1, "missing tag key"},
    {"tag without equals", "m,t f=1 1", 1, "missing '=' in tag"},
    {"tag without equals before another", "m,t,u=v f=1 1", 1, "missing '=' in tag"},
    {"trailing comma in tags", "m,t=v, f=1 1", 1, "missing tag key"},
    {"two equals in a tag", "m,t=v=w f=1 1", 1, "unescaped '='"},
    {"tag twice", "m,t=v,u=w,t=v f=1,g=2 1", 2, "tag key given twice at \"t=v"},
    {"tag twice, once escaped", "m,a\\ b=v,a\\ b=w f=1 1", 1, "given twice"},
    {"unclosed string", "m f=\"abc 1", 1, "without closing quote at"},
    {"text after a string", "m f=\"abc\"d 1", 1, "unexpected characters"},
    {"integer too large", "m f=9223372036854775808i 1", 1, "out of the range"},
    {"integer too small", "m f=-9223372036854775809i 1", 1, "out of the range"},
    {"unsigned too large", "m f=18446744073709551616u 1", 1, "out of the range"},
    {"unsigned negative", "m f=-1u 1", 1, "with a sign"},
    {"fractional integer", "m f=1.5i 1", 1, "fraction"},
    {"float too large", "m f=1e309 1", 1, "range of a double"},
    {"nan", "m f=NaN 1", 1, "no number"},
    {"inf", "m f=+Inf 1", 1, "no number"},
    {"hex", "m f=0x10 1", 1, "unexpected characters"},
    {"word", "m f=truely 1", 1, "no number"},
    {"mixed case word", "m f=tRUE 1", 1, "no number"},
    {"single quotes", "m f='a' 1", 1, "no number"},
    {"timestamp with a point", "m f=1 1.5", 1, "no integer"},
    {"timestamp is text", "m f=1 now", 1, "no integer"},
    {"timestamp too large", "m f=1 9223372036854775808", 1, "range of 64-bit nanoseconds"},
    {"timestamp huge", "m f=1 99999999999999999999999", 1, "range of 64-bit nanoseconds"},
    {"text after the timestamp", "m f=1 1 2", 1, "after timestamp"},
    {"escaped space ends nothing", "m\\ f=1", 1, "missing fields"},
    {"invalid utf-8 in a tag", "m,t=\xff f=1 1", 1, "line 2"},
};

/* Each between two good lines, which must arrive. */
static void test_refused(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        for (int twice = 0; twice < 2; twice++) {
            char text[256];
            (void)snprintf(text, sizeof(text), "good f=1 1\n%s\ngood f=2 2\n", refused[i].line);
            reset_fixture(&f);
            assert_int_equal(decode(&f, text), TG_OK);
            char *got = dump(&f);
            if (strcmp(got, "good_f d:1 @1 f=1\ngood_f d:2 @2 f=1\n") != 0)
                fail_msg("%s: got\n%s", refused[i].name, got);
            free(got);
            if (f.d.n_rejected != refused[i].n_rejected ||
                strncmp(f.d.first_reject.msg, "line 2: ", 8) != 0 ||
                !strstr(f.d.first_reject.msg, refused[i].message))
                fail_msg("%s: %llu rejected, %s", refused[i].name,
                         (unsigned long long)f.d.n_rejected, f.d.first_reject.msg);
            assert_true(tg_code_class(f.d.first_code) == TG_CLASS_INPUT);
            assert_int_equal(f.d.n_accepted, 2);
        }
        /* and as the last line without a newline */
        reset_fixture(&f);
        assert_int_equal(decode(&f, refused[i].line), TG_OK);
        assert_int_equal(f.batch.n_points, 0);
        assert_int_equal(f.d.n_rejected, refused[i].n_rejected);
    }
    close_fixture(&f);
}

/* A string over the limit goes whole: what looks like lines in it is none. */
static void test_long_string_of_lines(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    enum { N = 70000 };
    char *text = malloc(N + 64);
    assert_non_null(text);
    memset(text, 'x', N);
    memcpy(text, "m f=\"", 5);
    memcpy(text + 1000, "\nm f=9 9\n", 9);
    memcpy(text + N, "\" 1\nbad\nm f=1 1\n", sizeof("\" 1\nbad\nm f=1 1\n"));
    assert_int_equal(decode(&f, text), TG_OK);
    char *got = dump(&f);
    assert_string_equal(got, "m_f d:1 @1 f=1\n");
    free(got);
    assert_int_equal(f.d.n_rejected, 2);
    assert_non_null(strstr(f.d.first_reject.msg, "line 1: string of"));
    free(text);
    close_fixture(&f);
}

static void test_line_numbers(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    assert_int_equal(decode(&f, "# 1\n\nm f=\"a\nb\nc\" 1\nm f=1,g=\"x\ny\" 1\nbad"), TG_OK);
    assert_non_null(strstr(f.d.first_reject.msg, "line 8: "));
    reset_fixture(&f);
    /* the first reason in line order, though new series are looked up late */
    assert_int_equal(decode(&f, "n,t=1,t=2 f=1 1\nbad\n"), TG_OK);
    assert_int_equal(f.d.n_rejected, 2);
    assert_non_null(strstr(f.d.first_reject.msg, "line 1: tag key given twice"));
    reset_fixture(&f);
    /* a string that never closes does not take the lines after it along */
    assert_int_equal(decode(&f, "m f=\"a\nm f=1 1\nm f=2 2\n"), TG_OK);
    assert_int_equal(f.batch.n_points, 2);
    assert_int_equal(f.d.n_rejected, 1);
    reset_fixture(&f);
    /* a fault behind a string: what is inside the string is no line */
    assert_int_equal(decode(&f, "m f=\"a\nm g=1 1\n\"x 1\nm f=2 2\n"), TG_OK);
    assert_int_equal(f.batch.n_points, 1);
    assert_int_equal(f.d.n_rejected, 1);
    close_fixture(&f);
}

static void test_precision(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns; /* 0: refused */
    } cases[] = {
        {"", 1},
        {"ns", 1},
        {"n", 1},
        {"us", 1000},
        {"u", 1000},
        {"\xc2\xb5", 1000},
        {"ms", 1000000},
        {"s", 1000000000},
        {"m", 60000000000},
        {"h", 3600000000000},
        {"nanosecond", 1},
        {"microsecond", 1000},
        {"millisecond", 1000000},
        {"second", 1000000000},
        {"seconds", 0},
        {"d", 0},
        {"S", 0},
        {"nss", 0},
    };
    struct fixture f;
    open_fixture(&f, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t ns = 0;
        struct tg_err err;
        const enum tg_code code =
            tg_influx_precision(cases[i].text, strlen(cases[i].text), &ns, &err);
        assert_int_equal(code, cases[i].ns ? TG_OK : TG_ERR_INVALID);
        if (!cases[i].ns) continue;
        assert_int_equal(ns, cases[i].ns);
        /* the last unit that fits and the one after it, both ways */
        const int64_t most = INT64_MAX / ns;
        char text[256];
        (void)snprintf(text, sizeof(text), "m f=1 %lld\nm f=1 %lld\nm f=1 3\n", (long long)most,
                       (long long)(INT64_MIN / ns));
        reset_fixture(&f);
        assert_int_equal(decode_n(&f, text, strlen(text), ns), TG_OK);
        assert_int_equal(f.batch.n_points, 3);
        assert_int_equal(f.batch.points[0].ts_ns, most * ns);
        assert_int_equal(f.batch.points[1].ts_ns, INT64_MIN / ns * ns);
        assert_int_equal(f.batch.points[2].ts_ns, 3 * ns);
        if (ns == 1) continue;
        (void)snprintf(text, sizeof(text), "m f=1 %lld\nm f=1 %lld\n", (long long)(most + 1),
                       (long long)(INT64_MIN / ns - 1));
        reset_fixture(&f);
        assert_int_equal(decode_n(&f, text, strlen(text), ns), TG_OK);
        assert_int_equal(f.batch.n_points, 0);
        assert_int_equal(f.d.n_rejected, 2);
    }
    close_fixture(&f);
}

/* More fields than are staged at once, good and with a fault at the end. */
static void test_many_fields(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    struct tg_buf text;
    tg_buf_init(&text, 0);
    assert_int_equal(tg_buf_printf(&text, "first f=1 1\nwide"), TG_OK);
    for (int i = 0; i < 200; i++)
        assert_int_equal(tg_buf_printf(&text, "%cf%d=%di", i ? ',' : ' ', i, i), TG_OK);
    const size_t good_len = text.len;
    for (int round = 0; round < 4; round++) {
        reset_fixture(&f);
        text.len = good_len;
        const bool fault = round % 2;
        assert_int_equal(tg_buf_printf(&text, "%s 9\nlast f=2 2", fault ? ",g=" : ""), TG_OK);
        assert_int_equal(decode_n(&f, (char *)text.data, text.len, 1), TG_OK);
        assert_int_equal(f.batch.n_points, fault ? 2 : 202);
        assert_int_equal(f.d.n_rejected, fault ? 201 : 0);
        assert_int_equal(f.batch.points[0].ts_ns, 1);
        assert_int_equal(f.batch.points[f.batch.n_points - 1].ts_ns, 2);
        for (uint32_t i = 0; !fault && i < 200; i++) {
            assert_int_equal(f.batch.points[i + 1].ts_ns, 9);
            assert_int_equal(f.batch.points[i + 1].value.i64, i);
            assert_non_null(f.batch.points[i + 1].series);
        }
    }
    tg_buf_deinit(&text);
    close_fixture(&f);
}

/* At the table's limit the new series are refused one by one and the known ones go on. */
static void test_series_limit(void **state)
{
    (void)state;
    struct fixture f;
    const struct tg_table_config config = {.max_series = 3};
    open_fixture(&f, &config);
    assert_int_equal(decode(&f, "m a=1,b=2 1"), TG_OK);
    reset_fixture(&f);
    struct tg_buf text;
    tg_buf_init(&text, 0);
    /* 100 lines of: known, new, known; the first new one still fits */
    for (int i = 0; i < 100; i++)
        assert_int_equal(tg_buf_printf(&text, "m a=%di,n%d=1,b=2 %d\n", i, i, i), TG_OK);
    assert_int_equal(decode_n(&f, (char *)text.data, text.len, 1), TG_OK);
    assert_int_equal(f.batch.n_points, 201);
    assert_int_equal(f.d.n_accepted, 201);
    assert_int_equal(f.d.n_rejected, 99);
    assert_int_equal(f.d.first_code, TG_ERR_FULL);
    assert_non_null(strstr(f.d.first_reject.msg, "line 2: "));
    for (uint32_t i = 1; i < 201; i++) {
        const struct tg_point *p = &f.batch.points[i];
        assert_non_null(p->series);
        assert_int_equal(p->ts_ns, (i - 1) / 2);
    }
    /* a wide line of which some are refused by the table and which then turns out bad */
    reset_fixture(&f);
    text.len = 0;
    assert_int_equal(tg_buf_printf(&text, "m a=1,"), TG_OK);
    for (int i = 0; i < 100; i++) assert_int_equal(tg_buf_printf(&text, "x%d=1,a=2,", i), TG_OK);
    assert_int_equal(tg_buf_printf(&text, "bad\nm a=7 7"), TG_OK);
    assert_int_equal(decode_n(&f, (char *)text.data, text.len, 1), TG_OK);
    assert_int_equal(f.batch.n_points, 1);
    assert_int_equal(f.d.n_rejected, 202);
    assert_int_equal(f.batch.points[0].ts_ns, 7);
    tg_buf_deinit(&text);
    close_fixture(&f);
}

static void test_limits(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    struct tg_buf text;
    tg_buf_init(&text, 0);
    for (int over = 0; over < 2; over++) { /* string length */
        text.len = 0;
        reset_fixture(&f);
        assert_int_equal(
            tg_buf_printf(&text, "m f=\"%0*d\" 1\nm f=1 2", TG_INFLUX_MAX_STRING_BYTES + over, 0),
            TG_OK);
        assert_int_equal(decode_n(&f, (char *)text.data, text.len, 1), TG_OK);
        assert_int_equal(f.batch.n_points, 2 - over);
        assert_int_equal(f.d.n_rejected, over);
        if (over) assert_int_equal(f.d.first_code, TG_ERR_TOO_LARGE);
    }
    for (int over = 0; over < 2; over++) { /* tags */
        text.len = 0;
        reset_fixture(&f);
        assert_int_equal(tg_buf_printf(&text, "m"), TG_OK);
        for (uint32_t i = 0; i < tg_series_limits_default.max_tags + (uint32_t)over; i++)
            assert_int_equal(tg_buf_printf(&text, ",t%u=v", i), TG_OK);
        assert_int_equal(tg_buf_printf(&text, " f=1 1\nm f=1 2"), TG_OK);
        assert_int_equal(decode_n(&f, (char *)text.data, text.len, 1), TG_OK);
        assert_int_equal(f.batch.n_points, 2 - over);
        if (over) assert_int_equal(f.d.first_code, TG_ERR_TOO_LARGE);
    }
    close_fixture(&f);

    /* the batch's own bounds fail the call and keep what came before */
    open_fixture(&f, NULL);
    tg_batch_deinit(&f.batch);
    tg_batch_init(&f.batch, tg_table_guard(f.table), 2, 4096);
    assert_int_equal(decode(&f, "m f=1 1\nm f=2 2\nm f=3 3\n"), TG_ERR_TOO_LARGE);
    assert_true(f.batch.n_points <= 2);
    assert_int_equal(f.d.n_accepted, f.batch.n_points);
    reset_fixture(&f);
    text.len = 0;
    assert_int_equal(tg_buf_printf(&text, "m f=\"%05000d\" 1\n", 0), TG_OK);
    assert_int_equal(decode_n(&f, (char *)text.data, text.len, 1), TG_ERR_TOO_LARGE);
    reset_fixture(&f);
    assert_int_equal(decode(&f, "m f=1 1\n"), TG_OK);
    close_fixture(&f);
    tg_buf_deinit(&text);
}

static void test_failing_memory(void **state)
{
    (void)state;
    static const char text[] = "m,a=1,b\\ c=2 f=1,g=\"s\" 1\nn,t=\\,x f\\ g=2i 2\nbad\no f=3 3\n";
    for (uint64_t n = 1;; n++) {
        const uint64_t before = tg_mem_used();
        struct fixture f;
        open_fixture(&f, NULL);
        struct tg_err err;
        tg_mem_fail_at(n);
        const enum tg_code code =
            tg_influx_decode((const uint8_t *)text, sizeof(text) - 1, 1, &f.d, &err);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        /* remembering a raw key is best effort, so a failure need not show */
        assert_true(code == TG_OK || (fired && code == TG_ERR_NOMEM));
        assert_int_equal(f.d.n_accepted, f.batch.n_points);
        for (uint32_t i = 0; i < f.batch.n_points; i++) assert_non_null(f.batch.points[i].series);
        if (code == TG_OK) {
            assert_int_equal(f.d.n_accepted, 4);
            assert_int_equal(f.d.n_rejected, 1);
        }
        reset_fixture(&f);
        assert_int_equal(decode(&f, text), TG_OK); /* works again */
        assert_int_equal(f.batch.n_points, 4);
        close_fixture(&f);
        assert_int_equal(tg_mem_used(), before);
        if (!fired) break;
    }
}

/* ---- writing ---- */

static struct tg_tag make_tag(const char *key, const char *value)
{
    return (struct tg_tag){key, value, (uint32_t)strlen(key), (uint32_t)strlen(value),
                           TG_ORIGIN_RESOURCE};
}

static enum tg_code prepare(const char *name, uint32_t field_len, const char *key,
                            const char *value, struct tg_buf *out, struct tg_err *err)
{
    struct tg_tag tag = make_tag(key ? key : "", value ? value : "");
    const struct tg_series_desc desc = {.name = name,
                                        .name_len = (uint32_t)strlen(name),
                                        .unit = "",
                                        .field_len = field_len,
                                        .n_tags = key ? 1 : 0,
                                        .tags = &tag};
    return tg_influx_prepare(&desc, out, err);
}

static void test_prepare(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t field_len;
        const char *key, *value;
        const char *want; /* NULL: TG_ERR_INVALID */
    } cases[] = {
        {"cpu_usage", 5, "host", "a", "cpu,host=a usage=1i 5\n"},
        {"cpu_usage", 0, "host", "a", "cpu_usage,host=a value=1i 5\n"},
        {"renamed", 5, NULL, NULL, "renamed value=1i 5\n"},
        {"_f", 1, NULL, NULL, "_f value=1i 5\n"},
        {"a b,c=d_e f,g=h", 7,
         "k ,=", "v ,=", "a\\ b\\,c=d,k\\ \\,\\==v\\ \\,\\= e\\ f\\,g\\=h=1i 5\n"},
        {"m", 0, "path", "C:\\", "m,path=C: value=1i 5\n"},
        {"m", 0, "path", "a\\b\\\\", "m,path=a\\b value=1i 5\n"},
        {"m", 0, "path", "\\", "m value=1i 5\n"},
        {"m", 0, "t", "two\nlines", "m,t=two\\nlines value=1i 5\n"},
        {"a\\ b", 0, NULL, NULL, "a\\\\ b value=1i 5\n"},
        {"\\", 0, NULL, NULL, NULL},
        {"#m", 0, NULL, NULL, NULL},
        {"\tm", 0, NULL, NULL, NULL},
        {"m_\\", 1, NULL, NULL, NULL},
    };
    struct tg_point p = {.ts_ns = 5, .type = TG_VALUE_INT64, .value.i64 = 1};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int twice = 0; twice < 2; twice++) {
            struct tg_buf prepared;
            struct tg_buf line;
            struct tg_err err = {.msg = ""};
            tg_buf_init(&prepared, 0);
            tg_buf_init(&line, 0);
            assert_int_equal(tg_buf_append(&prepared, "abc", 3), TG_OK); /* appends */
            const enum tg_code code = prepare(cases[i].name, cases[i].field_len, cases[i].key,
                                              cases[i].value, &prepared, &err);
            if (!cases[i].want) {
                assert_int_equal(code, TG_ERR_INVALID);
                assert_int_equal(prepared.len, 3);
            } else {
                assert_int_equal(code, TG_OK);
                assert_int_equal(
                    tg_influx_append_point(prepared.data + 3, prepared.len - 3, &p, 0, &line, &err),
                    TG_OK);
                assert_int_equal(tg_buf_append(&line, "", 1), TG_OK);
                assert_string_equal((char *)line.data, cases[i].want);
            }
            tg_buf_deinit(&prepared);
            tg_buf_deinit(&line);
        }
    }
    char *huge = malloc(70001);
    memset(huge, 'x', 70000);
    huge[70000] = '\0';
    struct tg_buf prepared;
    struct tg_err err = {.msg = ""};
    tg_buf_init(&prepared, 0);
    assert_int_equal(prepare("m", 0, "t", huge, &prepared, &err), TG_ERR_TOO_LARGE);
    assert_non_null(strstr(err.msg, "65535"));
    assert_int_equal(prepared.len, 0);
    tg_buf_deinit(&prepared);
    tg_buf_init(&prepared, 16);
    assert_int_equal(prepare("m", 0, "t", huge, &prepared, &err), TG_ERR_TOO_LARGE);
    tg_buf_deinit(&prepared);
    free(huge);
}

static void test_append(void **state)
{
    (void)state;
    static const double bounds[] = {0.5, 10};
    static const uint64_t buckets[] = {1, 2, 3};
    const struct tg_histogram h = {.count = 6,
                                   .sum = 12.5,
                                   .min = 0.1,
                                   .max = 20,
                                   .has_sum = true,
                                   .has_min = true,
                                   .has_max = true,
                                   .n_bounds = 2,
                                   .n_buckets = 3,
                                   .bounds = bounds,
                                   .buckets = buckets};
    const struct tg_histogram bare = {.count = 6, .sum = NAN, .has_sum = true};
    const struct tg_exp_histogram e = {.count = 6,
                                       .zero_count = 1,
                                       .sum = -1,
                                       .has_sum = true,
                                       .scale = -2,
                                       .pos_offset = -1,
                                       .neg_offset = INT32_MAX,
                                       .n_pos = 3,
                                       .n_neg = 1,
                                       .pos = buckets,
                                       .neg = buckets};
    static const uint64_t gaps[] = {0, 7, 0};
    const double floats[] = {0.75, 0, 1.25};
    const struct tg_float_histogram f = {.count = 2.5,
                                         .zero_count = 0.5,
                                         .sum = -1,
                                         .zero_threshold = 0.001,
                                         .scale = 3,
                                         .pos_offset = -1,
                                         .neg_offset = INT32_MAX,
                                         .n_pos = 3,
                                         .n_neg = 1,
                                         .pos = floats,
                                         .neg = floats};
    const double half = 0.5;
    const struct tg_float_histogram custom = {.count = 2,
                                              .sum = NAN,
                                              .scale = TG_SCALE_CUSTOM,
                                              .n_pos = 2,
                                              .n_bounds = 1,
                                              .pos = floats,
                                              .bounds = &half};
    const struct tg_exp_histogram sparse = {.count = 7,
                                            .n_pos = 3,
                                            .pos = gaps,
                                            .scale = 20,
                                            .has_min = true,
                                            .min = 1,
                                            .has_max = true,
                                            .max = 2};
    static const struct tg_quantile quantiles[] = {{0.5, 1}, {0.99, NAN}, {1, -2.5}};
    const struct tg_summary s = {
        .count = UINT64_MAX, .sum = 3, .n_quantiles = 3, .quantiles = quantiles};
    const struct tg_float_histogram uncounted = {
        .count = NAN, .zero_count = INFINITY, .sum = 1, .scale = 3, .n_pos = 3, .pos = floats};
    const double nowhere[] = {NAN, 1};
    const struct tg_float_histogram no_custom = {.count = INFINITY,
                                                 .sum = NAN,
                                                 .scale = TG_SCALE_CUSTOM,
                                                 .n_pos = 2,
                                                 .n_bounds = 1,
                                                 .pos = nowhere,
                                                 .bounds = &half};
    const struct tg_float_histogram no_exponential = {
        .count = NAN, .zero_count = NAN, .sum = -INFINITY, .n_pos = 1, .pos = nowhere};
    static const double ends_in_inf[] = {0.5, INFINITY};
    const struct tg_histogram with_inf = {
        .count = 6, .n_buckets = 3, .n_bounds = 2, .buckets = buckets, .bounds = ends_in_inf};
    static const struct tg_quantile disordered[] = {
        {0.9, 5}, {0.5, 1}, {0.1, 4}, {0.5, 2}, {0.5, NAN}};
    const struct tg_summary twice_given = {
        .count = 1, .sum = 3, .n_quantiles = 5, .quantiles = disordered};
    const struct tg_string str = {"a\"b\\c\nd", 7};
    const struct {
        struct tg_point p;
        unsigned flags;
        const char *want; /* NULL: TG_ERR_UNSUPPORTED */
    } cases[] = {
        {{.type = TG_VALUE_DOUBLE, .value.f64 = 0.1}, 0, "m value=0.1 0\n"},
        {{.type = TG_VALUE_DOUBLE, .value.f64 = -0.0, .ts_ns = INT64_MIN},
         0,
         "m value=-0 -9223372036854775808\n"},
        {{.type = TG_VALUE_DOUBLE, .value.f64 = NAN}, 0, NULL},
        {{.type = TG_VALUE_DOUBLE, .value.f64 = INFINITY}, 0, NULL},
        {{.type = TG_VALUE_INT64, .value.i64 = INT64_MIN}, 0, "m value=-9223372036854775808i 0\n"},
        {{.type = TG_VALUE_UINT64, .value.u64 = UINT64_MAX},
         0,
         "m value=18446744073709551615u 0\n"},
        {{.type = TG_VALUE_UINT64, .value.u64 = UINT64_MAX}, TG_INFLUX_NO_UNSIGNED, NULL},
        {{.type = TG_VALUE_UINT64, .value.u64 = 5}, TG_INFLUX_NO_UNSIGNED, "m value=5i 0\n"},
        {{.type = TG_VALUE_BOOL, .value.i64 = 1}, 0, "m value=true 0\n"},
        {{.type = TG_VALUE_BOOL, .value.i64 = 0}, 0, "m value=false 0\n"},
        {{.type = TG_VALUE_NONE, .flags = TG_POINT_NO_VALUE}, 0, NULL},
        {{.type = TG_VALUE_EXEMPLARS}, 0, NULL},
        {{.type = TG_VALUE_HISTOGRAM, .flags = TG_POINT_NO_VALUE, .value.histogram = &h}, 0, NULL},
        {{.type = TG_VALUE_STRING, .value.string = &str}, 0, "m value=\"a\\\"b\\\\c\nd\" 0\n"},
        {{.type = TG_VALUE_HISTOGRAM, .value.histogram = &h},
         0,
         "m count=6,sum=12.5,min=0.1,max=20,0.5=1,10=3,+Inf=6 0\n"},
        {{.type = TG_VALUE_HISTOGRAM, .value.histogram = &bare}, 0, "m count=6 0\n"},
        {{.type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &e},
         0,
         "m count=6,sum=-1,zero_count=1,zero_threshold=0,scale=-2,pos_-1=1,pos_0=2,pos_1=3,"
         "neg_2147483647=1 0\n"},
        {{.type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &sparse},
         0,
         "m count=7,min=1,max=2,zero_count=0,zero_threshold=0,scale=20,pos_1=7 0\n"},
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &f},
         0,
         "m count=2.5,sum=-1,zero_count=0.5,pos_-1=0.75,pos_1=1.25,neg_2147483647=0.75,"
         "zero_threshold=0.001,scale=3 0\n"},
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &custom},
         0,
         "m count=2,0.5=0.75,+Inf=0.75 0\n"},
        /* what is not finite is not there, least of all as zero */
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &uncounted},
         0,
         "m sum=1,pos_0=0.75,pos_2=1.25,zero_threshold=0,scale=3 0\n"},
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &no_custom}, 0, NULL},
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &no_exponential}, 0, NULL},
        /* no field twice: the last, which is cumulative, stands */
        {{.type = TG_VALUE_HISTOGRAM, .value.histogram = &with_inf},
         0,
         "m count=6,0.5=1,+Inf=6 0\n"},
        {{.type = TG_VALUE_SUMMARY, .value.summary = &twice_given},
         0,
         "m count=1,sum=3,0.1=4,0.5=2,0.9=5 0\n"},
        {{.type = TG_VALUE_SUMMARY, .value.summary = &s},
         0,
         "m count=18446744073709551615,sum=3,0.5=1,1=-2.5 0\n"},
    };
    struct tg_buf prepared;
    struct tg_err err;
    tg_buf_init(&prepared, 0);
    assert_int_equal(prepare("m", 0, NULL, NULL, &prepared, &err), TG_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int twice = 0; twice < 2; twice++) {
            struct tg_buf line;
            tg_buf_init(&line, 0);
            assert_int_equal(tg_buf_append(&line, "abc", 3), TG_OK);
            const enum tg_code code = tg_influx_append_point(
                prepared.data, prepared.len, &cases[i].p, cases[i].flags, &line, &err);
            if (!cases[i].want) {
                assert_int_equal(code, TG_ERR_UNSUPPORTED);
                assert_int_equal(line.len, 3);
            } else {
                assert_int_equal(code, TG_OK);
                assert_int_equal(tg_buf_append(&line, "", 1), TG_OK);
                assert_string_equal((char *)line.data + 3, cases[i].want);
                /* in a buffer that is one byte too small */
                struct tg_buf small;
                tg_buf_init(&small, strlen(cases[i].want) - 1);
                assert_int_equal(tg_influx_append_point(prepared.data, prepared.len, &cases[i].p,
                                                        cases[i].flags, &small, NULL),
                                 TG_ERR_TOO_LARGE);
                assert_int_equal(small.len, 0);
                tg_buf_deinit(&small);
            }
            tg_buf_deinit(&line);
        }
        for (uint64_t n = 1;; n++) { /* failing memory */
            struct tg_buf line;
            tg_buf_init(&line, 0);
            tg_mem_fail_at(n);
            const enum tg_code code = tg_influx_append_point(
                prepared.data, prepared.len, &cases[i].p, cases[i].flags, &line, &err);
            const bool fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            if (fired) assert_int_equal(code, TG_ERR_NOMEM);
            if (fired) assert_int_equal(line.len, 0);
            tg_buf_deinit(&line);
            if (!fired) break;
        }
    }
    /* bytes that are no series */
    struct tg_buf line;
    tg_buf_init(&line, 0);
    for (size_t n = 0; n < 6; n++)
        assert_int_equal(tg_influx_append_point(prepared.data, n, &cases[0].p, 0, &line, &err),
                         TG_ERR_CORRUPT);
    tg_buf_deinit(&line);
    tg_buf_deinit(&prepared);
}

static void test_what_is_left_out_is_counted(void **state)
{
    (void)state;
    static const struct tg_exemplar items[2];
    static const struct tg_exemplars two = {2, items};
    static const double counts[] = {1, (double)INFINITY, 0, (double)NAN};
    static const double bounds[] = {1, 2, 3};
    static const uint64_t ints[] = {1, 2};
    static const struct tg_quantile quantiles[] = {
        {0.5, 1}, {0.9, (double)NAN}, {0.5, 2}, {0.5, 3}, {0.99, 4}};
    const struct tg_histogram h = {.has_sum = true,
                                   .has_min = true,
                                   .has_max = true,
                                   .sum = (double)NAN,
                                   .min = -(double)INFINITY,
                                   .max = 3,
                                   .n_bounds = 1,
                                   .n_buckets = 2,
                                   .bounds = bounds,
                                   .buckets = ints};
    const struct tg_histogram unknown = {.sum = (double)NAN, .min = (double)NAN};
    const struct tg_exp_histogram e = {
        .has_sum = true, .sum = (double)INFINITY, .zero_threshold = (double)INFINITY};
    const struct tg_float_histogram f = {
        .count = (double)NAN, .sum = 1, .n_pos = 4, .n_neg = 2, .pos = counts, .neg = counts};
    const struct tg_float_histogram custom = {.count = 1,
                                              .sum = 1,
                                              .scale = TG_SCALE_CUSTOM,
                                              .n_pos = 4,
                                              .n_bounds = 3,
                                              .pos = counts,
                                              .bounds = bounds};
    const struct tg_summary s = {.sum = (double)NAN, .n_quantiles = 5, .quantiles = quantiles};
    const struct {
        struct tg_point p;
        uint64_t exemplars, fields;
    } rows[] = {
        {{.type = TG_VALUE_DOUBLE, .value.f64 = 1}, 0, 0},
        {{.type = TG_VALUE_DOUBLE, .value.f64 = 1, .exemplars = &two}, 2, 0},
        {{.type = TG_VALUE_HISTOGRAM, .value.histogram = &h, .exemplars = &two}, 2, 2},
        {{.type = TG_VALUE_HISTOGRAM, .value.histogram = &unknown}, 0, 0},
        {{.type = TG_VALUE_EXP_HISTOGRAM, .value.exp_histogram = &e}, 0, 2},
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &f}, 0, 4},
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &custom}, 0, 3},
        {{.type = TG_VALUE_SUMMARY, .value.summary = &s}, 0, 4},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_left_out left = {.n = {0}};
        for (uint64_t n = 1; n <= 2; n++) {
            tg_influx_left_out(&rows[i].p, &left);
            assert_int_equal(left.n[TG_LEFT_OUT_EXEMPLAR], n * rows[i].exemplars);
            assert_int_equal(left.n[TG_LEFT_OUT_FIELD], n * rows[i].fields);
        }
    }
}

/* Everything that the decoder takes comes back the same through the writer. */
static void test_round_trip(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        reset_fixture(&f);
        assert_int_equal(decode(&f, good[i].lines), TG_OK);
        struct tg_buf text;
        struct tg_buf prepared;
        struct tg_err err = {.msg = ""};
        tg_buf_init(&text, 0);
        tg_buf_init(&prepared, 0);
        for (uint32_t k = 0; k < f.batch.n_points; k++) {
            struct tg_series_desc desc;
            prepared.len = 0;
            assert_int_equal(
                tg_table_describe(f.table, f.batch.points[k].series, &desc, &f.scratch), TG_OK);
            assert_int_equal(tg_influx_prepare(&desc, &prepared, &err), TG_OK);
            assert_int_equal(tg_influx_append_point(prepared.data, prepared.len, &f.batch.points[k],
                                                    0, &text, &err),
                             TG_OK);
        }
        reset_fixture(&f);
        assert_int_equal(decode_n(&f, text.data ? (char *)text.data : "", text.len, 1), TG_OK);
        char *got = dump(&f);
        assert_string_equal(got, good[i].want);
        free(got);
        tg_buf_deinit(&text);
        tg_buf_deinit(&prepared);
    }
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_refused),
        cmocka_unit_test(test_line_numbers),   cmocka_unit_test(test_long_string_of_lines),
        cmocka_unit_test(test_precision),      cmocka_unit_test(test_many_fields),
        cmocka_unit_test(test_series_limit),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_failing_memory), cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_append),         cmocka_unit_test(test_what_is_left_out_is_counted),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
