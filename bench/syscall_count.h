/* Counts the system calls of a program, by name, over all its threads and children, with ptrace.
 *
 * A tracer process is forked; it starts the program stopped, so that not one call is missed, and
 * passes signals through. The caller speaks with the program over the fds of child_options as if
 * it had started it itself; the counts come when the program has ended. A tracer that dies takes
 * the program with it (PTRACE_O_EXITKILL), and a caller that dies takes the tracer. Main thread
 * only; start it from a process with one thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/child.h"
#include "base/err.h"

#define SYSCALL_COUNT_NUMBERS_MAX 1024

struct syscall_counts {
    int64_t total;
    int64_t other; /* numbers at or above SYSCALL_COUNT_NUMBERS_MAX */
    int64_t by_number[SYSCALL_COUNT_NUMBERS_MAX];
};

struct syscall_tracer {
    struct child child; /* the tracer; its exit status is the program's */
    int counts_fd;
};

/* Start the program of options under a tracer. 0, or negative errno with text (program not found;
 * -EPERM: ptrace is not allowed here). On success the caller calls syscall_tracer_finish or _stop.
 */
int syscall_tracer_start(struct syscall_tracer *tracer, const struct child_options *options,
                         struct err *err);

/* Wait until the program ends, at most until deadline_ns (monotonic), and read the counts. 0 and
 * the program's exit code (128 + signal) in *out_exit_code; -ETIMEDOUT (everything is stopped);
 * -EPROTO when the tracer died without counts. The tracer is gone afterwards in every case. */
int syscall_tracer_finish(struct syscall_tracer *tracer, int64_t deadline_ns,
                          struct syscall_counts *out_counts, int *out_exit_code, struct err *err);

/* Kill program and tracer. Accepts a tracer that was finished. */
void syscall_tracer_stop(struct syscall_tracer *tracer);

/* "epoll_wait"; NULL for a number this build's kernel headers do not know. Static storage. */
const char *syscall_name(int number);
