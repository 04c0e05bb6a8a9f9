/* What becomes of resource and scope at a Prometheus: job, instance, target_info. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/protocol/prom_resource.h"

#define T(o, k, v)                                                                      \
    {                                                                                   \
        .key = (k), .key_len = sizeof(k) - 1, .value = (v), .value_len = sizeof(v) - 1, \
        .origin = TG_ORIGIN_##o                                                         \
    }

static int by_key(const void *a, const void *b)
{
    const struct tg_tag *x = a;
    const struct tg_tag *y = b;
    const size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
    const int c = memcmp(x->key, y->key, n);
    return c ? c : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

static void assert_desc(const char *row, struct tg_series_desc *d, const char *want)
{
    struct tg_buf b;
    tg_buf_init(&b, 0);
    qsort(d->tags, d->n_tags, sizeof(*d->tags), by_key);
    assert_int_equal(tg_series_desc_print(d, &b), TG_OK);
    assert_int_equal(tg_buf_append(&b, "", 1), TG_OK);
    if (strcmp((const char *)b.data, want) != 0) fail_msg("%s: %s, not %s", row, b.data, want);
    tg_buf_deinit(&b);
}

static struct tg_tag whole[] = {
    T(RESOURCE, "host.name", "h"),
    T(SCOPE, "otel.scope.name", "lib"),
    T(POINT, "path", "/"),
    T(RESOURCE, "service.instance.id", "i1"),
    T(RESOURCE, "service.name", "shop"),
    T(RESOURCE, "service.namespace", "eu"),
};
static struct tg_tag ids_only[] = {T(RESOURCE, "service.instance.id", "i1"),
                                   T(RESOURCE, "service.name", "shop")};
static struct tg_tag no_instance[] = {T(RESOURCE, "host.name", "h"),
                                      T(RESOURCE, "service.name", "shop")};
static struct tg_tag no_name[] = {T(RESOURCE, "host.name", "h"),
                                  T(RESOURCE, "service.instance.id", "i1"),
                                  T(RESOURCE, "service.namespace", "eu")};
/* as scripts/tags.lua leaves them */
static struct tg_tag renamed[] = {
    T(RESOURCE, "host.name", "h"), T(RESOURCE, "service.instance.id", "i1"),
    T(POINT, "service_name", "shop"), T(POINT, "service_namespace", "eu")};
static struct tg_tag set_by_rule[] = {T(RESOURCE, "instance", "res"), T(POINT, "job", "mine"),
                                      T(RESOURCE, "service.instance.id", "i1"),
                                      T(RESOURCE, "service.name", "shop")};
/* a point and its scope or resource have attributes of one key (otlp_attr.h) */
static struct tg_tag hidden[] = {T(RESOURCE, "otel.resource.service.name", "s"),
                                 T(RESOURCE, "otel.resource.zone", "z"),
                                 T(SCOPE, "otel.scope.name", "lib"),
                                 T(SCOPE, "otel.scope.otel.scope.version", "1"),
                                 T(POINT, "otel.scope.version", "2"),
                                 T(RESOURCE, "service.instance.id", "i"),
                                 T(POINT, "service.name", "p"),
                                 T(POINT, "zone", "pz")};
/* the same after rules took the point's away, or renamed it as scripts/tags.lua does */
static struct tg_tag uncovered[] = {
    T(RESOURCE, "otel.resource.service.name", "s"), T(RESOURCE, "otel.resource.zone", "z"),
    T(SCOPE, "otel.scope.otel.scope.version", "1"), T(RESOURCE, "service.instance.id", "i"),
    T(POINT, "service_name", "p")};
static struct tg_tag hidden_job[] = {
    T(POINT, "instance", "pi"), T(POINT, "job", "pj"), T(RESOURCE, "otel.resource.job", "rj"),
    T(RESOURCE, "service.instance.id", "i"), T(RESOURCE, "service.name", "s")};
static struct tg_tag no_name_but_job[] = {T(RESOURCE, "host.name", "h"), T(POINT, "job", "pj"),
                                          T(RESOURCE, "service.instance.id", "i")};
