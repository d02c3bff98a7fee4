/* service-limit: what cycles of create, claim and complete over HTTP cost, and who pays: codeqd,
 * Redis and the client, in rounds, each also with a bare server that parses and echoes the same
 * requests. Private Redis and codeqd; CPU is the processes' own, from /proc; calls are Redis's
 * counts. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/http1.h"
#include "base/process.h"
#include "base/redis_server.h"
#include "service/limit_client.h"

#define ROUNDS_MAX 64
#define ECHO_BODY_MAX 65536
#define START_NS (10 * NS_PER_SEC)
#define IDLE_MAX 10000
#define SETTINGS_MAX 16

struct limit {
    struct redis_server redis;
    struct child codeqd;
    unsigned port;
    pid_t echo;
    unsigned echo_port;
};

/* Of one round. */
struct cost {
    double cycles_per_sec;
    double redis_us; /* a cycle */
    double codeqd_us; /* a request */
    double client_us; /* a request */
    double echo_us; /* a request to the bare server */
    double tasks_per_call;
    double calls; /* Redis executed, scripts' own included, a cycle */
    double claim_p50_us;
    double claim_p99_us;
    double codeqd_kib;
};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "service-limit: %s: %s\n", what, why);
    exit(2);
}

/* ---- figures ---- */

static double process_ns(pid_t pid)
{
    int64_t ns = process_cpu_ns(pid);
    if (ns < 0) {
        die("/proc", "the CPU of a process cannot be read");
    }
    return (double)ns;
}

static double own_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Calls that Redis has executed, and of them scripts. */
static double redis_calls(struct limit *l, double *out_scripts)
{
    char *text = NULL;
    struct err err;
    if (redis_server_info(l->redis.socket_path, "commandstats", &text, &err) != 0) {
        die("INFO", err.text);
    }
    double sum = 0;
    for (const char *at = text; (at = strstr(at, ":calls=")) != NULL;) {
        at += 7;
        sum += strtod(at, NULL);
    }
    const char *scripts = strstr(text, "cmdstat_evalsha:calls=");
    *out_scripts = scripts == NULL ? 0 : strtod(scripts + 22, NULL);
    free(text);
    return sum;
}

/* ---- the bare server ---- */

struct echo {
    int fd;
    http1_parser parser;
    char body[ECHO_BODY_MAX];
    size_t bytes;
    char out[ECHO_BODY_MAX + 128];
    size_t out_bytes;
};

static int echo_begin(http1_parser *parser)
{
    ((struct echo *)parser->data)->bytes = 0;
    return 0;
}

static int echo_body(http1_parser *parser, const char *at, size_t bytes)
{
    struct echo *c = parser->data;
    if (c->bytes + bytes > sizeof(c->body)) {
        return -1;
    }
    memcpy(c->body + c->bytes, at, bytes);
    c->bytes += bytes;
    return 0;
}

static int echo_end(http1_parser *parser)
{
    struct echo *c = parser->data;
    int n = snprintf(c->out, sizeof(c->out),
                     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
                     "%zu\r\n\r\n",
                     c->bytes);
    memcpy(c->out + n, c->body, c->bytes);
    c->out_bytes = (size_t)n + c->bytes;
    return 0;
}

static http1_settings echo_settings(void)
{
    http1_settings settings;
    memset(&settings, 0, sizeof(settings));
    settings.on_message_begin = echo_begin;
    settings.on_body = echo_body;
    settings.on_message_complete = echo_end;
    return settings;
}

static _Noreturn void echo_serve(int listener)
{
    http1_settings settings = echo_settings();
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    static char in[65536];
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < n; i++) {
            struct echo *c = events[i].data.ptr;
            if (c == NULL) {
                int one = 1;
                c = calloc(1, sizeof(*c));
                c->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
                http1_init(&c->parser, HTTP1_REQUEST, &settings, c);
                event.data.ptr = c;
                epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
                continue;
            }
            size_t taken = 0;
            ssize_t got = recv(c->fd, in, sizeof(in), 0);
            bool good =
                got > 0 && http1_feed(&c->parser, &settings, in, (size_t)got, &taken) == HTTP1_MORE;
            if (good && c->out_bytes > 0) {
                good = send(c->fd, c->out, c->out_bytes, MSG_NOSIGNAL) == (ssize_t)c->out_bytes;
                c->out_bytes = 0;
            }
            if (!good) {
                close(c->fd);
                free(c);
            }
        }
    }
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (cpu >= 0 && sched_setaffinity(0, sizeof(set), &set) != 0) {
        die("--cpu", strerror(errno));
    }
}

static void echo_start(struct limit *l, int cpu)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(listener, 512) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &size) != 0) {
        die("the bare server", strerror(errno));
    }
    l->echo_port = ntohs(at.sin_port);
    l->echo = fork();
    if (l->echo == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(cpu);
        echo_serve(listener);
    }
    close(listener);
}

