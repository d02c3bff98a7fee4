#include "serve.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/args.h"
#include "base/buf.h"
#include "base/clock.h"
#include "leases.h"
#include "sink_prometheus.h"
#include "view.h"

#define REQUEST_BYTES_MAX 4096
#define CLIENT_TIMEOUT_NS (500 * NS_PER_MS) /* one slow reader holds the others up no longer */

struct state {
    void *inner; /* of leases_view */
    struct view_options options; /* its */
    int fd;
    int64_t start_ns;
};

/* "127.0.0.1:9464" or "[::1]:9464"; anything but loopback is refused: it has no login. */
static int listen_on(const char *text, struct err *err)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    int64_t port = 0;
    if (colon == NULL || (size_t)(colon - text) >= sizeof host ||
        args_int(colon + 1, 1, 65535, &port, NULL) != 0) {
        return err_set(err, -EINVAL, "--listen: '%s': write it like 127.0.0.1:9464", text);
    }
    snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    bool is_v6 = strcmp(host, "[::1]") == 0;
    v6.sin6_addr = in6addr_loopback;
    if (!is_v6 &&
        (inet_pton(AF_INET, host, &v4.sin_addr) != 1 || (ntohl(v4.sin_addr.s_addr) >> 24) != 127)) {
        return err_set(err, -EINVAL,
                       "--listen: '%s' is not a loopback address: use 127.0.0.1 or [::1], and a "
                       "proxy with a login in front",
                       host);
    }
    int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    }
    if (fd < 0 ||
        bind(fd, is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4,
             is_v6 ? sizeof v6 : sizeof v4) != 0 ||
        listen(fd, 16) != 0) {
        int code = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return err_set(err, code, "--listen: %s: %s", text, strerror(-code));
    }
    return fd;
}

static int view_open(const struct view_options *options, struct target *target, void **out_state,
                     struct loader **out_loader, struct err *err)
{
    int fd = listen_on(options->listen != NULL ? options->listen : "127.0.0.1:9464", err);
    if (fd < 0) {
        return fd;
    }
    struct state *state = calloc(1, sizeof *state);
    assert(state != NULL);
    state->fd = fd;
    state->start_ns = clock_monotonic_ns(clock_system());
    state->options = *options;
    state->options.names_only = true;
    int code = leases_view.open(&state->options, target, &state->inner, out_loader, err);
    if (code != 0) {
        close(fd);
        free(state);
        return code;
    }
    *out_state = state;
    return 0;
}

static int view_ready(void *context, struct err *err)
{
    struct state *state = context;
    return leases_view.ready(state->inner, err);
}

static void view_collect(void *context, struct report *report)
{
    struct state *state = context;
    leases_view.collect(state->inner, report);
}

static bool wait_for(int fd, short what, int64_t deadline_ns)
{
    int64_t left_ns = deadline_ns - clock_monotonic_ns(clock_system());
    struct pollfd p = {fd, what, 0};
    return left_ns > 0 && poll(&p, 1, (int)(left_ns / NS_PER_MS) + 1) > 0;
}

static void answer(struct state *state, int fd)
{
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + CLIENT_TIMEOUT_NS;
    char request[REQUEST_BYTES_MAX + 1];
    size_t n = 0;
    request[0] = '\0';
    while (strstr(request, "\r\n\r\n") == NULL) {
        if (n == REQUEST_BYTES_MAX || !wait_for(fd, POLLIN, deadline_ns)) {
            return;
        }
        ssize_t got = recv(fd, request + n, REQUEST_BYTES_MAX - n, 0);
        if (got <= 0) {
            return;
        }
        n += (size_t)got;
        request[n] = '\0';
    }
    struct buf body = BUF_INIT;
    const char *status = "404 Not Found";
    if (strncmp(request, "GET /metrics ", 13) == 0) {
        status = "200 OK";
        struct report report;
        report_init(&report, "serve");
        report.final = true;
        report.elapsed = (double)(clock_monotonic_ns(clock_system()) - state->start_ns) / 1e9;
        report.seconds = report.elapsed;
        leases_view.collect(state->inner, &report);
        sink_prometheus(&report, &body);
        report_fini(&report);
    } else {
        buf_puts(&body, "codeq-trace: GET /metrics\n");
    }
    struct buf out = BUF_INIT;
    buf_printf(&out,
               "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
               "Content-Length: %zu\r\nConnection: close\r\n\r\n",
               status, body.bytes);
    buf_append(&out, body.data, body.bytes);
    for (size_t at = 0; at < out.bytes;) {
        ssize_t sent = send(fd, out.data + at, out.bytes - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            at += (size_t)sent;
        } else if (errno != EAGAIN || !wait_for(fd, POLLOUT, deadline_ns)) {
            break;
        }
    }
    buf_fini(&out);
    buf_fini(&body);
}

static void view_tick(void *context)
{
    struct state *state = context;
    leases_view.tick(state->inner);
    int fd = accept4(state->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) {
        answer(state, fd);
        close(fd);
    }
}

static void view_close(void *context)
{
    struct state *state = context;
    leases_view.close(state->inner);
    close(state->fd);
    free(state);
}

const struct view serve_view = {
    .name = "serve",
    .summary = "leases and commands as Prometheus metrics on a loopback port",
    .help = "  --listen HOST:PORT    loopback only (default: 127.0.0.1:9464); GET /metrics\n"
            "  --rules FILE          as for leases\n"
            "  --sample 1/N          as for commands\n"
            "  --syscalls            and system calls, by name of the process and of the call\n"
            "\n"
            "Labels are commands, scripts and schedulers, 256 at most, and names of processes and\n"
            "system calls; never keys, ids, clients or process numbers.\n"
            "The unit codeq-trace.service, which is installed with it, runs it under systemd.\n"
            "\n"
            "examples:\n"
            "  codeq-trace serve\n"
            "  codeq-trace serve --listen 127.0.0.1:9999 --comm redis-server\n"
            "  codeq-trace serve --rules ebpf/rules/bullmq.rules --syscalls\n"
            "  codeq-trace serve --cgroup system.slice/redis.service --follow\n"
            "  curl -s http://127.0.0.1:9464/metrics | grep lost\n",
    .options = "listen rules sample syscalls",
    .quiet = true,
    .open = view_open,
    .ready = view_ready,
    .tick = view_tick,
    .collect = view_collect,
    .close = view_close,
};
