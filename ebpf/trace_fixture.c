#include "trace_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "loader.h"

#define OUTPUT_BYTES_MAX (1 << 25)

int tracer_check(unsigned needs)
{
    struct err err = {""};
    if (getenv("CODEQ_TRACE") == NULL || loader_check(needs, &err) != 0) {
        printf("skipped: %s\n",
               getenv("CODEQ_TRACE") == NULL ? "CODEQ_TRACE names no program" : err.text);
        return 77;
    }
    return 0;
}

char *tracer_slurp(const char *dir, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "re");
    char *text = calloc(1, OUTPUT_BYTES_MAX);
    assert_non_null(text);
    if (file != NULL) {
        size_t n = fread(text, 1, OUTPUT_BYTES_MAX - 1, file);
        text[n] = '\0';
        fclose(file);
    }
    return text;
}

void tracer_start(struct tracer *tracer, const char *const *args)
{
    const char *argv[32] = {getenv("CODEQ_TRACE")};
    int n = 1;
    while (*args != NULL) {
        argv[n++] = *args++;
        assert_true(n < 31);
    }
    argv[n++] = "--json";
    argv[n] = NULL;
    strcpy(tracer->dir, "/tmp/codeq-trace-XXXXXX");
    assert_non_null(mkdtemp(tracer->dir));
    char path[128];
    snprintf(path, sizeof path, "%s/out", tracer->dir);
    int out = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    snprintf(path, sizeof path, "%s/err", tracer->dir);
    int err_fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = out, .stderr_fd = err_fd, .cpu = -1};
    struct err err = {""};
    tracer->child = (struct child){0};
    if (child_start(&tracer->child, &options, &err) != 0) {
        fail_msg("%s", err.text);
    }
    close(out);
    close(err_fd);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC;
    for (;;) {
        char *text = tracer_slurp(tracer->dir, "err");
        bool ready = strstr(text, ": tracing ") != NULL;
        int64_t now_ns = clock_monotonic_ns(clock_system());
        if (!ready &&
            (now_ns > deadline_ns || child_wait(&tracer->child, now_ns + 5 * NS_PER_MS) == 0)) {
            fail_msg("codeq-trace did not start: %s", text);
        }
        free(text);
        if (ready) {
            return;
        }
    }
}

struct json *tracer_end_lines(struct tracer *tracer, char **out_lines)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + 20 * NS_PER_SEC;
    assert_int_equal(child_wait(&tracer->child, deadline_ns), 0);
    char *text = tracer_slurp(tracer->dir, "out");
    char *last = text;
    if (out_lines != NULL) {
        size_t n = strlen(text);
        assert_true(n > 0 && text[n - 1] == '\n');
        text[n - 1] = '\0';
        last = strrchr(text, '\n');
        last = last != NULL ? last + 1 : text;
    }
    struct err err = {""};
    struct json *report = json_parse(last, strlen(last), &err);
    if (report == NULL) {
        char *why = tracer_slurp(tracer->dir, "err");
        fail_msg("%s in: %s %s", err.text, text, why);
    }
    if (out_lines != NULL) {
        *last = '\0';
        *out_lines = text;
    } else {
        free(text);
    }
    remove_tree(tracer->dir);
    return report;
}

struct json *tracer_end(struct tracer *tracer)
{
    return tracer_end_lines(tracer, NULL);
}

struct json *tracer_stop(struct tracer *tracer)
{
    if (tracer->child.pid > 0) {
        kill(tracer->child.pid, SIGINT);
    }
    return tracer_end(tracer);
}

const struct json *tracer_row(const struct json *report, const char *table, const char *key,
                              const char *value)
{
    for (const struct json *row = json_first(json_get(report, table)); row != NULL;
         row = json_next(row)) {
        if (strcmp(json_string(json_get(row, key), ""), value) == 0) {
            return row;
        }
    }
    return NULL;
}

double tracer_number(const struct json *report, const char *table, const char *key,
                     const char *value, const char *number)
{
    return json_number(json_get(tracer_row(report, table, key, value), number), 0);
}

double tracer_loss(const struct json *report, const char *key)
{
    return json_number(json_get(json_get(report, "losses"), key), -1);
}

int wire_connect(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    struct timeval limit = {20, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

void wire_put(int fd, const char *text)
{
    size_t n = strlen(text);
    assert_int_equal(send(fd, text, n, MSG_NOSIGNAL), n);
}

void wire_until(int fd, const char *text)
{
    char got[65536] = "";
    size_t n = 0;
    while (strstr(got, text) == NULL) {
        ssize_t more = recv(fd, got + n, sizeof got - n - 1, 0);
        if (more <= 0) {
            fail_msg("no %s in %s", text, got);
        }
        n += (size_t)more;
        got[n] = '\0';
    }
}

void wire_call(int fd, const char *until, const char *const *words)
{
    char text[4096];
    int count = 0;
    while (words[count] != NULL) {
        count++;
    }
    size_t n = (size_t)snprintf(text, sizeof text, "*%d\r\n", count);
    for (int i = 0; i < count; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "$%zu\r\n%s\r\n", strlen(words[i]),
                              words[i]);
        assert_true(n < sizeof text);
    }
    wire_put(fd, text);
    wire_until(fd, until);
}
