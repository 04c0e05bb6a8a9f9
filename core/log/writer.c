/* writer.c: one commit: encode, write, sync, publish; segments begun, closed, given up. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

enum tg_code tg_log_writer_init(struct tg_log *log)
{
    struct tg_log_writer *w = &log->w;
    w->fd = w->mark_fd = -1;
    tg_buf_init(&w->out, 0);
    tg_buf_init(&w->group, 0);
    tg_buf_init(&w->packed, 0);
    tg_buf_init(&w->repeat, 0);
    tg_buf_init(&w->repeat_next, 0);
    tg_arena_init(&w->arena, 0);
    w->shared = tg_reallocarray(NULL, TG_LOG_SHARED_POINTS, sizeof(*w->shared));
    const enum tg_code code = tg_block_encoder_init(&w->encoder);
    return w->shared ? code : TG_ERR_NOMEM;
}

void tg_log_writer_deinit(struct tg_log *log)
{
    struct tg_log_writer *w = &log->w;
    if (w->fd >= 0) (void)log->fs->close(log->fs->self, w->fd);
    w->fd = -1;
    tg_log_end_mark_close(log);
    tg_block_encoder_deinit(&w->encoder);
    tg_buf_deinit(&w->out);
    tg_buf_deinit(&w->group);
    tg_buf_deinit(&w->packed);
    tg_buf_deinit(&w->repeat);
    tg_buf_deinit(&w->repeat_next);
    tg_arena_deinit(&w->arena);
    tg_free(w->fresh);
    tg_free(w->shared);
}

/* --- encoding --- */

/* Where in w the next byte of w->out will be in the log. */
static uint64_t out_pos(const struct tg_log_writer *w)
{
    return w->next_pos + w->out.len;
}

/* What an item that fails halfway is taken back to. */
struct mark {
    size_t out, repeat_next, n_fresh;
    uint32_t n_chains;
    uint64_t point_no;
};

static struct mark mark_here(const struct tg_log_writer *w, uint64_t point_no)
{
    return (struct mark){w->out.len, w->repeat_next.len, w->n_fresh, w->encoder.n_chains, point_no};
}

static void undo(struct tg_log_writer *w, const struct mark *m)
{
    w->out.len = m->out;
    w->repeat_next.len = m->repeat_next;
    while (w->n_fresh > m->n_fresh) w->fresh[--w->n_fresh]->log_segment = 0;
    tg_block_encoder_undo(&w->encoder, m->n_chains);
    tg_buf_reset(&w->group);
    w->group_n = 0;
}

/* Keeps the record whose payload begins at `payload` and ends w->out, to be written once more. */
static enum tg_code repeat_later(struct tg_log_writer *w, size_t payload, enum tg_record_type type)
{
    const uint32_t len = (uint32_t)(w->out.len - payload);
    TG_TRY(tg_buf_reserve(&w->repeat_next, 4 + (size_t)len));
    tg_buf_put_u32(&w->repeat_next, len << 8 | (uint32_t)type);
    tg_buf_put(&w->repeat_next, w->out.data + payload, len);
    return TG_OK;
}

/* Writes the record of the series gathered in w->group. */
static enum tg_code flush_group(struct tg_log_writer *w)
{
    if (w->group_n == 0) return TG_OK;
    const struct tg_buf *body = &w->group;
    tg_buf_reset(&w->packed);
    if (w->group.len >= 64 &&
        tg_compress_encode(&w->encoder.compress, TG_ENCODING_ZSTD, w->group.data, w->group.len,
                           &w->packed, NULL) == TG_OK &&
        w->packed.len < w->group.len)
        body = &w->packed;
    TG_TRY(tg_buf_reserve(&w->out, TG_FRAME_BYTES + 1 + 3 * TG_VARINT_MAX + body->len));
    const uint64_t pos = out_pos(w);
    const size_t frame = tg_frame_begin(&w->out);
    const size_t payload = w->out.len;
    tg_buf_put_u8(&w->out, body == &w->packed);
    tg_buf_put_varint(&w->out, w->group_first);
    tg_buf_put_varint(&w->out, w->group_n);
    tg_buf_put_varint(&w->out, w->group.len);
    tg_buf_put(&w->out, body->data, body->len);
    tg_frame_end(&w->out, frame, pos, TG_RECORD_SERIES);
    TG_TRY(repeat_later(w, payload, TG_RECORD_SERIES));
    tg_buf_reset(&w->group);
    w->group_n = 0;
    return TG_OK;
}

