/* cmd_run.c: `tidegate run`: the gateway from its start to its stop, with signals. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "core/admin/admin.h"
#include "core/app/cmd.h"
#include "core/app/open_files.h"
#include "core/app/stop_watch.h"
#include "core/base/logger.h"
#include "core/base/mem.h"
#include "core/net/loop.h"
#include "core/pipe/gateway.h"

/* The main thread: signals, admin. SIGTERM and SIGINT drain: a helper thread stops the
 * gateway while this one goes on answering health checks; a second signal gives up waiting. */
struct runner {
    struct tg_config config;
    struct tg_loop *loop;
    struct tg_gateway *gateway;
    struct tg_admin *admin;
    struct event *on_signal;
    int signal_fd;
    bool is_draining;
    struct tg_stop_watch watch;
    struct tg_loop_item stopped;
};

static void on_stopped(void *arg)
{
    struct runner *r = arg;
    tg_loop_stop(r->loop);
}

static void *stop_gateway(void *arg)
{
    struct runner *r = arg;
    tg_gateway_stop_within(r->gateway, r->config.limits.drain_timeout_ms, &r->watch.progress);
    /* Behind the answers that the gateway's threads posted, so those are given first. */
    r->stopped.fn = on_stopped;
    r->stopped.arg = r;
    tg_loop_post_item(r->loop, &r->stopped);
    return NULL;
}

static void drain(struct runner *r, const char *name)
{
    if (r->is_draining) {
        tg_warn("run", "%s again: leaving at once; what was not delivered waits in the log", name);
        _exit(TG_EXIT_FAILED);
    }
    tg_info("run", "%s: draining (again to leave at once)", name);
    r->is_draining = true;
    tg_stop_watch_start(&r->watch, r->config.limits.drain_timeout_ms);
    tg_admin_detach(r->admin);
    pthread_t thread;
    if (pthread_create(&thread, NULL, stop_gateway, r) == 0)
        (void)pthread_detach(thread);
    else
        (void)stop_gateway(r);
}

static void reload(struct runner *r)
{
    if (r->is_draining) return;
    tg_info("run", "SIGHUP: loading the rules again");
    struct tg_err err = {.msg = ""};
    /* on its own thread, which says how it went */
    if (tg_gateway_reload(r->gateway, 0, NULL, NULL, &err) != TG_OK)
        tg_warn("run", "SIGHUP: the rules are not loaded: %s", err.msg);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct runner *r = arg;
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGHUP: reload(r); break;
        case SIGINT: drain(r, "SIGINT"); break;
        default: drain(r, "SIGTERM");
        }
    }
}

/* Blocked here, before any thread starts, so that all threads leave them to the signalfd. */
static bool open_signals(struct runner *r)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0) return false;
    r->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (r->signal_fd < 0) return false;
    r->on_signal =
        event_new(tg_loop_base(r->loop), r->signal_fd, EV_READ | EV_PERSIST, on_signal, r);
    return r->on_signal && event_add(r->on_signal, NULL) == 0;
}

/* --- signals before the loop runs --- */

/* A start may take long: a large log is read, a disk hangs. Nothing has been taken in by then that
 * a stop would have to wait for, and the log stands a kill at any instant. */
struct early {
    pthread_t thread;
    int signal_fd;
    int end_pipe[2];
    bool has_thread;
};

