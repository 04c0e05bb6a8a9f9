/* Files of the log that cannot be opened, read or looked at, once, a few times, or until somebody
 * repairs it; at start and while the gateway runs. What was acknowledged is there afterwards, in
 * order and once, no file was changed because of it, nothing was counted as lost or damaged, and
 * each such failure was said. */
#include <errno.h>
#include <limits.h>

#include "tests/support/capture.h"
#include "tests/support/fault_fs.h"
#include "tests/unit/log/log_rig.h"

enum { N_SERIES = 60, N_COMMITS = 36, PER_COMMIT = 50, SEGMENT_BYTES = 4096, N_CURSORS = 3 };

/* --- a log with three backends: one behind, one in the middle, one at the end --- */

struct backend {
    struct tg_log_cursor *cursor;
    struct tg_log_reader *reader;
    uint64_t no; /* of the next point */
};

struct world {
    struct rig *r; /* its log is closed: what was acknowledged, the table, the files */
    struct fault_fs *ff;
    struct tg_log_config config;
    struct tg_log *log;
    struct backend backends[N_CURSORS];
    struct tg_batch sent;
    bool said;
};

static const char *const cursor_names[N_CURSORS] = {"behind", "middle", "end"};

/* Appends the words of a failure to what was said; there must be some. */
static void note_err(struct world *w, const struct tg_err *err)
{
    assert_true(err->msg[0]);
    w->said = true;
}

static bool open_backend(struct world *w, unsigned i)
{
    struct backend *b = &w->backends[i];
    struct tg_err err = {.msg = ""};
    if (!b->cursor && tg_log_cursor_open(w->log, cursor_names[i], true, &b->cursor, &err) != TG_OK)
        note_err(w, &err);
    if (!b->cursor) return false;
    const struct tg_cursor_state s = tg_log_cursor_get(b->cursor);
    if (!b->reader) {
        if (tg_log_reader_open(w->log, s.pos, &b->reader, &err) != TG_OK) {
            note_err(w, &err);
            return false;
        }
        tg_log_reader_expect(b->reader, s.point_no);
        b->no = s.point_no;
    }
    return true;
}

/* As a delivery does: reads until nothing comes or it fails; then it goes back to where its cursor
 * is. false: it failed. */
static bool deliver(struct world *w, unsigned i, unsigned max_reads)
{
    struct backend *b = &w->backends[i];
    if (!open_backend(w, i)) return false;
    struct tg_cursor_state s = tg_log_cursor_get(b->cursor);
    while (max_reads--) {
        struct tg_batch batch;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        struct tg_err err = {.msg = ""};
        tg_batch_init(&batch, NULL, 0, 0);
        const enum tg_code code = tg_log_reader_read(b->reader, &batch, 40, &rd, &dict, &err);
        if (code == TG_OK) {
            if (rd.n_lost) fail_msg("%s: %lu points lost", cursor_names[i], rd.n_lost);
            assert_int_equal(rd.from_point_no, b->no);
            for (uint32_t k = 0; k < batch.n_points; k++)
                assert_true(lf_equal(&batch.points[k], &w->sent.points[b->no + k]));
            b->no += batch.n_points;
            assert_int_equal(rd.to_point_no, b->no);
        } else {
            note_err(w, &err);
            assert_int_equal(batch.n_points, 0);
        }
        tg_segment_dict_unref(dict);
        tg_batch_deinit(&batch);
        if (code != TG_OK) {
            if (tg_log_reader_seek(b->reader, s.pos, &err) != TG_OK) note_err(w, &err);
            tg_log_reader_expect(b->reader, s.point_no);
            b->no = s.point_no;
            return false;
        }
        s.n_delivered += rd.to_point_no - s.point_no;
        s.pos = rd.to_pos;
        s.point_no = rd.to_point_no;
        if (tg_log_cursor_set(b->cursor, &s, true, &err) != TG_OK) note_err(w, &err);
        if (rd.from_pos == rd.to_pos) break;
    }
    return true;
}

static void world_commit(struct world *w)
{
    struct tg_batch b, *list = &b;
    uint64_t pos;
    struct tg_err err = {.msg = ""};
    tg_batch_init(&b, NULL, 0, 0);
    w->r->t += SECOND;
    lf_mixed(&w->r->f, &b, PER_COMMIT, w->r->t);
    if (tg_log_commit(w->log, &list, 1, &pos, &err) == TG_OK)
        lf_append(&w->sent, &b);
    else
        note_err(w, &err);
    tg_batch_deinit(&b);
}

