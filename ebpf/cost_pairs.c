#include "cost_pairs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/process.h"
#include "loader.h"

#define READY_NS (20 * NS_PER_SEC)
#define COMMAND "*3\r\n$3\r\nSET\r\n$8\r\nkey:cost\r\n$16\r\n0123456789abcdef\r\n"
#define REPLY "+OK\r\n"

/* ---- the load ---- */

static int connect_to(const char *path, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int code = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return err_set(err, code, "%s: %s", path, strerror(-code));
    }
    return fd;
}

/* The answers to one batch. 0, or negative errno with text. */
static int take_replies(const struct cost_bench *bench, int fd, size_t want_bytes, struct err *err)
{
    char replies[4096];
    for (size_t got = 0; got < want_bytes;) {
        ssize_t n = recv(fd, replies, sizeof replies, 0);
        if (n <= 0 && !(n < 0 && errno == EINTR && !*bench->stop)) {
            return err_set(err, *bench->stop ? -EINTR : -EPIPE, "Redis: no answer");
        }
        if (n > 0 && replies[0] == '-') {
            return err_set(err, -EPROTO, "Redis: %.*s", (int)n, replies);
        }
        got += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* On every connection one batch of `pipeline` commands in flight, for so long: Redis has always
 * more to do, so that what is measured are commands and not its falling asleep. The number of
 * commands, or negative errno with text. */
static int64_t load(const struct cost_bench *bench, int64_t pipeline, int64_t duration_ns,
                    struct err *err)
{
    struct buf batch = BUF_INIT;
    for (int64_t i = 0; i < pipeline; i++) {
        buf_puts(&batch, COMMAND);
    }
    size_t want_bytes = (size_t)pipeline * (sizeof REPLY - 1);
    bool asked[COST_CLIENTS_MAX] = {false};
    int64_t commands = 0;
    int64_t end_ns = clock_monotonic_ns(clock_system()) + duration_ns;
    int code = 0;
    bool more = true;
    do {
        more = !*bench->stop && clock_monotonic_ns(clock_system()) < end_ns;
        for (size_t i = 0; i < bench->clients && code == 0; i++) {
            if (asked[i]) {
                code = take_replies(bench, bench->fds[i], want_bytes, err);
                commands += pipeline;
            }
            asked[i] = more && code == 0;
            if (asked[i] && send(bench->fds[i], batch.data, batch.bytes, MSG_NOSIGNAL) !=
                                (ssize_t)batch.bytes) {
                code = err_set(err, -EPIPE, "Redis: it took no commands");
            }
        }
    } while (code == 0 && more);
    buf_fini(&batch);
    return code < 0 ? code : commands;
}

/* ---- one arm of a pair ---- */

struct tracing {
    struct child tracer; /* in a process group of its own */
    struct loader *floor;
};

static void tracing_end(struct tracing *tracing)
{
    if (tracing->tracer.pid > 0) {
        kill(-tracing->tracer.pid, SIGINT);
        child_wait(&tracing->tracer, clock_monotonic_ns(clock_system()) + READY_NS);
        child_stop(&tracing->tracer, NS_PER_SEC);
    }
    loader_free(tracing->floor);
}

static int start_view(struct cost_bench *bench, pid_t traced, struct child *child,
                      const struct cost_arm *arm, struct err *err)
{
    char pid[16], path[REDIS_SERVER_PATH_MAX + 32], text[1024] = "";
    snprintf(pid, sizeof pid, "%d", (int)traced);
    snprintf(path, sizeof path, "%s/%s.log", bench->redis.dir, arm->view);
    int log = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    if (log < 0) {
        return err_set(err, -errno, "%s: %s", path, strerror(errno));
    }
    const char *argv[] = {"/proc/self/exe", arm->view, "--pid",     pid, "--role",
                          "server",         "--json",  arm->option, NULL};
    struct child_options options = {.argv = argv,
                                    .stdin_fd = -1,
                                    .stdout_fd = -1,
                                    .stderr_fd = log,
                                    .cpu = -1,
                                    .own_group = true};
    int code = child_start(child, &options, err);
    int64_t deadline_ns = clock_monotonic_ns(clock_system()) + READY_NS;
    while (code == 0 && strstr(text, ": tracing ") == NULL) {
        int64_t now_ns = clock_monotonic_ns(clock_system());
        bool ended = child_wait(child, now_ns + 5 * NS_PER_MS) == 0;
        ssize_t n = pread(log, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        if (*bench->stop) {
            code = -EINTR;
        } else if (ended || now_ns > deadline_ns) {
            text[strcspn(text, "\n")] = '\0';
            code = err_set(err, -EIO, "%s does not start: %s", arm->name, text);
        }
    }
    close(log);
    return code;
}

/* How far it is, only it knows: it is given some time. */
static int start_command(struct cost_bench *bench, pid_t traced, struct child *child,
                         const struct cost_arm *arm, int64_t settle_ns, struct err *err)
{
    struct buf text = BUF_INIT;
    buf_puts(&text, "exec ");
    for (const char *p = arm->command; *p != '\0';) {
        if (strncmp(p, "{pid}", 5) == 0) {
            buf_printf(&text, "%d", (int)traced);
            p += 5;
        } else {
            buf_append(&text, p++, 1);
        }
    }
    const char *argv[] = {"sh", "-c", text.data, NULL};
    struct child_options options = {.argv = argv,
                                    .stdin_fd = -1,
                                    .stdout_fd = -1,
                                    .stderr_fd = -1,
                                    .cpu = -1,
                                    .own_group = true};
    int code = child_start(child, &options, err);
    buf_fini(&text);
    int64_t until_ns = clock_monotonic_ns(clock_system()) + settle_ns;
    while (code == 0 && clock_monotonic_ns(clock_system()) < until_ns) {
        if (*bench->stop) {
            code = -EINTR;
        } else if (child_wait(child, until_ns) == 0) {
            code = err_set(err, -EIO, "%s: '%s' ended at once, with exit code %d", arm->name,
                           arm->command, child_exit_code(child));
        }
    }
    return code;
}

static int tracing_begin(struct cost_bench *bench, const struct cost_plan *plan,
                         const struct cost_arm *arm, struct tracing *tracing, struct err *err)
{
    pid_t traced = plan->beside ? bench->idle.pid : bench->redis.child.pid;
    if (arm->command != NULL) {
        return start_command(bench, traced, &tracing->tracer, arm, plan->settle_ns, err);
    }
    if (arm->view != NULL) {
        return start_view(bench, traced, &tracing->tracer, arm, err);
    }
    int code = loader_open(&tracing->floor, LOADER_FLOOR, err);
    code = code == 0 ? loader_load(tracing->floor, err) : code;
    return code == 0 ? loader_attach(tracing->floor, err) : code;
}

struct usage {
    int64_t redis_ns;
    int64_t client_ns;
    int64_t tracer_ns;
    int64_t at_ns;
};

/* Redis, the client and the tracers do all in their main threads. */
static struct usage usage_now(const struct cost_bench *bench, const struct tracing *tracing)
{
    return (struct usage){
        .redis_ns = process_main_cpu_ns(bench->redis.child.pid),
        .client_ns = process_main_cpu_ns(getpid()),
        .tracer_ns = tracing->tracer.pid > 0 ? process_main_cpu_ns(tracing->tracer.pid) : 0,
        .at_ns = clock_monotonic_ns(clock_system()),
    };
}

struct sample {
    double redis_ns; /* of CPU, a command */
    double client_ns;
    double tracer_ratio; /* of a core */
    double per_sec;
};

/* arm NULL: nothing traces. */
static int measure(struct cost_bench *bench, const struct cost_plan *plan,
                   const struct cost_arm *arm, int64_t pipeline, struct sample *out,
                   struct err *err)
{
    struct tracing tracing = {0};
    int64_t commands = 0;
    int code = arm != NULL ? tracing_begin(bench, plan, arm, &tracing, err) : 0;
    if (code == 0) {
        commands = load(bench, pipeline, plan->arm_ns / 10, err); /* caches */
        code = commands < 0 ? (int)commands : 0;
    }
    if (code == 0) {
        struct usage before = usage_now(bench, &tracing);
        commands = load(bench, pipeline, plan->arm_ns, err);
        struct usage after = usage_now(bench, &tracing);
        double took_ns = (double)(after.at_ns - before.at_ns);
        double n = (double)(commands > 0 ? commands : 1);
        *out = (struct sample){
            .redis_ns = (double)(after.redis_ns - before.redis_ns) / n,
            .client_ns = (double)(after.client_ns - before.client_ns) / n,
            .tracer_ratio = (double)(after.tracer_ns - before.tracer_ns) / took_ns,
            .per_sec = n * 1e9 / took_ns,
        };
        code = commands < 0 ? (int)commands : *bench->stop ? -EINTR : 0;
        if (code == 0 && !(out->redis_ns > 0 && out->client_ns > 0)) {
            code = err_set(err, -ENOTSUP,
                           "/proc/PID/schedstat tells no CPU time: the kernel needs "
                           "CONFIG_SCHED_INFO");
        }
    }
    tracing_end(&tracing);
    return code;
}

int cost_measure(struct cost_bench *bench, const struct cost_plan *plan, struct rng *rng,
                 struct cost_result *out, struct err *err)
{
    for (int64_t i = 0; i < plan->pairs; i++) {
        struct sample sample[2]; /* not traced, traced */
        int first = (int)rng_below(rng, 2);
        for (int k = 0; k < 2; k++) {
            int traced = first ^ k;
            int code =
                measure(bench, plan, traced ? out->arm : NULL, out->pipeline, &sample[traced], err);
            if (code != 0) {
                return code;
            }
        }
        out->redis[i] = sample[1].redis_ns / sample[0].redis_ns;
        out->client[i] = sample[1].client_ns / sample[0].client_ns;
        out->tracer[i] = sample[1].tracer_ratio;
        out->redis_ns[i] = sample[0].redis_ns;
        out->per_sec[i] = sample[1].per_sec;
        out->pairs = (size_t)i + 1;
        if (isatty(STDERR_FILENO)) {
            fprintf(stderr, "\r%s, pipeline %lld: pair %zu of %lld ", out->arm->name,
                    (long long)out->pipeline, out->pairs, (long long)plan->pairs);
        }
    }
    return 0;
}

/* ---- the bench ---- */

/* Two cores of those that may be used: the last for Redis, the one before for the client. */
static int choose_cores(int *out_redis, struct err *err)
{
    cpu_set_t set;
    int cores[2] = {-1, -1};
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return err_set(err, -errno, "sched_getaffinity: %s", strerror(errno));
    }
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &set)) {
            cores[0] = cores[1];
            cores[1] = i;
        }
    }
    if (cores[0] < 0) {
        return err_set(err, -ENOTSUP,
                       "only one core may be used: Redis and the client need one "
                       "each");
    }
    *out_redis = cores[1];
    CPU_ZERO(&set);
    CPU_SET(cores[0], &set);
    sched_setaffinity(0, sizeof set, &set);
    return 0;
}

