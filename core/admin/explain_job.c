/* GET /api/explain: decided beside the main thread, for a rule may take all of its time. */
#include "core/admin/admin_impl.h"
#include "core/admin/explain.h"
#include "core/base/clock.h"
#include "core/base/mem.h"

/* One under way. Made on the loop's thread, filled on a query thread, and handed back through
 * `item`. */
struct explain_job {
    struct tg_admin *admin;
    struct tg_http_request *req;
    struct tg_loop_item item;
    struct tg_arena arena;
    struct tg_series_desc like;
    struct tg_explain_ask ask;
    struct tg_explained explained;
    struct tg_query_stop stop;
    struct tg_timer *timer; /* at the deadline, for one that has not begun by then */
    enum tg_code code;
    struct tg_err err;
};

static void job_free(struct explain_job *j)
{
    j->admin->n_pending--;
    tg_timer_free(j->timer);
    tg_arena_deinit(&j->arena);
    tg_free(j);
}

static void finish(void *arg) /* on the loop's thread */
{
    struct explain_job *j = arg;
    struct tg_admin *a = j->admin;
    struct tg_buf out;
    tg_buf_init(&out, 4 << 20);
    enum tg_code code = j->code;
    if (code == TG_OK && !a->gateway) code = tg_fail(&j->err, TG_ERR_UNAVAILABLE, "draining");
    if (code == TG_OK) {
        tg_gateway_status(a->gateway, &a->status);
        code = tg_explain_json(&out, &j->explained, a->config.config, &a->status, NULL);
    }
    if (code == TG_OK)
        tg_http_reply(j->req, 200, "application/json", out.data, out.len, NULL, 0);
    else
        tg_admin_reply_error(j->req, tg_code_http_status(code), "%s",
                             j->err.msg[0] ? j->err.msg : "out of memory");
    tg_buf_deinit(&out);
    job_free(j);
}

static enum tg_code look(void *arg, struct tg_err *err)
{
    struct explain_job *j = arg;
    return tg_gateway_explain(j->admin->config.gateway, &j->ask, &j->arena, &j->explained, err);
}

static void on_end(void *arg, enum tg_code code, const struct tg_err *err)
{
    struct explain_job *j = arg;
    j->code = code;
    if (code != TG_OK && err) j->err = *err;
    j->item = (struct tg_loop_item){.fn = finish, .arg = j};
    tg_loop_post_item(j->admin->config.loop, &j->item);
}

static void cancel(struct explain_job *j, enum tg_query_stop_reason why)
{
    struct tg_gateway *g = j->admin->gateway;
    if (g) tg_gateway_query_cancel(g, &j->stop, why);
}

static void on_deadline(void *arg)
{
    cancel(arg, TG_QUERY_OUT_OF_TIME);
}

static void on_peer_close(void *arg)
{
    cancel(arg, TG_QUERY_CLIENT_GONE);
}

static enum tg_code read_ask(struct explain_job *j)
{
    struct tg_http_request *req = j->req;
    const struct tg_explain_words words = {
        .series = tg_http_query(req, "series", 0),
        .line = tg_http_query(req, "line", 0),
        .measurement = tg_http_query(req, "measurement", 0),
        .field = tg_http_query(req, "field", 0),
        .kind = tg_http_query(req, "kind", 0),
        .unit = tg_http_query(req, "unit", 0),
        .resource = tg_http_query(req, "resource", 0),
        .scope = tg_http_query(req, "scope", 0),
    };
    if (!words.series && !words.line && !words.measurement)
        return tg_fail(&j->err, TG_ERR_INVALID, "say which series: ?series=metric{tag=\"value\"}");
    j->ask = (struct tg_explain_ask){.like = &j->like,
                                     .has_kind = words.kind != NULL,
                                     .has_unit = words.unit != NULL,
                                     .stop = &j->stop};
    return tg_explain_read(&words, &j->arena, &j->like, &j->err);
}

void tg_admin_explain(struct tg_admin *a, struct tg_http_request *req)
{
    if (tg_admin_is_busy(a, req)) return;
    struct explain_job *j = tg_calloc(1, sizeof(*j));
    if (!j) {
        tg_admin_reply_error(req, 503, "out of memory");
        return;
    }
    a->n_pending++;
    j->admin = a;
    j->req = req;
    tg_arena_init(&j->arena, 4 << 20);
    j->stop.deadline_ms = tg_clock_mono_ms() + TG_ADMIN_MAX_QUERY_MS;
    j->timer = tg_timer_new(a->config.loop, on_deadline, j);
    enum tg_code code = j->timer ? read_ask(j) : TG_ERR_NOMEM;
    if (code == TG_OK) {
        const struct tg_query_look how = {look, on_end, &j->stop, j};
        tg_timer_start(j->timer, TG_ADMIN_MAX_QUERY_MS);
        code = tg_gateway_look(a->gateway, &how, &j->err);
    }
    if (code == TG_OK) { /* on_end answers */
        tg_http_on_peer_close(req, on_peer_close, j);
        return;
    }
    tg_admin_reply_error(req, tg_code_http_status(code), "%s",
                         j->err.msg[0] ? j->err.msg : "out of memory");
    job_free(j);
}
