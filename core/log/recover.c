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

/* Copies [from, to) of a segment to damaged/<segment>-<offset>.bin. TG_ERR_FULL: the folder is at
 * its bound. */
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
    pthread_mutex_lock(&log->mu);
    const bool room = to - from <= TG_LOG_DAMAGED_BYTES - log->damaged_dir_bytes;
    if (room) log->damaged_dir_bytes += to - from;
    pthread_mutex_unlock(&log->mu);
    if (!room) return TG_ERR_FULL;

    const int out = fs->open(fs->self, path, TG_FS_WRITE | TG_FS_CREATE | TG_FS_TRUNCATE);
    if (out < 0) return TG_ERR_IO;
    uint8_t buf[4096]; /* a page: one unreadable page loses no other */
    enum tg_code code = TG_OK;
    for (uint64_t at = from; at < to && code == TG_OK;) {
        const size_t n = to - at < sizeof(buf) ? (size_t)(to - at) : sizeof(buf);
        memset(buf, 0, n);
        (void)fs->pread(fs->self, fd, buf, n, at - start_pos);
        code = tg_fs_write_all(fs, out, buf, n, at - from, path, NULL);
        at += n;
    }
    if (code == TG_OK && fs->sync(fs->self, out) < 0) code = TG_ERR_IO;
    (void)fs->close(fs->self, out);
    if (code == TG_OK && fs->sync_dir(fs->self, log->damaged_dir) < 0) code = TG_ERR_IO;
    if (code != TG_OK) (void)fs->unlink(fs->self, path);
    return code;
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
            seg->start_pos, from - seg->start_pos, to - seg->start_pos,
            code == TG_OK         ? "; a copy is in damaged/"
            : code == TG_ERR_FULL ? "; no copy was made: damaged/ is at its limit"
                                  : "; no copy could be made");
}

/* --- open --- */

struct found {
    uint64_t start_pos, size, end_pos;
    int64_t mtime_ns;
    struct tg_segment_header header;
    bool header_ok;
};
struct listing {
    struct found *items;
    size_t n, cap;
    bool no_memory;
};

