/* What a backend is told of the log and of its cursor, so that it can remember how far it has come:
 * the log's id, the epoch, and the numbers of the points. */
#include "tests/unit/pipe/gateway_fixture.h"

/* The writes of one epoch that went well follow each other, from `first_no` to `end_no`, and each
 * has the points whose numbers it says: those that were posted have time = number + 1. Between two
 * lie at most `n_elsewhere` numbers in all. */
static void assert_tiles(unsigned sink, uint64_t epoch, uint64_t first_no, uint64_t end_no,
                         uint64_t n_elsewhere)
{
    (void)pthread_mutex_lock(&sinks[sink].lock);
    uint64_t at = first_no, n_between = 0;
    for (unsigned i = 0; i < sinks[sink].n_wrote; i++) {
        const struct wrote *w = &sinks[sink].wrote[i];
        if (w->epoch != epoch) continue;
        if (w->from_no < at || w->to_no <= w->from_no || (uint64_t)w->first_ts <= w->from_no ||
            (uint64_t)w->last_ts > w->to_no)
            fail_msg("write %u: points %lld to %lld, numbers %llu to %llu, after %llu", i,
                     (long long)w->first_ts, (long long)w->last_ts, (unsigned long long)w->from_no,
                     (unsigned long long)w->to_no, (unsigned long long)at);
        n_between += w->from_no - at;
        at = w->to_no;
    }
    assert_int_equal(at, end_no);
    assert_true(n_between <= n_elsewhere);
    (void)pthread_mutex_unlock(&sinks[sink].lock);
}

static uint64_t epoch_of(const struct fixture *f, unsigned backend)
{
    struct tg_gateway_status *s = malloc(sizeof(*s));
    tg_gateway_status(f->g, s);
    const uint64_t epoch = s->backends[backend].epoch;
    free(s);
    return epoch;
}

static void test_epochs(void **state)
{
    struct fixture *f = *state;
    start(f);
    char id[40];
    (void)snprintf(id, sizeof(id), "%s", sinks[0].log_id);
    assert_int_equal(strlen(id), 36);
    assert_string_equal(sinks[1].log_id, id);
    const uint64_t epoch = sinks[0].opened_epoch;
    assert_true(epoch > 1000000000); /* the time when the cursor was made */
    post_range(f, 1, 300, "");
    wait_empty(f, 0);
    assert_tiles(0, epoch, 0, 300, 0);
    /* a rewind raises it, to wherever it goes; one that cannot be does not */
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    wait_empty(f, 0);
    assert_int_equal(sinks[0].rewind.epoch, epoch + 1);
    assert_int_equal(epoch_of(f, 0), epoch + 1);
    assert_tiles(0, epoch + 1, 0, 300, 0);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_POSITION, INT64_MAX / 2), TG_ERR_INVALID);
    assert_int_equal(epoch_of(f, 0), epoch + 1);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_END, 0), TG_OK);
    assert_int_equal(epoch_of(f, 0), epoch + 2);
    /* the other backend's is its own; a restart leaves both as they are */
    assert_int_equal(epoch_of(f, 1), sinks[1].opened_epoch);
    const uint64_t other = epoch_of(f, 1);
    stop(f);
    start(f);
    assert_string_equal(sinks[0].log_id, id);
    assert_int_equal(sinks[0].opened_epoch, epoch + 2);
    assert_int_equal(sinks[1].opened_epoch, other);
    post_range(f, 301, 400, "");
    wait_empty(f, 0);
    assert_tiles(0, epoch + 2, 300, 400, 0);
    /* wiped: another log, whose positions and numbers begin again */
    stop(f);
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", f->log);
    assert_int_equal(system(command), 0);
    start(f);
    assert_string_not_equal(sinks[0].log_id, id);
}

/* A rewind that cannot be kept is none: the backend does not hear of it. */
static void test_epoch_is_kept_first(void **state)
{
    struct fixture *f = *state;
    start(f);
    post_range(f, 1, 10, "");
    wait_empty(f, 0);
    const uint64_t epoch = sinks[0].opened_epoch;
    char dir[128], aside[128];
    (void)snprintf(dir, sizeof(dir), "%s/cursors", f->log);
    (void)snprintf(aside, sizeof(aside), "%s/aside", f->log);
    assert_int_equal(rename(dir, aside), 0);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_ERR_IO);
    assert_int_equal(sinks[0].rewind.epoch, 0);
    assert_int_equal(rename(aside, dir), 0);
    assert_int_equal(rewind_backend(f, 0, TG_REWIND_START, 0), TG_OK);
    assert_true(sinks[0].rewind.epoch > epoch);
    wait_empty(f, 0);
    assert_seen(0, 1, 10, 2);
    assert_tiles(0, sinks[0].rewind.epoch, 0, 10, 0);
}

static void test_numbers_of_parts(void **state)
{
    struct fixture *f = *state;
    sinks[0].max_points_per_write = 13;
    start(f);
    post_range(f, 1, 300, "");
    post_range(f, 301, 310, ",only=b");
    post_range(f, 311, 700, "");
    wait_empty(f, 0);
    assert_seen(0, 1, 300, 1);
    assert_tiles(0, sinks[0].opened_epoch, 0, 700, 10);
}

/* Points that are lost have their numbers, too: what follows keeps its own. */
static void test_numbers_after_damage(void **state)
{
    struct fixture *f = *state;
    atomic_store(&sinks[0].down, true);
    start(f);
    post_range(f, 1, 100, "");
    post_range(f, 101, 150, ",r=2");
    post_range(f, 151, 400, ",r=3");
    wait_empty(f, 1);
    stop(f);
    /* the second request's block: somewhere in the middle of the file */
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%020d.seg", f->log, 0);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    static uint8_t bytes[1 << 20];
    const size_t n = fread(bytes, 1, sizeof(bytes), file);
    unsigned n_blocks = 0;
    for (size_t i = 96; i + 12 < n; i++) {
        if (bytes[i] != 0xb7 || bytes[i + 1] != 0x9d || bytes[i + 4] != 2) continue;
        if (++n_blocks != 2) continue;
        assert_int_equal(fseek(file, (long)i + 20, SEEK_SET), 0);
        assert_int_equal(fputc(bytes[i + 20] ^ 1, file), bytes[i + 20] ^ 1);
    }
    assert_int_equal(n_blocks, 3);
    assert_int_equal(fclose(file), 0);
    sinks[0].max_points_per_write = 30;
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).lost, 50);
    assert_seen(0, 1, 100, 1);
    assert_seen(0, 101, 150, 0);
    assert_tiles(0, sinks[0].opened_epoch, 0, 400, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_epochs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_epoch_is_kept_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers_of_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers_after_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
