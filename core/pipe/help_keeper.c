#include "core/pipe/help_keeper.h"

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/model/forms.h"

enum { SAVE_EVERY_MS = 10000, FILE_MAX_BYTES = 64 << 20 };

static const char file_name[] = "help";

/* --- the file --- */

void tg_help_keeper_open(struct tg_help_keeper *k, struct tg_table *table, const struct tg_fs *fs,
                         const char *dir)
{
    char path[TG_PATH_MAX];
    uint8_t *bytes = NULL;
    size_t len = 0;
    struct tg_err err = {.msg = ""};
    uint64_t family;
    *k = (struct tg_help_keeper){.table = table, .fs = fs ? fs : tg_fs_real(), .dir = dir};
    enum tg_code code = tg_fs_join(path, dir, file_name, &err);
    if (code == TG_OK) code = tg_fs_read_file(k->fs, path, FILE_MAX_BYTES, &bytes, &len, &err);
    if (code == TG_OK && tg_help_load(tg_table_help(table), bytes, len) != TG_OK)
        code = tg_fail(&err, TG_ERR_CORRUPT, "it is damaged");
    tg_free(bytes);
    if (code != TG_OK && code != TG_ERR_NOT_FOUND)
        tg_warn("series", "descriptions of metrics in %s are not used: %s; senders say them again",
                path, err.msg);
    tg_help_changes(tg_table_help(table), &k->saved, &family);
    k->seen = k->settled = family;
}

static void save(struct tg_help_keeper *k, uint64_t change)
{
    struct tg_buf out;
    struct tg_err err = {.msg = "out of memory"};
    tg_buf_init(&out, FILE_MAX_BYTES);
    enum tg_code code = tg_help_save(tg_table_help(k->table), &out);
    if (code == TG_OK)
        code = tg_fs_write_file_atomic(k->fs, k->dir, file_name, out.data, out.len, &err);
    tg_buf_deinit(&out);
    if (code == TG_OK) {
        k->saved = change;
        k->has_failed = false;
        return;
    }
    if (!k->has_failed)
        tg_warn("series",
                "descriptions of metrics are not kept in %s: %s; after a restart, HELP comes only "
                "once senders say it again",
                k->dir, err.msg);
    k->has_failed = true;
}

/* --- the series --- */

struct expiring {
    struct tg_table *table;
    uint64_t after;
    struct tg_arena arena;
};

static bool expire(struct tg_series *s, void *arg)
{
    struct expiring *e = arg;
    struct tg_series_desc d;
    struct tg_plan *old = atomic_load_explicit(&s->plan, memory_order_acquire);
    if (!old || old->generation == 0) return true;
    if (tg_table_describe(e->table, s, &d, &e->arena) == TG_OK && d.has_family &&
        tg_help_family_change(tg_table_help(e->table), d.name, d.name_len) > e->after) {
        /* Without memory it is told when it is decided again for another reason. */
        struct tg_plan *plan = tg_plan_expire(old);
        if (plan) {
            tg_forms_retain(tg_table_forms(e->table), plan, s);
            (void)tg_table_set_plan(e->table, s, old, plan);
        }
    }
    tg_arena_reset(&e->arena);
    return true;
}

static void expire_plans(struct tg_help_keeper *k)
{
    struct expiring e = {.table = k->table, .after = k->settled};
    struct tg_deferred_free *guard = tg_table_guard(k->table);
    tg_arena_init(&e.arena, 0);
    const int ticket = tg_deferred_free_enter(guard);
    tg_table_each(k->table, expire, &e);
    tg_deferred_free_exit(guard, ticket);
    tg_arena_deinit(&e.arena);
}

void tg_help_keeper_tick(struct tg_help_keeper *k, uint64_t now_ms)
{
    uint64_t any;
    uint64_t family;
    tg_help_changes(tg_table_help(k->table), &any, &family);
    if (k->seen > k->settled) expire_plans(k);
    k->settled = k->seen;
    k->seen = family;
    if (any == k->saved || now_ms < k->next_save_ms) return;
    save(k, any);
    k->next_save_ms = now_ms + SAVE_EVERY_MS;
}

void tg_help_keeper_close(struct tg_help_keeper *k)
{
    uint64_t any;
    uint64_t family;
    if (!k->table) return;
    tg_help_changes(tg_table_help(k->table), &any, &family);
    if (any != k->saved) save(k, any);
    k->table = NULL;
}
