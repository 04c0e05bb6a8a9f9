#include "core/protocol/otlp_attr.h"

#include <math.h>
#include <string.h>

#include "core/base/number.h"
#include "core/base/text_code.h"
#include "core/protocol/protobuf_wire.h"
#include "proto/otlp_common.pb-c.h"

/* Text of a value costs at most this many bytes on the wire per byte of text (an int of ten bytes
 * in an array: 12 bytes for "-1,"), so a longer value cannot fit max_value_bytes. */
enum { WIRE_BYTES_PER_TEXT_BYTE = 8 };

/* --- protobuf-c on an arena --- */

struct unpack_arena {
    struct tg_arena *arena;
    bool refused;
};

static void *unpack_alloc(void *data, size_t size)
{
    struct unpack_arena *u = data;
    void *p = tg_arena_alloc(u->arena, size);
    if (!p) u->refused = true;
    return p;
}

static void unpack_free(void *data, void *p)
{
    (void)data;
    (void)p;
}

static enum tg_code no_memory(struct tg_err *err)
{
    return tg_fail(err, TG_ERR_NOMEM,
                   "out of memory while decoding attributes: the request's arena or the memory "
                   "limit is used up");
}

static enum tg_code unpack(struct tg_otlp_attr *a, const ProtobufCMessageDescriptor *type,
                           const uint8_t *msg, size_t len, ProtobufCMessage **out,
                           struct tg_err *err)
{
    struct unpack_arena u = {.arena = a->arena};
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, &u};
    *out = protobuf_c_message_unpack(type, &allocator, len, msg);
    if (*out) return TG_OK;
    if (u.refused) return no_memory(err);
    a->bad = msg;
    return tg_fail(err, TG_ERR_MALFORMED, "not a valid %s message", type->short_name);
}

/* --- the walk before --- */

enum shape { SHAPE_KEY_VALUE, SHAPE_ANY_VALUE, SHAPE_ARRAY, SHAPE_LIST };

static enum tg_code malformed(struct tg_otlp_attr *a, const struct tg_protobuf_wire *w,
                              const char *what, struct tg_err *err)
{
    a->bad = w->p;
    return tg_fail(err, TG_ERR_MALFORMED, "%s: %s", what, tg_protobuf_wire_why(w));
}

/* What a field of `shape` nests, or -1. */
static int nested_shape(enum shape shape, uint32_t tag)
{
    switch (shape) {
    case SHAPE_KEY_VALUE:
        return tag == TG_PROTOBUF_WIRE_TAG(2, TG_PROTOBUF_WIRE_BYTES) ? (int)SHAPE_ANY_VALUE : -1;
    case SHAPE_ANY_VALUE:
        if (tag == TG_PROTOBUF_WIRE_TAG(5, TG_PROTOBUF_WIRE_BYTES)) return (int)SHAPE_ARRAY;
        return tag == TG_PROTOBUF_WIRE_TAG(6, TG_PROTOBUF_WIRE_BYTES) ? (int)SHAPE_LIST : -1;
    case SHAPE_ARRAY:
        return tag == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES) ? (int)SHAPE_ANY_VALUE : -1;
    case SHAPE_LIST: break;
    }
    return tag == TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_BYTES) ? (int)SHAPE_KEY_VALUE : -1;
}

/* Iterative, so that hostile nesting costs a fixed piece of stack: an attribute nests three
 * messages per level at most (list, key-value, value). */
