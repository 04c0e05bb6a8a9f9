/* recover.c: what a folder holds when it is opened; damage is set aside. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

enum { MAX_NOTED = 4096 }; /* damaged ranges remembered per segment; later ones may count twice */

struct tg_log_segment *tg_log_segment_new(uint64_t start_pos)
{
    struct tg_log_segment *seg = tg_calloc(1, sizeof(*seg));
    if (!seg) return NULL;
    seg->start_pos = start_pos;
    seg->limit_point_no = TG_NO_NUMBER;
    seg->first_point_no = TG_NO_NUMBER;
    seg->refs = 1;
    seg->orphan_fd = -1;
    atomic_init(&seg->end_pos, start_pos);
    atomic_init(&seg->sealed, false);
    return seg;
}

void tg_log_segment_unref(struct tg_log *log, struct tg_log_segment *seg)
{
    (void)log;
    if (--seg->refs) return;
    tg_free(seg->damaged);
    tg_free(seg);
}

void tg_log_segment_link(struct tg_log *log, struct tg_log_segment *seg)
{
    seg->prev = log->last;
    seg->next = NULL;
    if (log->last)
        log->last->next = seg;
    else
        log->first = seg;
    log->last = seg;
    log->n_segments++;
    log->bytes += seg->file_bytes;
}

void tg_log_segment_link_first(struct tg_log *log, struct tg_log_segment *seg)
{
    seg->prev = NULL;
    seg->next = log->first;
    if (log->first)
        log->first->prev = seg;
    else
        log->last = seg;
    log->first = seg;
    log->n_segments++;
    log->bytes += seg->file_bytes;
}

void tg_log_segment_unlink(struct tg_log *log, struct tg_log_segment *seg)
{
    *(seg->prev ? &seg->prev->next : &log->first) = seg->next;
    *(seg->next ? &seg->next->prev : &log->last) = seg->prev;
    seg->prev = seg->next = NULL;
    log->n_segments--;
    log->bytes -= seg->file_bytes;
    tg_log_segment_unref(log, seg);
}

enum tg_code tg_log_segment_path(const struct tg_log *log, uint64_t start_pos,
                                 char out[TG_PATH_MAX], struct tg_err *err)
{
    char name[TG_SEGMENT_NAME_BYTES];
    tg_segment_name(start_pos, name);
    return tg_fs_join(out, log->dir, name, err);
}

/* --- damage --- */

/* Takes room in damaged/. false: the folder is at its bound. */
static bool take_damaged_room(struct tg_log *log, uint64_t bytes)
{
    pthread_mutex_lock(&log->mu);
    const bool room = bytes <= TG_LOG_DAMAGED_BYTES - log->damaged_dir_bytes;
    if (room) log->damaged_dir_bytes += bytes;
    pthread_mutex_unlock(&log->mu);
    return room;
}

static void give_damaged_room(struct tg_log *log, uint64_t bytes)
{
    pthread_mutex_lock(&log->mu);
    log->damaged_dir_bytes -= bytes;
    pthread_mutex_unlock(&log->mu);
}

/* Copies [from, to) of a segment to damaged/<segment>-<offset>.bin, as much of it as the file has.
 * A copy is what was read: when that fails there is none. TG_ERR_TOO_LARGE: the folder is at its
 * bound; TG_ERR_NOT_FOUND: the file ends before `from`. */
