#include "core/config/config_spec.h"

#include <inttypes.h>
#include <string.h>

#include "core/config/config.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS   (60 * MINUTE_MS)
#define DAY_MS    (24 * HOUR_MS)
#define KIB       INT64_C(1024)
#define MIB       (1024 * KIB)
#define GIB       (1024 * MIB)

/* --- what may be written, section by section ---------------------------------------------------*/

static const struct tg_option_spec root_specs[] = {
    {"workers", TG_OPT_INT, "0", false, 0, 256, NULL, "ingest threads; 0 = one per core"},
    {"log_level", TG_OPT_ENUM, "info", false, 0, 0, "debug|info|warn|error",
     "least severe message written to stderr"},
    {0},
};
static const struct tg_option_spec listen_specs[] = {
    {"http", TG_OPT_STRING, "127.0.0.1:4318", false, 0, 0, NULL,
     "address of all HTTP receivers (OTLP, remote write, Influx lines); port 0 = any free one"},
    {"admin", TG_OPT_STRING, "127.0.0.1:4320", false, 0, 0, NULL,
     "address of metrics, health, status page, query, reload and rewind; keep it private"},
    {"hosts", TG_OPT_STRING, NULL, false, 0, 0, NULL,
     "names, or a list of them, by which the admin port is asked, beside localhost and IP "
     "addresses: a request for any other name is refused (403)"},
    {"origins", TG_OPT_STRING, NULL, false, 0, 0, NULL,
     "sites whose web pages may send metrics from a browser, as \"https://app.example.com\", a "
     "list of them, or \"*\"; pages of other sites are refused (403)"},
    {0},
};
static const struct tg_option_spec log_specs[] = {
    {"dir", TG_OPT_PATH, "data/log", false, 0, 0, NULL, "folder of segments and cursors"},
    {"sync", TG_OPT_ENUM, "always", false, 0, 0, "always|interval|never",
     "when written points reach the disk: before the acknowledgement, every sync_interval, or "
     "left to the kernel"},
    {"sync_interval", TG_OPT_DURATION, "1s", false, 10, MINUTE_MS, NULL,
     "for sync = \"interval\": most that a power loss can take"},
    {"max_bytes", TG_OPT_BYTES, "4GiB", false, MIB, INT64_C(1) << 50, NULL,
     "all segments together; at the limit new data is refused (503, come back later)"},
    {"segment_bytes", TG_OPT_BYTES, "64MiB", false, 64 * KIB, 4 * GIB, NULL,
     "size of one file; lowered to an eighth of max_bytes"},
    {"segment_age", TG_OPT_DURATION, "1h", false, SECOND_MS, 30 * DAY_MS, NULL,
     "a file is closed at this age even when small"},
    {"keep", TG_OPT_DURATION, "24h", false, 0, 45 * DAY_MS, NULL,
     "delivered data stays this long for rewinds, while there is room"},
    {"queue_batches", TG_OPT_INT, "1024", false, 1, 1000000, NULL,
     "requests that may wait for the disk"},
    {"queue_points", TG_OPT_INT, "4194304", false, 1000, 1000000000, NULL,
     "points that may wait for the disk"},
    {0},
};
static const struct tg_option_spec rules_specs[] = {
    {"tags", TG_OPT_PATH, NULL, false, 0, 0, NULL, "script that maps tags; unset = keep them"},
    {"routing", TG_OPT_PATH, NULL, false, 0, 0, NULL,
     "script that picks backends; unset = every backend"},
    {"strategy", TG_OPT_PATH, NULL, false, 0, 0, NULL,
     "script that picks what an acknowledgement waits for; unset = the log only"},
    {"retention", TG_OPT_PATH, NULL, false, 0, 0, NULL,
     "script that says how long data is kept; unset = for ever"},
    {"on_error", TG_OPT_STRING, "all", false, 0, 0, NULL,
     "backends of a series whose rules failed: \"all\", a name, or a list of names"},
    {"on_merge", TG_OPT_ENUM, "warn", false, 0, 0, "warn|dead_letter",
     "when the rules make one series of several: backends get the points of all of them for it, or "
     "those of the first only"},
    {"max_instructions", TG_OPT_INT, "1000000", false, 1000, 1000000000, NULL,
     "Lua instructions per rule and series"},
    {"max_time", TG_OPT_DURATION, "50ms", false, 1, MINUTE_MS, NULL,
     "processor time per rule and series"},
    {"max_request_time", TG_OPT_DURATION, "2s", false, 1, MINUTE_MS, NULL,
     "time for all new series of one request; over it 503: the sender's next try comes further"},
    {"trial_time", TG_OPT_DURATION, "10s", false, 0, HOUR_MS, NULL,
     "a reload first decides the live series with the new rules, for so long; 0 = none of them"},
    {"max_memory", TG_OPT_BYTES, "32MiB", false, MIB, 4 * GIB, NULL, "memory of one Lua VM"},
    {0},
};
static const struct tg_option_spec limits_specs[] = {
    {"series", TG_OPT_INT, "1000000", false, 1, INT64_C(1000000000), NULL,
     "live series; points of further ones are refused and counted"},
    {"raw_keys", TG_OPT_INT, "0", false, 0, INT64_C(4000000000), NULL,
     "remembered spellings of series; 0 = four per series"},
    {"idle_series", TG_OPT_DURATION, "1h", false, 0, 365 * DAY_MS, NULL,
     "a series without points for so long is forgotten; 0 = never"},
    {"tags_per_series", TG_OPT_INT, "128", false, 1, 1024, NULL, "tags of one series"},
    {"name_bytes", TG_OPT_BYTES, "1KiB", false, 1, 64 * KIB, NULL, "length of a metric name"},
    {"tag_key_bytes", TG_OPT_BYTES, "1KiB", false, 1, 64 * KIB, NULL, "length of a tag's name"},
    {"tag_value_bytes", TG_OPT_BYTES, "4KiB", false, 1, 64 * KIB, NULL, "length of a tag's value"},
    {"body", TG_OPT_BYTES, "64MiB", false, KIB, 4 * GIB, NULL, "one request as sent (413 over it)"},
    {"decompressed", TG_OPT_BYTES, "256MiB", false, KIB, 16 * GIB, NULL,
     "one request after decompression (413 over it)"},
    {"inflight", TG_OPT_BYTES, "512MiB", false, KIB, INT64_C(1) << 50, NULL,
     "request bodies held at once (503 over it)"},
    {"headers", TG_OPT_BYTES, "16KiB", false, KIB, 64 * KIB, NULL,
     "headers of one request (431 over it)"},
    {"connections", TG_OPT_INT, "4096", false, 1, 1000000, NULL,
     "open connections of senders (503 over it)"},
    {"header_timeout", TG_OPT_DURATION, "10s", false, 10, HOUR_MS, NULL,
     "for the headers of a request (408 over it)"},
    {"request_timeout", TG_OPT_DURATION, "60s", false, 10, HOUR_MS, NULL,
     "for the body of a request (408 over it)"},
    {"idle_timeout", TG_OPT_DURATION, "120s", false, 10, DAY_MS, NULL,
     "an unused connection is closed after this"},
    {"ack_timeout", TG_OPT_DURATION, "10s", false, 1, HOUR_MS, NULL,
     "a request waits so long for log and backends, then 503: come back later"},
    {"drain_timeout", TG_OPT_DURATION, "30s", false, 0, HOUR_MS, NULL,
     "at shutdown, open requests and running deliveries get so long"},
    {"memory", TG_OPT_BYTES, "0", false, 0, INT64_C(1) << 50, NULL,
     "all memory of the gateway; 0 = three quarters of the machine's (or container's)"},
    {0},
};
static const struct tg_option_spec dead_letters_specs[] = {
    {"dir", TG_OPT_PATH, "data/dead", false, 0, 0, NULL,
     "points that a backend refused permanently, with its reason: <backend>.jsonl"},
    {"max_bytes", TG_OPT_BYTES, "256MiB", false, 64 * KIB, INT64_C(1) << 50, NULL,
     "per backend; at it the backend stalls (nothing is dropped) until the file is moved away"},
    {0},
};
static const struct tg_option_spec backend_specs[] = {
    {"type", TG_OPT_STRING, NULL, true, 0, 0, NULL, "parquet, influxdb or prometheus"},
    {"from", TG_OPT_ENUM, "start", false, 0, 0, "start|now",
     "a new backend gets what the log still holds, or only what comes from now on"},
    {"batch_points", TG_OPT_INT, "0", false, 0, 10000000, NULL,
     "most points per delivery; 0 = what suits the type"},
    {"linger", TG_OPT_DURATION, NULL, false, 0, HOUR_MS, NULL,
     "wait so long for a fuller delivery; unset = what suits the type"},
    {"retry_min", TG_OPT_DURATION, "250ms", false, 1, HOUR_MS, NULL,
     "wait after the first failed try; doubles, with jitter"},
    {"retry_max", TG_OPT_DURATION, "30s", false, 1, HOUR_MS, NULL, "longest wait between tries"},
    {"health_every", TG_OPT_DURATION, "10s", false, 100, HOUR_MS, NULL, "between health checks"},
    {0},
};