static enum tg_code check_nesting(struct tg_otlp_attr *a, const uint8_t *msg, size_t len,
                                  struct tg_err *err)
{
    struct {
        struct tg_protobuf_wire w;
        enum shape shape;
    } stack[3 * TG_OTLP_MAX_DEPTH + 2];
    const unsigned room = sizeof(stack) / sizeof(stack[0]);
    unsigned top = 0;
    unsigned depth = 0; /* arrays and lists open */
    stack[0].w = tg_protobuf_wire_of(msg, len);
    stack[0].shape = SHAPE_KEY_VALUE;
    for (;;) {
        struct tg_protobuf_wire *w = &stack[top].w;
        if (w->p == w->end) {
            if (top == 0) return TG_OK;
            if (stack[top].shape == SHAPE_ARRAY || stack[top].shape == SHAPE_LIST) depth--;
            top--;
            continue;
        }
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(w, &f)) return malformed(a, w, "attribute", err);
        const int next = nested_shape(stack[top].shape, f.tag);
        if (next < 0) continue;
        if (next == (int)SHAPE_ARRAY || next == (int)SHAPE_LIST) depth++;
        if (depth > TG_OTLP_MAX_DEPTH || top + 1 >= room)
            return tg_fail(err, TG_ERR_TOO_LARGE, "an attribute value nests deeper than %d levels",
                           TG_OTLP_MAX_DEPTH);
        top++;
        stack[top].w = tg_protobuf_wire_of(f.data, f.len);
        stack[top].shape = (enum shape)next;
    }
}

/* Walks all fields of `msg`; those called `number` must be KeyValues within bounds. */
static enum tg_code check_key_values(struct tg_otlp_attr *a, const uint8_t *msg, size_t len,
                                     uint32_t number, uint32_t n_before, struct tg_err *err)
{
    const struct tg_series_limits *limits = a->limits;
    const uint64_t max_wire =
        (uint64_t)limits->max_value_bytes * WIRE_BYTES_PER_TEXT_BYTE + limits->max_key_bytes + 64;
    struct tg_protobuf_wire w = tg_protobuf_wire_of(msg, len);
    uint64_t n = n_before;
    while (w.p < w.end) {
        struct tg_protobuf_wire_field f;
        if (!tg_protobuf_wire_next(&w, &f)) return malformed(a, &w, "attributes", err);
        if (TG_PROTOBUF_WIRE_NUMBER(f.tag) != number) continue;
        if (f.tag != TG_PROTOBUF_WIRE_TAG(number, TG_PROTOBUF_WIRE_BYTES)) {
            a->bad = f.start;
            return tg_fail(err, TG_ERR_MALFORMED, "attributes: wire type %u where a message is due",
                           f.tag & 7);
        }
        if (++n > 2 * (uint64_t)limits->max_tags)
            return tg_fail(err, TG_ERR_TOO_LARGE,
                           "more than %u attributes: limits.tags_per_series is %u",
                           2 * limits->max_tags, limits->max_tags);
        if (f.len > max_wire)
            return tg_fail(err, TG_ERR_TOO_LARGE,
                           "an attribute of %zu bytes: limits.tag_value_bytes is %u", f.len,
                           limits->max_value_bytes);
        TG_TRY(check_nesting(a, f.data, f.len, err));
    }
    return TG_OK;
}

/* --- values to text --- */

struct text {
    struct tg_arena *arena;
    char *data;
    size_t len, cap;
    size_t max;
    enum tg_code code; /* the first failure; later writes do nothing */
};

static void text_put(struct text *t, const char *s, size_t n)
{
    if (t->code != TG_OK) return;
    if (n > t->max || t->len > t->max - n) {
        t->code = TG_ERR_TOO_LARGE;
        return;
    }
    if (t->cap - t->len < n) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        while (cap - t->len < n) cap *= 2;
        char *p = tg_arena_alloc(t->arena, cap);
        if (!p) {
            t->code = TG_ERR_NOMEM;
            return;
        }
        if (t->len) memcpy(p, t->data, t->len);
        t->data = p;
        t->cap = cap;
    }
    if (n) memcpy(t->data + t->len, s, n);
    t->len += n;
}

static void text_put_c(struct text *t, const char *s)
{
    text_put(t, s, strlen(s));
}

static void text_put_base64(struct text *t, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n && t->code == TG_OK; i += 3) {
        char four[4];
        tg_base64(four, p + i, n - i < 3 ? n - i : 3);
        text_put(t, four, sizeof(four));
    }
}

