#include "core/backend/prometheus/prometheus_about.h"

#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/model/help.h"
#include "core/protocol/prom_name.h"
#include "core/protocol/protobuf_wire.h"
#include "core/protocol/remote_write.h"

enum {
    MAX_KNOWN = 1 << 16,
    MIN_CAP = 64,
    MAX_BYTES = 4 << 20,
    AROUND = 48,  /* at most so many bytes more is a note as a field of WriteRequest */
    METADATA = 3, /* field of WriteRequest */
    TARGET_S = 60,
    METADATA_S = 600,
    PAUSE_MS = 60000,
};
#define NOT_DUE       UINT32_MAX
#define NEVER         INT64_MIN
#define TARGET_NS     (TARGET_S * UINT64_C(1000000000))
#define KIND_OF(mark) ((mark)-TG_PROM_NOTE_TARGET)

struct tg_prom_known {
    uint64_t hash;   /* 0 = free */
    int64_t sent_ns; /* the newest time of a point that it was sent with, or NEVER */
    uint32_t sent_s; /* monotonic clock */
    uint32_t due;    /* index, or NOT_DUE */
};

struct tg_prom_due {
    uint64_t hash;
    int64_t ts_ns;
    uint32_t offset, len; /* in `text` */
    uint8_t mark;
};

/* --- notes --- */

/* Its head with what shows no labels; then label by label. */
static size_t target_part(const uint8_t *begin, const uint8_t *at, const uint8_t *end, size_t *head)
{
    (void)head;
    const uint8_t *p = at + 1; /* of a label its tag, of a series its form */
    uint64_t len;
    if (at == begin) {
        p += TG_PROM_NOTE_HEAD;
        if (!tg_varint_get(&p, end, &len)) return (size_t)(end - at); /* of the labels, ... */
        len = 0;                                                      /* ... and their token */
    }
    uint64_t n;
    if (!tg_varint_get(&p, end, &n)) return (size_t)(end - at);
    if (at != begin) len = n;
    return len > (uint64_t)(end - p) ? (size_t)(end - at) : (size_t)(p - at) + (size_t)len;
}

static size_t metadata_part(const uint8_t *begin, const uint8_t *at, const uint8_t *end,
                            size_t *head)
{
    (void)begin;
    (void)head;
    return (size_t)(end - at);
}

static enum tg_code put_note(struct tg_buf *out, struct tg_shared_parts *shared_parts, uint8_t mark,
                             const void *bytes, size_t len, struct tg_buf *plain,
                             struct tg_buf *tokens)
{
    TG_TRY(tg_buf_reserve(plain, TG_PROM_NOTE_HEAD + len));
    tg_buf_put_u32(plain, (uint32_t)len);
    tg_buf_put_u64(plain, tg_hash64(bytes, len) | 1); /* 0 is no hash */
    tg_buf_put(plain, bytes, len);
    TG_TRY(tg_shared_parts_pack(shared_parts, plain->data, plain->len,
                                mark == TG_PROM_NOTE_METADATA ? metadata_part : target_part,
                                tokens));
    TG_TRY(tg_buf_reserve(out, 1 + TG_VARINT_MAX + tokens->len));
    tg_buf_put_u8(out, mark);
    tg_buf_put_varint(out, tokens->len);
    tg_buf_put(out, tokens->data, tokens->len);
    return TG_OK;
}

enum tg_code tg_prom_note_put(struct tg_buf *out, struct tg_shared_parts *shared_parts,
                              uint8_t mark, const void *bytes, size_t len)
{
    struct tg_buf plain;
    struct tg_buf tokens;
    if (len > UINT32_MAX - TG_PROM_NOTE_HEAD) return TG_ERR_TOO_LARGE;
    tg_buf_init(&plain, 0);
    tg_buf_init(&tokens, out->max_bytes);
    const enum tg_code code = put_note(out, shared_parts, mark, bytes, len, &plain, &tokens);
    tg_buf_deinit(&plain);
    tg_buf_deinit(&tokens);
    return code;
}

bool tg_prom_note_next_slow(const struct tg_shared_parts *shared_parts, const uint8_t **at,
                            const uint8_t *end, struct tg_prom_note *note)
{
    const uint8_t *p = *at + 1;
    uint64_t len;
    uint64_t token;
    if (!tg_varint_get(&p, end, &len) || len > (uint64_t)(end - p)) return false;
    note->mark = **at;
    note->tokens = p;
    note->tokens_len = (uint32_t)len;
    end = p + len;
    /* The head is in the first token: none is cut within it. */
    if (!tg_varint_get(&p, end, &token)) return false;
    if (token & 1) {
        const struct tg_shared_part *part =
            tg_shared_parts_at(shared_parts, (uint32_t)(token >> 1));
        if (part->len < TG_PROM_NOTE_HEAD) return false;
        p = part->bytes;
    } else if (token >> 1 < TG_PROM_NOTE_HEAD || token >> 1 > (uint64_t)(end - p)) {
        return false;
    }
    memcpy(&note->len, p, 4);
    memcpy(&note->hash, p + 4, 8);
    *at = end;
    return true;
}

