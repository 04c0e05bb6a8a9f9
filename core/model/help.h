/* help.h: what metrics are for, in their senders' words.
 *
 * A description does not make a series (it changes with a sentence of documentation), so it is kept
 * beside the table and handed on with a series' desc. Two kinds, which never meet:
 *
 *   of a metric   OTLP: text by the metric's name; kind and unit belong to the series
 *   of a family   remote write: type, text and unit by the name that the series of a family have
 *                 in common: `http_requests` of http_requests_total and http_requests_created,
 *                 `rpc_seconds` of rpc_seconds_bucket, _sum and _count
 *
 *   slots by hash of the name:   [hash, len, text] [free] ...     half full at most
 *
 * The newest text of a metric stands. Of a family, that of the sender which said it first stands
 * while it is said: two exporters of one metric with a word between them would otherwise have it
 * change every minute. When it was not heard for TG_HELP_STANDS_S, the next one takes its place.
 *
 * What is known outlives a restart (core/pipe/help_keeper.h): series whose points wait in the log are
 * described before their senders come again.
 *
 * Limits: TG_HELP_MAX metrics and families, TG_HELP_MAX_BYTES of a text (longer ones are cut at a
 * character), TG_HELP_MAX_UNIT of a unit (longer ones are left out). What is over the first is
 * refused, and said once.
 *
 * Threading: all functions from any thread; one lock, cold path.
 */
#ifndef TG_MODEL_HELP_H
#define TG_MODEL_HELP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/arena.h"
#include "core/base/buf.h"

enum {
    TG_HELP_MAX = 1 << 14,
    TG_HELP_MAX_BYTES = 1024,
    TG_HELP_MAX_UNIT = 63,
    TG_HELP_MAX_TYPE = 7, /* of prompb.MetricMetadata.MetricType */
    TG_HELP_STANDS_S = 600,
};

struct tg_help;

enum tg_help_noted {
    TG_HELP_NOTED,
    TG_HELP_INVALID, /* no name, or not UTF-8 */
    TG_HELP_OTHER,   /* what another sender says stands */
    TG_HELP_FULL,    /* TG_HELP_MAX are known, or there is no memory */
};

struct tg_help_family {
    const char *help, *unit;
    uint32_t help_len, unit_len;
    uint8_t type; /* prompb.MetricMetadata.MetricType: 0 unknown, 1 counter, 2 gauge, ... */
    uint8_t cut;  /* tg_help_find_family: so many bytes of the name are the suffix */
};

struct tg_help *tg_help_new(void);    /* NULL when out of memory */
void tg_help_free(struct tg_help *h); /* NULL accepted */
/* Notes (copies) the text of a metric; the newest stands. An empty text says nothing. */
enum tg_help_noted tg_help_note(struct tg_help *h, const char *name, size_t name_len,
                                const char *text, size_t text_len);
/* The text, in `arena`; *len 0 when there is none (or no memory). */
const char *tg_help_find(struct tg_help *h, const char *name, size_t name_len,
                         struct tg_arena *arena, uint32_t *len);

/* Notes (copies) what is said of a family, at now_s (tg_clock_coarse_s). A type that we do not know
 * is unknown. */
enum tg_help_noted tg_help_note_family(struct tg_help *h, const char *name, size_t name_len,
                                       const struct tg_help_family *what, uint32_t now_s);
/* What is known of the family of a series of this name, in `arena`: of the name itself, or of what
 * comes before _bucket, _sum, _count, _total, _created or _info. False: nothing, or no memory. */
bool tg_help_find_family(struct tg_help *h, const char *name, size_t name_len,
                         struct tg_arena *arena, struct tg_help_family *out);
/* Whether `name` ends in one of the suffixes above, `cut` bytes long, and is longer. Pure. */
bool tg_help_has_suffix(const char *name, size_t name_len, size_t cut);
/* The change of the family of a series of this name: larger than any before; 0 = nothing known. */
uint64_t tg_help_family_change(struct tg_help *h, const char *name, size_t name_len);
/* The newest change of any text, and of one of a family. */
void tg_help_changes(struct tg_help *h, uint64_t *any, uint64_t *family);

/* All that is known as bytes, checksum included, and back; names, as the hashes of this process
 * mean nothing to the next:
 *
 *   "tghelp01" | records of { u8 is_family | u8 type | u8 unit len | u32 name len | u32 help len
 *                             | name | help | unit } | u32 crc32c of all before
 *
 * A family that was loaded stands until another text comes. TG_ERR_NOMEM, TG_ERR_TOO_LARGE;
 * TG_ERR_CORRUPT: nothing was taken. */
TG_MUST_CHECK enum tg_code tg_help_save(struct tg_help *h, struct tg_buf *out);
TG_MUST_CHECK enum tg_code tg_help_load(struct tg_help *h, const uint8_t *bytes, size_t len);

#endif
