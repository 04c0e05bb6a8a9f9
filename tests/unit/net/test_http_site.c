/* Which hosts and URLs are let through: by table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/net/http_site.h"
#include "core/net/http_url.h"

static void test_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *host, *names;
        bool allowed;
    } rows[] = {
        {NULL, NULL, true},
        {"localhost", NULL, true},
        {"LocalHost:4320", NULL, true},
        {"localhost.", NULL, true},
        {"gw.localhost:1", NULL, true},
        {"127.0.0.1:4320", NULL, true},
        {"10.1.2.3", NULL, true},
        {"[::1]:4320", NULL, true},
        {"[fe80::1]", NULL, true},
        {"", NULL, false},
        {"evil.example", NULL, false},
        {"evil.example:4320", NULL, false},
        {"notlocalhost", NULL, false},
        {"localhost.evil.example", NULL, false},
        {"127.0.0.1.evil.example", NULL, false},
        {"127.0.0.1evil", NULL, false},
        {"127.1", NULL, false}, /* a name to a resolver */
        {"[::1", NULL, false},
        {"[::1]x", NULL, false},
        {"[evil]", NULL, false},
        {"gw", "gw", true},
        {"GW:4320", "a, gw ,b", true},
        {"gw.example", "gw", false},
        {"g", "gw", false},
        {"gw", "", false},
        {",", ",", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (tg_http_host_allowed(rows[i].host, rows[i].names) != rows[i].allowed)
            fail_msg("host \"%s\" with names \"%s\"", rows[i].host ? rows[i].host : "(none)",
                     rows[i].names ? rows[i].names : "(none)");
}

static void test_media_types(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        bool is_it;
        const char *proto; /* NULL: no such parameter */
    } rows[] = {
        {"application/x-protobuf", true, NULL},
        {"APPLICATION/X-PROTOBUF", true, NULL},
        {"application/x-protobuf;proto=a.B", true, "a.B"},
        {"application/x-protobuf ; charset=utf-8; Proto=\"a b\" ;x", true, "a b"},
        {"application/x-protobuf;proto", true, NULL},
        {"application/x-protobuf;notproto=a", true, NULL},
        {"application/x-protobuf;x=\"proto=no\";proto=yes", true, "yes"},
        {"application/x-protobuf;proto=12345678901234567890", true, NULL}, /* longer than asked */
        {"application/x-protobufs", false, NULL},
        {"application/x-proto", false, NULL},
        {"", false, NULL},
        {";proto=a", false, "a"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char proto[16] = "";
        const bool has = tg_http_media_type_param(rows[i].header, "proto", proto, sizeof(proto));
        if (tg_http_media_type_is(rows[i].header, "application/x-protobuf") != rows[i].is_it)
            fail_msg("media type \"%s\"", rows[i].header);
        if (has != (rows[i].proto != NULL) || (has && strcmp(proto, rows[i].proto) != 0))
            fail_msg("proto of \"%s\": \"%s\"", rows[i].header, proto);
    }
}

/* Whatever is wrong with a URL, what it holds is not shown. */
static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *why; /* NULL: accepted */
    } rows[] = {
        {"http://h", NULL},
        {"http://h:1/a/b", NULL},
        {"HTTPS://[::1]:8086/", NULL},
        {"http://h_1:80", NULL},
        {NULL, "is not like http://host:port"},
        {"", "is not like http://host:port"},
        {"h:1", "is not like http://host:port"},
        {"ftp://s3cret@h", "is not like http://host:port"},
        {"http://", "is not like http://host:port"},
        {"http://:80", "is not like http://host:port"},
        {"http:///s3cret", "is not like http://host:port"},
        {"http://h:s3cret", "is not like http://host:port"},
        {"http://u:s3cret@h:99999", "is not like http://host:port"},
        {"http://u:s3 cret@h", "is not like http://host:port"},
        {"http://u:s3cret@h\n", "is not like http://host:port"},
        {"http://u:s3cret@", "is not like http://host:port"},
        {"http://u:s3cret@h", "set username and password"},
        {"http://u@h", "set username and password"},
        {"http://:s3cret@h:1/p", "set username and password"},
        {"http://h/p?token=s3cret", "has a query"},
        {"http://h/p#s3cret", "has a query"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tg_err err = {.msg = ""};
        const enum tg_code code = tg_http_url_check(rows[i].url, "url", &err);
        if (!rows[i].why) {
            if (code != TG_OK) fail_msg("%s: %s", rows[i].url, err.msg);
        } else if (code != TG_ERR_INVALID || !strstr(err.msg, rows[i].why) ||
                   strstr(err.msg, "s3") != NULL) {
            fail_msg("%s: code %d, %s", rows[i].url, code, err.msg);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_media_types),
        cmocka_unit_test(test_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
