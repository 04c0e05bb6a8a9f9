/* gateway.h: the running gateway: workers, log, delivery loops, and what the outside may ask of
 * them.
 *
 *   worker 0..N-1 ------------> log thread ---------> delivery 0..B-1
 *   loop + HTTP server          group commit          loop + planner slot
 *   + planner slot
 *        ^                          | commit               | cursor moved
 *        +--- replies --------------+----------------------+
 *
 * Threading: all functions from the main thread, except where noted. Callbacks of query, rewind and
 * reload run on a thread of the gateway: hand their results over with tg_loop_post.
 */
#ifndef TG_PIPE_GATEWAY_H
#define TG_PIPE_GATEWAY_H

#include <stdatomic.h>

#include "core/pipe/config.h"
#include "core/pipe/merge.h"

struct tg_gateway;

/* Opens the log, loads the rules, opens backends and listeners, starts all threads. On failure
 * everything is undone and the message says what to change. `config` is borrowed for the gateway's
 * life. */
TG_MUST_CHECK enum tg_code tg_gateway_start(const struct tg_config *config, struct tg_gateway **out,
                                            struct tg_err *err);
/* What a stop is waiting for, for whoever watches it from another thread: two strings of the
 * gateway's configuration or of the program, or NULL. */
struct tg_stop_progress {
    _Atomic(const char *) what; /* "the backend"; NULL before the stop began */
    _Atomic(const char *) name; /* "influx" */
    _Atomic bool is_closed;     /* all files are closed: only memory is still to be freed */
};
/* Stops listening, answers what is in flight, commits, gives deliveries `limits.drain_timeout_ms`
 * to catch up, gives up what backends have not answered by then, saves the cursors, stops all
 * threads, frees. What was not delivered waits in the log. Blocks: until the deadline and a moment,
 * unless the disk hangs. NULL accepted. */
void tg_gateway_stop(struct tg_gateway *g);
/* The same with `drain_ms` instead (0: what was not delivered is left), and saying how far it has
 * come in `progress` (borrowed; NULL accepted). */
void tg_gateway_stop_within(struct tg_gateway *g, uint32_t drain_ms,
                            struct tg_stop_progress *progress);

uint16_t tg_gateway_http_port(const struct tg_gateway *g);
/* NULL when traffic is welcome, else why not ("log is full"). Any thread. */
const char *tg_gateway_not_ready(const struct tg_gateway *g, char *buf, size_t cap);

/* Whether the rules are not run, for their breaker is open (core/vm/breaker.h). Any thread. */
bool tg_gateway_rules_are_broken(const struct tg_gateway *g);

/* "", or ", but 2 of 3 backends take nothing now: a, b": those whose last write or health check
 * failed, or which are stalled. Any thread. */
const char *tg_gateway_stuck(const struct tg_gateway *g, char *buf, size_t cap);

struct tg_reload_result {
    enum tg_code code;   /* TG_ERR_INVALID: a script does not load; TG_ERR_CANCELED: stopping */
    struct tg_err err;   /* "file:line: why"; the old rules stay in force */
    uint64_t generation; /* in force now */
    struct tg_rules_report report; /* what was found, in either case */
};
enum tg_reload_flags {
    TG_RELOAD_FORCE = 1,  /* also when live series fail that do not under the rules in force */
    TG_RELOAD_STRICT = 2, /* warnings refuse the new rules, too */
};
typedef void (*tg_on_reload)(void *arg, const struct tg_reload_result *result);
/* Loads the rules again on the gateway's reload thread and tries them on the live series (trial.h);
 * `flags` of enum tg_reload_flags. On success all threads use the new
 * generation from their next decision on. The callback (NULL accepted) runs once on that thread
 * when this returned TG_OK. Reloads run one after the other. TG_ERR_FULL: too many wait. */
TG_MUST_CHECK enum tg_code tg_gateway_reload(struct tg_gateway *g, unsigned flags,
                                             tg_on_reload on_reload, void *arg, struct tg_err *err);

/* --- status --- */

/* The ledger of one backend. At any instant
 *   received + rewound = before + delivered + waiting + inexpressible + dead_lettered + dropped
 *                        + elsewhere + lost + skipped
 * where `before` were in the log before this backend's cursor began, `inexpressible` are points
 * that this backend has no form for (core/pipe/inexpressible.h), `dropped` were dropped by rule
 * at ingest (and never logged), `elsewhere` are not for this backend by the rules in force when its
 * cursor passed them (other targets, or a drop rule loaded since), `lost` were given up to damage
 * of the log's files, `skipped` are those over which the operator moved the cursor forward, and
 * `rewound` counts points that a rewind made it deliver again.
 */
struct tg_ledger {
    uint64_t received, rewound;
    uint64_t before, delivered, waiting, inexpressible, dead_lettered, dropped, elsewhere, lost;
    uint64_t skipped;
};

