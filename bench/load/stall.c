#include "load/stall.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/http1.h"

#define CONNECTIONS 2048
#define EVENTS_MAX 64
#define P99_SHARE 0.01
#define LAG_SHARE_MAX 0.01 /* of the pause: what is looked for is that much larger */

struct peer {
    int fd; /* -1: free */
    struct stall_server_state *state;
    http1_parser parser;
};

struct stall_server_state {
    struct stall_server *server;
    pthread_t thread;
    int listen_fd, stop_fd, epoll_fd;
    int64_t first_ns; /* the first POST; 0: none yet */
    struct peer peers[CONNECTIONS];
};

static int64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

static void stand_still(struct stall_server *server)
{
    int64_t from_ns = now_ns();
    struct timespec rest = {server->pause_ns / NS_PER_SEC, server->pause_ns % NS_PER_SEC};
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {
    }
    server->paused_ns = now_ns() - from_ns;
}

static int answer(http1_parser *parser)
{
    static const char accepted[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
    static const char not_found[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
    struct peer *peer = parser->data;
    struct stall_server_state *state = peer->state;
    struct stall_server *server = state->server;
    bool post = parser->method == HTTP_POST;
    if (post) {
        int64_t began_ns = now_ns();
        if (state->first_ns == 0) {
            state->first_ns = began_ns;
        }
        if (server->pause_ns > 0 && server->paused_ns == 0 &&
            began_ns - state->first_ns >= server->pause_at_ns) {
            stand_still(server);
            began_ns = now_ns();
        }
        while (now_ns() - began_ns < server->service_ns) {
        }
        server->posts++;
    }
    const char *text = post ? accepted : not_found;
    size_t bytes = post ? sizeof accepted - 1 : sizeof not_found - 1;
    /* A reader that lets 64 bytes not fit has lost its answer. */
    return send(peer->fd, text, bytes, MSG_NOSIGNAL) == (ssize_t)bytes ? 0 : -1;
}

static const http1_settings settings = {.on_message_complete = answer};

static void take_peer(struct stall_server_state *state)
{
    int fd = accept4(state->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    for (size_t i = 0; i < CONNECTIONS; i++) {
        struct peer *peer = &state->peers[i];
        if (peer->fd >= 0) {
            continue;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(state->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) {
            peer->fd = fd;
            peer->state = state;
            http1_init(&peer->parser, HTTP1_REQUEST, &settings, peer);
            return;
        }
        break;
    }
    close(fd);
}

static void read_peer(struct peer *peer)
{
    char bytes[4096];
    ssize_t n = recv(peer->fd, bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    size_t taken;
    if (n <= 0 || http1_feed(&peer->parser, &settings, bytes, (size_t)n, &taken) != HTTP1_MORE) {
        close(peer->fd);
        peer->fd = -1;
    }
}

static void *serve(void *arg)
{
    struct stall_server_state *state = arg;
    struct epoll_event events[EVENTS_MAX];
    const struct sched_param param = {.sched_priority = 1};
    /* Its 50 us are part of the proof: beside the generator, before all others, if that is allowed.
     */
    sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &param);
    for (;;) {
        int n = epoll_wait(state->epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &state->stop_fd) {
                return NULL;
            }
            if (events[i].data.ptr == &state->listen_fd) {
                take_peer(state);
            } else {
                read_peer(events[i].data.ptr);
            }
        }
    }
}

static void state_free(struct stall_server_state *state)
{
    const int fds[] = {state->listen_fd, state->stop_fd, state->epoll_fd};
    for (size_t i = 0; i < 3; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    for (size_t i = 0; i < CONNECTIONS; i++) {
        if (state->peers[i].fd >= 0) {
            close(state->peers[i].fd);
        }
    }
    free(state);
}

static int open_fds(struct stall_server_state *state, uint16_t *out_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    struct epoll_event stop = {.events = EPOLLIN, .data.ptr = &state->stop_fd};
    struct epoll_event peer = {.events = EPOLLIN, .data.ptr = &state->listen_fd};
    state->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    state->stop_fd = eventfd(0, EFD_CLOEXEC);
    state->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (state->listen_fd < 0 || state->stop_fd < 0 || state->epoll_fd < 0 ||
        bind(state->listen_fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(state->listen_fd, CONNECTIONS) != 0 ||
        getsockname(state->listen_fd, (struct sockaddr *)&at, &bytes) != 0 ||
        epoll_ctl(state->epoll_fd, EPOLL_CTL_ADD, state->stop_fd, &stop) != 0 ||
        epoll_ctl(state->epoll_fd, EPOLL_CTL_ADD, state->listen_fd, &peer) != 0) {
        return -errno;
    }
    *out_port = ntohs(at.sin_port);
    return 0;
}

int stall_server_start(struct stall_server *server, struct err *err)
{
    struct stall_server_state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return err_set(err, -ENOMEM, "out of memory");
    }
    state->server = server;
    state->listen_fd = state->stop_fd = state->epoll_fd = -1;
    for (size_t i = 0; i < CONNECTIONS; i++) {
        state->peers[i].fd = -1;
    }
    server->paused_ns = 0;
    server->posts = 0;
    int code = open_fds(state, &server->port);
    code = code != 0 ? code : -pthread_create(&state->thread, NULL, serve, state);
    if (code != 0) {
        state_free(state);
        return err_set(err, code, "a server on 127.0.0.1: %s", strerror(-code));
    }
    server->state = state;
    return 0;
}

void stall_server_stop(struct stall_server *server)
{
    if (server->state == NULL) {
        return;
    }
    uint64_t one = 1;
    while (write(server->state->stop_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
    pthread_join(server->state->thread, NULL);
    state_free(server->state);
    server->state = NULL;
}

static void judge(struct stall_check *check)
{
    double due_ns = P99_SHARE * (double)check->duration_ns;
    double busy = STALL_RATE_PER_SEC * (double)STALL_SERVICE_NS / (double)NS_PER_SEC;
    check->expected_ns =
        (int64_t)((double)check->paused_ns - due_ns * (1 - busy)) + STALL_SERVICE_NS;
    double off_ns = (double)(check->p99_ns - check->expected_ns);
    double slack_ns = STALL_TOLERANCE * (double)check->pause_ns;
    check->ok = check->void_reason[0] == '\0' && off_ns <= slack_ns && off_ns >= -slack_ns;
}

int stall_check_run(int64_t duration_ns, int64_t pause_ns, const volatile sig_atomic_t *stop,
                    load_progress_fn *progress, struct stall_check *out, struct err *err)
{
    struct stall_server server = {
        .service_ns = STALL_SERVICE_NS, .pause_at_ns = duration_ns * 4 / 10, .pause_ns = pause_ns};
    *out = (struct stall_check){.duration_ns = duration_ns, .pause_ns = pause_ns};
    int code = stall_server_start(&server, err);
    if (code != 0) {
        return code;
    }
    struct load_spec *spec = calloc(1, sizeof *spec);
    struct load_result result;
    if (spec == NULL) {
        abort();
    }
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u", server.port);
    spec->seed = 1;
    spec->duration_ns = duration_ns;
    spec->drain_ns = pause_ns;
    spec->tenant_count = 1;
    spec->tenants[0].weight = 1;
    spec->role_count = 1;
    spec->roles[0] = (struct load_role){
        .kind = LOAD_PRODUCER,
        .name = "producer",
        .command = "STALL",
        .open = true,
        .arrival = ARRIVAL_CONSTANT,
        .phases = {{duration_ns, STALL_RATE_PER_SEC, STALL_RATE_PER_SEC}},
        .phase_count = 1,
        .concurrency = 8, /* most have to wait here: only their intended start knows of it */
        .batch = 1,
    };
    code = http_target_parse(&spec->target, url, err);
    code = code != 0 ? code : load_run(spec, stop, progress, NULL, &result, err);
    stall_server_stop(&server);
    if (code == 0) {
        const struct load_endpoint_result *create = &result.endpoints[LOAD_CREATE];
        out->paused_ns = server.paused_ns;
        out->p99_ns = hist_quantile_ns(&create->latency, 0.99);
        out->lag_p99_ns = hist_quantile_ns(&result.send_lag, 0.99);
        out->completed = create->completed;
        if ((double)out->lag_p99_ns > LAG_SHARE_MAX * (double)pause_ns) {
            snprintf(out->void_reason, sizeof out->void_reason, "%s", result.void_reason);
        }
        judge(out);
        load_result_fini(&result);
    }
    free(spec);
    return code;
}
