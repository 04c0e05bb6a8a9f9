/* string.find, match, gmatch and gsub over pattern.h, so that a pattern's work is charged to the
 * rule's budget. Semantics are those of the Lua 5.1 manual. */
#include <lauxlib.h>
#include <string.h>

#include "core/rules/outside.h"
#include "core/rules/vm.h"
#include "core/vm/pattern.h"

static void compile(lua_State *L, struct tg_pattern *p, const char *text, size_t len, bool anchors)
{
    const char *why = tg_pattern_compile(p, text, len, anchors);
    if (why) {
        char q[64];
        tgl_error(L, "%s: %s", tg_quote(q, sizeof(q), text, len), why);
    }
}

static void match_init(struct tg_pattern_match *m, const struct tg_vm *vm, const char *s,
                       size_t len)
{
    m->subject = s;
    m->subject_len = len;
    m->steps = 0;
    m->max_steps = vm->steps_left > 0 ? (uint64_t)vm->steps_left : 0;
}

/* Charges what the match took; raises when that was too much. */
static void settle(lua_State *L, struct tg_vm *vm, struct tg_pattern_match *m)
{
    const uint64_t steps = m->steps;
    m->steps = 0;
    tgl_charge(L, vm, steps);
    m->max_steps = (uint64_t)vm->steps_left;
}

static void push_capture(lua_State *L, const struct tg_pattern_match *m, unsigned i)
{
    if (m->captures[i].len == TG_PATTERN_POSITION)
        lua_pushinteger(L, (lua_Integer)m->captures[i].start + 1);
    else
        lua_pushlstring(L, m->subject + m->captures[i].start, m->captures[i].len);
}

/* All captures, or the whole match when the pattern has none and `whole` is set. */
static int push_captures(lua_State *L, const struct tg_pattern *p, const struct tg_pattern_match *m,
                         bool whole)
{
    luaL_checkstack(L, TG_PATTERN_MAX_CAPTURES + 2, "too many captures");
    if (p->n_captures == 0) {
        if (!whole) return 0;
        lua_pushlstring(L, m->subject + m->start, m->end - m->start);
        return 1;
    }
    for (unsigned i = 0; i < p->n_captures; i++) push_capture(L, m, i);
    return (int)p->n_captures;
}

static size_t start_offset(lua_State *L, int arg, size_t len)
{
    const lua_Integer init = luaL_optinteger(L, arg, 1);
    if (init > 0) return (size_t)init - 1 < len ? (size_t)init - 1 : len;
    if (init == 0) return 0;
    return (size_t)-init > len ? 0 : len - (size_t)-init;
}

static int find(lua_State *L, bool is_find)
{
    struct tg_vm *vm = tgl_vm(L);
    size_t len;
    size_t pattern_len;
    const char *s = luaL_checklstring(L, 1, &len);
    const char *text = luaL_checklstring(L, 2, &pattern_len);
    const size_t from = start_offset(L, 3, len);
    if (is_find && (lua_toboolean(L, 4) || !strpbrk(text, "^$*+?.([%-"))) {
        if (!lua_toboolean(L, 4) && strlen(text) != pattern_len) goto pattern; /* NUL inside */
        tgl_charge(L, vm, (len - from) / 64);
        const char *at = memmem(s + from, len - from, text, pattern_len); /* linear in glibc */
        if (!at) {
            lua_pushnil(L);
            return 1;
        }
        lua_pushinteger(L, at - s + 1);
        lua_pushinteger(L, at - s + (ptrdiff_t)pattern_len);
        return 2;
    }
pattern:;
    struct tg_pattern p;
    struct tg_pattern_match m;
    compile(L, &p, text, pattern_len, true);
    match_init(&m, vm, s, len);
    const enum tg_pattern_result r = tg_pattern_search(&p, &m, from);
    settle(L, vm, &m);
    if (r != TG_PATTERN_YES) {
        lua_pushnil(L);
        return 1;
    }
    if (!is_find) return push_captures(L, &p, &m, true);
    lua_pushinteger(L, (lua_Integer)m.start + 1);
    lua_pushinteger(L, (lua_Integer)m.end);
    return 2 + push_captures(L, &p, &m, false);
}

static int tgl_string_find(lua_State *L)
{
    return find(L, true);
}

static int tgl_string_match(lua_State *L)
{
    return find(L, false);
}

/* Upvalues: subject, pattern, offset of the next try. */
int tgl_string_gmatch_next(lua_State *L)
{
    struct tg_vm *vm = tgl_vm(L);
    size_t len;
    size_t pattern_len;
    const char *s = lua_tolstring(L, lua_upvalueindex(1), &len);
    const char *text = lua_tolstring(L, lua_upvalueindex(2), &pattern_len);
    const size_t from = (size_t)lua_tointeger(L, lua_upvalueindex(3));
    if (from > len) return 0;
    struct tg_pattern p;
    struct tg_pattern_match m;
    compile(L, &p, text, pattern_len, false);
    match_init(&m, vm, s, len);
    const enum tg_pattern_result r = tg_pattern_search(&p, &m, from);
    settle(L, vm, &m);
    if (r != TG_PATTERN_YES) {
        lua_pushinteger(L, (lua_Integer)len + 1);
        lua_replace(L, lua_upvalueindex(3));
        return 0;
    }
    lua_pushinteger(L, (lua_Integer)m.end + (m.end == m.start)); /* past an empty match */
    lua_replace(L, lua_upvalueindex(3));
    return push_captures(L, &p, &m, true);
}

