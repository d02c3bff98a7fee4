/* codeq-drive: the scheduler's operations in one process, on one connection, in lock step, for the
 * lab to measure. Speaks driver protocol 1 on stdin and stdout, one JSON line each way; the whole
 * of it stands in bench/README.md.
 *
 * It is built to be counted: the stack begins at a fixed address inside its 64 KiB, the measured
 * region is one call of a function of its own, and inside it nothing but the scheduler runs. */
#include <alloca.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <gnu/libc-version.h>

#include "base/alloc_count.h"
#include "base/buf.h"
#include "base/hist.h"
#include "base/json.h"
#include "drive_work.h"

#ifdef HAVE_VALGRIND
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#endif

#define PROTOCOL_VERSION 1
#define LINE_BYTES_MAX 65536
#define OPS_MAX INT64_C(1000000000)
#define HIST_DIGITS 3
#define EXIT_PROTOCOL 3 /* a version that this program does not speak */
#define STACK_ALIGN 65536

/* Wall time that moves one millisecond at every reading: how many task ids fall into one ms does
 * not depend on how fast the machine, or the tool, is. Deadlines are the real clock's. */
struct tick_clock {
    struct clock clock;
    int64_t wall_ns;
};

struct drive {
    struct tick_clock ticks;
    struct store *store;
    struct drive_work *work;
    struct hist hists[DRIVE_CALL_COUNT];
    /* of the last measured region */
    bool timed;
    int64_t ops;
    int64_t duration_ns;
    int64_t cpu_ns;
    struct store_counters before, after;
    struct alloc_count allocs_before, allocs_after;
};

static int64_t clock_read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * NS_PER_SEC + now.tv_nsec;
}

static int64_t tick_monotonic_ns(struct clock *clock)
{
    (void)clock;
    return clock_read_ns(CLOCK_MONOTONIC);
}

static int64_t tick_wall_ns(struct clock *clock)
{
    struct tick_clock *ticks = (struct tick_clock *)clock;
    return ticks->wall_ns += NS_PER_MS;
}

/* Two functions, so that profiles tell warm-up and region apart; noipa, so that they stay two. */
static __attribute__((noipa)) int64_t warmup_region(struct drive *drive, int64_t ops,
                                                    struct err *err)
{
    return drive_work_run(drive->work, ops, 0, NULL, err);
}

__attribute__((noipa)) static int64_t measured_region(struct drive *drive, int64_t ops,
                                                      int64_t duration_ns, struct err *err)
{
    int64_t done =
        drive_work_run(drive->work, ops, duration_ns, drive->timed ? drive->hists : NULL, err);
    __asm__ volatile("" ::: "memory"); /* no tail call: the region keeps its frame */
    return done;
}

/* ---- replies ---- */

static int reply_send(struct json *take_reply)
{
    char *line = json_print(take_reply);
    json_free(take_reply);
    bool sent = fputs(line, stdout) >= 0 && fputc('\n', stdout) != EOF && fflush(stdout) == 0;
    free(line);
    return sent ? 0 : -EPIPE;
}

static struct json *reply_new(bool ok)
{
    struct json *reply = json_new_object();
    json_add_bool(reply, "ok", ok);
    return reply;
}

static int refuse(const char *text)
{
    struct json *reply = reply_new(false);
    json_add_string(reply, "error", text);
    return reply_send(reply);
}

static void add_build(struct json *reply)
{
    struct json *build = json_add_object(reply, "build");
    json_add_string(build, "version", CODEQ_VERSION);
    json_add_string(build, "compiler", DRIVE_COMPILER);
    json_add_string(build, "flags", DRIVE_FLAGS);
    json_add_string(build, "libc", gnu_get_libc_version());
    json_add_string(build, "hiredis", DRIVE_HIREDIS);
    json_add_string(build, "cjson", DRIVE_CJSON);
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    json_add_bool(build, "sanitized", true);
#else
    json_add_bool(build, "sanitized", false);
#endif
#ifdef HAVE_VALGRIND
    json_add_bool(build, "region_marks", true);
#else
    json_add_bool(build, "region_marks", false);
#endif
}

/* ---- requests ---- */

