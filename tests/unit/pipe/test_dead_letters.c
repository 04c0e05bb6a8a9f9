/* Dead letters of a gateway: what stands in their file, its limit, and a disk that fails. */
#include <math.h>

#include "core/base/metric.h"
#include "core/pipe/deadletter.h"
#include "tests/support/capture.h"
#include "tests/unit/pipe/gateway_fixture.h"

/* Power went in the middle of a line: what comes next has a line of its own. */
static void test_dead_letters_after_a_torn_line(void **state)
{
    struct fixture *f = *state;
    char path[160], line[1024];
    assert_int_equal(mkdir(f->dead, 0750), 0);
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    write_file(path, "{\"at\":\"2026-01-0");
    start(f);
    assert_int_equal(post(f, "m v=-1i 1\n"), 204);
    wait_empty(f, 0);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_string_equal(line, "{\"at\":\"2026-01-0\n");
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_non_null(strstr(line, "negative values are refused"));
    (void)fclose(letters);
}

/* A dead letter holds the value, whatever bytes it has. */
static void test_dead_letter_of_a_text_that_is_not_utf8(void **state)
{
    struct fixture *f = *state;
    char path[160], line[1024];
    start(f);
    assert_int_equal(post(f, "m,unprepared=1 s=\"a\xff\" 1\n"), 204);
    wait_empty(f, 0);
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_non_null(strstr(line, "\"type\":\"string\",\"value\":{\"hex\":\"61ff\"}"));
    (void)fclose(letters);
}

/* Tags with long names, as limits.tag_key_bytes may allow, are those that came. */
static void test_dead_letter_of_long_tag_names(void **state)
{
    enum { KEY = 1500 };
    struct fixture *f = *state;
    static char line[8192], key[KEY + 1], tag[KEY + 32];
    char path[160];
    f->config.limits.series_limits.max_key_bytes = 4096;
    start(f);
    memset(key, 'k', KEY);
    (void)snprintf(line, sizeof(line), "m,%s1=a,%s2=b,unprepared=1 v=1i 1\n", key, key);
    assert_int_equal(post(f, line), 204);
    wait_empty(f, 0);
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    assert_non_null(fgets(line, sizeof(line), letters));
    (void)fclose(letters);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(tag, sizeof(tag), "\"%s%d\":\"%c\"", key, i + 1, 'a' + i);
        assert_non_null(strstr(line, tag));
    }
}

