/* reader.c: reads from a position on, seeks, finds a time. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/log/log_impl.h"

struct tg_log_reader {
    struct tg_log *log;
    uint64_t pos;         /* end of what was given out */
    uint64_t expected_no; /* of the next point; TG_NO_NUMBER until the first record says */
    uint64_t end_no;      /* without a segment: of the end of the log, all of which is passed */
    bool unsure;          /* something was passed that the numbers have not told of yet */
    uint64_t sure_pos;    /* up to there they have */
    bool rebuild;         /* the chains are not those of `pos`: enter the segment again */
    struct tg_log_segment *seg; /* referenced; NULL: not inside one */
    int fd;
    struct tg_segment_walk walk;
    struct tg_record pending; /* read, but not given out yet; type 0: none */
    struct tg_segment_dict *dict;
    struct tg_block_decoder decoder;
    uint32_t target_bits[TG_MAX_BACKENDS]; /* by bit in this segment: the bit of that name now */
    unsigned n_target_bits;                /* 0: what the bits mean is not known */
    bool targets_same;                     /* the bits mean what they mean now */
    int64_t accepted_ns;                   /* when the next points were taken in; 0: not known */
    struct tg_buf scratch;
    struct tg_arena arena;
};

static void leave(struct tg_log_reader *r)
{
    if (r->fd >= 0) (void)r->log->fs->close(r->log->fs->self, r->fd);
    r->fd = -1;
    tg_segment_walk_deinit(&r->walk);
    tg_segment_dict_unref(r->dict);
    r->dict = NULL;
    r->pending.type = 0;
    if (!r->seg) return;
    pthread_mutex_lock(&r->log->mu);
    tg_log_segment_unref(r->log, r->seg);
    pthread_mutex_unlock(&r->log->mu);
    r->seg = NULL;
}

/* The first segment that has, or may still get, something after `pos`. Referenced. */
static struct tg_log_segment *locate(struct tg_log *log, uint64_t *pos, uint64_t *end_point_no)
{
    pthread_mutex_lock(&log->mu);
    struct tg_log_segment *seg = log->first;
    *end_point_no = log->end_point_no;
    if (seg && *pos < seg->start_pos) *pos = seg->start_pos;
    while (seg && *pos >= atomic_load(&seg->end_pos) && atomic_load(&seg->sealed)) seg = seg->next;
    if (seg) {
        seg->refs++;
        /* beyond what is there: a cursor of a log whose end was lost */
        if (!atomic_load(&seg->sealed) && *pos > atomic_load(&seg->end_pos))
            *pos = atomic_load(&seg->end_pos);
    } else if (*pos < log->end_pos) {
        *pos = log->end_pos;
    }
    pthread_mutex_unlock(&log->mu);
    return seg;
}

/* Learns what the bits of targets mean in this segment. */
static enum tg_code take_targets(struct tg_log_reader *r, const struct tg_record *rec)
{
    const struct tg_log *log = r->log;
    const uint8_t *p = rec->payload, *const end = p + rec->len;
    uint64_t n;
    r->n_target_bits = 0;
    r->targets_same = false;
    if (!tg_varint_get(&p, end, &n) || n > TG_MAX_BACKENDS) return TG_ERR_CORRUPT;
    bool same = n == log->n_targets;
    for (unsigned i = 0; i < n; i++) {
        uint64_t len;
        if (!tg_varint_get(&p, end, &len) || len > (uint64_t)(end - p)) return TG_ERR_CORRUPT;
        r->target_bits[i] = 0; /* a backend that is no more */
        for (unsigned k = 0; k < log->n_targets; k++)
            if (strlen(log->targets[k]) == len && memcmp(log->targets[k], p, (size_t)len) == 0)
                r->target_bits[i] = UINT32_C(1) << k;
        same &= r->target_bits[i] == UINT32_C(1) << i;
        p += len;
    }
    if (p != end) return TG_ERR_CORRUPT;
    r->n_target_bits = (unsigned)n;
    r->targets_same = same;
    return TG_OK;
}