/* ---- codeqd ---- */

static void codeqd_start(struct limit *l, const char *program, int cpu, const char *threads)
{
    char url[160];
    snprintf(url, sizeof(url), "unix:%s", l->redis.socket_path);
    const char *argv[] = {program, "--listen",  "127.0.0.1:0", "--redis",
                          url,     "--threads", threads,       NULL};
    int log = memfd_create("codeqd-log", MFD_CLOEXEC);
    struct child_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = log, .cpu = cpu};
    struct err err;
    if (child_start(&l->codeqd, &options, &err) != 0) {
        die("codeqd", err.text);
    }
    int64_t deadline = clock_monotonic_ns(clock_system()) + START_NS;
    while (l->port == 0) {
        static char text[8192];
        ssize_t n = pread(log, text, sizeof(text) - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        const char *at = strstr(text, "listening address=127.0.0.1:");
        int64_t now = clock_monotonic_ns(clock_system());
        if (at != NULL) {
            sscanf(at, "listening address=127.0.0.1:%u", &l->port);
        } else if (child_wait(&l->codeqd, now + 5 * NS_PER_MS) == 0 || now > deadline) {
            die("codeqd does not listen", text);
        }
    }
    close(log);
}

/* ---- rounds ---- */

static void run(struct limit *l, struct limit_client_options options, bool echo, struct cost *out)
{
    struct limit_client_result result;
    struct err err;
    double scripts = 0;
    double scripts_before = 0;
    double calls = -redis_calls(l, &scripts_before);
    double redis_ns = -process_ns(l->redis.child.pid);
    double codeqd_ns = -process_ns(l->codeqd.pid);
    double client_ns = -own_ns();
    options.port = l->port;
    if (limit_client_run(&options, &result, &err) != 0) {
        die("a round", err.text);
    }
    client_ns += own_ns();
    codeqd_ns += process_ns(l->codeqd.pid);
    redis_ns += process_ns(l->redis.child.pid);
    calls += redis_calls(l, &scripts);
    double cycles = (double)result.cycles;
    double requests = (double)result.requests;
    /* Each task is in three script calls. INFO is a call too. */
    *out = (struct cost){
        .cycles_per_sec = cycles / (double)result.wall_ns * 1e9,
        .redis_us = redis_ns / cycles / 1e3,
        .codeqd_us = codeqd_ns / requests / 1e3,
        .client_us = client_ns / requests / 1e3,
        .tasks_per_call = 3 * cycles / (scripts - scripts_before),
        .calls = (calls - 1) / cycles,
        .claim_p50_us = (double)hist_quantile_ns(&result.claim, 0.5) / 1e3,
        .claim_p99_us = (double)hist_quantile_ns(&result.claim, 0.99) / 1e3,
        .codeqd_kib = (double)process_rss_kb(l->codeqd.pid),
    };
    hist_fini(&result.claim);
    if (echo) {
        options.port = l->echo_port;
        options.batch = 1;
        options.create_only = true;
        options.rate_per_sec = 0;
        options.cycles = 100000;
        options.duration_ns = 0;
        double ns = -process_ns(l->echo);
        if (limit_client_run(&options, &result, &err) != 0) {
            die("a round of the bare server", err.text);
        }
        out->echo_us = (ns + process_ns(l->echo)) / (double)result.requests / 1e3;
        hist_fini(&result.claim);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void line(const char *name, const char *unit, const struct cost *costs, int rounds,
                 size_t offset)
{
    double values[ROUNDS_MAX];
    for (int i = 0; i < rounds; i++) {
        memcpy(&values[i], (const char *)&costs[i] + offset, sizeof(double));
    }
    qsort(values, (size_t)rounds, sizeof(values[0]), ascending);
    double median = (values[(rounds - 1) / 2] + values[rounds / 2]) / 2;
    printf("%-34s %10.2f %s  [%.2f..%.2f]\n", name, median, unit, values[0], values[rounds - 1]);
}

static void idle(struct limit *l, int connections)
{
    static int fds[IDLE_MAX];
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)l->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < connections; i++) {
        char answer[512];
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fds[i], (struct sockaddr *)&to, sizeof(to)) != 0 ||
            send(fds[i], request, sizeof(request) - 1, 0) != sizeof(request) - 1 ||
            recv(fds[i], answer, sizeof(answer), 0) <= 0) {
            die("idle connections", strerror(errno));
        }
    }
    printf("%-34s %10.2f MiB\n", "resident with idle connections",
           (double)process_rss_kb(l->codeqd.pid) / 1024);
    for (int i = 0; i < connections; i++) {
        close(fds[i]);
    }
}

