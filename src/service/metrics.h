/* What the service counted, as Prometheus text.
 *
 * One struct metrics a thread: only its thread records, any thread may read all of them to write
 * the exposition. Recording allocates nothing and takes no lock. Labels are bounded: the first
 * METRICS_COMMANDS_MAX - 1 commands have their own line, all later ones share "other"; tenants are
 * no label. Histograms have the bounds 1, 2, 5 times powers of ten from 10 us to 100 s, then 300,
 * 1000 and 3600 s.
 * Source: Prometheus text format 0.0.4; codeQ's names. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "sched/task.h"

#define METRICS_COMMANDS_MAX 128
#define METRICS_COMMAND_BYTES_MAX 63
#define METRICS_OPERATIONS_MAX 64
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics;

/* Counters with the label command; METRICS_COMPLETED and _FAILED also carry status. */
enum metrics_command_counter {
    METRICS_CREATED,
    METRICS_CLAIMED,
    METRICS_COMPLETED,
    METRICS_FAILED, /* by a result, or into the dead letters, as in codeQ */
    METRICS_LEASE_EXPIRED,
    METRICS_NACKED,
    METRICS_ABANDONED,
    METRICS_HEARTBEATS,
    METRICS_LEASES_LOST, /* a stale token or worker was refused */
    METRICS_DUPLICATES, /* creates answered by an earlier task */
    METRICS_COMMAND_COUNTERS
};

/* Histograms with the label command. */
enum metrics_command_histogram {
    METRICS_QUEUE_WAIT, /* created to first claimed, of tasks without a delay */
    METRICS_LEASE_HOLD, /* claimed to ended or given back, where this thread saw both */
    METRICS_DELAYED_LATENESS, /* a deadline to the sweep that took it, one a sweep */
    METRICS_PROCESSING_COMPLETED, /* created to completed */
    METRICS_PROCESSING_FAILED,
    METRICS_COMMAND_HISTOGRAMS
};

/* Histograms without labels. */
enum metrics_histogram {
    METRICS_CLAIM_LATENCY, /* request read to answer written, of claims that did not wait */
    METRICS_CLAIM_WAKE, /* woken to task in hand, of claims that waited */
    METRICS_REQUEST_LATENCY, /* all requests but long polls */
    METRICS_REDIS_ROUND_TRIP, /* command written to reply read */
    METRICS_HISTOGRAMS
};

/* Counters without labels, and those whose labels are fixed. */
enum metrics_counter {
    METRICS_RATE_HITS_PRODUCER,
    METRICS_RATE_HITS_WORKER,
    METRICS_RATE_HITS_ADMIN,
    METRICS_RATE_HITS_WEBHOOK,
    METRICS_RATE_CHECKS, /* Redis calls that rate limits cost */
    METRICS_RATE_CHECKS_FAILED, /* Redis did not answer: let through */
    METRICS_WEBHOOK_RESULT_SUCCESS,
    METRICS_WEBHOOK_RESULT_FAILURE, /* one try */
    METRICS_WEBHOOK_RESULT_DROPPED, /* given up after the last try */
    METRICS_WEBHOOK_READY_SUCCESS,
    METRICS_WEBHOOK_READY_FAILURE,
    METRICS_WEBHOOK_REFUSED, /* the target's address is not allowed */
    METRICS_SCRIPT_CALLS, /* calls of operations' scripts */
    METRICS_SCRIPT_TASKS, /* tasks that these carried */
    METRICS_SWEEPS,
    METRICS_WAKEUPS, /* waiting claims woken */
    METRICS_AUTH_REFUSED,
    METRICS_KEYS_FETCHED,
    METRICS_KEYS_FAILED,
    METRICS_COUNTERS
};

/* What a thread holds now; set, not added. */
enum metrics_gauge {
    METRICS_CONNECTIONS,
    METRICS_WAITERS,
    METRICS_REDIS_PENDING,
    METRICS_WEBHOOKS_IN_FLIGHT,
    METRICS_GAUGES
};

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);

/* The slot of a command: make it once and keep it. 0 ("other") when all are taken. */
unsigned metrics_command(struct metrics *metrics, const char *command, size_t bytes);

void metrics_count_command(struct metrics *metrics, enum metrics_command_counter id,
                           unsigned command, uint64_t n);
void metrics_observe_command(struct metrics *metrics, enum metrics_command_histogram id,
                             unsigned command, int64_t ns); /* below 0 counts as 0 */
void metrics_count(struct metrics *metrics, enum metrics_counter id, uint64_t n);
void metrics_observe(struct metrics *metrics, enum metrics_histogram id, int64_t ns);
void metrics_set(struct metrics *metrics, enum metrics_gauge id, int64_t value);

/* A lease began, and ended: observes METRICS_LEASE_HOLD when the begin is still remembered (of a
 * fixed table; where four leases of a set are held, the fifth takes the oldest's place). */
void metrics_lease_begin(struct metrics *metrics, const struct task_id *id, int64_t now_ns);
void metrics_lease_end(struct metrics *metrics, const struct task_id *id, unsigned command,
                       int64_t now_ns);

/* One answered request. operation: the route's (a constant), NULL for one that met no route. */
void metrics_request(struct metrics *metrics, const char *operation, int status);

/* What is read from Redis for one exposition; commands of several tenants are added up, the oldest
 * age is the greatest. */
struct metrics_queue {
    const char *command;
    uint64_t ready;
    uint64_t delayed;
    uint64_t leased;
    uint64_t dead;
    int64_t oldest_ready_age_ns; /* 0: none waits */
};
struct metrics_scrape {
    const struct metrics_queue *queues;
    size_t queue_count;
    /* from INFO commandstats; calls < 0: not known */
    int64_t redis_script_calls;
    double redis_script_seconds;
    int64_t redis_up; /* 1, 0 */
    int64_t connections_max;
    int64_t waiters_max;
    int64_t body_bytes_max;
    double uptime_seconds;
    const char *version;
};

/* Append the exposition of all threads. */
void metrics_write(struct metrics *const *threads, size_t count,
                   const struct metrics_scrape *scrape, struct buf *out);
