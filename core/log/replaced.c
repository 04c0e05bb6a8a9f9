/* What somebody else does to the log's files while the gateway runs.
 *
 * A file that was removed, or whose name now belongs to another one, takes writes and fsyncs as
 * ever, but nothing of it would be there after a restart. So what a name stands for is compared
 * with what is written to (device and inode, and a length that only grows) before a commit is
 * acknowledged, and once a second while there are none. As long as the handle is open, the bytes
 * are: they are written to a new file under the old name, and what stood there goes to damaged/. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

enum { COPY_BYTES = 256 << 10 };

static void set_identity(struct tg_log *log, struct tg_log_segment *seg,
                         const struct tg_fs_stat *st)
{
    pthread_mutex_lock(&log->mu);
    seg->device = st->device;
    seg->inode = st->inode;
    pthread_mutex_unlock(&log->mu);
}

enum tg_code tg_log_identify(struct tg_log *log, struct tg_log_segment *seg, int fd,
                             struct tg_err *err)
{
    struct tg_fs_stat st;
    const int r = log->fs->fstat(log->fs->self, fd, &st);
    if (r < 0) return tg_fail_errno(err, -r, "cannot look at segment %020" PRIu64, seg->start_pos);
    set_identity(log, seg, &st);
    return TG_OK;
}

static bool same_file(const struct tg_log_segment *seg, const struct tg_fs_stat *st)
{
    return !st->is_dir && st->device == seg->device && st->inode == seg->inode;
}

enum tg_code tg_log_is_file(struct tg_log *log, const struct tg_log_segment *seg, const char *path,
                            uint64_t bytes, struct tg_err *err)
{
    struct tg_fs_stat st;
    const int r = log->fs->stat(log->fs->self, path, &st);
    if (r < 0 && r != -ENOENT) return tg_fail_errno(err, -r, "cannot look at %s", path);
    if (r == 0 && same_file(seg, &st) && st.size >= bytes) return TG_OK;
    return tg_fail(err, TG_ERR_NOT_FOUND, "%s was %s while the gateway runs", path,
                   r < 0                 ? "removed"
                   : same_file(seg, &st) ? "cut short"
                                         : "replaced");
}

/* Moves what stands in the segment's place to damaged/. */
static enum tg_code clear_place(struct tg_log *log, const struct tg_log_segment *seg,
                                const char *path, struct tg_err *err)
{
    const struct tg_fs *fs = log->fs;
    char name[80], aside[TG_PATH_MAX];
    (void)snprintf(name, sizeof(name), "%020" PRIu64 "-replaced-%lld.bin", seg->start_pos,
                   (long long)(tg_clock_wall_ns() / 1000000));
    TG_TRY(tg_fs_join(aside, log->damaged_dir, name, err));
    const int r = fs->rename(fs->self, path, aside);
    if (r < 0 && r != -ENOENT) return tg_fail_errno(err, -r, "cannot move %s to damaged/", path);
    if (r == 0) (void)fs->sync_dir(fs->self, log->damaged_dir);
    if (r == 0) tg_warn("log", "what was put in the place of %s is in damaged/%s", path, name);
    return TG_OK;
}

/* Writes what was committed to the segment from its handle to a new file. */
static enum tg_code write_copy(struct tg_log *log, struct tg_log_segment *seg, const char *path,
                               uint64_t *n_copied, struct tg_err *err)
{
    const struct tg_fs *fs = log->fs;
    const uint64_t good = atomic_load(&seg->end_pos) - seg->start_pos;
    uint8_t *buf = tg_malloc(COPY_BYTES);
    if (!buf) return tg_fail(err, TG_ERR_NOMEM, "no memory to save a segment of the log");
    enum tg_code code = TG_OK;
    uint64_t at = 0;
    const int out = fs->open(fs->self, path, TG_FS_READ | TG_FS_WRITE | TG_FS_CREATE | TG_FS_EXCL);
    if (out < 0) {
        tg_free(buf);
        return tg_fail_errno(err, -out, "cannot create %s", path);
    }
    while (code == TG_OK && at < good) {
        size_t n;
        const size_t want = good - at < COPY_BYTES ? (size_t)(good - at) : COPY_BYTES;
        code = tg_fs_read_all(fs, seg->orphan_fd, buf, want, at, &n, path, err);
        if (code == TG_OK && n == 0) break; /* cut short before its name was taken */
        if (code == TG_OK) code = tg_fs_write_all(fs, out, buf, n, at, path, err);
        at += n;
    }
    int r = code == TG_OK ? fs->sync(fs->self, out) : 0;
    if (code == TG_OK && r == 0) r = fs->sync_dir(fs->self, log->dir);
    if (r < 0) code = tg_fail_errno(err, -r, "cannot fsync %s", path);
    if (code == TG_OK) code = tg_log_identify(log, seg, out, err);
    (void)fs->close(fs->self, out);
    tg_free(buf);
    if (code != TG_OK) (void)fs->unlink(fs->self, path);
    *n_copied = at;
    return code;
}

