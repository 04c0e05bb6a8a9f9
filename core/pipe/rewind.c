/* rewind.c: moving a backend's cursor to another place in the log, between two deliveries. */
#include "core/pipe/rewind.h"

#include "core/base/logger.h"
#include "core/base/mem.h"

enum {
    MAX_PROBE_ARENA_BYTES = 256 << 20,
    MAX_NORMALISE_POINTS = 1,
};

struct tg_rewind_request {
    struct tg_rewind_request *next;
    struct tg_rewinds *rewinds;
    struct tg_rewind where;
    tg_on_rewind on_rewind;
    void *arg;
};

/* A position that may lie anywhere, as the state of a cursor at the start of the record it is in.
 */
static enum tg_code find_position(struct tg_rewinds *r, uint64_t pos, struct tg_cursor_state *to,
                                  struct tg_err *err)
{
    struct tg_log *log = r->log;
    const struct tg_log_stats stats = tg_log_stats(log);
    *to = (struct tg_cursor_state){.pos = stats.end_pos, .point_no = stats.end_point_no};
    if (pos == stats.end_pos || pos == UINT64_MAX) return TG_OK;
    if (pos > stats.end_pos)
        return tg_fail(err, TG_ERR_INVALID, "position %llu is beyond the log's end %llu",
                       (unsigned long long)pos, (unsigned long long)stats.end_pos);
    struct tg_log_reader *reader;
    TG_TRY(tg_log_reader_open(log, pos, &reader, err));
    struct tg_deferred_free *guard = tg_table_guard(r->span->table);
    struct tg_batch probe;
    struct tg_log_read read = {0};
    struct tg_segment_dict *dict = NULL;
    tg_batch_init(&probe, guard, 0, MAX_PROBE_ARENA_BYTES);
    const enum tg_code code =
        tg_log_reader_read(reader, &probe, MAX_NORMALISE_POINTS, &read, &dict, err);
    if (code == TG_OK && read.to_pos != read.from_pos) {
        to->pos = read.from_pos;
        to->point_no = read.from_point_no;
    }
    tg_batch_deinit(&probe);
    tg_segment_dict_unref(dict);
    tg_log_reader_close(reader);
    return code;
}

static enum tg_code find_rewind(struct tg_rewinds *r, const struct tg_rewind_request *q,
                                struct tg_cursor_state *to, struct tg_err *err)
{
    switch (q->where.to) {
    case TG_REWIND_START: return tg_log_find_time(r->log, 0, to, err);
    case TG_REWIND_TIME: return tg_log_find_time(r->log, q->where.value, to, err);
    case TG_REWIND_POSITION: return find_position(r, (uint64_t)q->where.value, to, err);
    case TG_REWIND_END: return find_position(r, UINT64_MAX, to, err);
    }
    return tg_fail(err, TG_ERR_INVALID, "unknown kind of rewind");
}

/* Moves the cursor, in memory and in its file; on failure it stays where it was. */
static enum tg_code put_cursor(struct tg_rewinds *r, const struct tg_cursor_state *before,
                               const struct tg_cursor_state *to, struct tg_err *err)
{
    struct tg_cursor_state s = *before;
    if (to->point_no <= s.point_no) {
        const uint64_t end_no = tg_log_stats(r->log).end_point_no;
        /* modulo 2^64, see tg_gateway_status */
        s.first_point_no -= s.point_no - to->point_no;
        if (s.point_no > s.again_until_no) s.again_until_no = s.point_no;
        /* What waits, too: it may have come while this backend was not configured. */
        if (end_no > s.replay_until_no) s.replay_until_no = end_no;
    } else {
        s.n_skipped += to->point_no - s.point_no;
    }
    s.pos = to->pos;
    s.point_no = to->point_no;
    const enum tg_code code = tg_log_cursor_set(r->cursor, &s, true, err);
    struct tg_err ignored;
    if (code != TG_OK) (void)!tg_log_cursor_set(r->cursor, before, false, &ignored);
    return code;
}

/* The next deliveries are of a new epoch. On disk before the backend hears of it, and never taken
 * back: an epoch that was handed out must not come twice. */
static enum tg_code raise_epoch(struct tg_rewinds *r, struct tg_cursor_state *now,
                                struct tg_err *err)
{
    now->epoch++;
    TG_TRY(tg_log_cursor_set(r->cursor, now, true, err));
    r->epoch = now->epoch;
    return TG_OK;
}

static enum tg_code ask_backend(struct tg_rewinds *r, const struct tg_cursor_state *before,
                                struct tg_cursor_state *to, struct tg_err *err)
{
    if (!r->config->ops->rewound) return TG_OK;
    uint64_t pos = to->pos;
    const struct tg_backend_rewind how = {
        .from_pos = before->pos,
        .oldest_pos = tg_log_stats(r->log).start_pos,
        .comes_again = before->point_no < before->again_until_no,
        .epoch = before->epoch,
    };
    struct tg_err why = {.msg = ""};
    const enum tg_code code = r->config->ops->rewound(r->backend, &how, &pos, &why);
    if (code != TG_OK) return tg_fail(err, code, "%s: %s", r->config->name, why.msg);
    return pos == to->pos ? TG_OK : find_position(r, pos, to, err);
}

