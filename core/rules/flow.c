#include "core/rules/flow.h"

#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"

enum { MAX_STEPS = 4 << 20, MAX_ROUNDS = 8 };

#define NONE UINT32_MAX

/* What verdict functions there are, and whether the names of backends (or a duration) come first
 * only. Their nodes have these numbers. */
static const struct {
    const char *name;
    bool takes_names, takes_many;
} verdicts[] = {
    {"to", true, true},
    {"primary_only", true, false},
    {"primary_with_async_replication", true, false},
    {"keep", true, false},
    {"drop", false, false},
    {"logged", false, false},
    {"all", false, false},
};
enum { N_VERDICTS = sizeof(verdicts) / sizeof(verdicts[0]) };

/* How a value comes from its node: itself, an entry of it, or as an entry of a table. */
enum op { WHOLE, READ, STORE };

struct value {
    uint32_t node;
    uint32_t field; /* of READ and STORE: hash of its name, 0 = any */
    enum op op;
};

enum kind { VERDICT, VARIABLE, TEXT, FUNCTION };

struct node {
    enum kind kind;
    uint32_t what;                  /* token of a text, index of a function */
    uint32_t first_in, n_in;        /* edges */
    bool has_out, reaches_name;     /* of texts */
    bool is_verdict;                /* may hold one */
    uint32_t seen_whole, seen_read; /* number of the walk */
    uint32_t want;                  /* in it: the field, 0 = any */
};

struct edge {
    struct value from;
    uint32_t to;
    uint32_t next_in;
};

struct function {
    uint32_t result;                /* node */
    uint32_t first_param, n_params; /* in params */
    uint32_t rest;                  /* node of "...", NONE = has none */
};

struct given {
    struct value value;
    uint32_t position;
};

struct call {
    uint32_t name;                   /* token */
    uint32_t first_callee, n_callee; /* in given */
    uint32_t first_arg, n_args;      /* in given */
    uint32_t result;                 /* node */
    uint32_t first_link;
    bool is_statement;
};

struct link {
    uint32_t node; /* of a function or verdict */
    uint32_t next;
};

struct local {
    uint32_t token; /* NONE: "..." */
    uint32_t node;
};

struct step {
    uint32_t node, want;
    bool is_read;
};

struct list {
    void *items;
    uint32_t n, cap;
};

struct flow {
    const struct tg_tokens *t;
    uint32_t at;
    struct list nodes, edges, functions, params, given, calls, links, locals;
    struct list values; /* of the expression under way */
    struct list steps;
    uint32_t function; /* under way; NONE = the script itself */
    uint32_t n_walks;
    int64_t steps_left;
    bool is_out_of_memory;
};

#define AT(f, list, type, i) (&((struct type *)(f)->list.items)[i])

/* --- building blocks --- */

/* Room for one more; NULL when out of memory: then the parse comes to an end. */
static void *add(struct flow *f, struct list *l, size_t size)
{
    if (l->n == l->cap) {
        const uint32_t cap = l->cap ? l->cap * 2 : 64;
        void *items = tg_reallocarray(l->items, cap, size);
        if (!items) {
            f->is_out_of_memory = true;
            f->at = f->t->n;
            return NULL;
        }
        l->items = items;
        l->cap = cap;
    }
    return (char *)l->items + (size_t)l->n++ * size;
}

/* 0 when out of memory: a node that is there. */
static uint32_t add_node(struct flow *f, enum kind kind, uint32_t what)
{
    struct node *n = add(f, &f->nodes, sizeof(*n));
    if (!n) return 0;
    *n = (struct node){.kind = kind, .what = what, .first_in = NONE};
    return f->nodes.n - 1;
}

static void push_value(struct flow *f, struct value v)
{
    struct value *to = add(f, &f->values, sizeof(*to));
    if (to) *to = v;
}

static void push_node(struct flow *f, uint32_t node)
{
    push_value(f, (struct value){.node = node, .op = WHOLE});
}

static void add_edge(struct flow *f, struct value from, uint32_t to)
{
    struct edge *e = add(f, &f->edges, sizeof(*e));
    if (!e) return;
    struct node *n = AT(f, nodes, node, to);
    *e = (struct edge){.from = from, .to = to, .next_in = n->first_in};
    n->first_in = f->edges.n - 1;
    n->n_in++;
    AT(f, nodes, node, from.node)->has_out = true;
}

