/* The load generator's own proof: a server that stands still once, of which it is known what an
 * open loop has to report. With R requests/s for D, service of S and a pause of P, the request that
 * is due t after the pause began waits P - t and for those before it: P - t (1 - R S) + S. One in
 * 100 of all waited longer than the one at t = D / 100. A closed loop would have reported about S.
 * Source: Tene, "How not to measure latency" (coordinated omission). */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "load/load.h"

/* A server of one thread: each POST takes so long and is answered 202, all else 404. */
struct stall_server {
    int64_t service_ns;
    int64_t pause_at_ns; /* from the first POST */
    int64_t pause_ns; /* 0: never */
    int64_t paused_ns; /* how long it really stood still; after stall_server_stop */
    uint64_t posts; /* after stall_server_stop */
    uint16_t port;
    struct stall_server_state *state;
};

/* Start it on a free port of 127.0.0.1; the first three members are the caller's. 0 or negative
 * errno with text. */
int stall_server_start(struct stall_server *server, struct err *err);
void stall_server_stop(struct stall_server *server);

#define STALL_RATE_PER_SEC 1000
#define STALL_SERVICE_NS (50 * INT64_C(1000))
#define STALL_TOLERANCE 0.05 /* of the pause */

struct stall_check {
    int64_t duration_ns;
    int64_t pause_ns;
    int64_t paused_ns; /* what it came to: the server's scheduling is not the generator's doing */
    int64_t expected_ns;
    int64_t p99_ns;
    int64_t lag_p99_ns;
    uint64_t completed;
    char void_reason[160]; /* the generator could not keep its schedule: nothing is proved */
    bool ok;
};

/* Load such a server for duration_ns, which it spends pause_ns of standing still. 0 with *out, or
 * negative errno with text (-EINTR: *stop, which progress, or NULL, may set). */
int stall_check_run(int64_t duration_ns, int64_t pause_ns, const volatile sig_atomic_t *stop,
                    load_progress_fn *progress, struct stall_check *out, struct err *err);