const struct tg_config_section tg_config_sections[TG_CONFIG_N_SECTIONS] = {
    {"", root_specs, "Top level"},
    {"listen", listen_specs, "Addresses, as \"host:port\" or \":port\""},
    {"log", log_specs, "The durable log"},
    {"rules", rules_specs, "The operator's scripts and their budgets"},
    {"limits", limits_specs, "What is refused, and when"},
    {"dead_letters", dead_letters_specs, "Where points go that a backend refuses permanently"},
    {"backends", backend_specs, "Every entry `name = { type = ..., ... }` of backends"},
};

/* --- documentation ----------------------------------------------------------------------------*/

static void print_number(FILE *out, enum tg_option_type type, int64_t v)
{
    static const struct {
        enum tg_option_type type;
        int64_t factor;
        const char *unit;
    } units[] = {
        {TG_OPT_BYTES, INT64_C(1) << 40, "TiB"},
        {TG_OPT_BYTES, GIB, "GiB"},
        {TG_OPT_BYTES, MIB, "MiB"},
        {TG_OPT_BYTES, KIB, "KiB"},
        {TG_OPT_DURATION, DAY_MS, "d"},
        {TG_OPT_DURATION, HOUR_MS, "h"},
        {TG_OPT_DURATION, MINUTE_MS, "m"},
        {TG_OPT_DURATION, SECOND_MS, "s"},
        {TG_OPT_DURATION, 1, "ms"},
    };
    for (size_t i = 0; v != 0 && i < sizeof(units) / sizeof(units[0]); i++) {
        if (units[i].type != type || v % units[i].factor != 0) continue;
        (void)fprintf(out, "%" PRId64 "%s", v / units[i].factor, units[i].unit);
        return;
    }
    (void)fprintf(out, "%" PRId64, v);
}

