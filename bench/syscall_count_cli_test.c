#include "base/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "syscall_count.h"

static const char *fixture; /* argv of the test */

static int64_t deadline(void)
{
    return clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC;
}

static int run(const char *n, const char *how, struct syscall_counts *counts)
{
    const char *const argv[] = {fixture, n, how, NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    struct syscall_tracer tracer;
    struct err err = {""};
    int exit_code = -1;
    int code = syscall_tracer_start(&tracer, &options, &err);
    if (code != 0) {
        print_error("%s\n", err.text);
    }
    assert_int_equal(code, 0);
    assert_int_equal(syscall_tracer_finish(&tracer, deadline(), counts, &exit_code, &err), 0);
    assert_int_equal(tracer.child.pid, 0);
    return exit_code;
}

static void slope_of_two_runs_is_exact(void **state)
{
    (void)state;
    struct syscall_counts one;
    struct syscall_counts two;
    assert_int_equal(run("100", "", &one), 0);
    assert_int_equal(run("200", "", &two), 0);
    assert_int_equal(two.total - one.total, 100);
    assert_int_equal(one.by_number[SYS_getppid], 100);
    assert_int_equal(one.by_number[SYS_execve], 0); /* tracing begins behind it */
    assert_int_equal(one.by_number[SYS_exit_group], 1);
    int64_t sum = one.other;
    for (int i = 0; i < SYSCALL_COUNT_NUMBERS_MAX; i++) {
        sum += one.by_number[i];
    }
    assert_int_equal(sum, one.total);
    assert_string_equal(syscall_name(SYS_getppid), "getppid");
    assert_null(syscall_name(-1));
    assert_null(syscall_name(100000));
}

static void threads_children_and_exec_are_counted_too(void **state)
{
    (void)state;
    struct syscall_counts counts;
    assert_int_equal(run("50", "thread", &counts), 0);
    assert_int_equal(counts.by_number[SYS_getppid], 200);
    assert_int_equal(run("50", "fork", &counts), 5);
    assert_int_equal(counts.by_number[SYS_getppid], 100);
    assert_int_equal(run("50", "exec", &counts), 0);
    assert_int_equal(counts.by_number[SYS_getppid], 100);
    assert_int_equal(counts.by_number[SYS_execve], 1);
}

static void signals_reach_the_program(void **state)
{
    (void)state;
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    const char *const argv[] = {fixture, "1", "signal", NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = out[1], .stderr_fd = -1, .cpu = -1};
    struct syscall_tracer tracer;
    struct syscall_counts counts;
    int exit_code = -1;
    assert_int_equal(syscall_tracer_start(&tracer, &options, NULL), 0);
    close(out[1]);
    char text[64] = "";
    assert_int_equal(read(out[0], text, sizeof text - 1), 10);
    assert_string_equal(text, "signals 2\n");
    assert_int_equal(syscall_tracer_finish(&tracer, deadline(), &counts, &exit_code, NULL), 0);
    assert_int_equal(exit_code, 0);
    close(out[0]);
    assert_int_equal(run("1", "crash", &counts), 128 + SIGSEGV);
}

/* The caller speaks with the program over pipes, and the program sees the end of its input. */
static void protocol_over_pipes_works_while_traced(void **state)
{
    (void)state;
    int in[2];
    int out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    const char *const argv[] = {fixture, "1", "echo", NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = in[0], .stdout_fd = out[1], .stderr_fd = -1, .cpu = -1};
    struct syscall_tracer tracer;
    struct syscall_counts counts;
    int exit_code = -1;
    char line[64] = "";
    assert_int_equal(syscall_tracer_start(&tracer, &options, NULL), 0);
    close(in[0]);
    close(out[1]);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(write(in[1], "hello\n", 6), 6);
        assert_int_equal(read(out[0], line, sizeof line), 6);
        assert_memory_equal(line, "hello\n", 6);
    }
    close(in[1]);
    assert_int_equal(read(out[0], line, sizeof line), 0);
    assert_int_equal(syscall_tracer_finish(&tracer, deadline(), &counts, &exit_code, NULL), 0);
    assert_int_equal(exit_code, 0);
    assert_int_equal(counts.by_number[SYS_write], 5);
    close(out[0]);
}

static bool is_gone(pid_t pid)
{
    int64_t end_ns = deadline();
    while (clock_monotonic_ns(clock_system()) < end_ns) {
        if (kill(pid, 0) != 0 && errno == ESRCH) {
            return true;
        }
        /* Orphans go to init, which reaps; a zombie is no running program either. */
        char path[64];
        char text[512] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
        if (fd >= 0) {
            close(fd);
        }
        const char *state = n > 0 ? strrchr(text, ')') : NULL;
        if (state != NULL && state[2] == 'Z') {
            return true;
        }
        sched_yield();
    }
    return false;
}

static pid_t start_hanging(struct syscall_tracer *tracer)
{
    int out[2];
    char text[64] = "";
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    const char *const argv[] = {fixture, "1", "hang", NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = out[1], .stderr_fd = -1, .cpu = -1};
    assert_int_equal(syscall_tracer_start(tracer, &options, NULL), 0);
    close(out[1]);
    assert_true(read(out[0], text, sizeof text - 1) > 1);
    close(out[0]);
    return (pid_t)atoi(text);
}

static void deadline_and_stop_leave_no_program_behind(void **state)
{
    (void)state;
    struct syscall_tracer tracer;
    struct syscall_counts counts;
    int exit_code = 77;
    struct err err = {""};
    pid_t pid = start_hanging(&tracer);
    int64_t soon = clock_monotonic_ns(clock_system()) + 50 * NS_PER_MS;
    assert_int_equal(syscall_tracer_finish(&tracer, soon, &counts, &exit_code, &err), -ETIMEDOUT);
    assert_int_equal(exit_code, 77);
    assert_true(is_gone(pid));
    pid = start_hanging(&tracer);
    syscall_tracer_stop(&tracer);
    assert_true(is_gone(pid));
    pid = start_hanging(&tracer);
    kill(tracer.child.pid, SIGKILL);
    assert_int_equal(syscall_tracer_finish(&tracer, deadline(), &counts, &exit_code, &err),
                     -EPROTO);
    assert_true(is_gone(pid));
}

static void missing_program_is_said(void **state)
{
    (void)state;
    const char *const argv[] = {"/nowhere/program", NULL};
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
    struct syscall_tracer tracer;
    struct err err = {""};
    assert_int_equal(syscall_tracer_start(&tracer, &options, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nowhere/program"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slope_of_two_runs_is_exact),
        cmocka_unit_test(threads_children_and_exec_are_counted_too),
        cmocka_unit_test(signals_reach_the_program),
        cmocka_unit_test(protocol_over_pipes_works_while_traced),
        cmocka_unit_test(deadline_and_stop_leave_no_program_behind),
        cmocka_unit_test(missing_program_is_said),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: syscall_count_cli_test PROGRAM\n");
        return 2;
    }
    fixture = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