static struct tg_tag scraped[] = {T(POINT, "service_instance_id", "i1"),
                                  T(POINT, "service_name", "shop")};

static const struct {
    const char *name;
    struct tg_tag *tags;
    uint32_t n_tags;
    enum tg_kind kind;
    struct tg_prom_resource how;
    const char *points, *target; /* target NULL: none */
} rows[] = {
    {"whole",
     whole,
     6,
     TG_KIND_GAUGE,
     {false, false, NULL},
     "m{instance=\"i1\",job=\"eu/shop\",otel.scope.name=\"lib\",path=\"/\"}",
     "target_info{host.name=\"h\",instance=\"i1\",job=\"eu/shop\"}"},
    {"promoted, without scope",
     whole,
     6,
     TG_KIND_HISTOGRAM,
     {false, true, "k8s.pod.name, host.name,service.name"},
     "m{host.name=\"h\",instance=\"i1\",job=\"eu/shop\",path=\"/\",service.name=\"shop\"}",
     "target_info{host.name=\"h\",instance=\"i1\",job=\"eu/shop\"}"},
    {"not promoted by a part of its key",
     whole,
     6,
     TG_KIND_GAUGE,
     {false, true, "host, name,x"},
     "m{instance=\"i1\",job=\"eu/shop\",path=\"/\"}",
     "target_info{host.name=\"h\",instance=\"i1\",job=\"eu/shop\"}"},
    {"as labels",
     whole,
     6,
     TG_KIND_GAUGE,
     {true, false, NULL},
     "m{host.name=\"h\",instance=\"i1\",job=\"eu/shop\",otel.scope.name=\"lib\",path=\"/\","
     "service.instance.id=\"i1\",service.name=\"shop\",service.namespace=\"eu\"}",
     NULL},
    {"nothing to say of the target",
     ids_only,
     2,
     TG_KIND_COUNTER,
     {false, false, NULL},
     "m{instance=\"i1\",job=\"shop\"}",
     NULL},
    {"no instance: stay labels",
     no_instance,
     2,
     TG_KIND_GAUGE,
     {false, false, NULL},
     "m{host.name=\"h\",job=\"shop\",service.name=\"shop\"}",
     NULL},
    {"no name: no job",
     no_name,
     3,
     TG_KIND_GAUGE,
     {false, false, NULL},
     "m{instance=\"i1\"}",
     "target_info{host.name=\"h\",instance=\"i1\"}"},
    {"renamed by rules",
     renamed,
     4,
     TG_KIND_EXP_HISTOGRAM,
     {false, false, NULL},
     "m{instance=\"i1\",job=\"eu/shop\",service_name=\"shop\",service_namespace=\"eu\"}",
     "target_info{host.name=\"h\",instance=\"i1\",job=\"eu/shop\"}"},
    {"set by rules",
     set_by_rule,
     4,
     TG_KIND_GAUGE,
     {false, false, NULL},
     "m{instance=\"i1\",job=\"mine\"}",
     "target_info{exported_instance=\"res\",instance=\"i1\",job=\"shop\"}"},
    {"hidden by the point",
     hidden,
     8,
     TG_KIND_COUNTER,
     {false, false, NULL},
     "m{instance=\"i\",job=\"s\",otel.scope.name=\"lib\",otel.scope.version=\"1;2\","
     "service.name=\"p\",zone=\"pz\"}",
     "target_info{instance=\"i\",job=\"s\",zone=\"z\"}"},
    {"hidden, promoted, without scope",
     hidden,
     8,
     TG_KIND_COUNTER,
     {false, true, "zone"},
     "m{instance=\"i\",job=\"s\",otel.resource.zone=\"z\",otel.scope.version=\"2\","
     "service.name=\"p\",zone=\"pz\"}",
     "target_info{instance=\"i\",job=\"s\",zone=\"z\"}"},
    {"hidden, as labels",
     hidden,
     8,
     TG_KIND_COUNTER,
     {true, false, NULL},
     "m{instance=\"i\",job=\"s\",otel.resource.service.name=\"s\",otel.resource.zone=\"z\","
     "otel.scope.name=\"lib\",otel.scope.version=\"1;2\",service.instance.id=\"i\","
     "service.name=\"p\",zone=\"pz\"}",
     NULL},
    {"hidden, then uncovered by rules",
     uncovered,
     5,
     TG_KIND_COUNTER,
     {false, false, NULL},
     "m{instance=\"i\",job=\"s\",otel.scope.version=\"1\",service_name=\"p\"}",
     "target_info{instance=\"i\",job=\"s\",zone=\"z\"}"},
    {"job and instance of the point are not the resource's",
     hidden_job,
     5,
     TG_KIND_GAUGE,
     {false, false, NULL},
     "m{instance=\"pi\",job=\"pj\"}",
     "target_info{exported_job=\"rj\",instance=\"i\",job=\"s\"}"},
    {"job of the point, none of the resource",
     no_name_but_job,
     3,
     TG_KIND_GAUGE,
     {false, false, NULL},
     "m{instance=\"i\",job=\"pj\"}",
     "target_info{host.name=\"h\",instance=\"i\"}"},
    {"remote write",
     scraped,
     2,
     TG_KIND_UNKNOWN,
     {false, false, NULL},
     "m{service_instance_id=\"i1\",service_name=\"shop\"}",
     NULL},
    {"remote write, native",
     scraped,
     2,
     TG_KIND_EXP_HISTOGRAM,
     {false, false, NULL},
     "m{service_instance_id=\"i1\",service_name=\"shop\"}",
     NULL},
    {"OTLP, of the point alone",
     scraped,
     2,
     TG_KIND_EXP_HISTOGRAM,
     {false, false, NULL},
     "m{instance=\"i1\",job=\"shop\",service_instance_id=\"i1\",service_name=\"shop\"}",
     NULL},
    {"no tags", NULL, 0, TG_KIND_GAUGE, {false, false, NULL}, "m", NULL},
};