/* The value as an entry of a table. An entry of an entry keeps the inner name: paths are told apart
 * by their last. */
static struct value as_entry(struct flow *f, struct value v, uint32_t field)
{
    if (v.op == STORE) return v;
    if (v.op == READ) {
        const uint32_t between = add_node(f, VARIABLE, 0);
        add_edge(f, v, between);
        v.node = between;
    }
    v.op = STORE;
    v.field = field;
    return v;
}

/* What is assigned to a variable or an entry of it. */
static void assign(struct flow *f, struct value from, struct value to)
{
    if (AT(f, nodes, node, to.node)->kind != VARIABLE) return;
    add_edge(f, to.op == READ ? as_entry(f, from, to.field) : from, to.node);
}

/* The values from `mark` on are taken an entry of. */
static void read_field(struct flow *f, uint32_t mark, uint32_t field)
{
    uint32_t kept = mark;
    for (uint32_t i = mark; i < f->values.n; i++) {
        struct value v = *AT(f, values, value, i);
        if (v.op == STORE) {
            if (v.field && field && v.field != field) continue;
            v.op = WHOLE;
        } else if (AT(f, nodes, node, v.node)->kind != VARIABLE) {
            continue;
        } else {
            v.op = READ;
            v.field = field;
        }
        *AT(f, values, value, kept++) = v;
    }
    f->values.n = kept;
}

/* --- tokens --- */

static bool is(const struct flow *f, const char *what)
{
    return tg_token_is(f->t, f->at, what);
}

static bool is_kind(const struct flow *f, uint32_t i, enum tg_token_kind kind)
{
    return i < f->t->n && f->t->items[i].kind == kind;
}

static bool skip(struct flow *f, const char *what)
{
    const bool there = is(f, what);
    f->at += there;
    return there;
}

/* Hash of a name, or of what a plain quoted text says. Never 0. */
static uint32_t field_hash(const struct flow *f, uint32_t i)
{
    if (i >= f->t->n) return 0;
    const struct tg_token *k = &f->t->items[i];
    const char *text = f->t->text + k->start;
    const uint32_t quotes = k->kind == TG_TOKEN_STRING ? 1 : 0;
    if (quotes && (k->len < 2 || text[0] == '[' || memchr(text, '\\', k->len))) return 0;
    return (uint32_t)tg_hash64(text + quotes, k->len - 2 * quotes) | 1;
}

static bool is_same_name(const struct flow *f, uint32_t a, uint32_t b)
{
    const struct tg_token *x = &f->t->items[a];
    const struct tg_token *y = &f->t->items[b];
    return x->len == y->len && memcmp(f->t->text + x->start, f->t->text + y->start, x->len) == 0;
}

/* --- scopes --- */

static uint32_t declare(struct flow *f, uint32_t token)
{
    const uint32_t node = add_node(f, VARIABLE, 0);
    struct local *l = add(f, &f->locals, sizeof(*l));
    if (l) *l = (struct local){.token = token, .node = node};
    return node;
}

/* The local variable named at `token`, NONE = a global. */
static uint32_t look_up(const struct flow *f, uint32_t token)
{
    for (uint32_t i = f->locals.n; i-- > 0;) {
        const struct local *l = AT(f, locals, local, i);
        if (l->token != NONE && is_same_name(f, l->token, token)) return l->node;
    }
    return NONE;
}

/* --- expressions --- */

static void expression(struct flow *f, int limit);
static void block(struct flow *f);

static uint32_t give(struct flow *f, struct value v, uint32_t position)
{
    struct given *g = add(f, &f->given, sizeof(*g));
    if (g) *g = (struct given){.value = v, .position = position};
    return f->given.n;
}

