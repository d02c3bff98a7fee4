#include "service/metrics.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* Upper bounds in microseconds. */
static const int64_t BOUNDS_US[] = {
    10,       20,       50,       100,       200,       500,        1000,       2000,    5000,
    10000,    20000,    50000,    100000,    200000,    500000,     1000000,    2000000, 5000000,
    10000000, 20000000, 50000000, 100000000, 300000000, 1000000000, 3600000000,
};
#define BOUNDS (sizeof BOUNDS_US / sizeof *BOUNDS_US)

static const int STATUSES[] = {200, 201, 202, 204, 307, 400, 401, 403, 404, 405, 408, 409,
                               413, 414, 415, 417, 422, 429, 431, 500, 501, 503, 505, 0};
#define STATUS_COUNT (sizeof STATUSES / sizeof *STATUSES)

typedef _Atomic uint64_t counter; /* one writer, any reader */

struct histogram {
    counter buckets[BOUNDS + 1]; /* not cumulative; the last one is above all bounds */
    counter sum_ns;
};

struct command {
    char name[METRICS_COMMAND_BYTES_MAX + 1];
    size_t bytes;
    counter counters[METRICS_COMMAND_COUNTERS];
    struct histogram histograms[METRICS_COMMAND_HISTOGRAMS];
};

struct operation {
    const char *name; /* the route table's own constant */
    counter statuses[STATUS_COUNT];
};

#define LEASE_SETS 2048 /* a power of two */
#define LEASE_WAYS 4 /* leases of one set */

struct lease_begin {
    struct task_id id;
    int64_t at_ns;
};

struct metrics {
    struct lease_begin leases[LEASE_SETS][LEASE_WAYS];
    _Atomic unsigned command_count; /* names below it are written and stay */
    _Atomic unsigned operation_count;
    struct command commands[METRICS_COMMANDS_MAX];
    struct operation operations[METRICS_OPERATIONS_MAX];
    counter counters[METRICS_COUNTERS];
    struct histogram histograms[METRICS_HISTOGRAMS];
    _Atomic int64_t gauges[METRICS_GAUGES];
};

struct metrics *metrics_new(void)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics == NULL) {
        abort();
    }
    strcpy(metrics->commands[0].name, "other");
    metrics->commands[0].bytes = 5;
    atomic_store(&metrics->command_count, 1);
    metrics->operations[0].name = "none";
    atomic_store(&metrics->operation_count, 1);
    return metrics;
}

void metrics_free(struct metrics *metrics)
{
    free(metrics);
}