static void tags_are_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_arena arena;
        struct tg_prom_split s;
        const struct tg_series_desc d = {.name = "m",
                                         .unit = "",
                                         .name_len = 1,
                                         .kind = (uint8_t)rows[i].kind,
                                         .temporality =
                                             strncmp(rows[i].name, "remote write", 12) == 0
                                                 ? TG_TEMPORALITY_NONE
                                                 : TG_TEMPORALITY_CUMULATIVE,
                                         .n_tags = rows[i].n_tags,
                                         .tags = rows[i].tags};
        tg_arena_init(&arena, 0);
        for (int run = 0; run < 2; run++) {
            tg_arena_reset(&arena);
            assert_int_equal(tg_prom_resource_split(&d, &rows[i].how, &arena, &s), TG_OK);
            assert_int_equal(s.points.kind, rows[i].kind);
            assert_desc(rows[i].name, &s.points, rows[i].points);
            assert_int_equal(s.has_target, rows[i].target != NULL);
            if (s.has_target) assert_desc(rows[i].name, &s.target, rows[i].target);
        }
        tg_arena_deinit(&arena);
    }
}

static void survives_every_failed_allocation(void **state)
{
    (void)state;
    struct tg_tag both[14];
    memcpy(both, whole, sizeof(whole));
    memcpy(both + 6, hidden, sizeof(hidden));
    const struct tg_series_desc d = {
        .name = "m", .unit = "", .name_len = 1, .kind = TG_KIND_GAUGE, .n_tags = 14, .tags = both};
    for (uint64_t n = 1;; n++) {
        struct tg_arena arena;
        struct tg_prom_split s;
        tg_arena_init(&arena, 0);
        tg_mem_fail_at(n);
        const enum tg_code code = tg_prom_resource_split(
            &d, &(struct tg_prom_resource){.promoted = "host.name"}, &arena, &s);
        const bool fired = tg_mem_fail_fired();
        tg_mem_fail_at(0);
        assert_int_equal(code, fired ? TG_ERR_NOMEM : TG_OK);
        tg_arena_deinit(&arena);
        if (!fired) break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_are_split),
        cmocka_unit_test(survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
