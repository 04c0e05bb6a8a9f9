/* logger.h: log lines to stderr as `2026-01-01T00:00:00.000Z level component: message`.
 *
 * Called "logger" because "log" is the durable log. A message says what, which input, which limit,
 * what to change. Repeats of one call site are held to `TG_LOG_BURST` a second, and the number held
 * back is said.
 *
 * Threading: any thread; one write(2) per line.
 */
#ifndef TG_BASE_LOGGER_H
#define TG_BASE_LOGGER_H

#include <stdatomic.h>
#include <stdint.h>

enum tg_log_level { TG_LOG_DEBUG, TG_LOG_INFO, TG_LOG_WARN, TG_LOG_ERROR };
enum { TG_LOG_BURST = 10 };

struct tg_log_site { /* one per call site, made by the macros */
    _Atomic uint32_t second;
    _Atomic uint32_t n;
};

void tg_log_set_level(enum tg_log_level min);
void tg_log_emit(struct tg_log_site *site, enum tg_log_level level, const char *component,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#define TG_LOG_AT(level, component, ...)                       \
    do {                                                       \
        static struct tg_log_site tg_site_;                    \
        tg_log_emit(&tg_site_, level, component, __VA_ARGS__); \
    } while (0)
#define tg_debug(component, ...) TG_LOG_AT(TG_LOG_DEBUG, component, __VA_ARGS__)
#define tg_info(component, ...)  TG_LOG_AT(TG_LOG_INFO, component, __VA_ARGS__)
#define tg_warn(component, ...)  TG_LOG_AT(TG_LOG_WARN, component, __VA_ARGS__)
#define tg_error(component, ...) TG_LOG_AT(TG_LOG_ERROR, component, __VA_ARGS__)

#endif
