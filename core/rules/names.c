#include "core/rules/names.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/rules/flow.h"
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
    bool is_tried;        /* as a global */
};

struct check {
    struct tg_vm *vm;
    enum tg_rule_no rule;
    const struct tg_rule_text *script;
    struct tg_tokens tokens;
    struct name *names; /* open addressing; a power of two, at most half full */
    uint32_t cap;
    uint64_t fine[256]; /* hashes of code that went well: most scripts repeat a few names */
    bool *is_said;      /* of each token: something was found there */
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
    c->is_said = tg_calloc(c->tokens.n + 1, sizeof(*c->is_said));
    if (!c->names || !c->is_said) return TG_ERR_NOMEM;
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
static void try_call(struct check *c, const char *function, uint32_t from, uint32_t to,
                     bool is_certain)
{
    char code[512];
    char why[280];
    const char *text = c->tokens.text;
    const uint32_t start = c->tokens.items[from].start;
    const uint32_t end = c->tokens.items[to - 1].start + c->tokens.items[to - 1].len;
    if (c->is_said[from]) return;
    const int n = snprintf(code, sizeof(code), "local _ = %s(%.*s)", function, (int)(end - start),
                           text + start);
    if (n < 0 || (size_t)n >= sizeof(code))
        return; /* no backend has such a name; left to run time */
    if (try_code(c, code, (size_t)n, false, why, sizeof(why))) return;
    c->is_said[from] = true;
    found(c, is_certain, c->tokens.items[from].line, why);
}

/* --- arguments --- */

static const char *const opening[] = {"(", "{", "[", NULL};
static const char *const closing[] = {")", "}", "]", NULL};

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

/* keep() with constants only is run as it stands: its second argument is a table of durations. */
static void try_keep(struct check *c, uint32_t i)
{
    static const char *const marks[] = {"(", ")", "{", "}", "[", "]", ",", ";", "=", NULL};
    if (!is(c, i, "keep") || !is(c, i + 1, "(")) return;
    const uint32_t end = behind(c, i + 1);
    bool is_constant = true;
    for (uint32_t k = i + 1; k < end; k++)
        is_constant &= has_kind(c, k, TG_TOKEN_STRING) || has_kind(c, k, TG_TOKEN_NUMBER) ||
                       is_any(c, k, marks);
    const bool is_certain = name_of(c, i)->n_declared == 0; /* else it may be another function */
    if (is_constant && end > i + 3) try_call(c, "keep", i + 2, end - 1, is_certain);
}

static void on_name(void *arg, const char *function, uint32_t text, bool is_sure)
{
    try_call(arg, function, text, text + 1, is_sure);
}

static void on_discarded(void *arg, uint32_t name, bool is_sure)
{
    struct check *c = arg;
    char why[200];
    const struct tg_token *k = &c->tokens.items[name];
    const int len = k->len < 60 ? (int)k->len : 60;
    const char *text = c->tokens.text + k->start;
    (void)snprintf(why, sizeof(why),
                   "what %.*s() gives is not returned, and has no effect; write \"return "
                   "%.*s(...)\"",
                   len, text, len, text);
    found(c, is_sure, k->line, why);
}

/* --- texts that look like a backend --- */

static bool is_same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Edit distance of two texts below 64 bytes, without regard to case; two letters that changed
 * places count once. */
static unsigned distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    unsigned rows[3][64]; /* the row before the last, the last, and this one */
    for (unsigned k = 0; k <= n_b; k++) rows[0][k] = rows[1][k] = k;
    for (unsigned i = 1; i <= n_a; i++) {
        unsigned *now = rows[2];
        now[0] = i;
        for (unsigned k = 1; k <= n_b; k++) {
            const bool is_same = is_same_letter(a[i - 1], b[k - 1]);
            unsigned d = rows[1][k - 1] + !is_same;
            if (rows[1][k] + 1 < d) d = rows[1][k] + 1;
            if (now[k - 1] + 1 < d) d = now[k - 1] + 1;
            const bool is_swapped = i > 1 && k > 1 && is_same_letter(a[i - 1], b[k - 2]) &&
                                    is_same_letter(a[i - 2], b[k - 1]);
            if (is_swapped && rows[0][k - 2] + 1 < d) d = rows[0][k - 2] + 1;
            now[k] = d;
        }
        memcpy(rows[0], rows[1], sizeof(rows[0]));
        memcpy(rows[1], now, sizeof(rows[1]));
    }
    return rows[1][n_b];
}

