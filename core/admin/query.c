/* query.c: GET /api/query: which backends are asked, and their rows as one answer. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/admin/admin_impl.h"
#include "core/admin/json.h"
#include "core/admin/query_note.h"
#include "core/base/clock.h"
#include "core/base/mem.h"

enum { END_BYTES = 16 << 10 }; /* of an answer's text after the rows, at most */

/* One query or rewind under way.
 *
 * Made on the loop's thread, filled by callbacks on the backend's thread, and handed back through
 * `item`; between start and hand-back only the backend's thread touches it. */
struct job {
    struct tg_admin *admin;
    struct tg_http_request *req;
    struct tg_loop_item item;
    struct tg_arena arena;
    struct tg_buf out;
    struct tg_query
        query; /* of one row more than `limit`: that it is there says that rows are cut */
    uint32_t limit;
    struct tg_selector selector; /* what `query` was made of */
    /* Backends are asked one after the other, until one has rows; those after it are asked for one
     * row, to know whether they have any, too. */
    const char *backend; /* asked now */
    unsigned backend_no;
    uint32_t to_ask, asked, also, failed; /* bits of backends */
    uint32_t spared;                      /* not asked, for no such live series goes there */
    unsigned shown_no;                    /* the one whose rows are given */
    struct tg_err first_failure;
    struct tg_explained *explained; /* why there are no rows; NULL = not known (yet) */
    bool has_explained;             /* that was asked */
    struct tg_query_stop stop;
    struct tg_timer *timer; /* at the deadline, for a query that has not begun by then */
    uint64_t n_rows;
    const char *cut; /* why rows are missing; NULL = they are not */
    enum tg_code code;
    struct tg_err err;
    struct tg_cursor_state state; /* rewind */
    bool is_rewind;
};

static const char time_is_over[] = "time";

static void job_free(struct job *j)
{
    j->admin->n_pending--;
    tg_timer_free(j->timer);
    tg_buf_deinit(&j->out);
    tg_arena_deinit(&j->arena);
    tg_free(j);
}

static struct job *job_new(struct tg_admin *a, struct tg_http_request *req)
{
    if (tg_admin_is_busy(a, req)) return NULL;
    struct job *j = tg_calloc(1, sizeof(*j));
    if (!j) {
        tg_admin_reply_error(req, 503, "out of memory");
        return NULL;
    }
    a->n_pending++;
    j->admin = a;
    j->req = req;
    tg_arena_init(&j->arena, 1 << 20);
    tg_buf_init(&j->out, TG_ADMIN_MAX_ANSWER);
    return j;
}

static enum tg_code put_names(struct job *j, const char *field, uint32_t mask)
{
    const struct tg_config *c = j->admin->config.config;
    bool any = false;
    TG_TRY(tg_buf_printf(&j->out, ",\"%s\":[", field));
    for (unsigned i = 0; i < c->n_backends; i++) {
        if (!(mask >> i & 1)) continue;
        TG_TRY(tg_buf_printf(&j->out, "%s\"%s\"", any ? "," : "", c->backends[i].name));
        any = true;
    }
    return tg_buf_append(&j->out, "]", 1);
}

/* What is still to be delivered is missing from the rows, and where there are none there is a
 * reason: saying so spares people a search. */
