/* absence.c: which cursors' backends are not configured, and since when.
 *
 *   cursors/<name>.out    "tidegate out 1\nsince <seconds>\npoint_no <number>\n"
 *
 * Written when a start finds the cursor without its backend, with the number that the next point
 * had then; removed when the backend is back. It is for the message that tells what came meanwhile:
 * one that is damaged or missing costs no more than that.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

enum { FILE_MAX_BYTES = 128, NAME_BYTES = 80 };

static void file_name(const char *cursor, char out[NAME_BYTES])
{
    (void)snprintf(out, NAME_BYTES, "%s.out", cursor);
}

static bool read_note(const struct tg_log *log, const char *path, int64_t *since_s,
                      uint64_t *point_no)
{
    uint8_t *text;
    size_t len;
    struct tg_err err;
    if (tg_fs_read_file(log->fs, path, FILE_MAX_BYTES, &text, &len, &err) != TG_OK) return false;
    const bool ok = sscanf((const char *)text, "tidegate out 1 since %" SCNd64 " point_no %" SCNu64,
                           since_s, point_no) == 2;
    tg_free(text);
    return ok;
}

void tg_log_absence_note(struct tg_log *log, const char *cursor, uint64_t end_point_no)
{
    char name[NAME_BYTES], path[TG_PATH_MAX], text[FILE_MAX_BYTES];
    struct tg_err err;
    int64_t since_s;
    uint64_t point_no;
    file_name(cursor, name);
    if (tg_fs_join(path, log->cursor_dir, name, NULL) != TG_OK ||
        read_note(log, path, &since_s, &point_no))
        return;
    const int n =
        snprintf(text, sizeof(text), "tidegate out 1\nsince %" PRId64 "\npoint_no %" PRIu64 "\n",
                 tg_clock_wall_ns() / 1000000000, end_point_no);
    if (tg_fs_write_file_atomic(log->fs, log->cursor_dir, name, text, (size_t)n, &err) != TG_OK)
        tg_debug("log", "%s", err.msg);
}

void tg_log_absence_end(struct tg_log *log, const char *cursor, const struct tg_cursor_state *s)
{
    char name[NAME_BYTES], path[TG_PATH_MAX], since[32] = "?", gone[160] = "";
    int64_t since_s;
    uint64_t out_no;
    struct tm tm;
    file_name(cursor, name);
    if (tg_fs_join(path, log->cursor_dir, name, NULL) != TG_OK ||
        !read_note(log, path, &since_s, &out_no))
        return;
    pthread_mutex_lock(&log->mu);
    const uint64_t end_no = log->end_point_no;
    const uint64_t first_no = log->first && log->first->first_point_no != TG_NO_NUMBER
                                  ? log->first->first_point_no
                                  : end_no;
    pthread_mutex_unlock(&log->mu);
    const time_t t = (time_t)since_s;
    if (gmtime_r(&t, &tm)) (void)strftime(since, sizeof(since), "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (first_no > s->point_no)
        (void)snprintf(gone, sizeof(gone),
                       ", of which %" PRIu64
                       " are not in the log any more (log.max_bytes, log.keep): they count as lost",
                       first_no - s->point_no);
    tg_warn(
        "log",
        "backend %s is configured again (it was not since %s): it continues at position %" PRIu64
        ", %" PRIu64 " points wait%s. %" PRIu64
        " points came meanwhile and were not routed to it; to have them as well: tidegate "
        "rewind %s --to %s",
        cursor, since, s->pos, end_no > s->point_no ? end_no - s->point_no : 0, gone,
        end_no > out_no ? end_no - out_no : 0, cursor, since);
    (void)log->fs->unlink(log->fs->self, path);
}
