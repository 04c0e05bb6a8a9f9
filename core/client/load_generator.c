#include "core/client/load_generator.h"

#include <stdio.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/mem.h"
#include "core/codec/compress.h"
#include "core/protocol/influx_line.h"
#include "core/protocol/otlp_encode.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/remote_write.h"

enum { N_TAGS = 9 };

struct series {
    struct tg_series_desc desc;
    const uint8_t *prepared; /* for remote write and Influx lines */
    uint32_t prepared_len;
    union {
        int64_t count;
        double level;
    };
};

struct tg_load_generator {
    enum tg_send_protocol protocol;
    uint32_t n_series;
    uint64_t next; /* points made so far */
    uint64_t random;
    struct tg_arena arena;
    struct series *series;
    struct tg_otlp_item *items;
    struct tg_point *points;
    uint32_t cap;
    struct tg_buf raw; /* remote write before snappy */
    struct tg_compress compress;
};

/* xorshift64: repeatable, and good enough for wobbling gauges. */
static uint64_t next_random(struct tg_load_generator *l)
{
    l->random ^= l->random << 13;
    l->random ^= l->random >> 7;
    l->random ^= l->random << 17;
    return l->random;
}

static bool set_tag(struct tg_load_generator *l, struct tg_tag *tag, const char *key,
                    enum tg_origin origin, const char *prefix, uint32_t n)
{
    char value[64];
    const int len = snprintf(value, sizeof(value), "%s%u", prefix, n);
    *tag = (struct tg_tag){.key = key,
                           .key_len = (uint32_t)strlen(key),
                           .value = tg_arena_strndup(&l->arena, value, (size_t)len),
                           .value_len = (uint32_t)len,
                           .origin = (uint8_t)origin};
    return tag->value != NULL;
}

static enum tg_code make_series(struct tg_load_generator *l, uint32_t i, struct tg_buf *scratch,
                                struct tg_err *err)
{
    struct series *s = &l->series[i];
    const bool is_counter = i % 2 == 0;
    char name[64];
    const int name_len =
        snprintf(name, sizeof(name), "load.%s.%u", is_counter ? "requests" : "level", i / 2 % 10);
    struct tg_tag *tags = tg_arena_calloc(&l->arena, N_TAGS, sizeof(*tags));
    s->desc = (struct tg_series_desc){
        .name = tg_arena_strndup(&l->arena, name, (size_t)name_len),
        .name_len = (uint32_t)name_len,
        .unit = is_counter ? "{request}" : "By",
        .unit_len = is_counter ? 9 : 2,
        .kind = is_counter ? TG_KIND_COUNTER : TG_KIND_GAUGE,
        .temporality = is_counter ? TG_TEMPORALITY_CUMULATIVE : TG_TEMPORALITY_NONE,
        .tags = tags,
        .n_tags = N_TAGS,
    };
    if (!tags || !s->desc.name ||
        !set_tag(l, &tags[0], "service.name", TG_ORIGIN_RESOURCE, "load-", i / 1000 % 20) ||
        !set_tag(l, &tags[1], "service.namespace", TG_ORIGIN_RESOURCE, "bench-", 1) ||
        !set_tag(l, &tags[2], "deployment.environment", TG_ORIGIN_RESOURCE, "env-", 1) ||
        !set_tag(l, &tags[3], "instance", TG_ORIGIN_POINT, "instance-", i) ||
        !set_tag(l, &tags[4], "method", TG_ORIGIN_POINT, "method-", i % 5) ||
        !set_tag(l, &tags[5], "route", TG_ORIGIN_POINT, "/api/v1/things/", i % 50) ||
        !set_tag(l, &tags[6], "status", TG_ORIGIN_POINT, "20", i % 7) ||
        !set_tag(l, &tags[7], "zone", TG_ORIGIN_POINT, "zone-", i % 3) ||
        !set_tag(l, &tags[8], "team", TG_ORIGIN_POINT, "team-", i % 11))
        return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    if (is_counter)
        s->count = (int64_t)(next_random(l) % 100000);
    else
        s->level = (double)(next_random(l) % 1000000) / 100;
    TG_TRY(tg_series_desc_canonicalise(&s->desc, &tg_series_limits_default, err));
    if (l->protocol == TG_SEND_OTLP) return TG_OK;
    tg_buf_reset(scratch);
    TG_TRY(l->protocol == TG_SEND_INFLUX
               ? tg_influx_prepare(&s->desc, scratch, err)
               : tg_remote_write_prepare(&s->desc, &tg_prom_names_default, NULL, scratch, err));
    uint8_t *bytes = tg_arena_alloc(&l->arena, scratch->len);
    if (!bytes) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    memcpy(bytes, scratch->data, scratch->len);
    s->prepared = bytes;
    s->prepared_len = (uint32_t)scratch->len;
    return TG_OK;
}

