#include "core/backend/parquet/parquet_dir.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"

/* ---- names ---- */

int32_t tg_parquet_day(int64_t ts_ns)
{
    const int64_t q = ts_ns / TG_PARQUET_DAY_NS;
    return (int32_t)(ts_ns % TG_PARQUET_DAY_NS < 0 ? q - 1 : q);
}

/* Civil from days: Gregorian eras of 400 years that start on 1 March. int64 nanoseconds reach from
 * 1677 to 2262. */
void tg_parquet_day_name(int32_t day, char out[24])
{
    const int64_t z = (int64_t)day + 719468;
    const int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    const int64_t doe = z - era * 146097;
    const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    const int64_t mp = (5 * doy + 2) / 153;
    const unsigned d = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    const unsigned m = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    const unsigned y = (unsigned)(yoe + era * 400 + (m <= 2));
    (void)snprintf(out, 24, "date=%04u-%02u-%02u", y % 10000, m % 100, d % 100);
}

static bool digits(const char **p, unsigned n, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++, ++*p) {
        const uint64_t c = (uint64_t)(**p - '0');
        if (c > 9 || v > (UINT64_MAX - c) / 10) return false;
        v = v * 10 + c;
    }
    *out = v;
    return true;
}

bool tg_parquet_day_parse(const char *name, int32_t *day)
{
    uint64_t y, m, d;
    char again[24];
    if (strncmp(name, "date=", 5) != 0) return false;
    const char *p = name + 5;
    if (!digits(&p, 4, &y) || *p++ != '-' || !digits(&p, 2, &m) || *p++ != '-' ||
        !digits(&p, 2, &d) || *p)
        return false;
    const int64_t yy = (int64_t)y - (m <= 2);
    const int64_t era = yy / 400;
    const int64_t yoe = yy - era * 400;
    const int64_t doy = (153 * ((int64_t)m + (m > 2 ? -3 : 9)) + 2) / 5 + (int64_t)d - 1;
    *day = (int32_t)(era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468);
    tg_parquet_day_name(*day, again);
    return strcmp(again, name) == 0; /* the 31st of February is none */
}

void tg_parquet_file_name(const struct tg_parquet_name *n, char out[TG_PARQUET_NAME_MAX])
{
    char part[16] = "";
    if (n->part) (void)snprintf(part, sizeof(part), "-%u", n->part);
    (void)snprintf(out, TG_PARQUET_NAME_MAX, "%020" PRIu64 "-%020" PRIu64 "%s%s%s.parquet", n->from,
                   n->to, part, n->log[0] ? "-" : "", n->log);
}

/* How many hexadecimal digits stand there. */
static size_t hex_len(const char *p)
{
    return strspn(p, "0123456789abcdef");
}

bool tg_parquet_file_parse(const char *name, struct tg_parquet_name *n)
{
    const char *p = name;
    char again[TG_PARQUET_NAME_MAX];
    *n = (struct tg_parquet_name){.part = 0};
    if (!digits(&p, 20, &n->from) || *p++ != '-' || !digits(&p, 20, &n->to)) return false;
    if (*p == '-' && hex_len(p + 1) != TG_PARQUET_LOG_CHARS - 1) {
        char *end;
        n->part = (uint32_t)strtoull(p + 1, &end, 10);
        p = end;
    }
    if (*p == '-' && hex_len(p + 1) == TG_PARQUET_LOG_CHARS - 1)
        memcpy(n->log, p + 1, TG_PARQUET_LOG_CHARS - 1);
    tg_parquet_file_name(n, again);
    return strcmp(again, name) == 0;
}

static void log_of(const char *id, char out[TG_PARQUET_LOG_CHARS])
{
    unsigned n = 0;
    for (const char *p = id ? id : ""; *p && n < TG_PARQUET_LOG_CHARS - 1; p++)
        if (*p != '-') out[n++] = *p;
    out[n] = 0;
}

/* ---- walking ---- */

