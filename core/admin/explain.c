#include "core/admin/explain.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/admin/admin_impl.h"
#include "core/admin/json.h"
#include "core/base/option.h"
#include "core/protocol/influx_line.h"

/* --- reading --- */

static enum tg_code read_kind(const char *kind, struct tg_series_desc *out, struct tg_err *err)
{
    const char *known[TG_KINDS];
    for (int k = 0; k < TG_KINDS; k++) {
        known[k] = tg_kind_name((enum tg_kind)k);
        if (strcmp(known[k], kind) != 0) continue;
        out->kind = (uint8_t)k;
        if (k == TG_KIND_COUNTER || k == TG_KIND_HISTOGRAM || k == TG_KIND_EXP_HISTOGRAM)
            out->temporality = TG_TEMPORALITY_CUMULATIVE;
        return TG_OK;
    }
    const char *near = tg_nearest_name(kind, known, TG_KINDS);
    return tg_fail(err, TG_ERR_INVALID,
                   "unknown kind \"%.40s\"%s%s%s; it is gauge, counter, histogram, "
                   "exponential_histogram, summary or unknown",
                   kind, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* The tags that `keys` names ("a,b") get an origin. */
static enum tg_code read_origins(const char *keys, enum tg_origin origin,
                                 struct tg_series_desc *out, struct tg_err *err)
{
    for (const char *p = keys; p && *p;) {
        const size_t len = strcspn(p, ",");
        bool is_found = false;
        for (uint32_t i = 0; i < out->n_tags; i++) {
            if (out->tags[i].key_len != len || memcmp(out->tags[i].key, p, len) != 0) continue;
            out->tags[i].origin = (uint8_t)origin;
            is_found = true;
        }
        if (!is_found)
            return tg_fail(err, TG_ERR_INVALID, "%s: the series has no tag \"%.*s\"",
                           origin == TG_ORIGIN_SCOPE ? "scope" : "resource",
                           (int)(len < 60 ? len : 60), p);
        p += len;
        p += *p == ',';
    }
    return TG_OK;
}

static enum tg_code join_name(const char *measurement, const char *field, struct tg_arena *arena,
                              struct tg_series_desc *out, struct tg_err *err)
{
    if (!measurement || !*measurement || !field || !*field)
        return tg_fail(err, TG_ERR_INVALID, "measurement and field go together: give both");
    const size_t m = strlen(measurement);
    const size_t f = strlen(field);
    char *name = tg_arena_alloc(arena, m + f + 2);
    if (!name) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    (void)snprintf(name, m + f + 2, "%s_%s", measurement, field);
    out->name = name;
    out->name_len = (uint32_t)(m + 1 + f);
    out->field_len = (uint32_t)f;
    return TG_OK;
}

static enum tg_code read_selector(const struct tg_explain_words *w, struct tg_arena *arena,
                                  struct tg_series_desc *out, struct tg_err *err)
{
    struct tg_selector s;
    TG_TRY(tg_selector_parse(w->series ? w->series : "", arena, &s, err));
    out->tags = s.tags;
    out->n_tags = s.n_tags;
    if (w->measurement || w->field) {
        if (s.name)
            return tg_fail(err, TG_ERR_INVALID,
                           "the name of an Influx series is its measurement and field: write "
                           "{tag=\"value\"} without a name beside them");
        return join_name(w->measurement, w->field, arena, out, err);
    }
    if (!s.name)
        return tg_fail(err, TG_ERR_INVALID, "the series has no name; write metric{tag=\"value\"}");
    out->name = s.name;
    out->name_len = (uint32_t)strlen(s.name);
    return TG_OK;
}

/* The series of a decoded line, copied out of the table that it was decoded into. */
static enum tg_code copy_line(struct tg_table *t, const struct tg_intake *d, struct tg_arena *arena,
                              struct tg_series_desc *out, struct tg_err *err)
{
    if (d->n_rejected) return tg_fail(err, TG_ERR_INVALID, "%s", d->first_reject.msg);
    if (d->batch->n_points != 1)
        return tg_fail(err, TG_ERR_INVALID,
                       "the line has %u fields, each a series of its own: give one line with one "
                       "field",
                       d->batch->n_points);
    struct tg_series_desc borrowed;
    enum tg_code code = tg_table_describe(t, d->batch->points[0].series, &borrowed, arena);
    if (code == TG_OK) code = tg_series_desc_copy(&borrowed, arena, out);
    return code == TG_OK ? code : tg_fail(err, TG_ERR_NOMEM, "out of memory");
}

static enum tg_code read_line(const char *line, struct tg_arena *arena, struct tg_series_desc *out,
                              struct tg_err *err)
{
    const struct tg_table_config config = {.max_series = 100};
    struct tg_table *t = tg_table_new(&config);
    if (!t) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    struct tg_batch batch;
    tg_batch_init(&batch, tg_table_guard(t), 1000, 1 << 20);
    struct tg_intake d = {.table = t, .batch = &batch, .arena = arena};
    enum tg_code code = tg_influx_decode((const uint8_t *)line, strlen(line), 1, &d, err);
    if (code == TG_OK) code = copy_line(t, &d, arena, out, err);
    tg_batch_deinit(&batch);
    tg_table_free(t);
    return code;
}

enum tg_code tg_explain_read(const struct tg_explain_words *w, struct tg_arena *arena,
                             struct tg_series_desc *out, struct tg_err *err)
{
    memset(out, 0, sizeof(*out));
    if (w->line && (w->series || w->measurement || w->field))
        return tg_fail(err, TG_ERR_INVALID,
                       "a line says all of its series: give nothing beside it");
    TG_TRY(w->line ? read_line(w->line, arena, out, err) : read_selector(w, arena, out, err));
    if (w->unit || !out->unit) {
        out->unit = w->unit ? w->unit : "";
        out->unit_len = (uint32_t)strlen(out->unit);
    }
    if (w->kind) TG_TRY(read_kind(w->kind, out, err));
    TG_TRY(read_origins(w->resource, TG_ORIGIN_RESOURCE, out, err));
    TG_TRY(read_origins(w->scope, TG_ORIGIN_SCOPE, out, err));
    return tg_series_desc_canonicalise(out, &tg_series_limits_default, err);
}

/* --- writing --- */

char *tg_explain_duration(char *out, size_t cap, int64_t ms)
{
    static const struct {
        int64_t ms;
        const char *unit;
    } units[] = {{INT64_C(31536000000), "y"},
                 {86400000, "d"},
                 {3600000, "h"},
                 {60000, "m"},
                 {1000, "s"},
                 {1, "ms"}};
    (void)snprintf(out, cap, "for ever");
    for (size_t i = 0; ms > 0 && i < sizeof(units) / sizeof(units[0]); i++) {
        if (ms % units[i].ms != 0) continue;
        (void)snprintf(out, cap, "%" PRId64 "%s", ms / units[i].ms, units[i].unit);
        break;
    }
    return out;
}

static enum tg_code put_text(struct tg_buf *out, const char *name, const char *s, size_t len)
{
    TG_TRY(tg_buf_printf(out, ",\"%s\":", name));
    return tg_json_string(out, s, len);
}

static enum tg_code put_origins(struct tg_buf *out, const struct tg_series_desc *d)
{
    static const char *const names[] = {"point", "scope", "resource"};
    const char *sep = "";
    TG_TRY(tg_buf_printf(out, ",\"origins\":{"));
    for (uint32_t i = 0; i < d->n_tags; i++) {
        if (d->tags[i].origin == TG_ORIGIN_POINT || d->tags[i].origin > TG_ORIGIN_RESOURCE)
            continue;
        TG_TRY(tg_buf_printf(out, "%s", sep));
        TG_TRY(tg_json_string(out, d->tags[i].key, d->tags[i].key_len));
        TG_TRY(tg_buf_printf(out, ":\"%s\"", names[d->tags[i].origin]));
        sep = ",";
    }
    return tg_buf_append(out, "}", 1);
}

static enum tg_code put_desc(struct tg_buf *out, const char *name, const struct tg_series_desc *d)
{
    static const char *const temporalities[] = {"none", "delta", "cumulative"};
    TG_TRY(tg_buf_printf(out, "\"%s\":{\"name\":", name));
    TG_TRY(tg_json_string(out, d->name, d->name_len));
    TG_TRY(tg_buf_printf(out, ",\"kind\":\"%s\"", tg_kind_name((enum tg_kind)d->kind)));
    TG_TRY(put_text(out, "unit", d->unit, d->unit_len));
    if (d->temporality <= TG_TEMPORALITY_CUMULATIVE)
        TG_TRY(tg_buf_printf(out, ",\"temporality\":\"%s\"", temporalities[d->temporality]));
    if (d->field_len > 0 && d->field_len < d->name_len) {
        const size_t m = d->name_len - d->field_len - 1;
        TG_TRY(put_text(out, "measurement", d->name, m));
        TG_TRY(put_text(out, "field", d->name + m + 1, d->field_len));
    }
    TG_TRY(tg_buf_printf(out, ",\"tags\":{"));
    for (uint32_t i = 0; i < d->n_tags; i++) {
        if (i) TG_TRY(tg_buf_append(out, ",", 1));
        TG_TRY(tg_json_string(out, d->tags[i].key, d->tags[i].key_len));
        TG_TRY(tg_buf_append(out, ":", 1));
        TG_TRY(tg_json_string(out, d->tags[i].value, d->tags[i].value_len));
    }
    TG_TRY(tg_buf_append(out, "}", 1));
    TG_TRY(put_origins(out, d));
    return tg_buf_append(out, "}", 1);
}

/* "targets":[..],"wait":[..],"strategy":"..","failed":.. */
static enum tg_code put_route(struct tg_buf *out, uint32_t targets, uint32_t wait, uint8_t strategy,
                              bool failed, const struct tg_config *c)
{
    for (int waits = 0; waits < 2; waits++) {
        const char *sep = "";
        TG_TRY(tg_buf_printf(out, waits ? "],\"wait\":[" : "\"targets\":["));
        for (unsigned i = 0; i < c->n_backends; i++) {
            if (!((waits ? wait : targets) >> i & 1)) continue;
            TG_TRY(tg_buf_printf(out, "%s", sep));
            TG_TRY(tg_json_string(out, c->rules.backends[i], strlen(c->rules.backends[i])));
            sep = ",";
        }
    }
    return tg_buf_printf(out, "],\"dropped\":%s,\"strategy\":\"%s\",\"failed\":%s",
                         targets ? "false" : "true", tg_strategy_name((enum tg_strategy)strategy),
                         failed ? "true" : "false");
}

static enum tg_code put_steps(struct tg_buf *out, const struct tg_rules_trace *trace)
{
    TG_TRY(tg_buf_printf(out, ",\"steps\":["));
    for (size_t i = 0; i < sizeof(trace->steps) / sizeof(trace->steps[0]); i++) {
        TG_TRY(tg_buf_printf(out, "%s{\"what\":", i ? "," : ""));
        TG_TRY(tg_json_string(out, trace->steps[i].what, strlen(trace->steps[i].what)));
        TG_TRY(put_text(out, "file", trace->steps[i].file, strlen(trace->steps[i].file)));
        TG_TRY(tg_buf_printf(out, ",\"line\":%d", trace->steps[i].line));
        TG_TRY(put_text(out, "note", trace->steps[i].note, strlen(trace->steps[i].note)));
        TG_TRY(tg_buf_append(out, "}", 1));
    }
    return tg_buf_append(out, "]", 1);
}

static enum tg_code put_match(struct tg_buf *out, const struct tg_explained *e)
{
    TG_TRY(tg_buf_printf(out, ",\"live\":%s,\"matches\":%" PRIu64 ",\"others\":[",
                         e->is_live ? "true" : "false", e->n_matches));
    for (uint32_t i = 0; i < e->n_others; i++) {
        if (i) TG_TRY(tg_buf_append(out, ",", 1));
        TG_TRY(tg_json_string(out, e->others[i], strlen(e->others[i])));
    }
    TG_TRY(tg_buf_append(out, "]", 1));
    return e->is_live ? tg_buf_printf(out, ",\"idle_s\":%" PRIu32, e->idle_s) : TG_OK;
}

/* Series that are one with it. */
static enum tg_code put_merges(struct tg_buf *out, const struct tg_explained *e,
                               const struct tg_config *c)
{
    TG_TRY(tg_buf_printf(out, ",\"merged\":{\"series\":%" PRIu64, e->n_merged));
    TG_TRY(put_text(out, "first", e->first, strlen(e->first)));
    TG_TRY(tg_buf_printf(out, ",\"taken\":["));
    for (uint32_t i = 0; i < e->n_taken; i++) {
        const char *name = c->rules.backends[e->taken[i].backend];
        TG_TRY(tg_buf_printf(out, "%s{\"backend\":", i ? "," : ""));
        TG_TRY(tg_json_string(out, name, strlen(name)));
        TG_TRY(put_text(out, "reason", e->taken[i].why, strlen(e->taken[i].why)));
        TG_TRY(tg_buf_append(out, "}", 1));
    }
    return tg_buf_append(out, "]}", 2);
}

/* Of all series: which rules are in force, and whether they are run. */
static enum tg_code put_rules(struct tg_buf *out, const struct tg_gateway_status *status)
{
    const struct tg_rules_stats *r = &status->rules;
    TG_TRY(tg_buf_printf(
        out,
        ",\"rules\":{\"generation\":%" PRIu64 ",\"breaker_open\":%s,\"breaker_open_ms\":%" PRIu64,
        status->generation, r->is_breaker_open ? "true" : "false", r->breaker_open_ms));
    TG_TRY(put_text(out, "last_error", r->last_error, strlen(r->last_error)));
    return tg_buf_append(out, "}", 1);
}

/* What the points of the series go by, and how far the backends are that get them. */
static enum tg_code put_in_force(struct tg_buf *out, const struct tg_explained *e,
                                 const struct tg_config *c, const struct tg_gateway_status *status)
{
    TG_TRY(tg_buf_printf(out, ",\"in_force\":{\"generation\":%" PRIu64 ",\"kept\":%s,",
                         e->generation, e->kept ? "true" : "false"));
    TG_TRY(put_route(out, e->targets, e->wait, e->strategy, e->failed, c));
    TG_TRY(tg_buf_append(out, "}", 1));
    if (!status) return TG_OK;
    const char *sep = "";
    TG_TRY(tg_buf_printf(out, ",\"backends\":["));
    for (unsigned i = 0; i < status->n_backends; i++) {
        const struct tg_backend_status *b = &status->backends[i];
        if (!(e->targets >> i & 1)) continue;
        TG_TRY(tg_buf_printf(out, "%s{\"name\":", sep));
        TG_TRY(tg_json_string(out, b->name, strlen(b->name)));
        TG_TRY(tg_buf_printf(out, ",\"state\":\"%s\",\"waiting\":%" PRIu64 ",\"lag_ms\":%" PRId64,
                             tg_delivery_state_name(b->state), b->ledger.waiting, b->lag_ms));
        if (!b->healthy) TG_TRY(put_text(out, "last_error", b->last_error, strlen(b->last_error)));
        TG_TRY(tg_buf_append(out, "}", 1));
        sep = ",";
    }
    return tg_buf_append(out, "]", 1);
}

enum tg_code tg_explain_json(struct tg_buf *out, const struct tg_explained *e,
                             const struct tg_config *config, const struct tg_gateway_status *status,
                             const struct tg_buf *more)
{
    const struct tg_decision *d = &e->decision;
    TG_TRY(tg_buf_append(out, "{", 1));
    TG_TRY(put_desc(out, "series", &e->series));
    TG_TRY(put_match(out, e));
    TG_TRY(tg_buf_printf(out, ",\"generation\":%" PRIu64 ",", d->generation));
    TG_TRY(put_desc(out, "mapped", &d->mapped));
    TG_TRY(tg_buf_append(out, ",", 1));
    TG_TRY(put_route(out, d->targets, d->wait, d->strategy, d->failed, config));
    TG_TRY(tg_buf_printf(out, ",\"retention\":{\"keep_ms\":%" PRId64 ",\"rollups\":[",
                         d->retention.keep_ms));
    for (uint32_t i = 0; i < d->retention.n_rollups; i++)
        TG_TRY(tg_buf_printf(out, "%s{\"every_ms\":%" PRId64 ",\"keep_ms\":%" PRId64 "}",
                             i ? "," : "", d->retention.rollups[i].every_ms,
                             d->retention.rollups[i].keep_ms));
    TG_TRY(tg_buf_printf(out, "]}"));
    TG_TRY(put_steps(out, &e->trace));
    TG_TRY(put_text(out, "error", e->trace.error, strlen(e->trace.error)));
    if (status) TG_TRY(put_rules(out, status));
    if (e->has_plan) TG_TRY(put_merges(out, e, config));
    if (e->has_plan) TG_TRY(put_in_force(out, e, config, status));
    if (more) {
        TG_TRY(tg_buf_printf(out, ",\"gateway\":"));
        TG_TRY(tg_buf_append(out, more->data, more->len));
    }
    return tg_buf_append(out, "}\n", 2);
}
