/* Which log it is: made once, found again in the file, in the segments and in the cursors. */
#include "tests/unit/log/log_rig.h"

#define ID_FILE "/data/log/id"
#define FIRST   "/data/log/00000000000000000000.seg"

static void copy_id(const struct rig *r, char out[40])
{
    (void)snprintf(out, 40, "%s", tg_log_id(r->log));
    assert_int_equal(strlen(out), 36);
    assert_int_equal(out[14], '4'); /* a random UUID */
    assert_non_null(strchr("89ab", out[19]));
    for (unsigned i = 0; i < 36; i++)
        assert_non_null(
            strchr(i == 8 || i == 13 || i == 18 || i == 23 ? "-" : "0123456789abcdef", out[i]));
}

static void close_log(struct rig *r)
{
    tg_log_close(r->log);
    r->log = NULL;
}

/* Opens, which must fail with these words. */
static void must_not_open(struct rig *r, enum tg_code want, const char *words)
{
    struct tg_err err = {.msg = ""};
    assert_int_equal(tg_log_open(&r->config, &r->log, &err), want);
    assert_null(r->log);
    if (!strstr(err.msg, words)) fail_msg("%s", err.msg);
}

static void must_open(struct rig *r)
{
    struct tg_err err = {.msg = ""};
    if (tg_log_open(&r->config, &r->log, &err) != TG_OK) fail_msg("%s", err.msg);
}

static void test_kept_and_found_again(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 2000, 0), *other = rig_new(10, 0, 0);
    char id[40], other_id[40];
    copy_id(r, id);
    copy_id(other, other_id);
    assert_string_not_equal(id, other_id);
    for (unsigned i = 0; i < 20; i++) assert_int_equal(commit(r, 90, true, NULL), TG_OK);
    assert_true(tg_log_stats(r->log).n_segments > 3);
    rig_reopen(r);
    assert_string_equal(tg_log_id(r->log), id);
    /* without the file the segments say it, and it is written again */
    for (unsigned twice = 0; twice < 2; twice++) {
        close_log(r);
        assert_true(sim_fs_remove(r->sim, ID_FILE));
        must_open(r);
        assert_string_equal(tg_log_id(r->log), id);
        size_t len;
        assert_non_null(sim_fs_bytes(r->sim, ID_FILE, &len));
    }
    /* every damaged byte of the file is seen */
    uint8_t copy[256];
    size_t len;
    const uint8_t *file = sim_fs_bytes(r->sim, ID_FILE, &len);
    assert_true(len < sizeof(copy));
    memcpy(copy, file, len);
    for (size_t i = 0; i < len; i++) {
        copy[i] ^= 4;
        close_log(r);
        assert_true(sim_fs_put(r->sim, ID_FILE, copy, len));
        must_open(r);
        assert_string_equal(tg_log_id(r->log), id);
        assert_int_equal(tg_log_stats(r->log).n_damaged_records, 1);
        copy[i] ^= 4;
    }
    read_all(r, 1000);
    rig_free(r);
    rig_free(other);
}

static void remove_segments(struct rig *r)
{
    char name[256];
    while (sim_fs_nth(r->sim, ".seg", 0, name)) assert_true(sim_fs_remove(r->sim, name));
}

static void test_cursors_say_it_last(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    struct tg_log_cursor *c;
    char id[40];
    copy_id(r, id);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(r->log, "a", false, &c, NULL), TG_OK);
    const struct tg_cursor_state s = tg_log_cursor_get(c);
    assert_true(s.epoch > 0);
    tg_log_cursor_close(c);
    close_log(r);
    /* all was delivered and is gone: positions go on after the cursor, so it is the same log */
    remove_segments(r);
    assert_true(sim_fs_remove(r->sim, ID_FILE));
    must_open(r);
    assert_string_equal(tg_log_id(r->log), id);
    assert_int_equal(tg_log_stats(r->log).end_pos, s.pos);
    close_log(r);
    /* wiped: positions begin at 0, so it is another one */
    assert_true(sim_fs_remove(r->sim, ID_FILE));
    assert_true(sim_fs_remove(r->sim, "/data/log/cursors/a.cur"));
    must_open(r);
    assert_int_equal(tg_log_stats(r->log).end_pos, 0);
    assert_string_not_equal(tg_log_id(r->log), id);
    rig_free(r);
}