/* Exemplars are part of what a point is, and their labels may hold any byte. */
static void test_dead_letter_with_exemplars(void **state)
{
    struct fixture *f = *state;
    static char line[1024];
    char path[160];
    struct tg_err err = {.msg = ""};
    struct tg_dead_letters *d;
    struct tg_series *s;
    struct tg_series_desc desc = {.name = "m", .name_len = 1, .unit = ""};
    const struct tg_string labels[] = {{"k\0", 2}, {"v\0\xff", 3}};
    const struct tg_exemplar e = {.ts_ns = 7, .value = 0.5, .n_labels = 1, .labels = labels};
    const struct tg_exemplars list = {1, &e};
    const double counts[] = {0.5, INFINITY};
    const struct tg_float_histogram h = {.count = 2.5,
                                         .sum = NAN,
                                         .scale = TG_SCALE_CUSTOM,
                                         .n_pos = 2,
                                         .n_bounds = 1,
                                         .pos = counts,
                                         .bounds = counts};
    struct tg_table *table = tg_table_new(&(struct tg_table_config){.max_series = 0});
    assert_non_null(table);
    assert_int_equal(tg_table_intern(table, &desc, &s, &err), TG_OK);
    const struct tg_point points[] = {
        {.series = s, .ts_ns = 7, .type = TG_VALUE_EXEMPLARS, .exemplars = &list},
        {.series = s, .ts_ns = 8, .type = TG_VALUE_INT64, .value.i64 = 3, .exemplars = &list},
        {.series = s,
         .ts_ns = 9,
         .type = TG_VALUE_FLOAT_HISTOGRAM,
         .flags = TG_POINT_RESET_GAUGE,
         .value.float_histogram = &h}};
    assert_int_equal(tg_dead_letters_new(NULL, f->dead, "x", 0, &d, &err), TG_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(tg_dead_letters_add(d, table, &points[i], "why", &err), TG_OK);
    assert_int_equal(tg_dead_letters_commit(d, &err), TG_OK);
    for (uint64_t n = 1, fired = true; fired; n++) { /* whole or not at all */
        tg_mem_fail_at(n);
        const enum tg_code code = tg_dead_letters_add(d, table, &points[0], "why", &err);
        fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        if (fired) assert_int_equal(tg_dead_letters_pending(d), 0);
    }
    tg_dead_letters_free(d);
    tg_table_free(table);
    (void)snprintf(path, sizeof(path), "%s/x.jsonl", f->dead);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    static const char *const values[] = {"\"type\":\"exemplars\",\"value\":null,",
                                         "\"type\":\"int64\",\"value\":3,"};
    for (int i = 0; i < 2; i++) {
        assert_non_null(fgets(line, sizeof(line), letters));
        assert_non_null(strstr(line, values[i]));
        assert_non_null(strstr(line, ",\"exemplars\":[{\"time\":7,\"value\":0.5,\"labels\":{"
                                     "\"k\\u0000\":\"v\\u0000\xef\xbf\xbd\"}}]}\n"));
    }
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_non_null(strstr(line,
                           "\"type\":\"float_histogram\",\"value\":{\"count\":2.5,\"sum\":\"NaN\","
                           "\"scale\":-53,\"zero_count\":0.0,\"zero_threshold\":0.0,"
                           "\"positive_offset\":0,\"positive_counts\":[0.5,\"+Inf\"],"
                           "\"negative_offset\":0,\"negative_counts\":[],\"bounds\":[0.5]},"
                           "\"reset_hint\":\"gauge\"}\n"));
    (void)fclose(letters);
}

/* --- the limit --- */

enum { MAX_TIMES = 1000 };
struct letters {
    unsigned n, of_time[MAX_TIMES];
};

/* Moves a.jsonl out of the way, as an operator does, and says how large it was. */
static long move_letters(const struct fixture *f)
{
    static unsigned n_moved;
    char path[160], aside[180];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    (void)snprintf(aside, sizeof(aside), "%s.%u", path, n_moved);
    if (stat(path, &st) != 0) return 0;
    assert_int_equal(rename(path, aside), 0);
    n_moved++;
    return (long)st.st_size;
}

/* All lines of all that was moved: a line may get to its file when that was moved already. Moved
 * files are removed. */
static void read_letters(const struct fixture *f, struct letters *l)
{
    char command[300], line[4096];
    memset(l, 0, sizeof(*l));
    (void)move_letters(f);
    (void)snprintf(command, sizeof(command), "cat %s/a.jsonl.* && rm %s/a.jsonl.*", f->dead,
                   f->dead);
    FILE *in = popen(command, "r");
    assert_non_null(in);
    while (fgets(line, sizeof(line), in)) {
        const char *at = strstr(line, "\"time_ns\":");
        assert_non_null(at);
        assert_non_null(strchr(line, '\n'));
        const long time = strtol(at + strlen("\"time_ns\":"), NULL, 10);
        assert_in_range(time, 1, MAX_TIMES - 1);
        l->of_time[time]++;
        l->n++;
    }
    assert_int_equal(pclose(in), 0);
}

static void assert_letters(const struct letters *l, int first, int last, unsigned times)
{
    for (int i = first; i <= last; i++)
        if (l->of_time[i] != times)
            fail_msg("point %d is a dead letter %u times, not %u", i, l->of_time[i], times);
}

static void wait_stalled(const struct fixture *f, unsigned backend, const char *words)
{
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    struct tg_gateway_status *s = malloc(sizeof(*s));
    do {
        if (tg_clock_mono_ms() > deadline_ms) fail_msg("it does not stall: %s", words);
        tg_gateway_status(f->g, s);
        (void)usleep(1000);
    } while (s->backends[backend].state != TG_DELIVERY_STALLED ||
             !strstr(s->backends[backend].last_error, words));
    free(s);
}

static bool metric_says(const char *line)
{
    struct tg_buf text;
    tg_buf_init(&text, 0);
    assert_int_equal(tg_metric_render(&text), TG_OK);
    assert_int_equal(tg_buf_append(&text, "", 1), TG_OK);
    const bool is_there = strstr((const char *)text.data, line) != NULL;
    tg_buf_deinit(&text);
    return is_there;
}

/* More refused points at once than the file may hold: as many as fit are kept, then it waits for
 * room; nothing is delivered or kept twice for that. */
static void test_more_dead_letters_than_the_limit(void **state)
{
    enum { LIMIT = 2500 };
    struct fixture *f = *state;
    static struct letters l;
    f->config.max_dead_letter_bytes = LIMIT;
    atomic_store(&sinks[0].down, true); /* so that it all comes as one delivery */
    start(f);
    post_range(f, 1, 40, "");
    post_range(f, 41, 70, ",unprepared=1");
    assert_int_equal(post(f, "m v=-1i 71\nm v=-2i 72\n"), 204);
    post_range(f, 73, 100, ",unprepared=1");
    stop(f);
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_stalled(f, 0, "move the file away");
    assert_true(metric_says("tidegate_backend_dead_letters_full{backend=\"a\"} 1"));
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (ledger(f, 0).waiting > 0) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        assert_true(move_letters(f) <= LIMIT);
        (void)usleep(5000);
    }
    read_letters(f, &l);
    assert_int_equal(l.n, 60);
    assert_letters(&l, 41, 100, 1);
    assert_seen(0, 1, 40, 1);
    assert_int_equal(ledger(f, 0).dead_lettered, 60);
    assert_int_equal(ledger(f, 0).delivered, 40);
    assert_true(metric_says("tidegate_backend_dead_letters_full{backend=\"a\"} 0"));
}