static void close_all(struct world *w)
{
    for (unsigned i = 0; i < N_CURSORS; i++) {
        tg_log_reader_close(w->backends[i].reader);
        tg_log_cursor_close(w->backends[i].cursor);
        w->backends[i] = (struct backend){0};
    }
    tg_log_close(w->log);
    w->log = NULL;
}

/* Files like base's, nothing acknowledged but what base has; the log is closed. */
static struct world *world_new(struct rig *base)
{
    struct world *w = tg_calloc(1, sizeof(*w));
    assert_non_null(w);
    w->r = tg_calloc(1, sizeof(*w->r));
    assert_non_null(w->r);
    w->r->f = base->f; /* borrowed */
    w->r->sim = sim_fs_clone(base->sim);
    w->r->t = base->t;
    w->ff = fault_fs_new(&w->r->sim->fs);
    w->config = base->config;
    w->config.fs = &w->ff->fs;
    tg_batch_init(&w->sent, NULL, 0, 0);
    lf_append(&w->sent, &base->sent);
    return w;
}

static void world_free(struct world *w)
{
    fault_fs_free(w->ff);
    sim_fs_free(w->r->sim);
    tg_batch_deinit(&w->sent);
    tg_free(w->r);
    tg_free(w);
}

static struct rig *base_new(void)
{
    struct rig *r = rig_new(N_SERIES, SEGMENT_BYTES, 0);
    struct tg_log_cursor *c[N_CURSORS];
    struct tg_log_reader *reader;
    for (unsigned i = 0; i < N_CURSORS; i++)
        assert_int_equal(tg_log_cursor_open(r->log, cursor_names[i], true, &c[i], NULL), TG_OK);
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    for (unsigned i = 0; i < N_COMMITS; i++) {
        assert_int_equal(commit(r, PER_COMMIT, true, NULL), TG_OK);
        if (i == N_COMMITS / 2) advance(r, c[1], reader);
    }
    tg_log_reader_close(reader);
    assert_int_equal(tg_log_reader_open(r->log, 0, &reader, NULL), TG_OK);
    advance(r, c[2], reader);
    tg_log_reader_close(reader);
    for (unsigned i = 0; i < N_CURSORS; i++) tg_log_cursor_close(c[i]);
    assert_true(tg_log_stats(r->log).n_segments >= 5);
    tg_log_close(r->log);
    r->log = NULL;
    sim_fs_power_loss(r->sim, SIM_KEEP_ALL);
    return r;
}

/* --- the cases --- */

struct file_class {
    char in_path[256];
    unsigned ops;
};
enum { MAX_CLASSES = 12 };

static unsigned list_classes(struct rig *base, struct file_class *out)
{
    const unsigned file_ops = FAULT_OPEN | FAULT_READ | FAULT_STAT | FAULT_FSTAT | FAULT_ENTRY;
    unsigned n_segments = 0, n = 0;
    char path[256];
    while (sim_fs_nth(base->sim, ".seg", n_segments, path)) n_segments++;
    for (unsigned i = 0; i < 3; i++) { /* the first, one between, the last */
        const unsigned which = i * (n_segments - 1) / 2;
        assert_true(sim_fs_nth(base->sim, ".seg", which, out[n].in_path));
        out[n++].ops = file_ops;
    }
    (void)snprintf(out[n].in_path, sizeof(path), ".seg"); /* whichever comes first */
    out[n++].ops = file_ops;
    for (unsigned i = 0; i < N_CURSORS; i++) {
        (void)snprintf(out[n].in_path, sizeof(path), "/cursors/%s.cur", cursor_names[i]);
        out[n++].ops = FAULT_OPEN | FAULT_READ | FAULT_FSTAT | FAULT_ENTRY;
    }
    (void)snprintf(out[n].in_path, sizeof(path), "/data/log"); /* all there is */
    out[n++].ops = file_ops | FAULT_LIST | FAULT_LIST_MID;
    (void)snprintf(out[n].in_path, sizeof(path), "/cursors");
    out[n++].ops = FAULT_LIST | FAULT_LIST_MID;
    (void)snprintf(out[n].in_path, sizeof(path), "/lock");
    out[n++].ops = FAULT_OPEN;
    assert_true(n <= MAX_CLASSES);
    return n;
}

static const int errnums[] = {EACCES, EMFILE, EIO, ENFILE, EPERM, ELOOP, ENOTDIR, ENOMEM};
static const unsigned durations[] = {1, 3, UINT_MAX};

typedef void (*case_fn)(struct world *w, const struct file_class *k, unsigned op, int errnum,
                        unsigned times);

