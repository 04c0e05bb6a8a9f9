#include "core/app/config.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/app/config_spec.h"
#include "core/base/logger.h"
#include "core/base/mem.h"

enum {
    MAX_FILE_BYTES = 1 << 20,
    MAX_LUA_BYTES = 16 << 20,
    MAX_INSTRUCTIONS = 20000000,
    MAX_BACKEND_NAME = 64,
    MIN_MEMORY_BYTES = 16 << 20,
    HOOK_STEP = 1000,
    BOOT_BYTES = 64 << 10, /* lua_newstate takes a fifth of it */
};

/* --- loading ----------------------------------------------------------------------------------*/

struct loader {
    struct tg_arena *arena;
    struct tg_config_errors *errors;
    const char *path;
    const char *dir;
    const char *text; /* of the file */
    size_t lua_bytes;
    uint64_t n_instructions;
    bool over_budget;
    bool is_nomem;
    char *boot; /* BOOT_BYTES, in the arena */
    size_t boot_used;
    bool booting;
};

static void add_error_text(struct loader *l, const char *text)
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

/* "gateway.lua:3: " + message; `key` is the last part of the key's path, or NULL. */
static void add_error(struct loader *l, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void add_error(struct loader *l, const char *key, const char *fmt, ...)
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
    add_error_text(l, msg);
}

/* LuaJIT crashes when memory runs out inside lua_newstate (it closes a state that is half made), so
 * that takes its blocks from one that is there beforehand. */
static bool in_boot_block(const struct loader *l, const void *p)
{
    return (uintptr_t)p - (uintptr_t)l->boot < BOOT_BYTES;
}

static void *lua_resize(struct loader *l, void *p, size_t old_size, size_t new_size)
{
    const size_t rounded = (new_size + 15) & ~(size_t)15;
    if (p && !in_boot_block(l, p)) return tg_realloc(p, new_size);
    void *q = NULL;
    if (l->booting && rounded <= BOOT_BYTES - l->boot_used) {
        q = l->boot + l->boot_used;
        l->boot_used += rounded;
    } else {
        q = tg_malloc(new_size);
    }
    if (p && q) memcpy(q, p, old_size < new_size ? old_size : new_size);
    return q;
}

static void *lua_allocate(void *ud, void *p, size_t old_size, size_t new_size)
{
    struct loader *l = ud;
    if (!p) old_size = 0;
    if (new_size == 0) {
        l->lua_bytes -= old_size;
        if (p && !in_boot_block(l, p)) tg_free(p);
        return NULL;
    }
    if (new_size > old_size && l->lua_bytes + (new_size - old_size) > MAX_LUA_BYTES) return NULL;
    void *q = lua_resize(l, p, old_size, new_size);
    if (q) l->lua_bytes += new_size - old_size;
    return q;
}

static struct loader *loader_of(lua_State *lua)
{
    void *ud = NULL;
    (void)lua_getallocf(lua, &ud);
    return ud;
}

static void on_count(lua_State *lua, lua_Debug *ar)
{
    (void)ar;
    struct loader *l = loader_of(lua);
    l->n_instructions += HOOK_STEP;
    if (l->n_instructions < MAX_INSTRUCTIONS) return;
    l->over_budget = true;
    (void)luaL_error(lua,
                     "the configuration runs for too long (over %d instructions); is there an "
                     "endless loop?",
                     MAX_INSTRUCTIONS);
}

/* env(name [, default]): a missing variable is noted and reading goes on, so that all mistakes of a
 * file are said at once. */
static int tgl_config_env(lua_State *lua)
{
    struct loader *l = loader_of(lua);
    const char *name = luaL_checkstring(lua, 1);
    const char *value = getenv(name);
    if (value) {
        lua_pushstring(lua, value);
        return 1;
    }
    if (lua_gettop(lua) >= 2) {
        lua_settop(lua, 2);
        return 1;
    }
    luaL_where(lua, 1);
    char msg[512];
    (void)snprintf(msg, sizeof(msg),
                   "%senv(\"%.100s\"): the environment variable %.100s is not set; set it, or give "
                   "a default: env(\"%.100s\", \"...\")",
                   lua_tostring(lua, -1), name, name, name);
    add_error_text(l, msg);
    lua_pushliteral(lua, "");
    return 1;
}

