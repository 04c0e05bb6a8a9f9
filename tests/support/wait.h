/* wait.h: waits for a condition, with a deadline at which the test fails and says for what.
 *
 * Include it after cmocka.h. Threading: the thread that runs the test.
 */
#ifndef TG_TESTS_WAIT_H
#define TG_TESTS_WAIT_H

#include <unistd.h>

#include "core/base/clock.h"

enum { WAIT_MAX_MS = 60000 };

#define WAIT_UNTIL(condition)                                                               \
    do {                                                                                    \
        const uint64_t wait_until_ms = tg_clock_mono_ms() + WAIT_MAX_MS;                    \
        while (!(condition)) {                                                              \
            if (tg_clock_mono_ms() > wait_until_ms) fail_msg("never came: %s", #condition); \
            (void)usleep(1000);                                                             \
        }                                                                                   \
    } while (0)

#endif
