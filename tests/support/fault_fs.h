/* fault_fs.h: a file system in front of another one, some operations of which fail on command.
 *
 * One fault at a time: which operations, on paths that contain which text, with which error, how
 * often. Reads and writes are known by the path that their handle was opened with.
 *
 * Threading: any; one lock. Paths up to 255 bytes, handles below 1024.
 */
#ifndef TG_TESTS_FAULT_FS_H
#define TG_TESTS_FAULT_FS_H

#include <pthread.h>

#include "core/base/fs.h"

enum {
    FAULT_OPEN = 1, /* also of a lock */
    FAULT_READ = 2,
    FAULT_STAT = 4,
    FAULT_FSTAT = 8,
    FAULT_LIST = 16,     /* opendir: of the folder */
    FAULT_LIST_MID = 32, /* readdir: after half of the entries */
    FAULT_ENTRY = 64,    /* the entry is listed, but cannot be looked at */
    FAULT_WRITE = 128,
    FAULT_RENAME = 256
};

struct fault_fs {
    struct tg_fs fs; /* hand out &f->fs */
    const struct tg_fs *under;
    pthread_mutex_t mu;
    unsigned ops; /* FAULT_*; 0: none */
    const char *in_path;
    int errnum;
    unsigned skip;              /* that many go well first; 0 when a fault is set */
    unsigned left;              /* so many more times; UINT_MAX: until it is repaired */
    unsigned hits;              /* since it was set */
    void (*on_sync)(void *arg); /* called once, before the next sync of a file; or NULL */
    void *on_sync_arg;
    char paths[1024][256];
};

struct fault_fs *fault_fs_new(const struct tg_fs *under);
void fault_fs_free(struct fault_fs *f);
void fault_fs_set(struct fault_fs *f, unsigned ops, const char *in_path, int errnum,
                  unsigned times);
/* All is well again. Gives how often the fault was met. */
unsigned fault_fs_repair(struct fault_fs *f);

#endif