static void add(counter *at, uint64_t n)
{
    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static uint64_t get(const counter *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

static void observe(struct histogram *histogram, int64_t ns)
{
    ns = ns < 0 ? 0 : ns;
    size_t low = 0;
    size_t high = BOUNDS;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (ns <= BOUNDS_US[middle] * NS_PER_US) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    add(&histogram->buckets[low], 1);
    add(&histogram->sum_ns, (uint64_t)ns);
}

unsigned metrics_command(struct metrics *metrics, const char *command, size_t bytes)
{
    unsigned count = atomic_load_explicit(&metrics->command_count, memory_order_relaxed);
    /* Cut in the middle of nothing: a longer name is "other", never another command's line. */
    if (bytes > METRICS_COMMAND_BYTES_MAX || memchr(command, '\0', bytes) != NULL) {
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        if (metrics->commands[i].bytes == bytes &&
            memcmp(metrics->commands[i].name, command, bytes) == 0) {
            return i;
        }
    }
    if (count == METRICS_COMMANDS_MAX) {
        return 0;
    }
    memcpy(metrics->commands[count].name, command, bytes);
    metrics->commands[count].bytes = bytes;
    atomic_store_explicit(&metrics->command_count, count + 1, memory_order_release);
    return count;
}

void metrics_count_command(struct metrics *metrics, enum metrics_command_counter id,
                           unsigned command, uint64_t n)
{
    assert(command < METRICS_COMMANDS_MAX);
    add(&metrics->commands[command].counters[id], n);
}

void metrics_observe_command(struct metrics *metrics, enum metrics_command_histogram id,
                             unsigned command, int64_t ns)
{
    assert(command < METRICS_COMMANDS_MAX);
    observe(&metrics->commands[command].histograms[id], ns);
}

void metrics_count(struct metrics *metrics, enum metrics_counter id, uint64_t n)
{
    add(&metrics->counters[id], n);
}

void metrics_observe(struct metrics *metrics, enum metrics_histogram id, int64_t ns)
{
    observe(&metrics->histograms[id], ns);
}

void metrics_set(struct metrics *metrics, enum metrics_gauge id, int64_t value)
{
    atomic_store_explicit(&metrics->gauges[id], value, memory_order_relaxed);
}

/* Ids of one service differ in their time and number alone: every bit has to reach the set's. */
static struct lease_begin *lease_set(struct metrics *metrics, const struct task_id *id)
{
    uint64_t a;
    uint64_t b;
    memcpy(&a, id->bytes, sizeof a);
    memcpy(&b, id->bytes + sizeof a, sizeof b);
    uint64_t h = (a ^ a >> 32) * UINT64_C(0xbf58476d1ce4e5b9) ^ b;
    h = (h ^ h >> 32) * UINT64_C(0x9e3779b97f4a7c15);
    return metrics->leases[(h ^ h >> 32) & (LEASE_SETS - 1)];
}

void metrics_lease_begin(struct metrics *metrics, const struct task_id *id, int64_t now_ns)
{
    struct lease_begin *set = lease_set(metrics, id);
    struct lease_begin *oldest = &set[0]; /* a free one has begun at 0 */
    for (int i = 0; i < LEASE_WAYS; i++) {
        if (set[i].at_ns != 0 && task_id_equal(&set[i].id, id)) {
            oldest = &set[i];
            break;
        }
        oldest = set[i].at_ns < oldest->at_ns ? &set[i] : oldest;
    }
    *oldest = (struct lease_begin){*id, now_ns};
}

void metrics_lease_end(struct metrics *metrics, const struct task_id *id, unsigned command,
                       int64_t now_ns)
{
    struct lease_begin *set = lease_set(metrics, id);
    for (int i = 0; i < LEASE_WAYS; i++) {
        if (set[i].at_ns != 0 && task_id_equal(&set[i].id, id)) {
            metrics_observe_command(metrics, METRICS_LEASE_HOLD, command, now_ns - set[i].at_ns);
            set[i].at_ns = 0;
            return;
        }
    }
}

void metrics_request(struct metrics *metrics, const char *operation, int status)
{
    unsigned count = atomic_load_explicit(&metrics->operation_count, memory_order_relaxed);
    unsigned i = 0;
    if (operation != NULL) {
        for (i = 1; i < count && metrics->operations[i].name != operation &&
                    strcmp(metrics->operations[i].name, operation) != 0;) {
            i++;
        }
        if (i == count && count < METRICS_OPERATIONS_MAX) {
            metrics->operations[i].name = operation;
            atomic_store_explicit(&metrics->operation_count, count + 1, memory_order_release);
        }
        i = i < METRICS_OPERATIONS_MAX ? i : 0;
    }
    size_t k = 0;
    while (k < STATUS_COUNT - 1 && STATUSES[k] != status) {
        k++;
    }
    add(&metrics->operations[i].statuses[k], 1);
}

/* ---- exposition ---- */

struct texts {
    const char *name;
    const char *labels; /* beside command; "" or `,status="X"` or a whole list */
    const char *help;
};

static const struct texts COMMAND_COUNTERS[METRICS_COMMAND_COUNTERS] = {
    [METRICS_CREATED] = {"codeq_task_created_total", "", "Tasks created"},
    [METRICS_CLAIMED] = {"codeq_task_claimed_total", "", "Tasks handed out under a lease"},
    [METRICS_COMPLETED] = {"codeq_task_completed_total", ",status=\"COMPLETED\"",
                           "Tasks that ended; dead letters count as FAILED"},
    [METRICS_FAILED] = {"codeq_task_completed_total", ",status=\"FAILED\"", ""},
    [METRICS_LEASE_EXPIRED] = {"codeq_lease_expired_total", "", "Leases that ended by the clock"},
    [METRICS_NACKED] = {"codeq_task_nacked_total", "", "Tasks given back with a nack"},
    [METRICS_ABANDONED] = {"codeq_task_abandoned_total", "", "Tasks given back without a count"},
    [METRICS_HEARTBEATS] = {"codeq_lease_heartbeats_total", "", "Leases extended"},
    [METRICS_LEASES_LOST] = {"codeq_lease_lost_total", "", "Calls refused for a lease moved on"},
    [METRICS_DUPLICATES] = {"codeq_task_duplicates_total", "",
                            "Creates answered with an earlier task of the same idempotency key"},
};

static const struct texts COMMAND_HISTOGRAMS[METRICS_COMMAND_HISTOGRAMS] = {
    [METRICS_QUEUE_WAIT] = {"codeq_queue_wait_seconds", "", "From create to the first claim"},
    [METRICS_LEASE_HOLD] = {"codeq_lease_hold_seconds", "",
                            "From claimed to ended or given back, seen by one thread"},
    [METRICS_DELAYED_LATENESS] = {"codeq_delayed_lateness_seconds", "",
                                  "From a deadline to the sweep that took it"},
    [METRICS_PROCESSING_COMPLETED] = {"codeq_task_processing_latency_seconds",
                                      ",status=\"COMPLETED\"", "From create to the end"},
    [METRICS_PROCESSING_FAILED] = {"codeq_task_processing_latency_seconds", ",status=\"FAILED\"",
                                   ""},
};

static const struct texts HISTOGRAMS[METRICS_HISTOGRAMS] = {
    [METRICS_CLAIM_LATENCY] = {"codeq_claim_latency_seconds", "",
                               "From a claim's request to its answer, without those that waited"},
    [METRICS_CLAIM_WAKE] = {"codeq_claim_wake_seconds", "",
                            "From work being there to the answer of a claim that waited for it"},
    [METRICS_REQUEST_LATENCY] = {"codeq_http_request_seconds", "",
                                 "From a request's last byte to its answer, without long polls"},
    [METRICS_REDIS_ROUND_TRIP] = {"codeq_redis_round_trip_seconds", "",
                                  "From a script call begun to its answer taken, a sample"},
};

static const struct texts COUNTERS[METRICS_COUNTERS] = {
    [METRICS_RATE_HITS_PRODUCER] = {"codeq_rate_limit_hits_total",
                                    "scope=\"producer\",operation=\"create_task\"",
                                    "Requests answered 429"},
    [METRICS_RATE_HITS_WORKER] = {"codeq_rate_limit_hits_total",
                                  "scope=\"worker\",operation=\"claim\"", ""},
    [METRICS_RATE_HITS_ADMIN] = {"codeq_rate_limit_hits_total",
                                 "scope=\"admin\",operation=\"cleanup\"", ""},
    [METRICS_RATE_HITS_WEBHOOK] = {"codeq_rate_limit_hits_total",
                                   "scope=\"webhook\",operation=\"deliver\"", ""},
    [METRICS_RATE_CHECKS] = {"codeq_rate_limit_checks_total", "",
                             "Redis calls made for rate limits"},
    [METRICS_RATE_CHECKS_FAILED] = {"codeq_rate_limit_checks_failed_total", "",
                                    "Such calls without an answer: the request was let through"},
    [METRICS_WEBHOOK_RESULT_SUCCESS] = {"codeq_webhook_deliveries_total",
                                        "kind=\"task_result\",outcome=\"success\"",
                                        "Webhook tries by outcome"},
    [METRICS_WEBHOOK_RESULT_FAILURE] = {"codeq_webhook_deliveries_total",
                                        "kind=\"task_result\",outcome=\"failure\"", ""},
    [METRICS_WEBHOOK_RESULT_DROPPED] = {"codeq_webhook_deliveries_total",
                                        "kind=\"task_result\",outcome=\"dropped\"", ""},
    [METRICS_WEBHOOK_READY_SUCCESS] = {"codeq_webhook_deliveries_total",
                                       "kind=\"queue_ready\",outcome=\"success\"", ""},
    [METRICS_WEBHOOK_READY_FAILURE] = {"codeq_webhook_deliveries_total",
                                       "kind=\"queue_ready\",outcome=\"failure\"", ""},
    [METRICS_WEBHOOK_REFUSED] = {"codeq_webhook_targets_refused_total", "",
                                 "Webhooks not sent because their address is private"},
    [METRICS_SCRIPT_CALLS] = {"codeq_store_calls_total", "", "Script calls of task operations"},
    [METRICS_SCRIPT_TASKS] = {"codeq_store_tasks_total", "", "Tasks those calls carried"},
    [METRICS_SWEEPS] = {"codeq_sweeps_total", "", "Runs of the background sweep"},
    [METRICS_WAKEUPS] = {"codeq_claim_wakeups_total", "", "Waiting claims woken by work"},
    [METRICS_AUTH_REFUSED] = {"codeq_auth_refused_total", "", "Requests answered 401 or 403"},
    [METRICS_KEYS_FETCHED] = {"codeq_auth_key_fetches_total", "outcome=\"success\"",
                              "Fetches of signing keys"},
    [METRICS_KEYS_FAILED] = {"codeq_auth_key_fetches_total", "outcome=\"failure\"", ""},
};

static const struct texts GAUGES[METRICS_GAUGES] = {
    [METRICS_CONNECTIONS] = {"codeq_http_connections", "", "Open client connections"},
    [METRICS_WAITERS] = {"codeq_waiters", "", "Claims and result reads that wait"},
    [METRICS_REDIS_PENDING] = {"codeq_redis_pending", "", "Redis commands in flight"},
    [METRICS_WEBHOOKS_IN_FLIGHT] = {"codeq_webhooks_in_flight", "", "Webhooks on their way"},
};

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s.\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped; what is not printable ASCII or UTF-8
 * text of the client's stays as it is but for control characters. */
static void label(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\' || *text == '"') {
            buf_append(out, "\\", 1);
            buf_append(out, text, 1);
        } else if (*text == '\n') {
            buf_puts(out, "\\n");
        } else if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            buf_puts(out, "?");
        } else {
            buf_append(out, text, 1);
        }
    }
}

