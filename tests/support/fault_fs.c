#include "tests/support/fault_fs.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HANDLES = 1024 };

/* The error that this operation gets; 0: none. */
static int fault(struct fault_fs *f, unsigned op, const char *path)
{
    int errnum = 0;
    pthread_mutex_lock(&f->mu);
    const bool meant = (f->ops & op) && f->left && strstr(path, f->in_path);
    if (meant && f->skip) {
        f->skip--;
    } else if (meant) {
        if (f->left != UINT_MAX) f->left--;
        f->hits++;
        errnum = f->errnum;
    }
    pthread_mutex_unlock(&f->mu);
    return errnum;
}

static int fault_fd(struct fault_fs *f, unsigned op, int fd)
{
    char path[256];
    if (fd < 0 || fd >= MAX_HANDLES) return 0;
    pthread_mutex_lock(&f->mu);
    memcpy(path, f->paths[fd], sizeof(path));
    pthread_mutex_unlock(&f->mu);
    return fault(f, op, path);
}

static int opened(struct fault_fs *f, int fd, const char *path)
{
    if (fd >= MAX_HANDLES) abort();
    if (fd >= 0) {
        pthread_mutex_lock(&f->mu);
        (void)snprintf(f->paths[fd], sizeof(f->paths[fd]), "%s", path);
        pthread_mutex_unlock(&f->mu);
    }
    return fd;
}

static int f_open(void *self, const char *path, unsigned flags)
{
    struct fault_fs *f = self;
    const int e = fault(f, FAULT_OPEN, path);
    return e ? -e : opened(f, f->under->open(f->under->self, path, flags), path);
}
static int f_lock(void *self, const char *path)
{
    struct fault_fs *f = self;
    const int e = fault(f, FAULT_OPEN, path);
    return e ? -e : opened(f, f->under->lock(f->under->self, path), path);
}
static int f_close(void *self, int fd)
{
    struct fault_fs *f = self;
    return f->under->close(f->under->self, fd);
}
static int64_t f_pread(void *self, int fd, void *buf, size_t len, uint64_t off)
{
    struct fault_fs *f = self;
    const int e = fault_fd(f, FAULT_READ, fd);
    return e ? -e : f->under->pread(f->under->self, fd, buf, len, off);
}
static int64_t f_pwrite(void *self, int fd, const void *buf, size_t len, uint64_t off)
{
    struct fault_fs *f = self;
    const int e = fault_fd(f, FAULT_WRITE, fd);
    return e ? -e : f->under->pwrite(f->under->self, fd, buf, len, off);
}
static void call_on_sync(struct fault_fs *f)
{
    pthread_mutex_lock(&f->mu);
    void (*const fn)(void *) = f->on_sync;
    void *const arg = f->on_sync_arg;
    f->on_sync = NULL;
    pthread_mutex_unlock(&f->mu);
    if (fn) fn(arg);
}
static int f_sync(void *self, int fd)
{
    struct fault_fs *f = self;
    call_on_sync(f);
    return f->under->sync(f->under->self, fd);
}
static int f_datasync(void *self, int fd)
{
    struct fault_fs *f = self;
    call_on_sync(f);
    return f->under->datasync(f->under->self, fd);
}
static int f_truncate(void *self, int fd, uint64_t len)
{
    struct fault_fs *f = self;
    return f->under->truncate(f->under->self, fd, len);
}
static int f_fstat(void *self, int fd, struct tg_fs_stat *st)
{
    struct fault_fs *f = self;
    const int e = fault_fd(f, FAULT_FSTAT, fd);
    return e ? -e : f->under->fstat(f->under->self, fd, st);
}
static int f_stat(void *self, const char *path, struct tg_fs_stat *st)
{
    struct fault_fs *f = self;
    const int e = fault(f, FAULT_STAT, path);
    return e ? -e : f->under->stat(f->under->self, path, st);
}
static int f_rename(void *self, const char *from, const char *to)
{
    struct fault_fs *f = self;
    const int e = fault(f, FAULT_RENAME, from);
    return e ? -e : f->under->rename(f->under->self, from, to);
}
static int f_unlink(void *self, const char *path)
{
    struct fault_fs *f = self;
    return f->under->unlink(f->under->self, path);
}
static int f_rmdir(void *self, const char *path)
{
    struct fault_fs *f = self;
    return f->under->rmdir(f->under->self, path);
}
static int f_mkdir(void *self, const char *path)
{
    struct fault_fs *f = self;
    return f->under->mkdir(f->under->self, path);
}
static int f_sync_dir(void *self, const char *path)
{
    struct fault_fs *f = self;
    return f->under->sync_dir(f->under->self, path);
}

struct passing {
    struct fault_fs *f;
    const char *dir;
    tg_fs_entry_fn fn;
    void *arg;
    unsigned left; /* entries to be given */
};
static void count_entry(void *arg, const char *name, const struct tg_fs_stat *st)
{
    (void)name;
    (void)st;
    ++*(unsigned *)arg;
}
static void pass_entry(void *arg, const char *name, const struct tg_fs_stat *st)
{
    struct passing *p = arg;
    char path[512];
    if (p->left == 0) return;
    p->left--;
    (void)snprintf(path, sizeof(path), "%s/%s", p->dir, name);
    const struct tg_fs_stat unknown = {.errnum = fault(p->f, FAULT_ENTRY, path)};
    p->fn(p->arg, name, unknown.errnum ? &unknown : st);
}
static int f_list(void *self, const char *path, tg_fs_entry_fn fn, void *arg)
{
    struct fault_fs *f = self;
    struct passing p = {f, path, fn, arg, UINT_MAX};
    int e = fault(f, FAULT_LIST, path);
    if (e) return -e;
    e = fault(f, FAULT_LIST_MID, path);
    if (e) {
        p.left = 0;
        (void)f->under->list(f->under->self, path, count_entry, &p.left);
        p.left /= 2;
    }
    const int r = f->under->list(f->under->self, path, pass_entry, &p);
    return e ? -e : r;
}

struct fault_fs *fault_fs_new(const struct tg_fs *under)
{
    struct fault_fs *f = calloc(1, sizeof(*f));
    if (!f) abort();
    f->under = under;
    (void)pthread_mutex_init(&f->mu, NULL);
    f->fs = (struct tg_fs){.self = f,
                           .open = f_open,
                           .close = f_close,
                           .pread = f_pread,
                           .pwrite = f_pwrite,
                           .sync = f_sync,
                           .datasync = f_datasync,
                           .truncate = f_truncate,
                           .fstat = f_fstat,
                           .stat = f_stat,
                           .rename = f_rename,
                           .unlink = f_unlink,
                           .rmdir = f_rmdir,
                           .mkdir = f_mkdir,
                           .sync_dir = f_sync_dir,
                           .list = f_list,
                           .lock = f_lock};
    return f;
}

void fault_fs_free(struct fault_fs *f)
{
    if (!f) return;
    (void)pthread_mutex_destroy(&f->mu);
    free(f);
}

void fault_fs_set(struct fault_fs *f, unsigned ops, const char *in_path, int errnum, unsigned times)
{
    pthread_mutex_lock(&f->mu);
    f->ops = ops;
    f->in_path = in_path;
    f->errnum = errnum;
    f->left = times;
    f->skip = 0;
    f->hits = 0;
    pthread_mutex_unlock(&f->mu);
}

unsigned fault_fs_repair(struct fault_fs *f)
{
    pthread_mutex_lock(&f->mu);
    f->ops = 0;
    const unsigned hits = f->hits;
    pthread_mutex_unlock(&f->mu);
    return hits;
}