static enum tg_code set_aside(struct tg_log *log, uint64_t start_pos, int fd, uint64_t from,
                              uint64_t to)
{
    const struct tg_fs *fs = log->fs;
    char name[80], path[TG_PATH_MAX];
    (void)snprintf(name, sizeof(name), "%020" PRIu64 "-%" PRIu64 ".bin", start_pos,
                   from - start_pos);
    TG_TRY(tg_fs_join(path, log->damaged_dir, name, NULL));
    struct tg_fs_stat st;
    if (fs->stat(fs->self, path, &st) == 0 && st.size >= to - from) return TG_OK;
    if (!take_damaged_room(log, to - from)) return TG_ERR_TOO_LARGE;

    const int out = fs->open(fs->self, path, TG_FS_WRITE | TG_FS_CREATE | TG_FS_TRUNCATE);
    if (out < 0) {
        give_damaged_room(log, to - from);
        return TG_ERR_IO;
    }
    uint8_t buf[4096];
    enum tg_code code = TG_OK;
    uint64_t at = from;
    while (at < to && code == TG_OK) {
        const size_t want = to - at < sizeof(buf) ? (size_t)(to - at) : sizeof(buf);
        size_t n;
        code = tg_fs_read_all(fs, fd, buf, want, at - start_pos, &n, "", NULL);
        if (code == TG_OK && n == 0) break; /* the file ends here */
        if (code == TG_OK) code = tg_fs_write_all(fs, out, buf, n, at - from, path, NULL);
        at += n;
    }
    if (code == TG_OK && at == from) code = TG_ERR_NOT_FOUND;
    if (code == TG_OK && fs->sync(fs->self, out) < 0) code = TG_ERR_IO;
    (void)fs->close(fs->self, out);
    if (code == TG_OK && fs->sync_dir(fs->self, log->damaged_dir) < 0) code = TG_ERR_IO;
    if (code != TG_OK) {
        (void)fs->unlink(fs->self, path);
        give_damaged_room(log, to - from);
    }
    return code;
}

static const char *about_copy(enum tg_code code)
{
    switch ((int)code) {
    case TG_OK: return "; a copy is in damaged/";
    case TG_ERR_TOO_LARGE: return "; no copy was made: damaged/ is at its limit";
    case TG_ERR_NOT_FOUND: return "; the file ends before them";
    default: return "; no copy could be made";
    }
}

/* True when this range was not known yet. */
static bool remember(struct tg_log *log, struct tg_log_segment *seg, uint64_t from, uint64_t to)
{
    pthread_mutex_lock(&log->mu);
    bool is_new = true;
    for (uint32_t i = 0; is_new && i < seg->n_damaged; i++)
        is_new = !(seg->damaged[i].from <= from && to <= seg->damaged[i].to);
    if (is_new && seg->n_damaged < MAX_NOTED) {
        struct tg_log_range *r =
            tg_reallocarray(seg->damaged, seg->n_damaged + 1, sizeof(*seg->damaged));
        if (r) {
            seg->damaged = r;
            r[seg->n_damaged++] = (struct tg_log_range){from, to};
        }
    }
    if (is_new) {
        log->n_damaged_records++;
        log->n_damaged_bytes += to - from;
    }
    pthread_mutex_unlock(&log->mu);
    return is_new;
}

void tg_log_note_damage(struct tg_log *log, struct tg_log_segment *seg, int fd, uint64_t from,
                        uint64_t to)
{
    if (from >= to || !remember(log, seg, from, to)) return;
    const enum tg_code code = set_aside(log, seg->start_pos, fd, from, to);
    tg_warn("log",
            "segment %020" PRIu64 ": bytes %" PRIu64 " to %" PRIu64 " are damaged and skipped%s",
            seg->start_pos, from - seg->start_pos, to - seg->start_pos, about_copy(code));
}

/* --- open --- */

struct found {
    uint64_t start_pos, size, end_pos;
    int64_t mtime_ns;
    uint64_t device, inode;
    struct tg_segment_header header;
    bool header_ok;
    bool
        is_segment; /* by its header, or by a record: they tell by their checksums where they are */
    uint64_t first_no; /* of its first block, when its header does not say */
};
struct listing {
    struct tg_log *log;
    struct found *items;
    size_t n, cap;
    enum tg_code code;
    struct tg_err *err;
};

/* What cannot be read is neither damaged nor gone: it may hold points that were acknowledged, and
 * the numbers of those that come next follow from it. */
static enum tg_code refuse(struct tg_err *err, int errnum, const char *what, const char *path)
{
    enum { SHOWN = 90 }; /* the end of a long path, so that the advice fits */
    char buf[96];
    const size_t len = strlen(path);
    if (errnum == ENOMEM) return tg_fail(err, TG_ERR_NOMEM, "no memory to open the log");
    return tg_fail(err, TG_ERR_IO, "%s%s cannot be %s: %s; it may hold acknowledged points: %s",
                   len > SHOWN ? "..." : "", len > SHOWN ? path + len - SHOWN : path, what,
                   tg_errno_text(errnum, buf, sizeof(buf)),
                   errnum == EMFILE || errnum == ENFILE
                       ? "raise the limit of open files"
                       : "make it readable, or move it away to give them up");
}

