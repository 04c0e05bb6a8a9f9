/* source.h: the texts of the scripts, read on a thread that can be left behind.
 *
 * Opening or reading a file can wait for ever (a mount whose server hangs), and no flag helps
 * against that. So a thread reads that shares nothing with anyone but the record of this reading:
 * whoever waits for it gives up after a while and goes on without it; the record goes with the last
 * of the two. While one thread hangs no other is started.
 *
 * Threading: tg_sources_read by one thread at a time.
 */
#ifndef TG_RULES_SOURCE_H
#define TG_RULES_SOURCE_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/base/fs.h"
#include "core/rules/vm.h"

struct tg_reading;

struct tg_sources {
    const struct tg_fs *fs;           /* borrows: for the life of the process */
    const char *const *paths;         /* TG_RULES of them, borrows; NULL = no such rule */
    const _Atomic uint64_t *until_ns; /* borrows: monotonic; then reading is given up */
    uint32_t max_ms;                  /* ... and after so long */
    struct tg_reading *left_behind;   /* owned: it may read still; NULL = none */
};

/* Fills text and len of `texts` (returns owned; nothing on failure). TG_ERR_INVALID when a file is
 * not there, no regular file, too large or unreadable, TG_ERR_TIMEOUT, TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_sources_read(struct tg_sources *s,
                                           struct tg_rule_text texts[TG_RULES], struct tg_err *err);
void tg_sources_deinit(struct tg_sources *s); /* does not wait */

#endif