/* Gives the series its reference in this segment. */
static enum tg_code introduce(struct tg_log *log, struct tg_series *s, struct tg_err *err)
{
    struct tg_log_writer *w = &log->w;
    if (w->n_fresh == w->cap_fresh) {
        const size_t cap = w->cap_fresh * 2 + 256;
        struct tg_series **f = tg_reallocarray(w->fresh, cap, sizeof(struct tg_series *));
        if (!f) return TG_ERR_NOMEM;
        w->fresh = f;
        w->cap_fresh = cap;
    }
    if (w->group_n == TG_LOG_GROUP_SERIES || w->group.len >= TG_LOG_GROUP_BYTES)
        TG_TRY(flush_group(w));
    struct tg_series_desc desc;
    tg_arena_reset(&w->arena);
    TG_TRY(tg_table_describe(log->table, s, &desc, &w->arena));
    /* the length goes before the bytes: encode after the widest length, then close the gap */
    const size_t at = w->group.len;
    TG_TRY(tg_buf_reserve(&w->group, TG_VARINT_MAX));
    w->group.len += TG_VARINT_MAX;
    const enum tg_code code = tg_series_desc_encode(&desc, &w->group);
    if (code != TG_OK) {
        w->group.len = at;
        return code;
    }
    const size_t len = w->group.len - at - TG_VARINT_MAX;
    w->group.len = at;
    tg_buf_put_varint(&w->group, len);
    memmove(w->group.data + w->group.len, w->group.data + at + TG_VARINT_MAX, len);
    w->group.len += len;

    uint32_t ref;
    const enum tg_code added = tg_block_encoder_add(&w->encoder, &ref);
    if (added != TG_OK) {
        w->group.len = at;
        return added == TG_ERR_FULL
                   ? tg_fail(err, TG_ERR_FULL, "over %d series in one segment of the log",
                             TG_BLOCK_MAX_REFS)
                   : added;
    }
    if (w->group_n++ == 0) w->group_first = ref;
    s->log_ref = ref;
    s->log_segment = w->serial;
    w->fresh[w->n_fresh++] = s;
    return TG_OK;
}

static enum tg_code encode_points(struct tg_log *log, const struct tg_point *all, uint32_t n_all,
                                  uint64_t *point_no, struct tg_err *err)
{
    struct tg_log_writer *w = &log->w;
    uint32_t at = 0;
    while (at < n_all) {
        const struct tg_point *points = all + at;
        uint32_t n = n_all - at;
        if (n > TG_BLOCK_MAX_POINTS) n = TG_BLOCK_MAX_POINTS;
        for (uint32_t i = 0; i < n; i++) {
            if (i + 8 < n) __builtin_prefetch(&points[i + 8].series->log_segment);
            struct tg_series *s = points[i].series;
            if (s->log_segment != w->serial) TG_TRY(introduce(log, s, err));
            w->refs[i] = s->log_ref;
        }
        TG_TRY(flush_group(w));
        TG_TRY(tg_buf_reserve(&w->out, TG_FRAME_BYTES));
        const uint64_t pos = out_pos(w);
        const size_t frame = tg_frame_begin(&w->out);
        uint32_t used;
        TG_TRY(tg_block_encode(&w->encoder, points, w->refs, n, *point_no, &w->out, &used, err));
        tg_frame_end(&w->out, frame, pos, TG_RECORD_BLOCK);
        *point_no += used;
        at += used;
    }
    return TG_OK;
}

/* Encodes one batch whole or not at all. */
static enum tg_code encode_item(struct tg_log *log, struct tg_log_item *item, uint64_t *point_no)
{
    struct tg_log_writer *w = &log->w;
    const struct mark m = mark_here(w, *point_no);
    item->err.msg[0] = 0;
    const enum tg_code code =
        encode_points(log, item->batch->points, item->batch->n_points, point_no, &item->err);
    if (code != TG_OK) {
        undo(w, &m);
        *point_no = m.point_no;
        if (!item->err.msg[0] || item->err.code != code)
            (void)tg_fail(&item->err, code, "cannot encode a batch of %u points for the log%s",
                          item->batch->n_points, code == TG_ERR_NOMEM ? ": no memory" : "");
    }
    item->code = code;
    item->end_pos = out_pos(w);
    return code;
}

