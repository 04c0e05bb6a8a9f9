/* Any text as tags.lua and as routing.lua, under small budgets: it loads or is refused with a
 * message, a decision always comes out, and nothing crashes, hangs or outgrows its cap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/rules/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) abort();
}

static void decide(struct tg_rules *r, struct tg_rules_trace *trace)
{
    struct tg_tag tags[] = {{.key = "env", .key_len = 3, .value = "dev", .value_len = 3},
                            {.key = "team", .key_len = 4, .value = "billing", .value_len = 7}};
    const struct tg_series_desc series = {
        .name = "node.cpu", .name_len = 8, .unit = "s", .unit_len = 1, .n_tags = 2, .tags = tags};
    struct tg_arena arena;
    struct tg_decision d;
    tg_arena_init(&arena, 0);
    require(tg_rules_decide(r, 0, &series, &arena, &d, trace) == TG_OK);
    require((d.targets & ~3U) == 0 && (d.wait & ~d.targets) == 0);
    if (d.failed) require(d.targets == 3 && d.wait == 0);
    require(tg_series_desc_canonicalise(&d.mapped, &tg_series_limits_default, NULL) == TG_OK);
    tg_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const backends[] = {"archive", "influx"};
    enum { MAX_BYTES = 4 << 20 };
    tg_log_set_level((enum tg_log_level)(TG_LOG_ERROR + 1));
    const int fd = memfd_create("rule", MFD_CLOEXEC);
    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    for (int which = 0; which < 4; which++) {
        struct tg_rules_config c = {.backends = backends,
                                    .n_backends = 2,
                                    .n_slots = 1,
                                    .max_instructions = 20000,
                                    .max_ms = 100,
                                    .max_bytes = MAX_BYTES};
        const char **paths[] = {&c.tags_path, &c.routing_path, &c.strategy_path, &c.retention_path};
        *paths[which] = path;
        const uint64_t before = tg_mem_used();
        struct tg_rules *r = NULL;
        struct tg_err err = {.msg = ""};
        if (tg_rules_new(&c, &r, &err) != TG_OK) {
            require(err.msg[0] != '\0' && r == NULL);
            continue;
        }
        struct tg_rules_trace trace;
        for (int i = 0; i < 3; i++) {
            decide(r, i == 1 ? &trace : NULL);
            require(tg_mem_used() < before + MAX_BYTES + (1 << 20));
        }
        tg_rules_free(r);
        require(tg_mem_used() == before);
    }
    (void)close(fd);
    return 0;
}
