/* Which series become one at a backend by its naming, and which do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/protocol/influx_line.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/remote_write.h"

static const struct tg_prom_names escaped = {.has_otlp_suffixes = true};
static const struct tg_prom_names untouched = {.is_utf8 = true, .is_otlp_utf8 = true};
#define UTF8 (&tg_prom_names_default)
#define ESC  (&escaped)
#define RAW  (&untouched)
#define FLUX NULL /* InfluxDB */

/* name, kind, unit, field_len, key and value of up to two tags */
struct series {
    const char *name;
    enum tg_kind kind;
    const char *unit;
    uint32_t field_len;
    const char *tags[4];
};

static enum tg_code forms_of(const struct series *s, const struct tg_prom_names *names,
                             struct tg_form forms[TG_MAX_FORMS], unsigned *n)
{
    struct tg_tag tags[2];
    struct tg_series_desc d = {.name = s->name,
                               .name_len = (uint32_t)strlen(s->name),
                               .kind = (uint8_t)s->kind,
                               .unit = s->unit ? s->unit : "",
                               .unit_len = s->unit ? (uint32_t)strlen(s->unit) : 0,
                               .field_len = s->field_len,
                               .tags = tags};
    for (uint32_t i = 0; i < 2 && s->tags[2 * i]; i++)
        tags[d.n_tags++] = (struct tg_tag){.key = s->tags[2 * i],
                                           .key_len = (uint32_t)strlen(s->tags[2 * i]),
                                           .value = s->tags[2 * i + 1],
                                           .value_len = (uint32_t)strlen(s->tags[2 * i + 1])};
    struct tg_buf b;
    tg_buf_init(&b, 0);
    enum tg_code code = names ? tg_remote_write_prepare(&d, names, NULL, &b, NULL)
                              : tg_influx_prepare(&d, &b, NULL);
    if (code == TG_OK)
        code = names ? tg_remote_write_forms(&d, b.data, (uint32_t)b.len, forms, n)
                     : tg_influx_forms(&d, &b, forms, n);
    tg_buf_deinit(&b);
    return code;
}

/* Whether the later of the two would be told that another has its form. */
static bool meet(const struct series *x, const struct series *y, const struct tg_prom_names *names)
{
    struct tg_form fx[TG_MAX_FORMS];
    struct tg_form fy[TG_MAX_FORMS];
    unsigned nx = 0;
    unsigned ny = 0;
    assert_int_equal(forms_of(x, names, fx, &nx), TG_OK);
    assert_int_equal(forms_of(y, names, fy, &ny), TG_OK);
    assert_true(nx > 0 && nx <= TG_MAX_FORMS && ny > 0);
    for (unsigned i = 0; i < nx; i++)
        for (unsigned k = 0; k < ny; k++)
            if (fx[i].form == fy[k].form && fx[i].who != fy[k].who) return true;
    return false;
}