static void parse_body(struct flow *f, bool has_self)
{
    const uint32_t scope = f->locals.n;
    const uint32_t outer = f->function;
    struct function *made = add(f, &f->functions, sizeof(*made));
    if (!made) return;
    const uint32_t index = f->functions.n - 1;
    *made = (struct function){.first_param = f->params.n, .rest = NONE};
    const uint32_t result = add_node(f, VARIABLE, 0);
    uint32_t rest = NONE;
    uint32_t n_params = 0;
    if (has_self) {
        uint32_t *p = add(f, &f->params, sizeof(*p));
        if (p) *p = add_node(f, VARIABLE, 0);
        n_params++;
    }
    (void)skip(f, "(");
    for (; f->at < f->t->n && !skip(f, ")"); f->at++) {
        if (is(f, "...")) {
            rest = declare(f, NONE);
        } else if (is_kind(f, f->at, TG_TOKEN_NAME)) {
            uint32_t *p = add(f, &f->params, sizeof(*p));
            if (p) *p = declare(f, f->at);
            n_params++;
        }
    }
    made = AT(f, functions, function, index);
    made->result = result;
    made->rest = rest;
    made->n_params = n_params;
    f->function = index;
    block(f);
    (void)skip(f, "end");
    f->function = outer;
    f->locals.n = scope;
    push_node(f, add_node(f, FUNCTION, index));
}

static void parse_table(struct flow *f)
{
    f->at++;
    while (f->at < f->t->n && !skip(f, "}")) {
        uint32_t field = 0;
        if (is(f, "[")) {
            const uint32_t mark = f->values.n;
            f->at++;
            if (is_kind(f, f->at, TG_TOKEN_STRING) && tg_token_is(f->t, f->at + 1, "]"))
                field = field_hash(f, f->at);
            expression(f, 0);
            f->values.n = mark;
            (void)skip(f, "]");
            (void)skip(f, "=");
        } else if (is_kind(f, f->at, TG_TOKEN_NAME) && tg_token_is(f->t, f->at + 1, "=")) {
            field = field_hash(f, f->at);
            f->at += 2;
        }
        const uint32_t mark = f->values.n;
        expression(f, 0);
        for (uint32_t i = mark; i < f->values.n; i++) {
            const struct value v = as_entry(f, *AT(f, values, value, i), field);
            *AT(f, values, value, i) = v;
        }
        if (!skip(f, ",")) (void)skip(f, ";");
    }
}

/* The global function that is called: its name's token, and that of its library. */
struct global {
    uint32_t name, library;
};

static bool is_global(const struct flow *f, const struct global *g, const char *library,
                      const char *name)
{
    if (g->name == NONE || !tg_token_is(f->t, g->name, name)) return false;
    return library ? g->library != NONE && tg_token_is(f->t, g->library, library)
                   : g->library == NONE;
}

/* The values given to functions that pass them on as they are, or entries of them. */
static bool pass_on(struct flow *f, const struct global *g, uint32_t mark, uint32_t first_arg)
{
    static const char *const whole[] = {"assert", "select"};
    static const char *const entries[] = {"unpack", "pairs", "ipairs", "next"};
    bool is_whole = false;
    bool is_entry = is_global(f, g, "table", "remove");
    for (unsigned i = 0; i < 2; i++) is_whole |= is_global(f, g, NULL, whole[i]);
    for (unsigned i = 0; i < 4; i++) is_entry |= is_global(f, g, NULL, entries[i]);
    if (is_global(f, g, "table", "insert")) {
        for (uint32_t to = first_arg; to < f->given.n; to++)
            for (uint32_t i = first_arg; i < f->given.n; i++) {
                const struct given from = *AT(f, given, given, i);
                struct given table = *AT(f, given, given, to);
                if (table.position != 0 || from.position == 0) continue;
                if (table.value.op == STORE) continue;
                table.value.op = READ;
                table.value.field = 0;
                assign(f, from.value, table.value);
            }
    }
    if (!is_whole && !is_entry) return false;
    for (uint32_t i = first_arg; i < f->given.n; i++) push_value(f, AT(f, given, given, i)->value);
    if (is_entry) read_field(f, mark, 0);
    return true;
}

