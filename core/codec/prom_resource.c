#include "core/codec/prom_resource.h"

#include <string.h>

static bool is_key(const struct tg_tag *t, const char *key)
{
    return strlen(key) == t->key_len && memcmp(t->key, key, t->key_len) == 0;
}

/* The attributes that job and instance are made of, as sent and as scripts/tags.lua calls them. */
enum { NAME, NAMESPACE, INSTANCE, IDS };
static const char *const id_keys[IDS][2] = {
    {"service.name", "service_name"},
    {"service.namespace", "service_namespace"},
    {"service.instance.id", "service_instance_id"},
};

/* Remote write gives kinds to native histograms only, and tags of points only. */
static bool is_otlp(const struct tg_series_desc *d)
{
    if (d->kind == TG_KIND_UNKNOWN) return false;
    if (d->kind != TG_KIND_EXP_HISTOGRAM) return true;
    for (uint32_t i = 0; i < d->n_tags; i++)
        if (d->tags[i].origin != TG_ORIGIN_POINT) return true;
    return false;
}

static bool is_id(const struct tg_tag *t)
{
    if (t->origin != TG_ORIGIN_RESOURCE) return false;
    for (unsigned i = 0; i < IDS; i++)
        if (is_key(t, id_keys[i][0]) || is_key(t, id_keys[i][1])) return true;
    return false;
}

static void find_ids(const struct tg_series_desc *d, const struct tg_tag *ids[IDS])
{
    for (unsigned k = 0; k < IDS; k++) ids[k] = NULL;
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        for (unsigned k = 0; k < IDS; k++) {
            if (t->origin == TG_ORIGIN_RESOURCE && is_key(t, id_keys[k][0])) ids[k] = t;
            if (!ids[k] && is_key(t, id_keys[k][1])) ids[k] = t;
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

/* The tag called `key` among the points' tags, or NULL. */
static const struct tg_tag *find(const struct tg_series_desc *d, const char *key)
{
    for (uint32_t i = 0; i < d->n_tags; i++)
        if (is_key(&d->tags[i], key)) return &d->tags[i];
    return NULL;
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
    char *text = tg_arena_alloc(arena, (size_t)ns->value_len + 1 + name->value_len);
    if (!text) return TG_ERR_NOMEM;
    memcpy(text, ns->value, ns->value_len);
    text[ns->value_len] = '/';
    memcpy(text + ns->value_len + 1, name->value, name->value_len);
    job->value = text;
    job->value_len = ns->value_len + 1 + name->value_len;
    return TG_OK;
}

/* Sorts the tags into both; returns how many attributes of the resource are not its ids. */
static uint32_t sort_tags(const struct tg_series_desc *d, const struct tg_prom_resource *how,
                          bool as_labels, struct tg_prom_split *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const struct tg_tag *t = &d->tags[i];
        if (t->origin == TG_ORIGIN_SCOPE && how->no_scope) continue;
        if (t->origin != TG_ORIGIN_RESOURCE || as_labels) {
            (void)push(&out->points, t);
            continue;
        }
        if (is_listed(how->promoted, t)) (void)push(&out->points, t);
        if (is_id(t)) continue;
        n++;
        struct tg_tag *to = push(&out->target, t);
        const char *ours = is_key(t, "job") ? "exported_job" : "exported_instance";
        if (!is_key(t, "job") && !is_key(t, "instance")) continue;
        to->key = ours;
        to->key_len = (uint32_t)strlen(ours);
    }
    return n;
}

enum tg_code tg_prom_resource_split(const struct tg_series_desc *d,
                                    const struct tg_prom_resource *how, struct tg_arena *arena,
                                    struct tg_prom_split *out)
{
    enum { OURS = 2 };
    out->points = *d;
    out->has_target = false;
    if (!is_otlp(d)) return TG_OK;
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
    const uint32_t n_attributes = sort_tags(d, how, as_labels, out);
    out->has_target = !as_labels && n_attributes > 0;
    struct tg_tag instance = {.key = "instance", .key_len = 8};
    if (ids[INSTANCE]) {
        instance.value = ids[INSTANCE]->value;
        instance.value_len = ids[INSTANCE]->value_len;
    }
    const struct tg_tag *const ours[OURS] = {&job, &instance};
    for (unsigned i = 0; i < OURS; i++) {
        const struct tg_tag *there = find(&out->points, i ? "instance" : "job");
        const struct tg_tag *t = there ? there : ours[i];
        if (t->value_len == 0) continue;
        if (!there) (void)push(&out->points, t);
        if (out->has_target) (void)push(&out->target, t);
    }
    return TG_OK;
}
