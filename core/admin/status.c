/* status.c: GET /api/status, / and /metrics: the state of the gateway and its ledgers. */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/admin/admin_impl.h"
#include "core/admin/explain.h"
#include "core/base/clock.h"

/* --- JSON -------------------------------------------------------------------------------------*/

static json_t *num(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static int64_t age_ms(int64_t wall_ns)
{
    const int64_t age = (tg_clock_wall_ns() - wall_ns) / 1000000;
    return age > 0 ? age : 0; /* the clock was set back */
}

/* jansson refuses text that is not UTF-8; messages of others may be anything. */
static json_t *text(const char *s)
{
    json_t *j = json_string(s);
    return j ? j : json_string("(not UTF-8)");
}

/* Adds and owns `value` even on failure; one look at `*ok` at the end tells of any. */
static void put(json_t *object, bool *ok, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) *ok = false;
}

static bool is_balanced(const struct tg_ledger *l)
{
    return l->received + l->rewound == l->before + l->delivered + l->waiting + l->inexpressible +
                                           l->dead_lettered + l->dropped + l->elsewhere + l->lost +
                                           l->skipped;
}

static json_t *backend_json(const struct tg_backend_status *b, bool *ok)
{
    json_t *o = json_object();
    const struct tg_ledger *l = &b->ledger;
    put(o, ok, "name", text(b->name));
    put(o, ok, "type", text(b->type));
    put(o, ok, "state", text(tg_delivery_state_name(b->state)));
    put(o, ok, "healthy", json_boolean(b->healthy));
    put(o, ok, "merged_series", num(b->n_merged));
    put(o, ok, "position", num(b->cursor_pos));
    put(o, ok, "epoch", num(b->epoch));
    put(o, ok, "lag_ms", json_integer(b->lag_ms));
    put(o, ok, "writes", num(b->n_writes));
    put(o, ok, "retries", num(b->n_retries));
    put(o, ok, "last_error", text(b->last_error));
    put(o, ok, "last_error_age_ms",
        b->last_error[0] ? json_integer(age_ms(b->last_error_ns)) : json_null());
    put(o, ok, "well_age_ms", b->well_ns ? json_integer(age_ms(b->well_ns)) : json_null());
    json_t *j = json_object();
    put(j, ok, "received", num(l->received));
    put(j, ok, "rewound", num(l->rewound));
    put(j, ok, "before", num(l->before));
    put(j, ok, "delivered", num(l->delivered));
    put(j, ok, "waiting", num(l->waiting));
    put(j, ok, "inexpressible", num(l->inexpressible));
    put(j, ok, "dead_lettered", num(l->dead_lettered));
    put(j, ok, "dropped", num(l->dropped));
    put(j, ok, "elsewhere", num(l->elsewhere));
    put(j, ok, "lost", num(l->lost));
    put(j, ok, "skipped", num(l->skipped));
    put(j, ok, "balanced", json_boolean(is_balanced(l)));
    put(o, ok, "ledger", j);
    return o;
}

/* Series that would be one with another: how many, and the newest ones by name. */
static json_t *merges_json(const struct tg_gateway_status *s, bool *ok)
{
    json_t *o = json_object();
    json_t *list = json_array();
    put(o, ok, "series", num(s->n_merged));
    for (unsigned i = 0; i < s->n_merge_examples; i++) {
        const struct tg_merge_example *e = &s->merges[i];
        const bool by_rules = e->space == TG_FORMS_MAPPED;
        json_t *j = json_object();
        put(j, ok, "by", text(by_rules ? "rules" : "backend"));
        put(j, ok, "backend", by_rules ? json_null() : text(s->backends[e->space].name));
        put(j, ok, "series", num(s->n_merge_series[i]));
        put(j, ok, "mapped", text(e->form));
        put(j, ok, "first", text(e->first));
        put(j, ok, "later", text(e->later));
        if (json_array_append_new(list, j) != 0) *ok = false;
    }
    put(o, ok, "examples", list);
    return o;
}

