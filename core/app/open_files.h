/* open_files.h: how many files may be open at once, and how many of them are left for senders.
 *
 * A connection is an open file to the kernel, and so are segments, deliveries and the admin port:
 * senders get no more of them than the others leave, or a burst of connections would stop all that.
 */
#ifndef TG_APP_OPEN_FILES_H
#define TG_APP_OPEN_FILES_H

#include <stdint.h>

#include "core/pipe/config.h"

/* How many connections of senders fit when `n_files` may be open (RLIMIT_NOFILE): at most
 * limits.max_connections, below that a multiple of the workers, at least one for each.
 * *reserve: what is kept for all others. */
uint32_t tg_open_files_connections(const struct tg_config *config, uint64_t n_files,
                                   uint64_t *reserve);
/* Raises the limit on open files to what the configuration wants, as far as that is allowed, and
 * lowers limits.max_connections to what fits; says so. Before the gateway starts. */
void tg_open_files_fit(struct tg_config *config);

#endif