void tg_log_orphan_drop(struct tg_log *log, struct tg_log_segment *seg)
{
    if (seg->orphan_fd < 0) return;
    (void)log->fs->close(log->fs->self, seg->orphan_fd);
    seg->orphan_fd = -1;
    log->w.n_orphans--;
    atomic_store(&seg->waits, false);
}

static enum tg_code save(struct tg_log *log, struct tg_log_segment *seg, struct tg_err *err)
{
    const uint64_t good = atomic_load(&seg->end_pos) - seg->start_pos;
    char path[TG_PATH_MAX];
    uint64_t n_copied = 0;
    TG_TRY(tg_log_segment_path(log, seg->start_pos, path, err));
    TG_TRY(tg_log_check_folder(log, err));
    const enum tg_code code = tg_log_is_file(log, seg, path, good, err);
    if (code == TG_OK) {
        tg_info("log", "%s is back in its place", path);
    } else if (code != TG_ERR_NOT_FOUND) {
        return code;
    } else {
        TG_TRY(clear_place(log, seg, path, err));
        TG_TRY(write_copy(log, seg, path, &n_copied, err));
        if (n_copied < good)
            tg_error("log",
                     "%s was cut short while the gateway runs: its last %" PRIu64
                     " bytes are lost, and readers count the points in them",
                     path, good - n_copied);
        else
            tg_warn("log",
                    "%s is written again: its %" PRIu64 " bytes were still to be had, no point is "
                    "lost",
                    path, good);
    }
    tg_log_orphan_drop(log, seg);
    return TG_OK;
}

/* Tries again to save what could not be saved before. */
static void save_orphans(struct tg_log *log)
{
    for (struct tg_log_segment *seg = log->first; seg && log->w.n_orphans; seg = seg->next) {
        struct tg_err err;
        if (seg->orphan_fd < 0 || save(log, seg, &err) == TG_OK) continue;
        tg_error("log",
                 "what was committed to segment %020" PRIu64
                 " is only in memory of the system until it can be written again, and a restart "
                 "would lose it: %s",
                 seg->start_pos, err.msg);
    }
    log->w.saved_ms = tg_clock_mono_ms(); /* not before: a slow disk is not kept busy with it */
}

static void count_replaced(struct tg_log *log)
{
    pthread_mutex_lock(&log->mu);
    log->n_replaced++;
    pthread_mutex_unlock(&log->mu);
}

void tg_log_orphan_active(struct tg_log *log, uint64_t next_pos)
{
    struct tg_log_writer *w = &log->w;
    struct tg_log_segment *seg = w->active;
    atomic_store(&seg->waits, true); /* before it is sealed: then what is not there is gone */
    seg->orphan_fd = w->fd;
    w->fd = -1;
    w->n_orphans++;
    tg_log_retire_active(log, next_pos);
    save_orphans(log);
    count_replaced(log); /* who sees it counted finds it dealt with */
}

enum tg_code tg_log_look_after(struct tg_log *log, struct tg_err *err)
{
    struct tg_log_writer *w = &log->w;
    char path[TG_PATH_MAX];
    const uint64_t now_ms = tg_clock_mono_ms();
    /* by a time of its own: every commit looks, and so do readers that wait */
    if (w->n_orphans && now_ms - w->saved_ms >= TG_LOG_LOOK_MS) save_orphans(log);
    w->looked_ms = now_ms;
    if (!w->active) return TG_OK;
    TG_TRY(tg_log_segment_path(log, w->active->start_pos, path, err));
    const uint64_t bytes = w->next_pos - w->active->start_pos;
    const enum tg_code code = tg_log_is_file(log, w->active, path, bytes, err);
    if (code != TG_ERR_NOT_FOUND) return code;
    TG_TRY(tg_log_check_folder(log, err));
    struct tg_fs_stat st;
    if (log->fs->stat(log->fs->self, path, &st) == 0 && same_file(w->active, &st)) {
        tg_error("log",
                 "%s was cut to %" PRIu64
                 " bytes while the gateway runs (by copytruncate?): %" PRIu64
                 " bytes are lost, and readers count the points in them; the log goes on in a new "
                 "segment; leave its folder alone",
                 path, st.size, bytes - st.size);
        count_replaced(log);
        tg_log_retire_active(log, w->next_pos);
        return TG_OK;
    }
    tg_error("log", "%s: the log goes on in a new segment; leave its folder alone", err->msg);
    tg_log_orphan_active(log, w->next_pos);
    return TG_OK;
}