/* A stall is tried again many times a minute and said once. */
static void test_a_stall_is_said_once(void **state)
{
    struct fixture *f = *state;
    static char said[1 << 16];
    f->config.max_dead_letter_bytes = 600;
    sinks[0].skips_negative = true;
    start(f);
    capture_begin();
    for (int i = 1; i <= 8; i++) {
        char line[64];
        (void)snprintf(line, sizeof(line), "m v=%di %d\n", -i, i);
        assert_int_equal(post(f, line), 204);
    }
    wait_stalled(f, 0, "move the file away");
    struct tg_gateway_status *s = malloc(sizeof(*s));
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    do {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)usleep(1000);
        tg_gateway_status(f->g, s);
    } while (s->backends[0].n_retries < 5);
    free(s);
    capture_end(said, sizeof(said));
    const char *first = strstr(said, "a: stalled, will try again");
    assert_non_null(first);
    assert_null(strstr(first + 1, "a: stalled, will try again"));
    while (ledger(f, 0).waiting > 0) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)move_letters(f);
        (void)usleep(5000);
    }
}

/* Points that a write skipped are not written again with those that it took. */
static void test_skipped_points_at_the_limit(void **state)
{
    struct fixture *f = *state;
    static struct letters l;
    f->config.max_dead_letter_bytes = 1200;
    sinks[0].skips_negative = true;
    start(f);
    static char text[8192];
    size_t n = 0;
    for (int i = 1; i <= 60; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "m v=%di %d\n", i % 3 ? i : -i, i);
    assert_int_equal(post(f, text), 204);
    wait_stalled(f, 0, "move the file away");
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (ledger(f, 0).waiting > 0) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)move_letters(f);
        (void)usleep(5000);
    }
    read_letters(f, &l);
    for (int i = 1; i <= 60; i++) {
        assert_seen(0, i, i, i % 3 ? 1 : 0);
        assert_letters(&l, i, i, i % 3 ? 0 : 1);
    }
    assert_int_equal(ledger(f, 0).delivered, 40);
}

