/* tokens.h: the text of a Lua script as tokens (Lua 5.1 manual, section 2.1, with LuaJIT's goto and
 * escapes). For looking at a script that has compiled: a text that is no Lua gives some tokens, not
 * an error.
 *
 * Threading: no shared state.
 */
#ifndef TG_RULES_TOKENS_H
#define TG_RULES_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum tg_token_kind {
    TG_TOKEN_NAME, /* and keywords */
    TG_TOKEN_STRING,
    TG_TOKEN_NUMBER,
    TG_TOKEN_OP, /* one to three characters */
};

struct tg_token {
    uint32_t start, len; /* of the whole token in the text */
    uint32_t line;       /* of its first character; 1 is the first */
    uint8_t kind;        /* enum tg_token_kind */
};

struct tg_tokens {
    const char *text; /* borrowed */
    struct tg_token *items;
    uint32_t n, cap;
};

/* Cuts `text` (below 4 GiB) into tokens; comments and a first line that begins with # are left out.
 * TG_ERR_NOMEM. tg_tokens_deinit in any case. */
TG_MUST_CHECK enum tg_code tg_tokens_read(struct tg_tokens *t, const char *text, size_t len);
void tg_tokens_deinit(struct tg_tokens *t);

/* Whether token `i` is there and reads `what` (a name, keyword or operator). */
bool tg_token_is(const struct tg_tokens *t, uint32_t i, const char *what);

#endif
