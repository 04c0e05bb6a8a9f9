/* Parquet files in a folder, by UTC date: the embedded default. The names come from log positions,
 * so the same delivery always makes the same files (parquet_dir.h has the rules).
 *
 * Sorting, encoding, compressing and writing happen inside `write`, on the backend's own thread;
 * health runs there too and calls back before it returns. Queries run beside all that, on threads
 * of their own, and share nothing with it but the folder: a file is there whole or not at all, one
 * that goes (expired, or to be delivered again) while it is read is read to its end, and one that
 * went before is left out. */
#include "core/backend/parquet/parquet.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend/backend.h"
#include "core/backend/parquet/parquet_dir.h"
#include "core/codec/shared_parts.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/parquet/parquet_reader.h"
#include "core/parquet/parquet_writer.h"

#define MAX_FILE_BYTES   (UINT64_C(2) << 30) /* a query reads a file whole */
#define FOOTER_GUESS     16384               /* read at first, mostly all of it */
#define READ_PIECE_BYTES ((size_t)4 << 20)
#define MS_NS            INT64_C(1000000)

struct tg_backend {
    const char *name; /* borrows */
    const struct tg_fs *fs;
    struct tg_loop *loop;
    struct tg_parquet_dir dir; /* queries look at `fs` and `path` only */
    /* A file comes under its name, or is set aside, one at a time: a query must not set aside what
     * a write has put in the place of the file that it found damaged. */
    pthread_mutex_t names_lock;
    struct tg_parquet_options format;
    struct tg_parquet_writer *writer; /* made when needed, freed when idle: tens of MB */
    uint64_t *order;                  /* day << 32 | index, for a delivery over several days */
    int32_t made_day;                 /* its folder is known to be there */
    bool has_made_day;

    bool (*is_overdue)(void *arg); /* NULL = never */
    void *overdue_arg;
    struct tg_loop_item item; /* hands the result over */
    struct tg_write_result result;
    struct tg_left_out left_out; /* of the delivery */
    tg_on_write on_write;
    void *arg;
    struct tg_shared_parts *shared_parts; /* of the prepared bytes of all series */
};

static const struct tg_fs *test_fs;

void tg_backend_parquet_set_fs(const struct tg_fs *fs)
{
    test_fs = fs;
}

static const struct tg_option_spec options[] = {
    {.name = "dir",
     .type = TG_OPT_PATH,
     .required = true,
     .help = "folder for the files, one folder per UTC date in it; of this backend alone"},
    {.name = "compression",
     .type = TG_OPT_ENUM,
     .def = "zstd",
     .choices = "zstd|snappy|none",
     .help = "how pages are compressed"},
    {.name = "batch_points",
     .type = TG_OPT_INT,
     .def = "200000",
     .min = 1,
     .max = 10000000,
     .help = "most points per delivery; a file holds one date of one delivery"},
    {.name = "linger",
     .type = TG_OPT_DURATION,
     .def = "10s",
     .max = 3600000,
     .help = "wait this long for a fuller delivery: larger files, later data"},
    {.name = NULL},
};

static enum tg_code unpack(void *shared_parts, const uint8_t *bytes, uint32_t len,
                           struct tg_buf *out)
{
    return tg_shared_parts_unpack(shared_parts, bytes, len, out);
}

static void close_it(struct tg_backend *b)
{
    if (!b) return;
    tg_parquet_dir_close(&b->dir);
    (void)pthread_mutex_destroy(&b->names_lock);
    tg_parquet_writer_free(b->writer);
    tg_shared_parts_free(b->shared_parts);
    tg_free(b->order);
    tg_free(b);
}

static enum tg_code open_it(const struct tg_backend_open *how, struct tg_backend **out,
                            struct tg_err *err)
{
    const char *compression = tg_options_str(how->options, "compression");
    struct tg_backend *b = tg_calloc(1, sizeof(*b));
    if (!b) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    (void)pthread_mutex_init(&b->names_lock, NULL);
    b->name = how->name;
    b->is_overdue = how->is_overdue;
    b->overdue_arg = how->overdue_arg;
    b->loop = how->loop;
    b->fs = test_fs ? test_fs : tg_fs_real();
    b->shared_parts = tg_shared_parts_new();
    b->format.expand = unpack;
    b->format.expand_arg = b->shared_parts;
    b->format.codec = strcmp(compression, "zstd") == 0     ? TG_PARQUET_ZSTD
                      : strcmp(compression, "snappy") == 0 ? TG_PARQUET_SNAPPY
                                                           : TG_PARQUET_UNCOMPRESSED;
    if (!b->shared_parts) {
        close_it(b);
        return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    }
    const struct tg_parquet_log log = {.id = how->log_id,
                                       .cursor_pos = how->cursor_pos,
                                       .end_pos = how->log_end_pos,
                                       .adopts = how->epoch == 0};
    const enum tg_code code =
        tg_parquet_dir_open(&b->dir, b->fs, tg_options_str(how->options, "dir"), &log, err);
    if (code != TG_OK) {
        close_it(b);
        return code;
    }
    *out = b;
    return TG_OK;
}