enum tg_code tg_log_refuse_entry(const char *dir, const char *name, const struct tg_fs_stat *st,
                                 struct tg_err *err)
{
    char path[TG_PATH_MAX];
    TG_TRY(tg_fs_join(path, dir, name, err));
    return refuse(err, st->is_dir ? EISDIR : st->errnum, "read", path);
}

static void on_entry(void *arg, const char *name, const struct tg_fs_stat *st)
{
    struct listing *l = arg;
    uint64_t start;
    if (l->code != TG_OK || !tg_segment_name_parse(name, &start)) return;
    if (st->is_dir || st->errnum) {
        l->code = tg_log_refuse_entry(l->log->dir, name, st, l->err);
        return;
    }
    if (l->n == l->cap) {
        const size_t cap = l->cap * 2 + 64;
        struct found *f = tg_reallocarray(l->items, cap, sizeof(*f));
        if (!f) {
            l->code =
                tg_fail(l->err, TG_ERR_NOMEM, "no memory to list the log's folder %s", l->log->dir);
            return;
        }
        l->items = f;
        l->cap = cap;
    }
    l->items[l->n++] = (struct found){.start_pos = start,
                                      .size = st->size,
                                      .mtime_ns = st->mtime_ns,
                                      .device = st->device,
                                      .inode = st->inode,
                                      .first_no = TG_NO_NUMBER};
}

static int by_start(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    return (x->start_pos > y->start_pos) - (x->start_pos < y->start_pos);
}

static void add_size(void *arg, const char *name, const struct tg_fs_stat *st)
{
    (void)name;
    *(uint64_t *)arg += st->size;
}

static enum tg_code open_segment(struct tg_log *log, uint64_t start_pos, unsigned flags,
                                 char path[TG_PATH_MAX], int *fd, struct tg_err *err)
{
    TG_TRY(tg_log_segment_path(log, start_pos, path, err));
    *fd = log->fs->open(log->fs->self, path, flags);
    return *fd < 0 ? refuse(err, -*fd, "opened", path) : TG_OK;
}

static enum tg_code read_header(struct tg_log *log, struct found *f, struct tg_err *err)
{
    char path[TG_PATH_MAX];
    int fd;
    TG_TRY(open_segment(log, f->start_pos, TG_FS_READ, path, &fd, err));
    uint8_t bytes[TG_SEGMENT_HEADER_BYTES];
    size_t n = 0;
    enum tg_code code = TG_OK;
    while (code == TG_OK && n < sizeof(bytes)) {
        const int64_t r = log->fs->pread(log->fs->self, fd, bytes + n, sizeof(bytes) - n, n);
        if (r < 0) code = refuse(err, (int)-r, "read", path);
        if (r <= 0) break;
        n += (size_t)r;
    }
    if (code == TG_OK)
        f->header_ok = tg_segment_header_get(bytes, n, &f->header) &&
                       f->header.start_pos == f->start_pos &&
                       f->header.first_point_no < TG_POINT_NO_MAX;
    (void)log->fs->close(log->fs->self, fd);
    return code;
}

struct scanned {
    uint64_t first_no; /* of the first block */
    uint64_t end_no;   /* the highest that a record says */
    uint64_t end_pos;  /* after the last record */
};

