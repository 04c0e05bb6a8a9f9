/* Under which kind a point without a form is counted. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/model/series.h"
#include "core/pipe/inexpressible.h"

static void points_have_a_kind(void **state)
{
    (void)state;
    static const struct tg_float_histogram counted = {.count = 1};
    static const struct tg_float_histogram uncounted = {.count = NAN};
    static const struct tg_float_histogram infinite = {.count = INFINITY};
    static struct tg_series delta = {.temporality = TG_TEMPORALITY_DELTA};
    static const struct {
        struct tg_point p;
        const char *want;
    } rows[] = {
        {{.type = TG_VALUE_DOUBLE, .value.f64 = 1, .series = &delta}, "delta"},
        {{.type = TG_VALUE_NONE}, "stale"},
        {{.type = TG_VALUE_EXEMPLARS}, "exemplar"},
        {{.type = TG_VALUE_DOUBLE, .value.f64 = NAN}, "not_finite"},
        {{.type = TG_VALUE_DOUBLE, .value.f64 = -INFINITY}, "not_finite"},
        {{.type = TG_VALUE_DOUBLE, .value.f64 = 1}, "other"},
        {{.type = TG_VALUE_STRING}, "text"},
        {{.type = TG_VALUE_HISTOGRAM}, "histogram"},
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &counted}, "histogram"},
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &uncounted}, "not_finite"},
        {{.type = TG_VALUE_FLOAT_HISTOGRAM, .value.float_histogram = &infinite}, "not_finite"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_string_equal(tg_inexpressible_name(tg_inexpressible_kind_of(&rows[i].p)),
                            rows[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(points_have_a_kind)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