/* How late tasks that are due in one ms become ready, seen from outside by looking at Redis. */
static void due_at_once(struct limit *l, int tasks)
{
    char at[CLOCK_RFC3339_BYTES];
    char members[64];
    int64_t due_ns = (clock_wall_ns(clock_system()) / NS_PER_SEC + 3) * NS_PER_SEC;
    clock_format_rfc3339(due_ns, at);
    snprintf(members, sizeof(members), ",\"runAt\":\"%s\"", at);
    struct limit_client_options options = {.port = l->port,
                                           .connections = 4,
                                           .batch = 100,
                                           .create_only = true,
                                           .members = members,
                                           .cycles = (uint64_t)tasks};
    struct limit_client_result result;
    struct err err;
    if (limit_client_run(&options, &result, &err) != 0) {
        die("tasks due at once", err.text);
    }
    hist_fini(&result.claim);
    double half_ms = NAN;
    for (long left = tasks; left > 0;) {
        struct timespec pause = {.tv_nsec = NS_PER_MS / 4};
        char *answer = NULL;
        int64_t now_ns = clock_wall_ns(clock_system());
        nanosleep(&pause, NULL);
        if (now_ns < due_ns - 5 * NS_PER_MS) {
            continue;
        }
        if (now_ns > due_ns + 30 * NS_PER_SEC ||
            redis_server_ask(l->redis.socket_path, "ZCARD {dev-tenant/0/0}:d", &answer, &err) !=
                0) {
            die("tasks due at once", "they do not become ready");
        }
        left = atol(answer);
        free(answer);
        if (left <= tasks / 2 && isnan(half_ms)) {
            half_ms = (double)(clock_wall_ns(clock_system()) - due_ns) / 1e6;
        }
    }
    printf("%-34s %10.2f ms  last %.2f ms\n", "due at once, median lateness", half_ms,
           (double)(clock_wall_ns(clock_system()) - due_ns) / 1e6);
}

static const char help[] =
    "service-limit measures what a cycle of create, claim and complete over HTTP costs.\n"
    "\n"
    "Usage: service-limit [options]\n"
    "\n"
    "  --codeqd FILE       the program (codeqd from PATH)\n"
    "  --threads N         of codeqd (1)\n"
    "  --connections N     (50)\n"
    "  --batch N           tasks a request (1); claims of more than 10 are several requests\n"
    "  --keyed             creates carry an idempotency key\n"
    "  --rate N            cycles a second, open loop; 0: closed loop (0)\n"
    "  --backlog N         tasks that are ready beforehand (1000)\n"
    "  --redis SETTING     CONFIG SET this first, as in 'appendonly yes'; may be repeated\n"
    "  --echo              also the bare server, in the same rounds\n"
    "  --idle N            also codeqd's memory with so many idle connections\n"
    "  --due N             also how late so many tasks due in one ms become ready, each round\n"
    "  --seconds N         of each round (2)\n"
    "  --cycles N          end each round after so many tasks instead\n"
    "  --rounds N          (5)\n"
    "  --cpu LIST          cores of client, codeqd and Redis, -1: free (-1,-1,-1)\n"
    "  --help\n"
    "\n"
    "Examples:\n"
    "  service-limit --codeqd build/src/codeqd --cpu 0,0,0 --echo\n"
    "  service-limit --codeqd build/src/codeqd --connections 1 --cpu 0,0,0\n"
    "  service-limit --codeqd build/src/codeqd --rate 10000 --idle 1000\n";

