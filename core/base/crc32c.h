/* crc32c.h: CRC-32C (Castagnoli), the checksum under every record of the log.
 *
 * Polynomial 0x1EDC6F41 reflected, initial value and final XOR ~0, as in RFC 3720 appendix B.4.
 * tg_crc32c(tg_crc32c(0, a), b) is the checksum of a followed by b. The instruction of SSE4.2
 * where the processor has it, which is asked when it runs, else a table; both give the same.
 *
 * Threading: no state.
 */
#ifndef TG_BASE_CRC32C_H
#define TG_BASE_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t tg_crc32c(uint32_t crc, const void *p, size_t len);
/* Whether tg_crc32c uses an instruction of this processor. */
bool tg_crc32c_has_instruction(void);
/* The portable form, for machines without the instruction and for the test that compares them. */
uint32_t tg_crc32c_table(uint32_t crc, const void *p, size_t len);

#endif
