#include "core/base/folder_lock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The process whose lock on the file the kernel lists; 0 when it does not tell (another machine, or
 * a container's processes seen from another one). */
static long holder_pid(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0) return 0;
    FILE *f = fopen("/proc/locks", "re");
    if (!f) return 0;
    char line[256];
    long found = 0;
    while (!found && fgets(line, sizeof(line), f)) {
        long pid;
        unsigned long major_no, minor_no, inode;
        /* 1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF */
        if (sscanf(line, "%*d: FLOCK %*s %*s %ld %lx:%lx:%lu", &pid, &major_no, &minor_no,
                   &inode) == 4 &&
            inode == st.st_ino && major_no == major(st.st_dev) && minor_no == minor(st.st_dev))
            found = pid;
    }
    (void)fclose(f);
    return found;
}

static void describe_holder(const char *path, char *out, size_t cap)
{
    char name[64] = "", proc[64];
    const long pid = holder_pid(path);
    if (pid <= 0) {
        (void)snprintf(out, cap, "another process");
        return;
    }
    if (pid == (long)getpid()) {
        (void)snprintf(out, cap, "this process already");
        return;
    }
    (void)snprintf(proc, sizeof(proc), "/proc/%ld/comm", pid);
    FILE *f = fopen(proc, "re");
    if (f) {
        if (fgets(name, sizeof(name), f)) name[strcspn(name, "\n")] = 0;
        (void)fclose(f);
    }
    (void)snprintf(out, cap, "process %ld%s%s%s", pid, name[0] ? " (" : "", name,
                   name[0] ? ")" : "");
}

static enum tg_code lock_one(const struct tg_fs *fs, const char *path, const char *dir,
                             const char *advice, int *fd, struct tg_err *err)
{
    *fd = fs->lock(fs->self, path);
    if (*fd >= 0) return TG_OK;
    if (*fd != -EWOULDBLOCK) return tg_fail_errno(err, -*fd, "cannot lock %s", path);
    char who[128];
    describe_holder(path, who, sizeof(who));
    return tg_fail(err, TG_ERR_UNAVAILABLE, "%s is in use by %s: %s", dir, who, advice);
}

enum tg_code tg_folder_lock_take(struct tg_folder_lock *l, const struct tg_fs *fs, const char *dir,
                                 const char *file, const char *advice, struct tg_err *err)
{
    char path[TG_PATH_MAX];
    *l = (struct tg_folder_lock){.fs = fs, .folder_fd = -1, .file_fd = -1};
    enum tg_code code = lock_one(fs, dir, dir, advice, &l->folder_fd, err);
    if (code == TG_OK && file) {
        code = tg_fs_join(path, dir, file, err);
        if (code == TG_OK) code = lock_one(fs, path, dir, advice, &l->file_fd, err);
    }
    if (code != TG_OK) tg_folder_lock_release(l);
    return code;
}

void tg_folder_lock_release(struct tg_folder_lock *l)
{
    if (!l->fs) return;
    if (l->file_fd >= 0) (void)l->fs->close(l->fs->self, l->file_fd);
    if (l->folder_fd >= 0) (void)l->fs->close(l->fs->self, l->folder_fd);
    *l = (struct tg_folder_lock){.folder_fd = -1, .file_fd = -1};
}

enum tg_code tg_folder_lock_check(const struct tg_folder_lock *l, const char *dir,
                                  struct tg_err *err)
{
    struct tg_fs_stat held = {0}, named = {0};
    if (!l->fs) return tg_fail(err, TG_ERR_IO, "the folder %s is not locked", dir);
    int r = l->fs->fstat(l->fs->self, l->folder_fd, &held);
    if (r == 0) r = l->fs->stat(l->fs->self, dir, &named);
    if (r < 0 && r != -ENOENT) return tg_fail_errno(err, -r, "cannot look at the folder %s", dir);
    if (r < 0 || held.device != named.device || held.inode != named.inode)
        return tg_fail(
            err, TG_ERR_IO,
            "the folder %s was %s while the gateway runs: put the former one back, or restart the "
            "gateway",
            dir, r < 0 ? "removed" : "replaced");
    return TG_OK;
}