enum tg_delivery_state {
    TG_DELIVERY_IDLE,
    TG_DELIVERY_WRITING,
    TG_DELIVERY_BACKOFF,
    TG_DELIVERY_STALLED
};
const char *tg_delivery_state_name(
    enum tg_delivery_state s); /* "idle", "writing", "backoff", "stalled" */

struct tg_backend_status {
    const char *name, *type;
    struct tg_ledger ledger;
    uint64_t cursor_pos;
    uint64_t epoch; /* of the cursor */
    enum tg_delivery_state state;
    bool healthy;
    uint64_t n_writes, n_retries;
    uint64_t n_merged;    /* live series that it would make one with another that came first */
    int64_t lag_ms;       /* age of the oldest point behind the cursor, by when it was accepted; 0 =
                             none waits */
    char last_error[256]; /* empty = none so far */
    int64_t last_error_ns; /* wall clock */
    int64_t well_ns;       /* since when all went well after it, wall clock; 0 = not yet */
};

struct tg_gateway_status {
    int64_t start_ns; /* wall clock */
    uint64_t generation;
    uint64_t
        n_received; /* the ledger's: logged since the log began + dropped by rule since start */
    uint64_t n_accepted; /* points accepted from senders, dropped ones too, since start */
    uint64_t n_logged;   /* points in the log since it began */
    uint64_t n_dropped;  /* by rule at ingest, since start */
    uint64_t n_rejected; /* points refused as bad input or over a limit, since start */
    uint64_t n_requests; /* since start */
    uint64_t n_waiting_acks;
    uint64_t
        n_undecided; /* requests told to come back: their new series took too long, since start */
    uint64_t n_queries_running, n_queries_waiting, n_queries_refused; /* the last since start */
    struct tg_log_stats log;
    const char *log_id; /* valid as long as the gateway */
    struct tg_table_stats table;
    struct tg_rules_stats rules;
    uint64_t memory_bytes;
    uint64_t n_merged; /* live series that the rules make one with another that came first */
    unsigned n_merge_examples; /* of both kinds, newest last, and how many series have that form */
    struct tg_merge_example merges[TG_MERGE_EXAMPLES];
    uint64_t n_merge_series[TG_MERGE_EXAMPLES];
    unsigned n_backends;
    struct tg_backend_status backends[TG_MAX_BACKENDS];
};
/* Any thread. Each backend's ledger is exact for one instant, and all share one `received`. */
void tg_gateway_status(const struct tg_gateway *g, struct tg_gateway_status *out);

/* --- requests to one backend --- */

/* Where a rewind goes: the oldest kept position, a time (the first record with a point at or after
 * it), a position. */
enum tg_rewind_to { TG_REWIND_START, TG_REWIND_TIME, TG_REWIND_POSITION, TG_REWIND_END };
struct tg_rewind {
    enum tg_rewind_to to;
    int64_t value; /* ns for a time, bytes for a position */
    bool may_skip; /* forward, too, over points that the backend has not got */
};
typedef void (*tg_on_rewind)(void *arg, enum tg_code code, const struct tg_cursor_state *now,
                             const struct tg_err *err);
/* Moves a backend's cursor. `where` is copied. The callback runs once on the backend's thread,
 * after a delivery in flight has ended. TG_ERR_NOT_FOUND for an unknown backend.
 *
 * What the log has from there on goes where the rules in force say; what the backend has not got
 * yet also goes where it was routed when it was accepted.
 *
 * Forward only with may_skip or to the end (the callback gets TG_ERR_INVALID otherwise): a backend
 * that is behind may not have come as far as the time or position that is asked for. The points
 * between are then skipped: the ledger says so, and requests that wait for this backend and were in
 * the log by then are told to come back. Some backends refuse that while what was delivered before
 * comes again (TG_ERR_INVALID). */
TG_MUST_CHECK enum tg_code tg_gateway_rewind(struct tg_gateway *g, unsigned backend,
                                             const struct tg_rewind *where, tg_on_rewind on_rewind,
                                             void *arg, struct tg_err *err);

/* Runs query_range beside the deliveries (core/pipe/query.h). `q` is borrowed until on_end, which
 * runs once. TG_ERR_UNSUPPORTED when the backend cannot query, TG_ERR_FULL when too many wait. */
TG_MUST_CHECK enum tg_code tg_gateway_query(struct tg_gateway *g, unsigned backend,
                                            const struct tg_query *q, tg_on_row on_row,
                                            tg_on_query_end on_end, void *arg, struct tg_err *err);
/* Runs a look beside the deliveries (core/pipe/query.h): within it the rules may be asked
 * (core/pipe/explain.h). TG_ERR_FULL when too many wait. */
struct tg_query_look;
TG_MUST_CHECK enum tg_code tg_gateway_look(struct tg_gateway *g, const struct tg_query_look *look,
                                           struct tg_err *err);
/* Tells the query or look with this stop to end; one that has not begun ends within the call. */
void tg_gateway_query_cancel(struct tg_gateway *g, struct tg_query_stop *stop,
                             enum tg_query_stop_reason why);

#endif
