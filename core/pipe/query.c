#include "core/pipe/query.h"

#include <pthread.h>
#include <stdio.h>

#include "core/base/mem.h"

struct waiting {
    struct waiting *next;
    struct tg_query_request request;
    enum tg_code (*look)(void *arg, struct tg_err *err); /* instead of a backend's query */
    struct tg_query_stop *stop;                          /* the query's, or: */
    struct tg_query_stop own_stop;
};

struct query_thread {
    struct tg_query_desk *desk;
    pthread_t thread;
    bool has_thread;
    struct tg_loop *loop;
    struct tg_query_stop *stop; /* of the query that runs; NULL = none does */
    /* how it ended; the thread's own */
    enum tg_code code;
    struct tg_err err;
};

struct tg_query_desk {
    pthread_mutex_t lock; /* with all below, and `stop` of the threads */
    pthread_cond_t wake;
    struct waiting *head, *tail;
    unsigned n_waiting;
    uint64_t n_refused;
    bool stopping;
    bool is_looking; /* one of the threads is */
    struct query_thread threads[TG_QUERIES_RUNNING];
};

/* --- those that wait --- */

/* Takes out all that have to end, as a list in their order. Under the lock. */
static struct waiting *take_ended(struct tg_query_desk *d)
{
    struct waiting *ended = NULL, **ended_tail = &ended, **link = &d->head;
    d->tail = NULL;
    while (*link) {
        struct waiting *w = *link;
        if (tg_query_must_stop(w->stop)) {
            *link = w->next;
            w->next = NULL;
            *ended_tail = w;
            ended_tail = &w->next;
            d->n_waiting--;
        } else {
            d->tail = w;
            link = &w->next;
        }
    }
    return ended;
}

static void end_waiting(const struct waiting *w)
{
    const struct tg_query_request *r = &w->request;
    const int why = atomic_load(&w->stop->reason);
    struct tg_err err;
    const enum tg_code code =
        why == TG_QUERY_OUT_OF_TIME
            ? tg_fail(&err, TG_ERR_FULL,
                      "%d queries were running all the time, so this one did not begin; try again "
                      "later",
                      (int)TG_QUERIES_RUNNING)
        : why == TG_QUERY_SHUTDOWN ? tg_fail(&err, TG_ERR_CANCELED, "the gateway is shutting down")
                                   : tg_fail(&err, TG_ERR_CANCELED, "canceled");
    r->on_end(r->arg, code, &err);
}

/* Not under the lock: the callbacks may come back here. */
static void end_all(struct waiting *w)
{
    while (w) {
        struct waiting *next = w->next;
        end_waiting(w);
        tg_free(w);
        w = next;
    }
}

/* The oldest that may begin. */
static struct waiting *take_next(struct tg_query_desk *d)
{
    struct waiting *before = NULL, *w = d->head;
    for (; w && w->look && d->is_looking; w = w->next) before = w;
    if (!w) return NULL;
    if (before)
        before->next = w->next;
    else
        d->head = w->next;
    if (d->tail == w) d->tail = before;
    if (w->look) d->is_looking = true;
    d->n_waiting--;
    return w;
}

/* --- those that run --- */

static void on_end(void *arg, enum tg_code code, const struct tg_err *err)
{
    struct query_thread *t = arg;
    t->code = code;
    if (err)
        t->err = *err;
    else
        t->err.msg[0] = '\0';
    tg_loop_stop(t->loop);
}

/* on_row and on_end have one `arg`: the row's goes through here. */
struct run {
    struct query_thread *thread;
    const struct tg_query_request *request;
};

static bool on_row(void *arg, const struct tg_query_row *row)
{
    const struct run *run = arg;
    return run->request->on_row(run->request->arg, row);
}

static void on_run_end(void *arg, enum tg_code code, const struct tg_err *err)
{
    const struct run *run = arg;
    on_end(run->thread, code, err);
}

static void run_query(struct query_thread *t, struct waiting *w)
{
    const struct tg_query_request *r = &w->request;
    if (w->look) {
        t->err.msg[0] = '\0';
        t->code = w->look(r->arg, &t->err);
        return;
    }
    struct run run = {t, r};
    struct tg_query q = *r->query;
    q.loop = t->loop;
    q.stop = w->stop;
    r->ops->query_range(r->backend, &q, on_row, on_run_end, &run);
    tg_loop_run(t->loop); /* until on_end, which may have been already */
    if (t->code == TG_ERR_CANCELED && atomic_load(&w->stop->reason) == TG_QUERY_SHUTDOWN)
        (void)tg_fail(&t->err, t->code, "the gateway is shutting down");
}

