/* The series as rules see it.
 *
 * Two userdata per VM stand for "the series": one for tags.lua, whose `tags` is a plain table to be
 * changed in place, and one for the other rules, whose `tags` is read-only. Both look fields up in
 * a table that is refilled for every decision, so a field costs no C call. While tracing, tags.lua
 * gets a stand-in for its tags table that notes which line assigned what.
 *
 * A series is renamed by assigning to series.name, .measurement or .field, which changes the field
 * table; series.tags.__name__ is another way to say series.name, as Prometheus' relabeling has it,
 * unless the sender has a tag of that name: the metatable of the tags being mapped sees to that.
 *
 * Registry, by address: fields_key[0/1] field tables, series_key[0/1] the userdata, view_key the
 * read-only tags, view_meta_key its metatable, tags_key the table being mapped, tags_meta_key its
 * metatable.
 */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "core/base/option.h"
#include "core/rules/outside.h"
#include "core/rules/vm.h"

static const char fields_key[2] = "", series_key[2] = "", view_key = 0, view_meta_key = 0,
                  tags_key = 0, tags_meta_key = 0, trace_meta_key = 0;
static const char name_tag[] = "__name__";
/* How an assignment to the name is noted among those to tags. */
static const char name_line[] = "series.name";

static const char *key_text(lua_State *L, int index, char *buf, size_t cap)
{
    if (lua_type(L, index) == LUA_TSTRING) {
        size_t len;
        const char *s = lua_tolstring(L, index, &len);
        return tg_quote(buf, cap, s, len);
    }
    (void)snprintf(buf, cap, "(a %s)", luaL_typename(L, index));
    return buf;
}

/* Field not in the table: nil for those that only some series have, a lesson for the rest. */
static int tgl_series_unknown(lua_State *L)
{
    static const char *const known[] = {"name",  "kind",        "unit",  "tags",
                                        "field", "measurement", "origin"};
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(name, "measurement") == 0 || strcmp(name, "field") == 0) return 0;
    char q[64];
    key_text(L, 2, q, sizeof(q));
    const char *near = tg_nearest_name(name, known, sizeof(known) / sizeof(known[0]));
    if (near) return tgl_error(L, "a series has no %s; did you mean series.%s?", q, near);
    return tgl_error(L,
                     "a series has no %s; it has name, kind, unit, tags, origin(key) and, from "
                     "Influx, measurement and field; a tag is series.tags[%s]",
                     q, q);
}

/* Who assigned what, while tracing. */
static void note_line(lua_State *L, struct tg_vm *vm, const char *key)
{
    lua_Debug ar;
    if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "l", &ar)) return;
    uint32_t i = 0;
    while (i < vm->n_tag_lines && strcmp(vm->tag_lines[i].key, key) != 0) i++;
    if (i >= TG_VM_MAX_TAG_LINES || strlen(key) >= sizeof(vm->tag_lines[i].key)) return;
    (void)snprintf(vm->tag_lines[i].key, sizeof(vm->tag_lines[i].key), "%s", key);
    vm->tag_lines[i].line = ar.currentline;
    if (i == vm->n_tag_lines) vm->n_tag_lines++;
}

/* Fills name, measurement and field of the table on top. A field of 0 bytes: not from Influx. */
static void set_names(lua_State *L, const char *name, size_t len, size_t field_len)
{
    lua_pushlstring(L, name, len);
    lua_setfield(L, -2, "name");
    const bool has_field = field_len > 0 && field_len + 1 < len;
    if (has_field)
        lua_pushlstring(L, name, len - field_len - 1);
    else
        lua_pushnil(L);
    lua_setfield(L, -2, "measurement");
    if (has_field)
        lua_pushlstring(L, name + len - field_len, field_len);
    else
        lua_pushnil(L);
    lua_setfield(L, -2, "field");
}

/* Renames the series that tags.lua has; the value is at index 3, `what` is name, measurement or
 * field. Without a measurement and field before, it has none now; a name that ends in "_" + the
 * field keeps it. */