static void translate_targets(const struct tg_log_reader *r, struct tg_point *points, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t now = 0;
        if (r->n_target_bits == 0) points[i].routed = false;
        for (uint32_t left = points[i].targets; left; left &= left - 1) {
            const unsigned bit = (unsigned)__builtin_ctz(left);
            if (bit < r->n_target_bits) now |= r->target_bits[bit];
        }
        points[i].targets = now;
    }
}

/* Takes one record into account. With batch == NULL chains and series are only followed. */
static enum tg_code take_block(struct tg_log_reader *r, const struct tg_record *rec,
                               struct tg_batch *batch, uint64_t *lost, struct tg_err *err)
{
    struct tg_block_info info;
    uint32_t n_lost;
    const uint32_t before = batch ? batch->n_points : 0;
    const enum tg_code code = tg_block_decode(&r->decoder, r->dict->entries, r->dict->n,
                                              rec->payload, rec->len, batch, &info, &n_lost, err);
    if (code == TG_ERR_CORRUPT) {
        /* its checksum is right, yet it is not ours to read; the gap in the numbers counts it */
        tg_log_note_damage(r->log, r->seg, r->fd, rec->pos, rec->end_pos);
        return TG_OK;
    }
    TG_TRY(code);
    if (batch && !r->targets_same)
        translate_targets(r, batch->points + before, batch->n_points - before);
    if (info.first_point_no > r->expected_no) *lost += info.first_point_no - r->expected_no;
    *lost += n_lost;
    r->expected_no = info.first_point_no + info.n_points;
    return TG_OK;
}

static enum tg_code take_other(struct tg_log_reader *r, const struct tg_record *rec, uint64_t *lost,
                               struct tg_err *err)
{
    uint64_t no;
    if (rec->type == TG_RECORD_SERIES) {
        const enum tg_code code =
            tg_segment_dict_add(r->dict, r->log->table, &r->decoder.compress, &r->scratch,
                                &r->arena, rec->payload, rec->len, err);
        if (code != TG_ERR_CORRUPT) return code;
        tg_log_note_damage(r->log, r->seg, r->fd, rec->pos, rec->end_pos);
    } else if (rec->type == TG_RECORD_TARGETS) {
        if (take_targets(r, rec) != TG_OK)
            tg_log_note_damage(r->log, r->seg, r->fd, rec->pos, rec->end_pos);
    } else if (rec->type == TG_RECORD_ACCEPTED) {
        (void)tg_accepted_record_get(rec->payload, rec->len, &r->accepted_ns);
    } else if (rec->type == TG_RECORD_COMMIT && r->seg &&
               tg_commit_record_get(rec->payload, rec->len, &no) && no <= r->seg->limit_point_no) {
        if (r->expected_no != TG_NO_NUMBER && no > r->expected_no) *lost += no - r->expected_no;
        if (r->expected_no == TG_NO_NUMBER || no > r->expected_no) r->expected_no = no;
    }
    return TG_OK;
}

/* Whether the block belongs to a failed commit whose bytes came back. */
static bool is_void(const struct tg_log_segment *seg, const struct tg_block_info *info)
{
    return seg && seg->limit_point_no != TG_NO_NUMBER &&
           info->first_point_no + info->n_points > seg->limit_point_no;
}

/* A segment's header and first record, which says of which log it is. */
enum { HEAD_BYTES = TG_SEGMENT_HEADER_BYTES + TG_FRAME_BYTES + TG_LOG_ID_BYTES };