static void *query_main(void *arg)
{
    struct query_thread *t = arg;
    struct tg_query_desk *d = t->desk;
    char name[16];
    (void)snprintf(name, sizeof(name), "query-%u", (unsigned)(t - d->threads));
    (void)pthread_setname_np(pthread_self(), name);
    (void)pthread_mutex_lock(&d->lock);
    for (;;) {
        struct waiting *ended = take_ended(d);
        struct waiting *w = take_next(d);
        if (!w && !ended) {
            if (d->stopping) break;
            (void)pthread_cond_wait(&d->wake, &d->lock);
            continue;
        }
        t->stop = w ? w->stop : NULL;
        (void)pthread_mutex_unlock(&d->lock);
        end_all(ended);
        if (w) run_query(t, w);
        (void)pthread_mutex_lock(&d->lock);
        t->stop = NULL;                          /* its owner may free it from the callback on */
        if (w && w->look) d->is_looking = false; /* this thread takes the next */
        if (!w) continue;
        (void)pthread_mutex_unlock(&d->lock);
        w->request.on_end(w->request.arg, t->code, &t->err);
        tg_free(w);
        (void)pthread_mutex_lock(&d->lock);
    }
    (void)pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* --- from outside --- */

static enum tg_code start_thread(struct tg_query_desk *d, struct query_thread *t,
                                 struct tg_err *err)
{
    t->desk = d;
    t->loop = tg_loop_new();
    if (!t->loop) return tg_fail(err, TG_ERR_NOMEM, "cannot make an event loop for queries");
    const int rc = pthread_create(&t->thread, NULL, query_main, t);
    if (rc != 0) return tg_fail_errno(err, rc, "cannot start a thread for queries");
    t->has_thread = true;
    return TG_OK;
}

enum tg_code tg_query_desk_new(struct tg_query_desk **out, struct tg_err *err)
{
    *out = NULL;
    struct tg_query_desk *d = tg_calloc(1, sizeof(*d));
    if (!d) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    (void)pthread_mutex_init(&d->lock, NULL);
    (void)pthread_cond_init(&d->wake, NULL);
    enum tg_code code = TG_OK;
    for (unsigned i = 0; i < TG_QUERIES_RUNNING && code == TG_OK; i++)
        code = start_thread(d, &d->threads[i], err);
    if (code != TG_OK) {
        tg_query_desk_stop(d);
        tg_query_desk_free(d);
        return code;
    }
    *out = d;
    return TG_OK;
}

/* Takes `w`, also on failure. */
static enum tg_code put_last(struct tg_query_desk *d, struct waiting *w, struct tg_err *err)
{
    enum tg_code code = TG_OK;
    (void)pthread_mutex_lock(&d->lock);
    struct waiting *ended = take_ended(d);
    if (d->stopping) {
        code = tg_fail(err, TG_ERR_CANCELED, "the gateway is shutting down");
    } else if (d->n_waiting >= TG_QUERIES_WAITING) {
        d->n_refused++;
        code = tg_fail(err, TG_ERR_FULL, "%d queries run and %d wait already; try again later",
                       (int)TG_QUERIES_RUNNING, (int)TG_QUERIES_WAITING);
    } else {
        if (d->tail)
            d->tail->next = w;
        else
            d->head = w;
        d->tail = w;
        d->n_waiting++;
        (void)pthread_cond_signal(&d->wake);
    }
    (void)pthread_mutex_unlock(&d->lock);
    end_all(ended);
    if (code != TG_OK) tg_free(w);
    return code;
}

enum tg_code tg_query_desk_submit(struct tg_query_desk *d, const struct tg_query_request *request,
                                  struct tg_err *err)
{
    struct waiting *w = tg_calloc(1, sizeof(*w));
    if (!w) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    w->request = *request;
    w->stop = request->query->stop ? request->query->stop : &w->own_stop;
    return put_last(d, w, err);
}

enum tg_code tg_query_desk_look(struct tg_query_desk *d, const struct tg_query_look *look,
                                struct tg_err *err)
{
    struct waiting *w = tg_calloc(1, sizeof(*w));
    if (!w) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    w->request = (struct tg_query_request){.on_end = look->on_end, .arg = look->arg};
    w->look = look->look;
    w->stop = look->stop ? look->stop : &w->own_stop;
    return put_last(d, w, err);
}

struct tg_query_desk_stats tg_query_desk_stats(struct tg_query_desk *d)
{
    (void)pthread_mutex_lock(&d->lock);
    struct tg_query_desk_stats s = {.n_waiting = d->n_waiting, .n_refused = d->n_refused};
    for (unsigned i = 0; i < TG_QUERIES_RUNNING; i++) s.n_running += d->threads[i].stop != NULL;
    (void)pthread_mutex_unlock(&d->lock);
    return s;
}

void tg_query_desk_cancel(struct tg_query_desk *d, struct tg_query_stop *stop,
                          enum tg_query_stop_reason why)
{
    tg_query_stop_ask(stop, why);
    (void)pthread_mutex_lock(&d->lock);
    struct waiting *ended = take_ended(d);
    (void)pthread_mutex_unlock(&d->lock);
    end_all(ended);
}

void tg_query_desk_stop(struct tg_query_desk *d)
{
    if (!d) return;
    (void)pthread_mutex_lock(&d->lock);
    d->stopping = true;
    for (struct waiting *w = d->head; w; w = w->next) tg_query_stop_ask(w->stop, TG_QUERY_SHUTDOWN);
    for (unsigned i = 0; i < TG_QUERIES_RUNNING; i++)
        if (d->threads[i].stop) tg_query_stop_ask(d->threads[i].stop, TG_QUERY_SHUTDOWN);
    struct waiting *ended = take_ended(d);
    (void)pthread_cond_broadcast(&d->wake);
    (void)pthread_mutex_unlock(&d->lock);
    end_all(ended);
}

void tg_query_desk_free(struct tg_query_desk *d)
{
    if (!d) return;
    for (unsigned i = 0; i < TG_QUERIES_RUNNING; i++) {
        struct query_thread *t = &d->threads[i];
        if (t->has_thread) (void)pthread_join(t->thread, NULL);
        tg_loop_free(t->loop);
    }
    (void)pthread_cond_destroy(&d->wake);
    (void)pthread_mutex_destroy(&d->lock);
    tg_free(d);
}
