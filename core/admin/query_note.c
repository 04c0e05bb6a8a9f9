#include "core/admin/query_note.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ROUTING = 1 /* of tg_rules_trace.steps */ };

static void put(char *out, size_t cap, const char *text)
{
    const size_t len = strlen(out);
    if (len < cap) (void)snprintf(out + len, cap - len, "%s", text);
}

/* "archive, influx" of the backends in `mask`. */
static void put_names(char *out, size_t cap, const struct tg_config *config, uint32_t mask)
{
    bool any = false;
    for (unsigned i = 0; i < config->n_backends; i++) {
        if (!(mask >> i & 1)) continue;
        if (any) put(out, cap, ", ");
        put(out, cap, config->backends[i].name);
        any = true;
    }
}

static void put_drop(char *out, size_t cap, const struct tg_explained *e)
{
    const struct tg_rules_trace *trace = &e->trace;
    const char *file = trace->steps[ROUTING].file;
    (void)snprintf(out, cap, "the rules drop this series: %s", trace->steps[ROUTING].note);
    const size_t len = strlen(out);
    if (file[0] && len < cap)
        (void)snprintf(out + len, cap - len, " (%s:%d)", file, trace->steps[ROUTING].line);
}

static void put_targets(char *out, size_t cap, const struct tg_config *config,
                        const struct tg_gateway_status *status, const struct tg_explained *e,
                        uint32_t targets, uint32_t asked)
{
    uint32_t mute = 0;
    for (unsigned i = 0; i < config->n_backends; i++)
        if (!config->backends[i].ops->query_range) mute |= UINT32_C(1) << i;
    put(out, cap,
        e->is_live ? "this series goes to "
                   : "no live series has this name and these tags; by the rules one would go to ");
    put_names(out, cap, config, targets);
    if (asked && (targets & asked) == 0 && (targets & ~mute)) {
        put(out, cap, ", not to ");
        put_names(out, cap, config, asked);
    }
    if (targets & mute) {
        put(out, cap, targets & ~mute ? "; of these, " : ", which cannot be queried");
        if (targets & ~mute) {
            put_names(out, cap, config, targets & mute);
            put(out, cap, " cannot be queried");
        }
        put(out, cap, " through the gateway");
    }
    for (unsigned i = 0; i < config->n_backends && i < status->n_backends; i++) {
        const uint64_t waiting = status->backends[i].ledger.waiting;
        char text[160];
        if (!(targets >> i & 1) || waiting == 0) continue;
        (void)snprintf(text, sizeof(text), "; %" PRIu64 " points wait to be delivered to %.64s",
                       waiting, config->backends[i].name);
        put(out, cap, text);
    }
}

/* The series that a selector with a name means. false: no series can be so. */
static bool read_selector(const struct tg_selector *selector, struct tg_series_desc *like)
{
    struct tg_err err;
    *like = (struct tg_series_desc){.unit = "",
                                    .name = selector->name,
                                    .name_len = (uint32_t)strlen(selector->name),
                                    .tags = selector->tags,
                                    .n_tags = selector->n_tags};
    return tg_series_desc_canonicalise(like, &tg_series_limits_default, &err) == TG_OK;
}

enum tg_code tg_admin_query_spare(struct tg_gateway *g, const struct tg_selector *selector,
                                  uint32_t *backends)
{
    struct tg_series_desc like;
    const struct tg_explain_ask ask = {.like = &like};
    uint64_t n;
    uint32_t targets;
    if (!selector->name || !read_selector(selector, &like)) return TG_OK;
    TG_TRY(tg_gateway_live_targets(g, &ask, &n, &targets));
    if (n > 0) *backends &= targets;
    return TG_OK;
}

/* Rules may have been others when the points came. */
static void put_spared(char *out, size_t cap, const struct tg_config *config, uint32_t spared)
{
    if (!spared) return;
    put(out, cap, "; points from before a change of the rules may be in ");
    put_names(out, cap, config, spared);
    put(out, cap, ", not asked: ask with --backend NAME");
}

enum tg_code tg_admin_query_explain(struct tg_gateway *g, const struct tg_selector *selector,
                                    struct tg_query_stop *stop, struct tg_arena *arena,
                                    struct tg_explained *out, struct tg_err *err)
{
    struct tg_series_desc like;
    const struct tg_explain_ask ask = {.like = &like, .stop = stop};
    if (!read_selector(selector, &like))
        return tg_fail(err, TG_ERR_NOT_FOUND, "no series can be so");
    return tg_gateway_explain(g, &ask, arena, out, err);
}

void tg_admin_query_note(const struct tg_explained *e, const struct tg_config *config,
                         const struct tg_gateway_status *status, uint32_t asked, uint32_t spared,
                         char *out, size_t cap)
{
    const uint32_t targets = e->has_plan ? e->targets : e->decision.targets;
    out[0] = '\0';
    if (targets == 0)
        put_drop(out, cap, e);
    else if (e->has_plan || !e->decision.failed)
        put_targets(out, cap, config, status, e, targets, asked);
    if (e->is_live) put_spared(out, cap, config, spared);
}