/* A whole number of a request, or -1. */
static int64_t number_of(const struct json *request, const char *key, int64_t min, int64_t max,
                         int64_t fallback)
{
    const struct json *member = json_get(request, key);
    if (member == NULL) {
        return fallback;
    }
    int64_t value = json_int(member, -1);
    return value >= min && value <= max ? value : -1;
}

static int open_work(struct drive *drive, const struct json *request, struct err *err)
{
    const struct json *wanted = json_get(request, "workload");
    struct drive_work_options options = {
        .batch = (int)number_of(wanted, "batch", 1, DRIVE_BATCH_MAX, 1),
        .payload_bytes = number_of(wanted, "payload_bytes", 0, DRIVE_PAYLOAD_BYTES_MAX, 64),
    };
    const char *name = json_string(json_get(wanted, "operation"), "cycle");
    if (drive_operation_parse(name, &options.operation) != 0) {
        return err_set(err, -ENOTSUP, "operation '%s' is not supported", name);
    }
    const char *format = json_string(json_get(wanted, "format"), "raw");
    options.json = strcmp(format, "json") == 0;
    if (!options.json && strcmp(format, "raw") != 0) {
        return err_set(err, -ENOTSUP, "format '%s' is not supported: raw, json", format);
    }
    const char *clock = json_string(json_get(request, "clock"), "system");
    bool ticking = strcmp(clock, "ticking") == 0;
    if (!ticking && strcmp(clock, "system") != 0) {
        return err_set(err, -ENOTSUP, "clock '%s' is not supported: system, ticking", clock);
    }
    drive->ticks =
        (struct tick_clock){{tick_monotonic_ns, tick_wall_ns}, clock_wall_ns(clock_system())};
    int64_t seed = number_of(request, "seed", 0, INT64_C(1) << 52, 1);
    if (seed < 0 || options.batch < 0 || options.payload_bytes < 0) {
        return err_set(err, -EINVAL, "seed, batch or payload_bytes is out of range");
    }
    struct store_options store = {
        .url = json_string(json_get(request, "redis"), "unix:./redis.sock"),
        .clock = ticking ? &drive->ticks.clock : clock_system(),
        .seed = (uint64_t)seed,
        .connect_timeout_ns = 10 * NS_PER_SEC,
        .command_timeout_ns = 60 * NS_PER_SEC,
        .retention_ms = INT64_C(24) * 3600 * 1000,
        .backoff = BACKOFF_POLICY_DEFAULT,
        .shard_count = 1,
    };
    drive->store = store_open(&store, err);
    if (drive->store == NULL) {
        return -EIO;
    }
    drive->work = drive_work_new(drive->store, &options, err);
    return drive->work != NULL ? 0 : -EIO;
}

static int do_hello(struct drive *drive, const struct json *request, struct err *err)
{
    if (drive->work != NULL) {
        return err_set(err, -EINVAL, "hello: was said already");
    }
    if (json_get(request, "workload") != NULL) {
        int code = open_work(drive, request, err);
        if (code != 0) {
            return code;
        }
    }
    struct json *reply = reply_new(true);
    json_add_int(reply, "protocol", PROTOCOL_VERSION);
    json_add_string(reply, "program", "codeq-drive");
    struct json *operations = json_add_array(reply, "operations");
    for (int i = 0; i < DRIVE_OPERATION_COUNT; i++) {
        json_append(operations, json_new_string(drive_operation_name((enum drive_operation)i)));
    }
    struct json *formats = json_add_array(reply, "formats");
    json_append(formats, json_new_string("raw"));
    json_append(formats, json_new_string("json"));
    json_add_bool(reply, "counts_allocations", alloc_count_read != NULL);
    add_build(reply);
    return reply_send(reply);
}

static int do_preload(struct drive *drive, const struct json *request, struct err *err)
{
    int64_t tasks = number_of(request, "tasks", 0, OPS_MAX, -1);
    if (tasks < 0) {
        return err_set(err, -EINVAL, "preload: tasks is missing or out of range");
    }
    int code = drive_work_preload(drive->work, tasks, err);
    return code != 0 ? code : reply_send(reply_new(true));
}

static int do_warm(struct drive *drive, const struct json *request, struct err *err)
{
    int64_t ops = number_of(request, "ops", 0, OPS_MAX, -1);
    if (ops < 0) {
        return err_set(err, -EINVAL, "warm: ops is missing or out of range");
    }
    int64_t done = warmup_region(drive, ops, err);
    return done < 0 ? (int)done : reply_send(reply_new(true));
}