static void open_sandbox(lua_State *lua)
{
    static const struct {
        const char *name;
        lua_CFunction open;
    } libs[] = {{"", luaopen_base},
                {LUA_STRLIBNAME, luaopen_string},
                {LUA_TABLIBNAME, luaopen_table},
                {LUA_MATHLIBNAME, luaopen_math}};
    for (size_t i = 0; i < sizeof(libs) / sizeof(libs[0]); i++) {
        lua_pushcfunction(lua, libs[i].open);
        lua_pushstring(lua, libs[i].name);
        lua_call(lua, 1, 0);
    }
    /* Allow-list: everything not named here goes. pcall is not needed by a table of settings, and
     * without it nothing can swallow the budget's error. */
    static const char *const allowed[] = {"assert", "error",    "ipairs", "next",   "pairs",
                                          "select", "tonumber", "type",   "unpack", "tostring",
                                          "string", "table",    "math",   NULL};
    lua_newtable(lua); /* the sandbox's globals */
    for (size_t i = 0; allowed[i]; i++) {
        lua_getglobal(lua, allowed[i]);
        lua_setfield(lua, -2, allowed[i]);
    }
    lua_getglobal(lua, "string");
    lua_pushnil(lua);
    lua_setfield(lua, -2, "dump");
    lua_pop(lua, 1);
    lua_pushcfunction(lua, tgl_config_env);
    lua_setfield(lua, -2, "env");
    (void)luaJIT_setmode(lua, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF); /* hooks need it off */
    lua_sethook(lua, on_count, LUA_MASKCOUNT, HOOK_STEP);
}

/* The value at the top of the stack as text: strings, numbers, booleans, and lists of strings (as
 * "a,b"). NULL for anything else. */
static const char *value_text(struct loader *l, lua_State *lua)
{
    char num[64];
    switch (lua_type(lua, -1)) {
    case LUA_TSTRING: {
        size_t len;
        const char *s = lua_tolstring(lua, -1, &len);
        return strlen(s) == len ? tg_arena_strndup(l->arena, s, len) : NULL;
    }
    case LUA_TBOOLEAN: return lua_toboolean(lua, -1) ? "true" : "false";
    case LUA_TNUMBER: {
        const double v = lua_tonumber(lua, -1);
        if (v == floor(v) && fabs(v) < 9e15)
            (void)snprintf(num, sizeof(num), "%.0f", v);
        else
            (void)snprintf(num, sizeof(num), "%.17g", v);
        return tg_arena_strndup(l->arena, num, strlen(num));
    }
    case LUA_TTABLE: {
        char list[1024];
        size_t len = 0;
        const size_t n = lua_objlen(lua, -1);
        if (n == 0) return NULL;
        for (size_t i = 1; i <= n; i++) {
            lua_rawgeti(lua, -1, (int)i);
            size_t item_len = 0;
            const char *item =
                lua_type(lua, -1) == LUA_TSTRING ? lua_tolstring(lua, -1, &item_len) : NULL;
            const bool fits = item && len + item_len + 2 < sizeof(list);
            if (fits) {
                if (i > 1) list[len++] = ',';
                memcpy(list + len, item, item_len);
                len += item_len;
            }
            lua_pop(lua, 1);
            if (!fits) return NULL;
        }
        return tg_arena_strndup(l->arena, list, len);
    }
    default: return NULL;
    }
}

static const struct tg_option_spec *find_spec(const struct tg_option_spec *specs, const char *name)
{
    for (; specs->name; specs++)
        if (strcmp(specs->name, name) == 0) return specs;
    return NULL;
}

static const char *expected(const struct tg_option_spec *spec)
{
    switch (spec->type) {
    case TG_OPT_BYTES: return "a size such as \"64MiB\"";
    case TG_OPT_DURATION: return "a duration such as \"30s\"";
    case TG_OPT_INT: return "a whole number";
    case TG_OPT_BOOL: return "true or false";
    case TG_OPT_PATH: return "a path as text";
    case TG_OPT_ENUM:
    case TG_OPT_STRING: break;
    }
    return "text";
}