/* A backend that is behind may not have come as far as where a rewind is to go. */
static enum tg_code check_direction(const struct tg_rewinds *r, const struct tg_rewind_request *q,
                                    const struct tg_cursor_state *before,
                                    const struct tg_cursor_state *to, struct tg_err *err)
{
    if (q->where.may_skip || q->where.to == TG_REWIND_END || to->point_no <= before->point_no)
        return TG_OK;
    return tg_fail(err, TG_ERR_INVALID,
                   "%s has not come that far: to go from position %llu forward to %llu would skip "
                   "%llu points that it has not got; nothing is moved, it gets them as it catches "
                   "up. To skip them, say so (--skip, or skip=1)",
                   r->config->name, (unsigned long long)before->pos, (unsigned long long)to->pos,
                   (unsigned long long)(to->point_no - before->point_no));
}

static enum tg_code rewind_to(struct tg_rewinds *r, const struct tg_rewind_request *q,
                              struct tg_cursor_state *now, struct tg_err *err)
{
    struct tg_log *log = r->log;
    struct tg_cursor_state before = tg_log_cursor_get(r->cursor), to;
    bool is_raised = false;
    /* Until the cursor stands there, nothing keeps the log from deleting what was just found; once
     * it does, nothing more goes, so that this ends. */
    do {
        TG_TRY(find_rewind(r, q, &to, err));
        /* where it stands the log begins no more: what is missing there is lost, not skipped */
        if (q->where.to == TG_REWIND_START && to.pos > before.pos) to = before;
        TG_TRY(check_direction(r, q, &before, &to, err));
        if (!is_raised) TG_TRY(raise_epoch(r, &before, err));
        is_raised = true;
        TG_TRY(ask_backend(r, &before, &to, err));
        TG_TRY(check_direction(r, q, &before, &to, err)); /* it may have moved it */
        TG_TRY(put_cursor(r, &before, &to, err));
    } while (to.pos < before.pos && to.pos < tg_log_stats(log).start_pos);
    tg_span_move(r->span, to.pos, to.point_no);
    if (to.pos > before.pos) /* requests that wait may have points among the skipped ones */
        tg_ack_board_skip(r->acks, r->index, to.pos, tg_log_stats(log).end_pos);
    else
        tg_ack_board_move_back(r->acks, r->index, to.pos);
    *now = tg_log_cursor_get(r->cursor);
    if (to.point_no > before.point_no)
        tg_warn("delivery", "%s: %llu points are skipped: the cursor was moved forward over them",
                r->config->name, (unsigned long long)(to.point_no - before.point_no));
    return TG_OK;
}

bool tg_rewinds_run(struct tg_rewinds *r)
{
    bool has_moved = false;
    while (r->first) {
        struct tg_rewind_request *q = r->first;
        r->first = q->next;
        struct tg_cursor_state now = {0};
        struct tg_err err = {.msg = ""};
        const enum tg_code code = rewind_to(r, q, &now, &err);
        if (code == TG_OK) {
            has_moved = true;
            tg_info("delivery", "%s: cursor moved to position %llu", r->config->name,
                    (unsigned long long)now.pos);
        }
        q->on_rewind(q->arg, code, &now, &err);
        tg_free(q);
    }
    return has_moved;
}

static void on_request(void *arg)
{
    struct tg_rewind_request *q = arg;
    struct tg_rewinds *r = q->rewinds;
    struct tg_rewind_request **tail =
        &r->first; /* in the order asked: the last one decides where the cursor ends */
    while (*tail) tail = &(*tail)->next;
    *tail = q;
    r->on_asked(r->arg);
}

enum tg_code tg_rewinds_ask(struct tg_rewinds *r, const struct tg_rewind *where,
                            tg_on_rewind on_rewind, void *arg, struct tg_err *err)
{
    struct tg_rewind_request *q = tg_calloc(1, sizeof(*q));
    if (!q) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    *q = (struct tg_rewind_request){NULL, r, *where, on_rewind, arg};
    const enum tg_code code = tg_loop_post(r->loop, on_request, q);
    if (code != TG_OK) tg_free(q);
    return code;
}

void tg_rewinds_cancel(struct tg_rewinds *r)
{
    while (r->first) {
        struct tg_rewind_request *q = r->first;
        const struct tg_cursor_state now = tg_log_cursor_get(r->cursor);
        struct tg_err err;
        r->first = q->next;
        q->on_rewind(q->arg, tg_fail(&err, TG_ERR_CANCELED, "the gateway is shutting down"), &now,
                     &err);
        tg_free(q);
    }
}