/* Looks through a whole file; with `seg` notes its damage, without stops at the first number. */
static enum tg_code scan(struct tg_log *log, uint64_t start_pos, uint64_t size,
                         struct tg_log_segment *seg, struct scanned *out, struct tg_err *err)
{
    *out = (struct scanned){TG_NO_NUMBER, TG_NO_NUMBER, start_pos};
    char path[TG_PATH_MAX];
    int fd;
    TG_TRY(open_segment(log, start_pos, TG_FS_READ, path, &fd, err));
    struct tg_segment_walk w;
    struct tg_record rec;
    tg_segment_walk_init(&w, log->fs, fd, start_pos, start_pos);
    enum tg_code code;
    uint64_t from = w.pos;
    for (;;) {
        code = tg_segment_walk_next(&w, start_pos + size, &rec, err);
        if (code == TG_ERR_IO) code = refuse(err, w.errnum, "read", path);
        if (code != TG_OK || rec.type == 0) break;
        if (rec.damaged_bytes && seg) tg_log_note_damage(log, seg, fd, from, rec.pos);
        from = rec.end_pos;
        out->end_pos = rec.end_pos;
        struct tg_block_info info;
        uint64_t no;
        if (rec.type == TG_RECORD_BLOCK && tg_block_peek(rec.payload, rec.len, &info) == TG_OK) {
            const uint64_t after = info.first_point_no + info.n_points;
            if (out->first_no == TG_NO_NUMBER) out->first_no = info.first_point_no;
            if (out->end_no == TG_NO_NUMBER || after > out->end_no) out->end_no = after;
        } else if (rec.type == TG_RECORD_COMMIT &&
                   tg_commit_record_get(rec.payload, rec.len, &no)) {
            if (out->end_no == TG_NO_NUMBER || no > out->end_no) out->end_no = no;
        }
        if (!seg && out->first_no != TG_NO_NUMBER) break;
    }
    tg_segment_walk_deinit(&w);
    (void)log->fs->close(log->fs->self, fd);
    return code;
}

/* Whether a file with the name of a segment is one. */
static enum tg_code identify(struct tg_log *log, struct found *f, struct tg_err *err)
{
    if (f->start_pos >= TG_LOG_POS_MAX) return TG_OK;
    TG_TRY(read_header(log, f, err));
    f->is_segment = f->header_ok;
    if (f->header_ok) return TG_OK;
    struct scanned s;
    TG_TRY(scan(log, f->start_pos, f->size, NULL, &s, err));
    f->is_segment = s.end_pos > f->start_pos;
    f->first_no = s.first_no;
    return TG_OK;
}

/* A file with neither header nor record of a segment at its place: one that power went for while it
 * was begun (nothing in it was ever acknowledged), or one that is none of the log's, as a copy
 * under another name. It says nothing about others, and is moved away whole. */
static void put_stray_away(struct tg_log *log, const struct found *f, uint64_t had_until)
{
    const struct tg_fs *fs = log->fs;
    char path[TG_PATH_MAX], name[80], aside[TG_PATH_MAX];
    (void)snprintf(name, sizeof(name), "%020" PRIu64 "-whole-%lld.bin", f->start_pos,
                   (long long)(tg_clock_wall_ns() / 1000000));
    if (tg_log_segment_path(log, f->start_pos, path, NULL) != TG_OK ||
        tg_fs_join(aside, log->damaged_dir, name, NULL) != TG_OK)
        return;
    if (f->size == 0 && f->start_pos < had_until) {
        const int r = fs->rename(fs->self, path, aside);
        log->n_damaged_records++;
        tg_error("log",
                 "%s is empty, but there were points in it: somebody or something emptied it; it "
                 "is moved to damaged/ (%s). To have the points delivered: stop, put the segment "
                 "and the cursors back as they were, and start",
                 path, r < 0 ? "which failed" : name);
        return;
    }
    if (f->size == 0) {
        const int r = fs->unlink(fs->self, path);
        char buf[64];
        if (r < 0)
            tg_warn("log", "cannot delete %s, which is empty: %s", path,
                    tg_errno_text(-r, buf, sizeof(buf)));
        return;
    }
    log->n_damaged_records++;
    log->n_damaged_bytes += f->size;
    const bool room = take_damaged_room(log, f->size);
    const int r = room ? fs->rename(fs->self, path, aside) : 0;
    if (r < 0) give_damaged_room(log, f->size);
    if (room && r == 0) {
        (void)fs->sync_dir(fs->self, log->damaged_dir);
        (void)fs->sync_dir(fs->self, log->dir);
    }
    tg_warn("log",
            "%s is no segment of this log (%" PRIu64
            " bytes, no header for this place, no record): it is not read%s%s",
            path, f->size, room && r == 0 ? " and was moved to damaged/" : "",
            !room   ? "; it stays where it is: damaged/ is at its limit"
            : r < 0 ? "; it could not be moved to damaged/"
                    : "");
}

