/* log.h: the durable log: segments of framed records, group commit, cursors, recovery.
 *
 *   folder:   00000000000000000000.seg  00000000000067108864.seg ...  (position of the first byte)
 *             cursors/<name>.cur
 *             damaged/...
 *             id                          which log this is (see tg_log_id)
 *             extent                      from where to where it goes, at least
 *             end_mark                    the same, as of the newest commit; not fsynced
 *             lock                        locked while it is open, as is the folder itself
 *
 *   segment:  [header][record][record]...
 *   record:   [magic][length][type][CRC32C][payload]
 *     series record   the canonical bytes of a series and the reference it has in this segment;
 *                     once per segment
 *     block record    points: first point number, references, times, values (core/codec/gorilla.h)
 *
 * A position (uint64) is a byte offset in the endless log and only grows; a position handed out is
 * always the end of a whole record. Every point has a number: the count of points appended before
 * it since the log began. A block carries the number of its first point, so a reader that misses a
 * damaged block knows exactly how many points it lost.
 *
 * Values are chained: Gorilla XOR / delta-of-delta against the same series' previous value in the
 * segment. Each block says which earlier block holds the predecessors, and a series' chain restarts
 * at least every TG_LOG_CHAIN_MAX points: after damage exactly the points whose chain is broken are
 * given up (counted), never decoded wrongly.
 *
 * The promise: with sync = always, once on_commit was called with TG_OK, the batch's points survive
 * power loss. After a failed fsync nothing more is acknowledged from that segment: the log moves on
 * to a new segment, and the data of the failed commit is reported as failed (it may or may not be
 * on disk).
 *
 * Threading: submit from any thread; one log thread encodes, writes, syncs and calls on_commit;
 * each reader belongs to one thread; cursor_set from the reader's thread.
 */
#ifndef TG_LOG_LOG_H
#define TG_LOG_LOG_H

#include "core/base/err.h"
#include "core/base/fs.h"
#include "core/model/point.h"
#include "core/model/table.h"

enum tg_log_sync { TG_SYNC_ALWAYS, TG_SYNC_INTERVAL, TG_SYNC_NEVER };
enum { TG_LOG_CHAIN_MAX = 32 };

struct tg_log_config {
    const char *dir; /* copied */
    enum tg_log_sync sync;
    uint32_t sync_interval_ms; /* for TG_SYNC_INTERVAL; 0 = 1000 */
    uint64_t max_bytes;        /* all segments together; 0 = 4 GiB. Must be >= 4 x segment_bytes */
    uint64_t segment_bytes;    /* 0 = 64 MiB, lowered to max_bytes / 8 */
    uint32_t segment_ms; /* a non-empty segment is closed at this age, so idle series can leave; 0 =
                            1 h */
    uint32_t
        keep_ms; /* delivered segments stay this long for rewinds while there is room; 0 = 24 h */
    uint32_t queue_batches; /* bounded submit queue; 0 = 1024 */
    uint64_t queue_points;  /* and in points; 0 = 4 Mi */
    /* With several senders and TG_SYNC_ALWAYS a commit waits so long, counted from the one before,
     * for those whose batches were in that: one fsync then does for all of them. One sender alone
     * never waits. 0 = 300 */
    uint32_t gather_us;
    const struct tg_fs *fs; /* NULL = the real one; borrowed */
    struct tg_table *table; /* borrowed */
    /* names of the bits of tg_point.targets, borrowed for the log's life; none: no point is routed
     */
    const char *const *targets;
    unsigned n_targets; /* up to TG_MAX_BACKENDS */
};

struct tg_log;
struct tg_log_ticket; /* one submitted batch */

/* Called once per submitted batch, on the log thread: code TG_OK = committed as `sync` promises,
 * and then `end_pos` is the position after the batch; else the points are not acknowledged. Must
 * not block. */
typedef void (*tg_log_on_commit)(void *arg, enum tg_code code, uint64_t end_pos,
                                 const struct tg_err *err);

/* Opens or creates; recovers: cuts a torn tail, sets damage aside. Damage never fails the open. A
 * folder that cannot be used does (TG_ERR_IO), and so does a segment or cursor that is there but
 * cannot be opened or read: nothing of it is changed, and the message says what to do. So does one
 * locked by another process (TG_ERR_UNAVAILABLE). */
TG_MUST_CHECK enum tg_code tg_log_open(const struct tg_log_config *config, struct tg_log **out,
                                       struct tg_err *err);
/* Which log this is: a UUID as text (36 characters), random, made with the log and kept in `id`, in
 * each segment and in each cursor file. With it positions and point numbers are unique: a log in a
 * folder that was wiped has another one, although its positions begin at 0 again. A copy of the
 * folder is the same log. Valid as long as the log is open; any thread. */
