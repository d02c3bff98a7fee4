/* Tests and measurements only: a small HTTP client that drives cycles of create, claim and complete
 * against codeqd from one thread, cheaply enough to share a machine with what it loads.
 *
 * Closed loop: each connection goes through its own cycles, the next request leaves when the last
 * one is answered. Open loop (rate_per_sec > 0): create, claim and complete leave in turn on a
 * schedule, on whichever connection is free, and latencies count from the intended start.
 * Every answer is read and checked; the first one that is not what it should be ends the run. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hist.h"

#define LIMIT_CONNECTIONS_MAX 1024
#define LIMIT_BATCH_MAX 100

struct limit_client_options {
    unsigned port; /* on 127.0.0.1 */
    unsigned connections; /* 1..LIMIT_CONNECTIONS_MAX */
    unsigned batch; /* tasks a request, 1..LIMIT_BATCH_MAX; claims of more than 10 are several */
    bool keyed; /* creates carry an idempotency key */
    const char
        *members; /* further JSON members of each create, ",\"delaySeconds\":5"; may be NULL */
    bool create_only; /* no claims: fills the queue; for a server that echoes, too */
    double rate_per_sec; /* cycles; 0: closed loop */
    uint64_t cycles; /* end after so many tasks; 0: by time */
    int64_t duration_ns; /* 0: by tasks */
};

struct limit_client_result {
    uint64_t cycles; /* tasks created, claimed and completed; create_only: created */
    uint64_t requests;
    uint64_t empty; /* claims that found nothing */
    int64_t wall_ns;
    struct hist claim; /* latency of claims that found a task; the caller's to fini */
};

/* 0, or negative errno with text: an answer that should not be, a lost connection, no answer for
 * 30 s. out is set on success only. */
int limit_client_run(const struct limit_client_options *options, struct limit_client_result *out,
                     struct err *err);
