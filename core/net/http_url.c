#include "core/net/http_url.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

static bool has_part(CURLU *u, CURLUPart part)
{
    char *text = NULL;
    const bool has = curl_url_get(u, part, &text, 0) == CURLUE_OK && text && *text;
    curl_free(text);
    return has;
}

enum tg_code tg_http_url_check(const char *url, const char *what, struct tg_err *err)
{
    const size_t scheme = !url                                   ? 0
                          : strncasecmp(url, "http://", 7) == 0  ? 7
                          : strncasecmp(url, "https://", 8) == 0 ? 8
                                                                 : 0;
    CURLU *u = curl_url();
    if (!u) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    enum tg_code code = TG_OK;
    /* curl takes a third slash, and white space in a path, which a request line cannot carry. */
    const bool is_odd = scheme == 0 || url[scheme] == '/' || strpbrk(url, " \t\r\n");
    const CURLUcode rc = is_odd ? CURLUE_MALFORMED_INPUT : curl_url_set(u, CURLUPART_URL, url, 0);
    if (rc == CURLUE_OUT_OF_MEMORY)
        code = tg_fail(err, TG_ERR_NOMEM, "out of memory");
    else if (rc == CURLUE_OK && (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD)))
        code = tg_fail(err, TG_ERR_INVALID,
                       "%s holds a user or a password, which would be shown with it; set username "
                       "and password = env(\"...\") instead",
                       what);
    else if (rc != CURLUE_OK || !has_part(u, CURLUPART_HOST))
        code = tg_fail(err, TG_ERR_INVALID,
                       "%s is not like http://host:port or https://host:port (%s; it is not shown, "
                       "as it may hold a secret)",
                       what, !url ? "there is none" : curl_url_strerror(rc));
    else if (has_part(u, CURLUPART_QUERY) || has_part(u, CURLUPART_FRAGMENT))
        code =
            tg_fail(err, TG_ERR_INVALID,
                    "%s has a query (?) or a fragment (#); only a path may follow the host", what);
    curl_url_cleanup(u);
    return code;
}