/* Whether the line of a token ends with the comment that says that it is meant as it is. */
static bool is_waved_through(const struct check *c, const struct tg_token *k)
{
    static const char mark[] = "-- not a backend";
    const char *p = c->tokens.text + k->start + k->len;
    const char *end = c->script->text + c->script->len;
    const char *newline = memchr(p, '\n', (size_t)(end - p));
    if (newline) end = newline;
    for (; (size_t)(end - p) >= sizeof(mark) - 1; p++)
        if (memcmp(p, mark, sizeof(mark) - 1) == 0) return true;
    return false;
}

/* A text that nobody was seen to give to to(), but that only a letter or two keep from being the
 * name of a backend: perhaps it goes there on a way that cannot be followed. */
static void on_other(void *arg, uint32_t text)
{
    struct check *c = arg;
    char why[200];
    const struct tg_token *k = &c->tokens.items[text];
    const char *says = c->tokens.text + k->start + 1;
    const struct tg_rules_config *config = c->vm->config;
    const bool names_backends = c->rule == TG_RULE_ROUTING || c->rule == TG_RULE_STRATEGY;
    if (!names_backends || c->is_said[text] || k->len < 5 || k->len > 65 || says[-1] == '[' ||
        memchr(says, '\\', k->len - 2))
        return;
    const size_t len = k->len - 2;
    const char *near = NULL;
    for (unsigned i = 0; i < config->n_backends; i++) {
        const char *name = config->backends[i];
        const size_t name_len = strlen(name);
        if (name_len == len && memcmp(name, says, len) == 0) return;
        if (near || name_len < 3 || name_len > 63) continue;
        /* Of a short name only one letter: "prod" is no "push". */
        if (distance(says, len, name, name_len) <= (name_len < 6 ? 1U : 2U)) near = name;
    }
    if (!near || is_waved_through(c, k)) return;
    (void)snprintf(why, sizeof(why),
                   "\"%.*s\" is not the name of a backend; did you mean \"%s\"? (if not, end the "
                   "line with: -- not a backend)",
                   (int)len, says, near);
    c->is_said[text] = true;
    found(c, false, k->line, why);
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
        if (!is_key && !(i > 0 && is(c, i - 1, "function"))) try_keep(c, i);
    }
}

enum tg_code tg_names_check(struct tg_vm *vm, enum tg_rule_no rule, const struct tg_rule_text *text,
                            tg_on_finding on_finding, void *arg)
{
    struct check c = {.vm = vm, .rule = rule, .script = text, .on_finding = on_finding, .arg = arg};
    if (!text->text || vm->ref_rules[rule] == LUA_NOREF) return TG_OK;
    enum tg_code code = tg_tokens_read(&c.tokens, text->text, text->len);
    if (code == TG_OK) code = read_names(&c);
    const struct tg_flow_found flow = {
        .arg = &c, .on_name = on_name, .on_discarded = on_discarded, .on_other = on_other};
    if (code == TG_OK) walk(&c);
    if (code == TG_OK) code = tg_flow_find(&c.tokens, &flow);
    if (code == TG_ERR_FULL) {
        found(
            &c, false, 1,
            "too much of the script depends on too much else of it for all names of backends to be "
            "looked up; give to() its names where it is called");
        code = TG_OK;
    }
    tg_free(c.names);
    tg_free(c.is_said);
    tg_tokens_deinit(&c.tokens);
    return c.is_out_of_memory ? TG_ERR_NOMEM : code;
}