/* *n: what there is of it. TG_ERR_IO: it cannot be read, or is of another log. */
static enum tg_code read_head(const struct tg_log *log, const struct tg_log_segment *seg, int fd,
                              const char *path, uint8_t bytes[HEAD_BYTES], size_t *n,
                              struct tg_err *err)
{
    uint8_t id[TG_LOG_ID_BYTES];
    char text[TG_LOG_ID_CHARS];
    TG_TRY(tg_fs_read_all(log->fs, fd, bytes, HEAD_BYTES, 0, n, path, err));
    if (!tg_segment_log_get(bytes, *n, seg->start_pos, id) || memcmp(id, log->id, sizeof(id)) == 0)
        return TG_OK;
    tg_log_id_text(id, text);
    return tg_fail(err, TG_ERR_IO,
                   "%s was replaced by a segment of another log (%s): put the segment back, or "
                   "remove the file to give its points up",
                   path, text);
}

/* When the segment in r->fd was begun; 0: not known. */
static enum tg_code read_begun_ns(struct tg_log_reader *r, const char *path, struct tg_err *err)
{
    uint8_t bytes[HEAD_BYTES];
    struct tg_segment_header h;
    size_t n;
    /* here too: a file system gives the number of a removed file to the next one */
    TG_TRY(read_head(r->log, r->seg, r->fd, path, bytes, &n, err));
    r->accepted_ns = tg_segment_header_get(bytes, n, &h) ? h.created_ns : 0;
    return TG_OK;
}

/* Whether another file than the one that was written will do for a closed segment. */
static enum tg_code adopt(struct tg_log *log, struct tg_log_segment *seg, int fd,
                          const struct tg_fs_stat *st, const char *path, struct tg_err *err)
{
    uint8_t bytes[HEAD_BYTES];
    struct tg_segment_header h;
    size_t n;
    TG_TRY(read_head(log, seg, fd, path, bytes, &n, err));
    if (!tg_segment_header_get(bytes, n, &h) || h.start_pos != seg->start_pos ||
        st->size < atomic_load(&seg->end_pos) - seg->start_pos)
        return tg_fail(err, TG_ERR_IO,
                       "%s was replaced by a file that is not that segment, or not all of it: put "
                       "the segment back, or remove the file to give its points up",
                       path);
    pthread_mutex_lock(&log->mu);
    seg->device = st->device;
    seg->inode = st->inode;
    pthread_mutex_unlock(&log->mu);
    tg_warn("log", "%s was replaced while the gateway runs: it is read all the same", path);
    return TG_OK;
}

/* Whether what is under the segment's name stays: the writer has nothing to do with it any more. */
static bool is_settled(struct tg_log_segment *seg)
{
    return atomic_load(&seg->sealed) && !atomic_load(&seg->waits);
}

static enum tg_code open_once(struct tg_log *log, struct tg_log_segment *seg, const char *path,
                              bool settled, int *fd, struct tg_err *err)
{
    struct tg_fs_stat st;
    *fd = log->fs->open(log->fs->self, path, TG_FS_READ);
    if (*fd < 0 && *fd != -ENOENT)
        return tg_fail_errno(err, -*fd, "cannot open %s: its points wait", path);
    if (*fd < 0) {
        TG_TRY(tg_log_check_folder(log, err)); /* it may come back */
        if (settled) return TG_OK;
        return tg_fail(err, TG_ERR_NOT_FOUND,
                       "%s was removed while the gateway runs: its points wait", path);
    }
    const int r = log->fs->fstat(log->fs->self, *fd, &st);
    if (r < 0) return tg_fail_errno(err, -r, "cannot look at %s", path);
    pthread_mutex_lock(&log->mu);
    const bool same = st.device == seg->device && st.inode == seg->inode;
    pthread_mutex_unlock(&log->mu);
    if (same) return TG_OK;
    if (settled) return adopt(log, seg, *fd, &st, path, err);
    return tg_fail(err, TG_ERR_NOT_FOUND, "%s was replaced while the gateway runs: its points wait",
                   path);
}

