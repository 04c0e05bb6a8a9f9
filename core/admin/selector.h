/* selector.h: what people write to name series and times: `metric{tag="v", "other.tag"="w"}`,
 * `5m`, `2026-01-31T12:00:00Z`.
 *
 * Grammar of a selector: [name] [ '{' [ pair { ',' pair } [','] ] '}' ] ; pair = key '=' value ;
 * name and key are bare words ([A-Za-z0-9_.:/-]+) or "quoted"; a value is quoted ("..." or '...')
 * or a bare word. In quotes, \" \' \\ and \n are understood.
 *
 * Threading: no shared state.
 */
#ifndef TG_ADMIN_SELECTOR_H
#define TG_ADMIN_SELECTOR_H

#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/model/series.h"

enum { TG_SELECTOR_MAX_TAGS = 64 };

struct tg_selector {
    const char *name; /* NULL = any */
    struct tg_tag *tags;
    uint32_t n_tags;
};

/* Strings and tags live in `arena`, NUL-terminated. TG_ERR_INVALID with the offset and what was
 * expected; TG_ERR_TOO_LARGE over TG_SELECTOR_MAX_TAGS; TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_selector_parse(const char *text, struct tg_arena *arena,
                                             struct tg_selector *out, struct tg_err *err);
/* Adds one tag from "key=value" (the value taken as it is). Room for TG_SELECTOR_MAX_TAGS is made
 * by tg_selector_parse, so call that first (with "" for an empty one). */
TG_MUST_CHECK enum tg_code tg_selector_add_tag(struct tg_selector *s, const char *text,
                                               struct tg_arena *arena, struct tg_err *err);

/* A time: "now", a duration ago ("5m", "-5m"), RFC 3339 ("2026-01-31T12:00:00.5Z", "...+01:00"),
 * a date ("2026-01-31", UTC), or a number since the epoch in s, ms, us or ns (told apart by its
 * size: seconds below 1e11, ms below 1e14, us below 1e17). TG_ERR_INVALID with the accepted forms.
 */
TG_MUST_CHECK enum tg_code tg_time_parse(const char *text, int64_t now_ns, int64_t *ts_ns,
                                         struct tg_err *err);

#endif
