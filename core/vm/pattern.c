#include "core/vm/pattern.h"

#include <ctype.h>
#include <string.h>

enum op {
    OP_SET,      /* one byte of `set`, with quantifier */
    OP_OPEN,     /* ( */
    OP_CLOSE,    /* ) */
    OP_POSITION, /* () */
    OP_BALANCE,  /* %bxy */
    OP_FRONTIER, /* %f[set] */
    OP_BACKREF,  /* %1 */
    OP_EOS,      /* $ at the end */
};

#define UNSET (SIZE_MAX - 1)

static void set_add(uint64_t set[4], unsigned c)
{
    set[c >> 6] |= UINT64_C(1) << (c & 63);
}

static bool set_has(const uint64_t set[4], unsigned char c)
{
    return set[c >> 6] >> (c & 63) & 1;
}

/* ASCII only, whatever the locale: a rule decides the same on every machine. */
static bool in_class(int cls, int c)
{
    if (c >= 0x80) return false;
    switch (cls) {
    case 'a': return isalpha(c);
    case 'c': return iscntrl(c);
    case 'd': return c >= '0' && c <= '9';
    case 'g': return isgraph(c);
    case 'l': return c >= 'a' && c <= 'z';
    case 'p': return ispunct(c);
    case 's': return c == ' ' || (c >= '\t' && c <= '\r');
    case 'u': return c >= 'A' && c <= 'Z';
    case 'w': return isalnum(c);
    case 'x': return isxdigit(c);
    case 'z': return c == 0;
    default: return false;
    }
}

/* %c: a class, its complement, or the character itself. */
static void set_add_escape(uint64_t set[4], unsigned char e)
{
    const int lower = e | 0x20;
    if (!isalpha(e) || e >= 0x80 || !strchr("acdglpsuwxz", lower)) {
        set_add(set, e);
        return;
    }
    const bool complement = e != lower;
    for (int c = 0; c < 256; c++)
        if (in_class(lower, c) != complement) set_add(set, (unsigned)c);
}

/* Parses after '['; gives the place after ']' or NULL. */
static const char *parse_set(uint64_t set[4], const char *p, const char *end)
{
    bool complement = false;
    if (p < end && *p == '^') {
        complement = true;
        p++;
    }
    bool first = true;
    for (;; first = false) {
        if (p >= end) return NULL;
        const unsigned char c = (unsigned char)*p;
        if (c == ']' && !first) break;
        if (c == '%') {
            if (end - p < 2) return NULL;
            set_add_escape(set, (unsigned char)p[1]);
            p += 2;
        } else if (end - p >= 3 && p[1] == '-' && p[2] != ']') {
            for (unsigned i = c; i <= (unsigned char)p[2]; i++) set_add(set, i);
            p += 3;
        } else {
            set_add(set, c);
            p++;
        }
    }
    if (complement)
        for (int i = 0; i < 4; i++) set[i] = ~set[i];
    return p + 1;
}

const char *tg_pattern_compile(struct tg_pattern *pat, const char *text, size_t len, bool anchors)
{
    static const char too_long[] = "pattern has more than 96 parts";
    static const char ends_in_percent[] = "malformed pattern (ends with '%')";
    static const char no_bracket[] = "malformed pattern (missing ']')";
    const char *p = text;
    const char *const end = text + len;
    uint8_t open[TG_PATTERN_MAX_CAPTURES];
    uint32_t n_open = 0;
    bool closed[TG_PATTERN_MAX_CAPTURES] = {false};
    pat->n_items = pat->n_captures = 0;
    pat->anchored = anchors && p < end && *p == '^';
    if (pat->anchored) p++;
    while (p < end) {
        if (pat->n_items == TG_PATTERN_MAX_ITEMS) return too_long;
        struct tg_pattern_item *it = &pat->items[pat->n_items++];
        memset(it, 0, sizeof(*it));
        const unsigned char c = (unsigned char)*p++;
        if (c == '(') {
            if (pat->n_captures == TG_PATTERN_MAX_CAPTURES)
                return "pattern has more than 32 captures";
            it->a = (uint8_t)pat->n_captures++;
            if (p < end && *p == ')') {
                it->op = OP_POSITION;
                closed[it->a] = true;
                p++;
            } else {
                it->op = OP_OPEN;
                open[n_open++] = it->a;
            }
            continue;
        }
        if (c == ')') {
            if (n_open == 0) return "malformed pattern (')' without '(')";
            it->op = OP_CLOSE;
            it->a = open[--n_open];
            closed[it->a] = true;
            continue;
        }
        if (c == '$' && p == end) {
            it->op = OP_EOS;
            continue;
        }
        it->op = OP_SET;
        if (c == '%') {
            if (p >= end) return ends_in_percent;
            const unsigned char e = (unsigned char)*p++;
            if (e == 'b') {
                if (end - p < 2) return "malformed pattern (%b needs two characters)";
                it->op = OP_BALANCE;
                it->a = (uint8_t)p[0];
                it->b = (uint8_t)p[1];
                p += 2;
                continue;
            }
            if (e == 'f') {
                if (p >= end || *p != '[') return "malformed pattern (missing '[' after %f)";
                it->op = OP_FRONTIER;
                p = parse_set(it->set, p + 1, end);
                if (!p) return no_bracket;
                continue;
            }
            if (e >= '0' && e <= '9') {
                if (e == '0' || e - '1' >= (int)pat->n_captures || !closed[e - '1'])
                    return "malformed pattern (no such capture before the %digit)";
                it->op = OP_BACKREF;
                it->a = (uint8_t)(e - '1');
                continue;
            }
            set_add_escape(it->set, e);
        } else if (c == '[') {
            p = parse_set(it->set, p, end);
            if (!p) return no_bracket;
        } else if (c == '.') {
            memset(it->set, 0xff, sizeof(it->set));
        } else {
            set_add(it->set, c);
        }
        if (p < end && (*p == '?' || *p == '*' || *p == '+' || *p == '-'))
            it->quantifier = (uint8_t)*p++;
    }
    return n_open ? "malformed pattern (unfinished capture)" : NULL;
}