/* Writes that go well do not make the waits for room short again. */
static void test_skipped_points_wait_longer_each_time(void **state)
{
    struct fixture *f = *state;
    f->config.max_dead_letter_bytes = 150;
    f->backends[0].retry_max_ms = 60000;
    sinks[0].skips_negative = true;
    start(f);
    assert_int_equal(post(f, "m v=-1i 1\n"), 204);
    wait_stalled(f, 0, "more than the whole limit");
    const unsigned n_writes = atomic_load(&sinks[0].n_writes);
    const uint64_t began_ms = tg_clock_mono_ms();
    WAIT_UNTIL(atomic_load(&sinks[0].n_writes) >= n_writes + 9);
    /* half of 4, 8 ... 512 ms at least; the first wait, of 2 ms, may have begun before */
    assert_true(tg_clock_mono_ms() - began_ms >= (4 << 8) / 2 - 2);
}

static void test_dead_letter_larger_than_the_limit(void **state)
{
    struct fixture *f = *state;
    f->config.max_dead_letter_bytes = 150;
    start(f);
    assert_int_equal(post(f, "m,unprepared=1 v=1i 1\n"), 204);
    wait_stalled(f, 0, "more than the whole limit of 150 bytes (dead_letters.max_bytes)");
    assert_true(metric_says("tidegate_backend_dead_letters_full{backend=\"a\"} 1"));
    assert_int_equal(ledger(f, 0).waiting, 1);
    stop(f);
    f->config.max_dead_letter_bytes = 1500;
    start(f);
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).dead_lettered, 1);
}

/* --- what has no form --- */

/* Neither a whole series nor a point that the backend has no form for is kept, and no limit of dead
 * letters is reached for it. */
static void test_inexpressible_points(void **state)
{
    struct fixture *f = *state;
    char path[160];
    struct stat st;
    f->config.max_dead_letter_bytes = 150; /* not one would fit */
    atomic_store(&sinks[0].down, true);    /* so that it all comes as one delivery */
    start(f);
    assert_int_equal(post(f, "m v=1i 1\nm t=\"?text\" 2\nm v=3i 3\nm,formless=1 v=4i 4\n"
                             "m,formless=1 t=\"?text\" 5\nm t=\"?more\" 6\n"),
                     204);
    stop(f);
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    for (int i = 1; i <= 6; i++) assert_seen(0, i, i, i == 1 || i == 3 ? 1 : 0);
    assert_int_equal(ledger(f, 0).delivered, 2);
    assert_int_equal(ledger(f, 0).inexpressible, 4);
    assert_int_equal(ledger(f, 0).dead_lettered, 0);
    assert_true(metric_says(
        "tidegate_backend_points_inexpressible_total{backend=\"a\",kind=\"text\"} 3\n"));
    assert_true(metric_says(
        "tidegate_backend_points_inexpressible_total{backend=\"a\",kind=\"other\"} 1\n"));
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    assert_int_equal(stat(path, &st), -1);
    stop(f);
    start(f); /* the count is the cursor's, not of this run */
    assert_int_equal(ledger(f, 0).inexpressible, 4);
}

/* Parts of points that were delivered are counted once: not by writes that failed or were refused,
 * and not again when dead letters beside them wait for room. */