static void test_cursor_of_another_log(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    struct tg_log_cursor *c;
    size_t len;
    char name[256];
    for (unsigned i = 0; i < 5; i++) assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(r->log, "a", false, &c, NULL), TG_OK);
    tg_log_cursor_close(c);
    close_log(r);
    uint8_t copy[512];
    const uint8_t *file = sim_fs_bytes(r->sim, "/data/log/cursors/a.cur", &len);
    assert_true(len < sizeof(copy));
    memcpy(copy, file, len);
    /* the folder is wiped, and the cursor put back */
    remove_segments(r);
    assert_true(sim_fs_remove(r->sim, ID_FILE));
    assert_true(sim_fs_remove(r->sim, "/data/log/cursors/a.cur"));
    tg_batch_reset(&r->sent);
    must_open(r);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    close_log(r);
    assert_true(sim_fs_put(r->sim, "/data/log/cursors/a.cur", copy, len));
    must_open(r);
    assert_int_equal(tg_log_cursor_open(r->log, "a", false, &c, NULL), TG_OK);
    const struct tg_cursor_state s = tg_log_cursor_get(c);
    assert_int_equal(s.pos, 0); /* the oldest, whatever `from` says */
    assert_int_equal(s.point_no, 0);
    assert_true(s.epoch > 0);
    assert_true(sim_fs_nth(r->sim, ".bin", 0, name)); /* set aside, not deleted */
    assert_non_null(strstr(name, "/data/log/damaged/cursor-a-"));
    tg_log_cursor_close(c);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK); /* positions did not follow it */
    assert_int_equal(tg_log_stats(r->log).end_point_no, 180);
    read_all(r, 1000);
    rig_free(r);
}

/* Copies the first segment of `from` to the end of the log `to`. */
static void put_foreign(struct rig *from, struct rig *to, char name[64])
{
    size_t len;
    (void)snprintf(name, 64, "/data/log/%020llu.seg",
                   (unsigned long long)tg_log_stats(from->log).end_pos);
    assert_int_equal(commit(from, 90, false, NULL), TG_OK);
    tg_log_close(from->log);
    from->log = NULL;
    const uint8_t *bytes = sim_fs_bytes(from->sim, name, &len);
    assert_non_null(bytes);
    assert_true(sim_fs_put(to->sim, name, bytes, len));
}

static void test_segment_of_another_log(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0), *other = rig_new(100, 0, 0);
    char id[40], name[64];
    copy_id(r, id);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    assert_int_equal(commit(other, 95, false, NULL), TG_OK);
    assert_int_equal(commit(other, 95, false, NULL), TG_OK);
    rig_reopen(other); /* its next segment begins further on */
    close_log(r);
    put_foreign(other, r, name);
    for (unsigned twice = 0; twice < 2; twice++)
        must_not_open(r, TG_ERR_INVALID, "is of another log than the other segments");
    size_t len;
    assert_non_null(sim_fs_bytes(r->sim, name, &len)); /* it is not touched */
    assert_true(len > 100);
    assert_true(sim_fs_remove(r->sim, name)); /* as the message says */
    must_open(r);
    assert_string_equal(tg_log_id(r->log), id);
    read_all(r, 1000);
    rig_free(r);
    rig_free(other);
}

