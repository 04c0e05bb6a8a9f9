#include "core/log/segment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/logger.h"
#include "core/base/mem.h"

enum {
    HEADER_COPY_BYTES = TG_SEGMENT_HEADER_BYTES / 2,
    MAGIC_0 = 0xb7,
    MAGIC_1 = 0x9d,
    WALK_CHUNK_BYTES = 128 << 10
};
static const char header_magic[8] = "TGSEGv1\n";

void tg_segment_header_put(const struct tg_segment_header *h, uint8_t out[TG_SEGMENT_HEADER_BYTES])
{
    uint8_t *b = out;
    memset(out, 0, TG_SEGMENT_HEADER_BYTES);
    memcpy(b, header_magic, 8);
    memcpy(b + 8, &h->start_pos, 8);
    memcpy(b + 16, &h->first_point_no, 8);
    memcpy(b + 24, &h->prev_end_pos, 8);
    memcpy(b + 32, &h->created_ns, 8);
    const uint32_t crc = tg_crc32c(0, b, HEADER_COPY_BYTES - 4);
    memcpy(b + HEADER_COPY_BYTES - 4, &crc, 4);
    memcpy(out + HEADER_COPY_BYTES, out, HEADER_COPY_BYTES);
}

bool tg_segment_header_get(const uint8_t *bytes, size_t len, struct tg_segment_header *h)
{
    for (size_t at = 0; at + HEADER_COPY_BYTES <= len && at < TG_SEGMENT_HEADER_BYTES;
         at += HEADER_COPY_BYTES) {
        const uint8_t *b = bytes + at;
        uint32_t crc;
        memcpy(&crc, b + HEADER_COPY_BYTES - 4, 4);
        if (memcmp(b, header_magic, 8) != 0 || tg_crc32c(0, b, HEADER_COPY_BYTES - 4) != crc)
            continue;
        memcpy(&h->start_pos, b + 8, 8);
        memcpy(&h->first_point_no, b + 16, 8);
        memcpy(&h->prev_end_pos, b + 24, 8);
        memcpy(&h->created_ns, b + 32, 8);
        return true;
    }
    return false;
}

bool tg_commit_record_get(const uint8_t *payload, size_t len, uint64_t *point_no)
{
    return tg_varint_get(&payload, payload + len, point_no) && *point_no < TG_POINT_NO_MAX;
}

bool tg_accepted_record_get(const uint8_t *payload, size_t len, int64_t *wall_ns)
{
    uint64_t ms;
    if (!tg_varint_get(&payload, payload + len, &ms) || ms > INT64_MAX / 1000000) return false;
    *wall_ns = (int64_t)ms * 1000000;
    return true;
}

void tg_segment_name(uint64_t start_pos, char out[TG_SEGMENT_NAME_BYTES])
{
    (void)snprintf(out, TG_SEGMENT_NAME_BYTES, "%020llu.seg", (unsigned long long)start_pos);
}

bool tg_segment_name_parse(const char *name, uint64_t *start_pos)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9') return false;
        if (__builtin_mul_overflow(v, 10U, &v) ||
            __builtin_add_overflow(v, (uint64_t)(name[i] - '0'), &v))
            return false;
    }
    *start_pos = v;
    return strcmp(name + 20, ".seg") == 0;
}

/* CRC over position, type and length: what `crc` continues with the payload. */
static uint32_t frame_crc(uint64_t pos, uint32_t type_len)
{
    return tg_crc32c(tg_crc32c(0, &pos, 8), &type_len, 4);
}

size_t tg_frame_begin(struct tg_buf *out)
{
    const size_t mark = out->len;
    memset(out->data + mark, 0, TG_FRAME_BYTES);
    out->len += TG_FRAME_BYTES;
    return mark;
}

