#include "drive_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

#define ARGV_MAX 32
#define STOP_GRACE_NS (2 * NS_PER_SEC)
#define WAIT_SLICE_NS (200 * NS_PER_MS)
#define EXIT_PROTOCOL 3

/* AVX-512 and EVEX variants off: what remains is chosen alike on every x86-64-v3 machine. */
const char drive_client_hwcaps[] = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512CD,"
                                   "-AVX512DQ,-RTM,-ERMS,-FSRM";

static int argv_build(const struct drive_client_options *options, const char **argv,
                      struct err *err)
{
    int n = 0;
    for (int i = 0; options->prefix != NULL && options->prefix[i] != NULL; i++) {
        if (n >= ARGV_MAX - 2) {
            return err_set(err, -E2BIG, "the tool has more than %d arguments", ARGV_MAX - 2);
        }
        argv[n++] = options->prefix[i];
    }
    argv[n++] = options->program;
    argv[n] = NULL;
    return 0;
}

int drive_client_start(struct drive_client *client, const struct drive_client_options *options,
                       struct err *err)
{
    *client = (struct drive_client){.to_fd = -1, .from_fd = -1, .input = BUF_INIT};
    client->stopped = options->stopped;
    const char *argv[ARGV_MAX];
    int code = argv_build(options, argv, err);
    if (code != 0) {
        return code;
    }
    snprintf(client->dir, sizeof client->dir, "%s", options->dir);
    char tunables[256], preload[256];
    snprintf(tunables, sizeof tunables, "GLIBC_TUNABLES=%s", drive_client_hwcaps);
    const char *envp[8] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LD_BIND_NOW=1", tunables, NULL};
    char path[4096];
    if (getenv("PATH") != NULL && options->prefix != NULL) {
        /* The tool may live elsewhere (Nix). It is not what is counted. */
        snprintf(path, sizeof path, "PATH=%s", getenv("PATH"));
        envp[0] = path;
    }
    size_t variables = 3;
    char padding[16 + DRIVE_CLIENT_PADDING_MAX];
    if (options->preload != NULL) {
        snprintf(preload, sizeof preload, "LD_PRELOAD=%s", options->preload);
        envp[variables++] = preload;
    }
    if (options->padding_bytes > 0) {
        size_t bytes = options->padding_bytes < DRIVE_CLIENT_PADDING_MAX ? options->padding_bytes
                                                                         : DRIVE_CLIENT_PADDING_MAX;
        size_t name = (size_t)snprintf(padding, sizeof padding, "PADDING=");
        memset(padding + name, 'x', bytes);
        padding[name + bytes] = '\0';
        envp[variables++] = padding;
    }
    envp[variables] = NULL;
    int in[2] = {-1, -1}, out[2] = {-1, -1}, log_fd = -1;
    char log_path[256];
    snprintf(log_path, sizeof log_path, "%s/drive.err", options->dir);
    log_fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (log_fd < 0 || pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
        code = err_set(err, -errno, "%s: %s", options->dir, strerror(errno));
        goto out;
    }
    struct child_options child = {
        .argv = argv,
        .envp = envp,
        .dir = options->dir,
        .stdin_fd = in[0],
        .stdout_fd = out[1],
        .stderr_fd = log_fd,
        .cpu = options->cpu,
        .no_aslr = !options->aslr,
        .own_group = true,
    };
    client->traced = options->trace_syscalls;
    code = client->traced ? syscall_tracer_start(&client->tracer, &child, err)
                          : child_start(&client->child, &child, err);
    if (code == 0) {
        client->to_fd = in[1];
        client->from_fd = out[0];
        in[1] = out[0] = -1;
    }
out:
    for (int i = 0; i < 2; i++) {
        if (in[i] >= 0) {
            close(in[i]);
        }
        if (out[i] >= 0) {
            close(out[i]);
        }
    }
    if (log_fd >= 0) {
        close(log_fd);
    }
    return code;
}

