/* capture.h: what is written to stderr between two calls, for tests of messages.
 *
 * Threading: one thread begins and ends.
 */
#ifndef TG_TESTS_CAPTURE_H
#define TG_TESTS_CAPTURE_H

#include <stddef.h>

void capture_begin(void);
/* Gives what came since, cut to cap - 1 bytes and NUL-terminated. */
void capture_end(char *out, size_t cap);
/* For cmocka's teardown: ends a capture that a failed test left, and shows what it held. */
int capture_give_back(void **state);

#endif
