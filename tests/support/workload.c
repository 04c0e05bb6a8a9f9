#include "tests/support/workload.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/mem.h"
#include "core/protocol/influx_line.h"
#include "core/protocol/otlp_encode.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/remote_write.h"
#include "tests/support/rng.h"

enum { SERIES_PER_METRIC = 100, N_TAGS = 3 + 2 + 6 };

static void must(bool ok, const char *what)
{
    if (ok) return;
    (void)fprintf(stderr, "workload: %s\n", what);
    abort();
}

static uint64_t next_random(struct tg_workload *w)
{
    return rng_next(&w->rng);
}

static struct tg_tag tag(struct tg_arena *a, uint8_t origin, const char *key, const char *fmt,
                         uint32_t value)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%s%u", fmt, value);
    const char *const copy = tg_arena_strndup(a, text, strlen(text));
    must(copy != NULL, "out of memory");
    return (struct tg_tag){.key = key,
                           .key_len = (uint32_t)strlen(key),
                           .value = copy,
                           .value_len = (uint32_t)strlen(copy),
                           .origin = origin};
}

static void describe(struct tg_workload *w, uint32_t i)
{
    static const char *const subjects[] = {"http.server", "db.client", "queue", "cache", "runtime"};
    static const char *const gauges[] = {"active", "utilization", "lag", "size", "temperature"};
    static const char *const counters[] = {"requests", "errors", "bytes", "retries", "timeouts"};
    struct tg_series_desc *d = &w->descs[i];
    const uint32_t metric = i / SERIES_PER_METRIC;
    const uint32_t k = i % SERIES_PER_METRIC;
    const bool is_counter = metric % 2;
    char name[64];
    (void)snprintf(name, sizeof(name), "%s.%s.%u", subjects[metric % 5],
                   (is_counter ? counters : gauges)[metric / 5 % 5], metric);
    struct tg_tag *tags = tg_arena_alloc(&w->arena, N_TAGS * sizeof(*tags));
    must(tags != NULL, "out of memory");
    struct tg_arena *a = &w->arena;
    tags[0] = tag(a, TG_ORIGIN_RESOURCE, "service.name", "checkout-", 1);
    tags[1] = tag(a, TG_ORIGIN_RESOURCE, "service.namespace", "shop-eu-", 1);
    tags[2] =
        tag(a, TG_ORIGIN_RESOURCE, "service.instance.id", "627cc493-f310-47de-96bd-71410b7dec0", 9);
    tags[3] = tag(a, TG_ORIGIN_SCOPE, "otel.scope.name", "bench.workload", 1);
    tags[4] = tag(a, TG_ORIGIN_SCOPE, "otel.scope.version", "1.0.", 0);
    tags[5] = tag(a, TG_ORIGIN_POINT, "http.request.method", k % 3 ? "GET" : "POST", 1);
    tags[6] = tag(a, TG_ORIGIN_POINT, "http.route", "/api/orders/v", k / 50 + 1);
    tags[7] = tag(a, TG_ORIGIN_POINT, "http.response.status", "20", k % 5);
    tags[8] = tag(a, TG_ORIGIN_POINT, "host.name", "node-eu-", 100 + k);
    tags[9] = tag(a, TG_ORIGIN_POINT, "region", "eu-west-", k / 25);
    tags[10] = tag(a, TG_ORIGIN_POINT, "zone", "eu-west-1a-", k % 4);
    *d = (struct tg_series_desc){
        .name = tg_arena_strndup(a, name, strlen(name)),
        .name_len = (uint32_t)strlen(name),
        .unit = is_counter ? "1" : "By",
        .unit_len = is_counter ? 1 : 2,
        .kind = is_counter ? TG_KIND_COUNTER : TG_KIND_GAUGE,
        .temporality = is_counter ? TG_TEMPORALITY_CUMULATIVE : TG_TEMPORALITY_NONE,
        .n_tags = N_TAGS,
        .tags = tags,
    };
    must(d->name != NULL, "out of memory");
    struct tg_err err;
    must(tg_series_desc_canonicalise(d, &tg_series_limits_default, &err) == TG_OK, err.msg);
}

