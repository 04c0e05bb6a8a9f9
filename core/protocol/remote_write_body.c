#include "core/protocol/remote_write_body.h"

#include <assert.h>

#include "core/base/mem.h"
#include "core/protocol/protobuf_wire.h"
#include "core/protocol/remote_write_body_impl.h"

enum {
    SERIES = 1, /* field of WriteRequest */
    SAMPLES = 2,
    SAMPLE_HEAD = 3, /* tag, length, tag of the value */
    MIN_SEEN = 1024,
    MAX_COMPARED = 4,    /* names of a copy, whether they stand elsewhere, too */
    NOT_KNOWN = 1 << 30, /* how many names the open copy has */
    LOG_MASK = TG_REMOTE_WRITE_LOG - 1,
};

/* Names: the kind in the highest bits. A part has its number + 1: 0 is no name. */
#define NAME_OF_TIME   (UINT32_C(1) << 31)
#define NAME_OF_HEAD   (UINT32_C(1) << 30)
#define NAME_OF_SAMPLE (UINT32_C(1) << 29)

void tg_remote_write_body_init(struct tg_remote_write_body *b,
                               const struct tg_shared_parts *shared_parts)
{
    b->shared_parts = shared_parts;
    b->seen = NULL;
    b->log = NULL;
    b->n_seen = b->now = b->base = 0;
    b->block.n_plain = 0;
    tg_buf_init(&b->tail, 0);
    tg_buf_init(&b->label, 0);
    tg_buf_init(&b->sums, 0);
}

void tg_remote_write_body_deinit(struct tg_remote_write_body *b)
{
    tg_free(b->seen);
    tg_free(b->log);
    tg_buf_deinit(&b->tail);
    tg_buf_deinit(&b->label);
    tg_buf_deinit(&b->sums);
}

/* In the log: what comes next has bytes without a name before it. */
static inline void no_name(struct tg_remote_write_body *b)
{
    b->log[b->now++ & LOG_MASK] = 0;
}

enum tg_code tg_remote_write_body_begin(struct tg_remote_write_body *b, struct tg_buf *out,
                                        size_t max_bytes, bool is_snappy)
{
    b->base += (uint32_t)b->block.n_plain; /* what it was before is forgotten */
    b->is_snappy = is_snappy;
    b->max_bytes = max_bytes < TG_REMOTE_WRITE_BODY_MAX ? max_bytes : TG_REMOTE_WRITE_BODY_MAX;
    b->block = (struct tg_snappy_block){.out = out};
    if (!is_snappy) return TG_OK;
    if (!b->log) {
        b->log = tg_calloc(TG_REMOTE_WRITE_LOG, sizeof(*b->log));
        if (!b->log) return TG_ERR_NOMEM;
    }
    if (b->base > UINT32_MAX - TG_REMOTE_WRITE_BODY_MAX) {
        if (b->seen) memset(b->seen, 0, b->n_seen * sizeof(*b->seen));
        b->base = 0;
    }
    memset(b->heads, 0, sizeof(b->heads));
    memset(b->times, 0, sizeof(b->times));
    b->sample_head.at = 0;
    b->n_times = 0;
    no_name(b);
    return tg_snappy_begin(&b->block, out);
}

size_t tg_remote_write_body_end(struct tg_remote_write_body *b)
{
    return b->is_snappy ? tg_snappy_end(&b->block) : 0;
}

/* --- bytes; the caller reserved --- */

static inline void put(struct tg_remote_write_body *b, const void *bytes, size_t n)
{
    if (n == 0) return;
    if (b->is_snappy) {
        tg_snappy_literal(&b->block, bytes, n);
        no_name(b);
        return;
    }
    tg_buf_put(b->block.out, bytes, n);
    b->block.n_plain += n;
}

void tg_remote_write_put(struct tg_remote_write_body *b, const void *bytes, size_t n)
{
    put(b, bytes, n);
}

void tg_remote_write_put_again(struct tg_remote_write_body *b, size_t from, size_t n)
{
    if (n == 0) return;
    if (b->is_snappy) {
        (void)tg_snappy_copy(&b->block, from, n);
        b->n_copied = NOT_KNOWN;
        b->src = b->now;
        no_name(b);
        return;
    }
    struct tg_buf *out = b->block.out;
    tg_buf_put(out, out->data + (out->len - b->block.n_plain) + from, n);
    b->block.n_plain += n;
}

/* Whether the names of the open copy are those before `at` in the log, too. */
static inline bool stands_before(const struct tg_remote_write_body *b, uint32_t at)
{
    if (b->n_copied > MAX_COMPARED) return false;
    for (uint32_t i = 1; i <= b->n_copied; i++)
        if (b->log[(at - i) & LOG_MASK] != b->log[(b->now - i) & LOG_MASK]) return false;
    return true;
}

/* The bytes of a name, as a snappy block. `bytes` may be NULL when it is in this body already, and
 * not shorter than a copy is worth. */