static void test_parts_left_out_are_counted_once(void **state)
{
#define PARTS "tidegate_backend_parts_left_out_total{backend=\"a\",part=\"bytes\"} "
    struct fixture *f = *state;
    f->config.max_dead_letter_bytes = 600; /* two */
    sinks[0].skips_negative = true;
    atomic_store(&sinks[0].down, true);
    start(f);
    assert_int_equal(post(f, "m v=-1i 1\nm t=\"~one\" 2\nm v=-3i 3\nm t=\"~two\" 4\n"
                             "m v=-5i 5\nm v=-6i 6\nm t=\"~three\" 7\n"),
                     204);
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (atomic_load(&sinks[0].n_writes) < 3 && tg_clock_mono_ms() < deadline_ms)
        (void)usleep(1000);
    assert_true(metric_says(PARTS "0\n"));
    atomic_store(&sinks[0].down, false);
    wait_stalled(f, 0, "move the file away");
    while (ledger(f, 0).waiting > 0) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)move_letters(f);
        (void)usleep(5000);
    }
    assert_int_equal(ledger(f, 0).dead_lettered, 4);
    for (int i = 2; i <= 7; i += i == 2 ? 2 : 3) assert_seen(0, i, i, 1);
    assert_true(metric_says(PARTS "3\n"));
    assert_int_equal(post(f, "m t=\"~four\" 8\n"), 204); /* and when all goes well */
    wait_empty(f, 0);
    assert_true(metric_says(PARTS "4\n"));
}

/* With dead letters that do not fit beside them they are counted once, whatever comes again. */
static void test_inexpressible_points_beside_a_stall(void **state)
{
    struct fixture *f = *state;
    f->config.max_dead_letter_bytes = 600; /* two */
    sinks[0].skips_negative = true;
    atomic_store(&sinks[0].down, true);
    start(f);
    assert_int_equal(post(f, "m v=-1i 1\nm t=\"?text\" 2\nm v=-3i 3\nm,formless=1 v=4i 4\n"
                             "m v=-5i 5\nm v=-6i 6\nm v=7i 7\n"),
                     204);
    stop(f);
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_stalled(f, 0, "move the file away");
    const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
    while (ledger(f, 0).waiting > 0) {
        assert_true(tg_clock_mono_ms() < deadline_ms);
        (void)move_letters(f);
        (void)usleep(5000);
    }
    assert_int_equal(ledger(f, 0).inexpressible, 2);
    assert_int_equal(ledger(f, 0).dead_lettered, 4);
    assert_int_equal(ledger(f, 0).delivered, 1);
    assert_seen(0, 7, 7, 1);
}

/* A series that is not routed here any more goes by what the rules say of it now, and has no form
 * then either. */
static void test_inexpressible_points_routed_elsewhere_since(void **state)
{
    struct fixture *f = *state;
    atomic_store(&sinks[0].down, true);
    start(f);
    assert_int_equal(post(f, "m,formless=1 v=1i 1\nm,unprepared=1 v=2i 2\n"), 204);
    stop(f);
    write_file(f->routing, "return function(s) return to('b') end");
    atomic_store(&sinks[0].down, false);
    start(f);
    wait_empty(f, 0);
    assert_int_equal(ledger(f, 0).inexpressible, 1);
    assert_int_equal(ledger(f, 0).dead_lettered, 1);
}

/* --- a disk that fails --- */

static struct tg_fs failing_fs;
static _Atomic bool syncs_fail, truncates_fail;
static _Atomic unsigned n_failed_syncs;
static _Atomic int letters_fd;

static int failing_open(void *self, const char *path, unsigned flags)
{
    const int fd = tg_fs_real()->open(self, path, flags);
    if (fd >= 0 && strstr(path, "a.jsonl")) atomic_store(&letters_fd, fd);
    return fd;
}

static int failing_datasync(void *self, int fd)
{
    if (fd == atomic_load(&letters_fd) && atomic_load(&syncs_fail)) {
        atomic_fetch_add(&n_failed_syncs, 1);
        return -EIO;
    }
    return tg_fs_real()->datasync(self, fd);
}

static int failing_truncate(void *self, int fd, uint64_t len)
{
    if (fd == atomic_load(&letters_fd) && atomic_load(&truncates_fail)) return -EIO;
    return tg_fs_real()->truncate(self, fd, len);
}

