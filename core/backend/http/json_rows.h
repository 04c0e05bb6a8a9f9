/* json_rows.h: rows of JSON query answers: a label object and values to what query_range hands
 * over.
 *
 * Threading: no shared state.
 */
#ifndef TG_BACKEND_HTTP_JSON_ROWS_H
#define TG_BACKEND_HTTP_JSON_ROWS_H

#include <jansson.h>

#include "core/backend/backend.h"
#include "core/base/arena.h"

/* A query's own copy of what it needs, and where its rows go. */
struct tg_json_rows {
    struct tg_arena arena; /* strings of the query and of the series at hand */
    const char *name;      /* NULL = any */
    int64_t start_ns, end_ns;
    uint32_t max_rows, n_rows;
    bool is_enough;  /* max_rows, or the receiver or `stop` said so */
    bool is_stopped; /* `stop` did */
    uint32_t n_seen; /* rows, in the range or not */
    struct tg_query_stop *stop;
    tg_on_row on_row;
    tg_on_query_end on_end;
    void *arg;
};

/* Copies `q`. TG_ERR_NOMEM; deinit is due in any case. */
TG_MUST_CHECK enum tg_code tg_json_rows_init(struct tg_json_rows *j, const struct tg_query *q,
                                             tg_on_row on_row, tg_on_query_end on_end, void *arg);
void tg_json_rows_deinit(struct tg_json_rows *j);

/* A canonical desc of kind unknown from an object of strings without the member `without` (NULL
 * accepted); other members are ignored. Strings borrow from the object and `name`, the tag array is
 * in `arena`. TG_ERR_NOMEM, TG_ERR_INVALID. */
TG_MUST_CHECK enum tg_code tg_json_rows_series(const json_t *labels, const char *without,
                                               const char *name, size_t name_len,
                                               struct tg_arena *arena, struct tg_series_desc *out,
                                               struct tg_err *err);

/* Hands one point over when its time is in the range. Sets is_enough. */
void tg_json_rows_push(struct tg_json_rows *j, const struct tg_series_desc *series,
                       const struct tg_point *point);

#endif