#define FAIL SIZE_MAX

/* Whether a step more is within budget. */
static bool step(struct tg_pattern_match *m, size_t n)
{
    m->steps += n;
    return m->steps <= m->max_steps;
}

static size_t run(const struct tg_pattern *p, struct tg_pattern_match *m, uint32_t i, size_t at);

static bool stopped(const struct tg_pattern_match *m)
{
    return m->steps > m->max_steps;
}

static size_t balance_end(const struct tg_pattern_item *it, struct tg_pattern_match *m, size_t at)
{
    const unsigned char *const s = (const unsigned char *)m->subject;
    if (at >= m->subject_len || s[at] != it->a) return FAIL;
    size_t level = 1;
    for (size_t k = at + 1; k < m->subject_len; k++) {
        if (!step(m, 1)) return FAIL;
        if (s[k] == it->b) {
            if (--level == 0) return k + 1;
        } else if (s[k] == it->a) {
            level++;
        }
    }
    return FAIL;
}

static size_t repeat(const struct tg_pattern *p, struct tg_pattern_match *m, uint32_t i, size_t at)
{
    const struct tg_pattern_item *it = &p->items[i];
    const unsigned char *const s = (const unsigned char *)m->subject;
    if (it->quantifier == '-') {
        for (;;) {
            const size_t end = run(p, m, i + 1, at);
            if (end != FAIL) return end;
            if (stopped(m) || !step(m, 1)) return FAIL;
            if (at >= m->subject_len || !set_has(it->set, s[at])) return FAIL;
            at++;
        }
    }
    const size_t max = it->quantifier == '?' ? 1 : SIZE_MAX;
    const size_t min = it->quantifier == '+' ? 1 : 0;
    size_t n = 0;
    while (n < max && at + n < m->subject_len && set_has(it->set, s[at + n])) n++;
    if (!step(m, n + 1)) return FAIL;
    if (i + 1 == p->n_items) return n >= min ? at + n : FAIL; /* the usual last item */
    for (;; n--) {
        if (n < min) return FAIL;
        const size_t end = run(p, m, i + 1, at + n);
        if (end != FAIL) return end;
        if (n == 0 || stopped(m) || !step(m, 1)) return FAIL;
    }
}

static size_t run(const struct tg_pattern *p, struct tg_pattern_match *m, uint32_t i, size_t at)
{
    const unsigned char *const s = (const unsigned char *)m->subject;
    for (; i < p->n_items; i++) {
        const struct tg_pattern_item *it = &p->items[i];
        if (!step(m, 1)) return FAIL;
        switch ((enum op)it->op) {
        case OP_SET:
            if (it->quantifier) return repeat(p, m, i, at);
            if (at >= m->subject_len || !set_has(it->set, s[at])) return FAIL;
            at++;
            break;
        case OP_POSITION:
            m->captures[it->a].start = at;
            m->captures[it->a].len = TG_PATTERN_POSITION;
            break;
        case OP_OPEN:
            m->captures[it->a].start = at;
            m->captures[it->a].len = UNSET;
            break;
        case OP_CLOSE: m->captures[it->a].len = at - m->captures[it->a].start; break;
        case OP_BALANCE:
            at = balance_end(it, m, at);
            if (at == FAIL) return FAIL;
            break;
        case OP_FRONTIER: {
            const unsigned char before = at > 0 ? s[at - 1] : 0;
            const unsigned char here = at < m->subject_len ? s[at] : 0;
            if (set_has(it->set, before) || !set_has(it->set, here)) return FAIL;
            break;
        }
        case OP_BACKREF: {
            const size_t n = m->captures[it->a].len;
            if (n == TG_PATTERN_POSITION) break;
            if (!step(m, n / 16) || n > m->subject_len - at ||
                memcmp(s + m->captures[it->a].start, s + at, n) != 0)
                return FAIL;
            at += n;
            break;
        }
        case OP_EOS:
            if (at != m->subject_len) return FAIL;
            break;
        }
    }
    return at;
}

enum tg_pattern_result tg_pattern_match_at(const struct tg_pattern *p, struct tg_pattern_match *m,
                                           size_t from)
{
    const size_t end = run(p, m, 0, from);
    if (m->steps > m->max_steps) return TG_PATTERN_OVER;
    if (end == FAIL) return TG_PATTERN_NO;
    m->start = from;
    m->end = end;
    return TG_PATTERN_YES;
}

enum tg_pattern_result tg_pattern_search(const struct tg_pattern *p, struct tg_pattern_match *m,
                                         size_t from)
{
    for (;; from++) {
        const enum tg_pattern_result r = tg_pattern_match_at(p, m, from);
        if (r != TG_PATTERN_NO || p->anchored || from >= m->subject_len) return r;
    }
}
