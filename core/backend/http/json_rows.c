#include "core/backend/http/json_rows.h"

#include <string.h>

enum { MAX_ARENA_BYTES = 16 << 20, LOOK_EVERY_ROWS = 1024 };

enum tg_code tg_json_rows_init(struct tg_json_rows *j, const struct tg_query *q, tg_on_row on_row,
                               tg_on_query_end on_end, void *arg)
{
    *j = (struct tg_json_rows){
        .start_ns = q->start_ns,
        .end_ns = q->end_ns,
        .max_rows = q->max_rows ? q->max_rows : UINT32_MAX,
        .stop = q->stop,
        .on_row = on_row,
        .on_end = on_end,
        .arg = arg,
    };
    tg_arena_init(&j->arena, MAX_ARENA_BYTES);
    if (!q->name) return TG_OK;
    j->name = tg_arena_strndup(&j->arena, q->name, strlen(q->name));
    return j->name ? TG_OK : TG_ERR_NOMEM;
}

void tg_json_rows_deinit(struct tg_json_rows *j)
{
    tg_arena_deinit(&j->arena);
}

enum tg_code tg_json_rows_series(const json_t *labels, const char *without, const char *name,
                                 size_t name_len, struct tg_arena *arena,
                                 struct tg_series_desc *out, struct tg_err *err)
{
    const size_t n = json_object_size(labels);
    *out = (struct tg_series_desc){.name = name, .name_len = (uint32_t)name_len};
    out->tags = tg_arena_calloc(arena, n + 1, sizeof(struct tg_tag));
    if (!out->tags) return tg_fail(err, TG_ERR_NOMEM, "no memory for the tags of an answer");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)labels, key, value)
    {
        if (!json_is_string(value) || (without && strcmp(key, without) == 0)) continue;
        out->tags[out->n_tags++] = (struct tg_tag){
            .key = key,
            .key_len = (uint32_t)strlen(key),
            .value = json_string_value(value),
            .value_len = (uint32_t)json_string_length(value),
            .origin = TG_ORIGIN_POINT,
        };
    }
    return tg_series_desc_canonicalise(out, &tg_series_limits_default, err);
}

void tg_json_rows_push(struct tg_json_rows *j, const struct tg_series_desc *series,
                       const struct tg_point *point)
{
    if (j->n_seen++ % LOOK_EVERY_ROWS == 0 && tg_query_must_stop(j->stop))
        j->is_enough = j->is_stopped = true;
    if (j->is_enough || point->ts_ns < j->start_ns || point->ts_ns >= j->end_ns) return;
    const struct tg_query_row row = {series, point};
    j->n_rows++;
    if (!j->on_row(j->arg, &row) || j->n_rows >= j->max_rows) j->is_enough = true;
}
