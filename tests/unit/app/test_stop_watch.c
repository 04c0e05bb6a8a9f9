/* A stop that hangs is ended from outside; one that does not is left alone. Each in a process of
 * its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/app/cmd.h"
#include "core/app/stop_watch.h"
#include "core/base/clock.h"

enum { FINISHED = 42, DRAIN_MS = 100 };

struct child {
    const char *what, *name;
    bool is_closed, ends; /* the stop: has closed all files; comes to its end */
    int exit_code;
    const char *says; /* NULL: nothing */
};

static void run_child(const struct child *c)
{
    static struct tg_stop_watch w;
    tg_stop_watch_start(&w, DRAIN_MS);
    atomic_store(&w.progress.name, c->name);
    atomic_store(&w.progress.what, c->what);
    atomic_store(&w.progress.is_closed, c->is_closed);
    if (c->ends) {
        tg_stop_watch_end(&w);
        _exit(FINISHED);
    }
    for (;;) (void)pause();
}

static void test_children(void **state)
{
    (void)state;
    static const struct child children[] = {
        {"the delivery to backend", "influx", false, false, TG_EXIT_FAILED,
         "still waiting for the delivery to backend influx after limits.drain_timeout"},
        {"the log (its disk)", NULL, false, false, TG_EXIT_FAILED, "the log (its disk) after"},
        {NULL, NULL, false, false, TG_EXIT_FAILED, "the admin port after"},
        {"the log (its disk)", NULL, true, false, TG_EXIT_OK, NULL},
        {"the log (its disk)", NULL, false, true, FINISHED, NULL},
    };
    for (size_t i = 0; i < sizeof(children) / sizeof(*children); i++) {
        const struct child *c = &children[i];
        int out[2], status;
        assert_int_equal(pipe(out), 0);
        const uint64_t began_ms = tg_clock_mono_ms();
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)dup2(out[1], STDERR_FILENO);
            run_child(c);
        }
        (void)close(out[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), c->exit_code);
        assert_true(tg_clock_mono_ms() - began_ms < DRAIN_MS + 2000 + 500);
        char text[1024];
        const ssize_t n = read(out[0], text, sizeof(text) - 1);
        text[n > 0 ? n : 0] = '\0';
        if (c->says ? !strstr(text, c->says) : text[0] != '\0') fail_msg("said: %s", text);
        (void)close(out[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_children)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
