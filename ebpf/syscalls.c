#include "syscalls.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "snap.h"
#include "syscall_names.h"
#include "view.h"

struct syscalls {
    struct loader *loader;
    struct target *target;
    bool names_only;
    struct snap now;
    struct snap before;
    struct snap diff;
};

static const struct report_column columns[] = {
    {"pid", "pid", REPORT_LABEL},
    {"comm", "process", REPORT_LABEL},
    {"syscall", "system call", REPORT_LABEL},
    {"count", "calls", REPORT_COUNT},
    {"rate_per_sec", "calls/s", REPORT_NUMBER},
    {"errors", "errors", REPORT_COUNT},
    {"time_ns", "time", REPORT_NS},
    {"latency_ns_p50", "p50", REPORT_NS},
    {"latency_ns_p99", "p99", REPORT_NS},
    {"latency_ns_max", "max", REPORT_NS},
    {"bytes_per_call", "bytes/call", REPORT_BYTES},
    {"latency_ns", "latency", REPORT_HIST},
};

int syscalls_configure(struct loader *loader, struct err *err)
{
    static const uint32_t byte_calls[] = {
        SYS_read,    SYS_write,   SYS_readv,    SYS_writev, SYS_recvfrom, SYS_sendto,   SYS_recvmsg,
        SYS_sendmsg, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev,  SYS_sendfile, SYS_splice,
    };
    struct syscalls_config config = {.on = 1};
    for (size_t i = 0; i < sizeof byte_calls / sizeof byte_calls[0]; i++) {
        assert(byte_calls[i] < 64 * SYSCALLS_BYTE_WORDS);
        config.byte_calls[byte_calls[i] / 64] |= UINT64_C(1) << (byte_calls[i] % 64);
    }
    return loader_config_part(loader, ".rodata.calls", &config, sizeof config, err);
}

struct syscalls *syscalls_new(struct loader *loader, struct target *target, bool names_only)
{
    struct syscalls *syscalls = calloc(1, sizeof *syscalls);
    assert(syscalls != NULL);
    syscalls->loader = loader;
    syscalls->target = target;
    syscalls->names_only = names_only;
    snap_init(&syscalls->now, sizeof(struct syscalls_key), SYSCALLS_WORDS);
    snap_init(&syscalls->before, sizeof(struct syscalls_key), SYSCALLS_WORDS);
    snap_init(&syscalls->diff, sizeof(struct syscalls_key), SYSCALLS_WORDS);
    return syscalls;
}

void syscalls_free(struct syscalls *syscalls)
{
    if (syscalls == NULL) {
        return;
    }
    snap_fini(&syscalls->now);
    snap_fini(&syscalls->before);
    snap_fini(&syscalls->diff);
    free(syscalls);
}

static int view_open(const struct view_options *options, struct target *target, void **out_state,
                     struct loader **out_loader, struct err *err)
{
    struct loader *loader;
    int code = loader_open(&loader, LOADER_SYSCALLS, err);
    if (code != 0) {
        return code;
    }
    code = syscalls_configure(loader, err);
    if (code != 0) {
        loader_free(loader);
        return code;
    }
    loader_skip(loader, options->raw_tracepoints ? "on_enter" : "on_enter_raw");
    loader_skip(loader, options->raw_tracepoints ? "on_exit" : "on_exit_raw");
    *out_state = syscalls_new(loader, target, false);
    *out_loader = loader;
    return 0;
}

static void add_row(struct report_table *table, const struct syscalls *syscalls,
                    const struct syscalls_key *key, const struct syscalls_value *value,
                    double seconds, bool final)
{
    char text[32];
    snprintf(text, sizeof text, "%u", key->tgid);
    report_text(table, syscalls->names_only ? "" : text);
    report_text(table, target_comm(syscalls->target, (pid_t)key->tgid));
    const char *name = syscall_name(key->nr);
    snprintf(text, sizeof text, "#%u", key->nr);
    report_text(table, name != NULL ? name : text);
    report_number(table, (double)value->count);
    report_number(table, seconds > 0 ? (double)value->count / seconds : (double)NAN);
    report_number(table, (double)value->errors);
    report_number(table, (double)value->ns);
    const uint64_t *buckets = (const uint64_t *)value->buckets;
    double most = (double)value->ns_max;
    if (!final) {
        most = fmin(most, (double)loghist_quantile(buckets, 1));
    }
    report_number(table, fmin((double)loghist_quantile(buckets, 0.5), most));
    report_number(table, fmin((double)loghist_quantile(buckets, 0.99), most));
    report_number(table, most);
    uint64_t good = value->count - value->errors;
    report_number(table,
                  value->bytes > 0 && good > 0 ? (double)value->bytes / (double)good : (double)NAN);
    report_hist(table, buckets, value->ns);
}

