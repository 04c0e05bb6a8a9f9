#include "core/rules/compile.h"

#include <lauxlib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/mem.h"

enum { PIECE_BYTES = 512, MAX_CODE_BYTES = 64 << 20 };

struct reader {
    const struct tg_rule_text *script;
    const struct tg_vm *vm;
    size_t at;
    uint64_t deadline_ns;
    bool is_late, is_cut;
};

static const char *read_piece(lua_State *L, void *arg, size_t *len)
{
    (void)L;
    struct reader *r = arg;
    const uint64_t now_ns = tg_clock_mono_ns();
    r->is_cut = r->is_cut || now_ns > atomic_load(r->vm->until_ns);
    r->is_late = r->is_late || now_ns > r->deadline_ns;
    const size_t left = r->script->len - r->at;
    *len = r->is_cut || r->is_late ? 0 : left < PIECE_BYTES ? left : PIECE_BYTES;
    const char *piece = r->script->text + r->at;
    r->at += *len;
    return *len ? piece : NULL; /* the end of the text, as LuaJIT sees it */
}

static int line_of(const struct tg_rule_text *t, size_t at)
{
    int line = 1;
    for (size_t i = 0; i < at; i++) line += t->text[i] == '\n';
    return line;
}

/* What LuaJIT skips before it looks whether it has text or bytecode. */
static size_t skip_header(const struct tg_rule_text *t)
{
    size_t at = 0;
    if (t->len >= 3 && memcmp(t->text, "\xef\xbb\xbf", 3) == 0) at = 3;
    if (at < t->len && t->text[at] == '#') {
        const char *end = memchr(t->text + at, '\n', t->len - at);
        at = end ? (size_t)(end - t->text) + 1 : t->len;
    }
    return at;
}

static enum tg_code compile_text(lua_State *L, struct tg_vm *vm, const struct tg_rule_text *t)
{
    const size_t start = skip_header(t);
    if (start < t->len && t->text[start] == LUA_SIGNATURE[0]) {
        tg_vm_set_error(vm, 0, "holds compiled Lua, which is refused; give the source text");
        return TG_ERR_INVALID;
    }
    char chunk[sizeof(t->name) + 1];
    (void)snprintf(chunk, sizeof(chunk), "@%s", t->name);
    struct reader r = {.script = t,
                       .vm = vm,
                       .deadline_ns = tg_clock_mono_ns() + TG_RULE_COMPILE_MS * UINT64_C(1000000)};
    const int rc = lua_loadx(L, read_piece, &r, chunk, "t");
    if (r.is_cut || r.is_late) {
        lua_pop(L, 1); /* a function or a message */
        tg_vm_set_error(vm, line_of(t, r.at),
                        "not compiled after %d ms; simplify what is before this line, such as a "
                        "chain of thousands of \"or\"",
                        (int)TG_RULE_COMPILE_MS);
        return r.is_cut ? TG_ERR_TIMEOUT : TG_ERR_INVALID;
    }
    if (rc == 0) return TG_OK;
    const char *why = lua_tostring(L, -1);
    const size_t n = strlen(t->name);
    if (rc == LUA_ERRMEM)
        vm->error[0] = '\0';
    else if (why && strncmp(why, t->name, n) == 0 && why[n] == ':')
        (void)snprintf(vm->error, sizeof(vm->error), "%s", why);
    else
        tg_vm_set_error(vm, 0, "%s", why ? why : "does not compile");
    lua_pop(L, 1);
    return rc == LUA_ERRMEM ? TG_ERR_NOMEM : TG_ERR_INVALID;
}

static int write_code(lua_State *L, const void *bytes, size_t len, void *arg)
{
    (void)L;
    return tg_buf_append(arg, bytes, len) != TG_OK;
}

/* Keeps the function on top as bytecode. */
static enum tg_code keep_code(lua_State *L, struct tg_rule_text *t)
{
    struct tg_buf code;
    tg_buf_init(&code, MAX_CODE_BYTES);
    if (lua_dump(L, write_code, &code) != 0 || code.len == 0) {
        tg_buf_deinit(&code);
        return TG_ERR_NOMEM;
    }
    char *fitted = tg_realloc(code.data, code.len);
    t->code = fitted ? fitted : (char *)code.data;
    t->code_len = code.len;
    return TG_OK;
}

enum tg_code tgl_compile(lua_State *L, struct tg_vm *vm, struct tg_rule_text *t)
{
    if (t->code) {
        const int rc = luaL_loadbufferx(L, t->code, t->code_len, t->name, "b");
        if (rc == 0) return TG_OK;
        lua_pop(L, 1);
        tg_vm_set_error(vm, 0, "its bytecode could not be loaded");
        return TG_ERR_NOMEM; /* it is our own: nothing else can be wrong with it */
    }
    const enum tg_code code = compile_text(L, vm, t);
    if (code != TG_OK || keep_code(L, t) == TG_OK) return code;
    lua_pop(L, 1);
    return TG_ERR_NOMEM;
}