/* Values of prompb.MetricMetadata.MetricType. */
static uint64_t metadata_type(const struct tg_series_desc *d)
{
    enum { UNKNOWN = 0, COUNTER = 1, GAUGE = 2, HISTOGRAM = 3, SUMMARY = 5 };
    switch (d->kind) {
    case TG_KIND_COUNTER: return COUNTER;
    case TG_KIND_GAUGE: return GAUGE;
    case TG_KIND_HISTOGRAM:
    case TG_KIND_EXP_HISTOGRAM: return HISTOGRAM;
    case TG_KIND_SUMMARY: return SUMMARY;
    default: return UNKNOWN;
    }
}

enum tg_code tg_prom_metadata_put(struct tg_buf *out, const struct tg_series_desc *d,
                                  const struct tg_prom_names *names, struct tg_err *err)
{
    enum { TYPE = 1, NAME = 2, HELP = 4, UNIT = 5 };
    struct tg_series_desc named = *d;
    struct tg_buf text;
    /* Rules may have renamed the series: what it has in common with its family is cut where it
     * still is. */
    if (d->has_family && tg_help_has_suffix(d->name, d->name_len, d->family_cut))
        named.name_len -= d->family_cut;
    tg_buf_init(&text, 0);
    enum tg_code code = tg_prom_metric_name(&named, names, &text, err);
    const size_t name_len = text.len;
    if (code == TG_OK)
        code = d->has_family ? tg_buf_append(&text, d->family_unit, d->family_unit_len)
                             : tg_prom_unit(d, &text);
    if (code == TG_OK) code = tg_buf_reserve(out, text.len + d->help_len + 48);
    if (code == TG_OK) {
        tg_protobuf_wire_put_varint(out, TYPE, d->has_family ? d->family_type : metadata_type(d));
        tg_protobuf_wire_put_bytes(out, NAME, text.data, name_len);
        if (d->help_len) tg_protobuf_wire_put_bytes(out, HELP, d->help, d->help_len);
        if (text.len > name_len)
            tg_protobuf_wire_put_bytes(out, UNIT, text.data + name_len, text.len - name_len);
    }
    tg_buf_deinit(&text);
    return code;
}

/* --- what is due --- */

void tg_prom_about_init(struct tg_prom_about *a, struct tg_shared_parts *shared_parts,
                        size_t max_request_bytes)
{
    *a = (struct tg_prom_about){
        .shared_parts = shared_parts,
        .max_bytes = max_request_bytes < MAX_BYTES ? max_request_bytes : MAX_BYTES,
    };
    tg_buf_init(&a->text,
                MAX_BYTES + 2 * TG_SHARED_PARTS_MAX_LEN); /* more than what is used of it */
}

void tg_prom_about_deinit(struct tg_prom_about *a)
{
    tg_free(a->known);
    tg_free(a->due);
    tg_buf_deinit(&a->text);
    a->known = NULL;
    a->due = NULL;
    a->cap = a->n_known = a->n_due = a->cap_due = 0;
}

static struct tg_prom_known *slot_of(struct tg_prom_known *known, uint32_t cap, uint64_t hash)
{
    uint32_t i = (uint32_t)(hash >> 32) & (cap - 1);
    while (known[i].hash && known[i].hash != hash) i = (i + 1) & (cap - 1);
    return &known[i];
}

static bool grow(struct tg_prom_about *a)
{
    const uint32_t cap = a->cap ? a->cap * 2 : MIN_CAP;
    struct tg_prom_known *more = tg_calloc(cap, sizeof(*more));
    if (!more) return false;
    for (uint32_t i = 0; i < a->cap; i++)
        if (a->known[i].hash) *slot_of(more, cap, a->known[i].hash) = a->known[i];
    tg_free(a->known);
    a->known = more;
    a->cap = cap;
    return true;
}

/* The slot of a hash, taken if it was free; NULL: no memory, or too many. */
static struct tg_prom_known *find(struct tg_prom_about *a, uint64_t hash)
{
    if (a->n_known >= a->cap / 2 && a->n_known < MAX_KNOWN && !grow(a)) return NULL;
    if (!a->known) return NULL;
    struct tg_prom_known *s = slot_of(a->known, a->cap, hash);
    if (s->hash) return s;
    if (a->n_known == MAX_KNOWN) return NULL;
    *s = (struct tg_prom_known){.hash = hash, .sent_ns = NEVER, .due = NOT_DUE};
    a->n_known++;
    return s;
}