void tg_frame_end(struct tg_buf *out, size_t mark, uint64_t pos, enum tg_record_type type)
{
    uint8_t *f = out->data + mark;
    const uint32_t len = (uint32_t)(out->len - mark - TG_FRAME_BYTES);
    const uint32_t type_len = (uint32_t)type | len << 8;
    const uint32_t head = frame_crc(pos, type_len);
    const uint32_t crc = tg_crc32c(head, f + TG_FRAME_BYTES, len);
    f[0] = MAGIC_0;
    f[1] = MAGIC_1;
    f[2] = (uint8_t)head;
    f[3] = (uint8_t)(head >> 8);
    memcpy(f + 4, &type_len, 4);
    memcpy(f + 8, &crc, 4);
}

static bool frame_head(const uint8_t *f, uint64_t pos, uint32_t *type_len, uint32_t *head)
{
    if (f[0] != MAGIC_0 || f[1] != MAGIC_1) return false;
    memcpy(type_len, f + 4, 4);
    *head = frame_crc(pos, *type_len);
    return f[2] == (uint8_t)*head && f[3] == (uint8_t)(*head >> 8);
}

bool tg_segment_log_get(const uint8_t *bytes, size_t len, uint64_t start_pos,
                        uint8_t id[TG_LOG_ID_BYTES])
{
    uint32_t type_len, head, crc;
    if (len < TG_SEGMENT_HEADER_BYTES + TG_FRAME_BYTES + TG_LOG_ID_BYTES) return false;
    const uint8_t *f = bytes + TG_SEGMENT_HEADER_BYTES;
    if (!frame_head(f, start_pos + TG_SEGMENT_HEADER_BYTES, &type_len, &head) ||
        type_len != ((uint32_t)TG_RECORD_LOG | (uint32_t)TG_LOG_ID_BYTES << 8))
        return false;
    memcpy(&crc, f + 8, 4);
    if (tg_crc32c(head, f + TG_FRAME_BYTES, TG_LOG_ID_BYTES) != crc) return false;
    memcpy(id, f + TG_FRAME_BYTES, TG_LOG_ID_BYTES);
    return true;
}

void tg_segment_walk_init(struct tg_segment_walk *w, const struct tg_fs *fs, int fd,
                          uint64_t start_pos, uint64_t from_pos)
{
    memset(w, 0, sizeof(*w));
    w->fs = fs;
    w->fd = fd;
    w->start_pos = start_pos;
    w->pos = from_pos < start_pos + TG_SEGMENT_HEADER_BYTES ? start_pos + TG_SEGMENT_HEADER_BYTES
                                                            : from_pos;
    w->buf_pos = w->pos;
}

void tg_segment_walk_deinit(struct tg_segment_walk *w)
{
    tg_free(w->buf);
    w->buf = NULL;
    w->cap = w->buf_len = 0;
}

/* Reads up to len bytes, fewer at the end of the file. What was read before a failure stays. */
static enum tg_code read_on(struct tg_segment_walk *w, uint8_t *buf, size_t len, uint64_t off,
                            size_t *n_read, struct tg_err *err)
{
    *n_read = 0;
    while (*n_read < len) {
        const uint64_t at = off + *n_read;
        const int64_t n = w->fs->pread(w->fs->self, w->fd, buf + *n_read, len - *n_read, at);
        if (n < 0) {
            w->errnum = (int)-n;
            return tg_fail_errno(err, w->errnum,
                                 "cannot read the log's segment %020llu at byte %llu",
                                 (unsigned long long)w->start_pos, (unsigned long long)at);
        }
        if (n == 0) break;
        *n_read += (size_t)n;
    }
    return TG_OK;
}

/* Has [pos, pos + n) in the buffer, reading on up to end_pos. Fewer bytes only when the file is
 * shorter than it should be: *have says how many there are from pos. */