static void for_each_case(struct rig *base, case_fn fn)
{
    struct file_class classes[MAX_CLASSES];
    const unsigned n = list_classes(base, classes);
    unsigned n_met = 0;
    static uint64_t now_s = 1750000000;
    static char text[64 << 10];
    for (unsigned c = 0; c < n; c++) {
        for (unsigned op = 1; op <= FAULT_ENTRY; op <<= 1) {
            if (!(classes[c].ops & op)) continue;
            for (size_t e = 0; e < sizeof(errnums) / sizeof(*errnums); e++) {
                for (size_t d = 0; d < sizeof(durations) / sizeof(*durations); d++) {
                    struct world *w = world_new(base);
                    capture_begin();
                    now_s += 10; /* messages of one place are held to so many a second */
                    tg_clock_set_test((int64_t)now_s * SECOND, now_s * (uint64_t)SECOND);
                    fn(w, &classes[c], op, errnums[e], durations[d]);
                    capture_end(text, sizeof(text));
                    const bool said = text[0] || w->said;
                    const unsigned hits = w->ff->hits;
                    n_met += hits > 0;
                    if (hits && !said)
                        fail_msg("%s, operation %u, error %d, %u times: not a word about it",
                                 classes[c].in_path, op, errnums[e], hits);
                    world_free(w);
                }
            }
        }
    }
    tg_clock_set_test(-1, 0);
    assert_true(n_met > 100); /* the faults are really there */
}

/* No byte of a segment or cursor that base has differs. */
static void check_unchanged(struct rig *base, struct world *w)
{
    static const char *const kinds[] = {".seg", ".cur"};
    char path[256];
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; sim_fs_nth(base->sim, kinds[k], i, path); i++) {
            size_t a, b;
            const uint8_t *x = sim_fs_bytes(base->sim, path, &a);
            const uint8_t *y = sim_fs_bytes(w->r->sim, path, &b);
            if (a != b || !y || memcmp(x, y, a) != 0) fail_msg("%s was changed", path);
        }
    }
}

/* All is well again: everything that was acknowledged comes, also after one more start. */
static void check_repaired(struct world *w)
{
    struct tg_err err = {.msg = ""};
    char path[256];
    if (!w->log && tg_log_open(&w->config, &w->log, &err) != TG_OK) fail_msg("%s", err.msg);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 3; i++) {
            const uint32_t before = w->sent.n_points;
            world_commit(w);
            assert_int_equal(w->sent.n_points, before + PER_COMMIT);
        }
        for (unsigned i = 0; i < N_CURSORS; i++) {
            assert_true(deliver(w, i, UINT_MAX));
            assert_int_equal(w->backends[i].no, w->sent.n_points);
            const struct tg_cursor_state s = tg_log_cursor_get(w->backends[i].cursor);
            assert_int_equal(s.point_no - s.first_point_no, s.n_delivered);
        }
        const struct tg_log_stats st = tg_log_stats(w->log);
        assert_int_equal(st.end_point_no, w->sent.n_points);
        assert_int_equal(st.n_damaged_records, 0);
        assert_int_equal(st.n_damaged_bytes, 0);
        close_all(w);
        assert_int_equal(tg_log_open(&w->config, &w->log, NULL), TG_OK);
    }
    /* from the oldest: nothing was given twice either */
    struct tg_log_reader *reader;
    assert_int_equal(tg_log_reader_open(w->log, 0, &reader, NULL), TG_OK);
    tg_log_reader_close(w->backends[0].reader);
    assert_true(open_backend(w, 0));
    tg_log_reader_close(w->backends[0].reader);
    w->backends[0].reader = reader;
    w->backends[0].no = 0;
    assert_true(deliver(w, 0, UINT_MAX));
    assert_int_equal(w->backends[0].no, w->sent.n_points);
    if (sim_fs_nth(w->r->sim, ".bin", 0, path)) fail_msg("%s was set aside", path);
    close_all(w);
}

static struct rig *base;

static void at_start(struct world *w, const struct file_class *k, unsigned op, int errnum,
                     unsigned times)
{
    struct tg_err err = {.msg = ""};
    fault_fs_set(w->ff, op, k->in_path, errnum, times);
    if (tg_log_open(&w->config, &w->log, &err) != TG_OK) {
        note_err(w, &err);
        check_unchanged(base, w);
    } else {
        for (unsigned round = 0; round < 3; round++) {
            for (unsigned i = 0; i < N_CURSORS; i++) (void)deliver(w, i, 5);
            world_commit(w);
        }
    }
    (void)fault_fs_repair(w->ff);
    check_repaired(w);
}

