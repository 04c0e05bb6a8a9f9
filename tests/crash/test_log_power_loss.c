/* The log's promise, against a file system that loses what was not fsynced.
 *
 * One workload (commits, rotations, cursor updates, deletions) is stopped at every operation that
 * changes the disk; then what was not durable is thrown away, all of it or a random part, the log
 * is opened again and its contents are compared with what was acknowledged. The same with EIO at
 * every fsync, a full disk at every write, and bits flipped all over.
 *
 *   test_crash_log_power_loss [SHARD SHARDS]    the cases whose number modulo SHARDS is SHARD
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log.h"
#include "tests/support/log_fixture.h"
#include "tests/support/rng.h"
#include "tests/support/sim_fs.h"

enum { N_SERIES = 120, N_ROUNDS = 26, MAX_SENT = 64 };

/* One batch that was handed to the log. */
struct sent {
    struct tg_batch batch;
    bool acked;
    uint64_t end_pos;
    bool seen; /* while checking */
};

struct run {
    struct lf *f;
    struct sim_fs *sim;
    struct tg_log_config config;
    struct sent sent[MAX_SENT];
    unsigned n_sent;
    struct tg_cursor_state set;     /* newest state that was set */
    struct tg_cursor_state flushed; /* newest whose flush was confirmed */
    bool cursor_made;
};

static struct lf shared; /* the table outlives every crash */

static unsigned shard, n_shards = 1;

/* The number is that of the case, not of those so far: how many there are depends on the clock, and
 * no case may fall between two shards. */
static bool is_mine(uint64_t case_no)
{
    return case_no % n_shards == shard;
}

static struct run *run_new(uint64_t seed, enum tg_log_sync sync)
{
    struct run *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->f = &shared;
    r->f->rng = rng_seed(seed);
    r->sim = sim_fs_new(seed);
    r->config = (struct tg_log_config){.dir = "/log",
                                       .segment_bytes = 3000,
                                       .max_bytes = 60000,
                                       .sync = sync,
                                       .keep_ms = 1,
                                       .fs = &r->sim->fs,
                                       .table = r->f->table,
                                       .targets = lf_targets,
                                       .n_targets = LF_TARGETS};
    r->f->routed = true;
    return r;
}

static void run_free(struct run *r)
{
    for (unsigned i = 0; i < r->n_sent; i++) tg_batch_deinit(&r->sent[i].batch);
    sim_fs_free(r->sim);
    free(r);
}

/* Commits up to two batches, as far as the disk lets it. */
static enum tg_code send(struct run *r, struct tg_log *log, unsigned n)
{
    struct tg_batch *list[2];
    uint64_t pos[2] = {0};
    assert_true(r->n_sent + n <= MAX_SENT);
    for (unsigned i = 0; i < n; i++) {
        struct sent *s = &r->sent[r->n_sent + i];
        tg_batch_init(&s->batch, NULL, 0, 0);
        const int64_t t = INT64_C(1750000000000000000) + r->n_sent * INT64_C(1000000000);
        if ((r->n_sent + i) % 3 == 2)
            lf_mixed(r->f, &s->batch, 40, t);
        else if ((r->n_sent + i) % 3 ==
                 1) /* shares a block with the next, where one commit has both */
            lf_scrape(r->f, &s->batch, 0, 50, t);
        else
            lf_scrape(r->f, &s->batch, 0, N_SERIES, t);
        list[i] = &s->batch;
    }
    const enum tg_code code = tg_log_commit(log, list, n, pos, NULL);
    for (unsigned i = 0; i < n; i++) {
        r->sent[r->n_sent + i].acked = code == TG_OK;
        r->sent[r->n_sent + i].end_pos = pos[i];
    }
    r->n_sent += n;
    return code;
}