/* Encodes the first batch, or the first few when they are small, to blocks that they share: a frame
 * and a header for each point of a request of one would be most of the log. Gives how many. */
static size_t encode_next(struct tg_log *log, struct tg_log_item *items, size_t n,
                          uint64_t *point_no)
{
    struct tg_log_writer *w = &log->w;
    uint32_t n_points = 0;
    size_t k = 0;
    for (; k < n; k++) {
        const struct tg_batch *b = items[k].batch;
        if (b->n_points > TG_LOG_SMALL_POINTS || n_points + b->n_points > TG_LOG_SHARED_POINTS)
            break;
        if (b->n_points) memcpy(w->shared + n_points, b->points, b->n_points * sizeof(*b->points));
        n_points += b->n_points;
    }
    if (k < 2) {
        (void)encode_item(log, &items[0], point_no);
        return 1;
    }
    const struct mark m = mark_here(w, *point_no);
    struct tg_err err;
    if (encode_points(log, w->shared, n_points, point_no, &err) == TG_OK) {
        for (size_t i = 0; i < k; i++) {
            items[i].code = TG_OK;
            items[i].err.msg[0] = 0;
            items[i].end_pos = out_pos(w);
        }
        return k;
    }
    undo(w, &m); /* one of them cannot be encoded: each alone, so that it fails alone */
    *point_no = m.point_no;
    for (size_t i = 0; i < k; i++) (void)encode_item(log, &items[i], point_no);
    return k;
}

/* What follows the blocks of a commit: series and targets records of the one before once more (so
 * that no single damaged record takes a series with it for the rest of the segment), the count. */
static enum tg_code encode_tail(struct tg_log_writer *w, uint64_t point_no)
{
    for (size_t at = 0; at < w->repeat.len;) {
        uint32_t len, type;
        memcpy(&len, w->repeat.data + at, 4);
        type = len & 0xff;
        len >>= 8;
        TG_TRY(tg_buf_reserve(&w->out, TG_FRAME_BYTES + (size_t)len));
        const uint64_t pos = out_pos(w);
        const size_t frame = tg_frame_begin(&w->out);
        tg_buf_put(&w->out, w->repeat.data + at + 4, len);
        tg_frame_end(&w->out, frame, pos, (enum tg_record_type)type);
        at += 4 + (size_t)len;
    }
    TG_TRY(tg_buf_reserve(&w->out, TG_FRAME_BYTES + TG_VARINT_MAX));
    const uint64_t pos = out_pos(w);
    const size_t frame = tg_frame_begin(&w->out);
    tg_buf_put_varint(&w->out, point_no);
    tg_frame_end(&w->out, frame, pos, TG_RECORD_COMMIT);
    return TG_OK;
}

/* --- files --- */

static void count_sync(struct tg_log *log, bool ok)
{
    pthread_mutex_lock(&log->mu);
    log->n_syncs++;
    log->n_sync_failures += !ok;
    pthread_mutex_unlock(&log->mu);
}

/* Its encoder state goes, so idle series can leave. */
void tg_log_retire_active(struct tg_log *log, uint64_t next_pos)
{
    struct tg_log_writer *w = &log->w;
    if (w->fd >= 0) (void)log->fs->close(log->fs->self, w->fd);
    w->fd = -1;
    if (w->active) {
        w->active->sealed_ns = tg_clock_wall_ns();
        atomic_store(&w->active->sealed, true);
    }
    w->active = NULL;
    w->serial = 0;
    w->next_pos = next_pos;
    w->unsynced = w->dir_unsynced = false;
    tg_block_encoder_reset(&w->encoder);
    tg_buf_deinit(&w->repeat);
    tg_buf_init(&w->repeat, 0);
}

/* Gives the segment up after its last good position; bytes up to `written` may or may not be on
 * disk. They can come back after a power loss, therefore the next segment begins after them, and
 * its header says where this one ended. */
static void abandon(struct tg_log *log, uint64_t written)
{
    struct tg_log_writer *w = &log->w;
    if (w->active) {
        const uint64_t good = atomic_load(&w->active->end_pos) - w->active->start_pos;
        (void)log->fs->truncate(log->fs->self, w->fd, good);
        tg_warn("log",
                "segment %" PRIu64 " is given up at byte %" PRIu64 ": the log goes on in a "
                "new one; check the disk",
                w->active->start_pos, good);
    }
    tg_log_retire_active(log, written);
}

