/* metric.h: the gateway's own counters and gauges, and their Prometheus text form.
 *
 * An owner embeds `struct tg_metric` values, registers them once and unregisters before they die.
 * Adding is a relaxed atomic: call it per batch, not per point.
 *
 * Threading: add/set from any thread; register, unregister and render take one lock.
 */
#ifndef TG_BASE_METRIC_H
#define TG_BASE_METRIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"

enum tg_metric_type { TG_METRIC_COUNTER, TG_METRIC_GAUGE };

struct tg_metric {
    _Atomic uint64_t value;
    const char *name; /* borrows: "tidegate_points_received_total" */
    const char *help; /* borrows */
    char labels[120]; /* copy: `backend="influx"`, may be empty */
    enum tg_metric_type type;
    bool in_millis;              /* the value counts thousandths of the unit in `name` */
    uint64_t (*read)(void *arg); /* when set, called at render time instead of reading value */
    void *arg;
    struct tg_metric *next;
    struct tg_metric *prev;
};

/* Registers *m (storage stays the caller's). `name` and `help` must outlive it. `labels_fmt` may be
 * NULL. */
void tg_metric_register(struct tg_metric *m, enum tg_metric_type type, const char *name,
                        const char *help, const char *labels_fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* As above with a value computed at render time by `read(arg)`, called under the registry's lock.
 */
void tg_metric_register_fn(struct tg_metric *m, enum tg_metric_type type, const char *name,
                           const char *help, uint64_t (*read)(void *arg), void *arg,
                           const char *labels_fmt, ...) __attribute__((format(printf, 7, 8)));
/* As above; `read_ms` gives milliseconds, which are shown as seconds, for names in _seconds. */
void tg_metric_register_seconds(struct tg_metric *m, enum tg_metric_type type, const char *name,
                                const char *help, uint64_t (*read_ms)(void *arg), void *arg,
                                const char *labels_fmt, ...) __attribute__((format(printf, 7, 8)));
void tg_metric_unregister(
    struct tg_metric *m); /* a metric that was never registered (zeroed) is accepted */

static inline void tg_metric_add(struct tg_metric *m, uint64_t n)
{
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}
static inline void tg_metric_set(struct tg_metric *m, uint64_t v)
{
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}
static inline uint64_t tg_metric_get(const struct tg_metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

/* Escapes a label value (backslash, quote, newline) into out, cut to fit; returns out. */
char *tg_metric_escape(char *out, size_t cap, const char *value);

/* Appends all metrics in Prometheus text format 0.0.4, grouped by name in registration order of the
 * names. */
TG_MUST_CHECK enum tg_code tg_metric_render(struct tg_buf *out);

#endif