/* The workload. Goes on after failures, as a gateway does. */
static void work(struct run *r)
{
    struct tg_log *log;
    struct tg_log_cursor *cursor = NULL;
    struct tg_log_reader *reader = NULL;
    if (tg_log_open(&r->config, &log, NULL) != TG_OK) return;
    if (tg_log_cursor_open(log, "backend", true, &cursor, NULL) == TG_OK) r->cursor_made = true;
    if (tg_log_reader_open(log, 0, &reader, NULL) != TG_OK) reader = NULL;
    for (unsigned i = 0; i < N_ROUNDS; i++) {
        (void)send(r, log, 1 + i % 2);
        if (!cursor || !reader || i % 3 != 2) continue;
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        tg_batch_init(&b, NULL, 0, 0);
        if (tg_log_reader_read(reader, &b, 300, &rd, &dict, NULL) == TG_OK) {
            struct tg_cursor_state s = tg_log_cursor_get(cursor);
            s.pos = rd.to_pos;
            s.point_no = rd.to_point_no;
            s.n_delivered += b.n_points;
            s.n_lost += rd.n_lost;
            r->set = s;
            if (tg_log_cursor_set(cursor, &s, true, NULL) == TG_OK) r->flushed = s;
            tg_segment_dict_unref(dict);
        }
        tg_batch_deinit(&b);
    }
    tg_log_reader_close(reader);
    tg_log_cursor_close(cursor);
    tg_log_close(log);
}

static bool same_run(const struct tg_batch *a, uint32_t from, const struct tg_batch *b, uint32_t at,
                     uint32_t n)
{
    if (from + n > a->n_points || at + n > b->n_points) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!lf_equal(&a->points[from + i], &b->points[at + i])) return false;
    return true;
}

/* What is in the log must be: every acknowledged batch that the cursor does not cover, whole, in
 * order; between and after them nothing but points of unacknowledged batches, in order. */
static void check_contents(struct run *r, struct tg_log *log, bool lost_allowed)
{
    struct tg_log_reader *reader;
    struct tg_batch all;
    uint64_t lost = 0, no = 0, pos = 0;
    const struct tg_log_stats st = tg_log_stats(log);
    tg_batch_init(&all, NULL, 0, 0);
    assert_int_equal(tg_log_reader_open(log, 0, &reader, NULL), TG_OK);
    for (bool first = true;; first = false) {
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        tg_batch_init(&b, NULL, 0, 0);
        assert_int_equal(tg_log_reader_read(reader, &b, 100, &rd, &dict, NULL), TG_OK);
        if (!first) {
            assert_int_equal(rd.from_pos, pos);
            assert_int_equal(rd.from_point_no, no);
        }
        assert_int_equal(rd.to_point_no - rd.from_point_no, b.n_points + rd.n_lost);
        lost += rd.n_lost;
        no = rd.to_point_no;
        pos = rd.to_pos;
        lf_append(&all, &b);
        const bool done = rd.to_pos == rd.from_pos;
        tg_segment_dict_unref(dict);
        tg_batch_deinit(&b);
        if (done) break;
    }
    tg_log_reader_close(reader);
    if (no != st.end_point_no || pos != st.end_pos)
        fail_msg("read up to %lu (number %lu) of %lu (%lu)", pos, no, st.end_pos, st.end_point_no);
    if (!lost_allowed) assert_int_equal(lost, 0);

    uint32_t at = 0;
    for (unsigned i = 0; i < r->n_sent; i++) {
        struct sent *s = &r->sent[i];
        const uint32_t n = s->batch.n_points;
        if (s->acked && s->end_pos <= st.start_pos) continue; /* delivered, deleted */
        if (same_run(&s->batch, 0, &all, at, n)) {
            at += n;
            continue;
        }
        if (s->acked)
            fail_msg("acknowledged batch %u is not whole (at %u of %u)", i, at, all.n_points);
        /* what is there of one that was not acknowledged is points of it, in order */
        for (uint32_t k = 0; k < n && at < all.n_points; k++)
            if (lf_equal(&s->batch.points[k], &all.points[at])) at++;
    }
    if (at != all.n_points) fail_msg("%u points nobody sent", all.n_points - at);
    tg_batch_deinit(&all);
}