static inline void put_name(struct tg_remote_write_body *b, struct tg_remote_write_seen *seen,
                            uint32_t name, const void *bytes, uint32_t len)
{
    struct tg_snappy_block *block = &b->block;
    const uint32_t at = b->base + (uint32_t)block->n_plain + 1;
    if (block->copy_len && b->src != b->now && b->log[b->src & LOG_MASK] == name) {
        tg_snappy_copy_on(block, len);
        b->src++;
        b->n_copied++;
    } else if (seen->at > b->base && seen->name == name &&
               (len >= TG_SNAPPY_MIN_COPY || block->copy_len)) {
        const size_t from = seen->at - b->base - 1;
        const bool is_logged = b->now - seen->in_log < TG_REMOTE_WRITE_LOG - MAX_COMPARED;
        if (block->copy_len && is_logged && stands_before(b, seen->in_log)) {
            tg_snappy_copy_from_before(block, from);
            tg_snappy_copy_on(block, len);
            b->n_copied++;
        } else if (len >= TG_SNAPPY_MIN_COPY) {
            b->n_copied = tg_snappy_copy(block, from, len) ? NOT_KNOWN : 1;
        } else {
            tg_snappy_literal(block, bytes, len);
        }
        b->src = is_logged ? seen->in_log + 1 : b->now;
    } else {
        tg_snappy_literal(block, bytes, len);
        seen->len = len;
        seen->name = name;
    }
    seen->at = at;
    seen->in_log = b->now;
    b->log[b->now++ & LOG_MASK] = name;
}

/* Room to remember part `id`. */
__attribute__((noinline)) static bool grow_seen(struct tg_remote_write_body *b, uint32_t id)
{
    uint32_t n = b->n_seen ? b->n_seen : MIN_SEEN;
    while (n <= id) n *= 2;
    struct tg_remote_write_seen *seen = tg_reallocarray(b->seen, n, sizeof(*seen));
    if (!seen) return false;
    memset(seen + b->n_seen, 0, (n - b->n_seen) * sizeof(*seen));
    b->seen = seen;
    b->n_seen = n;
    return true;
}

static size_t put_part(struct tg_remote_write_body *b, uint32_t id);

/* What is new in this body may have parts that are not. It can be copied from now on, but the log
 * has its parts. */
static size_t put_new_run(struct tg_remote_write_body *b, uint32_t id,
                          const struct tg_shared_part *run)
{
    const uint32_t at = b->base + (uint32_t)b->block.n_plain + 1;
    (void)put_part(b, run->parts[0]); /* not deep: a part is shorter by MIN_LEN at least */
    (void)put_part(b, run->parts[1]);
    b->seen[id] = (struct tg_remote_write_seen){
        .at = at, .in_log = b->now - TG_REMOTE_WRITE_LOG, .len = run->len, .name = id + 1};
    return run->len;
}

static size_t put_part(struct tg_remote_write_body *b, uint32_t id)
{
    if (b->is_snappy && (id < b->n_seen || grow_seen(b, id))) {
        struct tg_remote_write_seen *seen = &b->seen[id];
        const uint8_t *bytes = NULL;
        if (__builtin_expect(seen->at <= b->base, 0)) {
            const struct tg_shared_part *part = tg_shared_parts_at(b->shared_parts, id);
            if (part->is_run) return put_new_run(b, id, part);
            bytes = part->bytes;
            seen->len = part->len;
        }
        const uint32_t len = seen->len;
        put_name(b, seen, id + 1, bytes, len);
        return len;
    }
    const struct tg_shared_part *part = tg_shared_parts_at(b->shared_parts, id);
    put(b, part->bytes, part->len);
    return part->len;
}

/* The next token: v as in shared_parts.h. Of one or two bytes, mostly, and which of them cannot be
 * guessed: without a branch. */
static inline const uint8_t *next_token(const uint8_t *at, const uint8_t *end, uint64_t *v)
{
    const uint64_t first = at[0];
    const uint64_t second = at[at + 1 < end];
    const unsigned is_two = (unsigned)(first >> 7);
    *v = (first & 0x7f) | (second << 7 & (0 - (uint64_t)is_two));
    if (__builtin_expect((first & second) < 0x80, 1)) return at + 1 + is_two;
    (void)tg_varint_get(&at, end, v);
    return at;
}

/* Of a section of `*len` more bytes, the parts that come after what is copied at the moment, as
 * they do where it is copied from: put_name's first case, for many at once. */
static const uint8_t *copy_on(struct tg_remote_write_body *b, const uint8_t *at, const uint8_t *end,
                              size_t *len)
{
    uint32_t *const log = b->log;
    struct tg_remote_write_seen *const all = b->seen;
    const uint32_t n_seen = b->n_seen;
    const uint32_t first = b->base + (uint32_t)b->block.n_plain + 1;
    uint32_t now = b->now;
    uint32_t src = b->src;
    size_t n = 0;
    while (n < *len && src != now) {
        uint64_t v;
        const uint8_t *next = next_token(at, end, &v);
        const uint32_t name = (uint32_t)(v >> 1) + 1;
        if (!(v & 1) || name > n_seen || log[src & LOG_MASK] != name) break;
        struct tg_remote_write_seen *seen = &all[name - 1];
        seen->at = first + (uint32_t)n;
        seen->in_log = now;
        n += seen->len;
        log[now++ & LOG_MASK] = name;
        src++;
        at = next;
    }
    if (n) {
        tg_snappy_copy_on(&b->block, n);
        b->n_copied += now - b->now;
        b->now = now;
        b->src = src;
    }
    *len -= n;
    return at;
}