static json_t *status_json(const struct tg_admin *a, const struct tg_gateway_status *s, bool *ok)
{
    char why[256], but[160];
    const char *not_ready = tg_gateway_not_ready(a->gateway, why, sizeof(why));
    json_t *o = json_object();
    put(o, ok, "version", text(TG_VERSION));
    put(o, ok, "start_ns", json_integer(s->start_ns));
    put(o, ok, "now_ns", json_integer(tg_clock_wall_ns()));
    put(o, ok, "ready", json_boolean(not_ready == NULL));
    put(o, ok, "not_ready", not_ready ? text(not_ready) : json_null());
    const char *stuck = tg_gateway_stuck(a->gateway, but, sizeof(but));
    put(o, ok, "stuck", stuck[0] ? text(stuck + 2) : json_null());
    put(o, ok, "generation", num(s->generation));
    put(o, ok, "memory_bytes", num(s->memory_bytes));
    put(o, ok, "memory_limit_bytes", num(a->config.config->limits.max_memory_bytes));

    json_t *j = json_object();
    put(j, ok, "received", num(s->n_received));
    put(j, ok, "accepted", num(s->n_accepted));
    put(j, ok, "logged", num(s->n_logged));
    put(j, ok, "dropped", num(s->n_dropped));
    put(j, ok, "rejected", num(s->n_rejected));
    put(j, ok, "requests", num(s->n_requests));
    put(j, ok, "waiting_acks", num(s->n_waiting_acks));
    put(j, ok, "undecided_requests", num(s->n_undecided));
    put(o, ok, "points", j);

    j = json_object();
    put(j, ok, "running", num(s->n_queries_running));
    put(j, ok, "waiting", num(s->n_queries_waiting));
    put(j, ok, "refused", num(s->n_queries_refused));
    put(o, ok, "queries", j);

    const struct tg_log_stats *g = &s->log;
    j = json_object();
    put(j, ok, "id", text(s->log_id));
    put(j, ok, "start_position", num(g->start_pos));
    put(j, ok, "end_position", num(g->end_pos));
    put(j, ok, "bytes", num(g->bytes));
    put(j, ok, "max_bytes", num(a->config.config->log.max_bytes));
    put(j, ok, "full", json_boolean(g->full));
    put(j, ok, "segments", num(g->n_segments));
    put(j, ok, "queued_batches", num(g->n_queued_batches));
    put(j, ok, "queued_points", num(g->n_queued_points));
    put(j, ok, "commits", num(g->n_commits));
    put(j, ok, "syncs", num(g->n_syncs));
    put(j, ok, "sync_failures", num(g->n_sync_failures));
    put(j, ok, "refused", num(g->n_refused));
    put(j, ok, "damaged_records", num(g->n_damaged_records));
    put(j, ok, "damaged_bytes", num(g->n_damaged_bytes));
    put(j, ok, "replaced_segments", num(g->n_replaced));
    put(o, ok, "log", j);

    const struct tg_table_stats *t = &s->table;
    j = json_object();
    put(j, ok, "live", num(t->n_series));
    put(j, ok, "idle_held", num(t->n_held));
    put(j, ok, "max", num(a->config.config->limits.max_series));
    put(j, ok, "raw_keys", num(t->n_raw_keys));
    put(j, ok, "symbols", num(t->n_symbols));
    put(j, ok, "created", num(t->n_created));
    put(j, ok, "evicted", num(t->n_evicted));
    put(j, ok, "refused", num(t->n_refused));
    put(o, ok, "series", j);

    const struct tg_rules_stats *r = &s->rules;
    j = json_object();
    put(j, ok, "decisions", num(r->n_decisions));
    put(j, ok, "errors", num(r->n_errors));
    put(j, ok, "failed_series", num(t->n_failed));
    put(j, ok, "budget_overruns", num(r->n_budget_overruns));
    put(j, ok, "breaker_open", json_boolean(r->is_breaker_open));
    put(j, ok, "breaker_open_ms", num(r->breaker_open_ms));
    put(j, ok, "not_run", num(r->n_not_run));
    put(j, ok, "reloads", num(r->n_reloads));
    put(j, ok, "reload_failures", num(r->n_reload_failures));
    put(j, ok, "last_error", text(r->last_error));
    put(o, ok, "rules", j);
    put(o, ok, "merged", merges_json(s, ok));

    json_t *list = json_array();
    for (unsigned i = 0; i < s->n_backends; i++)
        if (json_array_append_new(list, backend_json(&s->backends[i], ok)) != 0) *ok = false;
    put(o, ok, "backends", list);
    return o;
}