static void assign_name(lua_State *L, const char *what)
{
    struct tg_vm *vm = tgl_vm(L);
    const struct tg_series_limits *lim = &tg_series_limits_default;
    if (lua_type(L, 3) == LUA_TNIL)
        tgl_error(L, "series.%s cannot be nil; to drop a series, routing.lua returns drop()", what);
    if (lua_type(L, 3) != LUA_TSTRING)
        tgl_error(L, "series.%s is set to a %s; it is a text", what, luaL_typename(L, 3));
    size_t len;
    const char *text = lua_tolstring(L, 3, &len);
    if (len == 0) tgl_error(L, "series.%s is set to \"\"; it must have a character", what);
    if (len > lim->max_name_bytes)
        tgl_error(L, "series.%s is set to %u bytes; a metric name has at most %u", what,
                  (unsigned)len, lim->max_name_bytes);
    tgl_reg_get(L, &fields_key[0]);
    const int fields = lua_gettop(L);
    size_t field_len = 0;
    lua_getfield(L, fields, "field");
    const char *field = lua_tolstring(L, -1, &field_len);
    if (strcmp(what, "name") != 0) {
        if (!field)
            tgl_error(L,
                      "this series has no %s: only those of Influx lines do; set series.name "
                      "instead",
                      what);
        const bool is_field = strcmp(what, "field") == 0;
        lua_getfield(L, fields, "measurement");
        lua_pushvalue(L, is_field ? -1 : 3);
        lua_pushliteral(L, "_");
        lua_pushvalue(L, is_field ? 3 : -4);
        if (is_field) field_len = len;
        lua_concat(L, 3);
        text = lua_tolstring(L, -1, &len);
    } else if (field && (len < field_len + 2 || text[len - field_len - 1] != '_' ||
                         memcmp(text + len - field_len, field, field_len) != 0)) {
        field_len = 0;
    }
    struct tg_series_desc named = {
        .name = text, .unit = "", .name_len = (uint32_t)len, .field_len = (uint32_t)field_len};
    struct tg_err err = {.msg = ""};
    if (tg_series_desc_canonicalise(&named, lim, &err) != TG_OK) tgl_error(L, "%s", err.msg);
    lua_pushvalue(L, fields);
    set_names(L, text, len, field_len);
    tgl_reg_get(L, &tags_meta_key);
    lua_getfield(L, -1, "__index");
    lua_pushlstring(L, text, len);
    lua_setfield(L, -2, name_tag);
    if (vm->tracing) note_line(L, vm, name_line);
}

static int tgl_series_assign(lua_State *L)
{
    char q[64];
    const bool is_tags_rule = tgl_vm(L)->rule == TG_RULE_TAGS;
    const char *what = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (is_tags_rule && (strcmp(what, "name") == 0 || strcmp(what, "measurement") == 0 ||
                         strcmp(what, "field") == 0)) {
        assign_name(L, what);
        return 0;
    }
    key_text(L, 2, q, sizeof(q));
    if (is_tags_rule)
        return tgl_error(L,
                         "series[%s] is read-only; tags.lua changes the name (series.name = value) "
                         "and single tags: series.tags[\"key\"] = value",
                         q);
    return tgl_error(L, "series[%s] is read-only here; tags.lua is where a series is changed", q);
}

static int tgl_tags_assign(lua_State *L)
{
    char q[64];
    return tgl_error(L, "series.tags[%s] is read-only here; tags.lua is where tags are changed",
                     key_text(L, 2, q, sizeof(q)));
}

/* A tag that was not there: __name__ is the name of the series, all else a tag. */
static int tgl_tags_new(lua_State *L)
{
    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), name_tag) == 0) {
        assign_name(L, "name");
        return 0;
    }
    lua_settop(L, 3);
    lua_rawset(L, 1);
    return 0;
}

/* series.origin(key) or series:origin(key): "resource", "scope", "point" or nil. */
static int tgl_series_origin(lua_State *L)
{
    static const char *const names[] = {"point", "scope", "resource"};
    const struct tg_vm *vm = tgl_vm(L);
    size_t len;
    const char *key = luaL_checklstring(L, lua_isuserdata(L, 1) ? 2 : 1, &len);
    const struct tg_tag *t = vm->desc ? tg_series_desc_tag(vm->desc, key, len) : NULL;
    if (t && t->origin <= TG_ORIGIN_RESOURCE)
        lua_pushstring(L, names[t->origin]);
    else
        lua_pushnil(L);
    return 1;
}