void tg_log_sync_now(struct tg_log *log)
{
    struct tg_log_writer *w = &log->w;
    if (!w->active || !w->unsynced) return;
    int r = log->fs->datasync(log->fs->self, w->fd);
    if (r == 0 && w->dir_unsynced) r = log->fs->sync_dir(log->fs->self, log->dir);
    count_sync(log, r == 0);
    if (r < 0) {
        char buf[64];
        tg_error("log", "fsync failed (%s): points of the last interval may be lost",
                 tg_errno_text(-r, buf, sizeof(buf)));
        abandon(log, w->next_pos);
        return;
    }
    w->unsynced = w->dir_unsynced = false;
}

void tg_log_seal(struct tg_log *log)
{
    struct tg_log_writer *w = &log->w;
    if (!w->active) return;
    if (log->sync != TG_SYNC_NEVER) tg_log_sync_now(log);
    if (w->active) tg_log_retire_active(log, w->next_pos);
    tg_log_extent_write(log);
}

uint64_t tg_log_seal_due_ms(const struct tg_log *log)
{
    const uint32_t early_ms = atomic_load_explicit(&log->let_go_ms, memory_order_relaxed);
    if (!log->w.active) return UINT64_MAX;
    return log->w.begun_ms + (early_ms && early_ms < log->segment_ms ? early_ms : log->segment_ms);
}

static enum tg_code put_log_id(struct tg_log *log)
{
    struct tg_log_writer *w = &log->w;
    TG_TRY(tg_buf_reserve(&w->out, TG_FRAME_BYTES + TG_LOG_ID_BYTES));
    const uint64_t pos = out_pos(w);
    const size_t frame = tg_frame_begin(&w->out);
    tg_buf_put(&w->out, log->id, TG_LOG_ID_BYTES);
    tg_frame_end(&w->out, frame, pos, TG_RECORD_LOG);
    return repeat_later(w, frame + TG_FRAME_BYTES, TG_RECORD_LOG);
}

/* Says what the bits of targets mean: the configuration may be another one when this is read. */
static enum tg_code put_targets(struct tg_log *log)
{
    struct tg_log_writer *w = &log->w;
    if (log->n_targets == 0) return TG_OK;
    size_t room = TG_FRAME_BYTES + TG_VARINT_MAX;
    for (unsigned i = 0; i < log->n_targets; i++) room += TG_VARINT_MAX + strlen(log->targets[i]);
    TG_TRY(tg_buf_reserve(&w->out, room));
    const uint64_t pos = out_pos(w);
    const size_t frame = tg_frame_begin(&w->out);
    tg_buf_put_varint(&w->out, log->n_targets);
    for (unsigned i = 0; i < log->n_targets; i++) {
        const size_t len = strlen(log->targets[i]);
        tg_buf_put_varint(&w->out, len);
        tg_buf_put(&w->out, log->targets[i], len);
    }
    tg_frame_end(&w->out, frame, pos, TG_RECORD_TARGETS);
    return repeat_later(w, frame + TG_FRAME_BYTES, TG_RECORD_TARGETS);
}

/* Says when the points of this commit came, unless the record before is as good as new. */
static enum tg_code put_accepted(struct tg_log_writer *w, bool is_new)
{
    const int64_t now_ns = tg_clock_wall_ns();
    const int64_t age_ns = now_ns - w->accepted_ns;
    w->out_accepted_ns = 0;
    if (!is_new && age_ns >= 0 && age_ns < TG_LOG_ACCEPTED_MS * INT64_C(1000000)) return TG_OK;
    TG_TRY(tg_buf_reserve(&w->out, TG_FRAME_BYTES + TG_VARINT_MAX));
    const uint64_t pos = out_pos(w);
    const size_t frame = tg_frame_begin(&w->out);
    tg_buf_put_varint(&w->out, now_ns > 0 ? (uint64_t)now_ns / 1000000 : 0);
    tg_frame_end(&w->out, frame, pos, TG_RECORD_ACCEPTED);
    w->out_accepted_ns = now_ns;
    return TG_OK;
}