enum tg_code tg_load_generator_new(uint32_t n_series, enum tg_send_protocol protocol, uint64_t seed,
                                   struct tg_load_generator **out, struct tg_err *err)
{
    struct tg_load_generator *l = tg_calloc(1, sizeof(*l));
    if (!l) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    l->protocol = protocol;
    l->n_series = n_series;
    l->random = seed ? seed : 1;
    tg_arena_init(&l->arena, 0);
    tg_buf_init(&l->raw, 0);
    tg_compress_init(&l->compress);
    struct tg_buf scratch;
    tg_buf_init(&scratch, 1 << 20);
    l->series = tg_calloc(n_series, sizeof(*l->series));
    enum tg_code code = TG_OK;
    if (!l->series) code = tg_fail(err, TG_ERR_NOMEM, "out of memory");
    for (uint32_t i = 0; l->series && code == TG_OK && i < n_series; i++)
        code = make_series(l, i, &scratch, err);
    tg_buf_deinit(&scratch);
    if (code == TG_OK)
        *out = l;
    else
        tg_load_generator_free(l);
    return code;
}

void tg_load_generator_free(struct tg_load_generator *l)
{
    if (!l) return;
    tg_arena_deinit(&l->arena);
    tg_buf_deinit(&l->raw);
    tg_compress_deinit(&l->compress);
    tg_free(l->series);
    tg_free(l->items);
    tg_free(l->points);
    tg_free(l);
}

static enum tg_code reserve(struct tg_load_generator *l, uint32_t n, struct tg_err *err)
{
    if (n <= l->cap) return TG_OK;
    struct tg_point *points = tg_reallocarray(l->points, n, sizeof(*points));
    if (points) l->points = points;
    struct tg_otlp_item *items = tg_reallocarray(l->items, n, sizeof(*items));
    if (items) l->items = items;
    if (!points || !items) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    l->cap = n;
    return TG_OK;
}

enum tg_code tg_load_generator_body(struct tg_load_generator *l, uint32_t n,
                                    int64_t (*turn_ns)(void *arg, uint64_t turn), void *arg,
                                    struct tg_buf *out, struct tg_err *err)
{
    TG_TRY(reserve(l, n, err));
    tg_buf_reset(&l->raw);
    uint64_t last_turn = UINT64_MAX;
    int64_t ts_ns = 0, start_ns = turn_ns(arg, 0);
    for (uint32_t k = 0; k < n; k++, l->next++) {
        const uint64_t turn = l->next / l->n_series;
        struct series *s = &l->series[l->next % l->n_series];
        if (turn != last_turn) ts_ns = turn_ns(arg, turn);
        last_turn = turn;
        struct tg_point *p = &l->points[k];
        *p = (struct tg_point){.ts_ns = ts_ns};
        if (s->desc.kind == TG_KIND_COUNTER) {
            s->count += (int64_t)(next_random(l) % 20);
            p->start_ns = start_ns;
            p->type = TG_VALUE_INT64;
            p->value.i64 = s->count;
        } else {
            if (next_random(l) % 4 == 0) s->level += ((double)(next_random(l) % 200) - 100) / 100;
            p->type = TG_VALUE_DOUBLE;
            p->value.f64 = s->level;
        }
        l->items[k] = (struct tg_otlp_item){.desc = &s->desc, .point = p};
        if (l->protocol == TG_SEND_INFLUX)
            TG_TRY(tg_influx_append_point(s->prepared, s->prepared_len, p, 0, out, err));
        else if (l->protocol == TG_SEND_REMOTE_WRITE)
            TG_TRY(tg_remote_write_append_point(&l->raw, s->prepared, s->prepared_len, p));
    }
    if (l->protocol == TG_SEND_OTLP) return tg_otlp_encode_metrics(l->items, n, out, err);
    if (l->protocol == TG_SEND_REMOTE_WRITE)
        return tg_compress_encode(&l->compress, TG_ENCODING_SNAPPY, l->raw.data, l->raw.len, out,
                                  err);
    return TG_OK;
}
