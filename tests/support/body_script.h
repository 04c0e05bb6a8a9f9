/* body_script.h: remote-write bodies as some bytes say, each written in all the ways there are, and
 * compared: for random bytes (unit test) and for those of a fuzzer.
 *
 *   a snappy block, decompressed by libsnappy   =  the plain body
 *   the plain body of parts                     =  tg_remote_write_append_point of the same series
 *                                                  without parts, point by point, where none
 *                                                  were grouped
 *   what is decoded from the plain body         =  what is decoded from the points one by one,
 *                                                  in another order
 *
 * Threading: one thread at a time.
 */
#ifndef TG_TEST_BODY_SCRIPT_H
#define TG_TEST_BODY_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

struct tg_body_counts { /* what was there, so that a test can tell that it tested something */
    uint64_t n_bodies, n_points, n_left_out, n_grouped;
    uint64_t plain_bytes, block_bytes;
};

/* Aborts when something differs, or without memory. */
void tg_body_script(const uint8_t *bytes, size_t len, struct tg_body_counts *counts);

#endif
