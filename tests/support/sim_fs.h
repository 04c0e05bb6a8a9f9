/* sim_fs.h: a file system in memory that knows what is durable, with faults on command.
 *
 * Every file has contents as programs see them and contents as the disk has them; so has every name
 * in a folder. fsync/fdatasync of a file makes its contents and length durable, fsync of a folder
 * makes the names in it durable. `sim_fs_power_loss` throws the rest away, wholly or in part:
 * unsynced sectors (512 bytes) and names survive or not by coin flip, as a real disk may have it.
 *
 * Operations that change something or sync are numbered from 1. Faults are set by that number:
 *   stop_at     from that operation on every one fails with EIO and does nothing: the power is gone
 *   eio_sync_at the n-th sync of a file fails, and its dirty pages are dropped (as Linux does)
 *   full_at     that write stores half of its bytes; then writes get ENOSPC until `full_until`
 *   capacity    bytes in all files; over it ENOSPC
 *   max_file    bytes in one file; over it EFBIG (RLIMIT_FSIZE)
 *
 * Threading: any; one lock.
 */
#ifndef TG_TESTS_SIM_FS_H
#define TG_TESTS_SIM_FS_H

#include <pthread.h>

#include "core/base/fs.h"

struct sim_fs {
    struct tg_fs fs; /* hand out &sim->fs */
    pthread_mutex_t mu;
    struct sim_node *nodes;
    struct sim_name *names;
    struct sim_handle *handles;
    int n_handles;
    uint64_t n_ops, n_syncs, n_writes;
    uint64_t stop_at, eio_sync_at, full_at, full_until, capacity, max_file;
    uint64_t rng;
    bool eio_reads;       /* every pread fails */
    bool eio_keeps_pages; /* a failed sync leaves the pages in the cache, never to be written */
    bool no_truncate;     /* truncate fails with EIO */
};

struct sim_fs *sim_fs_new(uint64_t seed);
void sim_fs_free(struct sim_fs *s);

enum sim_loss { SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_ALL };
/* The machine is off and on again: handles are gone, faults are cleared. */
void sim_fs_power_loss(struct sim_fs *s, enum sim_loss loss);

/* A deep copy (state, not handles or faults), to go on from one point in several ways. */
struct sim_fs *sim_fs_clone(const struct sim_fs *s);

/* The contents of a file, to damage them in place (both what is seen and what is durable); NULL
 * when missing. */
uint8_t *sim_fs_bytes(struct sim_fs *s, const char *path, size_t *len);
/* Makes the seen contents of the file durable after they were changed through sim_fs_bytes. */
void sim_fs_settle(struct sim_fs *s, const char *path);
bool sim_fs_remove(struct sim_fs *s, const char *path);
/* The n-th file (by name) whose path ends in `suffix` into out; false: there are fewer. */
bool sim_fs_nth(struct sim_fs *s, const char *suffix, unsigned n, char out[256]);
bool sim_fs_put(struct sim_fs *s, const char *path, const void *bytes, size_t len);
uint64_t sim_fs_used(struct sim_fs *s);

#endif