static void print_table(FILE *out, const struct tg_option_spec *specs)
{
    static const char *const types[] = {
        [TG_OPT_STRING] = "text", [TG_OPT_BYTES] = "size",      [TG_OPT_DURATION] = "duration",
        [TG_OPT_INT] = "number",  [TG_OPT_BOOL] = "true/false", [TG_OPT_ENUM] = "one of",
        [TG_OPT_PATH] = "path"};
    (void)fprintf(out, "| key | value | default | what it does |\n|---|---|---|---|\n");
    for (const struct tg_option_spec *s = specs; s->name; s++) {
        (void)fprintf(out, "| `%s` | %s", s->name, types[s->type]);
        if (s->choices) {
            for (const char *p = s->choices; *p;) {
                const size_t n = strcspn(p, "|");
                (void)fprintf(out, " `%.*s`", (int)n, p);
                p += n + (p[n] == '|');
            }
        }
        if (s->min || s->max) {
            (void)fprintf(out, ", ");
            print_number(out, s->type, s->min);
            (void)fprintf(out, " to ");
            print_number(out, s->type, s->max);
        }
        if (s->required)
            (void)fprintf(out, " | required | %s |\n", s->help);
        else if (s->def)
            (void)fprintf(out, " | `%s` | %s |\n", s->def, s->help);
        else
            (void)fprintf(out, " | | %s |\n", s->help);
    }
    (void)fprintf(out, "\n");
}

void tg_config_print_options(FILE *out)
{
    for (size_t i = 0; i < TG_CONFIG_N_SECTIONS; i++) {
        if (i == TG_CONFIG_ROOT)
            (void)fprintf(out, "### %s\n\n", tg_config_sections[i].help);
        else
            (void)fprintf(out, "### `%s`\n\n%s.\n\n", tg_config_sections[i].name,
                          tg_config_sections[i].help);
        print_table(out, tg_config_sections[i].specs);
    }
    for (size_t i = 0; tg_backend_types[i]; i++) {
        (void)fprintf(out, "### Backend type `%s`\n\n", tg_backend_types[i]->type);
        if (tg_backend_types[i]->options[0].name) print_table(out, tg_backend_types[i]->options);
    }
}
