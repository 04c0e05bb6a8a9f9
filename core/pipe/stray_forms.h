/* stray_forms.h: bytes for series that were routed to a backend when their points were accepted,
 * but are not any more: their plans hold none for it, so they are made when needed and kept for one
 * attempt (after it the rules may be others).
 *
 *   slots, by series:   [series, bytes, len] [free] [series, NULL: no form here] ...   3/4 full
 *
 * Limit: MAX_STRAY_FORMS_BYTES of bytes; beyond it the caller's attempt has to be a smaller one.
 *
 * Threading: one thread.
 */
#ifndef TG_PIPE_STRAY_FORMS_H
#define TG_PIPE_STRAY_FORMS_H

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/model/table.h"

struct tg_stray_forms_slot {
    const struct tg_series *series; /* NULL: free */
    const uint8_t *bytes;           /* NULL: the backend has no form for it */
    uint32_t len;
    bool inexpressible; /* bytes NULL: it has none for such series, and nothing is at fault */
};

struct tg_stray_forms {
    struct tg_arena arena;
    struct tg_stray_forms_slot *slots; /* a power of two; NULL until needed */
    uint32_t n, cap;
    size_t bytes;
};

void tg_stray_forms_init(struct tg_stray_forms *a);
void tg_stray_forms_forget(struct tg_stray_forms *a); /* empties and frees; as deinit, too */

/* The slot of a series; its `series` is NULL when nothing was put there yet. NULL: no memory. Valid
 * until the next find. */
struct tg_stray_forms_slot *tg_stray_forms_find(struct tg_stray_forms *a,
                                                const struct tg_series *s);
/* Fills a free slot; copies the bytes. `bytes` NULL: there are none. TG_ERR_NOMEM;
 * TG_ERR_TOO_LARGE: too many bytes in one attempt. */
TG_MUST_CHECK enum tg_code tg_stray_forms_put(struct tg_stray_forms *a,
                                              struct tg_stray_forms_slot *slot,
                                              const struct tg_series *s,
                                              const struct tg_buf *bytes);

#endif
