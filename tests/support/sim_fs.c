#include "tests/support/sim_fs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "tests/support/rng.h"

enum { SECTOR = 512, MAX_HANDLES = 1024 };

struct content {
    uint8_t *data;
    size_t len;
};

struct sim_node { /* a file; folders are nodes too */
    struct sim_node *next;
    bool is_dir;
    unsigned id;
    int n_open;
    struct content seen, disk;
    int64_t mtime_ns;
    int lock_holder; /* handle + 1 */
};

/* One name. `node` is what programs see, `disk` what survives; either may be NULL. */
struct sim_name {
    struct sim_name *next;
    char path[256];
    struct sim_node *node, *disk;
};

struct sim_handle {
    struct sim_node *node;
    bool open, writable;
};

static uint64_t rnd(struct sim_fs *s)
{
    return rng_next(&s->rng);
}

static void *xrealloc(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);
    if (!q) abort();
    return q;
}

static void content_resize(struct content *c, size_t len)
{
    if (len == c->len) return;
    c->data = xrealloc(c->data, len);
    if (len > c->len) memset(c->data + c->len, 0, len - c->len);
    c->len = len;
}

static void content_copy(struct content *to, const struct content *from)
{
    content_resize(to, from->len);
    if (from->len) memcpy(to->data, from->data, from->len);
}

static struct sim_name *find_name(struct sim_fs *s, const char *path)
{
    for (struct sim_name *n = s->names; n; n = n->next)
        if (strcmp(n->path, path) == 0) return n;
    return NULL;
}

static struct sim_node *find(struct sim_fs *s, const char *path)
{
    const struct sim_name *n = find_name(s, path);
    return n ? n->node : NULL;
}

static struct sim_name *get_name(struct sim_fs *s, const char *path)
{
    struct sim_name *n = find_name(s, path);
    if (n) return n;
    n = calloc(1, sizeof(*n));
    if (!n) abort();
    (void)snprintf(n->path, sizeof(n->path), "%s", path);
    n->next = s->names;
    s->names = n;
    return n;
}

static struct sim_node *node_new(struct sim_fs *s, bool is_dir)
{
    static unsigned ids;
    struct sim_node *n = calloc(1, sizeof(*n));
    if (!n) abort();
    n->is_dir = is_dir;
    n->id = ++ids;
    n->mtime_ns = tg_clock_wall_ns();
    n->next = s->nodes;
    s->nodes = n;
    return n;
}

static bool is_in(const char *path, const char *dir)
{
    const size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

static bool parent_is_dir(struct sim_fs *s, const char *path)
{
    char dir[256];
    (void)snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash || slash == dir) return true;
    *slash = 0;
    const struct sim_node *n = find(s, dir);
    return n && n->is_dir;
}

/* Counts an operation; false: the power is gone. */
static bool op(struct sim_fs *s)
{
    s->n_ops++;
    return !s->stop_at || s->n_ops < s->stop_at;
}
static bool is_off(const struct sim_fs *s)
{
    return s->stop_at && s->n_ops >= s->stop_at;
}

#define ENTER(self)            \
    struct sim_fs *s = (self); \
    pthread_mutex_lock(&s->mu)
#define LEAVE(value)                    \
    do {                                \
        const __auto_type v_ = (value); \
        pthread_mutex_unlock(&s->mu);   \
        return v_;                      \
    } while (0)

static int handle_new(struct sim_fs *s, struct sim_node *node, bool writable)
{
    for (int i = 0; i < MAX_HANDLES; i++) {
        if (s->handles[i].open) continue;
        s->handles[i] = (struct sim_handle){.node = node, .open = true, .writable = writable};
        node->n_open++;
        return i;
    }
    return -EMFILE;
}

static struct sim_handle *handle(struct sim_fs *s, int fd)
{
    return fd >= 0 && fd < MAX_HANDLES && s->handles[fd].open ? &s->handles[fd] : NULL;
}

