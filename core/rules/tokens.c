#include "core/rules/tokens.h"

#include <ctype.h>
#include <string.h>

#include "core/base/mem.h"

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* Length of "[", "="..., "[" at p, 0 when it is none. */
static size_t long_bracket(const char *p, const char *end)
{
    const char *q = p + 1;
    if (p >= end || *p != '[') return 0;
    while (q < end && *q == '=') q++;
    return q < end && *q == '[' ? (size_t)(q + 1 - p) : 0;
}

/* Behind the long string whose opening bracket of `open` bytes is at p. */
static const char *long_end(const char *p, size_t open, const char *end)
{
    for (const char *q = p + open; q + open <= end; q++) {
        if (q[0] != ']' || q[open - 1] != ']') continue;
        size_t i = 1;
        while (i < open - 1 && q[i] == '=') i++;
        if (i == open - 1) return q + open;
    }
    return end;
}

/* Behind the quoted string at p. */
static const char *string_end(const char *p, const char *end)
{
    const char quote = *p++;
    while (p < end && *p != quote) {
        if (*p != '\\' || p + 1 >= end) {
            p++;
        } else if (p[1] == 'z') { /* skips the white space that follows */
            for (p += 2; p < end && isspace((unsigned char)*p); p++)
                ;
        } else {
            p += 2;
        }
    }
    return p < end ? p + 1 : end;
}

static const char *number_end(const char *p, const char *end)
{
    const char *const start = p;
    while (p < end && (is_name_char(*p) || *p == '.' ||
                       ((*p == '+' || *p == '-') && strchr("eEpP", p[-1]) && p > start)))
        p++;
    return p;
}

static size_t op_len(const char *p, const char *end)
{
    static const char *const ops[] = {"...", "..", "==", "~=", "<=", ">=", "::"};
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        const size_t n = strlen(ops[i]);
        if ((size_t)(end - p) >= n && memcmp(p, ops[i], n) == 0) return n;
    }
    return 1;
}

static enum tg_code push(struct tg_tokens *t, enum tg_token_kind kind, const char *start,
                         const char *end, uint32_t line)
{
    if (t->n == t->cap) {
        const uint32_t cap = t->cap ? t->cap * 2 : 256;
        struct tg_token *items = tg_reallocarray(t->items, cap, sizeof(*items));
        if (!items) return TG_ERR_NOMEM;
        t->items = items;
        t->cap = cap;
    }
    t->items[t->n++] = (struct tg_token){.start = (uint32_t)(start - t->text),
                                         .len = (uint32_t)(end - start),
                                         .line = line,
                                         .kind = (uint8_t)kind};
    return TG_OK;
}

enum tg_code tg_tokens_read(struct tg_tokens *t, const char *text, size_t len)
{
    *t = (struct tg_tokens){.text = text};
    const char *const end = text + len;
    uint32_t line = 1;
    const char *p = text;
    if (len >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) p += 3; /* a byte order mark */
    if (p < end && *p == '#') p = memchr(p, '\n', (size_t)(end - p));
    while (p && p < end) {
        const char *next;
        enum tg_token_kind kind = TG_TOKEN_OP;
        bool is_token = true;
        const size_t open = long_bracket(p, end);
        if (isspace((unsigned char)*p)) {
            next = p + 1;
            is_token = false;
        } else if (end - p >= 2 && p[0] == '-' && p[1] == '-') {
            const size_t comment = long_bracket(p + 2, end);
            next = comment ? long_end(p + 2, comment, end) : memchr(p, '\n', (size_t)(end - p));
            if (!next) next = end;
            is_token = false;
        } else if (open || *p == '"' || *p == '\'') {
            kind = TG_TOKEN_STRING;
            next = open ? long_end(p, open, end) : string_end(p, end);
        } else if (isdigit((unsigned char)*p) ||
                   (*p == '.' && end - p >= 2 && isdigit((unsigned char)p[1]))) {
            kind = TG_TOKEN_NUMBER;
            next = number_end(p, end);
        } else if (is_name_char(*p)) {
            kind = TG_TOKEN_NAME;
            for (next = p + 1; next < end && is_name_char(*next);) next++;
        } else {
            next = p + op_len(p, end);
        }
        if (is_token) TG_TRY(push(t, kind, p, next, line));
        for (; p < next; p++) line += *p == '\n';
    }
    return TG_OK;
}

void tg_tokens_deinit(struct tg_tokens *t)
{
    tg_free(t->items);
    t->items = NULL;
    t->n = t->cap = 0;
}

bool tg_token_is(const struct tg_tokens *t, uint32_t i, const char *what)
{
    if (i >= t->n) return false;
    const struct tg_token *k = &t->items[i];
    return k->kind != TG_TOKEN_STRING && strlen(what) == k->len &&
           memcmp(t->text + k->start, what, k->len) == 0;
}
