/* Tests only: producers and workers that keep on while codeqd and Redis are killed under them, and
 * their own log of what was acknowledged, outside both. In the end the log is compared with what
 * the API says:
 *
 * - no acknowledged create is missing;
 * - every acknowledged completion is the stored one, and no task has two;
 * - no task was delivered again before the lease of the delivery before it had ended.
 *
 * Every function fails the running test where what it checks does not hold. */
#pragma once

#include "service/service_fixture.h"

#define LOAD_PORTS_MAX 4
#define LOAD_THREADS_MAX 32

struct load_options {
    unsigned ports[LOAD_PORTS_MAX]; /* of the codeqd; each request goes to another one in turn */
    unsigned port_count;
    unsigned producers;
    unsigned workers;
    int producer_pause_ms; /* between two creates of one producer */
    int lease_seconds;
    int wait_seconds; /* of a claim */
    const char *command;
};

struct load_counts {
    unsigned created; /* acknowledged */
    unsigned completed; /* acknowledged */
    unsigned redelivered;
    int64_t ns_to_first_delivery_max; /* from a create's acknowledgement */
};

struct load;
struct load *load_start(const struct load_options *options);
/* Acknowledged completions so far. */
unsigned load_completed(const struct load *load);
/* Let the producers end, wait until all tasks have ended, check, and free. f's codeqd is asked. */
struct load_counts load_stop(struct load *load, struct service_fixture *f);
