/* backend.h: the table of operations behind which each backend lives in a folder.
 *
 * All that is common (retry with backoff, Retry-After, health, bisecting a refused batch, dead
 * letters, counters) is written once in core/pipe/ and is not a backend's business: `write` tries
 * once and says what happened.
 *
 * Threading: open, write, cancel, health, close and the asynchronous ones run on the backend's own
 * thread and loop; `prepare` runs on any thread and must be pure; `query_range` runs on any thread.
 */
#ifndef TG_BACKEND_BACKEND_H
#define TG_BACKEND_BACKEND_H

#include "core/backend/query_stop.h"
#include "core/base/option.h"
#include "core/model/left_out.h"
#include "core/model/plan.h"
#include "core/model/point.h"
#include "core/net/loop.h"

struct tg_backend;

/* One delivery: points routed to this backend, in log order. The points, with their series, are
 * valid until the callback of `write` has returned; their plans and prepared bytes only until
 * `write` has: what is in flight holds up no freeing, so a backend encodes, or copies what it
 * needs, before it returns. */
struct tg_delivery_point {
    const struct tg_point *point;
    const struct tg_plan *plan; /* for retention and as a cheap identity of the series form */
    const uint8_t *prepared;    /* this backend's prepared bytes */
    uint32_t prepared_len;
};
struct tg_delivery {
    const struct tg_delivery_point *points;
    uint32_t n_points;
    uint64_t from_pos,
        to_pos;    /* log positions: make retries harmless (file names, deduplication tokens) */
    uint32_t part; /* 0 for a whole delivery; bisected parts count up, so that names stay unique */
    /* Numbers of log points: what this write settles is [from_point_no, to_point_no). The writes of
     * one epoch that succeed are in ascending order and never overlap, also when a delivery was
     * split into parts (from_pos and to_pos are then those of the whole); numbers between two of
     * them are of points that do not go to this backend. All points with numbers in it that go to
     * this backend are here, but for those that it was given before: a part that came to its end
     * only partly is written again, under the same numbers, with what is left of it. A backend that
     * keeps to_point_no in the transaction of the points knows after a crash what it has; of that
     * write the points that it refused may not be dead letters yet. */
    uint64_t from_point_no, to_point_no;
    uint64_t epoch; /* of the cursor: raised when it is moved otherwise than by delivering */
};

enum tg_write_outcome {
    TG_WRITE_OK,      /* all points are safe there */
    TG_WRITE_RETRY,   /* none can be relied on: same again later */
    TG_WRITE_REFUSED, /* the backend refuses (some of) these points permanently: the caller bisects
                       */
    TG_WRITE_TOO_LARGE, /* the request is too big: the caller splits, without blaming points */
};
struct tg_write_result { /* valid during the callback */
    enum tg_write_outcome outcome;
    int64_t retry_after_ms; /* -1 = not said */
    /* Points this backend has no form for (strings in remote write): counted, not kept. */
    uint32_t n_inexpressible;
    const uint8_t *inexpressible; /* bitmap of n_points bits (bit i%8 of byte i/8) when
                                     n_inexpressible > 0 */
    uint32_t n_skipped; /* points left out that are at fault themselves: they become dead letters */
    const uint8_t *skipped;          /* as above, when n_skipped > 0; no point is in both */
    const char *const *skip_reasons; /* n_skipped of them, in the order of the points; or NULL */
    struct tg_left_out left_out;     /* of the points that are safe there, with TG_WRITE_OK */
    char message[256];               /* the backend's own words */
};
typedef void (*tg_on_write)(void *arg, const struct tg_write_result *result);

/* query_range: rows are handed over as they come; `tags_json` is a JSON object text. value is valid
 * for scalar points (has_value); others carry `json`. */
struct tg_query {
    const char *name;          /* exact metric name; NULL = any */
    const struct tg_tag *tags; /* exact matches, all must hold */
    uint32_t n_tags;
    int64_t start_ns, end_ns; /* start <= t < end */
    uint32_t max_rows;
    struct tg_loop *loop;       /* of the thread that asks; NULL = the backend's own */
    struct tg_query_stop *stop; /* NULL = never */
};
struct tg_query_row {
    const struct tg_series_desc *series; /* mapped form */
    const struct tg_point *point;        /* series pointer NULL */
};
typedef bool (*tg_on_row)(void *arg, const struct tg_query_row *row); /* false = enough */
typedef void (*tg_on_query_end)(void *arg, enum tg_code code, const struct tg_err *err);
typedef void (*tg_on_health)(void *arg, enum tg_code code, const char *message);

struct tg_backend_open {              /* what open is given */
    const char *name;                 /* configured name, borrowed for the backend's life */
    const struct tg_options *options; /* borrowed for the backend's life */
    struct tg_loop *loop;
    uint64_t cursor_pos;  /* confirmed position at open */
    uint64_t log_end_pos; /* where the log ends at open; UINT64_MAX = not known */
    /* Positions and point numbers mean something within one log only: a UUID as text, borrowed for
     * the backend's life; NULL = not known. */
    const char *log_id;
    uint64_t epoch; /* of the cursor; 0: made by a version without epochs, and not moved since */
    /* Whether the gateway has no more time: then what takes long on the backend's thread (upkeep, a
     * write of many files) ends as it is. Any thread; NULL = never. */
    bool (*is_overdue)(void *arg);
    void *overdue_arg;
};

