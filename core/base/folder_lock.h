/* folder_lock.h: a folder that one process at a time may use.
 *
 * What is locked is the folder itself: nobody lets a second process in by removing a file. The file
 * in it is locked, too, because network file systems carry locks on files from machine to machine,
 * but not those on folders. Both end with the process.
 *
 * A folder that is moved away takes its lock along; whoever then works on through the old path may
 * meet another process there, so `tg_folder_lock_check` says whether the path still names the
 * folder that is locked.
 *
 * Threading: take and release from one thread; check from any in between.
 */
#ifndef TG_BASE_FOLDER_LOCK_H
#define TG_BASE_FOLDER_LOCK_H

#include "core/base/fs.h"

struct tg_folder_lock {
    const struct tg_fs *fs; /* borrows; NULL: not held */
    int folder_fd, file_fd;
};

/* Locks the existing folder `dir` and `file` in it (made when it is missing; NULL: none).
 * TG_ERR_UNAVAILABLE when another holds it: the message says who, where the system tells, and
 * `advice`, what to change. TG_ERR_IO. */
TG_MUST_CHECK enum tg_code tg_folder_lock_take(struct tg_folder_lock *l, const struct tg_fs *fs,
                                               const char *dir, const char *file,
                                               const char *advice, struct tg_err *err);
void tg_folder_lock_release(struct tg_folder_lock *l); /* zeroed and released ones accepted */
/* TG_ERR_IO when `dir` does not name the locked folder any more. */
TG_MUST_CHECK enum tg_code tg_folder_lock_check(const struct tg_folder_lock *l, const char *dir,
                                                struct tg_err *err);

#endif
