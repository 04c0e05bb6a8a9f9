#include "core/admin/admin.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/admin/admin_impl.h"
#include "core/admin/json.h"
#include "core/base/mem.h"
#include "core/net/http_site.h"

void tg_admin_reply_error(struct tg_http_request *req, int status, const char *fmt, ...)
{
    char msg[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    struct tg_buf out;
    tg_buf_init(&out, 8192);
    enum tg_code code = tg_buf_append(&out, "{\"error\":", 9);
    if (code == TG_OK) code = tg_json_string(&out, msg, strlen(msg));
    if (code == TG_OK) code = tg_buf_append(&out, "}\n", 2);
    static const struct tg_http_header_pair retry = {"Retry-After", "5"};
    const size_t n_headers = status == 503;
    if (code == TG_OK)
        tg_http_reply(req, status, "application/json", out.data, out.len, &retry, n_headers);
    else
        tg_http_reply(req, status, NULL, NULL, 0, &retry, n_headers);
    tg_buf_deinit(&out);
}

bool tg_admin_is_busy(const struct tg_admin *a, struct tg_http_request *req)
{
    if (a->n_pending < TG_ADMIN_MAX_PENDING) return false;
    tg_admin_reply_error(req, 503, "%d requests are under way already; try again later",
                         (int)TG_ADMIN_MAX_PENDING);
    return true;
}

static void healthz(struct tg_admin *a, struct tg_http_request *req)
{
    (void)a;
    tg_http_reply_text(req, 200, "ok");
}

static void readyz(struct tg_admin *a, struct tg_http_request *req)
{
    char buf[256], but[160];
    const char *why = a->gateway ? tg_gateway_not_ready(a->gateway, buf, sizeof(buf)) : "draining";
    if (why)
        tg_http_reply_text(req, 503, "not ready: %s", why);
    else if (a->gateway && tg_gateway_rules_are_broken(a->gateway))
        tg_http_reply_text(req, 200,
                           "ready, but the rules are not run: they overran their budgets too often "
                           "(see /api/status)");
    else /* traffic is welcome all the same: the log keeps it */
        tg_http_reply_text(req, 200, "ready%s", tg_gateway_stuck(a->gateway, but, sizeof(but)));
}

static void metrics(struct tg_admin *a, struct tg_http_request *req)
{
    (void)a;
    struct tg_buf out;
    tg_buf_init(&out, 16 << 20);
    if (tg_metric_render(&out) == TG_OK)
        tg_http_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", out.data, out.len, NULL,
                      0);
    else
        tg_admin_reply_error(req, 503, "out of memory");
    tg_buf_deinit(&out);
}

static const struct endpoint {
    const char *path, *method;
    void (*handle)(struct tg_admin *a, struct tg_http_request *req);
    bool needs_gateway;
    bool is_private; /* not for pages of other sites; probes come by any name */
} endpoints[] = {
    {"/", "GET", tg_admin_status_page, true, true}, /* the front page is the first */
    {"/healthz", "GET", healthz, false, false},
    {"/readyz", "GET", readyz, false, false},
    {"/metrics", "GET", metrics, false, true},
    {"/api/status", "GET", tg_admin_status_json, true, true},
    {"/api/query", "GET", tg_admin_query, true, true},
    {"/api/explain", "GET", tg_admin_explain, true, true},
    {"/-/reload", "POST", tg_admin_reload, true, true},
    {"/-/rewind", "POST", tg_admin_rewind, true, true},
};

/* A page of another site, open in a browser that reaches this port, can make that browser ask here.
 * NULL = let it; else why not. */
static const char *refuse_site(const struct tg_admin *a, const struct tg_http_request *req,
                               bool is_front_page, char *buf, size_t cap)
{
    char quoted[80];
    const char *host = tg_http_header(req, "Host");
    if (!tg_http_host_allowed(host, a->config.config->admin_hosts) &&
        !tg_http_host_allowed(host, a->own_name)) {
        (void)snprintf(buf, cap,
                       "the admin port is not known as %s: ask for it by IP address or as "
                       "localhost, or add the name to listen.hosts",
                       tg_quote(quoted, sizeof(quoted), host, strlen(host)));
        return buf;
    }
    const bool is_foreign =
        tg_http_fetch_is_foreign(req) && !(is_front_page && tg_http_fetch_navigates(req));
    return tg_http_origin_is_own(req) && !is_foreign ? NULL
                                                     : "requests from other sites are refused";
}