static int number(const char *option, const char *text, int min, int max)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < min || value > max) {
        fprintf(stderr, "service-limit: %s is '%s': give %d to %d\n", option, text, min, max);
        exit(2);
    }
    return (int)value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"codeqd", required_argument, NULL, 'p'},
        {"threads", required_argument, NULL, 't'},
        {"connections", required_argument, NULL, 'n'},
        {"batch", required_argument, NULL, 'b'},
        {"keyed", no_argument, NULL, 'k'},
        {"rate", required_argument, NULL, 'R'},
        {"backlog", required_argument, NULL, 'B'},
        {"echo", no_argument, NULL, 'e'},
        {"due", required_argument, NULL, 'd'},
        {"redis", required_argument, NULL, 'C'},
        {"idle", required_argument, NULL, 'i'},
        {"seconds", required_argument, NULL, 's'},
        {"cycles", required_argument, NULL, 'y'},
        {"rounds", required_argument, NULL, 'r'},
        {"cpu", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *program = "codeqd";
    const char *threads = "1";
    const char *settings[SETTINGS_MAX];
    int setting_count = 0;
    bool echo = false;
    int idle_connections = 0;
    int due = 0;
    int backlog = 1000;
    int rounds = 5;
    int seconds = 2;
    int cpus[3] = {-1, -1, -1};
    struct limit_client_options o = {.connections = 50, .batch = 1};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'p':
            program = optarg;
            break;
        case 't':
            number("--threads", optarg, 1, 64);
            threads = optarg;
            break;
        case 'n':
            o.connections = (unsigned)number("--connections", optarg, 1, LIMIT_CONNECTIONS_MAX);
            break;
        case 'b':
            o.batch = (unsigned)number("--batch", optarg, 1, LIMIT_BATCH_MAX);
            break;
        case 'k':
            o.keyed = true;
            break;
        case 'R':
            o.rate_per_sec = number("--rate", optarg, 0, 1000000);
            break;
        case 'B':
            backlog = number("--backlog", optarg, 0, 1000000);
            break;
        case 'C':
            if (setting_count == SETTINGS_MAX) {
                die("--redis", "too many");
            }
            settings[setting_count++] = optarg;
            break;
        case 'e':
            echo = true;
            break;
        case 'i':
            idle_connections = number("--idle", optarg, 1, IDLE_MAX);
            break;
        case 'd':
            due = number("--due", optarg, 1, 1000000);
            break;
        case 's':
            seconds = number("--seconds", optarg, 1, 3600);
            break;
        case 'y':
            o.cycles = (uint64_t)number("--cycles", optarg, 1, 100000000);
            break;
        case 'r':
            rounds = number("--rounds", optarg, 1, ROUNDS_MAX);
            break;
        case 'c':
            if (sscanf(optarg, "%d,%d,%d", &cpus[0], &cpus[1], &cpus[2]) != 3) {
                die("--cpu", "give three cores, as in 0,0,0 or 0,1,1");
            }
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            return 2;
        }
    }
    static struct limit l;
    struct err err;
    /* As codeqd starts its own, but for persistence. */
    static const char *const as_codeqd[] = {"--zset-max-listpack-entries", "0", NULL};
    struct redis_server_options redis_options = {.cpu = cpus[2], .config = as_codeqd};
    if (redis_server_start(&l.redis, &redis_options, &err) != 0) {
        die("redis-server", err.text);
    }
    for (int i = 0; i < setting_count; i++) {
        char command[512];
        char *answer = NULL;
        snprintf(command, sizeof(command), "CONFIG SET %s", settings[i]);
        if (redis_server_ask(l.redis.socket_path, command, &answer, &err) != 0) {
            die(command, err.text);
        }
        free(answer);
    }
    codeqd_start(&l, program, cpus[1], threads);
    if (echo) {
        echo_start(&l, cpus[1]);
    }
    pin(cpus[0]);
    struct limit_client_options fill = {.port = l.port,
                                        .connections = 8,
                                        .batch = 100,
                                        .create_only = true,
                                        .cycles = (uint64_t)backlog};
    struct limit_client_result filled;
    if (backlog > 0) {
        if (limit_client_run(&fill, &filled, &err) != 0) {
            die("the backlog", err.text);
        }
        hist_fini(&filled.claim);
    }
    static struct cost costs[ROUNDS_MAX + 1];
    o.duration_ns = o.cycles > 0 ? 0 : seconds * NS_PER_SEC;
    struct limit_client_options warm = o;
    warm.cycles = 0;
    warm.duration_ns = NS_PER_SEC / 2;
    run(&l, warm, false, &costs[ROUNDS_MAX]);
    for (int i = 0; i < rounds; i++) {
        run(&l, o, echo, &costs[i]);
    }
#define LINE(name, unit, field) line(name, unit, costs, rounds, offsetof(struct cost, field))
    LINE("cycles a second", "  ", cycles_per_sec);
    LINE("Redis a cycle", "us", redis_us);
    LINE("codeqd a request", "us", codeqd_us);
    LINE("client a request", "us", client_us);
    if (echo) {
        LINE("bare server a request", "us", echo_us);
        for (int i = 0; i < rounds; i++) {
            costs[i].echo_us = costs[i].codeqd_us / costs[i].echo_us;
        }
        LINE("codeqd / bare server", "  ", echo_us);
    }
    LINE("tasks a script call", "  ", tasks_per_call);
    LINE("Redis calls a cycle", "  ", calls);
    LINE("claim p50", "us", claim_p50_us);
    LINE("claim p99", "us", claim_p99_us);
    printf("%-34s %10.0f to %.0f KiB\n", "codeqd resident, first to last round",
           costs[0].codeqd_kib, costs[rounds - 1].codeqd_kib);
    for (int i = 0; due > 0 && i < rounds; i++) {
        due_at_once(&l, due);
    }
    if (idle_connections > 0) {
        idle(&l, idle_connections);
    }
    if (echo) {
        kill(l.echo, SIGKILL);
    }
    child_stop(&l.codeqd, 15 * NS_PER_SEC);
    redis_server_stop(&l.redis);
    return 0;
}
