/* otlp_attr.h: the miss path of the OTLP decoder: attributes of a resource, a scope or a point
 * become tags.
 *
 * Before protobuf-c is let loose on the bytes they are walked once: protobuf-c recurses without a
 * bound, and a checked walk can say where the bytes are wrong.
 *
 * Values that are not text become text as OpenTelemetry lays down for protocols that have no such
 * types (specification/common, "AnyValue representation for non-OTLP protocols"): true, 42, 0.5,
 * NaN, base64 for bytes, JSON for arrays and lists of key-values; an empty value is empty text.
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_OTLP_ATTR_H
#define TG_PROTOCOL_OTLP_ATTR_H

#include "core/base/arena.h"
#include "core/base/err.h"
#include "core/model/series.h"

enum { TG_OTLP_MAX_DEPTH = 16 }; /* nesting of arrays and key-value lists in one attribute */

struct tg_tags { /* a growing array in an arena */
    struct tg_tag *items;
    uint32_t n, cap;
};

struct tg_otlp_attr {
    const struct tg_series_limits *limits; /* borrows: bounds what is decoded at all */
    struct tg_arena *arena;                /* strings and arrays of the result */
    const uint8_t *bad;                    /* out: where the bytes went wrong, TG_ERR_MALFORMED */
};

/* Each appends to *out. Strings borrow from the bytes or lie in the arena; so they do not outlive
 * either. TG_ERR_MALFORMED (a->bad is set), TG_ERR_TOO_LARGE (nesting, size, number of
 * attributes), TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_otlp_resource_tags(struct tg_otlp_attr *a, const uint8_t *msg,
                                                 size_t len, struct tg_tags *out,
                                                 struct tg_err *err);
/* A scope's name, version, schema URL (which stands beside it) and attributes are tags whose keys
 * begin with TG_OTLP_SCOPE_PREFIX; its own name, version and schema URL win over attributes that
 * are called so (OpenTelemetry specification, Prometheus compatibility, Instrumentation Scope). */
#define TG_OTLP_SCOPE_PREFIX     "otel.scope."
#define TG_OTLP_SCOPE_NAME       "otel.scope.name"
#define TG_OTLP_SCOPE_VERSION    "otel.scope.version"
#define TG_OTLP_SCOPE_SCHEMA_URL "otel.scope.schema_url"
TG_MUST_CHECK enum tg_code tg_otlp_scope_tags(struct tg_otlp_attr *a, const uint8_t *msg,
                                              size_t len, const char *schema_url,
                                              size_t schema_url_len, struct tg_tags *out,
                                              struct tg_err *err);
/* Of tags with one key a series keeps the narrowest (core/model/series.h). So that a point's
 * attribute takes nothing from its resource or scope, gives what is hidden a key of its own: the
 * prefix of its origin and its key, "otel.resource.service.name", "otel.scope.otel.scope.version".
 * What does not fit limits->max_key_bytes with it stays as it is. The tags stand by origin, the
 * widest first; keys are allocated in a->arena. TG_ERR_NOMEM. */
#define TG_OTLP_RESOURCE_PREFIX "otel.resource."
TG_MUST_CHECK enum tg_code tg_otlp_keep_hidden(struct tg_otlp_attr *a, struct tg_tags *tags,
                                               struct tg_err *err);
/* All fields `number` of the message, each a KeyValue. */
TG_MUST_CHECK enum tg_code tg_otlp_key_values(struct tg_otlp_attr *a, const uint8_t *msg,
                                              size_t len, uint32_t number, uint8_t origin,
                                              struct tg_tags *out, struct tg_err *err);
/* Appends copies of n tags (not of their strings). TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_tags_append(struct tg_tags *t, struct tg_arena *arena,
                                          const struct tg_tag *from, uint32_t n);

#endif
