/* The real file system behind struct tg_fs, in a folder of its own. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/fs.h"
#include "core/base/mem.h"

static char dir[] = "/tmp/tidegate-test-fs-XXXXXX";
static const struct tg_fs *fs;

static const char *path(const char *name)
{
    static char out[4][TG_PATH_MAX];
    static unsigned turn;
    char *p = out[turn++ % 4];
    assert_int_equal(tg_fs_join(p, dir, name, NULL), TG_OK);
    return p;
}

static int set_up(void **state)
{
    (void)state;
    fs = tg_fs_real();
    return mkdtemp(dir) ? 0 : -1;
}

struct emptying {
    char names[64][64];
    bool is_dir[64];
    unsigned n;
};
static void note(void *arg, const char *name, const struct tg_fs_stat *st)
{
    struct emptying *e = arg;
    if (e->n == 64) return;
    (void)snprintf(e->names[e->n], 64, "%s", name);
    e->is_dir[e->n++] = st->is_dir;
}
static void empty(const char *at)
{
    struct emptying e = {0};
    char p[TG_PATH_MAX];
    (void)fs->list(NULL, at, note, &e);
    for (unsigned i = 0; i < e.n; i++) {
        assert_int_equal(tg_fs_join(p, at, e.names[i], NULL), TG_OK);
        if (e.is_dir[i])
            empty(p);
        else
            (void)fs->unlink(NULL, p);
    }
    (void)fs->rmdir(NULL, at);
}
static int tear_down(void **state)
{
    (void)state;
    empty(dir);
    return 0;
}

static void test_files(void **state)
{
    (void)state;
    struct tg_fs_stat st;
    char buf[32];
    size_t n;
    assert_int_equal(fs->open(NULL, path("a"), TG_FS_READ), -ENOENT);
    const int fd = fs->open(NULL, path("a"), TG_FS_READ | TG_FS_WRITE | TG_FS_CREATE | TG_FS_EXCL);
    assert_true(fd >= 0);
    assert_int_equal(fs->open(NULL, path("a"), TG_FS_WRITE | TG_FS_CREATE | TG_FS_EXCL), -EEXIST);
    assert_int_equal(tg_fs_write_all(fs, fd, "hello", 5, 3, "a", NULL), TG_OK);
    assert_int_equal(fs->datasync(NULL, fd), 0);
    assert_int_equal(fs->sync(NULL, fd), 0);
    assert_int_equal(tg_fs_read_all(fs, fd, buf, sizeof(buf), 0, &n, "a", NULL), TG_OK);
    assert_int_equal(n, 8);
    assert_memory_equal(buf, "\0\0\0hello", 8);
    assert_int_equal(fs->truncate(NULL, fd, 4), 0);
    assert_int_equal(fs->fstat(NULL, fd, &st), 0);
    assert_int_equal(st.size, 4);
    assert_false(st.is_dir);
    assert_int_equal(fs->close(NULL, fd), 0);
    assert_int_equal(fs->rename(NULL, path("a"), path("b")), 0);
    assert_int_equal(fs->stat(NULL, path("a"), &st), -ENOENT);
    assert_int_equal(fs->stat(NULL, path("b"), &st), 0);
    assert_int_equal(fs->sync_dir(NULL, dir), 0);
    assert_int_equal(fs->unlink(NULL, path("b")), 0);
    assert_int_equal(fs->unlink(NULL, path("b")), -ENOENT);
}

static void test_no_regular_file(void **state)
{
    (void)state;
    static const unsigned flags[] = {TG_FS_READ, TG_FS_WRITE, TG_FS_READ | TG_FS_WRITE,
                                     TG_FS_WRITE | TG_FS_CREATE | TG_FS_TRUNCATE};
    static const struct {
        const char *name;
        int want;
        const char *words;
    } cases[] = {{"fifo", TG_E_FIFO, "it is a FIFO, not a regular file"},
                 {"socket", TG_E_SOCKET, "it is a socket, not a regular file"},
                 {"folder", EISDIR, "Is a directory"},
                 {"to_fifo", TG_E_FIFO, "it is a FIFO, not a regular file"},
                 {"to_device", TG_E_DEVICE, "it is a device, not a regular file"}};
    uint8_t *got;
    size_t len;
    struct tg_err err;
    assert_int_equal(mkfifo(path("fifo"), 0600), 0);
    assert_int_equal(mknod(path("socket"), S_IFSOCK | 0600, 0), 0);
    assert_int_equal(mkdir(path("folder"), 0700), 0);
    assert_int_equal(symlink("fifo", path("to_fifo")), 0);
    assert_int_equal(symlink("/dev/zero", path("to_device")), 0);
    (void)alarm(20); /* what waits for the other end of a FIFO is killed */
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *p = path(cases[i].name);
        for (size_t k = 0; k < sizeof(flags) / sizeof(flags[0]); k++)
            assert_int_equal(fs->open(NULL, p, flags[k]), -cases[i].want);
        assert_int_equal(tg_fs_read_file(fs, p, 100, &got, &len, &err), TG_ERR_IO);
        assert_non_null(strstr(err.msg, cases[i].words));
        assert_int_equal(fs->open(NULL, p, TG_FS_WRITE | TG_FS_CREATE | TG_FS_EXCL), -EEXIST);
    }
    (void)alarm(0);
    /* a link to a file is what an operator may want; a file is as any other afterwards */
    assert_int_equal(tg_fs_write_file_atomic(fs, dir, "file", "x", 1, &err), TG_OK);
    assert_int_equal(symlink("file", path("to_file")), 0);
    const int fd = fs->open(NULL, path("to_file"), TG_FS_READ);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fs->close(NULL, fd), 0);
}

