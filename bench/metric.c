#include "metric.h"

#include <string.h>

#define TIMED .class = METRIC_TIMED
#define COUNTED .class = METRIC_COUNTED, .better = METRIC_LOWER

const struct metric metric_table[] = {
    {"throughput_per_sec", "1/s", "operations/s", TIMED, .better = METRIC_HIGHER,
     .run_scope = true},
    {"time_ns_per_op", "ns", "ns/op", TIMED},
    {"client_cpu_us_per_op", "us", "client CPU us/op", TIMED},
    {"redis_cpu_us_per_op", "us", "Redis CPU us/op", TIMED},
    {"redis_script_us_per_op", "us", "Redis script us/op", TIMED, .shown_only = true},
    {"off_cpu_us_per_op", "us", "client off-CPU us/op", TIMED, .shown_only = true},
    {"redis_syscalls_per_op", "calls", "Redis system calls/op", TIMED, .shown_only = true},
    {"latency_ns_p50", "ns", "p50", TIMED},
    {"latency_ns_p90", "ns", "p90", TIMED},
    {"latency_ns_p99", "ns", "p99", TIMED},
    {"latency_ns_p999", "ns", "p99.9", TIMED, .shown_only = true},
    {"latency_ns_max", "ns", "max", TIMED, .shown_only = true},
    {"instructions_per_op", "instructions", "instructions/op", COUNTED, .budget = {0.005, 0.01, 0}},
    {"allocs_per_op", "allocations", "allocs/op", COUNTED, .budget = {0, 0, 0.01}},
    {"alloc_bytes_per_op", "B", "B/op", COUNTED, .budget = {0, 0.01, 16}},
    {"heap_peak_bytes", "B", "peak heap", COUNTED, .run_scope = true, .budget = {0, 0.02, 4096}},
    {"live_bytes_per_op", "B", "live bytes/op", COUNTED, .run_scope = true},
    {"round_trips_per_op", "round trips", "round trips/op", COUNTED, .budget = {0, 0, 0.01}},
    {"redis_commands_per_op", "commands", "Redis commands sent/op", COUNTED,
     .budget = {0, 0, 0.01}},
    {"redis_calls_per_op", "calls", "Redis calls executed/op", COUNTED, .budget = {0, 0, 0.01}},
    {"bytes_to_redis_per_op", "B", "bytes to Redis/op", COUNTED, .budget = {0, 0.01, 16}},
    {"bytes_from_redis_per_op", "B", "bytes from Redis/op", COUNTED, .budget = {0, 0.01, 16}},
    {"syscalls_per_op", "calls", "system calls/op", COUNTED, .budget = {0, 0, 0.05}},
};
const size_t metric_count = sizeof metric_table / sizeof *metric_table;

static const char *const operations[] = {"cycle", "create", "claim", "complete"};

bool metric_is_operation(const char *scope, size_t bytes)
{
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        if (strlen(operations[i]) == bytes && memcmp(operations[i], scope, bytes) == 0) {
            return true;
        }
    }
    return false;
}

const struct metric *metric_by_name(const char *name)
{
    for (size_t i = 0; i < metric_count; i++) {
        if (strcmp(metric_table[i].name, name) == 0) {
            return &metric_table[i];
        }
    }
    return NULL;
}

const struct metric *metric_find(const char *id)
{
    const char *dot = strchr(id, '.');
    if (dot == NULL) {
        return NULL;
    }
    size_t scope_bytes = (size_t)(dot - id);
    const struct metric *metric = metric_by_name(dot + 1);
    if (metric == NULL) {
        return NULL;
    }
    bool is_run = scope_bytes == 3 && memcmp(id, "run", 3) == 0;
    bool fits = metric->run_scope ? is_run : metric_is_operation(id, scope_bytes);
    return fits ? metric : NULL;
}

const char *metric_class_name(enum metric_class class)
{
    return class == METRIC_COUNTED ? "counted" : "timed";
}

const char *metric_better_name(enum metric_better better)
{
    return better == METRIC_LOWER ? "lower" : "higher";
}