void tg_admin_status_json(struct tg_admin *a, struct tg_http_request *req)
{
    tg_gateway_status(a->gateway, &a->status);
    bool ok = true;
    json_t *o = status_json(a, &a->status, &ok);
    char *body = ok ? json_dumps(o, JSON_INDENT(1)) : NULL;
    if (body)
        tg_http_reply(req, 200, "application/json", body, strlen(body), NULL, 0);
    else
        tg_admin_reply_error(req, 503, "out of memory");
    free(body); /* jansson's */
    json_decref(o);
}

/* --- the page for people
 * ------------------------------------------------------------------------*/

struct page {
    struct tg_buf buf;
    enum tg_code code;
};

static void add(struct page *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct page *p, const char *fmt, ...)
{
    char part[2048];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(part, sizeof(part), fmt, ap);
    va_end(ap);
    if (n < 0 || p->code != TG_OK) return;
    const size_t len = (size_t)n < sizeof(part) ? (size_t)n : sizeof(part) - 1;
    p->code = tg_buf_append(&p->buf, part, len);
}

static void add_escaped(struct page *p, const char *s)
{
    for (; *s; s++) {
        switch (*s) {
        case '<': add(p, "&lt;"); break;
        case '>': add(p, "&gt;"); break;
        case '&': add(p, "&amp;"); break;
        case '"': add(p, "&quot;"); break;
        default: add(p, "%c", *s);
        }
    }
}

/* 1234567 as "1 234 567", with thin spaces. */
static void add_number(struct page *p, uint64_t v)
{
    char digits[24];
    const int n = snprintf(digits, sizeof(digits), "%" PRIu64, v);
    for (int i = 0; i < n; i++)
        add(p, "%s%c", i > 0 && (n - i) % 3 == 0 ? "&#8239;" : "", digits[i]);
}

static void add_cell(struct page *p, uint64_t v, const char *cls)
{
    add(p, "<td class=\"n %s\">", v ? cls : "z");
    add_number(p, v);
    add(p, "</td>");
}

static void add_bytes(struct page *p, uint64_t v)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double d = (double)v;
    size_t u = 0;
    for (; d >= 1024 && u < 4; u++) d /= 1024;
    add(p, u ? "%.1f %s" : "%.0f %s", d, units[u]);
}

static void add_fact(struct page *p, const char *name, uint64_t v)
{
    add(p, "<div><b>");
    add_number(p, v);
    add(p, "</b><span>%s</span></div>", name);
}

/* "40 s", "12 min", "3 h", "9 d". */
static void age_text(char *out, size_t cap, int64_t wall_ns)
{
    const int64_t s = age_ms(wall_ns) / 1000;
    const int64_t n = s < 120 ? s : s < 7200 ? s / 60 : s < 172800 ? s / 3600 : s / 86400;
    (void)snprintf(out, cap, "%" PRId64 " %s", n,
                   s < 120      ? "s"
                   : s < 7200   ? "min"
                   : s < 172800 ? "h"
                                : "d");
}

static void add_problem_text(struct page *p, const char *where, const char *what)
{
    add(p, "<b>");
    add_escaped(p, where);
    add(p, "</b> ");
    add_escaped(p, what);
    add(p, "</li>");
}

static void add_problem(struct page *p, const char *where, const char *what)
{
    add(p, "<li>");
    add_problem_text(p, where, what);
}

