/* cmd_send.c: `tidegate send`: this machine's metrics, generated load or files to a gateway. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/app/cmd.h"
#include "core/base/clock.h"
#include "core/client/host_metrics.h"
#include "core/client/load_generator.h"
#include "core/client/sender.h"
#include "core/codec/compress.h"
#include "core/protocol/influx_line.h"
#include "core/protocol/otlp.h"
#include "core/protocol/remote_write.h"

enum { MAX_FILE_BYTES = 1 << 30, CHUNK_BYTES = 1 << 20 };

static volatile bool stopped;

static void on_signal(int number)
{
    (void)number;
    if (stopped) _exit(130);
    stopped = true;
}

struct sending {
    const struct tg_args *args;
    struct tg_sender *sender;
    enum tg_send_protocol protocol;
    uint64_t begin_ms;
    uint64_t n_wanted; /* points, or bytes of a file; 0 = without end */
    uint64_t n_done;   /* of what is wanted */
    bool is_terminal;
    bool ends_at_give_up; /* a host goes on: its gateway may come back */
};

/* --- progress and summary
 * -----------------------------------------------------------------------*/

static double elapsed_s(const struct sending *s)
{
    const double t = (double)(tg_clock_mono_ms() - s->begin_ms) / 1000;
    return t > 0.001 ? t : 0.001;
}

static void on_tick(void *arg)
{
    const struct sending *s = arg;
    if (!s->is_terminal) return;
    const struct tg_sender_stats *t = tg_sender_stats(s->sender);
    char points[32], rate[32];
    (void)tg_format_count(points, sizeof(points), (double)t->n_taken);
    (void)tg_format_count(rate, sizeof(rate), (double)t->n_taken / elapsed_s(s));
    if (s->n_wanted) {
        enum { WIDTH = 30 };
        const double done = (double)s->n_done / (double)s->n_wanted;
        const int filled = (int)(done * WIDTH);
        (void)fprintf(stderr, "\r[%.*s%*s] %3.0f%%  %s points, %s/s", filled,
                      "##############################", WIDTH - filled, "", done * 100, points,
                      rate);
    } else {
        (void)fprintf(stderr, "\r%s points, %s/s, %.0f s", points, rate, elapsed_s(s));
    }
    if (t->n_retries) (void)fprintf(stderr, ", %" PRIu64 " retries", t->n_retries);
    (void)fprintf(stderr, "\033[K");
}

static int summary(const struct sending *s)
{
    const struct tg_sender_stats *t = tg_sender_stats(s->sender);
    char rate[32], bytes[32];
    if (s->is_terminal) (void)fprintf(stderr, "\r\033[K");
    (void)printf("%" PRIu64 " points taken in %.1f s (%s/s), %s in %" PRIu64 " requests",
                 t->n_taken, elapsed_s(s),
                 tg_format_count(rate, sizeof(rate), (double)t->n_taken / elapsed_s(s)),
                 tg_format_bytes(bytes, sizeof(bytes), t->bytes), t->n_requests);
    if (t->n_retries) (void)printf(", %" PRIu64 " retries", t->n_retries);
    if (t->n_refused) (void)printf(", %" PRIu64 " points refused", t->n_refused);
    if (t->n_given_up) (void)printf(", %" PRIu64 " points given up", t->n_given_up);
    (void)printf("\n");
    if (t->n_refused) return tg_command_failed(s->args->cmd, "refused: %s", t->message);
    if (t->n_given_up) return tg_command_failed(s->args->cmd, "%s", t->message);
    return TG_EXIT_OK;
}

/* Makes the sender. `query` may be NULL. */
static bool begin(struct sending *s, const char *query)
{
    const struct tg_args *args = s->args;
    int64_t connections = 1, retry_for_ms = 60000;
    if (!tg_args_number(args, "connections", 1, 256, &connections) ||
        !tg_args_duration(args, "retry-for", 0, INT64_C(86400000), &retry_for_ms))
        return false;
    const char *to = tg_args_value(args, "to");
    const struct tg_sender_config config = {
        .base_url = to ? to : "127.0.0.1:4318",
        .protocol = s->protocol,
        .query = query,
        .connections = (unsigned)connections,
        .retry_for_ms = retry_for_ms,
        .ends_at_give_up = s->ends_at_give_up,
        .on_tick = on_tick,
        .arg = s,
        .stop = &stopped,
    };
    struct tg_err err = {.msg = ""};
    if (tg_sender_new(&config, &s->sender, &err) != TG_OK) {
        (void)tg_command_failed(args->cmd, "%s", err.msg);
        return false;
    }
    s->is_terminal = isatty(STDERR_FILENO) && !tg_args_has(args, "quiet");
    s->begin_ms = tg_clock_mono_ms();
    return true;
}