static void test_atomic(void **state)
{
    (void)state;
    uint8_t *got;
    size_t len;
    struct tg_err err;
    for (unsigned i = 0; i < 3; i++) {
        char text[16];
        const int n = snprintf(text, sizeof(text), "version %u", i);
        assert_int_equal(tg_fs_write_file_atomic(fs, dir, "state", text, (size_t)n, &err), TG_OK);
        assert_int_equal(tg_fs_read_file(fs, path("state"), 100, &got, &len, &err), TG_OK);
        assert_int_equal(len, n);
        assert_string_equal((char *)got, text);
        tg_free(got);
    }
    struct emptying e = {0};
    assert_int_equal(fs->list(NULL, dir, note, &e), 0);
    for (unsigned i = 0; i < e.n; i++) assert_null(strstr(e.names[i], ".tmp"));
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_fs_read_file(fs, path("state"), 3, &got, &len, &err), TG_ERR_TOO_LARGE);
        assert_null(got);
        assert_int_equal(tg_fs_read_file(fs, path("none"), 3, &got, &len, &err), TG_ERR_NOT_FOUND);
        assert_int_equal(tg_fs_write_file_atomic(fs, path("none"), "x", "x", 1, &err), TG_ERR_IO);
        assert_non_null(strstr(err.msg, "none"));
    }
}

struct found {
    unsigned n, n_unknown;
    int errnum;
    struct tg_fs_stat st;
};
static void find_links(void *arg, const char *name, const struct tg_fs_stat *st)
{
    struct found *f = arg;
    if (strncmp(name, "link", 4) != 0) return;
    f->n++;
    if (st->errnum) {
        f->n_unknown++;
        f->errnum = st->errnum;
    } else {
        f->st = *st;
    }
}

/* An entry that is there but leads nowhere is given, and says why nothing is known of it. */
static void test_list_of_what_cannot_be_looked_at(void **state)
{
    (void)state;
    struct tg_fs_stat st;
    struct found f = {0};
    assert_int_equal(tg_fs_write_file_atomic(fs, dir, "target", "x", 1, NULL), TG_OK);
    assert_int_equal(symlink("target", path("link")), 0);
    assert_int_equal(symlink("nowhere", path("link-dangling")), 0);
    assert_int_equal(fs->list(NULL, dir, find_links, &f), 0);
    assert_int_equal(f.n, 2);
    assert_int_equal(f.n_unknown, 1);
    assert_int_equal(f.errnum, ENOENT);
    assert_int_equal(fs->stat(NULL, path("target"), &st), 0);
    assert_true(f.st.inode == st.inode && f.st.device == st.device && st.inode != 0);
    assert_int_equal(unlink(path("link-dangling")), 0);
    assert_int_equal(symlink("link-loop", path("link-loop")), 0);
    f = (struct found){0};
    assert_int_equal(fs->list(NULL, dir, find_links, &f), 0);
    assert_int_equal(f.errnum, ELOOP);
    assert_int_equal(unlink(path("link-loop")), 0);
    assert_int_equal(unlink(path("link")), 0);
}

static void test_mkdirs(void **state)
{
    (void)state;
    struct tg_fs_stat st;
    struct tg_err err;
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_fs_mkdirs(fs, path("x//y/z/"), &err), TG_OK);
        assert_int_equal(fs->stat(NULL, path("x/y/z"), &st), 0);
        assert_true(st.is_dir);
    }
    assert_int_equal(tg_fs_write_file_atomic(fs, dir, "file", "", 0, &err), TG_OK);
    for (unsigned twice = 0; twice < 2; twice++) {
        assert_int_equal(tg_fs_mkdirs(fs, path("file/y"), &err), TG_ERR_IO);
        assert_int_equal(tg_fs_mkdirs(fs, "", &err), TG_ERR_INVALID);
    }
}

static void test_lock(void **state)
{
    (void)state;
    const int a = fs->lock(NULL, path("lock"));
    assert_true(a >= 0);
    assert_int_equal(fs->lock(NULL, path("lock")), -EWOULDBLOCK);
    assert_int_equal(fs->close(NULL, a), 0);
    const int b = fs->lock(NULL, path("lock"));
    assert_true(b >= 0);
    assert_int_equal(fs->close(NULL, b), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),  cmocka_unit_test(test_no_regular_file),
        cmocka_unit_test(test_atomic), cmocka_unit_test(test_list_of_what_cannot_be_looked_at),
        cmocka_unit_test(test_mkdirs), cmocka_unit_test(test_lock),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