/* Starts the commit's bytes, with a segment header when there is no segment. */
static enum tg_code begin(struct tg_log *log, struct tg_log_segment **fresh_segment,
                          struct tg_err *err)
{
    static _Atomic uint64_t serials;
    struct tg_log_writer *w = &log->w;
    *fresh_segment = NULL;
    tg_buf_reset(&w->out);
    tg_buf_reset(&w->repeat_next);
    tg_buf_reset(&w->group);
    w->group_n = 0;
    w->n_fresh = 0;
    if (w->active) {
        const enum tg_code code = put_accepted(w, false);
        return code == TG_OK ? TG_OK : tg_fail(err, code, "no memory to commit to the log");
    }
    if (w->serial == 0) w->serial = atomic_fetch_add(&serials, 1) + 1;
    struct tg_log_segment *seg = tg_log_segment_new(w->next_pos);
    if (!seg || tg_buf_reserve(&w->out, TG_SEGMENT_HEADER_BYTES) != TG_OK) {
        tg_free(seg);
        return tg_fail(err, TG_ERR_NOMEM, "no memory for a segment of the log");
    }
    seg->first_point_no = w->next_point_no;
    pthread_mutex_lock(&log->mu);
    const uint64_t prev_end = log->last ? atomic_load(&log->last->end_pos) : w->next_pos;
    pthread_mutex_unlock(&log->mu);
    const struct tg_segment_header h = {
        .start_pos = w->next_pos,
        .first_point_no = w->next_point_no,
        .prev_end_pos = prev_end,
        .created_ns = tg_clock_wall_ns(),
    };
    tg_segment_header_put(&h, w->out.data);
    w->out.len = TG_SEGMENT_HEADER_BYTES;
    if (put_log_id(log) != TG_OK || put_targets(log) != TG_OK || put_accepted(w, true) != TG_OK) {
        tg_free(seg);
        return tg_fail(err, TG_ERR_NOMEM, "no memory for a segment of the log");
    }
    *fresh_segment = seg;
    return TG_OK;
}

static enum tg_code create(struct tg_log *log, struct tg_log_segment *seg, char path[TG_PATH_MAX],
                           struct tg_err *err)
{
    struct tg_log_writer *w = &log->w;
    TG_TRY(tg_log_segment_path(log, w->next_pos, path, err));
    TG_TRY(tg_log_check_folder(log, err));
    const unsigned flags = TG_FS_READ | TG_FS_WRITE | TG_FS_CREATE | TG_FS_EXCL;
    struct tg_fs_stat st;
    w->fd = log->fs->open(log->fs->self, path, flags);
    /* Nothing is overwritten. An empty file is what a start of a segment left when it could not be
     * removed; anything else is not ours, and the log goes on behind it. */
    if (w->fd == -EEXIST && log->fs->stat(log->fs->self, path, &st) == 0) {
        if (!st.is_dir && st.size == 0 && log->fs->unlink(log->fs->self, path) == 0) {
            w->fd = log->fs->open(log->fs->self, path, flags);
        } else {
            w->fd = -1;
            tg_log_retire_active(log, w->next_pos + (st.size > 0 ? st.size : 1));
            return tg_fail(err, TG_ERR_IO,
                           "%s is there already and is not of this log: it is kept, and the log "
                           "goes on behind it",
                           path);
        }
    }
    if (w->fd < 0) {
        const int e = -w->fd;
        w->fd = -1;
        return tg_fail_errno(err, e, "cannot create %s", path);
    }
    const enum tg_code code = tg_log_identify(log, seg, w->fd, err);
    if (code != TG_OK) {
        (void)log->fs->close(log->fs->self, w->fd);
        w->fd = -1;
        (void)log->fs->unlink(log->fs->self, path);
    }
    return code;
}

/* Writes w->out at next_pos and syncs it as the mode says. On failure the file is as it was before,
 * or the segment is given up. */