/* Nothing counts that may not be on disk, and what was not confirmed is not there twice. */
static void test_dead_letters_that_cannot_be_synced(void **state)
{
    struct fixture *f = *state;
    failing_fs = *tg_fs_real();
    failing_fs.open = failing_open;
    failing_fs.datasync = failing_datasync;
    failing_fs.truncate = failing_truncate;
    for (int round = 0; round < 2; round++) {
        static struct letters l;
        if (round == 1) {
            atomic_store(&truncates_fail, true); /* it cannot be cut back at once either */
            stop(f);
        }
        f->config.log.fs = &failing_fs;
        atomic_store(&letters_fd, -1);
        atomic_store(&n_failed_syncs, 0);
        start(f);
        assert_int_equal(post(f, "m,unprepared=1 v=1i 1\n"), 204);
        wait_empty(f, 0);
        const uint64_t n_dead = ledger(f, 0).dead_lettered;
        atomic_store(&syncs_fail, true);
        assert_int_equal(post(f, "m,unprepared=1 v=1i 2\nm,unprepared=1 v=1i 3\n"), 204);
        wait_stalled(f, 0, round ? "cannot take back" : "cannot sync");
        WAIT_UNTIL(atomic_load(&n_failed_syncs) >= (round ? 1 : 2));
        assert_int_equal(ledger(f, 0).dead_lettered, n_dead);
        atomic_store(&syncs_fail, false);
        atomic_store(&truncates_fail, false);
        wait_empty(f, 0);
        assert_int_equal(ledger(f, 0).dead_lettered, n_dead + 2);
        read_letters(f, &l);
        assert_int_equal(l.n, 3);
        assert_letters(&l, 1, 3, 1);
    }
}

static _Atomic uint64_t letters_limit;

static int64_t failing_pwrite(void *self, int fd, const void *buf, size_t len, uint64_t off)
{
    const uint64_t limit = fd == atomic_load(&letters_fd) ? atomic_load(&letters_limit) : 0;
    if (limit && off + len > limit) {
        if (off >= limit) return -EFBIG;
        len = (size_t)(limit - off);
    }
    return tg_fs_real()->pwrite(self, fd, buf, len, off);
}

/* The system's limit on a file is as ours, but none of what does not fit whole is in it. */
static void test_dead_letters_at_the_systems_limit(void **state)
{
    struct fixture *f = *state;
    static struct letters l;
    failing_fs = *tg_fs_real();
    failing_fs.open = failing_open;
    failing_fs.pwrite = failing_pwrite;
    f->config.log.fs = &failing_fs;
    atomic_store(&letters_fd, -1);
    atomic_store(&letters_limit, 500);
    start(f);
    assert_int_equal(post(f, "m,unprepared=1 v=1i 1\n"), 204);
    wait_empty(f, 0);
    assert_int_equal(post(f, "m,unprepared=1 v=1i 2\nm,unprepared=1 v=1i 3\n"), 204);
    wait_stalled(f, 0, "a.jsonl cannot grow any more (ulimit -f");
    assert_true(metric_says("tidegate_backend_dead_letters_full{backend=\"a\"} 1"));
    assert_int_equal(ledger(f, 0).dead_lettered, 1);
    atomic_store(&letters_limit, 0);
    wait_empty(f, 0);
    read_letters(f, &l);
    assert_int_equal(l.n, 3);
    assert_letters(&l, 1, 3, 1);
}

