/* log_impl.h: what the files of core/log share. Not for others.
 *
 *   log.c             open, close, the thread and its queue, statistics
 *   identity.c        which log this is
 *   extent.c          from where to where it goes, kept outside of its segments
 *   end_mark.c        how far it went, to the last acknowledged point
 *   recover.c         what a folder holds at open; damage set aside
 *   writer.c          one commit: encode, write, sync, publish; segments begun, closed, given up
 *   replaced.c        the active segment, or the folder, changed by somebody else
 *   segment_reclaim.c deleting delivered segments
 *   segment_dict.c    a reader's series of one segment; series records
 *   reader.c          reading, seeking, finding a time
 *   cursor.c          cursor files
 *   absence.c         cursors whose backends are not configured
 *
 * Threading and locks, in the order in which they are taken:
 *   cursor->file_mu  one writer of a cursor file
 *   commit_mu        the writer's state: all of `struct tg_log_writer`
 *   queue_mu         the submit queue, wake-ups
 *   mu               segment list, cursor list and durable positions, statistics
 */
#ifndef TG_LOG_LOG_IMPL_H
#define TG_LOG_LOG_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/base/folder_lock.h"
#include "core/base/fs.h"
#include "core/log/block.h"
#include "core/log/log.h"
#include "core/log/segment.h"

#define TG_NO_NUMBER UINT64_MAX
enum {
    TG_LOG_GATHER_US = 300,
    TG_LOG_GATHER_POINTS = 64 << 10,  /* enough for a commit: nobody is waited for */
    TG_LOG_ID_CHARS = 37,             /* of its text, with the NUL */
    TG_LOG_COMMIT_BYTES = 8 << 20,    /* a commit takes no further batch over this */
    TG_LOG_DAMAGED_BYTES = 64 << 20,  /* kept in damaged/; more is only counted */
    TG_LOG_RESERVE_BYTES = 128 << 10, /* given up when cursors do not fit on a full disk */
    TG_LOG_CURSOR_MS = 200,
    TG_LOG_CURSOR_RETRY_MS = 5000,
    TG_LOG_WARN_EVERY_MS = 60000, /* a state that lasts is said again so often */
    TG_LOG_EXTENT_MS = 5000,      /* what the log has is written down so often while points come */
    TG_LOG_ACCEPTED_MS = 200,     /* how exactly the log knows when its points came */
    TG_LOG_GROUP_SERIES = 64,     /* series in one record */
    TG_LOG_GROUP_BYTES = 64 << 10,
    TG_LOG_SMALL_POINTS = 64,   /* batches of up to so many share a block with their neighbours */
    TG_LOG_SHARED_POINTS = 1024 /* ... of up to so many: what one damaged record may take */
};
_Static_assert((int)TG_LOG_CHAIN_MAX == (int)TG_BLOCK_CHAIN_MAX, "one limit, two names");

struct tg_log_range {
    uint64_t from, to;
};

/* Of what the log keeps: [start, end). All 0: not known. */
struct tg_log_extent {
    uint64_t start_pos, start_no, end_pos, end_no;
};

struct tg_log_segment {
    uint64_t start_pos;
    _Atomic uint64_t end_pos; /* what readers may see: only grows, final once sealed */
    _Atomic bool sealed;
    uint64_t first_point_no; /* or TG_NO_NUMBER */
    uint64_t limit_point_no; /* blocks that pass it are of a failed commit */
    uint64_t file_bytes;
    int64_t sealed_ns;      /* wall clock */
    uint64_t device, inode; /* of its file; under mu */
    int orphan_fd;      /* its file has no name any more, and this is all there is; -1; commit_mu */
    _Atomic bool waits; /* readers wait until its file is what it was: replaced.c is at it */
    uint32_t refs;      /* list and readers; under mu */
    struct tg_log_range *damaged; /* noted already; under mu */
    uint32_t n_damaged;
    struct tg_log_segment *prev, *next;
};

struct tg_log_item {
    struct tg_batch *batch;
    tg_log_on_commit on_commit;
    void *arg;
    uint64_t end_pos;
    enum tg_code code;
    struct tg_err err;
};

