#include "core/config/config.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/base/logger.h"
#include "core/config/config_loader.h"

enum { MAX_FILE_BYTES = 1 << 20, MIN_MEMORY_BYTES = 16 << 20 };

void tg_config_add_text(struct tg_config_loader *l, const char *text)
{
    if (l->errors->n == TG_CONFIG_MAX_ERRORS) {
        l->errors->n_more++;
        return;
    }
    const char *copy = tg_arena_strndup(l->arena, text, strlen(text));
    if (!copy) {
        l->is_nomem = true;
        return;
    }
    l->errors->items[l->errors->n++] = copy;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Lua does not say where a field of a table was written. The line is found by looking for `key =`
 * in the text, and given only when there is exactly one such place. */
static int line_of_key(const char *text, const char *key)
{
    const size_t len = strlen(key);
    int line = 1, found = 0;
    if (len == 0) return 0;
    for (const char *p = text; *p; p++) {
        if (*p == '\n') line++;
        if (strncmp(p, key, len) != 0 || (p > text && is_word(p[-1])) || is_word(p[len])) continue;
        const char *q = p + len;
        if (*q == '"' || *q == '\'') q++;
        while (*q == ' ' || *q == '\t' || *q == ']') q++;
        if (q[0] != '=' || q[1] == '=') continue;
        if (found) return 0;
        found = line;
    }
    return found;
}

void tg_config_add_error(struct tg_config_loader *l, const char *key, const char *fmt, ...)
{
    char msg[640];
    const int line = key && l->text ? line_of_key(l->text, key) : 0;
    int n = line ? snprintf(msg, sizeof(msg), "%s:%d: ", l->path, line)
                 : snprintf(msg, sizeof(msg), "%s: ", l->path);
    if (n < 0 || (size_t)n >= sizeof(msg)) n = 0;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(msg + n, sizeof(msg) - (size_t)n, fmt, ap);
    va_end(ap);
    tg_config_add_text(l, msg);
}

const char *tg_config_hint(char *out, size_t cap, const char *name, const char *const *known,
                           size_t n)
{
    const char *near = tg_nearest_name(name, known, n);
    if (near) {
        (void)snprintf(out, cap, "; did you mean \"%s\"?", near);
        return out;
    }
    size_t len = (size_t)snprintf(out, cap, "; known here: ");
    for (size_t i = 0; i < n && len < cap; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s%s", i ? ", " : "", known[i]);
    return out;
}

/* host:port, [v6]:port or :port. */
static bool is_address(const char *a)
{
    const char *colon = strrchr(a, ':');
    if (!colon || !colon[1] || strlen(a) > 255) return false;
    if (a[0] != '[' && memchr(a, ':', (size_t)(colon - a))) return false;
    if (a[0] == '[' && (colon == a || colon[-1] != ']')) return false;
    char *end;
    const long port = strtol(colon + 1, &end, 10);
    return *end == '\0' && colon[1] >= '0' && colon[1] <= '9' && port <= 65535;
}

static void check_addresses(struct tg_config_loader *l, const struct tg_config *c)
{
    if (!is_address(c->http_address))
        tg_config_add_error(l, "http",
                            "listen.http = \"%.80s\": not an address; write \"127.0.0.1:4318\", "
                            "\"[::1]:4318\" or \":4318\"",
                            c->http_address);
    if (!is_address(c->admin_address))
        tg_config_add_error(l, "admin",
                            "listen.admin = \"%.80s\": not an address; write \"127.0.0.1:4320\"",
                            c->admin_address);
    const char *port = strrchr(c->http_address, ':');
    if (strcmp(c->http_address, c->admin_address) == 0 && port && strcmp(port, ":0") != 0)
        tg_config_add_error(l, "admin", "listen.admin is the same address as listen.http (%s)",
                            c->http_address);
}

static bool is_inside(const char *path, const char *folder)
{
    const size_t len = strlen(folder);
    return strncmp(path, folder, len) == 0 && path[len] == '/';
}

/* Two writers in one folder destroy each other's files. */
static void check_folders(struct tg_config_loader *l, const struct tg_config *c)
{
    enum { FIRST_BACKEND = 2 }; /* behind the log and the dead letters */
    struct {
        const char *path, *prefix, *owner, *key;
    } seen[4 * TG_MAX_BACKENDS + FIRST_BACKEND];
    size_t n = 0;
    seen[n].path = c->log.dir;
    seen[n].prefix = "";
    seen[n].owner = "log";
    seen[n++].key = "dir";
    seen[n].path = c->dead_letter_dir;
    seen[n].prefix = "";
    seen[n].owner = "dead_letters";
    seen[n++].key = "dir";
    for (unsigned i = 0; i < c->n_backends; i++) {
        const struct tg_options *o = &c->backends[i].options;
        for (size_t k = 0; o->specs[k].name && n < sizeof(seen) / sizeof(seen[0]); k++) {
            const struct tg_option_spec *s = &o->specs[k];
            if (s->type != TG_OPT_PATH || !o->values[k].str || strcmp(s->name, "dir") != 0)
                continue;
            seen[n].path = o->values[k].str;
            seen[n].prefix = "backends.";
            seen[n].owner = c->backends[i].name;
            seen[n++].key = s->name;
        }
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(seen[i].path, seen[j].path) == 0)
                tg_config_add_error(l, NULL,
                                    "%s%s.%s and %s%s.%s are the same folder %s; give each its own",
                                    seen[j].prefix, seen[j].owner, seen[j].key, seen[i].prefix,
                                    seen[i].owner, seen[i].key, seen[i].path);
    for (size_t i = 1; i < n; i++) /* the first is the log's, which deletes and sets aside in it */
        if (is_inside(seen[i].path, c->log.dir))
            tg_config_add_error(l, NULL,
                                "%s%s.%s %s is inside log.dir, which is the log's alone; "
                                "give it a folder beside it",
                                seen[i].prefix, seen[i].owner, seen[i].key, seen[i].path);
    for (size_t i = 0; i < n; i++) /* whoever reads a backend's folder as one data set reads all */
        for (size_t j = FIRST_BACKEND; j < n; j++)
            if (is_inside(seen[i].path, seen[j].path))
                tg_config_add_error(l, NULL,
                                    "%s%s.%s %s is inside %s%s.%s: whoever reads that folder as "
                                    "one data set would read it, too; give it a folder beside it",
                                    seen[i].prefix, seen[i].owner, seen[i].key, seen[i].path,
                                    seen[j].prefix, seen[j].owner, seen[j].key);
}

static void resolve_on_error(struct tg_config_loader *l, const char *list, struct tg_config *c)
{
    c->rules.on_error_targets = 0;
    if (strcmp(list, "all") == 0) return;
    for (const char *p = list; *p;) {
        const size_t len = strcspn(p, ",");
        char name[TG_CONFIG_MAX_BACKEND_NAME + 1];
        (void)snprintf(name, sizeof(name), "%.*s", (int)len, p);
        bool found = false;
        for (unsigned i = 0; i < c->n_backends; i++) {
            if (strcmp(c->backends[i].name, name) != 0) continue;
            c->rules.on_error_targets |= UINT32_C(1) << i;
            found = true;
        }
        char near[512];
        if (!found)
            tg_config_add_error(
                l, "on_error", "rules.on_error: there is no backend \"%s\"%s", name,
                tg_config_hint(near, sizeof(near), name, c->rules.backends, c->n_backends));
        p += len;
        if (*p == ',') p++;
    }
}

/* Three quarters of what the machine or the container has. */
static uint64_t default_memory_bytes(void)
{
    uint64_t bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "re");
    if (f) {
        uint64_t max;
        if (fscanf(f, "%" SCNu64, &max) == 1 && max < bytes) bytes = max;
        (void)fclose(f);
    }
    return bytes / 4 * 3;
}

void tg_config_fill(struct tg_config_loader *l, struct tg_options *o, struct tg_config *c)
{
    c->http_address = tg_options_str(&o[TG_CONFIG_LISTEN], "http");
    c->admin_address = tg_options_str(&o[TG_CONFIG_LISTEN], "admin");
    c->admin_hosts = tg_options_str(&o[TG_CONFIG_LISTEN], "hosts");
    c->http_origins = tg_options_str(&o[TG_CONFIG_LISTEN], "origins");
    c->n_workers = (unsigned)tg_options_num(&o[TG_CONFIG_ROOT], "workers");
    c->log_level = (uint8_t)TG_LOG_INFO;
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    for (size_t i = 0; i < 4; i++)
        if (strcmp(levels[i], tg_options_str(&o[TG_CONFIG_ROOT], "log_level")) == 0)
            c->log_level = (uint8_t)i;

    const struct tg_options *g = &o[TG_CONFIG_LOG];
    const char *sync = tg_options_str(g, "sync");
    c->log = (struct tg_log_config){
        .dir = tg_options_str(g, "dir"),
        .sync = strcmp(sync, "always") == 0     ? TG_SYNC_ALWAYS
                : strcmp(sync, "interval") == 0 ? TG_SYNC_INTERVAL
                                                : TG_SYNC_NEVER,
        .sync_interval_ms = (uint32_t)tg_options_num(g, "sync_interval"),
        .max_bytes = (uint64_t)tg_options_num(g, "max_bytes"),
        .segment_bytes = (uint64_t)tg_options_num(g, "segment_bytes"),
        .segment_ms = (uint32_t)tg_options_num(g, "segment_age"),
        .keep_ms = (uint32_t)tg_options_num(g, "keep"),
        .queue_batches = (uint32_t)tg_options_num(g, "queue_batches"),
        .queue_points = (uint64_t)tg_options_num(g, "queue_points"),
    };
    if (c->log.segment_bytes > c->log.max_bytes / 8) c->log.segment_bytes = c->log.max_bytes / 8;

    const struct tg_options *r = &o[TG_CONFIG_RULES];
    const char **names = tg_arena_calloc(l->arena, TG_MAX_BACKENDS, sizeof(*names));
    if (!names) {
        l->is_nomem = true;
        return;
    }
    for (unsigned i = 0; i < c->n_backends; i++) names[i] = c->backends[i].name;
    c->rules = (struct tg_rules_config){
        .tags_path = tg_options_str(r, "tags"),
        .routing_path = tg_options_str(r, "routing"),
        .strategy_path = tg_options_str(r, "strategy"),
        .retention_path = tg_options_str(r, "retention"),
        .backends = names,
        .n_backends = c->n_backends,
        .n_slots = 1,
        .max_instructions = (uint64_t)tg_options_num(r, "max_instructions"),
        .max_ms = (uint32_t)tg_options_num(r, "max_time"),
        .trial_ms = (uint32_t)tg_options_num(r, "trial_time"),
        .max_bytes = (uint64_t)tg_options_num(r, "max_memory"),
    };

    c->merges_are_dead_letters = strcmp(tg_options_str(r, "on_merge"), "dead_letter") == 0;

    const struct tg_options *m = &o[TG_CONFIG_LIMITS];
    c->limits = (struct tg_limits_config){
        .max_series = (uint64_t)tg_options_num(m, "series"),
        .max_raw_keys = (uint64_t)tg_options_num(m, "raw_keys"),
        .series_idle_s = (uint32_t)((tg_options_num(m, "idle_series") + 999) / 1000),
        .series_limits = {.max_tags = (uint32_t)tg_options_num(m, "tags_per_series"),
                          .max_name_bytes = (uint32_t)tg_options_num(m, "name_bytes"),
                          .max_key_bytes = (uint32_t)tg_options_num(m, "tag_key_bytes"),
                          .max_value_bytes = (uint32_t)tg_options_num(m, "tag_value_bytes")},
        .max_body_bytes = (uint64_t)tg_options_num(m, "body"),
        .max_decompressed_bytes = (uint64_t)tg_options_num(m, "decompressed"),
        .max_inflight_body_bytes = (uint64_t)tg_options_num(m, "inflight"),
        .max_header_bytes = (uint32_t)tg_options_num(m, "headers"),
        .max_connections = (uint32_t)tg_options_num(m, "connections"),
        .header_timeout_ms = (uint32_t)tg_options_num(m, "header_timeout"),
        .request_timeout_ms = (uint32_t)tg_options_num(m, "request_timeout"),
        .idle_timeout_ms = (uint32_t)tg_options_num(m, "idle_timeout"),
        .ack_timeout_ms = (uint32_t)tg_options_num(m, "ack_timeout"),
        .drain_timeout_ms = (uint32_t)tg_options_num(m, "drain_timeout"),
        .max_memory_bytes = (uint64_t)tg_options_num(m, "memory"),
        .rules_per_request_ms = (uint32_t)tg_options_num(r, "max_request_time"),
    };
    if (c->limits.max_memory_bytes > 0 && c->limits.max_memory_bytes < MIN_MEMORY_BYTES)
        tg_config_add_error(l, "memory",
                            "limits.memory (%" PRIu64
                            " bytes) is less than %u MiB, with which the gateway "
                            "cannot work; raise it, or set 0: three quarters of the machine's",
                            c->limits.max_memory_bytes, MIN_MEMORY_BYTES >> 20);
    if (c->limits.max_memory_bytes == 0) c->limits.max_memory_bytes = default_memory_bytes();
    if (c->limits.max_inflight_body_bytes < c->limits.max_body_bytes)
        tg_config_add_error(
            l, "inflight",
            "limits.inflight (%" PRIu64 " bytes) is less than limits.body (%" PRIu64
            " bytes): no request of that size could be taken; raise inflight or lower body",
            c->limits.max_inflight_body_bytes, c->limits.max_body_bytes);

    c->dead_letter_dir = tg_options_str(&o[TG_CONFIG_DEAD_LETTERS], "dir");
    c->max_dead_letter_bytes = (uint64_t)tg_options_num(&o[TG_CONFIG_DEAD_LETTERS], "max_bytes");

    check_addresses(l, c);
    check_folders(l, c);
    resolve_on_error(l, tg_options_str(r, "on_error"), c);
}

static enum tg_code read_file(struct tg_config_loader *l, size_t *len)
{
    const struct tg_fs *fs = tg_fs_real();
    struct tg_err err = {.msg = ""};
    char *text = tg_arena_alloc(l->arena, MAX_FILE_BYTES + 1);
    if (!text) return TG_ERR_NOMEM;
    const int fd = fs->open(fs->self, l->path, TG_FS_READ); /* no FIFO or device */
    if (fd < 0) {
        (void)tg_fail_errno(&err, -fd, "cannot be read");
        tg_config_add_error(l, NULL, "%s; name the configuration with --config FILE", err.msg);
        return TG_ERR_IO;
    }
    const bool failed =
        tg_fs_read_all(fs, fd, text, MAX_FILE_BYTES, 0, len, l->path, &err) != TG_OK;
    const bool too_large = !failed && *len == MAX_FILE_BYTES;
    (void)fs->close(fs->self, fd);
    if (failed) *len = 0;
    text[*len] = '\0';
    l->text = text;
    if (failed)
        tg_config_add_error(l, NULL, "%s", err.msg);
    else if (too_large)
        tg_config_add_error(l, NULL, "not smaller than %d bytes", MAX_FILE_BYTES);
    return failed || too_large ? TG_ERR_IO : TG_OK;
}

enum tg_code tg_config_load(const char *path, struct tg_arena *arena, struct tg_config *out,
                            struct tg_config_errors *errors)
{
    struct tg_config_loader l = {.arena = arena, .errors = errors, .path = path};
    memset(out, 0, sizeof(*out));
    memset(errors, 0, sizeof(*errors));

    char resolved[PATH_MAX];
    if (realpath(path, resolved)) {
        char *slash = strrchr(resolved, '/');
        const size_t dir_len = slash == resolved ? 1 : (size_t)(slash - resolved);
        out->path = tg_arena_strndup(arena, resolved, strlen(resolved));
        out->dir = tg_arena_strndup(arena, resolved, dir_len);
        if (!out->path || !out->dir) return TG_ERR_NOMEM;
        l.dir = out->dir;
    }
    size_t len = 0;
    TG_TRY(read_file(&l, &len));

    TG_TRY(tg_config_run(&l, len, out));
    return errors->n ? TG_ERR_INVALID : TG_OK;
}