static int finish(struct sending *s, enum tg_code code, const struct tg_err *err)
{
    tg_sender_finish(s->sender);
    const int exit_code = summary(s);
    /* Both were said: by the summary, or by whoever pressed Ctrl-C. */
    if (code != TG_OK && code != TG_ERR_CANCELED && code != TG_ERR_UNAVAILABLE)
        return tg_command_failed(s->args->cmd, "%s", err->msg[0] ? err->msg : "out of memory");
    return exit_code;
}

/* --- host --------------------------------------------------------------------------------------*/

static int send_host(struct sending *s)
{
    const struct tg_args *args = s->args;
    int64_t interval_ms = 1000, count = 0;
    if (!tg_args_duration(args, "interval", 10, INT64_C(86400000), &interval_ms) ||
        !tg_args_number(args, "count", 1, INT64_MAX, &count) || !begin(s, NULL))
        return TG_EXIT_USAGE;
    struct tg_err err = {.msg = ""};
    struct tg_host_metrics *host = tg_host_metrics_new("/proc");
    struct tg_buf body;
    tg_buf_init(&body, 64 << 20);
    enum tg_code code = host ? TG_OK : tg_fail(&err, TG_ERR_NOMEM, "out of memory");
    const uint64_t begin_ms = tg_clock_mono_ms();
    for (uint64_t i = 0; code == TG_OK && !stopped && (count == 0 || i < (uint64_t)count); i++) {
        /* Ticks are counted from the beginning, so that slow answers do not shift them. */
        const uint64_t due_ms = begin_ms + i * (uint64_t)interval_ms;
        const uint64_t now_ms = tg_clock_mono_ms();
        if (due_ms > now_ms) tg_sender_sleep(s->sender, due_ms - now_ms);
        if (stopped) break;
        const struct tg_otlp_item *items;
        uint32_t n;
        code = tg_host_metrics_collect(host, tg_clock_wall_ns(), &items, &n, &err);
        if (code == TG_OK) code = tg_otlp_encode_metrics(items, n, &body, &err);
        if (code == TG_OK) code = tg_sender_submit(s->sender, &body, n, &err);
    }
    const int exit_code = finish(s, code, &err);
    tg_buf_deinit(&body);
    tg_host_metrics_free(host);
    return exit_code;
}

/* --- load --------------------------------------------------------------------------------------*/

struct schedule {
    uint64_t n_turns;
    int64_t begin_ns;
    bool is_paced;
    double turns_per_s;
};

/* Paced load has the times of its sending. Unpaced load is a backlog: one turn a second, so that
 * the last one is now, and no two points of a series share a millisecond. */
static int64_t turn_ns(void *arg, uint64_t turn)
{
    const struct schedule *s = arg;
    if (s->is_paced) return s->begin_ns + (int64_t)((double)turn / s->turns_per_s * 1e9);
    return s->begin_ns - (int64_t)(s->n_turns - turn) * 1000000000;
}

