/* parquet_dir.h: the folder of a Parquet backend: names, what must go, what has expired.
 *
 *   dir/.lock                                    locked while the backend is open, as is dir itself
 *   dir/date=2026-01-31/<from>-<to>-<log>.parquet   log positions of the delivery, 20 digits each,
 *                                                and the log's id, 32 hexadecimal digits
 *                       <from>-<to>-<part>-<log>.parquet   a part of a delivery that was split
 *                       <from>-<to>[-<part>].parquet   of a version whose logs had no id (see open)
 *                       .<name>.tmp              being written; removed at open
 *                       log<seconds>-<name>      written from data that this log lost (see open)
 *                       <name>.damaged           found damaged by a query, set aside
 *                       <name>.again             its points come again: waits until they are here
 *                       <name>.kept              the log could not give all its points again
 *
 * Positions mean something within one log only: a file of another log is read by queries and goes
 * when it expires, and is otherwise left alone.
 *
 * Exactly once. Deliveries come in log order, so a file that reaches past the start of the next one
 * is of a delivery that was not confirmed, or comes again after a rewind. `floor` is where the
 * cursor was put last (at open, or by a rewind): files from there on that reach past the delivery
 * at hand are set aside as *.again before it is written (tg_parquet_dir_make_room). Files from
 * before the floor are left alone by that: their points may be in no log any more; but for one that
 * begins where the delivery does. A file set aside is removed, and that is fsynced, when all of its
 * positions were settled and the log lost none of them. One that the log lost whole gets its name
 * back; of which some points came again, or will, becomes *.kept.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_BACKEND_PARQUET_PARQUET_DIR_H
#define TG_BACKEND_PARQUET_PARQUET_DIR_H

#include "core/backend/backend.h"
#include "core/base/buf.h"
#include "core/base/folder_lock.h"
#include "core/base/fs.h"

#define TG_PARQUET_DAY_NS (INT64_C(86400) * 1000000000)

enum { TG_PARQUET_LOG_CHARS = 33, TG_PARQUET_NAME_MAX = 112 }; /* with the NUL */

struct tg_parquet_name { /* of a file */
    uint64_t from, to;
    uint32_t part;
    char log[TG_PARQUET_LOG_CHARS]; /* "": none in the name */
};

struct tg_parquet_dir {
    const struct tg_fs *fs; /* borrows */
    const char *path;       /* borrows */
    char log[TG_PARQUET_LOG_CHARS];
    struct tg_folder_lock lock;
    uint64_t floor;
    uint64_t settled_to;
    struct tg_parquet_again { /* the files set aside, of this log */
        int32_t day;
        struct tg_parquet_name name;
        bool is_done; /* removed or kept, and to be forgotten */
    } * again;
    uint32_t n_again, again_cap;
    uint64_t max_to;    /* no file of this log from `floor` on reaches past this */
    uint64_t room_from; /* of the delivery that room was made for last; UINT64_MAX: none */
    /* retention: days ascending, with the time at which the first file of the day expires */
    struct tg_parquet_due {
        int32_t day;
        int64_t ns;
    } * due;
    uint32_t n_due, due_cap;
};

struct tg_parquet_log { /* what open is told of the log */
    const char *id; /* a UUID as text; NULL or "": not known, then files without one are its own */
    uint64_t cursor_pos;
    uint64_t end_pos; /* UINT64_MAX = not known */
    /* Files without an id are of this log, which had none when it wrote them: they get it now. */
    bool adopts;
};

/* Makes and locks the folder, removes temporary files and sets aside what will be delivered again:
 * files of this log from the cursor on. Those of them that reach past its end are of data that it
 * lost: nothing brings their points back, so they are kept under another name. TG_ERR_IO,
 * TG_ERR_INVALID when another process has it. */
TG_MUST_CHECK enum tg_code tg_parquet_dir_open(struct tg_parquet_dir *d, const struct tg_fs *fs,
                                               const char *path, const struct tg_parquet_log *log,
                                               struct tg_err *err);
void tg_parquet_dir_close(struct tg_parquet_dir *d);

/* Before a delivery from `from` is written. A folder that was moved away or replaced since open is
 * made and locked again, as open does. */
TG_MUST_CHECK enum tg_code tg_parquet_dir_make_room(struct tg_parquet_dir *d, uint64_t from,
                                                    struct tg_err *err);
/* After the writes up to s->to_pos, before the cursor is there: what was set aside and came again
 * goes, what the log lost is kept. May come twice. TG_ERR_IO: call it again. */
TG_MUST_CHECK enum tg_code tg_parquet_dir_settle(struct tg_parquet_dir *d,
                                                 const struct tg_backend_settled *s,
                                                 struct tg_err *err);
/* A rewind to *pos: a file that holds points from before and after it can only be replaced whole,
 * so *pos moves back to its start; or forward to its end when the log does not reach back that far.
 * Removes nothing: that is for the next make_room or open. */
TG_MUST_CHECK enum tg_code tg_parquet_dir_rewind(struct tg_parquet_dir *d, uint64_t *pos,
                                                 uint64_t oldest_pos, struct tg_err *err);

/* The day (UTC, since 1970) of a time, and "date=YYYY-MM-DD". */
int32_t tg_parquet_day(int64_t ts_ns);
void tg_parquet_day_name(int32_t day, char out[24]);
/* false when it is not such a folder's name. */
bool tg_parquet_day_parse(const char *name, int32_t *day);
void tg_parquet_file_name(const struct tg_parquet_name *n, char out[TG_PARQUET_NAME_MAX]);
bool tg_parquet_file_parse(const char *name, struct tg_parquet_name *n);

/* Days with a folder in [first, last], ascending, appended as int32_t. */
TG_MUST_CHECK enum tg_code tg_parquet_dir_days(const struct tg_parquet_dir *d, int32_t first,
                                               int32_t last, struct tg_buf *out,
                                               struct tg_err *err);
/* Paths of a day's Parquet files in order of their names, appended NUL-terminated. */
TG_MUST_CHECK enum tg_code tg_parquet_dir_files(const struct tg_parquet_dir *d, int32_t day,
                                                struct tg_buf *out, struct tg_err *err);

/* A file that expires at ns (INT64_MAX = never) came to the day's folder. */
void tg_parquet_dir_note_due(struct tg_parquet_dir *d, int32_t day, int64_t ns);
/* When the file expires; INT64_MAX when never or not known; INT64_MIN: look no further now. */
typedef int64_t (*tg_parquet_expiry_fn)(void *arg, const char *path);
/* Removes expired files, and days that became empty. A day is looked into when its first file is
 * due, or when nothing is known of it yet; what one call does not get to is for the next.
 * *n_removed counts files. TG_ERR_CANCELED when `expiry` said so. */
TG_MUST_CHECK enum tg_code tg_parquet_dir_expire(struct tg_parquet_dir *d, int64_t now_ns,
                                                 tg_parquet_expiry_fn expiry, void *arg,
                                                 uint64_t *n_removed, struct tg_err *err);

#endif