static const struct command *command_named(const struct metrics *metrics, const char *name)
{
    unsigned count = atomic_load_explicit(&((struct metrics *)(uintptr_t)metrics)->command_count,
                                          memory_order_acquire);
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(metrics->commands[i].name, name) == 0) {
            return &metrics->commands[i];
        }
    }
    return NULL;
}

/* The names that any thread has seen, each once, at most METRICS_COMMANDS_MAX. */
static size_t command_names(struct metrics *const *threads, size_t count,
                            const char *names[METRICS_COMMANDS_MAX])
{
    size_t n = 0;
    for (size_t t = 0; t < count; t++) {
        unsigned have = atomic_load_explicit(&threads[t]->command_count, memory_order_acquire);
        for (unsigned i = 0; i < have; i++) {
            const char *name = threads[t]->commands[i].name;
            size_t k = 0;
            while (k < n && strcmp(names[k], name) != 0) {
                k++;
            }
            if (k == n && n < METRICS_COMMANDS_MAX) {
                names[n++] = name;
            }
        }
    }
    return n;
}

static void write_histogram(struct buf *out, const char *name, const char *labels,
                            const struct histogram *const *parts, size_t count)
{
    uint64_t total = 0;
    uint64_t sum_ns = 0;
    const char *comma = labels[0] != '\0' ? "," : "";
    for (size_t b = 0; b <= BOUNDS; b++) {
        for (size_t i = 0; i < count; i++) {
            total += get(&parts[i]->buckets[b]);
        }
        if (b < BOUNDS) {
            buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels, comma,
                       (double)BOUNDS_US[b] / 1e6, (unsigned long long)total);
        }
    }
    for (size_t i = 0; i < count; i++) {
        sum_ns += get(&parts[i]->sum_ns);
    }
    buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma,
               (unsigned long long)total);
    const char *open = labels[0] != '\0' ? "{" : "";
    const char *close = labels[0] != '\0' ? "}" : "";
    buf_printf(out, "%s_sum%s%s%s %.9f\n", name, open, labels, close, (double)sum_ns / 1e9);
    buf_printf(out, "%s_count%s%s%s %llu\n", name, open, labels, close, (unsigned long long)total);
}

