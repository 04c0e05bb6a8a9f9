/* Plans: prepared bytes per backend, refusing preparers, rollups, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/model/plan.h"

static enum tg_code prepare_text(void *backend, const struct tg_series_desc *mapped,
                                 struct tg_buf *out, struct tg_err *err)
{
    (void)err;
    TG_TRY(tg_buf_append(out, mapped->name, mapped->name_len));
    return tg_buf_append(out, backend, strlen(backend));
}

static enum tg_code prepare_refuse(void *backend, const struct tg_series_desc *mapped,
                                   struct tg_buf *out, struct tg_err *err)
{
    (void)backend;
    (void)mapped;
    TG_TRY(tg_buf_append(out, "half", 4)); /* what was written before it refused must not stay */
    return tg_fail(err, TG_ERR_UNSUPPORTED, "no");
}

static const struct tg_preparer preparers[] = {
    {prepare_text, "-zero", NULL}, {prepare_text, "", NULL}, {prepare_refuse, NULL, NULL},
    {prepare_text, "-xyz", NULL},  {NULL, NULL, NULL},
};
enum { N_BACKENDS = sizeof(preparers) / sizeof(preparers[0]) };

static struct tg_decision decision_make(uint32_t targets)
{
    return (struct tg_decision){
        .generation = 7,
        .targets = targets,
        .wait = 0x21,
        .strategy = TG_STRATEGY_ALL,
        .failed = true,
        .retention = {.keep_ms = 90,
                      .n_rollups = 2,
                      .rollups = {{.every_ms = 5, .keep_ms = 50}, {.every_ms = 60, .keep_ms = 0}}},
        .mapped = {.name = "cpu", .name_len = 3},
    };
}

static void expect(const struct tg_plan *p, unsigned backend, const char *want)
{
    uint32_t len = 99;
    const uint8_t *bytes = tg_plan_prepared(p, backend, &len);
    if (!want) {
        assert_null(bytes);
        assert_int_equal(len, 0);
        return;
    }
    assert_non_null(bytes);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(bytes, want, len);
}

static void test_prepared(void **state)
{
    struct tg_buf scratch;
    (void)state;
    tg_buf_init(&scratch, 0);
    const struct tg_decision d = decision_make(0x1d);
    for (int round = 0; round < 2; round++) {
        struct tg_plan *p = tg_plan_new(&d, preparers, N_BACKENDS, &scratch);
        assert_non_null(p);
        expect(p, 0, "cpu-zero");
        expect(p, 1, NULL); /* not a target */
        expect(p, 2, NULL); /* a target that refused */
        expect(p, 3, "cpu-xyz");
        expect(p, 4, "");
        expect(p, 31, NULL);
        assert_int_equal(p->targets, 0x1d);
        assert_int_equal(p->wait, 0x01); /* a backend that gets nothing confirms nothing */
        assert_int_equal(p->generation, 7);
        assert_int_equal(p->strategy, TG_STRATEGY_ALL);
        assert_true(p->failed);
        const struct tg_retention r = tg_plan_retention(p);
        assert_memory_equal(&r, &d.retention, sizeof(r));
        assert_int_equal(tg_plan_rollups(p)[1].every_ms, 60);
        tg_free(p);
    }
    tg_buf_deinit(&scratch);
}

static void test_dropped(void **state)
{
    struct tg_buf scratch;
    struct tg_decision d = decision_make(0);
    (void)state;
    d.retention.n_rollups = 0;
    tg_buf_init(&scratch, 0);
    struct tg_plan *p = tg_plan_new(&d, preparers, N_BACKENDS, &scratch);
    assert_non_null(p);
    assert_int_equal(p->n_prepared, 0);
    assert_int_equal(p->wait, 0);
    expect(p, 0, NULL);
    assert_int_equal(tg_plan_retention(p).n_rollups, 0);
    tg_free(p);
    tg_buf_deinit(&scratch);
}

static void test_scratch_bound(void **state)
{
    struct tg_buf scratch;
    const struct tg_decision d = decision_make(0x09);
    (void)state;
    tg_buf_init(&scratch, 9); /* room for the first one only */
    struct tg_plan *p = tg_plan_new(&d, preparers, N_BACKENDS, &scratch);
    assert_non_null(p);
    expect(p, 0, "cpu-zero");
    expect(p, 3, NULL);
    tg_free(p);
    tg_buf_deinit(&scratch);
}

static void test_no_memory(void **state)
{
    const uint64_t before = tg_mem_used();
    const struct tg_decision d = decision_make(0x1f);
    (void)state;
    uint64_t n = 1;
    for (;; n++) {
        struct tg_buf scratch;
        tg_buf_init(&scratch, 0);
        tg_mem_fail_at(n);
        struct tg_plan *p = tg_plan_new(&d, preparers, N_BACKENDS, &scratch);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_true((p == NULL) == fired);
        tg_free(p);
        tg_buf_deinit(&scratch);
        assert_int_equal(tg_mem_used(), before);
        if (!fired) break;
    }
    assert_true(n > 2);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(tg_strategy_name(TG_STRATEGY_LOGGED), "logged");
    assert_string_equal(tg_strategy_name(TG_STRATEGY_PRIMARY_ASYNC),
                        "primary_with_async_replication");
    assert_string_equal(tg_strategy_name((enum tg_strategy)9), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prepared),      cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_scratch_bound), cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
