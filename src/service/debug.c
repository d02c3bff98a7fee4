#include "service/debug.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/args.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pprof.h"
#include "service/config.h"
#include "service/cpu_profile.h"
#include "service/http.h"
#include "service/server.h"

#define CONNECTIONS_MAX 16
#define DRAIN_SEC 0.1

struct debug {
    pthread_t thread;
    struct ev_loop *loop;
    ev_prepare prepare;
    ev_check check;
    ev_async stop;
    ev_timer drain;
    struct http *http;
    struct cpu_profile *profile;
    struct http_conn *waiting; /* whose profile is under way; NULL: none is */
    int64_t end_ns;
    char address[300];
};

static void answer(struct http_conn *conn, int status, const char *type, const void *body,
                   size_t bytes)
{
    char head[160];
    int n = snprintf(head, sizeof head, "Content-Type: %s\r\nCache-Control: no-store\r\n%s", type,
                     status == 200 && type[0] == 'a'
                         ? "Content-Disposition: attachment; filename=\"codeqd.pb.gz\"\r\n"
                         : "");
    char *at = http_answer_begin(conn, status, head, (size_t)n, bytes);
    memcpy(at, body, bytes);
    http_answer_end(conn, at + bytes);
}

static void answer_text(struct http_conn *conn, int status, const char *text)
{
    answer(conn, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void end_profile(struct debug *debug)
{
    struct http_conn *conn = debug->waiting;
    uint64_t lost = 0;
    struct stacks *stacks = cpu_profile_stop(debug->profile, &lost);
    struct pprof_options options = {
        .type = "cpu", .unit = "nanoseconds", .period = CPU_PROFILE_PERIOD_NS};
    unsigned char *data = NULL;
    size_t bytes = 0;
    struct err err = {""};
    ev_timer_stop(debug->loop, &debug->drain);
    debug->waiting = NULL;
    if (lost > 0) {
        log_event(LOG_LEVEL_WARN, "debug_profile_samples_lost", NULL);
    }
    if (pprof_encode(stacks, &options, &data, &bytes, &err) != 0) {
        answer_text(conn, 500, err.text);
    } else {
        answer(conn, 200, "application/octet-stream", data, bytes);
    }
    free(data);
    stacks_free(stacks);
}

static void on_drain(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)events;
    struct debug *debug = watcher->data;
    cpu_profile_drain(debug->profile);
    if (clock_monotonic_ns(clock_system()) >= debug->end_ns) {
        end_profile(debug);
    }
}

/* seconds=N and nothing else. 0, or -EINVAL. */
static int read_seconds(struct store_bytes query, int64_t *out_seconds)
{
    static const char name[] = "seconds=";
    char text[32];
    *out_seconds = DEBUG_SECONDS_DEFAULT;
    if (query.bytes == 0) {
        return 0;
    }
    if (query.bytes >= sizeof text) {
        return -EINVAL;
    }
    memcpy(text, query.data, query.bytes);
    text[query.bytes] = '\0';
    if (strlen(text) != query.bytes || strncmp(text, name, sizeof name - 1) != 0) {
        return -EINVAL;
    }
    return args_int(text + sizeof name - 1, 1, DEBUG_SECONDS_MAX, out_seconds, NULL);
}

/* A page of the web may have its own name resolve to this machine and so read what is meant for
 * those who are on it: its browser says that name in Host. */
static bool is_asked_by_own_name(const struct http_request *request)
{
    struct store_bytes host;
    char text[280];
    if (!http_header(request, "host", &host)) {
        return true;
    }
    if (host.bytes + 3 > sizeof text) {
        return false;
    }
    snprintf(text, sizeof text, "%.*s", (int)host.bytes, (const char *)host.data);
    const char *colon = strrchr(text, ':');
    if (colon == NULL || strchr(colon, ']') != NULL) {
        strcat(text, ":0");
    }
    return config_listen_is_loopback(text);
}

static bool path_is(const struct http_request *request, const char *path)
{
    return request->path.bytes == strlen(path) &&
           memcmp(request->path.data, path, request->path.bytes) == 0;
}

static void on_request(void *arg, struct http_request *request)
{
    struct debug *debug = arg;
    struct err err = {""};
    int64_t seconds = 0;
    if (!is_asked_by_own_name(request)) {
        answer_text(request->conn, 403, "only by a name of this machine, like 127.0.0.1\n");
    } else if (!path_is(request, "/debug/profile")) {
        answer_text(request->conn, 404, "there is GET /debug/profile?seconds=30\n");
    } else if (request->method != HTTP_METHOD_GET) {
        answer_text(request->conn, 405, "only GET\n");
    } else if (read_seconds(request->query, &seconds) != 0) {
        answer_text(request->conn, 400, "give ?seconds=1 to ?seconds=300, or nothing for 30\n");
    } else if (debug->waiting != NULL) {
        answer_text(request->conn, 409, "another profile is under way\n");
    } else if (cpu_profile_start(debug->profile, &err) != 0) {
        answer_text(request->conn, 500, err.text);
    } else {
        debug->waiting = request->conn;
        debug->end_ns = clock_monotonic_ns(clock_system()) + seconds * NS_PER_SEC;
        ev_timer_set(&debug->drain, DRAIN_SEC, DRAIN_SEC);
        ev_timer_start(debug->loop, &debug->drain);
    }
}

/* Nobody waits for it any more. */
static void on_gone(void *arg, struct http_conn *conn)
{
    struct debug *debug = arg;
    if (conn == debug->waiting) {
        end_profile(debug);
    }
}

static void on_check(struct ev_loop *loop, ev_check *watcher, int events)
{
    (void)loop;
    (void)events;
    struct debug *debug = watcher->data;
    http_turn_begin(debug->http, clock_monotonic_ns(clock_system()), clock_wall_ns(clock_system()));
}

static void on_prepare(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    (void)loop;
    (void)events;
    struct debug *debug = watcher->data;
    while (http_turn_end(debug->http)) {
    }
}

static void on_stop(struct ev_loop *loop, ev_async *watcher, int events)
{
    (void)watcher;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

static void *thread_main(void *arg)
{
    struct debug *debug = arg;
    ev_run(debug->loop, 0);
    return NULL;
}

static void debug_free(struct debug *debug)
{
    http_free(debug->http);
    cpu_profile_free(debug->profile);
    if (debug->loop != NULL) {
        ev_loop_destroy(debug->loop);
    }
    free(debug);
}

struct debug *debug_start(const char *listen_on, struct err *err)
{
    if (!config_listen_is_loopback(listen_on)) {
        err_set(err, -EINVAL,
                "debug_listen: '%.200s' is not a loopback address: give 127.0.0.1:PORT", listen_on);
        return NULL;
    }
    int fd = server_listen(listen_on, false, err);
    if (fd < 0) {
        err_prefix(err, fd, "debug_listen");
        return NULL;
    }
    struct debug *debug = calloc(1, sizeof *debug);
    assert(debug != NULL);
    server_address(listen_on, fd, debug->address, sizeof debug->address);
    debug->profile = cpu_profile_new();
    debug->loop = ev_loop_new(EVFLAG_AUTO);
    if (debug->loop == NULL) {
        close(fd);
        debug_free(debug);
        err_set(err, -EMFILE, "debug_listen: no event loop");
        return NULL;
    }
    struct http_limits limits = {
        .body_bytes_max = 1024,
        .header_bytes_max = 8192,
        .url_bytes_max = 1024,
        .connections_max = CONNECTIONS_MAX,
        .header_timeout_ns = 5 * NS_PER_SEC,
        .idle_timeout_ns = 30 * NS_PER_SEC,
    };
    debug->http = http_new(debug->loop, &limits, 0, on_request, on_gone, debug);
    http_listen(debug->http, fd);
    ev_prepare_init(&debug->prepare, on_prepare);
    debug->prepare.data = debug;
    ev_prepare_start(debug->loop, &debug->prepare);
    ev_check_init(&debug->check, on_check);
    ev_set_priority(&debug->check, EV_MAXPRI);
    debug->check.data = debug;
    ev_check_start(debug->loop, &debug->check);
    ev_async_init(&debug->stop, on_stop);
    ev_async_start(debug->loop, &debug->stop);
    ev_init(&debug->drain, on_drain);
    debug->drain.data = debug;
    /* Before the thread: a turn's time is asked for by what is read in the first. */
    http_turn_begin(debug->http, clock_monotonic_ns(clock_system()), clock_wall_ns(clock_system()));
    int code = pthread_create(&debug->thread, NULL, thread_main, debug);
    if (code != 0) {
        debug_free(debug);
        err_set(err, -code, "debug_listen: cannot start a thread: %s", strerror(code));
        return NULL;
    }
    return debug;
}

void debug_stop(struct debug *debug)
{
    if (debug == NULL) {
        return;
    }
    ev_async_send(debug->loop, &debug->stop);
    pthread_join(debug->thread, NULL);
    stacks_free(cpu_profile_stop(debug->profile, NULL));
    signal(SIGPROF, SIG_IGN); /* one that is under way falls away before its memory does */
    debug_free(debug);
}

const char *debug_address(const struct debug *debug)
{
    return debug->address;
}
