/* A rewind of a Parquet backend whose process or machine stops at each operation of the file system
 * in turn. Whatever is lost of the log: no point that was in the archive is gone from its folder,
 * and queries find none twice. */
#include "tests/unit/backend/parquet_bench.h"

enum { END = 40 };

struct step { /* one delivery: the positions that the cursor passes, and which the log lost of them
               */
    uint64_t from, to, lost_from, lost_to;
};
struct story {
    const char *name;
    struct step steps[3];
    unsigned n_steps;
    uint64_t n_rows; /* queries find so many */
    unsigned n_kept; /* at least: what was not confirmed is kept, too, when its points are lost */
};

static const struct story stories[] = {
    {"nothing is lost", {{0, 15, 0, 0}, {15, 40, 0, 0}}, 2, 40, 0},
    {"files and parts of files are lost", {{0, 15, 0, 0}, {15, 40, 18, 32}}, 2, 36, 2},
    {"whole files are lost", {{0, 40, 10, 30}}, 1, 40, 0},
    /* of [10, 20) the rest could still come when its first points were missed */
    {"all is lost", {{0, 12, 0, 12}, {12, 40, 12, 40}}, 2, 30, 1},
};

/* false: it stopped on the way. */
static bool do_step(struct bench *t, const struct step *s)
{
    struct tg_err err = {.msg = ""};
    return write_holed(t, s->from, s->to, s->lost_from, s->lost_to) == TG_WRITE_OK &&
           try_settle(t, s->from, s->to, s->lost_from, s->lost_to, &err) == TG_OK;
}

static bool is_intact(const struct story *story)
{
    for (unsigned i = 0; i < story->n_steps; i++)
        if (story->steps[i].lost_from < story->steps[i].lost_to) return false;
    return true;
}

static bool stop_at(const struct story *story, uint64_t nth, enum sim_loss loss)
{
    static struct bench t;
    struct tg_err err = {.msg = ""};
    uint64_t pos = 0;
    bool has_stopped = false;
    start(&t, NULL);
    must_open(&t, 0, 0);
    for (uint64_t at = 0; at < END; at += 10) write_range(&t, at, at + 10, TG_WRITE_OK);
    const struct tg_backend_rewind how = {.from_pos = END};
    assert_int_equal(ops->rewound(t.b, &how, &pos, &err), TG_OK);
    assert_int_equal(pos, 0);
    t.sim->stop_at = t.sim->n_ops + nth;
    for (unsigned i = 0; i < story->n_steps;) {
        if (do_step(&t, &story->steps[i])) {
            i++; /* and the cursor is behind it */
            continue;
        }
        assert_false(has_stopped);
        has_stopped = true;
        sim_fs_power_loss(t.sim, loss);
        reopen(&t, story->steps[i].from, END);
    }
    t.sim->stop_at = 0;
    query(&t, (struct tg_query){.start_ns = INT64_MIN});
    if (t.end_code != TG_OK) fail_msg("%s", t.end_message);
    qsort(t.times, t.n_rows, sizeof(*t.times), time_cmp);
    for (uint32_t i = 1; i < t.n_rows; i++) assert_int_not_equal(t.times[i - 1], t.times[i]);
    const unsigned n_kept = n_files(&t, ".kept");
    if (t.n_rows < story->n_rows || n_kept < story->n_kept || (is_intact(story) && n_kept))
        fail_msg("%s, stopped at %u (%d): %u rows, %u kept", story->name, (unsigned)nth, (int)loss,
                 t.n_rows, n_kept);
    assert_int_equal(n_files(&t, ".again"), 0);
    assert_int_equal(n_files(&t, ".tmp"), 0);
    end(&t);
    return has_stopped;
}

static void test_stopped_at_every_operation(void **state)
{
    static const enum sim_loss losses[] = {SIM_KEEP_ALL, SIM_LOSE_ALL, SIM_KEEP_SOME};
    (void)state;
    for (size_t i = 0; i < sizeof(stories) / sizeof(*stories); i++)
        for (size_t k = 0; k < sizeof(losses) / sizeof(*losses); k++) {
            uint64_t nth = 1;
            while (stop_at(&stories[i], nth, losses[k])) assert_true(++nth < 500);
            assert_true(nth > 10);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_at_every_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
