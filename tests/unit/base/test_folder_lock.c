/* A folder that one process at a time may use, on the real file system and with real processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/folder_lock.h"

static char top[] = "/tmp/tidegate-test-folder-lock-XXXXXX";
static char dir[64], aside[64], file[80];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(top)) return -1;
    (void)snprintf(dir, sizeof(dir), "%s/data", top);
    (void)snprintf(aside, sizeof(aside), "%s/aside", top);
    (void)snprintf(file, sizeof(file), "%s/lock", dir);
    return mkdir(dir, 0700);
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    (void)snprintf(command, sizeof(command), "rm -rf %s", top);
    return system(command);
}

/* What another process is told that wants the folder, too. */
static enum tg_code take_elsewhere(char msg[256])
{
    int ends[2];
    struct {
        enum tg_code code;
        char msg[256];
    } told = {.code = TG_OK};
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct tg_folder_lock l;
        struct tg_err err = {.msg = ""};
        told.code = tg_folder_lock_take(&l, tg_fs_real(), dir, "lock", "use another", &err);
        memcpy(told.msg, err.msg, sizeof(told.msg));
        _exit(write(ends[1], &told, sizeof(told)) == (ssize_t)sizeof(told) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], &told, sizeof(told)), sizeof(told));
    (void)close(ends[0]);
    (void)close(ends[1]);
    memcpy(msg, told.msg, sizeof(told.msg));
    return told.code;
}

static void test_one_process_at_a_time(void **state)
{
    (void)state;
    struct tg_folder_lock l, second;
    struct tg_err err;
    char msg[256], holder[64];
    (void)snprintf(holder, sizeof(holder), "data is in use by process %ld (test_", (long)getpid());
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_folder_lock_take(&l, tg_fs_real(), dir, "lock", "use another", &err),
                         TG_OK);
        assert_int_equal(take_elsewhere(msg), TG_ERR_UNAVAILABLE);
        if (!strstr(msg, holder) || !strstr(msg, "): use another")) fail_msg("%s", msg);
        assert_int_equal(tg_folder_lock_take(&second, tg_fs_real(), dir, "lock", "", &err),
                         TG_ERR_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "in use by this process already"));
        /* who removes the file does not open the folder */
        assert_int_equal(unlink(file), 0);
        assert_int_equal(take_elsewhere(msg), TG_ERR_UNAVAILABLE);
        tg_folder_lock_release(&l);
        tg_folder_lock_release(&l);
        assert_int_equal(take_elsewhere(msg), TG_OK);
    }
}

static void test_replaced_folder(void **state)
{
    (void)state;
    struct tg_folder_lock l;
    struct tg_err err;
    char msg[256];
    assert_int_equal(tg_folder_lock_take(&l, tg_fs_real(), dir, "lock", "", &err), TG_OK);
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_folder_lock_check(&l, dir, &err), TG_OK);
        assert_int_equal(rename(dir, aside), 0);
        assert_int_equal(tg_folder_lock_check(&l, dir, &err), TG_ERR_IO);
        assert_int_equal(mkdir(dir, 0700), 0);
        assert_int_equal(tg_folder_lock_check(&l, dir, &err), TG_ERR_IO);
        assert_non_null(strstr(err.msg, "data was replaced while the gateway runs"));
        assert_int_equal(take_elsewhere(msg), TG_OK); /* it is another folder */
        assert_int_equal(unlink(file), 0);
        assert_int_equal(rmdir(dir), 0);
        assert_int_equal(rename(aside, dir), 0);
    }
    tg_folder_lock_release(&l);
    assert_int_equal(tg_folder_lock_check(&l, dir, &err), TG_ERR_IO);
}

static void test_no_folder(void **state)
{
    (void)state;
    struct tg_folder_lock l;
    struct tg_err err;
    char fifo[80];
    (void)snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_folder_lock_take(&l, tg_fs_real(), aside, "lock", "", &err), TG_ERR_IO);
        (void)unlink(aside); /* a file of that name was made: `dir` must exist */
        assert_int_equal(tg_folder_lock_take(&l, tg_fs_real(), dir, "fifo", "", &err), TG_ERR_IO);
        assert_non_null(strstr(err.msg, "it is a FIFO, not a regular file"));
    }
    assert_int_equal(tg_folder_lock_take(&l, tg_fs_real(), dir, "lock", "", &err), TG_OK);
    tg_folder_lock_release(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_process_at_a_time),
        cmocka_unit_test(test_replaced_folder),
        cmocka_unit_test(test_no_folder),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