/* Assignment to the stand-in: upvalue 1 is the table it stands for. */
static int tgl_trace_assign(lua_State *L)
{
    struct tg_vm *vm = tgl_vm(L);
    if (lua_type(L, 2) == LUA_TSTRING) {
        const char *key = lua_tostring(L, 2);
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(1));
        /* Here, as it is this function that the rule has called. */
        if (strcmp(key, name_tag) == 0 && lua_isnil(L, -1)) {
            lua_settop(L, 3);
            assign_name(L, "name");
            return 0;
        }
        note_line(L, vm, key);
    }
    lua_settop(L, 3);
    lua_settable(L, lua_upvalueindex(1));
    return 0;
}

void tgl_push_table_behind(lua_State *L, int index)
{
    if (tgl_is_stand_in(L, index)) {
        lua_getfenv(L, index);
        return;
    }
    if (lua_type(L, index) == LUA_TUSERDATA && lua_getmetatable(L, index)) {
        tgl_reg_get(L, &view_meta_key);
        tgl_reg_get(L, &trace_meta_key);
        const bool is_tags = lua_rawequal(L, -3, -2) || lua_rawequal(L, -3, -1);
        lua_pop(L, 2);
        if (is_tags) {
            lua_getfield(L, -1, "__index");
            lua_remove(L, -2);
            return;
        }
        lua_pop(L, 1);
    }
    luaL_checktype(L, index, LUA_TTABLE);
    lua_pushvalue(L, index);
}

void tgl_series_register(lua_State *L)
{
    for (int i = 0; i < 2; i++) {
        lua_createtable(L, 0, 8);
        lua_pushcfunction(L, tgl_series_origin);
        lua_setfield(L, -2, "origin");
        lua_createtable(L, 0, 1);
        lua_pushcfunction(L, tgl_series_unknown);
        lua_setfield(L, -2, "__index");
        lua_setmetatable(L, -2);

        (void)lua_newuserdata(L, 1);
        lua_createtable(L, 0, 3);
        lua_pushvalue(L, -3);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, tgl_series_assign);
        lua_setfield(L, -2, "__newindex");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        lua_setmetatable(L, -2);
        tgl_reg_set(L, &series_key[i]);
        tgl_reg_set(L, &fields_key[i]);
    }
    lua_createtable(L, 0, 2); /* of the tags being mapped */
    lua_createtable(L, 0, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, tgl_tags_new);
    lua_setfield(L, -2, "__newindex");
    tgl_reg_set(L, &tags_meta_key);
    (void)lua_newuserdata(L, 1);
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, tgl_tags_assign);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    tgl_reg_set(L, &view_meta_key);
    lua_setmetatable(L, -2);
    tgl_reg_set(L, &view_key);
}