static int send_load(struct sending *s)
{
    const struct tg_args *args = s->args;
    const char *protocol = tg_args_value(args, "protocol");
    const int found = tg_send_protocol_find(protocol ? protocol : "otlp");
    if (found < 0)
        return tg_usage_error(args->cmd, "--protocol %s: it is otlp, remote-write or influx",
                              protocol);
    s->protocol = (enum tg_send_protocol)found;
    int64_t series = 10000, batch = 1000, points = 0, rate = 0;
    if (!tg_args_number(args, "series", 1, 50000000, &series)) return TG_EXIT_USAGE;
    points = series * 10;
    if (!tg_args_number(args, "points", 1, INT64_MAX, &points) ||
        !tg_args_number(args, "batch", 1, 1000000, &batch) ||
        !tg_args_number(args, "rate", 1, 1000000000, &rate) || !begin(s, NULL))
        return TG_EXIT_USAGE;
    s->n_wanted = (uint64_t)points;
    struct schedule schedule = {.n_turns = (uint64_t)((points + series - 1) / series),
                                .begin_ns = tg_clock_wall_ns(),
                                .is_paced = rate > 0,
                                .turns_per_s = (double)rate / (double)series};
    struct tg_err err = {.msg = ""};
    struct tg_load_generator *load = NULL;
    struct tg_buf body;
    tg_buf_init(&body, (size_t)1 << 30);
    enum tg_code code = tg_load_generator_new((uint32_t)series, s->protocol, 1, &load, &err);
    s->begin_ms = tg_clock_mono_ms();
    while (code == TG_OK && !stopped && s->n_done < s->n_wanted) {
        if (rate > 0) {
            const uint64_t due_ms = s->begin_ms + s->n_done * 1000 / (uint64_t)rate;
            const uint64_t now_ms = tg_clock_mono_ms();
            if (due_ms > now_ms) tg_sender_sleep(s->sender, due_ms - now_ms);
        }
        const uint64_t left = s->n_wanted - s->n_done;
        const uint32_t n = (uint32_t)(left < (uint64_t)batch ? left : (uint64_t)batch);
        code = tg_load_generator_body(load, n, turn_ns, &schedule, &body, &err);
        if (code == TG_OK) code = tg_sender_submit(s->sender, &body, n, &err);
        s->n_done += n;
    }
    const int exit_code = finish(s, code, &err);
    tg_buf_deinit(&body);
    tg_load_generator_free(load);
    return exit_code;
}

/* --- files -------------------------------------------------------------------------------------*/

/* Where the last whole line of text[0..len) ends. A newline inside a quoted string does not end a
 * line; quotes count only after the first space that is not escaped (before it they are part of
 * names). Returns 0 when no line ends; `n_lines` counts those that hold points. */
static size_t last_line_end(const char *text, size_t len, bool is_last, uint64_t *n_lines)
{
    size_t end = 0;
    bool in_fields = false, in_quotes = false, is_content = false, is_comment = false;
    *n_lines = 0;
    uint64_t n = 0;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (c == '\\' && i + 1 < len && text[i + 1] != '\n') {
            i++;
            is_content = true;
        } else if (c == '\n' && !in_quotes) {
            n += is_content && !is_comment;
            end = i + 1;
            *n_lines = n;
            in_fields = is_content = is_comment = false;
        } else if (c == '"' && in_fields && !is_comment) {
            in_quotes = !in_quotes;
        } else if (c == '#' && !is_content) {
            is_comment = is_content = true;
        } else if (c == ' ') {
            in_fields |= is_content;
        } else if (c != '\r' && c != '\t') {
            is_content = true;
        }
    }
    if (is_last && end < len) {
        *n_lines = n + (is_content && !is_comment);
        end = len;
    }
    return end;
}

static enum tg_code send_lines(struct sending *s, FILE *f, struct tg_err *err)
{
    struct tg_buf text, body;
    tg_buf_init(&text, MAX_FILE_BYTES);
    tg_buf_init(&body, MAX_FILE_BYTES);
    enum tg_code code = TG_OK;
    bool at_end = false;
    while (code == TG_OK && !stopped && (!at_end || text.len)) {
        code = tg_buf_reserve(&text, CHUNK_BYTES);
        if (code != TG_OK) {
            code = tg_fail(err, code, "a line is longer than %d bytes", MAX_FILE_BYTES);
            break;
        }
        const size_t got = at_end ? 0 : fread(text.data + text.len, 1, CHUNK_BYTES, f);
        if (ferror(f)) {
            code = tg_fail_errno(err, errno, "cannot read");
            break;
        }
        text.len += got;
        at_end = at_end || got == 0;
        uint64_t n_lines;
        const size_t end = last_line_end((const char *)text.data, text.len, at_end, &n_lines);
        if (end == 0) continue;
        code = tg_buf_append(&body, text.data, end);
        s->n_done += end;
        if (code == TG_OK && n_lines) code = tg_sender_submit(s->sender, &body, n_lines, err);
        tg_buf_reset(&body);
        memmove(text.data, text.data + end, text.len - end);
        text.len -= end;
    }
    tg_buf_deinit(&text);
    tg_buf_deinit(&body);
    return code;
}

