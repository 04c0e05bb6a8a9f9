/* span.c: a stretch of the log under way to a backend. */
#include "core/pipe/span.h"

#include <string.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/base/mem.h"

enum { MAX_ARENA_BYTES = 256 << 20 };

void tg_span_init(struct tg_span *s, const char *name, struct tg_table *table)
{
    s->name = name;
    s->table = table;
    tg_batch_init(&s->batch, NULL, 0, MAX_ARENA_BYTES);
}

static void put_at(struct tg_span *s, uint64_t pos, uint64_t point_no)
{
    s->from_pos = s->to_pos = pos;
    s->from_point_no = s->to_point_no = point_no;
}

enum tg_code tg_span_open(struct tg_span *s, struct tg_log *log,
                          const struct tg_cursor_state *cursor, struct tg_err *err)
{
    TG_TRY(tg_log_reader_open(log, cursor->pos, &s->reader, err));
    tg_log_reader_expect(s->reader, cursor->point_no);
    put_at(s, cursor->pos, cursor->point_no);
    s->sure_pos = cursor->pos;
    return TG_OK;
}

/* All but where it is. */
static void drop(struct tg_span *s)
{
    for (uint32_t i = 0; i < s->n_dicts; i++) tg_segment_dict_unref(s->dicts[i]);
    s->n_dicts = 0;
    s->n_numbers = 0;
    tg_batch_reset(&s->batch);
    s->n_ranges = 0;
    s->done = (struct tg_span_counts){0};
    s->n_losses = 0;
    s->part = 0;
    s->first_read_ms = 0;
    s->is_closed = false;
    s->has_settled = false;
    s->end_reached = false;
}

void tg_span_deinit(struct tg_span *s)
{
    drop(s);
    tg_log_reader_close(s->reader);
    tg_batch_deinit(&s->batch);
    tg_free(s->dicts);
    tg_free(s->numbers);
    tg_free(s->settled);
}

/* --- where it is --- */

void tg_span_pass(struct tg_span *s)
{
    drop(s);
    put_at(s, s->to_pos, s->to_point_no);
}

/* When the seek fails the next read tries it again. */
void tg_span_restart(struct tg_span *s)
{
    struct tg_err err;
    drop(s);
    put_at(s, s->from_pos, s->from_point_no);
    if (s->sure_pos > s->from_pos) s->sure_pos = s->from_pos;
    if (tg_log_reader_seek(s->reader, s->from_pos, &err) != TG_OK)
        tg_warn("delivery", "%s: %s", s->name, err.msg);
    /* what is missing from here on is counted as lost */
    tg_log_reader_expect(s->reader, s->from_point_no);
}

void tg_span_move(struct tg_span *s, uint64_t pos, uint64_t point_no)
{
    put_at(s, pos, point_no);
    s->sure_pos = pos;
    tg_span_restart(s);
}

/* --- reading --- */

static enum tg_code keep_dict(struct tg_span *s, struct tg_segment_dict *dict)
{
    if (!dict) return TG_OK;
    if (s->n_dicts && s->dicts[s->n_dicts - 1] == dict) {
        tg_segment_dict_unref(dict);
        return TG_OK;
    }
    if (s->n_dicts == s->cap_dicts) {
        const uint32_t cap = s->cap_dicts ? s->cap_dicts * 2 : 4;
        struct tg_segment_dict **p = tg_reallocarray(s->dicts, cap, sizeof(*p));
        if (!p) {
            tg_segment_dict_unref(dict);
            return TG_ERR_NOMEM;
        }
        s->dicts = p;
        s->cap_dicts = cap;
    }
    s->dicts[s->n_dicts++] = dict;
    return TG_OK;
}

static enum tg_code keep_numbers(struct tg_span *s, uint32_t at, uint64_t no)
{
    if (at == s->batch.n_points) return TG_OK; /* nothing was added */
    if (s->n_numbers) {
        const struct tg_numbering *last = &s->numbers[s->n_numbers - 1];
        if (last->no + (at - last->at) == no) return TG_OK;
    }
    if (s->n_numbers == s->cap_numbers) {
        const uint32_t cap = s->cap_numbers ? s->cap_numbers * 2 : 16;
        struct tg_numbering *p = tg_reallocarray(s->numbers, cap, sizeof(*p));
        if (!p) return TG_ERR_NOMEM;
        s->numbers = p;
        s->cap_numbers = cap;
    }
    s->numbers[s->n_numbers++] = (struct tg_numbering){at, no};
    return TG_OK;
}

