/* http_site.h: whether a request comes from a web page that must not reach this server.
 *
 * A browser on the operator's machine sends what any page asks for. Three headers tell on it, and
 * no page can change them:
 *   - Origin (RFC 6454, 7) names the page's site on every POST and on every cross-site request.
 *   - Sec-Fetch-Site says whether that site is this one, on every request of today's browsers to an
 *     address that they trust (https, and loopback by http).
 *   - Host names the site that the browser believes to talk to. A site whose name was made to
 *     resolve to a loopback address ("DNS rebinding") is of the same origin as itself, so only its
 *     name betrays it. A name that cannot be rebound is an IP address or a loopback name
 *     (localhost and below it, RFC 6761, 6.3).
 * Programs other than browsers send no Origin, and their Host is whatever they were told.
 *
 * Lists are texts with commas between the items, as the configuration gives them; NULL = empty.
 *
 * Threading: no shared state.
 */
#ifndef TG_NET_HTTP_SITE_H
#define TG_NET_HTTP_SITE_H

#include <stdbool.h>

#include "core/net/http_server.h"

/* `host` is the value of a Host header: name or address, with or without a port; NULL = there was
 * none (HTTP/1.0), which no browser does. True for IP literals, loopback names and items of
 * `names`, compared without case and without the port of `host`. */
bool tg_http_host_allowed(const char *host, const char *names);

/* True without an Origin header, and for one that `origins` holds ("https://app.example.com";
 * "*" = any). "null", which sandboxed pages and files send, is matched by "*" alone. */
bool tg_http_origin_allowed(const struct tg_http_request *r, const char *origins);

/* True without an Origin header, and for one whose host and port are those of the Host header: a
 * page that this server gave out itself. Means something only when the Host is allowed. */
bool tg_http_origin_is_own(const struct tg_http_request *r);

/* Whether a browser says that it asks for a page of another site (Sec-Fetch-Site, w3.org/TR/
 * fetch-metadata: anything but same-origin, and none, which is the user's own doing). It says so
 * without an Origin, too: an image or a script of another site has none. */
bool tg_http_fetch_is_foreign(const struct tg_http_request *r);

/* Whether it asks for a page to show by itself (Sec-Fetch-Mode: navigate), as for a link that was
 * followed: the site that the link is on does not see the answer. A frame does not count: the site
 * around it decides what is clicked on. */
bool tg_http_fetch_navigates(const struct tg_http_request *r);

#endif