static int do_start(struct drive *drive, const struct json *request, struct err *err)
{
    int64_t ops = number_of(request, "ops", 1, OPS_MAX, -1);
    int64_t duration_ms = number_of(request, "duration_ms_max", 0, 86400000, 0);
    if (ops < 0 || duration_ms < 0) {
        return err_set(err, -EINVAL, "start: ops is missing, or a field is out of range");
    }
    drive->timed = json_bool(json_get(request, "timed"), false);
    for (int i = 0; drive->timed && i < DRIVE_CALL_COUNT; i++) {
        struct hist_config config = {HIST_LOWEST_NS_DEFAULT, HIST_HIGHEST_NS_DEFAULT, HIST_DIGITS};
        hist_fini(&drive->hists[i]);
        int code = hist_init(&drive->hists[i], &config, err);
        if (code != 0) {
            return code;
        }
    }
    store_counters(drive->store, &drive->before);
    int64_t start_ns = 0, start_cpu_ns = 0;
    if (drive->timed) {
        start_cpu_ns = clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
        start_ns = clock_read_ns(CLOCK_MONOTONIC);
    }
    if (alloc_count_read != NULL) {
        alloc_count_read(&drive->allocs_before);
    }
    CALLGRIND_START_INSTRUMENTATION;
    int64_t done = measured_region(drive, ops, duration_ms * NS_PER_MS, err);
    CALLGRIND_STOP_INSTRUMENTATION;
    if (alloc_count_read != NULL) {
        alloc_count_read(&drive->allocs_after);
    }
    if (drive->timed) {
        drive->duration_ns = clock_read_ns(CLOCK_MONOTONIC) - start_ns;
        drive->cpu_ns = clock_read_ns(CLOCK_PROCESS_CPUTIME_ID) - start_cpu_ns;
    }
    store_counters(drive->store, &drive->after);
    drive->ops = done < 0 ? 0 : done;
    if (done < 0) {
        return (int)done;
    }
    struct json *reply = reply_new(true);
    json_add_int(reply, "ops", done);
    return reply_send(reply);
}

static int do_stop(struct drive *drive, const struct json *request, struct err *err)
{
    (void)request;
    (void)err;
    struct json *reply = reply_new(true);
    json_add_int(reply, "ops", drive->ops);
    if (drive->timed) {
        json_add_int(reply, "duration_ns", drive->duration_ns);
        json_add_int(reply, "cpu_ns", drive->cpu_ns);
        struct json *latency = json_add_object(reply, "latency");
        for (int i = 0; i < DRIVE_CALL_COUNT; i++) {
            const struct hist *hist = &drive->hists[i];
            if (hist_count(hist) == 0) {
                continue;
            }
            char *text = hist_encode(hist);
            struct json *one = json_add_object(latency, drive_call_name((enum drive_call)i));
            json_add_string(one, "enc", "HDR-V2");
            json_add_int(one, "lo", HIST_LOWEST_NS_DEFAULT);
            json_add_int(one, "hi", HIST_HIGHEST_NS_DEFAULT);
            json_add_int(one, "sig", HIST_DIGITS);
            json_add_int(one, "n", hist_count(hist));
            json_add_int(one, "clamped", hist_clamped(hist));
            json_add_string(one, "b64", text != NULL ? text : "");
            free(text);
        }
    }
    return reply_send(reply);
}

static int do_counters(struct drive *drive, const struct json *request, struct err *err)
{
    (void)request;
    (void)err;
    const struct store_counters *a = &drive->before, *b = &drive->after;
    struct json *reply = reply_new(true);
    json_add_int(reply, "ops", drive->ops);
    json_add_int(reply, "round_trips", (int64_t)(b->round_trips - a->round_trips));
    json_add_int(reply, "commands", (int64_t)(b->commands - a->commands));
    json_add_int(reply, "bytes_sent", (int64_t)(b->bytes_sent - a->bytes_sent));
    json_add_int(reply, "bytes_received", (int64_t)(b->bytes_received - a->bytes_received));
    if (alloc_count_read != NULL) {
        const struct alloc_count *x = &drive->allocs_before, *y = &drive->allocs_after;
        struct json *allocations = json_add_object(reply, "allocations");
        json_add_int(allocations, "allocs", (int64_t)(y->allocs - x->allocs));
        json_add_int(allocations, "frees", (int64_t)(y->frees - x->frees));
        json_add_int(allocations, "bytes", (int64_t)(y->bytes - x->bytes));
        json_add_int(allocations, "live_bytes", (int64_t)(y->live_bytes - x->live_bytes));
        json_add_int(allocations, "peak_bytes", (int64_t)y->peak_bytes);
    }
    return reply_send(reply);
}