static enum tg_code write_out(struct tg_log *log, struct tg_log_segment *fresh_segment,
                              struct tg_err *err)
{
    struct tg_log_writer *w = &log->w;
    const struct tg_fs *fs = log->fs;
    const bool is_new = fresh_segment != NULL;
    char path[TG_PATH_MAX] = "";
    if (is_new)
        TG_TRY(create(log, fresh_segment, path, err));
    else
        TG_TRY(tg_log_segment_path(log, w->active->start_pos, path, err));
    const uint64_t off = is_new ? 0 : w->next_pos - w->active->start_pos;
    enum tg_code code = tg_fs_write_all(fs, w->fd, w->out.data, w->out.len, off, path, err);
    if (code == TG_ERR_FULL && tg_segment_reclaim_all(log))
        code = tg_fs_write_all(fs, w->fd, w->out.data, w->out.len, off, path, err);
    bool synced = true;
    if (code == TG_OK && log->sync == TG_SYNC_ALWAYS) {
        int r = is_new ? fs->sync(fs->self, w->fd) : fs->datasync(fs->self, w->fd);
        if (r == 0 && is_new) r = fs->sync_dir(fs->self, log->dir);
        count_sync(log, r == 0);
        if (r < 0) {
            code =
                tg_fail_errno(err, -r, "cannot fsync %s: these points are not acknowledged", path);
            synced = false;
        }
    }
    bool is_ours = true;
    if (code == TG_OK) { /* and it is where a restart looks for it */
        code = tg_log_is_file(log, is_new ? fresh_segment : w->active, path, off + w->out.len, err);
        is_ours = code != TG_ERR_NOT_FOUND;
        if (code == TG_OK) return TG_OK;
        if (!is_ours) {
            tg_error("log", "%s: the log goes on in a new segment; leave its folder alone",
                     err->msg);
            err->code = code = TG_ERR_IO;
        }
    }

    /* ENOSPC and the like: take the partial write back and stay; anything worse: a new segment */
    if (!is_new && !is_ours) {
        tg_log_orphan_active(log, w->next_pos + w->out.len);
    } else if (is_new) {
        (void)fs->close(fs->self, w->fd);
        w->fd = -1;
        const bool gone = is_ours && fs->unlink(fs->self, path) == 0;
        tg_log_retire_active(log, synced && gone ? w->next_pos : w->next_pos + w->out.len);
    } else if (!synced || (code != TG_ERR_FULL && code != TG_ERR_FILE_LIMIT) ||
               fs->truncate(fs->self, w->fd, off) < 0) {
        abandon(log, w->next_pos + w->out.len);
    } else if (code == TG_ERR_FILE_LIMIT) {
        tg_warn("log", "%s; the log goes on in a new segment", err->msg);
        tg_log_seal(log);
    }
    return code;
}

static void publish(struct tg_log *log, struct tg_log_segment *fresh_segment, uint64_t point_no)
{
    struct tg_log_writer *w = &log->w;
    const uint64_t end = w->next_pos + w->out.len;
    if (log->sync != TG_SYNC_ALWAYS) {
        if (!w->unsynced) w->unsynced_since_ms = tg_clock_mono_ms();
        w->unsynced = true;
        w->dir_unsynced |= fresh_segment != NULL;
    }
    pthread_mutex_lock(&log->mu);
    if (fresh_segment) {
        atomic_store(&fresh_segment->end_pos, end);
        tg_log_segment_link(log, fresh_segment);
        w->active = fresh_segment;
        atomic_store_explicit(&log->let_go_ms, 0, memory_order_relaxed);
        w->begun_ms = tg_clock_mono_ms();
    }
    log->bytes += w->out.len;
    w->active->file_bytes += w->out.len;
    log->end_point_no = point_no;
    log->end_pos = end;
    log->n_commits++;
    atomic_store(&w->active->end_pos, end);
    pthread_mutex_unlock(&log->mu);
    tg_log_end_mark_write(log);
    w->next_pos = end;
    w->next_point_no = point_no;
    if (w->out_accepted_ns) w->accepted_ns = w->out_accepted_ns;
    struct tg_buf t = w->repeat;
    w->repeat = w->repeat_next;
    w->repeat_next = t;
    tg_buf_reset(&w->repeat_next);
    if (w->out.cap > 2 * TG_LOG_COMMIT_BYTES) { /* one huge batch must not hold its memory */
        tg_buf_deinit(&w->out);
        tg_buf_init(&w->out, 0);
    }
}

static void fail_items(struct tg_log_item *items, size_t n, enum tg_code code,
                       const struct tg_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (items[i].code != TG_OK) continue;
        items[i].code = code;
        items[i].err = *err;
    }
}