static void on_request(struct tg_http_request *req, void *arg)
{
    struct tg_admin *a = arg;
    const char *path = tg_http_path(req);
    const char *method = tg_http_method(req);
    const char *why;
    char text[256];
    for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
        const struct endpoint *e = &endpoints[i];
        if (strcmp(e->path, path) != 0) continue;
        const bool takes_get = strcmp(e->method, "GET") == 0;
        /* The server leaves the body of an answer to HEAD out (RFC 9110, 9.3.2). */
        if (strcmp(e->method, method) != 0 && !(takes_get && strcmp(method, "HEAD") == 0)) {
            const int n = snprintf(text, sizeof(text), "{\"error\":\"%s takes %s only\"}\n",
                                   e->path, e->method);
            const struct tg_http_header_pair allow = {"Allow", takes_get ? "GET, HEAD" : e->method};
            tg_http_reply(req, 405, "application/json", text, (size_t)n, &allow, 1);
        } else if (e->is_private && (why = refuse_site(a, req, i == 0, text, sizeof(text)))) {
            tg_admin_reply_error(req, 403, "%s", why);
        } else if (e->needs_gateway && !a->gateway) {
            tg_admin_reply_error(req, 503, "draining");
        } else {
            e->handle(a, req);
        }
        return;
    }
    tg_admin_reply_error(req, 404,
                         "no such page; there are /, /metrics, /healthz, /readyz, /api/status, "
                         "/api/query, /api/explain, POST /-/reload and POST /-/rewind");
}

/* --- what /metrics says of the process
 * ----------------------------------------------------------*/

static uint64_t read_rss(void *arg)
{
    (void)arg;
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return 0;
    if (fscanf(f, "%*u %llu", &pages) != 1) pages = 0;
    (void)fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t read_cpu_ms(void *arg)
{
    (void)arg;
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) return 0;
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

static uint64_t read_fds(void *arg)
{
    (void)arg;
    DIR *d = opendir("/proc/self/fd");
    if (!d) return 0;
    uint64_t n = 0;
    while (readdir(d)) n++;
    (void)closedir(d);
    return n > 3 ? n - 3 : 0; /* ".", ".." and the folder itself */
}

static void register_metrics(struct tg_admin *a)
{
    struct tg_metric *m = a->metrics;
    tg_metric_register(&m[0], TG_METRIC_GAUGE, "tidegate_build_info", "Always 1; what runs here",
                       "version=\"%s\"", TG_VERSION);
    tg_metric_set(&m[0], 1);
    tg_metric_register_fn(&m[1], TG_METRIC_GAUGE, "process_resident_memory_bytes",
                          "Resident memory of the process", read_rss, NULL, NULL);
    tg_metric_register_seconds(&m[2], TG_METRIC_COUNTER, "process_cpu_seconds_total",
                               "CPU time of the process, user and system", read_cpu_ms, NULL, NULL);
    tg_metric_register_fn(&m[3], TG_METRIC_GAUGE, "process_open_fds",
                          "Open file descriptors of the process", read_fds, NULL, NULL);
    tg_metric_register(&m[4], TG_METRIC_GAUGE, "process_max_fds",
                       "Most file descriptors that the process may open", NULL);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) tg_metric_set(&m[4], limit.rlim_cur);
}

enum tg_code tg_admin_new(const struct tg_admin_config *config, struct tg_admin **out,
                          struct tg_err *err)
{
    struct tg_admin *a = tg_calloc(1, sizeof(*a));
    if (!a) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    a->config = *config;
    a->gateway = config->gateway;
    const struct tg_http_server_config server = {
        .address = config->address,
        .max_body_bytes = 64 << 10,
        .max_inflight_body_bytes = 4 << 20,
        .max_connections = 128,
    };
    const enum tg_code code =
        tg_http_server_new(config->loop, &server, on_request, a, &a->server, err);
    if (code != TG_OK) {
        tg_free(a);
        return code;
    }
    const char *colon = strrchr(config->address, ':');
    (void)snprintf(a->own_name, sizeof(a->own_name), "%.*s",
                   (int)(colon ? colon - config->address : 0), config->address);
    register_metrics(a);
    *out = a;
    return TG_OK;
}

void tg_admin_detach(struct tg_admin *a)
{
    a->gateway = NULL;
}

size_t tg_admin_n_pending(const struct tg_admin *a)
{
    return a->n_pending;
}

void tg_admin_free(struct tg_admin *a)
{
    if (!a) return;
    for (size_t i = 0; i < TG_ADMIN_N_METRICS; i++) tg_metric_unregister(&a->metrics[i]);
    tg_http_server_free(a->server);
    tg_free(a);
}

uint16_t tg_admin_port(const struct tg_admin *a)
{
    return tg_http_server_port(a->server);
}
