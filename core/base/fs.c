#include "core/base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"

#define RETRY(result, call) \
    do {                    \
        (result) = (call);  \
    } while ((result) < 0 && errno == EINTR)

/* 0 for a regular file, else what it is. */
static int not_regular(const struct stat *st)
{
    switch (st->st_mode & S_IFMT) {
    case S_IFREG: return 0;
    case S_IFDIR: return EISDIR;
    case S_IFIFO: return TG_E_FIFO;
    case S_IFSOCK: return TG_E_SOCKET;
    default: return TG_E_DEVICE;
    }
}

int tg_fs_open_regular(const char *path, unsigned flags)
{
    struct stat st;
    int e;
    /* Asked before opening, because opening a device can already do something (rewind a tape, start
     * a watchdog); and again afterwards, because it may have been replaced in between. */
    if (!(flags & TG_FS_EXCL) && stat(path, &st) == 0 && (e = not_regular(&st)) != 0) return -e;
    int f = O_CLOEXEC | O_NOCTTY | O_NONBLOCK; /* without it a FIFO waits for its other end */
    if ((flags & TG_FS_READ) && (flags & TG_FS_WRITE))
        f |= O_RDWR;
    else
        f |= flags & TG_FS_WRITE ? O_WRONLY : O_RDONLY;
    if (flags & TG_FS_CREATE) f |= O_CREAT;
    if (flags & TG_FS_EXCL) f |= O_EXCL;
    if (flags & TG_FS_TRUNCATE) f |= O_TRUNC;
    int fd;
    RETRY(fd, open(path, f, 0640));
    if (fd < 0) {
        e = errno;
        if (e == ENXIO && stat(path, &st) == 0 && not_regular(&st)) e = not_regular(&st);
        return -e;
    }
    e = fstat(fd, &st) < 0 ? errno : not_regular(&st);
    /* a file system may have its own mind about reads and writes that must not wait */
    if (!e && fcntl(fd, F_SETFL, f & O_ACCMODE) < 0) e = errno;
    if (e) {
        (void)close(fd);
        return -e;
    }
    return fd;
}

static int real_open(void *self, const char *path, unsigned flags)
{
    (void)self;
    return tg_fs_open_regular(path, flags);
}

static int real_close(void *self, int fd)
{
    (void)self;
    /* Linux closes the descriptor even when it says EINTR */
    return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

static int64_t real_pread(void *self, int fd, void *buf, size_t len, uint64_t off)
{
    (void)self;
    ssize_t n;
    RETRY(n, pread(fd, buf, len, (off_t)off));
    return n < 0 ? -errno : n;
}

static int64_t real_pwrite(void *self, int fd, const void *buf, size_t len, uint64_t off)
{
    (void)self;
    ssize_t n;
    RETRY(n, pwrite(fd, buf, len, (off_t)off));
    return n < 0 ? -errno : n;
}

static int real_sync(void *self, int fd)
{
    (void)self;
    /* not retried on EINTR or EIO: after a failure a second call may lie */
    return fsync(fd) < 0 ? -errno : 0;
}

static int real_datasync(void *self, int fd)
{
    (void)self;
    return fdatasync(fd) < 0 ? -errno : 0;
}

static int real_truncate(void *self, int fd, uint64_t len)
{
    (void)self;
    int r;
    RETRY(r, ftruncate(fd, (off_t)len));
    return r < 0 ? -errno : 0;
}

static void stat_fill(struct tg_fs_stat *out, const struct stat *st)
{
    memset(out, 0, sizeof(*out));
    out->size = (uint64_t)st->st_size;
    out->device = (uint64_t)st->st_dev;
    out->inode = (uint64_t)st->st_ino;
    out->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    out->is_dir = S_ISDIR(st->st_mode);
}

static int real_fstat(void *self, int fd, struct tg_fs_stat *out)
{
    (void)self;
    struct stat st;
    if (fstat(fd, &st) < 0) return -errno;
    stat_fill(out, &st);
    return 0;
}

static int real_stat(void *self, const char *path, struct tg_fs_stat *out)
{
    (void)self;
    struct stat st;
    if (stat(path, &st) < 0) return -errno;
    stat_fill(out, &st);
    return 0;
}

static int real_rename(void *self, const char *from, const char *to)
{
    (void)self;
    return rename(from, to) < 0 ? -errno : 0;
}

static int real_unlink(void *self, const char *path)
{
    (void)self;
    return unlink(path) < 0 ? -errno : 0;
}

static int real_rmdir(void *self, const char *path)
{
    (void)self;
    return rmdir(path) < 0 ? -errno : 0;
}

static int real_mkdir(void *self, const char *path)
{
    (void)self;
    return mkdir(path, 0750) < 0 ? -errno : 0;
}

static int real_sync_dir(void *self, const char *path)
{
    (void)self;
    int fd;
    RETRY(fd, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) return -errno;
    const int r = fsync(fd) < 0 ? -errno : 0;
    (void)close(fd);
    return r;
}

static int real_list(void *self, const char *path, tg_fs_entry_fn fn, void *arg)
{
    (void)self;
    DIR *dir = opendir(path);
    if (!dir) return -errno;
    int result = 0;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e) {
            result = -errno;
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        struct stat st;
        struct tg_fs_stat out;
        if (fstatat(dirfd(dir), e->d_name, &st, 0) == 0) {
            stat_fill(&out, &st);
        } else {
            const int errnum = errno;
            if (errnum == ENOENT && fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
                errno == ENOENT)
                continue; /* removed meanwhile */
            out = (struct tg_fs_stat){.errnum = errnum};
        }
        fn(arg, e->d_name, &out);
    }
    (void)closedir(dir);
    return result;
}