static void text_put_json_string(struct text *t, const uint8_t *p, size_t n)
{
    if (n == 0) { /* protobuf-c gives NULL for no bytes */
        text_put(t, "\"\"", 2);
        return;
    }
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;
    text_put(t, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        if (p[i] >= 0x20 && p[i] != '"' && p[i] != '\\') continue;
        char esc[6] = {'\\', (char)p[i]};
        size_t esc_len = 2;
        switch (p[i]) {
        case '"':
        case '\\': break;
        case '\n': esc[1] = 'n'; break;
        case '\r': esc[1] = 'r'; break;
        case '\t': esc[1] = 't'; break;
        default:
            esc[1] = 'u';
            esc[2] = esc[3] = '0';
            esc[4] = hex[p[i] >> 4];
            esc[5] = hex[p[i] & 15];
            esc_len = 6;
        }
        text_put(t, (const char *)p + from, i - from);
        text_put(t, esc, esc_len);
        from = i + 1;
    }
    text_put(t, (const char *)p + from, n - from);
    text_put(t, "\"", 1);
}

static void text_put_int(struct text *t, int64_t v)
{
    char s[TG_U64_MAX_LEN + 1];
    text_put(t, s, tg_i64_format(s, v));
}

static void text_put_double(struct text *t, double v, bool in_json)
{
    if (isnan(v) || isinf(v)) {
        if (in_json) text_put(t, "\"", 1);
        text_put_c(t, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
        if (in_json) text_put(t, "\"", 1);
        return;
    }
    char s[TG_DOUBLE_MAX_LEN];
    text_put(t, s, tg_double_format(s, v));
}

/* Recursion is bounded by check_nesting. */
static void text_put_json(struct text *t, const Tidegate__Otlp__AnyValue *v)
{
    switch (v ? v->value_case : TIDEGATE__OTLP__ANY_VALUE__VALUE__NOT_SET) {
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_STRING_VALUE:
        text_put_json_string(t, v->string_value.data, v->string_value.len);
        return;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_BOOL_VALUE:
        text_put_c(t, v->bool_value ? "true" : "false");
        return;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_INT_VALUE: text_put_int(t, v->int_value); return;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE:
        text_put_double(t, v->double_value, true);
        return;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_BYTES_VALUE:
        text_put(t, "\"", 1);
        text_put_base64(t, v->bytes_value.data, v->bytes_value.len);
        text_put(t, "\"", 1);
        return;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_ARRAY_VALUE:
        text_put(t, "[", 1);
        for (size_t i = 0; i < v->array_value->n_values && t->code == TG_OK; i++) {
            if (i) text_put(t, ",", 1);
            text_put_json(t, v->array_value->values[i]);
        }
        text_put(t, "]", 1);
        return;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_KVLIST_VALUE:
        text_put(t, "{", 1);
        for (size_t i = 0; i < v->kvlist_value->n_values && t->code == TG_OK; i++) {
            const Tidegate__Otlp__KeyValue *kv = v->kvlist_value->values[i];
            if (i) text_put(t, ",", 1);
            text_put_json_string(t, kv->key.data, kv->key.len);
            text_put(t, ":", 1);
            text_put_json(t, kv->value);
        }
        text_put(t, "}", 1);
        return;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE__NOT_SET:
    default: text_put_c(t, "null"); return;
    }
}

static enum tg_code value_text(struct tg_otlp_attr *a, const Tidegate__Otlp__AnyValue *v,
                               struct tg_tag *tag, struct tg_err *err)
{
    struct text t = {.arena = a->arena, .max = a->limits->max_value_bytes};
    tag->value = "";
    tag->value_len = 0;
    switch (v ? v->value_case : TIDEGATE__OTLP__ANY_VALUE__VALUE__NOT_SET) {
    case TIDEGATE__OTLP__ANY_VALUE__VALUE__NOT_SET: return TG_OK;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_STRING_VALUE:
        /* protobuf-c copied it into the arena; the length check is the table's */
        tag->value = v->string_value.len ? (const char *)v->string_value.data : "";
        tag->value_len = (uint32_t)v->string_value.len;
        return TG_OK;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_BYTES_VALUE:
        text_put_base64(&t, v->bytes_value.data, v->bytes_value.len);
        break;
    case TIDEGATE__OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE:
        text_put_double(&t, v->double_value, false);
        break;
    default: text_put_json(&t, v); break;
    }
    if (t.code == TG_ERR_NOMEM) return no_memory(err);
    if (t.code != TG_OK) {
        char q[96];
        return tg_fail(err, t.code,
                       "attribute %s is longer than limits.tag_value_bytes = %u as text",
                       tg_quote(q, sizeof(q), tag->key, tag->key_len), a->limits->max_value_bytes);
    }
    tag->value = t.data ? t.data : "";
    tag->value_len = (uint32_t)t.len;
    return TG_OK;
}

/* --- messages to tags --- */

enum tg_code tg_tags_append(struct tg_tags *t, struct tg_arena *arena, const struct tg_tag *from,
                            uint32_t n)
{
    if (n > t->cap - t->n) {
        uint64_t cap = t->cap ? (uint64_t)t->cap * 2 : 16;
        while (cap - t->n < n) cap *= 2;
        struct tg_tag *items = tg_arena_alloc(arena, (size_t)cap * sizeof(*items));
        if (!items) return TG_ERR_NOMEM;
        if (t->n) memcpy(items, t->items, t->n * sizeof(*items));
        t->items = items;
        t->cap = (uint32_t)cap;
    }
    if (n) memcpy(t->items + t->n, from, n * sizeof(*from));
    t->n += n;
    return TG_OK;
}

static enum tg_code append_key_value(struct tg_otlp_attr *a, const Tidegate__Otlp__KeyValue *kv,
                                     uint8_t origin, struct tg_tags *out, struct tg_err *err)
{
    struct tg_tag tag = {.key = kv->key.len ? (const char *)kv->key.data : "",
                         .key_len = (uint32_t)kv->key.len,
                         .origin = origin};
    TG_TRY(value_text(a, kv->value, &tag, err));
    return tg_tags_append(out, a->arena, &tag, 1) == TG_OK ? TG_OK : no_memory(err);
}

enum tg_code tg_otlp_key_values(struct tg_otlp_attr *a, const uint8_t *msg, size_t len,
                                uint32_t number, uint8_t origin, struct tg_tags *out,
                                struct tg_err *err)
{
    TG_TRY(check_key_values(a, msg, len, number, 0, err));
    struct tg_protobuf_wire w = tg_protobuf_wire_of(msg, len);
    struct tg_protobuf_wire_field f;
    while (w.p < w.end && tg_protobuf_wire_next(&w, &f)) {
        if (f.tag != TG_PROTOBUF_WIRE_TAG(number, TG_PROTOBUF_WIRE_BYTES)) continue;
        ProtobufCMessage *m;
        TG_TRY(unpack(a, &tidegate__otlp__key_value__descriptor, f.data, f.len, &m, err));
        TG_TRY(append_key_value(a, (const Tidegate__Otlp__KeyValue *)m, origin, out, err));
    }
    return TG_OK;
}

enum tg_code tg_otlp_resource_tags(struct tg_otlp_attr *a, const uint8_t *msg, size_t len,
                                   struct tg_tags *out, struct tg_err *err)
{
    TG_TRY(check_key_values(a, msg, len, 1, 0, err));
    ProtobufCMessage *m;
    TG_TRY(unpack(a, &tidegate__otlp__resource__descriptor, msg, len, &m, err));
    const Tidegate__Otlp__Resource *r = (const Tidegate__Otlp__Resource *)m;
    for (size_t i = 0; i < r->n_attributes; i++)
        TG_TRY(append_key_value(a, r->attributes[i], TG_ORIGIN_RESOURCE, out, err));
    return TG_OK;
}

static enum tg_code prefix_key(struct tg_otlp_attr *a, struct tg_tag *t, const char *prefix,
                               struct tg_err *err)
{
    const size_t prefix_len = strlen(prefix);
    char *key = tg_arena_alloc(a->arena, prefix_len + t->key_len);
    if (!key) return no_memory(err);
    memcpy(key, prefix, prefix_len);
    memcpy(key + prefix_len, t->key, t->key_len);
    t->key = key;
    t->key_len += (uint32_t)prefix_len;
    return TG_OK;
}

/* The keys of the tags from `from` on, with the scope's prefix. An empty one stays: it is refused.
 */
static enum tg_code prefix_keys(struct tg_otlp_attr *a, struct tg_tags *tags, uint32_t from,
                                struct tg_err *err)
{
    for (uint32_t i = from; i < tags->n; i++)
        if (tags->items[i].key_len)
            TG_TRY(prefix_key(a, &tags->items[i], TG_OTLP_SCOPE_PREFIX, err));
    return TG_OK;
}

/* Whether one of the tags from `from` on has the key of `t`. */
static bool is_hidden(const struct tg_tag *t, const struct tg_tags *tags, uint32_t from)
{
    for (uint32_t i = from; i < tags->n; i++) {
        const struct tg_tag *u = &tags->items[i];
        if (u->key_len == t->key_len && memcmp(u->key, t->key, t->key_len) == 0) return true;
    }
    return false;
}

enum tg_code tg_otlp_keep_hidden(struct tg_otlp_attr *a, struct tg_tags *tags, struct tg_err *err)
{
    uint32_t from = 0; /* where narrower ones than tag i begin */
    for (uint32_t i = 0; i < tags->n; i++) {
        struct tg_tag *t = &tags->items[i];
        while (from < tags->n && tags->items[from].origin >= t->origin) from++;
        if (from == tags->n) return TG_OK;
        if (t->key_len == 0) continue;
        const bool is_scope = t->origin == TG_ORIGIN_SCOPE;
        const char *prefix = is_scope ? TG_OTLP_SCOPE_PREFIX : TG_OTLP_RESOURCE_PREFIX;
        /* Again: somebody may call a point's attribute so. */
        while (is_hidden(t, tags, from) && t->key_len + strlen(prefix) <= a->limits->max_key_bytes)
            TG_TRY(prefix_key(a, t, prefix, err));
    }
    return TG_OK;
}

enum tg_code tg_otlp_scope_tags(struct tg_otlp_attr *a, const uint8_t *msg, size_t len,
                                const char *schema_url, size_t schema_url_len, struct tg_tags *out,
                                struct tg_err *err)
{
    const uint32_t from = out->n;
    TG_TRY(check_key_values(a, msg, len, 3, 2, err));
    ProtobufCMessage *m;
    TG_TRY(unpack(a, &tidegate__otlp__scope__descriptor, msg, len, &m, err));
    const Tidegate__Otlp__Scope *s = (const Tidegate__Otlp__Scope *)m;
    for (size_t i = 0; i < s->n_attributes; i++)
        TG_TRY(append_key_value(a, s->attributes[i], TG_ORIGIN_SCOPE, out, err));
    TG_TRY(prefix_keys(a, out, from, err));
    /* After the attributes: of equal keys the later one stays, and the scope's own name wins. */
    const struct tg_tag own[3] = {
        {.key = TG_OTLP_SCOPE_NAME,
         .key_len = sizeof(TG_OTLP_SCOPE_NAME) - 1,
         .value = (const char *)s->name.data,
         .value_len = (uint32_t)s->name.len,
         .origin = TG_ORIGIN_SCOPE},
        {.key = TG_OTLP_SCOPE_VERSION,
         .key_len = sizeof(TG_OTLP_SCOPE_VERSION) - 1,
         .value = (const char *)s->version.data,
         .value_len = (uint32_t)s->version.len,
         .origin = TG_ORIGIN_SCOPE},
        {.key = TG_OTLP_SCOPE_SCHEMA_URL,
         .key_len = sizeof(TG_OTLP_SCOPE_SCHEMA_URL) - 1,
         .value = schema_url,
         .value_len = (uint32_t)schema_url_len,
         .origin = TG_ORIGIN_SCOPE},
    };
    for (unsigned i = 0; i < 3; i++)
        if (own[i].value_len && tg_tags_append(out, a->arena, &own[i], 1) != TG_OK)
            return no_memory(err);
    return TG_OK;
}