static int tgl_string_gmatch(lua_State *L)
{
    (void)luaL_checkstring(L, 1);
    (void)luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, tgl_string_gmatch_next, 3);
    return 1;
}

/* Adds the replacement of one match to the buffer. */
static void add_replacement(lua_State *L, struct tg_vm *vm, luaL_Buffer *b,
                            const struct tg_pattern *p, const struct tg_pattern_match *m)
{
    const size_t whole_len = m->end - m->start;
    const int type = lua_type(L, 3);
    if (type == LUA_TSTRING || type == LUA_TNUMBER) {
        size_t n;
        const char *r = lua_tolstring(L, 3, &n);
        tgl_charge(L, vm, n / 16 + 1);
        for (size_t i = 0; i < n; i++) {
            if (r[i] != '%') {
                luaL_addchar(b, r[i]);
                continue;
            }
            const unsigned char c = ++i < n ? (unsigned char)r[i] : 0;
            if (c == '0' || (c == '1' && p->n_captures == 0)) {
                luaL_addlstring(b, m->subject + m->start, whole_len);
            } else if (c >= '1' && c <= '9') {
                if (c - '1' >= (int)p->n_captures)
                    tgl_error(L, "the replacement names capture %%%c, which the pattern lacks", c);
                push_capture(L, m, (unsigned)(c - '1'));
                luaL_addvalue(b);
            } else {
                luaL_addchar(b, (char)c);
            }
        }
        return;
    }
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        const int n = push_captures(L, p, m, true);
        if (tgl_call_back(L, vm, n, 1) != 0) lua_error(L);
    } else {
        if (p->n_captures > 0)
            push_capture(L, m, 0);
        else
            lua_pushlstring(L, m->subject + m->start, whole_len);
        lua_rawget(L, 3);
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, m->subject + m->start, whole_len);
    } else if (lua_isstring(L, -1)) {
        luaL_addvalue(b);
    } else {
        tgl_error(L, "the replacement of string.gsub is a %s, not a text", luaL_typename(L, -1));
    }
}

static int tgl_string_gsub(lua_State *L)
{
    struct tg_vm *vm = tgl_vm(L);
    size_t len;
    size_t pattern_len;
    const char *s = luaL_checklstring(L, 1, &len);
    const char *text = luaL_checklstring(L, 2, &pattern_len);
    tgl_see_through(L, 3, false);
    const int type = lua_type(L, 3);
    luaL_argcheck(L,
                  type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                      type == LUA_TTABLE,
                  3, "string, function or table expected");
    const lua_Integer max = luaL_optinteger(L, 4, (lua_Integer)len + 1);
    struct tg_pattern p;
    struct tg_pattern_match m;
    compile(L, &p, text, pattern_len, true);
    match_init(&m, vm, s, len);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    lua_Integer n = 0;
    size_t at = 0;
    while (n < max) {
        const enum tg_pattern_result r = tg_pattern_match_at(&p, &m, at);
        if (r == TG_PATTERN_OVER) settle(L, vm, &m);
        if (r == TG_PATTERN_YES) {
            n++;
            settle(L, vm, &m);
            add_replacement(L, vm, &b, &p, &m);
            m.max_steps = vm->steps_left > 0 ? (uint64_t)vm->steps_left : 0;
        }
        if (r == TG_PATTERN_YES && m.end > at)
            at = m.end;
        else if (at < len)
            luaL_addchar(&b, s[at++]);
        else
            break;
        if (p.anchored) break;
    }
    settle(L, vm, &m);
    luaL_addlstring(&b, s + at, len - at);
    luaL_pushresult(&b);
    lua_pushinteger(L, n);
    return 2;
}

/* string.format: LuaJIT's own (upvalue 1), but no value is written by where it lies in memory. */
static int tgl_string_format(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    const int top = lua_gettop(L);
    int arg = 1;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%') continue;
        i++;
        if (i < len && text[i] == '%') continue;
        while (i < len && text[i] && strchr("-+ #0123456789.", text[i])) i++;
        const char c = i < len ? text[i] : '\0';
        if (c == 'p')
            return tgl_error(L, "string.format: %%p is not available in rules: where a value lies "
                                "differs from thread to thread");
        if (++arg > top || c != 's') continue;
        const int type = lua_type(L, arg);
        if (type != LUA_TTABLE && type != LUA_TFUNCTION && type != LUA_TUSERDATA &&
            type != LUA_TLIGHTUSERDATA && type != LUA_TTHREAD)
            continue;
        lua_pushstring(L, tgl_type_name(L, arg));
        lua_replace(L, arg);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, top, 1);
    return 1;
}

void tgl_string_register(lua_State *L, int theirs)
{
    static const luaL_Reg functions[] = {
        {"find", tgl_string_find},
        {"match", tgl_string_match},
        {"gmatch", tgl_string_gmatch},
        {"gsub", tgl_string_gsub},
        {NULL, NULL},
    };
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    lua_getfield(L, theirs, "format");
    lua_pushcclosure(L, tgl_string_format, 1);
    lua_setfield(L, -2, "format");
}