/* "; did you mean \"x\"?" or "; known here: a, b, c". */
static const char *hint(char *out, size_t cap, const char *name, const char *const *known, size_t n)
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

/* Sets one key of `prefix` from the value on top of the stack. */
static void set_option(struct loader *l, lua_State *lua, const char *prefix, const char *key,
                       struct tg_options *options)
{
    const struct tg_option_spec *spec = find_spec(options->specs, key);
    const char *text = value_text(l, lua);
    if (!text) {
        add_error(l, key, "%s%s: %s is a %s; write %s", prefix, key, key, luaL_typename(lua, -1),
                  spec->type == TG_OPT_ENUM ? spec->choices : expected(spec));
        return;
    }
    if (lua_type(lua, -1) == LUA_TTABLE && spec->type != TG_OPT_STRING) {
        add_error(l, key, "%s%s: a list is not accepted here; write %s", prefix, key,
                  expected(spec));
        return;
    }
    struct tg_err err = {.msg = ""};
    if (tg_options_set(options, key, text, l->arena, &err) != TG_OK)
        add_error(l, key, "%s%s", prefix, err.msg);
}

/* A key that is a string, for messages. */
static const char *key_text(lua_State *lua, char *buf, size_t cap)
{
    if (lua_type(lua, -2) == LUA_TSTRING) return lua_tostring(lua, -2);
    if (lua_type(lua, -2) == LUA_TNUMBER)
        (void)snprintf(buf, cap, "[%.17g]", lua_tonumber(lua, -2));
    else
        (void)snprintf(buf, cap, "[%s]", luaL_typename(lua, -2));
    return buf;
}

/* The section's table is at the top of the stack. */
static void read_section(struct loader *l, lua_State *lua, const struct tg_config_section *section,
                         struct tg_options *options)
{
    const char *known[64];
    size_t n_known = 0;
    for (const struct tg_option_spec *s = section->specs; s->name && n_known < 64; s++)
        known[n_known++] = s->name;
    char prefix[80];
    (void)snprintf(prefix, sizeof(prefix), "%s.", section->name);
    lua_pushnil(lua);
    while (lua_next(lua, -2)) {
        char buf[64], near[512];
        const char *key = key_text(lua, buf, sizeof(buf));
        if (find_spec(section->specs, key))
            set_option(l, lua, prefix, key, options);
        else
            add_error(l, key, "%s%.80s: unknown key%s", prefix, key,
                      hint(near, sizeof(near), key, known, n_known));
        lua_pop(lua, 1);
    }
}

/* Relative paths are relative to the file. */
static void resolve_paths(struct loader *l, struct tg_options *options)
{
    for (size_t i = 0; options->specs[i].name; i++) {
        struct tg_option_value *v = &options->values[i];
        if (options->specs[i].type != TG_OPT_PATH || !v->str || v->str[0] == '/') continue;
        /* The folder is free of symbolic links, so "../" can be taken off both sides. */
        const char *rel = v->str;
        size_t dir_len = strlen(l->dir);
        for (;;) {
            while (rel[0] == '.' && rel[1] == '/') rel += 2;
            if (strncmp(rel, "../", 3) != 0) break;
            rel += 3;
            while (dir_len > 1 && l->dir[dir_len - 1] != '/') dir_len--;
            if (dir_len > 1) dir_len--;
        }
        const size_t cap = dir_len + strlen(rel) + 2;
        char *abs = tg_arena_alloc(l->arena, cap);
        if (!abs) {
            l->is_nomem = true;
            return;
        }
        (void)snprintf(abs, cap, "%.*s%s%s", (int)dir_len, l->dir,
                       l->dir[dir_len - 1] == '/' ? "" : "/", rel);
        v->str = abs;
    }
}

static bool is_valid_backend_name(const char *name)
{
    const size_t len = strlen(name);
    if (len == 0 || len > MAX_BACKEND_NAME) return false;
    for (size_t i = 0; i < len; i++)
        if (!is_word(name[i]) && name[i] != '-') return false;
    return true;
}