static int sim_open(void *self, const char *path, unsigned flags)
{
    ENTER(self);
    if (is_off(s)) LEAVE(-EIO);
    struct sim_node *n = find(s, path);
    if (n && (flags & TG_FS_EXCL)) LEAVE(-EEXIST);
    if (n && n->is_dir) LEAVE(-EISDIR);
    if (!n) {
        if (!(flags & TG_FS_CREATE)) LEAVE(-ENOENT);
        if (!parent_is_dir(s, path)) LEAVE(-ENOENT);
        if (!op(s)) LEAVE(-EIO);
        n = node_new(s, false);
        get_name(s, path)->node = n;
    } else if (flags & TG_FS_TRUNCATE) {
        if (!op(s)) LEAVE(-EIO);
        content_resize(&n->seen, 0);
    }
    LEAVE(handle_new(s, n, flags & TG_FS_WRITE));
}

static int sim_close(void *self, int fd)
{
    ENTER(self);
    struct sim_handle *h = handle(s, fd);
    if (!h) LEAVE(-EBADF);
    if (h->node->lock_holder == fd + 1) h->node->lock_holder = 0;
    h->node->n_open--;
    h->open = false;
    LEAVE(0);
}

static int64_t sim_pread(void *self, int fd, void *buf, size_t len, uint64_t off)
{
    ENTER(self);
    const struct sim_handle *h = handle(s, fd);
    if (!h) LEAVE((int64_t)-EBADF);
    if (is_off(s) || s->eio_reads) LEAVE((int64_t)-EIO);
    const struct content *c = &h->node->seen;
    if (off >= c->len) LEAVE((int64_t)0);
    if (len > c->len - off) len = (size_t)(c->len - off);
    memcpy(buf, c->data + off, len);
    LEAVE((int64_t)len);
}

static uint64_t used(struct sim_fs *s)
{
    uint64_t sum = 0;
    for (const struct sim_name *n = s->names; n; n = n->next)
        if (n->node) sum += n->node->seen.len;
    return sum;
}

static int64_t sim_pwrite(void *self, int fd, const void *buf, size_t len, uint64_t off)
{
    ENTER(self);
    struct sim_handle *h = handle(s, fd);
    if (!h || !h->writable) LEAVE((int64_t)-EBADF);
    if (!op(s)) LEAVE((int64_t)-EIO);
    s->n_writes++;
    struct content *c = &h->node->seen;
    if (s->full_at) {
        if (s->n_ops == s->full_at)
            len /= 2;
        else if (s->n_ops > s->full_at && s->n_ops <= s->full_until)
            LEAVE((int64_t)-ENOSPC);
        if (len == 0) LEAVE((int64_t)-ENOSPC);
    }
    if (s->max_file && off + len > s->max_file) {
        if (off >= s->max_file) LEAVE((int64_t)-EFBIG);
        len = (size_t)(s->max_file - off);
    }
    if (s->capacity && off + len > c->len) {
        const uint64_t room = s->capacity > used(s) ? s->capacity - used(s) : 0;
        const uint64_t grow = off + len - c->len;
        if (grow > room) {
            if (room == 0 || grow - room >= len) LEAVE((int64_t)-ENOSPC);
            len -= (size_t)(grow - room);
        }
    }
    if (off + len > c->len) content_resize(c, (size_t)off + len);
    memcpy(c->data + off, buf, len);
    h->node->mtime_ns = tg_clock_wall_ns();
    LEAVE((int64_t)len);
}

static int sync_node(struct sim_fs *s, struct sim_node *n)
{
    s->n_syncs++;
    if (s->eio_sync_at && s->n_syncs == s->eio_sync_at) {
        /* the dirty pages are marked clean: what was to be written is gone, the length stays */
        const size_t len = n->seen.len;
        if (s->eio_keeps_pages) return -EIO;
        content_copy(&n->seen, &n->disk);
        content_resize(&n->seen, len);
        return -EIO;
    }
    content_copy(&n->disk, &n->seen);
    return 0;
}

static int sim_sync(void *self, int fd)
{
    ENTER(self);
    struct sim_handle *h = handle(s, fd);
    if (!h) LEAVE(-EBADF);
    if (!op(s)) LEAVE(-EIO);
    LEAVE(sync_node(s, h->node));
}