struct tg_backend_rewind { /* what rewound is given */
    uint64_t from_pos;     /* where the cursor stands */
    uint64_t oldest_pos;   /* the oldest data in the log */
    bool comes_again; /* what comes at from_pos was delivered before: a rewind is not done yet */
    uint64_t epoch;   /* under which deliveries go on; on disk already, whatever becomes of this */
};

struct tg_backend_loss {
    uint64_t from_pos, to_pos;
    bool all; /* no point that lies in it is delivered; else some are */
};
struct tg_backend_settled {               /* what settled is given */
    uint64_t from_pos, to_pos;            /* what the cursor passes */
    uint64_t sure_pos;                    /* what was lost before it is known */
    const struct tg_backend_loss *losses; /* all points that the log lost lie in these */
    unsigned n_losses;
};

struct tg_backend_ops {
    const char *type;                     /* "parquet" */
    const struct tg_option_spec *options; /* its configuration keys (without `type`) */
    uint32_t max_points; /* most points per delivery, 0 = 10000; option "batch_points" overrides */
    uint32_t
        linger_ms; /* wait this long for a fuller delivery, 0 = none; option "linger" overrides */
    /* Checks options and creates the object; network is not needed to succeed. TG_ERR_INVALID,
     * TG_ERR_IO. */
    enum tg_code (*open)(const struct tg_backend_open *how, struct tg_backend **out,
                         struct tg_err *err);
    enum tg_code (*prepare)(void *backend, const struct tg_series_desc *mapped, struct tg_buf *out,
                            struct tg_err *err);
    /* Under which names the server keeps the points of a series (see plan.h). NULL: the backend
     * keeps apart whatever differs in name, field or tags. */
    tg_forms_fn forms;
    /* Whether there is a form for this point in a series of its kind and temporality (p->series is
     * read), whatever its name and tags: asked for points of series without prepared bytes. On the
     * loop's thread. NULL: for every point. */
    bool (*has_form)(struct tg_backend *b, const struct tg_point *p);
    /* Asynchronous; one at a time. The callback runs exactly once, on the loop, never before write
     * returned. Of the points only what tg_delivery_point says is valid after that. */
    void (*write)(struct tg_backend *b, const struct tg_delivery *d, tg_on_write on_write,
                  void *arg);
    /* Gives the write in flight up: its callback runs at one of the next loop turns, with
     * TG_WRITE_RETRY unless its answer was there already. Whether the points arrived is not known
     * then, as after a lost answer. NULL = a write is over when `write` returns, but for its
     * callback. */
    void (*cancel)(struct tg_backend *b);
    void (*health)(struct tg_backend *b, tg_on_health on_health, void *arg);
    /* On q->loop's thread, which need not be the backend's: beside writes, retention and rewinds,
     * and beside other queries. `q` is borrowed until the end. on_end runs once on that loop, and
     * may run before this returns. When q->stop says so it ends soon with TG_ERR_CANCELED, whatever
     * it does by then. NULL = not supported. */
    void (*query_range)(struct tg_backend *b, const struct tg_query *q, tg_on_row on_row,
                        tg_on_query_end on_end, void *arg);
    /* Deletes data of the series named so (NULL = all) older than ts_ns; NULL = not supported. */
    enum tg_code (*delete_before)(struct tg_backend *b, const struct tg_query *what, int64_t ts_ns,
                                  struct tg_err *err);
    /* Called now and then with nothing to write, so that what expired by `retention` can go; NULL =
     * not supported. */
    enum tg_code (*apply_retention)(struct tg_backend *b, int64_t now_ns, struct tg_err *err);
    /* The cursor is about to be put at *pos, between two deliveries. Back: what was written from
     * later positions will come again; a backend that must not have it twice makes room for it.
     * Forward: what is between is skipped. It may move *pos to where it can do so exactly (back,
     * but not before how->oldest_pos, or forward), or refuse (TG_ERR_INVALID, saying when it will
     * not). NULL = nothing to do. */
    enum tg_code (*rewound)(struct tg_backend *b, const struct tg_backend_rewind *how,
                            uint64_t *pos, struct tg_err *err);
    /* The cursor is about to pass these positions: all their points came to an end, but for those
     * that the log lost. After the writes, before the cursor's file; may come twice. On failure it
     * is called again later. NULL = nothing to do. */
    enum tg_code (*settled)(struct tg_backend *b, const struct tg_backend_settled *s,
                            struct tg_err *err);
    void (*close)(struct tg_backend *b); /* no write pending; health checks end; NULL accepted */
};

extern const struct tg_backend_ops tg_backend_parquet;
extern const struct tg_backend_ops tg_backend_influxdb;
extern const struct tg_backend_ops tg_backend_prometheus;

/* All of the above, ending with NULL; and by type name (NULL = unknown). */
extern const struct tg_backend_ops *const tg_backend_types[];
const struct tg_backend_ops *tg_backend_find(const char *type);

#endif
