/* What Influx clients ask beside their writes, before the first one or now and then: /ping,
 * /health, /ready, and InfluxQL statements at /query that make or list databases. The gateway has
 * no databases (a sender's database is not part of a series), so making one succeeds and does
 * nothing. Whatever else is asked is refused in the shapes that InfluxDB 1 answers in
 * (docs.influxdata.com, "InfluxDB 1.8 API reference"): an unknown word is a parse error with status
 * 400, a statement that cannot be done is an error within a result. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/clock.h"
#include "core/base/time_text.h"
#include "core/receive/receive.h"

enum { MAX_STATEMENTS = 64, MAX_QUERY_BYTES = 64 << 10 };

static const struct tg_http_header_pair version_header = {"X-Influxdb-Version",
                                                          "tidegate-" TG_VERSION};

static void reply_json(struct tg_http_request *req, int status, json_t *j)
{
    char *body = j ? json_dumps(j, JSON_COMPACT) : NULL;
    tg_http_reply(req, body ? status : 503, "application/json", body, body ? strlen(body) : 0,
                  &version_header, 1);
    free(body);
    json_decref(j);
}

static void reply_error(struct tg_http_request *req, int status, const char *text)
{
    reply_json(req, status, json_pack("{s:s}", "error", text));
}

/* --- /ready and /health --- */

/* InfluxDB 2: {"status":"ready","started":"2026-01-31T12:00:00Z","up":"1h2m3s"}; 503 while not. */
static void answer_ready(struct tg_http_request *req, const char *not_ready, int64_t start_ns)
{
    const int64_t up_s = (tg_clock_wall_ns() - start_ns) / 1000000000;
    char started[TG_TIME_TEXT_MAX], up[48];
    (void)tg_time_text(started, start_ns, 0);
    (void)snprintf(up, sizeof(up), "%lldh%lldm%llds", (long long)(up_s / 3600),
                   (long long)(up_s / 60 % 60), (long long)(up_s % 60));
    if (not_ready)
        reply_json(req, 503, json_pack("{s:s, s:s}", "code", "unavailable", "message", not_ready));
    else
        reply_json(req, 200,
                   json_pack("{s:s, s:s, s:s}", "status", "ready", "started", started, "up", up));
}

static void answer_health(struct tg_http_request *req, const char *not_ready)
{
    reply_json(req, not_ready ? 503 : 200,
               json_pack("{s:s, s:s, s:s, s:s}", "name", "tidegate", "status",
                         not_ready ? "fail" : "pass", "message",
                         not_ready ? not_ready : "ready for writes", "version",
                         "tidegate-" TG_VERSION));
}

/* --- /query --- */

/* A word of a statement: letters, digits and underscores. NULL at its end. */
static const char *next_word(const char **p, const char *end, size_t *len)
{
    const char *s = *p;
    while (s < end && (*s == ' ' || *s == '\t' || *s == '\r' || *s == '\n')) s++;
    const char *w = s;
    while (w < end && ((*w >= 'a' && *w <= 'z') || (*w >= 'A' && *w <= 'Z') ||
                       (*w >= '0' && *w <= '9') || *w == '_'))
        w++;
    *p = w;
    *len = (size_t)(w - s);
    return s < end ? s : NULL;
}

static bool is_word(const char *word, size_t len, const char *want)
{
    return word && strlen(want) == len && strncasecmp(word, want, len) == 0;
}

/* A statement ends at a semicolon outside of quotes. */
static const char *statement_end(const char *p, const char *end)
{
    char quote = 0;
    for (; p < end; p++) {
        if (quote) {
            if (*p == '\\' && p + 1 < end)
                p++;
            else if (*p == quote)
                quote = 0;
        } else if (*p == '"' || *p == '\'') {
            quote = *p;
        } else if (*p == ';') {
            return p;
        }
    }
    return end;
}

static const char first_words[] =
    "SELECT, DELETE, SHOW, CREATE, DROP, EXPLAIN, GRANT, REVOKE, ALTER, SET, KILL";