/* Opens the segment's file. *fd -1: there is none any more, or TG_ERR_IO. */
static enum tg_code open_file(struct tg_log *log, struct tg_log_segment *seg, const char *path,
                              int *fd, struct tg_err *err)
{
    for (;;) {
        /* asked before: what was found then is neither what is about to be replaced nor the place
         * that is about to be filled */
        const bool settled = is_settled(seg);
        enum tg_code code = open_once(log, seg, path, settled, fd, err);
        if (code != TG_OK && *fd >= 0) (void)log->fs->close(log->fs->self, *fd);
        if (code != TG_OK || *fd < 0) *fd = -1;
        if (code != TG_ERR_NOT_FOUND) return code;
        if (is_settled(seg)) continue; /* at most once: it stays so */
        tg_log_wake_look(log);
        if (err) err->code = TG_ERR_IO;
        return TG_ERR_IO;
    }
}

/* Enters `seg` (takes its reference) and brings the decoding state to r->pos. */
static enum tg_code enter(struct tg_log_reader *r, struct tg_log_segment *seg, struct tg_err *err)
{
    struct tg_log *log = r->log;
    char path[TG_PATH_MAX];
    r->seg = seg;
    r->dict = tg_segment_dict_new();
    enum tg_code code = r->dict
                            ? tg_log_segment_path(log, seg->start_pos, path, err)
                            : tg_fail(err, TG_ERR_NOMEM, "no memory to read a segment of the log");
    if (code == TG_OK) code = open_file(log, seg, path, &r->fd, err);
    if (code == TG_OK && r->fd < 0) { /* removed under us: the gap in the numbers counts it */
        tg_warn("log", "%s is gone: what it held is lost to this reader", path);
        r->pos = atomic_load(&seg->end_pos);
        leave(r);
        return TG_OK;
    }
    if (code == TG_OK) code = read_begun_ns(r, path, err);
    if (code != TG_OK) {
        leave(r);
        return code;
    }
    tg_block_decoder_reset(&r->decoder);
    r->n_target_bits = 0;
    r->targets_same = false;
    tg_segment_walk_init(&r->walk, log->fs, r->fd, seg->start_pos, seg->start_pos);
    if (r->pos < r->walk.pos) {
        if (r->expected_no == TG_NO_NUMBER) r->expected_no = seg->first_point_no;
        return TG_OK;
    }
    /* inside the segment: follow it up to pos */
    const uint64_t known = r->expected_no;
    uint64_t lost = 0;
    r->expected_no = seg->first_point_no;
    const uint64_t end = atomic_load(&seg->end_pos);
    while (code == TG_OK && r->walk.pos < r->pos) {
        struct tg_record rec;
        const uint64_t from = r->walk.pos;
        code = tg_segment_walk_next(&r->walk, end, &rec, err);
        if (code != TG_OK) break;
        if (rec.damaged_bytes) tg_log_note_damage(log, seg, r->fd, from, rec.pos);
        if (rec.type == 0) {
            r->walk.pos = end;
            break;
        }
        if (rec.end_pos > r->pos) {
            if (rec.pos < r->pos) r->pos = rec.pos;
            r->pending = rec;
            break;
        }
        struct tg_block_info info;
        if (rec.type != TG_RECORD_BLOCK) {
            code = take_other(r, &rec, &lost, err);
        } else if (tg_block_peek(rec.payload, rec.len, &info) == TG_OK && !is_void(seg, &info)) {
            if (r->expected_no == TG_NO_NUMBER) r->expected_no = info.first_point_no;
            code = take_block(r, &rec, NULL, &lost, err);
        } else {
            r->decoder.all_broken = true;
        }
    }
    if (code != TG_OK) {
        leave(r);
        r->expected_no = known;
        return code;
    }
    if (known != TG_NO_NUMBER) r->expected_no = known;
    return TG_OK;
}

