/* Decoding on one core: OTLP, remote write (plain and snappy) and Influx lines, each beside a probe
 * that does only what cannot be left out: walk the bytes, hash what names the series, look it up.
 *
 *   build/release/tests/bench_decode [repetitions]
 *
 * Both run over the same ten request bodies, alternating, and the medians are compared. "Decode"
 * is what a receiver does per point: decode, look-up, check that the series' plan is of the present
 * generation, and push into the batch.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/codec/compress.h"
#include "core/protocol/influx_line.h"
#include "core/protocol/otlp.h"
#include "core/protocol/protobuf_wire.h"
#include "core/protocol/remote_write.h"
#include "tests/support/workload.h"

enum {
    N_SERIES = 10000,
    PER_REQUEST = 1000,
    N_REQUESTS = N_SERIES / PER_REQUEST,
    ROUNDS = 20, /* over all requests, per repetition */
    MAX_REPETITIONS = 101,
};

struct bench {
    struct tg_table *table;
    struct tg_batch batch;
    struct tg_arena arena;
    struct tg_compress compress;
    struct tg_buf bodies[N_REQUESTS];
    struct tg_buf packed[N_REQUESTS]; /* snappy */
    struct tg_buf plain;
    struct tg_plan *plan;
    uint64_t sum; /* keeps the probes' work alive */
};

static void must(bool ok, const char *what)
{
    if (ok) return;
    (void)fprintf(stderr, "bench_decode: %s\n", what);
    exit(1);
}

/* --- what a receiver does --- */

enum protocol { OTLP, REMOTE_WRITE, REMOTE_WRITE_SNAPPY, INFLUX, N_PROTOCOLS };
static const char *const names[] = {"otlp", "remote write", "remote write, snappy", "influx lines"};

static void decode(struct bench *b, enum protocol protocol, uint32_t i)
{
    struct tg_err err = {.msg = ""};
    struct tg_intake d = {.table = b->table,
                          .batch = &b->batch,
                          .arena = &b->arena,
                          .now_ns = 1,
                          .now_s = tg_clock_coarse_s()};
    const struct tg_buf *in = &b->bodies[i];
    enum tg_code code = TG_OK;
    tg_batch_reset(&b->batch);
    tg_arena_reset(&b->arena);
    switch (protocol) {
    case OTLP: code = tg_otlp_decode_metrics(in->data, in->len, &d, &err); break;
    case REMOTE_WRITE_SNAPPY:
        tg_buf_reset(&b->plain);
        code = tg_compress_decode(&b->compress, TG_ENCODING_SNAPPY, b->packed[i].data,
                                  b->packed[i].len, SIZE_MAX / 2, &b->plain, &err);
        in = &b->plain;
        must(code == TG_OK, err.msg);
        /* fall through */
    case REMOTE_WRITE: code = tg_remote_write_decode(in->data, in->len, &d, &err); break;
    default: code = tg_influx_decode(in->data, in->len, 1, &d, &err); break;
    }
    must(code == TG_OK, err.msg);
    must(b->batch.n_points == PER_REQUEST, d.first_reject.msg);
    for (uint32_t k = 0; k < b->batch.n_points; k++) {
        const struct tg_plan *plan =
            atomic_load_explicit(&b->batch.points[k].series->plan, memory_order_acquire);
        b->sum += plan && plan->generation != b->plan->generation;
    }
}

/* --- the probes: no checks but bounds, no look-ahead, nothing kept --- */

static inline void look_up(struct bench *b, struct tg_hash128 key, struct tg_series *const *learn)
{
    if (learn)
        tg_table_remember_raw(b->table, key, *learn);
    else
        b->sum += (uintptr_t)tg_table_find_raw(b->table, key);
}

static void probe_otlp_points(struct bench *b, struct tg_protobuf_wire data,
                              struct tg_hash128 metric, const struct tg_point **at, bool learn)
{
    struct tg_protobuf_wire_field f = {.tag = 0};
    while (data.p < data.end && tg_protobuf_wire_next(&data, &f)) {
        if (f.tag != TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES)) continue;
        const uint8_t *p = f.data;
        const uint8_t *const end = f.data + f.len;
        const uint8_t *start = NULL;
        while (p < end) {
            uint64_t v;
            if (*p == TG_PROTOBUF_WIRE_TAG(7, TG_PROTOBUF_WIRE_BYTES)) {
                if (!start) start = p;
                p += 2 + p[1];
            } else {
                memcpy(&v, p + 1, 8);
                b->sum += v;
                p += 9;
            }
        }
        const struct tg_hash128 h = tg_hash128(start, (size_t)(end - start));
        look_up(b, tg_hash128_combine(metric, h), learn ? &(*at)->series : NULL);
        (*at)++;
    }
}