static void prepare(struct tg_workload *w)
{
    struct tg_err err = {.msg = ""};
    for (unsigned f = 0; f < 2; f++) {
        struct tg_buf *b = &w->prepared[f];
        w->prepared_at[f] = tg_arena_alloc(&w->arena, ((size_t)w->n_series + 1) * 4);
        must(w->prepared_at[f] != NULL, "out of memory");
        tg_buf_init(b, 0);
        for (uint32_t i = 0; i < w->n_series; i++) {
            w->prepared_at[f][i] = (uint32_t)b->len;
            must((f ? tg_influx_prepare(&w->descs[i], b, &err)
                    : tg_remote_write_prepare(&w->descs[i], &tg_prom_names_default, NULL, b,
                                              &err)) == TG_OK,
                 err.msg);
        }
        w->prepared_at[f][w->n_series] = (uint32_t)b->len;
    }
}

void tg_workload_init(struct tg_workload *w, uint32_t n_series, int64_t ts_ns)
{
    *w = (struct tg_workload){.n_series = n_series, .rng = UINT64_C(0x9E3779B97F4A7C15)};
    tg_arena_init(&w->arena, 0);
    w->descs = tg_arena_calloc(&w->arena, n_series, sizeof(*w->descs));
    w->points = tg_arena_calloc(&w->arena, n_series, sizeof(*w->points));
    must(w->descs && w->points, "out of memory");
    for (uint32_t i = 0; i < n_series; i++) {
        struct tg_point *p = &w->points[i];
        describe(w, i);
        p->ts_ns = ts_ns;
        if (w->descs[i].kind == TG_KIND_COUNTER) {
            p->type = TG_VALUE_INT64;
            p->start_ns = ts_ns - INT64_C(3600000000000);
            p->value.i64 = (int64_t)(next_random(w) % 1000000);
        } else {
            p->type = TG_VALUE_DOUBLE;
            p->value.f64 = (double)(next_random(w) % 100000) / 100;
        }
    }
    prepare(w);
}

void tg_workload_deinit(struct tg_workload *w)
{
    tg_buf_deinit(&w->prepared[0]);
    tg_buf_deinit(&w->prepared[1]);
    tg_arena_deinit(&w->arena);
}

void tg_workload_step(struct tg_workload *w, int64_t step_ns)
{
    for (uint32_t i = 0; i < w->n_series; i++) {
        struct tg_point *p = &w->points[i];
        const uint64_t r = next_random(w);
        p->ts_ns += step_ns;
        if (p->type == TG_VALUE_INT64)
            p->value.i64 += (int64_t)(r % 20);
        else if (r % 4 == 0) /* gauges often stay as they are */
            p->value.f64 += ((double)(r >> 8 & 0xff) - 128) / 100;
    }
}

void tg_workload_otlp(const struct tg_workload *w, uint32_t first, uint32_t n, struct tg_buf *out)
{
    struct tg_err err = {.msg = ""};
    struct tg_otlp_item *items = tg_calloc(n, sizeof(*items));
    must(items != NULL, "out of memory");
    for (uint32_t i = 0; i < n; i++)
        items[i] = (struct tg_otlp_item){&w->descs[first + i], &w->points[first + i]};
    must(tg_otlp_encode_metrics(items, n, out, &err) == TG_OK, err.msg);
    tg_free(items);
}

void tg_workload_remote_write(const struct tg_workload *w, uint32_t first, uint32_t n,
                              struct tg_buf *out)
{
    for (uint32_t i = first; i < first + n; i++) {
        const uint32_t at = w->prepared_at[0][i];
        must(tg_remote_write_append_point(out, w->prepared[0].data + at,
                                          w->prepared_at[0][i + 1] - at, &w->points[i]) == TG_OK,
             "remote write");
    }
}

void tg_workload_influx(const struct tg_workload *w, uint32_t first, uint32_t n, struct tg_buf *out)
{
    struct tg_err err = {.msg = ""};
    for (uint32_t i = first; i < first + n; i++) {
        const uint32_t at = w->prepared_at[1][i];
        must(tg_influx_append_point(w->prepared[1].data + at, w->prepared_at[1][i + 1] - at,
                                    &w->points[i], 0, out, &err) == TG_OK,
             err.msg);
    }
}