static void check_cursor(struct run *r, struct tg_log *log, bool lost_allowed)
{
    struct tg_log_cursor *c;
    const struct tg_log_stats st = tg_log_stats(log);
    assert_int_equal(tg_log_cursor_open(log, "backend", true, &c, NULL), TG_OK);
    const struct tg_cursor_state s = tg_log_cursor_get(c);
    if (!r->cursor_made) { /* it could not be made: nothing was held for it */
        tg_log_cursor_close(c);
        return;
    }
    assert_true(s.pos >= r->flushed.pos); /* what was confirmed is kept */
    assert_true(s.pos <= (r->set.pos > r->flushed.pos ? r->set.pos : r->flushed.pos));
    assert_int_equal(s.point_no - s.first_point_no, s.n_delivered + s.n_lost + s.n_dead);
    assert_true(s.pos <= st.end_pos && s.point_no <= st.end_point_no);
    /* it held what it had not passed: from there everything is read, counted from its number */
    struct tg_log_reader *reader;
    uint64_t no = s.point_no, lost = 0;
    assert_int_equal(tg_log_reader_open(log, s.pos, &reader, NULL), TG_OK);
    tg_log_reader_expect(reader, s.point_no);
    for (bool done = false; !done;) {
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        tg_batch_init(&b, NULL, 0, 0);
        assert_int_equal(tg_log_reader_read(reader, &b, 500, &rd, &dict, NULL), TG_OK);
        assert_int_equal(rd.from_point_no, no);
        assert_int_equal(rd.to_point_no - rd.from_point_no, b.n_points + rd.n_lost);
        no = rd.to_point_no;
        lost += rd.n_lost;
        done = rd.from_pos == rd.to_pos;
        tg_segment_dict_unref(dict);
        tg_batch_deinit(&b);
    }
    tg_log_reader_close(reader);
    assert_int_equal(no, st.end_point_no);
    if (!lost_allowed) assert_int_equal(lost, 0);
    tg_log_cursor_close(c);
}

/* Opens what is left, checks, goes on working with it, and checks again after a clean restart. */
static void check_after(struct run *r, bool lost_allowed)
{
    struct tg_log *log;
    struct tg_err err = {0};
    if (tg_log_open(&r->config, &log, &err) != TG_OK) fail_msg("start-up failed: %s", err.msg);
    assert_int_equal(tg_log_stats(log).n_sync_failures, 0);
    check_contents(r, log, lost_allowed);
    check_cursor(r, log, lost_allowed);
    assert_int_equal(send(r, log, 2), TG_OK);
    check_contents(r, log, lost_allowed);
    tg_log_close(log);
    assert_int_equal(tg_log_open(&r->config, &log, NULL), TG_OK);
    assert_int_equal(tg_log_stats(log).n_damaged_bytes, 0); /* damage is set aside once only */
    check_contents(r, log, lost_allowed);
    tg_log_close(log);
}

static uint64_t count_ops(uint64_t seed)
{
    struct run *r = run_new(seed, TG_SYNC_ALWAYS);
    work(r);
    const uint64_t n = r->sim->n_ops;
    for (unsigned i = 0; i < r->n_sent; i++) assert_true(r->sent[i].acked);
    run_free(r);
    return n;
}

static void test_stop_at_every_operation(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        const uint64_t n_ops = count_ops(seed);
        assert_true(n_ops > 100); /* some are due by the clock: not the same number every time */
        for (uint64_t n = 1; n <= n_ops + 1; n++) {
            for (unsigned way = 0; way < 5; way++) {
                if (!is_mine(n * 5 + way)) continue;
                struct run *r = run_new(seed, TG_SYNC_ALWAYS);
                r->sim->stop_at = n;
                work(r);
                r->sim->rng ^= (n * 8 + way) * UINT64_C(0x9E3779B97F4A7C15);
                sim_fs_power_loss(r->sim, way == 0   ? SIM_LOSE_ALL
                                          : way == 1 ? SIM_KEEP_ALL
                                                     : SIM_KEEP_SOME);
                /* a torn commit in the middle of which something survived counts as lost points,
                 * none of them acknowledged: check_contents says so */
                check_after(r, way >= 2);
                run_free(r);
            }
        }
    }
}

