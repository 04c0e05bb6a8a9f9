/* prom_resource.h: which tags of an OTLP series are labels of its points at a Prometheus, and which
 * go to target_info.
 *
 *   service.namespace/service.name   --> job                        on points and target_info
 *   service.instance.id              --> instance                   on points and target_info
 *   other attributes of the resource --> target_info{job, instance, ...} 1
 *   all other tags                   --> labels of the points
 *
 * Source: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility", section
 * "Resource Attributes". It lets job and instance stand for the resource, which they do only where
 * there is an instance: without service.instance.id two processes would be one series, and points
 * of one of them would be lost. So the attributes of such a resource stay labels.
 *
 * A tag that rules set or renamed is one of the point (core/rules/series_lua.c), so it is a label;
 * service_name, service_namespace and service_instance_id, as scripts/tags.lua calls them, make job
 * and instance too. A tag `job` or `instance` of the points is not replaced; target_info has the
 * resource's own all the same.
 *
 * An attribute of the resource that a point's hides (otlp_attr.h, tg_otlp_keep_hidden) is one of
 * the resource: it makes job and instance, and stands in target_info as it was sent. One of the
 * scope is one label with that of the point, the values joined by ";".
 *
 * Series of Prometheus and Influx senders have no resource and stay as they are.
 *
 * Threading: no shared state.
 */
#ifndef TG_PROTOCOL_PROM_RESOURCE_H
#define TG_PROTOCOL_PROM_RESOURCE_H

#include <stdbool.h>

#include "core/base/arena.h"
#include "core/model/series.h"

struct tg_prom_resource {
    bool as_labels;       /* all attributes of the resource are labels of the points */
    bool no_scope;        /* tags of the scope are left out */
    const char *promoted; /* keys of the resource that are labels, too: "a, b"; NULL = none */
};

struct tg_prom_split {
    struct tg_series_desc points;
    struct tg_series_desc target; /* target_info */
    bool has_target;
};

/* Strings borrow from `d`, from literals, or lie in `arena`, as the tag arrays do; tags are not
 * sorted. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_prom_resource_split(const struct tg_series_desc *d,
                                                  const struct tg_prom_resource *how,
                                                  struct tg_arena *arena,
                                                  struct tg_prom_split *out);

#endif