static enum tg_code end_answer(struct job *j)
{
    struct tg_admin *a = j->admin;
    uint64_t n_waiting = 0;
    char note[1024] = "";
    if (a->gateway) {
        tg_gateway_status(a->gateway, &a->status);
        if (j->asked) n_waiting = a->status.backends[j->shown_no].ledger.waiting;
        if (j->explained)
            tg_admin_query_note(j->explained, a->config.config, &a->status, j->asked, j->spared,
                                note, sizeof(note));
    }
    TG_TRY(tg_buf_printf(&j->out, "],\"n_rows\":%" PRIu64 ",\"cut\":%s%s%s,\"waiting\":%" PRIu64,
                         j->n_rows, j->cut ? "\"" : "", j->cut ? j->cut : "null",
                         j->cut ? "\"" : "", n_waiting));
    TG_TRY(put_names(j, "asked", j->asked));
    TG_TRY(put_names(j, "also_in", j->also));
    TG_TRY(put_names(j, "failed", j->failed));
    TG_TRY(tg_buf_append(&j->out, ",\"failure\":", 11));
    TG_TRY(j->failed ? tg_json_string(&j->out, j->first_failure.msg, strlen(j->first_failure.msg))
                     : tg_buf_append(&j->out, "null", 4));
    TG_TRY(tg_buf_append(&j->out, ",\"note\":", 8));
    TG_TRY(note[0] ? tg_json_string(&j->out, note, strlen(note))
                   : tg_buf_append(&j->out, "null", 4));
    return tg_buf_append(&j->out, "}\n", 2);
}

static enum tg_code ask_next(struct job *j, struct tg_err *err);

static void note_failure(struct job *j, enum tg_code code, const char *message)
{
    if (!j->failed)
        (void)tg_fail(&j->first_failure, code, "%.64s: %.180s", j->backend,
                      message[0] ? message : "out of memory");
    j->failed |= UINT32_C(1) << j->backend_no;
}

/* Whether there is another backend to ask, and it is being asked. */
static bool goes_on(struct job *j)
{
    if (j->is_rewind || j->code == TG_ERR_CANCELED) return false;
    if (j->code != TG_OK) note_failure(j, j->code, j->err.msg);
    while (j->to_ask && j->cut != time_is_over && j->admin->gateway) {
        struct tg_err err = {.msg = ""};
        const enum tg_code code = ask_next(j, &err);
        if (code == TG_OK) return true;
        note_failure(j, code, err.msg);
    }
    if (j->failed != j->asked) j->code = TG_OK;
    return false;
}

/* Beside: a rule may take all of its time. */
static enum tg_code explain_it(void *arg, struct tg_err *err)
{
    struct job *j = arg;
    struct tg_explained *e = tg_arena_calloc(&j->arena, 1, sizeof(*e));
    if (!e) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    const enum tg_code code =
        tg_admin_query_explain(j->admin->config.gateway, &j->selector, &j->stop, &j->arena, e, err);
    if (code == TG_OK) j->explained = e;
    return code;
}

static void hand_back(struct job *j);

static void on_explained(void *arg, enum tg_code code, const struct tg_err *err)
{
    (void)code; /* without it the answer has no note */
    (void)err;
    hand_back(arg);
}

/* Whether it is being asked why there are no rows. */
static bool asks_why(struct job *j)
{
    struct tg_err err;
    const struct tg_query_look look = {explain_it, on_explained, &j->stop, j};
    if (j->is_rewind || j->has_explained || j->code != TG_OK || j->n_rows || j->cut) return false;
    j->has_explained = true;
    return j->selector.name && j->admin->gateway &&
           tg_gateway_look(j->admin->gateway, &look, &err) == TG_OK;
}

static void finish(void *arg) /* on the loop's thread */
{
    struct job *j = arg;
    if (!j->has_explained && goes_on(j)) return;
    if (asks_why(j)) return;
    if (j->code != TG_OK && j->failed) {
        tg_admin_reply_error(j->req, tg_code_http_status(j->first_failure.code), "%s",
                             j->first_failure.msg);
    } else if (j->code != TG_OK) {
        tg_admin_reply_error(j->req, tg_code_http_status(j->code), "%s: %s", j->backend,
                             j->err.msg[0] ? j->err.msg : "out of memory");
    } else if (j->is_rewind) {
        char text[256];
        const int n =
            snprintf(text, sizeof(text),
                     "{\"backend\":\"%s\",\"position\":%" PRIu64 ",\"point_no\":%" PRIu64 "}\n",
                     j->backend, j->state.pos, j->state.point_no);
        tg_http_reply(j->req, 200, "application/json", text, (size_t)n, NULL, 0);
    } else if (end_answer(j) == TG_OK) {
        tg_http_reply(j->req, 200, "application/json", j->out.data, j->out.len, NULL, 0);
    } else {
        tg_admin_reply_error(j->req, 503, "out of memory");
    }
    job_free(j);
}

