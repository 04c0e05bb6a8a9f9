/* segment_reclaim.c: deletes segments that are delivered, oldest first. */
#include <errno.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/log/log_impl.h"

/* Under mu. */
static bool oldest_is_passed(const struct tg_log *log, int64_t sealed_before_ns)
{
    const struct tg_log_segment *seg = log->first;
    return seg && seg != log->w.active && atomic_load(&seg->sealed) &&
           seg->sealed_ns < sealed_before_ns &&
           tg_log_cursors_min_pos(log) >= atomic_load(&seg->end_pos);
}

/* Removes the oldest segment if every cursor has durably passed it. */
static bool drop_oldest(struct tg_log *log, int64_t sealed_before_ns)
{
    char path[TG_PATH_MAX];
    struct tg_err err;
    pthread_mutex_lock(&log->mu);
    const bool passed = oldest_is_passed(log, sealed_before_ns);
    pthread_mutex_unlock(&log->mu);
    /* no file work under mu */
    if (!passed || tg_log_check_folder(log, &err) != TG_OK) return false;
    pthread_mutex_lock(&log->mu);
    struct tg_log_segment *seg = log->first;
    if (!oldest_is_passed(log, sealed_before_ns)) { /* a cursor was rewound meanwhile */
        pthread_mutex_unlock(&log->mu);
        return false;
    }
    if (tg_log_segment_path(log, seg->start_pos, path, NULL) != TG_OK) {
        pthread_mutex_unlock(&log->mu);
        return false;
    }
    /* Out of the list before the file goes: a cursor that is rewound meanwhile sees where the log
     * begins from now on. */
    seg->refs++;
    tg_log_segment_unlink(log, seg);
    tg_log_cursors_warn_dropped(log, seg,
                                log->first ? log->first->first_point_no : log->end_point_no);
    log->known = (struct tg_log_extent){0}; /* of former times now */
    pthread_mutex_unlock(&log->mu);
    tg_log_extent_write(log); /* before it goes: a start must not miss it */

    /* what stands in the place of a file that lost its name is not ours to delete */
    const int r = seg->orphan_fd >= 0 ? 0 : log->fs->unlink(log->fs->self, path);
    char buf[64];
    const bool gone = r == 0 || r == -ENOENT;
    if (gone) tg_log_orphan_drop(log, seg);
    if (gone) /* in order: an older segment must not come back without the one after it */
        (void)log->fs->sync_dir(log->fs->self, log->dir);
    else
        tg_warn("log", "cannot delete the delivered segment %s: %s", path,
                tg_errno_text(-r, buf, sizeof(buf)));
    pthread_mutex_lock(&log->mu);
    if (gone)
        tg_log_segment_unref(log, seg);
    else
        tg_log_segment_link_first(log, seg);
    pthread_mutex_unlock(&log->mu);
    return gone;
}

static bool fits(struct tg_log *log, uint64_t need)
{
    pthread_mutex_lock(&log->mu);
    const bool yes = log->bytes <= log->max_bytes && need <= log->max_bytes - log->bytes;
    pthread_mutex_unlock(&log->mu);
    return yes;
}

bool tg_segment_reclaim(struct tg_log *log, uint64_t need)
{
    const int64_t old = tg_clock_wall_ns() - (int64_t)log->keep_ms * 1000000;
    while (drop_oldest(log, old)) {
    }
    while (!fits(log, need))
        if (!drop_oldest(log, INT64_MAX)) return false;
    return true;
}

bool tg_segment_reclaim_all(struct tg_log *log)
{
    bool any = false;
    while (drop_oldest(log, INT64_MAX)) any = true;
    return any;
}