const char *tg_log_id(const struct tg_log *log);

/* Stops the thread after committing what was submitted: no callback comes any more, and submitting
 * is refused. NULL and a log that was not started are accepted. */
void tg_log_stop(struct tg_log *log);
/* Stops, closes. NULL accepted. All readers must be closed. */
void tg_log_close(struct tg_log *log);

/* Starts the log thread; without it tg_log_commit is used directly (tests, tools). */
TG_MUST_CHECK enum tg_code tg_log_start(struct tg_log *log, struct tg_err *err);
/* Queues a batch (borrowed until on_commit). TG_ERR_FULL when the queue or the log is full:
 * on_commit is not called. */
TG_MUST_CHECK enum tg_code tg_log_submit(struct tg_log *log, struct tg_batch *batch,
                                         tg_log_on_commit on_commit, void *arg, struct tg_err *err);
/* Synchronously encodes, writes and syncs these batches as one commit, without the thread. *end_pos
 * per batch. */
TG_MUST_CHECK enum tg_code tg_log_commit(struct tg_log *log, struct tg_batch *const *batches,
                                         size_t n, uint64_t *end_pos, struct tg_err *err);

struct tg_log_stats {
    uint64_t start_pos, end_pos; /* oldest kept, end of the last record committed */
    uint64_t end_point_no;       /* points appended since the log began */
    uint64_t bytes, n_segments;
    uint64_t n_queued_batches, n_queued_points;
    uint64_t n_commits, n_syncs, n_sync_failures, n_refused;
    uint64_t n_damaged_records, n_damaged_bytes; /* found at open or while reading */
    uint64_t n_replaced; /* active segments that somebody removed, replaced or cut short */
    bool full;           /* refusing new data */
    /* Since the newest commit failed, not for being full; 0 = the last one went well. */
    uint64_t failed_ms;
};
struct tg_log_stats tg_log_stats(const struct tg_log *log); /* any thread */

/* --- reading --- */

/* A reader's dictionary of one segment, refcounted: it holds a tg_series_ref on each series it
 * resolved, so points of a delivery batch stay valid as long as the batch holds the dictionary. */
struct tg_segment_dict;
void tg_segment_dict_ref(struct tg_segment_dict *d);
void tg_segment_dict_unref(struct tg_segment_dict *d); /* NULL accepted */

/* Where points were that are lost. */
struct tg_log_loss {
    uint64_t from_pos, to_pos;
    bool all; /* all points in it are lost; else some */
};
enum { TG_LOG_READ_LOSSES = 4 };

struct tg_log_reader;
struct tg_log_read {
    uint64_t from_pos, to_pos;           /* the positions covered */
    uint64_t from_point_no, to_point_no; /* to - from = points in batch + n_lost */
    uint64_t n_lost;                     /* points given up to damage in this stretch */
    /* Where: may begin before from_pos, when the read before was not sure. Ascending. */
    struct tg_log_loss losses[TG_LOG_READ_LOSSES];
    unsigned n_losses;
    /* What was lost before to_pos is counted, all of it. false: something unreadable was passed,
     * and the numbers of what follows will tell what it was. */
    bool is_sure;
    uint64_t sure_pos;   /* up to there it is, where a point or a loss is given */
    int64_t accepted_ns; /* when the first of the points was taken in, wall clock, to 0.2 s; 0 =
                            none, or not known */
    /* Number of the first point added, and the others are numbered on from there, but for those of
     * a block that lost some: they are numbered as if the lost ones were its last. */
    uint64_t first_point_no;
};

/* A reader at `pos` (an earlier record end, 0 or start_pos; a position inside a record moves to the
 * record's start). A position before start_pos starts there. A segment that cannot be read now does
 * not fail the open: the first read says so. */
TG_MUST_CHECK enum tg_code tg_log_reader_open(struct tg_log *log, uint64_t pos,
                                              struct tg_log_reader **out, struct tg_err *err);
void tg_log_reader_close(struct tg_log_reader *r); /* NULL accepted */

/* Says which number the point at the reader's position has, where the caller knows it (from its
 * cursor). What is missing from there on is then counted as lost, also when the position is in a
 * segment that is gone. Call right after open or seek. */
void tg_log_reader_expect(struct tg_log_reader *r, uint64_t point_no);

/* Appends whole blocks to `batch` until it has at least one and adding the next would pass
 * max_points (a single block larger than that is given whole), the segment ends, or the committed
 * end is reached. Series come back also over the table's maximum: they were accepted. Points whose
 * series cannot be made (damage) are counted as lost with the reason in err. Returns TG_OK also
 * when there was nothing (to == from). TG_ERR_IO: what comes next cannot be read now; it is neither
 * given up nor counted, and a later call goes on there.
 * `*dict` gets a reference (owned by the caller) when any point was added. Only committed records
 * are seen. */
