/* The verdict between two summaries of one scenario, and what made a worse metric worse.
 *
 * Counted metrics only: they are exact, so a difference is a fact and the budget alone decides
 * whether it matters. Parts (functions, allocation sites, commands, system calls) and the remainder
 * add up to the difference. Pure but for reading the profile tables; main thread only.
 * Source: reference "what our compare must do", 4.1. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/json.h"
#include "metric.h"
#include "verdict.h"

#define COMPARE_METRICS_MAX 64
#define COMPARE_PARTS_SHOWN 5

/* One thing that grew or shrank, per operation. */
struct compare_part {
    char *name; /* owned */
    char *note; /* "new", "gone", "was old_name"; NULL; owned */
    double before;
    double after;
    double delta;
};

struct compare_metric {
    char id[METRIC_ID_BYTES_MAX];
    const struct metric *metric;
    double a; /* medians of the repeats */
    double b;
    double noise; /* the larger range of the repeats */
    enum verdict verdict;
    bool leak; /* live bytes grow with the operations */
    bool warning; /* above the warning budget, below the failing one */
    char allowed[160]; /* reason of a regression that bench/budgets.json allows; "" */
    const char *part_kind; /* "function", "allocation site", ...; NULL without parts */
    struct compare_part *parts; /* largest |delta| first, all of them */
    size_t part_count;
    size_t parts_shown;
    double remainder; /* b - a less the parts shown */
};

struct compare_scenario {
    char id[128];
    enum verdict verdict; /* the worst of its metrics */
    char reason[256]; /* of VERDICT_NOT_COMPARABLE */
    struct compare_metric metrics[COMPARE_METRICS_MAX];
    size_t metric_count;
    char grew[16]; /* the operation that costs most more instructions: "claim"; "" when unclear */
};

/* Limits and allowed regressions: built in, or from bench/budgets.json. */
struct compare_budgets;
/* path NULL: the built-in ones. NULL with text that names file and field. today: "2026-11-23". */
struct compare_budgets *compare_budgets_read(const char *path, const char *today, struct err *err);
void compare_budgets_free(struct compare_budgets *budgets);

/* Judge one metric from its values; sets verdict, leak, warning and allowed. */
void compare_judge(struct compare_metric *metric, const struct compare_budgets *budgets,
                   const char *scenario);

/* Compare the scenario folders a_dir and b_dir (of equal name). 0, or with text that names the
 * file: -EBADMSG, -ENOENT, -EOPNOTSUPP. The caller calls compare_scenario_fini after 0. */
int compare_scenario(struct compare_scenario *out, const char *a_dir, const char *b_dir,
                     const struct compare_budgets *budgets, struct err *err);
void compare_scenario_fini(struct compare_scenario *scenario);

/* The identity field by which two parsed env.json differ; false when they are equal. */
bool compare_env_differs(const struct json *a, const struct json *b, char *out_text, size_t bytes);
