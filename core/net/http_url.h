/* http_url.h: what a URL of the configuration must be, before anything is sent to it.
 *
 * A URL may hold a secret (a password before the host, a token in path or query), and a malformed
 * one may hold it anywhere: no message ever quotes one.
 *
 * Threading: no shared state.
 */
#ifndef TG_NET_HTTP_URL_H
#define TG_NET_HTTP_URL_H

#include "core/base/err.h"

/* Accepts http://host[:port][/path] and https://... NULL is no URL. `what` is the name of the
 * setting, for the message. TG_ERR_INVALID for everything else, also for user and password within
 * the URL (there are settings for them), a query or a fragment. */
TG_MUST_CHECK enum tg_code tg_http_url_check(const char *url, const char *what, struct tg_err *err);

#endif
