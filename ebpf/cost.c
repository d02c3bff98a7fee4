/* What tracing costs: Redis' CPU a command with and without it, in pairs of alternating order, on a
 * private redis-server that one core has for itself and a client that has another. The client is
 * not traced: its own CPU a command is what tracing costs processes that nobody looks at, and as it
 * does little but system calls, it is the worst of them. Ratios of pairs, never of two series. */
#include "cost.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/args.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/redis_server.h"
#include "base/rng.h"
#include "loader.h"

#define PAIRS_MAX 100
#define PIPELINES_MAX 8
#define VIEWS_MAX 8
#define TRACERS_MAX 2 /* at once */
#define CLIENTS_MAX 512
#define READY_NS (20 * NS_PER_SEC)
#define COMMAND "*3\r\n$3\r\nSET\r\n$8\r\nkey:cost\r\n$16\r\n0123456789abcdef\r\n"
#define REPLY "+OK\r\n"

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* What runs in the traced arm of a pair: views of this program, somebody else's command, or (all
 * NULL) the floor. */
struct arm {
    const char *name;
    const char *views[TRACERS_MAX]; /* NULL: none */
    const char *command; /* for sh; "{pid}" is Redis */
    const char *option; /* of the views; NULL: none */
};

static const struct arm arms[] = {
    {"tracepoints", {NULL, NULL}, NULL, NULL},
    {"syscalls", {"syscalls", NULL}, NULL, NULL},
    {"commands", {"commands", NULL}, NULL, NULL},
    {"leases", {"leases", NULL}, NULL, NULL},
    {"syscalls+leases", {"leases", NULL}, NULL, "--syscalls"},
};
#define ARMS_LEN (sizeof arms / sizeof arms[0])

struct options {
    int64_t pairs;
    int64_t arm_ns;
    int64_t pipelines[PIPELINES_MAX];
    size_t pipelines_len;
    int64_t clients;
    const struct arm *chosen[VIEWS_MAX];
    size_t chosen_len;
    struct arm with[VIEWS_MAX];
    size_t with_len;
    int64_t settle_ns;
    bool json;
};

struct sample {
    double redis_ns; /* of CPU, a command */
    double client_ns;
    double tracer_ratio; /* of a core */
    double per_sec;
};

/* Ratios traced : not traced, one a pair, and the arms' own figures. */
struct result {
    const struct arm *arm;
    int64_t pipeline;
    size_t pairs;
    double redis[PAIRS_MAX];
    double client[PAIRS_MAX];
    double tracer[PAIRS_MAX];
    double redis_ns[PAIRS_MAX]; /* not traced */
    double per_sec[PAIRS_MAX]; /* traced */
};

/* CPU of a process's main thread so far, in ns; -1 where it cannot be read. Redis, the client and
 * the tracer do all in it. Source: /proc/PID/schedstat, first field. */
static int64_t cpu_ns(pid_t pid)
{
    char path[64];
    long long ns = -1;
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%lld", &ns) != 1) {
            ns = -1;
        }
        fclose(file);
    }
    return ns;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const double *values, size_t n)
{
    double sorted[PAIRS_MAX];
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_double);
    return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* The interval of the median by order statistics: the k-th smallest and largest, k the largest that
 * still covers 95 %; all values where there are too few. */
static void interval_of(const double *values, size_t n, double *out_low, double *out_high)
{
    double sorted[PAIRS_MAX];
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_double);
    double term = 1;
    double below = 0;
    size_t k = 0;
    double whole = 1;
    for (size_t i = 0; i < n; i++) {
        whole *= 2;
    }
    for (size_t i = 0; i <= n / 2; i++) { /* P(X <= i) of a fair coin thrown n times */
        below += term / whole;
        if (2 * below > 0.05) {
            break;
        }
        k = i + 1;
        term = term * (double)(n - i) / (double)(i + 1);
    }
    size_t at = k > 0 ? k - 1 : 0;
    *out_low = sorted[at];
    *out_high = sorted[n - 1 - at];
}

/* ---- the load ---- */