static bool ends_with(const char *s, const char *suffix)
{
    const size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

struct list {
    struct tg_buf *out;
    enum tg_code code;
    int32_t first, last;
    int errnum; /* of an entry that cannot be looked at */
};

static void on_day(void *arg, const char *name, const struct tg_fs_stat *st)
{
    struct list *l = arg;
    int32_t day;
    if (l->code != TG_OK || !tg_parquet_day_parse(name, &day) || day < l->first || day > l->last)
        return;
    if (st->errnum) /* not to be seen is not to be gone */
        l->errnum = st->errnum;
    else if (st->is_dir)
        l->code = tg_buf_append(l->out, &day, sizeof(day));
}

static int day_cmp(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

enum tg_code tg_parquet_dir_days(const struct tg_parquet_dir *d, int32_t first, int32_t last,
                                 struct tg_buf *out, struct tg_err *err)
{
    struct list l = {out, TG_OK, first, last, 0};
    const size_t before = out->len;
    const int rc = d->fs->list(d->fs->self, d->path, on_day, &l);
    if (rc < 0) return tg_fail_errno(err, -rc, "cannot list %s", d->path);
    if (l.errnum) return tg_fail_errno(err, l.errnum, "cannot look at a day in %s", d->path);
    if (l.code != TG_OK) return tg_fail(err, l.code, "out of memory while listing %s", d->path);
    if (out->len > before)
        qsort(out->data + before, (out->len - before) / sizeof(int32_t), sizeof(int32_t), day_cmp);
    return TG_OK;
}

static void on_name(void *arg, const char *name, const struct tg_fs_stat *st)
{
    struct list *l = arg;
    if (l->code == TG_OK && !st->is_dir) l->code = tg_buf_append(l->out, name, strlen(name) + 1);
}

static enum tg_code day_path(const struct tg_parquet_dir *d, int32_t day, char out[TG_PATH_MAX],
                             struct tg_err *err)
{
    char name[24];
    tg_parquet_day_name(day, name);
    return tg_fs_join(out, d->path, name, err);
}

/* All names in a day's folder, each NUL-terminated, in no order. */
static enum tg_code names_of(const struct tg_parquet_dir *d, const char *path, struct tg_buf *out,
                             struct tg_err *err)
{
    struct list l = {.out = out, .code = TG_OK};
    const int rc = d->fs->list(d->fs->self, path, on_name, &l);
    if (rc == -ENOENT) return TG_OK; /* just removed */
    if (rc < 0) return tg_fail_errno(err, -rc, "cannot list %s", path);
    if (l.code != TG_OK) return tg_fail(err, l.code, "out of memory while listing %s", path);
    return TG_OK;
}

static int name_cmp(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_set_aside(const char *name)
{
    return strstr(name, ".parquet.") && (ends_with(name, ".again") || ends_with(name, ".kept"));
}

static enum tg_code files_of(const struct tg_parquet_dir *d, int32_t day, bool with_set_aside,
                             struct tg_buf *out, struct tg_err *err)
{
    char path[TG_PATH_MAX], file[TG_PATH_MAX];
    struct tg_buf names;
    const char **sorted = NULL;
    size_t n = 0, at = 0;
    tg_buf_init(&names, 0);
    enum tg_code code = day_path(d, day, path, err);
    if (code == TG_OK) code = names_of(d, path, &names, err);
    for (size_t i = 0; i < names.len; i++) n += names.data[i] == 0;
    if (code == TG_OK && n) {
        sorted = tg_reallocarray(NULL, n, sizeof(*sorted));
        if (!sorted) code = tg_fail(err, TG_ERR_NOMEM, "out of memory while listing %s", path);
    }
    if (sorted) {
        for (size_t i = 0; i < n; i++) {
            sorted[i] = (const char *)names.data + at;
            at += strlen(sorted[i]) + 1;
        }
        qsort(sorted, n, sizeof(*sorted), name_cmp);
    }
    for (size_t i = 0; i < n && code == TG_OK; i++) {
        if (sorted[i][0] == '.' ||
            (!ends_with(sorted[i], ".parquet") && !(with_set_aside && is_set_aside(sorted[i]))))
            continue;
        code = tg_fs_join(file, path, sorted[i], err);
        if (code == TG_OK) code = tg_buf_append(out, file, strlen(file) + 1);
    }
    tg_free(sorted);
    tg_buf_deinit(&names);
    return code;
}

enum tg_code tg_parquet_dir_files(const struct tg_parquet_dir *d, int32_t day, struct tg_buf *out,
                                  struct tg_err *err)
{
    return files_of(d, day, false, out, err);
}

/* Calls fn for every file that any delivery wrote, until it fails. `path` is of the folder. */
typedef enum tg_code (*file_fn)(struct tg_parquet_dir *d, const char *path, const char *name,
                                const struct tg_parquet_name *n, void *arg, struct tg_err *err);

static bool parse_again(const char *name, struct tg_parquet_name *n)
{
    char base[TG_PARQUET_NAME_MAX];
    if (!ends_with(name, ".parquet.again") || strlen(name) >= sizeof(base)) return false;
    (void)snprintf(base, sizeof(base), "%.*s", (int)(strlen(name) - strlen(".again")), name);
    return tg_parquet_file_parse(base, n);
}

static enum tg_code each_in_day(struct tg_parquet_dir *d, int32_t day, file_fn fn, void *arg,
                                bool *changed, struct tg_err *err)
{
    char path[TG_PATH_MAX];
    struct tg_buf names;
    TG_TRY(day_path(d, day, path, err));
    tg_buf_init(&names, 0);
    enum tg_code code = names_of(d, path, &names, err);
    for (size_t at = 0; at < names.len && code == TG_OK;) {
        const char *name = (const char *)names.data + at;
        struct tg_parquet_name n = {0};
        at += strlen(name) + 1;
        const bool is_tmp = name[0] == '.' && ends_with(name, ".tmp");
        if (is_tmp || tg_parquet_file_parse(name, &n) || parse_again(name, &n))
            code = fn(d, path, name, is_tmp ? NULL : &n, arg, err);
    }
    if (code == TG_OK && *changed) {
        const int rc = d->fs->sync_dir(d->fs->self, path);
        if (rc < 0) code = tg_fail_errno(err, -rc, "cannot sync %s", path);
        *changed = false;
    }
    tg_buf_deinit(&names);
    return code;
}

static enum tg_code each_file(struct tg_parquet_dir *d, file_fn fn, void *arg, bool *changed,
                              struct tg_err *err)
{
    struct tg_buf days;
    tg_buf_init(&days, 0);
    enum tg_code code = tg_parquet_dir_days(d, INT32_MIN, INT32_MAX, &days, err);
    for (size_t i = 0; i < days.len / sizeof(int32_t) && code == TG_OK; i++) {
        int32_t day;
        memcpy(&day, days.data + i * sizeof(day), sizeof(day));
        code = each_in_day(d, day, fn, arg, changed, err);
    }
    tg_buf_deinit(&days);
    return code;
}

static enum tg_code remove_file(const struct tg_parquet_dir *d, const char *path, const char *name,
                                struct tg_err *err)
{
    char file[TG_PATH_MAX];
    TG_TRY(tg_fs_join(file, path, name, err));
    const int rc = d->fs->unlink(d->fs->self, file);
    if (rc < 0 && rc != -ENOENT) return tg_fail_errno(err, -rc, "cannot remove %s", file);
    return TG_OK;
}

/* ---- open ---- */

struct cleaning {
    uint64_t from, log_end_pos;
    bool changed, adopts;
    uint32_t n_tmp, n_past_end, n_adopted, n_other;
};

static bool is_there(const struct tg_parquet_dir *d, const char *path, const char *name)
{
    char file[TG_PATH_MAX];
    struct tg_fs_stat st;
    return tg_fs_join(file, path, name, NULL) != TG_OK ||
           d->fs->stat(d->fs->self, file, &st) != -ENOENT;
}

static enum tg_code rename_file(const struct tg_parquet_dir *d, const char *path, const char *name,
                                const char *to_name, struct tg_err *err)
{
    char from[TG_PATH_MAX], to[TG_PATH_MAX];
    TG_TRY(tg_fs_join(from, path, name, err));
    TG_TRY(tg_fs_join(to, path, to_name, err));
    if (is_there(d, path, to_name))
        return tg_fail(err, TG_ERR_IO, "cannot rename %s: %s is there already", from, to_name);
    const int rc = d->fs->rename(d->fs->self, from, to);
    return rc < 0 ? tg_fail_errno(err, -rc, "cannot rename %s", from) : TG_OK;
}

static bool is_same_name(const struct tg_parquet_name *a, const struct tg_parquet_name *b)
{
    return a->from == b->from && a->to == b->to && a->part == b->part &&
           strcmp(a->log, b->log) == 0;
}

static enum tg_code note_again(struct tg_parquet_dir *d, const char *path,
                               const struct tg_parquet_name *n, struct tg_err *err)
{
    int32_t day;
    const char *slash = strrchr(path, '/');
    if (!slash || !tg_parquet_day_parse(slash + 1, &day)) return TG_OK;
    for (uint32_t i = d->n_again; i-- > 0;) /* those of one day come one after the other */
        if (d->again[i].day != day)
            break;
        else if (is_same_name(&d->again[i].name, n))
            return TG_OK;
    if (d->n_again == d->again_cap) {
        const uint32_t cap = d->again_cap ? d->again_cap * 2 : 64;
        struct tg_parquet_again *more = tg_reallocarray(d->again, cap, sizeof(*more));
        if (!more) return tg_fail(err, TG_ERR_NOMEM, "out of memory for a list of files");
        d->again = more;
        d->again_cap = cap;
    }
    d->again[d->n_again++] = (struct tg_parquet_again){.day = day, .name = *n};
    return TG_OK;
}

static enum tg_code clean_one(struct tg_parquet_dir *d, const char *path, const char *name,
                              const struct tg_parquet_name *n, void *arg, struct tg_err *err)
{
    struct cleaning *c = arg;
    if (!n) {
        c->n_tmp++;
        c->changed = true;
        return remove_file(d, path, name, err);
    }
    char own_name[TG_PARQUET_NAME_MAX];
    if (ends_with(name, ".again"))
        return strcmp(n->log, d->log) == 0 ? note_again(d, path, n, err) : TG_OK;
    if (c->adopts && !n->log[0]) {
        struct tg_parquet_name own = *n;
        memcpy(own.log, d->log, sizeof(own.log));
        tg_parquet_file_name(&own, own_name);
        if (is_there(d, path, own_name)) {
            c->n_other++;
            return TG_OK;
        }
        TG_TRY(rename_file(d, path, name, own_name, err));
        name = own_name;
        c->n_adopted++;
        c->changed = true;
    } else if (strcmp(n->log, d->log) != 0) {
        c->n_other++;
        return TG_OK;
    }
    if (n->to > c->log_end_pos) {
        char renamed[TG_PARQUET_NAME_MAX + 32];
        (void)snprintf(renamed, sizeof(renamed), "log%" PRId64 "-%s",
                       tg_clock_wall_ns() / 1000000000, name);
        TG_TRY(rename_file(d, path, name, renamed, err));
        c->n_past_end++;
        c->changed = true;
        return TG_OK;
    }
    if (n->to <= c->from) return TG_OK;
    /* From before the floor, and yet where the delivery at hand begins: the log has lost its start
     * since, and the delivery has the positions, and maybe the name, of this file. */
    if (n->from < d->floor && n->from != c->from) return TG_OK;
    char again[TG_PARQUET_NAME_MAX + 8];
    struct tg_parquet_name own = *n;
    memcpy(own.log, d->log, sizeof(own.log));
    (void)snprintf(again, sizeof(again), "%s.again", name);
    c->changed = true;
    /* Once more before the first one was settled: then this one was never confirmed. */
    if (is_there(d, path, again)) return remove_file(d, path, name, err);
    tg_info("parquet", "%s/%s will be delivered again: set aside as *.again until then", path,
            name);
    TG_TRY(rename_file(d, path, name, again, err));
    return note_again(d, path, &own, err);
}

struct overlap {
    const struct tg_parquet_name *of;
    bool found;
};

static enum tg_code overlap_one(struct tg_parquet_dir *d, const char *path, const char *name,
                                const struct tg_parquet_name *n, void *arg, struct tg_err *err)
{
    struct overlap *o = arg;
    (void)path;
    (void)err;
    if (n && !ends_with(name, ".again") && strcmp(n->log, d->log) == 0 && n->from < o->of->to &&
        o->of->from < n->to)
        o->found = true;
    return TG_OK;
}

enum why_kept {
    NOT_AGAIN, /* none of its points comes again from the log */
    IN_PART,   /* some come, or came */
    PAST_END,  /* of the log: as NOT_AGAIN, and its positions will be given to others */
};

/* The log does not give (all of) its points again: it is data as before, or kept beside it. */
static enum tg_code keep_again(struct tg_parquet_dir *d, const struct tg_parquet_again *a,
                               enum why_kept why, struct tg_err *err)
{
    char path[TG_PATH_MAX], base[TG_PARQUET_NAME_MAX], from[TG_PARQUET_NAME_MAX + 8];
    char to[TG_PARQUET_NAME_MAX + 48];
    TG_TRY(day_path(d, a->day, path, err));
    tg_parquet_file_name(&a->name, base);
    (void)snprintf(from, sizeof(from), "%s.again", base);
    if (!is_there(d, path, from)) return TG_OK; /* expired */
    if (why == PAST_END)
        (void)snprintf(to, sizeof(to), "log%" PRId64 "-%s", tg_clock_wall_ns() / 1000000000, base);
    else
        (void)snprintf(to, sizeof(to), "%s", base);
    const bool is_kept = why == IN_PART || is_there(d, path, to);
    if (is_kept) (void)snprintf(to, sizeof(to), "%s.kept", base);
    for (unsigned i = 1; is_kept && i < 1000 && is_there(d, path, to); i++)
        (void)snprintf(to, sizeof(to), "%s.%u.kept", base, i);
    TG_TRY(rename_file(d, path, from, to, err));
    if (is_kept)
        tg_warn("parquet",
                "%s/%s: the log has lost points of this file, which were to be delivered again; "
                "queries do not read it, and the points that the log still had are in other files, "
                "too: take the missing ones from it with another Parquet reader",
                path, to);
    else
        tg_warn("parquet", "%s/%s: its points do not come again from the log: it stays as it is",
                path, to);
    const int rc = d->fs->sync_dir(d->fs->self, path);
    return rc < 0 ? tg_fail_errno(err, -rc, "cannot sync %s", path) : TG_OK;
}

static enum tg_code remove_again(struct tg_parquet_dir *d, const struct tg_parquet_again *a,
                                 struct tg_err *err)
{
    char path[TG_PATH_MAX], base[TG_PARQUET_NAME_MAX], name[TG_PARQUET_NAME_MAX + 8];
    TG_TRY(day_path(d, a->day, path, err));
    tg_parquet_file_name(&a->name, base);
    (void)snprintf(name, sizeof(name), "%s.again", base);
    return remove_file(d, path, name, err);
}

/* Before the cursor passes it: a file that a crash brings back after that would be taken for one
 * that the log does not give again. */
static enum tg_code sync_day(struct tg_parquet_dir *d, int32_t day, struct tg_err *err)
{
    char path[TG_PATH_MAX];
    TG_TRY(day_path(d, day, path, err));
    const int rc = d->fs->sync_dir(d->fs->self, path);
    return rc < 0 && rc != -ENOENT ? tg_fail_errno(err, -rc, "cannot sync %s", path) : TG_OK;
}

/* Whether files that are data by now hold some of its positions. */
static enum tg_code is_overlapped(struct tg_parquet_dir *d, const struct tg_parquet_again *a,
                                  bool *found, struct tg_err *err)
{
    bool changed = false;
    struct overlap o = {&a->name, false};
    const enum tg_code code = each_file(d, overlap_one, &o, &changed, err);
    *found = o.found;
    return code;
}

/* What a start finds set aside, and what the cursor or the log's end says of it. */
static enum tg_code settle_at_open(struct tg_parquet_dir *d, uint64_t cursor_pos, uint64_t end_pos,
                                   struct tg_err *err)
{
    for (uint32_t i = d->n_again; i-- > 0;) {
        const struct tg_parquet_again a = d->again[i];
        if (a.name.to > cursor_pos && a.name.to <= end_pos) continue;
        bool in_part;
        TG_TRY(is_overlapped(d, &a, &in_part, err));
        TG_TRY(keep_again(d, &a,
                          in_part               ? IN_PART
                          : a.name.to > end_pos ? PAST_END
                                                : NOT_AGAIN,
                          err));
        d->again[i] = d->again[--d->n_again];
    }
    return TG_OK;
}

enum fate { WAITS, CAME, LOST_ALL, LOST_SOME, SKIPPED };

static enum fate fate_of(const struct tg_parquet_dir *d, const struct tg_parquet_again *a,
                         const struct tg_backend_settled *s)
{
    const struct tg_parquet_name *n = &a->name;
    const uint64_t sure_pos = s->sure_pos < s->to_pos ? s->sure_pos : s->to_pos;
    enum fate fate = n->to <= sure_pos ? CAME : WAITS;
    for (unsigned i = 0; i < s->n_losses; i++) {
        const struct tg_backend_loss *l = &s->losses[i];
        if (n->from >= l->to_pos || l->from_pos >= n->to) continue;
        if (l->all && l->from_pos <= n->from && n->to <= l->to_pos) return LOST_ALL;
        fate = LOST_SOME;
    }
    /* the cursor was moved over it */
    if (fate != LOST_SOME && n->from < s->from_pos && d->settled_to < n->to &&
        d->settled_to < s->from_pos)
        fate = SKIPPED;
    return fate;
}

/* What the log lost of it, or was moved over, does not come. */
static enum tg_code keep_as(struct tg_parquet_dir *d, const struct tg_parquet_again *a,
                            enum fate fate, const struct tg_backend_settled *s, struct tg_err *err)
{
    bool in_part = false;
    if (fate != LOST_ALL) {
        TG_TRY(is_overlapped(d, a, &in_part, err));
        /* the rest is still to come */
        if (fate == LOST_SOME && a->name.to > s->to_pos) in_part = true;
    }
    return keep_again(d, a, in_part ? IN_PART : NOT_AGAIN, err);
}

enum tg_code tg_parquet_dir_settle(struct tg_parquet_dir *d, const struct tg_backend_settled *s,
                                   struct tg_err *err)
{
    bool is_unsynced = false;
    int32_t day = 0;
    /* Where nothing was written, no room was made, and what comes next is delivered without what
     * is lost here. */
    if (s->n_losses && d->room_from != s->from_pos)
        TG_TRY(tg_parquet_dir_make_room(d, s->from_pos, err));
    for (uint32_t i = 0; i < d->n_again; i++) {
        struct tg_parquet_again *a = &d->again[i];
        const enum fate fate = fate_of(d, a, s);
        a->is_done = fate != WAITS; /* of a call before that failed: once more, harmlessly */
        if (fate == WAITS) continue;
        if (fate != CAME) {
            TG_TRY(keep_as(d, a, fate, s, err));
        } else {
            if (is_unsynced && day != a->day) TG_TRY(sync_day(d, day, err));
            TG_TRY(remove_again(d, a, err));
            is_unsynced = true;
            day = a->day;
        }
    }
    if (is_unsynced) TG_TRY(sync_day(d, day, err));
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_again; i++)
        if (!d->again[i].is_done) d->again[n++] = d->again[i];
    d->n_again = n;
    d->settled_to = s->to_pos;
    return TG_OK;
}

static enum tg_code lock_folder(struct tg_parquet_dir *d, struct tg_err *err)
{
    TG_TRY(tg_fs_mkdirs(d->fs, d->path, err));
    const enum tg_code code = tg_folder_lock_take(&d->lock, d->fs, d->path, ".lock",
                                                  "give each backend and gateway its own dir", err);
    return code == TG_ERR_UNAVAILABLE ? TG_ERR_INVALID : code;
}

enum tg_code tg_parquet_dir_open(struct tg_parquet_dir *d, const struct tg_fs *fs, const char *path,
                                 const struct tg_parquet_log *log, struct tg_err *err)
{
    memset(d, 0, sizeof(*d));
    d->fs = fs;
    d->path = path;
    d->floor = d->max_to = d->settled_to = log->cursor_pos;
    d->room_from = UINT64_MAX;
    log_of(log->id, d->log);
    TG_TRY(lock_folder(d, err));
    struct cleaning c = {
        .from = log->cursor_pos, .log_end_pos = log->end_pos, .adopts = log->adopts && d->log[0]};
    enum tg_code code = each_file(d, clean_one, &c, &c.changed, err);
    if (code == TG_OK) code = settle_at_open(d, log->cursor_pos, log->end_pos, err);
    if (c.n_tmp) tg_info("parquet", "%s: %u unfinished files removed", path, c.n_tmp);
    if (c.n_adopted)
        tg_info("parquet", "%s: %u files have the id of their log in their names now", path,
                c.n_adopted);
    if (c.n_other)
        tg_info("parquet", "%s: %u files are of other logs and stay as they are", path, c.n_other);
    if (c.n_past_end)
        tg_warn("parquet",
                "%s: %u files are of data that the log has lost (they reach past its end); kept as "
                "log*-*",
                path, c.n_past_end);
    if (code != TG_OK) tg_parquet_dir_close(d);
    return code;
}

void tg_parquet_dir_close(struct tg_parquet_dir *d)
{
    tg_folder_lock_release(&d->lock);
    tg_free(d->due);
    tg_free(d->again);
    d->again = NULL;
    d->n_again = d->again_cap = 0;
    d->due = NULL;
    d->n_due = d->due_cap = 0;
}

enum tg_code tg_parquet_dir_make_room(struct tg_parquet_dir *d, uint64_t from, struct tg_err *err)
{
    struct tg_err why;
    if (tg_folder_lock_check(&d->lock, d->path, &why) != TG_OK) {
        tg_folder_lock_release(&d->lock);
        const enum tg_code code = lock_folder(d, err);
        /* the machine's fault, not that of the points */
        if (code != TG_OK) return code == TG_ERR_INVALID ? TG_ERR_UNAVAILABLE : code;
        tg_warn("parquet", "%s was moved away or replaced: it goes on in the new one", d->path);
        d->max_to = UINT64_MAX; /* whatever is in it */
    }
    if (d->max_to > from) {
        struct cleaning c = {.from = from, .log_end_pos = UINT64_MAX};
        d->n_again = 0; /* found again */
        TG_TRY(each_file(d, clean_one, &c, &c.changed, err));
        d->max_to = from;
    }
    d->room_from = from;
    return TG_OK;
}

/* ---- rewind ---- */

struct span {
    uint64_t pos, low, high; /* of the files that hold both sides of pos */
    uint64_t max_to;
};

static enum tg_code span_one(struct tg_parquet_dir *d, const char *path, const char *name,
                             const struct tg_parquet_name *n, void *arg, struct tg_err *err)
{
    struct span *s = arg;
    (void)path;
    (void)name;
    (void)err;
    if (!n || strcmp(n->log, d->log) != 0) return TG_OK;
    if (n->to > s->max_to) s->max_to = n->to;
    if (n->from < s->pos && s->pos < n->to) {
        if (n->from < s->low) s->low = n->from;
        if (n->to > s->high) s->high = n->to;
    }
    return TG_OK;
}

enum tg_code tg_parquet_dir_rewind(struct tg_parquet_dir *d, uint64_t *pos, uint64_t oldest_pos,
                                   struct tg_err *err)
{
    bool forward = false, changed = false;
    uint64_t at = *pos;
    for (;;) {
        struct span s = {at, at, at, 0};
        TG_TRY(each_file(d, span_one, &s, &changed, err));
        if (s.low == at) {
            d->floor = *pos = at;
            d->max_to = s.max_to;
            d->room_from = UINT64_MAX;
            return TG_OK;
        }
        /* once forward always forward, so that this ends */
        if (s.low < oldest_pos) forward = true;
        at = forward ? s.high : s.low;
    }
}

/* ---- retention ---- */

enum { MAX_LOOKS = 5000 }; /* files in one call, or a day more: deliveries wait meanwhile */

static struct tg_parquet_due *find_due(const struct tg_parquet_dir *d, int32_t day, uint32_t *at)
{
    uint32_t lo = 0, hi = d->n_due;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (d->due[mid].day < day)
            lo = mid + 1;
        else
            hi = mid;
    }
    *at = lo;
    return lo < d->n_due && d->due[lo].day == day ? &d->due[lo] : NULL;
}

/* Without memory nothing is noted: the day is then looked into every time. */
static void set_due(struct tg_parquet_dir *d, int32_t day, int64_t ns)
{
    uint32_t at;
    struct tg_parquet_due *due = find_due(d, day, &at);
    if (due) {
        due->ns = ns;
        return;
    }
    if (d->n_due == d->due_cap) {
        const uint32_t cap = d->due_cap ? d->due_cap * 2 : 64;
        struct tg_parquet_due *more = tg_reallocarray(d->due, cap, sizeof(*more));
        if (!more) return;
        d->due = more;
        d->due_cap = cap;
    }
    memmove(&d->due[at + 1], &d->due[at], (d->n_due - at) * sizeof(*d->due));
    d->due[at] = (struct tg_parquet_due){day, ns};
    d->n_due++;
}

void tg_parquet_dir_note_due(struct tg_parquet_dir *d, int32_t day, int64_t ns)
{
    uint32_t at;
    struct tg_parquet_due *due = find_due(d, day, &at);
    /* a day not looked into yet stays so */
    if (due && ns < due->ns) due->ns = ns;
}

static enum tg_code expire_day(struct tg_parquet_dir *d, int32_t day, int64_t now_ns,
                               tg_parquet_expiry_fn expiry, void *arg, uint32_t *n_looked,
                               uint64_t *n_removed, struct tg_err *err)
{
    char path[TG_PATH_MAX];
    struct tg_buf files;
    int64_t first = INT64_MAX;
    uint64_t n = 0;
    TG_TRY(day_path(d, day, path, err));
    tg_buf_init(&files, 0);
    enum tg_code code = files_of(d, day, true, &files, err);
    for (size_t at = 0; at < files.len && code == TG_OK;) {
        const char *file = (const char *)files.data + at;
        at += strlen(file) + 1;
        const int64_t ns = expiry(arg, file);
        if (ns == INT64_MIN) {
            code = tg_fail(err, TG_ERR_CANCELED, "the gateway is shutting down");
            break;
        }
        ++*n_looked;
        if (ns == INT64_MAX || ns > now_ns) {
            first = ns < first ? ns : first;
            continue;
        }
        const int rc = d->fs->unlink(d->fs->self, file);
        if (rc < 0 && rc != -ENOENT) code = tg_fail_errno(err, -rc, "cannot remove %s", file);
        n++;
    }
    tg_buf_deinit(&files);
    *n_removed += n;
    TG_TRY(code);
    set_due(d, day, first);
    if (n == 0) return TG_OK;
    /* fails, harmlessly, while anything is in it */
    if (d->fs->rmdir(d->fs->self, path) < 0) (void)d->fs->sync_dir(d->fs->self, path);
    return TG_OK;
}

enum tg_code tg_parquet_dir_expire(struct tg_parquet_dir *d, int64_t now_ns,
                                   tg_parquet_expiry_fn expiry, void *arg, uint64_t *n_removed,
                                   struct tg_err *err)
{
    struct tg_buf days;
    uint32_t n_looked = 0;
    *n_removed = 0;
    tg_buf_init(&days, 0);
    enum tg_code code = tg_parquet_dir_days(d, INT32_MIN, INT32_MAX, &days, err);
    const size_t n = days.len / sizeof(int32_t);
    for (size_t i = 0; i < n && code == TG_OK && n_looked < MAX_LOOKS; i++) {
        int32_t day;
        uint32_t at;
        memcpy(&day, days.data + i * sizeof(day), sizeof(day));
        const struct tg_parquet_due *due = find_due(d, day, &at);
        if (!due || due->ns <= now_ns)
            code = expire_day(d, day, now_ns, expiry, arg, &n_looked, n_removed, err);
    }
    tg_buf_deinit(&days);
    return code;
}
