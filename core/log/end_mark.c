/* end_mark.c: how far the log went, to the last point that was acknowledged.
 *
 * The extent (extent.c) is fsynced, and therefore written only now and then. What came since would
 * be missed by nobody when the process is killed and segments are removed before the next start.
 * This file is written with every commit, before its points are acknowledged, and never fsynced: a
 * copy of 80 bytes into the page cache, which outlives the process. When the machine went down
 * meanwhile it says what the disk has of it, and is believed where it cannot be ahead of what was
 * fsynced (log.sync = "always").
 *
 *   offset  bytes
 *        0      8  "TGENDMK1"
 *        8     16  id of the log
 *       24     16  id of the boot under which it was written; zeros: not known
 *       40     32  start_pos, start_point_no, end_pos, end_point_no
 *       72      4  flags: 1 = all of it was fsynced
 *       76      4  CRC-32C of the bytes before
 */
#include <errno.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

#define MARK_FILE "end_mark"
#define BOOT_FILE "/proc/sys/kernel/random/boot_id"

struct mark {
    char magic[8];
    uint8_t log_id[TG_LOG_ID_BYTES];
    uint8_t boot_id[TG_LOG_ID_BYTES];
    struct tg_log_extent extent;
    uint32_t flags;
    uint32_t crc;
};
_Static_assert(sizeof(struct mark) == 80, "the layout of the file");
enum { IS_SYNCED = 1 };
static const char magic[8] = {'T', 'G', 'E', 'N', 'D', 'M', 'K', '1'};

static uint32_t crc_of(const struct mark *m)
{
    return tg_crc32c(0, m, offsetof(struct mark, crc));
}

/* Zeros when the system does not say. */
static void learn_boot(const struct tg_log *log, uint8_t id[TG_LOG_ID_BYTES])
{
    char text[TG_LOG_ID_CHARS] = "";
    size_t n = 0;
    memset(id, 0, TG_LOG_ID_BYTES);
    const int fd = log->fs->open(log->fs->self, BOOT_FILE, TG_FS_READ);
    if (fd < 0) return;
    if (tg_fs_read_all(log->fs, fd, text, TG_LOG_ID_CHARS - 1, 0, &n, BOOT_FILE, NULL) != TG_OK ||
        !tg_log_id_parse(text, id))
        memset(id, 0, TG_LOG_ID_BYTES);
    (void)log->fs->close(log->fs->self, fd);
}

static bool is_known(const uint8_t id[TG_LOG_ID_BYTES])
{
    static const uint8_t none[TG_LOG_ID_BYTES];
    return memcmp(id, none, TG_LOG_ID_BYTES) != 0;
}

static bool is_valid(const struct mark *m)
{
    const struct tg_log_extent *e = &m->extent;
    return memcmp(m->magic, magic, sizeof(magic)) == 0 && m->crc == crc_of(m) &&
           e->start_pos <= e->end_pos && e->start_no <= e->end_no && e->end_pos < TG_LOG_POS_MAX &&
           e->end_no < TG_POINT_NO_MAX;
}

/* What the log deleted since, or has since, is in the other one. */
static void merge(struct tg_log_extent *known, const struct tg_log_extent *e)
{
    if (known->end_pos == 0) *known = *e;
    if (e->start_no > known->start_no) {
        known->start_pos = e->start_pos;
        known->start_no = e->start_no;
    }
    if (e->end_no > known->end_no) {
        known->end_pos = e->end_pos;
        known->end_no = e->end_no;
    }
}

enum tg_code tg_log_end_mark_read(struct tg_log *log, struct tg_err *err)
{
    char path[TG_PATH_MAX];
    struct mark m;
    uint8_t *bytes = NULL;
    size_t len;
    learn_boot(log, log->w.boot_id);
    TG_TRY(tg_fs_join(path, log->dir, MARK_FILE, err));
    const enum tg_code code = tg_fs_read_file(log->fs, path, sizeof(m), &bytes, &len, err);
    if (code == TG_ERR_NOT_FOUND) return TG_OK; /* a new log, or one of a former version */
    if (code != TG_OK && code != TG_ERR_TOO_LARGE) return code; /* what it says is not known */
    const bool is_whole = code == TG_OK && len == sizeof(m);
    if (is_whole) memcpy(&m, bytes, sizeof(m));
    tg_free(bytes);
    if (code == TG_OK && len == 0) return TG_OK; /* not written yet when the machine went down */
    if (!is_whole || !is_valid(&m)) {
        tg_warn("log",
                "%s is damaged and is written anew: whether the newest points are missing cannot "
                "be seen this time",
                path);
        return TG_OK;
    }
    if (memcmp(m.log_id, log->id, sizeof(m.log_id)) != 0) {
        tg_warn("log", "%s is of another log and is written anew", path);
        return TG_OK;
    }
    const bool is_same_boot =
        is_known(m.boot_id) && memcmp(m.boot_id, log->w.boot_id, sizeof(m.boot_id)) == 0;
    if ((m.flags & IS_SYNCED) || is_same_boot) merge(&log->known, &m.extent);
    return TG_OK;
}

void tg_log_end_mark_open(struct tg_log *log)
{
    char path[TG_PATH_MAX];
    struct tg_err err;
    tg_log_end_mark_close(log);
    enum tg_code code = tg_log_check_folder(log, &err);
    if (code == TG_OK) code = tg_fs_join(path, log->dir, MARK_FILE, &err);
    if (code == TG_OK) {
        const int fd = log->fs->open(log->fs->self, path, TG_FS_WRITE | TG_FS_CREATE);
        if (fd < 0)
            code = tg_fail_errno(&err, -fd, "cannot open %s", path);
        else
            log->w.mark_fd = fd;
    }
    if (code != TG_OK) tg_debug("log", "%s", err.msg); /* again with the next extent */
}

void tg_log_end_mark_close(struct tg_log *log)
{
    if (log->w.mark_fd >= 0) (void)log->fs->close(log->fs->self, log->w.mark_fd);
    log->w.mark_fd = -1;
}

void tg_log_end_mark_write(struct tg_log *log)
{
    if (log->w.mark_fd < 0) return;
    struct mark m = {.extent = tg_log_extent_now(log),
                     .flags = log->sync == TG_SYNC_ALWAYS ? IS_SYNCED : 0};
    memcpy(m.magic, magic, sizeof(magic));
    memcpy(m.log_id, log->id, sizeof(m.log_id));
    memcpy(m.boot_id, log->w.boot_id, sizeof(m.boot_id));
    m.crc = crc_of(&m);
    /* one that fails says less: as much as the one before, or the extent */
    (void)log->fs->pwrite(log->fs->self, log->w.mark_fd, &m, sizeof(m), 0);
}
