/* Small batches of one commit share blocks: what they take, and that each still stands alone. */
#include "core/log/log_impl.h"
#include "tests/unit/log/log_rig.h"

enum { N_SERIES = 300, MAX_BATCHES = 2500 };

struct batches {
    struct tg_batch b[MAX_BATCHES];
    struct tg_batch *list[MAX_BATCHES];
    uint64_t pos[MAX_BATCHES];
};

/* One point of each of n series, each in a batch of its own, a second apart from the last turn and
 * some microseconds apart from each other. */
static void fill(struct rig *r, struct batches *s, uint32_t n, uint32_t per_batch)
{
    r->t += SECOND;
    for (uint32_t i = 0; i < n; i++) {
        tg_batch_init(&s->b[i], NULL, 0, 0);
        lf_scrape(&r->f, &s->b[i], (uint32_t)(lf_rnd(&r->f) % (N_SERIES - per_batch)), per_batch,
                  r->t + (int64_t)i * 20000 + (int64_t)(lf_rnd(&r->f) % 20000));
        s->list[i] = &s->b[i];
    }
}

static void keep_and_drop(struct rig *r, struct batches *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (r) lf_append(&r->sent, &s->b[i]);
        tg_batch_deinit(&s->b[i]);
    }
}

static void test_bytes_of_requests_of_one_point(void **state)
{
    (void)state;
    enum { N = 256, TURNS = 40 };
    struct rig *r = rig_new(N_SERIES, 0, 0);
    struct batches *s = tg_calloc(1, sizeof(*s));
    uint64_t before = 0;
    for (unsigned turn = 0; turn < TURNS; turn++) {
        fill(r, s, N, 1);
        assert_int_equal(tg_log_commit(r->log, s->list, N, s->pos, NULL), TG_OK);
        keep_and_drop(r, s, N);
        if (turn == 4) before = tg_log_stats(r->log).bytes; /* the series are written */
    }
    const uint64_t bytes = tg_log_stats(r->log).bytes - before;
    if (bytes > (uint64_t)(TURNS - 5) * N * 15)
        fail_msg("%.1f bytes a point", (double)bytes / (TURNS - 5) / N);
    read_all(r, 1000);
    rig_reopen(r);
    read_all(r, 1);
    tg_free(s);
    rig_free(r);
}

/* Blocks are shared in order, whatever the sizes; none grows past its bound, and each position is
 * one to read from. */
static void test_small_and_large_side_by_side(void **state)
{
    (void)state;
    enum { N = 200 };
    struct rig *r = rig_new(N_SERIES, 0, 0);
    struct batches *s = tg_calloc(1, sizeof(*s));
    uint64_t first_no[N + 1] = {0};
    for (uint32_t i = 0; i < N; i++) {
        static const uint32_t sizes[] = {1, 3, 0, TG_LOG_SMALL_POINTS, TG_LOG_SMALL_POINTS + 1, 60};
        const uint32_t n = sizes[lf_rnd(&r->f) % 6];
        tg_batch_init(&s->b[i], NULL, 0, 0);
        if (n) lf_mixed(&r->f, &s->b[i], n, i * SECOND);
        s->list[i] = &s->b[i];
        first_no[i + 1] = first_no[i] + n;
    }
    assert_int_equal(tg_log_commit(r->log, s->list, N, s->pos, NULL), TG_OK);
    keep_and_drop(r, s, N);
    read_all(r, 5000);
    for (uint32_t i = 0; i < N; i++) {
        struct tg_log_reader *reader;
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        tg_batch_init(&b, NULL, 0, 0);
        assert_true(i == 0 || s->pos[i] >= s->pos[i - 1]);
        assert_int_equal(tg_log_reader_open(r->log, s->pos[i], &reader, NULL), TG_OK);
        assert_int_equal(tg_log_reader_read(reader, &b, 1, &rd, &dict, NULL), TG_OK);
        assert_int_equal(rd.from_pos, s->pos[i]); /* the end of a record */
        /* what comes there was not in this batch: it is acknowledged with all of its points */
        assert_true(rd.from_point_no >= first_no[i + 1]);
        assert_true(b.n_points <= TG_LOG_SHARED_POINTS);
        tg_segment_dict_unref(dict);
        tg_batch_deinit(&b);
        tg_log_reader_close(reader);
    }
    tg_free(s);
    rig_free(r);
}

/* One that cannot be encoded fails alone. */
static void test_one_of_them_is_too_large(void **state)
{
    (void)state;
    enum { N = 20, BAD = 7 };
    struct rig *r = rig_new(N_SERIES, 0, 0);
    struct batches *s = tg_calloc(1, sizeof(*s));
    struct tg_string text = {.len = TG_BLOCK_POINT_BYTES + 1};
    char *chars = tg_calloc(1, text.len);
    text.ptr = chars;
    for (unsigned turn = 0; turn < 2; turn++) {
        struct tg_err err = {0};
        fill(r, s, N, 2);
        s->b[BAD].points[1].type = TG_VALUE_STRING;
        s->b[BAD].points[1].value.string = &text;
        const uint64_t before = tg_log_stats(r->log).end_point_no;
        assert_int_equal(tg_log_commit(r->log, s->list, N, s->pos, &err), TG_ERR_TOO_LARGE);
        assert_int_equal(tg_log_stats(r->log).end_point_no, before + (N - 1) * 2);
        s->b[BAD].n_points = 0;
        keep_and_drop(r, s, N);
    }
    read_all(r, 1000);
    tg_free(chars);
    tg_free(s);
    rig_free(r);
}

/* Without memory for one allocation, whichever: every batch is whole in the log or not at all. */
static void test_no_memory(void **state)
{
    (void)state;
    enum { N = 12 };
    struct rig *r = rig_new(N_SERIES, 4096, 0);
    struct batches *s = tg_calloc(1, sizeof(*s));
    bool done = false;
    tg_log_set_level((enum tg_log_level)(TG_LOG_ERROR + 1));
    for (uint64_t n = 1; !done; n++) {
        struct tg_err err;
        rig_reopen(r); /* a new segment: its series are written again */
        fill(r, s, N, 3);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_log_commit(r->log, s->list, N, s->pos, &err);
        done = !tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_true(code == TG_OK || code == TG_ERR_NOMEM);
        const uint64_t taken = tg_log_stats(r->log).end_point_no - r->sent.n_points;
        assert_true(taken == 0 || taken == N * 3);
        keep_and_drop(taken ? r : NULL, s, N);
    }
    tg_log_set_level(TG_LOG_ERROR);
    read_all(r, 1000);
    tg_free(s);
    rig_free(r);
}

int main(void)
{
    tg_log_set_level(TG_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_of_requests_of_one_point),
        cmocka_unit_test(test_small_and_large_side_by_side),
        cmocka_unit_test(test_one_of_them_is_too_large),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
