/* config.h: what a gateway is asked to be: listeners, log, rules, limits, backends. Plain data.
 *
 * Filled by core/config/config.c from the operator's gateway.lua, or by a test by hand; the
 * pipeline only reads it. Defaults are already applied: no field needs interpretation beyond its
 * comment. Strings, options and arrays are borrowed and outlive the gateway.
 *
 * Threading: read-only once filled.
 */
#ifndef TG_PIPE_CONFIG_H
#define TG_PIPE_CONFIG_H

#include "core/backend/backend.h"
#include "core/base/option.h"
#include "core/log/log.h"
#include "core/model/plan.h"
#include "core/model/series.h"
#include "core/rules/rules.h"

struct tg_backend_config {
    const char *name; /* [A-Za-z0-9_-]{1,64}; unique; also the name of its cursor */
    const struct tg_backend_ops *ops;
    struct tg_options options; /* of ops->options, complete */
    bool from_start;           /* a new cursor starts at the oldest kept position, not at the end */
    uint32_t batch_points;     /* most points per delivery */
    uint32_t linger_ms;        /* wait this long for a fuller delivery */
    uint32_t retry_min_ms;     /* first wait after a failed delivery */
    uint32_t retry_max_ms;     /* longest wait between tries (before jitter) */
    uint32_t health_every_ms;  /* between health checks while idle or failing */
};

/* All limits are for the whole gateway unless said otherwise; the gateway shares them out over its
 * workers. */
struct tg_limits_config {
    uint64_t max_series;
    uint64_t max_raw_keys;                 /* 0 = 4 x max_series */
    uint32_t series_idle_s;                /* 0 = series never leave */
    struct tg_series_limits series_limits; /* of one series */

    uint64_t max_body_bytes;          /* one request, as sent */
    uint64_t max_decompressed_bytes;  /* one request, after gzip/snappy/zstd */
    uint64_t max_inflight_body_bytes; /* request bodies held at once */
    uint32_t max_header_bytes;        /* one request */
    uint32_t max_connections;
    uint32_t header_timeout_ms;    /* from a request's first byte to the end of its headers */
    uint32_t request_timeout_ms;   /* for the whole body */
    uint32_t idle_timeout_ms;      /* between requests of one connection */
    uint32_t ack_timeout_ms;       /* a request waits this long for log and cursors, then 503 */
    uint32_t drain_timeout_ms;     /* open requests and last deliveries get this long at shutdown */
    uint64_t max_memory_bytes;     /* tg_mem_set_limit; 0 = none */
    uint32_t rules_per_request_ms; /* of all decisions that one request needs; 0 = no bound */
};

struct tg_config {
    const char *path; /* of the file it came from; NULL in tests */
    const char *dir;  /* folder of that file, absolute: relative paths were resolved against it */

    const char *http_address;  /* "127.0.0.1:4318"; port 0 = any */
    const char *admin_address; /* served by core/admin, not by the gateway */
    const char *admin_hosts;   /* names of the admin port, with commas between; NULL = none */
    const char *http_origins;  /* sites whose pages may send, likewise */

    struct tg_log_config log;     /* `fs` and `table` are the gateway's to fill */
    struct tg_rules_config rules; /* `n_slots` is the gateway's to fill; `backends` is set */
    bool merges_are_dead_letters; /* rules.on_merge: of series that the rules make one (merge.h) */
    struct tg_limits_config limits;

    unsigned n_workers; /* 0 = one per core */
    uint8_t log_level;  /* enum tg_log_level: of messages on stderr; set by the application */

    const struct tg_backend_config *backends; /* sorted by name; index = backend number */
    unsigned n_backends;                      /* 1 to TG_MAX_BACKENDS */

    const char *dead_letter_dir;    /* refused points with their reasons, a file per backend */
    uint64_t max_dead_letter_bytes; /* per backend; at it the backend stalls (its data waits in the
                                       log) */
};

#endif