static int sim_truncate(void *self, int fd, uint64_t len)
{
    ENTER(self);
    struct sim_handle *h = handle(s, fd);
    if (!h || !h->writable) LEAVE(-EBADF);
    if (!op(s) || s->no_truncate) LEAVE(-EIO);
    content_resize(&h->node->seen, (size_t)len);
    LEAVE(0);
}

static void fill_stat(const struct sim_node *n, struct tg_fs_stat *st)
{
    *st = (struct tg_fs_stat){.size = n->seen.len,
                              .mtime_ns = n->mtime_ns,
                              .device = 1,
                              .inode = n->id,
                              .is_dir = n->is_dir};
}

static int sim_fstat(void *self, int fd, struct tg_fs_stat *st)
{
    ENTER(self);
    const struct sim_handle *h = handle(s, fd);
    if (!h) LEAVE(-EBADF);
    fill_stat(h->node, st);
    LEAVE(0);
}

static int sim_stat(void *self, const char *path, struct tg_fs_stat *st)
{
    ENTER(self);
    const struct sim_node *n = find(s, path);
    if (is_off(s)) LEAVE(-EIO);
    if (!n) LEAVE(-ENOENT);
    fill_stat(n, st);
    LEAVE(0);
}

static int sim_rename(void *self, const char *from, const char *to)
{
    ENTER(self);
    if (!op(s)) LEAVE(-EIO);
    struct sim_name *f = find_name(s, from);
    if (!f || !f->node || !parent_is_dir(s, to)) LEAVE(-ENOENT);
    struct sim_name *t = get_name(s, to);
    t->node = f->node;
    f->node = NULL;
    LEAVE(0);
}

static int sim_unlink(void *self, const char *path)
{
    ENTER(self);
    if (!op(s)) LEAVE(-EIO);
    struct sim_name *n = find_name(s, path);
    if (!n || !n->node) LEAVE(-ENOENT);
    n->node = NULL;
    LEAVE(0);
}

static int sim_rmdir(void *self, const char *path)
{
    const size_t len = strlen(path);
    ENTER(self);
    for (const struct sim_name *n = s->names; n; n = n->next)
        if (n->node && strncmp(n->path, path, len) == 0 && n->path[len] == '/') LEAVE(-ENOTEMPTY);
    if (!op(s)) LEAVE(-EIO);
    struct sim_name *n = find_name(s, path);
    if (!n || !n->node) LEAVE(-ENOENT);
    if (!n->node->is_dir) LEAVE(-ENOTDIR);
    n->node = NULL;
    LEAVE(0);
}

static int sim_mkdir(void *self, const char *path)
{
    ENTER(self);
    if (find(s, path)) LEAVE(-EEXIST);
    if (!parent_is_dir(s, path)) LEAVE(-ENOENT);
    if (!op(s)) LEAVE(-EIO);
    get_name(s, path)->node = node_new(s, true);
    LEAVE(0);
}

static int sim_sync_dir(void *self, const char *path)
{
    ENTER(self);
    if (!op(s)) LEAVE(-EIO);
    if (strcmp(path, "/") != 0 && strcmp(path, ".") != 0) {
        const struct sim_node *d = find(s, path);
        if (!d || !d->is_dir) LEAVE(-ENOENT);
    }
    for (struct sim_name *n = s->names; n; n = n->next)
        if (is_in(n->path, strcmp(path, "/") == 0 ? "" : path)) n->disk = n->node;
    LEAVE(0);
}