static void test_file_of_another_log(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0), *other = rig_new(100, 0, 0);
    char id[40];
    size_t len;
    copy_id(r, id);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    close_log(r);
    const uint8_t *file = sim_fs_bytes(other->sim, ID_FILE, &len);
    assert_true(sim_fs_put(r->sim, ID_FILE, file, len));
    for (unsigned twice = 0; twice < 2; twice++) {
        must_open(r);
        assert_string_equal(tg_log_id(r->log), id); /* the points are in the segments */
        file = sim_fs_bytes(r->sim, ID_FILE, &len); /* and the file is put right */
        assert_non_null(memmem(file, len, id, strlen(id)));
        read_all(r, 1000);
        close_log(r);
    }
    must_open(r);
    rig_free(r);
    rig_free(other);
}

/* Nothing says whose log it is but segments of two others. */
static void test_segments_of_two_logs(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0), *one = rig_new(100, 0, 0), *two = rig_new(100, 0, 0);
    char first[64], second[64];
    close_log(r);
    remove_segments(r);
    assert_true(sim_fs_remove(r->sim, ID_FILE));
    put_foreign(one, r, first);
    assert_int_equal(commit(two, 95, false, NULL), TG_OK);
    rig_reopen(two); /* its next segment begins further on */
    put_foreign(two, r, second);
    for (unsigned twice = 0; twice < 2; twice++)
        must_not_open(r, TG_ERR_INVALID, "is of another log than the other segments (a third one)");
    size_t len;
    assert_non_null(sim_fs_bytes(r->sim, first, &len)); /* neither is touched */
    assert_non_null(sim_fs_bytes(r->sim, second, &len));
    assert_true(sim_fs_remove(r->sim, second));
    must_open(r);
    rig_free(r);
    rig_free(one);
    rig_free(two);
}

/* All was delivered and is gone but for the id and the cursors, and then somebody puts a segment of
 * another log there: the log stays what it is. */
static void test_only_segment_of_another_log(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0), *other = rig_new(100, 0, 0);
    struct tg_log_cursor *c;
    char id[40], name[64];
    size_t len;
    copy_id(r, id);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(r->log, "a", false, &c, NULL), TG_OK);
    const struct tg_cursor_state before = tg_log_cursor_get(c);
    tg_log_cursor_close(c);
    close_log(r);
    remove_segments(r);
    assert_int_equal(commit(other, 95, false, NULL), TG_OK);
    rig_reopen(other);
    put_foreign(other, r, name);
    for (unsigned twice = 0; twice < 2; twice++) must_not_open(r, TG_ERR_INVALID, "move it away");
    assert_non_null(sim_fs_bytes(r->sim, name, &len)); /* nothing is touched */
    assert_non_null(sim_fs_bytes(r->sim, "/data/log/cursors/a.cur", &len));
    assert_true(sim_fs_remove(r->sim, name)); /* as the message says */
    must_open(r);
    assert_string_equal(tg_log_id(r->log), id);
    assert_int_equal(tg_log_cursor_open(r->log, "a", false, &c, NULL), TG_OK);
    const struct tg_cursor_state s = tg_log_cursor_get(c);
    assert_memory_equal(&s, &before, sizeof(s));
    tg_log_cursor_close(c);
    rig_free(r);
    rig_free(other);
}

/* Segments of former versions do not say whose they are. */
static void test_log_of_a_former_version(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    char id[40];
    size_t len;
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    close_log(r);
    assert_true(sim_fs_remove(r->sim, ID_FILE));
    sim_fs_bytes(r->sim, FIRST, &len)[96] ^= 1; /* as if there were no such record */
    must_open(r);
    copy_id(r, id);
    read_all(r, 1000);
    rig_reopen(r);
    assert_string_equal(tg_log_id(r->log), id);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    close_log(r);
    assert_true(sim_fs_remove(r->sim, ID_FILE));
    must_open(r);
    assert_string_equal(tg_log_id(r->log), id); /* the new segment says it */
    read_all(r, 1000);
    rig_free(r);
}