/* Power is lost twice: the second time while recovering or shortly after. */
static void test_stop_during_recovery(void **state)
{
    (void)state;
    const uint64_t n_ops = count_ops(3);
    for (uint64_t n = 5; n <= n_ops; n += 7) {
        for (uint64_t again = 1; again < 40; again += 2) {
            if (!is_mine(n / 7 * 20 + again / 2)) continue;
            struct run *r = run_new(3, TG_SYNC_ALWAYS);
            r->sim->stop_at = n;
            work(r);
            sim_fs_power_loss(r->sim, SIM_KEEP_SOME);
            r->sim->stop_at = again;
            struct tg_log *log;
            if (tg_log_open(&r->config, &log, NULL) == TG_OK) {
                (void)send(r, log, 1);
                (void)send(r, log, 2);
                tg_log_close(log);
            }
            sim_fs_power_loss(r->sim, again % 4 == 1 ? SIM_KEEP_SOME : SIM_LOSE_ALL);
            check_after(r, true);
            run_free(r);
        }
    }
}

static void test_eio_at_every_fsync(void **state)
{
    (void)state;
    struct run *r = run_new(4, TG_SYNC_ALWAYS);
    work(r);
    const uint64_t n_syncs = r->sim->n_syncs;
    run_free(r);
    for (uint64_t n = 1; n <= n_syncs; n++) {
        for (unsigned way = 0; way < 4; way++) {
            if (!is_mine(n * 4 + way)) continue;
            r = run_new(4, TG_SYNC_ALWAYS);
            r->sim->eio_sync_at = n;
            work(r);
            unsigned failed = 0;
            for (unsigned i = 0; i < r->n_sent; i++) failed += !r->sent[i].acked;
            assert_true(failed <= 2); /* that commit alone */
            if (way) {
                r->sim->rng ^= n * 4 + way;
                sim_fs_power_loss(r->sim, way == 1   ? SIM_LOSE_ALL
                                          : way == 2 ? SIM_KEEP_ALL
                                                     : SIM_KEEP_SOME);
            } else {
                r->sim->eio_sync_at = 0;
            }
            check_after(r, false);
            run_free(r);
        }
    }
}

/* EIO, and then the power goes before the next thing is durable: the failed bytes may come back. */
static void test_eio_then_power_loss(void **state)
{
    (void)state;
    struct run *r = run_new(5, TG_SYNC_ALWAYS);
    work(r);
    const uint64_t n_syncs = r->sim->n_syncs, n_ops = r->sim->n_ops;
    run_free(r);
    for (uint64_t n = 3; n <= n_syncs; n += 2) {
        for (uint64_t stop = 10; stop < n_ops; stop += 9) {
            if (!is_mine(n / 2 * 1000 + stop / 9)) continue;
            r = run_new(5, TG_SYNC_ALWAYS);
            r->sim->eio_sync_at = n;
            r->sim->stop_at = stop;
            work(r);
            r->sim->rng ^= n * 1000 + stop;
            sim_fs_power_loss(r->sim, stop % 2 ? SIM_KEEP_SOME : SIM_KEEP_ALL);
            check_after(r, true);
            run_free(r);
        }
    }
}

static void test_disk_full_at_every_write(void **state)
{
    (void)state;
    const uint64_t n_ops = count_ops(6);
    for (uint64_t n = 1; n <= n_ops; n++) {
        for (unsigned way = 0; way < 3; way++) {
            if (!is_mine(n * 3 + way)) continue;
            struct run *r = run_new(6, TG_SYNC_ALWAYS);
            r->sim->full_at = n;
            r->sim->full_until = n + 1 + n % 20;
            work(r);
            if (way)
                sim_fs_power_loss(r->sim, way == 1 ? SIM_LOSE_ALL : SIM_KEEP_SOME);
            else
                r->sim->full_at = 0;
            check_after(r, false);
            run_free(r);
        }
    }
}

/* Without fsync nothing is promised about power loss; but what is there is right, and start-up
 * works. */