/* The call of the values from `mark` on, which it replaces by its result. */
static void parse_call(struct flow *f, uint32_t mark, uint32_t name, const struct global *g,
                       bool is_method)
{
    struct call c = {.name = name, .first_callee = f->given.n, .first_link = NONE};
    const bool is_pcall = is_global(f, g, NULL, "pcall");
    const uint32_t n_self = is_method ? 1 : 0;
    for (uint32_t i = mark; i < f->values.n; i++) (void)give(f, *AT(f, values, value, i), 0);
    c.n_callee = f->given.n - c.first_callee;
    f->values.n = mark;
    /* Calls among the arguments put theirs into the same list: so they are collected first. */
    struct list own = {NULL, 0, 0};
    uint32_t position = n_self;
    const bool is_list = is(f, "(");
    if (is_list) f->at++;
    while (f->at < f->t->n && !(is_list && skip(f, ")"))) {
        if (!is_list && is(f, "{"))
            parse_table(f);
        else if (!is_list && is_kind(f, f->at, TG_TOKEN_STRING))
            push_node(f, add_node(f, TEXT, f->at++));
        else
            expression(f, 0);
        for (uint32_t i = mark; i < f->values.n; i++) {
            struct given *to = add(f, &own, sizeof(*to));
            if (to) *to = (struct given){*AT(f, values, value, i), position};
        }
        f->values.n = mark;
        position++;
        if (!is_list) break;
        (void)skip(f, ",");
    }
    if (is_pcall) c.first_callee = f->given.n;
    c.n_callee = is_pcall ? 0 : c.n_callee;
    for (uint32_t i = 0; is_pcall && i < own.n; i++) {
        const struct given *o = &((struct given *)own.items)[i];
        if (o->position == 0) c.n_callee += give(f, o->value, 0) > 0;
    }
    c.first_arg = f->given.n;
    for (uint32_t i = 0; i < own.n; i++) {
        const struct given *o = &((struct given *)own.items)[i];
        if (!is_pcall || o->position > 0) (void)give(f, o->value, o->position - is_pcall);
    }
    tg_free(own.items);
    c.n_args = f->given.n - c.first_arg;
    if (pass_on(f, g, mark, c.first_arg)) return;
    c.result = add_node(f, VARIABLE, 0);
    struct call *kept = add(f, &f->calls, sizeof(*kept));
    if (kept) *kept = c;
    push_node(f, c.result);
}

/* A name or bracket with all that follows it: fields, indexes, calls. Whether it ends as a call. */
static bool suffixed(struct flow *f)
{
    const uint32_t mark = f->values.n;
    struct global g = {NONE, NONE};
    uint32_t name = f->at;
    bool is_call = false;
    if (skip(f, "(")) {
        expression(f, 0);
        (void)skip(f, ")");
    } else {
        const uint32_t node = look_up(f, f->at);
        if (node != NONE) {
            push_node(f, node);
        } else {
            g.name = f->at;
            for (uint32_t i = 0; i < N_VERDICTS; i++)
                if (is(f, verdicts[i].name)) push_node(f, i);
        }
        f->at++;
    }
    while (f->at < f->t->n) {
        if (is(f, ".")) {
            is_call = false;
            name = ++f->at;
            g.library = g.library == NONE ? g.name : NONE;
            g.name = g.library == NONE ? NONE : name;
            read_field(f, mark, field_hash(f, f->at++));
            continue;
        }
        if (is(f, "[")) {
            is_call = false;
            const uint32_t from = f->values.n;
            f->at++;
            const bool is_plain =
                is_kind(f, f->at, TG_TOKEN_STRING) && tg_token_is(f->t, f->at + 1, "]");
            const uint32_t field = is_plain ? field_hash(f, f->at) : 0;
            expression(f, 0);
            f->values.n = from;
            (void)skip(f, "]");
            read_field(f, mark, field);
            g.name = NONE;
            continue;
        }
        const bool is_method = is(f, ":");
        if (is_method) {
            name = ++f->at;
            read_field(f, mark, field_hash(f, f->at++));
            g.name = NONE;
        }
        if (!is(f, "(") && !is(f, "{") && !is_kind(f, f->at, TG_TOKEN_STRING)) break;
        parse_call(f, mark, name, &g, is_method);
        g.name = NONE;
        is_call = true;
    }
    return is_call;
}

static void simple(struct flow *f)
{
    static const char *const constants[] = {"nil", "true", "false", NULL};
    if (is_kind(f, f->at, TG_TOKEN_STRING)) {
        push_node(f, add_node(f, TEXT, f->at));
        f->at++;
    } else if (is_kind(f, f->at, TG_TOKEN_NUMBER)) {
        f->at++;
    } else if (is(f, "...")) {
        f->at++;
        for (uint32_t i = f->locals.n; i-- > 0;) {
            if (AT(f, locals, local, i)->token != NONE) continue;
            push_node(f, AT(f, locals, local, i)->node);
            break;
        }
    } else if (is(f, "{")) {
        parse_table(f);
    } else if (skip(f, "function")) {
        parse_body(f, false);
    } else {
        for (unsigned i = 0; constants[i]; i++)
            if (skip(f, constants[i])) return;
        (void)suffixed(f);
    }
}