enum tg_code tg_log_reader_open(struct tg_log *log, uint64_t pos, struct tg_log_reader **out,
                                struct tg_err *err)
{
    *out = NULL;
    struct tg_log_reader *r = tg_calloc(1, sizeof(*r));
    if (!r) return tg_fail(err, TG_ERR_NOMEM, "no memory for a reader of the log");
    r->log = log;
    r->fd = -1;
    tg_buf_init(&r->scratch, TG_RECORD_MAX_BYTES);
    tg_arena_init(&r->arena, 0);
    struct tg_err why = {.msg = ""};
    enum tg_code code = tg_block_decoder_init(&r->decoder);
    if (code != TG_OK) code = tg_fail(&why, code, "no memory for a reader of the log");
    if (code == TG_OK) code = tg_log_reader_seek(r, pos, &why);
    if (code == TG_ERR_IO) { /* the first read tries again */
        tg_warn("log", "%s", why.msg);
        code = TG_OK;
    }
    if (code != TG_OK) {
        if (err) *err = why;
        tg_log_reader_close(r);
        return code;
    }
    *out = r;
    return TG_OK;
}

void tg_log_reader_close(struct tg_log_reader *r)
{
    if (!r) return;
    leave(r);
    tg_block_decoder_deinit(&r->decoder);
    tg_buf_deinit(&r->scratch);
    tg_arena_deinit(&r->arena);
    tg_free(r);
}

static enum tg_code enter_at_pos(struct tg_log_reader *r, struct tg_err *err)
{
    uint64_t end_point_no;
    const uint64_t before = r->pos;
    leave(r);
    struct tg_log_segment *seg = locate(r->log, &r->pos, &end_point_no);
    /* also when segments between are gone */
    if (r->pos > before || (seg && r->pos < seg->start_pos)) r->unsure = true;
    if (!seg) {
        if (r->expected_no == TG_NO_NUMBER) r->expected_no = end_point_no;
        r->end_no = end_point_no;
        return TG_OK;
    }
    TG_TRY(enter(r, seg, err));
    r->rebuild = false;
    return TG_OK;
}

enum tg_code tg_log_reader_seek(struct tg_log_reader *r, uint64_t pos, struct tg_err *err)
{
    r->pos = r->sure_pos = pos;
    r->expected_no = TG_NO_NUMBER;
    r->rebuild = true; /* also when the following fails: the next read tries again */
    return enter_at_pos(r, err);
}

void tg_log_reader_expect(struct tg_log_reader *r, uint64_t point_no)
{
    r->expected_no = point_no;
}

static void note_loss(struct tg_log_read *read, uint64_t from, uint64_t to, bool all)
{
    if (to <= from) { /* the numbers tell of points, the positions of none: where, is not known */
        to = from + 1;
        all = false;
    }
    struct tg_log_loss *last = read->n_losses ? &read->losses[read->n_losses - 1] : NULL;
    const bool is_same = last && last->all == all && from <= last->to_pos;
    if (!is_same && read->n_losses < TG_LOG_READ_LOSSES) {
        read->losses[read->n_losses++] = (struct tg_log_loss){from, to, all};
        return;
    }
    last->to_pos = to > last->to_pos ? to : last->to_pos;
    if (!is_same) last->all = false;
}

/* The next record into r->pending; type 0 when there is none now. Leaves a segment that is used up
 * when `may_leave` and there is a next one. */
static enum tg_code fetch(struct tg_log_reader *r, bool may_leave, struct tg_err *err)
{
    while (r->pending.type == 0) {
        if (!r->seg || r->rebuild) {
            const uint64_t pos = r->pos;
            TG_TRY(enter_at_pos(r, err));
            if (!r->seg && r->pos == pos) return TG_OK;
            continue;
        }
        const bool sealed =
            atomic_load(&r->seg->sealed); /* before the end: then the end is final */
        const uint64_t end = atomic_load(&r->seg->end_pos);
        const uint64_t from = r->walk.pos;
        struct tg_record rec;
        TG_TRY(tg_segment_walk_next(&r->walk, end, &rec, err));
        if (rec.damaged_bytes) tg_log_note_damage(r->log, r->seg, r->fd, from, rec.pos);
        if (rec.damaged_bytes || (!rec.type && r->pos < end)) r->unsure = true;
        if (rec.type) {
            r->pending = rec;
            return TG_OK;
        }
        if (r->walk.pos < end) r->walk.pos = end;
        if (r->pos < end) r->pos = end;
        if (!sealed || !may_leave) return TG_OK;
        leave(r); /* the dictionary goes even when there is no next: idle series can leave */
    }
    return TG_OK;
}

