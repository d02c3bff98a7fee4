#include "run_process.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/redis_server.h"
#include "base/temp_dir.h"
#include "digest.h"
#include "drive_client.h"
#include "noise.h"
#include "traced.h"
#include "windows.h"

#define DRIVE_NAME "../bin/codeq-drive"
#define PRELOAD_NAME "../bin/alloccount.so"
#define CALL_TIMEOUT_NS (600 * NS_PER_SEC)

const char *run_kind_name(enum run_kind kind)
{
    switch (kind) {
    case RUN_TIMED:
        return "timed";
    case RUN_COUNTS:
        return "counts";
    case RUN_SYSCALLS:
        return "syscalls";
    case RUN_CALLGRIND:
        return "callgrind";
    case RUN_MASSIF:
        return "massif";
    case RUN_DHAT:
        return "dhat";
    }
    return "?";
}

/* ---- session ---- */

static int copy_file(const char *from, const char *to, struct err *err)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = in >= 0 ? open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700) : -1;
    int code = in < 0 || out < 0 ? -errno : 0;
    char chunk[65536];
    while (code == 0) {
        ssize_t n = read(in, chunk, sizeof chunk);
        if (n <= 0) {
            code = n < 0 ? -errno : 0;
            break;
        }
        code = write(out, chunk, (size_t)n) == n ? 0 : -EIO;
    }
    if (in >= 0) {
        close(in);
    }
    if (out >= 0 && close(out) != 0 && code == 0) {
        code = -errno;
    }
    return code != 0 ? err_set(err, code, "%s: %s", from, strerror(-code)) : 0;
}