static uint64_t epoch_after_damage(struct rig *r)
{
    struct tg_log_cursor *c;
    size_t len;
    sim_fs_bytes(r->sim, "/data/log/cursors/a.cur", &len)[20] ^= 1;
    must_open(r);
    assert_int_equal(tg_log_cursor_open(r->log, "a", false, &c, NULL), TG_OK);
    const struct tg_cursor_state s = tg_log_cursor_get(c);
    assert_int_equal(s.pos, 0); /* the oldest */
    tg_log_cursor_close(c);
    assert_int_equal(tg_log_cursor_open(r->log, "b", true, &c, NULL), TG_OK);
    assert_true(tg_log_cursor_get(c).epoch > 0); /* a new one, whatever the other's was */
    tg_log_cursor_close(c);
    close_log(r);
    return s.epoch;
}

/* A cursor's file is damaged when a log of a former version gets its id: what the backend keeps
 * without an id is of this log all the same. */
static void test_damaged_cursor_of_a_former_version(void **state)
{
    (void)state;
    enum { FORMER, HAS_ID, WIPED, CASES }; /* WIPED: but for the cursors */
    for (unsigned i = 0; i < CASES; i++) {
        struct rig *r = rig_new(100, 0, 0);
        struct tg_log_cursor *c;
        size_t len;
        assert_int_equal(commit(r, 90, false, NULL), TG_OK);
        assert_int_equal(tg_log_cursor_open(r->log, "a", false, &c, NULL), TG_OK);
        tg_log_cursor_close(c);
        close_log(r);
        if (i != HAS_ID) assert_true(sim_fs_remove(r->sim, ID_FILE));
        sim_fs_bytes(r->sim, FIRST, &len)[96] ^= 1; /* as if there were no such record */
        if (i == WIPED) remove_segments(r);
        assert_int_equal(epoch_after_damage(r) == 0, i == FORMER);
        if (i == FORMER) assert_true(epoch_after_damage(r) > 0); /* it has an id now */
        must_open(r);
        rig_free(r);
    }
}

/* What cannot be read is not taken for what is not there. */
static void test_unreadable(void **state)
{
    (void)state;
    struct rig *r = rig_new(100, 0, 0);
    struct tg_log_cursor *c;
    char id[40];
    copy_id(r, id);
    assert_int_equal(commit(r, 90, false, NULL), TG_OK);
    assert_int_equal(tg_log_cursor_open(r->log, "a", false, &c, NULL), TG_OK);
    tg_log_cursor_close(c);
    close_log(r);
    r->sim->eio_reads = true;
    must_not_open(r, TG_ERR_IO, "cannot read /data/log/cursors/a.cur");
    r->sim->eio_reads = false;
    assert_true(sim_fs_remove(r->sim, "/data/log/cursors/a.cur"));
    r->sim->eio_reads = true;
    must_not_open(r, TG_ERR_IO, "cannot read /data/log/id");
    r->sim->eio_reads = false;
    assert_true(sim_fs_remove(r->sim, ID_FILE));
    r->sim->eio_reads = true;
    must_not_open(r, TG_ERR_IO, "cannot tell of which log /data/log/00000000000000000000.seg is");
    r->sim->eio_reads = false;
    must_open(r);
    assert_string_equal(tg_log_id(r->log), id);
    rig_free(r);
}

int main(void)
{
    tg_log_set_level(TG_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept_and_found_again),
        cmocka_unit_test(test_cursors_say_it_last),
        cmocka_unit_test(test_cursor_of_another_log),
        cmocka_unit_test(test_segment_of_another_log),
        cmocka_unit_test(test_segments_of_two_logs),
        cmocka_unit_test(test_file_of_another_log),
        cmocka_unit_test(test_only_segment_of_another_log),
        cmocka_unit_test(test_log_of_a_former_version),
        cmocka_unit_test(test_damaged_cursor_of_a_former_version),
        cmocka_unit_test(test_unreadable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