/* The entry's table is at the top of the stack. false = a mistake was noted. */
static bool read_backend(struct loader *l, lua_State *lua, const char *name,
                         struct tg_backend_config *out)
{
    char prefix[32 + MAX_BACKEND_NAME];
    (void)snprintf(prefix, sizeof(prefix), "backends.%s.", name);
    const char *types[16];
    size_t n_types = 0;
    for (; tg_backend_types[n_types] && n_types < 16; n_types++)
        types[n_types] = tg_backend_types[n_types]->type;

    const unsigned errors_before = l->errors->n + l->errors->n_more;
    char near[768];
    lua_getfield(lua, -1, "type");
    const char *type = lua_type(lua, -1) == LUA_TSTRING ? lua_tostring(lua, -1) : NULL;
    const struct tg_backend_ops *ops = type ? tg_backend_find(type) : NULL;
    if (!type)
        add_error(l, name, "%stype: missing; say which of the types it is%s", prefix,
                  hint(near, sizeof(near), "", types, n_types));
    else if (!ops)
        add_error(l, name, "%stype = \"%.60s\": unknown backend type%s", prefix, type,
                  hint(near, sizeof(near), type, types, n_types));
    lua_pop(lua, 1);
    if (!ops) return false;

    struct tg_options common;
    if (tg_options_init(&common, tg_config_sections[TG_CONFIG_BACKENDS].specs, l->arena) != TG_OK ||
        tg_options_init(&out->options, ops->options, l->arena) != TG_OK) {
        l->is_nomem = true;
        return false;
    }
    const char *known[96];
    size_t n_known = 0;
    for (const struct tg_option_spec *s = ops->options; s->name && n_known < 64; s++)
        known[n_known++] = s->name;
    for (const struct tg_option_spec *s = tg_config_sections[TG_CONFIG_BACKENDS].specs;
         s->name && n_known < 96; s++)
        known[n_known++] = s->name;

    lua_pushnil(lua);
    while (lua_next(lua, -2)) {
        char buf[64];
        const char *key = key_text(lua, buf, sizeof(buf));
        const bool is_own = find_spec(ops->options, key) != NULL;
        const bool is_common = find_spec(tg_config_sections[TG_CONFIG_BACKENDS].specs, key) != NULL;
        /* A key of both (batch_points, linger) is the type's, with the type's limits. */
        if (is_own) set_option(l, lua, prefix, key, &out->options);
        if (is_common && !is_own) set_option(l, lua, prefix, key, &common);
        if (!is_own && !is_common)
            add_error(l, key, "%s%.80s: unknown key%s", prefix, key,
                      hint(near, sizeof(near), key, known, n_known));
        lua_pop(lua, 1);
    }
    resolve_paths(l, &out->options);

    struct tg_err err = {.msg = ""};
    if (tg_options_complete(&out->options, &err) != TG_OK)
        add_error(l, name, "backends.%s: %s", name, err.msg);

    out->ops = ops;
    out->name = tg_arena_strndup(l->arena, name, strlen(name));
    if (!out->name) l->is_nomem = true;
    out->from_start = strcmp(tg_options_str(&common, "from"), "start") == 0;
    const struct tg_options *batch =
        find_spec(ops->options, "batch_points") ? &out->options : &common;
    const struct tg_options *linger = find_spec(ops->options, "linger") ? &out->options : &common;
    out->batch_points = (uint32_t)tg_options_num(batch, "batch_points");
    if (out->batch_points == 0) out->batch_points = ops->max_points ? ops->max_points : 10000;
    out->linger_ms = tg_options_is_set(linger, "linger")
                         ? (uint32_t)tg_options_num(linger, "linger")
                         : ops->linger_ms;
    out->retry_min_ms = (uint32_t)tg_options_num(&common, "retry_min");
    out->retry_max_ms = (uint32_t)tg_options_num(&common, "retry_max");
    out->health_every_ms = (uint32_t)tg_options_num(&common, "health_every");
    if (out->retry_max_ms < out->retry_min_ms)
        add_error(l, "retry_max", "%sretry_max is less than retry_min (%u ms)", prefix,
                  out->retry_min_ms);
    return l->errors->n + l->errors->n_more == errors_before;
}