int session_open(struct session *session, const char *drive_path, const char *alloc_count_path,
                 struct err *err)
{
    int code = temp_dir_make(session->dir, SESSION_DIR_BYTES, "bench", err);
    if (code != 0) {
        return code;
    }
    snprintf(session->run_dir, sizeof session->run_dir, "%s/run", session->dir);
    char path[SESSION_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/bin", session->dir);
    code = mkdir(path, 0700) != 0 ? err_set(err, -errno, "%s: %s", path, strerror(errno)) : 0;
    if (code == 0) {
        snprintf(path, sizeof path, "%s/bin/codeq-drive", session->dir);
        code = copy_file(drive_path, path, err);
    }
    if (code == 0) {
        code = digest_file(path, session->drive_sha256, err);
    }
    if (code == 0) {
        snprintf(path, sizeof path, "%s/bin/alloccount.so", session->dir);
        code = copy_file(alloc_count_path, path, err);
    }
    if (code != 0) {
        session_close(session);
    }
    return code;
}

void session_close(struct session *session)
{
    if (session->dir[0] != '\0') {
        remove_tree(session->dir);
        session->dir[0] = '\0';
    }
}

static int fresh_run_dir(struct session *session, struct err *err)
{
    remove_tree(session->run_dir);
    if (mkdir(session->run_dir, 0700) != 0) {
        return err_set(err, -errno, "%s: %s", session->run_dir, strerror(errno));
    }
    return 0;
}

/* ---- requests ---- */

static struct json *request_new(const char *op)
{
    struct json *request = json_new_object();
    json_add_string(request, "op", op);
    return request;
}

static struct json *hello_request(const struct scenario *scenario, int64_t seed, bool ticking)
{
    struct json *request = request_new("hello");
    json_add_int(request, "version", DRIVE_PROTOCOL_VERSION);
    if (scenario != NULL) {
        json_add_int(request, "seed", seed);
        json_add_string(request, "clock", ticking ? "ticking" : "system");
        json_add_string(request, "redis", "unix:./redis.sock");
        struct json *workload = json_add_object(request, "workload");
        json_add_string(workload, "operation", scenario->operation);
        json_add_int(workload, "batch", scenario->batch);
        json_add_string(workload, "format", scenario->format);
        json_add_int(workload, "payload_bytes", scenario->payload_bytes);
    }
    return request;
}

static int call(struct drive_client *client, struct json *take_request, struct json **out_reply,
                struct err *err)
{
    struct json *reply = NULL;
    int code = drive_client_call(client, take_request, CALL_TIMEOUT_NS, &reply, err);
    if (code == 0 && out_reply != NULL) {
        *out_reply = reply;
    } else {
        json_free(reply);
    }
    return code;
}

static int call_number(struct drive_client *client, const char *op, const char *key, int64_t value,
                       struct err *err)
{
    struct json *request = request_new(op);
    json_add_int(request, key, value);
    return call(client, request, NULL, err);
}

int run_hello(struct session *session, struct json **out_hello, struct err *err)
{
    int code = fresh_run_dir(session, err);
    if (code != 0) {
        return code;
    }
    struct drive_client_options options = {
        .program = DRIVE_NAME, .dir = session->run_dir, .cpu = -1, .stopped = session->stopped};
    struct drive_client client;
    code = drive_client_start(&client, &options, err);
    if (code != 0) {
        return code;
    }
    code = call(&client, hello_request(NULL, 0, false), out_hello, err);
    if (code == 0 && json_int(json_get(*out_hello, "protocol"), -1) != DRIVE_PROTOCOL_VERSION) {
        code = err_set(err, -EPROTONOSUPPORT, "driver: it speaks another protocol version");
    }
    if (code == 0) {
        code = drive_client_finish(&client, CALL_TIMEOUT_NS, NULL, err);
    }
    drive_client_stop(&client);
    if (code != 0) {
        json_free(*out_hello);
        *out_hello = NULL;
    }
    return code;
}

/* The driver makes the tasks that wait; ended, Redis writes them to dump.rdb. */
static int preload_fill(struct session *session, const struct scenario *scenario, struct err *err)
{
    const char *config[SCENARIO_REDIS_ARGS_MAX + 3];
    int n = 0;
    while (scenario->redis_config[n] != NULL) {
        config[n] = scenario->redis_config[n];
        n++;
    }
    config[n++] = "--save"; /* a rule, so that it saves when it is told to end */
    config[n++] = "3600 1";
    config[n] = NULL;
    struct redis_server server;
    struct redis_server_options redis = {
        .dir = session->run_dir, .config = config, .cpu = session->cpu};
    int code = redis_server_start(&server, &redis, err);
    if (code != 0) {
        return code;
    }
    struct drive_client_options options = {.program = DRIVE_NAME,
                                           .dir = session->run_dir,
                                           .cpu = session->cpu,
                                           .stopped = session->stopped};
    struct drive_client client;
    code = drive_client_start(&client, &options, err);
    if (code == 0) {
        code = call(&client, hello_request(scenario, scenario->seed + 1000000, true), NULL, err);
        if (code == 0) {
            code = call_number(&client, "preload", "tasks", scenario->preload_tasks, err);
        }
        if (code == 0) {
            code = drive_client_finish(&client, CALL_TIMEOUT_NS, NULL, err);
        }
        drive_client_stop(&client);
    }
    redis_server_stop(&server);
    return code;
}

/* Tasks that wait are made once a session, by a process of its own, and loaded by every private
 * Redis from its dump: neither the heap nor the system calls of the measured process have them in.
 * Leaves a fresh run folder with the dump in it. */
static int preload(struct session *session, const struct scenario *scenario, struct err *err)
{
    char kept[SESSION_PATH_MAX + 16], dump[SESSION_PATH_MAX + 24];
    snprintf(kept, sizeof kept, "%s/dump.rdb", session->dir);
    snprintf(dump, sizeof dump, "%s/dump.rdb", session->run_dir);
    if (strcmp(session->preloaded, scenario->sha256) != 0) {
        int code = preload_fill(session, scenario, err);
        if (code == 0 && rename(dump, kept) != 0) {
            code = err_set(err, -errno, "redis-server wrote no dump: %s", strerror(errno));
        }
        if (code != 0) {
            return err_prefix(err, code, "preload");
        }
        memcpy(session->preloaded, scenario->sha256, sizeof session->preloaded);
        code = fresh_run_dir(session, err);
        if (code != 0) {
            return code;
        }
    }
    return link(kept, dump) != 0 ? err_set(err, -errno, "%s: %s", dump, strerror(errno)) : 0;
}

/* ---- Redis' own figures ---- */

struct redis_sample {
    int64_t calls; /* commands executed, scripts' inner calls included, INFO left out */
    double cpu_us;
    double script_us; /* in scripts and functions; INFO commandstats' usec */
    struct json *by_name; /* command -> calls; owned */
};

static bool is_script(const char *name)
{
    return strncmp(name, "eval", 4) == 0 || strncmp(name, "fcall", 5) == 0;
}

static int redis_sample(const struct redis_server *server, struct redis_sample *out,
                        struct err *err)
{
    char *text = NULL;
    int code = redis_server_info(server->socket_path, "everything", &text, err);
    if (code != 0) {
        return code;
    }
    json_free(out->by_name);
    *out = (struct redis_sample){.by_name = json_new_object()};
    for (const char *p = text; p != NULL && *p != '\0';) {
        if (strncmp(p, "cmdstat_", 8) == 0 && strncmp(p, "cmdstat_info:", 13) != 0) {
            const char *calls = strstr(p, ":calls=");
            const char *end = strchr(p, '\n');
            if (calls != NULL && (end == NULL || calls < end)) {
                int64_t count = strtoll(calls + 7, NULL, 10);
                char name[64];
                snprintf(name, sizeof name, "%.*s", (int)(calls - p - 8), p + 8);
                out->calls += count;
                json_add_int(out->by_name, name, count);
                const char *usec = strstr(calls, ",usec=");
                if (is_script(name) && usec != NULL && (end == NULL || usec < end)) {
                    out->script_us += strtod(usec + 6, NULL);
                }
            }
        }
        p = strchr(p, '\n');
        p = p != NULL ? p + 1 : NULL;
    }
    out->cpu_us =
        1e6 * (redis_info_number(text, "used_cpu_user") + redis_info_number(text, "used_cpu_sys"));
    free(text);
    if (isnan(out->cpu_us)) {
        return err_set(err, -EPROTO, "INFO: no used_cpu_user: what runs there is not Redis");
    }
    return 0;
}

static int check_version(const struct redis_server *server, const struct scenario *scenario,
                         struct err *err)
{
    if (scenario->redis_version_min[0] == '\0') {
        return 0;
    }
    char *text = NULL;
    int code = redis_server_info(server->socket_path, "server", &text, err);
    if (code != 0) {
        return code;
    }
    const char *line = strstr(text, "redis_version:");
    int have[3] = {0}, want[3] = {0};
    if (line != NULL) {
        sscanf(line + 14, "%d.%d.%d", &have[0], &have[1], &have[2]);
    }
    sscanf(scenario->redis_version_min, "%d.%d.%d", &want[0], &want[1], &want[2]);
    free(text);
    for (int i = 0; i < 3; i++) {
        if (have[i] != want[i]) {
            return have[i] > want[i]
                       ? 0
                       : err_set(err, -ENOTSUP, "redis-server is %d.%d.%d: the scenario wants %s",
                                 have[0], have[1], have[2], scenario->redis_version_min);
        }
    }
    return 0;
}

/* ---- the run ---- */

struct figures {
    struct windows *windows; /* of a run that is cut into them; NULL */
    struct windows_sum sum;
    struct redis_sample redis_before, redis_after;
    double measured_share; /* of what Redis did in between: the rest is warm-up */
    struct noise_sample noise_before, noise_after;
    struct json *stopped; /* replies */
    struct json *counters;
    int64_t ops;
    struct syscall_counts syscalls;
    struct json *trace; /* the tracer's reports by view; NULL: it was ptrace that counted */
};

/* One window after the other, each a region of its own. */
static int drive_windows(struct drive_client *client, const struct run_order *order, int64_t ops,
                         struct figures *figures, struct err *err)
{
    figures->windows = calloc(1, sizeof *figures->windows);
    if (figures->windows == NULL) {
        abort();
    }
    int code = 0;
    for (int64_t i = 0; i < order->windows && code == 0; i++) {
        struct json *start = request_new("start");
        struct json *stopped = NULL;
        json_add_int(start, "ops", ops / order->windows > 0 ? ops / order->windows : 1);
        json_add_bool(start, "timed", true);
        code = call(client, start, NULL, err);
        code = code != 0 ? code : call(client, request_new("stop"), &stopped, err);
        code = code != 0 ? code : windows_add(figures->windows, stopped, err);
        json_free(stopped);
    }
    return code;
}

static int drive(const struct session *session, struct drive_client *client,
                 const struct redis_server *server, const struct scenario *scenario,
                 const struct run_order *order, struct figures *figures, struct err *err)
{
    bool timed = order->kind == RUN_TIMED;
    int64_t warm_ops = timed ? scenario->timed.warm_ops : scenario->counted.warm_ops;
    int64_t ops = timed ? scenario->timed.ops : scenario->counted.ops * order->scale;
    int code = call(client, hello_request(scenario, scenario->seed, !timed), NULL, err);
    if (code == 0) {
        code = call_number(client, "warm", "ops", warm_ops, err);
    }
    if (code == 0) {
        code = redis_sample(server, &figures->redis_before, err);
    }
    if (code != 0) {
        return code;
    }
    if (timed && order->windows > 0) {
        noise_take(&figures->noise_before);
        code = drive_windows(client, order, ops, figures, err);
        noise_take(&figures->noise_after);
        code = code != 0 ? code : redis_sample(server, &figures->redis_after, err);
        return code != 0 ? code
                         : drive_client_finish(client, CALL_TIMEOUT_NS, &figures->syscalls, err);
    }
    bool by_tracer = order->kind == RUN_SYSCALLS && session->tracer[0] != '\0';
    struct traced traced = {0};
    if (by_tracer) {
        code = traced_start(&traced, session->tracer, session->run_dir, client->child.pid,
                            server->child.pid, order->trace, err);
        if (code != 0) {
            traced_stop(&traced);
            return code;
        }
    }
    struct json *start = request_new("start");
    json_add_int(start, "ops", ops);
    if (timed) {
        json_add_bool(start, "timed", true);
        json_add_int(start, "duration_ms_max", scenario->timed.duration_ms_max);
        noise_take(&figures->noise_before);
    }
    struct json *started = NULL;
    code = call(client, start, &started, err);
    if (code == 0) {
        figures->ops = json_int(json_get(started, "ops"), -1);
        json_free(started);
        if (by_tracer) {
            code = traced_finish(&traced, figures->ops, &figures->trace, err);
            traced_stop(&traced);
            if (code != 0) {
                return code;
            }
        }
        if (figures->ops <= 0 || (!timed && figures->ops != ops)) {
            return err_set(err, -EPROTO, "driver: %lld operations done of %lld",
                           (long long)figures->ops, (long long)ops);
        }
        if (timed) {
            noise_take(&figures->noise_after);
        }
        code = redis_sample(server, &figures->redis_after, err);
    }
    traced_stop(&traced);
    if (code == 0) {
        code = call(client, request_new("stop"), &figures->stopped, err);
    }
    if (code == 0) {
        code = call(client, request_new("counters"), &figures->counters, err);
    }
    if (code == 0) {
        code = drive_client_finish(client, CALL_TIMEOUT_NS, &figures->syscalls, err);
    }
    return code;
}

/* What the windows say is put where one region's answer would be. The figures of Redis are of all
 * windows: they are scaled to those that count. */
static int sum_windows(struct figures *figures, struct json *line, uint64_t seed, struct err *err)
{
    int code = windows_sum(figures->windows, seed, &figures->sum, err);
    if (code != 0) {
        return code;
    }
    int64_t all = 0;
    struct json *list = json_add_array(line, "win");
    for (size_t i = 0; i < figures->windows->count; i++) {
        struct json *one = json_new_array();
        json_append(one, json_new_number(round(figures->windows->items[i].p50_ns)));
        json_append(one, json_new_number((double)figures->windows->items[i].ops));
        json_append(one, json_new_number((double)figures->windows->items[i].dur_ns));
        json_append(list, one);
        all += figures->windows->items[i].ops;
    }
    json_add_int(line, "warm_cut", (int64_t)figures->sum.cut);
    json_add_bool(line, "steady", figures->sum.steady);
    figures->ops = figures->sum.ops;
    figures->measured_share = (double)figures->sum.ops / (double)all;
    figures->stopped = json_new_object();
    json_add_int(figures->stopped, "duration_ns", figures->sum.dur_ns);
    json_add_int(figures->stopped, "cpu_ns", figures->sum.cpu_ns);
    json_put(figures->stopped, "latency", figures->sum.latency);
    return 0;
}

static int add_timed(const struct session *session, struct json *line,
                     const struct figures *figures, struct err *err)
{
    int64_t dur_ns = json_int(json_get(figures->stopped, "duration_ns"), -1);
    int64_t cpu_ns = json_int(json_get(figures->stopped, "cpu_ns"), -1);
    const struct json *latency = json_get(figures->stopped, "latency");
    if (dur_ns <= 0 || cpu_ns < 0 || json_count(latency) == 0) {
        return err_set(err, -EPROTO, "driver: stop: duration_ns, cpu_ns or latency is missing");
    }
    double redis_cpu_us =
        figures->measured_share * (figures->redis_after.cpu_us - figures->redis_before.cpu_us);
    double script_us = figures->measured_share *
                       (figures->redis_after.script_us - figures->redis_before.script_us);
    struct noise noise;
    noise_between(&figures->noise_before, &figures->noise_after, &noise);
    double own = ((double)cpu_ns + redis_cpu_us * 1e3) / (double)dur_ns /
                 (double)sysconf(_SC_NPROCESSORS_ONLN);
    char words[200];
    noise_words(&noise, own, words, sizeof words);
    json_add_string(line, "mode", "closed");
    json_add_string(line, "placement", session->cpu >= 0 ? "one-core" : "free");
    json_add_int(line, "dur_ns", dur_ns);
    json_add_number(line, "rate", round((double)figures->ops / ((double)dur_ns / 1e9)));
    json_add_number(line, "cpu_us", (double)cpu_ns / 1e3);
    json_add_number(line, "redis_cpu_us", round(redis_cpu_us));
    json_add_number(line, "redis_script_us", round(script_us));
    json_add_number(line, "steal_ratio", round(noise.steal_ratio * 1e4) / 1e4);
    json_add_number(line, "ctxsw_per_sec", round(noise.context_switches_per_sec));
    json_add_string(line, "noise", words);
    char *text = json_print(latency);
    json_put(line, "hdr", json_parse(text, strlen(text), NULL));
    free(text);
    return 0;
}

static int add_count(struct json *totals, const char *name, const struct json *from,
                     const char *key, struct err *err)
{
    int64_t value = json_int(json_get(from, key), INT64_MIN);
    if (value == INT64_MIN) {
        return err_set(err, -EPROTO, "driver: counters: %s is missing", key);
    }
    json_add_int(totals, name, value);
    return 0;
}

/* What compare names when a count has grown. */
static void add_syscalls_by_name(struct json *line, const struct syscall_counts *counts)
{
    struct json *by_name = json_add_object(line, "by_name");
    for (int i = 0; i < SYSCALL_COUNT_NUMBERS_MAX; i++) {
        char number[32];
        const char *name = syscall_name(i);
        if (counts->by_number[i] == 0) {
            continue;
        }
        snprintf(number, sizeof number, "%d", i);
        json_add_int(by_name, name != NULL ? name : number, counts->by_number[i]);
    }
}

static void add_commands_by_name(struct json *line, const struct redis_sample *before,
                                 const struct redis_sample *after)
{
    struct json *by_name = json_add_object(line, "by_name");
    for (const struct json *c = json_first(after->by_name); c != NULL; c = json_next(c)) {
        int64_t calls = json_int(c, 0) - json_int(json_get(before->by_name, json_key(c)), 0);
        if (calls != 0) {
            json_add_int(by_name, json_key(c), calls);
        }
    }
}

static int add_totals(struct json *line, enum run_kind kind, const struct figures *figures,
                      struct err *err)
{
    if (kind != RUN_COUNTS && kind != RUN_SYSCALLS) {
        return 0; /* the tool's own file has them */
    }
    struct json *totals = json_add_object(line, "totals");
    int code = 0;
    if (kind == RUN_SYSCALLS && figures->trace != NULL) {
        return traced_totals(figures->trace, line, totals, err);
    }
    if (kind == RUN_SYSCALLS) {
        json_add_string(line, "by", "ptrace");
        json_add_int(totals, "syscalls", figures->syscalls.total);
        add_syscalls_by_name(line, &figures->syscalls);
        return 0;
    }
    static const char *const rows[][2] = {{"round_trips", "round_trips"},
                                          {"redis_commands", "commands"},
                                          {"bytes_to_redis", "bytes_sent"},
                                          {"bytes_from_redis", "bytes_received"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows && code == 0; i++) {
        code = add_count(totals, rows[i][0], figures->counters, rows[i][1], err);
    }
    json_add_int(totals, "redis_calls", figures->redis_after.calls - figures->redis_before.calls);
    add_commands_by_name(line, &figures->redis_before, &figures->redis_after);
    static const char *const heap[][2] = {{"allocs", "allocs"},
                                          {"frees", "frees"},
                                          {"alloc_bytes", "bytes"},
                                          {"live_bytes", "live_bytes"}};
    const struct json *allocations = json_get(figures->counters, "allocations");
    if (allocations == NULL && code == 0) {
        return err_set(err, -EPROTO,
                       "driver: counters: allocations is missing: it does not read the "
                       "preloaded counter");
    }
    for (size_t i = 0; i < sizeof heap / sizeof *heap && code == 0; i++) {
        code = add_count(totals, heap[i][0], allocations, heap[i][1], err);
    }
    return code;
}

static const char *const *tool_prefix(enum run_kind kind)
{
    switch (kind) {
    case RUN_CALLGRIND:
        return profile_argv(PROFILE_CALLGRIND);
    case RUN_MASSIF:
        return profile_argv(PROFILE_MASSIF);
    case RUN_DHAT:
        return profile_argv(PROFILE_DHAT);
    case RUN_TIMED:
    case RUN_COUNTS:
    case RUN_SYSCALLS:
        break;
    }
    return NULL;
}

static int run_once(struct session *session, const struct scenario *scenario,
                    const struct run_order *order, struct json **out_line, struct err *err)
{
    int code = fresh_run_dir(session, err);
    if (code != 0) {
        return code;
    }
    char t0[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_wall_ns(clock_system()), t0);
    if (scenario->preload_tasks > 0) {
        code = preload(session, scenario, err);
        if (code != 0) {
            goto stopped;
        }
    }
    struct redis_server server;
    struct redis_server_options redis = {
        .dir = session->run_dir, .config = scenario->redis_config, .cpu = session->cpu};
    code = redis_server_start(&server, &redis, err);
    if (code != 0) {
        goto stopped;
    }
    struct drive_client client = {.to_fd = -1, .from_fd = -1};
    struct figures figures = {.measured_share = 1};
    struct json *line = NULL;
    code = check_version(&server, scenario, err);
    if (code != 0) {
        goto out;
    }
    struct drive_client_options options = {
        .prefix = tool_prefix(order->kind),
        .program = DRIVE_NAME,
        .dir = session->run_dir,
        .preload = order->kind == RUN_COUNTS ? PRELOAD_NAME : NULL,
        .trace_syscalls = order->kind == RUN_SYSCALLS && session->tracer[0] == '\0',
        .aslr = order->kind == RUN_TIMED,
        .padding_bytes = order->padding_bytes,
        .cpu = session->cpu,
        .stopped = session->stopped,
    };
    code = drive_client_start(&client, &options, err);
    if (code == 0) {
        code = drive(session, &client, &server, scenario, order, &figures, err);
    }
    if (code != 0) {
        goto out;
    }
    line = json_new_object();
    json_add_int(line, "v", 1);
    json_add_string(line, "kind", run_kind_name(order->kind));
    json_add_int(line, "repeat", order->repeat);
    json_add_int(line, "scale", order->scale);
    json_add_string(line, "t0", t0);
    json_add_int(line, "seed", scenario->seed);
    if (figures.windows != NULL) {
        code = sum_windows(&figures, line, (uint64_t)scenario->seed, err);
        if (code != 0) {
            goto out;
        }
    }
    json_add_int(line, "ops", figures.ops);
    json_add_int(line, "errors", 0);
    code = order->kind == RUN_TIMED ? add_timed(session, line, &figures, err)
                                    : add_totals(line, order->kind, &figures, err);
out:
    drive_client_stop(&client);
    redis_server_stop(&server);
    if (figures.windows != NULL) {
        windows_fini(figures.windows);
        free(figures.windows);
    }
    json_free(figures.stopped);
    json_free(figures.counters);
    json_free(figures.trace);
    json_free(figures.redis_before.by_name);
    json_free(figures.redis_after.by_name);
    if (code == 0) {
        *out_line = line;
        return 0;
    }
    json_free(line);
stopped:
    return session->stopped != NULL && session->stopped() ? err_set(err, -EINTR, "interrupted")
                                                          : code;
}

/* A tracer that lost something, or ended, is left for ptrace, unless it was asked for. */
int run_process(struct session *session, const struct scenario *scenario,
                const struct run_order *order, struct json **out_line, struct err *err)
{
    int code = run_once(session, scenario, order, out_line, err);
    bool traced = order->kind == RUN_SYSCALLS && session->tracer[0] != '\0';
    if (code == 0 || code == -EINTR || !traced || order->trace ||
        strstr(err->text, "codeq-trace") == NULL) {
        return code;
    }
    snprintf(session->untraced, sizeof session->untraced,
             "a codeq-trace that loses nothing: %.250s", err->text);
    session->tracer[0] = '\0';
    return run_once(session, scenario, order, out_line, err);
}

int session_core(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return -1;
    }
    for (int i = CPU_SETSIZE - 1; i >= 0; i--) {
        if (CPU_ISSET(i, &set)) {
            return i;
        }
    }
    return -1;
}

int run_check_build(const struct json *hello, struct err *err)
{
    const struct json *build = json_get(hello, "build");
    if (json_bool(json_get(build, "sanitized"), false)) {
        return err_set(err, -ENOTSUP,
                       "driver: built with a sanitizer, so that its counts are not "
                       "the program's: build it without");
    }
    if (!json_bool(json_get(build, "region_marks"), false)) {
        return err_set(err, -ENOTSUP,
                       "driver: built without Valgrind's headers, so that its region "
                       "cannot be counted: install valgrind and build again");
    }
    return 0;
}
