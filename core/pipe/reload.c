#include "core/pipe/reload.h"

#include <pthread.h>

#include "core/base/mem.h"
#include "core/pipe/trial.h"

struct request {
    struct request *next;
    unsigned flags;
    tg_on_reload on_reload;
    void *arg;
};

struct tg_reloader {
    struct tg_planner *planner; /* the thread's; its rules are those that are loaded again */
    pthread_t thread;
    pthread_mutex_t lock; /* with all below */
    pthread_cond_t wake;
    struct request *head, *tail;
    unsigned n_waiting;
    bool stopping;
};

static struct request *take_head(struct tg_reloader *r)
{
    struct request *q = r->head;
    if (!q) return NULL;
    r->head = q->next;
    if (!r->head) r->tail = NULL;
    r->n_waiting--;
    return q;
}

static enum tg_code try_on_live_series(void *arg, struct tg_rules_candidate *c,
                                       struct tg_rules_report *report)
{
    struct tg_reloader *r = arg;
    return tg_trial_run(r->planner, c, report);
}

static void run(struct tg_reloader *r, struct request *q, bool is_canceled)
{
    struct tg_reload_result result = {.err = {.msg = ""}};
    const struct tg_rules_reload_how how = {
        .is_forced = q->flags & TG_RELOAD_FORCE,
        .is_strict = q->flags & TG_RELOAD_STRICT,
        .trial = try_on_live_series,
        .arg = r,
    };
    result.code = is_canceled
                      ? tg_fail(&result.err, TG_ERR_CANCELED, "the gateway is shutting down")
                      : tg_rules_reload_tried(r->planner->rules, &how, &result.report, &result.err);
    result.generation = tg_rules_generation(r->planner->rules);
    if (q->on_reload) q->on_reload(q->arg, &result);
    tg_free(q);
}

static void *reload_main(void *arg)
{
    struct tg_reloader *r = arg;
    (void)pthread_setname_np(pthread_self(), "reload");
    (void)pthread_mutex_lock(&r->lock);
    for (;;) {
        struct request *q = take_head(r);
        if (q) {
            const bool is_canceled = r->stopping;
            (void)pthread_mutex_unlock(&r->lock);
            run(r, q, is_canceled);
            (void)pthread_mutex_lock(&r->lock);
        } else if (r->stopping) {
            break;
        } else {
            (void)pthread_cond_wait(&r->wake, &r->lock);
        }
    }
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

enum tg_code tg_reloader_new(struct tg_planner *planner, struct tg_reloader **out,
                             struct tg_err *err)
{
    *out = NULL;
    struct tg_reloader *r = tg_calloc(1, sizeof(*r));
    if (!r) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    r->planner = planner;
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_cond_init(&r->wake, NULL);
    const int rc = pthread_create(&r->thread, NULL, reload_main, r);
    if (rc != 0) {
        (void)pthread_cond_destroy(&r->wake);
        (void)pthread_mutex_destroy(&r->lock);
        tg_free(r);
        return tg_fail_errno(err, rc, "cannot start the reload thread");
    }
    *out = r;
    return TG_OK;
}

enum tg_code tg_reloader_submit(struct tg_reloader *r, unsigned flags, tg_on_reload on_reload,
                                void *arg, struct tg_err *err)
{
    struct request *q = tg_malloc(sizeof(*q));
    if (!q) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    *q = (struct request){.flags = flags, .on_reload = on_reload, .arg = arg};
    enum tg_code code = TG_OK;
    (void)pthread_mutex_lock(&r->lock);
    if (r->stopping) {
        code = tg_fail(err, TG_ERR_CANCELED, "the gateway is shutting down");
    } else if (r->n_waiting >= TG_RELOAD_MAX_WAITING) {
        code = tg_fail(err, TG_ERR_FULL, "%d reloads wait already; try again later",
                       (int)TG_RELOAD_MAX_WAITING);
    } else {
        if (r->tail)
            r->tail->next = q;
        else
            r->head = q;
        r->tail = q;
        r->n_waiting++;
        (void)pthread_cond_signal(&r->wake);
    }
    (void)pthread_mutex_unlock(&r->lock);
    if (code != TG_OK) tg_free(q);
    return code;
}

void tg_reloader_stop(struct tg_reloader *r)
{
    if (!r) return;
    tg_rules_cancel_load(r->planner->rules);
    (void)pthread_mutex_lock(&r->lock);
    r->stopping = true;
    (void)pthread_cond_signal(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
    (void)pthread_join(r->thread, NULL);
    (void)pthread_cond_destroy(&r->wake);
    (void)pthread_mutex_destroy(&r->lock);
    tg_free(r);
}
