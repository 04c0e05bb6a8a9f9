/* trouble.c: what is wrong with a delivery. */
#include "core/pipe/trouble.h"

#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/logger.h"
#include "core/pipe/gateway.h"

enum { SAY_EVERY_MS = 60 * 1000 };

void tg_trouble_init(struct tg_trouble *t, const char *name)
{
    t->name = name;
    (void)pthread_mutex_init(&t->lock, NULL);
    atomic_store(&t->is_healthy, true);
}

void tg_trouble_deinit(struct tg_trouble *t)
{
    (void)pthread_mutex_destroy(&t->lock);
}

void tg_trouble_note(struct tg_trouble *t, const char *message)
{
    (void)pthread_mutex_lock(&t->lock);
    (void)snprintf(t->last_error, sizeof(t->last_error), "%s", message);
    t->last_error_ns = tg_clock_wall_ns();
    t->well_ns = 0;
    (void)pthread_mutex_unlock(&t->lock);
}

void tg_trouble_note_well(struct tg_trouble *t)
{
    atomic_store(&t->is_healthy, true);
    (void)pthread_mutex_lock(&t->lock);
    if (t->last_error[0] && !t->well_ns) t->well_ns = tg_clock_wall_ns();
    (void)pthread_mutex_unlock(&t->lock);
}

void tg_trouble_set_unhealthy(struct tg_trouble *t)
{
    atomic_store(&t->is_healthy, false);
}

bool tg_trouble_is_healthy(const struct tg_trouble *t)
{
    return atomic_load(&t->is_healthy);
}

void tg_trouble_status(struct tg_trouble *t, struct tg_backend_status *out)
{
    out->healthy = tg_trouble_is_healthy(t);
    (void)pthread_mutex_lock(&t->lock);
    (void)snprintf(out->last_error, sizeof(out->last_error), "%s", t->last_error);
    out->last_error_ns = t->last_error_ns;
    out->well_ns = t->well_ns;
    (void)pthread_mutex_unlock(&t->lock);
}

void tg_trouble_write_failed(struct tg_trouble *t, const char *message)
{
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_trouble_note(t, message);
    if (t->n_failed_writes++ == 0)
        tg_warn("delivery", "%s: a write failed and will be retried: %s", t->name, message);
    else if (now_ms - t->failure_said_ms >= SAY_EVERY_MS)
        tg_warn("delivery", "%s: still failing after %u tries: %s", t->name, t->n_failed_writes,
                message);
    else
        return;
    t->failure_said_ms = now_ms;
}

void tg_trouble_write_went_well(struct tg_trouble *t)
{
    if (t->n_failed_writes)
        tg_info("delivery", "%s: writes succeed again, after %u that failed", t->name,
                t->n_failed_writes);
    t->n_failed_writes = 0;
    tg_trouble_note_well(t);
}

void tg_trouble_stalled(struct tg_trouble *t, const struct tg_err *err)
{
    const uint64_t now_ms = tg_clock_mono_ms();
    tg_trouble_note(t, err->msg);
    if (t->stall_said_ms && err->code == t->stall_said_code &&
        now_ms - t->stall_said_ms < SAY_EVERY_MS)
        return;
    tg_warn("delivery", "%s: stalled, will try again: %s", t->name, err->msg);
    t->stall_said_ms = now_ms;
    t->stall_said_code = err->code;
}

void tg_trouble_stall_ended(struct tg_trouble *t)
{
    t->stall_said_ms = 0;
}

void tg_trouble_lost(struct tg_trouble *t, uint64_t n, uint64_t from_pos, uint64_t to_pos)
{
    if (n == 0) return;
    if (t->n_lost_unsaid == 0 || from_pos < t->lost_unsaid_from) t->lost_unsaid_from = from_pos;
    if (t->n_lost_unsaid == 0 || to_pos > t->lost_unsaid_to) t->lost_unsaid_to = to_pos;
    t->n_lost_unsaid += n;
    tg_trouble_tick(t);
}

void tg_trouble_tick(struct tg_trouble *t)
{
    char text[256];
    const uint64_t now_ms = tg_clock_mono_ms();
    if (t->n_lost_unsaid == 0) return;
    if (t->lost_said_ms && now_ms - t->lost_said_ms < SAY_EVERY_MS) return;
    (void)snprintf(text, sizeof(text),
                   "%llu points are lost, between the positions %llu and %llu: files of the log "
                   "are damaged or gone",
                   (unsigned long long)t->n_lost_unsaid, (unsigned long long)t->lost_unsaid_from,
                   (unsigned long long)t->lost_unsaid_to);
    tg_trouble_note(t, text);
    tg_error("delivery",
             "%s: %s; earlier messages and log.dir/damaged tell more. To have them: put the "
             "segments back (stop first) and rewind to position %llu, or have them sent again",
             t->name, text, (unsigned long long)t->lost_unsaid_from);
    t->n_lost_unsaid = 0;
    t->lost_said_ms = now_ms;
}

bool tg_trouble_validate(struct tg_trouble *t)
{
    (void)pthread_mutex_lock(&t->lock);
    const bool ok = t->well_ns == 0 || t->last_error[0];
    (void)pthread_mutex_unlock(&t->lock);
    return ok &&
           (t->n_lost_unsaid == 0 || (t->lost_said_ms && t->lost_unsaid_from <= t->lost_unsaid_to));
}
