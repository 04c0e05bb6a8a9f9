/* config_read.c: from the table that gateway.lua returns to options, with all its mistakes. */
#include "core/config/config_loader.h"

#include <ctype.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The value at the top of the stack as text: strings, numbers, booleans, and lists of strings (as
 * "a,b"). NULL for anything else. */
static const char *value_text(struct tg_config_loader *l, lua_State *lua)
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

/* Sets one key of `prefix` from the value on top of the stack. */
static void set_option(struct tg_config_loader *l, lua_State *lua, const char *prefix,
                       const char *key, struct tg_options *options)
{
    const struct tg_option_spec *spec = find_spec(options->specs, key);
    const char *text = value_text(l, lua);
    if (!text) {
        tg_config_add_error(l, key, "%s%s: %s is a %s; write %s", prefix, key, key,
                            luaL_typename(lua, -1),
                            spec->type == TG_OPT_ENUM ? spec->choices : expected(spec));
        return;
    }
    if (lua_type(lua, -1) == LUA_TTABLE && spec->type != TG_OPT_STRING) {
        tg_config_add_error(l, key, "%s%s: a list is not accepted here; write %s", prefix, key,
                            expected(spec));
        return;
    }
    struct tg_err err = {.msg = ""};
    if (tg_options_set(options, key, text, l->arena, &err) != TG_OK)
        tg_config_add_error(l, key, "%s%s", prefix, err.msg);
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
static void read_section(struct tg_config_loader *l, lua_State *lua,
                         const struct tg_config_section *section, struct tg_options *options)
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
            tg_config_add_error(l, key, "%s%.80s: unknown key%s", prefix, key,
                                tg_config_hint(near, sizeof(near), key, known, n_known));
        lua_pop(lua, 1);
    }
}

/* Relative paths are relative to the file. */
static void resolve_paths(struct tg_config_loader *l, struct tg_options *options)
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
    if (len == 0 || len > TG_CONFIG_MAX_BACKEND_NAME) return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_' && name[i] != '-') return false;
    return true;
}

/* The entry's table is at the top of the stack. false = a mistake was noted. */
static bool read_backend(struct tg_config_loader *l, lua_State *lua, const char *name,
                         struct tg_backend_config *out)
{
    char prefix[32 + TG_CONFIG_MAX_BACKEND_NAME];
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
        tg_config_add_error(l, name, "%stype: missing; say which of the types it is%s", prefix,
                            tg_config_hint(near, sizeof(near), "", types, n_types));
    else if (!ops)
        tg_config_add_error(l, name, "%stype = \"%.60s\": unknown backend type%s", prefix, type,
                            tg_config_hint(near, sizeof(near), type, types, n_types));
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
            tg_config_add_error(l, key, "%s%.80s: unknown key%s", prefix, key,
                                tg_config_hint(near, sizeof(near), key, known, n_known));
        lua_pop(lua, 1);
    }
    resolve_paths(l, &out->options);

    struct tg_err err = {.msg = ""};
    if (tg_options_complete(&out->options, &err) != TG_OK)
        tg_config_add_error(l, name, "backends.%s: %s", name, err.msg);

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
        tg_config_add_error(l, "retry_max", "%sretry_max is less than retry_min (%u ms)", prefix,
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
static void read_backends(struct tg_config_loader *l, lua_State *lua, struct tg_config *out)
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
            tg_config_add_error(
                l, name,
                "backends.%.80s: a backend's name is 1 to %d letters, digits, _ or -, as in "
                "archive = { type = \"parquet\" }",
                name, TG_CONFIG_MAX_BACKEND_NAME);
        else if (lua_type(lua, -1) != LUA_TTABLE)
            tg_config_add_error(l, name, "backends.%s: is a %s; write %s = { type = \"...\", ... }",
                                name, luaL_typename(lua, -1), name);
        else if (n_named <= TG_MAX_BACKENDS && read_backend(l, lua, name, &list[n]))
            n++;
        lua_pop(lua, 1);
    }
    if (n_named > TG_MAX_BACKENDS)
        tg_config_add_error(l, "backends", "backends: %u of them; at most %d are possible", n_named,
                            TG_MAX_BACKENDS);
    if (n_named == 0)
        tg_config_add_error(
            l, "backends",
            "backends: empty; name at least one, as in backends = { archive = { type = "
            "\"parquet\", dir = \"data/parquet\" } }");
    qsort(list, n, sizeof(*list), compare_backends);
    out->backends = list;
    out->n_backends = n;
}

void tg_config_read_root(struct tg_config_loader *l, lua_State *lua, struct tg_config *out)
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
            tg_config_add_error(l, key, "%s: is a %s; write a table: %s = { ... }", key,
                                luaL_typename(lua, -1), key);
        else if (i == TG_CONFIG_BACKENDS)
            read_backends(l, lua, out);
        else if (i < TG_CONFIG_N_SECTIONS)
            read_section(l, lua, &tg_config_sections[i], &options[i]);
        else if (find_spec(tg_config_sections[TG_CONFIG_ROOT].specs, key))
            set_option(l, lua, "", key, &options[TG_CONFIG_ROOT]);
        else
            tg_config_add_error(l, key, "%.80s: unknown key%s", key,
                                tg_config_hint(near, sizeof(near), key, known, n_known));
        has_backends |= i == TG_CONFIG_BACKENDS;
        lua_pop(lua, 1);
    }
    if (!has_backends)
        tg_config_add_error(
            l, NULL,
            "backends: missing; name at least one, as in backends = { archive = { type = "
            "\"parquet\", dir = \"data/parquet\" } }");
    for (size_t i = 0; i < TG_CONFIG_N_SECTIONS; i++) resolve_paths(l, &options[i]);
    if (!l->is_nomem) tg_config_fill(l, options, out);
}