/* What the driver or the tool said last on stderr, one line, "" when nothing. */
static void log_tail(const struct drive_client *client, char *out, size_t bytes)
{
    char log_path[256];
    snprintf(log_path, sizeof log_path, "%s/drive.err", client->dir);
    out[0] = '\0';
    int fd = open(log_path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        off_t from = st.st_size > (off_t)bytes - 1 ? st.st_size - (off_t)(bytes - 1) : 0;
        ssize_t got = pread(fd, out, bytes - 1, from);
        out[got > 0 ? got : 0] = '\0';
        for (char *p = out; *p != '\0'; p++) {
            *p = *p == '\n' ? ' ' : *p;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

static int ended_early(const struct drive_client *client, const char *what, struct err *err)
{
    char tail[300];
    log_tail(client, tail, sizeof tail);
    return err_set(err, -EPROTO, "driver: %s%s%s", what, tail[0] != '\0' ? ": " : "", tail);
}

/* Read until a whole line is in input, and cut it out. */
static int read_line(struct drive_client *client, int64_t deadline_ns, struct buf *out_line,
                     struct err *err)
{
    for (;;) {
        char *end =
            client->input.bytes > 0 ? memchr(client->input.data, '\n', client->input.bytes) : NULL;
        if (end != NULL) {
            size_t bytes = (size_t)(end - client->input.data);
            buf_append(out_line, client->input.data, bytes);
            struct buf rest = BUF_INIT;
            buf_append(&rest, end + 1, client->input.bytes - bytes - 1);
            buf_fini(&client->input);
            client->input = rest;
            return 0;
        }
        if (client->input.bytes > DRIVE_LINE_BYTES_MAX) {
            return err_set(err, -EPROTO, "driver: a line is longer than %d bytes",
                           DRIVE_LINE_BYTES_MAX);
        }
        int64_t left_ns = deadline_ns - clock_monotonic_ns(clock_system());
        if (left_ns <= 0) {
            return err_set(err, -ETIMEDOUT, "driver: no answer in time");
        }
        if (client->stopped != NULL && client->stopped()) {
            return err_set(err, -EINTR, "interrupted");
        }
        /* In slices: a signal may come just before the wait begins. */
        struct pollfd p = {client->from_fd, POLLIN, 0};
        int64_t slice_ns = left_ns < WAIT_SLICE_NS ? left_ns : WAIT_SLICE_NS;
        int n = poll(&p, 1, (int)(slice_ns / NS_PER_MS) + 1);
        if (n < 0 && errno != EINTR) {
            return err_set(err, -errno, "driver: %s", strerror(errno));
        }
        if (n <= 0) {
            continue;
        }
        char chunk[65536];
        ssize_t got = read(client->from_fd, chunk, sizeof chunk);
        if (got <= 0) {
            return ended_early(client, "ended without an answer", err);
        }
        buf_append(&client->input, chunk, (size_t)got);
    }
}

int drive_client_call(struct drive_client *client, struct json *take_request, int64_t timeout_ns,
                      struct json **out_reply, struct err *err)
{
    char *text = json_print(take_request);
    struct buf line = BUF_INIT;
    buf_printf(&line, "%s\n", text);
    free(text);
    json_free(take_request);
    ssize_t sent = write(client->to_fd, line.data, line.bytes);
    bool whole = sent == (ssize_t)line.bytes;
    buf_clear(&line);
    /* A driver that has ended may still have said why. */
    int code = read_line(client, clock_monotonic_ns(clock_system()) + timeout_ns, &line, err);
    if (code == 0 && !whole) {
        code = err_set(err, -EPROTO, "driver: it does not read its requests");
    }
    struct json *reply = NULL;
    if (code == 0) {
        reply = json_parse(line.data != NULL ? line.data : "", line.bytes, err);
        code = reply == NULL ? err_prefix(err, -EPROTO, "driver: its answer") : 0;
    }
    buf_fini(&line);
    if (code == 0 && !json_bool(json_get(reply, "ok"), false)) {
        const char *why = json_string(json_get(reply, "error"), "refused without a reason");
        code = err_set(err, -EREMOTEIO, "driver: %.400s", why);
        if (child_wait(&client->child, clock_monotonic_ns(clock_system()) + STOP_GRACE_NS) == 0 &&
            !client->traced && child_exit_code(&client->child) == EXIT_PROTOCOL) {
            code = -EPROTONOSUPPORT;
        }
        json_free(reply);
        reply = NULL;
    }
    if (code == 0) {
        *out_reply = reply;
    }
    return code;
}

static void close_pipes(struct drive_client *client)
{
    if (client->to_fd >= 0) {
        close(client->to_fd);
        client->to_fd = -1;
    }
    if (client->from_fd >= 0) {
        close(client->from_fd);
        client->from_fd = -1;
    }
    buf_fini(&client->input);
}

int drive_client_finish(struct drive_client *client, int64_t timeout_ns,
                        struct syscall_counts *out_syscalls, struct err *err)
{
    struct json *request = json_new_object();
    json_add_string(request, "op", "quit");
    struct json *reply = NULL;
    int code = drive_client_call(client, request, timeout_ns, &reply, err);
    json_free(reply);
    if (code != 0) {
        drive_client_stop(client);
        return code;
    }
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + timeout_ns;
    int exit_code = 0;
    if (client->traced) {
        struct syscall_counts counts;
        code = syscall_tracer_finish(&client->tracer, deadline_ns, &counts, &exit_code, err);
        if (code == 0 && out_syscalls != NULL) {
            *out_syscalls = counts;
        }
        client->traced = false;
    } else {
        code = child_wait(&client->child, deadline_ns);
        if (code != 0) {
            err_set(err, code, "driver: did not end after quit");
        }
        exit_code = code == 0 ? child_exit_code(&client->child) : 0;
    }
    if (code == 0 && exit_code != 0) {
        code = ended_early(client, "ended with an error", err);
    }
    drive_client_stop(client);
    return code;
}

void drive_client_stop(struct drive_client *client)
{
    if (client->traced) {
        syscall_tracer_stop(&client->tracer);
        client->traced = false;
    }
    child_stop(&client->child, 0);
    close_pipes(client);
}
