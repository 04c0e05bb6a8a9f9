/* cmd_explain.c: `tidegate explain`: which line of which rule decides what for a series. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/admin/explain.h"
#include "core/app/cmd.h"
#include "core/base/logger.h"
#include "core/client/admin_call.h"
#include "core/rules/rules.h"

enum { ASK_TIMEOUT_MS = 10000 }; /* explanations wait for each other there */

struct explain {
    const struct tg_args *args;
    struct tg_arena *arena;
    struct tg_config config;
    struct tg_explain_words words;
    struct tg_series_desc like; /* as given */
    struct tg_explained e;      /* by the scripts on disk */
    char url[512];              /* of the gateway that was asked; "" = none */
    char why[512];              /* it answered, but did not explain; "" = it did, or no answer */
    struct tg_admin_answer answer;
    json_t *gateway;                /* its answer; NULL = none */
    struct tg_series_desc in_force; /* what the rules in force make of the live series */
};

/* --- the running gateway --- */

/* Where to ask; "" when the configuration does not say. false = said why on stderr. */
static bool find_gateway(struct explain *x)
{
    const char *address = getenv("TIDEGATE_ADMIN");
    if (tg_args_has(x->args, "offline")) return true;
    if (tg_args_has(x->args, "admin")) return tg_cmd_admin_url(x->args, x->url, sizeof(x->url));
    if (!address || !*address) address = x->config.admin_address;
    const char *port = strrchr(address, ':');
    if (port && strcmp(port, ":0") == 0) return true; /* any free one: it can be told by --admin */
    return tg_cmd_url(x->args->cmd, address, x->url, sizeof(x->url));
}

static enum tg_code make_url(const struct explain *x, struct tg_buf *url)
{
    const struct tg_explain_words *w = &x->words;
    TG_TRY(tg_buf_printf(url, "%s/api/explain", x->url));
    TG_TRY(tg_url_param(url, "series", w->series));
    TG_TRY(tg_url_param(url, "line", w->line));
    TG_TRY(tg_url_param(url, "measurement", w->measurement));
    TG_TRY(tg_url_param(url, "field", w->field));
    TG_TRY(tg_url_param(url, "kind", w->kind));
    TG_TRY(tg_url_param(url, "unit", w->unit));
    TG_TRY(tg_url_param(url, "resource", w->resource));
    return tg_url_param(url, "scope", w->scope);
}

/* Without an answer the scripts are asked alone, unless the gateway was named. false = said why. */
static bool ask_gateway(struct explain *x)
{
    struct tg_buf url;
    struct tg_err err = {.msg = ""};
    char scratch[512];
    if (!x->url[0]) return true;
    tg_buf_init(&url, 64 << 10);
    enum tg_code code = make_url(x, &url);
    if (code == TG_OK)
        code = tg_admin_call("GET", (const char *)url.data, ASK_TIMEOUT_MS, &x->answer, &err);
    tg_buf_deinit(&url);
    if (code == TG_OK && x->answer.status == 200)
        x->gateway = json_loadb((const char *)x->answer.body.data, x->answer.body.len, 0, NULL);
    if (x->gateway) return true;
    if (code == TG_OK)
        (void)snprintf(x->why, sizeof(x->why), "%s",
                       tg_admin_answer_error(&x->answer, scratch, sizeof(scratch)));
    if (!tg_args_has(x->args, "admin")) return true;
    (void)tg_command_failed(x->args->cmd, "%s", code != TG_OK ? err.msg : x->why);
    return false;
}

static const char *copy_text(struct explain *x, const json_t *v, uint32_t *len)
{
    *len = (uint32_t)json_string_length(v);
    return tg_arena_strndup(x->arena, json_string_value(v) ? json_string_value(v) : "", *len);
}

static uint8_t index_of(const char *const *names, uint8_t n, const json_t *v)
{
    for (uint8_t i = 0; i < n; i++)
        if (json_string_value(v) && strcmp(names[i], json_string_value(v)) == 0) return i;
    return 0;
}

