/* extent.c: from where to where the log goes, kept outside of its segments.
 *
 * The segments alone do not tell that the last of them was removed, emptied or cut short: without
 * more the log would give the numbers of what is missing once more, and nobody would count it. The
 * file says what the log had at least. It is written when a segment is closed or deleted, every few
 * seconds while points come, and at a stop; never ahead of what is fsynced. What came since
 * is in end_mark.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

enum { FILE_MAX_BYTES = 512 };
#define EXTENT_FILE "extent"

static int render(const char *id, const struct tg_log_extent *e, char out[FILE_MAX_BYTES])
{
    const int n =
        snprintf(out, FILE_MAX_BYTES,
                 "tidegate extent 1\nlog %s\nstart_pos %" PRIu64 "\nstart_point_no %" PRIu64
                 "\nend_pos %" PRIu64 "\nend_point_no %" PRIu64 "\n",
                 id, e->start_pos, e->start_no, e->end_pos, e->end_no);
    return n + snprintf(out + n, FILE_MAX_BYTES - (size_t)n, "crc32c %08x\n",
                        tg_crc32c(0, out, (size_t)n));
}

static bool parse(const char *text, size_t len, char id[TG_LOG_ID_CHARS], struct tg_log_extent *e)
{
    char again[FILE_MAX_BYTES];
    return sscanf(text,
                  "tidegate extent 1 log %36s start_pos %" SCNu64 " start_point_no %" SCNu64
                  " end_pos %" SCNu64 " end_point_no %" SCNu64,
                  id, &e->start_pos, &e->start_no, &e->end_pos, &e->end_no) == 5 &&
           e->start_pos <= e->end_pos && e->start_no <= e->end_no && e->end_pos < TG_LOG_POS_MAX &&
           e->end_no < TG_POINT_NO_MAX && (size_t)render(id, e, again) == len &&
           memcmp(again, text, len) == 0;
}

enum tg_code tg_log_extent_read(struct tg_log *log, struct tg_err *err)
{
    char path[TG_PATH_MAX], id[TG_LOG_ID_CHARS];
    struct tg_log_extent e;
    uint8_t *text = NULL;
    size_t len;
    log->known = (struct tg_log_extent){0};
    TG_TRY(tg_fs_join(path, log->dir, EXTENT_FILE, err));
    const enum tg_code code = tg_fs_read_file(log->fs, path, FILE_MAX_BYTES - 1, &text, &len, err);
    if (code == TG_ERR_NOT_FOUND) return TG_OK; /* a new log, or one of a former version */
    if (code != TG_OK && code != TG_ERR_TOO_LARGE) return code; /* what it says is not known */
    const bool ok = code == TG_OK && parse((const char *)text, len, id, &e);
    tg_free(text);
    if (!ok) {
        log->n_damaged_records++;
        tg_warn("log",
                "%s is damaged and is written anew: whether the end of the log is missing cannot "
                "be seen this time",
                path);
    } else if (strcmp(id, log->id_text) != 0) {
        tg_warn("log", "%s is of another log (%s) and is written anew", path, id);
    } else {
        log->known = e;
    }
    return TG_OK;
}

struct tg_log_extent tg_log_extent_now(struct tg_log *log)
{
    pthread_mutex_lock(&log->mu);
    struct tg_log_extent e = {.end_pos = log->end_pos, .end_no = log->end_point_no};
    const struct tg_log_segment *first = log->first;
    /* a segment that does not say where it begins counts as not kept: no false alarm */
    const bool known = first && first->first_point_no <= e.end_no && first->start_pos <= e.end_pos;
    e.start_pos = known ? first->start_pos : e.end_pos;
    e.start_no = known ? first->first_point_no : e.end_no;
    pthread_mutex_unlock(&log->mu);
    return e;
}

static bool is_due(const struct tg_log *log, const struct tg_log_extent *e)
{
    return log->w.extent_written.end_no != e->end_no ||
           log->w.extent_written.start_no != e->start_no;
}

static bool is_ahead_of_sync(const struct tg_log *log)
{
    return log->w.active && log->w.unsynced && log->sync == TG_SYNC_INTERVAL;
}

void tg_log_extent_write(struct tg_log *log)
{
    struct tg_log_writer *w = &log->w;
    const struct tg_log_extent e = tg_log_extent_now(log);
    struct tg_err err;
    char text[FILE_MAX_BYTES];
    if (!is_due(log, &e)) return;
    if (is_ahead_of_sync(log)) return;
    const size_t n = (size_t)render(log->id_text, &e, text);
    w->extent_ms = tg_clock_mono_ms();
    enum tg_code code = tg_log_check_folder(log, &err);
    if (code == TG_OK)
        code = tg_fs_write_file_atomic(log->fs, log->dir, EXTENT_FILE, text, n, &err);
    tg_log_end_mark_open(log);
    tg_log_end_mark_write(log);
    if (code == TG_OK)
        w->extent_written = e;
    else
        tg_debug("log", "%s", err.msg); /* a full disk: said where points are refused; again soon */
}

uint64_t tg_log_extent_due_ms(struct tg_log *log)
{
    const struct tg_log_extent e = tg_log_extent_now(log);
    if (!is_due(log, &e)) return UINT64_MAX;
    if (is_ahead_of_sync(log)) return UINT64_MAX; /* the fsync is what is due */
    return log->w.extent_ms ? log->w.extent_ms + TG_LOG_EXTENT_MS : 0;
}

/* Points of [from, to) that some backend has not passed; all when no cursor is known. */
static uint64_t waiting_in(const struct tg_log *log, uint64_t from, uint64_t to)
{
    uint64_t lowest = log->cursors ? tg_log_cursors_min_no(log) : 0;
    if (lowest < from) lowest = from;
    return lowest < to ? to - lowest : 0;
}

void tg_log_extent_compare(struct tg_log *log, uint64_t files_end_no)
{
    const struct tg_log_extent *k = &log->known;
    const struct tg_log_segment *first = log->first;
    if (k->start_no == k->end_no) return; /* nothing was kept, or it is not known */
    const uint64_t end = files_end_no > k->start_no && first ? files_end_no : k->start_no;
    if (end < k->end_no) {
        const uint64_t waiting = waiting_in(log, end, k->end_no);
        if (waiting)
            tg_error("log",
                     "%s: %" PRIu64 " points at the end of the log are missing, %" PRIu64
                     " of them not taken by every backend yet: segments were removed, emptied, "
                     "cut short or damaged; the backends that wait for them count them as lost. "
                     "To have them delivered: stop, put the segments and the cursors back as they "
                     "were, and start",
                     log->dir, k->end_no - end, waiting);
        else
            tg_warn("log",
                    "%s: %" PRIu64 " points at the end of the log are missing (segments were "
                    "removed, emptied, cut short or damaged); no backend waits for them",
                    log->dir, k->end_no - end);
    }
    if (!first || first->first_point_no == TG_NO_NUMBER || first->first_point_no <= k->start_no)
        return;
    const uint64_t begin = first->first_point_no < k->end_no ? first->first_point_no : k->end_no;
    const uint64_t waiting = waiting_in(log, k->start_no, begin);
    if (waiting)
        tg_error("log",
                 "%s: %" PRIu64 " points at the start of the log are missing, %" PRIu64
                 " of them not taken by every backend yet: segments were removed, emptied or "
                 "damaged; the backends that wait for them count them as lost. To have them "
                 "delivered: stop, "
                 "put the segments and the cursors back as they were, and start",
                 log->dir, begin - k->start_no, waiting);
}