int cost_bench_open(struct cost_bench *bench, size_t clients, const volatile sig_atomic_t *stop,
                    struct err *err)
{
    *bench = (struct cost_bench){.stop = stop};
    int redis_core = -1;
    sched_getaffinity(0, sizeof bench->cores, &bench->cores);
    int code = choose_cores(&redis_core, err);
    if (code != 0) {
        return code;
    }
    struct redis_server_options redis = {.cpu = redis_core};
    code = redis_server_start(&bench->redis, &redis, err);
    if (code == 0) {
        const char *argv[] = {"sleep", "infinity", NULL};
        struct child_options idle = {
            .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cpu = -1};
        code = child_start(&bench->idle, &idle, err);
    }
    while (code == 0 && bench->clients < clients) {
        int fd = connect_to(bench->redis.socket_path, err);
        if (fd < 0) {
            code = fd;
        } else {
            bench->fds[bench->clients++] = fd;
        }
    }
    if (code != 0) {
        cost_bench_close(bench);
    }
    return code;
}

void cost_bench_close(struct cost_bench *bench)
{
    while (bench->clients > 0) {
        close(bench->fds[--bench->clients]);
    }
    if (bench->idle.pid > 0) {
        child_stop(&bench->idle, NS_PER_SEC);
    }
    redis_server_stop(&bench->redis);
    sched_setaffinity(0, sizeof bench->cores, &bench->cores);
}