static int real_lock(void *self, const char *path)
{
    (void)self;
    struct stat st;
    int fd;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        RETRY(fd, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (fd < 0) return -errno;
    } else {
        fd = tg_fs_open_regular(path, TG_FS_READ | TG_FS_WRITE | TG_FS_CREATE);
        if (fd < 0) return fd;
    }
    int r;
    RETRY(r, flock(fd, LOCK_EX | LOCK_NB));
    if (r < 0) {
        const int e = errno;
        (void)close(fd);
        return -e;
    }
    return fd;
}

static const struct tg_fs real_fs = {
    .open = real_open,
    .close = real_close,
    .pread = real_pread,
    .pwrite = real_pwrite,
    .sync = real_sync,
    .datasync = real_datasync,
    .truncate = real_truncate,
    .fstat = real_fstat,
    .stat = real_stat,
    .rename = real_rename,
    .unlink = real_unlink,
    .rmdir = real_rmdir,
    .mkdir = real_mkdir,
    .sync_dir = real_sync_dir,
    .list = real_list,
    .lock = real_lock,
};

const struct tg_fs *tg_fs_real(void)
{
    return &real_fs;
}

enum tg_code tg_fs_join(char out[TG_PATH_MAX], const char *dir, const char *name,
                        struct tg_err *err)
{
    const int n = snprintf(out, TG_PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= TG_PATH_MAX)
        return tg_fail(err, TG_ERR_TOO_LARGE, "path longer than %d bytes: %.80s/...",
                       TG_PATH_MAX - 1, dir);
    return TG_OK;
}