struct tg_log_writer {             /* under commit_mu */
    struct tg_log_segment *active; /* NULL: the next commit begins one */
    int fd;
    uint64_t next_pos; /* where the next record goes; or the next segment begins */
    uint64_t next_point_no;
    uint64_t serial;    /* of the active segment, unique in this process */
    uint64_t begun_ms;  /* mono */
    uint64_t looked_ms; /* mono: when its file was last seen to be there */
    uint64_t saved_ms;  /* mono: when saving those with orphan_fd was last tried */
    unsigned n_orphans; /* segments with orphan_fd */
    struct tg_log_extent extent_written;
    uint64_t extent_ms;               /* mono: when that was last tried; 0: never */
    int mark_fd;                      /* of the end mark; -1: it cannot be written now */
    uint8_t boot_id[TG_LOG_ID_BYTES]; /* of the system; zeros: not known */
    /* Wall clock of the newest accepted record: in the active segment; in the commit being built
     * (0 = it has none). */
    int64_t accepted_ns, out_accepted_ns;
    bool unsynced, dir_unsynced;
    uint64_t unsynced_since_ms;
    uint64_t refused_bytes; /* of the commit that found the log full */
    bool refusing;          /* the last commit with points failed, and that was said */
    uint64_t refusal_said_ms;
    struct tg_block_encoder encoder;
    struct tg_buf out;   /* the commit being built */
    struct tg_buf group; /* series waiting for their record */
    struct tg_buf packed;
    uint32_t group_first, group_n;
    struct tg_buf repeat,
        repeat_next; /* series records to be written once more: u32 len << 8 | type, payload */
    struct tg_series **fresh; /* got a reference in this commit */
    size_t n_fresh, cap_fresh;
    uint32_t refs[TG_BLOCK_MAX_POINTS];
    struct tg_point *shared; /* [TG_LOG_SHARED_POINTS]: points of small batches, side by side */
    struct tg_arena arena;
};

/* Whom the next commit waits for; under queue_mu. */
struct tg_log_gather {
    uint32_t in_flight; /* batches in the commit before and waiting when it was done */
    uint32_t wanted;    /* the log thread waits until the queue has so many; 0: it does not */
    uint32_t n_misses;  /* in a row: nobody came */
    uint32_t n_skips;   /* so many commits from now on wait for nobody */
    uint64_t until_us;  /* mono: no longer */
};

struct tg_log {
    char dir[TG_PATH_MAX], cursor_dir[TG_PATH_MAX], damaged_dir[TG_PATH_MAX];
    const struct tg_fs *fs;
    struct tg_table *table;
    enum tg_log_sync sync;
    uint32_t sync_interval_ms, segment_ms, keep_ms, gather_us;
    const char *const *targets; /* borrowed: names of the bits of tg_point.targets */
    unsigned n_targets;
    uint64_t max_bytes, segment_bytes;
    uint8_t id[TG_LOG_ID_BYTES];
    char id_text[TG_LOG_ID_CHARS];
    bool had_no_id;             /* until now: its segments are of a former version */
    struct tg_log_extent known; /* what the file said at open */
    struct tg_folder_lock lock;

    pthread_mutex_t commit_mu;
    struct tg_log_writer w;

    pthread_mutex_t queue_mu;
    pthread_cond_t wake;
    struct tg_log_item *queue; /* ring */
    uint32_t queue_cap, queue_head, queue_n;
    uint64_t queue_points, max_queue_points, taken_points;
    uint32_t taken_n;
    bool started, stopping, reclaim_wanted, cursors_dirty, look_wanted;
    struct tg_log_gather gather;
    pthread_t thread;
    struct {
        void (*fn)(void *arg);
        void *arg;
    } on_append[TG_MAX_BACKENDS];
    unsigned n_on_append;

    _Atomic bool full;
    _Atomic uint64_t failed_at_ms; /* mono, of the newest failure while not full; 0 = none since */
    _Atomic uint64_t n_refused;
    _Atomic bool no_searches;   /* tg_log_find_time ends */
    _Atomic uint32_t let_go_ms; /* the segment in use is closed at this age; 0 = at segment_ms */

    pthread_mutex_t mu;
    struct tg_log_segment *first, *last;
    struct tg_log_cursor *cursors;
    uint64_t bytes, n_segments, end_pos, end_point_no;
    uint64_t n_commits, n_syncs, n_sync_failures, n_damaged_records, n_damaged_bytes, n_replaced;
    uint64_t damaged_dir_bytes;
};

/* identity.c */
void tg_log_id_text(const uint8_t id[TG_LOG_ID_BYTES], char out[TG_LOG_ID_CHARS]);
bool tg_log_id_parse(const char *text, uint8_t id[TG_LOG_ID_BYTES]);
/* Learns or makes log->id; after tg_log_cursors_load. TG_ERR_INVALID: segments of several logs;
 * TG_ERR_IO: it cannot be read, or not be kept. */