/* One expression: puts the values that it may have on the stack. `limit` as in Lua's parser. */
static void expression(struct flow *f, int limit)
{
    static const struct {
        const char *op;
        int left, right;
    } ops[] = {{"or", 1, 1}, {"and", 2, 2}, {"<", 3, 3},  {">", 3, 3},  {"<=", 3, 3},
               {">=", 3, 3}, {"~=", 3, 3},  {"==", 3, 3}, {"..", 5, 4}, {"+", 6, 6},
               {"-", 6, 6},  {"*", 7, 7},   {"/", 7, 7},  {"%", 7, 7},  {"^", 10, 9}};
    enum { N_OPS = sizeof(ops) / sizeof(ops[0]), UNARY = 8 };
    const uint32_t mark = f->values.n;
    if (is(f, "not") || is(f, "-") || is(f, "#")) {
        f->at++;
        expression(f, UNARY);
        f->values.n = mark;
    } else {
        simple(f);
    }
    for (;;) {
        unsigned i = 0;
        while (i < N_OPS && !is(f, ops[i].op)) i++;
        if (i == N_OPS || ops[i].left <= limit) return;
        f->at++;
        if (i == 1) f->values.n = mark; /* "and": the left side counts only when it is false */
        expression(f, ops[i].right);
        if (i > 1) f->values.n = mark; /* made at run time */
    }
}

/* Expressions between commas, each to its target; the last one to all that are left, for it may be
 * a call. Targets are values `first` to `first + n` of the stack. */
static void assign_list(struct flow *f, uint32_t first, uint32_t n)
{
    for (uint32_t k = 0; f->at < f->t->n; k++) {
        const uint32_t mark = f->values.n;
        expression(f, 0);
        const bool is_last = !is(f, ",");
        for (uint32_t i = mark; i < f->values.n; i++)
            for (uint32_t to = k; to < n; to++) {
                if (to > k && !is_last) break;
                assign(f, *AT(f, values, value, i), *AT(f, values, value, first + to));
            }
        f->values.n = mark;
        if (is_last) return;
        f->at++;
    }
}

/* --- statements --- */

static void discard(struct flow *f)
{
    const uint32_t mark = f->values.n;
    expression(f, 0);
    f->values.n = mark;
}

static void scoped_block(struct flow *f)
{
    const uint32_t scope = f->locals.n;
    block(f);
    f->locals.n = scope;
}

static void parse_if(struct flow *f)
{
    do {
        discard(f);
        (void)skip(f, "then");
        scoped_block(f);
    } while (skip(f, "elseif"));
    if (skip(f, "else")) scoped_block(f);
    (void)skip(f, "end");
}

/* Names between commas. Declared when what is assigned to them has been read. */
static uint32_t parse_names(struct flow *f, uint32_t *first)
{
    uint32_t n = 0;
    *first = f->at;
    do {
        f->at++;
        n++;
    } while (skip(f, ","));
    return n;
}

static void parse_for(struct flow *f)
{
    const uint32_t scope = f->locals.n;
    const uint32_t mark = f->values.n;
    uint32_t names;
    const uint32_t n = parse_names(f, &names);
    const bool is_in = is(f, "in");
    f->at++;
    do {
        expression(f, 0);
        if (!is_in) f->values.n = mark;
    } while (skip(f, ","));
    const uint32_t end = f->values.n;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t node = declare(f, names + 2 * i);
        for (uint32_t k = mark; k < end; k++) add_edge(f, *AT(f, values, value, k), node);
    }
    f->values.n = mark;
    (void)skip(f, "do");
    block(f);
    (void)skip(f, "end");
    f->locals.n = scope;
}

static void parse_local(struct flow *f)
{
    const uint32_t mark = f->values.n;
    if (skip(f, "function")) {
        const uint32_t node = declare(f, f->at++);
        parse_body(f, false);
        if (f->values.n > mark) add_edge(f, *AT(f, values, value, mark), node);
        f->values.n = mark;
        return;
    }
    uint32_t names;
    const uint32_t n = parse_names(f, &names);
    const uint32_t first = f->nodes.n;
    for (uint32_t i = 0; i < n; i++) push_node(f, add_node(f, VARIABLE, 0));
    if (skip(f, "=")) assign_list(f, mark, n);
    for (uint32_t i = 0; i < n && !f->is_out_of_memory; i++) {
        struct local *l = add(f, &f->locals, sizeof(*l));
        if (l) *l = (struct local){.token = names + 2 * i, .node = first + i};
    }
    f->values.n = mark;
}

