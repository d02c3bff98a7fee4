/* What tracing costs: Redis' CPU a command with and without it, as ratios of pairs, never of two
 * series. The pairs are cost_pairs.c's; here stand the options and what is told. */
#include "cost.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/clock.h"
#include "base/json.h"
#include "cost_pairs.h"
#include "loader.h"

#define PIPELINES_MAX 8
#define ARMS_MAX 8

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static const struct cost_arm arms[] = {
    {.name = "tracepoints"},
    {.name = "syscalls", .view = "syscalls"},
    {.name = "commands", .view = "commands"},
    {.name = "leases", .view = "leases"},
    {.name = "syscalls+leases", .view = "leases", .option = "--syscalls"},
};
#define ARMS_LEN (sizeof arms / sizeof arms[0])

struct options {
    struct cost_plan plan;
    int64_t pipelines[PIPELINES_MAX];
    size_t pipelines_len;
    int64_t clients;
    const struct cost_arm *chosen[ARMS_MAX];
    size_t chosen_len;
    struct cost_arm with[ARMS_MAX];
    size_t with_len;
    bool json;
};

/* ---- the middle of the pairs ---- */

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const double *values, size_t n)
{
    double sorted[COST_PAIRS_MAX];
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_double);
    return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* The interval of the median by order statistics: the k-th smallest and largest, k the largest that
 * still covers 95 %; all values where there are too few. */
static void interval_of(const double *values, size_t n, double *out_low, double *out_high)
{
    double sorted[COST_PAIRS_MAX];
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

/* ---- what is told ---- */

static void print_row(const struct cost_result *r)
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

static void add_row(struct json *rows, const struct cost_result *r)
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
    "  --beside              trace a process that does nothing instead of Redis: what tracing "
    "costs\n"
    "                        a Redis that is not traced\n"
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
    "  codeq-trace cost --beside --pairs 31\n"
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
        if (strcmp(arms[i].name, name) == 0 && o->chosen_len < ARMS_MAX) {
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
    if (o->chosen_len == ARMS_MAX) {
        return err_set(err, -EINVAL, "more than %d to measure", ARMS_MAX);
    }
    *equals = '\0';
    struct cost_arm *arm = &o->with[o->with_len++];
    *arm = (struct cost_arm){.name = text, .command = equals + 1};
    o->chosen[o->chosen_len++] = arm;
    return 0;
}

/* 0, 1 (help was printed), or negative errno with text. */
static int parse(int argc, char **argv, struct options *o, struct err *err)
{
    static const struct option options[] = {{"view", required_argument, NULL, 'v'},
                                            {"with", required_argument, NULL, 'w'},
                                            {"settle", required_argument, NULL, 's'},
                                            {"pipeline", required_argument, NULL, 'p'},
                                            {"clients", required_argument, NULL, 'c'},
                                            {"pairs", required_argument, NULL, 'n'},
                                            {"time", required_argument, NULL, 't'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"beside", no_argument, NULL, 'b'},
                                            {0}};
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
            code = args_duration_ns(optarg, &o->plan.settle_ns, err);
            code = code != 0 ? err_prefix(err, code, "--settle") : 0;
            break;
        case 'p':
            code = parse_pipelines(optarg, o, err);
            code = code != 0 ? err_prefix(err, code, "--pipeline: '%s'", optarg) : 0;
            break;
        case 'n':
            code = args_int(optarg, 3, COST_PAIRS_MAX, &o->plan.pairs, err);
            code = code != 0 ? err_prefix(err, code, "--pairs") : 0;
            break;
        case 'c':
            code = args_int(optarg, 1, COST_CLIENTS_MAX, &o->clients, err);
            code = code != 0 ? err_prefix(err, code, "--clients") : 0;
            break;
        case 't':
            code = args_duration_ns(optarg, &o->plan.arm_ns, err);
            code = code != 0 ? err_prefix(err, code, "--time")
                   : o->plan.arm_ns < 10 * NS_PER_MS || o->plan.arm_ns > 60 * NS_PER_SEC
                       ? err_set(err, -EINVAL, "--time: '%s': give 10ms to 60s", optarg)
                       : 0;
            break;
        case 'b':
            o->plan.beside = true;
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

static void print_head(bool beside)
{
    printf("%-16s %8s %10s   %-22s  %-22s %9s %10s\n", "", "", "not traced",
           beside ? "CPU of Redis, another" : "Redis' CPU, traced", "the client's CPU,", "the",
           "traced");
    printf("%-16s %8s %10s   %-22s  %-22s %9s %10s\n", "traced by", "pipeline", "ns/command",
           beside ? "traced to none, 95 %" : "to not, 95 %", "traced to not, 95 %", "tracer",
           "commands/s");
}

static int run(const struct options *o, struct err *err)
{
    static struct cost_bench bench;
    static struct cost_result result;
    int code = loader_check(0, err);
    code = code == 0 ? cost_bench_open(&bench, (size_t)o->clients, &stop, err) : code;
    if (code != 0) {
        return code;
    }
    struct json *root = json_new_object();
    json_add_string(root, "schema", "codeq-trace.cost/1");
    json_add_int(root, "clients", o->clients);
    json_add_bool(root, "beside", o->plan.beside);
    struct json *rows = json_add_array(root, "rows");
    struct rng rng;
    rng_init(&rng, rng_seed_system());
    if (!o->json) {
        print_head(o->plan.beside);
    }
    for (size_t i = 0; i < o->chosen_len * o->pipelines_len && code == 0; i++) {
        result = (struct cost_result){.arm = o->chosen[i / o->pipelines_len],
                                      .pipeline = o->pipelines[i % o->pipelines_len]};
        code = cost_measure(&bench, &o->plan, &rng, &result, err);
        if (isatty(STDERR_FILENO)) {
            fputs("\r\033[K", stderr);
        }
        if (code == 0 && o->json) {
            add_row(rows, &result);
        } else if (code == 0) {
            print_row(&result);
        }
    }
    if (code == 0 && o->json) {
        char *text = json_print(root);
        puts(text);
        free(text);
    }
    json_free(root);
    cost_bench_close(&bench);
    return code;
}

int cost_main(int argc, char **argv)
{
    struct options o = {
        .plan = {.pairs = 11, .arm_ns = 400 * NS_PER_MS, .settle_ns = 2 * NS_PER_SEC},
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
