/* Generated load: the same points in every protocol, and the decoders take all of them. The host's
 * metrics: from a made-up /proc. */
#include "core/client/load_generator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/client/host_metrics.h"
#include "core/codec/compress.h"
#include "core/protocol/influx_line.h"
#include "core/protocol/otlp.h"
#include "core/protocol/remote_write.h"

enum { N_SERIES = 37, N_POINTS = 100 };

static int64_t turn_ns(void *arg, uint64_t turn)
{
    (void)arg;
    return INT64_C(1767225600000000000) + (int64_t)turn * 1000000000;
}

static void decode(enum tg_send_protocol protocol, const struct tg_buf *body, struct tg_intake *d)
{
    struct tg_err err = {.msg = ""};
    struct tg_buf raw;
    struct tg_compress compress;
    tg_buf_init(&raw, 1 << 24);
    tg_compress_init(&compress);
    enum tg_code code = TG_OK;
    if (protocol == TG_SEND_OTLP)
        code = tg_otlp_decode_metrics(body->data, body->len, d, &err);
    else if (protocol == TG_SEND_INFLUX)
        code = tg_influx_decode(body->data, body->len, 1, d, &err);
    else
        code = tg_compress_decode(&compress, TG_ENCODING_SNAPPY, body->data, body->len, 1 << 24,
                                  &raw, &err);
    if (code == TG_OK && protocol == TG_SEND_REMOTE_WRITE)
        code = tg_remote_write_decode(raw.data, raw.len, d, &err);
    if (code != TG_OK) fail_msg("protocol %d: %s", (int)protocol, err.msg);
    tg_compress_deinit(&compress);
    tg_buf_deinit(&raw);
}

static void test_protocols(void **state)
{
    (void)state;
    static double values[3][2 * N_POINTS];
    static int64_t times[3][2 * N_POINTS];
    for (int p = 0; p < 3; p++) {
        struct tg_load_generator *load;
        struct tg_err err = {.msg = ""};
        if (tg_load_generator_new(N_SERIES, (enum tg_send_protocol)p, 7, &load, &err) != TG_OK)
            fail_msg("%s", err.msg);
        struct tg_table *table = tg_table_new(&(struct tg_table_config){.max_series = 1000});
        struct tg_batch batch;
        struct tg_arena arena;
        tg_batch_init(&batch, tg_table_guard(table), 0, 0);
        tg_arena_init(&arena, 0);
        struct tg_intake d = {.table = table, .batch = &batch, .arena = &arena};
        for (int k = 0; k < 2; k++) {
            struct tg_buf body;
            tg_buf_init(&body, 1 << 24);
            assert_int_equal(tg_load_generator_body(load, N_POINTS, turn_ns, NULL, &body, &err),
                             TG_OK);
            decode((enum tg_send_protocol)p, &body, &d);
            tg_buf_deinit(&body);
        }
        if (d.n_rejected) fail_msg("%s", d.first_reject.msg);
        assert_int_equal(d.n_accepted, 2 * N_POINTS);
        assert_int_equal(batch.n_points, 2 * N_POINTS);
        for (int i = 0; i < 2 * N_POINTS; i++) {
            assert_true(tg_point_as_double(&batch.points[i], &values[p][i]));
            times[p][i] = batch.points[i].ts_ns;
        }
        assert_int_equal(tg_table_stats(table).n_series, N_SERIES);
        tg_batch_deinit(&batch);
        tg_arena_deinit(&arena);
        tg_table_free(table);
        tg_load_generator_free(load);
    }
    for (int i = 0; i < 2 * N_POINTS; i++) {
        for (int p = 1; p < 3; p++) {
            assert_true(values[0][i] == values[p][i]);
            assert_int_equal(times[0][i], times[p][i]);
        }
        assert_int_equal(times[0][i], turn_ns(NULL, (uint64_t)i / N_SERIES));
    }
}

/* --- host --------------------------------------------------------------------------------------*/

static char proc[64];