/* How many points a body holds; 0 when it cannot be read (then the gateway says why). */
static uint64_t count_points(enum tg_send_protocol protocol, const uint8_t *body, size_t len)
{
    const struct tg_table_config config = {.max_series = 10000000};
    struct tg_table *table = tg_table_new(&config);
    if (!table) return 0;
    struct tg_batch batch;
    struct tg_arena arena;
    tg_batch_init(&batch, tg_table_guard(table), 0, 0);
    tg_arena_init(&arena, 0);
    struct tg_intake d = {.table = table, .batch = &batch, .arena = &arena};
    const enum tg_code code = protocol == TG_SEND_OTLP
                                  ? tg_otlp_decode_metrics(body, len, &d, NULL)
                                  : tg_remote_write_decode(body, len, &d, NULL);
    const uint64_t n = code == TG_OK ? d.n_accepted + d.n_rejected : 0;
    tg_batch_deinit(&batch);
    tg_arena_deinit(&arena);
    tg_table_free(table);
    return n;
}

/* A protobuf request body, whole. A remote-write one may be compressed already or not. */
static enum tg_code send_body(struct sending *s, FILE *f, struct tg_err *err)
{
    struct tg_buf body, other;
    tg_buf_init(&body, MAX_FILE_BYTES);
    tg_buf_init(&other, MAX_FILE_BYTES);
    struct tg_compress compress;
    tg_compress_init(&compress);
    enum tg_code code = TG_OK;
    for (size_t got = 1; code == TG_OK && got > 0; body.len += got) {
        got = 0;
        code = tg_buf_reserve(&body, CHUNK_BYTES);
        if (code == TG_OK) got = fread(body.data + body.len, 1, CHUNK_BYTES, f);
        if (ferror(f)) code = tg_fail_errno(err, errno, "cannot read");
    }
    uint64_t n_points = 0;
    if (code == TG_OK && s->protocol == TG_SEND_REMOTE_WRITE) {
        if (tg_compress_decode(&compress, TG_ENCODING_SNAPPY, body.data, body.len, MAX_FILE_BYTES,
                               &other, NULL) == TG_OK) {
            n_points = count_points(s->protocol, other.data, other.len);
        } else {
            n_points = count_points(s->protocol, body.data, body.len);
            tg_buf_reset(&other);
            code =
                tg_compress_encode(&compress, TG_ENCODING_SNAPPY, body.data, body.len, &other, err);
            const struct tg_buf raw = body;
            body = other;
            other = raw;
        }
    } else if (code == TG_OK) {
        n_points = count_points(s->protocol, body.data, body.len);
    }
    s->n_done = body.len;
    /* A body that we cannot read counts as one point, so that its refusal shows. */
    if (code == TG_OK) code = tg_sender_submit(s->sender, &body, n_points ? n_points : 1, err);
    tg_compress_deinit(&compress);
    tg_buf_deinit(&body);
    tg_buf_deinit(&other);
    return code;
}

/* By --format, else by the file's ending; -1 = unknown. */
static int file_format(const struct tg_args *args, const char *path)
{
    static const struct {
        const char *ending;
        enum tg_send_protocol protocol;
    } endings[] = {
        {".lines", TG_SEND_INFLUX},
        {".lp", TG_SEND_INFLUX},
        {".txt", TG_SEND_INFLUX},
        {".influx", TG_SEND_INFLUX},
        {".otlp", TG_SEND_OTLP},
        {".pb", TG_SEND_OTLP},
        {".bin", TG_SEND_OTLP},
        {".rw", TG_SEND_REMOTE_WRITE},
        {".snappy", TG_SEND_REMOTE_WRITE},
    };
    const char *format = tg_args_value(args, "format");
    if (format) return tg_send_protocol_find(format);
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof(endings) / sizeof(endings[0]); i++)
        if (strcmp(dot, endings[i].ending) == 0) return (int)endings[i].protocol;
    return strcmp(path, "-") == 0 ? (int)TG_SEND_INFLUX : -1;
}

