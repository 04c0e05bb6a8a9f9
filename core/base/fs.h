/* fs.h: file operations as an injected table, so that tests can take the power away.
 *
 * Whoever must not lose data (log, cursors, Parquet) does all its file work through a `struct
 * tg_fs`. The real one is thin over the system calls; tests/support/sim_fs.h is one in memory that
 * knows what is durable.
 *
 * Every operation returns 0 or a count or a handle (>= 0) on success, and -errno on failure; EINTR
 * is retried inside. Paths are plain, '/'-separated.
 *
 * What is durable when: file contents and length after sync/datasync of the file; a created,
 * renamed or removed name after sync_dir of its folder.
 *
 * Threading: the real one from any thread; a handle's reads and writes carry their own offset.
 */
#ifndef TG_BASE_FS_H
#define TG_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum {
    TG_FS_READ = 1,
    TG_FS_WRITE = 2,
    TG_FS_CREATE = 4, /* make it when missing, mode 0640 */
    TG_FS_EXCL = 8,   /* with CREATE: -EEXIST when it is there */
    TG_FS_TRUNCATE = 16
};

struct tg_fs_stat {
    uint64_t size;
    int64_t mtime_ns;
    uint64_t device, inode; /* which file it is, whatever its name */
    bool is_dir;
    int errnum; /* of an entry of a list: why nothing else is known of it; else 0 */
};

/* Called per entry (not "." and ".."), in no order. An entry that cannot be looked at is given,
 * too, with st->errnum (ENOENT: a symbolic link to what is not there); one that was removed
 * meanwhile is not. */
typedef void (*tg_fs_entry_fn)(void *arg, const char *name, const struct tg_fs_stat *st);

struct tg_fs {
    void *self;                                                /* first argument of all */
    int (*open)(void *self, const char *path, unsigned flags); /* handle */
    int (*close)(void *self, int fd);
    /* May be short: 0 = at the end of the file. */
    int64_t (*pread)(void *self, int fd, void *buf, size_t len, uint64_t off);
    int64_t (*pwrite)(void *self, int fd, const void *buf, size_t len, uint64_t off);
    int (*sync)(void *self, int fd);
    int (*datasync)(void *self, int fd); /* contents and length, not times */
    int (*truncate)(void *self, int fd, uint64_t len);
    int (*fstat)(void *self, int fd, struct tg_fs_stat *st);
    int (*stat)(void *self, const char *path, struct tg_fs_stat *st);
    int (*rename)(void *self, const char *from, const char *to); /* replaces `to` */
    int (*unlink)(void *self, const char *path);
    int (*rmdir)(void *self, const char *path);
    int (*mkdir)(void *self, const char *path); /* mode 0750; -EEXIST when it is there */
    int (*sync_dir)(void *self, const char *path);
    int (*list)(void *self, const char *path, tg_fs_entry_fn fn, void *arg);
    /* Holds an exclusive lock on the folder, or on the file (made when it is missing), until the
     * handle is closed or the process ends. -EWOULDBLOCK when another holds it. */
    int (*lock)(void *self, const char *path);
};

/* Opens a regular file (or a symbolic link to one) and nothing else, without ever waiting for the
 * other end of a FIFO or for a device: whoever opens a file that others can replace does it with
 * this. `flags` as above. Returns a descriptor (close-on-exec), -errno, -EISDIR for a folder, or
 * -TG_E_FIFO, -TG_E_SOCKET, -TG_E_DEVICE for what is no file; tg_fail_errno has the words. A mount
 * whose server hangs can still hold the caller: no flag helps against that. The real `open` of
 * struct tg_fs is this. */
int tg_fs_open_regular(const char *path, unsigned flags);

const struct tg_fs *tg_fs_real(void);

enum { TG_PATH_MAX = 4096 };
/* Joins with '/' into out[TG_PATH_MAX]. TG_ERR_TOO_LARGE. */
TG_MUST_CHECK enum tg_code tg_fs_join(char out[TG_PATH_MAX], const char *dir, const char *name,
                                      struct tg_err *err);

/* Writes all of it, or fails (bytes before the failure may be in the file). TG_ERR_IO; TG_ERR_FULL
 * when the disk is. `path` is for the message. */
TG_MUST_CHECK enum tg_code tg_fs_write_all(const struct tg_fs *fs, int fd, const void *bytes,
                                           size_t len, uint64_t off, const char *path,
                                           struct tg_err *err);
/* Reads up to len bytes, fewer only at the end of the file. */
TG_MUST_CHECK enum tg_code tg_fs_read_all(const struct tg_fs *fs, int fd, void *buf, size_t len,
                                          uint64_t off, size_t *n_read, const char *path,
                                          struct tg_err *err);

/* Replaces dir/name whole: writes dir/.name.tmp, fsync, rename, fsync of the folder. On failure the
 * old file is still there and the temporary one is gone (best effort). */
TG_MUST_CHECK enum tg_code tg_fs_write_file_atomic(const struct tg_fs *fs, const char *dir,
                                                   const char *name, const void *bytes, size_t len,
                                                   struct tg_err *err);
/* Reads a whole small file into *out (returns owned, tg_free; one NUL is added after it).
 * TG_ERR_NOT_FOUND, TG_ERR_TOO_LARGE over max_bytes. */
TG_MUST_CHECK enum tg_code tg_fs_read_file(const struct tg_fs *fs, const char *path,
                                           size_t max_bytes, uint8_t **out, size_t *len,
                                           struct tg_err *err);
/* Makes the folder and its missing parents, each one durable. */
TG_MUST_CHECK enum tg_code tg_fs_mkdirs(const struct tg_fs *fs, const char *path,
                                        struct tg_err *err);

#endif