static void *watch_early(void *arg)
{
    const struct early *e = arg;
    struct pollfd fds[2] = {{.fd = e->signal_fd, .events = POLLIN},
                            {.fd = e->end_pipe[0], .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return NULL;
        if (fds[1].revents) return NULL; /* a signal that is there, too, is the loop's */
        struct signalfd_siginfo info;
        if (!fds[0].revents || read(e->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
            continue;
        if (info.ssi_signo == SIGHUP) continue; /* the rules are being loaded as it is */
        tg_info("run", "%s while starting: leaving; what the log holds stays there",
                info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
        _exit(TG_EXIT_OK);
    }
}

static void early_begin(struct early *e, int signal_fd)
{
    *e = (struct early){.signal_fd = signal_fd};
    if (pipe2(e->end_pipe, O_CLOEXEC) != 0) return; /* then a stop waits for the end of the start */
    e->has_thread = pthread_create(&e->thread, NULL, watch_early, e) == 0;
    if (e->has_thread) return;
    (void)close(e->end_pipe[0]);
    (void)close(e->end_pipe[1]);
}

static void early_end(struct early *e)
{
    if (!e->has_thread) return;
    (void)close(e->end_pipe[1]);
    (void)pthread_join(e->thread, NULL);
    (void)close(e->end_pipe[0]);
}

/* host:port with the port that was really taken. */
static void real_address(char *out, size_t cap, const char *address, uint16_t port)
{
    const char *colon = strrchr(address, ':');
    const int host_len = colon ? (int)(colon - address) : 0;
    (void)snprintf(out, cap, "%.*s:%u", host_len, address, (unsigned)port);
}

/* Written under another name first, so that whoever waits for it never reads half. */
static bool write_ready_file(const char *path, const char *http, const char *admin)
{
    char tmp[4096];
    const int n = snprintf(tmp, sizeof(tmp), "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof(tmp)) return false;
    json_t *o = json_pack("{s:i,s:s,s:s,s:i,s:i}", "pid", (int)getpid(), "http", http, "admin",
                          admin, "http_port", atoi(strrchr(http, ':') + 1), "admin_port",
                          atoi(strrchr(admin, ':') + 1));
    const bool ok = o && json_dump_file(o, tmp, JSON_INDENT(1)) == 0 && rename(tmp, path) == 0;
    json_decref(o);
    return ok;
}

static int run_gateway(struct runner *r, const struct tg_args *args)
{
    struct tg_err err = {.msg = ""};
    r->loop = tg_loop_new();
    if (!r->loop || !open_signals(r)) {
        tg_error("run", "cannot start the main loop: %s", strerror(errno));
        return TG_EXIT_FAILED;
    }
    struct early early;
    early_begin(&early, r->signal_fd);
    const enum tg_code started = tg_gateway_start(&r->config, &r->gateway, &err);
    early_end(&early);
    if (started != TG_OK) {
        tg_error("run", "cannot start: %s", err.msg);
        return TG_EXIT_FAILED;
    }
    const struct tg_admin_config admin = {.loop = r->loop,
                                          .address = r->config.admin_address,
                                          .gateway = r->gateway,
                                          .config = &r->config};
    if (tg_admin_new(&admin, &r->admin, &err) != TG_OK) {
        tg_error("run", "cannot start the admin port (listen.admin = \"%s\"): %s",
                 r->config.admin_address, err.msg);
        tg_gateway_stop_within(r->gateway, 0, NULL);
        return TG_EXIT_FAILED;
    }
    char http_address[300], admin_address[300];
    real_address(http_address, sizeof(http_address), r->config.http_address,
                 tg_gateway_http_port(r->gateway));
    real_address(admin_address, sizeof(admin_address), r->config.admin_address,
                 tg_admin_port(r->admin));
    tg_info("run", "tidegate " TG_VERSION " ready: http %s admin %s", http_address, admin_address);
    const char *ready_file = tg_args_value(args, "ready-file");
    if (ready_file && !write_ready_file(ready_file, http_address, admin_address)) {
        tg_error("run", "cannot write --ready-file %s: %s", ready_file, strerror(errno));
        tg_admin_detach(r->admin);
        tg_gateway_stop_within(r->gateway, 0, NULL);
        while (tg_admin_n_pending(r->admin)) tg_loop_once(r->loop, 100);
        return TG_EXIT_FAILED;
    }
    tg_loop_run(r->loop);
    while (tg_admin_n_pending(r->admin)) tg_loop_once(r->loop, 100);
    if (ready_file) (void)unlink(ready_file);
    tg_stop_watch_end(&r->watch);
    tg_info("run", "stopped");
    return TG_EXIT_OK;
}

static int run(const struct tg_args *args)
{
    struct runner r = {.signal_fd = -1};
    struct tg_arena arena;
    tg_arena_init(&arena, 0);
    int code = TG_EXIT_FAILED;
    if (tg_cmd_load_config(args, &arena, &r.config) == TG_OK) {
        tg_log_set_level((enum tg_log_level)r.config.log_level);
        tg_mem_set_limit(r.config.limits.max_memory_bytes);
        tg_open_files_fit(&r.config);
        code = run_gateway(&r, args);
    }
    tg_admin_free(r.admin);
    if (r.on_signal) event_free(r.on_signal);
    if (r.signal_fd >= 0) (void)close(r.signal_fd);
    tg_loop_free(r.loop);
    tg_arena_deinit(&arena);
    return code;
}

static const struct tg_flag flags[] = {
    {"config", 'c', "FILE", "the configuration (scripts/gateway.lua)"},
    {"ready-file", 0, "FILE", "when ready, write a JSON file with pid and real addresses"},
    {0},
};

const struct tg_cmd tg_cmd_run = {
    .name = "run",
    .summary = "run the gateway",
    .synopsis = "[--config scripts/gateway.lua]",
    .details =
        "SIGTERM and SIGINT drain and exit with 0: within limits.drain_timeout and 2 s, whatever "
        "backends do\n(with 1 when a disk hangs longer, or at once at a second signal); nothing "
        "that was acknowledged is\nlost by that, it waits in the log. SIGHUP loads the rules "
        "again. Messages go to stderr.",
    .examples = "  tidegate run\n"
                "  tidegate run --config /etc/tidegate/gateway.lua\n"
                "  kill -HUP $(pidof tidegate)     # after editing a rule\n",
    .flags = flags,
    .run = run,
};
