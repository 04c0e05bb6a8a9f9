/* The log's figures: bytes per point, encode and decode time per point, commits with fsync.
 *
 *   bench_log [points, default 4000000] [folder, default: a new one in /tmp]
 *
 * Workload: 10,000 series in requests of 1,000 points, each series every ten requests: a quarter
 * integer counters, a quarter counters in doubles, half gauges with two decimals that drift; one
 * time per request. A scrape is repeated until the points are sent. Beside it the same with random
 * doubles, which nothing compresses, and requests of one point of any of the series each. The probe
 * is a copy of the points (memcpy), the least that could be done with them. */
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/log/block.h"
#include "core/log/log.h"
#include "tests/support/log_fixture.h"

enum { N_SERIES = 10000, PER_REQUEST = 1000 };

static double now_s(clockid_t id)
{
    struct timespec ts;
    (void)clock_gettime(id, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what, const struct tg_err *err)
{
    (void)fprintf(stderr, "%s: %s\n", what, err->msg);
    exit(1);
}

static void fill(struct lf *f, struct tg_batch *b, unsigned request, bool random)
{
    tg_batch_reset(b);
    lf_scrape(f, b, request % (N_SERIES / PER_REQUEST) * PER_REQUEST, PER_REQUEST,
              INT64_C(1750000000000000000) + request * INT64_C(1000000000));
    if (!random) return;
    for (uint32_t i = 0; i < b->n_points; i++) {
        b->points[i].type = TG_VALUE_DOUBLE;
        b->points[i].value.f64 = (double)lf_rnd(f) / 3e19;
    }
}

/* Encoder and decoder alone, in CPU time. */
static void bench_blocks(struct lf *f, uint64_t n_points, bool random)
{
    struct tg_block_encoder enc;
    struct tg_block_decoder dec;
    struct tg_batch in, out;
    struct tg_buf buf;
    uint32_t ref, used, lost;
    uint32_t *refs = malloc(PER_REQUEST * sizeof(*refs));
    struct tg_block_entry *entries = calloc(N_SERIES, sizeof(*entries));
    struct tg_point *copy = malloc(PER_REQUEST * sizeof(*copy));
    if (!refs || !entries || !copy || tg_block_encoder_init(&enc) != TG_OK ||
        tg_block_decoder_init(&dec) != TG_OK)
        exit(1);
    tg_batch_init(&in, NULL, 0, 0);
    tg_batch_init(&out, NULL, 0, 0);
    tg_buf_init(&buf, 0);
    for (uint32_t i = 0; i < N_SERIES; i++) {
        if (tg_block_encoder_add(&enc, &ref) != TG_OK) exit(1);
        entries[i].series = f->series[i];
        entries[i].chain.last_block = TG_CHAIN_NO_BLOCK;
    }
    double encode_s = 0, decode_s = 0, probe_s = 0;
    uint64_t bytes = 0, done = 0;
    for (unsigned r = 0; done < n_points; r++) {
        fill(f, &in, r, random);
        for (uint32_t i = 0; i < PER_REQUEST; i++)
            refs[i] = r % (N_SERIES / PER_REQUEST) * PER_REQUEST + i;
        struct tg_err err;
        struct tg_block_info info;
        const double t0 = now_s(CLOCK_THREAD_CPUTIME_ID);
        memcpy(copy, in.points, PER_REQUEST * sizeof(*copy));
        __asm__ volatile("" ::"r"(copy) : "memory");
        const double t1 = now_s(CLOCK_THREAD_CPUTIME_ID);
        tg_buf_reset(&buf);
        if (tg_block_encode(&enc, in.points, refs, PER_REQUEST, done, &buf, &used, &err) != TG_OK)
            die("encode", &err);
        const double t2 = now_s(CLOCK_THREAD_CPUTIME_ID);
        out.n_points = 0;
        if (tg_block_decode(&dec, entries, N_SERIES, buf.data, buf.len, &out, &info, &lost, &err) !=
                TG_OK ||
            lost)
            die("decode", &err);
        const double t3 = now_s(CLOCK_THREAD_CPUTIME_ID);
        for (uint32_t i = 0; i < PER_REQUEST; i++)
            if (!lf_equal(&in.points[i], &out.points[i])) exit(1);
        probe_s += t1 - t0;
        encode_s += t2 - t1;
        decode_s += t3 - t2;
        bytes += buf.len;
        done += PER_REQUEST;
    }
    (void)printf(
        "%-16s %6.2f bytes/point  encode %5.1f ns  decode %5.1f ns  (probe: copy %4.1f ns)\n",
        random ? "random doubles" : "steady scrape", (double)bytes / (double)done,
        encode_s * 1e9 / (double)done, decode_s * 1e9 / (double)done, probe_s * 1e9 / (double)done);
    tg_block_encoder_deinit(&enc);
    tg_block_decoder_deinit(&dec);
    tg_batch_deinit(&in);
    tg_batch_deinit(&out);
    tg_buf_deinit(&buf);
    free(refs);
    free(entries);
    free(copy);
}

/* The log on a real disk: `group` requests per commit. */
static void bench_log(struct lf *f, const char *dir, uint64_t n_points, unsigned group)
{
    struct tg_err err = {0};
    struct tg_log *log;
    const struct tg_log_config config = {.dir = dir, .table = f->table};
    struct tg_batch b[16], *list[16];
    uint64_t pos[16];
    if (tg_log_open(&config, &log, &err) != TG_OK) die("open", &err);
    for (unsigned i = 0; i < group; i++) {
        tg_batch_init(&b[i], NULL, 0, 0);
        list[i] = &b[i];
    }
    double wall = 0, cpu = 0;
    uint64_t done = 0;
    unsigned r = 0;
    const uint64_t mem = tg_mem_used();
    while (done < n_points) {
        for (unsigned i = 0; i < group; i++) fill(f, &b[i], r++, false);
        const double w = now_s(CLOCK_MONOTONIC), c = now_s(CLOCK_PROCESS_CPUTIME_ID);
        if (tg_log_commit(log, list, group, pos, &err) != TG_OK) die("commit", &err);
        wall += now_s(CLOCK_MONOTONIC) - w;
        cpu += now_s(CLOCK_PROCESS_CPUTIME_ID) - c;
        done += (uint64_t)group * PER_REQUEST;
    }
    const struct tg_log_stats st = tg_log_stats(log);
    (void)printf("sync=always, %2u x %u points a commit: %6.0f commits/s  %9.0f points/s  %5.1f ns "
                 "CPU/point  %.2f bytes/point with series and frames  %" PRIu64
                 " B memory/series\n",
                 group, PER_REQUEST, (double)st.n_commits / wall, (double)done / wall,
                 cpu * 1e9 / (double)done, (double)st.bytes / (double)done,
                 (tg_mem_used() - mem) / N_SERIES);
    struct tg_log_reader *reader;
    if (tg_log_reader_open(log, 0, &reader, &err) != TG_OK) die("reader", &err);
    struct tg_batch out;
    tg_batch_init(&out, NULL, 0, 0);
    uint64_t n = 0;
    const uint64_t mem_reader = tg_mem_used();
    uint64_t mem_most = 0;
    const double t = now_s(CLOCK_PROCESS_CPUTIME_ID);
    for (;;) {
        struct tg_log_read rd;
        struct tg_segment_dict *dict;
        out.n_points = 0;
        if (tg_log_reader_read(reader, &out, 5000, &rd, &dict, &err) != TG_OK) die("read", &err);
        n += out.n_points;
        if (tg_mem_used() - mem_reader > mem_most) mem_most = tg_mem_used() - mem_reader;
        tg_segment_dict_unref(dict);
        if (rd.from_pos == rd.to_pos) break;
    }
    (void)printf("  read back: %" PRIu64 " points, %.1f ns CPU/point, %" PRIu64
                 " B memory/series\n",
                 n, (now_s(CLOCK_PROCESS_CPUTIME_ID) - t) * 1e9 / (double)n, mem_most / N_SERIES);
    tg_batch_deinit(&out);
    tg_log_reader_close(reader);
    for (unsigned i = 0; i < group; i++) tg_batch_deinit(&b[i]);
    tg_log_close(log);
}

/* Requests of one point each, `group` of them a commit: what many small senders make. */
static void bench_small(struct lf *f, const char *dir, uint64_t n_points, unsigned group)
{
    struct tg_err err = {0};
    struct tg_log *log;
    const struct tg_log_config config = {.dir = dir, .table = f->table};
    struct tg_batch *b = calloc(group, sizeof(*b)), **list = malloc(group * sizeof(*list));
    uint64_t *pos = malloc(group * sizeof(*pos));
    if (!b || !list || !pos) exit(1);
    if (tg_log_open(&config, &log, &err) != TG_OK) die("open", &err);
    for (unsigned i = 0; i < group; i++) {
        tg_batch_init(&b[i], NULL, 0, 0);
        list[i] = &b[i];
    }
    double wall = 0, cpu = 0;
    uint64_t done = 0, bytes_before = 0, points_before = 0;
    int64_t ts = INT64_C(1750000000000000000);
    while (done < n_points) {
        for (unsigned i = 0; i < group; i++) {
            tg_batch_reset(&b[i]);
            ts += 10000 + (int64_t)(lf_rnd(f) % 20000);
            lf_scrape(f, &b[i], (uint32_t)(lf_rnd(f) % N_SERIES), 1, ts);
        }
        const double w = now_s(CLOCK_MONOTONIC), c = now_s(CLOCK_PROCESS_CPUTIME_ID);
        if (tg_log_commit(log, list, group, pos, &err) != TG_OK) die("commit", &err);
        wall += now_s(CLOCK_MONOTONIC) - w;
        cpu += now_s(CLOCK_PROCESS_CPUTIME_ID) - c;
        done += group;
        if (points_before == 0 && done >= n_points / 2) { /* most series are written by then */
            bytes_before = tg_log_stats(log).bytes;
            points_before = done;
        }
    }
    (void)printf("sync=always, %4u x 1 point a commit: %9.0f points/s  %6.1f ns CPU/point  %.2f "
                 "bytes/point with frames\n",
                 group, (double)done / wall, cpu * 1e9 / (double)done,
                 (double)(tg_log_stats(log).bytes - bytes_before) / (double)(done - points_before));
    tg_log_close(log);
    for (unsigned i = 0; i < group; i++) tg_batch_deinit(&b[i]);
    free(b);
    free(list);
    free(pos);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

int main(int argc, char **argv)
{
    const uint64_t n_points = argc > 1 ? strtoull(argv[1], NULL, 10) : 4000000;
    char tmp[] = "/tmp/tidegate-bench-log-XXXXXX";
    const char *base = argc > 2 ? argv[2] : mkdtemp(tmp);
    struct lf f;
    if (!base) return 1;
    tg_hash_seed(1);
    lf_init(&f, N_SERIES, 1);
    bench_blocks(&f, n_points, false);
    bench_blocks(&f, n_points, true);
    char dir[300];
    (void)snprintf(dir, sizeof(dir), "%s/one", base);
    bench_log(&f, dir, n_points / 4, 1);
    (void)snprintf(dir, sizeof(dir), "%s/group", base);
    bench_log(&f, dir, n_points, 16);
    (void)snprintf(dir, sizeof(dir), "%s/small", base);
    bench_small(&f, dir, n_points / 40, 64);
    (void)snprintf(dir, sizeof(dir), "%s/smaller", base);
    bench_small(&f, dir, n_points / 8, 1000);
    lf_deinit(&f);
    if (argc <= 2) (void)nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
