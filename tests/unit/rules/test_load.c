/* Scripts on their way into the VMs: files that are none, file systems that hang, texts that take
 * their time to compile, bytecode. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "core/base/fs.h"
#include "tests/unit/rules/rules_fixture.h"
#include "tests/support/wait.h"

#define R(body) "return function(series) " body " end"

static enum tg_code load(struct fixture *f)
{
    (void)memset(&f->err, 0, sizeof(f->err));
    return tg_rules_new(&f->config, &f->rules, &f->err);
}

static void assert_says(const struct fixture *f, const char *what)
{
    if (!strstr(f->err.msg, what)) fail_msg("\"%s\" does not say \"%s\"", f->err.msg, what);
}

/* --- files --- */

static void test_only_regular_files(void **state)
{
    (void)state;
    struct fixture f;
    fx_init(&f, (const char *const[]){NULL, "", NULL, NULL});
    assert_int_equal(unlink(f.paths[FX_ROUTING]), 0);
    assert_int_equal(mkfifo(f.paths[FX_ROUTING], 0600), 0);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(load(&f), TG_ERR_INVALID);
        assert_null(f.rules);
        assert_says(&f, "routing.lua: cannot be read: ");
    }
    f.config.routing_path = "/dev/zero";
    assert_int_equal(load(&f), TG_ERR_INVALID);
    assert_says(&f, "/dev/zero: cannot be read: ");
    f.config.routing_path = f.dir;
    assert_int_equal(load(&f), TG_ERR_INVALID);
    assert_says(&f, "is a folder, not a script");
    fx_deinit(&f);
}

/* A file system whose server does not answer. */
static _Atomic bool is_hanging;
static _Atomic unsigned n_hanging;

static int hanging_open(void *self, const char *path, unsigned flags)
{
    atomic_fetch_add(&n_hanging, 1);
    while (atomic_load(&is_hanging)) (void)usleep(1000);
    const int fd = tg_fs_real()->open(self, path, flags);
    atomic_fetch_sub(&n_hanging, 1);
    return fd;
}

struct loader {
    struct fixture *f;
    enum tg_code code;
    struct tg_err err;
};

static void *reload(void *arg)
{
    struct loader *l = arg;
    l->code = tg_rules_reload(l->f->rules, &l->err);
    return NULL;
}

static void test_a_hanging_file_system_is_left_behind(void **state)
{
    (void)state;
    const uint64_t before = tg_mem_used();
    struct fixture f;
    struct tg_fs fs = *tg_fs_real();
    fs.open = hanging_open;
    fx_init(&f, (const char *const[]){NULL, R("return to('influx')"), NULL, NULL});
    f.config.fs = &fs;
    fx_load(&f);
    /* A stop does not wait for it, ... */
    atomic_store(&is_hanging, true);
    struct loader l = {.f = &f};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, reload, &l), 0);
    WAIT_UNTIL(atomic_load(&n_hanging) > 0);
    const uint64_t start_ms = tg_clock_mono_ms();
    tg_rules_cancel_load(f.rules);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(l.code, TG_ERR_CANCELED);
    assert_true(tg_clock_mono_ms() - start_ms < 1000);
    fx_deinit(&f);
    atomic_store(&is_hanging, false);
    WAIT_UNTIL(atomic_load(&n_hanging) == 0);

    /* ... and a load gives it up. */
    fx_init(&f, (const char *const[]){NULL, R("return to('influx')"), NULL, NULL});
    f.config.fs = &fs;
    f.config.read_ms = 100;
    fx_load(&f);
    atomic_store(&is_hanging, true);
    assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_ERR_IO);
    assert_says(&f, "routing.lua: is not read after 100 ms; does the file system hang?");
    const uint64_t again_ms = tg_clock_mono_ms();
    assert_int_equal(tg_rules_reload(f.rules, &f.err), TG_ERR_IO);
    assert_says(&f, "routing.lua: is being read since an earlier load");
    assert_true(tg_clock_mono_ms() - again_ms < 1000);
    assert_int_equal(atomic_load(&n_hanging), 1);
    assert_int_equal(fx_decide(&f, fx_series("m", NULL), NULL).targets, 4);
    /* It comes back. */
    atomic_store(&is_hanging, false);
    WAIT_UNTIL(tg_rules_reload(f.rules, &f.err) == TG_OK);
    assert_int_equal(tg_rules_generation(f.rules), 2);
    fx_deinit(&f);
    const uint64_t deadline_ms = tg_clock_mono_ms() + 10000;
    while (tg_mem_used() != before && tg_clock_mono_ms() < deadline_ms) (void)usleep(1000);
    assert_int_equal(tg_mem_used(), before);
}

/* --- texts --- */

static void test_compiling_has_a_budget(void **state)
{
    (void)state;
    static const struct {
        const char *head, *part, *tail;
    } texts[] = {
        {"return function(s) return ", "s or ", "s end"},
        {"return function(s)\n\nreturn ", "s and ", "s end"},
        {"return function(s) return to(", "s or ", "s) end"},
        {"return function(s) return keep(s.x or {", "[s] = s or ", "s}) end"},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct tg_buf b;
        tg_buf_init(&b, 0);
        assert_int_equal(tg_buf_append(&b, texts[i].head, strlen(texts[i].head)), TG_OK);
        while (b.len < 1000000)
            assert_int_equal(tg_buf_append(&b, texts[i].part, strlen(texts[i].part)), TG_OK);
        assert_int_equal(tg_buf_append(&b, texts[i].tail, strlen(texts[i].tail)), TG_OK);
        struct fixture f;
        fx_init(&f, (const char *const[]){NULL, "", NULL, NULL});
        f.config.n_slots = 8;
        fx_write(&f, FX_ROUTING, (const char *)b.data, b.len);
        const uint64_t start_ms = tg_clock_mono_ms();
        assert_int_equal(load(&f), TG_ERR_INVALID);
        assert_true(tg_clock_mono_ms() - start_ms < 4000);
        assert_int_equal(strncmp(f.err.msg, "routing.lua:", 12), 0);
        fx_deinit(&f);
        tg_buf_deinit(&b);
    }
}

static void test_bytecode_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"\x1bLJ\x02", "\xef\xbb\xbf\x1bLJ\x02", "# x\n\x1bLJ\x02",
                                        "\xef\xbb\xbf#!/x\n\x1bLua"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fixture f;
        fx_init(&f, (const char *const[]){NULL, texts[i], NULL, NULL});
        assert_int_equal(load(&f), TG_ERR_INVALID);
        assert_string_equal(f.err.msg,
                            "routing.lua: holds compiled Lua, which is refused; give the source "
                            "text");
        fx_deinit(&f);
    }
}

/* What precedes a text is no harm, and lines count on. */
static void test_headers(void **state)
{
    (void)state;
    static const char *const texts[] = {"\xef\xbb\xbf\n\nreturn function(s) error('x') end",
                                        "#!/usr/bin/lua\n\nreturn function(s) error('x') end"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fixture f;
        fx_init(&f, (const char *const[]){NULL, texts[i], NULL, NULL});
        f.config.n_slots = 2;
        fx_load(&f);
        assert_true(fx_decide(&f, fx_series("m", NULL), NULL).failed);
        assert_string_equal(tg_rules_stats(f.rules).last_error, "routing.lua:3: x");
        fx_deinit(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_regular_files),
        cmocka_unit_test(test_a_hanging_file_system_is_left_behind),
        cmocka_unit_test(test_compiling_has_a_budget),
        cmocka_unit_test(test_bytecode_is_refused),
        cmocka_unit_test(test_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