static int compare_backends(const void *a, const void *b)
{
    const struct tg_backend_config *x = a;
    const struct tg_backend_config *y = b;
    return strcmp(x->name, y->name);
}

/* `backends` is at the top of the stack. */
static void read_backends(struct loader *l, lua_State *lua, struct tg_config *out)
{
    struct tg_backend_config *list = tg_arena_calloc(l->arena, TG_MAX_BACKENDS, sizeof(*list));
    if (!list) {
        l->is_nomem = true;
        return;
    }
    unsigned n = 0, n_named = 0;
    lua_pushnil(lua);
    while (lua_next(lua, -2)) {
        char buf[64];
        const char *name = key_text(lua, buf, sizeof(buf));
        n_named++;
        if (lua_type(lua, -2) != LUA_TSTRING || !is_valid_backend_name(name))
            add_error(l, name,
                      "backends.%.80s: a backend's name is 1 to %d letters, digits, _ or -, as in "
                      "archive = { type = \"parquet\" }",
                      name, MAX_BACKEND_NAME);
        else if (lua_type(lua, -1) != LUA_TTABLE)
            add_error(l, name, "backends.%s: is a %s; write %s = { type = \"...\", ... }", name,
                      luaL_typename(lua, -1), name);
        else if (n_named <= TG_MAX_BACKENDS && read_backend(l, lua, name, &list[n]))
            n++;
        lua_pop(lua, 1);
    }
    if (n_named > TG_MAX_BACKENDS)
        add_error(l, "backends", "backends: %u of them; at most %d are possible", n_named,
                  TG_MAX_BACKENDS);
    if (n_named == 0)
        add_error(l, "backends",
                  "backends: empty; name at least one, as in backends = { archive = { type = "
                  "\"parquet\", dir = \"data/parquet\" } }");
    qsort(list, n, sizeof(*list), compare_backends);
    out->backends = list;
    out->n_backends = n;
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

static void check_addresses(struct loader *l, const struct tg_config *c)
{
    if (!is_address(c->http_address))
        add_error(l, "http",
                  "listen.http = \"%.80s\": not an address; write \"127.0.0.1:4318\", "
                  "\"[::1]:4318\" or \":4318\"",
                  c->http_address);
    if (!is_address(c->admin_address))
        add_error(l, "admin", "listen.admin = \"%.80s\": not an address; write \"127.0.0.1:4320\"",
                  c->admin_address);
    const char *port = strrchr(c->http_address, ':');
    if (strcmp(c->http_address, c->admin_address) == 0 && port && strcmp(port, ":0") != 0)
        add_error(l, "admin", "listen.admin is the same address as listen.http (%s)",
                  c->http_address);
}

/* Two writers in one folder destroy each other's files. */
static void check_folders(struct loader *l, const struct tg_config *c)
{
    struct {
        const char *path, *prefix, *owner, *key;
    } seen[4 * TG_MAX_BACKENDS + 2];
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
                add_error(l, NULL, "%s%s.%s and %s%s.%s are the same folder %s; give each its own",
                          seen[j].prefix, seen[j].owner, seen[j].key, seen[i].prefix, seen[i].owner,
                          seen[i].key, seen[i].path);
}

static void resolve_on_error(struct loader *l, const char *list, struct tg_config *c)
{
    c->rules.on_error_targets = 0;
    if (strcmp(list, "all") == 0) return;
    for (const char *p = list; *p;) {
        const size_t len = strcspn(p, ",");
        char name[MAX_BACKEND_NAME + 1];
        (void)snprintf(name, sizeof(name), "%.*s", (int)len, p);
        bool found = false;
        for (unsigned i = 0; i < c->n_backends; i++) {
            if (strcmp(c->backends[i].name, name) != 0) continue;
            c->rules.on_error_targets |= UINT32_C(1) << i;
            found = true;
        }
        char near[512];
        if (!found)
            add_error(l, "on_error", "rules.on_error: there is no backend \"%s\"%s", name,
                      hint(near, sizeof(near), name, c->rules.backends, c->n_backends));
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

static void fill(struct loader *l, struct tg_options *o, struct tg_config *c)
{
    c->http_address = tg_options_str(&o[TG_CONFIG_LISTEN], "http");
    c->admin_address = tg_options_str(&o[TG_CONFIG_LISTEN], "admin");
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
        .max_bytes = (uint64_t)tg_options_num(r, "max_memory"),
    };

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
    };
    if (c->limits.max_memory_bytes > 0 && c->limits.max_memory_bytes < MIN_MEMORY_BYTES)
        add_error(l, "memory",
                  "limits.memory (%" PRIu64 " bytes) is less than %u MiB, with which the gateway "
                  "cannot work; raise it, or set 0: three quarters of the machine's",
                  c->limits.max_memory_bytes, MIN_MEMORY_BYTES >> 20);
    if (c->limits.max_memory_bytes == 0) c->limits.max_memory_bytes = default_memory_bytes();
    if (c->limits.max_inflight_body_bytes < c->limits.max_body_bytes)
        add_error(l, "inflight",
                  "limits.inflight (%" PRIu64 " bytes) is less than limits.body (%" PRIu64
                  " bytes): no request of that size could be taken; raise inflight or lower body",
                  c->limits.max_inflight_body_bytes, c->limits.max_body_bytes);

    c->dead_letter_dir = tg_options_str(&o[TG_CONFIG_DEAD_LETTERS], "dir");
    c->max_dead_letter_bytes = (uint64_t)tg_options_num(&o[TG_CONFIG_DEAD_LETTERS], "max_bytes");

    check_addresses(l, c);
    check_folders(l, c);
    resolve_on_error(l, tg_options_str(r, "on_error"), c);
}

/* The file's table is at the top of the stack. */
static void read_root(struct loader *l, lua_State *lua, struct tg_config *out)
{
    struct tg_options options[TG_CONFIG_N_SECTIONS];
    const char *known[TG_CONFIG_N_SECTIONS + 8];
    size_t n_known = 0;
    for (size_t i = 0; i < TG_CONFIG_N_SECTIONS; i++) {
        if (tg_options_init(&options[i], tg_config_sections[i].specs, l->arena) != TG_OK) {
            l->is_nomem = true;
            return;
        }
        if (i != TG_CONFIG_ROOT) known[n_known++] = tg_config_sections[i].name;
    }
    for (const struct tg_option_spec *s = tg_config_sections[TG_CONFIG_ROOT].specs; s->name; s++)
        known[n_known++] = s->name;

    bool has_backends = false;
    lua_pushnil(lua);
    while (lua_next(lua, -2)) {
        char buf[64], near[512];
        const char *key = key_text(lua, buf, sizeof(buf));
        size_t i = TG_CONFIG_ROOT + 1;
        while (i < TG_CONFIG_N_SECTIONS && strcmp(tg_config_sections[i].name, key) != 0) i++;
        if (i < TG_CONFIG_N_SECTIONS && lua_type(lua, -1) != LUA_TTABLE)
            add_error(l, key, "%s: is a %s; write a table: %s = { ... }", key,
                      luaL_typename(lua, -1), key);
        else if (i == TG_CONFIG_BACKENDS)
            read_backends(l, lua, out);
        else if (i < TG_CONFIG_N_SECTIONS)
            read_section(l, lua, &tg_config_sections[i], &options[i]);
        else if (find_spec(tg_config_sections[TG_CONFIG_ROOT].specs, key))
            set_option(l, lua, "", key, &options[TG_CONFIG_ROOT]);
        else
            add_error(l, key, "%.80s: unknown key%s", key,
                      hint(near, sizeof(near), key, known, n_known));
        has_backends |= i == TG_CONFIG_BACKENDS;
        lua_pop(lua, 1);
    }
    if (!has_backends)
        add_error(l, NULL,
                  "backends: missing; name at least one, as in backends = { archive = { type = "
                  "\"parquet\", dir = \"data/parquet\" } }");
    for (size_t i = 0; i < TG_CONFIG_N_SECTIONS; i++) resolve_paths(l, &options[i]);
    if (!l->is_nomem) fill(l, options, out);
}

struct protected_call {
    struct loader *l;
    struct tg_config *out;
    const char *chunk_name;
    size_t len;
};

/* Runs under lua_cpcall, so that memory refusals anywhere come back as an error. */
static int tgl_config_read(lua_State *lua)
{
    struct protected_call *call = lua_touserdata(lua, 1);
    struct loader *l = call->l;
    open_sandbox(lua); /* pushes the globals */
    if (luaL_loadbufferx(lua, l->text, call->len, call->chunk_name, "t") != 0)
        return lua_error(lua);
    lua_insert(lua, -2);
    (void)lua_setfenv(lua, -2);
    lua_call(lua, 0, 1);
    lua_sethook(lua, NULL, 0, 0);
    if (lua_type(lua, -1) != LUA_TTABLE) {
        add_error(l, NULL,
                  "the file returns %s; it must return one table: return { listen = { ... }, "
                  "backends = { ... } }",
                  lua_type(lua, -1) == LUA_TNIL ? "nothing" : luaL_typename(lua, -1));
        return 0;
    }
    read_root(l, lua, call->out);
    return 0;
}

static enum tg_code read_file(struct loader *l, size_t *len)
{
    FILE *f = fopen(l->path, "re");
    if (!f) {
        add_error(l, NULL, "cannot be read: %s; name the configuration with --config FILE",
                  strerror(errno));
        return TG_ERR_IO;
    }
    char *text = tg_arena_alloc(l->arena, MAX_FILE_BYTES + 1);
    if (!text) {
        (void)fclose(f);
        return TG_ERR_NOMEM;
    }
    *len = fread(text, 1, MAX_FILE_BYTES, f);
    const bool failed = ferror(f) != 0;
    const bool too_large = !failed && *len == MAX_FILE_BYTES;
    (void)fclose(f);
    text[*len] = '\0';
    l->text = text;
    if (failed)
        add_error(l, NULL, "cannot be read: %s", strerror(EISDIR));
    else if (too_large)
        add_error(l, NULL, "larger than %d bytes", MAX_FILE_BYTES);
    return failed || too_large ? TG_ERR_IO : TG_OK;
}

/* Lua's messages name file and line, mostly. */
static void add_lua_error(struct loader *l, const char *text)
{
    if (strncmp(text, l->path, strlen(l->path)) == 0)
        add_error_text(l, text);
    else
        add_error(l, NULL, "%s", text);
}

enum tg_code tg_config_load(const char *path, struct tg_arena *arena, struct tg_config *out,
                            struct tg_config_errors *errors)
{
    struct loader l = {.arena = arena, .errors = errors, .path = path};
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

    char chunk_name[PATH_MAX + 1];
    (void)snprintf(chunk_name, sizeof(chunk_name), "@%s", path);
    struct protected_call call = {.l = &l, .out = out, .chunk_name = chunk_name, .len = len};
    l.boot = tg_arena_alloc(arena, BOOT_BYTES);
    if (!l.boot) return TG_ERR_NOMEM;
    l.booting = true;
    lua_State *lua = lua_newstate(lua_allocate, &l);
    l.booting = false;
    if (!lua) return TG_ERR_NOMEM;
    const int rc = lua_cpcall(lua, tgl_config_read, &call);
    const char *why = rc != 0 && lua_isstring(lua, -1) ? lua_tostring(lua, -1) : "unknown error";
    /* A refusal while the text is compiled comes back as an ordinary error with this text. */
    const bool is_refused = rc == LUA_ERRMEM || strcmp(why, "not enough memory") == 0;
    if (is_refused && l.lua_bytes < MAX_LUA_BYTES / 2)
        l.is_nomem = true;
    else if (is_refused)
        add_error(&l, NULL, "the configuration uses more than %d MiB of memory",
                  MAX_LUA_BYTES >> 20);
    else if (rc != 0)
        add_lua_error(&l, why);
    lua_close(lua);
    if (l.is_nomem) return TG_ERR_NOMEM;
    return errors->n ? TG_ERR_INVALID : TG_OK;
}
