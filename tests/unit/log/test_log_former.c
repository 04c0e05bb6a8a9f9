/* Segments that former versions wrote are read as they were meant. The files are kept beside this
 * one; the points in them are made again from the same seed. */
#include "core/log/segment.h"
#include "tests/unit/log/log_rig.h"

enum { N_SERIES = 60, N_COMMITS = 70 };
#define SEGMENT "tests/unit/log/segment_blocks_1.seg"
#define PATH    "/data/log/00000000000000000000.seg"

static void fill(struct rig *r, struct tg_batch *b, unsigned i)
{
    const int64_t t = INT64_C(1750000000) * SECOND + i * 10 * SECOND;
    tg_batch_init(b, NULL, 0, 0);
    if (i % 10 == 9)
        lf_mixed(&r->f, b, 25, t);
    else
        lf_scrape(&r->f, b, i % 3 * 20, 20, t);
    for (uint32_t k = 0; k < b->n_points; k++) /* counters have a start, some another one */
        if (i % 10 != 9 && k % 3) b->points[k].start_ns = t - i * 10 * SECOND - k % 3 * (i / 40);
}

static void test_blocks_of_version_1(void **state)
{
    (void)state;
    static uint8_t bytes[32 << 10];
    struct rig *r = rig_new(N_SERIES, 0, 0);
    for (unsigned i = 0; i < N_COMMITS; i++) {
        struct tg_batch b;
        fill(r, &b, i);
        lf_append(&r->sent, &b);
        tg_batch_deinit(&b);
    }
    FILE *f = fopen(SEGMENT, "rb");
    assert_non_null(f);
    const size_t len = fread(bytes, 1, sizeof(bytes), f);
    (void)fclose(f);
    assert_true(len > TG_SEGMENT_HEADER_BYTES && len < sizeof(bytes));
    /* in the place of a log that was made anew, as that of a former version */
    tg_log_close(r->log);
    sim_fs_free(r->sim);
    r->sim = sim_fs_new(1);
    r->config.fs = &r->sim->fs;
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    tg_log_close(r->log);
    assert_true(sim_fs_remove(r->sim, "/data/log/id"));
    (void)sim_fs_remove(r->sim, "/data/log/extent");
    (void)sim_fs_remove(r->sim, "/data/log/end_mark");
    assert_true(sim_fs_put(r->sim, PATH, bytes, len));
    assert_int_equal(tg_log_open(&r->config, &r->log, NULL), TG_OK);
    assert_int_equal(tg_log_stats(r->log).n_damaged_records, 0);
    read_all(r, 1000);
    /* and it goes on from there */
    for (unsigned i = 0; i < 5; i++) assert_int_equal(commit(r, 50, i % 2, NULL), TG_OK);
    read_all(r, 7);
    rig_reopen(r);
    read_all(r, 1000);
    rig_free(r);
}

int main(void)
{
    tg_log_set_level(TG_LOG_ERROR);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_blocks_of_version_1)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
