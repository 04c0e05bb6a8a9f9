/* A commit waits for the senders of the one before, when there are several. The waits of these
 * tests are so long that one that should not be there ends the test by its time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/logger.h"
#include "core/log/log.h"
#include "core/log/log_impl.h"
#include "tests/support/log_fixture.h"
#include "tests/support/sim_fs.h"

enum { N_SERIES = 40, FOREVER_US = 3600U * 1000000 };

/* A log whose first fsync of a segment ends when the test says so. */
static struct stage {
    struct lf f;
    struct sim_fs *sim;
    struct tg_fs fs;
    struct tg_log *log;
    struct tg_batch batches[8];
    pthread_mutex_t mu;
    pthread_cond_t changed;
    bool is_syncing, may_sync;
    unsigned n_committed, n_failed;
} s;

static int slow_sync(void *self, int fd)
{
    pthread_mutex_lock(&s.mu);
    s.is_syncing = true;
    (void)pthread_cond_broadcast(&s.changed);
    while (!s.may_sync) (void)pthread_cond_wait(&s.changed, &s.mu);
    pthread_mutex_unlock(&s.mu);
    return s.sim->fs.sync(self, fd);
}

static void on_commit(void *arg, enum tg_code code, uint64_t end_pos, const struct tg_err *err)
{
    (void)arg;
    (void)end_pos;
    (void)err;
    pthread_mutex_lock(&s.mu);
    s.n_committed++;
    s.n_failed += code != TG_OK;
    (void)pthread_cond_broadcast(&s.changed);
    pthread_mutex_unlock(&s.mu);
}

static void setup(uint32_t gather_us, enum tg_log_sync sync)
{
    s = (struct stage){.may_sync = true};
    (void)pthread_mutex_init(&s.mu, NULL);
    (void)pthread_cond_init(&s.changed, NULL);
    lf_init(&s.f, N_SERIES, 1);
    s.sim = sim_fs_new(1);
    s.fs = s.sim->fs;
    s.fs.sync = slow_sync;
    const struct tg_log_config config = {
        .dir = "/log", .fs = &s.fs, .table = s.f.table, .gather_us = gather_us, .sync = sync};
    assert_int_equal(tg_log_open(&config, &s.log, NULL), TG_OK);
    assert_int_equal(tg_log_start(s.log, NULL), TG_OK);
    for (unsigned i = 0; i < 8; i++) {
        tg_batch_init(&s.batches[i], NULL, 0, 0);
        lf_scrape(&s.f, &s.batches[i], 0, N_SERIES, i);
    }
}

static void teardown(unsigned n_committed)
{
    tg_log_close(s.log);
    assert_int_equal(s.n_committed, n_committed);
    assert_int_equal(s.n_failed, 0);
    for (unsigned i = 0; i < 8; i++) tg_batch_deinit(&s.batches[i]);
    sim_fs_free(s.sim);
    lf_deinit(&s.f);
}

static void submit(unsigned i)
{
    assert_int_equal(tg_log_submit(s.log, &s.batches[i], on_commit, NULL, NULL), TG_OK);
}

static void wait_committed(unsigned n)
{
    pthread_mutex_lock(&s.mu);
    while (s.n_committed < n) (void)pthread_cond_wait(&s.changed, &s.mu);
    pthread_mutex_unlock(&s.mu);
}

/* The first batch is being fsynced; the second comes meanwhile. Then the first is committed. */
static void first_of_two(void)
{
    s.may_sync = s.is_syncing = false; /* opening the log synced, too */
    submit(0);
    pthread_mutex_lock(&s.mu);
    while (!s.is_syncing) (void)pthread_cond_wait(&s.changed, &s.mu);
    pthread_mutex_unlock(&s.mu);
    submit(1);
    pthread_mutex_lock(&s.mu);
    s.may_sync = true;
    (void)pthread_cond_broadcast(&s.changed);
    pthread_mutex_unlock(&s.mu);
    wait_committed(1);
}

static void test_two_senders_are_committed_together(void **state)
{
    (void)state;
    setup(FOREVER_US, TG_SYNC_ALWAYS);
    first_of_two();
    submit(2); /* the first sender again */
    wait_committed(3);
    assert_int_equal(tg_log_stats(s.log).n_commits, 2);
    submit(3);
    submit(4); /* both again: the first to come waits for the other */
    wait_committed(5);
    assert_int_equal(tg_log_stats(s.log).n_commits, 3);
    teardown(5);
}

static void test_one_sender_does_not_wait(void **state)
{
    (void)state;
    setup(FOREVER_US, TG_SYNC_ALWAYS);
    for (unsigned i = 0; i < 8; i++) {
        submit(i);
        wait_committed(i + 1);
    }
    assert_int_equal(tg_log_stats(s.log).n_commits, 8);
    teardown(8);
}

static void test_a_sender_that_does_not_come(void **state)
{
    (void)state;
    setup(1000, TG_SYNC_ALWAYS);
    first_of_two();
    wait_committed(2);
    assert_int_equal(tg_log_stats(s.log).n_commits, 2);
    submit(2);
    wait_committed(3);
    teardown(3);
}

static void test_a_stop_waits_for_nobody(void **state)
{
    (void)state;
    setup(FOREVER_US, TG_SYNC_ALWAYS);
    first_of_two();
    teardown(2);
}

/* Where nothing is fsynced there is nothing to save. */
static void test_without_fsync(void **state)
{
    (void)state;
    setup(FOREVER_US, TG_SYNC_NEVER);
    for (unsigned i = 0; i < 8; i++) submit(i);
    wait_committed(8);
    teardown(8);
}

int main(void)
{
    tg_log_set_level(TG_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_senders_are_committed_together),
        cmocka_unit_test(test_one_sender_does_not_wait),
        cmocka_unit_test(test_a_sender_that_does_not_come),
        cmocka_unit_test(test_a_stop_waits_for_nobody),
        cmocka_unit_test(test_without_fsync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