/* A FIFO in the place of the file: the backend waits and says so, everything else goes on. */
static void test_fifo_instead_of_dead_letters(void **state)
{
    struct fixture *f = *state;
    static struct letters l;
    char path[160], fifo[160];
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", f->dir);
    (void)alarm(60);
    assert_int_equal(mkdir(f->dead, 0750), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    for (int round = 0; round < 2; round++) { /* at start, and while it runs */
        if (round == 0)
            start(f);
        else
            assert_int_equal(rename(fifo, path), 0);
        char line[64];
        (void)snprintf(line, sizeof(line), "m,unprepared=1 v=1i %d\n", round + 1);
        assert_int_equal(post(f, line), 204);
        wait_stalled(f, 0, "a.jsonl: it is a FIFO, not a regular file");
        wait_empty(f, 1);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(unlink(path), 0);
        wait_empty(f, 0);
        read_letters(f, &l);
        assert_int_equal(l.n, 1);
    }
    /* nor does a stop wait for it */
    assert_int_equal(rename(fifo, path), 0);
    assert_int_equal(post(f, "m,unprepared=1 v=1i 3\n"), 204);
    stop(f);
    (void)alarm(0);
}

static _Atomic bool hangs;
static _Atomic unsigned n_hanging;

static int hanging_open(void *self, const char *path, unsigned flags)
{
    if (strstr(path, "a.jsonl") || strstr(path, "/.a.cur.tmp")) {
        atomic_fetch_add(&n_hanging, 1);
        while (atomic_load(&hangs)) (void)usleep(1000);
        atomic_fetch_sub(&n_hanging, 1);
    }
    return tg_fs_real()->open(self, path, flags);
}

/* A mount that hangs (no flag helps against that) holds up who has files there: dead letters their
 * backend, a cursor the log in whose folder it is; never the status. */
static void test_files_that_hang(void **state)
{
    struct fixture *f = *state;
    static const char *const lines[] = {"m,unprepared=1 v=1i 1\n", "m,only=a v=1i 2\n"};
    failing_fs = *tg_fs_real();
    failing_fs.open = hanging_open;
    f->config.log.fs = &failing_fs;
    start(f);
    for (int i = 0; i < 2; i++) { /* the dead letters, the cursor */
        const uint64_t deadline_ms = tg_clock_mono_ms() + 20000;
        atomic_store(&hangs, true);
        assert_int_equal(post(f, lines[i]), 204);
        while (atomic_load(&n_hanging) == 0) {
            assert_true(tg_clock_mono_ms() < deadline_ms);
            (void)usleep(1000);
        }
        if (i == 0) { /* nor senders and the other backend */
            post_range(f, 10, 19, "");
            wait_empty(f, 1);
            assert_true(ledger(f, 0).waiting > 0);
        }
        (void)ledger(f, 0);
        assert_true(atomic_load(&n_hanging) > 0);
        atomic_store(&hangs, false);
        wait_empty(f, 0);
    }
}

/* What is to be cut back does not count for the limit: nobody could make room for it. */
static void test_unconfirmed_dead_letters_at_the_limit(void **state)
{
    struct fixture *f = *state;
    static struct letters l;
    failing_fs = *tg_fs_real();
    failing_fs.open = failing_open;
    failing_fs.datasync = failing_datasync;
    failing_fs.truncate = failing_truncate;
    f->config.log.fs = &failing_fs;
    f->config.max_dead_letter_bytes = 800; /* for three */
    atomic_store(&letters_fd, -1);
    start(f);
    assert_int_equal(post(f, "m,unprepared=1 v=1i 1\n"), 204);
    wait_empty(f, 0);
    atomic_store(&truncates_fail, true);
    atomic_store(&syncs_fail, true);
    assert_int_equal(post(f, "m,unprepared=1 v=1i 2\nm,unprepared=1 v=1i 3\n"), 204);
    wait_stalled(f, 0, "cannot take back");
    atomic_store(&syncs_fail, false);
    atomic_store(&truncates_fail, false);
    wait_empty(f, 0);
    read_letters(f, &l);
    assert_int_equal(l.n, 3);
    assert_letters(&l, 1, 3, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dead_letters_after_a_torn_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letter_of_a_text_that_is_not_utf8, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_dead_letter_of_long_tag_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letter_with_exemplars, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_dead_letters_than_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stall_is_said_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_skipped_points_at_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inexpressible_points, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parts_left_out_are_counted_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inexpressible_points_beside_a_stall, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inexpressible_points_routed_elsewhere_since, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_skipped_points_wait_longer_each_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letter_larger_than_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letters_at_the_systems_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fifo_instead_of_dead_letters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_that_hang, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letters_that_cannot_be_synced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unconfirmed_dead_letters_at_the_limit, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
