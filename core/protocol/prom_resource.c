#include "core/protocol/prom_resource.h"

#include <string.h>

#include "core/protocol/otlp_attr.h"
#include "core/protocol/prom_name.h"

static bool is_key(const struct tg_tag *t, const char *key)
{
    return strlen(key) == t->key_len && memcmp(t->key, key, t->key_len) == 0;
}

/* Whether the key goes on after `prefix`. */
static bool starts_with(const struct tg_tag *t, const char *prefix)
{
    const size_t n = strlen(prefix);
    return t->key_len > n && memcmp(t->key, prefix, n) == 0;
}

/* The tag as it was sent: without the prefix of what a narrower one hides. */
static struct tg_tag plain(const struct tg_tag *t)
{
    static const char scope[] = TG_OTLP_SCOPE_PREFIX TG_OTLP_SCOPE_PREFIX;
    struct tg_tag p = *t;
    size_t cut = 0;
    if (t->origin == TG_ORIGIN_RESOURCE && starts_with(t, TG_OTLP_RESOURCE_PREFIX))
        cut = sizeof(TG_OTLP_RESOURCE_PREFIX) - 1;
    if (t->origin == TG_ORIGIN_SCOPE && starts_with(t, scope))
        cut = sizeof(TG_OTLP_SCOPE_PREFIX) - 1;
    p.key += cut;
    p.key_len -= (uint32_t)cut;
    return p;
}

/* The attributes that job and instance are made of, as sent and as scripts/tags.lua calls them. */
enum { NAME, NAMESPACE, INSTANCE, IDS };
static const char *const id_keys[IDS][2] = {
    {"service.name", "service_name"},
    {"service.namespace", "service_namespace"},
    {"service.instance.id", "service_instance_id"},
};

static bool is_id(const struct tg_tag *t)
{
    if (t->origin != TG_ORIGIN_RESOURCE) return false;
    for (unsigned i = 0; i < IDS; i++)
        if (is_key(t, id_keys[i][0]) || is_key(t, id_keys[i][1])) return true;
    return false;
}

/* The resource's own first, also when a point's attribute hides it; else what rules made of it. */
static void find_ids(const struct tg_series_desc *d, const struct tg_tag *ids[IDS])
{
    enum { RENAMED = 1, RENAMED_HIDDEN, SENT, HIDDEN };
    unsigned rank[IDS] = {0};
    for (unsigned k = 0; k < IDS; k++) ids[k] = NULL;
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        const struct tg_tag sent = plain(t);
        const bool is_hidden = sent.key_len < t->key_len;
        for (unsigned k = 0; k < IDS; k++) {
            unsigned r = 0;
            if (is_key(&sent, id_keys[k][1])) r = is_hidden ? RENAMED_HIDDEN : RENAMED;
            if (t->origin == TG_ORIGIN_RESOURCE && is_key(&sent, id_keys[k][0]))
                r = is_hidden ? HIDDEN : SENT;
            if (r <= rank[k]) continue;
            rank[k] = r;
            ids[k] = t;
        }
    }
}

/* Whether a key stands in "a, b". */
static bool is_listed(const char *list, const struct tg_tag *t)
{
    for (const char *p = list; p && *p;) {
        const size_t len = strcspn(p, ", ");
        if (len == t->key_len && memcmp(p, t->key, len) == 0) return true;
        p += len;
        p += strspn(p, ", ");
    }
    return false;
}

static struct tg_tag *push(struct tg_series_desc *to, const struct tg_tag *t)
{
    to->tags[to->n_tags] = *t;
    return &to->tags[to->n_tags++];
}

/* The tag called `key` among the first n, or NULL. */
static struct tg_tag *find(struct tg_tag *tags, uint32_t n, const char *key, size_t key_len)
{
    for (uint32_t i = 0; i < n; i++)
        if (tags[i].key_len == key_len && memcmp(tags[i].key, key, key_len) == 0) return &tags[i];
    return NULL;
}

static enum tg_code join(const struct tg_tag *a, char between, const struct tg_tag *b,
                         struct tg_arena *arena, struct tg_tag *out)
{
    char *text = tg_arena_alloc(arena, (size_t)a->value_len + 1 + b->value_len);
    if (!text) return TG_ERR_NOMEM;
    memcpy(text, a->value, a->value_len);
    text[a->value_len] = between;
    memcpy(text + a->value_len + 1, b->value, b->value_len);
    out->value = text;
    out->value_len = a->value_len + 1 + b->value_len;
    return TG_OK;
}