/* Canonical bytes (core/model/series.h): all before the tags, then tag by tag. */
static size_t part_len(const uint8_t *begin, const uint8_t *at, const uint8_t *end, size_t *head)
{
    (void)head;
    const uint8_t *p = at;
    uint64_t len;
    bool ok = true;
    if (at == begin) {
        p += end - p < 3 ? end - p : 3;     /* version, kind, temporality */
        for (int i = 0; ok && i < 2; i++) { /* name, unit */
            ok = tg_varint_get(&p, end, &len) && len <= (uint64_t)(end - p);
            if (ok) p += len;
        }
        ok = ok && tg_varint_get(&p, end, &len) && tg_varint_get(&p, end, &len);
    } else {
        p++;                                /* origin */
        for (int i = 0; ok && i < 2; i++) { /* key, value */
            ok = tg_varint_get(&p, end, &len) && len <= (uint64_t)(end - p);
            if (ok) p += len;
        }
    }
    return (size_t)((ok ? p : end) - at);
}

static enum tg_code prepare(void *backend, const struct tg_series_desc *mapped, struct tg_buf *out,
                            struct tg_err *err)
{
    struct tg_backend *b = backend;
    struct tg_buf plain;
    tg_buf_init(&plain, out->max_bytes);
    enum tg_code code = tg_series_desc_encode(mapped, &plain);
    if (code == TG_OK)
        code = tg_shared_parts_pack(b->shared_parts, plain.data, plain.len, part_len, out);
    tg_buf_deinit(&plain);
    return code == TG_OK ? TG_OK : tg_fail(err, code, "cannot encode the series");
}

/* ---- writing ---- */

struct out_file {
    const struct tg_fs *fs;
    int fd;
    uint64_t at;
    const char *path;
};

static enum tg_code to_file(void *arg, const void *bytes, size_t len, struct tg_err *err)
{
    struct out_file *f = arg;
    TG_TRY(tg_fs_write_all(f->fs, f->fd, bytes, len, f->at, f->path, err));
    f->at += len;
    return TG_OK;
}

/* Writer to file, durable under its name. The temporary file is removed on failure. */
static enum tg_code put_file(struct tg_backend *b, const char *folder, const char *name,
                             struct tg_parquet_info *info, struct tg_err *err)
{
    char path[TG_PATH_MAX], tmp[TG_PATH_MAX], tmp_name[TG_PARQUET_NAME_MAX + 8];
    const struct tg_fs *fs = b->fs;
    (void)snprintf(tmp_name, sizeof(tmp_name), ".%s.tmp", name);
    TG_TRY(tg_fs_join(path, folder, name, err));
    TG_TRY(tg_fs_join(tmp, folder, tmp_name, err));
    struct out_file f = {.fs = fs, .path = tmp};
    f.fd = fs->open(fs->self, tmp, TG_FS_WRITE | TG_FS_CREATE | TG_FS_TRUNCATE);
    if (f.fd < 0) return tg_fail_errno(err, -f.fd, "cannot create %s", tmp);
    enum tg_code code = tg_parquet_writer_finish(b->writer, info, to_file, &f, err);
    if (code == TG_OK) {
        const int rc = fs->sync(fs->self, f.fd);
        if (rc < 0) code = tg_fail_errno(err, -rc, "cannot sync %s", tmp);
    }
    const int closed = fs->close(fs->self, f.fd);
    if (code == TG_OK && closed < 0) code = tg_fail_errno(err, -closed, "cannot close %s", tmp);
    if (code == TG_OK) {
        (void)pthread_mutex_lock(&b->names_lock);
        const int rc = fs->rename(fs->self, tmp, path);
        (void)pthread_mutex_unlock(&b->names_lock);
        if (rc < 0) code = tg_fail_errno(err, -rc, "cannot rename %s", tmp);
    }
    if (code != TG_OK) {
        (void)fs->unlink(fs->self, tmp);
        return code;
    }
    const int rc = fs->sync_dir(fs->self, folder);
    if (rc < 0) return tg_fail_errno(err, -rc, "cannot sync %s", folder);
    return TG_OK;
}

