/* tidegate.rules_core: rules and their decisions for Lua programs (specs).
 *
 *   core.load{ tags=path, routing=path, strategy=path, retention=path, backends={names...},
 *              on_error={names...} }  -> rules | nil, message
 *   rules:decide{ name=, kind=, unit=, temporality=, tags={}, origins={}, measurement=, field= }
 *       -> plan | nil, message
 *   rules:reload() -> true | nil, message
 *   core.duration("5m") -> 300000 | nil, message
 *   core.exists(path) -> boolean: is there and can be read, by its permissions
 */
#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/option.h"
#include "core/lua/modules.h"
#include "core/rules/rules.h"

static const char rules_meta[] = "tidegate.rules";
static const char *const steps[] = {"tags", "routing", "strategy", "retention"};

struct lua_rules {
    struct tg_rules *rules;
    struct tg_arena config; /* backend names */
    struct tg_arena arena;  /* of one decision */
    const char **backends;
    unsigned n_backends;
};

static int tgl_rules_gc(lua_State *L)
{
    struct lua_rules *r = luaL_checkudata(L, 1, rules_meta);
    tg_rules_free(r->rules);
    r->rules = NULL;
    tg_arena_deinit(&r->arena);
    tg_arena_deinit(&r->config);
    return 0;
}

/* luaL_error, declared as what it is: it does not return. */
static _Noreturn void raise(lua_State *L, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static _Noreturn void raise(lua_State *L, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)luaL_error(L, "%s", text);
    __builtin_unreachable();
}

static _Noreturn void no_memory(lua_State *L)
{
    raise(L, "out of memory");
}

/* The string at field `name` of the table at 1, or NULL. Stays on the stack. */
static const char *field_text(lua_State *L, const char *name, size_t *len)
{
    lua_getfield(L, 1, name);
    if (lua_isnil(L, -1)) {
        *len = 0;
        return NULL;
    }
    if (lua_type(L, -1) != LUA_TSTRING)
        raise(L, "%s must be a text, not a %s", name, luaL_typename(L, -1));
    return lua_tolstring(L, -1, len);
}

static void read_backends(lua_State *L, struct lua_rules *r)
{
    lua_getfield(L, 1, "backends");
    luaL_argcheck(L, lua_istable(L, -1), 1, "backends must be a list of names");
    const size_t n = lua_objlen(L, -1);
    luaL_argcheck(L, n >= 1 && n <= TG_MAX_BACKENDS, 1, "1 to 32 backends are possible");
    r->backends = tg_arena_calloc(&r->config, n, sizeof(*r->backends));
    if (!r->backends) no_memory(L);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        size_t len;
        const char *s = luaL_checklstring(L, -1, &len);
        r->backends[i] = tg_arena_strndup(&r->config, s, len);
        if (!r->backends[i]) no_memory(L);
        lua_pop(L, 1);
    }
    r->n_backends = (unsigned)n;
    lua_pop(L, 1);
}