static void hand_back(struct job *j)
{
    j->item.fn = finish;
    j->item.arg = j;
    tg_loop_post_item(j->admin->config.loop, &j->item);
}

static bool on_row(void *arg, const struct tg_query_row *row)
{
    struct job *j = arg;
    if (j->backend_no != j->shown_no) { /* one is enough to know */
        j->also |= UINT32_C(1) << j->backend_no;
        return false;
    }
    if (j->n_rows == j->limit) {
        j->cut = "limit";
        return false;
    }
    const size_t before = j->out.len;
    enum tg_code code = j->n_rows ? tg_buf_append(&j->out, ",\n", 2) : TG_OK;
    if (code == TG_OK) code = tg_json_row(&j->out, row);
    /* Room for the end of the text is kept, so that a cut answer is whole JSON. */
    if (code == TG_OK) code = tg_buf_reserve(&j->out, END_BYTES);
    if (code != TG_OK) {
        j->out.len = before;
        j->cut = "size";
        return false;
    }
    j->n_rows++;
    return true;
}

static void on_end(void *arg, enum tg_code code, const struct tg_err *err)
{
    struct job *j = arg;
    j->code = code;
    if (code != TG_OK && err) j->err = *err;
    if (code == TG_ERR_CANCELED && atomic_load(&j->stop.reason) == TG_QUERY_OUT_OF_TIME) {
        j->code = TG_OK;
        if (j->backend_no == j->shown_no) j->cut = time_is_over;
        j->to_ask = 0;
    }
    hand_back(j);
}

static void on_deadline(void *arg)
{
    struct job *j = arg;
    struct tg_gateway *g = j->admin->gateway;
    if (g) tg_gateway_query_cancel(g, &j->stop, TG_QUERY_OUT_OF_TIME);
}

static void on_peer_close(void *arg)
{
    struct job *j = arg;
    struct tg_gateway *g = j->admin->gateway;
    if (g) tg_gateway_query_cancel(g, &j->stop, TG_QUERY_CLIENT_GONE);
}