enum tg_code tg_log_reader_read(struct tg_log_reader *r, struct tg_batch *batch,
                                uint32_t max_points, struct tg_log_read *read,
                                struct tg_segment_dict **dict, struct tg_err *err)
{
    const uint32_t before = batch->n_points;
    uint64_t lost = 0;
    enum tg_code code = TG_OK;
    bool begun = false;
    *dict = NULL;
    *read = (struct tg_log_read){.from_pos = r->pos};
    if (err) err->msg[0] = 0;
    for (;;) {
        const uint32_t added = batch->n_points - before;
        code = fetch(r, added == 0, err);
        if (r->pos < read->from_pos) read->from_pos = r->pos; /* it was inside a record */
        if (code == TG_OK && !r->seg && r->expected_no < r->end_no) {
            /* the end of the log is gone, yet a cursor knows that it was there */
            if (!begun) read->from_point_no = r->expected_no;
            begun = true;
            lost += r->end_no - r->expected_no;
            note_loss(read, r->sure_pos, r->pos, true);
            r->expected_no = r->end_no;
            r->unsure = false;
            r->sure_pos = r->pos;
        }
        if (code != TG_OK || r->pending.type == 0) break;
        const struct tg_record *rec = &r->pending;
        if (rec->type == TG_RECORD_BLOCK) {
            struct tg_block_info info;
            if (tg_block_peek(rec->payload, rec->len, &info) != TG_OK) {
                tg_log_note_damage(r->log, r->seg, r->fd, rec->pos, rec->end_pos);
                r->decoder.all_broken = true;
                r->unsure = true;
            } else if (!is_void(r->seg, &info)) {
                if (r->expected_no == TG_NO_NUMBER || info.first_point_no < r->expected_no) {
                    if (begun && r->expected_no != TG_NO_NUMBER) break; /* in a read of its own */
                    r->expected_no = info.first_point_no;
                }
                if (!begun) {
                    begun = true;
                    read->from_point_no = r->expected_no;
                }
                const size_t room = batch->arena.max_bytes
                                        ? batch->arena.max_bytes - batch->arena.used_bytes
                                        : SIZE_MAX;
                if (added &&
                    ((uint64_t)added + info.n_points > max_points || info.arena_bytes > room ||
                     lost || info.first_point_no > r->expected_no))
                    break; /* what is lost comes before the points of a read, or after them */
                if (!added) read->accepted_ns = r->accepted_ns;
                const uint64_t refused = r->dict->n_refused;
                const uint64_t lost_before = lost;
                const uint64_t n_before =
                    info.first_point_no > r->expected_no ? info.first_point_no - r->expected_no : 0;
                code = take_block(r, rec, batch, &lost, err);
                if (code != TG_OK) {
                    r->rebuild = true; /* the chains went half-way */
                    r->pending.type = 0;
                    break;
                }
                r->unsure = false;
                if (lost > lost_before && n_before) note_loss(read, r->sure_pos, rec->pos, true);
                if (lost > lost_before + n_before) note_loss(read, rec->pos, rec->end_pos, false);
                if (lost > lost_before && refused && err) *err = r->dict->refusal;
                if (!added) read->first_point_no = info.first_point_no;
            }
        } else {
            if (!begun && r->expected_no != TG_NO_NUMBER) {
                begun = true;
                read->from_point_no = r->expected_no;
            }
            const uint64_t lost_before = lost;
            code = take_other(r, rec, &lost, err);
            if (code != TG_OK) break; /* it stays pending: tried again */
            if (lost > lost_before) note_loss(read, r->sure_pos, rec->pos, true);
        }
        r->pos = r->pending.end_pos;
        r->pending.type = 0;
        if (!r->unsure) r->sure_pos = r->pos;
    }
    if (code != TG_OK && (batch->n_points > before || r->pos > read->from_pos)) {
        code = TG_OK; /* what was read counts; the failure shows again at the next call */
    }
    if (!begun) read->from_point_no = r->expected_no == TG_NO_NUMBER ? 0 : r->expected_no;
    read->to_pos = r->pos;
    read->to_point_no = r->expected_no == TG_NO_NUMBER ? 0 : r->expected_no;
    read->n_lost = lost;
    read->is_sure = !r->unsure;
    read->sure_pos = r->sure_pos;
    if (batch->n_points > before) {
        tg_segment_dict_ref(r->dict);
        *dict = r->dict;
    }
    return code;
}