static void add_problems(struct page *p, const struct tg_gateway_status *s)
{
    char msg[160];
    bool any = s->rules.last_error[0] || s->log.n_damaged_records || s->log.n_sync_failures ||
               s->log.n_replaced;
    for (unsigned i = 0; i < s->n_backends; i++) any |= s->backends[i].last_error[0] != '\0';
    add(p, "<h2>Last errors</h2>");
    if (!any) {
        add(p, "<p>None.</p>");
        return;
    }
    add(p, "<ul>");
    if (s->rules.last_error[0]) add_problem(p, "rules", s->rules.last_error);
    if (s->log.n_sync_failures) {
        (void)snprintf(msg, sizeof(msg), "%" PRIu64 " writes could not be made safe on disk",
                       s->log.n_sync_failures);
        add_problem(p, "log", msg);
    }
    if (s->log.n_damaged_records) {
        (void)snprintf(msg, sizeof(msg),
                       "%" PRIu64 " damaged records (%" PRIu64 " bytes) were set aside",
                       s->log.n_damaged_records, s->log.n_damaged_bytes);
        add_problem(p, "log", msg);
    }
    if (s->log.n_replaced) {
        (void)snprintf(msg, sizeof(msg),
                       "%" PRIu64 " segments were removed, replaced or cut short by somebody else",
                       s->log.n_replaced);
        add_problem(p, "log", msg);
    }
    for (unsigned i = 0; i < s->n_backends; i++) {
        const struct tg_backend_status *b = &s->backends[i];
        if (!b->last_error[0]) continue;
        char ago[32], well[32];
        age_text(ago, sizeof(ago), b->last_error_ns);
        if (b->well_ns) {
            age_text(well, sizeof(well), b->well_ns);
            add(p, "<li class=s>");
            (void)snprintf(msg, sizeof(msg), "%.60s, %s ago, well again for %s:", b->name, ago,
                           well);
        } else {
            add(p, "<li class=bad>");
            (void)snprintf(msg, sizeof(msg), "%.60s, %s ago:", b->name, ago);
        }
        add_problem_text(p, msg, b->last_error);
    }
    add(p, "</ul>");
}

static void add_merges(struct page *p, const struct tg_gateway_status *s)
{
    uint64_t n = s->n_merged;
    for (unsigned i = 0; i < s->n_backends; i++) n += s->backends[i].n_merged;
    if (!n && !s->n_merge_examples) return;
    add(p, "<h2>Series that become one</h2><div class=f>");
    add_fact(p, "live series that the rules make one with another", s->n_merged);
    for (unsigned i = 0; i < s->n_backends; i++) {
        if (!s->backends[i].n_merged) continue;
        add(p, "<div><b>");
        add_number(p, s->backends[i].n_merged);
        add(p, "</b><span>whose points are dead letters at ");
        add_escaped(p, s->backends[i].name);
        add(p, "</span></div>");
    }
    add(p, "</div><ul>");
    for (unsigned i = 0; i < s->n_merge_examples; i++) {
        const struct tg_merge_example *e = &s->merges[i];
        const bool by_rules = e->space == TG_FORMS_MAPPED;
        add(p, "<li><b>");
        add_escaped(p, by_rules ? "rules" : s->backends[e->space].name);
        add(p, "</b> %" PRIu64 " series: ", s->n_merge_series[i]);
        add_escaped(p, e->first);
        add(p, ", ");
        add_escaped(p, e->later);
        add(p, by_rules ? " become " : " would be one there</li>");
        if (by_rules) add_escaped(p, e->form);
        if (by_rules) add(p, "</li>");
    }
    add(p, "</ul>");
}

