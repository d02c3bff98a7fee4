/* A child process that cannot outlive its parent.
 *
 * Children are started with PR_SET_PDEATHSIG, so that a killed parent leaves none behind, and in
 * the caller's process group, so that Ctrl-C reaches them. The owner calls child_stop or
 * child_wait, then child_fini. Not thread-safe; start children from the main thread (the death
 * signal follows the thread that forked). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct child_options {
    const char *const *argv; /* argv[0] is looked up in PATH; NULL-terminated */
    const char *const *envp; /* NULL: the parent's environment */
    const char *dir; /* working folder; NULL: the parent's */
    int stdin_fd; /* moved to fd 0 in the child; -1: /dev/null */
    int stdout_fd; /* -1: /dev/null */
    int stderr_fd; /* -1: /dev/null */
    int cpu; /* pin to this core; -1: leave free */
    bool no_aslr; /* personality(ADDR_NO_RANDOMIZE), as `setarch -R` */
    bool traced; /* PTRACE_TRACEME: it stops at exec until its parent lets it go on */
    bool own_group; /* own process group: Ctrl-C at the terminal does not reach it */
};

struct child {
    pid_t pid; /* 0 when none runs */
    int wait_status; /* as from waitpid; valid once pid is 0 again */
};

/* 0, or negative errno with text (program not found, fork failed, folder missing). Returns only
 * after exec succeeded or failed. Keeps nothing of options; the passed fds stay the caller's. */
int child_start(struct child *child, const struct child_options *options, struct err *err);

/* Wait until the child ends or deadline_ns (monotonic; INT64_MAX: for ever). 0 when it has ended,
 * -ETIMEDOUT when it runs on, -EINTR when a signal came and the child still runs. */
int child_wait(struct child *child, int64_t deadline_ns);

/* SIGTERM, then SIGKILL after grace_ns, and reap. Does nothing when none runs. */
void child_stop(struct child *child, int64_t grace_ns);

/* Exit code 0..255, or 128 + signal. */
int child_exit_code(const struct child *child);

/* Start, collect stdout (and stderr when out_stderr is not NULL) and wait. The texts are
 * NUL-terminated and the caller's to free. Returns the exit code (>= 0) or negative errno with
 * text. -ETIMEDOUT: killed at the deadline. stdin is /dev/null; the fds in options are ignored. */
int child_run(const struct child_options *options, int64_t deadline_ns, char **out_stdout,
              char **out_stderr, struct err *err);
