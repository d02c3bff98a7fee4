#include "tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "result.h"

#define START_TIMEOUT_NS (30 * NS_PER_SEC)
#define END_TIMEOUT_NS (30 * NS_PER_SEC)
#define ARGS_MAX 16

/* The last line of what it said, without its name; "" for none. */
static void last_words(const char *path, char *out, size_t bytes)
{
    char *text = NULL;
    size_t n = 0;
    out[0] = '\0';
    if (result_read_file(path, &text, &n, NULL) != 0) {
        return;
    }
    while (n > 0 && text[n - 1] == '\n') {
        text[--n] = '\0';
    }
    const char *line = strrchr(text, '\n');
    line = line != NULL ? line + 1 : text;
    if (strncmp(line, "codeq-trace: ", 13) == 0) {
        line += 13;
    }
    snprintf(out, bytes, "%.*s", (int)(bytes - 1), line);
    free(text);
}

static bool says(const char *path, const char *words)
{
    char *text = NULL;
    size_t n = 0;
    bool found = result_read_file(path, &text, &n, NULL) == 0 && strstr(text, words) != NULL;
    free(text);
    return found;
}

int tracer_start(struct tracer_run *run, const char *program, const char *const *args,
                 const char *dir, struct err *err)
{
    const char *argv[ARGS_MAX + 3] = {program};
    int argc = 1;
    for (int i = 0; args[i] != NULL && argc < ARGS_MAX; i++) {
        argv[argc++] = args[i];
    }
    argv[argc++] = "--json";
    *run = (struct tracer_run){0};
    /* By process, so that several beside each other do not meet. */
    static unsigned number;
    number++;
    snprintf(run->out_path, sizeof run->out_path, "%.150s/trace.%u.out", dir, number);
    snprintf(run->err_path, sizeof run->err_path, "%.150s/trace.%u.err", dir, number);
    int out = open(run->out_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int log = open(run->err_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int code = out < 0 || log < 0 ? err_set(err, -errno, "%s: %s", dir, strerror(errno)) : 0;
    if (code == 0) {
        struct child_options options = {
            .argv = argv, .stdin_fd = -1, .stdout_fd = out, .stderr_fd = log, .cpu = -1};
        code = child_start(&run->child, &options, err);
    }
    if (out >= 0) {
        close(out);
    }
    if (log >= 0) {
        close(log);
    }
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + START_TIMEOUT_NS;
    while (code == 0 && !says(run->err_path, ": tracing ")) {
        int64_t now_ns = clock_monotonic_ns(clock_system());
        bool ended = child_wait(&run->child, now_ns + 5 * NS_PER_MS) == 0;
        if ((ended && !says(run->err_path, ": tracing ")) || now_ns > deadline_ns) {
            char words[400];
            last_words(run->err_path, words, sizeof words);
            code = err_set(err, ended ? -EPERM : -ETIMEDOUT, "codeq-trace: %s",
                           words[0] != '\0' ? words : "it did not begin");
        }
    }
    if (code != 0) {
        tracer_stop(run);
    }
    return code;
}

int tracer_finish(struct tracer_run *run, struct json **out_report, struct err *err)
{
    if (run->child.pid > 0) {
        kill(run->child.pid, SIGINT);
    }
    int code = child_wait(&run->child, clock_monotonic_ns(clock_system()) + END_TIMEOUT_NS);
    char words[400];
    if (code != 0 || child_exit_code(&run->child) > 1) { /* 1: it saw nothing */
        last_words(run->err_path, words, sizeof words);
        tracer_stop(run);
        return err_set(err, code != 0 ? code : -EIO, "codeq-trace: %s", words);
    }
    struct json *report = json_parse_file(run->out_path, TRACER_REPORT_BYTES_MAX, err);
    if (report == NULL) {
        return err_prefix(err, -EIO, "codeq-trace");
    }
    const struct json *losses = json_get(report, "losses");
    for (const struct json *loss = json_first(losses); loss != NULL; loss = json_next(loss)) {
        if (json_number(loss, 1) != 0 && strcmp(json_key(loss), "samples_without_stack") != 0) {
            code = err_set(err, -EIO, "codeq-trace: %s: %g: what it counted is not whole",
                           json_key(loss), json_number(loss, 1));
        }
    }
    if (code != 0) {
        json_free(report);
        return code;
    }
    *out_report = report;
    return 0;
}

void tracer_stop(struct tracer_run *run)
{
    child_stop(&run->child, NS_PER_SEC);
}

int tracer_check(const char *program, const char *dir, struct err *err)
{
    if (program[0] == '\0') {
        return err_set(err, -EPERM, "codeq-trace, which is not beside this program");
    }
    char pid[24];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    struct tracer_run run;
    struct err why = {""};
    int code = tracer_start(
        &run, program, (const char *[]){"profile", "--off-cpu", "--pid", pid, NULL}, dir, &why);
    if (code == 0) {
        tracer_stop(&run);
        return 0;
    }
    /* "profile: not permitted: CAP_BPF and CAP_PERFMON missing: run as root ..." */
    char *rights = strstr(why.text, "CAP_");
    char *end = rights != NULL ? strstr(rights, " missing") : NULL;
    if (end != NULL) {
        *end = '\0';
        return err_set(err, -EPERM, "%s", rights);
    }
    return err_set(err, -EPERM, "a codeq-trace that works here: %.300s", why.text);
}
