/* Under which names a Prometheus keeps a series; see remote_write.h. */
#include <string.h>

#include "core/base/hash.h"
#include "core/model/forms.h"
#include "core/protocol/protobuf_wire.h"
#include "core/protocol/remote_write.h"
#include "core/protocol/remote_write_prepared.h"

static const char name_label[] = "__name__";

struct label {
    const uint8_t *name, *value;
    uint32_t name_len, value_len;
};

/* The next label of `*p`, as put_label writes them; false at the end. */
static bool next_label(const uint8_t **p, const uint8_t *end, struct label *l)
{
    struct tg_protobuf_wire in = tg_protobuf_wire_of(*p, (size_t)(end - *p));
    struct tg_protobuf_wire_field f;
    *l = (struct label){.name_len = 0};
    if (in.p >= in.end || !tg_protobuf_wire_next(&in, &f)) return false;
    *p = in.p;
    struct tg_protobuf_wire parts = tg_protobuf_wire_of(f.data, f.len);
    while (parts.p < parts.end && tg_protobuf_wire_next(&parts, &f)) {
        if (f.tag == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES)) {
            l->name = f.data;
            l->name_len = (uint32_t)f.len;
        } else {
            l->value = f.data;
            l->value_len = (uint32_t)f.len;
        }
    }
    return true;
}

static bool is_text(const uint8_t *p, uint32_t len, const char *text)
{
    return p && len == strlen(text) && memcmp(p, text, len) == 0;
}

static bool ends_in(const uint8_t *p, uint32_t len, const char *end)
{
    const size_t n = strlen(end);
    return p && len >= n && memcmp(p + len - n, end, n) == 0;
}

static uint64_t add(uint64_t h, const struct label *l)
{
    return tg_mul_fold(h ^ tg_hash64(l->name, l->name_len), UINT64_C(0x9E3779B185EBCA87)) +
           tg_hash64(l->value, l->value_len);
}

static uint64_t add_all(uint64_t h, const uint8_t *p, size_t len, const char *without)
{
    const uint8_t *const end = p + len;
    struct label l;
    while (next_label(&p, end, &l))
        if (!without || !is_text(l.name, l.name_len, without)) h = add(h, &l);
    return h;
}

/* A bucket of a classic histogram has the form of all its buckets, a quantile that of its summary:
 * so they meet a histogram or summary of that name, whose bounds are not known beforehand. */
static uint64_t plain_form(const uint8_t *labels, size_t len)
{
    const uint8_t *p = labels;
    struct label l;
    const char *without = "quantile";
    while (next_label(&p, labels + len, &l))
        if (is_text(l.name, l.name_len, name_label) && ends_in(l.value, l.value_len, "_bucket"))
            without = "le";
    return add_all(0, labels, len, without);
}

/* The bytes of a section that shares none. NULL: it does, or is damaged. */
static const uint8_t *plain_section(const struct tg_remote_write_prepared *s, const uint8_t **at,
                                    uint32_t i)
{
    static const uint8_t none;
    uint64_t token;
    if (s->len[i] == 0) return &none;
    if (!tg_varint_get(at, s->end, &token) || token != (uint64_t)s->len[i] << 1 ||
        s->len[i] > (size_t)(s->end - *at))
        return NULL;
    const uint8_t *bytes = *at;
    *at += s->len[i];
    return bytes;
}

enum tg_code tg_remote_write_forms(const struct tg_series_desc *mapped, const uint8_t *prepared,
                                   uint32_t len, struct tg_form *forms, unsigned *n)
{
    static const char *const without[] = {"le", "quantile", NULL};
    static const char *const of_histogram[] = {"_bucket", "_sum", "_count"};
    static const char *const of_summary[] = {"", "_sum", "_count"};
    const uint64_t who = tg_forms_who(mapped, without);
    struct tg_remote_write_prepared s;
    const uint8_t *parts[TG_REMOTE_WRITE_SECTIONS];
    *n = 0;
    if (!tg_remote_write_read_prepared(prepared, len, &s)) return TG_ERR_CORRUPT;
    const uint8_t *at = s.tokens;
    for (unsigned i = 0; i < (s.is_composite ? TG_REMOTE_WRITE_SECTIONS : 1U); i++)
        if (!(parts[i] = plain_section(&s, &at, i))) return TG_ERR_CORRUPT;
    if (!s.is_composite) {
        const uint64_t form =
            plain_form(parts[TG_REMOTE_WRITE_LABELS], s.len[TG_REMOTE_WRITE_LABELS]);
        forms[(*n)++] = (struct tg_form){form, who};
        return TG_OK;
    }
    struct tg_buf name;
    tg_buf_init(&name, 0);
    enum tg_code code = TG_OK;
    for (unsigned i = 0; i < 3 && code == TG_OK; i++) {
        const char *suffix = mapped->kind == TG_KIND_SUMMARY ? of_summary[i] : of_histogram[i];
        tg_buf_reset(&name);
        code = tg_buf_append(&name, parts[TG_REMOTE_WRITE_NAME], s.len[TG_REMOTE_WRITE_NAME]);
        if (code == TG_OK) code = tg_buf_append(&name, suffix, strlen(suffix));
        if (code != TG_OK) break;
        const struct label l = {(const uint8_t *)name_label, name.data, sizeof(name_label) - 1,
                                (uint32_t)name.len};
        uint64_t h =
            add(add_all(0, parts[TG_REMOTE_WRITE_BEFORE], s.len[TG_REMOTE_WRITE_BEFORE], NULL), &l);
        h = add_all(h, parts[TG_REMOTE_WRITE_BETWEEN], s.len[TG_REMOTE_WRITE_BETWEEN], NULL);
        h = add_all(h, parts[TG_REMOTE_WRITE_AFTER], s.len[TG_REMOTE_WRITE_AFTER], NULL);
        forms[(*n)++] = (struct tg_form){h, who};
    }
    tg_buf_deinit(&name);
    return code;
}