static int send_file(struct sending *s, const char *path)
{
    const struct tg_args *args = s->args;
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!f) {
        if (!strpbrk(path, "./"))
            return tg_usage_error(
                args->cmd, "there is no file \"%s\"; what can be sent: host, load, or a file",
                path);
        return tg_command_failed(args->cmd, "cannot open %s: %s", path, strerror(errno));
    }
    const int format = file_format(args, path);
    if (format < 0) {
        if (f != stdin) (void)fclose(f);
        return tg_usage_error(
            args->cmd, "%s: say what it holds with --format otlp, remote-write or influx", path);
    }
    s->protocol = (enum tg_send_protocol)format;
    char query[64];
    const char *precision = tg_args_value(args, "precision");
    int64_t ignored;
    struct tg_err err = {.msg = ""};
    if (precision && tg_influx_precision(precision, strlen(precision), &ignored, &err) != TG_OK)
        return tg_usage_error(args->cmd, "--precision: %s", err.msg);
    (void)snprintf(query, sizeof(query), "precision=%s", precision ? precision : "ns");
    if (!begin(s, s->protocol == TG_SEND_INFLUX ? query : NULL)) return TG_EXIT_USAGE;
    if (f != stdin && fseek(f, 0, SEEK_END) == 0) {
        const long size = ftell(f);
        if (size > 0) s->n_wanted = (uint64_t)size;
        rewind(f);
    }
    const enum tg_code code =
        s->protocol == TG_SEND_INFLUX ? send_lines(s, f, &err) : send_body(s, f, &err);
    if (f != stdin) (void)fclose(f);
    return finish(s, code, &err);
}

static int run(const struct tg_args *args)
{
    const struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    struct sending s = {.args = args, .protocol = TG_SEND_OTLP};
    const char *what = args->words[0];
    s.ends_at_give_up = strcmp(what, "host") != 0;
    int code;
    if (strcmp(what, "host") == 0)
        code = send_host(&s);
    else if (strcmp(what, "load") == 0)
        code = send_load(&s);
    else
        code = send_file(&s, what);
    tg_sender_free(s.sender);
    return code;
}

static const struct tg_flag flags[] = {
    {"to", 't', "URL", "the gateway (http://127.0.0.1:4318)"},
    {"interval", 'i', "1s", "host: between two looks at the machine"},
    {"count", 'n', "N", "host: so many looks, then end (else until Ctrl-C)"},
    {"format", 'f', "FORMAT", "file: otlp, remote-write or influx (else by its ending)"},
    {"precision", 'p', "UNIT", "file of Influx lines: unit of its times: ns, us, ms, s, m, h (ns)"},
    {"series", 's', "N", "load: so many series (10000)"},
    {"points", 0, "N", "load: so many points (10 per series)"},
    {"batch", 'b', "N", "load: points per request (1000)"},
    {"rate", 'r', "N", "load: points per second (as fast as it goes)"},
    {"protocol", 0, "NAME", "load: otlp, remote-write or influx (otlp)"},
    {"connections", 'c', "N", "requests under way at once (1)"},
    {"retry-for", 0, "60s", "how long \"come back later\" is tried again"},
    {"quiet", 'q', NULL, "no progress on the terminal"},
    {0},
};

const struct tg_cmd tg_cmd_send = {
    .name = "send",
    .summary = "send this machine's metrics, a file, or generated load",
    .synopsis = "host | load | FILE | - [--to http://127.0.0.1:4318]",
    .details =
        "host  CPU, memory, load, disks, network, file systems and processes of this machine, as "
        "OTLP\nload  generated series, as OTLP, remote write or Influx lines\nFILE  an OTLP or "
        "remote-write request body (.otlp, .pb, .bin; .rw, .snappy), or Influx lines (.lines,\n"
        "      .lp, .txt); - is Influx lines from the standard input\n\nExit code 1 when points "
        "were "
        "refused or nobody took them. Files of lines count lines, not fields.",
    .examples = "  tidegate send host --count 5\n"
                "  tidegate send weather.lp --precision s\n"
                "  echo 'room,floor=2 temperature=21.5' | tidegate send -\n"
                "  tidegate send load --series 10000 --points 1000000 --connections 4\n"
                "  tidegate send load --protocol remote-write --rate 50000 --points 5000000\n",
    .flags = flags,
    .min_words = 1,
    .max_words = 1,
    .run = run,
};