/* --- by time --- */

void tg_log_end_searches(struct tg_log *log)
{
    atomic_store(&log->no_searches, true);
}

static enum tg_code find_in(struct tg_log *log, struct tg_log_segment *seg, int64_t ts_ns,
                            struct tg_cursor_state *out, bool *found, struct tg_err *err)
{
    char path[TG_PATH_MAX];
    TG_TRY(tg_log_segment_path(log, seg->start_pos, path, err));
    int fd;
    TG_TRY(open_file(log, seg, path, &fd, err));
    if (fd < 0) return TG_OK; /* deleted meanwhile */
    struct tg_segment_walk w;
    struct tg_record rec;
    tg_segment_walk_init(&w, log->fs, fd, seg->start_pos, seg->start_pos);
    const uint64_t end = atomic_load(&seg->end_pos);
    uint64_t from = seg->start_pos; /* end of the record before */
    enum tg_code code;
    while ((code = tg_segment_walk_next(&w, end, &rec, err)) == TG_OK && rec.type) {
        struct tg_block_info info;
        if (atomic_load_explicit(&log->no_searches, memory_order_relaxed)) {
            code = tg_fail(err, TG_ERR_CANCELED, "the gateway is shutting down");
            break;
        }
        if (rec.type == TG_RECORD_BLOCK && tg_block_peek(rec.payload, rec.len, &info) == TG_OK &&
            !is_void(seg, &info) && (ts_ns == 0 || info.max_ts_ns >= ts_ns)) {
            out->pos = rec.damaged_bytes ? rec.pos : from;
            out->point_no = out->first_point_no = info.first_point_no;
            *found = true;
            break;
        }
        from = rec.end_pos;
    }
    tg_segment_walk_deinit(&w);
    (void)log->fs->close(log->fs->self, fd);
    return code;
}

enum tg_code tg_log_find_time(struct tg_log *log, int64_t ts_ns, struct tg_cursor_state *out,
                              struct tg_err *err)
{
    uint64_t pos = 0;
    bool found = false;
    memset(out, 0, sizeof(*out));
    for (;;) {
        pthread_mutex_lock(&log->mu);
        struct tg_log_segment *seg = log->first;
        while (seg && seg->start_pos < pos) seg = seg->next;
        if (!seg) { /* none that new: the end */
            out->pos = log->end_pos;
            out->point_no = out->first_point_no = log->end_point_no;
            pthread_mutex_unlock(&log->mu);
            return TG_OK;
        }
        seg->refs++;
        pthread_mutex_unlock(&log->mu);
        const enum tg_code code = find_in(log, seg, ts_ns, out, &found, err);
        pos = seg->start_pos + 1;
        pthread_mutex_lock(&log->mu);
        tg_log_segment_unref(log, seg);
        pthread_mutex_unlock(&log->mu);
        if (code != TG_OK || found) return code;
    }
}
