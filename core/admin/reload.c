/* reload.c: POST /-/reload: the rules are loaded anew, and what came of it is said. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/admin/admin_impl.h"
#include "core/admin/json.h"
#include "core/base/mem.h"

/* One POST /-/reload under way. Made on the loop's thread, filled on the reload thread, and handed
 * back through `item`. */
struct reload_job {
    struct tg_admin *admin;
    struct tg_http_request *req;
    struct tg_loop_item item;
    struct tg_reload_result result;
};

/* "errors":[...],"warnings":[...] */
static enum tg_code put_findings(struct tg_buf *out, const struct tg_rules_report *report)
{
    for (int errors = 1; errors >= 0; errors--) {
        TG_TRY(tg_buf_printf(out, errors ? "\"errors\":[" : ",\"warnings\":["));
        const char *sep = "";
        for (uint32_t i = 0; i < report->n_items; i++) {
            if ((report->items[i].kind == TG_RULES_ERROR) != (errors == 1)) continue;
            TG_TRY(tg_buf_printf(out, "%s", sep));
            TG_TRY(tg_json_string(out, report->items[i].text, strlen(report->items[i].text)));
            sep = ",";
        }
        TG_TRY(tg_buf_append(out, "]", 1));
    }
    return TG_OK;
}

/* {"generation":2,"errors":[..],"warnings":[..],"live_series":9,"decided":9} and, when refused,
 * "error" with the first reason. */
static enum tg_code put_answer(struct tg_buf *out, const struct tg_reload_result *r)
{
    const struct tg_rules_report *report = &r->report;
    TG_TRY(tg_buf_append(out, "{", 1));
    if (r->code != TG_OK) {
        char text[640];
        const int n =
            snprintf(text, sizeof(text), "%s%s", r->err.msg,
                     tg_rules_may_force(report, r->code)
                         ? "; to put the new rules in force all the same: /-/reload?force=1"
                         : "");
        TG_TRY(tg_buf_append(out, "\"error\":", 8));
        TG_TRY(tg_json_string(out, text, (size_t)n));
        TG_TRY(tg_buf_append(out, ",", 1));
    }
    TG_TRY(tg_buf_printf(out, "\"generation\":%" PRIu64 ",", r->generation));
    TG_TRY(put_findings(out, report));
    const uint32_t n_more = report->n_errors + report->n_warnings - report->n_items;
    if (n_more) TG_TRY(tg_buf_printf(out, ",\"more\":%" PRIu32, n_more));
    return tg_buf_printf(out, ",\"live_series\":%" PRIu64 ",\"decided\":%" PRIu64 "}\n",
                         report->n_live, report->n_decided);
}

static void finish(void *arg) /* on the loop's thread */
{
    struct reload_job *j = arg;
    const struct tg_reload_result *r = &j->result;
    struct tg_buf out;
    tg_buf_init(&out, 1 << 20);
    /* what is wrong with the scripts is the caller's to mend; the rest is ours */
    const bool is_input = tg_code_class(r->code) == TG_CLASS_INPUT;
    const int status = r->code == TG_OK ? 200 : is_input ? 400 : 503;
    if (put_answer(&out, r) == TG_OK)
        tg_http_reply(j->req, status, "application/json", out.data, out.len, NULL, 0);
    else
        tg_admin_reply_error(j->req, status == 200 ? 503 : status, "%s",
                             r->code == TG_OK ? "out of memory for the answer; the new rules are "
                                                "in force"
                                              : r->err.msg);
    tg_buf_deinit(&out);
    j->admin->n_pending--;
    tg_free(j);
}

static void on_reload(void *arg, const struct tg_reload_result *result)
{
    struct reload_job *j = arg;
    j->result = *result;
    j->item = (struct tg_loop_item){.fn = finish, .arg = j};
    tg_loop_post_item(j->admin->config.loop, &j->item);
}

/* ?name=1 sets `flag`; false when it is neither 1 nor 0, and that was answered. */
static bool read_flag(struct tg_http_request *req, const char *name, unsigned flag, unsigned *flags)
{
    const char *text = tg_http_query(req, name, 0);
    if (!text || strcmp(text, "0") == 0) return true;
    if (strcmp(text, "1") == 0) {
        *flags |= flag;
        return true;
    }
    tg_admin_reply_error(req, 400, "%s: write 1 or 0", name);
    return false;
}

void tg_admin_reload(struct tg_admin *a, struct tg_http_request *req)
{
    struct tg_err err = {.msg = ""};
    unsigned flags = 0;
    if (!read_flag(req, "force", TG_RELOAD_FORCE, &flags) ||
        !read_flag(req, "strict", TG_RELOAD_STRICT, &flags))
        return;
    struct reload_job *j = tg_malloc(sizeof(*j));
    if (!j) {
        tg_admin_reply_error(req, 503, "out of memory");
        return;
    }
    j->admin = a;
    j->req = req;
    a->n_pending++;
    const enum tg_code code = tg_gateway_reload(a->gateway, flags, on_reload, j, &err);
    if (code == TG_OK) return; /* the callback answers */
    a->n_pending--;
    tg_free(j);
    tg_admin_reply_error(req, 503, "%s", err.msg);
}