static void names_meet_where_a_backend_makes_them_one(void **state)
{
    (void)state;
    static const struct {
        struct series a, b;
        const struct tg_prom_names *names;
        bool want;
    } rows[] = {
        {{.name = "a\xe6\xb8\xa9"}, {.name = "a\xe6\xb9\xbf"}, UTF8, false},
        {{.name = "a\xe6\xb8\xa9"}, {.name = "a\xe6\xb9\xbf"}, ESC, true},
        {{.name = "a.b"}, {.name = "a_b"}, UTF8, false},
        {{.name = "a.b"}, {.name = "a_b"}, ESC, true},
        {{.name = "a.b"}, {.name = "a_b", .tags = {"k", "v"}}, ESC, false},
        {{.name = "a", .tags = {"http.route", "/"}},
         {.name = "a", .tags = {"http_route", "/"}},
         UTF8,
         false},
        {{.name = "a", .tags = {"http.route", "/"}},
         {.name = "a", .tags = {"http_route", "/"}},
         ESC,
         true},
        {{.name = "a", .tags = {"k.1", "x", "k_1", "y"}},
         {.name = "a", .tags = {"k.1", "x;y"}},
         ESC,
         true},
        /* suffixes */
        {{.name = "x", .kind = TG_KIND_COUNTER}, {.name = "x_total"}, UTF8, true},
        {{.name = "x", .kind = TG_KIND_COUNTER}, {.name = "x_total"}, RAW, false},
        {{.name = "x", .kind = TG_KIND_GAUGE, .unit = "By"},
         {.name = "x.bytes", .kind = TG_KIND_GAUGE},
         UTF8,
         true},
        /* histograms and summaries in parts */
        {{.name = "x", .kind = TG_KIND_HISTOGRAM}, {.name = "x_sum"}, UTF8, true},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM}, {.name = "x_count"}, UTF8, true},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM},
         {.name = "x_bucket", .tags = {"le", "1"}},
         UTF8,
         true},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM}, {.name = "x"}, UTF8, false},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM, .tags = {"a", "1"}},
         {.name = "x_count", .tags = {"a", "2"}},
         UTF8,
         false},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM, .tags = {"a", "1"}},
         {.name = "x_bucket", .tags = {"a", "1", "le", "1"}},
         UTF8,
         true},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM},
         {.name = "x_count", .tags = {"le", "1"}},
         UTF8,
         false}, /* of a bucket alone is le no part */
        {{.name = "x", .kind = TG_KIND_HISTOGRAM, .tags = {"z", "1"}},
         {.name = "x_count", .tags = {"z", "2"}},
         UTF8,
         false},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM, .tags = {"A", "1"}},
         {.name = "x_count", .tags = {"A", "2"}},
         UTF8,
         false},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM, .tags = {"A", "1", "z", "1"}},
         {.name = "x_count", .tags = {"A", "1", "z", "1"}},
         UTF8,
         true},
        {{.name = "x_bucket", .tags = {"le", "1"}},
         {.name = "x_bucket", .tags = {"le", "2"}},
         UTF8,
         false},
        {{.name = "x", .tags = {"quantile", "1"}},
         {.name = "x", .tags = {"quantile", "0"}},
         UTF8,
         false},
        {{.name = "x", .kind = TG_KIND_SUMMARY}, {.name = "x_count"}, UTF8, true},
        {{.name = "x", .kind = TG_KIND_SUMMARY}, {.name = "x_sum"}, UTF8, true},
        {{.name = "x.y", .kind = TG_KIND_SUMMARY},
         {.name = "x_y", .tags = {"quantile", "1"}},
         UTF8,
         true},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM},
         {.name = "x", .kind = TG_KIND_SUMMARY},
         UTF8,
         false}, /* one to their sender */
        {{.name = "x", .kind = TG_KIND_EXP_HISTOGRAM}, {.name = "x"}, UTF8, false},
        {{.name = "x__y", .kind = TG_KIND_EXP_HISTOGRAM}, {.name = "x_y"}, UTF8, false},
        {{.name = "x.y", .kind = TG_KIND_EXP_HISTOGRAM}, {.name = "x_y"}, ESC, true},
        /* one to their sender: another kind or unit */
        {{.name = "x", .kind = TG_KIND_GAUGE}, {.name = "x"}, UTF8, false},
        {{.name = "x", .kind = TG_KIND_GAUGE, .unit = "s"},
         {.name = "x", .kind = TG_KIND_GAUGE, .unit = "ms"},
         RAW,
         false},
        /* Influx names: measurement and field */
        {{.name = "a_b", .field_len = 1}, {.name = "a_b"}, UTF8, true},
        {{.name = "a_b", .field_len = 1}, {.name = "a_b"}, FLUX, false},
        {{.name = "a_value", .field_len = 5}, {.name = "a"}, FLUX, true},
        {{.name = "a_value", .field_len = 5}, {.name = "a", .tags = {"k", "v"}}, FLUX, false},
        {{.name = "a\\"}, {.name = "a"}, FLUX, true},
        {{.name = "a\nb"}, {.name = "a\\nb"}, FLUX, true},
        {{.name = "a", .tags = {"k", "v\\"}}, {.name = "a", .tags = {"k", "v"}}, FLUX, true},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM}, {.name = "x_count", .field_len = 5}, FLUX, true},
        {{.name = "x", .kind = TG_KIND_SUMMARY}, {.name = "x_sum", .field_len = 3}, FLUX, true},
        {{.name = "x", .kind = TG_KIND_EXP_HISTOGRAM},
         {.name = "x_count", .field_len = 5},
         FLUX,
         true},
        {{.name = "a.b", .field_len = 1}, {.name = "a.b"}, FLUX, true}, /* renamed: a name whole */
        {{.name = "x", .kind = TG_KIND_HISTOGRAM}, {.name = "x_count"}, FLUX, false},
        {{.name = "x", .kind = TG_KIND_HISTOGRAM},
         {.name = "x", .kind = TG_KIND_GAUGE},
         FLUX,
         false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (meet(&rows[i].a, &rows[i].b, rows[i].names) != rows[i].want ||
            meet(&rows[i].b, &rows[i].a, rows[i].names) != rows[i].want)
            fail_msg("row %zu: %s and %s", i, rows[i].a.name, rows[i].b.name);
}

static void without_memory_there_is_a_code(void **state)
{
    (void)state;
    static const struct series rows[] = {
        {.name = "x", .kind = TG_KIND_HISTOGRAM, .tags = {"k", "v"}},
        {.name = "x", .tags = {"k", "v"}}};
    for (size_t i = 0; i < 4; i++) {
        for (uint64_t n = 1;; n++) {
            struct tg_form forms[TG_MAX_FORMS];
            unsigned count;
            tg_mem_fail_at(n);
            const enum tg_code code = forms_of(&rows[i / 2], i % 2 ? UTF8 : FLUX, forms, &count);
            const bool fired = tg_mem_fail_fired();
            tg_mem_fail_at(0);
            assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
            if (!fired) break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_meet_where_a_backend_makes_them_one),
        cmocka_unit_test(without_memory_there_is_a_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