static int sim_list(void *self, const char *path, tg_fs_entry_fn fn, void *arg)
{
    ENTER(self);
    if (is_off(s)) LEAVE(-EIO);
    const struct sim_node *d = find(s, path);
    if (!d || !d->is_dir) LEAVE(-ENOENT);
    /* names first, calls after: the callback may come back in */
    struct {
        char name[256];
        struct tg_fs_stat st;
    } *list = NULL;
    size_t n_list = 0;
    for (struct sim_name *n = s->names; n; n = n->next) {
        if (!n->node || !is_in(n->path, path)) continue;
        list = xrealloc(list, (n_list + 1) * sizeof(*list));
        (void)snprintf(list[n_list].name, sizeof(list[n_list].name), "%s",
                       n->path + strlen(path) + 1);
        fill_stat(n->node, &list[n_list++].st);
    }
    pthread_mutex_unlock(&s->mu);
    for (size_t i = 0; i < n_list; i++) fn(arg, list[i].name, &list[i].st);
    free(list);
    return 0;
}

static int open_folder(void *self, const char *path)
{
    ENTER(self);
    struct sim_node *n = find(s, path);
    LEAVE(is_off(s) ? -EIO : n && n->is_dir ? handle_new(s, n, false) : -ENOTDIR);
}

static int sim_lock(void *self, const char *path)
{
    int fd = open_folder(self, path);
    if (fd == -ENOTDIR) fd = sim_open(self, path, TG_FS_READ | TG_FS_WRITE | TG_FS_CREATE);
    if (fd < 0) return fd;
    ENTER(self);
    struct sim_node *n = s->handles[fd].node;
    if (n->lock_holder) {
        n->n_open--;
        s->handles[fd].open = false;
        LEAVE(-EWOULDBLOCK);
    }
    n->lock_holder = fd + 1;
    LEAVE(fd);
}

static void set_ops(struct sim_fs *s)
{
    s->fs = (struct tg_fs){.self = s,
                           .open = sim_open,
                           .close = sim_close,
                           .pread = sim_pread,
                           .pwrite = sim_pwrite,
                           .sync = sim_sync,
                           .datasync = sim_sync,
                           .truncate = sim_truncate,
                           .fstat = sim_fstat,
                           .stat = sim_stat,
                           .rename = sim_rename,
                           .unlink = sim_unlink,
                           .rmdir = sim_rmdir,
                           .mkdir = sim_mkdir,
                           .sync_dir = sim_sync_dir,
                           .list = sim_list,
                           .lock = sim_lock};
}

struct sim_fs *sim_fs_new(uint64_t seed)
{
    struct sim_fs *s = calloc(1, sizeof(*s));
    if (!s) abort();
    s->handles = calloc(MAX_HANDLES, sizeof(*s->handles));
    if (!s->handles) abort();
    s->rng = rng_seed(seed);
    (void)pthread_mutex_init(&s->mu, NULL);
    set_ops(s);
    return s;
}

void sim_fs_free(struct sim_fs *s)
{
    if (!s) return;
    while (s->names) {
        struct sim_name *n = s->names;
        s->names = n->next;
        free(n);
    }
    while (s->nodes) {
        struct sim_node *n = s->nodes;
        s->nodes = n->next;
        free(n->seen.data);
        free(n->disk.data);
        free(n);
    }
    free(s->handles);
    (void)pthread_mutex_destroy(&s->mu);
    free(s);
}

/* What is on disk of one file after the loss. */
static void settle_node(struct sim_fs *s, struct sim_node *n, enum sim_loss loss)
{
    if (loss == SIM_KEEP_ALL) {
        content_copy(&n->disk, &n->seen);
        return;
    }
    if (loss == SIM_KEEP_SOME) {
        /* the length first: one of the two, or between them at a sector */
        const size_t a = n->disk.len, b = n->seen.len;
        size_t len = rnd(s) & 1 ? a : b;
        if (a != b && rnd(s) % 3 == 0) {
            const size_t lo = a < b ? a : b, hi = a < b ? b : a;
            len = (lo + rnd(s) % (hi - lo + 1));
        }
        content_resize(&n->disk, len);
        const size_t common = len < b ? len : b;
        for (size_t at = 0; at < common; at += SECTOR) {
            const size_t part = common - at < SECTOR ? common - at : SECTOR;
            if (rnd(s) & 1) memcpy(n->disk.data + at, n->seen.data + at, part);
        }
    }
    content_copy(&n->seen, &n->disk);
}

