/* admin_call.h: one blocking HTTP call, for commands that talk to a running gateway.
 *
 * Threading: one thread; makes and frees its own loop.
 */
#ifndef TG_CLIENT_ADMIN_CALL_H
#define TG_CLIENT_ADMIN_CALL_H

#include "core/base/buf.h"

struct tg_admin_answer {
    int status;
    struct tg_buf body; /* NUL-terminated beyond len */
};

/* `method` "GET" or "POST" (without a body). TG_OK with any HTTP status; else the message says that
 * nobody answers at `url` and what to check. The answer is the caller's: tg_admin_answer_deinit,
 * also after a failure. */
TG_MUST_CHECK enum tg_code tg_admin_call(const char *method, const char *url, uint32_t timeout_ms,
                                         struct tg_admin_answer *out, struct tg_err *err);
void tg_admin_answer_deinit(struct tg_admin_answer *a);

/* The text of {"error": "..."}; the body itself when it is not that. Borrows from `scratch` or the
 * body. */
const char *tg_admin_answer_error(const struct tg_admin_answer *a, char *scratch, size_t cap);

/* Appends "?name=value" or "&name=value" (the former when the buffer has no '?' yet), with a NUL
 * beyond len. NULL value = nothing. */
TG_MUST_CHECK enum tg_code tg_url_param(struct tg_buf *url, const char *name, const char *value);

#endif
