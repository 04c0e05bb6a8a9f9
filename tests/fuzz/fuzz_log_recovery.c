/* The log opened on bytes that it did not write. First byte even: the rest is a segment file. Odd:
 * a whole log is mangled as the rest says, and what is then read must be points that were sent,
 * under their numbers, the rest counted as lost. Either way the log opens, reads, takes new points,
 * and opens again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/logger.h"
#include "core/log/segment.h"
#include "tests/support/log_fixture.h"
#include "tests/support/sim_fs.h"

enum { N_SERIES = 40, N_COMMITS = 12 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct lf fixture;
static struct sim_fs *whole; /* a log with several segments */
static struct tg_batch truth;

#define check(ok) ((ok) ? (void)0 : failed(__LINE__))

static _Noreturn void failed(int line)
{
    (void)fprintf(stderr, "fuzz_log_recovery.c:%d does not hold\n", line);
    abort();
}

static struct tg_log_config config_for(struct sim_fs *sim)
{
    return (struct tg_log_config){.dir = "/log",
                                  .segment_bytes = 1500,
                                  .max_bytes = 1 << 20,
                                  .sync = TG_SYNC_NEVER,
                                  .fs = &sim->fs,
                                  .table = fixture.table};
}

static bool send(struct tg_log *log, bool mixed, int64_t ts, struct tg_batch *keep)
{
    struct tg_batch b, *list = &b;
    uint64_t pos;
    tg_batch_init(&b, NULL, 0, 0);
    if (mixed)
        lf_mixed(&fixture, &b, 30, ts);
    else
        lf_scrape(&fixture, &b, 0, N_SERIES, ts);
    const bool ok = tg_log_commit(log, &list, 1, &pos, NULL) == TG_OK;
    if (ok && keep) lf_append(keep, &b);
    tg_batch_deinit(&b);
    return ok;
}

static void start(void)
{
    if (fixture.table) return;
    tg_hash_seed(1);
    tg_log_set_level((enum tg_log_level)(TG_LOG_ERROR + 1));
    lf_init(&fixture, N_SERIES, 1);
    whole = sim_fs_new(1);
    tg_batch_init(&truth, NULL, 0, 0);
    const struct tg_log_config config = config_for(whole);
    struct tg_log *log;
    check(tg_log_open(&config, &log, NULL) == TG_OK);
    for (int64_t i = 0; i < N_COMMITS; i++)
        check(send(log, i % 3 == 2, i * INT64_C(1000000000), &truth));
    tg_log_close(log);
    sim_fs_power_loss(whole, SIM_KEEP_ALL);
}

/* Reads all; with `sent` each point is one of those its read covers. */
static uint64_t read_all(struct tg_log *log, const struct tg_batch *sent)
{
    struct tg_log_reader *reader;
    uint64_t no = 0, points = 0;
    check(tg_log_reader_open(log, 0, &reader, NULL) == TG_OK);
    if (sent) tg_log_reader_expect(reader, 0);
    for (unsigned turn = 0;; turn++) {
        struct tg_batch b;
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        tg_batch_init(&b, NULL, 0, 0);
        check(tg_log_reader_read(reader, &b, 1, &rd, &dict, NULL) == TG_OK);
        check(rd.to_pos >= rd.from_pos);
        check(rd.to_point_no - rd.from_point_no == b.n_points + rd.n_lost);
        if (sent) {
            check(rd.from_point_no == no);
            uint64_t t = rd.from_point_no;
            for (uint32_t i = 0; i < b.n_points; i++, t++) {
                while (t < rd.to_point_no && t < sent->n_points &&
                       !lf_equal(&sent->points[t], &b.points[i]))
                    t++;
                check(t < rd.to_point_no && t < sent->n_points);
            }
            no = rd.to_point_no;
        }
        points += b.n_points;
        const bool done = rd.to_pos == rd.from_pos;
        tg_segment_dict_unref(dict);
        tg_batch_deinit(&b);
        if (done) break;
        check(turn < 100000);
    }
    tg_log_reader_close(reader);
    return points;
}