/* The backend that is named. -1 = replied. */
static int named_backend(struct tg_admin *a, struct tg_http_request *req)
{
    const struct tg_config *c = a->config.config;
    const char *name = tg_http_query(req, "backend", 0);
    for (unsigned i = 0; i < c->n_backends; i++)
        if (strcmp(c->backends[i].name, name) == 0) return (int)i;
    const char *near = tg_nearest_name(name, c->rules.backends, c->n_backends);
    tg_admin_reply_error(req, 404, "there is no backend \"%.64s\"%s%s%s", name,
                         near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return -1;
}

/* Bits of the backends that may be asked: the one named, else all that can be queried. 0 = replied.
 */
static uint32_t pick_backends(struct tg_admin *a, struct tg_http_request *req)
{
    const struct tg_config *c = a->config.config;
    uint32_t mask = 0;
    if (tg_http_query(req, "backend", 0)) {
        const int i = named_backend(a, req);
        return i < 0 ? 0 : UINT32_C(1) << i;
    }
    for (unsigned i = 0; i < c->n_backends; i++)
        if (c->backends[i].ops->query_range) mask |= UINT32_C(1) << i;
    if (!mask)
        tg_admin_reply_error(req, 400,
                             "no configured backend can be queried; a parquet backend can");
    return mask;
}

static enum tg_code time_param(struct tg_http_request *req, const char *name, int64_t now_ns,
                               int64_t *out, struct tg_err *err)
{
    const char *text = tg_http_query(req, name, 0);
    struct tg_err detail = {.msg = ""};
    if (!text || !*text) return TG_OK;
    if (tg_time_parse(text, now_ns, out, &detail) != TG_OK)
        return tg_fail(err, TG_ERR_INVALID, "%s: %s", name, detail.msg);
    return TG_OK;
}

static enum tg_code parse_query(struct job *j, struct tg_err *err)
{
    struct tg_http_request *req = j->req;
    const char *series = tg_http_query(req, "series", 0);
    const char *name = tg_http_query(req, "name", 0);
    struct tg_selector s;
    TG_TRY(tg_selector_parse(series ? series : "", &j->arena, &s, err));
    if (name && s.name)
        return tg_fail(err, TG_ERR_INVALID, "both series and name give a name; keep one");
    if (name) s.name = tg_arena_strndup(&j->arena, name, strlen(name));
    for (unsigned i = 0; tg_http_query(req, "tag", i); i++)
        TG_TRY(tg_selector_add_tag(&s, tg_http_query(req, "tag", i), &j->arena, err));

    const int64_t now_ns = tg_clock_wall_ns();
    int64_t start_ns = INT64_MIN;
    int64_t end_ns = INT64_MAX; /* senders' clocks may run ahead of ours */
    TG_TRY(time_param(req, "since", now_ns, &start_ns, err));
    TG_TRY(time_param(req, "start", now_ns, &start_ns, err));
    TG_TRY(time_param(req, "end", now_ns, &end_ns, err));
    if (end_ns <= start_ns) return tg_fail(err, TG_ERR_INVALID, "end is not after start");

    uint32_t limit = 1000;
    const char *limit_text = tg_http_query(req, "limit", 0);
    if (limit_text) {
        char *end;
        const long v = strtol(limit_text, &end, 10);
        if (end == limit_text || *end || v < 1 || v > 1000000)
            return tg_fail(err, TG_ERR_INVALID, "limit: expected a number from 1 to 1000000");
        limit = (uint32_t)v;
    }
    j->selector = s;
    j->query = (struct tg_query){.name = s.name,
                                 .tags = s.tags,
                                 .n_tags = s.n_tags,
                                 .start_ns = start_ns,
                                 .end_ns = end_ns,
                                 .max_rows = limit + 1};
    j->limit = limit;
    return TG_OK;
}

/* The next backend: for its rows, or when there are some already for whether it has any. */
static enum tg_code ask_next(struct job *j, struct tg_err *err)
{
    struct tg_admin *a = j->admin;
    j->backend_no = (unsigned)__builtin_ctz(j->to_ask);
    j->backend = a->config.config->backends[j->backend_no].name;
    j->to_ask &= j->to_ask - 1;
    j->asked |= UINT32_C(1) << j->backend_no;
    if (j->n_rows == 0) {
        j->shown_no = j->backend_no;
        tg_buf_reset(&j->out);
        TG_TRY(tg_buf_printf(&j->out, "{\"backend\":\"%s\",\"rows\":[", j->backend));
    } else {
        j->query.max_rows = 1;
    }
    return tg_gateway_query(a->gateway, j->backend_no, &j->query, on_row, on_end, j, err);
}

void tg_admin_query(struct tg_admin *a, struct tg_http_request *req)
{
    const uint32_t backends = pick_backends(a, req);
    if (!backends) return;
    struct job *j = job_new(a, req);
    if (!j) return;
    struct tg_err err = {.msg = ""};
    enum tg_code code = parse_query(j, &err);
    j->to_ask = backends;
    if (code == TG_OK && !tg_http_query(req, "backend", 0)) {
        code = tg_admin_query_spare(a->gateway, &j->selector, &j->to_ask);
        j->spared = backends & ~j->to_ask;
    }
    j->stop.deadline_ms = tg_clock_mono_ms() + TG_ADMIN_MAX_QUERY_MS;
    j->query.stop = &j->stop;
    j->timer = tg_timer_new(a->config.loop, on_deadline, j);
    if (code == TG_OK && !j->timer) code = TG_ERR_NOMEM;
    if (code == TG_OK) tg_timer_start(j->timer, TG_ADMIN_MAX_QUERY_MS);
    if (code == TG_OK && !j->to_ask) {
        /* No backend gets the points of such series, or none that can be asked. */
        code = tg_buf_printf(&j->out, "{\"backend\":null,\"rows\":[");
        if (code == TG_OK) hand_back(j);
    } else if (code == TG_OK) {
        code = ask_next(j, &err);
    }
    if (code == TG_OK) { /* the callbacks answer */
        tg_http_on_peer_close(req, on_peer_close, j);
        return;
    }
    tg_admin_reply_error(req, code == TG_ERR_UNSUPPORTED ? 400 : tg_code_http_status(code), "%s",
                         err.msg[0] ? err.msg : "out of memory");
    job_free(j);
}

static void on_rewind(void *arg, enum tg_code code, const struct tg_cursor_state *now,
                      const struct tg_err *err)
{
    struct job *j = arg;
    j->code = code;
    if (now) j->state = *now;
    if (code != TG_OK && err) j->err = *err;
    hand_back(j);
}

/* start, end, a time, or a position as "pos:123". */
static enum tg_code parse_rewind_to(const char *text, enum tg_rewind_to *to, int64_t *value,
                                    struct tg_err *err)
{
    *value = 0;
    if (strcmp(text, "start") == 0) {
        *to = TG_REWIND_START;
        return TG_OK;
    }
    if (strcmp(text, "end") == 0) {
        *to = TG_REWIND_END;
        return TG_OK;
    }
    if (strncmp(text, "pos:", 4) == 0) {
        char *end;
        const long long v = strtoll(text + 4, &end, 10);
        if (end == text + 4 || *end || v < 0)
            return tg_fail(err, TG_ERR_INVALID, "to: \"%.60s\" is not a position; write pos:12345",
                           text);
        *to = TG_REWIND_POSITION;
        *value = v;
        return TG_OK;
    }
    *to = TG_REWIND_TIME;
    struct tg_err detail = {.msg = ""};
    if (tg_time_parse(text, tg_clock_wall_ns(), value, &detail) != TG_OK)
        return tg_fail(err, TG_ERR_INVALID,
                       "to: write start, end, a time (2026-01-31T12:00:00Z, or 10m for ten minutes "
                       "ago), or a position as pos:12345");
    return TG_OK;
}

void tg_admin_rewind(struct tg_admin *a, struct tg_http_request *req)
{
    const char *to_text = tg_http_query(req, "to", 0);
    if (!tg_http_query(req, "backend", 0) || !to_text) {
        tg_admin_reply_error(
            req, 400, "say what and where to: ?backend=NAME&to=start|end|TIME|pos:N[&skip=1]");
        return;
    }
    const int backend = named_backend(a, req);
    if (backend < 0) return;
    const char *skip = tg_http_query(req, "skip", 0);
    if (skip && strcmp(skip, "0") != 0 && strcmp(skip, "1") != 0) {
        tg_admin_reply_error(req, 400, "skip: write 1 or 0");
        return;
    }
    struct tg_rewind where = {.may_skip = skip && *skip == '1'};
    struct tg_err err = {.msg = ""};
    enum tg_code code = parse_rewind_to(to_text, &where.to, &where.value, &err);
    if (code != TG_OK) {
        tg_admin_reply_error(req, 400, "%s", err.msg);
        return;
    }
    struct job *j = job_new(a, req);
    if (!j) return;
    j->is_rewind = true;
    j->backend = a->config.config->backends[backend].name;
    code = tg_gateway_rewind(a->gateway, (unsigned)backend, &where, on_rewind, j, &err);
    if (code == TG_OK) return;
    tg_admin_reply_error(req, tg_code_http_status(code), "%s",
                         err.msg[0] ? err.msg : "out of memory");
    job_free(j);
}
