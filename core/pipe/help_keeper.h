/* help_keeper.h: keeps descriptions of metrics (core/model/help.h) over a restart, and has them
 * reach the series that were there before them.
 *
 *   sender ─► tg_help ─┬─ tick ─► log.dir/help           at start ─► tg_help
 *                      └─ tick ─► series of the family: plan of no generation, decided again
 *
 * The file is written whole, in the first tick after a change, then at most every SAVE_EVERY_MS,
 * and at a stop. What is lost of it (a crash within that time, a disk that is full, a damaged file)
 * are texts that senders say again: it stops nothing, and is said.
 *
 * What backends prepared of a series holds the text as it was by then; Prometheus says it in
 * requests of its own, after the points. So each change of a family has the plans of its series
 * expire, one tick late: by then those who decided a series without it are done.
 *
 * Threading: one thread.
 */
#ifndef TG_PIPE_HELP_KEEPER_H
#define TG_PIPE_HELP_KEEPER_H

#include "core/base/fs.h"
#include "core/model/table.h"

struct tg_help_keeper {
    struct tg_table *table;
    const struct tg_fs *fs;
    const char *dir;
    uint64_t saved;         /* change that the file has */
    uint64_t next_save_ms;  /* monotonic clock */
    uint64_t seen, settled; /* newest change of a family: at the last tick, in the series' plans */
    bool has_failed;        /* and it was said */
};

/* Takes in what log.dir/help says; that folder is there. `table`, `fs` (NULL = the real one) and
 * `dir` are borrowed. */
void tg_help_keeper_open(struct tg_help_keeper *k, struct tg_table *table, const struct tg_fs *fs,
                         const char *dir);
/* About once a second, not from inside the table's guard. */
void tg_help_keeper_tick(struct tg_help_keeper *k, uint64_t now_ms);
/* Saves what is not saved; zeroed accepted. */
void tg_help_keeper_close(struct tg_help_keeper *k);

#endif
