/* Dead letters of a gateway: what stands in their file. */
#include "tests/unit/pipe/gateway_fixture.h"

/* Power went in the middle of a line: what comes next has a line of its own. */
static void test_dead_letters_after_a_torn_line(void **state)
{
    struct fixture *f = *state;
    char path[160], line[1024];
    assert_int_equal(mkdir(f->dead, 0750), 0);
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    write_file(path, "{\"at\":\"2026-01-0");
    start(f);
    assert_int_equal(post(f, "m v=-1i 1\n"), 204);
    wait_empty(f, 0);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_string_equal(line, "{\"at\":\"2026-01-0\n");
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_non_null(strstr(line, "negative values are refused"));
    (void)fclose(letters);
}

/* A dead letter holds the value, whatever bytes it has. */
static void test_dead_letter_of_a_text_that_is_not_utf8(void **state)
{
    struct fixture *f = *state;
    char path[160], line[1024];
    start(f);
    assert_int_equal(post(f, "m,unprepared=1 s=\"a\xff\" 1\n"), 204);
    wait_empty(f, 0);
    (void)snprintf(path, sizeof(path), "%s/a.jsonl", f->dead);
    FILE *letters = fopen(path, "r");
    assert_non_null(letters);
    assert_non_null(fgets(line, sizeof(line), letters));
    assert_non_null(strstr(line, "\"type\":\"string\",\"value\":{\"hex\":\"61ff\"}"));
    (void)fclose(letters);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dead_letters_after_a_torn_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letter_of_a_text_that_is_not_utf8, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