static void while_running(struct world *w, const struct file_class *k, unsigned op, int errnum,
                          unsigned times)
{
    assert_int_equal(tg_log_open(&w->config, &w->log, NULL), TG_OK);
    for (unsigned i = 0; i < N_CURSORS; i++) assert_true(deliver(w, i, 2));
    world_commit(w);
    fault_fs_set(w->ff, op, k->in_path, errnum, times);
    for (unsigned round = 0; round < 8; round++) { /* more than a segment */
        for (unsigned i = 0; i < N_CURSORS; i++) (void)deliver(w, i, 6);
        world_commit(w);
    }
    struct tg_cursor_state s;
    struct tg_err err = {.msg = ""};
    if (tg_log_find_time(w->log, w->r->t - 3 * SECOND, &s, &err) != TG_OK) note_err(w, &err);
    const bool stop = errnum == EACCES; /* and it is stopped with the fault still there */
    if (stop) close_all(w);
    (void)fault_fs_repair(w->ff);
    check_repaired(w);
}

static void test_at_start(void **state)
{
    (void)state;
    for_each_case(base, at_start);
}

static void test_while_running(void **state)
{
    (void)state;
    for_each_case(base, while_running);
}

/* Appends what is no record to the last segment, or puts it where the next one would begin. */
static void put_garbage(struct world *w, bool own_file, char path[256], uint8_t *garbage, size_t n)
{
    static uint8_t bytes[64 << 10];
    size_t len;
    unsigned k = 0;
    while (sim_fs_nth(w->r->sim, ".seg", k, path)) k++;
    assert_true(k > 0 && sim_fs_nth(w->r->sim, ".seg", k - 1, path));
    const uint8_t *seen = sim_fs_bytes(w->r->sim, path, &len);
    assert_true(len + n <= sizeof(bytes));
    memcpy(bytes, seen, len);
    memset(garbage, 0x5a, n);
    memcpy(bytes + len, garbage, n);
    if (own_file) {
        unsigned long start;
        assert_int_equal(sscanf(path, "/data/log/%lu.seg", &start), 1);
        (void)snprintf(path, 256, "/data/log/%020lu.seg", start + len);
        assert_true(sim_fs_put(w->r->sim, path, garbage, n));
    } else {
        assert_true(sim_fs_put(w->r->sim, path, bytes, len + n));
    }
}

/* A torn end, or a file that is no segment, is taken away only after a copy was made of what is in
 * it; a copy that could not be read is none. */
static void test_nothing_unread_is_taken_away(void **state)
{
    (void)state;
    enum { GARBAGE = 9000 };
    static uint8_t garbage[GARBAGE];
    unsigned n_hit = 0;
    for (unsigned own_file = 0; own_file < 2; own_file++) {
        for (unsigned skip = 0; skip < 12; skip++) {
            struct world *w = world_new(base);
            char path[256], aside[256];
            static char text[64 << 10];
            struct tg_err err = {.msg = ""};
            size_t before, after, n_aside = 0;
            put_garbage(w, own_file, path, garbage, GARBAGE);
            (void)sim_fs_bytes(w->r->sim, path, &before);
            fault_fs_set(w->ff, FAULT_READ, path, EIO, 1);
            w->ff->skip = skip;
            capture_begin();
            if (tg_log_open(&w->config, &w->log, &err) != TG_OK)
                assert_non_null(strstr(err.msg, path));
            capture_end(text, sizeof(text));
            n_hit += fault_fs_repair(w->ff);
            (void)sim_fs_bytes(w->r->sim, path, &after);
            if (sim_fs_nth(w->r->sim, ".bin", 0, aside)) {
                const uint8_t *copy = sim_fs_bytes(w->r->sim, aside, &n_aside);
                assert_int_equal(n_aside, GARBAGE);
                assert_memory_equal(copy, garbage, GARBAGE);
            }
            if (after < before) assert_int_equal(n_aside, GARBAGE);
            tg_log_close(w->log);
            capture_begin();
            assert_int_equal(tg_log_open(&w->config, &w->log, NULL), TG_OK);
            capture_end(text, sizeof(text));
            for (unsigned i = 0; i < N_CURSORS; i++) {
                assert_true(deliver(w, i, UINT_MAX));
                assert_int_equal(w->backends[i].no, w->sent.n_points);
            }
            close_all(w);
            world_free(w);
        }
    }
    assert_true(n_hit > 6);
}

static int set_up(void **state)
{
    (void)state;
    base = base_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_free(base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_at_start, capture_give_back),
        cmocka_unit_test_teardown(test_while_running, capture_give_back),
        cmocka_unit_test_teardown(test_nothing_unread_is_taken_away, capture_give_back),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