/* Replaces the table of tags on top by its tracing stand-in. */
static void push_stand_in(lua_State *L)
{
    (void)lua_newuserdata(L, 1);
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, tgl_trace_assign, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    tgl_reg_set(L, &trace_meta_key);
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

static void set_text(lua_State *L, const char *field, const char *text, size_t len)
{
    lua_pushlstring(L, text, len);
    lua_setfield(L, -2, field);
}

void tgl_series_push(lua_State *L, struct tg_vm *vm, bool mutable)
{
    const struct tg_series_desc *d = vm->desc;
    const int which = mutable ? 0 : 1;
    lua_checkstack(L, 12);
    if (!mutable && vm->series_filled) { /* the rules after tags.lua share one */
        tgl_reg_get(L, &series_key[which]);
        return;
    }
    tgl_reg_get(L, &fields_key[which]);
    set_names(L, d->name, d->name_len, d->field_len);
    set_text(L, "unit", d->unit ? d->unit : "", d->unit_len);
    lua_pushstring(L, tg_kind_name((enum tg_kind)d->kind));
    lua_setfield(L, -2, "kind");
    lua_createtable(L, 0, (int)d->n_tags);
    for (uint32_t i = 0; i < d->n_tags; i++) {
        lua_pushlstring(L, d->tags[i].key, d->tags[i].key_len);
        lua_pushlstring(L, d->tags[i].value, d->tags[i].value_len);
        lua_rawset(L, -3);
    }
    if (mutable) {
        tgl_reg_get(L, &tags_meta_key);
        lua_getfield(L, -1, "__index");
        set_text(L, name_tag, d->name, d->name_len);
        lua_pop(L, 1);
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        tgl_reg_set(L, &tags_key);
        vm->n_tag_lines = 0;
        if (vm->tracing) push_stand_in(L);
    } else {
        tgl_reg_get(L, &view_meta_key);
        lua_insert(L, -2);
        lua_setfield(L, -2, "__index");
        lua_pop(L, 1);
        tgl_reg_get(L, &view_key);
        vm->series_filled = true;
    }
    lua_setfield(L, -2, "tags");
    lua_pop(L, 1);
    tgl_reg_get(L, &series_key[which]);
}

/* One entry of series.tags, key at -2 and value at -1, into *t. */
static bool read_tag(lua_State *L, struct tg_vm *vm, int rule_line, struct tg_arena *arena,
                     struct tg_tag *t, bool *nomem)
{
    char q[64];
    if (lua_type(L, -2) != LUA_TSTRING) {
        tg_vm_set_error(vm, rule_line, "series.tags has a %s as key; tag keys are texts",
                        luaL_typename(L, -2));
        return false;
    }
    size_t key_len;
    size_t value_len;
    const char *key = lua_tolstring(L, -2, &key_len);
    const char *value;
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        value = lua_toboolean(L, -1) ? "true" : "false";
        value_len = strlen(value);
        break;
    case LUA_TNUMBER:
    case LUA_TSTRING: value = lua_tolstring(L, -1, &value_len); break;
    default:
        tg_vm_set_error(vm, rule_line, "series.tags[%s] is a %s; tag values are texts",
                        tg_quote(q, sizeof(q), key, key_len), tgl_type_name(L, -1));
        return false;
    }
    const struct tg_series_limits *lim = &tg_series_limits_default;
    if (key_len > lim->max_key_bytes || value_len > lim->max_value_bytes) {
        tg_vm_set_error(vm, rule_line,
                        "series.tags[%s] is too long: a key may have %u bytes, a "
                        "value %u",
                        tg_quote(q, sizeof(q), key, key_len), lim->max_key_bytes,
                        lim->max_value_bytes);
        return false;
    }
    char *copy = tg_arena_alloc(arena, key_len + value_len + 1);
    if (!copy) {
        *nomem = true;
        return false;
    }
    memcpy(copy, key, key_len);
    memcpy(copy + key_len, value, value_len);
    const struct tg_tag *old = tg_series_desc_tag(vm->desc, key, key_len);
    *t = (struct tg_tag){.key = copy,
                         .key_len = (uint32_t)key_len,
                         .value = copy + key_len,
                         .value_len = (uint32_t)value_len,
                         .origin = old ? old->origin : (uint8_t)TG_ORIGIN_POINT};
    return true;
}

/* The name that tags.lua left, into `mapped`. */
static bool read_name(lua_State *L, struct tg_arena *arena, struct tg_series_desc *mapped)
{
    size_t len;
    size_t field_len = 0;
    tgl_reg_get(L, &fields_key[0]);
    lua_getfield(L, -1, "field");
    (void)lua_tolstring(L, -1, &field_len);
    lua_getfield(L, -2, "name");
    const char *name = lua_tolstring(L, -1, &len);
    if (len != mapped->name_len || memcmp(name, mapped->name, len) != 0) {
        mapped->name = tg_arena_strndup(arena, name, len);
        if (!mapped->name) return false;
        mapped->name_len = (uint32_t)len;
    }
    mapped->field_len = lua_isnil(L, -2) ? 0 : (uint32_t)field_len;
    return true;
}