static void add_backends(struct page *p, const struct tg_gateway_status *s)
{
    add(p, "<h2>Backends</h2><div class=w><table><tr><th>name<th>type<th>state<th class=n>delivered"
           "<th class=n>waiting<th class=n>lag<th class=n>dead letters<th>ledger"
           "<th class=n>inexpressible<th class=n>elsewhere<th class=n>dropped"
           "<th class=n>lost<th class=n>skipped<th class=n>before<th class=n>rewound</tr>");
    for (unsigned i = 0; i < s->n_backends; i++) {
        const struct tg_backend_status *b = &s->backends[i];
        add(p, "<tr><td>");
        add_escaped(p, b->name);
        add(p, "<td>");
        add_escaped(p, b->type);
        add(p, "<td class=%s>%s%s", b->healthy ? "ok" : "bad", tg_delivery_state_name(b->state),
            b->healthy ? "" : ", unhealthy");
        add_cell(p, b->ledger.delivered, "");
        add_cell(p, b->ledger.waiting, "");
        add(p, "<td class=n>%.1f s", (double)b->lag_ms / 1000);
        add_cell(p, b->ledger.dead_lettered, "bad");
        add(p, "<td class=%s>%s", is_balanced(&b->ledger) ? "ok" : "bad",
            is_balanced(&b->ledger) ? "balanced" : "NOT balanced");
        add_cell(p, b->ledger.inexpressible, "");
        add_cell(p, b->ledger.elsewhere, "");
        add_cell(p, b->ledger.dropped, "");
        add_cell(p, b->ledger.lost, "bad");
        add_cell(p, b->ledger.skipped, "");
        add_cell(p, b->ledger.before, "");
        add_cell(p, b->ledger.rewound, "");
        add(p, "</tr>");
    }
    add(p, "</table></div><p class=s>received + rewound = before + delivered + waiting + "
           "inexpressible + dead letters + dropped + elsewhere + lost + skipped, for every "
           "backend. All since the backend's cursor was made; dropped since this start.</p>");
}