static void test_sync_never(void **state)
{
    (void)state;
    for (uint64_t n = 20; n < 140; n += 3) {
        if (!is_mine(n / 3)) continue;
        struct run *r = run_new(7, TG_SYNC_NEVER);
        r->sim->stop_at = n;
        work(r);
        sim_fs_power_loss(r->sim, SIM_KEEP_SOME);
        for (unsigned i = 0; i < r->n_sent; i++) r->sent[i].acked = false;
        struct tg_log *log;
        assert_int_equal(tg_log_open(&r->config, &log, NULL), TG_OK);
        check_contents(r, log, true);
        tg_log_close(log);
        run_free(r);
    }
}

/* --- flipped bits --- */

/* Every point that comes out is the one with its number... as far as the read says, in order. */
static uint64_t check_subset(struct tg_log *log, const struct tg_batch *truth, uint64_t *lost)
{
    struct tg_log_reader *reader;
    uint64_t points = 0, no = 0;
    *lost = 0;
    assert_int_equal(tg_log_reader_open(log, 0, &reader, NULL), TG_OK);
    tg_log_reader_expect(reader, 0); /* the very first header and block may be gone */
    for (;;) {
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        tg_batch_init(&b, NULL, 0, 0);
        assert_int_equal(tg_log_reader_read(reader, &b, 1, &rd, &dict, NULL), TG_OK);
        assert_int_equal(rd.from_point_no, no);
        assert_int_equal(rd.to_point_no - rd.from_point_no, b.n_points + rd.n_lost);
        assert_true(rd.to_point_no <= truth->n_points);
        uint64_t t = rd.from_point_no;
        for (uint32_t i = 0; i < b.n_points; i++, t++) {
            while (t < rd.to_point_no && !lf_equal(&truth->points[t], &b.points[i])) t++;
            assert_true(t < rd.to_point_no); /* a value that was never sent */
        }
        points += b.n_points;
        *lost += rd.n_lost;
        no = rd.to_point_no;
        const bool done = rd.to_pos == rd.from_pos;
        tg_segment_dict_unref(dict);
        tg_batch_deinit(&b);
        if (done) break;
    }
    tg_log_reader_close(reader);
    return points;
}

static void test_flipped_bits(void **state)
{
    (void)state;
    struct run *r = run_new(8, TG_SYNC_ALWAYS);
    r->f->routed = false; /* where the names are damaged, no point claims to be routed */
    struct tg_log *log;
    struct tg_batch truth;
    r->config.segment_bytes = 7000;
    r->config.keep_ms = 0; /* 24 h */
    tg_batch_init(&truth, NULL, 0, 0);
    assert_int_equal(tg_log_open(&r->config, &log, NULL), TG_OK);
    for (unsigned i = 0; i < 45; i++) assert_int_equal(send(r, log, 1), TG_OK);
    assert_true(tg_log_stats(log).n_segments >= 2);
    tg_log_close(log);
    for (unsigned i = 0; i < r->n_sent; i++) lf_append(&truth, &r->sent[i].batch);

    char path[256];
    uint64_t worst = 0, total = 0, n_flips = 0, missed_tail = 0;
    for (unsigned k = 0; sim_fs_nth(r->sim, ".seg", k, path); k++) {
        size_t len;
        (void)sim_fs_bytes(r->sim, path, &len);
        char next[256];
        const bool is_last = !sim_fs_nth(r->sim, ".seg", k + 1, next);
        for (size_t at = 0; at < len; at += 3) {
            if (!is_mine(at / 3)) continue;
            struct sim_fs *sim = sim_fs_clone(r->sim);
            struct tg_log_config config = r->config;
            config.fs = &sim->fs;
            size_t n;
            sim_fs_bytes(sim, path, &n)[at] ^= (uint8_t)(1U << at % 8);
            sim_fs_settle(sim, path);
            assert_int_equal(tg_log_open(&config, &log, NULL), TG_OK);
            uint64_t lost;
            const uint64_t points = check_subset(log, &truth, &lost);
            const struct tg_log_stats st = tg_log_stats(log);
            assert_int_equal(points + lost, st.end_point_no);
            if (st.end_point_no != truth.n_points) {
                /* only what no later record can tell of: the very last records of the log */
                assert_true(is_last);
                missed_tail++;
            } else if (at >= 96) {
                /* exactly what is missing is counted, and the damage is set aside */
                assert_true(st.n_damaged_records >= 1);
                assert_true(st.n_damaged_bytes > 0);
                char aside[256];
                assert_true(sim_fs_nth(sim, ".bin", 0, aside));
            } else {
                assert_int_equal(lost, 0); /* one of two headers */
            }
            if (lost > worst) worst = lost;
            total += lost;
            n_flips++;
            tg_log_close(log);
            sim_fs_free(sim);
        }
    }
    assert_int_equal(missed_tail, 0); /* the commit record tells of the last block */
    /* a block and the chains through it */
    assert_true(worst <= (uint64_t)N_SERIES * (TG_LOG_CHAIN_MAX + 1));
    assert_true(total > 0 && n_flips > 1000 / n_shards);
    tg_batch_deinit(&truth);
    run_free(r);
}