static void on_entry(void *arg, const char *name, const struct tg_fs_stat *st)
{
    struct listing *l = arg;
    uint64_t start;
    if (st->is_dir || !tg_segment_name_parse(name, &start)) return;
    if (l->n == l->cap) {
        const size_t cap = l->cap * 2 + 64;
        struct found *f = tg_reallocarray(l->items, cap, sizeof(*f));
        if (!f) {
            l->no_memory = true;
            return;
        }
        l->items = f;
        l->cap = cap;
    }
    l->items[l->n++] =
        (struct found){.start_pos = start, .size = st->size, .mtime_ns = st->mtime_ns};
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

static int open_segment(struct tg_log *log, uint64_t start_pos, unsigned flags)
{
    char path[TG_PATH_MAX];
    if (tg_log_segment_path(log, start_pos, path, NULL) != TG_OK) return -ENAMETOOLONG;
    return log->fs->open(log->fs->self, path, flags);
}

static void read_header(struct tg_log *log, struct found *f)
{
    const int fd = open_segment(log, f->start_pos, TG_FS_READ);
    if (fd < 0) return;
    uint8_t bytes[TG_SEGMENT_HEADER_BYTES];
    size_t n = 0;
    if (tg_fs_read_all(log->fs, fd, bytes, sizeof(bytes), 0, &n, "", NULL) == TG_OK)
        f->header_ok = tg_segment_header_get(bytes, n, &f->header) &&
                       f->header.start_pos == f->start_pos &&
                       f->header.first_point_no < TG_POINT_NO_MAX;
    (void)log->fs->close(log->fs->self, fd);
}

/* Looks through a whole segment. `first_no`: of its first block; `end_no`: the highest that
 * a record says; `end_pos`: after its last record. `stop_at_first` ends at the first number. */
static enum tg_code scan(struct tg_log *log, struct tg_log_segment *seg, bool stop_at_first,
                         uint64_t *first_no, uint64_t *end_no, uint64_t *end_pos,
                         struct tg_err *err)
{
    *first_no = *end_no = TG_NO_NUMBER;
    *end_pos = seg->start_pos;
    const int fd = open_segment(log, seg->start_pos, TG_FS_READ);
    if (fd < 0) return TG_OK; /* unreadable: as if it were gone; the reader counts the loss */
    const uint64_t file_end = seg->start_pos + seg->file_bytes;
    struct tg_segment_walk w;
    struct tg_record rec;
    tg_segment_walk_init(&w, log->fs, fd, seg->start_pos, seg->start_pos);
    enum tg_code code;
    uint64_t from = w.pos;
    for (;;) {
        code = tg_segment_walk_next(&w, file_end, &rec, err);
        if (code != TG_OK || rec.type == 0) break;
        if (rec.damaged_bytes && !stop_at_first) tg_log_note_damage(log, seg, fd, from, rec.pos);
        from = rec.end_pos;
        *end_pos = rec.end_pos;
        struct tg_block_info info;
        uint64_t no;
        if (rec.type == TG_RECORD_BLOCK && tg_block_peek(rec.payload, rec.len, &info) == TG_OK) {
            const uint64_t after = info.first_point_no + info.n_points;
            if (*first_no == TG_NO_NUMBER) *first_no = info.first_point_no;
            if (*end_no == TG_NO_NUMBER || after > *end_no) *end_no = after;
        } else if (rec.type == TG_RECORD_COMMIT &&
                   tg_commit_record_get(rec.payload, rec.len, &no)) {
            if (*end_no == TG_NO_NUMBER || no > *end_no) *end_no = no;
        }
        if (stop_at_first && *first_no != TG_NO_NUMBER) break;
    }
    tg_segment_walk_deinit(&w);
    (void)log->fs->close(log->fs->self, fd);
    return code;
}

/* Removes what follows the last whole record, after a copy of it was made. */
static void cut_tail(struct tg_log *log, struct tg_log_segment *seg, uint64_t end_pos)
{
    const uint64_t file_end = seg->start_pos + seg->file_bytes;
    if (file_end <= end_pos) return;
    const int fd = open_segment(log, seg->start_pos, TG_FS_READ | TG_FS_WRITE);
    if (fd < 0) return;
    const enum tg_code kept = set_aside(log, seg->start_pos, fd, end_pos, file_end);
    if (remember(log, seg, end_pos, file_end))
        tg_warn("log",
                "segment %020" PRIu64 ": %" PRIu64
                " bytes after the last whole record are cut off%s",
                seg->start_pos, file_end - end_pos, kept == TG_OK ? "; a copy is in damaged/" : "");
    /* no copy because of a full disk or an error: leave them, the next segment's header says that
     * they do not count */
    if (kept == TG_OK || kept == TG_ERR_FULL) {
        if (log->fs->truncate(log->fs->self, fd, end_pos - seg->start_pos) == 0) {
            (void)log->fs->sync(log->fs->self, fd);
            seg->file_bytes = end_pos - seg->start_pos;
        }
    }
    (void)log->fs->close(log->fs->self, fd);
}

/* Removes a last segment without header and records, after a copy of what is in it. */
static void drop_unbegun(struct tg_log *log, struct tg_log_segment *seg)
{
    char path[TG_PATH_MAX];
    if (seg->file_bytes) {
        const int fd = open_segment(log, seg->start_pos, TG_FS_READ);
        if (fd < 0) return;
        tg_log_note_damage(log, seg, fd, seg->start_pos, seg->start_pos + seg->file_bytes);
        (void)log->fs->close(log->fs->self, fd);
    }
    if (tg_log_segment_path(log, seg->start_pos, path, NULL) == TG_OK)
        (void)log->fs->unlink(log->fs->self, path);
}

enum tg_code tg_log_recover(struct tg_log *log, struct tg_err *err)
{
    struct listing l = {0};
    enum tg_code code = TG_OK;
    (void)log->fs->list(log->fs->self, log->damaged_dir, add_size, &log->damaged_dir_bytes);
    if (log->damaged_dir_bytes > TG_LOG_DAMAGED_BYTES)
        log->damaged_dir_bytes = TG_LOG_DAMAGED_BYTES;
    const int r = log->fs->list(log->fs->self, log->dir, on_entry, &l);
    if (r < 0) {
        code = tg_fail_errno(err, -r, "cannot list the log's folder %s", log->dir);
        goto done;
    }
    if (l.no_memory) {
        code = tg_fail(err, TG_ERR_NOMEM, "no memory to list the log's folder %s", log->dir);
        goto done;
    }
    if (l.n) qsort(l.items, l.n, sizeof(*l.items), by_start);
    uint64_t next_pos = 0, known_no = 0;
    for (size_t i = 0; i < l.n; i++) {
        struct found *f = &l.items[i];
        read_header(log, f);
        f->end_pos = f->start_pos + f->size;
        if (i && l.items[i - 1].end_pos > f->start_pos) l.items[i - 1].end_pos = f->start_pos;
        if (i && f->header_ok) {
            struct found *before = &l.items[i - 1];
            if (f->header.prev_end_pos < before->end_pos)
                before->end_pos = f->header.prev_end_pos < before->start_pos
                                      ? before->start_pos
                                      : f->header.prev_end_pos;
            else if (f->header.prev_end_pos > before->end_pos)
                tg_warn("log",
                        "between the segments %020" PRIu64 " and %020" PRIu64
                        " something is missing: readers count what was lost",
                        before->start_pos, f->start_pos);
        }
        if (f->end_pos > next_pos) next_pos = f->end_pos;
    }

    for (size_t i = 0; i < l.n; i++) {
        const struct found *f = &l.items[i];
        struct tg_log_segment *seg = tg_log_segment_new(f->start_pos);
        if (!seg) {
            code = tg_fail(err, TG_ERR_NOMEM, "no memory to open the log");
            goto done;
        }
        seg->file_bytes = f->size;
        seg->sealed_ns = f->mtime_ns;
        atomic_store(&seg->sealed, true);
        atomic_store(&seg->end_pos, f->end_pos);
        if (f->header_ok) {
            seg->first_point_no = f->header.first_point_no;
            known_no = f->header.first_point_no;
        } else {
            uint64_t end_no, end_pos;
            code = scan(log, seg, true, &seg->first_point_no, &end_no, &end_pos, err);
            if (code != TG_OK) {
                tg_free(seg);
                goto done;
            }
            if (i + 1 == l.n && end_pos == f->start_pos) {
                /* power went while it was begun: nothing in it was ever acknowledged */
                drop_unbegun(log, seg);
                tg_free(seg->damaged);
                tg_free(seg);
                break;
            }
            tg_warn("log", "segment %020" PRIu64 " has lost its header: its records are searched",
                    f->start_pos);
            log->n_damaged_records++;
            if (seg->first_point_no != TG_NO_NUMBER) known_no = seg->first_point_no;
        }
        if (log->last) log->last->limit_point_no = seg->first_point_no;
        tg_log_segment_link(log, seg);
    }

    /* the numbers go on after the last record that carries one */
    uint64_t end_no = known_no;
    for (struct tg_log_segment *seg = log->last; seg;) {
        uint64_t first, last, end_pos;
        const bool is_last = seg == log->last;
        code = scan(log, seg, false, &first, &last, &end_pos, err);
        if (code != TG_OK) goto done;
        if (is_last) {
            if (end_pos <= seg->start_pos) end_pos = seg->start_pos + TG_SEGMENT_HEADER_BYTES;
            if (end_pos > seg->start_pos + seg->file_bytes)
                end_pos = seg->start_pos + seg->file_bytes;
            const uint64_t file_end = seg->start_pos + seg->file_bytes;
            if (file_end > end_pos) {
                log->bytes -= seg->file_bytes;
                cut_tail(log, seg, end_pos);
                log->bytes += seg->file_bytes;
            }
            atomic_store(&seg->end_pos, end_pos);
        }
        if (last != TG_NO_NUMBER && last > end_no) end_no = last;
        if (last != TG_NO_NUMBER || seg->first_point_no != TG_NO_NUMBER) break;
        seg = seg->prev;
    }

    uint64_t cursor_pos = 0, cursor_no = 0;
    tg_log_cursors_max(log, &cursor_pos, &cursor_no);
    log->w.next_pos = next_pos > cursor_pos ? next_pos : cursor_pos;
    log->w.next_point_no = end_no > cursor_no ? end_no : cursor_no;
    log->end_point_no = log->w.next_point_no;
    log->end_pos = log->last ? atomic_load(&log->last->end_pos) : log->w.next_pos;
    if (cursor_pos > log->end_pos) log->end_pos = cursor_pos;
done:
    tg_free(l.items);
    return code;
}