struct bench {
    struct redis_server redis;
    int fds[CLIENTS_MAX]; /* the connections */
    size_t clients;
    char dir[64];
};

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
static int take_replies(int fd, size_t want_bytes, struct err *err)
{
    char replies[4096];
    for (size_t got = 0; got < want_bytes;) {
        ssize_t n = recv(fd, replies, sizeof replies, 0);
        if (n <= 0 && !(n < 0 && errno == EINTR && !stop)) {
            return err_set(err, stop ? -EINTR : -EPIPE, "Redis: no answer");
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
static int64_t load(const struct bench *bench, int64_t pipeline, int64_t duration_ns,
                    struct err *err)
{
    struct buf batch = BUF_INIT;
    for (int64_t i = 0; i < pipeline; i++) {
        buf_puts(&batch, COMMAND);
    }
    size_t want_bytes = (size_t)pipeline * (sizeof REPLY - 1);
    bool asked[CLIENTS_MAX] = {false};
    int64_t commands = 0;
    int64_t end_ns = clock_monotonic_ns(clock_system()) + duration_ns;
    int code = 0;
    bool more = true;
    do {
        more = !stop && clock_monotonic_ns(clock_system()) < end_ns;
        for (size_t i = 0; i < bench->clients && code == 0; i++) {
            if (asked[i]) {
                code = take_replies(bench->fds[i], want_bytes, err);
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
    struct child tracers[TRACERS_MAX]; /* each in a process group of its own */
    struct loader *floor;
};

static void tracing_end(struct tracing *tracing)
{
    for (int i = 0; i < TRACERS_MAX; i++) {
        if (tracing->tracers[i].pid > 0) {
            kill(-tracing->tracers[i].pid, SIGINT);
        }
    }
    for (int i = 0; i < TRACERS_MAX; i++) {
        child_wait(&tracing->tracers[i], clock_monotonic_ns(clock_system()) + READY_NS);
        child_stop(&tracing->tracers[i], NS_PER_SEC);
    }
    loader_free(tracing->floor);
}

static int start_tracer(struct bench *bench, struct child *child, const char *view,
                        const char *option, struct err *err)
{
    char pid[16], path[96], text[1024] = "";
    snprintf(pid, sizeof pid, "%d", (int)bench->redis.child.pid);
    snprintf(path, sizeof path, "%s/%s.log", bench->dir, view);
    int log = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    if (log < 0) {
        return err_set(err, -errno, "%s: %s", path, strerror(errno));
    }
    const char *argv[] = {"/proc/self/exe", view, "--pid", pid, "--json", option, NULL};
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
        if (stop) {
            code = -EINTR;
        } else if (ended || now_ns > deadline_ns) {
            text[strcspn(text, "\n")] = '\0';
            code = err_set(err, -EIO, "%s does not start: %s", view, text);
        }
    }
    close(log);
    return code;
}

/* How far it is, only it knows: it is given some time. */
static int start_command(struct bench *bench, struct child *child, const struct arm *arm,
                         int64_t settle_ns, struct err *err)
{
    struct buf text = BUF_INIT;
    buf_puts(&text, "exec ");
    for (const char *p = arm->command; *p != '\0';) {
        if (strncmp(p, "{pid}", 5) == 0) {
            buf_printf(&text, "%d", (int)bench->redis.child.pid);
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
        if (stop) {
            code = -EINTR;
        } else if (child_wait(child, until_ns) == 0) {
            code = err_set(err, -EIO, "%s: '%s' ended at once, with exit code %d", arm->name,
                           arm->command, child_exit_code(child));
        }
    }
    return code;
}

static int tracing_begin(struct bench *bench, const struct arm *arm, int64_t settle_ns,
                         struct tracing *tracing, struct err *err)
{
    *tracing = (struct tracing){0};
    int code = 0;
    if (arm->command != NULL) {
        return start_command(bench, &tracing->tracers[0], arm, settle_ns, err);
    }
    if (arm->views[0] == NULL) {
        code = loader_open(&tracing->floor, LOADER_FLOOR, err);
        code = code == 0 ? loader_load(tracing->floor, err) : code;
        return code == 0 ? loader_attach(tracing->floor, err) : code;
    }
    for (int i = 0; i < TRACERS_MAX && arm->views[i] != NULL && code == 0; i++) {
        code = start_tracer(bench, &tracing->tracers[i], arm->views[i], arm->option, err);
    }
    return code;
}

static int64_t tracers_cpu_ns(const struct tracing *tracing)
{
    int64_t sum = 0;
    for (int i = 0; i < TRACERS_MAX; i++) {
        int64_t ns = tracing->tracers[i].pid > 0 ? cpu_ns(tracing->tracers[i].pid) : 0;
        sum += ns > 0 ? ns : 0;
    }
    return sum;
}

/* arm NULL: nothing traces. */
static int measure(struct bench *bench, const struct options *o, const struct arm *arm,
                   int64_t pipeline, struct sample *out, struct err *err)
{
    struct tracing tracing = {0};
    int64_t duration_ns = o->arm_ns;
    int code = arm != NULL ? tracing_begin(bench, arm, o->settle_ns, &tracing, err) : 0;
    int64_t commands = 0;
    if (code == 0) {
        commands = load(bench, pipeline, duration_ns / 10, err); /* caches */
        code = commands < 0 ? (int)commands : 0;
    }
    if (code == 0) {
        int64_t redis_ns = cpu_ns(bench->redis.child.pid);
        int64_t client_ns = cpu_ns(getpid());
        int64_t tracer_ns = tracers_cpu_ns(&tracing);
        int64_t start_ns = clock_monotonic_ns(clock_system());
        commands = load(bench, pipeline, duration_ns, err);
        double took_ns = (double)(clock_monotonic_ns(clock_system()) - start_ns);
        double n = (double)(commands > 0 ? commands : 1);
        *out = (struct sample){
            .redis_ns = (double)(cpu_ns(bench->redis.child.pid) - redis_ns) / n,
            .client_ns = (double)(cpu_ns(getpid()) - client_ns) / n,
            .tracer_ratio = (double)(tracers_cpu_ns(&tracing) - tracer_ns) / took_ns,
            .per_sec = n * 1e9 / took_ns,
        };
        code = commands < 0 ? (int)commands : stop ? -EINTR : 0;
        if (code == 0 && !(out->redis_ns > 0 && out->client_ns > 0)) {
            code = err_set(err, -ENOTSUP,
                           "/proc/PID/schedstat tells no CPU time: the kernel "
                           "needs CONFIG_SCHED_INFO");
        }
    }
    tracing_end(&tracing);
    return code;
}

static int measure_pairs(struct bench *bench, const struct options *o, struct rng *rng,
                         struct result *out, struct err *err)
{
    for (int64_t i = 0; i < o->pairs; i++) {
        struct sample sample[2]; /* not traced, traced */
        int first = (int)rng_below(rng, 2);
        for (int k = 0; k < 2; k++) {
            int traced = first ^ k;
            int code =
                measure(bench, o, traced ? out->arm : NULL, out->pipeline, &sample[traced], err);
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
                    (long long)out->pipeline, out->pairs, (long long)o->pairs);
        }
    }
    return 0;
}

/* ---- what is told ---- */

static void print_row(const struct result *r)
{
    double low, high, client_low, client_high;
    interval_of(r->redis, r->pairs, &low, &high);
    interval_of(r->client, r->pairs, &client_low, &client_high);
    printf("%-16s %8lld %10.0f   %.3f  [%.3f, %.3f]   %.3f  [%.3f, %.3f]   %6.2f %%  %9.0f\n",
           r->arm->name, (long long)r->pipeline, median_of(r->redis_ns, r->pairs),
           median_of(r->redis, r->pairs), low, high, median_of(r->client, r->pairs), client_low,
           client_high, 100 * median_of(r->tracer, r->pairs), median_of(r->per_sec, r->pairs));
    fflush(stdout);
}

static void add_ratio(struct json *row, const char *name, const double *values, size_t n)
{
    double low, high;
    struct json *ratio = json_add_object(row, name);
    interval_of(values, n, &low, &high);
    json_add_number(ratio, "median", median_of(values, n));
    json_add_number(ratio, "low", low);
    json_add_number(ratio, "high", high);
}

static void add_row(struct json *rows, const struct result *r)
{
    struct json *row = json_new_object();
    json_add_string(row, "traced_by", r->arm->name);
    json_add_int(row, "pipeline", r->pipeline);
    json_add_int(row, "pairs", (int64_t)r->pairs);
    json_add_number(row, "redis_cpu_ns_per_command", median_of(r->redis_ns, r->pairs));
    add_ratio(row, "redis_cpu_ratio", r->redis, r->pairs);
    add_ratio(row, "bystander_cpu_ratio", r->client, r->pairs);
    json_add_number(row, "tracer_cpu_ratio", median_of(r->tracer, r->pairs));
    json_add_number(row, "commands_per_sec", median_of(r->per_sec, r->pairs));
    json_append(rows, row);
}

static const char help[] =
    "codeq-trace cost: what tracing costs on this host, in CPU of the Redis that is traced\n"
    "\n"
    "usage: codeq-trace cost [OPTIONS]\n"
    "\n"
    "Starts a redis-server of its own on one core and loads it from another, with and without a\n"
    "tracer, in pairs of random order. Told: Redis' CPU a command, traced to not traced, as the\n"
    "median of the pairs with its 95 % interval; the same of the client, which is not traced; the\n"
    "tracer's own CPU. \"tracepoints\" is two empty programs: the kernel's own part of each cost.\n"
    "\n"
    "  --view NAME           tracepoints, syscalls, commands, leases or syscalls+leases; may be\n"
    "                        given again (default: all)\n"
    "  --with NAME=COMMAND   another tracer in the same rounds, run by sh, {pid} being Redis; may "
    "be\n"
    "                        given again; then no view is measured but those of --view\n"
    "  --settle TIME         what such a command is given to attach (default: 2s)\n"
    "  --pipeline N[,N...]   commands sent at once (default: 1,16)\n"
    "  --clients N           connections, each waits for one batch of commands (default: 50)\n"
    "  --pairs N             3..100 (default: 11)\n"
    "  --time TIME           of each half of a pair (default: 400ms)\n"
    "  --json                one JSON object, schema codeq-trace.cost/1\n"
    "  --help                this text\n"
    "\n"
    "examples:\n"
    "  codeq-trace cost\n"
    "  codeq-trace cost --view commands --pipeline 1 --pairs 31\n"
    "  codeq-trace cost --json --pairs 5 > cost.json\n"
    "  codeq-trace cost --view syscalls --with strace='strace -c -f -p {pid}'\n"
    "\n"
    "Rights: as the views, CAP_BPF and CAP_PERFMON, or root. Needs redis-server and two cores.\n"
    "Exit: 0 done; 2 usage, rights or kernel; 130 interrupted.\n";

static int parse_pipelines(const char *text, struct options *o, struct err *err)
{
    char copy[128];
    snprintf(copy, sizeof copy, "%s", text);
    o->pipelines_len = 0;
    int code = 0;
    for (char *p = strtok(copy, ","); p != NULL && code == 0; p = strtok(NULL, ",")) {
        if (o->pipelines_len == PIPELINES_MAX) {
            return err_set(err, -EINVAL, "more than %d", PIPELINES_MAX);
        }
        code = args_int(p, 1, 512, &o->pipelines[o->pipelines_len++], err);
    }
    return code == 0 && o->pipelines_len == 0 ? err_set(err, -EINVAL, "names no number") : code;
}

static int add_view(const char *name, struct options *o, struct err *err)
{
    for (size_t i = 0; i < ARMS_LEN; i++) {
        if (strcmp(arms[i].name, name) == 0 && o->chosen_len < VIEWS_MAX) {
            o->chosen[o->chosen_len++] = &arms[i];
            return 0;
        }
    }
    return err_set(err, -EINVAL,
                   "'%s': give tracepoints, syscalls, commands, leases or syscalls+leases", name);
}

static int add_with(char *text, struct options *o, struct err *err)
{
    char *equals = strchr(text, '=');
    if (equals == NULL || equals == text || equals[1] == '\0') {
        return err_set(err, -EINVAL, "'%s': give NAME=COMMAND", text);
    }
    if (o->chosen_len == VIEWS_MAX) {
        return err_set(err, -EINVAL, "more than %d to measure", VIEWS_MAX);
    }
    *equals = '\0';
    struct arm *arm = &o->with[o->with_len++];
    *arm = (struct arm){.name = text, .command = equals + 1};
    o->chosen[o->chosen_len++] = arm;
    return 0;
}

/* 0, 1 (help was printed), or negative errno with text. */
static int parse(int argc, char **argv, struct options *o, struct err *err)
{
    static const struct option options[] = {
        {"view", required_argument, NULL, 'v'},    {"with", required_argument, NULL, 'w'},
        {"settle", required_argument, NULL, 's'},  {"pipeline", required_argument, NULL, 'p'},
        {"clients", required_argument, NULL, 'c'}, {"pairs", required_argument, NULL, 'n'},
        {"time", required_argument, NULL, 't'},    {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},          {0}};
    int c;
    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        int code = 0;
        switch (c) {
        case 'v':
            code = add_view(optarg, o, err);
            code = code != 0 ? err_prefix(err, code, "--view") : 0;
            break;
        case 'w':
            code = add_with(optarg, o, err);
            code = code != 0 ? err_prefix(err, code, "--with") : 0;
            break;
        case 's':
            code = args_duration_ns(optarg, &o->settle_ns, err);
            code = code != 0 ? err_prefix(err, code, "--settle") : 0;
            break;
        case 'p':
            code = parse_pipelines(optarg, o, err);
            code = code != 0 ? err_prefix(err, code, "--pipeline: '%s'", optarg) : 0;
            break;
        case 'n':
            code = args_int(optarg, 3, PAIRS_MAX, &o->pairs, err);
            code = code != 0 ? err_prefix(err, code, "--pairs") : 0;
            break;
        case 'c':
            code = args_int(optarg, 1, CLIENTS_MAX, &o->clients, err);
            code = code != 0 ? err_prefix(err, code, "--clients") : 0;
            break;
        case 't':
            code = args_duration_ns(optarg, &o->arm_ns, err);
            code = code != 0 ? err_prefix(err, code, "--time")
                   : o->arm_ns < 10 * NS_PER_MS || o->arm_ns > 60 * NS_PER_SEC
                       ? err_set(err, -EINVAL, "--time: '%s': give 10ms to 60s", optarg)
                       : 0;
            break;
        case 'j':
            o->json = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 1;
        default:
            return err_set(err, -EINVAL, "%s: unknown, or without its value: see --help",
                           argv[optind - 1]);
        }
        if (code != 0) {
            return code;
        }
    }
    if (optind < argc) {
        return err_set(err, -EINVAL, "'%s': not an option: see --help", argv[optind]);
    }
    for (size_t i = 0; o->chosen_len == 0 && i < ARMS_LEN; i++) {
        o->chosen[i] = &arms[i];
    }
    o->chosen_len = o->chosen_len == 0 ? ARMS_LEN : o->chosen_len;
    return 0;
}

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

static int run(const struct options *o, struct err *err)
{
    static struct bench bench;
    int redis_core = -1;
    cpu_set_t whole;
    sched_getaffinity(0, sizeof whole, &whole);
    int code = loader_check(0, err);
    code = code == 0 ? choose_cores(&redis_core, err) : code;
    if (code != 0) {
        return code;
    }
    struct redis_server_options redis = {.cpu = redis_core};
    code = redis_server_start(&bench.redis, &redis, err);
    if (code != 0) {
        return code;
    }
    snprintf(bench.dir, sizeof bench.dir, "%.63s", bench.redis.dir);
    while (code == 0 && bench.clients < (size_t)o->clients) {
        int fd = connect_to(bench.redis.socket_path, err);
        if (fd < 0) {
            code = fd;
        } else {
            bench.fds[bench.clients++] = fd;
        }
    }
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-trace.cost/1");
    json_add_int(root, "clients", o->clients);
    struct json *rows = json_add_array(root, "rows");
    struct rng rng;
    rng_init(&rng, rng_seed_system());
    if (code == 0 && !o->json) {
        puts("                          not traced   Redis' CPU, traced        a bystander's CPU   "
             "  "
             "      the        traced\n"
             "traced by        pipeline ns/command   to not, 95 %              traced to not, 95 % "
             "  "
             "      tracer     commands/s");
    }
    for (size_t v = 0; v < o->chosen_len && code == 0; v++) {
        for (size_t p = 0; p < o->pipelines_len && code == 0; p++) {
            struct result *result = calloc(1, sizeof *result);
            if (result == NULL) {
                abort();
            }
            result->arm = o->chosen[v];
            result->pipeline = o->pipelines[p];
            code = measure_pairs(&bench, o, &rng, result, err);
            if (isatty(STDERR_FILENO)) {
                fputs("\r\033[K", stderr);
            }
            if (code == 0) {
                add_row(rows, result);
                if (!o->json) {
                    print_row(result);
                }
            }
            free(result);
        }
    }
    if (code == 0 && o->json) {
        char *text = json_print(root);
        puts(text);
        free(text);
    }
    json_free(root);
    while (bench.clients > 0) {
        close(bench.fds[--bench.clients]);
    }
    redis_server_stop(&bench.redis);
    sched_setaffinity(0, sizeof whole, &whole);
    return code;
}

int cost_main(int argc, char **argv)
{
    struct options o = {.pairs = 11,
                        .arm_ns = 400 * NS_PER_MS,
                        .settle_ns = 2 * NS_PER_SEC,
                        .pipelines = {1, 16},
                        .pipelines_len = 2,
                        .clients = 50};
    struct err err = {""};
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    int code = parse(argc, argv, &o, &err);
    if (code == 0) {
        code = run(&o, &err);
    }
    if (stop) {
        return 130;
    }
    if (code < 0) {
        fprintf(stderr, "codeq-trace: cost: %s\n", err.text);
        return 2;
    }
    return 0;
}
