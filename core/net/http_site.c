#include "core/net/http_site.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

enum { MAX_HOST_BYTES = 256 };

/* The length of the host within "host", "host:port" and "[v6]:port"; 0 = it is none of these. */
static size_t host_len(const char *host)
{
    if (*host == '[') {
        const char *close = strchr(host, ']');
        return close && (close[1] == '\0' || close[1] == ':') ? (size_t)(close - host) + 1 : 0;
    }
    return strcspn(host, ":");
}

/* Finds `len` bytes of `item` among the items of `list`, without case. */
static bool list_has(const char *list, const char *item, size_t len)
{
    for (const char *p = list; p && *p;) {
        p += strspn(p, " ,");
        const size_t n = strcspn(p, ",");
        size_t trimmed = n;
        while (trimmed > 0 && p[trimmed - 1] == ' ') trimmed--;
        if (trimmed == len && strncasecmp(p, item, len) == 0) return true;
        p += n;
    }
    return false;
}

static bool is_ip_literal(const char *host, size_t len)
{
    char text[MAX_HOST_BYTES];
    struct in6_addr address;
    const bool is_v6 = host[0] == '[';
    const size_t skip = is_v6 ? 1 : 0;
    if (len < 2 * skip || len - 2 * skip >= sizeof(text)) return false;
    memcpy(text, host + skip, len - 2 * skip);
    text[len - 2 * skip] = '\0';
    return inet_pton(is_v6 ? AF_INET6 : AF_INET, text, &address) == 1;
}

static bool is_loopback_name(const char *host, size_t len)
{
    static const char name[] = "localhost";
    const size_t n = sizeof(name) - 1;
    if (len > 0 && host[len - 1] == '.') len--; /* fully qualified */
    if (len < n || strncasecmp(host + len - n, name, n) != 0) return false;
    return len == n || host[len - n - 1] == '.';
}

bool tg_http_host_allowed(const char *host, const char *names)
{
    if (!host) return true;
    const size_t len = host_len(host);
    return len > 0 &&
           (is_ip_literal(host, len) || is_loopback_name(host, len) || list_has(names, host, len));
}

bool tg_http_origin_allowed(const struct tg_http_request *r, const char *origins)
{
    const char *origin = tg_http_header(r, "Origin");
    return !origin || list_has(origins, "*", 1) || list_has(origins, origin, strlen(origin));
}

bool tg_http_origin_is_own(const struct tg_http_request *r)
{
    const char *origin = tg_http_header(r, "Origin");
    const char *host = tg_http_header(r, "Host");
    if (!origin) return true;
    const char *p = strstr(origin, "://");
    return p && host && strcasecmp(p + 3, host) == 0;
}

bool tg_http_fetch_is_foreign(const struct tg_http_request *r)
{
    const char *site = tg_http_header(r, "Sec-Fetch-Site");
    return site && strcasecmp(site, "same-origin") != 0 && strcasecmp(site, "none") != 0;
}

bool tg_http_fetch_navigates(const struct tg_http_request *r)
{
    const char *mode = tg_http_header(r, "Sec-Fetch-Mode");
    const char *dest = tg_http_header(r, "Sec-Fetch-Dest");
    return mode && strcasecmp(mode, "navigate") == 0 &&
           (!dest || strcasecmp(dest, "document") == 0);
}