uint64_t tg_span_point_no(const struct tg_span *s, uint32_t i)
{
    if (i == 0) return s->from_point_no; /* with what was lost before it */
    if (i >= s->batch.n_points) return s->to_point_no;
    uint32_t lo = 0, hi = s->n_numbers; /* the last that begins at i or before */
    while (hi - lo > 1) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (s->numbers[mid].at <= i)
            lo = mid;
        else
            hi = mid;
    }
    return s->numbers[lo].no + (i - s->numbers[lo].at);
}

static void note_loss(struct tg_span *s, const struct tg_log_read *read,
                      const struct tg_log_loss *loss)
{
    struct tg_backend_loss add = {loss->from_pos, loss->to_pos, loss->all};
    /* of what was passed unsure, where a reader that was moved back since does not know of it */
    if (s->sure_pos < read->from_pos && add.from_pos <= read->from_pos &&
        s->sure_pos < add.from_pos)
        add.from_pos = s->sure_pos;
    struct tg_backend_loss *last = s->n_losses ? &s->losses[s->n_losses - 1] : NULL;
    const bool is_same = last && last->all == add.all && add.from_pos <= last->to_pos;
    if (!is_same && s->n_losses < sizeof(s->losses) / sizeof(s->losses[0])) {
        s->losses[s->n_losses++] = add;
        return;
    }
    if (add.to_pos > last->to_pos) last->to_pos = add.to_pos;
    if (!is_same) last->all = false;
}

/* Sets how the points from the span's start on are routed, and gives the number up to which. */
static uint64_t find_routing(struct tg_span *s, const struct tg_cursor_state *cursor)
{
    const uint64_t at = s->from_point_no;
    if (at >= cursor->replay_until_no) {
        s->routing = TG_ROUTED_WHEN_ACCEPTED;
        return UINT64_MAX;
    }
    if (at >= cursor->again_until_no) { /* never passed: where it was routed it must come */
        s->routing = TG_ROUTED_BOTH_WAYS;
        return cursor->replay_until_no;
    }
    s->routing = TG_ROUTED_BY_RULES;
    return cursor->again_until_no < cursor->replay_until_no ? cursor->again_until_no
                                                            : cursor->replay_until_no;
}

static void take_read(struct tg_span *s, uint32_t n_before, const struct tg_log_read *read)
{
    if (s->first_read_ms == 0 && s->batch.n_points > 0) {
        s->first_read_ms = tg_clock_mono_ms();
        s->first_accepted_ns = read->accepted_ns ? read->accepted_ns : tg_clock_wall_ns();
    }
    s->to_pos = read->to_pos;
    s->to_point_no = read->to_point_no;
    s->done.lost += read->n_lost;
    for (unsigned i = 0; i < read->n_losses; i++) note_loss(s, read, &read->losses[i]);
    if (read->is_sure)
        s->sure_pos = read->to_pos;
    else if ((s->batch.n_points > n_before || read->n_lost) && read->sure_pos > s->sure_pos)
        s->sure_pos = read->sure_pos;
}

