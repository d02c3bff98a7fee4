#include "base/test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/clock.h"

static int64_t in_sec(int64_t sec)
{
    return clock_monotonic_ns(clock_system()) + sec * NS_PER_SEC;
}

static void output_and_exit_code_come_back(void **state)
{
    (void)state;
    const char *argv[] = {"sh", "-c", "printf out; printf err >&2; exit 3", NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    char *out = NULL;
    char *errors = NULL;
    assert_int_equal(child_run(&options, in_sec(20), &out, &errors, NULL), 3);
    assert_string_equal(out, "out");
    assert_string_equal(errors, "err");
    free(out);
    free(errors);
}

static void a_missing_program_is_an_error_with_its_name(void **state)
{
    (void)state;
    const char *argv[] = {"no-such-program-here", NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    struct child child = {0, 0};
    struct err err;
    assert_int_equal(child_start(&child, &options, &err), -ENOENT);
    assert_non_null(strstr(err.text, "no-such-program-here"));
    assert_int_equal(child.pid, 0);
}

static void a_child_that_hangs_is_ended_at_the_deadline(void **state)
{
    (void)state;
    const char *argv[] = {"sh", "-c", "trap '' TERM; while :; do read x; done", NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    struct child child = {0, 0};
    assert_int_equal(child_start(&child, &options, NULL), 0);
    pid_t pid = child.pid;
    assert_int_equal(child_wait(&child, 0), -ETIMEDOUT);
    child_stop(&child, 10 * NS_PER_MS);
    assert_int_equal(child.pid, 0);
    assert_int_equal(kill(pid, 0), -1);
}

static void the_environment_can_be_replaced(void **state)
{
    (void)state;
    const char *argv[] = {"sh", "-c", "echo $ONLY,$HOME", NULL};
    const char *envp[] = {"ONLY=this", NULL};
    struct child_options options = {.argv = argv, .envp = envp, .cpu = -1};
    char *out = NULL;
    assert_int_equal(child_run(&options, in_sec(20), &out, NULL, NULL), 0);
    assert_string_equal(out, "this,\n");
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_exit_code_come_back),
        cmocka_unit_test(a_missing_program_is_an_error_with_its_name),
        cmocka_unit_test(a_child_that_hangs_is_ended_at_the_deadline),
        cmocka_unit_test(the_environment_can_be_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
