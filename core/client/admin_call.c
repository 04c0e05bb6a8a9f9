#include "core/client/admin_call.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/text_code.h"
#include "core/net/http_client.h"
#include "core/net/loop.h"

struct call {
    struct tg_admin_answer *answer;
    bool done;
    enum tg_code code;
    struct tg_err err;
};

static void on_result(void *arg, const struct tg_http_result *result)
{
    struct call *c = arg;
    c->done = true;
    c->code = result->code;
    if (result->code != TG_OK) {
        c->code = tg_fail(&c->err, result->code, "%s", result->message);
        return;
    }
    c->answer->status = result->status;
    if (tg_buf_reserve(&c->answer->body, result->len + 1) != TG_OK) {
        c->code = tg_fail(&c->err, TG_ERR_NOMEM, "out of memory");
        return;
    }
    tg_buf_put(&c->answer->body, result->body, result->len);
    c->answer->body.data[result->len] = '\0';
}

enum tg_code tg_admin_call(const char *method, const char *url, uint32_t timeout_ms,
                           struct tg_admin_answer *out, struct tg_err *err)
{
    memset(out, 0, sizeof(*out));
    tg_buf_init(&out->body, 0);
    struct call c = {.answer = out};
    struct tg_loop *loop = tg_loop_new();
    const struct tg_http_client_config config = {.max_connections = 1,
                                                 .max_response_bytes = (uint64_t)256 << 20};
    struct tg_http_client *client = loop ? tg_http_client_new(loop, &config) : NULL;
    const struct tg_http_call what = {
        .method = method, .url = url, .body = "", .len = 0, .timeout_ms = timeout_ms};
    enum tg_code code = client ? tg_http_client_send(client, &what, on_result, &c, err)
                               : tg_fail(err, TG_ERR_NOMEM, "out of memory");
    while (code == TG_OK && !c.done) tg_loop_once(loop, 1000);
    if (code == TG_OK && c.code != TG_OK) {
        const char *path = strchr(url + (strstr(url, "://") ? strcspn(url, ":") + 3 : 0), '/');
        code = tg_fail(err, c.code,
                       "no answer from %.*s: is the gateway running (tidegate run), and is this "
                       "its admin address (--admin)? %s",
                       (int)(path ? (size_t)(path - url) : strlen(url)), url, c.err.msg);
    }
    tg_http_client_free(client);
    tg_loop_free(loop);
    return code;
}

void tg_admin_answer_deinit(struct tg_admin_answer *a)
{
    tg_buf_deinit(&a->body);
}

const char *tg_admin_answer_error(const struct tg_admin_answer *a, char *scratch, size_t cap)
{
    if (!a->body.data || a->body.len == 0) {
        (void)snprintf(scratch, cap, "HTTP status %d without a reason", a->status);
        return scratch;
    }
    json_t *o = json_loadb((const char *)a->body.data, a->body.len, 0, NULL);
    const char *text = json_string_value(json_object_get(o, "error"));
    (void)snprintf(scratch, cap, "%s", text ? text : (const char *)a->body.data);
    json_decref(o);
    scratch[strcspn(scratch, "\r\n")] = '\0';
    return scratch;
}

enum tg_code tg_url_param(struct tg_buf *url, const char *name, const char *value)
{
    if (!value) return TG_OK;
    const bool first = memchr(url->data, '?', url->len) == NULL;
    TG_TRY(tg_buf_printf(url, "%s%s=", first ? "?" : "&", name));
    TG_TRY(tg_percent_encode(url, value, strlen(value)));
    TG_TRY(tg_buf_reserve(url, 1));
    url->data[url->len] = '\0';
    return TG_OK;
}