static void probe_otlp(struct bench *b, const struct tg_buf *in, bool learn)
{
    const struct tg_point *at = b->batch.points;
    struct tg_protobuf_wire request = tg_protobuf_wire_of(in->data, in->len);
    struct tg_protobuf_wire_field r = {.tag = 0};
    struct tg_protobuf_wire_field s = r;
    struct tg_protobuf_wire_field m = r;
    struct tg_protobuf_wire_field f = r;
    while (request.p < request.end && tg_protobuf_wire_next(&request, &r)) {
        struct tg_protobuf_wire resource = tg_protobuf_wire_of(r.data, r.len);
        struct tg_hash128 h = {1, 1};
        while (resource.p < resource.end && tg_protobuf_wire_next(&resource, &s)) {
            if (s.tag == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES)) {
                h = tg_hash128(s.data, s.len);
                continue;
            }
            struct tg_protobuf_wire scope = tg_protobuf_wire_of(s.data, s.len);
            while (scope.p < scope.end && tg_protobuf_wire_next(&scope, &m)) {
                if (m.tag == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES)) {
                    h = tg_hash128_combine(h, tg_hash128(m.data, m.len));
                    continue;
                }
                struct tg_protobuf_wire metric = tg_protobuf_wire_of(m.data, m.len);
                struct tg_hash128 head = h;
                while (metric.p < metric.end && tg_protobuf_wire_next(&metric, &f)) {
                    if (TG_PROTOBUF_WIRE_NUMBER(f.tag) < 5)
                        head = tg_hash128_combine(head, tg_hash128(f.data, f.len));
                    else
                        probe_otlp_points(b, tg_protobuf_wire_of(f.data, f.len), head, &at, learn);
                }
            }
        }
    }
}

static void probe_remote_write(struct bench *b, const struct tg_buf *in, bool learn)
{
    const struct tg_point *at = b->batch.points;
    struct tg_protobuf_wire request = tg_protobuf_wire_of(in->data, in->len);
    struct tg_protobuf_wire_field f = {.tag = 0};
    while (request.p < request.end && tg_protobuf_wire_next(&request, &f)) {
        const uint8_t *p = f.data;
        const uint8_t *const end = f.data + f.len;
        while (p < end && *p == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES)) p += 2 + p[1];
        const struct tg_hash128 h = tg_hash128(f.data, (size_t)(p - f.data));
        uint64_t bits;
        uint64_t ms;
        memcpy(&bits, p + 3, 8);
        p += 12;
        if (!tg_varint_get(&p, end, &ms)) return;
        b->sum += bits + ms;
        look_up(b, h, learn ? &at->series : NULL);
        at++;
    }
}

static void probe_influx(struct bench *b, const struct tg_buf *in, bool learn)
{
    const struct tg_point *at = b->batch.points;
    const uint8_t *p = in->data;
    const uint8_t *const end = in->data + in->len;
    while (p < end) {
        const uint8_t *series_end = memchr(p, ' ', (size_t)(end - p));
        const uint8_t *field_end = memchr(series_end, '=', (size_t)(end - series_end));
        const struct tg_hash128 h = tg_hash128(p, (size_t)(field_end - p));
        b->sum += *field_end;
        look_up(b, h, learn ? &at->series : NULL);
        at++;
        p = (const uint8_t *)memchr(field_end, '\n', (size_t)(end - field_end)) + 1;
    }
}

static void probe(struct bench *b, enum protocol protocol, uint32_t i, bool learn)
{
    switch (protocol) {
    case OTLP: probe_otlp(b, &b->bodies[i], learn); break;
    case REMOTE_WRITE:
    case REMOTE_WRITE_SNAPPY: probe_remote_write(b, &b->bodies[i], learn); break;
    default: probe_influx(b, &b->bodies[i], learn); break;
    }
}

/* --- measuring --- */

static int cmp_doubles(const void *x, const void *y)
{
    const double a = *(const double *)x;
    const double b = *(const double *)y;
    return (a > b) - (a < b);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), cmp_doubles);
    return v[n / 2];
}

static bool set_plan(struct tg_series *s, void *arg)
{
    struct bench *b = arg;
    atomic_store_explicit(&s->plan, b->plan, memory_order_release);
    return true;
}