static void command_label(struct buf *out, const char *name, const char *more)
{
    buf_clear(out);
    buf_puts(out, "command=\"");
    label(out, name);
    buf_printf(out, "\"%s", more);
}

static void write_commands(struct metrics *const *threads, size_t count, struct buf *out)
{
    const char *names[METRICS_COMMANDS_MAX];
    size_t n = command_names(threads, count, names);
    struct buf labels = BUF_INIT;
    for (size_t id = 0; id < METRICS_COMMAND_COUNTERS; id++) {
        const struct texts *texts = &COMMAND_COUNTERS[id];
        if (texts->help[0] != '\0') {
            family(out, texts->name, "counter", texts->help);
        }
        for (size_t k = 0; k < n; k++) {
            uint64_t value = 0;
            for (size_t t = 0; t < count; t++) {
                const struct command *command = command_named(threads[t], names[k]);
                value += command != NULL ? get(&command->counters[id]) : 0;
            }
            command_label(&labels, names[k], texts->labels);
            buf_printf(out, "%s{%s} %llu\n", texts->name, labels.data, (unsigned long long)value);
        }
    }
    for (size_t id = 0; id < METRICS_COMMAND_HISTOGRAMS; id++) {
        const struct texts *texts = &COMMAND_HISTOGRAMS[id];
        if (texts->help[0] != '\0') {
            family(out, texts->name, "histogram", texts->help);
        }
        for (size_t k = 0; k < n; k++) {
            const struct histogram *parts[256];
            size_t have = 0;
            uint64_t seen = 0;
            for (size_t t = 0; t < count && have < 256; t++) {
                const struct command *command = command_named(threads[t], names[k]);
                if (command != NULL) {
                    parts[have++] = &command->histograms[id];
                    for (size_t b = 0; b <= BOUNDS; b++) {
                        seen += get(&command->histograms[id].buckets[b]);
                    }
                }
            }
            if (seen == 0) {
                continue; /* 28 lines of nothing each */
            }
            command_label(&labels, names[k], texts->labels);
            write_histogram(out, texts->name, labels.data, parts, have);
        }
    }
    buf_fini(&labels);
}

