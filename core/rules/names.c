#include "core/rules/names.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/rules/tokens.h"

enum { MAX_NESTING = 256 }; /* brackets; LuaJIT compiles fewer */

#define NO_TOKEN UINT32_MAX

/* One spelling of a name in the script. */
struct name {
    const char *text; /* NULL: a free slot */
    uint32_t len;
    uint32_t n_declared;  /* local, parameter or loop variable */
    uint32_t n_first;     /* ... as the first parameter of a function */
    uint32_t declared_at; /* token of the last declaration */
    bool is_assigned;     /* after its declaration */
    bool is_tried;        /* as a global, or its value as an argument */
};

struct check {
    struct tg_vm *vm;
    enum tg_rule_no rule;
    const struct tg_rule_text *script;
    struct tg_tokens tokens;
    struct name *names; /* open addressing; a power of two, at most half full */
    uint32_t cap;
    uint64_t fine[256]; /* hashes of code that went well: most scripts repeat a few names */
    bool is_out_of_memory;
    tg_on_finding on_finding;
    void *arg;
};

/* --- tokens --- */

static bool is(const struct check *c, uint32_t i, const char *what)
{
    return tg_token_is(&c->tokens, i, what);
}

static bool is_any(const struct check *c, uint32_t i, const char *const *what)
{
    for (; *what; what++)
        if (is(c, i, *what)) return true;
    return false;
}

static bool has_kind(const struct check *c, uint32_t i, enum tg_token_kind kind)
{
    return i < c->tokens.n && c->tokens.items[i].kind == kind;
}

static bool is_keyword(const struct check *c, uint32_t i)
{
    static const char *const keywords[] = {
        "and",      "break",  "do",   "else", "elseif", "end",   "false", "for",
        "function", "goto",   "if",   "in",   "local",  "nil",   "not",   "or",
        "repeat",   "return", "then", "true", "until",  "while", NULL};
    return is_any(c, i, keywords);
}

/* A name, and not one behind a dot or colon (those are fields). */
static bool is_variable(const struct check *c, uint32_t i)
{
    return has_kind(c, i, TG_TOKEN_NAME) && !is_keyword(c, i) &&
           !(i > 0 && (is(c, i - 1, ".") || is(c, i - 1, ":")));
}

/* --- names --- */

static struct name *name_of(const struct check *c, uint32_t i)
{
    const struct tg_token *k = &c->tokens.items[i];
    const char *text = c->tokens.text + k->start;
    uint32_t slot = (uint32_t)tg_hash64(text, k->len) & (c->cap - 1);
    while (c->names[slot].text &&
           (c->names[slot].len != k->len || memcmp(c->names[slot].text, text, k->len) != 0))
        slot = (slot + 1) & (c->cap - 1);
    struct name *n = &c->names[slot];
    if (!n->text) {
        n->text = text;
        n->len = k->len;
        n->declared_at = NO_TOKEN;
    }
    return n;
}

static void declare(const struct check *c, uint32_t i)
{
    struct name *n = name_of(c, i);
    n->n_declared++;
    n->declared_at = i;
}

/* "a, b, c" from token i on; behind it. */
static uint32_t declare_list(const struct check *c, uint32_t i)
{
    while (has_kind(c, i, TG_TOKEN_NAME) && !is_keyword(c, i)) {
        declare(c, i++);
        if (!is(c, i, ",")) break;
        i++;
    }
    return i;
}

/* The declaration that begins at token i, if one does. */
static void note_declaration(const struct check *c, uint32_t i)
{
    if (is(c, i, "local")) {
        if (is(c, i + 1, "function"))
            (void)declare_list(c, i + 2);
        else
            (void)declare_list(c, i + 1);
    } else if (is(c, i, "for")) {
        (void)declare_list(c, i + 1);
    } else if (is(c, i, "function")) {
        uint32_t k = i + 1;
        while (k < c->tokens.n && !is(c, k, "(")) k++; /* the function's own name */
        if (has_kind(c, k + 1, TG_TOKEN_NAME)) name_of(c, k + 1)->n_first++;
        (void)declare_list(c, k + 1);
    }
}

/* Whether token i is the target of an assignment, perhaps among others: "a, i, b = ...". Fields of
 * table constructors ("{ i = 1 }") count, too: taken for assigned, a name is only not looked at. */