const uint8_t *tg_remote_write_put_section(struct tg_remote_write_body *b, const uint8_t *tokens,
                                           const uint8_t *end, size_t len)
{
    const uint8_t *at = tokens;
    for (;;) {
        if (b->block.copy_len) at = copy_on(b, at, end, &len);
        if (len == 0) return at;
        uint64_t v;
        at = next_token(at, end, &v);
        size_t n = (size_t)(v >> 1);
        if (v & 1) {
            n = put_part(b, (uint32_t)n);
        } else {
            put(b, at, n);
            at += n;
        }
        assert(n > 0 && n <= len);
        len -= n;
    }
}

/* --- fields --- */

/* Room for a field of `len` bytes with its head. */
static enum tg_code reserve(struct tg_remote_write_body *b, size_t head_len, size_t len,
                            size_t n_elements)
{
    const size_t left = b->max_bytes - b->block.n_plain;
    if (len > left || head_len > left - len) return TG_ERR_TOO_LARGE;
    return b->is_snappy ? tg_snappy_reserve(&b->block, head_len + len, n_elements + 1)
                        : tg_buf_reserve(b->block.out, head_len + len);
}

enum tg_code tg_remote_write_open_series(struct tg_remote_write_body *b, size_t total,
                                         size_t n_elements)
{
    uint8_t bytes[1 + TG_VARINT_MAX];
    struct tg_buf head = {.data = bytes, .cap = sizeof(bytes)};
    tg_buf_put_u8(&head, TG_PROTOBUF_WIRE_TAG(SERIES, TG_PROTOBUF_WIRE_BYTES));
    tg_buf_put_varint(&head, total);
    TG_TRY(reserve(b, head.len, total, n_elements));
    if (b->is_snappy && total < NAME_OF_SAMPLE)
        put_name(b, &b->heads[total % TG_REMOTE_WRITE_HEADS], NAME_OF_HEAD | (uint32_t)total, bytes,
                 (uint32_t)head.len);
    else
        put(b, bytes, head.len);
    return TG_OK;
}

enum tg_code tg_remote_write_body_add_field(struct tg_remote_write_body *b, uint32_t number,
                                            const void *bytes, size_t len)
{
    uint8_t head_bytes[2 * TG_VARINT_MAX];
    struct tg_buf head = {.data = head_bytes, .cap = sizeof(head_bytes)};
    tg_buf_put_varint(&head, TG_PROTOBUF_WIRE_TAG(number, TG_PROTOBUF_WIRE_BYTES));
    tg_buf_put_varint(&head, len);
    TG_TRY(reserve(b, head.len, len, 1));
    put(b, head_bytes, head.len);
    put(b, bytes, len);
    return TG_OK;
}

/* The j-th time is mostly that of the series before. */
void tg_remote_write_put_sample(struct tg_remote_write_body *b, uint32_t j, uint64_t bits,
                                uint64_t ms)
{
    struct tg_remote_write_seen *time = &b->times[j % TG_REMOTE_WRITE_TIMES];
    const bool is_known =
        b->is_snappy && time->at > b->base && b->times_ms[j % TG_REMOTE_WRITE_TIMES] == ms;
    const unsigned n_ms = is_known ? time->len - 1 : tg_varint_len(ms);
    uint8_t head[SAMPLE_HEAD] = {TG_PROTOBUF_WIRE_TAG(SAMPLES, TG_PROTOBUF_WIRE_BYTES),
                                 (uint8_t)(TG_REMOTE_WRITE_SAMPLE_BYTES - 2 + n_ms),
                                 TG_PROTOBUF_WIRE_TAG(1, TG_PROTOBUF_WIRE_FIXED64)};
    uint8_t time_bytes[1 + TG_VARINT_MAX];
    if (!is_known || time->len < TG_SNAPPY_MIN_COPY) {
        struct tg_buf t = {.data = time_bytes, .cap = sizeof(time_bytes)};
        tg_buf_put_u8(&t, TG_PROTOBUF_WIRE_TAG(2, TG_PROTOBUF_WIRE_VARINT));
        tg_buf_put_varint(&t, ms);
    }
    if (!b->is_snappy) {
        put(b, head, sizeof(head));
        put(b, &bits, 8);
        put(b, time_bytes, 1 + n_ms);
        return;
    }
    if (!is_known) {
        time->name = NAME_OF_TIME | b->n_times++;
        time->at = 0;
        b->times_ms[j % TG_REMOTE_WRITE_TIMES] = ms;
    }
    put_name(b, &b->sample_head, NAME_OF_SAMPLE | n_ms, head, sizeof(head));
    memcpy(tg_snappy_literal_of(&b->block, 8), &bits, 8);
    no_name(b);
    put_name(b, time, time->name, time_bytes, 1 + n_ms);
}
