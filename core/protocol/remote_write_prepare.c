/* What a Prometheus is told of a series, made once; see remote_write.h. */
#include <stdlib.h>

#include "core/codec/shared_parts.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/remote_write.h"
#include "core/protocol/remote_write_prepared.h"

static const char name_label[] = "__name__";

struct label {
    const uint8_t *name; /* in the scratch buffer */
    const struct tg_tag *tag;
    uint32_t name_len;
};

static int cmp_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
    const size_t n = a_len < b_len ? a_len : b_len;
    const int c = n ? memcmp(a, b, n) : 0;
    return c ? c : (a_len > b_len) - (a_len < b_len);
}

/* By name; of equal names by original key. */
static int cmp_labels(const void *x, const void *y)
{
    const struct label *a = x;
    const struct label *b = y;
    const int c = cmp_bytes(a->name, a->name_len, b->name, b->name_len);
    return c ? c : cmp_bytes(a->tag->key, a->tag->key_len, b->tag->key, b->tag->key_len);
}

/* One label from the n tags that share its name. */
static enum tg_code put_joined(struct tg_buf *b, const struct label *l, uint32_t n,
                               struct tg_buf *scratch)
{
    if (n == 1)
        return tg_remote_write_put_label(b, l->name, l->name_len, l->tag->value, l->tag->value_len);
    tg_buf_reset(scratch);
    for (uint32_t i = 0; i < n; i++) {
        if (i) TG_TRY(tg_buf_append(scratch, ";", 1));
        TG_TRY(tg_buf_append(scratch, l[i].tag->value, l[i].tag->value_len));
    }
    return tg_remote_write_put_label(b, l->name, l->name_len, scratch->data, scratch->len);
}

/* Appends the name of tag t as a label, out of the way of the labels that are ours. */
static enum tg_code label_name(const struct tg_tag *t, const char *extra, bool keep,
                               struct tg_buf *out)
{
    static const char exported[] = "exported_";
    const size_t start = out->len;
    TG_TRY(tg_prom_label_name(t->key, t->key_len, keep, out));
    const size_t len = out->len - start;
    const bool clashes =
        cmp_bytes(out->data + start, len, name_label, sizeof(name_label) - 1) == 0 ||
        (extra && cmp_bytes(out->data + start, len, extra, strlen(extra)) == 0);
    if (!clashes) return TG_OK;
    TG_TRY(tg_buf_reserve(out, sizeof(exported)));
    memmove(out->data + start + sizeof(exported) - 1, out->data + start, len);
    memcpy(out->data + start, exported, sizeof(exported) - 1);
    out->len += sizeof(exported) - 1;
    return TG_OK;
}

struct preparing {
    struct label *labels;
    uint32_t n;
    struct tg_buf names; /* all label names */
    struct tg_buf joined;
    struct tg_buf metric;
    struct tg_buf plain; /* all sections */
    bool keeps_names;
};

static enum tg_code collect_labels(struct preparing *p, const struct tg_series_desc *d,
                                   const char *extra)
{
    for (uint32_t i = 0; i < d->n_tags; i++) {
        const size_t start = p->names.len;
        TG_TRY(label_name(&d->tags[i], extra, p->keeps_names, &p->names));
        p->labels[i].tag = &d->tags[i];
        p->labels[i].name_len = (uint32_t)(p->names.len - start);
    }
    p->n = d->n_tags;
    /* the buffer has moved while it grew; now it stays */
    const uint8_t *name = p->names.data;
    for (uint32_t i = 0; i < p->n; i++) {
        p->labels[i].name = name;
        name += p->labels[i].name_len;
    }
    if (p->n > 1) qsort(p->labels, p->n, sizeof(*p->labels), cmp_labels);
    return TG_OK;
}

/* Appends the labels from *at on that sort before `until` (NULL = all). */
static enum tg_code put_labels(struct preparing *p, uint32_t *at, const char *until,
                               struct tg_buf *out)
{
    while (*at < p->n) {
        const struct label *l = &p->labels[*at];
        if (until && cmp_bytes(l->name, l->name_len, until, strlen(until)) > 0) break;
        uint32_t n = 1;
        while (*at + n < p->n && cmp_bytes(l[n].name, l[n].name_len, l->name, l->name_len) == 0)
            n++;
        TG_TRY(put_joined(out, l, n, &p->joined));
        *at += n;
    }
    return TG_OK;
}

/* --- sections --- */

/* Label by label; of a label that is not shared, all before its value may be. */
static size_t label_part(const uint8_t *begin, const uint8_t *at, const uint8_t *end, size_t *head)
{
    (void)begin;
    struct tg_protobuf_wire in = tg_protobuf_wire_of(at, (size_t)(end - at));
    struct tg_protobuf_wire_field label;
    struct tg_protobuf_wire_field f;
    if (!tg_protobuf_wire_next(&in, &label)) return (size_t)(end - at);
    struct tg_protobuf_wire parts = tg_protobuf_wire_of(label.data, label.len);
    if (tg_protobuf_wire_next(&parts, &f) && tg_protobuf_wire_next(&parts, &f))
        *head = (size_t)(f.data - at);
    return (size_t)(in.p - at);
}

static size_t name_part(const uint8_t *begin, const uint8_t *at, const uint8_t *end, size_t *head)
{
    (void)begin;
    (void)head;
    return (size_t)(end - at);
}