/* Removes what follows the last whole record, after a copy of it was made; with `keep` it is only
 * said. */
static void cut_tail(struct tg_log *log, struct tg_log_segment *seg, uint64_t end_pos, bool keep)
{
    const uint64_t file_end = seg->start_pos + seg->file_bytes;
    char path[TG_PATH_MAX];
    struct tg_err err;
    int fd;
    if (open_segment(log, seg->start_pos, TG_FS_READ | TG_FS_WRITE, path, &fd, &err) != TG_OK) {
        (void)remember(log, seg, end_pos, file_end);
        tg_warn("log",
                "segment %020" PRIu64 ": %" PRIu64
                " bytes after the last whole record are not cut off: %s",
                seg->start_pos, file_end - end_pos, err.msg);
        return;
    }
    const enum tg_code kept = set_aside(log, seg->start_pos, fd, end_pos, file_end);
    /* No copy because of a full disk or an error: leave them, the next segment's header says that
     * they do not count. */
    const bool cut = !keep && (kept == TG_OK || kept == TG_ERR_TOO_LARGE);
    if (remember(log, seg, end_pos, file_end))
        tg_warn("log",
                "segment %020" PRIu64 ": %" PRIu64 " bytes after the last whole record are %s%s",
                seg->start_pos, file_end - end_pos, cut ? "cut off" : "skipped", about_copy(kept));
    if (cut && log->fs->truncate(log->fs->self, fd, end_pos - seg->start_pos) == 0) {
        (void)log->fs->sync(log->fs->self, fd);
        seg->file_bytes = end_pos - seg->start_pos;
    }
    (void)log->fs->close(log->fs->self, fd);
}

/* Finds the segments: what only has the name of one is moved away. */
static enum tg_code find_segments(struct tg_log *log, struct listing *l)
{
    const int r = log->fs->list(log->fs->self, log->dir, on_entry, l);
    TG_TRY(l->code);
    if (r < 0) return tg_fail_errno(l->err, -r, "cannot list the log's folder %s", log->dir);
    if (l->n) qsort(l->items, l->n, sizeof(*l->items), by_start);
    for (size_t i = 0; i < l->n; i++) TG_TRY(identify(log, &l->items[i], l->err));
    uint64_t had_until = log->known.end_pos, no = 0; /* something was written up to there */
    tg_log_cursors_max(log, &had_until, &no);
    for (size_t i = 0; i < l->n; i++)
        if (l->items[i].is_segment && l->items[i].start_pos > had_until)
            had_until = l->items[i].start_pos;
    size_t kept = 0; /* nothing is moved before all could be read */
    for (size_t i = 0; i < l->n; i++) {
        if (l->items[i].is_segment)
            l->items[kept++] = l->items[i];
        else
            put_stray_away(log, &l->items[i], had_until);
    }
    l->n = kept;
    return TG_OK;
}

/* Says of each where what counts in it ends; gives where the last one's file does. */
static uint64_t find_ends(struct found *items, size_t n)
{
    uint64_t next_pos = 0;
    for (size_t i = 0; i < n; i++) {
        struct found *f = &items[i];
        f->end_pos = f->start_pos + f->size;
        if (f->end_pos > next_pos) next_pos = f->end_pos;
        if (i == 0 || !f->header_ok) continue;
        struct found *before = &items[i - 1];
        if (before->end_pos > f->start_pos) before->end_pos = f->start_pos;
        if (f->header.prev_end_pos < before->end_pos)
            before->end_pos = f->header.prev_end_pos < before->start_pos ? before->start_pos
                                                                         : f->header.prev_end_pos;
        else if (f->header.prev_end_pos > before->end_pos)
            tg_warn("log",
                    "between the segments %020" PRIu64 " and %020" PRIu64
                    " something is missing: readers count what was lost",
                    before->start_pos, f->start_pos);
    }
    return next_pos;
}

