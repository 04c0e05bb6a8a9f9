#include "core/base/metric.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tg_metric *head;
static struct tg_metric *tail;

static void link_metric(struct tg_metric *m)
{
    (void)pthread_mutex_lock(&lock);
    /* After the last of the same name, so that render needs one pass. */
    struct tg_metric *after = NULL;
    for (struct tg_metric *i = head; i; i = i->next)
        if (strcmp(i->name, m->name) == 0) after = i;
    if (!after) after = tail;
    m->prev = after;
    m->next = after ? after->next : head;
    if (m->prev)
        m->prev->next = m;
    else
        head = m;
    if (m->next)
        m->next->prev = m;
    else
        tail = m;
    (void)pthread_mutex_unlock(&lock);
}

static void fill(struct tg_metric *m, enum tg_metric_type type, const char *name, const char *help)
{
    atomic_store(&m->value, 0);
    m->type = type;
    m->in_millis = false;
    m->name = name;
    m->help = help;
    m->labels[0] = '\0';
    m->read = NULL;
    m->arg = NULL;
}

void tg_metric_register(struct tg_metric *m, enum tg_metric_type type, const char *name,
                        const char *help, const char *labels_fmt, ...)
{
    fill(m, type, name, help);
    if (labels_fmt) {
        va_list ap;
        va_start(ap, labels_fmt);
        (void)vsnprintf(m->labels, sizeof(m->labels), labels_fmt, ap);
        va_end(ap);
    }
    link_metric(m);
}

void tg_metric_register_fn(struct tg_metric *m, enum tg_metric_type type, const char *name,
                           const char *help, uint64_t (*read)(void *arg), void *arg,
                           const char *labels_fmt, ...)
{
    fill(m, type, name, help);
    m->read = read;
    m->arg = arg;
    if (labels_fmt) {
        va_list ap;
        va_start(ap, labels_fmt);
        (void)vsnprintf(m->labels, sizeof(m->labels), labels_fmt, ap);
        va_end(ap);
    }
    link_metric(m);
}

void tg_metric_register_seconds(struct tg_metric *m, enum tg_metric_type type, const char *name,
                                const char *help, uint64_t (*read_ms)(void *arg), void *arg,
                                const char *labels_fmt, ...)
{
    fill(m, type, name, help);
    m->read = read_ms;
    m->arg = arg;
    m->in_millis = true;
    if (labels_fmt) {
        va_list ap;
        va_start(ap, labels_fmt);
        (void)vsnprintf(m->labels, sizeof(m->labels), labels_fmt, ap);
        va_end(ap);
    }
    link_metric(m);
}

void tg_metric_unregister(struct tg_metric *m)
{
    if (!m->name) return;
    (void)pthread_mutex_lock(&lock);
    if (m->prev)
        m->prev->next = m->next;
    else
        head = m->next;
    if (m->next)
        m->next->prev = m->prev;
    else
        tail = m->prev;
    m->next = m->prev = NULL;
    m->name = NULL;
    (void)pthread_mutex_unlock(&lock);
}

char *tg_metric_escape(char *out, size_t cap, const char *value)
{
    size_t o = 0;
    for (; *value && o + 3 <= cap; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n') out[o++] = '\\';
        out[o++] = *value == '\n' ? 'n' : *value;
    }
    out[o] = '\0';
    return out;
}

enum tg_code tg_metric_render(struct tg_buf *out)
{
    enum tg_code code = TG_OK;
    (void)pthread_mutex_lock(&lock);
    const char *last = NULL;
    for (const struct tg_metric *m = head; m && code == TG_OK; m = m->next) {
        if (!last || strcmp(last, m->name) != 0) {
            code = tg_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name,
                                 m->type == TG_METRIC_COUNTER ? "counter" : "gauge");
            last = m->name;
        }
        const uint64_t v = m->read ? m->read(m->arg) : tg_metric_get(m);
        char text[32];
        if (m->in_millis)
            (void)snprintf(text, sizeof(text), "%" PRIu64 ".%03u", v / 1000, (unsigned)(v % 1000));
        else
            (void)snprintf(text, sizeof(text), "%" PRIu64, v);
        if (code == TG_OK) {
            code = m->labels[0] ? tg_buf_printf(out, "%s{%s} %s\n", m->name, m->labels, text)
                                : tg_buf_printf(out, "%s %s\n", m->name, text);
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return code;
}
