/* bench_table: the series table's look-up time and memory.
 *
 * Workloads:
 *   find     K raw keys, looked up in random order: ns per tg_table_find_raw, without and with a
 *            prefetch 16 keys ahead, beside a probe (the same order over a bare array of keys)
 *   memory   100,000 series with 9 tags, of which 7 have values shared by many, one has a value per
 *            1,000 series and one is unique; one raw key each and a plan with 230 prepared bytes:
 *            bytes per series that went through core/base/mem.h
 *   intern   ns per new series (canonicalise, hash, symbols) and per known one, same series
 *
 * Run: build/release/tests/bench_table
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/model/table.h"
#include "tests/support/rng.h"

enum { N_SERIES = 100000, N_TAGS = 9, PREPARED_BYTES = 115, N_PREPARED = 2, AHEAD = 16 };

static uint64_t rng_state = 88172645463325252U;
static uint64_t rng(void)
{
    return rng_next(&rng_state);
}

static struct tg_hash128 raw_key(uint64_t i)
{
    return tg_hash128(&i, sizeof(i));
}

static void must(int ok, const char *what)
{
    if (ok) return;
    (void)fprintf(stderr, "bench_table: %s failed\n", what);
    exit(1);
}

static void intern_nth(struct tg_table *t, unsigned n, struct tg_series **out)
{
    static const char *const shared[7][2] = {
        {"deployment.environment", "production"},
        {"host.arch", "amd64"},
        {"http.method", "GET"},
        {"service.name", "checkout"},
        {"service.namespace", "shop"},
        {"telemetry.sdk.language", "java"},
        {"telemetry.sdk.name", "opentelemetry-sdk-xyz"},
    };
    char pod[48];
    char route[48];
    struct tg_tag tags[N_TAGS];
    for (unsigned i = 0; i < 7; i++)
        tags[i] = (struct tg_tag){.key = shared[i][0],
                                  .value = shared[i][1],
                                  .key_len = (uint32_t)strlen(shared[i][0]),
                                  .value_len = (uint32_t)strlen(shared[i][1]),
                                  .origin = TG_ORIGIN_RESOURCE};
    (void)snprintf(pod, sizeof(pod), "checkout-%06x", n / 1000);
    (void)snprintf(route, sizeof(route), "instance-%08x-%u", n, n % 7);
    tags[7] = (struct tg_tag){
        .key = "k8s.pod.name", .value = pod, .key_len = 12, .value_len = (uint32_t)strlen(pod)};
    tags[8] = (struct tg_tag){
        .key = "instance", .value = route, .key_len = 8, .value_len = (uint32_t)strlen(route)};
    struct tg_series_desc d = {.name = "http.server.request.duration",
                               .name_len = 28,
                               .unit = "ms",
                               .unit_len = 2,
                               .kind = TG_KIND_COUNTER,
                               .temporality = TG_TEMPORALITY_CUMULATIVE,
                               .n_tags = N_TAGS,
                               .tags = tags};
    must(tg_table_intern(t, &d, out, NULL) == TG_OK, "intern");
}

static enum tg_code prepare(void *backend, const struct tg_series_desc *mapped, struct tg_buf *out,
                            struct tg_err *err)
{
    static const char bytes[PREPARED_BYTES];
    (void)backend;
    (void)mapped;
    (void)err;
    return tg_buf_append(out, bytes, sizeof(bytes));
}

static void bench_memory(void)
{
    struct tg_table *t = tg_table_new(&(struct tg_table_config){0});
    must(t != NULL, "tg_table_new");
    const uint64_t empty = tg_mem_used();
    struct tg_buf scratch;
    tg_buf_init(&scratch, 0);
    const struct tg_preparer preparers[N_PREPARED] = {{.fn = prepare}, {.fn = prepare}};
    const struct tg_decision decision = {
        .generation = 1, .targets = 3, .wait = 1, .retention = {.keep_ms = 1}};
    uint64_t new_ns = tg_clock_mono_ns();
    struct tg_series *s;
    for (unsigned i = 0; i < N_SERIES; i++) intern_nth(t, i, &s);
    new_ns = tg_clock_mono_ns() - new_ns;
    (void)tg_table_sweep(t, 0);
    const uint64_t with_series = tg_mem_used();
    uint64_t known_ns = tg_clock_mono_ns();
    for (unsigned i = 0; i < N_SERIES; i++) {
        intern_nth(t, i, &s);
        tg_table_remember_raw(t, raw_key(i), s);
    }
    known_ns = tg_clock_mono_ns() - known_ns;
    (void)tg_table_sweep(t, 0);
    const uint64_t with_raw = tg_mem_used();
    for (unsigned i = 0; i < N_SERIES; i++) {
        struct tg_plan *plan = tg_plan_new(&decision, preparers, N_PREPARED, &scratch);
        must(plan != NULL, "tg_plan_new");
        (void)tg_table_set_plan(t, tg_table_find_raw(t, raw_key(i)), NULL, plan);
    }
    tg_buf_deinit(&scratch);
    const uint64_t with_plans = tg_mem_used();
    const struct tg_table_stats st = tg_table_stats(t);
    (void)printf(
        "memory   %d series, %d tags, %llu symbols: %.0f B/series = %.0f object, canonical "
        "slot and symbols + %.0f raw key + %.0f plan (empty table: %.0f kB)\n",
        N_SERIES, N_TAGS, (unsigned long long)st.n_symbols, (double)(with_plans - empty) / N_SERIES,
        (double)(with_series - empty) / N_SERIES, (double)(with_raw - with_series) / N_SERIES,
        (double)(with_plans - with_raw) / N_SERIES, (double)empty / 1e3);
    (void)printf("intern   %.0f ns per new series, %.0f ns per known one with its raw key\n",
                 (double)new_ns / N_SERIES, (double)known_ns / N_SERIES);
    tg_table_free(t);
}

static void bench_find(unsigned n_keys)
{
    enum { LOOKUPS = 4000000 };
    struct tg_table *t = tg_table_new(&(struct tg_table_config){.max_raw_keys = n_keys});
    struct tg_series *series[1000];
    for (unsigned i = 0; i < 1000; i++) intern_nth(t, i, &series[i]);
    for (unsigned i = 0; i < n_keys; i++) tg_table_remember_raw(t, raw_key(i), series[i % 1000]);
    (void)tg_table_sweep(t, 0);
    must(tg_table_stats(t).n_raw_keys == n_keys, "remember_raw");
    struct tg_hash128 *order = tg_malloc(LOOKUPS * sizeof(*order));
    struct tg_hash128 *bare = tg_malloc(n_keys * sizeof(*bare));
    must(order && bare, "tg_malloc");
    uint32_t *index = tg_malloc(LOOKUPS * sizeof(*index));
    for (unsigned i = 0; i < n_keys; i++) bare[i] = raw_key(i);
    for (unsigned i = 0; i < LOOKUPS; i++) {
        index[i] = (uint32_t)(rng() % n_keys);
        order[i] = bare[index[i]];
    }
    double best[3] = {1e9, 1e9, 1e9};
    for (unsigned round = 0; round < 3; round++) {
        uint64_t sum = 0;
        uint64_t ns[4];
        ns[0] = tg_clock_mono_ns();
        for (unsigned i = 0; i < LOOKUPS; i++) sum += bare[index[i]].lo ^ order[i].lo;
        ns[1] = tg_clock_mono_ns();
        for (unsigned i = 0; i < LOOKUPS; i++) sum += tg_table_find_raw(t, order[i])->kind;
        ns[2] = tg_clock_mono_ns();
        for (unsigned i = 0; i < LOOKUPS; i++) {
            if (i + AHEAD < LOOKUPS) tg_table_prefetch_raw(t, order[i + AHEAD]);
            sum += tg_table_find_raw(t, order[i])->kind;
        }
        ns[3] = tg_clock_mono_ns();
        must(sum != 0, "look-up");
        for (unsigned k = 0; k < 3; k++) {
            const double per = (double)(ns[k + 1] - ns[k]) / LOOKUPS;
            if (per < best[k]) best[k] = per;
        }
    }
    (void)printf("find     %7u raw keys: %5.1f ns, %5.1f ns with prefetch (probe: %.1f ns)\n",
                 n_keys, best[1], best[2], best[0]);
    tg_free(index);
    tg_free(bare);
    tg_free(order);
    tg_table_free(t);
}

int main(void)
{
    tg_hash_seed(1);
    bench_find(10000);
    bench_find(1000000);
    bench_memory();
    return 0;
}
