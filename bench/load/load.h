/* The load generator: producers and workers that speak codeQ's HTTP API, on schedule.
 *
 * A producer role is open loop (arrivals fixed before the run, independent of answers) or closed
 * loop (so many in flight, think time). A worker role is so many independent workers, each
 * claim -> work -> result, with heartbeats, nacks and crashes by probability. Latency runs from the
 * intended start, service time from the actual send; a late send is the generator's own lag and is
 * kept apart, so that a generator that cannot keep up voids the run instead of flattering it.
 * Source: Schroeder, Wierman, Harchol-Balter, "Open versus closed: a cautionary tale" (NSDI 2006);
 * Tene, "How not to measure latency" (coordinated omission).
 *
 * One thread, one epoll loop; everything is allocated before the first request. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hist.h"
#include "load/arrival.h"
#include "load/http_client.h"

#define LOAD_ROLES_MAX 16
#define LOAD_TENANTS_MAX 16
#define LOAD_CONNECTIONS_MAX 16384
#define LOAD_TASKS_MAX (16 * 1000 * 1000)
#define LOAD_BATCH_MAX 100
#define LOAD_WINDOWS_MAX 7200
#define LOAD_MIX_MAX 16
#define LOAD_PARTS 20
#define LOAD_PAYLOAD_BYTES_MIN 32
#define LOAD_PAYLOAD_BYTES_MAX (256 * 1024)

enum load_endpoint {
    LOAD_CREATE,
    LOAD_CLAIM, /* that brought a task */
    LOAD_EMPTY, /* claim that brought none: 204 */
    LOAD_RESULT,
    LOAD_HEARTBEAT,
    LOAD_NACK,
    LOAD_ENDPOINTS
};
const char *load_endpoint_name(enum load_endpoint endpoint);

struct load_mix { /* one outcome of several, drawn by weight */
    double value;
    double weight; /* > 0 */
};

struct load_tenant {
    char producer_token[128];
    char worker_token[128];
    double weight; /* share of the arrivals */
};

enum load_role_kind { LOAD_PRODUCER, LOAD_WORKER };

struct load_role {
    enum load_role_kind kind;
    char name[32];
    char command[64];
    int64_t start_ns; /* from the start of the run */
    int64_t duration_ns; /* workers and closed producers: until then; 0: the whole run */
    bool open; /* producer: arrivals below; else closed loop */
    enum arrival_kind arrival;
    struct arrival_phase phases[ARRIVAL_PHASES_MAX];
    size_t phase_count;
    uint32_t concurrency; /* workers, closed producers; open producers: connections at most */
    uint64_t operations_max; /* closed producer: tasks in all; 0: no limit but time */
    int64_t think_ns; /* closed loop: between an answer and the next request */
    uint32_t batch; /* tasks a request, 1..LOAD_BATCH_MAX (claims: at most 10) */

    /* producer */
    struct load_mix payload_bytes[LOAD_MIX_MAX];
    size_t payload_bytes_count;
    struct load_mix priority[LOAD_MIX_MAX];
    size_t priority_count;
    double delay_ratio;
    int64_t delay_min_ms;
    int64_t delay_max_ms;
    int max_attempts;

    /* worker */
    int wait_seconds;
    int lease_seconds;
    int64_t idle_ns; /* after an empty claim */
    int64_t work_min_ns; /* uniform between the two */
    int64_t work_max_ns;
    int64_t heartbeat_ns; /* every so often while at work; 0: never */
    double nack_ratio;
    double crash_ratio; /* drop the task: neither result nor nack, the lease runs out */
};

#define LOAD_ACTIONS_MAX 16

/* Something that is done to the system under test in the middle of the run. It must not block. */
struct load_action {
    int64_t at_ns; /* from the start; the list is in order */
    void (*act)(void *arg);
    void *arg;
};

struct load_spec {
    struct http_target target;
    uint64_t seed;
    int64_t duration_ns; /* producers end here */
    int64_t drain_ns; /* then workers go on until nothing is left, at most so long */
    struct load_tenant tenants[LOAD_TENANTS_MAX];
    size_t tenant_count;
    struct load_role roles[LOAD_ROLES_MAX];
    size_t role_count;
    struct load_action actions[LOAD_ACTIONS_MAX];
    size_t action_count;
};

struct load_window { /* one second of one endpoint */
    uint64_t count;
    int64_t p50_ns, p99_ns, max_ns;
};

struct load_endpoint_result {
    struct hist latency; /* from intended start */
    struct hist service; /* from actual send */
    uint64_t completed;
    uint64_t failed; /* answered with another status than this endpoint's, or not at all */
    struct load_window *windows;
    struct hist parts[LOAD_PARTS + 1]; /* latency again, by part of the arrivals' time; the drain */
    uint64_t cut; /* answers that latency leaves out: the warm-up */
};

#define LOAD_PRIORITIES 10

struct load_result {
    struct load_endpoint_result endpoints[LOAD_ENDPOINTS];
    size_t window_count;
    struct hist send_lag; /* open loop: actual send - later of (intended, a connection was free) */
    struct hist lateness; /* delayed tasks: claimed - due */
    struct hist queue_wait[LOAD_PRIORITIES]; /* claimed - acknowledged or due, by priority */
    struct hist queue_wait_all;
    struct hist redelivery; /* crashed lease's end to the next claim of the task */

    /* arrivals: offered = completed + failed + unsent + unfinished (open and closed producers) */
    uint64_t offered, completed, failed, unsent, unfinished;
    /* tasks: acknowledged creates and what became of them */
    uint64_t created, finished, lost, duplicated, early, foreign, misordered, nacked, crashed;
    uint64_t statuses[600];
    uint64_t broken_connections;
    int64_t elapsed_ns; /* until the last answer that counts */
    int64_t drain_ns; /* from the end of the producers until nothing was left; -1: never */
    double cpu_ratio; /* of one core, this process, over the run */
    double mean_gap_ns; /* of the offered arrivals */
    int64_t arrivals_ns; /* the spec's duration */
    int64_t warm_cut_ns; /* latencies and throughput leave out so much at the front */
    double saturation_per_sec; /* the caller's, where it looked; 0: it did not */
    int64_t service_peak_kb; /* the caller's: largest resident set of the service; 0: not known */
    bool realtime; /* this thread had a realtime policy: it ran whenever it was due */
    char void_reason[160]; /* not empty: no number of this run may be used */
};

struct load_progress {
    int64_t elapsed_ns;
    int64_t duration_ns;
    uint64_t offered, completed, failed, waiting;
    double offered_per_sec, completed_per_sec; /* of the last second */
    int64_t claim_p50_ns, claim_p99_ns, claim_max_ns; /* of the last whole second */
    int64_t send_lag_p99_ns;
    uint64_t backlog; /* acknowledged and not finished */
};

/* Called about four times a second. */
typedef void load_progress_fn(void *arg, const struct load_progress *progress);

/* Run to the end. 0 with *out_result (load_result_fini), also when tasks were lost or the run is
 * void: the numbers say so. Negative errno with text when it could not run at all (nothing answers,
 * limits of the machine). -EINTR: *stop became non-zero. */
int load_run(const struct load_spec *spec, const volatile sig_atomic_t *stop,
             load_progress_fn *progress, void *progress_arg, struct load_result *out_result,
             struct err *err);
void load_result_fini(struct load_result *result);
