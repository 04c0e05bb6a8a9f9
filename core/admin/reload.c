#include <inttypes.h>
#include <stdio.h>

#include "core/admin/internal.h"
#include "core/base/mem.h"

/* One POST /-/reload under way. Made on the loop's thread, filled on the reload thread, and handed
 * back through `item`. */
struct reload_job {
    struct tg_admin *admin;
    struct tg_http_request *req;
    struct tg_loop_item item;
    struct tg_reload_result result;
};

static void finish(void *arg) /* on the loop's thread */
{
    struct reload_job *j = arg;
    const struct tg_reload_result *r = &j->result;
    if (r->code == TG_OK) {
        char text[64];
        const int n = snprintf(text, sizeof(text), "{\"generation\":%" PRIu64 "}\n", r->generation);
        tg_http_reply(j->req, 200, "application/json", text, (size_t)n, NULL, 0);
    } else {
        /* what is wrong with the scripts is the caller's to mend; the rest is ours */
        const enum tg_class class = tg_code_class(r->code);
        tg_admin_reply_error(j->req, class == TG_CLASS_INPUT ? 400 : 503, "%s", r->err.msg);
    }
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

void tg_admin_reload(struct tg_admin *a, struct tg_http_request *req)
{
    struct tg_err err = {.msg = ""};
    struct reload_job *j = tg_malloc(sizeof(*j));
    if (!j) {
        tg_admin_reply_error(req, 503, "out of memory");
        return;
    }
    j->admin = a;
    j->req = req;
    a->n_pending++;
    const enum tg_code code = tg_gateway_reload(a->gateway, on_reload, j, &err);
    if (code == TG_OK) return; /* the callback answers */
    a->n_pending--;
    tg_free(j);
    tg_admin_reply_error(req, 503, "%s", err.msg);
}