static int64_t expiry_of(const struct tg_parquet_info *info)
{
    int64_t ns;
    if (info->keep_ms <= 0 || __builtin_mul_overflow(info->keep_ms, MS_NS, &ns) ||
        __builtin_add_overflow(info->time_max_ns, ns, &ns))
        return INT64_MAX;
    return ns;
}

static void name_of(const struct tg_backend *b, const struct tg_delivery *d,
                    char out[TG_PARQUET_NAME_MAX])
{
    struct tg_parquet_name n = {.from = d->from_pos, .to = d->to_pos, .part = d->part};
    memcpy(n.log, b->dir.log, sizeof(n.log));
    tg_parquet_file_name(&n, out);
}

/* The points order[lo, hi) (or all, in their order), which are of one day, as one file. */
static enum tg_code write_day(struct tg_backend *b, const struct tg_delivery *d, int32_t day,
                              uint32_t lo, uint32_t hi, struct tg_err *err)
{
    char folder[TG_PATH_MAX], day_name[24], name[TG_PARQUET_NAME_MAX];
    struct tg_parquet_info info = {
        .from_pos = d->from_pos, .to_pos = d->to_pos, .part = d->part, .keep_ms = -1};
    bool for_ever = false;
    tg_parquet_writer_reset(b->writer);
    for (uint32_t i = lo; i < hi; i++) {
        const struct tg_delivery_point *p = &d->points[b->order ? (uint32_t)b->order[i] : i];
        const int64_t keep_ms = p->plan ? p->plan->keep_ms : 0;
        if (keep_ms <= 0) for_ever = true;
        if (keep_ms > info.keep_ms) info.keep_ms = keep_ms;
        const enum tg_code code =
            tg_parquet_writer_add(b->writer, p->prepared, p->prepared_len, p->point);
        if (code != TG_OK) return tg_fail(err, code, "cannot take in %u points", d->n_points);
    }
    if (for_ever) info.keep_ms = 0;
    tg_parquet_day_name(day, day_name);
    name_of(b, d, name);
    TG_TRY(tg_fs_join(folder, b->dir.path, day_name, err));
    if (!b->has_made_day || b->made_day != day) TG_TRY(tg_fs_mkdirs(b->fs, folder, err));
    b->made_day = day;
    b->has_made_day = true;
    if (d->to_pos > b->dir.max_to) b->dir.max_to = d->to_pos;
    const enum tg_code code = put_file(b, folder, name, &info, err);
    if (code != TG_OK) b->has_made_day = false; /* someone may have removed it */
    if (code == TG_OK) tg_parquet_dir_note_due(&b->dir, day, expiry_of(&info));
    b->left_out.n[TG_LEFT_OUT_BYTES] += info.n_texts_changed;
    return code;
}

