/* cursor.c: cursors: where each backend is, and their files. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

enum { NAME_MAX_BYTES = 64, FILE_MAX_BYTES = 4096 };
/* A log can go on after whatever stands in a cursor's file: larger positions and numbers than this
 * were not written by one. */
#define CURSOR_MAX (UINT64_C(1) << 60)

struct tg_log_cursor {
    struct tg_log *log;
    char name[NAME_MAX_BYTES + 1];
    bool opened;
    bool lost;     /* its file was damaged, or of another log, and has been set aside */
    bool no_epoch; /* it was damaged when its log, of a former version, had no id yet */
    char log_id[TG_LOG_ID_CHARS];          /* in its file; "": none, it is of a former version */
    char name_in_file[NAME_MAX_BYTES + 1]; /* "": none, it is of a former version */
    bool released;                         /* holds no segments until it is opened */
    bool is_new_absence;                   /* and that is not noted yet; of the releasing thread */
    uint64_t n_dropped;                    /* points that went with segments since; under mu */
    pthread_mutex_t file_mu;
    /* under log->mu */
    struct tg_cursor_state state;
    uint64_t durable_pos; /* what the file says: segments are deleted by this */
    bool dirty;
    uint64_t written_ms;
    struct tg_log_cursor *next;
};

/* --- the file: text, so that an operator can read it; the checksum covers the lines before it ---
 */

/* Version 1 had no `again_until_no` and no `skipped`, version 2 no `inexpressible`,
 * version 3 no `log` and no `epoch`, version 4 no `name`. */
enum { FILE_VERSION = 5 };

static int render(const struct tg_cursor_state *s, const char *log_id, const char *name,
                  unsigned version, char out[FILE_MAX_BYTES])
{
    int n = snprintf(out, FILE_MAX_BYTES,
                     "tidegate cursor %u\npos %" PRIu64 "\npoint_no %" PRIu64
                     "\nfirst_point_no %" PRIu64 "\nreplay_until_no %" PRIu64 "\ndelivered %" PRIu64
                     "\nelsewhere %" PRIu64 "\ndead %" PRIu64 "\nlost %" PRIu64 "\n",
                     version, s->pos, s->point_no, s->first_point_no, s->replay_until_no,
                     s->n_delivered, s->n_elsewhere, s->n_dead, s->n_lost);
    if (version > 1)
        n += snprintf(out + n, FILE_MAX_BYTES - (size_t)n,
                      "again_until_no %" PRIu64 "\nskipped %" PRIu64 "\n", s->again_until_no,
                      s->n_skipped);
    if (version > 2)
        n += snprintf(out + n, FILE_MAX_BYTES - (size_t)n, "inexpressible %" PRIu64 "\n",
                      s->n_inexpressible);
    if (version > 3)
        n += snprintf(out + n, FILE_MAX_BYTES - (size_t)n, "log %s\nepoch %" PRIu64 "\n", log_id,
                      s->epoch);
    if (version > 4) n += snprintf(out + n, FILE_MAX_BYTES - (size_t)n, "name %s\n", name);
    n += snprintf(out + n, FILE_MAX_BYTES - (size_t)n, "crc32c %08x\n",
                  tg_crc32c(0, out, (size_t)n));
    return n;
}

static bool parse(const char *text, size_t len, struct tg_cursor_state *s,
                  char log_id[TG_LOG_ID_CHARS], char name[NAME_MAX_BYTES + 1])
{
    unsigned version;
    uint8_t id[TG_LOG_ID_BYTES];
    memset(s, 0, sizeof(*s));
    log_id[0] = name[0] = 0;
    const int n_read =
        sscanf(text,
               "tidegate cursor %u pos %" SCNu64 " point_no %" SCNu64 " first_point_no %" SCNu64
               " replay_until_no %" SCNu64 " delivered %" SCNu64 " elsewhere %" SCNu64
               " dead %" SCNu64 " lost %" SCNu64 " again_until_no %" SCNu64 " skipped %" SCNu64
               " inexpressible %" SCNu64 " log %36s epoch %" SCNu64 " name %64s",
               &version, &s->pos, &s->point_no, &s->first_point_no, &s->replay_until_no,
               &s->n_delivered, &s->n_elsewhere, &s->n_dead, &s->n_lost, &s->again_until_no,
               &s->n_skipped, &s->n_inexpressible, log_id, &s->epoch, name);
    if (!(n_read == 9 && version == 1) && !(n_read == 11 && version == 2) &&
        !(n_read == 12 && version == 3) &&
        !(n_read == 14 && version == 4 && tg_log_id_parse(log_id, id)) &&
        !(n_read == 15 && version == FILE_VERSION && tg_log_id_parse(log_id, id)))
        return false;
    /* Whether a rewind was under way is not said there: better to take it for one than to lose what
     * a backend removed to have it again. */
    if (version == 1) s->again_until_no = s->replay_until_no;
    if (s->pos > CURSOR_MAX || s->point_no > CURSOR_MAX || s->replay_until_no > CURSOR_MAX ||
        s->again_until_no > CURSOR_MAX)
        return false;
    char again[FILE_MAX_BYTES]; /* exact: what does not print the same is damaged */
    return (size_t)render(s, log_id, name, version, again) == len && memcmp(again, text, len) == 0;
}

