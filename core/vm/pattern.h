/* pattern.h: Lua patterns with a step budget.
 *
 * LuaJIT's own matcher backtracks without bound inside one C call, where no hook can stop it. This
 * one compiles a pattern into items (a 256-bit set each) and counts every step it takes; when
 * `max_steps` are used up it gives TG_PATTERN_OVER and the caller ends the rule. The language is
 * that of the Lua 5.1 manual, section 5.4.1, plus its %f frontier.
 *
 * Threading: no shared state. No allocation.
 */
#ifndef TG_VM_PATTERN_H
#define TG_VM_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TG_PATTERN_MAX_ITEMS = 96, /* bounds the recursion too: every choice moves on to a later item */
    TG_PATTERN_MAX_CAPTURES = 32,
};

struct tg_pattern_item {
    uint8_t op;
    uint8_t quantifier; /* 0, '?', '*', '+', '-' */
    uint8_t a, b;       /* %b delimiters; the capture's number */
    uint64_t set[4];
};

struct tg_pattern {
    uint32_t n_items;
    uint32_t n_captures;
    bool anchored; /* begins with ^ */
    struct tg_pattern_item items[TG_PATTERN_MAX_ITEMS];
};

/* Compiles. `anchors` false: a leading ^ is an ordinary character (gmatch). NULL when it compiled,
 * else a constant text that says what is wrong with the pattern. */
const char *tg_pattern_compile(struct tg_pattern *p, const char *text, size_t len, bool anchors);

enum tg_pattern_result {
    TG_PATTERN_NO,
    TG_PATTERN_YES,
    TG_PATTERN_OVER, /* max_steps used up */
};

#define TG_PATTERN_POSITION SIZE_MAX /* len of a capture written "()" */
struct tg_pattern_match {
    const char *subject;
    size_t subject_len;
    uint64_t steps; /* taken so far, over all calls with this match */
    uint64_t max_steps;
    /* out, on TG_PATTERN_YES */
    size_t start, end; /* offsets; end is exclusive */
    struct {
        size_t start, len;
    } captures[TG_PATTERN_MAX_CAPTURES];
};

/* Matches at `from` exactly. */
enum tg_pattern_result tg_pattern_match_at(const struct tg_pattern *p, struct tg_pattern_match *m,
                                           size_t from);
/* First match at or after `from` (at `from` only when the pattern is anchored). */
enum tg_pattern_result tg_pattern_search(const struct tg_pattern *p, struct tg_pattern_match *m,
                                         size_t from);

#endif
