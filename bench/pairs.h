/* Timed runs of two drivers in pairs, and their judgement by verdict.h and stats_tail.
 *
 * Each run is a fresh Redis and a fresh process; which side goes first is drawn for each pair. The
 * caller owns the sessions and the result. Main thread only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hist.h"
#include "metric.h"
#include "run_process.h"
#include "scenario.h"
#include "verdict.h"

#define PAIRS_MAX VERDICT_PAIRS_MAX
#define PAIRS_CALLS_MAX 8 /* operations with a latency of their own */
#define PAIRS_METRICS_MAX (3 + 3 * PAIRS_CALLS_MAX)
#define PAIRS_TAIL_P 0.999
#define PAIRS_TAIL_SAMPLES_MIN 20000 /* of A together */

struct pairs_metric {
    char id[METRIC_ID_BYTES_MAX];
    double a[PAIRS_MAX];
    double b[PAIRS_MAX];
    bool few_samples; /* of a quantile, in some run */
};

struct pairs_call {
    char name[32]; /* "claim" */
    struct hist a[PAIRS_MAX];
    struct hist b[PAIRS_MAX];
};

struct pairs {
    char operation[32]; /* scope of what is not of one call: "cycle" */
    size_t count; /* whole pairs */
    size_t unsteady; /* pairs left out because a run of theirs never settled */
    struct pairs_metric metrics[PAIRS_METRICS_MAX];
    size_t metric_count;
    struct pairs_call calls[PAIRS_CALLS_MAX];
    size_t call_count;
};

struct pairs *pairs_new(const char *operation); /* aborts out of memory */
void pairs_free(struct pairs *pairs);

/* Take one pair of timed lines of runs.ndjson; one with a run that says "steady": false is only
 * counted. -EBADMSG with text that names the field; -E2BIG when
 * full. pairs stays as it was. */
int pairs_add(struct pairs *pairs, const struct json *a, const struct json *b, struct err *err);

/* Requests beyond A's pooled PAIRS_TAIL_P, B against A. */
struct pairs_tail {
    const char *call; /* borrowed of pairs */
    int64_t threshold_ns;
    int64_t samples_a; /* all of A's */
    struct rank_interval ratio;
    double p; /* adjusted for the other operations */
    enum verdict verdict; /* inconclusive with too few samples */
};

/* One entry for each call, into out[PAIRS_CALLS_MAX]. Returns how many. */
int pairs_tails(const struct pairs *pairs, struct pairs_tail *out, struct err *err);