/* function a.b:c() */
static void parse_function(struct flow *f)
{
    const uint32_t mark = f->values.n;
    const uint32_t node = look_up(f, f->at++);
    if (node != NONE) push_node(f, node);
    bool is_method = false;
    while (is(f, ".") || is(f, ":")) {
        is_method = is(f, ":");
        f->at++;
        read_field(f, mark, field_hash(f, f->at++));
    }
    const uint32_t made = f->values.n;
    parse_body(f, is_method);
    if (made > mark && f->values.n > made)
        assign(f, *AT(f, values, value, made), *AT(f, values, value, mark));
    f->values.n = mark;
}

static void parse_return(struct flow *f)
{
    static const char *const ends[] = {"end", "else", "elseif", "until", ";", NULL};
    for (unsigned i = 0; ends[i]; i++)
        if (is(f, ends[i])) return;
    while (f->at < f->t->n) {
        const uint32_t mark = f->values.n;
        expression(f, 0);
        for (uint32_t i = mark; i < f->values.n && f->function != NONE; i++)
            add_edge(f, *AT(f, values, value, i), AT(f, functions, function, f->function)->result);
        f->values.n = mark;
        if (!skip(f, ",")) return;
    }
}

/* A call, or an assignment to several places. */
static void parse_expression_statement(struct flow *f)
{
    static const struct value nowhere = {.node = 0, .op = WHOLE}; /* no variable */
    const uint32_t mark = f->values.n;
    const uint32_t first_call = f->calls.n;
    uint32_t n = 0;
    bool is_call;
    do {
        const uint32_t before = f->values.n;
        is_call = suffixed(f);
        if (f->values.n == before) push_value(f, nowhere);
        if (f->values.n > before) f->values.n = before + 1;
        n++;
    } while (skip(f, ","));
    if (skip(f, "="))
        assign_list(f, mark, n);
    else if (is_call && f->calls.n > first_call) /* the last of a chain is noted last */
        AT(f, calls, call, f->calls.n - 1)->is_statement = true;
    f->values.n = mark;
}

static void statement(struct flow *f)
{
    if (skip(f, "if")) {
        parse_if(f);
    } else if (skip(f, "while")) {
        discard(f);
        (void)skip(f, "do");
        scoped_block(f);
        (void)skip(f, "end");
    } else if (skip(f, "do")) {
        scoped_block(f);
        (void)skip(f, "end");
    } else if (skip(f, "for")) {
        parse_for(f);
    } else if (skip(f, "repeat")) {
        const uint32_t scope = f->locals.n;
        block(f);
        (void)skip(f, "until");
        discard(f);
        f->locals.n = scope;
    } else if (skip(f, "function")) {
        parse_function(f);
    } else if (skip(f, "local")) {
        parse_local(f);
    } else if (skip(f, "return")) {
        parse_return(f);
    } else if (skip(f, "goto") || skip(f, "::")) {
        f->at++;
        (void)skip(f, "::");
    } else if (!skip(f, ";") && !skip(f, "break")) {
        parse_expression_statement(f);
    }
}

static void block(struct flow *f)
{
    static const char *const ends[] = {"end", "else", "elseif", "until", NULL};
    while (f->at < f->t->n) {
        for (unsigned i = 0; ends[i]; i++)
            if (is(f, ends[i])) return;
        const uint32_t before = f->at;
        statement(f);
        if (f->at == before) f->at++; /* no Lua that we know */
    }
}

/* --- walking back --- */

static void step_to(struct flow *f, uint32_t node, bool is_read, uint32_t want)
{
    struct node *n = AT(f, nodes, node, node);
    if (!is_read) {
        if (n->seen_whole == f->n_walks) return;
        n->seen_whole = f->n_walks;
    } else {
        const bool is_seen = n->seen_read == f->n_walks;
        if (is_seen && (n->want == 0 || n->want == want)) return;
        n->want = is_seen ? 0 : want;
        n->seen_read = f->n_walks;
        want = n->want;
    }
    struct step *s = add(f, &f->steps, sizeof(*s));
    if (s) *s = (struct step){node, want, is_read};
}