/* The first process in the table that has this one's name. */
static __u32 namesake(const struct syscalls *syscalls, __u32 tgid)
{
    const char *name = target_comm(syscalls->target, (pid_t)tgid);
    for (int i = 0; i < syscalls->now.len; i++) {
        const struct syscalls_key *key = snap_key(&syscalls->now, i);
        if (strcmp(target_comm(syscalls->target, (pid_t)key->tgid), name) == 0) {
            return key->tgid;
        }
    }
    return tgid;
}

void syscalls_report(struct syscalls *syscalls, struct report *report)
{
    snap_clear(&syscalls->now);
    struct syscalls_row row;
    const void *last = NULL;
    struct syscalls_row next;
    while (loader_map_next(syscalls->loader, "call_rows", last, &next)) {
        uint64_t words[SYSCALLS_WORDS];
        row = next;
        last = &row;
        if (loader_map_get(syscalls->loader, "call_rows", &row, words) == 0) {
            struct syscalls_key key = row.key;
            if (syscalls->names_only) {
                key.tgid = namesake(syscalls, key.tgid);
            }
            snap_merge(&syscalls->now, &key, words, SYSCALLS_MAX_WORD);
        }
    }
    const struct snap *shown = &syscalls->now;
    if (!report->final) {
        snap_diff(&syscalls->now, &syscalls->before, SYSCALLS_MAX_WORD, &syscalls->diff);
        shown = &syscalls->diff;
    }
    struct report_table *table =
        report_table(report, "syscalls", columns, sizeof columns / sizeof columns[0]);
    for (int i = 0; i < shown->len; i++) {
        add_row(table, syscalls, snap_key(shown, i), (struct syscalls_value *)snap_values(shown, i),
                report->seconds, report->final);
    }
    report_sort(table, "time_ns");
    struct snap swap = syscalls->before;
    syscalls->before = syscalls->now;
    syscalls->now = swap;
    uint64_t losses[sizeof(struct syscalls_losses) / 8] = {0};
    uint32_t zero = 0;
    loader_map_sum(syscalls->loader, "call_losses", &zero, losses, sizeof losses / 8, -1);
    report_loss(report, "calls_without_row", "calls dropped: more rows than the table holds",
                losses[0]);
    if (losses[1] > 0 && report->final) {
        report_note(report, "%llu calls had begun before the tracer did and were not timed",
                    (unsigned long long)losses[1]);
    }
}

static void view_collect(void *context, struct report *report)
{
    syscalls_report(context, report);
}

static void view_close(void *context)
{
    struct syscalls *syscalls = context;
    loader_free(syscalls->loader);
    syscalls_free(syscalls);
}

const struct view syscalls_view = {
    .name = "syscalls",
    .summary = "system calls per process: count, rate, errors, latency, bytes",
    .help =
        "  --raw-tracepoints     use untyped tracepoints (older kernels)\n"
        "\n"
        "examples:\n"
        "  codeq-trace syscalls                              every Redis server and codeqd here\n"
        "  codeq-trace syscalls --pid 4711 --duration 10s    one process, ten seconds\n"
        "  codeq-trace syscalls --comm node --rows 5         all processes of one name\n"
        "  codeq-trace syscalls --comm redis-server --json --duration 5s | jq .syscalls\n"
        "  codeq-trace syscalls --cgroup system.slice/redis.service --follow\n",
    .options = "raw-tracepoints",
    .open = view_open,
    .collect = view_collect,
    .close = view_close,
};