static bool is_statement(const char *word, size_t len)
{
    for (const char *p = first_words; *p;) {
        const size_t n = strcspn(p, ",");
        if (n == len && strncasecmp(p, word, n) == 0) return true;
        p += n;
        p += strspn(p, ", ");
    }
    return false;
}

/* The result of one statement, owned; NULL: not a statement (*word says at what), or no memory. */
static json_t *result_of(const char *p, const char *end, int id, const char **word, size_t *len)
{
    *word = next_word(&p, end, len);
    if (!*word || !is_statement(*word, *len)) return NULL;
    size_t second_len;
    const char *second = next_word(&p, end, &second_len);
    if (is_word(*word, *len, "CREATE") && is_word(second, second_len, "DATABASE"))
        return json_pack("{s:i}", "statement_id", id);
    if (is_word(*word, *len, "SHOW") && is_word(second, second_len, "DATABASES"))
        return json_pack("{s:i, s:[{s:s, s:[s], s:[[s]]}]}", "statement_id", id, "series", "name",
                         "databases", "columns", "name", "values", "tidegate");
    return json_pack("{s:i, s:s}", "statement_id", id, "error",
                     "not executed: this is Tidegate, a gateway that takes writes; send queries to "
                     "the database behind it");
}

static void answer_statements(struct tg_http_request *req, const char *q)
{
    const char *end = q + strlen(q);
    json_t *results = json_array();
    int id = 0;
    char text[240], quoted[60];
    for (const char *p = q; p < end;) {
        const char *stop = statement_end(p, end);
        const char *word = NULL;
        size_t len;
        json_t *result = id < MAX_STATEMENTS ? result_of(p, stop, id, &word, &len) : NULL;
        if (id == MAX_STATEMENTS) {
            (void)snprintf(text, sizeof(text), "error parsing query: more than %d statements",
                           MAX_STATEMENTS);
        } else if (!result && word) {
            (void)snprintf(text, sizeof(text),
                           "error parsing query: found %s, expected %s at line 1, char %d",
                           len ? tg_quote(quoted, sizeof(quoted), word, len) : "no word",
                           first_words, (int)(word - q) + 1);
        }
        if (result) {
            (void)json_array_append_new(results, result);
            id++;
        } else if (word || id == MAX_STATEMENTS) {
            json_decref(results);
            reply_error(req, 400, text);
            return;
        }
        p = stop + 1;
    }
    reply_json(req, 200, json_pack("{s:o}", "results", results));
}

static void answer_query(struct tg_http_request *req)
{
    struct tg_buf form;
    tg_buf_init(&form, MAX_QUERY_BYTES);
    const char *q = tg_http_query(req, "q", 0);
    const char *type = tg_http_header(req, "Content-Type");
    enum tg_code code = TG_OK;
    if (!q && type && tg_http_media_type_is(type, "application/x-www-form-urlencoded")) {
        code = tg_http_form_value(req, "q", &form);
        if (code == TG_OK) q = (const char *)form.data;
    }
    if (q && *q)
        answer_statements(req, q);
    else if (code == TG_OK || code == TG_ERR_NOT_FOUND)
        reply_error(req, 400, "missing required parameter \"q\"");
    else
        reply_error(req, tg_code_http_status(code), "the query is too long");
    tg_buf_deinit(&form);
}

bool tg_influx_answer_probe(struct tg_http_request *req, const char *not_ready, int64_t start_ns)
{
    const char *path = tg_http_path(req);
    if (strcmp(path, "/ping") == 0)
        tg_http_reply(req, 204, NULL, NULL, 0, &version_header, 1);
    else if (strcmp(path, "/health") == 0)
        answer_health(req, not_ready);
    else if (strcmp(path, "/ready") == 0)
        answer_ready(req, not_ready, start_ns);
    else if (strcmp(path, "/query") == 0)
        answer_query(req);
    else
        return false;
    return true;
}