static bool is_assigned(const struct check *c, uint32_t i)
{
    for (i++; is(c, i, ",") && has_kind(c, i + 1, TG_TOKEN_NAME); i += 2)
        ;
    return is(c, i, "=");
}

static enum tg_code read_names(struct check *c)
{
    c->cap = 64;
    while (c->cap < c->tokens.n * 2) c->cap *= 2;
    c->names = tg_calloc(c->cap, sizeof(*c->names));
    if (!c->names) return TG_ERR_NOMEM;
    for (uint32_t i = 0; i < c->tokens.n; i++) note_declaration(c, i);
    for (uint32_t i = 0; i < c->tokens.n; i++) {
        if (!is_variable(c, i)) continue;
        struct name *n = name_of(c, i);
        if (n->declared_at != i && is_assigned(c, i)) n->is_assigned = true;
    }
    return TG_OK;
}

/* --- trying in the VM --- */

/* A piece of code that is run with the names that the rule has. */
struct trial {
    struct tg_vm *vm;
    enum tg_rule_no rule;
    const char *code;
    size_t len;
    bool wants_series; /* "..." is one without tags */
    bool is_out_of_memory;
};

static int tgl_try(lua_State *L)
{
    struct trial *t = lua_touserdata(L, 1);
    const int rc = luaL_loadbufferx(L, t->code, t->len, "=?", "t");
    t->is_out_of_memory = rc == LUA_ERRMEM;
    if (rc != 0) return 0; /* not for us to judge */
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->vm->ref_rules[t->rule]);
    lua_getfenv(L, -1);
    lua_setfenv(L, -3);
    lua_pop(L, 1);
    if (t->wants_series) tgl_series_push(L, t->vm, false);
    lua_call(L, t->wants_series ? 1 : 0, 0);
    return 0;
}

/* Runs "local _ = ...": true, or false with the error's text in `why`. */
static bool try_code(struct check *c, const char *code, size_t len, bool wants_series, char *why,
                     size_t cap)
{
    static const struct tg_series_desc example = {.name = "example", .name_len = 7, .unit = ""};
    struct tg_vm *vm = c->vm;
    const uint64_t hash = tg_hash64(code, len);
    uint64_t *known = &c->fine[hash % (sizeof(c->fine) / sizeof(c->fine[0]))];
    if (*known == hash) return true;
    lua_State *L = vm->L;
    struct trial t = {
        .vm = vm, .rule = c->rule, .code = code, .len = len, .wants_series = wants_series};
    const uint32_t targets = vm->targets;
    const enum tg_rule_no rule = vm->rule;
    vm->targets = UINT32_MAX; /* where a series goes is not the question */
    vm->rule = c->rule;
    vm->desc = &example;
    vm->series_filled = false;
    const int rc = lua_cpcall(L, tgl_try, &t);
    vm->targets = targets;
    vm->rule = rule;
    vm->desc = NULL;
    const bool is_out_of_memory = rc == LUA_ERRMEM || t.is_out_of_memory;
    if (is_out_of_memory) c->is_out_of_memory = true;
    if (rc == 0 || is_out_of_memory) {
        if (!is_out_of_memory) *known = hash;
        lua_settop(L, 0);
        return true;
    }
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "fails";
    if (strncmp(text, "?:1: ", 5) == 0) text += 5;
    (void)snprintf(why, cap, "%s", text);
    lua_settop(L, 0);
    return false;
}

static void found(struct check *c, bool is_certain, uint32_t line, const char *why)
{
    char text[512];
    (void)snprintf(text, sizeof(text), "%s:%u: %s", c->script->name, line, why);
    c->on_finding(c->arg, is_certain, text);
}

/* Tries `function(literal)` with the text of tokens `from` up to before `to`. */
static void try_call(struct check *c, uint32_t function, uint32_t from, uint32_t to,
                     bool is_certain)
{
    char code[512];
    char why[280];
    const struct tg_token *f = &c->tokens.items[function];
    const char *text = c->tokens.text;
    const uint32_t start = c->tokens.items[from].start;
    const uint32_t end = c->tokens.items[to - 1].start + c->tokens.items[to - 1].len;
    const int n = snprintf(code, sizeof(code), "local _ = %.*s(%.*s)", (int)f->len, text + f->start,
                           (int)(end - start), text + start);
    if (n < 0 || (size_t)n >= sizeof(code))
        return; /* no backend has such a name; left to run time */
    if (!try_code(c, code, (size_t)n, false, why, sizeof(why)))
        found(c, is_certain, c->tokens.items[from].line, why);
}