enum tg_code tg_span_fill(struct tg_span *s, uint32_t max_points,
                          const struct tg_cursor_state *cursor, bool (*must_end)(void *arg),
                          void *arg, struct tg_err *err)
{
    struct tg_deferred_free *guard = tg_table_guard(s->table);
    uint32_t max = max_points;
    /* Where another way of routing begins, so does a record. */
    const uint64_t until_no = find_routing(s, cursor);
    if (until_no - s->from_point_no < max) max = (uint32_t)(until_no - s->from_point_no);
    s->end_reached = false;
    while (s->batch.n_points < max && !(must_end && must_end(arg)) && s->to_point_no < until_no) {
        struct tg_log_read read;
        struct tg_segment_dict *dict = NULL;
        const uint32_t at = s->batch.n_points;
        const int ticket = tg_deferred_free_enter(guard);
        enum tg_code code =
            tg_log_reader_read(s->reader, &s->batch, max - s->batch.n_points, &read, &dict, err);
        tg_deferred_free_exit(guard, ticket);
        if (code == TG_OK &&
            (keep_dict(s, dict) != TG_OK || keep_numbers(s, at, read.first_point_no) != TG_OK)) {
            tg_span_restart(s); /* points whose series nothing holds */
            return tg_fail(err, TG_ERR_NOMEM, "out of memory (limits.memory)");
        }
        /* The arena or the memory is full, or a segment cannot be read now: what was read so far is
         * delivered first. */
        if ((code == TG_ERR_NOMEM || code == TG_ERR_IO) && s->batch.n_points > 0) return TG_OK;
        if (code != TG_OK) {
            tg_span_restart(s);
            return code;
        }
        take_read(s, at, &read);
        if (read.to_pos == read.from_pos && read.n_lost == 0) {
            s->end_reached = true;
            break;
        }
    }
    return TG_OK;
}

bool tg_span_is_empty(const struct tg_span *s)
{
    return s->to_pos == s->from_pos && s->done.lost == 0;
}

/* --- what is to be attempted, and what was --- */

void tg_span_close(struct tg_span *s)
{
    s->is_closed = true;
    tg_span_push_range(s, 0, s->batch.n_points); /* none when there was only damage */
}

struct tg_range tg_span_pop_range(struct tg_span *s)
{
    return s->ranges[--s->n_ranges];
}

void tg_span_push_range(struct tg_span *s, uint32_t lo, uint32_t hi)
{
    if (lo < hi) s->ranges[s->n_ranges++] = (struct tg_range){lo, hi};
}

enum tg_code tg_span_reserve_settled(struct tg_span *s, struct tg_err *err)
{
    if (s->has_settled) return TG_OK;
    uint8_t *bits = tg_realloc(s->settled, ((size_t)s->batch.n_points + 7) / 8);
    if (!bits) return tg_fail(err, TG_ERR_NOMEM, "out of memory (limits.memory)");
    s->settled = bits;
    return TG_OK;
}

void tg_span_settle(struct tg_span *s, uint32_t i)
{
    if (!s->has_settled) memset(s->settled, 0, ((size_t)s->batch.n_points + 7) / 8);
    s->has_settled = true;
    s->settled[i / 8] = (uint8_t)(s->settled[i / 8] | 1U << (i % 8));
}

void tg_span_next_part(struct tg_span *s)
{
    s->part++;
}

void tg_span_count(struct tg_span *s, const struct tg_span_counts *ended)
{
    s->done.delivered += ended->delivered;
    s->done.elsewhere += ended->elsewhere;
    s->done.dead += ended->dead;
    s->done.lost += ended->lost;
    tg_inexpressible_add(&s->done.inexpressible, &ended->inexpressible);
    tg_left_out_add(&s->done.left_out, &ended->left_out);
}

struct tg_span_counts tg_span_take_counts(struct tg_span *s)
{
    const struct tg_span_counts done = s->done;
    s->done = (struct tg_span_counts){0};
    return done;
}

bool tg_span_validate(const struct tg_span *s)
{
    const uint32_t n = s->batch.n_points;
    bool ok = s->from_pos <= s->to_pos && n + s->done.lost <= s->to_point_no - s->from_point_no &&
              s->n_ranges <= sizeof(s->ranges) / sizeof(s->ranges[0]) &&
              s->n_losses <= sizeof(s->losses) / sizeof(s->losses[0]);
    ok = ok && (n == 0 || (s->n_dicts > 0 && s->n_numbers > 0 && s->numbers[0].at == 0));
    for (uint32_t i = 1; i < s->n_numbers; i++)
        ok = ok && s->numbers[i - 1].at < s->numbers[i].at &&
             s->numbers[i - 1].no < s->numbers[i].no && s->numbers[i].at < n;
    uint32_t end = 0;
    for (unsigned i = s->n_ranges; i-- > 0; end = s->ranges[i].hi)
        ok = ok && end <= s->ranges[i].lo && s->ranges[i].lo < s->ranges[i].hi &&
             s->ranges[i].hi <= n;
    return ok && (s->is_closed || (s->n_ranges == 0 && !s->has_settled));
}