static void step_back(struct flow *f, struct step s, const struct value *from)
{
    const struct node *n = AT(f, nodes, node, from->node);
    if (from->op == WHOLE) {
        step_to(f, from->node, s.is_read, s.want);
    } else if (from->op == READ) { /* of a path the last read counts, which comes first here */
        step_to(f, from->node, true, s.is_read ? s.want : from->field);
    } else {
        const bool is_it = s.is_read ? !s.want || !from->field || s.want == from->field
                                     : !from->field; /* a list that is given as a whole */
        if (is_it) step_to(f, from->node, false, 0);
        if (s.is_read && n->kind == VARIABLE) step_to(f, from->node, true, s.want);
    }
}

/* Walks back from a value to the texts, functions and verdicts that it may be: `on_node` is called
 * for each. */
static void walk_back(struct flow *f, const struct value *from,
                      void (*on_node)(struct flow *f, uint32_t node, void *arg), void *arg)
{
    f->n_walks++;
    f->steps.n = 0;
    step_back(f, (struct step){0, 0, false}, from);
    while (f->steps.n > 0 && f->steps_left > 0) {
        const struct step s = *AT(f, steps, step, --f->steps.n);
        const struct node *n = AT(f, nodes, node, s.node);
        if (n->kind != VARIABLE && !s.is_read) on_node(f, s.node, arg);
        for (uint32_t e = AT(f, nodes, node, s.node)->first_in; e != NONE;
             e = AT(f, edges, edge, e)->next_in) {
            f->steps_left--;
            const struct value v = AT(f, edges, edge, e)->from;
            step_back(f, s, &v);
        }
    }
}

/* --- linking calls --- */

static void give_to_function(struct flow *f, const struct call *c, const struct function *to)
{
    for (uint32_t i = c->first_arg; i < c->first_arg + c->n_args; i++) {
        const struct given g = *AT(f, given, given, i);
        if (g.position < to->n_params)
            add_edge(f, g.value, ((uint32_t *)f->params.items)[to->first_param + g.position]);
        else if (to->rest != NONE)
            add_edge(f, g.value, to->rest);
    }
    add_edge(f, (struct value){.node = to->result, .op = WHOLE}, c->result);
}

static void link_call(struct flow *f, uint32_t node, void *arg)
{
    const uint32_t index = *(uint32_t *)arg;
    const struct node n = *AT(f, nodes, node, node);
    const struct call c = *AT(f, calls, call, index);
    if (n.kind == TEXT) return;
    for (uint32_t l = c.first_link; l != NONE; l = AT(f, links, link, l)->next)
        if (AT(f, links, link, l)->node == node) return;
    struct link *made = add(f, &f->links, sizeof(*made));
    if (!made) return;
    *made = (struct link){node, c.first_link};
    AT(f, calls, call, index)->first_link = f->links.n - 1;
    if (n.kind == FUNCTION) {
        const struct function to = *AT(f, functions, function, n.what);
        give_to_function(f, &c, &to);
    } else {
        AT(f, nodes, node, c.result)->is_verdict = true;
    }
}

/* What a call links may show what another calls. */
static void link_calls(struct flow *f)
{
    for (unsigned round = 0; round < MAX_ROUNDS && !f->is_out_of_memory; round++) {
        const uint32_t n_before = f->links.n;
        for (uint32_t i = 0; i < f->calls.n; i++) {
            const struct call c = *AT(f, calls, call, i);
            for (uint32_t k = 0; k < c.n_callee; k++) {
                const struct value callee = AT(f, given, given, c.first_callee + k)->value;
                walk_back(f, &callee, link_call, &i);
            }
        }
        if (f->links.n == n_before) return;
    }
}

/* --- findings --- */

struct telling {
    const struct tg_flow_found *found;
    const char *function;
    uint32_t sure; /* node of a text */
};

static void tell_name(struct flow *f, uint32_t node, void *arg)
{
    const struct telling *t = arg;
    struct node *n = AT(f, nodes, node, node);
    if (n->kind != TEXT) return;
    n->reaches_name = true;
    t->found->on_name(t->found->arg, t->function, n->what, node == t->sure);
}