TG_MUST_CHECK enum tg_code tg_log_learn_id(struct tg_log *log, struct tg_err *err);

/* extent.c; under commit_mu once the log is open */
/* Learns log->known; after tg_log_learn_id. A damaged file, or one of another log, says nothing. */
TG_MUST_CHECK enum tg_code tg_log_extent_read(struct tg_log *log, struct tg_err *err);
/* Writes down what the log has, where that is not written yet and was fsynced. When it cannot be
 * written now, tg_log_extent_due_ms says when to try again. */
void tg_log_extent_write(struct tg_log *log);
uint64_t tg_log_extent_due_ms(struct tg_log *log); /* mono; UINT64_MAX: nothing to write */
struct tg_log_extent tg_log_extent_now(struct tg_log *log);
/* At open: says what is missing of what the file knows of. files_end_no: the number after the last
 * point in the segments. */
void tg_log_extent_compare(struct tg_log *log, uint64_t files_end_no);

/* end_mark.c; under commit_mu once the log is open */
/* Adds to log->known what the file says of the newest points; after tg_log_extent_read. A damaged
 * file, or one of another log, says nothing. TG_ERR_IO: it is there and cannot be read. */
TG_MUST_CHECK enum tg_code tg_log_end_mark_read(struct tg_log *log, struct tg_err *err);
/* Opens the file, or opens it again, for it may have been removed. */
void tg_log_end_mark_open(struct tg_log *log);
void tg_log_end_mark_close(struct tg_log *log);
/* With every commit, before it is acknowledged: under 1 us, no fsync. */
void tg_log_end_mark_write(struct tg_log *log);

/* recover.c */
TG_MUST_CHECK enum tg_code tg_log_recover(struct tg_log *log, struct tg_err *err);
/* For an entry of a folder that has the name of a segment or cursor, but is a folder itself or
 * cannot be looked at: the error with which the log is not opened. */
TG_MUST_CHECK enum tg_code tg_log_refuse_entry(const char *dir, const char *name,
                                               const struct tg_fs_stat *st, struct tg_err *err);
/* Counts bytes [from, to) of a segment as damaged, copies them aside, warns; once per range. */
void tg_log_note_damage(struct tg_log *log, struct tg_log_segment *seg, int fd, uint64_t from,
                        uint64_t to);
struct tg_log_segment *tg_log_segment_new(uint64_t start_pos);
void tg_log_segment_unref(struct tg_log *log, struct tg_log_segment *seg); /* under mu */
void tg_log_segment_link(struct tg_log *log, struct tg_log_segment *seg); /* under mu; at the end */
void tg_log_segment_link_first(struct tg_log *log, struct tg_log_segment *seg); /* under mu */
void tg_log_segment_unlink(struct tg_log *log, struct tg_log_segment *seg);
TG_MUST_CHECK enum tg_code tg_log_segment_path(const struct tg_log *log, uint64_t start_pos,
                                               char out[TG_PATH_MAX], struct tg_err *err);

/* writer.c; all under commit_mu */
TG_MUST_CHECK enum tg_code tg_log_writer_init(struct tg_log *log);
void tg_log_writer_deinit(struct tg_log *log);
/* Commits the leading items (all that fit one commit), sets their code, end_pos and err. Returns
 * how many. */
size_t tg_log_write(struct tg_log *log, struct tg_log_item *items, size_t n);
/* Syncs what interval mode has not yet. */
void tg_log_sync_now(struct tg_log *log);
void tg_log_seal(struct tg_log *log);
uint64_t tg_log_seal_due_ms(const struct tg_log *log); /* mono; UINT64_MAX: nothing to seal */
/* The active segment takes no more records; the next begins at next_pos. */
void tg_log_retire_active(struct tg_log *log, uint64_t next_pos);

/* replaced.c; all under commit_mu */
/* Remembers which file the segment is. TG_ERR_IO. */
TG_MUST_CHECK enum tg_code tg_log_identify(struct tg_log *log, struct tg_log_segment *seg, int fd,
                                           struct tg_err *err);
/* Sees that what was committed is where a restart will look for it. When the active segment's file
 * is not that any more, what is still to be had of it is saved, and there is no active segment
 * afterwards. TG_ERR_IO: it could not be seen; nothing may be acknowledged. */