static enum tg_code need(struct tg_segment_walk *w, uint64_t pos, size_t n, uint64_t end_pos,
                         size_t *have, struct tg_err *err)
{
    if (pos >= w->buf_pos && pos + n <= w->buf_pos + w->buf_len) {
        *have = (size_t)(w->buf_pos + w->buf_len - pos);
        return TG_OK;
    }
    size_t want = n > WALK_CHUNK_BYTES ? n : WALK_CHUNK_BYTES;
    if (want > end_pos - pos) want = (size_t)(end_pos - pos);
    if (want > w->cap || (w->cap > 4 * WALK_CHUNK_BYTES && want <= WALK_CHUNK_BYTES)) {
        uint8_t *b = tg_malloc(want > WALK_CHUNK_BYTES ? want : WALK_CHUNK_BYTES);
        if (!b) return tg_fail(err, TG_ERR_NOMEM, "no memory to read the log");
        tg_free(w->buf);
        w->buf = b;
        w->cap = want > WALK_CHUNK_BYTES ? want : WALK_CHUNK_BYTES;
        w->buf_len = 0;
    }
    size_t keep = 0;
    if (pos >= w->buf_pos && pos < w->buf_pos + w->buf_len && w->buf_len) {
        keep = (size_t)(w->buf_pos + w->buf_len - pos);
        if (keep > want) keep = want;
        memmove(w->buf, w->buf + (pos - w->buf_pos), keep);
    }
    w->buf_pos = pos;
    w->buf_len = keep;
    size_t n_read;
    enum tg_code code =
        read_on(w, w->buf + keep, want - keep, pos + keep - w->start_pos, &n_read, err);
    w->buf_len += n_read;
    if (code != TG_OK &&
        w->buf_len < n) { /* perhaps only what was to be read ahead is the matter */
        const uint64_t off = pos + w->buf_len - w->start_pos;
        const int errnum = w->errnum;
        char buf[64];
        code = read_on(w, w->buf + w->buf_len, n - w->buf_len, off, &n_read, err);
        w->buf_len += n_read;
        if (code == TG_OK)
            tg_warn("log",
                    "reading segment %020llu at byte %llu failed (%s), but less of it can be "
                    "read: check the disk",
                    (unsigned long long)w->start_pos, (unsigned long long)off,
                    tg_errno_text(errnum, buf, sizeof(buf)));
    }
    *have = w->buf_len;
    return w->buf_len >= n ? TG_OK : code;
}

enum tg_code tg_segment_walk_next(struct tg_segment_walk *w, uint64_t end_pos,
                                  struct tg_record *rec, struct tg_err *err)
{
    const uint64_t from = w->pos;
    uint64_t pos = from;
    size_t have = 0;
    while (pos < end_pos && end_pos - pos >= TG_FRAME_BYTES) {
        TG_TRY(need(w, pos, TG_FRAME_BYTES, end_pos, &have, err));
        if (have < TG_FRAME_BYTES) break; /* shorter than the log remembers */
        const uint8_t *f = w->buf + (pos - w->buf_pos);
        uint32_t type_len, head, crc;
        if (frame_head(f, pos, &type_len, &head)) {
            const uint32_t len = type_len >> 8;
            if (len <= end_pos - pos - TG_FRAME_BYTES) {
                TG_TRY(need(w, pos, TG_FRAME_BYTES + (size_t)len, end_pos, &have, err));
                f = w->buf + (pos - w->buf_pos);
                memcpy(&crc, f + 8, 4);
                if (have >= TG_FRAME_BYTES + (size_t)len &&
                    tg_crc32c(head, f + TG_FRAME_BYTES, len) == crc) {
                    *rec = (struct tg_record){
                        .pos = pos,
                        .end_pos = pos + TG_FRAME_BYTES + len,
                        .payload = f + TG_FRAME_BYTES,
                        .len = len,
                        .type = (uint8_t)type_len,
                        .damaged_bytes = pos - from,
                    };
                    w->pos = rec->end_pos;
                    return TG_OK;
                }
            }
        }
        /* the next possible start, within what is in the buffer */
        const uint8_t *const stop = w->buf + w->buf_len;
        const uint8_t *next = memchr(f + 1, MAGIC_0, (size_t)(stop - f) - 1);
        pos = w->buf_pos + (uint64_t)((next ? next : stop) - w->buf);
    }
    *rec = (struct tg_record){.pos = end_pos, .end_pos = end_pos, .damaged_bytes = end_pos - from};
    return TG_OK;
}