static bool name_ok(const char *name)
{
    const size_t n = strlen(name);
    return n > 0 && n <= NAME_MAX_BYTES &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static void file_name(const struct tg_log_cursor *c, char out[NAME_MAX_BYTES + 8])
{
    (void)snprintf(out, NAME_MAX_BYTES + 8, "%s.cur", c->name);
}

/* --- room on a full disk --- */

void tg_log_reserve_make(struct tg_log *log)
{
    char path[TG_PATH_MAX];
    struct tg_fs_stat st;
    if (tg_fs_join(path, log->dir, "reserve", NULL) != TG_OK) return;
    if (log->fs->stat(log->fs->self, path, &st) == 0 && st.size == TG_LOG_RESERVE_BYTES) return;
    const int fd = log->fs->open(log->fs->self, path, TG_FS_WRITE | TG_FS_CREATE | TG_FS_TRUNCATE);
    if (fd < 0) {
        char buf[64];
        tg_warn("log", "cannot make %s, the room for cursors on a full disk: %s", path,
                tg_errno_text(-fd, buf, sizeof(buf)));
        return;
    }
    static const char zeros[TG_LOG_RESERVE_BYTES / 4];
    bool ok = true;
    for (uint64_t at = 0; ok && at < TG_LOG_RESERVE_BYTES; at += sizeof(zeros))
        ok = tg_fs_write_all(log->fs, fd, zeros, sizeof(zeros), at, path, NULL) == TG_OK;
    ok = ok && log->fs->datasync(log->fs->self, fd) == 0;
    (void)log->fs->close(log->fs->self, fd);
    if (!ok) (void)log->fs->unlink(log->fs->self, path);
}

bool tg_log_reserve_give_up(struct tg_log *log)
{
    char path[TG_PATH_MAX];
    return tg_fs_join(path, log->dir, "reserve", NULL) == TG_OK &&
           log->fs->unlink(log->fs->self, path) == 0;
}

/* --- writing --- */

static enum tg_code persist(struct tg_log_cursor *c, struct tg_err *err)
{
    struct tg_log *log = c->log;
    char text[FILE_MAX_BYTES], name[NAME_MAX_BYTES + 8];
    file_name(c, name);
    pthread_mutex_lock(&c->file_mu);
    pthread_mutex_lock(&log->mu);
    const struct tg_cursor_state s = c->state;
    c->dirty = false;
    c->written_ms = tg_clock_mono_ms();
    pthread_mutex_unlock(&log->mu);
    const size_t n = (size_t)render(&s, log->id_text, c->name, FILE_VERSION, text);
    enum tg_code code = tg_log_check_folder(log, err);
    if (code == TG_OK) code = tg_fs_write_file_atomic(log->fs, log->cursor_dir, name, text, n, err);
    if (code == TG_ERR_FULL && tg_log_reserve_give_up(log))
        code = tg_fs_write_file_atomic(log->fs, log->cursor_dir, name, text, n, err);
    pthread_mutex_lock(&log->mu);
    if (code == TG_OK) /* a rewind may have come meanwhile: it needs its segments already */
        c->durable_pos = s.pos < c->state.pos ? s.pos : c->state.pos;
    else
        c->dirty = true;
    pthread_mutex_unlock(&log->mu);
    pthread_mutex_unlock(&c->file_mu);
    /* space may be had again now */
    if (code == TG_OK && atomic_load(&log->full)) tg_log_wake(log, true, false);
    return code;
}

bool tg_log_cursors_flush(struct tg_log *log)
{
    for (;;) {
        pthread_mutex_lock(&log->mu);
        struct tg_log_cursor *c = log->cursors;
        while (c && !(c->opened && c->dirty)) c = c->next;
        pthread_mutex_unlock(&log->mu);
        if (!c) return true;
        struct tg_err err;
        if (persist(c, &err) != TG_OK) {
            tg_warn("log", "cursor %s: %s", c->name, err.msg);
            return false;
        }
    }
}

/* --- the list --- */

static struct tg_log_cursor *find(const struct tg_log *log, const char *name)
{
    struct tg_log_cursor *c = log->cursors;
    while (c && strcmp(c->name, name) != 0) c = c->next;
    return c;
}

static struct tg_log_cursor *add(struct tg_log *log, const char *name)
{
    struct tg_log_cursor *c = tg_calloc(1, sizeof(*c));
    if (!c) return NULL;
    c->log = log;
    memcpy(c->name, name, strlen(name) + 1);
    (void)pthread_mutex_init(&c->file_mu, NULL);
    pthread_mutex_lock(&log->mu);
    c->next = log->cursors;
    log->cursors = c;
    pthread_mutex_unlock(&log->mu);
    return c;
}

static void discard(struct tg_log_cursor *c)
{
    (void)pthread_mutex_destroy(&c->file_mu);
    tg_free(c);
}

void tg_log_cursors_free(struct tg_log *log)
{
    while (log->cursors) {
        struct tg_log_cursor *c = log->cursors;
        log->cursors = c->next;
        discard(c);
    }
}

uint64_t tg_log_cursors_min_pos(const struct tg_log *log)
{
    uint64_t min = UINT64_MAX;
    for (const struct tg_log_cursor *c = log->cursors; c; c = c->next)
        if (!c->released && c->durable_pos < min) min = c->durable_pos;
    return min;
}

uint64_t tg_log_cursors_min_no(const struct tg_log *log)
{
    uint64_t min = UINT64_MAX;
    for (const struct tg_log_cursor *c = log->cursors; c; c = c->next)
        if (c->state.point_no < min) min = c->state.point_no;
    return min;
}

void tg_log_cursors_max(const struct tg_log *log, uint64_t *pos, uint64_t *point_no)
{
    for (const struct tg_log_cursor *c = log->cursors; c; c = c->next) {
        const struct tg_cursor_state *s = &c->state;
        if (s->pos > *pos) *pos = s->pos;
        if (s->point_no > *point_no) *point_no = s->point_no;
        /* numbers that were there when the cursor was made, or before a rewind */
        if (s->replay_until_no > *point_no) *point_no = s->replay_until_no;
        if (s->again_until_no > *point_no) *point_no = s->again_until_no;
    }
}

struct loading {
    struct tg_log *log;
    enum tg_code code;
    struct tg_err *err;
};

static enum tg_code set_aside(const struct tg_log_cursor *c, const char *why, struct tg_err *err)
{
    const struct tg_log *log = c->log;
    char file[NAME_MAX_BYTES + 8];
    file_name(c, file);
    char from[TG_PATH_MAX], to[TG_PATH_MAX], aside[NAME_MAX_BYTES + 64];
    (void)snprintf(aside, sizeof(aside), "cursor-%s-%lld.bin", c->name,
                   (long long)(tg_clock_wall_ns() / 1000000));
    TG_TRY(tg_fs_join(from, log->cursor_dir, file, err));
    TG_TRY(tg_fs_join(to, log->damaged_dir, aside, err));
    const int r = log->fs->rename(log->fs->self, from, to);
    if (r < 0) return tg_fail_errno(err, -r, "cannot set aside %s, which %.100s", from, why);
    tg_warn("log",
            "the file of cursor %s %s and was set aside as damaged/%s: what is still in the log is "
            "delivered again",
            c->name, why, aside);
    return TG_OK;
}

static void on_cursor_file(void *arg, const char *file, const struct tg_fs_stat *st)
{
    struct loading *l = arg;
    char name[NAME_MAX_BYTES + 1], path[TG_PATH_MAX];
    const size_t len = strlen(file);
    if (l->code != TG_OK) return;
    if (tg_fs_join(path, l->log->cursor_dir, file, NULL) != TG_OK) return;
    if (file[0] == '.') return;
    if (len < 5 || len - 4 > NAME_MAX_BYTES || strcmp(file + len - 4, ".cur") != 0) return;
    memcpy(name, file, len - 4);
    name[len - 4] = 0;
    if (!name_ok(name)) return;
    if (st->is_dir || st->errnum) {
        l->code = tg_log_refuse_entry(l->log->cursor_dir, file, st, l->err);
        return;
    }
    struct tg_log_cursor *c = add(l->log, name);
    uint8_t *text = NULL;
    size_t n;
    if (!c) {
        l->code = tg_fail(l->err, TG_ERR_NOMEM, "no memory to open the cursors of the log");
        return;
    }
    struct tg_err err;
    const enum tg_code code =
        tg_fs_read_file(l->log->fs, path, FILE_MAX_BYTES - 1, &text, &n, &err);
    if (code != TG_OK && code != TG_ERR_TOO_LARGE) {
        /* not damaged: where it stands is only not to be had now */
        l->code = tg_fail(l->err, code,
                          "%s; where a backend stands is in it: make it readable, or move it away "
                          "to deliver again what is in the log",
                          err.msg);
    } else if (code != TG_OK ||
               !parse((const char *)text, n, &c->state, c->log_id, c->name_in_file)) {
        memset(&c->state, 0, sizeof(c->state)); /* keeps everything until it is opened */
        c->log_id[0] = c->name_in_file[0] = 0;
        c->lost = true;
        l->log->n_damaged_records++;
    }
    c->durable_pos = c->state.pos;
    tg_free(text);
}

enum tg_code tg_log_cursors_load(struct tg_log *log, struct tg_err *err)
{
    struct loading l = {.log = log, .err = err};
    const int r = log->fs->list(log->fs->self, log->cursor_dir, on_cursor_file, &l);
    if (r < 0) return tg_fail_errno(err, -r, "cannot list the folder %s", log->cursor_dir);
    return l.code;
}

bool tg_log_cursors_id(const struct tg_log *log, uint8_t id[TG_LOG_ID_BYTES])
{
    const char *known = NULL;
    for (const struct tg_log_cursor *c = log->cursors; c; c = c->next) {
        if (!c->log_id[0]) continue;
        if (known && strcmp(known, c->log_id) != 0) return false;
        known = c->log_id;
    }
    return known && tg_log_id_parse(known, id);
}

enum tg_code tg_log_cursors_settle(struct tg_log *log, struct tg_err *err)
{
    for (struct tg_log_cursor *c = log->cursors; c; c = c->next) {
        const bool is_foreign = c->log_id[0] && strcmp(c->log_id, log->id_text) != 0;
        const bool is_others = c->name_in_file[0] && strcmp(c->name_in_file, c->name) != 0;
        char why[100] = "is damaged";
        c->no_epoch = c->lost && log->had_no_id;
        if (!c->lost && !is_foreign && !is_others) continue;
        if (is_others) /* a copy, or renamed: that backend's delivery says nothing of this one's */
            (void)snprintf(why, sizeof(why), "is of the backend %s", c->name_in_file);
        if (is_foreign) (void)snprintf(why, sizeof(why), "is of another log (%s)", c->log_id);
        TG_TRY(set_aside(c, why, err));
        memset(&c->state, 0, sizeof(c->state)); /* keeps everything until it is opened */
        c->durable_pos = 0;
        c->lost = true;
    }
    return TG_OK;
}

enum tg_code tg_log_cursors_check(struct tg_log *log, uint64_t files_end, struct tg_err *err)
{
    if (!log->last)
        return TG_OK; /* all was delivered and deleted: the cursors say where the log is */
    for (struct tg_log_cursor *c = log->cursors; c; c = c->next) {
        /* what it stood after is missing, and said: it was there, as the log knows itself */
        if (c->state.pos <= files_end || c->state.pos <= log->known.end_pos) continue;
        /* Unless every commit is fsynced, the power takes the end of the log with it, but not what
         * a cursor's file says of it: all that is left was before the cursor. */
        if (log->sync != TG_SYNC_ALWAYS && c->state.pos - files_end <= 2 * log->segment_bytes) {
            tg_warn("log",
                    "cursor %s stands %" PRIu64
                    " bytes after the log's end: it goes on with what comes next",
                    c->name, c->state.pos - files_end);
            continue;
        }
        char why[160];
        (void)snprintf(why, sizeof(why),
                       "says position %" PRIu64 ", but the log ends at %" PRIu64
                       " (was it restored, or is the file another log's?)",
                       c->state.pos, files_end);
        TG_TRY(set_aside(c, why, err));
        memset(&c->state, 0, sizeof(c->state));
        c->durable_pos = 0;
        c->lost = true;
    }
    return TG_OK;
}

/* The oldest kept position and its point number. */
static enum tg_code oldest(struct tg_log *log, struct tg_cursor_state *s, struct tg_err *err)
{
    struct tg_cursor_state at;
    TG_TRY(tg_log_find_time(log, 0, &at, err));
    memset(s, 0, sizeof(*s));
    pthread_mutex_lock(&log->mu);
    /* the start of the segment, when its number is known: damage at its start is counted then */
    const struct tg_log_segment *seg = log->first;
    s->pos = seg ? seg->start_pos : log->end_pos;
    s->point_no = !seg                                  ? log->end_point_no
                  : seg->first_point_no == TG_NO_NUMBER ? at.point_no
                                                        : seg->first_point_no;
    if (log->known.start_no < log->known.end_no && log->known.start_no < s->point_no) {
        s->pos = log->known.start_pos; /* what was there and is missing is lost to it */
        s->point_no = log->known.start_no;
    }
    pthread_mutex_unlock(&log->mu);
    s->first_point_no = s->point_no;
    return TG_OK;
}

enum tg_code tg_log_cursor_open(struct tg_log *log, const char *name, bool from_start,
                                struct tg_log_cursor **out, struct tg_err *err)
{
    *out = NULL;
    if (!name_ok(name))
        return tg_fail(err, TG_ERR_INVALID,
                       "cursor name \"%.70s\": letters, digits, _ and - only, at most %d", name,
                       NAME_MAX_BYTES);
    pthread_mutex_lock(&log->mu);
    struct tg_log_cursor *c = find(log, name);
    const bool taken = c && c->opened;
    if (c && !taken && !c->lost) {
        c->opened = true;
        c->released = false;
        *out = c;
    }
    pthread_mutex_unlock(&log->mu);
    if (taken) return tg_fail(err, TG_ERR_INVALID, "the cursor %s is open already", name);
    if (*out) {
        tg_log_absence_end(log, name, &c->state);
        return TG_OK;
    }
    struct tg_cursor_state s;
    memset(&s, 0, sizeof(s));
    if (from_start || c) TG_TRY(oldest(log, &s, err));
    pthread_mutex_lock(&log->mu);
    if (!from_start && !c) {
        s.pos = log->end_pos;
        s.point_no = s.first_point_no = log->end_point_no;
    }
    s.replay_until_no = log->end_point_no;
    const int64_t now_s = tg_clock_wall_ns() / 1000000000;
    s.epoch = c && c->no_epoch ? 0 : now_s > 1 ? (uint64_t)now_s : 1;
    pthread_mutex_unlock(&log->mu);
    const bool is_new = !c;
    if (!c && !(c = add(log, name))) return tg_fail(err, TG_ERR_NOMEM, "no memory for a cursor");
    pthread_mutex_lock(&log->mu);
    c->state = s;
    pthread_mutex_unlock(&log->mu);
    const enum tg_code code = persist(c, err); /* from now on it holds segments */
    if (code != TG_OK) {
        if (is_new) {
            pthread_mutex_lock(&log->mu);
            struct tg_log_cursor **link = &log->cursors;
            while (*link != c) link = &(*link)->next;
            *link = c->next;
            pthread_mutex_unlock(&log->mu);
            discard(c);
        }
        return code;
    }
    pthread_mutex_lock(&log->mu);
    c->lost = c->no_epoch = c->released = false;
    c->opened = true;
    pthread_mutex_unlock(&log->mu);
    *out = c;
    return TG_OK;
}

void tg_log_cursor_close(struct tg_log_cursor *c)
{
    if (!c) return;
    pthread_mutex_lock(&c->log->mu);
    const bool dirty = c->dirty;
    pthread_mutex_unlock(&c->log->mu);
    struct tg_err err;
    if (dirty && persist(c, &err) != TG_OK)
        tg_warn("log", "cursor %s: %s (some points will be delivered again)", c->name, err.msg);
    pthread_mutex_lock(&c->log->mu);
    c->opened = false; /* stays in the list: its file goes on holding segments */
    pthread_mutex_unlock(&c->log->mu);
}

struct tg_cursor_state tg_log_cursor_get(const struct tg_log_cursor *c)
{
    pthread_mutex_lock(&c->log->mu);
    const struct tg_cursor_state s = c->state;
    pthread_mutex_unlock(&c->log->mu);
    return s;
}

enum tg_code tg_log_cursor_set(struct tg_log_cursor *c, const struct tg_cursor_state *s, bool flush,
                               struct tg_err *err)
{
    struct tg_log *log = c->log;
    pthread_mutex_lock(&log->mu);
    if (s->pos < c->durable_pos) flush = true; /* a rewind must hold its segments from now on */
    c->state = *s;
    const bool was_dirty = c->dirty;
    c->dirty = true;
    const bool due = tg_clock_mono_ms() - c->written_ms >= TG_LOG_CURSOR_MS;
    if (s->pos < c->durable_pos) c->durable_pos = s->pos;
    pthread_mutex_unlock(&log->mu);
    if (flush || due) return persist(c, err);
    if (!was_dirty) tg_log_wake(log, false, true);
    return TG_OK;
}

void tg_log_cursors_warn_dropped(struct tg_log *log, const struct tg_log_segment *seg,
                                 uint64_t end_no)
{
    for (struct tg_log_cursor *c = log->cursors; c; c = c->next) {
        uint64_t from = c->state.point_no;
        if (!c->released || c->state.pos >= atomic_load(&seg->end_pos)) continue;
        if (seg->first_point_no != TG_NO_NUMBER && from < seg->first_point_no)
            from = seg->first_point_no;
        if (from >= end_no || end_no == TG_NO_NUMBER) continue;
        c->n_dropped += end_no - from;
        tg_error("log",
                 "%" PRIu64 " points that the backend %s had not got are deleted with segment "
                 "%020" PRIu64 " (log.max_bytes or log.keep), %" PRIu64
                 " since the start: it is not configured, and holds nothing; configured again, it "
                 "counts them as lost",
                 end_no - from, c->name, seg->start_pos, c->n_dropped);
    }
}

void tg_log_cursors_release(struct tg_log *log)
{
    pthread_mutex_lock(&log->mu);
    for (struct tg_log_cursor *c = log->cursors; c; c = c->next) {
        if (c->opened || c->released) continue;
        c->released = c->is_new_absence = true;
        tg_warn("log",
                "backend %s is no longer configured; its position is kept (cursors/%s.cur), and so "
                "are the %" PRIu64 " points that wait for it, until the log needs their room or "
                "log.keep is over; configure it again, or delete that file",
                c->name, c->name, log->end_point_no - c->state.point_no);
    }
    const uint64_t end_point_no = log->end_point_no;
    pthread_mutex_unlock(&log->mu);
    /* no file work under mu; cursors stay in the list */
    for (struct tg_log_cursor *c = log->cursors; c; c = c->next) {
        if (c->is_new_absence) tg_log_absence_note(log, c->name, end_point_no);
        c->is_new_absence = false;
    }
}

enum tg_code tg_log_cursor_forget(struct tg_log *log, const char *name, struct tg_err *err)
{
    if (!name_ok(name)) return tg_fail(err, TG_ERR_INVALID, "bad cursor name \"%.70s\"", name);
    pthread_mutex_lock(&log->mu);
    struct tg_log_cursor **link = &log->cursors;
    while (*link && strcmp((*link)->name, name) != 0) link = &(*link)->next;
    struct tg_log_cursor *c = *link;
    const bool busy = c && c->opened;
    if (c && !busy) *link = c->next;
    pthread_mutex_unlock(&log->mu);
    if (!c) return tg_fail(err, TG_ERR_NOT_FOUND, "the log has no cursor %s", name);
    if (busy) return tg_fail(err, TG_ERR_INVALID, "the cursor %s is in use", name);
    char file[NAME_MAX_BYTES + 8], path[TG_PATH_MAX];
    file_name(c, file);
    const bool lost = c->lost;
    discard(c);
    TG_TRY(tg_fs_join(path, log->cursor_dir, file, err));
    const int r = log->fs->unlink(log->fs->self, path);
    if (r < 0 && !(lost && r == -ENOENT)) return tg_fail_errno(err, -r, "cannot delete %s", path);
    const int s = log->fs->sync_dir(log->fs->self, log->cursor_dir);
    if (atomic_load(&log->full)) tg_log_wake(log, true, false);
    return s < 0 ? tg_fail_errno(err, -s, "cannot fsync %s", log->cursor_dir) : TG_OK;
}