/* A series of the answer ("series": the live one, "mapped"), whose strings are copied. */
static enum tg_code read_desc(struct explain *x, const char *member, struct tg_series_desc *d,
                              struct tg_err *err)
{
    static const char *const temporalities[] = {"none", "delta", "cumulative"};
    static const char *const origins[] = {"point", "scope", "resource"};
    const char *kinds[TG_KINDS];
    const json_t *s = json_object_get(x->gateway, member);
    const json_t *from = json_object_get(s, "origins");
    json_t *tags = json_object_get(s, "tags");
    for (int k = 0; k < TG_KINDS; k++) kinds[k] = tg_kind_name((enum tg_kind)k);
    memset(d, 0, sizeof(*d));
    d->name = copy_text(x, json_object_get(s, "name"), &d->name_len);
    d->unit = copy_text(x, json_object_get(s, "unit"), &d->unit_len);
    d->field_len = (uint32_t)json_string_length(json_object_get(s, "field"));
    d->kind = index_of(kinds, TG_KINDS, json_object_get(s, "kind"));
    d->temporality = index_of(temporalities, 3, json_object_get(s, "temporality"));
    d->tags = tg_arena_calloc(x->arena, json_object_size(tags) + 1, sizeof(*d->tags));
    if (!d->name || !d->unit || !d->tags) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    const char *key;
    json_t *value;
    json_object_foreach(tags, key, value)
    {
        struct tg_tag *t = &d->tags[d->n_tags++];
        t->key_len = (uint32_t)strlen(key);
        t->key = tg_arena_strndup(x->arena, key, t->key_len);
        t->value = copy_text(x, value, &t->value_len);
        t->origin = index_of(origins, 3, json_object_get(from, key));
        if (!t->key || !t->value) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    }
    return tg_series_desc_canonicalise(d, &tg_series_limits_default, err);
}

/* --- text --- */

static enum tg_code put(struct tg_buf *o, const char *s, size_t len)
{
    char text[4200]; /* a name or value of a series is no longer */
    (void)snprintf(text, sizeof(text), "%.*s", (int)len, s);
    return tg_cmd_put_text(o, text, false);
}

