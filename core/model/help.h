/* help.h: what metrics are for, in their senders' words: metric name -> description.
 *
 * A description does not make a series (it changes with a sentence of documentation), so it is kept
 * beside the table and handed on with a series' desc. It is not in the log: after a restart a
 * metric has none until a sender tells it again.
 *
 *   slots by hash of the name:   [hash, len, text] [free] ...     half full at most
 *
 * Limits: TG_HELP_MAX metrics, TG_HELP_MAX_BYTES of a text (longer ones are cut at a character).
 * What is over the first is left out, and said once.
 *
 * Threading: all functions from any thread; one lock, cold path.
 */
#ifndef TG_MODEL_HELP_H
#define TG_MODEL_HELP_H

#include <stdint.h>

#include "core/base/arena.h"

enum { TG_HELP_MAX = 1 << 14, TG_HELP_MAX_BYTES = 1024 };

struct tg_help;

struct tg_help *tg_help_new(void);    /* NULL when out of memory */
void tg_help_free(struct tg_help *h); /* NULL accepted */
/* Notes (copies) the text of a metric; the newest stands. Text that is not UTF-8, and what there is
 * no memory for, is left out. */
void tg_help_note(struct tg_help *h, const char *name, size_t name_len, const char *text,
                  size_t text_len);
/* The text, in `arena`; *len 0 when there is none (or no memory). */
const char *tg_help_find(struct tg_help *h, const char *name, size_t name_len,
                         struct tg_arena *arena, uint32_t *len);

#endif