void tg_prom_about_begin(struct tg_prom_about *a, uint64_t now_ms)
{
    a->now_s = (uint32_t)(now_ms / 1000);
    a->is_paused = now_ms < a->paused_until_ms;

    for (uint32_t i = 0; i < a->n_due; i++)
        slot_of(a->known, a->cap, a->due[i].hash)->due = NOT_DUE;
    a->n_due = 0;
    a->n_bytes = 0;
    tg_buf_reset(&a->text);
    a->last_hash[0] = a->last_hash[1] = 0;
    if (a->n_known == 0) a->forgotten_s = a->now_s;
    /* More often, and every write would have something due. */
    if (a->n_known < MAX_KNOWN || a->now_s - a->forgotten_s < TARGET_S) return;
    a->forgotten_s = a->now_s;
    memset(a->known, 0, a->cap * sizeof(*a->known));
    a->n_known = 0;
}

/* target_info goes with the time of the points, as what is asked for later is asked for by time:
 * also when hours of them are delivered in a minute. Older points than it was sent with (another
 * sender's clock, a backfill beside live data) go by the real time, or each write that follows one
 * of the other kind would have it due. Metadata has no time at all. */
static bool is_due(const struct tg_prom_about *a, const struct tg_prom_known *s, uint8_t mark,
                   int64_t ts_ns)
{
    if (s->sent_ns == NEVER) return true;
    const uint32_t passed_s = a->now_s - s->sent_s;
    if (mark == TG_PROM_NOTE_METADATA) return passed_s >= METADATA_S;
    if (ts_ns > s->sent_ns) return (uint64_t)ts_ns - (uint64_t)s->sent_ns >= TARGET_NS;
    return passed_s >= TARGET_S && (uint64_t)s->sent_ns - (uint64_t)ts_ns >= TARGET_NS;
}

static bool gather(struct tg_prom_about *a, const struct tg_prom_note *note, int64_t ts_ns)
{
    const size_t size = (size_t)note->len + AROUND;
    if (size > a->max_bytes) a->too_large = note->len;
    if (size > a->max_bytes - a->n_bytes) return false;
    if (a->n_due == a->cap_due) {
        const uint32_t cap = a->cap_due ? a->cap_due * 2 : MIN_CAP;
        struct tg_prom_due *due = tg_reallocarray(a->due, cap, sizeof(*due));
        if (!due) return false;
        a->due = due;
        a->cap_due = cap;
    }
    const size_t at = a->text.len;
    if (tg_shared_parts_unpack(a->shared_parts, note->tokens, note->tokens_len, &a->text) !=
            TG_OK ||
        a->text.len - at != TG_PROM_NOTE_HEAD + (size_t)note->len) {
        a->text.len = at;
        return false;
    }
    const uint32_t offset = (uint32_t)at + TG_PROM_NOTE_HEAD; /* at most MAX_BYTES */
    a->n_bytes += size;
    a->due[a->n_due++] = (struct tg_prom_due){note->hash, ts_ns, offset, note->len, note->mark};
    return true;
}

void tg_prom_about_see(struct tg_prom_about *a, const struct tg_prom_note *note, int64_t ts_ns)
{
    const unsigned kind = KIND_OF(note->mark) & 1;
    if (a->is_paused) return;
    if (note->hash != a->last_hash[kind]) {
        struct tg_prom_known *s = find(a, note->hash);
        if (!s) return;
        if (s->due == NOT_DUE && is_due(a, s, note->mark, ts_ns) && gather(a, note, ts_ns))
            s->due = a->n_due - 1;
        a->last_hash[kind] = note->hash;
        a->last_due[kind] = s->due;
    }
    if (a->last_due[kind] == NOT_DUE) return;
    struct tg_prom_due *due = &a->due[a->last_due[kind]];
    if (ts_ns > due->ts_ns) due->ts_ns = ts_ns;
}

enum tg_code tg_prom_about_encode(const struct tg_prom_about *a, struct tg_remote_write_body *body)
{
    for (uint32_t i = 0; i < a->n_due; i++) {
        const struct tg_prom_due *d = &a->due[i];
        const uint8_t *bytes = a->text.data + d->offset;
        if (d->mark == TG_PROM_NOTE_METADATA) {
            TG_TRY(tg_remote_write_body_add_field(body, METADATA, bytes, d->len));
            continue;
        }
        const struct tg_point one = {.ts_ns = d->ts_ns, .value.f64 = 1, .type = TG_VALUE_DOUBLE};
        const struct tg_point *const points[] = {&one};
        bool is_left_out;
        TG_TRY(tg_remote_write_body_add(body, bytes, d->len, points, 1, &is_left_out));
    }
    return TG_OK;
}

void tg_prom_about_sent(struct tg_prom_about *a)
{
    for (uint32_t i = 0; i < a->n_due; i++) {
        struct tg_prom_known *s = slot_of(a->known, a->cap, a->due[i].hash);
        if (a->due[i].ts_ns > s->sent_ns) s->sent_ns = a->due[i].ts_ns;
        s->sent_s = a->now_s;
    }
}

void tg_prom_about_failed(struct tg_prom_about *a, uint64_t now_ms)
{
    a->paused_until_ms = now_ms + PAUSE_MS;
}