TG_MUST_CHECK enum tg_code tg_log_reader_read(struct tg_log_reader *r, struct tg_batch *batch,
                                              uint32_t max_points, struct tg_log_read *read,
                                              struct tg_segment_dict **dict, struct tg_err *err);
/* Moves to a position (an earlier record end). Decoding state is rebuilt from the segment's start.
 */
TG_MUST_CHECK enum tg_code tg_log_reader_seek(struct tg_log_reader *r, uint64_t pos,
                                              struct tg_err *err);

/* --- cursors --- */

/* What a cursor file keeps. The counts are since the cursor was made and satisfy, at every instant,
 *   point_no - first_point_no = delivered + inexpressible + elsewhere + dead + lost + skipped
 * (a rewind moves first_point_no back) */
struct tg_cursor_state {
    /* Raised whenever the cursor is moved otherwise than by delivering: what was delivered under an
     * earlier epoch may be delivered once more on purpose. Begins with the second in which the
     * cursor was made, so that it differs also from that of a cursor of this name that was removed
     * or damaged; 0: the cursor is of a version without epochs and was not moved since;
     * or its file was damaged when a log of such a version was opened for the first time. */
    uint64_t epoch;
    uint64_t pos;
    uint64_t point_no;
    uint64_t first_point_no;
    /* Points before this number were logged before the cursor was made or rewound: they go where
     * the rules in force say. Those that were not passed yet (from again_until_no on) also go where
     * they were routed when accepted. */
    uint64_t replay_until_no;
    /* Points before this number were passed once and come again, because of a rewind. */
    uint64_t again_until_no;
    uint64_t n_delivered, n_dead, n_lost;
    uint64_t n_elsewhere;     /* not routed to this backend, or dropped by rule */
    uint64_t n_skipped;       /* the cursor was moved forward over them */
    uint64_t n_inexpressible; /* the backend has no form for them */
};

struct tg_log_cursor;
/* Opens or creates the cursor `name` ([A-Za-z0-9_-]+). A new one starts at the oldest kept position
 * (`from_start`) or at the end. A damaged cursor file, one of another log, or one that says a
 * position that the log does not have was set aside at open and the cursor starts at the oldest
 * kept position (nothing is lost, some is sent again), with a warning. While it exists, segments it
 * has not passed are kept. */
TG_MUST_CHECK enum tg_code tg_log_cursor_open(struct tg_log *log, const char *name, bool from_start,
                                              struct tg_log_cursor **out, struct tg_err *err);
void tg_log_cursor_close(struct tg_log_cursor *c); /* persists; NULL accepted */
struct tg_cursor_state tg_log_cursor_get(const struct tg_log_cursor *c); /* any thread */
/* Sets the confirmed state; written (atomic replace) at most every 200 ms, or now when `flush`.
 * When writing fails the state is set all the same, and is written later. */
TG_MUST_CHECK enum tg_code tg_log_cursor_set(struct tg_log_cursor *c,
                                             const struct tg_cursor_state *s, bool flush,
                                             struct tg_err *err);
/* The state the cursor would have at the first record whose newest point time is >= ts_ns (0 =
 * oldest kept), with pos, point_no and first_point_no set and the counts zero. */
TG_MUST_CHECK enum tg_code tg_log_find_time(struct tg_log *log, int64_t ts_ns,
                                            struct tg_cursor_state *out, struct tg_err *err);
/* A search for a time that is under way, and every later one, ends with TG_ERR_CANCELED: for a
 * stop, as it may read the whole log. Any thread. */
void tg_log_end_searches(struct tg_log *log);
/* From now on cursors that are not open (their backends are no longer configured) hold no segments,
 * so that none of them can fill the log. Their files stay, so that they can be opened again. Warns
 * of each. */
void tg_log_cursors_release(struct tg_log *log);
/* Removes the file of a cursor that is not open. */
TG_MUST_CHECK enum tg_code tg_log_cursor_forget(struct tg_log *log, const char *name,
                                                struct tg_err *err);

/* Closes the segment in use early, at this age, so that readers at the end of the log let go of the
 * series in it; 0: at segment_ms, as ever. For this segment only. Any thread; returns at once, the
 * log thread does it. */
void tg_log_let_go(struct tg_log *log, uint32_t age_ms);

/* Registers a function called on the log thread after each commit that appended points (to wake
 * delivery loops). */
void tg_log_on_append(struct tg_log *log, void (*fn)(void *arg),
                      void *arg); /* up to TG_MAX_BACKENDS; before start */

#endif