static bool same(const char *a, uint32_t a_len, const char *b, uint32_t b_len)
{
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

static enum tg_code put_tag(struct tg_buf *o, const char *lead, char mark, const struct tg_tag *t,
                            const struct tg_tag *was)
{
    TG_TRY(tg_buf_printf(o, "%-10s %c ", lead, mark));
    TG_TRY(put(o, t->key, t->key_len));
    TG_TRY(tg_buf_printf(o, " = "));
    TG_TRY(put(o, t->value, t->value_len));
    if (was) {
        TG_TRY(tg_buf_printf(o, " (was "));
        TG_TRY(put(o, was->value, was->value_len));
        TG_TRY(tg_buf_append(o, ")", 1));
    }
    return tg_buf_append(o, "\n", 1);
}

/* Tags before and after tags.lua, by key: "-" removed, "+" added, "~" changed. */
static enum tg_code put_tags(struct tg_buf *o, const char *lead, const struct tg_series_desc *was,
                             const struct tg_series_desc *is)
{
    for (uint32_t i = 0, j = 0; i < was->n_tags || j < is->n_tags; lead = "") {
        const struct tg_tag *a = i < was->n_tags ? &was->tags[i] : NULL;
        const struct tg_tag *b = j < is->n_tags ? &is->tags[j] : NULL;
        if (a && b) {
            const uint32_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
            int c = memcmp(a->key, b->key, n);
            if (c == 0) c = (a->key_len > b->key_len) - (a->key_len < b->key_len);
            if (c < 0) b = NULL;
            if (c > 0) a = NULL;
        }
        i += a != NULL;
        j += b != NULL;
        const bool changed = a && b && !same(a->value, a->value_len, b->value, b->value_len);
        const char mark = !b ? '-' : !a ? '+' : changed ? '~' : ' ';
        TG_TRY(put_tag(o, lead, mark, b ? b : a, changed ? a : NULL));
    }
    return TG_OK;
}

static enum tg_code put_live(struct tg_buf *o, const struct explain *x)
{
    const json_t *g = x->gateway;
    if (!g) {
        if (x->why[0]) {
            TG_TRY(tg_buf_printf(o, "           as given: the gateway at %s answers: ", x->url));
            TG_TRY(tg_cmd_put_text(o, x->why, false));
            return tg_buf_append(o, "\n", 1);
        }
        if (x->url[0])
            return tg_buf_printf(o, "           as given: no gateway answers at %s\n", x->url);
        return tg_buf_printf(o, "           as given: no gateway was asked\n");
    }
    const json_int_t n = json_integer_value(json_object_get(g, "matches"));
    if (!x->e.is_live) return tg_buf_printf(o, "           as given: no such series is live\n");
    TG_TRY(tg_buf_printf(o, "           live, last named %" JSON_INTEGER_FORMAT " s ago",
                         json_integer_value(json_object_get(g, "idle_s"))));
    if (n > 1) TG_TRY(tg_buf_printf(o, "; %" JSON_INTEGER_FORMAT " more live series match", n - 1));
    TG_TRY(tg_buf_append(o, "\n", 1));
    size_t i;
    const json_t *other;
    json_array_foreach(json_object_get(g, "others"), i, other)
    {
        TG_TRY(tg_buf_printf(o, "           not this: "));
        TG_TRY(tg_cmd_put_text(o, json_string_value(other), false));
        TG_TRY(tg_buf_append(o, "\n", 1));
    }
    return TG_OK;
}

static enum tg_code put_series(struct tg_buf *o, const struct explain *x)
{
    const struct tg_series_desc *was = &x->e.series;
    const struct tg_series_desc *is = &x->e.decision.mapped;
    TG_TRY(tg_buf_printf(o, "series     "));
    TG_TRY(put(o, was->name, was->name_len));
    if (!same(was->name, was->name_len, is->name, is->name_len)) {
        TG_TRY(tg_buf_printf(o, "\n           becomes "));
        TG_TRY(put(o, is->name, is->name_len));
    }
    TG_TRY(tg_buf_append(o, "\n", 1));
    TG_TRY(put_live(o, x));
    TG_TRY(tg_buf_printf(o, "kind       %s", tg_kind_name((enum tg_kind)was->kind)));
    if (was->unit_len) {
        TG_TRY(tg_buf_printf(o, ", unit "));
        TG_TRY(put(o, was->unit, was->unit_len));
    }
    if (was->field_len && was->field_len < was->name_len) {
        TG_TRY(tg_buf_printf(o, ", measurement "));
        TG_TRY(put(o, was->name, was->name_len - was->field_len - 1));
        TG_TRY(tg_buf_printf(o, ", field "));
        TG_TRY(put(o, was->name + was->name_len - was->field_len, was->field_len));
    }
    TG_TRY(tg_buf_append(o, "\n", 1));
    return put_tags(o, "tags", was, is);
}

static enum tg_code put_decision(struct tg_buf *o, const struct explain *x)
{
    const struct tg_decision *d = &x->e.decision;
    const struct tg_retention *r = &d->retention;
    char keep[32], every[32];
    const char *sep = "";
    if (!d->targets) return tg_buf_printf(o, "targets    none: dropped by rule\n");
    TG_TRY(tg_buf_printf(o, "targets    "));
    for (unsigned i = 0; i < x->config.n_backends; i++) {
        if (!(d->targets >> i & 1)) continue;
        TG_TRY(tg_buf_printf(o, "%s%s%s", sep, x->config.backends[i].name,
                             d->wait >> i & 1 ? " (acknowledgement waits)" : ""));
        sep = ", ";
    }
    TG_TRY(tg_buf_printf(o, "\nstrategy   %s\nretention  %s",
                         tg_strategy_name((enum tg_strategy)d->strategy),
                         tg_explain_duration(keep, sizeof(keep), r->keep_ms)));
    for (uint32_t i = 0; i < r->n_rollups; i++)
        TG_TRY(tg_buf_printf(o, "%s %s for %s", i ? "," : "; rolled up",
                             tg_explain_duration(every, sizeof(every), r->rollups[i].every_ms),
                             tg_explain_duration(keep, sizeof(keep), r->rollups[i].keep_ms)));
    return tg_buf_append(o, "\n", 1);
}

static enum tg_code put_steps(struct tg_buf *o, const struct tg_rules_trace *trace)
{
    TG_TRY(tg_buf_printf(o, "\ndecided by the scripts on disk\n"));
    for (size_t i = 0; i < sizeof(trace->steps) / sizeof(trace->steps[0]); i++) {
        char where[128];
        if (trace->steps[i].line)
            (void)snprintf(where, sizeof(where), "%s:%d", trace->steps[i].file,
                           trace->steps[i].line);
        else
            (void)snprintf(where, sizeof(where), "%s",
                           trace->steps[i].file[0] ? trace->steps[i].file : "(default)");
        TG_TRY(tg_buf_printf(o, "  %-10s %-24s ", trace->steps[i].what, where));
        TG_TRY(tg_cmd_put_text(o, trace->steps[i].note, false));
        TG_TRY(tg_buf_append(o, "\n", 1));
    }
    return TG_OK;
}

static enum tg_code put_backend(struct tg_buf *o, const json_t *b)
{
    const char *why = json_string_value(json_object_get(b, "last_error"));
    const json_int_t waiting = json_integer_value(json_object_get(b, "waiting"));
    TG_TRY(tg_buf_printf(o, "  %-10s ", json_string_value(json_object_get(b, "name"))));
    if (waiting == 0) return tg_buf_printf(o, "has all that was accepted\n");
    TG_TRY(tg_buf_printf(
        o, "%" JSON_INTEGER_FORMAT " points of all series wait, the oldest for %.1f s; %s", waiting,
        (double)json_integer_value(json_object_get(b, "lag_ms")) / 1000,
        json_string_value(json_object_get(b, "state"))));
    if (why && *why) {
        TG_TRY(tg_buf_printf(o, ": "));
        TG_TRY(tg_cmd_put_text(o, why, false));
    }
    return tg_buf_append(o, "\n", 1);
}

/* Series that are one with it, by the rules or by a backend's naming. */
static enum tg_code put_merges(struct tg_buf *o, const struct explain *x)
{
    const json_t *m = json_object_get(x->gateway, "merged");
    const json_int_t n = json_integer_value(json_object_get(m, "series"));
    const char *first = json_string_value(json_object_get(m, "first"));
    size_t i;
    const json_t *v;
    if (n > 1) {
        TG_TRY(tg_buf_printf(
            o, "  merged     the rules make one of %" JSON_INTEGER_FORMAT " live series; ", n));
        TG_TRY(tg_buf_printf(o, first && *first ? "the first is " : "this is the first"));
        TG_TRY(tg_cmd_put_text(o, first ? first : "", false));
        TG_TRY(tg_buf_append(o, "\n", 1));
    }
    json_array_foreach(json_object_get(m, "taken"), i, v)
    {
        TG_TRY(tg_buf_printf(
            o, "  %-10s dead letters: ", json_string_value(json_object_get(v, "backend"))));
        TG_TRY(tg_cmd_put_text(o, json_string_value(json_object_get(v, "reason")), false));
        TG_TRY(tg_buf_append(o, "\n", 1));
    }
    return TG_OK;
}

/* "90 s", "12 min", "3 h". */
static enum tg_code put_age(struct tg_buf *o, json_int_t ms)
{
    const json_int_t s = ms / 1000;
    return s < 120    ? tg_buf_printf(o, "%" JSON_INTEGER_FORMAT " s", s)
           : s < 7200 ? tg_buf_printf(o, "%" JSON_INTEGER_FORMAT " min", s / 60)
                      : tg_buf_printf(o, "%" JSON_INTEGER_FORMAT " h", s / 3600);
}

static enum tg_code put_names(struct tg_buf *o, const json_t *names)
{
    size_t i;
    const json_t *v;
    json_array_foreach(names, i, v)
        TG_TRY(tg_buf_printf(o, "%s%s", i ? ", " : "", json_string_value(v)));
    return json_array_size(names) ? TG_OK : tg_buf_printf(o, "no backend: dropped by rule");
}

/* Scripts that are not run decide nothing, whatever is on disk or in force. */
static enum tg_code put_breaker(struct tg_buf *o, const json_t *rules)
{
    const char *why = json_string_value(json_object_get(rules, "last_error"));
    if (!json_is_true(json_object_get(rules, "breaker_open"))) return TG_OK;
    TG_TRY(tg_buf_printf(o, "  not run    for "));
    TG_TRY(put_age(o, json_integer_value(json_object_get(rules, "breaker_open_ms"))));
    TG_TRY(tg_buf_printf(o, ": the scripts overran their budgets too often; series keep their last "
                            "decision, new ones\n             take the on_error route. Mend the "
                            "script, then reload: tidegate check, POST /-/reload\n"));
    if (!why || !*why) return TG_OK;
    TG_TRY(tg_buf_printf(o, "             last error: "));
    TG_TRY(tg_cmd_put_text(o, why, false));
    return tg_buf_append(o, "\n", 1);
}

/* Whether the rules in force decide as the scripts on disk do. */
static enum tg_code compare(const struct explain *x, bool *is_same)
{
    static const char *const members[] = {"mapped",   "targets",   "wait",
                                          "strategy", "retention", "failed"};
    struct tg_buf text;
    tg_buf_init(&text, 16 << 20);
    enum tg_code code = tg_explain_json(&text, &x->e, &x->config, NULL, NULL);
    json_t *disk = code == TG_OK ? json_loadb((char *)text.data, text.len, 0, NULL) : NULL;
    *is_same = true;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        *is_same &= disk && json_equal(json_object_get(disk, members[i]),
                                       json_object_get(x->gateway, members[i])) == 1;
    if (code == TG_OK && !disk) code = TG_ERR_NOMEM;
    json_decref(disk);
    tg_buf_deinit(&text);
    return code;
}

/* Name and tags by the rules in force, where they are not those on disk. */
static enum tg_code put_difference(struct tg_buf *o, const struct explain *x)
{
    const struct tg_series_desc *was = &x->e.series;
    const struct tg_series_desc *is = &x->in_force;
    bool is_same;
    TG_TRY(compare(x, &is_same));
    if (is_same) return TG_OK;
    TG_TRY(tg_buf_printf(o, "  these are other rules than the scripts on disk, which come in force "
                            "with a reload (POST /-/reload)\n"));
    if (json_is_true(json_object_get(x->gateway, "failed"))) {
        const char *why = json_string_value(json_object_get(x->gateway, "error"));
        TG_TRY(tg_buf_printf(o, "  fails      "));
        TG_TRY(tg_cmd_put_text(o, why ? why : "", false));
        return tg_buf_append(o, "\n", 1);
    }
    TG_TRY(tg_buf_printf(o, "  name       "));
    TG_TRY(put(o, is->name, is->name_len));
    TG_TRY(tg_buf_append(o, "\n", 1));
    return put_tags(o, "  tags", was, is);
}

/* What the plan of the series stands for, when that is not simply the rules in force. */
static enum tg_code put_standing(struct tg_buf *o, const struct explain *x, const json_t *f)
{
    const json_t *rules = json_object_get(x->gateway, "rules");
    const json_int_t of = json_integer_value(json_object_get(f, "generation"));
    const json_int_t now = json_integer_value(json_object_get(rules, "generation"));
    const bool is_broken = json_is_true(json_object_get(rules, "breaker_open"));
    if (json_is_true(json_object_get(f, "kept")))
        TG_TRY(tg_buf_printf(o, "; a rule failed for it: its last good decision is kept, with the "
                                "name and tags of that"));
    else if (of == 0)
        TG_TRY(tg_buf_printf(o, "; the on_error route, for now: the scripts were not run"));
    else if (json_is_true(json_object_get(f, "failed")))
        TG_TRY(tg_buf_printf(o, "; a rule failed for it: the on_error route"));
    if (of == now) return tg_buf_append(o, "\n", 1);
    if (of > 0) TG_TRY(tg_buf_printf(o, "; so decided generation %" JSON_INTEGER_FORMAT, of));
    if (is_broken) return tg_buf_printf(o, "; decided again once the scripts are run\n");
    TG_TRY(tg_buf_printf(o, "\n             decided again with its next point, then goes to "));
    TG_TRY(put_names(o, json_object_get(x->gateway, "targets")));
    return tg_buf_append(o, "\n", 1);
}

static enum tg_code put_in_force(struct tg_buf *o, const struct explain *x)
{
    const json_t *f = json_object_get(x->gateway, "in_force");
    const json_t *rules = json_object_get(x->gateway, "rules");
    size_t i;
    const json_t *v;
    if (!x->gateway) return TG_OK;
    TG_TRY(tg_buf_printf(o, "\nin force at %s (generation %" JSON_INTEGER_FORMAT ")\n", x->url,
                         json_integer_value(json_object_get(rules, "generation"))));
    TG_TRY(put_breaker(o, rules));
    TG_TRY(put_difference(o, x));
    if (!f) {
        TG_TRY(tg_buf_printf(o, "  goes to    "));
        TG_TRY(put_names(o, json_object_get(x->gateway, "targets")));
        return tg_buf_printf(o, ", once it has a point\n");
    }
    TG_TRY(tg_buf_printf(o, "  goes to    "));
    TG_TRY(put_names(o, json_object_get(f, "targets")));
    TG_TRY(put_standing(o, x, f));
    TG_TRY(put_merges(o, x));
    json_array_foreach(json_object_get(x->gateway, "backends"), i, v) TG_TRY(put_backend(o, v));
    return TG_OK;
}

static enum tg_code put_all(struct tg_buf *o, const struct explain *x)
{
    TG_TRY(put_series(o, x));
    TG_TRY(put_decision(o, x));
    TG_TRY(put_steps(o, &x->e.trace));
    if (x->e.decision.failed)
        TG_TRY(tg_buf_printf(o, "\nA rule failed: a series that has a last good decision keeps it, "
                                "any other takes the on_error route.\n"));
    return put_in_force(o, x);
}

/* --- the command --- */

static enum tg_code decide(struct explain *x, struct tg_err *err)
{
    struct tg_rules *rules = NULL;
    x->e.series = x->like;
    if (json_is_true(json_object_get(x->gateway, "live"))) {
        TG_TRY(read_desc(x, "series", &x->e.series, err));
        x->e.is_live = true;
    }
    if (x->gateway) TG_TRY(read_desc(x, "mapped", &x->in_force, err));
    tg_log_set_level(TG_LOG_ERROR); /* warnings are for check */
    TG_TRY(tg_rules_new(&x->config.rules, &rules, err));
    enum tg_code code =
        tg_rules_decide(rules, 0, &x->e.series, x->arena, &x->e.decision, &x->e.trace);
    if (code != TG_OK) code = tg_fail(err, code, "out of memory");
    tg_rules_free(rules);
    return code;
}

static int explain(struct explain *x)
{
    struct tg_err err = {.msg = ""};
    struct tg_buf out;
    if (tg_explain_read(&x->words, x->arena, &x->like, &err) != TG_OK)
        return tg_usage_error(x->args->cmd, "%s", err.msg);
    if (tg_cmd_load_config(x->args, x->arena, &x->config) != TG_OK) return TG_EXIT_FAILED;
    if (!find_gateway(x)) return TG_EXIT_USAGE;
    if (!ask_gateway(x)) return TG_EXIT_FAILED;
    if (decide(x, &err) != TG_OK) return tg_command_failed(x->args->cmd, "%s", err.msg);
    tg_buf_init(&out, 16 << 20);
    const enum tg_code code =
        tg_args_has(x->args, "json")
            ? tg_explain_json(&out, &x->e, &x->config, NULL, x->gateway ? &x->answer.body : NULL)
            : put_all(&out, x);
    if (code == TG_OK)
        (void)fwrite(out.data, 1, out.len, stdout);
    else
        (void)tg_command_failed(x->args->cmd, "out of memory");
    tg_buf_deinit(&out);
    return code == TG_OK && !x->e.decision.failed ? TG_EXIT_OK : TG_EXIT_FAILED;
}

static int run(const struct tg_args *args)
{
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    struct explain *x = tg_arena_calloc(&arena, 1, sizeof(*x));
    if (!x) return tg_command_failed(args->cmd, "out of memory");
    x->args = args;
    x->arena = &arena;
    x->words = (struct tg_explain_words){
        .series = args->n_words ? args->words[0] : NULL,
        .line = tg_args_value(args, "line"),
        .measurement = tg_args_value(args, "measurement"),
        .field = tg_args_value(args, "field"),
        .kind = tg_args_value(args, "kind"),
        .unit = tg_args_value(args, "unit"),
        .resource = tg_args_value(args, "resource"),
        .scope = tg_args_value(args, "scope"),
    };
    const int code = explain(x);
    json_decref(x->gateway);
    tg_admin_answer_deinit(&x->answer);
    tg_arena_deinit(&arena);
    return code;
}

static const struct tg_flag flags[] = {
    {"config", 'c', "FILE", "the configuration (scripts/gateway.lua)"},
    {"kind", 'k', "KIND", "gauge, counter, histogram, exponential_histogram or summary"},
    {"unit", 'u', "UNIT", "unit of the series, as the sender says it"},
    {"line", 'l', "LINE", "instead of a series: a line of the Influx protocol with one field"},
    {"measurement", 'm', "NAME", "instead of a name: an Influx series' measurement"},
    {"field", 'f', "NAME", "and its field"},
    {"resource", 0, "KEYS", "tags of OpenTelemetry's resource: service.name,host.name"},
    {"scope", 0, "KEYS", "tags of its scope"},
    {"admin", 'a', "ADDR", "the gateway to ask (listen.admin, or $TIDEGATE_ADMIN)"},
    {"offline", 0, NULL, "ask no gateway"},
    {"json", 'j', NULL, "print JSON"},
    {0},
};

const struct tg_cmd tg_cmd_explain = {
    .name = "explain",
    .summary = "what the rules decide for a series, and which line decided it",
    .synopsis = "'METRIC{TAG=\"VALUE\", ...}' [--config scripts/gateway.lua]",
    .details =
        "Decides by the rules as they are on disk. A running gateway is asked for the live series "
        "with that name\nand these tags: then it is the one that is decided, with its kind, unit, "
        "field and the origins of its tags,\nand what is in force for it and how far its backends "
        "are is shown, too. Without a gateway, or a live series,\nwhat you give is decided. Exit "
        "code 1 when a rule fails.",
    .examples =
        "  tidegate explain 'http.server.duration{service.name=\"shop\", team=\"billing\"}'\n"
        "  tidegate explain debug.heap --kind gauge\n"
        "  tidegate explain 'up{service.name=\"shop\"}' --resource service.name\n"
        "  tidegate explain --line 'cpu,host=a usage_user=1'\n",
    .flags = flags,
    .min_words = 0,
    .max_words = 1,
    .run = run,
};