/* The text that a value is whatever happens; NONE = several, or not known. */
static uint32_t sure_text(const struct flow *f, const struct value *v)
{
    const struct node *n = AT(f, nodes, node, v->node);
    if (n->kind == TEXT) return v->node;
    if (v->op != WHOLE || n->n_in != 1) return NONE;
    const struct value *from = &AT(f, edges, edge, n->first_in)->from;
    const bool is_text = AT(f, nodes, node, from->node)->kind == TEXT && from->op == WHOLE;
    return is_text ? from->node : NONE;
}

/* Whether the call calls one verdict function whatever happens: by its name, or by a variable that
 * holds nothing else. */
static bool is_sure_call(const struct flow *f, const struct call *c)
{
    if (c->n_callee != 1 || AT(f, links, link, c->first_link)->next != NONE) return false;
    const struct value *callee = &AT(f, given, given, c->first_callee)->value;
    const struct node *n = AT(f, nodes, node, callee->node);
    return callee->op == WHOLE && (n->kind != VARIABLE || n->n_in == 1);
}

static void find_names(struct flow *f, const struct tg_flow_found *found)
{
    for (uint32_t i = 0; i < f->calls.n; i++) {
        const struct call c = *AT(f, calls, call, i);
        for (uint32_t l = c.first_link; l != NONE; l = AT(f, links, link, l)->next) {
            const uint32_t to = AT(f, links, link, l)->node;
            if (AT(f, nodes, node, to)->kind != VERDICT || !verdicts[to].takes_names) continue;
            for (uint32_t k = c.first_arg; k < c.first_arg + c.n_args; k++) {
                const struct given g = *AT(f, given, given, k);
                if (g.position > 0 && !verdicts[to].takes_many) continue;
                struct telling t = {found, verdicts[to].name,
                                    is_sure_call(f, &c) ? sure_text(f, &g.value) : NONE};
                walk_back(f, &g.value, tell_name, &t);
            }
        }
    }
}

/* Variables that may hold a verdict: what the calls of verdict functions give, and where it goes.
 */
static void spread_verdicts(struct flow *f)
{
    for (bool is_new = true; is_new && f->steps_left > 0;) {
        is_new = false;
        for (uint32_t i = 0; i < f->edges.n; i++) {
            const struct edge *e = AT(f, edges, edge, i);
            struct node *to = AT(f, nodes, node, e->to);
            f->steps_left--;
            if (to->is_verdict || e->from.op != WHOLE) continue;
            to->is_verdict = AT(f, nodes, node, e->from.node)->is_verdict;
            is_new |= to->is_verdict;
        }
    }
}

static void find_discarded(struct flow *f, const struct tg_flow_found *found)
{
    spread_verdicts(f);
    for (uint32_t i = 0; i < f->calls.n; i++) {
        const struct call *c = AT(f, calls, call, i);
        if (c->is_statement && AT(f, nodes, node, c->result)->is_verdict)
            found->on_discarded(found->arg, c->name, is_sure_call(f, c));
    }
}

static void find_others(const struct flow *f, const struct tg_flow_found *found)
{
    for (uint32_t i = 0; i < f->nodes.n; i++) {
        const struct node *n = AT(f, nodes, node, i);
        if (n->kind == TEXT && n->has_out && !n->reaches_name) found->on_other(found->arg, n->what);
    }
}

enum tg_code tg_flow_find(const struct tg_tokens *tokens, const struct tg_flow_found *found)
{
    struct flow f = {.t = tokens, .function = NONE, .steps_left = MAX_STEPS};
    for (uint32_t i = 0; i < N_VERDICTS; i++) (void)add_node(&f, VERDICT, i);
    while (f.at < tokens->n) { /* a block ends early only where the text is no Lua */
        block(&f);
        f.at++;
    }
    if (!f.is_out_of_memory) link_calls(&f);
    if (!f.is_out_of_memory) find_names(&f, found);
    if (!f.is_out_of_memory) find_discarded(&f, found);
    if (!f.is_out_of_memory) find_others(&f, found);
    struct list *const lists[] = {&f.nodes, &f.edges, &f.functions, &f.params, &f.given,
                                  &f.calls, &f.links, &f.locals,    &f.values, &f.steps};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) tg_free(lists[i]->items);
    if (f.is_out_of_memory) return TG_ERR_NOMEM;
    return f.steps_left > 0 ? TG_OK : TG_ERR_FULL;
}
