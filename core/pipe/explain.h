/* explain.h: which live series is meant, what the rules in force decide for it, and what it goes
 * by.
 *
 * People name a series by its name and some tags. When a live one has them, that one is explained:
 * with its kind, unit, field and the origins of its tags, on which rules may rest, and with the
 * plan that its points go by now. Of several, the one with exactly these tags, or else the one that
 * was used last; the others are named. When there is none, what was given is decided as a new
 * series.
 *
 * Threading: tg_gateway_explain within a look (core/pipe/query.h), which has the admin's planner to
 * itself, or before the gateway has a second thread that asks; tg_gateway_live_targets anywhere.
 */
#ifndef TG_PIPE_EXPLAIN_H
#define TG_PIPE_EXPLAIN_H

#include "core/pipe/gateway.h"
#include "core/pipe/query.h"

struct tg_explain_ask {
    const struct tg_series_desc *like; /* canonical; a series that has all of its tags is meant */
    bool has_kind, has_unit;    /* of `like`; else any will do. A field_len of 0: any field */
    struct tg_query_stop *stop; /* looked at between two series, and two steps; NULL = never */
};

enum { TG_EXPLAIN_MAX_OTHERS = 10 };
struct tg_explained {
    struct tg_series_desc series; /* what was decided: the live one, or `like` */
    bool is_live;
    uint64_t n_matches; /* live series that are meant */
    uint32_t n_others;  /* of them, beside the one explained; at most TG_EXPLAIN_MAX_OTHERS */
    const char *others[TG_EXPLAIN_MAX_OTHERS]; /* name{tag="value"} */
    struct tg_decision decision;
    struct tg_rules_trace trace;

    /* Of a live one, by the rules in force: how many live series the rules make one with it (itself
     * among them) and the one that came first ("" = itself), and where another has its name. */
    uint64_t n_merged;
    char first[TG_MERGE_TEXT];
    uint32_t n_taken;
    struct {
        unsigned backend;
        char why[256];
    } taken[TG_MAX_BACKENDS];

    /* of a live one */
    uint32_t idle_s; /* since a sender named it last */
    bool has_plan;   /* all below: what its points go by, until it is decided again */
    uint64_t generation;
    uint32_t targets, wait;
    uint8_t strategy; /* enum tg_strategy */
    bool failed, kept;
};

/* Strings live in `arena`. TG_ERR_NOMEM; TG_ERR_CANCELED: ask->stop says so, or the gateway shuts
 * down; TG_ERR_TIMEOUT: its deadline. */
TG_MUST_CHECK enum tg_code tg_gateway_explain(struct tg_gateway *g,
                                              const struct tg_explain_ask *ask,
                                              struct tg_arena *arena, struct tg_explained *out,
                                              struct tg_err *err);
/* Where the points of all live series go that are meant: *targets has the bits of all their
 * backends, *n says how many series there are that have been decided (0: *targets is 0, too).
 * Series are known by what their senders gave, as above; no rule runs. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_gateway_live_targets(struct tg_gateway *g,
                                                   const struct tg_explain_ask *ask, uint64_t *n,
                                                   uint32_t *targets);

#endif
