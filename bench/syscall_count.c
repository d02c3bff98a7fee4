#include "syscall_count.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

/* What the tracer sends: first whether the program started, at the end the counts. */
struct report {
    int code; /* 0 or negative errno of the start */
    struct err err;
};

static const char *const names[] = {
#define SYSCALL_NAME(number, name) [number] = name,
#include "syscall_names.inc"
#undef SYSCALL_NAME
};

const char *syscall_name(int number)
{
    return number >= 0 && (size_t)number < sizeof names / sizeof *names ? names[number] : NULL;
}

static bool write_all(int fd, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t n = write(fd, at, bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

static void count_call(pid_t tid, struct syscall_counts *counts)
{
    struct __ptrace_syscall_info info;
    /* A thread killed meanwhile has nothing to tell. */
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof info, &info) <= 0 ||
        info.op != PTRACE_SYSCALL_INFO_ENTRY) {
        return;
    }
    counts->total++;
    if (info.entry.nr < SYSCALL_COUNT_NUMBERS_MAX) {
        counts->by_number[info.entry.nr]++;
    } else {
        counts->other++;
    }
}

/* What to deliver when the stopped thread goes on: 0 for the stops that are ours. */
static int signal_of(int status)
{
    int number = WSTOPSIG(status);
    int event = status >> 16;
    if (number == (SIGTRAP | 0x80) || event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK ||
        event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_EXEC) {
        return 0;
    }
    return number;
}

/* Threads that were traced automatically begin with a SIGSTOP that nobody sent. */
#define FRESH_MAX 4096

struct fresh {
    pid_t seen[FRESH_MAX];
    size_t count;
};

static bool is_first_stop(struct fresh *fresh, pid_t tid)
{
    for (size_t i = 0; i < fresh->count; i++) {
        if (fresh->seen[i] == tid) {
            return false;
        }
    }
    if (fresh->count < FRESH_MAX) {
        fresh->seen[fresh->count++] = tid;
    }
    return true;
}

static void forget(struct fresh *fresh, pid_t tid)
{
    for (size_t i = 0; i < fresh->count; i++) {
        if (fresh->seen[i] == tid) {
            fresh->seen[i] = fresh->seen[--fresh->count];
            return;
        }
    }
}

/* Pump events until nothing is traced any more. Returns the wait status of the program. */
static int trace(pid_t program, struct syscall_counts *counts)
{
    static struct fresh fresh;
    int program_status = 0;
    is_first_stop(&fresh, program);
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0) {
            if (errno == EINTR) {
                continue;
            }
            return program_status; /* ECHILD: all have ended */
        }
        if (!WIFSTOPPED(status)) {
            forget(&fresh, tid);
            if (tid == program) {
                program_status = status;
            }
            continue;
        }
        int deliver = signal_of(status);
        int event = status >> 16;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            count_call(tid, counts);
        } else if (event == PTRACE_EVENT_EXEC) {
            /* The thread that execs takes the leader's id. */
            is_first_stop(&fresh, tid);
        } else if (event == 0 && is_first_stop(&fresh, tid) && deliver == SIGSTOP) {
            deliver = 0;
        }
        ptrace(PTRACE_SYSCALL, tid, NULL, (void *)(intptr_t)deliver);
    }
}

/* In the tracer process. Never returns. */
static void run_tracer(const struct child_options *options, int report_fd, pid_t parent)
{
    struct report report = {0, {""}};
    static struct syscall_counts counts;
    struct child_options o = *options;
    struct child child = {0, 0};
    int status = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127);
    }
    signal(SIGINT, SIG_IGN); /* Ctrl-C is the program's; we end with it */
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    /* Ends of pipes that the caller holds must not stay open here, or the program would never see
     * its end of input. Our own copies go once the program has its own. */
    long fd_max = sysconf(_SC_OPEN_MAX);
    for (int fd = 3; fd < (fd_max > 0 && fd_max < 65536 ? (int)fd_max : 65536); fd++) {
        if (fd != report_fd && fd != o.stdin_fd && fd != o.stdout_fd && fd != o.stderr_fd) {
            close(fd);
        }
    }
    o.traced = true;
    report.code = child_start(&child, &o, &report.err);
    if (report.code == 0 && waitpid(child.pid, &status, 0) == child.pid && WIFSTOPPED(status)) {
        long ok = ptrace(PTRACE_SETOPTIONS, child.pid, NULL,
                         (void *)(intptr_t)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL |
                                            PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                                            PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC));
        if (ok != 0) {
            report.code = err_set(&report.err, -errno, "ptrace: %s", strerror(errno));
            kill(child.pid, SIGKILL);
        }
    } else if (report.code == 0) {
        report.code = err_set(&report.err, -EPERM, "ptrace: the program did not stop at its start");
    }
    for (int fd = 0; fd <= 2; fd++) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(null, fd);
        close(null);
    }
    const int own[] = {options->stdin_fd, options->stdout_fd, options->stderr_fd};
    for (int i = 0; i < 3; i++) {
        if (own[i] > 2) {
            close(own[i]);
        }
    }
    if (!write_all(report_fd, &report, sizeof report) || report.code != 0) {
        _exit(127);
    }
    ptrace(PTRACE_SYSCALL, child.pid, NULL, NULL);
    child.wait_status = trace(child.pid, &counts);
    write_all(report_fd, &counts, sizeof counts);
    _exit(child_exit_code(&child));
}

