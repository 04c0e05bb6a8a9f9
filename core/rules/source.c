#include "core/rules/source.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/mem.h"

enum { LOOK_EVERY_MS = 20 };

struct tg_reading {
    const struct tg_fs *fs;
    pthread_t thread;     /* joined by who waits, or left behind */
    pthread_mutex_t lock; /* with all below */
    pthread_cond_t ended;
    unsigned refs; /* who waits, and the thread */
    bool is_done;
    unsigned at; /* the script under way */
    char *paths[TG_RULES];
    char *texts[TG_RULES];
    size_t lens[TG_RULES];
    enum tg_code code;
    struct tg_err err;
};

static void unref(struct tg_reading *r)
{
    (void)pthread_mutex_lock(&r->lock);
    const bool is_last = --r->refs == 0;
    (void)pthread_mutex_unlock(&r->lock);
    if (!is_last) return;
    for (unsigned i = 0; i < TG_RULES; i++) {
        tg_free(r->paths[i]);
        tg_free(r->texts[i]);
    }
    (void)pthread_cond_destroy(&r->ended);
    (void)pthread_mutex_destroy(&r->lock);
    tg_free(r);
}

static enum tg_code read_text(const struct tg_fs *fs, const char *path, char **text, size_t *len,
                              struct tg_err *err)
{
    char *buf = tg_malloc(TG_RULE_MAX_TEXT_BYTES + 2);
    if (!buf) return tg_fail(err, TG_ERR_NOMEM, "out of memory while reading %s", path);
    enum tg_code code = TG_OK;
    const int fd = fs->open(fs->self, path, TG_FS_READ);
    if (fd == -EISDIR)
        code = tg_fail(err, TG_ERR_INVALID, "%s: is a folder, not a script", path);
    else if (fd < 0)
        code = tg_fail_errno(err, -fd, "%s: cannot be read", path);
    /* One byte more than may be there: the size that a file says it has may be out of date. */
    if (code == TG_OK)
        code = tg_fs_read_all(fs, fd, buf, TG_RULE_MAX_TEXT_BYTES + 1, 0, len, path, err);
    if (fd >= 0) (void)fs->close(fs->self, fd);
    if (code == TG_OK && *len > TG_RULE_MAX_TEXT_BYTES)
        code = tg_fail(err, TG_ERR_INVALID, "%s: is larger than %d bytes", path,
                       (int)TG_RULE_MAX_TEXT_BYTES);
    if (code != TG_OK) {
        tg_free(buf);
        if (err && code != TG_ERR_NOMEM) err->code = TG_ERR_INVALID; /* whatever is the matter */
        return code == TG_ERR_NOMEM ? code : TG_ERR_INVALID;
    }
    char *fitted = tg_realloc(buf, *len + 1);
    *text = fitted ? fitted : buf;
    (*text)[*len] = '\0';
    return TG_OK;
}

static void *read_main(void *arg)
{
    struct tg_reading *r = arg;
    enum tg_code code = TG_OK;
    struct tg_err err = {.msg = ""};
    (void)pthread_setname_np(pthread_self(), "rule-files");
    for (unsigned i = 0; i < TG_RULES && code == TG_OK; i++) {
        if (!r->paths[i]) continue;
        char *text = NULL;
        size_t len = 0;
        (void)pthread_mutex_lock(&r->lock);
        r->at = i;
        (void)pthread_mutex_unlock(&r->lock);
        code = read_text(r->fs, r->paths[i], &text, &len, &err);
        (void)pthread_mutex_lock(&r->lock);
        r->texts[i] = text;
        r->lens[i] = len;
        (void)pthread_mutex_unlock(&r->lock);
    }
    (void)pthread_mutex_lock(&r->lock);
    r->code = code;
    r->err = err;
    r->is_done = true;
    (void)pthread_cond_signal(&r->ended);
    (void)pthread_mutex_unlock(&r->lock);
    unref(r);
    return NULL;
}