static bool clear_plan(struct tg_series *s, void *arg)
{
    (void)arg;
    atomic_store_explicit(&s->plan, NULL, memory_order_relaxed);
    return true;
}

static void measure(const struct tg_workload *w, enum protocol protocol, unsigned repetitions)
{
    struct bench *b = tg_calloc(1, sizeof(*b));
    must(b != NULL, "out of memory");
    static const struct tg_table_config config = {.max_series = 0};
    b->table = tg_table_new(&config);
    b->plan = tg_calloc(1, sizeof(*b->plan));
    must(b->table != NULL && b->plan != NULL, "out of memory");
    tg_batch_init(&b->batch, tg_table_guard(b->table), 0, 1 << 20);
    tg_arena_init(&b->arena, 0);
    tg_compress_init(&b->compress);
    tg_buf_init(&b->plain, 0);
    size_t bytes = 0;
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        struct tg_err err = {.msg = ""};
        tg_buf_init(&b->bodies[i], 0);
        tg_buf_init(&b->packed[i], 0);
        switch (protocol) {
        case OTLP: tg_workload_otlp(w, i * PER_REQUEST, PER_REQUEST, &b->bodies[i]); break;
        case INFLUX: tg_workload_influx(w, i * PER_REQUEST, PER_REQUEST, &b->bodies[i]); break;
        default:
            tg_workload_remote_write(w, i * PER_REQUEST, PER_REQUEST, &b->bodies[i]);
            must(tg_compress_encode(&b->compress, TG_ENCODING_SNAPPY, b->bodies[i].data,
                                    b->bodies[i].len, &b->packed[i], &err) == TG_OK,
                 err.msg);
        }
        bytes += b->bodies[i].len;
        decode(b, protocol, i); /* all misses */
        probe(b, protocol, i, true);
    }
    tg_table_each(b->table, set_plan, b);
    double probe_ns[MAX_REPETITIONS];
    double decode_ns[MAX_REPETITIONS];
    const double n = (double)ROUNDS * N_SERIES;
    for (unsigned k = 0; k < repetitions; k++) {
        const uint64_t t0 = tg_clock_mono_ns();
        for (uint32_t i = 0; i < ROUNDS * N_REQUESTS; i++)
            probe(b, protocol, i % N_REQUESTS, false);
        const uint64_t t1 = tg_clock_mono_ns();
        for (uint32_t i = 0; i < ROUNDS * N_REQUESTS; i++) decode(b, protocol, i % N_REQUESTS);
        const uint64_t t2 = tg_clock_mono_ns();
        probe_ns[k] = (double)(t1 - t0) / n;
        decode_ns[k] = (double)(t2 - t1) / n;
    }
    const double p = median(probe_ns, repetitions);
    const double d = median(decode_ns, repetitions);
    (void)printf("%-21s %5.0f B/point  probe %6.1f ns %6.2f M/s   decode %6.1f ns %6.2f M/s   "
                 "%3.0f %% of the probe\n",
                 names[protocol], (double)bytes / N_SERIES, p, 1e3 / p, d, 1e3 / d, 100 * p / d);
    if (b->sum == 1) (void)printf("\n");
    tg_table_each(b->table, clear_plan, b);
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        tg_buf_deinit(&b->bodies[i]);
        tg_buf_deinit(&b->packed[i]);
    }
    tg_buf_deinit(&b->plain);
    tg_compress_deinit(&b->compress);
    tg_arena_deinit(&b->arena);
    tg_batch_deinit(&b->batch);
    tg_table_free(b->table);
    tg_free(b->plan);
    tg_free(b);
}

int main(int argc, char **argv)
{
    const long want = argc > 1 ? strtol(argv[1], NULL, 10) : 11;
    const unsigned repetitions = want < 1                 ? 1
                                 : want > MAX_REPETITIONS ? MAX_REPETITIONS
                                                          : (unsigned)want;
    tg_hash_seed(1);
    struct tg_workload w;
    tg_workload_init(&w, N_SERIES, INT64_C(1700000000000000000));
    (void)printf("%u series, %u points a request, 6 point and 3 resource attributes, one core, "
                 "median of %u\n",
                 N_SERIES, PER_REQUEST, repetitions);
    for (unsigned i = 0; i < N_PROTOCOLS; i++) measure(&w, (enum protocol)i, repetitions);
    tg_workload_deinit(&w);
    return 0;
}