bool tgl_series_read_tags(lua_State *L, struct tg_vm *vm, struct tg_arena *arena,
                          struct tg_series_desc *mapped, bool *nomem)
{
    const int top = lua_gettop(L);
    const struct tg_series_limits *lim = &tg_series_limits_default;
    bool ok = false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->ref_rules[TG_RULE_TAGS]);
    const int rule_line = tgl_function_line(L, -1);
    if (!read_name(L, arena, mapped)) {
        *nomem = true;
        goto done;
    }
    tgl_reg_get(L, &tags_key);
    const int tags = lua_gettop(L);
    uint32_t n = 0;
    for (lua_pushnil(L); lua_next(L, tags); lua_pop(L, 1)) n++;
    if (n > lim->max_tags) {
        tg_vm_set_error(vm, rule_line, "series.tags has %u tags; at most %u are kept", n,
                        lim->max_tags);
        goto done;
    }
    mapped->tags = tg_arena_alloc(arena, (n ? n : 1) * sizeof(*mapped->tags));
    if (!mapped->tags) {
        *nomem = true;
        goto done;
    }
    mapped->n_tags = 0;
    for (lua_pushnil(L); lua_next(L, tags); lua_pop(L, 1)) {
        if (!read_tag(L, vm, rule_line, arena, &mapped->tags[mapped->n_tags], nomem)) goto done;
        mapped->n_tags++;
    }
    struct tg_err err = {.msg = ""};
    const enum tg_code code = tg_series_desc_canonicalise(mapped, lim, &err);
    if (code == TG_ERR_NOMEM)
        *nomem = true;
    else if (code != TG_OK)
        tg_vm_set_error(vm, rule_line, "%s", err.msg);
    ok = code == TG_OK;
done:
    lua_settop(L, top);
    return ok;
}

static int compare_keys(const struct tg_tag *a, const struct tg_tag *b)
{
    const size_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
    const int c = memcmp(a->key, b->key, n);
    return c ? c : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

/* Where `key` was assigned last; 0: not known. */
static int line_of(const struct tg_vm *vm, const char *key, size_t key_len)
{
    for (uint32_t k = 0; k < vm->n_tag_lines; k++)
        if (strlen(vm->tag_lines[k].key) == key_len &&
            memcmp(vm->tag_lines[k].key, key, key_len) == 0)
            return vm->tag_lines[k].line;
    return 0;
}

int tgl_series_note(const struct tg_vm *vm, const struct tg_series_desc *mapped, char *note,
                    size_t note_cap)
{
    const struct tg_series_desc *d = vm->desc;
    size_t n = 0;
    int last_line = 0;
    note[0] = '\0';
    if (mapped->name_len != d->name_len || memcmp(mapped->name, d->name, d->name_len) != 0 ||
        mapped->field_len != d->field_len) {
        char q[64];
        last_line = line_of(vm, name_line, sizeof(name_line) - 1);
        const int w = snprintf(note, note_cap, "name = %s",
                               tg_quote(q, sizeof(q), mapped->name, mapped->name_len));
        if (w > 0) n = (size_t)w;
        if (last_line && n < note_cap)
            n += (size_t)snprintf(note + n, note_cap - n, " (line %d)", last_line);
    }
    for (uint32_t i = 0, j = 0; i < d->n_tags || j < mapped->n_tags;) {
        const int c = i == d->n_tags        ? 1
                      : j == mapped->n_tags ? -1
                                            : compare_keys(&d->tags[i], &mapped->tags[j]);
        const struct tg_tag *was = c <= 0 ? &d->tags[i++] : NULL;
        const struct tg_tag *is = c >= 0 ? &mapped->tags[j++] : NULL;
        if (was && is && was->value_len == is->value_len &&
            memcmp(was->value, is->value, was->value_len) == 0)
            continue;
        const struct tg_tag *t = is ? is : was;
        if (!t) break; /* cannot be: one of the two lists has an entry left */
        const int line = line_of(vm, t->key, t->key_len);
        if (line > last_line) last_line = line;
        if (n + 1 >= note_cap) continue;
        int w =
            snprintf(note + n, note_cap - n, "%s%.*s %s", n ? ", " : "", (int)t->key_len, t->key,
                     !was  ? "added"
                     : !is ? "removed"
                           : "changed");
        if (w > 0) n += (size_t)w;
        if (line && n + 1 < note_cap) {
            w = snprintf(note + n, note_cap - n, " (line %d)", line);
            if (w > 0) n += (size_t)w;
        }
    }
    if (n == 0)
        (void)snprintf(note, note_cap, "no change");
    else if (n >= note_cap)
        memcpy(note + note_cap - 4, "...", 4);
    return last_line;
}
