/* rewind.c: moving a backend's cursor to another place in the log, between two deliveries. */
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/pipe/gateway_impl.h"

enum {
    MAX_PROBE_ARENA_BYTES = 256 << 20,
    MAX_NORMALISE_POINTS = 1,
};

struct rewind_request {
    struct rewind_request *next;
    struct tg_delivery_loop *d;
    struct tg_rewind where;
    tg_on_rewind on_rewind;
    void *arg;
};

/* A position that may lie anywhere, as the state of a cursor at the start of the record it is in.
 */
static enum tg_code find_position(struct tg_delivery_loop *d, uint64_t pos,
                                  struct tg_cursor_state *to, struct tg_err *err)
{
    struct tg_log *log = d->gateway->log;
    const struct tg_log_stats stats = tg_log_stats(log);
    *to = (struct tg_cursor_state){.pos = stats.end_pos, .point_no = stats.end_point_no};
    if (pos == stats.end_pos || pos == UINT64_MAX) return TG_OK;
    if (pos > stats.end_pos)
        return tg_fail(err, TG_ERR_INVALID, "position %llu is beyond the log's end %llu",
                       (unsigned long long)pos, (unsigned long long)stats.end_pos);
    struct tg_log_reader *reader;
    TG_TRY(tg_log_reader_open(log, pos, &reader, err));
    struct tg_deferred_free *guard = tg_table_guard(d->gateway->table);
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

static enum tg_code find_rewind(struct tg_delivery_loop *d, const struct rewind_request *q,
                                struct tg_cursor_state *to, struct tg_err *err)
{
    switch (q->where.to) {
    case TG_REWIND_START: return tg_log_find_time(d->gateway->log, 0, to, err);
    case TG_REWIND_TIME: return tg_log_find_time(d->gateway->log, q->where.value, to, err);
    case TG_REWIND_POSITION: return find_position(d, (uint64_t)q->where.value, to, err);
    case TG_REWIND_END: return find_position(d, UINT64_MAX, to, err);
    }
    return tg_fail(err, TG_ERR_INVALID, "unknown kind of rewind");
}

/* Moves the cursor, in memory and in its file; on failure it stays where it was. */
static enum tg_code put_cursor(struct tg_delivery_loop *d, const struct tg_cursor_state *before,
                               const struct tg_cursor_state *to, struct tg_err *err)
{
    struct tg_cursor_state s = *before;
    if (to->point_no <= s.point_no) {
        const uint64_t end_no = tg_log_stats(d->gateway->log).end_point_no;
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
    const enum tg_code code = tg_log_cursor_set(d->cursor, &s, true, err);
    struct tg_err ignored;
    if (code != TG_OK) (void)!tg_log_cursor_set(d->cursor, before, false, &ignored);
    return code;
}

/* The next deliveries are of a new epoch. On disk before the backend hears of it, and never taken
 * back: an epoch that was handed out must not come twice. */
static enum tg_code raise_epoch(struct tg_delivery_loop *d, struct tg_cursor_state *now,
                                struct tg_err *err)
{
    now->epoch++;
    TG_TRY(tg_log_cursor_set(d->cursor, now, true, err));
    d->epoch = now->epoch;
    return TG_OK;
}

static enum tg_code ask_backend(struct tg_delivery_loop *d, const struct tg_cursor_state *before,
                                struct tg_cursor_state *to, struct tg_err *err)
{
    if (!d->config->ops->rewound) return TG_OK;
    uint64_t pos = to->pos;
    const struct tg_backend_rewind how = {
        .from_pos = before->pos,
        .oldest_pos = tg_log_stats(d->gateway->log).start_pos,
        .comes_again = before->point_no < before->again_until_no,
        .epoch = before->epoch,
    };
    struct tg_err why = {.msg = ""};
    const enum tg_code code = d->config->ops->rewound(d->backend, &how, &pos, &why);
    if (code != TG_OK) return tg_fail(err, code, "%s: %s", d->config->name, why.msg);
    return pos == to->pos ? TG_OK : find_position(d, pos, to, err);
}

/* A backend that is behind may not have come as far as where a rewind is to go. */
static enum tg_code check_direction(const struct tg_delivery_loop *d,
                                    const struct rewind_request *q,
                                    const struct tg_cursor_state *before,
                                    const struct tg_cursor_state *to, struct tg_err *err)
{
    if (q->where.may_skip || q->where.to == TG_REWIND_END || to->point_no <= before->point_no)
        return TG_OK;
    return tg_fail(err, TG_ERR_INVALID,
                   "%s has not come that far: to go from position %llu forward to %llu would skip "
                   "%llu points that it has not got; nothing is moved, it gets them as it catches "
                   "up. To skip them, say so (--skip, or skip=1)",
                   d->config->name, (unsigned long long)before->pos, (unsigned long long)to->pos,
                   (unsigned long long)(to->point_no - before->point_no));
}

static enum tg_code rewind_to(struct tg_delivery_loop *d, const struct rewind_request *q,
                              struct tg_cursor_state *now, struct tg_err *err)
{
    struct tg_log *log = d->gateway->log;
    struct tg_cursor_state before = tg_log_cursor_get(d->cursor), to;
    bool is_raised = false;
    /* Until the cursor stands there, nothing keeps the log from deleting what was just found; once
     * it does, nothing more goes, so that this ends. */
    do {
        TG_TRY(find_rewind(d, q, &to, err));
        /* where it stands the log begins no more: what is missing there is lost, not skipped */
        if (q->where.to == TG_REWIND_START && to.pos > before.pos) to = before;
        TG_TRY(check_direction(d, q, &before, &to, err));
        if (!is_raised) TG_TRY(raise_epoch(d, &before, err));
        is_raised = true;
        TG_TRY(ask_backend(d, &before, &to, err));
        TG_TRY(check_direction(d, q, &before, &to, err)); /* it may have moved it */
        TG_TRY(put_cursor(d, &before, &to, err));
    } while (to.pos < before.pos && to.pos < tg_log_stats(log).start_pos);
    d->span = (struct tg_log_read){.from_pos = to.pos,
                                   .to_pos = to.pos,
                                   .from_point_no = to.point_no,
                                   .to_point_no = to.point_no};
    d->sure_pos = to.pos;
    tg_delivery_restart_batch(d);
    if (to.pos > before.pos) /* requests that wait may have points among the skipped ones */
        tg_ack_board_skip(d->gateway->acks, d->index, to.pos, tg_log_stats(log).end_pos);
    else
        tg_ack_board_move_back(d->gateway->acks, d->index, to.pos);
    *now = tg_log_cursor_get(d->cursor);
    if (to.point_no > before.point_no)
        tg_warn("delivery", "%s: %llu points are skipped: the cursor was moved forward over them",
                d->config->name, (unsigned long long)(to.point_no - before.point_no));
    return TG_OK;
}

void tg_delivery_run_rewinds(struct tg_delivery_loop *d)
{
    while (d->rewinds) {
        struct rewind_request *q = d->rewinds;
        d->rewinds = q->next;
        struct tg_cursor_state now = {0};
        struct tg_err err = {.msg = ""};
        const enum tg_code code = rewind_to(d, q, &now, &err);
        if (code == TG_OK)
            tg_info("delivery", "%s: cursor moved to position %llu", d->config->name,
                    (unsigned long long)now.pos);
        q->on_rewind(q->arg, code, &now, &err);
        tg_free(q);
    }
}

static void on_rewind_request(void *arg)
{
    struct rewind_request *q = arg;
    struct tg_delivery_loop *d = q->d;
    struct rewind_request **tail =
        &d->rewinds; /* in the order asked: the last one decides where the cursor ends */
    while (*tail) tail = &(*tail)->next;
    *tail = q;
    if (tg_delivery_get_state(d) == TG_DELIVERY_WRITING) return; /* on_write runs them */
    tg_delivery_end_wait(d);
    tg_delivery_pump(d);
}

enum tg_code tg_delivery_rewind(struct tg_delivery_loop *d, const struct tg_rewind *where,
                                tg_on_rewind on_rewind, void *arg, struct tg_err *err)
{
    struct rewind_request *q = tg_calloc(1, sizeof(*q));
    if (!q) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    *q = (struct rewind_request){NULL, d, *where, on_rewind, arg};
    const enum tg_code code = tg_loop_post(d->loop, on_rewind_request, q);
    if (code != TG_OK) tg_free(q);
    return code;
}

void tg_delivery_cancel_rewinds(struct tg_delivery_loop *d)
{
    while (d->rewinds) {
        struct rewind_request *q = d->rewinds;
        const struct tg_cursor_state now = tg_log_cursor_get(d->cursor);
        struct tg_err err;
        d->rewinds = q->next;
        q->on_rewind(q->arg, tg_fail(&err, TG_ERR_CANCELED, "the gateway is shutting down"), &now,
                     &err);
        tg_free(q);
    }
}
