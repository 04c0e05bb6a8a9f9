/* parquet_dict.h: the dictionary of one string column while it is written: strings get indices in
 * order of arrival.
 *
 * Strings are borrowed: they outlive the dictionary's use.
 *
 * Threading: one thread at a time.
 */
#ifndef TG_PARQUET_PARQUET_DICT_H
#define TG_PARQUET_PARQUET_DICT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"

struct tg_parquet_string {
    const char *ptr;
    uint32_t len;
    uint32_t hash; /* low bits */
};

struct tg_parquet_dict {
    struct tg_parquet_string *items; /* index -> string */
    uint32_t n, cap;
    uint32_t *slots; /* hash -> index + 1; a power of two of them */
    uint32_t n_slots;
    uint64_t plain_bytes; /* of the dictionary page */
};

void tg_parquet_dict_init(struct tg_parquet_dict *d);
void tg_parquet_dict_deinit(struct tg_parquet_dict *d);
void tg_parquet_dict_reset(struct tg_parquet_dict *d); /* keeps capacity */
/* The index of the string, added when new. TG_ERR_NOMEM. */
TG_MUST_CHECK enum tg_code tg_parquet_dict_add(struct tg_parquet_dict *d, const char *p,
                                               uint32_t len, uint32_t *index);
/* Appends the dictionary page's body (PLAIN byte arrays). */
TG_MUST_CHECK enum tg_code tg_parquet_dict_encode(const struct tg_parquet_dict *d,
                                                  struct tg_buf *out);

#endif