static const struct request {
    const char *name;
    int (*run)(struct drive *drive, const struct json *request, struct err *err);
    bool needs_work;
} requests[] = {
    {"hello", do_hello, false}, {"preload", do_preload, true}, {"warm", do_warm, true},
    {"start", do_start, true},  {"stop", do_stop, true},       {"counters", do_counters, true},
};

/* One line. 0: go on; 1: quit was asked; negative errno: stdout is gone, or the request failed and
 * *err says why. */
static int serve_line(struct drive *drive, const char *line, size_t bytes, bool *greeted,
                      struct err *err)
{
    struct json *request = json_parse(line, bytes, err);
    if (request == NULL) {
        return err_prefix(err, -EINVAL, "request");
    }
    const char *op = json_string(json_get(request, "op"), "");
    int code = -ENOSYS;
    if (strcmp(op, "hello") == 0 &&
        json_int(json_get(request, "version"), -1) != PROTOCOL_VERSION) {
        code = err_set(err, -EPROTONOSUPPORT, "hello: this driver speaks protocol version %d only",
                       PROTOCOL_VERSION);
    } else if (strcmp(op, "quit") == 0) {
        code = reply_send(reply_new(true)) == 0 ? 1 : -EPIPE;
    } else if (!*greeted && strcmp(op, "hello") != 0) {
        code = err_set(err, -EINVAL, "the first request must be hello");
    } else {
        for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
            if (strcmp(op, requests[i].name) != 0) {
                continue;
            }
            code = requests[i].needs_work && drive->work == NULL
                       ? err_set(err, -EINVAL, "%s: hello gave no workload", op)
                       : requests[i].run(drive, request, err);
            break;
        }
        if (code == -ENOSYS) {
            err_set(err, code, "op '%.40s' is not known", op);
        }
    }
    *greeted = *greeted || (code == 0 && strcmp(op, "hello") == 0);
    json_free(request);
    return code;
}

static __attribute__((noinline)) int drive_main(void)
{
    struct drive *drive = calloc(1, sizeof *drive);
    char *line = malloc(LINE_BYTES_MAX);
    bool greeted = false;
    int exit_code = 0;
    while (drive != NULL && line != NULL && fgets(line, LINE_BYTES_MAX, stdin) != NULL) {
        size_t bytes = strlen(line);
        if (bytes == 0 || line[bytes - 1] != '\n') {
            refuse("request: longer than 64 KiB, or cut off");
            exit_code = 2;
            break;
        }
        struct err err = {""};
        int code = serve_line(drive, line, bytes - 1, &greeted, &err);
        if (code < 0) {
            refuse(err.text);
            exit_code = code == -EPROTONOSUPPORT ? EXIT_PROTOCOL : 2;
        }
        if (code != 0) {
            break;
        }
    }
    if (drive != NULL) {
        for (int i = 0; i < DRIVE_CALL_COUNT; i++) {
            hist_fini(&drive->hists[i]);
        }
        drive_work_free(drive->work);
        if (drive->store != NULL) {
            store_close(drive->store);
        }
    }
    free(line);
    free(drive);
    return exit_code;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        bool help = strcmp(argv[1], "--help") == 0;
        fputs(
            "codeq-drive runs the scheduler's operations for codeq-bench, which speaks to it over\n"
            "stdin and stdout; it takes no arguments. The protocol stands in bench/README.md.\n",
            help ? stdout : stderr);
        return help ? 0 : 2;
    }
    /* What lies above on the stack (environment, path, vectors) moves it; string functions count
     * differently by alignment. Begin at a multiple of 64 KiB. */
    char here;
    volatile char *pad = alloca(((uintptr_t)&here & (STACK_ALIGN - 1)) + STACK_ALIGN);
    pad[0] = 0;
    return drive_main();
}
