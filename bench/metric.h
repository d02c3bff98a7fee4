/* The one table of what the laboratory measures: run, report, compare and gates read it.
 *
 * A metric's id is SCOPE.NAME: scope is the operation ("cycle", "claim") or "run" for the process
 * as a whole, name is a row here ("instructions_per_op"). Constant data; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define METRIC_ID_BYTES_MAX 64

enum metric_class {
    METRIC_COUNTED, /* exact: repeats agree to the digit, or the metric is called jittery */
    METRIC_TIMED, /* noisy: judged by pairs of runs */
};

enum metric_better { METRIC_LOWER, METRIC_HIGHER };

/* A counted metric is worse when it grew by more than fail_absolute and by more than fail_ratio of
 * the baseline; a warning from warn_ratio on. Source: reference "what compare must do", 4.1. */
struct metric_budget {
    double warn_ratio;
    double fail_ratio;
    double fail_absolute;
};

struct metric {
    const char *name;
    const char *unit;
    const char *title; /* for people, a few words */
    enum metric_class class;
    enum metric_better better;
    bool run_scope; /* scope is "run", not an operation */
    bool shown_only; /* information: no gate reads it */
    struct metric_budget budget;
};

extern const struct metric metric_table[];
extern const size_t metric_count;

/* The row of an id ("claim.latency_ns_p99"); NULL when the name or its scope is unknown. */
const struct metric *metric_find(const char *id);

/* The row of a name without scope; NULL when unknown. */
const struct metric *metric_by_name(const char *name);

/* Scopes that are operations: create, claim, complete, cycle. */
bool metric_is_operation(const char *scope, size_t bytes);

const char *metric_class_name(enum metric_class class);
const char *metric_better_name(enum metric_better better);