/* "namespace/name". */
static enum tg_code make_job(const struct tg_tag *const ids[IDS], struct tg_arena *arena,
                             struct tg_tag *job)
{
    const struct tg_tag *name = ids[NAME];
    const struct tg_tag *ns = ids[NAMESPACE];
    *job = (struct tg_tag){.key = "job", .key_len = 3};
    if (!name) return TG_OK; /* value_len 0: none */
    job->value = name->value;
    job->value_len = name->value_len;
    if (!ns) return TG_OK;
    return join(ns, '/', name, arena, job);
}

/* Sorts the tags into both, *n_attributes = how many of the resource are not its ids. */
static enum tg_code sort_tags(const struct tg_series_desc *d, const struct tg_prom_resource *how,
                              bool as_labels, struct tg_arena *arena, struct tg_prom_split *out,
                              uint32_t *n_attributes)
{
    *n_attributes = 0;
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        const struct tg_tag sent = plain(t);
        if (t->origin == TG_ORIGIN_SCOPE && (how->no_scope || sent.key_len < t->key_len)) continue;
        if (t->origin != TG_ORIGIN_RESOURCE || as_labels) {
            (void)push(&out->points, t);
            continue;
        }
        if (is_listed(how->promoted, &sent)) (void)push(&out->points, t);
        if (is_id(&sent)) continue;
        (*n_attributes)++;
        struct tg_tag *to = push(&out->target, &sent);
        const char *ours = is_key(to, "job") ? "exported_job" : "exported_instance";
        if (!is_key(to, "job") && !is_key(to, "instance")) continue;
        to->key = ours;
        to->key_len = (uint32_t)strlen(ours);
    }
    /* What a point hides of its scope has the same label, and so the values of both, as the
     * specification lays down for attributes whose labels are the same. */
    for (uint32_t i = 0; i < d->n_tags && !how->no_scope; i++) {
        const struct tg_tag sent = plain(&d->tags[i]);
        if (sent.origin != TG_ORIGIN_SCOPE || sent.key_len == d->tags[i].key_len) continue;
        struct tg_tag *there = find(out->points.tags, out->points.n_tags, sent.key, sent.key_len);
        if (!there)
            (void)push(&out->points, &sent);
        else
            TG_TRY(join(&sent, ';', there, arena, there));
    }
    return TG_OK;
}

enum tg_code tg_prom_resource_split(const struct tg_series_desc *d,
                                    const struct tg_prom_resource *how, struct tg_arena *arena,
                                    struct tg_prom_split *out)
{
    enum { OURS = 2 };
    out->points = *d;
    out->has_target = false;
    if (!tg_prom_is_otlp(d)) return TG_OK;
    const struct tg_tag *ids[IDS];
    find_ids(d, ids);
    out->points.n_tags = 0;
    out->points.tags = tg_arena_alloc(arena, ((size_t)d->n_tags + OURS) * sizeof(*d->tags));
    out->target = (struct tg_series_desc){.name = "target_info",
                                          .name_len = sizeof("target_info") - 1,
                                          .unit = "",
                                          .kind = TG_KIND_GAUGE};
    out->target.tags = tg_arena_alloc(arena, ((size_t)d->n_tags + OURS) * sizeof(*d->tags));
    struct tg_tag job;
    if (!out->points.tags || !out->target.tags || make_job(ids, arena, &job) != TG_OK)
        return TG_ERR_NOMEM;
    const bool as_labels = how->as_labels || !ids[INSTANCE];
    uint32_t n_attributes;
    TG_TRY(sort_tags(d, how, as_labels, arena, out, &n_attributes));
    out->has_target = !as_labels && n_attributes > 0;
    struct tg_tag instance = {.key = "instance", .key_len = 8};
    if (ids[INSTANCE]) {
        instance.value = ids[INSTANCE]->value;
        instance.value_len = ids[INSTANCE]->value_len;
    }
    const struct tg_tag *const ours[OURS] = {&job, &instance};
    for (unsigned i = 0; i < OURS; i++) {
        if (ours[i]->value_len == 0) continue;
        if (!find(out->points.tags, out->points.n_tags, ours[i]->key, ours[i]->key_len))
            (void)push(&out->points, ours[i]);
        if (out->has_target) (void)push(&out->target, ours[i]);
    }
    return TG_OK;
}