enum tg_code tg_fs_write_all(const struct tg_fs *fs, int fd, const void *bytes, size_t len,
                             uint64_t off, const char *path, struct tg_err *err)
{
    const uint8_t *p = bytes;
    while (len) {
        const int64_t n = fs->pwrite(fs->self, fd, p, len, off);
        if (n < 0) return tg_fail_errno(err, (int)-n, "cannot write %s", path);
        if (n == 0) return tg_fail_errno(err, ENOSPC, "cannot write %s", path);
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return TG_OK;
}

enum tg_code tg_fs_read_all(const struct tg_fs *fs, int fd, void *buf, size_t len, uint64_t off,
                            size_t *n_read, const char *path, struct tg_err *err)
{
    uint8_t *p = buf;
    *n_read = 0;
    while (len) {
        const int64_t n = fs->pread(fs->self, fd, p, len, off);
        if (n < 0) return tg_fail_errno(err, (int)-n, "cannot read %s", path);
        if (n == 0) break;
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
        *n_read += (size_t)n;
    }
    return TG_OK;
}

enum tg_code tg_fs_write_file_atomic(const struct tg_fs *fs, const char *dir, const char *name,
                                     const void *bytes, size_t len, struct tg_err *err)
{
    char path[TG_PATH_MAX], tmp_name[300], tmp[TG_PATH_MAX];
    if (snprintf(tmp_name, sizeof(tmp_name), ".%s.tmp", name) >= (int)sizeof(tmp_name))
        return tg_fail(err, TG_ERR_TOO_LARGE, "file name too long: %.80s...", name);
    TG_TRY(tg_fs_join(path, dir, name, err));
    TG_TRY(tg_fs_join(tmp, dir, tmp_name, err));

    int fd = fs->open(fs->self, tmp, TG_FS_WRITE | TG_FS_CREATE | TG_FS_TRUNCATE);
    if (fd < 0) return tg_fail_errno(err, -fd, "cannot create %s", tmp);
    enum tg_code code = tg_fs_write_all(fs, fd, bytes, len, 0, tmp, err);
    if (code == TG_OK) {
        const int r = fs->sync(fs->self, fd);
        if (r < 0) code = tg_fail_errno(err, -r, "cannot fsync %s", tmp);
    }
    const int c = fs->close(fs->self, fd);
    if (c < 0 && code == TG_OK) code = tg_fail_errno(err, -c, "cannot close %s", tmp);
    if (code == TG_OK) {
        const int r = fs->rename(fs->self, tmp, path);
        if (r < 0) code = tg_fail_errno(err, -r, "cannot rename %s to %s", tmp, path);
    }
    if (code != TG_OK) {
        (void)fs->unlink(fs->self, tmp);
        return code;
    }
    const int r = fs->sync_dir(fs->self, dir);
    return r < 0 ? tg_fail_errno(err, -r, "cannot fsync folder %s", dir) : TG_OK;
}

enum tg_code tg_fs_read_file(const struct tg_fs *fs, const char *path, size_t max_bytes,
                             uint8_t **out, size_t *len, struct tg_err *err)
{
    *out = NULL;
    *len = 0;
    const int fd = fs->open(fs->self, path, TG_FS_READ);
    if (fd == -ENOENT) return tg_fail(err, TG_ERR_NOT_FOUND, "%s does not exist", path);
    if (fd < 0) return tg_fail_errno(err, -fd, "cannot open %s", path);
    struct tg_fs_stat st;
    enum tg_code code = TG_OK;
    const int r = fs->fstat(fs->self, fd, &st);
    if (r < 0)
        code = tg_fail_errno(err, -r, "cannot stat %s", path);
    else if (st.size > max_bytes)
        code = tg_fail(err, TG_ERR_TOO_LARGE, "%s has %llu bytes, over the limit of %zu", path,
                       (unsigned long long)st.size, max_bytes);
    uint8_t *buf = NULL;
    if (code == TG_OK) {
        buf = tg_malloc((size_t)st.size + 1);
        code = buf ? tg_fs_read_all(fs, fd, buf, (size_t)st.size, 0, len, path, err)
                   : tg_fail(err, TG_ERR_NOMEM, "no memory to read %s", path);
    }
    (void)fs->close(fs->self, fd);
    if (code != TG_OK) {
        tg_free(buf);
        *len = 0;
        return code;
    }
    buf[*len] = 0;
    *out = buf;
    return TG_OK;
}

enum tg_code tg_fs_mkdirs(const struct tg_fs *fs, const char *path, struct tg_err *err)
{
    char p[TG_PATH_MAX];
    const size_t len = strlen(path);
    if (len == 0 || len >= sizeof(p))
        return tg_fail(err, TG_ERR_INVALID, "bad folder name \"%.80s\"", path);
    memcpy(p, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (p[i] != '/' && p[i] != 0) continue;
        if (p[i - 1] == '/') continue;
        const char keep = p[i];
        p[i] = 0;
        const int r = fs->mkdir(fs->self, p);
        if (r < 0 && r != -EEXIST) {
            struct tg_fs_stat st; /* EROFS and EACCES are no failure when it is there */
            if (fs->stat(fs->self, p, &st) < 0 || !st.is_dir)
                return tg_fail_errno(err, -r, "cannot make folder %s", p);
        } else if (r == -EEXIST) {
            struct tg_fs_stat st;
            const int e = fs->stat(fs->self, p, &st);
            if (e < 0) return tg_fail_errno(err, -e, "cannot look at folder %s", p);
            if (!st.is_dir)
                return tg_fail(err, TG_ERR_IO, "%s is in the way: a folder is needed there", p);
        } else {
            char *slash = strrchr(p, '/');
            int s;
            if (!slash)
                s = fs->sync_dir(fs->self, ".");
            else if (slash == p)
                s = fs->sync_dir(fs->self, "/");
            else {
                *slash = 0;
                s = fs->sync_dir(fs->self, p);
                *slash = '/';
            }
            if (s < 0) return tg_fail_errno(err, -s, "cannot fsync the folder of %s", p);
        }
        p[i] = keep;
    }
    return TG_OK;
}