static enum tg_code link_segment(struct tg_log *log, const struct found *f, struct tg_err *err)
{
    struct tg_log_segment *seg = tg_log_segment_new(f->start_pos);
    if (!seg) return tg_fail(err, TG_ERR_NOMEM, "no memory to open the log");
    seg->file_bytes = f->size;
    seg->sealed_ns = f->mtime_ns;
    seg->device = f->device;
    seg->inode = f->inode;
    atomic_store(&seg->sealed, true);
    atomic_store(&seg->end_pos, f->end_pos);
    seg->first_point_no = f->header_ok ? f->header.first_point_no : f->first_no;
    if (!f->header_ok) {
        tg_warn("log", "segment %020" PRIu64 " has lost its header: its records are searched",
                f->start_pos);
        log->n_damaged_records++;
    }
    if (log->last) log->last->limit_point_no = seg->first_point_no;
    tg_log_segment_link(log, seg);
    return TG_OK;
}

/* Searches for the number after the last point, from the last segment back; cuts that one's tail.
 */
static enum tg_code find_end_no(struct tg_log *log, uint64_t cursor_pos, uint64_t *end_no,
                                struct tg_err *err)
{
    for (struct tg_log_segment *seg = log->last; seg; seg = seg->prev) {
        struct scanned s;
        TG_TRY(scan(log, seg->start_pos, seg->file_bytes, seg, &s, err));
        if (seg == log->last) {
            const uint64_t file_end = seg->start_pos + seg->file_bytes;
            uint64_t end_pos = s.end_pos;
            if (end_pos <= seg->start_pos) end_pos = seg->start_pos + TG_SEGMENT_HEADER_BYTES;
            if (end_pos > file_end) end_pos = file_end;
            atomic_store(&seg->end_pos, end_pos);
            if (file_end > end_pos) {
                log->bytes -= seg->file_bytes;
                /* where a cursor was in it, it stays: that it was there is known from its length */
                cut_tail(log, seg, end_pos, cursor_pos > end_pos);
                log->bytes += seg->file_bytes;
            }
        }
        if (s.end_no != TG_NO_NUMBER && s.end_no > *end_no) *end_no = s.end_no;
        if (s.end_no != TG_NO_NUMBER || seg->first_point_no != TG_NO_NUMBER) break;
    }
    return TG_OK;
}

enum tg_code tg_log_recover(struct tg_log *log, struct tg_err *err)
{
    struct listing l = {.log = log, .err = err};
    const int r = log->fs->list(log->fs->self, log->damaged_dir, add_size, &log->damaged_dir_bytes);
    char buf[64];
    if (r < 0)
        tg_warn("log", "cannot list %s: %s", log->damaged_dir, tg_errno_text(-r, buf, sizeof(buf)));
    if (log->damaged_dir_bytes > TG_LOG_DAMAGED_BYTES)
        log->damaged_dir_bytes = TG_LOG_DAMAGED_BYTES;
    enum tg_code code = find_segments(log, &l);
    const uint64_t files_end = code == TG_OK ? find_ends(l.items, l.n) : 0;
    uint64_t end_no = 0;
    for (size_t i = 0; code == TG_OK && i < l.n; i++) {
        code = link_segment(log, &l.items[i], err);
        if (code == TG_OK && log->last->first_point_no != TG_NO_NUMBER)
            end_no = log->last->first_point_no;
    }
    tg_free(l.items);
    TG_TRY(code);
    /* Positions and numbers that a cursor has seen are not given again, even when what they were is
     * gone. */
    uint64_t cursor_pos = 0, cursor_no = 0;
    tg_log_cursors_max(log, &cursor_pos, &cursor_no);
    if (log->known.end_pos > cursor_pos) cursor_pos = log->known.end_pos;
    TG_TRY(find_end_no(log, cursor_pos, &end_no, err));
    tg_log_extent_compare(log, end_no);
    if (log->known.end_no > cursor_no) cursor_no = log->known.end_no;
    TG_TRY(tg_log_cursors_check(log, files_end, err));
    log->w.next_pos = files_end > cursor_pos ? files_end : cursor_pos;
    log->w.next_point_no = end_no > cursor_no ? end_no : cursor_no;
    log->end_point_no = log->w.next_point_no;
    log->end_pos = log->last ? atomic_load(&log->last->end_pos) : log->w.next_pos;
    if (cursor_pos > log->end_pos) log->end_pos = cursor_pos;
    return TG_OK;
}
