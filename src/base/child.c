#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

static void move_fd(int fd, int target, int flags)
{
    if (fd < 0) {
        fd = open("/dev/null", flags);
    }
    if (fd == target) {
        fcntl(fd, F_SETFD, 0);
    } else {
        dup2(fd, target);
    }
}

/* In the child, between fork and exec: async-signal-safe calls only. */
static void become(const struct child_options *options, pid_t parent, int report_fd)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127);
    }
    if (options->own_group) {
        setpgid(0, 0);
    }
    if (options->dir != NULL && chdir(options->dir) != 0) {
        goto fail;
    }
    if (options->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(options->cpu, &set);
        if (sched_setaffinity(0, sizeof set, &set) != 0) {
            goto fail;
        }
    }
    if (options->no_aslr) {
        personality(ADDR_NO_RANDOMIZE);
    }
    move_fd(options->stdin_fd, 0, O_RDONLY);
    move_fd(options->stdout_fd, 1, O_WRONLY);
    move_fd(options->stderr_fd, 2, O_WRONLY);
    if (options->traced && ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
        goto fail;
    }
    char *const *argv = (char *const *)(uintptr_t)options->argv;
    if (options->envp != NULL) {
        execvpe(argv[0], argv, (char *const *)(uintptr_t)options->envp);
    } else {
        execvp(argv[0], argv);
    }
fail:;
    int code = errno;
    ssize_t ignored = write(report_fd, &code, sizeof code);
    (void)ignored;
    _exit(127);
}

int child_start(struct child *child, const struct child_options *options, struct err *err)
{
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) {
        return err_set(err, -errno, "pipe: %s", strerror(errno));
    }
    /* The report pipe must not sit on 0..2, where the child's own fds go. */
    int high = fcntl(report[1], F_DUPFD_CLOEXEC, 3);
    close(report[1]);
    pid_t parent = getpid();
    pid_t pid = high < 0 ? -1 : fork();
    if (pid < 0) {
        int code = errno;
        close(report[0]);
        close(high);
        return err_set(err, -code, "fork: %s", strerror(code));
    }
    if (pid == 0) {
        become(options, parent, high);
    }
    close(high);
    int code = 0;
    ssize_t n;
    do {
        n = read(report[0], &code, sizeof code);
    } while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n == (ssize_t)sizeof code) {
        waitpid(pid, NULL, 0);
        return err_set(err, -code, "cannot run %s: %s", options->argv[0], strerror(code));
    }
    child->pid = pid;
    child->wait_status = 0;
    return 0;
}

static int pid_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static int reap(struct child *child, int flags)
{
    pid_t got = waitpid(child->pid, &child->wait_status, flags);
    if (got == child->pid || (got < 0 && errno == ECHILD)) {
        child->pid = 0;
        return 0;
    }
    return got < 0 ? -errno : -ETIMEDOUT;
}

int child_wait(struct child *child, int64_t deadline_ns)
{
    if (child->pid == 0) {
        return 0;
    }
    int fd = pid_open(child->pid);
    if (fd < 0) {
        /* Before Linux 5.3, and under Valgrind 3.19: no descriptor to wait on, so look and look. */
        int code = reap(child, deadline_ns == INT64_MAX ? 0 : WNOHANG);
        while (code == -ETIMEDOUT && clock_monotonic_ns(clock_system()) < deadline_ns) {
            nanosleep(&(struct timespec){0, 2 * NS_PER_MS}, NULL);
            code = reap(child, WNOHANG);
        }
        return code;
    }
    int code = 0;
    for (;;) {
        int64_t left_ns =
            deadline_ns == INT64_MAX ? -1 : deadline_ns - clock_monotonic_ns(clock_system());
        if (deadline_ns != INT64_MAX && left_ns < 0) {
            left_ns = 0;
        }
        struct timespec left = {left_ns / NS_PER_SEC, left_ns % NS_PER_SEC};
        struct pollfd p = {fd, POLLIN, 0};
        int n = ppoll(&p, 1, deadline_ns == INT64_MAX ? NULL : &left, NULL);
        if (n < 0) {
            code = -errno;
            break;
        }
        code = reap(child, WNOHANG);
        if (n == 0 || code != -ETIMEDOUT) {
            break;
        }
    }
    close(fd);
    return code;
}

