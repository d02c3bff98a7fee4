/* When requests are due: an arrival process, fixed by its phases and seed before the run and
 * independent of every answer.
 *
 * The offered rate is a piecewise linear function of time; a phase with equal ends is constant, one
 * with different ends is a ramp, two phases are a step, a short high one is a burst. Times are
 * found by inverting its integral: the k-th arrival is at the time by which k arrivals are expected
 * (ARRIVAL_CONSTANT), or at the time by which a sum of k unit exponentials is (ARRIVAL_POISSON).
 * Source: Cinlar, "Introduction to Stochastic Processes" (1975), theorem 4.7.8 on time change.
 *
 * Plain struct, nothing allocated after arrival_init, one thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/rng.h"

#define ARRIVAL_PHASES_MAX 64
#define ARRIVAL_RATE_PER_SEC_MAX 1e7

enum arrival_kind { ARRIVAL_CONSTANT, ARRIVAL_POISSON };

struct arrival_phase {
    int64_t duration_ns; /* > 0 */
    double start_rate_per_sec; /* 0..ARRIVAL_RATE_PER_SEC_MAX */
    double end_rate_per_sec;
};

struct arrival {
    enum arrival_kind kind;
    struct arrival_phase phases[ARRIVAL_PHASES_MAX];
    size_t phase_count;
    struct rng rng;
    double expected; /* arrivals expected by the last one given: where we are on the integral */
    size_t phase; /* where the last arrival fell */
    double phase_expected; /* the integral at that phase's start */
    int64_t phase_start_ns;
};

/* 0; -EINVAL with text that names the phase: no phases or too many, a duration below 1, a rate out
 * of range or not a number. The phases are copied. */
int arrival_init(struct arrival *arrival, enum arrival_kind kind,
                 const struct arrival_phase *phases, size_t phase_count, uint64_t seed,
                 struct err *err);

/* The next arrival in ns from the start; -1 when the last phase is over. Never decreases. */
int64_t arrival_next_ns(struct arrival *arrival);

/* Arrivals expected over all phases, and their length. */
double arrival_expected_total(const struct arrival *arrival);
int64_t arrival_duration_ns(const struct arrival *arrival);