/* 0, -ETIMEDOUT, or -EPROTO when the other end closed first. */
static int read_all(int fd, void *data, size_t bytes, int64_t deadline_ns)
{
    char *at = data;
    while (bytes > 0) {
        int64_t left_ns = deadline_ns == INT64_MAX
                              ? NS_PER_SEC
                              : deadline_ns - clock_monotonic_ns(clock_system());
        if (left_ns <= 0) {
            return -ETIMEDOUT;
        }
        struct timespec left = {left_ns / NS_PER_SEC, left_ns % NS_PER_SEC};
        struct pollfd p = {fd, POLLIN, 0};
        int ready = ppoll(&p, 1, &left, NULL);
        if (ready < 0) {
            return -errno;
        }
        if (ready == 0) {
            continue;
        }
        ssize_t n = read(fd, at, bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EPROTO;
        }
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int syscall_tracer_start(struct syscall_tracer *tracer, const struct child_options *options,
                         struct err *err)
{
    int pipe_fds[2];
    struct report report;
    *tracer = (struct syscall_tracer){{0, 0}, -1};
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return err_set(err, -errno, "pipe: %s", strerror(errno));
    }
    /* Not on 0..2, which the tracer gives away. */
    int high = fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, 3);
    close(pipe_fds[1]);
    pid_t parent = getpid();
    pid_t pid = high < 0 ? -1 : fork();
    if (pid < 0) {
        int code = errno;
        close(pipe_fds[0]);
        close(high);
        return err_set(err, -code, "fork: %s", strerror(code));
    }
    if (pid == 0) {
        run_tracer(options, high, parent);
    }
    close(high);
    tracer->child.pid = pid;
    tracer->counts_fd = pipe_fds[0];
    int code = read_all(tracer->counts_fd, &report, sizeof report, INT64_MAX);
    if (code == 0 && report.code != 0) {
        code = err_set(err, report.code, "%s", report.err.text);
    } else if (code != 0) {
        code = err_set(err, code, "the tracer of %s did not start", options->argv[0]);
    }
    if (code != 0) {
        syscall_tracer_stop(tracer);
    }
    return code;
}

int syscall_tracer_finish(struct syscall_tracer *tracer, int64_t deadline_ns,
                          struct syscall_counts *out_counts, int *out_exit_code, struct err *err)
{
    struct syscall_counts *counts = malloc(sizeof *counts);
    if (counts == NULL) {
        abort();
    }
    int code = read_all(tracer->counts_fd, counts, sizeof *counts, deadline_ns);
    if (code == 0) {
        code = child_wait(&tracer->child, deadline_ns);
    }
    if (code == 0) {
        *out_counts = *counts;
        *out_exit_code = child_exit_code(&tracer->child);
    } else if (code == -ETIMEDOUT) {
        err_set(err, code, "the traced program did not end in time");
    } else {
        err_set(err, code, "the tracer ended without counts");
    }
    free(counts);
    syscall_tracer_stop(tracer);
    return code;
}

void syscall_tracer_stop(struct syscall_tracer *tracer)
{
    /* The kernel kills what it traced together with the tracer (PTRACE_O_EXITKILL). */
    child_stop(&tracer->child, NS_PER_SEC);
    if (tracer->counts_fd >= 0) {
        close(tracer->counts_fd);
        tracer->counts_fd = -1;
    }
}