static void write_requests(struct metrics *const *threads, size_t count, struct buf *out)
{
    family(out, "codeq_http_requests_total", "counter", "Requests answered");
    const char *names[METRICS_OPERATIONS_MAX];
    size_t n = 0;
    for (size_t t = 0; t < count; t++) {
        unsigned have = atomic_load_explicit(&threads[t]->operation_count, memory_order_acquire);
        for (unsigned i = 0; i < have; i++) {
            size_t k = 0;
            while (k < n && strcmp(names[k], threads[t]->operations[i].name) != 0) {
                k++;
            }
            if (k == n && n < METRICS_OPERATIONS_MAX) {
                names[n++] = threads[t]->operations[i].name;
            }
        }
    }
    for (size_t k = 0; k < n; k++) {
        for (size_t s = 0; s < STATUS_COUNT; s++) {
            uint64_t value = 0;
            for (size_t t = 0; t < count; t++) {
                unsigned have =
                    atomic_load_explicit(&threads[t]->operation_count, memory_order_acquire);
                for (unsigned i = 0; i < have; i++) {
                    if (strcmp(threads[t]->operations[i].name, names[k]) == 0) {
                        value += get(&threads[t]->operations[i].statuses[s]);
                    }
                }
            }
            if (value == 0) {
                continue;
            }
            buf_printf(out, "codeq_http_requests_total{operation=\"%s\",status=\"", names[k]);
            if (STATUSES[s] != 0) {
                buf_printf(out, "%d", STATUSES[s]);
            } else {
                buf_puts(out, "other");
            }
            buf_printf(out, "\"} %llu\n", (unsigned long long)value);
        }
    }
}

static void write_plain(struct metrics *const *threads, size_t count, struct buf *out)
{
    for (size_t id = 0; id < METRICS_COUNTERS; id++) {
        const struct texts *texts = &COUNTERS[id];
        if (texts->help[0] != '\0') {
            family(out, texts->name, "counter", texts->help);
        }
        uint64_t value = 0;
        for (size_t t = 0; t < count; t++) {
            value += get(&threads[t]->counters[id]);
        }
        buf_printf(out, texts->labels[0] != '\0' ? "%s{%s} %llu\n" : "%s%s %llu\n", texts->name,
                   texts->labels, (unsigned long long)value);
    }
    for (size_t id = 0; id < METRICS_HISTOGRAMS; id++) {
        const struct histogram *parts[256];
        size_t have = 0;
        for (size_t t = 0; t < count && have < 256; t++) {
            parts[have++] = &threads[t]->histograms[id];
        }
        family(out, HISTOGRAMS[id].name, "histogram", HISTOGRAMS[id].help);
        write_histogram(out, HISTOGRAMS[id].name, "", parts, have);
    }
    for (size_t id = 0; id < METRICS_GAUGES; id++) {
        int64_t value = 0;
        for (size_t t = 0; t < count; t++) {
            value += atomic_load_explicit(&threads[t]->gauges[id], memory_order_relaxed);
        }
        family(out, GAUGES[id].name, "gauge", GAUGES[id].help);
        buf_printf(out, "%s %lld\n", GAUGES[id].name, (long long)value);
    }
}