/* --- arguments --- */

static const char *const opening[] = {"(", "{", "[", NULL};
static const char *const closing[] = {")", "}", "]", NULL};
static const char *const before_value[] = {"(", "{", ",", ";", "and", "or", NULL};
static const char *const after_value[] = {")", "}", ",", ";", "or", NULL};

/* Behind the bracket that closes the one at i. */
static uint32_t behind(const struct check *c, uint32_t i)
{
    uint32_t depth = 0;
    for (; i < c->tokens.n; i++) {
        if (is_any(c, i, opening)) depth++;
        if (is_any(c, i, closing) && --depth == 0) return i + 1;
    }
    return i;
}

/* The texts in the table constructor at i, whatever their keys. */
static void try_table(struct check *c, uint32_t function, uint32_t i)
{
    const uint32_t end = behind(c, i);
    for (; i < end; i++) {
        const bool is_value = is_any(c, i - 1, before_value) || is(c, i - 1, "=");
        if (has_kind(c, i, TG_TOKEN_STRING) && is_value && is_any(c, i + 1, after_value))
            try_call(c, function, i, i + 1, false);
    }
}

/* A local variable that is given to `function`: one literal, or a table that an entry is taken of.
 */
static void try_local(struct check *c, uint32_t function, uint32_t i, bool is_certain)
{
    static const char *const entry[] = {"[", ".", NULL};
    struct name *n = name_of(c, i);
    if (n->n_declared != 1 || n->is_assigned || n->is_tried) return;
    n->is_tried = true;
    const uint32_t d = n->declared_at;
    if (d == 0 || !is(c, d - 1, "local") || !is(c, d + 1, "=")) return;
    if (is_any(c, i + 1, entry)) {
        if (is(c, d + 2, "{")) try_table(c, function, d + 2);
        return;
    }
    static const char *const operators[] = {"..", "==", "~=", "and", "or",
                                            "[",  ".",  ":",  ",",   NULL};
    if (has_kind(c, d + 2, TG_TOKEN_STRING) && !is_any(c, d + 3, operators))
        try_call(c, function, d + 2, d + 3, is_certain);
}

/* The values between the brackets at `open`, of a call to `function`. */
static void try_arguments(struct check *c, uint32_t function, uint32_t open, bool is_certain)
{
    const uint32_t end = behind(c, open);
    for (uint32_t i = open + 1; i + 1 < end; i++) {
        if (is_any(c, i, opening)) {
            const bool is_list = i == open + 1 && is(c, i, "{");
            if (is_list) try_arguments(c, function, i, is_certain);
            i = behind(c, i) - 1;
            continue;
        }
        if (!is_any(c, i - 1, before_value)) continue;
        if (has_kind(c, i, TG_TOKEN_STRING)) {
            if (is_any(c, i + 1, after_value)) try_call(c, function, i, i + 1, is_certain);
        } else if (is(c, i, "unpack") && is(c, i + 1, "(") && is_variable(c, i + 2)) {
            try_local(c, function, i + 2, is_certain);
        } else if (is_variable(c, i) && !is(c, i + 1, "(")) {
            const bool is_whole =
                is_any(c, i + 1, after_value) || is(c, i + 1, "[") || is(c, i + 1, ".");
            if (is_whole) try_local(c, function, i, is_certain);
        }
    }
}

/* keep() with constants only is run as it stands: its second argument is a table of durations. */
static void try_keep(struct check *c, uint32_t function, bool is_certain)
{
    static const char *const marks[] = {"(", ")", "{", "}", "[", "]", ",", ";", "=", NULL};
    const uint32_t end = behind(c, function + 1);
    bool is_constant = true;
    for (uint32_t i = function + 1; i < end; i++)
        is_constant &= has_kind(c, i, TG_TOKEN_STRING) || has_kind(c, i, TG_TOKEN_NUMBER) ||
                       is_any(c, i, marks);
    if (is_constant && end > function + 3)
        try_call(c, function, function + 2, end - 1, is_certain);
    else
        try_arguments(c, function, function + 1, is_certain);
}