TG_MUST_CHECK enum tg_code tg_log_look_after(struct tg_log *log, struct tg_err *err);
/* Whether the path is this file, of `bytes` or more. TG_ERR_NOT_FOUND: it is not, or shorter;
 * TG_ERR_IO: it cannot be seen. */
TG_MUST_CHECK enum tg_code tg_log_is_file(struct tg_log *log, const struct tg_log_segment *seg,
                                          const char *path, uint64_t bytes, struct tg_err *err);
/* Gives the active segment up, whose file somebody replaced or removed: what was committed to it is
 * saved from its handle, now or later. */
void tg_log_orphan_active(struct tg_log *log, uint64_t next_pos);
/* Forgets the handle of a segment that goes. */
void tg_log_orphan_drop(struct tg_log *log, struct tg_log_segment *seg);
enum { TG_LOG_LOOK_MS = 1000 };

/* segment_reclaim.c; under commit_mu */
/* Deletes delivered segments, oldest first, until `need` more bytes fit; with need = 0 those past
 * keep_ms. True when they fit. */
bool tg_segment_reclaim(struct tg_log *log, uint64_t need);
/* Deletes all delivered segments: the disk is full. True when any was. */
bool tg_segment_reclaim_all(struct tg_log *log);

/* cursor.c */
TG_MUST_CHECK enum tg_code tg_log_cursors_load(struct tg_log *log, struct tg_err *err);
/* The log that the cursor files are of; false when none says, or not all say the same. */
bool tg_log_cursors_id(const struct tg_log *log, uint8_t id[TG_LOG_ID_BYTES]);
/* Sets the files aside that are damaged or of another log: those cursors start again at the oldest
 * data. */
TG_MUST_CHECK enum tg_code tg_log_cursors_settle(struct tg_log *log, struct tg_err *err);
void tg_log_cursors_free(struct tg_log *log);
uint64_t tg_log_cursors_min_pos(
    const struct tg_log *log);                            /* under mu; UINT64_MAX without cursors */
uint64_t tg_log_cursors_min_no(const struct tg_log *log); /* UINT64_MAX without cursors */
void tg_log_cursors_max(const struct tg_log *log, uint64_t *pos, uint64_t *point_no);
/* After recovery: sets those aside that say more than the log can have, whose files end at
 * files_end. */
TG_MUST_CHECK enum tg_code tg_log_cursors_check(struct tg_log *log, uint64_t files_end,
                                                struct tg_err *err);
/* Under mu: says which backends that are not configured lose what with this segment, the numbers of
 * which end at end_no. */
void tg_log_cursors_warn_dropped(struct tg_log *log, const struct tg_log_segment *seg,
                                 uint64_t end_no);
/* Writes all that have changed. false: the disk refused, try again later. */
bool tg_log_cursors_flush(struct tg_log *log);
void tg_log_reserve_make(struct tg_log *log);
bool tg_log_reserve_give_up(struct tg_log *log);

/* absence.c */
/* Notes that the cursor's backend is not configured, unless that is noted already. */
void tg_log_absence_note(struct tg_log *log, const char *cursor, uint64_t end_point_no);
/* Its backend is back: where that was noted, says where it goes on and what came meanwhile. */
void tg_log_absence_end(struct tg_log *log, const char *cursor, const struct tg_cursor_state *s);

/* log.c */
/* The folder is still the one that is locked: in another's place nothing is written or deleted.
 * TG_ERR_IO. */
TG_MUST_CHECK enum tg_code tg_log_check_folder(const struct tg_log *log, struct tg_err *err);
void tg_log_wake(struct tg_log *log, bool reclaim, bool cursors);
/* Asks the log thread for tg_log_look_after. */
void tg_log_wake_look(struct tg_log *log);

/* segment_dict.c */
struct tg_segment_dict {
    _Atomic uint32_t refs;
    uint32_t n, cap;
    struct tg_block_entry *entries;
    uint64_t n_refused; /* series that the table did not take */
    struct tg_err refusal;
};
struct tg_segment_dict *tg_segment_dict_new(void);
/* Takes in a series record. TG_ERR_CORRUPT: the record is not one; TG_ERR_NOMEM: try again. */
TG_MUST_CHECK enum tg_code tg_segment_dict_add(struct tg_segment_dict *d, struct tg_table *table,
                                               struct tg_compress *compress, struct tg_buf *scratch,
                                               struct tg_arena *arena, const uint8_t *payload,
                                               size_t len, struct tg_err *err);

#endif
