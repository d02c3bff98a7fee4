/* The service under test: a private redis-server and a codeqd in front of it, started for one run.
 *
 * Or neither, when the target is a deployment that runs already. service_stop ends what was started
 * and removes its folder; a parent that dies takes both along. Main thread only. */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/child.h"
#include "base/err.h"
#include "base/redis_cluster.h"
#include "base/redis_server.h"
#include "load/spec.h"

struct service_options {
    const char *codeqd; /* path of the program */
    const char *redis_program; /* NULL: redis-server from PATH */
    const char *const *redis_config; /* as in redis_server_options; may be NULL */
    const char *const *codeqd_args; /* more arguments, NULL-terminated; may be NULL */
    const cpu_set_t *cores; /* that both may use, also after a restart; NULL: as this thread */
    size_t tenant_count; /* one pair of tokens each */
    unsigned redis_masters; /* a Redis Cluster of so many; 0: one server */
};

struct service {
    struct redis_server redis; /* alone; of a cluster not used */
    struct redis_cluster cluster;
    struct child codeqd;
    char url[64]; /* http://127.0.0.1:port */
    char log_path[REDIS_SERVER_PATH_MAX + 16];
    struct redis_server_options redis_options; /* for a restart */
    struct service_options options;
    struct service_fault { /* one step of a fault */
        struct service *service;
        const struct load_fault *fault;
    } faults[LOAD_FAULTS_MAX];
    struct err fault_error; /* "" when every fault could be done */
};

/* Start both and wait until codeqd says ready. Fills in spec's target and the tokens of its
 * tenants. 0, or negative errno with text that carries the end of codeqd's log. */
int service_start(struct service *service, const struct service_options *options,
                  struct load_spec *spec, struct err *err);

/* The servers behind it: one, or the cluster's nodes; none when nothing was started. */
size_t service_redis_count(const struct service *service);
const struct redis_server *service_redis(const struct service *service, size_t i);

/* CPU that they all have used so far, in ns; -1 when it cannot be read. */
int64_t service_redis_cpu_ns(const struct service *service);

/* Ends codeqd by SIGTERM. Returns its exit code (0: it drained), or 128 + signal. */
int service_stop(struct service *service);

/* Put the scenario's faults into its spec's actions, in order of time; they act on service, which
 * must stay where it is until the run is over. A fault that could not be done is told in
 * service->fault_error. */
void service_plan_faults(struct service *service, struct load_scenario *scenario);
