/* Pairs of loads on a private Redis, one traced and one not, in random order.
 *
 * Redis has a core for itself, the client another; the client is not traced: its own CPU a command
 * is what tracing costs processes that nobody looks at, and as it does little but system calls, it
 * is the worst of them. Main thread only: what is started dies with it. */
#pragma once

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/child.h"
#include "base/err.h"
#include "base/redis_server.h"
#include "base/rng.h"

#define COST_PAIRS_MAX 100
#define COST_CLIENTS_MAX 512

/* What runs in the traced half of a pair: a view of this program, somebody else's command, or (both
 * NULL) two empty programs. */
struct cost_arm {
    const char *name;
    const char *view;
    const char *option; /* of the view; NULL: none */
    const char *command; /* for sh; "{pid}" is Redis */
};

struct cost_plan {
    int64_t pairs; /* 1..COST_PAIRS_MAX */
    int64_t arm_ns; /* each half of a pair */
    int64_t settle_ns; /* what a command is given to attach */
    bool beside; /* trace a process that does nothing: Redis is then one that is not traced */
};

struct cost_bench {
    struct redis_server redis;
    struct child idle; /* what is traced instead of Redis */
    int fds[COST_CLIENTS_MAX]; /* the client's connections */
    size_t clients;
    cpu_set_t cores; /* that this process had before */
    const volatile sig_atomic_t *stop;
};

/* One value a pair. */
struct cost_result {
    const struct cost_arm *arm;
    int64_t pipeline; /* commands in one batch */
    size_t pairs;
    double redis[COST_PAIRS_MAX]; /* CPU a command, traced : not traced */
    double client[COST_PAIRS_MAX]; /* the same of the client */
    double tracer[COST_PAIRS_MAX]; /* of a core */
    double redis_ns[COST_PAIRS_MAX]; /* a command, not traced */
    double per_sec[COST_PAIRS_MAX]; /* commands, traced */
};

/* Redis, and clients connections to it (1..COST_CLIENTS_MAX). *stop ends what is under way. 0, or
 * negative errno with text. */
int cost_bench_open(struct cost_bench *bench, size_t clients, const volatile sig_atomic_t *stop,
                    struct err *err);
void cost_bench_close(struct cost_bench *bench);

/* Fill in all of out but arm and pipeline, which say what to measure. Progress goes to a terminal's
 * stderr. 0, or negative errno with text; -EINTR when *stop was set. */
int cost_measure(struct cost_bench *bench, const struct cost_plan *plan, struct rng *rng,
                 struct cost_result *out, struct err *err);
