#include "core/admin/explain.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/admin/internal.h"
#include "core/admin/json.h"
#include "core/base/option.h"

enum tg_code tg_explain_desc(const struct tg_selector *s, const char *kind, const char *unit,
                             struct tg_series_desc *out, struct tg_err *err)
{
    memset(out, 0, sizeof(*out));
    if (!s->name)
        return tg_fail(err, TG_ERR_INVALID, "the series has no name; write metric{tag=\"value\"}");
    out->name = s->name;
    out->name_len = (uint32_t)strlen(s->name);
    out->unit = unit ? unit : "";
    out->unit_len = (uint32_t)strlen(out->unit);
    out->tags = s->tags;
    out->n_tags = s->n_tags;
    if (kind) {
        const char *known[TG_KINDS];
        int found = -1;
        for (int k = 0; k < TG_KINDS; k++) {
            known[k] = tg_kind_name((enum tg_kind)k);
            if (strcmp(known[k], kind) == 0) found = k;
        }
        const char *near = tg_nearest_name(kind, known, TG_KINDS);
        if (found < 0)
            return tg_fail(err, TG_ERR_INVALID,
                           "unknown kind \"%.40s\"%s%s%s; it is gauge, counter, histogram, "
                           "exponential_histogram, summary or unknown",
                           kind, near ? "; did you mean \"" : "", near ? near : "",
                           near ? "\"?" : "");
        out->kind = (uint8_t)found;
        if (found == TG_KIND_COUNTER || found == TG_KIND_HISTOGRAM ||
            found == TG_KIND_EXP_HISTOGRAM)
            out->temporality = TG_TEMPORALITY_CUMULATIVE;
    }
    return tg_series_desc_canonicalise(out, &tg_series_limits_default, err);
}

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

static enum tg_code put_desc(struct tg_buf *out, const char *name, const struct tg_series_desc *d)
{
    TG_TRY(tg_buf_printf(out, "\"%s\":{\"name\":", name));
    TG_TRY(tg_json_string(out, d->name, d->name_len));
    TG_TRY(tg_buf_printf(out, ",\"kind\":\"%s\",\"unit\":", tg_kind_name((enum tg_kind)d->kind)));
    TG_TRY(tg_json_string(out, d->unit, d->unit_len));
    TG_TRY(tg_buf_printf(out, ",\"tags\":{"));
    for (uint32_t i = 0; i < d->n_tags; i++) {
        if (i) TG_TRY(tg_buf_append(out, ",", 1));
        TG_TRY(tg_json_string(out, d->tags[i].key, d->tags[i].key_len));
        TG_TRY(tg_buf_append(out, ":", 1));
        TG_TRY(tg_json_string(out, d->tags[i].value, d->tags[i].value_len));
    }
    return tg_buf_printf(out, "}}");
}

static enum tg_code put_names(struct tg_buf *out, const char *name, uint32_t mask,
                              const char *const *backends, unsigned n_backends)
{
    TG_TRY(tg_buf_printf(out, "\"%s\":[", name));
    bool any = false;
    for (unsigned i = 0; i < n_backends; i++) {
        if (!(mask >> i & 1)) continue;
        if (any) TG_TRY(tg_buf_append(out, ",", 1));
        any = true;
        TG_TRY(tg_json_string(out, backends[i], strlen(backends[i])));
    }
    return tg_buf_append(out, "]", 1);
}

enum tg_code tg_explain_json(struct tg_buf *out, const struct tg_series_desc *series,
                             const struct tg_decision *d, const struct tg_rules_trace *trace,
                             const char *const *backends, unsigned n_backends)
{
    TG_TRY(tg_buf_append(out, "{", 1));
    TG_TRY(put_desc(out, "series", series));
    TG_TRY(tg_buf_printf(out, ",\"generation\":%" PRIu64 ",", d->generation));
    TG_TRY(put_desc(out, "mapped", &d->mapped));
    TG_TRY(tg_buf_append(out, ",", 1));
    TG_TRY(put_names(out, "targets", d->targets, backends, n_backends));
    TG_TRY(tg_buf_append(out, ",", 1));
    TG_TRY(put_names(out, "wait", d->wait, backends, n_backends));
    TG_TRY(tg_buf_printf(out,
                         ",\"dropped\":%s,\"strategy\":\"%s\",\"failed\":%s,\"retention\":{"
                         "\"keep_ms\":%" PRId64 ",\"rollups\":[",
                         d->targets ? "false" : "true",
                         tg_strategy_name((enum tg_strategy)d->strategy),
                         d->failed ? "true" : "false", d->retention.keep_ms));
    for (uint32_t i = 0; i < d->retention.n_rollups; i++)
        TG_TRY(tg_buf_printf(out, "%s{\"every_ms\":%" PRId64 ",\"keep_ms\":%" PRId64 "}",
                             i ? "," : "", d->retention.rollups[i].every_ms,
                             d->retention.rollups[i].keep_ms));
    TG_TRY(tg_buf_printf(out, "]},\"steps\":["));
    for (size_t i = 0; i < sizeof(trace->steps) / sizeof(trace->steps[0]); i++) {
        if (i) TG_TRY(tg_buf_append(out, ",", 1));
        TG_TRY(tg_buf_printf(out, "{\"what\":"));
        TG_TRY(tg_json_string(out, trace->steps[i].what, strlen(trace->steps[i].what)));
        TG_TRY(tg_buf_printf(out, ",\"file\":"));
        TG_TRY(tg_json_string(out, trace->steps[i].file, strlen(trace->steps[i].file)));
        TG_TRY(tg_buf_printf(out, ",\"line\":%d,\"note\":", trace->steps[i].line));
        TG_TRY(tg_json_string(out, trace->steps[i].note, strlen(trace->steps[i].note)));
        TG_TRY(tg_buf_append(out, "}", 1));
    }
    return tg_buf_append(out, "]}\n", 3);
}

void tg_admin_explain(struct tg_admin *a, struct tg_http_request *req)
{
    struct tg_arena arena;
    tg_arena_init(&arena, 1 << 20);
    struct tg_buf out;
    tg_buf_init(&out, 1 << 20);
    struct tg_err err = {.msg = ""};
    struct tg_selector selector = {0};
    struct tg_series_desc desc = {0};
    struct tg_decision decision;
    struct tg_rules_trace trace;
    memset(&decision, 0, sizeof(decision));
    memset(&trace, 0, sizeof(trace));

    const char *series = tg_http_query(req, "series", 0);
    enum tg_code code =
        series ? tg_selector_parse(series, &arena, &selector, &err)
               : tg_fail(&err, TG_ERR_INVALID, "say which series: ?series=metric{tag=\"value\"}");
    if (code == TG_OK)
        code = tg_explain_desc(&selector, tg_http_query(req, "kind", 0),
                               tg_http_query(req, "unit", 0), &desc, &err);
    if (code == TG_OK) code = tg_gateway_explain(a->gateway, &desc, &arena, &decision, &trace);
    if (code == TG_OK)
        code = tg_explain_json(&out, &desc, &decision, &trace, a->config.config->rules.backends,
                               a->config.config->n_backends);
    if (code == TG_OK)
        tg_http_reply(req, 200, "application/json", out.data, out.len, NULL, 0);
    else
        tg_admin_reply_error(req, tg_code_http_status(code), "%s",
                             err.msg[0] ? err.msg : "out of memory");
    tg_buf_deinit(&out);
    tg_arena_deinit(&arena);
}