/* Whole stretches zeroed, moved or doubled. */
static void test_mangled_stretches(void **state)
{
    (void)state;
    struct run *r = run_new(9, TG_SYNC_ALWAYS);
    r->f->routed = false; /* where the names are damaged, no point claims to be routed */
    struct tg_log *log;
    r->config.keep_ms = 0;
    struct tg_batch truth;
    tg_batch_init(&truth, NULL, 0, 0);
    assert_int_equal(tg_log_open(&r->config, &log, NULL), TG_OK);
    for (unsigned i = 0; i < 45; i++) assert_int_equal(send(r, log, 1), TG_OK);
    tg_log_close(log);
    for (unsigned i = 0; i < r->n_sent; i++) lf_append(&truth, &r->sent[i].batch);
    for (unsigned i = 0; i < 600; i++) {
        if (!is_mine(i)) continue;
        r->f->rng = rng_seed(1000 + i); /* whatever was left out before */
        struct sim_fs *sim = sim_fs_clone(r->sim);
        struct tg_log_config config = r->config;
        config.fs = &sim->fs;
        char path[256];
        size_t len;
        unsigned k = 0;
        while (sim_fs_nth(sim, ".seg", k, path)) k++;
        assert_true(sim_fs_nth(sim, ".seg", (unsigned)(lf_rnd(r->f) % k), path));
        uint8_t *bytes = sim_fs_bytes(sim, path, &len);
        const size_t a = lf_rnd(r->f) % len, b = lf_rnd(r->f) % len;
        size_t n = lf_rnd(r->f) % 1500;
        if (n > len - a) n = len - a;
        if (n > len - b) n = len - b;
        switch (i % 3) {
        case 0: memset(bytes + a, 0, n); break;
        case 1: memmove(bytes + a, bytes + b, n); break;
        default:
            for (size_t x = 0; x < n; x++) bytes[a + x] = (uint8_t)lf_rnd(r->f);
        }
        sim_fs_settle(sim, path);
        if (tg_log_open(&config, &log, NULL) != TG_OK) fail_msg("start-up failed");
        uint64_t lost;
        (void)check_subset(log, &truth, &lost);
        tg_log_close(log);
        sim_fs_free(sim);
    }
    tg_batch_deinit(&truth);
    run_free(r);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        shard = (unsigned)strtoul(argv[1], NULL, 10);
        n_shards = (unsigned)strtoul(argv[2], NULL, 10);
    }
    if ((argc != 1 && argc != 3) || n_shards == 0 || shard >= n_shards) {
        (void)fprintf(stderr, "usage: %s [SHARD SHARDS], SHARD from 0 on\n", argv[0]);
        return 2;
    }
    tg_log_set_level((enum tg_log_level)(TG_LOG_ERROR + 1)); /* damage is the point here */
    lf_init(&shared, N_SERIES, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_at_every_operation),
        cmocka_unit_test(test_stop_during_recovery),
        cmocka_unit_test(test_eio_at_every_fsync),
        cmocka_unit_test(test_eio_then_power_loss),
        cmocka_unit_test(test_disk_full_at_every_write),
        cmocka_unit_test(test_sync_never),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_mangled_stretches),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    lf_deinit(&shared);
    return failed;
}
