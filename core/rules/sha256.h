/* sha256.h: SHA-256 (FIPS 180-4) for hash() in rules: stable over restarts and machines, one way.
 *
 * Threading: no shared state.
 */
#ifndef TG_RULES_SHA256_H
#define TG_RULES_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* Digest of `len` bytes. */
void tg_sha256(const void *bytes, size_t len, uint8_t out[32]);

#endif