/* Lines by command, at most METRICS_COMMANDS_MAX - 1 and "other". */
static size_t sum_queues(const struct metrics_scrape *scrape,
                         struct metrics_queue sums[METRICS_COMMANDS_MAX])
{
    size_t n = 1;
    memset(&sums[0], 0, sizeof sums[0]);
    sums[0].command = "other";
    for (size_t i = 0; i < scrape->queue_count; i++) {
        const struct metrics_queue *queue = &scrape->queues[i];
        bool fits = strlen(queue->command) <= METRICS_COMMAND_BYTES_MAX;
        size_t k = 0;
        while (k < n && strcmp(sums[k].command, queue->command) != 0) {
            k++;
        }
        if (!fits || (k == n && n == METRICS_COMMANDS_MAX)) {
            k = 0;
        } else if (k == n) {
            memset(&sums[n], 0, sizeof sums[n]);
            sums[n++].command = queue->command;
        }
        struct metrics_queue *sum = &sums[k];
        sum->ready += queue->ready;
        sum->delayed += queue->delayed;
        sum->leased += queue->leased;
        sum->dead += queue->dead;
        if (queue->oldest_ready_age_ns > sum->oldest_ready_age_ns) {
            sum->oldest_ready_age_ns = queue->oldest_ready_age_ns;
        }
    }
    return n;
}

static void write_queue_line(struct buf *out, const char *name, const char *command,
                             const char *queue, double value)
{
    buf_printf(out, "%s{command=\"", name);
    label(out, command);
    buf_puts(out, "\"");
    if (queue != NULL) {
        buf_printf(out, ",queue=\"%s\"", queue);
    }
    buf_printf(out, "} %.10g\n", value);
}

static void write_queues(const struct metrics_scrape *scrape, struct buf *out)
{
    struct metrics_queue *sums = calloc(METRICS_COMMANDS_MAX, sizeof *sums);
    if (sums == NULL) {
        abort();
    }
    size_t n = sum_queues(scrape, sums);
    family(out, "codeq_queue_depth", "gauge", "Tasks by queue and state, of all tenants");
    for (size_t k = 0; k < n; k++) {
        const char *name = "codeq_queue_depth";
        write_queue_line(out, name, sums[k].command, "ready", (double)sums[k].ready);
        write_queue_line(out, name, sums[k].command, "delayed", (double)sums[k].delayed);
        write_queue_line(out, name, sums[k].command, "in_progress", (double)sums[k].leased);
        write_queue_line(out, name, sums[k].command, "dlq", (double)sums[k].dead);
    }
    family(out, "codeq_dlq_depth", "gauge", "Tasks in the dead letters");
    for (size_t k = 0; k < n; k++) {
        write_queue_line(out, "codeq_dlq_depth", sums[k].command, NULL, (double)sums[k].dead);
    }
    family(out, "codeq_oldest_ready_task_age_seconds", "gauge",
           "How long the longest waiting ready task has waited");
    for (size_t k = 0; k < n; k++) {
        write_queue_line(out, "codeq_oldest_ready_task_age_seconds", sums[k].command, NULL,
                         (double)sums[k].oldest_ready_age_ns / 1e9);
    }
    free(sums);
}

void metrics_write(struct metrics *const *threads, size_t count,
                   const struct metrics_scrape *scrape, struct buf *out)
{
    write_commands(threads, count, out);
    write_requests(threads, count, out);
    write_plain(threads, count, out);
    write_queues(scrape, out);
    if (scrape->redis_script_calls >= 0) {
        family(out, "codeq_redis_script_calls_total", "counter",
               "Scripts that Redis ran since it started, by its own count");
        buf_printf(out, "codeq_redis_script_calls_total %lld\n",
                   (long long)scrape->redis_script_calls);
        family(out, "codeq_redis_script_seconds_total", "counter",
               "Time that Redis spent inside scripts, by its own clock");
        buf_printf(out, "codeq_redis_script_seconds_total %.6f\n", scrape->redis_script_seconds);
    }
    static const struct {
        const char *name;
        const char *help;
    } limits[] = {
        {"codeq_redis_up", "Whether Redis answered this scrape"},
        {"codeq_http_connections_limit", "Most client connections"},
        {"codeq_waiters_limit", "Most claims and result reads that may wait"},
        {"codeq_body_bytes_limit", "Largest request body"},
    };
    const int64_t values[] = {scrape->redis_up, scrape->connections_max, scrape->waiters_max,
                              scrape->body_bytes_max};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        family(out, limits[i].name, "gauge", limits[i].help);
        buf_printf(out, "%s %lld\n", limits[i].name, (long long)values[i]);
    }
    family(out, "codeq_uptime_seconds", "gauge", "Since the process started");
    buf_printf(out, "codeq_uptime_seconds %.3f\n", scrape->uptime_seconds);
    family(out, "codeq_build_info", "gauge", "Always 1; the version is a label");
    buf_printf(out, "codeq_build_info{version=\"%s\"} 1\n", scrape->version);
}