void child_stop(struct child *child, int64_t grace_ns)
{
    if (child->pid == 0) {
        return;
    }
    kill(child->pid, SIGTERM);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + grace_ns;
    int code;
    do {
        code = child_wait(child, deadline_ns);
    } while (code == -EINTR);
    if (code != 0) {
        kill(child->pid, SIGKILL);
        while (child->pid != 0 && reap(child, 0) == -EINTR) {
        }
    }
}

int child_exit_code(const struct child *child)
{
    if (WIFSIGNALED(child->wait_status)) {
        return 128 + WTERMSIG(child->wait_status);
    }
    return WEXITSTATUS(child->wait_status);
}

int child_run(const struct child_options *options, int64_t deadline_ns, char **out_stdout,
              char **out_stderr, struct err *err)
{
    int pipes[2][2] = {{-1, -1}, {-1, -1}};
    struct buf text[2] = {BUF_INIT, BUF_INIT};
    struct child child = {0, 0};
    struct child_options o = *options;
    int count = out_stderr != NULL ? 2 : 1;
    int code = 0;
    for (int i = 0; i < count; i++) {
        if (pipe2(pipes[i], O_CLOEXEC) != 0) {
            code = err_set(err, -errno, "pipe: %s", strerror(errno));
            goto out;
        }
    }
    o.stdin_fd = -1;
    o.stdout_fd = pipes[0][1];
    if (out_stderr != NULL) {
        o.stderr_fd = pipes[1][1];
    }
    code = child_start(&child, &o, err);
    for (int i = 0; i < count; i++) {
        close(pipes[i][1]);
        pipes[i][1] = -1;
    }
    if (code != 0) {
        goto out;
    }
    int open_count = count;
    while (open_count > 0) {
        struct pollfd p[2] = {{pipes[0][0], POLLIN, 0}, {pipes[1][0], POLLIN, 0}};
        int64_t left_ns = deadline_ns == INT64_MAX
                              ? NS_PER_SEC
                              : deadline_ns - clock_monotonic_ns(clock_system());
        if (left_ns <= 0) {
            child_stop(&child, NS_PER_SEC);
            code = err_set(err, -ETIMEDOUT, "%s did not end in time", options->argv[0]);
            goto out;
        }
        struct timespec left = {left_ns / NS_PER_SEC, left_ns % NS_PER_SEC};
        int n = ppoll(p, (nfds_t)count, &left, NULL);
        if (n < 0) {
            code = err_set(err, -errno, "%s: %s", options->argv[0], strerror(errno));
            child_stop(&child, NS_PER_SEC);
            goto out;
        }
        for (int i = 0; i < count; i++) {
            if (p[i].revents == 0) {
                continue;
            }
            char chunk[16384];
            ssize_t got = read(pipes[i][0], chunk, sizeof chunk);
            if (got > 0) {
                buf_append(&text[i], chunk, (size_t)got);
            } else if (got == 0 || errno != EINTR) {
                close(pipes[i][0]);
                pipes[i][0] = -1;
                open_count--;
            }
        }
    }
    code = child_wait(&child, deadline_ns);
    if (code != 0) {
        child_stop(&child, NS_PER_SEC);
        code = err_set(err, code, "%s did not end in time", options->argv[0]);
        goto out;
    }
    code = child_exit_code(&child);
    *out_stdout = buf_take(&text[0]);
    if (out_stderr != NULL) {
        *out_stderr = buf_take(&text[1]);
    }
out:
    for (int i = 0; i < count; i++) {
        if (pipes[i][0] >= 0) {
            close(pipes[i][0]);
        }
        if (pipes[i][1] >= 0) {
            close(pipes[i][1]);
        }
    }
    buf_fini(&text[0]);
    buf_fini(&text[1]);
    return code;
}