static int order_cmp(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool is_one_day(const struct tg_delivery *d, int32_t *day)
{
    *day = tg_parquet_day(d->points[0].point->ts_ns);
    for (uint32_t i = 1; i < d->n_points; i++)
        if (tg_parquet_day(d->points[i].point->ts_ns) != *day) return false;
    return true;
}

static int32_t day_at(const struct tg_backend *b, uint32_t i)
{
    return (int32_t)((int64_t)(b->order[i] >> 32) + INT32_MIN);
}

static uint32_t end_of_day(const struct tg_backend *b, const struct tg_delivery *d, uint32_t lo)
{
    uint32_t hi = lo + 1;
    while (hi < d->n_points && b->order[hi] >> 32 == b->order[lo] >> 32) hi++;
    return hi;
}

static void remove_day(struct tg_backend *b, const struct tg_delivery *d, int32_t day)
{
    char path[TG_PATH_MAX], day_name[24], name[TG_PARQUET_NAME_MAX];
    tg_parquet_day_name(day, day_name);
    name_of(b, d, name);
    const int len = snprintf(path, sizeof(path), "%s/%s/%s", b->dir.path, day_name, name);
    if (len > 0 && (size_t)len < sizeof(path)) (void)b->fs->unlink(b->fs->self, path);
}

static bool is_overdue(void *backend)
{
    const struct tg_backend *b = backend;
    return b->is_overdue && b->is_overdue(b->overdue_arg);
}

/* Day by day, so that one file is open at a time, however many days there are. */
static enum tg_code write_days(struct tg_backend *b, const struct tg_delivery *d,
                               struct tg_err *err)
{
    b->order = tg_reallocarray(NULL, d->n_points, sizeof(*b->order));
    if (!b->order) return tg_fail(err, TG_ERR_NOMEM, "out of memory for %u points", d->n_points);
    for (uint32_t i = 0; i < d->n_points; i++) {
        const int64_t day = (int64_t)tg_parquet_day(d->points[i].point->ts_ns) - INT32_MIN;
        b->order[i] = (uint64_t)day << 32 | i; /* the index keeps the order within a day */
    }
    qsort(b->order, d->n_points, sizeof(*b->order), order_cmp);
    enum tg_code code = TG_OK;
    uint32_t lo = 0;
    while (lo < d->n_points && code == TG_OK) {
        const uint32_t hi = end_of_day(b, d, lo);
        if (lo > 0 && is_overdue(b))
            code = tg_fail(err, TG_ERR_CANCELED, "the gateway is shutting down");
        else
            code = write_day(b, d, day_at(b, lo), lo, hi, err);
        lo = hi;
    }
    /* Nothing of a failed attempt stays: the next one may be of other days, when the rules changed.
     * What cannot be removed now goes before the next delivery, or at open. */
    for (uint32_t at = 0; code != TG_OK && at < lo; at = end_of_day(b, d, at))
        remove_day(b, d, day_at(b, at));
    tg_free(b->order);
    b->order = NULL;
    return code;
}

static enum tg_code write_all(struct tg_backend *b, const struct tg_delivery *d, struct tg_err *err)
{
    int32_t day;
    if (d->n_points == 0) return TG_OK;
    if (!b->writer) b->writer = tg_parquet_writer_new(&b->format);
    if (!b->writer) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    /* parts of one delivery come one after the other; the first attempt made room */
    if (d->part == 0) TG_TRY(tg_parquet_dir_make_room(&b->dir, d->from_pos, err));
    if (is_one_day(d, &day)) return write_day(b, d, day, 0, d->n_points, err);
    return write_days(b, d, err);
}

static void hand_over(void *arg)
{
    struct tg_backend *b = arg;
    b->on_write(b->arg, &b->result);
}

static void write_it(struct tg_backend *b, const struct tg_delivery *d, tg_on_write on_write,
                     void *arg)
{
    struct tg_err err = {.msg = ""};
    b->left_out = (struct tg_left_out){.n = {0}};
    const enum tg_code code = write_all(b, d, &err);
    if (b->writer) tg_parquet_writer_reset(b->writer);
    b->result = (struct tg_write_result){
        .outcome = TG_WRITE_OK, .retry_after_ms = -1, .left_out = b->left_out};
    if (code != TG_OK) {
        /* bad series bytes or an impossible size are the points' fault; all else is the machine's.
         * Files of this attempt are replaced or removed by the next one. */
        b->result.outcome =
            code == TG_ERR_CORRUPT || code == TG_ERR_TOO_LARGE || code == TG_ERR_INVALID
                ? TG_WRITE_REFUSED
            /* in halves, but a point alone is not at fault either */
            : code == TG_ERR_FILE_LIMIT && d->n_points > 1 ? TG_WRITE_TOO_LARGE
                                                           : TG_WRITE_RETRY;
        (void)snprintf(b->result.message, sizeof(b->result.message), "%s", err.msg);
    }
    b->on_write = on_write;
    b->arg = arg;
    b->item = (struct tg_loop_item){.fn = hand_over, .arg = b};
    tg_loop_post_item(b->loop, &b->item);
}

/* ---- reading ---- */

static enum tg_code read_at(const struct tg_fs *fs, int fd, struct tg_buf *to, uint64_t off,
                            uint64_t len, const char *path, struct tg_err *err)
{
    size_t n;
    tg_buf_reset(to);
    const enum tg_code code = tg_buf_reserve(to, len);
    if (code != TG_OK) return tg_fail(err, code, "out of memory for %s", path);
    TG_TRY(tg_fs_read_all(fs, fd, to->data, len, off, &n, path, err));
    if (n != len) return tg_fail(err, TG_ERR_CORRUPT, "%s became shorter while it was read", path);
    to->len = n;
    return TG_OK;
}

/* The same, looking at the stop between parts. TG_ERR_CANCELED. */
static enum tg_code read_whole(const struct tg_fs *fs, int fd, struct tg_buf *to, uint64_t len,
                               struct tg_query_stop *stop, const char *path, struct tg_err *err)
{
    tg_buf_reset(to);
    const enum tg_code code = tg_buf_reserve(to, len);
    if (code != TG_OK) return tg_fail(err, code, "out of memory for %s", path);
    while (to->len < len) {
        size_t n;
        const size_t left = len - to->len;
        const size_t want = left < READ_PIECE_BYTES ? left : READ_PIECE_BYTES;
        if (tg_query_must_stop(stop))
            return tg_fail(err, TG_ERR_CANCELED, "the query was given up");
        TG_TRY(tg_fs_read_all(fs, fd, to->data + to->len, want, to->len, &n, path, err));
        if (n != want)
            return tg_fail(err, TG_ERR_CORRUPT, "%s became shorter while it was read", path);
        to->len += n;
    }
    return TG_OK;
}

/* Reads the footer into *tail and parses it. */
static enum tg_code read_footer(const struct tg_fs *fs, int fd, const char *path, uint64_t size,
                                struct tg_parquet_reader *r, struct tg_buf *tail,
                                struct tg_err *err)
{
    uint64_t len = size < FOOTER_GUESS ? size : FOOTER_GUESS, want;
    if (size < TG_PARQUET_TAIL) return tg_fail(err, TG_ERR_CORRUPT, "%s is cut short", path);
    TG_TRY(read_at(fs, fd, tail, size - len, len, path, err));
    TG_TRY(tg_parquet_footer_len(tail->data + len - TG_PARQUET_TAIL, size, &want, err));
    if (want > len) {
        len = want;
        TG_TRY(read_at(fs, fd, tail, size - len, len, path, err));
    }
    return tg_parquet_reader_footer(r, tail->data + (len - want), want, size, err);
}

struct query {
    struct tg_backend *b;
    const struct tg_query *q;
    tg_on_row on_row;
    void *arg;
    struct tg_parquet_filter filter;
    struct tg_parquet_reader *reader;
    struct tg_buf tail, file;
    uint32_t n_rows;
    bool enough;
};

static bool on_row(void *arg, const struct tg_series_desc *series, const struct tg_point *point)
{
    struct query *q = arg;
    const struct tg_query_row row = {series, point};
    q->n_rows++;
    if (!q->on_row(q->arg, &row) || q->n_rows >= q->q->max_rows) q->enough = true;
    return !q->enough;
}

static enum tg_code query_open_file(struct query *q, int fd, const char *path, struct tg_err *err)
{
    const struct tg_fs *fs = q->b->fs;
    struct tg_fs_stat st;
    const int rc = fs->fstat(fs->self, fd, &st);
    if (rc < 0) return tg_fail_errno(err, -rc, "cannot read %s", path);
    TG_TRY(read_footer(fs, fd, path, st.size, q->reader, &q->tail, err));
    if (!tg_parquet_reader_may_match(q->reader, &q->filter)) return TG_OK;
    if (st.size > MAX_FILE_BYTES)
        return tg_fail(err, TG_ERR_TOO_LARGE, "%s is over 2 GiB: read it with another tool", path);
    /* Several queries run at once: together they leave half of the memory to what is ingested. */
    const uint64_t limit = tg_mem_limit();
    if (limit && st.size > q->file.cap && tg_mem_used() + st.size - q->file.cap > limit / 2)
        return tg_fail(
            err, TG_ERR_FULL,
            "no memory to read %s of %llu bytes beside what is ingested (limits.memory): "
            "ask again later, or for a shorter time",
            path, (unsigned long long)st.size);
    TG_TRY(read_whole(fs, fd, &q->file, st.size, q->q->stop, path, err));
    return tg_parquet_reader_scan(q->reader, q->file.data, &q->filter, on_row, q, NULL, err);
}

/* Gives the damaged file in `fd` another name, unless another file has come in its place since. */
static bool set_aside(const struct query *q, int fd, const char *path)
{
    const struct tg_fs *fs = q->b->fs;
    struct tg_fs_stat read, now;
    char aside[TG_PATH_MAX];
    (void)snprintf(aside, sizeof(aside), "%.*s.damaged", TG_PATH_MAX - 16, path);
    (void)pthread_mutex_lock(&q->b->names_lock);
    const bool is_same = fs->fstat(fs->self, fd, &read) == 0 &&
                         fs->stat(fs->self, path, &now) == 0 && read.device == now.device &&
                         read.inode == now.inode;
    const bool done = is_same && fs->rename(fs->self, path, aside) == 0;
    (void)pthread_mutex_unlock(&q->b->names_lock);
    return done;
}

/* TG_ERR_CORRUPT after the file was set aside. */
static enum tg_code query_file(struct query *q, const char *path, struct tg_err *err)
{
    const struct tg_fs *fs = q->b->fs;
    struct tg_err detail = {.msg = ""};
    const int fd = fs->open(fs->self, path, TG_FS_READ);
    if (fd == -ENOENT) return TG_OK; /* expired since it was listed */
    if (fd < 0) return tg_fail_errno(err, -fd, "cannot open %s", path);
    const enum tg_code code = query_open_file(q, fd, path, &detail);
    const bool is_aside = code == TG_ERR_CORRUPT && set_aside(q, fd, path);
    (void)fs->close(fs->self, fd);
    if (code == TG_ERR_UNSUPPORTED) return TG_OK; /* put there by someone else */
    if (code == TG_OK) return TG_OK;
    if (code != TG_ERR_CORRUPT) return tg_fail(err, code, "%s", detail.msg);
    const char *where = is_aside ? "; set aside" : "";
    tg_error("parquet", "%s: %s%s%s", path, detail.msg, where, is_aside ? " as *.damaged" : "");
    return tg_fail(err, TG_ERR_CORRUPT, "%.120s: %.80s%s", path, detail.msg, where);
}

static enum tg_code query_day(struct query *q, int32_t day, struct tg_err *err)
{
    struct tg_buf files;
    enum tg_code damage = TG_OK;
    tg_buf_init(&files, 0);
    enum tg_code code = tg_parquet_dir_files(&q->b->dir, day, &files, err);
    for (size_t at = 0; at < files.len && code == TG_OK && !q->enough;) {
        const char *path = (const char *)files.data + at;
        at += strlen(path) + 1;
        if (tg_query_must_stop(q->q->stop))
            code = tg_fail(err, TG_ERR_CANCELED, "the query was given up");
        else
            code = query_file(q, path, err);
        if (code == TG_ERR_CORRUPT) { /* the rest is still good */
            damage = code;
            code = TG_OK;
        }
    }
    tg_buf_deinit(&files);
    return code == TG_OK ? damage : code;
}

static enum tg_code query_all(struct query *q, struct tg_err *err)
{
    struct tg_buf days;
    enum tg_code damage = TG_OK;
    const struct tg_query *want = q->q;
    if (want->max_rows == 0 || want->start_ns >= want->end_ns) return TG_OK;
    q->reader = tg_parquet_reader_new(NULL);
    if (!q->reader) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    tg_buf_init(&days, 0);
    enum tg_code code = tg_parquet_dir_days(&q->b->dir, tg_parquet_day(want->start_ns),
                                            tg_parquet_day(want->end_ns - 1), &days, err);
    for (size_t i = 0; i < days.len / sizeof(int32_t) && code == TG_OK && !q->enough; i++) {
        int32_t day;
        memcpy(&day, days.data + i * sizeof(day), sizeof(day));
        code = query_day(q, day, err);
        if (code == TG_ERR_CORRUPT) {
            damage = code;
            code = TG_OK;
        }
    }
    tg_buf_deinit(&days);
    return code == TG_OK ? damage : code;
}

static bool should_stop(void *stop)
{
    return tg_query_must_stop(stop);
}

static void query_range(struct tg_backend *b, const struct tg_query *want, tg_on_row row,
                        tg_on_query_end on_end, void *arg)
{
    struct tg_err err = {.code = TG_OK, .offset = TG_NO_OFFSET, .msg = ""};
    struct query q = {.b = b, .q = want, .on_row = row, .arg = arg};
    q.filter = (struct tg_parquet_filter){.name = want->name,
                                          .name_len = want->name ? (uint32_t)strlen(want->name) : 0,
                                          .tags = want->tags,
                                          .n_tags = want->n_tags,
                                          .start_ns = want->start_ns,
                                          .end_ns = want->end_ns,
                                          .should_stop = should_stop,
                                          .stop_arg = want->stop};
    tg_buf_init(&q.tail, 0);
    tg_buf_init(&q.file, 0);
    const enum tg_code code = query_all(&q, &err);
    tg_parquet_reader_free(q.reader);
    tg_buf_deinit(&q.tail);
    tg_buf_deinit(&q.file);
    on_end(arg, code, &err);
}

/* ---- upkeep ---- */

struct upkeep {
    struct tg_backend *b;
    struct tg_parquet_reader *reader;
    struct tg_buf tail;
};

static int64_t file_expiry(void *arg, const char *path)
{
    struct upkeep *u = arg;
    const struct tg_fs *fs = u->b->fs;
    struct tg_fs_stat st;
    int64_t ns = INT64_MAX; /* what cannot be read is kept */
    if (is_overdue(u->b)) return INT64_MIN;
    const int fd = fs->open(fs->self, path, TG_FS_READ);
    if (fd < 0) return ns;
    if (fs->fstat(fs->self, fd, &st) == 0 &&
        read_footer(fs, fd, path, st.size, u->reader, &u->tail, NULL) == TG_OK)
        ns = expiry_of(tg_parquet_reader_info(u->reader));
    (void)fs->close(fs->self, fd);
    return ns;
}

static enum tg_code apply_retention(struct tg_backend *b, int64_t now_ns, struct tg_err *err)
{
    struct upkeep u = {.b = b, .reader = tg_parquet_reader_new(NULL)};
    uint64_t n_removed = 0;
    tg_parquet_writer_free(b->writer); /* nothing to write just now */
    b->writer = NULL;
    if (!u.reader) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    tg_buf_init(&u.tail, 0);
    const enum tg_code code =
        tg_parquet_dir_expire(&b->dir, now_ns, file_expiry, &u, &n_removed, err);
    if (n_removed) {
        tg_info("parquet", "%s: %llu expired files removed", b->name,
                (unsigned long long)n_removed);
        b->has_made_day = false;
    }
    tg_parquet_reader_free(u.reader);
    tg_buf_deinit(&u.tail);
    return code == TG_ERR_CANCELED ? TG_OK : code; /* the rest is for the next start */
}

static enum tg_code rewound(struct tg_backend *b, const struct tg_backend_rewind *how,
                            uint64_t *pos, struct tg_err *err)
{
    const uint64_t asked = *pos;
    /* make_room set all files aside that come again: those not reached yet wait for the log. */
    if (how->comes_again && asked > how->from_pos)
        return tg_fail(
            err, TG_ERR_INVALID,
            "cannot move forward while a rewind delivers again: the files that come "
            "again are set aside, and queries would miss their points; wait until it has "
            "caught up (tidegate status), then move");
    TG_TRY(tg_parquet_dir_rewind(&b->dir, pos, how->oldest_pos, err));
    if (*pos != asked)
        tg_info("parquet", "%s: rewind to %llu instead of %llu, where a file begins", b->name,
                (unsigned long long)*pos, (unsigned long long)asked);
    return TG_OK;
}

static enum tg_code settled(struct tg_backend *b, const struct tg_backend_settled *s,
                            struct tg_err *err)
{
    return tg_parquet_dir_settle(&b->dir, s, err);
}

/* Whether a file can be made and removed. */
static void health(struct tg_backend *b, tg_on_health on_health, void *arg)
{
    char path[TG_PATH_MAX];
    struct tg_err err = {.msg = ""};
    enum tg_code code = tg_fs_join(path, b->dir.path, ".health", &err);
    if (code == TG_OK) {
        const int fd = b->fs->open(b->fs->self, path, TG_FS_WRITE | TG_FS_CREATE);
        if (fd < 0) code = tg_fail_errno(&err, -fd, "cannot create files in %s", b->dir.path);
        if (fd >= 0) (void)b->fs->close(b->fs->self, fd);
        if (fd >= 0) (void)b->fs->unlink(b->fs->self, path);
    }
    on_health(arg, code, err.msg);
}

const struct tg_backend_ops tg_backend_parquet = {
    .type = "parquet",
    .options = options,
    .max_points = 200000,
    .linger_ms = 10000,
    .open = open_it,
    .prepare = prepare,
    .write = write_it,
    .health = health,
    .query_range = query_range,
    .apply_retention = apply_retention,
    .rewound = rewound,
    .settled = settled,
    .close = close_it,
};