static uint32_t read_on_error(lua_State *L, const struct lua_rules *r)
{
    uint32_t mask = 0;
    lua_getfield(L, 1, "on_error");
    for (size_t i = 1; lua_istable(L, -1) && i <= lua_objlen(L, -1); i++) {
        lua_rawgeti(L, -1, (int)i);
        const char *name = luaL_checkstring(L, -1);
        unsigned b = 0;
        while (b < r->n_backends && strcmp(r->backends[b], name) != 0) b++;
        if (b == r->n_backends) raise(L, "on_error names no backend: %s", name);
        mask |= UINT32_C(1) << b;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return mask;
}

static int tgl_rules_load(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct lua_rules *r = lua_newuserdata(L, sizeof(*r));
    memset(r, 0, sizeof(*r));
    tg_arena_init(&r->config, 1 << 16);
    tg_arena_init(&r->arena, 0);
    luaL_getmetatable(L, rules_meta);
    lua_setmetatable(L, -2);
    read_backends(L, r);
    struct tg_rules_config c = {.backends = r->backends, .n_backends = r->n_backends, .n_slots = 1};
    c.on_error_targets = read_on_error(L, r);
    c.max_ms = 1000; /* specs run on busy machines; the instruction budget is the gateway's */
    size_t len;
    c.tags_path = field_text(L, "tags", &len);
    c.routing_path = field_text(L, "routing", &len);
    c.strategy_path = field_text(L, "strategy", &len);
    c.retention_path = field_text(L, "retention", &len);
    struct tg_err err = {.msg = "out of memory"};
    if (tg_rules_new(&c, &r->rules, &err) != TG_OK) return tgl_fail(L, &err);
    lua_pushvalue(L, 2);
    return 1;
}

static int tgl_rules_reload(lua_State *L)
{
    struct lua_rules *r = luaL_checkudata(L, 1, rules_meta);
    struct tg_err err = {.msg = "out of memory"};
    if (tg_rules_reload(r->rules, &err) != TG_OK) return tgl_fail(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

/* Copies the text at `index` into the decision's arena: numbers and booleans as tags take them. */
static const char *tag_text(lua_State *L, struct lua_rules *r, int index, uint32_t *len)
{
    size_t n = 0;
    const char *s = NULL;
    if (lua_type(L, index) == LUA_TBOOLEAN) {
        s = lua_toboolean(L, index) ? "true" : "false";
        n = strlen(s);
    } else {
        lua_pushvalue(L, index);
        s = lua_tolstring(L, -1, &n);
        if (!s) raise(L, "a tag is a %s; tags are texts", luaL_typename(L, index));
    }
    char *copy = tg_arena_strndup(&r->arena, s, n);
    if (!copy) no_memory(L);
    if (lua_type(L, index) != LUA_TBOOLEAN) lua_pop(L, 1);
    *len = (uint32_t)n;
    return copy;
}

static uint8_t origin_of(lua_State *L, int origins, const char *key)
{
    static const char *const names[] = {"point", "scope", "resource"};
    if (!lua_istable(L, origins)) return TG_ORIGIN_POINT;
    lua_getfield(L, origins, key);
    const char *name = lua_isnil(L, -1) ? "point" : luaL_checkstring(L, -1);
    uint8_t o = 0;
    while (o < 3 && strcmp(names[o], name) != 0) o++;
    if (o == 3) raise(L, "origin %s is not one of point, scope, resource", name);
    lua_pop(L, 1);
    return o;
}

static void read_tags(lua_State *L, struct lua_rules *r, struct tg_series_desc *d)
{
    lua_getfield(L, 1, "origins");
    const int origins = lua_gettop(L);
    lua_getfield(L, 1, "tags");
    if (lua_isnil(L, -1)) return;
    luaL_argcheck(L, lua_istable(L, -1), 2, "tags must be a table of texts");
    const int tags = lua_gettop(L);
    uint32_t n = 0;
    for (lua_pushnil(L); lua_next(L, tags); lua_pop(L, 1)) n++;
    d->tags = tg_arena_calloc(&r->arena, n ? n : 1, sizeof(*d->tags));
    if (!d->tags) no_memory(L);
    for (lua_pushnil(L); lua_next(L, tags); lua_pop(L, 1)) {
        struct tg_tag *t = &d->tags[d->n_tags++];
        if (lua_type(L, -2) != LUA_TSTRING) raise(L, "tag keys are texts");
        t->key = tag_text(L, r, lua_gettop(L) - 1, &t->key_len);
        t->value = tag_text(L, r, lua_gettop(L), &t->value_len);
        t->origin = origin_of(L, origins, t->key);
    }
}

static void read_kind(lua_State *L, struct tg_series_desc *d)
{
    size_t len;
    const char *kind = field_text(L, "kind", &len);
    d->kind = TG_KIND_GAUGE;
    for (unsigned k = 0; kind && k < TG_KINDS; k++) {
        d->kind = (uint8_t)k;
        if (strcmp(kind, tg_kind_name((enum tg_kind)k)) == 0) return;
    }
    if (kind)
        raise(L,
              "kind %s is not one of unknown, gauge, counter, histogram, "
              "exponential_histogram, summary",
              kind);
}

static const char *arena_text(lua_State *L, struct lua_rules *r, const char *s, size_t len)
{
    const char *copy = tg_arena_strndup(&r->arena, s ? s : "", len);
    if (!copy) no_memory(L);
    return copy;
}

static void read_name(lua_State *L, struct lua_rules *r, struct tg_series_desc *d)
{
    size_t len;
    size_t field_len;
    const char *name = field_text(L, "name", &len);
    const char *field = field_text(L, "field", &field_len);
    if (field) {
        size_t m_len;
        const char *m = field_text(L, "measurement", &m_len);
        if (!m || field_len == 0) raise(L, "field needs a measurement, and a name");
        lua_pushfstring(L, "%s_%s", m, field);
        name = lua_tolstring(L, -1, &len);
    }
    if (!name) raise(L, "a series needs a name: decide{ name = \"...\" }");
    d->name = arena_text(L, r, name, len);
    d->name_len = (uint32_t)len;
    d->field_len = (uint32_t)field_len;
    const char *unit = field_text(L, "unit", &len);
    d->unit = arena_text(L, r, unit, len);
    d->unit_len = (uint32_t)len;
}

static void push_names(lua_State *L, const struct lua_rules *r, uint32_t mask)
{
    lua_newtable(L);
    int n = 0;
    for (unsigned i = 0; i < r->n_backends; i++) {
        if (!(mask >> i & 1)) continue;
        lua_pushstring(L, r->backends[i]);
        lua_rawseti(L, -2, ++n);
    }
}

/* Milliseconds as the shortest exact duration: "90d", "5m", "1500ms". */
static void push_duration(lua_State *L, int64_t ms)
{
    static const struct {
        int64_t ms;
        const char *unit;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    char text[32];
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (ms % units[i].ms != 0) continue;
        (void)snprintf(text, sizeof(text), "%lld%s", (long long)(ms / units[i].ms), units[i].unit);
        break;
    }
    lua_pushstring(L, text);
}

/* nil for ever; else { keep = "30d", keep_ms = n, rollups = { {every, keep, every_ms, keep_ms} } }
 */
static void push_retention(lua_State *L, const struct tg_retention *r)
{
    if (r->keep_ms == 0) {
        lua_pushnil(L);
        return;
    }
    lua_newtable(L);
    push_duration(L, r->keep_ms);
    lua_setfield(L, -2, "keep");
    lua_pushnumber(L, (lua_Number)r->keep_ms);
    lua_setfield(L, -2, "keep_ms");
    lua_newtable(L);
    for (uint32_t i = 0; i < r->n_rollups; i++) {
        lua_newtable(L);
        push_duration(L, r->rollups[i].every_ms);
        lua_setfield(L, -2, "every");
        push_duration(L, r->rollups[i].keep_ms);
        lua_setfield(L, -2, "keep");
        lua_pushnumber(L, (lua_Number)r->rollups[i].every_ms);
        lua_setfield(L, -2, "every_ms");
        lua_pushnumber(L, (lua_Number)r->rollups[i].keep_ms);
        lua_setfield(L, -2, "keep_ms");
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "rollups");
}

static void push_trace(lua_State *L, const struct tg_rules_trace *t)
{
    lua_newtable(L);
    for (unsigned i = 0; i < 4; i++) {
        lua_newtable(L);
        lua_pushstring(L, t->steps[i].file);
        lua_setfield(L, -2, "file");
        lua_pushinteger(L, t->steps[i].line);
        lua_setfield(L, -2, "line");
        lua_pushstring(L, t->steps[i].note);
        lua_setfield(L, -2, "note");
        lua_setfield(L, -2, steps[i]);
    }
}

static void push_plan(lua_State *L, const struct lua_rules *r, const struct tg_decision *d,
                      const struct tg_rules_trace *trace)
{
    const struct tg_series_desc *m = &d->mapped;
    lua_newtable(L);
    lua_pushlstring(L, m->name, m->name_len);
    lua_setfield(L, -2, "name");
    if (m->field_len > 0 && m->field_len + 1 < m->name_len) {
        lua_pushlstring(L, m->name, m->name_len - m->field_len - 1);
        lua_setfield(L, -2, "measurement");
        lua_pushlstring(L, m->name + m->name_len - m->field_len, m->field_len);
        lua_setfield(L, -2, "field");
    }
    lua_newtable(L);
    for (uint32_t i = 0; i < m->n_tags; i++) {
        lua_pushlstring(L, m->tags[i].key, m->tags[i].key_len);
        lua_pushlstring(L, m->tags[i].value, m->tags[i].value_len);
        lua_rawset(L, -3);
    }
    lua_setfield(L, -2, "tags");
    push_names(L, r, d->targets);
    lua_setfield(L, -2, "targets");
    push_names(L, r, d->wait);
    lua_setfield(L, -2, "wait");
    lua_pushboolean(L, d->targets == 0);
    lua_setfield(L, -2, "dropped");
    lua_pushstring(L, tg_strategy_name((enum tg_strategy)d->strategy));
    lua_setfield(L, -2, "strategy");
    push_retention(L, &d->retention);
    lua_setfield(L, -2, "retention");
    lua_pushboolean(L, d->failed);
    lua_setfield(L, -2, "failed");
    lua_pushnumber(L, (lua_Number)d->generation);
    lua_setfield(L, -2, "generation");
    if (d->failed) {
        lua_pushstring(L, trace->error);
        lua_setfield(L, -2, "error");
    }
    push_trace(L, trace);
    lua_setfield(L, -2, "trace");
}

static int tgl_rules_decide(lua_State *L)
{
    struct lua_rules *r = luaL_checkudata(L, 1, rules_meta);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_insert(L, 1); /* the readers look at index 1; the rules stay at 2, safe from collection */
    tg_arena_reset(&r->arena);
    struct tg_series_desc d = {0};
    read_name(L, r, &d);
    read_kind(L, &d);
    read_tags(L, r, &d);
    struct tg_err err = {.msg = "out of memory"};
    if (tg_series_desc_canonicalise(&d, &tg_series_limits_default, &err) != TG_OK)
        return tgl_fail(L, &err);
    struct tg_decision out;
    struct tg_rules_trace trace;
    if (tg_rules_decide(r->rules, 0, &d, &r->arena, &out, &trace) != TG_OK) no_memory(L);
    push_plan(L, r, &out, &trace);
    return 1;
}

/* duration("5m") -> 300000 | nil, message */
static int tgl_duration(lua_State *L)
{
    struct tg_err err = {.msg = ""};
    int64_t ms;
    if (tg_duration_parse(luaL_checkstring(L, 1), &ms, &err) != TG_OK) return tgl_fail(L, &err);
    lua_pushnumber(L, (lua_Number)ms);
    return 1;
}

/* exists(path): a look that opens nothing, for a FIFO would wait for its other end. */
static int tgl_exists(lua_State *L)
{
    lua_pushboolean(L, access(luaL_checkstring(L, 1), R_OK) == 0);
    return 1;
}

int tgl_rules_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"decide", tgl_rules_decide}, {"reload", tgl_rules_reload}, {NULL, NULL}};
    luaL_newmetatable(L, rules_meta);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, tgl_rules_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushcfunction(L, tgl_rules_load);
    lua_setfield(L, -2, "load");
    lua_pushcfunction(L, tgl_duration);
    lua_setfield(L, -2, "duration");
    lua_pushcfunction(L, tgl_exists);
    lua_setfield(L, -2, "exists");
    return 1;
}