static void try_function(struct check *c, uint32_t i)
{
    static const char *const named[] = {"to", "primary_only", "primary_with_async_replication",
                                        NULL};
    const bool is_keep = is(c, i, "keep");
    if (!is_keep && !is_any(c, i, named)) return;
    const bool is_certain = name_of(c, i)->n_declared == 0; /* else it may be another function */
    if (has_kind(c, i + 1, TG_TOKEN_STRING))
        try_call(c, i, i + 1, i + 2, is_certain);
    else if (is(c, i + 1, "(") && is_keep)
        try_keep(c, i, is_certain);
    else if (is(c, i + 1, "(") || (is(c, i + 1, "{") && !is_keep))
        try_arguments(c, i, i + 1, is_certain);
}

/* --- globals --- */

/* A name that the script declares nowhere, and that rules do not have. It is a warning: a rule may
 * ask for it within pcall(). `is_key`: it names a field of a table constructor. */
static void try_global(struct check *c, uint32_t i, bool is_key)
{
    static const char *const libraries[] = {"string", "table", "math", "bit", NULL};
    struct name *n = name_of(c, i);
    const bool is_label = (i > 0 && (is(c, i - 1, "::") || is(c, i - 1, "goto")));
    if (is_key || is_label || n->n_declared > 0 || is(c, i, "self")) return;
    const bool is_field =
        is_any(c, i, libraries) && is(c, i + 1, ".") && has_kind(c, i + 2, TG_TOKEN_NAME);
    if (n->is_tried && !is_field) return;
    n->is_tried = true;
    char code[320];
    char why[280];
    const struct tg_token *field = &c->tokens.items[is_field ? i + 2 : i];
    const int len = snprintf(code, sizeof(code), "local _ = %.*s%s%.*s", (int)n->len, n->text,
                             is_field ? "." : "", is_field ? (int)field->len : 0,
                             c->tokens.text + field->start);
    if (len < 0 || (size_t)len >= sizeof(code)) return;
    if (!try_code(c, code, (size_t)len, false, why, sizeof(why)))
        found(c, false, c->tokens.items[i].line, why);
}

/* A field of the series that it does not have: series.tag. The name stands for the series when it
 * is the first parameter of the functions that have it, and nothing else. */
static void try_field(struct check *c, uint32_t i)
{
    char code[320];
    char why[280];
    const struct name *n = name_of(c, i);
    if (!is(c, i, "series") || !is(c, i + 1, ".") || !has_kind(c, i + 2, TG_TOKEN_NAME)) return;
    if (n->n_declared == 0 || n->n_declared != n->n_first || n->is_assigned) return;
    const struct tg_token *field = &c->tokens.items[i + 2];
    const int len = snprintf(code, sizeof(code), "local series = ... local _ = series.%.*s",
                             (int)field->len, c->tokens.text + field->start);
    if (len < 0 || (size_t)len >= sizeof(code)) return;
    if (!try_code(c, code, (size_t)len, true, why, sizeof(why))) found(c, false, field->line, why);
}

static void walk(struct check *c)
{
    bool in_table[MAX_NESTING] = {false};
    uint32_t depth = 0;
    static const char *const separators[] = {"{", ",", ";", NULL};
    for (uint32_t i = 0; i < c->tokens.n; i++) {
        if (is_any(c, i, opening) && ++depth < MAX_NESTING) in_table[depth] = is(c, i, "{");
        if (is_any(c, i, closing) && depth > 0) depth--;
        if (!is_variable(c, i)) continue;
        const bool is_key = depth < MAX_NESTING && in_table[depth] && is(c, i + 1, "=") &&
                            is_any(c, i - 1, separators);
        try_global(c, i, is_key);
        try_field(c, i);
        if (!is_key && !(i > 0 && is(c, i - 1, "function"))) try_function(c, i);
    }
}

enum tg_code tg_names_check(struct tg_vm *vm, enum tg_rule_no rule, const struct tg_rule_text *text,
                            tg_on_finding on_finding, void *arg)
{
    struct check c = {.vm = vm, .rule = rule, .script = text, .on_finding = on_finding, .arg = arg};
    if (!text->text || vm->ref_rules[rule] == LUA_NOREF) return TG_OK;
    enum tg_code code = tg_tokens_read(&c.tokens, text->text, text->len);
    if (code == TG_OK) code = read_names(&c);
    if (code == TG_OK) walk(&c);
    tg_free(c.names);
    tg_tokens_deinit(&c.tokens);
    return c.is_out_of_memory ? TG_ERR_NOMEM : code;
}
