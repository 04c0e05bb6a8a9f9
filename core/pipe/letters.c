/* letters.c: what becomes of points that a backend cannot take. */
#include "core/pipe/letters.h"

#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"

enum {
    MAX_COMMIT_BYTES = 8 << 20,
    SAY_EVERY_MS = 60000,
    REASONS_MS = 1000, /* for asking again why a series has no form; then without its reason */
};

enum tg_code tg_letters_open(struct tg_letters *l, const struct tg_fs *fs, const char *dir,
                             uint64_t max_bytes, struct tg_err *err)
{
    tg_buf_init(&l->scratch, sizeof(((struct tg_undelivered *)0)->newest));
    return tg_dead_letters_new(fs, dir, l->config->name, max_bytes, &l->file, err);
}

void tg_letters_close(struct tg_letters *l)
{
    tg_dead_letters_free(l->file);
    tg_buf_deinit(&l->scratch);
}

/* --- the file --- */

/* Why the backend cannot take a series: asked again, as that is not worth keeping with every plan,
 * but once for all its points in `reasons`. Written to u->newest. */
static void find_reason(struct tg_letters *l, struct tg_write_attempt *a, const struct tg_series *s,
                        struct tg_stray_forms *reasons, struct tg_undelivered *u)
{
    struct tg_stray_forms_slot *slot = tg_stray_forms_find(reasons, s);
    if (slot && slot->series && slot->bytes) {
        (void)snprintf(u->newest, sizeof(u->newest), "%s", (const char *)slot->bytes);
        return;
    }
    struct tg_err why = {.msg = "the backend cannot take this series"};
    tg_write_attempt_explain(a, s, &why);
    (void)snprintf(u->newest, sizeof(u->newest), "%s", why.msg);
    if (!slot || slot->series) return;
    tg_buf_reset(&l->scratch);
    if (tg_buf_append(&l->scratch, u->newest, strlen(u->newest) + 1) == TG_OK &&
        tg_stray_forms_put(reasons, slot, s, &l->scratch) != TG_OK)
        return; /* no room: asked once more */
}

/* After each that was added: not too many at once in memory. */
static enum tg_code commit_many(struct tg_letters *l, struct tg_undelivered *u, uint32_t n_added,
                                struct tg_err *err)
{
    if (tg_dead_letters_pending(l->file) < MAX_COMMIT_BYTES) return TG_OK;
    TG_TRY(tg_dead_letters_commit(l->file, err));
    u->n_in_file = n_added;
    return TG_OK;
}

static enum tg_code add_unprepared(struct tg_letters *l, struct tg_write_attempt *a,
                                   struct tg_undelivered *u, uint32_t *n_added, struct tg_err *err)
{
    struct tg_deferred_free *guard = tg_table_guard(l->table);
    const int ticket = tg_deferred_free_enter(guard); /* for the plans of find_reason */
    enum tg_code code = TG_OK;
    struct tg_stray_forms reasons;
    tg_stray_forms_init(&reasons);
    tg_planner_begin(a->planner, REASONS_MS);
    for (uint32_t i = 0; i < a->n_unprepared && code == TG_OK; i++) {
        const struct tg_point *p = &a->span->batch.points[a->unprepared[i]];
        find_reason(l, a, p->series, &reasons, u);
        code = tg_dead_letters_add(l->file, l->table, p, u->newest, err);
        if (code == TG_OK) code = commit_many(l, u, ++*n_added, err);
    }
    tg_stray_forms_forget(&reasons);
    tg_deferred_free_exit(guard, ticket);
    return code;
}

static enum tg_code add_refused(struct tg_letters *l, const struct tg_write_attempt *a,
                                struct tg_undelivered *u, uint32_t *n_added, struct tg_err *err)
{
    enum tg_code code = TG_OK;
    uint32_t k = 0;
    for (uint32_t i = 0; k < u->n_refused && i < a->delivery.n_points && code == TG_OK; i++) {
        if (!tg_write_attempt_is_marked(u->refused, i)) continue;
        const char *reason = u->reasons ? u->reasons[k] : "the backend cannot take this point";
        k++;
        (void)snprintf(u->newest, sizeof(u->newest), "%s", reason);
        code = tg_dead_letters_add(l->file, l->table, a->points[i].point, reason, err);
        if (code == TG_OK) code = commit_many(l, u, ++*n_added, err);
    }
    return code;
}

enum tg_code tg_letters_write(struct tg_letters *l, struct tg_write_attempt *a,
                              struct tg_undelivered *u, struct tg_err *err)
{
    uint32_t n_added = 0;
    enum tg_code code = add_unprepared(l, a, u, &n_added, err);
    if (code == TG_OK) code = add_refused(l, a, u, &n_added, err);
    if (code != TG_OK && code != TG_ERR_FULL) {
        tg_dead_letters_abort(l->file);
        return code;
    }
    struct tg_err commit_err;
    const enum tg_code committed = tg_dead_letters_commit(l->file, &commit_err);
    if (committed == TG_OK)
        u->n_in_file = n_added;
    else
        *err = commit_err;
    return committed == TG_OK ? code : committed;
}

/* --- how it is said --- */

/* The file has each with its reason. */
void tg_letters_note_dead(struct tg_letters *l, uint32_t n, const char *reason)
{
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_trouble_note(l->trouble, reason);
    l->n_dead_unsaid += n;
    if (l->dead_said_ms && now_ms - l->dead_said_ms < SAY_EVERY_MS) return;
    tg_warn("delivery",
            "%s: points refused permanently, kept as dead letters: %llu; the newest: %s",
            l->config->name, (unsigned long long)l->n_dead_unsaid, reason);
    l->n_dead_unsaid = 0;
    l->dead_said_ms = now_ms;
}

void tg_letters_note_inexpressible(struct tg_letters *l, const struct tg_inexpressible *c)
{
    char text[160];
    if (tg_inexpressible_sum(c) == 0) return;
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_inexpressible_add(&l->inexpressible_unsaid, c);
    if (l->inexpressible_said_ms && now_ms - l->inexpressible_said_ms < SAY_EVERY_MS) return;
    tg_info("delivery", "%s: points that a backend of type %s has no form for are left out: %s",
            l->config->name, l->config->ops->type,
            tg_inexpressible_print(&l->inexpressible_unsaid, text, sizeof(text)));
    l->inexpressible_unsaid = (struct tg_inexpressible){.n = {0}};
    l->inexpressible_said_ms = now_ms;
}

void tg_letters_set_full(struct tg_letters *l, bool is_full)
{
    atomic_store(&l->is_full, is_full);
}

bool tg_letters_is_full(const struct tg_letters *l)
{
    return atomic_load(&l->is_full);
}

bool tg_letters_validate(const struct tg_letters *l)
{
    return (l->n_dead_unsaid == 0 || l->dead_said_ms) &&
           (tg_inexpressible_sum(&l->inexpressible_unsaid) == 0 || l->inexpressible_said_ms);
}
