/* rules_fixture.h: four scripts in a temporary folder and the rules loaded from them. */
#ifndef TG_TESTS_RULES_FIXTURE_H
#define TG_TESTS_RULES_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/rules/rules.h"

enum { FX_TAGS, FX_ROUTING, FX_STRATEGY, FX_RETENTION, FX_SCRIPTS };
static const char *const fx_files[FX_SCRIPTS] = {"tags.lua", "routing.lua", "strategy.lua",
                                                 "retention.lua"};
static const char *const fx_backends[] = {"archive", "timescale", "influx"};

struct fixture {
    char dir[64];
    char paths[FX_SCRIPTS][96];
    struct tg_rules_config config;
    struct tg_rules *rules;
    struct tg_arena arena;
    struct tg_err err;
};

static inline void fx_write(const struct fixture *f, int script, const char *text, size_t len)
{
    FILE *out = fopen(f->paths[script], "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
}

/* A NULL text leaves the rule out. Does not load. */
static inline void fx_init(struct fixture *f, const char *const texts[FX_SCRIPTS])
{
    memset(f, 0, sizeof(*f));
    tg_log_set_level(TG_LOG_ERROR + 1);
    (void)strcpy(f->dir, "/tmp/tg-rules-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    char dir[64];
    memcpy(dir, f->dir, sizeof(dir));
    const char **fields[FX_SCRIPTS] = {&f->config.tags_path, &f->config.routing_path,
                                       &f->config.strategy_path, &f->config.retention_path};
    for (int i = 0; i < FX_SCRIPTS; i++) {
        (void)snprintf(f->paths[i], sizeof(f->paths[i]), "%s/%s", dir, fx_files[i]);
        if (!texts[i]) continue;
        fx_write(f, i, texts[i], strlen(texts[i]));
        *fields[i] = f->paths[i];
    }
    f->config.backends = fx_backends;
    f->config.n_backends = 3;
    f->config.n_slots = 1;
    tg_arena_init(&f->arena, 0);
}

static inline void fx_load(struct fixture *f)
{
    const enum tg_code code = tg_rules_new(&f->config, &f->rules, &f->err);
    if (code != TG_OK) print_error("%s\n", f->err.msg);
    assert_int_equal(code, TG_OK);
}

static inline void fx_deinit(struct fixture *f)
{
    tg_rules_free(f->rules);
    f->rules = NULL;
    tg_arena_deinit(&f->arena);
    for (int i = 0; i < FX_SCRIPTS; i++) (void)unlink(f->paths[i]);
    (void)rmdir(f->dir);
}

/* A canonical desc from "key", "value" pairs that end with NULL; in static storage. */
static inline struct tg_series_desc *fx_series(const char *name, const char *const *tags)
{
    static struct tg_series_desc d;
    static struct tg_tag storage[160];
    d = (struct tg_series_desc){.name = name,
                                .name_len = (uint32_t)strlen(name),
                                .unit = "ms",
                                .unit_len = 2,
                                .kind = TG_KIND_GAUGE,
                                .tags = storage};
    for (uint32_t i = 0; tags && tags[i]; i += 2) {
        storage[d.n_tags++] = (struct tg_tag){.key = tags[i],
                                              .key_len = (uint32_t)strlen(tags[i]),
                                              .value = tags[i + 1],
                                              .value_len = (uint32_t)strlen(tags[i + 1]),
                                              .origin = TG_ORIGIN_RESOURCE};
    }
    assert_int_equal(tg_series_desc_canonicalise(&d, &tg_series_limits_default, NULL), TG_OK);
    return &d;
}

static inline struct tg_decision fx_decide(struct fixture *f, const struct tg_series_desc *d,
                                           struct tg_rules_trace *trace)
{
    struct tg_decision out;
    memset(&out, 0xa5, sizeof(out));
    tg_arena_reset(&f->arena);
    assert_int_equal(tg_rules_decide(f->rules, 0, d, &f->arena, &out, trace), TG_OK);
    return out;
}

/* "name{k="v",...}" of a desc, in static storage. */
static inline const char *fx_print(const struct tg_series_desc *d)
{
    static char text[2048];
    struct tg_buf b;
    tg_buf_init(&b, 0);
    assert_int_equal(tg_series_desc_print(d, &b), TG_OK);
    const size_t n = b.len < sizeof(text) - 1 ? b.len : sizeof(text) - 1;
    memcpy(text, b.data, n);
    text[n] = '\0';
    tg_buf_deinit(&b);
    return text;
}

#endif