/* The sender is told by its answer; this is for whoever runs the gateway. */
static void warn_refusing(struct tg_log *log, enum tg_code code, const struct tg_err *err)
{
    struct tg_log_writer *w = &log->w;
    const uint64_t now_ms = tg_clock_mono_ms();
    if (code == TG_ERR_TOO_LARGE) return; /* this batch's fault */
    if (!atomic_load(&log->full)) atomic_store(&log->failed_at_ms, now_ms);
    if (w->refusing && now_ms - w->refusal_said_ms < TG_LOG_WARN_EVERY_MS) return;
    tg_error("log", "%s; new points are refused (senders are told to come back)", err->msg);
    w->refusing = true;
    w->refusal_said_ms = now_ms;
}

static void note_accepting(struct tg_log *log)
{
    if (!log->w.refusing) return;
    atomic_store(&log->failed_at_ms, 0);
    log->w.refusing = false;
    tg_info("log", "new points are taken again");
}

size_t tg_log_write(struct tg_log *log, struct tg_log_item *items, size_t n)
{
    struct tg_log_writer *w = &log->w;
    struct tg_err err = {0};
    enum tg_code code = tg_log_look_after(log, &err);
    if (code == TG_OK && w->active &&
        (w->next_pos - w->active->start_pos >= log->segment_bytes ||
         tg_clock_mono_ms() >= tg_log_seal_due_ms(log) ||
         w->encoder.n_chains >= TG_BLOCK_MAX_REFS / 2)) {
        tg_log_seal(log);
        (void)tg_segment_reclaim(log, 0);
        tg_log_reserve_make(log);
    }

    struct tg_log_segment *fresh_segment;
    if (code == TG_OK) code = begin(log, &fresh_segment, &err);
    if (code != TG_OK) {
        for (size_t i = 0; i < n; i++) items[i].code = TG_OK;
        warn_refusing(log, code, &err);
        fail_items(items, n, code, &err);
        return n;
    }
    uint64_t point_no = w->next_point_no;
    const struct mark m = mark_here(w, point_no);
    size_t taken = 0;
    const uint64_t enough =
        log->segment_bytes < TG_LOG_COMMIT_BYTES ? log->segment_bytes : TG_LOG_COMMIT_BYTES;
    while (taken < n && (taken == 0 || w->out.len < enough))
        taken += encode_next(log, items + taken, n - taken, &point_no);

    if (point_no == w->next_point_no) { /* empty batches, or all of them failed */
        for (size_t i = 0; i < taken; i++) items[i].end_pos = w->next_pos;
        if (fresh_segment) tg_free(fresh_segment);
        return taken;
    }
    code = encode_tail(w, point_no);
    if (code != TG_OK) {
        (void)tg_fail(&err, code, "no memory to commit to the log");
    } else if (point_no >= TG_POINT_NO_MAX || w->next_pos + w->out.len >= TG_LOG_POS_MAX) {
        code = tg_fail(&err, TG_ERR_IO,
                       "the log's positions or point numbers are at their end: move log.dir away");
    } else if (w->out.len > log->max_bytes) {
        code = tg_fail(&err, TG_ERR_TOO_LARGE,
                       "a batch of %zu bytes in a log of at most %" PRIu64
                       ": send smaller requests or raise log.max_bytes",
                       w->out.len, log->max_bytes);
    } else if (!tg_segment_reclaim(log, w->out.len)) {
        atomic_store(&log->full, true);
        w->refused_bytes = w->out.len;
        code = tg_fail(&err, TG_ERR_FULL,
                       "the log is full: log.max_bytes is %" PRIu64
                       " and a backend has not taken the oldest data yet",
                       log->max_bytes);
    } else {
        code = write_out(log, fresh_segment, &err);
    }
    if (code != TG_OK) {
        undo(w, &m);
        if (fresh_segment) tg_free(fresh_segment);
        /* one more failing write, and none for the senders: a new segment has room, or fewer
         * batches have */
        if (code == TG_ERR_FILE_LIMIT && !fresh_segment) return tg_log_write(log, items, taken);
        if (code == TG_ERR_FILE_LIMIT && taken > 1) return tg_log_write(log, items, taken / 2);
        /* only closed segments can be deleted once they are delivered */
        if (atomic_load(&log->full)) tg_log_seal(log);
        warn_refusing(log, code, &err);
        fail_items(items, taken, code, &err);
        return taken;
    }
    publish(log, fresh_segment, point_no);
    w->n_fresh = 0; /* before the batches that keep these series alive go */
    atomic_store(&log->full, false);
    note_accepting(log);
    return taken;
}
