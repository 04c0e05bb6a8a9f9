#include "core/base/logger.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/time_text.h"

static _Atomic int min_level = TG_LOG_INFO;

void tg_log_set_level(enum tg_log_level min)
{
    atomic_store(&min_level, (int)min);
}

void tg_log_emit(struct tg_log_site *site, enum tg_log_level level, const char *component,
                 const char *fmt, ...)
{
    if ((int)level < atomic_load_explicit(&min_level, memory_order_relaxed)) return;
    const uint32_t now_s = tg_clock_coarse_s();
    uint32_t held = 0;
    if (atomic_load(&site->second) != now_s) {
        atomic_store(&site->second, now_s);
        const uint32_t n = atomic_exchange(&site->n, 0);
        held = n > TG_LOG_BURST ? n - TG_LOG_BURST : 0;
    }
    if (atomic_fetch_add(&site->n, 1) >= TG_LOG_BURST) return;

    static const char *const names[] = {"debug", "info", "warn", "error"};
    char line[1024];
    size_t n = tg_time_text(line, tg_clock_wall_ns(), 3);
    int w = snprintf(line + n, sizeof(line) - n, " %s %s: ", names[level], component);
    n += w > 0 ? (size_t)w : 0;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line + n, sizeof(line) - n - 48, fmt, ap);
    va_end(ap);
    n = strlen(line);
    if (held) {
        w = snprintf(line + n, sizeof(line) - n, " (%u similar messages suppressed)", held);
        n += w > 0 ? (size_t)w : 0;
    }
    for (size_t i = 0; i < n; i++) { /* one event, one line; no commands to a terminal */
        if (line[i] == '\n') line[i] = ' ';
        const unsigned char c = (unsigned char)line[i];
        const bool is_c1 = c == 0xc2 && i + 1 < n && ((unsigned char)line[i + 1] & 0xe0) == 0x80;
        if (is_c1) line[i + 1] = '?'; /* U+0080 to U+009F, in UTF-8 */
        if (c < 0x20 || c == 0x7f || is_c1) line[i] = '?';
    }
    line[n++] = '\n';
    const ssize_t written = write(STDERR_FILENO, line, n);
    (void)written; /* nowhere left to report it */
}