void sim_fs_power_loss(struct sim_fs *s, enum sim_loss loss)
{
    pthread_mutex_lock(&s->mu);
    memset(s->handles, 0, MAX_HANDLES * sizeof(*s->handles));
    for (struct sim_name *n = s->names; n; n = n->next) {
        /* one coin per node, so that a rename is whole: both names or none */
        if (loss == SIM_KEEP_ALL) {
            n->disk = n->node;
        } else if (loss == SIM_KEEP_SOME && n->disk != n->node) {
            const struct sim_node *about = n->node ? n->node : n->disk;
            const uint64_t coin = (about->id * UINT64_C(0x9E3779B97F4A7C15) ^ s->rng) >> 17;
            if (coin & 1) n->disk = n->node;
        }
        n->node = n->disk;
    }
    for (struct sim_node *n = s->nodes; n; n = n->next) {
        n->n_open = 0;
        n->lock_holder = 0;
        settle_node(s, n, loss);
    }
    (void)rnd(s);
    s->stop_at = s->eio_sync_at = s->full_at = s->full_until = s->capacity = 0;
    s->n_ops = s->n_syncs = s->n_writes = 0;
    pthread_mutex_unlock(&s->mu);
}

struct sim_fs *sim_fs_clone(const struct sim_fs *from)
{
    struct sim_fs *s = sim_fs_new(1);
    s->rng = from->rng;
    struct {
        const struct sim_node *old;
        struct sim_node *copy;
    } map[1024];
    size_t n_map = 0;
    for (const struct sim_node *n = from->nodes; n; n = n->next) {
        if (n_map == 1024) abort();
        struct sim_node *c = node_new(s, n->is_dir);
        content_copy(&c->seen, &n->seen);
        content_copy(&c->disk, &n->disk);
        c->mtime_ns = n->mtime_ns;
        map[n_map].old = n;
        map[n_map++].copy = c;
    }
    for (const struct sim_name *n = from->names; n; n = n->next) {
        struct sim_name *c = get_name(s, n->path);
        for (size_t i = 0; i < n_map; i++) {
            if (map[i].old == n->node) c->node = map[i].copy;
            if (map[i].old == n->disk) c->disk = map[i].copy;
        }
    }
    return s;
}

uint8_t *sim_fs_bytes(struct sim_fs *s, const char *path, size_t *len)
{
    struct sim_node *n = find(s, path);
    *len = n ? n->seen.len : 0;
    return n ? n->seen.data : NULL;
}

void sim_fs_settle(struct sim_fs *s, const char *path)
{
    struct sim_node *n = find(s, path);
    if (n) content_copy(&n->disk, &n->seen);
}

bool sim_fs_remove(struct sim_fs *s, const char *path)
{
    struct sim_name *n = find_name(s, path);
    if (!n || !n->node) return false;
    n->node = n->disk = NULL;
    return true;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool sim_fs_nth(struct sim_fs *s, const char *suffix, unsigned n, char out[256])
{
    const char *list[1024];
    size_t count = 0;
    for (const struct sim_name *x = s->names; x; x = x->next) {
        const size_t a = strlen(x->path), b = strlen(suffix);
        if (x->node && a >= b && strcmp(x->path + a - b, suffix) == 0 && count < 1024)
            list[count++] = x->path;
    }
    if (n >= count) return false;
    qsort(list, count, sizeof(*list), by_path);
    (void)snprintf(out, 256, "%s", list[n]);
    return true;
}

bool sim_fs_put(struct sim_fs *s, const char *path, const void *bytes, size_t len)
{
    if (!parent_is_dir(s, path)) return false;
    struct sim_name *n = get_name(s, path);
    n->node = n->disk = node_new(s, false);
    content_resize(&n->node->seen, len);
    if (len) memcpy(n->node->seen.data, bytes, len);
    content_copy(&n->node->disk, &n->node->seen);
    return true;
}

uint64_t sim_fs_used(struct sim_fs *s)
{
    pthread_mutex_lock(&s->mu);
    const uint64_t n = used(s);
    pthread_mutex_unlock(&s->mu);
    return n;
}