static enum tg_code start(const struct tg_sources *s, struct tg_reading **out, struct tg_err *err)
{
    struct tg_reading *r = tg_calloc(1, sizeof(*r));
    if (!r) return tg_fail(err, TG_ERR_NOMEM, "out of memory");
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->ended, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&r->lock, NULL);
    r->fs = s->fs;
    r->refs = 1;
    enum tg_code code = TG_OK;
    for (unsigned i = 0; i < TG_RULES && code == TG_OK; i++) {
        if (!s->paths[i]) continue;
        r->paths[i] = tg_strndup(s->paths[i], strlen(s->paths[i]));
        if (!r->paths[i]) code = tg_fail(err, TG_ERR_NOMEM, "out of memory");
    }
    if (code == TG_OK) {
        r->refs = 2;
        const int rc = pthread_create(&r->thread, NULL, read_main, r);
        if (rc == 0) {
            *out = r;
            return TG_OK;
        }
        r->refs = 1;
        code = tg_fail_errno(err, rc, "cannot start a thread to read the scripts");
    }
    unref(r);
    return code;
}

/* A moment from now, as pthread_cond_timedwait takes it. */
static struct timespec soon(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += LOOK_EVERY_MS * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_nsec -= 1000000000L;
        t.tv_sec++;
    }
    return t;
}

/* Until it is done (true), time is up, or it is canceled. */
static bool wait_for(const struct tg_sources *s, struct tg_reading *r)
{
    const uint64_t give_up_ns = tg_clock_mono_ns() + (uint64_t)s->max_ms * 1000000;
    (void)pthread_mutex_lock(&r->lock);
    while (!r->is_done && tg_clock_mono_ns() < give_up_ns &&
           tg_clock_mono_ns() < atomic_load(s->until_ns)) {
        const struct timespec at = soon();
        (void)pthread_cond_timedwait(&r->ended, &r->lock, &at);
    }
    const bool is_done = r->is_done;
    (void)pthread_mutex_unlock(&r->lock);
    return is_done;
}

/* Whether a thread that was left behind is still at it. */
static bool still_hangs(struct tg_sources *s)
{
    struct tg_reading *r = s->left_behind;
    if (!r) return false;
    (void)pthread_mutex_lock(&r->lock);
    const bool is_done = r->is_done;
    (void)pthread_mutex_unlock(&r->lock);
    if (!is_done) return true;
    unref(r);
    s->left_behind = NULL;
    return false;
}

static enum tg_code fail_slow(struct tg_reading *r, const char *what, struct tg_err *err)
{
    (void)pthread_mutex_lock(&r->lock);
    const char *path = r->paths[r->at];
    (void)pthread_mutex_unlock(&r->lock);
    return tg_fail(err, TG_ERR_TIMEOUT, "%s: %s; does the file system hang?", path ? path : "",
                   what);
}

enum tg_code tg_sources_read(struct tg_sources *s, struct tg_rule_text texts[TG_RULES],
                             struct tg_err *err)
{
    if (still_hangs(s))
        return fail_slow(s->left_behind, "is being read since an earlier load", err);
    struct tg_reading *r = NULL;
    TG_TRY(start(s, &r, err));
    if (!wait_for(s, r)) {
        (void)pthread_detach(r->thread);
        s->left_behind = r;
        char what[64];
        (void)snprintf(what, sizeof(what), "is not read after %u ms", s->max_ms);
        return fail_slow(r, what, err);
    }
    (void)pthread_join(r->thread, NULL); /* it has done all but to end */
    const enum tg_code code = r->code;
    if (err) *err = r->err;
    for (unsigned i = 0; i < TG_RULES && code == TG_OK; i++) {
        texts[i].text = r->texts[i];
        texts[i].len = r->lens[i];
        r->texts[i] = NULL;
    }
    unref(r);
    return code;
}

void tg_sources_deinit(struct tg_sources *s)
{
    if (s->left_behind) unref(s->left_behind);
    s->left_behind = NULL;
}