/* The plain sections one after the other; where each ends. */
static enum tg_code put_plain(struct preparing *p, size_t *ends)
{
    uint32_t at = 0;
    TG_TRY(put_labels(p, &at, name_label, &p->plain));
    TG_TRY(tg_remote_write_put_label(&p->plain, name_label, sizeof(name_label) - 1, p->metric.data,
                                     p->metric.len));
    TG_TRY(put_labels(p, &at, NULL, &p->plain));
    ends[TG_REMOTE_WRITE_LABELS] = p->plain.len;
    return TG_OK;
}

static enum tg_code put_composite(struct preparing *p, const char *extra, size_t *ends)
{
    uint32_t at = 0;
    TG_TRY(put_labels(p, &at, name_label, &p->plain));
    ends[TG_REMOTE_WRITE_BEFORE] = p->plain.len;
    TG_TRY(tg_buf_append(&p->plain, p->metric.data, p->metric.len));
    ends[TG_REMOTE_WRITE_NAME] = p->plain.len;
    TG_TRY(put_labels(p, &at, extra, &p->plain));
    ends[TG_REMOTE_WRITE_BETWEEN] = p->plain.len;
    TG_TRY(put_labels(p, &at, NULL, &p->plain));
    ends[TG_REMOTE_WRITE_AFTER] = p->plain.len;
    return TG_OK;
}

static enum tg_code pack(const struct preparing *p, uint8_t form, const size_t *ends, unsigned n,
                         struct tg_shared_parts *shared_parts, struct tg_buf *out)
{
    if (p->plain.len > UINT32_MAX) return TG_ERR_TOO_LARGE;
    TG_TRY(tg_buf_reserve(out, 1 + TG_REMOTE_WRITE_SECTIONS * TG_VARINT_MAX));
    tg_buf_put_u8(out, form);
    for (unsigned i = 0; i < n; i++) tg_buf_put_varint(out, ends[i] - (i ? ends[i - 1] : 0));
    for (unsigned i = 0; i < n; i++) {
        const size_t from = i ? ends[i - 1] : 0;
        TG_TRY(tg_shared_parts_pack(shared_parts, p->plain.data + from, ends[i] - from,
                                    n > 1 && i == TG_REMOTE_WRITE_NAME ? name_part : label_part,
                                    out));
    }
    return TG_OK;
}

static uint8_t form_of(const struct tg_series_desc *d)
{
    switch (d->kind) {
    case TG_KIND_HISTOGRAM: return TG_REMOTE_WRITE_COMPOSITE;
    case TG_KIND_SUMMARY: return TG_REMOTE_WRITE_SUMMARY;
    case TG_KIND_EXP_HISTOGRAM: return TG_REMOTE_WRITE_NATIVE;
    default: return TG_REMOTE_WRITE_PLAIN;
    }
}

enum tg_code tg_remote_write_prepare(const struct tg_series_desc *mapped,
                                     const struct tg_prom_names *names,
                                     struct tg_shared_parts *shared_parts, struct tg_buf *out,
                                     struct tg_err *err)
{
    const struct tg_series_desc *d = mapped;
    if (d->temporality == TG_TEMPORALITY_DELTA)
        return tg_fail(err, TG_ERR_UNSUPPORTED,
                       "Prometheus has no form for delta temporality; set the sender's "
                       "temporality preference to cumulative, or route the series elsewhere");
    const uint8_t form = form_of(d);
    const char *extra = form == TG_REMOTE_WRITE_COMPOSITE ? "le"
                        : form == TG_REMOTE_WRITE_SUMMARY ? "quantile"
                                                          : NULL;
    const size_t start = out->len;
    size_t ends[TG_REMOTE_WRITE_SECTIONS];
    struct tg_arena arena;
    struct preparing p = {.keeps_names = tg_prom_keeps_names(names, d)};
    tg_arena_init(&arena, 0);
    tg_buf_init(&p.names, 0);
    tg_buf_init(&p.joined, 0);
    tg_buf_init(&p.metric, 0);
    tg_buf_init(&p.plain, out->max_bytes);
    p.labels = tg_arena_alloc(&arena, d->n_tags * sizeof(*p.labels));
    enum tg_code code = p.labels ? TG_OK : TG_ERR_NOMEM;
    if (code == TG_OK) code = tg_prom_metric_name(d, names, &p.metric, err);
    if (code == TG_OK) code = collect_labels(&p, d, extra);
    if (code == TG_OK) code = extra ? put_composite(&p, extra, ends) : put_plain(&p, ends);
    if (code == TG_OK)
        code = pack(&p, (uint8_t)(form | (p.keeps_names ? TG_REMOTE_WRITE_KEEPS_NAMES : 0)), ends,
                    extra ? TG_REMOTE_WRITE_SECTIONS : 1, shared_parts, out);
    if (code == TG_ERR_NOMEM || code == TG_ERR_TOO_LARGE)
        (void)tg_fail(err, code, "no room for the labels of a series");
    if (code != TG_OK) out->len = start;
    tg_buf_deinit(&p.names);
    tg_buf_deinit(&p.joined);
    tg_buf_deinit(&p.metric);
    tg_buf_deinit(&p.plain);
    tg_arena_deinit(&arena);
    return code;
}
