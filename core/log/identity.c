/* identity.c: which log this is: a random id, made with the log, in `id` and in each segment.
 *
 * The id file can be lost, the segments and the cursors still say whose they are; what says
 * otherwise is of another log. Nothing of another log is delivered, overwritten or deleted.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

enum { FILE_MAX_BYTES = 256 };
#define ID_FILE "id"

/* --- text: 8-4-4-4-12 hexadecimal digits --- */

void tg_log_id_text(const uint8_t id[TG_LOG_ID_BYTES], char out[TG_LOG_ID_CHARS])
{
    static const char digits[] = "0123456789abcdef";
    char *p = out;
    for (unsigned i = 0; i < TG_LOG_ID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *p++ = '-';
        *p++ = digits[id[i] >> 4];
        *p++ = digits[id[i] & 15];
    }
    *p = 0;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool tg_log_id_parse(const char *text, uint8_t id[TG_LOG_ID_BYTES])
{
    char again[TG_LOG_ID_CHARS];
    const char *p = text;
    for (unsigned i = 0; i < TG_LOG_ID_BYTES; i++) {
        if (*p == '-') p++;
        const int high = digit(*p), low = high < 0 ? -1 : digit(p[1]);
        if (low < 0) return false;
        id[i] = (uint8_t)(high << 4 | low);
        p += 2;
    }
    tg_log_id_text(id, again);
    return strcmp(again, text) == 0;
}

/* A random UUID (RFC 9562, version 4). */
static enum tg_code make_id(uint8_t id[TG_LOG_ID_BYTES], struct tg_err *err)
{
    ssize_t n;
    do n = getrandom(id, TG_LOG_ID_BYTES, 0);
    while (n < 0 && errno == EINTR);
    if (n != TG_LOG_ID_BYTES) return tg_fail_errno(err, errno, "cannot get random bytes");
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    return TG_OK;
}

/* --- the file --- */

static int render(const char *id, char out[FILE_MAX_BYTES])
{
    const int n = snprintf(out, FILE_MAX_BYTES, "tidegate log 1\nid %s\n", id);
    return n + snprintf(out + n, FILE_MAX_BYTES - (size_t)n, "crc32c %08x\n",
                        tg_crc32c(0, out, (size_t)n));
}

static bool parse(const char *text, size_t len, uint8_t id[TG_LOG_ID_BYTES])
{
    char word[TG_LOG_ID_CHARS], again[FILE_MAX_BYTES];
    return sscanf(text, "tidegate log 1 id %36s", word) == 1 && tg_log_id_parse(word, id) &&
           (size_t)render(word, again) == len && memcmp(again, text, len) == 0;
}

/* A damaged file is set aside: the segments say the same. */
static enum tg_code read_file(struct tg_log *log, uint8_t id[TG_LOG_ID_BYTES], bool *found,
                              struct tg_err *err)
{
    char path[TG_PATH_MAX], to[TG_PATH_MAX], aside[64];
    uint8_t *text = NULL;
    size_t len;
    *found = false;
    TG_TRY(tg_fs_join(path, log->dir, ID_FILE, err));
    const enum tg_code code = tg_fs_read_file(log->fs, path, FILE_MAX_BYTES - 1, &text, &len, err);
    if (code == TG_ERR_NOT_FOUND) return TG_OK;
    if (code != TG_OK && code != TG_ERR_TOO_LARGE) return code; /* what it says is not known */
    *found = code == TG_OK && parse((const char *)text, len, id);
    tg_free(text);
    if (*found) return TG_OK;
    (void)snprintf(aside, sizeof(aside), "id-%lld.bin", (long long)(tg_clock_wall_ns() / 1000000));
    TG_TRY(tg_fs_join(to, log->damaged_dir, aside, err));
    const int r = log->fs->rename(log->fs->self, path, to);
    if (r < 0) return tg_fail_errno(err, -r, "cannot set aside %s, which is damaged", path);
    log->n_damaged_records++;
    tg_warn("log", "%s was damaged and is set aside as damaged/%s", path, aside);
    return TG_OK;
}

static enum tg_code write_file(struct tg_log *log, struct tg_err *err)
{
    char text[FILE_MAX_BYTES];
    const size_t n = (size_t)render(log->id_text, text);
    enum tg_code code = tg_fs_write_file_atomic(log->fs, log->dir, ID_FILE, text, n, err);
    if (code == TG_ERR_FULL && tg_log_reserve_give_up(log))
        code = tg_fs_write_file_atomic(log->fs, log->dir, ID_FILE, text, n, err);
    return code;
}

/* --- the segments --- */

struct seen {
    struct tg_log *log;
    const uint8_t *own;       /* what the file says; NULL: nothing */
    uint64_t n_own, n_silent; /* segments that say it; that say nothing */
    bool has_other, disagree; /* some say another id; not all of those the same */
    uint8_t other[TG_LOG_ID_BYTES];
    char other_name[TG_SEGMENT_NAME_BYTES];
    int errnum; /* of one that could not be read */
    char unread_name[TG_SEGMENT_NAME_BYTES];
};

static void look_at(struct seen *s, uint64_t start_pos)
{
    const struct tg_fs *fs = s->log->fs;
    uint8_t bytes[TG_SEGMENT_HEADER_BYTES + TG_FRAME_BYTES + TG_LOG_ID_BYTES];
    uint8_t id[TG_LOG_ID_BYTES];
    char path[TG_PATH_MAX];
    size_t n = 0;
    if (tg_log_segment_path(s->log, start_pos, path, NULL) != TG_OK) return;
    const int fd = fs->open(fs->self, path, TG_FS_READ);
    int64_t r = fd;
    while (r >= 0 && n < sizeof(bytes)) {
        r = fs->pread(fs->self, fd, bytes + n, sizeof(bytes) - n, n);
        if (r <= 0) break;
        n += (size_t)r;
    }
    if (fd >= 0) (void)fs->close(fs->self, fd);
    if (r == -ENOENT) return; /* removed meanwhile */
    if (r < 0) {
        s->errnum = (int)-r;
        tg_segment_name(start_pos, s->unread_name);
        return;
    }
    if (!tg_segment_log_get(bytes, n, start_pos, id)) {
        s->n_silent++; /* of a former version, or damaged */
    } else if (s->own && memcmp(id, s->own, sizeof(id)) == 0) {
        s->n_own++;
    } else if (!s->has_other) {
        s->has_other = true;
        memcpy(s->other, id, sizeof(id));
        tg_segment_name(start_pos, s->other_name);
    } else if (memcmp(id, s->other, sizeof(id)) != 0) {
        s->disagree = true;
        tg_segment_name(start_pos, s->other_name);
    }
}

static void on_entry(void *arg, const char *name, const struct tg_fs_stat *st)
{
    struct seen *s = arg;
    uint64_t start_pos;
    if (st->is_dir || !tg_segment_name_parse(name, &start_pos)) return;
    if (!st->errnum) {
        look_at(s, start_pos);
    } else {
        s->errnum = st->errnum;
        tg_segment_name(start_pos, s->unread_name);
    }
}

/* --- who it is --- */

/* The file and the cursors say the same: without a segment of its own (all was delivered and is
 * gone) that is what the log is. */
static bool cursors_agree(const struct tg_log *log, const uint8_t id[TG_LOG_ID_BYTES])
{
    uint8_t theirs[TG_LOG_ID_BYTES];
    return tg_log_cursors_id(log, theirs) && memcmp(theirs, id, sizeof(theirs)) == 0;
}

static enum tg_code foreign(const struct seen *s, struct tg_err *err)
{
    char id[TG_LOG_ID_CHARS];
    tg_log_id_text(s->other, id);
    if (!s->disagree && s->n_own == 0)
        return tg_fail(err, TG_ERR_INVALID,
                       "%.120s/%s is of another log (%s) than the file " ID_FILE
                       " and the cursors: move it away",
                       s->log->dir, s->other_name, id);
    return tg_fail(err, TG_ERR_INVALID,
                   "%.120s/%s is of another log than the other segments (%s): move it away",
                   s->log->dir, s->other_name, s->disagree ? "a third one" : id);
}

enum tg_code tg_log_learn_id(struct tg_log *log, struct tg_err *err)
{
    uint8_t own[TG_LOG_ID_BYTES];
    bool in_file;
    TG_TRY(read_file(log, own, &in_file, err));
    struct seen s = {.log = log, .own = in_file ? own : NULL};
    const int r = log->fs->list(log->fs->self, log->dir, on_entry, &s);
    if (r < 0) return tg_fail_errno(err, -r, "cannot list the log's folder %s", log->dir);
    if (s.errnum)
        return tg_fail_errno(err, s.errnum,
                             "cannot tell of which log %.120s/%s is: make it readable, or move it "
                             "away",
                             log->dir, s.unread_name);
    if (s.disagree || (s.has_other && (s.n_own || (in_file && cursors_agree(log, own)))))
        return foreign(&s, err);
    if (s.has_other) { /* the points are in the segments: they are right */
        memcpy(log->id, s.other, sizeof(log->id));
    } else if (in_file) {
        memcpy(log->id, own, sizeof(log->id));
    } else if (!tg_log_cursors_id(log, log->id)) {
        TG_TRY(make_id(log->id, err));
        log->had_no_id = s.n_silent > 0;
    }
    tg_log_id_text(log->id, log->id_text);
    if (in_file && !s.has_other) return TG_OK;
    if (in_file)
        tg_warn("log",
                "the file %s/" ID_FILE " is of another log and is replaced: the segments "
                "are of log %s",
                log->dir, log->id_text);
    return write_file(log, err);
}

const char *tg_log_id(const struct tg_log *log)
{
    return log->id_text;
}