void tg_admin_status_page(struct tg_admin *a, struct tg_http_request *req)
{
    struct tg_gateway_status *s = &a->status;
    tg_gateway_status(a->gateway, s);
    struct page p = {.code = TG_OK};
    tg_buf_init(&p.buf, 1 << 20);
    char why[256];
    const char *not_ready = tg_gateway_not_ready(a->gateway, why, sizeof(why));
    const int64_t up_s = (tg_clock_wall_ns() - s->start_ns) / 1000000000;

    add(&p,
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5>"
        "<meta name=viewport content=\"width=device-width\"><title>Tidegate</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;padding:0 1rem;max-width:76rem;"
        "color:#1c2733;background:#fff}h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:"
        "1.6rem 0 .5rem}table{border-collapse:collapse;width:100%%}th,td{text-align:left;padding:"
        ".3rem .5rem .3rem 0;font-size:.93rem;border-bottom:1px solid "
        "#e3e8ee;white-space:nowrap}th{font-weight:"
        "600;color:#566474}.n{text-align:right;font-variant-numeric:tabular-nums}.z{color:#a8b3bf}"
        ".ok{color:#136c3b}.bad{color:#b3261e;font-weight:600}.s{color:#566474;font-size:.85rem}"
        ".f{display:flex;flex-wrap:wrap;gap:.6rem 2.2rem}.f div{display:flex;flex-direction:column}"
        ".f b{font-size:1.2rem;font-variant-numeric:tabular-nums}.f span{color:#566474;font-size:"
        ".85rem}.w{overflow-x:auto}meter{width:14rem;height:1rem;vertical-align:middle}li{overflow-"
        "wrap:anywhere}</style>");
    add(&p,
        "<h1>Tidegate <span class=s>" TG_VERSION ", up %" PRId64 "d %02" PRId64 ":%02" PRId64
        ":%02" PRId64 "</span></h1>",
        up_s / 86400, up_s / 3600 % 24, up_s / 60 % 60, up_s % 60);
    if (not_ready) {
        add(&p, "<p class=bad>Not ready: ");
        add_escaped(&p, not_ready);
        add(&p, "</p>");
    } else {
        char but[160];
        const char *stuck = tg_gateway_stuck(a->gateway, but, sizeof(but));
        add(&p, "<p class=%s>Ready for traffic on port %u", stuck[0] ? "bad" : "ok",
            (unsigned)tg_gateway_http_port(a->gateway));
        add_escaped(&p, stuck);
        add(&p, stuck[0] ? "; what comes in waits in the log.</p>" : ".</p>");
    }
    add(&p, "<h2>Points since this start</h2><div class=f>");
    add_fact(&p, "accepted", s->n_accepted);
    add_fact(&p, "dropped by rule, of these", s->n_dropped);
    add_fact(&p, "rejected", s->n_rejected);
    add_fact(&p, "requests", s->n_requests);
    add_fact(&p, "requests wait for an acknowledgement", s->n_waiting_acks);
    if (s->n_undecided) add_fact(&p, "requests told to come back by slow rules", s->n_undecided);
    if (s->n_queries_running) add_fact(&p, "queries run", s->n_queries_running);
    if (s->n_queries_waiting) add_fact(&p, "queries wait", s->n_queries_waiting);
    if (s->n_queries_refused) add_fact(&p, "queries refused", s->n_queries_refused);
    add(&p, "</div>");
    add_backends(&p, s);
    add_merges(&p, s);

    const uint64_t max = a->config.config->log.max_bytes;
    add(&p, "<h2>Log</h2><p><meter min=0 max=100 high=90 value=%.1f></meter> ",
        max ? 100.0 * (double)s->log.bytes / (double)max : 0.0);
    add_bytes(&p, s->log.bytes);
    add(&p, " of ");
    add_bytes(&p, max);
    add(&p, " in %" PRIu64 " segments; ", s->log.n_segments);
    add_number(&p, s->n_logged);
    add(&p, " points since it began%s</p>",
        s->log.full ? ", <b class=bad>full: new data is refused</b>" : "");
    add(&p, "<h2>Rules</h2><p>Generation %" PRIu64 ", ", s->generation);
    add_number(&p, s->rules.n_decisions);
    add(&p, " decisions, ");
    add_number(&p, s->rules.n_errors);
    add(&p, " errors, ");
    add_number(&p, s->table.n_failed);
    add(&p, " series whose rules fail, ");
    add_number(&p, s->rules.n_reload_failures);
    add(&p, " failed reloads.");
    if (s->rules.is_breaker_open) {
        add(&p,
            " <b class=bad>Not run for %" PRIu64 " s: they overran their budgets too often (see "
            "below); series keep their last decision, new ones take the on_error route (",
            s->rules.breaker_open_ms / 1000);
        add_number(&p, s->rules.n_not_run);
        add(&p, " decisions so far). Mend the script and reload.</b>");
    }
    add(&p, "</p><h2>Memory</h2><p>");
    add_bytes(&p, s->memory_bytes);
    add(&p, " of ");
    add_bytes(&p, a->config.config->limits.max_memory_bytes);
    add(&p, ", ");
    add_number(&p, s->table.n_series);
    add(&p, " live series of ");
    add_number(&p, a->config.config->limits.max_series);
    if (s->table.n_refused) {
        add(&p, s->table.n_series >= a->config.config->limits.max_series ? ", <b class=bad>full: "
                                                                         : ", <b class=bad>");
        add_number(&p, s->table.n_refused);
        add(&p, " points of new ones refused</b>");
    }
    add(&p, ".</p>");
    add_problems(&p, s);
    add(&p, "<p class=s><a href=/api/status>JSON</a> &middot; <a href=/metrics>metrics</a></p>");
    if (p.code == TG_OK) {
        static const struct tg_http_header_pair headers[] = {
            {"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"},
            {"Cache-Control", "no-store"},
            {"X-Content-Type-Options", "nosniff"},
        };
        tg_http_reply(req, 200, "text/html; charset=utf-8", p.buf.data, p.buf.len, headers, 3);
    } else {
        tg_admin_reply_error(req, 503, "out of memory");
    }
    tg_buf_deinit(&p.buf);
}