static void use(struct sim_fs *sim, const struct tg_batch *sent)
{
    const struct tg_log_config config = config_for(sim);
    struct tg_log *log;
    struct tg_cursor_state s;
    check(tg_log_open(&config, &log, NULL) == TG_OK);
    const uint64_t before = read_all(log, sent);
    check(tg_log_find_time(log, 5, &s, NULL) == TG_OK);
    /* numbers at their very end refuse new points; all others take them */
    const bool more = tg_log_stats(log).end_point_no < UINT64_MAX / 2 &&
                      tg_log_stats(log).end_pos < UINT64_MAX / 2;
    if (more) {
        check(send(log, false, 7, NULL));
        tg_log_close(log);
        check(tg_log_open(&config, &log, NULL) == TG_OK);
        check(read_all(log, NULL) == before + N_SERIES);
    }
    tg_log_close(log);
}

static void raw(const uint8_t *data, size_t size)
{
    struct sim_fs *sim = sim_fs_new(1);
    const struct tg_log_config config = config_for(sim);
    struct tg_log *log;
    check(tg_log_open(&config, &log, NULL) == TG_OK); /* makes the folder */
    tg_log_close(log);
    uint8_t *file = malloc(size + 1);
    check(file);
    memcpy(file, data, size);
    /* frames get right checksums when the input asks for it, or none would ever be looked into */
    if (size > TG_SEGMENT_HEADER_BYTES && data[0] & 1) {
        struct tg_buf b;
        tg_buf_init(&b, 0);
        check(tg_buf_reserve(&b, 2 * size + 1024) == TG_OK);
        tg_buf_put(&b, data, TG_SEGMENT_HEADER_BYTES);
        const uint8_t *p = data + TG_SEGMENT_HEADER_BYTES, *end = data + size;
        while (end - p > 2 && b.len + 300 < 2 * size + 1024) {
            const unsigned type = *p++ % 4;
            size_t len = *p++;
            if (len > (size_t)(end - p)) len = (size_t)(end - p);
            const uint64_t pos = b.len;
            const size_t mark = tg_frame_begin(&b);
            tg_buf_put(&b, p, len);
            tg_frame_end(&b, mark, pos, (enum tg_record_type)type);
            p += len;
        }
        check(sim_fs_put(sim, "/log/00000000000000000000.seg", b.data, b.len));
        tg_buf_deinit(&b);
    } else {
        check(sim_fs_put(sim, "/log/00000000000000000000.seg", file, size));
    }
    free(file);
    use(sim, NULL);
    sim_fs_free(sim);
}

static void mangled(const uint8_t *p, size_t size)
{
    struct sim_fs *sim = sim_fs_clone(whole);
    for (; size >= 6; p += 6, size -= 6) {
        char path[256];
        size_t len;
        unsigned n = 0;
        while (sim_fs_nth(sim, ".seg", n, path)) n++;
        if (n == 0 || !sim_fs_nth(sim, ".seg", p[0] % n, path)) break;
        uint8_t *bytes = sim_fs_bytes(sim, path, &len);
        if (len == 0) continue;
        const size_t at = ((size_t)p[2] << 8 | p[3]) % len;
        size_t k = p[5];
        if (k > len - at) k = len - at;
        switch (p[1] % 5) {
        case 0: bytes[at] ^= (uint8_t)(1U << p[5] % 8); break;
        case 1: memset(bytes + at, p[4], k); break;
        case 2: memmove(bytes + at, bytes + (p[4] * 7U) % (len - k + 1), k); break;
        case 3:
            if (p[4] < 16) (void)sim_fs_remove(sim, path);
            break;
        default: bytes[at] = p[4];
        }
    }
    use(sim, &truth);
    sim_fs_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 20000) return 0;
    start();
    if (data[0] & 1)
        mangled(data + 1, size - 1);
    else
        raw(data + 1, size - 1);
    return 0;
}