static void put(const char *name, const char *text)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", proc, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* The value of the one item with this name and these tags ("key=value", NULL = any). */
static double value_of(const struct tg_otlp_item *items, uint32_t n, const char *name,
                       const char *tag1, const char *tag2)
{
    const char *wanted[] = {tag1, tag2};
    double found = -1;
    int n_found = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct tg_series_desc *d = items[i].desc;
        bool match = strncmp(d->name, name, d->name_len) == 0 && strlen(name) == d->name_len;
        for (size_t w = 0; match && w < 2 && wanted[w]; w++) {
            bool has = false;
            for (uint32_t t = 0; t < d->n_tags; t++) {
                char text[128];
                (void)snprintf(text, sizeof(text), "%.*s=%.*s", (int)d->tags[t].key_len,
                               d->tags[t].key, (int)d->tags[t].value_len, d->tags[t].value);
                has |= strcmp(text, wanted[w]) == 0;
            }
            match = has;
        }
        if (!match) continue;
        n_found++;
        assert_true(tg_point_as_double(items[i].point, &found));
    }
    if (n_found != 1) fail_msg("%s %s %s: found %d times", name, tag1, tag2, n_found);
    return found;
}

static void test_host(void **state)
{
    (void)state;
    (void)snprintf(proc, sizeof(proc), "/tmp/tg-proc-XXXXXX");
    assert_non_null(mkdtemp(proc));
    char path[128];
    static const char *const folders[] = {"net", "self", "1", "42"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", proc, folders[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    put("stat", "cpu  100 0 50 850 0 0 0 0 0 0\ncpu0 100 0 50 850 0 0 0 0 0 0\nctxt 77\n"
                "btime 1767225600\nprocesses 4242\n");
    put("meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 500 kB\nBuffers: 50 kB\n"
                   "Cached: 200 kB\nSReclaimable: 50 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n");
    put("loadavg", "0.50 1.25 2.00 3/456 7890\n");
    put("uptime", "123.45 99.0\n");
    put("net/dev", "Inter-|   Receive\n face |bytes\n"
                   "  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n");
    put("self/mounts", "proc /proc proc rw 0 0\noverlay / overlay rw 0 0\n");

    struct tg_host_metrics *h = tg_host_metrics_new(proc);
    assert_non_null(h);
    const struct tg_otlp_item *items;
    uint32_t n;
    struct tg_err err = {.msg = ""};
    assert_int_equal(tg_host_metrics_collect(h, 5, &items, &n, &err), TG_OK);
    assert_true(value_of(items, n, "system.cpu.time", "cpu=cpu0", "state=user") > 0);
    assert_true(value_of(items, n, "system.process.created", NULL, NULL) == 4242);
    assert_true(value_of(items, n, "system.process.count", NULL, NULL) == 2);
    assert_true(value_of(items, n, "system.memory.usage", "state=used", NULL) == 600 * 1024);
    assert_true(value_of(items, n, "system.memory.usage", "state=cached", NULL) == 250 * 1024);
    assert_true(value_of(items, n, "system.memory.utilization", "state=free", NULL) == 0.1);
    assert_true(value_of(items, n, "system.cpu.load_average.5m", NULL, NULL) == 1.25);
    assert_true(value_of(items, n, "system.uptime", NULL, NULL) == 123.45);
    assert_true(value_of(items, n, "system.network.io", "device=eth0", "direction=transmit") ==
                2000);
    assert_true(value_of(items, n, "system.network.dropped", "direction=receive", NULL) == 2);
    assert_true(value_of(items, n, "system.filesystem.usage", "mountpoint=/", "state=used") > 0);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(items[i].point->ts_ns, 5);

    /* Utilization is what happened between two looks. */
    put("stat", "cpu0 150 0 50 900 0 0 0 0 0 0\nbtime 1767225600\n");
    assert_int_equal(tg_host_metrics_collect(h, 6, &items, &n, &err), TG_OK);
    assert_true(value_of(items, n, "system.cpu.utilization", "cpu=cpu0", "state=user") == 0.5);
    assert_true(value_of(items, n, "system.cpu.utilization", "cpu=cpu0", "state=idle") == 0.5);
    assert_true(value_of(items, n, "system.cpu.utilization", "cpu=cpu0", "state=system") == 0);
    tg_host_metrics_free(h);

    h = tg_host_metrics_new("/nonexistent");
    assert_int_equal(tg_host_metrics_collect(h, 5, &items, &n, &err), TG_ERR_UNAVAILABLE);
    tg_host_metrics_free(h);
    (void)snprintf(path, sizeof(path), "rm -rf %s", proc);
    assert_int_equal(system(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
