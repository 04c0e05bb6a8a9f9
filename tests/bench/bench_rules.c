/* What one decision costs with the shipped rules, and with those of the design's example: once per
 * series and generation, so it bounds how fast new series can come.
 *
 *   bench_rules [n_decisions]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/rules/rules.h"

static const char *const keys[] = {"service.name",
                                   "service.namespace",
                                   "host.name",
                                   "http.request.method",
                                   "http.route",
                                   "http.response.status_code",
                                   "network.protocol.version",
                                   "server.address",
                                   "url.scheme"};

static void run(const char *what, const struct tg_rules_config *config, unsigned n)
{
    struct tg_rules *rules;
    struct tg_err err;
    if (tg_rules_new(config, &rules, &err) != TG_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return;
    }
    enum { TAGS = sizeof(keys) / sizeof(keys[0]) };
    struct tg_tag tags[TAGS];
    char values[TAGS][32];
    char name[32];
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    const uint64_t start = tg_clock_mono_ns();
    for (unsigned i = 0; i < n; i++) {
        struct tg_series_desc d = {.name = name, .unit = "ms", .unit_len = 2, .tags = tags};
        d.name_len = (uint32_t)snprintf(name, sizeof(name), "http.server.duration.%u", i % 10);
        for (unsigned k = 0; k < TAGS; k++) {
            const int len = snprintf(values[k], sizeof(values[k]), "value-%u-%u", k, i);
            tags[k] = (struct tg_tag){.key = keys[k],
                                      .key_len = (uint32_t)strlen(keys[k]),
                                      .value = values[k],
                                      .value_len = (uint32_t)len};
        }
        d.n_tags = TAGS;
        struct tg_decision out;
        tg_arena_reset(&arena);
        if (tg_series_desc_canonicalise(&d, &tg_series_limits_default, NULL) != TG_OK ||
            tg_rules_decide(rules, 0, &d, &arena, &out, NULL) != TG_OK || out.failed)
            (void)fprintf(stderr, "failed: %s\n", tg_rules_stats(rules).last_error);
    }
    const double ns = (double)(tg_clock_mono_ns() - start) / n;
    (void)printf("%-14s %8.0f ns/decision, %u tags, %llu KiB held\n", what, ns, (unsigned)TAGS,
                 (unsigned long long)tg_mem_used() / 1024);
    tg_arena_deinit(&arena);
    tg_rules_free(rules);
}

int main(int argc, char **argv)
{
    const unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 200000;
    static const char *const backends[] = {"archive", "timescale"};
    struct tg_rules_config none = {.backends = backends, .n_backends = 2, .n_slots = 1};
    struct tg_rules_config shipped = none;
    shipped.tags_path = TG_SOURCE_DIR "/scripts/tags.lua";
    shipped.routing_path = TG_SOURCE_DIR "/scripts/routing.lua";
    shipped.strategy_path = TG_SOURCE_DIR "/scripts/strategy.lua";
    shipped.retention_path = TG_SOURCE_DIR "/scripts/retention.lua";
    run("no rules", &none, n);
    run("shipped rules", &shipped, n);
    return 0;
}
